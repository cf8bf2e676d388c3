//! The same work for Tiderace, nginx-rtmp and both floors of `tiderace load floor`, one after the
//! other and round by round, and the medians of what it cost each of them as a table.
//!
//! ```text
//! cargo bench --bench peers                          all works, five rounds
//! cargo bench --bench peers -- churn --rounds 3      one of them
//! cargo bench --bench peers -- --markdown            the table in Markdown
//! cargo bench --bench peers -- --write               all works, and the table into the manual
//! ```
//!
//! Needs `taskset`, Debian's `nginx` and `libnginx-mod-rtmp`, and a machine that does nothing else:
//! the server has a core, the load another. All is on the loopback network. nginx runs with a
//! configuration of its own, in the foreground; the service that its package brings is left alone.
//!
//! Owns the order of the runs. `works` is what is measured and what is to be reached, `lab` starts
//! programs and ends them, `peer` is who is measured, `table` what is made of the figures.

#[allow(dead_code, reason = "what the suites need of it as well")]
#[path = "../../tests/suite/manual/generated.rs"]
mod generated;
mod lab;
mod peer;
mod table;
mod works;

use std::error::Error;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};

use generated::Part;
use lab::Lab;
use peer::Peer;
use table::Outcome;
use works::{Figures, WORKS, Work};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A run whose generator did not keep up is made again so many times.
const REPEATS_MAX: u32 = 2;

/// Compares what work costs Tiderace, nginx-rtmp and a bare relay.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure: everything, unless it is named.
    #[arg(value_name = "WORK", value_parser = PossibleValuesParser::new(WORKS.map(|w| w.name)))]
    works: Vec<String>,
    /// How many times each is measured; medians are of these.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print the rows of a table in Markdown.
    #[arg(long)]
    markdown: bool,
    /// Write the table of all works to the manual (src/manual/figures.md).
    #[arg(long, conflicts_with = "works")]
    write: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
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
    let is_asked_for =
        |work: &&Work| args.works.is_empty() || args.works.iter().any(|name| name == work.name);
    let mut outcomes: Vec<_> = WORKS.iter().filter(is_asked_for).map(Outcome::new).collect();
    let peers = outcomes.iter().flat_map(|outcome| outcome.work.peers);
    if peers.into_iter().any(|peer| *peer == Peer::Nginx) {
        peer::install_nginx()?;
    }
    let lab = Lab::open()?;
    let mut tally = Tally::default();
    let measured = (0..args.rounds)
        .try_for_each(|round| measure_round(&lab, &mut outcomes, &mut tally, round));
    // What was measured before something failed is told nevertheless.
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

/// Gives each work to each of its peers once. Another one begins each round.
fn measure_round(lab: &Lab, outcomes: &mut [Outcome], tally: &mut Tally, round: u32) -> Result<()> {
    for outcome in outcomes {
        let peers = outcome.work.peers;
        let first = round as usize % peers.len();
        for &peer in peers[first..].iter().chain(&peers[..first]) {
            let figures = measure(lab, outcome.work, peer, tally)
                .map_err(|error| format!("{}, {}: {error}", outcome.work.name, peer.name()))?;
            let shown: Vec<_> = figures.iter().map(|figure| table::number(*figure)).collect();
            let (work, peer_name, shown) = (outcome.work.name, peer.name(), shown.join(", "));
            eprintln!("round {}: {work}, {peer_name}: {shown}", round + 1);
            outcome.note(round, peer, figures);
        }
    }
    Ok(())
}

/// Measures once, and again where the generator did not keep up.
fn measure(lab: &Lab, work: &Work, peer: Peer, tally: &mut Tally) -> Result<Figures> {
    for repeat in 0.. {
        let figures = (work.measure)(lab, peer)?;
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

/// How often the generator kept up.
#[derive(Debug, Default)]
struct Tally {
    runs: u32,
    /// Runs that were made again.
    repeated: u32,
    /// Runs that were late each time.
    lagged: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { runs, repeated, lagged } = self;
        write!(f, "{runs} runs; {repeated} were made again because the generator did not keep up")?;
        if *lagged > 0 {
            write!(
                f,
                ", and {lagged} had one that was late in all {} attempts: what depends on time is \
                 left out of these, costs are not",
                REPEATS_MAX + 1
            )?;
        }
        Ok(())
    }
}
