//! Budgets: how much work one turn, and one connection within it, may cause.
//!
//! Owns the arithmetic of a [`Budget`] and the sizes of the two that bound a turn. Work is counted
//! in bytes, messages and calls. Each of the three alone can cost a peer little and the server
//! much: a megabyte in one frame, a thousand messages of one byte, a thousand calls that move no
//! byte. A budget never measures time, so that a simulated turn does the same as a real one.

use crate::limits;

/// What is left to do in a turn or in a share of it. Spent as soon as one of the three is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes moved to or from the kernel, and those of a message that came in earlier reads.
    pub bytes: usize,
    /// Messages read, or looked at on a tape.
    pub messages: usize,
    /// System calls, and visits of a connection that needed none.
    pub calls: usize,
}

impl Budget {
    /// All reading of a turn.
    pub const READING: Self = Self {
        bytes: limits::READ_BYTES_OF_ALL_PER_TURN_MAX,
        messages: limits::READ_MESSAGES_OF_ALL_PER_TURN_MAX,
        calls: limits::READ_CALLS_OF_ALL_PER_TURN_MAX,
    };

    /// One connection's share of [`Budget::READING`] when it has something new.
    pub const FIRST_READ: Self = Self {
        bytes: limits::READ_BYTES_PER_TURN_MAX,
        messages: limits::READ_MESSAGES_FIRST_MAX,
        calls: limits::READ_CALLS_PER_TURN_MAX,
    };

    /// One connection's share of [`Budget::READING`] when its last one was too small for it.
    pub const NEXT_READ: Self =
        Self { messages: limits::READ_MESSAGES_PER_TURN_MAX, ..Self::FIRST_READ };

    /// All writing of a turn.
    pub const WRITING: Self = Self {
        bytes: limits::WRITE_BYTES_OF_ALL_PER_TURN_MAX,
        messages: limits::WRITE_MESSAGES_OF_ALL_PER_TURN_MAX,
        calls: limits::WRITE_CALLS_OF_ALL_PER_TURN_MAX,
    };

    /// One connection's share of [`Budget::WRITING`].
    pub const WRITE: Self = Self {
        bytes: limits::WRITE_BYTES_PER_TURN_MAX,
        messages: limits::WRITE_MESSAGES_PER_TURN_MAX,
        calls: limits::WRITE_CALLS_PER_TURN_MAX,
    };

    /// All that goes to memory files in a turn. What it does not suffice for is sent from memory.
    pub const STORING: Self = Self {
        bytes: limits::SEGMENT_BYTES,
        messages: limits::WRITE_MESSAGES_OF_ALL_PER_TURN_MAX,
        calls: limits::WRITE_CALLS_OF_ALL_PER_TURN_MAX,
    };

    /// Returns whether the budget is spent, so that no further work may begin.
    pub const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.messages == 0 || self.calls == 0
    }

    /// Returns whether less than a quarter of `whole` is left of any of the three.
    pub const fn is_low(&self, whole: &Self) -> bool {
        self.bytes < whole.bytes / 4
            || self.messages < whole.messages / 4
            || self.calls < whole.calls / 4
    }

    /// Takes the bytes and messages of one piece of work and a call, if all of it fits. Returns
    /// whether it did; otherwise nothing is taken.
    pub fn take(&mut self, bytes: u64, messages: usize) -> bool {
        let (Ok(bytes), has_call) = (usize::try_from(bytes), self.calls > 0) else { return false };
        let fits = has_call && bytes <= self.bytes && messages <= self.messages;
        if fits {
            self.spend_bytes(bytes);
            self.spend_messages(messages);
            self.spend_call();
        }
        fits
    }

    /// The smaller of what is left here and `share`, of each of the three.
    pub fn share(&self, share: &Self) -> Self {
        Self {
            bytes: self.bytes.min(share.bytes),
            messages: self.messages.min(share.messages),
            calls: self.calls.min(share.calls),
        }
    }

    /// Takes bytes, or the rest if there are fewer: work that has begun is finished.
    pub const fn spend_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Takes messages, or the rest if there are fewer.
    pub const fn spend_messages(&mut self, messages: usize) {
        self.messages = self.messages.saturating_sub(messages);
    }

    /// Takes one call.
    pub const fn spend_call(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// Takes the spent part of `share`, of which `left` remains. A visit counts as at least one
    /// call.
    pub fn settle(&mut self, share: &Self, left: &Self) {
        self.spend_bytes(share.bytes - left.bytes);
        self.spend_messages(share.messages - left.messages);
        self.calls = self.calls.saturating_sub((share.calls - left.calls).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Budget = Budget { bytes: 100, messages: 40, calls: 8 };

    #[test]
    fn a_budget_is_spent_when_any_of_the_three_is() {
        for (bytes, messages, calls, spent) in
            [(99, 39, 7, false), (100, 0, 0, true), (0, 40, 0, true), (0, 0, 8, true)]
        {
            let mut budget = WHOLE;
            budget.spend_bytes(bytes);
            budget.spend_messages(messages);
            (0..calls).for_each(|_| budget.spend_call());
            assert_eq!(budget.is_spent(), spent, "{budget:?}");
        }
    }

    #[test]
    fn what_was_begun_is_finished_and_a_visit_costs_a_call() {
        let mut budget = WHOLE;
        budget.settle(&WHOLE, &WHOLE);
        assert_eq!(budget, Budget { calls: 7, ..WHOLE });
        let share = Budget { bytes: 1000, messages: 1000, calls: 1000 };
        budget.settle(&share, &Budget { bytes: 0, messages: 995, calls: 998 });
        assert_eq!(budget, Budget { bytes: 0, messages: 35, calls: 5 });
    }

    #[test]
    fn work_is_taken_whole_or_not_at_all() {
        for (bytes, messages, fits) in [(100, 40, true), (101, 1, false), (1, 41, false)] {
            let mut budget = WHOLE;
            assert_eq!(budget.take(bytes, messages), fits, "{bytes} bytes, {messages} messages");
            let left = Budget { bytes: 0, messages: 0, calls: 7 };
            assert_eq!(budget, if fits { left } else { WHOLE });
        }
        assert!(!Budget { calls: 0, ..WHOLE }.take(1, 1));
    }

    #[test]
    fn a_budget_is_low_below_a_quarter_of_any() {
        assert!(!Budget { bytes: 25, messages: 10, calls: 2 }.is_low(&WHOLE));
        assert!(Budget { bytes: 24, messages: 10, calls: 2 }.is_low(&WHOLE));
        assert!(Budget { bytes: 25, messages: 9, calls: 2 }.is_low(&WHOLE));
        assert!(Budget { bytes: 25, messages: 10, calls: 1 }.is_low(&WHOLE));
    }
}
