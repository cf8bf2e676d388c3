//! `load compare`: two reports of the same command side by side.
//!
//! Owns what is read and what is refused. It measures nothing.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::LoadError;
use super::options::write_out;
use super::report::{Comparison, LoadReport, Threshold};
use super::subcommand::{Judgement, Verdict};
use crate::text::Escaped;

/// What is compared.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// The run that is compared with, as --json wrote it.
    pub first: PathBuf,
    /// The run that is judged.
    pub second: PathBuf,
    /// Compare them although their conditions differ, and list what does.
    #[arg(long)]
    pub anyway: bool,
    /// Exit with code 15 if this holds of the second run's figure divided by the first's, such as
    /// 'p99_ms>1.1x'; may be repeated.
    #[arg(long, value_name = "THRESHOLD", value_parser = Threshold::of_ratio)]
    pub fail_if: Vec<Threshold>,
}

impl Compare {
    /// Prints the comparison, unless there can be none.
    ///
    /// # Errors
    /// A file is no report, or a threshold names no figure.
    pub fn run(&self) -> Result<Judgement, LoadError> {
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        let comparison = Comparison::new(&first, &second);
        if let Some((ours, theirs)) = comparison.commands() {
            let [ours, theirs] = [ours, theirs].map(|command| Escaped(command.as_bytes()));
            let line =
                format!("a run of load {ours} and one of load {theirs} have nothing to compare");
            return Ok(Judgement { verdict: Verdict::Incomparable, lines: vec![line] });
        }
        let mut differences = comparison.differences();
        if !differences.is_empty() && !self.anyway {
            differences.push("these runs do not compare; --anyway does it all the same".to_owned());
            return Ok(Judgement { verdict: Verdict::Incomparable, lines: differences });
        }
        write_out(&comparison.text())?;
        Judgement::of(&self.fail_if, None, |threshold| threshold.judge_ratio(&first, &second))
    }
}

fn read(path: &Path) -> Result<LoadReport, LoadError> {
    let text = fs::read_to_string(path).map_err(|error| LoadError::file(path, error))?;
    LoadReport::from_json(&text)
        .map_err(|error| LoadError::Report { file: path.display().to_string(), error })
}
