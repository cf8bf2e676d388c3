//! One connection: its transport, its session, its timers, and what it does with streams.
//!
//! Owns its half-sent message. A connection that is idle holds nothing but this struct: see
//! the assertion at the end. It never touches another connection.

use super::access::{Access, LoggedIn};
use super::encoders::EncoderId;
use super::hub::{Departed, Hub, StreamId};
use super::play::Play;
use super::reason::CloseReason;
use super::segment::FileRun;
use super::stages::Stage;
use super::tape;
use super::timers::{ConnTimers, Deadlines};
use super::transport::Transport;
use crate::limits;
use crate::rtmp::quirks::Repairs;
use crate::rtmp::session::{Session, SessionSettings};
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
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

/// What one call has written.
struct Written {
    bytes: usize,
    /// Nothing else is pending.
    is_all: bool,
}

/// What a connection does with streams; made at its first publish or play. There are many that
/// play one stream: they hold nothing else.
#[derive(Debug)]
pub struct Activity {
    /// Streams it plays.
    pub plays: SmallVec<[Play; 1]>,
    /// When it has to have taken another byte; [`Time::NEVER`] when that is not waited for.
    stalls_at: Time,
    publishing: Option<Box<Publishing>>,
    /// The rest of a message that was sent in part. It goes before everything else. Once there
    /// was one, its place is kept.
    partial: Option<Box<Bytes>>,
    /// What the closing line says of streams that are over.
    summary: Option<Box<Summary>>,
}

const _: () = assert!(size_of::<Activity>() <= 88);

/// What a connection publishes.
#[derive(Debug)]
struct Publishing {
    list: SmallVec<[Publish; 1]>,
    /// When the next media has to have come; [`Time::NEVER`] when that is not waited for.
    silent_at: Time,
}

impl Publishing {
    /// Memory that it holds, itself among it (bytes).
    fn held_bytes(&self) -> usize {
        let spilled = if self.list.spilled() { self.list.capacity() } else { 0 };
        size_of::<Self>() + spilled * size_of::<Publish>()
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            plays: SmallVec::new(),
            stalls_at: Time::NEVER,
            publishing: None,
            partial: None,
            summary: None,
        }
    }
}

impl Activity {
    /// Memory that it holds (bytes). What is made on the way of a write counts as if it were
    /// there, so that few writes change it. The rest of a half-sent message lies in a block of
    /// its stream, which counts it for all its players (`blocks.rs`).
    pub fn held_bytes(&self) -> usize {
        let plays = if self.plays.spilled() { self.plays.capacity() } else { 0 };
        size_of::<Self>()
            + plays * size_of::<Play>()
            + self.plays.len() * Play::HELD_BYTES_MAX
            + self.publishing.as_deref().map_or(0, Publishing::held_bytes)
            + size_of::<Bytes>()
            + self.summary.as_deref().map_or(0, Summary::held_bytes)
    }

    /// Streams it publishes.
    pub fn publishes(&self) -> &[Publish] {
        self.publishing.as_ref().map_or(&[], |publishing| &publishing.list)
    }

    /// Publishes one more stream.
    pub fn publish(&mut self, publish: Publish) {
        let first = || Box::new(Publishing { list: SmallVec::new(), silent_at: Time::NEVER });
        self.publishing.get_or_insert_with(first).list.push(publish);
    }

    /// Publishes nothing any more on a message stream.
    pub fn unpublish(&mut self, message_stream_id: u32) {
        if let Some(publishing) = &mut self.publishing {
            publishing.list.retain(|publish| publish.message_stream_id != message_stream_id);
        }
    }

    /// The stream that is published on a message stream.
    pub fn published(&self, message_stream_id: u32) -> Option<StreamId> {
        let publish = self.publishes().iter().find(|p| p.message_stream_id == message_stream_id)?;
        Some(publish.stream)
    }

    /// What is left of a message that was sent in part; empty if there is none.
    fn partial(&self) -> &[u8] {
        self.partial.as_deref().map_or(&[], |partial| partial)
    }

