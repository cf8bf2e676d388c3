//! Reads the properties of a track from its decoder configuration, or from a frame if the codec has
//! no configuration.
//!
//! Owns the layout of configurations as far as a report shows them: profile, level, picture size,
//! frame rate, sample rate, channels. It decodes no media, keeps no state, and never fails. A value
//! that is malformed, or that no encoder would send, is unknown. The work is bounded by the input
//! and by the limits of the formats. No number in the input decides an allocation.

mod aac;
mod audio;
mod av1;
mod avc;
pub(super) mod bits;
mod flash;
mod hevc;
mod nal;
mod vpx;
mod vvc;

use std::fmt;

pub use nal::{Slice, Units, length_bytes, read_units};

use crate::media::{AudioCodec, TrackBody, VideoCodec};

/// Highest frame rate that is believed (mHz). Encoders with a variable rate write their time base
/// instead, which is 1/1000 s or finer.
const FRAME_RATE_MILLIHERTZ_MAX: u64 = 999_999;

/// Properties of a video track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VideoFacts {
    /// The profile, by its name in the specification.
    pub profile: Option<&'static str>,
    /// The level.
    pub level: Option<Level>,
    /// Width of the displayed picture (pixels); known if the height is.
    pub width: Option<u16>,
    /// Height of the displayed picture (pixels); known if the width is.
    pub height: Option<u16>,
    /// The frame rate that the encoder declares. The rate that it sends may differ.
    pub frame_rate: Option<FrameRate>,
    /// Bits of a luma sample.
    pub bit_depth: Option<u8>,
}

/// Properties of an audio track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AudioFacts {
    /// The profile, by its usual name.
    pub profile: Option<&'static str>,
    /// Sample rate of the decoder's output (Hz).
    pub sample_rate_hz: Option<u32>,
    /// Number of channels of the decoder's output.
    pub channels: Option<u8>,
}

/// A level in tenths. 9 is level 1b of H.264, which lies between 1 and 1.1.
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

/// A frame rate, to a thousandth of a frame per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Frames per 1000 seconds.
    pub millihertz: u32,
}

impl FrameRate {
    /// Returns the rate of `frames` in `ticks` of a clock with `time_scale` ticks per second.
    fn new(frames: u64, ticks: u64, time_scale: u64) -> Option<Self> {
        let thousandths = frames.checked_mul(time_scale)?.checked_mul(1000)?;
        let millihertz = thousandths.checked_add(ticks / 2)?.checked_div(ticks)?;
        (1..=FRAME_RATE_MILLIHERTZ_MAX)
            .contains(&millihertz)
            .then_some(Self { millihertz: millihertz as u32 })
    }
}

impl fmt::Display for FrameRate {
    /// Writes the rate as `25`, `29.97` or `23.976`.
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

/// Reads the properties from the body of a sequence header or keyframe. The keyframes of AV1, VP8,
/// VP9 and the legacy codecs contain more than their sequence headers, if they have any.
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

/// Returns true if decoding can begin with this frame, regardless of the frame type in its message.
/// `length_bytes` is the size of the length field before a NAL unit. Returns false for codecs whose
/// frames are not parsed.
pub fn is_keyframe(codec: VideoCodec, frame: &[u8], length_bytes: usize) -> bool {
    match codec {
        VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Vvc => {
            read_units(codec, frame, length_bytes).is_some_and(|units| units.is_random_access)
        }
        // Only the keyframes of these codecs contain the picture size.
        VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => {
            video_facts(codec, frame).is_some_and(|facts| facts.width.is_some())
        }
        VideoCodec::Legacy(_) | VideoCodec::Other(_) | VideoCodec::Unnamed => false,
    }
}

/// Reads the properties from the body of a sequence header, or of a frame for codecs without one:
/// AC-3, E-AC-3, MP3 and the legacy formats. `tag_head` is the first byte of the message; the
/// legacy formats have their properties only there.
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

/// Updates the known properties of a video track from a configuration, or from a keyframe of a
/// codec whose keyframes contain more. Returns true if further frames contain nothing new.
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

/// Updates the known properties of an audio track from a configuration, or from a frame of a codec
/// without one. `tag_head` is the first byte of the message. Returns true if further frames contain
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

/// Describes a video track without its frame rate, as in `H.264 High 4.1 1920x1080`.
pub fn describe_video(codec: VideoCodec, facts: &VideoFacts) -> String {
    let mut text = codec.to_string();
    let mut add = |word: String| text.extend([" ", &word]);
    if let Some(profile) = facts.profile {
        add(profile.to_owned());
    }
    if let Some(level) = facts.level {
        add(level.to_string());
    }
    if let (Some(width), Some(height)) = (facts.width, facts.height) {
        add(format!("{width}x{height}"));
    }
    text
}

/// Describes an audio track, as in `AAC LC 48 kHz stereo`.
pub fn describe_audio(codec: AudioCodec, facts: &AudioFacts) -> String {
    let mut text = codec.to_string();
    let mut add = |word: String| text.extend([" ", &word]);
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
    text
}

impl VideoFacts {
    /// Sets the picture size, unless a side is 0 or does not fit 16 bits.
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
