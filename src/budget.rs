//! How many bytes of peers this process may hold: one number for everything, divided so that nobody waits for ever.
//!
//! ```text
//!   total ─┬─ large     half of it, and at least one message of the maximum length. A message beyond SMALL_LEN
//!          │            takes all it may become at once, in the order of asking. In two parts, for messages to
//!          │            servers and for those to clients, if each can hold one
//!          └─ the rest ─┬─ turns     1/16, in two parts: for whoever found no room in `common`; in the order of asking
//!                       ├─ admitted  3/4 of what remains: what each connection, exchange and session is
//!                       │            guaranteed; taken when it begins, or it is refused
//!                       └─ common    what a message or a queue needs beyond that, up to SMALL_LEN; taken if
//!                                    there is room, and never waited for
//! ```
//!
//! **No dead-lock.** Only `turns` and `large` are waited for, and only by who holds nothing of the same area or of
//! a later one: something admitted, something of `common`, then one turn, then one large charge. Whoever has a turn
//! needs no more of `common`, and whoever has a large charge needs nothing more; so everybody in the queues waits for
//! somebody who does not wait here. A message to a server may wait for that server to read, and the server for us to
//! read its answers: therefore the two directions have parts of their own, and only what goes to a client, which must
//! read while it writes, holds the last of them. Where the budget is too small for two parts, and for a peer that
//! stalls, waiting ends with an error ([`Exhausted`]), and links do not let a message stand still half-read while
//! others wait for the large charge it holds.
//!
//! **Who is charged.** Each buffer of ours that can hold what a peer sent, with its capacity. What HTTP and TLS
//! libraries hold is part of what is admitted, from sizes that are set explicitly where they are configured. A
//! [`Charge`] lives as long as its bytes: [`Charge::wrap`] ties the two together.
//!
//! What is not here: what is counted elsewhere by a limit of its own (ids of pending requests, headers within their
//! limit), and code, stacks and what the allocator keeps.

mod allowance;
mod areas;
mod charge;
mod pools;
mod room;

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::timeout;

use self::{
    areas::{Area, Areas, UNIT, Waiter, Which, units},
    charge::Source,
};
pub use allowance::Allowance;
pub use charge::Charge;
pub use pools::Pools;
pub use room::{Charges, Room};

/// The bytes that may be held, and who holds them. A handle: clones share it.
#[derive(Clone)]
pub struct Budget {
    areas: Arc<Areas>,
    /// `None`: each buffer is made and freed.
    pools: Option<Arc<Pools>>,
}

/// A budget that cannot hold even one message of the maximum length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a budget of {asked} bytes is too little for messages of {max_frame_len} bytes: with what sessions need beside one \
     of them, it takes at least {least} bytes"
)]
#[expect(clippy::exhaustive_structs, reason = "this is all there is to say")]
pub struct TooSmall {
    /// The budget.
    pub asked: usize,
    /// The longest message.
    pub max_frame_len: usize,
    /// The smallest budget for it.
    pub least: usize,
}

/// There was no room for a message in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for {len} bytes within {waited:?}: the memory budget of {total} bytes is used up")]
#[expect(clippy::exhaustive_structs, reason = "this is all there is to say")]
pub struct Exhausted {
    /// What was asked for.
    pub len: usize,
    /// The whole budget.
    pub total: usize,
    /// How long was waited; zero if there can never be room.
    pub waited: Duration,
}

/// What becomes of asking for room that has to be waited for. Dropped, it asks no more, and nothing is lost.
pub type Waiting = Pin<Box<dyn Future<Output = Result<Charge, Exhausted>> + Send + Sync>>;

/// Who a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third side")]
pub enum Toward {
    /// From a client.
    Server,
    /// From a server.
    Client,
}

