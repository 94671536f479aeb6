//! A request's body on its way to the upstream: every chunk leaves as it came, and is looked at as it passes.
//!
//! The scan goes on from chunk to chunk and nothing is joined, but for a body of several chunks that is no
//! longer than [`MAX_HEAD_LEN`], so that its mirrored members lie in one piece (a named copy). When a verdict must
//! come first, the last chunk waits for it: without it, no server has the whole message.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use shadowcat_codecs::{
    Limits,
    envelope::{Envelope, EnvelopeError, EnvelopeScan, Kind, text},
};
use tokio::sync::oneshot;

use super::{HeaderCheck, patience::Patience};
use crate::{
    budget::Charge,
    session::{
        Reason, mirror,
        revision::{Class, Facts, classify},
    },
    telemetry::{
        metrics::{
            Metrics,
            labels::{CopyReason, Link, MessageKind, To},
        },
        trace::Traced,
    },
    transport::http::{RequestBody, body::BodyError},
    verify::Through,
};

/// The body. Ends as a break where the message is refused; why is sent to whoever waits for the answer.
pub(super) struct Asked {
    body: RequestBody,
    check: HeaderCheck,
    limits: Limits,
    metrics: Metrics,
    scan: EnvelopeScan,
    headers: HeaderMap,
    head: Head,
    /// Bytes that came. Invariant: `len <= limits.max_frame_len()`.
    len: usize,
    /// The chunk that waits: for the verdict, or behind the one that waited.
    held: Option<Bytes>,
    is_judged: bool,
    refused: Option<oneshot::Sender<Reason>>,
    /// With `--verify`.
    through: Option<Box<Through>>,
    traced: Traced,
    patience: Patience,
    /// For `head` and what is held behind it, until the verdict.
    head_room: Option<Charge>,
}

/// The first chunks, as they came.
#[derive(Default)]
struct Head {
    chunks: Vec<Bytes>,
    /// Invariant: the sum of the chunks' lengths, and `len <= MAX_HEAD_LEN`.
    len: usize,
    is_cut: bool,
}

impl Asked {
    /// `headers` are those of the request, for the check against the body.
    pub(super) fn new(
        body: RequestBody,
        (check, traced): (HeaderCheck, Traced),
        (limits, metrics): (Limits, &Metrics),
        headers: &HeaderMap,
        refused: oneshot::Sender<Reason>,
    ) -> Self {
        let headers = if check == HeaderCheck::Off { HeaderMap::new() } else { mirrored(headers) };
        Self {
            body,
            check,
            limits,
            metrics: metrics.clone(),
            scan: EnvelopeScan::new(limits),
            headers,
            head: Head::default(),
            len: 0,
            held: None,
            is_judged: check == HeaderCheck::Off,
            refused: Some(refused),
            through: None,
            traced,
            patience: Patience::default(),
            head_room: None,
        }
    }

    /// The body, with room for what is kept until the verdict.
    pub(super) fn charged(self, head_room: Option<Charge>) -> Self {
        Self { head_room, ..self }
    }

    /// The body, held against what came in.
    pub(super) fn verified(self, through: Option<Box<Through>>) -> Self {
        Self { through, ..self }
    }

    /// The same, which tells how long the answer is waited for, once it is known what is asked.
    pub(super) fn with_patience(self, patience: &Patience) -> Self {
        Self { patience: patience.clone(), ..self }
    }

    /// Looks at a chunk, and if it is the last one, at the whole.
    fn look(&mut self, chunk: &Bytes) -> Result<(), Reason> {
        let limit = self.limits.max_frame_len();
        if chunk.len() > limit - self.len {
            return Err(Reason::MessageTooLarge { limit, at: 0, declared: None });
        }
        self.len += chunk.len();
        if self.is_judged {
            return Ok(());
        }
        self.head.add(chunk);
        let is_end = self.body.is_end_stream();
        if is_end && self.len == chunk.len() {
            let envelope = self.scan.read_whole(chunk);
            return self.judge(envelope);
        }
        self.scan.feed(chunk);
        if is_end { self.judge_scanned() } else { Ok(()) }
    }

    /// The verdict about the whole message.
    fn judge_scanned(&mut self) -> Result<(), Reason> {
        if self.is_judged {
            return Ok(());
        }
        let envelope = self.scan.finish();
        self.judge(envelope)
    }

    fn judge(&mut self, envelope: Result<Envelope, EnvelopeError>) -> Result<(), Reason> {
        self.is_judged = true;
        if envelope.is_err() {
            self.metrics.noise.add((Link::Relay, To::Server), 1);
        }
        self.head_room = None;
        let envelope = envelope.map_err(reason);
        let kind = envelope.as_ref().map_or(MessageKind::Unseen, |envelope| envelope.kind().into());
        let verdict = envelope.and_then(|envelope| self.compare(&envelope));
        if let (Err(_), HeaderCheck::Strict) = (&verdict, self.check) {
            return verdict;
        }
        if let Err(reason) = &verdict {
            self.traced.span().in_scope(|| warn(reason, self.len));
        }
        self.traced.span().in_scope(|| tracing::debug!(?kind, len = self.len, "client to server"));
        count(&self.metrics, kind, self.len as u64);
        Ok(())
    }

