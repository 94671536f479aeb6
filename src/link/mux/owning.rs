//! What the messages of a child that one client owns mean: [`Owned`] put into effects.
//!
//! Legacy eras (MCP 2024-11-05 to 2025-11-25): a session, a child, and streams that can be resumed.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use shadowcat_codecs::{
    envelope::{BatchElement, Envelope},
    sse::{Event, SseEncoder},
};

use super::{MuxOptions, child_io::Said, effect::Effect, lanes::Departed, pieces::Pieces};
use crate::{
    budget::{Budget, Pools},
    session::{
        Reason, Reply, StreamKey, batch,
        mirror::MCP_PROTOCOL_VERSION,
        owned::{Delivery, Dialect, Output, Owned, OwnedLimits, Phase, Posted},
        replay::{EventId, ResumeError},
        restart::Restart,
        shared::Dropped,
    },
};

/// One client's session.
#[derive(Debug)]
pub(super) struct Owning {
    owned: Owned,
    dialect: Dialect,
    idle: Duration,
    start_timeout: Duration,
    /// The exchange of the first message. With Streamable HTTP that is `initialize`, and until its answer has
    /// begun nobody knows the session's id.
    first: Option<StreamKey>,
    /// For HTTP+SSE: the event stream, with which the session ends.
    events: Option<StreamKey>,
    /// For HTTP+SSE: the URI in the first event, where clients post (Rule L2).
    endpoint: Option<String>,
    /// The late answers that were told of.
    late: u64,
    /// Where messages of our own are written.
    budget: Budget,
}

impl Owning {
    pub(super) fn new(options: &MuxOptions, endpoint: Option<String>, now: Instant) -> Self {
        let dialect = if endpoint.is_some() { Dialect::HttpSse } else { Dialect::Streamable };
        let (max_pending, idle) = (options.max_pending, options.session_idle);
        let max_handshake = if options.restart == Restart::Replay { MAX_HANDSHAKE_LEN } else { 0 };
        let limits = OwnedLimits { max_pending, idle, max_handshake, ..OwnedLimits::default() };
        let (owned, start_timeout) = (Owned::new(dialect, limits, now), options.start_timeout);
        let budget = options.resources.budget.clone();
        let owned = owned.with_timeouts(options.response.clone()).with_pool(budget.pools().map(Pools::own).cloned());
        Self { owned, dialect, idle, start_timeout, first: None, events: None, endpoint, late: 0, budget }
    }

