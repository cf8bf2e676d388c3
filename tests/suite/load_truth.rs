//! The load generator tells the truth: against a relay that drops, doubles, reorders, damages and
//! delays known frames it reports those, and where it cannot know it says so.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tiderace::load::report::{Distribution, LoadReport, ThresholdVerdict};

use crate::load_runs::report;
use crate::relay::{Fate, Plan, Relay};
use crate::support::program;
use crate::support::server::{Start, http_of};

const PLAYERS: u64 = 3;
const FPS: u64 = 50;
const DURATION_S: u64 = 4;
/// What is published and for how long. A machine that is busy with other tests makes the generator
/// late, and what is asked here are bounds from below, so that hides nothing.
const FLAGS: &str = "--players 3 --fps 50 --frame-bytes 3000 --gop-s 0.1 --warmup-s 0.5 \
     --duration-s 4 --lateness-max-ms 60000";

/// Players over HTTP-FLV, of the same server.
const HTTP: &str = "--play-url http://ADDRESS/live/show.flv";

/// A frame that falls in the window, by its number since the last player came: the window opens
/// some 30 frames after that, and is open for 200.
const IN_WINDOW: u64 = 80;
/// Longer than any of these measurements.
const AFTER_ALL: Duration = Duration::from_secs(20);

#[test]
fn frames_that_are_dropped_doubled_reordered_and_damaged_are_each_counted() {
    let fate = |number: u64| match number.wrapping_sub(IN_WINDOW) {
        0 | 10 | 11 => Fate::Drop,
        20 | 30 => Fate::Twice,
        40 => Fate::Behind,
        50..54 => Fate::Damage,
        _ => Fate::Pass,
    };
    for wire in ["--wire rtmp", "--wire floor", HTTP] {
        let relay = Relay::start(Plan { fate, ..Plan::default() });
        let report = measured(&relay, &format!("{FLAGS} {wire}"));
        let expected = PLAYERS * FPS * DURATION_S;
        for (name, count) in [
            ("players", PLAYERS),
            ("frames_expected", expected),
            ("frames_received", expected - 3 * PLAYERS),
            ("frames_lost", 3 * PLAYERS),
            ("frames_duplicated", 2 * PLAYERS),
            ("frames_out_of_order", PLAYERS),
            ("frames_corrupt", 4 * PLAYERS),
        ] {
            assert_eq!(value(&report, name), count as f64, "{name} with {wire}");
        }
        let losses: f64 = points(&report, "losses").map(|(_, lost)| lost).sum();
        assert_eq!(losses, 3.0 * PLAYERS as f64, "{wire}");
        let players = points(&report, "players").map(|(_, players)| players);
        assert_eq!(players.fold(0.0, f64::max), PLAYERS as f64, "{wire}");
        assert!(points(&report, "throughput").any(|(_, rate)| rate > 0.0), "{wire}");
        assert!(report.doubts.iter().any(|doubt| doubt.starts_with("frames were lost")));
    }
}

/// What a real stream has: audio, keyframes much larger than other frames, small chunks, streams
/// that are not synchronized, and players that come at random.
const LIKE_LIFE: &str = "--audio-bitrate 96k --keyframe-ratio 6 --chunk-size 4096 --seed 5 \
     --arrivals poisson";

#[test]
fn audio_frames_that_are_dropped_doubled_and_damaged_are_counted_apart() {
    let audio_fate = |number: u64| match number.wrapping_sub(IN_WINDOW) {
        0 | 10 => Fate::Drop,
        20 => Fate::Twice,
        30..33 => Fate::Damage,
        _ => Fate::Pass,
    };
    for wire in ["--wire rtmp", "--wire floor", HTTP] {
        let relay = Relay::start(Plan { audio_fate, ..Plan::default() });
        let report = measured(&relay, &format!("{FLAGS} {LIKE_LIFE} {wire}"));
        for (name, count) in [
            ("frames_expected", PLAYERS * FPS * DURATION_S),
            ("frames_lost", 0),
            ("frames_corrupt", 0),
            ("audio_frames_lost", 2 * PLAYERS),
            ("audio_frames_duplicated", PLAYERS),
            ("audio_frames_corrupt", 3 * PLAYERS),
        ] {
            assert_eq!(value(&report, name), count as f64, "{name} with {wire}");
        }
        // 46.875 frames a second.
        let expected = value(&report, "audio_frames_expected") / PLAYERS as f64;
        assert!((187.0..=188.0).contains(&expected), "{expected} with {wire}");
        let checked = distribution(&report, "audio_latency").histogram().len();
        assert_eq!(checked, (expected as u64 - 2 - 3) * PLAYERS, "whole frames have a latency");
        let bytes = value(&report, "delivered_bytes");
        let mean = 3000.0 * (FPS * DURATION_S) as f64 + 256.0 * expected;
        assert!((bytes / (mean * PLAYERS as f64) - 1.0).abs() < 0.05, "{bytes} with {wire}");
    }
}

