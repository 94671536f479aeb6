//! Bytes of one side on their way to frames: the reader, its buffer, the line decoder.
//!
//! The buffer is charged to the memory budget before it is made or grows: a small one to what the session is
//! guaranteed, more of it where there is room, and a line beyond 1 MiB only by a turn. While there is none, nothing is
//! read. A side that is quiet holds no buffer.
//!
//! What the frames mean, and where they go, is decided by the link.

mod block;

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use shadowcat_codecs::{FrameBatch, FrameError, FrameTable, Limits, OpenBatch, PADDING, line::LineDecoder};
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep},
};

use self::block::Block;
use crate::{
    budget::{Allowance, Exhausted, Toward},
    clock,
    session::{Reason, Timeout},
    transport::Reader,
};

/// One side's incoming half.
#[derive(Debug)]
pub(super) struct Intake {
    /// `None` once the stream has ended.
    reader: Option<Reader>,
    block: Block,
    toward: Toward,
    decoder: LineDecoder,
    table: FrameTable,
    size: ReadSize,
    /// Why the line at hand will not be passed on.
    unread: Option<Unread>,
    /// Set while there is a block: looks from time to time whether it is needed.
    watch: Option<Pin<Box<Sleep>>>,
    /// Whether something was read since the latest look.
    was_busy: bool,
    /// How long a large line may stand still that others wait for.
    patience: Duration,
}

/// A line that will not be passed on, and why. What is left of it is skipped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unread {
    /// It is too long.
    Frame(FrameError),
    /// There was no room for it.
    NoRoom { at: u64, exhausted: Exhausted },
    /// It stood still half-read, while others waited for the room it holds.
    Stalled { at: u64, after: Duration },
}

/// How much to read at once: grows at once while reads fill the buffer, shrinks after two that did not.
#[derive(Debug)]
struct ReadSize {
    /// Invariant: `MIN_READ <= next <= MAX_READ`.
    next: usize,
    /// Whether the last read would have fitted into half.
    was_small: bool,
}

impl Intake {
    pub(super) fn new(reader: Reader, limits: Limits, allowance: &Allowance, toward: Toward) -> Self {
        Self {
            reader: Some(reader),
            block: Block::new(allowance, toward),
            toward,
            decoder: LineDecoder::new(limits),
            table: FrameTable::new(),
            size: ReadSize::default(),
            unread: None,
            watch: None,
            was_busy: false,
            patience: allowance.budget().wait(),
        }
    }

    /// Charges its buffer elsewhere. To be called before anything is read.
    pub(super) fn charge_to(&mut self, allowance: &Allowance) {
        self.block = Block::new(allowance, self.toward);
        self.patience = allowance.budget().wait();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.reader.is_none()
    }

