//! W3C Trace Context: which trace an exchange belongs to, so that what is logged about it says so.
//!
//! Only reads, in a request's `traceparent` header or in `params._meta.traceparent` (Rule F10); what was read passes
//! on as it came. `tracestate` is for tracing systems and says nothing to a log: it is not looked at. What is no
//! valid `traceparent` is nobody's trace, and is not shown. No span is made unless it could show something.

use std::fmt;

use http::{HeaderMap, HeaderName};
use tracing::{Level, Span, field};

/// The id of a trace. Shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// One exchange's span: the context of what is logged about it.
#[derive(Debug, Clone)]
pub struct Traced {
    span: Span,
    /// Whether the span shows the trace.
    is_named: bool,
}

impl TraceId {
    /// Reads a `traceparent`: version, trace, parent and flags. `None` if it is not valid (W3C Trace Context, 3.2).
    #[must_use]
    pub fn parse(traceparent: &[u8]) -> Option<Self> {
        let (known, rest) = traceparent.split_at_checked(TRACEPARENT_LEN)?;
        let [version, trace, parent, flags] = parts(known)?;
        // Version ff is forbidden; what a later one adds stands behind one more hyphen.
        let is_version = hex(version)? != 0xff && (rest.is_empty() || (version != b"00" && rest.starts_with(b"-")));
        hex(flags)?;
        let (trace, parent) = (hex(trace)?, hex(parent)?);
        (is_version && trace != 0 && parent != 0).then_some(Self(trace))
    }

    /// The trace a request's headers name. Several name none.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.as_bytes()),
            _ => None,
        }
    }
}

impl Traced {
    /// An exchange that begins with these headers.
    #[must_use]
    pub fn by_headers(headers: &HeaderMap) -> Self {
        let id = if tracing::enabled!(Level::ERROR) { TraceId::of_headers(headers) } else { None };
        match id {
            Some(id) => Self::named(id),
            // The body may name one.
            None => Self { span: tracing::debug_span!("exchange", trace_id = field::Empty), is_named: false },
        }
    }

    /// An exchange about a message, by its `traceparent`, if it has one.
    #[must_use]
    pub fn by_message(traceparent: Option<&[u8]>) -> Self {
        let mut traced = Self { span: Span::none(), is_named: false };
        traced.learn(traceparent);
        traced
    }

    /// The exchange's message has this `traceparent`. The headers go before it.
    pub fn learn(&mut self, traceparent: Option<&[u8]>) {
        if self.is_named || !tracing::enabled!(Level::ERROR) {
            return;
        }
        let Some(id) = traceparent.and_then(TraceId::parse) else { return };
        if self.span.is_disabled() {
            *self = Self::named(id);
        } else {
            self.span.record("trace_id", field::display(id));
            self.is_named = true;
        }
    }

    /// The span: disabled where it would show nothing.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    fn named(id: TraceId) -> Self {
        Self { span: tracing::error_span!("exchange", trace_id = %id), is_named: true }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The beginning of what a peer calls something, such as a method or an id; for a log, which has to escape it.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..MAX_SHOWN).unwrap_or(name)).into_owned()
}

/// The four fields, if the hyphens are where they must be.
fn parts(known: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = known.split(|&byte| byte == b'-');
    let parts = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let is_whole = fields.next().is_none() && parts.map(<[u8]>::len) == [2, 32, 16, 2];
    is_whole.then_some(parts)
}

/// Lowercase hexadecimal digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `00-<32>-<16>-<2>`.
const TRACEPARENT_LEN: usize = 55;
/// Most bytes shown of a method or an id.
const MAX_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn valid_traceparent_names_its_trace() {
        for valid in [VALID, &VALID.replacen("00", "01", 1), &format!("{}-more", VALID.replacen("00", "cc", 1))] {
            assert_eq!(TraceId::parse(valid.as_bytes()).map(|id| id.to_string()).as_deref(), Some(ID), "{valid}");
        }
    }

    #[test]
    fn anything_else_names_none() {
        for invalid in [
            "".to_owned(),
            VALID.split_at(1).1.to_owned(),
            VALID.split_at(54).0.to_owned(),
            format!("{VALID}-more"),
            format!("{VALID}0"),
            format!("{}0", VALID.replacen("00", "01", 1)),
            VALID.replacen("00", "ff", 1),
            VALID.replacen("00", "0g", 1),
            VALID.to_uppercase(),
            VALID.replace('-', "_"),
            VALID.replace(ID, &"0".repeat(32)),
            VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            VALID.replace("-01", "-0-"),
            format!("é{}", VALID.split_at(2).1),
        ] {
            assert_eq!(TraceId::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn two_headers_name_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceId::of_headers(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert!(TraceId::of_headers(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert_eq!(TraceId::of_headers(&headers), None);
    }
}
