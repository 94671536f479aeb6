//! The one place that reads the clock. Everything else is given the time.

use std::future::pending;

use tokio::time::{Instant, sleep_until};

/// Now; in tests with a paused runtime, the paused time.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// [`now`], as what knows no runtime is given it.
#[must_use]
pub fn std_now() -> std::time::Instant {
    now().into_std()
}

/// Waits until `due`; for ever if there is no such time.
///
/// # Cancel safety
///
/// Safe.
pub async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
