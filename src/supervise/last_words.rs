//! What a child said last on its stderr, for whoever waits for an answer that will not come.
//!
//! A few lines, made safe to show: text that is valid, without control characters. They are the server's words
//! and nothing is concluded from them. Its messages are not among them: those go by another pipe.

use std::{collections::VecDeque, fmt::Write as _};

/// The last lines of a child's stderr: at most [`MAX_LINES`], at most [`MAX_LEN`] bytes.
#[derive(Debug, Clone, Default)]
pub struct LastWords {
    lines: VecDeque<String>,
    /// Sum of the lines' bytes. Invariant: `len <= MAX_LEN`.
    len: usize,
}

impl LastWords {
    /// Remembers one line, and forgets older ones for it. Blank lines say nothing.
    pub fn note(&mut self, line: &[u8]) {
        let line = safe_copy(line);
        if line.trim().is_empty() {
            return;
        }
        self.len += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_LINES || self.len > MAX_LEN {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.len -= oldest.len();
        }
    }

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// The line as text that cannot move a cursor, ring a bell or turn the direction of what stands around it.
fn safe_copy(line: &[u8]) -> String {
    // What is cut off is not decoded; a character cut in two becomes the sign for such.
    let head = line.get(..MAX_LINE_LEN).unwrap_or(line);
    let mut safe = String::with_capacity(head.len());
    for character in String::from_utf8_lossy(head).chars() {
        match character {
            '\t' => safe.push(' '),
            character if character.is_control() || turns_text(character) => {
                let _infallible = write!(safe, "{}", character.escape_unicode());
            }
            character => safe.push(character),
        }
        if safe.len() > MAX_LINE_LEN {
            break;
        }
    }
    if safe.len() > MAX_LINE_LEN || head.len() < line.len() {
        safe.push('…');
    }
    safe
}

/// The characters that change the direction or the order of text.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Most lines that are remembered.
pub const MAX_LINES: usize = 8;
/// Most bytes of them, all together.
pub const MAX_LEN: usize = 2 << 10;
/// Most bytes of one line, but for its last character and the sign that it was cut.
const MAX_LINE_LEN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&[u8]]) -> Vec<String> {
        let mut words = LastWords::default();
        lines.iter().for_each(|line| words.note(line));
        assert_eq!(words.len, words.lines.iter().map(String::len).sum::<usize>());
        words.lines()
    }

    #[test]
    fn last_lines_are_kept_and_the_first_forgotten() {
        let many: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let many: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
        assert_eq!(said(&many), ["12", "13", "14", "15", "16", "17", "18", "19"]);
        assert_eq!(said(&[b"one", b"", b" \t", b"two"]), ["one", "two"]);
    }

    #[test]
    fn bytes_are_bounded_whatever_is_said() {
        let escaped = [0; 8 << 10];
        let long = [b'x'; 8 << 10];
        let wide = "\u{202E}".repeat(4 << 10);
        for line in [&escaped[..], &long, wide.as_bytes(), &[0xFF; 600]] {
            let lines = said(&[line; 20]);
            assert!(lines.iter().map(String::len).sum::<usize>() <= MAX_LEN);
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with('…')), "{lines:?}");
        }
    }

    #[test]
    fn nothing_that_is_said_can_be_obeyed() {
        let lines = said(&[b"\x1b[2J\x07red\r", "a\u{202E}b".as_bytes(), b"half \xe2\x82"]);
        assert_eq!(lines, ["\\u{1b}[2J\\u{7}red\\u{d}", "a\\u{202e}b", "half \u{FFFD}"]);
        assert!(lines.concat().chars().all(|character| !character.is_control()));
    }
}
