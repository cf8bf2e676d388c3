//! Sessions opened at a rate: the stage they are brought to, and their counts.
//!
//! Owns the part that [`idle`](super::idle) and [`churn`](super::churn) share. Those decide when a
//! session is due and what happens to it afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use super::connection::{ConnectionHead, ConnectionPhase, Ended, Reason};
use super::engine::Speak;
use super::report::{Distribution, Figure, LoadReport, NOT_CLOSED, RateSeries, Series};
use super::target::Target;
use crate::rtmp::client::Purpose;
use crate::time::Time;

/// Stage to bring a session to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionStage {
    /// TCP is connected, and nothing is sent.
    Tcp,
    /// The handshake is complete.
    Handshake,
    /// `connect` is accepted.
    Connect,
    /// Publishing a stream of its own is accepted, under the key plus a number. No media is sent.
    Publish,
    /// Playing the stream is accepted. The stream need not have a publisher.
    Play,
}

impl SessionStage {
    /// Returns the protocol and purpose with which session `number` reaches this stage.
    pub fn speak(self, target: &Target, number: u32) -> Speak {
        let purpose = match self {
            Self::Tcp => return Speak::Silence,
            Self::Handshake => Purpose::Handshake,
            Self::Connect => Purpose::Connect,
            Self::Publish => Purpose::Publish { key: numbered(&target.key, number) },
            Self::Play => Purpose::Play { key: key_of(target) },
        };
        Speak::Rtmp(target.client(purpose))
    }

    /// Returns the name of the stage as a value of the flag.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Returns the key of the target, or a default if it has none.
pub fn key_of(target: &Target) -> String {
    if target.key.is_empty() { "load".to_owned() } else { target.key.clone() }
}

/// Returns a unique key for a publisher. A query stays at the end.
fn numbered(key: &str, number: u32) -> String {
    let (name, query) = key.split_at(key.find('?').unwrap_or(key.len()));
    format!("{name}-{number}{query}")
}

/// Counts and durations of the sessions of this process.
#[derive(Debug)]
pub struct Tally {
    /// Due time of the first session.
    begins_at: Time,
    /// Time from when a session was due to when it reached its stage (us).
    to_stage: Distribution,
    phases: [Distribution; 6],
    opened: u32,
    reached: u32,
    last_reached: Time,
    /// Sessions that are at their stage now.
    held: u32,
    ended: u32,
    failed: BTreeMap<&'static str, u32>,
    sessions_over_time: Series,
    failures_over_time: RateSeries,
}

impl Tally {
    /// Creates a tally of sessions, the first of which is due at `begins_at`.
    pub fn new(begins_at: Time) -> Self {
        const PHASES: [ConnectionPhase; 6] = [
            ConnectionPhase::Tcp,
            ConnectionPhase::Handshake,
            ConnectionPhase::Connect,
            ConnectionPhase::Stream,
            ConnectionPhase::Publish,
            ConnectionPhase::Play,
        ];
        Self {
            begins_at,
            to_stage: Distribution::new("to_stage"),
            phases: PHASES.map(|phase| Distribution::new(phase.name())),
            opened: 0,
            reached: 0,
            last_reached: begins_at,
            held: 0,
            ended: 0,
            failed: BTreeMap::new(),
            sessions_over_time: Series::new("sessions"),
            failures_over_time: RateSeries::new("failures"),
        }
    }

    /// Returns the figures that never fall during a run.
    pub fn growing(&self) -> Vec<(String, f64)> {
        let of_kind =
            |(kind, failed): (&&str, &u32)| (format!("failed_{kind}"), f64::from(*failed));
        let all = ("sessions_failed".to_owned(), f64::from(self.failed()));
        self.failed.iter().map(of_kind).chain([all]).collect()
    }

    /// Adds a point to each series, `at` since the start of the run.
    pub fn sample(&mut self, at: Duration) {
        self.sessions_over_time.push(at.as_secs_f64(), f64::from(self.held));
        let failed = self.failed();
        self.failures_over_time.note(at, f64::from(failed));
    }

    /// Returns the number of sessions opened.
    pub const fn opened(&self) -> u32 {
        self.opened
    }

    /// Returns the number of sessions that are at their stage now.
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Returns the number of sessions that have reached their stage or ended, that is, all that are
    /// not on their way.
    pub const fn decided(&self) -> u32 {
        self.held + self.ended
    }

    /// Returns the number of sessions that have ended, with or without a failure.
    pub const fn ended(&self) -> u32 {
        self.ended
    }

    /// Returns the number of sessions that have failed.
    pub fn failed(&self) -> u32 {
        self.failed.values().sum()
    }

    /// Counts another session as opened.
    pub const fn note_opened(&mut self) {
        self.opened += 1;
    }

