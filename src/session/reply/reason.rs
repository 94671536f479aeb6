//! [`Reason`]: all that we ever answer instead of passing something on, and in which words.
//!
//! Which code and status each goes with is in the table beside [`Reply`](super::Reply).

use std::fmt;

use serde::Serialize;

use crate::session::{Timeout, mirror::Mismatch};

/// Why a request gets an error from us. Its fields are what `error.data` shows, beside `"reason"` in
/// snake case and `"source":"shadowcat"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Reason {
    /// The answer to a request cannot be passed on without guessing. Whoever answered is to blame.
    #[serde(rename = "refused")]
    AnswerRefused {
        /// What is wrong with it.
        what: String,
    },
    /// The answer to a request is longer than the limit. Whoever answered is to blame.
    #[serde(rename = "message_too_large")]
    AnswerTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Offset of the answer in the stream it came by.
        at: u64,
        /// Its length in bytes, where that was declared before it.
        #[serde(skip_serializing_if = "Option::is_none")]
        declared: Option<u64>,
    },
    /// The body or a header is encoded in a way we do not read.
    UnsupportedEncoding {
        /// What it says.
        found: String,
        /// What we read.
        supported: String,
    },
    /// The request's `Content-Type` is not JSON.
    UnsupportedMedia {
        /// What it says; empty if it says nothing.
        found: String,
    },
    /// The `Origin` or `Host` of the request is not one we serve (rules S1, S2).
    Forbidden {
        /// Which header.
        header: &'static str,
        /// What it says.
        found: String,
    },
    /// A mirrored header does not say what the body says (rule M2).
    HeaderMismatch(#[serde(serialize_with = "mismatch")] Box<Mismatch>),
    /// A body or frame is no JSON.
    InvalidJson {
        /// What is wrong with it.
        what: String,
        /// Where, from its first byte.
        at: u64,
    },
    /// A call of a tool whose `x-mcp-header` marks break the rules: whoever speaks HTTP to its server must reject
    /// it (MCP 2026-07-28, Streamable HTTP, "Schema Extension").
    InvalidTool {
        /// The tool, shortened.
        tool: String,
        /// Which rule.
        what: &'static str,
    },
    /// A message that must not be sent here: a response or a batch where there are none, `initialize` inside
    /// a batch (rules F8, H4).
    InvalidRequest {
        /// What is wrong with it.
        what: String,
    },
    /// A message is longer than the limit.
    MessageTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Offset of the message in the stream it came by.
        at: u64,
        /// Its length in bytes, where that was declared before it.
        #[serde(skip_serializing_if = "Option::is_none")]
        declared: Option<u64>,
    },
    /// A method that the revision of the request does not have (rule M2).
    MethodNotFound {
        /// Which.
        method: &'static str,
    },
    /// The endpoint does not know this HTTP method (rules H2, G1, G12).
    MethodNotAllowed {
        /// Those it knows, as the `Allow` header lists them.
        allowed: &'static str,
    },
    /// A request of the modern era lacks a field of `_meta` (rule M2).
    MissingMeta {
        /// The field.
        field: &'static str,
    },
    /// The request's `Accept` does not list both types (rule H3).
    NotAcceptable {
        /// What it has to list.
        required: &'static str,
    },
    /// There is no room for the request now.
    Overloaded {
        /// What is used up.
        what: String,
        /// When to try again, in seconds.
        retry_after: u32,
    },
    /// A message is JSON-RPC, but not one we can pass on without guessing.
    Refused {
        /// What is wrong with it.
        what: String,
    },
    /// A request's id or progress token is longer than what is remembered of it.
    IdTooLong {
        /// The limit, in bytes, quotes included.
        limit: usize,
        /// Its length.
        len: usize,
    },
    /// The server's process ended.
    ServerExited {
        /// Its exit code, if it exited by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal that ended it.
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// What it said last on its stderr, oldest first: the server's words, not ours.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        stderr: Vec<String>,
    },
    /// The server was started again after a crash, but the session cannot go on with it.
    RestartFailed {
        /// Why not.
        what: String,
    },
    /// No connection to the server came about, or it broke before an answer began.
    ServerUnreachable {
        /// What went wrong.
        what: String,
        /// The server's URL, without what is secret in it.
        url: String,
    },
    /// The session has ended, or never was (rule G11: 404, and the client starts anew).
    SessionNotFound,
    /// The request needs a session and names none (rule G11).
    SessionRequired,
    /// The server's answer stream ended without the answer (rule H7).
    StreamEnded,
    /// Something took longer than it may.
    Timeout(Timeout),
    /// The server's process was not there in time, or did not answer `initialize` in time.
    #[serde(rename = "timeout")]
    StartTimeout {
        /// What was waited for.
        what: &'static str,
        /// The limit, in milliseconds.
        after_ms: u64,
        /// What it said last on its stderr, oldest first: the server's words, not ours.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        stderr: Vec<String>,
    },
    /// Too many requests are in flight.
    TooManyPending {
        /// The limit.
        limit: usize,
    },
    /// Too many sessions are open.
    TooManySessions {
        /// The limit.
        limit: usize,
        /// When to try again, in seconds.
        retry_after: u32,
    },
    /// The request lacks the credentials this proxy asks for (rule S4).
    Unauthorized,
    /// The server speaks HTTP, but what it said is no answer.
    UpstreamStatus {
        /// Its HTTP status.
        status: u16,
        /// What it said, shortened, or what is wrong with it.
        what: String,
    },
    /// The version header or `_meta` names a version that is not served (rule V6).
    UnsupportedVersion {
        /// The one asked for.
        requested: String,
        /// Those that are served.
        supported: Vec<String>,
    },
    /// The session ended.
    SessionEnded,
    /// The client has too many streams open.
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// The client has no stream open that could carry a request of the server.
    NoListener {
        /// How long one was waited for, in milliseconds.
        waited_ms: u64,
    },
    /// Too many messages wait for the client to open a stream.
    HoldFull {
        /// Most messages.
        max_count: usize,
        /// Most bytes.
        max_bytes: usize,
    },
}

