//! What `cargo bench` was told, for benches with a harness of their own: they obey a filter as criterion's do.

use std::env;

/// How a bench is to run; of `name`, as criterion would call it: `links/calls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Its whole measurement.
    Measure,
    /// `-- --test`: only whether it runs.
    Smoke,
    /// Others were asked for, or a list.
    Nothing,
}

/// `cargo bench FILTER` starts every bench and leaves it to each what the filter is about.
pub(crate) fn wanted(name: &str) -> Wanted {
    let args: Vec<_> = env::args().skip(1).collect();
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_named = filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    match () {
        () if !is_named || has("--list") => Wanted::Nothing,
        () if has("--test") => Wanted::Smoke,
        () => Wanted::Measure,
    }
}