    /// Reads once, as soon as there is something and room for it; or comes to the end of the stream, or to a line that
    /// is not [read on](Self::next_batch). Must not be called after the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(reader) = &mut self.reader else { return Poll::Ready(Ok(())) };
        // For the rest of a long line too, within reason: how long it will be is only a guess.
        let expected = self.decoder.expected(&self.block).min(MAX_EXPECTED);
        match ready!(self.block.poll_room(cx, self.size.next, expected)) {
            Ok(()) => {}
            Err(exhausted) => {
                let at = self.give_up_line();
                self.unread = Some(Unread::NoRoom { at, exhausted });
                return Poll::Ready(Ok(()));
            }
        }
        let room = self.block.spare();
        let Poll::Ready(read) = reader.poll_read(cx, self.block.buf()) else { return self.poll_quiet(cx) };
        self.was_busy = true;
        match read {
            Ok(0) | Err(_) => self.reader = None,
            Ok(len) => self.size.adapt(len, room),
        }
        Poll::Ready(read.map(drop))
    }

    /// The next lines of what was read, or the next that is not passed on; `None` when more has to be read first. At
    /// the end of the stream, what is left is a line too.
    pub(super) fn next_batch(&mut self) -> Result<Option<OpenBatch<'_>>, Unread> {
        if let Some(unread) = self.unread.take() {
            return Err(unread);
        }
        let buf = self.block.buf();
        let batch = match self.reader {
            Some(_) => self.decoder.decode(buf, &mut self.table),
            None => self.decoder.finish(buf, &mut self.table),
        };
        batch.map_err(Unread::Frame)
    }

    /// The block of a batch, which holds its room until the last frame cut from it is gone. For links whose frames may
    /// still be on their way when this reads on; costs one allocation.
    pub(super) fn charged(&mut self, batch: &FrameBatch) -> Bytes {
        self.block.charged(batch.block())
    }

    /// Takes back the room of a batch that is no longer needed.
    pub(super) fn recycle(&mut self, batch: FrameBatch) {
        self.table.recycle(batch);
    }

    /// What the next call of [`next_batch`](Self::next_batch) will skip as part of a line that is not passed on, and
    /// whether that line ends there.
    pub(super) fn skipped(&self) -> (&[u8], bool) {
        if self.unread.is_some() {
            return (&[], false);
        }
        let skipped = self.decoder.skipped(&self.block);
        (skipped, skipped.len() < self.block.len() || self.has_ended())
    }

    /// Reads no more, whatever may come.
    pub(super) fn abandon(&mut self) {
        self.reader = None;
        self.block.clear();
        self.watch = None;
    }

    /// There is nothing to read: looks from time to time whether the block is still of use.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Without a runtime there is no clock to look by.
        if !self.block.is_made() || (self.watch.is_none() && Handle::try_current().is_err()) {
            return Poll::Pending;
        }
        let interval = if self.block.is_large() { self.patience } else { QUIET };
        loop {
            let watch = self.watch.get_or_insert_with(|| Box::pin(sleep(interval)));
            ready!(watch.as_mut().poll(cx));
            watch.as_mut().reset(clock::now() + interval);
            if std::mem::take(&mut self.was_busy) {
                continue;
            }
            if self.block.is_empty() {
                self.block.clear();
                self.watch = None;
                return Poll::Pending;
            }
            if self.block.is_large() && self.block.keeps_others_waiting() {
                let at = self.give_up_line();
                self.unread = Some(Unread::Stalled { at, after: self.patience });
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The unfinished line will be skipped. Returns where it begins.
    #[cold]
    fn give_up_line(&mut self) -> u64 {
        self.decoder.give_up(self.block.buf())
    }
}

impl Unread {
    /// Where the line begins, and what is told to whoever waits for it. `None`: nothing is told.
    pub(super) fn reason(self) -> Option<Reason> {
        match self {
            Self::Frame(FrameError::MessageTooLarge { limit, at }) => {
                Some(Reason::MessageTooLarge { limit, at, declared: None })
            }
            Self::Frame(_) => None,
            Self::NoRoom { exhausted, .. } => Some(super::no_room(exhausted)),
            Self::Stalled { after, .. } => Some(Reason::Timeout(Timeout::of_long_message(after))),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::NoRoom { at, exhausted } => write!(f, "message at byte {at}: {exhausted}"),
            Self::Stalled { at, after } => {
                write!(f, "message at byte {at}: stood still for {after:?} while others waited for its memory")
            }
        }
    }
}

impl ReadSize {
    fn adapt(&mut self, read: usize, room: usize) {
        if read >= room.min(self.next) {
            self.next = (self.next * 2).min(MAX_READ);
            self.was_small = false;
        } else if read < self.next / 2 {
            if self.was_small {
                self.next = (self.next / 2).max(MIN_READ);
            }
            self.was_small = !self.was_small;
        } else {
            self.was_small = false;
        }
    }
}

impl Default for ReadSize {
    fn default() -> Self {
        Self { next: MIN_READ, was_small: false }
    }
}

/// What a block takes that is read into, at least.
pub(super) const MIN_BLOCK_LEN: usize = 8 << 10;
/// First size of a read, and what it shrinks to: what fits into the smallest block, before a parser's padding.
const MIN_READ: usize = MIN_BLOCK_LEN - PADDING;
/// What a read grows to: about 256 KiB. A pipe holds 64 KiB unless somebody made it larger.
const MAX_READ: usize = 32 * MIN_READ;
/// Most that is made room for because the line before was long.
const MAX_EXPECTED: usize = 1 << 20;
/// A side from which nothing came for so long holds no buffer.
const QUIET: Duration = Duration::from_secs(1);

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
