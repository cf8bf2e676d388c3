//! The page of a comparison: the table, and the plots of both sides laid over each other.
//!
//! Owns the contents of the page. Each run is a thin line, and the runs of a side together a thick
//! one: their histograms are added, never averaged.

use std::fmt::Write;

use super::comparison::{ComparedRow, ComparedRun, Comparison, Spread};
use super::comparison_text::{SIDES, described, ratio_and_interval, spread_text};
use super::distribution::Distribution;
use super::metric::MetricGroup;
use super::model::Series;
use super::page_parts::{Html, document, figure, legend_of, warning};
use super::plot::{Axis, HALF, Line, Plot, PlotSize, WIDE};
use super::plot_points::{self, Moment};
use super::threshold::JudgedThreshold;

/// CSS classes of the sides, for all runs together and for each.
const CLASSES: [[&str; 2]; 2] = [["side-a", "side-a run"], ["side-b", "side-b run"]];

/// Returns the page, with the judged thresholds.
pub fn comparison_page(comparison: &Comparison, thresholds: &[JudgedThreshold]) -> String {
    let title = format!("tiderace load {}, compared", comparison.commands().0);
    let mut text = format!("<h1>{}</h1>\n", Html(&title));
    for (name, side) in SIDES.iter().zip(&comparison.sides) {
        for run in side {
            let _ = writeln!(text, "<p><b>{name}</b> {}</p>", Html(&described(run)));
        }
    }
    let class = if comparison.can_tell() { "open" } else { "bad" };
    text += &judgement(thresholds);
    let method = comparison.method();
    let _ = writeln!(text, "<section class=\"verdict {class}\">{}</section>", Html(&method));
    let differences = comparison.differences();
    let lines = differences.iter().map(String::as_str);
    text += &warning("The conditions of these runs differ", lines);
    for (index, name) in SIDES.iter().enumerate() {
        text += &warning(&format!("Doubts about {name}"), comparison.doubts(index));
    }
    text += &tables(&comparison.rows);
    text += &durations(comparison);
    text += &all_series(comparison);
    document(&title, &text)
}

/// Says which thresholds were missed, with one line for each threshold.
fn judgement(thresholds: &[JudgedThreshold]) -> String {
    if thresholds.is_empty() {
        return String::new();
    }
    let missed = thresholds.iter().filter(|judged| !judged.is_met()).count();
    let class = if missed == 0 { "good" } else { "bad" };
    let all = thresholds.len();
    let mut text = format!(
        "<section class=\"verdict {class}\">\n<b>{missed} of {all} thresholds were missed.</b>\n\
         <ul>\n"
    );
    for judged in thresholds {
        let mark = if judged.is_met() { "met" } else { "missed" };
        let _ = writeln!(text, "<li>{mark}: {}</li>", Html(&judged.line));
    }
    text + "</ul>\n</section>\n"
}

fn tables(rows: &[ComparedRow]) -> String {
    let is_own = |row: &&ComparedRow| row.group == MetricGroup::Generator;
    let others = rows.iter().filter(|row| !is_own(row)).map(table_row).collect::<String>();
    let own = rows.iter().filter(is_own).map(table_row).collect::<String>();
    let mut text = String::new();
    for (heading, rows) in [("Figures", others), ("The generator, not the server", own)] {
        if !rows.is_empty() {
            let _ = write!(
                text,
                "<h2>{heading}</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>figure</th>\
                 <th>B is</th><th>B/A</th><th>interval</th><th>A</th><th>B</th></tr></thead>\n\
                 <tbody>\n{rows}</tbody>\n</table></div>\n"
            );
        }
    }
    text
}

/// Returns a row, with the outcome first: a narrow window does not show the last columns.
fn table_row(row: &ComparedRow) -> String {
    let [ratio, interval] = ratio_and_interval(row);
    let outcome = row.outcome.text();
    let class = if outcome.contains(' ') { "way" } else { outcome };
    let mut text = format!(
        "<tr><td><code>{}</code></td><td class=\"{class}\">{outcome}</td><td>{ratio}</td>\
         <td>{interval}</td>",
        Html(&row.name)
    );
    for spread in [&row.first, &row.second] {
        let _ = write!(text, "<td title=\"{}\">{}</td>", values(row, spread), cell(row, spread));
    }
    text + "</tr>\n"
}

