//! [`Areas`]: the parts that a budget is divided into, each with those who wait for it.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::Toward;

/// All of a budget, and what it is divided into.
pub(super) struct Areas {
    pub(super) total: usize,
    /// Bytes that are charged, over all areas.
    pub(super) held: AtomicUsize,
    /// Beginnings of lines that moved to another block, and their bytes.
    pub(super) moves: [AtomicU64; 2],
    pub(super) admitted: Area,
    pub(super) common: Area,
    /// For messages to servers, and for those to clients.
    pub(super) turns: [Area; 2],
    pub(super) large: [Area; 2],
    /// What a message beyond [`SMALL_LEN`](super::SMALL_LEN) takes whose length nobody knows.
    pub(super) whole_len: usize,
    pub(super) wait: Duration,
}

/// One of its parts.
pub(super) struct Area {
    /// In units of [`UNIT`].
    pub(super) free: Semaphore,
    pub(super) len: usize,
    /// How many wait for it.
    pub(super) waiters: AtomicUsize,
}

/// Which part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Admitted,
    Common,
    Turns(Toward),
    Large(Toward),
}

impl Areas {
    pub(super) fn area(&self, which: Which) -> &Area {
        match which {
            Which::Admitted => &self.admitted,
            Which::Common => &self.common,
            Which::Turns(toward) => pick(&self.turns, toward),
            Which::Large(toward) => pick(&self.large, toward),
        }
    }
}

/// The part for one direction, or the only one.
fn pick([server, client]: &[Area; 2], toward: Toward) -> &Area {
    if toward == Toward::Server || client.len == 0 { server } else { client }
}

impl Area {
    pub(super) fn new(len: usize) -> Self {
        let free = Semaphore::new((len / UNIT).min(Semaphore::MAX_PERMITS));
        Self { free, len, waiters: AtomicUsize::new(0) }
    }

    pub(super) fn give_back(&self, units: u32) {
        self.free.add_permits(units as usize);
    }
}

/// One who waits for an area, until dropped.
pub(super) struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    pub(super) fn new(area: &'a Area) -> Self {
        area.waiters.fetch_add(1, Ordering::Relaxed);
        Self(&area.waiters)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A semaphore counts in these, or 32 bits would not do for a message of 4 GiB.
pub(super) const UNIT: usize = 1 << 10;

/// `len` bytes, rounded up.
pub(super) fn units(len: usize) -> u32 {
    u32::try_from(len.div_ceil(UNIT)).unwrap_or(u32::MAX)
}
