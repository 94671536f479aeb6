//! How a session ends, and how requests do that nobody answers in time.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    super::{Reason, Reply, RequestId, StreamKey, Timeout, awaited::write_cancel},
    Dialect, Output, Owned, Phase,
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
                let cancel = self.written(|message| write_cancel(message, &id));
                self.out.push_back(Output::ToChild(cancel));
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
            self.answer_child(&Reply::new(id.clone(), reason));
        }
    }

    /// Sends an error of ours in place of one answer of the child.
    pub(super) fn deliver_error(&mut self, stream: StreamKey, reply: &Reply) {
        let frame = self.erred(reply);
        match self.dialect {
            Dialect::Streamable => self.send_to_post(stream, frame, 1, None),
            Dialect::HttpSse => self.send_to_listening(stream, frame, None),
        }
    }

    /// Sends an error of ours to the child, in place of an answer of the client.
    pub(super) fn answer_child(&mut self, reply: &Reply) {
        let frame = self.erred(reply);
        self.out.push_back(Output::ToChild(frame));
    }

    /// An error of ours, counted before it is sent: whoever has it finds it counted.
    fn erred(&mut self, reply: &Reply) -> Bytes {
        self.out.push_back(Output::Erred(reply.reason().clone()));
        self.written(|message| reply.write(message))
    }
}

#[cfg(test)]
mod tests {
    use shadowcat_codecs::envelope::Kind;

    use super::{
        super::{
            OwnedLimits,
            tests::{Desk, ask},
        },
        *,
    };

    /// Errors are counted for whomever they are, also for who is not there to hear of them.
    #[test]
    fn errors_are_told_of_before_they_are_sent_and_when_nobody_is_there() {
        let mut desk = Desk::new(Dialect::Streamable, OwnedLimits::default());
        desk.initialize("2025-06-18");
        let (post, erred) = (StreamKey::new(10), Some(Output::Erred(Reason::StreamEnded)));
        assert!(desk.post(post, &ask("1", "tools/call")).is_ok());
        desk.outputs();
        desk.session.closed(post, desk.now);
        desk.session.hear_refused(Kind::Response, b"1", Reason::StreamEnded);
        assert_eq!(desk.session.poll_output(), erred);
        assert_eq!(desk.session.poll_output(), None, "its client is away");
        desk.session.hear_refused(Kind::Request, b"7", Reason::StreamEnded);
        assert_eq!(desk.session.poll_output(), erred);
        assert!(matches!(desk.session.poll_output(), Some(Output::ToChild(_))));
    }
}
