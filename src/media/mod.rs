//! What a frame is: FLV tags and their codecs, metadata, and FLV files.
//!
//! Everything here is pure: it reads bytes and returns values. It knows no connection, no stream
//! and no clock. [`tag`](self) types are re-exported here, since nearly every other part of the
//! program names them.

pub mod codec;
pub mod flv;
pub mod metadata;
mod tag;

pub use tag::{
    AudioClass, AudioCodec, AudioTag, Codec, MediaKind, TagError, TrackBody, Tracks, VideoClass,
    VideoCodec, VideoTag, classify_audio, classify_video, for_each_audio_track,
    for_each_video_track,
};
