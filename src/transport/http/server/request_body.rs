//! A request's body that may not pause for ever.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until},
};

use super::{
    super::{Body, BodyError},
    phase::Unread,
};
use crate::clock;

/// A request's body as it arrives. It pauses only as long as the listener allows, counted while somebody
/// waits for it: a link that does not read is no fault of the client.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    limit: Duration,
    /// Set while somebody waits.
    pause: Option<Pin<Box<Sleep>>>,
    /// Tells the listener, which then answers instead of the link.
    stalled: Option<oneshot::Sender<()>>,
    /// Not for HTTP/2, where it has a stream of its own.
    _unread: Option<Unread>,
}

impl RequestBody {
    /// The body, and what becomes ready, with `Ok`, when it has paused for too long.
    pub(super) fn new(incoming: Incoming, limit: Duration, unread: Option<Unread>) -> (Self, oneshot::Receiver<()>) {
        let (stalled, told) = oneshot::channel();
        (Self { incoming, limit, pause: None, stalled: Some(stalled), _unread: unread }, told)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) {
            this.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let due = clock::now() + this.limit;
        ready!(this.pause.get_or_insert_with(|| Box::pin(sleep_until(due))).as_mut().poll(cx));
        if let Some(stalled) = this.stalled.take()
            && stalled.send(()).is_ok()
        {
            // The listener answers. An error would let the link answer first, if it is the one who reads.
            return Poll::Pending;
        }
        // Nobody listens: the response is on its way already, and the error ends that.
        let limit = this.limit;
        Poll::Ready(Some(Err(BodyError::Aborted(format!("the client paused for {limit:?} within its request")))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl From<RequestBody> for Body {
    fn from(body: RequestBody) -> Self {
        // One that is at its end already needs no watching, and so no allocation.
        if body.is_end_stream() { Self::from(super::super::Incoming::from(body.incoming)) } else { Self::boxed(body) }
    }
}
