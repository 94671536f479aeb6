//! What a burst of exchanges has left in the allocator's hands goes back to the system once it is over.
//!
//! What is freed between things that stay, as idle connections do, is kept by the allocator for what comes next.
//! That is right while much comes, and later it is memory that others could use. Giving it back costs a walk over all
//! of it and a page fault each when it is needed again, so it happens once behind a burst, not on a clock.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{Either, select};
use tokio::time::sleep;

use crate::allocator;

/// Counts exchanges.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Arc<AtomicU64>);

/// Tells when a burst is over.
#[derive(Debug, Default)]
struct Tide {
    /// Most exchanges that began in one second since the last burst.
    most: u64,
    /// Seconds in a row with far fewer.
    calm_count: u32,
}

impl Pace {
    /// Another exchange begins.
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Watches the pace for as long as `serving` runs.
    pub(super) async fn during(&self, serving: impl Future<Output = ()>) {
        let watching = async {
            let (mut tide, mut seen) = (Tide::default(), 0);
            loop {
                sleep(SECOND).await;
                let now = self.0.load(Ordering::Relaxed);
                if tide.is_over(now - seen) {
                    allocator::give_back_what_is_free();
                }
                seen = now;
            }
        };
        let (Either::Left(_) | Either::Right(_)) = select(pin!(serving), pin!(watching)).await;
    }
}

impl Tide {
    /// Whether a burst is over, when `count` exchanges have begun in the last second.
    fn is_over(&mut self, count: u64) -> bool {
        if count.saturating_mul(FAR) >= self.most {
            (self.most, self.calm_count) = (self.most.max(count), 0);
            return false;
        }
        self.calm_count += 1;
        let is_over = self.calm_count >= CALM_COUNT;
        if is_over {
            (self.most, self.calm_count) = (count, 0);
        }
        is_over
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// So many times fewer exchanges are far fewer.
const FAR: u64 = 8;
/// For so long there are far fewer behind a burst. Idle connections to servers are closed after 4 s.
const CALM_COUNT: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn over(counts: &[u64]) -> Vec<usize> {
        let mut tide = Tide::default();
        (0..counts.len()).filter(|&at| tide.is_over(counts[at])).collect()
    }

    #[test]
    fn burst_is_over_once() {
        assert!(over(&[0; 20]).is_empty());
        assert_eq!(over(&[100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [5]);
        assert_eq!(over(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [5]);
        assert_eq!(over(&[100, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0]), [10]);
    }

    #[test]
    fn what_goes_on_all_the_time_is_no_burst() {
        assert!(over(&[9, 5, 7, 3, 4, 5, 6, 2, 3, 4, 8, 9]).is_empty());
        assert_eq!(over(&[100, 3, 2, 1, 3, 2, 1, 3, 2, 1, 3, 2]), [5]);
    }
}
