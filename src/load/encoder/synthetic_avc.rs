//! Synthetic H.264 that every decoder accepts: a grey picture, and pictures that repeat it.
//!
//! Owns the parameter sets and slices of the Constrained Baseline profile. Each picture has one
//! slice and refers only to the picture before it. A keyframe predicts each macroblock without a
//! residual. All other pictures skip every macroblock. Filler units, which decoders skip, bring a
//! frame to its size.

use super::bit_writer::BitWriter;
use super::{Fps, PictureSize};

/// NAL unit headers: `nal_ref_idc` and type.
const IDR_SLICE: u8 = 0x65;
const SLICE: u8 = 0x41;
const FILLER: u8 = 0x0c;
const SEQUENCE_PARAMETER_SET: u8 = 0x67;
const PICTURE_PARAMETER_SET: u8 = 0x68;

const PROFILE_BASELINE: u8 = 66;
/// Constraint sets 0 and 1: the stream conforms to the Baseline and Main profiles.
const CONSTRAINTS: u8 = 0xc0;
/// Bits of `frame_num`.
const FRAME_NUM_BITS: u32 = 4;
/// Length prefix of each NAL unit.
const UNIT_LENGTH_BYTES: usize = 4;
/// Smallest filler unit: length prefix, header and stop bit.
const FILLER_BYTES_MIN: usize = UNIT_LENGTH_BYTES + 2;

/// Level limits (H.264, table A-1): level in tenths, macroblocks per second, macroblocks per
/// picture, kbit/s.
const LEVELS: [(u8, u64, u64, u64); 19] = [
    (10, 1_485, 99, 64),
    (11, 3_000, 396, 192),
    (12, 6_000, 396, 384),
    (13, 11_880, 396, 768),
    (20, 11_880, 396, 2_000),
    (21, 19_800, 792, 4_000),
    (22, 20_250, 1_620, 4_000),
    (30, 40_500, 1_620, 10_000),
    (31, 108_000, 3_600, 14_000),
    (32, 216_000, 5_120, 20_000),
    (40, 245_760, 8_192, 20_000),
    (41, 245_760, 8_192, 50_000),
    (42, 522_240, 8_704, 50_000),
    (50, 589_824, 22_080, 135_000),
    (51, 983_040, 36_864, 240_000),
    (52, 2_073_600, 36_864, 240_000),
    (60, 4_177_920, 139_264, 240_000),
    (61, 8_355_840, 139_264, 480_000),
    (62, 16_711_680, 139_264, 800_000),
];

/// Returns the lowest level that allows the stream, or the highest if none does.
fn level(size: PictureSize, fps: Fps, bitrate: u64) -> u8 {
    let macroblocks = u64::from(size.macroblocks());
    let rate = (macroblocks * u64::from(fps.millihertz)).div_ceil(1000);
    let allows = |&&(_, per_second, of_picture, kbits): &&(u8, u64, u64, u64)| {
        rate <= per_second && macroblocks <= of_picture && bitrate <= kbits * 1000
    };
    LEVELS.iter().find(allows).unwrap_or(&LEVELS[LEVELS.len() - 1]).0
}

/// Returns the `AVCDecoderConfigurationRecord` of ISO/IEC 14496-15, section 5.3.3.
pub(super) fn configuration(size: PictureSize, fps: Fps, bitrate: u64) -> Vec<u8> {
    let level = level(size, fps, bitrate);
    let sequence = sequence_parameter_set(size, fps, level);
    let picture = picture_parameter_set();
    let mut record = vec![1, PROFILE_BASELINE, CONSTRAINTS, level];
    // NAL units have length prefixes of four bytes, and there is one parameter set of each kind.
    record.extend([0xfc | (UNIT_LENGTH_BYTES as u8 - 1), 0xe0 | 1]);
    record.extend((sequence.len() as u16).to_be_bytes());
    record.extend(sequence);
    record.push(1);
    record.extend((picture.len() as u16).to_be_bytes());
    record.extend(picture);
    record
}

/// Returns the sequence parameter set of H.264, section 7.3.2.1.1, with the timing of annex E.
fn sequence_parameter_set(size: PictureSize, fps: Fps, level: u8) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.u(8, PROFILE_BASELINE.into()).u(8, CONSTRAINTS.into()).u(8, level.into()).ue(0);
    // Output order equals decoding order.
    bits.ue(FRAME_NUM_BITS - 4).ue(2);
    // One reference frame, no gaps in `frame_num`.
    bits.ue(1).u(1, 0);
    bits.ue(size.columns() - 1).ue(size.rows() - 1);
    // Frames only, with direct 8x8 inference as required from level 3 on.
    bits.u(1, 1).u(1, 1);
    // Cropping of the last macroblocks, in units of two samples.
    let right = (size.columns() * 16 - u32::from(size.width)) / 2;
    let bottom = (size.rows() * 16 - u32::from(size.height)) / 2;
    if (right, bottom) == (0, 0) {
        bits.u(1, 0);
    } else {
        bits.u(1, 1).ue(0).ue(right).ue(0).ue(bottom);
    }
    // Of the VUI only the timing; a frame has two ticks.
    bits.u(1, 1).u(4, 0).u(1, 1);
    bits.u(32, 1000).u(32, 2 * fps.millihertz).u(1, 1);
    bits.u(2, 0).u(1, 0).u(1, 0);
    bits.take_unit(SEQUENCE_PARAMETER_SET)
}

