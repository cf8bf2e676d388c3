//! A comparison as plain text and as JSON.
//!
//! Owns the wording. The page is in [`comparison_page`](super::comparison_page).

use serde::Serialize;

use super::comparison::{ComparedRow, ComparedRun, Comparison, RowOutcome, Spread};
use super::layout::{Grid, Notes, harmless, wrapped};
use super::metric::MetricGroup;
use super::model::ReportError;
use super::quantity::number;
use super::terminal::identity;
use super::threshold::JudgedThreshold;
use crate::load::manifest::Manifest;

/// The value of `format` in a file.
const FORMAT: &str = "tiderace-load-comparison";
/// Format version. It changes when programs can no longer read the file as before.
const VERSION: u64 = 1;

/// Names of the two sides.
pub(super) const SIDES: [&str; 2] = ["A", "B"];

/// Explanation of the columns of a comparison.
pub(super) const METHOD: &str = "Values are the medians of the runs, with half of their range. \
    B/A is the Hodges-Lehmann estimate: the median of the ratios of each run of B to each run of \
    A, with the 95 % interval of the rank-sum test. A ~ marks the ratio of the medians, where a \
    run has zero. A row differs if that test finds it among all rows of the table (Benjamini and \
    Hochberg, about 5 %). Otherwise the difference is within the noise. A threshold is judged by \
    the test of its own row.";
/// The same for too few runs.
pub(super) const TOO_FEW: &str = "These are too few runs to tell a difference from noise: the \
    same program differs from run to run. Repeat each side, taking turns, and compare all reports: \
    tiderace load compare a*.json --with b*.json. Four runs a side are the fewest that can judge a \
    threshold, and about seven find a single row of the table.";

impl Comparison {
    /// Returns the explanation of the columns.
    pub(super) fn method(&self) -> String {
        if !self.can_tell() {
            return TOO_FEW.to_owned();
        }
        match self.discoveries_min() {
            (0 | 1, _) => METHOD.to_owned(),
            (least, rows) => format!(
                "{METHOD} So few runs find a row only if {least} of the {rows} rows differ as \
                 clearly; repeat each side more often to find fewer."
            ),
        }
    }

    /// Returns the comparison as plain text of at most 100 columns. Differing conditions come
    /// first.
    pub fn text(&self) -> String {
        let mut text = format!("tiderace load {}, compared\n", harmless(self.commands().0));
        for (name, side) in SIDES.iter().zip(&self.sides) {
            for run in side {
                text += &wrapped(&format!("{name}  "), &described(run));
            }
        }
        let differences = self.differences();
        if !differences.is_empty() {
            text += "\nthe conditions of these runs differ\n";
            text.extend(differences.iter().map(|difference| wrapped("  - ", difference)));
        }
        let mut notes = Notes::default();
        text += &self.table(&mut notes);
        text += &notes.text();
        text += &format!("\n{}", wrapped("", &self.method()));
        for (index, name) in SIDES.iter().enumerate() {
            let doubts = self.doubts(index);
            if !doubts.is_empty() {
                text += &format!("\ndoubts about {name}\n");
                text.extend(doubts.iter().map(|doubt| wrapped("  - ", &harmless(doubt))));
            }
        }
        text
    }

    /// Returns the rows about the server, and apart from them those of the generator.
    fn table(&self, notes: &mut Notes) -> String {
        let mut text = String::new();
        let is_own = |row: &&ComparedRow| row.group == MetricGroup::Generator;
        let mut grid = Grid::default();
        for row in self.rows.iter().filter(|row| !is_own(row)) {
            grid.push(cells(row, notes));
        }
        if !grid.is_empty() {
            let heading = ["figures", "A", "B", "B/A", "interval", "B is"];
            text += &format!("\n{}", grid.text(heading));
        }
        let mut own = Grid::default();
        for row in self.rows.iter().filter(is_own) {
            own.push(cells(row, notes));
        }
        if !own.is_empty() {
            let heading = ["the generator, not the server", "A", "B", "B/A", "interval"];
            text += &format!("\n{}", own.text(heading));
        }
        text
    }

