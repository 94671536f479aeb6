//! An answer's body on its way to the client: the upstream's bytes, and a break where the upstream breaks off.
//!
//! What is ready leaves together: an HTTP library hands out the chunks of one read one at a time, and a write for
//! each would cost a system call a token. Pieces below [`MAX_COPIED`] are put into one (a named copy), larger
//! ones are passed on. Nobody waits for more to come; before a gathered piece of an event stream leaves, the task
//! that reads the upstream, where it has one, gets one turn, if it is ready, to hand out the rest of its read.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use shadowcat_codecs::{
    FrameError, Limits,
    envelope::{Envelope, EnvelopeError, EnvelopeScan},
};
use tracing::Span;

use super::{
    HeaderCheck,
    patience::Pause,
    watched::{Part, Watched},
};
use crate::{
    budget::Allowance,
    telemetry::metrics::{
        Metrics,
        labels::{CopyReason, Link, MessageKind, TimeoutOf, To},
    },
    transport::http::{Incoming, body::BodyError},
    verify::Through,
};

/// The body.
pub(super) struct Answered {
    body: Incoming,
    seen: Seen,
    /// One piece that waits alone; then `gathered` is empty.
    first: Bytes,
    /// Small pieces in one.
    gathered: BytesMut,
    /// What comes behind what is gathered.
    next: Option<Result<Bytes, BodyError>>,
    /// How often the upstream's task was left its turn since the latest piece.
    yield_count: u8,
    is_ended: bool,
    /// With `--verify`.
    through: Option<Box<Through>>,
    /// How long the upstream may bring nothing; for ever if `None`.
    pause: Option<Pause>,
    /// The exchange's, which is over with its answer.
    _room: Allowance,
}

/// What is looked at, and how far.
pub(super) enum Seen {
    /// Nothing: encoded, or of a type that holds no messages.
    Nothing,
    /// One message.
    Json(Box<Messages>),
    /// A stream of events, each a message.
    Events(Box<Messages>, Watched),
}

/// Looks at messages and counts.
pub(super) struct Messages {
    limits: Limits,
    metrics: Metrics,
    /// `None`: only lengths are looked at.
    scan: Option<EnvelopeScan>,
    len: u64,
    refused_count: u64,
    /// The exchange's.
    span: Span,
}

impl Messages {
    fn new(check: HeaderCheck, limits: Limits, metrics: &Metrics) -> Box<Self> {
        let scan = (check != HeaderCheck::Off).then(|| EnvelopeScan::new(limits));
        Box::new(Self { limits, metrics: metrics.clone(), scan, len: 0, refused_count: 0, span: Span::current() })
    }

    /// A message that came in one piece.
    fn read_whole(&mut self, message: &[u8]) {
        let envelope = self.scan.as_mut().map(|scan| scan.read_whole(message));
        self.conclude(envelope, message.len() as u64);
    }

    /// Some of a message.
    fn read(&mut self, piece: &[u8]) {
        if let Some(scan) = &mut self.scan {
            scan.feed(piece);
        }
    }

    /// What was read is no message.
    fn forget(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.reset();
        }
    }

    /// The end of a message that came in several.
    fn finish(&mut self, len: u64) {
        let envelope = self.scan.as_mut().map(EnvelopeScan::finish);
        self.conclude(envelope, len);
    }

    /// `None`: the message was not looked at.
    fn conclude(&mut self, envelope: Option<Result<Envelope, EnvelopeError>>, len: u64) {
        let kind = match envelope {
            None => MessageKind::Unseen,
            Some(Ok(envelope)) => {
                self.span.in_scope(|| tracing::debug!(kind = ?envelope.kind(), len, "server to client"));
                envelope.kind().into()
            }
            Some(Err(error)) => {
                self.metrics.noise.add((Link::Relay, To::Client), 1);
                self.note(error, len);
                MessageKind::Unseen
            }
        };
        self.metrics.messages.add((Link::Relay, To::Client, kind), 1);
        self.metrics.bytes.add((Link::Relay, To::Client), len);
        if let Some(scan) = &mut self.scan {
            scan.reset();
        }
    }

    /// One line an exchange; the client decides what it makes of the message.
    fn note(&mut self, error: EnvelopeError, len: u64) {
        if self.refused_count == 0 {
            let told = || tracing::warn!(%error, len, "the server sent what is no plain message; passed on");
            self.span.in_scope(told);
        }
        self.refused_count += 1;
    }
}

