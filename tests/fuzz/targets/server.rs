//! See `tests/fuzz/bodies/server.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("server", data));
