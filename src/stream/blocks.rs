//! The memory of a tape: blocks, each shared by several messages and reused.
//!
//! Owns the blocks of one tape. A block is reused after its last message has left the tape: fresh
//! memory costs a page fault for each 4 KiB, which is more than copying a message into it. Blocks
//! that a tape has not needed lately are given back.
//!
//! A player with a half-sent message keeps the block of that message alive. When the tape no
//! longer needs such a block, [`Lent`] counts it until the last player releases it. So each block
//! counts once, however many players share it, until its memory is free.

use crate::limits;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Blocks beyond the recent need, plus the need divided by this, are given back. The slack covers
/// the first and the last block of a tape: each is up to a quarter of it and only partly in use.
const SLACK_DIVISOR: usize = 2;
/// With each new block the recent need decays by one part in this many.
const DECAY_DIVISOR: usize = 64;
/// Lent blocks that one sweep checks, so that it stays a small part of a turn.
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

/// The blocks of one tape. See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// The unused rest of the block that is written to.
    open: BytesMut,
    /// The size of the whole open block.
    open_bytes: usize,
    /// The other blocks, oldest first. Blocks without a message of the tape come first.
    full: VecDeque<Full>,
    /// The sizes of all blocks.
    bytes: usize,
    /// The recent maximum of the bytes of messages. It decays with each new block.
    needed: usize,
    /// Bytes of messages ever written.
    written: u64,
    /// Blocks that the tape no longer needs and that players hold, until [`Lent`] takes them over.
    lent: Vec<LentBlock>,
}

impl Blocks {
    /// Returns room for `len` more bytes. The caller splits them off after writing them. `held` is
    /// the number of bytes of the messages on the tape.
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

    /// Gives back all blocks. The tape must not have any message in them.
    pub(crate) fn clear(&mut self) {
        let open = (std::mem::take(&mut self.open), std::mem::take(&mut self.open_bytes));
        let full = self.full.drain(..).map(|block| (block.rest, block.bytes));
        self.lent
            .extend(full.chain([open]).filter_map(|(rest, bytes)| LentBlock::new(rest, bytes)));
        self.full = VecDeque::new();
        (self.bytes, self.needed) = (0, 0);
    }

    /// Gives back the blocks without a message of the tape, unless they are few. `held` is the
    /// number of bytes of the messages on the tape.
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

    /// Takes the oldest block if no message of the tape is in it.
    fn pop_unneeded(&mut self, held: usize) -> Option<Full> {
        let oldest_needed = self.written - held as u64;
        let is_unneeded = self.full.front().is_some_and(|block| block.end <= oldest_needed);
        if is_unneeded { self.full.pop_front() } else { None }
    }

    fn allocate(&mut self, len: usize, held: usize) -> BytesMut {
        // A quarter of the tape keeps the unused part in proportion to the used part.
        let size = (held / 4).clamp(limits::TAPE_BLOCK_BYTES_MIN, limits::TAPE_BLOCK_BYTES_MAX);
        let block = BytesMut::with_capacity(size.max(len));
        self.bytes += block.capacity();
        block
    }

    /// Takes the oldest free block with room for `len` bytes, if there is one. Free blocks before
    /// it that are too small, or not needed any more, are given back. Blocks that a player holds
    /// are lent.
    fn take_free(&mut self, len: usize, held: usize) -> Option<BytesMut> {
        let slack = self.needed / SLACK_DIVISOR + 2 * limits::TAPE_BLOCK_BYTES_MIN;
        while let Some(Full { mut rest, bytes, .. }) = self.pop_unneeded(held) {
            let is_wanted = bytes >= len && self.bytes <= self.needed + slack;
            // `try_reclaim` succeeds for more than the rest only if no player holds the block. It
            // does not allocate, as `reserve` would.
            if is_wanted && rest.try_reclaim(rest.capacity() + 1) {
                return Some(rest);
            }
            // The search does not stop at a block that a player holds: one stalled player would
            // keep all later blocks from being reused, and the tape would allocate without end.
            self.bytes -= bytes;
            self.lent.extend(LentBlock::new(rest, bytes));
        }
        None
    }
}

/// A block that only players hold, because each has a half-sent message in it.
#[derive(Debug)]
struct LentBlock {
    /// A reference to the block. It is unique once the last player has released the block.
    block: Bytes,
    bytes: usize,
}

impl LentBlock {
    /// Returns `None` if there is no block, or if no player holds it. Its memory is then free.
    fn new(rest: BytesMut, bytes: usize) -> Option<Self> {
        let block = rest.freeze();
        (bytes > 0 && !block.is_unique()).then_some(Self { block, bytes })
    }
}

/// The blocks of all tapes that only players hold, including tapes that no longer exist.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    blocks: Vec<LentBlock>,
    /// Index at which the next sweep starts.
    next: usize,
    /// Invariant: the sum of the sizes of `blocks`.
    bytes: usize,
}

impl Lent {
    /// Memory of the blocks and of this list (bytes).
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes + self.blocks.capacity() * size_of::<LentBlock>()
    }

    /// Takes over the lent blocks of a tape.
    pub(crate) fn take_from(&mut self, blocks: &mut Blocks) {
        if !blocks.lent.is_empty() {
            let lent = std::mem::take(&mut blocks.lent);
            self.bytes += lent.iter().map(|block| block.bytes).sum::<usize>();
            self.blocks.extend(lent);
        }
    }

    /// Frees blocks that players have released. Checks a bounded number of blocks in each call.
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

    /// Writes `count` messages and keeps the last `kept` of them.
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
    fn memory_of_dropped_messages_is_reused() {
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
    fn memory_that_is_no_longer_needed_is_given_back() {
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
        // The blocks of the first and of the last message are only partly in use.
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
