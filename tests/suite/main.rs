//! The tests of the whole: one binary, one file for each topic.

mod random;
mod socket;
mod wire;
mod world;

mod amf;
mod chunks;
mod cli;
mod commands;
mod control;
mod data;
mod handshake;
mod readme;
mod replay;
mod timers;
