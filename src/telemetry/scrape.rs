//! Who asks for the counters over HTTP, and what is answered.
//!
//! Whether somebody may ask is the guard's affair, before this; which path or listener it is, the caller's.

use http::{HeaderValue, Method, StatusCode, header};

use super::metrics::CONTENT_TYPE;
use crate::{
    resources::Resources,
    transport::http::{Body, Response},
};

/// The path of a listener that has nothing else.
pub const PATH: &str = "/metrics";

/// Answers a request with everything that is counted.
#[must_use]
pub fn answer(method: &Method, resources: &Resources) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Body::from(bytes::Bytes::from(resources.exposed())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a listener of its own says at every other path.
#[must_use]
pub fn nothing_here() -> Response {
    let mut response = Response::new(Body::from(bytes::Bytes::from_static(b"nothing here but /metrics\n")));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
