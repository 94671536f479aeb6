//! Messages on their way: counted, and one debug line each: where to, what, how large, how long it was inside us.
//! Never a payload.
//!
//! Both happen when the message has left, so that the time says what a user feels. Counts are added up here and
//! reach the shared counters once a batch; a line costs one look at a flag where debug logging is off.

use std::time::{Duration, Instant};

use shadowcat_codecs::{
    Span as Place,
    envelope::{Envelope, IdClass, Kind},
};
use tracing::Span;

use crate::{
    session::{Action, Message, StreamKey},
    telemetry::{
        metrics::Flow,
        trace::{TraceId, shown},
    },
};

/// The messages of one direction that were read and have yet to leave.
#[derive(Debug, Default)]
pub(in crate::link) struct MessageLog {
    read_at: Option<Instant>,
    notes: Vec<Note>,
    /// `None`: nobody counts.
    flow: Option<Flow>,
}

#[derive(Debug)]
struct Note {
    from: StreamKey,
    kind: Kind,
    method: Option<String>,
    id: Option<String>,
    len: usize,
    after: Option<Duration>,
    /// That the message names itself.
    trace_id: Option<TraceId>,
    /// That of the exchange it came in.
    span: Span,
}

impl MessageLog {
    /// One whose messages are counted.
    pub(in crate::link) fn counted(flow: Flow) -> Self {
        Self { flow: Some(flow), ..Self::default() }
    }

    /// The messages that follow were read at `now`.
    pub(in crate::link) fn read(&mut self, now: Instant) {
        self.read_at = Some(now);
    }

    /// Notes a message that is being forwarded.
    #[inline]
    pub(in crate::link) fn decided(&mut self, from: StreamKey, message: Message<'_>, action: &Action) {
        let Action::Forward { after, .. } = action else { return };
        if let Some(flow) = &mut self.flow {
            flow.message(message.envelope.kind().into(), message.frame.len());
            match after {
                Some(after) => flow.answered(*after),
                None if is_answer(message.envelope) => flow.late(),
                None => {}
            }
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.notes.push(Note::new(from, message, *after));
        }
    }

    /// A frame is kept back, because it is no message.
    #[cold]
    pub(in crate::link) fn kept_back(&self) {
        if let Some(flow) = &self.flow {
            flow.noise();
        }
    }

    /// Everything noted has left.
    #[inline]
    pub(in crate::link) fn written(&mut self, clock: &impl Fn() -> Instant) {
        let is_counted = self.flow.as_ref().is_some_and(|flow| !flow.is_empty());
        if !is_counted && self.notes.is_empty() {
            return;
        }
        if let Some(read_at) = self.read_at {
            let inside = clock().saturating_duration_since(read_at);
            if let Some(flow) = &mut self.flow {
                flow.count(inside);
            }
            for note in self.notes.drain(..) {
                note.log(inside);
            }
        }
    }
}

/// Whether it answers something, be it that nobody waits for it any more.
fn is_answer(envelope: &Envelope) -> bool {
    matches!(envelope.kind(), Kind::Response | Kind::Error)
        && matches!(envelope.id_class(), IdClass::Number | IdClass::String)
}

impl Note {
    #[cold]
    fn new(from: StreamKey, Message { frame, envelope, .. }: Message<'_>, after: Option<Duration>) -> Self {
        let text = |place: Place| shown(place.of(frame));
        let (method, id) = (envelope.method().map(text), envelope.id().map(text));
        let trace_id = envelope.traceparent().and_then(|place| TraceId::parse(place.of(frame)));
        Self { from, kind: envelope.kind(), method, id, len: frame.len(), after, trace_id, span: Span::current() }
    }

    fn log(self, inside: Duration) {
        let Self { from, kind, method, id, len, after, trace_id, span } = self;
        let _in = span.entered();
        let trace_id = trace_id.map(tracing::field::display);
        let inside_us = inside.as_micros();
        let answered_us = after.map(|after| after.as_micros());
        // Debug formatting escapes what a peer may have put into a method or an id.
        tracing::debug!(%from, ?kind, ?method, ?id, bytes = len, inside_us, ?answered_us, trace_id, "message");
    }
}
