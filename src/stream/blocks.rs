//! The memory that a tape's messages lie in: blocks that several messages share, used again.
//!
//! Owns the blocks of one tape. A block whose last message has left the tape is written again:
//! fresh memory costs a page fault for each 4 KiB, which is more than to copy a message into it.
//! What a tape has not needed lately is given back.
//!
//! A player that was sent part of a message keeps the block of that message alive. When the tape
//! no longer needs such a block, [`Lent`] counts it until the last player has let go of it. So
//! each block counts once, however many players share it, and until its memory is free.

use crate::limits;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// What is given back is what exceeds the most that was needed by more than this: the two blocks
/// at the ends of a tape, each a quarter of it, are in use only in part.
const SLACK_DIVISOR: usize = 2;
/// With each new block, what was needed once counts less by this.
const DECAY_DIVISOR: usize = 64;
/// Lent blocks that one sweep looks at, so that it stays a small part of a turn.
const SWEEP_MAX: usize = 256;

/// A block without room for another message.
#[derive(Debug)]
struct Full {
    /// The unused rest of the block. Holds the block.
    rest: BytesMut,
    /// The size of the whole block.
    bytes: usize,
    /// Bytes of messages written to this block and to all before it.
    end: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// Room for the next messages.
    open: BytesMut,
    /// The size of the whole open block.
    open_bytes: usize,
    /// The other blocks, in their order: those without a message of the tape come first.
    full: VecDeque<Full>,
    /// The sizes of all of them.
    bytes: usize,
    /// The most that messages took of late.
    needed: usize,
    /// Bytes of messages ever written.
    written: u64,
    /// Blocks that the tape no longer needs and that players hold, until [`Lent`] takes them.
    lent: Vec<LentBlock>,
}

impl Blocks {
    /// Room for `len` more bytes, to be split off when they are written. `held` is what the
    /// messages that are still needed take.
    pub(crate) fn room(&mut self, len: usize, held: usize) -> &mut BytesMut {
        self.needed = self.needed.max(held + len);
        if self.open.capacity() < len {
            self.needed -= self.needed / DECAY_DIVISOR;
            let next = self.take_free(len, held).unwrap_or_else(|| self.allocate(len, held));
            let bytes = std::mem::replace(&mut self.open_bytes, next.capacity());
            let rest = std::mem::replace(&mut self.open, next);
            if bytes > 0 {
                self.full.push_back(Full { rest, bytes, end: self.written });
            }
        }
        self.written += len as u64;
        &mut self.open
    }

    /// The sizes of all blocks.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all blocks back. No message of the tape may lie in them any more.
    pub(crate) fn clear(&mut self) {
        let open = (std::mem::take(&mut self.open), std::mem::take(&mut self.open_bytes));
        let full = self.full.drain(..).map(|block| (block.rest, block.bytes));
        self.lent
            .extend(full.chain([open]).filter_map(|(rest, bytes)| LentBlock::new(rest, bytes)));
        self.full = VecDeque::new();
        (self.bytes, self.needed) = (0, 0);
    }

    /// Gives the blocks back that hold no message of the tape, unless they are few. `held` is what
    /// the messages take that are still needed.
    pub(crate) fn shrink(&mut self, held: usize) {
        if self.bytes <= held + held / SLACK_DIVISOR + 2 * limits::TAPE_BLOCK_BYTES_MIN {
            return;
        }
        self.needed = held;
        while let Some(Full { rest, bytes, .. }) = self.pop_unneeded(held) {
            self.bytes -= bytes;
            self.lent.extend(LentBlock::new(rest, bytes));
        }
    }

    /// Takes the first block if no message of the tape lies in it.
    fn pop_unneeded(&mut self, held: usize) -> Option<Full> {
        let oldest_needed = self.written - held as u64;
        let is_unneeded = self.full.front().is_some_and(|block| block.end <= oldest_needed);
        if is_unneeded { self.full.pop_front() } else { None }
    }

