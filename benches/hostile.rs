//! The latency that a player loses while a thousand hostile connections attack the server.
//!
//! ```text
//! cargo bench --bench hostile                          all floods, three rounds
//! cargo bench --bench hostile -- joins closings        some floods
//! cargo bench --bench hostile -- --rounds 1 --seconds 4
//! ```
//!
//! For each flood the server is started. A canary player first watches a stream of 100 frames a
//! second alone, then during the flood (`tests/attack/flood.rs`). The table shows medians over the
//! rounds: the 99th percentile of frame latency alone and during the flood, the maximum, and the
//! longest turn of the server in processor time, as the server reports it. The latency of a frame
//! is measured from its due time. The server has one core, and everything else another one, on
//! which the canary has real-time priority. On a machine with other work only the processor time of
//! a turn is meaningful. The exit status is 1 if a bound is exceeded.

#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/attacker.rs"]
mod attacker;
#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/flood.rs"]
mod flood;
#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/healthy.rs"]
mod healthy;
#[allow(dead_code, reason = "what the attack suite needs of it as well")]
#[path = "../tests/attack/server.rs"]
mod server;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};
use rustix::thread::{CpuSet, sched_setaffinity};

use flood::{FLOODS, Flood};
use healthy::{Feed, Habits, Pace, Viewer};
use server::{Server, Setup};
use support::{wait_until, wire};

/// Maximum rise of the 99th percentile during a flood (us).
const P99_MORE_US_MAX: u64 = 20_000;
/// Maximum processor time of a turn (us).
const TURN_CPU_US_MAX: u64 = 10_000;
/// How long the canary player is alone.
const ALONE: Duration = Duration::from_secs(4);
/// Timeout for a frame, and for the end of the server.
const WAIT_MAX: Duration = Duration::from_secs(30);

const PACE: Pace = Pace { interval: Duration::from_millis(10), gop_frames: 100, ..Pace::CANARY };
/// The server runs on the first core, everything else on the others. Its allocator has default
/// settings: the attack suite makes it return each block at once, which costs two system calls per
/// block.
const SETUP: Setup = Setup {
    settings: "drain_ms = 500\n",
    log_level: "info",
    shell: "unset MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ MALLOC_TOP_PAD_
        exec taskset -c 0 \"$0\" \"$@\"",
};

/// Compares the latency of a player alone with that beside hostile connections.
#[derive(Debug, Parser)]
struct Args {
    /// The floods to measure; all by default.
    #[arg(value_name = "FLOOD", value_parser = PossibleValuesParser::new(FLOODS.map(|f| f.name)))]
    floods: Vec<String>,
    /// Number of rounds. The figures are medians over the rounds.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that each flood lasts.
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u64).range(1..))]
    seconds: u64,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Results of one round (us).
