//! What number an id is, whatever its spelling: servers may answer `1.0` to `1`.
//!
//! Exact: nothing goes through a floating-point number, which would take 2^53 + 1 for 2^53.

/// The value of a raw id, if that is a number and one that can have been minted: a positive integer below
/// 2^53. A string is none, whatever it says: `"1"` is another id (MCP, "Requests": ids are strings or
/// integers).
pub(super) fn integer(raw: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(raw).ok()?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // An exponent beyond an `i64` belongs to a number that is zero or no integer of ours.
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let point = usize::try_from(point).ok()?;
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|byte| match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        _ => None,
    });
    let mut value = 0;
    for _ in 0..point {
        // Behind the last digit come zeros, which are few for a value that stays below 2^53, unless it is zero.
        let digit = match digits.next() {
            Some(digit) => digit?,
            None if value == 0 => return None,
            None => 0,
        };
        value = value * 10 + digit;
        if value >= super::MINTED_END {
            return None;
        }
    }
    (value > 0 && digits.all(|digit| digit == Some(0))).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_number_are_equal_and_others_are_none() {
        for one in ["1", "1.0", "1.000", "10e-1", "1e0", "1E+0", "0.1e1", "0.001E3", "100e-2", "1000000000e-9"] {
            assert_eq!(integer(one.as_bytes()), Some(1), "{one}");
        }
        for none in ["", "0", "-0", "-1", "1.5", "1e-1", "0.1", "\"1\"", "null", "1e400", "0e99999999999999999999"] {
            assert_eq!(integer(none.as_bytes()), None, "{none}");
        }
        // Rule (edge case 1): never through an `f64`.
        assert_eq!(integer(b"9007199254740991"), Some((1 << 53) - 1));
        assert_eq!(integer(b"9007199254740992"), None);
        assert_eq!(integer(b"9007199254740993"), None);
        assert_eq!(integer(b"4503599627370496.5"), None);
        assert_eq!(integer(b"1e9223372036854775807"), None);
        assert_eq!(integer(b"0e9223372036854775806"), None);
        assert_eq!(integer(b"1e-9223372036854775808"), None);
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_number_is_that_number(value in 1_u64..super::super::MINTED_END, shift in 0_usize..20, zeros in 0_usize..4) {
            let digits = value.to_string();
            let shifted = format!("{:0>1$}", digits, shift + 1);
            let (whole, fraction) = shifted.split_at(shifted.len() - shift);
            let dot = if shift + zeros == 0 { "" } else { "." };
            let spelled = format!("{whole}{dot}{fraction}{}e{shift}", "0".repeat(zeros));
            prop_assert_eq!(integer(spelled.as_bytes()), Some(value), "{}", spelled);
            prop_assert_eq!(integer(format!("{digits}{}e-{shift}", "0".repeat(shift)).as_bytes()), Some(value));
        }

        #[test]
        fn any_text_ends(text in "[0-9.eE+\"-]{0,24}") {
            let _ = integer(text.as_bytes());
        }
    }
}
