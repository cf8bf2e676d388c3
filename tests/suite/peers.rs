//! `benches/peers`: its statistics agree with published tables, and its table says what the record
//! holds.

use std::collections::BTreeMap;

use tiderace::load::statistics::critical_rank_sum;

use crate::manual::generated::Part;
use crate::random::Random;

#[allow(dead_code, reason = "what the bench needs of it as well")]
#[path = "../../benches/peers/record.rs"]
mod record;
#[allow(dead_code, reason = "what the bench needs of it as well")]
#[path = "../../benches/peers/statistics.rs"]
mod statistics;
#[path = "../../benches/peers/table.rs"]
mod table;

use record::{Place, Record, Round, RowResult, Setup, Work};
use statistics::{Estimate, Verdict, bootstrap, has_quantile, hodges_lehmann, judge};

/// The critical values for a two-sided level of 5 %, as in any table of the signed-rank test.
#[test]
fn critical_rank_sums_are_those_of_the_published_table() {
    for (values, critical) in [
        (6, 0),
        (7, 2),
        (8, 3),
        (9, 5),
        (10, 8),
        (11, 10),
        (12, 13),
        (13, 17),
        (14, 21),
        (15, 25),
        (20, 52),
        (25, 89),
    ] {
        assert_eq!(critical_rank_sum(values), Some(critical), "{values} values");
    }
    assert_eq!(critical_rank_sum(5), None);
    assert_eq!(critical_rank_sum(0), None);
}

/// The depression scale of nine patients before and after therapy: Hollander and Wolfe,
/// *Nonparametric Statistical Methods*, example 3.1, with the estimate -0.46 and the interval from
/// -0.786 to -0.010.
#[test]
fn estimate_and_interval_are_those_of_a_textbook() {
    // In thousandths.
    let before = [1830, 500, 1620, 2480, 1680, 1880, 1550, 3060, 1300];
    let after = [878, 647, 598, 2050, 1060, 1290, 1060, 3140, 1290];
    let differences: Vec<_> = before
        .iter()
        .zip(after)
        .map(|(before, after)| f64::from(after - before) / 1000.0)
        .collect();
    let Estimate { value, interval } = hodges_lehmann(&differences).unwrap();
    let (low, high) = interval.unwrap();
    for (found, expected) in [(value, -0.46), (low, -0.786), (high, -0.010)] {
        assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
    }
    let few = hodges_lehmann(&differences[..5]).unwrap();
    assert_eq!(few.interval, None);
    assert_eq!(judge(few, f64::INFINITY), Verdict::Undecided);
    assert_eq!(hodges_lehmann(&[]), None);
}

/// The standard error of the mean of 1 to 20 is 1.29, so the interval reaches 2.5 to either side.
#[test]
fn bootstrap_finds_the_interval_of_a_mean() {
    let mut random = Random::new(1);
    let mean = |chosen: &[usize]| {
        let sum: usize = chosen.iter().map(|index| index + 1).sum();
        Some(sum as f64 / chosen.len() as f64)
    };
    let Estimate { value, interval } = bootstrap(20, |end| random.below(end), mean).unwrap();
    let (low, high) = interval.unwrap();
    assert_eq!(value, 10.5);
    assert!((7.6..8.4).contains(&low) && (12.6..13.4).contains(&high), "{low} to {high}");
    assert_eq!(bootstrap(5, |_| 0, mean).unwrap().interval, None);
    assert_eq!(bootstrap(20, |_| 0, |_| None), None);
}

#[test]
fn a_verdict_needs_the_whole_interval() {
    let estimate = Estimate { value: 1.0, interval: Some((0.9, 1.1)) };
    for (goal, verdict) in [
        (1.2, Verdict::Reached),
        (1.1, Verdict::Reached),
        (1.05, Verdict::Undecided),
        (0.9, Verdict::Undecided),
        (0.8, Verdict::Missed),
    ] {
        assert_eq!(judge(estimate, goal), verdict, "{goal}");
    }
}

