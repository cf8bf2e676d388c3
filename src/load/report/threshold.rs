//! Thresholds: `p99_ms>20`, or for the two sides of a comparison `p99_ms>1.1x`.
//!
//! Owns the syntax of a threshold, its check before a run, and its judgement. Figures without a
//! threshold are not judged.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::layout::harmless;
use super::metric::{Metric, Need};
use super::model::{Figure, LoadReport};
use super::quantity::number;
use crate::load::LoadError;
use crate::text::edit_distance;

/// A bound on a figure, or on the ratio of a figure on two sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    figure: String,
    operator: Operator,
    /// The number as written, without its unit.
    bound: f64,
    /// The unit as written, or nothing.
    unit: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

const OPERATORS: [(&str, Operator); 4] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    (">", Operator::Above),
    ("<", Operator::Below),
];

/// Suffix of the bound of a ratio.
const RATIO: char = 'x';
/// Number of similar names suggested for an unknown one.
const NEAR_MAX: usize = 5;

/// A threshold with its verdict, as a report records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedThreshold {
    /// The threshold as written.
    pub threshold: String,
    /// The outcome.
    pub verdict: ThresholdVerdict,
    /// The value that decided, unless it is withheld.
    pub value: Option<f64>,
    /// The verdict in words, with figure and value.
    pub line: String,
}

/// Outcome of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdVerdict {
    /// The condition does not hold.
    Met,
    /// The condition holds.
    Missed,
    /// The figure has no value, which counts as missed.
    Withheld,
}

impl JudgedThreshold {
    /// Returns whether the threshold counts as met.
    pub fn is_met(&self) -> bool {
        self.verdict == ThresholdVerdict::Met
    }

    /// Makes the threshold met, whatever the value.
    pub(super) fn met(self) -> Self {
        Self { verdict: ThresholdVerdict::Met, ..self }
    }
}

