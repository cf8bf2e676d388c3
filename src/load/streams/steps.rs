//! Steps: one window after another, for a search for capacity, a ramp or a long run.
//!
//! Owns the flags of these, the judgement of a step, and what the report says about all of them.
//! [`search`](super::search) chooses the numbers of a search. This module opens no connection and
//! reads no clock.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::offer::one_or_more;
use super::search::{Capacity, CapacitySearch};
use crate::load::LoadError;
use crate::load::measured::Measured;
use crate::load::options::seconds;
use crate::load::own_delay;
use crate::load::report::{
    Figure, JudgedThreshold, LoadReport, LoadStep, Need, StepOutcome, Threshold, ThresholdVerdict,
};
use crate::time::Time;

/// Options of a run in steps.
#[derive(Clone, Debug, Args)]
pub struct StepOptions {
    /// Find the most players at which this condition holds, such as 'p99_ms<100'. May be repeated;
    /// then all must hold. A step also misses if a player fails or a frame is lost, unless a
    /// condition is about lost frames.
    #[arg(long, value_name = "CONDITION", value_parser = Threshold::of_figure)]
    pub search: Vec<Threshold>,
    /// Search up to this many players.
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        requires = "search",
        value_parser = one_or_more
    )]
    pub search_players_max: u32,
    /// Begin no further step of the search after this many seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "900",
        requires = "search",
        value_parser = seconds
    )]
    pub search_max_s: Duration,
    /// How close in percent the two ends of the result must be.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "5",
        requires = "search",
        value_parser = precision
    )]
    pub search_precision: f64,
    /// Measure a window with each of these numbers of players, one after another, such as
    /// 100,200,400,100.
    #[arg(
        long,
        value_name = "N,N,...",
        value_delimiter = ',',
        conflicts_with_all = ["search", "players"],
        value_parser = one_or_more
    )]
    pub ramp: Vec<u32>,
    /// Measure this many windows, one after another with the same players, for a long run.
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["search", "ramp"],
        value_parser = one_or_more
    )]
    pub windows: Option<u32>,
    /// Write each window of a search, a ramp or a long run to this file as a line of JSON, as soon
    /// as it is over.
    #[arg(long, value_name = "FILE")]
    pub jsonl: Option<PathBuf>,
}

/// Parses a precision in percent. Returns a share.
fn precision(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.1..=50.0).contains(percent));
    percent
        .map(|percent: f64| percent / 100.0)
        .ok_or_else(|| "expected a percentage from 0.1 to 50".to_owned())
}

impl StepOptions {
    /// Checks before the run that its report can meet the conditions of the search.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`] or [`LoadError::BadThreshold`].
    pub(super) fn check(&self, has_server_pid: bool) -> Result<(), LoadError> {
        self.search.iter().try_for_each(|condition| condition.check("fanout", has_server_pid))
    }

    /// Returns whether the run has steps.
    pub(super) fn are_given(&self) -> bool {
        let is_long = self.windows.is_some() || self.jsonl.is_some();
        is_long || !self.search.is_empty() || !self.ramp.is_empty()
    }

    /// Returns the largest number of players at once, if it is not that of `--players`.
    pub(super) fn players_max(&self) -> Option<u32> {
        match self.search.is_empty() {
            true => self.ramp.iter().copied().max(),
            false => Some(self.search_players_max),
        }
    }

    /// Returns the way to choose the numbers of players, the first of which is `players` unless the
    /// ramp has its own.
    fn course(&self, players: u32) -> Course {
        if !self.search.is_empty() {
            let (players_max, precision) = (self.search_players_max, self.search_precision);
            return Course::Search(CapacitySearch::new(players, players_max, precision));
        }
        match self.ramp.is_empty() {
            true => Course::Windows { players, left: self.windows.unwrap_or(1) },
            false => Course::Ramp(self.ramp.iter().copied().collect()),
        }
    }

