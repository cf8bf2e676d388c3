//! The slices of one vectored write to the transport.
//!
//! Short slices are copied together. Owns neither the bytes nor the memory for the copies.

use crate::limits;
use smallvec::SmallVec;
use std::io::IoSlice;
use std::ops::Range;

/// Pieces of a write that need no allocation.
const PIECES_WITHIN: usize = 4;

/// The slices of one vectored write, within a budget. Adjacent short slices are copied into one,
/// since a slice of 13 bytes costs the kernel as much as copying some hundred bytes.
pub(crate) struct Slices<'s, 'c> {
    /// At most [`limits::WRITE_SLICES_MAX`]. Only a few are stored inline: the whole struct is
    /// moved at each write, and nearly every write is one message.
    pieces: SmallVec<[Piece<'s>; PIECES_WITHIN]>,
    scratch: &'c mut Vec<u8>,
    /// Whether media in a memory file is left for a `sendfile` call.
    until_file: bool,
    /// Bytes that may be added. 0 once no further piece fits.
    room_bytes: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Piece<'s> {
    Slice(&'s [u8]),
    /// A range of the memory for copies.
    Copied(Range<usize>),
}

impl<'s, 'c> Slices<'s, 'c> {
    pub(crate) fn new(bytes_max: usize, scratch: &'c mut Vec<u8>, until_file: bool) -> Self {
        scratch.clear();
        Self { pieces: SmallVec::new(), scratch, until_file, room_bytes: bytes_max, bytes: 0 }
    }

    /// Returns whether media in a memory file is left for a `sendfile` call.
    pub(crate) const fn until_file(&self) -> bool {
        self.until_file
    }

    /// Adds a slice, cut to the budget. Returns whether there is room for another.
    pub(crate) fn push(&mut self, slice: &'s [u8]) -> bool {
        let slice = self.cut(slice);
        if !slice.is_empty() && !self.join(slice) {
            self.add(Piece::Slice(slice));
        }
        self.has_room()
    }

    /// Copies bytes that do not live as long as the write.
    pub(crate) fn push_copy(&mut self, bytes: &[u8]) -> bool {
        let bytes = self.cut(bytes);
        if !bytes.is_empty() && !self.join(bytes) {
            let start = self.scratch.len();
            self.scratch.extend_from_slice(bytes);
            self.add(Piece::Copied(start..self.scratch.len()));
            self.note_copied();
        }
        self.has_room()
    }

    #[inline]
    fn add(&mut self, piece: Piece<'s>) {
        if self.pieces.len() == PIECES_WITHIN {
            // One allocation, instead of four as the list doubles.
            self.pieces.reserve_exact(limits::WRITE_SLICES_MAX - PIECES_WITHIN);
        }
        self.pieces.push(piece);
        if self.pieces.len() == limits::WRITE_SLICES_MAX {
            self.room_bytes = 0;
        }
    }

    /// Bytes that may be added.
    pub(crate) const fn room_bytes(&self) -> usize {
        self.room_bytes
    }

    /// Returns whether more may be added.
    pub(crate) const fn has_room(&self) -> bool {
        self.room_bytes > 0
    }

    /// Cuts `bytes` to the room that is left, and takes that room.
    fn cut<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let taken = bytes.len().min(self.room_bytes);
        self.room_bytes -= taken;
        self.bytes += taken;
        &bytes[..taken]
    }

    /// Appends a short slice to the last piece if that is short or a copy. Returns whether it did.
    fn join(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() >= limits::WRITE_COPIED_BYTES_MAX {
            return false;
        }
        let scratch = &mut *self.scratch;
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) => {
                scratch.extend_from_slice(bytes);
                range.end = scratch.len();
            }
            Some(last @ Piece::Slice(_)) => {
                let Piece::Slice(slice) = last else { return false };
                if slice.len() >= limits::WRITE_COPIED_BYTES_MAX {
                    return false;
                }
                let start = scratch.len();
                scratch.extend_from_slice(slice);
                scratch.extend_from_slice(bytes);
                *last = Piece::Copied(start..scratch.len());
            }
            None => return false,
        }
        self.note_copied();
        true
    }

    /// Ends the write once the memory for copies has no room for another short slice.
    fn note_copied(&mut self) {
        if self.scratch.len() + limits::WRITE_COPIED_BYTES_MAX > limits::WRITE_SCRATCH_BYTES {
            self.room_bytes = 0;
        }
    }

    /// Passes all slices to `write`, which makes one call.
    pub(crate) fn hand_to<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        match &self.pieces[..] {
            // The common case. It needs no list.
            [piece] => write(&[self.io_slice(piece)]),
            _ => write(&self.io_slices()),
        }
    }

    /// Returns whether there are no slices.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes in all slices.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the slices for the transport.
    pub(crate) fn io_slices(&self) -> SmallVec<[IoSlice<'_>; limits::WRITE_SLICES_MAX]> {
        self.pieces.iter().map(|piece| self.io_slice(piece)).collect()
    }

    fn io_slice(&self, piece: &Piece<'s>) -> IoSlice<'_> {
        match piece {
            Piece::Slice(slice) => IoSlice::new(slice),
            Piece::Copied(range) => IoSlice::new(&self.scratch[range.clone()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concat(slices: &Slices<'_, '_>) -> Vec<u8> {
        slices.io_slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn slices_are_bounded_in_number_and_bytes() {
        let (long, mut scratch) = ([0; limits::WRITE_COPIED_BYTES_MAX], Vec::new());
        let mut slices = Slices::new(usize::MAX, &mut scratch, true);
        for count in 1..limits::WRITE_SLICES_MAX {
            assert!(slices.push(&long), "slice {count}");
        }
        assert!(!slices.push(&long), "the last place");
        assert!(!slices.push(&long) && !slices.push_copy(&long));
        assert_eq!(slices.io_slices().len(), limits::WRITE_SLICES_MAX);

        let mut slices = Slices::new(5, &mut scratch, true);
        assert!(slices.push(&[1; 4]));
        assert!(!slices.push(&[2; 4]));
        assert!(!slices.push(&[3; 4]));
        assert_eq!(concat(&slices), [1, 1, 1, 1, 2]);
        let mut slices = Slices::new(0, &mut scratch, true);
        assert!(!slices.push(&[0]) && slices.io_slices().is_empty());
    }

    #[test]
    fn short_slices_that_follow_each_other_become_one() {
        let (long, mut scratch) = ([9; limits::WRITE_COPIED_BYTES_MAX], Vec::new());
        let mut slices = Slices::new(usize::MAX, &mut scratch, true);
        slices.push(&[1; 10]);
        assert!(slices.scratch.is_empty(), "one alone is not copied");
        slices.push(&[2; 10]);
        slices.push_copy(&[3; 10]);
        slices.push(&long);
        slices.push_copy(&[4; 10]);
        slices.push(&[5; 10]);
        let lens: Vec<_> = slices.io_slices().iter().map(|slice| slice.len()).collect();
        assert_eq!(lens, [30, long.len(), 20]);
        let expected = [&[1; 10][..], &[2; 10], &[3; 10], &long, &[4; 10], &[5; 10]].concat();
        assert_eq!(concat(&slices), expected);
    }
}
