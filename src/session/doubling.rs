//! Waits that double, up to a limit, and leave a part to chance. Pure: chance is an argument.

use std::time::Duration;

/// How long to wait after it was in vain so many `times`: at first `first`, then twice as long with each, up to
/// `longest`. Half of it is left to `chance`, so that those who failed together do not all come back together.
pub(super) fn doubled(first: Duration, times: u32, longest: Duration, chance: u16) -> Duration {
    let most = first.saturating_mul(2_u32.saturating_pow(times)).min(longest);
    most / 2 + most / 2 * u32::from(chance) / u32::from(u16::MAX)
}
