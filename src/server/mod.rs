//! The server without sockets: connections, streams and deadlines, in turns.
//!
//! The server is generic over [`Transport`], and the time is an argument, so tests run the same
//! code in virtual time. The loop around it reports readiness ([`Server::event`]), hands over new
//! connections ([`Server::accept`]) and then runs a [`Server::turn`]:
//!
//! ```text
//! turn: read what is readable ─▶ act on deadlines ─▶ write to queued connections
//!       ─▶ write to the players of streams with news ─▶ end streams ─▶ remove
//! ```
//!
//! No call removes the connection that it serves. The connection is marked with a reason, and
//! removed at the end of a turn after a last write. Only [`Server::admits`] removes a connection at
//! once, and a new connection may get its id. So the loop accepts after it has noted the events of
//! the poll.
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
//!    (`Play::file_run`) or gathers slices of the tape (`Play::gather`), and moves the
//!    read position (`Play::advance`).
//!
//! # Other ways
//!
//! - **connect and publish**: `consume` gets a `Wish`, and `decide` takes it to `connect` or
//!   `publish` (`role.rs`). That asks the judges (`judge/`), then the hub, and answers through the
//!   peer. The reply leaves with the writes of the same turn. If a judge needs time, `park` has the
//!   connection wait, and `decided` goes on from there (`parking.rs`).
//! - **what only the loop can do**, such as dialing: `next_errand` hands it out, and `done` takes
//!   the outcome (`errand.rs`).
//! - **a deadline**: `fire_timers` takes each deadline that has passed from the table, and acts on
//!   its kind. All deadlines are armed in the same file, `watch.rs`.
//! - **a slow player's skip**: `write` calls `Play::catch_up`, which moves a lagging read position
//!   to the newest start point of the tape and counts the skip.
//! - **a shortage of memory**: `relieve_memory` settles the sum of the table, finds the memory
//!   level, and gives up what that level demands (`memory.rs`).

pub mod accepting;
pub mod conn;
pub mod costs;
pub mod errand;
pub mod hub;
pub mod judge;
pub mod lines;
pub mod memory;
pub mod peer;
pub mod peer_address;
pub mod ready;
pub mod reason;
pub mod relaying;
pub mod stages;
pub mod stats;
pub mod stopwatch;
pub mod timers;
pub mod transport;
pub mod web;

mod advice;
mod encoders;
mod outbox;
mod parking;
mod read;
mod role;
mod sampling;
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
use costs::Costs;
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
use peer_address::PeerAddress;
use ready::Ready;
use reason::CloseReason;
use sampling::Sampling;
use stages::Stage;
use stats::Stats;
use std::fmt;
use std::sync::Arc;
use stopwatch::{Clocks, LongestTurn, Stopwatch, Work};
use table::Table;
use timers::Timers;
use transport::Transport;
use web::{ApiToken, HlsStreams, OpenPages, ProcessObserver};

/// Connections and streams up to which debug builds check the invariants after a turn. With more of
/// them the checks would take longer than the turn.
const CHECKED_MAX: usize = 64;
/// Descriptions in the messages to clients that should reconnect or leave.
const GOING_DOWN: &str = "the server is going down";
const BY_COMMAND: &str = "the server asks for it";

/// The configuration, in the form that the parts of the server use.
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
    /// Set while all connections are sent a message, some in each turn.
    sweep: Option<Sweep>,
    crowding: Crowding,
    /// `None` if the system has no memory files or refuses to send from them.
    segments: Option<SegmentSettings>,
    /// True if the system had no memory file to give, and that was logged.
    lacks_segments: bool,
    chatter: Chatter,
    memory: Memory,
    stopwatch: Stopwatch,
    sampling: Sampling,
    costs: Costs,
    /// What requests must carry where the site is not public.
    token: Option<ApiToken>,
    pages: OpenPages,
    hls: HlsStreams,
    /// The time of day at [`Time::ZERO`] (ms since 1970).
    unix_ms: u64,
    /// How to learn about the process; `None` in tests.
    process: Option<ProcessObserver>,
    /// Set when an API client asks to read the configuration again.
    reload_asked: bool,
}

/// The worst consequence of a full table since it last had room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Crowding {
    #[default]
    None,
    /// Sessions without a stream were evicted.
    GivesWay,
    /// No session was left to evict, and new connections were refused.
    Refuses,
}

