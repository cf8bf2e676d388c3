//! Memory files for zero-copy fan-out. The tape of a stream with many players is written to a
//! memory file as well, and `sendfile` sends it to each player from there.
//!
//! Owns the files of one tape, and knows which part of the tape each file holds. A file is written
//! once: it only grows, and it is dropped as a whole when none of its messages is on the tape.
//! Pages that wait in the send buffer of a socket stay in the kernel until they are sent. So no
//! player ever receives other bytes than those of its message, as it would if a file were
//! overwritten. The caller opens the files.

use crate::limits;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};

/// How memory files are created, and when they are used.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSettings {
    /// Creates an empty file in memory.
    pub open: fn() -> io::Result<File>,
    /// The fewest players for which a stream is written to a file.
    pub players_min: usize,
    /// The most files of all streams together. Each takes a descriptor.
    pub files_max: usize,
    /// The fewest bytes for which a `sendfile` call costs less than a copy. It applies to the new
    /// bytes of a stream in a turn, and to the pending bytes of a player.
    pub run_bytes_min: usize,
}

/// A contiguous range of one memory file.
#[derive(Clone, Copy, Debug)]
pub struct FileRun<'s> {
    /// The file.
    pub file: &'s File,
    /// Offset of the first byte in the file.
    pub position: u64,
    /// Number of bytes.
    pub len: usize,
}

/// One file, and the part of the tape that it holds.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    /// Offset of its first byte on the tape.
    begin: u64,
    /// Offset after its last byte on the tape.
    end: u64,
}

impl Segment {
    /// Creates a segment of a file with `bytes` that waits to be closed.
    pub(super) const fn of_file(bytes: u64, file: File) -> Self {
        Self { file, begin: 0, end: bytes }
    }

    const fn bytes(&self) -> u64 {
        self.end - self.begin
    }
}

/// The files of one tape. Invariant: they are in the order of the tape and do not overlap.
#[derive(Debug, Default)]
pub struct Segments {
    segments: VecDeque<Segment>,
    run_bytes_min: u64,
}

impl Segments {
    /// Offset on the tape after the last byte that is in a file.
    pub fn end(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.end)
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.segments.len()
    }

    /// Returns whether the newest file can take the tape from `offset` on, so that no new file is
    /// needed.
    pub fn has_room_at(&self, offset: u64) -> bool {
        let is_next = |segment: &Segment| {
            segment.end == offset && segment.bytes() < limits::SEGMENT_BYTES as u64
        };
        self.segments.back().is_some_and(is_next)
    }

    /// Writes the messages of the tape from `offset` on. `offset` must not be before
    /// [`Segments::end`].
    ///
    /// # Errors
    /// The system could not provide a file or memory. A file that could not be written to is
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
                // A failed write may have written a part. The end of the file is unknown.
                self.segments.pop_back();
                Err(error)
            }
        }
    }

    /// Returns the part of `from..to` on the tape that is in one file, starting at `from`. `None`
    /// if it is shorter than [`SegmentSettings::run_bytes_min`].
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

    /// Checks that the files are in the order of the tape, do not overlap, and do not extend beyond
    /// `recorded`, the end of the tape. Does nothing in release builds.
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

    /// Drops the files that end at or before `offset` on the tape.
    pub fn forget_before(&mut self, offset: u64) {
        while self.segments.front().is_some_and(|segment| segment.end <= offset) {
            self.segments.pop_front();
        }
    }
}

/// Files that were given up and wait to be closed. A few are closed in each turn, because the
/// system frees the pages of a file when it is closed: 1 ms for 4 MiB.
#[derive(Debug, Default)]
pub struct Discarded {
    segments: Vec<Segment>,
    /// Invariant: the sum of the sizes of `segments`.
    bytes: u64,
}

impl Discarded {
    /// Takes over all files of a tape. Returns whether there were any.
    pub fn take_from(&mut self, segments: &mut Segments) -> bool {
        let Segments { segments, .. } = std::mem::take(segments);
        self.take_all(segments.into_iter())
    }

    /// Takes over files. Returns whether there were any.
    pub(super) fn take_all(&mut self, segments: impl Iterator<Item = Segment>) -> bool {
        let before = self.segments.len();
        self.segments.extend(segments);
        self.bytes += self.segments[before..].iter().map(Segment::bytes).sum::<u64>();
        self.segments.len() > before
    }

    /// Bytes in these files.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of files.
    pub const fn files(&self) -> usize {
        self.segments.len()
    }

    /// Closes up to [`limits::FILES_CLOSED_PER_TURN_MAX`] files. Returns whether there were any.
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

/// Writes messages, many in each call. Returns the number of bytes.
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
