//! `load play`: one stream in detail, as a player sees it.
//!
//! Owns the connection of the player. `observer` measures the stream.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::connection::{ConnectionEvent, ConnectionHead, ConnectionKey, Ended, Reason};
use super::connection_log::ConnectionLog;
use super::engine::{self, Agenda, Engine, Scenario, Speak};
use super::measurement::Measurement;
use super::observer::Observer;
use super::options::Options;
use super::report::LoadReport;
use super::target::Target;
use crate::rtmp::client::Purpose;
use crate::time::Time;

/// Options of `load play`.
#[derive(Clone, Debug, Args)]
pub struct PlayCommand {
    /// The stream, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

impl PlayCommand {
    /// Plays for the requested time, or until the stream ends, and reports the results.
    ///
    /// # Errors
    /// The reason why nothing could be measured.
    pub fn measure(&self) -> Result<LoadReport, LoadError> {
        let target = Target::parse(&self.url)?;
        let measurement =
            Measurement::prepare("play", target.clone(), &self.options, 1, BTreeMap::new())?;
        let plan = measurement.plan(2 * self.options.timeout_s + self.options.duration_s);
        let mut run = Run {
            duration: self.options.duration_s,
            measurement,
            log: ConnectionLog::default(),
            connection: None,
            observer: None,
            has_ended: false,
        };
        let measured = engine::run(plan, &mut run)?;
        let Run { mut log, observer, mut measurement, has_ended, .. } = run;
        let failed = log.broken_off(&target, "play the stream", self.options.timeout_s)?;
        let report = &mut measurement.report;
        report.failed = failed;
        log.add_to(report);
        if let Some(observer) = observer {
            if !observer.has_media() {
                report.add_doubt("no media arrived; is the stream being published?");
            }
            observer.add_to(report);
        }
        if has_ended {
            report.add_doubt("the stream ended before the measurement did");
        }
        Ok(measurement.finish(&measured))
    }
}

/// Scheduled actions of the run.
enum Due {
    Open,
    End,
}

struct Run {
    duration: Duration,
    measurement: Measurement,
    log: ConnectionLog,
    connection: Option<ConnectionKey>,
    /// Measures the stream, from the intended time of the connection.
    observer: Option<Observer>,
    /// The server ended the stream, or closed the connection after sending some of it.
    has_ended: bool,
}

impl Scenario for Run {
    type Conn = ();
    type Due = Due;

    fn start(&mut self, engine: &mut Engine<Self>) {
        let began = engine.agenda().began();
        engine.agenda().at(began, Due::Open);
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::Open => {
                let target = &engine.plan().target;
                let purpose = Purpose::Play { key: target.key.clone() };
                let speak = Speak::Rtmp(target.client(purpose));
                self.observer = Some(Observer::new(intended));
                self.connection = engine.open(intended, speak, ());
            }
            Due::End => self.connection.into_iter().for_each(|id| engine.agenda().close(id)),
        }
    }

    fn event(
        &mut self,
        agenda: &mut Agenda<Due>,
        (): &mut (),
        head: &ConnectionHead,
        event: ConnectionEvent<'_>,
    ) {
        let now = agenda.now();
        match event {
            ConnectionEvent::Reached { phase, took_us } => {
                self.log.reached(phase, took_us, head.goal, now);
                if phase == head.goal {
                    agenda.at(now + self.duration, Due::End);
                }
            }
            ConnectionEvent::Media(message) => {
                if let Some(observer) = &mut self.observer {
                    observer.note(message, now);
                }
            }
            ConnectionEvent::Status(status) => self.log.status(&status),
            ConnectionEvent::StreamEof => {
                self.has_ended = true;
                agenda.close(head.id);
            }
            ConnectionEvent::Frame(_) | ConnectionEvent::Acknowledged(_) => {}
        }
    }

    fn closed(&mut self, agenda: &mut Agenda<Due>, (): (), mut ended: Ended) {
        let Some(observer) = &mut self.observer else { return };
        if !self.has_ended {
            observer.end(ended.at);
        }
        // Some servers end a stream by closing the connection.
        if matches!(ended.reason, Reason::PeerClosed) && observer.has_media() {
            self.has_ended = true;
            ended.reason = Reason::Done;
        }
        self.log.closed(ended);
        agenda.stop();
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let growing = self.observer.as_ref().map(Observer::growing);
        if growing.is_some_and(|growing| self.measurement.is_beyond_repair(&growing)) {
            self.connection.into_iter().for_each(|id| agenda.close(id));
        }
        self.measurement.sample_soon(agenda.now().since(agenda.began()))
    }

    fn progress(&self) -> String {
        let (video_frames, audio_frames, bytes) =
            self.observer.as_ref().map(Observer::counts).unwrap_or_default();
        format!("{video_frames} video frames, {audio_frames} audio frames, {bytes} bytes received")
    }
}
