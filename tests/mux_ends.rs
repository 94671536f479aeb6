//! How children and streams end when somebody wants them to, and what those get who come at that moment.
//! That no process is left is asserted when a proxy is dropped.

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

use client::Request;
use legacy::{Client, INITIALIZED, answer, initialize};
use mux::{Mux, ask, call, echoed, run};
use rustix::process::Signal;
use serde_json::json;
use support::{eventually, kill};

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

/// A ladder that nobody climbs to its end.
const PATIENT: [&str; 6] = ["--shutdown-grace", "1h", "--kill-after", "1h", "--drain-timeout", "1h"];

/// A server that ends neither at the end of its input nor when it is asked to.
const DEAF: [&str; 3] = ["sh", "-c", "trap '' TERM; while :; do read line; done; sleep 1000"];

// --- when we are told to stop --------------------------------------------------------------------------------

/// Rule M3: an end without a result says that the subscription is lost, and the client comes back.
#[test]
fn subscription_ends_without_a_result_when_we_drain() {
    let mux = Mux::start(&["--drain-timeout", "1h"]);
    let mut response = mux.send(&ask("1", "subscriptions/listen", r#""notifications":{}"#).modern());
    assert!(response.data().contains("acknowledged"));
    mux.session.signal(Signal::TERM);
    assert_eq!(response.rest(), [""; 0], "no result");
    assert_eq!(mux.session.wait_unread(), Some(0));
}

#[test]
fn second_signal_hurries_and_the_third_waits_for_nobody() {
    let mux = Mux::of_server(&PATIENT, &DEAF);
    let pending = call("1", "echo", "{}").modern().begin(mux.address);
    eventually("the child runs", || mux.session.processes().iter().any(|process| process.words.starts_with("sh ")));
    for _ in 0..3 {
        mux.session.signal(Signal::TERM);
        std::thread::yield_now();
    }
    // Signals that come at once are one; the last word is had by repeating it.
    eventually("the proxy ends", || {
        mux.session.signal(Signal::TERM);
        !mux.session.processes().iter().any(|process| process.words.contains(" proxy "))
    });
    mux.session.assert_gone();
    drop(pending);
}

// --- when a server ends --------------------------------------------------------------------------------------

/// The keeper is not a single point of failure: it is started again, and children with it.
#[test]
fn lost_keeper_is_replaced() {
    let mux = Mux::start(&QUICK);
    assert_eq!(mux.ask(&call("1", "echo", "[]")), echoed("1", "[]"));
    let lost = mux.session.process("shadowcat-keeper");
    kill(lost, Signal::KILL);
    eventually("another child answers", || mux.send(&call("1", "echo", "[]").modern()).status == 200);
    assert_ne!(mux.session.process("shadowcat-keeper"), lost);
    let client = Client::start(&mux, "2025-11-25");
    assert_eq!(client.ask(&mux, &call("1", "echo", "[]")), echoed("1", "[]"));
}

/// A server that closes its output is gone for its clients though it still runs.
#[test]
fn server_that_ends_takes_no_more_requests() {
    let script = r#"read line; case $line in *'"first"'*) exec >&-; while :; do sleep 1000; done;; esac; echo '{"jsonrpc":"2.0","id":1,"result":{"n":2}}'; cat"#;
    let mux = Mux::of_server(&PATIENT, &["sh", "-c", script]);
    let pending = ask("1", "first", "").modern().begin(mux.address);
    // Or the second request might overtake the first.
    mux.session.process("sleep 1000");
    eventually("another child answers", || mux.send(&ask("1", "second", "").modern()).status == 200);
    // Whoever waits for the first one is told, too, though it still has an hour to end.
    // As JSON or, where that took long, as an event.
    let answer = answer(pending.response());
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32603)));
    mux.session.signal(Signal::KILL);
    mux.session.assert_gone();
}

// --- sessions ------------------------------------------------------------------------------------------------

