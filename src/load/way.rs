//! How one connection came to its stream, or why it did not.
//!
//! Owns the phases of that connection, what the server said on it, and which error its end is. It
//! opens nothing.

use std::time::Duration;

use super::LoadError;
use super::connection::{ConnectionPhase, Ended, Reason};
use super::report::{Better, Figure, LoadReport};
use super::target::Target;
use crate::rtmp::command::Status;
use crate::text::Escaped;
use crate::time::Time;

/// Statuses that are told; a server that goes on says nothing new.
const STATUSES_MAX: usize = 16;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// How long each phase took (us).
    phases: Vec<(ConnectionPhase, u64)>,
    /// When the server accepted the stream.
    pub(super) accepted_at: Option<Time>,
    statuses: u64,
    said: Vec<String>,
    ended: Option<Ended>,
}

impl Way {
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

    /// The server said something that decides nothing.
    pub(super) fn status(&mut self, status: &Status<'_>) {
        self.statuses += 1;
        if self.said.len() < STATUSES_MAX {
            self.said.push(Escaped(status.code).to_string());
        }
    }

    pub(super) fn closed(&mut self, ended: Ended) {
        self.ended = Some(ended);
    }

    /// For how long the server let the connection have its stream.
    pub(super) fn held(&self) -> Duration {
        let ended = self.ended.as_ref().zip(self.accepted_at);
        ended.map_or(Duration::ZERO, |(ended, accepted_at)| ended.at.since(accepted_at))
    }

    /// Why the server would not do `what`, or broke it off.
    pub(super) fn failure(
        &mut self,
        target: &Target,
        what: &str,
        timeout: Duration,
    ) -> Option<LoadError> {
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

    /// Adds how long each phase took and what the server said.
    pub(super) fn add_to(&self, report: &mut LoadReport) {
        for (phase, took_us) in &self.phases {
            let name = format!("{}_ms", phase.name());
            report.add_figure(Figure::new(&name, *took_us as f64 / 1000.0, Better::Lower));
        }
        report.add_figure(Figure::new("statuses", self.statuses as f64, Better::Neither));
        if !self.said.is_empty() {
            report.findings.insert("server_status".to_owned(), self.said.join(", "));
        }
    }
}
