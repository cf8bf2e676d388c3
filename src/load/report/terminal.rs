//! The table of a report for the terminal.
//!
//! Owns its order and wording. Figures have the same names as in a threshold.

use super::distribution::Distribution;
use super::layout::{Grid, Notes, harmless, wrapped};
use super::metric::QUANTILES;
use super::model::{Figure, LoadReport, Series};
use super::quantity::number;
use super::step_table;
use crate::load::manifest::Manifest;
use crate::load::process::Identity;

/// Returns the report as plain text of at most 100 columns.
pub fn table(report: &LoadReport) -> String {
    let mut notes = Notes::default();
    let mut text = head(report);
    for block in [
        step_table::text(&report.steps),
        figures(report, &mut notes),
        distributions(&report.distributions, &mut notes),
        series(&report.series),
    ] {
        if !block.is_empty() {
            text += &format!("\n{block}");
        }
    }
    text += &notes.text();
    if !report.thresholds.is_empty() {
        text += "\nthresholds\n";
        for judged in &report.thresholds {
            let mark = if judged.is_met() { "  met     " } else { "  missed  " };
            text += &wrapped(mark, &harmless(&judged.line));
        }
    }
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

/// Orders figures by what they describe.
pub(super) fn ordered(figures: &[Figure]) -> Vec<&Figure> {
    let mut ordered: Vec<_> = figures.iter().collect();
    ordered.sort_by_key(|figure| figure.group());
    ordered
}

fn figures(report: &LoadReport, notes: &mut Notes) -> String {
    let mut grid = Grid::default();
    for figure in ordered(&report.figures).into_iter().filter(|known| !report.is_idle_core(known)) {
        grid.push([harmless(&figure.name), shown(figure, notes)]);
    }
    if grid.is_empty() { String::new() } else { grid.text(["figures"]) }
}

/// Formats the value of a figure, or the reference to the reason why it is withheld.
pub(super) fn shown(figure: &Figure, notes: &mut Notes) -> String {
    match figure.value {
        Some(value) => figure.unit().text(value),
        None => notes.withheld(figure.withheld.as_deref().unwrap_or_default()),
    }
}

fn distributions(distributions: &[Distribution], notes: &mut Notes) -> String {
    let mut grid = Grid::default();
    for distribution in distributions {
        let name = harmless(distribution.name());
        let figures: Vec<_> = distribution.figures().collect();
        if figures.iter().all(|figure| figure.value.is_none()) {
            grid.push([name, shown(&figures[0], notes)]);
            continue;
        }
        let cell =
            |figure: &Figure| figure.value.map_or_else(|| shown(figure, notes), milliseconds);
        let cells: Vec<_> = figures.iter().map(cell).collect();
        let count = number(distribution.histogram().len() as f64);
        grid.push([name].into_iter().chain(cells).chain([count]));
    }
    if grid.is_empty() {
        return String::new();
    }
    let quantiles = QUANTILES.iter().map(|quantile| quantile.heading);
    grid.text(["times in ms"].into_iter().chain(quantiles).chain(["count"]))
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
        let values = [first, mean, max, last].map(|value| series.unit.text(value));
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
        let (first, last) = (values().next()?, values().next_back()?);
        Some(Self {
            first,
            mean: mean_over_time(series).unwrap_or(first),
            max: values().fold(f64::NEG_INFINITY, f64::max),
            last,
        })
    }
}

/// Returns the mean by time, because points are not equally far apart. A rate holds since the point
/// before it, and the first one since the start. A state changes evenly between two points.
fn mean_over_time(series: &Series) -> Option<f64> {
    let is_rate = series.unit.is_rate();
    let start = if is_rate { Some((0.0, 0.0)) } else { None };
    let points = || start.iter().chain(&series.points);
    let (mut area, mut length_s) = (0.0, 0.0);
    for ((from_s, from), (to_s, to)) in points().zip(points().skip(1)) {
        let height = if is_rate { *to } else { f64::midpoint(*from, *to) };
        area += (to_s - from_s) * height;
        length_s += to_s - from_s;
    }
    (length_s > 0.0).then(|| area / length_s)
}

#[cfg(test)]
mod tests {
    use super::super::{sample, threshold::Threshold};
    use super::*;
    use crate::load::report::layout::COLUMNS;

    #[test]
    fn the_mean_of_a_series_is_weighted_by_time() {
        let mean = |name: &str, points: &[(f64, f64)]| {
            let mut series = Series::new(name);
            points.iter().for_each(|(at_s, value)| series.push(*at_s, *value));
            SeriesSummary::of(&series).map(|summary| summary.mean)
        };
        // A rate of 10 for a second, then of 40 for two.
        assert_eq!(mean("server_cpu", &[(1.0, 10.0), (3.0, 40.0)]), Some(30.0));
        // A sliver of a second counts as little as it lasted.
        let sliver = mean("server_cpu", &[(1.0, 10.0), (1.01, 1000.0)]).unwrap();
        assert!((sliver - 20.0 / 1.01).abs() < 1e-9, "{sliver}");
        // Memory that grows for two seconds, then stays for two.
        let resident = [(0.0, 0.0), (2.0, 100.0), (4.0, 100.0)];
        assert_eq!(mean("server_resident", &resident), Some(75.0));
        assert_eq!(mean("server_resident", &[(3.0, 7.0)]), Some(7.0));
        assert_eq!(mean("server_resident", &[]), None);
    }

    #[test]
    fn table_of_a_report_has_this_form() {
        let mut report = sample::report();
        report.thresholds = ["frames_lost>2", "players_failed_reset>0"]
            .map(|text| Threshold::of_figure(text).unwrap().judge(&report).unwrap())
            .into();
        let text = table(&report);
        println!("{text}");
        assert_eq!(text, include_str!("sample.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }
}
