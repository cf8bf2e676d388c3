//! The comparison of two reports, and whether they are comparable.
//!
//! Owns which figure is better and by how much. It gives no reasons: the reader finds them in the
//! conditions.

use super::layout::{Grid, Notes, harmless, wrapped};
use super::metric::Better;
use super::model::{Figure, LoadReport};
use super::quantity::number;
use super::terminal::{identity, ordered, shown};
use super::threshold::ratio;
use crate::load::manifest::{Difference, differences};

/// Relative difference below which values count as the same, because histograms have three digits.
const SAME_WITHIN: f64 = 0.002;

/// Two reports, the second of which is judged by the first.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    first: &'a LoadReport,
    second: &'a LoadReport,
}

impl<'a> Comparison<'a> {
    /// Creates a comparison without judging anything.
    pub const fn new(first: &'a LoadReport, second: &'a LoadReport) -> Self {
        Self { first, second }
    }

    /// Returns the two commands if they differ. Then the reports are not comparable.
    pub fn commands(&self) -> Option<(&'a str, &'a str)> {
        let (first, second) = (self.first.command.as_str(), self.second.command.as_str());
        (first != second).then_some((first, second))
    }

    /// Returns the conditions that differ between the two runs, one per line.
    pub fn differences(&self) -> Vec<String> {
        let conditions = [self.first, self.second].map(|report| report.manifest.conditions());
        let line = |Difference { what, ours, theirs }| {
            let [what, ours, theirs] = [what, ours, theirs].map(|text| harmless(&text));
            format!("{what} is {ours} in the first run and {theirs} in the second")
        };
        differences(&conditions[0], &conditions[1]).map(line).collect()
    }

    /// Returns the comparison as plain text of at most 100 columns. Differing conditions come
    /// first.
    pub fn text(&self) -> String {
        let mut text = format!("tiderace load {}, compared\n", harmless(&self.first.command));
        text += &wrapped("A  ", &run(self.first));
        text += &wrapped("B  ", &run(self.second));
        let differences = self.differences();
        if !differences.is_empty() {
            text += "\nthe conditions of these runs differ\n";
            text.extend(differences.iter().map(|difference| wrapped("  - ", difference)));
        }
        let (mut notes, mut grid) = (Notes::default(), Grid::default());
        let [first, second] = [self.first, self.second].map(LoadReport::all_figures);
        let only_second = |figure: &&Figure| !first.iter().any(|known| known.name == figure.name);
        for ours in ordered(&first) {
            let theirs = second.iter().find(|figure| figure.name == ours.name);
            grid.push(row(Some(ours), theirs, &mut notes));
        }
        for theirs in ordered(&second).into_iter().filter(only_second) {
            grid.push(row(None, Some(theirs), &mut notes));
        }
        text += &format!("\n{}{}", grid.text(["figures", "A", "B", "B/A", "B is"]), notes.text());
        for (name, report) in [("A", self.first), ("B", self.second)] {
            if !report.doubts.is_empty() {
                text += &format!("\ndoubts about {name}\n");
                text.extend(report.doubts.iter().map(|doubt| wrapped("  - ", &harmless(doubt))));
            }
        }
        text
    }
}

/// Identifies a run in one line.
fn run(report: &LoadReport) -> String {
    let manifest = &report.manifest;
    let label = manifest.label.iter().map(|label| format!(", {label}"));
    let server = manifest.server.iter().map(|server| format!(", {}", identity(server)));
    let text = format!("{} of {}", manifest.target, manifest.started_utc);
    harmless(&[text].into_iter().chain(label).chain(server).collect::<String>())
}

fn row(first: Option<&Figure>, second: Option<&Figure>, notes: &mut Notes) -> Vec<String> {
    let name = first.or(second).map(|figure| harmless(&figure.name)).unwrap_or_default();
    let mut cell = |figure: Option<&Figure>| {
        figure.map_or_else(|| "-".to_owned(), |figure| shown(figure, notes))
    };
    let mut row = vec![name, cell(first), cell(second)];
    if let (Some(first), Some(second)) = (first, second)
        && let (Some(ours), Some(theirs)) = (first.value, second.value)
    {
        let ratio = ratio(ours, theirs);
        let is_finite = ratio.is_finite();
        row.push(if is_finite { format!("{}x", number(ratio)) } else { "-".to_owned() });
        row.push(verdict(first.better, ours, theirs).to_owned());
    }
    row
}

fn verdict(better: Better, first: f64, second: f64) -> &'static str {
    let is_same = (second - first).abs() <= SAME_WITHIN * first.abs();
    match better {
        Better::Neither => "",
        _ if is_same => "same",
        Better::Lower if second < first => "better",
        Better::Higher if second > first => "better",
        _ => "worse",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{layout::COLUMNS, sample};
    use super::*;

    fn changed() -> LoadReport {
        let mut report = sample::report();
        report.add_figure(Figure::new("frames_received", 8_991.0));
        report.add_figure(Figure::new("frames_lost", 0.0));
        report.add_figure(Figure::new("server_cpu_s_per_gb", 0.945));
        report.add_figure(Figure::new("players_failed_timeout", 4.0));
        report.add_figure(Figure::new("stalls", 1.0));
        report.manifest.label = None;
        report
    }

    #[test]
    fn table_of_two_reports_has_this_form() {
        let (first, second) = (sample::report(), changed());
        let text = Comparison::new(&first, &second).text();
        println!("{text}");
        assert_eq!(text, include_str!("compared.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn direction_of_a_figure_decides_what_is_better() {
        for (better, first, second, expected) in [
            (Better::Lower, 10.0, 9.0, "better"),
            (Better::Lower, 10.0, 11.0, "worse"),
            (Better::Higher, 10.0, 11.0, "better"),
            (Better::Higher, 10.0, 9.0, "worse"),
            (Better::Lower, 1000.0, 1001.0, "same"),
            (Better::Lower, 0.0, 0.0, "same"),
            (Better::Lower, 0.0, 0.1, "worse"),
            (Better::Neither, 1.0, 2.0, ""),
        ] {
            assert_eq!(verdict(better, first, second), expected, "{better:?} {first} {second}");
        }
    }

    #[test]
    fn conditions_that_differ_are_named_and_so_are_different_commands() {
        let (first, mut second) = (sample::report(), sample::report());
        assert!(Comparison::new(&first, &second).differences().is_empty());
        second.manifest.machine.kernel = "Linux\u{1b} 7".to_owned();
        second.manifest.parameters.remove("players");
        second.command = "ingest".to_owned();
        let comparison = Comparison::new(&first, &second);
        let expected = [
            "--players is 10 in the first run and - in the second",
            r"kernel is Linux 6.1.0 in the first run and Linux\u{1b} 7 in the second",
        ];
        assert_eq!(comparison.differences(), expected);
        assert_eq!(comparison.commands(), Some(("fanout", "ingest")));
        assert!(comparison.text().contains("conditions of these runs differ\n  - --players is 10"));
    }
}
