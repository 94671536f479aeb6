//! How long HTTP clients wait for a child that takes nothing, says nothing, or does not answer: everybody who waits is
//! told what was waited for and how long, and it is counted. Real processes, real sockets.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[path = "support/exposition.rs"]
#[expect(dead_code, reason = "shared: no test file needs all of it")]
mod exposition;
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

use std::net::TcpStream;

use client::{Pending, Request};
use exposition::Scrape;
use legacy::{Client, answer};
use mux::{Mux, assert_refused, call, echoed, fixture, run};
use rustix::process::Signal;
use serde_json::json;
use support::{eventually, kill};

const OPTIONS: [&str; 6] = ["--shutdown-grace", "100ms", "--kill-after", "100ms", "--metrics", "/metrics"];

/// More than may wait for a child, and more than its task is given at a time.
const COUNT: usize = 80;

const TOLD: &str = r#"shadowcat_errors_total{blame="upstream",reason="timeout"}"#;

/// Takes the handshake of a session and not a byte more.
const DEAF: &str = r#"read l; echo '{"jsonrpc":"2.0","id":"init","result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"deaf","version":"1"}}}'; read l; exec sleep 1000"#;

fn start(options: &[&str], server: &[&str]) -> Mux {
    Mux::of_server(&[&OPTIONS[..], options].concat(), server)
}

fn scrape(mux: &Mux) -> Scrape {
    Scrape::of(mux.address, "/metrics")
}

/// More than the pipe of a child that does not read takes, and many behind it.
fn crowd(body: impl Fn(usize, &str) -> Request, mux: &Mux) -> Vec<Pending> {
    let long = format!("\"{}\"", "x".repeat(70 << 10));
    (0..COUNT).map(|id| body(id, &long).begin(mux.address)).collect()
}

fn modern(id: usize, arguments: &str) -> Request {
    call(&id.to_string(), "echo", arguments).modern()
}

