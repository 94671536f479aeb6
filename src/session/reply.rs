//! Messages of our own: the JSON-RPC error in place of an answer that will not come.
//!
//! Written straight into the buffer that leaves; the id is the requester's own bytes. `data` says that it
//! was the proxy who spoke, why, and the numbers. The one table of codes and HTTP statuses is
//! `Reason::answer`.
//!
//! Codes: JSON-RPC 2.0 "Error object"; MCP 2026-07-28 keeps −32000…−32099 for itself, so there lie only the
//! two of its own that a proxy has to give (rule M2).

mod reason;

use bytes::{BufMut, BytesMut};
use http::StatusCode;
use serde::Serialize;
use shadowcat_codecs::envelope::Envelope;

use super::{RequestId, revision::Era};
pub use reason::Reason;

/// An error response to one request, or the body of an HTTP error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    id: Option<RequestId>,
    reason: Reason,
}

impl Reply {
    /// The answer to the request with this id.
    #[must_use]
    pub fn new(id: RequestId, reason: Reason) -> Self {
        Self { id: Some(id), reason }
    }

    /// The body of an HTTP error for what has no id, or none that could be read: without the member, never
    /// null (rule F6). On a stream of lines such a message is not answered at all (rule E7).
    #[must_use]
    pub fn without_id(reason: Reason) -> Self {
        Self { id: None, reason }
    }

    /// Whether it answers a request, by its id.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Appends the message to `buf`, without a line end.
    pub fn write(&self, buf: &mut BytesMut) {
        #[derive(Serialize)]
        struct Data<'a> {
            source: &'a str,
            #[serde(flatten)]
            reason: &'a Reason,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
        }
        buf.put_slice(b"{\"jsonrpc\":\"2.0\",");
        if let Some(id) = &self.id {
            buf.put_slice(b"\"id\":");
            buf.put_slice(id.as_bytes());
            buf.put_slice(b",");
        }
        buf.put_slice(b"\"error\":{\"code\":");
        write_json(buf, &self.reason.code());
        buf.put_slice(b",\"message\":");
        write_json(buf, &self.reason.to_string());
        buf.put_slice(b",\"data\":");
        write_json(buf, &Data { source: "shadowcat", reason: &self.reason, hint: self.reason.hint() });
        buf.put_slice(b"}}");
    }
}

impl Reason {
    /// The JSON-RPC error code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.answer().0
    }

    /// The HTTP status, where the answer is an HTTP response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer().1
    }

    /// For a 503: when to try again, in seconds, as `Retry-After` says it.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::TooManySessions { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The one table of codes and statuses (rules M2, G11, H2, H3, S2, V6).
    fn answer(&self) -> (i32, StatusCode) {
        match self {
            Self::InvalidJson { .. } => (PARSE_ERROR, StatusCode::BAD_REQUEST),
            Self::InvalidRequest { .. } | Self::Refused { .. } | Self::IdTooLong { .. } | Self::SessionRequired => {
                (INVALID_REQUEST, StatusCode::BAD_REQUEST)
            }
            Self::MissingMeta { .. } | Self::InvalidTool { .. } => (INVALID_PARAMS, StatusCode::BAD_REQUEST),
            Self::MethodNotFound { .. } => (METHOD_NOT_FOUND, StatusCode::NOT_FOUND),
            Self::HeaderMismatch(_) => (HEADER_MISMATCH, StatusCode::BAD_REQUEST),
            Self::UnsupportedVersion { .. } => (UNSUPPORTED_PROTOCOL_VERSION, StatusCode::BAD_REQUEST),
            Self::Unauthorized => (INVALID_REQUEST, StatusCode::UNAUTHORIZED),
            Self::Forbidden { .. } => (INVALID_REQUEST, StatusCode::FORBIDDEN),
            Self::SessionNotFound | Self::SessionEnded => (INVALID_REQUEST, StatusCode::NOT_FOUND),
            Self::MethodNotAllowed { .. } => (INVALID_REQUEST, StatusCode::METHOD_NOT_ALLOWED),
            Self::NotAcceptable { .. } => (INVALID_REQUEST, StatusCode::NOT_ACCEPTABLE),
            Self::MessageTooLarge { .. } => (INVALID_REQUEST, StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMedia { .. } | Self::UnsupportedEncoding { .. } => {
                (INVALID_REQUEST, StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::AnswerRefused { .. }
            | Self::AnswerTooLarge { .. }
            | Self::ServerExited { .. }
            | Self::RestartFailed { .. }
            | Self::ServerUnreachable { .. }
            | Self::StreamEnded
            | Self::UpstreamStatus { .. } => (INTERNAL_ERROR, StatusCode::BAD_GATEWAY),
            Self::Overloaded { .. }
            | Self::TooManyPending { .. }
            | Self::TooManyStreams { .. }
            | Self::NoListener { .. }
            | Self::HoldFull { .. }
            | Self::TooManySessions { .. } => (INTERNAL_ERROR, StatusCode::SERVICE_UNAVAILABLE),
            Self::Timeout(_) | Self::StartTimeout { .. } => (INTERNAL_ERROR, StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

/// The HTTP status for an error a server without HTTP gave: by its code in the modern era, which knows
/// statuses for a few (rule M2); 200 for all others, and for all in the legacy era (rule Q5).
///
/// Invalid parameters have a status of their own only for a request that `lacks_meta` it must have.
#[must_use]
pub fn status_of_error(era: Era, lacks_meta: bool, envelope: &Envelope, frame: &[u8]) -> StatusCode {
    let code = envelope.error_code().and_then(|span| std::str::from_utf8(span.of(frame)).ok());
    match (era, code.and_then(|code| code.parse().ok())) {
        (Era::Modern, Some(METHOD_NOT_FOUND)) => StatusCode::NOT_FOUND,
        (Era::Modern, Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_PROTOCOL_VERSION)) => {
            StatusCode::BAD_REQUEST
        }
        (Era::Modern, Some(INVALID_PARAMS)) if lacks_meta => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

fn write_json(buf: &mut BytesMut, value: &impl Serialize) {
    // Numbers, strings and structs of them always serialize, and a growing buffer takes every write.
    let written = serde_json::to_writer(buf.writer(), value);
    debug_assert!(written.is_ok(), "{written:?}");
}

// JSON-RPC 2.0, "Error object".
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;
// MCP 2026-07-28, "Error Codes".
const HEADER_MISMATCH: i32 = -32020;
const MISSING_CAPABILITY: i32 = -32021;
const UNSUPPORTED_PROTOCOL_VERSION: i32 = -32022;

#[cfg(test)]
mod tests;
