//! How long a session waits for whom, and what becomes of whoever takes longer; one timer for all of it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    clock,
    session::ResponseTimeouts,
    telemetry::metrics::{
        Metrics,
        labels::{Link, Side},
    },
};

/// How long a session whose client is a byte stream waits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Waits {
    /// How long the server may take to answer a request. Then its sender gets an error, and the server is told that
    /// the request is cancelled.
    pub response: ResponseTimeouts,
    /// How long a server that is a byte stream may say nothing at all while a request waits for it. Then every
    /// request that waits gets an error, and the session ends: the server is to blame. For ever if `None`.
    pub server_read: Option<Duration>,
    /// How long a server that is a byte stream may take nothing of what is there for it, and say nothing. Then as
    /// above. For ever if `None`. Longer than a slow client is waited for, because a server that computes may read
    /// nothing meanwhile.
    pub server_write: Option<Duration>,
    /// How long a server over HTTP may take to begin a stream that is asked for with GET. Then it is asked for again.
    /// For ever if `None`: some begin with the first event.
    pub sse_connect: Option<Duration>,
    /// How long an event stream may bring no byte, comments included. Then it is resumed behind its last event, or its
    /// request gets an error. For ever if `None`.
    pub sse_read: Option<Duration>,
    /// What becomes of a client that takes nothing of what is there for it.
    pub slow_consumer: SlowConsumer,
}

/// What becomes of a client that reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum SlowConsumer {
    /// Its server waits for it, for ever. Right where nobody else uses that server.
    #[default]
    Pause,
    /// It is cut off when it has taken nothing for so long.
    Disconnect(Duration),
}

/// How long one reader has taken nothing of what is there for it, and how long it has kept us waiting in all.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// Since when nothing was taken, and how much had been by then. `None` while nothing waits.
    since: Option<(Instant, u64)>,
    /// When something began to wait.
    begun: Option<Instant>,
    blocked: Duration,
    /// Where it is counted.
    counter: Option<(Metrics, Link, Side)>,
}

/// The one timer of a session.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When `sleep` ends. `None`: it is not to be asked.
    armed: Option<Instant>,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            response: ResponseTimeouts::default(),
            server_read: None,
            server_write: Some(Duration::from_secs(5 * 60)),
            sse_connect: None,
            sse_read: None,
            slow_consumer: SlowConsumer::Pause,
        }
    }
}

impl SlowConsumer {
    /// How long a client may take nothing; for ever if `None`.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Pause => None,
            Self::Disconnect(limit) => Some(limit),
        }
    }
}

impl Stall {
    /// Counted as waiting for this side of `link`.
    pub(super) fn counted(metrics: &Metrics, link: Link, side: Side) -> Self {
        let mut stall = Self::default();
        stall.counter = Some((metrics.clone(), link, side));
        stall
    }

    /// Something waits for the reader, which has taken `taken` bytes so far.
    pub(super) fn blocked(&mut self, taken: u64, clock: impl FnOnce() -> Instant) {
        if self.since.is_none_or(|(_, before)| before != taken) {
            let now = clock();
            self.begun.get_or_insert(now);
            self.since = Some((now, taken));
        }
    }

    /// Nothing waits for the reader. For how long something did, if it did.
    pub(super) fn freed(&mut self, clock: impl FnOnce() -> Instant) -> Option<Duration> {
        let begun = self.begun.take()?;
        self.since = None;
        let blocked = clock().saturating_duration_since(begun);
        self.blocked += blocked;
        if let Some((metrics, link, side)) = &self.counter {
            metrics.blocked.add((*link, *side), blocked);
        }
        Some(blocked)
    }

    /// Since when the reader has taken nothing.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since.map(|(since, _)| since)
    }

    /// How long it has kept us waiting until `now`.
    pub(super) fn total(&self, now: Instant) -> Duration {
        self.blocked + self.begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun))
    }
}

impl Drop for Stall {
    /// What waits now waits for nobody any more.
    fn drop(&mut self) {
        self.freed(|| clock::now().into_std());
    }
}

impl Alarm {
    /// Ready once `due` has passed, which may be another time at each call. Costs a look at two times unless `due`
    /// comes earlier than it was.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        if self.armed.is_none_or(|armed| due < armed) {
            self.arm(due);
        }
        while let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.armed = None;
            if clock::now().into_std() >= due {
                break;
            }
            self.arm(due);
        }
        Poll::Ready(())
    }

    fn arm(&mut self, due: Instant) {
        self.armed = Some(due);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(due.into()),
            None => self.sleep = Some(Box::pin(sleep_until(due.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_reader_that_takes_a_little_has_not_stalled() {
        let start = clock::now().into_std();
        let mut stall = Stall::default();
        assert_eq!(stall.freed(|| start), None);
        stall.blocked(10, || start);
        stall.blocked(10, || start + SECOND);
        assert_eq!(stall.since(), Some(start));
        stall.blocked(11, || start + 2 * SECOND);
        assert_eq!((stall.since(), stall.total(start + 3 * SECOND)), (Some(start + 2 * SECOND), 3 * SECOND));
        assert_eq!(stall.freed(|| start + 4 * SECOND), Some(4 * SECOND));
        assert_eq!((stall.since(), stall.total(start + 9 * SECOND)), (None, 4 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_was_waited_is_counted_when_it_is_over_or_given_up() {
        let (metrics, place) = (Metrics::default(), (Link::Mux, Side::Client));
        let mut stall = Stall::counted(&metrics, place.0, place.1);
        let now = || clock::now().into_std();
        stall.blocked(0, now);
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(metrics.blocked.of(place), Duration::ZERO);
        stall.freed(now);
        assert_eq!(metrics.blocked.of(place), 2 * SECOND);
        stall.blocked(0, now);
        tokio::time::advance(3 * SECOND).await;
        drop(stall);
        assert_eq!(metrics.blocked.of(place), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_alarm_follows_a_due_time_that_moves_either_way() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let start = clock::now().into_std();
        let mut alarm = Alarm::default();
        assert!(alarm.poll(&mut cx, None).is_pending());
        assert!(alarm.poll(&mut cx, Some(start + 5 * SECOND)).is_pending());
        assert!(alarm.poll(&mut cx, Some(start + SECOND)).is_pending());
        tokio::time::advance(2 * SECOND).await;
        assert!(alarm.poll(&mut cx, Some(start + 3 * SECOND)).is_pending(), "it moved on meanwhile");
        tokio::time::advance(2 * SECOND).await;
        assert!(alarm.poll(&mut cx, Some(start + 3 * SECOND)).is_ready());
    }
}
