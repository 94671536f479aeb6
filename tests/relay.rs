//! A relay between real peers: what crosses, what is refused, and that everyone learns of every end.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;

use http::{Broken, Conn, Proxy, Upstream, post_head};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Launch, kill};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
const MODERN: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const MIRRORED: &str = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: echo\r\n";

/// A whole call works on this connection of a client, over a connection to the server that is used for nothing else.
fn call_through(client: &mut Conn, upstream: &Upstream) {
    client.post("", CALL);
    let mut server = asked(upstream);
    server.answer("application/json", "{}");
    assert_answered(client);
    server.await_end();
}

/// A new connection to the server, with a call on it.
fn asked(upstream: &Upstream) -> Conn {
    let mut server = upstream.accept();
    assert_asked(&mut server);
    server
}

fn assert_asked(server: &mut Conn) {
    let head = server.head();
    assert_eq!(server.body(&head), Ok(CALL.into()));
}

fn assert_answered(client: &mut Conn) {
    let head = client.head();
    assert_eq!((head.status(), client.body(&head)), (200, Ok(b"{}".into())));
}

/// An error of the proxy's own: its status, and its body.
fn refusal(client: &mut Conn) -> (u16, Value) {
    let head = client.head();
    assert_eq!(head.get("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&client.body(&head).unwrap()).unwrap();
    assert_eq!((&body["error"]["data"]["source"], body.get("id")), (&json!("shadowcat"), None), "{body}");
    (head.status(), body)
}

#[test]
fn headers_of_a_connection_stay_there_and_all_others_cross() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&["--header", "X-Key: ours", "--header", "X-New: added"], &upstream);
    let mut client = proxy.connect();
    let kept = "authorization: Bearer theirs\r\nmcp-session-id: s1\r\nmcp-protocol-version: 2025-11-25\r\n\
                last-event-id: 7\r\norigin: http://127.0.0.1\r\nx-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\n\
                cookie: a=b\r\nx-twice: 1\r\nx-twice: 2\r\nmcp-param-x: =?base64?eA==?=\r\nx-empty: \r\n";
    let dropped = "connection: keep-alive, x-named\r\nx-named: 1\r\nkeep-alive: timeout=5\r\nte: trailers\r\n\
                   trailer: x\r\nupgrade: h2c\r\nproxy-authorization: Basic eA==\r\nproxy-connection: close\r\n\
                   accept-encoding: gzip, br\r\nx-key: theirs\r\n";
    client.post(&[kept, dropped].concat(), CALL);
    let mut server = upstream.accept();
    let head = server.head();
    assert_eq!(server.body(&head), Ok(CALL.into()));
    assert_eq!(head.start, "POST /mcp HTTP/1.1");
    assert_eq!(head.get("host"), Some(upstream.address.to_string().as_str()));
    for line in kept.trim().split("\r\n") {
        let (name, value) = line.split_once(':').unwrap();
        assert!(head.all(name).contains(&value.trim()), "{name} does not cross: {head:?}");
    }
    assert_eq!(head.all("x-twice"), ["1", "2"]);
    assert_eq!((head.all("x-key"), head.all("x-new")), (vec!["ours"], vec!["added"]));
    for line in dropped.trim().split("\r\n") {
        let name = line.split(':').next().unwrap();
        assert!(name == "x-key" || head.get(name).is_none(), "{name} crosses: {head:?}");
    }
    server.send(
        "HTTP/1.1 401 Not Today\r\nwww-authenticate: Bearer realm=\"a\"\r\nwww-authenticate: Basic\r\n\
         connection: x-gone, keep-alive\r\nx-gone: 1\r\nkeep-alive: timeout=5\r\nmcp-session-id: s2\r\n\
         x-accel-buffering: no\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nretry-after: 3\r\ncontent-length: 2\r\n\
         content-type: application/json\r\n\r\n{}",
    );
    let head = client.head();
    assert_eq!((head.status(), client.body(&head)), (401, Ok(b"{}".into())));
    assert_eq!(head.all("www-authenticate"), ["Bearer realm=\"a\"", "Basic"]);
    assert_eq!(head.all("set-cookie"), ["a=1", "b=2"]);
    let kept = ["mcp-session-id", "x-accel-buffering", "retry-after"].map(|name| head.get(name).unwrap());
    assert_eq!((kept, head.get("x-gone")), (["s2", "no", "3"], None));
}

