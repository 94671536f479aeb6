//! Which headers cross a relay: all but those of one connection, and the few it cannot keep its promises with.
//!
//! `Forwarded` and `X-Forwarded-*` pass as they come, and none is added: whoever put them there knows whom the
//! upstream trusts, we do not. `Origin` passes too: our own guard has seen it, and the upstream's may decide.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Takes out of a request what the upstream is not to see.
pub(super) fn clean_request(headers: &mut HeaderMap) {
    drop_connection_headers(headers, |name| {
        // An encoded answer could not be looked into (rule E14). Our own listener has told the client to go on;
        // the body is sent as it comes. The last is for the proxy asked, and that is we.
        matches!(name, "accept-encoding" | "expect" | "proxy-authorization")
    });
}

/// Takes out of an answer what belongs to the upstream's connection.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    drop_connection_headers(headers, |name| name == "proxy-authenticate");
}

/// The media type, without parameters (rule E16).
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// What the body is encoded with, if it is.
pub(super) fn content_encoding(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_ENCODING)?;
    let value = value.to_str().unwrap_or("unreadable").trim();
    (!value.is_empty() && !value.eq_ignore_ascii_case("identity")).then_some(value)
}

/// Removes what belongs to one connection only (RFC 9110, 7.6.1), and what is dropped beside. One pass over the names
/// that are there: each look-up of one that is not would cost a hash.
fn drop_connection_headers(headers: &mut HeaderMap, is_dropped: impl Fn(&str) -> bool) {
    let mut dropped: Vec<HeaderName> =
        headers.keys().filter(|name| is_of_connection(name.as_str()) || is_dropped(name.as_str())).cloned().collect();
    if dropped.contains(&header::CONNECTION) {
        let named = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !KEPT.contains(name));
        dropped.extend(named);
    }
    for name in &dropped {
        headers.remove(name);
    }
}

fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

/// What nobody can have taken out by naming it in `Connection`: how long a body is, and who asks.
const KEPT: [HeaderName; 4] = [header::AUTHORIZATION, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::HOST];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_takes_out_what_it_names_but_not_what_says_how_long_a_body_is() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-b", "2"), ("content-length", "5"), ("x-kept", "3"), ("te", "trailers")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append(header::CONNECTION, HeaderValue::from_static("close, X-A"));
        headers.append(header::CONNECTION, HeaderValue::from_static("x-b , content-length"));
        clean_request(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-kept"]);
    }

    #[test]
    fn media_type_is_what_stands_before_its_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(media_type(&headers), "");
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(" Text/Event-Stream ; charset=utf-8"));
        assert_eq!(media_type(&headers), "Text/Event-Stream");
    }
}
