//! See `tests/fuzz/bodies/hls.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("hls", data));
