//! The client side: one upstream, its address and credentials, a pool of connections to it.
//!
//! A request is sent once. Nothing here sends a body again, follows a redirect on its own or decides what
//! an answer means.

use std::{io, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{Body, Incoming};

/// What is needed to reach an upstream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The server's endpoint; absolute, with the scheme `http` or `https`.
    pub url: Uri,
    /// Headers that every request carries, over the ones it has.
    pub headers: HeaderMap,
    /// How long connecting may take, name look-up and TLS included.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept. Servers close theirs after 5 s commonly, and a request that
    /// meets the end of its connection may not be sent again.
    pub idle_timeout: Duration,
}

/// A pool of connections to one upstream.
#[derive(Debug, Clone)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Body>,
    url: Uri,
    headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {url}: {source}")]
    Connect {
        /// Where to.
        url: Uri,
        /// What the system or the TLS library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The exchange broke off before the answer's headers; the request may have been taken.
    #[error("{url} broke off before it answered: {source}")]
    Broken {
        /// Where to.
        url: Uri,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Config {
    /// The defaults for this endpoint.
    #[must_use]
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            headers: HeaderMap::new(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(4),
        }
    }
}

impl Client {
    /// A client without connections yet.
    ///
    /// # Errors
    ///
    /// If the system's root certificates cannot be read and the endpoint needs them.
    pub fn new(config: Config) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        // Nagle's algorithm holds small writes back for up to 40 ms.
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(http);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self { inner, url: config.url, headers: config.headers })
    }

    /// The server's endpoint.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// The endpoint with another path and query: `/.well-known/…` at the same origin.
    #[must_use]
    pub fn at(&self, path: PathAndQuery) -> Uri {
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(path);
        // An absolute URI stays one with any other path.
        Uri::from_parts(parts).unwrap_or_else(|_| self.url.clone())
    }

    /// Sends one request, whose URI must be absolute, and waits for the answer's headers. The configured
    /// headers are set, and `Host` is the URI's authority (Rule S5).
    ///
    /// # Errors
    ///
    /// [`SendError`]; the request is not sent again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the answer's body before its end, breaks the exchange off: the upstream sees
    /// the connection or the stream close.
    pub async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, SendError> {
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        for (name, value) in &self.headers {
            set(headers, name, value);
        }
        let url = request.uri().clone();
        self.inner.request(request).await.map_err(|error| {
            if error.is_connect() {
                SendError::Connect { url, source: error.into() }
            } else {
                SendError::Broken { url, source: error.into() }
            }
        })
    }
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    headers.insert(name, value.clone());
}
