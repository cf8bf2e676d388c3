//! The command line: parse, start the logger, run one command, exit code.

mod cli;
mod logging;
mod output;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tiderace::config::Settings;
use tiderace::net;

use crate::cli::{Cli, Command, Exit, Serve};

fn main() -> ExitCode {
    let exit = match Cli::parse().into_command() {
        Command::Serve(args) => serve(&args),
        Command::Check { file } => check(&file),
        Command::Config => print(&Settings::sample()),
        Command::Systemd { unit } => print(unit.text()),
        Command::Load(command) => match command.run() {
            Ok(outcome) => {
                outcome.lines.iter().for_each(|line| say(&format_args!("tiderace: {line}")));
                outcome.verdict.into()
            }
            Err(error) => fail(&error, (&error).into()),
        },
    };
    exit.into()
}

fn serve(args: &Serve) -> Exit {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => return end(&error, (&error).into()),
    };
    logging::start(settings.log_level);
    match net::run(settings, || args.settings()) {
        Ok(()) => Exit::Ok,
        Err(error) => end(&error, (&error).into()),
    }
}

/// Reports why the server does not run, without waiting for a reader: whoever started it waits for
/// its end.
fn end(error: &dyn Display, exit: Exit) -> Exit {
    output::last_words(&format_args!("tiderace: {error}"));
    exit
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
