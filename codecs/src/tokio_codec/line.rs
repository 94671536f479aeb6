//! Lines, one by one or a block at a time.

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::{CodecError, make_room};
use crate::{
    Frame, FrameBatch, FrameError, FrameTable, Limits,
    line::{LineDecoder, LineEncodeError, LineEncoder, LineEnds},
};

/// Lines as a stream of [`Frame`]s, and frames as a sink of lines.
///
/// No allocation and no copy per frame: all frames of a block are counted references to it, and the last
/// one takes over the reference the codec held itself. Frames found but not yet asked for stay in the
/// codec, not in the read buffer; [`FramedParts`](tokio_util::codec::FramedParts) does not show them.
///
/// Writing copies the frame into tokio-util's write buffer: that is how its `Encoder` works.
///
/// # Example
///
/// ```
/// use futures::{SinkExt, StreamExt};
/// use shadowcat_codecs::{Limits, tokio_codec::LineCodec};
/// use tokio_util::codec::Framed;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (here, there) = tokio::io::duplex(64);
/// let mut here = Framed::new(here, LineCodec::new(Limits::default()));
/// let mut there = Framed::new(there, LineCodec::new(Limits::default()));
///
/// here.send(bytes::Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1}")).await?;
/// let frame = there.next().await.expect("a line was sent").unwrap();
/// assert_eq!(&frame[..], b"{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1}");
/// # Ok::<(), shadowcat_codecs::tokio_codec::CodecError<shadowcat_codecs::line::LineEncodeError>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct LineCodec {
    lines: Lines,
    /// The block whose frames are being handed out.
    batch: FrameBatch,
    /// Index in `batch` of the next frame. Invariant: `next < batch.len()`, or both are 0.
    next: usize,
}

/// Lines as a stream of [`FrameBatch`]es, one for each read that ends a line, and batches as a sink of
/// lines.
///
/// # Example
///
/// ```
/// use futures::StreamExt;
/// use shadowcat_codecs::{Limits, tokio_codec::LineBatchCodec};
/// use tokio_util::codec::FramedRead;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut batches = FramedRead::new(&b"{}\n[]\n"[..], LineBatchCodec::new(Limits::default()));
/// let batch = batches.next().await.expect("there are lines").unwrap();
/// assert_eq!(batch.iter().collect::<Vec<_>>(), [b"{}", b"[]"]);
///
/// // Optional: the next batch is built in the room of this one, without an allocation.
/// batches.decoder_mut().recycle(batch);
/// # });
/// ```
#[derive(Debug)]
pub struct LineBatchCodec {
    lines: Lines,
}

/// What both have in common.
#[derive(Debug)]
struct Lines {
    decoder: LineDecoder,
    encoder: LineEncoder,
    table: FrameTable,
}

impl LineCodec {
    /// A codec at the start of a stream. Frames with line ends inside are refused.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { lines: Lines::new(limits), batch: FrameBatch::default(), next: 0 }
    }

    /// Sets what is done with line ends inside frames that are sent.
    #[must_use]
    pub fn with_line_ends(mut self, line_ends: LineEnds) -> Self {
        self.lines.encoder = LineEncoder::new(line_ends);
        self
    }

    #[inline]
    fn next_frame(&mut self) -> Option<Frame> {
        if self.next + 1 < self.batch.len() {
            let frame = self.batch.get(self.next);
            self.next += 1;
            return frame;
        }
        let frame = self.batch.take_frame(self.next)?;
        self.lines.table.recycle(std::mem::take(&mut self.batch));
        self.next = 0;
        Some(frame)
    }

    fn start(&mut self, batch: Option<FrameBatch>) -> Option<Frame> {
        self.batch = batch?;
        self.next_frame()
    }
}

impl Decoder for LineCodec {
    type Item = Frame;
    type Error = CodecError<FrameError>;

    #[inline]
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, Self::Error> {
        if let Some(frame) = self.next_frame() {
            return Ok(Some(frame));
        }
        let batch = self.lines.decode(src)?;
        Ok(self.start(batch))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, Self::Error> {
        if let Some(frame) = self.next_frame() {
            return Ok(Some(frame));
        }
        let batch = self.lines.decode_eof(src)?;
        Ok(self.start(batch))
    }
}

impl<F: Into<Frame>> Encoder<F> for LineCodec {
    type Error = CodecError<LineEncodeError>;

    fn encode(&mut self, frame: F, dst: &mut BytesMut) -> Result<(), Self::Error> {
        self.lines.encoder.encode_into(&frame.into(), dst).map_err(CodecError::Codec)
    }
}

impl LineBatchCodec {
    /// A codec at the start of a stream. Frames with line ends inside are refused.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { lines: Lines::new(limits) }
    }

    /// Sets what is done with line ends inside frames that are sent.
    #[must_use]
    pub fn with_line_ends(mut self, line_ends: LineEnds) -> Self {
        self.lines.encoder = LineEncoder::new(line_ends);
        self
    }

    /// Takes back a batch that is no longer needed, so that the next one is built without an allocation.
    pub fn recycle(&mut self, batch: FrameBatch) {
        self.lines.table.recycle(batch);
    }
}

impl Decoder for LineBatchCodec {
    type Item = FrameBatch;
    type Error = CodecError<FrameError>;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<FrameBatch>, Self::Error> {
        self.lines.decode(src)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<FrameBatch>, Self::Error> {
        self.lines.decode_eof(src)
    }
}

/// All frames of a batch are written, or none.
impl Encoder<FrameBatch> for LineBatchCodec {
    type Error = CodecError<LineEncodeError>;

    fn encode(&mut self, batch: FrameBatch, dst: &mut BytesMut) -> Result<(), Self::Error> {
        let before = dst.len();
        let written = batch.iter().try_for_each(|frame| self.lines.encoder.encode_into(frame, dst));
        self.recycle(batch);
        written.map_err(|refused| {
            dst.truncate(before);
            CodecError::Codec(refused)
        })
    }
}

impl Lines {
    fn new(limits: Limits) -> Self {
        Self {
            decoder: LineDecoder::new(limits),
            encoder: LineEncoder::new(LineEnds::Refuse),
            table: FrameTable::new(),
        }
    }

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<FrameBatch>, CodecError<FrameError>> {
        let open = self.decoder.decode(src, &mut self.table).map_err(CodecError::Codec)?;
        let batch = open.map(|open| open.freeze());
        if batch.is_none() {
            make_room(src, self.decoder.expected(src));
        }
        Ok(batch)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<FrameBatch>, CodecError<FrameError>> {
        let open = self.decoder.finish(src, &mut self.table).map_err(CodecError::Codec)?;
        Ok(open.map(|open| open.freeze()))
    }
}

#[cfg(test)]
mod tests;
