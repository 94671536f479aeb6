//! HTTP to HTTP: one exchange in, one exchange out, bodies streamed both ways.
//!
//! No task and no queue of its own: what one side sends is what the other side is sent, and a side that does
//! not read keeps the other from writing. Statuses and headers are kept but for those that belong to one
//! connection (`relay/headers.rs`). Bodies are looked at as they pass (`relay/asked.rs`, `relay/answered.rs`)
//! and never changed, but for one member of one document if `--public-url` asks for it (`relay/public.rs`), and for the
//! URI that HTTP+SSE of MCP 2024-11-05 begins with (`relay/two_endpoints.rs`).
//!
//! When the client is gone, the upstream's exchange is closed, as the client itself would have done
//! (rules C5 and G8: what that means is for the upstream). When the upstream breaks off, so does the client's
//! answer. Nothing is sent twice, and redirects are not followed: they are passed on as they are.

mod answered;
mod asked;
mod headers;
mod options;
mod patience;
mod public;
mod two_endpoints;
mod watched;

use std::{borrow::Cow, pin::pin, time::Instant};

use futures::future::{Either, ready, select};
use http::{HeaderMap, Method, Uri, header, uri::PathAndQuery};
use http_body::Body as _;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    counting::{count_error, count_unsent},
    http_error::http_error,
    not_admitted, server_timing,
};
use crate::{
    budget::{Allowance, Budget, Charge},
    clock,
    resources::Resources,
    session::{Reason, Reply, StreamKey},
    telemetry::{
        metrics::{
            Metrics,
            labels::{Link, MessageKind, To},
        },
        trace::Traced,
    },
    transport::http::{
        Body, Client, Incoming, Request, RequestBody, Response, SendError,
        client::{Waited, is_same_origin},
    },
    verify::Through,
};
use answered::{Answered, Seen};
use asked::Asked;
pub use options::{HeaderCheck, Options};
use patience::Patience;
use two_endpoints::References;

/// A relay to one upstream.
#[derive(Debug)]
pub struct Relay {
    client: Client,
    options: Options,
    /// `None`: there is no HTTP+SSE.
    references: Option<References>,
}

/// What a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where messages are.
    Endpoint,
    /// Anything else of the upstream's, which is not looked at.
    Elsewhere,
}

impl Relay {
    /// A relay to the client's upstream.
    #[must_use]
    pub fn new(client: Client, options: Options) -> Self {
        options.resources.metrics.uses(Link::Relay);
        Self { client, options, references: None }
    }

    /// The relay, with HTTP+SSE of MCP 2024-11-05: the client's URL is that of the stream.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes: nobody but us may make the references that clients post to.
    pub fn with_two_endpoints(self) -> Result<Self, getrandom::Error> {
        Ok(Self { references: Some(References::new()?), ..self })
    }

    /// The path of the upstream's endpoint.
    #[must_use]
    pub fn path(&self) -> &str {
        self.client.url().path()
    }

    /// Passes one exchange on to the upstream's endpoint. A query is added to the endpoint's own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream's exchange.
    pub fn exchange(&self, request: Request) -> impl Future<Output = Response> + Send {
        let url = self.asked_url(&request);
        self.pass(request, url, Place::Endpoint)
    }

    /// Whether the upstream can be reached, for a readiness probe. Sends no message.
    ///
    /// # Errors
    ///
    /// [`Client::reachable`]'s.
    pub async fn reachable(&self) -> Result<(), SendError> {
        self.client.reachable().await
    }

