//! The tests of the whole: one binary, one file for each topic.

mod random;
mod socket;
mod wire;
mod world;

mod cli;
mod readme;
mod replay;
