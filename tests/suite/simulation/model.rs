//! The shadow model: how the server must have interpreted the bytes it has read, in the order of
//! reading, and what each player may and must have received since.
//!
//! The model knows the rules, but not how the server implements them.

use std::collections::{BTreeMap, BTreeSet};

use tiderace::config::{Duplicate, Settings, Start};
use tiderace::server::memory::MemoryLevel;
use tiderace::time::Time;

use super::hls_client::Fetched;
use super::host::Turn;
use super::media::{self, Kind};
use crate::wire::{COMMAND, Message};

/// Hysteresis between the start and the end of a memory level, in percent of the budget.
const HYSTERESIS_PERCENT: usize = 5;
/// Maximum lag of a player at the lean level (ms).
const LEAN_LAG_MS: u64 = 1000;
/// How long an ended stream waits for players that have room but were not written to (ms).
const LAST_MESSAGES_MS_MAX: u64 = 1000;
const LEVELS: [MemoryLevel; 4] =
    [MemoryLevel::Ample, MemoryLevel::Lean, MemoryLevel::Tight, MemoryLevel::Critical];

/// Returns the percentage of the budget at which a level starts.
const fn begins_percent(level: MemoryLevel) -> usize {
    match level {
        MemoryLevel::Ample => 0,
        MemoryLevel::Lean => 70,
        MemoryLevel::Tight => 80,
        MemoryLevel::Critical => 90,
    }
}

/// Returns the level at this percentage of the budget, if `before` was in force.
fn level_at(before: MemoryLevel, percent: usize) -> MemoryLevel {
    let holds = |level: &MemoryLevel| {
        let slack = if *level <= before { HYSTERESIS_PERCENT } else { 0 };
        percent >= begins_percent(*level).saturating_sub(slack)
    };
    LEVELS.into_iter().rfind(holds).unwrap_or_default()
}

/// State of the server at the end of a turn.
#[derive(Debug)]
pub(super) struct TurnEnd<'h> {
    pub(super) turn: &'h Turn,
    /// Memory held by the server, and its memory level.
    pub(super) held_bytes: usize,
    pub(super) level: MemoryLevel,
    /// Connections closed or refused for lack of memory.
    pub(super) given_up: u64,
}

/// Id of a client.
pub(super) type ClientId = u32;

/// A message of a client that the server has read completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Connect,
    Publish(usize),
    Unpublish,
    Play(usize),
    /// Asks for a stream over HTTP.
    View {
        stream: usize,
        is_mp4: bool,
        /// Whether the same response goes on with another configuration.
        may_begin_again: bool,
    },
    /// Asks for a playlist of HLS.
    Playlist,
    /// A media message with kind, number and timestamp.
    Media(Kind, u32, u32),
    /// Bytes that no server can parse.
    Nonsense,
}

/// A frame that the server has recorded.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    arrived_ms: u64,
    /// Number of the configuration in force for its track.
    configuration: Option<u32>,
    /// The previous frame of its track.
    previous: Option<usize>,
}

/// A stream with all its frames, of any publisher.
#[derive(Debug, Default)]
struct Stream {
    publisher: Option<ClientId>,
    /// When its newest publisher began.
    begun: Time,
    rhythm: Rhythm,
    /// Deadline for the publisher to return, while there is none.
    lingers_until_ms: Option<u64>,
    frames: Vec<Frame>,
    configurations: [Option<u32>; 2],
    newest: [Option<usize>; 2],
    awaits_gop: bool,
    /// Media of which its newest publisher has sent the configuration.
    is_known: [bool; 2],
    /// Number of frames before the newest publisher started.
    published_from: usize,
    /// Number of frames before the last end of the stream. Newcomers are not owed any of these.
    over: usize,
    /// Deadline for sending the last messages to its players.
    ends_until_ms: u64,
}

/// State that decides when a publisher counts as silent.
#[derive(Debug, Default)]
struct Rhythm {
    last_media: Time,
    has_sent: bool,
    /// Timestamps of its frames. Two different ones show that the publisher is active.
    timestamps: BTreeSet<u32>,
    /// Pauses since its first frame: the end of each and its length (ms).
    pauses: Vec<(Time, u64)>,
}

