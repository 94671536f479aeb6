//! Newline-delimited frames: MCP over stdio, NDJSON, any byte stream that carries one message a line.
//!
//! Lines end at LF only (U+2028 and friends are payload). One CR before the LF belongs to the line end.
//! Blank lines are skipped, a byte order mark before the first line is tolerated, and a last line
//! without LF is delivered at end of stream. What a line holds is not looked at; that is
//! [`crate::envelope`]'s work.
//!
//! Rules: MCP transports, "stdio" (one message a line, no embedded newline); docs of [`LineDecoder`].

mod encoder;
mod runs;

use bytes::{Buf, BytesMut};

use crate::{
    FrameError, FrameTable, Limits, OpenBatch, Span,
    block::{self, BLOCK_LEN, GROUP_BLOCKS, GROUP_LEN},
};

pub use encoder::{EncodedLine, LINE_END, LineEncodeError, LineEncoder, LineEnds};
pub use runs::{LineRun, LineRuns};

/// Cuts a byte stream into lines.
///
/// # Contract
///
/// ```text
/// loop {
///     read more bytes to the end of `src`
///     while let Some(batch) = decoder.decode(&mut src, &mut table)? { use batch.freeze() }
/// }
/// at end of stream: while let Some(batch) = decoder.finish(&mut src, &mut table)? { … }
/// ```
///
/// `Ok(None)` means "more bytes, please". After an error the loop goes on: the next calls skip the line
/// that was too long, also if its end has not arrived yet, and the next line is whole. Results come in stream
/// order: the lines before an overlong one, the error, the lines behind it.
///
/// A line's length is counted without its line end, and held against the limit while the line is still
/// incomplete: of an unfinished line, at most `max_frame_len + 1` bytes stay in `src` (the one byte more
/// may be the CR of a line end) once `decode` has returned `None`.
///
/// Every byte is looked at once, however the stream is cut.
#[derive(Debug, Clone)]
pub struct LineDecoder {
    max_frame_len: usize,
    /// Stream offset of `src[0]`; only grows.
    at: u64,
    /// Prefix of `src` known to hold no LF.
    ///
    /// Invariant between calls: `scanned <= src.len()`, and `scanned <= max_frame_len + 1` after `None`.
    scanned: usize,
    /// Length of the last line that was handed out.
    last_len: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was delivered or skipped yet: a byte order mark may still come.
    Start,
    /// Looking for the end of the current line.
    Reading,
    /// The current line is too long and was reported; its rest is being skipped.
    Skipping,
}

/// Whether more bytes may follow those in `src`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Open,
    Ended,
}

/// What one pass over `src` found, besides the lines in the table.
struct Pass {
    /// Start of the first line that is not in the table: unfinished, or too long. Everything before it
    /// is lines in the table and blank lines.
    end: usize,
    /// How far that line was looked at: up to its LF if it is too long, else to the end.
    until: usize,
    too_long: bool,
}

