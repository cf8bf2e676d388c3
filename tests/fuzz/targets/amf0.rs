//! See `tests/fuzz/bodies/amf0.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("amf0", data));
