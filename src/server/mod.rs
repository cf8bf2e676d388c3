//! The server without sockets: connections, streams and deadlines, in turns.
//!
//! Generic over [`Transport`], and `now` is an argument, so that tests run the same code in
//! virtual time. The loop around it says what became readable or writable ([`Server::event`]),
//! hands over new connections ([`Server::accept`]) and then lets it take a [`Server::turn`]:
//!
//! ```text
//! turn: read what is readable ─▶ what is due ─▶ write to who was waiting, or is answered
//!       ─▶ write to the players of streams with news ─▶ end streams ─▶ remove
//! ```
//!
//! No call removes the connection that it serves: the connection is marked with a reason and
//! removed at the end of a turn, after a last write. [`Server::admits`] alone removes one at once,
//! and its id may pass to the newcomer: the loop accepts after it has noted the poll's events.
//!
//! # The way of a video message
//!
//! 1. `event` notes that the socket is readable and queues the connection in the table.
//! 2. `read_all` takes it from the queue, `read` spends its share, `read_once` makes the call.
//! 3. `consume` asks `Peer::next` for the frame, whose payload lies in the read buffer.
//! 4. `record` hands it to `Hub::record`, and that to `Stream::record`: what it is (`frame`), its
//!    time (`timeline`), and its copy on the tape (`Tape::record`).
//! 5. `Hub::visit_players_at` notes that its players have something new.
//! 6. `write_all` takes the news, `store` writes it to a memory file if many play it,
//!    `write_players` visits the players.
//! 7. `write` catches up with the tape, `Outbox::flush` sends a run of a memory file
//!    (`Play::file_run`) or gathers slices of the tape (`Play::gather`), and moves the cursor
//!    (`Play::advance`).
//!
//! # Other ways
//!
//! - **connect and publish**: `consume` gets a `Wish`, and `decide` takes it to `connect` or
//!   `publish` (`role.rs`). That asks the judges (`judge/`), then the hub, and answers through the
//!   peer. The reply leaves with the writes of the same turn. If a judge needs time, `park` has the
//!   connection wait, and `decided` goes on from there (`parking.rs`).
//! - **what only the loop can do**, such as dialing: `next_errand` hands it out, and `done` takes
//!   the outcome (`errand.rs`).
//! - **a deadline**: `fire_timers` takes the first that has come from the table and calls what
//!   acts on its kind, all in `watch.rs`, where all deadlines are armed as well.
//! - **a slow player's skip**: `write` calls `Play::catch_up`, which moves a cursor that lags to
//!   the newest start point of the tape and counts the skip.
//! - **a shortage of memory**: `relieve_memory` settles the sum of the table, finds the level and
//!   gives up what it asks for (`memory.rs`).

pub mod accepting;
pub mod conn;
pub mod errand;
pub mod hub;
pub mod judge;
pub mod lines;
pub mod memory;
pub mod peer;
pub mod ready;
pub mod reason;
pub mod relaying;
pub mod stages;
pub mod stats;
pub mod stopwatch;
pub mod timers;
pub mod transport;

mod advice;
mod encoders;
mod outbox;
mod parking;
mod read;
mod role;
mod table;
mod watch;
mod write;

use crate::config::{Settings, Start};
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::chunk::reader::ReadLimits;
use crate::rtmp::handshake::Hello;
use crate::rtmp::session::SessionSettings;
use crate::stream::cursor::LagSettings;
pub use crate::stream::ids::ConnId;
use crate::stream::ids::{Endpoint, StreamId};
use crate::stream::segment::SegmentSettings;
use crate::stream::tape::TapeSettings;
use crate::time::Time;
use conn::{Closing, ClosingLine, Conn, Departure};
use encoders::Encoders;
use errand::Errands;
use hub::{DuplicatePolicy, Hub};
use judge::Outside;
use judge::access::Access;
use lines::{Chatter, Topic};
use log::{Level, debug, info, log, warn};
use memory::{Memory, MemoryLevel};
use outbox::Outbox;
use peer::{Peer, Protocol};
use ready::Ready;
use reason::CloseReason;
use stages::Stage;
use stats::Stats;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use stopwatch::{Clocks, Stopwatch, Work};
use table::Table;
use timers::Timers;
use transport::Transport;

