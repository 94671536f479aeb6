//! One message as the pieces it consists of, when ids were spliced into it; nothing is joined.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use shadowcat_codecs::envelope::{Replacement, Splice};

use crate::{
    budget::Charge,
    transport::http::BodyError,
    verify::{Edit, Seen},
};

/// A message in pieces; also a body that consists of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    /// Invariant: none is empty.
    pieces: Vec<Bytes>,
    /// Pieces that have left, as a body. Invariant: `next <= pieces.len()`.
    next: usize,
    /// The frame they are of, if something was put into it.
    original: Option<Bytes>,
    /// With `--verify`: that frame as it came in.
    seen: Option<Box<Seen>>,
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

    /// If they are of this frame, `seen` is how it came in.
    pub(super) fn came_as(&mut self, frame: &Bytes, seen: Seen) {
        let alone = self.pieces.first().filter(|_| self.pieces.len() == 1);
        if self.original.as_ref().or(alone).is_some_and(|own| own.as_ptr_range() == frame.as_ptr_range()) {
            self.seen = Some(Box::new(seen));
        }
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.as_deref().copied()
    }

    /// What was put in, and what it stands for: one id or token each, or it is not undone.
    pub(super) fn edits(&self) -> Vec<Edit> {
        let Some(original) = self.original.as_ref().filter(|_| self.seen.is_some()) else { return Vec::new() };
        let (mut edits, mut put, mut at, mut behind) = (Vec::new(), None, 0, 0);
        for piece in self.iter() {
            if let Some(start) = offset_in(original, piece) {
                if let (Some((at, with)), true) = (put.take(), behind <= start) {
                    let gone = original.slice(behind..start);
                    if Replacement::raw(gone.clone()).is_ok() {
                        edits.push(Edit { at, with, gone });
                    }
                }
                behind = start + piece.len();
            } else {
                put = Some((at, piece.clone()));
            }
            at += piece.len() as u64;
        }
        edits
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
        Self { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), ..Self::default() }
    }
}

impl From<Splice> for Pieces {
    fn from(splice: Splice) -> Self {
        let original = Bytes::from(splice.original().clone());
        let pieces: Self = splice
            .slices()
            .map(|slice| match offset_in(&original, slice) {
                Some(_) => original.slice_ref(slice),
                // What was put in: a few digits, or an id (a named copy).
                None => slice.iter().copied().collect(),
            })
            .collect();
        Self { original: Some(original), ..pieces }
    }
}

/// Where in `original` these bytes lie, if they are some of it.
fn offset_in(original: &Bytes, part: &[u8]) -> Option<usize> {
    let (whole, part) = (original.as_ptr_range(), part.as_ptr_range());
    let is_inside = part.start >= whole.start && part.end <= whole.end && part.start < part.end;
    is_inside.then(|| part.start.addr() - whole.start.addr())
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
