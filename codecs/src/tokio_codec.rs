//! Adapters to `tokio_util::codec::{Decoder, Encoder}`: the codecs in `FramedRead`, `FramedWrite` and
//! `Framed`, for whoever would rather have a `Stream` of frames than batches of them.
//!
//! What they are not: fast paths. One item at a time costs a counted reference each; the decoders
//! themselves hand out a whole block at once (`docs/benchmarks/line.md` has both).
//!
//! # Errors, and going on after them
//!
//! tokio-util wants the error of a codec to hold an `io::Error`; ours do not, and are `Copy`. Here, and
//! only here, [`CodecError`] is put around them.
//!
//! After an error, `FramedRead` yields `None` once. Polled again it goes on, but it *reads* first: frames
//! that had already arrived wait for more bytes, or are lost at the end of the stream. A message that is
//! too long is no reason for either, so put the codec into [`ErrorsAsItems`], and such an error becomes an
//! item like any other, in its place in the stream:
//!
//! ```
//! use futures::StreamExt;
//! use shadowcat_codecs::{FrameError, Limits, tokio_codec::{ErrorsAsItems, LineCodec}};
//! use tokio_util::codec::FramedRead;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let input = &b"short\nmuch too long\nnext\n"[..];
//! let codec = LineCodec::new(Limits::default().with_max_frame_len(8).unwrap());
//! let mut frames = FramedRead::new(input, ErrorsAsItems::new(codec));
//!
//! assert_eq!(frames.next().await.unwrap()?.as_deref(), Ok(&b"short"[..]));
//! assert_eq!(frames.next().await.unwrap()?, Err(FrameError::MessageTooLarge { limit: 8, at: 6 }));
//! assert_eq!(frames.next().await.unwrap()?.as_deref(), Ok(&b"next"[..]));
//! assert!(frames.next().await.is_none());
//! # std::io::Result::Ok(()) }).unwrap();
//! ```

mod line;
mod sse;

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

pub use line::{LineBatchCodec, LineCodec};
pub use sse::{SseBatchCodec, SseCodec};

/// What can go wrong between a codec and the stream it is used on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError<E> {
    /// The codec refused something: see [`ErrorsAsItems`] for how to go on.
    #[error("{0}")]
    Codec(E),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A codec whose own errors are items, so that the stream goes on after them. What is left as the error
/// is the stream's `io::Error`.
///
/// Encoding is not changed: a sink goes on after an error anyway.
#[derive(Debug, Clone, Default)]
pub struct ErrorsAsItems<C> {
    codec: C,
}

impl<C> ErrorsAsItems<C> {
    /// Puts `codec` into the adapter.
    #[must_use]
    pub const fn new(codec: C) -> Self {
        Self { codec }
    }

    /// The codec inside.
    #[must_use]
    pub fn into_inner(self) -> C {
        self.codec
    }
}

impl<C, E> Decoder for ErrorsAsItems<C>
where
    C: Decoder<Error = CodecError<E>>,
{
    type Item = Result<C::Item, E>;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, io::Error> {
        as_item(self.codec.decode(src))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, io::Error> {
        as_item(self.codec.decode_eof(src))
    }
}

impl<C, I> Encoder<I> for ErrorsAsItems<C>
where
    C: Encoder<I>,
{
    type Error = C::Error;

    fn encode(&mut self, item: I, dst: &mut BytesMut) -> Result<(), C::Error> {
        self.codec.encode(item, dst)
    }
}

fn as_item<T, E>(decoded: Result<Option<T>, CodecError<E>>) -> io::Result<Option<Result<T, E>>> {
    match decoded {
        Ok(item) => Ok(item.map(Ok)),
        Err(CodecError::Codec(refused)) => Ok(Some(Err(refused))),
        Err(CodecError::Io(failed)) => Err(failed),
    }
}

/// To be called when a decoder wants more bytes, `expected` of them for the message it is at: keeps reads
/// from becoming small, and long messages from being moved while they grow.
///
/// Frames are split off the front of the read buffer, so what is left of it shrinks with every block.
/// Once those frames are gone this takes their room back without allocating.
#[inline]
fn make_room(src: &mut BytesMut, expected: usize) {
    let expected = expected.min(MAX_EXPECTED);
    if src.capacity() - src.len() < expected.max(READ_LEN / 2) {
        src.reserve(expected.max(READ_LEN));
    }
}

/// What `FramedRead` starts with.
const READ_LEN: usize = 8 << 10;

/// More than this is not reserved on suspicion.
const MAX_EXPECTED: usize = 1 << 20;
