//! `shadowcat proxy URL`: what is posted is what was read, and what is written is what was answered, byte for byte.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use support::{Launch, Session};
use upstream::Upstream;

/// Payloads that a parser would write back otherwise.
fn payloads() -> Vec<String> {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let mut payloads: Vec<String> = [
        "9007199254740993",
        "1.0",
        "-0",
        "1e400",
        "0.10000000000000000555",
        r#"{"z":1,"a":2,"m":{"b":1,"a":1}}"#,
        r#""\u00e9\/\u0041\ud83d\ude00""#,
        r#""\ud800""#,
        "\"\u{2028}é😀\"",
        r#"{ "spaced" :	[ 1 , 2 ] }"#,
    ]
    .map(str::to_owned)
    .into();
    payloads.push(deep);
    payloads
}

const IDS: [&str; 7] = ["0", "\"\"", "18446744073709551616", "1.0", "-1", "\"\\u0061\\/b\"", "\"é\""];

fn start() -> (Upstream, Session) {
    let upstream = Upstream::start();
    let session = Launch::new(["proxy", &upstream.url]).start();
    (upstream, session)
}

fn end(upstream: &Upstream, mut session: Session) {
    let ended = session.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    upstream.assert_idle();
}

#[test]
fn payloads_cross_unchanged_both_ways() {
    let (upstream, mut session) = start();
    for payload in payloads() {
        for id in IDS {
            let call = format!(r#"{{"jsonrpc":"2.0","extra":{payload},"method":"x","id":{id},"params":[{payload}]}}"#);
            session.send(format!("{call}\r\n"));
            let asked = upstream.post();
            assert_eq!(asked.text(), call);
            let answer = format!(r#"{{"result":{payload},"id":{id},"unknown":{payload},"jsonrpc":"2.0"}}"#);
            if payload.len() % 2 == 0 {
                asked.json(&answer);
                assert_eq!(session.stdout.line(), answer);
            } else {
                let mut events = asked.events();
                // Cut anywhere.
                let event = format!("data:{answer}\r\n\r\n").into_bytes();
                let (one, two) = event.split_at(event.len() / 2);
                events.raw(one);
                events.raw(two);
                assert_eq!(session.stdout.line(), answer);
                events.end();
            }
        }
    }
    end(&upstream, session);
}

#[test]
fn ids_that_a_server_spells_anew_come_back_as_they_were_asked() {
    let (upstream, mut session) = start();
    for (asked, answered) in [("1.0", "1"), ("\"\\u0061\\/b\"", "\"a/b\""), ("1e2", "100"), ("-0", "0")] {
        session.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{asked},\"method\":\"x\"}}\n"));
        let answer = |id: &str| format!(r#"{{"id":{id},"result":1.0}}"#).replace('{', r#"{"jsonrpc":"2.0","#);
        upstream.post().json(answer(answered));
        assert_eq!(session.stdout.line(), answer(asked));
    }
    end(&upstream, session);
}

#[test]
fn line_ends_between_tokens_become_spaces_and_nothing_else_changes() {
    let (upstream, mut session) = start();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#;
    let pretty = "{\r\n  \"jsonrpc\": \"2.0\",\n\t\"id\": 1,\n  \"result\": {\"text\": \"a\\nb\"}\n}\n";
    session.send(format!("{call}\n"));
    upstream.post().json(pretty);
    assert_eq!(session.stdout.line(), pretty.replace(['\r', '\n'], " "));
    session.send(format!("{call}\n"));
    let mut events = upstream.post().events();
    events.raw("data: {\"jsonrpc\":\"2.0\",\ndata:  \"id\":1,\r\ndata: \"result\":{}}\n\n");
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0",  "id":1, "result":{}}"#);
    events.end();
    // A CR alone fits into a line, but some readers of lines would take it for an end.
    session.send(format!("{call}\n"));
    let lone = "{\"jsonrpc\":\"2.0\",\r\"id\":1,\r\"result\":{\"text\":\"a\\rb\"}}";
    upstream.post().json(lone);
    assert_eq!(session.stdout.line(), lone.replace('\r', " "));
    end(&upstream, session);
}

#[test]
fn large_messages_cross_both_ways() {
    let (upstream, mut session) = start();
    let text = "0123456789abcdef".repeat(1 << 20);
    let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":"{text}"}}"#);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{text}"}}"#);
    for way in ["json", "events"] {
        let mut stdin = session.stdin.take().unwrap();
        let line = format!("{call}\n");
        let sending =
            std::thread::spawn(move || std::io::Write::write_all(&mut stdin, line.as_bytes()).map(|()| stdin));
        let asked = upstream.post();
        assert!(asked.body == call.as_bytes());
        session.stdin = Some(sending.join().unwrap().unwrap());
        // Nobody reads while the server writes: it has to wait, and nothing is lost.
        let body = answer.clone();
        let writing = std::thread::spawn(move || {
            if way == "json" {
                asked.json(body);
            } else {
                let mut events = asked.events();
                events.message(&body);
                events.end();
            }
        });
        assert!(session.stdout.take(answer.len()) == answer.as_bytes());
        assert_eq!(session.stdout.line(), "");
        writing.join().unwrap();
    }
    end(&upstream, session);
}

#[test]
fn batches_cross_as_they_are() {
    let (upstream, mut session) = start();
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"x"}, {"jsonrpc":"2.0","id":2,"method":"y"}]"#;
    session.send(format!("{batch}\n"));
    let asked = upstream.post();
    assert_eq!(asked.text(), batch);
    let answers = r#"[{"jsonrpc":"2.0","id":2,"result":{}} ,{"jsonrpc":"2.0","id":1,"result":{}}]"#;
    asked.json(answers);
    assert_eq!(session.stdout.line(), answers);
    session.send(format!("{batch}\n"));
    let mut events = upstream.post().events();
    events.message(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    events.end();
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    let line = session.stdout.line();
    assert!(line.starts_with(r#"{"jsonrpc":"2.0","id":1,"error""#) && line.contains("stream_ended"), "{line}");
    end(&upstream, session);
}

#[test]
fn what_is_no_message_or_too_long_is_kept_back_and_its_asker_told() {
    let upstream = Upstream::start();
    let mut session = Launch::new(["proxy", "--max-frame-len", "256", &upstream.url]).start();
    let long = "x".repeat(300);
    let call = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#);
    session.send(format!("hello\n{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":\"{long}\"}}\n"));
    let line = session.stdout.line();
    assert!(line.contains(r#""id":1,"#) && line.contains(r#""limit":256"#), "{line}");
    upstream.assert_idle();
    for (id, body) in [(2, format!(r#"{{"jsonrpc":"2.0","id":2,"result":"{long}"}}"#)), (3, "nonsense".to_owned())] {
        session.send(call(id) + "\n");
        upstream.post().json(&body);
        let line = session.stdout.line();
        let reason = if id == 2 { r#""limit":256,"at":0,"declared":336"# } else { r#""reason":"refused""# };
        let blame = format!(r#""id":{id},"error":{{"code":-32603,"#);
        assert!(line.contains(&blame) && line.contains(reason), "{line}");
    }
    session.send(call(4) + "\n");
    let mut events = upstream.post().events();
    events.raw(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":\"{long}\"}}\n\n"));
    events.end();
    let line = session.stdout.line();
    assert!(line.contains(r#""id":4,"error":{"code":-32603,"#) && line.contains(r#""limit":256"#), "{line}");
    end(&upstream, session);
}
