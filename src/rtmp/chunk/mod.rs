//! Messages as chunks (RTMP 1.0, section 5.3): reading, assembly and writing.

mod header;
mod partial;
pub mod reader;
pub mod writer;
