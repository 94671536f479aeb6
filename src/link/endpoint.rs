//! Which request is whose: the paths a listener answers on, and the links behind them.
//!
//! ```text
//!   /mcp (or --path)    the link, for GET, POST and DELETE; with several, each at /NAME/mcp
//!   /sse  /messages     the link, if asked to: HTTP+SSE of MCP 2024-11-05
//!   /healthz            us: we run
//!   /readyz             us: the upstreams can be reached, as far as can be told without talking to them
//!   --metrics /PATH     us: what was counted; behind the token, if there is one
//!   /.well-known/*      the link, where its upstream is HTTP: clients find their way to log in there
//! ```
//!
//! Links know nothing of each other. What one of them cannot do is answered by its own errors, and the others go on.

mod listening;
mod reach;
mod site;

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{Either, join_all, ready},
};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tokio_util::sync::CancellationToken;

use super::{mux::Mux, relay::Relay};
use crate::{
    resources::Resources,
    session::mirror::MCP_METHOD,
    telemetry::scrape,
    transport::http::{Body, Peer, Request, Response},
};
use reach::Reach;
pub use site::Site;
use site::{Part, WELL_KNOWN};

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

/// The paths, and the links behind them.
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sites: Vec<Site>,
    /// Where the counters are, if anywhere.
    metrics: Option<(String, Resources)>,
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

impl Endpoint {
    /// Answers MCP requests through these links, each at its own paths. When `drain` is cancelled, streams that only
    /// listen are ended, with a hint when to come back.
    #[must_use]
    pub fn new(sites: Vec<Site>, drain: CancellationToken) -> Self {
        Self { shared: Arc::new(Shared { sites, metrics: None, drain }) }
    }

    /// The links, and where they are.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.shared.sites
    }

    /// Shows what was counted at `path`, to whoever may use the endpoint.
    #[must_use]
    pub fn with_metrics(mut self, path: String, resources: Resources) -> Self {
        // Where somebody serves with it already, what is agreed on stays.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.metrics = Some((path, resources));
        }
        self
    }

    /// Ends what the links started, once nothing is served any more. Waits for all, whatever becomes of one.
    ///
    /// # Errors
    ///
    /// If the keeper of a link's children failed; the first of several.
    pub async fn close(&self) -> io::Result<()> {
        join_all(self.shared.sites.iter().map(Site::close)).await.into_iter().collect()
    }

    /// Whoever waits for [`close`](Self::close) is in a hurry.
    pub fn hurry(&self) {
        self.shared.sites.iter().for_each(Site::hurry);
    }

    /// Answers one request.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice, and a request is large")]
    pub fn handle(self, request: Request, peer: Peer) -> impl Future<Output = Response> + Send {
        async move {
            let shared = &*self.shared;
            let asked = request.uri().path();
            match shared.sites.iter().find_map(|site| Some((site, site.part(asked)?))) {
                Some((site, Part::Mcp)) => return shared.mcp(site, request, peer).await,
                // In boxes, as all that is rare: every exchange has the room that the largest of these takes.
                Some((site, Part::Events)) => return Box::pin(shared.legacy_events(site, request)).await,
                Some((site, Part::Messages)) => {
                    return Box::pin(site.legacy_message(request)).await.unwrap_or_else(|| shared.nothing_here());
                }
                None => {}
            }
            match asked {
                HEALTH | READY if !matches!(*request.method(), Method::GET | Method::HEAD) => not_allowed("GET, HEAD"),
                HEALTH => plain(StatusCode::OK, "ok\n"),
                asked if shared.shows_metrics_at(asked) => shared.metrics(request.method()),
                READY => Box::pin(shared.readiness()).await,
                asked if asked.starts_with(WELL_KNOWN) => Box::pin(shared.well_known(request)).await,
                _ => shared.nothing_here(),
            }
        }
    }
}

