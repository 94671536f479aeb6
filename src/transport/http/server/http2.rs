//! HTTP/2 on one connection: many exchanges at a time, each a task of its own that ends with the connection.
//!
//! Two waits are kept here, because a client that answers pings would be waited for without a bound. A connection
//! without an exchange is told to go after `idle_timeout`. And an exchange is reset whose client takes nothing of what
//! is there for it: the limit of the socket does not see one stream that stands still.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task_local,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{BodyError, Request, Response},
    Peer,
    connection::{COURTESY, Served, Setting},
    exchange::{Leaving, answer},
    patience::Patient,
    phase::Phase,
};
use crate::{
    clock,
    telemetry::metrics::{
        Metrics,
        labels::{Blame, ErrorReason, TimeoutOf},
    },
};

/// Serves one connection to its end.
///
/// # Cancel safety
///
/// Dropping the future closes the connection and ends its exchanges.
pub(super) async fn serve<H, F>(io: Patient, phase: &Phase, setting: &Setting, handle: H) -> Served
where
    H: Fn(Request, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let (config, peer) = (Arc::clone(&setting.config), setting.peer);
    let (idle_timeout, write_timeout, metrics) =
        (config.idle_timeout, config.write_timeout, config.resources.metrics.clone());
    phase.trust();
    let Some(_admitted) = config.resources.budget.try_admit(CONNECTION_LEN, 0) else {
        tracing::warn!(%peer, "an HTTP/2 connection is refused: the memory budget is used up");
        metrics.errors.add((Blame::Us, ErrorReason::Overloaded), 1);
        return Ok(timeout(COURTESY, refuse(io)).await.unwrap_or(Ok(()))?);
    };
    let service = service_fn(move |request| {
        let (config, handle) = (Arc::clone(&config), handle.clone());
        // In a box of its own: a stream's task has room for the exchange as long as it lives.
        Box::pin(async move {
            let response = answer(request, peer, &config, &handle, None).await;
            Ok::<_, Infallible>(response.map(|body| Handed { body, total: 0, count: HANDED.with(Arc::clone) }))
        })
    });
    let (end, open) = (CancellationToken::new(), Open::default());
    let executor = Streams {
        tracker: setting.streams.clone(),
        end: end.clone(),
        open: open.clone(),
        peer,
        write_timeout,
        metrics,
    };
    let mut connection = pin!(builder(executor).serve_connection(TokioIo::new(io), service));
    // Declared last, so that the streams' tasks end before anything else of the connection does.
    let _streams_end_with_us = end.drop_guard();
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = setting.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            return Ok(connection.await?);
        }
        () = open.none_for(idle_timeout) => connection.as_mut().graceful_shutdown(),
    }
    // An exchange that began meanwhile is finished; a client that neither begins one nor goes is left.
    tokio::select! {
        served = connection.as_mut() => Ok(served?),
        () = open.none_for(write_timeout) => Err("no request for too long".into()),
    }
}

fn builder(executor: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST_LEN)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Says that there is no room, and reads what is on its way, so that our end is no reset that overtakes the answer.
async fn refuse(mut io: Patient) -> io::Result<()> {
    io.write_all(ENHANCE_YOUR_CALM).await?;
    io.shutdown().await?;
    let mut block = [0; 256];
    while io.read(&mut block).await? > 0 {}
    Ok(())
}

/// Empty SETTINGS, which come first, and GOAWAY: no stream was looked at (RFC 9113, 6.5, 6.8 and 7).
const ENHANCE_YOUR_CALM: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// How many streams of a connection have a task.
#[derive(Debug, Clone, Default)]
struct Open(Arc<watch::Sender<usize>>);

/// One of them.
#[derive(Debug)]
struct OpenStream(Open);

impl Open {
    fn stream(&self) -> OpenStream {
        self.0.send_modify(|count| *count += 1);
        OpenStream(self.clone())
    }

    /// Waits until there has been none for `limit`.
    async fn none_for(&self, limit: Duration) {
        let mut counts = self.0.subscribe();
        // A count cannot be waited for in vain: its sender is here.
        loop {
            if *counts.borrow_and_update() > 0 {
                let _changed = counts.changed().await;
            } else if timeout(limit, counts.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Runs the tasks of a connection's streams, which end with it.
#[derive(Debug, Clone)]
struct Streams {
    tracker: TaskTracker,
    end: CancellationToken,
    open: Open,
    peer: Peer,
    write_timeout: Duration,
    metrics: Metrics,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { end, peer, write_timeout: limit, metrics, .. } = self.clone();
        let open = self.open.stream();
        let count = Arc::new(AtomicUsize::new(0));
        let stream = HANDED.scope(Arc::clone(&count), stream);
        self.tracker.spawn(async move {
            let _open = open;
            tokio::select! {
                () = end.cancelled() => {}
                is_taken = taken(stream, &count, limit) => if !is_taken {
                    metrics.timeouts.add((TimeoutOf::Write,), 1);
                    tracing::info!(%peer, ?limit, "the client took nothing of a stream for too long");
                }
            }
        });
    }
}

task_local! {
    /// What the body of this stream's response has handed out.
    static HANDED: Arc<AtomicUsize>;
}

/// A response's body that counts its pieces.
#[derive(Debug)]
struct Handed {
    body: Leaving,
    total: usize,
    /// The same, or 0 while the link is asked for more, so that nothing waits for the client.
    count: Arc<AtomicUsize>,
}

/// Runs a stream to its end; `false` if its client has taken nothing for `limit`. Dropping the stream resets it.
///
/// h2 asks for the next piece once it has sent the one before, or most of it: for so long the client took nothing.
async fn taken(stream: impl Future<Output = ()>, count: &AtomicUsize, limit: Duration) -> bool {
    let (mut stream, mut due, mut seen) = (pin!(stream), pin!(sleep(limit)), 0);
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        let handed = count.load(Ordering::Relaxed);
        if handed != seen {
            seen = handed;
            due.as_mut().reset(clock::now() + limit);
        }
        if handed == 0 { Poll::Pending } else { due.as_mut().poll(cx).map(|()| false) }
    })
    .await
}

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.total += usize::from(frame.is_ready());
        self.count.store(if frame.is_ready() { self.total } else { 0 }, Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// As over HTTP/1.1; `SETTINGS_MAX_HEADER_LIST_SIZE` tells it to the client beforehand.
const MAX_HEADER_LIST_LEN: u32 = 64 << 10;
/// What h2 holds for a connection beyond what one over HTTP/1.1 takes: bodies that nobody reads, a frame each way, a list of headers that
/// is not complete.
const CONNECTION_LEN: usize = CONNECTION_WINDOW as usize + 2 * MAX_FRAME as usize + MAX_HEADER_LIST_LEN as usize;
/// What a client may send of one body before somebody reads it: one message of the usual size.
const STREAM_WINDOW: u32 = 256 << 10;
/// And of all bodies of its connection together. With [`STREAM_WINDOW`], four large ones at a time.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Longest frame, as every peer must take it.
const MAX_FRAME: u32 = 16 << 10;
/// What waits for one stream's window before its link has to wait.
const MAX_SEND_BUFFER: usize = 256 << 10;
/// Exchanges at a time on one connection. Each listening stream is one, so browsers need a few.
const MAX_STREAMS: u32 = 128;
/// How often a client has to show that it is there. It also ends a head that is never finished: between its
/// parts a client cannot answer (RFC 9113, 6.10).
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take for that.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
