//! Reads what a decoder configuration, or a frame of a codec without one, says about a track.
//!
//! Owns the layout of configurations as far as a report shows it: profile, level, picture size,
//! frame rate, sample rate, channels. Never decodes, keeps no state, and never fails: what cannot
//! be read, or is beyond what any encoder sends, is not known. All work is bounded by the bytes
//! at hand and by the bounds of the formats; no number in them makes it allocate.

mod aac;
mod audio;
mod av1;
mod avc;
mod bits;
mod flash;
mod hevc;
mod nal;
mod vpx;
mod vvc;

use std::fmt;

pub use nal::{Slice, Units, length_bytes, read_units};

use crate::media::{AudioCodec, TrackBody, VideoCodec};

/// Faster pictures are a clock that was written for a rate: encoders of variable rate put their
/// time base there, 1/1000 s or finer.
const FRAME_RATE_MILLIHERTZ_MAX: u64 = 999_999;

/// The facts about a video track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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

/// The facts about an audio track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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

/// Reads the facts from the body of a sequence header, or of a keyframe: those of AV1, VP8, VP9 and
/// of the legacy codecs say more than their sequence headers, if they have any.
pub fn video_facts(codec: VideoCodec, body: &[u8]) -> Option<VideoFacts> {
    match codec {
        VideoCodec::Avc => avc::facts(body),
        VideoCodec::Hevc => hevc::facts(body),
        VideoCodec::Vvc => vvc::facts(body),
        VideoCodec::Av1 => av1::facts(body),
        VideoCodec::Vp8 => vpx::vp8_facts(body),
        VideoCodec::Vp9 => vpx::vp9_facts(body),
        VideoCodec::Legacy(id) => flash::video_facts(id, body),
        VideoCodec::Other(_) | VideoCodec::Unnamed => None,
    }
}

/// Whether decoding can begin with a frame, whatever its message says. `length_bytes` is the size
/// of the length before a NAL unit. False for codecs whose frames are not known.
pub fn is_keyframe(codec: VideoCodec, frame: &[u8], length_bytes: usize) -> bool {
    match codec {
        VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Vvc => {
            read_units(codec, frame, length_bytes).is_some_and(|units| units.is_random_access)
        }
        // Only their keyframes say how large they are.
        VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => {
            video_facts(codec, frame).is_some_and(|facts| facts.width.is_some())
        }
        VideoCodec::Legacy(_) | VideoCodec::Other(_) | VideoCodec::Unnamed => false,
    }
}

/// Reads the facts from the body of a sequence header, or of a frame for codecs without one: AC-3,
/// E-AC-3, MP3 and the legacy formats. `tag_head` is the first byte of the message, which is all
/// that those formats say of themselves.
pub fn audio_facts(codec: AudioCodec, tag_head: u8, body: &[u8]) -> Option<AudioFacts> {
    match codec {
        AudioCodec::Aac => aac::facts(body),
        AudioCodec::Mp3 => audio::mp3_facts(body),
        AudioCodec::Opus => audio::opus_facts(body),
        AudioCodec::Flac => audio::flac_facts(body),
        AudioCodec::Ac3 | AudioCodec::Eac3 => audio::ac3_facts(body),
        AudioCodec::Legacy(format) => flash::audio_facts(format, tag_head),
        AudioCodec::Other(_) | AudioCodec::Unnamed => None,
    }
}

/// Adds to what is known of a video track what a configuration says, or a keyframe of the codecs
/// that say more there. Returns whether further frames say nothing new.
pub fn learn_video(
    known: &mut Option<(VideoCodec, VideoFacts)>,
    track: &TrackBody<'_, VideoCodec>,
    is_frame: bool,
) -> bool {
    let codec = track.codec;
    let has_configuration = matches!(codec, VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Vvc);
    let is_wanted = !(is_frame && has_configuration);
    let found = video_facts(codec, track.body).filter(|_| is_wanted);
    let before = known.map(|(_, facts)| facts).filter(|_| is_frame || found.is_none());
    let (found, before) = (found.unwrap_or_default(), before.unwrap_or_default());
    let facts = VideoFacts {
        profile: found.profile.or(before.profile),
        level: found.level.or(before.level),
        width: found.width.or(before.width),
        height: found.height.or(before.height),
        frame_rate: found.frame_rate.or(before.frame_rate),
        bit_depth: found.bit_depth.or(before.bit_depth),
    };
    *known = Some((codec, facts));
    facts.width.is_some() || is_frame
}

/// Adds to what is known of an audio track what a configuration says, or a frame of the codecs that
/// have none. `tag_head` is the first byte of the message. Returns whether further frames say
/// nothing new.
pub fn learn_audio(
    known: &mut Option<(AudioCodec, AudioFacts)>,
    tag_head: u8,
    track: &TrackBody<'_, AudioCodec>,
    is_frame: bool,
) -> bool {
    let codec = track.codec;
    let has_configuration = matches!(codec, AudioCodec::Aac | AudioCodec::Opus | AudioCodec::Flac);
    let is_wanted = !(is_frame && has_configuration);
    let found = audio_facts(codec, tag_head, track.body).filter(|_| is_wanted);
    let before = known.map(|(_, facts)| facts);
    *known = Some((codec, found.or(before).unwrap_or_default()));
    found.is_some() || is_frame
}

/// Describes a video track without its rate, as in `H.264 High 4.1 1920x1080`.
pub fn describe_video(codec: VideoCodec, facts: &VideoFacts) -> String {
    let mut said = codec.to_string();
    let mut add = |what: String| said.extend([" ", &what]);
    if let Some(profile) = facts.profile {
        add(profile.to_owned());
    }
    if let Some(level) = facts.level {
        add(level.to_string());
    }
    if let (Some(width), Some(height)) = (facts.width, facts.height) {
        add(format!("{width}x{height}"));
    }
    said
}

/// Describes an audio track, as in `AAC LC 48 kHz stereo`.
pub fn describe_audio(codec: AudioCodec, facts: &AudioFacts) -> String {
    let mut said = codec.to_string();
    let mut add = |what: String| said.extend([" ", &what]);
    if let Some(profile) = facts.profile {
        add(profile.to_owned());
    }
    if let Some(rate) = facts.sample_rate_hz {
        add(format!("{} kHz", f64::from(rate) / 1000.0));
    }
    match facts.channels {
        None => {}
        Some(1) => add("mono".to_owned()),
        Some(2) => add("stereo".to_owned()),
        Some(channels) => add(format!("{channels} channels")),
    }
    said
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
mod tests;
