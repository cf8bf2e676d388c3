//! The program: parses the command line, starts the log, runs one command and returns its exit
//! code.

mod cli;
mod logging;
mod output;
mod settings_file;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tiderace::config::Settings;
use tiderace::net::{self, Signals, StartError};

use crate::cli::{Cli, CliCommand, Exit, Findings, Serve};

fn main() -> ExitCode {
    let signals = cli::runs_server(env::args_os().nth(1).as_deref()).then(Signals::catch);
    let exit = match Cli::parse().into_command() {
        CliCommand::Serve(args) => serve(&args, signals.unwrap_or_else(Signals::catch)),
        CliCommand::Check { file } => check(&file),
        CliCommand::Config => print(&Settings::sample()),
        CliCommand::Systemd { unit } => print(unit.text()),
        #[cfg(feature = "load")]
        CliCommand::Load(command) => match command.run() {
            Ok(outcome) => {
                outcome
                    .lines
                    .iter()
                    .for_each(|line| print_error(&format_args!("tiderace: {line}")));
                outcome.verdict.into()
            }
            Err(error) => fail(&error, (&error).into()),
        },
    };
    exit.into()
}

fn serve(args: &Serve, signals: io::Result<Signals>) -> Exit {
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => return end(&StartError::Io(error), Exit::Io),
    };
    let (draft, source) = match args.read() {
        Ok(read) => read,
        Err(error) => return end(&error, (&error).into()),
    };
    let Ok(settings) = draft.finish() else {
        let Findings { mistakes, exit, .. } = Findings::of(&draft);
        return end_all(mistakes.iter().map(|line| line as &dyn Display), exit);
    };
    logging::start(settings.log_level);
    match net::run(settings, signals, |running| args.read_again(source, running)) {
        Ok(()) => Exit::Ok,
        Err(errors) => {
            let exit = errors.first().map(Exit::from);
            end_all(errors.iter().map(|error| error as &dyn Display), exit)
        }
    }
}

/// Reports the reason why the server does not run, and returns the exit code. It does not wait for
/// a reader of standard error, because the parent waits for the process to end.
fn end(error: &dyn Display, exit: Exit) -> Exit {
    end_all([error].into_iter(), Some(exit))
}

/// Reports several reasons in the same way, and returns the exit code of the first.
fn end_all<'a>(errors: impl Iterator<Item = &'a dyn Display>, exit: Option<Exit>) -> Exit {
    let lines: Vec<_> = errors.map(|error| format!("tiderace: {error}")).collect();
    output::last_words(&lines.join("\n"));
    exit.unwrap_or(Exit::Io)
}

/// Checks a file. Error lines have no prefix, so that editors find the places in them.
fn check(file: &Path) -> Exit {
    match cli::check(file) {
        Ok(Findings { exit: None, in_use, .. }) => {
            for line in in_use {
                print_error(&format_args!("{line}; a running server may be using it"));
            }
            print(&format!("{}: ok\n", file.display()))
        }
        Ok(Findings { exit: Some(exit), mistakes, .. }) => {
            mistakes.iter().for_each(|line| print_error(line));
            exit
        }
        Err(error) => {
            print_error(&error);
            (&error).into()
        }
    }
}

/// Writes to standard output. A reader that has left is an error, not a panic.
fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) => fail(&error, Exit::Io),
    }
}

fn fail(error: &dyn Display, exit: Exit) -> Exit {
    print_error(&format_args!("tiderace: {error}"));
    exit
}

/// Writes a line to standard error. Failures are ignored, because the exit code reports the same.
fn print_error(line: &dyn Display) {
    drop(writeln!(io::stderr(), "{line}"));
}
