//! Streams through a server, with or without players: the run of `load fanout` and `load ingest`.
//!
//! Owns the phases of such a run:
//!
//! 1. Publishers start, each at its due time.
//! 2. Players join, each at its due time, and wait for a keyframe.
//! 3. Warm-up: the server settles.
//! 4. The window is open: frames intended now are measured.
//! 5. Drain: publishers go on while frames in flight arrive.
//!
//! Frames are open-loop: each is due at its own time regardless of the frames before it, and is
//! measured from that time.
//!
//! [`offer`] holds the flags and the schedule of the streams, and `stamped_frame` the layout of a
//! frame. `publisher` and `arrivals` record the two sides, `stream_series` records them second by
//! second, and `results` turns their results into figures.

mod arrivals;
pub mod fanout;
pub mod ingest;
pub mod offer;
mod publisher;
mod results;
mod stamped_frame;
mod stream_series;

use std::net::SocketAddr;
use std::time::Duration;

use arrivals::{Arrival, Track, Window};
use offer::{Offer, OfferWire};
use publisher::Publisher;
use results::StreamResults;
use stamped_frame::{FrameWriter, Judged, SEQUENCE_HEADER, Stamp, judge};

use super::LoadError;
use super::connection::{
    Connection, ConnectionEvent, ConnectionHead, ConnectionKey, ConnectionPhase, Ended,
};
use super::engine::{self, Agenda, Engine, Scenario, Speak};
use super::http_flv::HttpTarget;
use super::machine::MachineTimes;
use super::measured::Measured;
use super::measurement::Measurement;
use super::options::Options;
use super::process::Sample;
use super::target::Target;
use crate::rtmp::client::Purpose;
use crate::rtmp::message::kind;
use crate::time::Time;

/// How long to wait for frames in flight after the window has closed.
const DRAIN: Duration = Duration::from_secs(2);

/// A run of streams.
struct Streams<'a> {
    offer: &'a Offer,
    target: &'a Target,
    /// Where players play over HTTP, unless they use the same protocol as the publishers.
    http: Option<&'a HttpTarget>,
    timeout: Duration,
    duration: Duration,
    measurement: Measurement,
    writer: FrameWriter,
    publishers: Vec<Publisher>,
    players: Vec<Player>,
    stage: Stage,
    publishers_up: u32,
    publishers_gone: u32,
    players_up: u32,
    players_gone: u32,
    players_without_keyframe: u32,
    /// Due time of the first player.
    players_from: Time,
    window: Window,
    /// Frames of the window that connected players have not received yet.
    awaited: u64,
    results: StreamResults,
    /// The error that ended the run, if there is nothing to report.
    broken: Option<LoadError>,
}

/// Phase of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Publishers,
    Players,
    /// All players are playing, but some have no keyframe yet.
    Keyframes,
    WarmUp,
    Measure,
    Drain,
}

/// Scheduled actions of the run.
#[derive(Clone, Copy, Debug)]
enum Due {
    OpenPublisher(u32),
    OpenPlayer(u32),
    Frame(u32),
    /// Stop waiting for players without a keyframe.
    WarmUp,
    Begin,
    End,
    Drained,
}

/// Side of a connection, with its number.
#[derive(Clone, Copy, Debug)]
enum Side {
    Publisher(u32),
    Player(u32),
}

#[derive(Debug)]
struct Player {
    /// Time when the play command was written.
    play_at: Time,
    has_keyframe: bool,
    is_up: bool,
    /// It was playing when the window opened.
    is_counted: bool,
    track: Track,
}

impl<'a> Streams<'a> {
    /// Prepares a run against `target` with this many players. A gap of more than `stall_frames`
    /// intervals is a stall.
    fn new(
        offer: &'a Offer,
        target: &'a Target,
        players: u32,
        stall_frames: f64,
        options: &Options,
        measurement: Measurement,
    ) -> Self {
        let player = |number: u32| Player {
            play_at: Time::NEVER,
            has_keyframe: false,
            is_up: false,
            is_counted: false,
            track: Track::new(number % offer.publishers),
        };
        Self {
            offer,
            target,
            http: None,
            timeout: options.timeout_s,
            duration: options.duration_s,
            measurement,
            writer: FrameWriter::new(offer.frame_bytes()),
            publishers: (0..offer.publishers).map(|_| Publisher::new()).collect(),
            players: (0..players).map(player).collect(),
            stage: Stage::Publishers,
            publishers_up: 0,
            publishers_gone: 0,
            players_up: 0,
            players_gone: 0,
            players_without_keyframe: 0,
            players_from: Time::NEVER,
            window: Window { from: Time::NEVER, until: Time::NEVER },
            awaited: 0,
            results: StreamResults::new(offer.interval().mul_f64(stall_frames)),
            broken: None,
        }
    }

