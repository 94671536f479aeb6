//! From what was read to what is queued: frames, what each of them is, and what becomes of it.

use std::time::Instant;

use shadowcat_codecs::{Limits, envelope::EnvelopeError};

use super::{
    Pipe,
    half::{Half, push_reply},
};
use crate::{
    link::{intake::Unread, refused::Refused},
    session::{Action, Message, Reply, Session, StreamKey},
};

impl Pipe {
    /// Cuts what was read into frames, and queues those that are to be forwarded.
    pub(super) fn take_frames(&mut self, from: StreamKey, now: Instant) {
        loop {
            self.observe_oversized(from);
            match self.take_batch(from, now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => self.skip(from, error),
            }
        }
    }

    /// The line at hand cannot be passed on; the decoder skips it.
    #[cold]
    fn skip(&mut self, from: StreamKey, error: Unread) {
        tracing::warn!(%from, %error, "message skipped");
        let limits = self.limits;
        if let Some(reason) = error.reason() {
            self.half(from).oversized.start(limits, reason);
        }
    }

    /// Looks at what is about to be skipped, and tells whoever waits for it once it is known.
    fn observe_oversized(&mut self, from: StreamKey) {
        let Half { intake, oversized, .. } = self.half(from);
        let (skipped, ended) = intake.skipped();
        let Some(refused) = oversized.observe(skipped, ended) else { return };
        if let Some((to, reply)) = refused.reply(from, &mut self.session) {
            self.push_reply(from, to, &reply);
        }
    }

    /// Queues one batch of frames; `false` when more has to be read first.
    fn take_batch(&mut self, from: StreamKey, now: Instant) -> Result<bool, Unread> {
        let Self { down, up, session, parser, limits, metrics, budget, dropped, .. } = self;
        let (source, target) = if from == down.key { (down, up) } else { (up, down) };
        let Half { intake, outbox: back, log, .. } = source;
        let Some(mut open) = intake.next_batch()? else { return Ok(false) };
        dropped.clear();
        log.read(now);
        for index in 0..open.len() {
            // Before anything looks at it that could change it.
            let seen = open.get(index).and_then(|frame| target.outbox.seen(frame));
            let Some(padded) = open.padded(index) else { continue };
            let parsed = parser.parse_in_place(padded);
            let frame = open.get(index).unwrap_or_default();
            let replies = match &parsed {
                Ok(envelope) => {
                    let message = Message { frame, envelope, elements: parser.elements() };
                    let action = session.handle(from, message, now);
                    log.decided(from, message, &action);
                    match action {
                        Action::Forward { .. } => {
                            target.outbox.enter(seen);
                            continue;
                        }
                        Action::Reply(replies) => replies,
                        Action::Drop => Vec::new(),
                    }
                }
                Err(error) => {
                    log.kept_back();
                    let at = open.at() + open.span(index).map_or(0, |span| span.start() as u64);
                    keep_back(session, *limits, from, (at, frame), *error).into_iter().collect()
                }
            };
            dropped.push(index);
            for (to, reply) in replies {
                let outbox = if to == from { &mut *back } else { &mut target.outbox };
                push_reply((outbox, budget), &reply, metrics.as_ref(), from);
            }
        }
        let batch = open.freeze();
        target.outbox.push_batch(&batch, dropped);
        intake.recycle(batch);
        Ok(true)
    }
}

/// A frame that is no message goes nowhere, and nobody is answered: a server's banner is not the client's
/// fault, and an invented id would be a message nobody asked for. One that is JSON but ambiguous is refused
/// to whoever waits for it.
#[cold]
fn keep_back(
    session: &mut Session,
    limits: Limits,
    from: StreamKey,
    (at, frame): (u64, &[u8]),
    error: EnvelopeError,
) -> Option<(StreamKey, Reply)> {
    tracing::warn!(%from, at, len = frame.len(), %error, "not a message that can be passed on; kept back");
    session.handle_noise();
    if error.is_syntax() {
        return None;
    }
    Refused::new(limits, frame, error.to_string()).reply(from, session)
}
