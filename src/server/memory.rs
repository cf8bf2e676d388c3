//! The memory of the server against its budget, and what is given up when it runs short.
//!
//! Owns the sum of what connections hold and the level that follows from the whole. Each level
//! gives up more than the one before, the cheapest loss first; what nobody gives up is a stream
//! that somebody watches and keeps up with:
//!
//! | level | from | what is given up |
//! |---|---|---|
//! | lean | 70 % | the GOP kept for newcomers, and more than a second of lag |
//! | tight | 80 % | players that take nothing and lag, new players |
//! | critical | 90 % | sessions without a stream, publishers that nobody watches, newcomers |
//!
//! A level ends five points below where it begins, so that one does not flicker.

use super::conn::{Conn, Publish};
use super::reason::CloseReason;
use super::transport::Transport;
use super::{ConnId, Server};
use crate::config::Settings;
use crate::limits;
use crate::time::Time;
use log::{info, warn};
use std::cmp::Reverse;
use std::fmt;

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    /// There is enough.
    #[default]
    Ample,
    /// Streams keep nothing for newcomers, and players may lag a second.
    Lean,
    /// Players that lag go, and none come.
    Tight,
    /// Who has no stream goes, and nobody comes.
    Critical,
}

impl MemoryLevel {
    const ALL: [Self; 4] = [Self::Ample, Self::Lean, Self::Tight, Self::Critical];

    /// Percent of the budget at which it begins.
    const fn begins(self) -> usize {
        match self {
            Self::Ample => 0,
            Self::Lean => 70,
            Self::Tight => 80,
            Self::Critical => 90,
        }
    }

    /// Percent of the budget below which it is over.
    const fn ends(self) -> usize {
        self.begins().saturating_sub(HYSTERESIS_PERCENT)
    }

    /// The level that follows at `percent` of the budget.
    fn next(self, percent: usize) -> Self {
        let holds =
            |level: &Self| percent >= if *level <= self { level.ends() } else { level.begins() };
        Self::ALL.into_iter().rfind(holds).unwrap_or_default()
    }
}

impl fmt::Display for MemoryLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ample => "nothing more has to be given up",
            Self::Lean => "streams keep nothing for newcomers, players that lag skip",
            Self::Tight => "players that lag are closed, new ones refused",
            Self::Critical => "who has no stream or no viewer is closed, newcomers are refused",
        })
    }
}

/// Points between the entry of a level and its end.
const HYSTERESIS_PERCENT: usize = 5;
/// How long a level that could not give up enough waits before it looks again (ms).
const SEARCH_EVERY_MS: u64 = 100;
/// Connections of one kind that are given up at once, so that doing it stays a short turn.
const SHED_PER_TURN_MAX: usize = 1024;
/// How far players may lag while memory is lean (ms).
pub(super) const LEAN_LAG_MS: u64 = 1000;
/// A connection with its share of the tables beside the slab: places in stages and timers.
const TABLES_BYTES: usize = 64;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Invariant: the sum of what is accounted to the connections, beside their structs.
    pub(super) conns_bytes: usize,
    pub(super) level: MemoryLevel,
    search_at: Time,
}

/// What is taken of the kernel for a connection whose socket takes no more: as configured, and
/// nothing when that is left to the kernel.
pub(super) fn unsent_bytes(settings: &Settings) -> usize {
    let limits = &settings.limits;
    [limits.socket_unsent_bytes_max, limits.socket_send_bytes_max]
        .into_iter()
        .find(|bytes| *bytes != 0)
        .unwrap_or(0)
}

impl<T: Transport> Server<T> {
    /// Memory that connections and streams hold, in the process and in the kernel as configured
    /// (bytes).
    pub fn memory_bytes(&self) -> usize {
        self.conns.len() * (size_of::<Conn<T>>() + TABLES_BYTES)
            + self.memory.conns_bytes
            + self.hub.held_bytes()
    }

    /// How short memory is.
    pub const fn memory_level(&self) -> MemoryLevel {
        self.memory.level
    }

    /// Memory accounted to the connections, beside their structs (bytes).
    pub const fn conns_bytes(&self) -> usize {
        self.memory.conns_bytes
    }

