//! Writes messages as chunks (RTMP 1.0, section 5.3).
//!
//! Owns the wire format of everything this side sends. Every message opens with a type 0 header and
//! an absolute time, so no message depends on an earlier one. The same bytes therefore serve every
//! receiver, and a receiver may start or skip at any message. Messages are never interleaved.
//!
//! Types 1 and 2 are shorter by 4 and 8 bytes a message, and are rejected: each player would need
//! headers of its own, relative to the last message that it got.

use bytes::BufMut;

use super::header::{
    BASIC_HEADER_BYTES_MAX, EXTENDED_BYTES, FORMAT_SHIFT, ID_IN_ONE_BYTE, ID_IN_TWO_BYTES, ID_MAX,
    ID_MIN, LONG_ID_MIN, MESSAGE_HEADER_BYTES, TIMESTAMP_EXTENDED, TWO_BYTE_ID_MIN, TYPE_0, TYPE_3,
};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::rtmp::message::{CONTROL_PAYLOAD_BYTES_MAX, Control, MessageHeader};

/// Chunk stream ids that this side sends on. Every message has a type 0 header, so the ids make no
/// difference to a peer; these are the customary ones.
pub mod chunk_stream {
    /// Protocol control and user control messages (RTMP 1.0, section 5.4).
    pub const CONTROL: u32 = 2;
    /// Commands of the connection.
    pub const COMMAND: u32 = 3;
    /// Audio messages.
    pub const AUDIO: u32 = 4;
    /// `onStatus` and other commands of a message stream.
    pub const STATUS: u32 = 5;
    /// Video messages.
    pub const VIDEO: u32 = 6;
    /// Data messages.
    pub const DATA: u32 = 7;
}

/// Appends one message in chunks of `chunk_size` payload bytes.
///
/// Type 3 chunks repeat the extended timestamp (section 5.3.1.3). ffmpeg skips it there without
/// checking that it is present.
pub fn write_message(
    out: &mut impl BufMut,
    header: MessageHeader,
    payload: &[u8],
    chunk_size: u32,
) {
    debug_assert!(payload.len() <= MESSAGE_BYTES_MAX, "a message length has 24 bits");
    let mut chunks = payload.chunks(chunk_payload_bytes(chunk_size));
    put_basic_header(out, TYPE_0, header.chunk_stream_id);
    put_u24(out, header.timestamp.min(TIMESTAMP_EXTENDED));
    put_u24(out, payload.len() as u32);
    out.put_u8(header.kind);
    // The one little-endian field of the protocol (section 5.3.1.2.1).
    out.put_u32_le(header.message_stream_id);
    put_extended_timestamp(out, header.timestamp);
    out.put_slice(chunks.next().unwrap_or_default());
    for chunk in chunks {
        put_basic_header(out, TYPE_3, header.chunk_stream_id);
        put_extended_timestamp(out, header.timestamp);
        out.put_slice(chunk);
    }
}

/// Appends a control message on chunk stream 2, message stream 0, at time 0 (section 5.4).
pub fn write_control(out: &mut impl BufMut, control: &Control, chunk_size: u32) {
    let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
    let mut room = &mut payload[..];
    control.encode(&mut room);
    let unused = room.len();
    let header = MessageHeader {
        chunk_stream_id: chunk_stream::CONTROL,
        timestamp: 0,
        kind: control.kind(),
        message_stream_id: 0,
    };
    write_message(out, header, &payload[..CONTROL_PAYLOAD_BYTES_MAX - unused], chunk_size);
}

/// Returns the number of bytes that [`write_message`] appends for a payload of `payload_len`
/// bytes.
pub fn wire_len(header: &MessageHeader, payload_len: usize, chunk_size: u32) -> usize {
    let basic = basic_header_bytes(header.chunk_stream_id);
    let extended = if header.timestamp >= TIMESTAMP_EXTENDED { EXTENDED_BYTES } else { 0 };
    let chunks = payload_len.div_ceil(chunk_payload_bytes(chunk_size)).max(1);
    chunks * (basic + extended) + MESSAGE_HEADER_BYTES + payload_len
}

/// Returns the payload bytes per chunk. Zero cannot be announced, so it counts as 1.
fn chunk_payload_bytes(chunk_size: u32) -> usize {
    chunk_size.max(1) as usize
}

const fn basic_header_bytes(chunk_stream_id: u32) -> usize {
    match chunk_stream_id {
        0..LONG_ID_MIN => 1,
        LONG_ID_MIN..TWO_BYTE_ID_MIN => 2,
        _ => BASIC_HEADER_BYTES_MAX,
    }
}

