//! The shutdown ladder: close stdin → wait → TERM → wait → KILL. Pure; time is an argument.
//!
//! Rule: MCP "stdio", Shutdown: the client closes the server's input, waits for it to exit, and only then
//! sends SIGTERM, and after that SIGKILL.

use std::time::{Duration, Instant};

/// Where a child is on its way out.
#[derive(Debug)]
pub struct Ladder {
    times: Times,
    step: Step,
}

/// How long each step waits for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the end of its input to TERM.
    pub grace: Duration,
    /// From TERM to KILL.
    pub term: Duration,
}

/// What to send to the child's process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nobody wants the child to end.
    Standing,
    /// Its input is closed; TERM at this time.
    Closed(Instant),
    /// TERM was sent; KILL at this time.
    Terminated(Instant),
    /// KILL was sent. There is nothing after that.
    Killed,
}

impl Ladder {
    /// A ladder nobody stands on yet.
    #[must_use]
    pub const fn new(times: Times) -> Self {
        Self { times, step: Step::Standing }
    }

    /// The child's input is closed and it should end. Only the first call counts.
    pub fn start(&mut self, now: Instant) {
        if self.step == Step::Standing {
            self.step = Step::Closed(now + self.times.grace);
        }
    }

    /// Somebody cannot wait: the next step is due now.
    pub fn hurry(&mut self, now: Instant) {
        match &mut self.step {
            Step::Standing => self.step = Step::Closed(now),
            Step::Closed(due) | Step::Terminated(due) => *due = now,
            Step::Killed => {}
        }
    }

    /// Whether the child was asked to end.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.step != Step::Standing
    }

    /// Whether the child was sent a signal.
    #[must_use]
    pub fn has_pushed(&self) -> bool {
        matches!(self.step, Step::Terminated(_) | Step::Killed)
    }

    /// When [`handle_due`](Self::handle_due) is to be called, if ever.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.step {
            Step::Closed(due) | Step::Terminated(due) => Some(due),
            Step::Standing | Step::Killed => None,
        }
    }

    /// It is `now`: takes the next step, if it is due.
    pub fn handle_due(&mut self, now: Instant) -> Option<Push> {
        match self.step {
            Step::Closed(due) if due <= now => {
                self.step = Step::Terminated(now + self.times.term);
                Some(Push::Terminate)
            }
            Step::Terminated(due) if due <= now => {
                self.step = Step::Killed;
                Some(Push::Kill)
            }
            _ => None,
        }
    }
}

impl Default for Times {
    /// 5 s, then 2 s: what the best-behaved servers need to write out their state, doubled.
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), term: Duration::from_secs(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steps_come_in_order_and_when_due() {
        let start = crate::clock::now().into_std();
        let mut ladder = Ladder::new(Times { grace: 5 * SECOND, term: 2 * SECOND });
        assert_eq!((ladder.due(), ladder.handle_due(start)), (None, None));
        ladder.start(start);
        ladder.start(start + SECOND);
        assert_eq!(ladder.due(), Some(start + 5 * SECOND));
        assert_eq!(ladder.handle_due(start + 4 * SECOND), None);
        assert_eq!(ladder.handle_due(start + 6 * SECOND), Some(Push::Terminate));
        assert_eq!(ladder.due(), Some(start + 8 * SECOND));
        assert_eq!(ladder.handle_due(start + 8 * SECOND), Some(Push::Kill));
        assert_eq!((ladder.due(), ladder.handle_due(start + 60 * SECOND)), (None, None));
    }

    #[test]
    fn hurry_makes_the_next_step_due() {
        let start = crate::clock::now().into_std();
        let mut ladder = Ladder::new(Times::default());
        ladder.hurry(start);
        assert_eq!(ladder.handle_due(start), Some(Push::Terminate));
        assert_eq!(ladder.handle_due(start), None);
        ladder.hurry(start);
        assert_eq!(ladder.handle_due(start), Some(Push::Kill));
    }
}