#[derive(Clone, Copy, Debug)]
struct Round {
    alone_p99_us: u64,
    under_p99_us: u64,
    under_max_us: u64,
    turn_cpu_us: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    tiderace::descriptors::raise_limit();
    leave_first_core();
    let is_asked = |flood: &&Flood| {
        args.floods.is_empty() || args.floods.iter().any(|name| name == flood.name)
    };
    println!(
        "{:<16} {:>11} {:>11} {:>11} {:>13}",
        "flood", "alone p99", "under p99", "worst", "longest turn"
    );
    let mut failures = Vec::new();
    for flood in FLOODS.iter().filter(is_asked) {
        match measure(*flood, &args) {
            Ok(figures) => failures.extend(judge(flood.name, figures)),
            Err(error) => failures.push(format!("{}: {error}", flood.name)),
        }
    }
    failures.iter().for_each(|failure| println!("FAILED: {failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Leaves the first core to the server, if there is another one.
fn leave_first_core() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut others = CpuSet::new();
    (1..cores).for_each(|core| others.set(core));
    if cores > 1
        && let Err(error) = sched_setaffinity(None, &others)
    {
        println!("the first core is shared with the server: {error}");
    }
}

/// Gives the threads of the healthy peers real-time priority, so that they never wait for the
/// flood, with which they share a core. Otherwise their wait would count as the server's. The main
/// thread is left out: the flood inherits its priority.
fn prefer_threads() {
    let main = std::process::id().to_string();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for id in tasks.map(|task| task.file_name()).filter(|id| *id != *main) {
        let status = Command::new("chrt").args(["--fifo", "--pid", "1"]).arg(id).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("chrt gives no real-time priority: the flood delays the canary as well");
            return;
        }
    }
}

/// Measures all rounds of a flood and prints its row, the median of each figure.
fn measure(flood: Flood, args: &Args) -> Result<Round, String> {
    let mut done = String::new();
    let rounds: Result<Vec<_>, _> = (0..args.rounds)
        .map(|_| measure_once(flood, Duration::from_secs(args.seconds), &mut done))
        .collect();
    let rounds = rounds?;
    let median = |figure: fn(&Round) -> u64| {
        let mut figures: Vec<_> = rounds.iter().map(figure).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    let round = Round {
        alone_p99_us: median(|round| round.alone_p99_us),
        under_p99_us: median(|round| round.under_p99_us),
        under_max_us: median(|round| round.under_max_us),
        turn_cpu_us: median(|round| round.turn_cpu_us),
    };
    let ms = |us: u64| format!("{:.1} ms", us as f64 / 1000.0);
    println!(
        "{:<16} {:>11} {:>11} {:>11} {:>13}   {done}",
        flood.name,
        ms(round.alone_p99_us),
        ms(round.under_p99_us),
        ms(round.under_max_us),
        ms(round.turn_cpu_us),
    );
    Ok(round)
}

fn measure_once(flood: Flood, length: Duration, done: &mut String) -> Result<Round, String> {
    let mut server = Server::start(&SETUP);
    let feed = Feed::start(server.address, "canary", PACE)?;
    let viewer = Viewer::start(server.address, "canary", Habits::default())?;
    wait_until(WAIT_MAX, || viewer.seen().frames > 100);
    prefer_threads();
    viewer.take_latencies_us();
    thread::sleep(ALONE);
    let alone_us = viewer.take_latencies_us();
    // The flood has a lower priority than everything else on its core.
    let running = flood.start(server.address, 19)?;
    viewer.take_latencies_us();
    let before = feed.sent();
    thread::sleep(length);
    // Frames that are still outstanding count with the latency that they will have.
    let due = feed.sent();
    wait_until(WAIT_MAX, || viewer.seen().newest >= Some(due) || viewer.is_over());
    let mut under_us = viewer.take_latencies_us();
    let counts = running.done.line();
    let lost = (due - before).saturating_sub(under_us.len() as u64);
    if lost > 0 {
        println!(
            "{}: {lost} of {} frames did not arrive within {WAIT_MAX:?}",
            flood.name,
            due - before
        );
        under_us.extend((0..lost).map(|_| WAIT_MAX.as_micros() as u64));
    }
    drop((running, viewer, feed));
    server.end(WAIT_MAX);
    let log = server.log_from(0);
    let (turn_cpu_us, phases) =
        longest_turn(&log).ok_or("the server does not report its longest turn")?;
    *done = format!("{phases}; {counts}");
    Ok(Round {
        alone_p99_us: percentile_99(alone_us),
        under_max_us: under_us.iter().copied().max().unwrap_or_default(),
        under_p99_us: percentile_99(under_us),
        turn_cpu_us,
    })
}

/// Returns the processor time of the longest turn (us) and its phases, from the last line of the
/// server's log.
fn longest_turn(log: &str) -> Option<(u64, &str)> {
    let (_, longest) = log.rsplit_once("longest turn: ")?;
    let (ms, phases) = longest.trim_end().split_once(" ms of CPU")?;
    Some(((ms.parse::<f64>().ok()? * 1000.0) as u64, phases.trim_start()))
}

fn percentile_99(mut latencies_us: Vec<u64>) -> u64 {
    latencies_us.sort_unstable();
    let rank = (latencies_us.len() * 99).div_ceil(100);
    latencies_us.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn judge(name: &str, round: Round) -> Vec<String> {
    let mut failures = Vec::new();
    let more_us = round.under_p99_us.saturating_sub(round.alone_p99_us);
    if more_us > P99_MORE_US_MAX {
        failures.push(format!("{name}: p99 is {} ms later than alone", more_us / 1000));
    }
    if round.turn_cpu_us > TURN_CPU_US_MAX {
        failures.push(format!("{name}: a turn took {} ms of CPU", round.turn_cpu_us / 1000));
    }
    failures
}
