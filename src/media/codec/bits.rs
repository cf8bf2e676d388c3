//! A bit reader for fields of any width and for Exp-Golomb numbers.
//!
//! Adds to the `bitreader` crate the numbers of H.264 and its successors, and their emulation
//! prevention. Past the end of the input, every read returns `None`.

use bitreader::BitReader;

/// Bytes of a parameter set that are read. The longest one that encoders write, with all scaling
/// lists and reference sets, is less than half as long.
const PARAMETER_SET_BYTES_MAX: usize = 8 * 1024;

/// A reader of bits.
pub(in crate::media) struct Bits<'a>(BitReader<'a>);

impl<'a> Bits<'a> {
    pub(in crate::media) fn new(bytes: &'a [u8]) -> Self {
        Self(BitReader::new(bytes))
    }

    /// Reads an unsigned number of `width` bits, at most 32.
    pub(in crate::media) fn u(&mut self, width: u8) -> Option<u32> {
        self.0.read_u32(width).ok()
    }

    pub(in crate::media) fn flag(&mut self) -> Option<bool> {
        self.0.read_bool().ok()
    }

    pub(in crate::media) fn skip(&mut self, bits: u32) -> Option<()> {
        self.0.skip(bits.into()).ok()
    }

    /// Reads ue(v) (H.264, section 9.1): zeros, a one, and as many bits as there were zeros.
    pub(in crate::media) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros == 32 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.u(zeros)?)
    }

    /// Reads se(v) (H.264, section 9.1.1): the numbers of ue(v) map to 0, 1, -1, 2, -2 and so on.
    pub(in crate::media) fn se(&mut self) -> Option<i64> {
        let number = i64::from(self.ue()?);
        Some(if number % 2 == 1 { number / 2 + 1 } else { -(number / 2) })
    }

    pub(in crate::media) fn skip_ue(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.ue().map(drop))
    }

    /// Skips to the next byte boundary.
    pub(in crate::media) fn align(&mut self) -> Option<()> {
        self.0.align(1).ok()
    }

    /// Returns the number of bits left.
    pub(in crate::media) fn left(&self) -> u64 {
        self.0.remaining()
    }
}

/// Returns a parameter set without its emulation prevention bytes: each 3 after two zeros (H.264,
/// section 7.4.1). The result is cut to [`PARAMETER_SET_BYTES_MAX`].
pub(in crate::media) fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let unit = &unit[..unit.len().min(PARAMETER_SET_BYTES_MAX)];
    let mut zeros = 0;
    let mut bytes = Vec::with_capacity(unit.len());
    for &byte in unit {
        if zeros == 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { (zeros + 1).min(2) } else { 0 };
        bytes.push(byte);
    }
    bytes
}

/// Takes a 16-bit length, and that many bytes, off the front of `rest`. Returns the bytes.
pub(in crate::media) fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (unit, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = after;
    Some(unit)
}

/// Returns the first unit of the first array of the kind `wanted`. H.265 and H.266 store their
/// parameter sets in such arrays.
///
/// The first byte of an array contains its kind, in the bits of `kind_mask`. The number of its
/// units follows, except for the kinds in `alone`, which have one unit. Each unit has a 16-bit
/// length.
pub(in crate::media) fn first_unit<'a>(
    mut rest: &'a [u8],
    arrays: u8,
    kind_mask: u8,
    alone: &[u8],
    wanted: u8,
) -> Option<&'a [u8]> {
    for _ in 0..arrays {
        let (&head, after) = rest.split_first()?;
        rest = after;
        let kind = head & kind_mask;
        let mut units = 1;
        if !alone.contains(&kind) {
            let (count, after) = rest.split_first_chunk()?;
            units = u16::from_be_bytes(*count);
            rest = after;
        }
        for _ in 0..units {
            let unit = take_sized(&mut rest)?;
            if kind == wanted {
                return Some(unit);
            }
        }
    }
    None
}
