//! Tag headers: the first bytes of audio and video messages, in the legacy and the enhanced form.
//!
//! Owns the layout of tag headers, from the first byte to the body: FLV 10.1 annex E.4 and Enhanced
//! RTMP v2. This module never reads a body and keeps no state between messages. Unknown values are
//! not refused: the message is classified as opaque and relayed. Frame types and packet types of
//! Enhanced RTMP mean the same for every codec, so they also classify a message with an unknown
//! FourCC.

use std::error::Error;
use std::fmt;

/// Bound of the ModEx blocks in one message. The specification defines one kind of block, so no
/// encoder has a reason for more than a few.
const MOD_EX_BLOCKS_MAX: usize = 16;
/// Bound of the tracks in one message: a track id is one byte.
const TRACKS_MAX: usize = 256;

/// The three kinds of messages in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Message type 8.
    Audio,
    /// Message type 9.
    Video,
    /// Message types 18 and 15.
    Data,
}

/// Header of a video message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VideoTag {
    /// The codec; in a message with several codecs, that of the first track.
    pub codec: VideoCodec,
    /// The class of the message.
    pub class: VideoClass,
    /// The tracks in the message; [`Tracks::DEFAULT`] without multitrack.
    pub tracks: Tracks,
    /// True for a sequence header without a configuration. It is relayed, but never replaces a
    /// cached sequence header that has one.
    pub is_empty_config: bool,
}

/// Header of an audio message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AudioTag {
    /// The codec; in a message with several codecs, that of the first track.
    pub codec: AudioCodec,
    /// The class of the message.
    pub class: AudioClass,
    /// The tracks in the message; [`Tracks::DEFAULT`] without multitrack.
    pub tracks: Tracks,
    /// True for a sequence header without a configuration. It is relayed, but never replaces a
    /// cached sequence header that has one.
    pub is_empty_config: bool,
}

/// Class of a video message, which decides how a relay treats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoClass {
    /// Decoder configuration. It is cached per track.
    SequenceHeader,
    /// A frame that depends on no other frame.
    Keyframe,
    /// A frame that depends on earlier frames.
    Inter,
    /// A frame that no other frame depends on.
    Disposable,
    /// The encoder's last message. It often has the frame type of a keyframe, but is not one.
    EndOfSequence,
    /// The metadata packet of Enhanced RTMP, with colour information. It is cached per track.
    ColorInfo,
    /// The start or the end of a seek in the client. It has no picture.
    Command,
    /// An unknown message, which is relayed unchanged.
    Opaque,
}

/// Class of an audio message, which decides how a relay treats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioClass {
    /// Decoder configuration. It is cached per track.
    SequenceHeader,
    /// The channel layout of Enhanced RTMP. It is cached per track.
    Multichannel,
    /// A frame of sound.
    Frame,
    /// The encoder's last message.
    EndOfSequence,
    /// A message without a payload. The player plays its buffer and then continues by the clock.
    Silence,
    /// An unknown message, which is relayed unchanged.
    Opaque,
}

/// A video codec, independent of how the message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VideoCodec {
    /// H.264: legacy id 7 or `avc1`.
    Avc,
    /// H.265: `hvc1`, or legacy id 12 by convention of some networks.
    Hevc,
    /// H.266: `vvc1`.
    Vvc,
    /// AV1: `av01`, or legacy id 13 by convention of some networks.
    Av1,
    /// VP8: `vp08`.
    Vp8,
    /// VP9: `vp09`.
    Vp9,
    /// Any other codec id of the legacy header.
    Legacy(u8),
    /// An unknown FourCC.
    Other([u8; 4]),
    /// The message names no codec.
    Unnamed,
}

/// An audio codec, independent of how the message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AudioCodec {
    /// AAC: legacy format 10 or `mp4a`.
    Aac,
    /// MP3: legacy formats 2 and 14 or `.mp3`.
    Mp3,
    /// Opus: `Opus`.
    Opus,
    /// FLAC: `fLaC`.
    Flac,
    /// AC-3: `ac-3`.
    Ac3,
    /// E-AC-3: `ec-3`.
    Eac3,
    /// Any other sound format of the legacy header.
    Legacy(u8),
    /// An unknown FourCC.
    Other([u8; 4]),
    /// The message names no codec.
    Unnamed,
}

/// A codec of audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// An audio codec.
    Audio(AudioCodec),
    /// A video codec.
    Video(VideoCodec),
}

impl Codec {
    /// Returns the kind of the messages that carry the codec.
    pub const fn media(self) -> MediaKind {
        match self {
            Self::Audio(_) => MediaKind::Audio,
            Self::Video(_) => MediaKind::Video,
        }
    }
}

/// A set of track ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tracks([u64; 4]);

impl Tracks {
    /// The empty set: the message is opaque or has no track.
    pub const NONE: Self = Self([0; 4]);
    /// The set of track 0, which is the track of every message without multitrack.
    pub const DEFAULT: Self = Self([1, 0, 0, 0]);

    /// Returns true if the set contains `track`.
    pub fn contains(&self, track: u8) -> bool {
        self.0[usize::from(track / 64)] & (1 << (track % 64)) != 0
    }

    /// Returns true if every track of this set is in `other`. A newer message for `other` then
    /// replaces an older one for this set.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(own, other)| own & !other == 0)
    }

    /// Returns true if the two sets have a track in common.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(own, other)| own & other != 0)
    }

    /// Returns the tracks of both sets.
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Returns the lowest track id.
    pub fn first(&self) -> Option<u8> {
        self.iter().next()
    }

    /// Iterates over the track ids in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        // Each step clears the lowest bit, so the cost depends on the tracks in the set, not on the
        // 256 possible ones. Adapters for the words cost four times as much, for each message.
        let (mut words, mut at) = (self.0, 0);
        std::iter::from_fn(move || {
            while *words.get(at)? == 0 {
                at += 1;
            }
            let track = 64 * at as u8 + words[at].trailing_zeros() as u8;
            words[at] &= words[at] - 1;
            Some(track)
        })
    }

    fn insert(&mut self, track: u8) {
        self.0[usize::from(track / 64)] |= 1 << (track % 64);
    }
}

/// An inconsistent tag header. The message is dropped and counted, and the connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagError {
    /// The video message has no payload.
    Empty,
    /// The payload ends before a part of the header.
    Truncated {
        /// The part, as the specification names it.
        expected: &'static str,
        /// Bytes left in the payload.
        left: usize,
    },
    /// A ModEx block is longer than the rest of the message.
    ModExPastEnd {
        /// Declared size of the block (bytes).
        size: usize,
        /// Bytes left in the payload.
        left: usize,
    },
    /// The message has more than 16 ModEx blocks.
    TooManyModEx,
    /// Multitrack is nested in multitrack.
    NestedMultitrack,
    /// A track is longer than the rest of the message.
    TrackPastEnd {
        /// The track id.
        track: u8,
        /// Declared size of the track (bytes).
        size: usize,
        /// Bytes left in the payload.
        left: usize,
    },
    /// The message has more tracks than there are track ids.
    TooManyTracks,
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "video message without a payload"),
            Self::Truncated { expected, left } => {
                write!(f, "expected {expected}, found {left} bytes")
            }
            Self::ModExPastEnd { size, left } => {
                write!(f, "ModEx block of {size} bytes with {left} left in the message")
            }
            Self::TooManyModEx => write!(f, "more than {MOD_EX_BLOCKS_MAX} ModEx blocks"),
            Self::NestedMultitrack => write!(f, "multitrack inside multitrack"),
            Self::TrackPastEnd { track, size, left } => {
                write!(f, "track {track} of {size} bytes with {left} left in the message")
            }
            Self::TooManyTracks => write!(f, "more than {TRACKS_MAX} tracks in one message"),
        }
    }
}

