//! Frames: one message's bytes without framing, alone ([`Frame`]) or many in one block
//! ([`FrameBatch`]), and the table that is filled while the block is still open.
//!
//! A decoder works on the `BytesMut` the transport reads into. It finds frames, and returns them as an
//! [`OpenBatch`]: (start, end) pairs over a block that is still mutable, so that a parser may work in
//! place. [`OpenBatch::freeze`] splits the block off as one shared `Bytes`:
//!
//! ```text
//!            src (BytesMut)                                 after freeze()
//!   {"a":1}\n{"b":2}\r\n{"c"            ->   block (Bytes)  {"a":1}\n{"b":2}\r\n
//!   ^0    ^7 ^8    ^15                       spans          (0,7) (8,15)
//!                       ^ unfinished         src            {"c"
//! ```
//!
//! Frames are passed on, not kept: a 40-byte frame pins the whole block it came from.

use std::{fmt, ops::Deref};

use bytes::{Buf, Bytes, BytesMut};

/// A range of bytes inside a frame or a block. Never a borrow, so it outlives `freeze` and `.await`.
///
/// Invariant: `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

/// One message's bytes, without framing; shared and immutable.
///
/// `Debug` shows the length only: payloads never reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

/// Many frames in one shared block.
#[derive(Clone, Default)]
pub struct FrameBatch {
    block: Bytes,
    /// Invariant: ascending, disjoint, each `end <= block.len()`.
    spans: Vec<Span>,
    at: u64,
}

/// Room for the (start, end) pairs of one batch, reused from batch to batch.
#[derive(Debug, Default)]
pub struct FrameTable {
    spans: Vec<Span>,
}

/// Frames found in a block that is still mutable. Dropping it unfrozen discards its frames.
#[must_use = "the frames are discarded unless the batch is frozen"]
pub struct OpenBatch<'a> {
    src: &'a mut BytesMut,
    table: &'a mut FrameTable,
    /// Length of `src` without the padding that [`padded`](Self::padded) may have added.
    len: usize,
    /// Length of the block to split off. Invariant: every span's `end <= end <= len`.
    end: usize,
    at: u64,
}

/// The bytes of one frame, mutable, with [`PADDING`] initialised bytes behind them.
///
/// The padding may hold anything, the next frame included; what is written there must be put back.
#[derive(Debug)]
pub struct PaddedFrame<'a> {
    /// Invariant: `bytes.len() >= len + PADDING`.
    bytes: &'a mut [u8],
    len: usize,
}

impl Span {
    /// The bytes from `start` up to, not including, `end`.
    ///
    /// # Panics
    ///
    /// If `start > end`.
    #[must_use]
    pub const fn new(start: u32, end: u32) -> Self {
        assert!(start <= end, "a span ends where it starts or later");
        Self { start, end }
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub(crate) const fn with_len(start: u32, len: u32) -> Self {
        Self { start, end: start + len }
    }

    /// Offset of the first byte.
    #[must_use]
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// Offset behind the last byte.
    #[must_use]
    pub const fn end(self) -> usize {
        self.end as usize
    }

    /// Number of bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span has no bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of `frame` this span stands for; empty if the span is of another, longer frame.
    #[must_use]
    pub fn of(self, frame: &[u8]) -> &[u8] {
        frame.get(self.start()..self.end()).unwrap_or_default()
    }
}

impl Frame {
    /// Takes `bytes` as one frame. What they hold is not looked at.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The frame's bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Frame> for Bytes {
    fn from(frame: Frame) -> Self {
        frame.0
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.len())
    }
}

impl FrameTable {
    /// An empty table. Nothing is allocated until the first frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { spans: Vec::new() }
    }

    /// Takes back the allocation of a batch that is no longer needed, so that the next batch is built
    /// without one.
    pub fn recycle(&mut self, batch: FrameBatch) {
        if batch.spans.capacity() > self.spans.capacity() {
            self.spans = batch.spans;
            self.spans.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.spans.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    #[inline]
    pub(crate) fn push(&mut self, span: Span) {
        self.spans.push(span);
    }

    pub(crate) fn last_len(&self) -> usize {
        self.spans.last().map_or(0, |span| span.len())
    }

    /// Hands out the frames found in the first `end` bytes of `src`, whose first byte is at stream
    /// offset `at`.
    pub(crate) fn open<'a>(&'a mut self, src: &'a mut BytesMut, end: usize, at: u64) -> OpenBatch<'a> {
        debug_assert!(self.spans.iter().all(|span| span.end() <= end) && end <= src.len());
        OpenBatch { len: src.len(), src, table: self, end, at }
    }
}

impl OpenBatch<'_> {
    /// Number of frames; never 0 when a decoder returned this batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.spans.len()
    }

    /// Whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.spans.is_empty()
    }

    /// Stream offset of the block's first byte.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Where the `index`th frame is in the block.
    #[must_use]
    pub fn span(&self, index: usize) -> Option<Span> {
        self.table.spans.get(index).copied()
    }

    /// The `index`th frame's bytes.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        Some(self.span(index)?.of(self.src))
    }

    /// The `index`th frame, mutable and padded, for a parser that works in place.
    ///
    /// Allocates if fewer than [`PADDING`] spare bytes follow the read buffer's contents; reserve that
    /// much when reading and it never does.
    pub fn padded(&mut self, index: usize) -> Option<PaddedFrame<'_>> {
        let span = self.span(index)?;
        if self.src.len() < span.end() + PADDING {
            self.src.resize(span.end() + PADDING, 0);
        }
        let bytes = self.src.get_mut(span.start()..)?;
        Some(PaddedFrame { bytes, len: span.len() })
    }

    /// Splits the block off as one shared `Bytes`. No copy, and no allocation once the buffer is shared.
    #[must_use]
    pub fn freeze(mut self) -> FrameBatch {
        self.src.truncate(self.len);
        let block = self.src.split_to(self.end).freeze();
        // `drop` still runs: nothing is left for it to advance over.
        (self.len, self.end) = (self.len - self.end, 0);
        FrameBatch { block, spans: std::mem::take(&mut self.table.spans), at: self.at }
    }
}

