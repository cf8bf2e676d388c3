//! See `tests/fuzz/bodies/http.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("http", data));
