//! The envelope without parsing the bulk: token by token where messages are routed, by blocks elsewhere.
//!
//! A state machine over the frame's bytes that can stop behind any of them, so chunks may be cut anywhere
//! and are never joined; of the frame, only a cut key or id is kept. It never recurses: the scopes it
//! reads are six, the rest is a counter. What the bytes of a key or an id *mean* is not decided here.
//!
//! ```text
//!            ┌──────────────────────────────── , ─────────────────────────────┐
//!            v                                                                │
//!  Value ── { ──> FirstKey ── " ──> Key ── " ──> Colon ── : ──> Value ──> AfterValue ── } ──> (outer) AfterValue
//!                                                                 │  ^                         or Done
//!                                                                 v  │
//!                                          String, Number, Literal, Skip
//! ```

use super::{
    BatchElement, Envelope, EnvelopeError, IdClass, Kind,
    members::{MAX_RAW_KEY, Member, Members, Scope, Value},
    straight::{self, STRAIGHT_LEN},
    tape::Unescaper,
    token::{Escape, Number},
    utf8::Utf8,
};
use crate::{Limits, block::skip::Skip};
use cursor::{Cursor, offset};

mod cursor;
mod machine;

/// Reads the envelope of a frame that arrives in chunks.
///
/// ```
/// use shadowcat_codecs::{Limits, envelope::{EnvelopeScan, Kind}};
///
/// let mut scan = EnvelopeScan::new(Limits::default());
/// scan.feed(br#"{"jsonrpc":"2.0","id":12"#);
/// scan.feed(br#"34,"result":{}}"#);
/// let envelope = scan.finish()?;
/// assert_eq!((envelope.kind(), envelope.id().map(|id| (id.start(), id.end()))), (Kind::Response, Some((22, 26))));
/// # Ok::<(), shadowcat_codecs::envelope::EnvelopeError>(())
/// ```
///
/// Checks what [`Strictness::Envelope`](super::Strictness::Envelope) checks, with the same results, chunks
/// or not.
#[derive(Debug)]
pub struct EnvelopeScan {
    limits: Limits,
    /// Length of all chunks so far.
    len: usize,
    /// Offset in the frame behind the last byte read. Invariant: `at <= len`, `at <= u32::MAX`; equal to `len`
    /// unless something was wrong.
    at: usize,
    state: State,
    scope: Scope,
    layout: Layout,
    /// The member whose value comes next or is being read, if it is one of ours.
    member: Option<Member>,
    /// Offset in the frame of the first byte of the token being read. Invariant: `token_at <= at` between chunks.
    token_at: usize,
    /// Offset in the frame of the current element of a batch. Invariant: `element_at <= token_at`.
    element_at: usize,
    /// Whether the string being read holds a backslash.
    is_escaped: bool,
    utf8: Utf8,
    members: Members,
    elements: Vec<BatchElement>,
    /// The part of the current key or id that lay in earlier chunks.
    /// Invariant: `carry.len() <= max(MAX_RAW_KEY, max_id_len) + 1`.
    carry: Vec<u8>,
    /// The id's bytes, if they are asked for; empty until the id is whole.
    /// Invariant: `id.len() <= max_id_len`.
    id: Vec<u8>,
    keeps_id: bool,
    unescaper: Option<Box<Unescaper>>,
}

/// Whether the frame is one message or an array of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Single,
    Batch,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A value must come.
    Value,
    /// Behind a batch's opening bracket: a value or the closing bracket must come.
    FirstElement,
    /// Behind an opening brace: a key or the closing brace must come.
    FirstKey,
    /// Behind a comma in an object: a key must come.
    NextKey,
    /// In a key.
    Key(Escape),
    /// Behind a key: its colon must come.
    Colon,
    /// In a string that is a routing member's value.
    String(Escape),
    /// In a number.
    Number(Number),
    /// In a literal, with these bytes to come.
    Literal(&'static [u8], Value),
    /// In a value no one routes on.
    Skip(Skip, Value),
    /// Behind a value that is not the frame's own: a comma or a closing bracket must come.
    AfterValue,
    /// Behind the frame's value: only white space may come.
    Done,
    /// Something was wrong; the rest is ignored.
    Failed(EnvelopeError),
}

