//! One link and the paths that are its own.
//!
//! | | the only one | one of several |
//! |---|---|---|
//! | the endpoint | `/mcp`, or another | `/NAME/mcp` |
//! | HTTP+SSE of MCP 2024-11-05 | `/sse`, `/messages` | `/NAME/sse`, `/NAME/messages` |
//! | metadata (RFC 8615) | `/.well-known/*` | `/.well-known/*/NAME/mcp` |

use std::io;

use futures::{FutureExt as _, future::Either};
use http::uri::PathAndQuery;

use super::{Link, MCP};
use crate::transport::http::{Peer, Request, Response};

/// A link, and where clients find it.
#[derive(Debug)]
pub struct Site {
    /// `None` if there is no other.
    name: Option<String>,
    path: String,
    legacy: Option<Legacy>,
    link: Link,
}

/// The two paths of MCP 2024-11-05.
#[derive(Debug)]
struct Legacy {
    events: String,
    messages: String,
}

/// What of a site a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Where messages are.
    Mcp,
    /// The stream of MCP 2024-11-05.
    Events,
    /// Where that revision posts to.
    Messages,
}

impl Site {
    /// The only link of a listener, at `path`.
    #[must_use]
    pub fn new(path: String, link: Link) -> Self {
        Self { name: None, path, legacy: None, link }
    }

    /// One link of several, at `/NAME/mcp`. The name must be a segment of a path.
    #[must_use]
    pub fn named(name: String, link: Link) -> Self {
        let path = format!("/{name}{MCP}");
        Self { name: Some(name), path, legacy: None, link }
    }

    /// The site with HTTP+SSE (MCP 2024-11-05) at paths beside its own; a relay must be
    /// [made for it](crate::link::relay::Relay::with_two_endpoints).
    #[must_use]
    pub fn with_legacy_sse(mut self) -> Self {
        let prefix = self.name.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        self.legacy = Some(Legacy { events: format!("{prefix}{SSE}"), messages: format!("{prefix}{MESSAGES}") });
        self
    }

    /// Where messages are.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its name, where there are several.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What this path is here; `None` if it is nothing of this site's.
    pub(super) fn part(&self, asked: &str) -> Option<Part> {
        if asked == self.path {
            return Some(Part::Mcp);
        }
        match &self.legacy {
            Some(legacy) if asked == legacy.events => Some(Part::Events),
            Some(legacy) if asked == legacy.messages => Some(Part::Messages),
            _ => None,
        }
    }

    /// Whether a path below `/.well-known/` is about this site: metadata lie in front of the path of what they are
    /// about (RFC 8615, and RFC 9728, 3.1). What is about no path is about the only site.
    pub(super) fn is_described_at(&self, asked: &str) -> bool {
        self.name.is_none() || asked.strip_suffix(&self.path).is_some_and(|before| before.len() > WELL_KNOWN.len())
    }

    /// Not `async`, as each layer of that would keep the request once more.
    pub(super) fn exchange(&self, request: Request, peer: Peer) -> impl Future<Output = Response> + Send {
        match &self.link {
            Link::Mux(mux) => Either::Left(mux.exchange(request, peer)),
            Link::Relay(relay, upstream) => {
                Either::Right(relay.exchange(request).map(|response| upstream.noted(response)))
            }
        }
    }

    pub(super) async fn legacy_events(&self, request: Request) -> Option<Response> {
        let messages = &self.legacy.as_ref()?.messages;
        match &self.link {
            Link::Mux(mux) => Some(mux.legacy_events(request, messages).await),
            Link::Relay(relay, upstream) => {
                relay.legacy_events(request, messages).await.map(|response| upstream.noted(response))
            }
        }
    }

    pub(super) async fn legacy_message(&self, request: Request) -> Option<Response> {
        match &self.link {
            Link::Mux(mux) => Some(mux.legacy_message(request).await),
            Link::Relay(relay, upstream) => {
                relay.legacy_message(request).await.map(|response| upstream.noted(response))
            }
        }
    }

    pub(super) async fn well_known(&self, mut request: Request) -> Option<Response> {
        let Link::Relay(relay, _) = &self.link else { return None };
        if self.name.is_some() {
            let asked = request.uri().path_and_query().and_then(|asked| moved(asked, &self.path, relay.path()))?;
            *request.uri_mut() = asked.into();
        }
        Some(relay.well_known(request).await)
    }

    /// Whether an exchange would get through, told without a message of our own (no probing).
    pub(super) async fn is_ready(&self) -> bool {
        match &self.link {
            Link::Relay(_, upstream) => upstream.0.is_ready().await,
            Link::Mux(mux) => mux.is_ready(),
        }
    }

    pub(super) async fn close(&self) -> io::Result<()> {
        match &self.link {
            Link::Mux(mux) => mux.close().await,
            Link::Relay(..) => Ok(()),
        }
    }

    pub(super) fn hurry(&self) {
        match &self.link {
            Link::Mux(mux) => mux.hurry(),
            Link::Relay(..) => {}
        }
    }
}

/// What is asked about `ours`, asked about `theirs`.
fn moved(asked: &PathAndQuery, ours: &str, theirs: &str) -> Option<PathAndQuery> {
    let before = asked.path().strip_suffix(ours)?;
    // The root has no path to lie in front of (RFC 9728, 3.1).
    let theirs = if theirs == "/" { "" } else { theirs };
    let query = asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    PathAndQuery::try_from(format!("{before}{theirs}{query}")).ok()
}

pub(super) const WELL_KNOWN: &str = "/.well-known/";
pub(super) const SSE: &str = "/sse";
pub(super) const MESSAGES: &str = "/messages";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_asked_about_the_path_of_the_upstream() {
        for (asked, theirs, expected) in [
            (
                "/.well-known/oauth-protected-resource/a/mcp",
                "/api/mcp",
                "/.well-known/oauth-protected-resource/api/mcp",
            ),
            ("/.well-known/oauth-protected-resource/a/mcp?x=1", "/", "/.well-known/oauth-protected-resource?x=1"),
            ("/.well-known/openid-configuration/a/mcp", "/mcp", "/.well-known/openid-configuration/mcp"),
        ] {
            let moved = moved(&asked.parse().unwrap(), "/a/mcp", theirs).unwrap();
            assert_eq!(moved, expected);
        }
    }
}
