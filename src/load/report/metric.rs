//! The table of everything that a report measures: names, units, directions, and conditions.
//!
//! Owns the types of a row and the lookup. The rows are in [`METRICS`]. Whatever prints, compares,
//! judges, withholds or documents a figure asks this table, so a metric is defined in one place.
//!
//! # How a metric is added
//!
//! 1. Add a row to [`METRICS`]: name, unit, commands, and a noun phrase for the manual. The
//!    functions `lower`, `higher` and `plain` say which direction is better; `durations` and
//!    `series` are the other forms. A `*` in a name stands for words that the run supplies, such as
//!    the reason of a failure.
//! 2. Chain what differs from a count of the command: `.worst()` for a quotient or a maximum, which
//!    processes that share the work must not add up; `.needs(..)` for what has to be true for the
//!    value to mean something; `.group(..)` if it describes the server, the machine, the generator
//!    or a failure.
//! 3. Report it: `report.add_figure(Figure::new(NAME, value))`, `Distribution::new(NAME)` or
//!    `Series::new(NAME)`. A name without a row is a bug, and a debug build panics.
//! 4. Run `tests/run manual`, which writes the table of the manual.
//!
//! Figures withheld because of a lagging generator or an early end need no list: the measurement
//! withholds every metric whose row [`Need`]s what was missing.

use serde::{Deserialize, Serialize};

use super::metric_table::{MAIN_DISTRIBUTIONS, METRICS};
use super::quantity::MetricUnit;
use crate::load::connection::Reason;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Name in snake case, with the unit last, as in reports and thresholds. A `*` stands for words
    /// that the run supplies.
    pub name: &'static str,
    /// Form of the values.
    pub kind: MetricKind,
    /// Unit of the values.
    pub unit: MetricUnit,
    /// Which direction is an improvement.
    pub better: Better,
    /// How values of several processes are combined.
    pub combine: Combine,
    /// What the metric describes.
    pub group: MetricGroup,
    /// What has to be true for a value to be valid.
    pub needs: &'static [Need],
    /// The commands whose reports may have it.
    pub commands: &'static [&'static str],
    /// A noun phrase for the manual.
    pub meaning: &'static str,
}

/// Form of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A single number.
    Figure,
    /// Durations of events, of which the quantiles are figures.
    Distribution,
    /// A value over the time of the run.
    Series,
}

/// What a metric describes. Tables list the groups in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricGroup {
    /// The result of the command.
    Result,
    /// Why connections failed.
    Failure,
    /// The cost to the server process.
    Server,
    /// The busy time of the machine.
    Machine,
    /// The load generator itself. Such a figure says nothing about the server.
    Generator,
}

/// A condition for a metric to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The pid of the server, so that its process can be observed.
    ServerPid,
    /// A generator that kept its schedule while it measured.
    Punctuality,
    /// A generator that kept its schedule while players joined.
    PunctualJoining,
    /// A window that has opened.
    OpenWindow,
    /// A run that lasted as long as planned.
    WholeRun,
    /// An event of this kind. A report without the figure had none, so thresholds read zero.
    Occurrence,
}

/// Which direction of a figure is an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Less is better: a cost, a delay, a loss.
    Lower,
    /// More is better: a rate.
    Higher,
    /// It only describes the run.
    Neither,
}

/// How the values of several processes are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Add them: counts, and rates of processes that run in parallel.
    Sum,
    /// Take the largest: the worst value if lower is better.
    Max,
    /// Take the smallest: the worst value if higher is better.
    Min,
}

/// A quantile of a distribution that is a figure of the report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// Name in figures, such as `p99`.
    pub name: &'static str,
    /// Heading of its column.
    pub heading: &'static str,
    /// Share of the values that are at most this large.
    pub share: f64,
}

/// The quantiles of each distribution.
pub const QUANTILES: [Quantile; 6] = [
    Quantile { name: "p50", heading: "p50", share: 0.5 },
    Quantile { name: "p90", heading: "p90", share: 0.9 },
    Quantile { name: "p95", heading: "p95", share: 0.95 },
    Quantile { name: "p99", heading: "p99", share: 0.99 },
    Quantile { name: "p999", heading: "p99.9", share: 0.999 },
    Quantile { name: "max", heading: "max", share: 1.0 },
];

/// The family of failures of sessions.
const SESSIONS_FAILED: &str = "failed_*";
/// The failure of a session that had reached its stage and that the server was to close.
pub(in crate::load) const NOT_CLOSED: &str = "not_closed_by_server";
/// Suffix of the quantiles of a distribution.
const QUANTILE_UNIT: &str = "_ms";

