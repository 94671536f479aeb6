//! What the child says: found its place, booked, sent there. The table in [`owned`](super) is what this does.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shadowcat_codecs::{
    Span,
    envelope::{BatchElement, Envelope, IdClass, Kind, text},
};

use super::{
    super::{
        Reason, Reply, RequestId, StreamKey, batch,
        replay::keep_copy,
        spelling::{method_is, respelled_copy},
    },
    Delivery, Dialect, Output, Owned, Phase, V2025_03_26,
    hold::Held,
};

/// One message of the child, alone or out of a batch.
#[derive(Clone, Copy)]
struct Said<'a> {
    /// What the envelope's spans refer to: the message, or the batch it is in.
    frame: &'a Bytes,
    /// Where the message starts in `frame`.
    at: usize,
    envelope: &'a Envelope,
    now: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Post(StreamKey),
    Listening(StreamKey),
    Hold,
    Nowhere(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Nobody waits for it.
    Late,
    /// It is a cancellation of what is held back, or no message.
    Noise,
}

/// A place, and the bytes to put back if the child spelled an id or token in its own way.
type Found = (Place, Option<(Span, RequestId)>);

impl Owned {
    /// The child said something. Where it goes is in the outputs; see the table in the [module](super).
    ///
    /// A batch stays whole if the client can read it and all of it belongs on one stream; else each element goes
    /// its own way, in their order.
    pub fn hear(&mut self, frame: &Bytes, envelope: &Envelope, elements: &[BatchElement], now: Instant) {
        if self.phase == Phase::Ended {
            self.counts.late += 1;
            return;
        }
        if self.handshake.is_answered_by(frame, envelope) {
            return self.shake(frame, envelope);
        }
        let said = |envelope, at| Said { frame, at, envelope, now };
        if envelope.kind() != Kind::Batch {
            self.hear_one(frame.clone(), said(envelope, 0));
        } else if let Some(place) = self.one_place(frame, elements) {
            let mut answers = 0;
            for element in elements {
                let said = said(element.envelope(), element.span().start());
                let booked = self.book(said, place);
                debug_assert!(booked.is_ok(), "room was looked for");
                answers += usize::from(matches!(booked, Ok(Some(_))));
            }
            self.send(place, frame.clone(), answers, None);
        } else {
            for element in elements {
                self.hear_one(batch::element_frame(frame, element), said(element.envelope(), element.span().start()));
            }
        }
    }

    /// A message of the child cannot be passed on, for `reason`; `kind` and `id` are what could be learnt of it.
    /// Whoever waits gets an error: the client for an answer, the child for a request.
    pub fn hear_refused(&mut self, kind: Kind, id: &[u8], reason: Reason) {
        match kind {
            Kind::Request => self.answer_child(&Reply::new(RequestId::new(id), reason)),
            Kind::Response | Kind::Error => {
                let Some(found) = self.asked.find(id) else { return };
                let id = found.id.clone();
                let Some(request) = self.asked.take(id.as_bytes()).filter(|request| !request.is_cancelled) else {
                    return;
                };
                if request.is_initialize {
                    self.phase = Phase::New;
                }
                self.deliver_error(request.stream, &Reply::new(id, reason.of_answer()));
            }
            _ => self.counts.noise += 1,
        }
    }

    fn hear_one(&mut self, part: Bytes, said: Said<'_>) {
        let id = said.envelope.id().filter(|_| said.envelope.kind() == Kind::Request).map(|id| id.of(said.frame));
        if let Some(id) = id.filter(|id| self.questions.is_forgotten(id)) {
            let what = "the server before this one asked under the same id, and the client may yet answer that";
            self.counts.unheard += 1;
            let reply = Reply::new(RequestId::new(id), Reason::Refused { what: what.to_owned() });
            return self.answer_child(&reply);
        }
        let (place, respell) = self.place(said);
        let part = match respell {
            Some((span, spelled)) => respelled_copy(&part, said.at, span, spelled.as_bytes()),
            None => part,
        };
        let after = match self.book(said, place) {
            Ok(after) => after,
            Err(limit) => {
                self.counts.unheard += 1;
                if let Some(id) = said.envelope.id().map(|id| RequestId::new(id.of(said.frame))) {
                    self.answer_child(&Reply::new(id, Reason::TooManyPending { limit }));
                }
                return;
            }
        };
        match place {
            Place::Hold => self.hold_back(&part, said),
            Place::Nowhere(Why::Late) => self.counts.late += 1,
            Place::Nowhere(Why::Noise) => self.counts.noise += 1,
            Place::Post(_) | Place::Listening(_) => {
                self.send(place, part, usize::from(is_answer(said.envelope)), after);
            }
        }
    }

