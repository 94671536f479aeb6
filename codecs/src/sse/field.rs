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

impl Field {
    /// The field of a whole line that is not blank, and the offset of its value.
    ///
    /// Rule: "if the line starts with a colon, ignore the line"; the name ends at the first colon, or the
    /// whole line is the name; one space after the colon is not part of the value; names are compared
    /// as they are.
    #[inline]
    pub(super) fn of(line: &[u8]) -> (Self, usize) {
        for (name, field) in NAMES {
            if let Some(rest) = line.strip_prefix(name) {
                return match rest {
                    [] => (field, line.len()),
                    [b':', b' ', ..] => (field, name.len() + 2),
                    [b':', ..] => (field, name.len() + 1),
                    // No name is the beginning of another.
                    _ => (Self::Ignored, line.len()),
                };
            }
        }
        (Self::Ignored, line.len())
    }
}

impl Prefix {
    /// What the first bytes of a line, that do not hold its end, say.
    pub(super) fn of(line: &[u8]) -> Self {
        if NAMES.iter().any(|(name, _)| name.starts_with(line)) {
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

const NAMES: [(&[u8], Field); 4] =
    [(b"data", Field::Data), (b"event", Field::Event), (b"id", Field::Id), (b"retry", Field::Retry)];

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
