//! What a link remembers when many clients share one child, and what it decides: who gets what the child says.
//!
//! For the modern era (MCP 2026-07-28) only, where requests are independent of each other and a child need not
//! know how many clients it serves. Each HTTP exchange is a stream with one request. Clients choose ids and
//! progress tokens without knowing of each other, so on their way to the child both are replaced by one
//! integer of ours, and what the child says of that integer goes to its owner alone, in the owner's own
//! spelling. Nothing else of a frame is changed.
//!
//! ```text
//!   client A  {"id":1,"method":"a"}   ──►  {"id":1,"method":"a"}  ──►
//!   client B  {"id":1,"method":"b"}   ──►  {"id":2,"method":"b"}  ──►  child
//!   client B  {"id":1,"result":{}}    ◄──  {"id":2,"result":{}}   ◄──
//! ```
//!
//! # Promises
//!
//! - No message reaches a client it was not meant for. What cannot be attributed goes to nobody ([`Dropped`]);
//!   nothing is ever sent to several.
//! - An integer is minted once in a child's life. So whatever names one that is no longer in flight is late,
//!   and no list of ended requests is needed to know it.
//! - Everything is bounded: requests by `max_pending`, ids and tokens by `max_id_len`, [`MAX_GHOSTS`].
//!
//! What is not here: sockets, queues, time-outs, the clock, the era of a message (the link asks only for
//! modern ones), and what an HTTP status says of all this.

mod admit;
mod cancel;
mod dropped;
mod logs;
mod route;
mod value;

use std::{
    hash::RandomState,
    time::{Duration, Instant},
};

use hashbrown::{HashMap, hash_map::Entry};
use shadowcat_codecs::{
    Frame,
    envelope::{self, Envelope, Kind, Replacement, Splice},
};

pub use cancel::{Cancel, Leaving};
pub use dropped::{Dropped, DroppedCounts};
pub use logs::MAX_GHOSTS;

use super::{Reason, Reply, RequestId, ResponseTimeouts, StreamKey, Timeout, deadline::Deadlines};
use logs::Logs;
use value::integer;

/// The state of one child's life and of all who share it. A new child needs a new one.
///
/// A link calls, for each message of a client, [`ask`](Self::ask) or [`notify`](Self::notify); for each message
/// of the child, [`hear`](Self::hear); and when a client's stream ends without us, [`leave`](Self::leave).
/// The child's end is [`child_gone`](Self::child_gone), which ends this too.
#[derive(Debug)]
pub struct Shared {
    max_pending: usize,
    max_id_len: usize,
    /// What is minted next. Invariant: above every key of `exchanges`; `1 <= next <= MINTED_END`.
    next: u64,
    /// The requests in flight by what was minted for them. Invariant: `len <= max_pending`.
    exchanges: HashMap<u64, Exchange, RandomState>,
    /// What was minted for each stream's request. Invariant: the inverse of `exchanges`.
    streams: HashMap<StreamKey, u64, RandomState>,
    /// How many of `exchanges` are subscriptions.
    listens: usize,
    logs: Logs,
    dropped: DroppedCounts,
    timeouts: ResponseTimeouts,
    /// Of those in `exchanges` that have a limit.
    deadlines: Deadlines<u64>,
}

/// One request in flight.
#[derive(Debug)]
struct Exchange {
    stream: StreamKey,
    /// The client's own spelling of its id, a copy: a slice would pin the request's body.
    id: Replacement,
    /// Of its progress token.
    token: Option<Replacement>,
    is_listen: bool,
    at: Instant,
}

/// What a link must do with a message of the child.
#[derive(Debug)]
#[must_use]
#[expect(clippy::large_enum_variant, reason = "moved once, into a queue; a box would be an allocation a message")]
pub enum Heard {
    /// Deliver it to one exchange.
    To {
        /// Whose it is.
        stream: StreamKey,
        /// What to deliver: the child's bytes, with the client's own ids in them.
        splice: Splice,
        /// Whether it is the last the exchange gets: its answer, or the end of its subscription. Nothing is
        /// remembered of the exchange any more.
        is_final: bool,
        /// How long ago the request was asked.
        after: Duration,
    },
    /// Deliver it to nobody.
    Drop(Dropped),
}

/// A request that its child will not answer any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The exchange it belongs to.
    pub stream: StreamKey,
    /// The error in place of its answer.
    pub reply: Reply,
    /// Whether it is a subscription. If its stream has begun, it is cut instead, without a result: a result
    /// would say that the subscription ended as it should (MCP 2026-07-28, "Subscriptions").
    pub is_listen: bool,
}

