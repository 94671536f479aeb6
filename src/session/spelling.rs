//! Texts that may be spelled in more than one way: methods with escapes, and ids that a peer wrote anew.
//!
//! Ids are compared as bytes. Only when that finds nothing does it matter that `1` and `1.0`, `"a/b"` and
//! `"a\/b"` mean the same: a server that reads its input into values and writes them back answers so, and
//! then the asker's own spelling is put back (Rule F4, MCP 2025-11-25, Base protocol).

use bytes::{BufMut, Bytes, BytesMut};
use shadowcat_codecs::{
    Span,
    envelope::{Envelope, text},
};

/// Whether the message's method is `method`, in whatever spelling.
pub(super) fn method_is(frame: &[u8], envelope: &Envelope, method: &str) -> bool {
    envelope.method().is_some_and(|span| span.of(frame) == method.as_bytes() || reads(span, frame, method))
}

/// Whether two ids mean the same value.
pub(super) fn means_same(one: &[u8], other: &[u8]) -> bool {
    match (one.first(), other.first()) {
        (Some(b'"'), Some(b'"')) => {
            let [one, other] = [one, other].map(unquoted);
            one.is_some() && one == other
        }
        (Some(b'"'), _) | (_, Some(b'"')) => false,
        _ => {
            let [one, other] = [one, other].map(Number::read);
            one.is_some() && one == other
        }
    }
}

/// A copy of `part` with `spelled` in place of the id at `span`: for an answer whose id was respelled. `part`
/// starts `at` bytes into what `span` refers to.
pub(super) fn respelled_copy(part: &[u8], at: usize, span: Span, spelled: &[u8]) -> Bytes {
    let range = span.start().checked_sub(at).zip(span.end().checked_sub(at));
    let split = range.and_then(|(start, end)| Some((part.get(..start)?, part.get(end..)?)));
    debug_assert!(split.is_some(), "the id is inside the message");
    let (before, behind) = split.unwrap_or((part, &[]));
    let mut copy = BytesMut::with_capacity(part.len() + spelled.len());
    for part in [before, spelled, behind] {
        copy.put_slice(part);
    }
    copy.freeze()
}

/// A number's value without a float in between, because ids reach beyond 2^53.
#[derive(PartialEq, Eq)]
struct Number {
    is_negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: Vec<u8>,
    /// Power of ten of the last digit; 0 for zero.
    exponent: i64,
}

impl Number {
    fn read(raw: &[u8]) -> Option<Self> {
        let (is_negative, raw) = raw.strip_prefix(b"-").map_or((false, raw), |rest| (true, rest));
        let split = raw.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, power) = raw.split_at(split.unwrap_or(raw.len()));
        let power = match power.get(1..) {
            Some(power) => std::str::from_utf8(power).ok()?.parse::<i32>().ok()?,
            None => 0,
        };
        let point = mantissa.iter().position(|&byte| byte == b'.');
        let fraction_len = point.map_or(0, |point| mantissa.len() - point - 1);
        let mut digits: Vec<u8> = mantissa.iter().copied().filter(|&byte| byte != b'.').collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut exponent = i64::from(power) - i64::try_from(fraction_len).ok()?;
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent += 1;
        }
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        digits.drain(..zeros);
        let is_zero = digits.is_empty();
        Some(Self { is_negative: is_negative && !is_zero, digits, exponent: if is_zero { 0 } else { exponent } })
    }
}

#[cold]
fn reads(span: Span, frame: &[u8], wanted: &str) -> bool {
    text(span, frame).is_some_and(|text| text == wanted)
}

fn unquoted(raw: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    let end = u32::try_from(raw.len().checked_sub(1)?).ok()?;
    if end == 0 || raw.last() != Some(&b'"') {
        return None;
    }
    text(Span::new(1, end), raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_mean_the_same_however_they_are_spelled() {
        for [one, other] in [
            ["1", "1.0"],
            ["1", "10e-1"],
            ["100", "1E+2"],
            ["0", "-0.0e7"],
            ["18446744073709551617", "1844674407370955161700e-2"],
            ["\"a/b\"", r#""a\/b""#],
            ["\"ä\"", r#""\u00e4""#],
            ["\"\"", "\"\""],
        ] {
            assert!(means_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
            assert!(means_same(other.as_bytes(), one.as_bytes()), "{other} {one}");
        }
        for [one, other] in [
            ["1", "\"1\""],
            ["1", "-1"],
            ["1", "10"],
            ["9007199254740993", "9007199254740992"],
            ["\"a\"", "\"A\""],
            ["null", "null"],
            ["", ""],
            ["\"", "\""],
            ["1e99999999999", "1e99999999999"],
        ] {
            assert!(!means_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn spelling_is_put_back_and_nothing_else_is_touched() {
        let frame = br#"{"id":1.0,"result":[1.0]}"#;
        assert_eq!(respelled_copy(frame, 0, Span::new(6, 9), b"1"), r#"{"id":1,"result":[1.0]}"#);
        assert_eq!(respelled_copy(frame, 9, Span::new(15, 18), b"1"), r#"{"id":1,"result":[1.0]}"#);
    }
}
