//! What can be wrong with a stream or a limit: pure, `Copy`, with the numbers inside.
//!
//! An error holds only what the stream itself determines (limits, absolute offsets), never anything
//! that depends on how reads were cut, and never payload bytes. The errors of the envelope are in
//! [`crate::envelope`], those of SSE in [`crate::sse`].

/// Why a byte stream could not be cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than the limit. Reported once; the rest of the frame is skipped and the
    /// next one is whole, so a decoder can go on after this error.
    #[error("message at byte {at} is longer than the limit of {limit} bytes")]
    MessageTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Offset in the stream of the frame's first byte.
        at: u64,
    },
}

const _: () = assert!(size_of::<FrameError>() <= 24, "errors travel in results on the hot path");

/// A limit that cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// `max_frame_len` must leave room for spans of `u32` and the parser's padding.
    #[error("max_frame_len must be between 1 and {ceiling} bytes, not {asked}")]
    MaxFrameLen {
        /// What was asked for.
        asked: usize,
        /// The largest possible value.
        ceiling: usize,
    },
}
