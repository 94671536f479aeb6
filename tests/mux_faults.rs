//! Children and clients that misbehave, in front of and behind `link::mux`: what does not start, is too long,
//! comes twice, or is not read. Real processes, real sockets.

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

use std::{thread, time::Duration};

use client::Request;
use legacy::{Client, answer, initialize};
use mux::{Mux, assert_refused, call, done, echoed, result, run};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::eventually;

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

// --- children that do not serve ------------------------------------------------------------------------------

#[test]
fn server_that_cannot_be_started_is_an_error_each_time() {
    let mux = Mux::of_server(&QUICK, &["/nonexistent/server"]);
    for _ in 0..3 {
        assert_refused(mux.send(&call("1", "echo", "{}").modern()), 502, -32603, &json!(1));
    }
}

/// Never by a message of our own: by what runs, what is found, and how the last start went.
#[test]
fn readiness_is_whether_a_child_runs_or_could() {
    let ready = |mux: &Mux| mux.send(&Request::get().at("/readyz")).status;
    assert_eq!(ready(&Mux::of_server(&QUICK, &["/nonexistent/server"])), 503);
    assert_eq!(ready(&Mux::of_server(&QUICK, &["no-such-program-4711"])), 503);
    let mux = Mux::start(&QUICK);
    assert_eq!(ready(&mux), 200);
    assert!(mux.pids().is_empty(), "being asked whether it is ready starts nothing");
    // A file that is found, and is no program.
    let here = temp::TempDir::new().unwrap();
    let plain = here.join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let mux = Mux::of_server(&QUICK, &[plain.to_str().unwrap()]);
    assert_eq!(ready(&mux), 200);
    assert_refused(mux.send(&call("1", "echo", "{}").modern()), 502, -32603, &json!(1));
    assert_eq!(ready(&mux), 503);
}

#[test]
fn server_that_ends_at_once_is_an_error_each_time() {
    let mux = Mux::of_server(&QUICK, &["sh", "-c", "exit 7"]);
    for _ in 0..3 {
        let said = assert_refused(mux.send(&call("1", "echo", "{}").modern()), 502, -32603, &json!(1));
        assert!(said.contains('7'), "{said}");
    }
}

#[test]
fn server_that_closes_its_output_is_as_good_as_gone() {
    let mux = Mux::of_server(&QUICK, &["sh", "-c", "read line; exec >&-; while :; do sleep 1000; done"]);
    assert_refused(mux.send(&call("1", "echo", "{}").modern()), 502, -32603, &json!(1));
    eventually("it is ended", || !mux.session.processes().iter().any(|process| process.words.starts_with("sh ")));
}

#[test]
fn session_that_did_not_begin_is_not_named_and_leaves_no_child() {
    let refusal = r#"{"jsonrpc":"2.0","id":"init","error":{"code":-32602,"message":"no"}}"#;
    for (script, code) in [
        ("exit 7".to_owned(), -32603),
        ("read line; exec >&-; while :; do sleep 1000; done".to_owned(), -32603),
        (format!("read line; echo '{refusal}'; while read line; do :; done"), -32602),
    ] {
        let mux = Mux::of_server(&QUICK, &["sh", "-c", &script]);
        let response = mux.send(&Request::post(initialize("2025-11-25")));
        assert_eq!(response.header("mcp-session-id"), None, "Rule G9: with the result of initialize, {script}");
        let body = response.json();
        assert_eq!((&body["id"], &body["error"]["code"]), (&json!("init"), &json!(code)), "{script}");
        // Nobody knows an id to come back with.
        eventually("its child ends", || {
            !mux.session.processes().iter().any(|process| process.words.starts_with("sh "))
        });
    }
}

// --- too much ------------------------------------------------------------------------------------------------

