//! The headers of 2026-07-28 that repeat what the body says, in front of a child that sees no headers: who
//! reads the body holds them against it (rule M2). Real processes, real sockets.

#![cfg(target_os = "linux")]
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

use client::Request;
use mux::{Mux, ask, assert_refused, call, echoed, modern};
use serde_json::json;

const VERSION: &str = "MCP-Protocol-Version";
const METHOD: &str = "Mcp-Method";
const NAME: &str = "Mcp-Name";

/// A call as it should be.
fn good() -> Request {
    call("\"h\"", "echo", "{}").modern()
}

/// What a strict reader refuses, each for one reason.
fn lies() -> Vec<(&'static str, Request)> {
    vec![
        ("no version", good().without(VERSION)),
        ("another version", good().but(VERSION, "2026-08-01")),
        ("two versions", good().with(VERSION, "2026-07-28")),
        ("no method", good().without(METHOD)),
        ("another method", good().but(METHOD, "tools/list")),
        ("another case", good().but(METHOD, "Tools/Call")),
        ("two methods", good().with(METHOD, "tools/call")),
        ("no name", good().without(NAME)),
        ("another name", good().but(NAME, "run")),
        ("two names", good().with(NAME, "echo")),
        ("another name inside a sentinel", good().but(NAME, "=?base64?cnVu?=")),
        ("a sentinel that is no base64", good().but(NAME, "=?base64?*?=")),
        ("a sentinel in capitals is a name", good().but(NAME, "=?BASE64?ZWNobw==?=")),
        ("a name where there is none to mirror", ask("\"h\"", "prompts/get", "").modern().with(NAME, "x")),
    ]
}

#[test]
fn strict_is_the_default_and_refuses_every_lie() {
    let mux = Mux::start(&[]);
    for (what, request) in lies() {
        let response = mux.send(&request);
        assert_eq!(response.status, 400, "{what}");
        assert_refused(response, 400, -32020, &json!("h"));
    }
    assert_eq!(mux.seen(), [""; 0], "nothing of it reached a child");
}

#[test]
fn truth_may_be_spelled_in_several_ways() {
    let mux = Mux::start(&[]);
    for request in [
        good(),
        good().but(NAME, "=?base64?ZWNobw==?="),
        good().but(NAME, "  echo\t"),
        good().without(NAME).with("mCP-nAME", "echo"),
        good().with("Mcp-Param-Unknown", "anything"),
        good().with("Mcp-Session-Id", "ignored").with("Last-Event-ID", "ignored"),
    ] {
        let response = mux.send(&request);
        assert_eq!(response.status, 200, "{request:?}");
        assert_eq!(response.header("mcp-session-id"), None, "Rule G14");
        assert_eq!(response.text(), echoed("\"h\"", "{}"));
    }
    let uri = "file:///é";
    let read = ask("1", "resources/read", &format!(r#""uri":"{uri}""#)).modern();
    // The child does not know the method, and says so: it was asked.
    assert_eq!(mux.send(&read.with(NAME, "=?base64?ZmlsZTovLy/DqQ==?=")).status, 404);
}

#[test]
fn looser_checks_let_lies_pass() {
    for check in ["warn", "off"] {
        let mux = Mux::start(&["--header-check", check]);
        // With two versions, it cannot be told by which rules to treat it.
        for (what, request) in lies().into_iter().filter(|(what, _)| *what != "two versions") {
            let response = mux.send(&request);
            assert!([200, 404].contains(&response.status), "{check}, {what}: {response:?}");
            assert_eq!(response.json()["id"], "h", "{check}, {what}");
        }
    }
}

#[test]
fn version_that_is_missing_or_contradicted_is_refused() {
    let mux = Mux::start(&[]);
    // The header says modern, the body says nothing (rule V13).
    let bare = r#"{"jsonrpc":"2.0","id":4,"method":"tools/list"}"#;
    assert_refused(mux.send(&modern(bare).with(METHOD, "tools/list")), 400, -32602, &json!(4));
    // The body says modern, the header says legacy.
    assert_refused(mux.send(&good().but(VERSION, "2025-11-25")), 400, -32020, &json!("h"));
    assert_eq!(mux.seen(), [""; 0]);
}

#[test]
fn notification_need_not_have_headers_but_may_not_lie() {
    let mux = Mux::start(&[]);
    let body = r#"{"jsonrpc":"2.0","method":"notifications/vendor"}"#;
    assert_eq!(mux.send(&modern(body)).status, 202);
    mux.seen_with(&["vendor"]);
    assert_eq!(mux.send(&modern(body).with(METHOD, "notifications/other")).status, 400);
}

#[test]
fn parameters_are_checked_once_the_child_has_declared_them() {
    const REGION: &str = "Mcp-Param-Region";
    let mux = Mux::start(&[]);
    let eu = call("1", "echo", r#"{"region":"eu"}"#).modern();
    let lie = eu.clone().with(REGION, "us");
    assert_eq!(mux.send(&lie).status, 200, "nobody has declared it yet");
    assert_eq!(mux.send(&ask("2", "tools/list", "").modern()).status, 200);
    assert_refused(mux.send(&lie), 400, -32020, &json!(1));
    assert_refused(mux.send(&eu), 400, -32020, &json!(1));
    assert_eq!(mux.send(&eu.clone().with(REGION, "eu")).status, 200);
    assert_eq!(mux.send(&eu.with(REGION, "=?base64?ZXU=?=")).status, 200);
    assert_eq!(mux.send(&call("1", "echo", r#"{"region":null}"#).modern()).status, 200);
}