    /// Returns the comparison and its judged thresholds as the text of a file.
    ///
    /// # Errors
    /// [`ReportError::Unwritable`].
    pub fn to_json(&self, thresholds: &[JudgedThreshold]) -> Result<String, ReportError> {
        let side = |side: &'_ [ComparedRun]| -> Vec<_> {
            side.iter().map(|run| (run.name.clone(), run.report.manifest.clone())).collect()
        };
        let [first, second] = [&self.sides[0], &self.sides[1]].map(|runs| {
            side(runs).into_iter().map(|(name, manifest)| RunText { name, manifest }).collect()
        });
        let file = ComparisonText {
            format: FORMAT,
            version: VERSION,
            command: self.commands().0,
            can_tell: self.can_tell(),
            first,
            second,
            differences: self.differences(),
            doubts: [self.doubts(0), self.doubts(1)],
            thresholds,
            rows: &self.rows,
        };
        let text = serde_json::to_string_pretty(&file);
        text.map(|text| text + "\n").map_err(|error| ReportError::Unwritable(error.to_string()))
    }
}

/// A comparison as stored in a file.
#[derive(Serialize)]
struct ComparisonText<'a> {
    format: &'static str,
    version: u64,
    command: &'a str,
    /// There are enough runs to tell a difference from noise.
    can_tell: bool,
    first: Vec<RunText>,
    second: Vec<RunText>,
    differences: Vec<String>,
    doubts: [Vec<&'a str>; 2],
    thresholds: &'a [JudgedThreshold],
    rows: &'a [ComparedRow],
}

/// One run as stored in a file.
#[derive(Serialize)]
struct RunText {
    name: String,
    manifest: Manifest,
}

/// Identifies a run in one line.
pub(super) fn described(run: &ComparedRun) -> String {
    let manifest = &run.report.manifest;
    let label = manifest.label.iter().map(|label| format!(", {label}"));
    let server = manifest.server.iter().map(|server| format!(", {}", identity(server)));
    let text = format!("{}: {} of {}", run.name, manifest.target, manifest.started_utc);
    harmless(&[text].into_iter().chain(label).chain(server).collect::<String>())
}

fn cells(row: &ComparedRow, notes: &mut Notes) -> Vec<String> {
    let mut cells = vec![harmless(&row.name)];
    cells.extend([&row.first, &row.second].map(|spread| value(row, spread, notes)));
    cells.extend(ratio_and_interval(row));
    if row.outcome != RowOutcome::NotJudged {
        cells.push(row.outcome.text().to_owned());
    }
    cells
}

fn value(row: &ComparedRow, spread: &Spread, notes: &mut Notes) -> String {
    match (spread_text(row, spread), &spread.withheld) {
        (Some(text), Some(reason)) if spread.is_partial() => text + " " + &notes.mark(reason),
        (Some(text), _) => text,
        (None, Some(reason)) => notes.withheld(reason),
        (None, None) => "-".to_owned(),
    }
}

/// Formats the median of a side with half of its range, and with how many of its runs have a value
/// if not all do.
pub(super) fn spread_text(row: &ComparedRow, spread: &Spread) -> Option<String> {
    let text = row.unit.text(spread.median?);
    let range = spread.half_range_share().map(|share| format!(" ±{:.0} %", 100.0 * share));
    let share = spread.is_partial().then(|| format!(", {}", spread.share_of_runs()));
    Some(text + &range.unwrap_or_default() + &share.unwrap_or_default())
}

/// Formats the ratio of a row and its interval.
pub(super) fn ratio_and_interval(row: &ComparedRow) -> [String; 2] {
    let ratio = match (row.ratio, row.ratio_of_medians()) {
        (Some(ratio), _) => format!("{}x", number(rounded(ratio.value))),
        (None, Some(ratio)) => format!("~{}x", number(rounded(ratio))),
        (None, None) => "-".to_owned(),
    };
    let is_same = row.outcome == RowOutcome::Same;
    let interval = row.ratio.and_then(|ratio| ratio.interval).filter(|_| !is_same);
    let interval = interval.map(|(low, high)| format!("{low:.2}-{high:.2}"));
    [ratio, interval.unwrap_or_default()]
}

