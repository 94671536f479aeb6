//! For how long a child may take nothing, and say nothing, while somebody waits for it.
//!
//! As `link/pipe/overdue.rs` has it for one client: a child that says anything is at work, one that is not read from
//! cannot be heard, and one that is asked nothing has nothing to say.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use super::MuxOptions;
use crate::{
    link::waits::Stall,
    session::Timeout,
    telemetry::metrics::labels::{Link, Side, TimeoutOf},
};

/// What one child is waited for with.
#[derive(Debug)]
pub(super) struct Patience {
    read: Option<Duration>,
    write: Option<Duration>,
    /// What is there for it, and it does not take.
    stall: Stall,
    /// Since when it has said nothing, though it could be heard and was asked.
    silent: Instant,
    is_heard: bool,
    is_asked: bool,
}

impl Patience {
    pub(super) fn new(options: &MuxOptions, now: Instant) -> Self {
        let (read, write) = (options.server_read, options.server_write);
        let stall = Stall::counted(&options.resources.metrics, Link::Mux, Side::Server);
        Self { read, write, stall, silent: now, is_heard: true, is_asked: false }
    }

    /// Something waits for it, which has taken `taken` bytes so far. Whether nothing did before.
    pub(super) fn blocked(&mut self, taken: u64, clock: impl FnOnce() -> Instant) -> bool {
        let was_free = self.stall.since().is_none();
        self.stall.blocked(taken, clock);
        was_free
    }

    /// It has taken everything. Returns for how long something had waited.
    pub(super) fn freed(&mut self, clock: impl FnOnce() -> Instant) -> Option<Duration> {
        self.stall.freed(clock)
    }

    /// It said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silent = now;
    }

    /// Whether it can be heard, and is asked anything. Silence counts from when both began.
    pub(super) fn observe(&mut self, is_heard: bool, is_asked: bool, clock: impl FnOnce() -> Instant) {
        if (is_heard && !self.is_heard) || (is_asked && !self.is_asked) {
            self.silent = clock();
        }
        (self.is_heard, self.is_asked) = (is_heard, is_asked);
    }

    /// When it will be [overdue](Self::overdue), unless something happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.dues().into_iter().flatten().map(|(due, ..)| due).min()
    }

    /// What it was waited for for too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<(Timeout, TimeoutOf)> {
        let (_, what, after, of) = self.dues().into_iter().flatten().find(|(due, ..)| *due <= now)?;
        Some((Timeout { what: Cow::Borrowed(what), after }, of))
    }

    fn dues(&self) -> [Option<(Instant, &'static str, Duration, TimeoutOf)>; 2] {
        let due = |since: Option<Instant>, limit: Option<Duration>, what, of| {
            let (since, after) = since.filter(|_| self.is_heard).zip(limit)?;
            Some((since + after, what, after, of))
        };
        let to_child = self.stall.since().map(|since| since.max(self.silent));
        [
            due(to_child, self.write, "the server's reading of what is there for it", TimeoutOf::Write),
            due(self.is_asked.then_some(self.silent), self.read, "the server's next word", TimeoutOf::StdioRead),
        ]
    }
}

#[cfg(test)]
mod tests {
    use shadowcat_codecs::Limits;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(read: Option<Duration>, write: Option<Duration>) -> (Patience, Instant) {
        let (mut options, now) = (MuxOptions::new(Limits::default()), crate::clock::now().into_std());
        (options.server_read, options.server_write) = (read, write);
        (Patience::new(&options, now), now)
    }

    #[test]
    fn a_child_that_takes_nothing_is_overdue_unless_it_speaks_or_cannot_be_heard() {
        let (mut patience, start) = patience(None, Some(3 * SECOND));
        assert_eq!(patience.due(), None);
        assert!(patience.blocked(0, || start) && !patience.blocked(0, || start));
        patience.heard(start + SECOND);
        assert_eq!((patience.due(), patience.overdue(start + 3 * SECOND)), (Some(start + 4 * SECOND), None));
        let (timeout, of) = patience.overdue(start + 4 * SECOND).unwrap();
        assert_eq!((timeout.after, of), (3 * SECOND, TimeoutOf::Write));
        patience.observe(false, true, || start + 4 * SECOND);
        assert_eq!(patience.due(), None, "a client that reads nothing keeps us from hearing it");
        patience.observe(true, true, || start + 9 * SECOND);
        assert_eq!(patience.due(), Some(start + 12 * SECOND));
        assert_eq!(patience.freed(|| start + 10 * SECOND), Some(10 * SECOND));
        assert_eq!(patience.due(), None);
    }

    #[test]
    fn a_child_that_says_nothing_is_overdue_only_while_it_is_asked() {
        let (mut patience, start) = patience(Some(3 * SECOND), None);
        patience.blocked(0, || start);
        assert_eq!(patience.due(), None);
        patience.observe(true, true, || start + 5 * SECOND);
        assert_eq!(patience.due(), Some(start + 8 * SECOND));
        patience.heard(start + 7 * SECOND);
        assert_eq!(patience.due(), Some(start + 10 * SECOND));
        assert_eq!(patience.overdue(start + 10 * SECOND).unwrap().1, TimeoutOf::StdioRead);
        patience.observe(true, false, || start + 10 * SECOND);
        assert_eq!(patience.due(), None);
    }
}
