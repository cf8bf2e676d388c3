//! Messages: type ids, protocol control messages and aggregates (RTMP 1.0, sections 5.4 and 7.1).
//!
//! Owns the byte layout of every message that is not AMF. It keeps no state between messages, and
//! never decides what a message means for the connection.

use std::error::Error;
use std::fmt;

use crate::limits;
use bytes::BufMut;

/// Message type ids (RTMP 1.0, sections 5.4 and 7.1), named as the specification names them.
pub mod kind {
    /// Set Chunk Size, section 5.4.1.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message, section 5.4.2.
    pub const ABORT: u8 = 2;
    /// Acknowledgement, section 5.4.3.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control, section 6.2.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size, section 5.4.4.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth, section 5.4.5.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio, section 7.1.4.
    pub const AUDIO: u8 = 8;
    /// Video, section 7.1.5.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3, section 7.1.2.
    pub const DATA_AMF3: u8 = 15;
    /// Shared object in AMF3, section 7.1.3.
    pub const SHARED_OBJECT_AMF3: u8 = 16;
    /// Command in AMF3, section 7.1.1.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0, section 7.1.2.
    pub const DATA_AMF0: u8 = 18;
    /// Shared object in AMF0, section 7.1.3.
    pub const SHARED_OBJECT_AMF0: u8 = 19;
    /// Command in AMF0, section 7.1.1.
    pub const COMMAND_AMF0: u8 = 20;
    /// Aggregate, section 7.1.6.
    pub const AGGREGATE: u8 = 22;
}

/// The header of a message (RTMP 1.0, section 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// Chunk stream that carried it, 2 to 65599.
    pub chunk_stream_id: u32,
    /// Absolute time in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// Message type id, one of [`kind`] or unknown.
    pub kind: u8,
    /// Message stream id: 0 for the connection itself.
    pub message_stream_id: u32,
}

/// A complete message. Its payload lies in the input or in the reader's assembly buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Timestamp, type and ids.
    pub header: MessageHeader,
    /// The complete payload.
    pub payload: &'a [u8],
}

/// A decoded protocol control message or user control message.
///
/// Peers send them on any chunk stream and any message stream, so both ids are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Chunk size of the sender from the next chunk on, 1 to 0x7fffffff.
    SetChunkSize(u32),
    /// Chunk stream whose unfinished message the receiver drops.
    Abort(u32),
    /// Bytes the sender has received so far, modulo 2^32.
    Acknowledgement(u32),
    /// A user control event, section 6.2.
    UserControl(UserControl),
    /// Bytes after which the sender of this message expects an acknowledgement.
    WindowAckSize(u32),
    /// Bytes that the receiver of this message may send without an acknowledgement.
    SetPeerBandwidth {
        /// The window in bytes.
        window: u32,
        /// How the receiver applies the window.
        limit: BandwidthLimit,
    },
}

/// Limit type of Set Peer Bandwidth (RTMP 1.0, section 5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandwidthLimit {
    /// The receiver uses this window.
    Hard,
    /// The receiver uses the smaller of this window and the one in force.
    Soft,
    /// The same as hard if the last limit was hard; otherwise the receiver ignores it.
    Dynamic,
    /// A value that the specification does not define.
    Other(u8),
}

/// A user control event (RTMP 1.0, section 7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserControl {
    /// The message stream is usable.
    StreamBegin(u32),
    /// Playback of the message stream is over.
    StreamEof(u32),
    /// The message stream has no data to send at the moment.
    StreamDry(u32),
    /// The length of the player's buffer.
    SetBufferLength {
        /// The message stream of the play.
        message_stream_id: u32,
        /// The buffer in milliseconds of media.
        buffer_ms: u32,
    },
    /// The message stream is a recording.
    StreamIsRecorded(u32),
    /// The receiver answers with a [`UserControl::PingResponse`] of the same value.
    PingRequest(u32),
    /// Answers a [`UserControl::PingRequest`].
    PingResponse(u32),
    /// Any other event, or one whose data is too short. The receiver ignores it.
    Unknown(u16),
}

/// An error in a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// A chunk size of zero would never carry a payload byte.
    ChunkSizeZero,
    /// The top bit of a chunk size must be zero (RTMP 1.0, section 5.4.1).
    ChunkSizeTopBit(u32),
    /// The payload is shorter than its fields.
    Short {
        /// Message type id.
        kind: u8,
        /// Length of the fields (bytes).
        expected: usize,
        /// Length of the payload (bytes).
        got: usize,
    },
}

