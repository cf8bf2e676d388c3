//! A report with known values, for tests of the forms of a report.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ComparedRun, Distribution, Figure, LoadReport, Series};
use crate::load::manifest::{Machine, Manifest};
use crate::load::process::Identity;

/// Ten players for three seconds.
pub(super) fn report() -> LoadReport {
    let mut report = LoadReport::new("fanout", manifest());
    for (name, value) in [
        ("frames_received", 9_000.0),
        ("frames_lost", 3.0),
        ("delivered_bit_per_s", 2e7),
        ("server_cpu_s_per_gb", 0.4725),
        ("generator_cpu_share", 0.25),
        ("players_failed_timeout", 2.0),
    ] {
        report.add_figure(Figure::new(name, value));
    }
    report.add_figure(Figure::withheld("server_cpu_s", "nobody looked"));
    let mut latency = Distribution::new("latency");
    for index in 0..3000_u64 {
        latency.record(Duration::from_millis(index), 200 + index / 10 * (1 + index / 2900 * 9));
    }
    report.distributions.push(latency);
    report.distributions.push(Distribution::new("first_frame"));
    report.series.push(series("server_resident", [(0.0, 5.0e6), (1.0, 6.5e6), (2.0, 6.0e6)]));
    report.series.push(series("server_cpu", [(1.0, 10.0), (2.0, 30.0), (4.0, 20.0)]));
    report.series.push(series("players", [(0.0, 0.0), (1.0, 10.0), (2.0, 8.0)]));
    report.add_doubt("the server shares its core");
    report
}

/// Runs of the sample, of which each cost the server as much as given.
pub(super) fn side(name: &str, costs: &[f64]) -> Vec<ComparedRun> {
    let run = |(index, cost): (usize, &f64)| {
        let mut report = report();
        report.add_figure(Figure::new("server_cpu_s_per_gb", *cost));
        ComparedRun { name: format!("{name}{}.json", index + 1), report }
    };
    costs.iter().enumerate().map(run).collect()
}

/// Returns a page after checking that its tags are balanced.
pub(super) fn well_formed(page: &str) -> String {
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let mut open = Vec::new();
    for tag in body.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap_or_else(|| panic!("unclosed <{tag}"));
        assert!(!text.contains('>'), "a bare > in {text:?}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().unwrap()),
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
    page.to_owned()
}

fn series(name: &str, points: [(f64, f64); 3]) -> Series {
    let mut series = Series::new(name);
    points.into_iter().for_each(|(at_s, value)| series.push(at_s, value));
    series
}

fn manifest() -> Manifest {
    let pairs = [("duration-s", "3"), ("players", "10"), ("busy", "true"), ("quiet", "false")];
    let parameters = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Manifest {
        tiderace_version: "0.1.0".to_owned(),
        label: Some("before <the> change".to_owned()),
        target: "rtmp://127.0.0.1:1935/live/…".to_owned(),
        parameters: BTreeMap::from(parameters),
        started_utc: "2026-01-02T03:04:05Z".to_owned(),
        duration_s: 3.0,
        machine: Machine {
            kernel: "Linux 6.1.0".to_owned(),
            architecture: "x86_64".to_owned(),
            cpu_model: "A CPU".to_owned(),
            cpus: 2,
            governor: None,
            memory_bytes: 8_000_000_000,
            page_bytes: 4096,
            descriptors_max: 20_000,
            sysctls: BTreeMap::from([("net.core.somaxconn".to_owned(), "4096".to_owned())]),
        },
        server: Some(Identity {
            name: "tiderace".to_owned(),
            executable: Some("tiderace".to_owned()),
            sha256: Some("1329e23a959fc8e195862e292da1a307".to_owned()),
        }),
    }
}
