//! See `tests/fuzz/bodies/handshake.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("handshake", data));