impl Control {
    /// Decodes a message of type 1 to 6.
    ///
    /// Returns `Ok(None)` for every other type, and for a user control message that is too short
    /// for an event type. Bytes after the fields are ignored.
    pub fn parse(kind: u8, payload: &[u8]) -> Result<Option<Self>, ControlError> {
        let u32_field =
            || be_u32(payload).ok_or(ControlError::Short { kind, expected: 4, got: payload.len() });
        Ok(Some(match kind {
            kind::SET_CHUNK_SIZE => Self::SetChunkSize(valid_chunk_size(u32_field()?)?),
            kind::ABORT => Self::Abort(u32_field()?),
            kind::ACKNOWLEDGEMENT => Self::Acknowledgement(u32_field()?),
            kind::USER_CONTROL => {
                return Ok(UserControl::parse(payload).map(Self::UserControl));
            }
            kind::WINDOW_ACK_SIZE => Self::WindowAckSize(u32_field()?),
            kind::SET_PEER_BANDWIDTH => Self::SetPeerBandwidth {
                window: u32_field()?,
                limit: BandwidthLimit::parse(payload.get(4).copied()),
            },
            _ => return Ok(None),
        }))
    }

    /// Returns the message type id, one of [`kind`].
    pub const fn kind(&self) -> u8 {
        match self {
            Self::SetChunkSize(_) => kind::SET_CHUNK_SIZE,
            Self::Abort(_) => kind::ABORT,
            Self::Acknowledgement(_) => kind::ACKNOWLEDGEMENT,
            Self::UserControl(_) => kind::USER_CONTROL,
            Self::WindowAckSize(_) => kind::WINDOW_ACK_SIZE,
            Self::SetPeerBandwidth { .. } => kind::SET_PEER_BANDWIDTH,
        }
    }

    /// Appends the payload, at most [`CONTROL_PAYLOAD_BYTES_MAX`] bytes.
    pub fn encode(&self, out: &mut impl BufMut) {
        match *self {
            Self::SetChunkSize(value)
            | Self::Abort(value)
            | Self::Acknowledgement(value)
            | Self::WindowAckSize(value) => out.put_u32(value),
            Self::UserControl(event) => event.encode(out),
            Self::SetPeerBandwidth { window, limit } => {
                out.put_u32(window);
                out.put_u8(limit.to_byte());
            }
        }
    }
}

impl BandwidthLimit {
    /// Parses the limit type. Some peers leave the byte out. It then counts as dynamic, which
    /// nearly all other peers send.
    fn parse(byte: Option<u8>) -> Self {
        match byte {
            Some(0) => Self::Hard,
            Some(1) => Self::Soft,
            Some(2) | None => Self::Dynamic,
            Some(other) => Self::Other(other),
        }
    }

    const fn to_byte(self) -> u8 {
        match self {
            Self::Hard => 0,
            Self::Soft => 1,
            Self::Dynamic => 2,
            Self::Other(byte) => byte,
        }
    }
}

/// Event types of user control messages (RTMP 1.0, section 7.1.7).
mod event {
    pub(super) const STREAM_BEGIN: u16 = 0;
    pub(super) const STREAM_EOF: u16 = 1;
    pub(super) const STREAM_DRY: u16 = 2;
    pub(super) const SET_BUFFER_LENGTH: u16 = 3;
    pub(super) const STREAM_IS_RECORDED: u16 = 4;
    pub(super) const PING_REQUEST: u16 = 6;
    pub(super) const PING_RESPONSE: u16 = 7;
}

impl UserControl {
    fn parse(payload: &[u8]) -> Option<Self> {
        let (event, data) = payload.split_first_chunk()?;
        let event = u16::from_be_bytes(*event);
        Some(Self::parse_data(event, data).unwrap_or(Self::Unknown(event)))
    }

