//! `shadowcat proxy URL`: a client on stdin and stdout, a server over HTTP that the test plays byte by byte.

#![cfg(unix)]
#![cfg(test)]

#[path = "support/dialed.rs"]
mod dialed;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use dialed::{
    INITIALIZE, INITIALIZE_RESULT, INITIALIZED, SESSION, assert_reason, call, end, error, modern, opened, result, start,
};
use rustix::process::Signal;
use support::Session;
use upstream::{Events, Upstream};

// --- legacy --------------------------------------------------------------------------------------------------

#[test]
fn a_session_has_a_handshake_calls_and_an_end() {
    let (upstream, mut session) = start(&[]);
    session.send(format!("{INITIALIZE}\n"));
    let asked = upstream.post();
    assert_eq!(asked.text(), INITIALIZE);
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    assert_eq!((asked.header("mcp-session-id"), asked.header("mcp-protocol-version")), (None, None));
    asked.answer(200, SESSION, INITIALIZE_RESULT);
    assert_eq!(session.stdout.line(), INITIALIZE_RESULT);
    session.send(format!("{INITIALIZED}\n"));
    let asked = upstream.post();
    assert_eq!(asked.header("mcp-session-id"), Some("one"));
    assert_eq!(asked.header("mcp-protocol-version"), Some("2025-11-25"));
    asked.accept();
    upstream.get().status(405);
    session.send(call(1) + "\n");
    upstream.post().json(result(1));
    assert_eq!(session.stdout.line(), result(1));
    session.send(call(2) + "\n");
    let mut events = upstream.post().events();
    events.raw(": hello\n\nid: 1\ndata:\n\nevent: unknown\ndata: {}\n\n");
    events.message(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#);
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#);
    events.message(&result(2));
    assert_eq!(session.stdout.line(), result(2));
    events.end();
    end(&upstream, session);
}

#[test]
fn the_handshake_is_completed_before_anything_else() {
    let (upstream, mut session) = start(&[]);
    session.send(format!("{INITIALIZE}\n{INITIALIZED}\n{}\n{}\n", call(1), call(2)));
    let asked = upstream.post();
    upstream.assert_idle();
    let mut events = asked.events();
    // The stream goes on; that the answer is there is what counts.
    events.message(INITIALIZE_RESULT);
    let asked = upstream.post();
    assert_eq!(asked.text(), INITIALIZED);
    upstream.assert_idle();
    asked.accept();
    let mut methods: Vec<String> = (0..3).map(|_| upstream.next()).map(|asked| asked.method).collect();
    methods.sort();
    assert_eq!(methods, ["GET", "POST", "POST"]);
    drop(events);
    session.signal(Signal::TERM);
    assert_eq!(session.wait().code, Some(0));
}

#[test]
fn a_notification_is_taken_before_the_next_message_goes() {
    let (upstream, mut session) = opened(&[]);
    let note = |number: u32| format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{number}}}"#);
    session.send(format!("{}\n{}\n{}\n{}\n", call(1), note(1), note(2), call(2)));
    let (mut one, mut two) = (upstream.post(), upstream.post());
    if two.text() == call(1) {
        std::mem::swap(&mut one, &mut two);
    }
    assert_eq!((one.text(), two.text()), (&*call(1), &*note(1)));
    upstream.assert_idle();
    two.accept();
    let asked = upstream.post();
    assert_eq!(asked.text(), note(2));
    upstream.assert_idle();
    asked.status(400);
    let asked = upstream.post();
    assert_eq!(asked.text(), call(2));
    asked.json(result(2));
    assert_eq!(session.stdout.line(), result(2));
    one.json(result(1));
    assert_eq!(session.stdout.line(), result(1));
    end(&upstream, session);
}

#[test]
fn fifty_calls_run_side_by_side_and_each_gets_its_answer() {
    let (upstream, mut session) = opened(&[]);
    let calls: Vec<String> = (1..=50).map(call).collect();
    session.send(calls.join("\n") + "\n");
    let mut asked: Vec<_> = (0..50).map(|_| upstream.post()).collect();
    while let Some(one) = asked.pop() {
        let id = serde_json::from_slice::<serde_json::Value>(&one.body).unwrap()["id"].clone();
        one.json(result(&id));
        assert_eq!(session.stdout.line(), result(&id));
    }
    end(&upstream, session);
}

