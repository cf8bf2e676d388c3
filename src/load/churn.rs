//! `load churn`: brings sessions to a stage and closes them, at a rate or with fixed concurrency.
//!
//! Owns when each session is due and when it is done: not when the generator closes it, but when
//! the server has closed it, too. At a rate, arrivals are open-loop and hide no stall. With fixed
//! concurrency they are closed-loop, which finds the maximum rate of a server.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::alarm;
use super::connection::{ConnectionEvent, ConnectionHead, ConnectionKey, Ended, Reason};
use super::engine::{self, Agenda, Engine, Scenario};
use super::failures::judge_sessions;
use super::kernel;
use super::machine::busy_figures;
use super::measured::Measured;
use super::measurement::Measurement;
use super::options::{Options, rate, seconds};
use super::pace::{ArrivalPace, PaceOptions};
use super::processes::{Processes, Share, Sharing};
use super::report::{Distribution, Figure, LoadReport};
use super::sessions::{SessionStage, Tally, add_quotient};
use super::target::Target;
use crate::time::Time;

/// Options of `load churn`.
#[derive(Clone, Debug, Args)]
pub struct Churn {
    /// The server, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    /// How many sessions to open per second.
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate)]
    pub rate: f64,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub pace: PaceOptions,
    /// Keep this many sessions going instead (closed loop) and open the next when one has ended, to
    /// find the maximum rate of the server. A stalled server gets no further sessions, so times
    /// come out too good.
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = at_least_one())]
    pub concurrency: Option<u32>,
    /// The stage to bring each session to.
    #[arg(long, value_enum, default_value = "connect")]
    pub stage: SessionStage,
    /// How many seconds to hold each session at its stage.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub hold_s: Option<Duration>,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub sharing: Sharing,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

const CLOSED_LOOP: &str = "closed loop (--concurrency): a stalled server gets no further sessions, \
                           so its stalls hardly show in the times; --rate shows them";

impl Churn {
    /// Opens and closes the sessions, and reports the results.
    ///
    /// # Errors
    /// The reason why nothing could be measured.
    pub fn measure(&self) -> Result<LoadReport, LoadError> {
        let target = Target::parse(&self.url)?;
        let share = self.sharing.share();
        let connections = share.part(self.at_once_max()) as usize;
        let mut measurement = Measurement::prepare_share(
            &self.sharing,
            "churn",
            target,
            &self.options,
            connections,
            self.parameters(),
        )?;
        measurement.scout(|target| self.stage.speak(target, u32::MAX))?;
        let overflows = kernel::listen_overflows();
        let processes = Processes::start(&self.sharing)?;
        let begins_at = processes.begins_at();
        let plan = measurement.plan(self.duration_max());
        let mut run = Run {
            churn: self,
            share,
            pace: ArrivalPace::new(&self.pace, self.rate, share, self.sessions()),
            begins_at,
            ends_at: begins_at + self.options.duration_s,
            tally: Tally::new(begins_at),
            session: Distribution::new("session"),
            measurement,
            processes,
            done: 0,
            last_done: begins_at,
        };
        let measured = engine::run(plan, &mut run)?;
        let mut report = run.finish(&measured)?;
        add_doubts(&mut report, overflows, self.concurrency.is_some());
        Ok(report)
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let pace = match self.concurrency {
            Some(concurrency) => ("concurrency".to_owned(), concurrency.to_string()),
            None => ("rate".to_owned(), self.rate.to_string()),
        };
        let mut parameters = self.pace.parameters();
        parameters.extend([
            pace,
            ("stage".to_owned(), self.stage.name()),
            ("processes".to_owned(), self.sharing.processes.to_string()),
            ("hold-s".to_owned(), self.hold().as_secs_f64().to_string()),
        ]);
        parameters
    }

    fn hold(&self) -> Duration {
        self.hold_s.unwrap_or_default()
    }

    /// Returns the number of sessions in total, for a run at a rate.
    fn sessions(&self) -> u32 {
        (self.rate * self.options.duration_s.as_secs_f64()).ceil().min(f64::from(u32::MAX)) as u32
    }

    /// Returns the maximum number of simultaneous sessions, if the server answers nothing: each
    /// session has its timeout to reach its stage, and again to be closed.
    fn at_once_max(&self) -> u32 {
        self.concurrency.unwrap_or_else(|| {
            let longest = self.longest().as_secs_f64();
            ((self.rate * longest).ceil() as u32).min(self.sessions())
        })
    }

    /// Returns the longest time that a session takes.
    fn longest(&self) -> Duration {
        self.options.timeout_s.saturating_mul(2).saturating_add(self.hold())
    }

    fn duration_max(&self) -> Duration {
        let spare = Duration::from_secs(2);
        self.options.duration_s.saturating_add(self.longest()).saturating_add(spare)
    }
}

/// Adds doubts about the machine and the kind of load.
fn add_doubts(report: &mut LoadReport, overflows_before: Option<u64>, is_closed_loop: bool) {
    if is_closed_loop {
        report.add_doubt(CLOSED_LOOP);
    }
    let dropped = kernel::listen_overflows()
        .zip(overflows_before)
        .map_or(0, |(now, before)| now.saturating_sub(before));
    if dropped > 0 {
        report.add_doubt(format!(
            "the accept queue of a listener on this machine overflowed {dropped} times, and a \
             connection had to wait for its next SYN: the server accepts too slowly, or its \
             backlog is too small (net.core.somaxconn)"
        ));
    }
    if report.figure("failed_no_local_port").is_some() {
        let waiting = kernel::Sockets::now().map_or(0, |sockets| sockets.time_wait);
        report.add_doubt(format!(
            "no local port was free to connect from: {waiting} are in TIME_WAIT, each for a \
             minute; use a lower rate or share the work with --processes"
        ));
    }
}

