//! Busy time of the machine and of each core, as the kernel counts it.
//!
//! Owns reading `/proc/stat`. The processor time of a server misses the work that the kernel does
//! for it elsewhere: with Nagle's algorithm, acknowledgements that arrive on the core of a client
//! make the kernel send there, and no server is billed for that. Busy time is wall time minus the
//! time in which a core was idle or waited for a disk, so nothing is missed. It covers the whole
//! machine, so it includes the generator and everything else that runs. Without `/proc` there is
//! none.

use std::fs;
use std::time::Instant;

use rustix::param::clock_ticks_per_second;

use super::report::{Figure, LoadReport};

/// Suffix of the figures of busy time.
const BUSY: &str = "_busy_s";

/// State of all cores at one moment.
#[derive(Clone, Debug)]
pub struct MachineTimes {
    at: Instant,
    cores: Vec<CoreTimes>,
}

/// Times of a core since boot, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CoreTimes {
    number: u32,
    /// Idle, with or without outstanding requests to a disk.
    idle: u64,
    /// Wanted to run, but the host of this virtual machine ran something else.
    stolen: u64,
}

/// Busy time between two moments.
#[derive(Clone, Debug, PartialEq)]
pub struct BusyTimes {
    /// Busy seconds by the number of the core.
    cores: Vec<(u32, f64)>,
    stolen_s: f64,
}

impl MachineTimes {
    /// Reads the current state.
    pub fn now() -> Option<Self> {
        let cores = parse(&fs::read_to_string("/proc/stat").ok()?);
        (!cores.is_empty()).then(|| Self { at: Instant::now(), cores })
    }

    /// Returns the busy time since `earlier`, of cores that were there at both moments.
    pub fn since(&self, earlier: &Self) -> BusyTimes {
        let elapsed = self.at.duration_since(earlier.at);
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        let known = |core: &CoreTimes| earlier.cores.iter().find(|at| at.number == core.number);
        let both = self.cores.iter().filter_map(|now| Some((now, known(now)?)));
        let (mut cores, mut stolen_s) = (Vec::new(), 0.0);
        for (now, before) in both {
            let idle_s = seconds(now.idle.saturating_sub(before.idle));
            cores.push((now.number, (elapsed.as_secs_f64() - idle_s).max(0.0)));
            stolen_s += seconds(now.stolen.saturating_sub(before.stolen));
        }
        BusyTimes { cores, stolen_s }
    }
}

/// Parses `/proc/stat`: after the name of a core come user, nice, system, idle, iowait, irq,
/// softirq and steal.
fn parse(text: &str) -> Vec<CoreTimes> {
    let core = |line: &str| {
        let (name, times) = line.strip_prefix("cpu")?.split_once(' ')?;
        let times: Vec<u64> = times.split(' ').map_while(|time| time.parse().ok()).collect();
        let [_, _, _, idle, iowait, _, _, stolen, ..] = times[..] else { return None };
        Some(CoreTimes { number: name.parse().ok()?, idle: idle + iowait, stolen })
    };
    text.lines().filter_map(core).collect()
}

impl BusyTimes {
    /// Adds the figures: of the machine, and of each core, even of one that did nothing. An absent
    /// figure would look like one that was not measured.
    pub fn add_to(&self, report: &mut LoadReport) {
        let mut add = |name: &str, value: f64| report.add_figure(Figure::new(name, value));
        add("machine_busy_s", self.cores.iter().map(|(_, busy_s)| busy_s).sum());
        add("machine_stolen_s", self.stolen_s);
        for (number, busy_s) in &self.cores {
            add(&format!("machine_core{number}{BUSY}"), *busy_s);
        }
    }
}

/// Returns the names of the figures of busy time in a report.
pub fn busy_figures(report: &LoadReport) -> Vec<String> {
    let is_busy = |name: &&str| name.starts_with("machine_") && name.ends_with(BUSY);
    let names = report.figures.iter().map(|figure| figure.name.as_str());
    names.filter(is_busy).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::load::manifest::Manifest;

    #[test]
    fn cores_are_read_as_the_kernel_writes_them() {
        let text = "cpu  434000 16692 52404 173450 1844 0 3082 3426 0 0\n\
                    cpu0 202554 6330 24437 105775 504 0 1005 1704 0 0\n\
                    cpu3 231445 10362 27966 67675 1339 0 2076 1721 0 0\n\
                    intr 1 2 3\nctxt 4\ncpu5 1 2\n";
        let core = |number, idle, stolen| CoreTimes { number, idle, stolen };
        assert_eq!(parse(text), [core(0, 105_775 + 504, 1704), core(3, 67_675 + 1339, 1721)]);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting_for_a_disk() {
        let tick_s = 1.0 / clock_ticks_per_second() as f64;
        let core = |number, idle, stolen| CoreTimes { number, idle, stolen };
        let at = Instant::now();
        let before = MachineTimes { at, cores: vec![core(0, 100, 7), core(1, 100, 0)] };
        let ten_s = Duration::from_secs(10);
        let idle = (10.0 / tick_s).round() as u64;
        let cores = vec![core(0, 100 + idle, 9), core(1, 100, 1), core(2, 0, 50)];
        let busy = MachineTimes { at: at + ten_s, cores }.since(&before);
        let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        busy.add_to(&mut report);
        let value = |name| report.figure(name).and_then(|figure| figure.value);
        assert!((value("machine_busy_s").unwrap() - 10.0).abs() < 1e-9);
        assert!((value("machine_stolen_s").unwrap() - 3.0 * tick_s).abs() < 1e-9);
        assert_eq!(value("machine_core1_busy_s"), Some(10.0));
        assert!(value("machine_core0_busy_s").unwrap() < 1e-9, "idle, and measured");
        let names = ["machine_busy_s", "machine_core0_busy_s", "machine_core1_busy_s"];
        assert_eq!(busy_figures(&report), names);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_core_that_computes_is_busy() {
        let before = MachineTimes::now().expect("there is /proc/stat");
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {}
        let busy = MachineTimes::now().unwrap().since(&before);
        let total: f64 = busy.cores.iter().map(|(_, busy_s)| busy_s).sum();
        assert!(total >= 0.25, "{busy:?}");
    }
}
