//! Whole frames through simd-json: the only file that knows it.
//!
//! What must hold, and why it does:
//!
//! - *The frame's bytes never change.* simd-json writes into a string only where it decodes an escape, so
//!   a frame without a backslash may be parsed where it lies, accepted or refused; any other is copied
//!   first. The byte it borrows behind the frame is put back before it returns.
//! - *Nothing is allocated* once buffers, tape and scratch have grown to the size of the frames.
//! - *Spans are exact.* A tape holds no offsets, but its strings lie in the input: their addresses less the
//!   input's are offsets. A number or null is found behind its key, which is a string.
//!
//! A tape that holds anything out of the ordinary (a batch, a duplicate key, an id that is too long) is
//! left to [`EnvelopeScan`](super::EnvelopeScan), so that there is one place which refuses.

use std::fmt;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::{
    Envelope,
    members::{Member, Members, Scope, Value},
    token,
};
use crate::{Limits, PADDING, PaddedFrame, Span};

/// simd-json with everything it reuses from frame to frame.
pub(super) struct TapeParser {
    limits: Limits,
    buffers: Buffers,
    /// Empty between frames, so that its lifetime may be anything.
    tape: Tape<'static>,
    scratch: Vec<u8>,
    found: Found,
}

/// simd-json does not take this frame for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Where it noticed; not always the byte that is wrong.
    pub(super) at: usize,
}

/// The envelope of a frame that simd-json accepts; `None` if the scan has to say what it is.
type Read = Result<Option<Envelope>, Refused>;

/// Where the tape says a member's value is.
#[derive(Debug, Clone, Copy)]
struct Place {
    member: Member,
    value: Value,
    /// Offset of the value's text if it is a string, else of its key's text.
    at: usize,
    /// Length of that text if it holds no escapes.
    len: usize,
}

/// The members on a tape; kept for its allocation.
struct Found {
    members: Members,
    places: Vec<Place>,
}

impl TapeParser {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffers: Buffers::with_max_depth(0, limits.max_depth()),
            tape: Tape(Vec::new()),
            scratch: Vec::new(),
            found: Found { members: Members::new(), places: Vec::new() },
        }
    }

    /// Reads a frame that may not be touched: a named copy.
    pub(super) fn read_copy(&mut self, frame: &[u8]) -> Read {
        let is_plain = memchr::memchr(b'\\', frame).is_none();
        self.read_scratch(frame, is_plain)
    }

    /// Reads a frame where it lies, unless it holds a backslash.
    pub(super) fn read_in_place(&mut self, frame: PaddedFrame<'_>) -> Read {
        if memchr::memchr(b'\\', frame.frame()).is_some() {
            return self.read_scratch(frame.frame(), false);
        }
        let (bytes, len) = frame.into_parts();
        if !self.parse(bytes, len)? {
            return Ok(None);
        }
        Ok(self.found.resolve(bytes.get(..len).unwrap_or_default(), true, &self.limits))
    }

    fn read_scratch(&mut self, frame: &[u8], is_plain: bool) -> Read {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(frame);
        scratch.resize(frame.len() + PADDING, b' ');
        let is_plainly_read = self.parse(&mut scratch, frame.len());
        self.scratch = scratch;
        if !is_plainly_read? {
            return Ok(None);
        }
        Ok(self.found.resolve(frame, is_plain, &self.limits))
    }

    /// Fills `found`. False: the frame is JSON, but the scan has to say what it is.
    fn parse(&mut self, bytes: &mut [u8], len: usize) -> Result<bool, Refused> {
        let base = bytes.as_ptr().addr();
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let result = simd_json::fill_tape_padded(bytes, len, &mut self.buffers, &mut tape);
        let found = match result {
            Ok(()) => Ok(self.found.look(&tape.0, base).is_some()),
            Err(error) => Err(Refused { at: error.index().min(len) }),
        };
        self.tape = tape.reset();
        found
    }

    /// Bytes held for the next frame, as far as they can be known. `Buffers` does not tell: it has seen
    /// nothing longer than `longest`.
    pub(super) fn held(&self, longest: usize) -> usize {
        let tape = self.tape.0.capacity() * size_of::<Node<'static>>();
        let indexes = size_of_val(self.buffers.structural_indexes());
        self.scratch.capacity() + tape + indexes + longest
    }
}

impl fmt::Debug for TapeParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapeParser").field("scratch", &self.scratch.capacity()).finish_non_exhaustive()
    }
}

