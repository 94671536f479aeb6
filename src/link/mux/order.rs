//! What exchanges ask of a child's task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use shadowcat_codecs::envelope::{BatchElement, Envelope};
use tracing::Span;

use super::{
    lanes::{Opening, Seat},
    sharing::reply_to,
};
use crate::{
    session::{Reason, Reply},
    verify::Seen,
};

/// What an exchange asks of a child's task.
#[derive(Debug)]
pub(super) enum Order {
    /// Take this message.
    Post(Box<Post>),
    /// Send what belongs on a listening stream here; after this event, if the client says which it saw last.
    Listen { last_event_id: Option<HeaderValue>, seat: Seat },
}

/// A message a client posted.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) frame: Bytes,
    pub(super) envelope: Envelope,
    pub(super) elements: Vec<BatchElement>,
    pub(super) headers: HeaderMap,
    /// When all of it was here.
    pub(super) arrived: Instant,
    pub(super) seat: Seat,
    /// Where it is said what becomes of it.
    pub(super) span: Span,
    /// With `--verify`: the body as it came in.
    pub(super) seen: Option<Seen>,
    /// `None`: whoever asks waits for ever.
    pub(super) claim: Option<Claim>,
}

/// A request with a limit on its answer, before the child's task has taken it: whoever claims it has it, the task, or
/// the exchange whose time has passed. So a child that reads nothing keeps nobody waiting for longer, and what its
/// exchange has given up is never said to it.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) limit: Duration,
    pub(super) due: Instant,
    is_claimed: Arc<AtomicBool>,
}

impl Claim {
    /// For a request that was given to us at `given`.
    pub(super) fn new(limit: Duration, given: Instant) -> Self {
        Self { limit, due: given + limit, is_claimed: Arc::default() }
    }

    /// Whether nobody else has claimed it.
    pub(super) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::Relaxed)
    }
}

impl Order {
    /// Refuses it. Whoever left needs no answer.
    pub(super) fn refuse(self, reason: Reason) {
        let (reply, seat) = match self {
            Self::Post(post) => (reply_to(&post.frame, &post.envelope, reason), post.seat),
            Self::Listen { seat, .. } => (Reply::without_id(reason), seat),
        };
        let _ = seat.answer.send(Opening::Refused(reply));
    }
}