impl Error for TagError {}

/// One track of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackBody<'a, Codec> {
    /// The codec of this track.
    pub codec: Codec,
    /// The track id; 0 without multitrack.
    pub track: u8,
    /// The configuration or frame for the decoder, without any header of the message.
    pub body: &'a [u8],
    /// Time from the decoding of a frame to its display (ms). Only the video codecs that reorder
    /// pictures have one; all others have 0.
    pub composition_ms: i32,
}

/// Classifies the payload of a video message.
pub fn classify_video(payload: &[u8]) -> Result<VideoTag, TagError> {
    read_video(payload, &mut |_| {})
}

/// Classifies the payload of an audio message.
pub fn classify_audio(payload: &[u8]) -> Result<AudioTag, TagError> {
    read_audio(payload, &mut |_| {})
}

/// Calls `each` with the tracks of a video message, in their order.
///
/// If [`classify_video`] refuses the message, only the tracks before the error are passed. A
/// command and the end of a sequence may have no track.
pub fn for_each_video_track<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(TrackBody<'a, VideoCodec>),
) {
    let _ = read_video(payload, &mut each);
}

/// Calls `each` with the tracks of an audio message, as [`for_each_video_track`] does for video.
pub fn for_each_audio_track<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(TrackBody<'a, AudioCodec>),
) {
    let _ = read_audio(payload, &mut each);
}

fn read_video<'a>(
    payload: &'a [u8],
    each: &mut impl FnMut(TrackBody<'a, VideoCodec>),
) -> Result<VideoTag, TagError> {
    let (&first, rest) = payload.split_first().ok_or(TagError::Empty)?;
    if first & VIDEO_EX_HEADER == 0 {
        legacy_video(first, rest, each)
    } else {
        enhanced_video(first, rest, each)
    }
}

fn read_audio<'a>(
    payload: &'a [u8],
    each: &mut impl FnMut(TrackBody<'a, AudioCodec>),
) -> Result<AudioTag, TagError> {
    let Some((&first, rest)) = payload.split_first() else {
        // Enhanced RTMP v2 keeps the meaning that Flash gave to an empty audio message.
        return Ok(AudioTag::new(AudioCodec::Unnamed, AudioClass::Silence, Tracks::DEFAULT));
    };
    let (codec, class) = match first >> UPPER_HALF_SHIFT {
        SOUND_FORMAT_EX_HEADER => return enhanced_audio(first, rest, each),
        SOUND_FORMAT_AAC => return legacy_aac(rest, each),
        // These formats are in use, and only the player can interpret them.
        format @ (SOUND_FORMAT_RESERVED | SOUND_FORMAT_DEVICE_SPECIFIC) => {
            (AudioCodec::Legacy(format), AudioClass::Opaque)
        }
        SOUND_FORMAT_MP3 | SOUND_FORMAT_MP3_8KHZ => (AudioCodec::Mp3, AudioClass::Frame),
        format => (AudioCodec::Legacy(format), AudioClass::Frame),
    };
    each(TrackBody { codec, track: 0, body: rest, composition_ms: 0 });
    Ok(AudioTag::new(codec, class, Tracks::DEFAULT))
}

// The first byte of a message has two fields of four bits (FLV 10.1, annex E.4.2.1 and E.4.3.1).
const UPPER_HALF_SHIFT: u32 = 4;
const LOWER_HALF_MASK: u8 = 0x0f;

/// `isExVideoHeader`, the highest bit of a video message (Enhanced RTMP v2, "Enhanced Video").
const VIDEO_EX_HEADER: u8 = 0x80;
/// Mask of the frame type of an enhanced message, after the shift.
const EX_FRAME_TYPE_MASK: u8 = 0x07;

// Frame types: the upper half of the first byte of a video message, without `isExVideoHeader`.
const FRAME_KEY: u8 = 1;
const FRAME_INTER: u8 = 2;
const FRAME_DISPOSABLE: u8 = 3;
const FRAME_GENERATED_KEY: u8 = 4;
const FRAME_COMMAND: u8 = 5;

// Codec ids: the lower half of the first byte of a legacy video message (FLV 10.1, annex E.4.3.1).
const CODEC_ID_SORENSON_H263: u8 = 2;
const CODEC_ID_SCREEN: u8 = 3;
const CODEC_ID_VP6: u8 = 4;
const CODEC_ID_VP6_ALPHA: u8 = 5;
const CODEC_ID_SCREEN_2: u8 = 6;
const CODEC_ID_AVC: u8 = 7;
// No specification defines these two; they are a convention of some networks.
const CODEC_ID_HEVC: u8 = 12;
const CODEC_ID_AV1: u8 = 13;

// Packet types of legacy H.264 and AAC (FLV 10.1, annex E.4.2.2 and E.4.3.2). AAC has no end of
// sequence.
const LEGACY_SEQUENCE_HEADER: u8 = 0;
const LEGACY_CODED_FRAMES: u8 = 1;
const LEGACY_END_OF_SEQUENCE: u8 = 2;

// Sound formats: the upper half of the first byte of an audio message (FLV 10.1, annex E.4.2.1).
const SOUND_FORMAT_PCM: u8 = 0;
const SOUND_FORMAT_ADPCM: u8 = 1;
const SOUND_FORMAT_MP3: u8 = 2;
const SOUND_FORMAT_PCM_LITTLE_ENDIAN: u8 = 3;
const SOUND_FORMAT_NELLYMOSER_16KHZ: u8 = 4;
const SOUND_FORMAT_NELLYMOSER: u8 = 6;
const SOUND_FORMAT_A_LAW: u8 = 7;
const SOUND_FORMAT_MU_LAW: u8 = 8;
const SOUND_FORMAT_EX_HEADER: u8 = 9;
const SOUND_FORMAT_AAC: u8 = 10;
const SOUND_FORMAT_SPEEX: u8 = 11;
const SOUND_FORMAT_RESERVED: u8 = 12;
const SOUND_FORMAT_MP3_8KHZ: u8 = 14;
const SOUND_FORMAT_DEVICE_SPECIFIC: u8 = 15;

// Packet types of Enhanced RTMP. The first three and ModEx mean the same in audio and video.
const PACKET_SEQUENCE_START: u8 = 0;
const PACKET_CODED_FRAMES: u8 = 1;
const PACKET_SEQUENCE_END: u8 = 2;
const PACKET_MOD_EX: u8 = 7;
const VIDEO_PACKET_CODED_FRAMES_X: u8 = 3;
const VIDEO_PACKET_METADATA: u8 = 4;
const VIDEO_PACKET_MPEG2TS_SEQUENCE_START: u8 = 5;
const VIDEO_PACKET_MULTITRACK: u8 = 6;
const AUDIO_PACKET_MULTICHANNEL_CONFIG: u8 = 4;
const AUDIO_PACKET_MULTITRACK: u8 = 5;

