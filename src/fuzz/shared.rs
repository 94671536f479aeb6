//! A child of many clients: whatever it says, nobody hears what belongs to another, each in their own words.

use std::collections::BTreeMap;

use bytes::Bytes;
use shadowcat_codecs::{
    Frame,
    envelope::{Envelope, Kind, Splice},
};

use super::{
    pair::id_of,
    script::{IDS, Parsed, Script, parsed},
};
use crate::session::{
    Reason, StreamKey, StreamKeys,
    shared::{Heard, Leaving, Shared},
};

/// The state, and what it must know.
struct World {
    shared: Shared,
    max: usize,
    keys: StreamKeys,
    /// Requests in flight by what was minted for them.
    asked: BTreeMap<u64, Asked>,
    last: u64,
}

struct Asked {
    stream: StreamKey,
    id: String,
    token: Option<String>,
}

/// The body of the target `session_shared`: limits, then what clients and the child do.
pub fn session_shared(input: &[u8]) {
    let mut script = Script::new(input);
    let max = script.below(12);
    let shared = Shared::new(max, MAX_ID_LEN);
    let mut world = World { shared, max, keys: StreamKeys::new(), asked: BTreeMap::new(), last: 0 };
    while let Some(what) = script.next() {
        match what % 8 {
            0 | 1 => world.ask(&mut script),
            2..=4 => {
                let text = world.message(&mut script);
                world.hear(text);
            }
            5 => world.leave(&mut script),
            6 => world.notify(&mut script),
            _ => {
                let text = script.text();
                world.hear(text);
            }
        }
        assert!(world.asked.len() <= max);
        assert_eq!(world.shared.in_flight(), world.asked.len());
    }
    world.lose();
}