#[test]
fn everybody_behind_a_shared_child_that_takes_nothing_is_told_so_and_it_is_ended() {
    let mux = start(&["--stdio-write-timeout", "700ms"], &["sleep", "1000"]);
    for (id, waiting) in crowd(modern, &mux).into_iter().enumerate() {
        let text = assert_refused(waiting.response(), 504, -32603, &json!(id));
        assert_eq!(text, "the server's reading of what is there for it took longer than 700 ms");
    }
    eventually("it is ended", || scrape(&mux).get("shadowcat_children") == 0.0);
    let scrape = scrape(&mux);
    assert!(scrape.get(r#"shadowcat_timeouts_total{what="write"}"#) >= 1.0);
    assert_eq!(scrape.get(TOLD), COUNT as f64);
}

#[test]
fn everybody_behind_a_session_s_child_that_takes_nothing_is_told_so() {
    let mux = start(&["--stdio-write-timeout", "3s"], &["sh", "-c", DEAF]);
    let client = Client::start(&mux, "2025-11-25");
    let body = |id: usize, arguments: &str| client.post(call(&id.to_string(), "echo", arguments).legacy_body());
    for (id, waiting) in crowd(body, &mux).into_iter().enumerate() {
        let text = answer(waiting.response());
        assert_eq!((&text["id"], &text["error"]["data"]["afterMs"]), (&json!(id), &json!(3000)), "{text}");
    }
}

#[test]
fn child_that_says_nothing_is_ended_only_while_it_owes_an_answer() {
    let mux = start(&["--stdio-read-timeout", "700ms"], &["sh", "-c", DEAF]);
    let client = Client::start(&mux, "2025-11-25");
    let modern_child = call("1", "echo", "1").modern().begin(mux.address);
    let text = assert_refused(modern_child.response(), 504, -32603, &json!(1));
    assert_eq!(text, "the server's next word took longer than 700 ms");
    // By now the session was silent for as long, and it has asked nothing.
    let text = answer(client.post(call("2", "echo", "1").legacy_body()).send(mux.address));
    assert_eq!((&text["id"], &text["error"]["data"]["what"]), (&json!(2), &json!("the server's next word")), "{text}");
    assert_eq!(scrape(&mux).get(r#"shadowcat_timeouts_total{what="stdio_read"}"#), 2.0);
}

/// Also of those that the child's task has not taken yet, which waits for the child.
#[test]
fn time_of_an_answer_begins_when_the_request_is_given_to_us() {
    let mux = start(&["--response-timeout", "700ms"], &["sleep", "1000"]);
    for (id, waiting) in crowd(modern, &mux).into_iter().enumerate() {
        let text = assert_refused(waiting.response(), 504, -32603, &json!(id));
        assert_eq!(text, "the server's answer took longer than 700 ms");
    }
    let scrape = scrape(&mux);
    assert_eq!(scrape.get(r#"shadowcat_timeouts_total{what="response"}"#), COUNT as f64);
    assert_eq!(scrape.get(TOLD), COUNT as f64);
}

#[test]
fn what_a_session_is_told_in_place_of_an_answer_is_counted() {
    let mux = Mux::start(&[&OPTIONS[..], &["--response-timeout", "500ms", "--max-frame-len", "64KiB"]].concat());
    let client = Client::start(&mux, "2025-11-25");
    let ask = |id: &str, steps: &str| answer(client.post(run(id, steps).legacy_body()).send(mux.address));
    assert_eq!(ask("1", r#"{"never":true}"#)["error"]["message"], "the server's answer took longer than 500 ms");
    let text = ask("2", r#"{"big":100000}"#).to_string();
    assert!(text.contains("is longer than the limit of 65536 bytes"), "{text}");
    let scrape = scrape(&mux);
    assert_eq!(scrape.get(r#"shadowcat_timeouts_total{what="response"}"#), 1.0);
    assert_eq!(scrape.get(TOLD), 1.0);
    assert_eq!(scrape.get(r#"shadowcat_errors_total{blame="upstream",reason="message_too_large"}"#), 1.0);
}

#[test]
fn what_we_say_to_either_side_of_a_session_is_written_into_pooled_buffers_and_errors_are_counted() {
    let options = ["--max-pending", "1", "--response-timeout", "500ms", "--pool", "on", "--legacy-sse"];
    let mux = Mux::start(&[&OPTIONS[..], &options].concat());
    let client = Client::start(&mux, "2025-11-25");
    let written = || {
        let scrape = scrape(&mux);
        ["hits", "misses"]
            .map(|which| scrape.get(&format!("shadowcat_pool_{which}_total{{pool=\"own\"}}")))
            .iter()
            .sum()
    };
    let before: f64 = written();
    // The first event, without data.
    let mut listening = mux.send(&client.get());
    assert!(listening.try_event().unwrap().is_some());
    assert_eq!(written(), before + 1.0);
    let mut events = mux.send(&Request::get().at("/sse").with("Accept", "text/event-stream"));
    assert!(events.event().is_some_and(|event| event.name.as_deref() == Some("endpoint")));
    assert_eq!(written(), before + 2.0);
    // A request of the server that is one too many.
    let question = |id| format!(r#"{{"line":"{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"method\":\"ping\"}}"}}"#);
    let asks = run("1", &[question("a"), question("b")].join(","));
    assert_eq!(answer(client.post(asks.legacy_body()).send(mux.address))["id"], 1);
    assert_eq!(scrape(&mux).get(r#"shadowcat_errors_total{blame="us",reason="too_many_pending"}"#), 1.0);
    assert_eq!(written(), before + 3.0);
    // An error for a client that is away, and the word to its server.
    let asked = client.post(run("2", r#"{"never":true}"#).legacy_body()).begin(mux.address);
    mux.seen_with(&["never"]);
    drop(asked);
    eventually("it is counted all the same", || scrape(&mux).get(TOLD) == 1.0);
    assert_eq!(written(), before + 5.0);
}

/// Of the keeper: it is the one who starts children.
#[test]
fn child_that_is_not_there_in_time_is_an_error_and_does_not_stay_when_it_comes() {
    let mux = start(&["--start-timeout", "2s"], &[&fixture().display().to_string()]);
    let keeper = mux.session.process("shadowcat-keeper");
    kill(keeper, Signal::STOP);
    let refused = call("1", "echo", "1").modern().send(mux.address);
    kill(keeper, Signal::CONT);
    let text = assert_refused(refused, 504, -32603, &json!(1));
    assert!(text.contains("child start") && text.contains("2000 ms"), "{text}");
    assert_eq!(scrape(&mux).get(r#"shadowcat_timeouts_total{what="child_start"}"#), 1.0);
    // The keeper does things in order: once this one is there, the other was started too, if it ever is.
    assert_eq!(mux.ask(&call("2", "echo", "1")), echoed("2", "1"));
    eventually("only the one that serves is left", || mux.pids().len() == 1);
    assert_eq!(scrape(&mux).get("shadowcat_children_started_total"), 1.0);
}

#[test]
fn client_of_a_session_that_takes_nothing_is_cut_off_if_its_server_is_not_to_wait() {
    let mux = Mux::start(&[&OPTIONS[..], &["--slow-consumer", "disconnect:700ms", "--write-timeout", "5m"]].concat());
    let client = Client::start(&mux, "2025-11-25");
    let flood = client.post(run("1", r#"{"flood":200}"#).token("1").legacy_body());
    let socket = TcpStream::connect(mux.address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 16 << 10).unwrap();
    let mut pending = Pending::of(socket);
    let (head, body) = flood.parts(mux.address);
    pending.write(&[head.as_bytes(), body].concat());
    let mut reluctant = pending.response();
    // The child says all of it before it reads on.
    let echo = client.post(call("2", "echo", "1").legacy_body()).send(mux.address);
    assert_eq!(answer(echo)["result"]["echo"], 1);
    assert!(reluctant.read_all().is_err(), "it was not cut off");
    let scrape = scrape(&mux);
    assert_eq!(scrape.get(r#"shadowcat_cut_streams_total{link="mux"}"#), 1.0);
    assert_eq!(scrape.get(r#"shadowcat_timeouts_total{what="write"}"#), 1.0);
    assert!(scrape.get(r#"shadowcat_blocked_seconds_total{link="mux",side="client"}"#) >= 0.7);
}
