//! Which request is whose: the paths a listener answers on, and the link behind them.
//!
//! ```text
//!   /mcp (or --path)    the link
//!   /healthz  /readyz   us
//!   /.well-known/*      the link, where its upstream is HTTP: clients find their way to log in there
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::relay::Relay;
use crate::transport::http::{Body, Peer, Request, Response};

/// A link whose downstream is HTTP. A closed set, so an enum.
#[derive(Debug)]
#[non_exhaustive]
pub enum Link {
    /// HTTP to HTTP.
    Relay(Relay),
}

/// The paths, and the link behind them.
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: String,
    link: Link,
}

impl Endpoint {
    /// Answers MCP requests at `path` through `link`.
    #[must_use]
    pub fn new(path: String, link: Link) -> Self {
        Self { shared: Arc::new(Shared { path, link }) }
    }

    /// Answers one request.
    pub async fn handle(self, request: Request, _peer: Peer) -> Response {
        let Shared { path, link } = &*self.shared;
        match request.uri().path() {
            asked if asked == path => match link {
                Link::Relay(relay) => relay.exchange(request).await,
            },
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            asked if asked.starts_with("/.well-known/") => match link {
                Link::Relay(relay) => relay.well_known(request).await,
            },
            _ => plain(StatusCode::NOT_FOUND, "nothing here; the MCP endpoint is elsewhere\n"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
