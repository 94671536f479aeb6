//! One pass over a block: its bytes into lines, lines into fields, fields into events.
//!
//! Line ends are found 64 bytes at a time. A CR ends a line, an LF does unless it follows a CR:
//! `ends = cr | (lf & !(cr << 1 | carry))`, so that CRLF costs no more than LF.
//!
//! A pass never waits and never fails: what is unfinished at its end, and what was refused, it leaves in
//! [`Ended`].

use bytes::BytesMut;

use super::{
    event::{Found, Place},
    field::{self, Field, Prefix},
};
use crate::{
    FrameError, Limits, Span,
    block::{self, BLOCK_LEN, GROUP_BLOCKS, GROUP_LEN},
};

/// The bytes of a pass, and what joining lines means there.
pub(super) trait Block {
    fn bytes(&self) -> &[u8];

    /// Where `data`, an LF and the bytes at `value`, which lie behind it, are one run of bytes.
    fn join(&mut self, data: Place, value: Span) -> Place;

    /// `data` will not be asked for again.
    fn discard(&mut self, data: Place);
}

/// A block that belongs to us alone: lines are joined where they are.
///
/// The joined text is never longer than its source, because at least `\ndata:` lay between:
///
/// ```text
/// data: one\ndata: two\n   ->   data: one\ntwo.........
///       ^-^        ^-^                ^------^
/// ```
pub(super) struct Owned<'a>(pub(super) &'a mut [u8]);

/// A block that others may read: lines are joined in a buffer of our own.
pub(super) struct Shared<'a> {
    pub(super) block: &'a [u8],
    /// Invariant: the data of the open event, if it is [`Place::Joined`], ends where this ends.
    pub(super) joined: &'a mut BytesMut,
}

