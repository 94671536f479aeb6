//! What one session keeps for later, held against the memory budget.
//!
//! It is of use but not needed, so it may take what is spare, and a little in any case. The session says how much it
//! keeps, and lets go of what there is no room for.

use crate::budget::{Budget, Charge};

/// The charges for what one session keeps.
#[derive(Debug)]
pub(super) struct Keeping {
    budget: Budget,
    charges: Vec<Charge>,
    /// Invariant: the sum of the lengths of `charges`.
    len: usize,
}

impl Keeping {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), charges: Vec::new(), len: 0 }
    }

    /// How much may be kept if `len` bytes are: as much, or less if there is no room for it.
    pub(super) fn covered(&mut self, len: usize) -> usize {
        if len > self.len {
            self.grow(len);
        } else if self.len - len > 2 * STEP || len == 0 {
            self.shrink(len);
        }
        self.len.min(len)
    }

    fn grow(&mut self, len: usize) {
        let more = len - self.len;
        let mut charge = self.budget.try_spare(more.max(STEP)).or_else(|| self.budget.try_spare(more));
        if charge.is_none() && len <= FIRST {
            charge = self.budget.try_take(more);
        }
        self.len += charge.as_ref().map_or(0, Charge::len);
        self.charges.extend(charge);
    }

    fn shrink(&mut self, len: usize) {
        let mut rest = len;
        for charge in &mut self.charges {
            charge.shrink(rest);
            rest -= charge.len();
        }
        self.charges.retain(|charge| !charge.is_empty());
        self.len = len - rest;
    }
}

/// Charged at a time, so that not every message is a charge of its own.
const STEP: usize = 16 << 10;

/// What a session may keep as long as there is any room at all: an ordinary handshake, and a message or two.
const FIRST: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_charged_and_given_back_and_leaves_half_to_others() {
        let budget = Budget::new(64 << 20, 1 << 20).unwrap();
        let (mut one, mut other) = (Keeping::new(&budget), Keeping::new(&budget));
        assert_eq!((one.covered(100), budget.held()), (100, STEP));
        assert_eq!((one.covered(STEP + 1), budget.held()), (STEP + 1, 2 * STEP));
        assert_eq!((one.covered(3 << 20), budget.held()), (3 << 20, 3 << 20));
        let (mut kept, mut asked) = (0, 1 << 20);
        while kept < asked && asked < 64 << 20 {
            kept = other.covered(asked);
            asked += 1 << 20;
        }
        assert!(kept < asked, "all of {asked} bytes fit");
        assert!(budget.try_take(1 << 20).is_some(), "nothing is left to others");
        assert_eq!(Keeping::new(&budget).covered(FIRST), FIRST, "an ordinary handshake has room");
        assert_eq!((one.covered(1000), other.covered(0)), (1000, 0));
        assert_eq!(budget.held(), 1000);
        drop((one, other));
        assert_eq!(budget.held(), 0);
    }
}
