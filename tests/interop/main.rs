//! The server against real programs, on loopback. The packets that a player receives are compared
//! with those that the publisher sent.
//!
//! The tests run in parallel and take up to twenty seconds each. They need ffmpeg, ffplay,
//! rtmpdump, VLC, mpv, GStreamer with its RTMP and HTTP elements, OBS with Xvfb, strace, Chromium,
//! Playwright, mpegts.js, hls.js, schemathesis and an ffmpeg with Enhanced RTMP. `tests/run`
//! installs them. [`lab`] describes what happens if one of them is missing.

mod lab;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

mod auth;
mod browser;
mod codecs;
mod cost;
mod fmp4_files;
mod hls;
mod load;
mod matrix;
mod names;
mod play;
mod publish;
mod publisher_return;
mod recorded;
mod schemathesis;
mod signals;
mod slow_player;
mod timestamps;
