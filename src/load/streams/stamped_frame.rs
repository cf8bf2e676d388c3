//! A frame of the measured streams: H.264 in an FLV video tag, with a stamp in its slice that holds
//! the stream, the frame number, the intended time and a checksum.
//!
//! Owns the layout of the stamp and the check of a received frame. It reads no clock and keeps no
//! counts.
//!
//! ```text
//! video tag 5 │ NAL unit length 4 │ NAL header 1 │ stamp │ filling
//!             │                   │              │ checksum of the stamp, then: stream, sequence,
//!             │                   │              │ intended, checksum of the filling
//! ```
//!
//! No byte after the NAL header is zero, so a slice never contains a start code. A server may add
//! other NAL units around the slice, and may rewrite the tag header.

use rand::Rng;

use crate::time::Time;

/// The smallest frame: all headers, the stamp, and some filling.
pub(crate) const FRAME_BYTES_MIN: usize = 64;

/// Identification of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The stream of the frame.
    pub(super) stream: u32,
    /// Number of the frame in its stream, from 0.
    pub(super) sequence: u64,
    /// The intended time, on the monotonic clock of the machine.
    pub(super) intended: Time,
}

/// Result of checking a video message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// A frame as it was written.
    Whole {
        stamp: Stamp,
        /// A player can start with this frame.
        is_keyframe: bool,
    },
    /// A frame with a valid stamp whose filling has changed.
    Damaged(Stamp),
    /// Not a frame of the generator, or one without a valid stamp.
    Unknown,
    /// A decoder configuration, or another message that is not a frame.
    Header,
}

impl Judged {
    /// Returns when the frame was due, if its stamp is valid.
    pub(super) const fn intended(self) -> Option<Time> {
        match self {
            Self::Whole { stamp, .. } | Self::Damaged(stamp) => Some(stamp.intended),
            Self::Unknown | Self::Header => None,
        }
    }
}

/// Writes frames of one size, for any number of streams.
#[derive(Debug)]
pub(super) struct FrameWriter {
    /// Random bytes for the filling, twice the length of a frame, so that each frame starts
    /// elsewhere.
    filling: Box<[u8]>,
    payload: Vec<u8>,
    frame_bytes: usize,
}

/// A sequence header tag for 1280x720: Constrained Baseline, level 3.1, one SPS and one PPS
/// (ISO/IEC 14496-15, section 5.3.3.1).
pub(super) const SEQUENCE_HEADER: [u8; 29] = [
    0x17, 0x00, 0x00, 0x00, 0x00, 0x01, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0x00, 0x09, 0x67, 0x42, 0xc0,
    0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4, 0x01, 0x00, 0x04, 0x68, 0xce, 0x3c, 0x80,
];

impl FrameWriter {
    /// Creates a writer of frames of `frame_bytes` including the tag, at least [`FRAME_BYTES_MIN`].
    pub(super) fn new(frame_bytes: usize) -> Self {
        let frame_bytes = frame_bytes.max(FRAME_BYTES_MIN);
        let mut filling = vec![0; 2 * frame_bytes].into_boxed_slice();
        rand::rng().fill_bytes(&mut filling);
        filling.iter_mut().for_each(|byte| *byte |= HIGH_BIT);
        Self { filling, payload: Vec::with_capacity(frame_bytes), frame_bytes }
    }

    /// Returns the payload of a frame as a video message.
    pub(super) fn frame(&mut self, stamp: Stamp, is_keyframe: bool) -> &[u8] {
        let (tag, slice) =
            if is_keyframe { (TAG_KEYFRAME, SLICE_IDR) } else { (TAG_INTER, SLICE_NON_IDR) };
        let slice_bytes = self.frame_bytes - TAG_BYTES - LENGTH_BYTES;
        let filling_bytes = slice_bytes - 1 - STAMP_BYTES;
        // Consecutive frames and different streams get different fillings.
        let from = (stamp.sequence as usize).wrapping_add(7 * stamp.stream as usize);
        let from = from % self.frame_bytes;
        let filling = &self.filling[from..from + filling_bytes];
        let payload = &mut self.payload;
        payload.clear();
        payload.extend_from_slice(&[tag, PACKET_NALU, 0, 0, 0]);
        payload.extend_from_slice(&(slice_bytes as u32).to_be_bytes());
        payload.push(slice);
        stamp.write(crc32fast::hash(filling), payload);
        payload.extend_from_slice(filling);
        payload
    }
}

