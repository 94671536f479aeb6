//! One pass over a block: its bytes into lines, lines into fields, fields into events.
//!
//! Line ends are found 64 bytes at a time, CR and LF alike; an LF behind a CR is never met, because the
//! next search starts behind it. So CRLF costs no more than LF, and a blank line costs nothing when it was
//! read together with the line before it.
//!
//! A pass never waits and never fails: what is unfinished at its end, and what was refused, it leaves in
//! [`Ended`].

use super::{
    field::{self, Field, Name, Prefix, has_nul},
    joining::Block,
    place::{Data, Found, Place},
};
use crate::{
    FrameError, Limits, Span,
    block::{self, BLOCK_LEN, GROUP_BLOCKS, GROUP_LEN},
};

/// The event being read, between and during passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Stream offset of the first line that belongs to the event. `None`: no such line was read.
    pub(super) at: Option<u64>,
    pub(super) data: Data,
    pub(super) event: Place,
    /// The "last event ID buffer" of the specification: what the next dispatched event will have.
    pub(super) id: Place,
}

/// One pass.
pub(super) struct Scan<'a, B> {
    pub(super) block: B,
    found: &'a mut Vec<Found>,
    pub(super) open: Open,
    pub(super) max_event_len: usize,
    pub(super) max_field_len: usize,
    /// Stream offset of the block's first byte, were nothing cut out before the first line of the pass.
    pub(super) base: u64,
    last_id: Option<Place>,
    retry: Option<u64>,
    refused: Option<FrameError>,
}

/// What a pass leaves.
pub(super) struct Ended {
    pub(super) open: Open,
    /// The `id` of the last event that ended in the pass, dispatched or not.
    pub(super) last_id: Option<Place>,
    pub(super) retry: Option<u64>,
    /// Why the pass stopped early.
    pub(super) refused: Option<FrameError>,
}

/// Where a pass stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    /// First byte of the current line.
    pub(super) line: usize,
    /// Invariant: `line <= scanned`; no line ends in between.
    pub(super) scanned: usize,
    /// Whether the byte before `line` was a CR: an LF there belongs to it.
    pub(super) after_cr: bool,
}

impl<'a, B: Block> Scan<'a, B> {
    pub(super) fn new(block: B, found: &'a mut Vec<Found>, open: Open, limits: &Limits, base: u64) -> Self {
        let (max_event_len, max_field_len) = (limits.max_frame_len(), limits.max_field_len());
        Self { block, found, open, max_event_len, max_field_len, base, last_id: None, retry: None, refused: None }
    }

    /// Reads every line that ends in the block, or those up to the first that gets an event refused.
    pub(super) fn run(&mut self, from: Cursor) -> Cursor {
        let Cursor { mut line, scanned, after_cr } = from;
        let len = self.block.bytes().len();
        if scanned >= len {
            return from;
        }
        if after_cr && self.block.bytes().get(line) == Some(&b'\n') {
            line += 1;
        }
        let mut group = [0; GROUP_BLOCKS];
        let mut at = scanned.max(line);
        while at < len {
            let bytes = self.block.bytes();
            // In a long line, a search for two bytes is faster than masks that are all 0.
            if at - line >= GROUP_LEN {
                let rest = bytes.get(at..).unwrap_or_default();
                at += memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            }
            let blocks = block::any_masks(bytes.get(at..).unwrap_or_default(), [b'\r', b'\n'], &mut group);
            group.iter_mut().skip(blocks).for_each(|mask| *mask = 0);
            line = self.group(&group, at, line);
            if self.refused.is_some() {
                return Cursor { line, scanned: line, after_cr: self.is_after_cr(line) };
            }
            at = line.max(at + GROUP_LEN).min(len);
        }
        Cursor { line, scanned: len, after_cr: line == len && self.is_after_cr(line) }
    }

    /// Reads the lines that end in the group at `at`; the first starts at `line`. Returns where the next line
    /// starts.
    fn group(&mut self, group: &[u64; GROUP_BLOCKS], at: usize, mut line: usize) -> usize {
        let (mut index, mut ends) = (usize::MAX, 0);
        loop {
            // The line ends behind `line`, in its block or a later one.
            let from = line.saturating_sub(at);
            if from / BLOCK_LEN != index {
                index = from / BLOCK_LEN;
                let Some(&mask) = group.get(index) else { return line };
                ends = mask;
            }
            ends &= u64::MAX << (from % BLOCK_LEN);
            while ends == 0 {
                index += 1;
                let Some(&mask) = group.get(index) else { return line };
                ends = mask;
            }
            let end = at + index * BLOCK_LEN + ends.trailing_zeros() as usize;
            if let Some(next) = self.quick(line, end) {
                line = next;
                continue;
            }
            line = self.line(line, end);
            if self.refused.is_some() {
                return line;
            }
        }
    }

