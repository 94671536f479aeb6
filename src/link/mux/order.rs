//! What exchanges ask of a child's task.

use std::time::Instant;

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
