//! Memory files: what a tape holds for many players lies there once more, and the kernel sends
//! it to each of them without a copy (`sendfile`).
//!
//! Owns the files of one tape, and which bytes of the tape lie where. A file is written once: it
//! only grows, and is dropped whole when nothing of it is on the tape any more. What still waits
//! in a socket then keeps its pages in the kernel, so that no player ever sees other bytes than
//! those of its message. It never decides who plays what, and never opens a file by itself.

use crate::limits;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};

/// How memory files are made, and from where on they pay.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSettings {
    /// Makes an empty file in memory.
    pub open: fn() -> io::Result<File>,
    /// Players of a stream from which on what is recorded goes to a file as well.
    pub players_min: usize,
    /// Files that all streams together may have open: each takes a descriptor.
    pub files_max: usize,
    /// Bytes from which on a call for a file costs less than a copy: new ones of a stream in one
    /// turn, and those that one player is owed.
    pub run_bytes_min: usize,
}

/// Bytes of a tape that lie in one file, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct FileRun<'s> {
    /// The file.
    pub file: &'s File,
    /// Where in it they begin.
    pub position: u64,
    /// How many there are.
    pub len: usize,
}

/// One file, and which part of the tape it holds.
#[derive(Debug)]
struct Segment {
    file: File,
    /// The offset on the tape of its first byte.
    begin: u64,
    /// Behind its last one.
    end: u64,
}

impl Segment {
    const fn bytes(&self) -> u64 {
        self.end - self.begin
    }
}

/// The files of one tape. Invariant: in the order of the tape, without an overlap.
#[derive(Debug, Default)]
pub struct Segments {
    segments: VecDeque<Segment>,
    run_bytes_min: u64,
}

impl Segments {
    /// The offset on the tape behind all that lies in files.
    pub fn end(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.end)
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// How many there are.
    pub fn files(&self) -> usize {
        self.segments.len()
    }

    /// Whether what the tape holds from `offset` on goes to a file that is open.
    pub fn has_room_at(&self, offset: u64) -> bool {
        let is_next = |segment: &Segment| {
            segment.end == offset && segment.bytes() < limits::SEGMENT_BYTES as u64
        };
        self.segments.back().is_some_and(is_next)
    }

    /// Writes what the tape holds from `offset` on, which is not before [`Segments::end`].
    ///
    /// # Errors
    /// The system has no file or no memory to give. The file that could not be written to is
    /// dropped.
    pub fn append<'w>(
        &mut self,
        offset: u64,
        messages: impl Iterator<Item = &'w [u8]>,
        settings: &SegmentSettings,
    ) -> io::Result<()> {
        if !self.has_room_at(offset) {
            let file = (settings.open)()?;
            self.segments.push_back(Segment { file, begin: offset, end: offset });
            self.run_bytes_min = settings.run_bytes_min as u64;
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        match write(&mut segment.file, messages) {
            Ok(written) => {
                segment.end += written;
                Ok(())
            }
            Err(error) => {
                // Where the file ends now is not known.
                self.segments.pop_back();
                Err(error)
            }
        }
    }

    /// What of `from..to` on the tape lies in one file from `from` on, if that is worth a call.
    pub fn run(&self, from: u64, to: u64) -> Option<FileRun<'_>> {
        let holds = |segment: &&Segment| segment.begin <= from && from < segment.end;
        let segment = self.segments.iter().rev().find(holds)?;
        let len = to.min(segment.end).saturating_sub(from);
        (len >= self.run_bytes_min).then(|| FileRun {
            file: &segment.file,
            position: from - segment.begin,
            len: len as usize,
        })
    }

    /// Checks that the files are in the order of the tape, without an overlap, and end by
    /// `recorded`, where the tape does.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self, recorded: u64) {
        let mut end = 0;
        for segment in &self.segments {
            debug_assert!(end <= segment.begin && segment.begin < segment.end, "{segment:?}");
            end = segment.end;
        }
        debug_assert!(end <= recorded, "a file holds {end} of {recorded} bytes");
    }

    /// Drops the files of which nothing is behind `offset` on the tape.
    pub fn forget_before(&mut self, offset: u64) {
        while self.segments.front().is_some_and(|segment| segment.end <= offset) {
            self.segments.pop_front();
        }
    }
}

/// Files that are given up: players are no longer sent from them. They are closed a few at a time,
/// since the system frees the pages of a file when it is closed.
#[derive(Debug, Default)]
pub struct Discarded {
    segments: Vec<Segment>,
    /// Invariant: the sum of their sizes.
    bytes: u64,
}

impl Discarded {
    /// Takes over all files of a tape. Returns whether there were any.
    pub fn take_from(&mut self, segments: &mut Segments) -> bool {
        let Segments { segments, .. } = std::mem::take(segments);
        let had_segments = !segments.is_empty();
        self.bytes += segments.iter().map(Segment::bytes).sum::<u64>();
        self.segments.extend(segments);
        had_segments
    }

    /// Bytes in all of them.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    pub const fn files(&self) -> usize {
        self.segments.len()
    }

    /// Closes up to [`limits::FILES_CLOSED_PER_TURN_MAX`] of them. Returns whether there were any.
    pub fn close_some(&mut self) -> bool {
        let staying = self.segments.len().saturating_sub(limits::FILES_CLOSED_PER_TURN_MAX);
        let closed = self.segments.split_off(staying);
        self.bytes -= closed.iter().map(Segment::bytes).sum::<u64>();
        if self.segments.is_empty() {
            self.segments = Vec::new();
        }
        !closed.is_empty()
    }
}

/// Writes messages, many with one call, and says how many bytes they were.
fn write<'w>(file: &mut File, mut messages: impl Iterator<Item = &'w [u8]>) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let mut slices = [IoSlice::new(&[]); limits::WRITE_SLICES_MAX];
        let mut filled = 0;
        for (slice, message) in slices.iter_mut().zip(messages.by_ref()) {
            *slice = IoSlice::new(message);
            filled += 1;
            total += message.len() as u64;
        }
        if filled == 0 {
            return Ok(total);
        }
        write_all(file, &mut slices[..filled])?;
    }
}

fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
