//! The value of a mirrored header: plain where a header can carry it, else base64 between the marks
//! `=?base64?` and `?=` (MCP 2026-07-28, Streamable HTTP, "Value Encoding"; rule M1).
//!
//! Which headers may be written so is not decided here.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;

/// The header value that stands for `text`: `text` itself if it can, else the encoded form.
#[must_use]
pub fn encode(text: &str) -> HeaderValue {
    if is_plain(text)
        && let Ok(value) = HeaderValue::from_str(text)
    {
        return value;
    }
    let mut encoded = String::with_capacity(PREFIX.len() + text.len().div_ceil(3) * 4 + SUFFIX.len());
    encoded.push_str(PREFIX);
    BASE64_STANDARD.encode_string(text, &mut encoded);
    encoded.push_str(SUFFIX);
    // Base64 and the marks are visible ASCII, so this cannot fail; an empty value would be found by the check.
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The text a header value stands for, without the blanks HTTP trims.
///
/// A value that lacks one of the marks, or spells one differently, stands for itself.
///
/// # Errors
///
/// What is wrong with it: bytes that no header value may have, or no base64 of UTF-8 between the marks.
pub fn decode(value: &HeaderValue) -> Result<Cow<'_, str>, &'static str> {
    let text = trimmed(value)?;
    let Some(encoded) = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| "is not base64 between its marks")?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "is not UTF-8 between its marks")
}

/// A header value as text, without the blanks HTTP trims (RFC 9110 §5.5).
///
/// # Errors
///
/// It holds a byte that is neither visible ASCII, space nor tab.
pub(super) fn trimmed(value: &HeaderValue) -> Result<&str, &'static str> {
    let text = value.to_str().map_err(|_| "holds a character that is not visible ASCII")?;
    Ok(text.trim_matches(BLANKS))
}

/// Whether a header can carry `text` as it is, so that it is read as itself.
pub(super) fn is_plain(text: &str) -> bool {
    let fits = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    // What only looks like a sentinel is encoded too: with both marks, or with marks that overlap.
    let is_marked = text.starts_with(PREFIX) && text.ends_with(SUFFIX);
    fits && !is_marked && !text.starts_with(BLANKS) && !text.ends_with(BLANKS)
}

/// Optional white space of RFC 9110.
const BLANKS: [char; 2] = [' ', '\t'];
const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";