    /// The stream on which a whole batch can go.
    fn one_place(&self, frame: &Bytes, elements: &[BatchElement]) -> Option<Place> {
        if self.dialect == Dialect::Streamable && self.version() != Some(V2025_03_26) {
            return None;
        }
        let questions = elements.iter().filter(|element| element.envelope().kind() == Kind::Request).count();
        let has_forgotten = questions > 0 && self.questions.has_forgotten();
        if has_forgotten || questions + self.questions.len() > self.limits.max_pending {
            return None;
        }
        // Of two answers to one request the second is nobody's, so that they go one by one.
        let answers = elements.iter().map(BatchElement::envelope).filter(|envelope| is_answer(envelope));
        let mut named = HashSet::new();
        if !answers.filter_map(Envelope::id).all(|id| named.insert(id.of(frame))) {
            return None;
        }
        let mut places = elements.iter().map(|element| {
            let (at, envelope) = (element.span().start(), element.envelope());
            self.place(Said { frame, at, envelope, now: self.seen })
        });
        let (first, None) = places.next()? else { return None };
        let is_one = matches!(first, Place::Post(_) | Place::Listening(_));
        (is_one && places.all(|(place, respell)| place == first && respell.is_none())).then_some(first)
    }

    fn place(&self, said: Said<'_>) -> Found {
        let Said { frame, envelope, .. } = said;
        if let Dialect::HttpSse = self.dialect {
            // One stream for everything, and nothing on it that the client cannot sort out itself.
            let place = self.listening.first().map(|one| Place::Listening(one.stream));
            return match (envelope.kind(), place) {
                (Kind::Other | Kind::Batch, _) | (_, None) => (Place::Nowhere(Why::Noise), None),
                (_, Some(place)) => (place, None),
            };
        }
        let only = || self.asked.only_post();
        match envelope.kind() {
            Kind::Response | Kind::Error if is_answer(envelope) => self.place_answer(said),
            Kind::Response | Kind::Error => {
                (only().map_or(Place::Nowhere(Why::Late), |(stream, _)| Place::Post(stream)), None)
            }
            Kind::Request => (self.unasked(true), None),
            Kind::Notification if method_is(frame, envelope, "notifications/progress") => self.place_progress(said),
            Kind::Notification if method_is(frame, envelope, "notifications/cancelled") => {
                (self.place_cancelled(said), None)
            }
            Kind::Notification => (self.unasked(method_is(frame, envelope, "notifications/message")), None),
            Kind::Batch | Kind::Other => (Place::Nowhere(Why::Noise), None),
        }
    }

    fn place_answer(&self, said: Said<'_>) -> Found {
        let Some(span) = said.envelope.id() else { return LATE };
        match self.asked.find(span.of(said.frame)) {
            Some(found) if !found.request.is_cancelled => {
                (Place::Post(found.request.stream), found.respell.map(|id| (span, id.clone())))
            }
            _ => LATE,
        }
    }

    /// Rule C9; after the answer there is nobody to tell (edge case 33).
    fn place_progress(&self, said: Said<'_>) -> Found {
        let Some(span) = said.envelope.progress_token() else { return LATE };
        match self.asked.find_token(span.of(said.frame)) {
            Some(found) => (Place::Post(found.request.stream), found.respell.map(|token| (span, token.clone()))),
            None => LATE,
        }
    }

