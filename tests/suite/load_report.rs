//! How measurements are told, by the program itself: files that other tools read, thresholds and
//! comparisons as a script meets them.

use std::fs;
use std::process::Output;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use tiderace::load::manifest::Manifest;
use tiderace::load::report::{Distribution, Figure, LoadReport, ThresholdVerdict};

use crate::load_runs::NEVER_LATE;
use crate::support::directory::Directory;
use crate::support::program;
use crate::support::server::{Server, Start};

#[test]
fn one_run_is_told_in_every_form_with_the_same_numbers() {
    let server = Start::new("forms", "").start();
    let folder = Folder::new("forms");
    let [json, hdr, html] = ["r.json", "r.hlog", "r.html"].map(|name| folder.path(name));
    let output = idle(&server, &["--json", &json, "--hdr", &hdr, "--html", &html]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = LoadReport::from_json(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report.lagged, None);
    assert_eq!(report.figure("sessions_held").unwrap().value, Some(5.0));

    let table = text(&output.stdout);
    let page = fs::read_to_string(&html).unwrap();
    for figure in &report.figures {
        assert!(table.contains(&format!("\n  {} ", figure.name)), "{table}");
        assert!(page.contains(&format!("<code>{}</code>", figure.name)), "{page}");
    }
    assert!(!table.contains('\u{1b}'), "colour where there is no terminal: {table}");
    for outside in ["http://", "https://", "<script", "<link", "<img", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.starts_with("<!DOCTYPE html>\n") && page.ends_with("</html>\n"));

    for distribution in &report.distributions {
        let (count, max) = logged(&hdr, distribution.name());
        assert_eq!(count, distribution.histogram().len(), "{}", distribution.name());
        assert_eq!(max, distribution.histogram().max(), "{}", distribution.name());
    }
}

#[test]
fn json_on_standard_output_takes_the_place_of_the_table() {
    let server = Start::new("json", "").start();
    let output = idle(&server, &["--json", "-", "--label", "two\nlines"]);
    let report = LoadReport::from_json(text(&output.stdout)).unwrap();
    assert_eq!(report.manifest.label.as_deref(), Some("two\nlines"));
}

#[test]
fn progress_is_shown_to_terminals_and_to_those_who_ask() {
    let server = Start::new("progress", "").start();
    let lines = |flag: &[&str]| {
        let output = idle(&server, &[&["--duration-s", "1.2"], flag].concat());
        let errors = text(&output.stderr).to_owned();
        errors.lines().filter(|line| line.contains("5 of 5 sessions held")).count()
    };
    assert_eq!(lines(&[]), 0);
    assert_eq!(lines(&["--quiet"]), 0);
    assert!(lines(&["--progress"]) > 0);
}

#[test]
fn thresholds_have_codes_of_their_own_and_one_line_each() {
    let server = Start::new("threshold", "").start();
    let missed = idle(&server, &["--fail-if", "sessions_held<6", "--fail-if", "sessions_opened>5"]);
    let errors = text(&missed.stderr);
    assert!(errors.ends_with("tiderace: sessions_held<6: sessions_held is 5\n"), "{errors}");
    assert_eq!(missed.status.code(), Some(15), "{missed:?}");
    assert!(text(&missed.stdout).contains("sessions_held"), "the table is printed all the same");

    let unknown = idle(&server, &["--fail-if", "sessions_hold<6"]);
    let errors = text(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(2), "{errors}");
    assert!(
        errors.starts_with(
            "tiderace: sessions_hold<6: no such figure; the nearest are sessions_held, "
        ),
        "{errors}"
    );
    assert_eq!(text(&unknown.stdout), "", "it is refused before the run");
}

#[test]
fn thresholds_are_checked_before_anybody_looks_for_the_server() {
    // Nobody listens on port 1.
    let refused = |threshold: &str| {
        let output = load(&["idle", "rtmp://127.0.0.1:1/live/a", "--fail-if", threshold]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr).to_owned()
    };
    assert!(refused("p99_ms=20").contains("'p99_ms>20'"));
    for (threshold, reason) in [
        ("stalls>0", "load idle does not measure this; fanout, play do"),
        ("p99_ms>20s", "expected a number in ms, got one in s"),
        ("server_idle_cpu_percent>1", "this figure needs --server-pid"),
    ] {
        let expected = format!("tiderace: {threshold}: {reason}\n");
        assert_eq!(refused(threshold), expected);
    }
}

#[test]
fn verdicts_of_thresholds_are_in_the_report() {
    let server = Start::new("verdicts", "").start();
    let flags = ["--json", "-", "--fail-if", "sessions_held<6", "--fail-if", "failed_reset>0"];
    let output = idle(&server, &flags);
    assert_eq!(output.status.code(), Some(15), "{output:?}");
    let report = LoadReport::from_json(text(&output.stdout)).unwrap();
    let verdicts = report.thresholds.iter().map(|judged| (judged.verdict, judged.value));
    let expected = [(ThresholdVerdict::Missed, Some(5.0)), (ThresholdVerdict::Met, Some(0.0))];
    assert!(verdicts.eq(expected), "{report:?}");
}

#[test]
fn a_run_without_thresholds_has_nothing_to_abort_on() {
    let alone = load(&["idle", "rtmp://127.0.0.1:1/live/a", "--abort-on-fail"]);
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    assert!(text(&alone.stderr).contains("--fail-if"), "{alone:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_the_measurement() {
    let output = load(&["idle", "rtmp://127.0.0.1:1/live/a", "--html", "/nonexistent/r.html"]);
    assert_eq!(output.status.code(), Some(6));
    let expected = "tiderace: /nonexistent/r.html: No such file or directory (os error 2)\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn runs_of_the_same_conditions_are_compared() {
    let folder = Folder::new("compare");
    let first = folder.report("a.json", &report(1000));
    let second = folder.report("b.json", &report(1500));
    let output = load(&["compare", &first, &second, "--fail-if", "p99_ms>1.6x"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = text(&output.stdout);
    let words = |name: &str| {
        let line = table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        words("latency_p99_ms"),
        ["latency_p99_ms", "1", "ms", "1.5", "ms", "1.5x", "cannot", "tell"]
    );
    assert_eq!(words("frames_lost"), ["frames_lost", "3", "3", "1x", "same"]);

    let missed = load(&["compare", &first, &second, "--fail-if", "p99_ms>1.1x"]);
    assert_eq!(missed.status.code(), Some(15));
    let expected = "tiderace: p99_ms>1.1x: latency_p99_ms is 1.5x (1 to 1.5), cannot tell\n";
    assert_eq!(text(&missed.stderr), expected);
}

#[test]
fn several_runs_a_side_tell_a_difference_from_noise_in_every_form() {
    let folder = Folder::new("sides");
    let side = |name: &str, latencies_us: [u64; 5]| {
        let file =
            |(index, latency_us)| folder.report(&format!("{name}{index}"), &report(latency_us));
        latencies_us.into_iter().enumerate().map(file).collect::<Vec<_>>()
    };
    let base = side("base", [1000, 1300, 900, 1200, 1100]);
    let again = side("again", [1500, 950, 1400, 1150, 6900]);
    let slower = side("slower", [2000, 2300, 1900, 2200, 2100]);
    let [json, html] = ["c.json", "c.html"].map(|name| folder.path(name));
    let compared = |second: &[String]| {
        let args = [&["compare".to_owned()], &base[..], &["--with".to_owned()], second].concat();
        let mut args: Vec<_> = args.iter().map(String::as_str).collect();
        args.extend(["--json", &json, "--html", &html, "--fail-if", "p99_ms>1.1x"]);
        let output = load(&args);
        let line = text(&output.stdout).lines().find(|line| line.contains(" latency_p99_ms "));
        (output.status.code(), line.unwrap().to_owned())
    };
    let (code, line) = compared(&again);
    assert!(line.ends_with("within noise"), "{line}");
    assert_eq!(code, Some(0), "a ratio within the noise meets every threshold");
    let (code, line) = compared(&slower);
    assert!(line.ends_with("worse"), "{line}");
    assert_eq!(code, Some(15));
    let file: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((&file["can_tell"], file["second"].as_array().unwrap().len()), (&true.into(), 5));
    assert_eq!(file["thresholds"][0]["verdict"], "missed");
    assert!(fs::read_to_string(html).unwrap().contains("<td class=\"worse\">worse</td>"));
}

#[test]
fn a_comparison_needs_a_run_on_each_side() {
    let folder = Folder::new("one");
    let only = folder.report("a.json", &report(1000));
    let output = load(&["compare", &only]);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(errors.contains("expected 1 to 32 reports a side, got 1 and 0"), "{errors}");
    let other = folder.report("b.json", &report(1100));
    let twice = load(&["compare", &other, "--with", &only, &only]);
    assert_eq!(twice.status.code(), Some(2));
    let expected = format!("tiderace: {only}: expected each report once a side, got it twice");
    assert!(text(&twice.stderr).starts_with(&expected), "{twice:?}");
}

#[test]
fn runs_of_other_conditions_are_compared_only_when_that_is_asked_for() {
    let folder = Folder::new("conditions");
    let first = folder.report("a.json", &report(1000));
    let mut other = report(1000);
    other.manifest.machine.kernel = "Linux 1.0".to_owned();
    other.manifest.parameters.insert("players".to_owned(), "7".to_owned());
    let second = folder.report("b.json", &other);
    let refused = load(&["compare", &first, &second]);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(16), ""));
    let lines: Vec<_> = text(&refused.stderr).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let expected = format!("tiderace: --players is - in {first} and 7 in {second}");
    assert_eq!(lines[0], expected);
    assert!(lines[1].ends_with(&format!(" and Linux 1.0 in {second}")), "{lines:?}");
    assert!(lines[2].contains("--anyway"), "{lines:?}");

    let anyway = load(&["compare", &first, &second, "--anyway"]);
    assert_eq!(anyway.status.code(), Some(0));
    assert!(text(&anyway.stdout).contains("  - --players is - in "), "{anyway:?}");

    other.command = "ingest".to_owned();
    let third = folder.report("c.json", &other);
    let never = load(&["compare", &first, &third, "--anyway"]);
    assert_eq!(never.status.code(), Some(16));
    let expected = "tiderace: a run of load fanout and a run of load ingest cannot be compared\n";
    assert_eq!(text(&never.stderr), expected);
}

#[test]
fn a_file_that_is_not_a_report_is_refused_by_name() {
    let folder = Folder::new("foreign");
    let file = folder.path("har.json");
    fs::write(&file, r#"{"format":"har","version":1}"#).unwrap();
    let output = load(&["compare", &file, &file]);
    assert_eq!(output.status.code(), Some(6));
    let errors = text(&output.stderr);
    assert!(errors.starts_with(&format!("tiderace: {file}: not a report of tiderace load: ")));
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn help_of_every_command_has_examples_and_exit_codes() {
    for command in [&["--help"][..], &["idle", "--help"], &["compare", "--help"]] {
        let output = load(command);
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0));
        assert!(help.contains("Examples:\n  tiderace load "), "{help}");
        assert!(help.contains("Exit codes:"), "{help}");
    }
}

/// Of a fanout on this machine, with as many microseconds of latency.
fn report(latency_us: u64) -> LoadReport {
    let mut report = LoadReport::new("fanout", Manifest::new("rtmp://h/live/a", [].into()));
    report.add_figure(Figure::new("frames_lost", 3.0));
    let mut latency = Distribution::new("latency");
    latency.record(Duration::from_secs(1), latency_us);
    report.distributions.push(latency);
    report
}

/// How many values a log has of a distribution, and the largest.
fn logged(path: &str, name: &str) -> (u64, u64) {
    let log = fs::read(path).unwrap();
    let mut all = Histogram::<u64>::new(3).unwrap();
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        if interval.tag().is_some_and(|tag| tag.as_str() == name) {
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            all.add(read).unwrap();
        }
    }
    (all.len(), all.max())
}

/// Five sessions for a moment.
fn idle(server: &Server, flags: &[&str]) -> Output {
    let url = format!("rtmp://{}/live/a", server.address);
    let short = ["--sessions", "5", "--rate", "1000"];
    let mut args = [&["idle", url.as_str()], &short[..], &NEVER_LATE[..], flags].concat();
    if !flags.contains(&"--duration-s") {
        args.extend(["--duration-s", "0.1"]);
    }
    load(&args)
}

fn load(args: &[&str]) -> Output {
    program::tiderace().arg("load").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// A directory of reports.
struct Folder(Directory);

impl Folder {
    fn new(name: &str) -> Self {
        Self(Directory::new(name))
    }

    fn path(&self, name: &str) -> String {
        self.0.file(name).to_str().unwrap().to_owned()
    }

    fn report(&self, name: &str, report: &LoadReport) -> String {
        self.0.write(name, report.to_json().unwrap());
        self.path(name)
    }
}
