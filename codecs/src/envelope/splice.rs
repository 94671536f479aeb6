//! Other bytes for an id, a token or a subscription id: the only change to a payload a proxy may make.
//!
//! Nothing is rebuilt and nothing moves: what leaves is the frame's own bytes around the replacement, as
//! slices for a vectored write. The frame is kept whole, so the original bytes are always at hand.
//!
//! ```text
//!   {"jsonrpc":"2.0","id":"abc","method":"ping"}        the frame, shared
//!   {"jsonrpc":"2.0","id":| 17 |,"method":"ping"}       three slices
//! ```

use bytes::Bytes;

use super::token;
use crate::{Frame, Span};

/// A frame in which the bytes of up to [`MAX_SPLICES`] ids or tokens are replaced.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use shadowcat_codecs::{Frame, Limits, envelope::{EnvelopeParser, Replacement, Splice}};
///
/// let frame = Frame::new(Bytes::from_static(br#"{"id":"abc","method":"ping"}"#));
/// let id = EnvelopeParser::new(Limits::default()).parse(&frame)?.id().expect("there is an id");
///
/// let mut splice = Splice::new(frame);
/// splice.replace(id, Replacement::from(17))?;
/// assert_eq!(splice.slices().collect::<Vec<_>>(), [&br#"{"id":"#[..], b"17", br#","method":"ping"}"#]);
/// assert_eq!(id.of(splice.original()), br#""abc""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Splice {
    frame: Frame,
    /// Invariant: the first `count` are there, ascending, disjoint, inside the frame; the others are not.
    edits: [Option<Edit>; MAX_SPLICES],
    count: usize,
}

#[derive(Debug, Clone)]
struct Edit {
    span: Span,
    with: Replacement,
}

/// What may stand in for an id: one JSON number or string.
#[derive(Debug, Clone)]
pub struct Replacement(Text);

#[derive(Debug, Clone)]
enum Text {
    /// Digits, the first `len` of them. Invariant: `1 <= len <= 20`.
    Digits {
        digits: [u8; 20],
        len: usize,
    },
    Raw(Bytes),
}

/// Why bytes cannot be spliced in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceError {
    /// The replacement is not one JSON number or string.
    #[error("an id can only be replaced by one JSON number or string")]
    NotAToken,
    /// What is to be replaced is not one JSON number or string of the frame.
    #[error("there is no id or token at bytes {start} to {end}")]
    NotAnId {
        /// Offset of the first byte.
        start: usize,
        /// Offset behind the last byte.
        end: usize,
    },
    /// It overlaps what was replaced before.
    #[error("bytes at {start} are replaced already")]
    Overlap {
        /// Offset of the first byte.
        start: usize,
    },
    /// There is nothing in a message that wants so many.
    #[error("more than {limit} replacements in one message")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl Replacement {
    /// Raw JSON text, quotes included, as it was found in another frame.
    ///
    /// # Errors
    ///
    /// If it is not one JSON number or string.
    pub fn raw(text: Bytes) -> Result<Self, SpliceError> {
        if !token::is_number_or_string(&text) {
            return Err(SpliceError::NotAToken);
        }
        Ok(Self(Text::Raw(text)))
    }

    /// The bytes that will stand in the message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Digits { digits, len } => digits.get(..*len).unwrap_or_default(),
            Text::Raw(text) => text,
        }
    }
}

impl From<u64> for Replacement {
    /// An integer, without an allocation.
    fn from(mut number: u64) -> Self {
        let mut backwards = [0; 20];
        let mut len = 0;
        for slot in &mut backwards {
            let digit = (number % 10) as u8;
            *slot = b'0' + digit;
            len += 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let mut digits = [0; 20];
        for (to, &from) in digits.iter_mut().zip(backwards.iter().take(len).rev()) {
            *to = from;
        }
        Self(Text::Digits { digits, len })
    }
}

impl Splice {
    /// Nothing replaced yet.
    #[must_use]
    pub const fn new(frame: Frame) -> Self {
        Self { frame, edits: [const { None }; MAX_SPLICES], count: 0 }
    }

    /// Replaces the raw text at `span`, an id or token of the frame's [`Envelope`](super::Envelope), quotes
    /// included.
    ///
    /// # Errors
    ///
    /// If `span` is none, or was replaced already. Nothing is changed then.
    pub fn replace(&mut self, span: Span, with: Replacement) -> Result<(), SpliceError> {
        if self.count == MAX_SPLICES {
            return Err(SpliceError::TooMany { limit: MAX_SPLICES });
        }
        if !token::is_number_or_string(span.of(&self.frame)) {
            return Err(SpliceError::NotAnId { start: span.start(), end: span.end() });
        }
        let edits = self.edits.iter().flatten();
        if edits.clone().any(|edit| edit.span.start() < span.end() && span.start() < edit.span.end()) {
            return Err(SpliceError::Overlap { start: span.start() });
        }
        let index = edits.filter(|edit| edit.span.start() < span.start()).count();
        if let Some(behind) = self.edits.get_mut(index..=self.count) {
            behind.rotate_right(1);
            if let Some(first) = behind.first_mut() {
                *first = Some(Edit { span, with });
            }
        }
        self.count += 1;
        Ok(())
    }

