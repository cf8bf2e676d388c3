//! The workloads, each with its servers, table rows and goals.
//!
//! Owns the flags of each load, and the loads that take more than one run of the generator. Goals
//! are in busy time of the machine, because a server may leave work to the kernel on another core.

use std::time::Duration;

use tiderace::load::report::{Figure, LoadReport};

use crate::Result;
use crate::lab::Lab;
use crate::peer::Peer::{
    self, Nginx, NginxTuned, SendfileFloor, SendfileFloorMerging, Tiderace, TideraceAsleep,
    TideraceCrowded, TideraceHttpFlv, TideraceMerging, WriteFloor, WriteFloorMerging,
};

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// The servers to measure. The goals apply to the first.
    pub(crate) peers: &'static [Peer],
    /// The servers of the user are measured as well.
    pub(crate) with_users: bool,
    pub(crate) rows: &'static [Row],
    /// Command of the load generator with its flags. WINDOW stands for the seconds of a window.
    pub(crate) load: &'static str,
    /// Runs the workload once.
    pub(crate) measure: fn(&Lab, &Self, Peer) -> Result<LoadReport>,
    /// Server and load share a core in a network namespace of their own.
    pub(crate) shares_core: bool,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) figure: Measure,
    pub(crate) against: Against,
    pub(crate) goal: Goal,
}

/// How a figure is taken from the reports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// This figure of each round.
    Value(&'static str),
    /// This figure of the core of the server.
    ServerCore(&'static str),
    /// A quantile in ms of the histograms of all rounds, added.
    Quantile(&'static str, f64),
}

/// The server that the first one is compared with, round by round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    Nothing,
    /// The floor with the lower median.
    LowerFloor,
    /// The server of another project with the best median, of those that do not hold frames.
    BestPeer,
    Peer(Peer),
}

/// Goal for a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The row informs only.
    None,
    /// The figure is at most this.
    Figure(f64),
    /// The ratio to the reference is at most this.
    Ratio(f64),
    /// The figure is at least this many times that of the reference; more is better.
    Multiple(f64),
}

const fn row(title: &'static str, figure: Measure, against: Against, goal: Goal) -> Row {
    Row { title, figure, against, goal }
}

const fn shown(title: &'static str, figure: Measure) -> Row {
    row(title, figure, Against::Nothing, Goal::None)
}

const PER_GB: Measure = Measure::Value("machine_busy_s_per_gb");
const CORE: Row = shown("its core alone, s per GB", Measure::ServerCore("busy_s_per_gb"));
const CPU: Row = shown("its process alone, s per GB", Measure::Value("server_cpu_s_per_gb"));
const P50: Measure = Measure::Quantile("latency", 0.5);
const P99: Measure = Measure::Quantile("latency", 0.99);
const P999: Measure = Measure::Quantile("latency", 0.999);

const ALL: &[Peer] = &[Tiderace, Nginx, NginxTuned, WriteFloor, SendfileFloor];
/// The generator sleeps when it has nothing to read: a core that polls would be busy whatever the
/// server costs.
macro_rules! streams {
    ($flags:literal) => {
        concat!("fanout --fps 30 --gop-s 2 --warmup-s 4 --rate 400 --duration-s WINDOW ", $flags)
    };
}

/// Rows of a fan-out: its cost, followed by its latency.
macro_rules! fanout_rows {
    ($title:literal) => {
        &[
            row(
                concat!($title, ", machine s per GB"),
                PER_GB,
                Against::LowerFloor,
                Goal::Ratio(1.05),
            ),
            row("the same beside the best peer", PER_GB, Against::BestPeer, Goal::Ratio(1.0)),
            CORE,
            CPU,
            row("p50 in ms", P50, Against::LowerFloor, Goal::Ratio(1.15)),
            row("p99 in ms", P99, Against::LowerFloor, Goal::Ratio(1.15)),
        ]
    };
}

