//! What the two kinds of state ask the child's task to do.

use bytes::Bytes;
use http::StatusCode;

use super::pieces::Pieces;
use crate::{
    session::{Reason, Reply, StreamKey, shared::Dropped},
    verify::Seen,
};

/// One thing to do, in order.
#[derive(Debug)]
pub(super) enum Effect {
    /// Write this message of a client to the child.
    ToChild(Pieces),
    /// What the child said goes to nobody.
    Dropped(Dropped),
    /// Write this message to the child, which is ours: an error in place of an answer to its own request.
    Answer(Bytes),
    /// Write this message to an exchange.
    Deliver {
        to: StreamKey,
        pieces: Pieces,
        /// Id of the event, where the stream can be resumed.
        event: Option<String>,
        is_last: bool,
        /// Of a plain reply.
        status: StatusCode,
    },
    /// Count this error of ours, to the child or to a client that may be away.
    Erred(Reason),
    /// An exchange gets this error instead of its answer, and ends.
    Fail {
        to: StreamKey,
        reply: Reply,
        /// Whether it is a subscription: once its stream has begun, it is broken off.
        is_listen: bool,
    },
    /// Nothing more will come for an exchange.
    Close(StreamKey),
}

/// With `--verify`: of these, those that pass on `frame` know how it came in.
pub(super) fn came_as(effects: &mut [Effect], frame: &Bytes, seen: Seen) {
    for effect in effects {
        if let Effect::ToChild(pieces) | Effect::Deliver { pieces, .. } = effect {
            pieces.came_as(frame, seen);
        }
    }
}