#[test]
fn answer_over_the_limit_is_an_error_with_the_callers_id() {
    let mux = Mux::start(&["--max-frame-len", "64KiB"]);
    let client = Client::start(&mux, "2025-11-25");
    let long = run("1.0", r#"{"big":200000}"#);
    for request in [long.modern(), client.post(long.legacy_body())] {
        let response = mux.send(&request);
        let error = response.text();
        assert!(error.contains("\"id\":1.0,\"error\":") && error.contains("65536"), "{error}");
    }
    assert_eq!(mux.ask(&call("1", "echo", "[]")), echoed("1", "[]"));
    assert_eq!(client.ask(&mux, &call("1", "echo", "[]")), echoed("1", "[]"));
}

#[test]
fn id_or_nesting_over_the_limit_is_refused() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let long = format!("\"{}\"", "i".repeat(2000));
    let deep = format!("{}{}", "[".repeat(1100), "]".repeat(1100));
    for call in [call(&long, "echo", "{}"), call("1", "echo", "{}").token(&long), call("1", "echo", &deep)] {
        assert_eq!(mux.send(&call.modern()).status, 400);
        assert_eq!(mux.send(&client.post(call.legacy_body())).status, 400);
    }
    assert!(!mux.seen().iter().any(|line| line.contains("echo")));
}

#[test]
fn second_answer_and_what_follows_it_reach_nobody() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let lines = [
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"first":true}}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"second":true}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$TOKEN,"progress":1}}"#,
    ];
    let steps = lines.map(|line| json!({ "line": line }).to_string()).join(",");
    let twice = run("1", &steps).token("1");
    let first = result("1", r#"{"first":true}"#);
    for _ in 0..3 {
        assert_eq!(mux.ask(&twice), first);
        assert_eq!(client.ask(&mux, &twice), first);
    }
    assert_eq!(mux.ask(&run("1", "")), done("1"));
    assert_eq!(client.ask(&mux, &run("2", "")), done("2"));
}

