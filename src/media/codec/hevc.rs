//! Reads the configuration of H.265: `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15, section
//! 8.3.3), and its first sequence parameter set (H.265, section 7.3.2.2).
//!
//! Profile, level and bit depth come from the record. The other properties come from the set, up to
//! its first malformed field.

use super::avc::{read_timing, skip_signal_description};
use super::bits::{Bits, first_unit, without_emulation_prevention};
use super::{FrameRate, Level, VideoFacts};

/// `nal_unit_type` of a sequence parameter set (H.265, table 7-1).
const SEQUENCE_PARAMETER_SET: u8 = 33;

/// Positions and masks of the fields of the record (ISO/IEC 14496-15, section 8.3.3.1.2).
mod hvcc {
    /// Length of the fields before the arrays of parameter sets (bytes).
    pub(super) const HEAD_BYTES: usize = 23;
    /// `configurationVersion`
    pub(super) const VERSION_AT: usize = 0;
    /// The only defined version.
    pub(super) const VERSION: u8 = 1;
    /// `general_profile_space`, `general_tier_flag` and `general_profile_idc`
    pub(super) const PROFILE_AT: usize = 1;
    /// `general_profile_idc`
    pub(super) const PROFILE_IDC_MASK: u8 = 0x1f;
    /// `general_constraint_indicator_flags`, the first 16 of its 48 bits
    pub(super) const CONSTRAINTS_AT: usize = 6;
    /// `general_level_idc`
    pub(super) const LEVEL_IDC_AT: usize = 12;
    /// `bitDepthLumaMinus8`
    pub(super) const BIT_DEPTH_AT: usize = 17;
    pub(super) const BIT_DEPTH_MASK: u8 = 0x07;
    pub(super) const BIT_DEPTH_MIN: u8 = 8;
    /// `avgFrameRate`, frames per 256 seconds
    pub(super) const AVERAGE_RATE_AT: usize = 19;
    pub(super) const AVERAGE_RATE_SECONDS: u64 = 256;
    /// `numOfArrays`
    pub(super) const ARRAYS_AT: usize = 22;
    /// `NAL_unit_type`, in the first byte of an array
    pub(super) const UNIT_TYPE_MASK: u8 = 0x3f;
}

/// Constraints that distinguish the profiles of the range extensions: the six bits after the first
/// four (H.265, section 7.3.3 and table A.2).
const RANGE_CONSTRAINTS_SHIFT: u32 = 6;
const RANGE_CONSTRAINTS_MASK: u16 = 0x3f;
/// Units of `general_level_idc` in a tenth of a level (H.265, annex A.4).
const LEVEL_IDC_PER_TENTH: u8 = 3;
/// Smallest `general_level_idc`, which is level 1.
const LEVEL_IDC_MIN: u8 = 30;

/// Length of the header of a parameter set (bits; H.265, section 7.3.1.2).
const UNIT_HEADER_BITS: u32 = 16;
/// Length of `sps_video_parameter_set_id` (H.265, section 7.3.2.2.1).
const VIDEO_PARAMETER_SET_ID_BITS: u32 = 4;
/// Length of the fields from `general_profile_space` to the last constraint. Each sub-layer has the
/// same fields (H.265, section 7.3.3).
const PROFILE_BITS: u32 = 88;
/// Length of `general_level_idc` and `sub_layer_level_idc`.
const LEVEL_BITS: u32 = 8;
const SUB_LAYERS_MAX: u32 = 7;
const SHORT_TERM_SETS_MAX: u32 = 64;
const LONG_TERM_PICTURES_MAX: u32 = 32;
/// Bound of the pictures in a reference set (H.265, section 7.4.8).
const REFERENCES_MAX: usize = 16;

