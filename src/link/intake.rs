//! Bytes of one side on their way to frames: the reader, its buffer, the line decoder.
//!
//! What the frames mean, and where they go, is decided by the link.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use shadowcat_codecs::{FrameBatch, FrameError, FrameTable, Limits, OpenBatch, PADDING, line::LineDecoder};

use crate::transport::Reader;

/// One side's incoming half.
#[derive(Debug)]
pub(super) struct Intake {
    /// `None` once the stream has ended.
    reader: Option<Reader>,
    buf: BytesMut,
    decoder: LineDecoder,
    table: FrameTable,
    size: ReadSize,
}

/// How much to read at once: grows at once while reads fill the buffer, shrinks after two that did not.
#[derive(Debug)]
struct ReadSize {
    /// Invariant: `MIN_READ <= next <= MAX_READ`.
    next: usize,
    /// Whether the last read would have fitted into half.
    was_small: bool,
    /// Whether the buffer is larger than it need be.
    has_shrunk: bool,
}

impl Intake {
    pub(super) fn new(reader: Reader, limits: Limits) -> Self {
        Self {
            reader: Some(reader),
            buf: BytesMut::new(),
            decoder: LineDecoder::new(limits),
            table: FrameTable::new(),
            size: ReadSize::default(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.reader.is_none()
    }

    /// Reads once; 0 bytes are the end of the stream, after which this must not be called again.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(reader) = &mut self.reader else { return Poll::Ready(Ok(0)) };
        if self.buf.is_empty() && self.size.take_shrunk() {
            self.buf = BytesMut::new();
        }
        // Room for the parser's padding too, or it would have to move the buffer; and for the rest of a long
        // line, within reason: how long it will be is only a guess.
        let expected = self.decoder.expected(&self.buf).min(MAX_EXPECTED);
        let wanted = self.size.next.max(expected) + PADDING;
        if self.buf.capacity() - self.buf.len() < wanted / 2 + PADDING {
            self.buf.reserve(wanted);
        }
        let room = self.buf.capacity() - self.buf.len();
        let read = ready!(reader.poll_read(cx, &mut self.buf));
        match read {
            Ok(0) | Err(_) => self.reader = None,
            Ok(len) => self.size.adapt(len, room),
        }
        Poll::Ready(read)
    }

    /// The next lines of what was read, or the next error; `None` when more has to be read first. At the end
    /// of the stream, what is left is a line too.
    pub(super) fn next_batch(&mut self) -> Result<Option<OpenBatch<'_>>, FrameError> {
        match self.reader {
            Some(_) => self.decoder.decode(&mut self.buf, &mut self.table),
            None => self.decoder.finish(&mut self.buf, &mut self.table),
        }
    }

    /// Takes back the room of a batch that is no longer needed.
    pub(super) fn recycle(&mut self, batch: FrameBatch) {
        self.table.recycle(batch);
    }

    /// What the next call of [`next_batch`](Self::next_batch) will skip as part of an overlong line, and
    /// whether that line ends there.
    pub(super) fn skipped(&self) -> (&[u8], bool) {
        let skipped = self.decoder.skipped(&self.buf);
        (skipped, skipped.len() < self.buf.len() || self.has_ended())
    }

    /// Reads no more, whatever may come.
    pub(super) fn abandon(&mut self) {
        self.reader = None;
        self.buf = BytesMut::new();
    }
}

impl ReadSize {
    fn adapt(&mut self, read: usize, room: usize) {
        if read >= room.min(self.next) {
            self.next = (self.next * 2).min(MAX_READ);
            self.was_small = false;
        } else if read < self.next / 2 {
            if self.was_small {
                self.has_shrunk = self.next > MIN_READ;
                self.next = (self.next / 2).max(MIN_READ);
            }
            self.was_small = !self.was_small;
        } else {
            self.was_small = false;
        }
    }

    fn take_shrunk(&mut self) -> bool {
        std::mem::take(&mut self.has_shrunk)
    }
}

impl Default for ReadSize {
    fn default() -> Self {
        Self { next: MIN_READ, was_small: false, has_shrunk: false }
    }
}

/// First size of a read buffer, and what it shrinks to.
const MIN_READ: usize = MIN_BLOCK_LEN;
/// What a block takes that is read into, at least.
pub(super) const MIN_BLOCK_LEN: usize = 8 << 10;
/// Most that is reserved for the rest of a line because the line before was long.
const MAX_EXPECTED: usize = 1 << 20;
/// What a read buffer grows to. A pipe holds 64 KiB unless somebody made it larger.
const MAX_READ: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_size_grows_at_once_and_shrinks_after_two() {
        let mut size = ReadSize::default();
        size.adapt(MIN_READ, MIN_READ);
        size.adapt(2 * MIN_READ, 2 * MIN_READ);
        assert_eq!(size.next, 4 * MIN_READ);
        size.adapt(10, 4 * MIN_READ);
        assert_eq!(size.next, 4 * MIN_READ);
        size.adapt(10, 4 * MIN_READ);
        assert_eq!(size.next, 2 * MIN_READ);
        for _ in 0..20 {
            size.adapt(MAX_READ, MAX_READ);
        }
        assert_eq!(size.next, MAX_READ);
        for _ in 0..20 {
            size.adapt(1, MAX_READ);
        }
        assert_eq!(size.next, MIN_READ);
    }
}
