//! The part of a connection that server and client share after the handshake.
//!
//! [`Inbound`] turns bytes into messages, applies protocol control messages and sends
//! acknowledgements. [`Output`] collects the bytes to be sent. Neither knows what a command means.

use super::chunk::reader::{ChunkError, ChunkReader, ReadLimits};
use super::chunk::writer::{chunk_stream, write_control, write_message};
use super::message::{Control, ControlError, Message, MessageHeader, UserControl, kind};
use super::quirks::{Quirk, Tolerated};
use crate::limits;
use std::fmt;

/// Bytes to be sent to the peer: whole chunks, in order.
#[derive(Debug)]
pub struct Output {
    bytes: Vec<u8>,
    chunk_size: u32,
    /// Replies written since the output was last empty.
    replies: u16,
}

impl Default for Output {
    fn default() -> Self {
        Self { bytes: Vec::new(), chunk_size: limits::CHUNK_SIZE_INITIAL, replies: 0 }
    }
}

impl Output {
    /// Returns the bytes to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns true if there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the allocated memory (bytes).
    pub const fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Removes the first `count` bytes, which have been sent. An empty output holds no memory.
    pub fn written(&mut self, count: usize) {
        if count >= self.bytes.len() {
            drop(self.take());
        } else {
            self.bytes.drain(..count);
        }
    }

    /// Takes all bytes to be sent, together with their buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.replies = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Uses `buffer` for the next bytes, if the output holds no buffer yet. So a loop that serves
    /// many connections needs one buffer: it lends the result of [`Output::take`] to the next one.
    pub fn lend(&mut self, buffer: &mut Vec<u8>) {
        if self.bytes.capacity() == 0 {
            std::mem::swap(&mut self.bytes, buffer);
            self.bytes.clear();
        }
    }

    /// Returns the chunk size of the next message (bytes).
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Announces a chunk size and uses it from the next message on (RTMP 1.0, section 5.4.1).
    pub(crate) fn set_chunk_size(&mut self, size: u32) {
        self.control(Control::SetChunkSize(size));
        self.chunk_size = size;
    }

    /// Appends a protocol control or user control message.
    pub(super) fn control(&mut self, control: Control) {
        write_control(&mut self.bytes, &control, self.chunk_size);
    }

    /// Appends an automatic reply to a control message. At most [`limits::REPLIES_WAITING_MAX`]
    /// replies wait at a time. So a peer that sends pings and reads nothing costs bounded memory.
    pub(super) fn reply(&mut self, control: Control) {
        if self.bytes.is_empty() {
            self.replies = 0;
        }
        if self.replies < limits::REPLIES_WAITING_MAX {
            self.replies += 1;
            self.control(control);
        }
    }

    /// Appends a user control message.
    pub(crate) fn user_control(&mut self, event: UserControl) {
        self.control(Control::UserControl(event));
    }

    /// Appends a command. `body` writes its AMF0 payload.
    pub(super) fn command(&mut self, message_stream_id: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let chunk_stream_id =
            if message_stream_id == 0 { chunk_stream::COMMAND } else { chunk_stream::STATUS };
        self.body(chunk_stream_id, kind::COMMAND_AMF0, message_stream_id, body);
    }

    /// Appends a data message. `body` writes its AMF0 payload.
    pub(super) fn data(&mut self, message_stream_id: u32, body: impl FnOnce(&mut Vec<u8>)) {
        self.body(chunk_stream::DATA, kind::DATA_AMF0, message_stream_id, body);
    }

    /// Appends any message.
    pub(super) fn message(&mut self, header: MessageHeader, payload: &[u8]) {
        write_message(&mut self.bytes, header, payload, self.chunk_size);
    }

    /// Returns the buffer itself, for the bytes of the handshake, which are not chunks.
    pub(super) const fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn body(
        &mut self,
        chunk_stream_id: u32,
        kind: u8,
        message_stream_id: u32,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut payload = Vec::new();
        body(&mut payload);
        self.message(
            MessageHeader { chunk_stream_id, timestamp: 0, kind, message_stream_id },
            &payload,
        );
    }
}

