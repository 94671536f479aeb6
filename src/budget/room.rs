//! [`Room`]: what one message takes while nobody knows how long it will be.

use std::task::{Context, Poll, ready};

use super::{Allowance, Charge, Exhausted, SMALL_LEN, Toward, Waiting};

/// The room for one message as it grows; given back when dropped.
pub struct Room {
    allowance: Allowance,
    toward: Toward,
    /// What it has of what is guaranteed and of what is common; empty once it has a turn.
    small: Vec<Charge>,
    turn: Option<Charge>,
    /// Set while it waits. Then it waits for that, whatever becomes free: a turn that comes to one who does not look
    /// would be nobody's.
    waiting: Option<Waiting>,
}

impl Room {
    /// No room yet.
    #[must_use]
    pub fn new(allowance: &Allowance, toward: Toward) -> Self {
        Self { allowance: allowance.clone(), toward, small: Vec::new(), turn: None, waiting: None }
    }

    /// Ready when the message may take `len` bytes. `most` is what it can become at most, so far as is known.
    ///
    /// # Errors
    ///
    /// If there was no room in time. It can be asked for again.
    pub fn poll_grow(&mut self, cx: &mut Context<'_>, len: usize, most: usize) -> Poll<Result<(), Exhausted>> {
        while len > self.len() {
            if self.waiting.is_none() && self.grows(len, most) {
                continue;
            }
            let whole = most.max(len);
            let waiting = self.waiting.get_or_insert_with(|| match &self.turn {
                // What is left of it counts: whoever waited for all of it again would wait for himself.
                Some(turn) if turn.is_large() => self.allowance.budget().more_of_large(whole - turn.len(), self.toward),
                _ => self.allowance.turn(if len <= SMALL_LEN { whole.min(SMALL_LEN) } else { whole }, self.toward),
            });
            let turn = ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
            let mut turn = turn?;
            if let Some(rest) = self.turn.take().filter(Charge::is_large) {
                turn.absorb(rest);
            }
            self.turn = Some(turn);
            // What it had is free for others: the turn covers all of it.
            self.small.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives it the room if there is any at once, and it is not [large](Self::is_large) by that.
    pub fn grows(&mut self, len: usize, most: usize) -> bool {
        let has = self.len();
        if len <= has {
            return true;
        }
        if len > SMALL_LEN || self.turn.is_some() || self.waiting.is_some() {
            return false;
        }
        // Twice as much each time, if it may become that long.
        let wanted = (2 * has).max(len).min(most.max(len)).min(SMALL_LEN);
        let charge = self.allowance.try_take(wanted - has).or_else(|| self.allowance.try_take(len - has));
        self.small.extend(charge);
        len <= self.len()
    }

    /// Gives it room for `len` bytes if there is plenty. Whether it has it.
    pub fn spares(&mut self, len: usize) -> bool {
        let has = self.len();
        if len <= has {
            return true;
        }
        if len > SMALL_LEN || self.turn.is_some() || self.waiting.is_some() {
            return false;
        }
        let more = len - has;
        self.small.extend(self.allowance.try_own(more).or_else(|| self.allowance.budget().try_spare(more)));
        len <= self.len()
    }

    /// Gives its turn back for `len` bytes of what is common, if there is plenty. Whether it does.
    pub fn settles(&mut self, len: usize) -> bool {
        let Some(charge) = self.allowance.budget().try_spare(len) else { return false };
        self.small.push(charge);
        self.turn = None;
        true
    }

    /// Gives back what is beyond `len` bytes. A turn of [`SMALL_LEN`] only as a whole, and only if its bytes find room
    /// elsewhere: whoever kept a part of it and grew again would wait for a whole one for ever.
    pub fn shrink(&mut self, len: usize) {
        if let Some(turn) = &mut self.turn {
            if turn.is_large() {
                turn.shrink(len);
            } else if turn.len() > len
                && let Some(charge) = self.allowance.try_take(len)
            {
                self.turn = None;
                self.small.push(charge);
            }
            return;
        }
        let mut rest = len;
        for charge in &mut self.small {
            charge.shrink(rest);
            rest -= charge.len();
        }
        self.small.retain(|charge| !charge.is_empty());
    }

    /// Whether others wait for a large message like this one to be over.
    #[must_use]
    pub fn keeps_others_waiting(&self) -> bool {
        self.allowance.budget().has_waiters(self.toward)
    }

    /// What the longest message may take, with what is read behind it.
    #[must_use]
    pub fn whole_len(&self) -> usize {
        self.allowance.budget().whole_len()
    }

    /// What it may take.
    #[must_use]
    pub fn len(&self) -> usize {
        self.turn.as_ref().map_or_else(|| self.small.iter().map(Charge::len).sum(), Charge::len)
    }

    /// Whether it may take nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has a turn of [`SMALL_LEN`]: then no room beside it may wait for another.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| !turn.is_large())
    }

    /// Whether others may wait for it to be over.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.turn.is_some()
    }

    /// Whether it waits for more.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// All that it has; then it has nothing.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let empty = Self::new(&self.allowance, self.toward);
        std::mem::replace(self, empty)
    }

    /// Gives back what is beyond `len` bytes, and hands out the charges of the rest: the message has its length.
    pub fn into_charges(mut self, len: usize) -> Charges {
        self.small.extend(self.turn.take());
        self.shrink(len);
        Charges(self.small)
    }
}

/// The charges of one message.
#[derive(Debug)]
#[must_use = "dropped, they give their bytes back"]
pub struct Charges(Vec<Charge>);

impl Charges {
    /// As [`Charge::wrap`].
    #[must_use]
    pub fn wrap(self, bytes: bytes::Bytes) -> bytes::Bytes {
        if self.0.is_empty() { bytes } else { bytes::Bytes::from_owner(super::charge::Held { bytes, _charges: self }) }
    }
}

impl From<Charge> for Charges {
    fn from(charge: Charge) -> Self {
        Self(vec![charge])
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, is_waiting) = (self.len(), self.is_waiting());
        f.debug_struct("Room").field("len", &len).field("is_waiting", &is_waiting).finish_non_exhaustive()
    }
}
