//! Messages: type ids, the protocol control messages and aggregates (RTMP 1.0, sections 5.4 and 7.1).
//!
//! Owns the byte layout of every message that is not AMF. Never keeps state between messages.

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

/// What every message carries beside its payload (RTMP 1.0, section 6.1.1).
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

/// A whole message whose payload lies in the input or in the reader's assembly buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Timestamp, type and ids.
    pub header: MessageHeader,
    /// The payload, all of it.
    pub payload: &'a [u8],
}
