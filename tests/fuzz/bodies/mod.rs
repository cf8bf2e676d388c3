//! The bodies of the fuzz targets: what is done with an input, and what must hold whatever it is.
//!
//! They are compiled twice: into the targets, where coverage leads the inputs, and into the suite,
//! which runs them over the corpus and over inputs of its own. A panic is a promise that was
//! broken. The promises that several share are in [`oracle`].

pub(crate) mod oracle;

mod amf0;
mod chunk_stream;
mod command;
mod config;
mod handshake;
mod media;
mod script;
mod server;
mod session;

/// What a target does with an input.
pub(crate) type Body = fn(&[u8]);

/// Every target by its name, which is that of its program and of its folder in the corpus.
pub(crate) const TARGETS: [(&str, Body); 8] = [
    ("amf0", amf0::run),
    ("chunk_stream", chunk_stream::run),
    ("command", command::run),
    ("config", config::run),
    ("handshake", handshake::run),
    ("media", media::run),
    ("server", server::run),
    ("session", session::run),
];
