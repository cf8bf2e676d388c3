//! Thresholds: `p99_ms>20`, or for two runs `p99_ms>1.1x`.
//!
//! Owns the syntax of a threshold and its judgement. Figures without a threshold are not judged.

use std::fmt::{self, Display};

use super::layout::harmless;
use super::model::{Figure, LoadReport};
use super::quantity::number;
use crate::load::LoadError;
use crate::text::edit_distance;

/// A bound on a figure, or on the ratio of a figure in two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    figure: String,
    operator: Operator,
    bound: f64,
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

impl Threshold {
    /// Parses a bound on a figure.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn of_figure(text: &str) -> Result<Self, String> {
        let expected = "expected a figure, one of > >= < <= and a number, such as 'p99_ms>20'";
        Self::parse(text, text).ok_or_else(|| expected.to_owned())
    }

    /// Parses a bound on the ratio of a figure in two runs.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn of_ratio(text: &str) -> Result<Self, String> {
        let expected = "expected a figure, one of > >= < <= and a ratio, such as 'p99_ms>1.1x'";
        let bound = text.trim_end().strip_suffix(RATIO);
        bound.and_then(|bound| Self::parse(text, bound)).ok_or_else(|| expected.to_owned())
    }

    fn parse(text: &str, bound: &str) -> Option<Self> {
        let at = bound.find(['<', '>'])?;
        let (figure, rest) = bound.split_at(at);
        let (sign, operator) = OPERATORS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
        let bound: f64 = rest[sign.len()..].trim().parse().ok()?;
        let figure = figure.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        (bound.is_finite() && !figure.is_empty() && figure.chars().all(is_name)).then(|| Self {
            text: text.trim().to_owned(),
            figure: figure.to_owned(),
            operator,
            bound,
        })
    }

    /// Judges a report. Returns one line with the value if the condition holds, that is, if the
    /// threshold was missed. A withheld figure counts as missed.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`].
    pub fn judge(&self, report: &LoadReport) -> Result<Option<String>, LoadError> {
        let figure = self.find(report)?;
        Ok(match figure.value {
            Some(value) if !self.holds(value) => None,
            Some(value) => Some(format!("{self}: {} is {}", figure.name, number(value))),
            None => Some(self.withheld(&figure)),
        })
    }

    /// Judges the ratio of a figure in two runs in the same way.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`].
    pub fn judge_ratio(
        &self,
        first: &LoadReport,
        second: &LoadReport,
    ) -> Result<Option<String>, LoadError> {
        let (ours, theirs) = (self.find(first)?, self.find(second)?);
        let (Some(first), Some(second)) = (ours.value, theirs.value) else {
            let missing = if ours.value.is_none() { ours } else { theirs };
            return Ok(Some(self.withheld(&missing)));
        };
        let ratio = ratio(first, second);
        Ok(self.holds(ratio).then(|| {
            let [first, second] = [first, second].map(number);
            format!("{self}: {} is {}x ({first} to {second})", ours.name, number(ratio))
        }))
    }

    fn find(&self, report: &LoadReport) -> Result<Figure, LoadError> {
        report.figure(&self.figure).ok_or_else(|| {
            let figures = report.all_figures();
            let mut near: Vec<_> = figures
                .into_iter()
                .map(|figure| (edit_distance(&self.figure, &figure.name), figure.name))
                .collect();
            near.sort();
            LoadError::UnknownFigure {
                threshold: self.text.clone(),
                near: near.into_iter().map(|(_, name)| harmless(&name)).take(NEAR_MAX).collect(),
            }
        })
    }

    fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::Above => value > self.bound,
            Operator::AtLeast => value >= self.bound,
            Operator::Below => value < self.bound,
            Operator::AtMost => value <= self.bound,
        }
    }

    fn withheld(&self, figure: &Figure) -> String {
        let reason = harmless(figure.withheld.as_deref().unwrap_or_default());
        format!("{self}: {} is withheld: {reason}", figure.name)
    }
}

/// Returns the ratio of the second value to the first. Equal values, even zeros, have the ratio 1.
pub(super) fn ratio(first: f64, second: f64) -> f64 {
    if first == second { 1.0 } else { second / first }
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

    fn judged(text: &str) -> Option<String> {
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
            ("p99.9_ms>1e3", false),
            ("failed_timeout>0", false),
        ] {
            assert_eq!(judged(text).is_some(), is_missed, "{text}");
        }
    }

    #[test]
    fn a_missed_threshold_is_one_line_with_the_value() {
        assert_eq!(judged("frames_lost>2").unwrap(), "frames_lost>2: frames_lost is 3");
        let line = judged("resident_bytes_per_session>512").unwrap();
        let expected = "resident_bytes_per_session>512: resident_bytes_per_session is withheld: \
                        no session rested";
        assert_eq!(line, expected);
        let mut report = sample::report();
        report.withhold("frames_lost", "a\nb");
        let line = Threshold::of_figure("frames_lost>2").unwrap().judge(&report).unwrap().unwrap();
        assert!(line.ends_with(r" is withheld: a\nb"), "{line}");
        let line = judged("first_frame_p50_ms>5").unwrap();
        assert!(line.ends_with("is withheld: nothing was recorded"), "{line}");
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
    }

    #[test]
    fn an_unknown_figure_is_answered_with_similar_names() {
        let threshold = Threshold::of_figure("latency_p98_ms>1").unwrap();
        let error = threshold.judge(&sample::report()).unwrap_err().to_string();
        let expected = "--fail-if latency_p98_ms>1: no such figure; the nearest are \
                        latency_p90_ms, latency_p99_ms, latency_p50_ms, latency_p999_ms, ";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn ratio_is_of_the_second_to_the_first() {
        let (first, mut second) = (sample::report(), sample::report());
        second.figures.iter_mut().for_each(|figure| figure.value = figure.value.map(|v| v * 1.5));
        let judged =
            |text: &str| Threshold::of_ratio(text).unwrap().judge_ratio(&first, &second).unwrap();
        let line = judged("frames_lost>1.4x").unwrap();
        assert_eq!(line, "frames_lost>1.4x: frames_lost is 1.5x (3 to 4.5)");
        assert_eq!(judged("frames_lost>1.5x"), None);
        assert_eq!(judged("p99_ms>1.0x"), None);
        assert_eq!(judged("failed_timeout>1x"), None, "zero to zero is the same");
        assert!(judged("resident_bytes_per_session>9x").unwrap().ends_with("no session rested"));
    }

    #[test]
    fn something_compared_to_nothing_is_beyond_every_ratio() {
        assert_eq!(ratio(0.0, 1.0), f64::INFINITY);
        assert_eq!(ratio(2.0, 1.0), 0.5);
    }
}
