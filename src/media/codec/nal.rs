//! Reads the NAL units of H.264, H.265 and H.266 in a frame. They tell whether decoding can begin
//! there, and whether the message begins a picture.
//!
//! Only the unit headers up to the first slice, and the first bit of that slice, are read, however
//! long the frame is. Nothing is allocated.

use crate::media::VideoCodec;

/// Bound of the units before the first slice: parameter sets, delimiters and SEI messages.
const UNITS_MAX: usize = 64;
/// Bytes of a unit that are searched for the next start code or for a recovery point.
const SEARCH_BYTES_MAX: usize = 4096;
/// SEI payload type of a recovery point (H.264, annex D.1.1; H.265, annex D.2.1).
const RECOVERY_POINT: usize = 6;

/// The first slice in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The message has no slice, only units such as parameter sets.
    None,
    /// The first slice of its picture.
    First,
    /// A further slice of its picture.
    Further,
}

/// Properties of a message, read from its units up to the first slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// True if decoding can begin here: at an IDR, BLA, CRA or GDR picture, or at a recovery point.
    pub is_random_access: bool,
    /// The first slice.
    pub slice: Slice,
}

/// Reads the units of a frame. `length_bytes` is the size of the length field before each unit,
/// from the configuration. Returns `None` for other codecs and for malformed frames.
pub fn read_units(codec: VideoCodec, body: &[u8], length_bytes: usize) -> Option<Units> {
    let read_unit = match codec {
        VideoCodec::Avc => avc_unit,
        VideoCodec::Hevc => hevc_unit,
        VideoCodec::Vvc => vvc_unit,
        _ => return None,
    };
    let mut units = Units { is_random_access: false, slice: Slice::None };
    let mut rest = body;
    // Some encoders write start codes (H.264, annex B) instead of lengths. These bytes could also
    // be the length 1, but no unit that matters has one byte.
    let has_start_codes = body.starts_with(&[0, 0, 0, 1]);
    for _ in 0..UNITS_MAX {
        if rest.is_empty() {
            return Some(units);
        }
        let unit = match has_start_codes {
            true => take_marked_unit(&mut rest),
            false => take_sized_unit(&mut rest, length_bytes)?,
        };
        match read_unit(unit)? {
            Unit::Slice { is_random_access, is_first } => {
                units.is_random_access |= is_random_access;
                units.slice = if is_first { Slice::First } else { Slice::Further };
                return Some(units);
            }
            Unit::RecoveryPoint => units.is_random_access = true,
            Unit::Other => {}
        }
    }
    Some(units)
}

/// Returns the size of the length field before each unit, from the body of a sequence header
/// (ISO/IEC 14496-15, sections 5.3.3, 8.3.3 and 11.2.4).
pub fn length_bytes(codec: VideoCodec, configuration: &[u8]) -> usize {
    let (at, shift) = match codec {
        VideoCodec::Avc => (4, 0),
        VideoCodec::Hevc => (21, 0),
        VideoCodec::Vvc => (0, 1),
        _ => return 4,
    };
    configuration.get(at).map_or(4, |byte| usize::from(byte >> shift & 3) + 1)
}

enum Unit {
    Slice { is_random_access: bool, is_first: bool },
    RecoveryPoint,
    Other,
}

/// Reads a unit of H.264 (section 7.4.1), which has five bits of type. A slice begins with the
/// number of its first macroblock; 0 is coded as a single one bit.
fn avc_unit(unit: &[u8]) -> Option<Unit> {
    let (&head, rest) = unit.split_first()?;
    Some(match head & 0x1f {
        kind @ (1 | 2 | 5) => {
            Unit::Slice { is_random_access: kind == 5, is_first: first_bit(rest)? }
        }
        // Further partitions of a slice.
        3 | 4 => Unit::Slice { is_random_access: false, is_first: false },
        6 if has_recovery_point(rest) => Unit::RecoveryPoint,
        _ => Unit::Other,
    })
}

