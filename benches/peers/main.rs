//! Compares Tiderace with nginx-rtmp, with servers of the user, and with the variants of
//! `tiderace load floor`: the same workloads one after the other, round by round. The result is a
//! table of costs with intervals and verdicts.
//!
//! ```text
//! cargo bench --bench peers                              all workloads, ten rounds: some hours
//! cargo bench --bench peers -- churn --rounds 6          one of them
//! cargo bench --bench peers -- --window-s 4 --rounds 1   a trial
//! cargo bench --bench peers -- --write                   keeps the results, and writes the manual
//! cargo bench --bench peers -- --server 'LABEL=COMMAND'  another server beside
//! ```
//!
//! This needs `taskset`, Debian's `nginx` and `libnginx-mod-rtmp`, and an otherwise idle machine:
//! the server has one core, the load another. All traffic is on loopback. nginx runs in the
//! foreground with a configuration of its own. The service of its package is left alone.
//!
//! Owns the order of the runs. `workloads` lists the workloads with their goals, `lab` starts
//! and ends programs, `peer` lists the servers, `results` makes rows from rounds with `statistics`,
//! `record` keeps the raw results, and `table` prints them.

#[allow(dead_code, reason = "what the suites need of it as well")]
#[path = "../../tests/suite/manual/generated.rs"]
mod generated;
mod lab;
mod peer;
mod record;
mod results;
mod statistics;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod workloads;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};
use tiderace::load::options::seconds;
use tiderace::load::report::LoadReport;

use generated::Part;
use lab::Lab;
use peer::{Peer, UserServer};
use record::Record;
use results::Outcome;
use workloads::{WORKLOADS, Workload};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Number of repetitions of a run whose generator did not keep up.
const REPEATS_MAX: u32 = 2;

/// Compares the cost of workloads for Tiderace, other servers and a bare relay.
#[derive(Debug, Parser)]
struct Args {
    /// The workloads to measure; all by default.
    #[arg(value_name = "WORKLOAD", value_parser = workload_names())]
    workloads: Vec<String>,
    /// Number of undisturbed rounds. Disturbed ones are repeated, at most as many again.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of a window in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    window_s: Duration,
    /// A server to measure as well: a line of the shell that serves RTMP on {address} ({host} and
    /// {port}) until it is killed, with its files in {folder}. May be repeated.
    #[arg(long, value_name = "LABEL=COMMAND", value_parser = UserServer::parse)]
    server: Vec<UserServer>,
    /// Print the table in Markdown.
    #[arg(long)]
    markdown: bool,
    /// Keep the results in benches/peers/last.json, and write the table of all that it holds to the
    /// manual (src/manual/figures.md).
    #[arg(long)]
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
    let selected: Vec<_> = WORKLOADS.iter().filter(is_selected).collect();
    let mut peers = selected.iter().flat_map(|workload| workload.peers);
    if peers.any(|peer| matches!(peer, Peer::Nginx | Peer::NginxTuned)) {
        peer::install_nginx()?;
    }
    check_labels(&selected, &args.server)?;
    let mut lab = Lab::open(args.server.clone(), args.window_s)?;
    let (mut measured, mut tally) = (Record::default(), Tally::default());
    let mut failed = Vec::new();
    for workload in selected {
        // One workload that fails does not cost the others, which may have hours to go.
        if let Err(error) = measure_workload(&mut lab, workload, args, &mut measured, &mut tally) {
            eprintln!("{}: {error}", workload.name);
            failed.push(workload.name);
        }
        if lab.check_interrupted().is_err() {
            break;
        }
    }
    if !measured.workloads.is_empty() {
        let table = if args.markdown { table::markdown } else { table::plain };
        print!("{}", table(&measured));
        println!("\n{tally}");
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

/// Checks that each label stands for one server only.
fn check_labels(selected: &[&Workload], users: &[UserServer]) -> Result<()> {
    let all = selected.iter().flat_map(|workload| workload.peers);
    let known: Vec<_> = all.map(|peer| peer.label(users)).collect();
    for (index, UserServer { label, .. }) in users.iter().enumerate() {
        if known.contains(label) || users[..index].iter().any(|other| other.label == *label) {
            return Err(format!("--server: the label {label} stands for another server").into());
        }
    }
    Ok(())
}

/// Writes the results of a workload to the record, and the table of the record to the manual.
fn keep(work: record::Work) -> Result<()> {
    let mut record = Record::read()?;
    record.put(work, &WORKLOADS.map(|workload| workload.name));
    std::fs::write(Record::path(), record.to_json()?)?;
    Part::find("figures.md", "peers").write(&table::markdown(&record));
    Ok(())
}

/// Measures a workload, or skips it if it needs a namespace that cannot be made.
fn measure_workload(
    lab: &mut Lab,
    workload: &Workload,
    args: &Args,
    measured: &mut Record,
    tally: &mut Tally,
) -> Result<()> {
    if let Err(error) = lab.share_core(workload.shares_core) {
        eprintln!("{} is skipped: {error}", workload.name);
        return Ok(());
    }
    let work = measure_rounds(lab, workload, args.rounds, tally)?.into_work(lab)?;
    measured.put(work.clone(), &WORKLOADS.map(|workload| workload.name));
    if args.write { keep(work) } else { Ok(()) }
}

/// Measures until there are enough rounds that count.
fn measure_rounds<'a>(
    lab: &Lab,
    workload: &'a Workload,
    rounds: u32,
    tally: &mut Tally,
) -> Result<Outcome<'a>> {
    let users = (0..lab.users.len()).map(Peer::User).filter(|_| workload.with_users);
    let peers: Vec<_> = workload.peers.iter().copied().chain(users).collect();
    let mut outcome = Outcome::new(workload, peers.clone());
    let (wanted, most) = (rounds as usize, 2 * rounds as usize);
    while outcome.clean_rounds() < wanted && outcome.rounds() < most {
        measure_round(lab, workload, &peers, &mut outcome, tally)?;
        if outcome.clean_rounds() >= wanted {
            tally.disturbed += outcome.mark_outliers(lab) as u32;
        }
    }
    Ok(outcome)
}

