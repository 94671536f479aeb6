//! `shadowcat proxy URL`: what is kept while answers come and requests wait is bounded, and the bounds stop nobody for ever.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::{fs, sync::mpsc, thread, time::Duration};

use support::{Launch, Session};
use upstream::{Asked, Upstream};

fn start(options: &[&str]) -> (Upstream, Session) {
    let upstream = Upstream::start();
    let session = Launch::new([&["proxy"], options, &[&upstream.url]].concat()).start();
    (upstream, session)
}

fn end(upstream: &Upstream, mut session: Session) {
    let ended = session.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    upstream.assert_idle();
}

fn call(id: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#)
}

fn result(id: usize, text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{text}"}}"#)
}

/// The most memory a process had at once, in bytes.
fn peak(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Answers with a length or in chunks, in a thread: the proxy reads when it has room.
fn answer(asked: Asked, body: String, is_chunked: bool) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        if is_chunked {
            asked.chunked_json(&body);
        } else {
            asked.json(body);
        }
    })
}

#[test]
fn long_answers_that_come_at_once_take_turns() {
    const COUNT: usize = 8;
    const MIB: usize = 1 << 20;
    let (upstream, mut session) = start(&["--max-frame-len", "9MiB", "--memory-budget", "40MiB"]);
    let text = "0123456789abcdef".repeat(8 * MIB / 16);
    for is_chunked in [false, true] {
        session.send((0..COUNT).map(|id| call(id) + "\n").collect::<String>());
        let writing: Vec<_> = (0..COUNT)
            .map(|_| {
                let asked = upstream.post();
                let id = serde_json::from_slice::<serde_json::Value>(&asked.body).unwrap()["id"].as_u64().unwrap();
                answer(asked, result(usize::try_from(id).unwrap(), &text), is_chunked)
            })
            .collect();
        let mut found = [false; COUNT];
        for _ in 0..COUNT {
            let line = session.stdout.line();
            let id = (0..COUNT).find(|&id| line == result(id, &text)).expect("an answer, byte for byte");
            assert!(!std::mem::replace(&mut found[id], true), "each once");
        }
        writing.into_iter().for_each(|writing| writing.join().unwrap());
    }
    // The program itself, what answers share, and one that has the turn; all of them would be 64 MiB.
    let peak = peak(session.pid);
    assert!(peak < 48 * MIB, "{} MiB", peak / MIB);
    end(&upstream, session);
}

#[test]
fn long_events_that_come_at_once_take_turns() {
    const COUNT: usize = 8;
    const MIB: usize = 1 << 20;
    let (upstream, mut session) = start(&["--max-frame-len", "9MiB", "--memory-budget", "40MiB"]);
    let text = "0123456789abcdef".repeat(8 * MIB / 16);
    session.send((0..COUNT).map(|id| call(id) + "\n").collect::<String>());
    let mut streams: Vec<_> = (0..COUNT)
        .map(|_| {
            let asked = upstream.post();
            let id = serde_json::from_slice::<serde_json::Value>(&asked.body).unwrap()["id"].as_u64().unwrap();
            (format!("data: {}\n\n", result(usize::try_from(id).unwrap(), &text)), asked.events())
        })
        .collect();
    // All have begun before the first goes on.
    for (event, events) in &mut streams {
        events.raw(&event.as_bytes()[..32 << 10]);
    }
    let writing: Vec<_> = streams
        .into_iter()
        .map(|(event, mut events)| {
            thread::spawn(move || {
                event.as_bytes()[32 << 10..].chunks(64 << 10).for_each(|piece| events.raw(piece));
                events.end();
            })
        })
        .collect();
    let mut found = [false; COUNT];
    for _ in 0..COUNT {
        let line = session.stdout.line();
        let id = (0..COUNT).find(|&id| line == result(id, &text)).expect("an answer, byte for byte");
        assert!(!std::mem::replace(&mut found[id], true), "each once");
    }
    writing.into_iter().for_each(|writing| writing.join().unwrap());
    let peak = peak(session.pid);
    assert!(peak < 48 * MIB, "{} MiB", peak / MIB);
    end(&upstream, session);
}

const QUESTION: &str = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}"#;

