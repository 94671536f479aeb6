//! An error of ours as the answer to an HTTP request: a status, what the status asks for, and the JSON-RPC error.

use http::{HeaderValue, header};

use crate::{
    budget::Budget,
    session::{Reason, Reply},
    transport::http::{Body, Response},
};

/// The answer. RFC 9110 asks for `Allow` with 405 (15.5.6); `Retry-After` says when there may be room again.
pub(super) fn http_error(reply: &Reply, budget: &Budget) -> Response {
    let reason = reply.reason();
    let message = budget.written(|message| reply.write(message));
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Reason::MethodNotAllowed { allowed } = reason {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(seconds) = reason.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
