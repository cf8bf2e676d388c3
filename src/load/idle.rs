//! `load idle`: opens sessions at a rate, brings each to a stage, and holds them.
//!
//! Owns the due time of each session and the steps of the run: open all sessions, let them rest,
//! wake some. Arrivals are open-loop: a session is due at its time regardless of the sessions
//! before it, and is measured from that time.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::connection::{ConnectionEvent, ConnectionHead, ConnectionKey, Ended};
use super::engine::{self, Agenda, Engine, Scenario};
use super::failures::judge_sessions;
use super::footprint::Footprint;
use super::measurement::Measurement;
use super::options::{Options, rate};
use super::pace::{ArrivalPace, PaceOptions};
use super::process::Watch;
use super::processes::{self, Processes, Share, Sharing};
use super::report::{Figure, LoadReport};
use super::sessions::{SessionStage, Tally, add_quotient};
use super::target::Target;
use super::wake::{self, Wakes};
use crate::time::Time;

/// Options of `load idle`.
#[derive(Clone, Debug, Args)]
pub struct Idle {
    /// The server, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    /// How many sessions to open.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub sessions: u32,
    /// How many sessions to open per second.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    pub rate: f64,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub pace: PaceOptions,
    /// The stage to bring each session to.
    #[arg(long, value_enum, default_value = "connect")]
    pub stage: SessionStage,
    /// Wake this many sessions at the end, one after another, each to play a stream that is
    /// published for this, with a keyframe each second. Requires the stage connect.
    #[arg(long, value_name = "N", default_value = "10")]
    pub wake: u32,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub sharing: Sharing,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

impl Idle {
    /// Opens the sessions, holds them, and reports the results.
    ///
    /// # Errors
    /// The reason why nothing could be measured.
    pub fn measure(&self) -> Result<LoadReport, LoadError> {
        let target = Target::parse(&self.url)?;
        let share = self.sharing.share();
        let wakes = if self.wakes() { self.wake } else { 0 };
        // One further connection publishes the stream for the sessions that are woken.
        let connections = share.part(self.sessions) as usize + usize::from(wakes > 0);
        let mut measurement = Measurement::prepare_share(
            &self.sharing,
            "idle",
            target,
            &self.options,
            connections,
            self.parameters(),
        )?;
        measurement.scout(|target| self.stage.speak(target, u32::MAX))?;
        let footprint = measurement.server.as_ref().map(Footprint::begin).transpose()?;
        let processes = Processes::start(&self.sharing)?;
        let plan = measurement.plan(self.duration_max(wakes));
        let mut run = Run {
            idle: self,
            share,
            pace: ArrivalPace::new(&self.pace, self.rate, share, self.sessions),
            tally: Tally::new(processes.begins_at()),
            measurement,
            footprint,
            processes,
            step: Step::Opening,
            sleepers: Vec::new(),
            held: None,
            wakes: None,
        };
        let measured = engine::run(plan, &mut run)?;
        run.processes.dismiss();
        let others = run.processes.finish(&measured)?;
        let report = &mut run.measurement.report;
        let held = run.held.unwrap_or_else(|| run.tally.held());
        report.add_figure(Figure::new("sessions_held", f64::from(held)));
        run.tally.report(report);
        if let Some(wakes) = run.wakes {
            wakes.report(report);
        }
        let mut report = run.measurement.finish(&measured);
        others.add_to(&mut report)?;
        if self.sharing.helper.is_none() {
            judge_sessions(&mut report, self.options.failed_max_share);
        }
        add_quotient(&mut report, "connect_rate_per_s", "sessions_reached", "opening_s");
        if let Some(footprint) = run.footprint {
            footprint.report(&mut report);
        }
        Ok(report)
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let mut parameters = self.pace.parameters();
        parameters.extend([
            ("sessions".to_owned(), self.sessions.to_string()),
            ("rate".to_owned(), self.rate.to_string()),
            ("stage".to_owned(), self.stage.name()),
            ("processes".to_owned(), self.sharing.processes.to_string()),
            ("wake".to_owned(), self.wake.to_string()),
        ]);
        parameters
    }

    /// Returns whether this process wakes sessions. Only the first process does.
    fn wakes(&self) -> bool {
        self.stage == SessionStage::Connect && self.wake > 0 && self.sharing.helper.is_none()
    }

    /// Returns the longest duration of the run. A helper runs until it is told to end.
    fn duration_max(&self, wakes: u32) -> Duration {
        let Options { timeout_s, duration_s, .. } = &self.options;
        if self.sharing.helper.is_some() {
            return Duration::MAX;
        }
        let opening = Duration::from_secs_f64(f64::from(self.sessions) / self.rate);
        let waking = Wakes::duration_max(wakes, *timeout_s);
        // All processes start at the same time, and steps happen once a second, up to a second
        // late.
        let spare = Duration::from_secs(5);
        opening + *timeout_s + *duration_s + waking + spare
    }
}

/// Progress of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Sessions are being opened.
    Opening,
    /// All sessions of this process have reached their stage or failed. Those of other processes
    /// may still be on their way.
    There,
    /// All sessions rest until this time.
    Resting { until: Time },
    /// Some sessions are being woken.
    Waking,
}

