//! Reads the configuration of AV1: `AV1CodecConfigurationRecord` (AV1 in ISO base media files,
//! section 2.3), and the sequence header in it or in a frame (AV1, section 5.5).

use super::bits::Bits;
use super::{FrameRate, Level, VideoFacts};

/// First byte of a record: marker and version. No frame begins with it.
const RECORD: u8 = 0x81;
const OBU_SEQUENCE_HEADER: u8 = 1;
/// Number of OBUs that are searched for the sequence header, which is the first or the second.
const OBUS_MAX: usize = 8;

/// Reads the properties from a record or a frame.
pub(super) fn facts(body: &[u8]) -> Option<VideoFacts> {
    let mut facts = VideoFacts::default();
    let [RECORD, profile_level, depth, _, obus @ ..] = body else {
        read_sequence_header(sequence_header(body)?, &mut facts)?;
        return Some(facts);
    };
    facts.profile = profile(profile_level >> 5);
    facts.level = level(profile_level & 0x1f);
    facts.bit_depth = Some(match depth & 0x60 {
        0x60 => 12,
        0x40 => 10,
        _ => 8,
    });
    if let Some(header) = sequence_header(obus) {
        let VideoFacts { profile, level, .. } = facts;
        let _ = read_sequence_header(header, &mut facts);
        (facts.profile, facts.level) = (profile, level);
    }
    Some(facts)
}

fn profile(profile: u8) -> Option<&'static str> {
    ["Main", "High", "Professional"].get(usize::from(profile)).copied()
}

/// Returns the level of `seq_level_idx` (AV1, annex A.3): four values for each whole level from
/// 2.0. 31 means no level.
fn level(index: u8) -> Option<Level> {
    (index < 24).then_some(Level((2 + index / 4) * 10 + index % 4))
}

/// Returns the first sequence header in a series of OBUs (AV1, section 5.3). All OBUs must have a
/// size field, as they do in a record and in a frame.
fn sequence_header(mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..OBUS_MAX {
        let (&head, after) = rest.split_first()?;
        let [is_forbidden, has_extension, has_size] = [0x80, 4, 2].map(|flag| head & flag != 0);
        if is_forbidden || !has_size {
            return None;
        }
        rest = after.get(usize::from(has_extension)..)?;
        let size = take_leb128(&mut rest)?;
        let (obu, after) = rest.split_at_checked(size)?;
        if head >> 3 == OBU_SEQUENCE_HEADER {
            return Some(obu);
        }
        rest = after;
    }
    None
}

/// Takes a leb128 number (AV1, section 4.10.5). Numbers of more than four bytes are refused: no OBU
/// here is that large.
fn take_leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read_sequence_header(header: &[u8], facts: &mut VideoFacts) -> Option<()> {
    let bits = &mut Bits::new(header);
    facts.profile = profile(bits.u(3)? as u8);
    bits.skip(1)?;
    let is_reduced = bits.flag()?;
    let mut frame_rate = None;
    if is_reduced {
        facts.level = level(bits.u(5)? as u8);
    } else {
        let mut delay_bits = None;
        if bits.flag()? {
            frame_rate = read_timing(bits)?;
            delay_bits = read_decoder_model(bits)?;
        }
        let has_display_delay = bits.flag()?;
        let points = 1 + bits.u(5)?;
        for point in 0..points {
            bits.skip(12)?;
            let index = bits.u(5)? as u8;
            // The first operating point covers the whole stream.
            if point == 0 {
                facts.level = level(index);
            }
            bits.skip(u32::from(index > 7))?;
            if let Some(delay_bits) = delay_bits
                && bits.flag()?
            {
                bits.skip(2 * delay_bits + 1)?;
            }
            if has_display_delay && bits.flag()? {
                bits.skip(4)?;
            }
        }
    }
    let [width_bits, height_bits] = [bits.u(4)? + 1, bits.u(4)? + 1];
    let [width, height] = [bits.u(width_bits as u8)?, bits.u(height_bits as u8)?];
    facts.set_size(u64::from(width) + 1, u64::from(height) + 1);
    facts.frame_rate = frame_rate;
    Some(())
}

/// Reads the timing information (AV1, section 5.5.3). There is a rate only if all pictures have the
/// same duration.
fn read_timing(bits: &mut Bits<'_>) -> Option<Option<FrameRate>> {
    let units_in_tick = u64::from(bits.u(32)?);
    let time_scale = u64::from(bits.u(32)?);
    if !bits.flag()? {
        return Some(None);
    }
    let ticks = u64::from(bits.ue()?) + 1;
    Some(units_in_tick.checked_mul(ticks).and_then(|ticks| FrameRate::new(1, ticks, time_scale)))
}

/// Reads the decoder model (AV1, section 5.5.4). Returns the number of bits of a delay.
fn read_decoder_model(bits: &mut Bits<'_>) -> Option<Option<u32>> {
    if !bits.flag()? {
        return Some(None);
    }
    let delay_bits = bits.u(5)? + 1;
    bits.skip(32 + 5 + 5)?;
    Some(Some(delay_bits))
}
