//! What every measurement can be told: where to, for how long, what to watch, where to write.
//!
//! Owns the flags that all commands share, their defaults, and the files that they name. What a
//! command needs beside them is its own; nothing here opens a connection.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::report::{self, LoadReport, ReportError, Threshold};

/// How a measurement is run.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The pid of the server, on this machine: what it costs is measured as well.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Measure for so many seconds, once everything is up.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration_s: Duration,
    /// How many seconds a connection may take to come to where it is to be.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout_s: Duration,
    /// How many milliseconds late the generator itself may be, 99 times of 100: if it is later,
    /// what depends on time is withheld.
    #[arg(long, value_name = "MS", default_value = "1", value_parser = millis)]
    pub lateness_max_ms: Duration,
    /// Never sleep: the truest times, at the price of a whole core.
    #[arg(long)]
    pub busy: bool,
    /// Show no progress while it runs.
    #[arg(long, conflicts_with = "progress")]
    pub quiet: bool,
    /// Show progress even where standard error is no terminal.
    #[arg(long)]
    pub progress: bool,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub outputs: Outputs,
}

/// Where the report goes beside the terminal.
#[derive(Clone, Debug, Default, Args)]
pub struct Outputs {
    /// A name for the run, to know it again by.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Write the report to this file, for programs and `tiderace load compare`; - is standard
    /// output, in place of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the distributions, second by second, to this file: an interval log (.hlog) of
    /// HdrHistogram, in microseconds.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Write a page with plots, all figures and the manifest to this file, for a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with code 15 if this holds, such as 'p99_ms>20': a figure of the table, then >, >=, <
    /// or <=, then a number; may be repeated.
    #[arg(long, value_name = "THRESHOLD", value_parser = Threshold::of_figure)]
    pub fail_if: Vec<Threshold>,
}

impl Options {
    /// What of the manifest's parameters all commands have.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("duration-s".to_owned(), self.duration_s.as_secs_f64().to_string()),
            ("lateness-max-ms".to_owned(), (self.lateness_max_ms.as_secs_f64() * 1e3).to_string()),
            ("busy".to_owned(), self.busy.to_string()),
        ])
    }

    /// Whether it is said how the run stands: to a person, unless told otherwise.
    pub fn shows_progress(&self) -> bool {
        self.progress || !self.quiet && io::stderr().is_terminal()
    }
}

/// Makes the text of a file of a report.
type Form = fn(&LoadReport) -> Result<String, ReportError>;

/// The file name that stands for standard output.
const STDOUT: &str = "-";

impl Outputs {
    /// The files that are to be written, and what may be standard output.
    fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.json, &self.hdr, &self.html].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Tries whether the files can be written, so that no measurement is made in vain. What stands
    /// in them stays until there is something better.
    ///
    /// # Errors
    /// [`LoadError::File`].
    pub fn check(&self) -> Result<(), LoadError> {
        for path in self.files().filter(|path| *path != Path::new(STDOUT)) {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| LoadError::file(path, error))?;
        }
        Ok(())
    }

    /// Whether something else than the table goes to standard output.
    fn replaces_table(&self) -> bool {
        self.files().any(|path| path == Path::new(STDOUT))
    }

    /// Writes the table to standard output and the report to all these files: what a person reads
    /// comes first, so that a full disk does not take it.
    ///
    /// # Errors
    /// [`LoadError::File`], or [`LoadError::Report`] where the report has no such form.
    pub fn write(&self, report: &LoadReport) -> Result<(), LoadError> {
        let forms: [(_, Form); 3] = [
            (&self.json, LoadReport::to_json),
            (&self.hdr, report::interval_log),
            (&self.html, |report| Ok(report::page(report))),
        ];
        if !self.replaces_table() {
            write_out(&report::table(report))?;
        }
        for (path, form) in forms {
            let Some(path) = path else { continue };
            let file = path.display().to_string();
            let text = form(report).map_err(|error| LoadError::Report { file, error })?;
            write(path, &text)?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), LoadError> {
    if path == Path::new(STDOUT) {
        return write_out(text);
    }
    fs::write(path, text).map_err(|error| LoadError::file(path, error))
}

/// Writes to standard output.
///
/// # Errors
/// [`LoadError::File`].
pub(super) fn write_out(text: &str) -> Result<(), LoadError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| LoadError::file(Path::new("standard output"), error))
}

/// Reads seconds, with a fraction or without, more than none and less than a year.
///
/// # Errors
/// What was expected, where it is something else.
pub fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR_S: f64 = 365.0 * 86_400.0;
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds < YEAR_S);
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds, such as 10 or 0.5".to_owned())
}

/// Reads milliseconds, with a fraction or without, by the rules of [`seconds`].
///
/// # Errors
/// What was expected, where it is something else.
pub fn millis(text: &str) -> Result<Duration, String> {
    let millis = text.parse().ok().map(|millis: f64| (millis / 1000.0).to_string());
    let duration = millis.and_then(|text| seconds(&text).ok());
    duration.ok_or_else(|| "expected milliseconds, such as 1 or 0.5".to_owned())
}

/// Reads a number of events per second, more than none.
///
/// # Errors
/// What was expected, where it is something else.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=1e9).contains(rate));
    rate.ok_or_else(|| "expected a number per second, such as 100 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_rates_are_positive_numbers() {
        assert_eq!(millis("2.5"), Ok(Duration::from_micros(2500)));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(rate("2.5"), Ok(2.5));
        for text in ["0", "-1", "", "x", "nan", "inf", "1e12"] {
            assert!(seconds(text).is_err(), "{text}");
            assert!(millis(text).is_err(), "{text}");
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
