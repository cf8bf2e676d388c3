//! One connection: its transport, its session, its timers, and what it does with streams.
//!
//! ```text
//!  accepted              S2, C2            connect           publish, play
//! ─────────▶ Handshaking ───────▶ Connecting ───────▶ Connected ◀───────▶ Waiting, Streaming
//!                 │                   │                   │    all its streams end     │
//!                 ├───────────────────┴── refused, told ──┴────────────────────────────┤
//!                 │                                                                    ▼
//!                 │             peer or deadline        all is sent        Leaving: Farewell
//!                 └─ failed ─▶ Over ◀──────────── Shut ◀─────────────────────┘
//!                               └─▶ removed at the end of the turn
//! ```
//!
//! The upper line shows the [`Stage`]s. Each has a deadline (`watch.rs`). From Connecting on, a
//! connection is either read, or parked while a request is decided (`parking.rs`). From any stage a
//! connection leaves with a farewell, if the peer can be told the reason, or at once. A connection
//! that leaves has no role, waits for no decision and gets no media.
//!
//! Owns its half-sent message. An idle connection holds little more than this struct, as the
//! assertion at the end says. It never touches another connection.

use super::encoders::EncoderId;
use super::hub::{Departed, Hub};
use super::judge::Ticket;
use super::judge::access::{Access, LoggedIn};
use super::parking::Parked;
use super::peer::Peer;
use super::peer_address::PeerAddress;
use super::read::Unread;
use super::reason::CloseReason;
use super::stages::Stage;
use super::timers::{ConnTimers, Deadlines};
use super::transport::Transport;
use crate::rtmp::quirks::Repairs;
use crate::stream::cursor::Play;
use crate::stream::framing::HalfSent;
use crate::stream::ids::StreamId;
use crate::time::Time;
use smallvec::SmallVec;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// The roles of a connection, allocated at its first publish or play. Most connections with a role
/// play one stream, so what few need is boxed.
#[derive(Debug)]
pub struct Activity {
    /// Its plays.
    pub plays: SmallVec<[Play; 1]>,
    /// Deadline for the peer to take another byte; [`Time::NEVER`] if nothing waits for it.
    stalls_at: Time,
    publishing: Option<Box<Publishing>>,
    /// The rest of a message that was sent in part. It precedes everything else. The box is kept
    /// once it is allocated, since a slow player needs it often.
    pub(super) half_sent: Option<Box<HalfSent>>,
    /// Facts about ended roles, for the closing line.
    summary: Option<Box<Summary>>,
}

const _: () = assert!(size_of::<Activity>() <= 88);

/// The publishes of a connection.
#[derive(Debug)]
struct Publishing {
    list: SmallVec<[Publish; 1]>,
    /// Deadline for the next media; [`Time::NEVER`] if there is none.
    silent_at: Time,
}

impl Publishing {
    /// Returns the memory that it holds, including itself (bytes).
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
            half_sent: None,
            summary: None,
        }
    }
}

impl Activity {
    /// Returns the memory that it holds (bytes). Boxes that a write may allocate always count, so
    /// that few writes change the sum. The rest of a half-sent message is in a block of its
    /// stream, and the stream counts the block once for all its players (`blocks.rs`).
    pub fn held_bytes(&self) -> usize {
        let plays = if self.plays.spilled() { self.plays.capacity() } else { 0 };
        size_of::<Self>()
            + plays * size_of::<Play>()
            + self.plays.iter().map(Play::held_bytes).sum::<usize>()
            + self.publishing.as_deref().map_or(0, Publishing::held_bytes)
            + size_of::<HalfSent>()
            + self.summary.as_deref().map_or(0, Summary::held_bytes)
    }

    /// Returns its publishes.
    pub fn publishes(&self) -> &[Publish] {
        self.publishing.as_ref().map_or(&[], |publishing| &publishing.list)
    }

    /// Adds a publish.
    pub fn publish(&mut self, publish: Publish) {
        let first = || Box::new(Publishing { list: SmallVec::new(), silent_at: Time::NEVER });
        self.publishing.get_or_insert_with(first).list.push(publish);
    }

