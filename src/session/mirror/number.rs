//! JSON numbers that are integers a JavaScript peer holds exactly, whatever their spelling: `42`, `42.0` and
//! `4.2e1` are one. Never by way of a float. Others are not judged here.

/// The integer that `text`, a JSON number, spells; `None` if it is none, or outside ±(2^53 − 1).
pub(super) fn safe_integer(text: &str) -> Option<i64> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || has_leading_zero || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let value = shifted(whole.bytes().chain(fraction.bytes()), shift)?;
    Some(if is_negative { -value } else { value })
}

/// The number of these decimal digits times ten to the power of `shift`, if it is a safe integer.
fn shifted(digits: impl Iterator<Item = u8>, shift: i64) -> Option<i64> {
    let mut value: i64 = 0;
    // Zeros not yet taken into `value`: they count only if something follows.
    let mut zeros: i64 = 0;
    for digit in digits {
        match i64::from(digit - b'0') {
            0 => zeros += 1,
            digit => {
                value = times_ten_to(value, zeros + 1)?.checked_add(digit)?;
                zeros = 0;
            }
        }
    }
    if value == 0 {
        return Some(0);
    }
    let value = times_ten_to(value, zeros.checked_add(shift)?)?;
    (value <= MAX_SAFE).then_some(value)
}

fn times_ten_to(value: i64, power: i64) -> Option<i64> {
    if value == 0 {
        return Some(0);
    }
    10_i64.checked_pow(u32::try_from(power).ok()?)?.checked_mul(value)
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `Number.MAX_SAFE_INTEGER` (MCP 2026-07-28, Streamable HTTP, "Schema Extension").
const MAX_SAFE: i64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_any_spelling() {
        for (text, integer) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.0e9", Some(0)),
            ("0e99999999", Some(0)),
            ("42", Some(42)),
            ("42.0", Some(42)),
            ("42.000", Some(42)),
            ("4.2e1", Some(42)),
            ("4.2E+1", Some(42)),
            ("420e-1", Some(42)),
            ("0.42e2", Some(42)),
            ("-7", Some(-7)),
            ("100", Some(100)),
            ("1e2", Some(100)),
            ("101", Some(101)),
            ("9007199254740991", Some(9_007_199_254_740_991)),
            ("-9007199254740991.0", Some(-9_007_199_254_740_991)),
            ("9007199254740992", None),
            ("90071992547409910e-1", Some(9_007_199_254_740_991)),
            ("1e400", None),
            ("1e-400", None),
            ("1e99999999999999999999", None),
            ("42.5", None),
            ("4.25e1", None),
            ("042", None),
            ("+42", None),
            ("42.", None),
            (".5", None),
            ("", None),
            ("-", None),
            ("1e", None),
            ("1e+", None),
            ("0x2a", None),
            ("1_000", None),
            ("１", None),
            ("NaN", None),
        ] {
            assert_eq!(safe_integer(text), integer, "{text}");
        }
    }
}