#[test]
fn methods_statuses_queries_and_well_known_documents_cross() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    let mut server = None;
    for (request, path, status) in [
        ("GET /mcp", "GET /mcp HTTP/1.1", 405),
        ("DELETE /mcp?a=b%20c", "DELETE /mcp?a=b%20c HTTP/1.1", 204),
        (
            "GET /.well-known/oauth-protected-resource/mcp?x",
            "GET /.well-known/oauth-protected-resource/mcp?x HTTP/1.1",
            200,
        ),
        ("POST /mcp", "POST /mcp HTTP/1.1", 202),
        ("POST /mcp", "POST /mcp HTTP/1.1", 404),
    ] {
        client.send(format!("{request} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n"));
        let server: &mut Conn = server.get_or_insert_with(|| upstream.accept());
        assert_eq!(server.head().start, path);
        let len = if status == 204 { "" } else { "content-length: 0\r\n" };
        server.send(format!("HTTP/1.1 {status} X\r\n{len}allow: POST\r\n\r\n"));
        let head = client.head();
        assert_eq!((head.status(), head.get("allow"), client.body(&head)), (status, Some("POST"), Ok(Vec::new())));
    }
}

#[test]
fn redirects_are_passed_on_and_not_followed() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    client.post("", CALL);
    let mut server = asked(&upstream);
    server.send("HTTP/1.1 307 Elsewhere\r\nlocation: /mcp/\r\ncontent-length: 0\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status(), head.get("location")), (307, Some("/mcp/")));
}

#[test]
fn a_server_that_is_not_there_or_silent_is_told_by_status_and_cause() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/mcp?key=secret");
    let proxy = Proxy::launch(Launch::new(["proxy", "--listen", "127.0.0.1:0", &url]));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.post("", CALL);
        let (status, body) = refusal(&mut client);
        assert_eq!((status, &body["error"]["data"]["reason"]), (502, &json!("server_unreachable")));
        assert_eq!(body["error"]["data"]["url"], format!("http://{gone}/mcp"));
        assert!(body["error"]["data"]["what"].as_str().unwrap().contains("refused"), "{body}");
    }
    let upstream = Upstream::start();
    let proxy = Proxy::start(&["--response-timeout", "50ms"], &upstream);
    let mut client = proxy.connect();
    client.post("", CALL);
    let mut silent = upstream.accept();
    let (status, body) = refusal(&mut client);
    assert_eq!((status, &body["error"]["data"]["afterMs"]), (504, &json!(50)), "{body}");
    silent.await_end();
}

/// How a peer goes.
type Ending = fn(Conn);
const ENDINGS: [Ending; 2] = [Conn::hang_up, Conn::reset];

/// Where an answer may be when somebody goes: (what the server has sent, what the client has got of the body).
const PLACES: [(&str, &str); 4] = [
    ("", ""),
    ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"a\"", "{\"a\""),
    (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\ndata: {\r\n",
        "7\r\ndata: {\r\n",
    ),
    ("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n", ""),
];

#[test]
fn a_server_that_goes_ends_the_answer_as_a_break_and_the_next_call_works() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    for ending in ENDINGS {
        for (sent, got) in PLACES {
            let mut client = proxy.connect();
            client.post("", CALL);
            let mut server = asked(&upstream);
            server.send(sent);
            if sent.is_empty() {
                ending(server);
                assert_eq!(refusal(&mut client).0, 502);
            } else {
                let head = client.head();
                assert_eq!(client.exactly(got.len()), Ok(got.into()));
                ending(server);
                assert!(client.body(&head).is_err_and(|broken| broken == Broken), "a clean end after {sent:?}");
                client = proxy.connect();
            }
            assert_eq!(upstream.waiting(), 0, "nothing is sent twice");
            call_through(&mut client, &upstream);
        }
    }
}

#[test]
fn a_client_that_goes_ends_the_servers_exchange_and_the_next_call_works() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    for ending in ENDINGS {
        for (sent, got) in PLACES {
            let mut client = proxy.connect();
            client.post("", CALL);
            let mut server = asked(&upstream);
            server.send(sent);
            if !sent.is_empty() {
                client.head();
                assert_eq!(client.exactly(got.len()), Ok(got.into()));
            }
            ending(client);
            // Nothing wakes it but the client's end: the server is silent.
            server.await_end();
            call_through(&mut proxy.connect(), &upstream);
        }
    }
}