/// An error in the received bytes that ends the connection.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The chunks are malformed or exceed their limits.
    Chunk(ChunkError),
    /// A protocol control message is malformed.
    Control(ControlError),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<ChunkError> for LinkError {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl From<ControlError> for LinkError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

/// A received message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming<'a> {
    /// A control message, which has been applied.
    Control(Control),
    /// A control message with too few bytes, which is ignored. Some cameras send them.
    Malformed,
    /// Any other message.
    Message(Message<'a>),
}

/// A change to the reader that a control message asks for. It is applied by the next call, because
/// until then the message just returned may borrow the reader's buffer.
#[derive(Clone, Copy, Debug)]
enum Change {
    ChunkSize(u32),
    Abort(u32),
}

/// The receiving side of a connection: chunk reader, control messages, acknowledgements.
#[derive(Debug)]
pub struct Inbound {
    reader: ChunkReader,
    change: Option<Change>,
    /// Bytes received since the handshake. The wire carries this number modulo 2^32.
    received: u64,
    /// Sequence number in the last acknowledgement sent (bytes, modulo 2^32).
    acknowledged: u32,
    window_bytes: u32,
}

const _: () = assert!(size_of::<Inbound>() <= 64);

impl Inbound {
    /// Creates the receiving side at the start of the chunk stream. `window_bytes` is the
    /// acknowledgement window until the peer sends its own.
    pub fn new(window_bytes: u32) -> Self {
        Self {
            reader: ChunkReader::new(),
            change: None,
            received: 0,
            acknowledged: 0,
            window_bytes,
        }
    }

    /// Consumes `input` up to and including the next message. Returns `None` when `input` is used
    /// up. Consumed bytes are overwritten (see [`ChunkReader::next_message`]).
    ///
    /// Writes the replies to pings to `output`, and counts quirks in `tolerated`. An
    /// acknowledgement is only written when the input is used up. So there is at most one for each
    /// read, however small the peer's window is.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i mut [u8],
        limits: &ReadLimits,
        output: &mut Output,
        tolerated: &mut Tolerated,
    ) -> Result<Option<Incoming<'s>>, LinkError> {
        match self.change.take() {
            Some(Change::ChunkSize(size)) => self.reader.set_chunk_size(size),
            Some(Change::Abort(chunk_stream_id)) => self.reader.abort(chunk_stream_id),
            None => {}
        }
        let before = input.len();
        let message = self.reader.next_message(input, limits, tolerated)?;
        self.received += (before - input.len()) as u64;
        let Some(message) = message else {
            acknowledge(self.received, &mut self.acknowledged, self.window_bytes, output);
            return Ok(None);
        };
        let control = match Control::parse(message.header.kind, message.payload) {
            Ok(Some(control)) => control,
            Ok(None) => return Ok(Some(Incoming::Message(message))),
            // An unreadable chunk size is fatal: no later chunk boundary can be found.
            Err(ControlError::Short { kind, .. }) if kind != kind::SET_CHUNK_SIZE => {
                tolerated.note(Quirk::MalformedMessage);
                return Ok(Some(Incoming::Malformed));
            }
            Err(error) => return Err(error.into()),
        };
        if message.header.chunk_stream_id != chunk_stream::CONTROL {
            tolerated.note(Quirk::ControlElsewhere);
        }
        match control {
            Control::SetChunkSize(size) => self.change = Some(Change::ChunkSize(size)),
            Control::Abort(chunk_stream_id) => self.change = Some(Change::Abort(chunk_stream_id)),
            Control::WindowAckSize(0) => {}
            Control::WindowAckSize(window) => {
                self.window_bytes = window.max(limits::WINDOW_ACK_BYTES_MIN);
            }
            Control::UserControl(UserControl::PingRequest(millis)) => {
                output.reply(Control::UserControl(UserControl::PingResponse(millis)));
            }
            Control::UserControl(UserControl::Unknown(_)) => {
                tolerated.note(Quirk::UnknownUserControl);
            }
            _ => {}
        }
        Ok(Some(Incoming::Control(control)))
    }

    /// Acknowledges what was received, if enough was.
    pub(super) fn end_input(&mut self, output: &mut Output) {
        acknowledge(self.received, &mut self.acknowledged, self.window_bytes, output);
    }

    /// Returns the number of bytes received since the handshake.
    pub const fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Returns the chunk reader, for accounting.
    pub const fn reader(&self) -> &ChunkReader {
        &self.reader
    }

    /// Frees the spare assembly buffers, which only a publisher needs.
    pub fn release(&mut self) {
        self.reader.release();
    }
}

