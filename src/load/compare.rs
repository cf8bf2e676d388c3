//! `load compare`: compares two sides, each of which is one or more reports of the same command.
//!
//! Owns the flags, reading the reports, and the refusal of runs that cannot be compared. It
//! measures nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::LoadError;
use super::options::{check_files, write_file, write_out};
use super::report::{
    ComparedRun, Comparison, JudgedThreshold, LoadReport, Threshold, comparison_page,
};
use super::subcommand::{Judgement, LoadVerdict};
use crate::limits::LOAD_COMPARED_RUNS_MAX;
use crate::text::Escaped;

/// Options of `load compare`.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// The reports to compare with, as written by --json. Without --with, the second of two reports
    /// is the one to judge.
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// The reports to judge. Several runs a side show what is noise: at least four to judge a
    /// threshold, and about seven to find a single figure, taking turns with those of the other
    /// side.
    #[arg(long, value_name = "REPORT", num_args = 1..)]
    pub with: Vec<PathBuf>,
    /// Compare the reports even if their conditions differ, and list the differences.
    #[arg(long)]
    pub anyway: bool,
    /// Write the comparison to this file as JSON. With - it replaces the table on standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an HTML page with the table and with the plots of both sides to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with code 15 if this condition holds for the figure of the second side divided by that
    /// of the first, such as 'p99_ms>1.1x', and the difference is not within the noise of this
    /// figure. May be repeated.
    #[arg(long, value_name = "THRESHOLD", value_parser = Threshold::of_ratio)]
    pub fail_if: Vec<Threshold>,
}

impl Compare {
    /// Writes the comparison to the requested outputs, or returns why there is none.
    ///
    /// # Errors
    /// A file is not a report, there are too many, or a threshold names an unknown figure.
    pub fn run(&self) -> Result<Judgement, LoadError> {
        let [first, second] = self.sides()?;
        let outputs = [&self.json, &self.html];
        check_files(outputs.into_iter().flatten().map(PathBuf::as_path))?;
        let comparison = Comparison::new([read(first)?, read(second)?]);
        if let (ours, Some(theirs)) = comparison.commands() {
            let [ours, theirs] = [ours, theirs].map(|command| Escaped(command.as_bytes()));
            let line =
                format!("a run of load {ours} and a run of load {theirs} cannot be compared");
            return Ok(Judgement { verdict: LoadVerdict::Incomparable, lines: vec![line] });
        }
        let mut differences = comparison.differences();
        if !differences.is_empty() && !self.anyway {
            differences.push("the conditions differ; --anyway compares nevertheless".to_owned());
            return Ok(Judgement { verdict: LoadVerdict::Incomparable, lines: differences });
        }
        let judged = self.fail_if.iter().map(|threshold| comparison.judge(threshold));
        let judged = judged.collect::<Result<Vec<_>, _>>()?;
        self.write(&comparison, &judged)?;
        Ok(Judgement::of(&judged, &[]))
    }

    /// Returns the files of the two sides.
    fn sides(&self) -> Result<[&[PathBuf]; 2], LoadError> {
        let sides = match self.reports.as_slice() {
            [first, second] if self.with.is_empty() => [first, second].map(std::slice::from_ref),
            reports => [reports, &self.with],
        };
        sides.iter().try_for_each(|side| check_runs(side))?;
        let is_valid = |side: &&[PathBuf]| (1..=LOAD_COMPARED_RUNS_MAX).contains(&side.len());
        match sides.iter().all(is_valid) {
            true => Ok(sides),
            false => Err(LoadError::ComparedRuns { runs: sides.map(<[_]>::len) }),
        }
    }

    fn write(&self, comparison: &Comparison, judged: &[JudgedThreshold]) -> Result<(), LoadError> {
        let stdout = Some(Path::new("-"));
        if [&self.json, &self.html].iter().all(|path| path.as_deref() != stdout) {
            write_out(&comparison.text())?;
        }
        if let Some(path) = &self.json {
            let file = path.display().to_string();
            let text = comparison.to_json(judged);
            let text = text.map_err(|error| LoadError::Report { file, error })?;
            write_file(path, &text)?;
        }
        let page = || comparison_page(comparison, judged);
        self.html.as_ref().map_or(Ok(()), |path| write_file(path, &page()))
    }
}

/// Checks that a side has no report twice, which would look like runs that agree.
fn check_runs(side: &[PathBuf]) -> Result<(), LoadError> {
    let real = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let mut known = BTreeSet::new();
    let again = side.iter().find(|path| !known.insert(real(path)));
    again.map_or(Ok(()), |path| Err(LoadError::ComparedTwice { file: path.display().to_string() }))
}

fn read(paths: &[PathBuf]) -> Result<Vec<ComparedRun>, LoadError> {
    let run = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|error| LoadError::file(path, error))?;
        let name = path.display().to_string();
        match LoadReport::from_json(&text) {
            Ok(report) => Ok(ComparedRun { name, report }),
            Err(error) => Err(LoadError::Report { file: name, error }),
        }
    };
    paths.iter().map(run).collect()
}
