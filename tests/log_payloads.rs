//! What the log must not say, at its most talkative and over each link of the real program: nothing of a payload, a
//! header or a credential. And what it must: which trace an exchange belongs to.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::net::SocketAddr;

use client::Request;
use mux::fixture;
use rustix::process::Signal;
use serde_json::Value;
use support::{Launch, Session};
use upstream::Upstream;

/// In everything that must not be logged.
const SECRET: &str = "S3CRET";
/// Traces: by a header, and by a member of `_meta`.
const BY_HEADER: &str = "0af7651916cd43dd8448eb211c80319c";
const BY_META: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const FORMATS: [&str; 2] = ["text", "json"];

fn traceparent(id: &str) -> String {
    format!("00-{id}-b7ad6b7169203331-01")
}

/// A call of 2026-07-28 that is full of secrets.
fn body(id: usize, traceparent: &str) -> String {
    let meta =
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"S3CRET":"S3CRET"}},"_meta":{{{meta},"tracestate":"a=S3CRET","traceparent":"{traceparent}"}}}}}}"#
    )
}

/// The same over HTTP, with headers that say what it says, and as many secrets.
fn request(body: impl Into<Vec<u8>>) -> Request {
    Request::post(body)
        .with("MCP-Protocol-Version", "2026-07-28")
        .with("Mcp-Method", "tools/call")
        .with("Mcp-Name", "echo")
        .with("Authorization", "Bearer S3CRET")
        .with("Cookie", "S3CRET=S3CRET")
        .with("X-Other", "S3CRET")
        .with("Tracestate", "a=S3CRET")
}

