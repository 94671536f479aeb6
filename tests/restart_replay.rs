//! A legacy session whose child crashes, with `--restart replay`: who waited is told, and the session goes on with
//! another child that is said the same handshake. Real processes, real sockets.

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

use std::fs;

use client::{Pending, Request};
use legacy::{Client, INITIALIZED, answer, initialize};
use mux::{Mux, call, done, echoed, fixture, run};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{eventually, kill};
use temp::TempDir;

const REPLAY: [&str; 6] = ["--restart", "replay", "--shutdown-grace", "100ms", "--kill-after", "100ms"];

/// The fixture at the first start, `then` at each that follows; each start leaves a line in `starts`.
fn first_the_fixture(here: &TempDir, then: &str) -> String {
    let starts = here.join("starts");
    let starts = starts.display();
    let fixture = fixture();
    let fixture = fixture.display();
    format!("echo start >> {starts}; [ $(wc -l < {starts}) = 1 ] && exec {fixture}; {then}")
}

fn count(mux: &Mux, line: &str) -> usize {
    mux.seen().iter().filter(|seen| *seen == line).count()
}

#[test]
fn session_goes_on_with_another_child() {
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let mux = Mux::start(&[&REPLAY[..], &["--metrics", "/metrics"]].concat());
        let client = Client::start(&mux, version);
        let mut stream = mux.send(&client.get());
        for crashes in 1..=3 {
            let crashed = client.pid(&mux);
            let waiting = |id: &str| client.post(run(id, r#"{"wait":"never"}"#).legacy_body()).begin(mux.address);
            let ids: Vec<String> = (0..5).map(|id| format!("{crashes}{id}")).collect();
            let waiting: Vec<Pending> = ids.iter().map(|id| waiting(id)).collect();
            for id in &ids {
                mux.seen_with(&[&format!("\"id\":{id},"), "never"]);
            }
            kill(u32::try_from(crashed).unwrap(), Signal::KILL);
            // At once: it waits, and is said to the next child only.
            let early = client.post(call("\"early\"", "echo", "[1]").legacy_body()).begin(mux.address);
            for (id, pending) in ids.iter().zip(waiting) {
                let answer = answer(pending.response());
                assert_eq!((answer["id"].to_string(), &answer["error"]["data"]["signal"]), (id.clone(), &json!(9)));
            }
            let early = answer(early.response());
            // It may have been written before the crash was seen; then it is answered as the others are.
            assert!(early["result"]["echo"] == json!([1]) || early["error"]["data"]["signal"] == 9, "{early}");
            assert_eq!(client.ask(&mux, &call("1.0", "echo", "[2]")), echoed("1.0", "[2]"));
            assert_ne!(client.pid(&mux), crashed);
            assert_eq!(count(&mux, &initialize(version)), crashes + 1, "said again byte for byte");
            assert_eq!(count(&mux, INITIALIZED), crashes + 1);
        }
        assert_eq!(client.ask(&mux, &run("2", r#"{"notify":"notifications/tools/list_changed"}"#)), done("2"));
        let mut heard = stream.data();
        while heard.is_empty() {
            heard = stream.data();
        }
        assert!(heard.contains("list_changed"), "the stream is the same, and nothing was invented: {heard}");
        let metrics = mux.send(&Request::get().at("/metrics")).text();
        assert!(metrics.contains("shadowcat_restarts_total 3"), "{metrics}");
        assert_eq!(mux.send(&client.request("DELETE")).status, 204);
        eventually("its child ends", || mux.pids().is_empty());
    }
}

#[test]
fn child_of_another_version_ends_the_session() {
    let here = TempDir::new().unwrap();
    let script = first_the_fixture(&here, &format!("FIXTURE_VERSION=2024-11-05 exec {}", fixture().display()));
    let mux = Mux::of_server(&REPLAY, &["sh", "-c", &script]);
    let client = Client::start(&mux, "2025-06-18");
    let crash = answer(mux.send(&client.post(run("1", r#"{"exit":3}"#).legacy_body())));
    assert_eq!(crash["error"]["data"]["exitCode"], 3);
    let told = mux.send(&client.post(call("2", "echo", "[]").legacy_body()));
    assert_eq!(told.status, 502, "{told:?}");
    let told = told.json();
    assert_eq!((&told["id"], &told["error"]["data"]["reason"]), (&json!(2), &json!("restart_failed")), "{told}");
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("2024-11-05") && message.contains("2025-06-18"), "{message}");
    eventually("the session is over", || mux.send(&client.get()).status == 404);
    eventually("no child is left", || mux.pids().is_empty());
    assert_eq!(count(&mux, INITIALIZED), 1, "the other child was not told that all is well");
}

#[test]
fn child_that_does_not_shake_hands_ends_the_session() {
    let here = TempDir::new().unwrap();
    let script = first_the_fixture(&here, &format!("FIXTURE_MUTE=1 exec {}", fixture().display()));
    let mux = Mux::of_server(&[&REPLAY[..], &["--start-timeout", "1s"]].concat(), &["sh", "-c", &script]);
    let client = Client::start(&mux, "2025-11-25");
    let crash = answer(mux.send(&client.post(run("1", r#"{"exit":3}"#).legacy_body())));
    assert_eq!(crash["error"]["data"]["exitCode"], 3);
    let told = mux.send(&client.post(call("2", "echo", "[]").legacy_body()));
    assert_eq!(told.status, 504, "{told:?}");
    let told = told.json();
    assert_eq!((&told["id"], &told["error"]["data"]["reason"]), (&json!(2), &json!("timeout")), "{told}");
    eventually("the session is over", || mux.send(&client.get()).status == 404);
    eventually("no child is left", || mux.pids().is_empty());
}

#[test]
fn child_that_always_crashes_is_started_less_and_less_often() {
    let here = TempDir::new().unwrap();
    let script = first_the_fixture(&here, "echo oh >&2; exit 7");
    let mux = Mux::of_server(&[&REPLAY[..], &["--start-timeout", "300ms"]].concat(), &["sh", "-c", &script]);
    let client = Client::start(&mux, "2025-11-25");
    let crash = answer(mux.send(&client.post(run("1", r#"{"exit":3}"#).legacy_body())));
    assert_eq!(crash["error"]["data"]["exitCode"], 3);
    let mut refused = 0;
    for id in 0..100 {
        let response = mux.send(&client.post(call(&id.to_string(), "echo", "[]").legacy_body()));
        let (status, retry) = (response.status, response.header("retry-after").is_some());
        let told = response.json();
        assert_eq!(told["id"], id, "{told}");
        match status {
            503 => {
                refused += 1;
                assert!(retry && told["error"]["message"].as_str().unwrap().contains("times in a row"), "{told}");
            }
            504 => assert_eq!(told["error"]["data"]["reason"], "timeout"),
            status => {
                let data = &told["error"]["data"];
                assert_eq!((status, &data["exitCode"], &data["stderr"]), (502, &json!(7), &json!(["oh"])), "{told}");
            }
        }
    }
    let starts = fs::read_to_string(here.join("starts")).unwrap().lines().count();
    assert!(refused >= 50 && (3..40).contains(&starts), "{refused} refused, {starts} starts");
    assert_eq!(mux.send(&client.request("DELETE")).status, 204, "also while there is no child");
    eventually("the session is over", || mux.send(&client.get()).status == 404);
}

/// Both children count from one: the answer to the first one's question must not reach the second.
#[test]
fn question_of_the_dead_is_nobodys() {
    let mux = Mux::start(&REPLAY);
    let client = Client::start(&mux, "2025-11-25");
    let mut stream = mux.send(&client.get());
    let asking = client.post(run("1", r#"{"ask":"sampling/createMessage"}"#).legacy_body()).begin(mux.address);
    let mut asked = asking.response();
    while !asked.data().contains("question 1") {}
    kill(mux.pids()[0], Signal::KILL);
    let told: Value = serde_json::from_str(&asked.data()).unwrap();
    assert_eq!((&told["id"], &told["error"]["data"]["signal"]), (&json!(1), &json!(9)), "{told}");
    let late = r#"{"jsonrpc":"2.0","id":"question 1","result":"late"}"#;
    let ask = |id: &str| client.post(run(id, r#"{"ask":"sampling/createMessage"}"#).legacy_body());
    let second = answer(mux.send(&ask("2")));
    assert!(second["result"]["answer"]["message"].as_str().unwrap().contains("the same id"), "{second}");
    assert_eq!(mux.send(&client.post(late)).status, 202);
    let third = ask("3").begin(mux.address);
    let fresh = r#"{"jsonrpc":"2.0","id":"question 2","result":"fresh"}"#;
    mux.seen_with(&["\"id\":3,"]);
    let mut third = third.response();
    while !third.data().contains("question 2") {}
    assert_eq!(mux.send(&client.post(fresh)).status, 202);
    assert_eq!(answer(third)["result"]["answer"], "fresh");
    assert_eq!(count(&mux, late), 0);
    assert_eq!(mux.send(&client.request("DELETE")).status, 204);
    while stream.event().is_some() {}
}

#[test]
fn session_that_has_not_begun_ends_with_its_child() {
    let mux = Mux::of_server(&REPLAY, &["sh", "-c", "read line; exit 4"]);
    let told = answer(mux.send(&Request::post(initialize("2025-11-25"))));
    assert_eq!((&told["id"], &told["error"]["data"]["exitCode"]), (&json!("init"), &json!(4)), "{told}");
}
