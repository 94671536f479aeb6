//! A child of one legacy client: each answer on the POST that asked and once, nothing on a connection that is
//! gone, every table bounded, and nobody left waiting at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use shadowcat_codecs::envelope::{Envelope, IdClass, Kind, text};

use super::script::{IDS, Parsed, Script, parsed};
use crate::session::{
    Reason, StreamKey, StreamKeys,
    owned::{Delivery, Dialect, Output, Owned, OwnedLimits, Posted},
};

/// The session, and what it must know.
struct World {
    owned: Owned,
    dialect: Dialect,
    limits: OwnedLimits,
    now: Instant,
    keys: StreamKeys,
    /// Which stream each open connection carries.
    connections: BTreeMap<u64, StreamKey>,
    /// Requests that wait, by the client's spelling of the id: on which stream.
    waiting: BTreeMap<String, StreamKey>,
    /// The id of the latest `initialize`.
    initialize: Option<String>,
    /// Streams whose client was away: what belongs there is kept, or lost.
    away: BTreeSet<u64>,
    /// Ids the child asked under.
    questions: BTreeSet<String>,
    events: BTreeSet<String>,
    last_event: String,
}

/// The body of the target `session_owned`: a dialect and limits, then what the client and the child do.
pub fn session_owned(input: &[u8]) {
    let mut script = Script::new(input);
    let dialect = if script.below(4) == 0 { Dialect::HttpSse } else { Dialect::Streamable };
    let mut limits = OwnedLimits { max_pending: script.below(8), max_held: script.below(6), ..OwnedLimits::default() };
    (limits.max_held_bytes, limits.max_listening) = (script.below(256) * 4, script.below(4));
    let mut world = World::new(dialect, limits);
    while let Some(what) = script.next() {
        match what % 12 {
            0..=2 => world.post(&mut script),
            3..=6 => world.hear(&mut script),
            7 => world.listen(),
            8 => world.close(&mut script),
            9 => world.resume(&mut script),
            10 => {
                world.now += Duration::from_secs(script.below(40) as u64);
                world.owned.handle_timeout(world.now);
            }
            _ => {
                let index = script.below(world.connections.len());
                let stream = world.connections.values().nth(index).copied();
                let _ = stream.map(|stream| world.owned.open_events(stream));
            }
        }
        world.take(None);
        world.check();
    }
    world.end();
}

impl World {
    fn new(dialect: Dialect, limits: OwnedLimits) -> Self {
        let now = crate::clock::now().into_std();
        Self {
            owned: Owned::new(dialect, limits, now),
            dialect,
            limits,
            now,
            keys: StreamKeys::new(),
            connections: BTreeMap::new(),
            waiting: BTreeMap::new(),
            initialize: None,
            away: BTreeSet::new(),
            questions: BTreeSet::new(),
            events: BTreeSet::new(),
            last_event: String::new(),
        }
    }

    fn post(&mut self, script: &mut Script<'_>) {
        let text = match script.below(6) {
            0 => format!("[{},{}]", message(script), message(script)),
            1 => script.text(),
            _ => message(script),
        };
        let Some(Parsed { frame, envelope, elements }) = parsed(text) else { return };
        let exchange = self.keys.mint();
        let posted = self.owned.post(exchange, &frame, &envelope, &elements, self.now);
        let Ok(posted) = posted else {
            return assert!(self.owned.poll_output().is_none(), "what is refused has no effect");
        };
        let parts = parts(&envelope, elements.iter().map(|element| *element.envelope()));
        let stream = match self.dialect {
            Dialect::Streamable => exchange,
            Dialect::HttpSse => self.connections.values().next().copied().unwrap_or(exchange),
        };
        for part in parts.iter().filter(|part| part.kind() == Kind::Request) {
            let id = field(part, &frame);
            if is_method(part, &frame, "initialize") {
                self.initialize = Some(id.clone());
            } else {
                self.initialize.take_if(|first| *first == id);
            }
            let before = self.waiting.insert(id, stream);
            // What a client that is away was answered is kept for it, or lost; either way nobody waits any more.
            let is_over = before.is_none_or(|stream| self.away.contains(&stream.number()));
            let has_one_stream = self.dialect == Dialect::HttpSse;
            assert!(is_over || has_one_stream, "two of one id wait at a time");
        }
        if posted == Posted::Asked {
            self.connections.insert(exchange.number(), exchange);
        }
        // Who cancels waits no more, but for `initialize`, which cannot be cancelled (Rule C2).
        for part in parts.iter().filter(|part| part.kind() == Kind::Notification) {
            let id = part.request_id().map(|id| String::from_utf8_lossy(id.of(&frame)).into_owned());
            if let Some(id) = id
                .filter(|id| is_method(part, &frame, "notifications/cancelled") && self.initialize != Some(id.clone()))
            {
                self.waiting.remove(&id);
            }
        }
        self.take(Some(&frame));
    }

