//! A server over HTTP that does exactly what a test says: each request is handed to the test, which answers it
//! byte by byte, or cuts it off.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::support::DEADLINE;

/// A listening server.
pub(crate) struct Upstream {
    pub(crate) url: String,
    asked: mpsc::Receiver<Asked>,
}

/// One request, to be answered.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    stream: TcpStream,
    /// Told when the answer is complete, so that the connection goes on.
    done: mpsc::Sender<()>,
}

/// An answer that is an event stream.
pub(crate) struct Events(Asked);

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (told, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = told.clone();
                thread::spawn(move || serve(&stream, &told));
            }
        });
        Self { url, asked }
    }

    /// The next request, whatever it is.
    #[track_caller]
    pub(crate) fn next(&self) -> Asked {
        self.asked.recv_timeout(DEADLINE).expect("a request in time")
    }

    /// The next request, which is a POST.
    #[track_caller]
    pub(crate) fn post(&self) -> Asked {
        let asked = self.next();
        assert_eq!(asked.method, "POST", "{}", String::from_utf8_lossy(&asked.body));
        asked
    }

    #[track_caller]
    pub(crate) fn get(&self) -> Asked {
        let asked = self.next();
        assert_eq!(asked.method, "GET", "{}", String::from_utf8_lossy(&asked.body));
        asked
    }

    #[track_caller]
    pub(crate) fn delete(&self) -> Asked {
        let asked = self.next();
        assert_eq!(asked.method, "DELETE", "{}", String::from_utf8_lossy(&asked.body));
        asked
    }

    /// The next request, if there is one within `limit`.
    pub(crate) fn next_within(&self, limit: Duration) -> Option<Asked> {
        self.asked.recv_timeout(limit).ok()
    }

    /// Nothing was asked that the test has not taken. For when the proxy has ended, or is known to wait.
    #[track_caller]
    pub(crate) fn assert_idle(&self) {
        if let Ok(asked) = self.asked.try_recv() {
            panic!("{} {}", asked.method, String::from_utf8_lossy(&asked.body));
        }
    }
}

impl Asked {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Answers with these headers, lines with their ends, and this body.
    pub(crate) fn answer(mut self, status: u16, headers: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len());
        self.write(head.as_bytes());
        self.write(body);
        let _ = self.done.send(());
    }

    pub(crate) fn json(self, body: impl AsRef<[u8]>) {
        self.answer(200, "content-type: application/json\r\n", body);
    }

    /// JSON whose length nobody says before.
    pub(crate) fn chunked_json(mut self, body: &str) {
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
        for chunk in body.as_bytes().chunks(64 << 10) {
            self.write(format!("{:x}\r\n", chunk.len()).as_bytes());
            self.write(chunk);
            self.write(b"\r\n");
        }
        self.write(b"0\r\n\r\n");
        let _ = self.done.send(());
    }

    /// 202, as for a notification.
    pub(crate) fn accept(self) {
        self.answer(202, "", "");
    }

    pub(crate) fn status(self, status: u16) {
        self.answer(status, "", "");
    }

    /// Begins an event stream.
    pub(crate) fn events(mut self) -> Events {
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        Events(self)
    }

    /// Writes to the connection. Whoever is gone does not read.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Cuts the connection off.
    pub(crate) fn cut(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Awaits that the other side cuts the connection off.
    #[track_caller]
    pub(crate) fn assert_cut(self) {
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let read = (&self.stream).read(&mut [0; 16]);
        assert!(matches!(&read, Ok(0)) || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
}

impl Events {
    /// Writes a piece of the stream.
    pub(crate) fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.0.write(format!("{:x}\r\n", bytes.len()).as_bytes());
        self.0.write(bytes);
        self.0.write(b"\r\n");
    }

    pub(crate) fn message(&mut self, data: &str) {
        self.raw(format!("event: message\ndata: {data}\n\n"));
    }

    /// Ends the stream.
    pub(crate) fn end(mut self) {
        self.0.write(b"0\r\n\r\n");
        let _ = self.0.done.send(());
    }

    pub(crate) fn cut(self) {
        self.0.cut();
    }

    #[track_caller]
    pub(crate) fn assert_cut(self) {
        self.0.assert_cut();
    }
}

fn serve(stream: &TcpStream, told: &mpsc::Sender<Asked>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let len = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut body = vec![0; len.map_or(0, |(_, len)| len.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let (done, answered) = mpsc::channel();
        let stream = stream.try_clone().ok()?;
        told.send(Asked { method, path, headers, body, stream, done }).ok()?;
        answered.recv_timeout(DEADLINE * 2).ok()?;
    }
}