/// Rounds a ratio to three decimals.
fn rounded(ratio: f64) -> f64 {
    (ratio * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::layout::COLUMNS;
    use super::super::model::Figure;
    use super::super::sample::side;
    use super::super::threshold::Threshold;
    use super::*;

    #[test]
    fn runs_without_a_value_and_ratios_of_medians_are_marked() {
        let (mut first, mut second) = (side("a", &[1.0, 2.0, 3.0]), side("b", &[1.0; 3]));
        first[1].report.withhold("server_cpu_s_per_gb", "it was late");
        second[1].report.add_figure(Figure::new("frames_lost", 0.0));
        let text = Comparison::new([first, second]).text();
        assert!(text.contains(" 2 s/GB ±50 %, 2 of 3 [2] "), "{text}");
        assert!(text.contains("\n  [2] it was late\n"), "{text}");
        assert!(text.contains(" ~1x "), "{text}");
    }

    #[test]
    fn too_few_runs_for_the_number_of_rows_are_told() {
        let base = [1.0, 1.1, 0.9, 1.05];
        let [mut first, second] = [side("a", &base), side("b", &base)];
        for name in ["frames_corrupt", "frames_duplicated"] {
            first[0].report.add_figure(Figure::new(name, 1.0));
            first[1].report.add_figure(Figure::new(name, 2.0));
        }
        let mut sides = [first, second];
        for run in &mut sides[1] {
            run.report.add_figure(Figure::new("frames_corrupt", 3.0));
            run.report.add_figure(Figure::new("frames_duplicated", 3.0));
        }
        for run in sides[0].iter_mut().skip(2) {
            run.report.add_figure(Figure::new("frames_corrupt", 3.0));
            run.report.add_figure(Figure::new("frames_duplicated", 3.0));
        }
        let text = Comparison::new(sides).method();
        assert!(text.contains("only if 2 of the 3 rows differ"), "{text}");
    }

    #[test]
    fn table_of_several_runs_has_this_form() {
        let base = [0.4725, 0.48, 0.465, 0.47];
        let (first, mut second) = (side("a", &base), side("b", &base.map(|cost| cost * 2.0)));
        for run in &mut second {
            run.report.manifest.label = None;
        }
        let comparison = Comparison::new([first, second]);
        let text = comparison.text();
        println!("{text}");
        assert_eq!(text, include_str!("compared.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn single_runs_say_that_they_cannot_tell() {
        let comparison = Comparison::new([side("a", &[1.0]), side("b", &[6.9])]);
        let text = comparison.text();
        assert!(text.contains(" 6.9x            cannot tell\n"), "{text}");
        assert!(text.contains("too few runs to tell a difference from noise"), "{text}");
    }

    #[test]
    fn the_file_has_values_ratio_and_outcome_of_each_row() {
        let base = [1.0, 1.1, 0.9, 1.05];
        let sides = [side("a", &base), side("b", &base.map(|cost| cost * 3.0))];
        let comparison = Comparison::new(sides);
        let threshold = Threshold::of_ratio("server_cpu_s_per_gb>1.1x").unwrap();
        let text = comparison.to_json(&[comparison.judge(&threshold).unwrap()]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["format"], FORMAT);
        assert_eq!(json["can_tell"], true);
        assert_eq!(json["second"][3]["name"], "b4.json");
        let rows = json["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == "server_cpu_s_per_gb").unwrap();
        assert_eq!(row["first"]["values"], serde_json::json!(base));
        assert_eq!(row["unit"], "s/GB");
        assert_eq!(row["outcome"], "worse");
        assert_eq!(json["thresholds"][0]["verdict"], "missed");
        let ratio = row["ratio"]["value"].as_f64().unwrap();
        assert!((ratio - 3.0).abs() < 0.1, "{ratio}");
    }
}