    /// A cancellation follows its request (Rule C1).
    fn place_cancelled(&self, said: Said<'_>) -> Place {
        let id = said.envelope.request_id().map(|id| id.of(said.frame));
        match id.and_then(|id| self.questions.find(id)) {
            // What it names was answered already.
            None => Place::Nowhere(Why::Late),
            // It goes nowhere, and what it names goes with it.
            Some((_, None)) => Place::Nowhere(Why::Noise),
            Some((_, Some(stream))) if self.asked.post(stream).is_some() => Place::Post(stream),
            Some((_, Some(stream))) if self.listening.iter().any(|one| one.stream == stream) => {
                Place::Listening(stream)
            }
            Some(_) => self.unasked(true),
        }
    }

    /// The place of what names no request of the client. `is_of_request`: it probably belongs to one.
    fn unasked(&self, is_of_request: bool) -> Place {
        let only = self.asked.only_post().filter(|(_, post)| post.connection.is_some());
        let post = only.map(|(stream, _)| Place::Post(stream));
        let listening = self.open_listening().map(Place::Listening);
        let place = if is_of_request { post.or(listening) } else { listening.or(post) };
        place.unwrap_or(Place::Hold)
    }

    /// The newest listening stream whose client is there: older ones may be broken without our knowing yet.
    fn open_listening(&self) -> Option<StreamKey> {
        self.listening.iter().rev().find(|one| one.connection.is_some()).map(|one| one.stream)
    }