#[test]
fn one_frame_in_a_hundred_that_comes_late_is_seen_in_the_tail_alone() {
    const LATE: Duration = Duration::from_millis(200);
    let fate = |number| if number % 100 == 99 { Fate::Late(LATE) } else { Fate::Pass };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    let report = measured(&relay, FLAGS);
    // Of any 200 frames these are two.
    let late = 2 * PLAYERS;
    assert_eq!(value(&report, "frames_lost"), 0.0);
    assert_eq!(value(&report, "frames_out_of_order"), late as f64);
    let latency = distribution(&report, "latency");
    assert_eq!(latency.histogram().len(), PLAYERS * FPS * DURATION_S);
    assert!(later_than(latency, LATE) >= late);
    assert!(value(&report, "p999_ms") >= 199.0);
    assert!(value(&report, "p50_ms") < 200.0);
}

#[test]
fn a_server_that_stalls_makes_every_frame_late_that_was_intended_meanwhile() {
    const STALL: Duration = Duration::from_millis(500);
    let fate = |number| if number == IN_WINDOW { Fate::Stall(STALL) } else { Fate::Pass };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    let report = measured(&relay, FLAGS);
    assert_eq!(value(&report, "frames_lost"), 0.0);
    assert_eq!(value(&report, "frames_out_of_order"), 0.0);
    assert!(value(&report, "longest_gap_ms") >= 499.0);
    assert!(value(&report, "stalls") >= PLAYERS as f64);
    let latency = distribution(&report, "latency");
    // A frame each 20 ms: the first waits for all of it, and each after it for 20 ms less.
    for (least_ms, frames) in [(480, 1), (300, 10), (100, 20)] {
        let late = later_than(latency, Duration::from_millis(least_ms));
        assert!(late >= frames * PLAYERS, "{late} frames were later than {least_ms} ms");
    }
}

#[test]
fn a_run_ends_as_soon_as_a_threshold_is_missed_beyond_repair() {
    let fate = |number| if number >= IN_WINDOW { Fate::Damage } else { Fate::Pass };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    let flags = FLAGS.replace("--duration-s 4", "--duration-s 60");
    let flags = format!("{flags} --fail-if frames_corrupt>1 --fail-if players<1 --abort-on-fail");
    let output = load("fanout", relay.address, &flags);
    assert_eq!(output.status.code(), Some(15), "{output:?}");
    let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
    let verdicts = report.thresholds.iter().map(|judged| judged.verdict);
    assert!(verdicts.eq([ThresholdVerdict::Missed, ThresholdVerdict::Met]), "{report:?}");
    assert!(report.thresholds[0].value > Some(1.0), "{report:?}");
    let is_early = |doubt: &String| doubt.starts_with("the run was ended early");
    assert!(report.doubts.iter().any(is_early), "{:?}", report.doubts);
    assert_eq!(report.figure("frames_lost").unwrap().value, None, "not all frames were intended");
}

/// By the time of arrival, the seconds of the stall would have few frames and the next one many.
#[test]
fn every_second_has_the_frames_that_were_intended_in_it_whenever_they_came() {
    const STALL: Duration = Duration::from_millis(1200);
    let fate = |number| if number == IN_WINDOW { Fate::Stall(STALL) } else { Fate::Pass };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    let report = measured(&relay, FLAGS);
    assert_eq!(value(&report, "frames_lost"), 0.0);
    let seconds: Vec<_> = distribution(&report, "latency").intervals().collect();
    // The window begins and ends within a second.
    let whole = &seconds[1..seconds.len() - 1];
    assert!(whole.len() >= 3, "{} seconds", whole.len());
    for second in whole {
        assert_eq!(second.histogram.len(), PLAYERS * FPS, "{:?}", second.start);
    }
}

