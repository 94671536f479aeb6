//! One exchange: the guard, the browser's questions, the link, and a body that pauses for too long.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{
    super::{Body, BodyError, Request, Response, cors},
    Config, Peer, lasting,
    patience::FREE_HEAD_LEN,
    phase::{Phase, Running},
    refusal::Refusal,
    request_body::RequestBody,
};
use crate::{
    budget::{Budget, Charge},
    telemetry::metrics::{
        Metrics, Present,
        labels::{Blame, ErrorReason, TimeoutOf},
    },
};

/// A response's body, which keeps its connection from being idle.
#[derive(Debug)]
pub(super) struct Leaving {
    body: Body,
    /// `None` once the rest is given back.
    held: Option<Held>,
    /// Whether the connection is told when it pauses.
    lasts: bool,
}

/// What an exchange holds to its end.
#[derive(Debug)]
struct Held {
    _counted: Present,
    /// For a head that is longer than usual: links keep its headers for as long as they like.
    head_room: Option<Charge>,
    /// Not for HTTP/2, where a connection has many exchanges.
    running: Option<Running>,
}

/// Answers one request. The guard comes first: nothing of the body is read for one that may not ask.
pub(super) async fn answer<H, F>(
    request: http::Request<Incoming>,
    peer: Peer,
    config: &Config,
    handle: &H,
    running: Option<Running>,
) -> http::Response<Leaving>
where
    H: Fn(Request, Peer) -> F,
    F: Future<Output = Response>,
{
    let _counted = config.resources.metrics.present(|all| &all.exchanges, ());
    let (mut head, body) = request.into_parts();
    let may_last = running.is_some() && body.is_end_stream() && lasting::may_last(&head);
    let mut held = Held { _counted, head_room: None, running };
    match head_room(&head, &config.resources.budget) {
        Ok(room) => held.head_room = room,
        Err(refusal) => {
            count_refused(&config.resources.metrics, Blame::Us, ErrorReason::Overloaded);
            tracing::warn!(%peer, "request refused: no room for its headers");
            return refusal.response(head.version).map(|body| Leaving::new(body, held, false));
        }
    }
    let origin = match config.guard.check(&head) {
        Ok(origin) => origin.cloned(),
        Err(refusal) => {
            count_refused(&config.resources.metrics, Blame::Downstream, ErrorReason::Forbidden);
            tracing::info!(%peer, host = ?head.headers.get(header::HOST), origin = ?head.headers.get(header::ORIGIN), %refusal, "request refused");
            return refusal.response().map(|body| Leaving::new(body, held, false));
        }
    };
    let is_open = config.open_paths.contains(&head.uri.path());
    let mut response = if cors::is_preflight(&head) {
        cors::preflight(&head)
    } else if let Err(refusal) = config.guard.take_token(&mut head)
        && !is_open
    {
        count_refused(&config.resources.metrics, Blame::Downstream, ErrorReason::Unauthorized);
        tracing::info!(%peer, %refusal, "request refused");
        refusal.response()
    } else {
        let unread = held.running.as_ref().filter(|_| !body.is_end_stream()).map(Running::unread);
        passed_on(head, RequestBody::new(body, config.body_timeout, unread), peer, config, handle).await
    };
    if let Some(origin) = origin {
        cors::tell(origin, &mut response);
    }
    let lasts = may_last && lasting::lasts(&response);
    response.map(|body| Leaving::new(body, held, lasts))
}

/// Room for a head that is longer than what each connection and stream has in any case.
fn head_room(head: &Parts, budget: &Budget) -> Result<Option<Charge>, Refusal> {
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let len = headers.sum::<usize>() + head.uri.path().len();
    if len <= FREE_HEAD_LEN {
        return Ok(None);
    }
    budget.try_take(len).map(Some).ok_or_else(|| Refusal::no_room(budget.total()))
}

#[cold]
fn count_refused(metrics: &Metrics, blame: Blame, reason: ErrorReason) {
    metrics.errors.add((blame, reason), 1);
}

async fn passed_on<H, F>(
    head: Parts,
    (body, mut stalled): (RequestBody, oneshot::Receiver<()>),
    peer: Peer,
    config: &Config,
    handle: &H,
) -> Response
where
    H: Fn(Request, Peer) -> F,
    F: Future<Output = Response>,
{
    let version = head.version;
    // In a box of its own: the room for an exchange stays as long as hyper has the connection.
    let handled = Box::pin(handle(Request::from_parts(head, body), peer));
    let response = tokio::select! {
        biased;
        Ok(()) = &mut stalled => None,
        response = handled => Some(response),
    };
    match response {
        // A link that reads the body itself may have answered in the same turn what it saw break off.
        Some(response) if stalled.is_terminated() || stalled.try_recv().is_err() => response,
        _ => {
            config.resources.metrics.timeouts.add((TimeoutOf::Body,), 1);
            tracing::info!(%peer, limit = ?config.body_timeout, "a request's body paused for too long");
            Refusal::body_too_late(config.body_timeout).response(version)
        }
    }
}

impl Leaving {
    fn new(body: Body, held: Held, lasts: bool) -> Self {
        Self { body, held: Some(held), lasts }
    }

    /// Its connection's, if that is to be told when it pauses.
    fn phase(&self) -> Option<&Phase> {
        let held = self.held.as_ref().filter(|_| self.lasts)?;
        held.running.as_ref().map(Running::phase)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(phase) = self.phase().filter(|phase| phase.is_lent()).cloned() else { return };
        // What it holds is held on, and the rest tells nobody when it pauses.
        phase.give_back(Self { body: mem::take(&mut self.body), held: self.held.take(), lasts: false });
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(phase) = self.phase() {
            phase.note(frame.is_pending());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode, Version};

    use super::*;

    fn head(len: usize) -> Parts {
        Request::post("/mcp").header("mcp-param-x", "x".repeat(len)).body(()).unwrap().into_parts().0
    }

    #[test]
    fn long_heads_are_charged_until_there_is_no_room_and_short_ones_are_not() {
        let budget = Budget::new(16 << 20, 1 << 20).unwrap();
        assert!(head_room(&head(4 << 10), &budget).unwrap().is_none());
        let (long, len) = (head(60 << 10), 60 << 10);
        let rooms: Vec<_> = (0..1000).map_while(|_| head_room(&long, &budget).ok()).collect();
        assert!((1..1000).contains(&rooms.len()) && budget.held() >= rooms.len() * len, "{}", rooms.len());
        let refused = head_room(&long, &budget).unwrap_err().response(Version::HTTP_2);
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
        drop(rooms);
        assert!(head_room(&long, &budget).is_ok());
    }
}