    /// Removes the publish on a lane.
    pub fn unpublish(&mut self, lane: u32) {
        if let Some(publishing) = &mut self.publishing {
            publishing.list.retain(|publish| publish.lane != lane);
        }
    }

    /// Returns the stream that is published on a lane.
    pub fn published(&self, lane: u32) -> Option<StreamId> {
        let publish = self.publishes().iter().find(|p| p.lane == lane)?;
        Some(publish.stream)
    }

    /// Returns the bytes that are left of a half-sent message.
    pub(super) fn half_sent_bytes(&self) -> usize {
        self.half_sent.as_ref().map_or(0, |half_sent| half_sent.len())
    }

    /// Notes the end of a role in the stream called `name`.
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
    /// The lane that carries it.
    pub lane: u32,
}

/// Facts about the ended roles of a connection, for its closing line.
#[derive(Debug, Default)]
pub struct Summary {
    /// The last role that ended: "publisher" or "player".
    role: &'static str,
    /// The canonical name of the stream of that role.
    stream: Option<Rc<str>>,
    /// Skips of its plays.
    pub skips: u32,
    /// Repairs of the timestamps that it published, if there were any.
    repairs: Option<Box<Repairs>>,
}

impl Summary {
    /// Returns the memory that it holds, including itself (bytes). The name may outlive its stream.
    fn held_bytes(&self) -> usize {
        let repairs = if self.repairs.is_some() { size_of::<Repairs>() } else { 0 };
        size_of::<Self>() + self.stream.as_deref().map_or(0, str::len) + repairs
    }

    /// Adds the repairs of a publish that has ended.
    pub fn publisher_left(&mut self, departed: &Departed) {
        let repairs = &departed.report.repairs;
        if !repairs.is_empty() {
            self.repairs.get_or_insert_default().add(repairs);
        }
    }
}

/// The state of a connection that is being closed.
#[derive(Debug)]
pub struct Closing {
    /// The reason.
    pub reason: CloseReason,
    /// Details as one phrase; empty if the reason needs none.
    pub detail: String,
    /// The refused request and the name of the client; empty if nothing was refused.
    pub asked: String,
    /// The progress of the departure.
    pub step: Departure,
}

/// The progress of a connection that is being closed. The diagram is in the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The last messages are being sent.
    Farewell,
    /// Everything is sent and the sending direction is shut. The peer has a moment to close.
    Shut,
    /// It is removed at the end of the turn.
    Over,
}

impl Closing {
    /// Creates the state. `step` says whether the peer is given time to read the reason.
    pub const fn new(reason: CloseReason, detail: String, step: Departure) -> Self {
        Self { reason, detail, asked: String::new(), step }
    }

    /// Returns the memory that it holds, including itself (bytes).
    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.detail.capacity() + self.asked.capacity()
    }
}

/// See the module's head.
///
/// The fields that a write of media needs are adjacent in memory, from the end of the session on.
/// Between two writes to a player, the kernel's work for the other players evicts its lines from
/// the cache. So each line that a write touches is a cache miss.
#[derive(Debug)]
#[repr(C)]
pub struct Conn<T> {
    /// The protocol side: a session, or a client of another server.
    pub peer: Peer,
    /// Its roles, once it has had any.
    pub activity: Option<Box<Activity>>,
    /// Set while it is being closed.
    pub closing: Option<Box<Closing>>,
    /// Bytes written.
    pub bytes_out: u64,
    /// True until the transport refuses bytes, and again after its next event.
    pub writable: bool,
    /// True while it is in the queue of connections to write.
    pub queued_to_write: bool,
    /// True while it is in the queue of connections to read.
    pub queued_to_read: bool,
    /// True if its memory may differ from `accounted_bytes` (`table.rs`).
    pub is_changed: bool,
    /// True if there may be bytes to read.
    pub readable: bool,
    /// Its socket.
    pub transport: T,
    /// True if the peer has ended its sending direction or sent urgent data. Then a drained
    /// transport is read again.
    pub read_closed: bool,
    /// True if its last read exceeded its share of a turn, or if it has not published yet. Such a
    /// connection is read in small pieces, since the excess has to be kept.
    pub reads_little: bool,
    /// True if nothing was received since the last ping.
    pub pinged: bool,
    /// The stage of the session.
    pub stage: Stage,
    /// The address; `None` over a unix socket. A `SocketAddr` would also hold the flow label and
    /// scope of IPv6, which are not needed.
    peer_ip: Option<IpAddr>,
    peer_port: u16,
    /// The name of its client.
    pub encoder: EncoderId,
    /// Memory that is accounted to it in addition to this struct (bytes).
    pub accounted_bytes: u32,
    /// Bytes read, including the handshake.
    pub bytes_in: u64,
    /// Time of the last received bytes.
    pub heard: Time,
    /// Time of the accept, or of the connect to another server.
    pub accepted: Time,
    /// The deadlines that need no role.
    pub timers: ConnTimers,
    rare: Option<Box<Rare>>,
}

