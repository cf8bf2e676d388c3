//! The messages of streams that are over, which are dropped a few in each turn.
//!
//! A tape may have a quarter of a million tiny messages. To drop them takes milliseconds, and the
//! streams of many publishers can end in one turn. Owns these messages and nothing else: the
//! blocks that they share count as lent (`blocks.rs`) until the last of their messages is dropped.

use super::tape::Entry;
use crate::limits;
use std::collections::VecDeque;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// The messages of each tape. Invariant: none is empty.
    tapes: VecDeque<VecDeque<Entry>>,
    /// Invariant: the sum of the capacities of `tapes` (bytes).
    bytes: usize,
}

impl Remains {
    /// Takes over the messages of a tape. Few messages are dropped at once.
    pub(crate) fn take(&mut self, entries: VecDeque<Entry>) {
        if entries.len() > limits::MESSAGES_TRIMMED_MAX {
            self.bytes += entries.capacity() * size_of::<Entry>();
            self.tapes.push_back(entries);
        }
    }

    /// Returns whether there is nothing to drop.
    pub(crate) fn is_empty(&self) -> bool {
        self.tapes.is_empty()
    }

    /// Memory of the lists, without that of the messages (bytes).
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops up to [`limits::MESSAGES_DROPPED_PER_TURN_MAX`] messages.
    pub(crate) fn drop_some(&mut self) {
        let mut left = limits::MESSAGES_DROPPED_PER_TURN_MAX;
        while let Some(entries) = self.tapes.front_mut().filter(|_| left > 0) {
            let dropped = left.min(entries.len());
            entries.drain(..dropped);
            left -= dropped;
            if entries.is_empty() {
                self.bytes -= entries.capacity() * size_of::<Entry>();
                self.tapes.pop_front();
            }
        }
        if self.tapes.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaKind;
    use crate::stream::frame::{self, MediaFrame};
    use crate::stream::tape::{Tape, TapeSettings};
    use crate::test_support::TAPE;
    use crate::time::Time;

    fn tiny_messages(count: usize) -> VecDeque<Entry> {
        let frame = MediaFrame {
            media: MediaKind::Audio,
            is_amf3: false,
            timestamp: 0,
            payload: &[0xaf, 1],
        };
        let settings = TapeSettings { bytes_max: limits::TAPE_BYTES_MAX, ..TAPE };
        let mut tape = Tape::default();
        for _ in 0..count {
            tape.record(frame::audio(&frame).unwrap(), true, Time::ZERO, &settings);
        }
        let messages = tape.forget();
        assert_eq!(messages.len(), count);
        messages
    }

    #[test]
    fn a_turn_drops_a_bounded_number_of_messages_of_all_streams_together() {
        let mut remains = Remains::default();
        let count = limits::MESSAGES_DROPPED_PER_TURN_MAX * 3 / 4;
        (0..4).for_each(|_| remains.take(tiny_messages(count)));
        for turn in 0..3 {
            assert!(!remains.is_empty() && remains.bytes() > 0, "turn {turn}");
            let before: usize = remains.tapes.iter().map(VecDeque::len).sum();
            remains.drop_some();
            let after: usize = remains.tapes.iter().map(VecDeque::len).sum();
            assert_eq!(before - after, limits::MESSAGES_DROPPED_PER_TURN_MAX, "turn {turn}");
        }
        assert!(remains.is_empty());
        assert_eq!(remains.bytes(), 0);
    }

    #[test]
    fn few_messages_are_dropped_at_once() {
        let mut remains = Remains::default();
        remains.take(tiny_messages(limits::MESSAGES_TRIMMED_MAX));
        assert!(remains.is_empty());
    }
}