#[test]
fn no_more_requests_run_than_may_and_the_others_wait() {
    let (upstream, mut session) = opened(&["--max-pending", "2"]);
    session.send((1..=3).map(|id| call(id) + "\n").collect::<String>());
    let (one, two) = (upstream.post(), upstream.post());
    upstream.assert_idle();
    for asked in [one, two] {
        let id = serde_json::from_slice::<serde_json::Value>(&asked.body).unwrap()["id"].clone();
        asked.json(result(&id));
        assert_eq!(session.stdout.line(), result(id));
    }
    upstream.post().json(result(3));
    assert_eq!(session.stdout.line(), result(3));
    end(&upstream, session);
}

#[test]
fn servers_ask_and_clients_answer() {
    let (upstream, mut session) = opened(&[]);
    session.send(call(1) + "\n");
    let mut events = upstream.post().events();
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#;
    events.message(question);
    assert_eq!(session.stdout.line(), question);
    session.send(result(1) + "\n");
    let answer = upstream.post();
    assert_eq!(answer.text(), result(1));
    assert_eq!(answer.header("mcp-session-id"), Some("one"));
    answer.accept();
    events.message(&result(1));
    assert_eq!(session.stdout.line(), result(1));
    events.end();
    end(&upstream, session);
}

#[test]
fn cancellation_is_posted_and_the_answer_not_waited_for() {
    let (upstream, mut session) = opened(&[]);
    session.send(call(1) + "\n");
    let asked = upstream.post();
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    session.send(format!("{cancelled}\n"));
    let posted = upstream.post();
    assert_eq!(posted.text(), cancelled);
    posted.accept();
    end(&upstream, session);
    drop(asked);
}

#[test]
fn redirects_within_the_origin_are_followed_a_few_times() {
    let (upstream, mut session) = opened(&[]);
    session.send(call(1) + "\n");
    upstream.post().answer(307, "location: /else?a=b\r\n", "");
    let asked = upstream.post();
    assert_eq!((&*asked.path, asked.text()), ("/else?a=b", &*call(1)));
    asked.json(result(1));
    assert_eq!(session.stdout.line(), result(1));
    session.send(call(2) + "\n");
    for _ in 0..4 {
        upstream.post().answer(308, "location: /mcp\r\n", "");
    }
    assert_reason(&session.stdout.line(), 2, "upstream_status");
    end(&upstream, session);
}

// --- modern --------------------------------------------------------------------------------------------------