    /// Returns the parameters for the manifest.
    pub(super) fn parameters(&self) -> BTreeMap<String, String> {
        let list = |values: Vec<String>, separator| values.join(separator);
        let mut parameters = BTreeMap::new();
        let mut add = |name: &str, value| parameters.insert(name.to_owned(), value);
        if !self.search.is_empty() {
            let conditions = self.search.iter().map(Threshold::to_string).collect();
            add("search", list(conditions, " "));
            add("search-players-max", self.search_players_max.to_string());
            add("search-max-s", self.search_max_s.as_secs_f64().to_string());
            add("search-precision", (self.search_precision * 100.0).to_string());
        }
        if !self.ramp.is_empty() {
            add("ramp", list(self.ramp.iter().map(u32::to_string).collect(), ","));
        }
        if let Some(windows) = self.windows {
            add("windows", windows.to_string());
        }
        parameters
    }
}

/// The window of a step.
#[derive(Debug)]
pub(super) struct StepWindow {
    /// The figures of the window, with all times as measured.
    pub(super) report: LoadReport,
    /// Measurements of the generator in the window.
    pub(super) measured: Measured,
    /// Start of the window.
    pub(super) from: Time,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Steps {
    course: Course,
    conditions: Vec<Threshold>,
    time_max: Duration,
    /// See [`Options::lateness_max_ms`](crate::load::options::Options::lateness_max_ms).
    lateness_max: Option<Duration>,
    taken: Vec<LoadStep>,
    /// The last window of each number of players in which the condition of a search held.
    held: BTreeMap<u32, StepWindow>,
    /// The window to report if none held: the last one, or the worst one of a long run.
    other: Option<StepWindow>,
    lines: Option<LineFile>,
    is_out_of_time: bool,
    /// Why the run ended before its steps were over.
    ended_early: Option<String>,
}

/// How the numbers of players are chosen.
#[derive(Debug)]
enum Course {
    /// The numbers left.
    Ramp(VecDeque<u32>),
    Search(CapacitySearch),
    /// The same number for each of the windows left.
    Windows {
        players: u32,
        left: u32,
    },
}

impl Steps {
    /// Creates the steps that `options` ask for. A search begins with `players`.
    ///
    /// # Errors
    /// [`LoadError::File`]: the file for the windows cannot be written.
    pub(super) fn new(
        options: &StepOptions,
        players: u32,
        lateness_max: Option<Duration>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            course: options.course(players),
            conditions: options.search.clone(),
            time_max: options.search_max_s,
            lateness_max,
            taken: Vec::new(),
            held: BTreeMap::new(),
            other: None,
            lines: options.jsonl.as_deref().map(LineFile::create).transpose()?,
            is_out_of_time: false,
            ended_early: None,
        })
    }

    /// Returns the longest time of all steps, given that of a step by its number of players.
    pub(super) fn duration_max(&self, of_step: impl Fn(u32) -> Duration) -> Duration {
        match &self.course {
            Course::Ramp(left) => left.iter().map(|players| of_step(*players)).sum(),
            Course::Windows { players, left } => of_step(*players).saturating_mul(*left),
            // The last step begins in time and may end after it.
            Course::Search(search) => self.time_max.saturating_add(of_step(search.players_max())),
        }
    }

    /// Returns whether the steps are those of a search.
    pub(super) const fn is_search(&self) -> bool {
        matches!(self.course, Course::Search(_))
    }

    /// Returns whether the window of a step has been noted.
    pub(super) const fn is_any_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Notes that the run ended before its steps were over.
    pub(super) fn end_early(&mut self, reason: String) {
        self.ended_early = Some(format!("the run ended before its time was over: {reason}"));
    }

    /// Returns the number of players of the current step, or `None` when all steps are done.
    pub(super) fn players(&self) -> Option<u32> {
        match &self.course {
            Course::Ramp(left) => left.front().copied(),
            Course::Windows { players, left } => (*left > 0).then_some(*players),
            Course::Search(search) => search.next().filter(|_| !self.is_out_of_time),
        }
    }

    /// Notes the window of the current step, `elapsed` since the start of the run.
    ///
    /// # Errors
    /// [`LoadError::UnknownFigure`]: the condition names none. [`LoadError::File`]: the line of the
    /// window cannot be written.
    pub(super) fn note(
        &mut self,
        mut window: StepWindow,
        elapsed: Duration,
    ) -> Result<(), LoadError> {
        let Some(players) = self.players() else { return Ok(()) };
        let from_s = window.from.since(window.measured.began).as_secs_f64();
        let mut step = LoadStep::of(&window.report, players, from_s);
        // The generator's own delays only add to a time. What holds as measured holds without them.
        let holds = hold(&self.conditions, &window.report)?;
        let StepWindow { report, measured, .. } = &mut window;
        if let Some(reason) =
            own_delay::judge(report, measured, Need::Punctuality, self.lateness_max)
        {
            report.lagged = Some(reason);
        }
        if !matches!(self.course, Course::Search(_)) {
            step = LoadStep::of(report, players, from_s);
            step.reason.clone_from(&report.lagged);
        }
        match &mut self.course {
            Course::Ramp(left) => {
                left.pop_front();
                self.other = Some(window);
            }
            Course::Windows { left, .. } => {
                *left -= 1;
                if self.other.as_ref().is_none_or(|other| is_worse(&window.report, &other.report)) {
                    self.other = Some(window);
                }
            }
            Course::Search(search) => {
                let (outcome, reason) = judge(&window.report, &self.conditions, holds, players)?;
                search.note(outcome);
                self.is_out_of_time = elapsed >= self.time_max;
                (step.outcome, step.reason) = (Some(outcome), reason);
                match outcome {
                    StepOutcome::Held => drop(self.held.insert(players, window)),
                    _ => self.other = Some(window),
                }
            }
        }
        let line = self.lines.as_mut().map_or(Ok(()), |lines| lines.write(&step));
        self.taken.push(step);
        line
    }

    /// Writes the results of all steps into the report. Returns the measurements of the generator
    /// in the window that the report describes, or `None` if no window was complete.
    pub(super) fn add_to(mut self, report: &mut LoadReport) -> Option<Measured> {
        let mut chosen = self.other.take();
        if let Course::Search(search) = &self.course {
            let capacity = search.capacity();
            self.add_capacity(capacity, report);
            let held = capacity.held.and_then(|players| self.held.remove(&players));
            chosen = held.or(chosen);
        }
        let late = self.taken.iter().find(|step| step.outcome.is_none() && step.reason.is_some());
        if let Some(LoadStep { players, reason: Some(reason), .. }) = late {
            report.lagged = Some(format!("with {players} players, {reason}"));
        }
        report.steps = self.taken;
        self.ended_early.into_iter().for_each(|reason| report.add_doubt(reason));
        let StepWindow { report: window, measured, .. } = chosen?;
        report.figures.extend(window.figures);
        report.distributions = window.distributions;
        window.doubts.into_iter().for_each(|doubt| report.add_doubt(doubt));
        Some(measured)
    }

    fn add_capacity(&self, capacity: Capacity, report: &mut LoadReport) {
        let Capacity { held, is_confirmed, failed } = capacity;
        let condition = Condition(&self.conditions);
        let players = match (held, failed) {
            (None, Some((_, StepOutcome::CannotTell)) | None) => None,
            (held, _) => Some(held.unwrap_or(0)),
        };
        let unknown = "no step held, and none missed";
        report.add_figure(figure("players_held_max", players, unknown));
        let missed = failed.filter(|(_, outcome)| *outcome == StepOutcome::Missed);
        let end = match (failed, &self.ended_early) {
            (Some((players, StepOutcome::CannotTell)), _) => {
                format!("the generator did not keep up with {players} players")
            }
            (_, Some(reason)) => reason.clone(),
            _ if self.is_out_of_time => "the time for the search was over".to_owned(),
            _ => "the condition held with every number of players measured".to_owned(),
        };
        let missed = missed.map(|(players, _)| players);
        report.add_figure(figure("players_missed_min", missed, &end));
        let finding = match (players, missed) {
            (Some(held), Some(missed)) => {
                format!("{condition} held with {held} players, and not with {missed}")
            }
            (Some(held), None) => {
                format!("{condition} held with {held} players; the limit was not reached: {end}")
            }
            (None, _) => format!("it is not known whether {condition} holds: {end}"),
        };
        report.findings.insert("search".to_owned(), finding);
        if missed.is_none() && players.is_some() {
            report.add_doubt(format!("players_held_max is a lower bound: {end}"));
        }
        if held.is_some() && !is_confirmed {
            report.add_doubt("players_held_max held in one window only, not in two");
        }
        if let Some((_, StepOutcome::CannotTell)) = failed {
            report.lagged = Some(format!("{end}, so the limit of the server is not known"));
        }
    }
}

