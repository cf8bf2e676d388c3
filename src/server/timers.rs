//! Deadlines: a small table per connection, one ordered set for all.
//!
//! Invariant: a connection has at most one entry in the set, at or before its earliest
//! deadline. Moving a deadline later changes only the table; the entry fires early once, finds
//! nothing due and is put where it belongs. So activity costs a store, and a connection
//! without deadlines costs nothing and wakes nobody.

use super::ConnId;
use crate::time::Time;
use std::collections::BTreeSet;

/// What a connection may be late with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKind {
    /// The end of the stage it is in: handshake, connect, idle, waiting or leaving.
    Stage,
    /// The next media of a publisher.
    Silence,
    /// The next byte that a player takes.
    Stall,
    /// The next ping.
    Ping,
}

const KINDS: [TimerKind; 4] =
    [TimerKind::Stage, TimerKind::Silence, TimerKind::Stall, TimerKind::Ping];

/// The deadlines of one connection.
#[derive(Debug)]
pub struct ConnTimers {
    deadlines: [Time; KINDS.len()],
    /// Where its entry in the set stands; [`Time::NEVER`] when it has none.
    queued: Time,
}

impl Default for ConnTimers {
    fn default() -> Self {
        Self { deadlines: [Time::NEVER; KINDS.len()], queued: Time::NEVER }
    }
}

impl ConnTimers {
    /// The deadline of `kind`, [`Time::NEVER`] when none is set.
    pub const fn deadline(&self, kind: TimerKind) -> Time {
        self.deadlines[kind as usize]
    }

    /// Takes one kind that is due at `now`; its deadline is cleared.
    pub fn take_due(&mut self, now: Time) -> Option<TimerKind> {
        let kind = KINDS.into_iter().find(|kind| self.deadlines[*kind as usize] <= now)?;
        self.deadlines[kind as usize] = Time::NEVER;
        Some(kind)
    }

    /// Where its one entry in the set stands; [`Time::NEVER`] when it has none.
    pub const fn entry(&self) -> Time {
        self.queued
    }

    /// The first of its deadlines.
    pub fn earliest(&self) -> Time {
        self.deadlines.into_iter().min().unwrap_or(Time::NEVER)
    }
}

/// The ordered set of all connections that have a deadline.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(Time, ConnId)>,
}

impl Timers {
    /// Sets a deadline of connection `id`; [`Time::NEVER`] clears it.
    ///
    /// Clearing the last deadline removes the entry, so that a session that goes to sleep is
    /// not woken by what it no longer waits for.
    pub fn set(&mut self, timers: &mut ConnTimers, id: ConnId, kind: TimerKind, at: Time) {
        if std::mem::replace(&mut timers.deadlines[kind as usize], at) == at {
            return;
        }
        if at < timers.queued || at == Time::NEVER {
            self.settle(timers, id);
        }
    }

    /// Puts the entry of connection `id` at its earliest deadline.
    pub fn settle(&mut self, timers: &mut ConnTimers, id: ConnId) {
        let earliest = timers.earliest();
        if earliest == timers.queued {
            return;
        }
        self.remove(timers, id);
        if earliest != Time::NEVER {
            self.queue.insert((earliest, id));
            timers.queued = earliest;
        }
    }

    /// Forgets connection `id`.
    pub fn remove(&mut self, timers: &mut ConnTimers, id: ConnId) {
        if timers.queued != Time::NEVER {
            self.queue.remove(&(timers.queued, id));
            timers.queued = Time::NEVER;
        }
    }

    /// The first entry that is due. It stays until [`Timers::settle`] moves it.
    pub fn first_due(&self, now: Time) -> Option<ConnId> {
        self.queue.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// When the loop has to wake for the first entry.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Connections that have an entry.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody has a deadline.
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

    #[test]
    fn one_entry_serves_all_deadlines_of_a_connection() {
        let (mut timers, mut conn) = (Timers::default(), ConnTimers::default());
        timers.set(&mut conn, A, TimerKind::Stage, at(50));
        timers.set(&mut conn, A, TimerKind::Ping, at(20));
        timers.set(&mut conn, A, TimerKind::Stall, at(90));
        assert_eq!((timers.len(), timers.next()), (1, Some(at(20))));
    }

    #[test]
    fn a_deadline_moved_later_leaves_the_entry_until_it_fires() {
        let (mut timers, mut conn) = (Timers::default(), ConnTimers::default());
        timers.set(&mut conn, A, TimerKind::Silence, at(10));
        timers.set(&mut conn, A, TimerKind::Silence, at(30));
        assert_eq!(timers.first_due(at(10)), Some(A));
        assert_eq!(conn.take_due(at(10)), None);
        timers.settle(&mut conn, A);
        assert_eq!((timers.first_due(at(10)), timers.next()), (None, Some(at(30))));
    }

    #[test]
    fn clearing_the_last_deadline_leaves_nothing_to_wake_for() {
        let (mut timers, mut conn) = (Timers::default(), ConnTimers::default());
        timers.set(&mut conn, A, TimerKind::Stage, at(10));
        timers.set(&mut conn, A, TimerKind::Stage, Time::NEVER);
        assert!(timers.is_empty());
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn due_kinds_are_taken_one_by_one() {
        let (mut timers, mut conn) = (Timers::default(), ConnTimers::default());
        timers.set(&mut conn, A, TimerKind::Stall, at(5));
        timers.set(&mut conn, A, TimerKind::Stage, at(5));
        assert_eq!(conn.take_due(at(5)), Some(TimerKind::Stage));
        assert_eq!(conn.take_due(at(5)), Some(TimerKind::Stall));
        assert_eq!(conn.take_due(at(5)), None);
        timers.settle(&mut conn, A);
        assert!(timers.is_empty());
    }
}