    /// Lets players play over HTTP.
    fn playing_over_http(self, http: Option<&'a HttpTarget>) -> Self {
        Self { http, ..self }
    }

    /// Runs the load and returns the results.
    ///
    /// # Errors
    /// The server refused or ended something that the measurement depends on.
    fn run(mut self) -> Result<(Measurement, StreamResults, Measured), LoadError> {
        let connections = f64::from(self.offer.publishers) + self.players.len() as f64;
        let opening = Duration::from_secs_f64(connections / self.offer.rate);
        // Publishers, players and keyframes each get the timeout.
        let waiting = 3 * self.timeout + self.offer.warmup_s + DRAIN;
        let plan = self.measurement.plan(opening + waiting + self.duration);
        let measured = engine::run(plan, &mut self)?;
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.results.has_ended = self.stage == Stage::Drain;
        Ok((self.measurement, self.results, measured))
    }

    fn open_publisher(&mut self, engine: &mut Engine<Self>, stream: u32, intended: Time) {
        let key = self.offer.key(self.target, stream);
        let id = self.open(engine, intended, "publish", key, Side::Publisher(stream));
        self.publishers[stream as usize].id = id;
        let next = stream + 1;
        if next < self.offer.publishers {
            let at = engine.agenda().began() + self.offset(next);
            engine.agenda().at(at, Due::OpenPublisher(next));
        }
    }

    fn open_player(&self, engine: &mut Engine<Self>, player: u32, intended: Time) {
        let stream = self.players[player as usize].track.stream();
        let key = self.offer.key(self.target, stream);
        self.open(engine, intended, "play", key, Side::Player(player));
        let next = player + 1;
        if (next as usize) < self.players.len() {
            let at = self.players_from + self.offset(next);
            engine.agenda().at(at, Due::OpenPlayer(next));
        }
    }

    /// Returns when a connection is due after the first one of its kind.
    fn offset(&self, number: u32) -> Duration {
        Duration::from_secs_f64(f64::from(number) / self.offer.rate)
    }

    fn open(
        &self,
        engine: &mut Engine<Self>,
        intended: Time,
        role: &str,
        key: String,
        side: Side,
    ) -> Option<ConnectionKey> {
        if let (Side::Player(number), Some(http)) = (side, self.http) {
            let stream = self.players[number as usize].track.stream();
            let number = (self.offer.publishers > 1).then_some(stream);
            return engine.open(intended, Speak::HttpFlv(http.request(number)), side);
        }
        match self.offer.wire {
            OfferWire::Rtmp => {
                let purpose = match side {
                    Side::Publisher(_) => Purpose::Publish { key },
                    Side::Player(_) => Purpose::Play { key },
                };
                engine.open(intended, Speak::Rtmp(self.target.client(purpose)), side)
            }
            OfferWire::Floor => {
                let id = engine.open(intended, Speak::Frames, side)?;
                let connection = engine.write(id)?;
                connection.write_frame(format!("{role} {key}").as_bytes());
                Some(id)
            }
        }
    }

    fn write_frame(&mut self, engine: &mut Engine<Self>, stream: u32, intended: Time) {
        let publisher = &mut self.publishers[stream as usize];
        let Some(connection) = publisher.id.and_then(|id| engine.write(id)) else {
            return self.miss_frame(engine.agenda(), stream, intended);
        };
        let sequence = publisher.sequence;
        if sequence == 0 {
            write_video(connection, 0, &SEQUENCE_HEADER);
        }
        let time_ms = self.offer.frame_time(sequence).as_millis() as u32;
        let is_keyframe = sequence.is_multiple_of(self.offer.gop_frames());
        let stamp = Stamp { stream, sequence, intended };
        write_video(connection, time_ms, self.writer.frame(stamp, is_keyframe));
        let end = connection.head().sent_bytes + connection.unsent_bytes() as u64;
        publisher.wrote(end, intended);
        if self.window.holds(intended) {
            publisher.in_window += 1;
            self.results.sent.intended += 1;
            self.results.over_time.expect(stream, intended.since(engine.agenda().began()));
        }
        publisher.sequence += 1;
        let next_at = self.offer.frame_at(publisher.first_at, publisher.sequence);
        engine.agenda().at(next_at, Due::Frame(stream));
    }