/// Reads a unit of H.265 (section 7.4.2.2), which has six bits of type. A slice segment begins with
/// a flag for the first one of its picture.
fn hevc_unit(unit: &[u8]) -> Option<Unit> {
    let (head, rest) = unit.split_first_chunk::<2>()?;
    Some(match head[0] >> 1 & 0x3f {
        kind @ 0..32 => {
            Unit::Slice { is_random_access: (16..24).contains(&kind), is_first: first_bit(rest)? }
        }
        39 if has_recovery_point(rest) => Unit::RecoveryPoint,
        _ => Unit::Other,
    })
}

/// Reads a unit of H.266 (section 7.4.2.2), which has five bits of type. A slice begins with a flag
/// for an embedded picture header, which only the single slice of a picture may have.
fn vvc_unit(unit: &[u8]) -> Option<Unit> {
    let (head, rest) = unit.split_first_chunk::<2>()?;
    Some(match head[1] >> 3 {
        kind @ 0..12 => {
            Unit::Slice { is_random_access: (7..11).contains(&kind), is_first: first_bit(rest)? }
        }
        _ => Unit::Other,
    })
}

fn first_bit(bytes: &[u8]) -> Option<bool> {
    bytes.first().map(|byte| byte & 0x80 != 0)
}

/// Takes a unit and its start code off the front of `rest`.
fn take_marked_unit<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    const START_CODE: [u8; 3] = [0, 0, 1];
    let code_end = rest.iter().position(|byte| *byte != 0).map_or(rest.len(), |at| at + 1);
    let after = &rest[code_end..];
    let searched = &after[..after.len().min(SEARCH_BYTES_MAX)];
    let end = searched.windows(START_CODE.len()).position(|window| window == START_CODE);
    let (unit, after) = after.split_at(end.unwrap_or(after.len()));
    *rest = after;
    unit.strip_suffix(&[0]).unwrap_or(unit)
}

/// Takes a unit and its length field off the front of `rest`.
fn take_sized_unit<'a>(rest: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let (length, after) = rest.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    // The caller may pass only the front of a message, so a unit may be cut off.
    let (unit, after) = after.split_at(length.min(after.len()));
    *rest = after;
    Some(unit)
}

/// Returns true if an SEI unit contains a recovery point (H.264, section 7.3.2.3.1).
fn has_recovery_point(payload: &[u8]) -> bool {
    let payload = &payload[..payload.len().min(SEARCH_BYTES_MAX)];
    let mut zeros = 0;
    // Skips emulation prevention bytes.
    let mut bytes = payload.iter().copied().filter(|byte| {
        let is_escape = zeros >= 2 && *byte == 3;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        !is_escape
    });
    while let Some((kind, size)) = take_number(&mut bytes).zip(take_number(&mut bytes)) {
        if kind == RECOVERY_POINT {
            return size > 0;
        }
        if size > 0 && bytes.nth(size - 1).is_none() {
            return false;
        }
    }
    false
}