#[test]
fn own_child_waits_for_a_slow_reader_and_loses_nothing() {
    const COUNT: usize = 400;
    let mux = Mux::start(&[]);
    let [slow, other] = [0, 1].map(|_| Client::start(&mux, "2025-06-18"));
    let steps = format!(r#"{{"progress":["a"]}},{{"wait":"on"}},{{"flood":{COUNT}}}"#);
    let mut response = mux.send(&slow.post(run("1", &steps).token("1").legacy_body()));
    response.data();
    slow.ask(&mux, &run("2", r#"{"open":"on"}"#));
    // A session of its own is not held up by it.
    assert_eq!(other.ask(&mux, &call("1", "echo", "[]")), echoed("1", "[]"));
    for at in 0..COUNT {
        let event: Value = serde_json::from_str(&response.data()).unwrap();
        assert_eq!(event["params"]["progress"], at);
        assert_eq!(event["params"]["message"].as_str().map(str::len), Some(64 << 10));
    }
    assert_eq!(response.rest(), [done("1")]);
}

#[test]
fn session_whose_client_reads_nothing_can_be_deleted() {
    let mux = Mux::start(&QUICK);
    let client = Client::start(&mux, "2025-11-25");
    let steps = r#"{"progress":["a"]},{"wait":"on"},{"flood":2000}"#;
    let mut response = mux.send(&client.post(run("1", steps).token("1").legacy_body()));
    response.data();
    client.ask(&mux, &run("2", r#"{"open":"on"}"#));
    assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2);
    eventually("its child is gone", || mux.pids().is_empty());
    assert_eq!(mux.send(&client.get()).status, 404);
}

#[test]
fn reader_that_reads_nothing_for_long_is_given_up() {
    let mux = Mux::start(&["--write-timeout", "300ms"]);
    let client = Client::start(&mux, "2025-11-25");
    let steps = r#"{"progress":["a"]},{"wait":"on"},{"flood":400},{"open":"written"}"#;
    let mut response = mux.send(&client.post(run("1", steps).token("1").legacy_body()));
    response.data();
    client.ask(&mux, &run("2", r#"{"open":"on"}"#));
    // The child goes on, which it cannot as long as somebody has to read what it writes.
    let next = mux.send(&client.post(run("3", r#"{"wait":"written"}"#).legacy_body()));
    assert_eq!(answer(next)["id"], 3);
}

/// A server that answers each line of a modern client with the number in it, while it says something that is
/// for nobody as fast as it can. `yes` writes in large blocks, which a pipe may cut anywhere: hence the
/// line end before the answer.
const CHATTY: &str = r#"
    yes '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' &
    while read -r line; do
        id=${line#*'"id":'}
        printf '\n{"jsonrpc":"2.0","id":%s,"result":{}}\n' "${id%%,*}"
    done
    kill $!
"#;

#[test]
fn server_that_never_stops_talking_keeps_nobody_from_being_heard() {
    let mux = Mux::of_server(&QUICK, &["sh", "-c", CHATTY]);
    for id in ["1", "2", "3"] {
        assert_eq!(mux.ask(&call(id, "echo", "{}")), result(id, "{}"));
    }
}

#[test]
fn last_words_of_a_child_that_has_exited_wait_for_a_slow_reader() {
    const COUNT: usize = 300;
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-06-18");
    let last = json!({ "line": done("1") });
    let steps = format!(r#"{{"progress":["a"]}},{{"wait":"on"}},{{"flood":{COUNT}}},{last},{{"exit":0}}"#);
    let mut response = mux.send(&client.post(run("1", &steps).token("1").legacy_body()));
    response.data();
    client.ask(&mux, &run("2", r#"{"open":"on"}"#));
    // Reads no more than it takes for the child to have written everything.
    let mut read = 0;
    while !mux.pids().is_empty() {
        assert!(response.data().contains("notifications/progress"));
        read += 1;
    }
    // A pause, which is no reason to lose anything: `--write-timeout` is a minute.
    thread::park_timeout(Duration::from_secs(3));
    let rest = response.rest();
    assert_eq!((rest.len(), rest.last()), (COUNT - read + 1, Some(&done("1"))));
}

#[test]
fn server_that_closes_its_output_fails_who_waits_at_once_and_is_replaced() {
    let dir = temp::TempDir::new().unwrap();
    let first = dir.join("first");
    // The first one takes a request and closes its output, but does not end; the next one answers.
    let script = format!(
        r#"if mkdir '{}'; then read line; exec >&-; exec sleep 1000; fi
        read line; echo '{{"jsonrpc":"2.0","id":1,"result":{{}}}}'; read line"#,
        first.display()
    );
    let mux = Mux::of_server(&["--shutdown-grace", "1h"], &["sh", "-c", &script]);
    let waiting = call("7", "echo", "{}").modern().begin(mux.address);
    let deaf = mux.session.process("sleep 1000");
    let failed = waiting.response();
    let next = call("8", "echo", "{}").modern().begin(mux.address).response();
    // An hour is too long for a test to end.
    support::kill(deaf, Signal::KILL);
    // A stream of events would be a sign that nobody knew what to say.
    assert_refused(failed, 502, -32603, &json!(7));
    assert_eq!(next.text(), result("8", "{}"));
}

// --- answers that cannot be passed on --------------------------------------------------------------------------

/// The numbers are those of the answer, and so is the blame: nothing was wrong with the request (rule M2).
#[test]
fn answer_of_twice_the_limit_is_the_servers_fault_with_the_numbers() {
    let script = r#"read line; echo banner; printf '{"jsonrpc":"2.0","id":1,"result":"%02048d"}\n' 0
        read line; echo '{"jsonrpc":"2.0","id":2,"result":{}}'; read line"#;
    let mux = Mux::of_server(&["--max-frame-len", "1KiB"], &["sh", "-c", script]);
    let long = mux.send(&call("\"a\"", "echo", "{}").modern());
    let data = json!({"source": "shadowcat", "reason": "message_too_large", "limit": 1024, "at": 7});
    let (status, body) = (long.status, long.json());
    let (id, error) = (&body["id"], &body["error"]);
    assert_eq!((status, id, &error["code"], &error["data"]), (502, &json!("a"), &json!(-32603), &data));
    let answer = mux.ask(&call("\"b\"", "echo", "{}"));
    assert_eq!(answer, result("\"b\"", "{}"));
}
