//! Values to the letter of the grammar: scalars that route, and, for a strict reader, everything no one routes on.
//!
//! What is valid but rare (nesting beyond 64, numbers that might be beyond `f64`) is left to simd-json like
//! what is wrong.

use super::{
    super::{members::Value, token::Number},
    Reader, WINDOW_LEN,
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
            let window = self.window();
            self.high |= window.high;
            let (start, mut special) = (self.at, window.special);
            self.at = loop {
                if special == 0 {
                    break self.next_window(start)?;
                }
                let found = special.trailing_zeros();
                self.at = start + found as usize;
                if self.frame.get(self.at) == Some(&b'"') {
                    self.at += 1;
                    return Some(());
                }
                self.escape()?;
                if self.at != start + found as usize + 2 || self.at >= start + WINDOW_LEN {
                    break self.at;
                }
                // The two bytes of a plain escape; the rest of the window is still good.
                special &= !(0b11 << found);
            };
        }
    }

    #[inline(always)]
    fn escape(&mut self) -> Option<()> {
        match self.rest() {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                self.at += 2;
                Some(())
            }
            [b'\\', b'u', ..] => self.escaped_unit(),
            _ => None,
        }
    }

    /// Passes over the escape of a UTF-16 unit, or two if they are a pair of surrogates.
    #[inline]
    fn escaped_unit(&mut self) -> Option<()> {
        let is_whole = match self.unit()? {
            0xD800..=0xDBFF => self.rest().first() == Some(&b'\\') && matches!(self.unit()?, 0xDC00..=0xDFFF),
            0xDC00..=0xDFFF => false,
            _ => true,
        };
        // Half a pair passes where simd-json is not asked.
        (is_whole || !STRICT).then_some(())
    }

    #[inline(always)]
    fn unit(&mut self) -> Option<u32> {
        let [b'\\', b'u', digits @ ..] = self.rest().first_chunk::<6>()? else { return None };
        let unit = digits.iter().fold(0, |unit, &digit| unit << 4 | HEX.get(usize::from(digit)).unwrap_or(&NO_HEX));
        self.at += 6;
        (unit < NO_HEX).then_some(unit)
    }

    #[inline(always)]
    fn number(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        let mut exponent_at = None;
        let mut number = Number::first(first)?;
        loop {
            self.at += 1;
            let byte = *self.frame.get(self.at)?;
            if number == Number::Integer && byte.is_ascii_digit() {
                continue;
            }
            let Some(next) = number.next(byte) else { break };
            if let Number::Exponent | Number::ExponentSign = next {
                exponent_at = Some(self.at);
            }
            number = next;
        }
        let is_short = self.at - start <= SHORT_NUMBER
            && exponent_at.is_none_or(|exponent_at| self.at - exponent_at <= SHORT_EXPONENT);
        // A short number is one of `f64`, which simd-json wants it to be.
        (number.is_whole() && (is_short || !STRICT)).then_some(())
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

/// The value of each hexadecimal digit, [`NO_HEX`] for other bytes.
#[expect(clippy::indexing_slicing, reason = "digits are below 256, and this runs in the compiler")]
static HEX: [u32; 256] = {
    let mut values = [NO_HEX; 256];
    let mut value = 0;
    while value < 16
        && let Some(byte) = char::from_digit(value, 16)
    {
        values[byte as usize] = value;
        values[byte.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

/// More than four digits can make, and still so when digits follow.
const NO_HEX: u32 = 1 << 16;

/// What a closing bracket is above its opening one, in ASCII.
const CLOSING: u8 = b'}' - b'{';

/// Longest number that is not left to simd-json: with a [`SHORT_EXPONENT`] it is below 1e140.
const SHORT_NUMBER: usize = 40;

/// Longest exponent that is not left to simd-json: its letter or sign, and two digits.
const SHORT_EXPONENT: usize = 3;
