//! What the messages of a child that many clients share mean: [`Shared`] put into effects.
//!
//! Modern era only (MCP 2026-07-28): no sessions, a request and its reply stream at a time.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use shadowcat_codecs::{
    Frame,
    envelope::{BatchElement, Envelope, Kind},
};

use super::{
    super::{relay::HeaderCheck, waits::SlowConsumer},
    ChildSharing, MuxOptions,
    child_io::Said,
    effect::Effect,
    pieces::Pieces,
};
use crate::{
    budget::Budget,
    session::{
        Reason, Reply, RequestId, StreamKey,
        dialed::is_method,
        mirror,
        revision::{self, Era},
        shared::{Cancel, Dropped, Heard, Leaving, Orphan, Shared},
        status_of_error,
        tools::Tools,
    },
};

/// A shared child's clients.
#[derive(Debug)]
pub(super) struct Sharing {
    shared: Shared,
    header_check: HeaderCheck,
    /// The parameters that headers mirror, learnt from the child's own lists.
    tools: Tools,
    /// Requests for a list of tools, in flight.
    lists: HashSet<StreamKey>,
    /// Requests in flight that lack a part of `_meta`. The server decides what that means; the status is ours.
    lacking: HashSet<StreamKey>,
    /// How long the child may be without a request. `None`: for ever, as others than its clients need it.
    idle: Option<Duration>,
    /// When it last was asked something, or answered.
    seen: Instant,
    is_over: bool,
    /// Whether the child waits for a client that does not read: there is no other.
    is_pausable: bool,
    /// Where messages of our own are written.
    budget: Budget,
}

impl Sharing {
    pub(super) fn new(options: &MuxOptions, now: Instant) -> Self {
        Self {
            shared: Shared::new(options.max_pending, options.limits.max_id_len())
                .with_timeouts(options.response.clone()),
            header_check: options.header_check,
            tools: Tools::new(),
            lists: HashSet::new(),
            lacking: HashSet::new(),
            // A client of its own may never come back, as one whose credentials are others from now on.
            idle: (options.sharing == ChildSharing::PerClient).then_some(options.session_idle),
            seen: now,
            is_over: false,
            is_pausable: options.sharing == ChildSharing::PerClient
                && options.slow_consumer == Some(SlowConsumer::Pause),
            budget: options.resources.budget.clone(),
        }
    }

    /// When there is something to do for [`handle_time`](Self::handle_time), or the child is [idle](Self::is_idle).
    pub(super) fn due(&self) -> Option<Instant> {
        self.shared.due().into_iter().chain(self.idle_due()).min()
    }

    /// Whoever was not answered in time is told so, and so is the child. Returns how many those are.
    pub(super) fn handle_time(&mut self, now: Instant, effects: &mut Vec<Effect>) -> u64 {
        let mut expired = 0;
        while let Some(orphan) = self.shared.poll_expired(now) {
            self.fail(orphan, effects);
            expired += 1;
        }
        expired
    }

    /// There is no memory for what the child says to the exchange of `key`: it is told so, and so is the child.
    pub(super) fn give_up(&mut self, key: StreamKey, reason: Reason, effects: &mut Vec<Effect>) {
        if let Some(orphan) = self.shared.give_up(key, reason, Leaving::NoRoom) {
            self.fail(orphan, effects);
        }
    }

    fn fail(&mut self, (orphan, cancel): (Orphan, Cancel), effects: &mut Vec<Effect>) {
        let Orphan { stream, reply, is_listen } = orphan;
        self.lists.remove(&stream);
        self.lacking.remove(&stream);
        let message = self.budget.written(|message| cancel.write(message));
        effects.push(Effect::ToChild(Pieces::from(message)));
        effects.push(Effect::Fail { to: stream, reply, is_listen });
    }

    /// Whether the child may be kept waiting for a slow client.
    pub(super) fn is_pausable(&self) -> bool {
        self.is_pausable
    }