/// Takes an SEI number: the sum of all bytes up to the first one that is not 255.
fn take_number(bytes: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut number = 0;
    loop {
        let byte = bytes.next()?;
        number += usize::from(byte);
        if byte != u8::MAX {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{VideoClass, classify_video, for_each_video_track};
    use crate::rtmp::message::kind;
    use crate::test_support::{hex, recorded_messages};

    fn units(codec: VideoCodec, body: &str) -> Option<(bool, Slice)> {
        read_units(codec, &hex(body), 4).map(|units| (units.is_random_access, units.slice))
    }

    #[test]
    fn a_frame_is_known_by_its_first_slice_and_what_comes_before_it() {
        use VideoCodec::{Avc, Hevc, Vvc};
        let sps_pps = "00000003 674200 00000002 68ce";
        for (codec, body, expected) in [
            (Avc, "00000003 658884", (true, Slice::First)),
            (Avc, "00000003 654884", (true, Slice::Further)),
            (Avc, "00000003 419a00", (false, Slice::First)),
            (Avc, "00000003 410a00", (false, Slice::Further)),
            (Avc, &format!("{sps_pps} 00000003 658884"), (true, Slice::First)),
            (Avc, sps_pps, (false, Slice::None)),
            (Avc, "00000002 0910 00000003 219a00", (false, Slice::First)),
            // A user message of 3 bytes and a recovery point before an inter slice.
            (Avc, "0000000a 06 0503aabbcc 0601c0 80 00000003 419a00", (true, Slice::First)),
            (Avc, "00000007 06 0503aabbcc80 00000003 419a00", (false, Slice::First)),
            // An escaped zero belongs to the message before the recovery point.
            (Avc, "0000000b 06 0503000003 01 0601c0 80 00000002 419a", (true, Slice::First)),
            // A length that looks like the shorter start code.
            (Avc, &format!("00000101 06{} 00000002 6588", "05".repeat(256)), (true, Slice::First)),
            // Start codes instead of lengths.
            (Avc, "00000001 6742 000001 68ce 00000001 6588", (true, Slice::First)),
            (Avc, "00000001 09f0 00000001 419a", (false, Slice::First)),
            (Hevc, "00000003 2601af", (true, Slice::First)),
            (Hevc, "00000003 28012f", (true, Slice::Further)),
            (Hevc, "00000003 2a01af", (true, Slice::First)),
            (Hevc, "00000003 0201d0", (false, Slice::First)),
            (Hevc, "00000006 4e01 0601 4080 00000003 0201d0", (true, Slice::First)),
            (Hevc, "00000003 400102 00000003 420101", (false, Slice::None)),
            (Vvc, "00000003 003984", (true, Slice::First)),
            (Vvc, "00000003 005104", (true, Slice::Further)),
            (Vvc, "00000003 000184", (false, Slice::First)),
        ] {
            assert_eq!(units(codec, body), Some(expected), "{codec} {body}");
        }
        for (codec, body) in [
            (Avc, "00000003 65"),
            (Avc, "0000"),
            (Avc, "00000000"),
            (Hevc, "00000002 2601"),
            (VideoCodec::Vp9, "00000003 658884"),
        ] {
            assert_eq!(units(codec, body), None, "{codec} {body}");
        }
    }

    #[test]
    fn lengths_have_the_size_that_the_configuration_says() {
        for (last_bits, body) in [(0, "03 658884"), (1, "0003 658884"), (3, "00000003 658884")] {
            let configuration = [1, 0x42, 0xc0, 0x0a, 0xfc | last_bits];
            let size = length_bytes(VideoCodec::Avc, &configuration);
            let found = read_units(VideoCodec::Avc, &hex(body), size).unwrap();
            assert_eq!(found, Units { is_random_access: true, slice: Slice::First });
        }
    }

    #[test]
    fn keyframes_that_encoders_mark_are_known_by_their_units() {
        for session in [
            "ffmpeg5_publish_h264_aac",
            "ffmpeg9_publish_hevc_opus",
            "ffmpeg9_publish_multitrack",
            "gst_rtmp2sink_publish",
            "obs29_publish",
        ] {
            let mut counts = (0, 0);
            for (header, payload) in recorded_messages(&format!("{session}.client.bin")) {
                let is_video = header.kind == kind::VIDEO;
                let Ok(tag) = classify_video(&payload) else { continue };
                let is_key = tag.class == VideoClass::Keyframe;
                let is_frame = is_key || tag.class == VideoClass::Inter;
                for_each_video_track(&payload, |track| {
                    if is_video && is_frame {
                        let units = read_units(track.codec, track.body, 4).expect("good units");
                        assert_eq!(units.slice, Slice::First, "{session}");
                        assert_eq!(units.is_random_access, is_key, "{session}");
                        counts = (counts.0 + 1, counts.1 + u32::from(is_key));
                    }
                });
            }
            assert!(counts.0 > counts.1 && counts.1 > 0, "{session}: {counts:?}");
        }
    }
}
