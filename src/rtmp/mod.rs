//! The protocol, pure: bytes in, events and bytes out.
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

/// A loop with several threads can move both sides between them, and share the settings.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_sync<T: Sync>() {}
    is_send::<client::Client>();
    is_send::<session::Session>();
    is_send::<session::SessionSettings>();
    is_sync::<session::SessionSettings>();
};
