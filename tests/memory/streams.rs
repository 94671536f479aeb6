//! Streams that are long, over each link and each way: they cost no more than short ones.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
    thread,
};

use crate::{
    KIB, MIB, Measured, amount,
    client::Request,
    fixture,
    mux::run,
    upstream::{Asked, Upstream},
};

/// What a stream may cost, however long it is.
const MOST: usize = 8 * MIB;

const MESSAGE_LEN: usize = 64 * KIB;

/// How many messages a stream has.
fn count() -> usize {
    amount(32, 1024) * MIB / MESSAGE_LEN
}

fn note() -> String {
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
    let writing = thread::spawn(move || (0..count()).try_for_each(|_| stdin.write_all(written.as_bytes())).unwrap());
    for _ in 0..count() {
        assert!(proxy.session.stdout.take(line.len()) == line.as_bytes(), "another message");
    }
    writing.join().unwrap();
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
    let flood = run("7", &format!(r#"{{"flood":{}}}"#, count())).token("1");
    let len = flood.modern().send(address).read_all().map(|body| body.len());
    // Whoever shares a child and reads too slowly is cut off; this one reads as fast as the machine lets it.
    if let Ok(len) = len {
        assert!(len > count() * MESSAGE_LEN, "{len}");
    }
    proxy.assert_peak("mux, shared child: a long stream", MOST);
    let client = crate::legacy::Client::begin(address, "2025-11-25");
    let mut events = client.post(flood.legacy_body()).send(address);
    let len = events.read_all().unwrap().len();
    assert!(len > count() * MESSAGE_LEN, "{len}");
    proxy.assert_peak("mux, own child: a long stream", MOST);
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
