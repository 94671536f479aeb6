//! One long message, each way over each link: it arrives exact, and costs itself and little more.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
};

use crate::{
    MIB, Measured, amount,
    client::{Request, Response},
    fixture,
    legacy::Client,
    mux::{call, echoed, run},
    upstream::{Asked, Upstream},
};

/// What a link may hold above the message itself.
const SPARE: usize = 8 * MIB;

fn len() -> usize {
    amount(16, 64) * MIB - (64 << 10)
}

fn text(len: usize) -> String {
    "0123456789abcdef".repeat(len / 16)
}

/// Whether this is the message of an answer, which comes as an event where the machine is slow.
fn holds(response: &mut Response, message: &str) -> bool {
    String::from_utf8(response.read_all().unwrap()).unwrap().contains(message)
}

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":"TEXT"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":["TEXT"]}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"x","params":["TEXT"]}"#;

#[test]
fn long_messages_over_a_pipe() {
    // A child that says back what it hears, once it has heard all of it, as servers do: one message at a time.
    let mut proxy = Measured::piped(&[], &["--", "grep", "--line-buffered", "jsonrpc"]);
    let note = |len| NOTE.replace("TEXT", &text(len)) + "\n";
    proxy.session.send(note(16));
    assert_eq!(proxy.session.stdout.line() + "\n", note(16));
    proxy.begin();
    let long = note(len());
    let mut stdin = proxy.session.stdin.take().unwrap();
    let written = long.clone();
    let writing = thread::spawn(move || stdin.write_all(written.as_bytes()).map(|()| stdin));
    assert!(proxy.session.stdout.take(long.len()) == long.as_bytes(), "another message");
    proxy.session.stdin = Some(writing.join().unwrap().unwrap());
    proxy.assert_peak("pipe: a long message there and back", len() + SPARE);
    for _ in 0..4 {
        proxy.session.send(note(16));
        assert_eq!(proxy.session.stdout.line() + "\n", note(16));
    }
    proxy.assert_rest("pipe: after a long message and a few short ones");
    proxy.end();
}

/// Answers a request that has a text in it with nothing, and one that has none with a long text.
fn answer(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    let is_long = asked.body.len() > 1 << 10;
    let body = if is_long { RESULT.replace("TEXT", "") } else { RESULT.replace("TEXT", &text(len())) };
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n";
    to.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes())?;
    to.write_all(body.as_bytes()).map(|()| false)
}

/// The same, of a length that nobody says beforehand, and as an event.
fn answer_as_event(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    let is_long = asked.body.len() > 1 << 10;
    let body = if is_long { RESULT.replace("TEXT", "") } else { RESULT.replace("TEXT", &text(len())) };
    to.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n")?;
    to.write_all(format!("data: {body}\n\n").as_bytes()).map(|()| false)
}

#[test]
fn long_messages_over_a_dial() {
    for (name, answer) in [("JSON", answer as fn(&Asked, &mut TcpStream) -> _), ("an event", answer_as_event)] {
        let upstream = Upstream::start(answer);
        let mut proxy = Measured::piped(&[], &[&upstream.url()]);
        proxy.session.send(CALL.replace("TEXT", &text(2 << 10)) + "\n");
        assert_eq!(proxy.session.stdout.line(), RESULT.replace("TEXT", ""));
        proxy.begin();
        proxy.session.send(CALL.replace("TEXT", &text(len())) + "\n");
        assert_eq!(proxy.session.stdout.line(), RESULT.replace("TEXT", ""));
        proxy.assert_peak("dial: a long request", len() + SPARE);
        proxy.session.send(format!("{PING}\n"));
        assert!(proxy.session.stdout.line() == RESULT.replace("TEXT", &text(len())), "another answer");
        proxy.assert_peak(&format!("dial: a long answer, {name}"), len() + SPARE);
        for _ in 0..4 {
            proxy.session.send(CALL.replace("TEXT", &text(2 << 10)) + "\n");
            proxy.session.stdout.line();
        }
        proxy.assert_rest("dial: after long messages and a few short ones");
        proxy.end();
    }
}

#[test]
fn long_messages_over_a_relay() {
    for (name, answer) in [("JSON", answer as fn(&Asked, &mut TcpStream) -> _), ("an event", answer_as_event)] {
        let upstream = Upstream::start(answer);
        let (mut proxy, address) = Measured::listening(&[], &[&upstream.url()]);
        assert_eq!(Request::post(CALL.replace("TEXT", &text(2 << 10))).send(address).status, 200);
        proxy.begin();
        assert_eq!(Request::post(CALL.replace("TEXT", &text(len()))).send(address).status, 200);
        proxy.assert_peak("relay: a long request", SPARE);
        proxy.begin();
        let mut response = Request::post(PING).send(address);
        let body = response.read_all().unwrap();
        assert!(String::from_utf8(body).unwrap().contains(&RESULT.replace("TEXT", &text(len()))), "another answer");
        proxy.assert_peak(&format!("relay: a long answer, {name}"), SPARE);
        proxy.end();
    }
}

#[test]
fn long_messages_over_a_shared_child() {
    let (mut proxy, address) = Measured::listening(&[], &["--", &fixture()]);
    let echo = |len: usize| {
        let arguments = format!("\"{}\"", text(len));
        let mut response = call("7", "echo", &arguments).modern().send(address);
        assert_eq!(response.status, 200);
        assert!(holds(&mut response, &echoed("7", &arguments)), "another answer");
    };
    echo(16);
    proxy.begin();
    echo(len());
    proxy.assert_peak("mux, shared child: a long message there and back", len() + SPARE);
    let big = run("7", &format!(r#"{{"big":{}}}"#, len()));
    let mut response = big.modern().send(address);
    assert!(response.read_all().unwrap().len() > len());
    proxy.assert_peak("mux, shared child: and a long answer", len() + SPARE);
    for _ in 0..4 {
        echo(16);
    }
    proxy.assert_rest("mux, shared child: after long messages and a few short ones");
    proxy.end();
}

#[test]
fn long_messages_over_an_own_child() {
    let (mut proxy, address) = Measured::listening(&[], &["--", &fixture()]);
    let client = Client::begin(address, "2025-11-25");
    proxy.begin();
    let arguments = format!("\"{}\"", text(len()));
    let request = client.post(call("7", "echo", &arguments).legacy_body());
    let mut response = request.send(address);
    assert!(holds(&mut response, &echoed("7", &arguments)), "another answer");
    proxy.assert_peak("mux, own child: a long message there and back", len() + SPARE);
    proxy.end();
}

#[test]
fn long_messages_to_readers_that_are_slow() {
    // Whoever reads half of a long answer and then nothing holds up nobody but himself, and costs one message.
    let (mut proxy, address) = Measured::listening(&[], &["--", &fixture()]);
    call("7", "echo", "1").modern().send(address).text();
    proxy.begin();
    let mut half = call("7", "run", &format!(r#"{{"steps":[{{"big":{}}}]}}"#, len())).modern().send(address);
    let mut some = [0; 1024];
    half.read_exact(&mut some).unwrap();
    call("7", "echo", "1").modern().send(address).text();
    proxy.assert_peak("mux, shared child: a long answer half read", len() + SPARE);
    drop(half);
    proxy.end();
}
