//! What a client is told by the listener itself, where no link has the request: what, and the number.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use serde_json::{Value, json};

use super::super::{Body, Response};

/// A request that is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// A JSON-RPC error without an id: nobody has read one.
    body: Value,
}

impl Refusal {
    /// The request's headers took longer than `limit`.
    pub(super) fn headers_too_late(limit: Duration) -> Self {
        Self::too_late("the request's headers", limit)
    }

    /// The request's body paused for longer than `limit`.
    pub(super) fn body_too_late(limit: Duration) -> Self {
        Self::too_late("a pause within the request's body", limit)
    }

    /// There is no room for the request's headers within `total` bytes.
    pub(super) fn no_room(total: usize) -> Self {
        let what = format!("no room for the request's headers: the memory budget of {total} bytes is used up");
        let data = json!({"source": "shadowcat", "reason": "overloaded", "what": what, "retryAfter": RETRY_AFTER});
        Self::new(StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR, &what, &data)
    }

    fn too_late(what: &str, limit: Duration) -> Self {
        let after = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let data = json!({"source": "shadowcat", "reason": "timeout", "what": what, "afterMs": after});
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST, &format!("{what} took longer than {after} ms"), &data)
    }

    fn new(status: StatusCode, code: i32, message: &str, data: &Value) -> Self {
        Self { status, body: json!({"jsonrpc": "2.0", "error": {"code": code, "message": message, "data": data}}) }
    }

    /// As the response to a request. Nothing can follow it on the same connection: where the next request would begin
    /// is not known.
    pub(super) fn response(self, version: Version) -> Response {
        let mut response = Response::new(Body::from(Bytes::from(self.body.to_string())));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        if version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// As bytes, before there is a request that could be responded to.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let (status, body) = (self.status, self.body.to_string());
        let again = if status == StatusCode::SERVICE_UNAVAILABLE {
            format!("retry-after: {RETRY_AFTER}\r\n")
        } else {
            String::new()
        };
        let len = body.len();
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\n{again}content-type: {JSON}\r\ncontent-length: {len}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

const JSON: &str = "application/json";
/// In seconds.
const RETRY_AFTER: u32 = 5;
/// JSON-RPC 2.0, "Error object".
const INVALID_REQUEST: i32 = -32600;
const INTERNAL_ERROR: i32 = -32603;
