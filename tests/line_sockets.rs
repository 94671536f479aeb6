//! Lines of JSON over sockets, on either side of the real program: a session for each connection, what crosses it,
//! how each party's end reaches the others, and who is not let in.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[path = "line_sockets/ends.rs"]
mod ends;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::{
    fs,
    net::{Shutdown, TcpListener},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
};

use rustix::process::Signal;

use ends::{Conn, Lines, Server};
use support::{Launch, kill};
use temp::TempDir;
use upstream::Upstream;

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];

/// Sends back what it gets, and tells by a further message how often it did.
const COUNT: &str =
    r#"n=0; while read -r line; do n=$((n+1)); echo "$line"; echo "{\"jsonrpc\":\"2.0\",\"method\":\"$n\"}"; done"#;

/// Says that it has read its first request, and answers it when its input has ended, and not before.
const LATE: &str = r#"
    read -r first
    echo '{"jsonrpc":"2.0","method":"read"}'
    while read -r more; do :; done
    echo '{"jsonrpc":"2.0","id":1,"result":{}}'
"#;

/// Says that it has read something, and answers nothing.
const SILENT: &str = r#"
    while read -r line; do echo '{"jsonrpc":"2.0","method":"read"}'; done
    exec sleep 1000
"#;

const REQUEST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const READ: &str = r#"{"jsonrpc":"2.0","method":"read"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","method":"ping"}"#;

/// Messages that most programs change on their way. None is a request, so that a server may send them back.
fn hostile() -> Vec<String> {
    [
        r#"{"jsonrpc":"2.0","method":"x","params":{"big":9007199254740993,"float":1.0,"huge":1e400,"z":1,"a":2,"z":3}}"#,
        r#"{"jsonrpc":"2.0","method":"x","params":{"escapes":"\u00e9\/\b\u0000 \ud83d\ude00","lone":"\ud800"}}"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"separators\":\"\u{2028}\u{85}\u{feff}\u{7f}\"}}",
        r#" { "method" : "spaced" , "jsonrpc" : "2.0" } "#,
        r#"{"id":18446744073709551616,"result":{"x":1.0},"jsonrpc":"2.0"}"#,
    ]
    .map(str::to_owned)
    .into()
}

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in {text:?}");
}

// --- bytes ---------------------------------------------------------------------------------------------------

fn assert_exact(mut conn: Conn) {
    for message in hostile() {
        conn.send(format!("{message}\n"));
        assert_eq!(conn.line(), message);
    }
    let long = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"data":"{}"}}}}"#, "x".repeat(4 << 20));
    let sending = conn.send_meanwhile(format!("{long}\n"));
    assert!(conn.line() == long);
    sending.join().unwrap();
    conn.finish();
    assert_eq!(conn.rest(), "");
}

#[test]
fn hostile_messages_cross_byte_for_byte_from_either_kind_of_socket_to_a_child() {
    let here = TempDir::new().unwrap();
    for address in [format!("unix:{}", here.join("socket").display()), "tcp:127.0.0.1:0".to_owned()] {
        let mut lines = Lines::start(&address, &[], &["--", "cat"]);
        assert_exact(lines.connect());
        assert_eq!(lines.stop().stderr, "");
    }
}

#[test]
fn hostile_messages_cross_byte_for_byte_between_two_sockets() {
    let here = TempDir::new().unwrap();
    let path = here.join("socket");
    let mut inner = Lines::start(&format!("unix:{}", path.display()), &[], &["--", "cat"]);
    let mut outer = Lines::start("tcp:0", &[], &[&inner.address]);
    assert_exact(outer.connect());
    assert_eq!(outer.stop().stderr, "");
    assert_eq!(inner.stop().stderr, "");
}

#[test]
fn client_on_stdin_reaches_a_server_on_a_socket() {
    let here = TempDir::new().unwrap();
    for server in [Server::tcp(), Server::unix(&here.join("socket"))] {
        let mut session = Launch::new(["proxy", &server.address]).start();
        let mut conn = server.accept();
        for message in hostile() {
            session.send(format!("{message}\r\n"));
            assert_eq!(conn.line(), message);
            conn.send(format!("{message}\n"));
            assert_eq!(session.stdout.line(), message);
        }
        session.send(format!("{REQUEST}\n"));
        assert_eq!(conn.line(), REQUEST);
        session.stdin = None;
        // Our end reaches the server; its answer still reaches the client.
        assert_eq!(conn.rest(), "");
        conn.send(format!("{ANSWER}\n"));
        assert_eq!(session.stdout.line(), ANSWER);
        drop(conn);
        let ended = session.wait();
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
    }
}

