//! The report of one measurement: figures, distributions, series and doubts.
//!
//! Owns their names, the merging of reports of several processes, and the file format of a report.
//! It does not judge a figure: thresholds and comparisons do.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use super::metric::{Better, Combine, Metric, MetricGroup, Need};
use super::quantity::MetricUnit;
use super::step_table::LoadStep;
use super::threshold::JudgedThreshold;
use crate::load::manifest::Manifest;

/// The value of `format` in a report file.
const FORMAT: &str = "tiderace-load";
/// Format version. It changes when files of the previous version can no longer be read correctly.
const VERSION: u64 = 1;

/// The results of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The command: `idle`, `fanout`, ...
    pub command: String,
    /// The setup of the run.
    pub manifest: Manifest,
    /// Single numbers. The percentiles of the distributions are not included, see
    /// [`LoadReport::all_figures`].
    pub figures: Vec<Figure>,
    /// Distributions of durations. The percentiles of the main one of the command may be used
    /// without its name, see `main_distribution`.
    pub distributions: Vec<Distribution>,
    /// Values over the time of the run.
    pub series: Vec<Series>,
    /// The windows of a run with several numbers of players, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<LoadStep>,
    /// Results that are not numbers, by name: `video`, `server_status`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<String, String>,
    /// Reasons to doubt the figures.
    pub doubts: Vec<String>,
    /// The thresholds of the run with their verdicts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<JudgedThreshold>,
    /// Why the generator did not keep up, if so. Figures that depend on time are then withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lagged: Option<String>,
    /// Why the generator could not generate the load, if so. The run was then ended early, and no
    /// figure describes the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overloaded: Option<String>,
    /// Why the server failed the load, if so: too much of it was refused or lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl LoadReport {
    /// Creates a report without results.
    pub fn new(command: &str, manifest: Manifest) -> Self {
        Self {
            command: command.to_owned(),
            manifest,
            figures: Vec::new(),
            distributions: Vec::new(),
            series: Vec::new(),
            steps: Vec::new(),
            findings: BTreeMap::new(),
            doubts: Vec::new(),
            thresholds: Vec::new(),
            lagged: None,
            overloaded: None,
            failed: None,
        }
    }

    /// Adds a figure, or replaces the figure of the same name.
    pub fn add_figure(&mut self, figure: Figure) {
        match self.figures.iter_mut().find(|known| known.name == figure.name) {
            Some(known) => *known = figure,
            None => self.figures.push(figure),
        }
    }

    /// Adds a reason to doubt the figures, unless it is already there.
    pub fn add_doubt(&mut self, doubt: impl Into<String>) {
        let doubt = doubt.into();
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }

    /// Withholds everything called `name`. A figure keeps its line with the reason, a distribution
    /// loses its values and percentiles, and a series is removed.
    pub fn withhold(&mut self, name: &str, reason: &str) {
        for figure in self.figures.iter_mut().filter(|figure| figure.name == name) {
            figure.withhold(reason);
        }
        for distribution in self.distributions.iter_mut().filter(|known| known.name() == name) {
            distribution.withhold(reason);
        }
        self.series.retain(|series| series.name != name);
    }

    /// Withholds everything that is valid only if `need` is met.
    pub fn withhold_if_needs(&mut self, need: Need, reason: &str) {
        let is_invalid =
            |metric: Option<&Metric>| metric.is_some_and(|metric| metric.needs_that(need));
        for figure in &mut self.figures {
            if figure.value.is_some() && is_invalid(Metric::of_figure(&figure.name)) {
                figure.withhold(reason);
            }
        }
        for distribution in &mut self.distributions {
            if is_invalid(Metric::of_distribution(distribution.name())) {
                distribution.withhold(reason);
            }
        }
        self.series.retain(|series| !is_invalid(Metric::of_series(&series.name)));
    }

    /// Returns all figures: the single ones, then the percentiles of each distribution.
    pub fn all_figures(&self) -> Vec<Figure> {
        let percentiles = self.distributions.iter().flat_map(Distribution::figures);
        self.figures.iter().cloned().chain(percentiles).collect()
    }

    /// Returns the figure of this name. The percentiles of the main distribution are also found as
    /// `p99_ms`, and `p99.9` is read as `p999`.
    pub fn figure(&self, name: &str) -> Option<Figure> {
        let name = name.replace('.', "");
        let main = self.main_distribution().map(|main| format!("{main}_{name}"));
        let all = self.all_figures();
        let named = |name: &str| all.iter().find(|figure| figure.name == name).cloned();
        named(&name).or_else(|| main.as_deref().and_then(named))
    }

    /// Returns whether the figure is the busy time of a core that did next to nothing. Tables leave
    /// it out, because a machine may have a hundred of them.
    pub(super) fn is_idle_core(&self, figure: &Figure) -> bool {
        const SHOWN_SHARE_MIN: f64 = 0.01;
        let rest = figure.name.strip_prefix("machine_core").and_then(|rest| rest.split_once('_'));
        let all = rest.map(|(_, rest)| format!("machine_{rest}"));
        let all = self.figures.iter().find(|known| Some(&known.name) == all.as_ref());
        let busy = all.and_then(|all| all.value).zip(figure.value);
        busy.is_some_and(|(all, core)| core <= SHOWN_SHARE_MIN * all)
    }

    /// Returns the name of the main distribution of the command, whether or not anything was
    /// recorded. For a command of another version it is the first that is not of the generator.
    pub(super) fn main_distribution(&self) -> Option<&str> {
        let first = || {
            let is_own = |known: &&Distribution| known.group() == MetricGroup::Generator;
            self.distributions.iter().find(|known| !is_own(known)).map(Distribution::name)
        };
        Metric::main_distribution_of(&self.command).or_else(first)
    }

    /// Merges the report of another process that did a share of the same work.
    pub fn merge(&mut self, other: Self) -> Result<(), ReportError> {
        if self.command != other.command {
            return Err(ReportError::Disagree {
                what: "command".to_owned(),
                ours: self.command.clone(),
                theirs: other.command,
            });
        }
        self.manifest.merge(other.manifest)?;
        for figure in other.figures {
            match self.figures.iter_mut().find(|known| known.name == figure.name) {
                Some(known) => known.merge(figure),
                None => self.figures.push(figure),
            }
        }
        for distribution in other.distributions {
            match self.distributions.iter_mut().find(|known| known.name() == distribution.name()) {
                Some(known) => known.merge(distribution)?,
                None => self.distributions.push(distribution),
            }
        }
        for series in other.series {
            match self.series.iter_mut().find(|known| known.name == series.name) {
                Some(known) => known.merge(&series),
                None => self.series.push(series),
            }
        }
        for (name, finding) in other.findings {
            self.findings.entry(name).or_insert(finding);
        }
        other.doubts.into_iter().for_each(|doubt| self.add_doubt(doubt));
        self.lagged = self.lagged.take().or(other.lagged);
        self.overloaded = self.overloaded.take().or(other.overloaded);
        self.failed = self.failed.take().or(other.failed);
        Ok(())
    }

    /// Returns the report as the text of a file.
    pub fn to_json(&self) -> Result<String, ReportError> {
        let file = File { format: FORMAT.to_owned(), version: VERSION, report: self };
        let text = serde_json::to_string_pretty(&file);
        text.map(|text| text + "\n").map_err(|error| ReportError::Unwritable(error.to_string()))
    }

    /// Parses the text of a file. Format and version are checked before the contents.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        let head: Head = serde_json::from_str(text)
            .map_err(|error| ReportError::NotAReport(error.to_string()))?;
        if head.format != FORMAT {
            return Err(ReportError::NotAReport(format!("its format is {:?}", head.format)));
        }
        if head.version != VERSION {
            return Err(ReportError::Version(head.version));
        }
        let file: File<Self> =
            serde_json::from_str(text).map_err(|error| ReportError::Damaged(error.to_string()))?;
        Ok(file.report)
    }
}

