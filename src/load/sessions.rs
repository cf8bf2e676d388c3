//! Sessions that are opened at a rate: how far each is brought, and what is counted of them.
//!
//! Owns what holding sessions and opening and closing them have in common. When one is due and
//! what becomes of it is the work of [`idle`](super::idle) and [`churn`](super::churn).

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use super::connection::{ConnectionHead, ConnectionPhase, Ended, Reason};
use super::engine::Speak;
use super::report::{Better, Distribution, Figure, LoadReport};
use super::target::Target;
use crate::rtmp::client::Purpose;
use crate::time::Time;

/// How far a session is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionStage {
    /// TCP has connected, and nothing is said.
    Tcp,
    /// The handshake is over.
    Handshake,
    /// `connect` was accepted.
    Connect,
    /// It may publish a stream of its own, the key with a number behind it, and sends nothing.
    Publish,
    /// It plays the stream, which nobody need publish.
    Play,
}

impl SessionStage {
    /// What session `number` says to come here.
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

    /// Its name as the flag has it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The key of the target, or one where it has none.
pub fn key_of(target: &Target) -> String {
    if target.key.is_empty() { "load".to_owned() } else { target.key.clone() }
}

/// A key of its own for a publisher; what stands in a query stays behind it.
fn numbered(key: &str, number: u32) -> String {
    let (name, query) = key.split_at(key.find('?').unwrap_or(key.len()));
    format!("{name}-{number}{query}")
}

/// What has become of the sessions of this process.
#[derive(Debug)]
pub struct Tally {
    /// When the first was due.
    begins_at: Time,
    /// From when a session was due to when it had come to its stage (us).
    to_stage: Distribution,
    phases: [Distribution; 6],
    opened: u32,
    reached: u32,
    last_reached: Time,
    /// There now.
    held: u32,
    ended: u32,
    failed: BTreeMap<&'static str, u32>,
}

/// What depends on the generator having kept up.
pub const TIMED: [&str; 10] = [
    "opening_s",
    "session",
    "wake",
    "to_stage",
    ConnectionPhase::Tcp.name(),
    ConnectionPhase::Handshake.name(),
    ConnectionPhase::Connect.name(),
    ConnectionPhase::Stream.name(),
    ConnectionPhase::Publish.name(),
    ConnectionPhase::Play.name(),
];

impl Tally {
    /// Of sessions of which the first is due at `begins_at`.
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
        }
    }

    /// Sessions that were opened.
    pub const fn opened(&self) -> u32 {
        self.opened
    }

    /// Sessions that are at their stage now.
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Sessions of which nothing more is to come before they are ended: all that are not on
    /// their way.
    pub const fn decided(&self) -> u32 {
        self.held + self.ended
    }

    /// Sessions that have ended, well or not.
    pub const fn ended(&self) -> u32 {
        self.ended
    }

    /// Sessions that have failed.
    pub fn failed(&self) -> u32 {
        self.failed.values().sum()
    }

    /// Another session is opened.
    pub const fn note_opened(&mut self) {
        self.opened += 1;
    }

    /// A session has come to `phase`, `at` since the start of the run. True where that is its
    /// stage.
    pub fn note_phase(
        &mut self,
        head: &ConnectionHead,
        phase: ConnectionPhase,
        took_us: u64,
        at: Duration,
    ) -> bool {
        if let Some(known) = self.phases.iter_mut().find(|known| known.name() == phase.name()) {
            known.record(at, took_us);
        }
        let is_there = phase == head.goal;
        if is_there {
            let took = head.phase_at.since(head.intended);
            self.to_stage.record(at, took.as_micros() as u64);
            self.last_reached = self.last_reached.max(head.phase_at);
            self.reached += 1;
            self.held += 1;
        }
        is_there
    }

    /// A session has ended. One that is there when the run is over stays counted so.
    pub fn note_ended(&mut self, ended: &Ended) {
        if matches!(ended.reason, Reason::RunOver) {
            return;
        }
        self.ended += 1;
        let was_there = ended.head.is_settled();
        self.held -= u32::from(was_there);
        if ended.reason.is_failure() {
            let kind = match ended.reason {
                Reason::Timeout if was_there => "not_closed_by_server",
                _ => ended.reason.kind(),
            };
            *self.failed.entry(kind).or_default() += 1;
        }
    }

    /// Adds the figures, and the distributions before those that are there.
    pub fn report(self, report: &mut LoadReport) {
        let mut count = |name: &str, value: u32, better| {
            report.add_figure(Figure::new(name, f64::from(value), better));
        };
        count("sessions_opened", self.opened, Better::Neither);
        count("sessions_reached", self.reached, Better::Higher);
        count("sessions_failed", self.failed.values().sum(), Better::Lower);
        for (kind, failed) in self.failed {
            count(&format!("failed_{kind}"), failed, Better::Lower);
        }
        let opening = self.last_reached.since(self.begins_at).as_secs_f64();
        let opening = Figure::new("opening_s", opening, Better::Neither).worst_of_all();
        report.add_figure(opening);
        let all = [self.to_stage].into_iter().chain(self.phases);
        report.distributions.splice(0..0, all.filter(|known| !known.is_empty()));
    }
}

/// Adds the quotient of two figures. Where one of them is withheld or is not there, so is it.
pub fn add_quotient(report: &mut LoadReport, name: &str, over: &str, under: &str, better: Better) {
    let known = |name: &str| {
        let figure = report.figures.iter().find(|figure| figure.name == name);
        let why = figure.and_then(|figure| figure.withheld.clone());
        let why = why.unwrap_or_else(|| format!("there is no {name}"));
        figure.and_then(|figure| figure.value).ok_or(why)
    };
    let figure = match known(over).and_then(|over| Ok((over, known(under)?))) {
        Ok((over, under)) => Figure::new(name, over / under, better),
        Err(why) => Figure::withheld(name, &why, better),
    };
    report.add_figure(figure);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::manifest::Manifest;

    #[test]
    fn publishers_have_keys_of_their_own_with_the_query_behind() {
        assert_eq!(numbered("show", 3), "show-3");
        assert_eq!(numbered("show?token=a-b", 12), "show-12?token=a-b");
    }

    #[test]
    fn quotients_are_made_of_counts_and_withheld_with_them() {
        let mut report = LoadReport::new("churn", Manifest::new("h", BTreeMap::new()));
        let figure = |name, value| Figure::new(name, value, Better::Neither);
        report.add_figure(figure("sessions", 30.0));
        report.add_figure(figure("opening_s", 1.5));
        report.add_figure(figure("none", 0.0));
        report.add_figure(Figure::withheld("late", "the generator lagged", Better::Lower));
        let mut quotient = |over, under| {
            add_quotient(&mut report, "rate_per_s", over, under, Better::Higher);
            let figure = report.figure("rate_per_s").unwrap();
            (figure.value, figure.withheld)
        };
        assert_eq!(quotient("sessions", "opening_s"), (Some(20.0), None));
        assert_eq!(quotient("late", "opening_s").1.unwrap(), "the generator lagged");
        assert_eq!(quotient("sessions", "late").1.unwrap(), "the generator lagged");
        assert_eq!(quotient("sessions", "nothing").1.unwrap(), "there is no nothing");
        let nothing = "there was nothing to measure it by";
        assert_eq!(quotient("sessions", "none"), (None, Some(nothing.to_owned())));
    }
}
