//! One session and its child without a socket, rule by rule (MCP 2025-03-26 to 2025-11-25, Base protocol and Transports).

use std::time::Duration;

use shadowcat_codecs::{
    Limits,
    envelope::{EnvelopeParser, Kind},
};

use super::{super::Reply, *};

const A: StreamKey = StreamKey::new(10);
const B: StreamKey = StreamKey::new(11);
const C: StreamKey = StreamKey::new(12);
const GET: StreamKey = StreamKey::new(20);
const GET2: StreamKey = StreamKey::new(21);

pub(super) struct Desk {
    pub(super) session: Owned,
    pub(super) now: Instant,
}

impl Desk {
    pub(super) fn new(dialect: Dialect, limits: OwnedLimits) -> Self {
        let now = crate::clock::now().into_std();
        Self { session: Owned::new(dialect, limits, now), now }
    }

    /// A session in which `version` was agreed on.
    fn running(version: &str) -> Self {
        let mut desk = Self::new(Dialect::Streamable, OwnedLimits::default());
        desk.initialize(version);
        desk
    }

    pub(super) fn initialize(&mut self, version: &str) {
        let first = StreamKey::new(2);
        assert_eq!(self.post(first, &ask("0", "initialize")), Ok(Posted::Asked));
        self.hear(&format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"{version}"}}}}"#));
        let _ = self.post(StreamKey::new(3), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!((self.session.phase(), self.session.version()), (Phase::Running, Some(version)));
        self.outputs();
    }

    pub(super) fn post(&mut self, exchange: StreamKey, frame: &str) -> Result<Posted, Reply> {
        let mut parser = EnvelopeParser::new(Limits::default());
        let envelope = parser.parse(frame.as_bytes()).unwrap();
        let frame = Bytes::from(frame.to_owned());
        self.session.post(exchange, &frame, &envelope, parser.elements(), self.now)
    }

    pub(super) fn hear(&mut self, frame: &str) {
        let mut parser = EnvelopeParser::new(Limits::default());
        let envelope = parser.parse(frame.as_bytes()).unwrap();
        let frame = Bytes::from(frame.to_owned());
        self.session.hear(&frame, &envelope, parser.elements(), self.now);
    }

    /// All outputs in words, but for what is only counted: `child FRAME`, `CONNECTION[/STREAM][#EVENT] FRAME[ end]`, `close CONNECTION`.
    pub(super) fn outputs(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_output()).filter_map(|output| in_words(&output)).collect()
    }

    fn heard(&mut self, frame: &str) -> Vec<String> {
        self.hear(frame);
        self.outputs()
    }

    fn posted(&mut self, exchange: StreamKey, frame: &str) -> Vec<String> {
        let _ = self.post(exchange, frame).unwrap();
        self.outputs()
    }

    fn refused(&mut self, exchange: StreamKey, frame: &str) -> serde_json::Value {
        let reply = self.post(exchange, frame).unwrap_err();
        assert_eq!(self.outputs(), [""; 0], "what is refused goes nowhere");
        serde_json::from_slice(&self.session.written(|message| reply.write(message))).unwrap()
    }
}

fn in_words(output: &Output) -> Option<String> {
    let text = |frame: &Bytes| String::from_utf8_lossy(frame).into_owned();
    Some(match output {
        Output::Erred(_) => return None,
        Output::ToChild(frame) => format!("child {}", text(frame)),
        Output::Close { connection } => format!("close {}", connection.number()),
        Output::Deliver(Delivery { to, stream, frame, event, ends, .. }) => {
            let stream = if stream == to { String::new() } else { format!("/{}", stream.number()) };
            let event = event.map_or(String::new(), |event| format!("#{event}"));
            format!("{}{stream}{event} {}{}", to.number(), text(frame), if *ends { " end" } else { "" })
        }
    })
}

pub(super) fn ask(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}

pub(super) fn answer(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

fn ask_with_token(id: &str, token: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}}}}}}"#)
}

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    )
}