const fn fanout(name: &'static str, rows: &'static [Row], load: &'static str) -> Workload {
    Workload { name, peers: ALL, with_users: true, rows, load, measure: once, shares_core: false }
}

pub(crate) const WORKLOADS: [Workload; 13] = [
    Workload {
        name: "idle",
        peers: &[Tiderace, Nginx],
        with_users: true,
        rows: &[
            row(
                "10,000 sessions idle after connect, resident bytes each",
                Measure::Value("resident_bytes_per_session"),
                Against::Nothing,
                Goal::Figure(512.0),
            ),
            row(
                "their processor time, %",
                Measure::Value("server_idle_cpu_percent"),
                Against::Nothing,
                Goal::Figure(0.0),
            ),
            row(
                "the server's wakeups per second meanwhile",
                Measure::Value("server_idle_wakeups_per_s"),
                Against::Nothing,
                Goal::Figure(0.0),
            ),
        ],
        load: "idle --sessions 10000 --rate 2000 --wake 0 --duration-s WINDOW",
        measure: once,
        shares_core: false,
    },
    Workload {
        name: "churn",
        peers: &[Tiderace, Nginx, NginxTuned],
        with_users: true,
        rows: &[
            row(
                "a session from accept to connected to closed, machine µs",
                Measure::Value("machine_busy_us_per_session"),
                Against::BestPeer,
                Goal::Ratio(0.7),
            ),
            shown("its core alone, µs", Measure::ServerCore("busy_us_per_session")),
            shown("its process alone, µs", Measure::Value("server_cpu_us_per_session")),
        ],
        load: "churn --rate 1000 --duration-s WINDOW",
        measure: once,
        shares_core: false,
    },
    fanout(
        "fanout-16k",
        fanout_rows!("200 players x 4 Mbit/s (16 KB frames)"),
        streams!("--players 200 --bitrate 4M"),
    ),
    fanout(
        "fanout-66k",
        fanout_rows!("100 players x 16 Mbit/s (66 KB frames)"),
        streams!("--players 100 --bitrate 16M"),
    ),
    fanout(
        "fanout-1k",
        fanout_rows!("500 players x 300 kbit/s (1.2 KB frames)"),
        streams!("--players 500 --bitrate 300k"),
    ),
    Workload {
        name: "http-flv",
        peers: &[TideraceHttpFlv, Tiderace],
        with_users: false,
        rows: &[
            row(
                "200 players x 4 Mbit/s over HTTP-FLV, machine s per GB",
                PER_GB,
                Against::Peer(Tiderace),
                Goal::Ratio(1.05),
            ),
            CORE,
            CPU,
            row("p50 in ms", P50, Against::Peer(Tiderace), Goal::None),
            row("p99 in ms", P99, Against::Peer(Tiderace), Goal::None),
        ],
        load: streams!("--players 200 --bitrate 4M"),
        measure: once,
        shares_core: false,
    },
    Workload {
        name: "merge",
        peers: &[TideraceMerging, WriteFloorMerging, SendfileFloorMerging],
        with_users: true,
        rows: &[
            row(
                "200 players x 4 Mbit/s, frames held for 350 ms, machine s per GB",
                PER_GB,
                Against::LowerFloor,
                Goal::Ratio(1.05),
            ),
            CORE,
            CPU,
            row("p50 in ms", P50, Against::LowerFloor, Goal::None),
            row("p99 in ms", P99, Against::LowerFloor, Goal::None),
        ],
        load: streams!("--players 200 --bitrate 4M"),
        measure: once,
        shares_core: false,
    },
    Workload {
        name: "ingest",
        peers: ALL,
        with_users: true,
        rows: &[
            row(
                "100 publishers x 4 Mbit/s and no players, machine s per GB",
                PER_GB,
                Against::LowerFloor,
                Goal::Ratio(1.1),
            ),
            row("the same beside the best peer", PER_GB, Against::BestPeer, Goal::Ratio(1.0)),
            CORE,
            CPU,
        ],
        load: "ingest --fps 30 --gop-s 2 --warmup-s 4 --rate 400 --duration-s WINDOW \
               --publishers 100 --bitrate 4M",
        measure: once,
        shares_core: false,
    },
    Workload {
        name: "latency",
        peers: ALL,
        with_users: true,
        rows: &[
            row(
                "latency of 10 players x 2 Mbit/s, p50 in ms",
                P50,
                Against::LowerFloor,
                Goal::Ratio(1.15),
            ),
            row("p99 in ms", P99, Against::LowerFloor, Goal::Ratio(1.15)),
            row("p99.9 in ms", P999, Against::LowerFloor, Goal::Ratio(1.15)),
        ],
        load: LATENCY,
        measure: once,
        shares_core: false,
    },
    Workload {
        name: "crowded",
        peers: &[TideraceCrowded, Tiderace],
        with_users: false,
        rows: &[
            row(
                "the same while 10,000 sessions idle, p50 in ms",
                P50,
                Against::Peer(Tiderace),
                Goal::Ratio(1.1),
            ),
            row("p99 in ms", P99, Against::Peer(Tiderace), Goal::Ratio(1.1)),
            row("p99.9 in ms", P999, Against::Peer(Tiderace), Goal::Ratio(1.1)),
        ],
        load: LATENCY,
        measure: beside_crowd,
        shares_core: false,
    },
    // nginx-rtmp has no GOP cache, so it says nothing about speed here.
    Workload {
        name: "first-frame",
        peers: &[Tiderace],
        with_users: true,
        rows: &[row(
            "time to first frame with a GOP of 2 s, p50 in ms",
            Measure::Quantile("first_frame", 0.5),
            Against::Nothing,
            Goal::Figure(5.0),
        )],
        load: "fanout --fps 30 --bitrate 2M --gop-s 2 --players 41 --rate 20 --duration-s 1",
        measure: once,
        shares_core: false,
    },
    Workload {
        name: "memory",
        peers: &[Tiderace, TideraceAsleep],
        with_users: false,
        rows: &[row(
            "10,000 players of one stream, resident bytes each",
            Measure::Value("resident_bytes_per_player"),
            Against::Nothing,
            Goal::Figure(400.0),
        )],
        load: "fanout --fps 2 --frame-bytes 1200 --rate 2000 --warmup-s 1 --duration-s 3",
        measure: memory,
        shares_core: false,
    },
    Workload {
        name: "one-core",
        peers: ALL,
        with_users: true,
        rows: &[
            row(
                "server and load on one core, Mbit/s delivered with p99 below 100 ms",
                Measure::Value("saturated_mbit_per_s"),
                Against::BestPeer,
                Goal::Multiple(1.3),
            ),
            shown("players of 2 Mbit/s", Measure::Value("players")),
        ],
        load: "fanout --fps 30 --gop-s 2 --rate 1000 --lateness-max-ms 1000 --bitrate 2M \
               --warmup-s 4 --duration-s WINDOW",
        measure: saturated,
        shares_core: true,
    },
];

