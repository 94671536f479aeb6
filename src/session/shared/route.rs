//! [`Route`]: whose a message of the child is, by what it names, and how it is spelled back for that one.

use std::time::Instant;

use shadowcat_codecs::{
    Frame, Span,
    envelope::{self, Envelope, IdClass, Splice},
};

use super::{Dropped, Exchange, Heard, Shared, value::integer};

/// Where a message of the child goes.
pub(super) struct Route {
    /// Invariant: a key of `exchanges`.
    minted: u64,
    /// What in the message stands for the exchange, and whether that is its token or its id.
    named: Option<(Span, Named)>,
    is_final: bool,
}

#[derive(Clone, Copy)]
enum Named {
    Id,
    Token,
}

impl Shared {
    /// Rule F5: an answer repeats the id.
    pub(super) fn route_answer(&mut self, frame: &Frame, envelope: &Envelope) -> Result<Route, Dropped> {
        // Rule F6: an error may have no id, or null, when the server could not read what it was asked.
        let id = envelope.id().filter(|_| envelope.id_class() != IdClass::Null).ok_or(Dropped::Unattributed)?;
        let minted = integer(id.of(frame)).ok_or(Dropped::Unknown)?;
        // Also when nobody waits for it any more.
        self.logs.answered(minted);
        self.find(minted)?;
        Ok(Route { minted, named: Some((id, Named::Id)), is_final: true })
    }

    pub(super) fn route_notification(&self, frame: &Frame, envelope: &Envelope) -> Result<Route, Dropped> {
        let method = envelope.method().and_then(|method| envelope::text(method, frame));
        let method = method.as_deref().unwrap_or_default();
        let found = |span: Span| {
            let minted = integer(span.of(frame)).ok_or(Dropped::Unknown)?;
            Ok((minted, self.find(minted)?))
        };
        match (method, envelope.subscription_id()) {
            // Rule C9: whose progress it is, its token says, and nothing else does.
            ("notifications/progress", _) => {
                let token = envelope.progress_token().ok_or(Dropped::Unattributed)?;
                let (minted, _) = found(token)?;
                Ok(Route { minted, named: Some((token, Named::Token)), is_final: false })
            }
            // Rule C1: a modern server cancels subscriptions only. That is the end of one (Q1).
            ("notifications/cancelled", _) => {
                let id = envelope.request_id().ok_or(Dropped::Unattributed)?;
                let (minted, exchange) = found(id)?;
                if !exchange.is_listen {
                    return Err(Dropped::NotASubscription);
                }
                Ok(Route { minted, named: Some((id, Named::Id)), is_final: true })
            }
            // Rule T6.
            (_, Some(subscription)) => Ok(Route { minted: found(subscription)?.0, named: None, is_final: false }),
            ("notifications/message", None) => Ok(Route { minted: self.logs.owner()?, named: None, is_final: false }),
            _ => Err(Dropped::Unattributed),
        }
    }

    fn find(&self, minted: u64) -> Result<&Exchange, Dropped> {
        let was_minted = (1..self.next).contains(&minted);
        self.exchanges.get(&minted).ok_or(if was_minted { Dropped::Late } else { Dropped::Unknown })
    }

    /// Spells back, and ends what this message ends.
    pub(super) fn deliver(
        &mut self,
        route: &Route,
        frame: Frame,
        envelope: &Envelope,
        now: Instant,
    ) -> Result<Heard, Dropped> {
        let exchange = self.find(route.minted)?;
        // The id of a subscription is the id of the request that opened it, in a result too.
        let subscription = envelope.subscription_id().filter(|id| integer(id.of(&frame)) == Some(route.minted));
        let named = route.named.into_iter().chain(subscription.map(|id| (id, Named::Id)));
        let mut splice = Splice::new(frame);
        for (span, named) in named {
            let with = match named {
                Named::Id => Some(&exchange.id),
                Named::Token => exchange.token.as_ref(),
            };
            // Progress, though its client gave no token, is nobody's.
            let with = with.ok_or(Dropped::Unknown)?.clone();
            // Only an envelope of another frame has spans that cannot be replaced.
            splice.replace(span, with).map_err(|_| Dropped::NotAMessage)?;
        }
        let (stream, after) = (exchange.stream, now.saturating_duration_since(exchange.at));
        if route.is_final {
            self.end(route.minted);
        } else {
            // Rule C6: it is at it.
            self.deadlines.extend(&route.minted, now);
        }
        Ok(Heard::To { stream, splice, is_final: route.is_final, after })
    }
}