impl Metric {
    /// Creates the row of a count that adds up over processes.
    const fn of(
        better: Better,
        name: &'static str,
        unit: MetricUnit,
        commands: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            kind: MetricKind::Figure,
            unit,
            better,
            combine: Combine::Sum,
            group: MetricGroup::Result,
            needs: &[],
            commands,
            meaning,
        }
    }

    /// Makes the worst value represent all processes, because it does not add up.
    pub(super) const fn worst(self) -> Self {
        let combine =
            if matches!(self.better, Better::Higher) { Combine::Min } else { Combine::Max };
        Self { combine, ..self }
    }

    /// Sets what has to be true for a value to be valid.
    pub(super) const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// Sets what the metric describes.
    pub(super) const fn group(self, group: MetricGroup) -> Self {
        Self { group, ..self }
    }

    /// Returns the row of a figure. The quantiles of a distribution have its row, and those of the
    /// main distribution of a command are also known without its name.
    pub fn of_figure(name: &str) -> Option<&'static Self> {
        let distribution = || {
            let (distribution, quantile) = name.strip_suffix(QUANTILE_UNIT)?.rsplit_once('_')?;
            let is_quantile = QUANTILES.iter().any(|known| known.name == quantile);
            is_quantile.then(|| Self::find(MetricKind::Distribution, distribution))?
        };
        let main = || Self::is_main_quantile(name).then_some(&MAIN_DISTRIBUTION);
        Self::find(MetricKind::Figure, name).or_else(distribution).or_else(main)
    }

    /// Returns the row of a distribution.
    pub fn of_distribution(name: &str) -> Option<&'static Self> {
        Self::find(MetricKind::Distribution, name)
    }

    /// Returns the row of a series.
    pub fn of_series(name: &str) -> Option<&'static Self> {
        Self::find(MetricKind::Series, name)
    }

    /// Returns the distribution whose quantiles are figures of `command` without its name, such as
    /// `p99_ms`.
    pub(super) fn main_distribution_of(command: &str) -> Option<&'static str> {
        let main = MAIN_DISTRIBUTIONS.iter().find(|(known, _)| *known == command);
        main.map(|(_, distribution)| *distribution)
    }

    fn find(kind: MetricKind, name: &str) -> Option<&'static Self> {
        let mut rows = METRICS.iter().filter(|metric| metric.kind == kind);
        rows.find(|metric| metric.is_called(name))
    }

    /// Returns whether `name` is a quantile of the main distribution, such as `p99_ms`.
    fn is_main_quantile(name: &str) -> bool {
        let quantile = name.strip_suffix(QUANTILE_UNIT);
        quantile.is_some_and(|name| QUANTILES.iter().any(|known| known.name == name))
    }

    /// Returns whether the row describes what is called `name`.
    fn is_called(&self, name: &str) -> bool {
        self.name == name && !self.name.contains('*') || self.words_of(name).is_some()
    }

    /// Returns the words that stand in `name` for the `*` of the row.
    pub(super) fn words_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (before, after) = self.name.split_once('*')?;
        let words = name.strip_prefix(before)?.strip_suffix(after)?;
        Some(words).filter(|words| !words.is_empty())
    }

    /// Returns whether a report can have these words for the `*`. Failures have a closed list, so
    /// that a misspelt one is not taken for one that never happened.
    pub(super) fn may_have_words(&self, words: &str) -> bool {
        self.group != MetricGroup::Failure || self.failures().any(|known| known == words)
    }

    /// Returns the words of a family of failures.
    fn failures(&self) -> impl Iterator<Item = &'static str> {
        let of_sessions = (self.name == SESSIONS_FAILED).then_some(NOT_CLOSED);
        Reason::FAILURES.into_iter().chain(of_sessions)
    }

    /// Returns the names of the figures of this row.
    fn names(&self) -> Vec<String> {
        let is_family = self.group == MetricGroup::Failure && self.name.contains('*');
        match self.kind {
            MetricKind::Figure if is_family => {
                self.failures().map(|words| self.name.replace('*', words)).collect()
            }
            MetricKind::Figure => vec![self.name.to_owned()],
            MetricKind::Series => Vec::new(),
            MetricKind::Distribution => {
                QUANTILES.iter().map(|quantile| quantile.of(self.name)).collect()
            }
        }
    }

    /// Returns whether the values are valid only if `need` is met.
    pub fn needs_that(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }

    /// Returns the names of the figures that a report of `command` may have: single figures, and
    /// the quantiles of its distributions.
    pub fn figures_of(command: &str) -> Vec<String> {
        let rows = METRICS.iter().filter(|metric| metric.commands.contains(&command));
        rows.flat_map(Self::names).collect()
    }
}

/// Stands for the quantiles of the main distribution of a command, whichever that is.
static MAIN_DISTRIBUTION: Metric = Metric {
    kind: MetricKind::Distribution,
    ..lower("", MetricUnit::Ms, super::metric_table::MEASURED, "the main distribution")
};

impl Quantile {
    /// Returns the name of this quantile of a distribution, such as `latency_p99_ms`.
    pub fn of(&self, distribution: &str) -> String {
        format!("{distribution}_{}{QUANTILE_UNIT}", self.name)
    }
}

/// Creates the row of a figure that is better if it is lower.
pub(super) const fn lower(
    name: &'static str,
    unit: MetricUnit,
    commands: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric::of(Better::Lower, name, unit, commands, meaning)
}