const SESSIONS: usize = 10_000;
/// The generator busy-polls: otherwise the time of its wakeup would be part of every latency.
const LATENCY: &str = "fanout --busy --fps 30 --gop-s 2 --rate 400 --warmup-s 4 \
                       --duration-s 2WINDOW --players 10 --bitrate 2M";

/// Fills in the windows of a load.
pub(crate) fn load_line(load: &str, window: Duration) -> String {
    let seconds = |windows: f64| (windows * window.as_secs_f64()).to_string();
    load.replace("2WINDOW", &seconds(2.0)).replace("WINDOW", &seconds(1.0))
}

/// Runs the load against a newly started server.
fn once(lab: &Lab, workload: &Workload, peer: Peer) -> Result<LoadReport> {
    lab.load(&lab.start(peer)?, &load_line(workload.load, lab.window))
}

fn beside_crowd(lab: &Lab, workload: &Workload, peer: Peer) -> Result<LoadReport> {
    let server = lab.start(peer)?;
    let is_crowded = peer == TideraceCrowded;
    let crowd = is_crowded.then(|| lab.crowd(&server, SESSIONS)).transpose()?;
    let report = lab.load(&server, &load_line(workload.load, lab.window))?;
    drop(crowd);
    Ok(report)
}

/// Growth of the server from few to many players of a stream, per player. For sleeping sessions it
/// is the memory of one session.
fn memory(lab: &Lab, workload: &Workload, peer: Peer) -> Result<LoadReport> {
    const FEW: usize = 10;
    const PER_PLAYER: &str = "resident_bytes_per_player";
    if peer == TideraceAsleep {
        let load = format!("idle --sessions {SESSIONS} --rate 2000 --wake 0 --duration-s 4");
        let report = lab.load(&lab.start(peer)?, &load)?;
        let per_session = value(&report, "resident_bytes_per_session");
        return Ok(with_figure(report, PER_PLAYER, per_session));
    }
    let with_players = |players: usize| {
        lab.load(&lab.start(peer)?, &format!("{} --players {players}", workload.load))
    };
    let resident = |report: &LoadReport| value(report, "server_resident_bytes");
    let (few, many) = (with_players(FEW)?, with_players(FEW + SESSIONS)?);
    let growth = resident(&few).zip(resident(&many)).map(|(few, many)| many - few);
    Ok(with_figure(many, PER_PLAYER, growth.map(|bytes| bytes / SESSIONS as f64)))
}

