//! A server over HTTP/1.1 for tables: a thread for each connection, answers that a table chooses by the request.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Marks a request of somebody whose requests are not counted.
pub(crate) const NEIGHBOUR: &str = "x-neighbour";

/// A listening server.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// How many whole requests came, but for the neighbour's.
    pub(crate) asked: Arc<AtomicUsize>,
}

/// A request that came whole.
pub(crate) struct Asked {
    /// In lower case, lines and all.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Upstream {
    /// Answers with what `answer` writes, which says whether the connection goes on.
    pub(crate) fn start(answer: fn(&Asked, &mut TcpStream) -> io::Result<bool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // A connection that breaks off is what tables are about.
                thread::spawn(move || serve(stream, &counted, answer));
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

fn serve(
    mut stream: TcpStream,
    counted: &AtomicUsize,
    answer: fn(&Asked, &mut TcpStream) -> io::Result<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        head.make_ascii_lowercase();
        let body = body(&head, &mut reader)?;
        let asked = Asked { head, body };
        if asked.header(NEIGHBOUR).is_none() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        if !answer(&asked, &mut stream)? {
            return Ok(());
        }
    }
}

fn body(head: &str, reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !head.contains("\r\ntransfer-encoding: chunked\r\n") {
        let len = header(head, "content-length").map_or(0, |len| len.parse().unwrap());
        body.resize(len, 0);
        reader.read_exact(&mut body)?;
        return Ok(body);
    }
    assert!(header(head, "content-length").is_none(), "two ways to find the end: {head}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let len = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + len + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + len);
        if len == 0 {
            return Ok(body);
        }
    }
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
