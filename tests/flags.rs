//! Flags that no other test is about: what each does, on a link where it shows. The real program, one row a flag.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/exposition.rs"]
mod exposition;
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

use std::net::{SocketAddr, TcpListener};

use exposition::Scrape;
use http::{Proxy, Upstream};
use legacy::Client;
use mux::{Mux, run};
use serde_json::Value;
use support::{Launch, Session};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;

/// A maximum of one message on its way through a pipe: what is beyond it, and what is just within.
struct Maximum {
    flag: &'static str,
    value: &'static str,
    beyond: &'static str,
    within: &'static str,
    /// Whether its sender is told, by an error of this reason. Where there is no one id, nobody can be.
    told: Option<&'static str>,
}

const MAXIMA: [Maximum; 3] = [
    Maximum {
        flag: "--max-batch-len",
        value: "2",
        beyond: r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"},{"jsonrpc":"2.0","method":"c"}]"#,
        within: r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"}]"#,
        told: None,
    },
    Maximum {
        flag: "--max-depth",
        value: "4",
        beyond: r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[[[[1]]]]}"#,
        within: r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[[[1]]]}"#,
        told: Some("refused"),
    },
    Maximum {
        flag: "--max-id-len",
        value: "8",
        beyond: r#"{"jsonrpc":"2.0","id":"1234567","method":"m"}"#,
        within: r#"{"jsonrpc":"2.0","id":"123456","method":"m"}"#,
        told: Some("refused"),
    },
];

#[test]
fn each_maximum_of_a_message_is_what_its_flag_says() {
    for Maximum { flag, value, beyond, within, told } in MAXIMA {
        let mut session = Session::of_server(&[flag, value], &["cat"]);
        session.send(format!("{beyond}\n{within}\n"));
        if let Some(reason) = told {
            let error: Value = serde_json::from_str(&session.stdout.line()).unwrap();
            assert_eq!(error["error"]["data"]["reason"], reason, "{flag}: {error}");
        }
        assert_eq!(session.stdout.line(), within, "{flag}");
        session.end();
    }
}

/// Where a proxy shows its counters, by the line it says it in.
fn shown_at(session: &mut Session) -> SocketAddr {
    let line = session.stderr.line_with("metrics at http://");
    line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).unwrap().parse().unwrap()
}

#[test]
fn pool_and_verify_are_as_they_are_switched() {
    for (options, is_pooled, is_verified) in
        [(&["--pool", "on"][..], true, false), (&["--pool", "off", "--verify"], false, true)]
    {
        let args = [&["proxy", "--metrics", "0"], options, &["--", "cat"]].concat();
        let mut session = Launch::new(args).env("SHADOWCAT_VERIFY", "false").start();
        let address = shown_at(&mut session);
        for _ in 0..3 {
            session.send(format!("{CALL}\n"));
            assert_eq!(session.stdout.line(), CALL);
        }
        let scrape = Scrape::of(address, "/metrics");
        let taken =
            ["hits", "misses"].map(|which| scrape.get(&format!("shadowcat_pool_{which}_total{{pool=\"stdio\"}}")));
        assert_eq!(taken.iter().sum::<f64>() > 0.0, is_pooled, "{options:?}: {taken:?}");
        let verified = scrape.get("shadowcat_verify_frames_total{link=\"pipe\",to=\"server\"}");
        assert_eq!(verified > 0.0, is_verified, "{options:?}: {verified}");
        session.end();
    }
}

#[test]
fn connecting_ends_after_its_time_for_whoever_waits() {
    // Whoever listens there never says a word, so that TLS is never agreed upon.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/mcp", mute.local_addr().unwrap());
    let options = ["proxy", "--listen", "127.0.0.1:0", "--connect-timeout", "200ms", &url];
    let proxy = Proxy::launch(Launch::new(options));
    let mut client = proxy.connect();
    client.post("", CALL);
    let head = client.head();
    assert_eq!(head.status(), 504, "{head:?}");
    let body: Value = serde_json::from_slice(&client.body(&head).unwrap()).unwrap();
    assert_eq!((&body["error"]["data"]["reason"], &body["error"]["data"]["afterMs"]), (&"timeout".into(), &200.into()));
    // A client on stdin is told the same, and that was all.
    let mut session = Launch::new(["proxy", "--connect-timeout", "200ms", &url]).start();
    session.send(format!("{CALL}\n"));
    let error: Value = serde_json::from_str(&session.stdout.line()).unwrap();
    assert_eq!(
        (&error["error"]["data"]["reason"], &error["error"]["data"]["afterMs"]),
        (&"timeout".into(), &200.into())
    );
    assert_eq!(session.wait().code, Some(2));
}

#[test]
fn stream_that_a_relay_asks_for_begins_in_its_time_or_not_at_all() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&["--sse-connect-timeout", "200ms"], &upstream);
    let mut client = proxy.connect();
    client.send("GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n");
    let mut silent = upstream.accept();
    let head = client.head();
    assert_eq!(head.status(), 504, "{head:?}");
    silent.await_end();
}

#[test]
fn connection_to_a_server_that_nobody_uses_is_closed_in_its_time() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&["--upstream-idle-timeout", "200ms"], &upstream);
    let mut client = proxy.connect();
    client.post("", CALL);
    let mut server = upstream.accept();
    server.head();
    server.answer_and_keep("application/json", "{}");
    assert_eq!(client.head().status(), 200);
    // Within the bound of every wait; without the flag this takes 4 s, which nobody asserts.
    server.await_end();
}

#[test]
fn silent_stream_gets_a_comment_as_often_as_asked() {
    let mux = Mux::start(&["--keep-alive", "100ms"]);
    let client = Client::start(&mux, "2025-11-25");
    let mut listening = client.get().send(mux.address);
    let mut waiting = client.post(run("7", r#"{"progress":["a"]},{"wait":"never"}"#).token("1").legacy_body());
    waiting = waiting.but("Connection", "close");
    let mut answer = waiting.send(mux.address);
    for stream in [&mut listening, &mut answer] {
        let comments = std::iter::from_fn(|| stream.line()).filter(|line| line.starts_with(':')).take(3);
        assert_eq!(comments.count(), 3);
    }
}

#[test]
fn doctor_gives_up_in_its_time() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", mute.local_addr().unwrap());
    let ended = Launch::new(["doctor", "--timeout", "1s", "--idle", "0", &url]).start().end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("not done within 1 s"), "{}", ended.stdout);
}
