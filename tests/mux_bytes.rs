//! Bytes in are bytes out, between HTTP clients and a child, both ways: but for ids and tokens where clients
//! share a child, and line ends between tokens, a message is never changed. Real processes, real sockets.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/legacy.rs"]
mod legacy;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use client::Pending;
use legacy::Client;
use mux::{Mux, call, done, echoed, modern, progress, result, run};
use serde_json::{Value, json};

/// Values that most programs change on their way.
fn hostile_values() -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let values = [
        r#"{"big":9007199254740993,"float":1.0,"minus":-0,"huge":1e400,"tiny":1E-999,"long":0.10000000000000000001}"#,
        r#"{"z":1,"a":2,"Z":3,"z":4,"":5,"__proto__":6,"id":7,"method":"x","name":"run","name":"run"}"#,
        r#"{"_meta":{"progressToken":8,"io.modelcontextprotocol/protocolVersion":"no"},"params":{"name":9}}"#,
        r#"{"escapes":"\u00e9\/\b\f\n\r\t\"\\ \u0000 \ud83d\ude00","raw":"é / 😀"}"#,
        r#"{"lone":"\ud800","turned":"\udc00\ud800","half":"x\udfff"}"#,
        "{\"separators\":\"\u{2028}\u{2029}\u{85}\u{feff}\u{7f}\",\"joined\":\"\u{200d}🐈‍⬛\"}",
        "{  \"spaces\" :\t[ 1 , 2 ,  { } ]  }",
        &deep,
    ];
    values.map(str::to_owned).into()
}