/// Scheduled actions of the run.
enum Due {
    Open,
    Leave(ConnectionKey),
}

struct Run<'a> {
    churn: &'a Churn,
    share: Share,
    pace: ArrivalPace,
    begins_at: Time,
    /// Time until which sessions are opened.
    ends_at: Time,
    measurement: Measurement,
    processes: Processes,
    tally: Tally,
    /// Time from when a session was due to when the server had closed it (us).
    session: Distribution,
    /// Sessions that reached their stage and were closed by the server.
    done: u32,
    last_done: Time,
}

impl Run<'_> {
    /// Schedules the next session for its own due time, whatever the earlier sessions do. In a
    /// closed loop the end of a session opens the next, so there is nothing to schedule.
    fn plan_next(&mut self, agenda: &mut Agenda<Due>) {
        let opened = self.tally.opened();
        if self.churn.concurrency.is_none() && opened < self.share.part(self.churn.sessions()) {
            let after = self.pace.next();
            agenda.at(self.begins_at + after, Due::Open);
        }
    }

    /// Returns whether all sessions have been opened and have ended.
    fn is_over(&self, now: Time) -> bool {
        let all_opened = match self.churn.concurrency {
            Some(_) => now >= self.ends_at,
            None => self.tally.opened() == self.share.part(self.churn.sessions()),
        };
        all_opened && self.tally.ended() == self.tally.opened()
    }

    fn finish(mut self, measured: &Measured) -> Result<LoadReport, LoadError> {
        let others = self.processes.finish(measured)?;
        // Sample once more: the last sample is up to a second old.
        self.measurement.sample(alarm::now().since(measured.began))?;
        let (spent, busy) = (self.measurement.spent(), self.measurement.machine_spent());
        let report = &mut self.measurement.report;
        report.add_figure(Figure::new("sessions_done", f64::from(self.done)));
        self.tally.report(report);
        let churned = self.last_done.since(self.begins_at).as_secs_f64();
        report.add_figure(Figure::new("churn_s", churned));
        report.distributions.insert(0, self.session);
        let mut report = self.measurement.finish(measured);
        others.add_to(&mut report)?;
        if self.churn.sharing.helper.is_none() {
            judge_sessions(&mut report, self.churn.options.failed_max_share);
        }
        add_quotient(&mut report, "session_rate_per_s", "sessions_done", "churn_s");
        if let Some(spent) = spent {
            let cpu_us = spent.cpu.as_secs_f64() * 1e6;
            report.add_figure(Figure::new("server_cpu_us", cpu_us));
            let (name, sessions) = ("server_cpu_us_per_session", "sessions_done");
            add_quotient(&mut report, name, "server_cpu_us", sessions);
        }
        if let Some(busy) = busy {
            busy.add_to(&mut report);
            for name in busy_figures(&report) {
                let us =
                    report.figure(&name).and_then(|figure| figure.value).unwrap_or_default() * 1e6;
                let name = name.replace("_busy_s", "_busy_us");
                report.add_figure(Figure::new(&name, us));
                let per_session = format!("{name}_per_session");
                add_quotient(&mut report, &per_session, &name, "sessions_done");
            }
        }
        Ok(report)
    }
}

impl Scenario for Run<'_> {
    type Conn = ();
    type Due = Due;

    fn start(&mut self, engine: &mut Engine<Self>) {
        let (agenda, begins_at) = (engine.agenda(), self.begins_at);
        let at_once = self.churn.concurrency.map_or(0, |concurrency| self.share.part(concurrency));
        (0..at_once).for_each(|_| agenda.at(begins_at, Due::Open));
        self.plan_next(agenda);
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::Leave(id) => engine.agenda().leave(id),
            Due::Open => {
                let number = self.share.nth(self.tally.opened());
                let speak = self.churn.stage.speak(&engine.plan().target, number);
                engine.open(intended, speak, ());
                self.tally.note_opened();
                self.plan_next(engine.agenda());
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
        let ConnectionEvent::Reached { phase, took_us } = event else { return };
        let at = agenda.now().since(agenda.began());
        if self.tally.note_phase(head, phase, took_us, at) {
            match self.churn.hold_s {
                Some(hold) => agenda.at(agenda.now() + hold, Due::Leave(head.id)),
                None => agenda.leave(head.id),
            }
        }
    }

    fn closed(&mut self, agenda: &mut Agenda<Due>, (): (), ended: Ended) {
        self.tally.note_ended(&ended);
        if matches!(ended.reason, Reason::RunOver) {
            return;
        }
        if matches!(ended.reason, Reason::Done) {
            self.done += 1;
            self.last_done = ended.at;
            let took_us = ended.at.since(ended.head.intended).as_micros() as u64;
            self.session.record(ended.head.intended.since(agenda.began()), took_us);
        }
        if self.churn.concurrency.is_some() && ended.at < self.ends_at {
            agenda.at(ended.at, Due::Open);
        } else if self.is_over(ended.at) {
            agenda.stop();
        }
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let at = agenda.now().since(agenda.began());
        self.measurement.sample_soon(at)?;
        self.tally.sample(at);
        self.processes.listen()?;
        if self.measurement.is_beyond_repair(&self.tally.growing()) {
            self.processes.dismiss();
            agenda.stop();
        }
        // There may be no session left whose end would be reported.
        if self.is_over(agenda.now()) {
            agenda.stop();
        }
        Ok(())
    }

    fn progress(&self) -> String {
        let (opened, failed) = (self.tally.opened(), self.tally.failed());
        let own = format!("{opened} sessions opened, {} done, {failed} failed", self.done);
        self.processes.progress(own)
    }
}
