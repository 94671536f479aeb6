//! Events, one by one or a block at a time.

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::{CodecError, make_room};
use crate::{
    FrameError, Limits,
    sse::{Event, EventBatch, EventTable, SseDecoder, SseEncodeError, SseEncoder},
};

/// An event stream as a stream of [`Event`]s, and events as a sink of their bytes.
///
/// No allocation and no copy of data per event: all events of a block are counted references to it, and the
/// last one takes over the reference the codec held itself. Events found but not yet asked for stay in
/// the codec, not in the read buffer.
///
/// Writing copies the event into tokio-util's write buffer: that is how its `Encoder` works.
///
/// # Cancel safety
///
/// Nothing is lost when a future that waits for the next event is dropped: what was read stays in the
/// `FramedRead` and in the codec.
///
/// # Example
///
/// The token stream of a language model, until its last event says that it is done:
///
/// ```
/// use futures::StreamExt;
/// use shadowcat_codecs::{Limits, tokio_codec::SseCodec};
/// use tokio_util::codec::FramedRead;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let connection = &b"data: {\"token\":\"Hel\"}\n\ndata: {\"token\":\"lo\"}\n\ndata: [DONE]\n\n"[..];
/// let mut events = FramedRead::new(connection, SseCodec::new(Limits::default()));
/// let mut tokens = Vec::new();
/// while let Some(event) = events.next().await {
///     let event = event?;
///     if event.data() == b"[DONE]" {
///         break;
///     }
///     tokens.push(event.data_text().into_owned());
/// }
/// assert_eq!(tokens, ["{\"token\":\"Hel\"}", "{\"token\":\"lo\"}"]);
/// # Ok::<(), shadowcat_codecs::tokio_codec::CodecError<shadowcat_codecs::FrameError>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct SseCodec {
    events: Events,
    /// The block whose events are being handed out.
    batch: EventBatch,
    /// Index in `batch` of the next event. Invariant: `next < batch.len()`, or both are 0.
    next: usize,
}

/// An event stream as a stream of [`EventBatch`]es, one for each read that ends an event.
///
/// # Example
///
/// ```
/// use futures::StreamExt;
/// use shadowcat_codecs::{Limits, tokio_codec::SseBatchCodec};
/// use tokio_util::codec::FramedRead;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut batches = FramedRead::new(&b"data: 1\n\ndata: 2\n\n"[..], SseBatchCodec::new(Limits::default()));
/// let batch = batches.next().await.expect("there are events").unwrap();
/// assert_eq!(batch.iter().map(|event| event.data()).collect::<Vec<_>>(), [b"1", b"2"]);
///
/// // Optional: the next batch is built in the room of this one, without an allocation.
/// batches.decoder_mut().recycle(batch);
/// # });
/// ```
#[derive(Debug)]
pub struct SseBatchCodec {
    events: Events,
}

/// What both have in common.
#[derive(Debug)]
struct Events {
    decoder: SseDecoder,
    table: EventTable,
}

impl SseCodec {
    /// A codec at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { events: Events::new(limits), batch: EventBatch::default(), next: 0 }
    }

    /// The decoder, which knows the last event id and the reconnection time of what was *read*, ahead of
    /// the events that were asked for.
    #[must_use]
    pub const fn decoder(&self) -> &SseDecoder {
        &self.events.decoder
    }

    #[inline]
    fn next_event(&mut self) -> Option<Event> {
        let event = self.batch.take(self.next)?;
        self.next += 1;
        if self.batch.is_empty() {
            self.events.table.recycle(std::mem::take(&mut self.batch));
            self.next = 0;
        }
        Some(event)
    }

    fn start(&mut self, batch: Option<EventBatch>) -> Option<Event> {
        self.batch = batch?;
        self.next_event()
    }
}

impl Decoder for SseCodec {
    type Item = Event;
    type Error = CodecError<FrameError>;

    #[inline]
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Event>, Self::Error> {
        if let Some(event) = self.next_event() {
            return Ok(Some(event));
        }
        let batch = self.events.decode(src)?;
        Ok(self.start(batch))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Event>, Self::Error> {
        if let Some(event) = self.next_event() {
            return Ok(Some(event));
        }
        let batch = self.events.decode_eof(src)?;
        Ok(self.start(batch))
    }
}

impl Encoder<Event> for SseCodec {
    type Error = CodecError<SseEncodeError>;

    fn encode(&mut self, event: Event, dst: &mut BytesMut) -> Result<(), Self::Error> {
        SseEncoder::new().encode_into(&event, dst);
        Ok(())
    }
}

impl SseBatchCodec {
    /// A codec at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { events: Events::new(limits) }
    }

    /// The decoder, which knows the last event id and the reconnection time.
    #[must_use]
    pub const fn decoder(&self) -> &SseDecoder {
        &self.events.decoder
    }

    /// Takes back a batch that is no longer needed, so that the next one is built without an allocation.
    pub fn recycle(&mut self, batch: EventBatch) {
        self.events.table.recycle(batch);
    }
}

impl Decoder for SseBatchCodec {
    type Item = EventBatch;
    type Error = CodecError<FrameError>;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<EventBatch>, Self::Error> {
        self.events.decode(src)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<EventBatch>, Self::Error> {
        self.events.decode_eof(src)
    }
}

impl Events {
    fn new(limits: Limits) -> Self {
        Self { decoder: SseDecoder::new(limits), table: EventTable::new() }
    }

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<EventBatch>, CodecError<FrameError>> {
        let batch = self.decoder.decode(src, &mut self.table).map_err(CodecError::Codec)?;
        if batch.is_none() {
            make_room(src, 0);
        }
        Ok(batch)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<EventBatch>, CodecError<FrameError>> {
        self.decoder.finish(src, &mut self.table).map_err(CodecError::Codec)
    }
}

#[cfg(test)]
mod tests;
