//! The flags that all measurements share: target, duration, server process and outputs.
//!
//! Owns these flags, their defaults and the files that they name. Flags of a single command are in
//! its own module. Nothing here opens a connection.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::report::{self, LoadReport, ReportError, Threshold};
use super::server_socket::ServerPid;

/// Options of a measurement.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The pid of the server on this machine, or auto for the process that listens on its address.
    /// Its processor time and memory are measured, too.
    #[arg(long, value_name = "PID", value_parser = ServerPid::parse)]
    pub server_pid: Option<ServerPid>,
    /// Measure for this many seconds, once everything is up.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration_s: Duration,
    /// How many seconds a connection may take to reach its stage.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout_s: Duration,
    /// How many milliseconds late the generator may act and read at the 99th percentile. If it is
    /// later, all figures that depend on time are withheld. Without this flag each percentile is
    /// judged by itself, and withheld if the generator's own delay may be more than half of it.
    #[arg(long, value_name = "MS", value_parser = millis)]
    pub lateness_max_ms: Option<Duration>,
    /// Largest share of sessions, players or publishers that may fail. Above it the exit code is
    /// 19.
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = share)]
    pub failed_max_share: f64,
    /// Busy-poll instead of sleeping: the most accurate times, at the cost of a whole core.
    #[arg(long)]
    pub busy: bool,
    /// Show no progress during the run.
    #[arg(long, conflicts_with = "progress")]
    pub quiet: bool,
    /// Show progress even if standard error is not a terminal.
    #[arg(long)]
    pub progress: bool,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub outputs: Outputs,
}

/// Outputs of a report in addition to the terminal.
#[derive(Clone, Debug, Default, Args)]
pub struct Outputs {
    /// A name that identifies the run in reports and comparisons.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Write the report to this file as JSON, for programs and for `tiderace load compare`. With -
    /// it replaces the table on standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write each distribution, second by second, to this file as an HdrHistogram interval log
    /// (.hlog), in microseconds.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Write an HTML page with plots, all figures and the manifest to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with code 15 if this condition holds, such as 'p99_ms>20': a figure of the table, then
    /// >, >=, < or <=, then a number, with or without the unit of the figure. May be repeated.
    #[arg(long, value_name = "THRESHOLD", value_parser = Threshold::of_figure)]
    pub fail_if: Vec<Threshold>,
    /// End the run as soon as a threshold of --fail-if is missed beyond repair: an upper bound on
    /// something that only grows, such as failures, stalls or corrupt frames. With --processes,
    /// each process watches its own share.
    #[arg(long, requires = "fail_if")]
    pub abort_on_fail: bool,
}

impl Options {
    /// Returns the parameters of the manifest that all commands have.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let lateness_max = self
            .lateness_max_ms
            .map(|max| ("lateness-max-ms".to_owned(), (max.as_secs_f64() * 1e3).to_string()));
        let always = [
            ("duration-s".to_owned(), self.duration_s.as_secs_f64().to_string()),
            ("busy".to_owned(), self.busy.to_string()),
        ];
        always.into_iter().chain(lateness_max).collect()
    }

    /// Checks before a run of `command` that its files can be written, and that its report can meet
    /// the thresholds.
    ///
    /// # Errors
    /// [`LoadError::File`], [`LoadError::UnknownFigure`] or [`LoadError::BadThreshold`].
    pub fn check(&self, command: &str) -> Result<(), LoadError> {
        let mut thresholds = self.outputs.fail_if.iter();
        thresholds.try_for_each(|known| known.check(command, self.server_pid.is_some()))?;
        self.outputs.check()
    }

    /// Returns whether progress is shown: by default only if standard error is a terminal.
    pub fn shows_progress(&self) -> bool {
        self.progress || !self.quiet && io::stderr().is_terminal()
    }
}

/// Renders a report as the text of a file.
type Form = fn(&LoadReport) -> Result<String, ReportError>;

/// The file name that stands for standard output.
const STDOUT: &str = "-";

impl Outputs {
    /// Returns the files to write; one of them may be standard output.
    fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.json, &self.hdr, &self.html].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Checks before the measurement that the files can be written. Their contents stay untouched
    /// until the report is there.
    ///
    /// # Errors
    /// [`LoadError::File`].
    pub fn check(&self) -> Result<(), LoadError> {
        check_files(self.files())
    }

    /// Returns whether another output takes the place of the table on standard output.
    fn replaces_table(&self) -> bool {
        self.files().any(|path| path == Path::new(STDOUT))
    }

    /// Writes the table to standard output, then the report to all files. The table comes first so
    /// that a full disk cannot suppress it.
    ///
    /// # Errors
    /// [`LoadError::File`], or [`LoadError::Report`] if the report cannot take a requested form.
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
            write_file(path, &text)?;
        }
        Ok(())
    }
}

/// Checks that the files can be written. One of them may be standard output. A file that did not
/// exist still does not, so that a measurement that fails leaves no empty one.
///
/// # Errors
/// [`LoadError::File`].
pub(super) fn check_files<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<(), LoadError> {
    for path in paths.filter(|path| *path != Path::new(STDOUT)) {
        let existed = path.exists();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        let restored = match opened {
            Ok(_) if !existed => fs::remove_file(path),
            opened => opened.map(drop),
        };
        restored.map_err(|error| LoadError::file(path, error))?;
    }
    Ok(())
}

/// Writes to a file, or to standard output.
///
/// # Errors
/// [`LoadError::File`].
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), LoadError> {
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

/// Parses a number of seconds, more than zero and less than a year. Fractions are allowed.
///
/// # Errors
/// A text that says what was expected.
pub fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR_S: f64 = 365.0 * 86_400.0;
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds < YEAR_S);
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds, such as 10 or 0.5".to_owned())
}

/// Parses a number of milliseconds by the rules of [`seconds`].
///
/// # Errors
/// A text that says what was expected.
pub fn millis(text: &str) -> Result<Duration, String> {
    let millis = text.parse().ok().map(|millis: f64| (millis / 1000.0).to_string());
    let duration = millis.and_then(|text| seconds(&text).ok());
    duration.ok_or_else(|| "expected milliseconds, such as 1 or 0.5".to_owned())
}

/// Parses a rate in events per second, more than zero.
///
/// # Errors
/// A text that says what was expected.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=1e9).contains(rate));
    rate.ok_or_else(|| "expected a number per second, such as 100 or 0.5".to_owned())
}

/// Parses a share of one.
///
/// # Errors
/// A text that says what was expected.
pub fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.05".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_one() {
        assert_eq!((share("0"), share("0.25"), share("1")), (Ok(0.0), Ok(0.25), Ok(1.0)));
        for text in ["-0.1", "1.1", "5%", "nan", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }

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
