//! Deadlines: a few for each connection, and one ordered set for all.
//!
//! Invariant: a connection has at most one entry in the set, at or before its earliest deadline.
//! Postponing a deadline does not touch the set. The entry then fires early once, finds nothing
//! due, and moves to the next deadline. So activity costs one store, and a connection without
//! deadlines costs nothing and causes no wakeup.

use crate::stream::ids::ConnId;
use crate::time::Time;
use std::collections::BTreeSet;

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKind {
    /// Deadline for the end of the stage: handshake, connect, idle, waiting or leaving.
    Stage,
    /// Deadline for a publisher to send media.
    Silence,
    /// Deadline for a connection with pending output to accept a byte.
    Stall,
    /// Time of the next ping.
    Ping,
    /// Deadline for the verdict about a request.
    Verdict,
}

/// The deadlines that every connection has.
#[derive(Debug)]
pub struct ConnTimers {
    stage: Time,
    ping: Time,
    /// Time of the entry in the set; [`Time::NEVER`] without an entry.
    queued: Time,
}

impl Default for ConnTimers {
    fn default() -> Self {
        Self { stage: Time::NEVER, ping: Time::NEVER, queued: Time::NEVER }
    }
}

impl ConnTimers {
    /// Returns the time of the entry in the set; [`Time::NEVER`] without an entry.
    pub const fn entry(&self) -> Time {
        self.queued
    }

    /// Returns the earliest of these deadlines.
    pub fn earliest(&self) -> Time {
        self.stage.min(self.ping)
    }
}

/// All deadlines of one connection. The optional ones are stored with the streams and requests of
/// the connection, so that an idle session has no memory for them.
#[derive(Debug)]
pub struct Deadlines<'c> {
    /// The deadlines that every connection has.
    pub conn: &'c mut ConnTimers,
    /// The silence deadline of a publisher.
    pub silence: Option<&'c mut Time>,
    /// The stall deadline of a connection with pending output.
    pub stall: Option<&'c mut Time>,
    /// The deadline for a verdict.
    pub verdict: Option<&'c mut Time>,
}

impl Deadlines<'_> {
    /// Takes one deadline that is due at `now`, and clears it.
    pub fn take_due(&mut self, now: Time) -> Option<TimerKind> {
        use TimerKind::{Ping, Silence, Stage, Stall, Verdict};
        let is_due = |kind: &TimerKind| self.slot(*kind).is_some_and(|at| *at <= now);
        let kind = [Verdict, Stage, Silence, Stall, Ping].into_iter().find(is_due)?;
        *self.slot(kind)? = Time::NEVER;
        Some(kind)
    }

    fn slot(&mut self, kind: TimerKind) -> Option<&mut Time> {
        match kind {
            TimerKind::Stage => Some(&mut self.conn.stage),
            TimerKind::Ping => Some(&mut self.conn.ping),
            TimerKind::Silence => self.silence.as_deref_mut(),
            TimerKind::Stall => self.stall.as_deref_mut(),
            TimerKind::Verdict => self.verdict.as_deref_mut(),
        }
    }

    fn earliest(&self) -> Time {
        let others = [self.silence.as_deref(), self.stall.as_deref(), self.verdict.as_deref()];
        others.into_iter().flatten().fold(self.conn.earliest(), |first, at| first.min(*at))
    }
}

/// The ordered set of all connections that have a deadline.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(Time, ConnId)>,
}

impl Timers {
    /// Sets a deadline of connection `id`; [`Time::NEVER`] clears it. Does nothing if the
    /// connection has no place for that kind.
    ///
    /// Clearing the last deadline removes the entry, so that no entry wakes the loop for an idle
    /// session.
    pub fn set(&mut self, mut deadlines: Deadlines<'_>, id: ConnId, kind: TimerKind, at: Time) {
        let Some(slot) = deadlines.slot(kind) else { return };
        if std::mem::replace(slot, at) == at {
            return;
        }
        if at < deadlines.conn.queued || at == Time::NEVER {
            self.settle(deadlines, id);
        }
    }

