//! Hostile servers over HTTP/2, put before a client over HTTP (relay) and one that speaks lines (dial).
//!
//! Behind each row the same client asks rightly, and is served: on the same connection, or on another. How many there were
//! is part of the outcome, so that nobody who is always sent away dials for ever.

use std::{io, net::SocketAddr, sync::atomic::Ordering};

use serde_json::Value;

use crate::{
    client::Request,
    http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame},
    secure::{Peer, RIGHT, Secure},
    stage::Stage,
    streams::{
        Act::{Asked, Connected},
        Outcome::{self, Broken, Ended, Late, Right, TooLong},
        RESULT, ROWS, Row, SILENT, head, right,
    },
    support::Session,
};

/// The codes that a stream can be reset with, from 0 on, and what is said of each. They are rows too.
const CODES: [(&str, &str); 15] = [
    ("NO_ERROR", "not a result of an error"),
    ("PROTOCOL_ERROR", "unspecific protocol error"),
    ("INTERNAL_ERROR", "unexpected internal error"),
    ("FLOW_CONTROL_ERROR", "flow-control protocol violated"),
    ("SETTINGS_TIMEOUT", "settings ACK not received"),
    ("STREAM_CLOSED", "received frame when stream half-closed"),
    ("FRAME_SIZE_ERROR", "frame with invalid size"),
    ("REFUSED_STREAM", "refused stream before processing"),
    ("CANCEL", "stream no longer needed"),
    ("COMPRESSION_ERROR", "unable to maintain the header compression"),
    ("CONNECT_ERROR", "connection established in response to a CONNECT"),
    ("ENHANCE_YOUR_CALM", "detected excessive load"),
    ("INADEQUATE_SECURITY", "security properties do not meet"),
    ("HTTP_1_1_REQUIRED", "endpoint requires HTTP/1.1"),
    ("a code that nobody knows", "unknown reason"),
];

/// What the hostile server does with a connection.
pub(crate) fn serve(peer: &mut Peer) -> io::Result<()> {
    match row(peer.row()) {
        Some(Row { act: Connected(act), .. }) => act(peer)?,
        _ => peer.greet()?,
    }
    loop {
        let posted = peer.posted()?;
        let (body, at) = (String::from_utf8_lossy(&posted.body), peer.row());
        match (row(at), at.checked_sub(RESETS)) {
            // The right call. Its connection takes no other, so that the next row begins with one of its own.
            _ if at == RIGHT && body.contains("\"id\":0,") => {
                let stream = posted.stream.to_be_bytes();
                let farewell = frame(GOAWAY, 0, 0, &[&stream[..], &[0; 4]].concat());
                let answer = String::from_utf8_lossy(RESULT).replace("\"id\":1", "\"id\":0");
                let head = frame(HEADERS, END_HEADERS, posted.stream, &head(&[]));
                peer.write(&[farewell, head, frame(DATA, END_STREAM, posted.stream, answer.as_bytes())].concat())?;
            }
            (Some(Row { act: Asked(act), .. }), _) => act(peer, posted.stream)?,
            (_, Some(code)) if at != RIGHT => {
                let code = u32::try_from(code).unwrap().to_be_bytes();
                peer.write(&frame(RST_STREAM, 0, posted.stream, &code))?;
            }
            // Of a connection that was good for a row after all, or what had waited in vain.
            _ => right(peer, posted.stream)?,
        }
    }
}

/// Where the rows of codes begin.
const RESETS: usize = 1000;

fn row(at: usize) -> Option<&'static Row> {
    ROWS.iter().chain(SILENT).nth(at)
}

/// All rows: which, how it is called, and what is to come of it.
fn rows() -> impl Iterator<Item = (usize, String, Outcome)> {
    let rows = ROWS.iter().chain(SILENT).enumerate();
    let rows = rows.map(|(at, row)| (at, row.name.to_owned(), row.outcome));
    let resets = CODES.iter().enumerate();
    rows.chain(resets.map(|(code, (name, says))| (RESETS + code, format!("a reset with {name}"), Broken(1, says))))
}