impl Threshold {
    /// Parses a bound on a figure.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn of_figure(text: &str) -> Result<Self, String> {
        let expected = "expected a figure, one of > >= < <= and a number, such as 'p99_ms>20'";
        let threshold = Self::parse(text).filter(|threshold| !threshold.is_ratio());
        threshold.ok_or_else(|| expected.to_owned())
    }

    /// Parses a bound on the ratio of a figure on two sides.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn of_ratio(text: &str) -> Result<Self, String> {
        let expected = "expected a figure, one of > >= < <= and a ratio, such as 'p99_ms>1.1x'";
        let threshold = Self::parse(text).filter(Self::is_ratio);
        threshold.ok_or_else(|| expected.to_owned())
    }

    fn is_ratio(&self) -> bool {
        self.unit.chars().eq([RATIO])
    }

    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['<', '>'])?;
        let (figure, rest) = text.split_at(at);
        let (sign, operator) = OPERATORS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
        let (bound, unit) = number_and_unit(rest[sign.len()..].trim())?;
        let figure = figure.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let is_unit = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '%';
        let is_valid =
            !figure.is_empty() && figure.chars().all(is_name) && unit.chars().all(is_unit);
        is_valid.then(|| Self {
            text: text.trim().to_owned(),
            // A percentile may be written as people do, such as p99.9.
            figure: figure.replace('.', ""),
            operator,
            bound,
            unit: unit.to_owned(),
        })
    }

    /// Checks before a run of `command` that its report can have the figure, in this unit.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`] or [`LoadError::BadThreshold`].
    pub fn check(&self, command: &str, has_server_pid: bool) -> Result<(), LoadError> {
        let unknown = || self.unknown(Metric::figures_of(command).into_iter());
        let metric = Metric::of_figure(&self.figure).ok_or_else(unknown)?;
        if metric.words_of(&self.figure).is_some_and(|words| !metric.may_have_words(words)) {
            return Err(unknown());
        }
        let bad = |reason| LoadError::BadThreshold { threshold: self.text.clone(), reason };
        if !metric.commands.contains(&command) {
            let others = metric.commands.join(", ");
            return Err(bad(format!("load {command} does not measure this; {others} do")));
        }
        if metric.needs_that(Need::ServerPid) && !has_server_pid {
            return Err(bad("this figure needs --server-pid".to_owned()));
        }
        self.bound_in(metric).map(drop)
    }

    /// Judges a report. A figure without a value counts as missed.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`], or a unit that the figure does not have.
    pub fn judge(&self, report: &LoadReport) -> Result<JudgedThreshold, LoadError> {
        let bound = Metric::of_figure(&self.figure).map_or(Ok(self.bound), |m| self.bound_in(m))?;
        let figure = self.find(report)?;
        Ok(match figure.value {
            Some(value) => {
                self.judged(value, bound, format!("{} is {}", figure.name, number(value)))
            }
            None => self.withheld(&figure.name, figure.withheld.as_deref().unwrap_or_default()),
        })
    }

    /// Judges the ratio of a figure on the two sides of a comparison, with the value of each side
    /// and with how sure the difference is.
    pub(super) fn judge_ratio(
        &self,
        figure: &str,
        ratio: f64,
        [first, second]: [f64; 2],
        outcome: &str,
    ) -> JudgedThreshold {
        let [shown, first, second] = [ratio, first, second].map(number);
        let comma = if outcome.is_empty() { "" } else { ", " };
        let line = format!("{figure} is {shown}x ({first} to {second}){comma}{outcome}");
        self.judged(ratio, self.bound, line)
    }

    /// Judges a figure as of now that never falls, if no later value can meet the threshold.
    pub fn beyond_repair(&self, name: &str, value: f64) -> Option<JudgedThreshold> {
        let is_upper = matches!(self.operator, Operator::Above | Operator::AtLeast);
        if self.figure != name || !is_upper {
            return None;
        }
        let bound = self.bound_in(Metric::of_figure(name)?).ok()?;
        let line = format!("{name} is {}", number(value));
        self.holds(value, bound).then(|| self.judged(value, bound, line))
    }

    fn judged(&self, value: f64, bound: f64, line: String) -> JudgedThreshold {
        let is_missed = self.holds(value, bound);
        let verdict = if is_missed { ThresholdVerdict::Missed } else { ThresholdVerdict::Met };
        let line = format!("{self}: {line}");
        JudgedThreshold { threshold: self.text.clone(), verdict, value: Some(value), line }
    }

    /// Returns the bound in the unit of the figure.
    fn bound_in(&self, metric: &Metric) -> Result<f64, LoadError> {
        metric.unit.factor(&self.unit).map(|factor| self.bound * factor).ok_or_else(|| {
            let (expected, got) = (metric.unit.expected(), &self.unit);
            let reason = format!("expected {expected}, got one in {got}");
            LoadError::BadThreshold { threshold: self.text.clone(), reason }
        })
    }

    fn find(&self, report: &LoadReport) -> Result<Figure, LoadError> {
        if let Some(figure) = report.figure(&self.figure) {
            return Ok(figure);
        }
        let metric = Metric::of_figure(&self.figure);
        let metric = metric.filter(|metric| metric.commands.contains(&report.command.as_str()));
        match metric {
            Some(metric) if metric.needs_that(Need::Occurrence) => {
                Ok(Figure::new(&self.figure, 0.0))
            }
            Some(_) => Ok(Figure::withheld(&self.figure, "this run did not measure it")),
            None => Err(self.unknown(report.all_figures().into_iter().map(|figure| figure.name))),
        }
    }

    /// Returns the name of the figure as written, without dots.
    pub(super) fn figure(&self) -> &str {
        &self.figure
    }

    pub(super) fn unknown(&self, names: impl Iterator<Item = String>) -> LoadError {
        let mut near: Vec<_> =
            names.map(|name| (edit_distance(&self.figure, &name), name)).collect();
        near.sort();
        near.dedup();
        LoadError::UnknownFigure {
            threshold: self.text.clone(),
            near: near.into_iter().map(|(_, name)| harmless(&name)).take(NEAR_MAX).collect(),
        }
    }

    fn holds(&self, value: f64, bound: f64) -> bool {
        match self.operator {
            Operator::Above => value > bound,
            Operator::AtLeast => value >= bound,
            Operator::Below => value < bound,
            Operator::AtMost => value <= bound,
        }
    }

    pub(super) fn withheld(&self, figure: &str, reason: &str) -> JudgedThreshold {
        let reason = harmless(reason);
        JudgedThreshold {
            threshold: self.text.clone(),
            verdict: ThresholdVerdict::Withheld,
            value: None,
            line: format!("{self}: {figure} is withheld: {reason}"),
        }
    }
}

/// Splits a bound such as `20ms` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.char_indices().filter(|(_, c)| c.is_ascii_digit() || *c == '.');
    let end = end.map(|(at, _)| at + 1).rfind(|end| text[..*end].parse::<f64>().is_ok())?;
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim()))
}

