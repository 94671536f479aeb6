//! What a client may ask of a child that it shares, and what is minted and remembered when it does.

use std::time::Instant;

use bytes::Bytes;
use shadowcat_codecs::{
    Frame,
    envelope::{Envelope, IdClass, Kind, Replacement, Splice, SpliceError},
};

use super::{Exchange, MINTED_END, Shared, is_method};
use crate::session::{Reason, StreamKey};

impl Shared {
    pub(super) fn admit(
        &mut self,
        from: StreamKey,
        frame: Frame,
        envelope: &Envelope,
        now: Instant,
    ) -> Result<Splice, Reason> {
        self.check(from, &frame, envelope)?;
        let (minted, id, token) = (self.next, envelope.id(), envelope.meta_progress_token());
        let exchange = Exchange {
            stream: from,
            id: kept(id.map_or(&[][..], |id| id.of(&frame)))?,
            token: token.map(|token| kept(token.of(&frame))).transpose()?,
            is_listen: is_method(envelope, &frame, "subscriptions/listen"),
            at: now,
        };
        let limit = self.timeouts.of_message(envelope, &frame);
        // Rule 2.5: logs never travel on a subscription, so it does not count among those who want some.
        let wants_logs = envelope.log_level().is_some() && !exchange.is_listen;
        let mut splice = Splice::new(frame);
        for span in [id, token, envelope.subscription_id()].into_iter().flatten() {
            splice.replace(span, Replacement::from(minted)).map_err(unspliced)?;
        }
        self.next += 1;
        self.streams.insert(from, minted);
        self.listens += usize::from(exchange.is_listen);
        self.exchanges.insert(minted, exchange);
        if let Some(limit) = limit {
            self.deadlines.start(minted, limit, (), now);
        }
        if wants_logs {
            self.logs.asked(minted);
        }
        Ok(splice)
    }

    /// Whether a client may ask this.
    fn check(&self, from: StreamKey, frame: &Frame, envelope: &Envelope) -> Result<(), Reason> {
        let refused = |what: &str| Err(Reason::Refused { what: what.to_owned() });
        let raw = envelope.id().map_or(&[][..], |id| id.of(frame));
        if envelope.kind() != Kind::Request {
            return refused("it is not a request");
        }
        if envelope.id_class() == IdClass::Null {
            return refused("its id is null");
        }
        // To a child of both eras it would begin a legacy session, and end what all others are in the midst of.
        if is_method(envelope, frame, "initialize") {
            return Err(Reason::MethodNotFound { method: "initialize" });
        }
        if self.streams.contains_key(&from) {
            return refused("its stream has a request already");
        }
        if self.exchanges.len() >= self.max_pending {
            return Err(Reason::TooManyPending { limit: self.max_pending });
        }
        if self.next >= MINTED_END {
            return refused("the server has been asked more often than ids can count");
        }
        let token = envelope.meta_progress_token().map_or(&[][..], |token| token.of(frame));
        if let Some(long) = [raw, token].into_iter().find(|text| text.len() > self.max_id_len) {
            return Err(Reason::IdTooLong { limit: self.max_id_len, len: long.len() });
        }
        match envelope.subscription_id() {
            Some(named) if named.of(frame) != raw => refused("it names a subscription of a server that others share"),
            _ => Ok(()),
        }
    }
}

/// A copy of an id or token that outlives its frame.
pub(super) fn kept(raw: &[u8]) -> Result<Replacement, Reason> {
    Replacement::raw(Bytes::from(Box::<[u8]>::from(raw))).map_err(unspliced)
}

fn unspliced(error: SpliceError) -> Reason {
    Reason::Refused { what: error.to_string() }
}
