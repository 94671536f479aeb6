//! Byte stream to byte stream: a full-duplex pump of lines, both directions independent.
//!
//! One state machine, no task and no channel of its own. Each direction reads only when everything it read
//! before was written, ends on its own, and never waits for the other:
//!
//! ```text
//!            Intake (reader, buffer, decoder)      Session       Outbox (slices, writer)
//!   client ──► lines ──► envelope of each ──► forward, reply, drop ──► few writes ──► server
//!   client ◄── few writes ◄── forward, reply, drop ◄── envelope of each ◄── lines ◄── server
//! ```
//!
//! A frame is never held back for the next one: what one read brought leaves before the next read.
//!
//! What is not here: starting, ending and judging a child ([`super::stdio`]), and reading the clock.

mod batch;
mod half;
pub(super) mod message_log;
mod overdue;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Instant,
};

use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

use super::waits::{Alarm, Stall, Waits};
use crate::{
    budget::{Allowance, Budget},
    session::{Reason, Reply, Session, StreamKey},
    telemetry::metrics::{
        Flow, Metrics,
        labels::{Link, Side, TimeoutOf, To},
    },
    transport::{Reader, Writer},
    verify::Verify,
};
use half::{Half, Moved};
use message_log::MessageLog;
pub use overdue::Blocked;
pub(super) use overdue::{Overdue, Turn};

/// Two byte streams, and what crosses between them.
#[derive(Debug)]
pub struct Pipe {
    /// The client's side.
    down: Half,
    /// The server's side.
    up: Half,
    session: Session,
    parser: EnvelopeParser,
    limits: Limits,
    /// Where errors are counted, if they are.
    metrics: Option<Metrics>,
    /// Where messages of our own are written.
    budget: Budget,
    told_quiet: bool,
    told_initializing: bool,
    /// Which frames of the current batch are not forwarded, ascending; room that is reused.
    dropped: Vec<usize>,
    waits: Waits,
    alarm: Alarm,
    /// When the server last said something, was first asked something, or could be heard again.
    heard: Option<Instant>,
}

/// Something that changed for good; each is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A side's stream ended, and everything it had sent was written to the other side.
    Ended(StreamKey),
    /// A side reads no more: what would go there goes nowhere from now on.
    Gone(StreamKey),
    /// The client's stream has ended, and none of its requests waits for an answer.
    Quiet,
    /// The client has asked for `initialize`.
    Initializing,
}

impl Pipe {
    /// A pipe between a client (`downstream`) and a server (`upstream`), each a reader and a writer.
    #[must_use]
    pub fn new(downstream: (Reader, Writer), upstream: (Reader, Writer), limits: Limits, session: Session) -> Self {
        let allowance = Allowance::default();
        Self {
            down: Half::new(StreamKey::DOWNSTREAM, downstream, limits, &allowance),
            up: Half::new(StreamKey::UPSTREAM, upstream, limits, &allowance),
            session,
            parser: EnvelopeParser::new(limits),
            limits,
            metrics: None,
            budget: allowance.budget().clone(),
            told_quiet: false,
            told_initializing: false,
            dropped: Vec::new(),
            waits: Waits::default(),
            alarm: Alarm::default(),
            heard: None,
        }
    }

    /// The pipe, with its buffers charged to `allowance`. To be called before anything crosses; without it, the pipe
    /// has a budget of its own.
    #[must_use]
    pub fn with_room(mut self, allowance: &Allowance) -> Self {
        self.down.intake.charge_to(allowance);
        self.up.intake.charge_to(allowance);
        self.budget = allowance.budget().clone();
        self
    }

    /// The pipe, with what crosses it counted as going over `link`.
    #[must_use]
    pub fn counted(mut self, metrics: &Metrics, link: Link) -> Self {
        self.down.log = MessageLog::counted(Flow::new(metrics, link, To::Server));
        self.up.log = MessageLog::counted(Flow::new(metrics, link, To::Client));
        self.down.stall = Stall::counted(metrics, link, Side::Client);
        self.up.stall = Stall::counted(metrics, link, Side::Server);
        self.metrics = Some(metrics.clone());
        self
    }

    /// Counts that `what` took too long.
    pub(super) fn count_timeout(&self, what: TimeoutOf) {
        if let Some(metrics) = &self.metrics {
            metrics.timeouts.add((what,), 1);
        }
    }

    /// The pipe, with what leaves held against what came in, counted as going over `link`.
    #[must_use]
    pub fn verified(mut self, verify: Verify, metrics: &Metrics, link: Link) -> Self {
        self.up.outbox = self.up.outbox.checked(verify.check(metrics, link, To::Server));
        self.down.outbox = self.down.outbox.checked(verify.check(metrics, link, To::Client));
        self
    }

    /// Moves everything that can move, until something changes for good. `clock` is asked for the time
    /// once a read.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was read and not yet written is kept, and goes out at the next call.
    pub fn poll_event(&mut self, cx: &mut Context<'_>, clock: impl Fn() -> Instant) -> Poll<Event> {
        loop {
            let mut moved = false;
            for from in [StreamKey::DOWNSTREAM, StreamKey::UPSTREAM] {
                match self.poll_direction(cx, from, &clock) {
                    // At once, or what the other direction has to tell would be lost.
                    Moved::For(event) => return Poll::Ready(event),
                    Moved::On => moved = true,
                    Moved::No => {}
                }
            }
            if !moved {
                break;
            }
        }
        let is_initializing = !self.told_initializing && self.session.initializing_since().is_some();
        if is_initializing {
            self.told_initializing = true;
            return Poll::Ready(Event::Initializing);
        }
        let is_quiet = self.down.told_ended && self.session.pending_at(StreamKey::UPSTREAM) == 0;
        if is_quiet && !std::mem::replace(&mut self.told_quiet, true) {
            return Poll::Ready(Event::Quiet);
        }
        Poll::Pending
    }