#[test]
fn a_quantile_needs_ten_values_above_it() {
    assert!(has_quantile(20, 0.5) && !has_quantile(19, 0.5));
    assert!(has_quantile(1000, 0.99) && !has_quantile(999, 0.99));
    assert!(has_quantile(10_000, 0.999) && !has_quantile(9_900, 0.999));
}

fn work(name: &str, title: &str) -> Work {
    let cells = [("Tiderace", 0.4567), ("nginx-rtmp", 12.34), ("SRS", 123.4)];
    let round = |disturbed: Option<&str>| Round {
        disturbed: disturbed.map(str::to_owned),
        runs: Vec::new(),
    };
    Work {
        name: name.to_owned(),
        load: "fanout --players 2".to_owned(),
        place: Place {
            day: "2026-12-01".to_owned(),
            cpu: "CPU".to_owned(),
            cores: 2,
            kernel: "Linux 1".to_owned(),
            congestion_control: "bbr".to_owned(),
            pinned: (0, 1),
        },
        servers: vec![Setup {
            label: "nginx-rtmp".to_owned(),
            command: "nginx -c {config}".to_owned(),
            config: Some("rtmp {}\n".to_owned()),
        }],
        rows: vec![RowResult {
            title: title.to_owned(),
            cells: cells.map(|(column, figure)| (column.to_owned(), figure)).into(),
            reference: Some("nginx-rtmp".to_owned()),
            estimate: Some(Estimate { value: 0.5, interval: Some((0.25, 1.0)) }),
            goal: Some("at most 0.7 of it".to_owned()),
            verdict: Some(Verdict::Undecided),
        }],
        rounds: vec![round(None), round(Some("the host took 5 %")), round(None)],
        histograms: BTreeMap::new(),
    }
}

#[test]
fn the_table_has_a_row_for_each_result_and_a_setup_for_each_server() {
    const TABLE: &str = "\
| work | Tiderace | nginx-rtmp | nginx-rtmp tuned | write floor | sendfile floor | SRS \
| ratio (95 %) | goal | verdict | run |
|---|---|---|---|---|---|---|---|---|---|---|
| first | 0.457 | 12.3 |  |  |  | 123 | 0.500 (0.250 to 1.00) of nginx-rtmp \
| at most 0.7 of it | undecided | a, 2026-12-01 |
| second | 0.457 | 12.3 |  |  |  | 123 | 0.500 (0.250 to 1.00) of nginx-rtmp \
| at most 0.7 of it | undecided | b, 2026-12-01 |

- 2026-12-01: CPU, 2 cores, Linux 1, bbr; the server on core 0, the load on 1: \
a (2 rounds, 1 disturbed), b (2 rounds, 1 disturbed)

nginx-rtmp:

```text
nginx -c {config}
rtmp {}
```

The load of each row:

```text
a: fanout --players 2
b: fanout --players 2
```
";
    let mut record = Record::default();
    let names = ["a", "b"];
    record.put(work("b", "outdated"), &names);
    record.put(work("a", "first"), &names);
    record.put(work("b", "second"), &names);
    assert_eq!(table::markdown(&record), TABLE);
    assert!(table::plain(&record).starts_with("work    Tiderace  nginx-rtmp  "));
    let read: Record = serde_json::from_str(&record.to_json().unwrap()).unwrap();
    assert_eq!(read, record);
}

/// No figure is edited by hand. Without a record the page has a table of an earlier form.
#[test]
fn the_manual_has_the_table_of_the_record() {
    let record = Record::read().expect("benches/peers/last.json is a record");
    let command = "cargo bench --bench peers -- --write";
    if Record::path().exists() {
        Part::find("figures.md", "peers").expect(&table::markdown(&record), command);
    }
    let page = include_str!("../../src/manual/figures.md");
    assert!(page.contains(command), "the page says how its table is written");
}
