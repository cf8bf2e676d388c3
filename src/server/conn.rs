//! One connection: its transport, its session, its timers, and what it does with streams.
//!
//! Owns its half-sent message. A connection that is idle holds nothing but this struct: see
//! the assertion at the end. It never touches another connection.

use super::hub::{Hub, StreamId};
use super::play::Play;
use super::reason::CloseReason;
use super::stages::Stage;
use super::tape;
use super::timers::ConnTimers;
use super::transport::Transport;
use crate::limits;
use crate::rtmp::session::{Session, SessionSettings};
use crate::text::Escaped;
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything that was pending is with the kernel.
    All,
    /// The transport takes no more; an event will follow.
    Blocked,
    /// The budget of the turn is used up; there is more.
    Budget,
}

/// What a connection does with streams; made at its first publish or play.
#[derive(Debug, Default)]
pub struct Activity {
    /// Streams it publishes.
    pub publishes: Vec<Publish>,
    /// Streams it plays.
    pub plays: Vec<Play>,
    /// What the closing line says of it.
    pub summary: Summary,
    /// The rest of a message that was sent in part. It goes before everything else.
    partial: Bytes,
}

impl Activity {
    /// The stream that is published on a message stream.
    pub fn published(&self, message_stream_id: u32) -> Option<StreamId> {
        let publish = self.publishes.iter().find(|p| p.message_stream_id == message_stream_id)?;
        Some(publish.stream)
    }
}

/// One published stream.
#[derive(Clone, Copy, Debug)]
pub struct Publish {
    /// The stream.
    pub stream: StreamId,
    /// The message stream that carries it.
    pub message_stream_id: u32,
}

/// The last role of a connection, for the line that ends it.
#[derive(Debug, Default)]
pub struct Summary {
    /// "publisher", "player", or nothing.
    pub role: &'static str,
    /// The stream's canonical name.
    pub stream: Option<Rc<str>>,
    /// Jumps of its plays that are over.
    pub skips: u32,
}

