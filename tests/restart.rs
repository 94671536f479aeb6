//! A child that crashes: who waited is told how it ended, who comes later gets another child, and never in a hurry.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
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
use mux::{Mux, call, echoed, run};
use rustix::process::Signal;
use serde_json::json;
use support::{eventually, kill};
use temp::TempDir;

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

#[test]
fn everybody_who_waits_is_told_and_another_child_serves() {
    let mux = Mux::start(&QUICK);
    let waiting: Vec<Pending> =
        (0..5).map(|id| run(&id.to_string(), r#"{"wait":"never"}"#).modern().begin(mux.address)).collect();
    eventually("all wait", || mux.seen().iter().filter(|line| line.contains("never")).count() == 5);
    let crashed = mux.pids();
    assert_eq!(crashed.len(), 1);
    kill(crashed[0], Signal::KILL);
    for (id, pending) in waiting.into_iter().enumerate() {
        let response = pending.response();
        assert_eq!(response.status, 502);
        let answer = response.json();
        assert_eq!((&answer["id"], &answer["error"]["data"]["signal"]), (&json!(id), &json!(9)), "{answer}");
    }
    // Nobody is refused: whoever comes while there is no child waits for the next.
    assert_eq!(mux.ask(&call("1", "echo", "[]")), echoed("1", "[]"));
    assert!(!mux.pids().contains(&crashed[0]));
}

/// The first starts come fast, then whoever comes is told when to come again; not every request costs a process.
#[test]
fn child_that_always_crashes_is_started_less_and_less_often() {
    let here = TempDir::new().unwrap();
    let starts = here.join("starts");
    let script = format!("echo start >> {}; read line; exit 7", starts.display());
    let options = [&QUICK[..], &["--start-timeout", "150ms"]].concat();
    let mux = Mux::of_server(&options, &["sh", "-c", &script]);
    let mut refused = 0;
    for _ in 0..200 {
        let response = mux.send(&call("1", "echo", "[]").modern());
        if response.status == 503 {
            refused += 1;
            assert_eq!(response.header("retry-after"), Some("1"), "{response:?}");
            assert!(response.text().contains("times in a row"));
        } else {
            assert_eq!(response.status, 502, "{response:?}");
            assert_eq!(response.json()["error"]["data"]["exitCode"], 7);
        }
    }
    let starts = fs::read_to_string(starts).unwrap().lines().count();
    assert!(refused >= 100 && (3..50).contains(&starts), "{refused} refused, {starts} starts");
}

#[test]
fn child_that_crashed_once_stays_away_if_so_asked() {
    let mux = Mux::start(&[&QUICK[..], &["--restart", "never"]].concat());
    let ready = || mux.send(&Request::get().at("/readyz")).status;
    assert_eq!((mux.ask(&call("1", "echo", "[]")), ready()), (echoed("1", "[]"), 200));
    let crash = mux.send(&run("1", r#"{"stderr":"oh"},{"exit":3}"#).modern());
    assert_eq!(crash.status, 502);
    for _ in 0..3 {
        let response = mux.send(&call("2", "echo", "[]").modern());
        assert_eq!(response.status, 502);
        let answer = response.json();
        assert_eq!((&answer["id"], &answer["error"]["data"]["exitCode"]), (&json!(2), &json!(3)), "{answer}");
        assert_eq!(answer["error"]["data"]["stderr"], json!(["oh"]));
    }
    assert_eq!((mux.pids().len(), ready()), (0, 503));
}