/// Finds the most players that a server serves in time. Short windows narrow it down, and a long
/// one has enough frames for the tail.
fn saturated(lab: &Lab, workload: &Workload, peer: Peer) -> Result<LoadReport> {
    const PLAYERS_FIRST: usize = 100;
    const STEP: f64 = 1.5;
    const HALVINGS: u32 = 3;
    const LESS: f64 = 0.95;
    let run = |players: usize, window: Duration| {
        let load = load_line(workload.load, window);
        lab.load(&lab.start(peer)?, &format!("{load} --players {players}"))
    };
    // With some frames only, the tail is not known: p90 has to do.
    let is_in_time = |players: usize| -> Result<bool> {
        lab.check_interrupted()?;
        // A server that cannot set up the load does not serve it.
        Ok(run(players, lab.window / 4).is_ok_and(|report| serves(&report, "latency_p90_ms")))
    };
    let (mut served, mut refused) = (0, PLAYERS_FIRST);
    while is_in_time(refused)? {
        (served, refused) = (refused, (refused as f64 * STEP) as usize);
    }
    for _ in 0..HALVINGS {
        let middle = usize::midpoint(served, refused);
        if is_in_time(middle)? { served = middle } else { refused = middle }
    }
    loop {
        if served < 2 {
            return Err("it serves no players in time".into());
        }
        let report = run(served, 2 * lab.window)?;
        if serves(&report, "latency_p99_ms") {
            let mbit_per_s = value(&report, "delivered_bit_per_s").map(|bits| bits / 1e6);
            return Ok(with_figure(report, "saturated_mbit_per_s", mbit_per_s));
        }
        lab.check_interrupted()?;
        served = (served as f64 * LESS) as usize;
    }
}

fn serves(report: &LoadReport, tail: &str) -> bool {
    const TAIL_MAX_MS: f64 = 100.0;
    value(report, tail).is_some_and(|ms| ms < TAIL_MAX_MS)
        && value(report, "frames_lost") == Some(0.0)
}

fn value(report: &LoadReport, name: &str) -> Option<f64> {
    report.figure(name).and_then(|figure| figure.value)
}

fn with_figure(mut report: LoadReport, name: &str, value: Option<f64>) -> LoadReport {
    if let Some(value) = value {
        report.add_figure(Figure::foreign(name, value));
    }
    report
}
