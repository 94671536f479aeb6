//! A legacy session of `shadowcat proxy URL`, between a client on stdio and a server that the test plays.

use super::{
    support::{Launch, Session},
    upstream::{self, Upstream},
};

pub(crate) const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
pub(crate) const INITIALIZE_RESULT: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
pub(crate) const SESSION: &str = "content-type: application/json\r\nMCP-Session-Id: one\r\n";
pub(crate) const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

pub(crate) fn call(id: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#)
}

pub(crate) fn modern(id: impl std::fmt::Display, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{META}}}}}"#)
}

pub(crate) fn result(id: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

pub(crate) fn start(options: &[&str]) -> (Upstream, Session) {
    let upstream = Upstream::start();
    let session = Launch::new([&["proxy"], options, &[&upstream.url]].concat()).start();
    (upstream, session)
}

/// A session behind its handshake, of a server with or without a listening stream.
pub(crate) fn opened(options: &[&str]) -> (Upstream, Session) {
    let (upstream, session, listening) = listening(options);
    listening.0.status(405);
    (upstream, session)
}

/// The request for a listening stream.
pub(crate) struct Listening(pub(crate) upstream::Asked);

pub(crate) fn listening(options: &[&str]) -> (Upstream, Session, Listening) {
    let (upstream, mut session) = start(options);
    session.send(format!("{INITIALIZE}\n"));
    upstream.post().answer(200, SESSION, INITIALIZE_RESULT);
    assert_eq!(session.stdout.line(), INITIALIZE_RESULT);
    session.send(format!("{INITIALIZED}\n"));
    upstream.post().accept();
    let get = upstream.get();
    assert_eq!(get.header("accept"), Some("text/event-stream"));
    assert_eq!(get.header("mcp-session-id"), Some("one"));
    (upstream, session, Listening(get))
}

/// Ends a session in order.
#[track_caller]
pub(crate) fn end(upstream: &Upstream, mut session: Session) {
    session.stdin = None;
    let delete = upstream.delete();
    assert_eq!(delete.header("mcp-session-id"), Some("one"));
    delete.status(405);
    let ended = session.wait();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    upstream.assert_idle();
}

pub(crate) fn error(line: &str) -> serde_json::Value {
    let message: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(message["error"].is_object(), "{line}");
    message
}

/// Asserts the error we give in place of an answer, by its reason.
#[track_caller]
pub(crate) fn assert_reason(line: &str, id: i32, reason: &str) {
    let message = error(line);
    assert_eq!((&message["id"], &message["error"]["data"]["reason"]), (&id.into(), &reason.into()), "{line}");
}