/// The event being read, between and during passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Stream offset of the first line that belongs to the event. `None`: no such line was read.
    pub(super) at: Option<u64>,
    /// Whether the event was refused; its rest is skipped.
    pub(super) refused: bool,
    pub(super) data: Place,
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
        let Cursor { mut line, scanned: mut at, after_cr } = from;
        let len = self.block.bytes().len();
        if at >= len {
            return from;
        }
        if after_cr && self.block.bytes().get(line) == Some(&b'\n') {
            line += 1;
        }
        let mut carry = u64::from(after_cr);
        let mut group = [[0; 2]; GROUP_BLOCKS];
        while let Some(hay) = self.block.bytes().get(at..).filter(|hay| !hay.is_empty()) {
            let hay_len = hay.len().min(GROUP_LEN);
            let blocks = block::masks(hay, [b'\n', b'\r'], &mut group);
            for (index, &[lf, cr]) in group.iter().take(blocks).enumerate() {
                let mut ends = cr | (lf & !(cr << 1 | carry));
                carry = cr >> 63;
                while ends != 0 {
                    let end = at + index * BLOCK_LEN + ends.trailing_zeros() as usize;
                    ends &= ends - 1;
                    // A blank line that was read together with the line before it.
                    if end < line {
                        continue;
                    }
                    line = self.line(line, end);
                    if self.refused.is_some() {
                        return Cursor { line, scanned: line, after_cr: self.is_after_cr(line) };
                    }
                }
            }
            at += hay_len;
        }
        Cursor { line, scanned: len, after_cr: line == len && self.is_after_cr(line) }
    }

    /// Reads the line from `start` to `end`, and the blank line behind it if it is there. Returns where the
    /// next line starts.
    #[inline]
    pub(super) fn line(&mut self, start: usize, end: usize) -> usize {
        let bytes = self.block.bytes();
        let line = bytes.get(start..end).unwrap_or_default();
        let rest = bytes.get(end..).unwrap_or_default();
        if let (Some(&[b'd', b'a', b't', b'a', b':']), false) = (line.first_chunk(), self.open.refused) {
            let value = start + if line.get(5) == Some(&b' ') { 6 } else { 5 };
            if self.open.data == Place::Nowhere && end - value <= self.max_event_len {
                // Most events are one line of data: end them at once.
                let (blank, next) = match rest {
                    [b'\n', b'\n', ..] => (true, end + 2),
                    [b'\r', b'\n', b'\r', b'\n', ..] => (true, end + 4),
                    [b'\r', b'\n', ..] => (false, end + 2),
                    _ => (false, end + 1),
                };
                self.begin(start);
                self.open.data = Place::Block(span(value, end));
                if blank {
                    self.dispatch();
                }
                return next;
            }
        }
        let next = end + if let [b'\r', b'\n', ..] = rest { 2 } else { 1 };
        match line {
            [] => self.dispatch(),
            [b':', ..] => {}
            _ => self.field(start, end),
        }
        next
    }

    /// Rule: "dispatch the event", at a blank line.
    #[inline]
    fn dispatch(&mut self) {
        let Some(at) = self.open.at else { return };
        let Open { data, event, id, .. } = self.open;
        self.last_id = Some(id);
        // "If the data buffer is an empty string": no data field was read.
        if data != Place::Nowhere {
            self.found.push(Found { data, event, id, at });
        }
        self.open = Open { at: None, refused: false, data: Place::Nowhere, event: Place::Nowhere, id };
    }

    fn field(&mut self, start: usize, end: usize) {
        let line = self.block.bytes().get(start..end).unwrap_or_default();
        let (field, value) = Field::of(line);
        self.apply(field, start, span(start + value, end));
    }

    /// Takes in a whole field of the line that starts at `start`.
    fn apply(&mut self, field: Field, start: usize, value: Span) {
        let bytes = value.of(self.block.bytes());
        match field {
            Field::Data | Field::Event if self.open.refused => {}
            Field::Data if self.joined_len(value.len()) > self.max_event_len => self.refuse(self.max_event_len, start),
            Field::Data => {
                self.begin(start);
                self.open.data = match self.open.data {
                    Place::Nowhere => Place::Block(value),
                    data => self.block.join(data, value),
                };
            }
            Field::Event | Field::Id if value.len() > self.max_field_len => {
                if !self.open.refused {
                    self.refuse(self.max_field_len, start);
                }
            }
            Field::Event => {
                self.begin(start);
                self.open.event = if value.is_empty() { Place::Nowhere } else { Place::Block(value) };
            }
            // "If the field value does not contain U+0000 NULL".
            Field::Id if memchr::memchr(0, bytes).is_some() => {}
            Field::Id => {
                self.begin(start);
                self.open.id = Place::Block(value);
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
            Field::Data | Field::Event if self.open.refused => return false,
            Field::Data if self.joined_len(len) > self.max_event_len => self.refuse(self.max_event_len, start),
            Field::Event | Field::Id if len > self.max_field_len && !self.open.refused => {
                self.refuse(self.max_field_len, start);
            }
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

    /// Length of the data with `len` more bytes of one more line.
    fn joined_len(&self, len: usize) -> usize {
        if self.open.data == Place::Nowhere { len } else { self.open.data.data_len() + 1 + len }
    }

    #[cold]
    fn refuse(&mut self, limit: usize, start: usize) {
        self.begin(start);
        self.block.discard(self.open.data);
        (self.open.data, self.open.event, self.open.refused) = (Place::Nowhere, Place::Nowhere, true);
        self.refused = self.open.at.map(|at| FrameError::MessageTooLarge { limit, at });
    }

    fn is_after_cr(&self, at: usize) -> bool {
        at.checked_sub(1).and_then(|last| self.block.bytes().get(last)) == Some(&b'\r')
    }
}

impl Block for Owned<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn join(&mut self, data: Place, value: Span) -> Place {
        let Place::Block(data) = data else { return Place::Block(value) };
        let end = data.end() + 1 + value.len();
        debug_assert!(end <= value.end(), "what is joined is shorter than its source");
        if let Some(line_end) = self.0.get_mut(data.end()) {
            *line_end = b'\n';
        }
        self.0.copy_within(value.start()..value.end(), data.end() + 1);
        Place::Block(span(data.start(), end))
    }

    fn discard(&mut self, _data: Place) {}
}

impl Block for Shared<'_> {
    fn bytes(&self) -> &[u8] {
        self.block
    }

    /// A named copy: shared bytes cannot be moved.
    fn join(&mut self, data: Place, value: Span) -> Place {
        let start = match data {
            Place::Joined(data) => data.start(),
            Place::Block(data) => {
                let start = self.joined.len();
                self.joined.extend_from_slice(data.of(self.block));
                start
            }
            Place::Nowhere | Place::Carried => return Place::Block(value),
        };
        self.joined.extend_from_slice(b"\n");
        self.joined.extend_from_slice(value.of(self.block));
        Place::Joined(span(start, self.joined.len()))
    }

    fn discard(&mut self, data: Place) {
        if let Place::Joined(data) = data {
            self.joined.truncate(data.start());
        }
    }
}

impl Open {
    pub(super) const NOTHING: Self =
        Self { at: None, refused: false, data: Place::Nowhere, event: Place::Nowhere, id: Place::Nowhere };
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a pass is over at most u32::MAX bytes")]
pub(super) fn span(start: usize, end: usize) -> Span {
    Span::new(start as u32, end as u32)
}
