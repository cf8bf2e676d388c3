//! What can be asked of the load generator, and what becomes of the answer.
//!
//! Owns the list of commands and where a report is written. What is measured, each command knows
//! by itself.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::Subcommand;

use super::LoadError;
use super::idle::Idle;
use super::options::Outputs;
use super::report::Report;

/// A command of `tiderace load`.
#[derive(Clone, Debug, Subcommand)]
pub enum LoadCommand {
    /// Open many sessions, bring each to a stage, and hold them.
    Idle(Idle),
}

impl LoadCommand {
    /// Measures, and writes the report to where it was asked for.
    ///
    /// # Errors
    /// Why there is no measurement, or no report of it.
    pub fn run(&self) -> Result<(), LoadError> {
        match self {
            Self::Idle(idle) => deliver(&idle.measure()?, &idle.options.outputs),
        }
    }
}

fn deliver(report: &Report, outputs: &Outputs) -> Result<(), LoadError> {
    if let Some(path) = &outputs.json {
        let file = path.display().to_string();
        let text = report.to_json().map_err(|error| LoadError::Report { file, error })?;
        write(path, &text)?;
    }
    Ok(())
}

/// Writes a file, or to standard output where it is called `-`.
fn write(path: &Path, text: &str) -> Result<(), LoadError> {
    let written = if path == Path::new("-") {
        io::stdout().lock().write_all(text.as_bytes())
    } else {
        fs::write(path, text)
    };
    written.map_err(|error| LoadError::File { file: path.display().to_string(), error })
}