impl World {
    fn ask(&mut self, script: &mut Script<'_>) {
        let stream = if script.below(8) == 0 { self.any(script).1 } else { self.keys.mint() };
        let id = script.pick(&IDS);
        let token = (script.below(2) == 0).then(|| script.pick(&IDS));
        let method = script.pick(&["tools/call", "subscriptions/listen", "initialize", r"subscriptions\/listen"]);
        let level = script.pick(&["", r#""io.modelcontextprotocol/logLevel":"debug","#]);
        let meta = token.map(|token| format!(r#""progressToken": {token} ,"#)).unwrap_or_default();
        let text = format!(
            r#"{{"method":"{method}", "id":{id} ,"params":{{"id":1,"_meta":{{{level}{meta}"requestId":2}},"progressToken":3}}}}"#
        );
        let Some(Parsed { frame, envelope, .. }) = parsed(text) else { return };
        let is_full = self.asked.len() >= self.max;
        let is_taken = self.asked.values().any(|asked| asked.stream == stream);
        let splice = match self.shared.ask(stream, Frame::new(frame.clone()), &envelope, crate::clock::now().into_std())
        {
            Ok(splice) => splice,
            Err(reply) => {
                assert_eq!(id_of(&reply), id, "a refusal bears the id of who asked");
                let is_long = [Some(id), token].into_iter().flatten().any(|text| text.len() > MAX_ID_LEN);
                return assert!(
                    is_full || is_taken || is_long || method == "initialize",
                    "refused: {:?}",
                    reply.reason()
                );
            }
        };
        assert!(!is_full && !is_taken, "one request too many was asked");
        let Some(minted) = written(&splice) else { panic!("what is written to the child is no message") };
        let text = field(minted.envelope.id(), &minted.frame);
        let Ok(number) = text.parse::<u64>() else { panic!("{text} was minted") };
        assert!(number > self.last, "{number} was minted twice");
        assert_eq!(token.is_some(), field(minted.envelope.meta_progress_token(), &minted.frame) == text);
        assert_eq!(
            without_ids(&minted.envelope, &minted.frame),
            without_ids(&envelope, &frame),
            "more than ids was changed"
        );
        self.last = number;
        self.asked.insert(number, Asked { stream, id: id.to_owned(), token: token.map(str::to_owned) });
    }

    /// Something the child says about a request, one that is over, or one that never was.
    fn message(&self, script: &mut Script<'_>) -> String {
        let minted = match script.below(4) {
            0 => self.last.saturating_sub(script.below(6) as u64),
            1 => self.last + 1 + script.below(3) as u64,
            _ => self.any(script).0,
        };
        let of = script.pick(&["", ".0", "0e-1"]);
        let id = if script.below(16) == 0 { script.pick(&IDS).to_owned() } else { format!("{minted}{of}") };
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId": {id}}}"#);
        let with = script.pick(&["", ","]);
        let meta = if with.is_empty() { String::new() } else { format!("{with}{meta}") };
        match script.below(8) {
            0 | 1 => format!(r#"{{"id": {id},"result":{{"n":1{meta}}}}}"#),
            2 => format!(r#"{{"error":{{"code":1,"message":"{{\"id\":1}}"}},"id":{id} }}"#),
            3 | 4 => {
                format!(r#"{{"method":"notifications\/progress","params":{{"progressToken": {id},"n":1{meta}}}}}"#)
            }
            5 => format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}{meta}}}}}"#),
            6 => format!(r#"{{"method":"notifications/message","params":{{"data":{id}{meta}}}}}"#),
            _ => format!(r#"{{"id":{id},"method":"roots/list","params":{{"n":1{meta}}}}}"#),
        }
    }

    fn hear(&mut self, text: String) {
        let Some(Parsed { frame, envelope, .. }) = parsed(text) else { return };
        let heard = self.shared.hear(Frame::new(frame.clone()), &envelope, crate::clock::now().into_std());
        let Heard::To { stream, splice, is_final, .. } = heard else { return };
        let owner = self.asked.iter().find(|(_, asked)| asked.stream == stream);
        let Some((&minted, asked)) = owner else { panic!("it went to a stream without a request") };
        let Some(told) = written(&splice) else { panic!("what a client is told is no message") };
        let names = |span| value(&field(span, &frame)) == Some(minted);
        let span = match envelope.kind() {
            Kind::Response | Kind::Error => {
                assert_eq!(field(told.envelope.id(), &told.frame), asked.id);
                assert!(is_final);
                envelope.id()
            }
            _ if envelope.progress_token().is_some_and(|token| names(Some(token))) && asked.token.is_some() => {
                let own = [asked.token.clone(), Some(field(envelope.progress_token(), &frame))];
                assert!(own.contains(&Some(field(told.envelope.progress_token(), &told.frame))));
                envelope.progress_token()
            }
            _ if envelope.request_id().is_some_and(|id| names(Some(id))) => envelope.request_id(),
            _ => envelope.subscription_id(),
        };
        // A log bears no id at all: only its owner's asking for it tells whose it is.
        assert!(span.is_none() || names(span), "told to {minted}: {}", String::from_utf8_lossy(&frame));
        if told.envelope.subscription_id().is_some() && names(envelope.subscription_id()) {
            assert_eq!(field(told.envelope.subscription_id(), &told.frame), asked.id);
        }
        assert_eq!(
            without_ids(&told.envelope, &told.frame),
            without_ids(&envelope, &frame),
            "more than ids was changed"
        );
        if is_final {
            self.asked.remove(&minted);
        }
    }

    fn leave(&mut self, script: &mut Script<'_>) {
        let (minted, stream) = self.any(script);
        if script.below(4) == 0 {
            self.shared.withdraw(stream);
            self.asked.remove(&minted);
            return;
        }
        let cancel =
            self.shared.leave(stream, script.pick(&[Leaving::ClientGone, Leaving::QueueFull, Leaving::TimedOut]));
        assert_eq!(cancel.is_some(), self.asked.remove(&minted).is_some(), "told to the child once, while it works");
        let Some(cancel) = cancel else { return };
        let mut message = bytes::BytesMut::new();
        cancel.write(&mut message);
        let Some(told) = parsed(String::from_utf8_lossy(&message).into_owned()) else { panic!("no message") };
        assert_eq!(field(told.envelope.request_id(), &told.frame), minted.to_string());
    }

    /// A client may not speak of what is another's.
    fn notify(&mut self, script: &mut Script<'_>) {
        let id = script.pick(&IDS);
        let method = script.pick(&["notifications/cancelled", "notifications/progress", "notifications/x"]);
        let text = format!(r#"{{"method":"{method}","params":{{"requestId":{id},"progressToken":{id}}}}}"#);
        let Some(Parsed { frame, envelope, .. }) = parsed(text) else { return };
        match self.shared.notify(Frame::new(frame.clone()), &envelope) {
            Ok(passed) => assert!(method == "notifications/x" && *passed == *frame),
            Err(_) => assert_ne!(method, "notifications/x"),
        }
    }

    fn lose(self) {
        let mut asked = self.asked.into_values();
        for orphan in self.shared.child_gone(&Reason::StreamEnded) {
            let Some(asked) = asked.next() else { panic!("an error for what nobody asked") };
            assert_eq!((orphan.stream, id_of(&orphan.reply)), (asked.stream, asked.id));
        }
        assert!(asked.next().is_none(), "somebody waits for ever");
    }

    /// Any request in flight; one that never was, if there is none.
    fn any(&self, script: &mut Script<'_>) -> (u64, StreamKey) {
        let index = script.below(self.asked.len());
        self.asked.iter().nth(index).map_or((0, StreamKey::new(1 << 40)), |(&minted, asked)| (minted, asked.stream))
    }
}

fn written(splice: &Splice) -> Option<Parsed> {
    parsed(String::from_utf8(splice.slices().collect::<Vec<_>>().concat()).ok()?)
}

fn field(span: Option<shadowcat_codecs::Span>, frame: &Bytes) -> String {
    span.map(|span| String::from_utf8_lossy(span.of(frame)).into_owned()).unwrap_or_default()
}

/// What is left of a message without the ids and tokens that may be exchanged.
fn without_ids(envelope: &Envelope, frame: &Bytes) -> Vec<u8> {
    let answer = envelope.id().filter(|_| envelope.kind() != Kind::Notification);
    let named = [
        answer,
        envelope.meta_progress_token(),
        envelope.progress_token(),
        envelope.request_id(),
        envelope.subscription_id(),
    ];
    let mut spans: Vec<_> = named.into_iter().flatten().collect();
    spans.sort_by_key(|span| span.start());
    let (mut rest, mut at) = (Vec::new(), 0);
    for span in spans {
        rest.extend_from_slice(frame.get(at..span.start()).unwrap_or_default());
        at = span.end();
    }
    rest.extend_from_slice(frame.get(at..).unwrap_or_default());
    rest
}

/// The integer that a spelling of ours stands for.
fn value(text: &str) -> Option<u64> {
    let whole = text.strip_suffix(".0").unwrap_or(text);
    whole.strip_suffix("0e-1").unwrap_or(whole).parse().ok().or_else(|| {
        let value = text.parse::<f64>().ok().filter(|value| value.fract() == 0.0 && (1.0..9e15).contains(value))?;
        format!("{value:.0}").parse().ok()
    })
}

const MAX_ID_LEN: usize = 64;