impl Rhythm {
    fn heard(&mut self, timestamp: Option<u32>, now: Time) {
        let pause_ms = now.since(self.last_media).as_micros() as u64;
        if !self.timestamps.is_empty() && pause_ms > 100_000 {
            self.pauses.push((now, pause_ms / 1000));
        }
        (self.last_media, self.has_sent) = (now, true);
        self.timestamps.extend(timestamp);
    }

    /// Computes the longest recent pause by replaying all pauses in order of their ends.
    fn longest_recent_pause_ms(&self) -> u64 {
        let mut recent = (Time::ZERO, 0);
        let is_over =
            |(at, pause_ms): (Time, u64), before: Time| before.millis_since(at) > 4 * pause_ms;
        for (at, pause_ms) in &self.pauses {
            let began = Time::from_micros(at.as_micros() - pause_ms * 1000);
            if is_over(recent, began) {
                recent = (Time::ZERO, 0);
            }
            if 2 * pause_ms >= recent.1 {
                recent = (*at, recent.1.max(*pause_ms));
            }
        }
        if is_over(recent, self.last_media) { 0 } else { recent.1 }
    }

    fn is_silent(&self, limit_ms: u64, now: Time) -> bool {
        let limit_ms = limit_ms.max(2 * self.longest_recent_pause_ms());
        now >= self.last_media.plus_millis(limit_ms)
    }

    fn yields(&self, limit_ms: u64, now: Time) -> bool {
        let shows_none = self.has_sent && self.timestamps.len() < 2;
        self.is_silent(if shows_none { 10 * limit_ms } else { limit_ms }, now)
    }
}

/// State of a client.
#[derive(Debug, Default)]
struct Client {
    role: Role,
    since_ms: u64,
    /// The server has read its `connect`.
    is_connected: bool,
    /// It was disconnected because there was no memory for its request.
    finds_no_memory: bool,
    /// It was disconnected, so further messages do not count.
    leaves: bool,
    /// It violates the protocol and may be closed for that.
    is_wild: bool,
    /// It reads everything it is sent.
    is_good: bool,
    /// Time when the server last read something from it.
    heard: Time,
    /// The newest frame that it has fetched as a player of HLS.
    fetched: Option<usize>,
}

#[derive(Debug, Default)]
enum Role {
    #[default]
    None,
    Publishes(usize),
    Plays(Box<Player>),
}

/// State of a player.
#[derive(Debug)]
struct Player {
    stream: usize,
    /// The first frame that the player is owed. Frames from before it joined and frames it may have
    /// lost for a valid reason are not owed.
    owed_from: usize,
    /// The player has once caught up, and is owed every frame since.
    is_level: bool,
    /// The keyframe with which the player starts, at which it may be overtaken by the tape.
    begins: Option<usize>,
    /// Its socket buffer was full when its stream ended.
    was_cut_off: bool,
    /// Its socket buffer was full at the end of a turn since it was last known to have caught up,
    /// so it may still lag.
    was_blocked: bool,
    /// How often the server may have skipped frames for the player.
    skips: u32,
    tracks: [Track; 2],
    gaps: u64,
    /// `None` for a player over RTMP.
    view: Option<View>,
}

/// State of a player over HTTP. Its response begins when the media of the stream are known, and
/// ends with the stream.
#[derive(Clone, Copy, Debug, Default)]
struct View {
    has_begun: bool,
    is_mp4: bool,
    may_begin_again: bool,
    /// The configurations of the stream when it was asked for.
    asked: [Option<u32>; 2],
    /// Number of frames when the stream first ended.
    over_at: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    configuration: Option<u32>,
    /// Timestamp of a configuration received after the last frame.
    configured_at: Option<u32>,
    last: Option<usize>,
    timestamp: Option<u32>,
}

