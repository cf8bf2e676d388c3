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
//! The upper line is its [`Stage`], with a deadline each (`watch.rs`). In Connecting and the stages
//! after it, a connection listens, or is parked while a request is decided (`parking.rs`). From any
//! stage a connection may leave in one of two ways: with a farewell, if it can be told why,
//! or at once. A connection that leaves has no stream any more, waits for no decision, and gets no
//! media.
//!
//! Owns its half-sent message. A connection that is idle holds nothing but this struct: see
//! the assertion at the end. It never touches another connection.

use super::encoders::EncoderId;
use super::hub::{Departed, Hub};
use super::judge::Ticket;
use super::judge::access::{Access, LoggedIn};
use super::parking::Parked;
use super::peer::Peer;
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
    pub(super) half_sent: Option<Box<HalfSent>>,
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
            half_sent: None,
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
            + size_of::<HalfSent>()
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
    pub fn unpublish(&mut self, lane: u32) {
        if let Some(publishing) = &mut self.publishing {
            publishing.list.retain(|publish| publish.lane != lane);
        }
    }

    /// The stream that is published on a message stream.
    pub fn published(&self, lane: u32) -> Option<StreamId> {
        let publish = self.publishes().iter().find(|p| p.lane == lane)?;
        Some(publish.stream)
    }

    /// Bytes left of a message that was sent in part.
    pub(super) fn half_sent_bytes(&self) -> usize {
        self.half_sent.as_ref().map_or(0, |half_sent| half_sent.len())
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
    pub lane: u32,
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

/// A connection that is on its way out.
#[derive(Debug)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// The particulars, as one phrase; empty when the reason says it all.
    pub detail: String,
    /// What the peer asked for that was refused, and the name of its client; empty if it was not
    /// a refusal.
    pub asked: String,
    /// How far it has come.
    pub step: Departure,
}

/// How far a connection has come on its way out. The diagram is in the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// What it was told is being sent.
    Farewell,
    /// All is sent and the sending direction is shut; the peer has a moment to close.
    Shut,
    /// It is removed at the end of the turn.
    Over,
}

impl Closing {
    /// On its way out, with or without time to read why.
    pub const fn new(reason: CloseReason, detail: String, step: Departure) -> Self {
        Self { reason, detail, asked: String::new(), step }
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
    /// What speaks on it.
    pub peer: Peer,
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
    /// It may hold more or less than is accounted to it (`table.rs`).
    pub is_changed: bool,
    /// There may be bytes to read.
    pub readable: bool,
    /// Its socket.
    pub transport: T,
    /// The peer has ended its sending direction or sent urgent data, so a short read is not the
    /// last.
    pub read_closed: bool,
    /// Its last read did not fit its share of a turn, or it has not published yet: what a read
    /// brings beyond the share has to be kept.
    pub reads_little: bool,
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
    rare: Option<Box<Rare>>,
}

/// State that few connections have at a time.
#[derive(Debug)]
struct Rare {
    /// See [`Conn::stalls_at`], of a connection without streams.
    stalls_at: Time,
    /// The user that has logged in.
    logged_in: Option<LoggedIn>,
    /// Bytes that were read beyond its share of a turn.
    unread: Option<Unread>,
    /// Its request that waits for a decision.
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
    /// Who it is.
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
    }
}

impl<T: Transport> Conn<T> {
    /// A connection just accepted. Its transport is taken to be writable.
    pub fn new(transport: T, address: SocketAddr, peer: Peer, now: Time) -> Self {
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

    /// Its deadlines.
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

    /// When it has to have taken another byte; [`Time::NEVER`] when that is not waited for.
    pub fn stalls_at(&self) -> Time {
        let without_streams = || self.rare.as_ref().map_or(Time::NEVER, |rare| rare.stalls_at);
        self.activity.as_ref().map_or_else(without_streams, |activity| activity.stalls_at)
    }

    /// Makes a place for [`Conn::stalls_at`]. Returns whether the connection must take what it is
    /// sent: one that is on its way out has another deadline, and a publisher may leave replies
    /// unread, of which few are kept.
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

    /// When the next media has to have come; [`Time::NEVER`] when that is not waited for.
    pub fn silent_at(&self) -> Time {
        let publishing = self.activity.as_ref().and_then(|activity| activity.publishing.as_ref());
        publishing.map_or(Time::NEVER, |publishing| publishing.silent_at)
    }

    /// Memory that it holds in addition to this struct: what is under assembly, what waits to be
    /// sent, and `unsent_bytes` in the kernel while the socket takes no more (bytes).
    pub fn held_bytes(&self, unsent_bytes: usize) -> usize {
        self.peer.held_bytes()
            + self.rare.as_deref().map_or(0, Rare::held_bytes)
            + self.activity.as_deref().map_or(0, Activity::held_bytes)
            + self.closing.as_deref().map_or(0, Closing::held_bytes)
            + if self.writable { 0 } else { unsent_bytes }
    }

    /// The user that has logged in.
    pub fn logged_in(&self) -> Option<&LoggedIn> {
        self.rare.as_ref()?.logged_in.as_ref()
    }

    /// Notes the user that has logged in.
    pub fn set_logged_in(&mut self, logged_in: Option<LoggedIn>) {
        if self.rare.is_some() || logged_in.is_some() {
            self.rare.get_or_insert_default().logged_in = logged_in;
        }
    }

    /// Returns whether kept bytes go before the next read.
    pub fn has_unread(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.unread.is_some())
    }

