//! Messages of Enhanced RTMP in the form that players of FLV in browsers understand.
//!
//! mpegts.js stops at the first message that it does not know: several tracks, ModEx blocks, colour
//! information, and the FourCC of a codec that also has an id in the legacy header. None of these
//! is needed to show a picture. So one track of each medium is chosen, its message gets the plain
//! header, and the rest is left out. The body of the track never changes: a message is a new tag
//! header and a range of the old payload.
//!
//! Reads only the header of a message, byte by byte, because a payload on a tape is in chunks.

use super::MediaKind;
use std::ops::Range;

/// Bound of the ModEx blocks in one message, as for all readers of tags.
const MOD_EX_BLOCKS_MAX: usize = 16;
/// Longest tag header that replaces another: a legacy header of video with its composition time,
/// or an enhanced one with its FourCC (bytes).
const TAG_HEAD_BYTES_MAX: usize = 5;

/// The form in which a message is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimpleForm {
    /// As it came.
    Same,
    /// Not at all.
    Nothing,
    /// With another tag header, and a part of its payload.
    Other {
        /// The tag header.
        head: SimpleHead,
        /// The part of the payload that follows the tag header.
        body: Range<usize>,
    },
}

/// A tag header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimpleHead {
    bytes: [u8; TAG_HEAD_BYTES_MAX],
    len: usize,
}

impl SimpleHead {
    fn new(bytes: &[u8]) -> Self {
        let mut head = Self { len: bytes.len(), ..Self::default() };
        head.bytes[..bytes.len()].copy_from_slice(bytes);
        head
    }