/// Size of a ModEx block that announces a 16-bit size field, which replaces this size (Enhanced
/// RTMP v2, "ModEx").
const MOD_EX_LONG_BYTES: usize = 256;

impl VideoTag {
    fn new(codec: VideoCodec, class: VideoClass, tracks: Tracks) -> Self {
        Self { codec, class, tracks, is_empty_config: false }
    }
}

impl AudioTag {
    fn new(codec: AudioCodec, class: AudioClass, tracks: Tracks) -> Self {
        Self { codec, class, tracks, is_empty_config: false }
    }
}

impl VideoCodec {
    fn from_four_cc(four_cc: [u8; 4]) -> Self {
        match &four_cc {
            b"avc1" => Self::Avc,
            b"hvc1" => Self::Hevc,
            b"vvc1" => Self::Vvc,
            b"av01" => Self::Av1,
            b"vp08" => Self::Vp8,
            b"vp09" => Self::Vp9,
            _ => Self::Other(four_cc),
        }
    }

    /// Returns true if the decoding order of pictures differs from their display order.
    fn has_composition_time(self) -> bool {
        matches!(self, Self::Avc | Self::Hevc | Self::Vvc)
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Avc => f.write_str("H.264"),
            Self::Hevc => f.write_str("H.265"),
            Self::Vvc => f.write_str("H.266"),
            Self::Av1 => f.write_str("AV1"),
            Self::Vp8 => f.write_str("VP8"),
            Self::Vp9 => f.write_str("VP9"),
            Self::Legacy(CODEC_ID_SORENSON_H263) => f.write_str("Sorenson H.263"),
            Self::Legacy(CODEC_ID_SCREEN) => f.write_str("Screen"),
            Self::Legacy(CODEC_ID_VP6) => f.write_str("VP6"),
            Self::Legacy(CODEC_ID_VP6_ALPHA) => f.write_str("VP6 with alpha"),
            Self::Legacy(CODEC_ID_SCREEN_2) => f.write_str("Screen 2"),
            Self::Legacy(id) => write!(f, "codec {id}"),
            Self::Other(four_cc) => write!(f, "\"{}\"", four_cc.escape_ascii()),
            Self::Unnamed => f.write_str("none"),
        }
    }
}

impl AudioCodec {
    fn from_four_cc(four_cc: [u8; 4]) -> Self {
        match &four_cc {
            b"mp4a" => Self::Aac,
            b".mp3" => Self::Mp3,
            b"Opus" => Self::Opus,
            b"fLaC" => Self::Flac,
            b"ac-3" => Self::Ac3,
            b"ec-3" => Self::Eac3,
            _ => Self::Other(four_cc),
        }
    }

    /// Returns true if a sequence header of this codec has a body. AC-3, E-AC-3 and MP3 describe
    /// themselves in each frame, so their sequence header is empty. An unknown codec may do the
    /// same.
    fn has_config_body(self) -> bool {
        !matches!(self, Self::Ac3 | Self::Eac3 | Self::Mp3 | Self::Other(_))
    }
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aac => f.write_str("AAC"),
            Self::Mp3 => f.write_str("MP3"),
            Self::Opus => f.write_str("Opus"),
            Self::Flac => f.write_str("FLAC"),
            Self::Ac3 => f.write_str("AC-3"),
            Self::Eac3 => f.write_str("E-AC-3"),
            Self::Legacy(SOUND_FORMAT_PCM | SOUND_FORMAT_PCM_LITTLE_ENDIAN) => f.write_str("PCM"),
            Self::Legacy(SOUND_FORMAT_ADPCM) => f.write_str("ADPCM"),
            Self::Legacy(SOUND_FORMAT_NELLYMOSER_16KHZ..=SOUND_FORMAT_NELLYMOSER) => {
                f.write_str("Nellymoser")
            }
            Self::Legacy(SOUND_FORMAT_A_LAW) => f.write_str("G.711 A-law"),
            Self::Legacy(SOUND_FORMAT_MU_LAW) => f.write_str("G.711 µ-law"),
            Self::Legacy(SOUND_FORMAT_SPEEX) => f.write_str("Speex"),
            Self::Legacy(format) => write!(f, "format {format}"),
            Self::Other(four_cc) => write!(f, "\"{}\"", four_cc.escape_ascii()),
            Self::Unnamed => f.write_str("none"),
        }
    }
}

/// Reads a legacy video message (FLV 10.1, annex E.4.3): four bits of frame type and four bits of
/// codec id. H.264, and the codecs that use its layout, add a packet type and a composition time.
fn legacy_video<'a>(
    first: u8,
    rest: &'a [u8],
    each: &mut impl FnMut(TrackBody<'a, VideoCodec>),
) -> Result<VideoTag, TagError> {
    let frame_type = first >> UPPER_HALF_SHIFT;
    let codec = match first & LOWER_HALF_MASK {
        CODEC_ID_AVC => VideoCodec::Avc,
        CODEC_ID_HEVC => VideoCodec::Hevc,
        CODEC_ID_AV1 => VideoCodec::Av1,
        id => VideoCodec::Legacy(id),
    };
    let tag = |class| VideoTag::new(codec, class, Tracks::DEFAULT);
    // This is checked before the packet type: a command has one byte, which would be read as one.
    if frame_type == FRAME_COMMAND {
        return Ok(tag(VideoClass::Command));
    }
    if let VideoCodec::Legacy(_) = codec {
        each(TrackBody { codec, track: 0, body: rest, composition_ms: 0 });
        return Ok(tag(class_of_frame(frame_type)));
    }
    let [packet_type, high, middle, low, body @ ..] = rest else {
        let expected = "packet type and composition time";
        return Err(TagError::Truncated { expected, left: rest.len() });
    };
    let composition_ms = signed([*high, *middle, *low]);
    each(TrackBody { codec, track: 0, body, composition_ms });
    Ok(match *packet_type {
        LEGACY_SEQUENCE_HEADER => {
            VideoTag { is_empty_config: body.is_empty(), ..tag(VideoClass::SequenceHeader) }
        }
        LEGACY_CODED_FRAMES => tag(class_of_frame(frame_type)),
        LEGACY_END_OF_SEQUENCE => tag(VideoClass::EndOfSequence),
        _ => tag(VideoClass::Opaque),
    })
}

/// Reads a legacy AAC message (FLV 10.1, annex E.4.2). Only AAC has a packet type after the first
/// byte.
fn legacy_aac<'a>(
    rest: &'a [u8],
    each: &mut impl FnMut(TrackBody<'a, AudioCodec>),
) -> Result<AudioTag, TagError> {
    let [packet_type, body @ ..] = rest else {
        return Err(TagError::Truncated { expected: "AAC packet type", left: 0 });
    };
    each(TrackBody { codec: AudioCodec::Aac, track: 0, body, composition_ms: 0 });
    let tag = |class| AudioTag::new(AudioCodec::Aac, class, Tracks::DEFAULT);
    Ok(match *packet_type {
        LEGACY_SEQUENCE_HEADER => {
            AudioTag { is_empty_config: body.is_empty(), ..tag(AudioClass::SequenceHeader) }
        }
        LEGACY_CODED_FRAMES => tag(AudioClass::Frame),
        _ => tag(AudioClass::Opaque),
    })
}

