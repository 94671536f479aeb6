//! Event streams out of streams of bodies.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::StreamError;
use crate::{
    Limits,
    sse::{Event, EventBatch, EventTable, SseDecoder},
};

pin_project! {
    /// An event stream as a `Stream` of [`EventBatch`]es, one for each body that ends an event.
    ///
    /// Bodies are read where they are: see [`SseDecoder::push`] for what is copied.
    ///
    /// # Cancel safety
    ///
    /// Yes: what was read is kept.
    #[derive(Debug)]
    pub struct EventBatches<S> {
        #[pin]
        bodies: S,
        decoder: SseDecoder,
        table: EventTable,
        // What is left of the latest body.
        body: Bytes,
        ended: bool,
    }
}

pin_project! {
    /// An event stream as a `Stream` of [`Event`]s.
    ///
    /// # Cancel safety
    ///
    /// Yes: what was read is kept.
    ///
    /// # Example
    ///
    /// The answer of a language model, token by token, with the error of the connection kept:
    ///
    /// ```
    /// use std::io;
    ///
    /// use bytes::Bytes;
    /// use futures::{StreamExt, stream};
    /// use shadowcat_codecs::{Limits, stream::{Events, StreamError}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let body = stream::iter([
    ///     Ok(Bytes::from_static(b"data: {\"token\":\"Hel")),
    ///     Ok(Bytes::from_static(b"\"}\n\ndata: {\"token\":\"lo\"}\n\n")),
    ///     Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    /// ]);
    /// let mut events = Events::new(body, Limits::default());
    ///
    /// assert_eq!(events.next().await.unwrap().unwrap().data(), b"{\"token\":\"Hel\"}");
    /// assert_eq!(events.next().await.unwrap().unwrap().data(), b"{\"token\":\"lo\"}");
    /// let Some(Err(StreamError::Stream(error))) = events.next().await else { panic!("it broke") };
    /// assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    /// assert!(events.next().await.is_none());
    /// # });
    /// ```
    #[derive(Debug)]
    pub struct Events<S> {
        #[pin]
        batches: EventBatches<S>,
        // The batch whose events are being handed out.
        batch: EventBatch,
        // Index in `batch` of the next event. Invariant: `next < batch.len()`, or both are 0.
        next: usize,
    }
}

impl<S> EventBatches<S> {
    /// Reads `bodies`, a stream of the bytes of one event stream.
    #[must_use]
    pub fn new(bodies: S, limits: Limits) -> Self {
        let decoder = SseDecoder::new(limits);
        Self { bodies, decoder, table: EventTable::new(), body: Bytes::new(), ended: false }
    }

    /// The decoder, which knows the last event id and the reconnection time.
    #[must_use]
    pub const fn decoder(&self) -> &SseDecoder {
        &self.decoder
    }

    /// Takes back a batch that is no longer needed, so that the next one is built without an allocation.
    pub fn recycle(self: Pin<&mut Self>, batch: EventBatch) {
        self.project().table.recycle(batch);
    }
}

impl<S, E> Stream for EventBatches<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<EventBatch, StreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(found) = this.decoder.push(this.body, this.table).transpose() {
                return Poll::Ready(Some(found.map_err(StreamError::Codec)));
            }
            if *this.ended {
                return Poll::Ready(None);
            }
            match ready!(this.bodies.as_mut().poll_next(cx)) {
                Some(Ok(body)) => *this.body = body,
                Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::Stream(error)))),
                None => *this.ended = true,
            }
        }
    }
}

impl<S, E> FusedStream for EventBatches<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S> Events<S> {
    /// Reads `bodies`, a stream of the bytes of one event stream.
    #[must_use]
    pub fn new(bodies: S, limits: Limits) -> Self {
        Self { batches: EventBatches::new(bodies, limits), batch: EventBatch::default(), next: 0 }
    }

    /// The decoder, which knows the last event id and the reconnection time of what was *read*, ahead of
    /// the events that were asked for.
    #[must_use]
    pub const fn decoder(&self) -> &SseDecoder {
        self.batches.decoder()
    }
}

impl<S, E> Stream for Events<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<Event, StreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(event) = this.batch.take(*this.next) {
                *this.next += 1;
                return Poll::Ready(Some(Ok(event)));
            }
            *this.next = 0;
            this.batches.as_mut().recycle(std::mem::take(this.batch));
            match ready!(this.batches.as_mut().poll_next(cx)) {
                Some(Ok(batch)) => *this.batch = batch,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<S, E> FusedStream for Events<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    fn is_terminated(&self) -> bool {
        self.batch.is_empty() && self.batches.is_terminated()
    }
}