fn cell(row: &ComparedRow, spread: &Spread) -> String {
    let withheld = if spread.withheld.is_some() { "withheld" } else { "-" };
    spread_text(row, spread).unwrap_or_else(|| withheld.to_owned())
}

/// Returns all values of a side, or why there are none.
fn values(row: &ComparedRow, spread: &Spread) -> String {
    let values: Vec<_> = spread.values.iter().map(|value| row.unit.text(*value)).collect();
    let reason = spread.withheld.as_deref().unwrap_or_default();
    Html(&if values.is_empty() { reason.to_owned() } else { values.join(", ") }).to_string()
}

/// A distribution in the runs of one side, and all of them added.
struct SideOf {
    added: Distribution,
    runs: Vec<Distribution>,
}

impl SideOf {
    fn new(side: &[ComparedRun], name: &str) -> Option<Self> {
        let named = side.iter().flat_map(|run| &run.report.distributions);
        let runs: Vec<_> =
            named.filter(|known| known.name() == name && !known.is_empty()).cloned().collect();
        let mut others = runs.iter().cloned();
        let mut added = others.next()?;
        // All histograms have the same precision, so adding them cannot fail.
        others.try_for_each(|other| added.merge(other)).ok()?;
        Some(Self { added, runs })
    }
}

fn durations(comparison: &Comparison) -> String {
    let mut names: Vec<&str> = Vec::new();
    for known in comparison.runs().flat_map(|run| &run.report.distributions) {
        if known.group() != MetricGroup::Generator && !names.contains(&known.name()) {
            names.push(known.name());
        }
    }
    let mut text = String::new();
    for (index, name) in names.into_iter().enumerate() {
        let sides = comparison.sides.each_ref().map(|side| SideOf::new(side, name));
        let [Some(first), Some(second)] = sides else { continue };
        let size = if index == 0 { WIDE } else { HALF };
        let sides = [first, second];
        let plots = [by_percentile(name, &sides, size), by_time(name, &sides, size)];
        let _ = writeln!(text, "<h2>{}</h2>", Html(name));
        text += &if index == 0 {
            plots.concat()
        } else {
            format!("<div class=\"pair\">\n{}</div>\n", plots.concat())
        };
    }
    text
}

fn by_percentile(name: &str, sides: &[SideOf; 2], size: PlotSize) -> String {
    let mut lines = Vec::new();
    for (side, [all, one]) in sides.iter().zip(CLASSES) {
        let runs = side.runs.iter().filter(|_| side.runs.len() > 1);
        lines.extend(runs.map(|run| (one, plot_points::curve(run))));
        lines.push((all, plot_points::curve(&side.added)));
    }
    let points = || lines.iter().flat_map(|(_, curve)| curve);
    let end = points().map(|(decades, _)| *decades).fold(0.0, f64::max);
    let low = points().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, ms)| *ms).fold(0.0, f64::max);
    let curves = sides.each_ref().map(|side| plot_points::curve(&side.added));
    let named = SIDES.iter().zip(&curves).map(|(name, curve)| (*name, curve.as_slice()));
    let plot = Plot {
        size,
        title: format!("{name} by percentile, A and B"),
        x: Axis::percentiles(end),
        y: Axis::milliseconds(low, high),
        tips: plot_points::curve_tips(named, end),
        lines: lines
            .into_iter()
            .map(|(class, curve)| Line { class, pieces: vec![curve] })
            .collect(),
    };
    figure("by percentile", &legend(), &plot, "")
}

fn by_time(name: &str, sides: &[SideOf; 2], size: PlotSize) -> String {
    let mut lines = Vec::new();
    let (mut low, mut high, mut end_s) = (f64::INFINITY, 0.0, 0.0);
    for (side, [all, _]) in sides.iter().zip(CLASSES) {
        let (width_s, moments) = plot_points::moments(&side.added, 0.0);
        let points: Vec<_> =
            moments.iter().map(|moment| (moment.middle_s(), moment.p99_ms)).collect();
        low = moments.iter().map(|moment| moment.p99_ms).fold(low, f64::min);
        high = moments.iter().map(|moment| moment.p99_ms).fold(high, f64::max);
        end_s = moments.last().map_or(end_s, |last: &Moment| last.end_s.max(end_s));
        lines.push(Line::broken(all, &points, 1.5 * width_s));
    }
    let plot = Plot {
        size,
        title: format!("{name} over time, A and B"),
        x: Axis::time(end_s),
        y: Axis::milliseconds(low, high),
        tips: Vec::new(),
        lines,
    };
    figure("p99 over time", &legend(), &plot, "All runs of a side, second by second.")
}

