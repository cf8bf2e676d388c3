//! The memory of the server against its budget, and what is given up when it runs short.
//!
//! Owns the sum of what connections hold and the level that follows from the whole. Each level
//! gives up more than the one before, the cheapest loss first:
//!
//! | level | from | what is given up | all backlogs |
//! |---|---|---|---|
//! | lean | 70 % | GOPs for newcomers, memory files, more than a second of lag | 40 % |
//! | tight | 80 % | players that take nothing and lag, new players | 30 % |
//! | critical | 90 % | sessions without a stream, unwatched publishers, newcomers | 20 % |
//! | | 100 % | players that take an old message bit by bit, publishers that hold most | |
//!
//! A player that keeps up with its stream misses nothing before the budget is used up: what has
//! just arrived stays for it however small the backlog.
//!
//! A level ends five points below where it begins, and the lean one after ten seconds there, so
//! that none flickers: what the lean level gives up comes back at once. Memory files double what is
//! kept of a stream, so they come back when there is room for twice as much.

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
    /// There is enough.
    #[default]
    Ample,
    /// Streams keep nothing for newcomers, and players may lag a second and by so many bytes.
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

    /// Percent of the budget that the backlogs of all streams may take.
    const fn backlogs(self) -> usize {
        match self {
            Self::Ample => 100,
            Self::Lean => 40,
            Self::Tight => 30,
            Self::Critical => 20,
        }
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
            Self::Lean => "streams keep less for late players, players that lag skip",
            Self::Tight => "players that lag are closed, new ones refused",
            Self::Critical => "sessions without a stream or a player are closed, new ones refused",
        })
    }
}

/// Points between the entry of a level and its end.
const HYSTERESIS_PERCENT: usize = 5;
/// Percent of the budget below which no stream that is watched is given up any more.
const USED_UP_ENDS: usize = 95;
/// How long a level that could not give up enough waits before it looks again (ms).
const SEARCH_EVERY_MS: u64 = 100;
/// How often the share of each stream is found while memory is short (ms): in between, streams
/// that had none of it may grow.
const SHARE_EVERY_MS: u64 = 10;
/// Percent of the budget below which memory files are written again, were they all there.
const FILES_AGAIN_PERCENT: usize = 60;
/// How long memory files are given up when the system has no descriptors (ms), unless an eighth
/// of the connections ends before: each newcomer would close them all again.
const FILES_REST_MS: u64 = 60_000;
/// How long memory must have been ample before the lean level ends (ms).
const LEAN_MS: u64 = 10_000;
/// How often tables that are mostly empty are looked at (ms), in addition to when half of their
/// connections have ended since the last look: the one in the last place may have been among the
/// other half, and nothing ends where the rest stays.
const TABLES_EVERY_MS: u64 = 1000;
/// Connections of one kind that are given up at once, so that doing it stays a short turn.
const SHED_PER_TURN_MAX: usize = 1024;
/// How far players may lag while memory is lean (ms).
pub(super) const LEAN_LAG_MS: u64 = 1000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When the tables are looked at again, however few connections have ended.
    tables_at: Time,
    pub(super) level: MemoryLevel,
    /// The worst level since memory was ample.
    worst: MemoryLevel,
    search_at: Time,
    share_at: Time,
    /// What was held when the last turn looked for it, before anything was given up (bytes).
    found_bytes: usize,
    /// When the lean level ends at the earliest.
    lean_until: Time,
    /// Memory files are given up until memory is ample.
    lacks_room_for_files: bool,
    /// Memory files are given up until descriptors are to be had.
    files_rest: Option<FilesRest>,
}