/// Runs the table with a client over HTTP.
pub(crate) fn against_relay(stage: &mut Stage, address: SocketAddr, server: &Secure) {
    for (at, name, outcome) in rows() {
        let expected = match outcome {
            Right => "200 whole · 1".to_owned(),
            Broken(connections, _) => format!("502 -32603 · {connections}"),
            Ended(connections) => format!("broken · {connections}"),
            TooLong => "broken · 1".to_owned(),
            Late => "504 -32603 · 1".to_owned(),
        };
        stage.row(&format!("HTTP/2 server: {name}"), &expected, |_| {
            acted(server, at, "200 whole", |call| {
                let pending = Request::post(call).at(PATH).begin(address);
                let Ok(mut response) = pending.try_response() else { return "broken".to_owned() };
                let (status, body) = (response.status, response.read_all());
                let Ok(body) = body else { return "broken".to_owned() };
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                match (&body["error"]["data"]["source"], &body["error"]["code"]) {
                    (Value::String(source), code) if source == "shadowcat" => {
                        format!("{status} {code}{}", unless_said(&body, outcome))
                    }
                    _ => format!("{status} whole"),
                }
            })
        });
    }
}

/// Runs it with a client that speaks lines, to whom nothing comes but the answer to what was asked last.
pub(crate) fn against_dial(stage: &mut Stage, server: &Secure) {
    for (at, name, outcome) in rows() {
        let expected = match outcome {
            Right => "result · 1".to_owned(),
            Broken(connections, _) => format!("-32603 server_unreachable · {connections}"),
            Ended(connections) => format!("-32603 stream_ended · {connections}"),
            TooLong => "-32603 message_too_large · 1".to_owned(),
            Late => "-32603 timeout · 1".to_owned(),
        };
        stage.row(&format!("HTTP/2 server: {name}"), &expected, |session| {
            acted(server, at, "result", |call| {
                session.send(format!("{call}\n"));
                let line = session.stdout.line();
                let (asked, message): (Value, Value) =
                    (serde_json::from_str(&call).unwrap(), serde_json::from_str(&line).unwrap());
                assert_eq!(message["id"], asked["id"], "{line}");
                match (&message["error"]["code"], &message["error"]["data"]["reason"]) {
                    (Value::Null, _) => "result".to_owned(),
                    (code, reason) => {
                        format!("{code} {}{}", reason.as_str().unwrap_or_default(), unless_said(&message, outcome))
                    }
                }
            })
        });
    }
}

/// What comes of a call while the server acts a row out, and of a right one behind it unless that is `right`; and how many
/// connections both took.
fn acted(server: &Secure, at: usize, right: &str, mut ask: impl FnMut(String) -> String) -> String {
    let is_silent = (ROWS.len()..RESETS).contains(&at);
    let before = server.connections.load(Ordering::Relaxed);
    server.row.store(at, Ordering::SeqCst);
    let found = ask(call(1, is_silent));
    server.row.store(RIGHT, Ordering::SeqCst);
    let behind = ask(call(0, false));
    let connections = server.connections.load(Ordering::Relaxed) - before;
    let behind = if behind == right { String::new() } else { format!(", then {behind}") };
    format!("{found}{behind} · {connections}")
}

/// What an error says, unless it says what it is to say.
fn unless_said(message: &Value, outcome: Outcome) -> String {
    let text = message["error"]["message"].as_str().unwrap_or_default();
    let words: &[&str] = match outcome {
        Broken(_, why) => &["the server at https://localhost:", why],
        Ended(_) => &["the server's stream ended before it answered"],
        TooLong => &["the answer", "longer than the limit of 1048576 bytes"],
        Late => &["answer", "took longer than ", "00 ms"],
        Right => &[],
    };
    if words.iter().all(|words| text.contains(words)) { String::new() } else { format!(" {text}") }
}

/// A call; one of a method for which nobody has much time.
fn call(id: u64, is_silent: bool) -> String {
    let method = if is_silent { SILENCE } else { "ping" };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#
    )
}

/// The method whose answer nobody has much time for.
const SILENCE: &str = "x/silence";
/// Where a relay has the hostile server.
const PATH: &str = "/rows/mcp";

/// A first call, so that what a proxy needs to run at all is no row's.
pub(crate) fn warm_up(server: &Secure, session: &mut Session) {
    session.send(format!("{}\n", call(0, false)));
    assert!(session.stdout.line().contains("\"result\""));
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}
