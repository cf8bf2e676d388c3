//! The memory that a tape's messages lie in: blocks that several messages share, used again.
//!
//! Owns the blocks of one tape. A block whose last message has gone is written to anew: fresh
//! memory costs a page fault for each 4 KiB, which is more than the copy of a message into it.
//! What a tape has not needed lately is given back.

use crate::limits;
use bytes::BytesMut;
use std::collections::VecDeque;

/// What is given back is what exceeds the most that was needed by more than this: the two blocks
/// at the ends of a tape, each a quarter of it, are in use only in part.
const SLACK_DIVISOR: usize = 2;
/// With each new block, what was needed once counts less by this.
const DECAY_DIVISOR: usize = 64;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Room for the next messages.
    open: BytesMut,
    /// Blocks without room for another, in their order: those that are free come first.
    full: VecDeque<BytesMut>,
    /// The sizes of all of them.
    bytes: usize,
    /// The most that messages took of late.
    needed: usize,
}

impl Blocks {
    /// Room for `len` more bytes, to be split off when they are written. `held` is what the
    /// messages that are still needed take.
    pub(super) fn room(&mut self, len: usize, held: usize) -> &mut BytesMut {
        self.needed = self.needed.max(held + len);
        if self.open.capacity() < len {
            self.needed -= self.needed / DECAY_DIVISOR;
            let next = self.take_free(len).unwrap_or_else(|| self.allocate(len, held));
            let full = std::mem::replace(&mut self.open, next);
            if self.bytes > self.open.capacity() {
                self.full.push_back(full);
            }
        }
        &mut self.open
    }

    /// The sizes of all blocks.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn allocate(&mut self, len: usize, held: usize) -> BytesMut {
        // A quarter of what the tape holds keeps the unused part in proportion.
        let size = (held / 4).clamp(limits::TAPE_BLOCK_BYTES_MIN, limits::TAPE_BLOCK_BYTES_MAX);
        let block = BytesMut::with_capacity(size.max(len));
        self.bytes += block.capacity();
        block
    }

    /// Takes the first block that no message lies in any more, if there is one with room for
    /// `len` bytes. Free ones that are too small or too many are given back.
    fn take_free(&mut self, len: usize) -> Option<BytesMut> {
        let slack = self.needed / SLACK_DIVISOR + 2 * limits::TAPE_BLOCK_BYTES_MIN;
        loop {
            let block = self.full.front_mut()?;
            // More than the room that is left can be had only if nobody else holds the block.
            if !block.try_reclaim(block.capacity() + 1) {
                return None;
            }
            let block = self.full.pop_front()?;
            if block.capacity() >= len && self.bytes <= self.needed + slack {
                return Some(block);
            }
            self.bytes -= block.capacity();
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
        let places: Vec<_> = blocks.full.iter().map(|block| block.as_ptr() as usize).collect();
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
    fn a_message_that_is_still_needed_keeps_its_bytes() {
        let (mut blocks, mut messages) = (Blocks::default(), VecDeque::new());
        let room = blocks.room(5, 0);
        room.extend_from_slice(b"abcde");
        let needed = room.split().freeze();
        write(&mut blocks, &mut messages, 1000, 3);
        assert_eq!(needed, &b"abcde"[..]);
    }
}
