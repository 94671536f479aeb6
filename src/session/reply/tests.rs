//! What our own messages look like on the wire, and with which code and status they go.

use std::time::Duration;

use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

use super::*;
use crate::session::{Timeout, mirror};

fn written(id: &[u8], reason: Reason) -> serde_json::Value {
    let mut buf = BytesMut::new();
    Reply::new(RequestId::new(id), reason).write(&mut buf);
    serde_json::from_slice(&buf).unwrap()
}

#[test]
fn reply_has_the_requesters_id_and_the_numbers() {
    assert_eq!(
        written(b"\"a\\u0062\"", Reason::ServerExited { exit_code: Some(3), signal: None, stderr: Vec::new() }),
        serde_json::json!({"jsonrpc": "2.0", "id": "ab", "error": {
            "code": -32603, "message": "the server exited with status 3 before it answered",
            "data": {"source": "shadowcat", "reason": "server_exited", "exitCode": 3},
        }})
    );
    let too_large = written(b"1", Reason::MessageTooLarge { limit: 4, at: 9, declared: None });
    assert_eq!(too_large["error"]["data"]["limit"], 4);
    assert_eq!(too_large["error"]["data"]["at"], 9);
    assert_eq!(too_large["error"]["data"].get("declared"), None);
    let declared = written(b"1", Reason::MessageTooLarge { limit: 4, at: 9, declared: Some(5) });
    assert_eq!(declared["error"]["data"]["declared"], 5);
}

/// MCP 2026-07-28 "Error Codes" (rule M2): whoever asked is not told that the request was wrong.
#[test]
fn what_is_wrong_with_an_answer_is_not_blamed_on_the_request() {
    let too_large = Reason::MessageTooLarge { limit: 4, at: 9, declared: None }.of_answer();
    let refused = Reason::Refused { what: "deep".into() }.of_answer();
    for reason in [&too_large, &refused] {
        assert_eq!((reason.code(), reason.status()), (-32603, StatusCode::BAD_GATEWAY), "{reason:?}");
    }
    let data = serde_json::json!({"source": "shadowcat", "reason": "message_too_large", "limit": 4, "at": 9});
    assert_eq!(written(b"1", too_large)["error"]["data"], data);
    assert_eq!(written(b"1", refused)["error"]["data"]["reason"], "refused");
    assert_eq!(Reason::StreamEnded.of_answer(), Reason::StreamEnded);
}