/// Returns whether a window lost more frames than another, or as many and is later at the 99th
/// percentile.
fn is_worse(window: &LoadReport, than: &LoadReport) -> bool {
    let badness = |report: &LoadReport| {
        let value = |name: &str| report.figure(name).and_then(|figure| figure.value);
        [lost_frames(report), value("latency_p99_ms").unwrap_or_default()]
    };
    badness(window) > badness(than)
}

fn lost_frames(report: &LoadReport) -> f64 {
    LOST.iter().filter_map(|name| report.figure(name)?.value).sum()
}

/// A file with a line of JSON for each window.
#[derive(Debug)]
struct LineFile {
    path: PathBuf,
    file: File,
}

impl LineFile {
    fn create(path: &Path) -> Result<Self, LoadError> {
        let file = File::create(path).map_err(|error| LoadError::file(path, error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(&mut self, step: &LoadStep) -> Result<(), LoadError> {
        let line = step.line() + "\n";
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|error| LoadError::file(&self.path, error))
    }
}

/// Displays all conditions of a search.
struct Condition<'a>(&'a [Threshold]);

impl std::fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<_> = self.0.iter().map(Threshold::to_string).collect();
        f.write_str(&texts.join(" and "))
    }
}

fn figure(name: &str, players: Option<u32>, unknown: &str) -> Figure {
    match players {
        Some(players) => Figure::new(name, players.into()),
        None => Figure::withheld(name, unknown),
    }
}

