//! Speaks to the server as a client of its era does, and reads what it answers.
//!
//! It keeps what a client has to keep: revision, session, connections. What an answer means is for others to say.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shadowcat::{
    clock::now,
    transport::http::{
        Body, Client, Incoming,
        client::{Config, SendError},
    },
};
use shadowcat_codecs::{Limits, sse::Event, tokio_codec::SseCodec};
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::Decoder as _;

use super::answer::Answer;

/// By which rules the server speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Era {
    /// One endpoint and sessions, until 2025-11-25: the revision it chose.
    Sessions(String),
    /// 2026-07-28: each request stands alone.
    Modern,
    /// 2024-11-05: HTTP+SSE with two endpoints.
    TwoEndpoints,
}

/// A client that remembers.
#[derive(Debug)]
pub(super) struct Asker {
    config: Config,
    pub(super) client: Client,
    era: Option<Era>,
    session: Option<HeaderValue>,
    last_id: u64,
    /// Headers of the answer to the first message.
    pub(super) first: Option<HeaderMap>,
}

impl Asker {
    pub(super) fn new(config: Config) -> io::Result<Self> {
        let client = Client::new(config.clone())?;
        Ok(Self { config, client, era: None, session: None, last_id: 0, first: None })
    }

    pub(super) fn era(&self) -> Option<&Era> {
        self.era.as_ref()
    }

    pub(super) fn session(&self) -> Option<&HeaderValue> {
        self.session.as_ref()
    }

    /// From now on it is spoken like this.
    pub(super) fn settle(&mut self, era: Era, session: Option<HeaderValue>) {
        (self.era, self.session) = (Some(era), session);
    }

    /// It is not spoken like this after all.
    pub(super) fn forget(&mut self) {
        (self.era, self.session) = (None, None);
    }

    /// The session is over, or not to be named any more.
    pub(super) fn take_session(&mut self) -> Option<HeaderValue> {
        self.session.take()
    }

    /// Connections from here on are new ones.
    pub(super) fn reconnect(&mut self) -> io::Result<()> {
        self.client = Client::new(self.config.clone())?;
        Ok(())
    }

    /// A request of this method. Era and session are told in its headers once they are known.
    pub(super) fn request(&mut self, method: &str, params: &Value) -> http::Request<Body> {
        self.last_id += 1;
        let id = self.last_id;
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.post(method, message.to_string())
    }

    /// A notification of this method.
    pub(super) fn notification(&self, method: &str) -> http::Request<Body> {
        self.post(method, json!({"jsonrpc": "2.0", "method": method}).to_string())
    }

    /// A request that changes nothing.
    pub(super) fn harmless(&mut self) -> http::Request<Body> {
        self.padded(0)
    }

    /// A request that changes nothing and has exactly as many bytes, by padding in its `_meta`, if it has no more without.
    pub(super) fn sized(&mut self, len: usize) -> http::Request<Body> {
        // One byte of padding, so that what holds it is counted.
        let bare = self.padded(1);
        let bare = usize::try_from(bare.body().size_hint().lower()).unwrap_or(usize::MAX);
        // An id of the same length.
        self.last_id -= 1;
        self.padded(len.saturating_sub(bare) + 1)
    }

    fn padded(&mut self, padding: usize) -> http::Request<Body> {
        let is_modern = matches!(self.era, Some(Era::Modern));
        let mut meta = if is_modern { modern_meta() } else { json!({}) };
        if padding > 0
            && let Some(members) = meta.as_object_mut()
        {
            members.insert(PADDING.to_owned(), "x".repeat(padding).into());
        }
        // Rule C8: ping was removed in 2026-07-28; server/discover must be known there (Rule V8).
        self.request(if is_modern { "server/discover" } else { "ping" }, &json!({"_meta": meta}))
    }

    /// A request without a body: GET to listen, DELETE to leave.
    pub(super) fn bare(&self, method: Method) -> http::Request<Body> {
        let mut request = http::Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = self.client.url().clone();
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        self.introduce(request.headers_mut(), None);
        request
    }

