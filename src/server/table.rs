//! The table of connections, with everything that is kept for each of them.
//!
//! Owns the connections, their stages and deadlines, the queues of connections to be read, written
//! and removed, the number of connections of each address, and the sum of their memory. It decides
//! nothing: other modules close connections and arm deadlines.
//!
//! **Accounting.** A mutable borrow marks the connection as changed. [`Table::settle`] accounts
//! each marked connection once, however often it has changed. A guard that accounts when it is
//! dropped was rejected: it would account several times in each turn, and keep the whole table
//! borrowed until the end of its scope.

use super::Ready;
use super::conn::Conn;
use super::peer_address::PeerAddress;
use super::ready::Next;
use super::stages::{Stage, Stages};
use super::timers::{TimerKind, Timers};
use super::transport::Transport;
use crate::budget::Budget;
use crate::stream::ids::ConnId;
use crate::time::Time;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::{Index, IndexMut};

/// Memory of one connection in the structures beside the slab (bytes).
const BESIDE_BYTES: usize = 64;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Table<T> {
    conns: Slab<Conn<T>>,
    stages: Stages,
    timers: Timers,
    /// Connections of each address; `None` while there is no limit. Peers of unix sockets have no
    /// address and are not counted.
    addresses: Option<HashMap<IpAddr, usize>>,
    /// Connections with a role to be read. Publishers keep their players waiting.
    to_read: Ready<ConnId>,
    /// Connections without a role to be read.
    idle_to_read: Ready<ConnId>,
    to_write: Ready<ConnId>,
    /// Connections to be removed. Invariant: each of them is over, and no other is.
    ending: VecDeque<ConnId>,
    /// Connections whose memory may differ from the accounted memory. Ids of removed connections
    /// may be among them.
    changed: Vec<ConnId>,
    /// Invariant after [`Table::settle`]: the sum of the memory that the connections hold in
    /// addition to their structs.
    held_bytes: usize,
    /// Memory in the kernel for a connection with a full socket (bytes).
    unsent_bytes: usize,
    /// Places in the slab: the largest number of connections since it was last shrunk.
    places: usize,
    /// With fewer connections than this, the tables are shrunk.
    shrinks_below: usize,
}

impl<T> Index<ConnId> for Table<T> {
    type Output = Conn<T>;

    fn index(&self, id: ConnId) -> &Conn<T> {
        &self.conns[id.index()]
    }
}

/// Marks the connection as changed.
impl<T> IndexMut<ConnId> for Table<T> {
    fn index_mut(&mut self, id: ConnId) -> &mut Conn<T> {
        let conn = &mut self.conns[id.index()];
        if !std::mem::replace(&mut conn.is_changed, true) {
            self.changed.push(id);
        }
        conn
    }
}