/// Appends a basic header in the shortest of the three forms (section 5.3.1.1).
fn put_basic_header(out: &mut impl BufMut, format: u8, chunk_stream_id: u32) {
    debug_assert!((ID_MIN..=ID_MAX).contains(&chunk_stream_id), "ids outside have no wire form");
    let format = format << FORMAT_SHIFT;
    let [low, high, ..] = chunk_stream_id.wrapping_sub(LONG_ID_MIN).to_le_bytes();
    match basic_header_bytes(chunk_stream_id) {
        1 => out.put_u8(format | chunk_stream_id as u8),
        2 => out.put_slice(&[format | ID_IN_ONE_BYTE, low]),
        _ => out.put_slice(&[format | ID_IN_TWO_BYTES, low, high]),
    }
}

fn put_extended_timestamp(out: &mut impl BufMut, timestamp: u32) {
    if timestamp >= TIMESTAMP_EXTENDED {
        out.put_u32(timestamp);
    }
}

fn put_u24(out: &mut impl BufMut, value: u32) {
    let [_, low @ ..] = value.to_be_bytes();
    out.put_slice(&low);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::message::kind;

    fn header(chunk_stream_id: u32, timestamp: u32) -> MessageHeader {
        MessageHeader { chunk_stream_id, timestamp, kind: kind::VIDEO, message_stream_id: 1 }
    }

    fn write(header: MessageHeader, payload: &[u8], chunk_size: u32) -> Vec<u8> {
        let mut out = Vec::new();
        write_message(&mut out, header, payload, chunk_size);
        assert_eq!(out.len(), wire_len(&header, payload.len(), chunk_size));
        out
    }

    #[test]
    fn ch_01_chunk_stream_ids_take_their_shortest_form() {
        for (id, basic) in [
            (2, &[0x02][..]),
            (63, &[0x3f]),
            (64, &[0x00, 0x00]),
            (319, &[0x00, 0xff]),
            (320, &[0x01, 0x00, 0x01]),
            (65599, &[0x01, 0xff, 0xff]),
        ] {
            let bytes = write(header(id, 0), &[1; 3], 2);
            let message_header = [0, 0, 0, 0, 0, 3, 9, 1, 0, 0, 0];
            let mut type_3 = basic.to_vec();
            type_3[0] |= 0xc0;
            assert_eq!(bytes, [basic, &message_header, &[1, 1], &type_3, &[1]].concat());
        }
    }

    #[test]
    fn ch_03_a_message_of_307_bytes_is_321_on_the_wire() {
        let bytes = write(header(4, 1000), &[7; 307], 128);
        assert_eq!(bytes.len(), 140 + 129 + 52);
        assert_eq!((bytes[140], bytes[269]), (0xc4, 0xc4));
    }

    #[test]
    fn ch_04_whole_multiples_of_the_chunk_size_end_without_an_empty_chunk() {
        for (len, chunks) in [(0, 1), (1, 1), (127, 1), (128, 1), (129, 2), (256, 2), (257, 3)] {
            assert_eq!(write(header(4, 0), &vec![0; len], 128).len(), 11 + chunks + len);
        }
    }

    #[test]
    fn ch_16_time_of_24_ones_takes_the_extended_form() {
        let bytes = write(header(4, 0x00ff_ffff), &[], 128);
        assert_eq!(bytes, [4, 0xff, 0xff, 0xff, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn ch_17_time_below_24_ones_takes_the_plain_form() {
        let bytes = write(header(4, 0x00ff_fffe), &[], 128);
        assert_eq!(bytes, [4, 0xff, 0xff, 0xfe, 0, 0, 0, 9, 1, 0, 0, 0]);
    }

    #[test]
    fn ch_19_extended_timestamp_stands_on_every_type_3_chunk() {
        let bytes = write(header(4, 0x0100_0000), &[0xaa; 200], 128);
        let first = [4, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0, 1, 0, 0, 0];
        let expected = [&first[..], &[0xaa; 128], &[0xc4, 1, 0, 0, 0], &[0xaa; 72]].concat();
        assert_eq!(bytes, expected);
        assert_eq!(bytes.len(), 221);
    }

    #[test]
    fn ch_28_chunk_size_of_one_takes_two_bytes_for_each() {
        assert_eq!(write(header(4, 0), &[7; 5], 1).len(), 12 + 1 + 4 * 2);
        assert_eq!(write(header(4, 0), &[7; 5], 0), write(header(4, 0), &[7; 5], 1));
    }

    #[test]
    fn largest_message_in_the_largest_chunk_is_one_chunk() {
        let payload = vec![0; MESSAGE_BYTES_MAX];
        assert_eq!(write(header(4, 0), &payload, u32::MAX).len(), 12 + MESSAGE_BYTES_MAX);
    }
}
