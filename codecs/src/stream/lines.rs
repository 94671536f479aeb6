//! Lines out of streams of bodies.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::StreamError;
use crate::{Frame, FrameBatch, FrameError, FrameTable, Limits, line::LineDecoder};

pin_project! {
    /// Lines as a `Stream` of [`FrameBatch`]es, one for each body that ends a line.
    ///
    /// A body that nobody else holds is read where it is; others are copied into a buffer.
    ///
    /// # Cancel safety
    ///
    /// Yes: what was read is kept.
    #[derive(Debug)]
    pub struct LineBatches<S> {
        #[pin]
        bodies: S,
        decoder: LineDecoder,
        table: FrameTable,
        src: BytesMut,
        ended: bool,
    }
}

pin_project! {
    /// Lines as a `Stream` of [`Frame`]s.
    ///
    /// # Cancel safety
    ///
    /// Yes: what was read is kept.
    ///
    /// # Example
    ///
    /// A log in newline-delimited JSON; a line that is too long is passed over:
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use futures::{StreamExt, stream};
    /// use shadowcat_codecs::{FrameError, Limits, stream::{Lines, StreamError}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let body = stream::iter(["{\"level\":\"in", "fo\"}\n{\"level\":\"error\",\"far\":\"too long\"}\n", "{\"level\":\"warn\"}"])
    ///     .map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    /// let lines = Lines::new(body, Limits::default().with_max_frame_len(20)?);
    ///
    /// let read: Vec<_> = lines.map(|line| line.map(|line| line.to_vec())).collect().await;
    /// assert_eq!(read, [
    ///     Ok(b"{\"level\":\"info\"}".to_vec()),
    ///     Err(StreamError::Codec(FrameError::MessageTooLarge { limit: 20, at: 17 })),
    ///     Ok(b"{\"level\":\"warn\"}".to_vec()),
    /// ]);
    /// # Ok::<(), shadowcat_codecs::LimitError>(())
    /// # }).unwrap();
    /// ```
    #[derive(Debug)]
    pub struct Lines<S> {
        #[pin]
        batches: LineBatches<S>,
        // The batch whose frames are being handed out.
        batch: FrameBatch,
        // Index in `batch` of the next frame. Invariant: `next < batch.len()`, or both are 0.
        next: usize,
    }
}

impl<S> LineBatches<S> {
    /// Reads `bodies`, a stream of the bytes of all lines.
    #[must_use]
    pub fn new(bodies: S, limits: Limits) -> Self {
        let decoder = LineDecoder::new(limits);
        Self { bodies, decoder, table: FrameTable::new(), src: BytesMut::new(), ended: false }
    }

    /// Takes back a batch that is no longer needed, so that the next one is built without an allocation.
    pub fn recycle(self: Pin<&mut Self>, batch: FrameBatch) {
        self.project().table.recycle(batch);
    }
}

impl<S, E> Stream for LineBatches<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<FrameBatch, StreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            let found = next_batch(this.decoder, this.src, this.table, *this.ended);
            if let Some(found) = found.transpose() {
                return Poll::Ready(Some(found.map_err(StreamError::Codec)));
            }
            if *this.ended {
                return Poll::Ready(None);
            }
            match ready!(this.bodies.as_mut().poll_next(cx)) {
                Some(Ok(body)) => append(this.src, body),
                Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::Stream(error)))),
                None => *this.ended = true,
            }
        }
    }
}

impl<S> Lines<S> {
    /// Reads `bodies`, a stream of the bytes of all lines.
    #[must_use]
    pub fn new(bodies: S, limits: Limits) -> Self {
        Self { batches: LineBatches::new(bodies, limits), batch: FrameBatch::default(), next: 0 }
    }
}

impl<S, E> Stream for Lines<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<Frame, StreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(frame) = this.batch.get(*this.next) {
                *this.next += 1;
                return Poll::Ready(Some(Ok(frame)));
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

impl<S, E> FusedStream for Lines<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    fn is_terminated(&self) -> bool {
        self.batch.is_empty() && self.batches.ended && self.batches.src.is_empty()
    }
}

fn next_batch(
    decoder: &mut LineDecoder,
    src: &mut BytesMut,
    table: &mut FrameTable,
    ended: bool,
) -> Result<Option<FrameBatch>, FrameError> {
    let open = if ended { decoder.finish(src, table) } else { decoder.decode(src, table) }?;
    Ok(open.map(|open| open.freeze()))
}

/// A named copy, unless the body's bytes belong to nobody else and nothing comes before them.
fn append(src: &mut BytesMut, body: Bytes) {
    if !src.is_empty() {
        src.extend_from_slice(&body);
        return;
    }
    match body.try_into_mut() {
        Ok(body) => *src = body,
        Err(shared) => src.extend_from_slice(&shared),
    }
}