/// The generator is stopped and goes on; it must not count its own pause as nobody's.
#[test]
fn frames_that_the_generator_writes_late_count_from_when_they_were_intended() {
    static GENERATOR: AtomicU32 = AtomicU32::new(0);
    let fate = |number| {
        if number == IN_WINDOW {
            thread::spawn(|| pause(GENERATOR.load(Ordering::Relaxed), Duration::from_millis(500)));
        }
        Fate::Pass
    };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    let mut command = load_command("fanout", relay.address, FLAGS);
    let generator = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    GENERATOR.store(generator.id(), Ordering::Relaxed);
    let report = report(&generator.wait_with_output().unwrap());
    assert_eq!(value(&report, "frames_lost"), 0.0);
    let latency = distribution(&report, "latency");
    for (least_ms, frames) in [(300, 8), (100, 18)] {
        let late = later_than(latency, Duration::from_millis(least_ms));
        assert!(late >= frames * PLAYERS, "{late} frames were later than {least_ms} ms");
    }
}

/// Stops a process and lets it go on.
fn pause(id: u32, length: Duration) {
    let process = Pid::from_raw(id as i32).expect("a process id");
    kill_process(process, Signal::STOP).expect("the generator runs");
    thread::sleep(length);
    kill_process(process, Signal::CONT).expect("the generator is there");
}

#[test]
fn every_frame_of_several_streams_comes_through_the_server_itself() {
    let server = Start::new("fanout", "").start();
    let flags = format!("{FLAGS} --publishers 2 --server-pid {}", server.pid());
    let over_http = format!("{flags} --play-url http://{}/live/show.flv", http_of(server.address));
    let like_life = format!("{flags} {LIKE_LIFE}");
    for flags in [flags, over_http, like_life] {
        expect_all_frames(&report(&load("fanout", server.address, &flags)));
    }
}

#[track_caller]
fn expect_all_frames(report: &LoadReport) {
    assert_eq!(value(report, "frames_expected"), (PLAYERS * FPS * DURATION_S) as f64);
    for name in ["frames_lost", "frames_duplicated", "frames_out_of_order", "frames_corrupt"] {
        assert_eq!(value(report, name), 0.0, "{name}");
    }
    let cost = value(report, "server_cpu_s") / (value(report, "delivered_bytes") / 1e9);
    assert!((value(report, "server_cpu_s_per_gb") / cost - 1.0).abs() < 1e-9);
    assert!(value(report, "server_resident_bytes") > 1e6);
    // The machine does all of the server's work, within the tick of its clock, and that of others.
    let busy_s = value(report, "machine_busy_s");
    assert!(busy_s + 0.05 > value(report, "server_cpu_s"), "{busy_s} s");
    let cost = busy_s / (value(report, "delivered_bytes") / 1e9);
    assert!((value(report, "machine_busy_s_per_gb") / cost - 1.0).abs() < 1e-9);
    // Counted from a connection's intended start, and from its play command: the one holds both.
    for percentile in ["p50_ms", "max_ms"] {
        let after_play = value(report, &format!("first_frame_after_play_{percentile}"));
        assert!(value(report, &format!("first_frame_{percentile}")) >= after_play);
    }
    assert_eq!(distribution(report, "first_frame").histogram().len(), PLAYERS);
}

