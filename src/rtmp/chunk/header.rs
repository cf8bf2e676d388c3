//! Chunk headers, and the state that each chunk stream keeps between them (RTMP 1.0, section
//! 5.3.1).
//!
//! Headers are parsed in place, in the input, and applied to the state of their chunk stream. This
//! module never touches a payload and never decides whether a message is allowed.

use super::partial::NO_ASSEMBLY;
use crate::limits::CHUNK_HEADER_BYTES_MAX;
use crate::rtmp::message::MessageHeader;

/// The value of a timestamp field that announces an extended timestamp (section 5.3.1.3).
pub(super) const TIMESTAMP_EXTENDED: u32 = 0x00ff_ffff;
/// Largest type 0 timestamp that a directly following type 3 header repeats as a delta (ms).
pub(super) const TYPE_0_DELTA_MS_MAX: u32 = 1000;

/// A delta above this is a step back, because timestamps are compared modulo 2^32 (section
/// 5.3.1.3).
pub(super) const BACKWARD_DELTA_ABOVE: u32 = 1 << 31;

/// Position of the format in the first byte of a basic header. The six bits below it are a chunk
/// stream id or one of the two markers below (section 5.3.1.1).
pub(super) const FORMAT_SHIFT: u32 = 6;
const ID_MASK: u8 = 0x3f;
/// Marker in place of an id: the next byte is the id minus [`LONG_ID_MIN`].
pub(super) const ID_IN_ONE_BYTE: u8 = 0;
/// Marker in place of an id: the next two bytes, little-endian, are the id minus [`LONG_ID_MIN`].
pub(super) const ID_IN_TWO_BYTES: u8 = 1;
/// Smallest id that fits a one-byte basic header. Control messages use this id.
pub(super) const ID_MIN: u32 = 2;
/// Smallest id that needs a two-byte basic header.
pub(super) const LONG_ID_MIN: u32 = 64;
/// Smallest id that needs a three-byte basic header.
pub(super) const TWO_BYTE_ID_MIN: u32 = LONG_ID_MIN + 256;
/// Largest id (section 5.3.1.1).
pub(super) const ID_MAX: u32 = LONG_ID_MIN + u16::MAX as u32;

/// Length of the longest basic header (bytes).
pub(super) const BASIC_HEADER_BYTES_MAX: usize = 3;
/// Length of a type 0 message header (bytes): timestamp 3, length 3, type id 1, message stream
/// id 4 (section 5.3.1.2.1).
pub(super) const MESSAGE_HEADER_BYTES: usize = 11;
/// Length of an extended timestamp (bytes; section 5.3.1.3).
pub(super) const EXTENDED_BYTES: usize = 4;

const _: () = assert!(
    BASIC_HEADER_BYTES_MAX + MESSAGE_HEADER_BYTES + EXTENDED_BYTES == CHUNK_HEADER_BYTES_MAX
);

/// The header has every field (section 5.3.1.2.1).
pub(super) const TYPE_0: u8 = 0;
/// The header has every field except the message stream id (section 5.3.1.2.2).
pub(super) const TYPE_1: u8 = 1;
/// The header has only a timestamp delta (section 5.3.1.2.3).
pub(super) const TYPE_2: u8 = 2;
/// The header has no field (section 5.3.1.2.4).
pub(super) const TYPE_3: u8 = 3;

const _: () = assert!(size_of::<ChunkStream>() <= 32);

/// State of one chunk stream: the header fields that later headers inherit (section 5.3.1.2), and
/// the progress of its unfinished message.
#[derive(Debug)]
pub(super) struct ChunkStream {
    pub(super) id: u32,
    /// Absolute time of the current message, or of the last one (ms).
    pub(super) timestamp: u32,
    /// Delta that a type 3 header adds to `timestamp` when it begins a message (ms).
    pub(super) delta: u32,
    /// Last extended timestamp field, as received. Valid only if `has_extended` is true.
    pub(super) extended: u32,
    /// Declared payload length of the current message, or of the last one (bytes).
    pub(super) length: u32,
    pub(super) message_stream_id: u32,
    /// Payload bytes of the current message that have not arrived yet; zero between messages.
    pub(super) remaining: u32,
    pub(super) kind: u8,
    /// Index of the assembly that collects the payload, or [`NO_ASSEMBLY`].
    pub(super) assembly: u8,
    /// True if the last header of type 0, 1 or 2 had an extended timestamp.
    pub(super) has_extended: bool,
    /// True if the last message began with a type 0 header.
    pub(super) after_type_0: bool,
}

impl ChunkStream {
    pub(super) const fn new(id: u32) -> Self {
        Self {
            id,
            timestamp: 0,
            delta: 0,
            extended: 0,
            length: 0,
            message_stream_id: 0,
            remaining: 0,
            kind: 0,
            assembly: NO_ASSEMBLY,
            has_extended: false,
            after_type_0: false,
        }
    }

    pub(super) const fn message_header(&self) -> MessageHeader {
        MessageHeader {
            chunk_stream_id: self.id,
            timestamp: self.timestamp,
            kind: self.kind,
            message_stream_id: self.message_stream_id,
        }
    }

    /// Returns true if a chunk with this header continues the unfinished message.
    ///
    /// Some encoders send type 1 and 2 headers within a message. Such a header begins a new message
    /// only if its length or type differs.
    pub(super) const fn continues_with(&self, header: &ChunkHeader) -> bool {
        let fields = &header.fields;
        self.remaining > 0
            && match header.format {
                TYPE_0 => false,
                TYPE_1 => fields.length == self.length && fields.kind == self.kind,
                _ => true,
            }
    }

