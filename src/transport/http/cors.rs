//! What browsers need to be told before their pages may speak MCP to another origin (Fetch, "CORS protocol").
//!
//! Which origin may is the guard's decision; here it is only put into headers. No credentials are allowed:
//! MCP's are headers of their own, never cookies.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
    request::Parts,
};

use super::{Body, Response};

/// Whether a browser asks if its page may ask.
#[must_use]
pub fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of an origin that is allowed, but for what [`tell`] adds.
#[must_use]
pub fn preflight(head: &Parts) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    if let Ok(allowed) = allowed_headers(&head.headers).parse() {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    let asks_for_us = |name: &HeaderName| head.headers.get(name).is_some_and(|value| value == "true");
    if asks_for_us(&REQUEST_PRIVATE_NETWORK) {
        // A public page asks for a private address; that its origin is allowed is the consent it takes.
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers.insert(VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
    response
}

/// Lets the pages of `origin` see the response. Over what an upstream may have said of its own origin.
pub fn tell(origin: HeaderValue, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    let has_it = headers.get_all(VARY).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("origin")))
    });
    if !has_it {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

/// Those that MCP names, and those of parameters that were asked for: their names are the tools' own
/// (MCP 2026-07-28, Transports, "Custom Headers").
fn allowed_headers(asked: &HeaderMap) -> String {
    let mut allowed = ALLOWED.to_owned();
    let asked = asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok());
    for name in asked.flat_map(|names| names.split(',')) {
        let name = HeaderName::try_from(name.trim());
        if let Some(name) = name.ok().filter(|name| name.as_str().starts_with(PARAM)) {
            allowed.push_str(", ");
            allowed.push_str(name.as_str());
        }
    }
    allowed
}

const ALLOWED: &str = "content-type, authorization, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, \
                       last-event-id";
const PARAM: &str = "mcp-param-";
const EXPOSED: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate";
/// Seconds for which a browser need not ask again; a changed configuration is noticed after that.
const MAX_AGE: &str = "600";

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(headers: &str) -> Parts {
        let request = Request::options("/mcp").header("origin", "http://localhost:1");
        let request = request.header("access-control-request-method", "POST");
        request.header("access-control-request-headers", headers).body(()).unwrap().into_parts().0
    }

    #[test]
    fn preflight_allows_what_mcp_needs_and_parameters_that_were_asked_for() {
        let head = asked("content-type,Mcp-Param-Region, mcp-param-b@d, x-other");
        assert!(is_preflight(&head));
        let response = preflight(&head);
        let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap();
        for name in ["content-type", "authorization", "mcp-session-id", "last-event-id", "mcp-param-region"] {
            assert!(allowed.split(", ").any(|allowed| allowed == name), "no {name} in {allowed}");
        }
        assert!(!allowed.contains("x-other") && !allowed.contains("@d"), "{allowed}");
        assert_eq!(response.headers()["access-control-allow-methods"], "GET, POST, DELETE");
        assert_eq!(response.status(), 204);
    }

    #[test]
    fn origin_is_told_once() {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert("vary", HeaderValue::from_static("Accept, origin"));
        response.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("http://upstream"));
        tell(HeaderValue::from_static("http://page"), &mut response);
        assert_eq!(response.headers().get_all("vary").iter().count(), 1);
        assert_eq!(response.headers()["access-control-allow-origin"], "http://page");
    }
}