/// Connections and streams up to which debug builds check the invariants after a turn. With more of
/// them the checks would take longer than the turn.
const CHECKED_MAX: usize = 64;
/// What a client that is to connect again or to go is told, besides the code.
const GOING_DOWN: &str = "the server is going down";
const BY_COMMAND: &str = "the server asks for it";

/// The parts of the configuration in the form in which the parts of the server take them.
#[derive(Debug)]
struct Policies {
    session: SessionSettings,
    tape: TapeSettings,
    lag: LagSettings,
    duplicate: DuplicatePolicy,
    access: Access,
}

/// See the module's head.
#[derive(Debug)]
pub struct Server<T> {
    table: Table<T>,
    hub: Hub,
    settings: Settings,
    policies: Policies,
    outside: Outside,
    errands: Errands,
    stats: Stats,
    encoders: Encoders,
    /// Streams whose players are being visited.
    news: Ready<StreamId>,
    outbox: Outbox,
    draining: bool,
    /// All connections are being told something.
    sweep: Option<Sweep>,
    crowding: Crowding,
    /// `None` where there are no memory files, or the system refuses to send from them.
    segments: Option<SegmentSettings>,
    /// The system had none to give, and that was said.
    lacks_segments: bool,
    chatter: Chatter,
    memory: Memory,
    stopwatch: Stopwatch,
}

/// What a full table has led to since it last had room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Crowding {
    #[default]
    None,
    /// Sessions without a stream made room.
    GivesWay,
    /// There were none left, and newcomers were refused.
    Refuses,
}

/// A pass over all connections that tells each of them something, a part of it in each turn.
#[derive(Debug)]
struct Sweep {
    /// Where in the table it goes on.
    next: usize,
    /// The server goes down; otherwise clients are asked to connect again, no more.
    goes_down: bool,
    told: usize,
    asked: usize,
}

impl Sweep {
    const fn new(goes_down: bool) -> Self {
        Self { next: 0, goes_down, told: 0, asked: 0 }
    }
}

impl<T: Transport> Server<T> {
    /// A server without connections. `settings.limits.connections_max` must be final: the
    /// bound that follows from the descriptors is the caller's to find. What is random in
    /// `hello` is public, what is random in `challenger` is not.
    pub fn new(settings: Settings, hello: Hello, challenger: Challenger) -> Self {
        let access = Access::new(settings.apps.clone(), challenger);
        let policies = Policies::new(&settings, Arc::new(hello), access);
        let mut table = Table::new(memory::unsent_bytes(&settings));
        table.count_addresses(settings.limits.connections_per_address_max != 0);
        Self {
            table,
            hub: Hub::default(),
            settings,
            policies,
            outside: Outside::default(),
            errands: Errands::default(),
            stats: Stats::default(),
            encoders: Encoders::default(),
            news: Ready::default(),
            outbox: Outbox::default(),
            draining: false,
            sweep: None,
            crowding: Crowding::None,
            segments: None,
            lacks_segments: false,
            chatter: Chatter::default(),
            memory: Memory::default(),
            stopwatch: Stopwatch::default(),
        }
    }

    /// Lets players be sent from memory files; without them everything is sent from memory.
    pub const fn set_segments(&mut self, segments: Option<SegmentSettings>) {
        self.segments = segments;
    }

    /// Whether players may be sent from memory files.
    pub const fn has_segments(&self) -> bool {
        self.segments.is_some()
    }

    /// The id that the next accepted connection gets.
    pub fn next_id(&self) -> ConnId {
        self.table.next_id()
    }