    fn parse_data(event: u16, data: &[u8]) -> Option<Self> {
        let value = be_u32(data)?;
        Some(match event {
            event::STREAM_BEGIN => Self::StreamBegin(value),
            event::STREAM_EOF => Self::StreamEof(value),
            event::STREAM_DRY => Self::StreamDry(value),
            event::SET_BUFFER_LENGTH => Self::SetBufferLength {
                message_stream_id: value,
                buffer_ms: be_u32(data.get(4..)?)?,
            },
            event::STREAM_IS_RECORDED => Self::StreamIsRecorded(value),
            event::PING_REQUEST => Self::PingRequest(value),
            event::PING_RESPONSE => Self::PingResponse(value),
            _ => return None,
        })
    }

    fn encode(self, out: &mut impl BufMut) {
        let (event, value) = match self {
            Self::StreamBegin(id) => (event::STREAM_BEGIN, id),
            Self::StreamEof(id) => (event::STREAM_EOF, id),
            Self::StreamDry(id) => (event::STREAM_DRY, id),
            Self::SetBufferLength { message_stream_id, .. } => {
                (event::SET_BUFFER_LENGTH, message_stream_id)
            }
            Self::StreamIsRecorded(id) => (event::STREAM_IS_RECORDED, id),
            Self::PingRequest(value) => (event::PING_REQUEST, value),
            Self::PingResponse(value) => (event::PING_RESPONSE, value),
            Self::Unknown(event) => return out.put_u16(event),
        };
        out.put_u16(event);
        out.put_u32(value);
        if let Self::SetBufferLength { buffer_ms, .. } = self {
            out.put_u32(buffer_ms);
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChunkSizeZero => write!(f, "the peer set a chunk size of 0 bytes"),
            Self::ChunkSizeTopBit(size) => {
                write!(f, "the peer set a chunk size of {size:#010x}, the top bit must be zero")
            }
            Self::Short { kind, expected, got } => {
                write!(f, "control message of type {kind} has {got} bytes, expected {expected}")
            }
        }
    }
}

impl Error for ControlError {}

/// Iterator over the messages in an aggregate (RTMP 1.0, section 7.1.6). It copies no payload.
///
/// Times are rebased: the first part gets the time of the aggregate, and the others keep their
/// distance to it. Message stream and chunk stream are those of the aggregate. Only audio, video
/// and data are returned; other parts, such as a nested aggregate, are skipped.
///
/// The iterator ends at the first malformed part; the parts before it are valid. The parts after
/// the first [`limits::AGGREGATE_PARTS_MAX`] count as malformed, because 8 MiB can hold half a
/// million of them.
#[derive(Clone, Debug)]
pub struct AggregateParts<'a> {
    header: MessageHeader,
    rest: &'a [u8],
    /// Added to the time of each part (ms, modulo 2^32); known when the first part is read.
    offset: Option<u32>,
    /// Number of parts that may still be read.
    left: usize,
    passed_over: usize,
    malformed: bool,
}

impl<'a> AggregateParts<'a> {
    /// Creates an iterator over `aggregate`, a message of type [`kind::AGGREGATE`].
    pub const fn new(aggregate: Message<'a>) -> Self {
        Self {
            header: aggregate.header,
            rest: aggregate.payload,
            offset: None,
            left: limits::AGGREGATE_PARTS_MAX,
            passed_over: 0,
            malformed: false,
        }
    }

    /// Returns the id of the message stream of all parts.
    pub const fn message_stream_id(&self) -> u32 {
        self.header.message_stream_id
    }

    /// Returns true if a part exceeded the body, or if there were too many parts.
    pub const fn malformed(&self) -> bool {
        self.malformed
    }

    /// Returns the number of parts that were skipped because of their type.
    pub const fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// Takes one part and its back pointer off the body.
    fn take_part(&mut self) -> Option<Message<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (part_header, rest) = self.rest.split_first_chunk::<PART_HEADER_BYTES>()?;
        let [kind, size @ .., t1, t2, t3, t0, _, _, _] = *part_header;
        let [s1, s2, s3] = size;
        let (payload, rest) = rest.split_at_checked(u32::from_be_bytes([0, s1, s2, s3]) as usize)?;
        // Neither the value of a back pointer nor its presence after the last part is reliable. So
        // the value is ignored, and a missing one is accepted.
        self.rest = rest.get(BACK_POINTER_BYTES..).unwrap_or_default();

