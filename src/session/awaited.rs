//! The client's requests that are not awaited for ever, in a session with one client and one server.

use std::{
    collections::VecDeque,
    hash::RandomState,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use hashbrown::HashMap;
use shadowcat_codecs::envelope::Envelope;

use super::{
    Reply, RequestId,
    cancelled::write_cancelled,
    deadline::{Deadlines, ResponseTimeouts},
    spelling::method_is,
};

/// What has a limit. Empty, and free of charge, while no limit is set.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    timeouts: ResponseTimeouts,
    deadlines: Deadlines<RequestId, Note>,
    /// From progress token to the id of the request that brought it last.
    tokens: HashMap<RequestId, RequestId, RandomState>,
    /// Ids whose time has passed and whose answers may still come, oldest first.
    expired: VecDeque<RequestId>,
}

/// What is remembered of a request that has a limit.
#[derive(Debug)]
struct Note {
    token: Option<RequestId>,
    is_initialize: bool,
    /// Whether it waits to be sent.
    is_only_taken: bool,
}

/// What becomes of a request whose time has passed.
pub(super) struct Overdue {
    pub(super) may_be_cancelled: bool,
    /// The server was not asked.
    pub(super) is_only_taken: bool,
}

/// A request whose answer did not come in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    /// Its id.
    pub id: RequestId,
    /// The error in place of its answer.
    pub reply: Reply,
    /// Whether the server is [told](Self::write_cancel), where it is told in a message of its own. Not of `initialize`,
    /// which cannot be cancelled (Rule C2), nor of what it was not asked.
    pub may_be_cancelled: bool,
}

impl Expired {
    /// Appends what the server is told to `buf`, without a line end.
    pub fn write_cancel(&self, buf: &mut BytesMut) {
        write_cancel(buf, &self.id);
    }
}

impl Awaited {
    pub(super) fn new(timeouts: ResponseTimeouts) -> Self {
        Self { timeouts, ..Self::default() }
    }

    /// A request of the client goes out. If it was taken before, its time runs already.
    pub(super) fn asked(&mut self, frame: &[u8], envelope: &Envelope, now: Instant) {
        if self.timeouts.is_off() {
            return;
        }
        let id = envelope.id().map(|id| id.of(frame)).unwrap_or_default();
        match self.deadlines.of_mut(id).filter(|note| note.is_only_taken) {
            Some(note) => note.is_only_taken = false,
            None => self.start(frame, envelope, false, now),
        }
    }

    /// A request of the client was read, and goes out later.
    pub(super) fn taken(&mut self, frame: &[u8], envelope: &Envelope, now: Instant) {
        self.start(frame, envelope, true, now);
    }

    fn start(&mut self, frame: &[u8], envelope: &Envelope, is_only_taken: bool, now: Instant) {
        let Some((limit, id)) = self.timeouts.of_message(envelope, frame).zip(envelope.id()) else { return };
        let id = RequestId::new(id.of(frame));
        self.expired.retain(|expired| *expired != id);
        // Asked again under the same id: what is remembered of the first goes.
        self.answered(id.as_bytes());
        let token = envelope.meta_progress_token().map(|token| RequestId::new(token.of(frame)));
        if let Some(token) = &token {
            self.tokens.insert(token.clone(), id.clone());
        }
        let is_initialize = method_is(frame, envelope, "initialize");
        self.deadlines.start(id, limit, Note { token, is_initialize, is_only_taken }, now);
    }

    /// Nobody waits for the answer to `id` any more.
    pub(super) fn answered(&mut self, id: &[u8]) {
        if !self.deadlines.is_empty() {
            let note = self.deadlines.stop(id);
            self.forget(id, note.and_then(|note| note.token));
        }
    }

    /// The server said something that is no answer. Progress shows that it is at the request (Rule C6).
    pub(super) fn heard(&mut self, frame: &[u8], envelope: &Envelope, now: Instant) {
        if self.deadlines.is_empty() || !method_is(frame, envelope, "notifications/progress") {
            return;
        }
        let token = envelope.progress_token().map(|token| token.of(frame)).unwrap_or_default();
        if let Some(id) = self.tokens.get(token) {
            self.deadlines.extend(id, now);
        }
    }

    /// The server is alive where it answers these. Keep-alive shows that as progress does.
    pub(super) fn heard_of(&mut self, ids: &[RequestId], clock: impl FnOnce() -> Instant) {
        if !self.deadlines.is_empty() && !ids.is_empty() {
            let now = clock();
            ids.iter().for_each(|id| self.deadlines.extend(id, now));
        }
    }

    /// Whether the answer to `id`, for which nobody waits, comes too late; told once.
    pub(super) fn is_late(&mut self, id: &[u8]) -> bool {
        let found = self.expired.iter().position(|expired| expired.as_bytes() == id);
        found.and_then(|index| self.expired.remove(index)).is_some()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.deadlines.due()
    }

    /// Takes a request whose time has passed, and the limit.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(RequestId, Duration, Overdue)> {
        let (id, limit, Note { token, is_initialize, is_only_taken }) = self.deadlines.take_due(now)?;
        self.forget(id.as_bytes(), token);
        if self.expired.len() >= MAX_EXPIRED {
            self.expired.pop_front();
        }
        self.expired.push_back(id.clone());
        let may_be_cancelled = !is_initialize && !is_only_taken;
        Some((id, limit, Overdue { may_be_cancelled, is_only_taken }))
    }

    fn forget(&mut self, id: &[u8], token: Option<RequestId>) {
        // Another request may have brought the same token since.
        if let Some(token) = token
            && self.tokens.get(token.as_bytes()).is_some_and(|owner| owner.as_bytes() == id)
        {
            self.tokens.remove(token.as_bytes());
        }
    }
}

/// What a server is told of a request whose time has passed (Rules C1, C6).
pub(super) fn write_cancel(buf: &mut BytesMut, id: &RequestId) {
    write_cancelled(buf, id.as_bytes(), "there was no answer in time");
}

/// Most ids that are remembered after their time, so that a late answer is known for what it is.
const MAX_EXPIRED: usize = 256;

#[cfg(test)]
mod tests {
    use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

    use super::*;

    /// A peer must not be able to fill memory with tokens of requests that nobody remembers.
    #[test]
    fn a_request_that_is_asked_again_with_another_token_leaves_none_behind() {
        let now = crate::clock::now().into_std();
        let mut awaited = Awaited::new(ResponseTimeouts::new(Some(Duration::from_secs(1)), []));
        for token in 0..9 {
            let frame =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"_meta":{{"progressToken":{token}}}}}}}"#);
            let envelope = EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap();
            awaited.asked(frame.as_bytes(), &envelope, now);
            assert_eq!(awaited.tokens.len(), 1);
        }
        assert!(awaited.tokens.contains_key(&b"8"[..]));
        awaited.answered(b"1");
        assert_eq!((awaited.tokens.len(), awaited.due()), (0, None));
    }
}
