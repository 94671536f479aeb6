//! How a connection to the upstream comes about: directly or through a proxy, with TLS or without, in time.
//!
//! Proxies are those of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either
//! case), as curl reads them, with one exception: what runs on this machine is never asked for through a proxy.
//! Only proxies that speak HTTP without TLS are known.
//!
//! Each connection is charged to the memory budget with what HTTP and TLS libraries may hold for it, from its first
//! byte to its end; where there is no room, none is made.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use tokio::{
    io::{AsyncReadExt as _, Take},
    net::TcpStream,
    task::coop::poll_proceed,
};
use tower_service::Service;

use super::{super::blocked::Blocked, CONNECTION_WINDOW, Config, MAX_FRAME, MAX_HEADER_LIST_LEN};
use crate::{
    budget::{Allowance, Budget},
    telemetry::metrics::{
        Metrics,
        labels::{Link, Side},
    },
};

/// Makes connections, TLS included, within the time they may take.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: HttpsConnector<Route>,
    proxy: Option<Intercept>,
    timeout: Duration,
    count: Arc<AtomicU64>,
    budget: Budget,
}

/// Makes what TLS, if there is any, is spoken over.
#[derive(Debug, Clone)]
pub(super) struct Route {
    tcp: HttpConnector,
    blocked_of: Option<(Metrics, Link)>,
    /// The proxy before the upstream; only one origin is ever asked for.
    proxy: Option<Intercept>,
}

/// A connection to the upstream, or to a proxy before it.
#[derive(Debug)]
pub(super) struct Stream {
    /// Asked for less than [`READ_LEN`] at a time: hyper doubles its read buffer when a read has filled it, and keeps it
    /// while the connection idles.
    tcp: Take<TcpStream>,
    /// Whether the task that reads keeps what comes until others have run.
    is_http2: bool,
    /// Whether requests name the whole URL, because a proxy reads them.
    is_proxied: bool,
    /// What it is charged with.
    rooms: Vec<Allowance>,
    blocked: Option<Blocked>,
}

/// A connection took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(super) struct TooSlow(pub(super) Duration);

/// There is no room for another connection.
#[derive(Debug, thiserror::Error)]
#[error("the memory budget of {total} bytes is used up")]
pub(super) struct NoRoom {
    total: usize,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Connector {
    /// # Errors
    ///
    /// If the environment names a proxy that we cannot speak to.
    pub(super) fn new(config: &Config, tls: rustls::ClientConfig) -> io::Result<Self> {
        Self::over(config, |route| {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
            builder.enable_http1().enable_http2().wrap_connector(route)
        })
    }

    /// Connections that never speak HTTP/2.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(super) fn http1(config: &Config, tls: rustls::ClientConfig) -> io::Result<Self> {
        Self::over(config, |route| {
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(route)
        })
    }

    fn over(config: &Config, secure: impl FnOnce(Route) -> HttpsConnector<Route>) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Nagle's algorithm holds small writes back for up to 40 ms.
        tcp.set_nodelay(true);
        // Streams may be silent for hours, and somebody on the way may forget them without a word.
        tcp.set_keepalive(Some(KEEP_ALIVE));
        let proxy = if is_here(&config.url) { None } else { Matcher::from_env().intercept(&config.url) };
        if let Some(url) = proxy.as_ref().map(Intercept::uri)
            && url.scheme_str() != Some("http")
        {
            let (scheme, host) = (url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default());
            let line =
                format!("the environment names the proxy {scheme}://{host}, but only http:// is supported there");
            return Err(io::Error::new(io::ErrorKind::Unsupported, line));
        }
        Ok(Self {
            tls: secure(Route { tcp, blocked_of: config.blocked_of.clone(), proxy: proxy.clone() }),
            proxy,
            timeout: config.connect_timeout,
            count: Arc::default(),
            budget: config.budget.clone(),
        })
    }

    /// How many connections were asked for.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a proxy of the environment is asked.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Whether `url` is reached over TCP alone: no TLS, no proxy.
    pub(super) fn is_plain(&self, url: &Uri) -> bool {
        self.proxy.is_none() && url.scheme_str() == Some("http")
    }

    /// What a request has to carry for a proxy that reads it; one that gets a tunnel is told otherwise.
    pub(super) fn proxy_authorization(&self, url: &Uri) -> Option<&HeaderValue> {
        self.proxy.as_ref().filter(|_| url.scheme_str() == Some("http"))?.basic_auth()
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tls.poll_ready(cx)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        self.count.fetch_add(1, Ordering::Relaxed);
        let tls_len = if url.scheme_str() == Some("https") { TLS_LEN } else { 0 };
        let (connecting, timeout, budget) = (self.tls.call(url), self.timeout, self.budget.clone());
        Box::pin(async move {
            let room = admitted(&budget, HTTP1_LEN + tls_len)?;
            let mut stream =
                tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| Err(TooSlow(timeout).into()))?;
            match &mut stream {
                MaybeHttpsStream::Http(stream) => stream.rooms.push(room),
                MaybeHttpsStream::Https(tls) => {
                    let (stream, session) = tls.inner_mut().get_mut();
                    let is_http2 = session.alpn_protocol() == Some(b"h2");
                    let stream = stream.inner_mut();
                    stream.rooms.push(room);
                    if is_http2 {
                        stream.rooms.push(admitted(&budget, HTTP2_LEN)?);
                        stream.is_http2 = true;
                    }
                }
            }
            Ok(stream)
        })
    }
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting<Stream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(BoxError::from)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let blocked = self.blocked_of.as_ref().map(|(metrics, link)| Blocked::new(metrics, Some(*link), Side::Server));
        let Some(proxy) = &self.proxy else {
            let connecting = self.tcp.call(url);
            return Box::pin(async move { Ok(Stream::new(connecting.await?, false, blocked)) });
        };
        if url.scheme_str() == Some("https") {
            let tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
            let mut tunnel = match proxy.basic_auth() {
                Some(auth) => tunnel.with_auth(auth.clone()),
                None => tunnel,
            };
            let connecting = tunnel.call(url);
            return Box::pin(async move { Ok(Stream::new(connecting.await?, false, blocked)) });
        }
        let connecting = self.tcp.call(proxy.uri().clone());
        Box::pin(async move { Ok(Stream::new(connecting.await?, true, blocked)) })
    }
}

