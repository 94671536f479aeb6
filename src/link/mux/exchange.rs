//! One exchange: what was asked over HTTP, whom to ask, and how the answer begins.

mod answering;
mod reading;

use http::{HeaderMap, Method, StatusCode, header};
use tracing::Instrument as _;

use self::{
    answering::{EVENT_STREAM, Took, ask, empty, listen, name_session},
    reading::{accepts, check_media},
};
use super::{ChildSharing, Client, Mux, hosts::Way, sharing::reply_to};
use crate::{
    budget::Allowance,
    clock,
    link::{counting::count_error, http_error::http_error, not_admitted, server_timing},
    session::{
        McpSessionId, Reason, Reply, StreamKey,
        mirror::{LAST_EVENT_ID, MCP_SESSION_ID},
        revision::{Class, Era, Facts, classify},
    },
    telemetry::{metrics::Metrics, trace::Traced},
    transport::http::{Peer, Request, Response},
};

impl Mux {
    /// Answers one request to the MCP endpoint.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is as if the client had left: what was posted stays posted, and in the modern era its request is
    /// cancelled.
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
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is as if the client had left, and its session ends.
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
            Ok((_, way)) => listen(&way, None, allowance).await,
            Err(reason) => Err(Reply::without_id(reason)),
        };
        opened.unwrap_or_else(|reply| self.refused(&reply))
    }

    /// Takes a message of an HTTP+SSE session, by the id in the query.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the message was taken whole or not at all.
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
            Some(way) => {
                let mut traced = Traced::by_headers(request.headers());
                let span = traced.span().clone();
                self.legacy_post(request, &way, (allowance, &mut traced)).instrument(span).await
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
        way: &Way,
        holder: (Allowance, &mut Traced),
    ) -> Result<Response, Reply> {
        let (parts, body) = request.into_parts();
        let (post, presence, opening) = self.read(parts.headers, body, holder).await?;
        ask((way, self.metrics()), post, presence, opening).await
    }

    async fn post(&self, request: Request, peer: Peer, holder: (Allowance, &mut Traced)) -> Result<Response, Reply> {
        let (parts, body) = request.into_parts();
        check_media(&parts.headers)?;
        let (mut post, presence, opening) = self.read(parts.headers, body, holder).await?;
        let (frame, envelope) = (&post.frame, &post.envelope);
        let refused = |reason: Reason| reply_to(frame, envelope, reason);
        let facts = Facts::of(&post.headers).map_err(|mismatch| refused(mismatch.into()))?;
        let class = classify(&facts, envelope, frame).map_err(refused)?;
        let way = match class {
            Class::Modern { .. } => self.shared_child(self.client(&post.headers, peer)).map_err(refused)?,
            Class::LegacyStart { .. } => {
                let (id, way) = self.new_session(None).map_err(refused)?;
                // The version is agreed on in the answer; what the header says before is of no account.
                post.headers.clear();
                let mut response = ask((&way, self.metrics()), post, presence, opening).await?;
                name_session(&mut response, id);
                return Ok(response);
            }
            Class::LegacyRunning { .. } if !facts.has_session() => return Err(refused(Reason::SessionRequired)),
            Class::LegacyRunning { .. } => self.session(&post.headers).map_err(refused)?,
            Class::LegacyBare => return Err(refused(Reason::SessionRequired)),
        };
        ask((&way, self.metrics()), post, presence, opening).await
    }

    async fn get(&self, request: &Request, allowance: Allowance) -> Result<Response, Reply> {
        let headers = request.headers();
        let way = self.legacy_session(headers)?;
        if !accepts(headers, "text", "event-stream") {
            return Err(Reply::without_id(Reason::NotAcceptable { required: EVENT_STREAM }));
        }
        let last = headers.get(LAST_EVENT_ID).cloned();
        listen(&way, last, allowance).await
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

    fn metrics(&self) -> &Metrics {
        &self.parts.options.resources.metrics
    }

    /// An error of ours. That of a message is to blame on its client, that of an answer on the server.
    fn refused(&self, reply: &Reply) -> Response {
        let is_answer = matches!(reply.reason(), Reason::AnswerTooLarge { .. } | Reason::AnswerRefused { .. });
        let of = if is_answer { StreamKey::UPSTREAM } else { StreamKey::DOWNSTREAM };
        count_error(self.metrics(), reply.reason(), of);
        http_error(reply, &self.parts.options.resources.budget)
    }
}

/// What an exchange may always hold of messages, so that ordinary ones go on when memory is short.
const OWN_LEN: usize = 16 << 10;
/// And of what we say ourselves.
const FIXED_LEN: usize = 4 << 10;

const ALLOWED: &str = "GET, POST, DELETE";
