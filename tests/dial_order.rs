//! `shadowcat proxy URL`: what refers to a request is not there before it, whatever connections they take.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use std::{io::Write as _, thread};

use http::{Broken, Conn, Head, Upstream};
use support::{Launch, Session};

const CANCEL: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;

fn start() -> (Upstream, Session) {
    let upstream = Upstream::start();
    let session = Launch::new(["proxy".to_owned(), format!("http://{}/mcp", upstream.address)]).start();
    (upstream, session)
}

/// A call that no socket takes whole, and its cancellation; read by the proxy, but not by the server.
fn send_long_call_and_cancel(upstream: &Upstream, session: &mut Session, meta: &str) -> (String, Conn, Head) {
    let text = "x".repeat(24 << 20);
    let call = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"x","params":{{"text":"{text}"{meta}}}}}"#);
    let mut stdin = session.stdin.take().unwrap();
    let line = format!("{call}\n");
    let sending = thread::spawn(move || stdin.write_all(line.as_bytes()).map(|()| stdin));
    let mut conn = upstream.accept();
    let head = conn.head();
    session.stdin = Some(sending.join().unwrap().unwrap());
    session.send(format!("{CANCEL}\n"));
    (call, conn, head)
}

#[test]
fn a_cancellation_does_not_overtake_its_call() {
    let (upstream, mut session) = start();
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}\n");
    let mut other = upstream.accept();
    let head = other.head();
    other.body(&head).unwrap();
    other.answer_events();
    let (call, mut conn, head) = send_long_call_and_cancel(&upstream, &mut session, "");
    // Whatever crosses meanwhile shows that the proxy is at it, and does not wait for room.
    for round in 0..20 {
        let progress = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{round}}}"#);
        other.chunk(format!("data: {progress}\n\n"));
        assert_eq!(session.stdout.line(), progress);
        assert_eq!(upstream.waiting(), 0, "the cancellation is here, the call is not");
    }
    assert!(conn.body(&head) == Ok(call.into_bytes()), "another body");
    let mut cancelling = upstream.accept();
    let head = cancelling.head();
    assert_eq!(cancelling.body(&head), Ok(CANCEL.into()));
    cancelling.send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    other.chunk("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n");
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let ended = session.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
}

#[test]
fn a_call_that_was_answered_before_it_was_read_holds_nothing_up() {
    let (upstream, mut session) = start();
    let (_, mut conn, _) = send_long_call_and_cancel(&upstream, &mut session, "");
    let answer = r#"{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"too long"}}"#;
    conn.answer("application/json", answer);
    assert_eq!(session.stdout.line(), answer);
    let mut cancelling = upstream.accept();
    let head = cancelling.head();
    assert_eq!(cancelling.body(&head), Ok(CANCEL.into()));
    cancelling.send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert_eq!(session.end().code, Some(0));
}

#[test]
fn a_modern_call_is_cut_off_in_the_middle_of_its_way() {
    let (upstream, mut session) = start();
    let meta = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let (_, mut conn, head) = send_long_call_and_cancel(&upstream, &mut session, meta);
    assert_eq!(conn.body(&head), Err(Broken));
    assert_eq!(session.end().code, Some(0));
    assert_eq!(upstream.waiting(), 0);
}
