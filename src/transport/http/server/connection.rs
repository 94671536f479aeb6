//! One connection: TLS if we have a certificate, the protocol, and its exchanges until it ends.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{Request, Response, tls},
    Config, Peer,
    exchange::answer,
    patience::{Patient, Phase, READ_LEN, REQUEST_TIMEOUT},
    stream::Stream,
};
use crate::{budget::Allowance, clock, telemetry::metrics::labels::TimeoutOf};

/// What a connection is to know.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) config: Arc<Config>,
    pub(super) peer: Peer,
    pub(super) drain: CancellationToken,
    /// The tasks of HTTP/2 streams.
    pub(super) streams: TaskTracker,
    /// What the connection holds whatever happens on it.
    pub(super) _room: Allowance,
}

/// What a connection holds of the memory budget whatever happens on it, in bytes.
pub(super) fn fixed_len(config: &Config) -> usize {
    let tls = if config.tls.is_some() { TLS_LEN } else { 0 };
    HTTP1_LEN + tls
}

/// Serves one connection to its end.
pub(super) async fn run<H, F>(stream: Stream, setting: Setting, handle: H)
where
    H: Fn(Request, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let Peer { address } = setting.peer;
    let _counted = setting.config.resources.metrics.present(|all| &all.connections, ());
    // Whoever has not said anything yet is not waited for when we are to stop.
    let Some(opened) = setting.drain.run_until_cancelled(open(stream, &setting.config)).await else { return };
    let served = match opened {
        Ok(Opened { stream, ahead, deadline, protocol }) => {
            let phase = Phase::new();
            let io = Patient::new(stream, ahead.freeze(), deadline, phase.clone(), &setting.config);
            match protocol {
                Protocol::Http1 => http1(TokioIo::new(io), phase, &setting, handle).await,
                Protocol::Http2 => {
                    let Some(_admitted) = setting.config.resources.budget.try_admit(HTTP2_LEN, 0) else {
                        tracing::warn!(?address, "an HTTP/2 connection is refused: the memory budget is used up");
                        return;
                    };
                    phase.trust();
                    http2(TokioIo::new(io), &setting, handle).await
                }
            }
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = served {
        // hyper's errors leave what the system said to their source.
        let cause = error.source().map(ToString::to_string);
        tracing::debug!(?address, %error, cause, "connection ended");
    }
}

struct Opened {
    stream: Stream,
    /// What was read to find the protocol.
    ahead: BytesMut,
    /// When the first request's head is due.
    deadline: Instant,
    protocol: Protocol,
}

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Shakes hands and finds out which protocol is spoken: by ALPN, or else by how it begins.
async fn open(stream: Stream, config: &Config) -> io::Result<Opened> {
    let deadline = clock::now() + config.header_timeout;
    let stream = match (&config.tls, stream) {
        (Some(identity), Stream::Tcp(stream)) => {
            let accepting = identity.acceptor().accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_SEND_LEN)));
            let handshake = timeout_at(deadline, accepting).await;
            Stream::Tls(Box::new(handshake.map_err(|_| too_late("the TLS handshake took too long"))??))
        }
        (_, stream) => stream,
    };
    // The head gets all of its time also behind a handshake.
    let deadline = clock::now() + config.header_timeout;
    if let Stream::Tls(tls) = &stream
        && tls.get_ref().1.alpn_protocol() == Some(tls::HTTP_2)
    {
        return Ok(Opened { stream, ahead: BytesMut::new(), deadline, protocol: Protocol::Http2 });
    }
    let (mut stream, mut ahead) = (stream, BytesMut::with_capacity(AHEAD_LEN));
    let Ok(protocol) = timeout_at(deadline, protocol(&mut stream, &mut ahead)).await else {
        if !ahead.is_empty() {
            timeout_at(clock::now() + COURTESY, stream.write_all(REQUEST_TIMEOUT)).await.unwrap_or(Ok(()))?;
        }
        config.resources.metrics.timeouts.add((TimeoutOf::Header,), 1);
        return Err(too_late("the request's headers took too long"));
    };
    Ok(Opened { protocol: protocol?, stream, ahead, deadline })
}

