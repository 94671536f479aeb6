//! `Server-Timing`: how long an answer took in here, and how long at the server, for whoever sees its headers.
//!
//! <https://www.w3.org/TR/server-timing/>. Both times end with the headers, so for an event stream they are those to
//! its beginning.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Adds what is ours to what is there: a server's own entries stay as they are.
pub(super) fn add(headers: &mut HeaderMap, inside: Duration, server: Duration) {
    let mut text = Vec::with_capacity(USUAL_LEN);
    text.extend_from_slice(b"shadowcat;dur=");
    put_millis(&mut text, inside);
    text.extend_from_slice(b", upstream;dur=");
    put_millis(&mut text, server);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        headers.append(SERVER_TIMING, value);
    }
}

/// Milliseconds with three digits behind the point. By hand: printing a float takes more instructions than all else
/// that a relay does with an answer's headers.
fn put_millis(text: &mut Vec<u8>, time: Duration) {
    let micros =
        time.as_secs().saturating_mul(1_000_000).saturating_add(u64::from((time.subsec_nanos() + 500) / 1_000));
    let (from, mut rest, mut count) = (text.len(), micros, 0);
    // The last digit first.
    while count <= 3 || rest > 0 {
        if count == 3 {
            text.push(b'.');
        }
        text.push(b'0' + (rest % 10) as u8);
        (rest, count) = (rest / 10, count + 1);
    }
    text[from..].reverse();
}

/// Two times of less than a second each.
const USUAL_LEN: usize = 48;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_milliseconds_and_beside_the_servers_own() {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_TIMING, HeaderValue::from_static("db;dur=53"));
        add(&mut headers, Duration::from_nanos(21_400), Duration::from_micros(1_300));
        let values: Vec<_> = headers.get_all(SERVER_TIMING).iter().collect();
        assert_eq!(values, ["db;dur=53", "shadowcat;dur=0.021, upstream;dur=1.300"]);
    }

    #[test]
    fn times_are_rounded_to_microseconds() {
        for (nanos, expected) in [
            (0, "0.000"),
            (499, "0.000"),
            (500, "0.001"),
            (999_499, "0.999"),
            (999_500, "1.000"),
            (10_000_000, "10.000"),
            (999_999_999, "1000.000"),
            (3_600_123_456_000, "3600123.456"),
        ] {
            let mut text = Vec::new();
            put_millis(&mut text, Duration::from_nanos(nanos));
            assert_eq!(text, expected.as_bytes(), "{nanos} ns");
        }
    }
}
