//! Adapters for `futures`: the codecs over any `Stream` of [`Bytes`](bytes::Bytes) (the body of an HTTP response, for
//! example) and over any `Sink` of them. No runtime comes with them.
//!
//! - [`Events`] and [`EventBatches`] read event streams, [`EventSink`] writes one;
//! - [`Lines`] and [`LineBatches`] read newline-delimited frames, [`LineSink`] writes them.
//!
//! The error of the stream is kept as it is, in [`StreamError::Stream`]; what the decoder refuses is
//! [`StreamError::Codec`], and the stream goes on after it: the next item is the next whole frame.
//!
//! # Cancel safety
//!
//! Whoever drops a future that waits for the next item loses nothing: what was read is kept in the
//! adapter. A sink keeps what it could not pass on yet; a future that feeds or flushes it may be dropped
//! and begun again, but an item that was given to a dropped `feed` may not have been taken.

mod events;
mod lines;
mod sinks;

pub use events::{EventBatches, Events};
pub use lines::{LineBatches, Lines};
pub use sinks::{EventSink, LineSink};

use crate::FrameError;

/// What can go wrong between a codec and the stream or sink it is used on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "there are two who can fail")]
pub enum StreamError<E, C = FrameError> {
    /// The codec refused something. It goes on: poll again.
    #[error("{0}")]
    Codec(#[source] C),
    /// The stream or sink failed, in its own words.
    #[error("{0}")]
    Stream(#[source] E),
}

#[cfg(test)]
mod tests;
