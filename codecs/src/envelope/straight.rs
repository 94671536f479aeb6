//! The short way: an ordinary frame from its first byte to its last in one loop, with everything in registers.
//!
//! It knows the ordinary only: messages or a batch of them, keys that are spelled plainly, no duplicates, nothing
//! wrong. Anything else it leaves to the slower ways, which start over and are the only ones that refuse; so
//! what this accepts is what they accept, and it says the same of it. It keeps no state between bytes, which
//! is what makes it faster, and why it cannot read chunks.
//!
//! A `STRICT` reader checks what no one routes on to the letter too ([`grammar`]), else it is skipped in blocks.

use super::{
    BatchElement, Envelope, Kind,
    members::{Member, Members, SHORT_KEY, Scope, packed},
    token,
};
use crate::{
    Limits, Span,
    block::{
        self,
        skip::{Skip, Step},
    },
};

mod grammar;

/// The envelope of a frame in which nothing is out of the ordinary; those of a batch's elements are added to `elements`.
#[inline]
pub(super) fn read<const STRICT: bool>(
    frame: &[u8],
    limits: &Limits,
    elements: &mut Vec<BatchElement>,
) -> Option<Envelope> {
    if limits.max_depth_u32() < MIN_DEPTH {
        return None;
    }
    let mut reader = Reader::<STRICT> { frame, at: 0, high: 0, limits, around: 0 };
    let envelope = match reader.token()? {
        b'[' => reader.batch(elements)?,
        _ => reader.message()?.envelope(),
    };
    let is_all = frame.get(reader.at..)?.iter().all(|&byte| token::is_space(byte));
    let is_text = reader.high == 0 || simdutf8::basic::from_utf8(frame).is_ok();
    (is_all && is_text).then_some(envelope)
}

/// A place in a frame. Whatever returns `None` has found something for another way.
struct Reader<'a, const STRICT: bool> {
    frame: &'a [u8],
    /// Invariant: `at <= frame.len()`.
    at: usize,
    /// Not 0 if a byte above 0x7F may have been passed.
    high: u32,
    limits: &'a Limits,
    /// Brackets around a message: 1 in a batch.
    around: u32,
}

/// Up to sixteen bytes of a frame.
struct Window {
    bytes: u128,
    special: u32,
    high: u32,
}

