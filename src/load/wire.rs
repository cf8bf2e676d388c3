//! The protocol of a connection: RTMP, HTTP-FLV, length-prefixed frames, or none.
//!
//! Owns the choice between them, made once per connection, and reading and writing of each. It
//! touches no socket and judges nothing.

use std::{fmt, mem};

use super::assembler::{Assembler, UnitPlace};
use super::connection::ConnectionPhase;
use super::http_flv::HttpFlv;
use crate::limits;
use crate::rtmp::client::{Client, ClientError, ClientEvent};
use crate::rtmp::command::Status;
use crate::rtmp::message::{Control, Message};

/// The protocol of one connection, with its state.
#[derive(Debug)]
pub enum Wire {
    /// Sends nothing and discards what arrives.
    Silent,
    /// RTMP, as a client.
    Rtmp(Client),
    /// HTTP-FLV, as a player.
    HttpFlv(HttpFlv),
    /// Length-prefixed frames.
    Framed(Framed),
}

/// An event of the protocol, borrowed from the input.
#[derive(Debug)]
pub enum WireEvent<'a> {
    /// The server has let the connection reach this phase.
    Phase(ConnectionPhase),
    /// Audio, video, data or an aggregate of them.
    Media(Message<'a>),
    /// A length-prefixed frame.
    Frame(&'a [u8]),
    /// The server refused the request.
    Refused(Status<'a>),
    /// A status message that changes nothing.
    Status(Status<'a>),
    /// The stream that is played has ended.
    StreamEof,
    /// The number of bytes that the server acknowledges; wraps at 2^32.
    Acknowledged(u32),
    /// An event that requires no action.
    Other,
}

/// Reason why the input cannot be parsed.
#[derive(Debug)]
pub enum WireError {
    /// See [`ClientError`].
    Rtmp(ClientError),
    /// A frame is longer than [`limits::MESSAGE_BYTES_MAX`].
    FrameTooLong {
        /// The length given in the frame.
        bytes: usize,
    },
    /// The server answered a request over HTTP with another status than 200.
    HttpStatus {
        /// The status code.
        status: u16,
        /// The reason phrase, which may be empty.
        reason: String,
    },
    /// A response over HTTP is not one that can be played.
    MalformedHttp {
        /// The fault.
        what: &'static str,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(error) => error.fmt(f),
            Self::FrameTooLong { bytes } => {
                let max = limits::MESSAGE_BYTES_MAX;
                write!(f, "got a frame of {bytes} bytes, expected at most {max}")
            }
            Self::HttpStatus { status, reason } => {
                write!(f, "got HTTP status {status} {reason}, expected 200")
            }
            Self::MalformedHttp { what } => write!(f, "the HTTP response is malformed: {what}"),
        }
    }
}

impl Wire {
    /// Takes bytes from the front of `input` up to the end of the next message and returns its
    /// event. Returns `None` when `input` is used up.
    pub(super) fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<WireEvent<'a>>, WireError> {
        match self {
            Self::Silent => {
                *input = &mut [];
                Ok(None)
            }
            Self::Rtmp(client) => {
                let event = client.next_event(input).map_err(WireError::Rtmp)?;
                Ok(event.map(WireEvent::from))
            }
            Self::HttpFlv(player) => player.next(input),
            Self::Framed(framed) => Ok(framed.next(input)?.map(WireEvent::Frame)),
        }
    }

    /// Returns the output that is waiting to be written.
    pub(super) fn output(&self) -> &[u8] {
        match self {
            Self::Silent => &[],
            Self::Rtmp(client) => client.output().bytes(),
            Self::HttpFlv(player) => &player.output,
            Self::Framed(framed) => &framed.output,
        }
    }

    /// Marks `count` bytes of output as written.
    pub(super) fn written(&mut self, count: usize) {
        match self {
            Self::Silent => {}
            Self::Rtmp(client) if count < client.output().bytes().len() => {
                client.output_mut().written(count);
            }
            Self::Rtmp(client) => {
                // Keep the memory in place; `reclaim` takes it.
                let mut buffer = client.take_output();
                client.output_mut().lend(&mut buffer);
            }
            Self::HttpFlv(player) => drop(player.output.drain(..count)),
            Self::Framed(framed) => drop(framed.output.drain(..count)),
        }
    }

    /// Lends `buffer` to the output that is written next.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        match self {
            Self::Silent | Self::HttpFlv(_) => {}
            Self::Rtmp(client) => client.output_mut().lend(buffer),
            Self::Framed(framed) if framed.output.capacity() == 0 => {
                mem::swap(&mut framed.output, buffer);
                framed.output.clear();
            }
            Self::Framed(_) => {}
        }
    }

    /// Takes the memory of an empty output.
    pub(super) fn reclaim(&mut self) -> Vec<u8> {
        match self {
            Self::Rtmp(client) if client.output().is_empty() => client.take_output(),
            Self::HttpFlv(player) if player.output.is_empty() => mem::take(&mut player.output),
            Self::Framed(framed) if framed.output.is_empty() => mem::take(&mut framed.output),
            _ => Vec::new(),
        }
    }
}