/// Scheduled actions of the run.
enum Due {
    Open,
    Wake(wake::Due),
}

impl From<wake::Due> for Due {
    fn from(due: wake::Due) -> Self {
        Self::Wake(due)
    }
}

struct Run<'a> {
    idle: &'a Idle,
    share: Share,
    pace: ArrivalPace,
    measurement: Measurement,
    footprint: Option<Footprint>,
    processes: Processes,
    tally: Tally,
    step: Step,
    sleepers: Vec<ConnectionKey>,
    /// Sessions of this process that were still held at the end of the rest.
    held: Option<u32>,
    wakes: Option<Wakes>,
}

impl Run<'_> {
    fn sessions(&self) -> u32 {
        self.share.part(self.idle.sessions)
    }

    /// Schedules the next session for its own due time, whatever the earlier sessions do.
    fn plan_next(&mut self, agenda: &mut Agenda<Due>) {
        let opened = self.tally.opened();
        if opened < self.sessions() {
            let after = self.pace.next();
            agenda.at(self.processes.begins_at() + after, Due::Open);
        }
    }

    fn footprint_of_server(&mut self) -> Option<(&mut Footprint, &Watch)> {
        self.footprint.as_mut().zip(self.measurement.server.as_ref())
    }

    /// Moves on to the next step if its condition is met.
    fn step(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let (now, at) = (agenda.now(), agenda.now().since(agenda.began()));
        match self.step {
            Step::Opening if self.tally.decided() == self.sessions() => {
                self.step = Step::There;
                if self.idle.sharing.helper.is_some() {
                    processes::say_ready();
                } else {
                    self.step(agenda)?;
                }
            }
            Step::There if self.idle.sharing.helper.is_none() && self.processes.are_ready() => {
                self.step = Step::Resting { until: now + self.idle.options.duration_s };
                self.measurement.sample(at)?;
                if let Some((footprint, server)) = self.footprint_of_server() {
                    footprint.rest_begins(server, at);
                }
            }
            Step::Resting { until } if now >= until => {
                self.held = Some(self.tally.held());
                self.measurement.sample(at)?;
                if let Some((footprint, server)) = self.footprint_of_server() {
                    footprint.rest_ends(server, at)?;
                }
                self.step = Step::Waking;
                if self.idle.wakes() && self.tally.held() > 0 {
                    let count = self.idle.wake as usize;
                    self.wakes = Some(Wakes::begin(agenda, &self.sleepers, count));
                } else {
                    agenda.stop();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Scenario for Run<'_> {
    type Conn = ();
    type Due = Due;

    fn start(&mut self, engine: &mut Engine<Self>) {
        self.plan_next(engine.agenda());
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::Open => {
                let number = self.share.nth(self.tally.opened());
                let speak = self.idle.stage.speak(&engine.plan().target, number);
                engine.open(intended, speak, ());
                self.tally.note_opened();
                self.plan_next(engine.agenda());
            }
            Due::Wake(due) => {
                if let Some(wakes) = &mut self.wakes {
                    wakes.due(engine, due, intended);
                }
            }
        }
    }

    fn event(
        &mut self,
        agenda: &mut Agenda<Due>,
        (): &mut (),
        head: &ConnectionHead,
        event: ConnectionEvent<'_>,
    ) {
        if let Some(wakes) = self.wakes.as_mut().filter(|wakes| wakes.owns(head)) {
            return wakes.event(agenda, head, &event);
        }
        let ConnectionEvent::Reached { phase, took_us } = event else { return };
        let at = agenda.now().since(agenda.began());
        if self.tally.note_phase(head, phase, took_us, at) {
            self.sleepers.push(head.id);
        }
    }

    fn closed(&mut self, agenda: &mut Agenda<Due>, (): (), ended: Ended) {
        match self.wakes.as_mut().filter(|wakes| wakes.owns(&ended.head)) {
            Some(wakes) => wakes.closed(agenda, &ended),
            None => self.tally.note_ended(&ended),
        }
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let at = agenda.now().since(agenda.began());
        self.measurement.sample_soon(at)?;
        self.tally.sample(at);
        self.processes.listen()?;
        if self.measurement.is_beyond_repair(&self.tally.growing()) {
            agenda.stop();
        }
        self.step(agenda)
    }

    fn progress(&self) -> String {
        let (held, failed) = (self.tally.held(), self.tally.failed());
        let woken = self.wakes.as_ref().map_or(0, Wakes::woken);
        let all = self.sessions();
        let own = format!("{held} of {all} sessions held, {failed} failed, {woken} woken");
        self.processes.progress(own)
    }
}
