//! Sessions at random, against a client that counts: whatever happens in whatever order, nothing is lost,
//! nothing is doubled, each answer is on its own POST, and each stream keeps its order.
//!
//! The client breaks connections without telling, or with, and comes back or not. Messages of the child carry
//! numbers, so that each can be recognised.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    tests::{Desk, ask, cancel},
    *,
};

struct Client {
    desk: Desk,
    next_key: u64,
    /// Number of the child's last message.
    said: u64,
    /// Requests that wait: the POST's key is the id and the progress token, too.
    waiting: Vec<StreamKey>,
    /// All POSTs there ever were.
    posts: BTreeSet<u64>,
    /// From connection to what it carries.
    connections: BTreeMap<u64, Connection>,
    /// The last event received of each stream.
    last: BTreeMap<u64, EventId>,
    received: Vec<Received>,
    /// What the client must have received in the end, and on which stream if that is certain.
    expected: BTreeMap<u64, Option<StreamKey>>,
}

struct Connection {
    stream: StreamKey,
    is_broken: bool,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    stream: StreamKey,
    number: u64,
}

impl Client {
    fn new() -> Self {
        let mut desk = Desk::new(Dialect::Streamable, OwnedLimits::default());
        desk.initialize("2025-06-18");
        Self {
            desk,
            next_key: 100,
            said: 0,
            waiting: Vec::new(),
            posts: BTreeSet::new(),
            connections: BTreeMap::new(),
            last: BTreeMap::new(),
            received: Vec::new(),
            expected: BTreeMap::new(),
        }
    }

    fn connect(&mut self) -> StreamKey {
        self.next_key += 1;
        StreamKey::new(self.next_key)
    }

    fn carries(&mut self, connection: StreamKey, stream: StreamKey) {
        self.connections.insert(connection.number(), Connection { stream, is_broken: false });
    }

