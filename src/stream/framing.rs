//! The messages of a tape on the message stream that a player has chosen.
//!
//! A tape holds each message once, as chunks on message stream [`MESSAGE_STREAM_ID`]. A player on
//! another message stream gets the same chunks with a patched first header. No other byte of a
//! message depends on its message stream.

use bytes::Bytes;

/// The message stream on which a tape holds its messages: nearly every player plays on the first
/// stream that it creates.
pub const MESSAGE_STREAM_ID: u32 = 1;

/// Length of the basic header and the message header of type 0 on a tape (bytes): chunk stream ids
/// are below 64. An extended timestamp follows and is the same for all players.
pub(crate) const HEAD_BYTES: usize = 12;
/// Where the message stream id stands in it, little-endian (RTMP 1.0, section 5.3.1.2.1).
const STREAM_ID_AT: usize = 8;
/// Where the message length stands in it.
const LENGTH_AT: usize = 4;

/// The first header of a message, with another message stream.
pub(crate) type Head = [u8; HEAD_BYTES];

/// The header with which the message `wire` of a tape begins for a player on `message_stream_id`;
/// `None` if it begins as it stands on the tape.
pub(crate) fn head(wire: &[u8], message_stream_id: u32) -> Option<Head> {
    if message_stream_id == MESSAGE_STREAM_ID {
        return None;
    }
    let mut head = *wire.first_chunk::<HEAD_BYTES>()?;
    head[STREAM_ID_AT..].copy_from_slice(&message_stream_id.to_le_bytes());
    Some(head)
}

/// Several messages of a tape, such as the headers that a newcomer gets, for a player on
/// `message_stream_id`; `None` if they go as they stand. They are our own chunks, so walking them
/// needs no checks against a peer.
pub(crate) fn addressed(wire: &[u8], message_stream_id: u32, chunk_size: u32) -> Option<Vec<u8>> {
    head(wire, message_stream_id)?;
    let mut copy = wire.to_vec();
    let mut at = 0;
    while let Some(head) = copy.get(at..).and_then(|wire| head(wire, message_stream_id)) {
        copy[at..at + HEAD_BYTES].copy_from_slice(&head);
        let extended_len = if head[1..LENGTH_AT] == [0xff; 3] { 4 } else { 0 };
        let length = u32::from_be_bytes([0, head[LENGTH_AT], head[5], head[6]]);
        let continuations = length.saturating_sub(1) / chunk_size;
        at += HEAD_BYTES + extended_len + length as usize;
        at += continuations as usize * (1 + extended_len);
    }
    Some(copy)
}

/// The rest of a message that was sent in part. It shares the memory of the tape.
#[derive(Debug, Default)]
pub struct HalfSent {
    /// The patched header, of which the last `head_left` bytes go first.
    head: Head,
    head_left: u8,
    rest: Bytes,
}

impl HalfSent {
    /// What is left of the message `wire` of a tape for a player on `message_stream_id` after its
    /// first `sent` bytes.
    pub(crate) fn new(wire: &Bytes, message_stream_id: u32, sent: usize) -> Self {
        match head(wire, message_stream_id) {
            Some(head) if sent < HEAD_BYTES => Self {
                head,
                // No more than `HEAD_BYTES`.
                head_left: (HEAD_BYTES - sent) as u8,
                rest: wire.slice(HEAD_BYTES..),
            },
            _ => Self { rest: wire.slice(sent..), ..Self::default() },
        }
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        usize::from(self.head_left) + self.rest.len()
    }

    /// Returns whether no bytes are left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is left of the patched header.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[HEAD_BYTES - usize::from(self.head_left)..]
    }

    /// What is left of the bytes that stand on the tape.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Takes up to `written` bytes as sent. Returns how many were its own.
    pub(crate) fn advance(&mut self, written: usize) -> usize {
        let of_head = written.min(usize::from(self.head_left));
        self.head_left -= of_head as u8;
        let of_rest = (written - of_head).min(self.rest.len());
        bytes::Buf::advance(&mut self.rest, of_rest);
        if self.rest.is_empty() {
            // An empty slice would hold its block of the tape.
            self.rest = Bytes::new();
        }
        of_head + of_rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::chunk::writer::write_message;
    use crate::rtmp::message::{MessageHeader, kind};

    const CHUNK_SIZE: u32 = 128;
    const HEADER: MessageHeader = MessageHeader {
        chunk_stream_id: 6,
        timestamp: 40,
        kind: kind::VIDEO,
        message_stream_id: MESSAGE_STREAM_ID,
    };
    /// Lengths and timestamps with and without continuations and extended timestamps.
    const MESSAGES: [(usize, u32); 6] =
        [(0, 0), (1, 0xff_fffe), (127, 40), (128, 0xff_ffff), (129, 40), (1000, u32::MAX)];

    fn encode(message_stream_id: u32, messages: &[(usize, u32)]) -> Bytes {
        let mut wire = Vec::new();
        for (len, timestamp) in messages {
            let header = MessageHeader { timestamp: *timestamp, message_stream_id, ..HEADER };
            write_message(&mut wire, header, &vec![0xc6; *len], CHUNK_SIZE);
        }
        Bytes::from(wire)
    }

    #[test]
    fn addressed_bytes_are_those_that_would_have_been_written_for_the_message_stream() {
        for id in [1, 2, 0x0102_0304, u32::MAX] {
            let addressed = addressed(&encode(1, &MESSAGES), id, CHUNK_SIZE);
            let expected = (id != 1).then(|| encode(id, &MESSAGES).to_vec());
            assert_eq!(addressed, expected, "id {id}");
        }
    }

    #[test]
    fn the_rest_of_a_message_follows_what_was_sent_wherever_it_was_cut() {
        for id in [1, 7] {
            for message in MESSAGES {
                let (on_tape, expected) = (encode(1, &[message]), encode(id, &[message]));
                for sent in 0..=expected.len() {
                    let mut half_sent = HalfSent::new(&on_tape, id, sent);
                    assert_eq!(half_sent.len(), expected.len() - sent);
                    let rest = [half_sent.head(), half_sent.rest()].concat();
                    assert_eq!(rest, expected[sent..], "{sent} bytes of {message:?} on {id}");
                    assert_eq!(half_sent.advance(5), rest.len().min(5));
                    let rest_later = [half_sent.head(), half_sent.rest()].concat();
                    assert_eq!(rest_later, rest[rest.len().min(5)..]);
                }
            }
        }
    }
}