/// Returns whether all conditions hold. The verdicts are those of thresholds, which are met as long
/// as their condition does not hold.
fn hold(conditions: &[Threshold], report: &LoadReport) -> Result<bool, LoadError> {
    let judged = judge_each(conditions, report)?;
    Ok(judged.iter().all(|judged| judged.verdict == ThresholdVerdict::Missed))
}

fn judge_each(
    conditions: &[Threshold],
    report: &LoadReport,
) -> Result<Vec<JudgedThreshold>, LoadError> {
    conditions.iter().map(|condition| condition.judge(report)).collect()
}

/// Judges the window of a step with `players` players. `holds` tells whether the conditions held as
/// measured. A generator that did not keep up, or ran out of local ports, proves nothing against
/// the server.
fn judge(
    report: &LoadReport,
    conditions: &[Threshold],
    holds: bool,
    players: u32,
) -> Result<(StepOutcome, Option<String>), LoadError> {
    let lost = lost_frames(report);
    let counts_lost = conditions.iter().any(|condition| condition.to_string().contains(LOST[0]));
    let missing = players_missing(report, players).or_else(|| {
        let are_lost = lost > 0.0 && !counts_lost;
        are_lost.then(|| (StepOutcome::Missed, format!("{lost} frames were lost")))
    });
    if missing.is_none() && holds {
        return Ok((StepOutcome::Held, None));
    }
    if let Some(reason) = &report.lagged {
        return Ok((StepOutcome::CannotTell, Some(reason.clone())));
    }
    if let Some((outcome, reason)) = missing {
        return Ok((outcome, Some(reason)));
    }
    let judged = judge_each(conditions, report)?;
    for (verdict, outcome) in [
        (ThresholdVerdict::Met, StepOutcome::Missed),
        (ThresholdVerdict::Withheld, StepOutcome::CannotTell),
    ] {
        if let Some(judged) = judged.iter().find(|judged| judged.verdict == verdict) {
            return Ok((outcome, Some(judged.line.clone())));
        }
    }
    Ok((StepOutcome::CannotTell, None))
}