    /// Notes what a message means for the session. `Err`: a request of the child that is one too many.
    fn book(&mut self, said: Said<'_>, place: Place) -> Result<Option<Duration>, usize> {
        let Said { frame, envelope, now, .. } = said;
        match envelope.kind() {
            Kind::Request => {
                let id = envelope.id().map(|id| id.of(frame)).unwrap_or_default();
                self.questions.ask(id, place.stream())?;
                Ok(None)
            }
            Kind::Response | Kind::Error if is_answer(envelope) => {
                let id = envelope.id().map(|id| id.of(frame)).unwrap_or_default();
                let Some(id) = self.asked.find(id).map(|found| found.id.clone()) else { return Ok(None) };
                let Some(request) = self.asked.take(id.as_bytes()) else { return Ok(None) };
                if request.is_initialize {
                    self.learn(frame, envelope);
                }
                Ok(Some(now.saturating_duration_since(request.at)))
            }
            Kind::Notification if method_is(frame, envelope, "notifications/progress") => {
                self.asked.progressed(envelope.progress_token().map(|token| token.of(frame)).unwrap_or_default(), now);
                Ok(None)
            }
            Kind::Notification if method_is(frame, envelope, "notifications/cancelled") => {
                let id = envelope.request_id().map(|id| id.of(frame)).unwrap_or_default();
                if let Some(id) = self.questions.find(id).map(|(id, _)| id.clone()) {
                    self.questions.close(id.as_bytes());
                    drop(self.hold.take(|held| held.request.as_ref() == Some(&id)));
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The answer to `initialize` came: only it says which version is spoken (edge case 27).
    fn learn(&mut self, frame: &[u8], envelope: &Envelope) {
        self.phase = if envelope.kind() == Kind::Response { Phase::Initialized } else { Phase::New };
        self.version = version_of(frame, envelope);
    }

    /// `answers` of what a POST waits for are in `frame`.
    fn send(&mut self, place: Place, frame: Bytes, answers: usize, after: Option<Duration>) {
        match place {
            Place::Post(stream) => self.send_to_post(stream, frame, answers, after),
            Place::Listening(stream) => self.send_to_listening(stream, frame, after),
            Place::Hold | Place::Nowhere(_) => {}
        }
    }

    pub(super) fn send_to_post(&mut self, stream: StreamKey, frame: Bytes, answers: usize, after: Option<Duration>) {
        let Some((post, ends)) = self.asked.settle(stream, answers) else {
            self.counts.lost += 1;
            return;
        };
        // The first message is a JSON reply if it is the last, too; what comes before it makes it an event stream.
        let is_events = post.is_events || (!ends && post.connection.is_some());
        if let Some(post) = self.asked.post_mut(stream) {
            post.is_events = is_events;
        }
        let is_array = frame.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let event = if is_events { self.replay.push(stream, &frame) } else { None };
        match post.connection {
            Some(to) => {
                let delivery =
                    Delivery { to, stream, frame, event, ends, wants_array: post.is_batch && !is_array, after };
                self.out.push_back(Output::Deliver(delivery));
            }
            None => self.counts.lost += u64::from(event.is_none()),
        }
        if ends {
            self.release();
        }
    }

    pub(super) fn send_to_listening(&mut self, stream: StreamKey, frame: Bytes, after: Option<Duration>) {
        let listening = self.listening.iter().find(|one| one.stream == stream);
        let Some(Some(to)) = listening.map(|one| one.connection) else {
            // Its client may come back for it.
            let is_kept = self.dialect == Dialect::Streamable && self.replay.push(stream, &frame).is_some();
            self.counts.lost += u64::from(!is_kept);
            return;
        };
        let event = if self.dialect == Dialect::Streamable { self.replay.push(stream, &frame) } else { None };
        let delivery = Delivery { to, stream, frame, event, ends: false, wants_array: false, after };
        self.out.push_back(Output::Deliver(delivery));
    }

    fn hold_back(&mut self, part: &Bytes, said: Said<'_>) {
        let request = match said.envelope.kind() {
            Kind::Request => said.envelope.id().map(|id| RequestId::new(id.of(said.frame))),
            _ => None,
        };
        let number = self.next_number();
        let held = Held { frame: keep_copy(part), request: request.clone(), at: said.now, number };
        match self.hold.put(held) {
            Ok(dropped) => self.counts.overflowed += dropped,
            Err(_) => {
                let (max_count, max_bytes) = (self.limits.max_held, self.limits.max_held_bytes);
                self.refuse_question(request.as_ref(), Reason::HoldFull { max_count, max_bytes });
            }
        }
    }

    /// Something opened or ended: sends what can go now, in the order it came.
    pub(super) fn release(&mut self) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Some(stream) = self.open_listening() {
            while let Some(held) = self.hold.take(|_| true) {
                self.send_held(Place::Listening(stream), held);
            }
            return;
        }
        let only = self.asked.only_post().filter(|(_, post)| post.connection.is_some());
        if let Some((stream, since)) = only.map(|(stream, post)| (stream, post.number)) {
            while let Some(held) = self.hold.take(|held| since < held.number) {
                self.send_held(Place::Post(stream), held);
            }
        }
    }

    fn send_held(&mut self, place: Place, held: Held) {
        if let (Some(id), Some(stream)) = (&held.request, place.stream()) {
            self.questions.sent(id.as_bytes(), stream);
        }
        self.send(place, held.frame, 0, None);
    }
}

impl Place {
    fn stream(self) -> Option<StreamKey> {
        match self {
            Self::Post(stream) | Self::Listening(stream) => Some(stream),
            Self::Hold | Self::Nowhere(_) => None,
        }
    }
}

/// The version that an answer to `initialize` names.
pub(super) fn version_of(frame: &[u8], envelope: &Envelope) -> Option<Box<str>> {
    let version = envelope.result_protocol_version().and_then(|span| text(span, frame))?;
    (version.len() <= MAX_VERSION_LEN).then(|| version.as_ref().into())
}

/// An answer that says to what. An error may not (Rule F6).
fn is_answer(envelope: &Envelope) -> bool {
    let is_named = envelope.id().is_some() && envelope.id_class() != IdClass::Null;
    is_named && matches!(envelope.kind(), Kind::Response | Kind::Error)
}

const LATE: Found = (Place::Nowhere(Why::Late), None);

/// Versions are dates; a longer one is remembered as unknown.
const MAX_VERSION_LEN: usize = 64;
