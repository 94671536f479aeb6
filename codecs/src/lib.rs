//! Framing and envelopes for byte streams of JSON messages.
//!
//! Bytes are values here: no sockets, no clock, no tasks, no runtime. A decoder is given the bytes
//! that arrived and cuts them into *frames*; a frame is one message's bytes without its framing, and
//! the bytes of a frame are never changed. The *envelope* says what a frame is (a request, its id, its
//! method…) as spans into it, so that a proxy can decide without owning or rebuilding anything.
//!
//! - [`line`](mod@line): newline-delimited messages (MCP over stdio, NDJSON).
//! - [`sse`]: Server-Sent Events, to the letter of the WHATWG grammar.
//! - [`envelope`]: the JSON-RPC envelope of a frame, by a resumable scan, or whole by simd-json.
//! - [`pool`]: a few blocks that are kept to be read into again.
//!
//! Everything is bounded: [`Limits`] holds every maximum, and a frame that breaks one is reported once,
//! with the limit and its offset in the stream, and skipped; the next frame is whole.
//!
//! # The chunking law
//!
//! For all bytes and all ways to cut them into reads, the sequence of frames and errors is the same.
//! It is a property test, an exhaustive test and a fuzz target for each decoder.
//!
//! # Example
//!
//! ```
//! use bytes::BytesMut;
//! use shadowcat_codecs::{FrameTable, Limits, line::LineDecoder};
//!
//! let mut decoder = LineDecoder::new(Limits::default());
//! let mut table = FrameTable::new();
//! let mut buf = BytesMut::from(&b"{\"a\":1}\n{\"b\":2}\n{\"c\""[..]);
//!
//! let batch = decoder.decode(&mut buf, &mut table)?.expect("two whole lines").freeze();
//! let frames: Vec<&[u8]> = batch.iter().collect();
//! assert_eq!(frames, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
//! assert_eq!(&buf[..], b"{\"c\"", "the unfinished line stays where it is");
//! # Ok::<(), shadowcat_codecs::FrameError>(())
//! ```

#![warn(clippy::indexing_slicing, clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "a test may panic and copy"))]

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod block;
pub mod envelope;
mod error;
mod frame;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod limits;
pub mod line;
pub mod pool;
pub mod sse;
#[cfg(feature = "futures")]
pub mod stream;
#[cfg(feature = "tokio-util")]
pub mod tokio_codec;

pub use error::{FrameError, LimitError};
pub use frame::{Frame, FrameBatch, FrameTable, OpenBatch, PADDING, PaddedFrame, Span};
pub use limits::Limits;