impl<'a> From<ClientEvent<'a>> for WireEvent<'a> {
    fn from(event: ClientEvent<'a>) -> Self {
        match event {
            ClientEvent::HandshakeDone => Self::Phase(ConnectionPhase::Handshake),
            ClientEvent::Connected => Self::Phase(ConnectionPhase::Connect),
            ClientEvent::StreamCreated { .. } => Self::Phase(ConnectionPhase::Stream),
            ClientEvent::Publishing => Self::Phase(ConnectionPhase::Publish),
            ClientEvent::Playing => Self::Phase(ConnectionPhase::Play),
            ClientEvent::Media(message) => Self::Media(message),
            ClientEvent::Refused(status) => Self::Refused(status),
            ClientEvent::Status(status) => Self::Status(status),
            ClientEvent::StreamEof { .. } => Self::StreamEof,
            ClientEvent::Control(Control::Acknowledgement(bytes)) => Self::Acknowledged(bytes),
            ClientEvent::Control(_) | ClientEvent::Malformed | ClientEvent::Other(_) => Self::Other,
        }
    }
}

/// Length-prefixed frames: four bytes of length, big-endian, then the frame. For relays that do not
/// speak RTMP.
#[derive(Debug, Default)]
pub struct Framed {
    frames: Assembler,
    output: Vec<u8>,
}

impl Framed {
    /// Size of the length prefix.
    pub(super) const LENGTH_BYTES: usize = 4;

    /// Appends a frame to the output.
    pub fn write(&mut self, frame: &[u8]) {
        self.output.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.output.extend_from_slice(frame);
    }

    fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<&'a [u8]>, WireError> {
        let frame = self.next_unit(input)?;
        Ok(frame.map(|frame| &self.bytes(frame)[Self::LENGTH_BYTES..]))
    }

    /// Takes bytes from the front of `input` up to the end of the next frame and returns it with
    /// its length. A frame that is whole in `input` is not copied.
    pub(super) fn next_unit<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<UnitPlace<'i>>, WireError> {
        self.frames.next(input, usize::MAX, Self::LENGTH_BYTES, bytes_with_length)
    }

    /// Returns the bytes of the frame that was returned last.
    pub(super) fn bytes<'a, 'i: 'a>(&'a self, unit: UnitPlace<'i>) -> &'a [u8] {
        unit.bytes(&self.frames)
    }
}

/// Returns the length of a frame including its length prefix.
fn bytes_with_length(frame: &[u8]) -> Result<usize, WireError> {
    let length = frame.first_chunk().copied().unwrap_or_default();
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > limits::MESSAGE_BYTES_MAX {
        return Err(WireError::FrameTooLong { bytes });
    }
    Ok(Framed::LENGTH_BYTES + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Random;

    fn frames(framed: &mut Framed, input: &[u8]) -> Vec<Vec<u8>> {
        let mut input = &mut input.to_vec()[..];
        let mut frames = Vec::new();
        while let Some(frame) = framed.next(&mut input).expect("frames of our own") {
            frames.push(frame.to_vec());
        }
        assert!(input.is_empty(), "all of the input is taken");
        frames
    }

    #[test]
    fn frames_come_back_whole_at_any_split() {
        let sent: Vec<Vec<u8>> =
            [0, 1, 3, 4, 5, 200, 0, 70_000].iter().map(|&bytes| vec![bytes as u8; bytes]).collect();
        let mut writer = Framed::default();
        sent.iter().for_each(|frame| writer.write(frame));
        let wire = writer.output;
        assert_eq!(wire[..9], [0, 0, 0, 0, 0, 0, 0, 1, 1]);
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let longest = 1 << (1 + random.below(17));
            let (mut framed, mut left, mut received) = (Framed::default(), &wire[..], Vec::new());
            while !left.is_empty() {
                let (now, later) = left.split_at((1 + random.below(longest)).min(left.len()));
                received.extend(frames(&mut framed, now));
                left = later;
            }
            assert!(received == sent, "seed {seed}");
        }
    }

    #[test]
    fn a_frame_beyond_the_bound_is_an_error_and_takes_no_memory() {
        let mut framed = Framed::default();
        let mut input: &mut [u8] = &mut [1, 0, 0, 0, 9];
        assert!(matches!(
            framed.next(&mut input),
            Err(WireError::FrameTooLong { bytes: 0x0100_0000 })
        ));
        let mut input: &mut [u8] = &mut [0, 0xff, 0xff, 0xff, 9];
        assert!(matches!(framed.next(&mut input), Ok(None)));
        assert!(framed.frames.capacity() < 100);
    }
}
