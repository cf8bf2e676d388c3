//! The real server on a simulated machine. Publishers come, go and are displaced. Players stall and
//! recover. Connections are reset, half-closed or hostile. System calls fail in every possible way,
//! descriptors and memory run out, and time passes. After each turn a shadow model checks what
//! every player may and must have received.
//!
//! Half of the seeds are fixed, and the others are drawn at random. A failure prints the command
//! that repeats its seed, and the last steps of that run. `TIDERACE_SEEDS` sets the number of fixed
//! seeds.

mod hls_client;
mod host;
mod ledger;
mod media;
mod model;
mod web_reader;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::iter;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tiderace::config::{Duplicate, Settings, Start};
use tiderace::limits::{self, KIB, MIB};
use tiderace::server::judge::{JudgedCommand, OutsideJudge, Question, Refused};
use tiderace::server::memory::MemoryLevel;
use tiderace::server::peer::Protocol;
use tiderace::server::reason::CloseReason;
use tiderace::server::web::Surface;
use tiderace::time::Time;

use self::hls_client::{HlsClient, Told};
use self::host::Host;
use self::media::Kind;
use self::model::{ClientId, Model, Said, Tally, TurnEnd};
use self::web_reader::{Heard, WebReader};
use crate::faults::{Counts, Fault, Sabotage};
use crate::random::{Random, fresh_seed};
use crate::socket::Seen;
use crate::wire::{self, Message};

/// Number of fixed and of random seeds. The fixed seeds guard against known faults. The random ones
/// find new faults, since each run draws others.
const SEEDS: u64 = 150;
const FRESH_SEEDS: u64 = 150;
/// Number of steps shown after a failure.
const SHOWN_STEPS: u32 = 50;
const STEPS: usize = 2000;
const STREAMS: usize = 3;
const CLIENTS_MAX: usize = 18;
/// Number of steps after which the simulation comes to rest, and players are checked for
/// completeness.
const STEPS_TO_REST: usize = 16;
/// User control events (RTMP 1.0, section 7.1.7).
const PING_REQUEST: u8 = 6;
const PING_RESPONSE: u8 = 7;
const SITE: Protocol = Protocol::Http(Surface { playback: true, status: true, is_local: true });
/// What programs ask for, and the status of the answer.
const PATHS: [(&str, u16); 5] = [
    ("/healthz", 200),
    ("/nowhere", 404),
    ("/metrics", 200),
    ("/api/v1/connections?limit=3", 200),
    ("/api/v1/streams", 200),
];
/// Bytes that are no request, and the status of the answer.
const GARBAGE: [(&str, u16); 4] = [
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
    ("\u{3}\u{0}\u{0}", 400),
    ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
];
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
/// Upper bound of turns before the server must come to rest.
const TURNS_MAX: usize = 100_000;

#[test]
fn players_get_what_they_must_and_nothing_else_whatever_happens() {
    let number = |name| env::var(name).ok().map(|seed| seed.parse().expect("a number"));
    if let Some(seed) = number("TIDERACE_SEED") {
        return println!("{:?}", run_seeds(iter::once(seed)).0);
    }
    let all: Vec<u64> = match number("TIDERACE_SEEDS") {
        Some(seeds) => (0..seeds).collect(),
        None => (0..SEEDS).chain((0..FRESH_SEEDS).map(|_| fresh_seed())).collect(),
    };
    let seeds = all.len() as u64;
    let (mut seen, mut struck) = (Outcome::default(), Fault::ALL.map(|fault| (fault, 0)));
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    // Simulations share nothing, so each processor runs its own.
    thread::scope(|scope| {
        let all = &all;
        let share = move |first| all[first..].iter().copied().step_by(workers);
        let run = |first| scope.spawn(move || run_seeds(share(first)));
        let running: Vec<_> = (0..workers).map(run).collect();
        for worker in running {
            let (outcome, counts) = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
            seen.add(&outcome);
            struck.iter_mut().zip(counts).for_each(|((_, sum), count)| *sum += count);
        }
    });
    println!("{seeds} seeds of {STEPS} steps: {seen:?}; faults {struck:?}");
    // A simulation in which nothing happens proves nothing.
    seen.assert_lively(seeds);
    for (fault, count) in struck {
        assert!(count * 10 >= seeds, "{fault:?} struck only {count} times");
    }
}

/// Runs simulations one after another. Returns their outcomes and the number of each fault.
fn run_seeds(seeds: impl Iterator<Item = u64>) -> (Outcome, [u64; Fault::ALL.len()]) {
    let (mut seen, counts) = (Outcome::default(), Counts::default());
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| Simulation::new(seed, &counts, None).run())) {
            Ok(outcome) => seen.add(&outcome),
            Err(panic) => {
                show_failure(seed);
                resume_unwind(panic);
            }
        }
    }
    let counts = *counts.borrow();
    (seen, counts)
}

/// Prints how to repeat a failure, and the steps before it. Runs the seed again, because only this
/// run records its steps.
fn show_failure(seed: u64) {
    eprintln!(
        "to repeat it: TIDERACE_SEED={seed} cargo test --test suite simulation::players_get -- \
         --nocapture"
    );
    let trace = Trace::default();
    let mut simulation = Simulation::new(seed, &Counts::default(), None);
    simulation.trace = Some(Rc::clone(&trace));
    let Settings { limits, play, publish, timeouts, .. } = &simulation.model.settings;
    eprintln!("settings: {limits:?}, {play:?}, {publish:?}, {timeouts:?}");
    // The run fails as it did the first time.
    drop(catch_unwind(AssertUnwindSafe(|| simulation.run())));
    let trace = trace.borrow();
    let first = trace.back().map_or(0, |(step, _)| step.saturating_sub(SHOWN_STEPS - 1));
    for (step, what) in trace.iter().filter(|(step, _)| *step >= first) {
        eprintln!("step {step}: {what}");
    }
}