/// What is known of a request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether it is a subscription, which lasts until somebody ends it.
    pub is_listen: bool,
    /// Whether it may get progress.
    pub has_progress_token: bool,
    /// When it was asked.
    pub at: Instant,
}

impl Shared {
    /// Nothing in flight. At most `max_pending` requests will be, subscriptions included, each with an id and
    /// a progress token of at most `max_id_len` bytes, of which a copy is kept.
    #[must_use]
    pub fn new(max_pending: usize, max_id_len: usize) -> Self {
        Self {
            max_pending,
            max_id_len,
            next: 1,
            exchanges: HashMap::default(),
            streams: HashMap::default(),
            listens: 0,
            logs: Logs::default(),
            dropped: DroppedCounts::default(),
            timeouts: ResponseTimeouts::default(),
            deadlines: Deadlines::default(),
        }
    }

    /// The same, with limits on how long answers may take. What the child says of a request begins its time anew.
    #[must_use]
    pub fn with_timeouts(self, timeouts: ResponseTimeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// A client's request on its way to the child: what to write, with an id and a token of our own.
    ///
    /// # Errors
    ///
    /// What to answer instead. Nothing is remembered then.
    ///
    /// - There are `max_pending` requests in flight, or an id or token is longer than `max_id_len`.
    /// - The id is null (Rule F3), or the message is no request at all.
    /// - The stream has a request already: an exchange has one.
    /// - It names a subscription, whose id means something else to a child that has many clients.
    pub fn ask(&mut self, from: StreamKey, frame: Frame, envelope: &Envelope, now: Instant) -> Result<Splice, Reply> {
        let id = RequestId::new(envelope.id().map_or(b"null", |id| id.of(&frame)));
        self.admit(from, frame, envelope, now).map_err(|reason| Reply::new(id, reason))
    }

    /// A client's notification on its way to the child: passed on as it is, if it is one that can be.
    ///
    /// # Errors
    ///
    /// Why it goes nowhere. Except for [`Dropped::ClientAnswer`], [`Dropped::Batch`] and
    /// [`Dropped::NotAMessage`], which break a rule of the transport, the client is told that it was accepted.
    pub fn notify(&mut self, frame: Frame, envelope: &Envelope) -> Result<Frame, Dropped> {
        let refused = match envelope.kind() {
            // Rules T5, H4: a modern client answers nothing.
            Kind::Response | Kind::Error => Dropped::ClientAnswer,
            Kind::Batch => Dropped::Batch,
            Kind::Request | Kind::Other => Dropped::NotAMessage,
            // Rule C5: over HTTP, cancelling is closing the stream. The id in here is its sender's, which
            // others may use too: taken at its word, it would end another client's request.
            Kind::Notification if is_method(envelope, &frame, "notifications/cancelled") => Dropped::ClientCancelled,
            // Rule C9: a token or subscription of its sender, which to the child are another's.
            Kind::Notification
                if is_method(envelope, &frame, "notifications/progress")
                    || envelope.meta_progress_token().is_some()
                    || envelope.subscription_id().is_some() =>
            {
                Dropped::ClientToken
            }
            Kind::Notification => return Ok(frame),
        };
        self.dropped.add(refused);
        Err(refused)
    }

    /// A message of the child: whose it is, in whose words.
    pub fn hear(&mut self, frame: Frame, envelope: &Envelope, now: Instant) -> Heard {
        let route = match envelope.kind() {
            Kind::Response | Kind::Error => self.route_answer(&frame, envelope),
            Kind::Notification => self.route_notification(&frame, envelope),
            // Rules T5, H9: a modern server asks nothing.
            Kind::Request => Err(Dropped::ServerRequest),
            Kind::Batch => Err(Dropped::Batch),
            Kind::Other => Err(Dropped::NotAMessage),
        };
        match route.and_then(|route| self.deliver(&route, frame, envelope, now)) {
            Ok(heard) => heard,
            Err(dropped) => {
                self.dropped.add(dropped);
                Heard::Drop(dropped)
            }
        }
    }

    /// A message of the child cannot be passed on, for `reason`; `kind` and `id` are what could be learnt of
    /// it. If it is an answer, the one who waits for it gets this error. Also for each answer in a batch,
    /// which [`hear`](Self::hear) drops whole.
    pub fn hear_refused(&mut self, kind: Kind, id: &[u8], reason: Reason) -> Option<(StreamKey, Reply)> {
        if !matches!(kind, Kind::Response | Kind::Error) {
            return None;
        }
        let minted = integer(id)?;
        self.logs.answered(minted);
        let exchange = self.end(minted)?;
        Some((exchange.stream, exchange.reply(reason.of_answer())))
    }

    /// The client of `stream` gets nothing more, for `why`. `Some` is what to write to the child, behind the
    /// request; `None` if nothing is in flight there, because the last message was heard already.
    ///
    /// Rule C5: the end of a modern client's stream is a cancellation. Rule T7: the child says no more of it;
    /// what it says all the same is [late](Dropped::Late).
    pub fn leave(&mut self, stream: StreamKey, why: Leaving) -> Option<Cancel> {
        let minted = *self.streams.get(&stream)?;
        self.end(minted)?;
        self.logs.left(minted);
        Some(Cancel::new(minted, why))
    }

    /// When [`poll_expired`](Self::poll_expired) has something to say, if nothing happens before.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.due()
    }

