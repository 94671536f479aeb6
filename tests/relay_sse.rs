//! HTTP+SSE of MCP 2024-11-05 through a relay: one URI is exchanged, however the stream is cut, and nothing else.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;

use http::{Conn, Head, Proxy, Upstream};
use support::Launch;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;

/// In front of `upstream`'s `/api/sse`.
fn proxy(upstream: &Upstream) -> Proxy {
    let url = format!("http://{}/api/sse?key=1", upstream.address);
    Proxy::launch(Launch::new(["proxy", "--listen", "127.0.0.1:0", "--legacy-sse", &url]))
}

/// A client's stream, the server's end of it, and what the server was asked.
fn opened(proxy: &Proxy, upstream: &Upstream) -> (Conn, Conn, Head) {
    let mut client = proxy.connect();
    client.send("GET /sse?a=b HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n");
    let mut server = upstream.accept();
    let asked = server.head();
    server.answer_events();
    (client, server, asked)
}

/// The whole stream that a client gets for one of these pieces.
fn through(proxy: &Proxy, upstream: &Upstream, pieces: &[&[u8]]) -> String {
    let (mut client, mut server, _) = opened(proxy, upstream);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        server.chunk(piece);
    }
    server.send("0\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status(), head.get("content-type")), (200, Some("text/event-stream")));
    String::from_utf8(client.body(&head).unwrap()).unwrap()
}

/// The reference in the first `data` line.
fn named(stream: &str) -> &str {
    stream.trim_start_matches('\u{feff}').split(['\r', '\n']).find_map(|line| line.strip_prefix("data: ")).unwrap()
}

fn posted(proxy: &Proxy, reference: &str) -> Conn {
    let mut client = proxy.connect();
    client.send(format!(
        "POST {reference} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{CALL}",
        CALL.len()
    ));
    client
}

/// The answer to a POST that no upstream may see.
fn refused(proxy: &Proxy, upstream: &Upstream, reference: &str) -> u16 {
    let mut client = posted(proxy, reference);
    let status = client.head().status();
    assert_eq!(upstream.waiting(), 0, "{reference} reached the upstream");
    status
}

#[test]
fn clients_are_told_to_post_to_us_and_their_messages_go_where_the_server_said() {
    let upstream = Upstream::start();
    let proxy = proxy(&upstream);
    let absolute = format!("http://{}/m?session=1&x=%2F", upstream.address);
    for (told, place) in [
        ("/messages?sessionId=0a", "/messages?sessionId=0a"),
        ("post/../m?session=1", "/api/m?session=1"),
        ("?session=1", "/api/sse?session=1"),
        (&absolute, "/m?session=1&x=%2F"),
        (&absolute.replace("http:", ""), "/m?session=1&x=%2F"),
    ] {
        let (mut client, mut server, asked) = opened(&proxy, &upstream);
        assert_eq!(asked.start, "GET /api/sse?key=1&a=b HTTP/1.1");
        server.chunk(format!("event: endpoint\ndata: {told}\n\n"));
        client.head();
        let first = String::from_utf8(client.next_chunk().unwrap().unwrap()).unwrap();
        let reference = named(&first);
        assert!(reference.starts_with("/messages?to="), "{reference}");
        assert_eq!(first, format!("event: endpoint\ndata: {reference}\n\n"));

        let mut poster = posted(&proxy, reference);
        let mut taker = upstream.accept();
        let post = taker.head();
        assert_eq!(post.start, format!("POST {place} HTTP/1.1"));
        assert_eq!(post.get("host"), Some(upstream.address.to_string().as_str()));
        assert_eq!(taker.body(&post).unwrap(), CALL.as_bytes());
        taker.send("HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 8\r\n\r\nAccepted");
        let answer = poster.head();
        assert_eq!((answer.status(), poster.body(&answer).unwrap().as_slice()), (202, &b"Accepted"[..]));
        taker.hang_up();

        // The answer comes by the stream; when its client leaves, so do we.
        let event = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";
        server.chunk(event);
        assert_eq!(client.chunks_of(event.len()), event.as_bytes());
        client.hang_up();
        server.await_end();
    }
}

/// Every way of cutting a beginning into three, with what may stand before, in and behind the event.
#[test]
fn nothing_but_the_uri_changes_however_the_stream_is_cut() {
    let upstream = Upstream::start();
    let proxy = proxy(&upstream);
    for stream in [
        ": hello\n\nevent: endpoint\ndata: /m\n\nevent: endpoint\ndata: /m\n\n",
        "\u{feff}data: /m\r\nid: 7\r\nevent:endpoint\r\n\r\n: ping\r\n",
        "retry: 9\revent: endpoint\rdata: /m\r\rdata: /m\r",
    ] {
        let whole = through(&proxy, &upstream, &[stream.as_bytes()]);
        let reference = named(&whole).to_owned();
        assert!(reference.starts_with("/messages?to="));
        let expected = stream.replacen("/m", &reference, 1);
        for one in 0..=stream.len() {
            for other in one..=stream.len() {
                let bytes = stream.as_bytes();
                let pieces = [&bytes[..one], &bytes[one..other], &bytes[other..]];
                assert_eq!(through(&proxy, &upstream, &pieces), expected, "cut at {one} and {other}");
            }
        }
    }
}