/// Returns a composition time: a signed number of 24 bits (FLV 10.1, annex E.4.3.2; Enhanced RTMP
/// v2, "CodedFrames").
fn signed([high, middle, low]: [u8; 3]) -> i32 {
    i32::from_be_bytes([high, middle, low, 0]) >> 8
}

fn class_of_frame(frame_type: u8) -> VideoClass {
    match frame_type {
        FRAME_KEY => VideoClass::Keyframe,
        // A generated keyframe is a server's copy for seeking, not a start of a live stream.
        FRAME_INTER | FRAME_GENERATED_KEY => VideoClass::Inter,
        FRAME_DISPOSABLE => VideoClass::Disposable,
        _ => VideoClass::Opaque,
    }
}

/// Reads an enhanced video message (Enhanced RTMP v2, "Enhanced Video"): three bits of frame type
/// and four bits of packet type, then ModEx blocks, then a command or the tracks.
fn enhanced_video<'a>(
    first: u8,
    mut rest: &'a [u8],
    each: &mut impl FnMut(TrackBody<'a, VideoCodec>),
) -> Result<VideoTag, TagError> {
    let frame_type = (first >> UPPER_HALF_SHIFT) & EX_FRAME_TYPE_MASK;
    let packet_type = skip_mod_ex(first & LOWER_HALF_MASK, &mut rest)?;
    // A metadata packet may have any frame type, so it is not a command.
    if frame_type == FRAME_COMMAND && packet_type != VIDEO_PACKET_METADATA {
        take_u8(&mut rest, "video command")?;
        return Ok(VideoTag::new(VideoCodec::Unnamed, VideoClass::Command, Tracks::DEFAULT));
    }
    let mut each = |packet_type, four_cc, track, mut body: &'a [u8]| {
        let codec = VideoCodec::from_four_cc(four_cc);
        let mut composition_ms = 0;
        if packet_type == PACKET_CODED_FRAMES && codec.has_composition_time() {
            let (time, frame) = body.split_first_chunk().unwrap_or((&[0; 3], &[]));
            (composition_ms, body) = (signed(*time), frame);
        }
        each(TrackBody { codec, track, body, composition_ms });
    };
    let packet = read_packet(packet_type, VIDEO_PACKET_MULTITRACK, rest, &mut each)?;
    let Some(packet) = packet else {
        return Ok(VideoTag::new(VideoCodec::Unnamed, VideoClass::Opaque, Tracks::NONE));
    };
    let codec = VideoCodec::from_four_cc(packet.four_cc);
    let class = match packet.packet_type {
        PACKET_SEQUENCE_START | VIDEO_PACKET_MPEG2TS_SEQUENCE_START => VideoClass::SequenceHeader,
        PACKET_CODED_FRAMES | VIDEO_PACKET_CODED_FRAMES_X => class_of_frame(frame_type),
        PACKET_SEQUENCE_END => VideoClass::EndOfSequence,
        VIDEO_PACKET_METADATA => VideoClass::ColorInfo,
        _ => VideoClass::Opaque,
    };
    let is_empty_config = class == VideoClass::SequenceHeader && packet.is_empty;
    Ok(VideoTag { codec, class, tracks: packet.tracks, is_empty_config })
}

/// Reads an enhanced audio message (Enhanced RTMP v2, "Enhanced Audio"): four bits of sound format
/// 9 and four bits of packet type, then ModEx blocks, then the tracks.
fn enhanced_audio<'a>(
    first: u8,
    mut rest: &'a [u8],
    each: &mut impl FnMut(TrackBody<'a, AudioCodec>),
) -> Result<AudioTag, TagError> {
    let packet_type = skip_mod_ex(first & LOWER_HALF_MASK, &mut rest)?;
    let mut each = |_, four_cc, track, body| {
        let codec = AudioCodec::from_four_cc(four_cc);
        each(TrackBody { codec, track, body, composition_ms: 0 });
    };
    let packet = read_packet(packet_type, AUDIO_PACKET_MULTITRACK, rest, &mut each)?;
    let Some(packet) = packet else {
        return Ok(AudioTag::new(AudioCodec::Unnamed, AudioClass::Opaque, Tracks::NONE));
    };
    let codec = AudioCodec::from_four_cc(packet.four_cc);
    let class = match packet.packet_type {
        PACKET_SEQUENCE_START => AudioClass::SequenceHeader,
        PACKET_CODED_FRAMES => AudioClass::Frame,
        PACKET_SEQUENCE_END => AudioClass::EndOfSequence,
        AUDIO_PACKET_MULTICHANNEL_CONFIG => AudioClass::Multichannel,
        _ => AudioClass::Opaque,
    };
    let is_empty_config =
        class == AudioClass::SequenceHeader && packet.is_empty && codec.has_config_body();
    Ok(AudioTag { codec, class, tracks: packet.tracks, is_empty_config })
}

/// The part of an enhanced message after its ModEx blocks.
struct Packet {
    packet_type: u8,
    four_cc: [u8; 4],
    tracks: Tracks,
    /// True if no track has a body.
    is_empty: bool,
}

/// Skips ModEx blocks and returns the packet type after them. Their content is for the player; a
/// relay only needs the packet that they wrap.
fn skip_mod_ex(mut packet_type: u8, rest: &mut &[u8]) -> Result<u8, TagError> {
    for _ in 0..=MOD_EX_BLOCKS_MAX {
        if packet_type != PACKET_MOD_EX {
            return Ok(packet_type);
        }
        let mut size = usize::from(take_u8(rest, "ModEx size")?) + 1;
        if size == MOD_EX_LONG_BYTES {
            size = usize::from(u16::from_be_bytes(take(rest, "ModEx size")?)) + 1;
        }
        let left = rest.len();
        let (_, after) =
            rest.split_at_checked(size).ok_or(TagError::ModExPastEnd { size, left })?;
        *rest = after;
        packet_type = take_u8(rest, "ModEx type")? & LOWER_HALF_MASK;
    }
    Err(TagError::TooManyModEx)
}

/// Reads FourCC and tracks. Calls `each` with the packet type, FourCC, id and body of every track.
/// Returns `None` for an unknown multitrack type.
fn read_packet<'a>(
    packet_type: u8,
    multitrack_packet_type: u8,
    mut rest: &'a [u8],
    each: &mut impl FnMut(u8, [u8; 4], u8, &'a [u8]),
) -> Result<Option<Packet>, TagError> {
    const ONE_TRACK: u8 = 0;
    const MANY_TRACKS: u8 = 1;
    const MANY_TRACKS_MANY_CODECS: u8 = 2;

    if packet_type != multitrack_packet_type {
        let four_cc = take(&mut rest, "FourCC")?;
        let is_empty = rest.is_empty();
        each(packet_type, four_cc, 0, rest);
        return Ok(Some(Packet { packet_type, four_cc, tracks: Tracks::DEFAULT, is_empty }));
    }
    let head = take_u8(&mut rest, "multitrack type")?;
    let packet_type = head & LOWER_HALF_MASK;
    if packet_type == multitrack_packet_type {
        return Err(TagError::NestedMultitrack);
    }
    match head >> UPPER_HALF_SHIFT {
        ONE_TRACK => {
            let four_cc = take(&mut rest, "FourCC")?;
            let track = take_u8(&mut rest, "track id")?;
            let mut tracks = Tracks::NONE;
            tracks.insert(track);
            each(packet_type, four_cc, track, rest);
            Ok(Some(Packet { packet_type, four_cc, tracks, is_empty: rest.is_empty() }))
        }
        MANY_TRACKS => {
            let four_cc = take(&mut rest, "FourCC")?;
            read_tracks(packet_type, Some(four_cc), rest, each).map(Some)
        }
        MANY_TRACKS_MANY_CODECS => read_tracks(packet_type, None, rest, each).map(Some),
        _ => Ok(None),
    }
}