    /// Makes room for one more connection: when the table is full, a session without a stream
    /// gives way. Returns false when there is none, and for an address that has its share; the
    /// caller then drops the connection.
    pub fn admits(&mut self, peer: &SocketAddr, now: Time) -> bool {
        let per_address_max = self.settings.limits.connections_per_address_max;
        if self.draining {
            return false;
        }
        if per_address_max != 0 && self.table.of_address(&peer.ip()) >= per_address_max {
            self.stats.refused += 1;
            debug!("refused {peer}: {}", CloseReason::AddressLimit);
            return false;
        }
        if self.memory.level == MemoryLevel::Critical {
            self.stats.refused += 1;
            debug!("refused {peer}: {}", CloseReason::MemoryPressure);
            return false;
        }
        let connections_max = self.settings.limits.connections_max;
        if connections_max == 0 || self.table.len() < connections_max {
            if self.table.len() < connections_max - connections_max / 8 {
                self.crowding = Crowding::None;
            }
            return true;
        }
        // Connections that are being closed give way before any others.
        if let Some(id) = self.table.next_to_end() {
            self.remove(id, now);
            return true;
        }
        let Some(id) = self.table.next_to_evict() else {
            self.stats.refused += 1;
            self.note_crowding(Crowding::Refuses);
            debug!("refused {peer}: all {connections_max} connections have a stream");
            return false;
        };
        self.note_crowding(Crowding::GivesWay);
        self.close(id, CloseReason::GaveWay, String::new(), now);
        // Its place is needed at once.
        self.remove_closing(now);
        true
    }

    /// Says that the table is full: once until an eighth of it is free again, since each
    /// connection beyond would have something to say.
    fn note_crowding(&mut self, crowding: Crowding) {
        if crowding <= self.crowding {
            return;
        }
        self.crowding = crowding;
        let connections_max = self.settings.limits.connections_max;
        let what = match crowding {
            Crowding::Refuses => "newcomers are refused",
            _ => "sessions without a stream give way",
        };
        warn!("all {connections_max} connections are taken: {what}");
    }

    /// Takes a connection that speaks `protocol`. It must have been admitted; its id is
    /// [`Server::next_id`].
    pub fn accept(
        &mut self,
        transport: T,
        address: SocketAddr,
        protocol: Protocol,
        now: Time,
    ) -> ConnId {
        let peer = Peer::new(protocol, &self.policies.session);
        let conn = Conn::new(transport, address, peer, now);
        let id = self.table.insert(conn);
        self.stats.accepted += 1;
        self.arm_stage(id, now);
        id
    }

    /// Notes what the poll said of a connection. Spurious and late events do no harm.
    pub fn event(&mut self, id: ConnId, readable: bool, writable: bool, read_closed: bool) {
        if !self.table.contains(id) {
            return;
        }
        let conn = self.table.unmarked(id);
        let has_input = readable || read_closed;
        conn.readable |= has_input;
        conn.read_closed |= read_closed;
        // Every event of a socket with room reports it; only a change is worth a write.
        let has_room_again = writable && !conn.writable;
        if has_input {
            self.table.queue_read(id);
        }
        if has_room_again {
            self.table[id].writable = true;
            self.table.queue_write(id);
        }
    }

    /// Does all that is to be done now, as far as it goes into a turn. `buffer` is lent for
    /// reading.
    pub fn turn(&mut self, buffer: &mut [u8], now: Time) {
        self.stopwatch.start();
        self.read_all(buffer, now);
        self.fire_timers(now);
        self.cancel_late_errands(now);
        self.sweep(now);
        self.stopwatch.lap(Work::Deadlines);
        self.write_all(now);
        // After the writes: what a publisher sent before it went comes before the end.
        self.end_streams(now);
        self.remove_closing(now);
        self.relieve_memory(now);
        self.check_invariants();
        self.tell_left_out(now);
        self.stopwatch.lap(Work::Ending);
        if let Some(slow) = self.stopwatch.stop() {
            self.stats.slow_turns += 1;
            warn!("{slow}");
        }
    }

