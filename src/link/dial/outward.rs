//! From the client's stdin to POSTs: frames, their order, their headers.

use std::time::Instant;

use futures::{FutureExt as _, future::abortable};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use shadowcat_codecs::envelope::{EnvelopeError, Kind};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Dial, Gate, Phase, departure, held_against,
    posted::{Key, Outgoing, Posted, Purpose},
    two_endpoints::Mode,
};
use crate::{
    link::{intake::Unread, refused::Refused},
    resources::Resources,
    session::{Action, Reason, RequestId, StreamKey, dialed, mirror::MCP_SESSION_ID, revision::Era},
    telemetry::metrics::labels::{Link, To},
    telemetry::trace::Traced,
    transport::http::Body,
};

impl Dial {
    /// Reads from the client, once everything it sent before is on its way.
    pub(super) fn poll_intake(&mut self, cx: &mut Context<'_>) -> bool {
        let may_read = self.phase == Phase::Running && self.waiting.is_empty() && !self.outbox.is_full_of_replies();
        if !may_read || self.intake.has_ended() {
            return false;
        }
        match self.intake.poll_read(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => tracing::warn!(%error, "reading from the client failed; taken as the end"),
        }
        self.to_server.read(super::now());
        loop {
            self.observe_oversized();
            match self.take_batch() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => self.skip(error),
            }
        }
    }

    /// The line at hand cannot be passed on; the decoder skips it.
    #[cold]
    fn skip(&mut self, error: Unread) {
        tracing::warn!(from = %StreamKey::DOWNSTREAM, %error, "message skipped");
        if let Some(reason) = error.reason() {
            self.oversized.start(self.options.limits, reason);
        }
    }

    fn observe_oversized(&mut self) {
        let (skipped, ended) = self.intake.skipped();
        let Some(refused) = self.oversized.observe(skipped, ended) else { return };
        self.refuse(&refused);
    }

    fn refuse(&mut self, refused: &Refused) {
        // An answer that is too long would leave the server waiting, so it gets an error in its place.
        match refused.reply(StreamKey::DOWNSTREAM, &mut self.session) {
            Some((StreamKey::DOWNSTREAM, reply)) => self.push_reply(StreamKey::DOWNSTREAM, &reply),
            Some((_, reply)) => self.answer_server(&reply),
            None => {}
        }
    }

    /// Queues one batch of frames; `false` when more has to be read first.
    fn take_batch(&mut self) -> Result<bool, Unread> {
        let Some(mut open) = self.intake.next_batch()? else { return Ok(false) };
        let mut found = Vec::with_capacity(open.len());
        for index in 0..open.len() {
            // Before anything looks at it that could change it.
            let seen = open.get(index).and_then(|frame| self.options.resources.verify.seen(frame));
            let Some(padded) = open.padded(index) else { continue };
            let parsed = self.parser.parse_in_place(padded);
            found.push(parsed.map(|envelope| (envelope, Box::from(self.parser.elements()), seen)));
        }
        let batch = open.freeze();
        // Frames go their own ways, and may still be on them when more is read.
        let block = self.intake.charged(&batch);
        for (index, parsed) in found.into_iter().enumerate() {
            let Some(frame) = batch.spans().get(index).map(|span| block.slice(span.start()..span.end())) else {
                continue;
            };
            match parsed {
                Ok((envelope, elements, seen)) => {
                    let elements: Box<[_]> = elements;
                    self.session.take(&frame, &envelope, super::now());
                    self.waiting.push_back(Outgoing { seen, ..Outgoing::new(frame, envelope, &elements) });
                }
                Err(error) => {
                    let at = batch.at() + batch.spans().get(index).map_or(0, |span| span.start() as u64);
                    self.keep_back(&frame, at, error);
                }
            }
        }
        self.intake.recycle(batch);
        Ok(true)
    }

    /// What is no message is not posted, and nobody is answered: an invented id would be a message nobody
    /// asked for (rule E7). What is JSON but ambiguous is refused to whoever waits for it.
    #[cold]
    fn keep_back(&mut self, frame: &[u8], at: u64, error: EnvelopeError) {
        tracing::warn!(from = %StreamKey::DOWNSTREAM, at, len = frame.len(), %error, "not a message that can be posted");
        self.session.handle_noise();
        self.to_server.kept_back();
        if !error.is_syntax() {
            self.refuse(&Refused::new(self.options.limits, frame, error.to_string()));
        }
    }

    /// Posts what may be posted now.
    pub(super) fn dispatch(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while matches!(self.phase, Phase::Running | Phase::Draining) && !self.is_gated(now) {
            let Some(next) = self.take_next() else { break };
            moved = true;
            self.post(next, now);
        }
        moved
    }

    /// What is posted next: requests in their order, as many as may be in flight, and between them everything
    /// else in its order.
    fn take_next(&mut self) -> Option<Outgoing> {
        let may_ask = self.asking < self.options.max_pending;
        if may_ask && let Some(held) = self.held.pop() {
            return Some(held);
        }
        loop {
            let next = self.waiting.front()?;
            let may_go = if next.asks() { may_ask } else { !self.would_overtake(next) };
            if may_go {
                return self.waiting.pop_front();
            }
            if !next.asks() || !self.put_aside() {
                return None;
            }
        }
    }

    /// Takes the request at the front out of the way of what is behind it. False: it stays, and nothing more
    /// is read until another was answered.
    fn put_aside(&mut self) -> bool {
        let is_full = match self.waiting.front() {
            // What is behind it belongs to another session.
            Some(next) if dialed::is_initialize(&next.envelope, &next.frame) => return false,
            Some(next) => !self.held.has_room_for(next),
            None => return false,
        };
        // If the server waits for an answer, that may be behind it, and nothing in flight need ever end without.
        if is_full && self.session.pending_at(StreamKey::DOWNSTREAM) == 0 {
            return false;
        }
        let Some(next) = self.waiting.pop_front() else { return false };
        if is_full {
            self.refuse_excess(&next);
        } else {
            self.held.push(next);
        }
        true
    }

    #[cold]
    fn refuse_excess(&mut self, outgoing: &Outgoing) {
        let reason = Reason::TooManyPending { limit: self.options.max_pending };
        tracing::warn!(%reason, "a request is refused, so that what is behind it can be read");
        if outgoing.is_noted {
            return self.fail_unposted(outgoing, &reason);
        }
        for id in outgoing.ids() {
            let (from, kind) = (StreamKey::DOWNSTREAM, Kind::Request);
            if let Some((_, reply)) = self.session.handle_refused(from, kind, id.as_bytes(), reason.clone()) {
                self.push_reply(StreamKey::DOWNSTREAM, &reply);
            }
        }
    }

    /// Whether a notification or a response might be there before a request that was sent earlier, to which it
    /// may refer (rule C1). What is not sent overtakes nothing.
    fn would_overtake(&self, outgoing: &Outgoing) -> bool {
        let are_leaving = self.posted.values().any(Posted::is_leaving);
        are_leaving && self.cancelled(outgoing).is_none_or(|(_, era)| era == Era::Legacy)
    }

    fn is_gated(&mut self, now: Instant) -> bool {
        let is_closed = match &self.gate {
            None => false,
            Some(Gate::Handshake(id)) => self.session.is_pending(StreamKey::UPSTREAM, id),
            Some(Gate::Taken(key)) => self.has_no_head(*key),
            Some(Gate::Listening { key, until }) => now < *until && self.has_no_head(*key),
            Some(Gate::Reopening | Gate::Endpoint) => true,
        };
        if !is_closed {
            self.gate = None;
        }
        is_closed
    }

    fn has_no_head(&self, key: Key) -> bool {
        self.posted.get(&key).is_some_and(|posted| posted.status.is_none())
    }

    fn post(&mut self, mut outgoing: Outgoing, now: Instant) {
        let era = self.dialed.era_of(&outgoing.envelope, &outgoing.frame);
        if !outgoing.is_noted {
            if let (Some(reason), Some(id)) =
                (self.dialed.refusal(era, &outgoing.envelope, &outgoing.frame), outgoing.envelope.id())
            {
                let id = id.of(&outgoing.frame);
                if let Some((_, reply)) = self.session.handle_refused(StreamKey::DOWNSTREAM, Kind::Request, id, reason)
                {
                    self.push_reply(StreamKey::DOWNSTREAM, &reply);
                }
                return;
            }
            let is_ours = outgoing.is("notifications/cancelled") && self.cancel(&outgoing, era);
            let action = self.session.handle(StreamKey::DOWNSTREAM, outgoing.message(), now);
            if is_ours {
                return;
            }
            self.to_server.decided(StreamKey::DOWNSTREAM, outgoing.message(), &action);
            if let Action::Reply(replies) = action {
                return self.reply(&replies);
            }
            self.dialed.remember(&outgoing.envelope, &outgoing.frame);
            outgoing.is_noted = true;
        }
        let url = match &self.mode {
            Mode::TwoEndpoints(endpoint) => endpoint.clone(),
            Mode::Streamable | Mode::Asking { .. } => self.client.url().clone(),
        };
        self.post_to(url, outgoing, era);
        self.to_server.written(&super::now);
    }

    /// Posts a message, and closes the gate behind it if nothing may overtake it.
    pub(super) fn post_to(&mut self, url: Uri, outgoing: Outgoing, era: Era) {
        let Outgoing { frame, envelope, .. } = &outgoing;
        let mut headers = self.dialed.headers(era, envelope, frame);
        let generation = headers.contains_key(MCP_SESSION_ID).then(|| self.dialed.generation());
        add_body_headers(&mut headers);
        let (body, departure) = departure::watched(frame.clone(), &self.departures);
        let Resources { metrics, verify, .. } = &self.options.resources;
        let through = outgoing.seen.and_then(|seen| verify.outward(metrics, Link::Dial, To::Server, seen));
        let request = request(Method::POST, url, headers, held_against::body(body, through));
        let ids = outgoing.ids();
        let (is_initialize, is_initialized) =
            (dialed::is_initialize(envelope, frame), dialed::is_initialized(envelope, frame));
        // What asks is waited for by the session; what does not must not keep everything behind it for ever.
        let limit = if ids.is_empty() { self.options.waits.response.for_all() } else { None };
        let traceparent = envelope.traceparent().map(|place| place.of(frame));
        let span = Traced::by_message(traceparent).span().clone();
        let key = self.launch(Purpose::Message, request, None, limit);
        self.gate = match ids.first() {
            Some(id) => is_initialize.then(|| Gate::Handshake(id.clone())),
            None => Some(Gate::Taken(key)),
        };
        self.asking += usize::from(!ids.is_empty());
        if let Some(posted) = self.posted.get_mut(&key) {
            posted.is_initialize = is_initialize;
            posted.is_initialized = is_initialized;
            posted.is_listen = era == Era::Modern && outgoing.is("subscriptions/listen");
            posted.is_tools_list = outgoing.is("tools/list");
            (posted.ids, posted.era, posted.generation) = (ids, era, generation);
            posted.departure = Some(departure);
            posted.span = span;
            posted.outgoing = Some(outgoing);
        }
    }

    /// A cancellation of the modern era closes its exchange, and is not sent (rule C5); nor is one of a request
    /// that was not sent. `false`: it has to be.
    fn cancel(&mut self, outgoing: &Outgoing, era: Era) -> bool {
        let id = outgoing.envelope.request_id().map(|span| RequestId::new(span.of(&outgoing.frame)));
        if id.is_some_and(|id| self.held.forget(&id)) {
            return true;
        }
        match self.cancelled(outgoing) {
            Some((key, Era::Modern)) => {
                self.remove(key);
                true
            }
            Some((_, Era::Legacy)) => false,
            None => era == Era::Modern,
        }
    }

    /// The exchange that a cancellation is about.
    fn cancelled(&self, outgoing: &Outgoing) -> Option<(Key, Era)> {
        let span = outgoing.envelope.request_id().filter(|_| outgoing.is("notifications/cancelled"))?;
        let id = RequestId::new(span.of(&outgoing.frame));
        let found = self.posted.iter().find(|(_, posted)| posted.ids.contains(&id));
        found.map(|(key, posted)| (*key, posted.era))
    }

    /// Sends a request, after `delay` if there is one, whose answer has to begin within `limit`.
    pub(super) fn launch(
        &mut self,
        purpose: Purpose,
        request: http::Request<Body>,
        delay: Option<Duration>,
        limit: Option<Duration>,
    ) -> Key {
        let key = self.next_key;
        self.next_key += 1;
        let abort = self.send(key, request, delay, limit);
        self.posted.insert(key, Posted::new(purpose, abort));
        key
    }

    /// As [`launch`](Self::launch), for an exchange that goes on by another request.
    pub(super) fn relaunch(&mut self, key: Key, request: http::Request<Body>, delay: Duration) {
        let abort = self.send(key, request, Some(delay), self.options.waits.sse_connect);
        if let Some(posted) = self.posted.get_mut(&key) {
            posted.abort = abort;
        }
    }

    fn send(
        &self,
        key: Key,
        request: http::Request<Body>,
        delay: Option<Duration>,
        limit: Option<Duration>,
    ) -> futures::future::AbortHandle {
        let client = Arc::clone(&self.client);
        let sending = async move {
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            (key, client.send_within(request, limit).await)
        };
        let (sending, abort) = abortable(sending.boxed());
        self.sending.push(sending);
        abort
    }

    /// Forgets an exchange, and closes it if it goes on.
    pub(super) fn remove(&mut self, key: Key) -> Option<Posted> {
        let posted = self.posted.remove(&key)?;
        posted.abort.abort();
        self.asking -= usize::from(posted.counts());
        self.lingering.retain(|lingering| *lingering != key);
        Some(posted)
    }

    /// Answers the server for the client.
    pub(super) fn answer_server(&mut self, reply: &crate::session::Reply) {
        let frame = self.options.resources.budget.written(|message| reply.write(message));
        if let Ok(envelope) = self.parser.parse(&frame)
            && matches!(envelope.kind(), Kind::Response | Kind::Error)
        {
            let mut outgoing = Outgoing::new(frame, envelope, &[]);
            outgoing.is_noted = true;
            self.waiting.push_own_answer(outgoing);
        }
    }
}

/// A request with what every request of ours bears. Nothing we ask for is to be compressed: answers are passed
/// on as they come (rule E14).
pub(super) fn request(method: Method, url: Uri, mut headers: HeaderMap, body: Body) -> http::Request<Body> {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut request = http::Request::new(body);
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, url, headers);
    request
}

/// What every POST says of its body, and of the answers that are understood (rule H3).
pub(super) fn add_body_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
}
