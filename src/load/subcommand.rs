//! The commands of the load generator, and the verdict on their results.
//!
//! Owns the list of commands, their help and the judgement of a report. Each command defines what
//! it measures.

use clap::Subcommand;

use super::LoadError;
use super::churn::Churn;
use super::compare::Compare;
use super::floor::Floor;
use super::help;
use super::idle::Idle;
use super::options::Outputs;
use super::play::PlayCommand;
use super::processes::{self, Sharing};
use super::publish::PublishCommand;
use super::report::{JudgedThreshold, LoadReport, Threshold};
use super::streams::fanout::Fanout;
use super::streams::ingest::Ingest;

/// A command of `tiderace load`.
#[derive(Clone, Debug, Subcommand)]
pub enum LoadCommand {
    /// Open many sessions, bring each to a stage, and hold them.
    #[command(after_long_help = help::IDLE)]
    Idle(Idle),
    /// Open sessions at a rate, bring each to a stage, and close it.
    #[command(after_long_help = help::CHURN)]
    Churn(Churn),
    /// Publish streams, play each many times, and check every frame.
    ///
    /// The latency of a frame is measured from its intended time to the time a player has read it,
    /// so neither a stalled server nor a full socket can hide it. A frame counts as lost if it has
    /// not arrived two seconds after the end of the measurement, even if the server skipped it on
    /// purpose for a slow player. The first frame of a player is its first keyframe.
    #[command(after_long_help = help::FANOUT)]
    Fanout(Fanout),
    /// Publish streams that have no players, and measure how much the server takes.
    ///
    /// A frame is accepted if the kernel has taken all of it before the measurement ends. The
    /// kernel buffers some megabytes for a server that does not read, so the report also shows how
    /// many bytes the server itself acknowledged and how late, if it sends acknowledgements.
    #[command(after_long_help = help::INGEST)]
    Ingest(Ingest),
    /// Compare two reports, or several of each of two sides.
    ///
    /// The same program differs from run to run. With several runs a side, the table shows of each
    /// figure whether the difference is larger than this noise. Four a side can judge a threshold,
    /// and about seven find a single figure of the table.
    #[command(after_long_help = help::COMPARE)]
    Compare(Compare),
    /// Relay length-prefixed frames at the cost of the kernel alone: the floor for any server.
    #[command(after_long_help = help::FLOOR)]
    Floor(Floor),
    /// Play one stream and measure it in detail.
    #[command(after_long_help = help::PLAY)]
    Play(PlayCommand),
    /// Publish one stream and measure it in detail.
    #[command(after_long_help = help::PUBLISH)]
    Publish(PublishCommand),
}

impl LoadCommand {
    /// Measures, writes the report to the requested outputs, and judges it.
    ///
    /// # Errors
    /// The reason why there is no measurement, or no report of one.
    pub fn run(&self) -> Result<Judgement, LoadError> {
        match self {
            Self::Idle(idle) => {
                deliver_share(idle.measure()?, &idle.sharing, &idle.options.outputs)
            }
            Self::Churn(churn) => {
                deliver_share(churn.measure()?, &churn.sharing, &churn.options.outputs)
            }
            Self::Fanout(fanout) => deliver(fanout.measure()?, &fanout.options.outputs),
            Self::Ingest(ingest) => deliver(ingest.measure()?, &ingest.options.outputs),
            Self::Compare(compare) => compare.run(),
            Self::Floor(floor) => floor.serve().map(|()| Judgement::default()),
            Self::Play(play) => deliver(play.measure()?, &play.options.outputs),
            Self::Publish(publish) => deliver(publish.measure()?, &publish.options.outputs),
        }
    }
}

/// Outcome of a measurement that took place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Outcome in one word.
    pub verdict: LoadVerdict,
    /// Lines for standard error, in addition to the report.
    pub lines: Vec<String>,
}

/// Outcome as a script sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadVerdict {
    /// The figures are reliable and meet all thresholds.
    #[default]
    Good,
    /// The generator lost its schedule, so the run was ended early and no figure is valid.
    Overloaded,
    /// The generator did not keep up, so figures are withheld.
    Lagged,
    /// Too much of the load failed.
    Failed,
    /// A threshold was missed.
    Missed,
    /// The two sides cannot be compared.
    Incomparable,
}

impl Judgement {
    /// Concludes from all thresholds. The flaws of a run, the gravest first, outweigh missed
    /// thresholds, because the figures then do not describe the server.
    pub(super) fn of(thresholds: &[JudgedThreshold], flaws: &[(LoadVerdict, &str)]) -> Self {
        let missed = thresholds.iter().filter(|judged| !judged.is_met());
        let missed = missed.map(|judged| judged.line.clone());
        let flawed = flaws.iter().map(|(_, reason)| (*reason).to_owned());
        let lines: Vec<_> = flawed.chain(missed).collect();
        let verdict = match flaws.first() {
            Some((verdict, _)) => *verdict,
            None if lines.is_empty() => LoadVerdict::Good,
            None => LoadVerdict::Missed,
        };
        Self { verdict, lines }
    }
}