pub(super) fn cancel(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

const LOG: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const NOTHING: [&str; 0] = [];

/// Rule H6; promise 3.
#[test]
fn each_answer_goes_to_its_own_post_in_any_order() {
    let mut desk = Desk::running("2025-06-18");
    for (stream, id) in [(A, "1"), (B, "\"1\""), (C, "1.50")] {
        assert_eq!(desk.posted(stream, &ask(id, "tools/call")), [format!("child {}", ask(id, "tools/call"))]);
    }
    assert_eq!(desk.heard(&answer("1.50")), [format!("12 {} end", answer("1.50"))]);
    assert_eq!(desk.heard(&answer("1")), [format!("10 {} end", answer("1"))]);
    let error = r#"{"jsonrpc":"2.0","id":"1","error":{"code":-1,"message":""}}"#;
    assert_eq!(desk.heard(error), [format!("11 {error} end")]);
    assert_eq!(desk.heard(&answer("1")), NOTHING, "a second answer is nobody's");
    assert_eq!(desk.session.counts().late, 1);
    assert_eq!(desk.session.waiting(), (0, 0));
}

/// Edge case 1: matched by value only as a fallback, and the client's spelling is put back.
#[test]
fn answer_in_another_spelling_gets_the_clients_own_back() {
    let mut desk = Desk::running("2025-03-26");
    let _ = desk.posted(A, &ask("1.0", "a"));
    let _ = desk.posted(B, &ask("1", "a"));
    let _ = desk.posted(C, &ask_with_token("\"a/b\"", "\"t/1\""));
    assert_eq!(desk.heard(&answer("1")), [format!("11 {} end", answer("1"))], "bytes come first");
    assert_eq!(desk.heard(&answer("1")), [format!("10 {} end", answer("1.0"))]);
    assert_eq!(desk.heard(&progress(r#""t\/1""#)), [format!("12#12-0 {}", progress("\"t/1\""))]);
    let batch = format!("[{}]", answer(r#""a\/b""#));
    assert_eq!(desk.heard(&batch), [format!("12#12-1 {} end", answer("\"a/b\""))]);
}

/// Rule F4: an id in flight is refused, with its own POST and nowhere else.
#[test]
fn id_in_flight_is_refused() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask("1", "a"));
    let refused = desk.refused(B, &ask("1", "b"));
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&1.into(), &(-32600).into()));
    assert_eq!(desk.heard(&answer("1")).len(), 1);
    assert_eq!(desk.posted(B, &ask("1", "b")).len(), 1);
}

#[test]
fn requests_are_bounded() {
    let mut desk = Desk::new(Dialect::Streamable, OwnedLimits { max_pending: 1, ..OwnedLimits::default() });
    desk.initialize("2025-03-26");
    let batch = format!("[{},{}]", ask("1", "a"), ask("2", "a"));
    let refused = desk.refused(A, &batch);
    assert_eq!((refused.get("id"), &refused["error"]["data"]["limit"]), (None, &1.into()));
    assert_eq!(desk.session.waiting(), (0, 0), "all or none");
    let _ = desk.posted(B, &ask("1", "a"));
    assert_eq!(desk.refused(C, &ask("2", "a"))["id"], 2);
    assert_eq!(desk.heard(&ask("7", "ping")).len(), 1);
    let refused = desk.heard(&ask("8", "ping"));
    assert!(refused.len() == 1 && refused[0].starts_with(r#"child {"jsonrpc":"2.0","id":8,"error""#), "{refused:?}");
}

/// Rule C9; edge case 33: not after the answer.
#[test]
fn progress_goes_to_the_post_with_its_token() {
    let mut desk = Desk::running("2025-11-25");
    let _ = desk.posted(A, &ask_with_token("1", "7"));
    let _ = desk.posted(B, &ask_with_token("2", "\"7\""));
    desk.session.listen(GET, desk.now).unwrap();
    let escaped = progress("\"7\"").replace("notifications/", "notifications\\/");
    assert_eq!(desk.heard(&escaped), [format!("11#11-0 {escaped}")]);
    assert_eq!(desk.heard(&progress("7")), [format!("10#10-0 {}", progress("7"))]);
    assert_eq!(desk.heard(&answer("1")), [format!("10#10-1 {} end", answer("1"))]);
    assert_eq!(desk.heard(&progress("7")), NOTHING);
    assert_eq!(desk.session.counts().late, 1);
}

/// Rules G2, G3 and H8.
#[test]
fn what_names_no_request_goes_to_one_stream_by_what_it_is() {
    let mut desk = Desk::running("2025-06-18");
    desk.session.listen(GET, desk.now).unwrap();
    assert_eq!(desk.heard(&ask("1", "roots/list")), [format!("20#20-0 {}", ask("1", "roots/list"))]);
    let _ = desk.posted(A, &ask("1", "a"));
    assert_eq!(desk.heard(&ask("2", "roots/list")), [format!("10#10-0 {}", ask("2", "roots/list"))]);
    assert_eq!(desk.heard(LOG), [format!("10#10-1 {LOG}")]);
    assert_eq!(desk.heard(CHANGED), [format!("20#20-1 {CHANGED}")]);
    let _ = desk.posted(B, &ask("2", "a"));
    assert_eq!(desk.heard(&ask("3", "roots/list")), [format!("20#20-2 {}", ask("3", "roots/list"))]);
    assert_eq!(desk.heard(LOG), [format!("20#20-3 {LOG}")]);
    desk.session.listen(GET2, desk.now).unwrap();
    assert_eq!(desk.heard(CHANGED), [format!("21#21-0 {CHANGED}")], "the newest");
    desk.session.closed(GET2, desk.now);
    assert_eq!(desk.heard(CHANGED), [format!("20#20-4 {CHANGED}")]);
    desk.session.closed(GET, desk.now);
    assert_eq!(desk.heard(CHANGED), NOTHING);
    assert_eq!(desk.session.held(), 1);
    let _ = desk.heard(&answer("2"));
    assert_eq!(desk.heard(CHANGED), [format!("10#10-3 {CHANGED}")], "the client is there, and the only stream is it");
}

/// Rule G2: no answers on a listening stream.
#[test]
fn answers_nobody_asked_for_go_nowhere() {
    let mut desk = Desk::running("2025-06-18");
    desk.session.listen(GET, desk.now).unwrap();
    let nameless = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":""}}"#;
    assert_eq!(desk.heard(&answer("9")), NOTHING);
    assert_eq!(desk.heard(nameless), NOTHING);
    assert_eq!(desk.heard("7"), NOTHING);
    let _ = desk.posted(A, &ask("1", "a"));
    assert_eq!(desk.heard(nameless), [format!("10#10-0 {nameless}")], "it does not end the POST: nothing was answered");
    assert_eq!(desk.heard(&answer("1")), [format!("10#10-1 {} end", answer("1"))]);
}

#[test]
fn what_is_held_back_goes_out_in_order_when_a_stream_opens() {
    let mut desk = Desk::running("2025-06-18");
    for frame in [CHANGED, &ask("1", "ping"), LOG] {
        assert_eq!(desk.heard(frame), NOTHING);
    }
    assert_eq!(desk.posted(A, &ask("1", "a")).len(), 1, "a POST that came later is none of theirs");
    desk.session.listen(GET, desk.now).unwrap();
    let expected = [format!("20#20-0 {CHANGED}"), format!("20#20-1 {}", ask("1", "ping")), format!("20#20-2 {LOG}")];
    assert_eq!(desk.outputs(), expected);
    assert_eq!(desk.session.next_timeout(), None);
}

#[test]
fn what_one_of_several_posts_asks_goes_to_the_one_that_is_left() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask("1", "a"));
    let _ = desk.posted(B, &ask("2", "a"));
    assert_eq!(desk.heard(&ask("9", "sampling/createMessage")), NOTHING);
    let expected = [format!("10 {} end", answer("1")), format!("11#11-0 {}", ask("9", "sampling/createMessage"))];
    assert_eq!(desk.heard(&answer("1")), expected);
}

#[test]
fn held_request_gets_an_error_in_the_end() {
    let mut desk = Desk::running("2025-06-18");
    assert_eq!(desk.heard(&ask("\"q\"", "roots/list")), NOTHING);
    assert_eq!(desk.heard(CHANGED), NOTHING);
    let at = desk.session.next_timeout().unwrap();
    desk.session.handle_timeout(at - Duration::from_millis(1));
    assert_eq!(desk.outputs(), NOTHING);
    desk.session.handle_timeout(at);
    let outputs = desk.outputs();
    assert!(outputs.len() == 1 && outputs[0].starts_with(r#"child {"jsonrpc":"2.0","id":"q","error""#), "{outputs:?}");
    assert_eq!((desk.session.held(), desk.session.waiting()), (1, (0, 0)));
    assert_eq!(desk.posted(A, &answer("\"q\"")), NOTHING, "the child was told already");
}

#[test]
fn what_is_held_back_is_bounded_and_requests_outlive_notifications() {
    let limits = OwnedLimits { max_held: 2, max_held_bytes: 150, ..OwnedLimits::default() };
    let mut desk = Desk::new(Dialect::Streamable, limits);
    desk.initialize("2025-06-18");
    for frame in [CHANGED, &ask("1", "ping"), LOG] {
        assert_eq!(desk.heard(frame), NOTHING);
    }
    assert_eq!((desk.session.held(), desk.session.counts().overflowed), (2, 1));
    assert_eq!(desk.heard(&ask("2", "ping")), NOTHING);
    assert_eq!(desk.session.counts().overflowed, 2);
    let outputs = desk.heard(&ask("3", "ping"));
    assert!(outputs.len() == 1 && outputs[0].contains("hold_full"), "{outputs:?}");
    assert_eq!(desk.heard(LOG), NOTHING);
    assert_eq!((desk.session.held(), desk.session.counts().overflowed), (2, 3));
    desk.session.listen(GET, desk.now).unwrap();
    assert_eq!(desk.outputs(), [format!("20#20-0 {}", ask("1", "ping")), format!("20#20-1 {}", ask("2", "ping"))]);
}

/// Only outstanding ids; Rules H5 and C3: the others are accepted and go nowhere.
#[test]
fn clients_answer_reaches_the_child_once() {
    let mut desk = Desk::running("2025-03-26");
    desk.session.listen(GET, desk.now).unwrap();
    let _ = desk.heard(&ask("1", "roots/list"));
    let _ = desk.heard(&ask("\"a/b\"", "ping"));
    assert_eq!(desk.posted(A, &answer("2")), NOTHING);
    let batch = format!("[{}, {}, {}]", answer("1"), answer("2"), answer(r#""a\/b""#));
    let expected = [format!("child {}", answer("1")), format!("child {}", answer("\"a/b\""))];
    assert_eq!(desk.posted(A, &batch), expected);
    assert_eq!(desk.posted(A, &answer("1")), NOTHING);
    assert_eq!(desk.session.waiting(), (0, 0));
}

/// Rules C1, C3: the POST ends, a late answer is nobody's, and the id is not given to another meanwhile.
#[test]
fn cancelled_request_ends_its_post() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask_with_token("1", "7"));
    assert_eq!(desk.posted(B, &cancel("1")), [format!("child {}", cancel("1")), "close 10".to_owned()]);
    assert_eq!(desk.heard(&progress("7")), NOTHING);
    assert_eq!(desk.refused(C, &ask("1", "a"))["error"]["code"], -32600);
    assert_eq!(desk.heard(&answer("1")), NOTHING);
    assert_eq!(desk.posted(C, &ask("1", "a")).len(), 1);
    assert_eq!(desk.posted(B, &cancel("99")), [format!("child {}", cancel("99"))], "unknown ids pass");
}

/// Rule C2.
#[test]
fn initialize_cannot_be_cancelled() {
    let mut desk = Desk::new(Dialect::Streamable, OwnedLimits::default());
    let _ = desk.posted(A, &ask("0", "initialize"));
    assert_eq!(desk.posted(B, &cancel("0")).len(), 1);
    assert_eq!(desk.heard(&answer("0")), [format!("10 {} end", answer("0"))]);
}

/// Rule C1 in the other direction.
#[test]
fn childs_cancellation_follows_its_request() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask("1", "a"));
    let _ = desk.heard(&ask("5", "sampling/createMessage"));
    desk.session.listen(GET, desk.now).unwrap();
    let _ = desk.posted(B, &ask("2", "a"));
    assert_eq!(desk.heard(&cancel("5")), [format!("10#10-1 {}", cancel("5"))]);
    assert_eq!(desk.posted(C, &answer("5")), NOTHING, "they crossed");
    desk.session.closed(GET, desk.now);
    let _ = desk.heard(&ask("6", "ping"));
    assert_eq!(desk.heard(&cancel("6")), NOTHING);
    assert_eq!((desk.session.held(), desk.session.waiting()), (0, (2, 0)), "both are dropped");
}

/// Rules V1, V2 and edge case 27.
#[test]
fn version_comes_from_the_result_and_initialize_once() {
    let mut desk = Desk::new(Dialect::Streamable, OwnedLimits::default());
    assert_eq!(desk.session.phase(), Phase::New);
    let first = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let _ = desk.posted(A, first);
    assert_eq!((desk.session.phase(), desk.session.version()), (Phase::Initializing, None));
    assert_eq!(desk.refused(B, &ask("2", "initialize"))["error"]["code"], -32600);
    let _ = desk.heard(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":""}}"#);
    assert_eq!(desk.session.phase(), Phase::New, "it may be tried again");
    desk.initialize("2025-03-26");
    assert!(desk.session.check_version(None).is_ok());
    assert!(desk.session.check_version(Some(b"2025-03-26")).is_ok());
    assert!(desk.session.check_version(Some(b"2025-11-25")).is_err());
}

/// Rules G5, G6, G8: away is not gone.
#[test]
fn client_that_comes_back_gets_what_it_missed_and_the_rest() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask_with_token("1", "7"));
    let _ = desk.posted(B, &ask("2", "a"));
    assert_eq!(desk.heard(&progress("7")), [format!("10#10-0 {}", progress("7"))]);
    desk.session.closed(A, desk.now);
    assert_eq!(desk.heard(&progress("7")), NOTHING);
    let resumed = desk.session.resume(b"10-0", GET, desk.now).unwrap();
    assert_eq!(resumed, Resumed { stream: A, lost: 0, is_live: true });
    assert_eq!(desk.outputs(), [format!("20/10#10-1 {}", progress("7"))]);
    // The connection breaks without anybody telling us.
    assert_eq!(desk.heard(&progress("7")), [format!("20/10#10-2 {}", progress("7"))]);
    desk.session.resume(b"10-1", GET2, desk.now).unwrap();
    assert_eq!(desk.outputs(), ["close 20".to_owned(), format!("21/10#10-2 {}", progress("7"))]);
    assert_eq!(desk.heard(&answer("1")), [format!("21/10#10-3 {} end", answer("1"))]);
    let resumed = desk.session.resume(b"10-2", C, desk.now).unwrap();
    assert_eq!(resumed, Resumed { stream: A, lost: 0, is_live: false });
    assert_eq!(desk.outputs(), [format!("12/10#10-3 {}", answer("1")), "close 12".to_owned()]);
    assert_eq!(desk.session.resume(b"10-3", C, desk.now), Err(ResumeError::Over));
    assert_eq!(desk.session.resume(b"10-9", C, desk.now), Err(ResumeError::Unknown));
}

/// Rule G8, where there is nothing to come back with.
#[test]
fn answer_for_a_client_that_never_saw_an_event_is_lost_and_counted() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask("1", "a"));
    desk.session.closed(A, desk.now);
    assert_eq!(desk.session.waiting(), (1, 0), "not cancelled");
    assert_eq!(desk.heard(&ask("5", "roots/list")), NOTHING);
    assert_eq!(desk.session.held(), 1, "nobody is there to answer");
    assert_eq!(desk.heard(&answer("1")), NOTHING);
    assert_eq!((desk.session.waiting(), desk.session.counts().lost), ((0, 1), 1));
}

