//! What is measured: the table of works, each with its peers, its rows and what is to be reached.
//!
//! Owns the flags of each load and which figures of a report count. A work is bounded in time by
//! its flags: all of them take some six minutes a round.

use tiderace::load::report::LoadReport;

use crate::Result;
use crate::lab::Lab;
use crate::peer::Peer::{
    self, Nginx, SendfileFloor, Tiderace, TideraceAsleep, TideraceCrowded, TideraceMerging,
    WriteFloor,
};

/// What a report says, in the order of the rows; what it withholds is none.
pub(crate) type Figures = Vec<Option<f64>>;

/// What a server is given to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Who does it. The first is the one that has goals.
    pub(crate) peers: &'static [Peer],
    /// What is told of it: one line for each figure that `measure` gives.
    pub(crate) rows: &'static [Row],
    /// Does it once.
    pub(crate) measure: fn(&Lab, Peer) -> Result<Figures>,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    /// Whom the first peer is set against, round by round.
    pub(crate) reference: Option<Peer>,
    pub(crate) goal: Goal,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// A figure of this or less.
    Figure(f64),
    /// This part of the reference or less.
    Ratio(f64),
}

const fn row(title: &'static str, reference: Peer, goal: Goal) -> Row {
    Row { title, reference: Some(reference), goal }
}

const ALL: &[Peer] = &[Tiderace, Nginx, WriteFloor, SendfileFloor];

pub(crate) const WORKS: [Work; 11] = [
    Work {
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
    Work {
        name: "churn",
        peers: &[Tiderace, Nginx],
        rows: &[row(
            "a session from accept to connected to closed, µs of CPU",
            Nginx,
            Goal::Ratio(0.7),
        )],
        measure: churn,
    },
    Work {
        name: "fanout-16k",
        peers: ALL,
        rows: &[row(
            "200 players x 4 Mbit/s (16 KB frames), CPU s per GB",
            WriteFloor,
            Goal::Ratio(1.0),
        )],
        measure: fanout_16k,
    },
    Work {
        name: "merge",
        peers: &[TideraceMerging, WriteFloor],
        rows: &[row("the same with merge_ms = 350, CPU s per GB", WriteFloor, Goal::Ratio(0.5))],
        measure: fanout_16k,
    },
    Work {
        name: "fanout-66k",
        peers: ALL,
        rows: &[row(
            "100 players x 16 Mbit/s (66 KB frames), CPU s per GB",
            WriteFloor,
            Goal::Ratio(0.85),
        )],
        measure: fanout_66k,
    },
    Work {
        name: "fanout-1k",
        peers: ALL,
        rows: &[row(
            "500 players x 300 kbit/s (1.2 KB frames), CPU s per GB",
            WriteFloor,
            Goal::Ratio(1.05),
        )],
        measure: fanout_1k,
    },
    Work {
        name: "ingest",
        peers: &[Tiderace, Nginx, WriteFloor],
        rows: &[row(
            "100 publishers x 4 Mbit/s and no players, CPU s per GB",
            WriteFloor,
            Goal::Ratio(1.1),
        )],
        measure: ingest,
    },
    Work {
        name: "latency",
        peers: ALL,
        rows: &[
            row("latency of 10 players x 2 Mbit/s, p50 in ms", WriteFloor, Goal::Ratio(1.15)),
            row("p99 in ms", WriteFloor, Goal::Ratio(1.15)),
            row("p99.9 in ms", WriteFloor, Goal::Ratio(1.15)),
        ],
        measure: latency,
    },
    Work {
        name: "crowded",
        peers: &[TideraceCrowded, Tiderace],
        rows: &[
            row("the same while 10,000 sessions idle, p50 in ms", Tiderace, Goal::Ratio(1.1)),
            row("p99 in ms", Tiderace, Goal::Ratio(1.1)),
            row("p99.9 in ms", Tiderace, Goal::Ratio(1.1)),
        ],
        measure: latency,
    },
    Work {
        name: "first-frame",
        peers: &[Tiderace, Nginx],
        rows: &[row("time to first frame with a GOP of 2 s, p50 in ms", Nginx, Goal::Figure(5.0))],
        measure: first_frame,
    },
    Work {
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
/// What all loads of streams have in common, but for those that say otherwise. The generator never
/// sleeps: to wake it takes an interrupt to the other core, for which the server would pay, with up
/// to a quarter of its time, and the oftener the faster it is. No player elsewhere costs it that.
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

/// What a server keeps of a GOP is there when the measurement begins. The generator sleeps, as
/// nobody wakes it here, and sends what is due at one time at once.
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

/// Players come throughout a GOP.
fn first_frame(lab: &Lab, peer: Peer) -> Result<Figures> {
    let flags = "--fps 30 --bitrate 2M --gop-s 2 --players 41 --rate 20 --duration-s 1";
    once(lab, peer, "fanout", flags, &["first_frame_p50_ms"])
}

/// What a server has grown by from few players to many of the same stream, for each; or what a
/// session that sleeps takes.
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

/// Runs one load against a server of its own.
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
