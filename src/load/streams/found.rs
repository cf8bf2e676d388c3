//! What a run of streams found, and the figures that are made of it.
//!
//! Owns how the figures are made that both commands have. Counts are kept apart from quotients,
//! which [`quotient`] makes from the counts of a report alone: those of several processes are
//! added up first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::publisher::Sent;
use crate::load::measured::Measured;
use crate::load::process::Sample;
use crate::load::report::{Better, Distribution, Figure, LoadReport};

/// See the module's head.
pub(super) struct Found {
    pub(super) arrivals: Arrivals,
    pub(super) sent: Sent,
    /// From when a player's connection was to be opened to its first keyframe (us).
    pub(super) first_frame: Distribution,
    /// From its play command to its first keyframe (us).
    pub(super) first_frame_after_play: Distribution,
    /// How the generator fared before the window opened.
    pub(super) coming_up: Option<Measured>,
    /// Frames of the window that the players which were up when it opened were to get.
    pub(super) expected: u64,
    /// Players that were up when the window opened.
    pub(super) players: u32,
    /// Those of them that still waited for a keyframe then.
    pub(super) players_without_frame: u32,
    /// Players that did not come up, or did not stay, by reason.
    pub(super) failed: BTreeMap<&'static str, u32>,
    /// What the server had used when the window opened.
    pub(super) server_before: Option<Sample>,
    /// What it had used when the window closed.
    pub(super) server_after: Option<Sample>,
    /// How long the window was open.
    pub(super) open_for: Duration,
    /// The window has closed in its time.
    pub(super) has_ended: bool,
}

/// Costs are given for so many bytes.
pub(super) const GB_BYTES: f64 = 1e9;

impl Found {
    pub(super) fn new(stall: Duration) -> Self {
        Self {
            arrivals: Arrivals::new(stall),
            sent: Sent::new(),
            first_frame: Distribution::new("first_frame"),
            first_frame_after_play: Distribution::new("first_frame_after_play"),
            coming_up: None,
            expected: 0,
            players: 0,
            players_without_frame: 0,
            failed: BTreeMap::new(),
            server_before: None,
            server_after: None,
            open_for: Duration::ZERO,
            has_ended: false,
        }
    }

    /// Adds what the server used while the window was open, if it is known.
    pub(super) fn add_server(&self, report: &mut LoadReport) {
        let (Some(before), Some(after)) = (self.server_before, self.server_after) else { return };
        let used = after.usage.since(before.usage);
        let wakeups = used.wakeups as f64 / self.open_for.as_secs_f64();
        for (name, value) in [
            ("server_cpu_s", used.cpu.as_secs_f64()),
            ("server_wakeups_per_s", wakeups),
            ("server_resident_bytes", after.resident_bytes as f64),
        ] {
            // Each process looks at the same server.
            report.add_figure(Figure::new(name, value, Better::Lower).worst_of_all());
        }
    }

    /// Withholds what a run that ended before its window closed does not know.
    pub(super) fn withhold_unknown(&self, report: &mut LoadReport, names: &[&str]) {
        if !self.has_ended {
            let reason = "the run ended before its time was over";
            names.iter().for_each(|name| report.withhold(name, reason));
        }
    }
}

/// Adds a count.
pub(super) fn count(report: &mut LoadReport, name: &str, count: u64, better: Better) {
    report.add_figure(Figure::new(name, count as f64, better));
}

/// Adds the quotient of two figures, times `scale`, unless one of them is not there.
pub(super) fn quotient(
    report: &mut LoadReport,
    name: &str,
    [upper, lower]: [&str; 2],
    scale: f64,
    better: Better,
) {
    let (Some(upper), Some(lower)) = (report.figure(upper), report.figure(lower)) else { return };
    let figure = match (upper.value, lower.value) {
        (Some(upper), Some(lower)) => Figure::new(name, scale * upper / lower, better),
        _ => {
            let reason = upper.withheld.or(lower.withheld).unwrap_or_default();
            Figure::withheld(name, &reason, better)
        }
    };
    report.add_figure(figure.worst_of_all());
}
