//! Hostile peers on byte streams: clients on our stdin (pipe, dial), and children on their stdout (pipe, mux).

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::{
    client::Request,
    legacy::{Client, INITIALIZED, initialize},
    mux::run,
    stage::{MAX_FRAME_LEN, Stage},
    support::Session,
    temp::TempDir,
    upstream::Asked,
};

/// What a client writes, and what comes back, up to the answer to a right call behind it.
struct ClientRow {
    name: &'static str,
    lines: fn() -> Vec<u8>,
    pipe: &'static str,
    dial: &'static str,
}

const CLIENTS: &[ClientRow] = &[
    ClientRow { name: "16 MB without a line end", lines: || line(&[b'x'; FLOOD_LEN]), pipe: "", dial: "" },
    ClientRow {
        name: "a request of 16 MB",
        lines: || line(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":["{}"]}}"#, x(FLOOD_LEN)).as_bytes()),
        pipe: "1: -32600 message_too_large",
        dial: "1: -32600 message_too_large",
    },
    ClientRow { name: "16 MB of line ends", lines: || b"\n\r\n".repeat(FLOOD_LEN / 3), pipe: "", dial: "" },
    ClientRow { name: "NULs", lines: || line(&[0; 100_000]), pipe: "", dial: "" },
    ClientRow {
        name: "no UTF-8",
        lines: || line(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}"),
        pipe: "",
        dial: "",
    },
    ClientRow { name: "HTTP", lines: || b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000), pipe: "", dial: "" },
    ClientRow { name: "100 000 brackets", lines: || line(&[b'['; 100_000]), pipe: "", dial: "" },
    ClientRow {
        name: "params 100 000 deep",
        lines: || {
            let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
            line(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{open}{close}}}"#).as_bytes())
        },
        pipe: "1: -32600 refused",
        dial: "1: -32600 refused",
    },
    ClientRow {
        name: "an id twice",
        lines: || line(br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#),
        pipe: "",
        dial: "",
    },
    ClientRow {
        name: "an id of half a megabyte",
        lines: || line(PING.replace("\"end\"", &format!("\"{}\"", x(MAX_FRAME_LEN / 2))).as_bytes()),
        pipe: "xxxxxxxx: -32600 refused",
        dial: "xxxxxxxx: -32600 refused",
    },
    ClientRow {
        name: "a batch of 100 000",
        lines: || line(format!("[{}1]", "1,".repeat(100_000)).as_bytes()),
        pipe: "",
        dial: "",
    },
    ClientRow { name: "a batch in a batch", lines: || line(format!("[[[[{PING}]]]]").as_bytes()), pipe: "", dial: "" },
    ClientRow {
        name: "1 000 notifications in one write",
        lines: || line(br#"{"jsonrpc":"2.0","method":"notifications/x"}"#).repeat(1000),
        pipe: "",
        dial: "",
    },
    ClientRow {
        name: "an answer that nobody asked for",
        lines: || line(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        pipe: "",
        dial: "",
    },
];

/// What a child writes before it answers a call rightly, and what its client gets. A client that has the child for
/// itself over a stream also gets answers that nobody waits for; whoever shares one, or has one over HTTP, where each answer
/// has its exchange, gets none that are not his. In a session, an error is an answer, not a status.
struct ChildRow {
    name: &'static str,
    lines: fn() -> Vec<u8>,
    pipe: &'static str,
    mux: &'static str,
    owner: &'static str,
}

const CHILDREN: &[ChildRow] = &[
    ChildRow {
        name: "16 MB without a line end",
        lines: || line(&[b'x'; FLOOD_LEN]),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "16 MB of line ends",
        lines: || b"\n\r\n".repeat(FLOOD_LEN / 3),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "16 MB of a log where messages should be",
        lines: || line(b"[info] ready to serve, and glad to be of help").repeat(FLOOD_LEN / 46),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "NULs",
        lines: || line(&[0; 100_000]),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "no UTF-8",
        lines: || line(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\xfe\"}"),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "100 000 brackets",
        lines: || line(&[b'['; 100_000]),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "an answer of 16 MB",
        lines: || line(answer(&format!("\"{}\"", x(FLOOD_LEN))).as_bytes()),
        pipe: "c: -32603 message_too_large, c: result",
        mux: "502 c: -32603 message_too_large",
        owner: "200 c: -32603 message_too_large",
    },
    ChildRow {
        name: "an answer 100 000 deep",
        lines: || line(answer(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).as_bytes()),
        pipe: "c: -32603 refused, c: result",
        mux: "502 c: -32603 refused",
        owner: "200 c: -32603 refused",
    },
    ChildRow {
        name: "an answer with two ids",
        lines: || line(answer("1").replace("\"id\"", "\"id\":\"other\",\"id\"").as_bytes()),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "the answer of somebody else",
        lines: || line(answer("1").replace("$ID", "987654321987").as_bytes()),
        pipe: "98765432: result, c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "an answer twice",
        lines: || line(answer("1").as_bytes()).repeat(2),
        pipe: "c: result, c: result, c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "an id of half a megabyte",
        lines: || line(answer("1").replace("$ID", &format!("\"{}\"", x(MAX_FRAME_LEN / 2))).as_bytes()),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "20 000 messages in one write",
        lines: || line(br#"{"jsonrpc":"2.0","method":"notifications/x"}"#).repeat(20_000),
        pipe: "20000 notes, c: result",
        mux: "200 c: result",
        owner: "200 20000 notes, c: result",
    },
    ChildRow {
        name: "progress of what nobody began",
        lines: || {
            line(br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#)
                .repeat(10_000)
        },
        pipe: "10000 notes, c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
    ChildRow {
        name: "a batch of 100 000",
        lines: || line(format!("[{}1]", "1,".repeat(100_000)).as_bytes()),
        pipe: "c: result",
        mux: "200 c: result",
        owner: "200 c: result",
    },
];

/// What is written of what has no end.
const FLOOD_LEN: usize = 16 << 20;

const PING: &str = r#"{"jsonrpc":"2.0","id":"end","method":"ping"}"#;

/// Runs the table of clients, with the same client calling rightly behind each row.
pub(crate) fn clients_against(stage: &mut Stage, is_dial: bool) {
    for row in CLIENTS {
        let expected = if is_dial { row.dial } else { row.pipe };
        stage.row(row.name, expected, |session| {
            session.send((row.lines)());
            up_to(session, PING, "end")
        });
    }
}

/// Runs the table of children, with a client that speaks lines.
pub(crate) fn children_against_pipe(stage: &mut Stage) {
    let folder = TempDir::new().unwrap();
    let path = folder.join("said");
    for row in CHILDREN {
        stage.row(row.name, row.pipe, |session| {
            fs::write(&path, (row.lines)()).unwrap();
            let call = run("\"c\"", &format!(r#"{{"file":"{}"}}"#, path.display())).legacy_body();
            let (outcome, behind) = (up_to(session, &call, "c"), up_to(session, PING, "end"));
            if behind.is_empty() { outcome } else { format!("{outcome}, {behind}") }
        });
    }
}

/// Runs the table of children, with a client over HTTP, and a child that the neighbour shares.
pub(crate) fn children_against_mux(stage: &mut Stage, address: SocketAddr) {
    let folder = TempDir::new().unwrap();
    let path = folder.join("said");
    for row in CHILDREN {
        stage.row(row.name, row.mux, |_| {
            fs::write(&path, (row.lines)()).unwrap();
            let call = run("\"c\"", &format!(r#"{{"file":"{}"}}"#, path.display()));
            let response = call.modern().send(address);
            let status = response.status;
            let messages = if response.is_events() { response.rest() } else { vec![response.text()] };
            let found: Vec<String> = messages.iter().map(|message| said(message)).collect();
            format!("{status} {}", found.join(", "))
        });
    }
}

/// Runs it with a client over HTTP whose session has the child for itself. Each row has an id of its own: a child may answer
/// what was answered, and that is for whoever used the id last.
pub(crate) fn children_against_owner(stage: &mut Stage, address: SocketAddr) {
    let folder = TempDir::new().unwrap();
    let path = folder.join("said");
    let client = Client::begin(address, "2025-11-25");
    for (at, row) in CHILDREN.iter().enumerate() {
        let id = format!("c{at}");
        stage.row(&format!("own: {}", row.name), row.owner, |_| {
            fs::write(&path, (row.lines)()).unwrap();
            let call = run(&format!("\"{id}\""), &format!(r#"{{"file":"{}"}}"#, path.display()));
            let response = client.post(call.legacy_body()).send(address);
            let status = response.status;
            let messages = if response.is_events() { response.rest() } else { vec![response.text()] };
            let (notes, answers): (Vec<_>, Vec<_>) = messages.iter().partition(|text| text.contains("\"method\""));
            let mut found: Vec<String> = Vec::new();
            if !notes.is_empty() {
                found.push(format!("{} notes", notes.len()));
            }
            found.extend(answers.iter().map(|message| said(message).replace(&id, "c")));
            format!("{status} {}", found.join(", "))
        });
    }
    assert_eq!(client.request("DELETE").send(address).status, 204);
}

/// Runs it with a client over HTTP+SSE of 2024-11-05.
pub(crate) fn children_against_sse(stage: &mut Stage, address: SocketAddr) {
    let folder = TempDir::new().unwrap();
    let path = folder.join("said");
    let mut stream = Request::get().at("/sse").send(address);
    let place = stream.event().unwrap().data;
    let post = |body: String| {
        let response = Request::post(body).without("Accept").at(&place).send(address);
        assert_eq!(response.status, 202, "{response:?}");
    };
    post(initialize("2024-11-05"));
    assert!(stream.data().contains("\"result\""));
    post(INITIALIZED.to_owned());
    for row in CHILDREN {
        stage.row(&format!("SSE: {}", row.name), row.pipe, |_| {
            fs::write(&path, (row.lines)()).unwrap();
            post(run("\"c\"", &format!(r#"{{"file":"{}"}}"#, path.display())).legacy_body());
            post(PING.to_owned());
            let (mut notes, mut found) = (0, Vec::new());
            loop {
                let message = stream.data();
                if message.contains("\"method\"") {
                    notes += 1;
                    continue;
                }
                if notes > 0 {
                    found.push(format!("{} notes", std::mem::take(&mut notes)));
                }
                match said(&message).as_str() {
                    "end: result" => return found.join(", "),
                    other => found.push(other.to_owned()),
                }
            }
        });
    }
}

/// A server over HTTP that takes everything, and answers what asks for it.
pub(crate) fn answer_rightly(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let (status, body) = match (&body["id"], &body["method"]) {
        (Value::Null, _) | (_, Value::Null) => ("202 Accepted", String::new()),
        (id, _) => {
            ("200 OK\r\ncontent-type: application/json", format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
        }
    };
    to.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    Ok(true)
}

/// Sends a line; what came up to the answer with this id, which is left out if it is that of a right call.
fn up_to(session: &mut Session, line: &str, id: &str) -> String {
    session.send(format!("{line}\n"));
    let (mut notes, mut found) = (0, Vec::new());
    loop {
        let line = session.stdout.line();
        if line.contains("\"method\"") {
            notes += 1;
            continue;
        }
        if notes > 0 {
            found.push(format!("{} notes", std::mem::take(&mut notes)));
        }
        let what = said(&line);
        let is_last = what.starts_with(&format!("{id}: "));
        if what != "end: result" {
            found.push(what);
        }
        if is_last {
            return found.join(", ");
        }
    }
}

/// An answer, in short.
fn said(line: &str) -> String {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{} bytes of no JSON", line.len()));
    let id: String = message["id"].to_string().replace('"', "").chars().take(8).collect();
    match (&message["error"]["code"], &message["error"]["data"]["reason"]) {
        (Value::Null, _) => format!("{id}: result"),
        (code, reason) => format!("{id}: {code} {}", reason.as_str().unwrap_or_default()),
    }
}

fn answer(result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#)
}

fn line(text: &[u8]) -> Vec<u8> {
    [text, b"\n"].concat()
}

fn x(len: usize) -> String {
    "x".repeat(len)
}
