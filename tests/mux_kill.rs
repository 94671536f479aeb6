//! Each of client, proxy and child is killed at each moment of an exchange; what the others then see, and that
//! nothing stays behind. That none of its processes is left is asserted when a proxy is dropped.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
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

use std::{collections::HashSet, thread};

use client::{Pending, Request, Response};
use legacy::{Client, answer, initialize};
use mux::{Call, Mux, call, done, echoed, progress, run};
use rustix::process::Signal;
use serde_json::json;
use support::{eventually, kill};

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

/// Half a request's head, half of its body, all of it.
#[derive(Debug, Clone, Copy)]
enum Sent {
    HalfOfHead,
    HalfOfBody,
    All,
}

/// Sends so much of a request.
fn send(mux: &Mux, request: &Request, sent: Sent) -> Pending {
    let (head, body) = request.parts(mux.address);
    let bytes = [head.as_bytes(), body].concat();
    let len = match sent {
        Sent::HalfOfHead => head.len() / 2,
        Sent::HalfOfBody => head.len() + body.len() / 2,
        Sent::All => bytes.len(),
    };
    let mut pending = Pending::connect(mux.address);
    pending.write(&bytes[..len]);
    pending
}

/// A call that has said something, and is about to say more: half a line of it is there already.
fn mid_event(id: &str) -> Call {
    run(id, r#"{"progress":["a"]},{"wait":"half"},{"part":"{\"jsonrpc\":\"2.0\",\"id\":$ID,\"resu"},{"open":"halved"},{"wait_cancel":true}"#)
        .token("1")
}

/// A call that has begun to be answered.
fn begun(mux: &Mux, request: &Request) -> Response {
    let mut response = mux.send(request);
    assert_eq!(response.data(), progress("1", 0, "a"));
    response
}

#[track_caller]
fn assert_serves(mux: &Mux) {
    assert_eq!(mux.ask(&call("1", "echo", "[]")), echoed("1", "[]"));
    let client = Client::start(mux, "2025-11-25");
    assert_eq!(client.ask(mux, &call("1", "echo", "[]")), echoed("1", "[]"));
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
}

// --- the client ----------------------------------------------------------------------------------------------

#[test]
fn client_that_dies_before_its_request_is_whole_has_asked_nothing() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let asked = call("1", "echo", "\"lost\"");
    for sent in [Sent::HalfOfHead, Sent::HalfOfBody] {
        drop(send(&mux, &asked.modern(), sent));
        drop(send(&mux, &client.post(asked.legacy_body()), sent));
        drop(send(&mux, &Request::post(initialize("2025-11-25")), sent));
        drop(Pending::connect(mux.address));
    }
    assert_serves(&mux);
    assert!(!mux.seen().iter().any(|line| line.contains("lost")));
    eventually("no session was begun", || mux.pids().len() == 2);
}

#[test]
fn client_that_dies_before_and_after_headers_leaves_a_proxy_that_serves() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let waiting = run("1", r#"{"wait":"never"}"#);
    drop(send(&mux, &waiting.modern(), Sent::All));
    drop(send(&mux, &client.post(waiting.legacy_body()), Sent::All));
    drop(begun(&mux, &mid_event("2").modern()));
    drop(begun(&mux, &client.post(mid_event("2").legacy_body())));
    drop(mux.send(&client.get()));
    assert_serves(&mux);
    eventually("the shared child and the session's are left", || mux.pids().len() == 2);
}

#[test]
fn client_that_dies_while_initializing_leaves_no_session() {
    // Nobody knows the session's id, so nobody can come back to it.
    let mux = Mux::with_env(&QUICK, &["FIXTURE_MUTE=1"]);
    let waiting: Vec<Pending> =
        (0..4).map(|_| send(&mux, &Request::post(initialize("2025-11-25")), Sent::All)).collect();
    eventually("each has a child", || mux.seen().len() == 4);
    drop(waiting);
    eventually("the children end", || mux.pids().is_empty());
}

// --- the child -----------------------------------------------------------------------------------------------

