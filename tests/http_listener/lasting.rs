//! Streams on which a client listens, byte by byte: news after a pause, long news for who reads slowly, what is asked
//! meanwhile, and every way to end.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use super::{
    client::{Connection, Listener, until},
    support::DEADLINE,
    waits::wait_until_quiet as pause,
};

const LISTEN: &str =
    "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nconnection: Keep-Alive\r\n\r\n";
const ALIVE: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A server whose bytes the test writes.
struct Server(TcpListener);

impl Server {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.0.local_addr().unwrap())
    }

    /// The connection of the next client that listens, whose stream has begun and pauses.
    fn listened_to(&self, client: &mut Connection, listener: &Listener) -> TcpStream {
        client.send(LISTEN);
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        until(&mut stream, "\r\n\r\n");
        stream.write_all(HEAD.as_bytes()).unwrap();
        let head = client.until("\r\n\r\n");
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        pause(listener);
        stream
    }
}

/// What is to be seen as a pause is as long.
const OPTIONS: [&str; 2] = ["--header-timeout", "100ms"];

#[test]
fn news_after_a_pause_arrive_at_once_and_what_was_asked_meanwhile_is_answered_behind_them() {
    let server = Server::start();
    let listener = Listener::start(&OPTIONS, &server.url());
    let mut client = listener.connect();
    let mut stream = server.listened_to(&mut client, &listener);
    for _ in 0..2 {
        stream.write_all(b"9\r\ndata: 1\n\n\r\n").unwrap();
        assert_eq!(client.until("1\n\n\r\n"), "9\r\ndata: 1\n\n\r\n");
        pause(&listener);
    }
    // Asked in two pieces, between which there are news.
    let (begun, rest) = ALIVE.split_at(20);
    client.send(begun);
    pause(&listener);
    stream.write_all(b"1b\r\ndata: twenty-seven in all!\n\r\n").unwrap();
    assert_eq!(client.until("all!\n\r\n"), "1B\r\ndata: twenty-seven in all!\n\r\n");
    client.send(rest);
    pause(&listener);
    stream.write_all(b"3\r\n:x\n\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.until("0\r\n\r\n"), "3\r\n:x\n\r\n0\r\n\r\n");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
}

#[test]
fn connection_is_used_again_behind_a_stream_that_ended() {
    let server = Server::start();
    let mut listener = Listener::start(&OPTIONS, &server.url());
    let mut client = listener.connect();
    for _ in 0..2 {
        let mut stream = server.listened_to(&mut client, &listener);
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(client.until("\r\n\r\n"), "0\r\n\r\n");
        // The next comes over a connection of its own.
        drop(stream);
        pause(&listener);
    }
    client.send(ALIVE);
    assert!(client.rest().ends_with("ok\n"));
    assert_eq!(listener.stop().code, Some(0));
}

#[test]
fn long_news_arrive_whole_though_they_are_read_slowly() {
    let server = Server::start();
    let listener = Listener::start(&OPTIONS, &server.url());
    let mut client = listener.connect();
    let mut stream = server.listened_to(&mut client, &listener);
    let line = format!(": {}\n", "x".repeat(5000));
    let sent = line.repeat(400);
    let writing = std::thread::spawn(move || {
        for piece in sent.as_bytes().chunks(70_001) {
            write!(stream, "{:x}\r\n", piece.len()).unwrap();
            stream.write_all(piece).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        sent
    });
    pause(&listener);
    let (mut reader, mut got) = (BufReader::new(&client.0), Vec::new());
    loop {
        let mut head = String::new();
        reader.read_line(&mut head).unwrap();
        let len = usize::from_str_radix(head.trim_end(), 16).unwrap();
        let mut piece = vec![0; len + 2];
        reader.read_exact(&mut piece).unwrap();
        assert!(piece.ends_with(b"\r\n"));
        got.extend_from_slice(&piece[..len]);
        if len == 0 {
            break;
        }
    }
    assert!(got == writing.join().unwrap().into_bytes(), "{} bytes", got.len());
}

#[test]
fn end_of_either_side_is_told_to_the_other() {
    let server = Server::start();
    let mut listener = Listener::start(&OPTIONS, &server.url());
    // The client leaves.
    let mut client = listener.connect();
    let mut stream = server.listened_to(&mut client, &listener);
    drop(client);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // Also if it only sends no more, as ever.
    let mut client = listener.connect();
    let mut stream = server.listened_to(&mut client, &listener);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(client.rest(), "");
    // The server breaks off: no last chunk.
    let mut client = listener.connect();
    let mut stream = server.listened_to(&mut client, &listener);
    stream.write_all(b"3\r\n:x\n\r\n").unwrap();
    client.until(":x\n\r\n");
    drop(stream);
    assert_eq!(client.rest(), "");
    // And when we are told to stop, it is over in time.
    let mut client = listener.connect();
    let _stream = server.listened_to(&mut client, &listener);
    assert_eq!(listener.stop().code, Some(0));
    assert_eq!(client.rest(), "D\r\nretry: 1000\n\n\r\n0\r\n\r\n");
}