impl Found {
    /// Looks for members on a tape whose strings lie in memory from `base` on.
    #[inline]
    fn look(&mut self, nodes: &[Node<'_>], base: usize) -> Option<()> {
        self.members = Members::new();
        self.places.clear();
        match nodes.first()? {
            // A batch.
            Node::Array { .. } => None,
            Node::Object { .. } => self.object(nodes, base),
            _ => Some(()),
        }
    }

    /// Walks the routing objects. There are as many levels of them as of scopes, so a fixed stack does.
    #[inline]
    fn object(&mut self, nodes: &[Node<'_>], base: usize) -> Option<()> {
        let mut at = 1;
        let mut scope = Scope::Root;
        // The node behind the last one of each open object.
        let mut ends = [nodes.len(); 4];
        let mut depth = 0;
        loop {
            while at >= *ends.get(depth)? {
                if depth == 0 {
                    return Some(());
                }
                depth -= 1;
                scope = scope.parent();
            }
            let Node::String(key) = *nodes.get(at)? else { return None };
            let node = nodes.get(at + 1)?;
            let behind = at + 2 + inner_nodes(node);
            at = behind;
            let Some(member) = Member::of(scope, key.as_bytes()) else { continue };
            if !self.members.see(member) {
                return None;
            }
            match (node, member.opens()) {
                (Node::Object { .. }, Some(inside)) => {
                    at = behind - inner_nodes(node);
                    scope = inside;
                    depth += 1;
                    *ends.get_mut(depth)? = behind;
                }
                _ => self.push(member, key, node, base)?,
            }
        }
    }

    #[inline]
    fn push(&mut self, member: Member, key: &str, node: &Node<'_>, base: usize) -> Option<()> {
        let (value, text) = match node {
            Node::String(text) => (Value::String, *text),
            Node::Static(StaticNode::Null) => (Value::Null, key),
            Node::Static(StaticNode::Bool(_)) => (Value::Bool, key),
            Node::Static(_) => (Value::Number, key),
            Node::Object { .. } | Node::Array { .. } => (Value::Container, key),
        };
        self.places.push(Place { member, value, at: text.as_ptr().addr().checked_sub(base)?, len: text.len() });
        Some(())
    }

    /// Turns places into spans of `frame`, whose bytes are those that were parsed.
    #[inline]
    fn resolve(&mut self, frame: &[u8], is_plain: bool, limits: &Limits) -> Option<Envelope> {
        for place in &self.places {
            let end = if is_plain { place.at + place.len } else { end_of_text(frame, place.at)? };
            let (start, end) = match place.value {
                Value::String => (place.at - 1, end + 1),
                Value::Container => (place.at, end),
                Value::Number | Value::Null | Value::Bool => scalar_behind_key(frame, end + 1)?,
            };
            let raw = Span::new(u32::try_from(start).ok()?, u32::try_from(end).ok()?);
            if !self.members.put(place.member, place.value, raw, limits) {
                return None;
            }
        }
        Some(self.members.envelope())
    }
}

/// Nodes of a value behind its first.
#[inline]
fn inner_nodes(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => *count,
        _ => 0,
    }
}

/// Offset of the closing quote of the string whose text starts at `at`; it is known to be there.
fn end_of_text(frame: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += token::special(frame.get(at..)?).0;
        if *frame.get(at)? == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The scalar that follows a key, whose closing quote is right before `at`.
#[inline]
fn scalar_behind_key(frame: &[u8], at: usize) -> Option<(usize, usize)> {
    let colon = at + frame.get(at..)?.iter().position(|&byte| byte == b':')?;
    let start = colon + 1 + frame.get(colon + 1..)?.iter().position(|&byte| !token::is_space(byte))?;
    let behind = frame.get(start..)?;
    let len = behind.iter().position(|&byte| token::is_space(byte) || matches!(byte, b',' | b'}' | b']'))?;
    Some((start, start + len))
}

/// Decodes the escapes of short strings.
pub(super) struct Unescaper {
    buffers: Buffers,
    tape: Tape<'static>,
    scratch: Vec<u8>,
    text: String,
}

impl Unescaper {
    /// The characters that `raw`, the text between a string's quotes, stands for. `None` if it is none.
    pub(super) fn unescape(&mut self, raw: &[u8]) -> Option<&str> {
        self.scratch.clear();
        self.scratch.push(b'"');
        self.scratch.extend_from_slice(raw);
        self.scratch.push(b'"');
        let len = self.scratch.len();
        self.scratch.resize(len + PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        self.text.clear();
        let filled = simd_json::fill_tape_padded(&mut self.scratch, len, &mut self.buffers, &mut tape);
        let is_text = match (filled, tape.0.as_slice()) {
            (Ok(()), [Node::String(text)]) => {
                self.text.push_str(text);
                true
            }
            _ => false,
        };
        self.tape = tape.reset();
        is_text.then_some(self.text.as_str())
    }
}

impl Default for Unescaper {
    fn default() -> Self {
        Self { buffers: Buffers::new(0), tape: Tape(Vec::new()), scratch: Vec::new(), text: String::new() }
    }
}

impl fmt::Debug for Unescaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unescaper")
    }
}

/// As [`Unescaper::unescape`], once.
pub(super) fn unescaped(raw: &[u8]) -> Option<String> {
    let mut unescaper = Unescaper::default();
    unescaper.unescape(raw)?;
    Some(unescaper.text)
}
