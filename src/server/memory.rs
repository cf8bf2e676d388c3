//! The memory budget of the server, and the order of eviction when memory runs short.
//!
//! Compares the memory of connections and streams with the budget. The result is a level. Each
//! level gives up more than the previous one, the cheapest loss first:
//!
//! | level | from | given up | all backlogs |
//! |---|---|---|---|
//! | lean | 70 % | GOPs for late players, memory files, more than a second of lag | 40 % |
//! | tight | 80 % | stalled players that lag, new players | 30 % |
//! | critical | 90 % | sessions without a stream, unwatched publishers, new connections | 20 % |
//! | | 100 % | players that still read a dropped message, the largest publishers | |
//!
//! A player that keeps up with its stream misses nothing until the budget is used up: messages of
//! the current turn are not dropped with the backlog.
//!
//! A level ends five points below its start, and the lean level only after ten seconds there.
//! Without this hysteresis levels would flicker, because streams take back the memory of the lean
//! level at once. Memory files double the memory of a stream, so they come back when there is room
//! for that.

use super::Server;
use super::conn::{Conn, Publish};
use super::reason::CloseReason;
use super::transport::Transport;
use crate::config::Settings;
use crate::limits;
use crate::stream::cursor::Play;
use crate::stream::ids::ConnId;
use crate::time::Time;
use log::{info, warn};
use std::cmp::Reverse;
use std::fmt;

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    /// There is enough memory.
    #[default]
    Ample,
    /// Streams keep no GOP for late players. Players may lag by a second, and by a share of the
    /// backlogs in bytes.
    Lean,
    /// Players that lag are closed, and new players are refused.
    Tight,
    /// Sessions without a stream are closed, and new connections are refused.
    Critical,
}

impl MemoryLevel {
    const ALL: [Self; 4] = [Self::Ample, Self::Lean, Self::Tight, Self::Critical];

    /// Percent of the budget at which the level starts.
    const fn begins(self) -> usize {
        match self {
            Self::Ample => 0,
            Self::Lean => 70,
            Self::Tight => 80,
            Self::Critical => 90,
        }
    }

    /// Percent of the budget below which the level ends.
    const fn ends(self) -> usize {
        self.begins().saturating_sub(HYSTERESIS_PERCENT)
    }

    /// Percent of the budget that the backlogs of all streams may take.
    const fn backlogs(self) -> usize {
        match self {
            Self::Ample => 100,
            Self::Lean => 40,
            Self::Tight => 30,
            Self::Critical => 20,
        }
    }

    /// Returns the level after this one at `percent` of the budget.
    fn next(self, percent: usize) -> Self {
        let holds =
            |level: &Self| percent >= if *level <= self { level.ends() } else { level.begins() };
        Self::ALL.into_iter().rfind(holds).unwrap_or_default()
    }
}

impl MemoryLevel {
    /// Returns the name in the API, which is stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Lean => "lean",
            Self::Tight => "tight",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for MemoryLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ample => "all restrictions are lifted",
            Self::Lean => "streams keep no GOP for late players, and lagging players skip",
            Self::Tight => "stalled players are closed, and new players are refused",
            Self::Critical => {
                "sessions without a stream and publishers without a player are closed, and new \
                 connections are refused"
            }
        })
    }
}

/// Difference between the start and the end of a level (percent of the budget).
const HYSTERESIS_PERCENT: usize = 5;
/// Percent of the budget below which the eviction of watched streams stops.
const USED_UP_ENDS: usize = 95;
/// Interval of evictions at a level that could not give up enough (ms).
const SEARCH_EVERY_MS: u64 = 100;
/// Interval in which the share of each stream is computed while memory is short (ms). In between,
/// streams without a backlog may grow.
const SHARE_EVERY_MS: u64 = 10;
/// Percent of the budget that memory must stay below with all memory files, before files are
/// written again.
const FILES_AGAIN_PERCENT: usize = 60;
/// How long no memory files are written after the system ran out of descriptors (ms), unless an
/// eighth of the connections ends earlier. Otherwise each new connection would close all files
/// again.
const FILES_REST_MS: u64 = 60_000;
/// How long memory must have been ample before the lean level ends (ms).
const LEAN_MS: u64 = 10_000;
/// Interval in which mostly empty tables are shrunk (ms), in addition to when half of their
/// connections have ended. The connection with the highest id, which limits the size of a table,
/// may end when no other does.
const TABLES_EVERY_MS: u64 = 1000;
/// Most connections of one kind that are evicted at once, so that the turn stays short.
const SHED_PER_TURN_MAX: usize = 1024;
/// How far players may lag while memory is lean (ms).
pub(super) const LEAN_LAG_MS: u64 = 1000;

