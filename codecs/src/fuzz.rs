//! The bodies of the fuzz targets. They live here so that `cargo test` replays every seed and every
//! past finding on stable; `fuzz/fuzz_targets` only calls them. A body panics when a law is broken.