    fn enhanced(first: u8, four_cc: [u8; 4]) -> Self {
        let [a, b, c, d] = four_cc;
        Self { bytes: [first, a, b, c, d], len: 5 }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Returns the simple form of a message of `len` bytes. `at` returns a byte of its payload. `track`
/// is the track that is chosen. A message that no reader of tags takes stays as it is.
pub fn simple_form(
    media: MediaKind,
    len: usize,
    track: u8,
    at: impl Fn(usize) -> Option<u8>,
) -> SimpleForm {
    let payload = Payload { at, len };
    match media {
        MediaKind::Video => payload.video(track),
        MediaKind::Audio => payload.audio(track),
        MediaKind::Data => SimpleForm::Same,
    }
}

// Values of Enhanced RTMP v2: "Enhanced Video" and "Enhanced Audio".
const VIDEO_EX_HEADER: u8 = 0x80;
const AUDIO_EX_HEADER: u8 = 0x90;
const UPPER_HALF: u8 = 0xf0;
const LOWER_HALF: u8 = 0x0f;
const FRAME_COMMAND: u8 = 0x50;
const FRAME_TYPE: u8 = 0x70;
const PACKET_SEQUENCE_START: u8 = 0;
const PACKET_CODED_FRAMES: u8 = 1;
const PACKET_SEQUENCE_END: u8 = 2;
const PACKET_CODED_FRAMES_X: u8 = 3;
const PACKET_MOD_EX: u8 = 7;
const VIDEO_METADATA: u8 = 4;
const VIDEO_MULTITRACK: u8 = 6;
const AUDIO_MULTICHANNEL: u8 = 4;
const AUDIO_MULTITRACK: u8 = 5;
// Values of the legacy header (FLV 10.1, annexes E.4.2.1 and E.4.3.1).
const CODEC_ID_AVC: u8 = 7;
const AAC_44KHZ_STEREO: u8 = 0xaf;

/// A payload that may be in pieces.
struct Payload<At> {
    at: At,
    len: usize,
}

/// One track of a message.
struct Track {
    packet_type: u8,
    four_cc: [u8; 4],
    body: Range<usize>,
    /// Whether the message has anything in addition to this track.
    is_wrapped: bool,
}

impl<At: Fn(usize) -> Option<u8>> Payload<At> {
    fn video(&self, track: u8) -> SimpleForm {
        let Some(first) = self.byte(0) else { return SimpleForm::Same };
        if first & VIDEO_EX_HEADER == 0 {
            return if track == 0 { SimpleForm::Same } else { SimpleForm::Nothing };
        }
        let frame_type = first & FRAME_TYPE;
        let Some(found) = self.find(first & LOWER_HALF, VIDEO_MULTITRACK, track) else {
            // A command of a seek has no codec, and would be taken for an unknown one.
            return SimpleForm::Nothing;
        };
        let Track { packet_type, four_cc, body, is_wrapped } = found;
        if packet_type == VIDEO_METADATA || frame_type == FRAME_COMMAND {
            return SimpleForm::Nothing;
        }
        if &four_cc == b"avc1" {
            let codec = frame_type | CODEC_ID_AVC;
            let head: &[u8] = match packet_type {
                PACKET_SEQUENCE_START => &[codec, 0, 0, 0, 0],
                // The composition time is at the start of the body.
                PACKET_CODED_FRAMES => &[codec, 1],
                PACKET_CODED_FRAMES_X => &[codec, 1, 0, 0, 0],
                PACKET_SEQUENCE_END => &[codec, 2, 0, 0, 0],
                _ => return SimpleForm::Nothing,
            };
            return SimpleForm::Other { head: SimpleHead::new(head), body };
        }
        // Both mean the same for AV1, which has no composition time.
        let is_av1_x = &four_cc == b"av01" && packet_type == PACKET_CODED_FRAMES_X;
        if !is_wrapped && !is_av1_x {
            return SimpleForm::Same;
        }
        let packet_type = if is_av1_x { PACKET_CODED_FRAMES } else { packet_type };
        let first = VIDEO_EX_HEADER | frame_type | packet_type;
        SimpleForm::Other { head: SimpleHead::enhanced(first, four_cc), body }
    }

    fn audio(&self, track: u8) -> SimpleForm {
        // An empty message means silence.
        let Some(first) = self.byte(0) else { return SimpleForm::Same };
        if first & UPPER_HALF != AUDIO_EX_HEADER {
            return if track == 0 { SimpleForm::Same } else { SimpleForm::Nothing };
        }
        let Some(found) = self.find(first & LOWER_HALF, AUDIO_MULTITRACK, track) else {
            return SimpleForm::Nothing;
        };
        let Track { packet_type, four_cc, body, is_wrapped } = found;
        if packet_type == AUDIO_MULTICHANNEL {
            return SimpleForm::Nothing;
        }
        if &four_cc == b"mp4a" {
            let packet_type = match packet_type {
                PACKET_SEQUENCE_START => 0,
                PACKET_CODED_FRAMES => 1,
                // Legacy AAC has no end of a sequence.
                _ => return SimpleForm::Nothing,
            };
            let head = SimpleHead::new(&[AAC_44KHZ_STEREO, packet_type]);
            return SimpleForm::Other { head, body };
        }
        if !is_wrapped {
            return SimpleForm::Same;
        }
        let head = SimpleHead::enhanced(AUDIO_EX_HEADER | packet_type, four_cc);
        SimpleForm::Other { head, body }
    }

    /// Finds a track after the first byte of an enhanced message.
    fn find(&self, packet_type: u8, multitrack: u8, wanted: u8) -> Option<Track> {
        let mut packet_type = packet_type;
        let mut from = 1;
        for _ in 0..MOD_EX_BLOCKS_MAX {
            if packet_type != PACKET_MOD_EX {
                break;
            }
            let mut size = usize::from(self.byte(from)?) + 1;
            from += 1;
            if size == 256 {
                size = usize::from(self.byte(from)?) << 8 | usize::from(self.byte(from + 1)?);
                size += 1;
                from += 2;
            }
            from += size;
            packet_type = self.byte(from)? & LOWER_HALF;
            from += 1;
        }
        if packet_type != multitrack {
            let (four_cc, body) = (self.four_cc(from)?, from + 4..self.len);
            let is_it = wanted == 0 && packet_type != PACKET_MOD_EX;
            return is_it.then_some(Track { packet_type, four_cc, body, is_wrapped: from > 1 });
        }
        self.find_of_many(from, wanted)
    }

    /// Finds a track among several, from the byte with their arrangement on.
    fn find_of_many(&self, mut from: usize, wanted: u8) -> Option<Track> {
        const ONE_TRACK: u8 = 0x00;
        const MANY_CODECS: u8 = 0x20;
        let kind = self.byte(from)?;
        let (arrangement, packet_type) = (kind & UPPER_HALF, kind & LOWER_HALF);
        from += 1;
        let mut shared = None;
        if arrangement != MANY_CODECS {
            shared = Some(self.four_cc(from)?);
            from += 4;
        }
        loop {
            let four_cc = match shared {
                Some(four_cc) => four_cc,
                None => {
                    from += 4;
                    self.four_cc(from - 4)?
                }
            };
            let id = self.byte(from)?;
            from += 1;
            let mut len = self.len.checked_sub(from)?;
            if arrangement != ONE_TRACK {
                let byte = |index| self.byte(from + index).map(usize::from);
                len = byte(0)? << 16 | byte(1)? << 8 | byte(2)?;
                from += 3;
            }
            let to = from.checked_add(len).filter(|to| *to <= self.len)?;
            if id == wanted {
                return Some(Track { packet_type, four_cc, body: from..to, is_wrapped: true });
            }
            from = to;
        }
    }

    fn byte(&self, index: usize) -> Option<u8> {
        (self.at)(index).filter(|_| index < self.len)
    }

    fn four_cc(&self, from: usize) -> Option<[u8; 4]> {
        let byte = |index| self.byte(from + index);
        Some([byte(0)?, byte(1)?, byte(2)?, byte(3)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Random, hex};

    fn form(media: MediaKind, payload: &str, track: u8) -> Option<Vec<u8>> {
        let payload = hex(payload);
        let at = |index: usize| payload.get(index).copied();
        match simple_form(media, payload.len(), track, at) {
            SimpleForm::Same => Some(payload),
            SimpleForm::Nothing => None,
            SimpleForm::Other { head, body } => Some([head.bytes(), &payload[body]].concat()),
        }
    }

    #[test]
    fn legacy_messages_and_codecs_that_browsers_know_stay_as_they_are() {
        for video in
            ["17 01 000000 65", "1c 00 000000 01", "91 68766331 000050 26", "91 61763031 0a"]
        {
            assert_eq!(form(MediaKind::Video, video, 0), Some(hex(video)), "{video}");
            assert_eq!(form(MediaKind::Video, video, 1), None, "{video}");
        }
        for audio in ["", "af 01 21", "2f fffb", "90 4f707573 01", "91 664c6143 ff"] {
            assert_eq!(form(MediaKind::Audio, audio, 0), Some(hex(audio)), "{audio}");
        }
        assert_eq!(form(MediaKind::Data, "02 000a", 7), Some(hex("02 000a")));
    }

    #[test]
    fn codecs_with_an_id_in_the_legacy_header_get_that_header() {
        for (video, expected) in [
            ("90 61766331 0164001f", "17 00 000000 0164001f"),
            ("91 61766331 ffffd8 65", "17 01 ffffd8 65"),
            ("a3 61766331 41", "27 01 000000 41"),
            ("92 61766331", "17 02 000000"),
            ("b3 61763031 0a0b", "b1 61763031 0a0b"),
        ] {
            assert_eq!(form(MediaKind::Video, video, 0), Some(hex(expected)), "{video}");
        }
        for (audio, expected) in
            [("90 6d703461 1210", "af 00 1210"), ("91 6d703461 21", "af 01 21")]
        {
            assert_eq!(form(MediaKind::Audio, audio, 0), Some(hex(expected)), "{audio}");
        }
    }

    #[test]
    fn what_no_picture_needs_is_left_out() {
        // Colour information, a command of a seek, a channel layout and an end of AAC.
        assert_eq!(form(MediaKind::Video, "d4 68766331 02 0009", 0), None);
        assert_eq!(form(MediaKind::Video, "d0 00", 0), None);
        assert_eq!(form(MediaKind::Audio, "94 4f707573 01 01 00000004", 0), None);
        assert_eq!(form(MediaKind::Audio, "92 6d703461", 0), None);
        // A time in nanoseconds before a frame, in the short and in the long form of its size.
        let expected = Some(hex("91 68766331 000000 26"));
        let short = "97 02 0f4240 01 68766331 000000 26";
        assert_eq!(form(MediaKind::Video, short, 0), expected);
        let long = format!("97 ff 00ff {} 01 68766331 000000 26", "00".repeat(256));
        assert_eq!(form(MediaKind::Video, &long, 0), expected);
    }

    #[test]
    fn one_track_of_several_is_chosen() {
        for (payload, tracks) in [
            ("96 01 68766331 02 000000 26", [None, None, Some("91 68766331 000000 26")]),
            (
                "a6 11 68766331 00 000004 000000aa 02 000005 000000bbcc",
                [Some("a1 68766331 000000aa"), None, Some("a1 68766331 000000bbcc")],
            ),
            (
                "96 20 61766331 01 000002 0164 61763031 00 000001 81",
                [Some("90 61763031 81"), Some("17 00 000000 0164"), None],
            ),
        ] {
            for (track, expected) in tracks.into_iter().enumerate() {
                let found = form(MediaKind::Video, payload, track as u8);
                assert_eq!(found, expected.map(hex), "track {track} of {payload}");
            }
        }
        let sound = "95 11 4f707573 00 000001 fc 01 000001 fd";
        assert_eq!(form(MediaKind::Audio, sound, 1), Some(hex("91 4f707573 fd")));
    }

    #[test]
    fn a_header_that_is_cut_or_lies_is_no_panic_and_reaches_beyond_nothing() {
        let payloads = [
            "a6 11 68766331 00 000004 000000aa 02 000005 000000bbcc",
            "97 ff 00ff 01 68766331 000000 26",
            "95 20 6d703461 00 000001 fc",
        ];
        let mut random = Random::new(3);
        for payload in payloads {
            let whole = hex(payload);
            for end in 0..=whole.len() {
                for _ in 0..200 {
                    let mut bytes = whole[..end].to_vec();
                    if let Some(last) = bytes.len().checked_sub(1) {
                        bytes[random.below(last + 1)] = random.below(256) as u8;
                    }
                    for media in [MediaKind::Video, MediaKind::Audio] {
                        let at = |index: usize| bytes.get(index).copied();
                        if let SimpleForm::Other { body, .. } = simple_form(media, end, 0, at) {
                            assert!(body.start <= body.end && body.end <= end, "{bytes:x?}");
                        }
                    }
                }
            }
        }
    }
}
