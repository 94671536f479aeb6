//! One rule at a time: what a shared child is asked, what each client gets to hear, what nobody does.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

use super::{super::StreamKeys, *};

const GONE: Reason = Reason::ServerExited { exit_code: Some(1), signal: None, stderr: Vec::new() };

/// A shared child's state and one way to write down what crosses it.
pub(super) struct Desk {
    pub(super) shared: Shared,
    keys: StreamKeys,
    parser: RefCell<EnvelopeParser>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::with_limits(64, 64)
    }

    pub(super) fn with_limits(max_pending: usize, max_id_len: usize) -> Self {
        Self {
            shared: Shared::new(max_pending, max_id_len),
            keys: StreamKeys::new(),
            parser: RefCell::new(EnvelopeParser::new(Limits::default())),
        }
    }

    pub(super) fn parsed(&self, text: &str) -> (Frame, Envelope) {
        let frame = Frame::new(Bytes::from(text.to_owned()));
        let envelope = self.parser.borrow_mut().parse(&frame).expect("a message");
        (frame, envelope)
    }

    /// Asks on a stream of its own, and says what the child reads.
    pub(super) fn ask(&mut self, text: &str) -> (StreamKey, String) {
        let stream = self.keys.mint();
        (stream, self.ask_on(stream, text).expect("asked"))
    }

    fn ask_on(&mut self, stream: StreamKey, text: &str) -> Result<String, serde_json::Value> {
        let (frame, envelope) = self.parsed(text);
        let asked = self.shared.ask(stream, frame, &envelope, crate::clock::now().into_std());
        asked.map(|splice| written(&splice)).map_err(|reply| json(&reply))
    }

    pub(super) fn notify(&mut self, text: &str) -> Result<String, Dropped> {
        let (frame, envelope) = self.parsed(text);
        self.shared.notify(frame, &envelope).map(|frame| String::from_utf8_lossy(&frame).into_owned())
    }

    /// What the child says, and to whom in which words it goes; true: it was the last.
    pub(super) fn hear(&mut self, text: &str) -> Result<(StreamKey, String, bool), Dropped> {
        let (frame, envelope) = self.parsed(text);
        match self.shared.hear(frame, &envelope, crate::clock::now().into_std()) {
            Heard::To { stream, splice, is_final, .. } => Ok((stream, written(&splice), is_final)),
            Heard::Drop(dropped) => Err(dropped),
        }
    }

    pub(super) fn leave(&mut self, stream: StreamKey) -> Option<String> {
        let cancel = self.shared.leave(stream, Leaving::ClientGone)?;
        let mut buf = BytesMut::new();
        cancel.write(&mut buf);
        Some(String::from_utf8(buf.into()).expect("we write text"))
    }
}

pub(super) fn written(splice: &Splice) -> String {
    String::from_utf8(splice.slices().collect::<Vec<_>>().concat()).expect("text")
}

fn json(reply: &Reply) -> serde_json::Value {
    let mut buf = BytesMut::new();
    reply.write(&mut buf);
    serde_json::from_slice(&buf).expect("we write JSON")
}

