//! One connection of the generator: a socket, its protocol, and its phase.
//!
//! Owns the input and output of one connection: reading until the kernel has no more, passing on
//! events, and writing pending output. [`engine`](super::engine) decides when to do that, and the
//! scenario what the events mean.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::net::sockopt;

use super::wire::{Wire, WireError, WireEvent};
use crate::limits;
use crate::rtmp::client::Client;
use crate::rtmp::command::Status;
pub use crate::rtmp::message::Message;
use crate::text::Escaped;
use crate::time::Time;

/// Phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionPhase {
    /// The SYN is on its way.
    Opening,
    /// TCP has connected.
    Tcp,
    /// S2 has been read.
    Handshake,
    /// `connect` was accepted.
    Connect,
    /// `createStream` was answered.
    Stream,
    /// `publish` was accepted.
    Publish,
    /// `play` was accepted.
    Play,
}

impl ConnectionPhase {
    /// Returns the name of the phase and of its figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Tcp => "tcp",
            Self::Handshake => "handshake",
            Self::Connect => "connect",
            Self::Stream => "stream",
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }
}

/// Unique key of a connection. The key of a closed connection is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A socket with its protocol and state.
#[derive(Debug)]
pub struct Connection<C> {
    /// State that the scenario keeps for the connection.
    pub data: C,
    pub(super) head: ConnectionHead,
    wire: Wire,
    socket: TcpStream,
    /// Bytes that may still be read, if reading is limited.
    allowance: Option<usize>,
}

/// State of a connection apart from its buffers.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionHead {
    /// The key of the connection.
    pub id: ConnectionKey,
    /// Intended time of opening.
    pub intended: Time,
    /// The current phase.
    pub phase: ConnectionPhase,
    /// Time when the connection reached the phase.
    pub phase_at: Time,
    /// The phase that the connection is to reach.
    pub goal: ConnectionPhase,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    pub(super) flags: Flags,
}

/// Readiness and pending work of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The kernel reported that the peer sends no more. Only a read of zero bytes ends the
    /// connection.
    pub(super) read_closed: bool,
    /// The connection is on the list of those to write.
    pub(super) is_dirty: bool,
    /// The connection is on the list of those to read.
    pub(super) is_ready: bool,
    /// The scenario is done with the connection and waits for the server to close it.
    pub(super) leaving: bool,
    /// The connection is removed at the end of the turn.
    pub(super) ended: bool,
}

/// Event of a connection.
#[derive(Debug)]
pub enum ConnectionEvent<'a> {
    /// The connection has reached a phase.
    Reached {
        /// The phase.
        phase: ConnectionPhase,
        /// Time since the previous phase, or since the intended opening for the first one (us).
        took_us: u64,
    },
    /// Audio, video, data or an aggregate of them, borrowed from the input.
    Media(Message<'a>),
    /// A length-prefixed frame, borrowed from the input.
    Frame(&'a [u8]),
    /// A status message that changes nothing.
    Status(Status<'a>),
    /// The stream that is played has ended.
    StreamEof,
    /// The number of bytes that the server acknowledges; wraps at 2^32.
    Acknowledged(u32),
}

/// Reason why a connection ended.
#[derive(Debug)]
pub enum Reason {
    /// The scenario closed it.
    Done,
    /// The run was over.
    RunOver,
    /// Connecting failed, or the connection broke.
    Socket(io::Error),
    /// The server closed the connection.
    PeerClosed,
    /// The connection did not reach its goal in time.
    Timeout,
    /// The server refused the request.
    Refused {
        /// The code of the status message.
        code: String,
        /// The description of the status message.
        description: String,
    },
    /// The input from the server is malformed.
    Protocol(WireError),
    /// Too much output is waiting, because the server does not read.
    Unread,
}

impl Reason {
    /// The names of all failures, see [`Reason::kind`].
    pub const FAILURES: [&'static str; 11] = [
        "connection_refused",
        "reset",
        "connect_timed_out",
        "no_local_port",
        "unreachable",
        "socket",
        "closed_by_server",
        "timeout",
        "refused",
        "protocol",
        "server_does_not_read",
    ];

    /// Returns a short name to count by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::RunOver => "run_over",
            Self::Socket(error) => match error.kind() {
                ErrorKind::ConnectionRefused => "connection_refused",
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset",
                ErrorKind::TimedOut => "connect_timed_out",
                ErrorKind::AddrNotAvailable => "no_local_port",
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable",
                _ => "socket",
            },
            Self::PeerClosed => "closed_by_server",
            Self::Timeout => "timeout",
            Self::Refused { .. } => "refused",
            Self::Protocol(_) => "protocol",
            Self::Unread => "server_does_not_read",
        }
    }

    /// Returns whether the reason is a failure.
    pub const fn is_failure(&self) -> bool {
        !matches!(self, Self::Done | Self::RunOver)
    }
}

