//! How an exchange is answered: whom it waits for, and what its client gets.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body::{Body as HttpBody, Frame as BodyFrame, SizeHint};
use shadowcat_codecs::envelope::{Envelope, Kind};
use tokio::{sync::oneshot, time::sleep_until};

use crate::{
    budget::Allowance,
    clock,
    link::mux::{
        UNKNOWN,
        hosts::Way,
        lanes::{Opening, Seat},
        order::{Order, Post},
    },
    session::{McpSessionId, Reason, Reply, RequestId, Timeout, mirror::MCP_SESSION_ID},
    telemetry::metrics::{Metrics, labels::TimeoutOf},
    transport::http::{Body, BodyError, Response, body::Queue},
};

/// An exchange's place with a child's task: gone when this is dropped.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) _tell: oneshot::Sender<()>,
}

/// When what an answer is for had arrived, and how long the child took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    pub(super) arrived: Instant,
    pub(super) waited: Duration,
}

/// Marks the response with which a session ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended;

/// Whose the answer is: the id of the request, if it is one.
#[derive(Debug)]
pub(super) struct Asker(Option<RequestId>);

/// Events as a body.
#[derive(Debug)]
struct Events {
    queue: Queue,
    _presence: Presence,
}

/// Gives a message to a child's task and waits for the beginning of its answer; no longer than its answer may take,
/// unless the child's task has taken it.
pub(super) async fn ask(
    (way, metrics): (&Way, &Metrics),
    post: Box<Post>,
    presence: Presence,
    opening: oneshot::Receiver<Opening>,
) -> Result<Response, Reply> {
    let (asker, arrived, claim) = (Asker::of(&post.frame, &post.envelope), post.arrived, post.claim.clone());
    let answered = async {
        if way.orders.send(Order::Post(post)).await.is_err() {
            return Err(asker.reply(way.too_late()));
        }
        opened(opening, presence, arrived, &asker).await
    };
    let Some(claim) = claim else { return answered.await };
    let mut answered = pin!(answered);
    tokio::select! {
        biased;
        answer = &mut answered => return answer,
        () = sleep_until(claim.due.into()) => {}
    }
    if !claim.claim() {
        return answered.await;
    }
    metrics.timeouts.add((TimeoutOf::Response,), 1);
    Err(asker.reply(Reason::Timeout(Timeout::of_answer(claim.limit))))
}

pub(super) async fn listen(
    way: &Way,
    last_event_id: Option<HeaderValue>,
    allowance: Allowance,
) -> Result<Response, Reply> {
    let (answer, opening) = oneshot::channel();
    let (tell, presence) = oneshot::channel();
    let seat = Seat { answer, presence, allowance };
    if way.orders.send(Order::Listen { last_event_id, seat }).await.is_err() {
        return Err(Reply::without_id(way.too_late()));
    }
    opened(opening, Presence { _tell: tell }, clock::now().into_std(), &Asker(None)).await
}

async fn opened(
    opening: oneshot::Receiver<Opening>,
    presence: Presence,
    arrived: Instant,
    asker: &Asker,
) -> Result<Response, Reply> {
    match opening.await {
        Ok(Opening::Json { status, message, ends_session, waited }) => {
            let mut response = Response::new(Body::boxed(message));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            if ends_session {
                response.extensions_mut().insert(Ended);
            }
            response.extensions_mut().insert(Took { arrived, waited });
            Ok(response)
        }
        Ok(Opening::Events(queue, waited)) => {
            let mut response = Response::new(Body::boxed(Events { queue, _presence: presence }));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // Rule H10: a proxy in front of us must not collect events.
            headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
            response.extensions_mut().insert(Took { arrived, waited });
            Ok(response)
        }
        Ok(Opening::Accepted) => Ok(empty(StatusCode::ACCEPTED)),
        Ok(Opening::Refused(reply)) => Err(reply),
        // The task ended with the answer unsaid.
        Err(_) => Err(asker.reply(UNKNOWN)),
    }
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Rule G9: only a session that came about is named.
pub(super) fn name_session(response: &mut Response, id: McpSessionId) {
    let has_begun = response.status().is_success() && response.extensions().get::<Ended>().is_none();
    if let (true, Ok(value)) = (has_begun, HeaderValue::from_str(id.as_str())) {
        response.headers_mut().insert(MCP_SESSION_ID, value);
    }
}

impl Asker {
    fn of(frame: &[u8], envelope: &Envelope) -> Self {
        let id = envelope.id().filter(|_| envelope.kind() == Kind::Request);
        Self(id.map(|id| RequestId::new(id.of(frame))))
    }

    fn reply(&self, reason: Reason) -> Reply {
        match &self.0 {
            Some(id) => Reply::new(id.clone(), reason),
            None => Reply::without_id(reason),
        }
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Self::Data>, Self::Error>>> {
        self.queue.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(BodyFrame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

pub(super) const JSON: &str = "application/json";
pub(super) const EVENT_STREAM: &str = "text/event-stream";
pub(super) const BOTH: &str = "application/json, text/event-stream";
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
