//! Reads the properties of VP8 and VP9: `VPCodecConfigurationRecord` (VP codecs in ISO base media
//! files), and the headers of keyframes. Only the latter contain the picture size.

use super::bits::Bits;
use super::{Level, VideoFacts};

const VP8_START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
const VP9_FRAME_MARKER: u32 = 2;
const VP9_SYNC_CODE: u32 = 0x49_8342;
const VP9_COLOR_SPACE_RGB: u32 = 7;

/// Reads the properties from a record or a keyframe of VP8.
pub(super) fn vp8_facts(body: &[u8]) -> Option<VideoFacts> {
    let (head, size) = body.split_first_chunk::<6>()?;
    if head[3..] != VP8_START_CODE {
        return record_facts(body);
    }
    // The lowest bit of an inter frame is one (RFC 6386, section 9.1).
    let [a, b, c, d, ..] = *size else {
        return None;
    };
    let [width, height] = [[a, b], [c, d]].map(|side| u16::from_le_bytes(side) & 0x3fff);
    let mut facts = VideoFacts { profile: profile(head[0] >> 1 & 7), ..VideoFacts::default() };
    facts.set_size(width.into(), height.into());
    (head[0] & 1 == 0).then_some(facts)
}

/// Reads the properties from a record or a keyframe of VP9.
pub(super) fn vp9_facts(body: &[u8]) -> Option<VideoFacts> {
    if body.first()? >> 6 == VP9_FRAME_MARKER as u8 {
        vp9_keyframe(body)
    } else {
        record_facts(body)
    }
}

/// Reads a record, which follows version 1 and flags 0.
fn record_facts(body: &[u8]) -> Option<VideoFacts> {
    let [1, 0, 0, 0, profile_idc, level, depth, ..] = *body else {
        return None;
    };
    Some(VideoFacts {
        profile: profile(profile_idc),
        level: (10..=62).contains(&level).then_some(Level(level)),
        bit_depth: Some(depth >> 4).filter(|depth| matches!(depth, 8 | 10 | 12)),
        ..VideoFacts::default()
    })
}

fn profile(profile: u8) -> Option<&'static str> {
    ["Profile 0", "Profile 1", "Profile 2", "Profile 3"].get(usize::from(profile)).copied()
}

/// Reads the uncompressed header of a VP9 frame (section 6.2), up to the frame size.
fn vp9_keyframe(frame: &[u8]) -> Option<VideoFacts> {
    let bits = &mut Bits::new(frame);
    bits.skip(2)?;
    let profile_idc = bits.u(1)? + 2 * bits.u(1)?;
    if profile_idc == 3 {
        bits.skip(1)?;
    }
    let [shows_existing, is_inter] = [bits.flag()?, bits.flag()?];
    bits.skip(2)?;
    if shows_existing || is_inter || bits.u(24)? != VP9_SYNC_CODE {
        return None;
    }
    let mut bit_depth = 8;
    if profile_idc >= 2 {
        bit_depth = if bits.flag()? { 12 } else { 10 };
    }
    let has_subsampling = profile_idc & 1 != 0;
    let is_rgb = bits.u(3)? == VP9_COLOR_SPACE_RGB;
    bits.skip(match (is_rgb, has_subsampling) {
        (false, false) => 1,
        (false, true) => 4,
        (true, _) => u32::from(has_subsampling),
    })?;
    let [width, height] = [bits.u(16)?, bits.u(16)?].map(|less_one| u64::from(less_one) + 1);
    let mut facts = VideoFacts {
        profile: profile(profile_idc as u8),
        bit_depth: Some(bit_depth),
        ..VideoFacts::default()
    };
    facts.set_size(width, height);
    Some(facts)
}
