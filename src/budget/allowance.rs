//! [`Allowance`]: what one connection, exchange or session is guaranteed, and its way to more.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Budget, Charge, Source, Toward, Waiting, Which};

/// What something was admitted with. A handle: clones share it, and the room is given back with the last of them
/// and the last charge taken from it.
#[derive(Clone)]
pub struct Allowance {
    shared: Arc<Shared>,
}

struct Shared {
    budget: Budget,
    /// What is not in use of what messages are guaranteed, in bytes.
    free: AtomicUsize,
    _admitted: Charge,
}

impl Allowance {
    pub(super) fn new(budget: Budget, admitted: Charge, own: usize) -> Self {
        Self { shared: Arc::new(Shared { budget, free: AtomicUsize::new(own), _admitted: admitted }) }
    }

    /// Room for `len` bytes: of what is guaranteed, or else of what is common.
    #[must_use]
    pub fn try_take(&self, len: usize) -> Option<Charge> {
        self.try_own(len).or_else(|| self.shared.budget.try_take(len))
    }

    /// Room for `len` bytes of what is guaranteed.
    #[must_use]
    pub fn try_own(&self, len: usize) -> Option<Charge> {
        let free = &self.shared.free;
        free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(len)).ok()?;
        Some(Charge { source: Source::Allowance(self.clone()), len })
    }

    /// As [`Budget::turn`].
    pub fn turn(&self, len: usize, toward: Toward) -> Waiting {
        self.shared.budget.turn(len, toward)
    }

    /// The budget it is part of.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    pub(super) fn give_back(&self, len: usize) {
        self.shared.free.fetch_add(len, Ordering::Relaxed);
    }
}

impl Default for Allowance {
    /// Of a budget that nobody else has a part of.
    fn default() -> Self {
        let (budget, own) = (Budget::default(), 16 << 10);
        let none = Charge { source: Source::Area(Arc::clone(&budget.areas), Which::Admitted), len: 0 };
        Self::new(budget, none, own)
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.shared.free.load(Ordering::Relaxed);
        f.debug_struct("Allowance").field("free", &free).finish_non_exhaustive()
    }
}
