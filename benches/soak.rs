//! A soak test: mixed load for a given time, and a verdict on leaks in the server.
//!
//! ```text
//! cargo bench --bench soak                a minute
//! cargo bench --bench soak -- 600         ten minutes
//! ```
//!
//! Publishers and players come and go, and some players never read. Other sessions stay idle.
//! Hostile sessions send parts of recorded sessions with a flipped bit, or half a handshake. In
//! addition, one publisher and one player stay, and no frame between them may be lost.
//!
//! Memory and descriptors are sampled after a warm-up. Bursts of load raise their peaks, but a leak
//! raises their minima. Therefore the run is divided into windows, a straight line is fitted to the
//! minima of the windows, and its rise over the run is bounded. Timers are not visible from
//! outside. But after all load has left, a forgotten deadline wakes the process, which has no other
//! reason to wake. The exit status is 1 if memory or descriptors rise, a frame is lost or anything
//! is left over.

#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/healthy.rs"]
mod healthy;
#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/server.rs"]
mod server;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use attacker::{Attacker, SOON, Traffic};
use healthy::{Feed, Habits, Pace, Viewer};
use server::{Held, Server, Setup};
use support::{wait_until, wire};

const SECONDS: u64 = 60;
/// Interval between two samples of the server.
const SAMPLE: Duration = Duration::from_secs(2);
/// Fraction of the run that is warm-up, in which tables grow to their size.
const WARM_UP_PART: u32 = 5;
/// Number of windows in the rest of the run.
const WINDOWS: usize = 12;

/// Maximum rise of memory over the run (KiB).
const MEMORY_RISE_KIB_MAX: f64 = 1024.0;
/// Maximum rise of descriptors: dozens of connections come and go between two samples.
const DESCRIPTORS_RISE_MAX: f64 = 10.0;
/// Maximum rise of memory from before the load to after it (KiB), for tables that have grown and
/// pages that are not quite empty.
const MEMORY_LEFT_KIB_MAX: i64 = 4096;

const FEEDS: usize = 20;
const PLAYERS: usize = 100;
const IDLE: usize = 500;
/// Interval between two actions of each kind of load.
const TURN: Duration = Duration::from_millis(50);
/// Longer than every deadline in the settings below.
const ALL_DEADLINES: Duration = Duration::from_secs(12);

const SETUP: Setup = Setup {
    settings: "[publish]\nlinger_ms = 500\n[timeouts]\nhandshake_ms = 5000\nconnect_ms = 10000\n\
               player_stalled_ms = 3000\npublisher_silent_ms = 10000\n",
    log_level: "warn",
    ..Setup::DEFAULT
};

