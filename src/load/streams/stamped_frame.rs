//! A frame of the measured streams: H.264 or AAC in an FLV tag, with a stamp that holds the stream,
//! the frame number, the intended time and a checksum.
//!
//! Owns the layout of the stamp and the check of a received frame. It reads no clock and keeps no
//! counts.
//!
//! ```text
//! video tag 5 │ NAL unit length 4 │ NAL header 1 │ stamp │ filling
//!             │                   │              │ checksum of the stamp, then: stream, sequence,
//!             │                   │              │ intended, checksum of the filling
//! audio tag 2 │ stamp │ filling
//! ```
//!
//! No byte after the NAL header is zero, so a slice never contains a start code. A server may add
//! other NAL units around the slice, and may rewrite the tag header.

use rand::Rng;

use crate::rtmp::message::kind;
use crate::time::Time;

/// The smallest frame: all headers, the stamp, and some filling.
pub(crate) const FRAME_BYTES_MIN: usize = 64;

/// One of the two sequences of frames of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Video,
    Audio,
}

impl Medium {
    pub(super) const ALL: [Self; 2] = [Self::Video, Self::Audio];

    /// Returns the medium of a message of RTMP, if it has one.
    pub(super) const fn of_message(message_kind: u8) -> Option<Self> {
        match message_kind {
            kind::VIDEO => Some(Self::Video),
            kind::AUDIO => Some(Self::Audio),
            _ => None,
        }
    }

    /// Returns the medium of a frame of the generator, where the protocol does not say it.
    pub(super) fn of_frame(payload: &[u8]) -> Self {
        if payload.first() == Some(&TAG_AUDIO) { Self::Audio } else { Self::Video }
    }
}

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

/// Result of checking a message.
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

/// Writes frames, for any number of streams.
#[derive(Debug)]
pub(super) struct FrameWriter {
    /// Random bytes for the filling, twice the length of the largest frame, so that each frame
    /// starts elsewhere.
    filling: Box<[u8]>,
    payload: Vec<u8>,
}

/// A sequence header tag for 1280x720: Constrained Baseline, level 3.1, one SPS and one PPS
/// (ISO/IEC 14496-15, section 5.3.3.1).
pub(super) const SEQUENCE_HEADER: [u8; 29] = [
    0x17, 0x00, 0x00, 0x00, 0x00, 0x01, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0x00, 0x09, 0x67, 0x42, 0xc0,
    0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4, 0x01, 0x00, 0x04, 0x68, 0xce, 0x3c, 0x80,
];

/// An audio configuration tag: AAC-LC, 48 kHz, two channels (ISO/IEC 14496-3, section 1.6.2.1).
pub(super) const AUDIO_HEADER: [u8; 4] = [TAG_AUDIO, 0, 0x11, 0x90];