    fn post(&self, method: &str, message: String) -> http::Request<Body> {
        let mut request = http::Request::new(Body::from(Bytes::from(message)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.client.url().clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Rule H3: both, or many servers answer 406.
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        self.introduce(headers, Some(method));
        request
    }

    fn introduce(&self, headers: &mut HeaderMap, method: Option<&str>) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let version = match &self.era {
            Some(Era::Sessions(version)) => HeaderValue::try_from(version.as_str()).ok(),
            Some(Era::Modern) => Some(HeaderValue::from_static(MODERN)),
            Some(Era::TwoEndpoints) | None => None,
        };
        if let Some(version) = version {
            headers.insert(MCP_PROTOCOL_VERSION, version);
        }
        if let (Some(Era::Modern), Some(Ok(method))) = (&self.era, method.map(HeaderValue::try_from)) {
            headers.insert(MCP_METHOD, method);
        }
        if let Some(session) = &self.session {
            headers.insert(MCP_SESSION_ID, session.clone());
        }
    }

    /// Sends it and reads the answer, all within this time.
    pub(super) async fn ask(&self, request: http::Request<Body>, patience: Duration) -> Result<Answer, String> {
        let (started, deadline) = (now(), now() + patience);
        let sent = timeout_at(deadline, self.client.send(request)).await;
        read(sent, started, deadline, patience).await
    }
}

/// Reads an answer whose head has come, or says why there is none.
pub(super) async fn read(
    sent: Result<Result<http::Response<Incoming>, SendError>, tokio::time::error::Elapsed>,
    started: Instant,
    deadline: Instant,
    patience: Duration,
) -> Result<Answer, String> {
    let slow = |what: &str| format!("{what} within {} s", patience.as_secs());
    let (head, body) = match sent {
        Ok(Ok(answer)) => answer.into_parts(),
        Ok(Err(error)) => return Err(error.cause()),
        Err(_) => return Err(slow("no answer")),
    };
    let took = now() - started;
    let is_events = is_event_stream(&head.headers);
    let reading = timeout_at(deadline, received(body, is_events)).await;
    let (body, message) = reading.map_err(|_| slow("the answer began, but did not end"))??;
    Ok(Answer { status: head.status, version: head.version, headers: head.headers, body, message, took })
}

async fn received(mut body: Incoming, is_events: bool) -> Result<(Bytes, Option<Value>), String> {
    let mut events = Events::new();
    let mut buf = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if is_events {
            let found = events.feed(&piece)?.into_iter().find_map(|event| response(event.data()));
            if found.is_some() {
                // To its end, so that the connection can be used again; a stream that goes on is cut.
                let _end =
                    tokio::time::timeout(STREAM_END, async { while let Some(Ok(_)) = body.frame().await {} }).await;
                return Ok((Bytes::new(), found));
            }
        } else if buf.len() + piece.len() <= MAX_ANSWER {
            buf.extend_from_slice(&piece);
        } else {
            return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
        }
    }
    let message = response(&buf);
    Ok((buf.freeze(), message))
}

fn response(text: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(text).ok()?;
    (value.get("result").is_some() || value.get("error").is_some()).then_some(value)
}

/// Events out of the pieces of a stream.
pub(super) struct Events {
    codec: SseCodec,
    buf: BytesMut,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { codec: SseCodec::new(Limits::default()), buf: BytesMut::new() }
    }

    /// The events that this piece completes.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, String> {
        self.buf.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(event) = self.codec.decode(&mut self.buf).map_err(|error| error.to_string())? {
            events.push(event);
        }
        Ok(events)
    }
}

pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
}

/// What every request of 2026-07-28 says of its client (Rule V7).
pub(super) fn modern_meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

pub(super) fn client_info() -> Value {
    json!({"name": "shadowcat-doctor", "version": env!("CARGO_PKG_VERSION")})
}

pub(super) const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const USER_AGENT: &str = concat!("shadowcat-doctor/", env!("CARGO_PKG_VERSION"));

/// The revision without sessions.
pub(super) const MODERN: &str = "2026-07-28";

/// A name that nobody else uses, as Rule F9 demands.
const PADDING: &str = "com.example.shadowcat-doctor/padding";

/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// How long a stream may go on behind the response that ends it.
const STREAM_END: Duration = Duration::from_secs(1);