impl LineDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { max_frame_len: limits.max_frame_len(), at: 0, scanned: 0, last_len: 0, state: State::Start }
    }

    /// Finds every line that ends in `src`. The batch must be frozen (or dropped, which discards its
    /// lines) before anything else happens to `src`.
    ///
    /// # Errors
    ///
    /// [`FrameError::MessageTooLarge`], once for each line that is too long. The decoder goes on.
    pub fn decode<'a>(
        &mut self,
        src: &'a mut BytesMut,
        table: &'a mut FrameTable,
    ) -> Result<Option<OpenBatch<'a>>, FrameError> {
        self.advance(src, table, Stream::Open)
    }

    /// As [`decode`](Self::decode) when no more bytes will come: what is left is a line too. Call it until
    /// it returns `None`; `src` is empty then.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    pub fn finish<'a>(
        &mut self,
        src: &'a mut BytesMut,
        table: &'a mut FrameTable,
    ) -> Result<Option<OpenBatch<'a>>, FrameError> {
        self.advance(src, table, Stream::Ended)
    }

    /// Stream offset of the first byte in `src`, the buffer this decoder is used with.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// How many bytes the unfinished line in `src` still wants, if it is as long as the line before; 0 if
    /// there is no such line.
    ///
    /// For whoever reads: room reserved for them now is room a long line need not be moved to later.
    #[must_use]
    pub fn expected(&self, src: &[u8]) -> usize {
        if src.is_empty() { 0 } else { self.last_len.saturating_sub(src.len()) }
    }

    /// The bytes at the start of `src` that the next call will skip, because they belong to a line that
    /// was reported as too long; without its LF. Empty when nothing is being skipped.
    ///
    /// For whoever wants to know more of that line, its id for example: ask before each `decode`.
    #[must_use]
    pub fn skipped<'a>(&self, src: &'a [u8]) -> &'a [u8] {
        if self.state != State::Skipping {
            return &[];
        }
        let end = self.skipped_line_feed(src).unwrap_or(src.len());
        src.get(..end).unwrap_or_default()
    }

    /// Gives up the unfinished line that `src` holds, as if it were too long: it is skipped, what has come of it and
    /// what will, and the next line is whole. Returns where it begins in the stream.
    ///
    /// For whoever has no room for the rest of it. Call it when [`decode`](Self::decode) has returned `None`.
    pub fn give_up(&mut self, src: &BytesMut) -> u64 {
        self.scanned = src.len();
        self.state = State::Skipping;
        self.at
    }

    fn advance<'a>(
        &mut self,
        src: &'a mut BytesMut,
        table: &'a mut FrameTable,
        stream: Stream,
    ) -> Result<Option<OpenBatch<'a>>, FrameError> {
        table.clear();
        let is_seen = self.scanned == src.len() && self.scanned <= self.max_frame_len;
        if is_seen && stream == Stream::Open && self.state != State::Skipping {
            // Nothing new: the call that ends every loop over `decode`.
            return Ok(None);
        }
        if !self.pass_mark(src, stream) || !self.pass_skipped(src) {
            return Ok(None);
        }
        let pass = self.scan(src, table);
        if !table.is_empty() {
            // Next time the scan starts at the end of the overlong line, if there is one, and reports it.
            self.scanned = pass.until - pass.end;
            return Ok(Some(self.hand_out(src, table, pass.end)));
        }
        // Only blank lines before `pass.end`.
        self.consume(src, pass.end);
        let seen = pass.until - pass.end;
        if pass.too_long || without_cr(src).len() > self.max_frame_len {
            return Err(self.refuse(seen));
        }
        if stream == Stream::Open {
            self.scanned = seen;
            return Ok(None);
        }
        self.scanned = 0;
        Ok(self.last_line(src, table))
    }

    /// Passes over a byte order mark at the start of the stream. False: more bytes are needed to know.
    fn pass_mark(&mut self, src: &mut BytesMut, stream: Stream) -> bool {
        if self.state != State::Start {
            return true;
        }
        let undecided = src.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(src);
        if undecided && stream == Stream::Open {
            return false;
        }
        if src.starts_with(&BYTE_ORDER_MARK) {
            self.consume(src, BYTE_ORDER_MARK.len());
        }
        self.state = State::Reading;
        true
    }

    /// Passes over the rest of a line that was reported. False: the rest goes on.
    fn pass_skipped(&mut self, src: &mut BytesMut) -> bool {
        if self.state != State::Skipping {
            return true;
        }
        let line_feed = self.skipped_line_feed(src);
        self.consume(src, line_feed.map_or(src.len(), |found| found + 1));
        if line_feed.is_some() {
            self.state = State::Reading;
        }
        line_feed.is_some()
    }

    fn skipped_line_feed(&self, src: &[u8]) -> Option<usize> {
        let unseen = src.get(self.scanned..)?;
        Some(self.scanned + memchr::memchr(b'\n', unseen)?)
    }

    /// Puts every finished line into the table, up to the first that is too long.
    ///
    /// Kept apart from `advance`: together they have more variables than there are registers, and that
    /// costs more than the search does.
    #[inline(never)]
    fn scan(&self, src: &[u8], table: &mut FrameTable) -> Pass {
        // Spans are of `u32`; the limit lies so far below that a whole line always fits.
        let src = src.get(..u32::MAX as usize).unwrap_or(src);
        let mut start = 0;
        let mut at = self.scanned;
        let mut group = [[0]; GROUP_BLOCKS];
        loop {
            // In a long line, a search for one byte is faster than masks that are all 0.
            if at - start >= GROUP_LEN {
                let rest = src.get(at..).unwrap_or_default();
                at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            }
            let hay = src.get(at..).unwrap_or_default();
            let blocks = block::masks(hay, [b'\n'], &mut group);
            if blocks == 0 {
                return Pass { end: start, until: at, too_long: false };
            }
            // Behind the last block there are masks of the group before.
            group.iter_mut().skip(blocks).take(MASKS_AT_ONCE - 1).for_each(|mask| *mask = [0]);
            let mut masks_at = at;
            for masks in group.as_chunks::<MASKS_AT_ONCE>().0.iter().take(blocks.div_ceil(MASKS_AT_ONCE)) {
                if masks.iter().fold(0, |any, [mask]| any | mask) != 0 {
                    for (index, &[mut mask]) in masks.iter().enumerate() {
                        while mask != 0 {
                            let line_feed = masks_at + index * BLOCK_LEN + mask.trailing_zeros() as usize;
                            mask &= mask - 1;
                            let len = line_feed - start - usize::from(follows_cr(src, line_feed));
                            if len > self.max_frame_len {
                                return Pass { end: start, until: line_feed, too_long: true };
                            }
                            if len > 0 {
                                table.push(span(start, len));
                            }
                            start = line_feed + 1;
                        }
                    }
                }
                masks_at += MASKS_AT_ONCE * BLOCK_LEN;
            }
            at += hay.len().min(GROUP_LEN);
        }
    }

    /// What is left at end of stream: a line without LF.
    fn last_line<'a>(&mut self, src: &'a mut BytesMut, table: &'a mut FrameTable) -> Option<OpenBatch<'a>> {
        let (len, end) = (without_cr(src).len(), src.len());
        if len == 0 {
            self.consume(src, end);
            return None;
        }
        table.push(span(0, len));
        Some(self.hand_out(src, table, end))
    }

    fn hand_out<'a>(&mut self, src: &'a mut BytesMut, table: &'a mut FrameTable, end: usize) -> OpenBatch<'a> {
        let at = self.at;
        self.at += end as u64;
        self.last_len = table.last_len();
        table.open(src, end, at)
    }

    fn consume(&mut self, src: &mut BytesMut, len: usize) {
        src.advance(len);
        self.at += len as u64;
        self.scanned = self.scanned.saturating_sub(len);
    }

    /// The line at the start of `src`, `len` bytes of which hold no LF, will be skipped by the next call.
    #[cold]
    fn refuse(&mut self, len: usize) -> FrameError {
        self.scanned = len;
        self.state = State::Skipping;
        FrameError::MessageTooLarge { limit: self.max_frame_len, at: self.at }
    }
}

/// Whether the LF's line end is CRLF. In a blank line, the byte before is the LF of the line before.
#[inline]
fn follows_cr(src: &[u8], line_feed: usize) -> bool {
    src.get(line_feed.wrapping_sub(1)) == Some(&b'\r')
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "`scan` looks at fewer than u32::MAX bytes")]
fn span(start: usize, len: usize) -> Span {
    Span::with_len(start as u32, len as u32)
}

/// Masks that are passed over together when all of them are 0.
const MASKS_AT_ONCE: usize = 4;

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod naive;
#[cfg(test)]
pub(crate) mod tests;