/// Counts of events, so that a run in which nothing happens does not pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) gaps: u64,
    pub(super) publishes: u64,
    pub(super) refused: u64,
    pub(super) displaced: u64,
    pub(super) overs: u64,
    /// Responses with a stream over HTTP, and whole responses.
    pub(super) views: u64,
    /// Those as MP4, and those that another configuration ended or began again.
    pub(super) mp4_views: u64,
    pub(super) changes: u64,
    /// Parts that players of HLS have fetched, and those after a break; playlists and parts that
    /// they have waited for, and segments that were the same as their parts.
    pub(super) parts: u64,
    pub(super) breaks: u64,
    pub(super) awaited: u64,
    pub(super) segments: u64,
    pub(super) answers: u64,
    /// Requests that a judge granted, refused, and did not decide in time.
    pub(super) granted: u64,
    pub(super) denied: u64,
    pub(super) undecided: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) settings: Settings,
    streams: Vec<Stream>,
    clients: BTreeMap<ClientId, Client>,
    /// Position of the frame with a given number: stream and index.
    places: BTreeMap<u32, (usize, usize)>,
    /// Clients with unread bytes in this turn that have not had their share yet.
    unread: BTreeSet<ClientId>,
    now: Time,
    /// Memory level of the server as of its last turn.
    level: MemoryLevel,
    /// Streams that the server keeps for players of HLS.
    logs: Vec<bool>,
    /// Connections closed in this turn because their request was refused for lack of memory.
    without_memory: u64,
    pub(super) tally: Tally,
}

impl Model {
    pub(super) fn new(settings: Settings, streams: usize) -> Self {
        Self {
            settings,
            streams: (0..streams).map(|_| Stream::default()).collect(),
            clients: BTreeMap::new(),
            places: BTreeMap::new(),
            unread: BTreeSet::new(),
            now: Time::ZERO,
            level: MemoryLevel::Ample,
            logs: vec![false; streams],
            without_memory: 0,
            tally: Tally::default(),
        }
    }

    pub(super) fn connected(&mut self, id: ClientId, is_good: bool, since_ms: u64) {
        self.clients.insert(id, Client { is_good, since_ms, ..Client::default() });
    }

