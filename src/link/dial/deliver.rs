//! What answers hold, on its way to the client: messages as lines, and errors where there is no answer.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use shadowcat_codecs::{
    Frame, FrameError,
    envelope::{BatchElement, Envelope, IdClass, Kind, text},
    line::{LineEncoder, LineEnds},
    sse::EventBatch,
};

use super::{
    Dial, MAX_LINGERING,
    answer::{End, Step},
    posted::{Key, Posted, Purpose},
    two_endpoints::Mode,
};
use crate::{
    link::no_room,
    session::{
        Action, Message, Reason, RequestId, StreamKey, dialed,
        revision::Era,
        tools::{Fault, Invalid},
        write_cancelled,
    },
    telemetry::metrics::labels::{CopyReason, TimeoutOf},
};

impl Dial {
    pub(super) fn handle_step(&mut self, key: Key, step: Step) {
        let _in = self.posted.get(&key).map(|posted| posted.span.clone().entered());
        match step {
            Step::Events(batch, charges) => {
                self.unwritten = charges;
                self.deliver_events(key, &batch);
            }
            Step::Heard => self.heard(key),
            Step::Skipped(error) => self.note_skipped(key, error),
            Step::Whole { body, is_joined } => {
                if is_joined {
                    self.options.resources.metrics.copied(CopyReason::AnswerJoin, body.len());
                }
                self.handle_whole(key, body);
            }
            Step::Ended(end) => self.handle_end(key, end),
        }
    }

    fn deliver_events(&mut self, key: Key, batch: &EventBatch) {
        self.heard(key);
        self.to_client.read(super::now());
        for (index, event) in batch.iter().enumerate() {
            let Some(posted) = self.posted.get_mut(&key) else { return };
            posted.back_off.reset();
            if posted.purpose == Purpose::Listening {
                self.listening.heard();
            }
            // Events without data open a stream (rule G7); of other types than these nothing is known.
            match event.event() {
                b"message" if !event.data().is_empty() => {
                    if let Some(event) = batch.get(index) {
                        self.deliver(key, event.into_data());
                    }
                }
                b"endpoint" if posted.purpose == Purpose::Events => self.handle_endpoint(event.data()),
                _ => {}
            }
        }
    }

    /// The server said something on the stream that carries the answers to these requests, be it a comment.
    fn heard(&mut self, key: Key) {
        if let Some(posted) = self.posted.get(&key) {
            self.session.heard_of(&posted.ids, super::now);
        }
    }

    #[cold]
    fn note_skipped(&mut self, key: Key, error: FrameError) {
        tracing::warn!(from = %StreamKey::UPSTREAM, %error, "message skipped");
        let reason = match error {
            FrameError::MessageTooLarge { limit, at } => Reason::MessageTooLarge { limit, at, declared: None },
            other => Reason::Refused { what: other.to_string() },
        };
        if let Some(posted) = self.posted.get_mut(&key) {
            posted.failure = Some(reason);
        }
    }

    /// Passes one message on to the client.
    fn deliver(&mut self, key: Key, data: Frame) {
        let verify = self.options.resources.verify;
        let mut seen = verify.blanked(&data);
        // Raw line ends in JSON are white space between tokens (rule E9).
        let Ok(line) = LineEncoder::new(LineEnds::BlankAlways).encode(data) else { return };
        let mut frame = Bytes::from(line.into_frame());
        let Some(mut envelope) = self.parsed(key, &frame) else { return };
        // A server that reads and rewrites ids may spell them anew; then the client's spelling is restored.
        if let Some(copy) = self.respelled(key, &envelope, &frame) {
            self.options.resources.metrics.copied(CopyReason::Respell, copy.len());
            frame = copy;
            // That is what may change; the rest of it is as it was.
            seen = verify.seen(&frame);
            let Some(again) = self.parsed(key, &frame) else { return };
            envelope = again;
        }
        if self.posted.get(&key).is_some_and(|posted| posted.purpose == Purpose::Reopening)
            && matches!(envelope.kind(), Kind::Response | Kind::Error)
        {
            return self.handle_reopening_answer(key, &envelope, &frame);
        }
        let message = Message { frame: &frame, envelope: &envelope, elements: self.parser.elements() };
        let is_answer = envelope.kind() == Kind::Response
            || message.elements.iter().map(BatchElement::envelope).any(|envelope| envelope.kind() == Kind::Response);
        let action = self.session.handle(StreamKey::UPSTREAM, message, super::now());
        self.to_client.decided(StreamKey::UPSTREAM, message, &action);
        match action {
            Action::Forward { .. } => {
                self.outbox.enter(seen);
                self.outbox.push_frame([frame.clone()]);
            }
            Action::Reply(replies) => self.reply(&replies),
            Action::Drop => {}
        }
        if is_answer {
            self.learn(key, &envelope, &frame);
        }
        self.linger(key);
    }