    /// Checks in debug builds what the structures promise, each by itself and of one another.
    ///
    /// # Panics
    /// If an invariant is broken.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) || self.table.len().max(self.hub.len()) > CHECKED_MAX {
            return;
        }
        self.table.check_invariants();
        self.hub.check_invariants();
        for (id, conn) in self.table.iter() {
            for play in conn.activity.iter().flat_map(|activity| &activity.plays) {
                let channel = self.hub.channel(play.stream);
                play.check_invariants(channel.tape());
                let player = channel.players().get(play.slot as usize);
                debug_assert_eq!(player, Some(&Endpoint { conn: id, lane: play.lane }));
            }
            for publish in conn.activity.iter().flat_map(|activity| activity.publishes()) {
                let publisher = self.hub.channel(publish.stream).publisher();
                debug_assert_eq!(publisher, Some(Endpoint { conn: id, lane: publish.lane }));
            }
        }
    }

    /// Measures turns by `clocks`, so that one that takes too long is logged.
    pub fn measure_turns(&mut self, clocks: Clocks) {
        self.stopwatch.lend(clocks);
    }

    /// The most processor time that a turn has taken (us); 0 where turns are not measured.
    pub const fn turn_cpu_us_max(&self) -> u64 {
        self.stopwatch.cpu_us_max()
    }

    /// Whether a turn would find work without any event, so that the poll must not sleep.
    pub fn has_work(&self) -> bool {
        let is_idle = !self.table.has_work() && self.news.is_empty() && self.sweep.is_none();
        !is_idle || self.hub.has_news() || self.hub.discarded_files() > 0
    }

    /// When the poll has to wake for a deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        let of_conns = self.table.timers().next().unwrap_or(Time::NEVER);
        let of_lines = self.chatter.due().unwrap_or(Time::NEVER);
        let of_others = self.hub.next_deadline().min(self.errands.next_deadline());
        let first = of_conns.min(of_lines).min(of_others);
        (first != Time::NEVER).then_some(first)
    }

    /// Tells everybody that the server goes down, takes no new sessions and lets the ones it
    /// has go as soon as they have been told. Clients that can connect anew are asked to, and
    /// served until they leave.
    pub fn drain(&mut self, now: Time) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        info!("going down: {} connections are told", self.table.len());
        self.sweep = Some(Sweep::new(true));
        self.sweep(now);
    }

    /// Asks the clients that understand it to reconnect (Enhanced RTMP v2). Nothing changes for
    /// other clients.
    pub fn request_reconnects(&mut self, now: Time) {
        if !self.draining {
            self.sweep = Some(Sweep::new(false));
            self.sweep(now);
        }
    }

    /// Goes on telling all connections what an operator asked for, some of them in each turn.
    fn sweep(&mut self, now: Time) {
        let Some(mut sweep) = self.sweep.take() else { return };
        let end = self.table.end();
        let range = sweep.next..end.min(sweep.next + limits::FAREWELLS_PER_TURN_MAX);
        sweep.next = range.end;
        for id in range.map(|index| ConnId::new(index as u32)) {
            if self.table.contains(id) {
                self.sweep_one(&mut sweep, id, now);
            }
        }
        if sweep.next < end {
            self.sweep = Some(sweep);
        } else {
            let Sweep { told, asked, goes_down, .. } = sweep;
            let rest = if goes_down { "the others were told to leave" } else { "the others stay" };
            info!("asked {asked} of {told} connections to reconnect; {rest}");
        }
    }

    fn sweep_one(&mut self, sweep: &mut Sweep, id: ConnId, now: Time) {
        sweep.told += 1;
        let why = if sweep.goes_down { GOING_DOWN } else { BY_COMMAND };
        if self.request_reconnect(id, why) {
            sweep.asked += 1;
        } else if sweep.goes_down {
            self.tell_shutdown(id, GOING_DOWN);
            self.dismiss(id, CloseReason::ServerShutdown, String::new(), now);
        }
    }

    /// Ends what is left of a drain: the rest is told, as far as there is room, and closed.
    pub fn stop(&mut self, now: Time) {
        for id in self.table.ids() {
            self.tell_shutdown(id, GOING_DOWN);
            self.close(id, CloseReason::ServerShutdown, String::new(), now);
        }
        while self.table.has_ending() {
            self.remove_closing(now);
        }
    }

    /// Replaces the settings. What concerns connections that exist holds from their next step.
    pub fn reload(&mut self, settings: Settings) {
        let access = self.policies.access.replaced_by(settings.apps.clone());
        let hello = Arc::clone(&self.policies.session.hello);
        self.policies = Policies::new(&settings, hello, access);
        self.policies.set_memory_level(&settings, self.memory.level);
        self.table.count_addresses(settings.limits.connections_per_address_max != 0);
        self.table.set_unsent_bytes(memory::unsent_bytes(&settings));
        self.settings = settings;
    }

    /// The settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who may publish, and what of a name is secret.
    pub const fn access(&self) -> &Access {
        &self.policies.access
    }

    /// The counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The streams.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The deadlines of all connections.
    pub const fn timers(&self) -> &Timers {
        self.table.timers()
    }

    /// The connection `id`, if it is there.
    pub fn conn(&self, id: ConnId) -> Option<&Conn<T>> {
        self.table.get(id)
    }

    /// Connections.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Marks a connection to be removed at the end of this turn, and takes it out of its
    /// streams at once.
    fn close(&mut self, id: ConnId, reason: CloseReason, detail: String, now: Time) {
        let conn = &mut self.table[id];
        match &mut conn.closing {
            Some(closing) if closing.step == Departure::Over => return,
            Some(closing) => closing.step = Departure::Over,
            None => {
                conn.closing = Some(Box::new(Closing::new(reason, detail, Departure::Over)));
                self.abandon(id);
                self.leave_streams(id, now);
            }
        }
        self.table.queue_end(id);
    }

    /// Lets a connection go that has just been told why: what it was told is sent, then the
    /// sending direction is shut, and the peer has a second to close.
    fn dismiss(&mut self, id: ConnId, reason: CloseReason, detail: String, now: Time) {
        let conn = &mut self.table[id];
        if conn.is_closing() {
            return;
        }
        conn.closing = Some(Box::new(Closing::new(reason, detail, Departure::Farewell)));
        self.abandon(id);
        self.leave_streams(id, now);
        self.enter_stage(id, Stage::Leaving, now);
        self.table.queue_write(id);
    }

    /// Notes the name that a connection's client gives itself.
    fn set_encoder(&mut self, id: ConnId, flash_ver: &[u8]) {
        let conn = &mut self.table[id];
        self.encoders.leave(conn.encoder);
        conn.encoder = self.encoders.enter(flash_ver);
    }

    /// Lets a connection go to which a connect, publish or play was refused. `asked` names it for
    /// the closing line, as in `publish of live/show`.
    fn refuse(
        &mut self,
        id: ConnId,
        asked: &dyn fmt::Display,
        reason: CloseReason,
        detail: String,
        now: Time,
    ) {
        let by = self.encoders.by(self.table[id].encoder);
        let asked = format!("{asked}{by}");
        self.dismiss(id, reason, detail, now);
        if let Some(closing) = &mut self.table[id].closing {
            closing.asked = asked;
        }
    }

    /// Removes connections that are at their end, as many as go into a turn.
    fn remove_closing(&mut self, now: Time) {
        for _ in 0..limits::CLOSINGS_PER_TURN_MAX {
            let Some(id) = self.table.next_to_end() else { return };
            self.remove(id, now);
        }
    }

    fn remove(&mut self, id: ConnId, now: Time) {
        // The last words, if there is room for them; nothing waits for more.
        self.write_last(id);
        let conn = self.table.remove(id);
        self.encoders.leave(conn.encoder);
        if let Some(closing) = &conn.closing {
            self.stats.count(closing.reason);
            let usual = closing.reason.level();
            let (topic, level) = match conn.activity {
                Some(_) => (Topic::Stream, usual.min(Level::Info)),
                None => (Topic::Failure, usual),
            };
            let level = self.level(topic, level, now);
            log!(level, "{}", ClosingLine { conn: &conn, now, access: &self.policies.access });
        }
    }

    /// The level at which a line that a peer has caused is said.
    fn level(&mut self, topic: Topic, usual: Level, now: Time) -> Level {
        let is_said = usual < Level::Debug && usual <= log::max_level();
        if is_said && !self.chatter.take_line(topic, now) { Level::Debug } else { usual }
    }

    fn tell_left_out(&mut self, now: Time) {
        if let Some(count) = self.chatter.end_second(now) {
            warn!("left out {count} lines about connections in a second; log level debug has them");
        }
    }
}

