//! What a proxy remembers about one downstream paired with one upstream, and what it decides.
//!
//! Pure: no sockets, no tasks, no clock; time is an argument. A link hands in each frame with its
//! envelope and the key of the stream it came from, and does what the returned [`Action`] says. Nothing
//! here reads or changes a payload.
//!
//! What is remembered: the requests in flight, by the stream that has to answer them, so that each gets
//! its answer or one error when that stream is gone.

mod awaited;
pub mod batch;
mod cancelled;
mod deadline;
pub mod dialed;
mod doubling;
mod mcp_session_id;
pub mod mirror;
pub mod owned;
mod pending;
pub mod replay;
mod reply;
pub mod restart;
pub mod revision;
pub mod shared;
mod spelling;
mod streams;
pub mod tools;

use std::{
    fmt,
    time::{Duration, Instant},
};

use shadowcat_codecs::envelope::{BatchElement, Envelope, IdClass, Kind};

pub use awaited::Expired;
use awaited::{Awaited, Overdue};
pub use cancelled::write_cancelled;
pub use deadline::{ResponseTimeouts, Timeout};
pub use mcp_session_id::McpSessionId;
pub use pending::RequestId;
use pending::{Asked, Pending};
pub use reply::{Reason, Reply, status_of_error};
use spelling::method_is;
pub use streams::StreamKeys;

/// A stream of frames: a child, our own stdio, a POST and its reply.
///
/// Sessions are addressed by stream, not by side, so that all links can share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey(u64);

/// The state of one session. See the [module](self).
#[derive(Debug)]
pub struct Session {
    pending: Pending,
    awaited: Awaited,
    counts: Counts,
    /// Whether the server was asked anything yet.
    has_asked: bool,
    /// The first request of a legacy session, until it is answered, and when it came by.
    initialize: Option<(RequestId, Instant)>,
}

/// One message as a link saw it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The frame's bytes, which all spans of the envelope refer to.
    pub frame: &'a [u8],
    /// What the frame is.
    pub envelope: &'a Envelope,
    /// The elements, if the frame is a batch; empty otherwise.
    pub elements: &'a [BatchElement],
}

/// What a link must do with the frame it handed in.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Pass the frame on, unchanged.
    Forward {
        /// To this stream.
        to: StreamKey,
        /// For an answer: how long ago its request came by.
        after: Option<Duration>,
    },
    /// Do not pass the frame on; write these messages of ours instead, each to its stream: one for every request
    /// in the frame, to whom it came from, and for every answer, to whom it was for.
    Reply(Vec<(StreamKey, Reply)>),
    /// Do not pass the frame on: it answers a request whose time has passed, and whose requester was told so.
    Drop,
}

/// What has crossed a session, for the line that is logged when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames passed on to the upstream.
    pub to_upstream: u64,
    /// Frames passed on to the downstream.
    pub to_downstream: u64,
    /// Frames that were not JSON and went nowhere.
    pub quarantined: u64,
    /// Messages of our own in place of an answer.
    pub replied: u64,
    /// Answers that came after their time, and went nowhere.
    pub late: u64,
}

/// What a message means for the requests in flight.
enum Noted {
    /// It passes. For an answer: the age of its request.
    Passes(Option<Duration>),
    /// It comes too late.
    Late,
}

impl StreamKey {
    /// Who called us: in `link::pipe`, the client on our stdin and stdout.
    pub const DOWNSTREAM: Self = Self(0);
    /// Whom we call: in `link::pipe`, the child.
    pub const UPSTREAM: Self = Self(1);

    /// One of many streams of a session. 0 and 1 are the two above.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// In a session of just two streams, the other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        if self.0 == Self::DOWNSTREAM.0 { Self::UPSTREAM } else { Self::DOWNSTREAM }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DOWNSTREAM => f.write_str("client"),
            Self::UPSTREAM => f.write_str("server"),
            Self(key) => write!(f, "stream {key}"),
        }
    }
}

impl Session {
    /// A session without requests in flight, that remembers at most `max_pending` of them.
    #[must_use]
    pub fn new(max_pending: usize) -> Self {
        Self {
            pending: Pending::new(max_pending),
            awaited: Awaited::default(),
            counts: Counts::default(),
            has_asked: false,
            initialize: None,
        }
    }

    /// The session, with limits on how long answers to the client may take.
    #[must_use]
    pub fn with_timeouts(self, timeouts: ResponseTimeouts) -> Self {
        Self { awaited: Awaited::new(timeouts), ..self }
    }