impl Budget {
    /// A budget of `total` bytes, in which messages may be as long as `max_frame_len`.
    ///
    /// # Errors
    ///
    /// If it is too small for one such message and what sessions need beside it.
    pub fn new(total: usize, max_frame_len: usize) -> Result<Self, TooSmall> {
        let whole_len = max_frame_len.saturating_add(LARGE_SLACK);
        let least = whole_len.saturating_add(MIN_REST);
        if total < least || least == usize::MAX {
            return Err(TooSmall { asked: total, max_frame_len, least });
        }
        let large = whole_len.max(total / 2);
        let rest = total - large;
        let turns = (rest / 16).max(2 * SMALL_LEN);
        let admitted = (rest - turns) / 4 * 3;
        let areas = Areas {
            total,
            held: AtomicUsize::new(0),
            moves: Default::default(),
            admitted: Area::new(admitted),
            common: Area::new(rest - turns - admitted),
            turns: [turns / 2; 2].map(Area::new),
            large: if large / 2 >= whole_len { [large / 2; 2].map(Area::new) } else { [large, 0].map(Area::new) },
            whole_len,
            wait: DEFAULT_WAIT,
        };
        Ok(Self { areas: Arc::new(areas), pools: None })
    }

    /// The same, with another limit on how long a message may wait for room. To be set before anything is held.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        if let Some(areas) = Arc::get_mut(&mut self.areas) {
            areas.wait = wait;
        }
        self
    }

    /// The same, with buffers kept to be used again, which are charged at once for the most that may be kept. Without
    /// them, if there is no room. To be called before anybody has a clone.
    #[must_use]
    pub fn with_pools(mut self) -> Self {
        self.pools = Pools::new(&self).map(Arc::new);
        self
    }

    /// Where buffers are kept, if they are.
    #[must_use]
    pub fn pools(&self) -> Option<&Pools> {
        self.pools.as_deref()
    }

    /// All that may be held, in bytes.
    #[must_use]
    pub fn total(&self) -> usize {
        self.areas.total
    }

    /// The bytes that are held now, what is guaranteed included. Never more than [`total`](Self::total), and 0
    /// when no connection and no session is left, or what [pools](Self::with_pools) may keep.
    #[must_use]
    pub fn held(&self) -> usize {
        self.areas.held.load(Ordering::Relaxed)
    }

    /// How often the beginning of a line moved to another block, and the bytes of all of them.
    #[must_use]
    pub fn moves(&self) -> (u64, u64) {
        let [count, len] = &self.areas.moves;
        (count.load(Ordering::Relaxed), len.load(Ordering::Relaxed))
    }

    /// Notes that the beginning of a line moved.
    pub(crate) fn note_move(&self, len: usize) {
        if len > 0 {
            let [count, all] = &self.areas.moves;
            count.fetch_add(1, Ordering::Relaxed);
            all.fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    /// How long a message waits for room, and how long one may stand still that keeps others waiting.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.areas.wait
    }

    /// Whether somebody waits for a large message to be over that goes the same way.
    #[must_use]
    pub fn has_waiters(&self, toward: Toward) -> bool {
        self.areas.area(Which::Large(toward)).waiters.load(Ordering::Relaxed) > 0
    }

    /// What a message beyond [`SMALL_LEN`] takes whose length nobody knows, in bytes: the maximum of a message,
    /// and what is read with its end.
    #[must_use]
    pub fn whole_len(&self) -> usize {
        self.areas.whole_len
    }

    /// Room for something that begins: `fixed` bytes that it holds in any case, and `own` bytes that it can always
    /// use for messages. `None` if it has to be refused.
    #[must_use]
    pub fn try_admit(&self, fixed: usize, own: usize) -> Option<Allowance> {
        let charge = self.try_charge(Which::Admitted, fixed + own)?;
        Some(Allowance::new(self.clone(), charge, own))
    }

    /// As [`try_admit`](Self::try_admit), but waits for the room, in the order of asking, without a limit: for who
    /// keeps nobody waiting but newcomers.
    pub fn admit(&self, fixed: usize, own: usize) -> BoxFuture<'static, Allowance> {
        let budget = self.clone();
        let len = (fixed + own).min(self.areas.admitted.len);
        Box::pin(async move {
            let charge = budget.acquire(Which::Admitted, len).await;
            Allowance::new(budget, charge, own)
        })
    }

    /// Room for `len` bytes more, if there is any.
    #[must_use]
    pub fn try_take(&self, len: usize) -> Option<Charge> {
        self.try_charge(Which::Common, len)
    }

    /// As [`try_take`](Self::try_take), for what is of use but not needed: only while half of what is common is
    /// free.
    #[must_use]
    pub fn try_spare(&self, len: usize) -> Option<Charge> {
        if self.has_plenty() { self.try_take(len) } else { None }
    }

    /// Whether half of what is common is free.
    #[must_use]
    pub fn has_plenty(&self) -> bool {
        let common = &self.areas.common;
        common.free.available_permits().saturating_mul(2 * UNIT) >= common.len
    }

    /// Waits for room for `len` bytes, in the order of asking. Whoever asks for at most [`SMALL_LEN`] may hold
    /// nothing but what is admitted and common; whoever asks for more may have waited once for less.
    ///
    /// # Errors
    ///
    /// If there was none within [`wait`](Self::wait), or there can be none.
    pub fn turn(&self, len: usize, toward: Toward) -> Waiting {
        self.waiting(if len <= SMALL_LEN { Which::Turns(toward) } else { Which::Large(toward) }, len)
    }

    /// Waits for `len` bytes more for who has a part of a large charge left.
    fn more_of_large(&self, len: usize, toward: Toward) -> Waiting {
        self.waiting(Which::Large(toward), len)
    }

    fn waiting(&self, which: Which, len: usize) -> Waiting {
        let budget = self.clone();
        Box::pin(async move {
            let Areas { total, wait, .. } = *budget.areas;
            if len > budget.areas.area(which).len {
                return Err(Exhausted { len, total, waited: Duration::ZERO });
            }
            let _counted = Waiter::new(budget.areas.area(which));
            timeout(wait, budget.acquire(which, len)).await.map_err(|_| Exhausted { len, total, waited: wait })
        })
    }

    fn try_charge(&self, which: Which, len: usize) -> Option<Charge> {
        let permit = self.areas.area(which).free.try_acquire_many(units(len)).ok()?;
        permit.forget();
        Some(self.charged(which, len))
    }

    async fn acquire(&self, which: Which, len: usize) -> Charge {
        // An error is a closed semaphore, and nobody closes it.
        if let Ok(permit) = self.areas.area(which).free.acquire_many(units(len)).await {
            permit.forget();
        }
        self.charged(which, len)
    }

    fn charged(&self, which: Which, len: usize) -> Charge {
        self.areas.held.fetch_add(len, Ordering::Relaxed);
        Charge { source: Source::Area(Arc::clone(&self.areas), which), len }
    }
}

impl Default for Budget {
    /// 512 MiB, for messages of 64 MiB.
    fn default() -> Self {
        match Self::new(DEFAULT_TOTAL, DEFAULT_FRAME_LEN) {
            Ok(budget) => budget,
            Err(_) => unreachable!("the defaults fit"),
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("held", &self.held()).field("total", &self.total()).finish_non_exhaustive()
    }
}

/// What a message may take without waiting for a large charge, in bytes.
pub const SMALL_LEN: usize = 1 << 20;

/// What is read with the end of a large message, and room for a parser.
const LARGE_SLACK: usize = 512 << 10;
/// What must be left beside one message of the maximum length.
const MIN_REST: usize = 8 << 20;
/// How long a message may wait for room.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// All that may be held.
const DEFAULT_TOTAL: usize = 512 << 20;
/// The default of [`shadowcat_codecs::Limits`].
const DEFAULT_FRAME_LEN: usize = 64 << 20;

#[cfg(test)]
mod tests;
