//! Writer of fragmented MP4, from the payloads of RTMP messages (ISO/IEC 14496-12, 14496-15).
//!
//! [`TrackConfig`] reads a sequence header, [`init_segment()`] writes the boxes that describe the
//! tracks, and [`Fragments`] writes the boxes before the frames. Frames are never copied or
//! converted: [`sample_of`] returns the part of a payload that an MP4 file holds, and the caller
//! sends it after the head of its fragment. The writer never reorders or drops frames. It expects
//! timestamps that do not go back within a track.

mod codec_string;
mod description;
mod fragments;
mod init_segment;
mod media_sample;
mod mp4_clock;
mod track_config;

pub use fragments::{FragmentTooLarge, Fragments, SampleInfo, write_styp};
pub use init_segment::init_segment;
pub use media_sample::{MediaSample, sample_of};
pub use mp4_clock::{FRAGMENT_HEAD_BYTES, Mp4Clock};
pub use track_config::{TrackConfig, Unsupported};

/// Returns the codecs of several tracks, as the parameter `codecs` of a media type and the
/// attribute `CODECS` of a playlist have them: `avc1.64001f,mp4a.40.2`.
pub fn codecs_of(tracks: &[&TrackConfig]) -> String {
    tracks.iter().map(|track| track.codec_string()).collect::<Vec<_>>().join(",")
}

/// Returns the media type of several tracks: `video/mp4; codecs="avc1.64001f,mp4a.40.2"`. Without
/// video, the type is `audio/mp4`.
pub fn media_type_of(tracks: &[&TrackConfig]) -> String {
    let kind = if tracks.iter().any(|track| track.is_video()) { "video" } else { "audio" };
    format!("{kind}/mp4; codecs=\"{}\"", codecs_of(tracks))
}

#[cfg(test)]
mod tests;
