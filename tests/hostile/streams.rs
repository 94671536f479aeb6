//! Hostile servers over HTTP/2: connections, streams and heads as no library would have them. How they are run, and what
//! each outcome looks like to whom, is in `servers.rs`; what bodies may say in `answers.rs`.

use std::io;

use crate::{
    http2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, text,
    },
    secure::Peer,
};

/// One kind of malice.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) act: Act,
    pub(crate) outcome: Outcome,
}

/// When a server shows what it is.
pub(crate) enum Act {
    /// Before anything is asked. If it goes on, it does rightly from then on.
    Connected(fn(&mut Peer) -> io::Result<()>),
    /// When something is asked, on this stream.
    Asked(fn(&mut Peer, u32) -> io::Result<()>),
}

/// What comes of it. A number of connections includes the one on which the right call behind the row is answered.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// The right answer.
    Right,
    /// No answer's head, over so many connections, and an error that says this among else.
    Broken(usize, &'static str),
    /// A head, but not all that belongs to it.
    Ended(usize),
    /// An answer beyond the limit.
    TooLong,
    /// No answer in time, and the connection goes on.
    Late,
}

use Act::{Asked, Connected};
use Outcome::{Broken, Ended, Late, Right, TooLong};

/// All but those who say nothing.
pub(crate) const ROWS: &[Row] = &[
    // Connections. One that ends before anything was asked on it does not always say why.
    Row {
        name: "an answer of HTTP/1.1",
        act: Connected(|peer| {
            peer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").and_then(|()| closed(peer))
        }),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "no HTTP",
        act: Connected(|peer| peer.write(&[0xff; 4096]).and_then(|()| closed(peer))),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "an end at once",
        act: Connected(|_| Err(io::ErrorKind::Other.into())),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "an end within a frame",
        act: Connected(|peer| {
            peer.write(&frame(SETTINGS, 0, 0, &[0; 600])[..100])?;
            Err(io::ErrorKind::Other.into())
        }),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "farewell at once",
        act: Connected(|peer| {
            peer.greet()?;
            peer.write(&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]))?;
            closed(peer)
        }),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "farewell without blame, at once and again and again",
        act: Connected(|peer| {
            peer.greet()?;
            peer.flood(&frame(GOAWAY, 0, 0, &[0; 8]), 10_000)?;
            closed(peer)
        }),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "frames of a size that is none",
        act: Connected(|peer| peer.write(&setting(5, 100)).and_then(|()| closed(peer))),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "a window beyond all bounds",
        act: Connected(|peer| peer.write(&setting(4, 1 << 31)).and_then(|()| closed(peer))),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "half a setting",
        act: Connected(|peer| peer.write(&frame(SETTINGS, 0, 0, &[0; 5])).and_then(|()| closed(peer))),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "settings that acknowledge nothing",
        act: Connected(|peer| {
            peer.greet()?;
            peer.write(&frame(SETTINGS, ACK, 0, &[]).repeat(2))?;
            closed(peer)
        }),
        outcome: Broken(2, "broke off before it answered"),
    },
    Row {
        name: "settings that are never acknowledged",
        act: Connected(|peer| peer.write(&frame(SETTINGS, 0, 0, &[]))),
        outcome: Right,
    },
    // Frames that belong to no answer.
    Row {
        name: "farewell to what was asked",
        act: Asked(|peer, _| peer.write(&frame(GOAWAY, 0, 0, &[0; 8])).and_then(|()| closed(peer))),
        outcome: Broken(2, "connection error received"),
    },
    Row {
        name: "farewell that takes back what it said",
        act: Asked(|peer, _| {
            peer.write(&[frame(GOAWAY, 0, 0, &[0; 8]), frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 0])].concat())?;
            closed(peer)
        }),
        outcome: Broken(2, "connection error received"),
    },
    Row {
        name: "pings without end",
        act: Asked(|peer, stream| {
            peer.flood(&frame(PING, 0, 0, b"are you?"), 50_000)?;
            right(peer, stream)
        }),
        outcome: Right,
    },
    Row {
        name: "settings without end",
        act: Asked(|peer, stream| {
            peer.flood(&setting(3, 100), 50_000)?;
            right(peer, stream)
        }),
        outcome: Right,
    },
    Row {
        name: "priorities without end",
        act: Asked(|peer, stream| {
            peer.flood(&frame(PRIORITY, 0, stream, &[0, 0, 0, 3, 7]), 50_000)?;
            right(peer, stream)
        }),
        outcome: Right,
    },
    Row {
        name: "frames that nobody knows",
        act: Asked(|peer, stream| {
            peer.flood(&frame(0xfe, 0, 0, &[0; 16_000]), 100)?;
            right(peer, stream)
        }),
        outcome: Right,
    },
    Row {
        name: "a window that grows beyond all bounds",
        act: Asked(|peer, _| {
            peer.write(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2))?;
            closed(peer)
        }),
        outcome: Broken(2, "flow-control protocol violated"),
    },
    Row {
        name: "a stream's window that grows beyond all bounds",
        act: Asked(|peer, stream| {
            peer.write(&frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]).repeat(2))?;
            right(peer, stream)
        }),
        outcome: Right,
    },
    Row {
        name: "a window that grows by nothing",
        act: Asked(|peer, _| peer.write(&frame(WINDOW_UPDATE, 0, 0, &[0; 4])).and_then(|()| closed(peer))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a frame longer than may be",
        act: Asked(|peer, _| peer.write(&frame(PING, 0, 0, &[0; 1 << 20])).and_then(|()| closed(peer))),
        outcome: Broken(2, "frame with invalid size"),
    },
    Row {
        name: "a promise",
        act: Asked(|peer, stream| {
            peer.write(&frame(PUSH_PROMISE, END_HEADERS, stream, &[0, 0, 0, 2, 0x82]))?;
            closed(peer)
        }),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "data of no stream",
        act: Asked(|peer, _| peer.write(&frame(DATA, 0, 0, b"x")).and_then(|()| closed(peer))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "data of a stream that is not there",
        act: Asked(|peer, _| peer.write(&frame(DATA, 0, 99, b"x")).and_then(|()| closed(peer))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a stream of the server's own",
        act: Asked(|peer, _| peer.write(&frame(HEADERS, END_HEADERS, 2, &head(&[]))).and_then(|()| closed(peer))),
        outcome: Broken(2, "protocol error detected"),
    },
    // Heads.
    Row {
        name: "data before a head",
        act: Asked(|peer, stream| peer.write(&frame(DATA, END_STREAM, stream, RESULT)).and_then(|()| closed(peer))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a head that goes on and on",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, 0, stream, &head(&[])))?;
            peer.flood(&frame(CONTINUATION, 0, stream, &block(&[("x", &"y".repeat(1000))])), 10_000)?;
            closed(peer)
        }),
        outcome: Broken(2, "too_many_continuations"),
    },
    Row {
        name: "a head that goes on with nothing",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, 0, stream, &head(&[])))?;
            peer.flood(&frame(CONTINUATION, 0, stream, &[]), 100_000)?;
            closed(peer)
        }),
        outcome: Broken(2, "too_many_continuations"),
    },
    Row {
        name: "a head that goes on elsewhere",
        act: Asked(|peer, stream| {
            peer.write(&[frame(HEADERS, 0, stream, &head(&[])), frame(PING, 0, 0, b"are you?")].concat())?;
            closed(peer)
        }),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a head of 70 KB",
        act: Asked(|peer, stream| {
            let long = block(&[("x", &"y".repeat(14_000))]);
            peer.write(&frame(HEADERS, 0, stream, &head(&[])))?;
            peer.flood(&frame(CONTINUATION, 0, stream, &long), 5)?;
            peer.write(&frame(CONTINUATION, END_HEADERS, stream, &[]))?;
            peer.write(&frame(DATA, END_STREAM, stream, RESULT))
        }),
        outcome: Broken(1, "protocol error detected"),
    },
    Row {
        name: "a small head that grows large",
        act: Asked(|peer, stream| {
            // One entry of 4 000 bytes for the table, and then its index, again and again.
            let entry = [&[0x40][..], &text("x"), &text(&"y".repeat(4000))].concat();
            peer.write(&frame(HEADERS, END_HEADERS, stream, &[head(&[]), entry, vec![0xbe; 10_000]].concat()))?;
            closed(peer)
        }),
        outcome: Broken(2, "header_list_way_too_large"),
    },
    Row {
        name: "an entry of no table",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &[0xff; 64])).and_then(|()| closed(peer))
        }),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a head without a status",
        act: Asked(|peer, stream| whole(peer, stream, &block(&[("content-type", "application/json")]))),
        outcome: Broken(1, "protocol error detected"),
    },
    Row {
        name: "two statuses",
        act: Asked(|peer, stream| whole(peer, stream, &[&[0x88], &head(&[])[..]].concat())),
        outcome: Broken(1, "protocol error detected"),
    },
    Row {
        name: "a status that is no number",
        act: Asked(|peer, stream| whole(peer, stream, &block(&[(":status", "okay")]))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a header of the connection",
        act: Asked(|peer, stream| whole(peer, stream, &head(&[("transfer-encoding", "chunked")]))),
        outcome: Broken(1, "protocol error detected"),
    },
    Row {
        name: "a header in capitals",
        act: Asked(|peer, stream| whole(peer, stream, &head(&[("X-Name", "value")]))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "a line end in a header",
        act: Asked(|peer, stream| whole(peer, stream, &head(&[("x", "a\r\nset-cookie: b")]))),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "padding longer than its frame",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS | PADDED, stream, &[200, 0x88])).and_then(|()| closed(peer))
        }),
        outcome: Broken(2, "protocol error detected"),
    },
    Row {
        name: "30 000 answers that are not final",
        act: Asked(|peer, stream| {
            peer.flood(&frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "103"), ("link", "</x>")])), 30_000)?;
            right(peer, stream)
        }),
        outcome: Right,
    },
    Row {
        name: "an answer that is not final, and the last",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", "103")])))
        }),
        outcome: Broken(1, "protocol error detected"),
    },
    // Bodies.
    Row {
        name: "more than the length that was said",
        act: Asked(|peer, stream| whole(peer, stream, &head(&[("content-length", "3")]))),
        outcome: Ended(1),
    },
    Row {
        name: "less than the length that was said",
        act: Asked(|peer, stream| whole(peer, stream, &head(&[("content-length", "300")]))),
        outcome: Ended(1),
    },
    Row {
        name: "two lengths",
        act: Asked(|peer, stream| whole(peer, stream, &head(&[("content-length", "36"), ("content-length", "7")]))),
        outcome: Broken(1, "protocol error detected"),
    },
    Row {
        name: "data behind the end",
        act: Asked(|peer, stream| {
            right(peer, stream)?;
            peer.write(&frame(DATA, 0, stream, b"x"))
        }),
        outcome: Right,
    },
    Row {
        name: "data of no bytes without end",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &head(&[])))?;
            peer.flood(&frame(DATA, 0, stream, &[]), 100_000)?;
            closed(peer)
        }),
        outcome: Ended(2),
    },
    Row {
        name: "padding of data longer than its frame",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &head(&[])))?;
            peer.write(&frame(DATA, PADDED, stream, &[9, 0]))?;
            closed(peer)
        }),
        outcome: Ended(2),
    },
    Row {
        name: "trailers without end",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &events()))?;
            peer.write(&frame(HEADERS, END_STREAM, stream, &block(&[("x", "y")])))?;
            peer.flood(&frame(CONTINUATION, 0, stream, &block(&[("x", &"y".repeat(1000))])), 10_000)?;
            closed(peer)
        }),
        outcome: Ended(2),
    },
    Row {
        name: "a message without end",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &head(&[])))?;
            peer.write(&frame(DATA, 0, stream, b"\""))?;
            peer.body(stream, &[b'x'; 16_000], 64 << 20)
        }),
        outcome: TooLong,
    },
    Row {
        name: "an event without end",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &events()))?;
            peer.write(&frame(DATA, 0, stream, b"data: "))?;
            peer.body(stream, &[b'x'; 16_000], 8 << 20)?;
            peer.write(&frame(DATA, END_STREAM, stream, &[]))
        }),
        outcome: TooLong,
    },
    Row {
        name: "an end within a body",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &head(&[])))?;
            peer.write(&frame(DATA, END_STREAM, stream, RESULT)[..20])?;
            Err(io::ErrorKind::Other.into())
        }),
        outcome: Ended(2),
    },
    Row {
        name: "a reset within a body",
        act: Asked(|peer, stream| {
            peer.write(&frame(HEADERS, END_HEADERS, stream, &head(&[])))?;
            peer.write(&frame(DATA, 0, stream, &RESULT[..20]))?;
            peer.write(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]))
        }),
        outcome: Ended(1),
    },
    Row {
        name: "a reset without blame behind an answer",
        act: Asked(|peer, stream| {
            right(peer, stream)?;
            peer.write(&frame(RST_STREAM, 0, stream, &[0; 4]))
        }),
        outcome: Right,
    },
];