#[test]
fn streams_have_the_keys_of_a_list_wherever_they_are_played() {
    let server = Start::new("keys", "").start();
    let keys = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("keys.txt");
    fs::write(&keys, "alpha?token=1\n\nbeta\ngamma\n").unwrap();
    let keys = keys.to_str().unwrap();
    let http = format!("--play-url http://{}/live/any.flv", http_of(server.address));
    let rtmp = format!("--play-url rtmp://{}/live", server.address);
    for play in ["", &http, &rtmp] {
        let report =
            report(&load("fanout", server.address, &format!("{FLAGS} --keys {keys} {play}")));
        assert_eq!(value(&report, "frames_expected"), (PLAYERS * FPS * DURATION_S) as f64);
        assert_eq!(value(&report, "frames_lost"), 0.0, "{play}");
        assert_eq!(report.manifest.parameters["publishers"], "3");
        let text = report.to_json().unwrap();
        assert!(!text.contains("alpha") && !text.contains("token"), "keys are secrets: {text}");
    }
    for key in ["alpha", "beta", "gamma"] {
        server.wait_for_log(&format!("publishes live/{key}"));
    }
}

#[test]
fn slow_readers_are_counted_apart_and_read_no_more_than_their_rate() {
    let server = Start::new("slow", "").start();
    let flags = format!("{FLAGS} --bitrate 8M --slow-readers 2 --slow-bitrate 400k")
        .replace("--frame-bytes 3000", "");
    let report = report(&load("fanout", server.address, &flags));
    assert_eq!(value(&report, "players"), PLAYERS as f64);
    assert_eq!(value(&report, "frames_expected"), (PLAYERS * FPS * DURATION_S) as f64);
    assert_eq!(value(&report, "frames_lost"), 0.0);
    let (read, rate) = (value(&report, "slow_readers_bytes"), 2.0 * 400e3 / 8.0);
    // A message is counted as a whole when its last byte is read.
    assert!(read > 0.0 && read <= rate * (DURATION_S as f64 + 1.0), "{read}");
    let playing = value(&report, "slow_readers_playing");
    let ended = report.figures.iter().filter(|f| f.name.starts_with("slow_readers_ended_"));
    let ended: f64 = ended.filter_map(|figure| figure.value).sum();
    assert_eq!(playing + ended, 2.0);
}

#[test]
fn players_play_at_an_address_of_their_own() {
    let relay = Relay::start(Plan::default());
    let elsewhere = Relay::start(Plan { refuses_play: true, ..Plan::default() });
    let flags = format!("{FLAGS} --play-url rtmp://{}/live/show", elsewhere.address);
    let output = load("fanout", relay.address, &flags);
    let line = String::from_utf8(output.stderr).unwrap();
    let expected = format!("tiderace: {} refused to play live/show: ", elsewhere.address);
    assert!(line.starts_with(&expected), "{line}");
}

#[test]
fn a_list_of_keys_that_cannot_be_used_is_refused_by_its_line() {
    let relay = Relay::start(Plan::default());
    let list = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bad_keys.txt");
    fs::write(&list, "good\nsecret key\n").unwrap();
    let file = list.to_str().unwrap();
    for (flags, expected) in [
        (format!("--keys {file}"), "line 2: expected a key of printable ASCII"),
        (format!("--play-keys {file}"), "line 2: expected a key of printable ASCII"),
    ] {
        let output = load("fanout", relay.address, &flags);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains(expected) && !line.contains("secret"), "{line}");
    }
}

#[test]
fn a_generator_that_lags_gives_counts_and_no_times() {
    let relay = Relay::start(Plan::default());
    let flags = "--players 1 --warmup-s 0.1 --duration-s 0.5 --lateness-max-ms 0.0001";
    let output = load("fanout", relay.address, flags);
    assert_eq!(output.status.code(), Some(14));
    let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert_eq!(value(&report, "frames_lost"), 0.0);
    assert_eq!(value(&report, "frames_received"), 15.0);
    for name in ["latency_p50_ms", "first_frame_p50_ms", "stalls", "longest_gap_ms"] {
        let figure = report.figure(name).unwrap();
        assert_eq!(figure.value, None, "{name}");
        let why = figure.withheld.unwrap();
        assert!(why.contains("the generator was late by "), "{why}");
    }
}