impl Policies {
    fn new(settings: &Settings, hello: Arc<Hello>, access: Access) -> Self {
        let Settings { limits, play, publish, rtmp, .. } = settings;
        let reading =
            |assembly_bytes_max, data_bytes_max, audio_bytes_max, video_bytes_max| ReadLimits {
                chunk_streams_max: limits.chunk_streams_max,
                assembly_bytes_max,
                command_bytes_max: limits.command_bytes_max,
                data_bytes_max,
                audio_bytes_max,
                video_bytes_max,
                ..ReadLimits::default()
            };
        // Before a publish nothing but commands is of use; other messages may be as long as
        // one and are dropped.
        let before = limits.command_bytes_max;
        Self {
            session: SessionSettings {
                hello,
                c2_check: rtmp.c2_check,
                limits_before_publish: reading(2 * before, before, before, before),
                limits_publishing: reading(
                    limits.assembly_bytes_max,
                    limits.data_bytes_max,
                    limits.audio_bytes_max,
                    limits.video_bytes_max,
                ),
                control_bytes_max: limits.control_bytes_max,
                message_streams_max: limits.message_streams_max,
                chunk_size: rtmp.chunk_size,
                window_ack_bytes: rtmp.window_ack_bytes,
                name_bytes_max: limits.name_bytes_max,
            },
            tape: TapeSettings {
                bytes_max: limits.tape_bytes_max,
                span_ms_max: limits.tape_span_ms_max,
                lag_ms: play.lag_ms,
                keep_start: play.start == Start::Keyframe,
                merge_ms: play.merge_ms,
                backlog_bytes_max: usize::MAX,
                chunk_size: rtmp.chunk_size,
            },
            lag: LagSettings {
                lag_ms: play.lag_ms,
                lag_bytes: play.lag_bytes as u64,
                skips_max: play.skips_max,
                skip_window_ms: play.skip_window_ms,
            },
            duplicate: DuplicatePolicy { rule: publish.duplicate, silent_ms: publish.silent_ms },
            access,
        }
    }

    /// What a shortage of memory changes of how streams are kept.
    fn set_memory_level(&mut self, settings: &Settings, level: MemoryLevel) {
        let is_lean = level >= MemoryLevel::Lean;
        let lag_ms_max = if is_lean { memory::LEAN_LAG_MS } else { u64::MAX };
        self.tape.keep_start = settings.play.start == Start::Keyframe && !is_lean;
        self.tape.lag_ms = settings.play.lag_ms.min(lag_ms_max);
        self.lag.lag_ms = self.tape.lag_ms;
        // What waits for others of its stream would be backlog.
        self.tape.merge_ms = if is_lean { 0 } else { settings.play.merge_ms };
        self.tape.backlog_bytes_max = usize::MAX;
    }
}
