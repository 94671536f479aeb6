//! Hostile clients over HTTP/2: frames as no library would send them, and what comes of them.
//!
//! Each row ends with a right request, so that its outcome is that request's answer, or what came instead.

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use crate::{
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, PUSH_PROMISE,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, text,
    },
    stage::Stage,
    support::DEADLINE,
};

/// One kind of malice, behind the preface and our settings.
struct Row {
    name: &'static str,
    send: fn(&mut TcpStream) -> io::Result<()>,
    /// What came: the status of the right request, the reset of its stream, or the end of the connection.
    outcome: &'static str,
}

const ROWS: &[Row] = &[
    Row { name: "nothing wrong", send: |_| Ok(()), outcome: "200" },
    Row {
        name: "streams that are reset at once",
        send: |to| {
            for stream in (1..40_000).step_by(2) {
                to.write_all(&[request(stream, false), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())?;
            }
            Ok(())
        },
        outcome: "end 11",
    },
    Row {
        name: "1 000 streams at a time",
        send: |to| {
            let unfinished = [
                block(&[(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/mcp")]),
                block(&[("content-type", "application/json")]),
            ]
            .concat();
            (1..2000).step_by(2).try_for_each(|stream| to.write_all(&frame(HEADERS, END_HEADERS, stream, &unfinished)))
        },
        outcome: "reset 7",
    },
    Row {
        name: "a head that goes on and on",
        send: |to| {
            to.write_all(&frame(HEADERS, 0, 1, &block(&[("x", "y")])))?;
            let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
            (0..20_000).try_for_each(|_| to.write_all(&more))
        },
        outcome: "end 11",
    },
    Row {
        name: "a head that goes on with nothing",
        send: |to| {
            to.write_all(&frame(HEADERS, 0, 1, &block(&[("x", "y")])))?;
            (0..200_000).try_for_each(|_| to.write_all(&frame(CONTINUATION, 0, 1, &[])))
        },
        outcome: "end 11",
    },
    Row {
        name: "a small head that grows large",
        send: |to| {
            // One entry of 4 000 bytes for the table, and then its index, again and again.
            let entry = [&[0x40][..], &text("x"), &text(&"y".repeat(4000))].concat();
            let block = [right(), entry, vec![0xbe; 10_000]].concat();
            to.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        },
        outcome: "end 11",
    },
    Row {
        name: "settings without end",
        send: |to| (0..100_000).try_for_each(|_| to.write_all(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]))),
        outcome: "200",
    },
    Row {
        name: "pings without end",
        send: |to| (0..100_000).try_for_each(|_| to.write_all(&frame(PING, 0, 0, b"are you?"))),
        outcome: "200",
    },
    Row {
        name: "frames that nobody knows",
        send: |to| (0..1000).try_for_each(|_| to.write_all(&frame(0xfe, 0, 0, &[0; 16_000]))),
        outcome: "200",
    },
    Row {
        name: "priorities without end",
        send: |to| (0..100_000).try_for_each(|_| to.write_all(&frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]))),
        outcome: "200",
    },
    Row {
        name: "data of no bytes without end",
        send: |to| {
            to.write_all(&request(1, false))?;
            (0..100_000).try_for_each(|_| to.write_all(&frame(DATA, 0, 1, &[])))
        },
        outcome: "end 11",
    },
    Row {
        name: "a window beyond all bounds",
        send: |to| {
            let wide = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
            to.write_all(&wide.repeat(2))
        },
        outcome: "end 3",
    },
    Row {
        name: "a frame longer than may be",
        send: |to| to.write_all(&frame(PING, 0, 0, &[0; 1 << 20])),
        outcome: "end 6",
    },
    Row { name: "data for nobody", send: |to| to.write_all(&frame(DATA, 0, 0, b"x")), outcome: "end 1" },
    Row {
        name: "an answer instead of a request",
        send: |to| to.write_all(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        outcome: "end 1",
    },
    Row {
        name: "a table of no size, and an entry of it",
        send: |to| to.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 64])),
        outcome: "end 1",
    },
    Row {
        name: "a body of another length than was said",
        send: |to| {
            let said = [right(), block(&[("content-length", "3")])].concat();
            to.write_all(&frame(HEADERS, END_HEADERS, 1, &said))?;
            to.write_all(&frame(DATA, END_STREAM, 1, b"{\"jsonrpc\":\"2.0\"}"))
        },
        outcome: "200",
    },
    Row {
        name: "a header that HTTP/2 does not have",
        send: |to| {
            let said = [right(), block(&[("transfer-encoding", "chunked")])].concat();
            to.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &said))
        },
        outcome: "200",
    },
];

/// Runs the table.
pub(crate) fn against(stage: &mut Stage, address: SocketAddr) {
    for row in ROWS {
        stage.row(&format!("HTTP/2: {}", row.name), row.outcome, |_| exchange(address, row.send));
    }
}

fn exchange(address: SocketAddr, send: fn(&mut TcpStream) -> io::Result<()>) -> String {
    let from = TcpStream::connect(address).unwrap();
    from.set_read_timeout(Some(DEADLINE)).unwrap();
    from.set_write_timeout(Some(DEADLINE)).unwrap();
    from.set_nodelay(true).unwrap();
    let mut to = from.try_clone().unwrap();
    let sending = thread::spawn(move || {
        to.write_all(PREFACE)?;
        to.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        send(&mut to)?;
        to.write_all(&request(LAST, true))
    });
    let outcome = outcome(io::BufReader::new(&from));
    let _ = from.shutdown(Shutdown::Both);
    let _refused_midway = sending.join().unwrap();
    outcome
}

/// What comes of the last stream, or of all of them.
fn outcome(mut from: impl io::Read) -> String {
    loop {
        let mut head = [0; 9];
        match from.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return "nothing".to_owned();
            }
            Err(_) => return "closed".to_owned(),
        }
        let [high, mid, low, kind, _, stream @ ..] = head;
        let mut payload = vec![0; usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low)];
        if from.read_exact(&mut payload).is_err() {
            return "closed".to_owned();
        }
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match (kind, u32::from_be_bytes(stream)) {
            (GOAWAY, _) if word(4) != 0 => return format!("end {}", word(4)),
            (RST_STREAM, LAST) => return format!("reset {}", word(0)),
            // The statuses that have an index of their own (RFC 7541, appendix A).
            (HEADERS, LAST) => {
                return payload.iter().find_map(|byte| status(*byte)).unwrap_or("another status").to_owned();
            }
            _ => {}
        }
    }
}

fn status(index: u8) -> Option<&'static str> {
    match index {
        0x88 => Some("200"),
        0x8c => Some("400"),
        0x8d => Some("404"),
        _ => None,
    }
}

/// A right request for what is always there.
fn request(stream: u32, is_whole: bool) -> Vec<u8> {
    let end = if is_whole { END_STREAM } else { 0 };
    frame(HEADERS, END_HEADERS | end, stream, &right())
}

fn right() -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/healthz")])
}

/// The right request's stream.
const LAST: u32 = 99_999;
