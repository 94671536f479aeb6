//! One line of an event stream: which field it is, and where its value starts.
//!
//! Rules: WHATWG HTML, "Interpreting an event stream" (server-sent-events.html#event-stream-interpretation).

/// What a line is, going by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Data,
    Event,
    Id,
    Retry,
    /// A comment, or a field nobody knows.
    Ignored,
}

/// What the beginning of a line says about the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// A field's name has begun, but may still become another's.
    Undecided,
    /// This field; its value starts there.
    Field(Field, usize),
}

/// The name of a field and the colon behind it, to be compared in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// The first `len` bytes as they are in memory, the others 0.
    word: u64,
    /// Invariant: `len < 8`, so that the space has room.
    len: usize,
}

impl Name {
    pub(super) const DATA: Self = Self { word: u64::from_le_bytes(*b"data:\0\0\0"), len: 5 };
    pub(super) const EVENT: Self = Self { word: u64::from_le_bytes(*b"event:\0\0"), len: 6 };
    pub(super) const ID: Self = Self { word: u64::from_le_bytes(*b"id:\0\0\0\0\0"), len: 3 };
    const RETRY: Self = Self { word: u64::from_le_bytes(*b"retry:\0\0"), len: 6 };

    /// Offset of the value in a line that begins with the bytes of `word`, if it is a field of that name.
    /// (No part of the name is a line end, so what of `word` is behind the line does not matter.)
    #[inline]
    pub(super) const fn value_in(self, word: u64) -> Option<usize> {
        let behind = 8 * self.len;
        if word << (64 - behind) != self.word << (64 - behind) {
            return None;
        }
        Some(self.len + ((word >> behind) & 0xFF == b' ' as u64) as usize)
    }
}

impl Field {
    /// The field of a whole line that is not blank, and the offset of its value.
    ///
    /// Rule: "if the line starts with a colon, ignore the line"; the name ends at the first colon, or the
    /// whole line is the name; one space after the colon is not part of the value; names are compared
    /// as they are.
    #[inline]
    pub(super) fn of(line: &[u8]) -> (Self, usize) {
        let Some(&word) = line.first_chunk() else { return Self::of_short(line) };
        let word = u64::from_le_bytes(word);
        if let Some(value) = Name::EVENT.value_in(word) {
            (Self::Event, value)
        } else if let Some(value) = Name::ID.value_in(word) {
            (Self::Id, value)
        } else if let Some(value) = Name::DATA.value_in(word) {
            (Self::Data, value)
        } else if let Some(value) = Name::RETRY.value_in(word) {
            (Self::Retry, value)
        } else {
            (Self::Ignored, line.len())
        }
    }

    /// The same for a line of less than eight bytes; only there the colon may be missing.
    fn of_short(line: &[u8]) -> (Self, usize) {
        let name_len = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let field = match line.get(..name_len).unwrap_or_default() {
            b"data" => Self::Data,
            b"event" => Self::Event,
            b"id" => Self::Id,
            b"retry" => Self::Retry,
            _ => Self::Ignored,
        };
        let value = match line.get(name_len..).unwrap_or_default() {
            _ if field == Self::Ignored => line.len(),
            [b':', b' ', ..] => name_len + 2,
            [b':', ..] => name_len + 1,
            _ => name_len,
        };
        (field, value)
    }
}

impl Prefix {
    /// What the first bytes of a line, that do not hold its end, say.
    pub(super) fn of(line: &[u8]) -> Self {
        // No name has eight bytes.
        if line.len() < 8 && [&b"data"[..], b"event", b"id", b"retry"].iter().any(|name| name.starts_with(line)) {
            return Self::Undecided;
        }
        let (field, value) = Field::of(line);
        Self::Field(field, value)
    }
}

/// Rule: "if the field value consists of only ASCII digits, then interpret the field value as an integer
/// in base ten". No digits are no integer; a number too large to hold is the largest one.
pub(super) fn milliseconds(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Rule: "if the field value does not contain U+0000 NULL". Ids are too short for a search to pay, and long
/// enough to be looked at sixteen bytes at a time.
#[inline]
pub(super) fn has_nul(value: &[u8]) -> bool {
    let is_in = |chunk: &[u8; 16]| chunk.iter().fold(false, |any, &byte| any | (byte == 0));
    match value.last_chunk() {
        Some(last) => value.as_chunks().0.iter().fold(is_in(last), |any, chunk| any | is_in(chunk)),
        None => value.contains(&0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_and_values_lose_one_space() {
        let table: [(&[u8], Field, usize); 14] = [
            (b"data", Field::Data, 4),
            (b"data:", Field::Data, 5),
            (b"data:x", Field::Data, 5),
            (b"data: x", Field::Data, 6),
            (b"data:  x", Field::Data, 6),
            (b"data :x", Field::Ignored, 7),
            (b"datas", Field::Ignored, 5),
            (b"Data: x", Field::Ignored, 7),
            (b" data: x", Field::Ignored, 8),
            (b"event: x", Field::Event, 7),
            (b"id", Field::Id, 2),
            (b"id: ", Field::Id, 4),
            (b"retry:5", Field::Retry, 6),
            (b": data: x", Field::Ignored, 9),
        ];
        for (line, field, value) in table {
            assert_eq!(Field::of(line), (field, value), "{line:?}");
        }
    }

    #[test]
    fn prefix_is_undecided_while_a_name_may_come() {
        for undecided in [&b""[..], b"d", b"dat", b"data", b"e", b"i", b"id", b"retr"] {
            assert_eq!(Prefix::of(undecided), Prefix::Undecided, "{undecided:?}");
        }
        assert_eq!(Prefix::of(b"data:"), Prefix::Field(Field::Data, 5));
        assert_eq!(Prefix::of(b"dx"), Prefix::Field(Field::Ignored, 2));
        assert_eq!(Prefix::of(b":"), Prefix::Field(Field::Ignored, 1));
        assert_eq!(Prefix::of(b"datab"), Prefix::Field(Field::Ignored, 5));
    }

    #[test]
    fn long_lines_are_read_as_short_ones() {
        for name in ["data", "event", "id", "retry", "other", "datas", "i", "dat", ""] {
            for behind in ["", ":", ": ", ":  ", ":x", " :", "::", ":data:"] {
                let (short, long) = (format!("{name}{behind}"), format!("{name}{behind}yyyyyyyy"));
                if !behind.contains(':') {
                    assert_eq!(Field::of(long.as_bytes()), (Field::Ignored, long.len()), "{long:?}");
                    continue;
                }
                let (field, value) = Field::of_short(short.as_bytes());
                let value = if field == Field::Ignored { long.len() } else { value };
                assert_eq!(Field::of(long.as_bytes()), (field, value), "{long:?}");
            }
        }
    }

    #[test]
    fn nul_is_found_wherever_it_is() {
        for len in 0..40 {
            let mut value = vec![b'\x01'; len];
            assert!(!has_nul(&value));
            for at in 0..len {
                value[at] = 0;
                assert!(has_nul(&value), "{at} of {len}");
                value[at] = 0x80;
                assert!(!has_nul(&value));
            }
        }
    }

    #[test]
    fn milliseconds_are_digits_only() {
        let table: [(&[u8], Option<u64>); 8] = [
            (b"", None),
            (b"5", Some(5)),
            (b"0005", Some(5)),
            (b"5 ", None),
            (b"-5", None),
            (b"+5", None),
            (b"5.0", None),
            (b"99999999999999999999999", Some(u64::MAX)),
        ];
        for (value, expect) in table {
            assert_eq!(milliseconds(value), expect, "{value:?}");
        }
    }
}
