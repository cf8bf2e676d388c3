//! Media formats: FLV tags and their codecs, metadata, FLV files, and fragmented
//! MP4.
//!
//! Everything here is pure: functions read bytes and return values. They know no connection, no
//! stream and no clock. The types of `tag.rs` are re-exported here, because nearly every other part
//! of the program uses them.

pub mod codec;
pub mod flv;
#[cfg(feature = "server")]
pub mod fmp4;
pub mod metadata;
pub mod simple_flv;
mod tag;

pub use tag::{
    AudioClass, AudioCodec, AudioTag, Codec, MediaKind, TagError, TrackBody, Tracks, VideoClass,
    VideoCodec, VideoTag, classify_audio, classify_video, for_each_audio_track,
    for_each_video_track,
};