impl Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn judged(text: &str) -> JudgedThreshold {
        Threshold::of_figure(text).unwrap().judge(&sample::report()).unwrap()
    }

    #[test]
    fn a_threshold_is_missed_if_its_condition_holds() {
        for (text, is_missed) in [
            ("frames_lost>2", true),
            ("frames_lost>3", false),
            ("frames_lost>=3", true),
            ("frames_lost >= 3.1", false),
            (" frames_lost<4", true),
            ("frames_lost<3", false),
            ("frames_lost<=3", true),
            ("frames_lost<=2.9", false),
            ("p50_ms>0.1", true),
            ("p50_ms>0.1ms", true),
            ("p95_ms>0.4", true),
            ("p99.9_ms>1e3", false),
            ("generator_cpu_share>24%", true),
            ("generator_cpu_share>0.26", false),
            ("delivered_bit_per_s<21 Mbit/s", true),
        ] {
            assert_eq!(!judged(text).is_met(), is_missed, "{text}");
        }
    }

    #[test]
    fn a_missed_threshold_is_one_line_with_the_value() {
        assert_eq!(judged("frames_lost>2").line, "frames_lost>2: frames_lost is 3");
        let line = judged("server_cpu_s>512").line;
        assert_eq!(line, "server_cpu_s>512: server_cpu_s is withheld: nobody looked");
        let mut report = sample::report();
        report.withhold("frames_lost", "a\nb");
        let judged_now = Threshold::of_figure("frames_lost>2").unwrap().judge(&report).unwrap();
        assert!(judged_now.line.ends_with(r" is withheld: a\nb"), "{judged_now:?}");
        assert_eq!(judged_now.verdict, ThresholdVerdict::Withheld);
        let line = judged("first_frame_p50_ms>5").line;
        assert!(line.ends_with("is withheld: nothing was recorded"), "{line}");
    }

    #[test]
    fn what_never_happened_is_zero_and_what_was_not_measured_is_missed() {
        assert!(judged("players_failed_reset>0").is_met());
        assert!(!judged("players_failed_timeout>0").is_met(), "the sample has two");
        let absent = judged("longest_gap_ms>5");
        assert_eq!(absent.verdict, ThresholdVerdict::Withheld);
        assert!(absent.line.ends_with("this run did not measure it"), "{absent:?}");
    }

    #[test]
    fn malformed_bounds_are_refused() {
        for text in ["", "p99_ms", "p99_ms>", ">20", "p99_ms=20", "p99_ms>x", "p99_ms>nan", "a b>1"]
        {
            assert!(Threshold::of_figure(text).is_err(), "{text}");
            assert!(Threshold::of_ratio(&format!("{text}x")).is_err(), "{text}x");
        }
        assert!(Threshold::of_figure("p99_ms>1.1x").is_err());
        assert!(Threshold::of_ratio("p99_ms>1.1").is_err());
        assert!(Threshold::of_figure("p99_ms>1e400").is_err());
    }

    #[test]
    fn only_an_upper_bound_is_ever_beyond_repair() {
        let broken = |text: &str, value| {
            let threshold = Threshold::of_figure(text).unwrap();
            threshold.beyond_repair("frames_corrupt", value).map(|judged| judged.line)
        };
        assert_eq!(broken("frames_corrupt>2", 2.0), None);
        let line = broken("frames_corrupt>2", 3.0);
        assert_eq!(line.as_deref(), Some("frames_corrupt>2: frames_corrupt is 3"));
        assert_eq!(broken("frames_corrupt<9", 3.0), None, "it may still grow");
        assert_eq!(broken("frames_lost>2", 3.0), None, "another figure");
    }

    #[test]
    fn a_threshold_is_checked_against_the_command_before_the_run() {
        let check = |text: &str, command: &str, has_pid| {
            let checked = Threshold::of_figure(text).unwrap().check(command, has_pid);
            checked.map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!(check("p99.9_ms>20", "idle", false), "");
        assert_eq!(check("failed_timeout>0", "churn", false), "");
        assert_eq!(check("failed_not_closed_by_server>0", "churn", false), "");
        assert_eq!(check("machine_core12_busy_s>9", "churn", true), "");
        assert_eq!(check("server_cpu_s>2s", "ingest", true), "");
        for (text, command, expected) in [
            ("latency_p98_ms>1", "fanout", "no such figure; the nearest are latency_p90_ms, "),
            ("failed_timeuot>0", "churn", "no such figure; the nearest are failed_timeout, "),
            (
                "players_failed_rset>0",
                "fanout",
                "no such figure; the nearest are players_failed_reset",
            ),
            ("players_failed_not_closed_by_server>0", "fanout", "no such figure; the nearest are "),
            ("stalls>0", "idle", "load idle does not measure this; fanout, play do"),
            ("server_cpu_s>1", "ingest", "this figure needs --server-pid"),
            ("p99_ms>20s", "fanout", "expected a number in ms, got one in s"),
            ("frames_lost>1%", "fanout", "expected a number without a unit, got one in %"),
        ] {
            let error = check(text, command, false);
            assert!(error.starts_with(&format!("{text}: {expected}")), "{error}");
        }
    }
}
