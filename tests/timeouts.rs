//! Who is waited for, how long, and what becomes of it: the real program, on every link, with short limits.
//!
//! Limits are short where they are to be reached, and no test says how soon; `src/link/pipe/overdue/tests.rs` has the
//! times, on a clock that stands still.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;
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
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use legacy::Client;
use mux::{Mux, assert_refused, call, done, echoed, progress, run};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{DEADLINE, Launch, Session};
use temp::TempDir;
use upstream::Upstream;

/// A ladder that is climbed at once.
const QUICK: [&str; 4] = ["--shutdown-grace", "100ms", "--kill-after", "100ms"];
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#;

/// Asserts that this is the error of a request that took too long.
#[track_caller]
fn assert_timeout(error: &Value, id: i64, after_ms: i64) {
    let data = &error["error"]["data"];
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(id), &json!(-32603)), "{error}");
    assert_eq!((&data["reason"], &data["afterMs"]), (&json!("timeout"), &json!(after_ms)), "{error}");
    assert!(data["what"].is_string(), "{error}");
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

// --- answers -------------------------------------------------------------------------------------------------

#[test]
fn a_shared_child_is_told_of_a_call_that_took_too_long_and_others_go_on() {
    let mux = Mux::start(&["--response-timeout", "1h", "--response-timeout-for", "tools/call=200ms"]);
    // It ends with its cancellation, and what it says then is for nobody.
    assert_refused(mux.send(&run("7", r#"{"wait_cancel":true}"#).modern()), 504, -32603, &json!(7));
    assert_eq!(mux.ask(&call("7", "echo", "{}")), echoed("7", "{}"));
    let cancelled = mux.seen_with(&["notifications/cancelled"]);
    assert!(cancelled.contains("there was no answer in time"), "{cancelled}");
}

#[test]
fn a_legacy_session_is_told_so_in_its_own_ids() {
    let mux = Mux::start(&["--response-timeout", "200ms"]);
    let client = Client::start(&mux, "2025-11-25");
    let response = mux.send(&client.post(run("7", r#"{"wait_cancel":true}"#).legacy_body()));
    assert_timeout(&response.json(), 7, 200);
    let cancelled = mux.seen_with(&["notifications/cancelled"]);
    assert!(cancelled.contains(r#""requestId":7"#), "{cancelled}");
    assert_eq!(client.ask(&mux, &call("8", "echo", "{}")), echoed("8", "{}"));
}

#[test]
fn progress_keeps_a_call_of_a_child_alive() {
    let mux = Mux::start(&["--response-timeout", "5s"]);
    // Each of the steps waits for the test, so that time passes between them.
    let steps = (0..4).map(|n| format!(r#"{{"wait":"g{n}"}},{{"progress":["{n}"]}}"#)).collect::<Vec<_>>().join(",");
    let mut response = mux.send(&run("1", &format!(r#"{{"progress":["go"]}},{steps}"#)).token("\"t\"").modern());
    assert_eq!(response.data(), progress("\"t\"", 0, "go"));
    for n in 0..4 {
        // Less than the limit each time, and more than it in all.
        std::thread::park_timeout(std::time::Duration::from_millis(1500));
        mux.run(&format!(r#"{{"open":"g{n}"}}"#));
        assert_eq!(response.data(), progress("\"t\"", 0, &n.to_string()));
    }
    assert_eq!(response.data(), done("1"));
}

#[test]
fn a_posted_call_that_took_too_long_is_cancelled_and_its_exchange_closed() {
    let upstream = Upstream::start();
    let options = ["proxy", "--response-timeout-for", "tools/call=200ms"];
    let mut session = Launch::new([&options[..], &[&upstream.url]].concat()).start();
    session.send(format!("{CALL}\n{LIST}\n"));
    let (one, other) = (upstream.post(), upstream.post());
    let (silent, listed) = if one.text() == CALL { (one, other) } else { (other, one) };
    assert_timeout(&parsed(&session.stdout.line()), 7, 200);
    let cancel = upstream.post();
    let told = parsed(cancel.text());
    assert_eq!((&told["method"], &told["params"]["requestId"]), (&json!("notifications/cancelled"), &json!(7)));
    cancel.accept();
    silent.assert_cut();
    listed.json(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":8,"result":{}}"#, "it has no limit");
    assert_eq!(session.end().code, Some(0));
}

#[test]
fn a_call_that_waits_to_be_posted_has_its_time_too() {
    // Behind a notification that is not taken, and behind as many calls as may be in flight.
    for (before, max_pending) in [(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, "9"), (LIST, "1")] {
        let upstream = Upstream::start();
        let options = ["proxy", "--response-timeout-for", "tools/call=200ms", "--max-pending", max_pending];
        let mut session = Launch::new([&options[..], &[&upstream.url]].concat()).start();
        session.send(format!("{before}\n"));
        let first = upstream.post();
        session.send(format!("{CALL}\n"));
        assert_timeout(&parsed(&session.stdout.line()), 7, 200);
        // It is not posted any more, nor cancelled.
        session.send(format!("{}\n", LIST.replace('8', "9")));
        if before == LIST {
            first.json(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
            assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
        } else {
            first.accept();
        }
        let next = upstream.post();
        assert_eq!(next.text(), LIST.replace('8', "9"));
        next.json(r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
        assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
        assert_eq!(session.end().code, Some(0));
        upstream.assert_idle();
    }
}

#[test]
fn a_call_that_was_cancelled_while_it_waited_is_not_answered() {
    let upstream = Upstream::start();
    let options = ["proxy", "--response-timeout-for", "tools/call=500ms", "--max-pending", "1"];
    let mut session = Launch::new([&options[..], &[&upstream.url]].concat()).start();
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    session.send(format!("{LIST}\n{CALL}\n{cancelled}\n{}\n", CALL.replace('7', "6")));
    let first = upstream.post();
    // The other one's time passes, and so would its own.
    assert_timeout(&parsed(&session.stdout.line()), 6, 500);
    first.json(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
    assert_eq!(session.end().code, Some(0));
    upstream.assert_idle();
}

#[test]
fn comments_keep_a_posted_call_alive() {
    let upstream = Upstream::start();
    let mut session = Launch::new(["proxy", "--response-timeout", "3s", &upstream.url]).start();
    session.send(format!("{CALL}\n"));
    let mut events = upstream.post().events();
    for _ in 0..4 {
        // Less than the limit each time, and more than it in all.
        std::thread::park_timeout(std::time::Duration::from_secs(1));
        events.raw(": keep-alive\n\n");
    }
    events.message(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    events.end();
    assert_eq!(session.end().code, Some(0));
}

#[test]
fn a_relayed_call_has_the_time_of_its_method_whoever_names_it() {
    let upstream = http::Upstream::start();
    let options = ["--response-timeout", "1h", "--response-timeout-for", "tools/call=200ms"];
    let proxy = http::Proxy::start(&options, &upstream);
    for headers in ["", "mcp-method: tools/call\r\n"] {
        let mut client = proxy.connect();
        client.post(headers, CALL);
        let mut server = upstream.accept();
        let head = client.head();
        assert_eq!(head.status(), 504, "{headers}");
        let body: Value = serde_json::from_slice(&client.body(&head).unwrap()).unwrap();
        assert_eq!(body["error"]["data"]["afterMs"], 200, "{body}");
        server.await_end();
    }
}

// --- streams and bodies of HTTP servers ------------------------------------------------------------------------

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A dialled session, up to the request for its listening stream.
fn initialized(options: &[&str]) -> (Upstream, Session, upstream::Asked) {
    let upstream = Upstream::start();
    let mut session = Launch::new([&["proxy"], options, &[&upstream.url]].concat()).start();
    session.send(format!("{INITIALIZE}\n"));
    upstream.post().json(r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#);
    session.stdout.line();
    session.send(format!("{INITIALIZED}\n"));
    upstream.post().accept();
    let listening = upstream.get();
    (upstream, session, listening)
}

#[test]
fn a_listening_stream_that_does_not_begin_is_asked_for_again() {
    let (upstream, mut session, listening) = initialized(&["--sse-connect-timeout", "200ms"]);
    let again = upstream.get();
    listening.assert_cut();
    again.status(405);
    assert_eq!(session.end().code, Some(0));
}

#[test]
fn a_listening_stream_that_goes_silent_is_resumed_behind_its_last_event() {
    let (upstream, mut session, listening) = initialized(&["--sse-read-timeout", "200ms"]);
    let mut events = listening.events();
    events.raw("id: 41\nretry: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n");
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","method":"x"}"#);
    let again = upstream.get();
    assert_eq!(again.header("last-event-id"), Some("41"));
    events.assert_cut();
    again.status(405);
    assert_eq!(session.end().code, Some(0));
}

// --- who does not read -------------------------------------------------------------------------------------------

#[test]
fn a_command_that_reads_nothing_is_ended_and_whoever_waits_is_told() {
    let options = [&QUICK[..], &["--stdio-write-timeout", "300ms"]].concat();
    let mut session = Session::of_server(&options, &["sleep", "1000"]);
    // More than a pipe holds.
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"pad":"{}"}}}}"#, "x".repeat(1 << 18));
    session.send(call + "\n");
    assert_timeout(&parsed(&session.stdout.line()), 7, 300);
    let ended = session.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the server's reading of what is there for it took longer than 300 ms"));
}

#[test]
fn a_command_that_answers_after_it_was_given_up_answers_nobody() {
    let options = ["--shutdown-grace", "20s", "--stdio-write-timeout", "300ms"];
    // It has read the call by the time its input ends, and has an answer to it.
    let script = r#"sleep 1; cat >/dev/null; echo '{"jsonrpc":"2.0","id":7,"result":{}}'"#;
    let mut session = Session::of_script(&options, script);
    let pad = "x".repeat(1 << 18);
    session.send(format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"pad":"{pad}"}}}}"#) + "\n");
    assert_timeout(&parsed(&session.stdout.line()), 7, 300);
    let ended = session.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
}

#[test]
fn a_command_that_says_nothing_while_it_is_asked_is_ended_if_so_wanted() {
    let options = [&QUICK[..], &["--stdio-read-timeout", "300ms"]].concat();
    let mut session = Session::of_script(&options, "while read -r line; do :; done");
    session.send(format!("{CALL}\n"));
    assert_timeout(&parsed(&session.stdout.line()), 7, 300);
    let ended = session.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the server's next word took longer than 300 ms"), "{}", ended.stderr);
}

/// A server that floods its client once it is asked, and one that answers.
const FLOOD: &str = r#"while read -r line; do
    case "$line" in
        *tools/call*) while :; do echo '{"jsonrpc":"2.0","method":"flood"}'; done;;
        *) echo '{"jsonrpc":"2.0","id":8,"result":{}}';;
    esac
done"#;

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_others_go_on() {
    let place = TempDir::new().unwrap();
    let address = format!("unix:{}", place.join("s").display());
    let options =
        [&["proxy", "--listen", &address, "--slow-consumer", "disconnect:300ms", "--log-level", "info"], &QUICK[..]];
    let mut proxy = Launch::new([&options.concat()[..], &["--", "sh", "-c", FLOOD]].concat()).start();
    proxy.stderr.line_with("listening on ");
    let connect = || {
        let stream = UnixStream::connect(place.join("s")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    let (mut slow, mut healthy) = (connect(), connect());
    slow.write_all(format!("{CALL}\n").as_bytes()).unwrap();
    // What has not been read of it is all there is.
    proxy.stderr.line_with("took longer than 300 ms");
    let mut answers = BufReader::new(healthy.try_clone().unwrap());
    for _ in 0..3 {
        healthy.write_all(format!("{LIST}\n").as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n");
    }
    let mut rest = Vec::new();
    // Its end comes as an end or as a reset.
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "{}", rest.len());
    drop((healthy, answers));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
}
