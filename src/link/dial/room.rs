//! How much of answers is kept while they are joined, over all of them: so many answers come at once that
//! each being within its limit would not be enough.
//!
//! ```text
//!   small answers share COMMON_LEN bytes; the one that has the turn may grow to the maximum of a frame
//! ```
//!
//! An answer that finds no room, or grows beyond [`FREE_LEN`], waits for the turn and is not read meanwhile,
//! so its server waits too. Turns are given in the order they were asked for, one at a time, and last until
//! the answer is over. So whoever has the turn needs nothing from anybody, and answers that are half read
//! cannot wait for each other.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// What all answers of a session may use.
#[derive(Debug)]
pub(super) struct Room {
    common: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// One answer's part of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    common: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    turns: PollSemaphore,
    /// Whether it has asked for the turn. Then it waits for that, whatever becomes free: a turn that comes to
    /// one who does not look would be nobody's.
    waits: bool,
    turn: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn share(&self) -> Share {
        Share {
            common: Arc::clone(&self.common),
            taken: None,
            turns: PollSemaphore::new(Arc::clone(&self.turns)),
            waits: false,
            turn: None,
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self { common: Arc::new(Semaphore::new(COMMON_LEN)), turns: Arc::new(Semaphore::new(1)) }
    }
}

impl Share {
    /// Ready when this answer may become as long as `len`, all of which is kept.
    pub(super) fn poll_grow(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<()> {
        if self.turn.is_some() || (!self.waits && self.takes_up_to(len)) {
            return Poll::Ready(());
        }
        self.waits = true;
        // `None` is a closed semaphore, and nobody closes it.
        self.turn = ready!(self.turns.poll_acquire(cx));
        // What it had of the common room is free again for others: the turn covers the whole answer.
        self.taken = None;
        Poll::Ready(())
    }

    /// Whether it may grow to the maximum of a frame.
    pub(super) fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    fn takes_up_to(&mut self, len: usize) -> bool {
        let had = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = len.saturating_sub(had);
        if len > FREE_LEN {
            return false;
        }
        let Ok(more) = u32::try_from(more) else { return false };
        let Ok(permit) = Arc::clone(&self.common).try_acquire_many_owned(more) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        true
    }
}

/// Bytes that all answers without the turn keep together.
const COMMON_LEN: usize = 8 << 20;
/// Beyond this, an answer needs the turn.
const FREE_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    #[test]
    fn the_long_take_turns_and_the_short_share() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let room = Room::default();
        let [mut one, mut two, mut three] = [room.share(), room.share(), room.share()];
        assert!(one.poll_grow(&mut cx, FREE_LEN).is_ready());
        assert!(one.poll_grow(&mut cx, FREE_LEN + 1).is_ready());
        assert!(two.poll_grow(&mut cx, FREE_LEN + 1).is_pending());
        assert!(three.poll_grow(&mut cx, 50 << 20).is_pending());
        // While others wait, short ones go on, up to what they share.
        let mut short: Vec<Share> = (0..COMMON_LEN / FREE_LEN).map(|_| room.share()).collect();
        assert!(short.iter_mut().all(|share| share.poll_grow(&mut cx, FREE_LEN).is_ready()));
        let mut late = room.share();
        assert!(late.poll_grow(&mut cx, 1).is_pending());
        // Whoever waits and is gone is nobody's turn.
        drop(two);
        drop(one);
        assert!(three.poll_grow(&mut cx, 50 << 20).is_ready());
        short.clear();
        assert!(late.poll_grow(&mut cx, 1).is_pending(), "it is in the queue");
        assert!(room.share().poll_grow(&mut cx, 1).is_ready(), "there is room again");
        drop(three);
        assert!(late.poll_grow(&mut cx, 50 << 20).is_ready());
    }
}
