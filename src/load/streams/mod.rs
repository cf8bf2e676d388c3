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
//! In a run with several steps, phases 2 to 5 repeat with another number of players: players leave
//! or join, and the publishers go on.
//!
//! Frames are open-loop: each is due at its own time regardless of the frames before it, and is
//! measured from that time.
//!
//! [`offer`] holds the flags and the schedule of the streams, `routes` their addresses and keys,
//! and `stamped_frame` the layout of a frame. `publisher`, `player` and `arrivals` record the two
//! sides, `stream_series` records them second by second, and `results` turns their results into
//! figures. `steps` judges the steps of a run, and `search` chooses their numbers of players.
//! `slow_readers` are players apart from the others.

mod arrivals;
pub mod fanout;
pub mod ingest;
pub mod offer;
mod player;
mod publisher;
mod results;
mod routes;
mod search;
mod slow_readers;
mod stamped_frame;
mod step_change;
mod steps;
mod stream_series;

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use arrivals::{Arrival, Window};
use offer::{Offer, OfferWire};
use player::{Awaits, Player, PlayerState};
use publisher::Publisher;
use results::StreamResults;
use routes::Routes;
use slow_readers::{GRANT_INTERVAL, SlowOptions, SlowReaders};
use stamped_frame::{AUDIO_HEADER, FrameWriter, Judged, Medium, SEQUENCE_HEADER, Stamp, judge};
use steps::Steps;

use super::LoadError;
use super::alarm;
use super::connection::{
    Connection, ConnectionEvent, ConnectionHead, ConnectionKey, ConnectionPhase, Ended,
};
use super::engine::{self, Agenda, Engine, Scenario, Speak};
use super::machine::MachineTimes;
use super::measured::Measured;
use super::measurement::Measurement;
use super::options::Options;
use super::pace::ArrivalPace;
use super::process::Sample;
use super::processes::Share;
use super::target::Target;
use crate::rtmp::client::Purpose;
use crate::time::Time;

/// How long to wait for frames in flight after the window has closed.
const DRAIN: Duration = Duration::from_secs(2);

/// A run of streams.
struct Streams<'a> {
    offer: &'a Offer,
    target: &'a Target,
    routes: Routes,
    timeout: Duration,
    duration: Duration,
    measurement: Measurement,
    writer: FrameWriter,
    publishers: Vec<Publisher>,
    players: Vec<Player>,
    slow: SlowReaders,
    stage: Stage,
    publishers_up: u32,
    publishers_gone: u32,
    players_up: u32,
    /// Players that failed since the start of the run.
    players_failed: u32,
    /// Players of this step that are not up yet and have not failed.
    players_joining: u32,
    /// Players that are up and have not received the frame that they wait for.
    players_waiting: u32,
    /// Due time of the first player of this step.
    players_from: Time,
    /// When further connections are due: publishers, then the players of each step.
    pace: ArrivalPace,
    window: Window,
    /// Frames of the window that connected players have not received yet.
    awaited: u64,
    results: StreamResults,
    /// The steps of the run, unless it has only one window.
    steps: Option<Steps>,
    /// Number of the current step.
    step: u32,
    /// No player joined or left for this step, so the server needs no warm-up.
    is_same_load: bool,
    /// The error that ended the run, if there is nothing to report.
    broken: Option<LoadError>,
}

/// Results of a run.
struct StreamsRun {
    measurement: Measurement,
    /// Results of the last window.
    results: StreamResults,
    /// Measurements of the generator in that window.
    measured: Measured,
    steps: Option<Steps>,
    /// Length of the run.
    elapsed: Duration,
}

/// Phase of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Publishers,
    Players,
    /// All players are playing, but some wait for a frame.
    Keyframes,
    WarmUp,
    Measure,
    Drain,
    Drained,
}

/// Scheduled actions of the run.
#[derive(Clone, Copy, Debug)]
enum Due {
    OpenPublisher(u32),
    OpenPlayer(u32),
    OpenSlowReader(u32),
    /// Let slow readers read.
    GrantReading,
    Frame(u32, Medium),
    /// Stop waiting for players that wait for a frame in this step.
    WarmUp(u32),
    Begin,
    End,
    /// Stop waiting for frames in flight in this step.
    Drained(u32),
    NextStep,
}

