//! What comes out of a session: messages for the child, and messages and ends for connections.

use std::time::Duration;

use bytes::Bytes;

use super::super::{Reason, StreamKey, replay::EventId};

/// What `link::mux` must do, in the order they are taken.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a link must do each of them")]
pub enum Output {
    /// Write this message to the child: the client's own bytes, or an error of ours to a request of the child.
    ToChild(Bytes),
    /// Write this message to a connection.
    Deliver(Delivery),
    /// Count this: an error of ours in place of an answer, of the child or of the client, which comes next; or is kept
    /// for a client that is away, or lost with it.
    Erred(Reason),
    /// Nothing more will come on this connection: end it.
    Close {
        /// Which.
        connection: StreamKey,
    },
}

/// A message on its way to the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The connection to write to.
    pub to: StreamKey,
    /// The stream it belongs to; another than `to` after a resumption.
    pub stream: StreamKey,
    /// One message, or a whole batch that a 2025-03-26 child sent.
    pub frame: Bytes,
    /// The id of the event. `None` if none is kept, or if this may be a plain JSON reply: the first and last
    /// message of a POST.
    pub event: Option<EventId>,
    /// Whether it is the last message on `to`.
    pub ends: bool,
    /// Whether a JSON reply must put it into an array, because the POST was a batch (see [`batch`](super::super::batch)).
    pub wants_array: bool,
    /// For an answer: how long ago its request came by.
    pub after: Option<Duration>,
}

/// What became of a POST that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "each is another HTTP reply")]
pub enum Posted {
    /// Keep the exchange open: answers will be [`Delivery`]s with its key as `stream`.
    Asked,
    /// Reply 202 once the outputs are written (Rule H5).
    Accepted,
}