    /// Not `async`, as each layer of that would keep the request once more.
    fn pass<'a>(
        &'a self,
        request: Request,
        url: Cow<'a, Uri>,
        place: Place,
    ) -> impl Future<Output = Response> + Send + 'a {
        let traced = Traced::by_headers(request.headers());
        let span = traced.span().clone();
        let passed = match span.in_scope(|| self.begin(request, (place, traced))) {
            Ok(begun) => Either::Left(self.go_on(url, begun)),
            Err(reason) => Either::Right(ready(self.refusal(StreamKey::DOWNSTREAM, &reason))),
        };
        passed.instrument(span)
    }

    /// What is sent, if there is room for the exchange and its head allows it.
    fn begin(&self, request: Request, (place, traced): (Place, Traced)) -> Result<Begun, Reason> {
        let begun = now();
        let budget = &self.options.resources.budget;
        let room = budget.try_admit(EXCHANGE_LEN, 0).ok_or_else(|| not_admitted(budget))?;
        let (parts, body) = request.into_parts();
        let is_message = place == Place::Endpoint && parts.method == Method::POST;
        let patience = match place {
            Place::Endpoint => Patience::new(&self.options, &parts.method, &parts.headers),
            Place::Elsewhere => Patience::default(),
        };
        let (refuse, refused) = oneshot::channel();
        let body = self.asked((is_message, traced), &parts.headers, body, (refuse, &patience))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        headers::clean_request(request.headers_mut());
        Ok(Begun { request, refused, patience, room, place, is_message, begun })
    }

    /// Sends what has begun, unless it is refused on its way, and passes on what is answered.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice, and a request is large")]
    fn go_on<'a>(&'a self, url: Cow<'a, Uri>, begun: Begun) -> impl Future<Output = Response> + Send + 'a {
        async move {
            let sent = now();
            let patience = begun.patience;
            let sending = pin!(self.client.send_to(&url, begun.request));
            let answer = match select(pin!(unless(begun.refused, sending)), pin!(patience.overdue())).await {
                Either::Left((answer, _)) => answer,
                Either::Right((after, _)) => {
                    let url = Uri::clone(&url);
                    Err(Unsent::Failed(SendError::Timeout { url, waited: Waited::Answer, after }))
                }
            };
            match answer {
                Ok(answer) if begun.is_message => {
                    let heard = now();
                    let mut answer = self.answered(begun.place, answer, (&patience, begun.room));
                    self.time(&mut answer, [begun.begun, sent, heard]);
                    answer
                }
                Ok(answer) => self.answered(begun.place, answer, (&patience, begun.room)),
                Err(Unsent::Refused(reason)) => self.refusal(StreamKey::DOWNSTREAM, &reason),
                Err(Unsent::Failed(error)) => self.unanswered(&error),
            }
        }
    }

    /// Counts how long an exchange took, to its answer's headers, and says so in them.
    fn time(&self, answer: &mut Response, [begun, sent, heard]: [Instant; 3]) {
        let since = |later: Instant, earlier| later.saturating_duration_since(earlier);
        let (inward, server, outward) = (since(sent, begun), since(heard, sent), since(now(), heard));
        let metrics = self.metrics();
        metrics.inside.observe((Link::Relay, To::Server), inward, 1);
        metrics.server.observe((Link::Relay,), server, 1);
        metrics.inside.observe((Link::Relay, To::Client), outward, 1);
        if !self.options.no_server_timing {
            server_timing::add(answer.headers_mut(), inward + outward, server);
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.options.resources.metrics
    }

    /// An error of ours, about a message of `of` or in place of an answer.
    fn refusal(&self, of: StreamKey, reason: &Reason) -> Response {
        count_error(self.metrics(), reason, of);
        refusal(reason, &self.options.resources.budget)
    }

    /// An answer of ours, because there is none of the upstream's.
    fn unanswered(&self, error: &SendError) -> Response {
        tracing::warn!(%error, "no answer from the server");
        count_unsent(self.metrics(), error);
        self.refusal(StreamKey::UPSTREAM, &super::unanswered(error))
    }

    /// The request's body, watched if it is a message.
    fn asked(
        &self,
        (is_message, traced): (bool, Traced),
        headers: &HeaderMap,
        body: RequestBody,
        (refuse, patience): (oneshot::Sender<Reason>, &Patience),
    ) -> Result<Body, Reason> {
        let limit = self.options.limits.max_frame_len();
        if body.size_hint().lower() > limit as u64 {
            return Err(Reason::MessageTooLarge { limit, at: 0, declared: body.size_hint().exact() });
        }
        if body.is_end_stream() {
            return Ok(Body::empty());
        }
        let mut check = if is_message { self.options.header_check } else { HeaderCheck::Off };
        if let (true, Some(found)) = (is_message, headers::content_encoding(headers)) {
            if check == HeaderCheck::Strict {
                let (found, supported) = (found.to_owned(), "identity".to_owned());
                return Err(Reason::UnsupportedEncoding { found, supported });
            }
            check = HeaderCheck::Off;
        }
        if is_message && check == HeaderCheck::Off {
            asked::count(self.metrics(), MessageKind::Unseen, body.size_hint().lower());
        }
        let head_room = if check == HeaderCheck::Off { None } else { Some(self.head_room(&body)?) };
        let asked = Asked::new(body, (check, traced), (self.options.limits, self.metrics()), headers, refuse);
        let asked = asked.with_patience(patience);
        Ok(Body::boxed(asked.verified(self.through(To::Server)).charged(head_room)))
    }

    /// Room for what is kept of a message while its head is checked.
    fn head_room(&self, body: &RequestBody) -> Result<Charge, Reason> {
        let len = body.size_hint().upper().and_then(|len| usize::try_from(len).ok()).unwrap_or(asked::MAX_HEAD_LEN);
        let budget = &self.options.resources.budget;
        budget.try_take(len.min(asked::MAX_HEAD_LEN)).ok_or_else(|| not_admitted(budget))
    }

    fn answered(
        &self,
        place: Place,
        answer: http::Response<Incoming>,
        (patience, room): (&Patience, Allowance),
    ) -> Response {
        let (mut parts, body) = answer.into_parts();
        tracing::debug!(status = parts.status.as_u16(), "the server answers");
        headers::clean_response(&mut parts.headers);
        if let Some(names) = self.names() {
            names.rename_challenges(&mut parts.headers);
        }
        parts.extensions.clear();
        self.note_redirect(&parts);
        if body.is_end_stream() {
            return Response::from_parts(parts, Body::from(body));
        }
        let Options { limits, header_check, .. } = self.options;
        let media_type = headers::media_type(&parts.headers);
        let is_plain = place == Place::Endpoint && headers::content_encoding(&parts.headers).is_none();
        let seen = match media_type {
            media_type if is_plain && media_type.eq_ignore_ascii_case("text/event-stream") => {
                Seen::events(header_check, limits, self.metrics())
            }
            media_type if is_plain && media_type.eq_ignore_ascii_case("application/json") => {
                let (len, limit) = (body.size_hint().lower(), limits.max_frame_len());
                if len > limit as u64 {
                    tracing::warn!(len, limit, "the server's answer is longer than the limit");
                    let what = format!("its message of {len} bytes is longer than the limit of {limit} bytes");
                    return self
                        .refusal(StreamKey::UPSTREAM, &Reason::UpstreamStatus { status: parts.status.as_u16(), what });
                }
                Seen::json(header_check, limits, self.metrics())
            }
            _ => Seen::Nothing,
        };
        let is_stream = media_type.eq_ignore_ascii_case("text/event-stream");
        let answered =
            Answered::new(body, seen, room).with_pause(patience.pause(is_stream)).verified(self.through(To::Client));
        Response::from_parts(parts, Body::boxed(answered))
    }

    /// What a body is held against on its way, with `--verify`.
    fn through(&self, to: To) -> Option<Box<Through>> {
        let Resources { metrics, verify, .. } = &self.options.resources;
        verify.through(metrics, Link::Relay, to)
    }

    /// A client that follows leaves us, or finds nothing here: whoever started us should name the place.
    fn note_redirect(&self, parts: &http::response::Parts) {
        if !parts.status.is_redirection() {
            return;
        }
        let Some(location) = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
        let is_other =
            location.parse().is_ok_and(|to: Uri| to.host().is_some() && !is_same_origin(&to, self.client.url()));
        let path = location.split(['?', '#']).next().unwrap_or_default();
        let status = parts.status.as_u16();
        tracing::warn!(status, to = path, is_other_origin = is_other, "the server redirects; give its new URL instead");
    }

    /// The endpoint, with the request's query behind its own.
    fn asked_url(&self, request: &Request) -> Cow<'_, Uri> {
        let url = self.client.url();
        let Some(query) = request.uri().query() else { return Cow::Borrowed(url) };
        let path = match url.query() {
            Some(own) => format!("{}?{own}&{query}", url.path()),
            None => format!("{}?{query}", url.path()),
        };
        // Both parts come out of URIs.
        PathAndQuery::try_from(path).map_or(Cow::Borrowed(url), |path| Cow::Owned(self.client.at(path)))
    }
}

