//! How many bytes of peers' data this process holds.
//!
//! Whoever holds such bytes keeps a [`Charge`] beside them; dropped, it gives its bytes back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A count that everybody who holds bytes of peers adds to. A handle: clones share it.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    held: Arc<AtomicUsize>,
}

/// Bytes that are held, until this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    len: usize,
}

impl Budget {
    /// Counts `len` bytes as held.
    #[must_use]
    pub fn charge(&self, len: usize) -> Charge {
        self.held.fetch_add(len, Ordering::Relaxed);
        Charge { budget: self.clone(), len }
    }

    /// The bytes that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charge_is_given_back_when_dropped() {
        let budget = Budget::default();
        let (first, second) = (budget.charge(10), budget.charge(5));
        assert_eq!(budget.held(), 15);
        drop(first);
        assert_eq!(budget.held(), 5);
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}
