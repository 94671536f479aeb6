//! A message that comes in pieces and is wanted in one: joined in room of the budget, never more of it than may be.
//!
//! A message in one piece costs no copy. Room is made as bytes come, not as they are declared, in steps of at most
//! [`MAX_STEP`]; a long block is moved by the system, not by copying.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use shadowcat_codecs::pool::{BufferPool, Pooled};

use crate::budget::{Allowance, Exhausted, Room, Toward};

/// The message so far.
#[derive(Debug)]
pub(super) struct Gathered {
    room: Room,
    /// The first piece, while it is the only one.
    first: Bytes,
    joined: Pooled,
    /// Where the first block for more than one piece is taken, if anywhere.
    pool: Option<BufferPool>,
    /// Most that it may become.
    max: usize,
}

impl Gathered {
    /// Nothing yet of a message of at most `max` bytes.
    pub(super) fn new(allowance: &Allowance, toward: Toward, max: usize) -> Self {
        let pool = allowance.budget().pools().map(|pools| pools.http().clone());
        Self { room: Room::new(allowance, toward), first: Bytes::new(), joined: Pooled::default(), pool, max }
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// What it holds of the budget.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Whether it came in several pieces, which were copied.
    pub(super) fn is_joined(&self) -> bool {
        !self.joined.is_empty()
    }

    /// Adds `piece` once there is room for it; it is empty then. `most` is how long the message becomes, if that was
    /// told. Must not become longer than the maximum.
    pub(super) fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut Bytes,
        most: Option<usize>,
    ) -> Poll<Result<(), Exhausted>> {
        let len = self.len() + piece.len();
        debug_assert!(len <= self.max);
        ready!(self.room.poll_grow(cx, len, most.unwrap_or(self.max).max(len)))?;
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = std::mem::take(piece);
            return Poll::Ready(Ok(()));
        }
        if self.joined.capacity() < len {
            self.grow(len);
        }
        // The named copy: a message that came in pieces has to become one.
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(piece);
        piece.advance(piece.len());
        Poll::Ready(Ok(()))
    }

    /// Makes its block one of at least `len` bytes, and no longer than there is room for.
    fn grow(&mut self, len: usize) {
        let pool = self.pool.as_ref().filter(|_| self.joined.is_empty());
        if let Some(pool) = pool {
            // Room for whatever is kept there, if there is any at once.
            _ = self.room.grows(2 * pool.nominal(), 2 * pool.nominal());
        }
        let step = len.clamp(MIN_STEP, MAX_STEP);
        let wanted = len.saturating_add(step).min(self.room.len()).max(len);
        match pool {
            Some(pool) => self.joined = pool.take(wanted, self.room.len()),
            None => self.joined.fit(wanted),
        }
    }

    /// The message, which holds its room until nobody has it any more.
    pub(super) fn finish(mut self) -> Bytes {
        self.take()
    }

    /// As [`finish`](Self::finish), and begins anew.
    pub(super) fn take(&mut self) -> Bytes {
        let room = self.room.take();
        let (first, joined) = (std::mem::take(&mut self.first), std::mem::take(&mut self.joined));
        if joined.is_empty() {
            return room.into_charges(first.len()).wrap(first);
        }
        room.into_charges(joined.capacity()).wrap(joined.freeze())
    }
}

/// Least that a block grows by.
const MIN_STEP: usize = 16 << 10;
/// Most that a block grows by ("Memory" in ARCHITECTURE.md).
const MAX_STEP: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use shadowcat_codecs::pool::PoolCounts;

    use super::*;
    use crate::budget::Budget;

    const MIB: usize = 1 << 20;

    fn push(gathered: &mut Gathered, len: usize, most: Option<usize>) -> Poll<Result<(), Exhausted>> {
        let mut piece = Bytes::from(vec![b'x'; len]);
        gathered.poll_push(&mut Context::from_waker(Waker::noop()), &mut piece, most)
    }

    #[tokio::test]
    async fn a_message_holds_its_room_and_gives_back_what_it_did_not_need() {
        let budget = Budget::new(16 * MIB, 4 * MIB).unwrap();
        let allowance = budget.try_admit(0, 4 << 10).unwrap();
        let base = budget.held();
        let mut gathered = Gathered::new(&allowance, Toward::Server, 4 * MIB);
        assert!(push(&mut gathered, 3 << 10, None).is_ready());
        assert_eq!(budget.held(), base, "what is guaranteed is counted already");
        for _ in 0..128 {
            assert!(push(&mut gathered, 16 << 10, None).is_ready());
            assert!(budget.held() - base <= 5 * MIB);
            assert!(gathered.joined.capacity() <= gathered.room.len());
        }
        assert!(gathered.room.is_large());
        let message = gathered.finish();
        assert_eq!(message.len(), (3 << 10) + 2 * MIB);
        let held = budget.held() - base;
        assert!(held >= message.len() && held <= 4 * MIB, "{held}");
        drop(message);
        assert_eq!(budget.held(), base);
    }

    #[tokio::test]
    async fn what_came_in_pieces_goes_back_to_the_pool_and_what_has_grown_does_not() {
        let budget = Budget::new(16 * MIB, 4 * MIB).unwrap().with_pools();
        let allowance = budget.try_admit(0, 4 << 10).unwrap();
        let http = budget.pools().unwrap().http();
        let message = |pieces: usize| {
            let mut gathered = Gathered::new(&allowance, Toward::Client, 4 * MIB);
            assert!((0..pieces).all(|_| push(&mut gathered, 12 << 10, Some(pieces * (12 << 10))).is_ready()));
            let message = gathered.finish();
            assert_eq!(message.len(), pieces * (12 << 10));
        };
        message(1);
        assert_eq!(http.counts(), PoolCounts::default(), "one piece is not copied");
        message(3);
        message(3);
        assert_eq!(http.counts(), PoolCounts { hits: 1, misses: 1, returned: 2, dropped: 0 });
        message(80);
        let PoolCounts { hits, misses, dropped, .. } = http.counts();
        assert_eq!((hits + misses, dropped), (3, 1));
        assert!(http.kept().1 <= http.max_len());
    }

    #[tokio::test]
    async fn two_long_ones_take_turns_and_one_that_is_told_takes_no_more_than_that() {
        let budget = Budget::new(16 * MIB, 7 * MIB).unwrap();
        let allowance = budget.try_admit(0, 4 << 10).unwrap();
        let [mut one, mut two] =
            [Gathered::new(&allowance, Toward::Server, 7 * MIB), Gathered::new(&allowance, Toward::Server, 7 * MIB)];
        assert!(push(&mut one, 2 * MIB, None).is_ready());
        assert!(push(&mut two, 2 * MIB, None).is_pending());
        drop(one.finish());
        assert!(push(&mut two, 2 * MIB, Some(3 * MIB)).is_ready());
        let mut three = Gathered::new(&allowance, Toward::Server, 7 * MIB);
        assert!(push(&mut three, 2 * MIB, Some(3 * MIB)).is_pending(), "the one before asked for all there is");
        drop(two);
        assert!(push(&mut three, 2 * MIB, Some(3 * MIB)).is_ready());
        let mut four = Gathered::new(&allowance, Toward::Server, 7 * MIB);
        assert!(push(&mut four, 2 * MIB, Some(3 * MIB)).is_ready());
    }
}
