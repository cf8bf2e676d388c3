//! Tiderace: a live RTMP server that runs on one core.

#![forbid(unsafe_code)]

pub mod amf0;
pub mod config;
pub mod limits;
pub mod media;
pub mod metadata;
pub mod net;
pub mod rtmp;
pub mod server;
pub mod text;
pub mod time;

#[cfg(test)]
mod test_support;
