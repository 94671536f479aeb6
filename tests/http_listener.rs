//! The HTTP listener of the real program, in front of a real server: who may ask, what is not waited for,
//! and how it stops.

#![cfg(unix)]
#![cfg(test)]

#[path = "http_listener/client.rs"]
mod client;
#[path = "http_listener/lasting.rs"]
mod lasting;
#[path = "http_listener/secure.rs"]
mod secure;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[path = "http_listener/upstream.rs"]
mod upstream;
#[path = "http_listener/waits.rs"]
mod waits;

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
};

use rustix::process::Signal;

use client::{Listener, ask, post, rest, status};
use support::{DEADLINE, Launch};
use temp::TempDir;
use upstream::{Upstream, WAIT};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9/mcp";

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in {text:?}");
}

// --- who may ask ---------------------------------------------------------------------------------------------

#[test]
fn foreign_hosts_and_origins_are_refused_before_anything_is_read_or_passed_on() {
    let mut upstream = Upstream::start();
    let mut listener = Listener::start(&["--allow-origin", "https://app.example"], &upstream.url);
    for (request, expected) in [
        ("POST /mcp HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 9999999\r\n\r\n", 403),
        (
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\ncontent-length: 9999999\r\n\r\n",
            403,
        ),
        (
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\norigin: null\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n",
            403,
        ),
        ("POST http://evil.example/mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n", 400),
        ("POST /mcp HTTP/1.1\r\ncontent-length: 9\r\n\r\n", 400),
        ("GET /readyz HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", 403),
    ] {
        let mut connection = listener.connect();
        connection.send(request);
        let head = connection.until("\r\n\r\n");
        assert_eq!(status(&head), expected, "{request}: {head}");
        assert_has(&head, "content-type: application/json");
        let body = connection.until("\"jsonrpc\":\"2.0\"}");
        assert!(!body.contains("\"id\"") && body.contains("-32600"), "{body}");
    }
    assert!(!upstream.has_seen());
    let answer = listener.exchange(&post("origin: https://app.example\r\n", "{}"));
    assert_eq!(status(&answer), 200);
    assert!(answer.ends_with("{}"), "{answer}");
    assert_eq!(status(&listener.exchange(&post("origin: http://localhost:6274\r\n", "{}"))), 200);
    assert_eq!(listener.stop().code, Some(0));
}

#[test]
fn browsers_are_told_what_their_pages_may_do() {
    let upstream = Upstream::start();
    let listener = Listener::start(&["--require-bearer-env", "PATH"], &upstream.url);
    let asked = "origin: http://localhost:1\r\naccess-control-request-method: POST\r\n\
                 access-control-request-headers: content-type,mcp-param-region\r\n";
    let answer = listener.exchange(&ask("OPTIONS", "/mcp", asked));
    assert_eq!(status(&answer), 204);
    for line in ["access-control-allow-origin: http://localhost:1", "mcp-param-region", "POST", "mcp-session-id"] {
        assert_has(&answer, line);
    }
    let foreign = asked.replace("localhost:1", "evil.example");
    let answer = listener.exchange(&ask("OPTIONS", "/mcp", &foreign));
    assert_eq!(status(&answer), 403);
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    // Also what is refused can be read by the page, so that it can say why.
    let answer = listener.exchange(&post("origin: http://localhost:1\r\n", "{}"));
    assert_eq!(status(&answer), 401);
    for line in
        ["access-control-allow-origin: http://localhost:1", "vary: Origin", "WWW-Authenticate", "Mcp-Session-Id"]
    {
        assert_has(&answer, line);
    }
}

#[test]
fn token_is_demanded_and_neither_passed_on_nor_logged() {
    let mut upstream = Upstream::start();
    let bin = env!("CARGO_BIN_EXE_shadowcat");
    let mut args = vec!["TOKEN=s3cret-4711", bin, "proxy", "--listen", "127.0.0.1:0", "--log-level", "trace"];
    args.extend(["--require-bearer-env", "TOKEN", &upstream.url]);
    let mut listener = Listener::of(Launch::of("env", args));
    let answer = listener.exchange(&post("", "{}"));
    assert_eq!(status(&answer), 401);
    assert_has(&answer, "www-authenticate: Bearer\r\n");
    let answer = listener.exchange(&post("authorization: Bearer s3cret-4712\r\n", "{}"));
    assert_eq!(status(&answer), 401);
    assert_has(&answer, "invalid_token");
    // Whoever watches us has no token.
    assert_eq!(status(&listener.exchange(&ask("GET", "/healthz", ""))), 200);
    assert!(!upstream.has_seen());
    let answer = listener.exchange(&post("authorization: Bearer s3cret-4711\r\n", "{}"));
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(!upstream.seen().contains_key("authorization"));
    let ended = listener.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    // Without a token of ours, theirs is the upstream's.
    let listener = Listener::start(&[], &upstream.url);
    assert_eq!(status(&listener.exchange(&post("authorization: Bearer theirs\r\n", "{}"))), 200);
    assert_eq!(upstream.seen()["authorization"], "Bearer theirs");
}