/// The state of the memory budget. See the module's head.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When the tables are shrunk next, however few connections have ended.
    tables_at: Time,
    pub(super) level: MemoryLevel,
    /// The highest level since memory was ample.
    worst: MemoryLevel,
    /// Time of the next eviction.
    search_at: Time,
    /// When the share of each stream is computed next.
    share_at: Time,
    /// Memory at the start of the last check, before anything was given up (bytes).
    found_bytes: usize,
    /// Earliest end of the lean level.
    lean_until: Time,
    /// Whether memory files are given up because memory was short.
    lacks_room_for_files: bool,
    /// Set while memory files are given up for lack of descriptors.
    files_rest: Option<FilesRest>,
}

/// Condition for memory files after the system ran out of descriptors.
#[derive(Clone, Copy, Debug)]
struct FilesRest {
    until: Time,
    /// With fewer connections than this there are descriptors for files.
    connections: usize,
}

/// Kernel memory of a connection whose socket is full, as configured (bytes). 0 if the kernel
/// decides.
pub(super) fn unsent_bytes(settings: &Settings) -> usize {
    let limits = &settings.limits;
    [limits.socket_unsent_bytes_max, limits.socket_send_bytes_max]
        .into_iter()
        .find(|bytes| *bytes != 0)
        .unwrap_or(0)
}

impl<T: Transport> Server<T> {
    /// Memory of all connections and streams, in the process and, as configured, in the kernel
    /// (bytes).
    pub fn memory_bytes(&self) -> usize {
        self.table.tables_bytes()
            + self.table.len() * limits::SOCKET_BYTES
            + self.table.held_bytes()
            + self.hub.held_bytes()
            + self.hls.held_bytes()
    }

    /// Memory at the check of the last turn, before anything was given up (bytes).
    pub const fn memory_bytes_found(&self) -> usize {
        self.memory.found_bytes
    }

    /// Returns how short memory is.
    pub const fn memory_level(&self) -> MemoryLevel {
        self.memory.level
    }

    /// Memory accounted to the connections, in addition to their structs (bytes).
    pub const fn conns_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    /// Shrinks tables that are mostly empty.
    fn shrink_tables(&mut self, now: Time) {
        let is_due = now >= self.memory.tables_at;
        if is_due {
            self.memory.tables_at = now.plus_millis(TABLES_EVERY_MS);
            self.hub.give_back_tables();
        }
        self.table.shrink(is_due);
    }

    /// Updates the level, and frees memory as the level requires.
    pub(super) fn relieve_memory(&mut self, now: Time) {
        self.table.settle();
        self.hub.sweep();
        self.hub.close_files();
        self.shrink_tables(now);
        let held = self.memory_bytes();
        self.memory.found_bytes = held;
        self.update_memory_level(held, now);
        self.shrink_streams(now);
        // Closed connections that wait to be removed, and files that wait to be closed, still
        // count. Evicting more now would cost other connections for memory that is already on its
        // way back.
        let is_early =
            now < self.memory.search_at || self.table.has_ending() || self.hub.is_sweeping();
        if self.memory.level < MemoryLevel::Tight || is_early {
            return;
        }
        self.drop_part_logs();
        self.shed(now);
        self.remove_closing(now);
        self.table.settle();
        self.update_memory_level(self.memory_bytes(), now);
    }

