//! [`SseDecoder`]: what is kept between reads, and read buffers. Shared bodies are in [`super::bodies`]; what
//! happens within a read is in [`super::scan`].

use std::{fmt, time::Duration};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    event::{EventBatch, EventTable},
    joining::{Block, Owned},
    place::{Data, Place, Text},
    scan::{Cursor, Ended, Open, Scan, span},
};
use crate::{FrameError, Limits};

/// Cuts a byte stream into events.
///
/// # Contract
///
/// For a transport that reads into a buffer of its own:
///
/// ```text
/// loop {
///     read more bytes to the end of `src`
///     while let Some(batch) = decoder.decode(&mut src, &mut table)? { use the batch }
/// }
/// at end of stream: while let Some(batch) = decoder.finish(&mut src, &mut table)? { … }
/// ```
///
/// `src` is the decoder's between the calls: append to it, change nothing. For bodies that come as shared
/// [`Bytes`], for example from an HTTP library, without copying them into a buffer first:
///
/// ```text
/// for each body { while let Some(batch) = decoder.push(&mut body, &mut table)? { use the batch } }
/// ```
///
/// A decoder is used in one of the two ways, for one stream. Both say the same for the same bytes.
///
/// `Ok(None)` means "more bytes, please". After an error the loop goes on: the rest of the event that was
/// too large is skipped, and the next one is whole. Results come in stream order.
///
/// # What is kept of an unfinished event
///
/// Its data, joined, and the bytes of an unfinished `data`, `event`, `id` or `retry` line: at most
/// [`max_frame_len`](Limits::max_frame_len) `+ 1` bytes of data, and one short field. Never a comment, nor
/// a field nobody knows, however long. The data is held against the limit while the event, and even the line,
/// is still incomplete; the type and the id of an event each against
/// [`max_field_len`](Limits::max_field_len), with the same error and that limit in it.
///
/// (Of a limit close to 4 GiB, 128 KiB are taken off: spans are of `u32`.)
///
/// Every byte is looked at once, however the stream is cut.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use shadowcat_codecs::{FrameError, Limits, sse::{EventTable, SseDecoder}};
///
/// let mut decoder = SseDecoder::new(Limits::default());
/// let mut table = EventTable::new();
/// let mut src = BytesMut::from("id: 7\ndata: {\"a\":\ndata: 1}\n\nevent: done\nda");
///
/// let batch = decoder.decode(&mut src, &mut table)?.expect("an event ends here");
/// let event = batch.iter().next().expect("a batch is never empty");
/// assert_eq!(event.data(), b"{\"a\":\n1}");
/// assert_eq!((event.event(), event.id()), (&b"message"[..], Some(&b"7"[..])));
/// assert!(decoder.finish(&mut src, &mut table)?.is_none(), "an unfinished event is dropped");
/// # Ok::<(), FrameError>(())
/// ```
#[derive(Clone)]
pub struct SseDecoder {
    pub(super) limits: Limits,
    /// Stream offset of the first byte behind the data that is kept: of the current line's first byte, or
    /// of the next byte if the line is ignored.
    pub(super) line_at: u64,
    pub(super) line: Line,
    /// Bytes of the current line known to hold no line end; all of them are kept.
    pub(super) scanned: usize,
    /// Invariant between passes: the data, if any, is the first bytes of what is kept (`src` or `kept`),
    /// and nothing else is in a block.
    pub(super) open: Open,
    /// What [`Place::CARRIED`] means for the open event's type.
    event: Text,
    /// What [`Place::CARRIED`] means for the id.
    id: Text,
    last_id: Option<Text>,
    retry: Option<u64>,
    /// An error that waits until the events before it are handed out.
    pub(super) refused: Option<FrameError>,
    /// What was begun in earlier bodies: the open event's data, and the unfinished line. With read buffers,
    /// which have both themselves, empty between passes.
    pub(super) kept: BytesMut,
    pub(super) growth: Growth,
}

/// How the block grows in which an event is kept that spans bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// As a vector does, and it stays for the next event: nothing is allocated once it is long enough.
    Kept,
    /// By what [`SseDecoder::room_for`] says, and that of a long event goes with it.
    Told,
}

/// The current line, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The stream has begun with this many bytes of a byte order mark, and nothing else.
    Mark(usize),
    /// Nothing was read since a CR; an LF belongs to it.
    AfterCr,
    /// What was read of the line, if anything, is kept.
    Kept,
    /// The line is of no interest; what was read of it is not kept.
    Ignored,
}

