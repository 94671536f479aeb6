//! What has happened, counted: never a payload, never an id.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The counters. A handle: clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    sessions: AtomicU64,
}

impl Metrics {
    /// Counts a session that begins.
    pub fn session_began(&self) {
        self.counters.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that have begun.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.counters.sessions.load(Ordering::Relaxed)
    }
}