/// Plots each series that both sides have, run by run.
fn all_series(comparison: &Comparison) -> String {
    let mut names: Vec<&str> = Vec::new();
    for series in comparison.runs().flat_map(|run| &run.report.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    let plots: String = names.into_iter().map(|name| one_series(comparison, name)).collect();
    match plots.is_empty() {
        true => plots,
        false => format!("<h2>Over time</h2>\n<div class=\"pair\">\n{plots}</div>\n"),
    }
}

fn one_series(comparison: &Comparison, name: &str) -> String {
    let of = |side: &'_ [ComparedRun]| -> Vec<Series> {
        let all = side.iter().flat_map(|run| &run.report.series);
        all.filter(|series| series.name == name && !series.points.is_empty()).cloned().collect()
    };
    let sides = [&comparison.sides[0], &comparison.sides[1]].map(|side| of(side));
    let Some(unit) = sides.iter().flatten().map(|series| series.unit).next() else {
        return String::new();
    };
    let points = || sides.iter().flatten().flat_map(|series| &series.points);
    let (end_s, max) = points().fold((0.0, 0.0), |(end_s, max): (f64, f64), (at_s, value)| {
        (end_s.max(*at_s), max.max(*value))
    });
    let lines = sides.iter().zip(CLASSES).flat_map(|(side, [class, _])| {
        let pieces = side.iter().map(|series| vec![plot_points::thinned(&series.points)]);
        pieces.map(move |pieces| Line { class, pieces })
    });
    let plot = Plot {
        size: HALF,
        title: format!("{name} over time, A and B"),
        x: Axis::time(end_s),
        y: Axis::from_zero(max, |value| unit.text(value)),
        lines: lines.collect(),
        tips: Vec::new(),
    };
    figure(name, &legend(), &plot, "")
}

fn legend() -> String {
    legend_of(SIDES.into_iter().zip(CLASSES).map(|(name, [class, _])| (class, name)))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{side, well_formed};
    use super::super::threshold::Threshold;
    use super::*;

    #[test]
    fn the_page_has_the_table_and_both_sides_in_each_plot() {
        let base = [1.0, 1.1, 0.9, 1.05];
        let (first, second) = (side("a", &base), side("b", &base.map(|cost| cost * 3.0)));
        let comparison = Comparison::new([first, second]);
        let threshold = Threshold::of_ratio("server_cpu_s_per_gb>1.1x").unwrap();
        let judged = comparison.judge(&threshold).unwrap();
        let page = well_formed(&comparison_page(&comparison, &[judged]));
        for part in [
            "<td class=\"worse\">worse</td>",
            "<td class=\"same\">same</td>",
            "<h2>The generator, not the server</h2>",
            "title=\"1 s/GB, 1.1 s/GB, 0.9 s/GB, 1.05 s/GB\"",
            "aria-label=\"latency by percentile, A and B\"",
            "aria-label=\"latency over time, A and B\"",
            "aria-label=\"server_cpu over time, A and B\"",
            "class=\"line side-a run\"",
            "class=\"line side-b\"",
            "Hodges-Lehmann",
            "<b>1 of 1 thresholds were missed.</b>",
            "<li>missed: server_cpu_s_per_gb&gt;1.1x: ",
            "<p><b>B</b> b4.json: ",
        ] {
            assert!(page.contains(part), "no {part}: {page}");
        }
    }

    #[test]
    fn the_page_of_single_runs_says_that_they_cannot_tell() {
        let page = comparison_page(&Comparison::new([side("a", &[1.0]), side("b", &[6.9])]), &[]);
        assert!(page.contains("<section class=\"verdict bad\">These are too few runs"), "{page}");
        assert!(page.contains(">cannot tell</td>") && !page.contains("line side-a run"));
    }

    #[test]
    fn names_of_files_are_escaped() {
        let hostile = "<script>\u{0}\"";
        let comparison = Comparison::new([side(hostile, &[1.0]), side("b", &[1.0])]);
        let page = comparison_page(&comparison, &[]);
        assert!(!page.contains("<script") && !page.contains('\u{0}'), "{page}");
    }
}