/// The recorded steps of a run.
type Trace = Rc<RefCell<VecDeque<(u32, String)>>>;
/// Maximum number of recorded lines, enough for the steps that are shown.
const TRACE_LINES_MAX: usize = 5000;

/// Tests the checks of the simulation itself.
#[test]
fn a_transport_that_loses_or_doubles_a_byte_or_swallows_an_event_is_detected() {
    for sabotage in
        [Sabotage::LosesByte(5000), Sabotage::DoublesByte(5000), Sabotage::SwallowsEvent(4)]
    {
        for seed in 0..5 {
            let run = || Simulation::new(seed, &Counts::default(), Some(sabotage.clone())).run();
            let outcome = catch_unwind(AssertUnwindSafe(run));
            assert!(outcome.is_err(), "{sabotage:?} went unnoticed with seed {seed}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..3 {
        let run = || {
            let counts = Counts::default();
            let outcome = Simulation::new(seed, &counts, None).run();
            (format!("{outcome:?}"), *counts.borrow())
        };
        assert_eq!(run(), run());
    }
}

/// Results of one run or of all runs.
#[derive(Debug, Default)]
struct Outcome {
    tally: Tally,
    turns: u64,
    given_up: u64,
}

impl Outcome {
    fn add(&mut self, outcome: &Self) {
        self.tally.messages += outcome.tally.messages;
        self.tally.gaps += outcome.tally.gaps;
        self.tally.publishes += outcome.tally.publishes;
        self.tally.refused += outcome.tally.refused;
        self.tally.displaced += outcome.tally.displaced;
        self.tally.overs += outcome.tally.overs;
        self.tally.views += outcome.tally.views;
        self.tally.mp4_views += outcome.tally.mp4_views;
        self.tally.changes += outcome.tally.changes;
        self.tally.parts += outcome.tally.parts;
        self.tally.awaited += outcome.tally.awaited;
        self.tally.segments += outcome.tally.segments;
        self.tally.breaks += outcome.tally.breaks;
        self.tally.answers += outcome.tally.answers;
        self.tally.granted += outcome.tally.granted;
        self.tally.denied += outcome.tally.denied;
        self.tally.undecided += outcome.tally.undecided;
        self.turns += outcome.turns;
        self.given_up += outcome.given_up;
    }

    fn assert_lively(&self, seeds: u64) {
        let Tally { messages, gaps, publishes, refused, displaced, overs, .. } = self.tally;
        let Tally { granted, denied, undecided, views, answers, .. } = self.tally;
        let Tally { mp4_views, changes, parts, awaited, segments, breaks, .. } = self.tally;
        for (what, count, least) in [
            ("messages that arrived", messages, 1000 * seeds),
            ("gaps", gaps, seeds / 10),
            ("publishes", publishes, 10 * seeds),
            ("refused publishes", refused, seeds / 10),
            ("displaced publishers", displaced, seeds / 10),
            ("streams that were over", overs, seeds),
            ("streams over HTTP", views, seeds),
            ("streams as MP4", mp4_views, seeds / 2),
            ("MP4s that ended or began again with another configuration", changes, seeds / 10),
            ("whole responses", answers, 10 * seeds),
            ("parts that were fetched", parts, 5 * seeds),
            ("playlists and parts that were waited for", awaited, seeds),
            ("segments that were fetched", segments, seeds / 4),
            ("parts after a break", breaks, seeds / 10),
            ("requests that a judge granted", granted, 10 * seeds),
            ("requests that a judge refused", denied, seeds),
            ("requests that a judge did not decide in time", undecided, seeds),
            ("connections closed for lack of memory", self.given_up, seeds / 4),
        ] {
            assert!(count >= least, "{count} {what}, expected at least {least}");
        }
    }
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    All,
    /// A little now and then.
    Slow,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    Nothing,
    Publish(usize),
    Play,
}

/// The client's end of a connection.
struct Client {
    reading: Reading,
    intent: Intent,
    outbox: Vec<u8>,
    /// Messages of the client, each with the number of bytes sent up to its end.
    script: VecDeque<(u64, Said)>,
    said_bytes: u64,
    /// Bytes that the server has read.
    heard_bytes: u64,
    reader: wire::Reader,
    clock: u32,
    /// Bytes published since the last keyframe.
    gop_bytes: usize,
    /// The client sends nothing more.
    is_done: bool,
    /// `None` for a client of RTMP.
    web: Option<Web>,
}

/// The client's end of HTTP.
#[derive(Debug, Default)]
struct Web {
    is_player: bool,
    reader: WebReader,
    /// The statuses of the responses that are still to come.
    statuses: VecDeque<u16>,
    /// Payload of the newest ping, until it is answered.
    pinged: Option<[u8; 4]>,
    /// What a player of HLS knows.
    hls: Option<Box<HlsClient>>,
}

impl Client {
    fn say(&mut self, message: &Message, said: Option<Said>) {
        self.say_bytes(&message.chunks());
        if let Some(said) = said {
            self.script.push_back((self.said_bytes, said));
        }
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        self.outbox.extend(bytes);
        self.said_bytes += bytes.len() as u64;
    }
}

/// A request that waits for a judge.
#[derive(Clone, Copy, Debug)]
struct Asking {
    said: Said,
    /// When the request times out and the server refuses it.
    until: Time,
}

/// A decision that the judge will make, and when.
#[derive(Debug)]
struct Ruling {
    at: Time,
    client: ClientId,
    question: Question,
    grants: bool,
}

/// A judge outside the server, whose decisions take any time.
#[derive(Debug)]
struct Judge {
    commands: Vec<JudgedCommand>,
    random: Random,
    rulings: Vec<Ruling>,
    asking: BTreeMap<ClientId, Asking>,
}

impl Judge {
    /// Creates the judge for a seed. For a third of the seeds it decides nothing.
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0007_06e5);
        let sets: [&[JudgedCommand]; 6] = [
            &[],
            &[],
            &[JudgedCommand::Publish],
            &[JudgedCommand::Play],
            &[JudgedCommand::Publish, JudgedCommand::Play],
            &[JudgedCommand::Connect, JudgedCommand::Publish, JudgedCommand::Play],
        ];
        let commands = sets[random.below(sets.len())].to_vec();
        Self { commands, random, rulings: Vec::new(), asking: BTreeMap::new() }
    }

    fn decides(&self, said: Said) -> bool {
        let command = match said {
            Said::Connect => JudgedCommand::Connect,
            Said::Publish(_) => JudgedCommand::Publish,
            Said::Play(_) | Said::View { .. } | Said::Playlist => JudgedCommand::Play,
            _ => return false,
        };
        self.commands.contains(&command)
    }

    /// Takes a question. The decision often takes no time, and sometimes too much.
    fn ask(&mut self, client: ClientId, question: Question, now: Time) {
        let wait_ms = [0, 0, 1, 50, 1000, 4000, 5000, 9000][self.random.below(8)];
        let grants = !self.random.one_in(6);
        self.rulings.push(Ruling { at: now.plus_millis(wait_ms), client, question, grants });
    }

    fn next_ruling(&mut self, now: Time) -> Option<Ruling> {
        let index = self.rulings.iter().position(|ruling| ruling.at <= now)?;
        Some(self.rulings.remove(index))
    }
}

