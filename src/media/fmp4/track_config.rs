//! Configuration of one track, read from a sequence header or from a frame.

use std::error::Error;
use std::fmt;

use super::description::{self, Description};
use crate::media::{
    AudioClass, AudioCodec, Codec, VideoClass, VideoCodec, classify_audio, classify_video, codec,
    for_each_audio_track, for_each_video_track,
};

/// Ticks per second of all video tracks. RTMP's milliseconds are 90 of them.
pub(super) const VIDEO_TIMESCALE: u32 = 90_000;

/// The configuration of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackConfig {
    pub(super) codec: Codec,
    pub(super) codec_string: String,
    pub(super) timescale: u32,
    pub(super) description: Description,
    /// Size of the picture (pixels); (0, 0) for audio, and while it is unknown.
    pub(super) size: (u16, u16),
    /// Channels of audio; 0 for video.
    pub(super) channels: u8,
    /// Samples in every frame of audio; 0 if that depends on the frame, and for video.
    pub(super) frame_samples: u32,
}

/// Reason why a message gives no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The message is not a sequence header, nor a frame of a codec without sequence headers.
    NotAHeader,
    /// The codec describes itself only in its frames, and this is its empty sequence header. The
    /// next frame has the configuration.
    NeedsFrame(Codec),
    /// Browsers do not play the codec in MP4.
    Codec(Codec),
    /// The configuration is malformed.
    Malformed(Codec),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |codec: &Codec| match codec {
            Codec::Audio(codec) => codec.to_string(),
            Codec::Video(codec) => codec.to_string(),
        };
        match self {
            Self::NotAHeader => write!(f, "the message is not a sequence header"),
            Self::NeedsFrame(codec) => write!(f, "{} needs a frame", name(codec)),
            Self::Codec(codec) => write!(f, "fragmented MP4 does not carry {}", name(codec)),
            Self::Malformed(codec) => write!(f, "malformed configuration of {}", name(codec)),
        }
    }
}

impl Error for Unsupported {}

impl TrackConfig {
    /// Reads the first track of a video sequence header: the payload of an RTMP message, in the
    /// legacy or the enhanced form.
    ///
    /// # Errors
    /// Fails if the message is not a sequence header, and for codecs and configurations that
    /// fragmented MP4 cannot have.
    pub fn from_video_header(payload: &[u8]) -> Result<Self, Unsupported> {
        let tag = classify_video(payload).map_err(|_| Unsupported::NotAHeader)?;
        if tag.class != VideoClass::SequenceHeader {
            return Err(Unsupported::NotAHeader);
        }
        let mut config = None;
        for_each_video_track(payload, |track| {
            config.get_or_insert_with(|| Self::from_video(track.codec, track.body));
        });
        config.unwrap_or(Err(Unsupported::NotAHeader))
    }

    /// Reads the first track of an audio sequence header: the payload of an RTMP message, in the
    /// legacy or the enhanced form. For MP3, AC-3 and E-AC-3 it reads a frame instead.
    ///
    /// # Errors
    /// As [`TrackConfig::from_video_header`]; and [`Unsupported::NeedsFrame`] for the empty
    /// sequence headers of MP3, AC-3 and E-AC-3.
    pub fn from_audio_header(payload: &[u8]) -> Result<Self, Unsupported> {
        let tag = classify_audio(payload).map_err(|_| Unsupported::NotAHeader)?;
        let describes_itself =
            matches!(tag.codec, AudioCodec::Mp3 | AudioCodec::Ac3 | AudioCodec::Eac3);
        match tag.class {
            AudioClass::SequenceHeader if describes_itself => {
                return Err(Unsupported::NeedsFrame(Codec::Audio(tag.codec)));
            }
            AudioClass::SequenceHeader => {}
            AudioClass::Frame if describes_itself => {}
            AudioClass::Frame if matches!(tag.codec, AudioCodec::Legacy(_)) => {
                return Err(Unsupported::Codec(Codec::Audio(tag.codec)));
            }
            _ => return Err(Unsupported::NotAHeader),
        }
        let mut config = None;
        for_each_audio_track(payload, |track| {
            config.get_or_insert_with(|| Self::from_audio(track.codec, track.body));
        });
        config.unwrap_or(Err(Unsupported::NotAHeader))
    }