#[test]
fn only_the_first_event_is_an_endpoint() {
    let upstream = Upstream::start();
    let proxy = proxy(&upstream);
    for stream in [
        "event: message\ndata: {}\n\nevent: endpoint\ndata: http://elsewhere.example/m\n\n",
        "event: endpoints\ndata: /m\n\n",
        "data: /m\n\n",
        // An unfinished event is none.
        "event: endpoint\ndata: /m\n",
        ": nothing at all\n\n",
    ] {
        assert_eq!(through(&proxy, &upstream, &[stream.as_bytes()]), stream);
    }
    let events = "event: endpoint\ndata: /m\n\nevent: message\ndata: {\"a\":\"/m\"}\n\nevent: endpoint\ndata: /m\n\n";
    let told = through(&proxy, &upstream, &[events.as_bytes()]);
    assert_eq!(told, events.replacen("/m", named(&told), 1));
}

#[test]
fn an_endpoint_that_leads_elsewhere_breaks_the_stream_off() {
    let upstream = Upstream::start();
    let mut proxy = proxy(&upstream);
    let port = upstream.address.port();
    let long = format!("/{}", "m".repeat(17 << 10));
    for told in [
        "http://elsewhere.example/m",
        "//elsewhere.example/m",
        &format!("https://127.0.0.1:{port}/m"),
        &format!("http://127.0.0.1:{port}@elsewhere.example/m"),
        "file:///etc/passwd",
        "/a b",
        "/a\ndata: b",
        &long,
    ] {
        let (mut client, mut server, _) = opened(&proxy, &upstream);
        server.chunk(format!("event: endpoint\ndata: {told}\n"));
        // The long one is not waited for to its end.
        server.chunk(if told.len() > 100 { ":" } else { "\n" });
        if let Some(head) = client.try_head() {
            assert!(client.body(&head).is_err(), "{told} was passed on");
        }
        server.await_end();
        proxy.session.stderr.line_with("the endpoint the server names is not used");
    }
}

#[test]
fn nobody_posts_where_the_server_has_not_said() {
    let upstream = Upstream::start();
    let proxy = proxy(&upstream);
    let stream = through(&proxy, &upstream, &[b"event: endpoint\ndata: /messages?sessionId=1\n\n"]);
    let reference = named(&stream);
    let (before, last) = reference.split_at(reference.len() - 2);
    let other = if last == "AA" { "BB" } else { "AA" };
    for unknown in [
        "/messages",
        "/messages?to=",
        "/messages?to=/admin",
        "/messages?sessionId=1",
        &format!("{before}{other}"),
        before,
    ] {
        assert_eq!(refused(&proxy, &upstream, unknown), 404, "{unknown}");
    }
    let get = format!("GET {reference}");
    for (line, allowed) in [(get.as_str(), "POST"), ("POST /sse", "GET"), ("DELETE /sse", "GET")] {
        let mut client = proxy.connect();
        client.send(format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n"));
        let head = client.head();
        assert_eq!((head.status(), head.get("allow")), (405, Some(allowed)), "{line}: RFC 9110, 15.5.6");
        assert_eq!(upstream.waiting(), 0, "{line}");
    }
}

#[test]
fn a_refusal_and_an_encoded_stream_are_told() {
    let upstream = Upstream::start();
    let proxy = proxy(&upstream);
    for (answer, status) in [
        ("401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0", 401),
        ("200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: 1", 502),
    ] {
        let mut client = proxy.connect();
        client.send("GET /sse HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n");
        let mut server = upstream.accept();
        server.head();
        server.send(format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n"));
        assert_eq!(client.head().status(), status);
    }
}

#[test]
fn a_stream_of_known_length_and_the_one_endpoint_still_work() {
    let upstream = Upstream::start();
    let proxy = proxy(&upstream);
    let mut client = proxy.connect();
    client.send("GET /sse HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    let mut server = upstream.accept();
    server.head();
    server.answer("text/event-stream", "event: endpoint\ndata: /m\n\n");
    let head = client.head();
    let stream = String::from_utf8(client.body(&head).unwrap()).unwrap();
    assert_eq!(stream, format!("event: endpoint\ndata: {}\n\n", named(&stream)));

    let mut client = posted(&proxy, "/mcp");
    let mut server = upstream.accept();
    let asked = server.head();
    assert_eq!(asked.start, "POST /api/sse?key=1 HTTP/1.1");
    server.body(&asked).unwrap();
    server.answer("application/json", CALL);
    let head = client.head();
    assert_eq!(client.body(&head).unwrap(), CALL.as_bytes());
}

#[test]
fn without_the_flag_there_is_nothing_there() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    for line in ["GET /sse", "POST /messages?to=x"] {
        let mut client = proxy.connect();
        client.send(format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(client.head().status(), 404, "{line}");
    }
}