    fn allocate(&mut self, len: usize, held: usize) -> BytesMut {
        // A quarter of what the tape holds keeps the unused part in proportion.
        let size = (held / 4).clamp(limits::TAPE_BLOCK_BYTES_MIN, limits::TAPE_BLOCK_BYTES_MAX);
        let block = BytesMut::with_capacity(size.max(len));
        self.bytes += block.capacity();
        block
    }

    /// Takes the first block that no message lies in any more, if there is one with room for
    /// `len` bytes. Free ones that are too small or too many are given back, and those that a
    /// player holds are lent: any number of free ones may follow one that is held.
    fn take_free(&mut self, len: usize, held: usize) -> Option<BytesMut> {
        let slack = self.needed / SLACK_DIVISOR + 2 * limits::TAPE_BLOCK_BYTES_MIN;
        while let Some(Full { mut rest, bytes, .. }) = self.pop_unneeded(held) {
            let is_wanted = bytes >= len && self.bytes <= self.needed + slack;
            // More than the room that is left can be had only if nobody else holds the block.
            if is_wanted && rest.try_reclaim(rest.capacity() + 1) {
                return Some(rest);
            }
            self.bytes -= bytes;
            self.lent.extend(LentBlock::new(rest, bytes));
        }
        None
    }
}

/// A block that only players hold, which were sent part of a message in it.
#[derive(Debug)]
struct LentBlock {
    /// Holds the block as well, so that it shows whether anybody else does.
    block: Bytes,
    bytes: usize,
}

impl LentBlock {
    /// `None` if there is no block, or if nobody else holds it: its memory is free then.
    fn new(rest: BytesMut, bytes: usize) -> Option<Self> {
        let block = rest.freeze();
        (bytes > 0 && !block.is_unique()).then_some(Self { block, bytes })
    }
}

/// The blocks of all tapes, those that are gone among them, that only players hold.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    blocks: Vec<LentBlock>,
    /// Where the next sweep begins.
    next: usize,
    /// Invariant: the sum of their sizes.
    bytes: usize,
}

