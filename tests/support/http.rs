//! HTTP/1.1 by hand, on both sides of a proxy: a test writes and reads the very bytes, and decides when.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::support::{DEADLINE, Launch, Session};

/// A proxy that listens, in front of an upstream. Ended by TERM when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) session: Session,
}

/// A server whose connections a test serves itself.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    accepted: mpsc::Receiver<TcpStream>,
}

/// One connection, from either end.
pub(crate) struct Conn {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What stands before a body.
#[derive(Debug)]
pub(crate) struct Head {
    /// The request line or the status line.
    pub(crate) start: String,
    /// With names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// A body did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Proxy {
    /// In front of `upstream`'s `/mcp`.
    pub(crate) fn start(options: &[&str], upstream: &Upstream) -> Self {
        let url = format!("http://{}/mcp", upstream.address);
        Self::launch(Launch::new([&["proxy", "--listen", "127.0.0.1:0"], options, &[&url]].concat()))
    }

    pub(crate) fn launch(launch: Launch) -> Self {
        let mut session = launch.start();
        let line = session.stderr.line_with("listening on ");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
        Self { address, session }
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::new(TcpStream::connect(self.address).unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.session.signal(Signal::TERM);
    }
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (told, accepted) = mpsc::channel();
        thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                if told.send(stream).is_err() {
                    break;
                }
            }
        });
        Self { address, accepted }
    }

    /// The next connection, once there is one.
    pub(crate) fn accept(&self) -> Conn {
        Conn::new(self.accepted.recv_timeout(DEADLINE).expect("a connection in time"))
    }

    /// The next connection, if there is one now.
    pub(crate) fn accepted_now(&self) -> Option<Conn> {
        self.accepted.try_recv().ok().map(Conn::new)
    }

    /// The next connection, unless `client` is answered first.
    pub(crate) fn accept_unless_answered(&self, client: &Conn) -> Option<Conn> {
        loop {
            if let Some(conn) = self.accepted_now() {
                return Some(conn);
            }
            if client.has_input() {
                return None;
            }
        }
    }

    /// How many more connections there are now.
    pub(crate) fn waiting(&self) -> usize {
        self.accepted.try_iter().count()
    }
}

impl Conn {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// A POST of JSON, with these headers more, each with its line end.
    pub(crate) fn post(&mut self, headers: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("{}content-length: {}\r\n\r\n", post_head(headers), body.len());
        // In one write: what its head gives away may be refused, and the connection closed, before its body is sent.
        self.send([head.as_bytes(), body].concat());
    }

    /// An answer of 200, the last one on this connection.
    pub(crate) fn answer(&mut self, media_type: &str, body: impl AsRef<[u8]>) {
        self.answer_with("connection: close\r\n", media_type, body.as_ref());
    }

    /// An answer of 200 on a connection that is kept.
    pub(crate) fn answer_and_keep(&mut self, media_type: &str, body: impl AsRef<[u8]>) {
        self.answer_with("", media_type, body.as_ref());
    }

    fn answer_with(&mut self, headers: &str, media_type: &str, body: &[u8]) {
        let len = body.len();
        self.send(format!("HTTP/1.1 200 OK\r\n{headers}content-type: {media_type}\r\ncontent-length: {len}\r\n\r\n"));
        self.send(body);
    }

    /// The beginning of an answer that is an event stream, the last one on this connection.
    pub(crate) fn answer_events(&mut self) {
        self.send(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\n\r\n",
        );
    }

    pub(crate) fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.send(chunk);
    }

    pub(crate) fn head(&mut self) -> Head {
        self.try_head().expect("a head, not the end")
    }

    /// `None`: the connection ended instead.
    pub(crate) fn try_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end;
            }
            self.read().ok()?;
        };
        let text = String::from_utf8(self.take(end + 4)).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Head { start, headers: lines.map(header).collect() })
    }

    /// A body, by its head.
    pub(crate) fn body(&mut self, head: &Head) -> Result<Vec<u8>, Broken> {
        if head.get("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            while let Some(mut chunk) = self.next_chunk()? {
                body.append(&mut chunk);
            }
            return Ok(body);
        }
        let len = head.get("content-length").map_or(0, |len| len.parse().unwrap());
        self.exactly(len)
    }

    /// The next chunk of a body; `None` at its end.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                break end;
            }
            self.read()?;
        };
        let size = String::from_utf8(self.take(end + 2)).unwrap();
        let len = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = self.exactly(len + 2)?;
        chunk.truncate(len);
        Ok((len > 0).then_some(chunk))
    }

    /// As many bytes of a chunked body as `len`, however they are cut.
    pub(crate) fn chunks_of(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            bytes.append(&mut self.next_chunk().unwrap().expect("more of the body"));
        }
        bytes
    }

    pub(crate) fn exactly(&mut self, len: usize) -> Result<Vec<u8>, Broken> {
        while self.unread.len() < len {
            self.read()?;
        }
        Ok(self.take(len))
    }

    /// Awaits that the other side ends the connection, whatever it still sends.
    pub(crate) fn await_end(&mut self) {
        while self.read().is_ok() {
            self.unread.clear();
        }
    }

    /// Ends the connection as a process does that is killed: with what was written before.
    pub(crate) fn hang_up(self) {
        // The other end may have ended it already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, linger).unwrap();
    }

    /// Whether something came, looked at for a moment.
    fn has_input(&self) -> bool {
        let mut byte = [0];
        self.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let has_input = self.stream.peek(&mut byte).is_ok();
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        has_input
    }

    /// The connection itself; what was read of it and not asked for is lost.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn read(&mut self) -> Result<(), Broken> {
        let mut chunk = vec![0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Broken),
            Ok(len) => {
                self.unread.extend_from_slice(&chunk[..len]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came in time after {:?}", String::from_utf8_lossy(&self.unread))
            }
            Err(_) => Err(Broken),
        }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Of a status line.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// The head of a POST, without its last two line ends.
pub(crate) fn post_head(headers: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\n{headers}"
    )
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}