struct Simulation {
    step: u32,
    trace: Option<Trace>,
    host: Host,
    model: Model,
    judge: Judge,
    random: Random,
    clients: BTreeMap<ClientId, Client>,
    socket_bytes: usize,
    /// Publishers rarely change their configurations if this is large.
    calm: usize,
    /// Number of messages numbered so far.
    numbers: u32,
    turns: u64,
    /// Connections that the server has closed for lack of memory.
    given_up: u64,
}

fn settings(random: &mut Random) -> Settings {
    let mut settings = Settings::default();
    settings.limits.tape_bytes_max = MIB;
    settings.limits.connections_max = [0, 8, 12][random.below(3)];
    settings.limits.memory_bytes_max = [0, 0, 500 * KIB, MIB][random.below(4)];
    settings.limits.socket_unsent_bytes_max = 32 * KIB;
    settings.play.lag_bytes = MIB;
    settings.play.lag_ms = [1000, 5000][random.below(2)];
    settings.play.merge_ms = [0, 0, 100][random.below(3)];
    settings.play.skips_max = [2, 10, 1000][random.below(3)];
    settings.play.start = [Start::Keyframe, Start::NextKeyframe][random.below(2)];
    settings.publish.linger_ms = [0, 1000, 15_000][random.below(3)];
    settings.publish.duplicate =
        [Duplicate::Reject, Duplicate::Replace, Duplicate::ReplaceIfSilent][random.below(3)];
    settings.rtmp.chunk_size = [128, 4096, 60_000][random.below(3)];
    settings.timeouts.ping_ms = [0, 5000][random.below(2)];
    settings
}

impl Simulation {
    fn new(seed: u64, counts: &Counts, sabotage: Option<Sabotage>) -> Self {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let counts = Some(counts).filter(|_| !random.one_in(4) && sabotage.is_none());
        let descriptors_max = [6, 10, 1000][random.below(3)];
        let judge = Judge::new(seed);
        let mut host = Host::new(settings.clone(), descriptors_max, seed, counts, sabotage);
        if !judge.commands.is_empty() {
            host.server.set_judge(Some(OutsideJudge::new(&judge.commands)));
        }
        Self {
            step: 0,
            trace: None,
            host,
            model: Model::new(settings, STREAMS),
            judge,
            socket_bytes: [4 * KIB, 16 * KIB, 64 * KIB][random.below(3)],
            calm: [1, 1, 30][random.below(3)],
            random,
            clients: BTreeMap::new(),
            numbers: 0,
            turns: 0,
            given_up: 0,
        }
    }

    fn run(mut self) -> Outcome {
        for step in 1..=STEPS {
            self.step = step as u32;
            self.act();
            self.host.now = self.host.now + Duration::from_micros(self.random.below(2000) as u64);
            self.exchange(false);
            self.turn(false);
            if step % STEPS_TO_REST == 0 {
                self.settle();
                self.check_at_rest();
            }
        }
        self.wind_up();
        let Self { turns, given_up, .. } = self;
        Outcome { tally: self.model.tally, turns, given_up }
    }

