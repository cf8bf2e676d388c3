//! Reads the headers of Opus and FLAC, and the frame headers of AC-3, E-AC-3 and MP3.

use super::AudioFacts;
use super::bits::Bits;

/// Output rate of every Opus decoder (Hz; RFC 7845, section 5.1). The rate in the header is that of
/// the encoder's input.
const OPUS_RATE_HZ: u32 = 48_000;
/// Header of the first metadata block of FLAC, without the bit for the last block.
const FLAC_STREAMINFO_HEAD: [u8; 4] = [0, 0, 0, 34];
const AC3_SYNC_WORD: u32 = 0x0b77;
const AC3_RATES_HZ: [u32; 3] = [48_000, 44_100, 32_000];
/// Full channels by audio coding mode (ATSC A/52, table 5.8).
const AC3_CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
const MP3_SYNC_WORD: u32 = 0x7ff;
const MP3_RATES_HZ: [u32; 3] = [44_100, 48_000, 32_000];

/// Reads the identification header of Opus (RFC 7845, section 5.1).
pub(super) fn opus_facts(header: &[u8]) -> Option<AudioFacts> {
    let [version, channels, ..] = *header.strip_prefix(b"OpusHead")? else {
        return None;
    };
    // Versions with the same major number are compatible.
    (version < 16).then_some(known(OPUS_RATE_HZ, channels))
}

/// Reads STREAMINFO of FLAC (RFC 9639, section 8.2). The marker and the block header before it may
/// be missing.
pub(super) fn flac_facts(header: &[u8]) -> Option<AudioFacts> {
    let header = header.strip_prefix(b"fLaC").unwrap_or(header);
    let info = match *header {
        [head, a, b, c, ref info @ ..] if [head & 0x7f, a, b, c] == FLAC_STREAMINFO_HEAD => info,
        _ => header,
    };
    let bits = &mut Bits::new(info);
    bits.skip(16 + 16 + 24 + 24)?;
    Some(known(bits.u(20)?, bits.u(3)? as u8 + 1))
}

/// Reads a frame header of AC-3 or E-AC-3 (ATSC A/52, section 5.3 and annex E.1.2). The version in
/// the sixth byte distinguishes them.
pub(super) fn ac3_facts(frame: &[u8]) -> Option<AudioFacts> {
    let bits = &mut Bits::new(frame);
    if bits.u(16)? != AC3_SYNC_WORD {
        return None;
    }
    match frame.get(5)? >> 3 {
        version @ ..=10 => {
            bits.skip(16)?;
            let rate = AC3_RATES_HZ.get(bits.u(2)? as usize)?;
            bits.skip(6 + 5 + 3)?;
            let mode = bits.u(3)? as u8;
            // The mix levels of the centre, of surround, and the mode of Dolby Surround.
            let has_level = [mode & 1 != 0 && mode != 1, mode & 4 != 0, mode == 2];
            bits.skip(2 * has_level.into_iter().map(u32::from).sum::<u32>())?;
            // Version 9 halves the rate, and version 10 quarters it.
            Some(known(rate >> version.saturating_sub(8), ac3_channels(mode, bits.flag()?)))
        }
        11..=16 => {
            bits.skip(2 + 3 + 11)?;
            let (rate, blocks_or_rate) = (bits.u(2)? as usize, bits.u(2)? as usize);
            let rate = match rate {
                3 => AC3_RATES_HZ.get(blocks_or_rate)? / 2,
                rate => *AC3_RATES_HZ.get(rate)?,
            };
            let mode = bits.u(3)? as u8;
            Some(known(rate, ac3_channels(mode, bits.flag()?)))
        }
        _ => None,
    }
}

fn ac3_channels(mode: u8, has_low_frequency: bool) -> u8 {
    AC3_CHANNELS[usize::from(mode & 7)] + u8::from(has_low_frequency)
}

/// Reads a frame header of MP3 (ISO/IEC 11172-3, section 2.4.1.3).
pub(super) fn mp3_facts(frame: &[u8]) -> Option<AudioFacts> {
    let bits = &mut Bits::new(frame);
    if bits.u(11)? != MP3_SYNC_WORD {
        return None;
    }
    // MPEG-1, MPEG-2 with half the rate, and MPEG-2.5 with a quarter.
    let halvings = match bits.u(2)? {
        3 => 0,
        2 => 1,
        0 => 2,
        _ => return None,
    };
    // Layer 0 is AAC in ADTS frames.
    if bits.u(2)? == 0 {
        return None;
    }
    bits.skip(1 + 4)?;
    let rate = MP3_RATES_HZ.get(bits.u(2)? as usize)? >> halvings;
    bits.skip(2)?;
    let is_mono = bits.u(2)? == 3;
    Some(known(rate, if is_mono { 1 } else { 2 }))
}

fn known(sample_rate_hz: u32, channels: u8) -> AudioFacts {
    AudioFacts {
        profile: None,
        sample_rate_hz: Some(sample_rate_hz).filter(|rate| *rate > 0),
        channels: Some(channels).filter(|channels| *channels > 0),
    }
}
