//! One exchange: the guard, the browser's questions, the link, and a body that pauses for too long.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    super::{Body, BodyError, Request, Response, cors},
    Config, Peer,
    patience::Running,
    request_body::RequestBody,
};
use crate::telemetry::metrics::{
    Metrics, Present,
    labels::{Blame, ErrorReason, TimeoutOf},
};

/// A response's body, which keeps its connection from being idle.
#[derive(Debug)]
pub(super) struct Leaving {
    body: Body,
    _counted: Present,
    /// Not for HTTP/2, where a connection has many exchanges.
    _running: Option<Running>,
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
    let origin = match config.guard.check(&head) {
        Ok(origin) => origin.cloned(),
        Err(refusal) => {
            count_refused(&config.resources.metrics, ErrorReason::Forbidden);
            tracing::info!(%peer, host = ?head.headers.get(header::HOST), origin = ?head.headers.get(header::ORIGIN), %refusal, "request refused");
            return refusal.response().map(|body| Leaving { body, _counted, _running: running });
        }
    };
    let is_open = config.open_paths.contains(&head.uri.path());
    let mut response = if cors::is_preflight(&head) {
        cors::preflight(&head)
    } else if let Err(refusal) = config.guard.take_token(&mut head)
        && !is_open
    {
        count_refused(&config.resources.metrics, ErrorReason::Unauthorized);
        tracing::info!(%peer, %refusal, "request refused");
        refusal.response()
    } else {
        passed_on(head, body, peer, config, handle).await
    };
    if let Some(origin) = origin {
        cors::tell(origin, &mut response);
    }
    response.map(|body| Leaving { body, _counted, _running: running })
}

#[cold]
fn count_refused(metrics: &Metrics, reason: ErrorReason) {
    metrics.errors.add((Blame::Downstream, reason), 1);
}

async fn passed_on<H, F>(
    head: http::request::Parts,
    body: Incoming,
    peer: Peer,
    config: &Config,
    handle: &H,
) -> Response
where
    H: Fn(Request, Peer) -> F,
    F: Future<Output = Response>,
{
    let version = head.version;
    let (body, mut stalled) = RequestBody::new(body, config.body_timeout);
    let handled = handle(Request::from_parts(head, body), peer);
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
            timed_out(version)
        }
    }
}

/// Says that the body took too long. Nothing can follow it on the same connection: where the next request
/// would begin is not known.
fn timed_out(version: Version) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