/// Creates the row of a figure that is better if it is higher.
pub(super) const fn higher(
    name: &'static str,
    unit: MetricUnit,
    commands: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric::of(Better::Higher, name, unit, commands, meaning)
}

/// Creates the row of a figure that only describes the run.
pub(super) const fn plain(
    name: &'static str,
    unit: MetricUnit,
    commands: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric::of(Better::Neither, name, unit, commands, meaning)
}

/// Creates the row of a distribution of durations.
pub(super) const fn durations(
    name: &'static str,
    commands: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    let row = lower(name, MetricUnit::Ms, commands, meaning);
    Metric { kind: MetricKind::Distribution, ..row }
}

/// Creates the row of a series.
pub(super) const fn series(
    name: &'static str,
    unit: MetricUnit,
    commands: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    let row = plain(name, unit, commands, meaning);
    Metric { kind: MetricKind::Series, ..row }
}

#[cfg(test)]
mod tests {
    use clap::Subcommand;

    use super::*;
    use crate::load::subcommand::LoadCommand;

    #[test]
    fn each_measurement_has_a_main_distribution_that_it_measures() {
        for command in super::super::metric_table::MEASURED {
            let main = Metric::main_distribution_of(command).expect(command);
            let metric = Metric::of_distribution(main).expect(main);
            assert!(metric.commands.contains(command), "{command}: {main}");
            assert_ne!(metric.group, MetricGroup::Generator, "{command}");
        }
    }

    fn name_of(figure: &str) -> Option<&'static str> {
        Metric::of_figure(figure).map(|metric| metric.name)
    }

    #[test]
    fn a_figure_is_found_by_its_name_its_family_or_its_distribution() {
        for (figure, row) in [
            ("frames_lost", Some("frames_lost")),
            ("failed_timeout", Some("failed_*")),
            ("failed_", None),
            ("players_failed_reset", Some("players_failed_*")),
            ("machine_core12_busy_s", Some("machine_core*_busy_s")),
            ("machine_core0_busy_s_per_gb", Some("machine_core*_busy_s_per_gb")),
            ("latency_p99_ms", Some("latency")),
            ("first_frame_after_play_max_ms", Some("first_frame_after_play")),
            ("latency_p98_ms", None),
            ("latency", None),
            ("p95_ms", Some("")),
            ("p95_us", None),
            ("frames_lots", None),
        ] {
            assert_eq!(name_of(figure), row, "{figure}");
        }
        assert_eq!(Metric::of_series("server_cpu").unwrap().unit, MetricUnit::Percent);
        assert_eq!(Metric::of_series("latency"), None);
    }

    #[test]
    fn rows_are_unique_and_name_commands_that_exist() {
        let program = LoadCommand::augment_subcommands(clap::Command::new("load"));
        for (index, metric) in METRICS.iter().enumerate() {
            let same = METRICS[..index]
                .iter()
                .find(|known| (known.kind, known.name) == (metric.kind, metric.name));
            assert_eq!(same, None);
            assert!(!metric.commands.is_empty(), "{}", metric.name);
            for command in metric.commands {
                assert!(program.find_subcommand(command).is_some(), "{command}");
            }
            assert!(!metric.meaning.is_empty() && !metric.meaning.ends_with('.'), "{metric:?}");
        }
    }

    #[test]
    fn the_name_of_a_figure_ends_with_its_unit() {
        for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Figure) {
            let endings: &[&str] = match metric.unit {
                MetricUnit::Count => continue,
                MetricUnit::PerS => &["_per_s"],
                MetricUnit::Us => &["_us", "_us_per_session"],
                MetricUnit::Ms => &["_ms"],
                MetricUnit::S => &["_s"],
                MetricUnit::SPerGb => &["_s_per_gb"],
                MetricUnit::Bytes => &["_bytes", "_bytes_max", "_bytes_per_session"],
                MetricUnit::BitPerS => &["_bit_per_s", "_bits_per_s"],
                MetricUnit::Share => &["_share"],
                MetricUnit::Percent => &["_percent"],
            };
            let is_last = endings.iter().any(|ending| metric.name.ends_with(ending));
            assert!(is_last, "{}: {:?}", metric.name, metric.unit);
        }
    }

    #[test]
    fn the_worst_value_depends_on_the_direction() {
        let unit = MetricUnit::Count;
        assert_eq!(lower("a", unit, &["idle"], "a").worst().combine, Combine::Max);
        assert_eq!(higher("a", unit, &["idle"], "a").worst().combine, Combine::Min);
        assert_eq!(lower("a", unit, &["idle"], "a").combine, Combine::Sum);
    }

    #[test]
    fn figures_of_a_command_include_the_quantiles_of_its_distributions() {
        let names = Metric::figures_of("ingest");
        for name in ["accepted_share", "write_delay_p95_ms", "server_cpu_s"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert!(!names.iter().any(|name| name == "frames_lost" || name == "server_cpu"));
    }
}
