//! `load compare`: compares two reports of the same command.
//!
//! Owns reading the two reports and the refusal of pairs that cannot be compared. It measures
//! nothing.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::LoadError;
use super::options::write_out;
use super::report::{Comparison, LoadReport, Threshold};
use super::subcommand::{Judgement, LoadVerdict};
use crate::text::Escaped;

/// Options of `load compare`.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// The report to compare with, as written by --json.
    pub first: PathBuf,
    /// The report to judge.
    pub second: PathBuf,
    /// Compare the reports even if their conditions differ, and list the differences.
    #[arg(long)]
    pub anyway: bool,
    /// Exit with code 15 if this condition holds for the figure of the second run divided by that
    /// of the first, such as 'p99_ms>1.1x'. May be repeated.
    #[arg(long, value_name = "THRESHOLD", value_parser = Threshold::of_ratio)]
    pub fail_if: Vec<Threshold>,
}

impl Compare {
    /// Prints the comparison, or returns why there is none.
    ///
    /// # Errors
    /// A file is not a report, or a threshold names an unknown figure.
    pub fn run(&self) -> Result<Judgement, LoadError> {
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        let comparison = Comparison::new(&first, &second);
        if let Some((ours, theirs)) = comparison.commands() {
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
        write_out(&comparison.text())?;
        let judged = self.fail_if.iter().map(|threshold| threshold.judge_ratio(&first, &second));
        Ok(Judgement::of(&judged.collect::<Result<Vec<_>, _>>()?, None))
    }
}

fn read(path: &Path) -> Result<LoadReport, LoadError> {
    let text = fs::read_to_string(path).map_err(|error| LoadError::file(path, error))?;
    LoadReport::from_json(&text)
        .map_err(|error| LoadError::Report { file: path.display().to_string(), error })
}