#[test]
fn child_that_dies_before_headers_is_an_error_with_the_callers_id() {
    let mux = Mux::start(&[]);
    let waiting = run("1.0", r#"{"wait":"never"}"#);
    for is_modern in [true, false] {
        let client = Client::start(&mux, "2025-11-25");
        let request = if is_modern { waiting.modern() } else { client.post(waiting.legacy_body()) };
        let asked = || mux.seen().iter().filter(|line| line.contains("never")).count();
        let known = asked();
        let pending = send(&mux, &request, Sent::All);
        eventually("a child has it", || asked() > known);
        mux.pids().into_iter().for_each(|pid| kill(pid, Signal::KILL));
        let error = pending.response().text();
        assert!(error.contains("\"id\":1.0,\"error\"") && error.contains("signal 9"), "{error}");
    }
    assert_serves(&mux);
}

#[test]
fn child_that_dies_within_a_message_ends_streams_with_an_error() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let mut modern = begun(&mux, &mid_event("1.0").modern());
    let mut legacy = begun(&mux, &client.post(mid_event("1.0").legacy_body()));
    mux.run(r#"{"open":"half"}"#);
    client.ask(&mux, &run("2", r#"{"open":"half"}"#));
    mux.seen_with(&["half"]);
    mux.pids().into_iter().for_each(|pid| kill(pid, Signal::KILL));
    for response in [&mut modern, &mut legacy] {
        let error = response.data();
        assert!(error.contains("\"id\":1.0,\"error\""), "{error}");
        assert_eq!(response.event(), None);
    }
    assert_serves(&mux);
}

#[test]
fn child_that_dies_between_requests_is_replaced_or_its_session_is_gone() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    mux.run("");
    let mut stream = mux.send(&client.get());
    let dead: HashSet<u32> = mux.pids().into_iter().collect();
    assert_eq!(dead.len(), 2);
    dead.iter().for_each(|&pid| kill(pid, Signal::KILL));
    assert_eq!(stream.event(), None, "the listening stream ends with its child");
    eventually("the session is gone", || mux.send(&client.get()).status == 404);
    // A request may still meet the dying child; it is never sent twice.
    eventually("a new child serves", || mux.send(&call("1", "echo", "[]").modern()).status == 200);
    assert!(mux.pids().iter().all(|pid| !dead.contains(pid)));
    assert_serves(&mux);
}

#[test]
fn child_that_dies_while_a_body_comes_is_not_missed() {
    let mux = Mux::start(&[]);
    mux.run("");
    let request = call("1", "echo", "[]").modern();
    let mut half = send(&mux, &request, Sent::HalfOfBody);
    let dead = mux.pids();
    dead.iter().for_each(|&pid| kill(pid, Signal::KILL));
    eventually("it is dead", || !mux.pids().iter().any(|pid| dead.contains(pid)));
    // That it is dead is known here before it is known to the proxy, which may then still ask it.
    eventually("a new child serves", || mux.send(&request).status == 200);
    let (_, body) = request.parts(mux.address);
    half.write(&body[body.len() / 2..]);
    assert_eq!(half.response().text(), echoed("1", "[]"));
}

#[test]
fn child_that_is_deaf_to_the_end_of_its_input_is_ended() {
    let mux = Mux::with_env(&QUICK, &["FIXTURE_DEAF=1"]);
    let client = Client::start(&mux, "2025-11-25");
    mux.run("");
    assert_eq!(mux.pids().len(), 2);
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    eventually("its child is gone", || mux.pids().len() == 1);
}

// --- the proxy -----------------------------------------------------------------------------------------------

/// A proxy that is busy in every way there is.
fn busy() -> (Mux, Vec<Pending>, Vec<Response>) {
    let mux = Mux::start(&QUICK);
    let client = Client::start(&mux, "2025-11-25");
    let waiting = run("1", r#"{"wait":"busy"}"#);
    let posts = [waiting.modern(), client.post(waiting.legacy_body())];
    let mut pending = vec![Pending::connect(mux.address)];
    for sent in [Sent::HalfOfHead, Sent::HalfOfBody, Sent::All] {
        pending.extend(posts.iter().map(|request| send(&mux, request, sent)));
    }
    let mut streams = vec![mux.send(&client.get())];
    streams.push(begun(&mux, &mid_event("2").modern()));
    streams.push(begun(&mux, &client.post(mid_event("2").legacy_body())));
    eventually("all is there", || mux.seen().iter().filter(|line| line.contains("busy")).count() == 2);
    assert_eq!(mux.pids().len(), 2);
    (mux, pending, streams)
}

#[test]
fn killed_proxy_leaves_nothing_and_breaks_its_streams() {
    let (mux, pending, streams) = busy();
    mux.session.signal(Signal::KILL);
    for pending in pending {
        assert!(pending.try_response().is_err());
    }
    for mut stream in streams {
        let broken = std::iter::from_fn(|| stream.try_event().transpose()).find_map(Result::err);
        assert!(broken.is_some(), "a break must not look like an end");
    }
    mux.session.assert_gone();
}

#[test]
fn stopped_proxy_leaves_nothing() {
    let (mux, pending, streams) = busy();
    mux.session.signal(Signal::TERM);
    mux.session.assert_gone();
    drop((pending, streams));
}

#[test]
fn killed_keeper_takes_every_child_along() {
    let (mux, pending, streams) = busy();
    let orphans = mux.pids();
    kill(mux.session.process("shadowcat-keeper"), Signal::KILL);
    eventually("its children end", || !mux.pids().iter().any(|pid| orphans.contains(pid)));
    drop((pending, streams));
}

// --- many ----------------------------------------------------------------------------------------------------

#[test]
fn two_hundred_sessions_come_and_go() {
    const THREADS: usize = 8;
    const SESSIONS: usize = 200 / THREADS;
    let mux = Mux::start(&QUICK);
    let address = mux.address;
    let sessions: Vec<String> = thread::scope(|scope| {
        let start = move || {
            let response = Request::post(initialize("2025-03-26")).send(address);
            let session = response.header("mcp-session-id").expect("a session").to_owned();
            assert_eq!(answer(response)["id"], "init");
            session
        };
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(move || (0..SESSIONS).map(|_| start()).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sessions.iter().collect::<HashSet<_>>().len(), 200);
    assert_eq!(mux.pids().len(), 200);
    let clients: Vec<Client> = sessions.into_iter().map(|session| Client { session, version: None }).collect();
    let pids: HashSet<u64> = clients.iter().map(|client| client.pid(&mux)).collect();
    assert_eq!(pids.len(), 200);
    for client in &clients[..100] {
        assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    }
    eventually("their children end", || mux.pids().len() == 100);
    for client in &clients[100..] {
        assert_eq!(client.ask(&mux, &run("1", "")), done("1"));
        assert_eq!(mux.send(&client.post(json!({"jsonrpc": "2.0", "method": "x"}).to_string())).status, 202);
    }
}