/// A `run` that writes this line, and then nothing more.
fn saying(id: &str, line: &str) -> mux::Call {
    run(id, &format!(r#"{},{{"never":true}}"#, json!({ "line": line })))
}

#[test]
fn hostile_values_cross_a_shared_child_both_ways() {
    let mux = Mux::start(&[]);
    for value in hostile_values() {
        let call = call("\"own\"", "echo", &value).token("\"tok\\u0065n\"");
        assert_eq!(mux.ask(&call), echoed("\"own\"", &value));
        let body = call.modern_body();
        let seen = mux.seen().pop().unwrap();
        let minted: Value =
            serde_json::from_str::<Value>(&seen).map_or_else(|_| id_by_hand(&seen), |seen| seen["id"].clone());
        let expected = body.replacen("\"id\":\"own\"", &format!("\"id\":{minted}"), 1).replacen(
            "\"tok\\u0065n\"",
            &minted.to_string(),
            1,
        );
        assert_eq!(seen, expected);
    }
}

/// The id in a line that a strict parser refuses, where it stands behind the version.
fn id_by_hand(line: &str) -> Value {
    let digits = line.strip_prefix(r#"{"jsonrpc":"2.0","id":"#).unwrap();
    digits.split(',').next().unwrap().parse::<u64>().unwrap().into()
}

#[test]
fn hostile_values_cross_an_own_child_both_ways_untouched() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    for value in hostile_values() {
        let call = call("1.0", "echo", &value).token("1.0");
        assert_eq!(client.ask(&mux, &call), echoed("1.0", &value));
        assert_eq!(mux.seen().pop().unwrap(), call.legacy_body());
    }
    for line in [
        r#" { "unknown":{"method":1,"id":2} , "id":"own" ,"result":{"x":1.0},	"jsonrpc":"2.0"} "#,
        r#"{"\u0069d":"own","error":{"message":"m","code":1},"jsonrpc":"2.0"}"#,
        r#"{"result":null,"id":"own"}"#,
    ] {
        assert_eq!(client.ask(&mux, &saying("\"own\"", line)).trim(), line.trim());
    }
}

#[test]
fn answers_of_a_shared_child_change_in_their_ids_alone() {
    let mux = Mux::start(&[]);
    for (line, expected) in [
        (
            r#"{ "unknown":{"method":1,"id":$ID} , "id":$ID ,"result":{"id":$ID},	"jsonrpc":"2.0"}"#,
            r#"{ "unknown":{"method":1,"id":@} , "id":"own" ,"result":{"id":@},	"jsonrpc":"2.0"}"#,
        ),
        (
            r#"{"\u0069d":$ID,"error":{"message":"m","code":1}}"#,
            r#"{"\u0069d":"own","error":{"message":"m","code":1}}"#,
        ),
        (r#"{"jsonrpc":"2.0","result":null,"id":  $ID  }"#, r#"{"jsonrpc":"2.0","result":null,"id":  "own"  }"#),
    ] {
        let answer = mux.ask(&saying("\"own\"", line));
        let minted = id_by_hand(&mux.seen().pop().unwrap());
        assert_eq!(answer, expected.replace('@', &minted.to_string()));
    }
}

#[test]
fn line_ends_between_tokens_become_spaces_and_nothing_else_changes() {
    let mux = Mux::start(&[]);
    let arguments = "{\n\t\"a\" : \"\\n\\r é\",\r\n\r\n  \"b\":[\n1\n,\r2.0\n]\n}";
    let spaced = arguments.replace(['\r', '\n'], " ");
    let client = Client::start(&mux, "2025-11-25");
    let body = format!("\r\n{}\n\n", call("1", "echo", arguments).legacy_body());
    assert_eq!(mux.send(&client.post(body.clone())).text(), echoed("1", &spaced));
    assert_eq!(mux.seen().pop().unwrap().trim(), body.replace(['\r', '\n'], " ").trim());

    let call = call("1", "echo", arguments);
    assert_eq!(mux.ask(&call), echoed("1", &spaced));
    let seen = mux.seen_with(&["protocolVersion\":\"2026", "\\n\\r é"]);
    let minted = id_by_hand(&seen);
    let expected = call.modern_body().replacen("\"id\":1", &format!("\"id\":{minted}"), 1);
    assert_eq!(seen, expected.replace(['\r', '\n'], " "));
}

#[test]
fn carriage_returns_of_the_child_do_not_break_events() {
    let mux = Mux::start(&[]);
    let line = "{\"jsonrpc\":\"2.0\",\r\"id\":$ID,\"result\":\r{\"a\":\"\\r b\"}}\r";
    let steps = format!(r#"{{"progress":["a"]}},{},{{"never":true}}"#, json!({ "line": line }));
    let response = mux.send(&run("\"own\"", &steps).token("1").modern());
    let events = response.rest();
    let expected = result("\"own\"", r#"{"a":"\r b"}"#);
    let squeezed: Vec<String> = events
        .iter()
        .map(|event| event.replace(['\r', '\n'], "").replace(", \"id\"", ",\"id\"").replace(": {", ":{"))
        .collect();
    assert_eq!(squeezed, [progress("1", 0, "a"), expected]);
}

#[test]
fn body_in_small_pieces_is_the_same_body() {
    let mux = Mux::start(&[]);
    let value = hostile_values().concat().replace("}{", "},{").replace("}[", "},[");
    let value = format!("[{value}]");
    let call = call("1", "echo", &value);
    let request = call.modern().with("Transfer-Encoding", "chunked");
    let (head, _) = request.parts(mux.address);
    let mut pending = Pending::connect(mux.address);
    pending.write(head.as_bytes());
    for piece in call.modern_body().as_bytes().chunks(7) {
        pending.write(format!("{:x}\r\n", piece.len()).as_bytes());
        pending.write(piece);
        pending.write(b"\r\n");
    }
    pending.write(b"0\r\n\r\n");
    assert_eq!(pending.response().text(), echoed("1", &value));
}

#[test]
fn byte_order_mark_and_nul_are_no_json() {
    let mux = Mux::start(&[]);
    let good = call("1", "echo", "{}");
    for body in [format!("{}\0", good.modern_body()), format!("{}{{}}", good.modern_body())] {
        let request = modern(body).with("Mcp-Method", "tools/call").with("Mcp-Name", "echo");
        assert_eq!(mux.send(&request).status, 400);
    }
    assert_eq!(mux.seen(), [""; 0]);
}

#[test]
fn sixteen_mebibytes_cross_both_ways() {
    const LEN: usize = 16 << 20;
    let mux = Mux::start(&[]);
    let text = format!("\"{}\\u00e9é\"", "0123456789abcdef".repeat(LEN / 16));
    let same = |one: &str, two: &str| assert!(one == two, "{} and {} bytes that differ", one.len(), two.len());
    same(&mux.ask(&call("1", "echo", &text)), &echoed("1", &text));
    let client = Client::start(&mux, "2025-11-25");
    same(&client.ask(&mux, &call("1", "echo", &text)), &echoed("1", &text));
    // As an event.
    let steps = format!(r#"{{"progress":["a"]}},{{"big":{LEN}}}"#);
    let big = result(
        "\"own\"",
        &format!(r#"{{"content":[{{"type":"text","text":"{}"}}],"resultType":"complete"}}"#, "x".repeat(LEN)),
    );
    let calls = run("\"own\"", &steps).token("1");
    for request in [calls.modern(), client.post(calls.legacy_body())] {
        let events = mux.send(&request).rest();
        let events: Vec<&String> = events.iter().filter(|event| !event.is_empty()).collect();
        assert_eq!(events.len(), 2);
        same(events[1], &big);
    }
    // What came before did not change what comes now.
    assert_eq!(mux.ask(&run("1", "")), done("1"));
}
