//! Whose child it is: many clients' or one's. A closed set, so an enum.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use shadowcat_codecs::{
    envelope::{BatchElement, Envelope},
    sse::KEEP_ALIVE,
};

use super::{
    child_io::Said,
    effect::{self, Effect},
    lanes::Departed,
    owning::Owning,
    sharing::Sharing,
};
use crate::{
    session::{Reason, Reply, StreamKey, shared::Leaving},
    verify::Seen,
};

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
        match self {
            Self::Shared(sharing) => sharing.as_ref().is_some_and(|sharing| sharing.is_pausable()),
            Self::Owned(_) => true,
        }
    }

    /// A client posted a message. `times` are when it was given to us, and now. `Ok` says whether an answer will come.
    pub(super) fn post(
        &mut self,
        key: StreamKey,
        message: (Bytes, Envelope, &[BatchElement]),
        headers: &HeaderMap,
        (times, seen): ((Instant, Instant), Option<Seen>),
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Reply> {
        let (before, came) = (effects.len(), seen.map(|seen| (message.0.clone(), seen)));
        let posted = match self {
            Self::Shared(Some(sharing)) => {
                let (frame, envelope, _) = message;
                sharing.post(key, (frame, envelope), headers, times, effects)
            }
            Self::Shared(None) => Err(Reply::without_id(Reason::SessionEnded)),
            Self::Owned(owning) => owning.post(key, message, headers, times, effects),
        };
        came_as(effects, before, came);
        posted
    }

    pub(super) fn hear(&mut self, said: Said, now: Instant, effects: &mut Vec<Effect>) {
        let (before, came) = (effects.len(), said.came());
        match self {
            Self::Shared(Some(sharing)) => sharing.hear(said, now, effects),
            Self::Shared(None) => {}
            Self::Owned(owning) => owning.hear(said, now, effects),
        }
        came_as(effects, before, came);
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

    /// A client is gone, or will get nothing more, for `why`.
    pub(super) fn leave(&mut self, departed: Departed, why: Leaving, now: Instant, effects: &mut Vec<Effect>) {
        match self {
            Self::Shared(Some(sharing)) => sharing.leave(departed.key, why, now, effects),
            Self::Shared(None) => {}
            Self::Owned(owning) => owning.leave(departed, now, effects),
        }
    }

    /// When there is something to do for [`handle_time`](Self::handle_time), or the child is
    /// [idle](Self::is_idle).
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Shared(sharing) => sharing.as_ref()?.due(),
            Self::Owned(owning) => owning.due(),
        }
    }

    /// When the child has owed the answer to `initialize` for as long as it may. Of the modern era there is none.
    pub(super) fn start_due(&self) -> Option<Instant> {
        match self {
            Self::Shared(_) => None,
            Self::Owned(owning) => owning.start_due(),
        }
    }

    /// Returns how many requests were not answered in time.
    pub(super) fn handle_time(&mut self, now: Instant, effects: &mut Vec<Effect>) -> u64 {
        match self {
            Self::Shared(Some(sharing)) => sharing.handle_time(now, effects),
            Self::Shared(None) => 0,
            Self::Owned(owning) => owning.handle_time(now, effects),
        }
    }

    /// No more is asked of the child: its session was deleted, or it was idle for too long.
    pub(super) fn retire(&mut self, effects: &mut Vec<Effect>) {
        match self {
            Self::Shared(Some(sharing)) => sharing.retire(),
            Self::Shared(None) => {}
            Self::Owned(owning) => {
                owning.end(&Reason::SessionEnded, effects);
            }
        }
    }

    /// What whoever asks for the child now is told: with Streamable HTTP to begin a new session (Rule G11), of
    /// the modern era to come again, as nothing was asked of any server yet.
    pub(super) fn too_late(&self) -> Reason {
        match self {
            Self::Shared(_) => Reason::Overloaded { what: "the server is ending".to_owned(), retry_after: 1 },
            Self::Owned(_) => Reason::SessionNotFound,
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
            Self::Shared(sharing) => sharing.as_ref().is_none_or(|sharing| sharing.is_over()),
            Self::Owned(owning) => owning.is_over(),
        }
    }

    /// Whether the session can outlive its child.
    pub(super) fn can_go_on(&self) -> bool {
        matches!(self, Self::Owned(owning) if owning.can_go_on())
    }

    /// The child is gone, and there will be another: everybody who waits is told why.
    pub(super) fn crash(&mut self, reason: &Reason, effects: &mut Vec<Effect>) {
        if let Self::Owned(owning) = self {
            owning.crash(reason, effects);
        }
    }

    /// There is no memory for what the child says to the exchange of `key`, which is told so.
    pub(super) fn give_up(&mut self, key: StreamKey, reason: Reason, effects: &mut Vec<Effect>) {
        if let Self::Shared(Some(sharing)) = self {
            sharing.give_up(key, reason, effects);
        }
    }

    /// Whether the child owes an answer.
    pub(super) fn is_asked(&self) -> bool {
        match self {
            Self::Shared(sharing) => sharing.as_ref().is_some_and(|sharing| sharing.is_asked()),
            Self::Owned(owning) => owning.is_asked(),
        }
    }

    /// There is another child.
    pub(super) fn begin_again(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Self::Owned(owning) = self {
            owning.begin_again(now, effects);
        }
    }

    /// Whether there is no child that knows of the session.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Owned(owning) if owning.is_away())
    }

    /// Whether a client of the session is there.
    pub(super) fn is_attended(&self) -> bool {
        matches!(self, Self::Owned(owning) if owning.is_attended())
    }

    /// Why the session ended.
    pub(super) fn ended_by(&self) -> Option<Reason> {
        match self {
            Self::Shared(_) => None,
            Self::Owned(owning) => owning.ended_by(),
        }
    }

    /// The memory that is taken by what a session keeps for later.
    pub(super) fn kept_len(&self) -> usize {
        match self {
            Self::Shared(_) => 0,
            Self::Owned(owning) => owning.kept_len(),
        }
    }

    /// There is room for `most` bytes of that only.
    pub(super) fn shrink_kept(&mut self, most: usize, effects: &mut Vec<Effect>) {
        if let Self::Owned(owning) = self {
            owning.shrink_kept(most, effects);
        }
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        match self {
            Self::Shared(sharing) => sharing.as_ref().is_some_and(|sharing| sharing.is_idle(now)),
            Self::Owned(owning) => owning.is_idle(now),
        }
    }
}

fn came_as(effects: &mut [Effect], before: usize, came: Option<(Bytes, Seen)>) {
    if let (Some((frame, seen)), Some(new)) = (came, effects.get_mut(before..)) {
        effect::came_as(new, &frame, seen);
    }
}
