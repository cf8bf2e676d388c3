//! The chunk layer (RTMP 1.0, section 5.3): reads, assembles and writes messages.

mod header;
mod partial;
pub mod reader;
pub mod writer;