        // The time is laid out as in FLV: the low 24 bits first, then the high byte. The drawing in
        // section 7.1.6 differs.
        let part_time = u32::from_be_bytes([t0, t1, t2, t3]);
        let aggregate_time = self.header.timestamp;
        let offset = *self.offset.get_or_insert_with(|| aggregate_time.wrapping_sub(part_time));
        let timestamp = part_time.wrapping_add(offset);
        Some(Message { header: MessageHeader { timestamp, kind, ..self.header }, payload })
    }
}

impl<'a> Iterator for AggregateParts<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        while !self.rest.is_empty() {
            let Some(part) = self.take_part() else {
                self.malformed = true;
                self.rest = &[];
                break;
            };
            if matches!(
                part.header.kind,
                kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3
            ) {
                return Some(part);
            }
            self.passed_over += 1;
        }
        None
    }
}

/// Length of a part's header (bytes): type 1, size 3, time 4, stream id 3.
const PART_HEADER_BYTES: usize = 11;
/// Length of the back pointer, which repeats the length of its part (bytes).
const BACK_POINTER_BYTES: usize = 4;
/// Length of the longest control message payload, that of SetBufferLength (bytes).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 10;

const fn valid_chunk_size(size: u32) -> Result<u32, ControlError> {
    match size {
        0 => Err(ControlError::ChunkSizeZero),
        1..=0x7fff_ffff => Ok(size),
        _ => Err(ControlError::ChunkSizeTopBit(size)),
    }
}

fn be_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|field| u32::from_be_bytes(*field))
}

#[cfg(test)]
pub(in crate::rtmp) mod tests {
    use super::*;
    use crate::limits::CHUNK_SIZE_INITIAL;
    use crate::rtmp::chunk::writer::write_control;

    fn chunk(control: Control) -> Vec<u8> {
        let mut out = Vec::new();
        write_control(&mut out, &control, CHUNK_SIZE_INITIAL);
        out
    }

    /// Parses the hex digits in `text`; everything else in it is ignored.
    pub(in crate::rtmp) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn control_messages_are_written_and_read_as_on_the_wire() {
        let event = Control::UserControl;
        let window = 2_500_000;
        let limit = BandwidthLimit::Dynamic;
        let buffer = UserControl::SetBufferLength { message_stream_id: 1, buffer_ms: 3000 };
        let vectors = [
            (Control::SetChunkSize(4096), "02 000000 000004 01 00000000 00001000"),
            (Control::SetChunkSize(60000), "02 000000 000004 01 00000000 0000ea60"),
            (Control::WindowAckSize(window), "02 000000 000004 05 00000000 002625a0"),
            (
                Control::SetPeerBandwidth { window, limit },
                "02 000000 000005 06 00000000 002625a0 02",
            ),
            (Control::Acknowledgement(1_048_576), "02 000000 000004 03 00000000 00100000"),
            (Control::Abort(6), "02 000000 000004 02 00000000 00000006"),
            (event(UserControl::StreamBegin(0)), "02 000000 000006 04 00000000 0000 00000000"),
            (event(UserControl::StreamBegin(1)), "02 000000 000006 04 00000000 0000 00000001"),
            (event(UserControl::StreamEof(1)), "02 000000 000006 04 00000000 0001 00000001"),
            (event(UserControl::StreamDry(1)), "02 000000 000006 04 00000000 0002 00000001"),
            (event(buffer), "02 000000 00000a 04 00000000 0003 00000001 00000bb8"),
            (event(UserControl::StreamIsRecorded(1)), "02 000000 000006 04 00000000 0004 00000001"),
            (event(UserControl::PingRequest(12345)), "02 000000 000006 04 00000000 0006 00003039"),
            (event(UserControl::PingResponse(12345)), "02 000000 000006 04 00000000 0007 00003039"),
        ];
        for (control, text) in vectors {
            let bytes = hex(text);
            assert_eq!(chunk(control), bytes, "{control:?}");
            assert_eq!(Control::parse(bytes[7], &bytes[12..]), Ok(Some(control)), "{text}");
        }
    }

    #[test]
    fn ch_29_chunk_size_of_31_bits_is_accepted() {
        for size in [1, 128, 0x00ff_ffff, 0x7fff_ffff_u32] {
            assert_eq!(
                Control::parse(kind::SET_CHUNK_SIZE, &size.to_be_bytes()),
                Ok(Some(Control::SetChunkSize(size)))
            );
        }
    }

