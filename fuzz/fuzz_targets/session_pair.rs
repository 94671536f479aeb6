//! See `src/fuzz/pair.rs`.
#![no_main]

use shadowcat::fuzz;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::session_pair(input));