/// How a connection is on its way out.
#[derive(Debug)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// The particulars, as one phrase; empty when the reason says it all.
    pub detail: String,
    /// Whether it is given the time to read what it was told.
    pub farewell: bool,
    /// Whether the sending direction is shut.
    pub shut: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Conn<T> {
    /// Its socket.
    pub transport: T,
    /// The protocol.
    pub session: Session,
    /// Who it is.
    pub peer: SocketAddr,
    /// Its deadlines.
    pub timers: ConnTimers,
    /// How far it has come.
    pub stage: Stage,
    /// There may be bytes to read.
    pub readable: bool,
    /// The peer has ended its sending direction, so a short read is not the last.
    pub read_closed: bool,
    /// The transport takes bytes as far as is known.
    pub writable: bool,
    /// It is on the list of connections to read.
    pub queued_to_read: bool,
    /// It is on the list of connections to write.
    pub queued_to_write: bool,
    /// A ping was sent and nothing has come since.
    pub pinged: bool,
    /// Streams, once there are any.
    pub activity: Option<Box<Activity>>,
    /// Set when it is on its way out.
    pub closing: Option<Box<Closing>>,
    /// When it was accepted.
    pub accepted: Time,
    /// When bytes last came.
    pub heard: Time,
    /// Bytes read, handshake and all.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

impl<T: Transport> Conn<T> {
    /// A connection just accepted. Its transport is taken to be writable.
    pub fn new(transport: T, peer: SocketAddr, settings: &SessionSettings, now: Time) -> Self {
        Self {
            transport,
            session: Session::new(settings),
            peer,
            timers: ConnTimers::default(),
            stage: Stage::Handshaking,
            readable: false,
            read_closed: false,
            writable: true,
            queued_to_read: false,
            queued_to_write: false,
            pinged: false,
            activity: None,
            closing: None,
            accepted: now,
            heard: now,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Whether it neither publishes nor plays.
    pub fn is_idle(&self) -> bool {
        self.activity.as_ref().is_none_or(|a| a.publishes.is_empty() && a.plays.is_empty())
    }

    /// Whether it plays something.
    pub fn plays(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| !activity.plays.is_empty())
    }

    /// What it does with streams.
    pub fn activity_mut(&mut self) -> &mut Activity {
        self.activity.get_or_insert_default()
    }

    /// The play on a message stream.
    pub fn play_mut(&mut self, message_stream_id: u32) -> Option<&mut Play> {
        let plays = &mut self.activity.as_mut()?.plays;
        plays.iter_mut().find(|play| play.message_stream_id == message_stream_id)
    }

    /// Writes what is pending, in the order half-sent message, control, media, until all is
    /// with the kernel, it takes no more, or `budget` bytes went out. Errors are the
    /// transport's.
    pub fn flush(&mut self, hub: &Hub, budget: usize) -> io::Result<Flushed> {
        let mut left = budget;
        loop {
            self.readdress(hub);
            let mut slices = Slices::new(left);
            let media = self.activity.as_deref();
            gather(&self.session, media, self.closing.is_some(), hub, &mut slices);
            if slices.is_empty() {
                return Ok(Flushed::All);
            }
            let written = match self.transport.write_vectored(slices.as_slices()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(Flushed::Blocked);
                }
                Err(error) => return Err(error),
            };
            self.advance(hub, written);
            self.bytes_out += written as u64;
            left = left.saturating_sub(written);
            if left == 0 {
                return Ok(if self.has_pending(hub) { Flushed::Budget } else { Flushed::All });
            }
        }
    }

    /// Whether anything waits to be written.
    pub fn has_pending(&self, hub: &Hub) -> bool {
        if !self.session.output().is_empty() {
            return true;
        }
        let Some(activity) = &self.activity else { return false };
        let media = |play: &Play| play.has_pending(hub.stream(play.stream).tape());
        !activity.partial.is_empty() || (!self.is_closing() && activity.plays.iter().any(media))
    }

    /// Whether it is on its way out; then it gets no more media.
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    fn advance(&mut self, hub: &Hub, mut written: usize) {
        let closing = self.is_closing();
        let activity = self.activity.as_deref_mut();
        let Some(activity) = activity else {
            self.session.output_mut().written(written);
            return;
        };
        let of_partial = written.min(activity.partial.len());
        bytes::Buf::advance(&mut activity.partial, of_partial);
        written -= of_partial;
        let of_control = written.min(self.session.output().bytes().len());
        if of_control > 0 {
            self.session.output_mut().written(of_control);
            written -= of_control;
        }
        if closing {
            return;
        }
        for play in activity.plays.iter_mut().filter(|play| is_direct(play)) {
            written = play.advance(hub.stream(play.stream).tape(), written, &mut activity.partial);
        }
    }

    /// Gives players on another message stream id than the tape's their next message with
    /// their own id, one at a time: nearly every client plays on the first stream it makes.
    fn readdress(&mut self, hub: &Hub) {
        let idle = self.session.output().is_empty() && !self.is_closing();
        let Some(activity) = self.activity.as_deref_mut().filter(|a| idle && a.partial.is_empty())
        else {
            return;
        };
        for play in activity.plays.iter_mut().filter(|play| !is_direct(play)) {
            let stream = hub.stream(play.stream);
            let chunk_size = self.session.output().chunk_size();
            if let Some(wire) = play.take_next(stream.tape()) {
                activity.partial =
                    with_message_stream_id(&wire, play.message_stream_id, chunk_size);
                return;
            }
        }
    }
}

/// What waits to be written, in order: half-sent message, control, media. One that is on its
/// way out gets no more media.
fn gather<'s>(
    session: &'s Session,
    activity: Option<&'s Activity>,
    is_closing: bool,
    hub: &'s Hub,
    slices: &mut Slices<'s>,
) {
    if let Some(activity) = activity.filter(|activity| !activity.partial.is_empty()) {
        slices.push(&activity.partial);
    }
    if !session.output().is_empty() {
        slices.push(session.output().bytes());
    }
    let Some(activity) = activity.filter(|_| !is_closing) else { return };
    for play in activity.plays.iter().filter(|play| is_direct(play)) {
        play.gather(hub.stream(play.stream).tape(), |slice| slices.push(slice));
    }
}