    /// Notes that a role in the stream called `name` is over.
    pub fn role_over(&mut self, role: &'static str, name: Rc<str>) -> &mut Summary {
        let summary = self.summary.get_or_insert_default();
        summary.role = role;
        summary.stream = Some(name);
        summary
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

/// What a connection has done with streams, for the line that ends it.
#[derive(Debug, Default)]
pub struct Summary {
    /// The last role that is over: "publisher" or "player".
    role: &'static str,
    /// The canonical name of the stream in which it had that.
    stream: Option<Rc<str>>,
    /// Jumps of its plays.
    pub skips: u32,
    /// What was repaired of the timestamps that it published, if anything was.
    repairs: Option<Box<Repairs>>,
}

impl Summary {
    /// Memory that it holds, itself among it (bytes). The name outlives its stream here.
    fn held_bytes(&self) -> usize {
        let repairs = if self.repairs.is_some() { size_of::<Repairs>() } else { 0 };
        size_of::<Self>() + self.stream.as_deref().map_or(0, str::len) + repairs
    }

    /// Counts what was repaired of a publisher that is no more.
    pub fn publisher_left(&mut self, departed: &Departed) {
        let repairs = &departed.report.repairs;
        if !repairs.is_empty() {
            self.repairs.get_or_insert_default().add(repairs);
        }
    }
}

/// How a connection is on its way out.
#[derive(Debug)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// The particulars, as one phrase; empty when the reason says it all.
    pub detail: String,
    /// What the peer asked for that was refused, and the name of its client; empty if it was not
    /// a refusal.
    pub asked: String,
    /// Whether it is given the time to read what it was told.
    pub farewell: bool,
    /// Whether the sending direction is shut.
    pub shut: bool,
}

impl Closing {
    /// On its way out, with or without time to read why.
    pub const fn new(reason: CloseReason, detail: String, farewell: bool) -> Self {
        Self { reason, detail, asked: String::new(), farewell, shut: false }
    }

    /// Memory that it holds, itself among it (bytes).
    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.detail.capacity() + self.asked.capacity()
    }
}

/// See the module's head.
///
/// In this order in memory: what a write of media looks at stands side by side, from the end of
/// the session on. There are many players, and each line of memory that a write needs is one that
/// the kernel's work for the others has put out of the cache.
#[derive(Debug)]
#[repr(C)]
pub struct Conn<T> {
    /// The protocol.
    pub session: Session,
    /// Streams, once there are any.
    pub activity: Option<Box<Activity>>,
    /// Set when it is on its way out.
    pub closing: Option<Box<Closing>>,
    /// Bytes written.
    pub bytes_out: u64,
    /// The transport takes bytes as far as is known.
    pub writable: bool,
    /// It is on the list of connections to write.
    pub queued_to_write: bool,
    /// It is on the list of connections to read.
    pub queued_to_read: bool,
    /// There may be bytes to read.
    pub readable: bool,
    /// Its socket.
    pub transport: T,
    /// The peer has ended its sending direction or sent urgent data, so a short read is not the
    /// last.
    pub read_closed: bool,
    /// A ping was sent and nothing has come since.
    pub pinged: bool,
    /// How far it has come.
    pub stage: Stage,
    /// Who it is, without what only IPv6 has: that makes no difference to a peer.
    peer_ip: IpAddr,
    peer_port: u16,
    /// The name of its client.
    pub encoder: EncoderId,
    /// What of the server's memory is accounted to it, beside this struct (bytes).
    pub accounted_bytes: u32,
    /// Bytes read, handshake and all.
    pub bytes_in: u64,
    /// When bytes last came.
    pub heard: Time,
    /// When it was accepted.
    pub accepted: Time,
    /// The deadlines that it has without streams.
    pub timers: ConnTimers,
    /// Who has logged in.
    pub logged_in: Option<Box<LoggedIn>>,
}

impl<T> Conn<T> {
    /// Who it is.
    pub const fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
    }
}

impl<T: Transport> Conn<T> {
    /// A connection just accepted. Its transport is taken to be writable.
    pub fn new(transport: T, peer: SocketAddr, settings: &SessionSettings, now: Time) -> Self {
        Self {
            transport,
            session: Session::new(settings),
            peer_ip: peer.ip(),
            peer_port: peer.port(),
            timers: ConnTimers::default(),
            stage: Stage::Handshaking,
            readable: false,
            read_closed: false,
            writable: true,
            queued_to_read: false,
            queued_to_write: false,
            pinged: false,
            logged_in: None,
            encoder: EncoderId::default(),
            activity: None,
            closing: None,
            accepted: now,
            heard: now,
            bytes_in: 0,
            bytes_out: 0,
            accounted_bytes: 0,
        }
    }