impl From<WireError> for Reason {
    fn from(error: WireError) -> Self {
        match error {
            WireError::HttpStatus { status, reason } => {
                Self::Refused { code: format!("HTTP {status}"), description: reason }
            }
            error => Self::Protocol(error),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Refused { code, description } => {
                let (code, description) = (Escaped(code.as_bytes()), description.as_bytes());
                write!(f, "refused with {code}: {}", Escaped(description))
            }
            Self::Protocol(error) => error.fmt(f),
            Self::Unread => {
                let max = limits::LOAD_UNSENT_BYTES_MAX;
                write!(f, "the server does not read: more than {max} bytes are waiting for it")
            }
            _ => f.write_str(self.kind()),
        }
    }
}

/// A connection that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The final state of the connection.
    pub head: ConnectionHead,
    /// The reason.
    pub reason: Reason,
    /// The time.
    pub at: Time,
}

impl Ended {
    /// Describes the answer of the server within `timeout`, or what happened instead.
    pub(super) fn answer(&self, timeout: Duration) -> String {
        let got_to = match self.head.is_settled() {
            true => String::new(),
            false => format!(", and the last phase reached was {}", self.head.phase.name()),
        };
        match &self.reason {
            Reason::Refused { code, description } => {
                let (code, description) = (code.as_bytes(), description.as_bytes());
                format!("{}: {}", Escaped(code), Escaped(description))
            }
            Reason::PeerClosed => format!("it closed the connection{got_to}"),
            Reason::Timeout => format!("no answer within {timeout:?}{got_to}"),
            reason => reason.to_string(),
        }
    }
}

/// Receive buffer of a connection with limited reading.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

/// Result of a read.
pub(super) enum Left {
    /// The kernel has no more bytes.
    Drained,
    /// There may be more bytes.
    More,
}

impl<C> Connection<C> {
    pub(super) const fn new(head: ConnectionHead, socket: TcpStream, wire: Wire, data: C) -> Self {
        Self { data, head, wire, socket, allowance: None }
    }

    /// Returns the state of the connection.
    pub const fn head(&self) -> &ConnectionHead {
        &self.head
    }

    /// Returns the RTMP client for writing media, if the connection speaks RTMP.
    pub const fn client(&mut self) -> Option<&mut Client> {
        match &mut self.wire {
            Wire::Rtmp(client) => Some(client),
            _ => None,
        }
    }

    /// Writes a length-prefixed frame, if that is the protocol.
    pub fn write_frame(&mut self, frame: &[u8]) {
        if let Wire::Framed(framed) = &mut self.wire {
            framed.write(frame);
        }
    }