impl Seen {
    pub(super) fn json(check: HeaderCheck, limits: Limits, metrics: &Metrics) -> Self {
        Self::Json(Messages::new(check, limits, metrics))
    }

    pub(super) fn events(check: HeaderCheck, limits: Limits, metrics: &Metrics) -> Self {
        Self::Events(Messages::new(check, limits, metrics), Watched::new(limits.max_frame_len()))
    }

    /// Looks at a piece, the last one or not. `Err`: a message in it is longer than the limit.
    fn look(&mut self, piece: &Bytes, is_last: bool) -> Result<(), FrameError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Json(messages) => {
                let limit = messages.limits.max_frame_len();
                if is_last && messages.len == 0 && piece.len() <= limit {
                    messages.read_whole(piece);
                    return Ok(());
                }
                messages.len += piece.len() as u64;
                if messages.len > limit as u64 {
                    return Err(FrameError::MessageTooLarge { limit, at: 0 });
                }
                messages.read(piece);
                Ok(())
            }
            // Empty data is no message (rule G7), nor is an event of another type.
            Self::Events(messages, watched) => watched.push(piece, |part| match part {
                Part::Whole(message) => messages.read_whole(message),
                Part::Piece(piece) => messages.read(piece),
                Part::End(len) => messages.finish(len as u64),
                Part::Nothing => messages.forget(),
            }),
        }
    }

    /// The upstream says nothing more.
    #[cold]
    fn note_pause(&self) {
        match self {
            Self::Nothing => {}
            Self::Json(messages) => messages.metrics.timeouts.add((TimeoutOf::Response,), 1),
            Self::Events(messages, _) => messages.metrics.timeouts.add((TimeoutOf::EventRead,), 1),
        }
    }

    fn note_copy(&self, len: usize) {
        if let Self::Json(messages) | Self::Events(messages, _) = self {
            messages.metrics.copied(CopyReason::Gather, len);
        }
    }

    fn span(&self) -> Span {
        match self {
            Self::Nothing => Span::none(),
            Self::Json(messages) | Self::Events(messages, _) => messages.span.clone(),
        }
    }

    fn end(&mut self) {
        if let Self::Json(messages) = self
            && messages.len > 0
        {
            let len = std::mem::take(&mut messages.len);
            messages.finish(len);
        }
    }
}

impl Answered {
    pub(super) fn new(body: Incoming, seen: Seen, room: Allowance) -> Self {
        Self {
            body,
            seen,
            first: Bytes::new(),
            gathered: BytesMut::new(),
            next: None,
            yield_count: 0,
            is_ended: false,
            through: None,
            pause: None,
            _room: room,
        }
    }

    /// The body, held against what came in.
    pub(super) fn verified(self, through: Option<Box<Through>>) -> Self {
        Self { through, ..self }
    }

    /// The same, which breaks off when the upstream has brought nothing for so long.
    pub(super) fn with_pause(self, pause: Option<Pause>) -> Self {
        Self { pause, ..self }
    }