/// Side of a connection, with its number.
#[derive(Clone, Copy, Debug)]
enum Side {
    Publisher(u32),
    Player(u32),
    SlowReader,
}

impl<'a> Streams<'a> {
    /// Prepares a run against `target` with this many players.
    fn new(
        offer: &'a Offer,
        target: &'a Target,
        routes: Routes,
        players: u32,
        options: &Options,
        measurement: Measurement,
    ) -> Self {
        Self {
            offer,
            target,
            routes,
            timeout: options.timeout_s,
            duration: options.duration_s,
            measurement,
            writer: FrameWriter::new(offer.bytes_max()),
            publishers: offer.phases().into_iter().map(Publisher::new).collect(),
            players: (0..players).map(|number| Player::new(number % offer.publishers)).collect(),
            slow: SlowReaders::new(SlowOptions::NONE),
            stage: Stage::Publishers,
            publishers_up: 0,
            publishers_gone: 0,
            players_up: 0,
            players_failed: 0,
            players_joining: players,
            players_waiting: 0,
            players_from: Time::NEVER,
            pace: ArrivalPace::new(&offer.pace, offer.rate, Share::new(0, 1), offer.publishers),
            window: Window::NEVER,
            awaited: 0,
            results: StreamResults::new(Duration::MAX),
            steps: None,
            step: 0,
            is_same_load: false,
            broken: None,
        }
    }

    /// Counts a gap of more than this many frame intervals as a stall.
    fn stalling_after(self, frames: f64) -> Self {
        let stall = self.offer.interval().mul_f64(frames);
        Self { results: StreamResults::new(stall), ..self }
    }

    /// Lets further players read slowly.
    fn with_slow_readers(self, options: SlowOptions) -> Self {
        Self { slow: SlowReaders::new(options), ..self }
    }

    /// Runs the load in these steps.
    fn in_steps(self, steps: Option<Steps>) -> Self {
        Self { steps, ..self }
    }

    /// Runs the load and returns the results.
    ///
    /// # Errors
    /// The server refused or ended something that the measurement depends on.
    fn run(mut self) -> Result<StreamsRun, LoadError> {
        let players = self.players.len() as u32;
        let duration_max = match &self.steps {
            None => self.duration_max(players),
            Some(steps) => steps.duration_max(|players| self.duration_max(players)),
        };
        let plan = self.measurement.plan(duration_max);
        let whole = engine::run(plan, &mut self)?;
        let elapsed = alarm::now().since(whole.began);
        let steps = self.steps.as_mut().filter(|steps| steps.is_any_taken());
        match (self.broken, steps) {
            (Some(error), None) => return Err(error),
            (Some(error), Some(steps)) => steps.end_early(error.to_string()),
            (None, Some(steps)) if whole.was_cut_short() => {
                let reason = whole.overloaded();
                steps.end_early(reason.unwrap_or_else(|| "it was interrupted".to_owned()));
            }
            (None, _) => {}
        }
        self.results.has_ended = self.stage == Stage::Drained;
        let end = whole.end();
        let measured = self.results.in_window.take().unwrap_or(whole).ended_by(end);
        let Self { measurement, results, steps, .. } = self;
        Ok(StreamsRun { measurement, results, measured, steps, elapsed })
    }

    /// Returns the longest time that a run, or a step of it, takes with this many players.
    fn duration_max(&self, players: u32) -> Duration {
        let connections = f64::from(self.offer.publishers) + f64::from(players);
        let opening = Duration::from_secs_f64(connections / self.offer.rate);
        // Publishers, players and keyframes each get the timeout.
        opening + 3 * self.timeout + self.offer.warmup_s + DRAIN + self.duration
    }

