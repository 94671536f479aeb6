//! [`SseDecoder`] on shared bodies: events are slices of them, and what goes on in the next body is copied.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    decoder::{Growth, Line, MAX_PASS_LEN, SseDecoder},
    event::{EventBatch, EventTable},
    joining::{Block, Owned, Shared},
    place::Data,
    scan::{Scan, span},
};
use crate::FrameError;

impl SseDecoder {
    /// Finds every event that ends in `body`, the next bytes of the stream, and takes them off its front.
    /// Events that lie in `body` as they are become slices of it. Copied are: data of several lines,
    /// and what belongs to an event that began in an earlier body or goes on in a later one.
    ///
    /// # Errors
    ///
    /// [`FrameError::MessageTooLarge`], once for each event that is too large. The decoder goes on.
    pub fn push(&mut self, body: &mut Bytes, table: &mut EventTable) -> Result<Option<EventBatch>, FrameError> {
        table.clear();
        // The batch before is gone, if it ever will be: take its room back now, not when there is a new one.
        let room = self.kept.capacity() - self.kept.len();
        if 0 < room && room < MIN_KEPT_LEN / 2 && (self.growth == Growth::Kept || self.kept.len() <= LONG_LEN) {
            self.kept.reserve(MIN_KEPT_LEN / 2);
        }
        self.make_room(body.len());
        loop {
            if let Some(error) = self.refused.take() {
                return Err(error);
            }
            if body.is_empty() {
                return Ok(None);
            }
            if self.scanned > 0 {
                self.extend_line(body, table);
            } else if let Some(batch) = self.pass_shared(body, table) {
                return Ok(Some(batch));
            }
        }
    }

    /// What [`kept_capacity`](Self::kept_capacity) may become by a [`push`](Self::push) of `len` bytes, so that whoever
    /// counts memory can ask for it before. True [with told growth](Self::with_told_growth) only.
    #[must_use]
    pub fn room_for(&self, len: usize) -> usize {
        let (capacity, total) = (self.kept.capacity(), self.kept.len().saturating_add(len));
        if total > LONG_LEN {
            capacity.max(self.long_len(total))
        } else {
            // The block may be larger than shows, as events were cut from its beginning.
            (2 * capacity).max(2 * LONG_LEN)
        }
    }

    /// A long event's block grows in steps that are told before, not to twice its size.
    fn make_room(&mut self, len: usize) {
        let total = self.kept.len().saturating_add(len);
        let is_told = self.growth == Growth::Told;
        if !is_told || self.kept.is_empty() || total <= LONG_LEN || total <= self.kept.capacity() {
            return;
        }
        let mut block = Vec::from(std::mem::take(&mut self.kept));
        block.reserve_exact(self.long_len(total) - block.len());
        self.kept = BytesMut::from(Bytes::from(block));
    }

    /// The block for `total` bytes of a long event.
    fn long_len(&self, total: usize) -> usize {
        let step = (total / 2).clamp(MIN_KEPT_LEN, MAX_STEP);
        total.saturating_add(step).min(self.longest()).max(total)
    }

    /// What is longer than this is refused for one reason or another.
    fn longest(&self) -> usize {
        self.limits.max_frame_len() + self.limits.max_field_len() + LONGEST_NAME
    }