    /// There is nothing to be read. Ready when that is so for too long, and the break is what comes next.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = &mut self.pause else { return Poll::Pending };
        let timeout = ready!(pause.poll_overdue(cx));
        tracing::warn!("{timeout}; it is broken off");
        self.seen.note_pause();
        self.is_ended = true;
        self.next = Some(Err(BodyError::Aborted(timeout.to_string())));
        Poll::Ready(())
    }

    /// Takes a piece in. Returns whether what is there is to leave now.
    fn take_in(&mut self, piece: Bytes) -> bool {
        self.yield_count = 0;
        if let Some(through) = &mut self.through {
            through.enter(&piece);
        }
        if let Some(pause) = &mut self.pause {
            pause.heard();
        }
        let is_last = self.body.is_end_stream();
        if let Err(error) = self.seen.look(&piece, is_last) {
            self.seen.span().in_scope(|| tracing::warn!(%error, "the server's answer is broken off"));
            self.next = Some(Err(BodyError::Aborted(error.to_string())));
            return true;
        }
        if is_last {
            self.seen.end();
        }
        let has_some = !self.first.is_empty() || !self.gathered.is_empty();
        if !has_some {
            let is_large = piece.len() > MAX_COPIED;
            self.first = piece;
            return is_large;
        }
        if piece.len() > MAX_COPIED || self.first.len() + self.gathered.len() + piece.len() > MAX_GATHERED {
            self.next = Some(Ok(piece));
            return true;
        }
        let first = std::mem::take(&mut self.first);
        self.gathered.reserve(first.len() + piece.len());
        self.gathered.extend_from_slice(&first);
        self.gathered.extend_from_slice(&piece);
        false
    }

    /// What is to leave now, if anything.
    fn leave(&mut self) -> Option<Result<Bytes, BodyError>> {
        if !self.first.is_empty() {
            return Some(Ok(std::mem::take(&mut self.first)));
        }
        if !self.gathered.is_empty() {
            let gathered = self.gathered.split().freeze();
            self.seen.note_copy(gathered.len());
            return Some(Ok(gathered));
        }
        self.next.take()
    }

    fn has_waiting(&self) -> bool {
        !self.first.is_empty() || !self.gathered.is_empty() || self.next.is_some()
    }

    /// Whether the upstream's task should have a turn before what is gathered leaves.
    fn should_yield(&mut self) -> bool {
        let is_stream = matches!(self.seen, Seen::Events(..)) && !self.body.is_driven();
        self.yield_count += 1;
        is_stream && self.yield_count <= MAX_YIELDS
    }
}

impl Answered {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let this = self;
        if this.next.is_some() {
            return Poll::Ready(this.leave());
        }
        while !this.is_ended {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers belong to the connection, as `Trailer` and `TE` do.
                    let Ok(piece) = frame.into_data() else { continue };
                    if !piece.is_empty() && this.take_in(piece) {
                        break;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.next = Some(Err(error.into()));
                    break;
                }
                Poll::Ready(None) => {
                    this.seen.end();
                    this.is_ended = true;
                }
                Poll::Pending if !this.has_waiting() => {
                    ready!(this.poll_overdue(cx));
                    break;
                }
                Poll::Pending if this.should_yield() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
            if this.body.is_end_stream() && this.has_waiting() {
                break;
            }
        }
        Poll::Ready(this.leave())
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = ready!(self.poll_piece(cx));
        let is_end = piece.is_none() || self.is_end_stream();
        match (&piece, &mut self.through) {
            (Some(Ok(piece)), Some(through)) => through.leave(piece),
            // What broke off has no end to be compared at.
            (Some(Err(_)), through) => *through = None,
            _ => {}
        }
        if let Some(through) = self.through.as_mut().filter(|_| is_end) {
            through.settle();
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        !self.has_waiting() && (self.is_ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_waiting() { SizeHint::default() } else { self.body.size_hint() }
    }
}

/// How often a body says that it has nothing before what is gathered leaves. A server's connection may ask twice in
/// one turn of its task; the second time would come before the upstream's task had its own.
const MAX_YIELDS: u8 = 2;
/// A larger piece leaves as it came.
const MAX_COPIED: usize = 4 << 10;
/// Most bytes that are put into one piece.
pub(super) const MAX_GATHERED: usize = 16 << 10;
