//! Whether and when a child that crashed is started again. Pure: time and chance are arguments.

use std::time::Duration;

use super::doubling::doubled;

/// Which children are started again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Restart {
    /// None.
    Never,
    /// Those that hold no session: of MCP 2026-07-28 (Rule T10).
    #[default]
    Stateless,
    /// Those too whose session's handshake can be said again: of the revisions before. What else they knew is lost.
    Replay,
}

/// How often a child crashed without having lived for long in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crashes {
    in_a_row: u32,
}

impl Crashes {
    /// It crashed again after it `lived` so long. Returns how long to wait before there is another: longer with
    /// each crash in a row, up to [`LONGEST`]. A part is left to `chance`, so that children that fell together do
    /// not all come back together.
    pub fn note(&mut self, lived: Duration, chance: u16) -> Duration {
        if lived >= FORGIVEN {
            self.in_a_row = 0;
        }
        let wait = doubled(FIRST, self.in_a_row, LONGEST, chance);
        self.in_a_row = self.in_a_row.saturating_add(1);
        wait
    }

    /// How many crashes there were in a row.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

/// After the first crash, at most.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_secs(30);
/// A child that lived so long is not one that cannot live.
pub const FORGIVEN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_until_a_child_has_lived() {
        let mut crashes = Crashes::default();
        let waits: Vec<u128> = (0..12).map(|_| crashes.note(Duration::ZERO, u16::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000]);
        assert_eq!(crashes.note(FORGIVEN - Duration::from_nanos(1), 0), LONGEST / 2);
        assert_eq!(crashes.in_a_row(), 13);
        assert_eq!(crashes.note(FORGIVEN, u16::MAX), FIRST);
        assert_eq!(crashes.in_a_row(), 1);
    }

    #[test]
    fn many_crashes_never_overflow() {
        let mut crashes = Crashes { in_a_row: u32::MAX };
        assert_eq!(crashes.note(Duration::ZERO, u16::MAX), LONGEST);
    }
}
