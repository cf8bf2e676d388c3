//! What a decoder configuration, or a frame of a codec without one, says about a track.
//!
//! Owns the layout of configurations as far as a report shows it: profile, level, picture size,
//! frame rate, sample rate, channels. Never decodes, keeps no state, and never fails: what cannot
//! be read, or is beyond what any encoder sends, is not known. All work is bounded by the bytes
//! at hand and by the bounds of the formats; no number in them makes it allocate.

mod aac;
mod avc;
mod bits;

use std::fmt;

use crate::media::{AudioCodec, VideoCodec};

/// Faster pictures are a clock that was written for a rate: encoders of variable rate put their
/// time base there, 1/1000 s or finer.
const FRAME_RATE_MILLIHERTZ_MAX: u64 = 999_999;

/// What is known of a video track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VideoFacts {
    /// The profile, as its specification calls it.
    pub profile: Option<&'static str>,
    /// The level.
    pub level: Option<Level>,
    /// Pixels in a row that is shown; known if the height is.
    pub width: Option<u16>,
    /// Rows that are shown; known if the width is.
    pub height: Option<u16>,
    /// The frame rate that the encoder states, which may be another than the one it sends.
    pub frame_rate: Option<FrameRate>,
    /// Bits in a sample of luma.
    pub bit_depth: Option<u8>,
}

/// What is known of an audio track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioFacts {
    /// The profile, as decoders call it.
    pub profile: Option<&'static str>,
    /// Samples in a second of one channel, as a decoder puts them out.
    pub sample_rate_hz: Option<u32>,
    /// Channels, as a decoder puts them out.
    pub channels: Option<u8>,
}

/// A level: tenths, or 9 for the level 1b of H.264, which lies between 1 and 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    const ONE_B: Self = Self(9);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ONE_B => f.write_str("1b"),
            Self(tenths) => write!(f, "{}.{}", tenths / 10, tenths % 10),
        }
    }
}

/// Frames in a second, to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Frames in a thousand seconds.
    pub millihertz: u32,
}

impl FrameRate {
    /// `frames` in `ticks` of a clock that ticks `time_scale` times a second.
    fn new(frames: u64, ticks: u64, time_scale: u64) -> Option<Self> {
        let thousandths = frames.checked_mul(time_scale)?.checked_mul(1000)?;
        let millihertz = thousandths.checked_add(ticks / 2)?.checked_div(ticks)?;
        (1..=FRAME_RATE_MILLIHERTZ_MAX)
            .contains(&millihertz)
            .then_some(Self { millihertz: millihertz as u32 })
    }
}

impl fmt::Display for FrameRate {
    /// As `25`, `29.97` or `23.976`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.millihertz / 1000)?;
        let mut rest = self.millihertz % 1000;
        let mut digits = 3;
        while digits > 0 && rest.is_multiple_of(10) {
            rest /= 10;
            digits -= 1;
        }
        if digits > 0 { write!(f, ".{rest:0digits$}") } else { Ok(()) }
    }
}

/// What the body of a sequence header says.
pub fn video_facts(codec: VideoCodec, body: &[u8]) -> Option<VideoFacts> {
    match codec {
        VideoCodec::Avc => avc::facts(body),
        _ => None,
    }
}

/// What the body of a sequence header says. `tag_head` is the first byte of the message, which is
/// all that legacy formats say of themselves.
pub fn audio_facts(codec: AudioCodec, _tag_head: u8, body: &[u8]) -> Option<AudioFacts> {
    match codec {
        AudioCodec::Aac => aac::facts(body),
        _ => None,
    }
}