    /// Whether the child owes an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.shared.is_asked()
    }

    fn idle_due(&self) -> Option<Instant> {
        let idle = self.idle.filter(|_| self.shared.in_flight() == 0 && !self.is_over)?;
        Some(self.seen + idle)
    }

    /// Whether it was without a request for as long as it may be.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.idle_due().is_some_and(|due| due <= now)
    }

    /// No more is asked of the child.
    pub(super) fn retire(&mut self) {
        self.is_over = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// A client posted a message. `Ok` says whether an answer will come.
    pub(super) fn post(
        &mut self,
        key: StreamKey,
        message: (Bytes, Envelope),
        headers: &HeaderMap,
        (given, now): (Instant, Instant),
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Reply> {
        let (frame, envelope) = message;
        self.seen = now;
        self.check(headers, &frame, &envelope)?;
        if envelope.kind() != Kind::Request {
            return match self.shared.notify(Frame::new(frame), &envelope) {
                Ok(frame) => {
                    effects.push(Effect::ToChild(Pieces::from(Bytes::from(frame))));
                    Ok(false)
                }
                Err(dropped @ (Dropped::ClientAnswer | Dropped::Batch | Dropped::NotAMessage)) => {
                    Err(Reply::without_id(Reason::InvalidRequest { what: dropped.to_string() }))
                }
                Err(dropped) => {
                    tracing::debug!(reason = dropped.label(), "a client's notification goes nowhere");
                    Ok(false)
                }
            };
        }
        let is_list = is_method(&envelope, &frame, "tools/list");
        let lacks = revision::lacks_capabilities(&frame);
        let splice = self.shared.ask(key, Frame::new(frame), &envelope, now)?;
        self.shared.waits_since(key, given);
        if is_list {
            self.lists.insert(key);
        }
        if lacks {
            self.lacking.insert(key);
        }
        effects.push(Effect::ToChild(Pieces::from(splice)));
        Ok(true)
    }

    /// The child said something.
    pub(super) fn hear(&mut self, said: Said, now: Instant, effects: &mut Vec<Effect>) {
        let (frame, envelope, elements) = match said {
            Said::Message { frame, envelope, elements, .. } => (frame, envelope, elements),
            Said::Refused { kind, id, reason } => return self.refuse(kind, &id, reason, effects),
            Said::Noise => return,
        };
        if envelope.kind() == Kind::Batch {
            self.refuse_batch(&frame, &elements, effects);
        }
        match self.shared.hear(Frame::new(frame.clone()), &envelope, now) {
            Heard::To { stream, splice, is_final, .. } => {
                self.seen = now;
                if is_final && self.lists.remove(&stream) {
                    self.learn(&frame);
                }
                let lacks = is_final && self.lacking.remove(&stream);
                let status = status_of_error(Era::Modern, lacks, &envelope, &frame);
                let (pieces, event) = (Pieces::from(splice), None);
                effects.push(Effect::Deliver { to: stream, pieces, event, is_last: is_final, status });
            }
            Heard::Drop(dropped) => {
                if dropped.is_violation() {
                    tracing::warn!(reason = dropped.label(), "a message of the server goes nowhere");
                } else {
                    tracing::debug!(reason = dropped.label(), "a message of the server goes nowhere");
                }
                effects.push(Effect::Dropped(dropped));
            }
        }
    }

    /// The client behind `key` is gone: that cancels its request (Rule C5).
    pub(super) fn leave(&mut self, key: StreamKey, why: Leaving, now: Instant, effects: &mut Vec<Effect>) {
        self.seen = now;
        self.lists.remove(&key);
        self.lacking.remove(&key);
        if let Some(cancel) = self.shared.leave(key, why) {
            let message = self.budget.written(|message| cancel.write(message));
            effects.push(Effect::ToChild(Pieces::from(message)));
        }
    }

    /// The child is gone. A subscription whose stream has begun is cut, without a result.
    pub(super) fn end(self, reason: &Reason, effects: &mut Vec<Effect>) {
        for orphan in self.shared.child_gone(reason) {
            effects.push(Effect::Fail { to: orphan.stream, reply: orphan.reply, is_listen: orphan.is_listen });
        }
    }

    /// Rule M2: whoever reads the body must hold the headers against it, because the child
    /// sees none.
    fn check(&self, headers: &HeaderMap, frame: &[u8], envelope: &Envelope) -> Result<(), Reply> {
        if self.header_check == HeaderCheck::Off {
            return Ok(());
        }
        let Err(mismatch) = mirror::check(headers, frame, envelope, Some(&self.tools)) else { return Ok(()) };
        tracing::warn!(header = %mismatch.header(), what = mismatch.what(), "a header does not say what the body says");
        if self.header_check == HeaderCheck::Warn {
            return Ok(());
        }
        Err(reply_to(frame, envelope, mismatch.into()))
    }

    fn learn(&mut self, frame: &[u8]) {
        let learned = self.tools.learn(frame);
        for invalid in &learned.invalid {
            tracing::warn!(
                ?invalid,
                "a tool's x-mcp-header is not valid; its calls are not held against such a header"
            );
        }
    }

    fn refuse(&mut self, kind: Kind, id: &RequestId, reason: Reason, effects: &mut Vec<Effect>) {
        if let Some((to, reply)) = self.shared.hear_refused(kind, id.as_bytes(), reason) {
            self.lists.remove(&to);
            self.lacking.remove(&to);
            effects.push(Effect::Fail { to, reply, is_listen: false });
        }
    }

    /// There are no batches in this revision (Rule F8); whoever waits for an answer in one is told.
    fn refuse_batch(&mut self, frame: &[u8], elements: &[BatchElement], effects: &mut Vec<Effect>) {
        for envelope in elements.iter().map(BatchElement::envelope) {
            if let Some(id) = envelope.id() {
                let what = "the server answered in a batch, which this revision does not have".to_owned();
                self.refuse(envelope.kind(), &RequestId::new(id.of(frame)), Reason::Refused { what }, effects);
            }
        }
    }
}

/// The answer to a request, or the body of an HTTP error for what is none.
pub(super) fn reply_to(frame: &[u8], envelope: &Envelope, reason: Reason) -> Reply {
    match (envelope.kind(), envelope.id()) {
        (Kind::Request, Some(id)) => Reply::new(RequestId::new(id.of(frame)), reason),
        _ => Reply::without_id(reason),
    }
}