    /// Decides about a message that came from `from` at `now`.
    pub fn handle(&mut self, from: StreamKey, message: Message<'_>, now: Instant) -> Action {
        let Message { frame, envelope, elements } = message;
        if envelope.kind() != Kind::Batch {
            let single = std::iter::once(envelope);
            if self.has_no_room_for(single.clone()) {
                return self.refuse(from, frame, single);
            }
            return match self.note(from, frame, envelope, now) {
                Noted::Passes(after) => self.forward(from, after),
                Noted::Late => {
                    self.counts.late += 1;
                    Action::Drop
                }
            };
        }
        // A batch goes through whole or not at all, also with a late answer in it.
        let parts = elements.iter().map(BatchElement::envelope);
        if self.has_no_room_for(parts.clone()) {
            return self.refuse(from, frame, parts);
        }
        for envelope in parts {
            self.note(from, frame, envelope, now);
        }
        self.forward(from, None)
    }

    /// A message of the client was taken, and is [handled](Self::handle) later: its time begins, if it has a limit.
    pub fn take(&mut self, frame: &[u8], envelope: &Envelope, now: Instant) {
        self.awaited.taken(frame, envelope, now);
    }

    /// The server said something where it answers these requests of the client: their time begins anew.
    pub fn heard_of(&mut self, ids: &[RequestId], clock: impl FnOnce() -> Instant) {
        self.awaited.heard_of(ids, clock);
    }

    /// A frame is not passed on because it is no message, or none that can be passed on.
    pub fn handle_noise(&mut self) {
        self.counts.quarantined += 1;
    }

    /// A message from `from` is not passed on, for `reason`; `kind` and `id` are what could be learnt of it.
    /// Whoever waits for it gets an error: the sender of a request, or the one an answer was meant for.
    pub fn handle_refused(
        &mut self,
        from: StreamKey,
        kind: Kind,
        id: &[u8],
        reason: Reason,
    ) -> Option<(StreamKey, Reply)> {
        let (to, reason) = match kind {
            Kind::Request => {
                if from == StreamKey::DOWNSTREAM && !self.pending.contains(from.opposite(), id) {
                    self.awaited.answered(id);
                }
                (from, reason)
            }
            Kind::Response | Kind::Error => {
                self.answered(from, id)?;
                (from.opposite(), reason.of_answer())
            }
            _ => return None,
        };
        self.counts.replied += 1;
        Some((to, Reply::new(RequestId::new(id), reason)))
    }

    /// The stream `gone` will answer nothing any more: takes one request that waits for it, and the error
    /// to write instead of its answer. Call until `None`.
    pub fn poll_orphan(&mut self, gone: StreamKey, reason: &Reason) -> Option<(StreamKey, Reply)> {
        let id = self.pending.take_any(gone)?;
        if gone == StreamKey::UPSTREAM {
            self.awaited.answered(id.as_bytes());
        }
        self.counts.replied += 1;
        Some((gone.opposite(), Reply::new(id, reason.clone())))
    }

