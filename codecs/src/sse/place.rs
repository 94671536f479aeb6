//! Where the parts of events are: in a block, beside it, or kept by value.

use std::fmt;

use bytes::Bytes;

use crate::Span;

/// Where the parts of one event are. One is written for each event, so it is kept to 32 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    // Type and id apart: side by side they are read as one, before what was written as two has arrived.
    pub(super) event: Place,
    pub(super) data: Span,
    pub(super) id: Place,
    /// Stream offset of the event, and in the highest bit whether the data is in the batch's other buffer.
    at: u64,
}

/// Where a type or an id is: in the upper half where it starts, `OUTSIDE` or less; in the lower half how long
/// it is, and in that half's highest bit whether it is in the batch's other buffer. One word, because it is
/// read right after it was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

/// Where the data of an event is, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// None was read.
    Nowhere,
    /// There was too much: the event was refused, and its rest is skipped.
    Refused,
    /// In the block.
    Block(Span),
    /// In the batch's other buffer.
    Joined(Span),
}

/// A short text by value.
#[derive(Clone)]
pub(super) enum Text {
    /// Invariant: `len <= INLINE_LEN`.
    Inline {
        len: u8,
        bytes: [u8; INLINE_LEN],
    },
    Shared(Bytes),
}

impl Found {
    #[inline]
    pub(super) const fn in_block(data: Span, event: Place, id: Place, at: u64) -> Self {
        Self { data, event, id, at }
    }

    pub(super) fn new(data: Data, event: Place, id: Place, at: u64) -> Option<Self> {
        match data {
            Data::Block(data) => Some(Self { data, event, id, at }),
            Data::Joined(data) => Some(Self { data, event, id, at: at | JOINED }),
            Data::Nowhere | Data::Refused => None,
        }
    }

    pub(super) const fn is_joined(&self) -> bool {
        self.at & JOINED != 0
    }

    pub(super) const fn at(&self) -> u64 {
        self.at & !JOINED
    }
}

impl Place {
    /// There is none.
    pub(super) const NOWHERE: Self = Self(OUTSIDE << 32);
    /// Kept by value since before this block.
    pub(super) const CARRIED: Self = Self(OUTSIDE << 32 | 1);

    #[inline]
    pub(super) fn in_block(span: Span) -> Self {
        debug_assert!((span.start() as u64) < OUTSIDE, "a line end lies behind");
        Self((span.start() as u64) << 32 | span.len() as u64)
    }

    pub(super) fn in_joined(span: Span) -> Self {
        Self(Self::in_block(span).0 | IN_JOINED)
    }

    /// Whether the text is in a buffer that the next pass will not have.
    pub(super) const fn is_in_buffer(self) -> bool {
        self.start() != OUTSIDE
    }

    /// Whether the text is in the block, behind `at`.
    pub(super) const fn is_in_block_behind(self, at: usize) -> bool {
        self.is_in_buffer() && self.0 & IN_JOINED == 0 && self.start() > at as u64
    }

    /// The text, if it is in one of the two.
    pub(super) fn of<'a>(self, block: &'a [u8], joined: &'a [u8]) -> &'a [u8] {
        let buffer = if self.0 & IN_JOINED == 0 { block } else { joined };
        let [start, len] = [self.start(), self.len()].map(|half| usize::try_from(half).unwrap_or(usize::MAX));
        buffer.get(start..).and_then(|text| text.get(..len)).unwrap_or_default()
    }

    const fn start(self) -> u64 {
        self.0 >> 32
    }

    const fn len(self) -> u64 {
        self.0 & (IN_JOINED - 1)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NOWHERE => f.write_str("Nowhere"),
            Self::CARRIED => f.write_str("Carried"),
            place => write!(f, "at {}, {} bytes", place.start(), place.len()),
        }
    }
}

impl Data {
    /// Number of bytes there.
    pub(super) const fn len(self) -> usize {
        match self {
            Self::Block(span) | Self::Joined(span) => span.len(),
            Self::Nowhere | Self::Refused => 0,
        }
    }
}

impl Text {
    pub(super) const EMPTY: Self = Self::Inline { len: 0, bytes: [0; INLINE_LEN] };

    /// A named copy: what outlives its block must not pin it.
    pub(super) fn copied(text: &[u8]) -> Self {
        let mut bytes = [0; INLINE_LEN];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(text);
                Self::Inline { len, bytes }
            }
            _ => Self::Shared(Bytes::from(text.to_owned())),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.bytes().len())
    }
}

/// No text in a block starts there: a line end lies behind it, and blocks are of `u32::MAX` bytes at the most.
const OUTSIDE: u64 = u32::MAX as u64;

const IN_JOINED: u64 = 1 << 31;

/// No stream is that long.
const JOINED: u64 = 1 << 63;

const _: () = assert!(size_of::<Found>() == 32);

/// Long enough for the ids servers mint (a UUID, a time and a random part: 59), short enough to copy.
const INLINE_LEN: usize = 62;

const _: () = assert!(size_of::<Text>() == 64);
