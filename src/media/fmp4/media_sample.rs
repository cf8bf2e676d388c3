//! Samples: the parts of RTMP messages that MP4 files hold.
//!
//! Frames of both formats have the same bytes, so a sample is a slice of a payload. This module
//! also reads how many samples of sound are in a frame, for the codecs whose configuration does not
//! tell.

use super::SampleInfo;
use crate::media::codec::bits::Bits;
use crate::media::{
    AudioClass, AudioCodec, MediaKind, VideoClass, classify_audio, classify_video,
    for_each_audio_track, for_each_video_track,
};

/// The frame of one track in the payload of an RTMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaSample<'a> {
    /// The bytes of the frame.
    pub bytes: &'a [u8],
    /// Position of the frame in the payload (bytes).
    pub offset: usize,
    /// Time from decoding to display (ms).
    pub composition_ms: i32,
    /// Whether decoding can start with the frame, by the frame type of its message. True for audio.
    pub is_keyframe: bool,
    /// Samples of sound in the frame, at the rate of the track; 0 if the codec's configuration has
    /// the number, and for video.
    pub audio_samples: u32,
}

impl MediaSample<'_> {
    /// Returns the values that a fragment has of this frame. `track` is the position of the track
    /// in the init segment, from 0; `timestamp` is the decoding time (ms, modulo 2^32).
    pub fn info(&self, track: usize, timestamp: u32) -> SampleInfo {
        SampleInfo {
            track,
            timestamp,
            bytes: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            composition_ms: self.composition_ms,
            is_keyframe: self.is_keyframe,
            audio_samples: self.audio_samples,
            duration_ms: None,
        }
    }
}

/// Returns the frame of a track in the payload of an RTMP message. `track` is the track id of
/// Enhanced RTMP, which is 0 without multitrack. `None` for messages that are not a frame, and for
/// empty frames.
pub fn sample_of(media: MediaKind, payload: &[u8], track: u8) -> Option<MediaSample<'_>> {
    match media {
        MediaKind::Video => video_sample(payload, track),
        MediaKind::Audio => audio_sample(payload, track),
        MediaKind::Data => None,
    }
}

fn video_sample(payload: &[u8], id: u8) -> Option<MediaSample<'_>> {
    let class = classify_video(payload).ok()?.class;
    let is_frame =
        matches!(class, VideoClass::Keyframe | VideoClass::Inter | VideoClass::Disposable);
    let mut sample = None;
    for_each_video_track(payload, |track| {
        if is_frame && track.track == id && !track.body.is_empty() {
            sample = Some(MediaSample {
                bytes: track.body,
                offset: offset_in(payload, track.body),
                composition_ms: track.composition_ms,
                is_keyframe: class == VideoClass::Keyframe,
                audio_samples: 0,
            });
        }
    });
    sample
}

fn audio_sample(payload: &[u8], id: u8) -> Option<MediaSample<'_>> {
    let class = classify_audio(payload).ok()?.class;
    let mut sample = None;
    for_each_audio_track(payload, |track| {
        if class == AudioClass::Frame && track.track == id && !track.body.is_empty() {
            sample = Some(MediaSample {
                bytes: track.body,
                offset: offset_in(payload, track.body),
                composition_ms: 0,
                is_keyframe: true,
                audio_samples: audio_samples(track.codec, track.body).unwrap_or(0),
            });
        }
    });
    sample
}

/// Returns the position of `part`, which is a slice of `whole`.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

/// Returns the samples of sound in a frame. `None` if the frame does not tell.
fn audio_samples(codec: AudioCodec, frame: &[u8]) -> Option<u32> {
    match codec {
        AudioCodec::Opus => opus_samples(frame),
        AudioCodec::Flac => flac_samples(frame),
        AudioCodec::Mp3 => mp3_samples(frame),
        // A frame of AC-3 has six blocks, and so have the frames of E-AC-3 in one sample (ETSI TS
        // 102 366, annex F.6.1).
        AudioCodec::Ac3 | AudioCodec::Eac3 => Some(6 * 256),
        _ => None,
    }
}

/// Reads the length of an Opus packet from its first bytes (RFC 6716, section 3.1).
fn opus_samples(packet: &[u8]) -> Option<u32> {
    /// Longest packet: 120 ms at 48 kHz.
    const SAMPLES_MAX: u32 = 5760;
    let (&head, rest) = packet.split_first()?;
    let frame = match head >> 3 {
        // SILK: 10, 20, 40 and 60 ms.
        mode @ 0..12 => [480, 960, 1920, 2880][usize::from(mode & 3)],
        // Hybrid: 10 and 20 ms.
        mode @ 12..16 => [480, 960][usize::from(mode & 1)],
        // CELT: 2.5, 5, 10 and 20 ms.
        mode => 120 << (mode & 3),
    };
    let frames = match head & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    Some(frame * frames).filter(|samples| (1..=SAMPLES_MAX).contains(samples))
}

/// Reads the block size from the header of a FLAC frame (RFC 9639, section 9.1).
fn flac_samples(frame: &[u8]) -> Option<u32> {
    const SYNC_CODE: u32 = 0x7ffc;
    let bits = &mut Bits::new(frame);
    if bits.u(15)? != SYNC_CODE {
        return None;
    }
    bits.skip(1)?;
    let code = bits.u(4)?;
    bits.skip(4 + 4 + 3 + 1)?;
    // The coded number has the form of UTF-8, with up to seven bytes.
    let first = bits.u(8)? as u8;
    match first.leading_ones() {
        0 => {}
        length @ 2..=7 => bits.skip(8 * (length - 1))?,
        _ => return None,
    }
    match code {
        1 => Some(192),
        2..=5 => Some(144 << code),
        6 => Some(bits.u(8)? + 1),
        7 => Some(bits.u(16)? + 1),
        8..=15 => Some(1 << code),
        _ => None,
    }
}

/// Reads the length of a frame of MPEG audio from its header (ISO/IEC 11172-3, section 2.4.2.1;
/// ISO/IEC 13818-3, section 2.4.3).
fn mp3_samples(frame: &[u8]) -> Option<u32> {
    const MPEG_1: u32 = 3;
    let bits = &mut Bits::new(frame);
    if bits.u(11)? != 0x7ff {
        return None;
    }
    let version = bits.u(2)?;
    match (bits.u(2)?, version) {
        (3, _) => Some(384),
        (2, _) | (1, MPEG_1) => Some(1152),
        (1, _) => Some(576),
        _ => None,
    }
}
