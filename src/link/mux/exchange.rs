//! One exchange: what was asked over HTTP, whom to ask, and how the answer begins.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame as BodyFrame, SizeHint};
use http_body_util::BodyExt as _;
use shadowcat_codecs::{
    Frame, Span,
    envelope::{Envelope, EnvelopeParser, Kind},
    line::{LineEncoder, LineEnds},
};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use super::{
    ChildSharing, Client, Mux,
    child_io::elements_copy,
    hosts::Way,
    lanes::{Opening, Seat},
    order::{Order, Post},
    sharing::reply_to,
};
use crate::{
    budget::{Allowance, Toward},
    clock,
    link::{counting::count_error, gathered::Gathered, http_error::http_error, no_room, not_admitted, server_timing},
    session::{
        McpSessionId, Reason, Reply, StreamKey,
        mirror::{LAST_EVENT_ID, MCP_SESSION_ID},
        revision::{Class, Era, Facts, classify},
    },
    telemetry::{
        metrics::{
            Metrics,
            labels::{CopyReason, Link, To},
        },
        trace::{Traced, shown},
    },
    transport::http::{Body, BodyError, Peer, Request, RequestBody, Response, body::Queue},
};

/// An exchange's place with a child's task: gone when this is dropped.
#[derive(Debug)]
struct Presence {
    _tell: oneshot::Sender<()>,
}

/// When what an answer is for had arrived, and how long the child took.
#[derive(Debug, Clone, Copy)]
struct Took {
    arrived: Instant,
    waited: Duration,
}

/// Marks the response with which a session ended.
#[derive(Debug, Clone, Copy)]
struct Ended;

/// Events as a body.
#[derive(Debug)]
struct Events {
    queue: Queue,
    _presence: Presence,
}

impl Mux {
    /// Answers one request to the MCP endpoint.
    pub async fn exchange(&self, request: Request, peer: Peer) -> Response {
        let allowance = match self.exchange_room() {
            Ok(allowance) => allowance,
            Err(reply) => return self.refused(&reply),
        };
        let mut traced = Traced::by_headers(request.headers());
        let span = traced.span().clone();
        let answered = async {
            let answered = match *request.method() {
                Method::POST => {
                    let posted = self.post(request, peer, (allowance, &mut traced)).await;
                    posted.map(|response| self.timed(response))
                }
                Method::GET => self.get(&request, allowance).await,
                Method::DELETE => self.delete(&request),
                _ => Err(Reply::without_id(Reason::MethodNotAllowed { allowed: ALLOWED })),
            };
            self.told(answered)
        };
        answered.instrument(span).await
    }

    /// The answer, or what is said instead.
    fn told(&self, answered: Result<Response, Reply>) -> Response {
        let response = answered.unwrap_or_else(|reply| self.refused(&reply));
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }

    /// Opens the event stream of HTTP+SSE (MCP 2024-11-05), which is a session. `messages` is the path to
    /// post to.
    pub async fn legacy_events(&self, request: Request, messages: &str) -> Response {
        if request.method() != Method::GET {
            return self.refused(&Reply::without_id(Reason::MethodNotAllowed { allowed: "GET" }));
        }
        let allowance = match self.exchange_room() {
            Ok(allowance) => allowance,
            Err(reply) => return self.refused(&reply),
        };
        let endpoint = |id: McpSessionId| format!("{messages}?sessionId={}", id.as_str());
        let opened = match self.new_session(Some(&endpoint)) {
            Ok((_, orders)) => listen(&orders, None, allowance).await,
            Err(reason) => Err(Reply::without_id(reason)),
        };
        opened.unwrap_or_else(|reply| self.refused(&reply))
    }