/// Rule G7: the first event without data is for 2025-11-25 only.
#[test]
fn events_are_primed_for_those_who_understand() {
    let mut desk = Desk::running("2025-11-25");
    let _ = desk.posted(A, &ask("1", "a"));
    assert_eq!(desk.session.open_events(A).map(|event| event.to_string()), Some("10-0".to_owned()));
    desk.session.closed(A, desk.now);
    assert_eq!(desk.heard(&answer("1")), NOTHING);
    assert!(!desk.session.resume(b"10-0", GET, desk.now).unwrap().is_live);
    assert_eq!(desk.outputs(), [format!("20/10#10-1 {}", answer("1")), "close 20".to_owned()]);
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask("1", "a"));
    assert_eq!(desk.session.open_events(A), None);
    assert_eq!(desk.heard(&answer("1")), [format!("10#10-0 {} end", answer("1"))]);
}

/// Rule F8.
#[test]
fn batches_are_for_one_revision() {
    let batch = format!("[{}, {CHANGED} ,{}]", ask("1", "a"), ask("2", "b"));
    let mut desk = Desk::running("2025-06-18");
    assert_eq!(desk.refused(A, &batch)["error"]["code"], -32600);
    let mut desk = Desk::running("2025-03-26");
    for refused in
        ["[]".to_owned(), format!("[{},{}]", ask("1", "a"), answer("1")), format!("[{0},{0}]", ask("1", "a"))]
    {
        let refused = desk.refused(A, &refused);
        assert_eq!((refused.get("id"), &refused["error"]["code"]), (None, &(-32600).into()));
    }
    assert_eq!(desk.session.waiting(), (0, 0));
    assert_eq!(desk.posted(A, &batch), [format!("child {batch}")], "as it came");
    let whole = format!(" [{},{}]", answer("2"), answer("1"));
    assert_eq!(desk.heard(&whole), [format!("10 {whole} end")], "and so it goes back");
    let mut fresh = Desk::new(Dialect::Streamable, OwnedLimits::default());
    assert_eq!(fresh.refused(A, &format!("[{}]", ask("1", "initialize")))["error"]["code"], -32600);
}

