//! Connections that wait for a decision.
//!
//! ```text
//!            a judge says later               decision, or its deadline
//! listening ───────────────────▶ parked ───────────────────────────────▶ listening, or refused
//!                                   │ the peer leaves, or is closed
//!                                   ▼
//!                               abandoned: the decision is not waited for
//! ```
//!
//! A parked connection is not read: its bytes stay in the kernel. Bytes that were read together
//! with the request are kept and accounted. The connection is still sent the streams that it plays.
//! This module parks connections, and applies decisions as if there had been no wait. It judges
//! nothing.
//!
//! To read on and keep the bytes was rejected: a peer that is refused in the end could make the
//! server hold as much as it likes to send.

use super::Server;
use super::conn::Conn;
use super::judge::{Ask, Decision, OutsideJudge, Question, Refused, Ticket};
use super::reason::CloseReason;
use super::timers::TimerKind;
use super::transport::Transport;
use crate::http::response::HttpStatus;
use crate::rtmp::command::code;
use crate::stream::ids::ConnId;
use crate::time::Time;

/// A request that waits for its decision.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) ticket: Ticket,
    pub(super) ask: Ask,
    /// Deadline for the decision. The table arms it.
    pub(super) until: Time,
}

impl Parked {
    /// Returns the memory that it holds, including itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.ask.held_bytes()
    }
}

impl<T: Transport> Server<T> {
    /// Has a judge outside of the server decide what the access rules allow; `None` ends that. The
    /// loop must take the questions in each turn. Requests that wait already stay open until they
    /// are decided or their time is up.
    pub fn set_judge(&mut self, judge: Option<OutsideJudge>) {
        self.outside.judge = judge;
    }

    /// Takes the next question for the judge outside. Questions of connections that are gone are
    /// skipped.
    pub fn next_question(&mut self) -> Option<Question> {
        let judge = self.outside.judge.as_mut()?;
        loop {
            let question = judge.next_question()?;
            let conn = self.table.get(question.ticket.conn);
            if conn.is_some_and(|conn| conn.waits_for(question.ticket)) {
                return Some(question);
            }
        }
    }

    /// Parks a connection until its request is decided.
    pub(super) fn park(&mut self, id: ConnId, ticket: Ticket, ask: Ask, now: Time) {
        let verdict_ms = self.outside.judge.as_ref().map_or(0, |judge| judge.verdict_ms);
        let until = now.plus_millis(verdict_ms);
        self.table[id].park(Parked { ticket, ask, until: Time::NEVER });
        self.table.arm(id, TimerKind::Verdict, until);
    }

    /// Takes a decision. A decision that comes too late, or for a connection that is gone, changes
    /// nothing. A connect is granted the application that it asked for, whatever the name.
    pub fn decided(&mut self, ticket: Ticket, decision: Decision, now: Time) {
        let is_waited_for = |conn: &Conn<T>| conn.waits_for(ticket);
        if self.table.get(ticket.conn).is_some_and(is_waited_for) {
            self.unpark(ticket.conn, decision, now);
        }
    }

    /// Refuses a request whose decision has not come in time.
    pub(super) fn undecided(&mut self, id: ConnId, now: Time) {
        let refused = Refused {
            reason: CloseReason::VerdictTimeout,
            detail: "no decision in time".to_owned(),
            description: "the server cannot decide about this now: try again later".to_owned(),
        };
        self.unpark(id, Err(refused), now);
    }

    /// Drops the parked request of a connection that is being closed.
    pub(super) fn abandon(&mut self, id: ConnId) {
        if self.table[id].is_parked() {
            self.take_parked(id);
        }
    }

    /// Ends the wait of a connection. The deadline is cleared while its place is still there, since
    /// its entry would wake the server for nothing otherwise.
    fn take_parked(&mut self, id: ConnId) -> Option<Parked> {
        self.table.arm(id, TimerKind::Verdict, Time::NEVER);
        self.table[id].unpark()
    }

    fn unpark(&mut self, id: ConnId, decision: Decision, now: Time) {
        let Some(Parked { ask, .. }) = self.take_parked(id) else { return };
        let conn = &mut self.table[id];
        // It was not read during the wait, so the wait does not count as silence of the peer.
        conn.heard = now;
        let goes_on = conn.readable || conn.has_unread();
        match (ask, decision) {
            (Ask::Connect(request), Ok(_)) => self.accept_connect(id, request, now),
            (Ask::Connect(request), Err(refused)) => {
                self.refuse_connect(id, &request, refused, now);
            }
            (Ask::Publish(request), Ok(name)) => match self.recheck_publish(id, &request) {
                None => self.accept_publish(id, &request, &name, now),
                Some(refused) => self.deny_publish(id, &request, refused, now),
            },
            (Ask::Publish(request), Err(refused)) => self.deny_publish(id, &request, refused, now),
            (Ask::Play(request), Ok(name)) => self.accept_play(id, &request, &name, now),
            (Ask::Play(request), Err(refused)) => {
                self.refuse_play(id, &request, code::PLAY_FAILED, refused, now);
            }
            (Ask::View(request), Ok(name)) => self.accept_view(id, *request, &name, now),
            (Ask::Playlist(request), Ok(name)) => self.accept_playlist(id, request, &name, now),
            (Ask::Playlist(request), Err(refused)) => {
                let status = status_of(&refused);
                self.refuse_playlist(id, &request, status, refused, now);
            }
            (Ask::View(request), Err(refused)) => {
                let status = status_of(&refused);
                self.refuse_view(id, &request, status, refused, now);
            }
        }
        if goes_on {
            self.table.queue_read(id);
        }
        self.table.queue_write(id);
    }
}

/// Returns the status of a response for a refused request.
const fn status_of(refused: &Refused) -> HttpStatus {
    match refused.reason {
        CloseReason::VerdictTimeout => HttpStatus::ServiceUnavailable,
        _ => HttpStatus::Forbidden,
    }
}
