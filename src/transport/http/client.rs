//! The client side: one upstream, its address and credentials, a pool of connections to it.
//!
//! A request is sent once. Nothing here sends a body again, follows a redirect on its own, decodes a body or
//! decides what an answer means.

mod connect;
mod direct;
mod error;
mod origin;
mod probe;
mod trust;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{TryFutureExt as _, future::Either};
use http::{HeaderMap, HeaderValue, Uri, header, uri::PathAndQuery};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Instant;
use tower_service::Service as _;

use super::Body;
use crate::{
    budget::Budget,
    clock,
    telemetry::metrics::{Metrics, labels::Link},
};
use connect::Connector;
pub use direct::Incoming;
use direct::{Direct, Failure};
use error::unconnected;
pub use error::{SendError, Waited};
use origin::host;
pub use origin::is_same_origin;
pub use probe::{Probe, Reached};

/// What is needed to reach an upstream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The server's endpoint; absolute, with the scheme `http` or `https`.
    pub url: Uri,
    /// Headers that every request to the endpoint's origin carries, over the ones it has.
    pub headers: HeaderMap,
    /// Files of root certificates to believe, beside the system's.
    pub ca: Vec<PathBuf>,
    /// How long connecting may take, name look-up and TLS included.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept. Servers close theirs after 5 s commonly, and a request that
    /// meets the end of its connection may not be sent again.
    pub idle_timeout: Duration,
    /// Most idle connections. Raising it costs the buffers of each, about 16 KiB.
    pub max_idle: usize,
    /// What each connection is charged to.
    pub budget: Budget,
    /// Where it is counted how long the server takes nothing, and for which link.
    pub blocked_of: Option<(Metrics, Link)>,
}

/// A pool of connections to one upstream.
#[derive(Debug, Clone)]
pub struct Client {
    /// For whatever is not plain HTTP/1.1 to the origin.
    pooled: legacy::Client<Connector, Body>,
    direct: Direct,
    connector: Connector,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: Uri,
    /// `Host` for the endpoint's origin.
    host: HeaderValue,
    headers: HeaderMap,
    started: Instant,
    /// When the latest answer came, in milliseconds after `started`, plus one. 0: none has.
    answered: AtomicU64,
}

impl Config {
    /// The defaults for this endpoint.
    #[must_use]
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            headers: HeaderMap::new(),
            ca: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(4),
            max_idle: 256,
            budget: Budget::default(),
            blocked_of: None,
        }
    }
}

impl Client {
    /// A client without connections yet.
    ///
    /// # Errors
    ///
    /// If certificates that are needed cannot be read, or the environment names a proxy we cannot speak to.
    pub fn new(config: Config) -> io::Result<Self> {
        let tls = trust::tls(config.url.scheme_str() == Some("https"), &config.ca)?;
        let connector = Connector::new(&config, tls)?;
        let pooled = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.max_idle)
            // Of which nothing was sent, because a connection from the pool was closed already. One that was just made
            // is not tried again.
            .retry_canceled_requests(true)
            .http1_max_buf_size(direct::MAX_BUFFER_LEN)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_frame_size(MAX_FRAME)
            .http2_max_send_buf_size(MAX_SEND_BUFFER)
            .http2_max_header_list_size(MAX_HEADER_LIST_LEN)
            .build(connector.clone());
        let Config { url, headers, max_idle, idle_timeout, .. } = config;
        let direct = Direct::new(connector.clone(), max_idle, idle_timeout);
        let shared = Shared { host: host(&url), url, headers, started: clock::now(), answered: AtomicU64::new(0) };
        Ok(Self { pooled, direct, connector, shared: Arc::new(shared) })
    }

    /// The server's endpoint.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.shared.url
    }

    /// How many connections were asked for so far, also those that did not come about.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connector.count()
    }

    /// The endpoint with another path and query: `/.well-known/…` at the same origin.
    #[must_use]
    pub fn at(&self, path: PathAndQuery) -> Uri {
        let mut parts = self.url().clone().into_parts();
        parts.path_and_query = Some(path);
        // An absolute URI stays one with any other path.
        Uri::from_parts(parts).unwrap_or_else(|_| self.url().clone())
    }

    /// Sends one request, whose URI must be absolute, and waits for the answer's headers: for ever, because tools and
    /// humans may take hours. `Host` is the URI's
    /// authority (Rule S5). The configured headers, credentials among them, are set if the URI is of the endpoint's
    /// origin, and never for another (rule E22).
    ///
    /// # Errors
    ///
    /// [`SendError`]; the request is not sent again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the answer's body before its end, breaks the exchange off: the upstream sees
    /// the connection or the stream close.
    pub async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Incoming>, SendError> {
        self.send_within(request, None).await
    }

    /// As [`send`](Self::send), and waits for the headers no longer than `limit`, connecting included.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the request is not sent again.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_within(
        &self,
        request: http::Request<Body>,
        limit: Option<Duration>,
    ) -> Result<http::Response<Incoming>, SendError> {
        let url = request.uri().clone();
        let answer = self.send_to(&url, request);
        match limit {
            None => answer.await,
            Some(after) => {
                let late = || SendError::Timeout { url: url.clone(), waited: Waited::Answer, after };
                tokio::time::timeout(after, answer).await.unwrap_or_else(|_| Err(late()))
            }
        }
    }

    /// As [`send`](Self::send), to `url` whatever the request's own is.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the request is not sent again.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    // Not `async`, as each layer of that would keep the request once more.
    pub(crate) fn send_to<'a>(
        &'a self,
        url: &'a Uri,
        mut request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, SendError>> + Send + 'a {
        let is_ours = is_same_origin(url, self.url());
        let headers = request.headers_mut();
        if is_ours {
            for (name, value) in &self.shared.headers {
                headers.insert(name, value.clone());
            }
        }
        if let Some(authorization) = self.connector.proxy_authorization(url) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let answered = if is_ours && self.connector.is_plain(url) {
            Either::Left(self.sent(url, request))
        } else {
            // Boxed: or every exchange would have room for what this takes.
            Either::Right(Box::pin(self.sent_pooled(url, request)))
        };
        answered.inspect_ok(|_| self.shared.note_answer())
    }

    /// Over a connection that this exchange moves itself.
    fn sent<'a>(
        &'a self,
        url: &'a Uri,
        mut request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, SendError>> + Send + 'a {
        request.headers_mut().insert(header::HOST, self.shared.host.clone());
        let path = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        self.direct.send(self.url(), request).map_err(move |failure| match failure {
            Failure::Connect(source) => unconnected(url.clone(), source),
            Failure::Broken(error) => SendError::Broken { url: url.clone(), source: error.into() },
        })
    }

    /// Over a connection that has a task of its own.
    async fn sent_pooled(
        &self,
        url: &Uri,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, SendError> {
        // It writes one from the URI.
        request.headers_mut().remove(header::HOST);
        *request.uri_mut() = url.clone();
        match self.pooled.request(request).await {
            Ok(answer) => Ok(answer.map(Incoming::from)),
            Err(error) if error.is_connect() => Err(unconnected(url.clone(), error.into())),
            Err(error) => Err(SendError::Broken { url: url.clone(), source: error.into() }),
        }
    }

    /// Whether the upstream can be reached: an answer came within the last 10 s, or else a connection comes
    /// about now, TLS included. Sends no message.
    ///
    /// # Errors
    ///
    /// [`SendError::Connect`] or [`SendError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future closes the connection, if there is one.
    pub async fn reachable(&self) -> Result<(), SendError> {
        if self.shared.answered_within(RECENT) {
            return Ok(());
        }
        let url = self.url().clone();
        match self.connector.clone().call(url.clone()).await {
            Ok(_connection) => Ok(()),
            Err(error) => Err(unconnected(url, error)),
        }
    }
}