impl<T> Table<T> {
    pub(super) fn new(unsent_bytes: usize) -> Self {
        Self {
            conns: Slab::new(),
            stages: Stages::default(),
            timers: Timers::default(),
            addresses: None,
            to_read: Ready::default(),
            idle_to_read: Ready::default(),
            to_write: Ready::default(),
            ending: VecDeque::new(),
            changed: Vec::new(),
            held_bytes: 0,
            unsent_bytes,
            places: 0,
            shrinks_below: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Returns the id of the next connection that is inserted.
    pub(super) fn next_id(&self) -> ConnId {
        ConnId::new(self.conns.vacant_key() as u32)
    }

    /// Returns one more than the last place in use.
    pub(super) fn end(&self) -> usize {
        self.conns.iter().next_back().map_or(0, |(index, _)| index + 1)
    }

    pub(super) fn contains(&self, id: ConnId) -> bool {
        self.conns.contains(id.index())
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn<T>> {
        self.conns.get(id.index())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn<T>)> {
        self.conns.iter().map(|(index, conn)| (ConnId::new(index as u32), conn))
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.iter().map(|(id, _)| id).collect()
    }

    /// Returns a connection without marking it. The caller must not change its memory, or must call
    /// [`Table::mark`]. A write to a player that takes everything changes nothing, and there are
    /// many such writes.
    pub(super) fn unmarked(&mut self, id: ConnId) -> &mut Conn<T> {
        &mut self.conns[id.index()]
    }

    /// Marks a connection that was borrowed with [`Table::unmarked`] and whose memory has changed.
    pub(super) fn mark(&mut self, id: ConnId) {
        let _ = &mut self[id];
    }

    /// Returns the number of connections of an address; 0 while they are not counted.
    pub(super) fn of_address(&self, peer: PeerAddress) -> usize {
        let counts = self.addresses.as_ref().zip(peer.ip());
        counts.and_then(|(counts, ip)| counts.get(&ip)).copied().unwrap_or_default()
    }

    /// Begins or ends the counting of connections for each address.
    pub(super) fn count_addresses(&mut self, counts: bool) {
        if counts == self.addresses.is_some() {
            return;
        }
        self.addresses = counts.then(HashMap::new);
        for (_, conn) in &self.conns {
            if let Some((counts, ip)) = self.addresses.as_mut().zip(conn.address().ip()) {
                *counts.entry(ip).or_insert(0) += 1;
            }
        }
    }

    /// Queues a connection to be read in this turn or the next.
    pub(super) fn queue_read(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.unmarked(id).queued_to_read, true) {
            self.readers(self.has_role(id)).push(id);
        }
    }

    /// Queues a connection that has used up its share, to be read in the next turn.
    pub(super) fn queue_read_again(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.unmarked(id).queued_to_read, true) {
            self.readers(self.has_role(id)).push_again(id);
        }
    }

    fn has_role(&self, id: ConnId) -> bool {
        self.conns[id.index()].activity.is_some()
    }

    const fn readers(&mut self, has_role: bool) -> &mut Ready<ConnId> {
        if has_role { &mut self.to_read } else { &mut self.idle_to_read }
    }

    /// Queues a connection for a write in this turn or the next. Without room in its socket, an
    /// event will queue it.
    pub(super) fn queue_write(&mut self, id: ConnId) {
        let conn = self.unmarked(id);
        if conn.writable && !std::mem::replace(&mut conn.queued_to_write, true) {
            self.to_write.push(id);
        }
    }

    /// Queues a connection that has used up its share, for a write in the next turn.
    pub(super) fn queue_write_again(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.unmarked(id).queued_to_write, true) {
            self.to_write.push_again(id);
        }
    }

    /// Begins the reads of a turn.
    pub(super) fn begin_reads(&mut self) {
        self.to_read.begin_turn();
        self.idle_to_read.begin_turn();
    }

    /// Begins the writes of a turn.
    pub(super) fn begin_writes(&mut self) {
        self.to_write.begin_turn();
    }

    /// Takes the next connection to be read: one with a role, until half of the budget `whole` is
    /// spent. The handshake of a connection costs as much as a hundred frames, and a thousand
    /// connections may come at once. Ids of removed connections are skipped, also if another
    /// connection has the id now.
    pub(super) fn next_to_read(&mut self, left: &Budget, whole: &Budget) -> Option<Next<ConnId>> {
        loop {
            let (first, second) = match self.idle_to_read.is_empty() || !left.is_below_half(whole) {
                true => (&mut self.to_read, &mut self.idle_to_read),
                false => (&mut self.idle_to_read, &mut self.to_read),
            };
            let next = first.next(left, whole).or_else(|| second.next(left, whole))?;
            let (Next::Fresh(id) | Next::Again(id)) = next;
            let conn = self.conns.get_mut(id.index());
            if conn.is_some_and(|conn| std::mem::take(&mut conn.queued_to_read)) {
                return Some(next);
            }
        }
    }

    /// Takes the next connection to be written to. Ids are skipped likewise.
    pub(super) fn next_to_write(&mut self, left: &Budget, whole: &Budget) -> Option<ConnId> {
        loop {
            let (Next::Fresh(id) | Next::Again(id)) = self.to_write.next(left, whole)?;
            let conn = self.conns.get_mut(id.index());
            if conn.is_some_and(|conn| std::mem::take(&mut conn.queued_to_write)) {
                return Some(id);
            }
        }
    }