    fn step(&mut self, what: u8, which: usize) {
        match what {
            0 => self.ask(),
            1 | 2 if !self.waiting.is_empty() => {
                let stream = self.waiting.swap_remove(which % self.waiting.len());
                self.say(Some(stream), |key, n| format!(r#"{{"jsonrpc":"2.0","id":{key},"result":{{"n":{n}}}}}"#));
            }
            3 | 4 if !self.waiting.is_empty() => {
                let stream = self.waiting[which % self.waiting.len()];
                self.say(Some(stream), |key, n| {
                    let params = format!(r#"{{"progressToken":{key},"progress":1,"n":{n}}}"#);
                    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)
                });
            }
            5 | 6 => {
                let method = ["notifications/message", "notifications/tools/list_changed"][which % 2];
                self.say(None, |_, n| format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"n":{n}}}}}"#));
            }
            7 => self.say(None, |_, n| {
                format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"roots/list","params":{{"n":{n}}}}}"#)
            }),
            8 => {
                let connection = self.connect();
                if self.desk.session.listen(connection, self.desk.now).is_ok() {
                    self.carries(connection, connection);
                }
            }
            9 => {
                // Only what can be come back to; the rest is lost by the protocol.
                let known: BTreeSet<u64> = self.last.keys().copied().collect();
                let mut whole = self.connections.values_mut().filter(|one| known.contains(&one.stream.number()));
                if let Some(one) = whole.nth(which) {
                    one.is_broken = true;
                }
            }
            10 => {
                let mut broken = self.connections.iter().filter(|(_, one)| one.is_broken);
                if let Some(key) = broken.nth(which).map(|(&key, _)| key) {
                    self.connections.remove(&key);
                    self.desk.session.closed(StreamKey::new(key), self.desk.now);
                }
            }
            11 => {
                let away = self.away();
                away.get(which).copied().into_iter().for_each(|stream| self.come_back(stream));
            }
            12 if !self.waiting.is_empty() => {
                let stream = self.waiting.swap_remove(which % self.waiting.len());
                let _ = self.desk.post(StreamKey::new(99), &cancel(&stream.number().to_string())).unwrap();
            }
            _ => {}
        }
        self.read();
    }

    fn ask(&mut self) {
        let stream = self.connect();
        let key = stream.number();
        let params = format!(r#""method":"tools/call","params":{{"_meta":{{"progressToken":{key}}}}}"#);
        let frame = ask(&key.to_string(), "tools/call").replace(r#""method":"tools/call""#, &params);
        assert_eq!(self.desk.post(stream, &frame), Ok(Posted::Asked));
        self.carries(stream, stream);
        self.waiting.push(stream);
        self.posts.insert(key);
    }

    fn say(&mut self, about: Option<StreamKey>, frame: impl Fn(u64, u64) -> String) {
        self.said += 1;
        self.expected.insert(self.said, about);
        self.desk.hear(&frame(about.map_or(0, StreamKey::number), self.said));
    }

    /// Streams that were received in part and that no whole connection carries.
    fn away(&self) -> Vec<u64> {
        let carried = |key: u64| self.connections.values().any(|one| one.stream.number() == key && !one.is_broken);
        self.last.keys().copied().filter(|&key| !carried(key)).collect()
    }

    fn come_back(&mut self, stream: u64) {
        let connection = self.connect();
        let last = self.last[&stream].to_string();
        match self.desk.session.resume(last.as_bytes(), connection, self.desk.now) {
            Ok(resumed) => {
                assert_eq!((resumed.stream.number(), resumed.lost), (stream, 0));
                self.carries(connection, resumed.stream);
            }
            Err(error) => assert_eq!(error, ResumeError::Over),
        }
    }

    fn read(&mut self) {
        while let Some(output) = self.desk.session.poll_output() {
            match output {
                Output::ToChild(_) | Output::Erred(_) => {}
                Output::Close { connection } => drop(self.connections.remove(&connection.number())),
                Output::Deliver(delivery) => {
                    let to = delivery.to.number();
                    let Connection { stream, is_broken } = self.connections[&to];
                    assert_eq!(stream, delivery.stream);
                    if !is_broken {
                        let message: serde_json::Value = serde_json::from_slice(&delivery.frame).unwrap();
                        let n = message.pointer("/params/n").or_else(|| message.pointer("/result/n")).unwrap();
                        let number = n.as_u64().unwrap();
                        self.received.push(Received { stream, number });
                        delivery.event.map(|event| self.last.insert(stream.number(), event));
                    }
                    if delivery.ends {
                        self.connections.remove(&to);
                    }
                }
            }
        }
    }

    fn check(mut self) {
        for stream in self.away() {
            self.come_back(stream);
            self.read();
        }
        self.step(8, 0);
        let numbers: BTreeSet<u64> = self.received.iter().map(|one| one.number).collect();
        assert_eq!(numbers.len(), self.received.len(), "something came twice");
        assert_eq!(numbers, self.expected.keys().copied().collect(), "something is lost");
        // What was held back may be overtaken by what belongs to a request, but by nothing of its own sort.
        let mut latest = BTreeMap::new();
        for Received { stream, number } in self.received {
            let about = self.expected[&number];
            assert!(about.is_none_or(|about| about == stream), "message {number} is not on its own POST");
            let before = latest.insert((stream.number(), about.is_some()), number);
            assert!(before.is_none_or(|before| before < number), "message {number} was overtaken");
        }
        let is_over = |stream: StreamKey| self.posts.contains(&stream.number()) && !self.waiting.contains(&stream);
        let left = self.connections.values().find(|one| !one.is_broken && is_over(one.stream));
        assert!(left.is_none_or(|one| panic!("POST {} waits for nothing and is open", one.stream.number())));
        let counts = self.desk.session.counts();
        assert_eq!((counts.late, counts.lost, counts.overflowed, counts.unheard), (0, 0, 0, 0));
        assert_eq!(self.desk.session.waiting().0, self.waiting.len());
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_misplaced_or_overtaken(steps in prop::collection::vec((0..13_u8, 0..4_usize), 0..120)) {
        let mut client = Client::new();
        for (what, which) in steps {
            client.step(what, which);
        }
        client.check();
    }

    /// Promise 3: when the child is gone, each request has had exactly one answer, cancelled ones none.
    #[test]
    fn end_leaves_nobody_waiting(steps in prop::collection::vec((0..9_u8, 0..4_usize), 0..60)) {
        let mut client = Client::new();
        for (what, which) in steps {
            client.step(what, which);
        }
        let mut waiting: Vec<u64> = client.waiting.iter().map(|stream| stream.number()).collect();
        client.desk.session.end(&Reason::ServerExited { exit_code: None, signal: None, stderr: Vec::new() });
        let mut answered = Vec::new();
        while let Some(output) = client.desk.session.poll_output() {
            if let Output::Deliver(Delivery { to, frame, ends: true, .. }) = output {
                let message: serde_json::Value = serde_json::from_slice(&frame).unwrap();
                prop_assert_eq!(&message["id"], to.number());
                answered.push(to.number());
            }
        }
        waiting.sort_unstable();
        answered.sort_unstable();
        prop_assert_eq!(answered, waiting);
        prop_assert_eq!(client.desk.session.waiting(), (0, 0));
    }
}