#[test]
fn batch_of_the_child_is_split_when_its_parts_belong_apart() {
    let mut desk = Desk::running("2025-03-26");
    desk.session.listen(GET, desk.now).unwrap();
    let _ = desk.posted(A, &format!("[{},{}]", ask("1", "a"), ask("2", "b")));
    let _ = desk.posted(B, &ask("3", "c"));
    let expected = [
        format!("11 {} end", answer("3")),
        format!("10#10-0 {}", answer("2")),
        format!("20#20-0 {CHANGED}"),
        format!("10#10-1 {} end", answer("1")),
    ];
    let batch = format!("[{} ,{},{CHANGED}\n,{}]", answer("3"), answer("2"), answer("1"));
    assert_eq!(desk.heard(&batch), expected);
    let twice = format!("[{0},{0}]", answer("4"));
    let _ = desk.posted(A, &format!("[{},{}]", ask("4", "a"), ask("5", "b")));
    let _ = desk.heard(&twice);
    assert_eq!(desk.heard(&answer("5")), [format!("10#10-3 {} end", answer("5"))], "one answer is one answer");
}

#[test]
fn single_answer_to_a_batch_wants_an_array() {
    let mut desk = Desk::running("2025-03-26");
    let _ = desk.posted(A, &format!("[{}]", ask("1", "a")));
    desk.hear(&answer("1"));
    assert!(matches!(
        desk.session.poll_output(),
        Some(Output::Deliver(Delivery { wants_array: true, ends: true, .. }))
    ));
    let _ = desk.posted(A, &format!("[{}]", ask("1", "a")));
    desk.hear(&format!("[{}]", answer("1")));
    assert!(matches!(
        desk.session.poll_output(),
        Some(Output::Deliver(Delivery { wants_array: false, ends: true, .. }))
    ));
}