    /// Returns whether a turn has a connection to read, to write to or to remove.
    pub(super) fn has_work(&self) -> bool {
        let has_readers = !self.to_read.is_empty() || !self.idle_to_read.is_empty();
        has_readers || !self.to_write.is_empty() || !self.ending.is_empty()
    }

    /// Queues a connection that is over, to be removed at the end of the turn.
    pub(super) fn queue_end(&mut self, id: ConnId) {
        self.ending.push_back(id);
    }

    /// Takes the next connection to be removed.
    pub(super) fn next_to_end(&mut self) -> Option<ConnId> {
        self.ending.pop_front()
    }

    /// Returns whether connections wait to be removed.
    pub(super) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Returns the next session to be evicted when the table is full.
    pub(super) fn next_to_evict(&self) -> Option<ConnId> {
        self.stages.next_to_evict()
    }

    /// Returns the sessions in the order of eviction.
    pub(super) fn evictable(&self) -> impl Iterator<Item = ConnId> {
        self.stages.evictable()
    }

    /// Number of connections in a stage.
    pub(super) fn in_stage(&self, stage: Stage) -> usize {
        self.stages.len(stage)
    }

    /// Moves a connection to a stage. Returns whether it was in another stage.
    pub(super) fn move_to(&mut self, id: ConnId, stage: Stage) -> bool {
        let conn = &mut self.conns[id.index()];
        let before = std::mem::replace(&mut conn.stage, stage);
        if before != stage {
            self.stages.leave(id, before);
            self.stages.enter(id, stage);
        }
        before != stage
    }

    /// Returns the deadlines of all connections.
    pub(super) const fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Returns the first connection with a deadline that has passed.
    pub(super) fn first_due(&self, now: Time) -> Option<ConnId> {
        self.timers.first_due(now)
    }

    /// Removes a connection from the order of deadlines until [`Table::resume_deadlines`].
    pub(super) fn suspend_deadlines(&mut self, id: ConnId) {
        self.timers.remove(&mut self.conns[id.index()].timers, id);
    }

    /// Returns the memory of the connections in addition to their structs, as of the last
    /// [`Table::settle`] (bytes).
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Returns the memory of the tables themselves, including unused places (bytes).
    pub(super) const fn tables_bytes(&self) -> usize {
        self.places * (size_of::<Conn<T>>() + BESIDE_BYTES)
    }

    /// Shrinks the tables to the last place in use, when half of the connections have ended since
    /// the last time. If it `is_due`, the tables are also shrunk when less than a quarter of the
    /// places is in use.
    pub(super) fn shrink(&mut self, is_due: bool) {
        let connections = self.conns.len();
        let is_small = connections < self.shrinks_below
            || connections == 0
            || is_due && connections < self.places / 4;
        if !is_small || self.places == 0 {
            return;
        }
        self.conns.shrink_to_fit();
        self.places = self.end();
        // The connection in the last place may stay for long. To look after each end would cost a
        // search each time.
        self.shrinks_below = connections / 2;
        self.stages.shrink_to(self.places);
        if let Some(addresses) = &mut self.addresses {
            addresses.shrink_to_fit();
        }
        self.to_read.shrink_to_fit();
        self.idle_to_read.shrink_to_fit();
        self.to_write.shrink_to_fit();
        self.ending.shrink_to_fit();
        self.changed.shrink_to_fit();
    }
}

impl<T: Transport> Table<T> {
    /// Adds a connection.
    pub(super) fn insert(&mut self, conn: Conn<T>) -> ConnId {
        if let Some((counts, ip)) = self.addresses.as_mut().zip(conn.address().ip()) {
            *counts.entry(ip).or_insert(0) += 1;
        }
        let stage = conn.stage;
        let id = ConnId::new(self.conns.insert(conn) as u32);
        self.stages.enter(id, stage);
        if id.index() >= self.places {
            self.places = id.index() + 1;
            self.shrinks_below = self.places / 4;
        }
        self.mark(id);
        id
    }