    /// Its deadlines.
    pub fn deadlines(&mut self) -> Deadlines<'_> {
        let (mut silence, mut stall) = (None, None);
        if let Some(activity) = self.activity.as_deref_mut() {
            silence = activity.publishing.as_mut().map(|publishing| &mut publishing.silent_at);
            stall = Some(&mut activity.stalls_at);
        }
        Deadlines { conn: &mut self.timers, silence, stall }
    }

    /// When it has to have taken another byte; [`Time::NEVER`] when that is not waited for.
    pub fn stalls_at(&self) -> Time {
        self.activity.as_ref().map_or(Time::NEVER, |activity| activity.stalls_at)
    }

    /// When the next media has to have come; [`Time::NEVER`] when that is not waited for.
    pub fn silent_at(&self) -> Time {
        let publishing = self.activity.as_ref().and_then(|activity| activity.publishing.as_ref());
        publishing.map_or(Time::NEVER, |publishing| publishing.silent_at)
    }

    /// Memory that it holds in addition to this struct: what is under assembly, what waits to be
    /// sent, and `unsent_bytes` in the kernel while the socket takes no more (bytes).
    pub fn held_bytes(&self, unsent_bytes: usize) -> usize {
        self.session.held_bytes()
            + self.activity.as_deref().map_or(0, Activity::held_bytes)
            + self.closing.as_deref().map_or(0, Closing::held_bytes)
            + self.logged_in.as_deref().map_or(0, LoggedIn::held_bytes)
            + if self.writable { 0 } else { unsent_bytes }
    }

    /// Whether it neither publishes nor plays.
    pub fn is_idle(&self) -> bool {
        self.activity.as_ref().is_none_or(|a| a.publishes().is_empty() && a.plays.is_empty())
    }

    /// Whether it plays something.
    pub fn plays(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| !activity.plays.is_empty())
    }

    /// What it does with streams.
    pub fn activity_mut(&mut self) -> &mut Activity {
        self.activity.get_or_insert_default()
    }

    /// The stream that it publishes on a message stream.
    pub fn published(&self, message_stream_id: u32) -> Option<StreamId> {
        self.activity.as_ref()?.published(message_stream_id)
    }

    /// The play on a message stream.
    pub fn play_mut(&mut self, message_stream_id: u32) -> Option<&mut Play> {
        let plays = &mut self.activity.as_mut()?.plays;
        plays.iter_mut().find(|play| play.message_stream_id == message_stream_id)
    }

    /// Writes what is pending, in the order half-sent message, control, media, until all is
    /// with the kernel, it takes no more, or `budget` bytes went out. Errors are the
    /// transport's. `file_refusal` is set to the error of a `write_file` whose bytes the same
    /// transport took from memory: the system refuses to send from files.
    pub fn flush(
        &mut self,
        hub: &Hub,
        budget: usize,
        file_refusal: &mut Option<io::Error>,
    ) -> io::Result<Flushed> {
        let mut left = budget;
        loop {
            self.readdress(hub);
            let Written { bytes, is_all } = match self.write_once(hub, left, file_refusal) {
                // A player is not behind with what it does not want.
                Ok(None) => Written { bytes: 0, is_all: true },
                Ok(Some(Written { bytes: 0, .. })) => return Err(ErrorKind::WriteZero.into()),
                Ok(Some(written)) => written,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(Flushed::Blocked);
                }
                Err(error) => return Err(error),
            };
            self.advance(hub, bytes);
            self.bytes_out += bytes as u64;
            left = left.saturating_sub(bytes);
            if is_all {
                return Ok(Flushed::All);
            }
            if left == 0 {
                return Ok(if self.has_pending(hub) { Flushed::Budget } else { Flushed::All });
            }
        }
    }

    /// Writes the replies that wait, after the rest of a half-sent message, and no media.
    pub fn flush_replies(&mut self, hub: &Hub) -> io::Result<Flushed> {
        let partial = self.activity.as_deref().map_or(0, |activity| activity.partial().len());
        // No file is written: what lies in one is media.
        self.flush(hub, partial + self.session.output().bytes().len(), &mut None)
    }

    /// Writes with one call as much as goes into it, up to `budget` bytes; `None` if nothing is
    /// pending.
    fn write_once(
        &mut self,
        hub: &Hub,
        budget: usize,
        file_refusal: &mut Option<io::Error>,
    ) -> io::Result<Option<Written>> {
        let may_use_files = self.transport.sends_files() && file_refusal.is_none();
        let file_run = if may_use_files { self.file_run(hub) } else { None };
        let Some((run, is_last)) = file_run else {
            return self.write_from_memory(hub, budget, may_use_files);
        };
        let error = match self.transport.write_file(run.file, run.position, run.len.min(budget)) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(bytes) => {
                return Ok(Some(Written { bytes, is_all: is_last && bytes == run.len }));
            }
            Err(error) if is_transient(&error) => return Err(error),
            Err(error) => error,
        };
        // A list of the errors that mean a refusal would not do: a socket can report most of them
        // for its own connection, and one broken connection must not cost the others their files.
        match self.write_from_memory(hub, budget, false) {
            Err(again) if !is_transient(&again) => Err(error),
            Ok(Some(written)) if written.bytes > 0 => {
                *file_refusal = Some(error);
                Ok(Some(written))
            }
            other => other,
        }
    }

    /// Does the same without files. `until_file` ends the write where a memory file continues it.
    fn write_from_memory(
        &mut self,
        hub: &Hub,
        budget: usize,
        until_file: bool,
    ) -> io::Result<Option<Written>> {
        let mut slices = Slices::new(budget);
        let activity = self.activity.as_deref();
        let is_closing = self.is_closing();
        let is_all = gather(&self.session, activity, is_closing, hub, until_file, &mut slices);
        if slices.slices.is_empty() {
            return Ok(None);
        }
        let bytes = self.transport.write_vectored(&slices.slices)?;
        Ok(Some(Written { bytes, is_all: is_all && bytes == slices.bytes }))
    }

    /// Whether anything waits to be written.
    pub fn has_pending(&self, hub: &Hub) -> bool {
        if !self.session.output().is_empty() {
            return true;
        }
        let Some(activity) = &self.activity else { return false };
        let media = |play: &Play| play.has_pending(hub.stream(play.stream).tape());
        !activity.partial().is_empty() || (!self.is_closing() && activity.plays.iter().any(media))
    }

    /// Whether nothing is to be sent but media, as far as there is room: then a write that leaves
    /// it so changes nothing of what it holds.
    pub fn holds_nothing_to_send(&self) -> bool {
        let partial = self.activity.as_deref().map_or(0, |activity| activity.partial().len());
        self.writable && partial == 0 && self.session.output().is_empty()
    }

    /// Whether it is on its way out; then it gets no more media.
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// What is to be written next, if it lies in a memory file, and whether it is all there is:
    /// media, with nothing before it.
    fn file_run<'h>(&self, hub: &'h Hub) -> Option<(FileRun<'h>, bool)> {
        let activity = self.activity.as_deref().filter(|a| a.partial().is_empty())?;
        if self.is_closing() || !self.session.output().is_empty() {
            return None;
        }
        let direct = activity.plays.iter().filter(|play| is_direct(play));
        let mut tapes = direct.map(|play| (play, hub.stream(play.stream).tape()));
        let is_only = activity.plays.len() == 1;
        let (play, tape) = tapes.find(|(play, tape)| is_only || play.has_pending(tape))?;
        let (run, is_last) = play.file_run(tape)?;
        Some((run, is_last && is_only))
    }

    fn advance(&mut self, hub: &Hub, mut written: usize) {
        let closing = self.is_closing();
        let activity = self.activity.as_deref_mut();
        let Some(activity) = activity else {
            self.session.output_mut().written(written);
            return;
        };
        let of_partial = written.min(activity.partial().len());
        if let Some(partial) = activity.partial.as_deref_mut().filter(|_| of_partial > 0) {
            bytes::Buf::advance(partial, of_partial);
            if partial.is_empty() {
                // An empty slice would still keep the block of its message alive.
                *partial = Bytes::new();
            }
            written -= of_partial;
        }
        let of_control = written.min(self.session.output().bytes().len());
        if of_control > 0 {
            self.session.output_mut().written(of_control);
            written -= of_control;
        }
        if closing {
            return;
        }
        let mut partial = Bytes::new();
        for play in activity.plays.iter_mut().filter(|play| is_direct(play)) {
            written = play.advance(hub.stream(play.stream).tape(), written, &mut partial);
        }
        if !partial.is_empty() {
            **activity.partial.get_or_insert_default() = partial;
        }
    }

    /// Gives players on another message stream id than the tape's their next message with
    /// their own id, one at a time: nearly every client plays on the first stream it makes.
    fn readdress(&mut self, hub: &Hub) {
        let idle = self.session.output().is_empty() && !self.is_closing();
        let Some(activity) =
            self.activity.as_deref_mut().filter(|a| idle && a.partial().is_empty())
        else {
            return;
        };
        for play in activity.plays.iter_mut().filter(|play| !is_direct(play)) {
            let stream = hub.stream(play.stream);
            let chunk_size = self.session.output().chunk_size();
            if let Some(wire) = play.take_next(stream.tape()) {
                **activity.partial.get_or_insert_default() =
                    with_message_stream_id(&wire, play.message_stream_id, chunk_size);
                return;
            }
        }
    }
}

