//! What every measurement can be told: where to, for how long, what to watch, where to write.
//!
//! Owns the flags that all commands share and their defaults. What a command needs beside them is
//! its own; nothing here opens a connection or a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

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
    /// Never sleep: the truest times, at the price of a whole core.
    #[arg(long)]
    pub busy: bool,
    /// Show no progress while it runs.
    #[arg(long)]
    pub quiet: bool,
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
}

impl Options {
    /// What of the manifest's parameters all commands have.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("duration-s".to_owned(), self.duration_s.as_secs_f64().to_string()),
            ("busy".to_owned(), self.busy.to_string()),
        ])
    }
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
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(rate("2.5"), Ok(2.5));
        for text in ["0", "-1", "", "x", "nan", "inf", "1e12"] {
            assert!(seconds(text).is_err(), "{text}");
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