    #[test]
    fn ch_30_chunk_size_zero_is_refused() {
        let parsed = Control::parse(kind::SET_CHUNK_SIZE, &[0; 4]);
        assert_eq!(parsed, Err(ControlError::ChunkSizeZero));
    }

    #[test]
    fn ch_31_chunk_size_with_top_bit_is_refused() {
        for size in [0x8000_0000, 0x8000_0001, u32::MAX] {
            let parsed = Control::parse(kind::SET_CHUNK_SIZE, &size.to_be_bytes());
            assert_eq!(parsed, Err(ControlError::ChunkSizeTopBit(size)));
        }
        assert_eq!(
            ControlError::ChunkSizeTopBit(0x8000_0001).to_string(),
            "the peer set a chunk size of 0x80000001, the top bit must be zero"
        );
    }

    #[test]
    fn ch_33_short_control_messages_are_named() {
        for kind in [1, 2, 3, 5, 6] {
            for got in 0..4 {
                assert_eq!(
                    Control::parse(kind, &[0; 4][..got]),
                    Err(ControlError::Short { kind, expected: 4, got })
                );
            }
        }
    }

    #[test]
    fn ch_42_acknowledgement_takes_any_value() {
        for value in [0, 1, u32::MAX] {
            assert_eq!(
                Control::parse(kind::ACKNOWLEDGEMENT, &value.to_be_bytes()),
                Ok(Some(Control::Acknowledgement(value)))
            );
        }
    }

    #[test]
    fn ch_43_peer_bandwidth_without_limit_or_with_an_unknown_one_is_tolerated() {
        for (payload, limit) in [
            ("00000400", BandwidthLimit::Dynamic),
            ("00000400 00", BandwidthLimit::Hard),
            ("00000400 01", BandwidthLimit::Soft),
            ("00000400 03", BandwidthLimit::Other(3)),
        ] {
            assert_eq!(
                Control::parse(kind::SET_PEER_BANDWIDTH, &hex(payload)),
                Ok(Some(Control::SetPeerBandwidth { window: 1024, limit }))
            );
        }
    }

    #[test]
    fn ch_45_other_types_are_not_control_messages() {
        for kind in [0, 7, 8, 9, 10, 18, 20, 21, 22, 200] {
            assert_eq!(Control::parse(kind, &[0; 8]), Ok(None));
        }
    }

    #[test]
    fn uc_01_ping_request_carries_the_value_to_echo() {
        let ping = Control::parse(kind::USER_CONTROL, &hex("0006 00003039"));
        assert_eq!(ping, Ok(Some(Control::UserControl(UserControl::PingRequest(12345)))));
        let longer = Control::parse(kind::USER_CONTROL, &hex("0006 00003039 ffff"));
        assert_eq!(longer, ping);
    }

    #[test]
    fn uc_03_unknown_events_and_short_bodies_are_no_errors() {
        for event in [5, 9, 26, 31, 32, 999_u16] {
            for data in ["", "00000001"] {
                let body = [event.to_be_bytes().to_vec(), hex(data)].concat();
                assert_eq!(
                    Control::parse(kind::USER_CONTROL, &body),
                    Ok(Some(Control::UserControl(UserControl::Unknown(event))))
                );
            }
        }
        for body in [&[][..], &[0]] {
            assert_eq!(Control::parse(kind::USER_CONTROL, body), Ok(None));
        }
    }

    #[test]
    fn uc_04_buffer_length_needs_both_fields() {
        assert_eq!(
            Control::parse(kind::USER_CONTROL, &hex("0003 00000001 00000bb8")),
            Ok(Some(Control::UserControl(UserControl::SetBufferLength {
                message_stream_id: 1,
                buffer_ms: 3000
            })))
        );
        for short in ["0003 00000001", "0003 00000001 00000b"] {
            assert_eq!(
                Control::parse(kind::USER_CONTROL, &hex(short)),
                Ok(Some(Control::UserControl(UserControl::Unknown(3))))
            );
        }
    }

    const TWO_TAGS: &str = "08 000003 0003e8 00 000000 af0121 0000000e \
                            09 000006 0003fc 00 000000 2701000000aa 00000011";