#[test]
fn a_load_that_cannot_be_generated_ends_the_run_in_one_line_and_nothing_of_it_is_valid() {
    let relay = Relay::start(Plan::default());
    // Millions of frames a second, and an hour of them.
    let flags = "--publishers 50 --fps 100000 --frame-bytes 64 --duration-s 3600";
    let output = load("ingest", relay.address, flags);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(18), "{line}");
    assert!(line.starts_with("tiderace: cannot generate this load: after "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert!(report.overloaded.is_some());
    assert!(report.doubts.iter().any(|doubt| doubt.ends_with("describes the server.")));
    assert_eq!(report.figure("write_delay_p50_ms").unwrap().value, None);
}

#[test]
fn what_is_ingested_is_counted_by_what_kernel_and_server_took() {
    let relay = Relay::start(Plan::default());
    let flags = "--publishers 2 --bitrate 20M --fps 50 --warmup-s 0.5 --duration-s 2 \
         --lateness-max-ms 60000";
    let report = report(&load("ingest", relay.address, flags));
    assert_eq!(value(&report, "publishers"), 2.0);
    assert_eq!(value(&report, "frames_intended"), 200.0);
    // The last of them may have been written late.
    let accepted = value(&report, "frames_accepted");
    assert!((180.0..=200.0).contains(&accepted), "{accepted}");
    assert_eq!(value(&report, "accepted_bytes"), accepted * 50e3);
    assert_eq!(value(&report, "accepted_bit_per_s"), accepted * 200e3);
    assert_eq!(value(&report, "accepted_share"), accepted / 200.0);
    // The server tells it each 1.25 MB.
    let acknowledged = value(&report, "acknowledged_bytes");
    assert!((6e6..14e6).contains(&acknowledged), "{acknowledged}");
}

#[test]
fn a_server_that_stands_still_is_late_with_its_acknowledgements() {
    const STALL: Duration = Duration::from_secs(3);
    let fate = |number| if number == 60 { Fate::Stall(STALL) } else { Fate::Pass };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    // The server acknowledges each 1.25 MB, which is twice a second, and the kernel takes the rest.
    let flags = "--bitrate 20M --fps 50 --warmup-s 0.5 --duration-s 5 --lateness-max-ms 60000";
    let report = report(&load("ingest", relay.address, flags));
    let delay = value(&report, "acknowledgement_delay_max_ms");
    assert!(delay >= 2000.0, "{delay}");
    let gap = value(&report, "acknowledgement_gap_max_ms");
    assert!(gap >= 2999.0, "{gap}");
    // Three seconds of the stream, less what does not fit into the kernel.
    let bytes = value(&report, "unacknowledged_bytes_max");
    assert!(bytes > 2e6, "{bytes}");
    let series = report.series.iter().find(|series| series.name == "unacknowledged").unwrap();
    assert!(series.points.iter().any(|(_, bytes)| *bytes > 2e6), "{:?}", series.points);
}

#[test]
fn one_publisher_of_several_that_is_lost_is_counted_and_the_others_go_on() {
    // In the window, which is open from the 75th frame to the 375th.
    let fate = |number| if number == 200 { Fate::CloseLast } else { Fate::Pass };
    for (flags, code, lines) in [("", 19, 1), ("--failed-max-share 0.4", 0, 0)] {
        let relay = Relay::start(Plan { fate, ..Plan::default() });
        let flags = format!(
            "--publishers 3 --bitrate 1M --fps 50 --warmup-s 0.5 --duration-s 2 \
             --lateness-max-ms 60000 {flags}"
        );
        let output = load("ingest", relay.address, &flags);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(code), lines), "{error}");
        assert_eq!(error.contains("1 of 3 publishers failed (33.3 %)"), lines == 1, "{error}");
        let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
        assert_eq!(value(&report, "publishers_failed"), 1.0);
        assert_eq!(value(&report, "frames_intended"), 300.0);
        // Two of three have all of theirs, and the third has some.
        let accepted = value(&report, "frames_accepted");
        assert!((180.0..300.0).contains(&accepted), "{accepted}");
        let doubt = "1 of 3 publishers failed (33.3 %): times are those of the others";
        assert!(report.doubts.iter().any(|known| known == doubt), "{:?}", report.doubts);
    }
}

