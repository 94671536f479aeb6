//! `shadowcat proxy URL`: the listening stream, answers whose streams are cut, and sessions that the server has lost.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/dialed.rs"]
mod dialed;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::time::Duration;

use dialed::{
    INITIALIZE, INITIALIZE_RESULT, INITIALIZED, Listening, SESSION, assert_reason, call, end, listening, opened, result,
};

#[test]
fn nothing_is_asked_before_the_server_gives_the_listening_stream() {
    // What a server asks while it answers a call may come by that stream alone, and is lost if nobody has it yet. The
    // proxy waits for half a second; where the test was not there in time, it looks once more.
    let is_early = || {
        let (upstream, mut session, get) = listening(&[]);
        session.send(call(1) + "\n");
        let early = upstream.next_within(Duration::from_millis(200));
        let is_early = early.is_some();
        let mut stream = get.0.events();
        let asked = early.unwrap_or_else(|| upstream.post());
        let question = r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#;
        stream.message(question);
        assert_eq!(session.stdout.line(), question);
        asked.json(result(1));
        assert_eq!(session.stdout.line(), result(1));
        end(&upstream, session);
        is_early
    };
    assert!((0..5).any(|_| !is_early()));
}

#[test]
fn a_server_that_keeps_the_head_of_the_listening_stream_back_is_asked_all_the_same() {
    let (upstream, mut session, get) = listening(&[]);
    session.send(call(1) + "\n");
    upstream.post().json(result(1));
    assert_eq!(session.stdout.line(), result(1));
    let mut stream = get.0.events();
    stream.message(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    end(&upstream, session);
}

#[test]
fn listening_goes_on_behind_the_last_event() {
    let (upstream, mut session, Listening(get)) = listening(&[]);
    let mut events = get.events();
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    events.raw(format!("id: e7\nretry: 10\ndata: {changed}\n\n"));
    assert_eq!(session.stdout.line(), changed);
    events.end();
    let get = upstream.get();
    assert_eq!(get.header("last-event-id"), Some("e7"));
    let mut events = get.events();
    events.message(changed);
    assert_eq!(session.stdout.line(), changed);
    events.cut();
    let get = upstream.get();
    assert_eq!(get.header("last-event-id"), Some("e7"));
    get.status(405);
    end(&upstream, session);
}

#[test]
fn an_answer_that_was_cut_is_resumed_and_not_posted_again() {
    let (upstream, mut session) = opened(&[]);
    session.send(call(1) + "\n");
    let mut events = upstream.post().events();
    events.raw("id: a-1\nretry: 10\ndata: \n\n");
    events.end();
    for _ in 0..3 {
        let get = upstream.get();
        assert_eq!(get.header("last-event-id"), Some("a-1"));
        get.events().end();
    }
    let get = upstream.get();
    assert_eq!(get.header("last-event-id"), Some("a-1"));
    let mut events = get.events();
    events.message(&result(1));
    assert_eq!(session.stdout.line(), result(1));
    events.end();
    end(&upstream, session);
}

#[test]
fn an_answer_that_was_cut_without_an_id_is_lost() {
    let (upstream, mut session) = opened(&[]);
    for id in [1, 2] {
        session.send(call(id) + "\n");
        let mut events = upstream.post().events();
        events.raw("data: {\"jsonrpc\"");
        if id == 1 {
            events.end();
        } else {
            events.cut();
        }
        assert_reason(&session.stdout.line(), id, "stream_ended");
    }
    end(&upstream, session);
}

#[test]
fn a_lost_session_is_opened_anew_and_what_was_refused_goes_once_more() {
    let (upstream, mut session) = opened(&[]);
    session.send(call(1) + "\n");
    upstream.post().answer(
        404,
        "content-type: application/json\r\n",
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"x"}}"#,
    );
    let asked = upstream.post();
    assert_eq!((asked.text(), asked.header("mcp-session-id")), (INITIALIZE, None));
    session.send(call(2) + "\n");
    upstream.assert_idle();
    asked.answer(200, &SESSION.replace("one", "two"), INITIALIZE_RESULT);
    let asked = upstream.post();
    assert_eq!((asked.text(), asked.header("mcp-session-id")), (INITIALIZED, Some("two")));
    asked.accept();
    let get = upstream.get();
    assert_eq!(get.header("mcp-session-id"), Some("two"));
    get.status(405);
    let mut asked: Vec<_> = (0..2).map(|_| upstream.post()).collect();
    asked.sort_by_key(|asked| asked.body.clone());
    assert!(asked.iter().all(|asked| asked.header("mcp-session-id") == Some("two")));
    assert_eq!((asked[0].text(), asked[1].text()), (&*call(1), &*call(2)));
    // Once, and not again.
    asked.remove(0).status(404);
    assert_reason(&session.stdout.line(), 1, "session_not_found");
    asked.remove(0).json(result(2));
    assert_eq!(session.stdout.line(), result(2));
    session.stdin = None;
    let delete = upstream.delete();
    assert_eq!(delete.header("mcp-session-id"), Some("two"));
    delete.status(200);
    assert_eq!(session.wait().code, Some(0));
}

#[test]
fn where_no_new_session_comes_about_requests_get_errors() {
    let (upstream, mut session) = opened(&[]);
    session.send(call(1) + "\n");
    upstream.post().status(404);
    let asked = upstream.post();
    assert_eq!(asked.text(), INITIALIZE);
    asked.status(503);
    assert_reason(&session.stdout.line(), 1, "session_not_found");
    end(&upstream, session);
}

#[test]
fn a_listening_stream_that_was_there_and_is_gone_says_that_the_session_is() {
    let (upstream, mut session, Listening(get)) = listening(&[]);
    let mut events = get.events();
    events.raw("retry: 1\nid: 1\ndata:\n\n");
    events.end();
    upstream.get().status(404);
    let asked = upstream.post();
    assert_eq!(asked.text(), INITIALIZE);
    let mut events = asked.events();
    events.message(INITIALIZE_RESULT);
    upstream.post().accept();
    let get = upstream.get();
    // This one gave no session id; and another session has other events.
    assert_eq!((get.header("mcp-session-id"), get.header("last-event-id")), (None, None));
    get.status(405);
    session.send(call(1) + "\n");
    upstream.post().json(result(1));
    assert_eq!(session.stdout.line(), result(1));
    drop(events);
    assert_eq!(session.end().stdout, "");
    upstream.assert_idle();
}

#[test]
fn a_client_that_is_initialized_again_and_again_listens_once() {
    let (upstream, mut session, get) = listening(&[]);
    let mut stream = get.0.events();
    for id in 0..20 {
        session.send(format!("{INITIALIZED}\n{}\n", call(id)));
        let asked = upstream.post();
        assert_eq!(asked.text(), INITIALIZED);
        asked.accept();
        upstream.post().json(result(id));
        assert_eq!(session.stdout.line(), result(id));
    }
    stream.message(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    end(&upstream, session);
}
