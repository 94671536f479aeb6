//! The one place that reads the clock. Everything else is given the time.

use tokio::time::Instant;

/// Now; in tests with a paused runtime, the paused time.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