    /// Counts a frame whose publisher is lost, and goes on with the schedule: the server does not
    /// accept what it no longer lets us publish.
    fn miss_frame(&mut self, agenda: &mut Agenda<Due>, stream: u32, intended: Time) {
        if self.stage == Stage::Drain {
            return;
        }
        self.results.sent.intended += u64::from(self.window.holds(intended));
        let publisher = &mut self.publishers[stream as usize];
        publisher.sequence += 1;
        let next_at = self.offer.frame_at(publisher.first_at, publisher.sequence);
        agenda.at(next_at, Due::Frame(stream));
    }

    fn reached(
        &mut self,
        agenda: &mut Agenda<Due>,
        side: Side,
        head: &ConnectionHead,
        phase: ConnectionPhase,
    ) {
        let now = agenda.now();
        match side {
            Side::Publisher(stream) if phase == head.goal => {
                let first_at = now + self.offer.phase(stream);
                self.publishers[stream as usize].first_at = first_at;
                agenda.at(first_at, Due::Frame(stream));
                self.publishers_up += 1;
            }
            Side::Player(number) => {
                let player = &mut self.players[number as usize];
                // The play command follows at once: the answer to `createStream` over RTMP, and the
                // connection over the other protocols.
                if matches!(phase, ConnectionPhase::Tcp | ConnectionPhase::Stream) {
                    player.play_at = now;
                }
                if phase == head.goal {
                    player.is_up = true;
                    self.players_up += 1;
                    self.players_without_keyframe += u32::from(!player.has_keyframe);
                }
            }
            Side::Publisher(_) => {}
        }
        self.advance(agenda);
    }

    /// Moves on to the next phase if its condition is met.
    fn advance(&mut self, agenda: &mut Agenda<Due>) {
        let started = self.publishers_up + self.publishers_gone;
        if self.stage == Stage::Publishers && started == self.offer.publishers {
            self.stage = Stage::Players;
            self.players_from = agenda.now();
            if !self.players.is_empty() {
                agenda.at(self.players_from, Due::OpenPlayer(0));
            }
        }
        let settled = (self.players_up + self.players_gone) as usize;
        if self.stage == Stage::Players && settled == self.players.len() {
            self.stage = Stage::Keyframes;
            agenda.at(agenda.now() + self.timeout, Due::WarmUp);
        }
        if self.stage == Stage::Keyframes && self.players_without_keyframe == 0 {
            self.warm_up(agenda);
        }
    }

    fn warm_up(&mut self, agenda: &mut Agenda<Due>) {
        if self.stage == Stage::Keyframes {
            self.stage = Stage::WarmUp;
            agenda.at(agenda.now() + self.offer.warmup_s, Due::Begin);
        }
    }

    fn begin(&mut self, engine: &mut Engine<Self>, intended: Time) {
        self.stage = Stage::Measure;
        self.results.players_without_frame = self.players_without_keyframe;
        (self.results.server_before, self.results.machine_before) = self.sample(engine.agenda());
        // The frame intended for this very moment has already been written.
        let from = intended + Duration::from_micros(1);
        self.window = Window { from, until: from + self.duration };
        for player in self.players.iter_mut().filter(|player| player.is_up) {
            player.is_counted = true;
            self.results.players += 1;
            self.results.over_time.note_counted(player.track.stream());
        }
        self.results.before_window = Some(engine.restart_measured());
        engine.agenda().at(self.window.until, Due::End);
    }

    fn end(&mut self, agenda: &mut Agenda<Due>) {
        self.stage = Stage::Drain;
        (self.results.server_after, self.results.machine_after) = self.sample(agenda);
        self.results.open_for = self.window.until.since(self.window.from);
        for publisher in &self.publishers {
            publisher.end(&self.window, &mut self.results.sent);
        }
        for player in self.players.iter().filter(|player| player.is_counted) {
            player.track.end(&self.window, &mut self.results.arrivals);
            let in_window = self.publishers[player.track.stream() as usize].in_window;
            self.results.expected += in_window;
            if player.is_up {
                self.awaited += in_window.saturating_sub(player.track.frames());
            }
        }
        agenda.at(agenda.now() + DRAIN, Due::Drained);
        self.stop_when_drained(agenda);
    }