/// One of each, with the code and the status it goes with.
fn reasons() -> Vec<(Reason, i32, u16)> {
    let text = String::new;
    let mismatch = mirror::check(
        &http::HeaderMap::new(),
        br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        &envelope(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        None,
    );
    vec![
        (Reason::UnsupportedEncoding { found: text(), supported: text() }, -32600, 415),
        (Reason::UnsupportedMedia { found: text() }, -32600, 415),
        (Reason::Forbidden { header: "origin", found: text() }, -32600, 403),
        (Reason::from(mismatch.unwrap_err()), -32020, 400),
        (Reason::InvalidJson { what: text(), at: 1 }, -32700, 400),
        (Reason::InvalidRequest { what: text() }, -32600, 400),
        (Reason::InvalidTool { tool: text(), what: "x" }, -32602, 400),
        (Reason::MessageTooLarge { limit: 1, at: 0, declared: None }, -32600, 413),
        (Reason::MethodNotFound { method: "x" }, -32601, 404),
        (Reason::MethodNotAllowed { allowed: "POST" }, -32600, 405),
        (Reason::MissingMeta { field: "x" }, -32602, 400),
        (Reason::NotAcceptable { required: "x" }, -32600, 406),
        (Reason::Overloaded { what: text(), retry_after: 1 }, -32603, 503),
        (Reason::Refused { what: text() }, -32600, 400),
        (Reason::ServerExited { exit_code: None, signal: Some(9), stderr: Vec::new() }, -32603, 502),
        (Reason::RestartFailed { what: "its version is none".into() }, -32603, 502),
        (Reason::ServerUnreachable { what: text(), url: text() }, -32603, 502),
        (Reason::SessionNotFound, -32600, 404),
        (Reason::SessionEnded, -32600, 404),
        (Reason::SessionRequired, -32600, 400),
        (Reason::TooManyStreams { limit: 1 }, -32603, 503),
        (Reason::NoListener { waited_ms: 1 }, -32603, 503),
        (Reason::HoldFull { max_count: 1, max_bytes: 1 }, -32603, 503),
        (Reason::StreamEnded, -32603, 502),
        (Reason::Timeout(Timeout::of_answer(Duration::from_millis(1))), -32603, 504),
        (Reason::TooManyPending { limit: 1 }, -32603, 503),
        (Reason::TooManySessions { limit: 1, retry_after: 1 }, -32603, 503),
        (Reason::Unauthorized, -32600, 401),
        (Reason::UpstreamStatus { status: 401, what: text() }, -32603, 502),
        (Reason::UnsupportedVersion { requested: text(), supported: vec![] }, -32022, 400),
    ]
}

fn envelope(frame: &str) -> Envelope {
    EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap()
}

#[test]
fn each_reason_has_its_code_its_status_and_its_name() {
    let mut names = std::collections::BTreeSet::new();
    for (reason, code, status) in reasons() {
        assert_eq!((reason.code(), reason.status().as_u16()), (code, status), "{reason:?}");
        let is_theirs = (-32099..=-32000).contains(&code) && !matches!(code, -32020 | -32022);
        assert!(!is_theirs, "{reason}");
        // Waiting helps where it is others who take up the room.
        let is_shared = matches!(reason, Reason::Overloaded { .. } | Reason::TooManySessions { .. });
        assert_eq!(reason.retry_after().is_some(), is_shared, "{reason:?}");
        let message = written(b"1", reason);
        assert_eq!(message["error"]["data"]["source"], "shadowcat");
        assert!(names.insert(message["error"]["data"]["reason"].as_str().unwrap().to_owned()), "{message}");
    }
}

#[test]
fn fields_of_the_protocols_own_errors_are_where_it_wants_them() {
    let supported = vec!["2025-11-25".to_owned(), "2026-07-28".to_owned()];
    let message = written(b"7", Reason::UnsupportedVersion { requested: "1999-01-01".into(), supported });
    assert_eq!(message["error"]["data"]["requested"], "1999-01-01");
    assert_eq!(message["error"]["data"]["supported"], serde_json::json!(["2025-11-25", "2026-07-28"]));
    let frame = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"bar","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "foo")];
    let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let mismatch = mirror::check(&headers, frame.as_bytes(), &envelope(frame), None).unwrap_err();
    assert_eq!(
        written(b"1", mismatch.into())["error"],
        serde_json::json!({
            "code": -32020,
            "message": "header mcp-name differs from the body: it says \"foo\", the body says \"bar\"",
            "data": {"source": "shadowcat", "reason": "header_mismatch", "header": "mcp-name",
                "what": "differs from the body", "expected": "bar", "found": "foo"},
        })
    );
}

#[test]
fn without_an_id_there_is_no_member_and_never_null() {
    let mut buf = BytesMut::new();
    Reply::without_id(Reason::SessionNotFound).write(&mut buf);
    let message: serde_json::Value = serde_json::from_slice(&buf).unwrap();
    assert!(message.get("id").is_none(), "{message}");
    assert_eq!(message["jsonrpc"], "2.0");
    assert_eq!(message["error"]["data"]["reason"], "session_not_found");
}

#[test]
fn who_is_refused_by_the_server_learns_which_flag_helps() {
    let message = written(b"1", Reason::UpstreamStatus { status: 401, what: "Unauthorized".into() });
    let hint = message["error"]["data"]["hint"].as_str().unwrap();
    assert!(hint.contains("--bearer-env") && hint.contains("--header") && hint.contains("Authorization"), "{hint}");
    assert_eq!(message["error"]["data"]["status"], 401);
    let message = written(b"1", Reason::UpstreamStatus { status: 500, what: String::new() });
    assert!(message["error"]["data"].get("hint").is_none());
}

#[test]
fn status_of_a_childs_error_is_by_code_in_the_modern_era_only() {
    for (code, modern) in [
        ("-32601", 404),
        ("-32020", 400),
        ("-32021", 400),
        ("-32022", 400),
        ("-32602", 200),
        ("-32603", 200),
        ("-32600", 200),
        ("-32700", 200),
        ("-32001", 200),
        ("-32023", 200),
        ("1", 200),
        ("-32601000000000000000000000", 200),
        ("\"-32601\"", 200),
    ] {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":""}}}}"#);
        let status = |era, lacks| status_of_error(era, lacks, &envelope(&frame), frame.as_bytes()).as_u16();
        assert_eq!((status(Era::Modern, false), status(Era::Legacy, false)), (modern, 200), "{code}");
        let lacking = if code == "-32602" { 400 } else { modern };
        assert_eq!((status(Era::Modern, true), status(Era::Legacy, true)), (lacking, 200), "{code}");
    }
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    assert_eq!(status_of_error(Era::Modern, true, &envelope(result), result.as_bytes()), StatusCode::OK);
}
