//! What the state asks for, done: messages to the child, answers and errors to the lanes, and whoever is too slow cut off.

use std::time::Instant;

use http::StatusCode;

use super::{Host, MAX_SPARE, now};
use crate::{
    link::{
        counting::count_error,
        mux::{
            child_io::ChildIo,
            effect::Effect,
            lanes::{Delivered, Departed, Letter, Opening},
        },
        not_admitted,
    },
    session::{StreamKey, shared::Leaving},
    telemetry::metrics::labels::{Link, TimeoutOf},
};

impl Host {
    /// Does what the state asks for.
    pub(super) fn act(&mut self, mut io: Option<&mut ChildIo>) {
        let now = now();
        self.charge_kept();
        // First, so that whoever has an answer finds it counted.
        self.meter.delivered(io.as_ref().map_or(now, |io| io.read_at()), now);
        while !self.effects.is_empty() {
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                self.act_on(effect, io.as_deref_mut(), now);
            }
            if self.effects.is_empty() {
                // Not to be allocated again.
                effects.shrink_to(MAX_SPARE);
                self.effects = effects;
            }
        }
        if io.is_some_and(|io| io.is_flushed()) {
            for answer in self.accepted.drain(..) {
                let _ = answer.send(Opening::Accepted);
            }
        }
    }

    /// Nothing is kept for later that is not charged.
    fn charge_kept(&mut self) {
        let kept = self.book.kept_len();
        let covered = self.keeping.covered(kept);
        if covered < kept {
            tracing::debug!(kept, covered, "memory is short; less is kept for when the client comes back");
            self.book.shrink_kept(covered, &mut self.effects);
        }
    }

    /// Without a child, what is for it goes nowhere.
    fn act_on(&mut self, effect: Effect, io: Option<&mut ChildIo>, now: Instant) {
        let heard = io.as_ref().map_or(now, |io| io.read_at());
        match (effect, io) {
            (Effect::ToChild(pieces), Some(io)) => io.push(&pieces),
            (Effect::Answer(message), Some(io)) => io.push_own(message),
            (Effect::ToChild(_) | Effect::Answer(_), None) => {}
            (effect, _) => self.act_on_client(effect, heard, now),
        }
    }

    fn act_on_client(&mut self, effect: Effect, heard: Instant, now: Instant) {
        match effect {
            Effect::ToChild(_) | Effect::Answer(_) => {}
            Effect::Dropped(dropped) => self.meter.dropped(dropped),
            Effect::Erred(reason) => count_error(self.meter.metrics(), &reason, StreamKey::UPSTREAM),
            Effect::Deliver { to, pieces, event, is_last, status } => {
                let ends_session = self.book.is_over();
                if let (true, Some(after)) = (is_last, self.lanes.age(to, heard)) {
                    self.meter.answered(after);
                }
                self.deliver(to, Letter { pieces, event, is_last, status, ends_session, heard }, now);
            }
            Effect::Fail { to, is_listen: true, .. } if self.lanes.is_streaming(to) => {
                self.lanes.cut(to, "the server is gone");
            }
            Effect::Fail { to, reply, .. } => {
                if self.lanes.is_streaming(to) {
                    let budget = &self.parts.options.resources.budget;
                    let pieces = budget.written(|message| reply.write(message)).into();
                    count_error(self.meter.metrics(), reply.reason(), StreamKey::UPSTREAM);
                    let (status, ends_session) = (StatusCode::OK, false);
                    let letter = Letter { pieces, event: None, is_last: true, status, ends_session, heard: now };
                    self.deliver(to, letter, now);
                } else {
                    self.lanes.refuse(to, reply);
                }
            }
            Effect::Close(key) => self.lanes.close(key),
        }
    }

    fn deliver(&mut self, to: StreamKey, letter: Letter, now: Instant) {
        match self.lanes.deliver(to, letter, now) {
            Delivered::Yes => {}
            Delivered::Gone => self.leave(Departed { key: to, had_begun: false }, Leaving::ClientGone),
            Delivered::Full => {
                self.cut_off(to, "a client reads too slowly; its stream is cut for the sake of the others");
            }
            Delivered::NoRoom => {
                let reason = not_admitted(&self.parts.options.resources.budget);
                self.book.give_up(to, reason, &mut self.effects);
            }
        }
    }

    /// Cuts off whoever has kept the child waiting for too long.
    pub(super) fn cut_slow(&mut self, now: Instant) {
        while let Some(key) = self.lanes.too_slow(now) {
            self.meter.metrics().timeouts.add((TimeoutOf::Write,), 1);
            self.cut_off(key, "a client has kept its server waiting for too long; its stream is cut");
        }
    }

    fn cut_off(&mut self, to: StreamKey, what: &'static str) {
        tracing::warn!(%to, "{what}");
        self.meter.metrics().cut_off.add((Link::Mux,), 1);
        self.lanes.cut(to, "read too slowly");
        self.leave(Departed { key: to, had_begun: true }, Leaving::QueueFull);
    }
}
