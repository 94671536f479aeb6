//! A place in the piece of a frame that is being read, and offsets in the frame.

use super::super::{EnvelopeError, token};
use crate::Span;

/// A place in the chunk being read.
pub(super) struct Cursor<'a> {
    pub(super) hay: &'a [u8],
    /// Invariant: `pos <= hay.len()`.
    pub(super) pos: usize,
    /// Offset in the frame of `hay[0]`.
    pub(super) base: usize,
    /// Whether a byte above 0x7F may be in `hay[..pos]`.
    pub(super) high: bool,
}

impl Cursor<'_> {
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.hay.get(self.pos).copied()
    }

    /// Offset in the frame of the next byte.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.base + self.pos
    }

    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        self.hay.get(self.pos..).unwrap_or_default()
    }

    /// Passes over white space, and shows the byte behind it.
    #[inline]
    pub(super) fn token(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !token::is_space(byte) {
                return Some(byte);
            }
            self.pos += 1;
        }
        None
    }

    #[cold]
    pub(super) fn unexpected(&self) -> EnvelopeError {
        EnvelopeError::Unexpected { at: offset(self.at()) }
    }
}

/// No offset is beyond `u32`: a scan fails before.
#[expect(clippy::cast_possible_truncation, reason = "`feed_piece` and the limits keep everything below u32::MAX")]
#[inline]
pub(super) fn offset(at: usize) -> u32 {
    at as u32
}

#[inline]
pub(super) fn span(start: usize, end: usize) -> Span {
    Span::new(offset(start), offset(end))
}
