//! `shadowcat proxy URL`: whoever goes away at whatever moment, the others learn of it, and nothing is left or sent
//! twice.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use rustix::process::Signal;
use support::{Launch, Output, Session};
use upstream::{Asked, Events, Upstream};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// How far a call has come when somebody goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    BeforeHeaders,
    MidBody,
    MidEvent,
    BetweenEvents,
    Idle,
}

const MOMENTS: [Moment; 5] =
    [Moment::BeforeHeaders, Moment::MidBody, Moment::MidEvent, Moment::BetweenEvents, Moment::Idle];

/// The call's exchange, at that moment.
enum Open {
    Asked(Asked),
    Events(Events),
    None,
}

/// A session in which a call has come so far.
fn at(moment: Moment, options: &[&str]) -> (Upstream, Session, Open) {
    let upstream = Upstream::start();
    let mut session = Launch::new([&["proxy"], options, &[&upstream.url]].concat()).start();
    session.send(format!("{INITIALIZE}\n"));
    upstream.post().answer(200, "content-type: application/json\r\nMcp-Session-Id: one\r\n", ANSWER);
    assert_eq!(session.stdout.line(), ANSWER);
    session.send(format!("{CALL}\n"));
    let mut asked = upstream.post();
    let open = match moment {
        Moment::BeforeHeaders => Open::Asked(asked),
        Moment::MidBody => {
            asked.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"js");
            Open::Asked(asked)
        }
        Moment::MidEvent | Moment::BetweenEvents => {
            let mut events = asked.events();
            // That it comes through says that the headers are there.
            events.message(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#);
            session.stdout.line();
            if moment == Moment::MidEvent {
                events.raw("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"res");
            }
            Open::Events(events)
        }
        Moment::Idle => {
            asked.json(RESULT);
            assert_eq!(session.stdout.line(), RESULT);
            Open::None
        }
    };
    (upstream, session, open)
}

#[track_caller]
fn assert_deleted(upstream: &Upstream) {
    let delete = upstream.delete();
    assert_eq!(delete.header("mcp-session-id"), Some("one"));
    delete.status(200);
}

fn assert_cut(open: Open, moment: Moment) {
    match open {
        Open::Asked(asked) => asked.assert_cut(),
        Open::Events(events) => events.assert_cut(),
        Open::None => assert_eq!(moment, Moment::Idle),
    }
}

#[test]
fn a_client_that_reads_no_more_ends_everything() {
    for moment in MOMENTS {
        let (upstream, mut session, open) = at(moment, &[]);
        session.stdout = Output::closed();
        assert_deleted(&upstream);
        assert_eq!(session.wait().code, Some(0), "{moment:?}");
        assert_cut(open, moment);
        upstream.assert_idle();
    }
}

#[test]
fn a_client_that_has_said_everything_still_gets_its_answers() {
    for moment in [Moment::BeforeHeaders, Moment::BetweenEvents, Moment::Idle] {
        let (upstream, mut session, open) = at(moment, &[]);
        session.stdin = None;
        match open {
            Open::Asked(asked) => asked.json(RESULT),
            Open::Events(mut events) => {
                events.message(RESULT);
                events.end();
            }
            Open::None => {}
        }
        if moment != Moment::Idle {
            assert_eq!(session.stdout.line(), RESULT);
        }
        assert_deleted(&upstream);
        assert_eq!(session.wait().code, Some(0), "{moment:?}");
        upstream.assert_idle();
    }
}

#[test]
fn answers_are_awaited_no_longer_than_the_drain_deadline() {
    for moment in [Moment::BeforeHeaders, Moment::MidBody, Moment::MidEvent, Moment::BetweenEvents] {
        let (upstream, mut session, open) = at(moment, &["--drain-timeout", "20ms"]);
        session.stdin = None;
        let line = session.stdout.line();
        assert!(line.contains(r#""id":1,"#) && line.contains(r#""reason":"timeout""#), "{line}");
        assert_deleted(&upstream);
        let ended = session.wait();
        assert_eq!(ended.code, Some(1), "{moment:?}: {}", ended.stderr);
        assert_cut(open, moment);
        upstream.assert_idle();
    }
}

#[test]
fn a_proxy_that_is_told_to_stop_does_so_at_once() {
    for moment in MOMENTS {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let (upstream, mut session, open) = at(moment, &[]);
            session.signal(signal);
            assert_deleted(&upstream);
            assert_eq!(session.wait().code, Some(0), "{moment:?}");
            assert_cut(open, moment);
            upstream.assert_idle();
        }
    }
}

#[test]
fn a_server_that_does_not_take_the_end_is_not_waited_for() {
    let (upstream, mut session, _open) = at(Moment::Idle, &[]);
    session.stdin = None;
    let delete = upstream.delete();
    assert_eq!(session.wait().code, Some(0));
    drop(delete);
    let (upstream, mut session, _open) = at(Moment::Idle, &[]);
    session.stdin = None;
    let delete = upstream.delete();
    session.signal(Signal::TERM);
    assert_eq!(session.wait().code, Some(0));
    drop(delete);
}

#[test]
fn a_killed_proxy_leaves_nothing_at_either_side() {
    for moment in MOMENTS {
        let (upstream, mut session, open) = at(moment, &[]);
        session.signal(Signal::KILL);
        assert_eq!(session.wait().code, None);
        assert_cut(open, moment);
        upstream.assert_idle();
    }
}

#[test]
fn a_server_that_goes_is_answered_for_and_nothing_is_posted_again() {
    for moment in MOMENTS {
        let (upstream, mut session, open) = at(moment, &[]);
        match open {
            Open::Asked(asked) => asked.cut(),
            Open::Events(events) => events.cut(),
            Open::None => {}
        }
        if moment != Moment::Idle {
            let line = session.stdout.line();
            assert!(line.contains(r#""id":1,"error""#), "{line}");
        }
        // The session goes on, by a new connection.
        session.send(format!("{CALL}\n"));
        let asked = upstream.post();
        asked.json(RESULT);
        assert_eq!(session.stdout.line(), RESULT);
        session.stdin = None;
        assert_deleted(&upstream);
        let ended = session.wait();
        assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{moment:?}: {}", ended.stderr);
        upstream.assert_idle();
    }
}

#[test]
fn a_server_that_was_never_there_is_told_of_in_the_answer_and_the_exit_code() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut session = Launch::new(["proxy", &format!("http://{address}/mcp?key=secret")]).start();
    session.send(format!("{INITIALIZE}\n{CALL}\n"));
    for id in ["\"id\":0,", "\"id\":1,"] {
        let line = session.stdout.line();
        assert!(line.contains(id) && line.contains(r#""reason":"server_unreachable""#), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
    let ended = session.wait();
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&address.to_string()) && !ended.stderr.contains("secret"), "{}", ended.stderr);
}

#[test]
fn missing_credentials_are_one_line_that_says_what_to_do() {
    let upstream = Upstream::start();
    let mut session = Launch::new(["proxy", &upstream.url]).start();
    for id in [0, 1] {
        session.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"initialize\"}}\n"));
        upstream.post().answer(401, "WWW-Authenticate: Bearer\r\n", "");
        let line = session.stdout.line();
        assert!(line.contains(r#""status":401"#) && line.contains("--bearer-env"), "{line}");
    }
    let ended = session.end();
    assert_eq!(ended.stderr.matches("--bearer-env").count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.code, Some(0));
}
