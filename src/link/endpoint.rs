//! Which request is whose: the paths a listener answers on, and the link behind them.
//!
//! ```text
//!   /mcp (or --path)    the link, for GET, POST and DELETE
//!   /sse  /messages     the link, if asked to: HTTP+SSE of MCP 2024-11-05
//!   /healthz            us: we run
//!   /readyz             us: the upstream can be reached, as far as can be told without talking to it
//!   /.well-known/*      the link, where its upstream is HTTP: clients find their way to log in there
//! ```

mod listening;
mod reach;

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tokio_util::sync::CancellationToken;

use super::{mux::Mux, relay::Relay};
use crate::{
    session::mirror::MCP_METHOD,
    transport::http::{Body, Peer, Request, Response},
};
use reach::Reach;

/// A link whose downstream is HTTP. A closed set, so an enum.
#[derive(Debug)]
#[non_exhaustive]
pub enum Link {
    /// HTTP to HTTP.
    Relay(Box<Relay>, Upstream),
    /// HTTP to children.
    Mux(Mux),
}

/// What is known of an upstream that is HTTP.
#[derive(Debug)]
pub struct Upstream(Reach);

/// The paths, and the link behind them.
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: String,
    link: Link,
    /// Whether the two paths of MCP 2024-11-05 are there too.
    has_legacy_sse: bool,
    drain: CancellationToken,
}

impl Upstream {
    /// The upstream with this endpoint.
    #[must_use]
    pub fn new(url: &Uri) -> Self {
        Self(Reach::new(url))
    }

    /// An answer of the upstream's, noted for the readiness probe.
    fn noted(&self, response: Response) -> Response {
        if !response.status().is_server_error() {
            self.0.note_success();
        }
        response
    }
}

impl Link {
    async fn exchange(&self, request: Request, peer: Peer) -> Response {
        match self {
            Self::Mux(mux) => mux.exchange(request, peer).await,
            Self::Relay(relay, upstream) => upstream.noted(relay.exchange(request).await),
        }
    }

    async fn legacy_events(&self, request: Request) -> Option<Response> {
        match self {
            Self::Mux(mux) => Some(mux.legacy_events(request, MESSAGES).await),
            Self::Relay(relay, upstream) => {
                relay.legacy_events(request, MESSAGES).await.map(|response| upstream.noted(response))
            }
        }
    }

    async fn legacy_message(&self, request: Request) -> Option<Response> {
        match self {
            Self::Mux(mux) => Some(mux.legacy_message(request).await),
            Self::Relay(relay, upstream) => {
                relay.legacy_message(request).await.map(|response| upstream.noted(response))
            }
        }
    }

    async fn well_known(&self, request: Request) -> Option<Response> {
        match self {
            Self::Relay(relay, _) => Some(relay.well_known(request).await),
            Self::Mux(_) => None,
        }
    }

    /// Whether an exchange would get through, told without a message of our own (no probing).
    async fn is_ready(&self) -> bool {
        match self {
            Self::Relay(_, Upstream(reach)) => reach.is_ready().await,
            Self::Mux(mux) => mux.is_ready(),
        }
    }
}

impl Endpoint {
    /// Answers MCP requests at `path` through `link`. When `drain` is cancelled, streams that only listen
    /// are ended, with a hint when to come back.
    #[must_use]
    pub fn new(path: String, link: Link, drain: CancellationToken) -> Self {
        Self { shared: Arc::new(Shared { path, link, has_legacy_sse: false, drain }) }
    }

    /// Answers HTTP+SSE (MCP 2024-11-05) at `/sse` and `/messages` too; a relay must be
    /// [made for it](Relay::with_two_endpoints).
    #[must_use]
    pub fn with_legacy_sse(self) -> Self {
        let Shared { path, link, drain, .. } = match Arc::try_unwrap(self.shared) {
            Ok(shared) => shared,
            // Somebody serves with it already; what is agreed on stays.
            Err(shared) => return Self { shared },
        };
        Self { shared: Arc::new(Shared { path, link, has_legacy_sse: true, drain }) }
    }

    /// Ends what the link started, once nothing is served any more.
    ///
    /// # Errors
    ///
    /// If the keeper of the children failed.
    pub async fn close(&self) -> io::Result<()> {
        match &self.shared.link {
            Link::Mux(mux) => mux.close().await,
            Link::Relay(..) => Ok(()),
        }
    }

    /// Whoever waits for [`close`](Self::close) is in a hurry.
    pub fn hurry(&self) {
        match &self.shared.link {
            Link::Mux(mux) => mux.hurry(),
            Link::Relay(..) => {}
        }
    }

    /// Answers one request.
    pub async fn handle(self, request: Request, peer: Peer) -> Response {
        let shared = &*self.shared;
        match request.uri().path() {
            asked if asked == shared.path => shared.mcp(request, peer).await,
            asked if shared.has_legacy_sse && asked == SSE => shared.legacy_events(request).await,
            asked if shared.has_legacy_sse && asked == MESSAGES => shared.legacy_message(request).await,
            HEALTH | READY if !matches!(*request.method(), Method::GET | Method::HEAD) => not_allowed("GET, HEAD"),
            HEALTH => plain(StatusCode::OK, "ok\n"),
            READY => shared.readiness().await,
            asked if asked.starts_with("/.well-known/") => match shared.link.well_known(request).await {
                Some(response) => response,
                None => shared.nothing_here(),
            },
            _ => shared.nothing_here(),
        }
    }
}

impl Shared {
    async fn mcp(&self, request: Request, peer: Peer) -> Response {
        match *request.method() {
            Method::GET | Method::POST | Method::DELETE => {
                let only_listens = only_listens(&request);
                let response = self.link.exchange(request, peer).await;
                if only_listens { listening::ended_by(self.drain.clone(), response) } else { response }
            }
            Method::OPTIONS => {
                let mut response = not_allowed(METHODS);
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            // HEAD too: what it would be the head of is a stream.
            _ => not_allowed(METHODS),
        }
    }

    async fn legacy_events(&self, request: Request) -> Response {
        match self.link.legacy_events(request).await {
            Some(response) => listening::ended_by(self.drain.clone(), response),
            None => self.nothing_here(),
        }
    }

    async fn legacy_message(&self, request: Request) -> Response {
        self.link.legacy_message(request).await.unwrap_or_else(|| self.nothing_here())
    }

    async fn readiness(&self) -> Response {
        if self.drain.is_cancelled() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        if self.link.is_ready().await {
            plain(StatusCode::OK, "ready\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the upstream cannot be reached\n")
        }
    }

    fn nothing_here(&self) -> Response {
        plain(StatusCode::NOT_FOUND, format!("nothing here; the MCP endpoint is {}\n", self.path))
    }
}

/// Whether nobody waits for an answer: a GET, and a subscription of MCP 2026-07-28, which ends without its
/// result when its server goes away (mcp-rules §2.5).
fn only_listens(request: &Request) -> bool {
    let is_subscription =
        || request.headers().get(MCP_METHOD).is_some_and(|method| method.as_bytes() == b"subscriptions/listen");
    *request.method() == Method::GET || (*request.method() == Method::POST && is_subscription())
}

const HEALTH: &str = "/healthz";
const READY: &str = "/readyz";
const SSE: &str = "/sse";
const MESSAGES: &str = "/messages";
/// Paths that say only how we are: whoever watches us need not have a token.
pub const OPEN_PATHS: &[&str] = &[HEALTH, READY];
const METHODS: &str = "GET, POST, DELETE, OPTIONS";

fn not_allowed(methods: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
