//! What a process has once, and every session in it uses.

use crate::{
    budget::Budget,
    telemetry::metrics::{
        Metrics,
        labels::{CopyReason, PoolKind},
    },
    verify::Verify,
};

/// Handles to what a process has once: clones share it. The default is of its own: nobody else's count.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Resources {
    /// The bytes of peers that are held.
    pub budget: Budget,
    /// What has happened, counted.
    pub metrics: Metrics,
    /// Whether what leaves is held against what came in.
    pub verify: Verify,
}

impl Resources {
    /// Everything that is counted, as Prometheus reads it.
    #[must_use]
    pub fn exposed(&self) -> String {
        self.metrics.buffer.set((), self.budget.held());
        self.metrics.buffer_limit.set((), self.budget.total());
        let (moves, moved_len) = self.budget.moves();
        self.metrics.copies.set((CopyReason::LineMove,), moves);
        self.metrics.copied.set((CopyReason::LineMove,), moved_len);
        if let Some(pools) = self.budget.pools() {
            let all = [(PoolKind::Stdio, pools.stdio()), (PoolKind::Http, pools.http()), (PoolKind::Own, pools.own())];
            for (kind, pool) in all {
                let counts = pool.counts();
                self.metrics.pool_hits.set((kind,), counts.hits);
                self.metrics.pool_misses.set((kind,), counts.misses);
            }
        }
        self.metrics.text()
    }
}
