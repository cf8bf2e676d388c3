//! What is spoken over a connection: RTMP, frames behind their length, or nothing at all.
//!
//! Owns the choice between them, made once for each connection, and how one is read and written.
//! It never touches a socket and judges nothing.

use std::fmt;

use super::connection::ConnectionPhase;
use crate::limits;
use crate::rtmp::client::{Client, ClientError, ClientEvent};
use crate::rtmp::command::Status;
use crate::rtmp::message::{Control, Message};

/// The protocol of one connection, with its state.
#[derive(Debug)]
pub enum Wire {
    /// Nothing is said, and what arrives is passed over.
    Silent,
    /// RTMP, as a client.
    Rtmp(Client),
    /// Frames behind their length.
    Framed(Framed),
}

/// What arrived, borrowed from where it lies.
#[derive(Debug)]
pub enum WireEvent<'a> {
    /// The server has let the connection come this far.
    Phase(ConnectionPhase),
    /// Audio, video, data or an aggregate of them.
    Media(Message<'a>),
    /// A frame behind its length.
    Frame(&'a [u8]),
    /// The server refused what was asked for.
    Refused(Status<'a>),
    /// A status that decides nothing.
    Status(Status<'a>),
    /// The stream that is played has ended.
    StreamEof,
    /// The server has so many bytes of what was sent to it; the number wraps.
    Acknowledged(u32),
    /// What needs nothing done.
    Other,
}

/// Why what arrives cannot be followed.
#[derive(Debug)]
pub enum WireError {
    /// See [`ClientError`].
    Rtmp(ClientError),
    /// A frame is longer than [`limits::MESSAGE_BYTES_MAX`].
    FrameTooLong {
        /// The length that it gives.
        bytes: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(error) => error.fmt(f),
            Self::FrameTooLong { bytes } => {
                let max = limits::MESSAGE_BYTES_MAX;
                write!(f, "a frame of {bytes} bytes, expected {max} at most")
            }
        }
    }
}

impl Wire {
    /// Takes bytes from the front of `input` up to the end of the next message and says what it
    /// is; `None` when `input` is used up.
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
            Self::Framed(framed) => Ok(framed.next(input)?.map(WireEvent::Frame)),
        }
    }

    /// What waits to be written.
    pub(super) fn output(&self) -> &[u8] {
        match self {
            Self::Silent => &[],
            Self::Rtmp(client) => client.output().bytes(),
            Self::Framed(framed) => &framed.output,
        }
    }

    /// Takes `count` bytes as written.
    pub(super) fn written(&mut self, count: usize) {
        match self {
            Self::Silent => {}
            Self::Rtmp(client) if count < client.output().bytes().len() => {
                client.output_mut().written(count);
            }
            Self::Rtmp(client) => {
                // Only to be taken back by `reclaim`.
                let mut buffer = client.take_output();
                client.output_mut().lend(&mut buffer);
            }
            Self::Framed(framed) => drop(framed.output.drain(..count)),
        }
    }

    /// Lends `buffer` to what is written next.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        match self {
            Self::Silent => {}
            Self::Rtmp(client) => client.output_mut().lend(buffer),
            Self::Framed(framed) if framed.output.capacity() == 0 => {
                std::mem::swap(&mut framed.output, buffer);
                framed.output.clear();
            }
            Self::Framed(_) => {}
        }
    }

    /// Takes the memory of an output in which nothing waits.
    pub(super) fn reclaim(&mut self) -> Vec<u8> {
        match self {
            Self::Rtmp(client) if client.output().is_empty() => client.take_output(),
            Self::Framed(framed) if framed.output.is_empty() => std::mem::take(&mut framed.output),
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

/// Frames behind their length of four bytes, the highest first: what a relay that knows no
/// protocol is driven with.
#[derive(Debug, Default)]
pub struct Framed {
    /// The beginning of a frame whose end is still to come, with its length.
    partial: Vec<u8>,
    /// The frame that the last call returned lay in `partial`.
    delivered: bool,
    output: Vec<u8>,
}

impl Framed {
    /// Before every frame.
    pub(super) const LENGTH_BYTES: usize = 4;

    /// Appends one frame to what is to be sent.
    pub fn write(&mut self, frame: &[u8]) {
        self.output.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.output.extend_from_slice(frame);
    }

    fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<&'a [u8]>, WireError> {
        let frame = self.next_with_length(input)?;
        Ok(frame.map(|frame| &frame[Self::LENGTH_BYTES..]))
    }

    /// Takes bytes from the front of `input` up to the end of the next frame and returns it with
    /// its length: where it lies, if it is whole in `input`.
    pub(super) fn next_with_length<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<&'a [u8]>, WireError> {
        if std::mem::take(&mut self.delivered) {
            self.partial.clear();
        }
        if self.partial.is_empty() {
            if let Some(frame) = take_whole_frame(input)? {
                return Ok(Some(frame));
            }
            self.partial.extend_from_slice(input);
            *input = &mut [];
            return Ok(None);
        }
        self.fill(Self::LENGTH_BYTES, input);
        let Some(bytes) = bytes_with_length(&self.partial)? else { return Ok(None) };
        self.fill(bytes, input);
        if self.partial.len() < bytes {
            return Ok(None);
        }
        self.delivered = true;
        Ok(Some(&self.partial))
    }

    fn fill(&mut self, bytes: usize, input: &mut &mut [u8]) {
        let missing = bytes.saturating_sub(self.partial.len()).min(input.len());
        self.partial.extend_from_slice(input.split_off_mut(..missing).unwrap_or_default());
    }
}

fn take_whole_frame<'i>(input: &mut &'i mut [u8]) -> Result<Option<&'i [u8]>, WireError> {
    let bytes = bytes_with_length(input)?;
    Ok(bytes.and_then(|bytes| input.split_off_mut(..bytes)).map(|frame| &*frame))
}

/// How long a frame is together with its length, which it begins with.
fn bytes_with_length(frame: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(length) = frame.first_chunk() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > limits::MESSAGE_BYTES_MAX {
        return Err(WireError::FrameTooLong { bytes });
    }
    Ok(Some(Framed::LENGTH_BYTES + bytes))
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
        assert!(framed.partial.capacity() < 100);
    }
}
