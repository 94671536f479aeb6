//! Clients of the listener: the listener as they find it, and bytes over a socket as they come.

use std::{
    io::{Read, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;

use super::support::{DEADLINE, Ended, Launch, Session, kill};

/// A running listener.
pub(crate) struct Listener {
    pub(crate) session: Session,
    /// Where it says that it is.
    pub(crate) url: String,
    pub(crate) port: u16,
}

impl Listener {
    pub(crate) fn start(options: &[&str], upstream: &str) -> Self {
        Self::start_at("127.0.0.1:0", options, upstream)
    }

    pub(crate) fn start_at(address: &str, options: &[&str], upstream: &str) -> Self {
        Self::of(Launch::new([&["proxy", "--listen", address], options, &[upstream]].concat()))
    }

    pub(crate) fn of(launch: Launch) -> Self {
        let mut session = launch.start();
        let line = session.stderr.line_with("listening on ");
        let url = line.rsplit("listening on ").next().unwrap().to_owned();
        let authority = url.split('/').nth(2).unwrap_or_default();
        let port = authority.rsplit(':').next().unwrap_or_default().parse().unwrap_or_default();
        Self { session, url, port }
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Connection(stream)
    }

    /// Sends bytes on a connection of their own and reads what comes, to the end.
    pub(crate) fn exchange(&self, request: &str) -> String {
        let mut connection = self.connect();
        connection.send(request);
        connection.rest()
    }

    /// Stops it as a supervisor does.
    pub(crate) fn stop(&mut self) -> Ended {
        self.session.signal(Signal::TERM);
        self.session.wait()
    }
}

impl Drop for Listener {
    /// It would run for ever. Found by its mark: its id may be another's by now.
    fn drop(&mut self) {
        self.session.processes().iter().for_each(|process| kill(process.pid, Signal::TERM));
    }
}

/// A connection whose bytes the test writes and reads.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Connection {
    pub(crate) fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).unwrap();
    }

    /// Up to and with `end`.
    pub(crate) fn until(&mut self, end: &str) -> String {
        until(&mut self.0, end)
    }

    /// Up to the end; a reset is one.
    pub(crate) fn rest(&mut self) -> String {
        rest(&mut self.0)
    }
}

pub(crate) fn until(source: &mut impl Read, end: &str) -> String {
    let mut read = String::new();
    while !read.ends_with(end) {
        let mut byte = [0];
        assert_eq!(source.read(&mut byte).unwrap(), 1, "ended within {read:?}");
        read.push(byte[0].into());
    }
    read
}

pub(crate) fn rest(source: &mut impl Read) -> String {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => read.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} behind {:?}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8(read).unwrap()
}

/// A POST of `body` with more header lines; the connection ends behind it.
pub(crate) fn post(headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}"
    )
}

/// A request without a body.
pub(crate) fn ask(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

/// The status of what was answered.
#[track_caller]
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|answer| answer.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}