    /// Records that a session has reached `phase`, `at` since the start of the run. Returns true if
    /// that is its stage.
    pub fn note_phase(
        &mut self,
        head: &ConnectionHead,
        phase: ConnectionPhase,
        took_us: u64,
        at: Duration,
    ) -> bool {
        if let Some(known) = self.phases.iter_mut().find(|known| known.name() == phase.name()) {
            known.record(at.saturating_sub(Duration::from_micros(took_us)), took_us);
        }
        let is_there = phase == head.goal;
        if is_there {
            let took = head.phase_at.since(head.intended);
            // By the time at which the session was due.
            self.to_stage.record(at.saturating_sub(took), took.as_micros() as u64);
            self.last_reached = self.last_reached.max(head.phase_at);
            self.reached += 1;
            self.held += 1;
        }
        is_there
    }

    /// Records that a session has ended. Sessions that are held at the end of the run stay counted
    /// as held.
    pub fn note_ended(&mut self, ended: &Ended) {
        if matches!(ended.reason, Reason::RunOver) {
            return;
        }
        self.ended += 1;
        let was_there = ended.head.is_settled();
        self.held -= u32::from(was_there);
        if ended.reason.is_failure() {
            let kind = match ended.reason {
                Reason::Timeout if was_there => NOT_CLOSED,
                _ => ended.reason.kind(),
            };
            *self.failed.entry(kind).or_default() += 1;
        }
    }

    /// Adds the figures, and puts the distributions in front of those already in the report.
    pub fn report(self, report: &mut LoadReport) {
        let mut count = |name: &str, value: u32| {
            report.add_figure(Figure::new(name, f64::from(value)));
        };
        count("sessions_opened", self.opened);
        count("sessions_reached", self.reached);
        count("sessions_failed", self.failed.values().sum());
        for (kind, failed) in self.failed {
            count(&format!("failed_{kind}"), failed);
        }
        let opening = self.last_reached.since(self.begins_at).as_secs_f64();
        report.add_figure(Figure::new("opening_s", opening));
        report.series.extend([self.sessions_over_time, self.failures_over_time.into_series()]);
        let all = [self.to_stage].into_iter().chain(self.phases);
        report.distributions.splice(0..0, all.filter(|known| !known.is_empty()));
    }
}

/// Adds the quotient of two figures. It is withheld if either figure is withheld or missing.
pub fn add_quotient(report: &mut LoadReport, name: &str, over: &str, under: &str) {
    let known = |name: &str| {
        let figure = report.figures.iter().find(|figure| figure.name == name);
        let why = figure.and_then(|figure| figure.withheld.clone());
        let why = why.unwrap_or_else(|| format!("there is no {name}"));
        figure.and_then(|figure| figure.value).ok_or(why)
    };
    let figure = match known(over).and_then(|over| Ok((over, known(under)?))) {
        Ok((over, under)) => Figure::new(name, over / under),
        Err(why) => Figure::withheld(name, &why),
    };
    report.add_figure(figure);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::manifest::Manifest;

    #[test]
    fn publishers_have_unique_keys_with_the_query_at_the_end() {
        assert_eq!(numbered("show", 3), "show-3");
        assert_eq!(numbered("show?token=a-b", 12), "show-12?token=a-b");
    }

    #[test]
    fn failures_are_known_during_the_run_and_over_time() {
        let mut tally = Tally::new(Time::ZERO);
        tally.held = 7;
        tally.sample(Duration::from_secs(1));
        tally.failed.extend([("timeout", 2), ("reset", 1)]);
        tally.sample(Duration::from_secs(2));
        let growing = [("failed_reset", 1.0), ("failed_timeout", 2.0), ("sessions_failed", 3.0)];
        assert_eq!(tally.growing(), growing.map(|(name, value)| (name.to_owned(), value)));
        let mut report = LoadReport::new("idle", Manifest::new("h", BTreeMap::new()));
        tally.report(&mut report);
        let points: Vec<_> = report.series.iter().map(|series| series.points.clone()).collect();
        assert_eq!(points, [[(1.0, 7.0), (2.0, 7.0)], [(1.0, 0.0), (2.0, 3.0)]]);
    }

    #[test]
    fn quotients_are_computed_from_counts_and_withheld_with_them() {
        let mut report = LoadReport::new("churn", Manifest::new("h", BTreeMap::new()));
        report.add_figure(Figure::new("sessions_done", 30.0));
        report.add_figure(Figure::new("opening_s", 1.5));
        report.add_figure(Figure::new("sessions_held", 0.0));
        report.add_figure(Figure::withheld("churn_s", "the generator lagged"));
        let mut quotient = |over, under| {
            add_quotient(&mut report, "session_rate_per_s", over, under);
            let figure = report.figure("session_rate_per_s").unwrap();
            (figure.value, figure.withheld)
        };
        assert_eq!(quotient("sessions_done", "opening_s"), (Some(20.0), None));
        assert_eq!(quotient("churn_s", "opening_s").1.unwrap(), "the generator lagged");
        assert_eq!(quotient("sessions_done", "churn_s").1.unwrap(), "the generator lagged");
        assert_eq!(quotient("sessions_done", "nothing").1.unwrap(), "there is no nothing");
        let nothing = "the quotient is undefined: nothing was counted to divide by";
        assert_eq!(quotient("sessions_done", "sessions_held"), (None, Some(nothing.to_owned())));
    }
}