    /// Updates time, length, type and message stream for a message that begins with `header`
    /// (section 5.3.1.2).
    ///
    /// Times are added modulo 2^32: old OBS writes a step back as a delta of nearly 2^32.
    pub(super) const fn begin_message(&mut self, header: &ChunkHeader) {
        let fields = &header.fields;
        match header.format {
            TYPE_0 => {
                self.timestamp = fields.time;
                // By the specification, a type 3 header after this one adds the timestamp itself
                // (section 5.3.1.2.4), but nginx-rtmp and old OBS mean "same time". A timestamp of
                // more than a second is hardly a frame interval, and adding an absolute time by
                // mistake is the worse error. So only a small timestamp becomes the delta.
                self.delta = if fields.time <= TYPE_0_DELTA_MS_MAX { fields.time } else { 0 };
                self.message_stream_id = fields.message_stream_id;
            }
            TYPE_1 | TYPE_2 => {
                self.delta = fields.time;
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            _ => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        self.length = fields.length;
        self.kind = fields.kind;
        self.after_type_0 = header.format == TYPE_0;
        self.note_extended(header);
    }

    pub(super) const fn note_extended(&mut self, header: &ChunkHeader) {
        if header.format == TYPE_3 {
            return;
        }
        self.has_extended = matches!(header.fields.extended, Extended::Present);
        self.extended = header.fields.time;
    }

    /// Decides whether the bytes after a type 3 basic header repeat the extended timestamp.
    ///
    /// Section 5.3.1.3 requires it, but librtmp and many encoders leave it out. So the bytes are
    /// compared with both values that it may have: the last field as received, and the absolute
    /// time. The first byte that differs from both makes them payload. Returns `None` if fewer than
    /// four bytes have arrived and all of them agree. A payload that happens to start with these
    /// four bytes is misread; that is one random chunk in 2^32.
    pub(super) fn sniff_extended(&self, bytes: &[u8]) -> Option<Extended> {
        if !self.has_extended {
            return Some(Extended::Absent);
        }
        let agrees = |value: u32| value.to_be_bytes().iter().zip(bytes).all(|(a, b)| a == b);
        if !agrees(self.extended) && !agrees(self.timestamp) {
            return Some(Extended::Omitted);
        }
        (bytes.len() >= EXTENDED_BYTES).then_some(Extended::Present)
    }
}

/// Presence of an extended timestamp in a chunk header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    Absent,
    Present,
    /// The specification requires it, and the peer left it out.
    Omitted,
}

/// A complete chunk header.
pub(super) struct ChunkHeader {
    pub(super) format: u8,
    pub(super) chunk_stream_id: u32,
    /// Index of the chunk stream, if it has been seen before.
    pub(super) known: Option<u8>,
    pub(super) fields: MessageFields,
    /// Length of the header (bytes).
    pub(super) bytes: usize,
}

/// The fields of a message header. Fields that the type leaves out are copied from the chunk
/// stream.
pub(super) struct MessageFields {
    /// Timestamp of type 0, delta of types 1 and 2, unused in type 3.
    pub(super) time: u32,
    pub(super) extended: Extended,
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) message_stream_id: u32,
}

/// Parses a basic header (section 5.3.1.1). Returns the format, the chunk stream id and the
/// remaining bytes, or `None` if the header is incomplete.
pub(super) fn parse_basic_header(bytes: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let format = first >> FORMAT_SHIFT;
    match first & ID_MASK {
        ID_IN_ONE_BYTE => {
            let (&low, rest) = rest.split_first()?;
            Some((format, LONG_ID_MIN + u32::from(low), rest))
        }
        ID_IN_TWO_BYTES => {
            let (id, rest) = rest.split_first_chunk()?;
            Some((format, LONG_ID_MIN + u32::from(u16::from_le_bytes(*id)), rest))
        }
        id => Some((format, u32::from(id), rest)),
    }
}

/// Parses a message header (sections 5.3.1.2 and 5.3.1.3). Returns the fields and the remaining
/// bytes, or `None` if the header is incomplete.
pub(super) fn parse_message_header<'b>(
    format: u8,
    stream: Option<&ChunkStream>,
    bytes: &'b [u8],
) -> Option<(MessageFields, &'b [u8])> {
    let mut fields = MessageFields {
        time: 0,
        extended: Extended::Absent,
        length: stream.map_or(0, |stream| stream.length),
        kind: stream.map_or(0, |stream| stream.kind),
        message_stream_id: stream.map_or(0, |stream| stream.message_stream_id),
    };
    if format == TYPE_3 {
        fields.extended = stream.map_or(Some(Extended::Absent), |s| s.sniff_extended(bytes))?;
        let repeated = if fields.extended == Extended::Present { EXTENDED_BYTES } else { 0 };
        return Some((fields, bytes.get(repeated..)?));
    }
    let (time, mut rest) = split_u24(bytes)?;
    fields.time = time;
    if format <= TYPE_1 {
        (fields.length, rest) = split_u24(rest)?;
        let (&kind, after) = rest.split_first()?;
        (fields.kind, rest) = (kind, after);
    }
    if format == TYPE_0 {
        let (id, after) = rest.split_first_chunk()?;
        // The one little-endian field of the protocol (section 5.3.1.2.1).
        (fields.message_stream_id, rest) = (u32::from_le_bytes(*id), after);
    }
    if time == TIMESTAMP_EXTENDED {
        let (extended, after) = rest.split_first_chunk()?;
        (fields.time, rest) = (u32::from_be_bytes(*extended), after);
        fields.extended = Extended::Present;
    }
    Some((fields, rest))
}

pub(super) fn split_u24(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (&[a, b, c], rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes([0, a, b, c]), rest))
}
