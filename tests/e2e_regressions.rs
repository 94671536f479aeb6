//! What other people's clients, servers and test suites found, link by link, as `e2e/` runs them: one test for each
//! fault, small enough to run everywhere.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use http::Proxy;
use serde_json::{Value, json};
use support::Launch;

/// Says of each request in turn that its parameters are invalid.
const REFUSES_PARAMETERS: &str = r#"n=0; while read -r line; do n=$((n+1));
    printf '{"jsonrpc":"2.0","id":%d,"error":{"code":-32602,"message":"no"}}\n' $n; done"#;

/// HTTP in front of a child that is this script.
fn mux(script: &str) -> Proxy {
    Proxy::launch(Launch::new(["proxy", "--listen", "127.0.0.1:0", "--", "sh", "-c", script]))
}

/// The status and the message that a request of 2026-07-28 with this `_meta` is answered with.
fn ask(proxy: &Proxy, method: &str, meta: &Value) -> (u16, Value) {
    let mut conn = proxy.connect();
    let headers = format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n");
    let body = json!({"jsonrpc": "2.0", "id": "own", "method": method, "params": {"_meta": meta}});
    conn.post(&headers, body.to_string());
    let head = conn.head();
    let message = serde_json::from_slice(&conn.body(&head).expect("a whole body")).expect("a message");
    (head.status(), message)
}

fn meta() -> Value {
    json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}})
}

/// The conformance suite, `server-stateless`: 400 for a request without a part of `_meta` that it must have. Over
/// stdio a server can only say that parameters are invalid, which by itself has no status.
#[test]
fn the_status_of_invalid_parameters_is_that_of_what_the_request_lacked() {
    let proxy = mux(REFUSES_PARAMETERS);
    let without_capabilities = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    for (meta, expected) in [(meta(), 200), (without_capabilities, 400), (meta(), 200)] {
        let (status, message) = ask(&proxy, "server/discover", &meta);
        assert_eq!((status, &message["error"]["code"], &message["id"]), (expected, &json!(-32602), &json!("own")));
        assert_eq!(message["error"]["message"], "no", "it is the server who decides");
    }
}

/// The conformance suite, `server-stateless`: 404 for `initialize`, which this revision has no more. Passed on to a
/// server of both eras it would begin a legacy session there, in the midst of what all others are at.
#[test]
fn initialize_of_a_modern_client_does_not_reach_the_child_of_all() {
    let proxy = mux(REFUSES_PARAMETERS);
    let (status, message) = ask(&proxy, "initialize", &meta());
    assert_eq!((status, &message["error"]["code"], &message["id"]), (404, &json!(-32601), &json!("own")));
    assert_eq!(message["error"]["data"]["source"], "shadowcat");
    // It was not read as the first request of the child, which answers in turn.
    assert_eq!(ask(&proxy, "tools/list", &meta()).0, 200);
}