/// The fields that identify a report file.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

/// A report file.
#[derive(Serialize, Deserialize)]
struct File<T> {
    format: String,
    version: u64,
    #[serde(flatten)]
    report: T,
}

/// One number of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Name in snake case, with the unit last: `connect_rate_per_s`, `resident_bytes_per_session`.
    pub name: String,
    /// The value, unless it is withheld.
    pub value: Option<f64>,
    /// Why the value is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
    /// Unit of the value. Files of earlier versions have none.
    #[serde(default)]
    unit: MetricUnit,
    /// Which direction is an improvement.
    pub better: Better,
    /// How values of several processes are combined.
    pub combine: Combine,
}

impl Figure {
    /// Creates a figure of a row of the table of metrics. A value that is not finite, such as a
    /// quotient by zero, is withheld.
    ///
    /// # Panics
    /// In a debug build, if the table has no such row.
    pub fn new(name: &str, value: f64) -> Self {
        let mut figure = Self::foreign(name, value);
        let metric = Metric::of_figure(name);
        debug_assert!(metric.is_some(), "the table of metrics has no {name}");
        if let Some(Metric { unit, better, combine, .. }) = metric {
            (figure.unit, figure.better, figure.combine) = (*unit, *better, *combine);
        }
        if !value.is_finite() {
            figure.withhold("the quotient is undefined: nothing was counted to divide by");
        }
        figure
    }