    /// Moves the entry of connection `id` to its earliest deadline.
    pub fn settle(&mut self, deadlines: Deadlines<'_>, id: ConnId) {
        let earliest = deadlines.earliest();
        if earliest == deadlines.conn.queued {
            return;
        }
        self.remove(deadlines.conn, id);
        if earliest != Time::NEVER {
            self.queue.insert((earliest, id));
            deadlines.conn.queued = earliest;
        }
    }

    /// Removes the entry of connection `id`.
    pub fn remove(&mut self, timers: &mut ConnTimers, id: ConnId) {
        if timers.queued != Time::NEVER {
            self.queue.remove(&(timers.queued, id));
            timers.queued = Time::NEVER;
        }
    }

    /// Returns the first entry that is due. It stays until [`Timers::settle`] moves it.
    pub fn first_due(&self, now: Time) -> Option<ConnId> {
        self.queue.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Returns the time of the first entry, at which the loop has to wake up.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Number of connections with an entry.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether no connection has a deadline.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId::new(1);

    fn at(millis: u64) -> Time {
        Time::ZERO.plus_millis(millis)
    }

    /// A connection with streams.
    struct Conn {
        timers: ConnTimers,
        silence: Time,
        stall: Time,
    }

    impl Conn {
        fn new() -> Self {
            Self { timers: ConnTimers::default(), silence: Time::NEVER, stall: Time::NEVER }
        }

        fn deadlines(&mut self) -> Deadlines<'_> {
            let (silence, stall) = (Some(&mut self.silence), Some(&mut self.stall));
            Deadlines { conn: &mut self.timers, silence, stall, verdict: None }
        }
    }

    #[test]
    fn one_entry_serves_all_deadlines_of_a_connection() {
        let (mut timers, mut conn) = (Timers::default(), Conn::new());
        timers.set(conn.deadlines(), A, TimerKind::Stage, at(50));
        timers.set(conn.deadlines(), A, TimerKind::Ping, at(20));
        timers.set(conn.deadlines(), A, TimerKind::Stall, at(90));
        assert_eq!((timers.len(), timers.next()), (1, Some(at(20))));
    }

    #[test]
    fn a_deadline_moved_later_leaves_the_entry_until_it_fires() {
        let (mut timers, mut conn) = (Timers::default(), Conn::new());
        timers.set(conn.deadlines(), A, TimerKind::Silence, at(10));
        timers.set(conn.deadlines(), A, TimerKind::Silence, at(30));
        assert_eq!(timers.first_due(at(10)), Some(A));
        assert_eq!(conn.deadlines().take_due(at(10)), None);
        timers.settle(conn.deadlines(), A);
        assert_eq!((timers.first_due(at(10)), timers.next()), (None, Some(at(30))));
    }

    #[test]
    fn clearing_the_last_deadline_leaves_nothing_to_wake_for() {
        for kind in [TimerKind::Stage, TimerKind::Silence, TimerKind::Stall, TimerKind::Ping] {
            let (mut timers, mut conn) = (Timers::default(), Conn::new());
            timers.set(conn.deadlines(), A, kind, at(10));
            assert_eq!(timers.next(), Some(at(10)), "{kind:?}");
            timers.set(conn.deadlines(), A, kind, Time::NEVER);
            assert!(timers.is_empty(), "{kind:?}");
            assert_eq!(timers.next(), None, "{kind:?}");
        }
    }

    #[test]
    fn due_kinds_are_taken_one_by_one() {
        let (mut timers, mut conn) = (Timers::default(), Conn::new());
        timers.set(conn.deadlines(), A, TimerKind::Stall, at(5));
        timers.set(conn.deadlines(), A, TimerKind::Stage, at(5));
        assert_eq!(conn.deadlines().take_due(at(5)), Some(TimerKind::Stage));
        assert_eq!(conn.deadlines().take_due(at(5)), Some(TimerKind::Stall));
        assert_eq!(conn.deadlines().take_due(at(5)), None);
        timers.settle(conn.deadlines(), A);
        assert!(timers.is_empty());
    }
}