/// Rule H6: a request is answered with JSON or with events, also when it was cancelled.
#[test]
fn cancelled_request_is_answered_with_no_events() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let pending = client.post(run("1", r#"{"wait":"never"}"#).legacy_body()).begin(mux.address);
    mux.seen_with(&["never"]);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(mux.send(&client.post(cancel)).status, 202);
    let response = pending.response();
    assert_eq!((response.status, response.is_events()), (200, true), "{response:?}");
    assert_eq!(response.rest(), [""; 0]);
}

/// A refused `initialize` never reaches the child, and nobody knows the session it would have begun.
#[test]
fn refused_initialize_leaves_no_child() {
    let mux = Mux::of_server(&QUICK, &["sh", "-c", "while read line; do :; done"]);
    let long = initialize("2025-11-25").replace("init\"", &format!("{}\"", "i".repeat(2000)));
    for _ in 0..3 {
        let response = mux.send(&Request::post(long.clone()));
        assert_eq!((response.status, response.header("mcp-session-id")), (400, None));
    }
    eventually("no child is left", || !mux.session.processes().iter().any(|process| process.words.starts_with("sh ")));
}

/// A child that floods does not keep its own client from being heard (no side is preferred).
#[test]
fn session_of_a_child_that_never_stops_talking_can_be_deleted() {
    let note = r#"{"jsonrpc":"2.0","method":"notifications/x","params":{}}"#;
    let agreed = r#"{"jsonrpc":"2.0","id":"init","result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;
    let script = format!("read line; echo '{agreed}'; exec yes '{note}'");
    let mux = Mux::of_server(&QUICK, &["sh", "-c", &script]);
    let response = mux.send(&Request::post(initialize("2025-06-18")));
    let session = response.header("mcp-session-id").expect("a session").to_owned();
    assert_eq!(answer(response)["result"]["protocolVersion"], "2025-06-18");
    let client = Client { session, version: None };
    assert_eq!(mux.send(&client.post(INITIALIZED)).status, 202);
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    eventually("it is ended", || !mux.session.processes().iter().any(|process| process.words.starts_with("yes ")));
}

/// A child that asks without end and reads no answer is not answered without end.
#[test]
fn child_that_asks_without_reading_is_read_no_more() {
    let agreed = r#"{"jsonrpc":"2.0","id":"init","result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;
    // More than may be open at a time, so each gets an error of ours.
    let script = format!(
        r#"read line; echo '{agreed}'; n=0; while [ $n -lt 100000 ]; do echo '{{"jsonrpc":"2.0","id":'$n',"method":"ping"}}'; n=$((n+1)); done; exec sleep 1000"#
    );
    let mux = Mux::of_server(&[&QUICK[..], &["--max-pending", "1"]].concat(), &["sh", "-c", &script]);
    let response = mux.send(&Request::post(initialize("2025-06-18")));
    let session = response.header("mcp-session-id").expect("a session").to_owned();
    drop(answer(response));
    // It can still be ended.
    let client = Client { session, version: None };
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    eventually("it is ended", || !mux.session.processes().iter().any(|process| process.words.starts_with("sh ")));
}

/// What is posted waits for a child that reads nothing; that the session is deleted does not.
#[test]
fn session_of_a_child_that_reads_nothing_can_be_deleted() {
    let agreed = r#"{"jsonrpc":"2.0","id":"init","result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;
    let script = format!("read line; echo '{agreed}'; exec sleep 1000");
    let mux = Mux::of_server(&QUICK, &["sh", "-c", &script]);
    let response = mux.send(&Request::post(initialize("2025-06-18")));
    let session = response.header("mcp-session-id").expect("a session").to_owned();
    drop(answer(response));
    let client = Client { session, version: None };
    let note = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"x":"{}"}}}}"#, "x".repeat(1 << 20));
    let waiting: Vec<_> = (0..4).map(|_| client.post(note.clone()).begin(mux.address)).collect();
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    eventually("it is ended", || !mux.session.processes().iter().any(|process| process.words.starts_with("sleep ")));
    for response in waiting.into_iter().map(client::Pending::response) {
        assert!(response.status >= 400, "Rule H5: 202 is for what the server was given, {response:?}");
    }
}

// --- children of modern clients ------------------------------------------------------------------------------

/// Credentials change; children of those that are used no more must not use up all that may run.
#[test]
fn child_of_a_client_that_came_once_ends() {
    let mux = Mux::start(
        &[&QUICK[..], &["--child", "per-client", "--max-children", "1", "--session-idle", "200ms"]].concat(),
    );
    let asked = |who: &str| call("1", "echo", "[]").modern().with("Authorization", format!("Bearer {who}"));
    assert_eq!(mux.send(&asked("one")).json()["id"], json!(1));
    eventually("another has room", || mux.send(&asked("other")).status == 200);
    eventually("nobody's child is left", || mux.pids().is_empty());
}
