//! One connection: TLS if we have a certificate, the protocol, and its exchanges until it ends.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{Request, Response, tls},
    Config, Peer, http1, http2,
    patience::{AHEAD_LEN, Patient, READ_LEN},
    phase::Phase,
    refusal::Refusal,
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
    // In boxes: the task has room for what it awaits as long as it lives, and that is while it idles, mostly.
    // Whoever has not said anything yet is not waited for when we are to stop.
    let Some(opened) = setting.drain.run_until_cancelled(Box::pin(open(stream, &setting.config))).await else { return };
    let served = match opened {
        Ok(Opened { stream, ahead, deadline, protocol }) => {
            let phase = Phase::new();
            let io = Patient::new(stream, ahead.freeze(), deadline, phase.clone(), &setting.config);
            match protocol {
                Protocol::Http1 => http1::serve(io, phase, &setting, handle).await,
                Protocol::Http2 => Box::pin(http2::serve(io, &phase, &setting, handle)).await,
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
            let refusal = Refusal::headers_too_late(config.header_timeout).into_bytes();
            timeout_at(clock::now() + COURTESY, stream.write_all(&refusal)).await.unwrap_or(Ok(()))?;
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
/// How long a client may take to be told that it is too late, or that there is no room.
pub(super) const COURTESY: Duration = Duration::from_secs(1);

fn too_late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// How a connection ended.
pub(super) type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Longest head of a request, in bytes; a longer one is answered with 431. Parameters in headers alone can
/// exceed the 8 KiB that are customary (MCP 2026-07-28, Transports). At most 100 headers, as hyper has it.
pub(super) const MAX_HEADER_LEN: usize = 64 << 10;
/// What hyper reads ahead of whoever reads the body, and gathers before it writes. It must hold a head.
pub(super) const MAX_BUFFER_LEN: usize = 128 << 10;

/// What hyper holds for a connection over HTTP/1.1: a block that it reads into ([`READ_LEN`]), and as much again for
/// heads on their way in and out. What it gathers of bodies before it writes are slices of ours.
const HTTP1_LEN: usize = READ_LEN + (8 << 10);
/// What rustls holds: a record each way, and what is to be sent until the socket takes it.
const TLS_LEN: usize = 2 * (17 << 10) + TLS_SEND_LEN;
/// What rustls may hold that is to be sent.
const TLS_SEND_LEN: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::transport::http::Body;

    #[tokio::test]
    async fn task_of_a_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let setting = Setting {
            config: Arc::new(Config::default()),
            peer: Peer { address: None },
            drain: CancellationToken::new(),
            streams: TaskTracker::new(),
            _room: Config::default().resources.budget.try_admit(0, 0).unwrap(),
        };
        let task = run(Stream::Tcp(stream), setting, async |_, _| Response::new(Body::empty()));
        let len = size_of_val(&task);
        assert!(len <= 3 << 9, "{len} bytes");
    }
}
