//! Reads the configuration of H.264: `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, section
//! 5.3.3), and its first sequence parameter set (H.264, section 7.3.2.1.1).
//!
//! Profile and level come from the record. The other properties come from the set, up to its first
//! malformed field.

use super::bits::{Bits, take_sized, without_emulation_prevention};
use super::{FrameRate, Level, VideoFacts};

/// Aspect ratio index of a ratio that is written out. H.265 has the same one.
const EXTENDED_SAR: u32 = 255;
/// Bound of the reference frames in a cycle of picture order counts (H.264, section 7.4.2.1.1).
const REF_FRAMES_IN_CYCLE_MAX: u32 = 255;

/// Reads the properties from a record.
pub(super) fn facts(record: &[u8]) -> Option<VideoFacts> {
    let [1, profile_idc, constraints, level_idc, _, sets, rest @ ..] = record else {
        return None;
    };
    let mut facts = VideoFacts {
        profile: profile(*profile_idc, *constraints),
        level: level(*profile_idc, *constraints, *level_idc),
        ..VideoFacts::default()
    };
    if sets & 0x1f != 0
        && let Some(set) = take_sized(&mut { rest })
    {
        // Properties before a malformed field are kept.
        let _ = read_sequence_parameter_set(set, &mut facts);
    }
    Some(facts)
}

fn profile(profile_idc: u8, constraints: u8) -> Option<&'static str> {
    // Constraint set 1 means that a Baseline stream also conforms to Main. Constraint set 3 means
    // that a High stream has no inter frames (H.264, annex A.2).
    let [is_constrained, is_intra] = [0x40, 0x10].map(|flag| constraints & flag != 0);
    Some(match (profile_idc, is_intra) {
        (66, _) if is_constrained => "Constrained Baseline",
        (66, _) => "Baseline",
        (77, _) => "Main",
        (88, _) => "Extended",
        (100, _) => "High",
        (110, false) => "High 10",
        (110, true) => "High 10 Intra",
        (122, false) => "High 4:2:2",
        (122, true) => "High 4:2:2 Intra",
        (244, false) => "High 4:4:4 Predictive",
        (244, true) => "High 4:4:4 Intra",
        (44, _) => "CAVLC 4:4:4 Intra",
        _ => return None,
    })
}

/// Returns the level (H.264, annex A.3). The value is in tenths, except for 1b, which older
/// profiles write as 11 with a flag.
fn level(profile_idc: u8, constraints: u8, level_idc: u8) -> Option<Level> {
    match level_idc {
        11 if matches!(profile_idc, 66 | 77 | 88) && constraints & 0x10 != 0 => Some(Level::ONE_B),
        9..=62 => Some(Level(level_idc)),
        _ => None,
    }
}

fn read_sequence_parameter_set(set: &[u8], facts: &mut VideoFacts) -> Option<()> {
    let bytes = without_emulation_prevention(set);
    let bits = &mut Bits::new(&bytes);
    bits.skip(8)?;
    let profile_idc = bits.u(8)?;
    bits.skip(16)?;
    bits.skip_ue(1)?;
    let mut chroma = 1;
    let mut bit_depth = 8;
    // The profiles that H.264, section 7.3.2.1.1, names for these fields.
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile_idc) {
        chroma = bits.ue()?;
        // Three separately coded planes are cropped like a picture without chroma.
        if chroma == 3 && bits.flag()? {
            chroma = 0;
        }
        bit_depth = 8 + bits.ue().filter(|above| *above <= 6)?;
        bits.skip_ue(1)?;
        bits.skip(1)?;
        if bits.flag()? {
            let lists = if chroma == 3 { 12 } else { 8 };
            (0..lists).try_for_each(|list| skip_scaling_list(bits, list))?;
        }
    }
    bits.skip_ue(1)?;
    skip_picture_order_count(bits)?;
    bits.skip_ue(1)?;
    bits.skip(1)?;
    read_size(bits, chroma, facts)?;
    facts.bit_depth = Some(bit_depth as u8);
    if bits.flag()? {
        skip_signal_description(bits)?;
        // A frame takes two ticks, one for each field.
        facts.frame_rate = read_timing(bits, 2)?;
    }
    Some(())
}

fn skip_scaling_list(bits: &mut Bits<'_>, list: u32) -> Option<()> {
    if !bits.flag()? {
        return Some(());
    }
    let (mut last, mut next) = (8, 8);
    for _ in 0..if list < 6 { 16 } else { 64 } {
        if next == 0 {
            break;
        }
        next = (last + bits.se()?).rem_euclid(256);
        last = next;
    }
    Some(())
}

fn skip_picture_order_count(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue()? {
        0 => bits.skip_ue(1),
        1 => {
            bits.skip(1)?;
            bits.skip_ue(2)?;
            let frames = bits.ue().filter(|frames| *frames <= REF_FRAMES_IN_CYCLE_MAX)?;
            bits.skip_ue(frames)
        }
        _ => Some(()),
    }
}

/// Reads the fields from the size in macroblocks to the cropping (H.264, section 7.4.2.1.1).
fn read_size(bits: &mut Bits<'_>, chroma: u32, facts: &mut VideoFacts) -> Option<()> {
    let columns = u64::from(bits.ue()?) + 1;
    let rows = u64::from(bits.ue()?) + 1;
    let is_frames_only = bits.flag()?;
    if !is_frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let mut crop = [0; 4];
    if bits.flag()? {
        for side in &mut crop {
            *side = u64::from(bits.ue()?);
        }
    }
    let [left, right, top, bottom] = crop;
    let fields = if is_frames_only { 1 } else { 2 };
    let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
    let unit_y = if chroma == 1 { 2 } else { 1 } * fields;
    facts.set_size(
        (columns * 16).saturating_sub((left + right) * unit_x),
        (rows * 16 * fields).saturating_sub((top + bottom) * unit_y),
    );
    Some(())
}

/// Skips the first fields of the video usability information, which H.264 and H.265 have in common
/// (annex E.1.1 of H.264, E.2.1 of H.265).
pub(super) fn skip_signal_description(bits: &mut Bits<'_>) -> Option<()> {
    if bits.flag()? && bits.u(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.skip_ue(2)?;
    }
    Some(())
}

/// Reads the timing of the video usability information. A frame takes `ticks` of its units.
pub(super) fn read_timing(bits: &mut Bits<'_>, ticks: u64) -> Option<Option<FrameRate>> {
    if !bits.flag()? {
        return Some(None);
    }
    let units_in_tick = u64::from(bits.u(32)?);
    let time_scale = u64::from(bits.u(32)?);
    Some(FrameRate::new(1, units_in_tick * ticks, time_scale))
}