    /// Reads the configuration of a video codec, without the header of its message. This is for the
    /// tracks of a message with several.
    ///
    /// # Errors
    /// Fails for codecs and configurations that fragmented MP4 cannot have.
    pub fn from_video(codec: VideoCodec, body: &[u8]) -> Result<Self, Unsupported> {
        let named = Codec::Video(codec);
        if !matches!(codec, VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Av1 | VideoCodec::Vp9)
        {
            return Err(Unsupported::Codec(named));
        }
        let malformed = Unsupported::Malformed(named);
        let (description, codec_string) = description::of_video(codec, body).ok_or(malformed)?;
        let facts = codec::video_facts(codec, body).ok_or(malformed)?;
        let size = facts.width.zip(facts.height);
        // The parameter sets of these codecs have the size, and without them nothing decodes.
        if size.is_none() && matches!(codec, VideoCodec::Avc | VideoCodec::Hevc) {
            return Err(malformed);
        }
        Ok(Self {
            codec: named,
            codec_string,
            timescale: VIDEO_TIMESCALE,
            description,
            size: size.unwrap_or_default(),
            channels: 0,
            frame_samples: 0,
        })
    }

    /// Reads the configuration of an audio codec, or a frame of MP3, AC-3 and E-AC-3, without the
    /// header of its message.
    ///
    /// # Errors
    /// Fails for codecs and configurations that fragmented MP4 cannot have.
    pub fn from_audio(codec: AudioCodec, body: &[u8]) -> Result<Self, Unsupported> {
        let named = Codec::Audio(codec);
        if matches!(codec, AudioCodec::Legacy(_) | AudioCodec::Other(_) | AudioCodec::Unnamed) {
            return Err(Unsupported::Codec(named));
        }
        let malformed = Unsupported::Malformed(named);
        let facts = codec::audio_facts(codec, 0, body).ok_or(malformed)?;
        let (timescale, channels) = facts.sample_rate_hz.zip(facts.channels).ok_or(malformed)?;
        let (description, codec_string) =
            description::of_audio(codec, body, timescale).ok_or(malformed)?;
        let frame_samples = match codec {
            AudioCodec::Aac => {
                let has_sbr = facts.profile.is_some_and(|profile| profile.starts_with("HE-AAC"));
                description::aac_frame_samples(body, has_sbr)
            }
            _ => 0,
        };
        Ok(Self {
            codec: named,
            codec_string,
            timescale,
            description,
            size: (0, 0),
            channels,
            frame_samples,
        })
    }

    /// Takes the size of the picture from a keyframe, if it is not known yet. The sequence headers
    /// of VP9, and of some AV1 encoders, do not have it. Players need it in the init segment.
    pub fn learn_size(&mut self, keyframe_payload: &[u8]) {
        let Codec::Video(codec) = self.codec else { return };
        if self.size != (0, 0) {
            return;
        }
        for_each_video_track(keyframe_payload, |track| {
            let facts =
                codec::video_facts(track.codec, track.body).filter(|_| track.codec == codec);
            if let Some(size) = facts.and_then(|facts| facts.width.zip(facts.height)) {
                self.size = size;
            }
        });
    }

    /// Takes the size of the picture from an earlier configuration, if this one does not have it.
    pub fn keep_size_of(&mut self, earlier: &Self) {
        if self.size == (0, 0) {
            self.size = earlier.size;
        }
    }

    /// Returns the samples of sound in every frame; 0 if that depends on the frame, and for video.
    pub const fn frame_samples(&self) -> u32 {
        self.frame_samples
    }

    /// Returns the codec.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns whether the track is a video track.
    pub const fn is_video(&self) -> bool {
        matches!(self.codec, Codec::Video(_))
    }

    /// Returns the codec with its profile and level, as `avc1.64001f` (RFC 6381).
    pub fn codec_string(&self) -> &str {
        &self.codec_string
    }

    /// Returns the ticks per second: 90,000 for video, the sample rate for audio.
    pub const fn timescale(&self) -> u32 {
        self.timescale
    }

    /// Returns the width and height of the picture (pixels). `None` for audio, and if the sequence
    /// header does not have them; see [`TrackConfig::learn_size`].
    pub fn size(&self) -> Option<(u16, u16)> {
        Some(self.size).filter(|size| *size != (0, 0))
    }

    /// Returns the sample rate of audio (Hz).
    pub fn sample_rate(&self) -> Option<u32> {
        Some(self.timescale).filter(|_| !self.is_video())
    }

    /// Returns the number of channels of audio.
    pub fn channels(&self) -> Option<u8> {
        Some(self.channels).filter(|_| !self.is_video())
    }
}
