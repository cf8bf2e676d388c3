//! How far each connection has come, oldest first in each stage.
//!
//! When the connection table is full, a session without a stream gives way: the oldest of the
//! earliest stage. The lists are threaded through one vector beside the slab, eight bytes per
//! connection, so finding that session and moving between stages take constant time.

use crate::stream::ids::ConnId;

/// The stages in the order in which sessions give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The handshake is not complete.
    Handshaking,
    /// `connect` is not accepted yet.
    Connecting,
    /// Connected, without a stream.
    Connected,
    /// Waits to play a stream that is not there.
    Waiting,
    /// Publishes, or plays a stream that is there: never gives way.
    Streaming,
    /// Has been told to go and is given the time to read why.
    Leaving,
}

impl Stage {
    /// All of them, in their order.
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
    /// Adds a connection as the newest of `stage`. It must be in no list.
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

    /// Takes a connection out of `stage`, in which it must be.
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

    /// Gives back the memory for connections from place `places` on, of which there are none.
    pub fn shrink_to(&mut self, places: usize) {
        self.links.truncate(places);
        self.links.shrink_to_fit();
    }

    /// Connections in `stage`.
    pub const fn len(&self, stage: Stage) -> usize {
        self.lists[stage as usize].len
    }

    /// The session that gives way when there is no more room.
    pub fn gives_way(&self) -> Option<ConnId> {
        self.giving_way().next()
    }

    /// The sessions in the order in which they give way: those that are leaving already, then
    /// the oldest of the earliest stage without a stream.
    pub fn giving_way(&self) -> impl Iterator<Item = ConnId> {
        use Stage::{Connected, Connecting, Handshaking, Leaving, Waiting};
        let stages = [Leaving, Handshaking, Connecting, Connected, Waiting];
        stages.into_iter().flat_map(|stage| self.oldest_first(stage))
    }

    /// Checks that `stage` lists as many connections as it counts, each linked to the one before.
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
    fn the_oldest_of_the_earliest_stage_gives_way() {
        let mut stages = Stages::default();
        stages.enter(id(0), Stage::Streaming);
        assert_eq!(stages.gives_way(), None);
        stages.enter(id(3), Stage::Waiting);
        stages.enter(id(1), Stage::Connected);
        stages.enter(id(2), Stage::Connected);
        assert_eq!(stages.gives_way(), Some(id(1)));
        stages.leave(id(1), Stage::Connected);
        stages.enter(id(1), Stage::Connected);
        assert_eq!(stages.gives_way(), Some(id(2)));
        stages.enter(id(9), Stage::Handshaking);
        assert_eq!(stages.gives_way(), Some(id(9)));
    }

    #[test]
    fn leaving_from_head_middle_and_tail_keeps_the_order() {
        let mut stages = Stages::default();
        for raw in 0..5 {
            stages.enter(id(raw), Stage::Connected);
        }
        for (gone, oldest) in [(2, Some(0)), (0, Some(1)), (4, Some(1)), (1, Some(3)), (3, None)] {
            stages.leave(id(gone), Stage::Connected);
            assert_eq!(stages.gives_way(), oldest.map(id), "after {gone} left");
        }
        assert_eq!(stages.len(Stage::Connected), 0);
    }
}
