//! The bodies of the fuzz targets: what is done with an input, and the promises that must hold for
//! every input.
//!
//! The bodies are compiled twice. In the targets, coverage guides the inputs. The suite runs them
//! with the corpus and with inputs of its own. A panic means a broken promise. [`oracle`] has the
//! promises that several bodies share.

pub(crate) mod oracle;

mod amf0;
mod chunk_stream;
mod command;
mod config;
mod fmp4;
mod handshake;
mod hls;
mod http;
mod media;
mod script;
mod server;
mod session;

/// The body of a target.
pub(crate) type Body = fn(&[u8]);

/// Every target by name. The program and the corpus directory have the same name.
pub(crate) const TARGETS: [(&str, Body); 11] = [
    ("amf0", amf0::run),
    ("chunk_stream", chunk_stream::run),
    ("command", command::run),
    ("config", config::run),
    ("fmp4", fmp4::run),
    ("handshake", handshake::run),
    ("hls", hls::run),
    ("http", http::run),
    ("media", media::run),
    ("server", server::run),
    ("session", session::run),
];