impl SseDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let max_event_len = limits.max_frame_len().min(MAX_PASS_LEN - 2 * usize::from(u16::MAX));
        Self {
            limits: limits.with_max_frame_len(max_event_len).unwrap_or(limits),
            line_at: 0,
            line: Line::Mark(0),
            scanned: 0,
            open: Open::NOTHING,
            event: Text::EMPTY,
            id: Text::EMPTY,
            last_id: None,
            retry: None,
            refused: None,
            kept: BytesMut::new(),
            growth: Growth::Kept,
        }
    }

    /// The same, for who counts memory: [`push`](Self::push) keeps no more than [`room_for`](Self::room_for) says before,
    /// and the block of an event beyond 32 KiB goes with it instead of staying for the next one.
    #[must_use]
    pub fn with_told_growth(self) -> Self {
        Self { growth: Growth::Told, ..self }
    }

    /// Finds every event that ends in `src`. No copy, but for events of several `data` lines, which are
    /// joined where they are.
    ///
    /// # Errors
    ///
    /// [`FrameError::MessageTooLarge`], once for each event that is too large. The decoder goes on.
    pub fn decode(&mut self, src: &mut BytesMut, table: &mut EventTable) -> Result<Option<EventBatch>, FrameError> {
        table.clear();
        loop {
            if let Some(error) = self.refused.take() {
                return Err(error);
            }
            if src.len() <= self.open.data.len() + self.scanned {
                return Ok(None);
            }
            if let Some(batch) = self.pass(src, table) {
                return Ok(Some(batch));
            }
        }
    }

    /// As [`decode`](Self::decode) when no more bytes will come: the unfinished event is dropped, as the
    /// specification has it. Call it until it returns `None`; `src` is empty then.
    ///
    /// After [`push`](Self::push) there is nothing to finish.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    pub fn finish(&mut self, src: &mut BytesMut, table: &mut EventTable) -> Result<Option<EventBatch>, FrameError> {
        if let Some(batch) = self.decode(src, table)? {
            return Ok(Some(batch));
        }
        src.clear();
        self.scanned = 0;
        self.open = Open { id: self.open.id, ..Open::NOTHING };
        Ok(None)
    }

    /// The id of the last event that ended, dispatched or not: what a client sends as `Last-Event-ID` when
    /// it connects again. `None` if the stream had none so far.
    #[must_use]
    pub fn last_id(&self) -> Option<&[u8]> {
        self.last_id.as_ref().map(Text::bytes)
    }

    /// How long the stream has asked its client to wait before it connects again. In force as soon as the
    /// line has ended, with or without an event.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry.map(Duration::from_millis)
    }

    /// Bytes that are kept of an unfinished event, between two calls of [`push`](Self::push).
    #[must_use]
    pub fn kept_len(&self) -> usize {
        self.kept.len()
    }

    /// The size of the block they are kept in.
    #[must_use]
    pub fn kept_capacity(&self) -> usize {
        self.kept.capacity()
    }

    /// One pass over `src`: hands out its events and leaves what must be kept at its start.
    fn pass(&mut self, src: &mut BytesMut, table: &mut EventTable) -> Option<EventBatch> {
        let window = src.len().min(MAX_PASS_LEN);
        let data_len = self.open.data.len();
        let first = data_len + self.pass_over(src.get(data_len..window).unwrap_or_default());
        let from = self.cursor(first, data_len + self.scanned);
        let base = self.line_at - data_len as u64;

        let mut saved = std::mem::take(&mut self.kept);
        let block = src.get_mut(..window).unwrap_or_default();
        let (to, mut ended) = self.scan(Owned { block, saved: &mut saved }, table, base, from);
        let carried = self.take_in(&mut ended, src, &saved, table.is_empty());
        self.line_at = base + to.line as u64;

        // Behind the events: the open event's data, what is between it and the current line, that line.
        let keep_from = if let Data::Block(data) = ended.open.data { data.start() } else { to.line };
        let batch = match carried {
            Some((event, id)) => {
                let block = src.split_to(keep_from).freeze();
                let saved = if saved.is_empty() { Bytes::new() } else { saved.split().freeze() };
                Some(EventBatch::new(block, saved, table, event, id))
            }
            None => {
                src.advance(keep_from);
                saved.clear();
                None
            }
        };
        self.kept = saved;
        let data_len = ended.open.data.len();
        cut_out(src, data_len, to.line - keep_from);
        self.open = ended.open;
        if let Data::Block(_) = self.open.data {
            self.open.data = Data::Block(span(0, data_len));
        }
        batch
    }

    /// Passes over what comes before the first line of interest: a byte order mark, the rest of a line
    /// that is ignored. Returns how many bytes that are.
    pub(super) fn pass_over(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        if let Line::Mark(matched) = self.line {
            let mark = BYTE_ORDER_MARK.iter().skip(matched);
            passed = mark.zip(bytes).take_while(|(mark, byte)| mark == byte).count();
            self.line = match matched + passed {
                0 if !bytes.is_empty() => Line::Kept,
                3 => Line::Kept,
                matched if passed == bytes.len() => Line::Mark(matched),
                // Bytes of a mark that is none begin the name of a field nobody knows.
                _ => Line::Ignored,
            };
        }
        if self.line == Line::Ignored {
            let rest = bytes.get(passed..).unwrap_or_default();
            let line_end = memchr::memchr2(b'\r', b'\n', rest);
            if let Some(line_end) = line_end {
                self.line = if rest.get(line_end) == Some(&b'\r') { Line::AfterCr } else { Line::Kept };
            }
            passed += line_end.map_or(rest.len(), |line_end| line_end + 1);
        }
        passed
    }

    pub(super) fn cursor(&self, line: usize, scanned: usize) -> Cursor {
        Cursor { line, scanned: scanned.max(line), after_cr: self.line == Line::AfterCr }
    }

    /// Runs one pass and notes how its last line stands. `line` of the cursor returned is where that line
    /// starts, or behind everything if it is ignored.
    pub(super) fn scan<B: Block>(
        &mut self,
        block: B,
        table: &mut EventTable,
        base: u64,
        from: Cursor,
    ) -> (Cursor, Ended) {
        let len = block.bytes().len();
        let mut scan = Scan::new(block, &mut table.found, self.open, &self.limits, base);
        let mut to = scan.run(from);
        let ignored = self.line == Line::Ignored || to.scanned == len && to.line < len && !scan.keeps(to.line);
        let marked = matches!(self.line, Line::Mark(_));
        if ignored {
            self.line = Line::Ignored;
            to.line = to.scanned;
        } else if !marked {
            self.line = if to.after_cr { Line::AfterCr } else { Line::Kept };
        }
        self.scanned = to.scanned - to.line;
        (to, scan.end())
    }

    /// Takes in what a pass over `block`, with `joined` beside it, has changed. Returns the texts its events are
    /// to be read with, if there are any events.
    pub(super) fn take_in(
        &mut self,
        ended: &mut Ended,
        block: &[u8],
        joined: &[u8],
        no_events: bool,
    ) -> Option<(Text, Text)> {
        let carried = (!no_events).then(|| (self.event.clone(), self.id.clone()));
        if let Some(place) = ended.last_id {
            self.last_id = match place {
                Place::NOWHERE => None,
                Place::CARRIED => Some(self.id.clone()),
                place => Some(Text::copied(place.of(block, joined))),
            };
        }
        if ended.open.id.is_in_buffer() {
            self.id = Text::copied(ended.open.id.of(block, joined));
            ended.open.id = Place::CARRIED;
        }
        if ended.open.event.is_in_buffer() {
            self.event = Text::copied(ended.open.event.of(block, joined));
            ended.open.event = Place::CARRIED;
        }
        self.retry = ended.retry.or(self.retry);
        self.refused = ended.refused;
        carried
    }
}

impl fmt::Debug for SseDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, line_at, line, scanned, open, .. } = self;
        f.debug_struct("SseDecoder")
            .field("limits", limits)
            .field("line_at", line_at)
            .field("line", line)
            .field("scanned", scanned)
            .field("open", open)
            .finish_non_exhaustive()
    }
}

/// Takes the bytes of `src` from `start` up to `end` out. What is behind them came in the latest read, so
/// that no byte is moved twice.
fn cut_out(src: &mut BytesMut, start: usize, end: usize) {
    if start < end {
        let len = src.len();
        src.copy_within(end.., start);
        src.truncate(len - (end - start));
    }
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Spans are of `u32`.
pub(super) const MAX_PASS_LEN: usize = u32::MAX as usize;
