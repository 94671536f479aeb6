//! Why a frame has no envelope: pure, `Copy`, with its offset inside and never a byte of payload.

/// Why a frame was refused.
///
/// `at` is an offset in the frame. What is reported is the first thing wrong in the frame's own order,
/// whatever its size and however it was cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8 at byte {at}")]
    InvalidUtf8 {
        /// Start of the first sequence that is not a character.
        at: u32,
    },
    /// A string holds a byte below 0x20, which JSON wants escaped.
    #[error("control byte in a string at byte {at}")]
    ControlByte {
        /// Offset of that byte.
        at: u32,
    },
    /// A byte that JSON does not allow there.
    #[error("unexpected byte at {at}")]
    Unexpected {
        /// Offset of that byte.
        at: u32,
    },
    /// The frame ends inside its value, or has none.
    #[error("message ends inside a value, after {at} bytes")]
    Unfinished {
        /// The frame's length.
        at: u32,
    },
    /// Something follows the value. A second value would ride behind the first.
    #[error("trailing data at byte {at}")]
    TrailingData {
        /// Offset of the first byte behind the value that is not white space.
        at: u32,
    },
    /// A key that decides where a message goes is there twice, in whatever spelling. Parsers disagree on
    /// which one counts, so a message like that can mean one thing to a proxy and another to its peer.
    #[error("duplicate routing key at byte {at}")]
    DuplicateKey {
        /// Offset of the second key's opening quote.
        at: u32,
    },
    /// Arrays and objects are nested deeper than the limit.
    #[error("nesting at byte {at} is deeper than the limit of {limit} levels")]
    TooDeep {
        /// The limit, in levels.
        limit: u32,
        /// Offset of the bracket that is too deep.
        at: u32,
    },
    /// An id or token is longer than the limit.
    #[error("id at byte {at} is longer than the limit of {limit} bytes")]
    IdTooLong {
        /// The limit, in bytes, quotes included.
        limit: u32,
        /// Offset of the id's first byte.
        at: u32,
    },
    /// A batch has more elements than the limit.
    #[error("batch has an element at byte {at} that is over the limit of {limit} elements")]
    BatchTooLong {
        /// The limit, in elements.
        limit: u32,
        /// Offset of the first element that is too many.
        at: u32,
    },
    /// The frame is longer than the limit.
    #[error("message is longer than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u32,
    },
    /// The whole-frame parser of [`Strictness::Strict`](super::Strictness::Strict) refuses what
    /// [`Strictness::Envelope`](super::Strictness::Envelope) lets pass.
    #[error("not strictly valid JSON near byte {at}")]
    NotStrict {
        /// Where the parser noticed.
        at: u32,
    },
}

impl EnvelopeError {
    /// Offset in the frame of what is wrong.
    #[must_use]
    pub const fn at(self) -> usize {
        match self {
            Self::InvalidUtf8 { at }
            | Self::ControlByte { at }
            | Self::Unexpected { at }
            | Self::Unfinished { at }
            | Self::TrailingData { at }
            | Self::DuplicateKey { at }
            | Self::TooDeep { at, .. }
            | Self::IdTooLong { at, .. }
            | Self::BatchTooLong { at, .. }
            | Self::TooLarge { limit: at }
            | Self::NotStrict { at } => at as usize,
        }
    }

    /// Whether the frame is not JSON, as opposed to JSON that breaks a limit or a rule of ours.
    #[must_use]
    pub const fn is_syntax(self) -> bool {
        matches!(
            self,
            Self::InvalidUtf8 { .. }
                | Self::ControlByte { .. }
                | Self::Unexpected { .. }
                | Self::Unfinished { .. }
                | Self::TrailingData { .. }
                | Self::NotStrict { .. }
        )
    }
}

const _: () = assert!(size_of::<EnvelopeError>() <= 12, "errors travel in results on the hot path");
