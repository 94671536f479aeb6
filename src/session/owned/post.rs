//! What the client posts: requests are booked, answers are checked, and the bytes go to the child.

use std::time::Instant;

use bytes::Bytes;
use shadowcat_codecs::envelope::{BatchElement, Envelope, Kind};

use super::{
    super::{
        Reason, Reply, RequestId, StreamKey,
        batch::{self, Sort},
        spelling::{method_is, respelled_copy},
    },
    Dialect, Output, Owned, Phase, Posted, V2025_03_26,
    asked::Post,
};

impl Owned {
    /// The client posted a message on `exchange`, a key that no other stream of the session has had. What the
    /// child must read is in the outputs.
    ///
    /// An answer that the child does not wait for is accepted and goes nowhere: it may have crossed a
    /// cancellation (Rule C3).
    ///
    /// # Errors
    ///
    /// The body to refuse the POST with. Nothing goes to the child then. It belongs to this exchange only, with
    /// HTTP+SSE too: on the event stream, a refusal would look like the answer to an earlier request of that id.
    pub fn post(
        &mut self,
        exchange: StreamKey,
        frame: &Bytes,
        envelope: &Envelope,
        elements: &[BatchElement],
        now: Instant,
    ) -> Result<Posted, Reply> {
        if self.phase == Phase::Ended {
            return Err(refusal(frame, envelope, Reason::SessionEnded));
        }
        self.seen = now;
        match envelope.kind() {
            Kind::Request => {
                let single = [(envelope, frame.clone())];
                self.ask(exchange, frame, &single, false, now).map_err(|reason| refusal(frame, envelope, reason))
            }
            Kind::Notification => {
                let phase = self.phase;
                let ended = self.tell(frame, envelope);
                if phase != self.phase {
                    self.handshake.keep_initialized(frame);
                }
                self.out.push_back(Output::ToChild(frame.clone()));
                self.close(ended);
                Ok(Posted::Accepted)
            }
            Kind::Response | Kind::Error => {
                self.answer(frame, frame.clone(), 0, envelope);
                Ok(Posted::Accepted)
            }
            Kind::Batch => self.post_batch(exchange, frame, elements, now).map_err(Reply::without_id),
            Kind::Other => Err(Reply::without_id(refused("the body is no JSON-RPC message"))),
        }
    }

    /// What was just [posted](Self::post) was given to us at `given`: the time of its requests began then.
    pub fn waits_since(&mut self, frame: &[u8], envelope: &Envelope, elements: &[BatchElement], given: Instant) {
        let envelopes = [envelope].into_iter().chain(elements.iter().map(BatchElement::envelope));
        for id in envelopes.filter(|envelope| envelope.kind() == Kind::Request).filter_map(Envelope::id) {
            self.asked.waits_since(id.of(frame), given);
        }
    }

    /// Checks `MCP-Protocol-Version` of a request after `initialize`: the child never sees it. Absent is fine
    /// (Rule V5), and so is everything while nothing is agreed.
    ///
    /// # Errors
    ///
    /// If it is another version than the one agreed on, the only one this session supports (Rules V4, V6).
    pub fn check_version(&self, header: Option<&[u8]>) -> Result<(), Reply> {
        match (header, self.version()) {
            (Some(header), Some(agreed)) if header != agreed.as_bytes() => {
                let what = format!("MCP-Protocol-Version is not {agreed}, which this session agreed on");
                Err(Reply::without_id(Reason::Refused { what }))
            }
            _ => Ok(()),
        }
    }

    fn post_batch(
        &mut self,
        exchange: StreamKey,
        frame: &Bytes,
        elements: &[BatchElement],
        now: Instant,
    ) -> Result<Posted, Reason> {
        // Rule F8: no other revision has batches. An absent version may still become the one that has.
        if self.version().is_some_and(|version| version != V2025_03_26) {
            return Err(refused("this revision of MCP has no batches"));
        }
        match batch::sort(frame, elements).map_err(refused)? {
            Sort::Requests => {
                let parts: Vec<_> = batch::split(frame, elements).map(|(part, envelope)| (envelope, part)).collect();
                self.ask(exchange, frame, &parts, true, now)
            }
            Sort::Notifications => {
                let ended: Vec<_> =
                    elements.iter().filter_map(|element| self.tell(frame, element.envelope())).collect();
                self.out.push_back(Output::ToChild(frame.clone()));
                self.close(ended);
                Ok(Posted::Accepted)
            }
            Sort::Answers => {
                // One by one, so that those nobody waits for stay behind.
                for element in elements {
                    let part = batch::element_frame(frame, element);
                    self.answer(frame, part, element.span().start(), element.envelope());
                }
                Ok(Posted::Accepted)
            }
        }
    }