#[test]
fn modern_requests_say_in_headers_what_they_are() {
    let (upstream, mut session) = start(&[]);
    let list = modern(1, "tools/list", "");
    session.send(format!("{list}\n"));
    let asked = upstream.post();
    assert_eq!(asked.text(), list);
    assert_eq!(asked.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!((asked.header("mcp-method"), asked.header("mcp-name")), (Some("tools/list"), None));
    assert_eq!(asked.header("mcp-session-id"), None);
    let tools = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"é","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}"#;
    asked.answer(200, SESSION, tools);
    assert_eq!(session.stdout.line(), tools);
    let params = r#""name":"é","arguments":{"region":"eu"},"#;
    session.send(modern(2, "tools/call", params) + "\n");
    let asked = upstream.post();
    assert_eq!(asked.header("mcp-name"), Some("=?base64?w6k=?="));
    assert_eq!(asked.header("mcp-param-region"), Some("eu"));
    assert_eq!(asked.header("mcp-session-id"), None);
    let mut events = asked.events();
    events.message(&result(2));
    assert_eq!(session.stdout.line(), result(2));
    events.end();
    let ended = session.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    upstream.assert_idle();
}

/// A client over HTTP must reject a tool whose marks break the rules, and that client is this proxy. The list is
/// the server's, byte for byte; what is rejected is the call.
#[test]
fn a_call_of_a_tool_with_broken_marks_is_refused_and_not_posted() {
    let (upstream, mut session) = start(&[]);
    session.send(modern(1, "tools/list", "") + "\n");
    let tools = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"bad","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":""}}}},{"name":"good","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}}"#;
    upstream.post().json(tools);
    assert_eq!(session.stdout.line(), tools);
    session.send(modern(2, "tools/call", r#""name":"b\u0061d","arguments":{"a":"x"},"#) + "\n");
    let line = session.stdout.line();
    assert_reason(&line, 2, "invalid_tool");
    let error = error(&line);
    assert_eq!((&error["error"]["code"], &error["error"]["data"]["tool"]), (&(-32602).into(), &"bad".into()));
    assert_eq!(error["error"]["data"]["what"], "x-mcp-header is empty");
    // Other tools are called.
    session.send(modern(3, "tools/call", r#""name":"good","arguments":{"a":"x"},"#) + "\n");
    let asked = upstream.post();
    assert_eq!((asked.header("mcp-name"), asked.header("mcp-param-a")), (Some("good"), Some("x")));
    asked.json(result(3));
    assert_eq!(session.stdout.line(), result(3));
    let ended = session.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("bad") && ended.stderr.contains("refused"), "{}", ended.stderr);
    upstream.assert_idle();
}

#[test]
fn modern_cancellation_closes_the_exchange_and_is_not_sent() {
    let (upstream, mut session) = start(&[]);
    session.send(modern(1, "tools/call", r#""name":"t","#) + "\n" + &modern(2, "tools/call", r#""name":"t","#) + "\n");
    let (one, two) = (upstream.post(), upstream.post());
    let cancel =
        |id| format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    // One is cut before its headers, the other within its stream.
    let mut events = two.events();
    events.raw(": open\n\n");
    session.send(format!("{}\n{}\n{}\n", cancel(1), cancel(2), cancel(3)));
    one.assert_cut();
    events.assert_cut();
    session.send(modern(4, "tools/list", "") + "\n");
    upstream.post().json(result(4));
    assert_eq!(session.stdout.line(), result(4));
    assert_eq!(session.end().stdout, "");
    upstream.assert_idle();
}

#[test]
fn a_subscription_that_breaks_is_cancelled_to_the_client() {
    let (upstream, mut session) = start(&[]);
    session.send(modern("\"s\"", "subscriptions/listen", "") + "\n");
    let mut events = upstream.post().events();
    let acknowledged = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#;
    // An id is of no use: modern streams are not resumed.
    events.raw(format!("id: 1\ndata: {acknowledged}\n\n"));
    assert_eq!(session.stdout.line(), acknowledged);
    events.cut();
    let cancelled: serde_json::Value = serde_json::from_str(&session.stdout.line()).unwrap();
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], "s");
    // One that runs does not keep us from ending.
    session.send(modern(2, "subscriptions/listen", "") + "\n");
    let events = upstream.post().events();
    assert_eq!(session.end().code, Some(0));
    events.assert_cut();
    upstream.assert_idle();
}

// --- HTTP+SSE ------------------------------------------------------------------------------------------------

/// A proxy in front of a server that refused `initialize` with this status, and its stream.
fn two_endpoints(status: u16, endpoint: &str) -> (Upstream, Session, Events) {
    let (upstream, mut session) = start(&[]);
    session.send(format!("{INITIALIZE}\n"));
    upstream.post().answer(status, "content-type: text/html\r\n", "<p>no</p>");
    let get = upstream.get();
    assert_eq!((&*get.path, get.header("accept")), ("/mcp", Some("text/event-stream")));
    let mut events = get.events();
    events.raw(format!("event: endpoint\ndata: {endpoint}\n\n"));
    (upstream, session, events)
}

#[test]
fn old_servers_have_two_endpoints() {
    for status in [400, 404, 405] {
        let (upstream, mut session, mut events) = two_endpoints(status, "/messages?session=1");
        let asked = upstream.post();
        assert_eq!((&*asked.path, asked.text()), ("/messages?session=1", INITIALIZE));
        asked.answer(202, "", "Accepted");
        events.message(INITIALIZE_RESULT);
        assert_eq!(session.stdout.line(), INITIALIZE_RESULT);
        session.send(format!("{INITIALIZED}\n{}\n{}\n", call("1.0"), call(1)));
        for _ in 0..3 {
            upstream.post().accept();
        }
        // Bytes first, then values, if the server writes ids anew.
        events.message(&result(1));
        assert_eq!(session.stdout.line(), result(1));
        events.message(&result(1));
        assert_eq!(session.stdout.line(), result("1.0"));
        session.send(call(1) + "\n");
        upstream.post().accept();
        session.stdin = None;
        // The end of input waits for what was asked.
        events.message(&result(1));
        let ended = session.wait();
        assert_eq!((ended.code, ended.stdout), (Some(0), result(1) + "\n"), "{}", ended.stderr);
        events.assert_cut();
        upstream.assert_idle();
    }
}

#[test]
fn the_end_of_the_one_stream_ends_the_session() {
    let (upstream, mut session, mut events) = two_endpoints(405, "m");
    let asked = upstream.post();
    assert_eq!(asked.path, "/m");
    asked.accept();
    events.message(INITIALIZE_RESULT);
    assert_eq!(session.stdout.line(), INITIALIZE_RESULT);
    session.send(call(1) + "\n");
    upstream.post().accept();
    events.end();
    assert_reason(&session.stdout.line(), 1, "stream_ended");
    assert_eq!(session.wait().code, Some(1));
}

#[test]
fn an_endpoint_elsewhere_is_not_used() {
    let (upstream, mut session, events) = two_endpoints(404, "http://127.0.0.2:9/messages");
    assert_reason(&session.stdout.line(), 0, "upstream_status");
    events.assert_cut();
    assert_eq!(session.end().code, Some(0));
    upstream.assert_idle();
}

#[test]
fn a_refusal_in_json_rpc_is_an_answer_and_no_sign_of_age() {
    let (upstream, mut session) = start(&[]);
    let refused =
        r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32022,"message":"x","data":{"supported":["2026-07-28"]}}}"#;
    session.send(format!("{INITIALIZE}\n"));
    upstream.post().answer(400, "content-type: application/json\r\n", refused);
    assert_eq!(session.stdout.line(), refused);
    assert_eq!(session.end().code, Some(0));
    upstream.assert_idle();
}

// --- errors --------------------------------------------------------------------------------------------------

#[test]
fn http_errors_become_answers() {
    let (upstream, mut session) = opened(&[]);
    let json = "content-type: application/json\r\n";
    let mut id = 0;
    let mut refused = |status: u16, headers: &str, body: &str| {
        id += 1;
        session.send(call(id) + "\n");
        upstream.post().answer(status, headers, body.replace("ID", &id.to_string()));
        session.stdout.line()
    };
    let own = r#"{"jsonrpc":"2.0", "id":ID,"error":{"code":-32601,"message":"\u00e9"},"x":1e400}"#;
    assert_eq!(refused(400, json, own), own.replace("ID", "1"), "its own id: as it is");
    let line = refused(400, json, r#"{"jsonrpc":"2.0","error":{"code":-32020, "message":"m"}}"#);
    assert_eq!(line, r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32020, "message":"m"}}"#, "without: gets it");
    for (index, (status, headers, body)) in [
        (500, "content-type: text/html\r\n", "<h1>oh</h1>"),
        (503, "", ""),
        (200, "content-type: text/html\r\n", "<h1>welcome</h1>"),
        (200, "content-type: application/json\r\ncontent-encoding: gzip\r\n", "\u{1f}"),
        (202, "", ""),
        (302, "location: /else\r\n", ""),
        (307, "location: http://127.0.0.2:9/else\r\n", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let line = refused(status, headers, body);
        assert_reason(&line, i32::try_from(index).unwrap() + 3, "upstream_status");
        assert_eq!(error(&line)["error"]["data"]["status"], status);
    }
    end(&upstream, session);
}
