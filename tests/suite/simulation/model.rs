//! The shadow model: what the server must have made of the bytes that it has read, in the order
//! in which it read them, and what each player may and must have received since.
//!
//! It knows the rules and nothing of how the server keeps them.

use std::collections::{BTreeMap, BTreeSet};

use tiderace::config::{Duplicate, Settings};
use tiderace::server::memory::MemoryLevel;
use tiderace::time::Time;

use super::media::{self, Kind};
use crate::wire::{COMMAND, Message};

/// Which client.
pub(super) type ClientId = u32;

/// What a client has said, once the server has read all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Publish(usize),
    Unpublish,
    Play(usize),
    /// A message by its kind, number and timestamp.
    Media(Kind, u32, u32),
    /// What no server can follow.
    Nonsense,
}

/// A frame that the server has recorded.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    /// The number of the configuration in force for its track.
    configuration: Option<u32>,
    /// The frame of its track before it.
    previous: Option<usize>,
}

/// A stream: all its frames, whoever published them.
#[derive(Debug, Default)]
struct Stream {
    publisher: Option<ClientId>,
    rhythm: Rhythm,
    /// While its publisher is gone and may come back: until when.
    lingers_until_ms: Option<u64>,
    frames: Vec<Frame>,
    configurations: [Option<u32>; 2],
    newest: [Option<usize>; 2],
    awaits_gop: bool,
    /// Frames before the last time that the stream was over: nobody is owed any of them.
    over: usize,
}

/// What decides when a publisher is silent.
#[derive(Debug, Default)]
struct Rhythm {
    last_media: Time,
    has_sent: bool,
    /// The timestamps of its frames, of which two tell that it is at work.
    timestamps: BTreeSet<u32>,
    /// Its pauses since its first frame: when each was over, and how long it was (ms).
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

