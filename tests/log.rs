//! What the real program says on stderr: the server's own lines, the log, and nothing that stops a session.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::Session;

#[test]
fn stderr_of_the_server_is_passed_on_with_its_name() {
    let mut session = Session::of_script(&[], "echo one >&2; printf 'two\r\nthree' >&2; while read line; do :; done");
    assert_eq!(session.stderr.line(), "[sh] one");
    assert_eq!(session.stderr.line(), "[sh] two");
    let ended = session.end();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", "[sh] three\n"));
}

#[test]
fn flood_on_stderr_that_nobody_reads_stops_nothing() {
    let flood = "yes \"$(seq -s ' ' 100)\" | head -c 25000000 >&2; head -c 1000000 /dev/zero >&2";
    let script = format!("{flood}; exec {} __demo-server", env!("CARGO_BIN_EXE_shadowcat"));
    let mut session = Session::of_script(&[], &script);
    for id in 0..100 {
        session.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n"));
        assert_eq!(session.stdout.line(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    session.stdin = None;
    assert_eq!(session.wait_unread(), Some(0));
}

#[test]
fn failure_ends_also_when_nobody_reads_stderr() {
    let session = Session::of_script(&[], "yes \"$(seq -s ' ' 100)\" | head -c 25000000 >&2; exit 3");
    assert_eq!(session.wait_unread(), Some(1));
}

#[test]
fn flood_on_stderr_does_not_hide_a_signal() {
    let mut session = Session::of_script(&["--shutdown-grace", "100ms"], "echo first >&2; yes >&2");
    session.stderr.line();
    session.signal(Signal::TERM);
    assert_eq!(session.wait_unread(), Some(0));
}

#[test]
fn json_log_is_one_object_a_line() {
    let script = "echo 'a \"quoted\" line' >&2; echo noise; while read line; do echo \"$line\"; done";
    let mut session = Session::of_script(&["--log-level", "debug", "--log-format", "json"], script);
    session.send("{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n");
    session.stdout.line();
    let ended = session.end();
    assert_eq!(ended.code, Some(0));
    let lines: Vec<Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.contains(&json!({"server": "sh", "stderr": "a \"quoted\" line"})), "{lines:?}");
    assert!(lines.iter().any(|line| line["fields"]["message"] == "message"), "{lines:?}");
}

#[test]
fn failure_is_an_object_too_in_a_json_log() {
    let mut session = Session::of_script(&["--log-format", "json"], "exit 3");
    let stdin = session.stdin.take();
    let ended = session.wait();
    drop(stdin);
    let line: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert!(line["fields"]["message"].as_str().unwrap().contains("status 3"), "{ended:?}");
}

#[test]
fn debug_log_has_one_line_a_message_and_no_payload() {
    let mut session =
        Session::of_server(&["--log-level", "debug"], &[env!("CARGO_BIN_EXE_shadowcat"), "__demo-server"]);
    let call = |id| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"key":"S3CRET"}}}}}}"#
        ) + "\n"
    };
    for id in 100..110 {
        session.send(call(id));
        assert!(session.stdout.line().contains("S3CRET"));
    }
    let ended = session.end();
    assert_eq!(ended.code, Some(0));
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("inside_us")).collect();
    assert_eq!(lines.len(), 20, "{}", ended.stderr);
    for id in 100..110 {
        let of_id: Vec<_> = lines.iter().filter(|line| line.contains(&format!("id=Some(\"{id}\")"))).collect();
        assert!(of_id[0].contains("from=client") && of_id[0].contains("tools/call"), "{of_id:?}");
        assert!(of_id[1].contains("from=server") && of_id[1].contains("answered_us"), "{of_id:?}");
    }
    assert!(!ended.stderr.contains("S3CRET"), "{}", ended.stderr);
}