    /// Removes a connection from the table and from all structures beside it.
    pub(super) fn remove(&mut self, id: ConnId) -> Conn<T> {
        let mut conn = self.conns.remove(id.index());
        self.held_bytes -= conn.accounted_bytes as usize;
        self.timers.remove(&mut conn.timers, id);
        self.stages.leave(id, conn.stage);
        if let Some((counts, ip)) = self.addresses.as_mut().zip(conn.address().ip())
            && let Some(count) = counts.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(&ip);
            }
        }
        conn
    }

    /// Sets a deadline of a connection; [`Time::NEVER`] clears it.
    pub(super) fn arm(&mut self, id: ConnId, kind: TimerKind, at: Time) {
        self.timers.set(self.conns[id.index()].deadlines(), id, kind, at);
    }

    /// Takes one deadline of a connection that has passed.
    pub(super) fn take_due(&mut self, id: ConnId, now: Time) -> Option<TimerKind> {
        self.conns[id.index()].deadlines().take_due(now)
    }

    /// Puts a connection back into the order of deadlines.
    pub(super) fn resume_deadlines(&mut self, id: ConnId) {
        self.timers.settle(self.conns[id.index()].deadlines(), id);
    }

    /// Sets the accounted memory in the kernel for a connection with a full socket (bytes).
    pub(super) fn set_unsent_bytes(&mut self, unsent_bytes: usize) {
        if std::mem::replace(&mut self.unsent_bytes, unsent_bytes) != unsent_bytes {
            self.ids().into_iter().for_each(|id| self.mark(id));
        }
    }

    /// Accounts the marked connections, so that the sum is correct.
    pub(super) fn settle(&mut self) {
        for id in self.changed.drain(..) {
            let Some(conn) = self.conns.get_mut(id.index()) else { continue };
            if !std::mem::take(&mut conn.is_changed) {
                continue;
            }
            let held = u32::try_from(conn.held_bytes(self.unsent_bytes)).unwrap_or(u32::MAX);
            self.held_bytes = self.held_bytes - conn.accounted_bytes as usize + held as usize;
            conn.accounted_bytes = held;
        }
    }

    /// Checks the invariants of this structure in debug builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self) {
        let (mut held_bytes, mut over, mut timed) = (0, 0, 0);
        for (id, conn) in self.iter() {
            conn.check_invariants();
            let (held, accounted) = (conn.held_bytes(self.unsent_bytes), conn.accounted_bytes);
            let is_settled = conn.is_changed || held == accounted as usize;
            debug_assert!(is_settled, "{id:?} holds {held} bytes, of which {accounted} are known");
            held_bytes += accounted as usize;
            over += usize::from(conn.is_over());
            timed += usize::from(conn.timers.entry() != Time::NEVER);
            debug_assert!(conn.timers.entry() <= conn.first_deadline(), "no entry wakes {id:?}");
        }
        debug_assert_eq!(held_bytes, self.held_bytes, "what is accounted adds up");
        debug_assert_eq!(over, self.ending.len(), "those that are over wait to be removed");
        debug_assert_eq!(timed, self.timers.len(), "one entry for each that has a deadline");
        let listed: usize = Stage::ALL.iter().map(|stage| self.stages.len(*stage)).sum();
        debug_assert_eq!(listed, self.conns.len(), "each connection is in one stage");
        Stage::ALL.iter().for_each(|stage| self.stages.check_invariants(*stage));
        let of_addresses = self.addresses.as_ref().map(|counts| counts.values().sum::<usize>());
        let with_address = self.conns.iter().filter(|(_, conn)| conn.address().ip().is_some());
        let counted = of_addresses.is_none_or(|sum| sum == with_address.count());
        debug_assert!(counted, "each connection with an address counts");
    }
}
