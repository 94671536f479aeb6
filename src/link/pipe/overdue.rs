//! What a pipe waits for, and for how long: answers, a server that says or takes nothing, a client that takes nothing.

use std::{
    borrow::Cow,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{Event, Pipe};
use crate::{
    link::waits::Waits,
    session::{StreamKey, Timeout},
    telemetry::metrics::labels::TimeoutOf,
};

/// What a pipe's loop is told.
#[derive(Debug)]
pub(in crate::link) enum Turn {
    /// Something changed for good.
    Event(Event),
    /// A side kept us waiting for too long.
    Overdue(Overdue),
}

/// A side that kept us waiting for too long: nothing more is to be expected of it.
#[derive(Debug)]
pub(in crate::link) struct Overdue {
    pub(in crate::link) whom: StreamKey,
    pub(in crate::link) timeout: Timeout,
}

/// How long a session was kept waiting by its sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// For the client to take what was there for it.
    pub downstream: Duration,
    /// For the server to do so.
    pub upstream: Duration,
}

impl Pipe {
    /// The pipe, which waits no longer than this.
    #[must_use]
    pub fn with_waits(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// As [`poll_event`](Self::poll_event), with the limits on waiting kept. Needs a tokio runtime if there are any.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(in crate::link) fn poll_turn(&mut self, cx: &mut Context<'_>, clock: impl Fn() -> Instant) -> Poll<Turn> {
        loop {
            if let Poll::Ready(event) = self.poll_event(cx, &clock) {
                return Poll::Ready(Turn::Event(event));
            }
            let due = self.due();
            ready!(self.alarm.poll(cx, due));
            if let Some(overdue) = self.handle_time(clock()) {
                return Poll::Ready(Turn::Overdue(overdue));
            }
        }
    }

    /// How long each side kept us waiting until `now`.
    #[must_use]
    pub fn blocked(&self, now: Instant) -> Blocked {
        Blocked { downstream: self.down.stall.total(now), upstream: self.up.stall.total(now) }
    }

    /// When [`handle_time`](Self::handle_time) has something to do.
    fn due(&self) -> Option<Instant> {
        let sides = self.dues().into_iter().flatten().map(|(due, _)| due);
        self.session.due().into_iter().chain(sides).min()
    }

    /// Answers requests whose time has passed, and tells which side is overdue.
    fn handle_time(&mut self, now: Instant) -> Option<Overdue> {
        while let Some(expired) = self.session.poll_expired(now) {
            tracing::warn!(id = ?expired.id, "a request was not answered in time");
            self.count_timeout(TimeoutOf::Response);
            self.push_reply(StreamKey::UPSTREAM, StreamKey::DOWNSTREAM, &expired.reply);
            if expired.may_be_cancelled {
                let cancel = self.budget.written(|message| expired.write_cancel(message));
                // Bounded by the requests that may be in flight: no more are read before this has left.
                self.up.outbox.push_edited(std::iter::once(&cancel), None, Vec::new());
            }
        }
        let dues = self.dues().into_iter().zip([TimeoutOf::Write, TimeoutOf::Write, TimeoutOf::StdioRead]);
        let mut overdue = dues.filter_map(|(due, what)| due.map(|(due, overdue)| (due, overdue, what)));
        let (_, overdue, what) = overdue.find(|(due, ..)| *due <= now)?;
        self.count_timeout(what);
        tracing::warn!(from = %overdue.whom, "{}", overdue.timeout);
        Some(overdue)
    }

    /// When each side is overdue, and for what.
    fn dues(&self) -> [Option<(Instant, Overdue)>; 3] {
        let due = |since: Option<Instant>, limit: Option<Duration>, whom, what: &'static str| {
            let (since, after) = since.zip(limit)?;
            Some((since + after, Overdue { whom, timeout: Timeout { what: Cow::Borrowed(what), after } }))
        };
        let Waits { server_read, server_write, slow_consumer, .. } = self.waits;
        let (down, up) = (StreamKey::DOWNSTREAM, StreamKey::UPSTREAM);
        let to_client = self.down.stall.since().filter(|_| !self.down.told_gone);
        // What it says shows that it is at work; and while the client reads nothing, it is not heard.
        let is_heard = to_client.is_none() && !self.up.told_gone && !self.up.told_ended;
        let to_server = self.up.stall.since().filter(|_| is_heard).map(|since| since.max(self.heard.unwrap_or(since)));
        let is_asked = server_read.is_some() && is_heard && self.session.asked(up).next().is_some();
        [
            due(to_client, slow_consumer.limit(), down, "the client's reading of what is there for it"),
            due(to_server, server_write, up, "the server's reading of what is there for it"),
            due(self.heard.filter(|_| is_asked), server_read, up, "the server's next word"),
        ]
    }
}

#[cfg(test)]
mod tests;
