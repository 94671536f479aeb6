//! A child that dies or never answers: whoever waits is told with what the child said last on its stderr, over
//! every link that starts children.

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

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

use client::Request;
use legacy::{Client, answer, initialize};
use mux::{Mux, run};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Ended, Launch, Session, eventually};
use temp::TempDir;

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

/// Reads one request, says more than is kept of it, something that a terminal would obey and something that is no
/// text, and dies.
const DYING: &str = r#"
    read line
    for n in 1 2 3 4 5 6 7 8; do echo "line $n" >&2; done
    printf '\033[31mred \377\nno such table: users' >&2
    exit 3
"#;

/// Never answers anything, and says so.
const MUTE: &str = "echo 'looking for a database' >&2; while read line; do :; done";

/// What [`DYING`] is remembered by.
fn dying_words() -> Value {
    let mut lines: Vec<String> = (3..=8).map(|n| format!("line {n}")).collect();
    lines.extend(["\\u{1b}[31mred \u{FFFD}".to_owned(), "no such table: users".to_owned()]);
    json!(lines)
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;

fn error(line: &str) -> (Value, Value) {
    let answer: Value = serde_json::from_str(line).unwrap();
    (answer["id"].clone(), answer["error"].clone())
}

#[track_caller]
fn assert_died(error: &Value) {
    let data = &error["data"];
    assert_eq!(
        (&data["source"], &data["reason"], &data["exitCode"]),
        (&json!("shadowcat"), &json!("server_exited"), &json!(3))
    );
    assert_eq!(data["stderr"], dying_words());
    let message = error["message"].as_str().unwrap();
    assert_eq!(
        message,
        "the server exited with status 3 before it answered; its stderr ends with \"no such table: users\""
    );
}

#[track_caller]
fn assert_mute(error: &Value) {
    let data = &error["data"];
    assert_eq!((&data["reason"], &data["afterMs"]), (&json!("timeout"), &json!(200)), "{error}");
    assert!(data["what"].as_str().unwrap().starts_with("child start"), "{error}");
    assert_eq!(data["stderr"], json!(["looking for a database"]));
}

// --- pipe ----------------------------------------------------------------------------------------------------

#[test]
fn client_on_stdin_is_told_the_last_words() {
    let mut session = Session::of_script(&[], DYING);
    session.send(format!("{CALL}\n"));
    let (id, error) = error(&session.stdout.line());
    assert_eq!(id, 1);
    assert_died(&error);
    let Ended { code, stderr, .. } = session.wait();
    assert_eq!(code, Some(1));
    let failure = stderr.lines().last().unwrap();
    assert!(failure.contains("the server ended (status 3)") && failure.ends_with("| no such table: users"), "{stderr}");
}

/// What a process left behind says is no reason to wait, and neither is that it could say something.
#[test]
fn last_words_are_told_while_another_process_holds_stderr() {
    let mut session = Session::of_script(&QUICK, "sleep 1000 >/dev/null & read line; echo 'last' >&2; exit 3");
    session.send(format!("{CALL}\n"));
    let (_, error) = error(&session.stdout.line());
    assert_eq!(error["data"]["stderr"], json!(["last"]));
    assert_eq!(session.wait().code, Some(1));
}

#[test]
fn client_on_stdin_is_told_that_the_server_is_mute() {
    let mut session = Session::of_script(&["--start-timeout", "200ms"], MUTE);
    session.send(format!("{}\n", initialize("2025-11-25")));
    let (id, error) = error(&session.stdout.line());
    assert_eq!(id, "init");
    assert_mute(&error);
    let Ended { code, stdout, stderr } = session.wait();
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    let failure = stderr.lines().last().unwrap();
    assert!(failure.contains("did not answer initialize within 200ms"), "{stderr}");
    assert!(failure.contains("--start-timeout"), "what to do next: {stderr}");
    assert!(failure.contains("looking for a database"), "{stderr}");
}

/// A server that has started may take its time, and so may one that was asked for something else.
#[test]
fn only_the_start_has_a_limit() {
    let script = r#"
        read line; echo '{"jsonrpc":"2.0","id":"init","result":{}}'
        read line; sleep 0.5; echo '{"jsonrpc":"2.0","id":1,"result":{}}'
        while read line; do :; done
    "#;
    let mut session = Session::of_script(&["--start-timeout", "200ms"], script);
    session.send(format!("{}\n{CALL}\n", initialize("2025-11-25")));
    assert!(session.stdout.line().contains("init"));
    assert!(session.stdout.line().contains("\"id\":1,\"result\""));
    assert_eq!(session.end().code, Some(0));

    let late = r#"read line; sleep 0.5; echo '{"jsonrpc":"2.0","id":1,"result":{}}'"#;
    let mut session = Session::of_script(&["--start-timeout", "200ms"], late);
    session.send(format!("{CALL}\n"));
    assert!(session.stdout.line().contains("\"id\":1,\"result\""));
}

// --- lines ---------------------------------------------------------------------------------------------------

/// The answer to one message over a socket with a child behind it.
fn asked_over_socket(options: &[&str], script: &str, message: &str) -> (Value, Value) {
    let here = TempDir::new().unwrap();
    let path = here.join("socket");
    let listen = format!("unix:{}", path.display());
    let args = [&["proxy", "--listen", &listen], options, &["--", "sh", "-c", script]].concat();
    let mut proxy = Launch::new(args).start();
    proxy.stderr.line_with("listening");
    let mut socket = UnixStream::connect(path).unwrap();
    socket.write_all(format!("{message}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(&socket).read_line(&mut line).unwrap();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_unread(), Some(0));
    error(&line)
}

#[test]
fn client_on_a_socket_is_told_the_last_words() {
    let (id, error) = asked_over_socket(&QUICK, DYING, CALL);
    assert_eq!(id, 1);
    assert_died(&error);
    let options = [&QUICK[..], &["--start-timeout", "200ms"]].concat();
    let (id, error) = asked_over_socket(&options, MUTE, &initialize("2025-11-25"));
    assert_eq!(id, "init");
    assert_mute(&error);
}

// --- mux -----------------------------------------------------------------------------------------------------

#[test]
fn modern_client_over_http_is_told_the_last_words() {
    let mux = Mux::of_server(&QUICK, &["sh", "-c", DYING]);
    let answer = answer(mux.send(&run("1", "").modern()));
    assert_eq!(answer["id"], 1);
    assert_died(&answer["error"]);
}

#[test]
fn legacy_client_over_http_is_told_the_last_words() {
    let mux = Mux::start(&QUICK);
    let client = Client::start(&mux, "2025-11-25");
    let dying = run("1", r#"{"stderr":"first"},{"stderr":"last"},{"exit":3}"#);
    let answer = answer(mux.send(&client.post(dying.legacy_body())));
    assert_eq!((&answer["id"], &answer["error"]["data"]["exitCode"]), (&json!(1), &json!(3)));
    assert_eq!(answer["error"]["data"]["stderr"], json!(["first", "last"]));
}

/// The session never was, so nobody is told its id, and its child is not left.
#[test]
fn legacy_client_over_http_is_told_that_the_server_is_mute() {
    let options = [&QUICK[..], &["--start-timeout", "200ms"]].concat();
    let mux = Mux::with_env(&options, &["FIXTURE_MUTE=1", "FIXTURE_STDERR=looking for a database"]);
    let response = mux.send(&Request::post(initialize("2025-11-25")));
    let answer = answer(response);
    assert_eq!(answer["id"], "init");
    assert_mute(&answer["error"]);
    eventually("its child is ended", || mux.pids().is_empty());
}
