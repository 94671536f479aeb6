//! HTTP clients of 2026-07-28 in front of one child, which they share: what each of them gets, and what the
//! child gets of them. Real processes, real sockets.

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

use std::{collections::BTreeSet, thread};

use client::{Pending, Request, Response};
use mux::{Call, Mux, ask, assert_refused, call, done, echoed, modern, progress, result, run};
use serde_json::{Value, json};
use support::eventually;

/// The id by which the child knows a request, in a line it has read.
fn id_in(line: &str) -> Value {
    serde_json::from_str::<Value>(line).unwrap()["id"].clone()
}

/// A call whose answer has begun as events, of which the first is `progress`.
fn streaming(mux: &Mux, call: &Call, first: &str) -> Response {
    let mut response = mux.send(&call.modern());
    assert!(response.is_events(), "{response:?}");
    assert_eq!(response.data(), first);
    response
}

/// A call that the child has read, and that has no answer yet.
fn pending(mux: &Mux, call: &Call, words: &[&str]) -> (Pending, Value) {
    let pending = call.modern().begin(mux.address);
    let line = mux.seen_with(words);
    (pending, id_in(&line))
}

// --- one client ----------------------------------------------------------------------------------------------

#[test]
fn answer_that_comes_first_is_plain_json_with_its_own_id() {
    let mux = Mux::start(&[]);
    let ids = ["0", "-0", "\"\"", "18446744073709551616", "1.0", "1e2", r#""\u0061\ud83d\ude00""#, r#""a\/\" b""#];
    for id in ids.into_iter().chain(["\"é\u{2028}\"", "9007199254740993", "7"]) {
        let response = mux.send(&call(id, "echo", r#"{"x":1.0}"#).modern());
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
        assert_eq!(response.header("mcp-session-id"), None, "Rule G14");
        assert_eq!(response.text(), echoed(id, r#"{"x":1.0}"#));
    }
    assert_eq!(mux.pids().len(), 1, "one child for all");
}

#[test]
fn progress_arrives_while_the_call_runs_and_the_answer_ends_the_stream() {
    let mux = Mux::start(&[]);
    let steps = r#"{"progress":["a"]},{"wait":"one"},{"progress":["b","c"]},{"wait":"two"}"#;
    let mut response = mux.send(&run("1.0", steps).token(r#""t\u006f""#).modern());
    assert!(response.is_events());
    assert_eq!(response.header("x-accel-buffering"), Some("no"), "Rule H10");
    let first = response.try_event().unwrap().unwrap();
    assert_eq!((first.id, first.data), (None, progress(r#""t\u006f""#, 0, "a")), "nothing comes first (G7 is older)");
    mux.run(r#"{"open":"one"}"#);
    assert_eq!(response.data(), progress(r#""t\u006f""#, 0, "b"));
    assert_eq!(response.data(), progress(r#""t\u006f""#, 1, "c"));
    mux.run(r#"{"open":"two"}"#);
    let last = response.event().unwrap();
    assert_eq!((last.id, last.data.as_str()), (None, done("1.0").as_str()), "events of this era have no ids");
    assert_eq!(response.event(), None);
}

#[test]
fn call_without_a_word_gets_its_headers_and_a_comment() {
    let mux = Mux::start(&[]);
    let mut response = mux.send(&run("1", r#"{"wait":"end"}"#).modern());
    assert!(response.is_events());
    assert!(response.line().unwrap().starts_with(':'), "Rule H11");
    mux.run(r#"{"open":"end"}"#);
    assert_eq!(response.rest(), [done("1")]);
}

#[test]
fn errors_of_the_child_get_the_status_of_their_code() {
    let mux = Mux::start(&[]);
    for (code, status) in
        [(-32601, 404), (-32020, 400), (-32021, 400), (-32022, 400), (-32602, 200), (-32603, 200), (7, 200)]
    {
        let error = format!(r#"{{"code":{code},"message":"m"}}"#);
        let response = mux.send(&run("\"x\"", &format!(r#"{{"error":{error}}}"#)).modern());
        assert_eq!(response.status, status, "{code}");
        assert_eq!(response.text(), format!(r#"{{"jsonrpc":"2.0","id":"x","error":{error}}}"#));
    }
    let response = mux.send(&ask("1", "no/such", "").modern());
    assert_eq!((response.status, response.json()["error"]["code"].clone()), (404, json!(-32601)));
}

#[test]
fn notification_is_accepted_without_a_body_and_reaches_the_child_as_it_is() {
    let mux = Mux::start(&[]);
    let body = r#"{"params":{"z":1.0,"a":"é"},"method":"notifications/vendor","jsonrpc":"2.0"}"#;
    let response = mux.send(&modern(body).with("Mcp-Method", "notifications/vendor"));
    assert_eq!((response.status, response.text()), (202, String::new()));
    assert_eq!(mux.seen_with(&["vendor"]), body);
}

#[test]
fn cancellation_in_a_message_goes_nowhere() {
    let mux = Mux::start(&[]);
    let call = run("1", r#"{"progress":["a"]},{"wait":"end"}"#).token("1");
    let response = streaming(&mux, &call, &progress("1", 0, "a"));
    // To the child, 1 is whoever asked first.
    let body = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(mux.send(&modern(body).with("Mcp-Method", "notifications/cancelled")).status, 202);
    mux.run(r#"{"open":"end"}"#);
    assert_eq!(response.rest(), [done("1")]);
    assert!(!mux.seen().iter().any(|line| line.contains("cancelled")));
}

#[test]
fn what_an_http_client_of_this_era_may_not_send_is_refused() {
    let mux = Mux::start(&[]);
    let none = Value::Null;
    let answer = mux.send(&modern(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    assert_eq!(answer.status, 400, "Rule H4");
    let batch = format!("[{}]", call("1", "echo", "{}").modern_body());
    assert_refused(mux.send(&modern(batch)), 400, -32600, &none);
    assert_refused(mux.send(&modern("{\"jsonrpc\"")), 400, -32700, &none);
    assert_refused(mux.send(&modern("")), 400, -32700, &none);
    assert_refused(mux.send(&modern(b"{\"a\":\"\xff\"}".as_slice())), 400, -32700, &none);
    assert_refused(mux.send(&call("null", "echo", "{}").modern()), 400, -32600, &none);
    for method in ["GET", "DELETE"] {
        let request = Request::new(method).with("Accept", "text/event-stream");
        let response = mux.send(&request.with("MCP-Protocol-Version", "2026-07-28"));
        assert_eq!(response.status, 405, "{method}");
        assert!(response.header("allow").is_some_and(|allowed| allowed.contains("POST")), "{response:?}");
    }
    assert_eq!(mux.send(&call("1", "echo", "{}").modern().at("/elsewhere")).status, 404);
    assert_eq!(mux.seen(), [""; 0], "nothing of it reached a child");
}

#[test]
fn session_header_makes_no_legacy_request_of_a_modern_one() {
    let mux = Mux::start(&[]);
    for method in ["GET", "DELETE"] {
        let request = Request::new(method).with("Accept", "text/event-stream");
        let request = request.with("MCP-Protocol-Version", "2026-07-28").with("Mcp-Session-Id", "ignored");
        assert_eq!(mux.send(&request).status, 405, "{method}: rules G14 and M2");
    }
}

#[test]
fn media_types_are_checked() {
    let mux = Mux::start(&[]);
    let asked = call("\"m\"", "echo", "{}");
    let good = asked.modern();
    for accept in ["application/json", "text/event-stream", "text/html"] {
        let status = mux.send(&good.clone().but("Accept", accept)).status;
        assert_eq!(status, 406, "Rule H3: {accept}");
    }
    for media in ["text/plain", "application/jsonp", "application/x-www-form-urlencoded"] {
        let status = mux.send(&good.clone().but("Content-Type", media)).status;
        assert_eq!(status, 415, "{media}");
    }
    assert_eq!(mux.send(&good.clone().without("Content-Type")).status, 415);
    assert_eq!(mux.seen(), [""; 0]);
    for accept in ["*/*", "Text/Event-Stream;q=0.5, APPLICATION/JSON"] {
        assert_eq!(mux.send(&good.clone().but("Accept", accept)).status, 200, "{accept}");
    }
    // Without the header, anything goes (RFC 9110, 12.5.1).
    assert_eq!(mux.send(&good.clone().without("Accept")).status, 200);
    assert_eq!(mux.send(&good.but("Content-Type", "Application/JSON; charset=UTF-8")).status, 200);
}

#[test]
fn duplicate_routing_keys_are_refused() {
    let mux = Mux::start(&[]);
    let good = call("5", "echo", "{}").modern_body();
    for (once, twice) in [
        ("\"id\":5", "\"id\":5,\"id\":6"),
        ("\"method\":\"tools/call\"", r#""method":"tools/call","\u006dethod":"tools/list""#),
        ("\"name\":\"echo\"", r#""name":"echo","name":"run""#),
        ("\"params\":", r#""params":{},"params":"#),
        ("\"_meta\":", r#""_meta":{},"_meta":"#),
    ] {
        let body = good.replacen(once, twice, 1);
        assert_ne!(body, good);
        let response = mux.send(&modern(body).with("Mcp-Method", "tools/call").with("Mcp-Name", "echo"));
        assert_eq!(response.status, 400, "{twice}");
    }
    assert_eq!(mux.seen(), [""; 0]);
}

#[test]
fn body_over_the_limit_is_refused_whole() {
    let mux = Mux::start(&["--max-frame-len", "64KiB"]);
    let text = |len: usize| format!("\"{}\"", "x".repeat(len));
    let long = call("1", "echo", &text(64 << 10));
    let message = assert_refused(mux.send(&long.modern()), 413, -32600, &Value::Null);
    assert!(message.contains(&format!("{} bytes are declared", long.modern_body().len())), "{message}");
    // The same without saying so first.
    let (head, body) = (long.modern().with("Transfer-Encoding", "chunked"), long.modern_body());
    let mut pending = Pending::connect(mux.address);
    pending.write(head.parts(mux.address).0.as_bytes());
    pending.write(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    assert_eq!(pending.response().status, 413);
    let short = text(32 << 10);
    assert_eq!(mux.ask(&call("2", "echo", &short)), echoed("2", &short));
    assert_eq!(mux.seen().len(), 1);
}

// --- many clients --------------------------------------------------------------------------------------------

#[test]
fn clients_with_equal_ids_and_tokens_get_their_own() {
    let mux = Mux::start(&[]);
    let steps = |own: &str| format!(r#"{{"progress":["{own}1"]}},{{"wait":"{own}"}},{{"progress":["{own}2"]}}"#);
    let mut clients = ["a", "b", "c"].map(|own| {
        let call = run("1", &steps(own)).token("\"t\"");
        (own, streaming(&mux, &call, &progress("\"t\"", 0, &format!("{own}1"))))
    });
    for (own, response) in clients.iter_mut().rev() {
        mux.run(&format!(r#"{{"open":"{own}"}}"#));
        assert_eq!(response.data(), progress("\"t\"", 0, &format!("{own}2")));
        assert_eq!((response.data(), response.event()), (done("1"), None));
    }
    assert_eq!(mux.pids().len(), 1);
}

#[test]
fn many_clients_at_once_never_see_each_other() {
    const CALLS: usize = 40;
    let mux = Mux::start(&[]);
    thread::scope(|scope| {
        for client in 0..8 {
            let address = mux.address;
            scope.spawn(move || {
                for number in 0..CALLS {
                    let own = format!("{client}.{number}");
                    let asked = format!(r#"{{"progress":["{own}","{own}"]}},{{"result":{{"own":"{own}"}}}}"#);
                    let response = run("1", &asked).token("1").modern().send(address);
                    let expected = [0, 1].map(|at| progress("1", at, &own));
                    let answer = result("1", &format!(r#"{{"own":"{own}"}}"#));
                    assert_eq!(response.rest(), [&expected[..], &[answer]].concat());
                    let arguments = format!(r#"{{"own":"{own}"}}"#);
                    let response = call("1", "echo", &arguments).modern().send(address);
                    assert_eq!(response.text(), echoed("1", &arguments));
                }
            });
        }
    });
    let ids: Vec<Value> = mux.seen().iter().map(|line| id_in(line)).collect();
    assert_eq!(ids.len(), 8 * 2 * CALLS);
    let mut unique: Vec<u64> = ids.iter().filter_map(Value::as_u64).collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "an id is given to the child once");
}

#[test]
fn child_per_client_is_one_for_each_credential() {
    let mux = Mux::start(&["--child", "per-client"]);
    let pid = |credentials: Option<&str>| {
        let request = call("1", "pid", "{}").modern();
        let request = match credentials {
            Some(credentials) => request.with("Authorization", credentials),
            None => request,
        };
        mux.send(&request).json()["result"]["pid"].as_u64().unwrap()
    };
    let clients = [Some("Bearer a"), Some("Bearer b"), None];
    let pids = clients.map(pid);
    assert_eq!(clients.map(pid), pids);
    assert_eq!((pids.iter().collect::<BTreeSet<_>>().len(), mux.pids().len()), (3, 3));
}

#[test]
fn log_messages_reach_only_the_one_who_asked() {
    let mux = Mux::start(&[]);
    let log = |text: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{text}"}}}}"#)
    };
    let (other, _) = pending(&mux, &run("1", r#"{"log":"nobody's"},{"wait":"end"}"#), &["nobody's"]);
    let steps = r#"{"log":"mine"},{"wait":"second"},{"log":"doubtful"},{"wait":"end"}"#;
    let one = streaming(&mux, &run("1", steps).logs(), &log("mine"));
    let (two, _) = pending(&mux, &run("2", r#"{"open":"second"},{"log":"also"},{"wait":"end"}"#).logs(), &["also"]);
    mux.run(r#"{"open":"end"}"#);
    assert_eq!(one.rest(), [done("1")], "with two who asked, it could be either's");
    assert_eq!(two.response().text(), done("2"));
    assert_eq!(other.response().text(), done("1"));
}

#[test]
fn slow_reader_is_cut_off_and_stalls_nobody() {
    let mux = Mux::start(&[]);
    // What sockets and the queue take together is far less than 48 MiB.
    let steps = r#"{"progress":["a"]},{"wait":"flood"},{"flood":768},{"open":"flooded"},{"wait_cancel":true}"#;
    let mut slow = streaming(&mux, &run("\"slow\"", steps).token("1"), &progress("1", 0, "a"));
    let own = mux.seen_with(&["flood"]);
    mux.run(r#"{"open":"flood"}"#);
    // The child wrote all of it, so nobody kept it from writing.
    mux.run(r#"{"wait":"flooded"}"#);
    let cancelled = mux.seen_with(&["notifications/cancelled", &format!("\"requestId\":{}", id_in(&own))]);
    assert!(cancelled.contains("reason"), "{cancelled}");
    assert_eq!(mux.ask(&call("1", "echo", "[]")), echoed("1", "[]"));
    let broken = loop {
        match slow.try_event() {
            Ok(Some(event)) => assert!(event.data.starts_with(r#"{"jsonrpc":"2.0","method":"notifications/progress""#)),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(broken.is_some(), "its stream breaks off, so that it does not look complete");
}

#[test]
fn too_many_requests_are_refused() {
    let mux = Mux::start(&["--max-pending", "2"]);
    let waiting = ["\"a\"", "\"b\""].map(|id| pending(&mux, &run(id, &format!(r#"{{"wait":{id}}}"#)), &[id]).0);
    assert_refused(mux.send(&call("3", "echo", "{}").modern()), 503, -32603, &json!(3));
    drop(waiting);
    mux.seen_with(&["cancelled"]);
    eventually("there is room again", || mux.send(&call("3", "echo", "{}").modern()).status == 200);
}

// --- somebody leaves -----------------------------------------------------------------------------------------

#[test]
fn client_that_leaves_cancels_its_request_and_no_other() {
    let mux = Mux::start(&[]);
    let other = run("1", r#"{"progress":["a"]},{"wait":"end"}"#).token("1");
    let other = streaming(&mux, &other, &progress("1", 0, "a"));
    // Before there are headers, and in the middle of a stream.
    let (early, early_id) = pending(&mux, &run("1", r#"{"wait":"early"}"#), &["early"]);
    let late = run("1", r#"{"progress":["b"]},{"wait":"late"}"#).token("1");
    let late = streaming(&mux, &late, &progress("1", 0, "b"));
    let late_id = id_in(&mux.seen_with(&["late"]));
    drop(early);
    drop(late);
    for id in [early_id, late_id] {
        mux.seen_with(&["notifications/cancelled", &format!("\"requestId\":{id},")]);
    }
    mux.run(r#"{"wait_cancels":2},{"open":"end"}"#);
    assert_eq!(other.rest(), [done("1")]);
    assert_eq!(mux.seen().iter().filter(|line| line.contains("cancelled")).count(), 2);
}

#[test]
fn answer_after_a_cancellation_reaches_nobody() {
    let mux = Mux::start(&[]);
    let steps = r#"{"wait_cancel":true},{"progress":["late"]},{"result":{"late":true}}"#;
    let (leaving, _) = pending(&mux, &run("1", steps).token("1"), &["late"]);
    let staying = run("1", r#"{"progress":["a"]},{"wait":"end"}"#).token("1");
    let staying = streaming(&mux, &staying, &progress("1", 0, "a"));
    drop(leaving);
    mux.run(r#"{"wait_cancels":1},{"open":"end"}"#);
    assert_eq!(staying.rest(), [done("1")]);
}

#[test]
fn requests_of_a_child_that_exits_get_errors_and_the_next_one_a_new_child() {
    let mux = Mux::start(&[]);
    let (plain, _) = pending(&mux, &run("\"p\\u0061\"", r#"{"wait":"never"}"#), &["never"]);
    let begun = run("7.0", r#"{"progress":["a"]},{"wait":"never"}"#).token("1");
    let mut begun = streaming(&mux, &begun, &progress("1", 0, "a"));
    let before = mux.pids();
    let cause = mux.send(&run("0", r#"{"exit":3}"#).modern());
    let said = assert_refused(cause, 502, -32603, &json!(0));
    assert!(said.contains('3'), "{said}");
    assert_refused(plain.response(), 502, -32603, &json!("pa"));
    let error = begun.data();
    assert!(error.contains("\"id\":7.0,") && error.contains("-32603"), "{error}");
    assert_eq!(begun.event(), None);
    assert_eq!(mux.ask(&call("1", "echo", "[]")), echoed("1", "[]"));
    let after = mux.pids();
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(before, after);
}

// --- subscriptions -------------------------------------------------------------------------------------------

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// An open subscription, acknowledged.
fn listening(mux: &Mux, id: &str) -> Response {
    let mut response =
        mux.send(&ask(id, "subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#).modern());
    assert!(response.is_events(), "{response:?}");
    let members = format!(r#""notifications":{{"toolsListChanged":true}},"_meta":{{"{SUBSCRIPTION}":{id}}}"#);
    assert_eq!(response.data(), notice("subscriptions/acknowledged", &members));
    response
}

fn notice(method: &str, members: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{{members}}}}}"#)
}

#[test]
fn subscriptions_get_what_names_them_in_their_own_words() {
    let mux = Mux::start(&[]);
    let mut one = listening(&mux, "\"\"");
    let mut two = listening(&mux, "1.0");
    let mut three = listening(&mux, "1.0");
    mux.run(r#"{"notify":"notifications/tools/list_changed"}"#);
    for (response, id) in [(&mut one, "\"\""), (&mut two, "1.0"), (&mut three, "1.0")] {
        assert_eq!(response.data(), notice("tools/list_changed", &format!(r#""_meta":{{"{SUBSCRIPTION}":{id}}}"#)));
    }
    drop(one);
    mux.run(r#"{"wait_cancels":1},{"notify":"notifications/tools/list_changed"},{"end_listens":true}"#);
    for response in [two, three] {
        let meta = format!(r#""_meta":{{"{SUBSCRIPTION}":1.0}}"#);
        let end = result("1.0", &format!(r#"{{"resultType":"complete",{meta}}}"#));
        assert_eq!(response.rest(), [notice("tools/list_changed", &meta), end]);
    }
}

#[test]
fn subscription_of_a_child_that_exits_breaks_off_without_a_result() {
    let mux = Mux::start(&[]);
    let mut response = listening(&mux, "1");
    assert_eq!(mux.send(&run("2", r#"{"exit":0}"#).modern()).status, 502);
    assert!(response.try_event().is_err(), "an end without a result is a break");
}

// --- what a child may not say --------------------------------------------------------------------------------

#[test]
fn noise_and_violations_of_the_child_reach_nobody() {
    let mux = Mux::with_env(&[], &["FIXTURE_BANNER=Welcome! {not json\n\n\u{1b}[1mREADY"]);
    let lines = [
        "garbage",
        r#"{"jsonrpc":"2.0","id":999999,"result":{"whose":"?"}}"#,
        r#"{"jsonrpc":"2.0","id":"1","result":{"whose":"?"}}"#,
        r#"{"jsonrpc":"2.0","error":{"code":1,"message":"whose?"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":999999,"progress":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":$ID}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#,
        r#"[{"jsonrpc":"2.0","method":"x"}]"#,
        "42",
    ];
    let steps: Vec<String> = lines.iter().map(|line| json!({ "line": line }).to_string()).collect();
    let (other, _) = pending(&mux, &run("1", r#"{"wait":"end"}"#), &["end"]);
    assert_eq!(mux.ask(&run("1", &steps.join(","))), done("1"));
    mux.run(r#"{"open":"end"}"#);
    assert_eq!(other.response().text(), done("1"));
}

#[test]
fn answer_with_another_spelling_of_the_id_is_matched_by_its_value() {
    let mux = Mux::start(&[]);
    let line = json!({ "line": r#"{"jsonrpc":"2.0","id":$ID.0,"result":{"own":1}}"# });
    assert_eq!(mux.ask(&run("\"x\"", &format!(r#"{line},{{"never":true}}"#))), result("\"x\"", r#"{"own":1}"#));
}

#[test]
fn answer_in_a_batch_is_an_error_to_the_one_who_waits() {
    let mux = Mux::start(&[]);
    let line = json!({ "line": r#"[{"jsonrpc":"2.0","id":$ID,"result":{}}]"# });
    let response = mux.send(&run("\"x\"", &format!(r#"{line},{{"never":true}}"#)).modern());
    assert_eq!(response.json()["id"], "x");
}
