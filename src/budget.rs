//! Budgets: the work that one turn of the loop may do, and the share of each connection.
//!
//! Owns the arithmetic of a [`Budget`], and the budgets for reading and writing. Work is counted in
//! bytes, messages and calls. A bound on only one of them leaves an attack open: one frame of a
//! megabyte, a thousand messages of one byte, and a thousand calls that move no byte each cost the
//! peer little and the server much. Budgets do not measure time, so that a simulated turn does the
//! same work as a real one.

use crate::limits;

/// Work that is left in a turn, or in the share of a connection. The budget is spent when one of
/// the three counts reaches zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes moved to or from the kernel. A completed message also counts the bytes of earlier
    /// reads.
    pub bytes: usize,
    /// Messages read from a peer, or visited on a tape.
    pub messages: usize,
    /// System calls, and visits of a connection that needed no call.
    pub calls: usize,
}

impl Budget {
    /// Budget of all reads in a turn.
    pub const READING: Self = Self {
        bytes: limits::READ_BYTES_OF_ALL_PER_TURN_MAX,
        messages: limits::READ_MESSAGES_OF_ALL_PER_TURN_MAX,
        calls: limits::READ_CALLS_OF_ALL_PER_TURN_MAX,
    };

    /// Share of a connection in [`Budget::READING`] when it has new data.
    pub const FIRST_READ: Self = Self {
        bytes: limits::READ_BYTES_PER_TURN_MAX,
        messages: limits::READ_MESSAGES_FIRST_MAX,
        calls: limits::READ_CALLS_PER_TURN_MAX,
    };

    /// Share of a connection in [`Budget::READING`] after a share that did not suffice.
    pub const NEXT_READ: Self =
        Self { messages: limits::READ_MESSAGES_PER_TURN_MAX, ..Self::FIRST_READ };

    /// Budget of all writes in a turn.
    pub const WRITING: Self = Self {
        bytes: limits::WRITE_BYTES_OF_ALL_PER_TURN_MAX,
        messages: limits::WRITE_MESSAGES_OF_ALL_PER_TURN_MAX,
        calls: limits::WRITE_CALLS_OF_ALL_PER_TURN_MAX,
    };

    /// Share of a connection in [`Budget::WRITING`].
    pub const WRITE: Self = Self {
        bytes: limits::WRITE_BYTES_PER_TURN_MAX,
        messages: limits::WRITE_MESSAGES_PER_TURN_MAX,
        calls: limits::WRITE_CALLS_PER_TURN_MAX,
    };

    /// Share of a stream's players in [`Budget::WRITING`] when the stream has new messages. It
    /// suffices for a stream with few players.
    pub const FIRST_VISIT: Self = Self {
        bytes: Self::WRITING.bytes / limits::FIRST_VISITS_PER_TURN,
        messages: Self::WRITING.messages / limits::FIRST_VISITS_PER_TURN,
        calls: Self::WRITING.calls / limits::FIRST_VISITS_PER_TURN,
    };

    /// Budget of all copies to partial segments in a turn.
    pub const PARTS: Self = Self {
        bytes: limits::HLS_BYTES_PER_TURN_MAX,
        messages: limits::HLS_MESSAGES_PER_TURN_MAX,
        calls: usize::MAX,
    };

    /// Budget of all answers to held requests in a turn. Each answer counts as a message, and each
    /// look at a request as a call.
    pub const HELD_ANSWERS: Self = Self {
        bytes: limits::HLS_ANSWER_BYTES_PER_TURN_MAX,
        messages: limits::HLS_ANSWERS_PER_TURN_MAX,
        calls: limits::HLS_LOOKS_PER_TURN_MAX,
    };

    /// Budget of all copies to memory files in a turn. Messages beyond it are sent from memory.
    pub const STORING: Self = Self {
        bytes: limits::SEGMENT_BYTES,
        messages: limits::WRITE_MESSAGES_OF_ALL_PER_TURN_MAX,
        calls: limits::WRITE_CALLS_OF_ALL_PER_TURN_MAX,
    };

    /// Returns true if the budget is spent, so that no further work may begin.
    pub const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.messages == 0 || self.calls == 0
    }

    /// Returns true if any of the three counts is below a quarter of that in `whole`.
    pub const fn is_low(&self, whole: &Self) -> bool {
        self.bytes < whole.bytes / 4
            || self.messages < whole.messages / 4
            || self.calls < whole.calls / 4
    }

    /// Returns true if any of the three counts is below half of that in `whole`.
    pub const fn is_below_half(&self, whole: &Self) -> bool {
        self.bytes < whole.bytes / 2
            || self.messages < whole.messages / 2
            || self.calls < whole.calls / 2
    }

    /// Spends bytes, messages and one call, if all of them fit. Returns false and spends nothing
    /// otherwise.
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

    /// Returns `share`, limited to the work left in this budget.
    pub fn share(&self, share: &Self) -> Self {
        Self {
            bytes: self.bytes.min(share.bytes),
            messages: self.messages.min(share.messages),
            calls: self.calls.min(share.calls),
        }
    }

    /// Spends bytes, at most those that are left: work that has begun is always finished.
    pub const fn spend_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Spends messages, at most those that are left.
    pub const fn spend_messages(&mut self, messages: usize) {
        self.messages = self.messages.saturating_sub(messages);
    }

    /// Spends one call.
    pub const fn spend_call(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// Spends the used part of `share`, of which `left` remains. A visit counts as at least one
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