    pub(super) fn turns_wild(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_wild = true;
        }
    }

    pub(super) fn publisher(&self, stream: usize) -> Option<ClientId> {
        self.streams[stream].publisher
    }

    /// Starts a turn, in which these clients have unread bytes.
    pub(super) fn turn_begins(&mut self, unread: BTreeSet<ClientId>, now: Time) {
        (self.unread, self.now) = (unread, now);
    }

    /// Records that the server has read bytes of a client.
    pub(super) fn heard(&mut self, id: ClientId, count: usize, now: Time) {
        self.unread.remove(&id);
        if let Some(client) = self.clients.get_mut(&id).filter(|_| count > 0) {
            client.heard = now;
        }
    }

    /// Records that a judge has refused the request of a client.
    pub(super) fn refused(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.leaves = true;
        }
    }

    /// Records that the server has read a whole message of a client, or that a judge has granted
    /// its request.
    pub(super) fn read(&mut self, id: ClientId, said: Said, now_ms: u64) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.leaves) else {
            return;
        };
        match said {
            Said::Connect => client.is_connected = true,
            Said::Playlist => {}
            Said::Publish(stream) => self.publish(id, stream),
            Said::Unpublish => self.unpublish(id, now_ms),
            Said::Nonsense => self.ended(id, now_ms),
            Said::Play(_) | Said::View { .. } if self.level >= MemoryLevel::Tight => {
                (client.leaves, client.finds_no_memory) = (true, true);
            }
            Said::Play(index) | Said::View { stream: index, .. } => {
                let stream = &self.streams[index];
                let is_key = |frame: &Frame| frame.kind == Kind::Key;
                let player = Player {
                    stream: index,
                    owed_from: stream.frames.len(),
                    is_level: false,
                    begins: stream.frames.iter().rposition(is_key).filter(|at| *at >= stream.over),
                    was_cut_off: false,
                    was_blocked: false,
                    skips: 0,
                    tracks: [Track::default(); 2],
                    gaps: 0,
                    view: match said {
                        Said::View { is_mp4, may_begin_again, .. } => {
                            let asked = stream.configurations;
                            Some(View { is_mp4, may_begin_again, asked, ..View::default() })
                        }
                        _ => None,
                    },
                };
                client.role = Role::Plays(Box::new(player));
            }
            Said::Media(kind, number, timestamp) => {
                if let Role::Publishes(stream) = client.role {
                    let timestamp = (!kind.is_configuration()).then_some(timestamp);
                    self.streams[stream].rhythm.heard(timestamp, self.now);
                    self.record(stream, kind, number);
                }
            }
        }
    }

    fn publish(&mut self, id: ClientId, index: usize) {
        let is_known = self.is_known(index);
        // A publisher with unread bytes does not count as silent.
        let speaks = |publisher: ClientId| {
            let heard = self.clients.get(&publisher).map_or(Time::ZERO, |client| client.heard);
            self.unread.contains(&publisher) && heard < self.now
        };
        let speaks = self.streams[index].publisher.is_some_and(speaks);
        let stream = &mut self.streams[index];
        let silent = stream.rhythm.yields(self.settings.publish.silent_ms, self.now) && !speaks;
        let accepted = match (stream.publisher, self.settings.publish.duplicate) {
            (None, _) => is_known || self.level < MemoryLevel::Critical,
            (Some(_), Duplicate::Reject) => false,
            (Some(_), Duplicate::Replace) => true,
            (Some(_), Duplicate::ReplaceIfSilent) => silent,
        };
        let client = self.clients.get_mut(&id).expect("a known client");
        if !accepted {
            (client.leaves, client.finds_no_memory) = (true, stream.publisher.is_none());
            self.tally.refused += 1;
            return;
        }
        client.role = Role::Publishes(index);
        let displaced = stream.publisher.replace(id);
        stream.rhythm = Rhythm { last_media: self.now, ..Rhythm::default() };
        stream.lingers_until_ms = None;
        stream.begun = self.now;
        stream.awaits_gop = true;
        stream.is_known = [false; 2];
        stream.published_from = stream.frames.len();
        self.tally.publishes += 1;
        if let Some(displaced) = displaced.and_then(|id| self.clients.get_mut(&id)) {
            (displaced.role, displaced.leaves) = (Role::None, true);
            self.tally.displaced += 1;
        }
    }

    /// Returns whether the server has the stream: it is published or played.
    fn is_known(&self, index: usize) -> bool {
        self.streams[index].publisher.is_some() || self.has_players(index) || self.logs[index]
    }

    /// Records which streams have segments at the start of a turn.
    pub(super) fn note_logs<const N: usize>(&mut self, logs: [bool; N]) {
        self.logs = logs.to_vec();
    }

    /// Checks a part that a player of HLS has fetched: its frames were published, with the
    /// configuration of the part, and none is missing since the last part.
    pub(super) fn fetched(&mut self, id: ClientId, index: usize, part: &Fetched) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let frames = &self.streams[index].frames;
        let mut may_lack = part.may_lack;
        self.tally.parts += 1;
        self.tally.breaks += u64::from(part.may_lack && client.fetched.is_some());
        for message in &part.frames {
            let (kind, number) = media::read(message);
            let place = self.places.get(&number);
            let (stream, place) = *place.unwrap_or_else(|| panic!("{number} was never recorded"));
            assert_eq!(stream, index, "a frame of another stream");
            let frame = &frames[place];
            assert_eq!(kind, frame.kind, "frame {number}");
            let known = Some(part.configuration);
            assert_eq!(frame.configuration, known, "configuration of {kind:?} {number}");
            if !std::mem::take(&mut may_lack) {
                assert_eq!(frame.previous, client.fetched, "client {id}: a hole before {number}");
            }
            client.fetched = Some(place);
        }
    }

    fn has_players(&self, index: usize) -> bool {
        let plays = |role: &Role| matches!(role, Role::Plays(player) if player.stream == index);
        self.clients.values().any(|client| plays(&client.role))
    }

    fn unpublish(&mut self, id: ClientId, now_ms: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Role::Publishes(index) = client.role {
            client.role = Role::None;
            let stream = &mut self.streams[index];
            stream.publisher = None;
            stream.lingers_until_ms = Some(now_ms + self.settings.publish.linger_ms);
        }
    }

    fn record(&mut self, index: usize, kind: Kind, number: u32) {
        let stream = &mut self.streams[index];
        let track = kind.track();
        if kind.is_configuration() {
            stream.configurations[track] = Some(number);
            stream.is_known[track] = true;
            return;
        }
        stream.awaits_gop &= kind != Kind::Key;
        if kind == Kind::Inter && stream.awaits_gop {
            // The frame is useless to every player, so none may receive it.
            return;
        }
        let place = stream.frames.len();
        self.places.insert(number, (index, place));
        let configuration = stream.configurations[track];
        let previous = stream.newest[track].replace(place);
        let arrived_ms = self.now.as_micros() / 1000;
        stream.frames.push(Frame { kind, arrived_ms, configuration, previous });
    }

    /// Records that the server has learned that a client is gone.
    pub(super) fn ended(&mut self, id: ClientId, now_ms: u64) {
        self.unpublish(id, now_ms);
        if let Some(client) = self.clients.get_mut(&id) {
            (client.role, client.leaves) = (Role::None, true);
        }
    }

    /// Records that the server has closed a connection, and checks that it had a reason.
    pub(super) fn closed(&mut self, id: ClientId, turn: &Turn, now_ms: u64) {
        let Some(client) = self.clients.get(&id) else { return };
        let (timeouts, is_refused) = (&self.settings.timeouts, turn.refused.contains(&id));
        let ping_ms = timeouts.ping_ms;
        let is_mute = ping_ms != 0 && self.now.millis_since(client.heard) >= 2 * ping_ms;
        let given_up = self.may_have_reached(MemoryLevel::Critical, turn);
        if !client.leaves && !client.is_wild && !is_mute && !is_refused {
            // A session without a stream may be evicted for another.
            let evicted = turn.was_full || given_up;
            let is_used_up = turn.held_bytes_max >= self.settings.limits.memory_bytes_max;
            match &client.role {
                Role::None => {
                    let age_ms = now_ms - client.since_ms;
                    // A client of HTTP has deadlines for its request, and when it asks nothing.
                    let is_late = !client.is_connected && age_ms >= timeouts.handshake_ms;
                    let stalled = !client.is_good && age_ms >= timeouts.player_stalled_ms;
                    let may_go = is_late || evicted || stalled;
                    assert!(may_go, "session {id} was closed after {age_ms} ms");
                }
                Role::Publishes(index) => {
                    let rhythm = &self.streams[*index].rhythm;
                    // At the critical level even a stream with players is dropped.
                    let given_up = given_up && (is_used_up || !self.has_players(*index));
                    let silent = rhythm.is_silent(timeouts.publisher_silent_ms, self.now);
                    assert!(silent || given_up, "publisher {id} was closed: {rhythm:?}");
                }
                Role::Plays(player) => {
                    let stream = &self.streams[player.stream];
                    // A judge decides between turns. The players that waited for the publisher are
                    // visited in the next one, and may give way to newcomers until then.
                    let waits = stream.publisher.is_none() || stream.begun == self.now;
                    // Frames that it lost with the end of its stream count as skipped.
                    let moved = waits && player.was_cut_off;
                    let is_over = player.view.is_some_and(|view| view.over_at.is_some())
                        || player.is_outdated(stream);
                    let may_go = !client.is_good || moved || is_over || waits && evicted;
                    assert!(may_go, "a player that reads was closed: {player:?}");
                }
            }
        }
        self.unpublish(id, now_ms);
        let Some(client) = self.clients.remove(&id) else { return };
        self.without_memory += u64::from(client.finds_no_memory);
        if let Role::Plays(player) = client.role {
            self.tally.gaps += player.gaps;
        }
    }

    /// Returns whether memory may have been this short in a turn.
    fn may_have_reached(&self, level: MemoryLevel, turn: &Turn) -> bool {
        let budget = self.settings.limits.memory_bytes_max;
        // If this level was already in force, the hysteresis lowers its threshold.
        let percent = begins_percent(level) - HYSTERESIS_PERCENT;
        budget != 0 && turn.held_bytes_max * 100 >= budget * percent
    }

    /// Ends a turn of the server.
    pub(super) fn turn_is_over(&mut self, end: &TurnEnd<'_>, now_ms: u64) {
        for id in &end.turn.blocked {
            if let Some(Role::Plays(player)) = self.clients.get_mut(id).map(|c| &mut c.role) {
                player.was_blocked = true;
            }
        }
        self.expect_level(end);
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            if stream.lingers_until_ms.is_some_and(|until| until <= now_ms) {
                stream.lingers_until_ms = None;
                stream.over = stream.frames.len();
                stream.ends_until_ms = now_ms + LAST_MESSAGES_MS_MAX;
                self.tally.overs += 1;
                self.views_end(index);
            }
            let stream = &self.streams[index];
            if stream.publisher.is_none() && now_ms <= stream.ends_until_ms {
                self.stream_ends(index, &end.turn.blocked);
            }
        }
    }

    fn views_end(&mut self, index: usize) {
        for client in self.clients.values_mut() {
            let Role::Plays(player) = &mut client.role else { continue };
            if let Some(view) = player.view.as_mut().filter(|_| player.stream == index) {
                view.over_at.get_or_insert(self.streams[index].over);
            }
        }
    }

    /// Ends streams whose publisher did not return. Players get all frames, except players that
    /// have not caught up or whose sockets are full.
    fn stream_ends(&mut self, index: usize, blocked: &BTreeSet<ClientId>) {
        let over = self.streams[index].over;
        for (id, client) in &mut self.clients {
            let Role::Plays(player) = &mut client.role else { continue };
            let is_cut_off = !player.is_level || blocked.contains(id);
            if player.stream == index && is_cut_off {
                player.owed_from = player.owed_from.max(over);
                player.is_level = false;
                player.was_cut_off = true;
            }
        }
    }

    /// Checks the memory level. It follows from the memory held, and if connections were closed
    /// meanwhile, from the memory held at that time.
    fn expect_level(&mut self, end: &TurnEnd<'_>) {
        let budget = self.settings.limits.memory_bytes_max;
        let percent = (end.held_bytes * 100).checked_div(budget).unwrap_or(0);
        let after = |level| level_at(level, percent);
        let refused = std::mem::take(&mut self.without_memory);
        let may_be_short = self.may_have_reached(MemoryLevel::Lean, end.turn);
        let was_short = self.level > MemoryLevel::Ample || may_be_short;
        let expected = if end.given_up <= refused && !was_short {
            vec![after(self.level)]
        } else if end.given_up <= refused {
            // Streams shrink within the turn, and the lean level stays in force for a while.
            [LEVELS.map(after), [MemoryLevel::Lean; LEVELS.len()]].concat()
        } else {
            let is_short = self.may_have_reached(MemoryLevel::Tight, end.turn);
            assert!(is_short, "{} were closed: {:?} of {budget}", end.given_up, end.turn);
            [LEVELS.map(after), [MemoryLevel::Lean; LEVELS.len()]].concat()
        };
        let (level, before) = (end.level, self.level);
        assert!(expected.contains(&level), "{level:?} at {percent} % after {before:?}");
        self.level = level;
        if was_short {
            self.streams_keep_less(end.turn);
        }
    }

    /// Records that streams shrink. Players that may lag may be skipped ahead. A player that keeps
    /// up misses nothing, unless messages were held back for it or the budget is used up.
    fn streams_keep_less(&mut self, turn: &Turn) {
        let is_used_up = turn.held_bytes_max >= self.settings.limits.memory_bytes_max;
        let are_held_back = self.settings.play.merge_ms > 0;
        for client in self.clients.values_mut() {
            if let Role::Plays(player) = &mut client.role
                && (is_used_up || are_held_back || !player.is_level || player.was_blocked)
            {
                player.owed_from = self.streams[player.stream].frames.len();
                (player.is_level, player.was_cut_off) = (false, true);
            }
        }
    }

    /// Records that the response of a player over HTTP has begun. It begins like a newcomer, so
    /// earlier frames are not owed.
    pub(super) fn begun(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Role::Plays(player) = &mut client.role else {
            return assert!(client.leaves, "client {id}: a stream without a play");
        };
        let stream = &self.streams[player.stream];
        let mut since = stream.frames.iter().enumerate().skip(player.owed_from);
        let is_key = |(at, frame): (usize, &Frame)| (frame.kind == Kind::Key).then_some(at);
        player.begins = player.begins.or_else(|| since.find_map(is_key));
        player.owed_from = stream.frames.len();
        let view = player.view.as_mut().expect("a player over HTTP");
        let begins_again = std::mem::replace(&mut view.has_begun, true);
        assert!(!begins_again || view.may_begin_again, "client {id}: it begins twice");
        self.tally.views += u64::from(!begins_again);
        self.tally.mp4_views += u64::from(!begins_again && view.is_mp4);
        self.tally.changes += u64::from(begins_again);
        if begins_again {
            (player.is_level, player.was_cut_off) = (false, true);
            // It begins like a newcomer, maybe with frames that it has had.
            player.tracks = [Track::default(); 2];
        }
    }

    /// Records and checks a message that a client has received.
    pub(super) fn received(&mut self, id: ClientId, message: &Message) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Role::Plays(player) = &mut client.role else {
            // The message was sent before the client was disconnected.
            return assert!(client.leaves || !message.is_media(), "{message:?} without a play");
        };
        if message.kind == COMMAND {
            player.told(message);
        } else if message.is_media() {
            assert!(player.view.is_none_or(|view| view.has_begun), "media before the header");
            self.tally.messages += 1;
            player.receive(message, &self.streams, &self.places);
        }
    }

    /// Checks a client when nothing more can happen. A client that reads has everything it is owed,
    /// and was skipped ahead only for a reason; `skips` is the server's count. A player over HTTP
    /// whose stream is over is being closed.
    pub(super) fn is_at_rest(&mut self, id: ClientId, skips: u32, is_closing: bool, now_ms: u64) {
        let Some(client) = self.clients.get_mut(&id).filter(|c| c.is_good && !c.is_wild) else {
            return;
        };
        let Role::Plays(player) = &mut client.role else { return };
        let stream = &self.streams[player.stream];
        if let Some(View { has_begun, over_at, .. }) = player.view {
            if !has_begun {
                let must_begin = stream.publisher.is_some() && stream.is_known == [true; 2];
                let has_ended = is_closing && player.is_outdated(stream);
                let is_right = !must_begin || has_ended;
                return assert!(is_right, "client {id} gets no stream: {player:?}");
            }
            if player.is_outdated(stream) {
                // The stream may wait for the other configuration of its new publisher.
                let is_known = stream.is_known == [true; 2];
                let is_told = is_closing || !is_known || stream.publisher.is_none();
                assert!(is_told, "client {id} knows another configuration: {player:?}");
                if is_closing {
                    self.tally.changes += 1;
                    self.tally.gaps += player.gaps;
                    (client.role, client.leaves) = (Role::None, true);
                }
                return;
            }
            if let Some(over_at) = over_at {
                let has_ended = stream.publisher.is_none() && stream.lingers_until_ms.is_none();
                let is_last = has_ended && stream.frames.len() == over_at;
                assert!(is_closing || !is_last, "client {id}: its stream is over");
                if is_last && !player.was_cut_off {
                    player.assert_complete(stream);
                }
                self.tally.gaps += player.gaps;
                (client.role, client.leaves) = (Role::None, true);
                return;
            }
        }
        let outrun_by = player.outrun_by(stream, &self.settings, now_ms);
        player.owed_from = player.owed_from.max(outrun_by.unwrap_or(0));
        player.assert_complete(stream);
        if outrun_by.is_none() && !player.was_cut_off {
            assert_eq!(skips, player.skips, "a player that reads is not skipped ahead: {player:?}");
        }
        (player.is_level, player.was_cut_off, player.skips) = (true, false, skips);
        player.was_blocked = false;
    }
}