/// State that few connections have at a time.
#[derive(Debug)]
struct Rare {
    /// [`Conn::stalls_at`] of a connection without a role.
    stalls_at: Time,
    /// The user that has logged in.
    logged_in: Option<LoggedIn>,
    /// Bytes that were read beyond its share of a turn.
    unread: Option<Unread>,
    /// The request that waits for a decision.
    parked: Option<Box<Parked>>,
}

impl Default for Rare {
    fn default() -> Self {
        Self { stalls_at: Time::NEVER, logged_in: None, unread: None, parked: None }
    }
}

impl Rare {
    /// Memory that it holds, itself among it (bytes).
    fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.logged_in.as_ref().map_or(0, LoggedIn::held_bytes)
            + self.unread.as_ref().map_or(0, Unread::held_bytes)
            + self.parked.as_deref().map_or(0, Parked::held_bytes)
    }
}

impl<T> Conn<T> {
    /// Returns the address of the peer.
    pub const fn address(&self) -> PeerAddress {
        match self.peer_ip {
            Some(ip) => PeerAddress::Ip(SocketAddr::new(ip, self.peer_port)),
            None => PeerAddress::Unix,
        }
    }
}

impl<T: Transport> Conn<T> {
    /// Creates a connection. Its transport is assumed to be writable.
    pub fn new(transport: T, address: PeerAddress, peer: Peer, now: Time) -> Self {
        Self {
            transport,
            peer,
            peer_ip: address.ip(),
            peer_port: address.port(),
            timers: ConnTimers::default(),
            stage: Stage::Handshaking,
            readable: false,
            read_closed: false,
            writable: true,
            queued_to_read: false,
            queued_to_write: false,
            is_changed: false,
            pinged: false,
            reads_little: true,
            encoder: EncoderId::default(),
            rare: None,
            activity: None,
            closing: None,
            accepted: now,
            heard: now,
            bytes_in: 0,
            bytes_out: 0,
            accounted_bytes: 0,
        }
    }