    /// Reads the line from `start` to `end` and the blank line behind it, in one step, if it is one of those
    /// that most streams consist of: data, or a comment between events. Returns where the next line starts.
    #[inline]
    fn quick(&mut self, start: usize, end: usize) -> Option<usize> {
        // The line, its end, and enough behind it to take both ends at once.
        let line = self.block.bytes().get(start..end + size_of::<u64>())?;
        let name = u64::from_le_bytes(*line.first_chunk()?);
        let behind = u64::from_le_bytes(*line.last_chunk()?);
        let (next, blank) = if behind & 0xFF == u64::from(b'\n') {
            let blank = behind & 0xFFFF == LF_LF;
            (end + 1 + usize::from(blank), blank)
        } else if behind & 0xFFFF == CRLF {
            let blank = behind & 0xFFFF_FFFF == CRLF_CRLF;
            (end + 2 + 2 * usize::from(blank), blank)
        } else {
            (end + 1, false)
        };
        let at = self.open.at.unwrap_or(self.base + start as u64);
        let Some(value) = Name::DATA.value_in(name) else {
            if name & 0xFF == u64::from(b':') {
                // With nothing open, a blank line means nothing.
                return self.open.at.is_none().then_some(next);
            }
            return (!blank && self.quick_field(at, name, start, end)).then_some(next);
        };
        let value = span(start + value, end);
        if self.open.data != Data::Nowhere {
            return self.quick_join(at, value, blank).then_some(next);
        }
        if value.len() > self.max_event_len {
            return None;
        }
        if !blank {
            (self.open.at, self.open.data) = (Some(at), Data::Block(value));
            return Some(next);
        }
        self.found.push(Found::in_block(value, self.open.event, self.open.id, at));
        // With nothing open before, there was neither a type nor a new id.
        if self.open.at.is_some() {
            self.close();
        }
        Some(next)
    }

    /// A line with a type or an id. False: it is neither, or not to be taken in.
    #[inline]
    fn quick_field(&mut self, at: u64, name: u64, start: usize, end: usize) -> bool {
        let value_of = |name_len| span(start + name_len, end);
        let max_field_len = if self.open.data == Data::Refused { 0 } else { self.max_field_len };
        if let Some(value) = Name::EVENT.value_in(name).map(value_of)
            && value.len() <= max_field_len
        {
            self.open.event = if value.is_empty() { Place::NOWHERE } else { Place::in_block(value) };
        } else if let Some(value) = Name::ID.value_in(name).map(value_of)
            && value.len() <= max_field_len
            && !has_nul(value.of(self.block.bytes()))
        {
            self.open.id = Place::in_block(value);
        } else {
            return false;
        }
        self.open.at = Some(at);
        true
    }

    /// One more line of data. False: it is one too much.
    fn quick_join(&mut self, at: u64, value: Span, blank: bool) -> bool {
        if self.open.data == Data::Refused || self.joined_len(value.len()) > self.max_event_len {
            return false;
        }
        self.join(value);
        if blank {
            self.found.extend(Found::new(self.open.data, self.open.event, self.open.id, at));
            self.close();
        }
        true
    }

    /// Reads the line from `start` to `end`. Returns where the next line starts.
    #[inline]
    pub(super) fn line(&mut self, start: usize, end: usize) -> usize {
        let bytes = self.block.bytes();
        let next = end + if let Some([b'\r', b'\n', ..]) = bytes.get(end..) { 2 } else { 1 };
        let line = bytes.get(start..end).unwrap_or_default();
        match line {
            [] => self.dispatch(),
            [b':', ..] => {}
            _ => {
                let (field, value) = Field::of(line);
                self.apply(field, start, span(start + value, end));
            }
        }
        next
    }

    /// Rule: "dispatch the event", at a blank line.
    fn dispatch(&mut self) {
        if let Some(at) = self.open.at {
            // "If the data buffer is an empty string": no data field was read.
            self.found.extend(Found::new(self.open.data, self.open.event, self.open.id, at));
            self.close();
        }
    }