/// Room for a connection that holds `len` bytes.
fn admitted(budget: &Budget, len: usize) -> Result<Allowance, NoRoom> {
    budget.try_admit(len, 0).ok_or_else(|| NoRoom { total: budget.total() })
}

impl Stream {
    fn new(tcp: TokioIo<TcpStream>, is_proxied: bool, blocked: Option<Blocked>) -> Self {
        Self { tcp: tcp.into_inner().take(READ_LEN as u64), is_http2: false, is_proxied, rooms: Vec::new(), blocked }
    }

    /// The outcome of writing.
    fn noted<T>(&mut self, outcome: Poll<T>) -> Poll<T> {
        if let Some(blocked) = &mut self.blocked {
            blocked.note(&outcome);
        }
        outcome
    }

    fn writer(&mut self) -> TokioIo<&mut TcpStream> {
        TokioIo::new(self.tcp.get_mut())
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.tcp.set_limit(READ_LEN as u64 - 1);
        let read = Pin::new(&mut TokioIo::new(&mut self.tcp)).poll_read(cx, buf);
        if self.is_http2 && read.is_ready() {
            spend(cx);
        }
        read
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer()).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer()).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        tokio::io::AsyncWrite::is_write_vectored(self.tcp.get_ref())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer()).poll_write_vectored(cx, slices);
        self.noted(written)
    }
}

/// Counts a read for what it costs, beyond the one step that it has taken.
fn spend(cx: &mut Context<'_>) {
    for _ in 1..READ_STEPS {
        let Poll::Ready(step) = poll_proceed(cx) else { return };
        step.made_progress();
    }
}

/// Whether `url` names this machine, by its loopback addresses or the name for them (RFC 6761, 6.3).
fn is_here(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Most that is read at once, in bytes.
const READ_LEN: usize = 16 << 10;
/// What a read over HTTP/2 takes of the 128 steps that tokio lets a task make before others run: 32 KiB are read until then.
/// h2 keeps what comes for them, and a head that is not final, of ten bytes, is a kilobyte there.
const READ_STEPS: usize = 64;
/// What hyper holds for a connection over HTTP/1.1: a block that it reads into, and as much again for heads on their
/// way out and in. What it gathers of bodies before it writes are slices of ours.
const HTTP1_LEN: usize = READ_LEN + (8 << 10);
/// What rustls holds: a record each way, and what is to be sent until the socket takes it (64 KiB, its default).
const TLS_LEN: usize = 2 * (17 << 10) + (64 << 10);
/// What h2 holds beyond that: bodies that nobody reads, a frame each way, a list of headers that is not complete.
const HTTP2_LEN: usize = CONNECTION_WINDOW as usize + 2 * MAX_FRAME as usize + MAX_HEADER_LIST_LEN as usize;

/// How long a connection may be silent before the system asks whether the other end is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_here() {
        for here in ["http://localhost:1/", "http://127.8.9.1/", "https://[::1]:4/mcp", "http://LOCALHOST/"] {
            assert!(is_here(&here.parse().unwrap()), "{here}");
        }
        for there in ["http://localhost.example/", "http://10.0.0.1/", "https://example.com/", "http://[fe80::1]/"] {
            assert!(!is_here(&there.parse().unwrap()), "{there}");
        }
    }
}