impl EnvelopeScan {
    /// A scan at the start of a frame.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            len: 0,
            at: 0,
            state: State::Value,
            scope: Scope::Top,
            layout: Layout::Single,
            member: None,
            token_at: 0,
            element_at: 0,
            is_escaped: false,
            utf8: Utf8::new(),
            members: Members::new(),
            elements: Vec::new(),
            carry: Vec::new(),
            id: Vec::new(),
            keeps_id: true,
            unescaper: None,
        }
    }

    /// One that does not keep the id's bytes: whoever has the frame has them.
    pub(super) fn without_id(limits: Limits) -> Self {
        Self { keeps_id: false, ..Self::new(limits) }
    }

    /// Starts over with another frame; keeps its allocations.
    pub fn reset(&mut self) {
        self.len = 0;
        self.at = 0;
        self.state = State::Value;
        self.scope = Scope::Top;
        self.layout = Layout::Single;
        self.member = None;
        self.token_at = 0;
        self.element_at = 0;
        self.is_escaped = false;
        self.utf8 = Utf8::new();
        self.members = Members::new();
        self.elements.clear();
        self.carry.clear();
        self.id.clear();
    }

    /// Reads on. What is wrong with the frame is told by [`finish`](Self::finish), or earlier by
    /// [`error`](Self::error).
    ///
    /// A frame longer than `max_frame_len` is still read, so that its id can be learnt; `finish` refuses it.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.len = self.len.saturating_add(chunk.len());
        // Small enough to be in the cache still when its UTF-8 is looked at.
        for piece in chunk.chunks(PIECE_LEN) {
            if matches!(self.state, State::Failed(_)) {
                return;
            }
            self.feed_piece(piece);
        }
    }

    /// The envelope of a frame that is there in one piece, read at the start of a frame: the same as
    /// [`feed`](Self::feed) and [`finish`](Self::finish), in less time if the frame is short and ordinary. Then
    /// nothing is kept for [`id_so_far`](Self::id_so_far): whoever has the frame has the id.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn read_whole(&mut self, frame: &[u8]) -> Result<Envelope, EnvelopeError> {
        if frame.len() <= STRAIGHT_LEN.min(self.limits.max_frame_len()) && self.len == 0 {
            if let Some(envelope) = straight::read::<false>(frame, &self.limits, &mut self.elements) {
                return Ok(envelope);
            }
            self.elements.clear();
        }
        self.feed(frame);
        self.finish()
    }

    /// The envelope, now that the frame has ended. [`reset`](Self::reset) comes next.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong in the frame.
    #[inline]
    pub fn finish(&mut self) -> Result<Envelope, EnvelopeError> {
        if self.len > self.limits.max_frame_len() {
            return Err(EnvelopeError::TooLarge { limit: offset(self.limits.max_frame_len()) });
        }
        if let State::Number(number) = self.state
            && number.is_whole()
            && let Err(error) = self.value_done(Value::Number, self.at)
        {
            return Err(error);
        }
        match self.state {
            State::Failed(error) => Err(error),
            State::Done if self.layout == Layout::Single => Ok(self.members.envelope()),
            State::Done => Ok(Envelope::bare(Kind::Batch)),
            _ => Err(EnvelopeError::Unfinished { at: offset(self.at) }),
        }
    }

    /// What was found wrong so far.
    #[must_use]
    pub fn error(&self) -> Option<EnvelopeError> {
        match self.state {
            State::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The elements of the batch so far: all of them after [`finish`](Self::finish) said [`Kind::Batch`].
    #[must_use]
    pub fn elements(&self) -> &[BatchElement] {
        &self.elements
    }

    /// Raw text and class of the frame's own id, as soon as it was read, also in a frame that is too long
    /// or turns out to be invalid. Not for batches.
    #[must_use]
    pub fn id_so_far(&self) -> Option<(&[u8], IdClass)> {
        let class = self.members.id_class();
        (class != IdClass::Absent && !self.id.is_empty()).then_some((&self.id, class))
    }

    /// What the frame would be if no more members came. [`Kind::Other`] as long as nothing is known.
    #[must_use]
    pub fn kind_so_far(&self) -> Kind {
        match self.layout {
            Layout::Single => self.members.kind(),
            Layout::Batch => Kind::Batch,
        }
    }

    /// Room for the elements of a batch that is read another way; empty after [`reset`](Self::reset).
    pub(super) fn elements_mut(&mut self) -> &mut Vec<BatchElement> {
        &mut self.elements
    }

    /// Bytes kept for the next frame.
    pub(super) fn held(&self) -> usize {
        self.elements.capacity() * size_of::<BatchElement>() + self.carry.capacity() + self.id.capacity()
    }

    fn feed_piece(&mut self, piece: &[u8]) {
        let end = self.at + piece.len();
        if end > u32::MAX as usize {
            self.state = State::Failed(EnvelopeError::TooLarge { limit: offset(self.limits.max_frame_len()) });
            return;
        }
        let mut cursor = Cursor { hay: piece, pos: 0, base: self.at, high: false };
        let result = self.run(&mut cursor);
        // Everything up to the byte that was noticed is held against UTF-8 first: what is reported must
        // not depend on where the pieces end.
        if cursor.high || self.utf8.is_cut() || result.is_err() {
            let seen = if result.is_err() { piece.get(..=cursor.pos).unwrap_or(piece) } else { piece };
            if let Err(at) = self.utf8.check(seen, self.at) {
                self.state = State::Failed(EnvelopeError::InvalidUtf8 { at: offset(at) });
                return;
            }
        }
        self.at = end;
        match result {
            Ok(()) => self.keep_cut_token(&cursor),
            Err(error) => self.state = State::Failed(error),
        }
    }

    /// Whether the token being read will be needed when its chunk is gone: it is the frame's own id.
    #[inline(always)]
    fn keeps_token(&self) -> bool {
        self.keeps_id && self.member == Some(Member::Id) && self.layout == Layout::Single
    }

    /// Keeps the part of a key or an id that lies in a piece that has ended.
    fn keep_cut_token(&mut self, cursor: &Cursor<'_>) {
        let max = match self.state {
            State::Key(_) => MAX_RAW_KEY + 2,
            State::String(_) | State::Number(_) | State::Literal(..) if self.keeps_token() => {
                self.limits.max_id_len() + 1
            }
            _ => return,
        };
        let start = self.token_at.saturating_sub(cursor.base);
        let part = cursor.hay.get(start..).unwrap_or_default();
        let room = max.saturating_sub(self.carry.len());
        self.carry.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn keep_id(&mut self, cursor: &Cursor<'_>, last_len: usize) {
        let start = self.token_at.saturating_sub(cursor.base);
        let part = cursor.hay.get(start..cursor.pos + last_len).unwrap_or_default();
        if self.carry.len() + part.len() <= self.limits.max_id_len() {
            self.id.extend_from_slice(&self.carry);
            self.id.extend_from_slice(part);
        }
        self.carry.clear();
    }
}

const PIECE_LEN: usize = 64 << 10;
