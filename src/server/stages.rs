//! The stage of each connection, and the order of eviction.
//!
//! When the connection table is full, the server evicts a session without a stream: the oldest of
//! the earliest stage. Each stage has a linked list, oldest first. The links are in one vector in
//! addition to the slab, eight bytes per connection. So finding that session and moving between
//! stages take constant time.

use crate::stream::ids::ConnId;

/// The stages of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The handshake is not complete.
    Handshaking,
    /// `connect` is not accepted yet.
    Connecting,
    /// Connected, without a stream.
    Connected,
    /// Waits to play a stream that nobody publishes.
    Waiting,
    /// Publishes, or plays a published stream. Never evicted.
    Streaming,
    /// Was told to leave, and has time to read the reason.
    Leaving,
}

impl Stage {
    /// All stages, in the order of their values.
    pub const ALL: [Self; STAGES] = [
        Self::Handshaking,
        Self::Connecting,
        Self::Connected,
        Self::Waiting,
        Self::Streaming,
        Self::Leaving,
    ];
}

const STAGES: usize = 6;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

/// One list per stage.
#[derive(Debug)]
pub struct Stages {
    links: Vec<Link>,
    lists: [List; STAGES],
}

impl Default for Stages {
    fn default() -> Self {
        Self { links: Vec::new(), lists: [List { oldest: NONE, newest: NONE, len: 0 }; STAGES] }
    }
}

impl Stages {
    /// Adds a connection as the newest of `stage`. It must not be in any list.
    pub fn enter(&mut self, id: ConnId, stage: Stage) {
        let index = id.index();
        if self.links.len() <= index {
            self.links.resize(index + 1, Link { previous: NONE, next: NONE });
        }
        let list = &mut self.lists[stage as usize];
        self.links[index] = Link { previous: list.newest, next: NONE };
        match list.newest {
            NONE => list.oldest = id.raw(),
            newest => self.links[newest as usize].next = id.raw(),
        }
        list.newest = id.raw();
        list.len += 1;
    }

    /// Removes a connection from `stage`, in which it must be.
    pub fn leave(&mut self, id: ConnId, stage: Stage) {
        let Link { previous, next } = self.links[id.index()];
        let list = &mut self.lists[stage as usize];
        match previous {
            NONE => list.oldest = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => list.newest = previous,
            next => self.links[next as usize].previous = previous,
        }
        list.len -= 1;
    }

    /// Gives back the memory for connections from index `places` on. No list may have any of them.
    pub fn shrink_to(&mut self, places: usize) {
        self.links.truncate(places);
        self.links.shrink_to_fit();
    }

    /// Number of connections in `stage`.
    pub const fn len(&self, stage: Stage) -> usize {
        self.lists[stage as usize].len
    }

    /// Returns the session to evict when the table is full.
    pub fn next_to_evict(&self) -> Option<ConnId> {
        self.evictable().next()
    }

    /// Returns the sessions that may be evicted, in that order: those that are leaving already,
    /// then those without a stream by stage, the oldest first.
    pub fn evictable(&self) -> impl Iterator<Item = ConnId> {
        use Stage::{Connected, Connecting, Handshaking, Leaving, Waiting};
        let stages = [Leaving, Handshaking, Connecting, Connected, Waiting];
        stages.into_iter().flat_map(|stage| self.oldest_first(stage))
    }

    /// Checks that the list of `stage` has as many connections as it counts, and that its links
    /// match. Does nothing in release builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self, stage: Stage) {
        let mut previous = NONE;
        let mut len = 0;
        for id in self.oldest_first(stage) {
            debug_assert_eq!(self.links[id.index()].previous, previous, "{stage:?}");
            previous = id.raw();
            len += 1;
        }
        debug_assert_eq!(previous, self.lists[stage as usize].newest, "{stage:?}");
        debug_assert_eq!(len, self.len(stage), "{stage:?}");
    }

    fn oldest_first(&self, stage: Stage) -> impl Iterator<Item = ConnId> {
        let is_one = |raw: &u32| *raw != NONE;
        let oldest = Some(self.lists[stage as usize].oldest).filter(is_one);
        let next = move |raw: &u32| Some(self.links[*raw as usize].next).filter(is_one);
        std::iter::successors(oldest, next).map(ConnId::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(raw: u32) -> ConnId {
        ConnId::new(raw)
    }

    #[test]
    fn the_oldest_of_the_earliest_stage_is_evicted() {
        let mut stages = Stages::default();
        stages.enter(id(0), Stage::Streaming);
        assert_eq!(stages.next_to_evict(), None);
        stages.enter(id(3), Stage::Waiting);
        stages.enter(id(1), Stage::Connected);
        stages.enter(id(2), Stage::Connected);
        assert_eq!(stages.next_to_evict(), Some(id(1)));
        stages.leave(id(1), Stage::Connected);
        stages.enter(id(1), Stage::Connected);
        assert_eq!(stages.next_to_evict(), Some(id(2)));
        stages.enter(id(9), Stage::Handshaking);
        assert_eq!(stages.next_to_evict(), Some(id(9)));
    }

    #[test]
    fn leaving_from_head_middle_and_tail_keeps_the_order() {
        let mut stages = Stages::default();
        for raw in 0..5 {
            stages.enter(id(raw), Stage::Connected);
        }
        for (gone, oldest) in [(2, Some(0)), (0, Some(1)), (4, Some(1)), (1, Some(3)), (3, None)] {
            stages.leave(id(gone), Stage::Connected);
            assert_eq!(stages.next_to_evict(), oldest.map(id), "after {gone} left");
        }
        assert_eq!(stages.len(Stage::Connected), 0);
    }
}
