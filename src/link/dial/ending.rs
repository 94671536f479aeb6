//! How a session goes to its end: it drains, leaves and is over; and what is cut off or answered on that way.

use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, SelectAll};

use super::{Cause, Dial, held::Held, now, waiting::Waiting};
use crate::{
    link::signals::Told,
    session::{Reason, StreamKey, Timeout},
    telemetry::metrics::labels::TimeoutOf,
};

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// The client's stream has ended: what it asked is still answered.
    Draining,
    /// The server is being told.
    Leaving,
    Over,
}

impl Dial {
    pub(super) fn advance_phase(&mut self, is_flushed: bool) -> bool {
        match self.phase {
            Phase::Running if self.intake.has_ended() && self.waiting.is_empty() => {
                tracing::debug!("the client's stream has ended");
                self.drain(now());
            }
            Phase::Draining if is_flushed && !self.is_needed() => self.leave(now()),
            Phase::Leaving if self.posted.is_empty() => self.phase = Phase::Over,
            _ => return false,
        }
        true
    }

    /// Whether the client still waits for something.
    fn is_needed(&self) -> bool {
        !self.waiting.is_empty()
            || !self.held.is_empty()
            || self.posted.values().any(|posted| posted.is_needed(&self.session))
            || self.mode.is_needed(&self.session)
    }

    pub(super) fn handle_told(&mut self, told: Told, now: Instant) {
        tracing::info!("told to stop");
        match (told, self.phase) {
            (_, Phase::Over) | (Told::Drain(_), Phase::Leaving) => {}
            (Told::Stop, Phase::Leaving) => self.phase = Phase::Over,
            (Told::Stop, _) => {
                self.cause = Cause::Stopped;
                self.leave(now);
            }
            (Told::Drain(timeout), _) => {
                self.cause = Cause::Stopped;
                self.options.drain = Some(timeout);
                self.drain(now);
            }
        }
    }

    pub(super) fn handle_due(&mut self, now: Instant) {
        self.due = None;
        match self.phase {
            Phase::Running | Phase::Over => {}
            Phase::Leaving => {
                tracing::debug!("the server does not say that it took the end of the session");
                self.phase = Phase::Over;
            }
            Phase::Draining => {
                let what = "answering after the end of the client's input".into();
                let timeout = Timeout { what, after: self.options.drain.unwrap_or_default() };
                tracing::warn!("the drain deadline has passed with requests unanswered");
                self.options.resources.metrics.timeouts.add((TimeoutOf::Drain,), 1);
                self.orphans += self.give_up(&Reason::Timeout(timeout), now);
            }
        }
    }

    /// Asks nothing more of the client; ends when everything it asked is answered and written.
    pub(super) fn drain(&mut self, now: Instant) {
        self.intake.abandon();
        self.phase = Phase::Draining;
        self.due = self.options.drain.map(|drain| now + drain);
    }

    /// Answers everything that is unanswered, and cuts off what could have answered it. Returns how many
    /// requests there were.
    pub(super) fn give_up(&mut self, reason: &Reason, now: Instant) -> usize {
        self.gate = None;
        self.abort_all();
        let mut held = std::mem::take(&mut self.held);
        let mut waiting = std::mem::take(&mut self.waiting);
        let unposted = std::iter::from_fn(|| held.pop().or_else(|| waiting.pop_front()));
        for outgoing in unposted.chain(self.reopening.take()) {
            if !outgoing.is_noted {
                // So that it is answered with the others; that it goes nowhere is all there is to it.
                let _ = self.session.handle(StreamKey::DOWNSTREAM, outgoing.message(), now);
            }
        }
        let mut answered = 0;
        while let Some((_, reply)) = self.session.poll_orphan(StreamKey::UPSTREAM, reason) {
            self.push_reply(StreamKey::UPSTREAM, &reply);
            answered += 1;
        }
        answered
    }

    /// Cuts everything off, and tells the server that the session has ended, where there is one (rule G12).
    pub(super) fn leave(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Leaving | Phase::Over) {
            return;
        }
        self.intake.abandon();
        self.waiting = Waiting::default();
        self.held = Held::default();
        self.abort_all();
        self.phase = Phase::Leaving;
        self.due = Some(now + PATIENCE);
        self.delete_session();
    }

    fn abort_all(&mut self) {
        for posted in std::mem::take(&mut self.posted).into_values() {
            posted.abort.abort();
        }
        self.asking = 0;
        self.lingering.clear();
        // At once: whoever waits for these to be polled waits for a client that may not read.
        self.sending = FuturesUnordered::new();
        self.reading = SelectAll::new();
    }
}

/// How long the server may take to say that it took the end of the session.
const PATIENCE: Duration = Duration::from_secs(2);
