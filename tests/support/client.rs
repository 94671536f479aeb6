//! An HTTP/1.1 client for tests: one connection a request, and every byte of it in the test's hand.
//!
//! Written on the socket, because tests send what a good client cannot send, leave in the middle, and want to
//! see what arrives when. Every wait has a bound. No keep-alive, no HTTP/2, no TLS.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::support::DEADLINE;

/// A request that was not sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A request that was sent. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Pending(TcpStream);

/// A response whose head has arrived. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Body,
}

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

#[derive(Debug)]
struct Body {
    socket: BufReader<TcpStream>,
    length: Length,
}

#[derive(Debug)]
enum Length {
    /// As many bytes are left.
    Known(u64),
    /// As many bytes of the chunk are left.
    Chunked(u64),
    UntilEnd,
    Over,
}

impl Request {
    pub(crate) fn new(method: &'static str) -> Self {
        Self { method, path: "/mcp".to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// With the headers that every client sends.
    pub(crate) fn post(body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::new("POST")
            .with("Content-Type", "application/json")
            .with("Accept", "application/json, text/event-stream");
        request.body = body.into();
        request
    }

    pub(crate) fn get() -> Self {
        Self::new("GET").with("Accept", "text/event-stream")
    }

    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// With a header, and only this one of its name.
    pub(crate) fn but(self, name: &str, value: impl Into<String>) -> Self {
        self.without(name).with(name, value)
    }

    /// As it goes over the wire, head and body.
    pub(crate) fn parts(&self, address: SocketAddr) -> (String, &[u8]) {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", self.method, self.path);
        if self.method == "POST" && !self.headers.iter().any(|(name, _)| name == "Transfer-Encoding") {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        (head, &self.body)
    }

    /// Sends it without waiting for anything.
    pub(crate) fn begin(&self, address: SocketAddr) -> Pending {
        let (head, body) = self.parts(address);
        let mut pending = Pending::connect(address);
        // A server may refuse what it has not read to its end.
        let _refused = pending.0.write_all(&[head.as_bytes(), body].concat());
        pending
    }

    /// Sends it and awaits the response's head.
    pub(crate) fn send(&self, address: SocketAddr) -> Response {
        self.begin(address).response()
    }
}

impl Pending {
    /// A connection on which nothing was sent yet.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(socket)
    }

    /// A connection on which a request was begun by hand.
    pub(crate) fn of(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Awaits the response's head.
    pub(crate) fn response(self) -> Response {
        self.try_response().unwrap()
    }

    /// The same, if the connection does not break off first.
    pub(crate) fn try_response(self) -> io::Result<Response> {
        let mut socket = BufReader::new(self.0);
        let first = head_line(&mut socket)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = head_line(&mut socket)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let find = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let length = match (find("transfer-encoding"), find("content-length")) {
            (Some("chunked"), _) => Length::Chunked(0),
            (_, Some(len)) => Length::Known(len.parse().unwrap()),
            _ if status == 202 || status == 204 => Length::Over,
            _ => Length::UntilEnd,
        };
        Ok(Response { status, headers, body: Body { socket, length } })
    }
}

fn head_line(socket: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if socket.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Every header of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn is_events(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// The whole body.
    pub(crate) fn text(mut self) -> String {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// The whole body, if it comes to its end.
    pub(crate) fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body).map(|_| body)
    }

    /// The whole body, of a plain reply.
    pub(crate) fn json(self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The next event with data; `None` at the regular end of the stream. One without data only gives the
    /// stream an id to be resumed from (Rule G7).
    pub(crate) fn event(&mut self) -> Option<Event> {
        std::iter::from_fn(|| self.try_event().unwrap()).find(|event| !event.data.is_empty())
    }

    /// The data of the next event.
    pub(crate) fn data(&mut self) -> String {
        self.event().expect("one more event").data
    }

    /// The next event, whatever it has. An error when the stream breaks off.
    pub(crate) fn try_event(&mut self) -> io::Result<Option<Event>> {
        assert!(self.is_events(), "{self:?}");
        let mut event: Option<Event> = None;
        loop {
            let Some(line) = self.body.line()? else { return Ok(None) };
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => match event.take() {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                },
                "" => continue,
                _ => {}
            }
            let event = event.get_or_insert_default();
            match field {
                "data" if event.data.is_empty() => event.data.push_str(value),
                "data" => event.data.extend(["\n", value]),
                "event" => event.name = Some(value.to_owned()),
                "id" => event.id = Some(value.to_owned()),
                _ => {}
            }
        }
    }

    /// The data of all events that are left.
    pub(crate) fn rest(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.event()).map(|event| event.data).collect()
    }

    /// One line of the stream, whatever it is.
    pub(crate) fn line(&mut self) -> Option<String> {
        self.body.line().unwrap()
    }
}

impl Body {
    /// Up to a line feed, which is not part of it. `None` at the end, where only whole lines count.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.read(&mut byte)? == 1 {
            match byte {
                [b'\n'] => return String::from_utf8(line).map(Some).map_err(io::Error::other),
                [byte] => line.push(byte),
            }
        }
        Ok(None)
    }

    fn chunk_len(&mut self) -> io::Result<u64> {
        let line = head_line(&mut self.socket)?;
        u64::from_str_radix(&line, 16).map_err(|error| io::Error::other(format!("{line:?}: {error}")))
    }
}

impl Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.body.read(buf)
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Length::Chunked(0) = self.length {
            self.length = match self.chunk_len()? {
                0 => Length::Over,
                len => Length::Chunked(len),
            };
        }
        let left = match self.length {
            Length::Known(left) | Length::Chunked(left) => left,
            Length::UntilEnd => u64::MAX,
            Length::Over => 0,
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.socket.read(&mut buf[..most])?;
        match &mut self.length {
            Length::UntilEnd | Length::Over => {}
            Length::Known(_) | Length::Chunked(_) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Length::Known(left) => *left -= read as u64,
            Length::Chunked(left) => {
                *left -= read as u64;
                if *left == 0 {
                    head_line(&mut self.socket)?;
                }
            }
        }
        Ok(read)
    }
}
