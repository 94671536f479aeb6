//! Servers that count what a proxy has with them: sessions that began and were not deleted, streams of events and
//! connections that are open. One over HTTP, one for lines.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

/// What there is now, and how many sessions there have been.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sessions: Mutex<BTreeSet<String>>,
    streams: AtomicUsize,
    begun: AtomicUsize,
}

/// One thing that is open, counted until this is dropped.
struct Open<'a>(&'a AtomicUsize);

impl Counts {
    /// Sessions that were not deleted.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.lock().unwrap().len()
    }

    /// Streams of events; for a server of lines, connections.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// Sessions, or connections, that have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn open(&self) -> Open<'_> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        Open(&self.streams)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server over HTTP of legacy sessions. It answers calls, and a call of `wait` with a stream that does not end.
pub(crate) fn over_http() -> (String, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&counted);
            // A connection that breaks off is what this is about.
            thread::spawn(move || serve(stream, &counts));
        }
    });
    (url, counts)
}

fn serve(mut to: TcpStream, counts: &Counts) -> io::Result<()> {
    to.set_nodelay(true)?;
    let mut from = BufReader::new(to.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let mut body = vec![0; header("content-length").map_or(0, |len| len.parse().unwrap())];
        from.read_exact(&mut body)?;
        if head.starts_with("DELETE ") {
            counts.sessions.lock().unwrap().remove(&header("mcp-session-id").unwrap_or_default());
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = match (asked["method"].as_str(), asked.get("id")) {
            (Some("initialize"), Some(id)) => {
                let session = format!("s{}", counts.begun.fetch_add(1, Ordering::SeqCst));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: {session}\r\n\
                     content-length: {}\r\n\r\n{}",
                    initialized(id).len(),
                    initialized(id)
                );
                counts.sessions.lock().unwrap().insert(session);
                answer
            }
            (Some("wait"), _) | (None, None) => return hold(&mut to, counts),
            (_, None) => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned(),
            (_, Some(id)) => {
                let result = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
                let len = result.len();
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{result}")
            }
        };
        to.write_all(answer.as_bytes())?;
    }
}

/// A stream with one message, until the other side leaves.
fn hold(to: &mut TcpStream, counts: &Counts) -> io::Result<()> {
    let _open = counts.open();
    let event = format!("data: {NOTE}\n\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    to.write_all(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
    while to.read(&mut [0; 64])? > 0 {}
    Ok(())
}

/// A server of lines on a Unix socket. It answers requests, and one with the method `wait` with a message and no more.
pub(crate) fn over_lines(path: &Path) -> Arc<Counts> {
    let listener = UnixListener::bind(path).unwrap();
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&counted);
            thread::spawn(move || speak(&stream, &counts));
        }
    });
    counts
}

fn speak(mut to: &UnixStream, counts: &Counts) -> io::Result<()> {
    let _open = counts.open();
    counts.begun.fetch_add(1, Ordering::SeqCst);
    for line in BufReader::new(to.try_clone()?).lines() {
        let asked: Value = serde_json::from_str(&line?).unwrap_or_default();
        let answer = match (asked["method"].as_str(), asked.get("id")) {
            (_, None) => continue,
            (Some("initialize"), Some(id)) => initialized(id),
            (Some("wait"), _) => NOTE.to_owned(),
            // It ends the connection itself.
            (Some("exit"), _) => return Ok(()),
            (_, Some(id)) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        };
        to.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn initialized(id: &Value) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{{"name":"test","version":"1"}}}}}}"#
    )
}

/// What a stream begins with.
pub(crate) const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