    /// Books the requests among `parts`, all or none, and sends the frame on.
    fn ask(
        &mut self,
        exchange: StreamKey,
        frame: &Bytes,
        parts: &[(&Envelope, Bytes)],
        is_batch: bool,
        now: Instant,
    ) -> Result<Posted, Reason> {
        let stream = match self.dialect {
            Dialect::Streamable => exchange,
            Dialect::HttpSse => self.listening.first().ok_or(Reason::SessionEnded)?.stream,
        };
        let starts = parts.iter().any(|(envelope, _)| method_is(frame, envelope, "initialize"));
        if starts && self.phase != Phase::New {
            return Err(refused("the session is initialized already"));
        }
        let requests = parts.iter().map(|(envelope, _)| *envelope).filter(|envelope| envelope.kind() == Kind::Request);
        for (booked, envelope) in requests.clone().enumerate() {
            let number = self.next_number();
            if let Err(reason) = self.asked.book(stream, frame, envelope, number, now) {
                let booked = requests.take(booked).filter_map(Envelope::id);
                booked.for_each(|id| drop(self.asked.take(id.of(frame))));
                return Err(reason);
            }
        }
        if starts {
            if let ([(envelope, _)], false) = (parts, is_batch) {
                self.handshake.keep_initialize(frame, envelope);
            }
            (self.phase, self.initialize_at) = (Phase::Initializing, Some(now));
        }
        let (waiting, number) = (requests.count(), self.next_number());
        let posted = match self.dialect {
            Dialect::HttpSse => Posted::Accepted,
            Dialect::Streamable => {
                let connection = Some(exchange);
                self.asked.open_post(exchange, Post { connection, waiting, is_events: false, is_batch, number });
                Posted::Asked
            }
        };
        self.out.push_back(Output::ToChild(frame.clone()));
        // A cancellation in the same batch comes after its request.
        let notes =
            parts.iter().map(|(envelope, _)| *envelope).filter(|envelope| envelope.kind() == Kind::Notification);
        let ended: Vec<_> = notes.filter_map(|envelope| self.tell(frame, envelope)).collect();
        self.close(ended);
        Ok(posted)
    }

    /// Notes a notification. Returns the connection of a POST that no longer waits for anything.
    ///
    /// Who cancelled waits no more, so the POST ends (Rules C1, C3): the child should not answer, and if it does
    /// all the same, nobody is to read it.
    fn tell(&mut self, frame: &[u8], envelope: &Envelope) -> Option<StreamKey> {
        if self.phase == Phase::Initialized && method_is(frame, envelope, "notifications/initialized") {
            self.phase = Phase::Running;
        }
        let id = envelope.request_id().filter(|_| method_is(frame, envelope, "notifications/cancelled"))?;
        let stream = self.asked.cancel(id.of(frame))?;
        let (post, ends) = self.asked.settle(stream, 1)?;
        post.connection.filter(|_| ends)
    }

    fn close(&mut self, connections: impl IntoIterator<Item = StreamKey>) {
        self.out.extend(connections.into_iter().map(|connection| Output::Close { connection }));
        self.release();
    }

    /// Sends an answer on, if the child waits for it. `frame` is what the envelope's spans refer to, `part` the
    /// answer's own bytes, which start `at` bytes into it.
    fn answer(&mut self, frame: &[u8], part: Bytes, at: usize, envelope: &Envelope) {
        let open = envelope.id().and_then(|span| Some((span, self.questions.find(span.of(frame))?.0.clone())));
        let Some((span, id)) = open else {
            self.counts.late += 1;
            if let Some(id) = envelope.id() {
                self.questions.recall(id.of(frame));
            }
            return;
        };
        self.questions.close(id.as_bytes());
        let is_respelled = span.of(frame) != id.as_bytes();
        let part = if is_respelled { respelled_copy(&part, at, span, id.as_bytes()) } else { part };
        self.out.push_back(Output::ToChild(part));
    }
}

fn refused(what: &str) -> Reason {
    Reason::Refused { what: what.to_owned() }
}

fn refusal(frame: &[u8], envelope: &Envelope, reason: Reason) -> Reply {
    match (envelope.kind(), envelope.id()) {
        (Kind::Request, Some(id)) => Reply::new(RequestId::new(id.of(frame)), reason),
        _ => Reply::without_id(reason),
    }
}
