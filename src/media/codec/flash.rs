//! Reads the properties of the Flash codecs (FLV 10.1, annex E.4). They have no configuration, so
//! the properties come from a keyframe or from the first byte of a message.

use super::bits::Bits;
use super::{AudioFacts, VideoFacts};

/// Sample rates of the two bits in the first byte of an audio message.
const SAMPLE_RATES_HZ: [u32; 4] = [5512, 11_025, 22_050, 44_100];

/// Reads the properties from a frame of the codec with this id.
pub(super) fn video_facts(codec_id: u8, frame: &[u8]) -> Option<VideoFacts> {
    let (width, height) = match codec_id {
        2 => sorenson_size(frame)?,
        3 | 6 => screen_size(frame)?,
        4 => vp6_size(*frame.first()?, frame.get(1..)?)?,
        // The offset of the alpha channel precedes the picture.
        5 => vp6_size(*frame.first()?, frame.get(4..)?)?,
        _ => return None,
    };
    let mut facts = VideoFacts::default();
    facts.set_size(width.into(), height.into());
    Some(facts)
}

/// Reads the picture size of Sorenson H.263, which every frame contains.
fn sorenson_size(frame: &[u8]) -> Option<(u32, u32)> {
    let bits = &mut Bits::new(frame);
    if bits.u(17)? != 1 {
        return None;
    }
    bits.skip(5 + 8)?;
    Some(match bits.u(3)? {
        0 => (bits.u(8)?, bits.u(8)?),
        1 => (bits.u(16)?, bits.u(16)?),
        2 => (352, 288),
        3 => (176, 144),
        4 => (128, 96),
        5 => (320, 240),
        6 => (160, 120),
        _ => return None,
    })
}

/// Reads the picture size of Screen video. In both versions, four bits of block size precede each
/// side.
fn screen_size(frame: &[u8]) -> Option<(u32, u32)> {
    let bits = &mut Bits::new(frame);
    bits.skip(4)?;
    let width = bits.u(12)?;
    bits.skip(4)?;
    Some((width, bits.u(12)?))
}

/// Reads the picture size from a VP6 keyframe. The frame counts blocks of 16 pixels, rows first.
/// `cut` is the FLV field with the pixels to crop.
fn vp6_size(cut: u8, frame: &[u8]) -> Option<(u32, u32)> {
    let [head, profile, ..] = *frame else {
        return None;
    };
    if head & 0x80 != 0 {
        return None;
    }
    // The offset of a second partition precedes the size.
    let has_offset = head & 1 != 0 || profile & 0x06 == 0;
    let at = if has_offset { 4 } else { 2 };
    let [rows, columns] = *frame.get(at..)?.first_chunk()?;
    let [columns, rows] = [columns, rows].map(u32::from);
    Some((
        (columns * 16).saturating_sub(u32::from(cut >> 4)),
        (rows * 16).saturating_sub(u32::from(cut & 0x0f)),
    ))
}

/// Reads the properties from the first byte of a message with this sound format.
pub(super) fn audio_facts(format: u8, tag_head: u8) -> Option<AudioFacts> {
    let channels = 1 + (tag_head & 1);
    let (sample_rate_hz, channels) = match format {
        // PCM, ADPCM, and Nellymoser with a variable rate.
        0 | 1 | 3 | 6 => (SAMPLE_RATES_HZ[usize::from(tag_head >> 2 & 3)], channels),
        // These formats have a fixed rate. The bits are ignored.
        4 => (16_000, 1),
        5 => (8000, 1),
        7 | 8 => (8000, channels),
        11 => (16_000, 1),
        _ => return None,
    };
    Some(AudioFacts {
        profile: None,
        sample_rate_hz: Some(sample_rate_hz),
        channels: Some(channels),
    })
}
