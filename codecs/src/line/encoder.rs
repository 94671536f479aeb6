//! Frames as lines: one frame in, one line out, whatever the frame holds.

use bytes::{Bytes, BytesMut};

use crate::Frame;

/// Writes frames as lines.
///
/// A frame that holds an LF would become two, one that ends in CR would lose it. In valid JSON such
/// bytes are only white space between tokens, so where JSON was checked they may be
/// [blanked](LineEnds::Blank), [also where a line could hold them](LineEnds::BlankAlways); elsewhere they
/// are [refused](LineEnds::Refuse).
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use shadowcat_codecs::line::{LineEncoder, LineEnds};
///
/// let line = LineEncoder::new(LineEnds::Blank).encode(Bytes::from_static(b"{\n}").into())?;
/// assert_eq!(line.slices(), [&b"{ }"[..], b"\n"]);
/// # Ok::<(), shadowcat_codecs::line::LineEncodeError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LineEncoder {
    line_ends: LineEnds,
}

/// What to do with line ends inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else one could do")]
pub enum LineEnds {
    /// In a frame that cannot be written as it is, each CR and LF becomes a space. Only right for frames
    /// known to be JSON. What came as a line leaves as it came: a CR inside it stays.
    Blank,
    /// In every frame, each CR and LF becomes a space, also a CR alone in the middle, which a line could
    /// hold, but which readers that split at every kind of line end would take for one. For frames that
    /// were no lines before: bodies, data of events. Only right for frames known to be JSON.
    BlankAlways,
    /// A frame with an LF, or with a CR at its end, is an error.
    Refuse,
}

/// One frame and its line end, as slices to write.
#[derive(Debug, Clone)]
pub struct EncodedLine {
    frame: Frame,
}

/// How a frame can be written as one line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    AsItIs,
    /// With its line ends blanked.
    Blanked,
}

/// Why a frame cannot be a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineEncodeError {
    /// An empty line is no message: a decoder skips it.
    #[error("an empty message cannot be sent as a line")]
    Empty,
    /// The frame has a line end inside.
    #[error("a message with a line end at byte {at} cannot be sent as one line")]
    LineEnd {
        /// Offset in the frame of the first such byte.
        at: usize,
    },
}

impl LineEncoder {
    /// An encoder that treats line ends inside frames as `line_ends` says.
    #[must_use]
    pub const fn new(line_ends: LineEnds) -> Self {
        Self { line_ends }
    }

    /// The slices to write for `frame`. No copy, unless line ends have to be blanked in a frame that is
    /// shared.
    ///
    /// # Errors
    ///
    /// If the frame is empty, or has line ends that may not be blanked.
    pub fn encode(&self, frame: Frame) -> Result<EncodedLine, LineEncodeError> {
        Ok(match self.inspect(&frame)? {
            Fit::AsItIs => EncodedLine { frame },
            Fit::Blanked => EncodedLine { frame: blanked(frame) },
        })
    }

    /// Appends `frame` and its line end to `dst`: a copy of the frame, for whoever gathers small frames
    /// in one write.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode); `dst` is as it was then.
    pub fn encode_into(&self, frame: &[u8], dst: &mut BytesMut) -> Result<(), LineEncodeError> {
        let fit = self.inspect(frame)?;
        let start = dst.len();
        dst.reserve(frame.len() + LINE_END.len());
        dst.extend_from_slice(frame);
        if fit == Fit::Blanked {
            blank(dst.get_mut(start..).unwrap_or_default());
        }
        dst.extend_from_slice(LINE_END);
        Ok(())
    }

    fn inspect(&self, frame: &[u8]) -> Result<Fit, LineEncodeError> {
        let Some(last) = frame.len().checked_sub(1) else {
            return Err(LineEncodeError::Empty);
        };
        let found = match self.line_ends {
            LineEnds::BlankAlways => memchr::memchr2(b'\n', b'\r', frame),
            LineEnds::Blank | LineEnds::Refuse => {
                memchr::memchr(b'\n', frame).or_else(|| frame.ends_with(b"\r").then_some(last))
            }
        };
        match (found, self.line_ends) {
            (None, _) => Ok(Fit::AsItIs),
            (Some(at), LineEnds::Refuse) => Err(LineEncodeError::LineEnd { at }),
            (Some(_), LineEnds::Blank | LineEnds::BlankAlways) => Ok(Fit::Blanked),
        }
    }
}

impl EncodedLine {
    /// What to write, in order.
    #[must_use]
    pub fn slices(&self) -> [&[u8]; 2] {
        [&self.frame, LINE_END]
    }

    /// Number of bytes in all slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frame.len() + LINE_END.len()
    }

    /// Never: a line has at least its line end.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The frame as it will be written, without the line end.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        self.frame
    }
}

/// A named copy, unless the frame's bytes belong to nobody else.
#[cold]
fn blanked(frame: Frame) -> Frame {
    let mut bytes = match frame.into_bytes().try_into_mut() {
        Ok(bytes) => bytes,
        Err(shared) => BytesMut::from(&shared[..]),
    };
    blank(&mut bytes);
    Frame::new(Bytes::from(bytes))
}

#[cold]
fn blank(frame: &mut [u8]) {
    for byte in frame {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// The line end we write.
pub const LINE_END: &[u8] = b"\n";