impl Player {
    /// Handles a status message. A stream that starts again also restarts its timestamps.
    fn told(&mut self, message: &Message) {
        let code = b"NetStream.Play.PublishNotify";
        if message.payload.windows(code.len()).any(|window| window == code) {
            self.tracks.iter_mut().for_each(|track| track.timestamp = None);
        }
    }

    /// Checks one message against what was published.
    fn receive(
        &mut self,
        message: &Message,
        streams: &[Stream],
        places: &BTreeMap<u32, (usize, usize)>,
    ) {
        let (kind, number) = media::read(message);
        let track = &mut self.tracks[kind.track()];
        let is_late = |last: u32| message.timestamp.wrapping_sub(last) < 1 << 31;
        if kind.is_configuration() {
            track.configuration = Some(number);
            track.configured_at = Some(message.timestamp);
            return;
        }
        let place = places.get(&number);
        let (stream, place) = *place.unwrap_or_else(|| panic!("{number} was never recorded"));
        assert_eq!(stream, self.stream, "a frame of another stream");
        let stream = &streams[stream];
        let frame = stream.frames[place];
        assert_eq!(kind, frame.kind, "frame {number}");
        assert_eq!(track.configuration, frame.configuration, "configuration of {kind:?} {number}");
        match track.last {
            Some(last) => {
                assert!(place > last, "{kind:?} {place} after frame {last}");
                if frame.previous != Some(last) {
                    self.gaps += 1;
                    // An MP4 has the configurations at its start.
                    let is_mp4 = self.view.is_some_and(|view| view.is_mp4);
                    assert!(
                        is_mp4 || track.configured_at.is_some(),
                        "{kind:?} {place} after {last}, without headers"
                    );
                    assert_ne!(kind, Kind::Inter, "a gap that ends within a GOP");
                    let is_owed = self.is_level && frame.previous >= Some(self.owed_from);
                    assert!(!is_owed, "{kind:?} {place} after {last}: {self:?}");
                }
            }
            None => assert_ne!(kind, Kind::Inter, "it starts within a GOP"),
        }
        let timestamp = message.timestamp;
        // A jump of the timestamps may be split between a configuration and the next frame.
        let is_right =
            track.timestamp.is_none_or(is_late) || track.configured_at.is_some_and(is_late);
        assert!(is_right, "{kind:?} {place} at {timestamp} after {track:?}: time runs backwards");
        track.timestamp = Some(message.timestamp);
        track.last = Some(place);
        track.configured_at = None;
    }