    /// The envelope of what the server sent; what is no message is kept back.
    fn parsed(&mut self, key: Key, frame: &[u8]) -> Option<Envelope> {
        self.parser
            .parse(frame)
            .inspect_err(|error| {
                tracing::warn!(from = %StreamKey::UPSTREAM, len = frame.len(), %error, "not a message; kept back");
                self.session.handle_noise();
                self.to_client.kept_back();
                if let Some(posted) = self.posted.get_mut(&key) {
                    posted.failure = Some(Reason::Refused { what: error.to_string() });
                }
            })
            .ok()
    }

    fn respelled(&self, key: Key, envelope: &Envelope, frame: &[u8]) -> Option<Bytes> {
        let posted = self.posted.get(&key)?;
        match posted.purpose {
            // Every answer of HTTP+SSE comes by the one stream.
            Purpose::Events => dialed::respelled(envelope, frame, self.session.asked(StreamKey::UPSTREAM)),
            _ if posted.awaits_answer(&self.session) => dialed::respelled(envelope, frame, posted.ids.iter()),
            _ => None,
        }
    }

    /// Takes in what an answer says of the session and of the tools.
    fn learn(&mut self, key: Key, envelope: &Envelope, frame: &[u8]) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        let is_own = envelope.id().is_some_and(|id| posted.ids.iter().any(|own| own.as_bytes() == id.of(frame)));
        if is_own && posted.is_initialize {
            let version = envelope.result_protocol_version().and_then(|span| text(span, frame));
            self.dialed.negotiated(posted.session.take(), version.as_deref());
        } else if is_own && posted.is_tools_list && posted.era == Era::Modern {
            let learned = self.dialed.learn(frame);
            for Invalid { tool, fault } in &learned.invalid {
                match fault {
                    Fault::Rule(_) => tracing::warn!(?tool, "{fault}; calls of it are refused"),
                    Fault::Limit(_) => tracing::warn!(?tool, "{fault}; called without parameter headers"),
                }
            }
            if learned.dropped > 0 {
                tracing::warn!(tools = learned.dropped, "no room for the marked parameters of more tools");
            }
        }
    }

    /// A stream whose answers have come is read to its end, so that its connection can be used again; but it
    /// is not waited for, and of those that do not end only a few are kept.
    fn linger(&mut self, key: Key) {
        let Some(posted) = self.posted.get_mut(&key) else { return };
        if !posted.counts() || posted.awaits_answer(&self.session) {
            return;
        }
        posted.ids.clear();
        self.asking -= 1;
        self.linger_on(key);
    }

    /// Nothing is awaited of this exchange any more.
    pub(super) fn linger_on(&mut self, key: Key) {
        self.lingering.push_back(key);
        if self.lingering.len() > MAX_LINGERING
            && let Some(oldest) = self.lingering.pop_front()
        {
            self.remove(oldest);
        }
    }

    /// A body that is no event stream is there.
    fn handle_whole(&mut self, key: Key, bytes: Bytes) {
        let Some(Posted { purpose, status: Some(status), ids, .. }) = self.posted.get(&key) else { return };
        let (purpose, status, asks) = (*purpose, *status, !ids.is_empty());
        self.to_client.read(super::now());
        match purpose {
            Purpose::Message if asks && status.is_success() => {
                self.deliver(key, Frame::new(bytes));
                let what = "its answer is not that of the request".to_owned();
                self.fail(key, &Reason::UpstreamStatus { status: status.as_u16(), what });
            }
            Purpose::Message if asks => self.handle_refusal(key, status, bytes),
            Purpose::Reopening if status.is_success() => {
                self.deliver(key, Frame::new(bytes));
                if self.posted.contains_key(&key) {
                    self.reopening_failed("no answer to initialize");
                }
            }
            _ => {
                self.remove(key);
                if !status.is_success() {
                    tracing::warn!(%status, "the server did not take a notification or a response");
                }
            }
        }
    }

    /// An HTTP error. One that is the answer is passed on, one that is nearly the answer gets the id.
    fn handle_refusal(&mut self, key: Key, status: StatusCode, bytes: Bytes) {
        let envelope = self.parser.parse(&bytes).ok();
        let kind = envelope.as_ref().map(Envelope::kind);
        if kind != Some(Kind::Error) && self.may_be_two_endpoints(key, status) {
            return self.ask_for_endpoint(key, status, &bytes);
        }
        let Some(posted) = self.posted.get(&key) else { return };
        let Some(envelope) = envelope.filter(|_| matches!(kind, Some(Kind::Response | Kind::Error))) else {
            return self.fail(key, &refusal(status, &bytes));
        };
        if matches!(envelope.id_class(), IdClass::Number | IdClass::String) {
            self.deliver(key, Frame::new(bytes.clone()));
        } else if let Some(error) = error_of(&bytes) {
            for id in posted.ids.clone() {
                // A copy of what the server said for each, and a batch has many: without room they get what follows.
                let budget = &self.options.resources.budget;
                let Some(charge) = budget.try_take(id.as_bytes().len() + error.get().len() + WITH_ID_LEN) else {
                    break;
                };
                let line = charge.wrap(budget.written(|line| write_with_id(line, &id, error)));
                self.deliver(key, Frame::new(line));
            }
        }
        self.fail(key, &refusal(status, &bytes));
    }

    /// A body has ended, with or without what was awaited.
    fn handle_end(&mut self, key: Key, end: End) {
        if end.timeout.is_some() {
            self.options.resources.metrics.timeouts.add((TimeoutOf::EventRead,), 1);
        }
        let Some(posted) = self.posted.get(&key) else { return };
        let what = end.broken.clone().unwrap_or_else(|| "it ended".to_owned());
        match posted.purpose {
            Purpose::Listening => self.listen_later(key, Some(end), &what),
            Purpose::Events => self.events_ended(key, &what),
            Purpose::Reopening | Purpose::Reopened => self.reopening_failed(&what),
            Purpose::Leaving => {}
            Purpose::Message if !posted.awaits_answer(&self.session) => {
                self.remove(key);
            }
            Purpose::Message => {
                if let Some(exhausted) = end.no_room {
                    return self.fail(key, &no_room(exhausted));
                }
                if let Some((limit, declared)) = end.too_long {
                    return self.fail(key, &Reason::MessageTooLarge { limit, at: 0, declared });
                }
                tracing::warn!(%what, "a stream ended without the answer");
                self.resume(key, end);
            }
        }
    }

    /// An exchange brings nothing more: whoever waits for it gets an error. What it said itself comes first.
    pub(super) fn fail(&mut self, key: Key, reason: &Reason) {
        let Some(posted) = self.remove(key) else { return };
        if posted.ids.is_empty() {
            return;
        }
        let reason = posted.failure.as_ref().unwrap_or(reason);
        // A subscription that was running gets the one signal there is for its end (rule M4).
        let was_open = posted.is_listen && posted.status.is_some_and(|status| status.is_success());
        for id in &posted.ids {
            let kind = Kind::Response;
            let refused = self.session.handle_refused(StreamKey::UPSTREAM, kind, id.as_bytes(), reason.clone());
            match refused {
                Some(_) if was_open => self.push_ended(id),
                Some((_, reply)) => self.push_reply(StreamKey::UPSTREAM, &reply),
                None => {}
            }
        }
    }

    /// The end of a subscription, as a server on stdio would tell it.
    fn push_ended(&mut self, id: &RequestId) {
        let budget = &self.options.resources.budget;
        let line = budget.written(|line| write_cancelled(line, id.as_bytes(), "the server's stream ended"));
        self.outbox.push_line(line);
    }

    /// Whether an `initialize` that was refused like this may be meant for HTTP+SSE (A: "Backwards
    /// Compatibility" of the transports of 2025-03-26 and later).
    fn may_be_two_endpoints(&self, key: Key, status: StatusCode) -> bool {
        let is_old = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        let is_first = self.dialed.generation() == 0 && matches!(self.mode, Mode::Streamable);
        is_old && is_first && self.posted.get(&key).is_some_and(|posted| posted.is_initialize)
    }
}

/// An HTTP error that is no message.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Reason {
    let mut what: String = String::from_utf8_lossy(body.get(..MAX_SHOWN).unwrap_or(body)).into_owned();
    if what.trim().is_empty() {
        what = status.canonical_reason().unwrap_or("without a word").to_owned();
    }
    Reason::UpstreamStatus { status: status.as_u16(), what }
}

/// The raw text of a message's `error`.
fn error_of(bytes: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Refusal<'_>>(bytes).ok()?.error
}

/// An error that names no request, as the answer to one (rule F6 allows the former, a line wants the latter).
fn write_with_id(line: &mut BytesMut, id: &RequestId, error: &RawValue) {
    line.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    line.put_slice(id.as_bytes());
    line.put_slice(b",\"error\":");
    line.put_slice(error.get().as_bytes());
    line.put_slice(b"}");
}

/// What is written around an id and its error.
const WITH_ID_LEN: usize = 64;
/// Most bytes shown of an error's body.
const MAX_SHOWN: usize = 200;
