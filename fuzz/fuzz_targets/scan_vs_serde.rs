//! See `codecs/src/fuzz/envelope.rs`.
#![no_main]

use shadowcat_codecs::fuzz;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::scan_vs_serde(input));
