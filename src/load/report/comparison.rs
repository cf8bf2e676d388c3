//! The comparison of two sides, each of which is one or more reports of the same command.
//!
//! Owns which figure is better, by how much, and whether the difference is larger than the noise.
//! It gives no reasons: the reader finds them in the conditions.
//!
//! Runs of the same program differ, and a table of fifty figures always has some that moved. A row
//! counts as different only if the exact rank-sum test finds it so among all rows of the table, see
//! [`discoveries`]. Otherwise it is within the noise. A threshold names its figure in advance, so
//! the test of that row alone decides it. With fewer than four runs a side no order of the values
//! is rare enough, so nothing can be told.

use std::collections::BTreeSet;

use serde::Serialize;

use super::layout::harmless;
use super::metric::{Better, Metric, MetricGroup, Need};
use super::model::{Figure, LoadReport};
use super::quantity::MetricUnit;
use super::threshold::{JudgedThreshold, Threshold};
use crate::load::LoadError;
use crate::load::statistics::{
    ALPHA, Estimate, critical_side_sum, discoveries, least_side_difference_p, median,
    ratio_of_sides, side_difference_p,
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
    /// Runs of the side. Those without a value are not among `values`.
    pub(super) runs: usize,
    /// Why a run has no value.
    pub(super) withheld: Option<String>,
}

/// Outcome of a row: the second side compared with the first.
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

    /// Returns how many rows have to differ as clearly as the runs allow before the procedure
    /// counts any of them as different, and among how many rows that is.
    pub(super) fn discoveries_min(&self) -> (usize, usize) {
        let [first, second] = self.sides.each_ref().map(Vec::len);
        let is_tested = |row: &&ComparedRow| {
            let outcomes = [RowOutcome::WithinNoise, RowOutcome::Better, RowOutcome::Worse];
            outcomes.contains(&row.outcome)
        };
        let rows = self.rows.iter().filter(is_tested).count();
        let least = least_side_difference_p(first, second) * rows as f64 / ALPHA;
        (least.ceil() as usize, rows)
    }

    /// Judges a bound on a ratio by the test of its row alone: a figure that was named in advance
    /// is not one of many. A ratio within the noise meets every bound. If there are too few runs to
    /// know the noise, the ratio alone decides.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`].
    pub fn judge(&self, threshold: &Threshold) -> Result<JudgedThreshold, LoadError> {
        let main = self.runs().next().and_then(|run| run.report.main_distribution());
        let main = main.map(|main| format!("{main}_{}", threshold.figure()));
        let named = |name: &str| self.rows.iter().find(|row| row.name == name);
        let row = named(threshold.figure()).or_else(|| main.as_deref().and_then(named));
        let Some(row) = row else {
            return Err(threshold.unknown(self.rows.iter().map(|row| row.name.clone())));
        };
        let (Some(first), Some(second)) = (row.first.median, row.second.median) else {
            let empty = if row.first.median.is_none() { &row.first } else { &row.second };
            let reason = empty.withheld.as_deref().unwrap_or("it was not measured");
            return Ok(threshold.withheld(&row.name, reason));
        };
        let alone = row.alone();
        let mut certainty = alone.text().to_owned();
        if row.first.is_partial() || row.second.is_partial() {
            let [first, second] = [&row.first, &row.second].map(Spread::share_of_runs);
            certainty += &format!(", {first} and {second} runs have it");
        }
        let medians = || if first == second { Some(1.0) } else { row.ratio_of_medians() };
        let judged = match row.ratio.map(|ratio| ratio.value).or_else(medians) {
            Some(ratio) => threshold.judge_ratio(&row.name, ratio, [first, second], &certainty),
            None => {
                let reason = format!("there is no ratio of {second} to {first}, {certainty}");
                threshold.withheld(&row.name, &reason)
            }
        };
        Ok(if alone.is_noise() { judged.met() } else { judged })
    }
}

/// Outcome of the test of a row alone, without a correction for the other rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Same,
    CannotTell,
    WithinNoise,
    BeyondNoise,
}

impl Certainty {
    const fn text(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::CannotTell => "cannot tell",
            Self::WithinNoise => "within noise",
            Self::BeyondNoise => "beyond the noise",
        }
    }

    /// Returns whether the sides count as equal.
    const fn is_noise(self) -> bool {
        matches!(self, Self::Same | Self::WithinNoise)
    }
}

impl ComparedRow {
    fn alone(&self) -> Certainty {
        let runs = critical_side_sum(self.first.values.len(), self.second.values.len());
        match (runs, self.p) {
            _ if is_same(self) => Certainty::Same,
            (Some(_), Some(p)) if p > ALPHA => Certainty::WithinNoise,
            (Some(_), Some(_)) => Certainty::BeyondNoise,
            _ => Certainty::CannotTell,
        }
    }

    /// Returns the quotient of the medians, for a row without an estimate because a run has zero.
    /// A ratio to nothing, or of values below zero, has no meaning.
    pub(super) fn ratio_of_medians(&self) -> Option<f64> {
        let is_negative = self.first.values.iter().chain(&self.second.values).any(|v| *v < 0.0);
        let (first, second) = self.first.median.zip(self.second.median)?;
        (first > 0.0 && !is_negative).then(|| second / first)
    }
}

