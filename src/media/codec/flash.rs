//! The codecs of Flash, which have no configuration: what a keyframe, or the head of a message,
//! says of them (FLV 10.1, annex E.4).

use super::bits::Bits;
use super::{AudioFacts, VideoFacts};

/// The rates of the head of an audio message.
const SAMPLE_RATES_HZ: [u32; 4] = [5512, 11_025, 22_050, 44_100];

/// What a frame of the codec with this number says.
pub(super) fn video_facts(codec_id: u8, frame: &[u8]) -> Option<VideoFacts> {
    let (width, height) = match codec_id {
        2 => sorenson_size(frame)?,
        3 | 6 => screen_size(frame)?,
        4 => vp6_size(*frame.first()?, frame.get(1..)?)?,
        // The offset of the transparency stands before the picture.
        5 => vp6_size(*frame.first()?, frame.get(4..)?)?,
        _ => return None,
    };
    let mut facts = VideoFacts::default();
    facts.set_size(width.into(), height.into());
    Some(facts)
}

/// Sorenson's H.263 has the size in every frame.
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

/// Both versions of Screen video have four bits of block size before each side of the picture.
fn screen_size(frame: &[u8]) -> Option<(u32, u32)> {
    let bits = &mut Bits::new(frame);
    bits.skip(4)?;
    let width = bits.u(12)?;
    bits.skip(4)?;
    Some((width, bits.u(12)?))
}

/// A keyframe of VP6 counts blocks of 16 pixels, rows first; FLV says what is cut off of them.
fn vp6_size(cut: u8, frame: &[u8]) -> Option<(u32, u32)> {
    let [head, profile, ..] = *frame else {
        return None;
    };
    if head & 0x80 != 0 {
        return None;
    }
    // The offset of a second partition stands before the size.
    let has_offset = head & 1 != 0 || profile & 0x06 == 0;
    let at = if has_offset { 4 } else { 2 };
    let [rows, columns] = *frame.get(at..)?.first_chunk()?;
    let [columns, rows] = [columns, rows].map(u32::from);
    Some((
        (columns * 16).saturating_sub(u32::from(cut >> 4)),
        (rows * 16).saturating_sub(u32::from(cut & 0x0f)),
    ))
}

/// What the head of a message with sound of this format says.
pub(super) fn audio_facts(format: u8, tag_head: u8) -> Option<AudioFacts> {
    let channels = 1 + (tag_head & 1);
    let (sample_rate_hz, channels) = match format {
        // PCM and ADPCM, and Nellymoser of free rate.
        0 | 1 | 3 | 6 => (SAMPLE_RATES_HZ[usize::from(tag_head >> 2 & 3)], channels),
        // These have one rate each, whatever the bits say.
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