    /// Records a step, if the run is traced.
    fn note(&self, what: impl FnOnce() -> String) {
        note_to(self.trace.as_ref(), self.step, what);
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..3 => self.sleeper(),
            3..8 => self.publisher(),
            8..14 => self.player(),
            14..74 => self.media(),
            74..77 => self.web_request(),
            77..80 => self.reload_playlists(),
            80..90 => self.read_a_little(),
            90..93 => self.pass_time(),
            93..95 => self.one_client_leaves(),
            95 => self.one_publisher_stops(),
            96..98 => self.hostile_bytes(),
            98 if self.random.one_in(3) => self.reload(),
            _ => {}
        }
    }

    /// Opens a client that completes the handshake, connects, creates a stream and requests
    /// `intent`.
    fn open(&mut self, reading: Reading, intent: Intent) -> Option<ClientId> {
        let id = self.connect(reading, intent, Protocol::Rtmp)?;
        let client = self.client(id);
        client.say_bytes(&wire::handshake());
        client.say(&wire::connect("live"), Some(Said::Connect));
        client.say(&wire::create_stream(2.0), None);
        Some(id)
    }

    fn connect(
        &mut self,
        reading: Reading,
        intent: Intent,
        protocol: Protocol,
    ) -> Option<ClientId> {
        if self.clients.len() >= CLIENTS_MAX {
            return None;
        }
        let socket_bytes = match reading {
            Reading::All => self.socket_bytes,
            _ => [KIB, 4 * KIB][self.random.below(2)],
        };
        let id = self.host.connect(socket_bytes, protocol);
        self.note(|| format!("client {id} connects: {intent:?}, reads {reading:?}, {protocol:?}"));
        let now_ms = self.now_ms();
        self.model.connected(id, reading == Reading::All, now_ms);
        let client = Client {
            reading,
            intent,
            outbox: Vec::new(),
            script: VecDeque::new(),
            said_bytes: 0,
            heard_bytes: 0,
            reader: wire::Reader::behind_handshake(),
            clock: [0, 90_000, u32::MAX - 3000, 1 << 31][self.random.below(4)],
            gop_bytes: 0,
            is_done: false,
            web: (protocol == SITE).then(Web::default),
        };
        self.clients.insert(id, client);
        Some(id)
    }

    fn client(&mut self, id: ClientId) -> &mut Client {
        self.clients.get_mut(&id).expect("a known client")
    }

    /// Opens a client that requests nothing, or has not even completed its handshake.
    fn sleeper(&mut self) {
        if self.random.one_in(2) {
            let reading = if self.random.one_in(6) { Reading::Slow } else { Reading::All };
            self.connect(reading, Intent::Nothing, SITE);
            return;
        }
        let Some(id) = self.open(Reading::All, Intent::Nothing) else { return };
        if self.random.one_in(2) {
            let said = self.random.below(3500);
            let client = self.client(id);
            client.outbox.truncate(said);
            client.is_done = true;
        }
    }

    fn publisher(&mut self) {
        let stream = self.random.below(STREAMS);
        let reading = if self.random.one_in(4) { Reading::Nothing } else { Reading::All };
        self.publish(stream, reading);
    }

    fn publish(&mut self, stream: usize, reading: Reading) -> Option<ClientId> {
        let id = self.open(reading, Intent::Publish(stream))?;
        self.client(id).say(&wire::publish(key(stream)), Some(Said::Publish(stream)));
        self.say_media(id, Kind::VideoConfiguration);
        self.say_media(id, Kind::AudioConfiguration);
        Some(id)
    }

    fn player(&mut self) {
        let stream = self.random.below(STREAMS);
        let reading = match self.random.below(6) {
            0 => Reading::Nothing,
            1 => Reading::Slow,
            _ => Reading::All,
        };
        match self.random.below(12) {
            4 | 5 => self.hls(stream),
            0 => self.view(stream, reading, "", "flv"),
            1 => self.view(stream, reading, UPGRADE, "flv"),
            2 => self.view(stream, reading, "", "mp4"),
            3 => self.view(stream, reading, UPGRADE, "mp4"),
            _ => self.play(stream, reading),
        }
    }

    /// Opens a player over HTTP, or over WebSocket with the fields of an upgrade.
    fn view(&mut self, stream: usize, reading: Reading, fields: &str, ending: &str) {
        let Some(id) = self.connect(reading, Intent::Play, SITE) else { return };
        let path = format!("/live/{}.{ending}", key(stream));
        let is_mp4 = ending == "mp4";
        let client = self.client(id);
        client.say_bytes(&request(&path, fields));
        let said = Said::View { stream, is_mp4, may_begin_again: is_mp4 && !fields.is_empty() };
        client.script.push_back((client.said_bytes, said));
        let reader = if is_mp4 { WebReader::of_mp4() } else { WebReader::default() };
        client.web = Some(Web { is_player: true, reader, ..Web::default() });
    }

    /// Opens a player of HLS.
    fn hls(&mut self, stream: usize) {
        let Some(id) = self.connect(Reading::All, Intent::Nothing, SITE) else { return };
        let hls = HlsClient::new(stream, !self.random.one_in(3));
        self.client(id).web = Some(Web { hls: Some(Box::new(hls)), ..Web::default() });
        self.reload_playlist(id);
    }

    /// Has all players of HLS that wait for nothing reload their playlists.
    fn reload_playlists(&mut self) {
        let is_hls = |client: &Client| client.web.as_ref().is_some_and(|web| web.hls.is_some());
        let asking = self.clients.iter().filter(|(_, client)| is_hls(client) && !client.is_done);
        let asking: Vec<_> = asking.map(|(id, _)| *id).collect();
        asking.into_iter().for_each(|id| self.reload_playlist(id));
    }

    /// Has a player of HLS ask for its playlist, or for the part that comes next.
    fn reload_playlist(&mut self, id: ClientId) {
        let client = self.clients.get_mut(&id).expect("a known client");
        let hls = client.web.as_mut().and_then(|web| web.hls.as_mut());
        let Some(hls) = hls.filter(|hls| hls.is_idle()) else { return };
        let (path, is_judged) = hls.reload(&mut self.random);
        let target = format!("/live/{}/{path}", key(hls.stream));
        client.say_bytes(&request(&target, ""));
        if is_judged {
            client.script.push_back((client.said_bytes, Said::Playlist));
        }
        self.note(|| format!("client {id} asks for {path}"));
    }

    /// Reads the responses to a player of HLS, which fetches what they list.
    fn receive_hls(&mut self, id: ClientId, bytes: &[u8]) {
        let client = self.clients.get_mut(&id).expect("a known client");
        let Some(hls) = client.web.as_mut().and_then(|web| web.hls.as_mut()) else { return };
        let (stream, rendition) = (hls.stream, hls.rendition());
        let told = hls.read(bytes);
        for (status, told) in told {
            self.note(|| format!("client {id} gets {status}"));
            match told {
                Some(Told::Part(fetched)) => self.model.fetched(id, stream, &fetched),
                Some(Told::Missing(run, (msn, part))) => {
                    let name = format!("live/{}", key(stream));
                    let channel = self.host.server.hub().find(&name);
                    let log = channel.and_then(|channel| channel.parts());
                    let log = log.filter(|log| log.incarnation().to_string() == run);
                    let segment = log.and_then(|log| log.rendition(rendition)?.segment(msn));
                    let is_there = segment.is_some_and(|(segment, _)| segment.parts.len() > part);
                    assert!(!is_there, "client {id}: part {part} of {msn} is there");
                }
                Some(Told::Awaited) => self.model.tally.awaited += 1,
                Some(Told::Segment) => self.model.tally.segments += 1,
                None => {}
            }
        }
        let client = self.clients.get_mut(&id).expect("a known client");
        let Some(hls) = client.web.as_mut().and_then(|web| web.hls.as_mut()) else { return };
        if !client.is_done
            && let Some(path) = hls.next_file()
        {
            client.say_bytes(&request(&format!("/live/{}/{path}", key(stream)), ""));
            self.note(|| format!("client {id} fetches {path}"));
        }
    }

    /// Has a program send requests, of which some are garbage, or a WebSocket player a ping.
    fn web_request(&mut self) {
        let Some(id) = self.pick(|client| client.web.is_some() && !client.is_done) else { return };
        if self.client(id).web.as_ref().is_some_and(|web| web.hls.is_some()) {
            return self.reload_playlist(id);
        }
        self.numbers += 1;
        let number = self.numbers.to_be_bytes();
        let requests: Vec<_> =
            (0..=self.random.below(3)).map(|_| PATHS[self.random.below(PATHS.len())]).collect();
        let garbage = GARBAGE[self.random.below(GARBAGE.len())];
        let is_garbage = self.random.one_in(8);
        let client = self.client(id);
        let Some(web) = &mut client.web else { return };
        if web.is_player {
            if web.reader.is_websocket() {
                web.pinged = Some(number);
                client.say_bytes(&[&[0x89, 0x84, 0, 0, 0, 0], &number[..]].concat());
            }
            return;
        }
        web.statuses.extend(requests.iter().map(|(_, status)| status));
        requests.iter().for_each(|(path, _)| client.say_bytes(&request(path, "")));
        if is_garbage {
            let web = client.web.as_mut();
            web.into_iter().for_each(|web| web.statuses.push_back(garbage.1));
            client.say_bytes(garbage.0.as_bytes());
            client.is_done = true;
            self.model.turns_wild(id);
        }
        self.note(|| format!("client {id} asks for {requests:?}, garbage: {is_garbage}"));
    }

    fn play(&mut self, stream: usize, reading: Reading) {
        let Some(id) = self.open(reading, Intent::Play) else { return };
        self.client(id).say(&wire::play(key(stream)), Some(Said::Play(stream)));
    }

    /// Sends a few messages of one publisher. Some of them change the configuration.
    fn media(&mut self) {
        let publishes = |client: &Client| matches!(client.intent, Intent::Publish(_));
        let Some(id) = self.pick(|client| publishes(client) && !client.is_done) else { return };
        for _ in 0..1 + self.random.below(8) {
            let kind = match self.random.below(40) {
                0 | 1 if !self.random.one_in(self.calm) => Kind::Audio,
                0 => Kind::VideoConfiguration,
                1 => Kind::AudioConfiguration,
                2..5 => Kind::Key,
                5..22 => Kind::Inter,
                _ => Kind::Audio,
            };
            let is_long = self.client(id).gop_bytes > 100 * KIB;
            self.say_media(id, if is_long && kind == Kind::Inter { Kind::Key } else { kind });
            if kind == Kind::VideoConfiguration {
                // A new configuration is followed by a GOP that uses it.
                self.say_media(id, Kind::Key);
            }
        }
    }

    fn say_media(&mut self, id: ClientId, kind: Kind) {
        let number = self.numbers;
        self.numbers += 1;
        // Now and then a timestamp is invalid.
        let (odd, step) = (self.random.below(200), self.random.below(1 << 32) as u32);
        let filled = [0, 100, 400, 2000][self.random.below(4)];
        let client = self.client(id);
        client.clock = match odd {
            0 => client.clock.wrapping_sub(1 + step % 3000),
            1 => step,
            2 => client.clock ^ 1 << 31,
            // Each picture is one message, so no two have the same timestamp.
            _ => client.clock.wrapping_add(1 + step % 29),
        };
        let clock = client.clock;
        let message = media::message(kind, number, clock, filled);
        client.gop_bytes = if kind == Kind::Key { 0 } else { client.gop_bytes + filled };
        client.say(&message, Some(Said::Media(kind, number, clock)));
        self.note(|| format!("client {id} says {kind:?} {number} at {clock}, {filled} bytes"));
    }

    fn read_a_little(&mut self) {
        let count = [1, 100, 5000, 5000][self.random.below(4)];
        let slow = |client: &Client| client.reading == Reading::Slow;
        if let Some(id) = self.pick(slow) {
            self.receive(id, count);
        }
    }

    /// Lets time pass for all clients. Nothing is in flight then, so a client that reads does not
    /// lag.
    fn pass_time(&mut self) {
        let millis = [40, 300, 300, 1000, 1000, 3000, 12_000, 31_000][self.random.below(8)];
        self.settle();
        self.note(|| format!("{millis} ms pass"));
        self.advance(millis);
    }

    fn one_client_leaves(&mut self) {
        let Some(id) = self.pick(|_| true) else { return };
        let how = self.random.below(3);
        self.note(|| format!("client {id} {}", ["resets", "ends", "leaves"][how]));
        let link = &self.host.sockets[&id];
        match how {
            0 => {
                link.borrow_mut().reset();
                self.client(id).outbox.clear();
            }
            // Ends its sending direction and drops its unsent bytes.
            1 => {
                link.borrow_mut().finish();
                self.client(id).outbox.clear();
            }
            // Sends all its bytes first.
            _ => self.client(id).intent = Intent::Nothing,
        }
        self.client(id).is_done = true;
    }

    fn one_publisher_stops(&mut self) {
        let publishes = |client: &Client| matches!(client.intent, Intent::Publish(_));
        let Some(id) = self.pick(|client| publishes(client) && !client.is_done) else { return };
        let stop = wire::command("deleteStream", 0.0, &[wire::null(), wire::number(1.0)]);
        self.note(|| format!("client {id} stops publishing"));
        let client = self.client(id);
        client.intent = Intent::Nothing;
        client.say(&stop, Some(Said::Unpublish));
    }

    /// Sends garbage. A publisher sends garbage that certainly ends it, because other garbage could
    /// turn into a message together with earlier bytes.
    fn hostile_bytes(&mut self) {
        let Some(id) = self.pick(|client| !client.is_done && client.web.is_none()) else { return };
        self.model.turns_wild(id);
        let publishes = matches!(self.client(id).intent, Intent::Publish(_));
        let nonsense: &[u8] = match self.random.below(4) {
            // A continuation chunk without a first chunk.
            0 => &[0xc0 | 40],
            // A message of 16 MiB.
            1 => &[41, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0],
            // An invalid chunk size.
            2 => &[2, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 9],
            _ if publishes => &[0xff],
            _ => &[],
        };
        let noise = if nonsense.is_empty() { self.random.below(500) } else { 0 };
        let noise: Vec<_> = (0..noise).map(|_| self.random.below(256) as u8).collect();
        self.note(|| format!("client {id} says {nonsense:02x?} and {} bytes", noise.len()));
        let client = self.client(id);
        client.say_bytes(nonsense);
        if !nonsense.is_empty() {
            client.script.push_back((client.said_bytes, Said::Nonsense));
        }
        client.say_bytes(&noise);
        client.is_done = true;
    }

    /// Changes the settings of the running server.
    fn reload(&mut self) {
        let settings = settings(&mut self.random);
        self.note(|| format!("reloads {:?}, {:?}", settings.limits, settings.publish));
        let running = &mut self.model.settings;
        running.limits.memory_bytes_max = settings.limits.memory_bytes_max;
        running.publish = settings.publish;
        running.play.skips_max = settings.play.skips_max;
        self.host.reload(running.clone());
    }

    fn pick(&mut self, suits: impl Fn(&Client) -> bool) -> Option<ClientId> {
        let suiting = self.clients.iter().filter(|(_, client)| suits(client));
        let suiting: Vec<_> = suiting.map(|(id, _)| *id).collect();
        (!suiting.is_empty()).then(|| suiting[self.random.below(suiting.len())])
    }

    /// Lets clients send some or all of their bytes, and read. Returns whether a player of HLS asks
    /// for more because of what it has read.
    fn exchange(&mut self, all: bool) -> bool {
        let mut has_asked = false;
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            let count = if all { usize::MAX } else { self.random.below(6000) };
            let client = self.client(id);
            if !client.outbox.is_empty() {
                let count = count.min(client.outbox.len());
                let (client, link) = (self.clients.get_mut(&id).unwrap(), &self.host.sockets[&id]);
                let sent = link.borrow_mut().send(&client.outbox[..count]);
                client.outbox.drain(..sent);
            } else if client.is_done {
                self.host.sockets[&id].borrow_mut().finish();
            }
            if self.client(id).reading == Reading::All {
                let before = self.client(id).said_bytes;
                self.receive(id, usize::MAX);
                let client = self.client(id);
                has_asked |= client.web.is_some() && client.said_bytes > before;
            }
        }
        has_asked
    }

    fn receive(&mut self, id: ClientId, count: usize) {
        let bytes = self.host.sockets[&id].borrow_mut().receive(count);
        if bytes.is_empty() {
            return;
        }
        if self.client(id).web.is_some() {
            return self.receive_web(id, &bytes);
        }
        for message in self.client(id).reader.read(&bytes) {
            let read = message.is_media().then(|| media::read(&message));
            self.note(|| format!("client {id} gets {read:?}, type {}", message.kind));
            if let (wire::USER_CONTROL, [0, PING_REQUEST, rest @ ..]) =
                (message.kind, &message.payload[..])
            {
                let pong = wire::user_control(PING_RESPONSE.into(), wire::big(rest));
                self.client(id).say(&pong, None);
            }
            self.model.received(id, &message);
        }
    }

    fn receive_web(&mut self, id: ClientId, bytes: &[u8]) {
        let client = self.clients.get_mut(&id).expect("a known client");
        let Some(web) = &mut client.web else { return };
        if web.hls.is_some() {
            return self.receive_hls(id, bytes);
        }
        let (trace, step) = (self.trace.as_ref(), self.step);
        for heard in web.reader.read(bytes) {
            match heard {
                Heard::Status(_) if web.is_player => {}
                Heard::Status(status) => {
                    let expected = web.statuses.pop_front();
                    // A client that is slow may also be told that it was too late.
                    assert!(expected == Some(status) || status == 408, "{status}: {expected:?}");
                    self.model.tally.answers += 1;
                }
                Heard::Begun => {
                    note_to(trace, step, || format!("client {id} gets the head of a file"));
                    self.model.begun(id);
                }
                Heard::Initialized(configurations) => {
                    note_to(trace, step, || {
                        let read = configurations.iter().map(media::read);
                        format!("client {id} begins with {:?}", read.collect::<Vec<_>>())
                    });
                    self.model.begun(id);
                    configurations.iter().for_each(|one| self.model.received(id, one));
                }
                Heard::Media(message) => {
                    note_to(trace, step, || {
                        format!("client {id} gets {:?}", media::read(&message))
                    });
                    self.model.received(id, &message);
                }
                Heard::Pong(payload) if web.pinged.is_some_and(|ping| ping[..] == payload) => {
                    web.pinged = None;
                }
                Heard::Pong(_) | Heard::Close => {}
            }
        }
    }

    /// Lets the server take a turn, if it has reason to, and informs the model.
    fn turn(&mut self, all: bool) -> bool {
        let was_decided = self.decide();
        let hub = self.host.server.hub();
        let has_log = |stream| {
            let channel = hub.find(&format!("live/{}", key(stream)));
            channel.is_some_and(|channel| channel.parts().is_some())
        };
        let had_logs: [bool; STREAMS] = std::array::from_fn(has_log);
        let Some(seen) = self.host.turn(all) else { return was_decided };
        self.turns += 1;
        let now_ms = self.now_ms();
        self.model.turn_begins(std::mem::take(&mut self.host.unread), self.host.now);
        self.model.note_logs(had_logs);
        for (id, seen) in seen {
            self.note(|| format!("server and client {id}: {seen:?}"));
            match seen {
                Seen::Read(_) => self.model.heard(id, 0, self.host.now),
                Seen::Consumed(count) => self.heard(id, count, now_ms),
                Seen::Ended => self.model.ended(id, now_ms),
                Seen::Closed => {
                    // While a request waits for the judge or for a stream, the end of its
                    // connection is not read.
                    let was_asking = self.judge.asking.remove(&id).is_some();
                    let web = self.clients.get(&id).and_then(|client| client.web.as_ref());
                    let may_be_held = web.is_some_and(|web| web.hls.is_some());
                    if (was_asking || may_be_held) && self.host.sockets[&id].borrow().has_left() {
                        self.model.ended(id, now_ms);
                    }
                    self.model.closed(id, &self.host.turn, now_ms);
                    self.clients.remove(&id);
                    self.host.sockets.remove(&id);
                }
            }
        }
        let server = &self.host.server;
        let given_up = server.stats().closed(CloseReason::MemoryPressure);
        let end = TurnEnd {
            turn: &self.host.turn,
            held_bytes: server.memory_bytes(),
            level: server.memory_level(),
            given_up: given_up - self.given_up,
        };
        self.model.turn_is_over(&end, now_ms);
        self.given_up = given_up;
        true
    }

    fn now_ms(&self) -> u64 {
        self.host.now.as_micros() / 1000
    }

    fn heard(&mut self, id: ClientId, count: usize, now_ms: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        self.model.heard(id, count, self.host.now);
        client.heard_bytes += count as u64;
        let heard_bytes = client.heard_bytes;
        while let Some((_, said)) = client.script.front().filter(|(end, _)| *end <= heard_bytes) {
            if self.judge.decides(*said) {
                let until = self.host.now.plus_millis(limits::VERDICT_MS);
                self.judge.asking.insert(id, Asking { said: *said, until });
            } else {
                self.model.read(id, *said, now_ms);
            }
            client.script.pop_front();
        }
    }

    /// Lets the judge decide on requests that are due. Returns whether it decided anything.
    fn decide(&mut self) -> bool {
        let (now, now_ms) = (self.host.now, self.now_ms());
        while let Some((client, question)) = self.host.next_question() {
            self.judge.ask(client, question, now);
        }
        let mut was_decided = false;
        while let Some(Ruling { client, question, grants, .. }) = self.judge.next_ruling(now) {
            let decision = if grants { Ok(question.name) } else { Err(refusal()) };
            self.note(|| format!("the request of client {client} is granted: {grants}"));
            self.host.decide(question.ticket, decision);
            was_decided = true;
            let Some(Asking { said, .. }) = self.judge.asking.remove(&client) else { continue };
            self.model.turn_begins(std::mem::take(&mut self.host.unread), now);
            if grants {
                self.model.tally.granted += 1;
                self.model.heard(client, 1, now);
                self.model.read(client, said, now_ms);
            } else {
                self.model.tally.denied += 1;
                self.model.refused(client);
            }
        }
        let late = self.judge.asking.iter().filter(|(_, asking)| asking.until <= now);
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        for client in late {
            self.note(|| format!("the request of client {client} is decided too late"));
            self.judge.asking.remove(&client);
            self.model.tally.undecided += 1;
            self.model.refused(client);
        }
        was_decided
    }

    /// Processes everything that can happen at this instant.
    fn rest(&mut self) {
        for _ in 0..TURNS_MAX {
            let has_asked = self.exchange(true);
            if !self.turn(true) && !has_asked {
                return;
            }
        }
        panic!("the server does not come to rest at {:?}", self.host.now);
    }

    /// Lets milliseconds pass, with everything that becomes due.
    fn advance(&mut self, millis: u64) {
        let end = self.host.now.plus_millis(millis);
        let next = |simulation: &Self| {
            let rulings = simulation.judge.rulings.iter().map(|ruling| ruling.at);
            simulation.host.next_wakeup().into_iter().chain(rulings).min()
        };
        while let Some(at) = next(self).filter(|at| *at <= end) {
            self.host.now = at.max(self.host.now);
            self.rest();
        }
        self.host.now = end;
        self.rest();
    }

    /// Comes to rest, including messages that are held back to be merged.
    fn settle(&mut self) {
        self.rest();
        let holds_back =
            |host: &Host| host.server.hub().iter().any(|stream| stream.news_at() != Time::NEVER);
        // Messages that arrive meanwhile may be held back, too.
        while holds_back(&self.host) {
            self.advance(self.model.settings.play.merge_ms);
        }
    }

    fn check_at_rest(&mut self) {
        let now_ms = self.now_ms();
        for (id, client) in &self.clients {
            let Some(conn) = self.host.conn(*id) else { continue };
            let skips = conn.activity.as_ref().and_then(|a| a.plays.first()).map(|p| p.skips());
            let is_closing = conn.is_closing();
            if client.reading == Reading::All {
                assert!(client.reader.is_between_messages(), "client {id}: half a message");
            }
            if let (Some(web), Reading::All, false) = (&client.web, client.reading, is_closing) {
                assert!(web.reader.is_between(), "client {id}: half a tag or a response");
                let is_answered = web.statuses.is_empty() && web.pinged.is_none();
                let awaits = web.hls.as_ref().is_some_and(|hls| hls.awaits_at_once());
                assert!(!awaits || client.is_done, "client {id} waits for a file");
                assert!(is_answered || client.is_done, "client {id} waits: {web:?}");
            }
            self.model.is_at_rest(*id, skips.unwrap_or(0), is_closing, now_ms);
        }
        for stream in 0..STREAMS {
            let live = self.host.server.hub().find(&format!("live/{}", key(stream)));
            let is_live = live.is_some_and(|stream| stream.is_live());
            assert_eq!(is_live, self.model.publisher(stream).is_some(), "{}", key(stream));
        }
    }

    /// Turns off the faults and checks that a newcomer is served. Then all clients leave, and
    /// nothing may be left over.
    fn wind_up(&mut self) {
        self.host.repair();
        self.judge.commands.clear();
        self.advance(1000);
        self.clients.values_mut().for_each(|client| client.is_done = true);
        self.advance(60_000);
        let messages = self.model.tally.messages;
        self.play(0, Reading::All);
        self.rest();
        if let Some(id) = self.publish(0, Reading::All) {
            self.say_media(id, Kind::Key);
        }
        self.settle();
        self.check_at_rest();
        assert_eq!(self.model.tally.messages, messages + 3, "a newcomer is served");
        self.clients.values_mut().for_each(|client| client.is_done = true);
        self.advance(60_000);
        let server = &self.host.server;
        assert!(server.is_empty(), "{} connections are left over", server.len());
        assert!(server.hub().is_empty());
        assert_eq!(server.memory_bytes(), 0);
        assert!(server.memory_level() <= MemoryLevel::Lean);
        assert_eq!(server.next_deadline(), None::<Time>);
    }
}

/// Records a step in `trace`, if the run is traced.
fn note_to(trace: Option<&Trace>, step: u32, what: impl FnOnce() -> String) {
    let Some(trace) = trace else { return };
    let mut trace = trace.borrow_mut();
    if trace.len() == TRACE_LINES_MAX {
        trace.pop_front();
    }
    trace.push_back((step, what()));
}

fn refusal() -> Refused {
    let reason = CloseReason::KeyRefused;
    Refused { reason, detail: String::new(), description: "the judge refuses".to_owned() }
}

fn request(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

fn key(stream: usize) -> String {
    format!("s{stream}")
}