#[test]
fn answers_to_the_server_go_past_requests_that_wait() {
    let (upstream, mut session) = start(&["--max-pending", "1"]);
    session.send(call(1) + "\n");
    let mut events = upstream.post().events();
    session.send(format!("{}\n{}\n{}\n", call(2), call(3), call(4)));
    events.message(QUESTION);
    assert_eq!(session.stdout.line(), QUESTION);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#;
    session.send(format!("{cancelled}\n{note}\n{}\n", result(7, "yes")));
    // Only these, in this order: what was not sent need not be cancelled.
    for expected in [note, &result(7, "yes")] {
        let asked = upstream.post();
        assert_eq!(asked.text(), expected);
        asked.accept();
    }
    upstream.assert_idle();
    events.message(&result(1, ""));
    assert_eq!(session.stdout.line(), result(1, ""));
    events.end();
    for id in [2, 4] {
        let asked = upstream.post();
        assert_eq!(asked.text(), call(id));
        upstream.assert_idle();
        asked.json(result(id, ""));
        assert_eq!(session.stdout.line(), result(id, ""));
    }
    end(&upstream, session);
}

#[test]
fn a_server_that_takes_no_answers_is_not_read_while_it_asks_and_asks() {
    const COUNT: usize = 600;
    let (upstream, mut session) = start(&["--max-pending", "1"]);
    session.send(call(1) + "\n");
    let mut events = upstream.post().events();
    let question = |id: usize| QUESTION.replace("\"id\":7", &format!("\"id\":{id}"));
    // One is passed on; for all others there is no room, and they are answered here.
    for id in 0..=COUNT {
        events.message(&question(id));
    }
    let last = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    events.message(last);
    assert_eq!(session.stdout.line(), question(0));
    let mut stdout = std::mem::replace(&mut session.stdout, support::Output::closed());
    let (told, lines) = mpsc::channel();
    let reading = thread::spawn(move || {
        told.send(stdout.line()).unwrap();
        stdout
    });
    // Nothing of ours is taken, so nothing is read that asks for more of it.
    let first = upstream.post();
    assert!(lines.recv_timeout(Duration::from_millis(500)).is_err(), "all was read");
    first.accept();
    for _ in 1..COUNT {
        let asked = upstream.post();
        assert!(asked.text().contains("too_many_pending"));
        asked.accept();
    }
    assert_eq!(lines.recv_timeout(support::DEADLINE).unwrap(), last);
    session.stdout = reading.join().unwrap();
    session.send(result(0, "yes") + "\n");
    upstream.post().accept();
    events.message(&result(1, ""));
    assert_eq!(session.stdout.line(), result(1, ""));
    events.end();
    end(&upstream, session);
}

#[test]
fn streams_that_a_server_opens_for_notifications_are_few() {
    let (upstream, mut session) = start(&[]);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let mut open: Vec<_> = (0..20)
        .map(|_| {
            session.send(format!("{note}\n"));
            upstream.post().events()
        })
        .collect();
    let mut last = open.pop().unwrap();
    open.drain(..4).for_each(upstream::Events::assert_cut);
    // What comes by one is not lost.
    last.message(QUESTION);
    assert_eq!(session.stdout.line(), QUESTION);
    last.end();
    end(&upstream, session);
}

#[test]
fn requests_that_wait_are_refused_only_where_an_answer_may_be_behind_them() {
    let (upstream, mut session) = start(&["--max-pending", "1"]);
    session.send(call(1) + "\n");
    let mut events = upstream.post().events();
    events.message(QUESTION);
    assert_eq!(session.stdout.line(), QUESTION);
    let long = |id: usize| call(id).replace("\"x\"", &format!("\"{}\"", "x".repeat(700 << 10)));
    session.send(format!("{}\n{}\n{}\n", long(2), long(3), result(7, "yes")));
    let refused: serde_json::Value = serde_json::from_str(&session.stdout.line()).unwrap();
    assert_eq!((&refused["id"], &refused["error"]["data"]["limit"]), (&3.into(), &1.into()), "{refused}");
    let asked = upstream.post();
    assert_eq!(asked.text(), result(7, "yes"));
    asked.accept();
    // Nobody asks any more, so the next ones wait: one aside, and one unread.
    session.send(long(4) + "\n");
    events.message(&result(1, ""));
    assert_eq!(session.stdout.line(), result(1, ""));
    events.end();
    for id in [2, 4] {
        let asked = upstream.post();
        assert!(asked.text() == long(id));
        asked.json(result(id, ""));
        assert_eq!(session.stdout.line(), result(id, ""));
    }
    end(&upstream, session);
}
