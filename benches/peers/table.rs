//! Prints medians, ratios and goals as a table.
//!
//! Owns the figures of each round. A ratio compares figures of the same round, so disturbances of
//! the machine affect both sides. The table shows the median of these ratios, not the ratio of the
//! medians.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::lab::Lab;
use crate::peer::Peer;
use crate::workloads::{Figures, Goal, Row, Workload};

/// The figures of a workload, round by round.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) workload: &'static Workload,
    rounds: BTreeMap<u32, Vec<(Peer, Figures)>>,
}

impl Outcome {
    pub(crate) const fn new(workload: &'static Workload) -> Self {
        Self { workload, rounds: BTreeMap::new() }
    }

    /// Records the figures of a server in a round.
    pub(crate) fn note(&mut self, round: u32, peer: Peer, figures: Figures) {
        self.rounds.entry(round).or_default().push((peer, figures));
    }

    /// Returns the figures of a server for a row, for the rounds that have one.
    fn figures(&self, peer: Peer, row: usize) -> BTreeMap<u32, f64> {
        let of_round = |figures: &Vec<(Peer, Figures)>| {
            figures.iter().find(|(known, _)| *known == peer).and_then(|(_, figures)| figures[row])
        };
        let figures = self.rounds.iter().map(|(round, figures)| (*round, of_round(figures)));
        figures.filter_map(|(round, figure)| Some((round, figure?))).collect()
    }

    fn median(&self, peer: Peer, row: usize) -> Option<f64> {
        median(self.figures(peer, row).into_values().collect())
    }

    /// Returns the median ratio of the first server to the reference.
    fn ratio(&self, reference: Peer, row: usize) -> Option<f64> {
        let references = self.figures(reference, row);
        let figures = self.figures(self.workload.peers[0], row);
        let pairs = figures.iter().filter_map(|(round, figure)| {
            references.get(round).filter(|reference| **reference > 0.0).map(|r| figure / r)
        });
        median(pairs.collect())
    }

    fn cells(&self, index: usize, row: &Row) -> [String; CELLS] {
        let subject = self.workload.peers[0];
        let of = |peer: Peer| {
            let takes_part = self.workload.peers.contains(&peer);
            if takes_part { number(self.median(peer, index)) } else { String::new() }
        };
        let ratio = row.reference.and_then(|reference| self.ratio(reference, index));
        let compared = row.reference.map_or_else(String::new, |reference| {
            format!("{} of {}", number(ratio), self.describe(reference, index))
        });
        let (goal, is_reached) = match row.goal {
            Goal::Figure(most) => {
                (number(Some(most)), self.median(subject, index).map(|figure| figure <= most))
            }
            Goal::Ratio(most) => {
                let reference = row.reference.map_or("", Peer::name);
                (format!("{most} of {reference}"), ratio.map(|ratio| ratio <= most))
            }
        };
        let verdict = match is_reached {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "not measured",
        };
        [
            row.title.to_owned(),
            number(self.median(subject, index)),
            of(Peer::Nginx),
            of(Peer::WriteFloor),
            of(Peer::SendfileFloor),
            compared,
            format!("{goal}: {verdict}"),
        ]
    }

    /// Returns the name of a reference, with its median if it has no column.
    fn describe(&self, reference: Peer, index: usize) -> String {
        match reference {
            Peer::Nginx | Peer::WriteFloor | Peer::SendfileFloor => reference.name().to_owned(),
            _ => format!("{}'s {}", reference.name(), number(self.median(reference, index))),
        }
    }
}

const CELLS: usize = 7;
const HEADS: [&str; CELLS] = [
    "work",
    "Tiderace",
    "nginx-rtmp",
    "write floor",
    "sendfile floor",
    "ratio of the rounds",
    "goal, at most",
];

/// Returns the date and the machine of the measurement in one line.
pub(crate) fn head(lab: &Lab, is_markdown: bool) -> String {
    let Some(manifest) = lab.manifest() else { return String::new() };
    let (day, machine) = (manifest.started_utc.get(..10).unwrap_or_default(), manifest.machine);
    // The manifest is that of the load generator, which sees only one core.
    let all_cores = std::thread::available_parallelism().map_or(0, usize::from);
    let place = format!("{}, {all_cores} cores, {}", machine.cpu_model, machine.kernel);
    let cores = format!("the server on core {}, the load on {}", lab.server_core, lab.load_core);
    let blank = if is_markdown { "\n" } else { "" };
    format!("Medians on {day}, {place}; {cores}.\n{blank}")
}

/// Returns the table with its header.
pub(crate) fn rows(outcomes: &[Outcome], is_markdown: bool) -> String {
    let cells = outcomes.iter().flat_map(|outcome| {
        outcome.workload.rows.iter().enumerate().map(|(index, row)| outcome.cells(index, row))
    });
    let lines: Vec<_> = [HEADS.map(str::to_owned)].into_iter().chain(cells).collect();
    if is_markdown { markdown(&lines) } else { plain(&lines) }
}

fn markdown(lines: &[[String; CELLS]]) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(CELLS));
        }
    }
    text
}

fn plain(lines: &[[String; CELLS]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..CELLS).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// Formats a figure with three significant digits, or a dash if it is unknown.
pub(crate) fn number(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(figure) if figure.abs() >= 100.0 => format!("{figure:.0}"),
        Some(figure) if figure.abs() >= 10.0 => format!("{figure:.1}"),
        Some(figure) if figure.abs() >= 1.0 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.3}"),
    }
}

/// Returns the median; of an even number of figures the mean of the middle two.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = figures.get(middle)?;
    let is_even = figures.len().is_multiple_of(2);
    Some(if is_even { f64::midpoint(figures[middle - 1], *upper) } else { *upper })
}
