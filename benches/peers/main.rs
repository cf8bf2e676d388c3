//! Compares Tiderace with nginx-rtmp and with both variants of `tiderace load floor`: the same
//! workloads one after the other, round by round. The result is a table of median costs.
//!
//! ```text
//! cargo bench --bench peers                          all workloads, five rounds
//! cargo bench --bench peers -- churn --rounds 3      one of them
//! cargo bench --bench peers -- --markdown            the table in Markdown
//! cargo bench --bench peers -- --write               all workloads, and the table into the manual
//! ```
//!
//! This needs `taskset`, Debian's `nginx` and `libnginx-mod-rtmp`, and an otherwise idle machine:
//! the server has one core, the load another. All traffic is on loopback. nginx runs in the
//! foreground with a configuration of its own. The service of its package is left alone.
//!
//! Owns the order of the runs. `workloads` lists the workloads with their goals, `lab` starts
//! and ends programs, `peer` lists the servers, and `table` prints the figures.

#[allow(dead_code, reason = "what the suites need of it as well")]
#[path = "../../tests/suite/manual/generated.rs"]
mod generated;
mod lab;
mod peer;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod workloads;

use std::error::Error;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};

use generated::Part;
use lab::Lab;
use peer::Peer;
use table::Outcome;
use workloads::{Figures, WORKLOADS, Workload};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Number of repetitions of a run whose generator did not keep up.
const REPEATS_MAX: u32 = 2;

/// Compares the cost of workloads for Tiderace, nginx-rtmp and a bare relay.
#[derive(Debug, Parser)]
struct Args {
    /// The workloads to measure; all by default.
    #[arg(value_name = "WORKLOAD", value_parser = workload_names())]
    workloads: Vec<String>,
    /// Number of rounds. The figures are medians over the rounds.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print the table in Markdown.
    #[arg(long)]
    markdown: bool,
    /// Write the table of all workloads to the manual (src/manual/figures.md).
    #[arg(long, conflicts_with = "workloads")]
    write: bool,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn workload_names() -> PossibleValuesParser {
    PossibleValuesParser::new(WORKLOADS.map(|workload| workload.name))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let is_selected = |workload: &&Workload| {
        args.workloads.is_empty() || args.workloads.iter().any(|name| name == workload.name)
    };
    let mut outcomes: Vec<_> = WORKLOADS.iter().filter(is_selected).map(Outcome::new).collect();
    let peers = outcomes.iter().flat_map(|outcome| outcome.workload.peers);
    if peers.into_iter().any(|peer| *peer == Peer::Nginx) {
        peer::install_nginx()?;
    }
    let lab = Lab::open()?;
    let mut tally = Tally::default();
    let measured = (0..args.rounds)
        .try_for_each(|round| measure_round(&lab, &mut outcomes, &mut tally, round));
    // Results from before a failure are printed nevertheless.
    if tally.runs > 0 {
        print!("{}", table::head(&lab, args.markdown));
        print!("{}", table::rows(&outcomes, args.markdown));
        println!("\n{tally}");
    }
    measured?;
    if args.write {
        let table = [table::head(&lab, true), table::rows(&outcomes, true)].concat();
        Part::find("figures.md", "peers").write(&table);
    }
    Ok(())
}

/// Runs each workload once on each of its servers. Each round starts with a different server.
fn measure_round(lab: &Lab, outcomes: &mut [Outcome], tally: &mut Tally, round: u32) -> Result<()> {
    for outcome in outcomes {
        let peers = outcome.workload.peers;
        let first = round as usize % peers.len();
        for &peer in peers[first..].iter().chain(&peers[..first]) {
            let figures = measure(lab, outcome.workload, peer, tally)
                .map_err(|error| format!("{}, {}: {error}", outcome.workload.name, peer.name()))?;
            let shown: Vec<_> = figures.iter().map(|figure| table::number(*figure)).collect();
            let (work, peer_name, shown) = (outcome.workload.name, peer.name(), shown.join(", "));
            eprintln!("round {}: {work}, {peer_name}: {shown}", round + 1);
            outcome.note(round, peer, figures);
        }
    }
    Ok(())
}

/// Measures once, and again if the generator did not keep up.
fn measure(lab: &Lab, workload: &Workload, peer: Peer, tally: &mut Tally) -> Result<Figures> {
    for repeat in 0.. {
        let figures = (workload.measure)(lab, peer)?;
        tally.runs += 1;
        if !lab.take_lagged() {
            return Ok(figures);
        }
        if repeat == REPEATS_MAX {
            tally.lagged += 1;
            return Ok(figures);
        }
        tally.repeated += 1;
    }
    unreachable!("the loop ends with the last repeat")
}

/// Counts how often the generator kept up.
#[derive(Debug, Default)]
struct Tally {
    runs: u32,
    /// Runs that were repeated.
    repeated: u32,
    /// Runs whose generator was late in every attempt.
    lagged: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { runs, repeated, lagged } = self;
        write!(f, "{runs} runs; {repeated} were repeated because the generator did not keep up")?;
        if *lagged > 0 {
            write!(
                f,
                ", and {lagged} were late in all {} attempts: figures that depend on time are left \
                 out of these, costs are not",
                REPEATS_MAX + 1
            )?;
        }
        Ok(())
    }
}