/// A pass over all connections that sends each a message, some in each turn.
#[derive(Debug)]
struct Sweep {
    /// Index in the table of the next connection.
    next: usize,
    /// True if the server goes down. Otherwise clients are only asked to reconnect.
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
    /// Creates a server without connections. `settings.limits.connections_max` must be final: the
    /// caller applies the bound that follows from the descriptor limit. The random bytes in `hello`
    /// are public, and those in `challenger` are secret.
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
            sampling: Sampling::default(),
            costs: Costs::default(),
            token: None,
            pages: OpenPages::default(),
            hls: HlsStreams::default(),
            unix_ms: 0,
            process: None,
            reload_asked: false,
        }
    }

    /// Enables sending from memory files. Without them everything is sent from memory.
    pub const fn set_segments(&mut self, segments: Option<SegmentSettings>) {
        self.segments = segments;
    }

    /// Returns whether players may be sent from memory files.
    pub const fn has_segments(&self) -> bool {
        self.segments.is_some()
    }

    /// Returns the id of the next connection.
    pub fn next_id(&self) -> ConnId {
        self.table.next_id()
    }

    /// Makes room for a new connection. If the table is full, a session without a stream is
    /// evicted. Returns false if there is none, or if the address has as many connections as it
    /// may. The caller then drops the connection.
    pub fn admits(&mut self, peer: PeerAddress, now: Time) -> bool {
        let per_address_max = self.settings.limits.connections_per_address_max;
        if self.draining {
            return false;
        }
        if per_address_max != 0 && self.table.of_address(peer) >= per_address_max {
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
        // Connections that are being closed are evicted first.
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
        // The new connection needs its place at once.
        self.remove_closing(now);
        true
    }

    /// Logs that the table is full, once until an eighth of it is free again. Without that
    /// hysteresis each further connection would cause a line.
    fn note_crowding(&mut self, crowding: Crowding) {
        if crowding <= self.crowding {
            return;
        }
        self.crowding = crowding;
        let connections_max = self.settings.limits.connections_max;
        let what = match crowding {
            Crowding::Refuses => "new connections are refused",
            _ => "sessions without a stream are evicted",
        };
        warn!("all {connections_max} connections are taken: {what}");
    }

    /// Adds an accepted connection. [`Server::admits`] must have returned true. The id is
    /// [`Server::next_id`].
    pub fn accept(
        &mut self,
        transport: T,
        address: impl Into<PeerAddress>,
        protocol: Protocol,
        now: Time,
    ) -> ConnId {
        let peer = Peer::new(protocol, &self.policies.session);
        let conn = Conn::new(transport, address.into(), peer, now);
        let id = self.table.insert(conn);
        self.stats.accepted += 1;
        self.arm_stage(id, now);
        id
    }

    /// Notes an event of a connection. Spurious and late events do no harm.
    pub fn event(&mut self, id: ConnId, readable: bool, writable: bool, read_closed: bool) {
        if !self.table.contains(id) {
            return;
        }
        let conn = self.table.unmarked(id);
        let has_input = readable || read_closed;
        conn.readable |= has_input;
        conn.read_closed |= read_closed;
        // Every event of a socket with room reports the room. Only a change is worth a write.
        let has_room_again = writable && !conn.writable;
        if has_input {
            self.table.queue_read(id);
        }
        if has_room_again {
            self.table[id].writable = true;
            self.table.queue_write(id);
        }
    }

    /// Does the work that is due, within the budgets of a turn. `buffer` is used for reading.
    pub fn turn(&mut self, buffer: &mut [u8], now: Time) {
        self.stopwatch.start();
        self.read_all(buffer, now);
        self.fire_timers(now);
        self.cancel_late_errands(now);
        self.sweep(now);
        self.update_pages(now);
        self.make_parts(now);
        self.stopwatch.lap(Work::Deadlines);
        self.write_all(now);
        // After the writes, since the last messages of a publisher precede the end of its stream.
        self.end_streams(now);
        self.remove_closing(now);
        self.relieve_memory(now);
        self.check_invariants();
        self.tell_left_out(now);
        self.divide_cpu(now);
        self.stopwatch.lap(Work::Ending);
        if let Some(slow) = self.stopwatch.stop() {
            self.stats.slow_turns += 1;
            warn!("{slow}");
        }
    }

    /// Checks the invariants of the structures in debug builds, each alone and between them.
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
        self.begin_costs();
    }

    /// Returns the longest turn so far.
    pub const fn longest_turn(&self) -> LongestTurn {
        self.stopwatch.longest_turn()
    }

    /// Returns whether a turn has work without any event. The poll must then not sleep.
    pub fn has_work(&self) -> bool {
        let is_idle = !self.table.has_work() && self.news.is_empty() && self.sweep.is_none();
        !is_idle || self.hub.has_news() || self.hub.is_sweeping() || self.hls.has_work()
    }

    /// Returns the time of the next deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        let of_conns = self.table.timers().next().unwrap_or(Time::NEVER);
        let of_lines = self.chatter.due().unwrap_or(Time::NEVER);
        let of_others = self.hub.next_deadline().min(self.errands.next_deadline());
        let of_others = of_others.min(self.pages.due()).min(self.hls.due());
        let first = of_conns.min(of_lines).min(of_others);
        (first != Time::NEVER).then_some(first)
    }

    /// Begins a graceful drain. New connections are refused. Clients that support it are asked to
    /// reconnect, and are served until they leave. All other connections are told, and closed.
    pub fn drain(&mut self, now: Time) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        info!("going down: {} connections are told", self.table.len());
        self.sweep = Some(Sweep::new(true));
        self.sweep(now);
    }

    /// Asks the clients that support it to reconnect (Enhanced RTMP v2). Other clients notice
    /// nothing.
    pub fn request_reconnects(&mut self, now: Time) {
        if !self.draining {
            self.sweep = Some(Sweep::new(false));
            self.sweep(now);
        }
    }

    /// Continues the pass over all connections, with some of them in each turn.
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

    /// Ends a drain. The remaining connections are told, as far as their sockets have room, and
    /// closed.
    pub fn stop(&mut self, now: Time) {
        for id in self.table.ids() {
            self.tell_shutdown(id, GOING_DOWN);
            self.close(id, CloseReason::ServerShutdown, String::new(), now);
        }
        while self.table.has_ending() {
            self.remove_closing(now);
        }
    }

    /// Replaces the settings. Existing connections follow them from their next step.
    pub fn reload(&mut self, settings: Settings) {
        let access = self.policies.access.replaced_by(settings.apps.clone());
        let hello = Arc::clone(&self.policies.session.hello);
        self.policies = Policies::new(&settings, hello, access);
        self.policies.set_memory_level(&settings, self.memory.level);
        self.table.count_addresses(settings.limits.connections_per_address_max != 0);
        self.table.set_unsent_bytes(memory::unsent_bytes(&settings));
        self.settings = settings;
    }

    /// Returns the settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the access rules.
    pub const fn access(&self) -> &Access {
        &self.policies.access
    }

    /// Returns the counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns the streams.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the deadlines of all connections.
    pub const fn timers(&self) -> &Timers {
        self.table.timers()
    }

    /// Returns the connection with this id.
    pub fn conn(&self, id: ConnId) -> Option<&Conn<T>> {
        self.table.get(id)
    }

    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Closes a connection without a farewell. Its roles end at once, and it is removed at the end
    /// of the turn.
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

    /// Closes a connection whose peer has been told the reason. The pending messages are sent, the
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

    /// Notes the name of the client of a connection.
    fn set_encoder(&mut self, id: ConnId, flash_ver: &[u8]) {
        let conn = &mut self.table[id];
        self.encoders.leave(conn.encoder);
        conn.encoder = self.encoders.enter(flash_ver);
    }

    /// Closes a connection whose request was refused. `asked` names the request in the closing
    /// line, as in `publish of live/show`.
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

    /// Removes the connections that are over, within the budget of a turn.
    fn remove_closing(&mut self, now: Time) {
        for _ in 0..limits::CLOSINGS_PER_TURN_MAX {
            let Some(id) = self.table.next_to_end() else { return };
            self.remove(id, now);
        }
    }

    fn remove(&mut self, id: ConnId, now: Time) {
        // The last messages are sent if the socket has room. Nothing waits for more room.
        self.write_last(id, now);
        if self.table[id].peer.is_page() {
            self.pages.remove(id);
        }
        self.stop_watching(id);
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

    /// Returns the level of a log line that a peer has caused. Beyond the limit of such lines it is
    /// debug.
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
        // Before a publish only commands are of use. Other messages may be as long as a command,
        // and are dropped.
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

    /// Adapts the tape settings to a memory level.
    fn set_memory_level(&mut self, settings: &Settings, level: MemoryLevel) {
        let is_lean = level >= MemoryLevel::Lean;
        let lag_ms_max = if is_lean { memory::LEAN_LAG_MS } else { u64::MAX };
        self.tape.keep_start = settings.play.start == Start::Keyframe && !is_lean;
        self.tape.lag_ms = settings.play.lag_ms.min(lag_ms_max);
        self.lag.lag_ms = self.tape.lag_ms;
        // Messages that wait to be merged would be backlog.
        self.tape.merge_ms = if is_lean { 0 } else { settings.play.merge_ms };
        self.tape.backlog_bytes_max = usize::MAX;
    }
}
