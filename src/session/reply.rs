//! Messages of our own: the JSON-RPC error in place of an answer that will not come.
//!
//! Written straight into the buffer that leaves; the id is the requester's own bytes. `data` says that it
//! was the proxy who spoke, why, and the numbers.
//!
//! Codes: JSON-RPC 2.0 "Error object"; MCP 2026-07-28 keeps −32000…−32099 for itself, so none of ours lies
//! there.

use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::RequestId;

/// An error response to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    id: RequestId,
    reason: Reason,
}

/// Why a request gets an error from us. Its fields are what `error.data` shows, beside `"reason"` in
/// snake case and `"source":"shadowcat"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Reason {
    /// A message is longer than the limit.
    MessageTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Offset of the message in the stream it came by.
        at: u64,
    },
    /// A message is JSON-RPC, but not one we can pass on without guessing.
    Refused {
        /// What is wrong with it.
        what: String,
    },
    /// Too many requests are in flight.
    TooManyPending {
        /// The limit.
        limit: usize,
    },
    /// The server's process ended.
    ServerExited {
        /// Its exit code, if it exited by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal that ended it.
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
}

impl Reply {
    pub(super) fn new(id: RequestId, reason: Reason) -> Self {
        Self { id, reason }
    }

    /// Appends the message to `buf`, without a line end.
    pub fn write(&self, buf: &mut BytesMut) {
        #[derive(Serialize)]
        struct Data<'a> {
            source: &'a str,
            #[serde(flatten)]
            reason: &'a Reason,
        }
        buf.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
        buf.put_slice(self.id.as_bytes());
        buf.put_slice(b",\"error\":{\"code\":");
        write_json(buf, &self.reason.code());
        buf.put_slice(b",\"message\":");
        write_json(buf, &self.reason.to_string());
        buf.put_slice(b",\"data\":");
        write_json(buf, &Data { source: "shadowcat", reason: &self.reason });
        buf.put_slice(b"}}");
    }
}

impl Reason {
    fn code(&self) -> i32 {
        match self {
            Self::MessageTooLarge { .. } | Self::Refused { .. } => INVALID_REQUEST,
            Self::TooManyPending { .. } | Self::ServerExited { .. } => INTERNAL_ERROR,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageTooLarge { limit, at } => {
                write!(f, "message at byte {at} is longer than the limit of {limit} bytes")
            }
            Self::Refused { what } => write!(f, "message refused: {what}"),
            Self::TooManyPending { limit } => write!(f, "more than {limit} requests are waiting for an answer"),
            Self::ServerExited { exit_code: Some(code), .. } => {
                write!(f, "the server exited with status {code} before it answered")
            }
            Self::ServerExited { signal: Some(signal), .. } => {
                write!(f, "the server was ended by signal {signal} before it answered")
            }
            Self::ServerExited { .. } => f.write_str("the server ended before it answered"),
        }
    }
}

fn write_json(buf: &mut BytesMut, value: &impl Serialize) {
    // Numbers, strings and structs of them always serialize, and a growing buffer takes every write.
    let written = serde_json::to_writer(buf.writer(), value);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// JSON-RPC 2.0: the JSON sent is not a valid request object.
const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC 2.0: internal error.
const INTERNAL_ERROR: i32 = -32603;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(id: &[u8], reason: Reason) -> serde_json::Value {
        let mut buf = BytesMut::new();
        Reply::new(RequestId::new(id), reason).write(&mut buf);
        serde_json::from_slice(&buf).unwrap()
    }

    #[test]
    fn reply_has_the_requesters_id_and_the_numbers() {
        assert_eq!(
            written(b"\"a\\u0062\"", Reason::ServerExited { exit_code: Some(3), signal: None }),
            serde_json::json!({"jsonrpc": "2.0", "id": "ab", "error": {
                "code": -32603, "message": "the server exited with status 3 before it answered",
                "data": {"source": "shadowcat", "reason": "server_exited", "exitCode": 3},
            }})
        );
        let too_large = written(b"1", Reason::MessageTooLarge { limit: 4, at: 9 });
        assert_eq!(too_large["error"]["data"]["limit"], 4);
        assert_eq!(too_large["error"]["data"]["at"], 9);
    }

    #[test]
    fn no_code_is_in_the_range_that_is_not_ours() {
        for reason in [
            Reason::MessageTooLarge { limit: 1, at: 0 },
            Reason::Refused { what: "x".into() },
            Reason::TooManyPending { limit: 1 },
            Reason::ServerExited { exit_code: None, signal: Some(9) },
        ] {
            assert!(!(-32099..=-32000).contains(&reason.code()), "{reason}");
        }
    }
}