    #[inline]
    fn close(&mut self) {
        self.last_id = Some(self.open.id);
        self.open = Open { id: self.open.id, ..Open::NOTHING };
    }

    /// Takes in a whole field of the line that starts at `start`.
    fn apply(&mut self, field: Field, start: usize, value: Span) {
        let bytes = value.of(self.block.bytes());
        match field {
            Field::Data | Field::Event if self.open.data == Data::Refused => {}
            Field::Data if self.joined_len(value.len()) > self.max_event_len => self.refuse(self.max_event_len, start),
            Field::Data => {
                self.begin(start);
                self.join(value);
            }
            Field::Event | Field::Id if value.len() > self.max_field_len => self.refuse(self.max_field_len, start),
            Field::Event => {
                self.begin(start);
                self.open.event = if value.is_empty() { Place::NOWHERE } else { Place::in_block(value) };
            }
            // "If the field value does not contain U+0000 NULL".
            Field::Id if has_nul(bytes) => {}
            Field::Id => {
                self.begin(start);
                self.open.id = Place::in_block(value);
            }
            Field::Retry if value.len() > self.max_field_len => {}
            Field::Retry => self.retry = field::milliseconds(bytes).or(self.retry),
            Field::Ignored => {}
        }
    }

    /// Looks at the unfinished line from `start` to the end of the block. False: the rest of the line is
    /// of no interest, whatever it is; its event may just have been refused for it.
    pub(super) fn keeps(&mut self, start: usize) -> bool {
        let line = self.block.bytes().get(start..).unwrap_or_default();
        let (field, len) = match Prefix::of(line) {
            Prefix::Undecided => return true,
            Prefix::Field(field, value) => (field, line.len() - value),
        };
        match field {
            Field::Ignored => return false,
            Field::Data | Field::Event if self.open.data == Data::Refused => return false,
            Field::Data if self.joined_len(len) > self.max_event_len => self.refuse(self.max_event_len, start),
            Field::Event | Field::Id if len > self.max_field_len => self.refuse(self.max_field_len, start),
            Field::Data => return true,
            Field::Event | Field::Id | Field::Retry => return len <= self.max_field_len,
        }
        false
    }

    pub(super) fn end(self) -> Ended {
        Ended { open: self.open, last_id: self.last_id, retry: self.retry, refused: self.refused }
    }

    /// Notes that the line at `start` belongs to the event.
    #[inline]
    fn begin(&mut self, start: usize) {
        self.open.at.get_or_insert(self.base + start as u64);
    }

    #[inline]
    fn join(&mut self, value: Span) {
        self.open.event = self.block.save(self.open.data, self.open.event);
        self.open.id = self.block.save(self.open.data, self.open.id);
        self.open.data = self.block.join(self.open.data, value);
    }

    /// Length of the data with `len` more bytes of one more line.
    fn joined_len(&self, len: usize) -> usize {
        if self.open.data == Data::Nowhere { len } else { self.open.data.len() + 1 + len }
    }

    /// Refuses the event, once.
    #[cold]
    fn refuse(&mut self, limit: usize, start: usize) {
        if self.open.data == Data::Refused {
            return;
        }
        self.begin(start);
        self.block.discard(self.open.data);
        (self.open.data, self.open.event) = (Data::Refused, Place::NOWHERE);
        self.refused = self.open.at.map(|at| FrameError::MessageTooLarge { limit, at });
    }

    fn is_after_cr(&self, at: usize) -> bool {
        at.checked_sub(1).and_then(|last| self.block.bytes().get(last)) == Some(&b'\r')
    }
}

impl Open {
    pub(super) const NOTHING: Self = Self { at: None, data: Data::Nowhere, event: Place::NOWHERE, id: Place::NOWHERE };
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a pass is over at most u32::MAX bytes")]
pub(super) fn span(start: usize, end: usize) -> Span {
    Span::new(start as u32, end as u32)
}

/// Line ends, as they are in memory.
const LF_LF: u64 = u64::from_le_bytes(*b"\n\n\0\0\0\0\0\0");
const CRLF: u64 = u64::from_le_bytes(*b"\r\n\0\0\0\0\0\0");
const CRLF_CRLF: u64 = u64::from_le_bytes(*b"\r\n\r\n\0\0\0\0");
