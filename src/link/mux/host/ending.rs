//! How a child ends, or never was: by itself, by us, or because it neither reads nor speaks; and what whoever waits is
//! told then.

use super::{Chair, Host, now};
use crate::{
    link::{
        chance,
        mux::{Parts, lanes::Opening, running::Running},
        parting,
    },
    session::{Reason, Reply, restart::Restart},
    telemetry::metrics::labels::SessionEnd,
};

impl Host {
    /// No child came about: everybody who asks is told why.
    pub(super) async fn fail(mut self, reason: Reason) {
        self.note_end(SessionEnd::Unreachable);
        tracing::error!(error = %reason, "the server cannot be started");
        self.parts.health.failed();
        self.refuse_rest(reason).await;
    }

    /// What ends the session, unless that is known already, or the child is being ended for its own part.
    pub(super) fn note_end(&mut self, end: SessionEnd) {
        if let (Some(session), false) = (&mut self.session, self.ladder.is_started()) {
            session.ends_by(end);
        }
    }

    pub(super) async fn refuse_rest(&mut self, reason: Reason) {
        self.orders.close();
        self.refuse_waiting(&reason);
        while let Some(order) = self.orders.recv().await {
            order.refuse(reason.clone());
        }
    }

    /// The child ended before anybody asked it to.
    pub(super) fn lose(&mut self, child: &mut Running) {
        let Parts { options, .. } = &*self.parts;
        if let (Chair::Shared(place), false) = (&self.chair, self.ladder.is_started()) {
            let now = now();
            place.fall(options.restart, now.saturating_duration_since(child.born), chance(), now);
            if options.restart == Restart::Never {
                self.parts.health.failed();
            }
        }
        self.fall(child);
        self.end_child(child);
        child.is_lost = !self.can_go_on();
    }

    /// The child is asked to end, and pushed if it does not. Whoever wants one from now on needs another.
    pub(super) fn end_child(&mut self, child: &mut Running) {
        child.io.close();
        let reason = self.over.get().cloned();
        if !self.can_go_on() {
            let _ = self.over.set(self.book.too_late());
            self.orders.close();
        }
        if !child.io.is_flushed() {
            let reason = reason.unwrap_or_else(|| parting::exited(child.status, &child.words));
            for answer in self.accepted.drain(..) {
                let _ = answer.send(Opening::Refused(Reply::without_id(reason.clone())));
            }
        }
        self.ladder.start(now());
    }

    /// Nobody waits for the child to end by itself.
    pub(super) fn hurry(&mut self, child: &mut Running) {
        self.note_end(SessionEnd::Stopped);
        self.is_hurried = true;
        self.end_child(child);
        self.ladder.hurry(now());
    }

    /// The child takes or says nothing: everybody who waits is told so, also whoever it was not said anything of.
    pub(super) fn end_overdue(&mut self, child: &mut Running, reason: &Reason) {
        self.note_end(SessionEnd::Timeout);
        let _ = self.over.set(reason.clone());
        self.end_book(reason);
        self.refuse_waiting(reason);
        self.end_child(child);
        while let Ok(order) = self.orders.try_recv() {
            order.refuse(reason.clone());
        }
    }

    pub(super) fn end_book(&mut self, reason: &Reason) {
        self.book.end(reason, &mut self.effects);
    }

    /// The child will say no more: answers whoever still waits.
    pub(super) fn settle(&mut self, child: &mut Running) {
        let reason = parting::exited(child.status, &child.words);
        if self.can_go_on() {
            self.crash(&reason, child);
        } else {
            self.end_book(&reason);
        }
        self.act(Some(&mut child.io));
    }
}
