//! What leaves as a body: nothing, one piece, a body that is passed on, or a queue that is bounded in bytes.
//!
//! Nothing here joins or copies pieces; each leaves as it was handed in, but for a body that is one long piece.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::client::Incoming;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

/// A body that leaves: a response of ours to a client, or a request of ours to an upstream.
#[derive(Debug, Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Queue(Queue),
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

/// Why a body ended before its end. Whoever reads it sees the connection or the stream break off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body that is passed on broke off.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// We ended it on purpose.
    #[error("{0}")]
    Aborted(String),
}

/// The writing end of a queued body. Dropping it is the body's regular end.
#[derive(Debug, Clone)]
pub struct QueueSender {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    max: u32,
}

/// The reading end: a body whose pieces come from a [`QueueSender`].
///
/// The channel under it has no bound of its own: what may wait in it is bounded by `room`, in bytes.
#[derive(Debug)]
pub struct Queue {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// Closed when this end is dropped, so that nobody waits for room that will never come.
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Piece {
    bytes: Result<Bytes, BodyError>,
    /// The bytes' share of the room; given back when the piece is handed out.
    _room: Option<OwnedSemaphorePermit>,
}

/// Why a piece was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum QueueError {
    /// More bytes wait already than the queue may hold.
    #[error("the reader is too slow: more than {max} bytes wait for it")]
    Full {
        /// What may wait, in bytes.
        max: u32,
    },
    /// The reader is gone.
    #[error("the reader is gone")]
    Gone,
}

/// A queued body and its writing end, in which `max` bytes wait, and one message more.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "what waits is bounded by `room`, in bytes")]
pub fn queue(max: u32) -> (QueueSender, Queue) {
    let (sender, pieces) = mpsc::unbounded_channel();
    let permits = usize::try_from(max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(permits));
    (QueueSender { pieces: sender, room: Arc::clone(&room), max }, Queue { pieces, room })
}

impl QueueSender {
    /// Queues one message, as the pieces it consists of, unless the queue is full already. A message is
    /// queued whole or not at all, so the last one may exceed the bound.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`] or [`QueueError::Gone`]; nothing was queued.
    pub fn try_send(&self, message: impl IntoIterator<Item = Bytes, IntoIter: Clone>) -> Result<(), QueueError> {
        if self.room.is_closed() {
            return Err(QueueError::Gone);
        }
        let message = message.into_iter();
        let len: usize = message.clone().map(|piece| piece.len()).sum();
        let free = u32::try_from(self.room.available_permits()).unwrap_or(u32::MAX);
        // At least one, so that a full queue takes nothing.
        let share = u32::try_from(len).unwrap_or(u32::MAX).min(free).max(1);
        let room = Arc::clone(&self.room).try_acquire_many_owned(share).map_err(|error| match error {
            TryAcquireError::NoPermits => QueueError::Full { max: self.max },
            TryAcquireError::Closed => QueueError::Gone,
        })?;
        let mut room = Some(room);
        let mut message = message.filter(|piece| !piece.is_empty()).peekable();
        while let Some(piece) = message.next() {
            // The room is free again once the last piece has left.
            let room = if message.peek().is_none() { room.take() } else { None };
            self.push(Ok(piece), room)?;
        }
        Ok(())
    }

    /// Ready when [`try_send`](Self::try_send) has a chance: there is room, or the reader is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop; no room is taken.
    pub async fn ready(&self) {
        // Either way the caller tries again and sees for itself.
        let _ = self.room.acquire().await;
    }

    /// Ends the body as a break: its reader sees the stream break off, not end.
    pub fn abort(self, why: impl Into<String>) {
        // A reader that is gone needs no break.
        let _ = self.push(Err(BodyError::Aborted(why.into())), None);
    }

    /// Whether the reader is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.pieces.is_closed()
    }

    /// Waits for the reader's departure.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn gone(&self) {
        self.pieces.closed().await;
    }

    fn push(&self, bytes: Result<Bytes, BodyError>, room: Option<OwnedSemaphorePermit>) -> Result<(), QueueError> {
        self.pieces.send(Piece { bytes, _room: room }).map_err(|_| QueueError::Gone)
    }
}

impl Queue {
    /// The next piece; `None` at the end.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.bytes))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Body {
    /// A body of no bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Any other body; costs one allocation.
    pub fn boxed(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self(Inner::Boxed(UnsyncBoxBody::new(body)))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) })
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self(Inner::Incoming(body))
    }
}

impl From<Queue> for Body {
    fn from(queue: Queue) -> Self {
        Self(Inner::Queue(queue))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let piece = bytes.split_to(bytes.len().min(MAX_PIECE));
                if bytes.is_empty() {
                    self.0 = Inner::Empty;
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Inner::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Inner::Queue(queue) => {
                let piece = ready!(queue.poll_recv(cx));
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
            Inner::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) | Inner::Queue(_) => false,
            Inner::Incoming(body) => body.is_end_stream(),
            Inner::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(body) => body.size_hint(),
            Inner::Queue(_) => SizeHint::default(),
            Inner::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Incoming(_) => "Incoming",
            Self::Queue(_) => "Queue",
            Self::Boxed(_) => "Boxed",
        })
    }
}

/// Most of a body in one piece that a connection is given at once. What it was given it sends to the end, also
/// when the exchange is given up meanwhile.
const MAX_PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn piece(text: &'static str) -> [Bytes; 1] {
        [Bytes::from_static(text.as_bytes())]
    }

    #[tokio::test]
    async fn queue_is_bounded_in_bytes_but_for_the_last_message() {
        let (sender, mut queue) = queue(4);
        assert_eq!(sender.try_send(piece("abc")), Ok(()));
        assert_eq!(sender.try_send([&b"012345"[..], b"", b"67"].map(Bytes::from_static)), Ok(()));
        assert_eq!(sender.try_send(piece("x")), Err(QueueError::Full { max: 4 }));
        for expected in ["abc", "012345", "67"] {
            assert_eq!(
                poll_fn(|cx| queue.poll_recv(cx)).await.and_then(Result::ok).as_deref(),
                Some(expected.as_bytes())
            );
        }
        assert_eq!(sender.try_send(piece("x")), Ok(()));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_learns_that_the_reader_is_gone() {
        let (sender, queue) = queue(1);
        assert_eq!(sender.try_send(piece("a")), Ok(()));
        let waiting = tokio::spawn(async move {
            sender.ready().await;
            sender.try_send(piece("b"))
        });
        tokio::task::yield_now().await;
        drop(queue);
        assert_eq!(waiting.await.ok(), Some(Err(QueueError::Gone)));
    }
}
