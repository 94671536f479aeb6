//! HTTP+SSE of 2024-11-05 in front of a child: one stream of events is the session, and whatever is posted is
//! answered there. Real processes, real sockets.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/legacy.rs"]
mod legacy;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use client::{Request, Response};
use legacy::{INITIALIZED, initialize};
use mux::{Mux, call, done, echoed, progress, result, run};
use support::eventually;

/// A session: its stream, and where to post.
struct Events {
    stream: Response,
    messages: String,
}

impl Events {
    fn open(mux: &Mux) -> Self {
        let mut stream = mux.send(&Request::get().at("/sse"));
        assert_eq!(stream.status, 200);
        let first = stream.event().unwrap();
        assert_eq!(first.name.as_deref(), Some("endpoint"), "Rule L2");
        Self { stream, messages: first.data }
    }

    /// Posts a message as clients of that time did.
    fn post(&self, mux: &Mux, body: impl Into<Vec<u8>>) {
        let request = Request::post(body).without("Accept").at(&self.messages);
        let response = mux.send(&request);
        assert_eq!(response.status, 202, "{response:?}");
    }

    /// The next message.
    fn data(&mut self) -> String {
        let event = self.stream.event().expect("one more event");
        assert!(event.name.is_none_or(|name| name == "message"), "Rule L3");
        event.data
    }
}

#[test]
fn everything_is_answered_on_the_one_stream() {
    let mux = Mux::start(&["--legacy-sse"]);
    let mut session = Events::open(&mux);
    session.post(&mux, initialize("2024-11-05"));
    assert!(session.data().starts_with(r#"{"jsonrpc":"2.0","id":"init","result":{"protocolVersion":"2024-11-05""#));
    session.post(&mux, INITIALIZED);
    for arguments in [r#"{"x":1.0,"x":-0}"#, "\"\\ud800 é\""] {
        let body = call("1.0", "echo", arguments).legacy_body();
        session.post(&mux, body.clone());
        assert_eq!(session.data(), echoed("1.0", arguments));
        assert_eq!(mux.seen().pop().unwrap(), body);
    }
    session
        .post(&mux, run("\"\"", r#"{"progress":["a"]},{"notify":"n"},{"ask":"roots/list"}"#).token("7").legacy_body());
    assert_eq!(session.data(), progress("7", 0, "a"));
    assert_eq!(session.data(), r#"{"jsonrpc":"2.0","method":"n","params":{}}"#);
    assert!(session.data().contains("roots/list"));
    session.post(&mux, r#"{"jsonrpc":"2.0","id":"question 1","result":{"roots":[]}}"#);
    let expected = r#"{"content":[],"answer":{"roots":[]},"resultType":"complete"}"#;
    assert_eq!(session.data(), result("\"\"", expected));
}

#[test]
fn sessions_are_apart_and_end_with_their_stream() {
    let mux = Mux::start(&["--legacy-sse"]);
    let [mut one, two] = [0, 1].map(|_| Events::open(&mux));
    assert_ne!(one.messages, two.messages);
    one.post(&mux, run("1", r#"{"wait":"end"}"#).legacy_body());
    two.post(&mux, run("1", r#"{"wait":"end"}"#).legacy_body());
    eventually("each has a child", || mux.pids().len() == 2);
    let messages = two.messages.clone();
    drop(two);
    eventually("its child ends", || mux.pids().len() == 1);
    let gone = mux.send(&Request::post(run("1", "").legacy_body()).at(&messages));
    assert_eq!(gone.status, 404);
    one.post(&mux, run("2", r#"{"open":"end"}"#).legacy_body());
    let mut answers = [one.data(), one.data()];
    answers.sort();
    assert_eq!(answers, [done("1"), done("2")]);
}

#[test]
fn stream_ends_with_its_child() {
    let mux = Mux::start(&["--legacy-sse"]);
    let mut session = Events::open(&mux);
    session.post(&mux, run("1.0", r#"{"exit":3}"#).legacy_body());
    let error = session.data();
    assert!(error.contains("\"id\":1.0,\"error\""), "{error}");
    assert_eq!(session.stream.event(), None);
    eventually("the session is gone", || {
        mux.send(&Request::post(run("1", "").legacy_body()).at(&session.messages)).status == 404
    });
}

#[test]
fn what_is_not_a_message_of_a_session_is_refused() {
    let mux = Mux::start(&["--legacy-sse"]);
    let session = Events::open(&mux);
    let body = call("1", "echo", "{}").legacy_body();
    for path in ["/messages", "/messages?sessionId=", "/messages?sessionId=unknown"] {
        assert!([400, 404].contains(&mux.send(&Request::post(body.clone()).at(path)).status), "{path}");
    }
    assert_eq!(mux.send(&Request::post("{").at(&session.messages)).status, 400);
    for (request, allowed) in
        [(Request::get().at(&session.messages), "POST"), (Request::post(body.clone()).at("/sse"), "GET")]
    {
        let answer = mux.send(&request);
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "RFC 9110, 15.5.6");
    }
    assert_eq!(mux.seen(), [""; 0]);
    // Unless it is asked for, none of this is there (Rule L5).
    let mux = Mux::start(&[]);
    assert_eq!(mux.send(&Request::get().at("/sse")).status, 404);
    assert_eq!(mux.send(&Request::post(body).at("/messages")).status, 404);
}