/// Returns the picture parameter set of H.264, section 7.3.2.2.
fn picture_parameter_set() -> Vec<u8> {
    let mut bits = BitWriter::default();
    // CAVLC, no field order, one slice group, one reference.
    bits.ue(0).ue(0).u(1, 0).u(1, 0).ue(0).ue(0).ue(0);
    // No weighted prediction, default quantiser, deblocking controlled per slice.
    bits.u(1, 0).u(2, 0).ue(0).ue(0).ue(0).u(1, 1).u(1, 0).u(1, 0);
    bits.take_unit(PICTURE_PARAMETER_SET)
}

/// Writes a keyframe of `bytes`, or a slightly larger one if `bytes` is too small. Consecutive
/// keyframes must differ in `idr_pic_id`, which is `is_odd`.
pub(super) fn write_keyframe(out: &mut Vec<u8>, size: PictureSize, is_odd: bool, bytes: usize) {
    let mut bits = BitWriter::default();
    // One I slice is the whole picture; `frame_num` is 0.
    bits.ue(0).ue(7).ue(0).u(FRAME_NUM_BITS, 0).ue(is_odd.into());
    // Earlier pictures are output first; this one is not a long-term reference.
    bits.u(1, 0).u(1, 0);
    // No change of the quantiser, no deblocking.
    bits.ue(0).ue(1);
    // DC prediction without neighbours or from grey ones gives grey: I_16x16_2_0_0, DC prediction
    // for chroma, no change of the quantiser, no coefficients.
    const MACROBLOCK: u8 = 0b0010_0111;
    for _ in 0..size.macroblocks() {
        bits.u(8, MACROBLOCK.into());
    }
    write_units(out, &bits.take_unit(IDR_SLICE), bytes);
}

/// Writes the picture at position `number` after its keyframe, in the same way.
pub(super) fn write_repeat(out: &mut Vec<u8>, size: PictureSize, number: u32, bytes: usize) {
    let mut bits = BitWriter::default();
    // One P slice is the whole picture.
    bits.ue(0).ue(5).ue(0).u(FRAME_NUM_BITS, number % (1 << FRAME_NUM_BITS));
    // Default reference list and default reference marking.
    bits.u(1, 0).u(1, 0).u(1, 0);
    bits.ue(0).ue(1);
    bits.ue(size.macroblocks());
    write_units(out, &bits.take_unit(SLICE), bytes);
}

fn write_units(out: &mut Vec<u8>, slice: &[u8], bytes: usize) {
    let begin = out.len();
    out.extend((slice.len() as u32).to_be_bytes());
    out.extend(slice);
    let missing = bytes.saturating_sub(out.len() - begin);
    if missing >= FILLER_BYTES_MIN {
        out.extend(((missing - UNIT_LENGTH_BYTES) as u32).to_be_bytes());
        out.push(FILLER);
        out.resize(begin + bytes - 1, 0xff);
        out.push(0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::VideoCodec;
    use crate::media::codec;

    #[test]
    fn configuration_describes_the_requested_stream() {
        for (size, fps, bitrate, expected) in [
            ("1280x720", "30", 4_000_000, "H.264 Constrained Baseline 3.1 1280x720 30"),
            ("1920x1080", "29.97", 6_000_000, "H.264 Constrained Baseline 4.0 1920x1080 29.97"),
            ("350x202", "25", 100_000, "H.264 Constrained Baseline 1.3 350x202 25"),
            ("16x16", "1", 1_000, "H.264 Constrained Baseline 1.0 16x16 1"),
            ("3840x2160", "60", 90_000_000, "H.264 Constrained Baseline 5.2 3840x2160 60"),
            ("640x360", "30", 30_000_000, "H.264 Constrained Baseline 4.1 640x360 30"),
        ] {
            let (size, fps): (PictureSize, Fps) = (size.parse().unwrap(), fps.parse().unwrap());
            let record = configuration(size, fps, bitrate);
            let facts = codec::video_facts(VideoCodec::Avc, &record).expect("a record");
            let text = codec::describe_video(VideoCodec::Avc, &facts);
            assert_eq!(format!("{text} {}", facts.frame_rate.unwrap()), expected);
        }
    }

    #[test]
    fn frames_have_the_requested_size_unless_it_is_too_small() {
        let size: PictureSize = "320x240".parse().unwrap();
        let lengths = |bytes| {
            let (mut key, mut repeat) = (Vec::new(), Vec::new());
            write_keyframe(&mut key, size, false, bytes);
            write_repeat(&mut repeat, size, 1, bytes);
            (key.len(), repeat.len())
        };
        assert_eq!(lengths(5000), (5000, 5000));
        let (key, repeat) = lengths(0);
        assert!((300..330).contains(&key) && (8..20).contains(&repeat), "{key}, {repeat}");
        let gap = lengths(repeat + FILLER_BYTES_MIN - 1).1;
        assert_eq!(
            (gap, lengths(repeat + FILLER_BYTES_MIN).1),
            (repeat, repeat + FILLER_BYTES_MIN)
        );
    }
}
