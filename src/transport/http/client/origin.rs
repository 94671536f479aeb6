//! Origins: scheme, host and port of a URL. Credentials never leave theirs.

use http::{HeaderValue, Uri, uri::Authority};

/// Whether both are of one scheme, host and port.
#[must_use]
pub fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let is_one_text = |(one, other): (&Authority, &Authority)| std::ptr::eq(one.as_str(), other.as_str());
    // A clone, most of the time.
    if one.authority().zip(other.authority()).is_some_and(is_one_text) || one.authority() == other.authority() {
        return one.scheme() == other.scheme();
    }
    let port = |url: &Uri| url.port_u16().or_else(|| default_port(url));
    let host = |url: &Uri| url.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// What a request to the URL's origin says as `Host`: the default port is left out, and so is who asks.
pub(super) fn host(url: &Uri) -> HeaderValue {
    let name = url.host().unwrap_or_default();
    let host = match url.port_u16() {
        Some(port) if Some(port) != default_port(url) => HeaderValue::try_from(format!("{name}:{port}")),
        _ => HeaderValue::try_from(name),
    };
    // A host of a URI is made of what a header may hold.
    host.unwrap_or_else(|_| HeaderValue::from_static(""))
}

pub(super) fn default_port(url: &Uri) -> Option<u16> {
    match url.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |one: &str, other: &str| is_same_origin(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(same("https://A.example/mcp", "https://a.example:443/x"));
        assert!(same("http://[::1]:8080/", "http://[::1]:8080/mcp"));
        assert!(!same("https://a.example/", "http://a.example/"));
        assert!(!same("https://a.example/", "https://a.example:8443/"));
        assert!(!same("https://a.example/", "https://b.example/"));
    }
}
