//! Events and lines into sinks of bytes.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::StreamError;
use crate::{
    Frame,
    line::{LINE_END, LineEncodeError, LineEncoder, LineEnds},
    sse::{Event, SseEncoder},
};

pin_project! {
    /// Writes events into a `Sink` of [`Bytes`]. What is written between two events, a
    /// [`KEEP_ALIVE`](crate::sse::KEEP_ALIVE) for example, goes straight into the sink inside.
    ///
    /// Small events become one piece (a named copy); of larger ones the data is not copied.
    ///
    /// # Example
    ///
    /// ```
    /// use bytes::Bytes;
    /// use futures::{SinkExt, sink};
    /// use shadowcat_codecs::{sse::Event, stream::EventSink};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let mut sent: Vec<Bytes> = Vec::new();
    /// EventSink::new(&mut sent).send(Event::new(Bytes::from_static(b"a\nb"))).await?;
    /// assert_eq!(sent, [&b"data: a\ndata: b\n\n"[..]]);
    /// # Ok::<(), std::convert::Infallible>(())
    /// # }).unwrap();
    /// ```
    #[derive(Debug)]
    pub struct EventSink<S> {
        #[pin]
        queue: Queue<S>,
        encoder: SseEncoder,
        scratch: BytesMut,
    }
}

pin_project! {
    /// Writes frames into a `Sink` of [`Bytes`], a line each, in two pieces: the frame and its line end.
    #[derive(Debug)]
    pub struct LineSink<S> {
        #[pin]
        queue: Queue<S>,
        encoder: LineEncoder,
    }
}

pin_project! {
    /// A sink and what it has not taken yet.
    #[derive(Debug)]
    struct Queue<S> {
        #[pin]
        sink: S,
        // Invariant: the pieces of one item at most, because nothing is accepted before they are gone.
        pieces: VecDeque<Bytes>,
    }
}

impl<S> EventSink<S> {
    /// Writes into `sink`.
    #[must_use]
    pub fn new(sink: S) -> Self {
        Self { queue: Queue::new(sink), encoder: SseEncoder::new(), scratch: BytesMut::new() }
    }

    /// The sink inside. Events that were accepted but not flushed are lost.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.queue.sink
    }
}

impl<S: Sink<Bytes>> Sink<Event> for EventSink<S> {
    type Error = S::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.project().queue.poll_empty(cx)
    }

    fn start_send(self: Pin<&mut Self>, event: Event) -> Result<(), S::Error> {
        let this = self.project();
        let pieces = this.queue.project().pieces;
        if event.data().len() <= FLATTEN_LEN {
            this.encoder.encode_into(&event, this.scratch);
            pieces.push_back(this.scratch.split().freeze());
        } else {
            pieces.extend(this.encoder.encode(event).into_pieces());
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.project().queue.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.project().queue.poll_close(cx)
    }
}

impl<S> LineSink<S> {
    /// Writes into `sink`, treating line ends inside frames as `line_ends` says.
    #[must_use]
    pub fn new(sink: S, line_ends: LineEnds) -> Self {
        Self { queue: Queue::new(sink), encoder: LineEncoder::new(line_ends) }
    }

    /// The sink inside. Frames that were accepted but not flushed are lost.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.queue.sink
    }
}

/// A frame that is refused is not written, and the sink goes on.
impl<S: Sink<Bytes>> Sink<Frame> for LineSink<S> {
    type Error = StreamError<S::Error, LineEncodeError>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.project().queue.poll_empty(cx).map_err(StreamError::Stream)
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        let this = self.project();
        let line = this.encoder.encode(frame).map_err(StreamError::Codec)?;
        this.queue.project().pieces.extend([line.into_frame().into_bytes(), Bytes::from_static(LINE_END)]);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.project().queue.poll_flush(cx).map_err(StreamError::Stream)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.project().queue.poll_close(cx).map_err(StreamError::Stream)
    }
}

impl<S> Queue<S> {
    const fn new(sink: S) -> Self {
        Self { sink, pieces: VecDeque::new() }
    }
}

impl<S: Sink<Bytes>> Queue<S> {
    fn poll_empty(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let mut this = self.project();
        while !this.pieces.is_empty() {
            ready!(this.sink.as_mut().poll_ready(cx))?;
            if let Some(piece) = this.pieces.pop_front() {
                this.sink.as_mut().start_send(piece)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.as_mut().poll_empty(cx))?;
        self.project().sink.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.as_mut().poll_empty(cx))?;
        self.project().sink.poll_close(cx)
    }
}

/// An event with less data than this is sent as one piece: copying it costs less than what is done for
/// each piece behind the sink.
const FLATTEN_LEN: usize = 2 << 10;