/// What waits to be written, in order: half-sent message, control, media. One that is on its
/// way out gets no more media. Returns whether that was all.
fn gather<'s>(
    session: &'s Session,
    activity: Option<&'s Activity>,
    is_closing: bool,
    hub: &'s Hub,
    until_file: bool,
    slices: &mut Slices<'s>,
) -> bool {
    if let Some(activity) = activity.filter(|activity| !activity.partial().is_empty()) {
        slices.push(activity.partial());
    }
    if !session.output().is_empty() {
        slices.push(session.output().bytes());
    }
    let Some(activity) = activity.filter(|_| !is_closing) else { return slices.has_room() };
    let mut direct = activity.plays.iter().filter(|play| is_direct(play));
    let is_all = direct.all(|play| {
        play.gather(hub.stream(play.stream).tape(), until_file, |slice| slices.push(slice))
    });
    // What is cut to the budget is not all, whoever has nothing to add to it. Players on another
    // message stream id than the tape's are given one message at a time.
    is_all && slices.has_room() && activity.plays.iter().all(is_direct)
}

/// Whether the same call may succeed later.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
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
    /// Never more than what it holds within itself.
    slices: SmallVec<[IoSlice<'s>; limits::WRITE_SLICES_MAX]>,
    budget: usize,
    bytes: usize,
}