/// An exchange whose request is ready to be sent.
struct Begun {
    request: http::Request<Body>,
    /// Why the request is not to be sent to its end, should its body say so.
    refused: oneshot::Receiver<Reason>,
    patience: Patience,
    room: Allowance,
    place: Place,
    is_message: bool,
    begun: Instant,
}

/// What a request that is being sent is answered, unless it is refused on its way.
async fn unless<F>(refused: oneshot::Receiver<Reason>, sending: F) -> Result<http::Response<Incoming>, Unsent>
where
    F: Future<Output = Result<http::Response<Incoming>, SendError>> + Unpin,
{
    let answer = match select(sending, refused).await {
        // What was refused breaks off; why is the better answer.
        Either::Left((Err(error), mut refused)) => match refused.try_recv() {
            Ok(reason) => return Err(Unsent::Refused(reason)),
            Err(_) => Err(error),
        },
        Either::Left((answer, _)) => answer,
        Either::Right((Ok(reason), _)) => return Err(Unsent::Refused(reason)),
        Either::Right((Err(_), sending)) => sending.await,
    };
    answer.map_err(Unsent::Failed)
}

/// Why a request has no answer.
enum Unsent {
    /// We refuse what it holds.
    Refused(Reason),
    Failed(SendError),
}

fn now() -> Instant {
    clock::now().into_std()
}

/// An error about a message without its id: it may be that nobody has read one (rule F6).
fn refusal(reason: &Reason, budget: &Budget) -> Response {
    http_error(&Reply::without_id(reason.clone()), budget)
}

/// What an exchange holds whatever passes: what is gathered into one piece, and an event that is looked at.
const EXCHANGE_LEN: usize = answered::MAX_GATHERED + (4 << 10);
