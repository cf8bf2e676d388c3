//! The raw results of the last run, `benches/peers/last.json`.
//!
//! Owns the format of the file. Each workload has its own date and machine, so a run of one
//! workload refreshes that part alone. The table is made from this file only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::statistics::{Estimate, Verdict};

/// All workloads that were measured, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) workloads: Vec<Work>,
}

/// The results of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// Name on the command line.
    pub(crate) name: String,
    /// The command of the load generator with its flags.
    pub(crate) load: String,
    pub(crate) place: Place,
    pub(crate) servers: Vec<Setup>,
    pub(crate) rows: Vec<RowResult>,
    pub(crate) rounds: Vec<Round>,
    /// Histograms of all undisturbed rounds, added, by server and name: the V2 format of
    /// HdrHistogram with deflate, in base64, in microseconds.
    pub(crate) histograms: BTreeMap<String, BTreeMap<String, String>>,
}

/// When and where a workload was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The day in UTC.
    pub(crate) day: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) congestion_control: String,
    /// The cores of the server and of the load.
    pub(crate) pinned: (u32, u32),
}

/// A server as it was configured. Variables in braces stand for addresses and files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) label: String,
    pub(crate) command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowResult {
    pub(crate) title: String,
    /// Medians over the undisturbed rounds, or quantiles of the added histograms, by column.
    pub(crate) cells: BTreeMap<String, f64>,
    /// The server that Tiderace is compared with, with its figure if it has no column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    /// The ratio to the reference, or without a reference the figure itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) estimate: Option<Estimate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Verdict>,
}

/// One run on each server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Why the round does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disturbed: Option<String>,
    /// In the order in which they were measured.
    pub(crate) runs: Vec<Run>,
}

/// One run on one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) server: String,
    /// The figures of the report that are not withheld.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Record {
    /// Returns the path of the file.
    pub(crate) fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/last.json")
    }

    /// Reads the file, or returns an empty record if there is none.
    ///
    /// # Errors
    /// The file is not a record.
    pub(crate) fn read() -> Result<Self, serde_json::Error> {
        let text = fs::read_to_string(Self::path());
        text.map_or_else(|_| Ok(Self::default()), |text| serde_json::from_str(&text))
    }

    /// Returns the text of the file: a line for each workload.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        let lines = self.workloads.iter().map(serde_json::to_string);
        let lines: Vec<_> = lines.collect::<Result<_, _>>()?;
        Ok(format!("{{\"workloads\": [\n{}\n]}}\n", lines.join(",\n")))
    }

    /// Replaces the results of a workload, or adds them. `names` is the order of all workloads.
    pub(crate) fn put(&mut self, work: Work, names: &[&str]) {
        self.workloads.retain(|known| known.name != work.name);
        self.workloads.push(work);
        let place = |work: &Work| names.iter().position(|name| *name == work.name);
        self.workloads.sort_by_key(|work| place(work).unwrap_or(usize::MAX));
    }
}

impl Work {
    /// Returns the rounds that count.
    pub(crate) fn clean(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(|round| round.disturbed.is_none())
    }
}

impl Round {
    /// Returns a figure of a server.
    pub(crate) fn figure(&self, server: &str, figure: &str) -> Option<f64> {
        let run = self.runs.iter().find(|run| run.server == server)?;
        run.figures.get(figure).copied()
    }
}
