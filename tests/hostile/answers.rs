//! Hostile servers over HTTP/1.1: what they answer, byte for byte, and what comes of it for a client over HTTP (relay)
//! and for one that speaks lines (dial).

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::{
    bomb::bomb,
    client::{Pending, Request},
    requests::flood,
    stage::{MAX_FRAME_LEN, Stage},
    support::Session,
    upstream::Asked,
};

/// One kind of malice.
struct Row {
    name: &'static str,
    /// Whether the connection goes on afterwards.
    answer: fn(&mut TcpStream) -> io::Result<bool>,
    /// What a client over HTTP sees: the status, the code of a JSON-RPC error of ours, or else whether the body came to
    /// its end.
    relay: &'static str,
    /// What a client gets as lines: messages, and the answer.
    dial: &'static str,
}

const ROWS: &[Row] = &[
    // Heads.
    Row {
        name: "a header of 10 MB",
        answer: |to| {
            to.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
            flood(to, b"x", 10 << 20).map(|()| false)
        },
        relay: "502 -32603",
        dial: "-32603 server_unreachable",
    },
    Row {
        name: "100 000 headers",
        answer: |to| {
            to.write_all(b"HTTP/1.1 200 OK\r\n")?;
            flood(to, b"a: b\r\n", 600_000).map(|()| false)
        },
        relay: "502 -32603",
        dial: "-32603 server_unreachable",
    },
    Row {
        name: "no HTTP",
        answer: |to| to.write_all(&[0xff; 4096]).map(|()| false),
        relay: "502 -32603",
        dial: "-32603 server_unreachable",
    },
    Row {
        name: "a NUL in a header",
        answer: |to| json(to, "x: a\0b\r\n", RESULT),
        relay: "502 -32603",
        dial: "-32603 server_unreachable",
    },
    Row {
        name: "100 000 answers that are not final",
        answer: |to| {
            flood(to, b"HTTP/1.1 102 Processing\r\n\r\n", 27 * 100_000)?;
            json(to, "", RESULT)
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a session id of 60 KB",
        answer: |to| json(to, &format!("mcp-session-id: {}\r\n", "x".repeat(60_000)), RESULT),
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a redirect to itself",
        answer: |to| status(to, "307 Temporary Redirect\r\nlocation: /mcp", b""),
        relay: "307 whole",
        dial: "-32603 upstream_status",
    },
    Row {
        name: "a redirect to elsewhere",
        answer: |to| status(to, "308 Permanent Redirect\r\nlocation: http://127.0.0.1:9/", b""),
        relay: "308 whole",
        dial: "-32603 upstream_status",
    },
    Row {
        name: "an error with a page of 900 KB",
        answer: |to| status(to, "500 No\r\ncontent-type: text/html", &[b'<'; 900_000]),
        relay: "500 whole",
        dial: "-32603 upstream_status",
    },
    // Where an answer ends.
    Row {
        name: "two lengths",
        answer: |to| json(to, "content-length: 7\r\n", RESULT),
        relay: "502 -32603",
        dial: "-32603 server_unreachable",
    },
    Row {
        name: "a length and chunks",
        answer: |to| {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n")?;
            chunk(to, RESULT.as_bytes())?;
            to.write_all(b"0\r\n\r\n").map(|()| true)
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a body that is cut",
        answer: |to| {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 400\r\n\r\n{")?;
            Ok(false)
        },
        relay: "broken",
        dial: "-32603 stream_ended",
    },
    Row {
        name: "a chunk whose length is no number",
        answer: |to| {
            events(to)?;
            to.write_all(b"xyz\r\n").map(|()| false)
        },
        relay: "broken",
        dial: "-32603 stream_ended",
    },
    Row {
        name: "chunk extensions without end",
        answer: |to| {
            events(to)?;
            to.write_all(b"2;")?;
            flood(to, b"x", 10 << 20).map(|()| false)
        },
        relay: "broken",
        dial: "-32603 stream_ended",
    },
    Row {
        name: "trailers without end",
        answer: |to| {
            events(to)?;
            to.write_all(b"0\r\n")?;
            flood(to, b"a: b\r\n", 10 << 20).map(|()| false)
        },
        relay: "broken",
        dial: "-32603 stream_ended",
    },
    Row {
        name: "an answer behind an answer",
        answer: |to| {
            json(to, "", RESULT)?;
            json(to, "", &RESULT.replace("{}", "666"))
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a message said to be of 10 GB",
        answer: |to| {
            to.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10737418240\r\n\r\n\"",
            )?;
            flood(to, b"x", 10 << 20).map(|()| false)
        },
        relay: "502 -32603",
        dial: "-32603 message_too_large",
    },
    Row {
        name: "a message without end",
        answer: |to| {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\"")?;
            flood(to, b"x", 64 << 20).map(|()| false)
        },
        relay: "broken",
        dial: "-32603 message_too_large",
    },
    // Streams.
    Row {
        name: "comments without end",
        answer: |to| stream(to, |to| flood(to, b": nothing to say, and that at length\n", FLOOD_LEN)),
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a comment of 16 MB",
        answer: |to| {
            stream(to, |to| {
                to.write_all(b":")?;
                flood(to, b"x", FLOOD_LEN)?;
                to.write_all(b"\n")
            })
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "blank lines without end",
        answer: |to| stream(to, |to| flood(to, b"\n", FLOOD_LEN)),
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "fields that nobody knows",
        answer: |to| stream(to, |to| flood(to, b"unknown: field\n", FLOOD_LEN)),
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "ids and times to wait without end",
        answer: |to| {
            stream(to, |to| {
                flood(to, b"id: 0123456789\nretry: 99999999999999999999\nevent: x\n", FLOOD_LEN)?;
                to.write_all(b"\n")
            })
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "an id of 16 MB",
        answer: |to| {
            stream(to, |to| {
                to.write_all(b"id: ")?;
                flood(to, b"x", FLOOD_LEN)?;
                to.write_all(b"\n\n")
            })
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a line without end",
        answer: |to| {
            stream(to, |to| {
                to.write_all(b"data: \"")?;
                flood(to, b"x", FLOOD_LEN)
            })
        },
        relay: "broken",
        dial: "-32603 message_too_large",
    },
    Row {
        name: "an event without end",
        answer: |to| stream(to, |to| flood(to, b"data: [[[[[[[[[[\n", FLOOD_LEN)),
        relay: "broken",
        dial: "-32603 message_too_large",
    },
    Row {
        name: "an event of empty lines without end",
        answer: |to| stream(to, |to| flood(to, b"data\n", FLOOD_LEN)),
        relay: "broken",
        dial: "-32603 message_too_large",
    },
    Row {
        name: "a stream in chunks of one byte",
        answer: |to| {
            events(to)?;
            for byte in message(RESULT).as_bytes().chunks(1) {
                chunk(to, byte)?;
            }
            to.write_all(b"0\r\n\r\n").map(|()| true)
        },
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "100 000 messages in one chunk",
        answer: |to| {
            events(to)?;
            chunk(to, message(NOTE).repeat(100_000).as_bytes())?;
            chunk(to, message(RESULT).as_bytes())?;
            to.write_all(b"0\r\n\r\n").map(|()| true)
        },
        relay: "200 whole",
        dial: "100000 notes, result",
    },
    Row {
        name: "a stream that ends within an event",
        answer: |to| {
            events(to)?;
            chunk(to, &message(RESULT).as_bytes()[..30])?;
            Ok(false)
        },
        relay: "broken",
        dial: "-32603 stream_ended",
    },
    Row {
        name: "a stream that ends without the answer",
        answer: |to| {
            events(to)?;
            chunk(to, message(NOTE).as_bytes())?;
            to.write_all(b"0\r\n\r\n").map(|()| true)
        },
        relay: "200 whole",
        dial: "1 notes, -32603 stream_ended",
    },
    // Messages.
    Row {
        name: "a bomb in gzip",
        answer: |to| status(to, "200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip", bomb()),
        relay: "200 whole",
        dial: "-32603 upstream_status",
    },
    Row {
        name: "a bomb in gzip as a stream",
        answer: |to| {
            let head = "200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip";
            status(to, head, bomb())
        },
        relay: "200 whole",
        dial: "-32603 upstream_status",
    },
    Row {
        name: "another type",
        answer: |to| status(to, "200 OK\r\ncontent-type: text/html", RESULT.as_bytes()),
        relay: "200 whole",
        dial: "-32603 upstream_status",
    },
    Row { name: "no type", answer: |to| status(to, "200 OK", RESULT.as_bytes()), relay: "200 whole", dial: "result" },
    Row {
        name: "100 000 brackets",
        answer: |to| json(to, "", &"[".repeat(100_000)),
        relay: "200 whole",
        dial: "-32603 refused",
    },
    Row {
        name: "100 000 brackets in an event",
        answer: |to| stream(to, |to| to.write_all(message(&"[".repeat(100_000)).as_bytes())),
        relay: "200 whole",
        dial: "result",
    },
    Row {
        name: "a result 100 000 deep",
        answer: |to| {
            let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
            json(to, "", &RESULT.replace("{}", &format!("{open}{close}")))
        },
        relay: "200 whole",
        dial: "-32603 refused",
    },
    Row { name: "NULs", answer: |to| json(to, "", &"\0".repeat(100_000)), relay: "200 whole", dial: "-32603 refused" },
    Row {
        name: "no UTF-8",
        answer: |to| {
            let mut body = RESULT.replace("{}", "\"??\"").into_bytes();
            body.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
            status(to, "200 OK\r\ncontent-type: application/json", &body)
        },
        relay: "200 whole",
        dial: "-32603 refused",
    },
    Row {
        name: "an answer with two ids",
        answer: |to| json(to, "", &RESULT.replace("\"id\":1", "\"id\":1,\"id\":2")),
        relay: "200 whole",
        dial: "-32603 refused",
    },
    Row {
        name: "an answer with an id of half a megabyte",
        answer: |to| {
            json(to, "", &RESULT.replace("\"id\":1", &format!("\"id\":\"{}\"", "x".repeat(MAX_FRAME_LEN / 2))))
        },
        relay: "200 whole",
        dial: "-32603 refused",
    },
    Row {
        name: "the answer of somebody else",
        answer: |to| json(to, "", &RESULT.replace("\"id\":1", "\"id\":2")),
        relay: "200 whole",
        dial: "result for 2, -32603 upstream_status",
    },
    Row {
        name: "an answer twice",
        answer: |to| stream(to, |to| to.write_all(message(RESULT).as_bytes())),
        relay: "200 whole",
        dial: "result; result for 1, result",
    },
    Row {
        name: "an answer that is too long, then one that is not",
        answer: |to| {
            stream(to, |to| {
                let text = "x".repeat(MAX_FRAME_LEN);
                to.write_all(message(&RESULT.replace("{}", &format!("\"{text}\""))).as_bytes())
            })
        },
        relay: "broken",
        dial: "result",
    },
    Row {
        name: "a batch of 100 000",
        answer: |to| json(to, "", &format!("[{}1]", "1,".repeat(100_000))),
        relay: "200 whole",
        dial: "-32603 refused",
    },
];

/// What is written of what has no end.
const FLOOD_LEN: usize = 16 << 20;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;

/// Runs the table with a client over HTTP.
pub(crate) fn against_relay(stage: &mut Stage, address: SocketAddr) {
    for (index, row) in ROWS.iter().enumerate() {
        stage.row(row.name, row.relay, |_| {
            let mut pending = Pending::connect(address);
            let request = Request::post(call(1, index));
            let (head, body) = request.parts(address);
            pending.write(&[head.as_bytes(), body].concat());
            // A head whose body breaks at once may be lost with it.
            let Ok(mut response) = pending.try_response() else { return "broken".to_owned() };
            let (status, body) = (response.status, response.read_all());
            let Ok(body) = body else { return "broken".to_owned() };
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            match (&body["error"]["data"]["source"], &body["error"]["code"]) {
                (Value::String(source), code) if source == "shadowcat" => format!("{status} {code}"),
                _ => format!("{status} whole"),
            }
        });
    }
}

/// Runs it with a client that speaks lines, who calls rightly after each row.
pub(crate) fn against_dial(stage: &mut Stage) {
    for (index, row) in ROWS.iter().enumerate() {
        stage.row(row.name, row.dial, |session| {
            let outcome = lines_to(session, &call(1, index), 1);
            // What is still behind the answer comes before this one's.
            match lines_to(session, &call(0, usize::MAX), 0).as_str() {
                "result" => outcome,
                more => format!("{outcome}; {more}"),
            }
        });
    }
}

/// A first call, so that what a proxy needs to run at all is no row's.
pub(crate) fn warm_up(session: &mut Session) {
    assert_eq!(lines_to(session, &call(0, usize::MAX), 0), "result");
}

/// Sends a line; what comes up to the answer with this id.
fn lines_to(session: &mut Session, line: &str, id: u64) -> String {
    session.send(format!("{line}\n"));
    let (mut notes, mut found) = (0, Vec::new());
    loop {
        let line = session.stdout.line();
        if line == NOTE {
            notes += 1;
            continue;
        }
        if notes > 0 {
            found.push(format!("{} notes", std::mem::take(&mut notes)));
        }
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{} bytes of no JSON", line.len()));
        let what = match (&message["error"]["code"], &message["error"]["data"]["reason"]) {
            (Value::Null, _) => "result".to_owned(),
            (code, reason) => format!("{code} {}", reason.as_str().unwrap_or_default()),
        };
        let is_asked = message["id"] == id;
        found.push(if is_asked { what } else { format!("{what} for {}", message["id"]) });
        if is_asked {
            return found.join(", ");
        }
    }
}

/// A call that is answered by this row of the table; by none of them, rightly.
fn call(id: u64, row: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"row {row}","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#
    )
}

/// What the hostile server does.
pub(crate) fn answer(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    let body = String::from_utf8_lossy(&asked.body);
    let row = body.split("\"row ").nth(1).and_then(|rest| rest.split('"').next()).and_then(|row| row.parse().ok());
    match row.and_then(|row: usize| ROWS.get(row)) {
        Some(row) => (row.answer)(to),
        None => json(to, "", &RESULT.replace("\"id\":1", if row.is_some() { "\"id\":0" } else { "\"id\":1" })),
    }
}

fn status(to: &mut TcpStream, status: &str, body: &[u8]) -> io::Result<bool> {
    to.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes())?;
    to.write_all(body).map(|()| true)
}

fn json(to: &mut TcpStream, headers: &str, body: &str) -> io::Result<bool> {
    let headers = headers.trim_end_matches("\r\n");
    let line_end = if headers.is_empty() { "" } else { "\r\n" };
    status(to, &format!("200 OK\r\ncontent-type: application/json{line_end}{headers}"), body.as_bytes())
}

fn events(to: &mut TcpStream) -> io::Result<()> {
    to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
}

fn chunk(to: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

fn message(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A stream that says something, and then answers rightly.
fn stream(to: &mut TcpStream, say: fn(&mut dyn io::Write) -> io::Result<()>) -> io::Result<bool> {
    to.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n")?;
    say(to)?;
    to.write_all(message(RESULT).as_bytes())?;
    Ok(false)
}