/// Reads tracks with a size up to the end of the message. Each track has its own FourCC, unless all
/// share one.
fn read_tracks<'a>(
    packet_type: u8,
    shared_four_cc: Option<[u8; 4]>,
    mut rest: &'a [u8],
    each: &mut impl FnMut(u8, [u8; 4], u8, &'a [u8]),
) -> Result<Packet, TagError> {
    let mut first_four_cc = None;
    let mut tracks = Tracks::NONE;
    let mut is_empty = true;
    for _ in 0..TRACKS_MAX {
        let own_four_cc = match shared_four_cc {
            Some(shared) => shared,
            None => take(&mut rest, "FourCC of a track")?,
        };
        let four_cc = *first_four_cc.get_or_insert(own_four_cc);
        let track = take_u8(&mut rest, "track id")?;
        let [high, middle, low] = take(&mut rest, "track size")?;
        let size = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let left = rest.len();
        let past_end = TagError::TrackPastEnd { track, size, left };
        let (body, after) = rest.split_at_checked(size).ok_or(past_end)?;
        rest = after;
        tracks.insert(track);
        each(packet_type, own_four_cc, track, body);
        is_empty &= size == 0;
        if rest.is_empty() {
            return Ok(Packet { packet_type, four_cc, tracks, is_empty });
        }
    }
    Err(TagError::TooManyTracks)
}

fn take<const N: usize>(rest: &mut &[u8], expected: &'static str) -> Result<[u8; N], TagError> {
    let (head, after) =
        rest.split_first_chunk().ok_or(TagError::Truncated { expected, left: rest.len() })?;
    *rest = after;
    Ok(*head)
}