    /// Plays all pauses through, in the order in which they were over.
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

/// What the model knows of a client.
#[derive(Debug, Default)]
struct Client {
    role: Role,
    /// It was told to go, so that nothing it says counts any more.
    leaves: bool,
    /// It does what no client should, and may be closed for it.
    is_wild: bool,
    /// It takes all that it is sent.
    is_good: bool,
    /// When the server last read something of it.
    heard: Time,
}

#[derive(Debug, Default)]
enum Role {
    #[default]
    None,
    Publishes(usize),
    Plays(Box<Player>),
}

/// What a player has received.
#[derive(Debug)]
struct Player {
    stream: usize,
    /// Frames of the stream before it joined.
    joined: usize,
    /// Since it has once had all that there was it is owed everything: how often the server had
    /// moved it on by then.
    is_level: Option<u32>,
    tracks: [Track; 2],
    gaps: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    configuration: Option<u32>,
    /// The time of the configuration that has come since the last frame.
    configured_at: Option<u32>,
    last: Option<usize>,
    timestamp: Option<u32>,
}

/// What the model saw, so that a run in which nothing happens does not pass for a proof.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) gaps: u64,
    pub(super) publishes: u64,
    pub(super) refused: u64,
    pub(super) displaced: u64,
    pub(super) overs: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) settings: Settings,
    streams: Vec<Stream>,
    clients: BTreeMap<ClientId, Client>,
    /// Where the frame with a number stands: stream and place.
    places: BTreeMap<u32, (usize, usize)>,
    /// Who has something to be read in this turn, and has not had a share of it.
    unread: BTreeSet<ClientId>,
    now: Time,
    /// How short the server's memory is as of its last turn.
    pub(super) level: MemoryLevel,
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
            tally: Tally::default(),
        }
    }

    pub(super) fn connected(&mut self, id: ClientId, is_good: bool) {
        self.clients.insert(id, Client { is_good, ..Client::default() });
    }

    pub(super) fn turns_wild(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_wild = true;
        }
    }

    pub(super) fn publisher(&self, stream: usize) -> Option<ClientId> {
        self.streams[stream].publisher
    }

    /// The server takes a turn, in which these have something to be read.
    pub(super) fn turn_begins(&mut self, unread: BTreeSet<ClientId>, now: Time) {
        (self.unread, self.now) = (unread, now);
    }

    /// The server has read something.
    pub(super) fn heard(&mut self, id: ClientId, count: usize, now: Time) {
        self.unread.remove(&id);
        if let Some(client) = self.clients.get_mut(&id).filter(|_| count > 0) {
            client.heard = now;
        }
    }

    /// The server has read all of what a client said.
    pub(super) fn read(&mut self, id: ClientId, said: Said, now_ms: u64) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.leaves) else {
            return;
        };
        match said {
            Said::Publish(stream) => self.publish(id, stream),
            Said::Unpublish => self.unpublish(id, now_ms),
            Said::Nonsense => self.ended(id, now_ms),
            Said::Play(_) if self.level >= MemoryLevel::Tight => client.leaves = true,
            Said::Play(stream) => {
                let joined = self.streams[stream].frames.len();
                let tracks = [Track::default(); 2];
                let player = Player { stream, joined, is_level: None, tracks, gaps: 0 };
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
        // Who has sent something that was not read yet is not silent.
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
        let client = self.clients.get_mut(&id).expect("a client that speaks");
        if !accepted {
            client.leaves = true;
            self.tally.refused += 1;
            return;
        }
        client.role = Role::Publishes(index);
        let displaced = stream.publisher.replace(id);
        stream.rhythm = Rhythm { last_media: self.now, ..Rhythm::default() };
        stream.lingers_until_ms = None;
        stream.awaits_gop = true;
        self.tally.publishes += 1;
        if let Some(displaced) = displaced.and_then(|id| self.clients.get_mut(&id)) {
            (displaced.role, displaced.leaves) = (Role::None, true);
            self.tally.displaced += 1;
        }
    }

    /// Whether the server has the stream: it is published or played.
    fn is_known(&self, index: usize) -> bool {
        self.streams[index].publisher.is_some() || self.has_players(index)
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
            return;
        }
        stream.awaits_gop &= kind != Kind::Key;
        if kind == Kind::Inter && stream.awaits_gop {
            // Of use to nobody, so nobody may get it.
            return;
        }
        let place = stream.frames.len();
        self.places.insert(number, (index, place));
        let configuration = stream.configurations[track];
        let previous = stream.newest[track].replace(place);
        stream.frames.push(Frame { kind, configuration, previous });
    }

    /// The server has learned that a client is gone.
    pub(super) fn ended(&mut self, id: ClientId, now_ms: u64) {
        self.unpublish(id, now_ms);
        if let Some(client) = self.clients.get_mut(&id) {
            (client.role, client.leaves) = (Role::None, true);
        }
    }

    /// The server has closed the connection of a client, which it must not do to everybody.
    /// `gave_up` says that in this turn memory was short enough for it.
    pub(super) fn closed(&mut self, id: ClientId, gave_up: bool, now_ms: u64) {
        let Some(client) = self.clients.get(&id) else { return };
        let ping_ms = self.settings.timeouts.ping_ms;
        let is_mute = ping_ms != 0 && self.now.millis_since(client.heard) >= 2 * ping_ms;
        if !client.leaves && !client.is_wild && !is_mute {
            match &client.role {
                Role::None => {}
                Role::Publishes(index) => {
                    let rhythm = &self.streams[*index].rhythm;
                    let given_up = gave_up && !self.has_players(*index);
                    let limit_ms = self.settings.timeouts.publisher_silent_ms;
                    let silent = rhythm.is_silent(limit_ms, self.now);
                    assert!(silent || given_up, "publisher {id} was closed: {rhythm:?}");
                }
                Role::Plays(player) => {
                    // A session without a stream may give way to another.
                    let waits = self.streams[player.stream].publisher.is_none();
                    assert!(!client.is_good || waits, "a player that reads was closed: {player:?}");
                }
            }
        }
        self.unpublish(id, now_ms);
        if let Some(Client { role: Role::Plays(player), .. }) = self.clients.remove(&id) {
            self.tally.gaps += player.gaps;
        }
    }

    /// The server has taken its turn: streams whose publisher did not come back are over.
    pub(super) fn turn_is_over(&mut self, level: MemoryLevel, now_ms: u64) {
        self.level = level;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if stream.lingers_until_ms.is_none_or(|until| until > now_ms) {
                continue;
            }
            stream.lingers_until_ms = None;
            stream.over = stream.frames.len();
            self.tally.overs += 1;
            for client in self.clients.values_mut() {
                if let Role::Plays(player) = &mut client.role
                    && player.stream == index
                {
                    player.is_level = None;
                }
            }
        }
    }

    /// A client has received a message.
    pub(super) fn received(&mut self, id: ClientId, message: &Message) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Role::Plays(player) = &mut client.role else {
            // What was sent before it was told to go.
            return assert!(client.leaves || !message.is_media(), "{message:?} for nobody");
        };
        if message.kind == COMMAND {
            player.told(message);
        } else if message.is_media() {
            self.tally.messages += 1;
            player.receive(message, &self.streams, &self.places);
        }
    }

    /// All that can happen has happened: who takes all that it is sent has all that it is owed.
    /// `skips` says how often the server has moved a player on.
    pub(super) fn is_at_rest(&mut self, id: ClientId, skips: u32) {
        let Some(client) = self.clients.get_mut(&id).filter(|c| c.is_good && !c.is_wild) else {
            return;
        };
        if let Role::Plays(player) = &mut client.role {
            let stream = &self.streams[player.stream];
            if player.is_level.is_none() && skips > 0 {
                // What a newcomer begins with may be outrun by the next keyframe.
                player.joined = stream.frames.len();
            }
            player.assert_complete(stream);
            let before = *player.is_level.get_or_insert(skips);
            assert_eq!(skips, before, "who reads is not moved on: {player:?}");
        }
    }
}

impl Player {
    /// A stream that begins anew begins its time anew, too.
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
        let since = self.joined.max(stream.over);
        let frame = stream.frames[place];
        assert_eq!(kind, frame.kind, "frame {number}");
        assert_eq!(track.configuration, frame.configuration, "configuration of {kind:?} {number}");
        match track.last {
            Some(last) => {
                assert!(place > last, "{kind:?} {place} behind frame {last}");
                if frame.previous != Some(last) {
                    self.gaps += 1;
                    assert!(
                        track.configured_at.is_some(),
                        "{kind:?} {place} behind {last}, no headers"
                    );
                    assert_ne!(kind, Kind::Inter, "a gap that ends within a GOP");
                    let is_owed = self.is_level.is_some() && frame.previous >= Some(since);
                    assert!(!is_owed, "{kind:?} {place} behind {last}: {self:?}");
                }
            }
            None => assert_ne!(kind, Kind::Inter, "it begins within a GOP"),
        }
        let timestamp = message.timestamp;
        // A clock that jumps may have taken half of its way with a configuration.
        let is_right =
            track.timestamp.is_none_or(is_late) || track.configured_at.is_some_and(is_late);
        assert!(is_right, "{kind:?} {place} at {timestamp} behind {track:?}: time runs back");
        track.timestamp = Some(message.timestamp);
        track.last = Some(place);
        track.configured_at = None;
    }

    /// Whoever reads has everything since it joined, or since the first GOP after that.
    fn assert_complete(&self, stream: &Stream) {
        let [video, audio] = self.tracks;
        let since = self.joined.max(stream.over);
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