impl Shared {
    fn note_answer(&self) {
        let millis = clock::now().saturating_duration_since(self.started).as_millis();
        self.answered.store(u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    fn answered_within(&self, recent: Duration) -> bool {
        let Some(millis) = self.answered.load(Ordering::Relaxed).checked_sub(1) else { return false };
        clock::now().saturating_duration_since(self.started) <= Duration::from_millis(millis) + recent
    }
}

/// How long an answer shows that the upstream is there.
const RECENT: Duration = Duration::from_secs(10);

/// What an upstream may send of one body over HTTP/2 before somebody reads it.
const STREAM_WINDOW: u32 = 1 << 20;
/// And of all bodies of its connection together.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Longest frame, as every peer must take it.
const MAX_FRAME: u32 = 16 << 10;
/// What waits for one stream's window before its link has to wait: slices of what is charged as a message.
const MAX_SEND_BUFFER: usize = 256 << 10;
/// Longest head of an answer over HTTP/2, in bytes; for HTTP/1.1, [`direct::MAX_BUFFER_LEN`] bounds it.
const MAX_HEADER_LIST_LEN: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
    };

    use http_body_util::BodyExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// As over a connection that an exchange moves itself: nothing of the request was sent, so it is not sent again.
    #[tokio::test]
    async fn request_whose_kept_connection_of_a_task_was_closed_before_it_goes_over_another() {
        let (listener, marker) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, marked) = (listener.local_addr().unwrap(), marker.local_addr().unwrap());
        let (told, closed) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            for answered in ["1", "2"] {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert_ne!(stream.read_line(&mut head).unwrap(), 0, "ended within {head:?}");
                }
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{answered}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                let marks = marker.accept().unwrap();
                drop(stream);
                drop(marks);
                told.send(()).unwrap();
            }
        });
        // Of another origin: such connections have a task.
        let client = Client::new(Config::new("http://127.0.0.1:1/".parse().unwrap())).unwrap();
        for expected in ["1", "2"] {
            let mut request = http::Request::new(Body::empty());
            *request.uri_mut() = format!("http://{address}/").parse().unwrap();
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
            let mut mark = tokio::net::TcpStream::connect(marked).await.unwrap();
            // The runtime's only thread learns of both ends at once, and we go on before the connection's task does.
            closed.recv().unwrap();
            assert_eq!(mark.read(&mut [0]).await.unwrap(), 0);
        }
        server.join().unwrap();
    }

    #[tokio::test]
    async fn an_upstream_that_is_not_there_is_named_with_the_cause_and_without_its_query() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(Config::new(format!("http://{nobody}/mcp?key=secret").parse().unwrap())).unwrap();
        let error = client.reachable().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot connect to http://{nobody}/mcp: ")), "{error}");
        assert!(error.contains("refused") && !error.contains("secret"), "{error}");
    }
}