    /// Takes the kept bytes, which go before the next read.
    pub(super) fn take_unread(&mut self) -> Option<Unread> {
        self.rare.as_mut()?.unread.take()
    }

    /// Keeps bytes that were read beyond its share of a turn.
    pub(super) fn keep_unread(&mut self, unread: Unread) {
        self.rare.get_or_insert_default().unread = Some(unread);
    }

    /// Has it wait for a decision. Until then it is not read.
    pub(super) fn park(&mut self, parked: Parked) {
        self.rare.get_or_insert_default().parked = Some(Box::new(parked));
    }

    /// Ends the wait, if there is one, and returns what was waited for.
    pub(super) fn unpark(&mut self) -> Option<Parked> {
        Some(*self.rare.as_mut()?.parked.take()?)
    }

    /// Returns whether a request of it is being decided, so that it is not read.
    pub fn is_parked(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.parked.is_some())
    }

    /// Returns whether it waits for the decision with this ticket.
    pub(super) fn waits_for(&self, ticket: Ticket) -> bool {
        let parked = self.rare.as_ref().and_then(|rare| rare.parked.as_ref());
        parked.is_some_and(|parked| parked.ticket == ticket)
    }

    /// The first of all its deadlines; [`Time::NEVER`] if it has none.
    pub fn first_deadline(&self) -> Time {
        let of_streams = self.stalls_at().min(self.silent_at());
        self.timers.earliest().min(of_streams).min(self.undecided_at())
    }

    /// Deadline for the decision about its request; [`Time::NEVER`] if it waits for none.
    pub fn undecided_at(&self) -> Time {
        let parked = self.rare.as_ref().and_then(|rare| rare.parked.as_ref());
        parked.map_or(Time::NEVER, |parked| parked.until)
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
    pub fn published(&self, lane: u32) -> Option<StreamId> {
        self.activity.as_ref()?.published(lane)
    }

    /// The play on a message stream.
    pub fn play_mut(&mut self, lane: u32) -> Option<&mut Play> {
        let plays = &mut self.activity.as_mut()?.plays;
        plays.iter_mut().find(|play| play.lane == lane)
    }

    /// Bytes that go before any media.
    pub fn reply_bytes(&self) -> usize {
        let half_sent = self.activity.as_deref().map_or(0, Activity::half_sent_bytes);
        half_sent + self.peer.output().bytes().len()
    }

    /// Whether anything waits to be written.
    pub fn has_pending(&self, hub: &Hub) -> bool {
        self.owes(|play| play.has_pending(hub.channel(play.stream).tape()))
    }

    /// Returns whether a write would find anything to look at, wanted or not.
    pub fn is_behind(&self, hub: &Hub) -> bool {
        self.owes(|play| play.is_behind(hub.channel(play.stream).tape()))
    }

    fn owes(&self, media: impl Fn(&Play) -> bool) -> bool {
        if !self.peer.output().is_empty() || self.transport.has_unsent() {
            return true;
        }
        let Some(activity) = &self.activity else { return false };
        activity.half_sent_bytes() > 0 || (!self.is_closing() && activity.plays.iter().any(media))
    }

    /// Whether nothing is to be sent but media, as far as there is room: then a write that leaves
    /// it so changes nothing of what it holds.
    pub fn holds_nothing_to_send(&self) -> bool {
        self.writable && self.reply_bytes() == 0
    }

    /// Whether it is removed at the end of the turn; then it is not read any more.
    pub fn is_over(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.step == Departure::Over)
    }

    /// Checks what this structure promises: the legal combinations of its states, as drawn in the
    /// module's head.
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

    /// Whether it is on its way out; then it gets no more media.
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
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

/// An idle session's share of the 512 bytes that it may cost; the rest is its chunk streams'
/// headers, its application's name and the slab's slot.
const _: () = assert!(size_of::<Conn<[u8; 4]>>() <= 280);