    /// Updates the level for `held` bytes, and logs a change.
    fn update_memory_level(&mut self, held: usize, now: Time) {
        let budget = self.settings.limits.memory_bytes_max;
        let level = self.memory.level;
        let percent = held.saturating_mul(100).checked_div(budget).unwrap_or(0);
        let mut next = level.next(percent);
        if next > MemoryLevel::Ample {
            self.memory.lean_until = now.plus_millis(LEAN_MS);
        } else if budget == 0 {
            // A reload has removed the budget, so the lean level ends at once.
            self.memory.lean_until = Time::ZERO;
        } else if now < self.memory.lean_until {
            next = MemoryLevel::Lean;
        }
        if next == level {
            return;
        }
        self.memory.level = next;
        (self.memory.search_at, self.memory.share_at) = (Time::ZERO, Time::ZERO);
        self.policies.set_memory_level(&self.settings, next);
        let (held, budget) = (held / limits::KIB, budget / limits::KIB);
        if next > level {
            warn!("{held} of {budget} KiB of memory are used: {next}");
        } else {
            info!("{held} of {budget} KiB of memory are used: {next}");
        }
    }

    /// Limits the memory of streams according to the level.
    fn shrink_streams(&mut self, now: Time) {
        let (level, budget) = (self.memory.level, self.settings.limits.memory_bytes_max);
        if now < self.memory.share_at {
            return;
        }
        if level == MemoryLevel::Ample {
            self.memory.worst = level;
            // Unused memory is given back before it is measured: the streams may need less than
            // before, and would wait for room that they already have.
            if self.memory.lacks_room_for_files && self.hub.give_back() {
                let doubled = self.memory_bytes() + self.hub.tape_bytes();
                let is_much = doubled >= budget / 100 * FILES_AGAIN_PERCENT;
                self.memory.lacks_room_for_files = budget != 0 && is_much;
                self.memory.share_at = now.plus_millis(SEARCH_EVERY_MS);
            }
            return;
        }
        // Memory files go first. They hold messages a second time, so no player loses any.
        if !std::mem::replace(&mut self.memory.lacks_room_for_files, true) {
            self.hub.drop_segments();
        }
        // The worst level counts until memory is ample again. If backlogs could grow as soon as a
        // level ends, they would bring the same level back at once.
        self.memory.worst = self.memory.worst.max(level);
        let backlogs = budget / 100 * self.memory.worst.backlogs();
        let tape = &mut self.policies.tape;
        tape.backlog_bytes_max = self.hub.shrink_backlogs(backlogs, now, tape);
        self.memory.share_at = now.plus_millis(SHARE_EVERY_MS);
        self.update_memory_level(self.memory_bytes(), now);
    }

    /// Returns whether players may be sent from memory files at `now`.
    pub(super) fn may_store(&mut self, now: Time) -> bool {
        if let Some(rest) = self.memory.files_rest
            && (now >= rest.until || self.table.len() < rest.connections)
        {
            self.memory.files_rest = None;
        }
        !self.memory.lacks_room_for_files && self.memory.files_rest.is_none()
    }

    /// Closes memory files to free descriptors for new connections. Returns whether any descriptor
    /// was freed.
    pub(super) fn free_file_descriptors(&mut self, now: Time) -> bool {
        // The files do not come back for the next message. They would take the descriptors that
        // the connections in the queue wait for.
        let had_files = self.hub.drop_segments();
        if had_files {
            let connections = self.table.len() - self.table.len() / 8;
            let until = now.plus_millis(FILES_REST_MS);
            self.memory.files_rest = Some(FilesRest { until, connections });
        }
        had_files
    }