    /// Creates a count that only describes the run, for a program that adds figures of its own to a
    /// report. The table of metrics need not have it.
    pub fn foreign(name: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value),
            withheld: None,
            unit: MetricUnit::Count,
            better: Better::Neither,
            combine: Combine::Sum,
        }
    }

    /// Creates the figure of a quantile. The distribution may be from a file of another version,
    /// whose name the table does not have.
    pub(super) fn of_quantile(name: String, value: Option<f64>, reason: &str) -> Self {
        Self {
            name,
            value,
            withheld: value.is_none().then(|| reason.to_owned()),
            unit: MetricUnit::Ms,
            better: Better::Lower,
            combine: Combine::Max,
        }
    }

    /// Creates a figure that is withheld, with the reason.
    ///
    /// # Panics
    /// As for [`Figure::new`].
    pub fn withheld(name: &str, reason: &str) -> Self {
        let mut figure = Self::new(name, 0.0);
        figure.withhold(reason);
        figure
    }

    /// Returns the unit. The table knows it better than a file of an earlier version.
    pub fn unit(&self) -> MetricUnit {
        Metric::of_figure(&self.name).map_or(self.unit, |metric| metric.unit)
    }

    /// Returns what the figure describes.
    pub fn group(&self) -> MetricGroup {
        Metric::of_figure(&self.name).map_or(MetricGroup::Result, |metric| metric.group)
    }

    /// Withholds the value.
    pub fn withhold(&mut self, reason: &str) {
        self.value = None;
        self.withheld = Some(reason.to_owned());
    }

    /// Combines the values of two processes. If either is withheld, so is the result.
    fn merge(&mut self, other: Self) {
        match (self.value, other.value) {
            (Some(ours), Some(theirs)) => {
                self.value = Some(match self.combine {
                    Combine::Sum => ours + theirs,
                    Combine::Max => ours.max(theirs),
                    Combine::Min => ours.min(theirs),
                });
            }
            (Some(_), None) => {
                self.value = None;
                self.withheld = other.withheld;
            }
            (None, _) => {}
        }
    }
}

/// A value over the time of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in snake case, without the unit: `server_resident`, `sessions_open`.
    pub name: String,
    /// Unit of the values.
    pub unit: MetricUnit,
    /// Pairs of seconds since the start and value, in order of time.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Creates a series of a row of the table of metrics, without points.
    ///
    /// # Panics
    /// In a debug build, if the table has no such row.
    pub fn new(name: &str) -> Self {
        let metric = Metric::of_series(name);
        debug_assert!(metric.is_some(), "the table of metrics has no series {name}");
        let unit = metric.map_or(MetricUnit::Count, |metric| metric.unit);
        Self { name: name.to_owned(), unit, points: Vec::new() }
    }

    /// Returns what the series describes.
    pub fn group(&self) -> MetricGroup {
        Metric::of_series(&self.name).map_or(MetricGroup::Result, |metric| metric.group)
    }

    /// Adds a point. Points that are not finite or out of order are ignored.
    pub fn push(&mut self, at_s: f64, value: f64) {
        let is_next = self.points.last().is_none_or(|(last, _)| *last <= at_s);
        if at_s.is_finite() && value.is_finite() && is_next {
            self.points.push((at_s, value));
        }
    }

    /// Adds the values of another process.
    fn merge(&mut self, other: &Self) {
        let mut times: Vec<_> =
            self.points.iter().chain(&other.points).map(|(at_s, _)| *at_s).collect();
        times.sort_by(f64::total_cmp);
        times.dedup();
        let sum = times.into_iter().map(|at_s| (at_s, self.at(at_s) + other.at(at_s)));
        self.points = sum.collect();
    }

    /// Returns the value at a time. A state lasts until the next point. A rate is that of the time
    /// since the point before it, and nothing happens after the last point.
    fn at(&self, at_s: f64) -> f64 {
        let point = if self.is_rate() {
            self.points.get(self.points.partition_point(|(point, _)| *point < at_s))
        } else {
            self.points[..self.points.partition_point(|(point, _)| *point <= at_s)].last()
        };
        point.map_or(0.0, |(_, value)| *value)
    }

    const fn is_rate(&self) -> bool {
        matches!(self.unit, MetricUnit::PerS | MetricUnit::BitPerS | MetricUnit::Percent)
    }
}

