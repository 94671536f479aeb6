//! Sessions of the real program: a client on its stdin and stdout, real servers as its children, and what
//! crosses. What is left behind afterwards is asserted at the end of each.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use std::{io::Write as _, process::ChildStdin, thread};

use serde_json::{Value, json};
use support::{Ended, Session};

/// A server that does nothing until its input ends.
const IDLE: &str = "while read line; do :; done";

/// The built-in server, which answers.
fn demo_server() -> [&'static str; 2] {
    [env!("CARGO_BIN_EXE_shadowcat"), "__demo-server"]
}

/// Writes from a thread of its own, and leaves the stream open until it is dropped.
fn send_meanwhile(session: &mut Session, bytes: Vec<u8>) -> thread::JoinHandle<ChildStdin> {
    let mut stdin = session.stdin.take().unwrap();
    thread::spawn(move || {
        stdin.write_all(&bytes).unwrap();
        stdin
    })
}

/// A notification of exactly `len` bytes, with its line end.
fn message_of(len: usize) -> Vec<u8> {
    let (head, tail) = (r#"{"jsonrpc":"2.0","method":"x","params":{"data":""#, "\"}}\n");
    [head.as_bytes(), &vec![b'x'; len - head.len() - tail.len()], tail.as_bytes()].concat()
}

#[track_caller]
fn assert_clean(ended: &Ended) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

/// What the proxy said last, and only it: one line.
#[track_caller]
fn assert_failed(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("shadowcat: "), "{ended:?}");
    for word in words {
        assert!(last.contains(word), "no {word:?} in {last:?}");
    }
}

// --- bytes -------------------------------------------------------------------------------------------------