    /// Ends the stream to `to`: its reader sees the end behind what was written. What is still queued for
    /// it is dropped.
    pub fn close(&mut self, to: StreamKey) {
        let half = self.half(to);
        half.outbox.close();
        half.told_gone = true;
    }

    /// Reads no more from `from`, as if its stream had ended.
    pub fn abandon(&mut self, from: StreamKey) {
        self.half(from).intake.abandon();
    }

    /// Queues an error for every request that `gone` has not answered. Returns how many there were.
    pub fn answer_orphans(&mut self, gone: StreamKey, reason: &Reason) -> usize {
        let mut answered = 0;
        while let Some((to, reply)) = self.session.poll_orphan(gone, reason) {
            self.push_reply(gone, to, &reply);
            answered += 1;
        }
        answered
    }

    /// The server is gone: answers whatever still waits for it, and whatever the client has sent by now, and writes
    /// it all out. Returns how many requests there were.
    ///
    /// # Cancel safety
    ///
    /// Safe, but for the number.
    pub(super) async fn settle(&mut self, reason: &Reason, clock: impl Fn() -> Instant) -> usize {
        let mut orphans = 0;
        poll_fn(|cx| {
            loop {
                orphans += self.answer_orphans(StreamKey::UPSTREAM, reason);
                match self.poll_turn(cx, &clock) {
                    Poll::Ready(Turn::Event(Event::Gone(StreamKey::DOWNSTREAM))) => return Poll::Ready(0),
                    Poll::Ready(Turn::Overdue(Overdue { whom: StreamKey::DOWNSTREAM, .. })) => return Poll::Ready(0),
                    Poll::Ready(_) => {}
                    Poll::Pending if self.session.pending_at(StreamKey::UPSTREAM) > 0 => {}
                    Poll::Pending if self.is_flushed(StreamKey::DOWNSTREAM) => return Poll::Ready(orphans),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Whether the end of the stream from `from` was seen.
    #[must_use]
    pub fn has_ended(&self, from: StreamKey) -> bool {
        let half = if from == self.down.key { &self.down } else { &self.up };
        half.intake.has_ended()
    }

    /// Whether everything that was queued for `to` has left.
    #[must_use]
    pub fn is_flushed(&self, to: StreamKey) -> bool {
        let half = if to == self.down.key { &self.down } else { &self.up };
        half.outbox.is_empty()
    }

    /// What the session remembers.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Writes what `from` sent, then reads more from it.
    fn poll_direction(&mut self, cx: &mut Context<'_>, from: StreamKey, clock: &impl Fn() -> Instant) -> Moved {
        let (source, target) = self.halves(from);
        let is_free = match target.outbox.poll_flush(cx) {
            Poll::Pending => {
                target.stall.blocked(target.outbox.taken(), clock);
                return Moved::No;
            }
            Poll::Ready(Err(error)) => return target.lost(&error),
            Poll::Ready(Ok(())) => {
                source.log.written(clock);
                target.stall.freed(clock).is_some()
            }
        };
        if is_free && from == StreamKey::UPSTREAM {
            self.heard = Some(clock());
        }
        let (source, target) = self.halves(from);
        // The target itself may have waited for this before anything more was read from it.
        let waiting = if std::mem::take(&mut target.is_held) { Moved::On } else { Moved::No };
        if target.outbox.poll_reader_gone(cx).is_ready() {
            return target.lost(&io::ErrorKind::BrokenPipe.into());
        }
        if source.intake.has_ended() {
            let told = std::mem::replace(&mut source.told_ended, true);
            return if told { waiting } else { Moved::For(Event::Ended(from)) };
        }
        // Whoever does not read our replies must not be able to fill memory with them.
        if source.outbox.is_full_of_replies() {
            source.is_held = true;
            return waiting;
        }
        match source.intake.poll_read(cx) {
            Poll::Pending => return waiting,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => tracing::warn!(%from, %error, "reading failed; taken as the end"),
        }
        let now = clock();
        // A server that is asked nothing has nothing to say.
        let was_asked = self.waits.server_read.is_some() && self.session.asked(StreamKey::UPSTREAM).next().is_some();
        if from == StreamKey::UPSTREAM || !was_asked {
            self.heard = Some(now);
        }
        self.take_frames(from, now);
        Moved::On
    }

    /// Queues `reply`, which is about a message of `of`.
    fn push_reply(&mut self, of: StreamKey, to: StreamKey, reply: &Reply) {
        let half = if to == self.down.key { &mut self.down } else { &mut self.up };
        half::push_reply((&mut half.outbox, &self.budget), reply, self.metrics.as_ref(), of);
    }

    fn half(&mut self, key: StreamKey) -> &mut Half {
        if key == self.down.key { &mut self.down } else { &mut self.up }
    }

    /// Where frames come from, and the other side.
    fn halves(&mut self, from: StreamKey) -> (&mut Half, &mut Half) {
        if from == self.down.key { (&mut self.down, &mut self.up) } else { (&mut self.up, &mut self.down) }
    }
}
