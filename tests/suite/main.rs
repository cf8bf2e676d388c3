//! The tests of the whole: one binary, one file for each topic.

mod cli;
mod readme;
