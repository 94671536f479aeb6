//! What is not waited for any longer: answers that do not come, and a client that takes nothing.

use std::{
    task::{Context, Poll, ready},
    time::Instant,
};

use shadowcat_codecs::envelope::Kind;

use super::{Cause, Dial, Phase, posted::Outgoing};
use crate::{
    session::{Expired, StreamKey, Timeout, revision::Era},
    telemetry::metrics::labels::TimeoutOf,
};

impl Dial {
    /// Ready when something was overdue, and was dealt with.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.session.due().into_iter().chain(self.client_due()).chain(self.listening_due()).min();
        ready!(self.alarm.poll(cx, due));
        let now = super::now();
        self.open_overdue_gate(now);
        while let Some(expired) = self.session.poll_expired(now) {
            self.expire(expired);
        }
        if let (Some(limit), true) =
            (self.options.waits.slow_consumer.limit(), self.client_due().is_some_and(|due| due <= now))
        {
            let timeout = Timeout { what: "the client's reading of what is there for it".into(), after: limit };
            tracing::warn!("{timeout}");
            self.options.resources.metrics.timeouts.add((TimeoutOf::Write,), 1);
            self.cause = Cause::Timeout(timeout);
            self.outbox.close();
            self.stall.freed(|| now);
            self.leave(now);
        }
        Poll::Ready(())
    }

    fn client_due(&self) -> Option<Instant> {
        Some(self.stall.since()? + self.options.waits.slow_consumer.limit()?)
    }

    /// A request was not answered in time: its sender is told, and so is the server, by the rules of the era (Rules C1,
    /// C5, C6).
    fn expire(&mut self, expired: Expired) {
        let Expired { id, reply, may_be_cancelled } = &expired;
        tracing::warn!(?id, "a request was not answered in time");
        self.options.resources.metrics.timeouts.add((TimeoutOf::Response,), 1);
        self.push_reply(StreamKey::UPSTREAM, reply);
        // If it was not posted yet, it never will be.
        let _was_unposted = self.held.forget(id) || self.waiting.forget(id);
        let found = self.posted.iter().find(|(_, posted)| posted.ids.contains(id));
        let era = found.map_or(Era::Legacy, |(_, posted)| posted.era);
        // Others of the same batch may still wait for theirs.
        if let Some(key) = found.filter(|(_, posted)| !posted.awaits_answer(&self.session)).map(|(&key, _)| key) {
            self.remove(key);
        }
        let may_post = matches!(self.phase, Phase::Running | Phase::Draining);
        if !may_be_cancelled || !may_post || era != Era::Legacy {
            return;
        }
        let frame = self.options.resources.budget.written(|message| expired.write_cancel(message));
        if let Ok(envelope) = self.parser.parse(&frame)
            && envelope.kind() == Kind::Notification
        {
            let mut outgoing = Outgoing::new(frame, envelope, &[]);
            outgoing.is_noted = true;
            self.waiting.push_back(outgoing);
        }
    }
}
