//! A publisher's message in the form in which the tape records it.
//!
//! Classifies a message before anything is decided: its medium and tracks, the messages that a
//! decoder needs before it, and whether it is a header. It keeps no state.

use crate::amf0;
use crate::media::metadata::{self, DataMessage};
use crate::media::{self, AudioClass, Codec, MediaKind, Tracks, VideoClass, VideoCodec};
use crate::rtmp::message::{Message, kind};

/// A publisher's message, independent of its protocol: the body of an FLV tag, which is also the
/// payload of an RTMP message.
#[derive(Clone, Copy, Debug)]
pub struct MediaFrame<'a> {
    /// Audio, video or data.
    pub media: MediaKind,
    /// Whether data is encoded as AMF3, as a few clients do.
    pub is_amf3: bool,
    /// The timestamp that the publisher sent (ms, modulo 2^32).
    pub timestamp: u32,
    /// The body.
    pub payload: &'a [u8],
}

impl<'a> From<Message<'a>> for MediaFrame<'a> {
    #[inline]
    fn from(message: Message<'a>) -> Self {
        let media = match message.header.kind {
            kind::AUDIO => MediaKind::Audio,
            kind::VIDEO => MediaKind::Video,
            _ => MediaKind::Data,
        };
        let is_amf3 = message.header.kind == kind::DATA_AMF3;
        Self { media, is_amf3, timestamp: message.header.timestamp, payload: message.payload }
    }
}

/// The messages that a decoder needs before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Only the headers: a GOP starts with this message.
    StartsGop,
    /// The GOP of the message from its keyframe on.
    Gop,
    /// The GOP, if the tracks have keyframes at all. It is unknown whether a track of an unknown
    /// codec has any.
    GopIfAny,
    /// None: audio, data, headers, and messages that are relayed without being parsed.
    Nothing,
    /// None. The message is the last one of its tracks until they start again.
    EndsSequence,
}

/// The kinds of headers, in the order in which players receive them. A later header of the same
/// kind and tracks replaces an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderKind {
    /// `onMetaData`.
    Metadata,
    /// The decoder configuration of audio tracks.
    AudioSequence,
    /// The channel layout of audio tracks.
    Multichannel,
    /// The decoder configuration of video tracks.
    VideoSequence,
    /// The colour information of video tracks.
    ColorInfo,
}

/// Identifies the access unit of a message within its track. Both timestamps are needed, because
/// the server gives a picture that steps back the timestamp of the picture before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The timestamp that the publisher sent.
    pub sent: u32,
    /// The timestamp that players receive.
    pub timestamp: u32,
}

/// A message to be recorded on the tape.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// Audio, video or data.
    pub media: MediaKind,
    /// The tracks of the message.
    pub tracks: Tracks,
    /// The codec of its first track, if the message is a frame or a decoder configuration.
    pub codec: Option<Codec>,
    /// The messages that a decoder needs before it.
    pub needs: Needs,
    /// Set when the message is a header, which is kept for late players.
    pub header: Option<HeaderKind>,
    /// Whether the timestamp follows the publisher's clock. Some encoders stamp headers, data and
    /// the end of a sequence 0, whatever their clock shows.
    pub is_frame: bool,
    /// The timestamp that the publisher sent (ms, modulo 2^32).
    pub sent: u32,
    /// The timestamp that players receive (ms, modulo 2^32).
    pub timestamp: u32,
    /// The payload of the message.
    pub payload: &'a [u8],
}

impl Recording<'_> {
    /// Returns whether the message is of track 0 only, as nearly every message is.
    pub(crate) fn is_default(&self) -> bool {
        self.tracks == Tracks::DEFAULT
    }

    /// Returns the access unit of the message, which must be a frame.
    pub(crate) const fn unit(&self) -> Unit {
        Unit { sent: self.sent, timestamp: self.timestamp }
    }
}

/// Parses a data message.
pub(crate) fn interpret<'a>(frame: &MediaFrame<'a>) -> Result<DataMessage<'a>, amf0::Error> {
    if frame.is_amf3 {
        metadata::interpret_amf3(frame.payload)
    } else {
        metadata::interpret(frame.payload)
    }
}

/// Returns a data message to be recorded.
pub(crate) fn data<'a>(
    frame: &MediaFrame<'_>,
    payload: &'a [u8],
    is_metadata: bool,
) -> Recording<'a> {
    Recording {
        media: MediaKind::Data,
        tracks: Tracks::NONE,
        codec: None,
        needs: Needs::Nothing,
        header: is_metadata.then_some(HeaderKind::Metadata),
        is_frame: false,
        sent: frame.timestamp,
        timestamp: frame.timestamp,
        payload,
    }
}

/// Classifies an audio message. Returns `None` if it cannot be parsed.
pub(crate) fn audio<'a>(frame: &MediaFrame<'a>) -> Option<Recording<'a>> {
    let tag = media::classify_audio(frame.payload).ok()?;
    let header = match tag.class {
        AudioClass::SequenceHeader => Some(HeaderKind::AudioSequence),
        AudioClass::Multichannel => Some(HeaderKind::Multichannel),
        _ => None,
    };
    Some(Recording {
        media: MediaKind::Audio,
        tracks: tag.tracks,
        codec: (header.is_some() || tag.class == AudioClass::Frame)
            .then_some(Codec::Audio(tag.codec)),
        needs: Needs::Nothing,
        is_frame: header.is_none() && tag.class != AudioClass::EndOfSequence,
        header: header.filter(|_| !tag.is_empty_config),
        sent: frame.timestamp,
        timestamp: frame.timestamp,
        payload: frame.payload,
    })
}

/// Classifies a video message. Returns `None` if it cannot be parsed.
pub(crate) fn video<'a>(frame: &MediaFrame<'a>) -> Option<Recording<'a>> {
    let tag = media::classify_video(frame.payload).ok()?;
    let header = match tag.class {
        VideoClass::SequenceHeader => Some(HeaderKind::VideoSequence),
        VideoClass::ColorInfo => Some(HeaderKind::ColorInfo),
        _ => None,
    };
    let needs = match tag.class {
        VideoClass::Keyframe => Needs::StartsGop,
        VideoClass::Inter | VideoClass::Disposable => match tag.codec {
            VideoCodec::Other(_) => Needs::GopIfAny,
            _ => Needs::Gop,
        },
        VideoClass::EndOfSequence => Needs::EndsSequence,
        _ => Needs::Nothing,
    };
    let is_picture =
        matches!(tag.class, VideoClass::Keyframe | VideoClass::Inter | VideoClass::Disposable);
    Some(Recording {
        media: MediaKind::Video,
        tracks: tag.tracks,
        codec: (header.is_some() || is_picture).then_some(Codec::Video(tag.codec)),
        needs,
        is_frame: header.is_none()
            && !matches!(tag.class, VideoClass::EndOfSequence | VideoClass::Command),
        header: header.filter(|_| !tag.is_empty_config),
        sent: frame.timestamp,
        timestamp: frame.timestamp,
        payload: frame.payload,
    })
}
