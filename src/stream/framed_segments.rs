//! Memory files for players whose framing differs from the bytes on the tape.
//!
//! As `segment.rs` has it for RTMP: a file only grows, and is dropped as a whole when none of its
//! messages is on the tape. Messages have other lengths here than on the tape, so a file has a list
//! of where each of them ends. It costs four bytes for each message.

use super::segment::{FileRun, Segment, SegmentSettings};
use crate::limits;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};

/// One file.
#[derive(Debug)]
struct FramedSegment {
    file: File,
    /// Sequence number of its first message.
    first: u64,
    /// Where each message ends in the file (bytes). A message that the framing leaves out ends
    /// where the one before does.
    ends: Vec<u32>,
}

impl FramedSegment {
    fn bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0).into()
    }

    /// Sequence number after its last message.
    const fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Returns where a message begins in the file. `sequence` is of this file, or the next.
    fn position(&self, sequence: u64) -> u64 {
        let before = (sequence - self.first).checked_sub(1);
        before.and_then(|index| self.ends.get(index as usize)).copied().unwrap_or(0).into()
    }
}

/// The files of one tape in one framing. Invariant: they are in the order of the tape and do not
/// overlap.
#[derive(Debug, Default)]
pub(crate) struct FramedSegments {
    segments: VecDeque<FramedSegment>,
    run_bytes_min: u64,
}

impl FramedSegments {
    /// Sequence number after the last message that is in a file.
    pub(crate) fn next(&self) -> Option<u64> {
        self.segments.back().map(FramedSegment::next)
    }

    /// Number of files.
    pub(crate) fn files(&self) -> usize {
        self.segments.len()
    }

    /// Memory of the files and their lists (bytes).
    pub(crate) fn held_bytes(&self) -> usize {
        let of_one = |s: &FramedSegment| s.bytes() as usize + s.ends.capacity() * size_of::<u32>();
        self.segments.iter().map(of_one).sum::<usize>()
            + self.segments.capacity() * size_of::<FramedSegment>()
    }

    /// Returns whether the newest file can take the message `sequence`, so that no new file is
    /// needed.
    pub(crate) fn has_room_at(&self, sequence: u64) -> bool {
        let is_next = |segment: &FramedSegment| {
            segment.next() == sequence && segment.bytes() < limits::SEGMENT_BYTES as u64
        };
        self.segments.back().is_some_and(is_next)
    }

    /// Writes messages from `sequence` on, which must not be before [`FramedSegments::next`].
    /// `bytes` has them one after the other, and `lens` the length of each.
    ///
    /// # Errors
    /// As for `Segments::append`.
    pub(crate) fn append(
        &mut self,
        sequence: u64,
        bytes: &[u8],
        lens: &[u32],
        settings: &SegmentSettings,
    ) -> io::Result<()> {
        if !self.has_room_at(sequence) {
            let file = (settings.open)()?;
            self.segments.push_back(FramedSegment { file, first: sequence, ends: Vec::new() });
            self.run_bytes_min = settings.run_bytes_min as u64;
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        if let Err(error) = segment.file.write_all(bytes) {
            // A failed write may have written a part. The end of the file is unknown.
            self.segments.pop_back();
            return Err(error);
        }
        let mut end = segment.bytes() as u32;
        segment.ends.extend(lens.iter().map(|len| {
            end += len;
            end
        }));
        Ok(())
    }

    /// Returns the part of the messages `from..to` that is in one file, starting at `from`, and the
    /// sequence number after it. `None` if the part is too short for a call of its own.
    pub(crate) fn run(&self, from: u64, to: u64) -> Option<(FileRun<'_>, u64)> {
        let holds = |segment: &&FramedSegment| segment.first <= from && from < segment.next();
        let segment = self.segments.iter().rev().find(holds)?;
        let to = to.min(segment.next());
        let position = segment.position(from);
        let len = segment.position(to) - position;
        let is_worth_it = len > 0 && len >= self.run_bytes_min;
        let len = len as usize;
        is_worth_it.then_some((FileRun { file: &segment.file, position, len }, to))
    }

    /// Drops the files whose messages all precede `sequence`.
    pub(crate) fn forget_before(&mut self, sequence: u64) {
        while self.segments.front().is_some_and(|segment| segment.next() <= sequence) {
            self.segments.pop_front();
        }
    }

    /// Gives up all files.
    pub(super) fn into_segments(self) -> impl Iterator<Item = Segment> {
        self.segments.into_iter().map(|segment| Segment::of_file(segment.bytes(), segment.file))
    }
}
