//! [`Blocked`]: how long what is there for a peer waits for it to take something.

use std::task::Poll;

use tokio::time::Instant;

use crate::{
    clock,
    telemetry::metrics::{
        Metrics,
        labels::{Link, Side},
    },
};

/// What one connection's peer keeps waiting, counted when it takes something or is gone. The clock is read only when
/// something begins to wait, and when that is over.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Where it is counted, if it is.
    counter: Option<(Metrics, Link, Side)>,
    since: Option<Instant>,
}

impl Blocked {
    pub(super) fn new(metrics: &Metrics, link: Option<Link>, side: Side) -> Self {
        Self { counter: link.map(|link| (metrics.clone(), link, side)), since: None }
    }

    /// This is what became of writing.
    pub(super) fn note<T>(&mut self, outcome: &Poll<T>) {
        if outcome.is_pending() {
            self.begin();
        } else if self.since.is_some() {
            self.end();
        }
    }

    #[cold]
    fn begin(&mut self) {
        if self.counter.is_some() {
            self.since.get_or_insert_with(clock::now);
        }
    }

    #[cold]
    fn end(&mut self) {
        if let (Some((metrics, link, side)), Some(since)) = (&self.counter, self.since.take()) {
            metrics.blocked.add((*link, *side), clock::now().saturating_duration_since(since));
        }
    }
}

impl Drop for Blocked {
    /// What waits now waits for nobody any more.
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_what_waits_is_counted_once_it_is_taken_or_given_up() {
        let (metrics, place) = (Metrics::default(), (Link::Relay, Side::Client));
        let mut blocked = Blocked::new(&metrics, Some(Link::Relay), Side::Client);
        let (taken, waits) = (Poll::Ready(()), Poll::<()>::Pending);
        blocked.note(&taken);
        tokio::time::advance(SECOND).await;
        blocked.note(&waits);
        tokio::time::advance(SECOND).await;
        blocked.note(&waits);
        tokio::time::advance(SECOND).await;
        assert_eq!(metrics.blocked.of(place), Duration::ZERO);
        blocked.note(&taken);
        assert_eq!(metrics.blocked.of(place), 2 * SECOND);
        tokio::time::advance(SECOND).await;
        blocked.note(&waits);
        tokio::time::advance(3 * SECOND).await;
        drop(blocked);
        assert_eq!(metrics.blocked.of(place), 5 * SECOND);
        assert_eq!(metrics.blocked.of((Link::Relay, Side::Server)), Duration::ZERO);
    }
}
