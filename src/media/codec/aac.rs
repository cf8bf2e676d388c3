//! Reads the configuration of AAC: `AudioSpecificConfig` (ISO/IEC 14496-3, section 1.6.2.1).

use super::AudioFacts;
use super::bits::Bits;

// Audio object types.
const LC: u32 = 2;
const SBR: u32 = 5;
const ER_BSAC: u32 = 22;
const PS: u32 = 29;
const ESCAPE: u32 = 31;

/// Marks the SBR extension, which decoders without SBR ignore.
const SYNC_EXTENSION_SBR: u32 = 0x2b7;
/// Marks the PS extension after it.
const SYNC_EXTENSION_PS: u32 = 0x548;

const SAMPLE_RATES_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// Highest sample rate that is believed (Hz).
const SAMPLE_RATE_HZ_MAX: u32 = 384_000;

/// Reads the properties from a configuration. HE-AAC without an announcement is reported as LC,
/// because only its frames reveal it.
pub(super) fn facts(config: &[u8]) -> Option<AudioFacts> {
    let bits = &mut Bits::new(config);
    let mut object_type = read_object_type(bits)?;
    let mut sample_rate = read_sample_rate(bits)?;
    let configuration = bits.u(4)?;
    let mut has_sbr = matches!(object_type, SBR | PS);
    let mut has_ps = object_type == PS;
    if has_sbr {
        sample_rate = read_sample_rate(bits)?;
        object_type = read_object_type(bits)?;
        if object_type == ER_BSAC {
            bits.skip(4)?;
        }
    }
    // The configurations of other types continue with fields that are not needed here.
    let mut channels = channels_of(configuration);
    if matches!(object_type, 1..=4) {
        channels = read_general_audio(bits, configuration)?;
        if !has_sbr && bits.left() >= 16 && bits.u(11)? == SYNC_EXTENSION_SBR {
            (has_sbr, has_ps) = read_extension(bits, &mut sample_rate)?;
        }
    }
    let profile = match profile(object_type) {
        Some("LC") if has_ps => Some("HE-AACv2"),
        Some("LC") if has_sbr => Some("HE-AAC"),
        profile => profile,
    };
    let is_made_stereo = has_ps && channels == Some(1);
    let channels = if is_made_stereo { Some(2) } else { channels };
    Some(AudioFacts { profile, sample_rate_hz: sample_rate, channels })
}

fn profile(object_type: u32) -> Option<&'static str> {
    Some(match object_type {
        1 => "Main",
        LC => "LC",
        3 => "SSR",
        4 => "LTP",
        23 => "LD",
        39 => "ELD",
        42 => "xHE-AAC",
        _ => return None,
    })
}

fn read_object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.u(5)? {
        ESCAPE => Some(32 + bits.u(6)?),
        object_type => Some(object_type),
    }
}

/// Reads a sample rate. Returns `Some(None)` for a reserved or implausible rate.
fn read_sample_rate(bits: &mut Bits<'_>) -> Option<Option<u32>> {
    let rate = match bits.u(4)? {
        15 => Some(bits.u(24)?),
        index => SAMPLE_RATES_HZ.get(index as usize).copied(),
    };
    Some(rate.filter(|rate| (1..=SAMPLE_RATE_HZ_MAX).contains(rate)))
}

/// Returns the channels of a channel configuration (ISO/IEC 14496-3, table 1.19). Configuration 0
/// means that the channels are listed separately.
fn channels_of(configuration: u32) -> Option<u8> {
    match configuration {
        1..=6 => Some(configuration as u8),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    }
}

/// Reads `GASpecificConfig` for the object types below 5 (ISO/IEC 14496-3, section 4.4.1). Returns
/// the number of channels.
fn read_general_audio(bits: &mut Bits<'_>, configuration: u32) -> Option<Option<u8>> {
    bits.skip(1)?;
    if bits.flag()? {
        bits.skip(14)?;
    }
    let has_extension = bits.flag()?;
    let channels = match configuration {
        0 => Some(read_program_config(bits)?),
        _ => channels_of(configuration),
    };
    if has_extension {
        bits.skip(1)?;
    }
    Some(channels)
}

/// Reads `program_config_element` (ISO/IEC 14496-3, section 4.4.1.1). Returns the number of
/// channels. An element at the front, the side or the back has one or two.
fn read_program_config(bits: &mut Bits<'_>) -> Option<u8> {
    bits.skip(4 + 2 + 4)?;
    let elements = bits.u(4)? + bits.u(4)? + bits.u(4)?;
    let low_frequency = bits.u(2)?;
    let (associated_data, coupling) = (bits.u(3)?, bits.u(4)?);
    for mixdown_bits in [4, 4, 3] {
        if bits.flag()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..elements {
        channels += if bits.flag()? { 2 } else { 1 };
        bits.skip(4)?;
    }
    bits.skip(4 * (low_frequency + associated_data) + 5 * coupling)?;
    bits.align()?;
    let comment_bytes = bits.u(8)?;
    bits.skip(8 * comment_bytes)?;
    u8::try_from(channels).ok().filter(|channels| *channels > 0)
}

/// Reads the fields after [`SYNC_EXTENSION_SBR`]. Returns whether SBR and PS are present.
fn read_extension(bits: &mut Bits<'_>, sample_rate: &mut Option<u32>) -> Option<(bool, bool)> {
    if read_object_type(bits)? != SBR || !bits.flag()? {
        return Some((false, false));
    }
    *sample_rate = read_sample_rate(bits)?;
    let has_ps = bits.left() >= 12 && bits.u(11)? == SYNC_EXTENSION_PS && bits.flag()?;
    Some((true, has_ps))
}