impl Drop for OpenBatch<'_> {
    fn drop(&mut self) {
        self.src.truncate(self.len);
        self.src.advance(self.end);
        self.table.clear();
    }
}

impl fmt::Debug for OpenBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBatch").field("at", &self.at).field("spans", &self.table.spans).finish_non_exhaustive()
    }
}

impl<'a> PaddedFrame<'a> {
    /// A frame of `len` bytes at the start of `bytes`, or `None` if fewer than [`PADDING`] bytes follow.
    #[must_use]
    pub fn new(bytes: &'a mut [u8], len: usize) -> Option<Self> {
        (bytes.len() >= len.checked_add(PADDING)?).then_some(Self { bytes, len })
    }

    /// The frame's bytes, without the padding.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Number of bytes in the frame.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frame and everything behind it.
    #[must_use]
    pub fn into_parts(self) -> (&'a mut [u8], usize) {
        (self.bytes, self.len)
    }
}

impl FrameBatch {
    /// A batch of frames that lie in `block` at `spans`.
    #[cfg(test)]
    pub(crate) fn new(block: Bytes, spans: Vec<Span>, at: u64) -> Self {
        debug_assert!(spans.iter().all(|span| span.end() <= block.len()));
        Self { block, spans, at }
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The block all frames lie in, framing bytes included.
    #[must_use]
    pub fn block(&self) -> &Bytes {
        &self.block
    }

    /// Stream offset of the block's first byte.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Where the frames are in the block.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The `index`th frame, as a counted reference to the block.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Frame> {
        let span = self.spans.get(index)?;
        Some(Frame(self.block.slice(span.start()..span.end())))
    }

    /// The frames' bytes, in stream order, without touching the block's reference count.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + DoubleEndedIterator {
        self.spans.iter().map(|span| span.of(&self.block))
    }

    /// Turns the block into its `index`th frame; the block's own reference is used, no count is touched.
    /// The batch is empty then, but keeps its room for [`FrameTable::recycle`].
    #[cfg(any(test, feature = "tokio-util"))]
    #[must_use]
    pub(crate) fn take_frame(&mut self, index: usize) -> Option<Frame> {
        let span = *self.spans.get(index)?;
        self.spans.clear();
        let mut block = std::mem::take(&mut self.block);
        block.truncate(span.end());
        block.advance(span.start());
        Some(Frame(block))
    }
}

impl fmt::Debug for FrameBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameBatch").field("at", &self.at).field("spans", &self.spans).finish_non_exhaustive()
    }
}

/// Initialised bytes a parser wants behind a frame it works on in place (what simd-json reads past the
/// end).
pub const PADDING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(table: &mut FrameTable, src: &mut BytesMut, spans: &[(u32, u32)], end: usize) -> FrameBatch {
        for &(start, stop) in spans {
            table.push(Span::new(start, stop));
        }
        table.open(src, end, 100).freeze()
    }

    #[test]
    fn freeze_splits_the_block_and_leaves_the_rest() {
        let mut table = FrameTable::new();
        let mut src = BytesMut::from(&b"ab\ncd\r\nrest"[..]);
        let mut batch = opened(&mut table, &mut src, &[(0, 2), (3, 5)], 7);
        assert_eq!(batch.iter().collect::<Vec<_>>(), [b"ab", b"cd"]);
        assert_eq!(batch.get(1).as_deref(), Some(&b"cd"[..]));
        assert_eq!(batch.get(2), None);
        assert_eq!(batch.take_frame(1).as_deref(), Some(&b"cd"[..]));
        assert!(batch.is_empty() && batch.block().is_empty());
        assert_eq!(&src[..], b"rest");
    }

    #[test]
    fn padding_is_not_seen_by_what_follows() {
        let mut table = FrameTable::new();
        let mut src = BytesMut::from(&b"ab\nrest"[..]);
        table.push(Span::new(0, 2));
        let mut open = table.open(&mut src, 3, 0);
        let padded = open.padded(0).expect("there is a frame");
        assert_eq!(padded.frame(), b"ab");
        assert!(padded.into_parts().0.len() >= 2 + PADDING);
        assert_eq!(open.freeze().block()[..], b"ab\n"[..]);
        assert_eq!(&src[..], b"rest");
    }

    #[test]
    fn dropping_an_open_batch_discards_its_frames_only() {
        let mut table = FrameTable::new();
        let mut src = BytesMut::from(&b"ab\nrest"[..]);
        table.push(Span::new(0, 2));
        let mut open = table.open(&mut src, 3, 0);
        open.padded(0);
        drop(open);
        assert_eq!(&src[..], b"rest");
        assert!(table.is_empty());
    }

    #[test]
    fn recycled_table_keeps_its_room() {
        let mut table = FrameTable::new();
        let mut src = BytesMut::from(&b"ab\n"[..]);
        let batch = opened(&mut table, &mut src, &[(0, 2)], 3);
        assert_eq!(table.spans.capacity(), 0);
        table.recycle(batch);
        assert!(table.spans.capacity() > 0);
        assert!(table.is_empty());
    }

    #[test]
    fn debug_shows_no_payload() {
        let frame = Frame::new(Bytes::from_static(b"secret"));
        assert_eq!(format!("{frame:?}"), "Frame(6 bytes)");
    }
}