    fn open_publisher(&mut self, engine: &mut Engine<Self>, stream: u32, intended: Time) {
        let key = self.routes.publish.key(stream);
        let id = match self.offer.wire {
            OfferWire::Rtmp => {
                let mut config = self.target.client(Purpose::Publish { key });
                config.chunk_size = self.offer.chunk_size;
                engine.open(intended, Speak::Rtmp(config), Side::Publisher(stream))
            }
            OfferWire::Floor => {
                let request = format!("publish {key}");
                open_floor(engine, intended, &request, Side::Publisher(stream))
            }
        };
        self.publishers[stream as usize].id = id;
        let next = stream + 1;
        if next < self.offer.publishers {
            let at = engine.agenda().began() + self.pace.next();
            engine.agenda().at(at, Due::OpenPublisher(next));
        }
    }

    fn open_player(&mut self, engine: &mut Engine<Self>, player: u32, intended: Time) {
        let stream = self.players[player as usize].stream();
        let id = self.open_for_playing(engine, stream, intended, Side::Player(player));
        self.players[player as usize].id = id;
        let next = player + 1;
        if (next as usize) < self.players.len() {
            let at = self.players_from + self.pace.next();
            engine.agenda().at(at, Due::OpenPlayer(next));
        }
    }

    fn open_for_playing(
        &self,
        engine: &mut Engine<Self>,
        stream: u32,
        intended: Time,
        side: Side,
    ) -> Option<ConnectionKey> {
        let route = &self.routes.play;
        match self.offer.wire {
            OfferWire::Rtmp => engine.open(intended, route.player(stream), side),
            OfferWire::Floor => {
                open_floor(engine, intended, &format!("play {}", route.key(stream)), side)
            }
        }
    }

    fn write_frame(
        &mut self,
        engine: &mut Engine<Self>,
        stream: u32,
        medium: Medium,
        intended: Time,
    ) {
        let publisher = &mut self.publishers[stream as usize];
        let Some(connection) = publisher.id.and_then(|id| engine.write(id)) else {
            return self.miss_frame(engine.agenda(), stream, medium, intended);
        };
        let sequence = publisher.progress(medium).sequence;
        if sequence == 0 {
            write(connection, medium, 0, header(medium));
        }
        let time_ms = self.offer.frame_time(medium, sequence).as_millis() as u32;
        let stamp = Stamp { stream, sequence, intended };
        let frame = match medium {
            Medium::Video => {
                let is_keyframe = publisher.phase.is_keyframe(sequence, self.offer.gop_frames());
                self.writer.video(stamp, is_keyframe, self.offer.video_bytes(is_keyframe))
            }
            Medium::Audio => self.writer.audio(stamp, self.offer.audio_bytes()),
        };
        write(connection, medium, time_ms, frame);
        let end = connection.head().sent_bytes + connection.unsent_bytes() as u64;
        publisher.wrote(end, intended, frame.len());
        let progress = publisher.progress(medium);
        if self.window.holds(intended) {
            progress.in_window += 1;
            self.results.sent.intended += 1;
            self.results.over_time.expect(stream, intended.since(engine.agenda().began()));
        }
        progress.sequence += 1;
        let next_at = self.offer.frame_at(publisher.first_at, medium, sequence + 1);
        engine.agenda().at(next_at, Due::Frame(stream, medium));
    }

