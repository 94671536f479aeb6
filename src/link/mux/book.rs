//! Whose child it is: many clients' or one's. A closed set, so an enum.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use shadowcat_codecs::{
    envelope::{BatchElement, Envelope},
    sse::KEEP_ALIVE,
};

use super::{child_io::Said, effect::Effect, owning::Owning, sharing::Sharing};
use crate::session::{Reason, Reply, StreamKey, shared::Leaving};

/// What is remembered of a child's exchanges.
#[derive(Debug)]
pub(super) enum Book {
    /// Modern: many clients, no session.
    Shared(Option<Box<Sharing>>),
    /// Legacy: one client, one session.
    Owned(Box<Owning>),
}

impl Book {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Shared(_) => "shared",
            Self::Owned(_) => "owned",
        }
    }

    /// Whether the child may be kept waiting for a slow client: only by the one who owns it.
    pub(super) fn is_pausable(&self) -> bool {
        matches!(self, Self::Owned(_))
    }

    /// A client posted a message. `Ok` says whether an answer will come.
    pub(super) fn post(
        &mut self,
        key: StreamKey,
        message: (Bytes, Envelope, &[BatchElement]),
        headers: &HeaderMap,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Reply> {
        match self {
            Self::Shared(Some(sharing)) => {
                let (frame, envelope, _) = message;
                sharing.post(key, (frame, envelope), headers, now, effects)
            }
            Self::Shared(None) => Err(Reply::without_id(Reason::SessionEnded)),
            Self::Owned(owning) => owning.post(key, message, headers, now, effects),
        }
    }

    pub(super) fn hear(&mut self, said: Said, now: Instant, effects: &mut Vec<Effect>) {
        match self {
            Self::Shared(Some(sharing)) => sharing.hear(said, now, effects),
            Self::Shared(None) => {}
            Self::Owned(owning) => owning.hear(said, now, effects),
        }
    }

    /// A listening stream was opened. Returns what goes out first.
    pub(super) fn listen(
        &mut self,
        key: StreamKey,
        last_event_id: Option<&[u8]>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Bytes>, Reply> {
        match self {
            Self::Shared(_) => Err(Reply::without_id(Reason::MethodNotAllowed { allowed: "POST" })),
            Self::Owned(owning) => owning.listen(key, last_event_id, now, effects),
        }
    }

    /// What an exchange that was silent for long is told first.
    pub(super) fn open_events(&mut self, key: StreamKey) -> Bytes {
        let priming = match self {
            Self::Shared(_) => None,
            Self::Owned(owning) => owning.open_events(key),
        };
        priming.unwrap_or(Bytes::from_static(KEEP_ALIVE))
    }

    /// The client behind `key` is gone.
    pub(super) fn leave(&mut self, key: StreamKey, why: Leaving, now: Instant, effects: &mut Vec<Effect>) {
        match self {
            Self::Shared(Some(sharing)) => sharing.leave(key, why, effects),
            Self::Shared(None) => {}
            Self::Owned(owning) => owning.leave(key, now, effects),
        }
    }

    pub(super) fn handle_time(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Self::Owned(owning) = self {
            owning.handle_time(now, effects);
        }
    }

    /// The client wants no more of its session.
    pub(super) fn delete(&mut self, effects: &mut Vec<Effect>) {
        if let Self::Owned(owning) = self {
            owning.end(&Reason::SessionEnded, effects);
        }
    }

    /// The child is gone: everybody who waits is told why.
    pub(super) fn end(&mut self, reason: &Reason, effects: &mut Vec<Effect>) {
        match self {
            Self::Shared(sharing) => {
                if let Some(sharing) = sharing.take() {
                    sharing.end(reason, effects);
                }
            }
            Self::Owned(owning) => owning.end(reason, effects),
        }
    }

    /// Whether nobody can ask for anything any more.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Shared(_) => false,
            Self::Owned(owning) => owning.is_over(),
        }
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        match self {
            Self::Shared(_) => false,
            Self::Owned(owning) => owning.is_idle(now),
        }
    }
}
