//! The attack suite: hostile clients against the real server, with healthy clients beside them.
//!
//! ```text
//! tests/run attack            all cases, and the table
//! tests/run attack A13 B      the cases whose names start with A13 or B
//! ```
//!
//! `tests/run` builds the release build of the server. `cargo test --test attack` attacks the build
//! of its own profile. `TIDERACE_PROGRAM` names another program.
//!
//! `cases/` has the actions of each case. `trial.rs` has the checks that apply to all cases.
//! `README.md` explains the table. If the system allows it (`unshare`), the suite runs in its own
//! network namespace, where all ports are free and an address can be removed.

mod attacker;
mod cases;
mod flood;
mod healthy;
mod server;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod table;
mod trial;

use std::collections::VecDeque;
use std::env;
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use cases::{Case, GROUPS, Group, Run};
use server::Server;
use support::wire;
use table::Row;
use trial::{Arena, Trial, Verdict};

/// Groups of cases that run in parallel, because most of them only wait.
const LANES: usize = 3;
/// Set inside the network namespace.
const INSIDE: &str = "TIDERACE_ATTACK_NETWORK";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        GROUPS.iter().flat_map(|group| group.cases).for_each(|case| println!("{}: test", case.id));
        return ExitCode::SUCCESS;
    }
    enter_own_network(&args);
    tiderace::descriptors::raise_limit();
    if !Server::is_named() {
        println!("attack: the server is {}", support::program::path().display());
    }
    let asked: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_asked = |case: &Case| {
        asked.is_empty() || asked.iter().any(|start| case.id.starts_with(start.as_str()))
    };
    let began = Instant::now();
    let mut rows = run(is_asked);
    if rows.is_empty() {
        println!("attack: no case matches");
        return ExitCode::FAILURE;
    }
    rows.sort_by_key(|row| row.id);
    report(&rows, began);
    let all_ran = asked.is_empty() && !Server::is_named();
    let lacks = if all_ran { table::keep(&rows) } else { Vec::new() };
    lacks.iter().for_each(|lack| println!("FAILED: {lack}"));
    if lacks.is_empty() && rows.iter().all(|row| row.verdict.failures.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Returns whether the suite runs in its own network namespace.
pub(crate) fn has_own_network() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Restarts this program in a network namespace, unless the server to attack is outside of it or
/// the system does not allow it.
fn enter_own_network(args: &[String]) {
    if Server::is_named() || has_own_network() {
        return;
    }
    let up = "ip link set lo up && exec \"$@\"";
    let inside = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["-rn", "sh", "-c", up, "sh"]).args(command);
        unshare
    };
    let is_allowed = inside(&["true"]).output().is_ok_and(|output| output.status.success());
    let program = env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
    if let Some(program) = program.filter(|_| is_allowed) {
        // This returns only on failure. Then the suite runs without a namespace.
        drop(inside(&[&program]).args(args).env(INSIDE, "1").exec());
    }
    println!("attack: no network namespace (unshare -rn), so cases that need one are skipped");
}

fn run(is_asked: impl Fn(&Case) -> bool + Sync) -> Vec<Row> {
    let groups: VecDeque<&Group> = GROUPS.iter().collect();
    let (groups, rows) = (Mutex::new(groups), Mutex::new(Vec::new()));
    let next = || groups.lock().expect("no lane panics with it").pop_front();
    // Groups that share one server would disturb each other's measurements.
    let count = if Server::is_named() { 1 } else { LANES };
    thread::scope(|lanes| {
        for _ in 0..count {
            lanes.spawn(|| {
                while let Some(group) = next() {
                    let cases: Vec<_> = group.cases.iter().filter(|case| is_asked(case)).collect();
                    run_group(group, &cases, |row| {
                        println!("{:>5.1} s  {}", row.took.as_secs_f64(), row.line());
                        row.verdict
                            .failures
                            .iter()
                            .for_each(|f| println!("FAILED {}: {f}", row.id));
                        rows.lock().expect("no lane panics with it").push(row);
                    });
                }
            });
        }
    });
    rows.into_inner().expect("all lanes are done")
}

fn run_group(group: &Group, cases: &[&Case], mut done: impl FnMut(Row)) {
    let needs_ring = |case: &&Case| matches!(case.run, Run::Beside(_));
    let elsewhere = Server::is_named();
    if elsewhere && !group.any_server {
        return;
    }
    let arena = cases.iter().any(needs_ring).then(|| Arena::open(&group.setup));
    for case in cases {
        let began = Instant::now();
        let (verdict, measured) = match (case.run, &arena) {
            (Run::Beside(attack), Some(Ok(arena))) => {
                let mut trial = Trial::begin(arena);
                let outcome = panic::catch_unwind(AssertUnwindSafe(|| attack(&mut trial)));
                trial.verdict.expect(outcome.is_ok(), || "the case itself panicked".to_owned());
                let (verdict, measured) = trial.judge();
                (verdict, Some(measured))
            }
            (Run::Beside(_), Some(Err(error))) => (failed(error.clone()), None),
            (Run::Nowhere(why), _) if !elsewhere => {
                let figures = vec![why.to_owned()];
                (Verdict { figures, ..Verdict::default() }, None)
            }
            _ => continue,
        };
        done(Row { id: case.id, what: case.what, measured, verdict, took: began.elapsed() });
    }
}

fn failed(why: String) -> Verdict {
    Verdict { failures: vec![why], ..Verdict::default() }
}

fn report(rows: &[Row], began: Instant) {
    if rows.is_empty() {
        return;
    }
    println!("\n{}", Row::HEAD);
    rows.iter().for_each(|row| println!("{}", row.line()));
    let failed = rows.iter().filter(|row| !row.verdict.failures.is_empty()).count();
    let measured = || rows.iter().filter_map(|row| row.measured.as_ref());
    let ratio = measured().filter_map(|measured| measured.amplification).fold(0.0, f64::max);
    println!(
        "\n{} cases, {failed} failed, {} frames of the others lost, at most {ratio:.2} bytes out \
         for a byte in, {:.0} s",
        rows.len(),
        measured().map(|measured| measured.lost).sum::<u64>(),
        began.elapsed().as_secs_f64()
    );
    for row in rows {
        row.verdict.failures.iter().for_each(|failure| println!("FAILED {}: {failure}", row.id));
    }
}