impl Stamp {
    fn write(self, filling_checksum: u32, out: &mut Vec<u8>) {
        let mut fields = [0; FIELDS_BYTES];
        let (stream, rest) = fields.split_at_mut(U32_BYTES);
        let (sequence, rest) = rest.split_at_mut(U64_BYTES);
        let (intended, checksum) = rest.split_at_mut(U64_BYTES);
        put(stream, self.stream.into());
        put(sequence, self.sequence);
        put(intended, self.intended.as_micros());
        put(checksum, filling_checksum.into());
        out.extend_from_slice(&checksum_of(&fields));
        out.extend_from_slice(&fields);
    }

    /// Parses the stamp at the start of a slice. Returns it with the checksum of the filling and
    /// the filling.
    fn read(slice: &[u8]) -> Option<(Self, u32, &[u8])> {
        let (own_checksum, rest) = slice.split_at_checked(U32_BYTES)?;
        let (fields, filling) = rest.split_at_checked(FIELDS_BYTES)?;
        if *own_checksum != checksum_of(fields) {
            return None;
        }
        let (stream, rest) = fields.split_at(U32_BYTES);
        let (sequence, rest) = rest.split_at(U64_BYTES);
        let (intended, checksum) = rest.split_at(U64_BYTES);
        let stamp = Self {
            stream: get(stream) as u32,
            sequence: get(sequence),
            intended: Time::from_micros(get(intended)),
        };
        Some((stamp, get(checksum) as u32, filling))
    }
}

/// Checks a video message: whether it is a frame, and whether it is unchanged.
pub(super) fn judge(payload: &[u8]) -> Judged {
    let Some((tag, nal_units)) = payload.split_at_checked(TAG_BYTES) else {
        return Judged::Unknown;
    };
    if tag[1] != PACKET_NALU {
        return Judged::Header;
    }
    let Some((header, slice)) = find_slice(nal_units) else { return Judged::Unknown };
    let Some((stamp, checksum, filling)) = Stamp::read(slice) else { return Judged::Unknown };
    if crc32fast::hash(filling) != checksum {
        return Judged::Damaged(stamp);
    }
    Judged::Whole { stamp, is_keyframe: header == SLICE_IDR }
}

/// Returns the header and the bytes of the first slice among length-prefixed NAL units. A length
/// beyond the end is cut to the bytes that are there.
fn find_slice(mut nal_units: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let (length, rest) = nal_units.split_first_chunk::<LENGTH_BYTES>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let (unit, rest) = rest.split_at(length.min(rest.len()));
        let (header, slice) = unit.split_first()?;
        if [SLICE_IDR, SLICE_NON_IDR].contains(header) {
            return Some((*header, slice));
        }
        nal_units = rest;
    }
}

const TAG_BYTES: usize = 5;
const TAG_KEYFRAME: u8 = 0x17;
const TAG_INTER: u8 = 0x27;
const PACKET_NALU: u8 = 1;
const LENGTH_BYTES: usize = 4;
/// `nal_ref_idc` 3 and the type of the slice (ITU-T H.264, table 7-1).
const SLICE_IDR: u8 = 0x65;
const SLICE_NON_IDR: u8 = 0x61;

/// Numbers in the stamp have seven bits per byte, lowest first, with this bit set in each byte.
const HIGH_BIT: u8 = 0x80;
const U32_BYTES: usize = 5;
const U64_BYTES: usize = 10;
const FIELDS_BYTES: usize = U32_BYTES + 2 * U64_BYTES + U32_BYTES;
const STAMP_BYTES: usize = U32_BYTES + FIELDS_BYTES;