/// Returns the outcome of a step in which players failed or had no keyframe.
fn players_missing(report: &LoadReport, players: u32) -> Option<(StepOutcome, String)> {
    let value = |name: &str| report.figure(name).and_then(|figure| figure.value);
    let without = value("players_without_frame").unwrap_or_default();
    if without > 0.0 {
        return Some((StepOutcome::Missed, format!("{without} players had no keyframe")));
    }
    let failed: Vec<_> = report
        .figures
        .iter()
        .filter_map(|figure| Some((figure.name.strip_prefix(FAILED)?, figure.value?)))
        .collect();
    if failed.is_empty() {
        let played = value("players").unwrap_or_default();
        let is_short = played < f64::from(players);
        return is_short.then(|| (StepOutcome::Missed, format!("only {played} players played")));
    }
    let is_own = failed.iter().all(|(kind, _)| OWN_FAILURES.contains(kind));
    let outcome = if is_own { StepOutcome::CannotTell } else { StepOutcome::Missed };
    let texts = failed.iter().map(|(kind, count)| format!("{count} players failed: {kind}"));
    Some((outcome, texts.collect::<Vec<_>>().join(", ")))
}

const LOST: [&str; 2] = ["frames_lost", "audio_frames_lost"];
const FAILED: &str = "players_failed_";
/// Failures of the generator's machine rather than of the server.
const OWN_FAILURES: [&str; 1] = ["no_local_port"];

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches};

    use super::*;
    use crate::load::manifest::Manifest;
    use crate::load::report::Distribution;

    fn options(flags: &str) -> Result<StepOptions, clap::Error> {
        let command = StepOptions::augment_args(Command::new("load").no_binary_name(true));
        let command = command.arg(clap::Arg::new("players").long("players"));
        let matches = command.try_get_matches_from(flags.split_whitespace())?;
        StepOptions::from_arg_matches(&matches)
    }

    /// The report of a window with `players` players and one frame of this latency.
    fn report(players: u32, latency_us: u64, figures: &[(&str, f64)]) -> LoadReport {
        let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        let own = [("players", f64::from(players)), ("frames_lost", 0.0)];
        for (name, value) in own.iter().chain(figures) {
            report.add_figure(Figure::new(name, *value));
        }
        let mut latency = Distribution::new("latency");
        latency.record(Duration::ZERO, latency_us);
        report.distributions.push(latency);
        report
    }

    fn judged(condition: &str, report: &LoadReport) -> (StepOutcome, Option<String>) {
        let conditions: Vec<_> =
            condition.split(' ').map(|text| Threshold::of_figure(text).unwrap()).collect();
        judge(report, &conditions, hold(&conditions, report).unwrap(), 8).unwrap()
    }

    #[test]
    fn a_step_holds_if_all_conditions_hold_and_every_player_played_every_frame() {
        use StepOutcome::{CannotTell, Held, Missed};
        let late = || {
            let mut late = report(8, 5, &[("players_failed_reset", 1.0)]);
            late.lagged = Some("the generator was late".to_owned());
            late.withhold("latency", "the generator was late");
            late
        };
        for (condition, report, outcome, reason) in [
            ("p99_ms<0.02", report(8, 5, &[]), Held, None),
            (
                "p99_ms<0.02",
                report(8, 20, &[]),
                Missed,
                Some("p99_ms<0.02: latency_p99_ms is 0.02"),
            ),
            (
                "p99_ms<0.02 p50_ms<0.009",
                report(8, 10, &[]),
                Missed,
                Some("p50_ms<0.009: latency_p50_ms is 0.01"),
            ),
            (
                "p99_ms<0.02",
                report(8, 5, &[("frames_lost", 2.0)]),
                Missed,
                Some("2 frames were lost"),
            ),
            ("frames_lost<3", report(8, 5, &[("frames_lost", 2.0)]), Held, None),
            ("p99_ms<0.02", report(7, 5, &[]), Missed, Some("only 7 players played")),
            (
                "p99_ms<0.02",
                report(8, 5, &[("players_without_frame", 3.0)]),
                Missed,
                Some("3 players had no keyframe"),
            ),
            (
                "p99_ms<0.02",
                report(7, 5, &[("players_failed_reset", 1.0)]),
                Missed,
                Some("1 players failed: reset"),
            ),
            (
                "p99_ms<0.02",
                report(7, 5, &[("players_failed_no_local_port", 1.0)]),
                CannotTell,
                Some("1 players failed: no_local_port"),
            ),
            ("p99_ms<0.02", late(), CannotTell, Some("the generator was late")),
        ] {
            let expected = (outcome, reason.map(str::to_owned));
            assert_eq!(judged(condition, &report), expected, "{condition}");
        }
        let mut withheld = report(8, 5, &[]);
        withheld.withhold("latency", "why");
        let expected =
            (CannotTell, Some("p99_ms<0.02: latency_p99_ms is withheld: why".to_owned()));
        assert_eq!(judged("p99_ms<0.02", &withheld), expected);
        for (condition, has_pid) in [("p98_ms<1", true), ("server_cpu_s<1", false)] {
            let options = options(&format!("--search {condition}")).unwrap();
            assert!(options.check(has_pid).is_err(), "{condition}");
        }
    }

    /// The measurements of a generator that had next to nothing to do.
    fn idle() -> Measured {
        let mut measured = Measured::new(false);
        (measured.elapsed, measured.cpu) = (Duration::from_secs(5), Duration::ZERO);
        measured
    }

    /// Runs the steps, with a server that holds up to this many players.
    fn run(flags: &str, holds_max: u32, is_late: impl Fn(u32) -> bool) -> LoadReport {
        let mut steps = Steps::new(&options(flags).unwrap(), 4, None).unwrap();
        while let Some(players) = steps.players() {
            let is_slow = players > holds_max || is_late(players);
            let mut window = report(players, if is_slow { 500 } else { players.into() }, &[]);
            window.lagged = is_late(players).then(|| "the generator was late".to_owned());
            let measured = idle();
            let from = measured.began;
            steps.note(StepWindow { report: window, measured, from }, Duration::ZERO).unwrap();
        }
        let mut whole = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        assert!(steps.add_to(&mut whole).is_some());
        whole
    }

    fn value(report: &LoadReport, name: &str) -> Option<f64> {
        report.figure(name).unwrap().value
    }

    #[test]
    fn the_report_of_a_search_has_the_figures_of_the_largest_step_that_held() {
        let report = run("--search p99_ms<0.1", 10, |_| false);
        assert_eq!(value(&report, "players_held_max"), Some(10.0));
        assert_eq!(value(&report, "players_missed_min"), Some(11.0));
        assert_eq!(value(&report, "players"), Some(10.0));
        assert_eq!(value(&report, "p99_ms"), Some(0.01));
        assert_eq!(report.findings["search"], "p99_ms<0.1 held with 10 players, and not with 11");
        assert_eq!((report.lagged, report.doubts), (None, vec![]));
        let held = |step: &LoadStep| step.outcome == Some(StepOutcome::Held);
        assert!(report.steps.iter().all(|step| held(step) == (step.players <= 10)));
    }

    #[test]
    fn the_report_of_a_search_has_no_figures_of_a_step_that_held_by_luck() {
        let mut steps = Steps::new(&options("--search p99_ms<0.1").unwrap(), 4, None).unwrap();
        let mut windows = 0;
        while let Some(players) = steps.players() {
            // The first window with 13 players holds, and no later one does.
            let holds = players <= 12 || players == 13 && windows == 0;
            windows += u32::from(players == 13);
            let latency_us = if holds { players.into() } else { 500 };
            let measured = idle();
            let report = report(players, latency_us, &[]);
            let window = StepWindow { report, from: measured.began, measured };
            steps.note(window, Duration::ZERO).unwrap();
        }
        let mut whole = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        assert!(steps.add_to(&mut whole).is_some());
        assert!(windows > 1, "it was measured again");
        assert_eq!(value(&whole, "players_held_max"), Some(12.0));
        assert_eq!(value(&whole, "players"), Some(12.0));
    }

    #[test]
    fn a_search_that_does_not_find_the_limit_says_what_ended_it() {
        let cannot_tell = run("--search p99_ms<0.1", 1000, |players| players > 20);
        assert_eq!(value(&cannot_tell, "players_held_max"), Some(20.0));
        assert_eq!(value(&cannot_tell, "players_missed_min"), None);
        assert!(cannot_tell.lagged.unwrap().starts_with("the generator did not keep up with 21"));
        let bounded = run("--search p99_ms<0.1 --search-players-max 30", 1000, |_| false);
        assert_eq!(value(&bounded, "players_held_max"), Some(30.0));
        assert_eq!(bounded.lagged, None);
        let expected = "p99_ms<0.1 held with 30 players; the limit was not reached: the condition \
                        held with every number of players measured";
        assert_eq!(bounded.findings["search"], expected);
        let never = run("--search p99_ms<0.1", 0, |_| false);
        assert_eq!(value(&never, "players_held_max"), Some(0.0));
        let unknown = run("--search p99_ms<0.1", 1000, |_| true);
        assert_eq!(value(&unknown, "players_held_max"), None);
    }

    #[test]
    fn a_condition_holds_that_held_with_the_delays_of_the_generator_and_does_not_miss_for_them() {
        for (latency_us, outcome) in [(90, StepOutcome::Held), (110, StepOutcome::CannotTell)] {
            let search = options("--search p99_ms<0.1").unwrap();
            let mut steps = Steps::new(&search, 4, None).unwrap();
            let mut measured = idle();
            let from = measured.began;
            measured.note_wake(from, Duration::ZERO);
            measured.note_read(from + Duration::from_micros(80));
            let report = report(4, latency_us, &[]);
            steps.note(StepWindow { report, from, measured }, Duration::ZERO).unwrap();
            assert_eq!(steps.taken[0].outcome, Some(outcome), "{latency_us} us");
        }
    }

    #[test]
    fn a_search_begins_no_step_after_its_time() {
        let options = options("--search p99_ms<1 --search-max-s 60").unwrap();
        let mut steps = Steps::new(&options, 4, None).unwrap();
        for (elapsed_s, is_over) in [(59, false), (60, true)] {
            let measured = idle();
            let window = StepWindow { report: report(4, 9, &[]), from: measured.began, measured };
            steps.note(window, Duration::from_secs(elapsed_s)).unwrap();
            assert_eq!(steps.players().is_none(), is_over, "{elapsed_s} s");
        }
    }

    #[test]
    fn a_ramp_takes_its_steps_and_reports_the_last_one() {
        let report = run("--ramp 2,8,3", 100, |players| players == 8);
        let players: Vec<_> = report.steps.iter().map(|step| step.players).collect();
        assert_eq!(players, [2, 8, 3]);
        assert_eq!(value(&report, "players"), Some(3.0));
        assert_eq!(report.lagged.as_deref(), Some("with 8 players, the generator was late"));
        assert!(report.steps.iter().all(|step| step.outcome.is_none()));
    }

    #[test]
    fn a_long_run_reports_its_worst_window() {
        let mut steps = Steps::new(&options("--windows 4").unwrap(), 6, None).unwrap();
        for (latency_us, lost) in [(20, 0.0), (10, 2.0), (30, 2.0), (90, 0.0)] {
            assert_eq!(steps.players(), Some(6));
            let report = report(6, latency_us, &[("frames_lost", lost)]);
            let measured = idle();
            let window = StepWindow { report, from: measured.began, measured };
            steps.note(window, Duration::ZERO).unwrap();
        }
        assert_eq!(steps.players(), None);
        let mut whole = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        assert!(steps.add_to(&mut whole).is_some());
        assert_eq!(whole.steps.len(), 4);
        assert_eq!(
            (value(&whole, "frames_lost"), value(&whole, "p99_ms")),
            (Some(2.0), Some(0.03))
        );
    }

    #[test]
    fn flags_of_a_search_and_of_a_ramp_exclude_each_other() {
        for flags in [
            "--ramp 1,2 --search p99_ms<1",
            "--ramp 1,2 --players 3",
            "--ramp 1,0",
            "--ramp 1,2 --windows 3",
            "--windows 0",
            "--search-precision 5",
            "--search p99_ms<1 --search-precision 0",
            "--search p99_ms",
        ] {
            assert!(options(flags).is_err(), "{flags}");
        }
        assert_eq!(options("--ramp 4,9,2").unwrap().players_max(), Some(9));
        assert_eq!(options("--search p99_ms<1").unwrap().players_max(), Some(10_000));
        assert!(!options("").unwrap().are_given());
    }
}
