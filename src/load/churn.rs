//! `load churn`: sessions that come to a stage and are closed there, at a rate or one after
//! another.
//!
//! Owns when each is due and when it is done: not when it is closed here, but when the server has
//! closed it too. At a rate arrivals are an open loop, which hides no stall; a number that is
//! always there is a closed loop, which finds what a server can do at most.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::alarm;
use super::connection::{ConnectionEvent, ConnectionHead, ConnectionKey, Ended, Reason};
use super::engine::{self, Agenda, Engine, Scenario};
use super::kernel;
use super::measured::Measured;
use super::measurement::Measurement;
use super::options::{Options, rate, seconds};
use super::processes::{Processes, Share, Sharing};
use super::report::{Better, Distribution, Figure, LoadReport};
use super::sessions::{SessionStage, TIMED, Tally, add_quotient};
use super::target::Target;
use crate::time::Time;

/// What the sessions are to do.
#[derive(Clone, Debug, Args)]
pub struct Churn {
    /// The server, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    /// How many sessions are opened each second.
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate)]
    pub rate: f64,
    /// Keep so many sessions going instead, and open the next when one has ended: for what the
    /// server can do at most. While it stalls nothing is asked of it, so times are too good.
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = at_least_one())]
    pub concurrency: Option<u32>,
    /// How far each is brought.
    #[arg(long, value_enum, default_value = "connect")]
    pub stage: SessionStage,
    /// How many seconds each stays there.
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

const CLOSED_LOOP: &str = "closed loop (--concurrency): while the server stalls nothing is asked \
                           of it, so that its stalls are hardly seen; --rate shows them";

impl Churn {
    /// Opens and closes the sessions, and says how that went.
    ///
    /// # Errors
    /// Why nothing could be measured.
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
        BTreeMap::from([
            pace,
            ("stage".to_owned(), self.stage.name()),
            ("processes".to_owned(), self.sharing.processes.to_string()),
            ("hold-s".to_owned(), self.hold().as_secs_f64().to_string()),
        ])
    }

    fn hold(&self) -> Duration {
        self.hold_s.unwrap_or_default()
    }

    /// Sessions in all, where their number is known before.
    fn sessions(&self) -> u32 {
        (self.rate * self.options.duration_s.as_secs_f64()).ceil().min(f64::from(u32::MAX)) as u32
    }

    /// Sessions that are there at once when the server answers nothing: each has its time to come
    /// to its stage, and to be closed.
    fn at_once_max(&self) -> u32 {
        self.concurrency.unwrap_or_else(|| {
            let longest = self.longest().as_secs_f64();
            ((self.rate * longest).ceil() as u32).min(self.sessions())
        })
    }

    /// How long a session takes at most.
    fn longest(&self) -> Duration {
        self.options.timeout_s.saturating_mul(2).saturating_add(self.hold())
    }

    fn duration_max(&self) -> Duration {
        let spare = Duration::from_secs(2);
        self.options.duration_s.saturating_add(self.longest()).saturating_add(spare)
    }
}

/// What of the machine or of the way of measuring a reader should know.
fn add_doubts(report: &mut LoadReport, overflows_before: Option<u64>, is_closed_loop: bool) {
    if is_closed_loop {
        report.add_doubt(CLOSED_LOOP);
    }
    let dropped = kernel::listen_overflows()
        .zip(overflows_before)
        .map_or(0, |(now, before)| now.saturating_sub(before));
    if dropped > 0 {
        report.add_doubt(format!(
            "{dropped} times an accept queue of this machine was full and a connection had to wait \
             for its next SYN: the server accepts too slowly, or its backlog is small \
             (net.core.somaxconn)"
        ));
    }
    if report.figure("failed_no_local_port").is_some() {
        let waiting = kernel::Sockets::now().map_or(0, |sockets| sockets.time_wait);
        report.add_doubt(format!(
            "there was no port to connect from: {waiting} are in TIME_WAIT, where each stays for a \
             minute; ask for a lower rate or share the work with --processes"
        ));
    }
}

/// What can be due.
enum Due {
    Open,
    Leave(ConnectionKey),
}

struct Run<'a> {
    churn: &'a Churn,
    share: Share,
    begins_at: Time,
    /// Until then sessions are opened.
    ends_at: Time,
    measurement: Measurement,
    processes: Processes,
    tally: Tally,
    /// From when a session was due to when the server had closed it (us).
    session: Distribution,
    /// Sessions that came to their stage and were closed by the server.
    done: u32,
    last_done: Time,
}

impl Run<'_> {
    /// Asks for the session opened next at its time: the others do not move it. In a closed loop
    /// they do, and nothing is asked for here.
    fn plan_next(&self, agenda: &mut Agenda<Due>) {
        let opened = self.tally.opened();
        if self.churn.concurrency.is_none() && opened < self.share.part(self.churn.sessions()) {
            let after = f64::from(self.share.nth(opened)) / self.churn.rate;
            agenda.at(self.begins_at + Duration::from_secs_f64(after), Due::Open);
        }
    }

    /// All that were to be opened have ended.
    fn is_over(&self, now: Time) -> bool {
        let all_opened = match self.churn.concurrency {
            Some(_) => now >= self.ends_at,
            None => self.tally.opened() == self.share.part(self.churn.sessions()),
        };
        all_opened && self.tally.ended() == self.tally.opened()
    }

    fn finish(mut self, measured: &Measured) -> Result<LoadReport, LoadError> {
        let others = self.processes.finish(measured)?;
        // What the server has done since the last second is not known yet.
        self.measurement.sample(alarm::now().since(measured.began))?;
        let spent = self.measurement.spent();
        let report = &mut self.measurement.report;
        report.add_figure(Figure::new("sessions_done", f64::from(self.done), Better::Higher));
        self.tally.report(report);
        let churned = self.last_done.since(self.begins_at).as_secs_f64();
        let churned = Figure::new("churn_s", churned, Better::Neither).worst_of_all();
        report.add_figure(churned);
        report.distributions.insert(0, self.session);
        let mut report = self.measurement.finish(measured, &[&TIMED[..], &["churn_s"]].concat());
        others.add_to(&mut report)?;
        add_quotient(&mut report, "session_rate_per_s", "sessions_done", "churn_s", Better::Higher);
        if let Some(spent) = spent {
            let cpu_us = spent.cpu.as_secs_f64() * 1e6;
            report.add_figure(Figure::new("server_cpu_us", cpu_us, Better::Lower));
            let (name, sessions) = ("server_cpu_us_per_session", "sessions_done");
            add_quotient(&mut report, name, "server_cpu_us", sessions, Better::Lower);
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
            self.session.record(ended.at.since(agenda.began()), took_us);
        }
        if self.churn.concurrency.is_some() && ended.at < self.ends_at {
            agenda.at(ended.at, Due::Open);
        } else if self.is_over(ended.at) {
            agenda.stop();
        }
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        self.measurement.sample(agenda.now().since(agenda.began()))?;
        self.processes.listen()?;
        // No session may be left whose end could tell.
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