/// What clients get wrong, with secrets wherever they put something. Not in `Origin` and `Host`: whoever has to allow
/// them must see them.
fn wrong_requests() -> Vec<Request> {
    let whole = body(1, "S3CRET");
    let mut wrong = vec![
        request(whole.replacen('{', "{S3CRET", 1)),
        request(whole.replacen('{', r#"{"id":"S3CRET","#, 1)),
        request(whole.replace(r#"2026-07-28""#, r#"S3CRET""#)),
        request(whole.replace(r#"2026-07-28""#, r#"S3CRET""#)).but("MCP-Protocol-Version", SECRET),
        request(whole.replace("capabilities", SECRET)),
        request(format!("[{whole}]")),
        request(format!("\"{SECRET}\"")),
        request(r#"{"jsonrpc":"2.0","id":1,"result":"S3CRET"}"#),
        request(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"S3CRET"}}"#),
        request(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"S3CRET"}}"#),
        request(whole.clone()).with("Transfer-Encoding", "chunked"),
    ];
    for (name, value) in [
        ("Mcp-Name", SECRET),
        ("Mcp-Method", SECRET),
        ("MCP-Protocol-Version", SECRET),
        ("MCP-Protocol-Version", "2025-11-25"),
        ("Mcp-Session-Id", SECRET),
        ("Content-Type", SECRET),
        ("Content-Encoding", SECRET),
        ("Accept", SECRET),
        ("Traceparent", SECRET),
    ] {
        wrong.push(request(whole.clone()).but(name, value));
    }
    wrong.push(request(whole).at("/mcp?S3CRET=S3CRET"));
    wrong.push(request("").but("Mcp-Session-Id", SECRET).with("Last-Event-ID", SECRET));
    wrong
}

fn log(format: &str) -> [&str; 4] {
    ["--log-level", "trace", "--log-format", format]
}

/// A proxy that listens, where it does, and what it has said of it.
fn listening(args: &[&str]) -> (Session, SocketAddr) {
    let mut session = Launch::new([&["proxy", "--listen", "127.0.0.1:0"], args].concat()).start();
    let line = session.stderr.line_with("listening on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split("/mcp").next());
    let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    (session, address)
}

fn stopped(mut session: Session) -> String {
    session.signal(Signal::TERM);
    session.wait().stderr
}

/// Asserts that nothing is said that must not be, and that each of these traces is shown with something.
#[track_caller]
fn assert_discreet(link: &str, format: &str, log: &str, traces: &[&str]) {
    for line in log.lines() {
        assert!(!line.contains(SECRET), "{link} {format}: {line}");
    }
    let lines: Vec<_> = log.lines().filter(|line| line.contains(" TRACE ") || line.contains(" DEBUG ")).collect();
    if format == "json" {
        for line in log.lines().filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(line).expect(line);
            let target = line["target"].as_str().unwrap_or("shadowcat");
            assert!(target.starts_with("shadowcat"), "the log of others: {line}");
        }
    } else {
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("shadowcat::")), "{link}: {lines:#?}");
    }
    for trace in traces {
        let shown = log.lines().filter(|line| line.contains(trace)).inspect(|line| match format {
            "json" => {
                let line: Value = serde_json::from_str(line).expect(line);
                let found = [&line["fields"]["trace_id"], &line["span"]["trace_id"]];
                assert!(found.contains(&&Value::from(*trace)), "{line}");
            }
            _ => assert!(line.contains(&format!("trace_id={trace}")), "{line}"),
        });
        assert!(shown.count() >= 1, "{link} {format}: no line shows the trace {trace}\n{log}");
    }
}

#[test]
fn pipe_says_nothing_of_payloads() {
    for format in FORMATS {
        let script = format!(
            r#"echo 'noise S3CRET'; echo '{{"jsonrpc":"2.0","id":"S3CRET";'; echo '{{"id":7,"id":2,"S3CRET":3}}'
            exec {}"#,
            fixture().display()
        );
        let mut session = Session::of_script(&[&log(format)[..], &["--max-frame-len", "64KiB"]].concat(), &script);
        session.send(body(1, &traceparent(BY_META)) + "\n");
        let answer = session.stdout.line_with("\"id\":1");
        assert!(answer.contains(SECRET), "{answer}");
        session.send(format!("{SECRET}\n{{\"S3CRET\":,\n"));
        session.send(r#"{"jsonrpc":"2.0","id":2,"S3CRET":1,"S3CRET":2,"id":3,"method":"a"}"#.to_owned() + "\n");
        session.send(body(4, "00-S3CRET") + "\n");
        session.send(body(5, SECRET).replace("arguments", &SECRET.repeat(20_000)) + "\n");
        session.send(body(6, SECRET).replace("tools/call", "none") + "\n");
        session.stdout.line_with("\"id\":6");
        assert_discreet("pipe", format, &session.end().stderr, &[BY_META]);
    }
}

#[test]
fn mux_says_nothing_of_payloads() {
    let server = fixture().into_os_string().into_string().unwrap();
    for format in FORMATS {
        let (session, address) = listening(&[&log(format)[..], &["--", &server]].concat());
        let named = request(body(1, SECRET)).with("Traceparent", traceparent(BY_HEADER));
        let answer = named.send(address).text();
        assert!(answer.contains(SECRET), "{answer}");
        assert!(request(body(1, &traceparent(BY_META))).send(address).text().contains(SECRET));
        for wrong in wrong_requests() {
            let _ = wrong.begin(address).try_response();
        }
        assert_discreet("mux", format, &stopped(session), &[BY_HEADER, BY_META]);
    }
}

/// Answers that are full of secrets, right and wrong.
fn answers() -> Vec<(u16, &'static str, &'static str)> {
    let json = "content-type: application/json\r\nset-cookie: S3CRET\r\nmcp-session-id: S3CRET\r\n";
    let events = "content-type: text/event-stream\r\n";
    vec![
        (200, json, r#"{"jsonrpc":"2.0","id":ID,"result":{"S3CRET":"S3CRET"}}"#),
        (
            200,
            events,
            "event: S3CRET\nid: S3CRET\ndata: S3CRET\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n",
        ),
        (
            200,
            events,
            "id: S3CRET\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":1,\"message\":\"S3CRET\"}}\n\n",
        ),
        (200, json, r#"{"jsonrpc":"2.0","id":ID,S3CRET"#),
        (200, json, r#"{"jsonrpc":"2.0","id":ID,"id":"S3CRET","result":1}"#),
        (200, "content-type: S3CRET/S3CRET\r\n", "S3CRET"),
        (200, "content-type: application/json\r\ncontent-encoding: S3CRET\r\n", "S3CRET"),
        (400, json, r#"{"jsonrpc":"2.0","error":{"code":1,"message":"S3CRET"}}"#),
        (401, "www-authenticate: Bearer S3CRET\r\n", "S3CRET"),
        (307, "location: https://other.example/?S3CRET\r\n", "S3CRET"),
        (500, "content-type: text/plain\r\n", "S3CRET"),
    ]
}

#[test]
fn relay_says_nothing_of_payloads() {
    for format in FORMATS {
        let upstream = Upstream::start();
        let (session, address) = listening(&[&log(format)[..], &[&upstream.url]].concat());
        for (trace, by_header) in [(BY_HEADER, true), (BY_META, false)] {
            let mut asked = request(body(1, &traceparent(if by_header { BY_META } else { trace })));
            if by_header {
                asked = asked.with("Traceparent", traceparent(trace));
            }
            for (status, headers, answer) in answers() {
                let pending = asked.begin(address);
                let seen = upstream.post();
                assert_eq!(
                    (seen.header("traceparent").is_some(), seen.header("tracestate")),
                    (by_header, Some("a=S3CRET"))
                );
                seen.answer(status, headers, answer.replace("ID", "1"));
                let _ = pending.try_response().map(|mut response| response.read_all());
            }
        }
        assert_discreet("relay", format, &stopped(session), &[BY_HEADER, BY_META]);
    }
}

#[test]
fn relay_says_nothing_of_what_clients_get_wrong() {
    let server = fixture().into_os_string().into_string().unwrap();
    let (mux, upstream) = listening(&["--log-level", "off", "--", &server]);
    let upstream = format!("http://{upstream}/mcp");
    for (format, check) in FORMATS.into_iter().zip(["warn", "strict"]) {
        let (session, address) = listening(&[&log(format)[..], &["--header-check", check, &upstream]].concat());
        for wrong in wrong_requests() {
            let _ = wrong.begin(address).try_response();
        }
        assert_discreet("relay", format, &stopped(session), &[]);
    }
    mux.signal(Signal::TERM);
}

#[test]
fn dial_says_nothing_of_payloads() {
    for format in FORMATS {
        let upstream = Upstream::start();
        let header = ["--header", "Authorization: Bearer S3CRET", &upstream.url];
        let mut session = Launch::new([&["proxy"], &log(format)[..], &header].concat()).start();
        for (id, (status, headers, answer)) in answers().into_iter().enumerate() {
            session.send(body(id, &traceparent(BY_META)) + "\n");
            upstream.post().answer(status, headers, answer.replace("ID", &id.to_string()));
            session.stdout.line_with(&format!("\"id\":{id}"));
        }
        session.send(format!("{SECRET}\n{{\"S3CRET\":,\n"));
        session.send(r#"{"jsonrpc":"2.0","id":99,"S3CRET":1,"id":3,"method":"a"}"#.to_owned() + "\n");
        session.send(body(100, SECRET) + "\n");
        upstream.post().cut();
        session.stdout.line_with("\"id\":100");
        assert_discreet("dial", format, &session.end().stderr, &[BY_META]);
    }
}