    /// The client posted a message. `Ok` says whether an answer will come.
    pub(super) fn post(
        &mut self,
        key: StreamKey,
        message: (Bytes, Envelope, &[BatchElement]),
        headers: &HeaderMap,
        (given, now): (Instant, Instant),
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Reply> {
        let (frame, envelope, elements) = message;
        self.first.get_or_insert(key);
        self.owned.check_version(headers.get(MCP_PROTOCOL_VERSION).map(http::HeaderValue::as_bytes))?;
        let posted = self.owned.post(key, &frame, &envelope, elements, now);
        if posted.is_ok() {
            self.owned.waits_since(&frame, &envelope, elements, given);
        }
        self.take(effects);
        posted.map(|posted| posted == Posted::Asked)
    }

    /// The child said something.
    pub(super) fn hear(&mut self, said: Said, now: Instant, effects: &mut Vec<Effect>) {
        match said {
            Said::Message { frame, envelope, elements, .. } => self.owned.hear(&frame, &envelope, &elements, now),
            Said::Refused { kind, id, reason } => self.owned.hear_refused(kind, id.as_bytes(), reason),
            Said::Noise => {}
        }
        self.take_heard(effects);
    }

    /// A stream of the server's messages was opened, or is gone on with. Returns what goes out first.
    pub(super) fn listen(
        &mut self,
        key: StreamKey,
        last_event_id: Option<&[u8]>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Bytes>, Reply> {
        let first = match last_event_id {
            Some(last) => {
                let resumed = self.owned.resume(last, key, now).map_err(|error| Reply::without_id(over(error)))?;
                if resumed.lost > 0 {
                    tracing::warn!(lost = resumed.lost, "a client came back for events that are no longer kept");
                }
                None
            }
            None => {
                self.owned.listen(key, now).map_err(Reply::without_id)?;
                match &self.endpoint {
                    Some(uri) => Some(self.budget.written(|event| write_endpoint(event, uri))),
                    None => self.open_events(key),
                }
            }
        };
        if self.dialect == Dialect::HttpSse {
            self.events = Some(key);
        }
        self.take(effects);
        Ok(first)
    }

    /// A POST is answered with events, before there is one. Returns what goes out first.
    pub(super) fn open_events(&mut self, key: StreamKey) -> Option<Bytes> {
        let id = self.owned.open_events(key)?;
        Some(self.budget.written(|event| write_priming(event, id)))
    }

    /// The connection behind `key` is gone, which cancels nothing (Rule G8). But a session is over whose
    /// client left before it was told the id, and with HTTP+SSE one whose event stream is closed (Rule L4).
    pub(super) fn leave(&mut self, departed: Departed, now: Instant, effects: &mut Vec<Effect>) {
        let Departed { key, had_begun } = departed;
        self.owned.closed(key, now);
        let is_unknown = self.dialect == Dialect::Streamable && self.first == Some(key) && !had_begun;
        if is_unknown || self.events == Some(key) {
            self.owned.end(&Reason::SessionEnded);
        }
        self.take(effects);
    }

    /// When there is something to do for [`handle_time`](Self::handle_time), or the session is
    /// [idle](Self::is_idle).
    pub(super) fn due(&self) -> Option<Instant> {
        if self.owned.phase() == Phase::Ended {
            return None;
        }
        let idle = self.owned.idle_since().map(|since| since + self.idle);
        [self.owned.next_timeout(), idle, self.start_due()].into_iter().flatten().min()
    }

    /// When the child has owed the answer to `initialize` for as long as it may.
    pub(super) fn start_due(&self) -> Option<Instant> {
        Some(self.owned.initializing_since()? + self.start_timeout)
    }

    /// Returns how many requests were not answered in time.
    pub(super) fn handle_time(&mut self, now: Instant, effects: &mut Vec<Effect>) -> u64 {
        let before = self.owned.counts().expired;
        self.owned.handle_timeout(now);
        self.take_heard(effects);
        self.owned.counts().expired - before
    }

    /// The session is over: who waits is told why.
    pub(super) fn end(&mut self, reason: &Reason, effects: &mut Vec<Effect>) {
        if self.owned.phase() != Phase::Ended {
            self.owned.end(reason);
        }
        self.take(effects);
    }

    /// Whether the session has ended, or never began: without a session, `initialize` cannot be asked again.
    pub(super) fn is_over(&self) -> bool {
        match self.owned.phase() {
            Phase::Ended => true,
            Phase::New => self.first.is_some() && self.dialect == Dialect::Streamable,
            _ => false,
        }
    }

    pub(super) fn can_go_on(&self) -> bool {
        self.owned.can_go_on()
    }

    pub(super) fn crash(&mut self, reason: &Reason, effects: &mut Vec<Effect>) {
        self.owned.crash(reason);
        self.take_heard(effects);
    }

    pub(super) fn begin_again(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.owned.begin_again(now);
        self.take_heard(effects);
    }

    pub(super) fn is_away(&self) -> bool {
        self.owned.is_away()
    }

    /// Whether the child owes an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.owned.waiting().0 > 0
    }

    pub(super) fn is_attended(&self) -> bool {
        self.owned.idle_since().is_none()
    }

    pub(super) fn ended_by(&self) -> Option<Reason> {
        self.owned.ended_by().cloned()
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.owned.is_idle(now)
    }

    /// The memory that is taken by what is kept for later.
    pub(super) fn kept_len(&self) -> usize {
        self.owned.kept_len()
    }

    /// There is room for `most` bytes of that only.
    pub(super) fn shrink_kept(&mut self, most: usize, effects: &mut Vec<Effect>) {
        self.owned.shrink_kept(most);
        self.take_heard(effects);
    }

    fn take(&mut self, effects: &mut Vec<Effect>) {
        while let Some(output) = self.owned.poll_output() {
            effects.push(match output {
                Output::ToChild(frame) => Effect::ToChild(Pieces::from(frame)),
                Output::Deliver(delivery) => deliver(delivery),
                Output::Erred(reason) => Effect::Erred(reason),
                Output::Close { connection } => Effect::Close(connection),
            });
        }
        self.note_late(effects);
    }

    /// As [`take`](Self::take), where nothing of the client goes to the child.
    fn take_heard(&mut self, effects: &mut Vec<Effect>) {
        while let Some(output) = self.owned.poll_output() {
            effects.push(match output {
                Output::ToChild(reply) => Effect::Answer(reply),
                Output::Deliver(delivery) => deliver(delivery),
                Output::Erred(reason) => Effect::Erred(reason),
                Output::Close { connection } => Effect::Close(connection),
            });
        }
        self.note_late(effects);
    }

    /// Says which answers came when nobody waited for them any more.
    fn note_late(&mut self, effects: &mut Vec<Effect>) {
        let late = self.owned.counts().late;
        effects.extend((self.late..late).map(|_| Effect::Dropped(Dropped::Late)));
        self.late = late;
    }
}

fn deliver(delivery: Delivery) -> Effect {
    let Delivery { to, frame, event, ends, wants_array, .. } = delivery;
    let is_plain = ends && event.is_none();
    let pieces = match frame {
        frame if is_plain && wants_array => Pieces::from(batch::collect_copy(&[frame])),
        frame => Pieces::from(frame),
    };
    let (event, status) = (event.map(|id| id.to_string()), StatusCode::OK);
    Effect::Deliver { to, pieces, event, is_last: ends, status }
}

/// A client must not take this for the end of its session, which a 404 would be (Rule G11).
fn over(error: ResumeError) -> Reason {
    Reason::Refused { what: error.to_string() }
}

/// Rule L2 (MCP 2024-11-05, Transports): where to post.
fn write_endpoint(event: &mut BytesMut, uri: &str) {
    event.extend_from_slice(b"event: endpoint\ndata: ");
    event.extend_from_slice(uri.as_bytes());
    event.extend_from_slice(b"\n\n");
}

/// Rule G7 (MCP 2025-11-25, Transports): an id and no data, so that the client can come back from the start.
fn write_priming(event: &mut BytesMut, id: EventId) {
    if let Ok(priming) = Event::new(Bytes::new()).with_id(id.to_string()) {
        SseEncoder::new().encode_into(&priming, event);
    }
}

/// Longest message of a handshake that is kept. A client with a longer one loses its session with the child.
const MAX_HANDSHAKE_LEN: usize = 64 << 10;