    /// What to write, in order: one slice more than twice the replacements. None is copied.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.edits().map(|edit| edit.span.end()));
        let ends = self.edits().map(|edit| (edit.span.start(), edit.with.as_bytes()));
        let last = (self.frame.len(), &[][..]);
        starts.zip(ends.chain([last])).flat_map(|(start, (end, with))| {
            let is_last = end == self.frame.len();
            let kept = self.frame.get(start..end).unwrap_or_default();
            std::iter::once(kept).chain((!is_last).then_some(with))
        })
    }

    /// Number of bytes in all slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edits().fold(self.frame.len(), |len, edit| len - edit.span.len() + edit.with.as_bytes().len())
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame as it came.
    #[must_use]
    pub const fn original(&self) -> &Frame {
        &self.frame
    }

    /// The frame as it came, the replacements forgotten.
    #[must_use]
    pub fn into_original(self) -> Frame {
        self.frame
    }

    fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.edits.iter().flatten()
    }
}

/// Id, progress token and subscription id, and one to spare.
pub const MAX_SPLICES: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(splice: &Splice) -> Vec<u8> {
        let bytes = splice.slices().collect::<Vec<_>>().concat();
        assert_eq!(bytes.len(), splice.len());
        bytes
    }

    fn found(frame: &[u8], part: &str) -> Span {
        let at = std::str::from_utf8(frame).unwrap().find(part).unwrap();
        Span::new(u32::try_from(at).unwrap(), u32::try_from(at + part.len()).unwrap())
    }

    #[test]
    fn replacements_land_in_frame_order() {
        let text: &'static [u8] = br#"{"id":"a","params":{"_meta":{"progressToken":7}},"x":null}"#;
        let mut splice = Splice::new(Frame::new(Bytes::from_static(text)));
        splice.replace(found(text, "7"), Replacement::raw(Bytes::from_static(b"\"t\"")).unwrap()).unwrap();
        splice.replace(found(text, "\"a\""), Replacement::from(u64::MAX)).unwrap();
        assert_eq!(splice.slices().count(), 5);
        assert_eq!(
            written(&splice),
            br#"{"id":18446744073709551615,"params":{"_meta":{"progressToken":"t"}},"x":null}"#
        );
        assert_eq!(splice.into_original()[..], *text);
    }

    #[test]
    fn only_whole_tokens_are_replaced_once() {
        let text: &'static [u8] = br#"{"id":"a","x":null}"#;
        let mut splice = Splice::new(Frame::new(Bytes::from_static(text)));
        for part in ["\"a", "a", "null", "{", "\"id\":\"a\""] {
            let span = found(text, part);
            let refused = SpliceError::NotAnId { start: span.start(), end: span.end() };
            assert_eq!(splice.replace(span, Replacement::from(1)), Err(refused), "{part}");
        }
        assert_eq!(splice.replace(found(text, "\"a\""), Replacement::from(1)), Ok(()));
        assert_eq!(splice.replace(found(text, "\"a\""), Replacement::from(2)), Err(SpliceError::Overlap { start: 6 }));
        for no_token in ["", "null", "1 ", "01", "\"", "\"a\"b\"", "\"\n\"", "{}", "1,2"] {
            let refused = Replacement::raw(Bytes::copy_from_slice(no_token.as_bytes())).err();
            assert_eq!(refused, Some(SpliceError::NotAToken), "{no_token}");
        }
    }

    #[test]
    fn numbers_are_written_as_decimals() {
        for number in [0, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(Replacement::from(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn splicing_there_and_back_is_nothing(before in "[a-z\"{:, ]{0,9}", id in "[1-9][0-9]{0,30}|\"[a-z ]{0,9}\"", behind in "[a-z\"},]{0,9}", minted: u64) {
            let text = Bytes::from(format!("{before}{id}{behind}"));
            let start = u32::try_from(before.len()).unwrap();
            let span = Span::new(start, start + u32::try_from(id.len()).unwrap());
            let mut there = Splice::new(Frame::new(text.clone()));
            there.replace(span, Replacement::from(minted)).unwrap();
            let minted = minted.to_string();
            prop_assert_eq!(written(&there), format!("{before}{minted}{behind}").into_bytes());
            let mut back = Splice::new(Frame::new(Bytes::from(written(&there))));
            let span = Span::new(start, start + u32::try_from(minted.len()).unwrap());
            back.replace(span, Replacement::raw(text.slice(before.len()..before.len() + id.len())).unwrap()).unwrap();
            prop_assert_eq!(written(&back), text);
        }
    }
}
