//! The comparison of two sides, each of which is one or more reports of the same command.
//!
//! Owns which figure is better, by how much, and whether the difference is larger than the noise.
//! It gives no reasons: the reader finds them in the conditions.
//!
//! Runs of the same program differ, and a table of fifty figures always has some that moved. A row
//! counts as different only if the exact rank-sum test finds it so among all rows of the table, see
//! [`discoveries`]. Otherwise it is within the noise. With fewer than four runs a side no order of
//! the values is rare enough, so nothing can be told.

use std::collections::BTreeSet;

use serde::Serialize;

use super::layout::harmless;
use super::metric::{Better, Metric, MetricGroup, Need};
use super::model::{Figure, LoadReport};
use super::quantity::MetricUnit;
use super::threshold::{JudgedThreshold, Threshold};
use crate::load::LoadError;
use crate::load::statistics::{
    Estimate, critical_side_sum, discoveries, median, ratio_of_sides, side_difference_p,
};

/// Relative difference that the histograms cannot tell, because they have three digits.
const SAME_WITHIN: f64 = 0.002;

/// One run of a side.
#[derive(Clone, Debug)]
pub struct ComparedRun {
    /// Name of the run, such as its file.
    pub name: String,
    /// Its report.
    pub report: LoadReport,
}

/// Two sides, the second of which is judged by the first.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub(super) sides: [Vec<ComparedRun>; 2],
    pub(super) rows: Vec<ComparedRow>,
}

/// A figure on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ComparedRow {
    pub(super) name: String,
    pub(super) unit: MetricUnit,
    pub(super) better: Better,
    pub(super) group: MetricGroup,
    pub(super) first: Spread,
    pub(super) second: Spread,
    /// How many times larger the second side is.
    pub(super) ratio: Option<Estimate>,
    /// Probability of such a difference between sides that do not differ.
    pub(super) p: Option<f64>,
    pub(super) outcome: RowOutcome,
}

/// The values of a figure in the runs of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) values: Vec<f64>,
    pub(super) median: Option<f64>,
    /// Why a run has no value.
    pub(super) withheld: Option<String>,
}

/// What the second side of a row is, compared with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RowOutcome {
    /// The figure only describes the runs, or it has no value.
    NotJudged,
    /// No run differs by more than the histograms can tell.
    Same,
    /// There are too few runs to tell a difference from noise.
    CannotTell,
    /// The runs of a side differ as much as the sides do.
    WithinNoise,
    Better,
    Worse,
}

impl RowOutcome {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::NotJudged => "",
            Self::Same => "same",
            Self::CannotTell => "cannot tell",
            Self::WithinNoise => "within noise",
            Self::Better => "better",
            Self::Worse => "worse",
        }
    }
}

impl Comparison {
    /// Compares the sides.
    pub fn new(sides: [Vec<ComparedRun>; 2]) -> Self {
        let names = names(sides.iter().flatten().map(|run| &run.report));
        let row = |name: &String| row(name, &sides);
        let mut rows: Vec<_> = names.iter().filter_map(row).collect();
        rows.sort_by_key(|row| row.group);
        decide(&mut rows);
        Self { sides, rows }
    }

