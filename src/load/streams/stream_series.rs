//! A run of streams second by second: throughput, players, failures, and losses.
//!
//! Owns the counts between two samples. Losses are counted at the second in which a frame was
//! intended, so they show where the server lost it and not where the run gave up.

use std::time::Duration;

use crate::load::report::{LoadReport, RateSeries, Series};

/// See the module's head.
#[derive(Debug)]
pub(super) struct StreamSeries {
    players: Series,
    failures: RateSeries,
    throughput: RateSeries,
    /// Bytes that have arrived, or that the kernel has taken if there are no players.
    bytes: u64,
    /// Number of players whose frames count, by stream.
    counted: Vec<u32>,
    /// Frames of the window that were expected and that arrived, by the second of their intended
    /// time.
    frames: Vec<(u64, u64)>,
}

impl StreamSeries {
    pub(super) fn new() -> Self {
        Self {
            players: Series::new("players"),
            failures: RateSeries::new("failures"),
            throughput: RateSeries::new("throughput"),
            bytes: 0,
            counted: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Adds a point to each series.
    pub(super) fn sample(&mut self, at: Duration, players: u32, failed: u32) {
        self.players.push(at.as_secs_f64(), players.into());
        self.failures.note(at, failed.into());
        self.throughput.note(at, 8.0 * self.bytes as f64);
    }

    pub(super) const fn note_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Forgets which players count, for the next window.
    pub(super) fn forget_counted(&mut self) {
        self.counted.clear();
    }

    /// Counts the frames of another player of `stream`.
    pub(super) fn note_counted(&mut self, stream: u32) {
        let stream = stream as usize;
        self.counted.resize(self.counted.len().max(stream + 1), 0);
        self.counted[stream] += 1;
    }

    /// Records a frame of `stream` that was due `at` since the start of the run.
    pub(super) fn expect(&mut self, stream: u32, at: Duration) {
        let players = self.counted.get(stream as usize).copied().unwrap_or_default();
        self.second(at).0 += u64::from(players);
    }

    /// Records that a counted player has received a frame for the first time.
    pub(super) fn receive(&mut self, at: Duration) {
        self.second(at).1 += 1;
    }

    fn second(&mut self, at: Duration) -> &mut (u64, u64) {
        let index = usize::try_from(at.as_secs()).unwrap_or(usize::MAX - 1);
        self.frames.resize(self.frames.len().max(index + 1), (0, 0));
        &mut self.frames[index]
    }

    /// Adds the series of a run with players.
    pub(super) fn add_to(&self, report: &mut LoadReport) {
        let mut losses = Series::new("losses");
        for (end_s, (expected, received)) in (1_u32..).zip(&self.frames) {
            losses.push(end_s.into(), expected.saturating_sub(*received) as f64);
        }
        report.series.extend([
            self.throughput.clone().into_series(),
            self.players.clone(),
            self.failures.clone().into_series(),
            losses,
        ]);
    }

    /// Adds the series of a run without players.
    pub(super) fn add_throughput_to(&self, report: &mut LoadReport) {
        report.series.push(self.throughput.clone().into_series());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::manifest::Manifest;

    fn series(over_time: StreamSeries, name: &str) -> Vec<(f64, f64)> {
        let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        over_time.add_to(&mut report);
        let found = report.series.into_iter().find(|series| series.name == name);
        found.map(|series| series.points).unwrap_or_default()
    }

    #[test]
    fn losses_are_counted_where_the_frame_was_intended() {
        let mut over_time = StreamSeries::new();
        [0, 0, 1].into_iter().for_each(|stream| over_time.note_counted(stream));
        for (stream, at_ms) in [(0, 100), (0, 1100), (1, 1200), (0, 2100), (7, 2200)] {
            over_time.expect(stream, Duration::from_millis(at_ms));
        }
        for at_ms in [100, 100, 1100, 2100, 2100] {
            over_time.receive(Duration::from_millis(at_ms));
        }
        assert_eq!(series(over_time, "losses"), [(1.0, 0.0), (2.0, 2.0), (3.0, 0.0)]);
    }

    #[test]
    fn throughput_is_in_bits_and_failures_are_those_of_the_second() {
        let samples = || {
            let mut over_time = StreamSeries::new();
            over_time.note_bytes(1000);
            over_time.sample(Duration::from_secs(1), 5, 0);
            over_time.note_bytes(500);
            over_time.sample(Duration::from_secs(2), 3, 2);
            over_time
        };
        assert_eq!(series(samples(), "throughput"), [(1.0, 8000.0), (2.0, 4000.0)]);
        assert_eq!(series(samples(), "failures"), [(1.0, 0.0), (2.0, 2.0)]);
        assert_eq!(series(samples(), "players"), [(1.0, 5.0), (2.0, 3.0)]);
    }
}
