//! A legacy HTTP session that owns one child (MCP 2024-11-05 to 2025-11-25): which stream of the client each
//! message of the child goes to.
//!
//! Pure, as all of `session`: no sockets, no tasks, no clock. `link::mux` says what happened ([`post`],
//! [`hear`], [`listen`], [`closed`]…) and then takes [`Output`]s until there are none. One child has one
//! client, so nothing is rewritten: ids, tokens and bytes go through as they came.
//!
//! # Where a message of the child goes
//!
//! Each goes to exactly one stream (Rule G3, MCP 2025-11-25, Transports):
//!
//! | message | goes to |
//! |---|---|
//! | response, error | the POST that asked; never anywhere else (G2). After a cancellation, or unasked: nowhere (C3) |
//! | error without id | the only POST that waits; else nowhere |
//! | `progress` | the POST whose token it names; after its answer: nowhere |
//! | `cancelled` | where the request it names went; if that is still held back, both are dropped |
//! | request, `notifications/message` | the only POST that waits, if its client is there (H8); else a listening stream; else held back |
//! | other notification | a listening stream (G2); else the only POST that waits; else held back |
//!
//! What is held back goes to the next listening stream that is opened. What came while several POSTs waited
//! also goes to the one of them that is left: a tool that asks something has not answered, so it is that one.
//! After [`OwnedLimits::hold`] the child's request gets an error. Between streams there is no order.
//!
//! A client that is gone has cancelled nothing (G8): what belongs to its POST is kept for resumption.
//! With HTTP+SSE (2024-11-05) there is one event stream, and everything goes there.
//!
//! [`post`]: Owned::post
//! [`hear`]: Owned::hear
//! [`listen`]: Owned::listen
//! [`closed`]: Owned::closed

mod again;
mod asked;
mod ending;
mod hear;
mod hold;
mod kept;
mod limits;
mod output;
mod post;
mod questions;

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::pool::BufferPool;

use self::{again::Handshake, asked::Asked, hold::Hold, questions::Questions};
pub use self::{
    limits::OwnedLimits,
    output::{Delivery, Output, Posted},
};
use super::{
    Reason, ResponseTimeouts, StreamKey,
    replay::{EventId, Replay, ResumeError},
};

/// One session and its child. See the [module](self).
#[derive(Debug)]
pub struct Owned {
    dialect: Dialect,
    limits: OwnedLimits,
    phase: Phase,
    /// When the client asked for `initialize` last.
    initialize_at: Option<Instant>,
    version: Option<Box<str>>,
    asked: Asked,
    questions: Questions,
    hold: Hold,
    replay: Replay,
    /// Listening streams, oldest first. Invariant: at most `limits.max_listening`.
    listening: Vec<Listening>,
    out: VecDeque<Output>,
    /// Counts what happens, to tell what came first.
    number: u64,
    seen: Instant,
    counts: OwnedCounts,
    handshake: Handshake,
    /// Why the session ended.
    ended: Option<Reason>,
    /// Where messages of our own are written, if anywhere in particular.
    own: Option<BufferPool>,
}

/// Which of the two legacy HTTP transports the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "both are history")]
pub enum Dialect {
    /// Streamable HTTP, 2025-03-26 to 2025-11-25.
    Streamable,
    /// HTTP+SSE, 2024-11-05: one event stream, POSTs are only accepted.
    HttpSse,
}

/// How far the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Nobody has asked for `initialize`, or it was answered with an error.
    New,
    /// `initialize` waits for its answer.
    Initializing,
    /// The child answered it.
    Initialized,
    /// The client said `notifications/initialized`.
    Running,
    /// Deleted, idle for too long, or the child is gone. Nothing is accepted any more.
    Ended,
}

/// A stream that the client came back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Which.
    pub stream: StreamKey,
    /// Events that were missed and are no longer kept.
    pub lost: u64,
    /// Whether there will be more than the missed events that are in the outputs now.
    pub is_live: bool,
}

/// What went nowhere, for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnedCounts {
    /// Answers and progress that nobody waits for (any more), from either side.
    pub late: u64,
    /// Notifications held back until there was no room.
    pub overflowed: u64,
    /// Requests of the child that got an error because no stream could carry them.
    pub unheard: u64,
    /// Messages for a client that is gone and cannot come back for them.
    pub lost: u64,
    /// Messages of the child that are no JSON-RPC.
    pub noise: u64,
    /// Requests of the client that were not answered in time.
    pub expired: u64,
}

#[derive(Debug, Clone, Copy)]
struct Listening {
    stream: StreamKey,
    /// `None` while the client is away.
    connection: Option<StreamKey>,
}

impl Owned {
    /// A session in which nothing was said yet.
    #[must_use]
    pub fn new(dialect: Dialect, limits: OwnedLimits, now: Instant) -> Self {
        Self {
            dialect,
            limits,
            phase: Phase::New,
            initialize_at: None,
            version: None,
            asked: Asked::new(limits.max_pending),
            questions: Questions::new(limits.max_pending),
            hold: Hold::new(&limits),
            replay: Replay::new(limits.replay),
            listening: Vec::new(),
            out: VecDeque::new(),
            number: 0,
            seen: now,
            counts: OwnedCounts::default(),
            handshake: Handshake::new(limits.max_handshake),
            ended: None,
            own: None,
        }
    }

    /// The same, which writes its own messages into blocks of this pool.
    #[must_use]
    pub fn with_pool(self, own: Option<BufferPool>) -> Self {
        Self { own, ..self }
    }

