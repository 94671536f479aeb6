//! Values to the letter of the grammar: scalars that route, and, for a strict reader, everything no one routes on.
//!
//! What is valid but rare (nesting beyond 64, numbers that might be beyond `f64`) is left to simd-json like
//! what is wrong.

use super::{
    super::{
        members::Value,
        token::{Escape, Number},
    },
    Reader,
};

impl<const STRICT: bool> Reader<'_, STRICT> {
    /// Reads the value at the cursor, a container or not, that may hold `limit` levels.
    pub(super) fn walk(&mut self, limit: u32) -> Option<()> {
        let limit = limit.min(u64::BITS);
        // From the innermost up, one bit for each open container: whether it is an object.
        let mut objects = 0_u64;
        let mut depth = 0;
        loop {
            let first = self.token()?;
            if let b'{' | b'[' = first {
                if depth == limit {
                    return None;
                }
                self.at += 1;
                let is_object = first == b'{';
                if self.token()? != first + CLOSING {
                    depth += 1;
                    objects = objects << 1 | u64::from(is_object);
                    if is_object {
                        self.walk_key()?;
                    }
                    continue;
                }
                self.at += 1;
            } else {
                self.scalar(first)?;
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let byte = self.token()?;
                self.at += 1;
                match (byte, objects & 1) {
                    (b',', is_object) => {
                        if is_object == 1 {
                            self.walk_key()?;
                        }
                        break;
                    }
                    (b'}', 1) | (b']', 0) => {
                        objects >>= 1;
                        depth -= 1;
                    }
                    _ => return None,
                }
            }
        }
    }

    #[inline(always)]
    fn walk_key(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.string()?;
        self.take(b':')
    }

    /// Reads a value that is no container.
    #[inline(always)]
    pub(super) fn scalar(&mut self, first: u8) -> Option<Value> {
        match first {
            b'"' => {
                self.at += 1;
                self.string()?;
                Some(Value::String)
            }
            b't' => self.literal(b"true", Value::Bool),
            b'f' => self.literal(b"false", Value::Bool),
            b'n' => self.literal(b"null", Value::Null),
            _ => {
                self.number(first)?;
                Some(Value::Number)
            }
        }
    }

    /// Passes over the rest of a string, its closing quote included.
    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        loop {
            self.text()?;
            match self.frame.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.escaped()?,
                _ => return None,
            }
        }
    }

    /// Passes over the escape at the cursor, or two if they are a pair of surrogates.
    fn escaped(&mut self) -> Option<()> {
        let is_whole = match self.escape()? {
            0xD800..=0xDBFF => self.rest().first() == Some(&b'\\') && matches!(self.escape()?, 0xDC00..=0xDFFF),
            0xDC00..=0xDFFF => false,
            _ => true,
        };
        // Half a pair passes where simd-json is not asked.
        (is_whole || !STRICT).then_some(())
    }

    /// Passes over one escape: the UTF-16 unit it stands for, or something below if it is no surrogate.
    #[inline(always)]
    fn escape(&mut self) -> Option<u32> {
        self.at += 1;
        let (mut escape, mut unit) = (Escape::Backslash, 0);
        while escape != Escape::Outside {
            let byte = *self.frame.get(self.at)?;
            self.at += 1;
            escape = escape.next(byte)?;
            unit = unit << 4 | char::from(byte).to_digit(16).unwrap_or(0);
        }
        Some(unit)
    }

    #[inline(always)]
    fn number(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        let mut number = Number::first(first)?;
        loop {
            self.at += 1;
            let byte = *self.frame.get(self.at)?;
            if number == Number::Integer && byte.is_ascii_digit() {
                continue;
            }
            match number.next(byte) {
                // Without an exponent it is a number of `f64` if it is short.
                Some(Number::Exponent) if STRICT => return None,
                Some(next) => number = next,
                None => break,
            }
        }
        let is_short = !STRICT || self.at - start <= SHORT_NUMBER;
        (is_short && number.is_whole()).then_some(())
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
}

/// What a closing bracket is above its opening one, in ASCII.
const CLOSING: u8 = b'}' - b'{';

/// Longest number that is not left to simd-json.
const SHORT_NUMBER: usize = 40;