#[test]
fn client_on_a_socket_reaches_a_server_over_http() {
    let upstream = Upstream::start();
    let mut lines = Lines::start("tcp:0", &[], &[&upstream.url]);
    let mut conn = lines.connect();
    conn.send(format!("{REQUEST}\n"));
    let asked = upstream.post();
    assert_eq!(asked.text(), REQUEST);
    asked.json(ANSWER);
    assert_eq!(conn.line(), ANSWER);
    conn.finish();
    assert_eq!(conn.rest(), "");
    lines.stop();
}

// --- sessions ------------------------------------------------------------------------------------------------

#[test]
fn sessions_have_a_child_each_and_share_no_ids() {
    let mut lines = Lines::start("tcp:0", &[], &["--", "sh", "-c", COUNT]);
    let (mut one, mut two) = (lines.connect(), lines.connect());
    for conn in [&mut one, &mut two] {
        conn.send(format!("{ANSWER}\n"));
    }
    for conn in [&mut one, &mut two] {
        assert_eq!(conn.line(), ANSWER);
        assert_has(&conn.line(), r#""method":"1""#);
    }
    one.finish();
    assert_eq!(one.rest(), "");
    two.send(format!("{ANSWER}\n"));
    assert_eq!(two.line(), ANSWER);
    assert_has(&two.line(), r#""method":"2""#);
    drop(two);
    lines.stop();
}

#[test]
fn client_beyond_the_limit_is_answered_why_and_the_others_go_on() {
    let mut lines = Lines::start("tcp:0", &["--max-sessions", "1"], &["--", "cat"]);
    let mut first = lines.connect();
    first.send(format!("{PING}\n"));
    assert_eq!(first.line(), PING);
    let mut second = lines.connect();
    second.send("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"initialize\"}\n");
    let answer = second.line();
    assert_has(&answer, r#""id":"x","error":"#);
    assert_has(&answer, r#""reason":"too_many_sessions","limit":1"#);
    assert_eq!(second.rest(), "");
    first.send(format!("{PING}\n"));
    assert_eq!(first.line(), PING);
    first.finish();
    assert_eq!(first.rest(), "");
    // Its place is free once it has ended, which takes a moment to be seen.
    support::eventually("a place is free", || {
        let mut third = lines.connect();
        third.send(format!("{PING}\n{REQUEST}\n"));
        third.line() == PING
    });
    lines.stop();
}

// --- ends ----------------------------------------------------------------------------------------------------

#[test]
fn client_that_has_ended_its_output_still_gets_its_answers() {
    let here = TempDir::new().unwrap();
    for address in [format!("unix:{}", here.join("socket").display()), "tcp:0".to_owned()] {
        let mut lines = Lines::start(&address, &[], &["--", "sh", "-c", LATE]);
        let mut conn = lines.connect();
        conn.send(format!("{REQUEST}\n"));
        conn.finish();
        assert_eq!(conn.rest(), format!("{READ}\n{ANSWER}\n"));
        assert_eq!(lines.stop().stderr, "");
    }
}

#[test]
fn gone_client_takes_its_child_along_and_no_other() {
    let here = TempDir::new().unwrap();
    let address = format!("unix:{}", here.join("socket").display());
    let mut lines = Lines::start(&address, &QUICK, &["--", "sh", "-c", SILENT]);
    let (mut gone, mut stays) = (lines.connect(), lines.connect());
    for conn in [&mut gone, &mut stays] {
        conn.send(format!("{REQUEST}\n"));
        assert_eq!(conn.line(), READ);
    }
    let children = || lines.session.processes().iter().filter(|process| process.words.starts_with("sh -c")).count();
    assert_eq!(children(), 2);
    // With a request in flight: it is not the end of its output that ends the child, but its departure.
    drop(gone);
    support::eventually("one child", || {
        let sleeping = lines.session.processes().iter().any(|process| process.words.starts_with("sleep"));
        children() == 1 && !sleeping
    });
    drop(stays);
    lines.stop();
}

#[test]
fn reset_by_a_client_over_tcp_takes_its_child_along() {
    let mut lines = Lines::start("tcp:0", &QUICK, &["--", "sh", "-c", SILENT]);
    let mut conn = lines.connect();
    conn.send(format!("{REQUEST}\n"));
    assert_eq!(conn.line(), READ);
    conn.reset();
    support::eventually("no child", || {
        !lines.session.processes().iter().any(|p| p.words.starts_with("sh -c") || p.words.starts_with("sleep"))
    });
    lines.stop();
}

#[test]
fn killed_child_is_told_to_its_client() {
    let mut lines = Lines::start("tcp:0", &[], &["--", "sh", "-c", SILENT]);
    let mut conn = lines.connect();
    conn.send(format!("{REQUEST}\n"));
    assert_eq!(conn.line(), READ);
    kill(lines.session.process("sh -c"), Signal::KILL);
    let rest = conn.rest();
    assert_has(&rest, r#""id":1,"error":"#);
    assert_has(&rest, r#""reason":"server_exited","signal":9"#);
    assert_eq!(rest.lines().count(), 1, "{rest}");
    lines.stop();
}

#[test]
fn killed_proxy_leaves_no_child() {
    let lines = Lines::start("tcp:0", &[], &["--", "sh", "-c", SILENT]);
    let mut conn = lines.connect();
    conn.send(format!("{REQUEST}\n"));
    assert_eq!(conn.line(), READ);
    lines.session.signal(Signal::KILL);
    assert_eq!(lines.session.wait_unread(), None);
    lines.session.assert_gone();
}

#[test]
fn server_that_hangs_up_is_told_to_a_client_on_stdin_and_is_a_failure() {
    let server = Server::tcp();
    let mut session = Launch::new(["proxy", &server.address]).start();
    let mut conn = server.accept();
    session.send(format!("{REQUEST}\n"));
    assert_eq!(conn.line(), REQUEST);
    drop(conn);
    let answer = session.stdout.line();
    assert_has(&answer, r#""id":1,"error":"#);
    assert_has(&answer, r#""reason":"stream_ended""#);
    let ended = session.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert_has(&ended.stderr, "with 1 request unanswered");
}

#[test]
fn killed_client_on_stdin_ends_the_servers_connection() {
    let server = Server::tcp();
    let mut session = Launch::new(["proxy", &server.address]).start();
    let mut conn = server.accept();
    session.send(format!("{REQUEST}\n"));
    assert_eq!(conn.line(), REQUEST);
    // What a client leaves that is killed: both its pipes end.
    session.stdin = None;
    session.stdout = support::Output::closed();
    assert_eq!(conn.rest(), "");
    assert_eq!(session.wait_unread(), Some(0));
}

#[test]
fn server_that_does_not_end_its_connection_is_cut_off() {
    let server = Server::tcp();
    let mut session = Launch::new(["proxy", "--shutdown-grace", "100ms", &server.address]).start();
    let mut conn = server.accept();
    session.send(format!("{PING}\n"));
    assert_eq!(conn.line(), PING);
    assert_eq!(session.end().code, Some(0));
    assert_eq!(conn.rest(), "");
}

// --- servers that are not there ------------------------------------------------------------------------------

#[test]
fn socket_that_cannot_be_reached_is_2_and_named() {
    let here = TempDir::new().unwrap();
    let nobody = format!("unix:{}", here.join("nobody").display());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in [nobody, format!("tcp:127.0.0.1:{port}")] {
        let ended = Launch::new(["proxy", &address]).start().wait();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.starts_with("shadowcat: ") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_has(&ended.stderr, &address);
    }
}

#[test]
fn client_on_a_socket_is_answered_when_there_is_no_server() {
    let here = TempDir::new().unwrap();
    let nobody = format!("unix:{}", here.join("nobody").display());
    for (server, named) in [(&["--", "no-such-program-4711"][..], "no-such-program-4711"), (&[&nobody], &nobody)] {
        let mut lines = Lines::start("tcp:0", &[], server);
        let mut conn = lines.connect();
        conn.send(format!("{PING}\n{REQUEST}\n"));
        let answer = conn.line();
        assert_has(&answer, r#""id":1,"error":"#);
        assert_has(&answer, r#""reason":"server_unreachable""#);
        assert_has(&answer, named);
        assert_eq!(conn.rest(), "");
        lines.stop();
    }
}

// --- being told to stop --------------------------------------------------------------------------------------

#[test]
fn drain_lets_what_was_asked_be_answered_and_takes_nobody_in() {
    let here = TempDir::new().unwrap();
    let path = here.join("socket");
    let lines = Lines::start(&format!("unix:{}", path.display()), &[], &["--", "sh", "-c", LATE]);
    let mut conn = lines.connect();
    conn.send(format!("{REQUEST}\n"));
    assert_eq!(conn.line(), READ);
    lines.session.signal(Signal::TERM);
    assert_eq!(conn.rest(), format!("{ANSWER}\n"));
    drop(conn);
    assert_eq!(lines.session.wait_unread(), Some(0));
    assert!(!path.exists());
}

#[test]
fn drain_deadline_and_second_signal_end_what_does_not_end() {
    for signals in [1, 2] {
        let timeout = if signals == 1 { "100ms" } else { "1h" };
        let options = [&QUICK[..], &["--drain-timeout", timeout, "--log-level", "info"]].concat();
        let mut lines = Lines::start("tcp:0", &options, &["--", "sh", "-c", SILENT]);
        let mut conn = lines.connect();
        conn.send(format!("{REQUEST}\n"));
        assert_eq!(conn.line(), READ);
        lines.session.signal(Signal::TERM);
        lines.session.stderr.line_with("told to stop");
        if signals == 2 {
            lines.session.signal(Signal::TERM);
        }
        let rest = conn.rest_or_reset();
        if signals == 1 {
            assert_has(&rest, r#""id":1,"error":"#);
        }
        drop(conn);
        assert_eq!(lines.session.wait_unread(), Some(0));
        lines.session.assert_gone();
    }
}

// --- who is not let in ---------------------------------------------------------------------------------------

#[test]
fn http_requests_on_a_port_of_lines_are_refused_before_their_body_is_obeyed() {
    let mut lines = Lines::start("tcp:0", &[], &["--", "cat"]);
    let body = format!("\n{PING}\n");
    for head in [
        "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: text/plain\r\n\r\n",
        "GET /?{ HTTP/1.1\r\n\r\n",
        "patch / HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}",
        &format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)),
    ] {
        let mut conn = lines.connect();
        conn.send_if_taken(format!("{head}{body}"));
        assert_eq!(conn.rest_or_reset(), "", "{head:?}");
        assert_has(&lines.session.stderr.line(), "refused");
    }
    assert!(!lines.session.processes().iter().any(|process| process.words.starts_with("cat")));
    let mut conn = lines.connect();
    conn.send(format!("\r\n {PING}\n"));
    assert_eq!(conn.line(), format!(" {PING}"));
    drop(conn);
    lines.stop();
}

#[test]
fn other_machines_are_let_in_only_with_a_warning() {
    let mut session = Launch::new(["proxy", "--listen", "tcp:0.0.0.0:0", "--log-level", "off", "--", "cat"]).start();
    assert!(session.stderr.line().starts_with("WARNING: 0.0.0.0:"));
    assert_has(&session.stderr.line(), "listening on tcp:0.0.0.0:");
    session.signal(Signal::TERM);
    assert_eq!(session.wait().code, Some(0));
}

#[test]
fn socket_file_is_its_owners_and_no_ones_after_the_end() {
    let here = TempDir::new().unwrap();
    let path = here.join("socket");
    let address = format!("unix:{}", path.display());
    // What a listener that was killed leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut lines = Lines::start(&address, &[], &["--", "cat"]);
    assert_eq!(lines.address, address);
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = Launch::new(["proxy", "--listen", &address, "--", "cat"]).start().wait();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert_has(&second.stderr, "somebody listens there already");
    let stream = UnixStream::connect(&path).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    lines.stop();
    assert!(!path.exists());
}

#[test]
fn flags_that_do_not_apply_are_refused() {
    for (args, words) in [
        (&["--listen", "tcp:0", "--path", "/x", "--", "cat"][..], "--path is for clients over HTTP"),
        (&["--listen", "unix:x", "--child", "shared", "--", "cat"], "--child is for clients over HTTP"),
        (&["--listen", "unix:x", "--header", "a: b", "tcp:1"], "--header is for a server that is a URL"),
        (&["--listen", "tcp:0", "--start-timeout", "1s", "tcp:1"], "--start-timeout is for"),
        (&["--max-sessions", "1", "tcp:1"], "--max-sessions is for"),
        (&["--shutdown-grace", "1s", "http://127.0.0.1:9/"], "--shutdown-grace is for"),
        (&["--kill-after", "1s", "tcp:1"], "--kill-after is for a server that is a command"),
        (&["--connect-timeout", "1s", "--", "cat"], "--connect-timeout is for"),
        (&["--listen", "0", "unix:x"], "-- shadowcat proxy unix:x"),
        (&["tcp:host"], "tcp:HOST:PORT"),
    ] {
        let ended = Launch::new([&["proxy"], args].concat()).start().wait();
        assert_eq!(ended.code, Some(64), "{args:?}: {ended:?}");
        assert_has(&ended.stderr, words);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}