    /// Brings the sum up to date with a connection that has changed.
    pub(super) fn account(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index()];
        let held = conn.held_bytes(self.policies.unsent_bytes);
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.memory.conns_bytes -= conn.accounted_bytes as usize;
        self.memory.conns_bytes += held as usize;
        conn.accounted_bytes = held;
    }

    /// Gives up what the level asks for, but not while connections that were closed before still
    /// wait to be removed: others would be given up for what those hold.
    pub(super) fn relieve_memory(&mut self, now: Time) {
        self.hub.sweep_lent();
        self.find_memory_level();
        let is_early = now < self.memory.search_at || !self.closing.is_empty();
        if self.memory.level < MemoryLevel::Tight || is_early {
            return;
        }
        self.shed(now);
        self.remove_closing(now);
        self.find_memory_level();
    }

    fn find_memory_level(&mut self) {
        let budget = self.settings.limits.memory_bytes_max;
        let (level, held) = (self.memory.level, self.memory_bytes());
        let percent = held.saturating_mul(100).checked_div(budget).unwrap_or(0);
        let next = level.next(percent);
        if next == level {
            return;
        }
        self.memory.level = next;
        self.memory.search_at = Time::ZERO;
        self.policies.set_memory_level(&self.settings, next);
        let (held, budget) = (held / limits::KIB, budget / limits::KIB);
        if next > level {
            warn!("memory: {held} of {budget} KiB are taken: {next}");
        } else {
            info!("memory: {held} of {budget} KiB are taken: {next}");
        }
    }

    /// Closes connections, the cheapest loss first, until the level would be over.
    fn shed(&mut self, now: Time) {
        let (level, mut held) = (self.memory.level, self.memory_bytes());
        let enough = self.settings.limits.memory_bytes_max / 100 * level.ends();
        let kinds: &[fn(&Self, Time) -> Vec<ConnId>] = match level {
            MemoryLevel::Critical => {
                &[Self::lagging_players, Self::without_stream, Self::unwatched_publishers]
            }
            _ => &[Self::lagging_players],
        };
        for victims in kinds {
            for id in victims(self, now) {
                if held < enough {
                    return;
                }
                held = held.saturating_sub(self.bytes_of(id));
                self.close(id, CloseReason::MemoryPressure, String::new(), now);
            }
        }
        self.memory.search_at = now.plus_millis(SEARCH_EVERY_MS);
    }

    /// What ends with a connection (bytes).
    fn bytes_of(&self, id: ConnId) -> usize {
        let conn = &self.conns[id.index()];
        let publishes = conn.activity.iter().flat_map(|activity| activity.publishes());
        let streams = publishes.map(|publish| self.hub.stream(publish.stream));
        let streams: usize = streams.map(|s| s.held_bytes() + s.tape().headers_bytes()).sum();
        size_of::<Conn<T>>() + conn.accounted_bytes as usize + streams
    }

    /// Players that have taken nothing for a while, for the longest time first. The age of what
    /// waits for them says less: a newcomer begins with what is old.
    fn lagging_players(&self, now: Time) -> Vec<ConnId> {
        let stalled_ms = self.settings.timeouts.player_stalled_ms;
        let mut lagging = self.select(|conn| {
            let stalls_at = conn.stalls_at();
            let is_blocked = conn.plays() && !conn.writable && stalls_at != Time::NEVER;
            let left_ms = stalls_at.millis_since(now);
            let since_ms = stalled_ms.saturating_sub(left_ms);
            (is_blocked && since_ms > LEAN_LAG_MS).then_some(since_ms)
        });
        lagging.sort_unstable_by_key(|(_, since_ms)| Reverse(*since_ms));
        first_ids(lagging)
    }

    /// Sessions without a stream, in the order in which they give way.
    fn without_stream(&self, _: Time) -> Vec<ConnId> {
        self.stages.giving_way().take(SHED_PER_TURN_MAX).collect()
    }

    /// Publishers of streams that nobody plays, those that hold most first.
    fn unwatched_publishers(&self, _: Time) -> Vec<ConnId> {
        let mut unwatched = self.select(|conn| {
            let activity = conn.activity.as_ref().filter(|a| !a.publishes().is_empty())?;
            let is_watched = |p: &Publish| !self.hub.stream(p.stream).players().is_empty();
            let serves = !activity.plays.is_empty() || activity.publishes().iter().any(is_watched);
            (!serves).then_some(())
        });
        unwatched.sort_unstable_by_key(|(id, ())| Reverse(self.bytes_of(*id)));
        first_ids(unwatched)
    }

    fn select<K>(&self, key: impl Fn(&Conn<T>) -> Option<K>) -> Vec<(ConnId, K)> {
        let staying = self.conns.iter().filter(|(_, conn)| !conn.is_closing());
        staying.filter_map(|(index, conn)| Some((ConnId(index as u32), key(conn)?))).collect()
    }
}

fn first_ids<K>(selected: Vec<(ConnId, K)>) -> Vec<ConnId> {
    selected.into_iter().take(SHED_PER_TURN_MAX).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_begins_at_its_entry_and_ends_five_points_below() {
        use MemoryLevel::{Ample, Critical, Lean, Tight};
        for (level, percent, next) in [
            (Ample, 69, Ample),
            (Ample, 70, Lean),
            (Ample, 80, Tight),
            (Ample, 250, Critical),
            (Lean, 65, Lean),
            (Lean, 64, Ample),
            (Lean, 79, Lean),
            (Tight, 75, Tight),
            (Tight, 74, Lean),
            (Tight, 89, Tight),
            (Critical, 85, Critical),
            (Critical, 84, Tight),
            (Critical, 70, Lean),
            (Critical, 0, Ample),
        ] {
            assert_eq!(level.next(percent), next, "{level:?} at {percent} %");
        }
    }
}