impl Reason {
    /// What is said to whoever asked, where the message that cannot be passed on is the answer: nothing was wrong with
    /// the request.
    #[must_use]
    pub fn of_answer(self) -> Self {
        match self {
            Self::MessageTooLarge { limit, at, declared } => Self::AnswerTooLarge { limit, at, declared },
            Self::Refused { what } => Self::AnswerRefused { what },
            other => other,
        }
    }

    /// What whoever started this proxy can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UpstreamStatus { status: 401, .. } => Some(
                "the server wants an Authorization header: start the proxy with --bearer-env VARIABLE, or with --header 'Authorization: …'",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnswerRefused { what } => write!(f, "the answer cannot be passed on: {what}"),
            Self::AnswerTooLarge { limit, at, declared } => {
                write!(f, "the answer at byte {at} is longer than the limit of {limit} bytes")?;
                write_declared(f, *declared)
            }
            Self::UnsupportedEncoding { found, supported } => {
                write!(f, "encoding {found:?} is not read here, only {supported}")
            }
            Self::UnsupportedMedia { found } => write!(f, "Content-Type is {found:?}, not application/json"),
            Self::Forbidden { header, found } => write!(f, "{header} {found:?} is not served here"),
            Self::HeaderMismatch(mismatch) => mismatch.fmt(f),
            Self::InvalidJson { what, at } => write!(f, "not JSON at byte {at}: {what}"),
            Self::InvalidTool { tool, what } => write!(f, "the tool {tool:?} cannot be called over HTTP: {what}"),
            Self::InvalidRequest { what } => write!(f, "invalid request: {what}"),
            Self::MessageTooLarge { limit, at, declared } => {
                write!(f, "message at byte {at} is longer than the limit of {limit} bytes")?;
                write_declared(f, *declared)
            }
            Self::MethodNotFound { method } => write!(f, "this revision has no method {method:?}"),
            Self::MethodNotAllowed { allowed } => write!(f, "this endpoint knows only {allowed}"),
            Self::MissingMeta { field } => write!(f, "params._meta lacks {field:?}"),
            Self::NotAcceptable { required } => write!(f, "Accept has to list {required}"),
            Self::Overloaded { what, retry_after } => write!(f, "no room: {what}; try again in {retry_after} s"),
            Self::IdTooLong { limit, len } => {
                write!(f, "an id or progress token has {len} bytes, more than the limit of {limit} bytes")
            }
            Self::Refused { what } => write!(f, "message refused: {what}"),
            Self::ServerExited { exit_code, signal, stderr } => {
                match (exit_code, signal) {
                    (Some(code), _) => write!(f, "the server exited with status {code} before it answered"),
                    (_, Some(signal)) => write!(f, "the server was ended by signal {signal} before it answered"),
                    _ => f.write_str("the server ended before it answered"),
                }?;
                write_last(f, stderr)
            }
            Self::RestartFailed { what } => write!(f, "the server crashed and was started again, but {what}"),
            Self::ServerUnreachable { what, url } => write!(f, "no answer from the server at {url}: {what}"),
            Self::SessionNotFound => f.write_str("there is no such session, or it has ended: start with initialize"),
            Self::SessionRequired => f.write_str("the request names no session: Mcp-Session-Id is missing"),
            Self::StreamEnded => f.write_str("the server's stream ended before it answered"),
            Self::Timeout(timeout) => timeout.fmt(f),
            Self::StartTimeout { what, after_ms, stderr } => {
                write!(f, "{what} took longer than {after_ms} ms")?;
                write_last(f, stderr)
            }
            Self::TooManyPending { limit } => write!(f, "more than {limit} requests are waiting for an answer"),
            Self::TooManySessions { limit, retry_after } => {
                write!(f, "more than {limit} sessions; try again in {retry_after} s")
            }
            Self::Unauthorized => f.write_str("the request lacks valid credentials for this proxy"),
            Self::UpstreamStatus { status, what } => write!(f, "the server answered with HTTP status {status}: {what}"),
            Self::UnsupportedVersion { requested, supported } => {
                write!(f, "version {requested:?} is not served here, only {}", supported.join(", "))
            }
            Self::SessionEnded => f.write_str("the session has ended"),
            Self::TooManyStreams { limit } => write!(f, "more than {limit} streams are open for the server's messages"),
            Self::NoListener { waited_ms } => {
                write!(f, "the client opened no stream for this request within {waited_ms} ms")
            }
            Self::HoldFull { max_count, max_bytes } => {
                write!(f, "more than {max_count} messages or {max_bytes} bytes wait for the client to open a stream")
            }
        }
    }
}

/// How long something says that it is.
fn write_declared(f: &mut fmt::Formatter<'_>, declared: Option<u64>) -> fmt::Result {
    declared.map_or(Ok(()), |declared| write!(f, ": {declared} bytes are declared"))
}

/// The last line that the server said, which most often says why. The others are in `error.data`.
fn write_last(f: &mut fmt::Formatter<'_>, stderr: &[String]) -> fmt::Result {
    stderr.last().map_or(Ok(()), |last| write!(f, "; its stderr ends with {last:?}"))
}

/// The fields of a [`Mismatch`] in `error.data`.
fn mismatch<S: serde::Serializer>(mismatch: &Mismatch, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields<'a> {
        header: &'a str,
        what: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expected: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<&'a str>,
    }
    let (header, what) = (mismatch.header().as_str(), mismatch.what());
    Fields { header, what, expected: mismatch.expected(), found: mismatch.found() }.serialize(serializer)
}