    /// One pass over `body`, when no line is unfinished.
    fn pass_shared(&mut self, body: &mut Bytes, table: &mut EventTable) -> Option<EventBatch> {
        let window = body.len().min(MAX_PASS_LEN - self.kept.len());
        let first = self.pass_over(body.get(..window).unwrap_or_default());
        let (from, base) = (self.cursor(first, first), self.line_at);

        let mut kept = std::mem::take(&mut self.kept);
        let bytes = body.get(..window).unwrap_or_default();
        let (to, mut ended) = self.scan(Shared { block: bytes, joined: &mut kept }, table, base, from);
        let carried = self.take_in(&mut ended, bytes, &[], table.is_empty());
        self.line_at = base + to.line as u64;

        let joined_len = match ended.open.data {
            Data::Block(data) => {
                let joined_len = kept.len();
                keep(&mut kept, data.of(bytes));
                joined_len
            }
            Data::Joined(data) => data.start(),
            Data::Nowhere | Data::Refused => kept.len(),
        };
        let is_long = self.growth == Growth::Told && kept.capacity() > 2 * LONG_LEN;
        let joined = if joined_len > 0 { kept.split_to(joined_len).freeze() } else { Bytes::new() };
        if is_long && joined_len > 0 {
            // Few bytes must not keep the block of a long event.
            let rest = std::mem::take(&mut kept);
            keep(&mut kept, &rest);
        }
        if let Data::Block(_) | Data::Joined(_) = ended.open.data {
            ended.open.data = Data::Joined(span(0, kept.len()));
        }
        keep(&mut kept, bytes.get(to.line..to.scanned).unwrap_or_default());
        let block = body.split_to(to.scanned);
        (self.kept, self.open) = (kept, ended.open);
        let (event, id) = carried?;
        Some(EventBatch::new(block, joined, table, event, id))
    }

    /// Takes more of the unfinished line, which is kept, off the front of `body`: to its end, or as much as
    /// there is and as may be kept.
    fn extend_line(&mut self, body: &mut Bytes, table: &mut EventTable) {
        let mut kept = std::mem::take(&mut self.kept);
        let data_len = self.open.data.len();
        let base = self.line_at - data_len as u64;
        let room = self.longest().saturating_sub(kept.len());
        let piece = body.get(..room.min(body.len())).unwrap_or_default();
        let line_end = memchr::memchr2(b'\r', b'\n', piece);
        let piece = piece.get(..line_end.unwrap_or(piece.len())).unwrap_or_default();
        keep(&mut kept, piece);
        let piece_len = piece.len();

        if let Data::Joined(data) = self.open.data {
            self.open.data = Data::Block(data);
        }
        let limits = self.limits;
        // The line is alone: no type or id can be in the way.
        let mut saved = BytesMut::new();
        let block = Owned { block: &mut kept, saved: &mut saved };
        let mut scan = Scan::new(block, &mut table.found, self.open, &limits, base);
        let line_is_kept = if line_end.is_some() {
            let end = scan.block.bytes().len();
            scan.line(data_len, end);
            false
        } else {
            scan.keeps(data_len)
        };
        let mut ended = scan.end();
        self.take_in(&mut ended, &kept, &[], true);

        if let Some(line_end) = line_end {
            self.line = if body.get(line_end) == Some(&b'\r') { Line::AfterCr } else { Line::Kept };
        } else if !line_is_kept {
            self.line = Line::Ignored;
        }
        let taken = piece_len + usize::from(line_end.is_some());
        body.advance(taken);
        if line_is_kept {
            self.scanned += taken;
        } else {
            self.line_at += (self.scanned + taken) as u64;
            self.scanned = 0;
            match ended.open.data {
                Data::Block(data) => {
                    kept.truncate(data.end());
                    kept.advance(data.start());
                }
                // The block of what was refused is of no more use.
                _ if self.growth == Growth::Told && kept.capacity() > LONG_LEN => kept = BytesMut::new(),
                _ => kept.clear(),
            }
        }
        if let Data::Block(data) = ended.open.data {
            ended.open.data = Data::Joined(span(0, data.len()));
        }
        (self.kept, self.open) = (kept, ended.open);
    }
}

/// A named copy: of a shared body, what belongs to an event that goes on in the next one.
fn keep(kept: &mut BytesMut, bytes: &[u8]) {
    if !bytes.is_empty() && kept.capacity() - kept.len() < bytes.len() {
        kept.reserve(bytes.len().max(MIN_KEPT_LEN / 2));
    }
    kept.extend_from_slice(bytes);
}

/// `event: `, `retry: ` and a byte that is too much.
const LONGEST_NAME: usize = 8;

/// Small events that span bodies share one allocation, again and again.
const MIN_KEPT_LEN: usize = 4 << 10;
/// Longer ones have a block of their own, that goes with them, if growth is told.
const LONG_LEN: usize = 32 << 10;
/// Most that such a block grows by.
const MAX_STEP: usize = 8 << 20;