    /// Takes a message of an HTTP+SSE session, by the id in the query.
    pub async fn legacy_message(&self, request: Request) -> Response {
        if request.method() != Method::POST {
            return self.refused(&Reply::without_id(Reason::MethodNotAllowed { allowed: "POST" }));
        }
        let allowance = match self.exchange_room() {
            Ok(allowance) => allowance,
            Err(reply) => return self.refused(&reply),
        };
        let query = request.uri().query().unwrap_or_default();
        let id = query.split('&').find_map(|pair| pair.strip_prefix("sessionId="));
        let way = id.and_then(|id| McpSessionId::parse(id.as_bytes())).and_then(|id| self.sessions.find(&id));
        let taken = match way {
            Some(Way { orders, .. }) => {
                let mut traced = Traced::by_headers(request.headers());
                let span = traced.span().clone();
                self.legacy_post(request, &orders, (allowance, &mut traced)).instrument(span).await
            }
            None => Err(Reply::without_id(Reason::SessionNotFound)),
        };
        self.told(taken)
    }

    /// What an exchange takes, if there is room for one more.
    fn exchange_room(&self) -> Result<Allowance, Reply> {
        let budget = &self.parts.options.resources.budget;
        budget.try_admit(FIXED_LEN, OWN_LEN).ok_or_else(|| Reply::without_id(not_admitted(budget)))
    }

    async fn legacy_post(
        &self,
        request: Request,
        orders: &mpsc::Sender<Order>,
        holder: (Allowance, &mut Traced),
    ) -> Result<Response, Reply> {
        let (parts, body) = request.into_parts();
        let (post, presence, opening) = self.read(parts.headers, body, holder).await?;
        ask(orders, post, presence, opening).await
    }

    async fn post(&self, request: Request, peer: Peer, holder: (Allowance, &mut Traced)) -> Result<Response, Reply> {
        let (parts, body) = request.into_parts();
        check_media(&parts.headers)?;
        let (mut post, presence, opening) = self.read(parts.headers, body, holder).await?;
        let (frame, envelope) = (&post.frame, &post.envelope);
        let refused = |reason: Reason| reply_to(frame, envelope, reason);
        let facts = Facts::of(&post.headers).map_err(|mismatch| refused(mismatch.into()))?;
        let class = classify(&facts, envelope, frame).map_err(refused)?;
        let orders = match class {
            Class::Modern { .. } => self.shared_child(self.client(&post.headers, peer)).map_err(refused)?,
            Class::LegacyStart { .. } => {
                let (id, orders) = self.new_session(None).map_err(refused)?;
                // The version is agreed on in the answer; what the header says before is of no account.
                post.headers.clear();
                let mut response = ask(&orders, post, presence, opening).await?;
                name_session(&mut response, id);
                return Ok(response);
            }
            Class::LegacyRunning { .. } if !facts.has_session() => return Err(refused(Reason::SessionRequired)),
            Class::LegacyRunning { .. } => self.session(&post.headers).map_err(refused)?.orders,
            Class::LegacyBare => return Err(refused(Reason::SessionRequired)),
        };
        ask(&orders, post, presence, opening).await
    }

    async fn get(&self, request: &Request, allowance: Allowance) -> Result<Response, Reply> {
        let headers = request.headers();
        let Way { orders, .. } = self.legacy_session(headers)?;
        if !accepts(headers, "text", "event-stream") {
            return Err(Reply::without_id(Reason::NotAcceptable { required: EVENT_STREAM }));
        }
        let last = headers.get(LAST_EVENT_ID).cloned();
        listen(&orders, last, allowance).await
    }