impl<const STRICT: bool> Reader<'_, STRICT> {
    #[inline(never)]
    fn batch(&mut self, elements: &mut Vec<BatchElement>) -> Option<Envelope> {
        self.at += 1;
        self.around = 1;
        loop {
            self.token()?;
            let start = self.at;
            if elements.len() >= self.limits.max_batch_len() {
                return None;
            }
            let envelope = self.message()?.envelope();
            elements.push(BatchElement::new(span(start, self.at), envelope));
            let byte = self.token()?;
            self.at += 1;
            match byte {
                b',' => {}
                b']' => return Some(Envelope::bare(Kind::Batch)),
                _ => return None,
            }
        }
    }

    /// Reads an object, up to behind its brace.
    #[inline(always)]
    fn message(&mut self) -> Option<Members> {
        let mut members = Members::new();
        let mut scope = Scope::Root;
        // Most messages begin alike.
        let mut is_first = if self.rest().first_chunk() == Some(HEAD) {
            self.at += HEAD.len();
            let _first = members.see(Member::Jsonrpc);
            if !self.after_value(&mut scope)? {
                return Some(members);
            }
            false
        } else {
            self.take(b'{')?;
            true
        };
        loop {
            match self.token()? {
                b'"' => {
                    if self.member(&mut scope, &mut members)? {
                        is_first = true;
                        continue;
                    }
                }
                b'}' if is_first => {
                    self.at += 1;
                    if scope == Scope::Root {
                        return Some(members);
                    }
                    scope = scope.parent();
                }
                _ => return None,
            }
            is_first = false;
            if !self.after_value(&mut scope)? {
                return Some(members);
            }
        }
    }

    /// Reads a member whose quote is at the cursor. True: its value is an object whose members come next.
    #[inline(always)]
    fn member(&mut self, scope: &mut Scope, members: &mut Members) -> Option<bool> {
        self.at += 1;
        let member = self.key(*scope)?;
        if let Some(member) = member
            && !members.see(member)
        {
            return None;
        }
        self.take(b':')?;
        let first = self.token()?;
        let start = self.at;
        let value = match (first, member) {
            (b'{' | b'[', _) => {
                if let (b'{', Some(inside)) = (first, member.and_then(Member::opens)) {
                    self.at += 1;
                    *scope = inside;
                    return Some(true);
                }
                self.container(*scope)?;
                return Some(false);
            }
            (b'"', None) if !STRICT => {
                self.skip_string()?;
                return Some(false);
            }
            _ => self.scalar(first)?,
        };
        match member {
            Some(member) if !members.put(member, value, span(start, self.at), self.limits) => None,
            _ => Some(false),
        }
    }

    /// Passes over a key and its closing quote.
    #[inline(always)]
    fn key(&mut self, scope: Scope) -> Option<Option<Member>> {
        let window = self.window();
        let len = window.special.trailing_zeros() as usize;
        self.high |= window.high;
        if len <= SHORT_KEY {
            self.at += len;
            self.closing_quote()?;
            return Some(Member::of_packed(scope, packed(window.bytes, len)));
        }
        let start = self.at;
        self.text()?;
        let key = self.frame.get(start..self.at)?;
        self.closing_quote()?;
        Some(Member::of(scope, key))
    }

    /// Passes over a string that no one routes on.
    #[inline(always)]
    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        for _ in 0..SHORT_WINDOWS {
            let window = self.window();
            self.high |= window.high;
            if window.special != 0 {
                self.at += window.special.trailing_zeros() as usize;
                if self.frame.get(self.at) == Some(&b'"') {
                    self.at += 1;
                    return Some(());
                }
                break;
            }
            self.at = self.next_window(self.at)?;
        }
        self.skip(Skip::string())
    }

    /// Passes over a container that no one routes on.
    #[inline(always)]
    fn container(&mut self, scope: Scope) -> Option<()> {
        let limit = self.limits.max_depth_u32() - self.around - scope.depth();
        if STRICT {
            return self.walk(limit);
        }
        self.at += 1;
        self.skip(Skip::container(limit))
    }

    /// Goes to the next quote, backslash or control byte.
    #[inline(always)]
    fn text(&mut self) -> Option<()> {
        loop {
            let window = self.window();
            self.high |= window.high;
            if window.special != 0 {
                self.at += window.special.trailing_zeros() as usize;
                return Some(());
            }
            self.at = self.next_window(self.at)?;
        }
    }

    #[inline(always)]
    fn closing_quote(&mut self) -> Option<()> {
        let is_there = self.frame.get(self.at) == Some(&b'"');
        self.at += 1;
        is_there.then_some(())
    }

    #[inline(always)]
    fn skip(&mut self, mut skip: Skip) -> Option<()> {
        let (step, high) = skip.feed(self.frame, self.at);
        self.high |= u32::from(high);
        let Step::End(last) = step else { return None };
        self.at = last + 1;
        Some(())
    }

    /// Passes over what may follow a value, up to the next key. False: that was the message's end.
    #[inline(always)]
    fn after_value(&mut self, scope: &mut Scope) -> Option<bool> {
        loop {
            let byte = self.token()?;
            self.at += 1;
            match (byte, *scope) {
                (b',', _) => return Some(true),
                (b'}', Scope::Root) => return Some(false),
                (b'}', _) => *scope = scope.parent(),
                _ => return None,
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, expected: u8) -> Option<()> {
        let is_there = self.token()? == expected;
        self.at += 1;
        is_there.then_some(())
    }

    /// Passes over white space, and shows the byte behind it.
    #[inline(always)]
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.frame.get(self.at)?;
            if !token::is_space(byte) {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn rest(&self) -> &[u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    /// The sixteen bytes at the cursor; fewer at the frame's end, then with zeros behind them.
    #[inline(always)]
    fn window(&self) -> Window {
        let rest = self.rest();
        if let Some(bytes) = rest.first_chunk() {
            let found = block::specials(bytes);
            return Window { bytes: u128::from_le_bytes(*bytes), special: found.special, high: found.high };
        }
        let Some(bytes) = self.frame.last_chunk() else { return Window { bytes: 0, special: 0, high: 0 } };
        let (found, before) = (block::specials(bytes), bytes.len() - rest.len());
        if rest.is_empty() {
            return Window { bytes: 0, special: 0, high: 0 };
        }
        Window {
            bytes: u128::from_le_bytes(*bytes) >> (8 * before),
            special: found.special >> before,
            high: found.high >> before,
        }
    }

    /// Behind a window in which nothing was found, unless that is the frame's end.
    #[inline(always)]
    fn next_window(&self, start: usize) -> Option<usize> {
        let next = start + WINDOW_LEN;
        (next < self.frame.len()).then_some(next)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the longest frames that are read this way are far below")]
#[inline(always)]
const fn span(start: usize, end: usize) -> Span {
    Span::new(start as u32, end as u32)
}

/// How nearly every message begins.
const HEAD: &[u8; WINDOW_LEN] = br#"{"jsonrpc":"2.0""#;

const WINDOW_LEN: usize = 16;

/// A string that is longer than so many windows is skipped by blocks.
const SHORT_WINDOWS: usize = 4;

/// Longest message that is read this way. In a longer one it is the bulk that takes the time; what is around it does
/// not matter, but reading it twice would.
pub(super) const STRAIGHT_LEN: usize = 64 << 10;

/// Deep enough for every scope, a batch around it, and something in it.
const MIN_DEPTH: u32 = 6;
