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
    tape::Unescaper,
    token::{self, Escape, Number},
    utf8::Utf8,
};
use crate::{
    Limits, Span,
    block::skip::{Skip, Step},
};

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

/// A place in the chunk being read.
struct Cursor<'a> {
    hay: &'a [u8],
    /// Invariant: `pos <= hay.len()`.
    pos: usize,
    /// Offset in the frame of `hay[0]`.
    base: usize,
    /// Whether a byte above 0x7F may be in `hay[..pos]`.
    high: bool,
}

impl Cursor<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.hay.get(self.pos).copied()
    }

    /// Offset in the frame of the next byte.
    #[inline]
    fn at(&self) -> usize {
        self.base + self.pos
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        self.hay.get(self.pos..).unwrap_or_default()
    }

    /// Passes over white space, and shows the byte behind it.
    #[inline]
    fn token(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !token::is_space(byte) {
                return Some(byte);
            }
            self.pos += 1;
        }
        None
    }

    #[cold]
    fn unexpected(&self) -> EnvelopeError {
        EnvelopeError::Unexpected { at: offset(self.at()) }
    }
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

    /// Runs the machine until the piece ends. An error was noticed at the byte at the cursor.
    fn run(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        while cursor.pos < cursor.hay.len() {
            match self.state {
                State::FirstKey | State::NextKey => self.before_key(cursor)?,
                State::Done => match cursor.token() {
                    None => return Ok(()),
                    Some(_) => return Err(EnvelopeError::TrailingData { at: offset(cursor.at()) }),
                },
                State::Failed(error) => return Err(error),
                _ => self.resume(cursor)?,
            }
        }
        Ok(())
    }

    /// Goes on in the middle of a member: where a piece began there, or white space stood before a colon.
    #[inline(never)]
    fn resume(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        match self.state {
            State::Key(escape) => self.key(cursor, escape),
            State::Colon => self.colon(cursor),
            State::String(escape) => self.string(cursor, escape),
            State::Number(number) => self.number(cursor, number),
            State::Literal(rest, value) => self.literal(cursor, rest, value),
            State::Skip(skip, value) => self.skip(cursor, skip, value),
            State::AfterValue => self.after_value(cursor),
            State::Value | State::FirstElement => self.value(cursor),
            State::FirstKey | State::NextKey | State::Done | State::Failed(_) => Ok(()),
        }
    }

    #[inline(always)]
    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        let Some(byte) = cursor.token() else { return Ok(()) };
        if byte == b']' && matches!(self.state, State::FirstElement) {
            cursor.pos += 1;
            self.state = State::Done;
            return Ok(());
        }
        self.token_at = cursor.at();
        if self.scope == Scope::Top && self.layout == Layout::Batch {
            self.element_at = self.token_at;
            if self.elements.len() >= self.limits.max_batch_len() {
                let limit = offset(self.limits.max_batch_len());
                return Err(EnvelopeError::BatchTooLong { limit, at: offset(self.token_at) });
            }
        }
        if let b'{' | b'[' = byte {
            return self.container(cursor, byte);
        }
        cursor.pos += 1;
        // Straight on, the state is only written when the piece ends: it is too large to be read again at once.
        match byte {
            b'"' if self.member.is_some() => self.string(cursor, Escape::Outside),
            b'"' => self.skip(cursor, Skip::string(), Value::String),
            b't' => self.literal(cursor, b"rue", Value::Bool),
            b'f' => self.literal(cursor, b"alse", Value::Bool),
            b'n' => self.literal(cursor, b"ull", Value::Null),
            _ => {
                let Some(number) = Number::first(byte) else {
                    cursor.pos -= 1;
                    return Err(cursor.unexpected());
                };
                self.number(cursor, number)
            }
        }
    }

    /// Opens the container whose bracket is at the cursor.
    #[inline]
    fn container(&mut self, cursor: &mut Cursor<'_>, bracket: u8) -> Result<(), EnvelopeError> {
        let around = self.scope.depth() + u32::from(self.layout == Layout::Batch);
        let limit = self.limits.max_depth_u32();
        if around >= limit {
            return Err(EnvelopeError::TooDeep { limit, at: offset(self.token_at) });
        }
        cursor.pos += 1;
        let scope = match (self.scope, bracket, self.layout) {
            (Scope::Top, b'[', Layout::Single) => {
                self.layout = Layout::Batch;
                self.state = State::FirstElement;
                return Ok(());
            }
            (Scope::Top, b'{', _) => Some(Scope::Root),
            (_, b'{', _) => self.member.and_then(Member::opens),
            _ => None,
        };
        let Some(scope) = scope else {
            return self.skip(cursor, Skip::container(limit - around), Value::Container);
        };
        self.scope = scope;
        self.state = State::FirstKey;
        Ok(())
    }

    #[inline(always)]
    fn before_key(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        match cursor.token() {
            None => Ok(()),
            Some(b'"') => {
                self.token_at = cursor.at();
                self.is_escaped = false;
                cursor.pos += 1;
                self.state = State::Key(Escape::Outside);
                self.key(cursor, Escape::Outside)
            }
            Some(b'}') if matches!(self.state, State::FirstKey) => self.close(cursor),
            Some(_) => Err(cursor.unexpected()),
        }
    }

    #[inline(always)]
    fn key(&mut self, cursor: &mut Cursor<'_>, escape: Escape) -> Result<(), EnvelopeError> {
        if let Some(escape) = self.run_string(cursor, escape)? {
            self.state = State::Key(escape);
            return Ok(());
        }
        // The cursor is at the closing quote.
        let start = (self.token_at + 1).saturating_sub(cursor.base);
        let raw = cursor.hay.get(start..cursor.pos).unwrap_or_default();
        self.member = if self.carry.is_empty() {
            member(self.scope, raw, self.is_escaped, &mut self.unescaper)
        } else {
            self.carry.extend_from_slice(raw.get(..=MAX_RAW_KEY).unwrap_or(raw));
            let key = self.carry.get(1..).unwrap_or_default();
            member(self.scope, key, self.is_escaped, &mut self.unescaper)
        };
        self.carry.clear();
        if let Some(member) = self.member
            && !self.members.see(member)
        {
            return Err(EnvelopeError::DuplicateKey { at: offset(self.token_at) });
        }
        cursor.pos += 1;
        self.state = State::Colon;
        self.colon(cursor)
    }

    #[inline(always)]
    fn colon(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        match cursor.token() {
            None => Ok(()),
            Some(b':') => {
                cursor.pos += 1;
                self.state = State::Value;
                self.value(cursor)
            }
            Some(_) => Err(cursor.unexpected()),
        }
    }

    #[inline(always)]
    fn string(&mut self, cursor: &mut Cursor<'_>, escape: Escape) -> Result<(), EnvelopeError> {
        if let Some(escape) = self.run_string(cursor, escape)? {
            self.state = State::String(escape);
            return Ok(());
        }
        self.finish_token(cursor, Value::String, 1)?;
        cursor.pos += 1;
        self.after_value(cursor)
    }

    /// Runs to the closing quote of a string, and stays there; or to the end of the piece, and tells where
    /// in an escape that was.
    #[inline(always)]
    fn run_string(&mut self, cursor: &mut Cursor<'_>, mut escape: Escape) -> Result<Option<Escape>, EnvelopeError> {
        loop {
            if escape == Escape::Outside {
                let (len, high) = token::special(cursor.rest());
                cursor.pos += len;
                cursor.high |= high;
            }
            let Some(byte) = cursor.peek() else { return Ok(Some(escape)) };
            escape = match (escape, byte) {
                (Escape::Outside, b'"') => return Ok(None),
                (Escape::Outside, b'\\') => {
                    self.is_escaped = true;
                    Escape::Backslash
                }
                (Escape::Outside, _) => return Err(EnvelopeError::ControlByte { at: offset(cursor.at()) }),
                (_, 0..0x20) => return Err(EnvelopeError::ControlByte { at: offset(cursor.at()) }),
                _ => escape.next(byte).ok_or_else(|| cursor.unexpected())?,
            };
            cursor.pos += 1;
        }
    }

    #[inline(always)]
    fn number(&mut self, cursor: &mut Cursor<'_>, mut number: Number) -> Result<(), EnvelopeError> {
        while let Some(byte) = cursor.peek() {
            let Some(next) = number.next(byte) else {
                if !number.is_whole() {
                    return Err(cursor.unexpected());
                }
                self.finish_token(cursor, Value::Number, 0)?;
                return self.after_value(cursor);
            };
            number = next;
            cursor.pos += 1;
        }
        self.state = State::Number(number);
        Ok(())
    }

    #[inline]
    fn literal(&mut self, cursor: &mut Cursor<'_>, rest: &'static [u8], value: Value) -> Result<(), EnvelopeError> {
        let mut rest = rest;
        while let (Some((&expected, behind)), Some(byte)) = (rest.split_first(), cursor.peek()) {
            if byte != expected {
                return Err(cursor.unexpected());
            }
            if behind.is_empty() {
                self.finish_token(cursor, value, 1)?;
                cursor.pos += 1;
                return Ok(());
            }
            cursor.pos += 1;
            rest = behind;
        }
        self.state = State::Literal(rest, value);
        Ok(())
    }

    #[inline]
    fn skip(&mut self, cursor: &mut Cursor<'_>, mut skip: Skip, value: Value) -> Result<(), EnvelopeError> {
        let (step, high) = skip.feed(cursor.hay, cursor.pos);
        cursor.high |= high;
        match step {
            Step::More => {
                cursor.pos = cursor.hay.len();
                self.state = State::Skip(skip, value);
                return Ok(());
            }
            Step::End(last) => cursor.pos = last + 1,
            Step::Control(at) => {
                cursor.pos = at;
                return Err(EnvelopeError::ControlByte { at: offset(cursor.at()) });
            }
            Step::TooDeep(at) => {
                cursor.pos = at;
                let limit = self.limits.max_depth_u32();
                return Err(EnvelopeError::TooDeep { limit, at: offset(cursor.at()) });
            }
        }
        self.value_done(value, cursor.at())?;
        self.after_value(cursor)
    }

    #[inline]
    fn after_value(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        if matches!(self.state, State::Done) {
            return Ok(());
        }
        let Some(byte) = cursor.token() else { return Ok(()) };
        self.member = None;
        self.state = match (self.scope, byte) {
            (Scope::Top, b',') => State::Value,
            (Scope::Top, b']') => State::Done,
            (Scope::Top, _) => return Err(cursor.unexpected()),
            (_, b',') => State::NextKey,
            (_, b'}') => return self.close(cursor),
            _ => return Err(cursor.unexpected()),
        };
        cursor.pos += 1;
        Ok(())
    }

    /// Closes the object whose closing brace is at the cursor.
    fn close(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
        cursor.pos += 1;
        self.member = self.scope.member();
        self.scope = self.scope.parent();
        self.value_done(Value::Container, cursor.at())
    }

    /// Takes a scalar's end: the cursor is at its last byte if `last_len` is 1, behind it if 0.
    #[inline(always)]
    fn finish_token(&mut self, cursor: &Cursor<'_>, value: Value, last_len: usize) -> Result<(), EnvelopeError> {
        let end = cursor.at() + last_len;
        if self.keeps_token() {
            self.keep_id(cursor, last_len);
        }
        self.value_done(value, end)
    }

    /// Notes a value that ends at offset `end`.
    #[inline(always)]
    fn value_done(&mut self, value: Value, end: usize) -> Result<(), EnvelopeError> {
        if let Some(member) = self.member
            && !self.members.put(member, value, span(self.token_at.min(end), end), &self.limits)
        {
            let limit = offset(self.limits.max_id_len());
            return Err(EnvelopeError::IdTooLong { limit, at: offset(self.token_at) });
        }
        self.state = State::AfterValue;
        if self.scope == Scope::Top {
            match self.layout {
                Layout::Single => self.state = State::Done,
                Layout::Batch => {
                    let envelope = self.members.envelope();
                    self.elements.push(BatchElement::new(span(self.element_at, end), envelope));
                    self.members = Members::new();
                }
            }
        }
        Ok(())
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

/// The member a raw key stands for; escaped ones are decoded by simd-json first.
#[inline]
fn member(scope: Scope, raw: &[u8], is_escaped: bool, unescaper: &mut Option<Box<Unescaper>>) -> Option<Member> {
    if !is_escaped {
        return Member::of(scope, raw);
    }
    if raw.len() > MAX_RAW_KEY {
        return None;
    }
    Member::of(scope, unescaper.get_or_insert_default().unescape(raw)?.as_bytes())
}

/// No offset is beyond `u32`: a scan fails before.
#[expect(clippy::cast_possible_truncation, reason = "`feed_piece` and the limits keep everything below u32::MAX")]
#[inline]
fn offset(at: usize) -> u32 {
    at as u32
}

#[inline]
fn span(start: usize, end: usize) -> Span {
    Span::new(offset(start), offset(end))
}

const PIECE_LEN: usize = 64 << 10;