/// Reads the properties from a record.
pub(super) fn facts(record: &[u8]) -> Option<VideoFacts> {
    let (head, rest) = record.split_first_chunk::<{ hvcc::HEAD_BYTES }>()?;
    if head[hvcc::VERSION_AT] != hvcc::VERSION {
        return None;
    }
    let u16_at = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let profile_idc = head[hvcc::PROFILE_AT] & hvcc::PROFILE_IDC_MASK;
    let level_idc = head[hvcc::LEVEL_IDC_AT];
    let mut facts = VideoFacts {
        profile: profile(profile_idc, u16_at(hvcc::CONSTRAINTS_AT)),
        level: (level_idc >= LEVEL_IDC_MIN).then_some(Level(level_idc / LEVEL_IDC_PER_TENTH)),
        bit_depth: Some(hvcc::BIT_DEPTH_MIN + (head[hvcc::BIT_DEPTH_AT] & hvcc::BIT_DEPTH_MASK)),
        ..VideoFacts::default()
    };
    let (arrays, unit_type_mask) = (head[hvcc::ARRAYS_AT], hvcc::UNIT_TYPE_MASK);
    if let Some(set) = first_unit(rest, arrays, unit_type_mask, &[], SEQUENCE_PARAMETER_SET) {
        let average = u16_at(hvcc::AVERAGE_RATE_AT).into();
        if let Some(stated) = read_sequence_parameter_set(set, &mut facts) {
            let averaged = || FrameRate::new(average, hvcc::AVERAGE_RATE_SECONDS, 1);
            facts.frame_rate = stated.or_else(averaged);
        }
    }
    Some(facts)
}

fn profile(profile_idc: u8, constraints: u16) -> Option<&'static str> {
    Some(match profile_idc {
        1 => "Main",
        2 => "Main 10",
        3 => "Main Still Picture",
        // H.265, table A.2: six of the constraints distinguish these profiles.
        4 => match constraints >> RANGE_CONSTRAINTS_SHIFT & RANGE_CONSTRAINTS_MASK {
            0b10_0110 => "Main 12",
            0b11_0100 => "Main 4:2:2 10",
            0b10_0100 => "Main 4:2:2 12",
            0b11_1000 => "Main 4:4:4",
            0b11_0000 => "Main 4:4:4 10",
            0b10_0000 => "Main 4:4:4 12",
            0b11_1111 => "Monochrome",
            0b11_0111 => "Monochrome 10",
            0b10_0111 => "Monochrome 12",
            _ => "Format Range Extensions",
        },
        5 => "High Throughput",
        6 => "Multiview Main",
        7 => "Scalable Main",
        9 => "Screen-Extended Main",
        _ => return None,
    })
}

/// Reads a sequence parameter set. Returns the declared frame rate, or `None` if a field before it
/// is malformed.
fn read_sequence_parameter_set(set: &[u8], facts: &mut VideoFacts) -> Option<Option<FrameRate>> {
    let bytes = without_emulation_prevention(set);
    let bits = &mut Bits::new(&bytes);
    bits.skip(UNIT_HEADER_BITS + VIDEO_PARAMETER_SET_ID_BITS)?;
    let sub_layers = bits.u(3)?;
    bits.skip(1)?;
    skip_profile_tier_level(bits, sub_layers)?;
    bits.skip_ue(1)?;
    read_size(bits, facts)?;
    bits.skip_ue(2)?;
    let order_count_bits = 4 + bits.ue().filter(|above| *above <= 12)?;
    let has_each = bits.flag()?;
    bits.skip_ue(if has_each { 3 * (sub_layers + 1) } else { 3 })?;
    bits.skip_ue(6)?;
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.skip_ue(2)?;
        bits.skip(1)?;
    }
    skip_reference_sets(bits, order_count_bits)?;
    bits.skip(2)?;
    if !bits.flag()? {
        return Some(None);
    }
    skip_signal_description(bits)?;
    bits.skip(3)?;
    if bits.flag()? {
        bits.skip_ue(4)?;
    }
    read_timing(bits, 1)
}

/// Skips `profile_tier_level` (H.265, section 7.3.3).
fn skip_profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    if sub_layers >= SUB_LAYERS_MAX {
        return None;
    }
    bits.skip(PROFILE_BITS + LEVEL_BITS)?;
    if sub_layers == 0 {
        return Some(());
    }
    let mut sizes = 0;
    for _ in 0..sub_layers {
        sizes += if bits.flag()? { PROFILE_BITS } else { 0 };
        sizes += if bits.flag()? { LEVEL_BITS } else { 0 };
    }
    bits.skip(2 * (8 - sub_layers) + sizes)
}

/// Reads the fields from the chroma format to the conformance window (H.265, section 7.4.3.2.1).
fn read_size(bits: &mut Bits<'_>, facts: &mut VideoFacts) -> Option<()> {
    let (unit_x, unit_y) = match bits.ue()? {
        1 => (2, 2),
        2 => (2, 1),
        3 => {
            bits.skip(1)?;
            (1, 1)
        }
        _ => (1, 1),
    };
    read_window(bits, unit_x, unit_y, facts)
}