    fn hear(&mut self, script: &mut Script<'_>) {
        if script.below(12) == 0 {
            let (kind, id) = (script.pick(&[Kind::Request, Kind::Response, Kind::Error]), script.pick(&IDS));
            if kind == Kind::Request {
                self.questions.insert(id.to_owned());
            }
            return self.owned.hear_refused(
                kind,
                id.as_bytes(),
                Reason::MessageTooLarge { limit: 1, at: 0, declared: None },
            );
        }
        let text = match script.below(6) {
            0 => format!("[{},{}]", message(script), message(script)),
            1 => script.text(),
            _ => message(script),
        };
        let Some(Parsed { frame, envelope, elements }) = parsed(text) else { return };
        for part in parts(&envelope, elements.iter().map(|element| *element.envelope())) {
            if part.kind() == Kind::Request {
                self.questions.insert(field(&part, &frame));
            }
        }
        self.owned.hear(&frame, &envelope, &elements, self.now);
    }

    fn listen(&mut self) {
        let connection = self.keys.mint();
        if self.owned.listen(connection, self.now).is_ok() {
            self.connections.insert(connection.number(), connection);
        }
    }

    fn close(&mut self, script: &mut Script<'_>) {
        let index = script.below(self.connections.len());
        let Some((&connection, &stream)) = self.connections.iter().nth(index) else { return };
        self.connections.remove(&connection);
        self.away.insert(stream.number());
        self.owned.closed(StreamKey::new(connection), self.now);
    }

    fn resume(&mut self, script: &mut Script<'_>) {
        let (connection, last) =
            (self.keys.mint(), if script.below(4) == 0 { script.text() } else { self.last_event.clone() });
        if let Ok(resumed) = self.owned.resume(last.as_bytes(), connection, self.now) {
            self.away.insert(resumed.stream.number());
            self.connections.insert(connection.number(), resumed.stream);
        }
    }

    /// Does what the session asks for. `posted` is what the client has just said.
    fn take(&mut self, posted: Option<&Bytes>) {
        while let Some(output) = self.owned.poll_output() {
            match output {
                Output::Close { connection } => {
                    let carried = self.connections.remove(&connection.number());
                    assert!(carried.is_some(), "{connection} is not open");
                }
                Output::Deliver(delivery) => self.deliver(&delivery),
                Output::Erred(_) => {}
                Output::ToChild(frame) => match posted {
                    Some(posted) if posted.windows(frame.len()).any(|part| part == frame) => {}
                    _ => self.answer_child(frame),
                },
            }
        }
    }

