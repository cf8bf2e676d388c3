//! The scout: one session before all others, to see whether the server accepts them.
//!
//! Owns the check whether a run makes sense at all. If the server refuses the scout or does not
//! answer it, the measurement ends with one line instead of a thousand failures. In addition, costs
//! that a server has only for its first session are not counted for the others.

use std::time::Duration;

use super::LoadError;
use super::connection::{ConnectionEvent, ConnectionHead, ConnectionPhase, Ended, Reason};
use super::engine::{self, Agenda, Engine, Plan, Scenario, Speak};
use crate::time::Time;

/// Opens one session, brings it to its goal and closes it.
///
/// # Errors
/// [`LoadError::Unreachable`] if the connection fails, [`LoadError::Refused`] if the session does
/// not reach its goal.
pub fn run(plan: Plan, speak: Speak) -> Result<(), LoadError> {
    let address = plan.target.address;
    let duration = plan.timeout * 2 + Duration::from_secs(1);
    let timeout = plan.timeout;
    let mut scout = Scout { speak: Some(speak), ended: None };
    engine::run(Plan { duration, shows_progress: false, ..plan }, &mut scout)?;
    let Some(Ended { head, reason, .. }) = scout.ended.filter(|ended| !ended.head.is_settled())
    else {
        return Ok(());
    };
    let answer = match (reason, head.phase) {
        (Reason::Socket(error), ConnectionPhase::Opening) => {
            return Err(LoadError::Unreachable { address, error });
        }
        (Reason::Timeout, ConnectionPhase::Opening) => "the connection timed out".to_owned(),
        (Reason::Timeout, phase) => {
            format!("no answer within {timeout:?}, after {}", phase.name())
        }
        (Reason::RunOver, _) => "the run was interrupted".to_owned(),
        (Reason::PeerClosed, phase) => {
            format!("it closed the connection, after {}", phase.name())
        }
        (reason, _) => reason.to_string(),
    };
    Err(LoadError::Refused { address, what: request(head.goal).to_owned(), answer })
}

/// Returns the request of a session that has this goal, for an error text.
const fn request(goal: ConnectionPhase) -> &'static str {
    match goal {
        ConnectionPhase::Opening | ConnectionPhase::Tcp => "accept",
        ConnectionPhase::Handshake => "shake hands",
        ConnectionPhase::Connect => "connect",
        ConnectionPhase::Stream => "create a stream",
        ConnectionPhase::Publish => "publish a stream",
        ConnectionPhase::Play => "play a stream",
    }
}

struct Scout {
    speak: Option<Speak>,
    ended: Option<Ended>,
}

impl Scenario for Scout {
    type Conn = ();
    type Due = ();

    fn start(&mut self, engine: &mut Engine<Self>) {
        let began = engine.agenda().began();
        engine.agenda().at(began, ());
    }

    fn due(&mut self, engine: &mut Engine<Self>, (): (), intended: Time) {
        if let Some(speak) = self.speak.take() {
            engine.open(intended, speak, ());
        }
    }

    fn event(
        &mut self,
        agenda: &mut Agenda<()>,
        (): &mut (),
        head: &ConnectionHead,
        event: ConnectionEvent<'_>,
    ) {
        // Wait for the server to close its side, so that no state of the scout is left when the run
        // starts.
        if matches!(event, ConnectionEvent::Reached { phase, .. } if phase == head.goal) {
            agenda.leave(head.id);
        }
    }

    fn closed(&mut self, agenda: &mut Agenda<()>, (): (), ended: Ended) {
        self.ended = Some(ended);
        agenda.stop();
    }

    fn progress(&self) -> String {
        String::new()
    }
}