    /// Returns its deadlines.
    pub fn deadlines(&mut self) -> Deadlines<'_> {
        let (mut silence, mut stall, mut verdict) = (None, None, None);
        if let Some(rare) = self.rare.as_deref_mut() {
            stall = Some(&mut rare.stalls_at);
            verdict = rare.parked.as_mut().map(|parked| &mut parked.until);
        }
        if let Some(activity) = self.activity.as_deref_mut() {
            silence = activity.publishing.as_mut().map(|publishing| &mut publishing.silent_at);
            stall = Some(&mut activity.stalls_at);
        }
        Deadlines { conn: &mut self.timers, silence, stall, verdict }
    }

    /// Returns the deadline for the peer to take another byte; [`Time::NEVER`] if there is none.
    pub fn stalls_at(&self) -> Time {
        let without_streams = || self.rare.as_ref().map_or(Time::NEVER, |rare| rare.stalls_at);
        self.activity.as_ref().map_or_else(without_streams, |activity| activity.stalls_at)
    }

    /// Returns whether the peer must take the pending bytes in time, and allocates the place of
    /// [`Conn::stalls_at`]. A connection that is being closed has another deadline. A publisher may
    /// leave its replies unread, since they are bounded.
    pub fn may_stall(&mut self) -> bool {
        if self.is_closing() {
            return false;
        }
        match &self.activity {
            Some(activity) => {
                let owes_media = !activity.plays.is_empty() || activity.half_sent_bytes() > 0;
                owes_media || activity.publishes().is_empty()
            }
            None => {
                self.rare.get_or_insert_default();
                true
            }
        }
    }

    /// Returns the deadline for the next media; [`Time::NEVER`] if there is none.
    pub fn silent_at(&self) -> Time {
        let publishing = self.activity.as_ref().and_then(|activity| activity.publishing.as_ref());
        publishing.map_or(Time::NEVER, |publishing| publishing.silent_at)
    }

    /// Returns the memory that it holds in addition to this struct (bytes): messages under
    /// assembly, pending replies, and `unsent_bytes` in the kernel while the socket is full.
    pub fn held_bytes(&self, unsent_bytes: usize) -> usize {
        self.peer.held_bytes()
            + self.rare.as_deref().map_or(0, Rare::held_bytes)
            + self.activity.as_deref().map_or(0, Activity::held_bytes)
            + self.closing.as_deref().map_or(0, Closing::held_bytes)
            + if self.writable { 0 } else { unsent_bytes }
    }

    /// Returns the user that has logged in.
    pub fn logged_in(&self) -> Option<&LoggedIn> {
        self.rare.as_ref()?.logged_in.as_ref()
    }

    /// Notes the user that has logged in.
    pub fn set_logged_in(&mut self, logged_in: Option<LoggedIn>) {
        if self.rare.is_some() || logged_in.is_some() {
            self.rare.get_or_insert_default().logged_in = logged_in;
        }
    }

    /// Returns whether kept bytes precede the next read.
    pub fn has_unread(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.unread.is_some())
    }

    /// Takes the kept bytes, which precede the next read.
    pub(super) fn take_unread(&mut self) -> Option<Unread> {
        self.rare.as_mut()?.unread.take()
    }

    /// Keeps bytes that were read beyond its share of a turn.
    pub(super) fn keep_unread(&mut self, unread: Unread) {
        self.rare.get_or_insert_default().unread = Some(unread);
    }

    /// Parks it until a request is decided. Until then it is not read.
    pub(super) fn park(&mut self, parked: Parked) {
        self.rare.get_or_insert_default().parked = Some(Box::new(parked));
    }

    /// Takes the parked request, if there is one.
    pub(super) fn unpark(&mut self) -> Option<Parked> {
        Some(*self.rare.as_mut()?.parked.take()?)
    }

    /// Returns whether one of its requests is being decided. Then it is not read.
    pub fn is_parked(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.parked.is_some())
    }

    /// Returns whether it waits for the decision with this ticket.
    pub(super) fn waits_for(&self, ticket: Ticket) -> bool {
        let parked = self.rare.as_ref().and_then(|rare| rare.parked.as_ref());
        parked.is_some_and(|parked| parked.ticket == ticket)
    }

    /// Returns the first of its deadlines; [`Time::NEVER`] if it has none.
    pub fn first_deadline(&self) -> Time {
        let of_streams = self.stalls_at().min(self.silent_at());
        self.timers.earliest().min(of_streams).min(self.undecided_at())
    }

    /// Returns the deadline for the decision about its request; [`Time::NEVER`] if none is pending.
    pub fn undecided_at(&self) -> Time {
        let parked = self.rare.as_ref().and_then(|rare| rare.parked.as_ref());
        parked.map_or(Time::NEVER, |parked| parked.until)
    }

    /// Returns whether it neither publishes nor plays.
    pub fn is_idle(&self) -> bool {
        self.activity.as_ref().is_none_or(|a| a.publishes().is_empty() && a.plays.is_empty())
    }

    /// Returns whether it plays anything.
    pub fn plays(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| !activity.plays.is_empty())
    }

    /// Returns its roles, and allocates their place.
    pub fn activity_mut(&mut self) -> &mut Activity {
        self.activity.get_or_insert_default()
    }

    /// Returns the stream that it publishes on a lane.
    pub fn published(&self, lane: u32) -> Option<StreamId> {
        self.activity.as_ref()?.published(lane)
    }

    /// Returns the play on a lane.
    pub fn play_mut(&mut self, lane: u32) -> Option<&mut Play> {
        let plays = &mut self.activity.as_mut()?.plays;
        plays.iter_mut().find(|play| play.lane == lane)
    }

    /// Returns the number of pending bytes that precede any media.
    pub fn reply_bytes(&self) -> usize {
        let half_sent = self.activity.as_deref().map_or(0, Activity::half_sent_bytes);
        half_sent + self.peer.pending_bytes()
    }

    /// Returns whether anything waits to be written.
    pub fn has_pending(&self, hub: &Hub) -> bool {
        self.owes(|play| play.has_pending(hub.channel(play.stream).tape()))
    }

    /// Returns whether a write has anything to visit, including messages that are not wanted.
    pub fn is_behind(&self, hub: &Hub) -> bool {
        self.owes(|play| play.is_behind(hub.channel(play.stream).tape()))
    }

    fn owes(&self, media: impl Fn(&Play) -> bool) -> bool {
        if self.peer.has_pending() || self.transport.has_unsent() {
            return true;
        }
        let Some(activity) = &self.activity else { return false };
        activity.half_sent_bytes() > 0 || (!self.is_closing() && activity.plays.iter().any(media))
    }

    /// Returns true if only tape data is left to send and the socket has room. A write that starts
    /// and ends in this state cannot have changed [`Conn::held_bytes`].
    pub fn holds_nothing_to_send(&self) -> bool {
        let half_sent = self.activity.as_deref().map_or(0, Activity::half_sent_bytes);
        self.writable && half_sent == 0 && !self.peer.has_pending()
    }

    /// Returns whether it is removed at the end of the turn. Then it is not read any more.
    pub fn is_over(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.step == Departure::Over)
    }

    /// Checks the legal combinations of its states, as drawn in the module's head.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self) {
        debug_assert!(self.is_idle() || !self.is_closing(), "who leaves has no stream");
        debug_assert!(!self.is_parked() || !self.is_closing(), "who leaves waits for no decision");
        let is_asking = self.peer.is_asking() && !self.is_closing();
        debug_assert_eq!(self.is_parked(), is_asking, "a session asks while it is parked");
        let reads_on = self.readable || self.is_over();
        debug_assert!(reads_on || !self.transport.has_unread(), "no event would report the rest");
        debug_assert!(self.is_idle() || self.stage >= Stage::Connected, "a stream needs a connect");
        debug_assert!(self.stage != Stage::Leaving || self.is_closing(), "{:?}", self.closing);
        let has_roles = matches!(self.stage, Stage::Waiting | Stage::Streaming);
        debug_assert!(!has_roles || !self.is_idle() || self.is_closing(), "{:?}", self.stage);
    }

    /// Returns whether it is being closed. Then it gets no more media.
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }
}

/// The closing line of a connection.
pub struct ClosingLine<'c, T> {
    /// The connection.
    pub conn: &'c Conn<T>,
    /// Time of its end.
    pub now: Time,
    /// The rules that say which part of the stream's name is secret.
    pub access: &'c Access,
}

impl<T> fmt::Display for ClosingLine<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conn, now, access } = self;
        write!(f, "closed {}", conn.address())?;
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
        if let Some(tolerated) = conn.peer.tolerated().filter(|tolerated| !tolerated.is_empty()) {
            write!(f, "{separator}{tolerated}")?;
            separator = ", ";
        }
        if let Some(repairs) = summary.and_then(|summary| summary.repairs.as_ref()) {
            write!(f, "{separator}{repairs}")?;
        }
        Ok(())
    }
}

/// An idle session may cost 512 bytes. The rest is for the headers of its chunk streams, the name
/// of its application and its slot in the slab.
const _: () = assert!(size_of::<Conn<[u8; 4]>>() <= 280);
