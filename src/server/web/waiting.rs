//! The requests that wait for what comes next in a stream, and which of them are looked at again.
//!
//! ```text
//!            a deadline passes ─▶ due ─┐
//! held ──────┤                         ├─▶ next: due ones first, then one of each stream in turn
//!            the stream has news ──────┘
//! ```
//!
//! A turn takes as many as its budget allows, and the next turn goes on from there. Streams are
//! known by their serial numbers, since an id may belong to another stream by then.

use crate::stream::ids::ConnId;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Memory of a request in the lists (bytes). The nodes of a tree are at least half full.
const HELD_BYTES: usize = 2 * size_of::<(u64, ConnId)>();
/// Memory of a stream in the lists (bytes).
const NEWS_BYTES: usize = 2 * (size_of::<(u64, Round)>() + size_of::<u64>());

/// A visit of all requests that wait for a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The connection from which on requests are still to be visited.
    next: u32,
    /// Whether there has been other news since the round began, so that another one follows.
    repeats: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The serial number of the stream, and the connection.
    held: BTreeSet<(u64, ConnId)>,
    /// Requests whose deadline has passed. Some of them may be gone.
    due: VecDeque<(u64, ConnId)>,
    /// Streams with news, in the order of their visits.
    order: VecDeque<u64>,
    /// Invariant: a round for each stream in `order`.
    rounds: HashMap<u64, Round>,
}

impl Waiting {
    /// Adds the request of a connection.
    pub(super) fn hold(&mut self, serial: u64, id: ConnId) {
        self.held.insert((serial, id));
    }

    /// Removes the request of a connection.
    pub(super) fn remove(&mut self, serial: u64, id: ConnId) {
        self.held.remove(&(serial, id));
    }

    /// Notes that the deadline of a request has passed.
    pub(super) fn note_due(&mut self, serial: u64, id: ConnId) {
        self.due.push_back((serial, id));
    }

    /// Notes that the answers to the requests for a stream may exist now.
    pub(super) fn note_news(&mut self, serial: u64) {
        if let Some(round) = self.rounds.get_mut(&serial) {
            round.repeats = true;
        } else if self.first_from(serial, 0).is_some() {
            self.rounds.insert(serial, Round::default());
            self.order.push_back(serial);
        }
    }

    /// Takes the next connection whose request is to be looked at again.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        while let Some(request) = self.due.pop_front() {
            if self.held.contains(&request) {
                return Some(request.1);
            }
        }
        while let Some(serial) = self.order.pop_front() {
            let Some(mut round) = self.rounds.remove(&serial) else { continue };
            let found = self.first_from(serial, round.next);
            match found {
                Some(id) => round.next = id.raw() + 1,
                None if round.repeats => round = Round::default(),
                None => continue,
            }
            self.rounds.insert(serial, round);
            self.order.push_back(serial);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Returns whether requests are to be looked at again.
    pub(super) fn has_next(&self) -> bool {
        !self.due.is_empty() || !self.order.is_empty()
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        (self.held.len() + self.due.len()) * HELD_BYTES + self.order.len() * NEWS_BYTES
    }

    fn first_from(&self, serial: u64, id: u32) -> Option<ConnId> {
        let range = (serial, ConnId::new(id))..=(serial, ConnId::new(u32::MAX));
        self.held.range(range).next().map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten requests for each of two streams: connections 0 to 9, and 10 to 19.
    fn two_streams() -> Waiting {
        let mut waiting = Waiting::default();
        (0..20).for_each(|id| waiting.hold(u64::from(id / 10), ConnId::new(id)));
        waiting
    }

    fn take(waiting: &mut Waiting, count: usize) -> Vec<u32> {
        std::iter::from_fn(|| waiting.next()).take(count).map(ConnId::raw).collect()
    }

    #[test]
    fn streams_with_news_take_turns_and_each_request_is_looked_at_once() {
        let mut waiting = two_streams();
        assert!(!waiting.has_next() && waiting.next().is_none());
        waiting.note_news(0);
        waiting.note_news(1);
        assert_eq!(take(&mut waiting, 5), [0, 10, 1, 11, 2]);
        assert!(waiting.has_next());
        let mut rest = take(&mut waiting, 100);
        rest.sort_unstable();
        assert_eq!(rest, [3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert!(!waiting.has_next());
    }

    #[test]
    fn news_within_a_round_begins_another_one_after_it() {
        let mut waiting = two_streams();
        waiting.note_news(1);
        assert_eq!(take(&mut waiting, 8), [10, 11, 12, 13, 14, 15, 16, 17]);
        waiting.note_news(1);
        waiting.note_news(1);
        assert_eq!(take(&mut waiting, 12), [18, 19, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(waiting.next(), None);
    }

    #[test]
    fn due_requests_come_first_and_removed_ones_not_at_all() {
        let mut waiting = two_streams();
        waiting.note_news(0);
        for id in [15, 16, 17] {
            waiting.note_due(1, ConnId::new(id));
        }
        waiting.remove(1, ConnId::new(16));
        waiting.remove(0, ConnId::new(1));
        assert_eq!(take(&mut waiting, 4), [15, 17, 0, 2]);
        (0..20).for_each(|id| waiting.remove(u64::from(id / 10), ConnId::new(id)));
        waiting.note_news(1);
        assert_eq!(waiting.next(), None);
        assert_eq!(waiting.held_bytes(), 0);
    }

    #[test]
    fn a_request_for_another_stream_of_the_same_connection_is_another_one() {
        let mut waiting = Waiting::default();
        waiting.hold(7, ConnId::new(1));
        waiting.note_due(6, ConnId::new(1));
        waiting.note_news(6);
        assert_eq!(waiting.next(), None);
        waiting.note_news(7);
        assert_eq!(waiting.next(), Some(ConnId::new(1)));
    }
}
