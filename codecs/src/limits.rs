//! Every maximum of the codecs, once, with its default, its reason and its cost.
//!
//! What is not here: timeouts (there is no clock on this side) and the process-wide memory budget.

use crate::LimitError;

/// The maxima a decoder or an envelope parser holds its peer to.
///
/// # Example
///
/// ```
/// use shadowcat_codecs::Limits;
///
/// let limits = Limits::default().with_max_frame_len(1 << 20)?;
/// assert_eq!(limits.max_frame_len(), 1 << 20);
/// assert!(Limits::default().with_max_frame_len(usize::MAX).is_err());
/// # Ok::<(), shadowcat_codecs::LimitError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Invariant: `1 <= max_frame_len <= MAX_FRAME_LEN_CEILING`.
    max_frame_len: u32,
    max_field_len: u16,
    max_depth: u32,
    max_id_len: u32,
    max_batch_len: u32,
}

impl Limits {
    /// Longest frame (line without its line end, data of one SSE event), in bytes. Default: 64 MiB,
    /// because users of other proxies run into hidden limits of 1 to 4 MiB.
    ///
    /// Cost: a decoder may hold `max_frame_len + 1` bytes of one unfinished frame.
    #[must_use]
    pub fn max_frame_len(&self) -> usize {
        self.max_frame_len as usize
    }

    /// Longest type and longest id of one SSE event, in bytes. Default: 4 KiB, because a client sends the
    /// last event id back in an HTTP header.
    ///
    /// Cost: a decoder keeps a copy of the last event id and of the type of an unfinished event.
    #[must_use]
    pub fn max_field_len(&self) -> usize {
        usize::from(self.max_field_len)
    }

    /// Deepest nesting of JSON arrays and objects that an envelope parser follows. Default: 1024.
    #[must_use]
    pub fn max_depth(&self) -> usize {
        self.max_depth as usize
    }

    /// As [`max_depth`](Self::max_depth), as it goes into errors.
    pub(crate) const fn max_depth_u32(&self) -> u32 {
        self.max_depth
    }

    /// Longest raw text of a JSON-RPC id, in bytes, quotes included. Default: 1 KiB.
    ///
    /// Cost: a pending request keeps a copy of its id.
    #[must_use]
    pub fn max_id_len(&self) -> usize {
        self.max_id_len as usize
    }

    /// Most elements of one JSON-RPC batch. Default: 256.
    #[must_use]
    pub fn max_batch_len(&self) -> usize {
        self.max_batch_len as usize
    }

    /// Sets [`max_frame_len`](Self::max_frame_len).
    ///
    /// # Errors
    ///
    /// Refuses 0 and everything above `u32::MAX - 64`: spans are pairs of `u32`, and the parser wants
    /// 64 bytes of padding behind a frame.
    pub fn with_max_frame_len(mut self, bytes: usize) -> Result<Self, LimitError> {
        self.max_frame_len = u32::try_from(bytes)
            .ok()
            .filter(|len| (1..=MAX_FRAME_LEN_CEILING).contains(len))
            .ok_or(LimitError::MaxFrameLen { asked: bytes, ceiling: MAX_FRAME_LEN_CEILING as usize })?;
        Ok(self)
    }

    /// Sets [`max_field_len`](Self::max_field_len).
    #[must_use]
    pub fn with_max_field_len(mut self, bytes: u16) -> Self {
        self.max_field_len = bytes;
        self
    }

    /// Sets [`max_depth`](Self::max_depth).
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.max_depth = levels;
        self
    }

    /// Sets [`max_id_len`](Self::max_id_len).
    #[must_use]
    pub fn with_max_id_len(mut self, bytes: u32) -> Self {
        self.max_id_len = bytes;
        self
    }

    /// Sets [`max_batch_len`](Self::max_batch_len).
    #[must_use]
    pub fn with_max_batch_len(mut self, elements: u32) -> Self {
        self.max_batch_len = elements;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_len: 64 << 20,
            max_field_len: 4 << 10,
            max_depth: 1024,
            max_id_len: 1 << 10,
            max_batch_len: 256,
        }
    }
}

/// A span's end plus the parser's padding must fit in `u32`.
#[expect(clippy::cast_possible_truncation, reason = "PADDING is 64")]
const MAX_FRAME_LEN_CEILING: u32 = u32::MAX - crate::PADDING as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_limit_is_refused_outside_its_range() {
        let ceiling = MAX_FRAME_LEN_CEILING as usize;
        assert!(Limits::default().with_max_frame_len(1).is_ok());
        assert!(Limits::default().with_max_frame_len(ceiling).is_ok());
        assert_eq!(
            Limits::default().with_max_frame_len(ceiling + 1),
            Err(LimitError::MaxFrameLen { asked: ceiling + 1, ceiling })
        );
        assert_eq!(Limits::default().with_max_frame_len(0), Err(LimitError::MaxFrameLen { asked: 0, ceiling }));
    }
}