    /// Whether the headers say what the body says. Only in the modern era do they have to (rule M1).
    fn compare(&mut self, envelope: &Envelope) -> Result<(), Reason> {
        let mirrored = [envelope.protocol_version(), envelope.method(), envelope.name(), envelope.uri()];
        let head_len = self.head.len;
        if self.head.is_cut && mirrored.into_iter().flatten().any(|span| span.end() > head_len) {
            let what = format!("method, name, uri or version lies behind the first {MAX_HEAD_LEN} bytes");
            return Err(Reason::Refused { what });
        }
        let is_joined = self.head.chunks.len() > 1;
        let head = self.head.joined();
        if is_joined {
            self.metrics.copied(CopyReason::HeadJoin, head.len());
        }
        self.traced.learn(envelope.traceparent().and_then(|place| head.get(place.start()..place.end())));
        let method = envelope.method().filter(|_| envelope.kind() == Kind::Request);
        self.patience.is_asked(method.and_then(|span| text(span, &head)).as_deref());
        let facts = Facts::of(&self.headers).map_err(|mismatch| Reason::HeaderMismatch(Box::new(mismatch)))?;
        match classify(&facts, envelope, &head)? {
            Class::Modern { .. } => mirror::check(&self.headers, &head, envelope, None)
                .map_err(|mismatch| Reason::HeaderMismatch(Box::new(mismatch))),
            Class::LegacyStart { .. } | Class::LegacyRunning { .. } | Class::LegacyBare => Ok(()),
        }
    }

    fn refuse(&mut self, reason: Reason) -> BodyError {
        let why = reason.code();
        if let Some(refused) = self.refused.take() {
            // Whoever waited for the answer may have it, or be gone.
            let _ = refused.send(reason);
        }
        BodyError::Aborted(format!("refused with {why}"))
    }
}

impl Asked {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let this = self;
        loop {
            if this.body.is_end_stream() && this.is_judged && this.held.is_some() {
                return Poll::Ready(this.held.take().map(Ok));
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                // Or it would look as if the upstream had broken off.
                Some(Err(error)) => {
                    let what = format!("the body broke off: {error}");
                    return Poll::Ready(Some(Err(this.refuse(Reason::InvalidRequest { what }))));
                }
                None => {
                    if let Err(reason) = this.judge_scanned() {
                        return Poll::Ready(Some(Err(this.refuse(reason))));
                    }
                    return Poll::Ready(this.held.take().map(Ok));
                }
            };
            // Trailers belong to the connection, as `Trailer` and `TE` do.
            let Ok(chunk) = frame.into_data() else { continue };
            if let Some(through) = &mut this.through {
                through.enter(&chunk);
            }
            if let Err(reason) = this.look(&chunk) {
                return Poll::Ready(Some(Err(this.refuse(reason))));
            }
            let waits = this.check == HeaderCheck::Strict && !this.is_judged;
            let before = match this.held.take() {
                None if waits => {
                    this.held = Some(chunk);
                    continue;
                }
                None => chunk,
                Some(before) => {
                    this.held = Some(chunk);
                    before
                }
            };
            return Poll::Ready(Some(Ok(before)));
        }
    }
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let chunk = ready!(self.poll_chunk(cx));
        let is_end = chunk.is_none() || self.is_end_stream();
        if let Some(through) = &mut self.through {
            match &chunk {
                Some(Ok(chunk)) => through.leave(chunk),
                Some(Err(_)) => self.through = None,
                None => {}
            }
        }
        if let Some(through) = self.through.as_mut().filter(|_| is_end) {
            through.settle();
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.held.is_none() && (self.is_judged || self.len == 0)
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, held) = (self.body.size_hint(), self.held.as_ref().map_or(0, |held| held.len() as u64));
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(hint.lower().saturating_add(held));
        hint
    }
}

impl Head {
    fn add(&mut self, chunk: &Bytes) {
        if self.is_cut {
            return;
        }
        let taken = chunk.len().min(MAX_HEAD_LEN - self.len);
        self.is_cut = taken < chunk.len();
        self.len += taken;
        self.chunks.push(chunk.slice(..taken));
    }

    /// A named copy where there are several chunks.
    fn joined(&mut self) -> Bytes {
        let mut chunks = std::mem::take(&mut self.chunks);
        if chunks.len() <= 1 {
            return chunks.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.len);
        for chunk in &chunks {
            joined.extend_from_slice(chunk);
        }
        joined.freeze()
    }
}

/// Counts a message that goes to the upstream.
pub(super) fn count(metrics: &Metrics, kind: MessageKind, len: u64) {
    metrics.messages.add((Link::Relay, To::Server, kind), 1);
    metrics.bytes.add((Link::Relay, To::Server), len);
}

/// What [`mirror::check`] and [`Facts`] read of a request's headers.
fn mirrored(headers: &HeaderMap) -> HeaderMap {
    let mut mirrored = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| MIRRORED.contains(name)) {
        mirrored.append(name, value.clone());
    }
    mirrored
}

/// What is wrong with a message that has no envelope.
pub(super) fn reason(error: EnvelopeError) -> Reason {
    match error {
        EnvelopeError::TooLarge { limit } => Reason::MessageTooLarge { limit: limit as usize, at: 0, declared: None },
        error if error.is_syntax() => Reason::InvalidJson { what: error.to_string(), at: error.at() as u64 },
        error => Reason::Refused { what: error.to_string() },
    }
}

/// One line, without what the message says: values are payload.
fn warn(reason: &Reason, len: usize) {
    let code = reason.code();
    if let Reason::HeaderMismatch(mismatch) = reason {
        let (header, what) = (mismatch.header(), mismatch.what());
        tracing::warn!(%header, what, code, len, "a request's header does not say what its body says; passed on");
    } else {
        tracing::warn!(%reason, code, len, "a request that this proxy would not have sent; passed on");
    }
}

const MIRRORED: [HeaderName; 4] =
    [mirror::MCP_PROTOCOL_VERSION, mirror::MCP_METHOD, mirror::MCP_NAME, mirror::MCP_SESSION_ID];

/// How much of a body is kept for the check of its mirrored members, by counted reference.
pub(super) const MAX_HEAD_LEN: usize = 64 << 10;
