//! What was refused, where, and why: one line each on stderr.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use super::OnInvalid;

/// Counts and reports refused frames.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    count: u64,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Skip,
    Stop,
}

impl Refusals {
    /// A frame fails the check because of `reason`: reports it, and says what becomes of it.
    #[cold]
    pub(super) fn judge(&mut self, on_invalid: OnInvalid, at: u64, reason: impl Display) -> Verdict {
        match on_invalid {
            OnInvalid::Pass => {
                report(at, &reason, "passed on");
                Verdict::Keep
            }
            OnInvalid::Skip => {
                self.refuse(at, reason);
                Verdict::Skip
            }
            OnInvalid::Stop => {
                self.refuse(at, reason);
                Verdict::Stop
            }
        }
    }

    /// A frame cannot be passed on because of `reason`.
    #[cold]
    pub(super) fn refuse(&mut self, at: u64, reason: impl Display) {
        self.count += 1;
        report(at, &reason, "refused");
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

fn report(at: u64, reason: &dyn Display, what: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "shadowcat: frame at byte {at} {what}: {reason}");
}