    /// Returns the command of the first run, and that of another run if it differs. Then the
    /// reports are not comparable.
    pub fn commands(&self) -> (&str, Option<&str>) {
        let mut commands = self.runs().map(|run| run.report.command.as_str());
        let first = commands.next().unwrap_or_default();
        (first, commands.find(|command| *command != first))
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &ComparedRun> + Clone {
        self.sides.iter().flatten()
    }

    /// Returns whether there are enough runs to tell a difference from noise.
    pub fn can_tell(&self) -> bool {
        let [first, second] = self.sides.each_ref().map(Vec::len);
        critical_side_sum(first, second).is_some()
    }

    /// Returns the conditions that differ between the runs, one per line.
    pub fn differences(&self) -> Vec<String> {
        let conditions: Vec<_> =
            self.runs().map(|run| (&run.name, run.report.manifest.conditions())).collect();
        let all: BTreeSet<_> = conditions.iter().flat_map(|(_, known)| known.keys()).collect();
        let line = |what: &String| {
            // In the order of the runs.
            let mut by_value: Vec<(&str, Vec<&str>)> = Vec::new();
            for (name, known) in &conditions {
                let value = known.get(what).map_or("-", String::as_str);
                match by_value.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, names)) => names.push(name),
                    None => by_value.push((value, vec![name])),
                }
            }
            let parts =
                by_value.iter().map(|(value, names)| format!("{value} in {}", names.join(", ")));
            let line = harmless(&format!("{what} is {}", parts.collect::<Vec<_>>().join(" and ")));
            (by_value.len() > 1).then_some(line)
        };
        all.into_iter().filter_map(line).collect()
    }

    /// Returns the reasons to doubt the runs of a side, each once.
    pub(super) fn doubts(&self, side: usize) -> Vec<&str> {
        let mut doubts: Vec<&str> = Vec::new();
        for doubt in self.sides[side].iter().flat_map(|run| &run.report.doubts) {
            if !doubts.contains(&doubt.as_str()) {
                doubts.push(doubt);
            }
        }
        doubts
    }

    /// Judges a bound on a ratio. A ratio within the noise meets every bound. If there are too few
    /// runs to know the noise, the ratio alone decides.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`].
    pub fn judge(&self, threshold: &Threshold) -> Result<JudgedThreshold, LoadError> {
        let main = self.runs().next().and_then(|run| run.report.distributions.first());
        let main = main.map(|main| format!("{}_{}", main.name(), threshold.figure()));
        let named = |name: &str| self.rows.iter().find(|row| row.name == name);
        let row = named(threshold.figure()).or_else(|| main.as_deref().and_then(named));
        let Some(row) = row else {
            return Err(threshold.unknown(self.rows.iter().map(|row| row.name.clone())));
        };
        let (Some(first), Some(second)) = (row.first.median, row.second.median) else {
            let reason = row.first.withheld.as_deref().or(row.second.withheld.as_deref());
            return Ok(threshold.withheld(&row.name, reason.unwrap_or("it was not measured")));
        };
        let medians = if first == second { 1.0 } else { second / first };
        let ratio = row.ratio.map_or(medians, |ratio| ratio.value);
        let judged = threshold.judge_ratio(&row.name, ratio, [first, second], row.outcome.text());
        let is_noise = row.outcome == RowOutcome::WithinNoise;
        Ok(if is_noise { judged.met() } else { judged })
    }
}

/// Returns the names of all figures in order of appearance.
fn names<'a>(reports: impl Iterator<Item = &'a LoadReport>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for figure in reports.flat_map(LoadReport::all_figures) {
        if !names.contains(&figure.name) {
            names.push(figure.name);
        }
    }
    names
}

/// Returns the row of a figure, without its outcome.
fn row(name: &str, sides: &[Vec<ComparedRun>; 2]) -> Option<ComparedRow> {
    let [first, second] = sides
        .each_ref()
        .map(|side| side.iter().map(|run| run.report.figure(name)).collect::<Vec<_>>());
    let known = first.iter().chain(&second).flatten().next()?;
    let (unit, better, group) = (known.unit(), known.better, known.group());
    let [first, second] = [&first, &second].map(|figures| Spread::new(name, figures));
    let has_values = !first.values.is_empty() && !second.values.is_empty();
    let ratio = ratio_of_sides(&first.values, &second.values);
    let p = has_values.then(|| side_difference_p(&first.values, &second.values));
    let outcome = RowOutcome::NotJudged;
    Some(ComparedRow {
        name: name.to_owned(),
        unit,
        better,
        group,
        first,
        second,
        ratio,
        p,
        outcome,
    })
}

impl Spread {
    fn new(name: &str, figures: &[Option<Figure>]) -> Self {
        // A report leaves out what never happened.
        let is_zero = Metric::of_figure(name).is_some_and(|m| m.needs_that(Need::Occurrence));
        let value = |figure: &Option<Figure>| match figure {
            Some(figure) => figure.value,
            None => is_zero.then_some(0.0),
        };
        let values: Vec<_> = figures.iter().filter_map(value).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let withheld = figures.iter().flatten().find_map(|figure| figure.withheld.clone());
        Self { median: median(&sorted), values, withheld }
    }

