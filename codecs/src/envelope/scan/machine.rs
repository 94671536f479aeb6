//! The steps of the scan: one function for each state, straight on to the next as long as the piece lasts.

use super::{
    super::{
        BatchElement, EnvelopeError,
        members::{MAX_RAW_KEY, Member, Members, Scope, Value},
        tape::Unescaper,
        token::{self, Escape, Number},
    },
    EnvelopeScan, Layout, State,
    cursor::{Cursor, offset, span},
};
use crate::block::skip::{Skip, Step};

impl EnvelopeScan {
    /// Runs the machine until the piece ends. An error was noticed at the byte at the cursor.
    pub(super) fn run(&mut self, cursor: &mut Cursor<'_>) -> Result<(), EnvelopeError> {
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
    pub(super) fn value_done(&mut self, value: Value, end: usize) -> Result<(), EnvelopeError> {
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