impl<'s> Slices<'s> {
    fn new(budget: usize) -> Self {
        Self { slices: SmallVec::new(), budget, bytes: 0 }
    }

    /// Adds a slice, cut to the budget; says whether there is room for another.
    fn push(&mut self, slice: &'s [u8]) -> bool {
        if self.has_room() {
            let taken = slice.len().min(self.budget);
            self.slices.push(IoSlice::new(&slice[..taken]));
            self.budget -= taken;
            self.bytes += taken;
        }
        self.has_room()
    }

    /// While this holds, nothing that was to be added was left out.
    fn has_room(&self) -> bool {
        self.slices.len() < limits::WRITE_SLICES_MAX && self.budget > 0
    }
}

/// The line that ends a connection.
pub struct ClosingLine<'c, T> {
    /// The connection.
    pub conn: &'c Conn<T>,
    /// When it ends.
    pub now: Time,
    /// What of the stream's name is secret.
    pub access: &'c Access,
}

impl<T> fmt::Display for ClosingLine<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conn, now, access } = self;
        write!(f, "closed {}", conn.peer())?;
        let summary = conn.activity.as_ref().and_then(|activity| activity.summary.as_deref());
        let asked = conn.closing.as_ref().map_or("", |closing| &closing.asked);
        if !asked.is_empty() {
            write!(f, " {asked}")?;
        } else if let Some(Summary { role, stream: Some(stream), .. }) = summary {
            write!(f, " {role} of {}", access.shown(stream))?;
        }
        if let Some(closing) = &conn.closing {
            write!(f, ": {}", closing.reason)?;
            if !closing.detail.is_empty() {
                write!(f, " ({})", closing.detail)?;
            }
        }
        write!(f, "; in {} B, out {} B", conn.bytes_in, conn.bytes_out)?;
        if let Some(summary) = summary {
            write!(f, ", {} skips", summary.skips)?;
        }
        write!(f, ", {:.1} s", now.since(conn.accepted).as_secs_f64())?;
        let mut separator = "; tolerated: ";
        let tolerated = conn.session.tolerated();
        if !tolerated.is_empty() {
            write!(f, "{separator}{tolerated}")?;
            separator = ", ";
        }
        if let Some(repairs) = summary.and_then(|summary| summary.repairs.as_ref()) {
            write!(f, "{separator}{repairs}")?;
        }
        Ok(())
    }
}