    fn stop_when_drained(&self, agenda: &mut Agenda<Due>) {
        if self.stage == Stage::Drain && self.awaited == 0 {
            agenda.stop();
        }
    }

    fn receive(
        &mut self,
        agenda: &mut Agenda<Due>,
        number: u32,
        head: &ConnectionHead,
        payload: &[u8],
    ) {
        let judged = judge(payload);
        if judged == Judged::Header {
            return;
        }
        let (now, since_began) = (agenda.now(), agenda.now().since(agenda.began()));
        let player = &mut self.players[number as usize];
        let is_intact_keyframe = matches!(judged, Judged::Whole { is_keyframe: true, .. });
        let is_first =
            is_intact_keyframe && !std::mem::replace(&mut player.has_keyframe, is_intact_keyframe);
        let arrival = Arrival { judged, bytes: payload.len(), now, since_began };
        let is_new = player.track.receive(&arrival, &self.window, &mut self.results.arrivals);
        self.results.over_time.note_bytes(payload.len() as u64);
        if let Some(intended) = judged.intended().filter(|_| is_new && player.is_counted) {
            self.results.over_time.receive(intended.since(agenda.began()));
        }
        let is_awaited = is_new && self.stage == Stage::Drain && player.is_counted;
        if is_first {
            self.players_without_keyframe -= u32::from(player.is_up);
            let (took, after_play) = (now.since(head.intended), now.since(player.play_at));
            // By the time at which the player was due.
            let due = since_began.saturating_sub(took);
            self.results.first_frame.record(due, took.as_micros() as u64);
            self.results.first_frame_after_play.record(due, after_play.as_micros() as u64);
            self.advance(agenda);
        }
        if is_awaited {
            self.awaited = self.awaited.saturating_sub(1);
            self.stop_when_drained(agenda);
        }
    }

    fn player_gone(&mut self, agenda: &mut Agenda<Due>, number: u32, ended: &Ended) {
        let player = &mut self.players[number as usize];
        let stream = player.track.stream();
        *self.results.players_failed.entry(ended.reason.kind()).or_default() += 1;
        self.players_gone += 1;
        if std::mem::replace(&mut player.is_up, false) {
            self.players_up -= 1;
            self.players_without_keyframe -= u32::from(!player.has_keyframe);
            let in_window = self.publishers[stream as usize].in_window;
            if self.stage == Stage::Drain && player.is_counted {
                let missing = in_window.saturating_sub(player.track.frames());
                self.awaited = self.awaited.saturating_sub(missing);
            }
        }
        if self.players_gone as usize == self.players.len() {
            let what = format!("play {}", self.shown(stream));
            let address = self.http.map_or(self.target.address, |http| http.address);
            return self.lose(agenda, address, what, ended);
        }
        self.stop_when_drained(agenda);
        self.advance(agenda);
    }

    /// Counts a lost publisher. The others go on.
    fn publisher_gone(&mut self, agenda: &mut Agenda<Due>, stream: u32, ended: &Ended) {
        *self.results.publishers_failed.entry(ended.reason.kind()).or_default() += 1;
        self.publishers_gone += 1;
        self.publishers_up -= u32::from(ended.head.is_settled());
        if self.publishers_gone == self.offer.publishers {
            let what = format!("publish {}", self.shown(stream));
            return self.lose(agenda, self.target.address, what, ended);
        }
        self.advance(agenda);
    }

    /// Ends the run, because all connections of a kind are lost. What the window has until now is
    /// reported.
    fn lose(&mut self, agenda: &mut Agenda<Due>, address: SocketAddr, what: String, ended: &Ended) {
        let answer = ended.answer(self.timeout);
        let after = ended.at.since(agenda.began());
        let error = match ended.head.is_settled() {
            false => LoadError::Refused { address, what, answer },
            true => LoadError::BrokenOff { address, what, answer, after },
        };
        if self.stage < Stage::Measure {
            self.broken.get_or_insert(error);
        } else {
            self.results.lost.get_or_insert_with(|| error.to_string());
        }
        if self.stage == Stage::Measure {
            self.window.until = agenda.now();
            self.end(agenda);
        }
        agenda.stop();
    }

    fn shown(&self, stream: u32) -> String {
        let key = self.offer.key(self.target, stream);
        // The query may contain credentials.
        let name = key.split('?').next().unwrap_or_default();
        format!("{}/{name}", self.target.app)
    }