    fn delete(&self, request: &Request) -> Result<Response, Reply> {
        self.legacy_session(request.headers())?.end.cancel();
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The session of a GET or DELETE. In the modern era there are neither (rule M2).
    fn legacy_session(&self, headers: &HeaderMap) -> Result<Way, Reply> {
        let facts = Facts::of(headers).map_err(|mismatch| Reply::without_id(mismatch.into()))?;
        // Rule G14: a session header says nothing there.
        if facts.version().is_some_and(|version| version.era() == Some(Era::Modern)) {
            return Err(Reply::without_id(Reason::MethodNotAllowed { allowed: "POST" }));
        }
        if !facts.has_session() {
            return Err(Reply::without_id(Reason::SessionRequired));
        }
        self.session(headers).map_err(Reply::without_id)
    }

    fn session(&self, headers: &HeaderMap) -> Result<Way, Reason> {
        let id = headers.get(MCP_SESSION_ID).and_then(|id| McpSessionId::parse(id.as_bytes()));
        id.and_then(|id| self.sessions.find(&id)).ok_or(Reason::SessionNotFound)
    }

    /// Whose child a modern client's requests go to.
    fn client(&self, headers: &HeaderMap, peer: Peer) -> Client {
        match (self.parts.options.sharing, headers.get(header::AUTHORIZATION)) {
            (ChildSharing::Everybody, _) => Client::Everybody,
            (ChildSharing::PerClient, Some(credentials)) => Client::With(credentials.as_bytes().into()),
            (ChildSharing::PerClient, None) => Client::At(peer.address.map(|address| address.ip())),
        }
    }

    /// Says how long the answer took.
    fn timed(&self, mut response: Response) -> Response {
        let took = response.extensions_mut().remove::<Took>();
        if let (true, Some(Took { arrived, waited })) = (self.parts.options.server_timing, took) {
            let whole = clock::now().into_std().saturating_duration_since(arrived);
            server_timing::add(response.headers_mut(), whole.saturating_sub(waited), waited);
        }
        response
    }

    /// An error of ours. That of a message is to blame on its client, that of an answer on the server.
    fn refused(&self, reply: &Reply) -> Response {
        let is_answer = matches!(reply.reason(), Reason::AnswerTooLarge { .. } | Reason::AnswerRefused { .. });
        let of = if is_answer { StreamKey::UPSTREAM } else { StreamKey::DOWNSTREAM };
        count_error(&self.parts.options.resources.metrics, reply.reason(), of);
        http_error(reply)
    }

    /// Reads a body whole, as it has to become one line, and parses its envelope.
    async fn read(
        &self,
        headers: HeaderMap,
        body: RequestBody,
        (allowance, traced): (Allowance, &mut Traced),
    ) -> Result<(Box<Post>, Presence, oneshot::Receiver<Opening>), Reply> {
        let limits = self.parts.options.limits;
        let metrics = &self.parts.options.resources.metrics;
        let body = whole(body, limits.max_frame_len(), (&allowance, metrics)).await.map_err(Reply::without_id)?;
        let arrived = clock::now().into_std();
        let invalid = |what: String, at: u64| Reply::without_id(Reason::InvalidJson { what, at });
        let seen = self.parts.options.resources.verify.blanked(&body);
        // Raw line ends can only stand between tokens (rule E9): one message must stay one line.
        let line = LineEncoder::new(LineEnds::BlankAlways).encode(Frame::new(body));
        let frame = line.map_err(|error| invalid(error.to_string(), 0))?.into_frame();
        let mut parser = EnvelopeParser::new(limits);
        let parsed = parser.parse(&frame).inspect_err(|_| metrics.noise.add((Link::Mux, To::Server), 1));
        let envelope = parsed.map_err(|error| match error.is_syntax() {
            true => invalid(error.to_string(), error.at() as u64),
            false => Reply::without_id(Reason::Refused { what: error.to_string() }),
        })?;
        if envelope.kind() == Kind::Other {
            let what = "neither a request, a notification nor a response".to_owned();
            return Err(Reply::without_id(Reason::InvalidRequest { what }));
        }
        note_posted(&frame, &envelope, traced);
        let (answer, opening) = oneshot::channel();
        let (tell, presence) = oneshot::channel();
        let elements = elements_copy(&parser);
        let seat = Seat { answer, presence, allowance };
        let span = traced.span().clone();
        let post = Post { frame: frame.into_bytes(), envelope, elements, headers, arrived, seat, span, seen };
        Ok((Box::new(post), Presence { _tell: tell }, opening))
    }
}

/// Looks at which trace a message belongs to, and says that it is here.
fn note_posted(frame: &[u8], envelope: &Envelope, traced: &mut Traced) {
    traced.learn(envelope.traceparent().map(|place| place.of(frame)));
    if tracing::enabled!(tracing::Level::DEBUG) {
        let text = |place: Span| shown(place.of(frame));
        let (method, id) = (envelope.method().map(text), envelope.id().map(text));
        traced.span().in_scope(|| {
            tracing::debug!(kind = ?envelope.kind(), ?method, ?id, bytes = frame.len(), "client to server");
        });
    }
}

/// Gives a message to a child's task and waits for the beginning of its answer.
async fn ask(
    orders: &mpsc::Sender<Order>,
    post: Box<Post>,
    presence: Presence,
    opening: oneshot::Receiver<Opening>,
) -> Result<Response, Reply> {
    let (frame, envelope, arrived) = (post.frame.clone(), post.envelope, post.arrived);
    if orders.send(Order::Post(post)).await.is_err() {
        return Err(reply_to(&frame, &envelope, Reason::SessionNotFound));
    }
    drop(frame);
    opened(opening, presence, arrived).await
}

async fn listen(
    orders: &mpsc::Sender<Order>,
    last_event_id: Option<HeaderValue>,
    allowance: Allowance,
) -> Result<Response, Reply> {
    let (answer, opening) = oneshot::channel();
    let (tell, presence) = oneshot::channel();
    let seat = Seat { answer, presence, allowance };
    if orders.send(Order::Listen { last_event_id, seat }).await.is_err() {
        return Err(Reply::without_id(Reason::SessionNotFound));
    }
    opened(opening, Presence { _tell: tell }, clock::now().into_std()).await
}

async fn opened(opening: oneshot::Receiver<Opening>, presence: Presence, arrived: Instant) -> Result<Response, Reply> {
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
        Err(_) => Err(Reply::without_id(Reason::ServerExited { exit_code: None, signal: None, stderr: Vec::new() })),
    }
}

