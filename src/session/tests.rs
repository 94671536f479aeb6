//! Sessions without a socket: what is forwarded, what is remembered, what is answered when a side is gone.

use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

use super::*;

const DOWN: StreamKey = StreamKey::DOWNSTREAM;
const UP: StreamKey = StreamKey::UPSTREAM;
const FORWARDED_UP: Action = Action::Forward { to: UP, after: None };

fn handle(session: &mut Session, from: StreamKey, frame: &str) -> Action {
    let mut parser = EnvelopeParser::new(Limits::default());
    let envelope = parser.parse(frame.as_bytes()).expect("a message");
    let message = Message { frame: frame.as_bytes(), envelope: &envelope, elements: parser.elements() };
    session.handle(from, message, crate::clock::now().into_std())
}

/// The ids that would get an error if the server were gone now.
fn orphans(session: &mut Session) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some((to, reply)) =
        session.poll_orphan(UP, &Reason::ServerExited { exit_code: None, signal: None, stderr: Vec::new() })
    {
        assert_eq!(to, DOWN);
        let mut message = bytes::BytesMut::new();
        reply.write(&mut message);
        let message: serde_json::Value = serde_json::from_slice(&message).expect("we write JSON");
        ids.push(message["id"].to_string());
    }
    ids.sort();
    ids
}

#[test]
fn requests_wait_until_they_are_answered() {
    let mut session = Session::new(8);
    for frame in [
        r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#,
        r#"{"id":"x","jsonrpc":"2.0","method":"b"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"c"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    ] {
        assert_eq!(handle(&mut session, DOWN, frame), FORWARDED_UP);
    }
    assert!(matches!(
        handle(&mut session, UP, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        Action::Forward { to: DOWN, after: Some(_) }
    ));
    assert!(matches!(
        handle(&mut session, UP, r#"{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":""}}"#),
        Action::Forward { to: DOWN, after: Some(_) }
    ));
    // An answer nobody waits for is passed on all the same.
    assert_eq!(
        handle(&mut session, UP, r#"{"jsonrpc":"2.0","id":77,"result":{}}"#),
        Action::Forward { to: DOWN, after: None }
    );
    assert_eq!(session.pending_at(UP), 1);
    assert_eq!(orphans(&mut session), [r#""x""#]);
    assert_eq!(orphans(&mut session), [""; 0]);
}

#[test]
fn equal_ids_of_both_sides_are_two_requests() {
    let mut session = Session::new(8);
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let _ = handle(&mut session, UP, r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}"#);
    assert_eq!((session.pending_at(UP), session.pending_at(DOWN)), (1, 1));
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!((session.pending_at(UP), session.pending_at(DOWN)), (1, 0));
    assert_eq!(orphans(&mut session), ["1"]);
}

#[test]
fn who_cancelled_waits_no_more() {
    let mut session = Session::new(8);
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":"1","method":"a"}"#);
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":"2","method":"a"}"#);
    // An escape is another spelling, not another method.
    for (id, method) in [("1", "notifications/cancelled"), ("2", r"notifications\/cancelle\u0064")] {
        let cancel = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"requestId":"{id}"}}}}"#);
        assert_eq!(handle(&mut session, DOWN, &cancel), FORWARDED_UP);
    }
    let other = r#"{"jsonrpc":"2.0","method":"notifications/other","params":{"requestId":1}}"#;
    assert_eq!(handle(&mut session, DOWN, other), FORWARDED_UP);
    assert_eq!(orphans(&mut session), ["1"]);
}

#[test]
fn too_many_requests_are_refused_with_their_own_id() {
    let mut session = Session::new(1);
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
    let Action::Reply(replies) = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":2,"method":"a"}"#) else {
        panic!("refused");
    };
    assert_eq!(told(&replies), [(DOWN, 2)]);
    assert_eq!(orphans(&mut session), ["1"]);
}

/// Who is told that there is no room, and of which id.
fn told(replies: &[(StreamKey, Reply)]) -> Vec<(StreamKey, u64)> {
    let told = replies.iter().map(|(to, reply)| {
        let mut message = bytes::BytesMut::new();
        reply.write(&mut message);
        let message: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert!(message["error"]["data"]["limit"].is_u64(), "{message}");
        (*to, message["id"].as_u64().unwrap())
    });
    told.collect()
}

#[test]
fn batches_are_booked_element_by_element_and_whole_or_not_at_all() {
    let mut session = Session::new(2);
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":2,"method":"b"}]"#;
    assert_eq!(handle(&mut session, DOWN, batch), FORWARDED_UP);
    assert_eq!(session.pending_at(UP), 2);
    let _ = handle(&mut session, UP, r#"[{"jsonrpc":"2.0","id":2,"result":1}]"#);
    assert_eq!(session.pending_at(UP), 1);
    let two = r#"[{"jsonrpc":"2.0","id":3,"method":"a"},{"jsonrpc":"2.0","id":4,"method":"b"}]"#;
    let Action::Reply(replies) = handle(&mut session, DOWN, two) else { panic!("refused") };
    assert_eq!(told(&replies), [(DOWN, 3), (DOWN, 4)], "each request in it gets its error");
    assert_eq!(session.pending_at(UP), 1);
    // An answer goes down with the batch it is in; whoever waits for it must not wait for ever.
    let _ = handle(&mut session, UP, r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#);
    let mixed = r#"[{"jsonrpc":"2.0","id":9,"result":1},{"jsonrpc":"2.0","id":3,"method":"a"}]"#;
    let Action::Reply(replies) = handle(&mut session, DOWN, mixed) else { panic!("refused") };
    assert_eq!(told(&replies), [(UP, 9), (DOWN, 3)]);
    assert_eq!((session.pending_at(DOWN), session.pending_at(UP)), (0, 1));
    assert_eq!(orphans(&mut session), ["1"]);
}

#[test]
fn refused_message_is_answered_to_whoever_waits() {
    let mut session = Session::new(8);
    let reason = Reason::MessageTooLarge { limit: 4, at: 9, declared: None };
    let mut handle_refused = |from, kind, id: &str| {
        let answered = session.handle_refused(from, kind, id.as_bytes(), reason.clone());
        answered.map(|(to, _)| to)
    };
    assert_eq!(handle_refused(DOWN, Kind::Request, "1"), Some(DOWN));
    assert_eq!(handle_refused(DOWN, Kind::Other, "1"), None);
    assert_eq!(handle_refused(UP, Kind::Response, "7"), None, "nobody waits for it");
    let _ = handle(&mut session, DOWN, r#"{"jsonrpc":"2.0","id":7,"method":"a"}"#);
    let answered = session.handle_refused(UP, Kind::Response, b"7", reason);
    assert_eq!(answered.map(|(to, reply)| (to, reply.reason().code())), Some((DOWN, -32603)));
    assert_eq!(session.pending_at(UP), 0);
}