    /// Returns the number of output bytes that the kernel has not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.wire.output().len()
    }

    /// Lends memory to the output that is written before the next flush.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        self.wire.lend(buffer);
    }

    /// Lets the connection read this many bytes at most. The receive buffer of the kernel is small
    /// from now on; otherwise the kernel would read megabytes in its place.
    pub(super) fn limit_reading(&mut self, bytes: usize) {
        self.allowance = Some(bytes);
        // A buffer of the usual size only lets the server notice later.
        let _ = sockopt::set_socket_recv_buffer_size(&self.socket, RECEIVE_BUFFER_BYTES);
    }

    /// Lets a connection with limited reading read this many bytes. Bytes that it did not read in
    /// time do not add up.
    pub(super) fn grant_reading(&mut self, bytes: usize) {
        self.allowance = self.allowance.map(|allowance| allowance.max(bytes));
    }

    /// Returns whether the connection may not read now. Once the kernel has reported the end of
    /// input, there is no limit, so that the end is noticed.
    pub(super) fn is_paused(&self) -> bool {
        self.allowance() == Some(0)
    }

    fn allowance(&self) -> Option<usize> {
        self.allowance.filter(|_| !self.head.flags.read_closed)
    }

    /// Returns whether connecting is over. Until then the socket is not used otherwise.
    pub(super) fn finish_opening(&self) -> Result<bool, Reason> {
        if self.head.phase != ConnectionPhase::Opening {
            return Ok(true);
        }
        if !self.head.flags.writable && !self.head.flags.read_closed {
            return Ok(false);
        }
        // A failure to connect also closes the reading side. Asking for it only then saves a system
        // call for every other connection.
        let error = match self.head.flags.read_closed {
            true => self.socket.take_error().map_err(Reason::Socket)?,
            false => None,
        };
        error.map_or(Ok(true), |error| Err(Reason::Socket(error)))
    }

    /// Reads once. [`Connection::received`] processes the bytes.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<(usize, Left), Reason> {
        let bytes_max = self.allowance().map_or(buffer.len(), |bytes| bytes.min(buffer.len()));
        let buffer = &mut buffer[..bytes_max];
        let (count, left) = read(&mut self.socket, self.head.flags.read_closed, buffer)?;
        self.allowance = self.allowance.map(|allowance| allowance.saturating_sub(count));
        Ok((count, left))
    }

    /// Parses `input` and passes on its events one by one.
    pub(super) fn received(
        &mut self,
        mut input: &mut [u8],
        now: Time,
        mut hand_on: impl FnMut(&mut C, &ConnectionHead, ConnectionEvent<'_>),
    ) -> Result<(), Reason> {
        let Self { data, head, wire, .. } = self;
        head.received_bytes += input.len() as u64;
        while let Some(arrival) = wire.next(&mut input).map_err(Reason::from)? {
            let event = match arrival {
                WireEvent::Phase(phase) => head.reach(phase, now),
                WireEvent::Media(message) => ConnectionEvent::Media(message),
                WireEvent::Frame(frame) => ConnectionEvent::Frame(frame),
                WireEvent::Status(status) => ConnectionEvent::Status(status),
                WireEvent::StreamEof => ConnectionEvent::StreamEof,
                WireEvent::Acknowledged(bytes) => ConnectionEvent::Acknowledged(bytes),
                WireEvent::Refused(Status { code, description, .. }) => {
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    let (code, description) = (text(code), text(description));
                    return Err(Reason::Refused { code, description });
                }
                WireEvent::Other => continue,
            };
            hand_on(data, head, event);
        }
        Ok(())
    }

    /// Writes pending output as far as the kernel takes it. Moves the memory of an empty output to
    /// `spare` if it is larger than that of `spare`.
    pub(super) fn flush(&mut self, spare: &mut Vec<u8>) -> Result<(), Reason> {
        while self.head.flags.writable && !self.wire.output().is_empty() {
            match self.socket.write(self.wire.output()) {
                Ok(count) => {
                    self.head.sent_bytes += count as u64;
                    self.wire.written(count);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.head.flags.writable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(Reason::Socket(error)),
                },
            }
        }
        if self.wire.output().len() > limits::LOAD_UNSENT_BYTES_MAX {
            return Err(Reason::Unread);
        }
        let buffer = self.wire.reclaim();
        if buffer.capacity() > spare.capacity() {
            *spare = buffer;
        }
        Ok(())
    }

    /// Shuts down the sending side, so that the server closes the connection.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

/// Reads once. `read_closed` means that the kernel has reported the end of input. Then reading goes
/// on until a read returns zero bytes, which is the end.
pub(super) fn read(
    socket: &mut TcpStream,
    read_closed: bool,
    buffer: &mut [u8],
) -> Result<(usize, Left), Reason> {
    match socket.read(buffer) {
        Ok(0) => Err(Reason::PeerClosed),
        // A short read means that the kernel buffer is empty, unless the end of input follows.
        Ok(count) if count < buffer.len() && !read_closed => Ok((count, Left::Drained)),
        Ok(count) => Ok((count, Left::More)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Ok((0, Left::Drained)),
            ErrorKind::Interrupted => Ok((0, Left::More)),
            _ => Err(Reason::Socket(error)),
        },
    }
}

impl ConnectionHead {
    pub(super) fn reach(&mut self, phase: ConnectionPhase, now: Time) -> ConnectionEvent<'static> {
        let took_us = now.since(self.phase_at).as_micros() as u64;
        (self.phase, self.phase_at) = (phase, now);
        ConnectionEvent::Reached { phase, took_us }
    }

    /// Returns whether the connection has reached its goal.
    pub fn is_settled(&self) -> bool {
        self.phase >= self.goal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_failures_are_those_that_are_counted() {
        let sockets = [
            ErrorKind::ConnectionRefused,
            ErrorKind::BrokenPipe,
            ErrorKind::TimedOut,
            ErrorKind::AddrNotAvailable,
            ErrorKind::NetworkUnreachable,
            ErrorKind::Other,
        ];
        let sockets = sockets.map(|kind| Reason::Socket(kind.into()));
        let refused = Reason::Refused { code: String::new(), description: String::new() };
        let protocol = Reason::Protocol(WireError::FrameTooLong { bytes: 9 });
        let others = [Reason::PeerClosed, Reason::Timeout, refused, protocol, Reason::Unread];
        let all: Vec<_> = sockets.into_iter().chain(others).collect();
        assert!(all.iter().all(Reason::is_failure));
        assert_eq!(all.iter().map(Reason::kind).collect::<Vec<_>>(), Reason::FAILURES);
    }
}
