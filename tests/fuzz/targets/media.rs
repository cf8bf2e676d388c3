//! See `tests/fuzz/bodies/media.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("media", data));