const _: () = assert!(FRAME_BYTES_MIN > TAG_BYTES + LENGTH_BYTES + 1 + STAMP_BYTES);

fn checksum_of(fields: &[u8]) -> [u8; U32_BYTES] {
    let mut checksum = [0; U32_BYTES];
    put(&mut checksum, crc32fast::hash(fields).into());
    checksum
}

fn put(out: &mut [u8], mut value: u64) {
    for byte in out {
        *byte = HIGH_BIT | value as u8;
        value >>= 7;
    }
}

fn get(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & !HIGH_BIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{VideoClass, VideoCodec, classify_video};

    fn stamp(sequence: u64) -> Stamp {
        Stamp { stream: 70_000, sequence, intended: Time::from_micros(u64::MAX - sequence) }
    }

    #[test]
    fn frames_identify_themselves() {
        for frame_bytes in [FRAME_BYTES_MIN, 1200, 66_000] {
            let mut writer = FrameWriter::new(frame_bytes);
            for (sequence, is_keyframe) in [(0, true), (1, false), (1 << 40, true)] {
                let stamp = stamp(sequence);
                let frame = writer.frame(stamp, is_keyframe);
                assert_eq!(frame.len(), frame_bytes);
                assert_eq!(judge(frame), Judged::Whole { stamp, is_keyframe });
            }
        }
        assert_eq!(judge(&SEQUENCE_HEADER), Judged::Header);
    }

    #[test]
    fn servers_recognize_them_as_h264() {
        let mut writer = FrameWriter::new(100);
        let class = |payload: &[u8]| {
            let tag = classify_video(payload).unwrap();
            assert_eq!(tag.codec, VideoCodec::Avc);
            tag.class
        };
        assert_eq!(class(&SEQUENCE_HEADER), VideoClass::SequenceHeader);
        assert_eq!(class(writer.frame(stamp(0), true)), VideoClass::Keyframe);
        assert_eq!(class(writer.frame(stamp(1), false)), VideoClass::Inter);
    }

    #[test]
    fn any_changed_byte_of_a_slice_is_found_and_its_frame_identified_if_the_stamp_is_valid() {
        let frame = FrameWriter::new(200).frame(stamp(5), false).to_vec();
        let filled_from = TAG_BYTES + LENGTH_BYTES + 1 + STAMP_BYTES;
        for at in TAG_BYTES + LENGTH_BYTES + 1..frame.len() {
            for change in [1, 0x80] {
                let mut damaged = frame.clone();
                damaged[at] ^= change;
                let expected =
                    if at < filled_from { Judged::Unknown } else { Judged::Damaged(stamp(5)) };
                assert_eq!(judge(&damaged), expected, "byte {at}");
            }
        }
        for length in filled_from..frame.len() {
            assert_eq!(judge(&frame[..length]), Judged::Damaged(stamp(5)), "{length} bytes");
        }
        assert_eq!(judge(&frame[..filled_from - 1]), Judged::Unknown);
        assert_eq!(judge(&[]), Judged::Unknown);
    }

    #[test]
    fn nal_units_that_a_server_adds_are_skipped() {
        let mut frame = FrameWriter::new(100).frame(stamp(6), true).to_vec();
        frame.splice(TAG_BYTES..TAG_BYTES, [0, 0, 0, 2, 0x09, 0x10]);
        assert_eq!(judge(&frame), Judged::Whole { stamp: stamp(6), is_keyframe: true });
    }

    #[test]
    fn no_slice_contains_a_zero_and_no_two_frames_are_the_same() {
        let mut writer = FrameWriter::new(300);
        let one = writer.frame(stamp(0), false).to_vec();
        assert!(one[TAG_BYTES + LENGTH_BYTES..].iter().all(|byte| *byte != 0));
        let filling = |frame: &[u8]| frame[frame.len() - 200..].to_vec();
        assert_ne!(filling(&one), filling(writer.frame(stamp(1), false)));
    }
}