/// An idle session's share of the 512 bytes that it may cost; the rest is its chunk streams'
/// headers, its application's name and the slab's slot.
const _: () = assert!(size_of::<Conn<[u8; 4]>>() <= 280);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Duplicate, Start};
    use crate::rtmp::chunk_write::{wire_len, write_message};
    use crate::rtmp::handshake::Hello;
    use crate::rtmp::message::{Message, MessageHeader, UserControl, kind};
    use crate::server::ConnId;
    use crate::server::hub::{DuplicatePolicy, Endpoint};
    use crate::server::tape::TapeSettings;
    use crate::test_support::{self, wire_messages};
    use std::collections::VecDeque;

    const CHUNK_SIZE: u32 = 128;
    const TAPE: TapeSettings = TapeSettings { chunk_size: CHUNK_SIZE, ..test_support::TAPE };

    /// What a write is answered with.
    enum Answer {
        Takes(usize),
        Fails(ErrorKind),
    }

    /// A transport that answers writes by a script, and takes everything when that is over.
    #[derive(Default)]
    struct Scripted {
        script: VecDeque<Answer>,
        wire: Vec<u8>,
        writes: usize,
        slices_max: usize,
    }

    impl Transport for Scripted {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.writes += 1;
            self.slices_max = self.slices_max.max(slices.len());
            let room = match self.script.pop_front() {
                Some(Answer::Takes(room)) => room,
                Some(Answer::Fails(kind)) => return Err(kind.into()),
                None => usize::MAX,
            };
            let before = self.wire.len();
            for slice in slices {
                let room = room - (self.wire.len() - before);
                self.wire.extend_from_slice(&slice[..room.min(slice.len())]);
            }
            Ok(self.wire.len() - before)
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A connection that plays one stream on each of its message streams.
    struct Bench {
        hub: Hub,
        streams: Vec<StreamId>,
        conn: Conn<Scripted>,
    }

    impl Bench {
        fn new(message_stream_ids: &[u32]) -> Self {
            let settings = SessionSettings::new(Hello::new(&[7; 1528]));
            let peer = SocketAddr::from(([10, 0, 0, 1], 4000));
            let mut conn = Conn::new(Scripted::default(), peer, &settings, Time::ZERO);
            let mut hub = Hub::default();
            let policy = DuplicatePolicy { rule: Duplicate::Reject, silent_ms: 0 };
            let mut streams = Vec::new();
            for id in message_stream_ids {
                let endpoint = Endpoint { conn: ConnId::new(9), message_stream_id: *id };
                let name = format!("live/{id}");
                let published = hub.publish(&name, endpoint, Time::ZERO, &policy, 0).unwrap();
                let tape = hub.stream(published.stream).tape();
                let play = Play::new(published.stream, *id, tape, Start::Live, CHUNK_SIZE);
                hub.add_player(published.stream, endpoint);
                conn.activity_mut().plays.push(play);
                streams.push(published.stream);
            }
            conn.session.output_mut().set_chunk_size(CHUNK_SIZE);
            let mut bench = Self { hub, streams, conn };
            assert_eq!(bench.flush(), Flushed::All);
            bench.conn.transport = Scripted::default();
            bench
        }

        /// Publishes an audio message of `len` bytes of `fill` on a stream.
        fn publish(&mut self, stream: usize, fill: u8, len: usize) {
            let header = MessageHeader {
                chunk_stream_id: 4,
                timestamp: 0x0100_0000,
                kind: kind::AUDIO,
                message_stream_id: 1,
            };
            // The upper half of the first byte is the sound format: 2 is MP3, which is a frame
            // of one byte on.
            let mut payload = vec![fill; len];
            payload[0] = 0x20 | fill & 0x0f;
            let message = Message { header, payload: &payload };
            self.hub.record(self.streams[stream], &message, Time::ZERO, &TAPE);
        }

        fn flush(&mut self) -> Flushed {
            self.try_flush().unwrap()
        }

        fn try_flush(&mut self) -> io::Result<Flushed> {
            self.conn.flush(&self.hub, limits::WRITE_BYTES_PER_TURN_MAX, &mut None)
        }

        fn script(&mut self, answers: impl IntoIterator<Item = Answer>) {
            self.conn.transport.script.extend(answers);
        }

        fn control(&mut self) {
            self.conn.session.ping(1);
        }

        /// Message type, message stream id and payload length of all that was written.
        fn written(&self) -> Vec<(u8, u32, usize)> {
            wire_messages(&self.conn.transport.wire, CHUNK_SIZE)
                .iter()
                .map(|(header, payload)| (header.kind, header.message_stream_id, payload.len()))
                .collect()
        }
    }

    const PING: (u8, u32, usize) = (kind::USER_CONTROL, 0, 6);

    #[test]
    fn a_half_sent_message_goes_before_control_and_control_before_media() {
        let mut bench = Bench::new(&[1]);
        bench.publish(0, 1, 300);
        bench.script([Answer::Takes(50), Answer::Fails(ErrorKind::WouldBlock)]);
        assert_eq!(bench.flush(), Flushed::Blocked);
        assert!(!bench.conn.writable);
        bench.control();
        bench.publish(0, 2, 200);
        assert!(bench.conn.has_pending(&bench.hub));
        assert_eq!(bench.flush(), Flushed::All);
        assert_eq!(bench.written(), [(kind::AUDIO, 1, 300), PING, (kind::AUDIO, 1, 200)]);
        assert!(!bench.conn.has_pending(&bench.hub));
        assert_eq!(bench.conn.bytes_out as usize - bench.conn.transport.wire.len(), 16);
    }

    #[test]
    fn a_transport_that_takes_nothing_and_does_not_say_why_ends_the_connection() {
        let mut bench = Bench::new(&[1]);
        bench.publish(0, 1, 300);
        bench.script([Answer::Takes(10), Answer::Takes(0), Answer::Takes(0)]);
        let error = bench.try_flush().unwrap_err();
        assert_eq!((error.kind(), bench.conn.transport.writes), (ErrorKind::WriteZero, 2));
    }

    #[test]
    fn however_little_is_taken_the_order_and_the_bytes_stay() {
        for ids in [&[1][..], &[2], &[1, 2, 3]] {
            let fill = |bench: &mut Bench| {
                for stream in 0..ids.len() {
                    bench.publish(stream, 1, 300);
                    bench.publish(stream, 2, 1);
                    bench.publish(stream, 3, 128);
                }
                bench.control();
            };
            let mut at_once = Bench::new(ids);
            fill(&mut at_once);
            assert_eq!(at_once.flush(), Flushed::All);
            let mut expected = at_once.written();
            assert_eq!(expected.len(), 1 + 3 * ids.len());
            for step in (1..60).chain([127, 128, 300, 900]) {
                let mut bench = Bench::new(ids);
                fill(&mut bench);
                bench.script((0..3000).map(|_| Answer::Takes(step)));
                assert_eq!(bench.flush(), Flushed::All);
                let mut written = bench.written();
                for messages in [&mut written, &mut expected] {
                    messages.sort_by_key(|(_, stream, _)| *stream);
                }
                assert_eq!(written, expected, "{step} bytes at a time to {ids:?}");
            }
        }
    }

    #[test]
    fn a_write_is_cut_by_the_budget_of_the_turn() {
        let message = wire_len(&MessageHeader { timestamp: u32::MAX, ..HEADER }, 1000, CHUNK_SIZE);
        for (budget, outcome) in
            [(message, Flushed::All), (message - 1, Flushed::Budget), (1, Flushed::Budget)]
        {
            let mut bench = Bench::new(&[1]);
            bench.publish(0, 1, 1000);
            assert_eq!(bench.conn.flush(&bench.hub, budget, &mut None).unwrap(), outcome);
            assert_eq!(bench.conn.transport.wire.len(), budget);
            assert_eq!(bench.flush(), Flushed::All);
            assert_eq!(bench.written(), [(kind::AUDIO, 1, 1000)]);
        }
    }

    #[test]
    fn more_messages_than_slices_take_more_writes() {
        for (messages, writes) in [(limits::WRITE_SLICES_MAX, 1), (limits::WRITE_SLICES_MAX + 1, 2)]
        {
            let mut bench = Bench::new(&[1]);
            (0..messages).for_each(|_| bench.publish(0, 1, 10));
            assert_eq!(bench.flush(), Flushed::All);
            assert_eq!(bench.conn.transport.writes, writes);
            assert_eq!(bench.conn.transport.slices_max, limits::WRITE_SLICES_MAX);
            assert_eq!(bench.written().len(), messages);
        }
    }

    #[test]
    fn errors_of_the_transport_are_told_apart() {
        let mut bench = Bench::new(&[1]);
        bench.publish(0, 1, 10);
        bench.script([Answer::Fails(ErrorKind::Interrupted)]);
        assert_eq!(bench.flush(), Flushed::All);
        for (answer, expected) in [
            (Answer::Takes(0), ErrorKind::WriteZero),
            (Answer::Fails(ErrorKind::ConnectionReset), ErrorKind::ConnectionReset),
        ] {
            bench.publish(0, 1, 10);
            bench.script([answer]);
            let error = bench.conn.flush(&bench.hub, 1000, &mut None).unwrap_err();
            assert_eq!(error.kind(), expected);
        }
    }

    #[test]
    fn who_is_on_its_way_out_gets_the_rest_of_a_message_and_why_but_no_more_media() {
        let mut bench = Bench::new(&[1]);
        bench.publish(0, 1, 300);
        bench.publish(0, 2, 300);
        bench.script([Answer::Takes(50), Answer::Fails(ErrorKind::WouldBlock)]);
        bench.flush();
        let closing = Closing::new(CloseReason::ServerShutdown, String::new(), true);
        bench.conn.closing = Some(Box::new(closing));
        bench.control();
        assert_eq!(bench.flush(), Flushed::All);
        assert_eq!(bench.written(), [(kind::AUDIO, 1, 300), PING]);
    }

    #[test]
    fn players_on_any_message_stream_get_their_own_id() {
        let mut bench = Bench::new(&[3, 1, 2]);
        for stream in 0..3 {
            bench.publish(stream, 1, 1000);
            bench.publish(stream, 1, 5);
        }
        assert_eq!(bench.flush(), Flushed::All);
        let mut written = bench.written();
        written.sort_by_key(|(_, id, len)| (*id, 1000 - len));
        let expected: Vec<_> =
            (1..=3).flat_map(|id| [(kind::AUDIO, id, 1000), (kind::AUDIO, id, 5)]).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn control_output_gives_its_memory_back() {
        let mut bench = Bench::new(&[]);
        bench.conn.session.output_mut().user_control(UserControl::StreamBegin(1));
        bench.flush();
        assert!(bench.conn.session.output().bytes().is_empty());
    }

    const HEADER: MessageHeader = MessageHeader {
        chunk_stream_id: 6,
        timestamp: 40,
        kind: kind::VIDEO,
        message_stream_id: tape::MESSAGE_STREAM_ID,
    };

    #[test]
    fn readdressed_bytes_are_those_that_would_have_been_written_for_the_id() {
        let encode = |id: u32| {
            let mut wire = Vec::new();
            for (len, timestamp) in
                [(0, 0), (1, 0xff_fffe), (127, 40), (128, 0xff_ffff), (129, 40), (1000, u32::MAX)]
            {
                let header = MessageHeader { timestamp, message_stream_id: id, ..HEADER };
                write_message(&mut wire, header, &vec![0xc6; len], CHUNK_SIZE);
            }
            Bytes::from(wire)
        };
        for id in [1, 2, 0x0102_0304, u32::MAX] {
            let readdressed =
                with_message_stream_id(&encode(tape::MESSAGE_STREAM_ID), id, CHUNK_SIZE);
            assert_eq!(readdressed, encode(id), "id {id}");
        }
    }

    #[test]
    fn slices_are_bounded_in_number_and_bytes() {
        let byte = [0];
        let mut slices = Slices::new(usize::MAX);
        for count in 1..limits::WRITE_SLICES_MAX {
            assert!(slices.push(&byte), "slice {count}");
        }
        assert!(!slices.push(&byte), "the last place");
        assert!(!slices.push(&byte));
        assert_eq!(slices.slices.len(), limits::WRITE_SLICES_MAX);
        assert!(!slices.slices.spilled());

        let mut slices = Slices::new(5);
        assert!(slices.push(&[1; 4]));
        assert!(!slices.push(&[2; 4]));
        assert!(!slices.push(&[3; 4]));
        let lens: Vec<_> = slices.slices.iter().map(|slice| slice.len()).collect();
        assert_eq!(lens, [4, 1]);
        let mut slices = Slices::new(0);
        assert!(!slices.push(&byte) && slices.slices.is_empty());
    }
}
