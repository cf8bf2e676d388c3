//! The load generator with several numbers of players in one run: the search for capacity, and
//! ramps.

use std::fs;
use std::path::PathBuf;

use tiderace::load::report::{LoadReport, StepOutcome};

use crate::load_runs::{NEVER_LATE, report};
use crate::relay::{Plan, Relay};
use crate::support::program;
use crate::support::server::Start;

const FLAGS: &str = "--fps 50 --frame-bytes 500 --gop-s 0.1 --rate 500 --warmup-s 0.3 \
     --duration-s 0.6";

#[test]
fn search_finds_the_most_players_that_a_server_serves_whole() {
    let relay = Relay::start(Plan { players_max: 5, ..Plan::default() });
    let report = fanout(&relay.address.to_string(), "--players 2 --search p99_ms<60000");
    assert_eq!(value(&report, "players_held_max"), Some(5.0), "{:?}", report.steps);
    assert_eq!(value(&report, "players_missed_min"), Some(6.0), "{:?}", report.steps);
    assert_eq!(value(&report, "players"), Some(5.0));
    assert_eq!(value(&report, "frames_lost"), Some(0.0));
    assert_eq!(value(&report, "frames_expected"), Some(5.0 * 30.0));
    let missed = report.steps.iter().filter(|step| step.outcome == Some(StepOutcome::Missed));
    assert!(missed.clone().all(|step| step.players > 5));
    assert!(missed.clone().all(|step| step.reason.as_ref().unwrap().ends_with("frames were lost")));
    // Players left after the steps that missed, and others joined for the steps between.
    assert!(report.steps.iter().rev().any(|step| step.players == 5));
    assert!(missed.count() >= 4, "{:?}", report.steps);
}

#[test]
fn search_with_a_generator_that_lags_blames_no_server_and_believes_what_holds() {
    let relay = Relay::start(Plan::default());
    let flags =
        format!("{FLAGS} --lateness-max-ms 0.0001 --players 2 --search-players-max 4 --search");
    let mut search = command(&relay.address.to_string(), &format!("{flags} p99_ms<60000"));
    let held = report(&search.output().unwrap());
    assert_eq!(value(&held, "players_held_max"), Some(4.0), "own delays only add to the times");
    let flags = format!("{flags} p99_ms<0.000001");
    let output = command(&relay.address.to_string(), &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(14), "{output:?}");
    let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert!(report.steps.iter().all(|step| step.outcome == Some(StepOutcome::CannotTell)));
    assert_eq!(value(&report, "players_held_max"), None);
    assert_eq!(value(&report, "players_missed_min"), None);
}

#[test]
fn search_by_an_unknown_figure_ends_with_the_similar_ones() {
    let relay = Relay::start(Plan::default());
    let flags = format!("{FLAGS} --search p98_ms<5");
    let output = command(&relay.address.to_string(), &flags).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("p98_ms<5: no such figure"), "{line}");
}

#[test]
fn every_step_of_a_ramp_counts_its_own_frames() {
    let server = Start::new("ramp", "").start();
    for flags in ["--ramp 3,6,2,6", "--ramp 3,6,2,6 --publishers 2"] {
        let report = fanout(&server.address.to_string(), flags);
        let steps = report.steps.iter().map(|step| (step.players, step.value("frames_lost_share")));
        let expected = [3, 6, 2, 6].map(|players| (players, Some(0.0)));
        assert!(steps.eq(expected), "{:?}", report.steps);
        assert_eq!(value(&report, "players"), Some(6.0));
        assert_eq!(value(&report, "frames_expected"), Some(6.0 * 30.0));
        assert_eq!(value(&report, "frames_corrupt"), Some(0.0));
    }
}

#[test]
fn each_window_of_a_long_run_is_a_line_of_a_file() {
    let relay = Relay::start(Plan::default());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("windows.jsonl");
    let flags = format!("--players 2 --windows 3 --jsonl {}", file.display());
    let report = fanout(&relay.address.to_string(), &flags);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), report.steps.len()), (3, 3), "{text}");
    for (line, step) in lines.iter().zip(&report.steps) {
        assert_eq!(line["players"], 2);
        assert_eq!(line["frames_expected"], 2.0 * 30.0);
        assert_eq!(line["frames_lost_share"], 0.0);
        assert_eq!(line["from_s"], step.from_s);
    }
    let missing = format!("{FLAGS} --jsonl {}/none/file", file.display());
    let output = command(&relay.address.to_string(), &missing).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}

fn fanout(address: &str, flags: &str) -> LoadReport {
    let flags = format!("{FLAGS} {flags} {}", NEVER_LATE.join(" "));
    report(&command(address, &flags).output().unwrap())
}

fn command(address: &str, flags: &str) -> std::process::Command {
    let mut command = program::tiderace();
    command.args(["load", "fanout", &format!("rtmp://{address}/live/show")]);
    command.args(flags.split_whitespace()).args(["--quiet", "--json", "-"]);
    command
}

fn value(report: &LoadReport, name: &str) -> Option<f64> {
    report.figure(name).unwrap_or_else(|| panic!("no figure {name}")).value
}