#[test]
fn a_client_that_goes_within_its_request_ends_it_for_the_server() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    client.send(post_head("content-length: 1000\r\n\r\n{\"jsonrpc\""));
    let mut server = upstream.accept();
    let head = server.head();
    assert_eq!(server.exactly(10), Ok(b"{\"jsonrpc\"".into()));
    client.hang_up();
    assert_eq!(server.body(&head), Err(Broken));
    call_through(&mut proxy.connect(), &upstream);
}

#[test]
fn a_request_that_breaks_off_is_its_clients_fault_not_the_servers() {
    for check in ["warn", "off"] {
        let upstream = Upstream::start();
        let proxy = Proxy::start(&["--header-check", check], &upstream);
        let mut client = proxy.connect();
        client.send(post_head("transfer-encoding: chunked\r\n\r\n2\r\n{\"\r\nno length\r\n"));
        let (status, body) = refusal(&mut client);
        assert_eq!((status, &body["error"]["code"]), (400, &json!(-32600)), "{body}");
    }
}

#[test]
fn a_proxy_that_is_killed_ends_both_sides() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut idle = proxy.connect();
    let mut conns: Vec<Conn> = PLACES
        .iter()
        .flat_map(|(sent, _)| {
            let mut client = proxy.connect();
            client.post("", CALL);
            let mut server = asked(&upstream);
            server.send(sent);
            [client, server]
        })
        .collect();
    kill(proxy.session.pid, Signal::KILL);
    idle.await_end();
    conns.iter_mut().for_each(Conn::await_end);
}

#[test]
fn a_proxy_that_is_told_to_stop_finishes_what_runs() {
    let upstream = Upstream::start();
    let mut proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    client.post("", CALL);
    let mut server = asked(&upstream);
    proxy.session.signal(Signal::TERM);
    server.answer("application/json", "{}");
    let head = client.head();
    assert_eq!(client.body(&head), Ok(b"{}".into()));
    client.await_end();
    assert_eq!(proxy.session.end().code, Some(0));
}

#[test]
fn no_post_is_sent_twice_when_a_kept_connection_ends_with_it() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    for ending in ENDINGS {
        let mut client = proxy.connect();
        client.post("", CALL);
        let mut server = asked(&upstream);
        server.answer_and_keep("application/json", "{}");
        assert_answered(&mut client);
        // The kept connection is used again, and ends as soon as the request is there, or within its answer.
        client.post("", CALL);
        assert_asked(&mut server);
        ending(server);
        assert_eq!(refusal(&mut client).0, 502);
        assert_eq!(upstream.waiting(), 0);
        call_through(&mut client, &upstream);
        // One that ends while nobody uses it is noticed, or it is not yet: then there is an error, and never a
        // second request.
        client.post("", CALL);
        let mut server = asked(&upstream);
        server.answer_and_keep("application/json", "{}");
        assert_answered(&mut client);
        ending(server);
        client.post("", CALL);
        match upstream.accept_unless_answered(&client) {
            Some(mut server) => {
                assert_asked(&mut server);
                server.answer("application/json", "{}");
                assert_answered(&mut client);
                server.await_end();
            }
            None => assert_eq!(refusal(&mut client).0, 502),
        }
        assert_eq!(upstream.waiting(), 0);
    }
}

