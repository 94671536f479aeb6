//! Streams that are long, over each link and each way: they cost no more than short ones.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    thread,
};

use crate::{
    KIB, MIB, Measured, amount,
    client::{Request, Response},
    fixture,
    mux::{call, done, run},
    upstream::{Asked, Upstream},
};

/// What a stream may cost, however long it is.
pub(crate) const MOST: usize = 8 * MIB;

const MESSAGE_LEN: usize = 64 * KIB;

/// How many messages a stream has.
pub(crate) fn count() -> usize {
    amount(32, 1024) * MIB / MESSAGE_LEN
}

pub(crate) fn note() -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{}"]}}"#, "0123456789abcdef".repeat(MESSAGE_LEN / 16))
}

#[test]
fn long_streams_over_a_pipe() {
    let mut proxy = Measured::piped(&[], &["--", "cat"]);
    let line = note() + "\n";
    proxy.session.send(&line);
    proxy.session.stdout.take(line.len());
    proxy.begin();
    let mut stdin = proxy.session.stdin.take().unwrap();
    let written = line.clone();
    // Given back: the proxy ends when it is closed, and is still to be looked at.
    let writing = thread::spawn(move || {
        (0..count()).try_for_each(|_| stdin.write_all(written.as_bytes())).unwrap();
        stdin
    });
    for _ in 0..count() {
        assert!(proxy.session.stdout.take(line.len()) == line.as_bytes(), "another message");
    }
    proxy.session.stdin = Some(writing.join().unwrap());
    proxy.assert_peak("pipe: a long stream there and back", MOST);
    proxy.end();
}

/// Takes what is posted, and answers a request with a long stream of events.
fn answer(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    if !asked.body.windows(4).any(|bytes| bytes == b"\"id\"") {
        return to.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").map(|()| true);
    }
    to.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n")?;
    let event = format!("data: {}\n\n", note());
    (0..count()).try_for_each(|_| to.write_all(event.as_bytes()))?;
    to.write_all(b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n").map(|()| false)
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#;

#[test]
fn long_streams_over_a_dial() {
    let upstream = Upstream::start(answer);
    let mut proxy = Measured::piped(&[], &[&upstream.url()]);
    let line = note() + "\n";
    proxy.session.send(&line);
    proxy.begin();
    for _ in 0..count() {
        proxy.session.send(&line);
    }
    proxy.session.send(format!("{CALL}\n"));
    for _ in 0..count() {
        assert!(proxy.session.stdout.take(line.len()) == line.as_bytes(), "another message");
    }
    assert_eq!(proxy.session.stdout.line(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    proxy.assert_peak("dial: long streams", MOST);
    proxy.end();
}

#[test]
fn long_streams_over_a_relay() {
    let upstream = Upstream::start(answer);
    let (mut proxy, address) = Measured::listening(&[], &[&upstream.url()]);
    assert_eq!(Request::post(note()).send(address).status, 202);
    proxy.begin();
    // One connection, as a client that means it would.
    let socket = TcpStream::connect(address).unwrap();
    let (mut to, mut from) = (&socket, BufReader::new(&socket));
    let body = note();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..count() {
        to.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 202"), "{line}");
        while line != "\r\n" {
            line.clear();
            from.read_line(&mut line).unwrap();
        }
    }
    let mut events = Request::post(CALL).send(address);
    let len = events.read_all().unwrap().len();
    assert!(len > count() * MESSAGE_LEN, "{len}");
    proxy.assert_peak("relay: long streams", MOST);
    proxy.end();
}

#[test]
fn long_streams_over_a_mux() {
    let (mut proxy, address) = Measured::listening(&[], &["--", &fixture()]);
    run("7", "").modern().send(address).text();
    proxy.begin();
    // Whoever shares a child and reads too slowly is cut off; this one is sent no more at a time than may wait for it.
    let steps: Vec<String> =
        (0..count() / PORTION).map(|n| format!(r#"{{"flood":{PORTION}}},{{"wait":"g{n}"}}"#)).collect();
    let mut events = run("7", &steps.join(",")).token("1").modern().send(address);
    for n in 0..count() / PORTION {
        let len = take_events(&mut events, PORTION);
        assert!(len > PORTION * MESSAGE_LEN, "{len}");
        run("\"gate\"", &format!(r#"{{"open":"g{n}"}}"#)).modern().send(address).text();
    }
    assert_eq!(events.rest(), [done("7")]);
    proxy.assert_peak("mux, shared child: a long stream", MOST);
    let client = crate::legacy::Client::begin(address, "2025-11-25");
    let flood = run("7", &format!(r#"{{"flood":{}}}"#, count())).token("1");
    let mut events = client.post(flood.legacy_body()).send(address);
    let len = events.read_all().unwrap().len();
    assert!(len > count() * MESSAGE_LEN, "{len}");
    proxy.assert_peak("mux, own child: a long stream", MOST);
    proxy.end();
}

/// Reads so many events, each of one data line; how long they were.
fn take_events(events: &mut Response, count: usize) -> usize {
    let (mut len, mut ends) = (0, 0);
    let mut byte = vec![0; 16 << 10];
    while ends < 2 * count {
        let read = events.read(&mut byte).unwrap();
        assert!(read > 0, "the stream ended");
        len += read;
        ends += byte[..read].iter().filter(|byte| **byte == b'\n').count();
    }
    len
}

/// Messages that may wait for a reader together.
const PORTION: usize = 8;

#[test]
fn long_streams_to_children() {
    let (mut proxy, address) = Measured::listening(&[], &["--", &fixture()]);
    let client = crate::legacy::Client::begin(address, "2025-11-25");
    run("7", "").modern().send(address).text();
    proxy.begin();
    for n in 0..count() / 2 {
        assert_eq!(client.post(note()).send(address).status, 202);
        let modern = call(&n.to_string(), "echo", &format!("\"{}\"", "0123456789abcdef".repeat(MESSAGE_LEN / 16)));
        let mut answer = modern.modern().send(address);
        assert!(answer.status == 200 && answer.read_all().unwrap().len() > MESSAGE_LEN);
    }
    proxy.assert_peak("mux: long streams to children", MOST);
    proxy.end();
}

#[test]
fn a_reader_that_stops_midway_stops_the_writer() {
    // A child's flood to a client on stdout that reads none of it: what is not read stays where it came from.
    let mut proxy = Measured::piped(&[], &["--", "sh", "-c", "cat; yes '{\"jsonrpc\":\"2.0\",\"method\":\"x\"}'"]);
    proxy.session.send("{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n");
    proxy.session.stdout.line();
    proxy.begin();
    proxy.session.stdin = None;
    // More than pipes hold has come to a stop somewhere; what came by then is still whole.
    for _ in 0..100 {
        assert_eq!(proxy.session.stdout.take(31), b"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n"[..].to_owned());
    }
    proxy.assert_peak("pipe: a reader that stops", MOST);
}