impl Shared {
    /// Not `async`, as each layer of that would keep the request once more.
    fn mcp<'a>(&'a self, site: &'a Site, request: Request, peer: Peer) -> impl Future<Output = Response> + Send + 'a {
        match *request.method() {
            Method::GET | Method::POST | Method::DELETE => {
                let only_listens = only_listens(&request);
                Either::Left(site.exchange(request, peer).map(move |response| {
                    if only_listens { listening::ended_by(self.drain.clone(), response) } else { response }
                }))
            }
            Method::OPTIONS => {
                let mut response = not_allowed(METHODS);
                *response.status_mut() = StatusCode::NO_CONTENT;
                Either::Right(ready(response))
            }
            // HEAD too: what it would be the head of is a stream.
            _ => Either::Right(ready(not_allowed(METHODS))),
        }
    }

    async fn legacy_events(&self, site: &Site, request: Request) -> Response {
        match site.legacy_events(request).await {
            Some(response) => listening::ended_by(self.drain.clone(), response),
            None => self.nothing_here(),
        }
    }

    async fn well_known(&self, request: Request) -> Response {
        let Some(site) = self.sites.iter().find(|site| site.is_described_at(request.uri().path())) else {
            return self.nothing_here();
        };
        site.well_known(request).await.unwrap_or_else(|| self.nothing_here())
    }

    async fn readiness(&self) -> Response {
        if self.drain.is_cancelled() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        let ready = join_all(self.sites.iter().map(Site::is_ready)).await;
        let lacking = self.sites.iter().zip(ready).filter(|(_, is_ready)| !is_ready);
        let lacking: Vec<&str> = lacking.map(|(site, _)| site.name().unwrap_or_default()).collect();
        match lacking[..] {
            [] => plain(StatusCode::OK, "ready\n"),
            [""] => plain(StatusCode::SERVICE_UNAVAILABLE, "the upstream cannot be reached\n"),
            _ => {
                let line = format!("cannot be reached: {}\n", lacking.join(", "));
                plain(StatusCode::SERVICE_UNAVAILABLE, line)
            }
        }
    }

    fn shows_metrics_at(&self, asked: &str) -> bool {
        self.metrics.as_ref().is_some_and(|(path, _)| path == asked)
    }

    fn metrics(&self, method: &Method) -> Response {
        match &self.metrics {
            Some((_, resources)) => scrape::answer(method, resources),
            None => self.nothing_here(),
        }
    }

    /// Says what to do, and of several no names: those are for whoever was told them.
    fn nothing_here(&self) -> Response {
        let line = match &self.sites[..] {
            [only] => format!("nothing here; the MCP endpoint is {}\n", only.path()),
            _ => format!("nothing here; an MCP endpoint is /NAME{MCP}, with the name of its server\n"),
        };
        plain(StatusCode::NOT_FOUND, line)
    }
}

/// Whether nobody waits for an answer: a GET, and a subscription of MCP 2026-07-28, which ends without its
/// result when its server goes away (rule M3).
fn only_listens(request: &Request) -> bool {
    let is_subscription =
        || request.headers().get(MCP_METHOD).is_some_and(|method| method.as_bytes() == b"subscriptions/listen");
    *request.method() == Method::GET || (*request.method() == Method::POST && is_subscription())
}

const HEALTH: &str = "/healthz";
const READY: &str = "/readyz";
/// The last segment of an endpoint's path, and the whole path of the only one.
pub const MCP: &str = "/mcp";
/// Paths that say only how we are: whoever watches us need not have a token.
pub const OPEN_PATHS: &[&str] = &[HEALTH, READY];
/// Paths of HTTP+SSE (MCP 2024-11-05).
pub const LEGACY_PATHS: &[&str] = &[site::SSE, site::MESSAGES];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn future_of_an_exchange_is_small() {
        fn len<F>(_: impl Fn(Endpoint, Request, Peer) -> F) -> usize {
            size_of::<F>()
        }
        let len = len(Endpoint::handle);
        // Each exchange moves it into a box of its own.
        assert!(len <= 4 << 10, "{len} bytes");
    }
}
