//! One session ahead of all others: what it meets, they would meet too.
//!
//! Owns the question whether a run makes sense at all. A server that refuses the scout, or does
//! not answer it, ends the measurement in one line instead of a thousand failures; and what a
//! server sets up once, for its first session, is not counted as the cost of the others.

use std::time::Duration;

use super::LoadError;
use super::connection::{ConnectionEvent, ConnectionHead, ConnectionPhase, Ended, Reason};
use super::engine::{self, Agenda, Engine, Plan, Scenario, Speak};
use crate::time::Time;

/// Opens one session, brings it to its goal and closes it.
///
/// # Errors
/// [`LoadError::Unreachable`] where there is no connection, [`LoadError::Refused`] where the
/// session does not come to its goal.
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
        (Reason::Timeout, ConnectionPhase::Opening) => "there is no connection".to_owned(),
        (Reason::Timeout, phase) => {
            format!("no answer within {timeout:?}, after {}", phase.name())
        }
        (Reason::RunOver, _) => "it was interrupted".to_owned(),
        (Reason::PeerClosed, phase) => {
            format!("it closed the connection, after {}", phase.name())
        }
        (reason, _) => reason.to_string(),
    };
    Err(LoadError::Refused { address, what: request(head.goal).to_owned(), answer })
}

/// What a session asks for to come to `goal`.
const fn request(goal: ConnectionPhase) -> &'static str {
    match goal {
        ConnectionPhase::Opening | ConnectionPhase::Tcp => "accept",
        ConnectionPhase::Handshake => "shake hands",
        ConnectionPhase::Connect => "connect",
        ConnectionPhase::Stream => "create a stream",
        ConnectionPhase::Publish => "take a stream",
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
        // It waits for the server's side to close, so that nothing of it is left when all begin.
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