    /// Returns the smallest and the largest value.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        let low = self.values.iter().copied().reduce(f64::min)?;
        Some((low, self.values.iter().copied().reduce(f64::max)?))
    }

    /// Returns half of the range as a share of the median, if the values differ.
    pub(super) fn half_range_share(&self) -> Option<f64> {
        let (low, high) = self.range().filter(|(low, high)| low < high)?;
        self.median.filter(|median| *median > 0.0).map(|median| (high - low) / 2.0 / median)
    }
}

/// Decides the outcome of all rows together, because the more rows there are, the more of them look
/// different by chance. Rows of the generator say nothing about the server.
fn decide(rows: &mut [ComparedRow]) {
    let is_judged = |row: &&mut ComparedRow| {
        row.better != Better::Neither && row.group != MetricGroup::Generator && row.p.is_some()
    };
    let mut judged: Vec<_> = rows.iter_mut().filter(is_judged).collect();
    let mut open = Vec::new();
    for (index, row) in judged.iter_mut().enumerate() {
        let runs = critical_side_sum(row.first.values.len(), row.second.values.len());
        row.outcome = match (is_same(row), runs) {
            (true, _) => RowOutcome::Same,
            (false, None) => RowOutcome::CannotTell,
            (false, Some(_)) => RowOutcome::WithinNoise,
        };
        if row.outcome == RowOutcome::WithinNoise {
            open.push((index, row.p.unwrap_or(1.0)));
        }
    }
    let p_values: Vec<_> = open.iter().map(|(_, p)| *p).collect();
    for ((index, _), is_found) in open.into_iter().zip(discoveries(&p_values)) {
        let row = &mut judged[index];
        let is_lower = row.second.median < row.first.median;
        if is_found && row.second.median != row.first.median {
            let is_better = is_lower == (row.better == Better::Lower);
            row.outcome = if is_better { RowOutcome::Better } else { RowOutcome::Worse };
        }
    }
}