    /// The same, with limits on how long answers to the client may take; progress begins a request's time anew.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: ResponseTimeouts) -> Self {
        self.asked.limit(timeouts);
        self
    }

    /// The client opened a stream for messages of the server: a GET, or the event stream of HTTP+SSE. What
    /// was held back goes there.
    ///
    /// # Errors
    ///
    /// If the session has ended, or too many are open.
    pub fn listen(&mut self, connection: StreamKey, now: Instant) -> Result<(), Reason> {
        if self.phase == Phase::Ended {
            return Err(Reason::SessionEnded);
        }
        self.seen = now;
        let limit = self.max_listening();
        if self.listening.len() >= limit {
            // One that the client has left gives way.
            let left = self.listening.iter().position(|listening| listening.connection.is_none());
            self.listening.remove(left.ok_or(Reason::TooManyStreams { limit })?);
        }
        self.listening.push(Listening { stream: connection, connection: Some(connection) });
        self.release();
        Ok(())
    }

    /// The client came back to a stream with `Last-Event-ID`, on a new `connection`. What it missed is in the
    /// outputs; what comes later on that stream goes to `connection` (Rule G6).
    ///
    /// # Errors
    ///
    /// If the id is none of this session's, or the stream has ended and nothing of it is missing.
    pub fn resume(
        &mut self,
        last_event_id: &[u8],
        connection: StreamKey,
        now: Instant,
    ) -> Result<Resumed, ResumeError> {
        let missed = self.replay.after(last_event_id)?;
        self.seen = now;
        let stream = missed.stream;
        let mut listening = self.listening.iter_mut();
        let carrier = match self.asked.post_mut(stream) {
            Some(post) => Some(&mut post.connection),
            None => listening.find(|one| one.stream == stream).map(|one| &mut one.connection),
        };
        let is_live = carrier.is_some();
        // The connection that had it may be broken without our knowing yet.
        let broken = carrier.and_then(|carrier| carrier.replace(connection));
        if !is_live && missed.events.is_empty() && missed.lost == 0 {
            return Err(ResumeError::Over);
        }
        self.out.extend(broken.map(|connection| Output::Close { connection }));
        for (event, frame) in missed.events {
            let (to, event) = (connection, Some(event));
            let delivery = Delivery { to, stream, frame, event, ends: false, wants_array: false, after: None };
            self.out.push_back(Output::Deliver(delivery));
        }
        if !is_live {
            self.out.push_back(Output::Close { connection });
        }
        self.release();
        Ok(Resumed { stream, lost: missed.lost, is_live })
    }

    /// A POST is replied to with events from now on, before there is a message for it. The id, if there is one,
    /// is for the event without data that comes first; only 2025-11-25 clients understand that (Rule G7).
    pub fn open_events(&mut self, stream: StreamKey) -> Option<EventId> {
        if let Some(post) = self.asked.post_mut(stream) {
            post.is_events = true;
        }
        let is_understood = self.version.as_deref() == Some(V2025_11_25);
        is_understood.then(|| self.replay.push(stream, &Bytes::new()))?
    }

    /// The connection is gone. That cancels nothing (Rule G8). With HTTP+SSE the session is over when the
    /// event stream is (Rule L4); whoever calls this then calls [`end`](Self::end).
    pub fn closed(&mut self, connection: StreamKey, now: Instant) {
        self.seen = now;
        let listening = self.listening.iter_mut().find(|listening| listening.connection == Some(connection));
        if let Some(listening) = listening {
            listening.connection = None;
        } else if let Some(post) = self.asked.carried_by(connection) {
            post.connection = None;
        }
    }

    /// Since when the child owes the answer to `initialize`, or another child in its place.
    #[must_use]
    pub fn initializing_since(&self) -> Option<Instant> {
        self.initialize_at.filter(|_| self.phase == Phase::Initializing).or_else(|| self.handshake.since())
    }

    /// Why the session ended, if it has.
    #[must_use]
    pub fn ended_by(&self) -> Option<&Reason> {
        self.ended.as_ref()
    }

    /// What to do next. Take them all after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Since when the client has had no connection at all. What the child says does not count, and neither
    /// does a request whose client is away.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let is_here = self.asked.is_attached() || self.listening.iter().any(|one| one.connection.is_some());
        (!is_here).then_some(self.seen)
    }

    /// Whether the session was without its client for as long as it may.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        self.idle_since().is_some_and(|since| now.saturating_duration_since(since) >= self.limits.idle)
    }

    /// How far the session is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The version that the child agreed to, from its answer to `initialize` (Rule V1, edge case 27).
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Requests of the client, and of the child, that wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.asked.waiting(), self.questions.len())
    }

    /// Messages held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.hold.len()
    }

    /// What went nowhere so far.
    #[must_use]
    pub fn counts(&self) -> OwnedCounts {
        self.counts
    }

    fn max_listening(&self) -> usize {
        match self.dialect {
            Dialect::Streamable => self.limits.max_listening,
            Dialect::HttpSse => 1,
        }
    }

    /// A message of our own.
    fn written(&self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if let Some(pool) = &self.own {
            return pool.written(write);
        }
        let mut message = BytesMut::new();
        write(&mut message);
        message.freeze()
    }

    /// The place of what happens now in the order of everything.
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// The only revision with batches.
const V2025_03_26: &str = "2025-03-26";
/// The only revision with events without data.
const V2025_11_25: &str = "2025-11-25";

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
