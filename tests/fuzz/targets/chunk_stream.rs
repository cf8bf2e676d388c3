//! See `tests/fuzz/bodies/chunk_stream.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiderace_fuzz::run("chunk_stream", data));