    /// When [`poll_expired`](Self::poll_expired) has something to say, if nothing happens before.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.awaited.due()
    }

    /// Takes one request of the client whose answer has not come in time. Call until `None`.
    pub fn poll_expired(&mut self, now: Instant) -> Option<Expired> {
        loop {
            let (id, limit, Overdue { may_be_cancelled, is_only_taken }) = self.awaited.take_due(now)?;
            // As often as it was asked; then the one answer that may still come is too late for all.
            let mut was_pending = is_only_taken;
            while self.pending.answered(StreamKey::UPSTREAM, id.as_bytes()).is_some() {
                was_pending = true;
            }
            if was_pending {
                self.counts.replied += 1;
                let reply = Reply::new(id.clone(), Reason::Timeout(Timeout::of_answer(limit)));
                return Some(Expired { id, reply, may_be_cancelled });
            }
        }
    }

    /// Requests that `stream` has yet to answer.
    #[must_use]
    pub fn pending_at(&self, stream: StreamKey) -> usize {
        self.pending.len_at(stream)
    }

    /// Whether `stream` has yet to answer the request with this id.
    #[must_use]
    pub fn is_pending(&self, stream: StreamKey, id: &RequestId) -> bool {
        self.pending.contains(stream, id.as_bytes())
    }

    /// The requests that `stream` has yet to answer, in no order.
    pub fn asked(&self, stream: StreamKey) -> impl Iterator<Item = &RequestId> + Clone {
        self.pending.ids_at(stream)
    }

    /// Since when the server owes the answer to `initialize`, if that was the first request of all.
    #[must_use]
    pub fn initializing_since(&self) -> Option<Instant> {
        let (id, at) = self.initialize.as_ref()?;
        self.is_pending(StreamKey::UPSTREAM, id).then_some(*at)
    }

    /// What has crossed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether there are more requests among `parts` than may still wait.
    fn has_no_room_for<'a>(&self, parts: impl Iterator<Item = &'a Envelope>) -> bool {
        let requests = parts.filter(|part| part.kind() == Kind::Request).count();
        requests > 0 && requests > self.pending.room()
    }

    /// Books one message that is not a batch.
    fn note(&mut self, from: StreamKey, frame: &[u8], envelope: &Envelope, now: Instant) -> Noted {
        let to = from.opposite();
        match (envelope.kind(), envelope.id()) {
            (Kind::Request, Some(id)) => {
                let booked = self.pending.asked(to, id.of(frame), now);
                debug_assert!(booked.is_ok(), "room was looked for");
                if to == StreamKey::UPSTREAM {
                    self.note_first(frame, envelope, now);
                    self.awaited.asked(frame, envelope, now);
                }
                Noted::Passes(None)
            }
            (Kind::Response | Kind::Error, Some(id)) if envelope.id_class() != IdClass::Null => {
                match self.answered(from, id.of(frame)) {
                    Some(Asked { at, .. }) => Noted::Passes(Some(now.saturating_duration_since(at))),
                    None if from == StreamKey::UPSTREAM && self.awaited.is_late(id.of(frame)) => Noted::Late,
                    None => Noted::Passes(None),
                }
            }
            (Kind::Notification, _) => {
                self.note_cancelled(to, frame, envelope);
                if from == StreamKey::UPSTREAM {
                    self.awaited.heard(frame, envelope, now);
                }
                Noted::Passes(None)
            }
            _ => Noted::Passes(None),
        }
    }

    /// Rule V1 (all legacy revisions, Lifecycle): `initialize` comes first, or there is none.
    fn note_first(&mut self, frame: &[u8], envelope: &Envelope, now: Instant) {
        if std::mem::replace(&mut self.has_asked, true) {
            return;
        }
        if let (true, Some(id)) = (method_is(frame, envelope, "initialize"), envelope.id()) {
            self.initialize = Some((RequestId::new(id.of(frame)), now));
        }
    }

    /// `answerer` answered `id`, or nobody waits for that answer any more.
    fn answered(&mut self, answerer: StreamKey, id: &[u8]) -> Option<Asked> {
        let asked = self.pending.answered(answerer, id)?;
        if answerer == StreamKey::UPSTREAM && asked.is_last() {
            // Forgotten once it is answered, as another request may have its id then.
            self.initialize.take_if(|(initialize, _)| initialize.as_bytes() == id);
            self.awaited.answered(id);
        }
        Some(asked)
    }

    /// Whoever cancelled a request waits for no answer any more; a late one is still passed on.
    /// Rule: MCP "Cancellation" (all revisions), `params.requestId`.
    fn note_cancelled(&mut self, to: StreamKey, frame: &[u8], envelope: &Envelope) {
        // Few messages have a `requestId`, so the method is looked at second.
        if let Some(id) = envelope.request_id()
            && method_is(frame, envelope, "notifications/cancelled")
        {
            let asked = self.answered(to, id.of(frame));
            if asked.is_none() && to == StreamKey::UPSTREAM {
                // It was only taken.
                self.awaited.answered(id.of(frame));
            }
        }
    }

    /// Nothing of the frame passes: whoever asked something in it is told, and whoever waits for an answer in it.
    #[cold]
    fn refuse<'a>(&mut self, from: StreamKey, frame: &[u8], parts: impl Iterator<Item = &'a Envelope>) -> Action {
        let limit = self.pending.max();
        let told = parts.filter(|part| part.id_class() != IdClass::Null).filter_map(|part| {
            self.handle_refused(from, part.kind(), part.id()?.of(frame), Reason::TooManyPending { limit })
        });
        Action::Reply(told.collect())
    }

    fn forward(&mut self, from: StreamKey, after: Option<Duration>) -> Action {
        let to = from.opposite();
        match to {
            StreamKey::UPSTREAM => self.counts.to_upstream += 1,
            _ => self.counts.to_downstream += 1,
        }
        Action::Forward { to, after }
    }
}

#[cfg(test)]
mod tests;
