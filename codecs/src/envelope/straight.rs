//! The short way: a whole message from its first byte to its last in one loop, with everything in registers.
//!
//! It knows the ordinary only: an object, keys and routed texts without escapes, no duplicates, nothing wrong.
//! Anything else it leaves to [`EnvelopeScan`](super::EnvelopeScan), which starts over and is the only one that
//! refuses; so what this accepts is what the scan accepts, and says the same of it. It keeps no state between
//! bytes, which is what makes it faster, and why it cannot read chunks.

use super::{
    Envelope,
    members::{Member, Members, SHORT_KEY, Scope, Value, packed},
    token::{self, Number},
};
use crate::{
    Limits, Span,
    block::{
        self,
        skip::{Skip, Step},
    },
};

/// The envelope of a message in which nothing is out of the ordinary.
pub(super) fn read(frame: &[u8], limits: &Limits) -> Option<Envelope> {
    if limits.max_depth_u32() < MIN_DEPTH || frame.len() > STRAIGHT_LEN {
        return None;
    }
    let mut reader = Reader { frame, at: 0, high: 0, limits };
    let mut members = Members::new();
    reader.message(&mut members)?;
    if reader.high != 0 && simdutf8::basic::from_utf8(frame).is_err() {
        return None;
    }
    Some(members.envelope())
}

/// A place in a frame. Whatever returns `None` has found something for the scan.
struct Reader<'a> {
    frame: &'a [u8],
    /// Invariant: `at <= frame.len() <= STRAIGHT_LEN`.
    at: usize,
    /// Not 0 if a byte above 0x7F may have been passed.
    high: u32,
    limits: &'a Limits,
}

/// Up to sixteen bytes of a frame.
struct Window {
    bytes: u128,
    special: u32,
    high: u32,
}

impl Reader<'_> {
    #[inline(always)]
    fn message(&mut self, members: &mut Members) -> Option<()> {
        let mut scope = Scope::Root;
        // Most messages begin alike.
        let mut is_first = if self.frame.first_chunk() == Some(HEAD) {
            self.at = HEAD.len();
            let _first = members.see(Member::Jsonrpc);
            if !self.after_value(&mut scope)? {
                return self.trailing();
            }
            false
        } else {
            self.take(b'{')?;
            true
        };
        loop {
            match self.token()? {
                b'"' => {
                    if self.member(&mut scope, members)? {
                        is_first = true;
                        continue;
                    }
                }
                b'}' if is_first => {
                    self.at += 1;
                    if scope == Scope::Root {
                        return self.trailing();
                    }
                    scope = scope.parent();
                }
                _ => return None,
            }
            is_first = false;
            if !self.after_value(&mut scope)? {
                return self.trailing();
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
        let value = match first {
            b'"' => {
                self.at += 1;
                self.string(member.is_some())?;
                Value::String
            }
            b'{' => {
                self.at += 1;
                if let Some(inside) = member.and_then(Member::opens) {
                    *scope = inside;
                    return Some(true);
                }
                self.container(*scope)?;
                return Some(false);
            }
            b'[' => {
                self.at += 1;
                self.container(*scope)?;
                return Some(false);
            }
            b't' => self.literal(b"true", Value::Bool)?,
            b'f' => self.literal(b"false", Value::Bool)?,
            b'n' => self.literal(b"null", Value::Null)?,
            _ => {
                self.number(first)?;
                Value::Number
            }
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

    /// Passes over the rest of a string; one that routes must be without escapes.
    #[inline(always)]
    fn string(&mut self, is_routed: bool) -> Option<()> {
        if is_routed {
            self.text()?;
            return self.closing_quote();
        }
        for _ in 0..4 {
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
            self.at = self.next_window()?;
        }
        self.skip(Skip::string())
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
            self.at = self.next_window()?;
        }
    }

    #[inline(always)]
    fn closing_quote(&mut self) -> Option<()> {
        let is_there = self.frame.get(self.at) == Some(&b'"');
        self.at += 1;
        is_there.then_some(())
    }

    #[inline(always)]
    fn number(&mut self, first: u8) -> Option<()> {
        let mut number = Number::first(first)?;
        loop {
            self.at += 1;
            let byte = *self.frame.get(self.at)?;
            if number == Number::Integer && byte.is_ascii_digit() {
                continue;
            }
            match number.next(byte) {
                Some(next) => number = next,
                None => return number.is_whole().then_some(()),
            }
        }
    }

    #[inline(always)]
    fn literal(&mut self, text: &[u8], value: Value) -> Option<Value> {
        let end = self.at + text.len();
        if self.frame.get(self.at..end)? != text {
            return None;
        }
        self.at = end;
        Some(value)
    }

    /// Passes over a container whose bracket is just behind.
    #[inline(always)]
    fn container(&mut self, scope: Scope) -> Option<()> {
        self.skip(Skip::container(self.limits.max_depth_u32() - scope.depth()))
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

    /// Only white space may be left.
    #[inline(always)]
    fn trailing(&self) -> Option<()> {
        self.frame.get(self.at..)?.iter().all(|&byte| token::is_space(byte)).then_some(())
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

    /// The sixteen bytes at the cursor; fewer at the frame's end, then with zeros behind them.
    #[inline(always)]
    fn window(&self) -> Window {
        let rest = self.frame.get(self.at..).unwrap_or_default();
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

    /// Behind a window in which nothing was found.
    #[inline(always)]
    fn next_window(&self) -> Option<usize> {
        let next = self.at + WINDOW_LEN;
        (next < self.frame.len()).then_some(next)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "offsets are below STRAIGHT_LEN")]
#[inline(always)]
const fn span(start: usize, end: usize) -> Span {
    Span::new(start as u32, end as u32)
}

/// How nearly every message begins.
const HEAD: &[u8; WINDOW_LEN] = br#"{"jsonrpc":"2.0""#;

const WINDOW_LEN: usize = 16;

/// Longest frame that is tried. In a longer one the bulk is skipped, to which the loop around it does not matter,
/// and reading it twice would.
const STRAIGHT_LEN: usize = 64 << 10;

/// Deep enough for every scope and something in it.
const MIN_DEPTH: u32 = 5;