/// Reason why a report cannot be read, written or merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportError {
    /// The text is not a report.
    NotAReport(String),
    /// The format version is not supported.
    Version(u64),
    /// The text is marked as a report, but its contents are invalid.
    Damaged(String),
    /// The report cannot be serialized.
    Unwritable(String),
    /// The reports of two processes are of different work.
    Disagree {
        /// The condition that differs.
        what: String,
        /// Its value in this report.
        ours: String,
        /// Its value in the other report.
        theirs: String,
    },
}

impl Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAReport(why) => {
                write!(f, "not a report of tiderace load: {why}; expected a file written by --json")
            }
            Self::Version(version) => write!(
                f,
                "report of format version {version}, expected {VERSION}: read it with the version \
                 of tiderace that wrote it"
            ),
            Self::Damaged(why) => write!(f, "damaged report: {why}"),
            Self::Unwritable(why) => write!(f, "report cannot be written: {why}"),
            Self::Disagree { what, ours, theirs } => {
                write!(
                    f,
                    "reports of different work: {what} is {ours} in one, {theirs} in the other"
                )
            }
        }
    }
}

impl std::error::Error for ReportError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::threshold::Threshold;
    use super::*;

    fn report() -> LoadReport {
        let parameters = BTreeMap::from([("players".to_owned(), "10".to_owned())]);
        let mut report =
            LoadReport::new("fanout", Manifest::new("rtmp://[::1]/live/a", parameters));
        report.add_figure(Figure::new("frames_lost", 3.0));
        report.add_figure(Figure::new("server_cpu_s_per_gb", 0.1 + 0.2));
        let mut latency = Distribution::new("latency");
        for value_us in 1..=1000 {
            latency.record(Duration::from_millis(value_us * 3), value_us * 10);
        }
        report.distributions.push(latency);
        report.distributions.push(Distribution::new("first_frame"));
        let mut series = Series::new("server_resident");
        series.push(0.0, 1.0e6);
        series.push(1.5, 1.0e6 / 3.0);
        report.series.push(series);
        let video = ("video".to_owned(), "H.264 1280x720".to_owned());
        report.findings.extend([video]);
        report.add_doubt("the server shares its core");
        report
    }

    fn value(report: &LoadReport, name: &str) -> Option<f64> {
        report.figure(name).unwrap_or_else(|| panic!("no {name}")).value
    }

    #[test]
    fn report_reads_back_as_it_was_written() {
        let mut withheld = report();
        withheld.withhold("server_cpu_s_per_gb", "nothing was delivered");
        withheld.withhold("latency", "the generator lagged");
        for report in [report(), withheld] {
            let text = report.to_json().unwrap();
            let read = LoadReport::from_json(&text).unwrap();
            assert_eq!(read.to_json().unwrap(), text);
            assert_eq!(read.all_figures(), report.all_figures());
            assert_eq!(read.series, report.series);
            assert_eq!(read.findings, report.findings);
            assert_eq!(read.manifest, report.manifest);
        }
    }

    #[test]
    fn file_has_percentiles_for_readers_without_histograms() {
        let text = report().to_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["format"], "tiderace-load");
        assert_eq!(json["version"], 1);
        assert_eq!(json["distributions"][0]["count"], 1000);
        assert_eq!(json["distributions"][0]["percentiles_ms"]["p50"], 5.003);
        assert_eq!(json["distributions"][0]["unit"], "us");
        assert!(text.contains("\"histogram\": \"HISTF"), "{text}");
    }

    #[test]
    fn file_of_something_else_or_of_another_version_is_refused_and_says_so() {
        for (text, expected) in [
            ("", "not a report of tiderace load: EOF"),
            ("{}", "not a report of tiderace load: missing field `format`"),
            (
                r#"{"format":"har","version":1}"#,
                r#"not a report of tiderace load: its format is "har""#,
            ),
            (
                r#"{"format":"tiderace-load","version":2}"#,
                "report of format version 2, expected 1: read it with",
            ),
            (r#"{"format":"tiderace-load","version":1}"#, "damaged report: missing field"),
        ] {
            let error = LoadReport::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn histogram_that_was_changed_is_refused() {
        let text = report().to_json().unwrap();
        let at = text.find("HISTF").unwrap();
        for damaged in [
            text.replacen("HISTF", "%ISTF", 1),
            text.replacen("HISTF", "HISTG", 1),
            format!("{}A{}", &text[..at + 40], &text[at + 60..]),
            text.replacen("\"unit\": \"us\"", "\"unit\": \"ms\"", 1),
        ] {
            let error = LoadReport::from_json(&damaged).unwrap_err();
            assert!(matches!(error, ReportError::Damaged(_)), "{error:?}");
        }
    }

    #[test]
    fn main_distribution_is_named_without_its_name() {
        let mut report = report();
        for name in ["p99_ms", "latency_p99_ms"] {
            assert_eq!(value(&report, name), Some(9.903));
        }
        assert_eq!(value(&report, "p99.9_ms"), value(&report, "latency_p999_ms"));
        assert_eq!(value(&report, "max_ms"), Some(10.007));
        assert_eq!(value(&report, "first_frame_p50_ms"), None);
        assert_eq!(report.figure("p98_ms"), None);
        report.withhold("latency", "the generator lagged");
        let figure = report.figure("p99_ms").unwrap();
        assert_eq!(
            (figure.value, figure.withheld.as_deref()),
            (None, Some("the generator lagged"))
        );
    }

    #[test]
    fn withheld_values_are_nowhere_in_the_file() {
        let mut report = report();
        report.withhold("latency", "the generator lagged");
        report.withhold("server_resident", "not measured");
        let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        assert_eq!(json["distributions"][0]["count"], 0);
        assert_eq!(json["distributions"][0]["intervals"], serde_json::json!([]));
        assert_eq!(json["series"], serde_json::json!([]));
    }

    #[test]
    fn figures_of_processes_add_up_or_the_worst_stands_for_all() {
        let figures = |lost, cpu, rate| {
            let mut report = LoadReport::new("churn", Manifest::new("h", BTreeMap::new()));
            report.add_figure(Figure::new("frames_lost", lost));
            report.add_figure(Figure::new("server_cpu_s", cpu));
            report.add_figure(Figure::new("accepted_share", rate));
            report
        };
        let mut sum = figures(1.0, 2.0, 3.0);
        sum.merge(figures(10.0, 1.5, 2.5)).unwrap();
        let values =
            ["frames_lost", "server_cpu_s", "accepted_share"].map(|name| value(&sum, name));
        assert_eq!(values, [Some(11.0), Some(2.0), Some(2.5)]);
        sum.merge(figures(f64::NAN, 9.0, 9.0)).unwrap();
        let values =
            ["frames_lost", "server_cpu_s", "accepted_share"].map(|name| value(&sum, name));
        assert_eq!(values, [None, Some(9.0), Some(2.5)]);
        let why = "the quotient is undefined: nothing was counted to divide by";
        assert_eq!(sum.figure("frames_lost").unwrap().withheld.as_deref(), Some(why));
    }

    #[test]
    fn one_process_that_lagged_is_enough() {
        let mut sum = report();
        let mut lagged = report();
        lagged.lagged = Some("it was late".to_owned());
        lagged.overloaded = Some("it could not keep its schedule".to_owned());
        sum.merge(lagged.clone()).unwrap();
        assert_eq!(sum.lagged, lagged.lagged);
        sum.merge(report()).unwrap();
        let read = LoadReport::from_json(&sum.to_json().unwrap()).unwrap();
        assert_eq!((read.lagged, read.overloaded), (lagged.lagged, lagged.overloaded));
    }

    #[test]
    fn doubts_are_reported_once() {
        let mut sum = report();
        let mut other = report();
        other.add_doubt("the clock jumped");
        sum.merge(other).unwrap();
        assert_eq!(sum.doubts, ["the server shares its core", "the clock jumped"]);
    }

    #[test]
    fn series_of_processes_add_up_over_time() {
        let series = |points: &[(f64, f64)]| {
            let mut series = Series::new("sessions");
            points.iter().for_each(|(at_s, value)| series.push(*at_s, *value));
            series
        };
        let mut sum = series(&[(0.0, 1.0), (1.0, 2.0), (3.0, 4.0)]);
        sum.merge(&series(&[(0.5, 10.0), (1.0, 20.0), (4.0, 0.0)]));
        let points = [(0.0, 1.0), (0.5, 11.0), (1.0, 22.0), (3.0, 24.0), (4.0, 4.0)];
        assert_eq!(sum.points, points);
    }

    /// Three events until 1.0 and 2.0 each, and twelve from 0.5 to 1.5, are 18 in all.
    #[test]
    fn rates_of_processes_add_up_to_what_happened() {
        let series = |points: &[(f64, f64)]| {
            let mut series = Series::new("failures");
            points.iter().for_each(|(at_s, value)| series.push(*at_s, *value));
            series
        };
        let mut sum = series(&[(1.0, 3.0), (2.0, 3.0)]);
        sum.merge(&series(&[(0.5, 0.0), (1.5, 12.0)]));
        assert_eq!(sum.points, [(0.5, 3.0), (1.0, 15.0), (1.5, 15.0), (2.0, 3.0)]);
        let total = sum.points.iter().map(|(_, rate)| 0.5 * rate).sum::<f64>();
        assert_eq!(total, 18.0);
    }

    #[test]
    fn percentiles_without_a_name_are_never_those_of_the_generator() {
        let mut play = LoadReport::new("play", Manifest::new("h", BTreeMap::new()));
        let mut lateness = Distribution::new("lateness");
        lateness.record(Duration::ZERO, 10);
        play.distributions.push(lateness);
        assert_eq!(play.figure("p99_ms"), None);
        let threshold = Threshold::of_figure("p99_ms>20").unwrap();
        assert!(!threshold.judge(&play).unwrap().is_met());
        let mut idle = LoadReport { command: "idle".to_owned(), ..play.clone() };
        let mut tcp = Distribution::new("tcp");
        tcp.record(Duration::ZERO, 10);
        idle.distributions.insert(0, tcp);
        assert!(!threshold.judge(&idle).unwrap().is_met(), "no session reached its stage");
        let other = LoadReport { command: "of-another-version".to_owned(), ..play };
        assert_eq!(other.figure("p99_ms"), None);
    }

    #[test]
    fn a_core_is_idle_by_its_share_of_all_of_them() {
        let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        for (name, value) in [
            ("machine_busy_s", 10.0),
            ("machine_core0_busy_s", 9.8),
            ("machine_core1_busy_s", 0.1),
            ("machine_core2_busy_s", 0.11),
            ("machine_core3_busy_s_per_gb", 0.0),
        ] {
            report.add_figure(Figure::new(name, value));
        }
        let idle = report.figures.iter().filter(|figure| report.is_idle_core(figure));
        assert_eq!(idle.map(|figure| &figure.name).collect::<Vec<_>>(), ["machine_core1_busy_s"]);
        let table = super::super::terminal::table(&report);
        assert!(table.contains("core2_busy") && !table.contains("core1_busy"), "{table}");
    }

    #[test]
    fn invalid_points_are_left_out() {
        let mut series = Series::new("sessions");
        for point in [(0.0, 1.0), (2.0, f64::INFINITY), (f64::NAN, 1.0), (2.0, 2.0), (1.0, 3.0)] {
            series.push(point.0, point.1);
        }
        assert_eq!(series.points, [(0.0, 1.0), (2.0, 2.0)]);
    }

    #[test]
    fn reports_of_different_work_are_not_added() {
        let mut other = report();
        other.command = "ingest".to_owned();
        let mut parameters = report();
        parameters.manifest.parameters.insert("players".to_owned(), "11".to_owned());
        let mut target = report();
        target.manifest.target = "rtmp://[::1]/other/…".to_owned();
        for (other, expected) in [
            (other, "reports of different work: command is fanout in one, ingest in the other"),
            (parameters, "reports of different work: --players is 10 in one, 11 in the other"),
            (
                target,
                "reports of different work: target is rtmp://[::1]/live/… in one, \
                 rtmp://[::1]/other/… in the other",
            ),
        ] {
            let mut sum = report();
            assert_eq!(sum.merge(other).unwrap_err().to_string(), expected);
            assert_eq!(sum.to_json(), report_like(&sum).to_json());
        }
    }

    /// The report of [`report`] with the start time of another.
    fn report_like(other: &LoadReport) -> LoadReport {
        let mut report = report();
        report.manifest.started_utc.clone_from(&other.manifest.started_utc);
        report
    }
}
