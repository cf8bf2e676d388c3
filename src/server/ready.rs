//! The order in which connections with work are served: light ones first.
//!
//! Owns two queues of ids. An id that became ready waits in the first. An id that has used up its
//! share and has more work waits in the second. The first queue is served first, so that a thousand
//! connections with endless work do not delay those with little. The last quarter of each turn's
//! budget belongs to the second queue, so that it never starves. No id in it is served twice in a
//! turn.

use crate::budget::Budget;
use std::collections::VecDeque;

/// The two queues. See the module's head.
#[derive(Debug)]
pub struct Ready<I> {
    fresh: VecDeque<I>,
    again: VecDeque<I>,
    /// Ids of `again` that were there at the start of the turn and have not been served in it.
    eligible: usize,
}

/// The id to serve next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<I> {
    /// An id that became ready since it was last served.
    Fresh(I),
    /// An id whose last share was too small.
    Again(I),
}

impl<I> Default for Ready<I> {
    fn default() -> Self {
        Self { fresh: VecDeque::new(), again: VecDeque::new(), eligible: 0 }
    }
}

impl<I> Ready<I> {
    /// Adds an id that became ready.
    pub fn push(&mut self, id: I) {
        self.fresh.push_back(id);
    }

    /// Adds an id that has used up its share. It is served in the next turn.
    pub fn push_again(&mut self, id: I) {
        self.again.push_back(id);
    }

    /// Gives back the unused memory of the queues.
    pub fn shrink_to_fit(&mut self) {
        self.fresh.shrink_to_fit();
        self.again.shrink_to_fit();
    }

    /// Returns whether no id waits.
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.again.is_empty()
    }

    /// Grants another share to the ids in the second queue, at the start of a turn.
    pub fn begin_turn(&mut self) {
        self.eligible = self.again.len();
    }

    /// Takes the id to serve next. `left` is the rest of the turn's budget `whole`. `None` once the
    /// budget is spent, or if no id waits for this turn.
    pub fn next(&mut self, left: &Budget, whole: &Budget) -> Option<Next<I>> {
        if self.is_empty() || left.is_spent() {
            None
        } else if left.is_low(whole) {
            self.next_again().or_else(|| self.next_fresh())
        } else {
            self.next_fresh().or_else(|| self.next_again())
        }
    }

    /// Memory that the queues hold (bytes).
    pub fn held_bytes(&self) -> usize {
        (self.fresh.capacity() + self.again.capacity()) * size_of::<I>()
    }

    /// Takes the next id of the first queue, whatever waits in the second.
    pub fn take_fresh(&mut self) -> Option<I> {
        self.fresh.pop_front()
    }

    /// Takes the next id of the second queue that has not been served in this turn.
    pub fn take_again(&mut self) -> Option<I> {
        self.eligible = self.eligible.checked_sub(1)?;
        self.again.pop_front()
    }

    fn next_fresh(&mut self) -> Option<Next<I>> {
        self.take_fresh().map(Next::Fresh)
    }

    fn next_again(&mut self) -> Option<Next<I>> {
        self.take_again().map(Next::Again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Budget = Budget { bytes: 1000, messages: 1000, calls: 8 };

    /// Serves a turn in which each visit costs a call. `more` returns whether an id has more work.
    fn turn(ready: &mut Ready<u32>, more: impl Fn(u32) -> bool) -> Vec<u32> {
        let (mut left, mut served) = (WHOLE, Vec::new());
        ready.begin_turn();
        while let Some(Next::Fresh(id) | Next::Again(id)) = ready.next(&left, &WHOLE) {
            served.push(id);
            left.spend_call();
            if more(id) {
                ready.push_again(id);
            }
        }
        served
    }

    #[test]
    fn those_with_little_go_before_those_that_always_have_more() {
        let mut ready = Ready::default();
        (0..3).for_each(|id| ready.push(id));
        assert_eq!(turn(&mut ready, |id| id < 3), [0, 1, 2], "none twice in a turn");
        ready.push(7);
        assert_eq!(turn(&mut ready, |id| id < 3), [7, 0, 1, 2]);
    }

    #[test]
    fn the_last_quarter_of_a_turn_belongs_to_those_that_wait_for_another_share() {
        let mut ready = Ready::default();
        ready.push(0);
        turn(&mut ready, |_| true);
        (1..20).for_each(|id| ready.push(id));
        assert_eq!(turn(&mut ready, |id| id == 0), [1, 2, 3, 4, 5, 6, 7, 0]);
        assert_eq!(turn(&mut ready, |id| id == 0), [8, 9, 10, 11, 12, 13, 14, 0]);
    }

    #[test]
    fn whoever_was_not_served_keeps_its_place() {
        let mut ready = Ready::default();
        (0..10).for_each(|id| ready.push(id));
        assert_eq!(turn(&mut ready, |_| false), [0, 1, 2, 3, 4, 5, 6, 7]);
        (10..12).for_each(|id| ready.push(id));
        assert_eq!(turn(&mut ready, |_| false), [8, 9, 10, 11]);
        assert!(ready.is_empty());
    }
}