/// Runs the workload once on each server, in every second round in reverse order, so that a drift
/// of the machine meets both ends alike.
fn measure_round(
    lab: &Lab,
    workload: &Workload,
    peers: &[Peer],
    outcome: &mut Outcome<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let mut order = peers.to_vec();
    if !outcome.rounds().is_multiple_of(2) {
        order.reverse();
    }
    let mut reports = Vec::new();
    for peer in order {
        let label = peer.label(&lab.users);
        let report =
            measure(lab, workload, peer, tally).map_err(|error| format!("{label}: {error}"))?;
        eprintln!("round {}: {}, {label}", outcome.rounds() + 1, workload.name);
        reports.push((peer, report));
    }
    let clean_before = outcome.clean_rounds();
    outcome.add(lab, reports);
    tally.disturbed += u32::from(outcome.clean_rounds() == clean_before);
    Ok(())
}

/// Measures once, and again if the generator did not keep up.
fn measure(lab: &Lab, workload: &Workload, peer: Peer, tally: &mut Tally) -> Result<LoadReport> {
    for repeat in 0.. {
        // A flag that is left of an earlier server does not count.
        lab.take_lagged();
        let report = (workload.measure)(lab, workload, peer)?;
        tally.runs += 1;
        // A search for the limit finds a generator that lags as a rule.
        if !lab.take_lagged() || workload.shares_core {
            return Ok(report);
        }
        if repeat == REPEATS_MAX {
            tally.lagged += 1;
            return Ok(report);
        }
        tally.repeated += 1;
    }
    unreachable!("the loop ends with the last repeat")
}

/// Counts how often the generator kept up, and how often the machine did something else.
#[derive(Debug, Default)]
struct Tally {
    runs: u32,
    /// Runs that were repeated.
    repeated: u32,
    /// Runs whose generator was late in every attempt.
    lagged: u32,
    /// Rounds that do not count.
    disturbed: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { runs, repeated, lagged, disturbed } = self;
        write!(f, "{runs} runs; {repeated} were repeated because the generator did not keep up")?;
        if *lagged > 0 {
            write!(
                f,
                ", and {lagged} were late in all {} attempts: figures that depend on time are left \
                 out of these, costs are not",
                REPEATS_MAX + 1
            )?;
        }
        if *disturbed > 0 {
            write!(f, "; {disturbed} rounds were disturbed from outside and do not count")?;
        }
        Ok(())
    }
}
