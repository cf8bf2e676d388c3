//! The workloads, each with its servers, table rows and goals.
//!
//! Owns the flags of each load and the figures used from a report. The flags bound the duration:
//! all workloads together take some six minutes per round.

use tiderace::load::report::LoadReport;

use crate::Result;
use crate::lab::Lab;
use crate::peer::Peer::{
    self, Nginx, SendfileFloor, Tiderace, TideraceAsleep, TideraceCrowded, TideraceMerging,
    WriteFloor,
};

/// Figures of a report, in the order of the rows. Withheld figures are `None`.
pub(crate) type Figures = Vec<Option<f64>>;

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// The servers to measure. The goals apply to the first.
    pub(crate) peers: &'static [Peer],
    /// Rows of the table, one for each figure returned by `measure`.
    pub(crate) rows: &'static [Row],
    /// Runs the workload once.
    pub(crate) measure: fn(&Lab, Peer) -> Result<Figures>,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    /// The server that the first one is compared with, round by round.
    pub(crate) reference: Option<Peer>,
    pub(crate) goal: Goal,
}

/// Goal for a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The figure is at most this.
    Figure(f64),
    /// The ratio to the reference is at most this.
    Ratio(f64),
}

const fn row(title: &'static str, reference: Peer, goal: Goal) -> Row {
    Row { title, reference: Some(reference), goal }
}

const ALL: &[Peer] = &[Tiderace, Nginx, WriteFloor, SendfileFloor];

pub(crate) const WORKLOADS: [Workload; 11] = [
    Workload {
        name: "idle",
        peers: &[Tiderace, Nginx],
        rows: &[
            row(
                "10,000 sessions idle after connect, resident bytes each",
                Nginx,
                Goal::Figure(512.0),
            ),
            Row { title: "their processor time, %", reference: None, goal: Goal::Figure(0.0) },
            Row {
                title: "the server's wakeups per second meanwhile",
                reference: None,
                goal: Goal::Figure(0.0),
            },
        ],
        measure: idle,
    },
    Workload {
        name: "churn",
        peers: &[Tiderace, Nginx],
        rows: &[row(
            "a session from accept to connected to closed, µs of CPU",
            Nginx,
            Goal::Ratio(0.7),
        )],
        measure: churn,
    },
    Workload {
        name: "fanout-16k",
        peers: ALL,
        rows: &[row(
            "200 players x 4 Mbit/s (16 KB frames), CPU s per GB",
            WriteFloor,
            Goal::Ratio(1.0),
        )],
        measure: fanout_16k,
    },
    Workload {
        name: "merge",
        peers: &[TideraceMerging, WriteFloor],
        rows: &[row("the same with merge_ms = 350, CPU s per GB", WriteFloor, Goal::Ratio(0.5))],
        measure: fanout_16k,
    },
    Workload {
        name: "fanout-66k",
        peers: ALL,
        rows: &[row(
            "100 players x 16 Mbit/s (66 KB frames), CPU s per GB",
            WriteFloor,
            Goal::Ratio(0.85),
        )],
        measure: fanout_66k,
    },
    Workload {
        name: "fanout-1k",
        peers: ALL,
        rows: &[row(
            "500 players x 300 kbit/s (1.2 KB frames), CPU s per GB",
            WriteFloor,
            Goal::Ratio(1.05),
        )],
        measure: fanout_1k,
    },
    Workload {
        name: "ingest",
        peers: &[Tiderace, Nginx, WriteFloor],
        rows: &[row(
            "100 publishers x 4 Mbit/s and no players, CPU s per GB",
            WriteFloor,
            Goal::Ratio(1.1),
        )],
        measure: ingest,
    },
    Workload {
        name: "latency",
        peers: ALL,
        rows: &[
            row("latency of 10 players x 2 Mbit/s, p50 in ms", WriteFloor, Goal::Ratio(1.15)),
            row("p99 in ms", WriteFloor, Goal::Ratio(1.15)),
            row("p99.9 in ms", WriteFloor, Goal::Ratio(1.15)),
        ],
        measure: latency,
    },
    Workload {
        name: "crowded",
        peers: &[TideraceCrowded, Tiderace],
        rows: &[
            row("the same while 10,000 sessions idle, p50 in ms", Tiderace, Goal::Ratio(1.1)),
            row("p99 in ms", Tiderace, Goal::Ratio(1.1)),
            row("p99.9 in ms", Tiderace, Goal::Ratio(1.1)),
        ],
        measure: latency,
    },
    Workload {
        name: "first-frame",
        peers: &[Tiderace, Nginx],
        rows: &[row("time to first frame with a GOP of 2 s, p50 in ms", Nginx, Goal::Figure(5.0))],
        measure: first_frame,
    },
    Workload {
        name: "memory",
        peers: &[Tiderace, TideraceAsleep],
        rows: &[row(
            "10,000 players of one stream, resident bytes each",
            TideraceAsleep,
            Goal::Ratio(1.0),
        )],
        measure: memory,
    },
];