// --- what is asked -------------------------------------------------------------------------------------------

#[test]
fn other_paths_and_methods_are_answered_with_what_would_work() {
    let upstream = Upstream::start();
    let listener = Listener::start(&["--path", "/here"], &upstream.url);
    assert!(listener.url.ends_with("/here"), "{}", listener.url);
    let answer = listener.exchange(&ask("GET", "/mcp", ""));
    assert_eq!(status(&answer), 404);
    assert_has(&answer, "the MCP endpoint is /here");
    for (method, path, expected, words) in [
        ("PUT", "/here", 405, "allow: GET, POST, DELETE, OPTIONS\r\n"),
        ("HEAD", "/here", 405, "allow: GET, POST, DELETE, OPTIONS\r\n"),
        ("OPTIONS", "/here", 204, "allow: GET, POST, DELETE, OPTIONS\r\n"),
        ("BREW", "/here", 405, "allow"),
        ("CONNECT", "localhost:80", 400, ""),
        ("POST", "/healthz", 405, "allow: GET, HEAD"),
        ("HEAD", "/healthz", 200, "content-length: 3"),
        ("DELETE", "http://localhost/here", 200, ""),
        ("GET", "/healthz?x", 200, "ok"),
    ] {
        let answer = listener.exchange(&ask(method, path, ""));
        assert_eq!(status(&answer), expected, "{method} {path}: {answer}");
        assert_has(&answer, words);
    }
}

