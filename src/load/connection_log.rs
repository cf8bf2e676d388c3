//! The history of one connection: how it reached its stream, or why it did not.
//!
//! Owns the durations of the phases, the status messages of the server, and the error for a failed
//! connection. It opens no connection.

use std::time::Duration;

use super::LoadError;
use super::connection::{ConnectionPhase, Ended, Reason};
use super::report::{Figure, LoadReport};
use super::target::Target;
use crate::rtmp::command::Status;
use crate::text::Escaped;
use crate::time::Time;

/// Status messages that are reported. Later ones are only counted.
const STATUSES_MAX: usize = 16;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct ConnectionLog {
    /// Duration of each phase (us).
    phases: Vec<(ConnectionPhase, u64)>,
    /// Time when the server accepted the stream.
    pub(super) accepted_at: Option<Time>,
    statuses: u64,
    status_codes: Vec<String>,
    ended: Option<Ended>,
}

impl ConnectionLog {
    pub(super) fn reached(
        &mut self,
        phase: ConnectionPhase,
        took_us: u64,
        goal: ConnectionPhase,
        now: Time,
    ) {
        self.phases.push((phase, took_us));
        if phase == goal {
            self.accepted_at = Some(now);
        }
    }

    /// Records a status message that changes nothing.
    pub(super) fn status(&mut self, status: &Status<'_>) {
        self.statuses += 1;
        if self.status_codes.len() < STATUSES_MAX {
            self.status_codes.push(Escaped(status.code).to_string());
        }
    }

    pub(super) fn closed(&mut self, ended: Ended) {
        self.ended = Some(ended);
    }

    /// Returns how long the server let the connection publish or play.
    pub(super) fn held(&self) -> Duration {
        let ended = self.ended.as_ref().zip(self.accepted_at);
        ended.map_or(Duration::ZERO, |(ended, accepted_at)| ended.at.since(accepted_at))
    }

    /// Returns why the server ended `what` after accepting it, if so. Then there is something to
    /// report nevertheless.
    ///
    /// # Errors
    /// The server did not accept it.
    pub(super) fn broken_off(
        &mut self,
        target: &Target,
        what: &str,
        timeout: Duration,
    ) -> Result<Option<String>, LoadError> {
        match self.failure(target, what, timeout) {
            Some(error @ LoadError::BrokenOff { .. }) => Ok(Some(error.to_string())),
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Returns why the server refused `what`, or why it ended it.
    fn failure(&mut self, target: &Target, what: &str, timeout: Duration) -> Option<LoadError> {
        let ended = self.ended.take_if(|ended| ended.reason.is_failure())?;
        let (address, what, answer) = (target.address, what.to_owned(), ended.answer(timeout));
        if let Some(accepted_at) = self.accepted_at {
            let after = ended.at.since(accepted_at);
            return Some(LoadError::BrokenOff { address, what, answer, after });
        }
        if let (ConnectionPhase::Opening, Reason::Socket(error)) = (ended.head.phase, ended.reason)
        {
            return Some(LoadError::Unreachable { address, error });
        }
        Some(LoadError::Refused { address, what, answer })
    }

    /// Adds the durations of the phases and the status messages of the server.
    pub(super) fn add_to(&self, report: &mut LoadReport) {
        for (phase, took_us) in &self.phases {
            let name = format!("{}_ms", phase.name());
            report.add_figure(Figure::new(&name, *took_us as f64 / 1000.0));
        }
        report.add_figure(Figure::new("statuses", self.statuses as f64));
        if !self.status_codes.is_empty() {
            report.findings.insert("server_status".to_owned(), self.status_codes.join(", "));
        }
    }
}
