//! The RTMP protocol without I/O: bytes go in, events and bytes come out.
//!
//! No module below opens a socket, reads a clock or draws a random number.
//!
//! [client]: client::Client
//! [session]: session::Session
//! [ping]: session::Session::ping
//! [write_media]: session::Session::write_media
//! [control_bytes_max]: session::SessionSettings::control_bytes_max
//! [take]: link::Output::take
//! [written]: link::Output::written
//! [write_message]: chunk::writer::write_message
// Rustdoc resolves the links of the guide by these definitions, since the first one of a label
// counts. Those at its end are for readers of the file.
#![doc = include_str!("guide.md")]

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

/// A loop with several threads can move both sides between them, and share the settings.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_sync<T: Sync>() {}
    is_send::<client::Client>();
    is_send::<session::Session>();
    is_send::<session::SessionSettings>();
    is_sync::<session::SessionSettings>();
};