/// The end of a time without memory files.
#[derive(Clone, Copy, Debug)]
struct FilesRest {
    until: Time,
    /// Fewer connections than this leave descriptors for files.
    connections: usize,
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
        self.table.tables_bytes()
            + self.table.len() * limits::SOCKET_BYTES
            + self.table.held_bytes()
            + self.hub.held_bytes()
    }

    /// Memory that was held when the last turn looked for it, before it gave anything up (bytes).
    pub const fn memory_bytes_found(&self) -> usize {
        self.memory.found_bytes
    }

    /// How short memory is.
    pub const fn memory_level(&self) -> MemoryLevel {
        self.memory.level
    }

    /// Memory accounted to the connections, beside their structs (bytes).
    pub const fn conns_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    /// Gives tables back that are mostly empty.
    fn shrink_tables(&mut self, now: Time) {
        let is_due = now >= self.memory.tables_at;
        if is_due {
            self.memory.tables_at = now.plus_millis(TABLES_EVERY_MS);
            self.hub.give_back_tables();
        }
        self.table.shrink(is_due);
    }

    /// Gives up what the level asks for, but not while connections that were closed before still
    /// wait to be removed, or memory files to be closed: others would be given up for what those
    /// hold.
    pub(super) fn relieve_memory(&mut self, now: Time) {
        self.table.settle();
        self.hub.sweep_lent();
        self.hub.close_files();
        self.shrink_tables(now);
        let held = self.memory_bytes();
        self.memory.found_bytes = held;
        self.find_memory_level(held, now);
        self.shrink_streams(now);
        let is_early = now < self.memory.search_at
            || self.table.has_ending()
            || self.hub.discarded_files() > 0;
        if self.memory.level < MemoryLevel::Tight || is_early {
            return;
        }
        self.shed(now);
        self.remove_closing(now);
        self.table.settle();
        self.find_memory_level(self.memory_bytes(), now);
    }

    /// Finds the level that follows from `held` bytes.
    fn find_memory_level(&mut self, held: usize, now: Time) {
        let budget = self.settings.limits.memory_bytes_max;
        let level = self.memory.level;
        let percent = held.saturating_mul(100).checked_div(budget).unwrap_or(0);
        let mut next = level.next(percent);
        if next > MemoryLevel::Ample {
            self.memory.lean_until = now.plus_millis(LEAN_MS);
        } else if budget == 0 {
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
            warn!("memory: {held} of {budget} KiB are taken: {next}");
        } else {
            info!("memory: {held} of {budget} KiB are taken: {next}");
        }
    }

    /// Brings what streams keep in line with the level.
    fn shrink_streams(&mut self, now: Time) {
        let (level, budget) = (self.memory.level, self.settings.limits.memory_bytes_max);
        if now < self.memory.share_at {
            return;
        }
        if level == MemoryLevel::Ample {
            self.memory.worst = level;
            if self.memory.lacks_room_for_files {
                // Free memory goes first: the streams may need less than they did.
                self.hub.give_back();
                let doubled = self.memory_bytes() + self.hub.tape_bytes();
                let is_much = doubled >= budget / 100 * FILES_AGAIN_PERCENT;
                self.memory.lacks_room_for_files = budget != 0 && is_much;
                self.memory.share_at = now.plus_millis(SEARCH_EVERY_MS);
            }
            return;
        }
        if !std::mem::replace(&mut self.memory.lacks_room_for_files, true) {
            self.hub.drop_segments();
        }
        // Not more again before the lean level ends, or the same level would begin again at once.
        self.memory.worst = self.memory.worst.max(level);
        let backlogs = budget / 100 * self.memory.worst.backlogs();
        let tape = &mut self.policies.tape;
        tape.backlog_bytes_max = self.hub.shrink_backlogs(backlogs, now, tape);
        self.memory.share_at = now.plus_millis(SHARE_EVERY_MS);
        self.find_memory_level(self.memory_bytes(), now);
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

    /// Gives the descriptors of memory files to newcomers. Returns whether there were any.
    pub(super) fn free_file_descriptors(&mut self, now: Time) -> bool {
        let had_files = self.hub.drop_segments();
        if had_files {
            let connections = self.table.len() - self.table.len() / 8;
            let until = now.plus_millis(FILES_REST_MS);
            self.memory.files_rest = Some(FilesRest { until, connections });
        }
        had_files
    }

    /// Closes connections, the cheapest loss first, until the level would be over.
    fn shed(&mut self, now: Time) {
        let (level, mut held) = (self.memory.level, self.memory_bytes());
        let budget = self.settings.limits.memory_bytes_max;
        let ends = budget / 100 * level.ends();
        // Each with what must be held for it to be given up, and with what is enough.
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
                held = held.saturating_sub(self.bytes_of(id));
                self.close(id, CloseReason::MemoryPressure, String::new(), now);
            }
        }
        self.memory.search_at = now.plus_millis(SEARCH_EVERY_MS);
    }

    /// What ends with a connection (bytes).
    fn bytes_of(&self, id: ConnId) -> usize {
        let conn = &self.table[id];
        let publishes = conn.activity.iter().flat_map(|activity| activity.publishes());
        let streams = publishes.map(|publish| self.hub.channel(publish.stream));
        let streams: usize = streams.map(|s| s.held_bytes() + s.tape().headers_bytes()).sum();
        limits::SOCKET_BYTES + conn.accounted_bytes as usize + streams
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
        self.table.giving_way().take(SHED_PER_TURN_MAX).collect()
    }

    /// Publishers of streams that nobody plays, those that hold most first.
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

    /// Players that still take the rest of a message which their stream no longer keeps: each may
    /// hold a block of its own.
    fn fallen_players(&self, _: Time) -> Vec<ConnId> {
        first_ids(self.select(|conn| {
            let has_fallen = |play: &Play| play.has_fallen(self.hub.channel(play.stream).tape());
            let plays = &conn.activity.as_ref()?.plays;
            (!conn.writable && plays.iter().any(has_fallen)).then_some(())
        }))
    }

    /// Publishers, those that hold most first.
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

/// Finds connections of one kind, in the order in which they are given up.
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
