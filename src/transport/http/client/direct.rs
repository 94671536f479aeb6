//! Exchanges that move their own connection: HTTP/1.1 without TLS, straight to the origin.
//!
//! A pooled client usually gives each connection a task of its own, and every request and every piece of an
//! answer then has to wake another task. Here whoever waits for an answer, or reads its body, polls the connection
//! itself: nothing is handed over between tasks, and all that one read brought is there without waiting.
//!
//! ```text
//!   send ──► Pool::take or connect ──► Wire ──► answer's head ──► Incoming (holds the wire) ──► Pool::put
//!                                               dropped before its end: the connection closes
//! ```
//!
//! Not here: TLS, HTTP/2 and proxies, for which there is hyper-util's client.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tower_service::Service as _;

use super::{
    super::Body,
    connect::{Connector, Stream},
};
use crate::clock;

/// Connections to one origin.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    connector: Connector,
    pool: Arc<Pool>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection came about; nothing was sent.
    Connect(Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke off; the request may have been taken.
    Broken(hyper::Error),
}

/// A connection, and the way to give it requests.
struct Wire {
    sender: http1::SendRequest<Body>,
    connection: http1::Connection<MaybeHttpsStream<Stream>, Body>,
}

/// Connections that wait for a request.
struct Pool {
    waiting: Mutex<Waiting>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Default)]
struct Waiting {
    /// The one that has waited longest first. Invariant: `len <= max_idle`.
    wires: VecDeque<(Box<Wire>, Instant)>,
    /// Closes those that wait too long. `None` while none waits.
    reaper: Option<AbortHandle>,
}

/// A connection that an exchange moves.
struct Driven {
    wire: Box<Wire>,
    pool: Arc<Pool>,
}

/// A body as it arrives from an upstream, with the connection it arrives on if no task moves that.
pub struct Incoming {
    body: hyper::body::Incoming,
    driven: Option<Driven>,
}

impl Direct {
    pub(super) fn new(connector: Connector, max_idle: usize, idle_timeout: Duration) -> Self {
        Self { connector, pool: Arc::new(Pool { waiting: Mutex::default(), max_idle, idle_timeout }) }
    }

    /// Sends one request, in origin form and with its `Host`, to `origin` and waits for the answer's head. A
    /// connection from the pool that turns out to be closed before anything of the request was written is no failure:
    /// the request goes over another. With a new one it is: a server that accepts and closes would be called for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice, and a request is large")]
    pub(super) fn send<'a>(
        &'a self,
        origin: &'a Uri,
        mut request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, Failure>> + Send + 'a {
        async move {
            loop {
                let (wire, is_new) = match self.pool.take() {
                    Some(wire) => (wire, false),
                    // Boxed: most exchanges find a connection, and none has to keep room for what connecting takes.
                    None => (Box::pin(self.connect(origin)).await?, true),
                };
                let mut driven = Driven { wire, pool: Arc::clone(&self.pool) };
                let mut sending = pin!(driven.wire.sender.try_send_request(request));
                let mut driven = Some(driven);
                let answer = poll_fn(|cx| {
                    Incoming::drive(&mut driven, cx);
                    let answer = ready!(sending.as_mut().poll(cx));
                    Poll::Ready(answer.map(|answer| answer.map(|body| Incoming::begun(body, driven.take(), cx))))
                });
                match answer.await {
                    Ok(answer) => return Ok(answer),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) if !is_new => request = unsent,
                        _ => return Err(Failure::Broken(error.into_error())),
                    },
                }
            }
        }
    }

    async fn connect(&self, origin: &Uri) -> Result<Box<Wire>, Failure> {
        let stream = self.connector.clone().call(origin.clone()).await.map_err(Failure::Connect)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_BUFFER_LEN);
        let (sender, connection) = builder.handshake(stream).await.map_err(Failure::Broken)?;
        Ok(Box::new(Wire { sender, connection }))
    }
}

impl Pool {
    /// The connection that was used last: the others may grow old.
    fn take(&self) -> Option<Box<Wire>> {
        let (wire, _) = self.waiting().wires.pop_back()?;
        Some(wire)
    }

    fn put(self: &Arc<Self>, wire: Box<Wire>) {
        let mut waiting = self.waiting();
        if waiting.wires.len() >= self.max_idle {
            waiting.wires.pop_front();
        }
        waiting.wires.push_back((wire, clock::now() + self.idle_timeout));
        if waiting.reaper.is_none() {
            waiting.reaper = Some(tokio::spawn(reap(Arc::downgrade(self))).abort_handle());
        }
    }

    /// Nothing that holds the lock can panic half-way.
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what has waited too long; returns when there is something to close next.
    fn reap(&self) -> Option<Instant> {
        let mut waiting = self.waiting();
        let now = clock::now();
        while waiting.wires.front().is_some_and(|(_, due)| *due <= now) {
            waiting.wires.pop_front();
        }
        let due = waiting.wires.front().map(|(_, due)| *due);
        if due.is_none() {
            waiting.reaper = None;
        }
        due
    }
}

/// Lives while connections wait, and no longer than their pool.
async fn reap(pool: Weak<Pool>) {
    while let Some(due) = pool.upgrade().and_then(|pool| pool.reap()) {
        sleep_until(due).await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(reaper) = self.waiting().reaper.take() {
            reaper.abort();
        }
    }
}

impl Incoming {
    /// The body of an answer whose head has come, perhaps with all of the body.
    fn begun(body: hyper::body::Incoming, driven: Option<Driven>, cx: &mut Context<'_>) -> Self {
        let mut begun = Self { body, driven };
        if begun.body.is_end_stream() {
            begun.release(cx);
        }
        begun
    }

    /// Whether whoever reads this moves the connection too, so that nothing more is there when it is pending.
    pub(crate) fn is_driven(&self) -> bool {
        self.driven.is_some()
    }

    /// Moves the connection as far as it goes. One that is over is dropped: whoever waits for it then learns so.
    fn drive(driven: &mut Option<Driven>, cx: &mut Context<'_>) {
        if let Some(Driven { wire, .. }) = driven
            && Pin::new(&mut wire.connection).poll(cx).is_ready()
        {
            *driven = None;
        }
    }

    /// The body is at its end: gives the connection back, if it is fit for another exchange.
    fn release(&mut self, cx: &mut Context<'_>) {
        Self::drive(&mut self.driven, cx);
        if let Some(Driven { wire, pool }) = self.driven.take()
            && wire.sender.is_ready()
        {
            pool.put(wire);
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending() && this.is_driven() {
            Self::drive(&mut this.driven, cx);
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        if this.is_driven() && (matches!(frame, Poll::Ready(None)) || this.body.is_end_stream()) {
            this.release(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<hyper::body::Incoming> for Incoming {
    /// A body on a connection that has a task.
    fn from(body: hyper::body::Incoming) -> Self {
        Self { body, driven: None }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("body", &self.body).field("is_driven", &self.is_driven()).finish()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.waiting().wires.len()).finish_non_exhaustive()
    }
}

/// What hyper reads ahead of whoever reads the body, and gathers before it writes. It must hold a head.
pub(super) const MAX_BUFFER_LEN: usize = 128 << 10;

#[cfg(test)]
mod tests;
