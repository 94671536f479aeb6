//! See `codecs/src/fuzz/sse.rs`.
#![no_main]

use shadowcat_codecs::fuzz;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::reframe(input));