/// Returns whether all values are the same as far as the histograms can tell.
fn is_same(row: &ComparedRow) -> bool {
    let all = || row.first.values.iter().chain(&row.second.values).copied();
    let (low, high) = (all().reduce(f64::min), all().reduce(f64::max));
    low.zip(high).is_some_and(|(low, high)| high - low <= SAME_WITHIN * low.abs())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, side};
    use super::*;

    fn outcome(first: &[f64], second: &[f64]) -> RowOutcome {
        let comparison = Comparison::new([side("a", first), side("b", second)]);
        let mut rows = comparison.rows.iter();
        rows.find(|row| row.name == "server_cpu_s_per_gb").unwrap().outcome
    }

    #[test]
    fn a_difference_counts_only_beyond_the_noise_of_the_runs() {
        let base = [1.00, 1.04, 0.97, 1.02, 0.99];
        assert_eq!(outcome(&base, &[1.01, 0.98, 1.03, 0.96, 1.05]), RowOutcome::WithinNoise);
        assert_eq!(outcome(&base, &base.map(|cost| cost * 1.2)), RowOutcome::Worse);
        assert_eq!(outcome(&base, &base.map(|cost| cost * 0.8)), RowOutcome::Better);
        assert_eq!(outcome(&base, &[6.9, 1.0, 1.01, 0.99, 1.0]), RowOutcome::WithinNoise);
    }

    #[test]
    fn few_runs_cannot_tell_and_equal_ones_need_not() {
        assert_eq!(outcome(&[1.0], &[6.9]), RowOutcome::CannotTell);
        assert_eq!(outcome(&[1.0, 1.1, 1.2], &[6.9, 7.0, 7.1]), RowOutcome::CannotTell);
        assert_eq!(outcome(&[1.0], &[1.001]), RowOutcome::Same);
        let [few, enough] = [1, 4].map(|runs| {
            Comparison::new([side("a", &vec![1.0; runs]), side("b", &vec![1.0; runs])]).can_tell()
        });
        assert!(!few && enough);
    }

    /// The multiples of 2 to 9 modulo 11 are eight mixtures of ten values.
    #[test]
    fn one_row_of_many_that_differs_by_chance_is_noise() {
        let rank = |row: usize, run: usize| ((run + 1) * row % 11) as f64;
        let name = |row: usize| format!("machine_core{row}_busy_s");
        let runs = |from: usize, apart: usize| {
            let run = |run: usize| {
                let mut report = LoadReport::new("fanout", sample::report().manifest);
                for row in 2..10 {
                    report.add_figure(Figure::new(&name(row), 100.0 + rank(row, run)));
                }
                let extreme = 100.0 + run as f64;
                (10..10 + apart)
                    .for_each(|row| report.add_figure(Figure::new(&name(row), extreme)));
                ComparedRun { name: String::new(), report }
            };
            (from..from + 5).map(run).collect::<Vec<_>>()
        };
        let found = |apart| {
            let rows = Comparison::new([runs(0, apart), runs(5, apart)]).rows;
            rows.iter().filter(|row| row.outcome == RowOutcome::Worse).count()
        };
        assert_eq!(found(1), 0, "the order of one row in nine is no wonder");
        assert_eq!(found(3), 3, "that of three is");
    }

    #[test]
    fn the_generator_is_not_judged() {
        let (first, mut second) = (side("a", &[1.0; 5]), side("b", &[1.0; 5]));
        for run in &mut second {
            run.report.add_figure(Figure::new("generator_cpu_share", 0.75));
        }
        let comparison = Comparison::new([first, second]);
        let row = comparison.rows.last().unwrap();
        assert_eq!(
            (row.name.as_str(), row.outcome),
            ("generator_cpu_share", RowOutcome::NotJudged)
        );
    }

    #[test]
    fn what_never_happened_on_one_side_is_zero() {
        let (mut first, second) = (side("a", &[1.0; 4]), side("b", &[1.0; 4]));
        first[0].report.add_figure(Figure::new("players_failed_reset", 2.0));
        let comparison = Comparison::new([first, second]);
        let row = comparison.rows.iter().find(|row| row.name == "players_failed_reset").unwrap();
        assert_eq!(row.first.values, [2.0, 0.0, 0.0, 0.0]);
        assert_eq!(row.second.values, [0.0; 4]);
    }

    #[test]
    fn conditions_that_differ_are_named_and_so_are_different_commands() {
        let (first, mut second) = (side("a", &[1.0, 1.0]), side("b", &[1.0]));
        let same = Comparison::new([first.clone(), second.clone()]);
        assert!(same.differences().is_empty());
        assert_eq!(same.commands(), ("fanout", None));
        second[0].report.manifest.machine.kernel = "Linux\u{1b} 7".to_owned();
        second[0].report.manifest.parameters.remove("players");
        second[0].report.command = "ingest".to_owned();
        let comparison = Comparison::new([first, second]);
        let expected = [
            "--players is 10 in a1.json, a2.json and - in b1.json",
            r"kernel is Linux 6.1.0 in a1.json, a2.json and Linux\u{1b} 7 in b1.json",
        ];
        assert_eq!(comparison.differences(), expected);
        assert_eq!(comparison.commands(), ("fanout", Some("ingest")));
    }

    #[test]
    fn a_bound_on_a_ratio_is_missed_only_beyond_the_noise() {
        let judged = |text: &str, first: &[f64], second: &[f64]| {
            let comparison = Comparison::new([side("a", first), side("b", second)]);
            comparison.judge(&Threshold::of_ratio(text).unwrap()).unwrap()
        };
        let bound = "server_cpu_s_per_gb>1.1x";
        let missed = judged(bound, &[1.0], &[1.5]);
        let expected = "server_cpu_s_per_gb>1.1x: server_cpu_s_per_gb is 1.5x (1 to 1.5), \
                        cannot tell";
        assert_eq!((missed.is_met(), missed.line.as_str()), (false, expected));
        let base = [1.0, 1.4, 0.9, 1.3, 0.8];
        assert!(judged(bound, &base, &base.map(|cost| cost * 1.15)).is_met(), "noise");
        assert!(!judged(bound, &base, &base.map(|cost| cost * 2.0)).is_met());
        assert!(judged("p99_ms>1.0x", &[1.0], &[1.5]).is_met());
        assert!(judged("frames_lost>1x", &[1.0], &[1.5]).is_met());
        assert!(judged("server_cpu_s>9x", &[1.0], &[1.5]).line.ends_with("nobody looked"));
        let unknown = Threshold::of_ratio("frames_lots>1x").unwrap();
        let comparison = Comparison::new([side("a", &[1.0]), side("b", &[1.0])]);
        let error = comparison.judge(&unknown).unwrap_err().to_string();
        assert!(error.contains("the nearest are frames_lost"), "{error}");
    }
}
