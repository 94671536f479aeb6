//! The tokens of JSON, one byte or one word at a time, each able to stop and go on at any byte: strings
//! with their escapes, numbers, literals, white space. Nothing is decoded here.

use crate::block;

/// Offset of the first quote, backslash or control byte in `hay` (its length if there is none), and whether
/// there is a byte above 0x7F before it. The latter may also be true without one: it only means "look".
#[inline]
pub(super) fn special(hay: &[u8]) -> (usize, bool) {
    let mut high = false;
    let (pieces, tail) = hay.as_chunks();
    for (index, piece) in pieces.iter().enumerate() {
        let found = block::specials(piece);
        high |= found.high != 0;
        if found.special != 0 {
            return (index * size_of_val(piece) + found.special.trailing_zeros() as usize, high);
        }
    }
    let found = tail.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(tail.len());
    high |= tail.iter().take(found).any(|byte| !byte.is_ascii());
    (hay.len() - tail.len() + found, high)
}

/// Where a string is in an escape sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// In none.
    Outside,
    /// Behind its backslash.
    Backslash,
    /// Behind `\u`, with so many hexadecimal digits to come. Invariant: 1 to 4.
    Digits(u8),
}

impl Escape {
    /// Takes the next byte of the sequence. `None`: it is none.
    #[inline]
    pub(super) const fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Backslash, b'u') => Some(Self::Digits(4)),
            (Self::Backslash, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some(Self::Outside),
            (Self::Digits(1), _) if byte.is_ascii_hexdigit() => Some(Self::Outside),
            (Self::Digits(more), _) if byte.is_ascii_hexdigit() => Some(Self::Digits(more - 1)),
            _ => None,
        }
    }
}

/// Where a number is: the states of RFC 8259's grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    /// A leading zero: no digit may follow.
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    /// The state behind the first byte of a number.
    #[inline]
    pub(super) const fn first(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Integer),
            _ => None,
        }
    }

    /// Takes the next byte. `None`: it does not belong to the number.
    #[inline]
    pub(super) const fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::Zero),
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Some(Self::Integer),
            (Self::Zero | Self::Integer, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Some(Self::Exponent),
            (Self::Exponent, b'+' | b'-') => Some(Self::ExponentSign),
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Some(Self::ExponentDigits),
            _ => None,
        }
    }

    /// Whether a number may end here.
    pub(super) const fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

/// Whether `text` is one JSON number or one JSON string, and nothing else.
pub(super) fn is_number_or_string(text: &[u8]) -> bool {
    match text {
        [b'"', inner @ .., b'"'] => std::str::from_utf8(inner).is_ok() && is_string_text(inner),
        [first, rest @ ..] => {
            let state = rest.iter().try_fold(Number::first(*first), |state, &byte| Some(state?.next(byte)));
            state.flatten().is_some_and(Number::is_whole)
        }
        [] => false,
    }
}

fn is_string_text(inner: &[u8]) -> bool {
    let end = inner.iter().try_fold(Escape::Outside, |escape, &byte| match (escape, byte) {
        (Escape::Outside, b'\\') => Some(Escape::Backslash),
        (Escape::Outside, b'"' | 0..0x20) => None,
        (Escape::Outside, _) => Some(Escape::Outside),
        _ => escape.next(byte),
    });
    end == Some(Escape::Outside)
}

/// The white space of JSON.
#[inline]
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn special_is_the_first_special_byte(hay in vec(prop_oneof![8 => 0x20_u8.., 1 => any::<u8>(), 1 => Just(b'"')], 0..70)) {
            let expected = hay.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(hay.len());
            let (found, high) = special(&hay);
            prop_assert_eq!(found, expected);
            prop_assert!(high || hay[..found].is_ascii());
        }

        #[test]
        fn numbers_and_strings_are_those_of_serde(text in "-?[0-9.eE+\"\\\\u a-f-]{0,9}") {
            let value = serde_json::from_str::<&serde_json::value::RawValue>(&text);
            let expected = value.is_ok_and(|value| value.get() == text && !text.starts_with(['t', 'f', 'n', '[', '{']));
            prop_assert_eq!(is_number_or_string(text.as_bytes()), expected, "{}", text);
        }
    }
}
