//! Fields of odd widths and Exp-Golomb numbers, read from the front of a slice.
//!
//! Owns what the bit reader below it lacks: the numbers of H.264 and its successors, and their
//! emulation prevention. Never reads past the end: every read is `None` from there on.

use bitreader::BitReader;

/// What of a parameter set is read: the longest that encoders write, with all its scaling lists
/// and reference sets, has less than half of it.
const PARAMETER_SET_BYTES_MAX: usize = 8 * 1024;

/// A reader of bits.
pub(super) struct Bits<'a>(BitReader<'a>);

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(BitReader::new(bytes))
    }

    /// An unsigned number of `width` bits, 32 at most.
    pub(super) fn u(&mut self, width: u8) -> Option<u32> {
        self.0.read_u32(width).ok()
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.0.read_bool().ok()
    }

    pub(super) fn skip(&mut self, bits: u32) -> Option<()> {
        self.0.skip(bits.into()).ok()
    }

    /// ue(v) of H.264, section 9.1: as many zeros as bits follow the first one.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros == 32 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.u(zeros)?)
    }

    /// se(v) of H.264, section 9.1.1: 1, -1, 2, -2 and so on.
    pub(super) fn se(&mut self) -> Option<i64> {
        let number = i64::from(self.ue()?);
        Some(if number % 2 == 1 { number / 2 + 1 } else { -(number / 2) })
    }

    pub(super) fn skip_ue(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.ue().map(drop))
    }

    /// Passes over what is left of a byte.
    pub(super) fn align(&mut self) -> Option<()> {
        self.0.align(1).ok()
    }

    /// How many bits are left.
    pub(super) fn left(&self) -> u64 {
        self.0.remaining()
    }
}

/// A parameter set without the bytes that keep start codes out of it (H.264, section 7.4.1: each
/// 3 behind two zeros), and no more of it than is ever read.
pub(super) fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
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

/// The bytes behind a length of 16 bits, which are taken off the front of `rest`.
pub(super) fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (unit, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = behind;
    Some(unit)
}

/// The first unit of the first array of the kind `wanted`. The head of an array has its kind in
/// `kind_mask`; then come the number of its units, of which the kinds in `alone` have one without
/// saying so, and each unit with its length. So H.265 and H.266 keep their parameter sets.
pub(super) fn first_unit<'a>(
    mut rest: &'a [u8],
    arrays: u8,
    kind_mask: u8,
    alone: &[u8],
    wanted: u8,
) -> Option<&'a [u8]> {
    for _ in 0..arrays {
        let (&head, behind) = rest.split_first()?;
        rest = behind;
        let kind = head & kind_mask;
        let mut units = 1;
        if !alone.contains(&kind) {
            let (count, behind) = rest.split_first_chunk()?;
            units = u16::from_be_bytes(*count);
            rest = behind;
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
