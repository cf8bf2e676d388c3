//! A message of a publisher as the tape takes it.
//!
//! Owns what is read off a message before anything is decided: its medium and tracks, what a
//! decoder needs before it, and whether it is a header. It keeps nothing.

use crate::amf0;
use crate::media::metadata::{self, DataMessage};
use crate::media::{self, AudioClass, Codec, MediaKind, Tracks, VideoClass, VideoCodec};
use crate::rtmp::message::{Message, kind};

/// A frame of a publisher, in whatever protocol it came: the body of an FLV tag, which RTMP
/// messages have as payload.
#[derive(Clone, Copy, Debug)]
pub struct MediaFrame<'a> {
    /// Audio, video or data.
    pub media: MediaKind,
    /// Its data is AMF3, as few clients write it.
    pub is_amf3: bool,
    /// When it is due (ms).
    pub timestamp: u32,
    /// Its bytes.
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

/// What a decoder needs before it can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but the headers: a GOP starts here.
    StartsGop,
    /// Its GOP from the start.
    Gop,
    /// The same if its tracks have keyframes at all, which nobody knows of an unknown codec.
    GopIfAny,
    /// Nothing: audio, data, headers and what is relayed unread.
    Nothing,
    /// Nothing, and it is the last of its tracks until they start anew.
    EndsSequence,
}

/// Which header of a stream a message is: a later one of the same kind and tracks takes its
/// place. In the order in which a newcomer gets them.
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

/// Identifies the access unit of a message within its track: both timestamps, since the server
/// gives pictures that step back the timestamp of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The timestamp that the publisher sent.
    pub sent: u32,
    /// The timestamp that players receive.
    pub timestamp: u32,
}

/// A message as the tape takes it.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// Audio, video or data.
    pub media: MediaKind,
    /// The tracks that it concerns.
    pub tracks: Tracks,
    /// The codec of its first track, if it is a frame or a header of a decoder.
    pub codec: Option<Codec>,
    /// What a decoder needs before it.
    pub needs: Needs,
    /// Set when the message is a header to be kept for newcomers.
    pub header: Option<HeaderKind>,
    /// Whether its timestamp is the publisher's clock. Headers, data and the end of a sequence
    /// are stamped 0 by some encoders, whatever their clock says.
    pub is_frame: bool,
    /// The timestamp that the publisher sent (ms, modulo 2^32).
    pub sent: u32,
    /// The timestamp that players receive (ms, modulo 2^32).
    pub timestamp: u32,
    /// The payload of the message.
    pub payload: &'a [u8],
}

impl Recording<'_> {
    /// Whether it concerns track 0 alone, as nearly every message does.
    pub(crate) fn is_default(&self) -> bool {
        self.tracks == Tracks::DEFAULT
    }

    /// The access unit that it belongs to, if it is a frame.
    pub(crate) const fn unit(&self) -> Unit {
        Unit { sent: self.sent, timestamp: self.timestamp }
    }
}

/// Reads the data of a frame.
pub(crate) fn interpret<'a>(frame: &MediaFrame<'a>) -> Result<DataMessage<'a>, amf0::Error> {
    if frame.is_amf3 {
        metadata::interpret_amf3(frame.payload)
    } else {
        metadata::interpret(frame.payload)
    }
}

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
