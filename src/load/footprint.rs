//! The cost of resting sessions for the server: memory per session, and activity while idle.
//!
//! Owns when the server is sampled and which figures are honest. Memory is the difference between
//! before the first session and after a rest with all sessions. A server that was used before can
//! reuse freed memory instead of growing; then the figure is withheld. Only data counts, not
//! program text and mapped files, because sessions need neither.

use std::time::Duration;

use super::LoadError;
use super::kernel::Sockets;
use super::process::{MemoryUsage, ProcessError, Usage, Watch};
use super::report::{Figure, LoadReport};
use super::sessions::add_quotient;

/// The figure by which memory is divided.
const SESSIONS: &str = "sessions_held";
const USED_BEFORE: &str = "the server reuses memory that it had freed before; measure a fresh \
                           server, with more sessions";
const OTHERS: &str = "other connections of this machine ended during the run; measure while the \
                      machine is otherwise idle";
const SOCKETS_DOUBT: &str = "kernel_tcp_bytes_per_session covers the whole machine: it counts the \
                             buffers at both ends of each connection, and of all other connections";

/// See the module's head.
#[derive(Debug)]
pub struct Footprint {
    before: MemoryUsage,
    sockets_before: Option<Sockets>,
    /// Processor usage of the server before the first session.
    used_before: Usage,
    rest: Option<Rest>,
    after: Option<After>,
}

/// State when all sessions had reached their stage.
#[derive(Debug)]
struct Rest {
    at: Duration,
    spent: Usage,
}

/// State after the rest.
#[derive(Debug)]
struct After {
    slept: Duration,
    spent: Usage,
    memory: MemoryUsage,
    sockets: Option<Sockets>,
}

impl Footprint {
    /// Takes the first readings, before the first session.
    ///
    /// # Errors
    /// The server has ended.
    pub fn begin(server: &Watch) -> Result<Self, ProcessError> {
        Ok(Self {
            before: server.memory()?,
            sockets_before: Sockets::now(),
            used_before: server.used_before(),
            rest: None,
            after: None,
        })
    }

    /// Starts the rest: all sessions are held. The server was sampled just now, `at` since the
    /// start of the run.
    pub fn rest_begins(&mut self, server: &Watch, at: Duration) {
        self.rest = Some(Rest { at, spent: server.spent() });
    }

    /// Ends the rest. The server was sampled just now.
    ///
    /// # Errors
    /// The server has ended.
    pub fn rest_ends(&mut self, server: &Watch, at: Duration) -> Result<(), LoadError> {
        let Some(rest) = &self.rest else { return Ok(()) };
        self.after = Some(After {
            slept: at.saturating_sub(rest.at),
            spent: server.spent().since(rest.spent),
            memory: server.memory()?,
            sockets: Sockets::now(),
        });
        Ok(())
    }

    /// Adds the figures. The session counts of all processes are already in `report`.
    pub fn report(self, report: &mut LoadReport) {
        let (Some(rest), Some(after)) = (self.rest, self.after) else {
            return report
                .add_doubt("the sessions did not rest, so the cost to the server is unknown");
        };
        // A session takes some memory, so a server that did not grow had it already.
        let grown = growth(self.before.data_bytes, after.memory.data_bytes, 1, USED_BEFORE);
        add(report, "resident_bytes", grown);
        let files = (self.before.memory_file_bytes, after.memory.memory_file_bytes);
        add(report, "memory_file_bytes", Ok(files.1 as f64 - files.0 as f64));
        if let (Some(before), Some(sockets)) = (self.sockets_before, after.sockets) {
            // An idle socket holds no buffer, so no growth is a result. Only less than before means
            // that other connections have ended.
            let grown = growth(before.memory_bytes, sockets.memory_bytes, 0, OTHERS);
            add(report, "kernel_tcp_bytes", grown);
            report.add_doubt(SOCKETS_DOUBT);
        }
        if self.used_before.cpu > rest.spent.cpu {
            report.add_doubt(
                "the server had worked before this run: memory that it had freed and now reuses \
                 makes resident_bytes_per_session too low; measure a fresh server",
            );
        }
        let slept_s = after.slept.as_secs_f64();
        let share = 100.0 * after.spent.cpu.as_secs_f64() / slept_s;
        report.add_figure(Figure::new("server_idle_cpu_percent", share));
        let wakeups = after.spent.wakeups as f64 / slept_s;
        report.add_figure(Figure::new("server_idle_wakeups_per_s", wakeups));
        let opening_us = rest.spent.cpu.as_secs_f64() * 1e6;
        report.add_figure(Figure::new("server_opening_cpu_us", opening_us));
        let name = "server_opening_cpu_us_per_session";
        add_quotient(report, name, "server_opening_cpu_us", "sessions_opened");
    }
}