    /// Counts a frame whose publisher is lost, and goes on with the schedule: the server does not
    /// accept what it no longer lets us publish.
    fn miss_frame(
        &mut self,
        agenda: &mut Agenda<Due>,
        stream: u32,
        medium: Medium,
        intended: Time,
    ) {
        if self.stage >= Stage::Drain {
            return;
        }
        self.results.sent.intended += u64::from(self.window.holds(intended));
        let publisher = &mut self.publishers[stream as usize];
        let progress = publisher.progress(medium);
        progress.sequence += 1;
        let sequence = progress.sequence;
        let next_at = self.offer.frame_at(publisher.first_at, medium, sequence);
        agenda.at(next_at, Due::Frame(stream, medium));
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
                let publisher = &mut self.publishers[stream as usize];
                publisher.first_at = now + publisher.phase.offset;
                agenda.at(publisher.first_at, Due::Frame(stream, Medium::Video));
                if self.offer.has_audio() {
                    agenda.at(publisher.first_at, Due::Frame(stream, Medium::Audio));
                }
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
                    player.state = PlayerState::Playing;
                    self.players_up += 1;
                    self.players_joining -= 1;
                    self.players_waiting += u32::from(player.is_waiting());
                }
            }
            Side::Publisher(_) | Side::SlowReader => {}
        }
        self.advance(agenda);
    }

    /// Moves on to the next phase if its condition is met.
    fn advance(&mut self, agenda: &mut Agenda<Due>) {
        let started = self.publishers_up + self.publishers_gone;
        if self.stage == Stage::Publishers && started == self.offer.publishers {
            if self.slow.options.slow_readers > 0 {
                agenda.at(agenda.now(), Due::OpenSlowReader(0));
                agenda.at(agenda.now() + GRANT_INTERVAL, Due::GrantReading);
            }
            self.join(agenda, 0);
        }
        if self.stage == Stage::Players && self.players_joining == 0 {
            self.stage = Stage::Keyframes;
            agenda.at(agenda.now() + self.timeout, Due::WarmUp(self.step));
        }
        if self.stage == Stage::Keyframes && self.players_waiting == 0 {
            self.warm_up(agenda);
        }
    }

    /// Lets the players from number `first` on join.
    fn join(&mut self, agenda: &mut Agenda<Due>, first: u32) {
        self.stage = Stage::Players;
        self.players_from = agenda.now();
        self.pace.restart(self.players_joining);
        if (first as usize) < self.players.len() {
            agenda.at(self.players_from + self.pace.next(), Due::OpenPlayer(first));
        }
    }

    fn warm_up(&mut self, agenda: &mut Agenda<Due>) {
        if self.stage == Stage::Keyframes {
            self.stage = Stage::WarmUp;
            let time = if self.is_same_load { Duration::ZERO } else { self.offer.warmup_s };
            agenda.at(agenda.now() + time, Due::Begin);
        }
    }

    fn begin(&mut self, engine: &mut Engine<Self>, intended: Time) {
        self.stage = Stage::Measure;
        let no_keyframe = |player: &&Player| player.is_up() && player.awaits == Awaits::Keyframe;
        self.results.players_without_frame = self.players.iter().filter(no_keyframe).count() as u32;
        (self.results.server_before, self.results.machine_before) = self.sample(engine.agenda());
        // The frame intended for this very moment has already been written.
        let from = intended + Duration::from_micros(1);
        self.window = Window { from, until: from + self.duration };
        for player in self.players.iter_mut().filter(|player| player.is_up()) {
            player.is_counted = true;
            self.results.players += 1;
            self.results.over_time.note_counted(player.stream());
        }
        self.results.before_window = Some(engine.restart_measured());
        engine.agenda().at(self.window.until, Due::End);
    }

    fn end(&mut self, engine: &mut Engine<Self>) {
        self.stage = Stage::Drain;
        self.results.in_window = Some(engine.restart_measured());
        self.results.slow = self.slow.take_counts();
        let agenda = engine.agenda();
        (self.results.server_after, self.results.machine_after) = self.sample(agenda);
        self.results.open_for = self.window.until.since(self.window.from);
        for publisher in &self.publishers {
            publisher.end(&self.window, &mut self.results.sent);
        }
        for player in self.players.iter_mut().filter(|player| player.is_counted) {
            player.track(Medium::Video).end(&self.window, &mut self.results.arrivals);
            let publisher = &self.publishers[player.stream() as usize];
            for medium in Medium::ALL {
                *self.results.expected(medium) += publisher.in_window(medium);
            }
            if player.is_up() {
                self.awaited += missing(player, publisher);
            }
        }
        agenda.at(agenda.now() + DRAIN, Due::Drained(self.step));
        self.go_on_when_drained(agenda);
    }

    fn go_on_when_drained(&mut self, agenda: &mut Agenda<Due>) {
        if self.stage == Stage::Drain && self.awaited == 0 {
            self.drained(agenda);
        }
    }

    fn drained(&mut self, agenda: &mut Agenda<Due>) {
        self.stage = Stage::Drained;
        match self.steps {
            Some(_) => agenda.at(agenda.now(), Due::NextStep),
            None => agenda.stop(),
        }
    }

    fn receive(
        &mut self,
        agenda: &mut Agenda<Due>,
        number: u32,
        head: &ConnectionHead,
        medium: Medium,
        payload: &[u8],
    ) {
        let judged = judge(medium, payload);
        if judged == Judged::Header {
            return;
        }
        let (now, since_began) = (agenda.now(), agenda.now().since(agenda.began()));
        let player = &mut self.players[number as usize];
        let arrival = Arrival { judged, bytes: payload.len(), now, since_began };
        let arrivals = self.results.arrivals(medium);
        let is_new = player.track(medium).receive(&arrival, &self.window, arrivals);
        self.results.over_time.note_bytes(payload.len() as u64);
        if let Some(intended) = judged.intended().filter(|_| is_new && player.is_counted) {
            self.results.over_time.receive(intended.since(agenda.began()));
        }
        let is_awaited = is_new && self.stage == Stage::Drain && player.is_counted;
        if player.awaits.ends_with(&judged) {
            self.players_waiting -= u32::from(player.is_up());
            if mem::replace(&mut player.awaits, Awaits::Nothing) == Awaits::Keyframe {
                let (took, after_play) = (now.since(head.intended), now.since(player.play_at));
                self.results.note_first_frame(since_began, took, after_play);
            }
            self.advance(agenda);
        }
        if is_awaited {
            self.awaited = self.awaited.saturating_sub(1);
            self.go_on_when_drained(agenda);
        }
    }

    fn player_gone(&mut self, agenda: &mut Agenda<Due>, number: u32, ended: &Ended) {
        let player = &mut self.players[number as usize];
        let stream = player.stream();
        self.players_waiting -= u32::from(player.is_waiting());
        match mem::replace(&mut player.state, PlayerState::Gone) {
            PlayerState::Gone => return,
            PlayerState::Joining => self.players_joining -= 1,
            PlayerState::Playing => {
                self.players_up -= 1;
                if self.stage == Stage::Drain && player.is_counted {
                    let missing = missing(player, &self.publishers[stream as usize]);
                    self.awaited = self.awaited.saturating_sub(missing);
                }
            }
        }
        *self.results.players_failed.entry(ended.reason.kind()).or_default() += 1;
        self.players_failed += 1;
        if self.players_up + self.players_joining == 0 && self.step == 0 {
            let what = format!("play {}", self.routes.play.shown(stream));
            let address = self.routes.play.address();
            return self.lose(agenda, address, what, ended);
        }
        self.go_on_when_drained(agenda);
        self.advance(agenda);
    }

    /// Counts a lost publisher. The others go on, unless further steps would wait for its frames.
    fn publisher_gone(&mut self, agenda: &mut Agenda<Due>, stream: u32, ended: &Ended) {
        *self.results.publishers_failed.entry(ended.reason.kind()).or_default() += 1;
        self.publishers_gone += 1;
        self.publishers_up -= u32::from(ended.head.is_settled());
        if self.publishers_gone == self.offer.publishers || self.steps.is_some() {
            let what = format!("publish {}", self.routes.publish.shown(stream));
            return self.lose(agenda, self.target.address, what, ended);
        }
        self.advance(agenda);
    }

    /// Ends the run, because a connection that it depends on is lost, or all of a kind. What the
    /// only window has until now is reported, and so are the steps that are over.
    fn lose(&mut self, agenda: &mut Agenda<Due>, address: SocketAddr, what: String, ended: &Ended) {
        let answer = ended.answer(self.timeout);
        let after = ended.at.since(agenda.began());
        let error = match ended.head.is_settled() {
            false => LoadError::Refused { address, what, answer },
            true => LoadError::BrokenOff { address, what, answer, after },
        };
        if self.stage < Stage::Measure || self.steps.is_some() {
            self.broken.get_or_insert(error);
            return agenda.stop();
        }
        self.results.lost.get_or_insert_with(|| error.to_string());
        match self.stage {
            Stage::Measure => {
                self.window.until = agenda.now();
                agenda.at(agenda.now(), Due::End);
            }
            // Frames in flight may still arrive.
            _ => self.go_on_when_drained(agenda),
        }
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
        let at = engine.agenda().began() + self.pace.next();
        engine.agenda().at(at, Due::OpenPublisher(0));
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::OpenPublisher(stream) => self.open_publisher(engine, stream, intended),
            Due::OpenPlayer(player) => self.open_player(engine, player, intended),
            Due::OpenSlowReader(number) => self.open_slow_reader(engine, number, intended),
            Due::GrantReading => {
                self.slow.grant(engine);
                engine.agenda().at(intended + GRANT_INTERVAL, Due::GrantReading);
            }
            Due::Frame(stream, medium) => self.write_frame(engine, stream, medium, intended),
            Due::WarmUp(step) if step == self.step => self.warm_up(engine.agenda()),
            Due::Begin => self.begin(engine, intended),
            // A window that was cut short has ended already when its planned end is due.
            Due::End if self.stage == Stage::Measure => self.end(engine),
            Due::Drained(step) if step == self.step && self.stage == Stage::Drain => {
                self.drained(engine.agenda());
            }
            Due::NextStep => self.next_step(engine),
            Due::WarmUp(_) | Due::Drained(_) | Due::End => {}
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
            (Side::SlowReader, event) => {
                let in_window = self.window.holds(agenda.now());
                self.slow.event(head, &event, in_window);
            }
            (side, ConnectionEvent::Reached { phase, .. }) => {
                self.reached(agenda, side, head, phase)
            }
            (Side::Player(number), ConnectionEvent::Media(message)) => {
                if let Some(medium) = Medium::of_message(message.header.kind) {
                    self.receive(agenda, number, head, medium, message.payload);
                }
            }
            (Side::Player(number), ConnectionEvent::Frame(payload)) => {
                self.receive(agenda, number, head, Medium::of_frame(payload), payload);
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
            Side::SlowReader => self.slow.closed(&ended),
        }
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let at = agenda.now().since(agenda.began());
        let gone = self.players_failed + self.publishers_gone;
        self.results.over_time.sample(at, self.players_up, gone);
        let bytes: u64 = self.publishers.iter().map(Publisher::unacknowledged_bytes).sum();
        self.results.unacknowledged.push(at.as_secs_f64(), bytes as f64);
        // In the drain the window is over, and its last frames are awaited for two seconds at most.
        let is_measuring = self.stage < Stage::Drain;
        if is_measuring && self.measurement.is_beyond_repair(&self.results.growing()) {
            agenda.stop();
        }
        self.measurement.sample_soon(at)
    }

    fn progress(&self) -> String {
        let stage = match self.stage {
            Stage::Publishers => "publishers start",
            Stage::Players => "players join",
            Stage::Keyframes => "players wait for a frame",
            Stage::WarmUp => "warming up",
            Stage::Measure => "measuring",
            Stage::Drain | Stage::Drained => "waiting for frames in flight",
        };
        let (publishers, players) = (self.publishers_up, self.players_up);
        let frames = self.results.arrivals.frames;
        let step = match self.steps {
            Some(_) => format!("step {}, ", self.step + 1),
            None => String::new(),
        };
        format!(
            "{step}{stage}: {publishers} publishers, {players} players, {frames} frames received"
        )
    }
}

fn write(connection: &mut Connection<Side>, medium: Medium, time_ms: u32, payload: &[u8]) {
    match (connection.client(), medium) {
        (Some(client), Medium::Video) => client.write_video(time_ms, payload),
        (Some(client), Medium::Audio) => client.write_audio(time_ms, payload),
        (None, _) => connection.write_frame(payload),
    }
}

/// Opens a connection to `tiderace load floor` that begins with `request`.
fn open_floor(
    engine: &mut Engine<Streams<'_>>,
    intended: Time,
    request: &str,
    side: Side,
) -> Option<ConnectionKey> {
    let id = engine.open(intended, Speak::Frames, side)?;
    engine.write(id)?.write_frame(request.as_bytes());
    Some(id)
}

/// Returns the decoder configuration of a medium.
const fn header(medium: Medium) -> &'static [u8] {
    match medium {
        Medium::Video => &SEQUENCE_HEADER,
        Medium::Audio => &AUDIO_HEADER,
    }
}

/// Returns the frames of the window that a player has not received.
fn missing(player: &Player, publisher: &Publisher) -> u64 {
    let missing =
        Medium::ALL.map(|medium| publisher.in_window(medium).saturating_sub(player.frames(medium)));
    missing.into_iter().sum()
}
