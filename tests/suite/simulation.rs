//! Everything at once, at random: publishers that come, go and are displaced, players that stall
//! and recover, resets, hostile bytes, sockets that misbehave, time that jumps. After each step a
//! shadow model says what every player may and must have received.
//!
//! A failure prints its seed; `TIDERACE_SEED` runs that seed alone, `TIDERACE_SEEDS` as many.

use std::collections::VecDeque;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tiderace::config::{Duplicate, Settings, Start};
use tiderace::limits::MIB;

use crate::frames::{label, write};
use crate::random::Random;
use crate::wire::{self, COMMAND, Message};
use crate::world::{ClientHandle, Split, World};

const SEEDS: u64 = 200;
const STEPS: usize = 70;
const STREAMS: usize = 3;
const CLIENTS_MAX: usize = 12;
const KIB: usize = 1024;

#[test]
fn players_get_what_they_must_and_nothing_else_whatever_happens() {
    let number = |name| env::var(name).ok().map(|seed| seed.parse().expect("a number"));
    if let Some(seed) = number("TIDERACE_SEED") {
        let (frames, gaps) = Simulation::new(seed).run();
        return println!("{frames} frames arrived, {gaps} gaps");
    }
    let (mut frames, mut gaps) = (0, 0);
    for seed in 0..number("TIDERACE_SEEDS").unwrap_or(SEEDS) {
        match catch_unwind(AssertUnwindSafe(|| Simulation::new(seed).run())) {
            Ok(seen) => (frames, gaps) = (frames + seen.0, gaps + seen.1),
            Err(panic) => {
                eprintln!("failed with TIDERACE_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    // A simulation in which nothing happens proves nothing.
    println!("{frames} frames arrived, {gaps} gaps");
    assert!(frames > 1000 && gaps > 10, "{frames} frames arrived, {gaps} gaps");
}

/// A frame that the server has recorded for a stream.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    number: u32,
    /// The configuration in force for its track.
    configuration: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    Inter,
    Audio,
}

/// What the model knows of a stream.
#[derive(Debug, Default)]
struct Stream {
    publisher: Option<ClientHandle>,
    /// Where the publisher's clock stands.
    clock: u32,
    silent_since: u64,
    /// The last frames; `number` counts all frames of a stream without a gap.
    frames: VecDeque<Frame>,
    next: u32,
    video_configuration: u32,
    audio_configuration: u32,
    awaits_gop: bool,
}

impl Stream {
    fn frame(&self, number: u32) -> Frame {
        let frame = self.frames.iter().rev().find(|frame| frame.number == number);
        *frame.unwrap_or_else(|| panic!("frame {number} was never recorded"))
    }

    /// The newest frame of a track.
    fn newest(&self, is_audio: bool) -> Option<u32> {
        self.newest_before(u32::MAX, is_audio)
    }

    /// The newest frame of a track before `number`.
    fn newest_before(&self, number: u32, is_audio: bool) -> Option<u32> {
        let of_track =
            |frame: &&Frame| frame.number < number && (frame.kind == Kind::Audio) == is_audio;
        self.frames.iter().rev().find(of_track).map(|frame| frame.number)
    }
}

/// What the model knows of a player.
#[derive(Debug)]
struct Player {
    client: ClientHandle,
    stream: usize,
    /// Frames of the stream before it joined.
    joined: u32,
    /// It reads by itself, so that it may lose nothing.
    is_good: bool,
    /// The last configuration and frame of video and of audio.
    tracks: [Track; 2],
    gaps: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    configuration: Option<u32>,
    /// Whether a configuration has come since the last frame.
    is_configured_anew: bool,
    last: Option<u32>,
    timestamp: Option<u32>,
}

struct Simulation {
    world: World,
    random: Random,
    settings: Settings,
    streams: Vec<Stream>,
    players: Vec<Player>,
    idle: Vec<ClientHandle>,
    /// Clients that are on their way out.
    gone: Vec<ClientHandle>,
    millis: u64,
    received: usize,
    gaps: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut settings = Settings::default();
        settings.limits.tape_bytes_max = MIB / 2;
        settings.play.lag_bytes = MIB / 2;
        settings.play.lag_ms = [100, 1000, 5000][random.below(3)];
        settings.play.skips_max = [2, 10, 1000][random.below(3)];
        settings.play.start = [Start::Keyframe, Start::NextKeyframe][random.below(2)];
        settings.publish.linger_ms = [0, 1000, 15_000][random.below(3)];
        settings.publish.duplicate =
            [Duplicate::Reject, Duplicate::Replace, Duplicate::ReplaceIfSilent][random.below(3)];
        settings.rtmp.chunk_size = [128, 4096, 60_000][random.below(3)];
        let mut world = match random.below(2) {
            0 => World::with_faults(settings.clone(), seed),
            _ => World::new(settings.clone()),
        };
        world.socket_bytes = [16 * KIB, 64 * KIB][random.below(2)];
        Self {
            world,
            random,
            settings,
            streams: (0..STREAMS).map(|_| Stream::default()).collect(),
            players: Vec::new(),
            idle: Vec::new(),
            gone: Vec::new(),
            millis: 0,
            received: 0,
            gaps: 0,
        }
    }

    /// Returns how many frames arrived, and with how many gaps.
    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.step();
            self.check();
        }
        self.wind_up();
        (self.received, self.gaps)
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..5 => self.connect(),
            5..13 => self.publish(),
            13..23 => self.play(),
            23..65 => self.media(),
            65..78 => self.read_a_little(),
            78..88 => self.pass_time(),
            88..92 => self.somebody_leaves(),
            92..96 => self.hostile_bytes(),
            _ => self.unpublish(),
        }
    }

    fn clients(&self) -> usize {
        let publishers = self.streams.iter().filter(|stream| stream.publisher.is_some()).count();
        publishers + self.players.len() + self.idle.len()
    }

    fn split(&mut self) -> Split {
        match self.random.below(3) {
            0 => Split::Whole,
            _ => Split::Random(self.random.clone(), 2 + self.random.below(3000)),
        }
    }

    fn connect(&mut self) {
        if self.clients() < CLIENTS_MAX {
            let client = self.world.connect_only();
            self.idle.push(client);
        }
    }

    fn publish(&mut self) {
        let index = self.random.below(STREAMS);
        let split = self.split();
        let client = self.world.publisher(&key(index));
        self.world[client].split = split;
        let stream = &mut self.streams[index];
        let silent_ms = self.millis - stream.silent_since;
        let accepted = stream.publisher.is_none()
            || match self.settings.publish.duplicate {
                Duplicate::Reject => false,
                Duplicate::Replace => true,
                Duplicate::ReplaceIfSilent => silent_ms >= self.settings.publish.silent_ms,
            };
        let told = self.world[client].was_told("NetStream.Publish.Start");
        assert_eq!(told, accepted, "publish of {} after {silent_ms} ms", key(index));
        if !accepted {
            return self.gone.push(client);
        }
        self.gone.extend(stream.publisher.replace(client));
        stream.silent_since = self.millis;
        stream.awaits_gop = true;
        stream.clock = [0, 90_000, u32::MAX - 3000, 1 << 31][self.random.below(4)];
        self.send(index, "V");
        self.send(index, "A");
        self.world.run();
    }

    fn play(&mut self) {
        if self.clients() >= CLIENTS_MAX {
            return;
        }
        let stream = self.random.below(STREAMS);
        let split = self.split();
        let is_good = !self.random.one_in(3);
        let socket_bytes = self.world.socket_bytes;
        if !is_good {
            self.world.socket_bytes = [KIB, 4 * KIB][self.random.below(2)];
        }
        let client = self.world.player(&key(stream));
        self.world.socket_bytes = socket_bytes;
        assert!(self.world[client].was_told("NetStream.Play.Start"));
        self.world[client].split = split;
        self.world[client].reads = is_good;
        let joined = self.streams[stream].next;
        let tracks = [Track::default(); 2];
        self.players.push(Player { client, stream, joined, is_good, tracks, gaps: 0 });
    }

    /// A few messages of one publisher, of which some change the configuration.
    fn media(&mut self) {
        let first = self.random.below(STREAMS);
        let is_live = |index: &usize| self.streams[*index].publisher.is_some();
        let Some(index) = (0..STREAMS).map(|n| (first + n) % STREAMS).find(is_live) else { return };
        for _ in 0..1 + self.random.below(12) {
            let name = match self.random.below(40) {
                0 => "V",
                1 => "A",
                2..6 => "K",
                6..24 => "i",
                _ => "a",
            };
            self.send(index, name);
            if name == "V" {
                // What follows a new configuration is a GOP that it is for.
                self.send(index, "K");
            }
        }
        self.world.run();
    }

    /// Publishes one message and notes what the server has to make of it.
    fn send(&mut self, index: usize, name: &str) {
        let stream = &mut self.streams[index];
        let publisher = stream.publisher.expect("a publisher");
        let number = stream.next;
        stream.silent_since = self.millis;
        // Now and then a clock is what no clock should be.
        stream.clock = match self.random.below(100) {
            0 => stream.clock.wrapping_sub(self.random.below(3000) as u32),
            1 => self.random.below(1 << 32) as u32,
            2 => stream.clock ^ 1 << 31,
            _ => stream.clock.wrapping_add(self.random.below(30) as u32),
        };
        let (kind, configuration) = match name {
            "V" | "A" => {
                let configuration = if name == "V" {
                    &mut stream.video_configuration
                } else {
                    &mut stream.audio_configuration
                };
                *configuration += 1;
                let label = format!("{name}{}", tagged(index, *configuration));
                return write(&mut self.world, publisher, &label, stream.clock, 0);
            }
            "K" => (Kind::Key, stream.video_configuration),
            "i" => (Kind::Inter, stream.video_configuration),
            _ => (Kind::Audio, stream.audio_configuration),
        };
        let len = [10, 300, 1000, 5000][self.random.below(4)];
        let label = format!("{name}{}", tagged(index, number));
        write(&mut self.world, publisher, &label, stream.clock, len);
        stream.awaits_gop &= kind != Kind::Key;
        if kind == Kind::Inter && stream.awaits_gop {
            // Of use to nobody, so nobody may get it: its number is given to the next one,
            // which is another message.
            return;
        }
        stream.frames.push_back(Frame { kind, number, configuration });
        stream.next += 1;
    }

    fn read_a_little(&mut self) {
        let slow: Vec<_> = self.players.iter().filter(|p| !p.is_good).map(|p| p.client).collect();
        let count = [1, 100, 5000, 5000][self.random.below(4)];
        for _ in 0..1 + self.random.below(20) {
            for client in &slow {
                self.world[*client].read(count);
            }
            self.world.run();
        }
    }

    fn pass_time(&mut self) {
        let millis = [40, 300, 1000, 3000][self.random.below(4)];
        self.millis += millis;
        self.world.advance_ms(millis);
    }

    fn somebody_leaves(&mut self) {
        let publisher = self.random.below(STREAMS);
        let client = match self.random.below(3) {
            0 => self.streams[publisher].publisher.take(),
            1 if !self.players.is_empty() => {
                let index = self.random.below(self.players.len());
                Some(self.players.swap_remove(index).client)
            }
            _ => self.idle.pop(),
        };
        let Some(client) = client else { return };
        if self.random.one_in(2) {
            self.world[client].reset();
        } else {
            self.world[client].finish();
        }
        self.world.run();
        self.gone.push(client);
    }

    fn unpublish(&mut self) {
        let index = self.random.below(STREAMS);
        let Some(client) = self.streams[index].publisher.take() else { return };
        self.world[client].client().delete_stream();
        self.world.run();
        self.idle.push(client);
    }

    /// Bytes that mean nothing, from somebody new or from somebody who plays or sleeps.
    fn hostile_bytes(&mut self) {
        let bytes: Vec<u8> =
            (0..1 + self.random.below(500)).map(|_| self.random.below(256) as u8).collect();
        let client = match self.random.below(3) {
            0 if !self.players.is_empty() => {
                let index = self.random.below(self.players.len());
                self.players.swap_remove(index).client
            }
            1 if !self.idle.is_empty() => self.idle.swap_remove(0),
            2 => self.world.handshaken(),
            _ => self.world.connect(),
        };
        self.world[client].send_raw(&bytes);
        self.world.run();
        self.gone.push(client);
    }

    /// What must hold after every step.
    fn check(&mut self) {
        for index in 0..STREAMS {
            let stream = &mut self.streams[index];
            if stream.publisher.is_some_and(|publisher| self.world.conn(publisher).is_none()) {
                assert!(self.millis - stream.silent_since >= 30_000, "a publisher was closed");
                stream.publisher = None;
            }
            let live = self.world.server.hub().find(&format!("live/{}", key(index)));
            let is_live = live.is_some_and(|stream| stream.is_live());
            assert_eq!(is_live, self.streams[index].publisher.is_some(), "{}", key(index));
        }
        assert!(self.world.server.hub().tape_bytes() <= STREAMS * MIB / 2);
        for index in 0..self.players.len() {
            self.check_player(index);
        }
        let world = &self.world;
        self.players.retain(|player| world.conn(player.client).is_some());
        self.let_go();
    }

    fn check_player(&mut self, index: usize) {
        let player = &mut self.players[index];
        let messages = self.world[player.client].take_messages();
        let stream = &self.streams[player.stream];
        for message in &messages {
            if message.kind == COMMAND {
                player.told(message);
            } else if message.is_media() {
                self.received += 1;
                player.receive(message, stream);
            }
        }
        self.gaps += player.gaps;
        let Some(conn) = self.world.conn(player.client) else {
            return assert!(!player.is_good, "a player that reads was closed");
        };
        if player.is_good {
            let skips = conn.activity.as_ref().map_or(0, |activity| activity.plays[0].skips);
            assert_eq!((player.gaps, skips), (0, 0), "who reads loses nothing: {player:?}");
            player.assert_complete(stream);
        }
        player.gaps = 0;
    }

    /// Clients that were told to go, or broke off, close their end and are looked at no more.
    fn let_go(&mut self) {
        for client in std::mem::take(&mut self.gone) {
            self.world[client].finish();
            self.world[client].reads = true;
        }
    }

    /// Everybody leaves; nothing may stay behind.
    fn wind_up(&mut self) {
        let publishers = self.streams.iter().filter_map(|stream| stream.publisher);
        let players = self.players.iter().map(|player| player.client);
        let all: Vec<_> = publishers.chain(players).chain(self.idle.iter().copied()).collect();
        for client in all {
            self.world[client].finish();
            self.world[client].reads = true;
        }
        self.world.advance_ms(60_000);
        let server = &self.world.server;
        assert!(server.is_empty(), "{} connections are left", server.len());
        assert!(server.hub().is_empty());
        assert_eq!(server.next_deadline(), None);
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
    fn receive(&mut self, message: &Message, stream: &Stream) {
        let label = label(message);
        let (name, number) = label.split_at(1);
        let number = untagged(self.stream, number.parse().expect("a number"));
        let is_audio = matches!(name, "A" | "a");
        let track = &mut self.tracks[usize::from(is_audio)];
        if matches!(name, "V" | "A") {
            track.configuration = Some(number);
            track.is_configured_anew = true;
            return;
        }
        let frame = stream.frame(number);
        let expected = match frame.kind {
            Kind::Key => "K",
            Kind::Inter => "i",
            Kind::Audio => "a",
        };
        assert_eq!(name, expected, "frame {number}");
        assert_eq!(track.configuration, Some(frame.configuration), "configuration of {label}");
        let before = stream.newest_before(number, is_audio);
        match track.last {
            Some(last) => {
                assert!(number > last, "{label} behind frame {last}");
                if before != Some(last) {
                    self.gaps += 1;
                    assert!(track.is_configured_anew, "{label} behind {last} without headers");
                    assert_ne!(frame.kind, Kind::Inter, "a gap that ends within a GOP");
                }
            }
            None => assert_ne!(frame.kind, Kind::Inter, "it begins within a GOP"),
        }
        let is_late = |last: u32| message.timestamp.wrapping_sub(last) < 1 << 31;
        assert!(track.timestamp.is_none_or(is_late), "{label}: time runs back");
        track.timestamp = Some(message.timestamp);
        track.last = Some(number);
        track.is_configured_anew = false;
    }

    /// Whoever reads has everything since it joined, or since the first GOP after that.
    fn assert_complete(&self, stream: &Stream) {
        let [video, audio] = self.tracks;
        let newest_audio = stream.newest(true).filter(|number| *number >= self.joined);
        assert!(audio.last >= newest_audio, "audio {newest_audio:?} is missing: {self:?}");
        let key = |frame: &&Frame| frame.kind == Kind::Key && frame.number >= self.joined;
        if video.last.is_some() || stream.frames.iter().any(|frame| key(&frame)) {
            let newest = stream.newest(false);
            assert_eq!(video.last, newest, "video is missing: {self:?}");
        }
    }
}

fn key(stream: usize) -> String {
    format!("s{stream}")
}

/// A number that says which stream it belongs to.
fn tagged(stream: usize, number: u32) -> u32 {
    (stream as u32) << 24 | number
}

fn untagged(stream: usize, number: u32) -> u32 {
    assert_eq!(number >> 24, stream as u32, "a message of another stream");
    number & 0x00ff_ffff
}

/// Proves that the model notices: a stream from which one frame is missing does not pass.
#[test]
#[should_panic(expected = "without headers")]
fn canary_a_missing_frame_is_noticed() {
    let mut stream = Stream::default();
    for number in 0..3 {
        stream.frames.push_back(Frame { kind: Kind::Audio, number, configuration: 0 });
    }
    let mut world = World::new(Settings::default());
    let client = world.connect();
    let tracks = [Track { configuration: Some(0), ..Track::default() }; 2];
    let mut player = Player { client, stream: 0, joined: 0, is_good: true, tracks, gaps: 0 };
    for number in [0, 2] {
        let (kind, payload) = crate::frames::payload(&format!("a{number}"), 0);
        assert_eq!(kind, wire::AUDIO);
        player.receive(&Message::new(4, kind, payload), &stream);
    }
}