    /// Samples the server and the machine, if there is a server to observe.
    fn sample(&mut self, agenda: &mut Agenda<Due>) -> (Option<Sample>, Option<MachineTimes>) {
        let at = agenda.now().since(agenda.began());
        let Some(server) = &self.measurement.server else { return (None, None) };
        match server.sample(at) {
            Ok(sample) => (Some(sample), server.machine()),
            // A server that is gone loses all connections, too, and that is reported instead.
            Err(_) if self.results.lost.is_some() => (None, None),
            Err(error) => {
                self.broken.get_or_insert_with(|| error.into());
                agenda.stop();
                (None, None)
            }
        }
    }
}

impl Scenario for Streams<'_> {
    type Conn = Side;
    type Due = Due;

    fn start(&mut self, engine: &mut Engine<Self>) {
        let began = engine.agenda().began();
        engine.agenda().at(began, Due::OpenPublisher(0));
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::OpenPublisher(stream) => self.open_publisher(engine, stream, intended),
            Due::OpenPlayer(player) => self.open_player(engine, player, intended),
            Due::Frame(stream) => self.write_frame(engine, stream, intended),
            Due::WarmUp => self.warm_up(engine.agenda()),
            Due::Begin => self.begin(engine, intended),
            Due::End => self.end(engine.agenda()),
            Due::Drained => engine.agenda().stop(),
        }
    }

    fn event(
        &mut self,
        agenda: &mut Agenda<Due>,
        side: &mut Side,
        head: &ConnectionHead,
        event: ConnectionEvent<'_>,
    ) {
        match (*side, event) {
            (side, ConnectionEvent::Reached { phase, .. }) => {
                self.reached(agenda, side, head, phase)
            }
            (Side::Player(number), ConnectionEvent::Media(message))
                if message.header.kind == kind::VIDEO =>
            {
                self.receive(agenda, number, head, message.payload);
            }
            (Side::Player(number), ConnectionEvent::Frame(payload)) => {
                self.receive(agenda, number, head, payload);
            }
            (Side::Publisher(stream), ConnectionEvent::Acknowledged(bytes)) => {
                let (now, since_began) = (agenda.now(), agenda.now().since(agenda.began()));
                let publisher = &mut self.publishers[stream as usize];
                let sent = &mut self.results.sent;
                publisher.acknowledged(bytes, now, since_began, &self.window, sent);
            }
            _ => {}
        }
    }

    fn written(&mut self, agenda: &mut Agenda<Due>, side: &mut Side, head: &ConnectionHead) {
        if let Side::Publisher(stream) = side {
            let (now, since_began) = (agenda.now(), agenda.now().since(agenda.began()));
            let publisher = &mut self.publishers[*stream as usize];
            let sent = &mut self.results.sent;
            let bytes = publisher.taken(head.sent_bytes, now, since_began, &self.window, sent);
            if self.players.is_empty() {
                self.results.over_time.note_bytes(bytes);
            }
        }
    }

    fn closed(&mut self, agenda: &mut Agenda<Due>, side: Side, ended: Ended) {
        if !ended.reason.is_failure() {
            return;
        }
        match side {
            Side::Publisher(stream) => self.publisher_gone(agenda, stream, &ended),
            Side::Player(number) => self.player_gone(agenda, number, &ended),
        }
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let at = agenda.now().since(agenda.began());
        let gone = self.players_gone + self.publishers_gone;
        self.results.over_time.sample(at, self.players_up, gone);
        let bytes: u64 = self.publishers.iter().map(Publisher::unacknowledged_bytes).sum();
        self.results.unacknowledged.push(at.as_secs_f64(), bytes as f64);
        if self.measurement.is_beyond_repair(&self.results.growing()) {
            agenda.stop();
        }
        self.measurement.sample_soon(at)
    }

    fn progress(&self) -> String {
        let stage = match self.stage {
            Stage::Publishers => "publishers start",
            Stage::Players => "players join",
            Stage::Keyframes => "players wait for a keyframe",
            Stage::WarmUp => "warming up",
            Stage::Measure => "measuring",
            Stage::Drain => "waiting for frames in flight",
        };
        let (publishers, players) = (self.publishers_up, self.players_up);
        let frames = self.results.arrivals.frames;
        format!("{stage}: {publishers} publishers, {players} players, {frames} frames received")
    }
}

fn write_video(connection: &mut Connection<Side>, time_ms: u32, payload: &[u8]) {
    match connection.client() {
        Some(client) => client.write_video(time_ms, payload),
        None => connection.write_frame(payload),
    }
}
