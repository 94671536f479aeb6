//! What `-V` and `--version` say; `build.rs` found it out.

/// For `-V`, and for the title of the manual.
pub(crate) const SHORT: &str = env!("CARGO_PKG_VERSION");

/// For `--version`, and for reports of faults.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:  ",
    env!("SHADOWCAT_BUILD_COMMIT"),
    "\nrustc:   ",
    env!("SHADOWCAT_BUILD_RUSTC"),
    "\ntarget:  ",
    env!("SHADOWCAT_BUILD_TARGET"),
    "\nprofile: ",
    env!("SHADOWCAT_BUILD_PROFILE"),
);
