//! What a session keeps for later: how much memory that takes, and what goes first when there is less.
//!
//! The session has limits of its own ([`OwnedLimits`](super::OwnedLimits)). Many sessions together may have less than
//! the sum of these; how much, whoever owns them knows.

use super::{super::Reason, Owned};

impl Owned {
    /// The memory that is taken by what is kept for later, or a little more: what was sent on streams that the client
    /// may come back to, what is held back, and the handshake for another child.
    #[must_use]
    pub fn kept_len(&self) -> usize {
        self.replay.kept_len() + self.hold.kept_len() + self.handshake.kept_len()
    }

    /// There is room for `most` bytes only. What the client may come back for goes first, then notifications that are
    /// held back, then requests of the child, which get their error; the handshake is the last, as the session will
    /// end with its child without it.
    pub fn shrink_kept(&mut self, most: usize) {
        self.replay.shrink(most.saturating_sub(self.hold.kept_len() + self.handshake.kept_len()));
        while self.kept_len() > most && self.hold.take(|held| held.request.is_none()).is_some() {
            self.counts.overflowed += 1;
        }
        while self.kept_len() > most
            && let Some(held) = self.hold.take(|_| true)
        {
            let reason = Reason::HoldFull { max_count: self.limits.max_held, max_bytes: most };
            self.refuse_question(held.request.as_ref(), reason);
        }
        if self.kept_len() > most && !self.is_away() {
            self.handshake.forget();
        }
    }
}