/// Delivers the report. A helper hands its report to the first process, which delivers the sum.
fn deliver_share(
    report: LoadReport,
    sharing: &Sharing,
    outputs: &Outputs,
) -> Result<Judgement, LoadError> {
    match sharing.helper {
        Some(_) => processes::hand_over(&report).map(|()| Judgement::default()),
        None => deliver(report, outputs),
    }
}

/// Judges the report and writes it with the verdicts.
fn deliver(mut report: LoadReport, outputs: &Outputs) -> Result<Judgement, LoadError> {
    let judged = judge(&outputs.fail_if, &report)?;
    report.thresholds.extend(judged);
    outputs.write(&report)?;
    Ok(Judgement::of(&report.thresholds, &flaws(&report)))
}

/// Judges those thresholds that the run itself has not judged.
fn judge(thresholds: &[Threshold], report: &LoadReport) -> Result<Vec<JudgedThreshold>, LoadError> {
    let is_open = |threshold: &&Threshold| {
        let text = threshold.to_string();
        !report.thresholds.iter().any(|judged| judged.threshold == text)
    };
    thresholds.iter().filter(is_open).map(|threshold| threshold.judge(report)).collect()
}

/// Returns the flaws of a run, the gravest first.
fn flaws(report: &LoadReport) -> Vec<(LoadVerdict, &str)> {
    let flaws = [
        (LoadVerdict::Overloaded, &report.overloaded),
        (LoadVerdict::Lagged, &report.lagged),
        (LoadVerdict::Failed, &report.failed),
    ];
    flaws.into_iter().filter_map(|(verdict, why)| Some((verdict, why.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::manifest::Manifest;
    use super::super::report::Figure;
    use super::*;

    fn judged(bounds: &[&str], lagged: Option<&str>) -> Result<Judgement, LoadError> {
        let mut report = LoadReport::new("idle", Manifest::new("h", BTreeMap::new()));
        report.lagged = lagged.map(str::to_owned);
        judged_report(bounds, report)
    }

    fn judged_report(bounds: &[&str], mut report: LoadReport) -> Result<Judgement, LoadError> {
        report.add_figure(Figure::new("sessions_failed", 3.0));
        let thresholds: Vec<_> =
            bounds.iter().map(|text| Threshold::of_figure(text).unwrap()).collect();
        Ok(Judgement::of(&judge(&thresholds, &report)?, &flaws(&report)))
    }

    #[test]
    fn every_missed_threshold_has_its_line_and_one_is_enough() {
        let outcome = |verdict, lines: &[&str]| Judgement {
            verdict,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(judged(&[], None).unwrap(), outcome(LoadVerdict::Good, &[]));
        assert_eq!(judged(&["sessions_failed>3"], None).unwrap(), outcome(LoadVerdict::Good, &[]));
        let (two, one) =
            ("sessions_failed>2: sessions_failed is 3", "sessions_failed>1: sessions_failed is 3");
        let missed =
            judged(&["sessions_failed>2", "sessions_failed>5", "sessions_failed>1"], None).unwrap();
        assert_eq!(missed, outcome(LoadVerdict::Missed, &[two, one]));
    }

    #[test]
    fn a_lagging_generator_outweighs_missed_thresholds() {
        let outcome = judged(&["sessions_failed>2"], Some("it was late")).unwrap();
        assert_eq!(outcome.verdict, LoadVerdict::Lagged);
        assert_eq!(outcome.lines, ["it was late", "sessions_failed>2: sessions_failed is 3"]);
        assert_eq!(judged(&[], Some("it was late")).unwrap().verdict, LoadVerdict::Lagged);
    }

    #[test]
    fn flaws_of_a_run_outweigh_each_other_and_all_of_them_are_told() {
        let mut report = LoadReport::new("idle", Manifest::new("h", BTreeMap::new()));
        report.failed = Some("all failed".to_owned());
        let failed = judged_report(&["sessions_failed>2"], report.clone()).unwrap();
        assert_eq!(failed.verdict, LoadVerdict::Failed);
        assert_eq!(failed.lines, ["all failed", "sessions_failed>2: sessions_failed is 3"]);
        report.lagged = Some("it was late".to_owned());
        let lagged = judged_report(&[], report.clone()).unwrap();
        assert_eq!(lagged.verdict, LoadVerdict::Lagged);
        report.overloaded = Some("too much".to_owned());
        let overloaded = judged_report(&[], report).unwrap();
        assert_eq!(overloaded.verdict, LoadVerdict::Overloaded);
        assert_eq!(overloaded.lines, ["too much", "it was late", "all failed"]);
    }

    #[test]
    fn a_threshold_of_an_unknown_figure_is_an_error() {
        let error = judged(&["sessions_fallen>2"], None).unwrap_err().to_string();
        let expected = "sessions_fallen>2: no such figure; the nearest are sessions_failed";
        assert_eq!(error, expected);
    }
}
