//! The command line: parse, start the logger, run one command, exit code.

fn main() {}