/// Returns the names of all figures in order of appearance, without cores that were idle in all
/// runs.
fn names<'a>(reports: impl Iterator<Item = &'a LoadReport>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for report in reports {
        for figure in report.all_figures() {
            if !names.contains(&figure.name) && !report.is_idle_core(&figure) {
                names.push(figure.name);
            }
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
        let mut withheld = figures.iter().flatten().find_map(|figure| figure.withheld.clone());
        if !values.is_empty() && values.len() < figures.len() {
            withheld = withheld.or_else(|| Some("a run did not measure it".to_owned()));
        }
        Self { median: median(&sorted), values, runs: figures.len(), withheld }
    }

    /// Returns whether some runs of the side have a value and others have none.
    pub(super) fn is_partial(&self) -> bool {
        !self.values.is_empty() && self.values.len() < self.runs
    }

    /// Formats how many of the runs have a value.
    pub(super) fn share_of_runs(&self) -> String {
        format!("{} of {}", self.values.len(), self.runs)
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

    fn judged_by(text: &str, sides: [Vec<ComparedRun>; 2]) -> JudgedThreshold {
        Comparison::new(sides).judge(&Threshold::of_ratio(text).unwrap()).unwrap()
    }

    /// Adds figures to the runs of both sides, one value a run.
    fn with(
        name: &str,
        [mut first, mut second]: [Vec<ComparedRun>; 2],
        values: [&[f64]; 2],
    ) -> [Vec<ComparedRun>; 2] {
        for (side, values) in [&mut first, &mut second].into_iter().zip(values) {
            for (run, value) in side.iter_mut().zip(values) {
                run.report.add_figure(Figure::new(name, *value));
            }
        }
        [first, second]
    }

    #[test]
    fn a_threshold_is_judged_by_its_own_row_however_many_others_are_noise() {
        let base = [1.0, 1.1, 0.9, 1.05];
        let mut sides = [side("a", &base), side("b", &base.map(|cost| cost * 3.0))];
        for row in 2..42 {
            let ranks =
                |from: usize| [0, 1, 2, 3].map(|run| 100.0 + ((from + run) * row % 11) as f64);
            let name = format!("machine_core{row}_busy_s");
            sides = with(&name, sides, [&ranks(1), &ranks(5)]);
        }
        let comparison = Comparison::new(sides.clone());
        let row = comparison.rows.iter().find(|row| row.name == "server_cpu_s_per_gb").unwrap();
        assert_eq!(row.outcome, RowOutcome::WithinNoise, "one row in 41 is found by no four runs");
        let (least, rows) = comparison.discoveries_min();
        assert!(least > 20 && rows > 30, "{least} of {rows}");
        let judged = judged_by("server_cpu_s_per_gb>1.1x", sides);
        assert!(!judged.is_met() && judged.line.ends_with("beyond the noise"), "{judged:?}");
    }

    #[test]
    fn sides_that_are_the_same_meet_every_threshold() {
        let judged =
            judged_by("server_cpu_s_per_gb>1.0x", [side("a", &[1.0]), side("b", &[1.001])]);
        assert!(judged.is_met() && judged.line.ends_with("same"), "{judged:?}");
    }

    #[test]
    fn figures_that_only_describe_a_run_have_noise_too() {
        let five = || [side("a", &[1.0; 5]), side("b", &[1.0; 5])];
        let base = [5.0, 9.0, 4.0, 8.0, 6.0];
        let noise = with("opening_s", five(), [&base, &[6.0, 9.5, 5.0, 8.5, 7.0]]);
        assert!(judged_by("opening_s>1.05x", noise).is_met());
        let slower = with("opening_s", five(), [&base, &base.map(|s| s * 3.0)]);
        assert!(!judged_by("opening_s>1.05x", slower).is_met());
    }

    #[test]
    fn a_ratio_to_nothing_or_of_values_below_zero_is_withheld() {
        let one = || [side("a", &[1.0]), side("b", &[1.0])];
        let judged = |values: [f64; 2]| {
            judged_by("frames_lost>1.1x", with("frames_lost", one(), [&values[..1], &values[1..]]))
        };
        assert!(judged([0.0, 0.0]).is_met());
        assert!(judged([5.0, 0.0]).is_met(), "zero times as many");
        let worse = judged([0.0, 5.0]);
        assert!(!worse.is_met(), "{worse:?}");
        assert!(worse.line.ends_with("there is no ratio of 5 to 0, cannot tell"), "{worse:?}");
        assert!(!judged([-2.0, -6.0]).is_met());
        let zeros = with("frames_lost", one(), [&[-2.0], &[6.0]]);
        let row = &Comparison::new(zeros).rows[1];
        assert_eq!((row.name.as_str(), row.ratio_of_medians()), ("frames_lost", None));
    }

    #[test]
    fn runs_without_a_value_are_counted_and_give_the_reason_of_their_side() {
        let [mut first, second] = [side("a", &[1.0; 5]), side("b", &[2.0; 5])];
        first[2].report.withhold("server_cpu_s_per_gb", "it was late");
        let judged = judged_by("server_cpu_s_per_gb>1.1x", [first.clone(), second.clone()]);
        assert!(judged.line.ends_with(", 4 of 5 and 5 of 5 runs have it"), "{judged:?}");
        let [mut third, mut fourth] = [first, second];
        for run in &mut fourth {
            run.report.withhold("server_cpu_s_per_gb", "it had no pid");
        }
        third[2].report.withhold("server_cpu_s_per_gb", "it was late");
        let judged = judged_by("server_cpu_s_per_gb>1.1x", [third, fourth]);
        assert!(judged.line.ends_with("is withheld: it had no pid"), "{judged:?}");
    }

    #[test]
    fn a_bound_on_a_ratio_is_missed_only_beyond_the_noise() {
        let judged = |text: &str, first: &[f64], second: &[f64]| {
            judged_by(text, [side("a", first), side("b", second)])
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
