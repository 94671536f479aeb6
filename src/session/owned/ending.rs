//! How a session ends, and how requests do that nobody answers in time.

use std::time::{Duration, Instant};

use super::{
    super::{Reason, Reply, RequestId, Timeout, awaited::cancelled},
    Output, Owned, Phase, written,
};

impl Owned {
    /// The session is over: the client deleted it, it was idle, or the child is gone. Each request that waits
    /// gets an error with its own id, and every stream ends. Returns how many those were.
    pub fn end(&mut self, reason: &Reason) -> usize {
        self.phase = Phase::Ended;
        self.ended.get_or_insert_with(|| reason.clone());
        let told = self.fail_all(reason);
        for connection in self.listening.drain(..).filter_map(|listening| listening.connection) {
            self.out.push_back(Output::Close { connection });
        }
        while self.hold.take(|_| true).is_some() {
            self.counts.lost += 1;
        }
        self.questions.clear();
        self.replay.clear();
        told
    }

    /// Time has passed: requests of the child that were held back for too long get their error, and so do those of the
    /// client that were not answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((id, limit)) = self.asked.take_due(now) {
            self.expire(id, limit);
        }
        let limit = self.limits.hold;
        while let Some(held) = self.hold.take(|held| held.request.is_some() && now >= held.at + limit) {
            let waited = now.saturating_duration_since(held.at).as_millis();
            let waited_ms = u64::try_from(waited).unwrap_or(u64::MAX);
            self.refuse_question(held.request.as_ref(), Reason::NoListener { waited_ms });
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let held = self.hold.oldest_request().map(|at| at + self.limits.hold);
        held.into_iter().chain(self.asked.due()).min()
    }

    /// A request of the client was not answered in time. The child is told, except of `initialize`, which cannot be
    /// cancelled (Rules C1, C2, C6); its answer comes too late from now on.
    fn expire(&mut self, id: RequestId, limit: Duration) {
        let stream = match self.asked.cancel(id.as_bytes()) {
            Some(stream) => {
                self.out.push_back(Output::ToChild(cancelled(&id)));
                stream
            }
            None => {
                let Some(request) = self.asked.take(id.as_bytes()) else { return };
                self.phase = Phase::New;
                request.stream
            }
        };
        let reply = Reply::new(id, Reason::Timeout(Timeout::of_answer(limit)));
        self.counts.expired += 1;
        self.deliver_error(stream, &reply);
    }

    /// Each request that waits gets an error with its own id. Returns how many those were.
    pub(super) fn fail_all(&mut self, reason: &Reason) -> usize {
        let waiting = self.asked.take_all();
        let told = waiting.len();
        for (id, request) in waiting {
            self.deliver_error(request.stream, &Reply::new(id, reason.clone()));
        }
        told
    }

    /// A request of the child will get no answer of the client.
    pub(super) fn refuse_question(&mut self, id: Option<&RequestId>, reason: Reason) {
        if let Some(id) = id {
            self.counts.unheard += 1;
            self.questions.close(id.as_bytes());
            self.out.push_back(Output::ToChild(written(&Reply::new(id.clone(), reason))));
        }
    }
}