impl VideoFacts {
    /// Takes a picture size over, unless it is one that no encoder sends.
    fn set_size(&mut self, width: u64, height: u64) {
        if let (1.., 1..) = (width, height)
            && let (Ok(width), Ok(height)) = (u16::try_from(width), u16::try_from(height))
        {
            (self.width, self.height) = (Some(width), Some(height));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Random, hex};

    /// Configurations that ffmpeg wrote, and what ffprobe says of their streams.
    const VIDEO: &[(VideoCodec, &str, &str)] = &[
        (
            VideoCodec::Avc,
            "014d4028ffe10018674d4028f403c0227ef01100000303e90000ea601f162ea001000468de0fc8",
            "Main 4.0 1920x1080 29.97 8 bit",
        ),
        (
            VideoCodec::Avc,
            "0142c00dffe100186742c00dda0586fa93011000000300100000030320f142aa01000468ce0fc8",
            "Constrained Baseline 1.3 350x202 25 8 bit",
        ),
        (
            VideoCodec::Avc,
            "017a001fffe1001d677a001fb6cd940b4127e7c11a810100a000007d2000177001e30632c001000768ebe3cb
             3002c0fefafa00",
            "High 4:2:2 3.1 720x570 23.976 10 bit",
        ),
        (
            VideoCodec::Avc,
            "01f40016ffe1001b67f40016919b282a10f1f0860220000003002000000f01e2c5b2c001000868ebe3c44c00
             0440fff8f800",
            "High 4:4:4 Predictive 2.2 322x241 60 8 bit",
        ),
        (
            VideoCodec::Avc,
            "014d500bffe10016674d500beca106d80880000003008000000a078912cb01000468ebe3f2",
            "Main 1b 128x96 10 8 bit",
        ),
        // Made at 1000 frames a second, which no camera does and many a clock has.
        (
            VideoCodec::Avc,
            "0164001fffe1001867 64001ff3650836c05b2000000300200000fa01e30632c001000668ebe3cb22c0fcf8
             f800",
            "High 3.1 128x96 8 bit",
        ),
    ];

    const AUDIO: &[(AudioCodec, u8, &str, &str)] = &[
        (AudioCodec::Aac, 0xaf, "11b0 56e500", "LC 48000 Hz 6 ch"),
        (AudioCodec::Aac, 0xaf, "1208 56e500", "LC 44100 Hz 1 ch"),
        // A list of channels, with the name of the encoder as its comment.
        (
            AudioCodec::Aac,
            0xaf,
            "118004c848002000c4400d4c61766335392e33372e31303056e500",
            "LC 48000 Hz 7 ch",
        ),
        (AudioCodec::Aac, 0xaf, "1190", "LC 48000 Hz 2 ch"),
        (AudioCodec::Aac, 0xaf, "2b92 0800", "HE-AAC 44100 Hz 2 ch"),
        (AudioCodec::Aac, 0xaf, "eb8a 0800", "HE-AACv2 44100 Hz 2 ch"),
        (AudioCodec::Aac, 0xaf, "1390 56e5a0", "HE-AAC 44100 Hz 2 ch"),
        (AudioCodec::Aac, 0xaf, "1388 56e5a54880", "HE-AACv2 44100 Hz 2 ch"),
    ];

    #[test]
    fn configurations_say_what_the_encoder_was_told() {
        for &(codec, body, expected) in VIDEO {
            let facts = video_facts(codec, &hex(body)).unwrap_or_default();
            assert_eq!(video_text(&facts), expected, "{codec} {body}");
        }
        for &(codec, tag_head, body, expected) in AUDIO {
            let facts = audio_facts(codec, tag_head, &hex(body)).unwrap_or_default();
            assert_eq!(audio_text(&facts), expected, "{codec} {body}");
        }
    }

    #[test]
    fn what_is_cut_off_is_unknown_and_never_something_else() {
        for &(codec, body, _) in VIDEO {
            let body = hex(body);
            let whole = video_facts(codec, &body).unwrap();
            for end in 0..body.len() {
                let part = video_facts(codec, &body[..end]).unwrap_or_default();
                let same = VideoFacts {
                    profile: part.profile.and(whole.profile),
                    level: part.level.and(whole.level),
                    width: part.width.and(whole.width),
                    height: part.height.and(whole.height),
                    frame_rate: part.frame_rate.and(whole.frame_rate),
                    bit_depth: part.bit_depth.and(whole.bit_depth),
                };
                assert_eq!(part, same, "{end} bytes of {body:02x?}");
            }
        }
        for &(codec, tag_head, body, _) in AUDIO {
            let body = hex(body);
            let whole = audio_facts(codec, tag_head, &body).unwrap();
            for end in 0..body.len() {
                let part = audio_facts(codec, tag_head, &body[..end]);
                // Without the extensions that older decoders skip, this is what those see.
                let is_older = match (&body[..2], end) {
                    ([0x13, 0x90 | 0x88], 2 | 3) => part.unwrap().profile == Some("LC"),
                    ([0x13, 0x88], 5 | 6) => part.unwrap().profile == Some("HE-AAC"),
                    _ => false,
                };
                assert!(is_older || part.is_none_or(|part| part == whole), "{end}: {part:?}");
            }
        }
    }

    #[test]
    fn no_configuration_panics() {
        let mut random = Random::new(4);
        let bodies = VIDEO.iter().map(|row| row.1).chain(AUDIO.iter().map(|row| row.2)).map(hex);
        for body in bodies {
            for _ in 0..4000 {
                let mut body = body.clone();
                for _ in 0..=random.below(4) {
                    let at = random.below(body.len());
                    match random.below(4) {
                        0 => body[at] = 0,
                        1 => body[at] = 0xff,
                        _ => body[at] ^= 1 << random.below(8),
                    }
                }
                body.truncate(body.len() - random.below(3).min(body.len() - 1));
                read_as_everything(&body);
            }
        }
    }

    /// Sizes, rates and numbers of channels are small, whatever the bytes are.
    fn read_as_everything(body: &[u8]) {
        for codec in VIDEO.iter().map(|row| row.0) {
            let facts = video_facts(codec, body).unwrap_or_default();
            assert_eq!(facts.width.is_some(), facts.height.is_some());
            assert!(facts.width != Some(0) && facts.height != Some(0));
        }
        for (codec, tag_head) in AUDIO.iter().map(|row| (row.0, row.1)) {
            let facts = audio_facts(codec, tag_head, body).unwrap_or_default();
            assert!(facts.sample_rate_hz != Some(0) && facts.channels != Some(0));
        }
    }

    #[test]
    fn emulation_prevention_is_taken_out_once() {
        for (unit, bytes) in [
            ("0000030000", "00000000"),
            ("000003 000003 01", "0000000001"),
            ("00000300000301", "0000000001"),
            ("00000003", "000000"),
            ("000102030003", "000102030003"),
        ] {
            assert_eq!(bits::without_emulation_prevention(&hex(unit)), hex(bytes), "{unit}");
        }
    }

    #[test]
    fn exp_golomb_numbers_are_read_to_the_largest() {
        let numbers: Vec<_> = std::iter::from_fn({
            let mut bits = bits::Bits::new(&[0xa6, 0x42, 0x98, 0xe2, 0x04, 0x80]);
            move || bits.ue()
        })
        .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let largest = hex("00000001 fffffffe");
        assert_eq!(bits::Bits::new(&largest).ue(), Some(u32::MAX - 1));
        assert_eq!(bits::Bits::new(&hex("00000000 8000000000")).ue(), None);
    }

    #[test]
    fn rates_are_shown_as_they_are_written() {
        for (frames, ticks, time_scale, text) in [
            (1, 1, 25, "25"),
            (1, 1001, 30_000, "29.97"),
            (1, 1001, 24_000, "23.976"),
            (1, 2, 25, "12.5"),
            (1, 100, 1, "0.01"),
            (1, 1, 1000, "none"),
            (1, 1, 0, "none"),
            (1, 0, 25, "none"),
            (u64::MAX, 1, 25, "none"),
        ] {
            let rate = FrameRate::new(frames, ticks, time_scale);
            assert_eq!(rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string()), text);
        }
    }

    fn video_text(facts: &VideoFacts) -> String {
        let mut parts: Vec<String> = facts.profile.into_iter().map(str::to_owned).collect();
        parts.extend(facts.level.map(|level| level.to_string()));
        parts.extend(
            facts.width.zip(facts.height).map(|(width, height)| format!("{width}x{height}")),
        );
        parts.extend(facts.frame_rate.map(|rate| rate.to_string()));
        parts.extend(facts.bit_depth.map(|depth| format!("{depth} bit")));
        parts.join(" ")
    }

    fn audio_text(facts: &AudioFacts) -> String {
        let mut parts: Vec<String> = facts.profile.into_iter().map(str::to_owned).collect();
        parts.extend(facts.sample_rate_hz.map(|rate| format!("{rate} Hz")));
        parts.extend(facts.channels.map(|channels| format!("{channels} ch")));
        parts.join(" ")
    }
}
