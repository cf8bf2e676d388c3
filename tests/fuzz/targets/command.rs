//! See `tests/fuzz/bodies/command.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("command", data));
