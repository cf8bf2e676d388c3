//! The results of a run of streams, and the figures made from them.
//!
//! Owns the figures that `fanout` and `ingest` have in common. Counts are kept apart from
//! quotients: [`quotient`] computes from the counts of a report, so the counts of several processes
//! can be added first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::publisher::Sent;
use super::slow_readers::SlowCounts;
use super::stamped_frame::Medium;
use super::stream_series::StreamSeries;
use crate::load::failures;
use crate::load::machine::{MachineTimes, busy_figures};
use crate::load::measured::Measured;
use crate::load::process::Sample;
use crate::load::report::{Distribution, Figure, LoadReport, Need, Series};

/// See the module's head.
pub(super) struct StreamResults {
    pub(super) arrivals: Arrivals,
    /// Arrivals of audio.
    pub(super) audio: Arrivals,
    pub(super) sent: Sent,
    /// Time from the intended opening of a player's connection to its first keyframe (us).
    pub(super) first_frame: Distribution,
    /// Time from the play command to the first keyframe (us).
    pub(super) first_frame_after_play: Distribution,
    /// Measurements of the generator before the window opened.
    pub(super) before_window: Option<Measured>,
    /// Measurements of the generator in the window.
    pub(super) in_window: Option<Measured>,
    /// Video frames of the window, counted once per player that was playing when it opened.
    pub(super) expected: u64,
    /// The same for audio frames.
    pub(super) audio_expected: u64,
    /// Players that were playing when the window opened.
    pub(super) players: u32,
    /// Those of them that still waited for a keyframe.
    pub(super) players_without_frame: u32,
    /// Players that failed to start or ended early, by reason.
    pub(super) players_failed: BTreeMap<&'static str, u32>,
    /// The same for publishers.
    pub(super) publishers_failed: BTreeMap<&'static str, u32>,
    /// Why the window closed early: all players or all publishers were lost.
    pub(super) lost: Option<String>,
    /// Counts of slow readers, if there are any.
    pub(super) slow: Option<SlowCounts>,
    /// State of the server when the window opened.
    pub(super) server_before: Option<Sample>,
    /// State of the server when the window closed.
    pub(super) server_after: Option<Sample>,
    /// State of the machine at the same two moments.
    pub(super) machine_before: Option<MachineTimes>,
    pub(super) machine_after: Option<MachineTimes>,
    /// The run second by second.
    pub(super) over_time: StreamSeries,
    /// Bytes of all publishers that the server has not acknowledged.
    pub(super) unacknowledged: Series,
    /// Length of the window.
    pub(super) open_for: Duration,
    /// The window closed as planned.
    pub(super) has_ended: bool,
}

/// Costs are given per this many bytes.
pub(super) const GB_BYTES: f64 = 1e9;

impl StreamResults {
    pub(super) fn new(stall: Duration) -> Self {
        Self {
            arrivals: Arrivals::new(Medium::Video, stall),
            audio: Arrivals::new(Medium::Audio, stall),
            sent: Sent::new(),
            first_frame: Distribution::new("first_frame"),
            first_frame_after_play: Distribution::new("first_frame_after_play"),
            before_window: None,
            in_window: None,
            expected: 0,
            audio_expected: 0,
            players: 0,
            players_without_frame: 0,
            players_failed: BTreeMap::new(),
            publishers_failed: BTreeMap::new(),
            lost: None,
            slow: None,
            server_before: None,
            server_after: None,
            machine_before: None,
            machine_after: None,
            over_time: StreamSeries::new(),
            unacknowledged: Series::new("unacknowledged"),
            open_for: Duration::ZERO,
            has_ended: false,
        }
    }

    /// Returns the arrivals of one medium.
    pub(super) const fn arrivals(&mut self, medium: Medium) -> &mut Arrivals {
        match medium {
            Medium::Video => &mut self.arrivals,
            Medium::Audio => &mut self.audio,
        }
    }

    /// Returns the expected frames of one medium.
    pub(super) const fn expected(&mut self, medium: Medium) -> &mut u64 {
        match medium {
            Medium::Video => &mut self.expected,
            Medium::Audio => &mut self.audio_expected,
        }
    }

    /// Records the first keyframe of a player: the time since its intended opening, and since the
    /// play command.
    pub(super) fn note_first_frame(
        &mut self,
        since_began: Duration,
        took: Duration,
        after_play: Duration,
    ) {
        // By the time at which the player was due.
        let due = since_began.saturating_sub(took);
        self.first_frame.record(due, took.as_micros() as u64);
        self.first_frame_after_play.record(due, after_play.as_micros() as u64);
    }