    /// Takes one request that was not answered in time: the error in place of its answer, and what to write to the
    /// child. What the child says of it later is [late](Dropped::Late). Call until `None`.
    pub fn poll_expired(&mut self, now: Instant) -> Option<(Orphan, Cancel)> {
        loop {
            let (minted, limit, ()) = self.deadlines.take_due(now)?;
            let expired = self.orphan(minted, Reason::Timeout(Timeout::of_answer(limit)), Leaving::TimedOut);
            if expired.is_some() {
                return expired;
            }
        }
    }

    /// The request of `stream` was given to us at `given`, before it was asked: its time began then.
    pub fn waits_since(&mut self, stream: StreamKey, given: Instant) {
        if let Some(minted) = self.streams.get(&stream) {
            self.deadlines.extend(minted, given);
        }
    }

    /// The request of `stream` gets `reason` in place of its answer. What is written to the child says `why`.
    pub fn give_up(&mut self, stream: StreamKey, reason: Reason, why: Leaving) -> Option<(Orphan, Cancel)> {
        let minted = *self.streams.get(&stream)?;
        self.orphan(minted, reason, why)
    }

    /// The request of `stream` will not reach the child after all: it is as if it had never been asked, but
    /// what was minted for it stays unused.
    pub fn withdraw(&mut self, stream: StreamKey) {
        if let Some(&minted) = self.streams.get(&stream) {
            self.logs.answered(minted);
            self.end(minted);
        }
    }

    /// The child is gone, for `reason`: everything that was in flight, in the order in which it was asked.
    pub fn child_gone(self, reason: &Reason) -> impl Iterator<Item = Orphan> {
        let mut exchanges: Vec<(u64, Exchange)> = self.exchanges.into_iter().collect();
        exchanges.sort_unstable_by_key(|&(minted, _)| minted);
        exchanges.into_iter().map(|(_, exchange)| Orphan {
            stream: exchange.stream,
            reply: exchange.reply(reason.clone()),
            is_listen: exchange.is_listen,
        })
    }

    /// Whether a request is in flight that is no subscription: the child owes an answer.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.exchanges.len() > self.listens
    }

    /// Requests in flight, subscriptions included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    /// What is known of the request of `stream`, while it is in flight.
    #[must_use]
    pub fn facts(&self, stream: StreamKey) -> Option<Facts> {
        let exchange = self.exchanges.get(self.streams.get(&stream)?)?;
        Some(Facts { is_listen: exchange.is_listen, has_progress_token: exchange.token.is_some(), at: exchange.at })
    }

    /// How many messages went nowhere, and why.
    #[must_use]
    pub fn dropped(&self) -> &DroppedCounts {
        &self.dropped
    }

    fn orphan(&mut self, minted: u64, reason: Reason, why: Leaving) -> Option<(Orphan, Cancel)> {
        let exchange = self.end(minted)?;
        self.logs.left(minted);
        let orphan = Orphan { stream: exchange.stream, reply: exchange.reply(reason), is_listen: exchange.is_listen };
        Some((orphan, Cancel::new(minted, why)))
    }

    fn end(&mut self, minted: u64) -> Option<Exchange> {
        let Entry::Occupied(entry) = self.exchanges.entry(minted) else { return None };
        let exchange = entry.remove();
        self.streams.remove(&exchange.stream);
        self.listens -= usize::from(exchange.is_listen);
        self.deadlines.stop(&minted);
        Some(exchange)
    }
}

impl Exchange {
    fn reply(&self, reason: Reason) -> Reply {
        Reply::new(RequestId::new(self.id.as_bytes()), reason)
    }
}

/// By what the text means: `notifications\/progress` is how some libraries write a slash.
fn is_method(envelope: &Envelope, frame: &Frame, method: &str) -> bool {
    envelope.method().and_then(|text| envelope::text(text, frame)).is_some_and(|text| text == method)
}

/// What is minted stays below 2^53, so that every peer can hold it exactly.
const MINTED_END: u64 = 1 << 53;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