/// Writes an Acknowledgement when half a window has arrived since the last one (RTMP 1.0,
/// section 5.4.3).
///
/// While older output waits, no acknowledgement is added. OBS never reads once it publishes, so a
/// queue of acknowledgements would grow for hours; only the newest number matters.
fn acknowledge(received: u64, acknowledged: &mut u32, window_bytes: u32, output: &mut Output) {
    // The field is 32 bits wide and wraps; the truncation is the definition.
    let received = received as u32;
    if received.wrapping_sub(*acknowledged) < window_bytes / 2 || !output.is_empty() {
        return;
    }
    *acknowledged = received;
    output.control(Control::Acknowledgement(received));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The acknowledgement that is written after `received` bytes in total.
    fn acknowledgement(received: u64, acknowledged: u32, window_bytes: u32) -> Option<Control> {
        let (mut output, mut acknowledged) = (Output::default(), acknowledged);
        acknowledge(received, &mut acknowledged, window_bytes, &mut output);
        let payload = output.bytes().get(12..)?;
        Control::parse(kind::ACKNOWLEDGEMENT, payload).unwrap()
    }

    #[test]
    fn control_messages_keep_to_a_chunk_size_below_their_own() {
        let mut output = Output::default();
        output.set_chunk_size(3);
        output.user_control(UserControl::PingRequest(0x3039));
        let mut expected = vec![0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 3];
        expected.extend([0x02, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0xc2, 0, 0x30, 0x39]);
        assert_eq!(output.bytes(), expected);
    }

    #[test]
    fn ch_38_half_a_window_is_acknowledged_with_the_bytes_so_far() {
        assert_eq!(acknowledgement(499, 0, 1000), None);
        assert_eq!(acknowledgement(500, 0, 1000), Some(Control::Acknowledgement(500)));
        assert_eq!(acknowledgement(900, 500, 1000), None);
    }

    #[test]
    fn ch_41_an_acknowledgement_past_4_gib_wraps() {
        let received = (1 << 32) + 0x10;
        assert_eq!(
            acknowledgement(received, 0xffff_ff00, 256),
            Some(Control::Acknowledgement(0x10))
        );
    }

    #[test]
    fn cm_34_a_peer_that_does_not_read_is_owed_one_acknowledgement() {
        let (mut output, mut acknowledged) = (Output::default(), 0);
        for received in (0..1_000_000).step_by(1000) {
            acknowledge(received, &mut acknowledged, 1000, &mut output);
        }
        assert_eq!(output.bytes().len(), 16);
    }

    #[test]
    fn ch_32_a_chunk_size_holds_from_the_next_chunk_on_every_chunk_stream() {
        // A 200-byte audio message in chunks of 128 and 72, with Set Chunk Size 64 between
        // them: the rest comes as 64 and 8.
        let mut bytes = vec![0x04, 0, 0, 0, 0, 0, 200, 8, 1, 0, 0, 0];
        bytes.extend([1; 128]);
        bytes.extend([0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 64]);
        bytes.push(0xc4);
        bytes.extend([2; 64]);
        bytes.push(0xc4);
        bytes.extend([3; 8]);
        let (mut inbound, mut output) = (Inbound::new(1 << 20), Output::default());
        let (mut input, mut tolerated) = (&mut bytes[..], Tolerated::default());
        let limits = ReadLimits::default();
        let first = inbound.next(&mut input, &limits, &mut output, &mut tolerated).unwrap();
        assert!(matches!(first, Some(Incoming::Control(Control::SetChunkSize(64)))));
        let Some(Incoming::Message(message)) =
            inbound.next(&mut input, &limits, &mut output, &mut tolerated).unwrap()
        else {
            panic!("expected the audio message");
        };
        assert_eq!(message.payload, [[1; 128].as_slice(), &[2; 64], &[3; 8]].concat());
    }

    #[test]
    fn ch_33_short_control_messages_are_passed_over_but_a_chunk_size_is_not() {
        let limits = ReadLimits::default();
        for (kind, fatal) in [(1, true), (2, false), (3, false), (5, false), (6, false)] {
            let mut bytes = [0x02, 0, 0, 0, 0, 0, 1, kind, 0, 0, 0, 0, 9];
            let (mut inbound, mut output) = (Inbound::new(1 << 20), Output::default());
            let mut tolerated = Tolerated::default();
            let result = inbound.next(&mut &mut bytes[..], &limits, &mut output, &mut tolerated);
            assert_eq!(result.is_err(), fatal, "message type {kind}");
            assert!(fatal || matches!(result, Ok(Some(Incoming::Malformed))));
        }
    }

    #[test]
    fn uc_01_a_ping_is_answered_with_its_own_bytes() {
        let mut ping = [0x02, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0x30, 0x39];
        let (mut inbound, mut output) = (Inbound::new(1 << 20), Output::default());
        let limits = ReadLimits::default();
        inbound.next(&mut &mut ping[..], &limits, &mut output, &mut Tolerated::default()).unwrap();
        assert_eq!(output.bytes()[12..], [0, 7, 0, 0, 0x30, 0x39]);
    }

    #[test]
    fn a_peer_that_pings_and_reads_nothing_is_owed_a_bounded_number_of_answers() {
        let (mut output, pong) = (Output::default(), UserControl::PingResponse(1));
        let most = usize::from(limits::REPLIES_WAITING_MAX);
        for _ in 0..2 * most {
            output.reply(Control::UserControl(pong));
        }
        let one = output.bytes().len() / most;
        assert_eq!(output.bytes().len(), one * most);
        output.written(one);
        output.reply(Control::UserControl(pong));
        assert_eq!(output.bytes().len(), one * (most - 1), "it has not read all");
        output.written(usize::MAX);
        output.reply(Control::UserControl(pong));
        assert_eq!(output.bytes().len(), one);
    }

    #[test]
    fn lent_memory_is_used_and_given_back() {
        let (mut output, mut spare) = (Output::default(), vec![9; 4096]);
        output.lend(&mut spare);
        output.user_control(UserControl::PingRequest(1));
        output.lend(&mut vec![9; 100]);
        assert_eq!((spare.capacity(), output.bytes().len()), (0, 18));
        assert_eq!(output.take().capacity(), 4096);
    }

    #[test]
    fn ch_39_a_window_of_0_is_ignored_and_a_tiny_one_raised() {
        for (window, expected) in [(0_u32, 5000), (1, 1024), (0xffff_ffff, 0xffff_ffff)] {
            let mut bytes = vec![0x02, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0];
            bytes.extend(window.to_be_bytes());
            let (mut inbound, mut output) = (Inbound::new(5000), Output::default());
            let (limits, mut tolerated) = (ReadLimits::default(), Tolerated::default());
            inbound.next(&mut &mut bytes[..], &limits, &mut output, &mut tolerated).unwrap();
            assert_eq!(inbound.window_bytes, expected);
        }
    }
}