#[test]
fn body_is_called_for_with_100_continue() {
    let upstream = Upstream::start();
    let listener = Listener::start(&[], &upstream.url);
    let mut connection = listener.connect();
    connection.send("POST /mcp HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(connection.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    connection.send("{}");
    assert_eq!(status(&connection.until("{}")), 200);
}

#[test]
fn ready_is_an_upstream_that_can_be_reached_and_is_not_talked_to() {
    let mut upstream = Upstream::start();
    let listener = Listener::start(&[], &upstream.url);
    assert_eq!(status(&listener.exchange(&ask("GET", "/readyz", ""))), 200);
    assert!(!upstream.has_seen());
    let alone = Listener::start(&[], NOWHERE);
    assert_eq!(status(&alone.exchange(&ask("GET", "/readyz", ""))), 503);
    assert_eq!(status(&alone.exchange(&ask("GET", "/healthz", ""))), 200);
}

// --- what is not waited for ----------------------------------------------------------------------------------

#[test]
fn headers_that_do_not_end_are_not_waited_for() {
    let upstream = Upstream::start();
    let listener = Listener::start(&["--header-timeout", "200ms"], &upstream.url);
    assert_eq!(listener.exchange(""), "");
    // The second could also become HTTP/2.
    for begun in ["GET", "P", "POST /mcp HTTP/1.1\r\nhost: loc", "POST /mcp HTTP/1.1\r\nhost: localhost\r\n"] {
        let answer = listener.exchange(begun);
        assert_eq!(status(&answer), 408, "{begun}");
        assert_has(&answer, "\"message\":\"the request's headers took longer than 200 ms\"");
    }
    let mut connection = listener.connect();
    connection.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    connection.until("ok\n");
    connection.send("GET");
    assert_eq!(status(&connection.rest()), 408);
}

#[test]
fn connection_may_idle_for_longer_than_headers_may_take() {
    let listener = Listener::start(&["--header-timeout", "200ms"], NOWHERE);
    let mut connection = listener.connect();
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    connection.send(request);
    connection.until("ok\n");
    // The clock: another connection's headers time out, twice.
    for _ in 0..2 {
        assert_eq!(status(&listener.exchange("GET")), 408);
    }
    connection.send(request);
    connection.until("ok\n");
    let listener = Listener::start(&["--idle-timeout", "100ms"], NOWHERE);
    let mut connection = listener.connect();
    connection.send(request);
    connection.until("ok\n");
    assert_eq!(connection.rest(), "");
}

#[test]
fn body_that_pauses_is_not_waited_for() {
    let upstream = Upstream::start();
    let listener = Listener::start(&["--body-timeout", "200ms"], &upstream.url);
    for begun in [
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let answer = listener.exchange(begun);
        assert_eq!(status(&answer), 408, "{begun}");
        assert_has(&answer, "connection: close");
        assert_has(&answer, "\"message\":\"a pause within the request's body took longer than 200 ms\"");
        assert_has(&answer, "\"afterMs\":200");
    }
    // A response that takes long is no pause of the client's.
    let mut connection = listener.connect();
    connection.send(&post("", WAIT));
    assert_eq!(status(&listener.exchange("POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n")), 408);
    upstream.open_gate();
    assert_eq!(status(&connection.rest()), 200);
}

#[test]
fn client_that_takes_nothing_is_not_waited_for() {
    let upstream = Upstream::start();
    let mut listener = Listener::start(&["--write-timeout", "200ms", "--log-level", "debug"], &upstream.url);
    // More than the buffers of two sockets hold.
    let body = "x".repeat(32 << 20);
    let mut greedy = listener.connect();
    greedy.send(&post("", &body));
    listener.session.stderr.line_with("took nothing for too long");
    assert!(greedy.rest().len() < body.len());
    assert_eq!(status(&listener.exchange(&post("", "{}"))), 200);
}

#[test]
fn headers_may_be_long_but_not_endless() {
    let mut upstream = Upstream::start();
    let listener = Listener::start(&[], &upstream.url);
    let long = "x".repeat(40 << 10);
    let answer = listener.exchange(&post(&format!("mcp-param-x: {long}\r\n"), "{}"));
    assert_eq!(status(&answer), 200);
    assert_eq!(upstream.seen()["mcp-param-x"], long);
    let mut connection = listener.connect();
    connection.send(&post(&format!("mcp-param-x: {long}\r\nmcp-param-y: {long}\r\n"), "{}"));
    assert_eq!(status(&connection.until("\r\n\r\n")), 431);
}

#[test]
fn connections_beyond_the_most_wait_for_their_turn() {
    let mut listener = Listener::start(&["--max-connections", "1"], NOWHERE);
    let mut first = listener.connect();
    first.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    first.until("ok\n");
    listener.session.stderr.line_with("no more connections");
    let mut second = listener.connect();
    second.send(&ask("GET", "/healthz", ""));
    drop(first);
    assert_eq!(status(&second.rest()), 200);
}

// --- how it stops --------------------------------------------------------------------------------------------

#[test]
fn running_exchange_ends_after_the_signal_and_new_ones_do_not_begin() {
    let mut upstream = Upstream::start();
    let mut listener = Listener::start(&["--log-level", "info"], &upstream.url);
    let mut running = listener.connect();
    // Not "connection: close": that it closes must be our doing.
    running.send(&post("", WAIT).replace("connection: close\r\n", ""));
    let mut idle = listener.connect();
    idle.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    idle.until("ok\n");
    upstream.seen();
    listener.session.signal(Signal::TERM);
    listener.session.stderr.line_with("told to stop");
    assert_eq!(idle.rest(), "");
    support::eventually("no more connections are accepted", || {
        std::net::TcpStream::connect(("127.0.0.1", listener.port)).is_err()
    });
    upstream.open_gate();
    let answer = running.rest();
    assert_eq!(status(&answer), 200);
    assert!(answer.ends_with(WAIT), "{answer}");
    assert_eq!(listener.session.wait().code, Some(0));
    // The port is free at once, though connections of the first have just ended.
    let again = Listener::start_at(&format!("127.0.0.1:{}", listener.port), &[], &upstream.url);
    assert_eq!(status(&again.exchange(&ask("GET", "/healthz", ""))), 200);
}

#[test]
fn listening_stream_ends_with_a_hint_when_to_come_back() {
    let upstream = Upstream::start();
    let mut listener = Listener::start(&["--drain-timeout", "1h"], &upstream.url);
    let mut stream = listener.connect();
    stream.send("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
    stream.until("data: hello\n\n");
    listener.session.signal(Signal::TERM);
    let rest = stream.rest();
    assert_has(&rest, "retry: 1000\n\n");
    assert!(rest.ends_with("0\r\n\r\n"), "an end, not a break: {rest:?}");
    assert_eq!(listener.session.wait().code, Some(0));
}

#[test]
fn second_signal_and_the_deadline_cut_what_still_runs() {
    let mut upstream = Upstream::start();
    for (drain, signals) in [("1h", 2), ("100ms", 1)] {
        let mut listener = Listener::start(&["--drain-timeout", drain, "--log-level", "info"], &upstream.url);
        let mut running = listener.connect();
        running.send(&post("", WAIT));
        upstream.seen();
        listener.session.signal(Signal::TERM);
        listener.session.stderr.line_with("told to stop");
        if signals == 2 {
            listener.session.signal(Signal::INT);
        }
        let ended = listener.session.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_has(&ended.stderr, "cut off");
        assert_eq!(running.rest(), "");
    }
}

// --- where it listens ----------------------------------------------------------------------------------------

#[test]
fn socket_file_is_its_owners_and_no_ones_after_the_end() {
    let (upstream, here) = (Upstream::start(), TempDir::new().unwrap());
    let path = here.join("socket");
    let address = format!("http+unix:{}", path.display());
    // What a listener that was killed leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut listener = Listener::start_at(&address, &[], &upstream.url);
    assert_has(&listener.url, &address);
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for (request, expected) in [
        (post("", "{}"), 200),
        (post("", "{}").replace("localhost", "any.example"), 200),
        (post("origin: http://localhost\r\n", "{}"), 403),
    ] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(status(&rest(&mut stream)), expected, "{request}");
    }
    let second = Launch::new(["proxy", "--listen", &address, &upstream.url]).start().wait();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert_has(&second.stderr, "somebody listens there already");
    assert_eq!(listener.stop().code, Some(0));
    assert!(!path.exists());
    fs::write(&path, "a file of somebody's").unwrap();
    let third = Launch::new(["proxy", "--listen", &address, &upstream.url]).start().wait();
    assert_eq!(third.code, Some(1), "{third:?}");
    assert_has(&third.stderr, "no socket");
    assert_eq!(fs::read(&path).unwrap(), b"a file of somebody's");
}

#[test]
fn other_machines_are_let_in_only_with_a_warning() {
    let mut session = Launch::new(["proxy", "--listen", "0.0.0.0:0", "--log-level", "off", NOWHERE]).start();
    let warning = session.stderr.line();
    assert!(warning.starts_with("WARNING: 0.0.0.0:") && warning.contains("--require-bearer-env"), "{warning}");
    assert_has(&session.stderr.line(), "listening on http://0.0.0.0:");
    session.signal(Signal::TERM);
    assert_eq!(session.wait().code, Some(0));
}

#[test]
fn address_that_is_taken_is_named() {
    let listener = Listener::start(&[], NOWHERE);
    let address = format!("127.0.0.1:{}", listener.port);
    let ended = Launch::new(["proxy", "--listen", &address, NOWHERE]).start().wait();
    assert_eq!(ended.code, Some(1));
    assert_has(&ended.stderr, &address);
}

#[test]
fn flags_that_do_not_apply_are_refused() {
    for (args, code, words) in [
        (&["--allow-origin", "*", NOWHERE][..], 64, "--listen"),
        (&["--tls-cert", "a", "--tls-key", "b", NOWHERE], 64, "--listen"),
        (&["--max-connections", "1", "--", "cat"], 64, "--listen"),
        (&["--listen", "0", "--tls-cert", "a", NOWHERE], 64, "--tls-key"),
        (&["--listen", "http+unix:x", "--tls-cert", "a", "--tls-key", "b", NOWHERE], 64, "--tls-cert"),
        (&["--listen", "0", "--allow-origin", "example.com", NOWHERE], 64, "SCHEME://HOST"),
        (&["--listen", "0", "--allow-host", "http://a", NOWHERE], 64, "--allow-host"),
        (&["--listen", "0", "--path", "/readyz", NOWHERE], 64, "/readyz"),
        (&["--listen", "0", "--max-connections", "0", NOWHERE], 64, "at least 1"),
        (&["--listen", "tcp:0", "--allow-origin", "*", NOWHERE], 64, "--allow-origin is for clients over HTTP"),
        (&["--listen", "unix:x", "--max-connections", "1", NOWHERE], 64, "--max-connections is for clients over HTTP"),
        (&["--listen", "0", "--require-bearer-env", "NO_SUCH_VARIABLE", NOWHERE], 78, "NO_SUCH_VARIABLE"),
        (&["--listen", "0", "--tls-cert", "/no/cert", "--tls-key", "/no/key", NOWHERE], 78, "/no/cert"),
    ] {
        let ended = Launch::new([&["proxy"], args].concat()).start().wait();
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert_has(&ended.stderr, words);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}
