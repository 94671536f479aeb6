//! One message as the pieces it consists of, when ids were spliced into it; nothing is joined.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use shadowcat_codecs::envelope::Splice;

use crate::{budget::Charge, transport::http::BodyError};

/// A message in pieces; also a body that consists of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    /// Invariant: none is empty.
    pieces: Vec<Bytes>,
    /// Pieces that have left, as a body. Invariant: `next <= pieces.len()`.
    next: usize,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.iter().map(Bytes::len).sum()
    }

    pub(super) fn count(&self) -> usize {
        self.iter().len()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.pieces.get(self.next..).unwrap_or_default().iter()
    }

    /// The same, which hold `charge` until the last piece is gone.
    pub(super) fn charged(mut self, charge: Charge) -> Self {
        if let Some(last) = self.pieces.pop() {
            self.pieces.push(charge.wrap(last));
        }
        self
    }

    /// All of it in one piece: a named copy, unless it is one piece already.
    pub(super) fn into_one(mut self) -> Bytes {
        if self.count() == 1 {
            return self.pieces.pop().unwrap_or_default();
        }
        let mut one = BytesMut::with_capacity(self.len());
        self.iter().for_each(|piece| one.extend_from_slice(piece));
        one.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        std::iter::once(bytes).collect()
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        Self { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), next: 0 }
    }
}

impl From<Splice> for Pieces {
    fn from(splice: Splice) -> Self {
        let original = Bytes::from(splice.original().clone());
        let (start, end) = (original.as_ptr(), original.as_ptr_range().end);
        splice
            .slices()
            .map(|slice| {
                let range = slice.as_ptr_range();
                if range.start >= start && range.end <= end && !slice.is_empty() {
                    original.slice_ref(slice)
                } else {
                    // What was put in: a few digits, or an id (a named copy).
                    slice.iter().copied().collect()
                }
            })
            .collect()
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let piece = self.iter().next().cloned();
        self.next += usize::from(piece.is_some());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.count() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}
