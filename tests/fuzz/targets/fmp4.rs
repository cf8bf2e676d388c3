//! See `tests/fuzz/bodies/fmp4.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("fmp4", data));