/// The body in one piece. The limit is checked before more of it is kept, and nothing more is read while there is no
/// room for it.
async fn whole(
    mut body: RequestBody,
    limit: usize,
    (allowance, metrics): (&Allowance, &Metrics),
) -> Result<Bytes, Reason> {
    let too_large = || Reason::MessageTooLarge { limit, at: 0 };
    let told = body.size_hint().exact().map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    if told.is_some_and(|len| len > limit) {
        return Err(too_large());
    }
    let (mut gathered, mut pieces) = (Gathered::new(allowance, Toward::Server, limit), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Reason::InvalidRequest { what: format!("the body broke off: {error}") })?;
        let Ok(mut piece) = frame.into_data() else { continue };
        if piece.len() > limit - gathered.len() {
            return Err(too_large());
        }
        pieces += usize::from(!piece.is_empty());
        poll_fn(|cx| gathered.poll_push(cx, &mut piece, told)).await.map_err(no_room)?;
    }
    let whole = gathered.finish();
    if pieces > 1 {
        metrics.copied(CopyReason::RequestJoin, whole.len());
    }
    Ok(whole)
}

/// Rules H3 and H4: JSON in, and the client must be able to read either form of the answer.
fn check_media(headers: &HeaderMap) -> Result<(), Reply> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(JSON) {
        return Err(Reply::without_id(Reason::UnsupportedMedia { found: media.to_owned() }));
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let found = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        return Err(Reply::without_id(Reason::UnsupportedEncoding { found, supported: "identity".to_owned() }));
    }
    if accepts(headers, "application", "json") && accepts(headers, "text", "event-stream") {
        return Ok(());
    }
    Err(Reply::without_id(Reason::NotAcceptable { required: BOTH }))
}

/// Whether `Accept` names the media type, or a range it is in. Without the header, anything goes (RFC 9110,
/// 12.5.1).
fn accepts(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let essence = range.split(';').next().unwrap_or_default().trim();
        essence.split_once('/').is_some_and(|(one, other)| {
            (one == "*" || one.eq_ignore_ascii_case(kind)) && (other == "*" || other.eq_ignore_ascii_case(subtype))
        })
    })
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Rule G9: only a session that came about is named.
fn name_session(response: &mut Response, id: McpSessionId) {
    let has_begun = response.status().is_success() && response.extensions().get::<Ended>().is_none();
    if let (true, Ok(value)) = (has_begun, HeaderValue::from_str(id.as_str())) {
        response.headers_mut().insert(MCP_SESSION_ID, value);
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

/// What an exchange may always hold of messages, so that ordinary ones go on when memory is short.
const OWN_LEN: usize = 16 << 10;
/// And of what we say ourselves.
const FIXED_LEN: usize = 4 << 10;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
const BOTH: &str = "application/json, text/event-stream";
const ALLOWED: &str = "GET, POST, DELETE";
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