/// What is waited for until it has taken too long.
pub(crate) const SILENT: &[Row] = &[
    Row {
        name: "nothing at all",
        act: Connected(|peer| {
            peer.await_right();
            peer.greet()
        }),
        outcome: Late,
    },
    Row {
        name: "no window for what is asked",
        act: Connected(|peer| {
            peer.write(&setting(4, 0))?;
            peer.await_right();
            peer.write(&setting(4, 65_535))
        }),
        outcome: Late,
    },
    Row {
        name: "no stream for what is asked",
        act: Connected(|peer| {
            peer.write(&setting(3, 0))?;
            peer.await_right();
            peer.write(&setting(3, 100))
        }),
        outcome: Late,
    },
    Row {
        name: "no answer",
        act: Asked(|peer, _| {
            peer.await_right();
            Ok(())
        }),
        outcome: Late,
    },
];

/// The right answer.
pub(crate) const RESULT: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// Awaits that the client has left.
fn closed(peer: &mut Peer) -> io::Result<()> {
    peer.await_end(0);
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn setting(key: u8, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, key], &value.to_be_bytes()[..]].concat())
}

/// The fields of a right answer's head, and more.
pub(crate) fn head(more: &[(&str, &str)]) -> Vec<u8> {
    [vec![0x88], block(&[("content-type", "application/json")]), block(more)].concat()
}

fn events() -> Vec<u8> {
    [vec![0x88], block(&[("content-type", "text/event-stream")])].concat()
}

/// An answer whose head has these fields.
fn whole(peer: &mut Peer, stream: u32, head: &[u8]) -> io::Result<()> {
    peer.write(&[frame(HEADERS, END_HEADERS, stream, head), frame(DATA, END_STREAM, stream, RESULT)].concat())
}

/// Answers as it should be.
pub(crate) fn right(peer: &mut Peer, stream: u32) -> io::Result<()> {
    whole(peer, stream, &head(&[]))
}