const fn is_direct(play: &Play) -> bool {
    play.message_stream_id == tape::MESSAGE_STREAM_ID
}

/// The tape's wire bytes with another message stream id in each message header. They are our
/// own type-0 and type-3 chunks, so walking them needs no checks against a peer.
fn with_message_stream_id(wire: &Bytes, id: u32, chunk_size: u32) -> Bytes {
    const LENGTH: usize = 4;
    const STREAM_ID: usize = 8;
    const HEADER: usize = 12;
    let mut copy = BytesMut::from(&wire[..]);
    let mut at = 0;
    while let Some(header) = copy.get_mut(at..at + HEADER) {
        let extended = header[1..LENGTH] == [0xff; 3];
        let length = u32::from_be_bytes([0, header[LENGTH], header[5], header[6]]);
        header[STREAM_ID..].copy_from_slice(&id.to_le_bytes());
        let continuations = length.saturating_sub(1) / chunk_size;
        let extended_len = if extended { 4 } else { 0 };
        at += HEADER + extended_len + length as usize;
        at += continuations as usize * (1 + extended_len);
    }
    copy.freeze()
}

/// The slices of one vectored write, within a budget.
struct Slices<'s> {
    slices: [IoSlice<'s>; limits::WRITE_SLICES_MAX],
    len: usize,
    budget: usize,
}

impl<'s> Slices<'s> {
    fn new(budget: usize) -> Self {
        Self { slices: [IoSlice::new(&[]); limits::WRITE_SLICES_MAX], len: 0, budget }
    }

    /// Adds a slice, cut to the budget; says whether there is room for another.
    fn push(&mut self, slice: &'s [u8]) -> bool {
        if self.len < self.slices.len() && self.budget > 0 {
            let taken = slice.len().min(self.budget);
            self.slices[self.len] = IoSlice::new(&slice[..taken]);
            self.len += 1;
            self.budget -= taken;
        }
        self.len < self.slices.len() && self.budget > 0
    }

    const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn as_slices(&self) -> &[IoSlice<'s>] {
        &self.slices[..self.len]
    }
}

/// The line that ends a connection.
pub struct ClosingLine<'c, T> {
    /// The connection.
    pub conn: &'c Conn<T>,
    /// When it ends.
    pub now: Time,
}

impl<T> fmt::Display for ClosingLine<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conn, now } = self;
        write!(f, "closed {}", conn.peer)?;
        if let Some(Summary { role, stream: Some(stream), .. }) =
            conn.activity.as_ref().map(|activity| &activity.summary)
        {
            write!(f, " {role} of {}", Escaped(stream.as_bytes()))?;
        }
        if let Some(closing) = &conn.closing {
            write!(f, ": {}", closing.reason)?;
            if !closing.detail.is_empty() {
                write!(f, " ({})", closing.detail)?;
            }
        }
        write!(f, "; in {} B, out {} B", conn.bytes_in, conn.bytes_out)?;
        if let Some(activity) = &conn.activity {
            write!(f, ", {} skips", activity.summary.skips)?;
        }
        let tolerated = conn.session.tolerated().total();
        if tolerated > 0 {
            write!(f, ", {tolerated} messages tolerated")?;
        }
        write!(f, ", {:.1} s", now.since(conn.accepted).as_secs_f64())
    }
}

/// An idle session's share of the 512 bytes that it may cost; the rest is its chunk streams'
/// headers, its application's name and the slab's slot.
const _: () = assert!(size_of::<Conn<[u8; 4]>>() <= 352);