#[test]
fn what_was_measured_until_everything_was_lost_is_reported() {
    let fate = |number| if number == IN_WINDOW { Fate::Die } else { Fate::Pass };
    for wire in ["", HTTP] {
        let relay = Relay::start(Plan { fate, ..Plan::default() });
        let output = load("fanout", relay.address, &format!("{FLAGS} {wire}"));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(19), 1), "{error}");
        assert!(error.contains(" no longer lets us p"), "{error}");
        let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
        assert!(report.failed.is_some());
        assert_eq!(value(&report, "players"), PLAYERS as f64);
        let received = value(&report, "frames_received");
        let expected = value(&report, "frames_expected");
        assert!(0.0 < received && received <= expected, "{received} of {expected}");
        assert!(value(&report, "p50_ms") > 0.0);
    }
}

#[test]
fn what_a_server_does_not_read_is_not_accepted() {
    let fate = |number| if number == 0 { Fate::Stall(AFTER_ALL) } else { Fate::Pass };
    let relay = Relay::start(Plan { fate, ..Plan::default() });
    // More than two kernels hold, and less than the generator keeps for them.
    let flags = "--bitrate 60M --warmup-s 0.5 --duration-s 2 --lateness-max-ms 60000";
    let report = report(&load("ingest", relay.address, flags));
    assert_eq!(value(&report, "frames_intended"), 60.0);
    let share = value(&report, "accepted_share");
    assert!(share < 0.9, "{share}");
    assert!(report.figure("acknowledged_bytes").unwrap().value.is_none());
}

#[test]
fn servers_that_refuse_or_die_end_the_measurement_in_one_line_with_a_code_of_their_own() {
    let refuses_publish = Plan { refuses_publish: true, ..Plan::default() };
    let refuses_play = || Plan { refuses_play: true, ..Plan::default() };
    let dies = |number| if number == 5 { Fate::Die } else { Fate::Pass };
    for (plan, wire, code, expected) in [
        (refuses_publish, "", 11, "refused to publish live/show: NetStream.Publish.BadName: taken"),
        (
            refuses_play(),
            "",
            11,
            "refused to play live/show: NetStream.Play.StreamNotFound: nobody",
        ),
        (refuses_play(), HTTP, 11, "refused to play live/show: HTTP 404: Not Found"),
        (Plan { fate: dies, ..Plan::default() }, "", 13, "no longer lets us p"),
        (Plan { fate: dies, ..Plan::default() }, HTTP, 13, "no longer lets us p"),
    ] {
        let relay = Relay::start(plan);
        let output = load("fanout", relay.address, &format!("{FLAGS} {wire}"));
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(line.starts_with(&format!("tiderace: {} {expected}", relay.address)), "{line}");
        assert_eq!((line.lines().count(), output.stdout.len()), (1, 0), "{line}");
    }
}

fn measured(relay: &Relay, flags: &str) -> LoadReport {
    report(&load("fanout", relay.address, flags))
}

/// Runs the generator until it is done.
fn load(command: &str, server: SocketAddr, flags: &str) -> Output {
    load_command(command, server, flags).output().unwrap()
}

fn load_command(name: &str, server: SocketAddr, flags: &str) -> Command {
    let mut command = program::tiderace();
    command.args(["load", name, &format!("rtmp://{server}/live/show")]);
    let flags = flags.replace("ADDRESS", &server.to_string());
    command.args(flags.split_whitespace()).args(["--quiet", "--json", "-"]);
    command
}

fn value(report: &LoadReport, name: &str) -> f64 {
    let figure = report.figure(name).unwrap_or_else(|| panic!("no figure {name}"));
    figure.value.unwrap_or_else(|| panic!("{name} is withheld: {:?}", figure.withheld))
}

fn points<'a>(report: &'a LoadReport, name: &str) -> impl Iterator<Item = (f64, f64)> + 'a {
    let series = report.series.iter().find(|series| series.name == name);
    series.unwrap_or_else(|| panic!("no series {name}")).points.iter().copied()
}

fn distribution<'a>(report: &'a LoadReport, name: &str) -> &'a Distribution {
    report.distributions.iter().find(|known| known.name() == name).unwrap()
}

/// How many values are above a time, as exactly as a histogram keeps them.
fn later_than(distribution: &Distribution, time: Duration) -> u64 {
    let us = time.as_micros() as u64;
    distribution.histogram().count_between(us - us / 500, u64::MAX)
}
