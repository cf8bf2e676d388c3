//! The RTMP protocol without I/O: bytes go in, events and bytes come out.
//!
//! No module below opens a socket, reads a clock or draws a random number.

pub mod auth;
pub mod chunk;
pub mod client;
pub mod command;
mod dialogue;
pub mod handshake;
pub mod link;
pub mod message;
pub mod name;
pub mod quirks;
pub mod session;
