//! The load generator: measures any RTMP server, and says what it found.
//!
//! Owns what a measurement is made of and how it is told. It never uses the server of this project:
//! what is measured is always another process.

pub mod manifest;
pub mod process;
pub mod report;