/// Rules L1 to L4.
#[test]
fn http_sse_has_one_stream_for_everything() {
    let mut desk = Desk::new(Dialect::HttpSse, OwnedLimits::default());
    desk.session.listen(GET, desk.now).unwrap();
    assert_eq!(desk.session.listen(GET2, desk.now), Err(Reason::TooManyStreams { limit: 1 }));
    assert_eq!(desk.post(A, &ask("0", "initialize")), Ok(Posted::Accepted));
    assert_eq!(desk.post(B, &ask("1", "ping")), Ok(Posted::Accepted));
    assert_eq!(desk.outputs().len(), 2);
    for frame in [answer("0"), LOG.to_owned(), progress("9"), answer("77"), ask("5", "roots/list"), cancel("5")] {
        assert_eq!(desk.heard(&frame), [format!("20 {frame}")]);
    }
    assert_eq!(desk.session.resume(b"20-0", GET2, desk.now), Err(ResumeError::Unknown));
    desk.session.end(&Reason::SessionEnded);
    let outputs = desk.outputs();
    assert!(outputs[0].starts_with(r#"20 {"jsonrpc":"2.0","id":1,"error""#) && outputs[1] == "close 20", "{outputs:?}");
}

/// Promise 3: whoever waits when the child goes gets one error, with its own id, on its own stream.
#[test]
fn end_answers_everybody_and_accepts_nothing_more() {
    let mut desk = Desk::running("2025-03-26");
    let _ = desk.posted(A, &ask("1.0", "a"));
    let _ = desk.posted(B, &format!("[{},{}]", ask("\"x\"", "a"), ask("3", "b")));
    let _ = desk.posted(C, &ask("4", "a"));
    let _ = desk.posted(GET2, &cancel("4"));
    desk.session.listen(GET, desk.now).unwrap();
    desk.session.end(&Reason::ServerExited { exit_code: Some(3), signal: None, stderr: Vec::new() });
    let outputs = desk.outputs();
    let starts = [
        "10 {\"jsonrpc\":\"2.0\",\"id\":1.0,",
        "11#11-0 {\"jsonrpc\":\"2.0\",\"id\":\"x\",",
        "11#11-1 {\"jsonrpc\":\"2.0\",\"id\":3,",
        "close 20",
    ];
    assert_eq!(outputs.len(), starts.len(), "{outputs:?}");
    for ((output, start), ends) in outputs.iter().zip(starts).zip([true, false, true, false]) {
        assert!(output.starts_with(start) && output.ends_with(" end") == ends, "{output}");
    }
    assert_eq!(desk.refused(A, &ask("9", "a"))["error"]["data"]["reason"], "session_ended");
    assert_eq!(desk.session.listen(GET, desk.now), Err(Reason::SessionEnded));
    assert_eq!(desk.heard(&answer("1.0")), NOTHING);
}

/// A message that could not be read still ends the wait for it.
#[test]
fn unreadable_message_is_answered_to_whoever_waits() {
    let mut desk = Desk::running("2025-06-18");
    let _ = desk.posted(A, &ask("1", "a"));
    let reason = Reason::MessageTooLarge { limit: 4, at: 9, declared: None };
    desk.session.hear_refused(Kind::Response, b"1", reason.clone());
    let outputs = desk.outputs();
    assert!(outputs.len() == 1 && outputs[0].starts_with("10 {") && outputs[0].ends_with(" end"), "{outputs:?}");
    assert!(outputs[0].contains("\"code\":-32603"), "{outputs:?}");
    desk.session.hear_refused(Kind::Response, b"1", reason.clone());
    assert_eq!(desk.outputs(), NOTHING);
    desk.session.hear_refused(Kind::Request, b"5", reason);
    let outputs = desk.outputs();
    assert!(outputs[0].starts_with("child {") && outputs[0].contains("\"code\":-32600"), "{outputs:?}");
}

/// Idle is a session without its client, whatever the child does.
#[test]
fn session_without_connections_is_idle_in_the_end() {
    let limits = OwnedLimits { idle: Duration::from_secs(60), ..OwnedLimits::default() };
    let mut desk = Desk::new(Dialect::Streamable, limits);
    desk.initialize("2025-06-18");
    let start = desk.now;
    let _ = desk.posted(A, &ask("1", "a"));
    assert_eq!(desk.session.idle_since(), None);
    desk.now += Duration::from_secs(90);
    desk.session.closed(A, desk.now);
    desk.now += Duration::from_secs(59);
    let _ = desk.heard(CHANGED);
    assert!(!desk.session.is_idle(desk.now));
    desk.now += Duration::from_secs(1);
    assert!(desk.session.is_idle(desk.now));
    assert_eq!(desk.session.idle_since(), Some(start + Duration::from_secs(90)));
    desk.session.listen(GET, desk.now).unwrap();
    assert!(!desk.session.is_idle(desk.now + Duration::from_secs(999)));
}

/// Rule G4, with a bound; what the client has left gives way.
#[test]
fn listening_streams_are_bounded() {
    let mut desk = Desk::new(Dialect::Streamable, OwnedLimits { max_listening: 1, ..OwnedLimits::default() });
    desk.initialize("2025-06-18");
    desk.session.listen(GET, desk.now).unwrap();
    assert_eq!(desk.session.listen(GET2, desk.now), Err(Reason::TooManyStreams { limit: 1 }));
    desk.session.closed(GET, desk.now);
    assert_eq!(desk.session.listen(GET2, desk.now), Ok(()));
}

#[test]
fn id_that_a_batch_answers_twice_is_answered_once() {
    let mut desk = Desk::running("2025-03-26");
    assert_eq!(desk.post(A, &ask("7", "a")), Ok(Posted::Asked));
    desk.outputs();
    desk.hear(r#"[{"jsonrpc":"2.0","id":7,"result":1},{"jsonrpc":"2.0","id":7,"result":2}]"#);
    assert_eq!(desk.outputs(), [r#"10 {"jsonrpc":"2.0","id":7,"result":1} end"#]);
    assert_eq!(desk.session.counts().late, 1);
}

/// Many sessions together may have less than each may keep.
#[test]
fn what_is_kept_is_counted_and_shrinks_from_what_is_needed_least() {
    let limits = OwnedLimits { max_handshake: 1000, ..OwnedLimits::default() };
    let mut desk = Desk::new(Dialect::Streamable, limits);
    desk.initialize("2025-06-18");
    let handshake = desk.session.kept_len();
    assert!(desk.session.can_go_on() && handshake > 0);
    desk.hear(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated"}"#);
    desk.hear(&ask("9", "roots/list"));
    let held = desk.session.kept_len();
    let _ = desk.post(A, &ask_with_token("1", "5"));
    desk.outputs();
    let event = "10#10-0 ".to_owned() + &progress("5");
    assert_eq!(desk.heard(&progress("5")), [event]);
    let all = desk.session.kept_len();
    assert!(all > held && held > handshake);
    desk.session.shrink_kept(all);
    assert_eq!((desk.session.kept_len(), desk.session.held()), (all, 2));
    desk.session.shrink_kept(held);
    assert_eq!((desk.session.kept_len(), desk.session.held()), (held, 2), "what was sent goes first");
    desk.session.shrink_kept(held - 1);
    assert_eq!((desk.session.held(), desk.session.counts().overflowed, desk.outputs()), (1, 1, Vec::<String>::new()));
    desk.session.shrink_kept(handshake);
    let [refused] = &desk.outputs()[..] else { panic!("the request of the child has no answer") };
    assert!(refused.starts_with("child ") && refused.contains(r#""id":9,"error""#), "{refused}");
    assert_eq!((desk.session.kept_len(), desk.session.can_go_on()), (handshake, true));
    desk.session.shrink_kept(0);
    assert_eq!((desk.session.kept_len(), desk.session.can_go_on()), (0, false));
}
