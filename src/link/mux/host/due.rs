//! What the task of a child does when a time has come: its deadlines, and those of all who wait for it.

use std::time::Instant;

use super::{Host, now};
use crate::{
    link::{
        mux::running::{LINGER, Running},
        nursery::Nursery,
        parting,
    },
    session::Reason,
    telemetry::metrics::labels::{SessionEnd, TimeoutOf},
};

impl Host {
    /// Says something where there was silence for long, and looks whether the child is still needed.
    pub(super) fn look_around(&mut self, is_backed_up: bool, now: Instant) {
        for key in self.lanes.keep_alive(now) {
            let first = self.book.open_events(key);
            self.lanes.open_events(key, Some(first), now);
        }
        let expired = self.book.handle_time(now, &mut self.effects);
        self.meter.metrics().timeouts.add((TimeoutOf::Response,), expired);
        // An order that waits already ends the idleness, unless it waits for a child that reads nothing.
        if self.book.is_idle(now) && (self.orders.is_empty() || is_backed_up) {
            tracing::info!("the server was without a client for too long");
            self.note_end(SessionEnd::Idle);
            self.meter.metrics().timeouts.add((TimeoutOf::SessionIdle,), 1);
            self.book.retire(&mut self.effects);
        }
    }

    pub(super) async fn handle_due(&mut self, child: &mut Running, nursery: &Nursery) {
        let now = now();
        if child.linger_due.is_some_and(|due| due <= now) && self.lanes.is_stalled() {
            // Nothing is read for the sake of a slow client, and what the server wrote may still be in its pipe.
            child.linger_due = Some(now + LINGER);
        } else if child.linger_due.is_some_and(|due| due <= now) {
            tracing::warn!(pid = %child.id, "the server has exited, but a process it left behind holds its stdout");
            child.linger_due = None;
            child.io.abandon();
        }
        if child.settle_due.is_some_and(|due| due <= now) {
            (child.settle_due, child.is_lost) = (None, false);
            self.settle(child);
        }
        if let Some(push) = self.ladder.handle_due(now) {
            tracing::warn!(pid = %child.id, ?push, "the server does not end by itself");
            nursery.push(child.id, push).await;
        }
        if self.book.start_due().is_some_and(|due| due <= now) {
            let limit = self.parts.options.start_timeout;
            tracing::error!(pid = %child.id, ?limit, "the server does not answer initialize; it is ended");
            self.meter.metrics().timeouts.add((TimeoutOf::ChildStart,), 1);
            self.end_book(&parting::mute(limit, &child.words));
        }
        self.cut_slow(now);
        if let Some((timeout, of)) = child.patience.overdue(now) {
            tracing::error!(pid = %child.id, "{timeout}; the server is ended");
            self.meter.metrics().timeouts.add((of,), 1);
            self.end_overdue(child, &Reason::Timeout(timeout));
        }
        if [self.lanes.due(), self.book.due()].into_iter().flatten().any(|due| due <= now) {
            self.look_around(child.io.is_backed_up(), now);
        }
        self.give_up_waiting(now);
    }

    pub(super) fn due(&self, child: &Running) -> Option<Instant> {
        let ladder = child.status.is_none().then(|| self.ladder.due()).flatten();
        let linger = child.linger_due.filter(|_| !child.io.has_ended());
        let settle = child.settle_due.filter(|_| child.status.is_none());
        let others =
            [self.lanes.due(), self.lanes.patience_due(), self.book.due(), self.waiting_due(), child.patience.due()];
        [ladder, linger, settle].into_iter().chain(others).flatten().min()
    }
}