    /// Returns the figures that never fall during a run.
    pub(super) fn growing(&self) -> Vec<(String, f64)> {
        let arrivals = &self.arrivals;
        let figures = [
            ("frames_duplicated", arrivals.duplicated as f64),
            ("frames_out_of_order", arrivals.out_of_order as f64),
            ("frames_corrupt", arrivals.corrupt as f64),
            ("stalls", arrivals.stalls as f64),
            ("longest_gap_ms", arrivals.longest_gap.as_secs_f64() * 1000.0),
        ];
        let figures = figures.map(|(name, value)| (name.to_owned(), value));
        let sides = [("players", &self.players_failed), ("publishers", &self.publishers_failed)];
        let failed = sides.into_iter().flat_map(|(what, failed)| {
            let of_kind =
                move |(kind, n): (&&str, &u32)| (format!("{what}_failed_{kind}"), f64::from(*n));
            let all = (format!("{what}_failed"), f64::from(failed.values().sum::<u32>()));
            failed.iter().map(of_kind).chain([all])
        });
        figures.into_iter().chain(failed).collect()
    }

    /// Adds the usage of the server and of the machine during the window, if it is known.
    pub(super) fn add_server(&self, report: &mut LoadReport) {
        let (Some(before), Some(after)) = (self.server_before, self.server_after) else { return };
        let used = after.usage.since(before.usage);
        let wakeups = used.wakeups as f64 / self.open_for.as_secs_f64();
        for (name, value) in [
            ("server_cpu_s", used.cpu.as_secs_f64()),
            ("server_cpu_share", used.cpu.as_secs_f64() / self.open_for.as_secs_f64()),
            ("server_wakeups_per_s", wakeups),
            ("server_resident_bytes", after.resident_bytes as f64),
        ] {
            report.add_figure(Figure::new(name, value));
        }
        if let (Some(before), Some(after)) = (&self.machine_before, &self.machine_after) {
            after.since(before).add_to(report);
        }
    }

    /// Adds the failures of `publishers` and `players`, and judges them.
    pub(super) fn add_failures(
        &self,
        report: &mut LoadReport,
        [publishers, players]: [u32; 2],
        share_max: f64,
    ) {
        report.failed.clone_from(&self.lost);
        let sides = [
            ("publishers", publishers, &self.publishers_failed),
            ("players", players, &self.players_failed),
        ];
        for (what, all, failed) in sides.into_iter().filter(|(_, all, _)| *all > 0) {
            count_failed(report, what, failed);
            let sum: u32 = failed.values().sum();
            failures::judge(report, what, sum.into(), all.into(), share_max);
        }
    }

    /// Adds the failures of the players in a step, which its outcome judges.
    pub(super) fn count_failures(&self, report: &mut LoadReport) {
        count_failed(report, "players", &self.players_failed);
    }

    /// Withholds figures that are unknown because the run ended before the window opened, or before
    /// its last frames had arrived.
    pub(super) fn withhold_unknown(&self, report: &mut LoadReport) {
        if self.before_window.is_none() {
            let reason = "the run ended before the measurement began";
            report.withhold_if_needs(Need::OpenWindow, reason);
        }
        if !self.has_ended {
            report.withhold_if_needs(Need::WholeRun, "the run ended before its time was over");
        }
    }
}

/// Adds the connections called `what` that failed, in sum and by reason.
fn count_failed(report: &mut LoadReport, what: &str, failed: &BTreeMap<&'static str, u32>) {
    count(report, &format!("{what}_failed"), failed.values().sum::<u32>().into());
    for (kind, number) in failed {
        count(report, &format!("{what}_failed_{kind}"), (*number).into());
    }
}

/// Adds a count.
pub(super) fn count(report: &mut LoadReport, name: &str, count: u64) {
    report.add_figure(Figure::new(name, count as f64));
}

/// Adds the busy time of the machine and of each core per GB of `bytes`.
pub(super) fn busy_per_gb(report: &mut LoadReport, bytes: &str) {
    for name in busy_figures(report) {
        quotient(report, &format!("{name}_per_gb"), [&name, bytes], GB_BYTES);
    }
}

/// Adds the quotient of two figures times `scale`, unless one of them is missing.
pub(super) fn quotient(report: &mut LoadReport, name: &str, [upper, lower]: [&str; 2], scale: f64) {
    let (Some(upper), Some(lower)) = (report.figure(upper), report.figure(lower)) else { return };
    let figure = match (upper.value, lower.value) {
        (Some(upper), Some(lower)) => Figure::new(name, scale * upper / lower),
        _ => {
            let reason = upper.withheld.or(lower.withheld).unwrap_or_default();
            Figure::withheld(name, &reason)
        }
    };
    report.add_figure(figure);
}
