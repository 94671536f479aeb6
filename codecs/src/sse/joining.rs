//! What a pass works on, and how lines of data are joined there: in place in a block of our own, by a copy
//! beside a block that is shared.

use bytes::BytesMut;

use super::{
    place::{Data, Place},
    scan::span,
};
use crate::Span;

/// The bytes of a pass, and what joining lines means there.
pub(super) trait Block {
    fn bytes(&self) -> &[u8];

    /// Where `data`, an LF and the bytes at `value`, which lie behind it, are one run of bytes. If there is
    /// no data yet, where `value` is.
    fn join(&mut self, data: Data, value: Span) -> Data;

    /// Where `text`, a type or an id, is safe from `join`.
    fn save(&mut self, data: Data, text: Place) -> Place;

    /// `data` will not be asked for again.
    fn discard(&mut self, data: Data);
}

/// A block that belongs to us alone: lines are joined where they are.
///
/// The joined text is never longer than its source, because at least `\ndata:` lay between:
///
/// ```text
/// data: one\ndata: two\n   ->   data: one\ntwo.........
///       ^-^        ^-^                ^------^
/// ```
///
/// A type or an id between the two would be overwritten.
pub(super) struct Owned<'a> {
    pub(super) block: &'a mut [u8],
    /// Room for types and ids that were in the way.
    pub(super) saved: &'a mut BytesMut,
}

/// A block that others may read: lines are joined in a buffer of our own.
pub(super) struct Shared<'a> {
    pub(super) block: &'a [u8],
    /// Invariant: the data of the open event, if it is [`Data::Joined`], ends where this ends.
    pub(super) joined: &'a mut BytesMut,
}

impl Block for Owned<'_> {
    fn bytes(&self) -> &[u8] {
        self.block
    }

    #[inline]
    fn join(&mut self, data: Data, value: Span) -> Data {
        let Data::Block(data) = data else { return Data::Block(value) };
        // The byte before the value goes along, and becomes the LF.
        self.block.copy_within(value.start() - 1..value.end(), data.end());
        if let Some(line_end) = self.block.get_mut(data.end()) {
            *line_end = b'\n';
        }
        Data::Block(span(data.start(), data.end() + 1 + value.len()))
    }

    /// A named copy of what is in the way, which in most events is nothing.
    #[inline]
    fn save(&mut self, data: Data, text: Place) -> Place {
        let Data::Block(data) = data else { return text };
        if !text.is_in_block_behind(data.start()) {
            return text;
        }
        let start = self.saved.len();
        self.saved.extend_from_slice(text.of(self.block, &[]));
        Place::in_joined(span(start, self.saved.len()))
    }

    fn discard(&mut self, _data: Data) {}
}

impl Shared<'_> {
    /// Begins to join. Returns where.
    #[cold]
    fn copied(&mut self, data: Span) -> usize {
        let start = self.joined.len();
        self.joined.extend_from_slice(data.of(self.block));
        start
    }
}

impl Block for Shared<'_> {
    fn bytes(&self) -> &[u8] {
        self.block
    }

    /// A named copy: shared bytes cannot be moved.
    #[inline]
    fn join(&mut self, data: Data, value: Span) -> Data {
        let start = match data {
            Data::Joined(data) => data.start(),
            Data::Block(data) => self.copied(data),
            Data::Nowhere | Data::Refused => return Data::Block(value),
        };
        // The byte before the value goes along, and becomes the LF.
        let line_end = self.joined.len();
        self.joined.extend_from_slice(self.block.get(value.start() - 1..value.end()).unwrap_or_default());
        if let Some(line_end) = self.joined.get_mut(line_end) {
            *line_end = b'\n';
        }
        Data::Joined(span(start, self.joined.len()))
    }

    fn save(&mut self, _data: Data, text: Place) -> Place {
        text
    }

    fn discard(&mut self, data: Data) {
        if let Data::Joined(data) = data {
            self.joined.truncate(data.start());
        }
    }
}