/// Adds the growth in total and per session.
fn add(report: &mut LoadReport, unit: &str, grown: Result<f64, String>) {
    let name = format!("server_{unit}");
    let name = if unit.starts_with("kernel") { unit.to_owned() } else { name };
    report.add_figure(match grown {
        Ok(bytes) => Figure::new(&name, bytes),
        Err(why) => Figure::withheld(&name, &why),
    });
    let quotient = format!("{unit}_per_session");
    add_quotient(report, &quotient, &name, SESSIONS);
}

/// Returns the growth in bytes. With less than `least` the true value is unknown, and the error
/// gives `why`.
fn growth(before: u64, after: u64, least: u64, why: &str) -> Result<f64, String> {
    match after.checked_sub(before) {
        Some(grown) if grown >= least => Ok(grown as f64),
        _ => Err(format!("{before} bytes before the sessions and {after} with them: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::manifest::Manifest;

    fn report(footprint: Footprint) -> LoadReport {
        let mut report = LoadReport::new("idle", Manifest::new("h", BTreeMap::new()));
        report.add_figure(Figure::new("sessions_opened", 125.0));
        report.add_figure(Figure::new(SESSIONS, 100.0));
        footprint.report(&mut report);
        report
    }

    fn memory(data_bytes: u64) -> MemoryUsage {
        MemoryUsage { resident_bytes: data_bytes + 3_000_000, data_bytes, memory_file_bytes: 0 }
    }

    fn usage(cpu_ms: u64, wakeups: u64) -> Usage {
        Usage { cpu: Duration::from_millis(cpu_ms), wakeups, ..Usage::default() }
    }

    fn footprint(before: u64, after: u64) -> Footprint {
        let sockets = |memory_bytes| Some(Sockets { memory_bytes, time_wait: 0 });
        Footprint {
            before: memory(before),
            sockets_before: sockets(4096),
            used_before: usage(3, 9),
            rest: Some(Rest { at: Duration::from_secs(1), spent: usage(50, 80) }),
            after: Some(After {
                slept: Duration::from_secs(4),
                spent: usage(2, 8),
                memory: memory(after),
                sockets: sockets(12_288),
            }),
        }
    }

    #[test]
    fn costs_are_differences_by_sessions_and_time() {
        let report = report(footprint(1_000_000, 1_051_200));
        for (name, value) in [
            ("resident_bytes_per_session", 512.0),
            ("kernel_tcp_bytes_per_session", 81.92),
            ("server_memory_file_bytes", 0.0),
            ("server_idle_cpu_percent", 0.05),
            ("server_idle_wakeups_per_s", 2.0),
            ("server_opening_cpu_us_per_session", 400.0),
        ] {
            let given = report.figure(name).and_then(|figure| figure.value);
            assert!(given.is_some_and(|given| (given - value).abs() < 1e-9), "{name}: {given:?}");
        }
        assert_eq!(report.doubts, [SOCKETS_DOUBT]);
    }

    #[test]
    fn memory_that_did_not_grow_is_withheld_with_the_reason_and_the_remedy() {
        for after in [1_000_000, 900_000] {
            let report = report(footprint(1_000_000, after));
            let figure = report.figure("resident_bytes_per_session").unwrap();
            assert_eq!(figure.value, None);
            let why = figure.withheld.unwrap();
            assert!(why.contains("measure a fresh server"), "{why}");
        }
    }

    #[test]
    fn sockets_without_buffers_cost_nothing_and_fewer_than_before_are_those_of_others() {
        let kernel = |after: u64| {
            let mut footprint = footprint(1, 2);
            if let Some(sockets) = footprint.after.as_mut().and_then(|after| after.sockets.as_mut())
            {
                sockets.memory_bytes = after;
            }
            let figure = report(footprint).figure("kernel_tcp_bytes_per_session").unwrap();
            (figure.value, figure.withheld.is_some_and(|why| why.contains("ended")))
        };
        assert_eq!(kernel(4096), (Some(0.0), false), "equal is not ended meanwhile");
        assert_eq!(kernel(4095), (None, true));
    }

    #[test]
    fn a_server_that_had_more_work_before_is_doubted() {
        let report = report(Footprint { used_before: usage(51, 0), ..footprint(1, 2) });
        assert!(report.doubts.iter().any(|doubt| doubt.contains("a fresh server")));
    }
}