    /// Returns whether it plays an MP4 that has another configuration than the stream. One that it
    /// has not received yet may have begun with any since it was asked for.
    fn is_outdated(&self, stream: &Stream) -> bool {
        let Some(view) = self.view.filter(|view| view.is_mp4) else { return false };
        let received = self.tracks.map(|track| track.configuration);
        stream.configurations != if view.has_begun { received } else { view.asked }
    }

    /// Returns the first frame that a newcomer is still owed, if its keyframe may have been
    /// overtaken. That is the case if the keyframe is older than the allowed lag and there is a
    /// newer one, or another publisher, for whose stream the old keyframe is not kept.
    fn outrun_by(&self, stream: &Stream, settings: &Settings, now_ms: u64) -> Option<usize> {
        let begins =
            self.begins.filter(|_| !self.is_level && settings.play.start == Start::Keyframe)?;
        let is_bounded = settings.limits.memory_bytes_max != 0;
        let lag_ms = settings.play.lag_ms.min(if is_bounded { LEAN_LAG_MS } else { u64::MAX });
        let lags = now_ms - stream.frames[begins].arrived_ms >= lag_ms;
        let is_key = |frame: &Frame| frame.kind == Kind::Key;
        let newest = stream.frames.iter().rposition(is_key);
        // A player over HTTP is owed the frames since its head, and begins at an earlier keyframe.
        let newest = newest.filter(|newest| *newest > begins);
        let is_taken_over = begins < stream.published_from;
        newest.or_else(|| is_taken_over.then_some(stream.frames.len())).filter(|_| lags)
    }

    /// Asserts that a player that reads has every frame it is owed, or every frame since the first
    /// GOP after that.
    fn assert_complete(&self, stream: &Stream) {
        let [video, audio] = self.tracks;
        let since = self.owed_from;
        let newest_audio = stream.newest[1].filter(|place| *place >= since);
        assert!(audio.last >= newest_audio, "audio {newest_audio:?} is missing: {self:?}");
        let has_key = || stream.frames[since..].iter().any(|frame| frame.kind == Kind::Key);
        if let Some(newest) = stream.newest[0].filter(|place| *place >= since)
            && (video.last >= Some(stream.over) || has_key())
        {
            assert_eq!(video.last, Some(newest), "video is missing: {self:?}");
        }
    }
}
