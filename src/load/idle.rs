//! `load idle`: sessions opened at a rate, brought to a stage, and held.
//!
//! Owns when each session is due and what is noted of its way. Arrivals are an open loop: a
//! session is due at its time whatever became of those before it, and is measured from then.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::LoadError;
use super::connection::{Ended, Event, Head, Phase};
use super::engine::{self, Agenda, Engine, Scenario, Speak};
use super::measurement::Measurement;
use super::options::{Options, rate};
use super::report::{Better, Distribution, Figure, Report};
use super::target::Target;
use crate::rtmp::client::Purpose;
use crate::time::Time;

/// What the sessions are to do.
#[derive(Clone, Debug, Args)]
pub struct Idle {
    /// The server, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    /// How many sessions.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub sessions: u32,
    /// How many of them are opened each second.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    pub rate: f64,
    /// How far each is brought.
    #[arg(long, value_enum, default_value = "connect")]
    pub stage: Stage,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

/// How far a session is brought before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// TCP has connected, and nothing is said.
    Tcp,
    /// The handshake is over.
    Handshake,
    /// `connect` was accepted.
    Connect,
    /// It plays the stream, which nobody need publish.
    Play,
}

impl Idle {
    /// Opens the sessions, holds them, and says how that went.
    ///
    /// # Errors
    /// Why nothing could be measured.
    pub fn measure(&self) -> Result<Report, LoadError> {
        let target = Target::parse(&self.url)?;
        let parameters = BTreeMap::from([
            ("sessions".to_owned(), self.sessions.to_string()),
            ("rate".to_owned(), self.rate.to_string()),
            ("stage".to_owned(), format!("{:?}", self.stage).to_lowercase()),
        ]);
        let sessions = self.sessions as usize;
        let measurement =
            Measurement::prepare("idle", target, &self.options, sessions, parameters)?;
        let opening = Duration::from_secs_f64(f64::from(self.sessions) / self.rate);
        let duration = opening + self.options.timeout_s + self.options.duration_s;
        let plan = measurement.plan(duration);
        let mut run = Run {
            idle: self,
            measurement,
            phases: [Phase::Tcp, Phase::Handshake, Phase::Connect, Phase::Stream, Phase::Play]
                .map(|phase| Distribution::new(phase.name())),
            opened: 0,
            settled: 0,
            failed: BTreeMap::new(),
        };
        let measured = engine::run(plan, &mut run)?;
        let names = run.phases.each_ref().map(|phase| phase.name().to_owned());
        let mut report = run.measurement.finish(&measured, &names.each_ref().map(String::as_str));
        let asked = Figure::new("sessions_opened", f64::from(run.opened), Better::Neither);
        report.add_figure(asked);
        report.add_figure(Figure::new("sessions_held", f64::from(run.settled), Better::Higher));
        for (kind, count) in run.failed {
            let name = format!("failed_{kind}");
            report.add_figure(Figure::new(&name, f64::from(count), Better::Lower));
        }
        report.distributions.splice(0..0, run.phases.into_iter().filter(|d| !d.is_empty()));
        Ok(report)
    }
}

/// What can be due.
enum Due {
    Open,
    End,
}

struct Run<'a> {
    idle: &'a Idle,
    measurement: Measurement,
    phases: [Distribution; 5],
    opened: u32,
    settled: u32,
    failed: BTreeMap<&'static str, u32>,
}

impl Run<'_> {
    /// When the session opened next is due: the others do not move it.
    fn due_at(&self, began: Time) -> Time {
        began + Duration::from_secs_f64(f64::from(self.opened) / self.idle.rate)
    }

    fn speak(&self, target: &Target) -> Speak {
        let purpose = match self.idle.stage {
            Stage::Tcp => return Speak::Silence,
            Stage::Handshake => Purpose::Handshake,
            Stage::Connect => Purpose::Connect,
            Stage::Play => Purpose::Play { key: target.key.clone() },
        };
        Speak::Rtmp(target.client(purpose))
    }

    /// All have come to their stage or failed: the time that they are held begins.
    fn note_outcome(&self, agenda: &mut Agenda<Due>) {
        let failed: u32 = self.failed.values().sum();
        if self.settled + failed == self.idle.sessions {
            agenda.at(agenda.now() + self.idle.options.duration_s, Due::End);
        }
    }
}

impl Scenario for Run<'_> {
    type Conn = ();
    type Due = Due;

    fn start(&mut self, engine: &mut Engine<Self>) {
        let began = engine.agenda().began();
        engine.agenda().at(began, Due::Open);
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::End => engine.agenda().stop(),
            Due::Open => {
                let speak = self.speak(&engine.plan().target);
                engine.open(intended, speak, ());
                self.opened += 1;
                if self.opened < self.idle.sessions {
                    let began = engine.agenda().began();
                    engine.agenda().at(self.due_at(began), Due::Open);
                }
            }
        }
    }

    fn event(&mut self, agenda: &mut Agenda<Due>, (): &mut (), head: &Head, event: Event<'_>) {
        let Event::Reached { phase, took_us } = event else { return };
        let at = agenda.now().since(agenda.began());
        if let Some(known) = self.phases.iter_mut().find(|known| known.name() == phase.name()) {
            known.record(at, took_us);
        }
        if phase == head.goal {
            self.settled += 1;
            self.note_outcome(agenda);
        }
    }

    fn closed(&mut self, agenda: &mut Agenda<Due>, (): (), ended: Ended) {
        if ended.reason.is_failure() {
            *self.failed.entry(ended.reason.kind()).or_default() += 1;
            self.settled -= u32::from(ended.head.is_settled());
            self.note_outcome(agenda);
        }
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        self.measurement.sample(agenda.now().since(agenda.began()))
    }

    fn progress(&self) -> String {
        let failed: u32 = self.failed.values().sum();
        format!("{} of {} sessions held, {failed} failed", self.settled, self.idle.sessions)
    }
}
