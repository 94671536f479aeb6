//! Two streams (`link::pipe`): everything passes, and who asked gets one answer, or one error.

use bytes::BytesMut;
use shadowcat_codecs::envelope::{Envelope, IdClass, Kind, text};

use super::script::{IDS, Parsed, Script, parsed};
use crate::session::{Action, Message, Reason, Reply, RequestId, Session, StreamKey};

/// The session, and what it must know.
struct World {
    session: Session,
    max: usize,
    /// Who has to answer which id, as often as it is waited for.
    waiting: Vec<(StreamKey, String)>,
}

/// The body of the target `session_pair`: a limit, then what either side says.
pub fn session_pair(input: &[u8]) {
    let mut script = Script::new(input);
    let max = script.below(16);
    let mut world = World { session: Session::new(max), max, waiting: Vec::new() };
    while let Some(what) = script.next() {
        let from = if what & 1 == 0 { StreamKey::DOWNSTREAM } else { StreamKey::UPSTREAM };
        match (what >> 1) % 10 {
            0..=5 => {
                let text = message(&mut script, (what >> 1) % 6);
                world.say(from, text);
            }
            6 => {
                let elements: Vec<String> = (0..script.below(5))
                    .map(|_| {
                        let what = script.below(6);
                        message(&mut script, what)
                    })
                    .collect();
                world.say(from, format!("[{}]", elements.join(",")));
            }
            7 => world.refuse(from, &mut script),
            8 => world.lose(from),
            _ => {
                let text = script.text();
                world.say(from, text);
            }
        }
        world.check();
    }
    world.lose(StreamKey::UPSTREAM);
    world.lose(StreamKey::DOWNSTREAM);
    assert!(world.waiting.is_empty(), "somebody waits for ever");
}

fn message(script: &mut Script<'_>, what: usize) -> String {
    let id = script.pick(&IDS);
    match what {
        0 | 1 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"requestId":1}}}}"#),
        2 => format!(r#"{{"id" : {id}, "result":{{"id":1}}}}"#),
        3 => format!(r#"{{"id":{id},"error":{{"code":-1,"message":""}}}}"#),
        4 => format!(r#"{{"method":"notifications\/cancelled","params":{{"requestId":{id}}}}}"#),
        _ => format!(r#"{{"method":"notifications/progress","params":{{"requestId":{id},"progressToken":{id}}}}}"#),
    }
}

impl World {
    fn say(&mut self, from: StreamKey, text: String) {
        let Some(Parsed { frame, envelope, elements }) = parsed(text) else { return self.session.handle_noise() };
        let parts: Vec<Envelope> = match envelope.kind() {
            Kind::Batch => elements.iter().map(|element| *element.envelope()).collect(),
            _ => vec![envelope],
        };
        let message = Message { frame: &frame, envelope: &envelope, elements: &elements };
        let action = self.session.handle(from, message, crate::clock::now().into_std());
        let requests = parts.iter().filter(|part| part.kind() == Kind::Request).count();
        if requests > 0 && self.waiting.len() + requests > self.max {
            return self.refused(from, &frame, &parts, &action);
        }
        assert!(matches!(action, Action::Forward { to, .. } if to == from.opposite()), "what has room passes");
        for part in &parts {
            match (part.kind(), named(part, &frame)) {
                (Kind::Request, Some(id)) => self.waiting.push((from.opposite(), id)),
                (Kind::Response | Kind::Error, Some(id)) => drop(self.settle(from, &id)),
                (Kind::Notification, Some(id)) => drop(self.settle(from.opposite(), &id)),
                _ => {}
            }
        }
    }

    /// Nothing of it passed: every request in it must have been told, and whoever waits for an answer in it.
    fn refused(&mut self, from: StreamKey, frame: &[u8], parts: &[Envelope], action: &Action) {
        let Action::Reply(replies) = action else { panic!("a request too many was passed on") };
        let mut told = replies.iter().map(|(to, reply)| (*to, id_of(reply)));
        for part in parts {
            match (part.kind(), named(part, frame)) {
                (Kind::Request, Some(id)) => assert_eq!(told.next(), Some((from, id))),
                (Kind::Response | Kind::Error, Some(id)) if self.settle(from, &id) => {
                    assert_eq!(told.next(), Some((from.opposite(), id)));
                }
                _ => {}
            }
        }
        assert_eq!(told.next(), None, "somebody is told of what is not theirs");
    }

    /// The link could not pass on a message of which it learnt this much.
    fn refuse(&mut self, from: StreamKey, script: &mut Script<'_>) {
        let (kind, id) =
            (script.pick(&[Kind::Request, Kind::Response, Kind::Error, Kind::Notification]), script.pick(&IDS));
        let reason = Reason::MessageTooLarge { limit: 1, at: 0, declared: None };
        let told =
            self.session.handle_refused(from, kind, id.as_bytes(), reason).map(|(to, reply)| (to, id_of(&reply)));
        let expected = match kind {
            Kind::Request => Some(from),
            Kind::Notification => None,
            _ => self.settle(from, id).then_some(from.opposite()),
        };
        assert_eq!(told, expected.map(|to| (to, id.to_owned())));
    }

    /// `gone` answers nothing any more.
    fn lose(&mut self, gone: StreamKey) {
        while let Some((to, reply)) = self.session.poll_orphan(gone, &Reason::StreamEnded) {
            assert_eq!(to, gone.opposite());
            assert!(self.settle(gone, &id_of(&reply)), "an error for what nobody waits for");
        }
        assert!(self.waiting.iter().all(|(answerer, _)| *answerer != gone), "somebody waits for ever");
    }

    fn settle(&mut self, answerer: StreamKey, id: &str) -> bool {
        let found = self.waiting.iter().position(|(by, asked)| *by == answerer && asked == id);
        found.map(|index| self.waiting.swap_remove(index)).is_some()
    }

    fn check(&self) {
        assert!(self.waiting.len() <= self.max, "more wait than may");
        for side in [StreamKey::UPSTREAM, StreamKey::DOWNSTREAM] {
            let mut waiting: Vec<&str> =
                self.waiting.iter().filter(|(by, _)| *by == side).map(|(_, id)| &**id).collect();
            waiting.sort_unstable();
            waiting.dedup();
            assert_eq!(self.session.pending_at(side), waiting.len());
            assert!(waiting.iter().all(|id| self.session.is_pending(side, &RequestId::new(id.as_bytes()))));
        }
    }
}

/// The id a message is about.
fn named(part: &Envelope, frame: &[u8]) -> Option<String> {
    let is_cancel = || part.method().and_then(|method| text(method, frame)).is_some_and(|method| method == CANCELLED);
    let id = match part.kind() {
        Kind::Notification if is_cancel() => part.request_id(),
        Kind::Request | Kind::Response | Kind::Error if part.id_class() != IdClass::Null => part.id(),
        _ => None,
    };
    id.map(|id| String::from_utf8_lossy(id.of(frame)).into_owned())
}

/// The id in an error of ours, as whoever gets it reads it.
pub(super) fn id_of(reply: &Reply) -> String {
    let mut message = BytesMut::new();
    reply.write(&mut message);
    let parsed = parsed(String::from_utf8_lossy(&message).into_owned());
    let id =
        parsed.and_then(|parsed| Some(String::from_utf8_lossy(parsed.envelope.id()?.of(&parsed.frame)).into_owned()));
    id.unwrap_or_default()
}

const CANCELLED: &str = "notifications/cancelled";
