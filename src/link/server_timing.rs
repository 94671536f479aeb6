//! `Server-Timing`: how long an answer took in here, and how long at the server, for whoever sees its headers.
//!
//! <https://www.w3.org/TR/server-timing/>. Both times end with the headers, so for an event stream they are those to
//! its beginning.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Adds what is ours to what is there: a server's own entries stay as they are.
pub(super) fn add(headers: &mut HeaderMap, inside: Duration, server: Duration) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let value = format!("shadowcat;dur={:.3}, upstream;dur={:.3}", millis(inside), millis(server));
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.append(SERVER_TIMING, value);
    }
}

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
}
