//! Connections on which nothing happens: what they may still do, over HTTP/1.1 and HTTP/2, and what they may not.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{
    NOWHERE, assert_has,
    client::{Listener, status},
    secure::{in_time, posting},
    support::{DEADLINE, Launch},
    upstream::{Upstream, WAIT},
};

const ALIVE: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Waits until connections that are idle now are quiet: by the clock of another connection's headers.
pub(crate) fn wait_until_quiet(listener: &Listener) {
    assert_eq!(status(&listener.exchange("GET")), 408);
}

#[test]
fn connection_that_was_quiet_is_served_as_before() {
    let upstream = Upstream::start();
    let listener = Listener::start(&["--header-timeout", "600ms"], &upstream.url);
    let mut connection = listener.connect();
    connection.send(ALIVE);
    connection.until("ok\n");
    wait_until_quiet(&listener);
    // Byte by byte.
    let body = r#"{"a":1}"#;
    let request = format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\n{body}");
    request.chars().for_each(|byte| connection.send(byte.encode_utf8(&mut [0; 4])));
    connection.until(body);
    wait_until_quiet(&listener);
    // More than one at a time, and one that is longer than what is looked at first.
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(5000));
    connection.send(&[ALIVE, &long, &request].concat());
    connection.until("ok\n");
    connection.until("ok\n");
    connection.until(body);
    // One that begins behind another, on a connection that was quiet, and is never finished.
    wait_until_quiet(&listener);
    connection.send(&[ALIVE, "GET /healthz HT"].concat());
    connection.until("ok\n");
    assert_eq!(status(&connection.rest()), 408);
    // One that is finished when the connection has been quiet.
    let listener = Listener::start(&[], NOWHERE);
    let mut connection = listener.connect();
    connection.send(&[ALIVE, "GET /healthz HT"].concat());
    connection.until("ok\n");
    connection.0.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(connection.0.read(&mut [0]).is_err(), "there is nothing to say yet");
    connection.0.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.send("TP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(connection.rest().ends_with("ok\n"));
}

#[test]
fn quiet_connection_ends_when_it_should() {
    let mut listener = Listener::start(&["--header-timeout", "600ms"], NOWHERE);
    // By its client.
    let mut connection = listener.connect();
    connection.send(ALIVE);
    connection.until("ok\n");
    wait_until_quiet(&listener);
    connection.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(connection.rest(), "");
    // For being late with a request that it has begun.
    let mut connection = listener.connect();
    connection.send(ALIVE);
    connection.until("ok\n");
    wait_until_quiet(&listener);
    connection.send("G");
    assert_eq!(status(&connection.rest()), 408);
    // And when we are told to stop.
    let mut connection = listener.connect();
    connection.send(ALIVE);
    connection.until("ok\n");
    wait_until_quiet(&listener);
    assert_eq!(listener.stop().code, Some(0));
    assert_eq!(connection.rest(), "");
    // For being idle.
    let listener = Listener::start(&["--idle-timeout", "900ms"], NOWHERE);
    let mut connection = listener.connect();
    connection.send(ALIVE);
    connection.until("ok\n");
    assert_eq!(connection.rest(), "");
}

#[test]
fn connection_idles_no_longer_behind_an_answer_that_was_waited_for() {
    let server = "read line; sleep 0.2; echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}'; exec sleep 100";
    let options = ["proxy", "--listen", "127.0.0.1:0", "--idle-timeout", "900ms", "--shutdown-grace", "100ms"];
    let listener = Listener::of(Launch::new([&options[..], &["--", "sh", "-c", server]].concat()));
    let mut connection = listener.connect();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let headers = "content-type: application/json\r\naccept: application/json, text/event-stream";
    let len = body.len();
    connection
        .send(&format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{headers}\r\ncontent-length: {len}\r\n\r\n{body}"));
    connection.until("\"result\":{}}");
    assert_eq!(connection.rest(), "");
}

#[test]
fn rest_of_a_body_that_nobody_read_is_no_request() {
    let listener = Listener::start(&["--header-timeout", "600ms"], NOWHERE);
    let mut connection = listener.connect();
    let len = ALIVE.len() + 1;
    connection.send(&format!("POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n\r\n{{"));
    connection.until("\r\n\r\n");
    wait_until_quiet(&listener);
    let _ = connection.0.write_all(ALIVE.as_bytes());
    assert_eq!(connection.rest(), "");
}

#[test]
fn connection_over_http2_without_an_exchange_is_not_waited_for() {
    let mut upstream = Upstream::start();
    let listener = Listener::start(&["--idle-timeout", "300ms"], &upstream.url);
    in_time(async {
        let connect = async || {
            let stream = TcpStream::connect(("127.0.0.1", listener.port)).await.unwrap();
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            (sender, tokio::spawn(connection))
        };
        let (mut busy, _busy_connection) = connect().await;
        let running = tokio::spawn(busy.send_request(posting("http://localhost/mcp", WAIT)));
        upstream.next_seen().await;
        // One that never asks, and one that has asked.
        let (_silent, connection) = connect().await;
        connection.await.unwrap().unwrap();
        let (mut sender, connection) = connect().await;
        let answer = sender.send_request(posting("http://localhost/mcp", "{}")).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
        connection.await.unwrap().unwrap();
        // The one with an exchange has waited all the time.
        upstream.open_gate();
        let answer = running.await.unwrap().unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), WAIT);
    });
}

#[test]
fn exchange_over_http2_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let upstream = Upstream::start();
    let mut listener = Listener::start(&["--write-timeout", "300ms", "--log-level", "info"], &upstream.url);
    let port = listener.port;
    in_time(async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(16 << 10).initial_connection_window_size(1 << 20);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let listening = Request::get("http://localhost/mcp").body(Full::default()).unwrap();
        let mut events = sender.send_request(listening).await.unwrap().into_body();
        assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "data: hello\n\n");
        let body = Full::new(Bytes::from(vec![b'x'; 1 << 20]));
        let large = Request::post("http://localhost/mcp").body(body).unwrap();
        let untaken = sender.send_request(large).await.unwrap().into_body();
        let line = tokio::task::spawn_blocking(move || {
            let line = listener.session.stderr.line_with("took nothing of a stream for too long");
            (line, listener)
        });
        let (line, _listener) = line.await.unwrap();
        assert_has(&line, "300ms");
        assert!(untaken.collect().await.is_err());
        // A stream on which there is nothing to take is another matter.
        let answer = sender.send_request(posting("http://localhost/mcp", "{}")).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
        drop(events);
    });
}

#[test]
fn connection_over_http2_without_room_is_told_so() {
    let options = ["--max-frame-len", "1MiB", "--memory-budget", "16MiB", "--metrics", "/metrics"];
    let listener = Listener::start(&options, NOWHERE);
    let mut open = Vec::new();
    let refused = (0..64).find_map(|_| {
        let mut connection = listener.connect();
        connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        connection.0.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut head = [0; 9];
        connection.0.read_exact(&mut head).unwrap();
        assert_eq!(head[3], 4, "SETTINGS come first");
        if head[2] > 0 {
            open.push(connection);
            return None;
        }
        let mut rest = Vec::new();
        connection.0.read_to_end(&mut rest).unwrap();
        Some(rest)
    });
    assert!(!open.is_empty());
    // GOAWAY, no stream, ENHANCE_YOUR_CALM.
    assert_eq!(refused.unwrap(), [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
    let counted = listener.exchange("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_has(&counted, "shadowcat_errors_total{blame=\"us\",reason=\"overloaded\"} 1\n");
}
