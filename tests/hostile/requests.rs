//! Hostile clients over HTTP/1.1: what they send, byte for byte, and what comes of it in front of a command (mux), and
//! in front of a URL with either way to check requests (relay).

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::Ordering,
    thread,
};

use crate::{
    bomb::bomb,
    stage::{MAX_FRAME_LEN, Stage},
    support::DEADLINE,
    upstream::Upstream,
};

/// One kind of malice.
struct Row {
    name: &'static str,
    send: fn(&mut TcpStream) -> io::Result<()>,
    /// What comes of it: statuses in the order of the answers, each with the code of its JSON-RPC error.
    mux: &'static str,
    /// The same, and how many whole requests the server got.
    relay: &'static str,
    strict: &'static str,
}

const ROWS: &[Row] = &[
    // Heads.
    Row {
        name: "a header of 10 MB",
        send: |to| {
            to.write_all(b"GET /mcp HTTP/1.1\r\nhost: localhost\r\nx: ")?;
            flood(to, b"x", 10 << 20)
        },
        mux: "431",
        relay: "431 · 0",
        strict: "431 · 0",
    },
    Row {
        name: "a request line of 10 MB",
        send: |to| {
            to.write_all(b"GET /")?;
            flood(to, b"x", 10 << 20)
        },
        mux: "431",
        relay: "431 · 0",
        strict: "431 · 0",
    },
    Row {
        name: "100 000 headers",
        send: |to| {
            to.write_all(b"GET /mcp HTTP/1.1\r\nhost: localhost\r\n")?;
            flood(to, b"a: b\r\n", 100_000 * 6)
        },
        mux: "431",
        relay: "431 · 0",
        strict: "431 · 0",
    },
    Row { name: "no HTTP", send: |to| to.write_all(&[0xff; 4096]), mux: "400", relay: "400 · 0", strict: "400 · 0" },
    Row {
        name: "TLS where there is none",
        send: |to| to.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "a NUL in a header",
        send: |to| raw(to, "x: a\0b\r\n", "{}"),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "a header folded over two lines",
        send: |to| raw(to, "x: a\r\n b\r\n", "{}"),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "a space before a header's colon",
        send: |to| raw(to, "transfer-encoding : chunked\r\n", "{}"),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    // Where a request ends.
    Row {
        name: "two lengths",
        send: |to| raw(to, "content-length: 40\r\n", PING),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "two lengths in one header",
        send: |to| head(to, "content-length: 3, 40\r\n").and_then(|()| to.write_all(b"{} ")),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "a length with a sign",
        send: |to| head(to, "content-length: +2\r\n").and_then(|()| to.write_all(b"{}")),
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "a length and chunks",
        send: |to| {
            head(to, "content-length: 4\r\ntransfer-encoding: chunked\r\n")?;
            chunks(to, PING.as_bytes(), 7)
        },
        mux: "200",
        relay: "200 · 1",
        strict: "200 · 1",
    },
    Row {
        name: "chunks that are not the last encoding",
        send: |to| {
            head(to, "transfer-encoding: chunked, identity\r\n").and_then(|()| to.write_all(b"2\r\n{}\r\n0\r\n\r\n"))
        },
        mux: "400",
        relay: "400 · 0",
        strict: "400 · 0",
    },
    Row {
        name: "chunks of one byte",
        send: |to| chunked(to, "").and_then(|()| chunks(to, PING.as_bytes(), 1)),
        mux: "200",
        relay: "200 · 1",
        strict: "200 · 1",
    },
    Row {
        name: "a chunk whose length is no number",
        send: |to| chunked(to, "").and_then(|()| to.write_all(b"5\r\n{\"jso\r\nxyz\r\n")),
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a chunk of 2^64 bytes",
        send: |to| chunked(to, "").and_then(|()| to.write_all(b"10000000000000000\r\n{")),
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "chunk extensions without end",
        send: |to| {
            chunked(to, "")?;
            to.write_all(b"2;")?;
            flood(to, b"x", 10 << 20)
        },
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "trailers without end",
        send: |to| {
            chunked(to, "")?;
            to.write_all(b"2\r\n{}\r\n0\r\n")?;
            flood(to, b"a: b\r\n", 10 << 20)
        },
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a body that is cut",
        send: |to| {
            head(to, "content-length: 100\r\n")?;
            to.write_all(b"{\"jsonrpc\"")?;
            to.shutdown(Shutdown::Write)
        },
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a body said to be of 10 GB",
        send: |to| {
            head(to, "content-length: 10737418240\r\n")?;
            flood(to, b"x", 10 << 20)
        },
        mux: "413 -32600",
        relay: "413 -32600 · 0",
        strict: "413 -32600 · 0",
    },
    Row {
        name: "a body without end",
        send: |to| {
            chunked(to, "")?;
            to.write_all(b"10000000\r\n\"")?;
            flood(to, b"x", 64 << 20)
        },
        mux: "413 -32600",
        relay: "413 -32600 · 0",
        strict: "413 -32600 · 0",
    },
    Row {
        name: "a request behind a request that is refused",
        send: |to| {
            head(to, "content-length: 10737418240\r\n")?;
            raw(to, "", PING)
        },
        mux: "413 -32600",
        relay: "413 -32600 · 0",
        strict: "413 -32600 · 0",
    },
    // Who may ask.
    Row {
        name: "a web page of elsewhere",
        send: |to| raw(to, "origin: https://evil.example\r\n", PING),
        mux: "403 -32600",
        relay: "403 -32600 · 0",
        strict: "403 -32600 · 0",
    },
    Row {
        name: "a name that was rebound to us",
        send: |to| to.write_all(b"GET /mcp HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"),
        mux: "403 -32600",
        relay: "403 -32600 · 0",
        strict: "403 -32600 · 0",
    },
    Row {
        name: "two hosts",
        send: |to| {
            to.write_all(b"GET /mcp HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        },
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a tunnel",
        send: |to| to.write_all(b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"),
        mux: "400 -32600",
        relay: "400 -32600 · 0",
        strict: "400 -32600 · 0",
    },
    // Messages.
    Row {
        name: "another type",
        send: |to| plain(to, "content-type: text/plain\r\n", LEGACY),
        mux: "415 -32600",
        relay: "200 · 1",
        strict: "200 · 1",
    },
    Row {
        name: "a bomb in gzip",
        send: |to| {
            head(to, &format!("content-encoding: gzip\r\ncontent-length: {}\r\n", bomb().len()))?;
            to.write_all(bomb())
        },
        mux: "415 -32600",
        relay: "200 · 1",
        strict: "415 -32600 · 0",
    },
    Row {
        name: "100 000 brackets",
        send: |to| raw(to, "", &"[".repeat(100_000)),
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "100 000 nested objects in params",
        send: |to| {
            let (open, close) = ("{\"a\":".repeat(100_000), "}".repeat(100_000));
            raw(to, "", &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{open}0{close}}}"#))
        },
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "NULs",
        send: |to| raw(to, "", &"\0".repeat(100_000)),
        mux: "400 -32700",
        relay: "200 · 1",
        strict: "400 -32700 · 0",
    },
    Row {
        name: "no UTF-8",
        send: |to| {
            let body = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}";
            head(to, &format!("content-length: {}\r\n", body.len()))?;
            to.write_all(body)
        },
        mux: "400 -32700",
        relay: "200 · 1",
        strict: "400 -32700 · 0",
    },
    Row {
        name: "an id twice",
        send: |to| raw(to, "", r#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"ping"}"#),
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "an id of half a megabyte",
        send: |to| raw(to, "", &PING.replace("\"p\"", &format!("\"{}\"", "x".repeat(MAX_FRAME_LEN / 2)))),
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a batch of 100 000",
        send: |to| raw(to, "", &format!("[{}1]", "1,".repeat(100_000))),
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a batch in a batch",
        send: |to| raw(to, "", &format!("[[[[{PING}]]]]")),
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "an answer that nobody asked for",
        send: |to| raw(to, "", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        mux: "400 -32600",
        relay: "200 · 1",
        strict: "400 -32600 · 0",
    },
    Row {
        name: "a session that never was",
        send: |to| plain(to, "content-type: application/json\r\nmcp-session-id: x\r\n", LEGACY),
        mux: "404 -32600",
        relay: "200 · 1",
        strict: "200 · 1",
    },
];

/// Runs the table in front of a command.
pub(crate) fn against_mux(stage: &mut Stage, address: SocketAddr) {
    for row in ROWS {
        stage.row(row.name, row.mux, |_| exchange(address, row.send));
    }
}

/// Runs it in front of a URL.
pub(crate) fn against_relay(stage: &mut Stage, address: SocketAddr, upstream: &Upstream, is_strict: bool) {
    for row in ROWS {
        let expected = if is_strict { row.strict } else { row.relay };
        stage.row(row.name, expected, |_| {
            let before = upstream.asked.load(Ordering::Relaxed);
            let answers = exchange(address, row.send);
            format!("{answers} · {}", upstream.asked.load(Ordering::Relaxed) - before)
        });
    }
}

/// One connection: what is sent on it, and all answers. Whoever answers first may end it before all is sent.
fn exchange(address: SocketAddr, send: fn(&mut TcpStream) -> io::Result<()>) -> String {
    let mut from = TcpStream::connect(address).unwrap();
    from.set_read_timeout(Some(DEADLINE)).unwrap();
    from.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut to = from.try_clone().unwrap();
    let sending = thread::spawn(move || send(&mut to));
    let mut answers = Vec::new();
    // A reset behind the answers is an end too.
    if let Err(error) = from.read_to_end(&mut answers) {
        assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "no end: {error}");
    }
    let _ = from.shutdown(Shutdown::Both);
    let _refused_midway = sending.join().unwrap();
    summary(&answers)
}

/// Statuses of answers, with the codes of their JSON-RPC errors.
pub(crate) fn summary(answers: &[u8]) -> String {
    let text = String::from_utf8_lossy(answers);
    let mut found = Vec::new();
    for answer in text.split("HTTP/1.1 ").skip(1) {
        let status = answer.split([' ', '\r']).next().unwrap_or_default();
        let code = answer.split("\"error\":{\"code\":").nth(1).and_then(|rest| rest.split(',').next());
        found.push(code.map_or_else(|| status.to_owned(), |code| format!("{status} {code}")));
    }
    found.join(", ")
}

const LEGACY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

/// A head as it should be, but for what is added, and for where it says that its body ends.
fn head(to: &mut TcpStream, headers: &str) -> io::Result<()> {
    plain_head(
        to,
        &format!("content-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: ping\r\n{headers}"),
    )
}

fn plain_head(to: &mut TcpStream, headers: &str) -> io::Result<()> {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: application/json, text/event-stream\r\n\
         {headers}\r\n"
    );
    to.write_all(head.as_bytes())
}

fn raw(to: &mut TcpStream, headers: &str, body: &str) -> io::Result<()> {
    head(to, &format!("{headers}content-length: {}\r\n", body.len()))?;
    to.write_all(body.as_bytes())
}

fn plain(to: &mut TcpStream, headers: &str, body: &str) -> io::Result<()> {
    plain_head(to, &format!("{headers}content-length: {}\r\n", body.len()))?;
    to.write_all(body.as_bytes())
}

fn chunked(to: &mut TcpStream, headers: &str) -> io::Result<()> {
    head(to, &format!("{headers}transfer-encoding: chunked\r\n"))
}

/// A body in chunks of this length.
fn chunks(to: &mut TcpStream, body: &[u8], len: usize) -> io::Result<()> {
    for chunk in body.chunks(len) {
        let line = format!("{:x}\r\n", chunk.len());
        to.write_all(&[line.as_bytes(), chunk, b"\r\n"].concat())?;
    }
    to.write_all(b"0\r\n\r\n")
}

/// Something again and again, whole each time, up to `len` bytes, or until nobody takes more.
pub(crate) fn flood(to: &mut (impl io::Write + ?Sized), what: &[u8], len: usize) -> io::Result<()> {
    let block = what.repeat((64 << 10) / what.len());
    for _ in 0..len / block.len() {
        to.write_all(&block)?;
    }
    to.write_all(&what.repeat(len % block.len() / what.len()))
}
