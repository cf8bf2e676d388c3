//! Reads the configuration of H.266: `VvcDecoderConfigurationRecord` (ISO/IEC 14496-15, section
//! 11.2.4.2), and its first sequence parameter set (H.266, section 7.3.2.4).
//!
//! The record contains the size of the coded picture. The size of the displayed picture is in the
//! set.

use super::bits::{Bits, first_unit, without_emulation_prevention};
use super::hevc::read_window;
use super::{FrameRate, Level, VideoFacts};

const SEQUENCE_PARAMETER_SET: u8 = 15;
/// Array types with a single unit: operating point and decoding capability information.
const ALONE: [u8; 2] = [12, 13];
/// Length of the general constraints with fields of their own (bits; H.266, section 7.3.3.2).
const GENERAL_CONSTRAINTS_BITS: u32 = 71;

/// Reads the properties from a record. Profile, tier and level may be missing.
pub(super) fn facts(record: &[u8]) -> Option<VideoFacts> {
    let (&head, mut rest) = record.split_first()?;
    let mut facts = VideoFacts::default();
    if head & 0xf8 != 0xf8 {
        return None;
    }
    if head & 1 != 0 {
        rest = read_profile_tier_level(rest, &mut facts)?;
    }
    let (&arrays, rest) = rest.split_first()?;
    if let Some(set) = first_unit(rest, arrays, 0x1f, &ALONE, SEQUENCE_PARAMETER_SET) {
        let _ = read_sequence_parameter_set(set, &mut facts);
    }
    Some(facts)
}

/// Reads `VvcPTLRecord` and the fields around it. Returns the bytes after them.
fn read_profile_tier_level<'a>(bytes: &'a [u8], facts: &mut VideoFacts) -> Option<&'a [u8]> {
    let bits = &mut Bits::new(bytes);
    bits.skip(9)?;
    let sub_layers = bits.u(3)?;
    bits.skip(2 + 2)?;
    facts.bit_depth = Some(8 + bits.u(3)? as u8);
    bits.skip(5 + 2)?;
    let constraint_bytes = bits.u(6)?;
    facts.profile = profile(bits.u(7)?);
    bits.skip(1)?;
    facts.level = level(bits.u(8)? as u8);
    bits.skip(8 * constraint_bytes.max(1))?;
    skip_sub_layer_levels(bits, sub_layers.saturating_sub(1))?;
    bits.skip(16 + 16)?;
    facts.frame_rate = FrameRate::new(bits.u(16)?.into(), 256, 1);
    let left = (bits.left() / 8) as usize;
    bytes.get(bytes.len() - left..)
}

/// Skips the levels of sub-layers, and the sub-profiles. The record and the set have the same
/// fields.
fn skip_sub_layer_levels(bits: &mut Bits<'_>, below: u32) -> Option<()> {
    let mut levels = 0;
    for _ in 0..below {
        levels += u32::from(bits.flag()?);
    }
    bits.align()?;
    bits.skip(8 * levels)?;
    let sub_profiles = bits.u(8)?;
    bits.skip(32 * sub_profiles)
}

fn profile(profile_idc: u32) -> Option<&'static str> {
    Some(match profile_idc {
        1 => "Main 10",
        2 => "Main 12",
        10 => "Main 12 Intra",
        17 => "Multilayer Main 10",
        33 => "Main 10 4:4:4",
        34 => "Main 12 4:4:4",
        36 => "Main 16 4:4:4",
        42 => "Main 12 4:4:4 Intra",
        44 => "Main 16 4:4:4 Intra",
        49 => "Multilayer Main 10 4:4:4",
        65 => "Main 10 Still Picture",
        97 => "Main 10 4:4:4 Still Picture",
        _ => return None,
    })
}

/// Returns the level (H.266, annex A.4): 16 units for each whole level, 3 for each tenth.
fn level(level_idc: u8) -> Option<Level> {
    (16..255).contains(&level_idc).then_some(Level(level_idc / 16 * 10 + level_idc % 16 / 3))
}

fn read_sequence_parameter_set(set: &[u8], facts: &mut VideoFacts) -> Option<()> {
    let bytes = without_emulation_prevention(set);
    let bits = &mut Bits::new(&bytes);
    bits.skip(16 + 4 + 4)?;
    let sub_layers_below = bits.u(3)?;
    let (unit_x, unit_y) = match bits.u(2)? {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(7 + 1 + 8 + 2)?;
        if bits.flag()? {
            bits.skip(GENERAL_CONSTRAINTS_BITS)?;
            let reserved = bits.u(8)?;
            bits.skip(reserved)?;
        }
        bits.align()?;
        skip_sub_layer_levels(bits, sub_layers_below)?;
    }
    bits.skip(1)?;
    if bits.flag()? {
        bits.skip(1)?;
    }
    read_window(bits, unit_x, unit_y, facts)
}