impl Lent {
    /// The sizes of all of them.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes + self.blocks.capacity() * size_of::<LentBlock>()
    }

    /// Takes over what a tape has lent.
    pub(crate) fn take_from(&mut self, blocks: &mut Blocks) {
        if !blocks.lent.is_empty() {
            let lent = std::mem::take(&mut blocks.lent);
            self.bytes += lent.iter().map(|block| block.bytes).sum::<usize>();
            self.blocks.extend(lent);
        }
    }

    /// Frees blocks that players have released, among those that one sweep looks at.
    pub(crate) fn sweep(&mut self) {
        for _ in 0..SWEEP_MAX.min(self.blocks.len()) {
            if self.next >= self.blocks.len() {
                self.next = 0;
            }
            match self.blocks.get(self.next) {
                Some(lent) if lent.block.is_unique() => {
                    self.bytes -= lent.bytes;
                    self.blocks.swap_remove(self.next);
                }
                _ => self.next += 1,
            }
        }
        if self.blocks.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Writes `count` messages, of which the last `kept` are needed.
    fn write(blocks: &mut Blocks, messages: &mut VecDeque<Bytes>, count: usize, kept: usize) {
        const LEN: usize = 10_000;
        for fill in 0..count {
            let held = messages.len() * LEN;
            let room = blocks.room(LEN, held);
            room.extend_from_slice(&[fill as u8; LEN]);
            messages.push_back(room.split().freeze());
            while messages.len() > kept {
                messages.pop_front();
            }
        }
    }

    #[test]
    fn memory_of_messages_that_have_gone_is_written_to_anew() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        write(&mut blocks, &mut messages, 1000, 100);
        let places: Vec<_> = blocks.full.iter().map(|block| block.rest.as_ptr() as usize).collect();
        let bytes = blocks.bytes();
        write(&mut blocks, &mut messages, 1000, 100);
        assert_eq!(blocks.bytes(), bytes, "nothing is allocated");
        assert_eq!(blocks.full.len(), places.len());
        assert!(bytes < 100 * 10_000 * 7 / 4, "{bytes} bytes for a million");
    }

    #[test]
    fn what_is_needed_no_more_is_given_back() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        write(&mut blocks, &mut messages, 1000, 500);
        assert!(blocks.bytes() > 5_000_000);
        write(&mut blocks, &mut messages, 10_000, 5);
        assert!(blocks.bytes() < 500_000, "{} bytes for 50,000", blocks.bytes());
    }

    #[test]
    fn when_memory_is_short_what_is_free_is_given_back_at_once() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        write(&mut blocks, &mut messages, 1000, 500);
        messages.drain(..490);
        blocks.shrink(10 * 10_000);
        // The blocks in which the first and the last message lie are in use only in part.
        assert!(blocks.bytes() < 2_500_000, "{} bytes for 100,000", blocks.bytes());
        let bytes = blocks.bytes();
        blocks.shrink(10 * 10_000);
        assert_eq!(blocks.bytes(), bytes, "no more is free");
    }

    #[test]
    fn a_gop_is_written_where_the_one_before_it_lay() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        let mut bytes = Vec::new();
        for _ in 0..20 {
            write(&mut blocks, &mut messages, 1, 1);
            write(&mut blocks, &mut messages, 59, 60);
            bytes.push(blocks.bytes());
        }
        assert!(bytes[5..].iter().all(|later| *later == bytes[5]), "{bytes:?}");
    }

    #[test]
    fn a_block_that_a_player_holds_stops_no_other_from_being_used_again() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        write(&mut blocks, &mut messages, 100, 20);
        let held = messages[0].slice(5_000..);
        let bytes = blocks.bytes();
        write(&mut blocks, &mut messages, 10_000, 20);
        assert!(blocks.bytes() <= bytes, "{} bytes after {bytes}", blocks.bytes());
        assert_eq!(blocks.lent.len(), 1);
        assert_eq!(held, &[80; 5_000][..]);
    }

    #[test]
    fn a_lent_block_counts_once_and_until_the_last_player_lets_go_of_it() {
        let (mut blocks, mut messages, mut lent) =
            (Blocks::default(), VecDeque::new(), Lent::default());
        write(&mut blocks, &mut messages, 20, 20);
        let bytes = blocks.bytes();
        let mut players: Vec<_> = (0..100).map(|_| messages[19].slice(1..)).collect();
        messages.clear();
        blocks.clear();
        lent.take_from(&mut blocks);
        drop(blocks);
        assert!(lent.bytes >= limits::TAPE_BLOCK_BYTES_MIN && lent.bytes < bytes, "{lent:?}");
        players.truncate(1);
        lent.sweep();
        assert!(lent.bytes > 0);
        players.clear();
        lent.sweep();
        assert_eq!(lent.bytes(), 0);
    }

    #[test]
    fn a_sweep_looks_at_a_bounded_number_and_the_next_goes_on() {
        let mut lent = Lent::default();
        let mut players = Vec::new();
        for _ in 0..3 * SWEEP_MAX {
            let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
            write(&mut blocks, &mut messages, 1, 1);
            players.extend(messages.drain(..));
            blocks.clear();
            lent.take_from(&mut blocks);
        }
        players.clear();
        for left in [2, 1, 0] {
            lent.sweep();
            assert_eq!(lent.blocks.len(), left * SWEEP_MAX);
        }
    }

    #[test]
    fn a_message_that_is_still_needed_keeps_its_bytes() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        let room = blocks.room(5, 0);
        room.extend_from_slice(b"abcde");
        let needed = room.split().freeze();
        write(&mut blocks, &mut messages, 1000, 3);
        assert_eq!(needed, &b"abcde"[..]);
    }
}
