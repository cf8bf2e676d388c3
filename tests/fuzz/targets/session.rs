//! See `tests/fuzz/bodies/session.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("session", data));
