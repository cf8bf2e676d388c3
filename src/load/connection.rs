//! One connection of the generator: a socket, what is spoken over it, and how far it has come.
//!
//! Owns the order of things on one connection: it reads until the kernel has no more, hands on
//! what arrived, and writes what waits. When to do that is the work of [`engine`](super::engine),
//! and what it means that of a scenario.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;

use super::wire::{Wire, WireError, WireEvent};
use crate::limits;
use crate::rtmp::client::Client;
use crate::rtmp::command::Status;
pub use crate::rtmp::message::Message;
use crate::text::Escaped;
use crate::time::Time;

/// How far a connection has come.
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
    /// The name of the phase, and of the figures about it.
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

/// Which connection; one that was closed is never meant again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A socket and all that is known of it.
#[derive(Debug)]
pub struct Connection<C> {
    /// What the scenario keeps of it.
    pub data: C,
    pub(super) head: ConnectionHead,
    wire: Wire,
    socket: TcpStream,
}

/// What is known of a connection beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionHead {
    /// Which connection it is.
    pub id: ConnectionKey,
    /// When it was to be opened.
    pub intended: Time,
    /// How far it has come.
    pub phase: ConnectionPhase,
    /// When it came there.
    pub phase_at: Time,
    /// The phase that it is opened for.
    pub goal: ConnectionPhase,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    pub(super) flags: Flags,
}

/// What a connection has to do, and can.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The kernel told that the peer sends no more: only a read that says so ends it.
    pub(super) read_closed: bool,
    /// It is on the list of those to be written to.
    pub(super) is_dirty: bool,
    /// It is on the list of those with bytes to read.
    pub(super) is_ready: bool,
    /// The scenario is done with it, and its end is awaited.
    pub(super) leaving: bool,
    /// It is to be removed at the end of the turn.
    pub(super) ended: bool,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum ConnectionEvent<'a> {
    /// It has come to a phase.
    Reached {
        /// The phase.
        phase: ConnectionPhase,
        /// Since the phase before; for the first one since it was to be opened (us).
        took_us: u64,
    },
    /// Audio, video, data or an aggregate of them, where it lies.
    Media(Message<'a>),
    /// A frame behind its length, where it lies.
    Frame(&'a [u8]),
    /// A status that decides nothing.
    Status(Status<'a>),
    /// The stream that is played has ended.
    StreamEof,
    /// The server has so many bytes of what was sent to it; the number wraps.
    Acknowledged(u32),
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Reason {
    /// The scenario was done with it.
    Done,
    /// The run was over.
    RunOver,
    /// There was no connecting, or the connection broke.
    Socket(io::Error),
    /// The server closed it.
    PeerClosed,
    /// It did not come to its goal in time.
    Timeout,
    /// The server refused what was asked for.
    Refused {
        /// The code of its status.
        code: String,
        /// What it said for people.
        description: String,
    },
    /// What the server sent cannot be followed.
    Protocol(WireError),
    /// So much waits for a server which does not read.
    Unread,
}

impl Reason {
    /// One word for it, to count by.
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

    /// Whether something went wrong.
    pub const fn is_failure(&self) -> bool {
        !matches!(self, Self::Done | Self::RunOver)
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
                write!(f, "the server does not read: more than {max} bytes wait for it")
            }
            _ => f.write_str(self.kind()),
        }
    }
}

/// The end of a connection.
#[derive(Debug)]
pub struct Ended {
    /// What was known of it.
    pub head: ConnectionHead,
    /// Why it ended.
    pub reason: Reason,
    /// When.
    pub at: Time,
}

impl Ended {
    /// What the server said, or did instead, when it was given `timeout` to do what was asked.
    pub(super) fn answer(&self, timeout: Duration) -> String {
        let got_to = match self.head.is_settled() {
            true => String::new(),
            false => format!(", and it got no further than {}", self.head.phase.name()),
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

/// What came of reading.
pub(super) enum Left {
    /// The kernel has no more.
    Drained,
    /// There may be more.
    More,
}

impl<C> Connection<C> {
    pub(super) const fn new(head: ConnectionHead, socket: TcpStream, wire: Wire, data: C) -> Self {
        Self { data, head, wire, socket }
    }

    /// What is known of it.
    pub const fn head(&self) -> &ConnectionHead {
        &self.head
    }

    /// The RTMP client, if that is what is spoken: to write media with.
    pub const fn client(&mut self) -> Option<&mut Client> {
        match &mut self.wire {
            Wire::Rtmp(client) => Some(client),
            _ => None,
        }
    }

    /// Writes a frame behind its length, if that is what is spoken.
    pub fn write_frame(&mut self, frame: &[u8]) {
        if let Wire::Framed(framed) = &mut self.wire {
            framed.write(frame);
        }
    }

    /// Bytes that wait for the kernel to take them.
    pub fn unsent_bytes(&self) -> usize {
        self.wire.output().len()
    }

    /// Lends memory to what is written before the next flush.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        self.wire.lend(buffer);
    }

    /// Whether connecting is over. Until then nothing else is asked of the socket.
    pub(super) fn finish_opening(&self) -> Result<bool, Reason> {
        if self.head.phase != ConnectionPhase::Opening {
            return Ok(true);
        }
        if !self.head.flags.writable && !self.head.flags.read_closed {
            return Ok(false);
        }
        // A failure is told as the end of what can be read; asking each time would cost a call.
        let error = match self.head.flags.read_closed {
            true => self.socket.take_error().map_err(Reason::Socket)?,
            false => None,
        };
        error.map_or(Ok(true), |error| Err(Reason::Socket(error)))
    }

    /// Reads once. What was read is handed on by [`Connection::received`].
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<(usize, Left), Reason> {
        read(&mut self.socket, self.head.flags.read_closed, buffer)
    }

    /// Hands on what `input` holds, message by message.
    pub(super) fn received(
        &mut self,
        mut input: &mut [u8],
        now: Time,
        mut hand_on: impl FnMut(&mut C, &ConnectionHead, ConnectionEvent<'_>),
    ) -> Result<(), Reason> {
        let Self { data, head, wire, .. } = self;
        head.received_bytes += input.len() as u64;
        while let Some(arrival) = wire.next(&mut input).map_err(Reason::Protocol)? {
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

    /// Writes what waits, as far as the kernel takes it. The memory of an output in which nothing
    /// waits any more goes to `spare`, if it is larger than that.
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

    /// Sends no more, so that the server closes its side.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

/// Reads once. Where the kernel told that the peer sends no more, `read_closed`, only a read that
/// says so is the end.
pub(super) fn read(
    socket: &mut TcpStream,
    read_closed: bool,
    buffer: &mut [u8],
) -> Result<(usize, Left), Reason> {
    match socket.read(buffer) {
        Ok(0) => Err(Reason::PeerClosed),
        // A stream that gave less than was asked for has no more, unless it is at its end.
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

    /// Whether it has come to what it was opened for.
    pub fn is_settled(&self) -> bool {
        self.phase >= self.goal
    }
}
