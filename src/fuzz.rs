//! The bodies of the fuzz targets that drive whole sessions, without I/O: peers that ask, answer, cancel, report
//! and leave in any order, also what they may not, and an oracle that remembers who asked what.
//!
//! They live here so that `cargo test` replays every seed and every past finding on stable; `fuzz/fuzz_targets`
//! only calls them. A body panics when a promise is broken. What frames are made of is fuzzed in
//! `codecs/src/fuzz`.

#![expect(clippy::panic, reason = "that is how a body says that a promise is broken")]
#![expect(clippy::missing_panics_doc, reason = "so it is for every body")]

mod dialed;
mod owned;
mod pair;
mod script;
mod shared;

pub use dialed::session_dialed;
pub use owned::session_owned;
pub use pair::session_pair;
pub use shared::session_shared;