/// Messages that most programs change on their way. None is a request, so that `cat` may send them back.
fn hostile_messages() -> Vec<String> {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let params = [
        r#""big":9007199254740993,"float":1.0,"minus":-0,"huge":1e400,"tiny":1E-999,"long":0.10000000000000000000001"#,
        r#""z":1,"a":2,"Z":3,"z":4,"":5,"__proto__":6"#,
        r#""escapes":"\u00e9\/\b\f\n\r\t\"\\ \u0000 \ud83d\ude00","raw":"é / 😀""#,
        r#""lone":"\ud800","turned":"\udc00\ud800","half":"x\udfff""#,
        "\"separators\":\"\u{2028}\u{2029}\u{85}\u{feff}\u{7f}\",\"zero width\":\"\u{200d}🐈‍⬛\"",
        r#"  "spaces" :	[ 1 , 2 ,  { } ]  "#,
        &format!("\"deep\":{nested}"),
    ];
    let mut messages: Vec<String> = Vec::new();
    messages.extend(params.map(|params| format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{{params}}}}}"#)));
    let ids = ["0", "-0", "\"\"", "18446744073709551616", "1.0", "1e2", r#""\u0061\ud83d\ude00""#, r#""a b""#, "null"];
    messages.extend(ids.map(|id| format!(r#"{{"id":{id},"result":{{"x":1.0}},"jsonrpc":"2.0"}}"#)));
    messages.push(r#"{"result":null,"unknown":{"method":1},"jsonrpc":"2.0","id":12}"#.to_owned());
    messages.push(r#" { "method" : "spaced" , "jsonrpc" : "2.0" } "#.to_owned());
    messages
}

#[test]
fn hostile_messages_cross_both_ways_byte_for_byte() {
    let mut session = Session::of_server(&[], &["cat"]);
    for message in hostile_messages() {
        session.send(format!("{message}\n"));
        assert_eq!(session.stdout.line(), message);
    }
    let all = hostile_messages().join("\n") + "\n";
    let sending = send_meanwhile(&mut session, all.clone().into_bytes());
    sending.join().unwrap();
    let ended = session.end();
    assert_clean(&ended);
    assert_eq!(ended.stdout, all);
}

#[test]
fn only_framing_changes_and_only_to_a_line_feed() {
    let mut session = Session::of_server(&[], &["cat"]);
    let (one, two) = (r#"{"jsonrpc":"2.0","method":"a"}"#, r#"{"jsonrpc":"2.0","method":"b"}"#);
    session.send(format!("\u{feff}{one}\r\n\n\r\n{two}\n\n\n{one}\r\n{two}"));
    let ended = session.end();
    assert_clean(&ended);
    assert_eq!(ended.stdout, format!("{one}\n{two}\n{one}\n{two}\n"));
}

#[test]
fn answers_come_with_the_spelling_of_their_request() {
    let mut session = Session::of_server(&[], &demo_server());
    for id in ["0", "\"\"", "18446744073709551616", "1.0", "1", r#""\u0061""#, r#""1""#, "-0"] {
        session.send(format!("{{\"id\":{id},\"method\":\"ping\",\"jsonrpc\":\"2.0\"}}\n"));
        assert_eq!(session.stdout.line(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    assert_clean(&session.end());
}

#[test]
fn message_of_4_mib_crosses_both_ways() {
    assert_crosses(4 << 20);
}

#[test]
fn message_just_under_the_limit_crosses_both_ways() {
    // The limit does not count the line end.
    assert_crosses(64 << 20);
}

fn assert_crosses(len: usize) {
    let mut session = Session::of_server(&[], &["cat"]);
    let message = message_of(len);
    let sending = send_meanwhile(&mut session, message.clone());
    assert!(session.stdout.take(len) == message);
    session.stdin = Some(sending.join().unwrap());
    assert_clean(&session.end());
}

#[test]
fn overlong_messages_are_skipped_and_answered_and_the_next_one_works() {
    let mut session = Session::of_server(&["--max-frame-len", "1KiB"], &["cat"]);
    session.send([message_of(1 << 10), message_of(1026), message_of(100_000)].concat());
    assert_eq!(session.stdout.line().len(), 1023);
    let long = "x".repeat(2000);
    for id in ["7.0", r#""\u0061""#] {
        session.send(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{long}\",\"id\":{id}}}\n"));
        let line = session.stdout.line();
        let error = error_of(&line);
        assert!(line.contains(&format!("\"id\":{id},")), "{line}");
        assert_eq!(error["error"]["data"]["reason"], "message_too_large");
        assert_eq!(error["error"]["data"]["limit"], 1024);
    }
    session.send("{\"jsonrpc\":\"2.0\",\"method\":\"next\"}\n");
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","method":"next"}"#);
    let ended = session.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
}

#[test]
fn many_messages_arrive_in_order_and_once() {
    let all: String =
        (0..20_000).map(|n| format!("{{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":[{n}]}}\n")).collect();
    let mut session = Session::of_server(&[], &["cat"]);
    let sending = send_meanwhile(&mut session, all.clone().into_bytes());
    assert!(session.stdout.take(all.len()) == all.as_bytes());
    session.stdin = Some(sending.join().unwrap());
    assert_clean(&session.end());
}

// --- half-close ----------------------------------------------------------------------------------------------

#[test]
fn answer_long_after_the_clients_end_is_delivered() {
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let script = format!("read request; while read more; do :; done; sleep 7; echo '{answer}'");
    let mut session = Session::of_script(&[], &script);
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n");
    let ended = session.end();
    assert_clean(&ended);
    assert_eq!(ended.stdout, format!("{answer}\n"));
}

#[test]
fn drain_deadline_ends_the_wait_for_answers() {
    let script = "read request; while read more; do :; done; exec sleep 1000";
    let mut session = Session::of_script(&["--drain-timeout", "100ms", "--shutdown-grace", "100ms"], script);
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n");
    let ended = session.end();
    assert_failed(&ended, &["signal 15", "1 request"]);
    assert_eq!(error_of(&ended.stdout)["error"]["data"]["signal"], 15);
}

// --- a server that fails -------------------------------------------------------------------------------------

fn error_of(line: &str) -> Value {
    let error: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&error["jsonrpc"], &error["error"]["data"]["source"]), (&json!("2.0"), &json!("shadowcat")), "{line}");
    error
}

/// Four requests, one of which is answered before the server ends as `end` says.
fn fail(end: &str) -> Ended {
    let script =
        format!("read a; read b; read c; read d; echo '{}'; {end}", r#"{"jsonrpc":"2.0","id":"b","result":{}}"#);
    let mut session = Session::of_script(&["--shutdown-grace", "100ms"], &script);
    for id in ["18446744073709551617", r#""b""#, r#""\u0063""#, "1.0"] {
        session.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\"}}\n"));
    }
    let stdin = session.stdin.take();
    let ended = session.wait();
    drop(stdin);
    ended
}

/// Asserts that each of the three requests that were not answered got one error.
fn assert_errors(ended: &Ended, data: &Value) {
    let mut lines = ended.stdout.lines();
    assert_eq!(lines.next(), Some(r#"{"jsonrpc":"2.0","id":"b","result":{}}"#));
    let mut ids: Vec<&str> = Vec::new();
    for line in lines {
        let error = error_of(line);
        for (key, value) in data.as_object().unwrap() {
            assert_eq!(&error["error"]["data"][key], value, "{line}");
        }
        let (_, id) = line.split_once("\"id\":").unwrap();
        ids.push(id.split_once(',').unwrap().0);
    }
    ids.sort_unstable();
    assert_eq!(ids, [r#""\u0063""#, "1.0", "18446744073709551617"]);
}

#[test]
fn requests_of_a_server_that_exits_get_one_error_each() {
    let ended = fail("exit 3");
    assert_failed(&ended, &["status 3", "3 requests"]);
    assert_errors(&ended, &json!({"reason": "server_exited", "exitCode": 3}));
}

#[test]
fn requests_of_a_server_that_is_killed_get_one_error_each() {
    let ended = fail("kill -9 $$");
    assert_failed(&ended, &["signal 9", "3 requests"]);
    assert_errors(&ended, &json!({"reason": "server_exited", "signal": 9}));
}

#[test]
fn server_that_closes_its_stdout_and_lingers_is_ended() {
    let ended = fail("exec >&-; exec sleep 1000");
    assert_failed(&ended, &["signal 15", "3 requests"]);
    assert_errors(&ended, &json!({"reason": "server_exited", "signal": 15}));
}

#[test]
fn server_that_exits_before_it_was_asked_is_a_failure() {
    for status in [0, 3] {
        let mut session = Session::of_script(&[], &format!("exit {status}"));
        let stdin = session.stdin.take();
        let ended = session.wait();
        drop(stdin);
        assert_failed(&ended, &[&format!("status {status}"), "before the client was done"]);
        assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{ended:?}");
    }
}

#[test]
fn noise_on_a_servers_stdout_is_kept_back_and_logged() {
    let script = r#"
        echo 'Server starting on stdio...'
        echo '{"jsonrpc":"2.0","method":"half'
        printf '\000\377\n[INFO] ready\n'
        read request
        echo '{"jsonrpc":"2.0","id":1,"result":{}}'
        while read more; do :; done
        echo 'Goodbye'
    "#;
    let mut session = Session::of_script(&[], script);
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n");
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let ended = session.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert_eq!(ended.stderr.matches("not a message").count(), 5, "{ended:?}");
    assert!(!ended.stderr.contains("Goodbye"), "payloads are not logged: {ended:?}");
}

#[test]
fn what_a_server_wrote_before_it_exited_is_read_however_late() {
    let lines = 1760;
    let script = format!(
        "read a; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo '{{\"jsonrpc\":\"2.0\",\"method\":\"0123456789012345678901234567890123456789\"}}'; done"
    );
    let mut session = Session::of_script(&["--log-level", "debug"], &script);
    session.send("{\"jsonrpc\":\"2.0\",\"method\":\"go\"}\n");
    session.stdin = None;
    session.stderr.line_with("server exited");
    // Longer than the stdout of a server that has exited is waited for when nothing comes.
    thread::park_timeout(std::time::Duration::from_millis(2500));
    let ended = session.wait();
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), lines), "{}", ended.stderr);
}

// --- surroundings of a server --------------------------------------------------------------------------------

#[test]
fn environment_and_directory_reach_the_server() {
    let show = r#"echo "{\"jsonrpc\":\"2.0\",\"method\":\"$A|$B|${HOME+set}|$PWD\"}"; while read line; do :; done"#;
    for (options, shown) in [
        (&["--env", "A=1=2", "--env", "B=two words", "--cwd", "/"][..], "1=2|two words|set|/"),
        (&["--env-clear", "--env", "A=x", "--cwd", "/"], "x|||/"),
    ] {
        let mut session = Session::of_server(options, &["/bin/sh", "-c", show]);
        assert_eq!(session.stdout.line(), format!(r#"{{"jsonrpc":"2.0","method":"{shown}"}}"#));
        assert_clean(&session.end());
    }
}

// --- floods and backpressure ---------------------------------------------------------------------------------

#[test]
fn both_directions_flooded_at_once_do_not_lock() {
    let line = r#"{"jsonrpc":"2.0","method":"0123456789012345678901234567890123456789"}"#;
    // The server reads nothing before it has written 4 MiB, and so does the client.
    let script = format!("yes '{line}' | head -n 60000; cat >/dev/null");
    let mut session = Session::of_script(&[], &script);
    let sending = send_meanwhile(&mut session, format!("{line}\n").repeat(60_000).into_bytes());
    let received = session.stdout.take(60_000 * (line.len() + 1));
    assert!(received == format!("{line}\n").repeat(60_000).as_bytes());
    session.stdin = Some(sending.join().unwrap());
    assert_clean(&session.end());
}

#[test]
fn client_that_writes_much_and_reads_late_gets_everything() {
    let mut session = Session::of_script(&[], "all=$(cat); printf '%s\\n' \"$all\"");
    let all = message_of(1000).repeat(2000);
    session.send(&all);
    let ended = session.end();
    assert_clean(&ended);
    assert!(ended.stdout.as_bytes() == all);
}

/// Most memory this process ever had resident, in KiB.
#[cfg(target_os = "linux")]
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let (_, value) = status.split_once("VmHWM:").unwrap();
    value.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn client_that_does_not_read_stops_the_server_and_costs_no_memory() {
    let line = r#"{"jsonrpc":"2.0","method":"0123456789012345678901234567890123456789"}"#;
    let script = format!("yes '{line}' | head -c 200000000; {IDLE}");
    let mut session = Session::of_script(&["--log-level", "debug"], &script);
    session.stderr.line_with("server started");
    // Nothing is read until everything between stands still: the server's writer sleeps in its pipe.
    let head = session.process("head -c");
    support::eventually("the server is stopped", || {
        let before = written(head);
        thread::park_timeout(std::time::Duration::from_millis(200));
        before > 0 && before == written(head)
    });
    assert!(written(head) < 2 << 20, "{} bytes were taken from the server", written(head));
    session.stdout.take(32 << 20);
    let most = most_memory(session.pid);
    assert!(most < 20 << 10, "{most} KiB");
    session.signal(rustix::process::Signal::KILL);
    assert_eq!(session.wait_unread(), None);
}

/// Bytes a process has written so far.
#[cfg(target_os = "linux")]
fn written(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let (_, value) = io.split_once("wchar: ").unwrap();
    value.split_ascii_whitespace().next().unwrap().parse().unwrap()
}