    /// What the client did not say so is an answer whose id it spelled anew, or an error of ours.
    fn answer_child(&self, frame: Bytes) {
        let Some(told) = parsed(String::from_utf8_lossy(&frame).into_owned()) else {
            panic!("no message for the child")
        };
        assert!(matches!(told.envelope.kind(), Kind::Response | Kind::Error), "the child is told what nobody said");
        let id = field(&told.envelope, &told.frame);
        assert!(self.questions.contains(&id), "the child never asked {id}");
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let carried = self.connections.get(&delivery.to.number());
        assert_eq!(carried, Some(&delivery.stream), "{} does not carry {}", delivery.to, delivery.stream);
        if delivery.ends {
            self.connections.remove(&delivery.to.number());
        }
        let is_new = delivery.event.is_none_or(|event| {
            self.last_event = event.to_string();
            self.events.insert(self.last_event.clone())
        });
        // With one stream for everything, the client sorts out itself what is late.
        let Some(Parsed { frame, envelope, elements }) = parsed(String::from_utf8_lossy(&delivery.frame).into_owned())
        else {
            panic!("a client gets what is no message");
        };
        for part in parts(&envelope, elements.iter().map(|element| *element.envelope())) {
            let is_answer = matches!(part.kind(), Kind::Response | Kind::Error);
            if !is_answer || part.id().is_none() || part.id_class() == IdClass::Null || !is_new {
                continue;
            }
            let id = field(&part, &frame);
            if self.waiting.get(&id) == Some(&delivery.stream) {
                self.waiting.remove(&id);
                continue;
            }
            // What was kept for a client that was away may be an answer to an earlier request of that id.
            let was_kept = self.away.contains(&delivery.stream.number()) && delivery.event.is_some();
            let is_theirs = was_kept || self.dialect == Dialect::HttpSse;
            assert!(is_theirs, "{} got an answer to {id}, which it does not wait for", delivery.stream);
        }
    }

    fn check(&self) {
        let (asked, questions) = self.owned.waiting();
        assert!(asked <= self.limits.max_pending && questions <= self.limits.max_pending, "more wait than may");
        assert!(self.owned.held() <= self.limits.max_held, "more is held than may");
    }

    fn end(mut self) {
        self.owned.end(&Reason::SessionEnded);
        self.take(None);
        assert_eq!(self.owned.waiting(), (0, 0));
        assert!(self.connections.is_empty(), "a stream is open that nothing will come on");
        let left = self.waiting.iter().find(|(_, stream)| !self.away.contains(&stream.number()));
        assert!(left.is_none() || self.dialect == Dialect::HttpSse, "{left:?} waits for ever");
    }
}

fn message(script: &mut Script<'_>) -> String {
    let id = script.pick(&IDS);
    match script.below(12) {
        0 => format!(r#"{{"id":{id},"method":"initialize","params":{{}}}}"#),
        1..=3 => {
            let token = script.pick(&IDS);
            format!(r#"{{"id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}}}}}}"#)
        }
        4 | 5 => {
            let version = script.pick(&["2025-03-26", "2025-11-25", "2025-06-18"]);
            format!(r#"{{"id":{id},"result":{{"protocolVersion":"{version}"}}}}"#)
        }
        6 => format!(r#"{{"error":{{"code":1,"message":""}}, "id":{id}}}"#),
        7 => r#"{"error":{"code":1,"message":""}}"#.to_owned(),
        8 => format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{id}}}}}"#),
        9 => format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#),
        10 => r#"{"method":"notifications/message","params":{}}"#.to_owned(),
        _ => r#"{"method":"notifications/initialized"}"#.to_owned(),
    }
}

fn parts(envelope: &Envelope, elements: impl Iterator<Item = Envelope>) -> Vec<Envelope> {
    if envelope.kind() == Kind::Batch { elements.collect() } else { vec![*envelope] }
}

fn is_method(part: &Envelope, frame: &Bytes, method: &str) -> bool {
    part.method().and_then(|span| text(span, frame)).is_some_and(|found| found == method)
}

fn field(part: &Envelope, frame: &Bytes) -> String {
    part.id().map(|id| String::from_utf8_lossy(id.of(frame)).into_owned()).unwrap_or_default()
}