fn take_u8(rest: &mut &[u8], expected: &'static str) -> Result<u8, TagError> {
    take(rest, expected).map(|[byte]| byte)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::Hash;

    use super::*;
    use crate::rtmp::message::kind;
    use crate::test_support::{Random, hex, recorded_messages};

    #[test]
    fn fl_01_sequence_headers_and_frames_are_told_apart() {
        let rows: &[(&str, VideoCodec, VideoClass)] = &[
            ("17 00 000000 01f4000dff", VideoCodec::Avc, VideoClass::SequenceHeader),
            ("17 01 000050 00000001", VideoCodec::Avc, VideoClass::Keyframe),
            ("27 01 0000c8 00000001", VideoCodec::Avc, VideoClass::Inter),
            ("37 01 000000 00000001", VideoCodec::Avc, VideoClass::Disposable),
            ("47 01 000000 00000001", VideoCodec::Avc, VideoClass::Inter),
            // The frame type of a sequence header has no meaning.
            ("27 00 000000 01f4000dff", VideoCodec::Avc, VideoClass::SequenceHeader),
            ("1c 00 000000 01", VideoCodec::Hevc, VideoClass::SequenceHeader),
            ("1c 01 000000 01", VideoCodec::Hevc, VideoClass::Keyframe),
            ("2d 01 000000 01", VideoCodec::Av1, VideoClass::Inter),
            ("12 00", VideoCodec::Legacy(2), VideoClass::Keyframe),
            ("22", VideoCodec::Legacy(2), VideoClass::Inter),
            ("34 00", VideoCodec::Legacy(4), VideoClass::Disposable),
            ("17 07 000000", VideoCodec::Avc, VideoClass::Opaque),
            ("67 01 000000", VideoCodec::Avc, VideoClass::Opaque),
            ("02 00", VideoCodec::Legacy(2), VideoClass::Opaque),
        ];
        for &(bytes, codec, class) in rows {
            let expected = VideoTag::new(codec, class, Tracks::DEFAULT);
            assert_eq!(classify_video(&hex(bytes)), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn fl_01_audio_formats() {
        let rows: &[(&str, AudioCodec, AudioClass)] = &[
            ("af 00 1190", AudioCodec::Aac, AudioClass::SequenceHeader),
            ("af 01 2100", AudioCodec::Aac, AudioClass::Frame),
            ("ae 00 1190", AudioCodec::Aac, AudioClass::SequenceHeader),
            ("a6 01 21", AudioCodec::Aac, AudioClass::Frame),
            ("af 02 21", AudioCodec::Aac, AudioClass::Opaque),
            ("2f fffb", AudioCodec::Mp3, AudioClass::Frame),
            ("ee fffb", AudioCodec::Mp3, AudioClass::Frame),
            ("72 00", AudioCodec::Legacy(7), AudioClass::Frame),
            ("b2", AudioCodec::Legacy(11), AudioClass::Frame),
            ("d0 00", AudioCodec::Legacy(13), AudioClass::Frame),
            ("f0 00", AudioCodec::Legacy(15), AudioClass::Opaque),
            ("", AudioCodec::Unnamed, AudioClass::Silence),
        ];
        for &(bytes, codec, class) in rows {
            let expected = AudioTag::new(codec, class, Tracks::DEFAULT);
            assert_eq!(classify_audio(&hex(bytes)), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn fl_02_end_of_sequence_with_key_nibble_is_no_keyframe() {
        for bytes in ["17 02 000000", "27 02 000000", "92 68766331", "a2 68766331"] {
            let tag = classify_video(&hex(bytes)).unwrap();
            assert_eq!(tag.class, VideoClass::EndOfSequence, "{bytes}");
        }
    }

    #[test]
    fn fl_03_messages_too_short_for_their_header_are_errors() {
        assert_eq!(classify_video(&[]), Err(TagError::Empty));
        for bytes in ["17", "17 00 0000", "27 01", "90", "90 687663", "d0", "96 00 68766331"] {
            let error = classify_video(&hex(bytes)).unwrap_err();
            assert!(matches!(error, TagError::Truncated { .. }), "{bytes}: {error}");
        }
        for bytes in ["af", "90", "90 4f7075", "95", "95 00 6d7034", "95 00 6d703461"] {
            let error = classify_audio(&hex(bytes)).unwrap_err();
            assert!(matches!(error, TagError::Truncated { .. }), "{bytes}: {error}");
        }
    }

    #[test]
    fn fl_08_a_sequence_header_without_configuration_is_marked() {
        for (bytes, is_empty) in [
            ("17 00 000000", true),
            ("17 00 000000 01", false),
            ("1c 00 000000", true),
            ("90 68766331", true),
            ("90 68766331 01", false),
            ("96 00 68766331 01", true),
            ("96 10 68766331 00 000000 01 000000", true),
            ("96 10 68766331 00 000000 01 000001 01", false),
        ] {
            let tag = classify_video(&hex(bytes)).unwrap();
            assert_eq!(tag.class, VideoClass::SequenceHeader, "{bytes}");
            assert_eq!(tag.is_empty_config, is_empty, "{bytes}");
        }
        for (bytes, is_empty) in [
            ("af 00", true),
            ("af 00 1190", false),
            ("90 4f707573", true),
            ("90 6d703461 1190", false),
        ] {
            let tag = classify_audio(&hex(bytes)).unwrap();
            assert_eq!(tag.class, AudioClass::SequenceHeader, "{bytes}");
            assert_eq!(tag.is_empty_config, is_empty, "{bytes}");
        }
    }

    #[test]
    fn ex_01_enhanced_video() {
        use {VideoClass as Class, VideoCodec as Codec};
        let rows: &[(&str, Codec, Class)] = &[
            ("90 68766331 010408", Codec::Hevc, Class::SequenceHeader),
            ("91 68766331 000050 00", Codec::Hevc, Class::Keyframe),
            ("93 68766331 00", Codec::Hevc, Class::Keyframe),
            ("a1 68766331 0000c8 00", Codec::Hevc, Class::Inter),
            ("a3 68766331 00", Codec::Hevc, Class::Inter),
            ("b3 68766331 00", Codec::Hevc, Class::Disposable),
            ("90 61763031 81000c00", Codec::Av1, Class::SequenceHeader),
            ("95 61763031 0a", Codec::Av1, Class::SequenceHeader),
            ("91 61763031 12000a0b", Codec::Av1, Class::Keyframe),
            ("90 76703039 01000000", Codec::Vp9, Class::SequenceHeader),
            ("a1 76703038 00", Codec::Vp8, Class::Inter),
            ("91 61766331 000000 00", Codec::Avc, Class::Keyframe),
            ("91 76766331 000000 00", Codec::Vvc, Class::Keyframe),
        ];
        for &(bytes, codec, class) in rows {
            let tag = classify_video(&hex(bytes)).unwrap();
            assert_eq!(tag, VideoTag::new(codec, class, Tracks::DEFAULT), "{bytes}");
        }
    }

    #[test]
    fn ex_02_metadata_packet_is_color_info_whatever_its_frame_type() {
        for head in ["84", "94", "d4"] {
            let bytes = format!("{head} 68766331 02 0009 636f6c6f72496e666f 03 000009");
            let tag = classify_video(&hex(&bytes)).unwrap();
            assert_eq!((tag.codec, tag.class), (VideoCodec::Hevc, VideoClass::ColorInfo));
        }
        let wrapped = classify_video(&hex("86 04 68766331 01 02 0009")).unwrap();
        assert_eq!(wrapped.class, VideoClass::ColorInfo);
        assert_eq!(wrapped.tracks.iter().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn ex_03_command_has_no_four_cc() {
        for (bytes, codec) in [
            ("d0 00", VideoCodec::Unnamed),
            ("d1 01", VideoCodec::Unnamed),
            ("d6 00", VideoCodec::Unnamed),
            ("57 00", VideoCodec::Avc),
            ("52 01", VideoCodec::Legacy(2)),
        ] {
            let tag = classify_video(&hex(bytes)).unwrap();
            assert_eq!((tag.codec, tag.class), (codec, VideoClass::Command), "{bytes}");
        }
    }

    #[test]
    fn ex_04_mod_ex_is_unwrapped() {
        let video = classify_video(&hex("97 02 000001 01 68766331 000050 00")).unwrap();
        assert_eq!((video.codec, video.class), (VideoCodec::Hevc, VideoClass::Keyframe));

        let twice = classify_video(&hex("97 02 000001 07 00 ff 11 68766331 00")).unwrap();
        assert_eq!(twice.class, VideoClass::Keyframe);

        let mut long = hex("a7 ff 0100");
        long.extend([0; 257]);
        long.extend(hex("03 68766331 00"));
        assert_eq!(classify_video(&long).unwrap().class, VideoClass::Inter);

        let audio = classify_audio(&hex("97 02 000001 01 4f707573 00")).unwrap();
        assert_eq!((audio.codec, audio.class), (AudioCodec::Opus, AudioClass::Frame));

        let around_tracks = classify_video(&hex("97 02 000001 06 01 68766331 03 00")).unwrap();
        assert_eq!(around_tracks.class, VideoClass::Keyframe);
        assert_eq!(around_tracks.tracks.iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn ex_05_mod_ex_past_the_end_or_without_end_is_dropped() {
        let short = classify_video(&hex("97 ff ffff 000000"));
        assert_eq!(short, Err(TagError::ModExPastEnd { size: 65536, left: 3 }));
        assert!(classify_video(&hex("97 ff ff")).is_err());
        assert!(classify_video(&hex("97 00 00")).is_err());

        let chain = |blocks: usize| {
            let mut bytes = hex("97");
            bytes.extend(hex("00 00 07").repeat(blocks - 1));
            bytes.extend(hex("00 00 01 68766331 00"));
            classify_video(&bytes).map(|tag| tag.class)
        };
        assert_eq!(chain(MOD_EX_BLOCKS_MAX), Ok(VideoClass::Keyframe));
        assert_eq!(chain(MOD_EX_BLOCKS_MAX + 1), Err(TagError::TooManyModEx));
        assert_eq!(chain(100), Err(TagError::TooManyModEx));
    }

    #[test]
    fn ex_06_one_track_names_its_track() {
        let config = classify_video(&hex("96 00 68766331 01 0104")).unwrap();
        assert_eq!(config.class, VideoClass::SequenceHeader);
        assert_eq!(config.tracks.iter().collect::<Vec<_>>(), [1]);

        let key = classify_video(&hex("96 01 68766331 01 000050 00")).unwrap();
        assert_eq!(key.class, VideoClass::Keyframe);
        assert_eq!(key.tracks.first(), Some(1));

        let audio = classify_audio(&hex("95 00 6d703461 01 1188")).unwrap();
        assert_eq!((audio.codec, audio.class), (AudioCodec::Aac, AudioClass::SequenceHeader));
        assert_eq!(audio.tracks.iter().collect::<Vec<_>>(), [1]);

        let channels = classify_audio(&hex("95 04 6d703461 01 01 01 00000004")).unwrap();
        assert_eq!(channels.class, AudioClass::Multichannel);
    }

    #[test]
    fn ex_07_many_tracks_name_all_their_tracks() {
        let mut same_codec = hex("96 11 68766331 00 000010");
        same_codec.extend([0; 16]);
        same_codec.extend(hex("01 000010"));
        same_codec.extend([0; 16]);
        let tag = classify_video(&same_codec).unwrap();
        assert_eq!(tag.tracks.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(tag.class, VideoClass::Keyframe);

        let codecs = hex("96 21 61766331 02 000002 0000 68766331 ff 000000");
        let tag = classify_video(&codecs).unwrap();
        assert_eq!((tag.codec, tag.class), (VideoCodec::Avc, VideoClass::Keyframe));
        assert_eq!(tag.tracks.iter().collect::<Vec<_>>(), [2, 255]);
    }

    #[test]
    fn ex_08_malformed_multitrack_is_dropped_and_unknown_kinds_are_opaque() {
        assert_eq!(classify_video(&hex("96 06 68766331 00")), Err(TagError::NestedMultitrack));
        assert_eq!(classify_audio(&hex("95 15 6d703461 00")), Err(TagError::NestedMultitrack));
        assert_eq!(
            classify_video(&hex("96 11 68766331 05 000010 0000")),
            Err(TagError::TrackPastEnd { track: 5, size: 16, left: 2 })
        );
        assert!(classify_video(&hex("96 11 68766331")).is_err());
        assert!(classify_video(&hex("96 11 68766331 00 000001 00 01")).is_err());

        let mut crowd = hex("96 11 68766331");
        crowd.extend((0..=u8::MAX).flat_map(|track| [track, 0, 0, 0]));
        assert_eq!(classify_video(&crowd).unwrap().tracks.iter().count(), TRACKS_MAX);
        crowd.extend([0, 0, 0, 0]);
        assert_eq!(classify_video(&crowd), Err(TagError::TooManyTracks));

        let mut spread = hex("96 11 68766331");
        spread.extend([255, 0, 64, 63].into_iter().flat_map(|track| [track, 0, 0, 0]));
        let spread = classify_video(&spread).unwrap().tracks;
        assert_eq!(spread.iter().collect::<Vec<_>>(), [0, 63, 64, 255]);

        let unknown_kind = classify_video(&hex("96 31 68766331 00")).unwrap();
        assert_eq!((unknown_kind.class, unknown_kind.tracks), (VideoClass::Opaque, Tracks::NONE));
    }

    #[test]
    fn ex_09_enhanced_audio() {
        use {AudioClass as Class, AudioCodec as Codec};
        let rows: &[(&str, Codec, Class)] = &[
            ("90 4f707573 4f70757348656164 01", Codec::Opus, Class::SequenceHeader),
            ("94 4f707573 01 01 00000004", Codec::Opus, Class::Multichannel),
            ("91 4f707573 00", Codec::Opus, Class::Frame),
            ("92 4f707573", Codec::Opus, Class::EndOfSequence),
            ("90 664c6143 1000", Codec::Flac, Class::SequenceHeader),
            ("94 6d703461 01 06 0000003f", Codec::Aac, Class::Multichannel),
            ("91 65632d33 0b77", Codec::Eac3, Class::Frame),
            ("91 2e6d7033 fffb", Codec::Mp3, Class::Frame),
            ("93 4f707573 00", Codec::Opus, Class::Opaque),
        ];
        for &(bytes, codec, class) in rows {
            let expected = AudioTag::new(codec, class, Tracks::DEFAULT);
            assert_eq!(classify_audio(&hex(bytes)), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn ex_10_a_codec_without_configuration_has_a_whole_sequence_header_of_five_bytes() {
        for (bytes, codec) in [
            ("90 61632d33", AudioCodec::Ac3),
            ("90 65632d33", AudioCodec::Eac3),
            ("90 2e6d7033", AudioCodec::Mp3),
        ] {
            let expected = AudioTag::new(codec, AudioClass::SequenceHeader, Tracks::DEFAULT);
            assert_eq!(classify_audio(&hex(bytes)), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn ex_11_unknown_packet_types_are_opaque() {
        for bytes in ["98 68766331 00", "9f 68766331", "98 61626364 00", "e1 61626364 00"] {
            assert_eq!(classify_video(&hex(bytes)).unwrap().class, VideoClass::Opaque, "{bytes}");
        }
        for bytes in ["96 4f707573 00", "9f 4f707573", "93 61626364"] {
            assert_eq!(classify_audio(&hex(bytes)).unwrap().class, AudioClass::Opaque, "{bytes}");
        }
    }

    #[test]
    fn ex_11_an_unknown_four_cc_is_what_its_frame_type_and_packet_type_say() {
        let codec = VideoCodec::Other(*b"abcd");
        assert_eq!(codec.to_string(), "\"abcd\"");
        for (bytes, class) in [
            ("90 61626364 00", VideoClass::SequenceHeader),
            ("91 61626364", VideoClass::Keyframe),
            ("93 61626364 00", VideoClass::Keyframe),
            ("a1 61626364 00", VideoClass::Inter),
            ("92 61626364", VideoClass::EndOfSequence),
            ("84 61626364 02", VideoClass::ColorInfo),
        ] {
            let expected = VideoTag::new(codec, class, Tracks::DEFAULT);
            assert_eq!(classify_video(&hex(bytes)), Ok(expected), "{bytes}");
        }
        for (bytes, class) in
            [("90 61626364", AudioClass::SequenceHeader), ("91 61626364 00", AudioClass::Frame)]
        {
            let codec = AudioCodec::Other(*b"abcd");
            let expected = AudioTag::new(codec, class, Tracks::DEFAULT);
            assert_eq!(classify_audio(&hex(bytes)), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn recorded_publishers_send_the_video_they_are_known_to_send() {
        use {VideoClass as Class, VideoCodec as Codec};
        let h264 = |inter| {
            vec![
                (Codec::Avc, Class::SequenceHeader, 1),
                (Codec::Avc, Class::Keyframe, 3),
                (Codec::Avc, Class::Inter, inter),
                (Codec::Avc, Class::EndOfSequence, 1),
            ]
        };
        let enhanced = |codec| {
            vec![
                (codec, Class::SequenceHeader, 1),
                (codec, Class::ColorInfo, 1),
                (codec, Class::Keyframe, 3),
                (codec, Class::Inter, 42),
            ]
        };
        let rows = [
            ("ffmpeg5_publish_h264_aac", h264(42)),
            ("gst_rtmp2sink_publish", h264(42)),
            ("gst_rtmpsink_publish", h264(42)),
            (
                // The recording was cut off, so it has no end of sequence.
                "obs29_publish",
                vec![
                    (Codec::Avc, Class::SequenceHeader, 1),
                    (Codec::Avc, Class::Keyframe, 2),
                    (Codec::Avc, Class::Inter, 383),
                ],
            ),
            ("ffmpeg9_publish_hevc_opus", enhanced(Codec::Hevc)),
            ("ffmpeg9_publish_av1_flac", enhanced(Codec::Av1)),
            ("ffmpeg9_publish_vp9_ac3", enhanced(Codec::Vp9)),
            ("ffmpeg9_publish_multitrack", [h264(42), enhanced(Codec::Hevc)].concat()),
            ("ffmpeg9_publish_opus_only", vec![]),
        ];
        for (session, expected) in rows {
            let tags = recorded_tags(session, kind::VIDEO, classify_video);
            assert_eq!(count(tags.iter().map(|tag| (tag.codec, tag.class))), as_map(expected));
            assert!(tags.iter().all(|tag| !tag.is_empty_config), "{session}");
        }
    }

    #[test]
    fn recorded_publishers_send_the_audio_they_are_known_to_send() {
        use {AudioClass as Class, AudioCodec as Codec};
        let aac = |frames| {
            vec![(Codec::Aac, Class::SequenceHeader, 1), (Codec::Aac, Class::Frame, frames)]
        };
        let enhanced = |codec, configs, frames| {
            vec![
                (codec, Class::SequenceHeader, configs),
                (codec, Class::Multichannel, configs),
                (codec, Class::Frame, frames),
            ]
        };
        let opus = enhanced(Codec::Opus, 1, 151);
        let rows = [
            ("ffmpeg5_publish_h264_aac", aac(131)),
            ("gst_rtmp2sink_publish", vec![]),
            ("obs29_publish", aac(1805)),
            ("ffmpeg9_publish_hevc_opus", opus.clone()),
            ("ffmpeg9_publish_opus_only", opus.clone()),
            ("ffmpeg9_publish_av1_flac", enhanced(Codec::Flac, 2, 142)),
            ("ffmpeg9_publish_vp9_ac3", enhanced(Codec::Ac3, 1, 94)),
            ("ffmpeg9_publish_multitrack", [aac(142), opus].concat()),
        ];
        for (session, expected) in rows {
            let tags = recorded_tags(session, kind::AUDIO, classify_audio);
            assert_eq!(count(tags.iter().map(|tag| (tag.codec, tag.class))), as_map(expected));
            assert!(tags.iter().all(|tag| !tag.is_empty_config), "{session}");
        }
    }

    #[test]
    fn ex_06_recorded_second_tracks_are_told_apart() {
        let session = "ffmpeg9_publish_multitrack";
        let video = recorded_tags(session, kind::VIDEO, classify_video);
        let second = |tag: &&VideoTag| tag.tracks.contains(1);
        // The encoder writes the colour information of its second track without the wrapper.
        assert_eq!(video.iter().filter(second).count(), 46);
        let keyframes = video.iter().filter(|tag| tag.class == VideoClass::Keyframe);
        let [first, second] =
            [0, 1].map(|t| keyframes.clone().filter(move |k| k.tracks.contains(t)));
        assert_eq!((first.count(), second.count()), (3, 3));
        let audio = recorded_tags(session, kind::AUDIO, classify_audio);
        assert_eq!(audio.iter().filter(|tag| tag.tracks.contains(1)).count(), 153);
    }

    #[test]
    fn track_sets_compare_by_inclusion() {
        let set = |ids: &[u8]| {
            let mut tracks = Tracks::NONE;
            ids.iter().for_each(|&id| tracks.insert(id));
            tracks
        };
        assert!(set(&[1, 200]).is_subset_of(&set(&[0, 1, 200])));
        assert!(!set(&[1, 200]).is_subset_of(&set(&[1])));
        assert!(Tracks::NONE.is_subset_of(&Tracks::DEFAULT));
        let ids = [0, 1, 63, 64, 127, 128, 255];
        assert_eq!(set(&ids).iter().collect::<Vec<_>>(), ids);
        assert_eq!((set(&[70, 200]).first(), Tracks::NONE.first()), (Some(70), None));
        assert!(set(&[1, 200]).intersects(&set(&[200])) && !set(&[1]).intersects(&set(&[2])));
        assert_eq!(set(&[1]).union(&set(&[200])), set(&[1, 200]));
    }

    #[test]
    fn each_track_has_its_own_codec_and_body() {
        use VideoCodec as Codec;
        type Expected = (Codec, u8, &'static str);
        let rows: &[(&str, &[Expected])] = &[
            ("17 00 000000 01f4", &[(Codec::Avc, 0, "01f4")]),
            ("27 01 000050 0000", &[(Codec::Avc, 0, "0000")]),
            ("22 000084", &[(Codec::Legacy(2), 0, "000084")]),
            ("57 00", &[]),
            ("90 68766331 0104", &[(Codec::Hevc, 0, "0104")]),
            ("a1 68766331 000050 02", &[(Codec::Hevc, 0, "02")]),
            ("a1 68766331 0000", &[(Codec::Hevc, 0, "")]),
            ("a3 68766331 02", &[(Codec::Hevc, 0, "02")]),
            ("a1 61763031 000050 02", &[(Codec::Av1, 0, "00005002")]),
            ("97 02 000001 00 61763031 81", &[(Codec::Av1, 0, "81")]),
            ("96 00 68766331 07 01", &[(Codec::Hevc, 7, "01")]),
            (
                "96 10 68766331 00 000002 0102 01 000001 03",
                &[(Codec::Hevc, 0, "0102"), (Codec::Hevc, 1, "03")],
            ),
            (
                "96 21 61766331 02 000004 00005001 61763031 ff 000002 0203",
                &[(Codec::Avc, 2, "01"), (Codec::Av1, 255, "0203")],
            ),
            ("96 10 68766331 00 000001 05 01 000010 03", &[(Codec::Hevc, 0, "05")]),
            ("d0 00", &[]),
            ("", &[]),
        ];
        for &(bytes, expected) in rows {
            let (payload, mut tracks) = (hex(bytes), Vec::new());
            for_each_video_track(&payload, |track| tracks.push(track));
            let expected: Vec<_> = expected.iter().map(|row| (row.0, row.1, hex(row.2))).collect();
            let found: Vec<_> = tracks
                .iter()
                .map(|track| (track.codec, track.track, track.body.to_vec()))
                .collect();
            assert_eq!(found, expected, "{bytes}");
        }
        for (bytes, codec, track, body) in [
            ("af 00 1190", AudioCodec::Aac, 0, "1190"),
            ("2f fffb", AudioCodec::Mp3, 0, "fffb"),
            ("b2", AudioCodec::Legacy(11), 0, ""),
            ("90 4f707573 4f70", AudioCodec::Opus, 0, "4f70"),
            ("95 00 6d703461 01 1188", AudioCodec::Aac, 1, "1188"),
        ] {
            let (payload, mut tracks) = (hex(bytes), Vec::new());
            for_each_audio_track(&payload, |track| tracks.push(track));
            let expected = TrackBody { codec, track, body: &hex(body), composition_ms: 0 };
            assert_eq!(tracks, [expected], "{bytes}");
        }
    }

    #[test]
    fn only_codecs_that_reorder_pictures_have_a_composition_time() {
        for (bytes, expected) in [
            ("17 01 000050 0000", 80),
            ("27 01 ffffd8 0000", -40),
            ("2c 01 7fffff 00", 0x7f_ffff),
            ("2c 01 800000 00", -0x80_0000),
            ("a1 68766331 fffffe 02", -2),
            ("a1 68766331 0000", 0),
            ("a3 68766331 000050", 0),
            ("a1 61763031 000050", 0),
            ("96 21 61766331 02 000004 00002101 61763031 ff 000002 0203", 33),
            ("22 000050", 0),
        ] {
            let (payload, mut times) = (hex(bytes), Vec::new());
            for_each_video_track(&payload, |track| times.push(track.composition_ms));
            assert_eq!(times[0], expected, "{bytes}");
            assert!(times[1..].iter().all(|time| *time == 0), "{bytes}");
        }
    }

    #[test]
    fn no_payload_panics() {
        let mut random = Random::new(1);
        for _ in 0..200_000 {
            let length = random.below(24);
            let mut payload: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            if let Some(first) = payload.first_mut() {
                *first |= 0x90;
            }
            let _ = classify_video(&payload);
            let _ = classify_audio(&payload);
        }
    }

    fn recorded_tags<T>(
        session: &str,
        kind: u8,
        classify: fn(&[u8]) -> Result<T, TagError>,
    ) -> Vec<T> {
        recorded_messages(&format!("{session}.client.bin"))
            .iter()
            .filter(|(header, _)| header.kind == kind)
            .map(|(_, payload)| classify(payload).expect("a good recording"))
            .collect()
    }

    fn count<T: Eq + Hash>(items: impl Iterator<Item = T>) -> HashMap<T, usize> {
        let mut counts = HashMap::new();
        items.for_each(|item| *counts.entry(item).or_default() += 1);
        counts
    }

    fn as_map<C: Eq + Hash, T: Eq + Hash>(rows: Vec<(C, T, usize)>) -> HashMap<(C, T), usize> {
        rows.into_iter().map(|(codec, class, count)| ((codec, class), count)).collect()
    }
}