#[test]
fn strict_refuses_what_warn_passes_on_and_off_does_not_see() {
    let doubled = MODERN.replace("\"id\":1", "\"id\":1,\"id\":2");
    let cases: [(&str, &str, &str, i32, &str); 8] = [
        ("right headers", MIRRORED, MODERN, 0, ""),
        ("another method", &MIRRORED.replace("tools/call", "tools/list"), MODERN, -32020, "mcp-method"),
        ("another name", &MIRRORED.replace("echo", "rm"), MODERN, -32020, "mcp-name"),
        ("no name", &MIRRORED.replace("mcp-name: echo\r\n", ""), MODERN, -32020, "mcp-name"),
        (
            "two versions",
            &format!("{MIRRORED}mcp-protocol-version: 2026-07-28\r\n"),
            MODERN,
            -32020,
            "mcp-protocol-version",
        ),
        ("two ids", MIRRORED, &doubled, -32600, "duplicate"),
        ("no JSON", MIRRORED, "{nonsense", -32700, "invalid"),
        ("an older client", "mcp-protocol-version: 2025-11-25\r\n", CALL, 0, ""),
    ];
    for check in ["strict", "warn", "off"] {
        let upstream = Upstream::start();
        let mut proxy = Proxy::start(&["--header-check", check], &upstream);
        for (what, headers, body, code, logged) in &cases {
            // Whole, and byte by byte: then the last byte is what a strict relay keeps back.
            for is_chunked in [false, true] {
                let mut client = proxy.connect();
                if is_chunked {
                    client.send(format!("{}transfer-encoding: chunked\r\n\r\n", post_head(headers)));
                    body.as_bytes().chunks(1).for_each(|byte| client.chunk(byte));
                    client.chunk("");
                } else {
                    client.post(headers, body);
                }
                if check == "strict" && *code != 0 {
                    let (status, answer) = refusal(&mut client);
                    assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)), "{what}: {answer}");
                    // Where the upstream saw the beginning, it saw it break off.
                    while let Some(mut server) = upstream.accepted_now() {
                        let is_broken = server.try_head().is_none_or(|head| server.body(&head) == Err(Broken));
                        assert!(is_broken, "{what}: the server has the whole message");
                    }
                    continue;
                }
                let (mut server, read) = loop {
                    let mut server = upstream.accept();
                    match server.try_head().map(|head| server.body(&head)) {
                        // One that was refused, and came late.
                        None | Some(Err(Broken)) if check == "strict" => {}
                        read => break (server, read),
                    }
                };
                assert_eq!(read, Some(Ok(body.as_bytes().into())), "{check}: {what}");
                server.answer("application/json", "{}");
                assert_eq!(client.head().status(), 200);
                server.hang_up();
                if check == "warn" && *code != 0 {
                    let line = proxy.session.stderr.line_with("passed on");
                    assert!(line.contains("WARN") && line.contains(&format!("code={code}")), "{what}: {line}");
                    assert!(!line.contains("echo") && !line.contains("nonsense"), "payload in the log: {line}");
                    assert!(logged.is_empty() || line.to_lowercase().contains(logged) || *code == -32700, "{line}");
                }
            }
        }
    }
}

#[test]
fn messages_over_the_limit_are_refused_or_broken_off() {
    let upstream = Upstream::start();
    let mut proxy = Proxy::start(&["--max-frame-len", "100"], &upstream);
    let fits = format!("\"{}\"", "x".repeat(98));
    let long = format!("\"{}\"", "x".repeat(99));
    // By its declared length, before the server is asked.
    let mut client = proxy.connect();
    client.post("", &long);
    let (status, body) = refusal(&mut client);
    assert_eq!((status, &body["error"]["data"]["limit"]), (413, &json!(100)), "{body}");
    assert_eq!(body["error"]["data"]["declared"], 101, "{body}");
    assert_eq!(upstream.waiting(), 0);
    // By its bytes.
    let mut client = proxy.connect();
    client.send(post_head("transfer-encoding: chunked\r\n\r\n"));
    client.chunk(&fits);
    let mut server = upstream.accept();
    let head = server.head();
    assert_eq!(server.next_chunk(), Ok(Some(fits.clone().into_bytes())));
    client.chunk("y");
    let (status, body) = refusal(&mut client);
    assert_eq!((status, body["error"]["data"].get("declared")), (413, None), "{body}");
    assert_eq!(server.body(&head), Err(Broken));
    // Answers of both kinds.
    for is_stream in [false, true] {
        for (message, is_whole) in [(&fits, true), (&long, false)] {
            let mut client = proxy.connect();
            client.post("", CALL);
            let mut server = asked(&upstream);
            if is_stream {
                server.answer_events();
                server.chunk(format!("data: {message}\n\n"));
                server.chunk("");
            } else {
                server.answer("application/json", message);
            }
            if is_whole {
                let head = client.head();
                assert!(client.body(&head).is_ok(), "{message}");
            } else if is_stream {
                // The head may not have left yet.
                let is_broken = client.try_head().is_none_or(|head| client.body(&head) == Err(Broken));
                assert!(is_broken, "a clean end");
                let line = proxy.session.stderr.line_with("broken off");
                assert!(line.contains("limit of 100 bytes") && line.contains("byte 0"), "{line}");
            } else {
                let (status, body) = refusal(&mut client);
                assert_eq!(status, 502);
                assert!(body["error"]["message"].as_str().unwrap().contains("limit of 100 bytes"), "{body}");
            }
            server.hang_up();
        }
    }
}