/// Reads as much as it takes to tell the protocols apart (RFC 9113, 3.4).
async fn protocol(stream: &mut Stream, ahead: &mut BytesMut) -> io::Result<Protocol> {
    loop {
        if ahead.starts_with(PREFACE) {
            return Ok(Protocol::Http2);
        }
        if !PREFACE.starts_with(ahead) || stream.read_buf(ahead).await? == 0 {
            return Ok(Protocol::Http1);
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for what is read to find the protocol: most heads in one read.
const AHEAD_LEN: usize = 1 << 10;
/// How long a client may take to be told that it is too late.
const COURTESY: Duration = Duration::from_secs(1);

fn too_late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn http1<H, F>(io: TokioIo<Patient>, phase: Phase, setting: &Setting, handle: H) -> Served
where
    H: Fn(Request, Peer) -> F,
    F: Future<Output = Response>,
{
    let (config, peer, handle) = (&*setting.config, setting.peer, &handle);
    let service = service_fn(move |request| {
        let running = phase.run();
        async move { Ok::<_, Infallible>(answer(request, peer, config, handle, Some(running)).await) }
    });
    let mut builder = http1::Builder::new();
    // See `patience`.
    builder.timer(TokioTimer::new()).header_read_timeout(None);
    builder.max_header_size(MAX_HEADER_LEN).max_buf_size(MAX_BUFFER_LEN);
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = setting.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn http2<H, F>(io: TokioIo<Patient>, setting: &Setting, handle: H) -> Served
where
    H: Fn(Request, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let (config, peer) = (Arc::clone(&setting.config), setting.peer);
    let service = service_fn(move |request| {
        let (config, handle) = (Arc::clone(&config), handle.clone());
        async move { Ok::<_, Infallible>(answer(request, peer, &config, &handle, None).await) }
    });
    let end = CancellationToken::new();
    let executor = Streams { tracker: setting.streams.clone(), end: end.clone() };
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
    let mut connection = pin!(builder.serve_connection(io, service));
    // Declared last, so that the streams' tasks end before anything else of the connection does.
    let _streams_end_with_us = end.drop_guard();
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = setting.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// Runs the tasks of a connection's streams, which end with it.
#[derive(Debug, Clone)]
struct Streams {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = self.end.clone();
        self.tracker.spawn(async move {
            end.run_until_cancelled_owned(stream).await;
        });
    }
}

/// Longest head of a request, in bytes; a longer one is answered with 431. Parameters in headers alone can
/// exceed the 8 KiB that are customary (MCP 2026-07-28, Transports). At most 100 headers, as hyper has it.
const MAX_HEADER_LEN: usize = 64 << 10;
/// The same for HTTP/2, where `SETTINGS_MAX_HEADER_LIST_SIZE` tells it to the client beforehand.
const MAX_HEADER_LIST_LEN: u32 = 64 << 10;
/// What hyper reads ahead of whoever reads the body, and gathers before it writes. It must hold a head.
pub(super) const MAX_BUFFER_LEN: usize = 128 << 10;

/// What hyper holds for a connection over HTTP/1.1: a block that it reads into ([`READ_LEN`]), and as much again for
/// heads on their way in and out. What it gathers of bodies before it writes are slices of ours.
const HTTP1_LEN: usize = READ_LEN + (8 << 10);
/// What h2 holds beyond that for a connection: bodies that nobody reads, a frame each way, a list of headers that
/// is not complete.
const HTTP2_LEN: usize = CONNECTION_WINDOW as usize + 2 * MAX_FRAME as usize + MAX_HEADER_LIST_LEN as usize;
/// What rustls holds: a record each way, and what is to be sent until the socket takes it.
const TLS_LEN: usize = 2 * (17 << 10) + TLS_SEND_LEN;
/// What rustls may hold that is to be sent.
const TLS_SEND_LEN: usize = 32 << 10;

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