fn main() -> ExitCode {
    // Cargo passes a flag of its own.
    let seconds = env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    tiderace::descriptors::raise_limit();
    let server = Server::start(&SETUP);
    match soak(&server, Duration::from_secs(seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => {
            failures.iter().for_each(|failure| println!("FAILED: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn soak(server: &Server, length: Duration) -> Result<(), Vec<String>> {
    let canary = Feed::start(server.address, "canary", Pace::CANARY).expect("a publisher");
    let viewer = Viewer::start(server.address, "canary", Habits::default()).expect("a player");
    let before = server.held();
    let load =
        Load { server: server.address, stop: AtomicBool::new(false), counts: <_>::default() };
    let samples = thread::scope(|scope| {
        let load = &load;
        for kind in [publish, play, sleep, attack] {
            scope.spawn(move || kind(load));
        }
        let samples = watch(server, load, &viewer, length);
        load.stop.store(true, Ordering::Relaxed);
        samples
    });
    let mut failures = judge_rise(&samples, length);
    let target = canary.sent();
    let goes_on = wait_until(SOON, || viewer.seen().newest >= Some(target));
    let seen = viewer.seen();
    if !goes_on || seen.lost + seen.foreign > 0 {
        let frames = seen.frames;
        failures.push(format!("the permanent player lost {} of {frames} frames", seen.lost));
    }
    println!("{} frames to the permanent player, {} lost", seen.frames, seen.lost);
    drop((canary, viewer));
    failures.extend(judge_rest(server, before));
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Samples the server until the time is over, and prints a line per minute.
fn watch(server: &Server, load: &Load, viewer: &Viewer, length: Duration) -> Vec<(f64, Held)> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    let mut minute = Duration::from_secs(60);
    while began.elapsed() < length && server.is_running() {
        thread::sleep(SAMPLE);
        let (at, held) = (began.elapsed(), server.held());
        samples.push((at.as_secs_f64(), held));
        if at >= minute || at >= length {
            minute += Duration::from_secs(60);
            let [feeds, players, idle, hostile] =
                load.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            println!(
                "{:>5.1} min: {} KiB, {} descriptors, {:.1} s of CPU; so far {feeds} publishers, \
                 {players} players, {idle} idle sessions, {hostile} hostile ones; {} frames lost",
                at.as_secs_f64() / 60.0,
                held.memory_kib,
                held.descriptors,
                held.cpu.as_secs_f64(),
                viewer.seen().lost,
            );
        }
    }
    samples
}

/// Returns a failure for each value that rises too much over the run.
fn judge_rise(samples: &[(f64, Held)], length: Duration) -> Vec<String> {
    let start = (length / WARM_UP_PART).as_secs_f64();
    let judged: Vec<_> = samples.iter().filter(|(at, _)| *at >= start).collect();
    let span = length.as_secs_f64() - start;
    let rise = |value: fn(&Held) -> f64| {
        let points: Vec<_> = judged.iter().map(|(at, held)| (*at, value(held))).collect();
        let windows = points.chunks(points.len().div_ceil(WINDOWS).max(1));
        let least = windows.filter_map(|w| w.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)));
        span * slope(&least.collect::<Vec<_>>())
    };
    let memory = rise(|held| held.memory_kib as f64);
    let descriptors = rise(|held| held.descriptors as f64);
    let most = judged.iter().map(|(_, held)| held.memory_kib).max().unwrap_or_default();
    println!(
        "over {span:.0} s after the warm-up, in {} samples: memory {memory:+.0} KiB (at most \
         {MEMORY_RISE_KIB_MAX}), descriptors {descriptors:+.1} (at most {DESCRIPTORS_RISE_MAX}); \
         the maximum was {most} KiB",
        judged.len()
    );
    let mut failures = Vec::new();
    if judged.len() < WINDOWS {
        failures.push(format!("{} samples are too few for a verdict: run longer", judged.len()));
    }
    if memory > MEMORY_RISE_KIB_MAX {
        failures.push(format!("memory rises by {memory:.0} KiB"));
    }
    if descriptors > DESCRIPTORS_RISE_MAX {
        failures.push(format!("descriptors rise by {descriptors:.1}"));
    }
    failures
}

/// Returns the slope of the least-squares line.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let below: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}

/// Checks the server after all load has left: it may have only its own descriptors, the memory from
/// before the load, and no pending deadline.
fn judge_rest(server: &Server, before: Held) -> Vec<String> {
    // The permanent publisher and player had two of them.
    let own = before.descriptors - 2;
    let is_empty = wait_until(SOON, || server.held().descriptors == own);
    // Streams that linger, and the report of suppressed log lines, have deadlines of their own.
    thread::sleep(Duration::from_secs(2));
    let held = server.held();
    let wakeups = server.wakeups();
    thread::sleep(ALL_DEADLINES);
    let wakeups = server.wakeups() - wakeups;
    let left_kib = held.memory_kib - before.memory_kib;
    println!(
        "without load: {} descriptors ({own} of the server itself), {left_kib:+} KiB, {wakeups} \
         wakeups in {} s",
        held.descriptors,
        ALL_DEADLINES.as_secs()
    );
    let mut failures = Vec::new();
    if !is_empty {
        failures.push(format!("{} descriptors are left, {own} are its own", held.descriptors));
    }
    if left_kib > MEMORY_LEFT_KIB_MAX {
        failures.push(format!("{left_kib} KiB are left"));
    }
    if wakeups > 0 {
        failures.push(format!("{wakeups} wakeups: deadlines are left"));
    }
    failures
}

/// State shared by all kinds of load.
struct Load {
    server: SocketAddr,
    stop: AtomicBool,
    /// Publishers, players, idle sessions and hostile sessions so far.
    counts: [AtomicU64; 4],
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Opens a connection and sends `bytes`.
    fn open(&self, kind: usize, bytes: &[u8]) -> Attacker {
        self.counts[kind].fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::new(Traffic::default());
        let mut party = Attacker::connect(self.server, &traffic).expect("the server accepts");
        party.send(bytes);
        party
    }
}

/// Publishers of 1 Mbit/s. The oldest one leaves and a new one comes.
fn publish(load: &Load) {
    let mut feeds = VecDeque::new();
    let mut next = 0;
    while load.goes_on() {
        if feeds.len() == FEEDS {
            feeds.pop_front();
        }
        load.counts[0].fetch_add(1, Ordering::Relaxed);
        let key = format!("soak-{}", next % (FEEDS + 1));
        feeds.extend(Feed::start(load.server, &key, Pace::mbit(1)).ok());
        next += 1;
        thread::sleep(4 * TURN);
    }
}

/// Players of these streams. Every tenth never reads.
fn play(load: &Load) {
    let mut players: VecDeque<Attacker> = VecDeque::new();
    let mut next = 0;
    while load.goes_on() {
        let play = wire::play(format!("soak-{}", next % FEEDS));
        let mut player = load.open(1, &attacker::session(&[wire::create_stream(2.0), play]));
        player.reads = next % 10 != 0;
        players.push_back(player);
        if players.len() > PLAYERS {
            let oldest = players.pop_front().filter(|_| next % 2 == 0);
            oldest.into_iter().for_each(Attacker::reset);
        }
        for player in players.iter_mut().filter(|player| player.reads) {
            while player.take() {}
        }
        next += 1;
        thread::sleep(TURN);
    }
}

/// Sessions that connect and stay idle.
fn sleep(load: &Load) {
    let mut sessions = VecDeque::new();
    while load.goes_on() {
        sessions.push_back(load.open(2, &attacker::session(&[])));
        if sessions.len() > IDLE {
            sessions.pop_front();
        }
        // The first sessions come in quick succession.
        thread::sleep(if sessions.len() < IDLE { TURN / 50 } else { 2 * TURN });
    }
}

/// Sessions that end early, send invalid data, or stop half way.
fn attack(load: &Load) {
    let recorded = wire::vector("captures/ffmpeg5_publish_h264_aac.client.bin");
    let mut held = VecDeque::new();
    for next in (0_usize..).take_while(|_| load.goes_on()) {
        let mut bytes = recorded[..3073 + next * 7919 % 9000].to_vec();
        let at = 3073 + next * 104_729 % (bytes.len() - 3072).max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (next % 8);
        }
        match next % 4 {
            0 => held.push_back(load.open(3, &bytes[..next % 3073])),
            1 => load.open(3, &bytes).reset(),
            2 => drop(load.open(3, b"GET / HTTP/1.1\r\n\r\n")),
            _ => held.push_back(load.open(3, &bytes)),
        }
        if held.len() > 50 {
            held.pop_front();
        }
        thread::sleep(TURN);
    }
}
