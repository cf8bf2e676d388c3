//! The command line: parse, start the logger, run one command, exit code.

mod cli;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use log::{Level, LevelFilter};
use simple_logger::SimpleLogger;
use tiderace::config::Settings;
use tiderace::net;

use crate::cli::{Cli, Command, Exit, Serve};

fn main() -> ExitCode {
    let exit = match Cli::parse().into_command() {
        Command::Serve(args) => serve(&args),
        Command::Check { file } => check(&file),
        Command::Config => print(&Settings::sample()),
    };
    exit.into()
}

fn serve(args: &Serve) -> Exit {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error, (&error).into()),
    };
    start_logger(settings.log_level);
    match net::run(settings, || args.settings()) {
        Ok(()) => Exit::Ok,
        Err(error) => fail(&error, (&error).into()),
    }
}

/// The error line of a file is printed bare, so that editors find the place it names.
fn check(file: &Path) -> Exit {
    match cli::check(file) {
        Ok(_) => print(&format!("{}: ok\n", file.display())),
        Err(error) => {
            say(&error);
            (&error).into()
        }
    }
}

/// The log is the output of a server, so it goes to standard output, where journals and pipes take
/// it; standard error is left to the one line that says why the process ends.
///
/// The logger itself lets everything through, since only the level of the `log` crate can be moved
/// by a reload. The poll library stays quiet: its lines are about its own calls.
fn start_logger(level: Level) {
    let logger = SimpleLogger::new()
        .with_level(LevelFilter::Trace)
        .with_module_level("mio", LevelFilter::Warn)
        .with_utc_timestamps();
    if logger.init().is_ok() {
        log::set_max_level(level.to_level_filter());
    }
}

/// Writes to standard output; a reader that left early is no reason to panic.
fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) => fail(&error, Exit::Io),
    }
}

fn fail(error: &dyn Display, exit: Exit) -> Exit {
    say(&format_args!("tiderace: {error}"));
    exit
}

/// Writes a line to standard error. The exit code tells the same where nobody reads it.
fn say(line: &dyn Display) {
    drop(writeln!(io::stderr(), "{line}"));
}
