//! How long to wait before a stream is asked for again. Pure: chance is an argument.

use std::time::Duration;

use crate::session::doubling::doubled;

/// The waits between attempts, longer with each that brought nothing.
#[derive(Debug, Clone, Default)]
pub struct BackOff {
    attempts: u32,
    /// The `retry` of the stream; holds until the next one, as in browsers.
    told: Option<Duration>,
    /// Whether nothing came since the wait before.
    is_fruitless: bool,
}

impl BackOff {
    /// How long to wait now. A server's `retry` is a minimum (rule G7), taken as it is; without one the wait
    /// doubles, and a part of it is left to `chance`, so that clients of a server that restarts do not come
    /// all at once.
    pub fn next(&mut self, retry: Option<Duration>, chance: u16) -> Duration {
        self.told = retry.or(self.told);
        let jittered = doubled(FIRST, self.attempts, LONGEST, chance);
        self.attempts += 1;
        let least = if std::mem::replace(&mut self.is_fruitless, true) { LEAST } else { Duration::ZERO };
        if let Some(retry) = self.told.filter(|_| self.attempts == 1) {
            return retry.max(least);
        }
        jittered.max(self.told.unwrap_or_default())
    }

    /// There is a stream again. A server that said how long to wait is asked as often as it wants, even if it
    /// says nothing: it is polled (2025-11-25).
    pub fn opened(&mut self) {
        if self.told.is_some() {
            self.attempts = 0;
        }
    }

    /// Something came: the next wait is the first again.
    pub fn reset(&mut self) {
        (self.attempts, self.is_fruitless) = (0, false);
    }
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Whatever a server says, it is not asked more often than this for nothing.
const LEAST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_never_undercut_what_the_server_asked_for() {
        let mut back_off = BackOff::default();
        let waits: Vec<u64> = (0..8).map(|_| back_off.next(None, u16::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(back_off.next(None, 0).as_secs(), 15);
        back_off.reset();
        assert_eq!(back_off.next(Some(Duration::from_millis(20)), 0), Duration::from_millis(20));
        back_off.opened();
        assert_eq!(back_off.next(None, 0), LEAST);
        back_off.reset();
        assert_eq!(back_off.next(None, 0), Duration::from_millis(20));
        assert_eq!(back_off.next(Some(Duration::from_secs(90)), 0), Duration::from_secs(90));
    }
}