const SESSIONS: usize = 10_000;
/// Flags shared by most loads of streams. The generator busy-polls: otherwise each wakeup of the
/// generator would need an interrupt to the other core. The server would pay for that with up to a
/// quarter of its time, and a faster server would pay more often. Players on other machines cause
/// no such cost.
const STREAMS: &str = "--busy --fps 30 --rate 400 --warmup-s 1 --duration-s 4";
const COST: [&str; 1] = ["server_cpu_s_per_gb"];

fn idle(lab: &Lab, peer: Peer) -> Result<Figures> {
    let figures =
        ["resident_bytes_per_session", "server_idle_cpu_percent", "server_idle_wakeups_per_s"];
    let flags = format!("--sessions {SESSIONS} --rate 2000 --wake 0 --duration-s 4");
    once(lab, peer, "idle", &flags, &figures)
}

fn churn(lab: &Lab, peer: Peer) -> Result<Figures> {
    once(lab, peer, "churn", "--rate 1000 --duration-s 4", &["server_cpu_us_per_session"])
}

fn fanout_16k(lab: &Lab, peer: Peer) -> Result<Figures> {
    once(lab, peer, "fanout", &format!("{STREAMS} --players 200 --bitrate 4M"), &COST)
}

fn fanout_66k(lab: &Lab, peer: Peer) -> Result<Figures> {
    once(lab, peer, "fanout", &format!("{STREAMS} --players 100 --bitrate 16M"), &COST)
}

fn fanout_1k(lab: &Lab, peer: Peer) -> Result<Figures> {
    once(lab, peer, "fanout", &format!("{STREAMS} --players 500 --bitrate 300k"), &COST)
}

/// The warm-up is long enough for the server's GOP cache to fill. The generator sleeps, because the
/// server sends nothing that would wake it, and sends all frames due at the same time together.
fn ingest(lab: &Lab, peer: Peer) -> Result<Figures> {
    let flags = "--fps 30 --rate 400 --warmup-s 3 --duration-s 4 --publishers 100 --bitrate 4M";
    once(lab, peer, "ingest", flags, &COST)
}

fn latency(lab: &Lab, peer: Peer) -> Result<Figures> {
    let server = lab.start(peer)?;
    let crowd =
        matches!(peer, TideraceCrowded).then(|| lab.crowd(&server, SESSIONS)).transpose()?;
    let flags = "--busy --fps 30 --rate 400 --warmup-s 1 --duration-s 8 --players 10 --bitrate 2M";
    let report = lab.load(&server, "fanout", flags)?;
    drop(crowd);
    values(&report, &["latency_p50_ms", "latency_p99_ms", "latency_p999_ms"])
}

/// Players join at all positions of a GOP.
fn first_frame(lab: &Lab, peer: Peer) -> Result<Figures> {
    let flags = "--fps 30 --bitrate 2M --gop-s 2 --players 41 --rate 20 --duration-s 1";
    once(lab, peer, "fanout", flags, &["first_frame_p50_ms"])
}

/// Growth of the server from few to many players of a stream, per player. For sleeping sessions it
/// is the memory of one session.
fn memory(lab: &Lab, peer: Peer) -> Result<Figures> {
    const FEW: usize = 10;
    if peer == TideraceAsleep {
        let idle = idle(lab, peer)?;
        return Ok(idle[..1].to_vec());
    }
    let resident = |players: usize| -> Result<Option<f64>> {
        let flags = "--fps 2 --frame-bytes 1200 --rate 2000 --warmup-s 1 --duration-s 3";
        let server = lab.start(peer)?;
        let report = lab.load(&server, "fanout", &format!("{flags} --players {players}"))?;
        Ok(values(&report, &["server_resident_bytes"])?[0])
    };
    let (few, many) = (resident(FEW)?, resident(FEW + SESSIONS)?);
    Ok(vec![few.zip(many).map(|(few, many)| (many - few) / SESSIONS as f64)])
}

/// Runs one load against a newly started server.
fn once(lab: &Lab, peer: Peer, command: &str, flags: &str, figures: &[&str]) -> Result<Figures> {
    values(&lab.load(&lab.start(peer)?, command, flags)?, figures)
}

fn values(report: &LoadReport, names: &[&str]) -> Result<Figures> {
    let value = |name: &&str| {
        let figure = report.figure(name);
        figure.map(|figure| figure.value).ok_or_else(|| format!("no figure {name} in the report"))
    };
    Ok(names.iter().map(value).collect::<std::result::Result<_, _>>()?)
}