#[test]
fn rule_1_8_equal_ids_of_two_clients_are_two_requests() {
    let mut desk = Desk::new();
    let (a, asked) = desk.ask(r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
    assert_eq!(asked, r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
    let (b, asked) = desk.ask(r#"{ "id" : 1 , "method":"b"}"#);
    assert_eq!(asked, r#"{ "id" : 2 , "method":"b"}"#);
    assert_eq!(desk.hear(r#"{"id":2,"result":{}}"#), Ok((b, r#"{"id":1,"result":{}}"#.into(), true)));
    let error = r#"{"error":{"code":-1,"message":""}, "id":1}"#;
    assert_eq!(desk.hear(error), Ok((a, error.into(), true)));
    assert_eq!(desk.shared.in_flight(), 0);
}

#[test]
fn nobody_begins_a_legacy_session_with_a_child_that_others_use() {
    let mut desk = Desk::new();
    let stream = desk.keys.mint();
    for method in ["initialize", "initi\\u0061lize"] {
        let refused = desk.ask_on(stream, &format!(r#"{{"id":"i","method":"{method}","params":{{}}}}"#)).unwrap_err();
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&"i".into(), &(-32601).into()), "{refused}");
    }
    assert_eq!(desk.shared.in_flight(), 0);
}

#[test]
fn edge_case_1_each_spelling_comes_back_as_it_was() {
    let mut desk = Desk::new();
    for id in ["1", "1.0", "10e-1", "0", "-7", "9007199254740993", r#""""#, r#""1""#, r#""a\u0062\/""#, r#""é""#] {
        let (stream, asked) = desk.ask(&format!(r#"{{"method":"a","id":{id}}}"#));
        let minted = asked.trim_start_matches(r#"{"method":"a","id":"#).trim_end_matches('}').to_owned();
        assert!(minted.bytes().all(|byte| byte.is_ascii_digit()), "{minted}");
        assert_eq!(
            desk.hear(&format!(r#"{{"id":{minted},"result":1}}"#)),
            Ok((stream, format!(r#"{{"id":{id},"result":1}}"#), true))
        );
    }
}

#[test]
fn edge_case_1_the_servers_spelling_of_a_number_does_not_matter_but_a_string_is_another_id() {
    let mut desk = Desk::new();
    for spelled in ["1.0", "20e-1", "0.3E1"] {
        let (stream, _) = desk.ask(r#"{"method":"a","id":"x"}"#);
        assert_eq!(
            desk.hear(&format!(r#"{{"id":{spelled},"result":1}}"#)),
            Ok((stream, r#"{"id":"x","result":1}"#.into(), true))
        );
    }
    desk.ask(r#"{"method":"a","id":"x"}"#);
    assert_eq!(desk.hear(r#"{"id":"4","result":1}"#), Err(Dropped::Unknown));
    assert_eq!(desk.shared.in_flight(), 1);
}

#[test]
fn rule_c9_progress_goes_to_the_owner_of_the_token() {
    let mut desk = Desk::new();
    let request = |token: &str| format!(r#"{{"id":1,"method":"a","params":{{"_meta":{{"progressToken":{token}}}}}}}"#);
    let (a, _) = desk.ask(&request("7"));
    let (b, asked) = desk.ask(&request(r#""7""#));
    assert_eq!(asked, r#"{"id":2,"method":"a","params":{"_meta":{"progressToken":2}}}"#);
    let (without, _) = desk.ask(r#"{"id":1,"method":"a"}"#);
    let progress = |method: &str, token: &str| {
        format!(r#"{{"method":"notifications{method}progress","params":{{"progressToken":{token},"progress":1}}}}"#)
    };
    assert_eq!(desk.hear(&progress("/", "2")), Ok((b, progress("/", r#""7""#), false)));
    assert_eq!(desk.hear(&progress("\\/", "1.0")), Ok((a, progress("\\/", "7"), false)));
    assert_eq!(desk.hear(&progress("/", "3")), Err(Dropped::Unknown), "its client gave no token");
    assert_eq!(desk.hear(&progress("/", r#""7""#)), Err(Dropped::Unknown));
    assert_eq!(desk.hear(r#"{"method":"notifications/progress","params":{}}"#), Err(Dropped::Unattributed));
    assert!(desk.shared.facts(a).is_some_and(|facts| facts.has_progress_token && !facts.is_listen));
    assert!(desk.shared.facts(without).is_some_and(|facts| !facts.has_progress_token));
    // Edge case 33: progress after the answer.
    assert!(desk.hear(r#"{"id":1,"result":{}}"#).is_ok());
    assert_eq!(desk.hear(&progress("/", "1")), Err(Dropped::Late));
    assert_eq!(desk.shared.facts(a), None);
}

#[test]
fn rule_t6_a_subscription_is_told_its_own_changes_in_its_own_words() {
    let mut desk = Desk::new();
    let key = "io.modelcontextprotocol/subscriptionId";
    // Edge case 37: 0 and "" are ids.
    for id in ["0", r#""""#, r#""a\u002f""#, "1.50"] {
        let (other, _) = desk.ask(&format!(r#"{{"id":{id},"method":"subscriptions/listen"}}"#));
        let (stream, asked) = desk.ask(&format!(r#"{{"id":{id},"method":"subscriptions\/listen","params":{{}}}}"#));
        let minted = asked.split_once(':').and_then(|(_, rest)| rest.split_once(',')).map(|(id, _)| id.to_owned());
        let minted = minted.expect("an id");
        let told = |id: &str, method: &str| {
            format!(r#"{{"method":"notifications/{method}","params":{{"x":[],"_meta":{{"{key}":{id}}}}}}}"#)
        };
        for method in ["subscriptions/acknowledged", "tools/list_changed", "message", "vendor"] {
            assert_eq!(desk.hear(&told(&minted, method)), Ok((stream, told(id, method), false)));
        }
        let result = |id: &str| format!(r#"{{"result":{{"_meta":{{"{key}":{id}}}}},"id":{id}}}"#);
        assert_eq!(desk.hear(&result(&minted)), Ok((stream, result(id), true)));
        assert_eq!(desk.hear(&told(&minted, "tools/list_changed")), Err(Dropped::Late));
        assert!(desk.shared.facts(other).is_some_and(|facts| facts.is_listen));
    }
}

#[test]
fn rule_c1_a_server_ends_subscriptions_and_nothing_else() {
    let mut desk = Desk::new();
    let cancelled = |id: &str| {
        format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id},"reason":"requestId 1"}}}}"#)
    };
    let (listen, _) = desk.ask(r#"{"id":"l","method":"subscriptions/listen"}"#);
    let (call, _) = desk.ask(r#"{"id":"c","method":"tools/call"}"#);
    assert_eq!(desk.hear(&cancelled("1")), Ok((listen, cancelled("\"l\""), true)));
    assert_eq!(desk.hear(&cancelled("1")), Err(Dropped::Late));
    assert_eq!(desk.hear(&cancelled("2")), Err(Dropped::NotASubscription));
    assert_eq!(desk.hear(r#"{"id":1,"result":{}}"#), Err(Dropped::Late), "Q1: never both");
    assert_eq!(desk.leave(listen), None);
    assert!(desk.shared.facts(call).is_some());
}

#[test]
fn rule_c5_a_client_that_leaves_cancels_and_late_answers_go_nowhere() {
    let mut desk = Desk::new();
    let (a, _) = desk.ask(r#"{"id":"same","method":"a"}"#);
    let (b, _) = desk.ask(r#"{"id":"same","method":"a"}"#);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the client closed the stream"}}"#;
    assert_eq!(desk.leave(a).as_deref(), Some(cancel));
    assert_eq!(desk.leave(a), None);
    assert_eq!(desk.hear(r#"{"id":1,"result":{}}"#), Err(Dropped::Late));
    assert_eq!(desk.hear(r#"{"id":3,"result":{}}"#), Err(Dropped::Unknown));
    // The answer and the client's end cross: there is nothing left to cancel.
    assert!(desk.hear(r#"{"id":2,"result":{}}"#).is_ok());
    assert_eq!(desk.leave(b), None);
    assert_eq!(desk.hear(r#"{"id":2,"result":{}}"#), Err(Dropped::Late), "edge case 33: a second answer");
    assert_eq!((desk.shared.dropped().of(Dropped::Late), desk.shared.dropped().of(Dropped::Unknown)), (2, 1));
}

#[test]
fn what_a_cancellation_says_is_one_message_for_each_reason() {
    for why in [Leaving::ClientGone, Leaving::QueueFull, Leaving::TimedOut] {
        let mut desk = Desk::new();
        let (stream, _) = desk.ask(r#"{"id":1,"method":"a"}"#);
        let mut buf = BytesMut::new();
        desk.shared.leave(stream, why).expect("it was in flight").write(&mut buf);
        let envelope = EnvelopeParser::new(Limits::default()).parse(&buf).expect("a message");
        assert_eq!(envelope.kind(), Kind::Notification);
        assert_eq!(envelope.request_id().map(|id| id.of(&buf)), Some(&b"1"[..]));
        assert!(serde_json::from_slice::<serde_json::Value>(&buf).is_ok(), "{why:?}");
    }
}

#[test]
fn withdrawn_request_leaves_nothing_but_a_gap() {
    let mut desk = Desk::new();
    let (stream, _) =
        desk.ask(r#"{"id":1,"method":"a","params":{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}}"#);
    desk.shared.withdraw(stream);
    assert_eq!((desk.shared.in_flight(), desk.leave(stream)), (0, None));
    assert_eq!(desk.ask(r#"{"id":1,"method":"a"}"#).1, r#"{"id":2,"method":"a"}"#);
    assert_eq!(desk.hear(LOG), Err(Dropped::UnaskedLog), "and no ghost");
}

const LOG: &str = r#"{"method":"notifications/message","params":{"level":"info","data":"secret"}}"#;
const ASKS_FOR_LOGS: &str = r#"{"id":1,"method":"a","params":{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}}"#;

#[test]
fn rule_c10_logs_are_attributed_only_without_doubt() {
    let mut desk = Desk::new();
    desk.ask(r#"{"id":1,"method":"a"}"#);
    assert_eq!(desk.hear(LOG), Err(Dropped::UnaskedLog));
    let (a, _) = desk.ask(ASKS_FOR_LOGS);
    assert_eq!(desk.hear(LOG), Ok((a, LOG.into(), false)));
    let (b, _) = desk.ask(ASKS_FOR_LOGS);
    assert_eq!(desk.hear(LOG), Err(Dropped::AmbiguousLog), "edge case 34");
    assert!(desk.hear(r#"{"id":2,"result":{}}"#).is_ok());
    assert_eq!(desk.hear(LOG), Ok((b, LOG.into(), false)));
    // A subscription gets no logs, whatever it asked for (2.5).
    desk.ask(&ASKS_FOR_LOGS.replace(r#""a""#, r#""subscriptions/listen""#));
    assert_eq!(desk.hear(LOG), Ok((b, LOG.into(), false)));
}

#[test]
fn edge_case_34_logs_of_one_who_left_are_not_told_to_the_next() {
    let mut desk = Desk::new();
    let (a, _) = desk.ask(ASKS_FOR_LOGS);
    let (b, _) = desk.ask(ASKS_FOR_LOGS);
    assert!(desk.leave(a).is_some());
    assert_eq!(desk.hear(LOG), Err(Dropped::AmbiguousLog));
    // The child is done with it, as it says itself.
    assert_eq!(desk.hear(r#"{"id":1,"error":{"code":-1,"message":""}}"#), Err(Dropped::Late));
    assert_eq!(desk.hear(LOG), Ok((b, LOG.into(), false)));
}

#[test]
fn more_ghosts_than_can_be_remembered_end_logs_for_good() {
    let mut desk = Desk::new();
    for _ in 0..=MAX_GHOSTS {
        let (stream, _) = desk.ask(ASKS_FOR_LOGS);
        assert!(desk.leave(stream).is_some());
    }
    for minted in 1..=MAX_GHOSTS + 1 {
        assert_eq!(desk.hear(&format!(r#"{{"id":{minted},"result":{{}}}}"#)), Err(Dropped::Late));
    }
    desk.ask(ASKS_FOR_LOGS);
    assert_eq!(desk.hear(LOG), Err(Dropped::AmbiguousLog));
}

#[test]
fn rules_t5_h9_f8_what_a_server_may_not_say_goes_nowhere() {
    let mut desk = Desk::new();
    desk.ask(r#"{"id":1,"method":"a"}"#);
    for (said, dropped) in [
        (r#"{"id":1,"method":"sampling/createMessage"}"#, Dropped::ServerRequest),
        (r#"[{"id":1,"result":{}}]"#, Dropped::Batch),
        (r#"{"id":1}"#, Dropped::NotAMessage),
        (r#"{"error":{"code":-32700,"message":""}}"#, Dropped::Unattributed),
        (r#"{"id":null,"error":{"code":-32700,"message":""}}"#, Dropped::Unattributed),
        (r#"{"method":"notifications/tools/list_changed"}"#, Dropped::Unattributed),
        (r#"{"method":"notifications/cancelled"}"#, Dropped::Unattributed),
        (r#"{"method":"vendor","params":{"progressToken":1,"requestId":1}}"#, Dropped::Unattributed),
    ] {
        assert_eq!(desk.hear(said), Err(dropped), "{said}");
        assert!(desk.shared.dropped().of(dropped) > 0);
    }
    assert_eq!(desk.shared.in_flight(), 1);
}

#[test]
fn answer_that_cannot_pass_is_an_error_to_its_owner() {
    let mut desk = Desk::new();
    let (a, _) = desk.ask(r#"{"id":"x","method":"a"}"#);
    let reason = Reason::MessageTooLarge { limit: 4, at: 9, declared: None };
    assert_eq!(desk.shared.hear_refused(Kind::Request, b"1", reason.clone()), None);
    assert_eq!(desk.shared.hear_refused(Kind::Response, b"\"1\"", reason.clone()), None);
    let (to, reply) = desk.shared.hear_refused(Kind::Response, b"1", reason.clone()).expect("somebody waits");
    assert_eq!((to, &json(&reply)["id"], &json(&reply)["error"]["code"]), (a, &"x".into(), &(-32603).into()));
    assert_eq!(desk.shared.hear_refused(Kind::Response, b"1", reason), None);
    assert_eq!(desk.shared.in_flight(), 0);
}

#[test]
fn rules_t5_h4_c5_what_a_client_may_not_tell_goes_nowhere() {
    let mut desk = Desk::new();
    desk.ask(r#"{"id":1,"method":"a"}"#);
    let vendor = r#"{"method":"vendor/x","params":{"requestId":1,"progressToken":1}}"#;
    assert_eq!(desk.notify(vendor), Ok(vendor.into()));
    for (told, dropped) in [
        (r#"{"id":1,"result":{}}"#, Dropped::ClientAnswer),
        (r#"{"id":1,"error":{"code":1,"message":""}}"#, Dropped::ClientAnswer),
        (r#"[]"#, Dropped::Batch),
        (r#"{"id":1,"method":"a"}"#, Dropped::NotAMessage),
        (r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#, Dropped::ClientCancelled),
        (r#"{"method":"notifications\/cancelled","params":{"requestId":1}}"#, Dropped::ClientCancelled),
        (r#"{"method":"notifications/progress","params":{"progressToken":1}}"#, Dropped::ClientToken),
        (r#"{"method":"v","params":{"_meta":{"progressToken":1}}}"#, Dropped::ClientToken),
        (r#"{"method":"v","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#, Dropped::ClientToken),
    ] {
        assert_eq!(desk.notify(told), Err(dropped), "{told}");
    }
    assert_eq!(desk.shared.in_flight(), 1);
}

#[test]
fn refusals_carry_the_clients_id_and_the_numbers() {
    let mut desk = Desk::with_limits(1, 4);
    let refused = |desk: &mut Desk, text: &str| {
        let stream = desk.keys.mint();
        desk.ask_on(stream, text).expect_err("refused")
    };
    let long = refused(&mut desk, r#"{"id":12345,"method":"a"}"#);
    assert_eq!(
        (&long["id"], &long["error"]["data"]["limit"], &long["error"]["data"]["len"]),
        (&12345.into(), &4.into(), &5.into())
    );
    let long = refused(&mut desk, r#"{"id":1,"method":"a","params":{"_meta":{"progressToken":"abc"}}}"#);
    assert_eq!((&long["id"], &long["error"]["data"]["len"]), (&1.into(), &5.into()));
    let null = refused(&mut desk, r#"{"id":null,"method":"a"}"#);
    assert_eq!((&null["id"], &null["error"]["data"]["reason"]), (&serde_json::Value::Null, &"refused".into()));
    refused(&mut desk, r#"{"method":"a"}"#);
    let named = r#"{"id":1,"method":"a","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2}}}"#;
    assert_eq!(refused(&mut desk, named)["error"]["data"]["reason"], "refused");

    // At the limit, and one more; nothing refused before has left a trace.
    let (stream, asked) = desk.ask(&named.replace(":2}", ":1}"));
    assert_eq!(asked, named.replace(":2}", ":1}"), "its own id, minted, twice");
    let full = refused(&mut desk, r#"{"id":2,"method":"a"}"#);
    assert_eq!((&full["id"], &full["error"]["data"]["limit"]), (&2.into(), &1.into()));
    assert!(desk.ask_on(stream, r#"{"id":2,"method":"a"}"#).is_err(), "one exchange, one request");
    assert!(desk.hear(r#"{"id":1,"result":{}}"#).is_ok());
    assert_eq!(desk.ask(r#"{"id":3,"method":"a"}"#).1, r#"{"id":2,"method":"a"}"#);
}

#[test]
fn what_is_minted_stays_below_two_to_the_53() {
    let mut desk = Desk::new();
    desk.shared.next = MINTED_END - 1;
    let (stream, asked) = desk.ask(r#"{"id":1,"method":"a"}"#);
    assert_eq!(asked, r#"{"id":9007199254740991,"method":"a"}"#);
    let next = desk.keys.mint();
    assert!(desk.ask_on(next, r#"{"id":1,"method":"a"}"#).is_err());
    let answer = r#"{"id":9007199254740991,"result":{}}"#;
    assert_eq!(desk.hear(answer), Ok((stream, r#"{"id":1,"result":{}}"#.into(), true)));
}

#[test]
fn rule_t10_when_the_child_is_gone_everybody_is_told_in_order() {
    let mut desk = Desk::new();
    let (a, _) = desk.ask(r#"{"id":"a\u0062","method":"a"}"#);
    let (listen, _) = desk.ask(r#"{"id":1.0,"method":"subscriptions/listen"}"#);
    let (answered, _) = desk.ask(r#"{"id":1,"method":"a"}"#);
    let (left, _) = desk.ask(r#"{"id":1,"method":"a"}"#);
    assert!(desk.hear(r#"{"id":3,"result":{}}"#).is_ok());
    assert!(desk.leave(left).is_some());
    let orphans: Vec<Orphan> = desk.shared.child_gone(&GONE).collect();
    let expected = [(a, r#""a\u0062""#, false), (listen, "1.0", true)].map(|(stream, id, is_listen)| Orphan {
        stream,
        reply: Reply::new(RequestId::new(id.as_bytes()), GONE),
        is_listen,
    });
    assert_eq!(orphans, expected);
    assert!(orphans.iter().all(|orphan| orphan.stream != answered));
}