/// Reads a picture size in pixels, and the displayed window in chroma units. H.265 and H.266 have
/// the same fields.
pub(super) fn read_window(
    bits: &mut Bits<'_>,
    unit_x: u64,
    unit_y: u64,
    facts: &mut VideoFacts,
) -> Option<()> {
    let [width, height] = [bits.ue()?, bits.ue()?].map(u64::from);
    let mut window = [0; 4];
    if bits.flag()? {
        for side in &mut window {
            *side = u64::from(bits.ue()?);
        }
    }
    let [left, right, top, bottom] = window;
    facts.set_size(
        width.saturating_sub((left + right) * unit_x),
        height.saturating_sub((top + bottom) * unit_y),
    );
    Some(())
}

/// Skips the scaling lists (H.265, section 7.3.4).
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            let is_written_out = bits.flag()?;
            bits.skip_ue(match (is_written_out, size) {
                (false, _) => 1,
                (true, 0) => 16,
                (true, 1) => 64,
                (true, _) => 1 + 64,
            })?;
        }
    }
    Some(())
}

/// Skips the short-term and the long-term reference sets.
fn skip_reference_sets(bits: &mut Bits<'_>, order_count_bits: u32) -> Option<()> {
    let sets = bits.ue().filter(|sets| *sets <= SHORT_TERM_SETS_MAX)?;
    let mut before = ReferenceSet::default();
    for index in 0..sets {
        let is_predicted = index > 0 && bits.flag()?;
        before = if is_predicted {
            ReferenceSet::read_predicted(bits, &before)?
        } else {
            ReferenceSet::read(bits)?
        };
    }
    if bits.flag()? {
        let pictures = bits.ue().filter(|pictures| *pictures <= LONG_TERM_PICTURES_MAX)?;
        bits.skip(pictures * (order_count_bits + 1))?;
    }
    Some(())
}

/// A short-term reference set: the distances of its pictures from the current one. Earlier pictures
/// come first, then later ones, each with the nearest first.
///
/// The set must be decoded, although it is only skipped: the next set may be coded as a difference
/// to it, with a field for each picture.
#[derive(Clone, Copy, Default)]
struct ReferenceSet {
    distances: [i64; REFERENCES_MAX],
    count: usize,
}

impl ReferenceSet {
    /// Reads a set that is written out (H.265, section 7.3.7).
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let counts = [bits.ue()?, bits.ue()?];
        let mut set = Self::default();
        for (count, sign) in counts.into_iter().zip([-1, 1]) {
            let mut distance = 0;
            for _ in 0..count {
                distance += sign * (i64::from(bits.ue()?) + 1);
                bits.skip(1)?;
                set.push(distance)?;
            }
        }
        Some(set)
    }

    /// Reads a set that is predicted from the former one by an offset (H.265, section 7.3.7 and
    /// equations 7-61 and 7-62).
    fn read_predicted(bits: &mut Bits<'_>, former: &Self) -> Option<Self> {
        let is_negative = bits.flag()?;
        let distance = i64::from(bits.ue()?) + 1;
        let moved = if is_negative { -distance } else { distance };
        // The last field is for the picture of the former set itself.
        let mut is_kept = [false; REFERENCES_MAX + 1];
        for kept in &mut is_kept[..=former.count] {
            *kept = bits.flag()? || bits.flag()?;
        }
        let mut all = [0; REFERENCES_MAX + 1];
        let (mut count, mut set) = (0, Self::default());
        for (distance, _) in former.distances[..former.count]
            .iter()
            .chain([&0])
            .zip(is_kept)
            .filter(|(_, is_kept)| *is_kept)
        {
            all[count] = distance + moved;
            count += 1;
        }
        // The specification orders pictures by distance, the nearest first, on each side.
        let all = &mut all[..count];
        all.sort_unstable_by_key(|distance| (*distance > 0, distance.abs()));
        all.iter().filter(|distance| **distance != 0).try_for_each(|d| set.push(*d))?;
        Some(set)
    }

    fn push(&mut self, distance: i64) -> Option<()> {
        *self.distances.get_mut(self.count)? = distance;
        self.count += 1;
        Some(())
    }
}