    /// Kind, time and payload of every part, and whether the body was malformed.
    fn parts(timestamp: u32, body: &[u8]) -> (Vec<(u8, u32, Vec<u8>)>, bool) {
        let header = MessageHeader {
            chunk_stream_id: 6,
            timestamp,
            kind: kind::AGGREGATE,
            message_stream_id: 1,
        };
        let mut parts = AggregateParts::new(Message { header, payload: body });
        let mut found = Vec::new();
        for part in parts.by_ref() {
            assert_eq!((part.header.chunk_stream_id, part.header.message_stream_id), (6, 1));
            found.push((part.header.kind, part.header.timestamp, part.payload.to_vec()));
        }
        assert!(parts.next().is_none());
        (found, parts.malformed())
    }

    #[test]
    fn ag_01_parts_are_rebased_on_the_time_of_the_aggregate() {
        let expected =
            vec![(kind::AUDIO, 5000, hex("af0121")), (kind::VIDEO, 5020, hex("2701000000aa"))];
        assert_eq!(parts(5000, &hex(TWO_TAGS)), (expected, false));
    }

    #[test]
    fn ag_02_malformed_tail_keeps_what_was_parsed() {
        let body = hex(TWO_TAGS);
        for len in 0..=body.len() {
            let (found, malformed) = parts(5000, &body[..len]);
            let (count, whole) = match len {
                0 => (0, true),
                1..14 => (0, false),
                14..=18 => (1, true),
                19..35 => (1, false),
                _ => (2, true),
            };
            assert_eq!((found.len(), malformed), (count, !whole), "{len} bytes");
        }
        let beyond = hex("08 ffffff 0003e8 00 000000 af0121 0000000e");
        assert_eq!(parts(0, &beyond), (vec![], true));
        assert_eq!(parts(0, &[8; 5]), (vec![], true));
    }

    #[test]
    fn an_aggregate_has_a_bounded_number_of_parts_those_passed_over_among_them() {
        const AUDIO: &str = "08 000001 000000 00 000000 af 0000000c";
        const UNKNOWN: &str = "63 000000 000000 00 000000 0000000b";
        for (passed_over, audio, malformed) in [
            (limits::AGGREGATE_PARTS_MAX - 1, 1, false),
            (limits::AGGREGATE_PARTS_MAX, 0, true),
            (100_000, 0, true),
        ] {
            let body = [hex(UNKNOWN).repeat(passed_over), hex(AUDIO)].concat();
            let (found, is_malformed) = parts(0, &body);
            assert_eq!((found.len(), is_malformed), (audio, malformed), "{passed_over}");
        }
        let body = hex(AUDIO).repeat(limits::AGGREGATE_PARTS_MAX);
        assert_eq!(parts(0, &body).0.len(), limits::AGGREGATE_PARTS_MAX);
        assert!(!parts(0, &body).1 && parts(0, &[body, hex(AUDIO)].concat()).1);
    }

    #[test]
    fn ag_02_wrong_back_pointer_is_ignored() {
        let body = hex("08 000001 000000 00 000000 af ffffffff 08 000001 000005 00 000000 af");
        let expected = vec![(kind::AUDIO, 7, vec![0xaf]), (kind::AUDIO, 12, vec![0xaf])];
        assert_eq!(parts(7, &body), (expected, false));
    }

    #[test]
    fn ag_03_times_over_24_bits_are_rebased() {
        let body = hex("08 000001 fffff0 00 000000 af 0000000c \
                        08 000001 000010 01 000000 af 0000000c \
                        08 000001 ffffff ff 000000 af 0000000c");
        let times: Vec<u32> = parts(100, &body).0.iter().map(|part| part.1).collect();
        assert_eq!(times, [100, 132, 100_u32.wrapping_sub(0x00ff_fff1)]);
        let wrapped: Vec<u32> = parts(u32::MAX, &body).0.iter().map(|part| part.1).collect();
        assert_eq!(wrapped[..2], [u32::MAX, 31]);
    }

    #[test]
    fn nested_aggregate_and_other_types_are_passed_over() {
        let body = hex("16 000001 000000 00 000000 aa 0000000c \
                        14 000001 000000 00 000000 aa 0000000c \
                        12 000001 000002 00 000000 aa 0000000c");
        assert_eq!(parts(0, &body), (vec![(kind::DATA_AMF0, 2, vec![0xaa])], false));
    }
}