impl FrameWriter {
    /// Creates a writer of frames of up to `bytes_max` including the tag.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.max(FRAME_BYTES_MIN);
        let mut filling = vec![0; 2 * bytes_max].into_boxed_slice();
        rand::rng().fill_bytes(&mut filling);
        filling.iter_mut().for_each(|byte| *byte |= HIGH_BIT);
        Self { filling, payload: Vec::with_capacity(bytes_max) }
    }

    /// Returns the payload of a video message with a frame of `bytes` including the tag, at least
    /// [`FRAME_BYTES_MIN`].
    pub(super) fn video(&mut self, stamp: Stamp, is_keyframe: bool, bytes: usize) -> &[u8] {
        let (tag, slice) =
            if is_keyframe { (TAG_KEYFRAME, SLICE_IDR) } else { (TAG_INTER, SLICE_NON_IDR) };
        let slice_bytes = bytes - TAG_BYTES - LENGTH_BYTES;
        self.payload.clear();
        self.payload.extend_from_slice(&[tag, PACKET_FRAME, 0, 0, 0]);
        self.payload.extend_from_slice(&(slice_bytes as u32).to_be_bytes());
        self.payload.push(slice);
        self.fill(stamp, bytes)
    }

    /// Returns the payload of an audio message, with the same bounds.
    pub(super) fn audio(&mut self, stamp: Stamp, bytes: usize) -> &[u8] {
        self.payload.clear();
        self.payload.extend_from_slice(&[TAG_AUDIO, PACKET_FRAME]);
        self.fill(stamp, bytes)
    }

    /// Adds the stamp, and filling up to `bytes`.
    fn fill(&mut self, stamp: Stamp, bytes: usize) -> &[u8] {
        let filling_bytes = bytes - self.payload.len() - STAMP_BYTES;
        // Consecutive frames and different streams get different fillings.
        let from = (stamp.sequence as usize).wrapping_add(7 * stamp.stream as usize);
        let from = from % (self.filling.len() - filling_bytes);
        let filling = &self.filling[from..from + filling_bytes];
        stamp.write(crc32fast::hash(filling), &mut self.payload);
        self.payload.extend_from_slice(filling);
        &self.payload
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

/// Checks a message: whether it is a frame, and whether it is unchanged.
pub(super) fn judge(medium: Medium, payload: &[u8]) -> Judged {
    let tag_bytes = match medium {
        Medium::Video => TAG_BYTES,
        Medium::Audio => TAG_AUDIO_BYTES,
    };
    let Some((tag, body)) = payload.split_at_checked(tag_bytes) else { return Judged::Unknown };
    if tag[1] != PACKET_FRAME {
        return Judged::Header;
    }
    let slice = match medium {
        Medium::Video => find_slice(body),
        Medium::Audio => Some((SLICE_NON_IDR, body)),
    };
    let Some((header, stamped)) = slice else { return Judged::Unknown };
    let Some((stamp, checksum, filling)) = Stamp::read(stamped) else { return Judged::Unknown };
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
/// AAC, in FLV 10.1, annex E.4.2.
const TAG_AUDIO: u8 = 0xaf;
const TAG_AUDIO_BYTES: usize = 2;
/// Not a configuration.
const PACKET_FRAME: u8 = 1;
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
    use crate::media::{
        AudioClass, AudioCodec, VideoClass, VideoCodec, classify_audio, classify_video,
    };

    const VIDEO: Medium = Medium::Video;
    const AUDIO: Medium = Medium::Audio;

    fn stamp(sequence: u64) -> Stamp {
        Stamp { stream: 70_000, sequence, intended: Time::from_micros(u64::MAX - sequence) }
    }

    #[test]
    fn frames_identify_themselves() {
        for frame_bytes in [FRAME_BYTES_MIN, 1200, 66_000] {
            let mut writer = FrameWriter::new(frame_bytes);
            for (sequence, is_keyframe) in [(0, true), (1, false), (1 << 40, true)] {
                let stamp = stamp(sequence);
                let frame = writer.video(stamp, is_keyframe, frame_bytes);
                assert_eq!((frame.len(), Medium::of_frame(frame)), (frame_bytes, VIDEO));
                assert_eq!(judge(VIDEO, frame), Judged::Whole { stamp, is_keyframe });
                let frame = writer.audio(stamp, frame_bytes);
                assert_eq!((frame.len(), Medium::of_frame(frame)), (frame_bytes, AUDIO));
                assert_eq!(judge(AUDIO, frame), Judged::Whole { stamp, is_keyframe: false });
            }
        }
        assert_eq!(judge(VIDEO, &SEQUENCE_HEADER), Judged::Header);
        assert_eq!(judge(AUDIO, &AUDIO_HEADER), Judged::Header);
    }

    #[test]
    fn servers_recognize_them_as_h264_and_aac() {
        let mut writer = FrameWriter::new(100);
        let class = |payload: &[u8]| {
            let tag = classify_video(payload).unwrap();
            assert_eq!(tag.codec, VideoCodec::Avc);
            tag.class
        };
        assert_eq!(class(&SEQUENCE_HEADER), VideoClass::SequenceHeader);
        assert_eq!(class(writer.video(stamp(0), true, 100)), VideoClass::Keyframe);
        assert_eq!(class(writer.video(stamp(1), false, 100)), VideoClass::Inter);
        for (payload, class) in [
            (&AUDIO_HEADER[..], AudioClass::SequenceHeader),
            (writer.audio(stamp(0), 100), AudioClass::Frame),
        ] {
            let tag = classify_audio(payload).unwrap();
            assert_eq!((tag.codec, tag.class), (AudioCodec::Aac, class));
        }
    }

    #[test]
    fn any_changed_byte_of_a_slice_is_found_and_its_frame_identified_if_the_stamp_is_valid() {
        let frame = FrameWriter::new(200).video(stamp(5), false, 200).to_vec();
        let filled_from = TAG_BYTES + LENGTH_BYTES + 1 + STAMP_BYTES;
        for at in TAG_BYTES + LENGTH_BYTES + 1..frame.len() {
            for change in [1, 0x80] {
                let mut damaged = frame.clone();
                damaged[at] ^= change;
                let expected =
                    if at < filled_from { Judged::Unknown } else { Judged::Damaged(stamp(5)) };
                assert_eq!(judge(VIDEO, &damaged), expected, "byte {at}");
            }
        }
        for length in filled_from..frame.len() {
            assert_eq!(judge(VIDEO, &frame[..length]), Judged::Damaged(stamp(5)), "{length} bytes");
        }
        assert_eq!(judge(VIDEO, &frame[..filled_from - 1]), Judged::Unknown);
        assert_eq!(judge(VIDEO, &[]), Judged::Unknown);
    }

    #[test]
    fn any_changed_byte_of_audio_is_found() {
        let frame = FrameWriter::new(200).audio(stamp(5), 120).to_vec();
        for at in TAG_AUDIO_BYTES..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 1;
            let is_stamped = at >= TAG_AUDIO_BYTES + STAMP_BYTES;
            let expected = if is_stamped { Judged::Damaged(stamp(5)) } else { Judged::Unknown };
            assert_eq!(judge(AUDIO, &damaged), expected, "byte {at}");
        }
    }

    #[test]
    fn nal_units_that_a_server_adds_are_skipped() {
        let mut frame = FrameWriter::new(100).video(stamp(6), true, 100).to_vec();
        frame.splice(TAG_BYTES..TAG_BYTES, [0, 0, 0, 2, 0x09, 0x10]);
        assert_eq!(judge(VIDEO, &frame), Judged::Whole { stamp: stamp(6), is_keyframe: true });
    }

    #[test]
    fn no_slice_contains_a_zero_and_no_two_frames_are_the_same() {
        let mut writer = FrameWriter::new(300);
        let one = writer.video(stamp(0), false, 300).to_vec();
        assert!(one[TAG_BYTES + LENGTH_BYTES..].iter().all(|byte| *byte != 0));
        let filling = |frame: &[u8]| frame[frame.len() - 200..].to_vec();
        assert_ne!(filling(&one), filling(writer.video(stamp(1), false, 300)));
    }
}
