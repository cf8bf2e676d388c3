//! The tests of the whole: one binary, one file for each topic.

mod random;
mod socket;
mod wire;
mod world;

mod chunks;
mod cli;
mod control;
mod handshake;
mod readme;
mod replay;
mod timers;
