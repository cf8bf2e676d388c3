//! The table of a report for the terminal.
//!
//! Owns its order and wording. Figures have the same names as in a threshold.

use super::distribution::Distribution;
use super::layout::{Grid, Notes, harmless, wrapped};
use super::model::{Figure, LoadReport, Series};
use super::quantity::{Quantity, number};
use crate::load::manifest::Manifest;
use crate::load::process::Identity;

/// Returns the report as plain text of at most 100 columns.
pub fn table(report: &LoadReport) -> String {
    let mut notes = Notes::default();
    let mut text = head(report);
    for block in [
        figures(&report.figures, &mut notes),
        distributions(&report.distributions, &mut notes),
        series(&report.series),
    ] {
        if !block.is_empty() {
            text += &format!("\n{block}");
        }
    }
    text += &notes.text();
    if !report.doubts.is_empty() {
        text += "\ndoubts\n";
        text.extend(report.doubts.iter().map(|doubt| wrapped("  - ", &harmless(doubt))));
    }
    text
}

fn head(report: &LoadReport) -> String {
    let manifest = &report.manifest;
    let mut text = format!(
        "tiderace load {} {}: {} s from {}\n",
        harmless(&report.command),
        harmless(&manifest.target),
        number(manifest.duration_s),
        harmless(&manifest.started_utc)
    );
    if let Some(label) = &manifest.label {
        text += &wrapped("label: ", &harmless(label));
    }
    text += &wrapped("with: ", &harmless(&flags(manifest)));
    if let Some(server) = &manifest.server {
        text += &wrapped("server: ", &harmless(&identity(server)));
    }
    for (name, finding) in &report.findings {
        text += &wrapped(&format!("{}: ", harmless(name)), &harmless(finding));
    }
    text
}

/// Returns the flags of the command as typed on a command line. Flags that are off are left out.
pub(super) fn flags(manifest: &Manifest) -> String {
    let given = manifest.parameters.iter().filter(|(_, value)| *value != "false");
    let flags = given.map(|(name, value)| match value.as_str() {
        "true" => format!("--{name}"),
        value => format!("--{name} {value}"),
    });
    flags.collect::<Vec<_>>().join(" ")
}

/// Returns the name of the server and enough of its digest to tell builds apart.
pub(super) fn identity(server: &Identity) -> String {
    const DIGITS: usize = 12;
    let digest = server.sha256.as_deref().and_then(|digest| digest.get(..DIGITS));
    match digest {
        Some(digest) => format!("{} (sha256 {digest})", server.name),
        None => server.name.clone(),
    }
}

/// Orders figures by importance: results of the command, cost of the server, the generator, and
/// failures.
pub(super) fn ordered(figures: &[Figure]) -> Vec<&Figure> {
    let group = |figure: &&Figure| {
        let groups = ["server_", "machine_", "generator_", "failed_"];
        groups.iter().position(|prefix| figure.name.starts_with(prefix)).map_or(0, |at| at + 1)
    };
    let mut ordered: Vec<_> = figures.iter().collect();
    ordered.sort_by_key(group);
    ordered
}

fn figures(figures: &[Figure], notes: &mut Notes) -> String {
    let mut grid = Grid::default();
    for figure in ordered(figures) {
        grid.push([harmless(&figure.name), shown(figure, notes)]);
    }
    if grid.is_empty() { String::new() } else { grid.text(["figures"]) }
}

/// Formats the value of a figure, or the reference to the reason why it is withheld.
pub(super) fn shown(figure: &Figure, notes: &mut Notes) -> String {
    match figure.value {
        Some(value) => Quantity::of_figure(&figure.name).text(value),
        None => notes.withheld(figure.withheld.as_deref().unwrap_or_default()),
    }
}

fn distributions(distributions: &[Distribution], notes: &mut Notes) -> String {
    let mut grid = Grid::default();
    for distribution in distributions {
        let name = harmless(distribution.name());
        let figures: Vec<_> = distribution.figures().collect();
        let values: Option<Vec<_>> = figures.iter().map(|figure| figure.value).collect();
        match values {
            Some(values) => {
                let percentiles = values.into_iter().map(milliseconds);
                let count = number(distribution.histogram().len() as f64);
                grid.push([name].into_iter().chain(percentiles).chain([count]));
            }
            None => grid.push([name, shown(&figures[0], notes)]),
        }
    }
    let heading = ["times in ms", "p50", "p90", "p99", "p99.9", "max", "count"];
    if grid.is_empty() { String::new() } else { grid.text(heading) }
}

/// Formats milliseconds with the precision of the histograms, and at most to the microsecond.
pub(super) fn milliseconds(value: f64) -> String {
    let decimals = match value {
        1_000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn series(series: &[Series]) -> String {
    let mut grid = Grid::default();
    for series in series {
        let Some(SeriesSummary { first, mean, max, last }) = SeriesSummary::of(series) else {
            continue;
        };
        let quantity = Quantity::of_series(&series.unit);
        let values = [first, mean, max, last].map(|value| quantity.text(value));
        grid.push([harmless(&series.name)].into_iter().chain(values));
    }
    let heading = ["over time", "first", "mean", "max", "last"];
    if grid.is_empty() { String::new() } else { grid.text(heading) }
}

/// Summary of a series in four numbers.
#[derive(Debug)]
pub(super) struct SeriesSummary {
    pub(super) first: f64,
    pub(super) mean: f64,
    pub(super) max: f64,
    pub(super) last: f64,
}

impl SeriesSummary {
    /// Returns the summary, or `None` for a series without points.
    pub(super) fn of(series: &Series) -> Option<Self> {
        let values = || series.points.iter().map(|(_, value)| *value);
        Some(Self {
            first: values().next()?,
            mean: values().sum::<f64>() / series.points.len() as f64,
            max: values().fold(f64::NEG_INFINITY, f64::max),
            last: values().next_back()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::load::report::layout::COLUMNS;

    #[test]
    fn table_of_a_report_has_this_form() {
        let text = table(&sample::report());
        println!("{text}");
        assert_eq!(text, include_str!("sample.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }
}