    /// Evicts connections, the cheapest loss first, until the level can end.
    fn shed(&mut self, now: Time) {
        let (level, mut held) = (self.memory.level, self.memory_bytes());
        let budget = self.settings.limits.memory_bytes_max;
        let ends = budget / 100 * level.ends();
        // Each kind with the memory at which its eviction starts, and at which it stops. Watched
        // publishers and players with half-sent messages go only when the budget is used up. Until
        // then streams shrink their backlogs, which costs no connection.
        let kinds: Vec<(Victims<T>, usize, usize)> = match level {
            MemoryLevel::Critical => vec![
                (Self::lagging_players, ends, ends),
                (Self::without_stream, ends, ends),
                (Self::unwatched_publishers, ends, ends),
                (Self::fallen_players, budget, budget / 100 * USED_UP_ENDS),
                (Self::all_publishers, budget, budget / 100 * USED_UP_ENDS),
            ],
            _ => vec![(Self::lagging_players, ends, ends)],
        };
        for (victims, begins, enough) in kinds {
            if held < begins {
                continue;
            }
            for id in victims(self, now) {
                if held < enough {
                    break;
                }
                // An estimate: the connection is removed after the loop.
                held = held.saturating_sub(self.bytes_of(id));
                self.close(id, CloseReason::MemoryPressure, String::new(), now);
            }
        }
        self.memory.search_at = now.plus_millis(SEARCH_EVERY_MS);
    }

    /// Memory that the end of a connection frees, including the streams that it publishes (bytes).
    fn bytes_of(&self, id: ConnId) -> usize {
        let conn = &self.table[id];
        let publishes = conn.activity.iter().flat_map(|activity| activity.publishes());
        let streams = publishes.map(|publish| self.hub.channel(publish.stream));
        let streams: usize = streams.map(|s| s.held_bytes() + s.tape().headers_bytes()).sum();
        limits::SOCKET_BYTES + conn.accounted_bytes as usize + streams
    }

    /// Returns players that have been stalled for more than [`LEAN_LAG_MS`], the longest first. The
    /// age of their pending messages says less: a late player starts with old messages.
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

    /// Returns sessions without a stream, in the order of eviction.
    fn without_stream(&self, _: Time) -> Vec<ConnId> {
        self.table.evictable().take(SHED_PER_TURN_MAX).collect()
    }

    /// Returns publishers of streams without players, the largest first.
    fn unwatched_publishers(&self, _: Time) -> Vec<ConnId> {
        let mut unwatched = self.select(|conn| {
            let activity = conn.activity.as_ref().filter(|a| !a.publishes().is_empty())?;
            let is_watched = |p: &Publish| !self.hub.channel(p.stream).players().is_empty();
            let serves = !activity.plays.is_empty() || activity.publishes().iter().any(is_watched);
            (!serves).then_some(())
        });
        unwatched.sort_unstable_by_key(|(id, ())| Reverse(self.bytes_of(*id)));
        first_ids(unwatched)
    }

    /// Returns players with a full socket whose read position has left the tape. The half-sent
    /// message of each may hold a block that is used by no one else.
    fn fallen_players(&self, _: Time) -> Vec<ConnId> {
        first_ids(self.select(|conn| {
            let has_fallen = |play: &Play| play.has_fallen(self.hub.channel(play.stream).tape());
            let plays = &conn.activity.as_ref()?.plays;
            (!conn.writable && plays.iter().any(has_fallen)).then_some(())
        }))
    }

    /// Returns all publishers, the largest first.
    fn all_publishers(&self, _: Time) -> Vec<ConnId> {
        let mut publishers = self.select(|conn| {
            let publishes = conn.activity.as_ref()?.publishes();
            (!publishes.is_empty()).then_some(())
        });
        publishers.sort_unstable_by_key(|(id, ())| Reverse(self.bytes_of(*id)));
        first_ids(publishers)
    }

    fn select<K>(&self, key: impl Fn(&Conn<T>) -> Option<K>) -> Vec<(ConnId, K)> {
        let staying = self.table.iter().filter(|(_, conn)| !conn.is_closing());
        staying.filter_map(|(id, conn)| Some((id, key(conn)?))).collect()
    }
}

/// Selects connections of one kind, in the order of eviction.
type Victims<T> = fn(&Server<T>, Time) -> Vec<ConnId>;

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
