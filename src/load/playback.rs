//! How one track would play: how far its frames fall behind, and how often a player would stall.
//!
//! Owns the arithmetic on pairs of arrival time and timestamp. The *offset* of a frame is its
//! arrival time minus its timestamp. It stays the same while a stream arrives as fast as it was
//! made. A frame is *behind* by its offset minus the smallest offset so far. The frames that a
//! server sends from its cache at the start are old, and arrive with offsets that fall. So they set
//! the smallest offset, and do not count as behind.
//!
//! This module reads no clock, and does not know what a frame is. Its memory grows by a point for
//! each second.

use super::report::{Figure, LoadReport, Series};
use crate::time::Time;

/// Buffers of the players in the model.
const BUFFERS_MS: [i64; 3] = [200, 1000, 3000];
/// Index in [`BUFFERS_MS`] of the player by which a stream is called healthy or not.
const JUDGE: usize = 1;
/// A stream that ends further behind than this is unhealthy, whatever its players had buffered.
const BEHIND_MAX_US: i64 = 1_000_000;
/// A step of timestamps beyond this, back or ahead of the stream, starts a new timeline.
const JUMP_MS: i64 = 1000;
const SECOND_US: i64 = 1_000_000;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Playback {
    /// Start of the time axis.
    opened: Time,
    first: Option<Placed>,
    last: Placed,
    last_timestamp: u32,
    /// Last step of the timestamps without a jump.
    step_us: i64,
    offset_min_us: i64,
    offset_max_us: i64,
    behind_us: i64,
    behind_max_us: i64,
    course: Course,
    players: [BufferedPlayer; BUFFERS_MS.len()],
    levels: Levels,
}

/// A frame on two time axes, both in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Placed {
    /// Arrival since [`Playback::opened`].
    arrived_us: i64,
    /// Timestamp since that of the first frame. It does not wrap and does not jump.
    media_us: i64,
}

impl Placed {
    const fn offset_us(self) -> i64 {
        self.arrived_us - self.media_us
    }
}

impl Playback {
    /// Creates the state before the first frame. Arrivals are measured from `opened`.
    pub(super) fn new(opened: Time) -> Self {
        Self {
            opened,
            first: None,
            last: Placed::default(),
            last_timestamp: 0,
            step_us: 0,
            offset_min_us: i64::MAX,
            offset_max_us: i64::MIN,
            behind_us: 0,
            behind_max_us: 0,
            course: Course::default(),
            players: BUFFERS_MS.map(|buffer_ms| BufferedPlayer::new(buffer_ms * 1000)),
            levels: Levels::default(),
        }
    }

    /// Records a frame that arrived at `now`.
    pub(super) fn note(&mut self, timestamp: u32, now: Time) {
        let arrived_us = self.since_opened(now);
        self.advance_course(arrived_us);
        let frame = self.place(timestamp, arrived_us);
        self.note_offset(frame.offset_us());
        self.course.note(self.behind_us);
        self.players.iter_mut().for_each(|player| player.note(frame));
        let first = self.first.get_or_insert(frame);
        self.levels.note(frame.arrived_us - first.arrived_us, frame.media_us);
        (self.last, self.last_timestamp) = (frame, timestamp);
    }

    /// Ends the measurement at `now`. The frame that should have followed is at least as late as
    /// that, so a stream that has frozen falls behind until here.
    pub(super) fn end(&mut self, now: Time) {
        if self.first.is_none() {
            return;
        }
        let arrived_us = self.since_opened(now);
        self.advance_course(arrived_us);
        let awaited = Placed { arrived_us, ..self.awaited() };
        if awaited.offset_us() > self.last.offset_us() {
            self.note_offset(awaited.offset_us());
        }
        self.players.iter_mut().for_each(|player| player.end(awaited));
    }

    /// Returns the shortest buffer in milliseconds with which a player would not have stalled: it
    /// starts once it holds that much of the stream. `None` if a player would have had to wait
    /// longer than the measurement took.
    fn buffer_enough_ms(&self) -> Option<f64> {
        // A player that starts this long after the first frame needs no frame before it arrives.
        let delay_us = self.offset_max_us - self.first?.offset_us();
        let held_us = if delay_us <= 0 { 0 } else { self.levels.at(delay_us)? };
        Some(millis(held_us))
    }

    /// Returns whether the stream would have played, in words.
    pub(super) fn health(&self) -> String {
        let judge = &self.players[JUDGE];
        let buffer_ms = judge.buffer_us / 1000;
        let mut faults = Vec::new();
        if judge.rebuffers > 0 {
            let (times, total_s) = (judge.rebuffers, seconds(judge.rebuffered_us));
            faults.push(format!(
                "a player with a buffer of {buffer_ms} ms would have stalled {times} times, for \
                 {total_s:.1} s in total"
            ));
        }
        if self.behind_us > BEHIND_MAX_US {
            let behind_s = seconds(self.behind_us);
            faults.push(format!("the stream ended {behind_s:.1} s behind its timestamps"));
        }
        match faults.is_empty() {
            true => format!("healthy: a player with a buffer of {buffer_ms} ms does not stall"),
            false => format!("unhealthy: {}", faults.join("; ")),
        }
    }

    /// Adds the figures, the series and the judgement.
    pub(super) fn add_to(self, report: &mut LoadReport) {
        report.findings.insert("health".to_owned(), self.health());
        let mut add = |name: &str, value: f64| report.add_figure(Figure::new(name, value));
        add("behind_ms", millis(self.behind_us));
        add("behind_max_ms", millis(self.behind_max_us));
        for player in &self.players {
            let buffer_ms = player.buffer_us / 1000;
            add(&format!("rebuffers_at_{buffer_ms}ms"), player.rebuffers as f64);
            add(&format!("rebuffered_at_{buffer_ms}ms_s"), seconds(player.rebuffered_us));
        }
        let name = "buffer_enough_ms";
        report.add_figure(match self.buffer_enough_ms() {
            Some(enough_ms) => Figure::new(name, enough_ms),
            None => Figure::withheld(name, "a player would have waited until the end"),
        });
        report.series.push(self.course.series);
    }

    fn since_opened(&self, now: Time) -> i64 {
        i64::try_from(now.since(self.opened).as_micros()).unwrap_or(i64::MAX)
    }

    /// Places a frame on the timeline. If its timestamp jumps, the timeline goes on as if the frame
    /// had been made as long after the last one as it arrived: the delay of a new timeline cannot
    /// be known.
    fn place(&mut self, timestamp: u32, arrived_us: i64) -> Placed {
        if self.first.is_none() {
            self.course.begin(arrived_us);
            return Placed { arrived_us, media_us: 0 };
        }
        let step_ms = i64::from(timestamp.wrapping_sub(self.last_timestamp) as i32);
        let media_us = self.last.media_us + 1000 * step_ms;
        // A step ahead is no jump if it only makes up for frames that the server skipped.
        let is_early = arrived_us - media_us < self.offset_min_us - 1000 * JUMP_MS;
        if step_ms < -JUMP_MS || step_ms > JUMP_MS && is_early {
            let media_us = self.last.media_us + arrived_us - self.last.arrived_us;
            return Placed { arrived_us, media_us };
        }
        if (1..=JUMP_MS).contains(&step_ms) {
            self.step_us = 1000 * step_ms;
        }
        Placed { arrived_us, media_us }
    }

    fn note_offset(&mut self, offset_us: i64) {
        self.offset_min_us = self.offset_min_us.min(offset_us);
        self.offset_max_us = self.offset_max_us.max(offset_us);
        self.behind_us = offset_us - self.offset_min_us;
        self.behind_max_us = self.behind_max_us.max(self.behind_us);
    }

    /// Returns where the frame after the last one belongs on the timeline.
    const fn awaited(&self) -> Placed {
        let Placed { arrived_us, media_us } = self.last;
        Placed { arrived_us, media_us: media_us + self.step_us }
    }

    /// Ends all seconds until `now_us` in the series. In a second without frames the stream is
    /// behind by as much as the awaited frame is late at its end.
    fn advance_course(&mut self, now_us: i64) {
        if self.first.is_none() {
            return;
        }
        let awaited = self.awaited();
        while self.course.ends_us <= now_us {
            let offset_us = self.course.ends_us - awaited.media_us;
            self.course.end_second(offset_us - self.offset_min_us);
        }
    }
}

/// How far the stream was behind, as the maximum of each second.
#[derive(Debug)]
struct Course {
    series: Series,
    max_us: i64,
    /// End of the current second.
    ends_us: i64,
}

impl Default for Course {
    fn default() -> Self {
        Self { series: Series::new("behind"), max_us: 0, ends_us: 0 }
    }
}

impl Course {
    fn begin(&mut self, now_us: i64) {
        self.ends_us = (now_us / SECOND_US + 1) * SECOND_US;
    }

    fn note(&mut self, behind_us: i64) {
        self.max_us = self.max_us.max(behind_us);
    }

    fn end_second(&mut self, behind_us: i64) {
        let max_us = self.max_us.max(behind_us);
        self.series.push(seconds(self.ends_us), millis(max_us));
        (self.max_us, self.ends_us) = (0, self.ends_us + SECOND_US);
    }
}

/// A player that starts, and continues after a stall, once it holds `buffer_us` of the stream.
#[derive(Debug)]
struct BufferedPlayer {
    buffer_us: i64,
    state: PlayerState,
    rebuffers: u64,
    /// Time in stalls. The wait before the first frame is shown is not one.
    rebuffered_us: i64,
}

#[derive(Clone, Copy, Debug)]
enum PlayerState {
    /// Waits with the picture of `position_us`, since it stalled; `None` at the start.
    Buffering { position_us: i64, stalled_us: Option<i64> },
    /// Shows the timestamp of the current time minus this. A frame with a larger offset is late.
    Playing { delay_us: i64 },
}

impl BufferedPlayer {
    const fn new(buffer_us: i64) -> Self {
        let state = PlayerState::Buffering { position_us: 0, stalled_us: None };
        Self { buffer_us, state, rebuffers: 0, rebuffered_us: 0 }
    }

    fn note(&mut self, frame: Placed) {
        self.stall_if_late(frame);
        if let PlayerState::Buffering { position_us, stalled_us } = self.state
            && frame.media_us - position_us >= self.buffer_us
        {
            self.rebuffered_us += stalled_us.map_or(0, |stalled_us| frame.arrived_us - stalled_us);
            self.state = PlayerState::Playing { delay_us: frame.arrived_us - position_us };
        }
    }

    /// Ends the measurement; `awaited` has not arrived.
    fn end(&mut self, awaited: Placed) {
        self.stall_if_late(awaited);
        if let PlayerState::Buffering { stalled_us: Some(stalled_us), .. } = self.state {
            self.rebuffered_us += awaited.arrived_us - stalled_us;
        }
    }

    fn stall_if_late(&mut self, frame: Placed) {
        if let PlayerState::Playing { delay_us } = self.state
            && frame.offset_us() > delay_us
        {
            self.rebuffers += 1;
            let stalled_us = Some(frame.media_us + delay_us);
            self.state = PlayerState::Buffering { position_us: frame.media_us, stalled_us };
        }
    }
}

/// When how much of the stream had arrived. Each point is 1 % further than the one before, so there
/// are some thousand of them in a year.
#[derive(Debug, Default)]
struct Levels(Vec<(i64, i64)>);

impl Levels {
    /// Records that the stream had arrived up to `media_us` at this time since the first frame.
    fn note(&mut self, since_first_us: i64, media_us: i64) {
        let next_us = self.0.last().map_or(1, |(_, last_us)| last_us + last_us / 100 + 1);
        if media_us >= next_us {
            self.0.push((since_first_us, media_us));
        }
    }

    /// Returns the first level that was reached at this time or later.
    fn at(&self, since_first_us: i64) -> Option<i64> {
        let at = self.0.partition_point(|(at_us, _)| *at_us < since_first_us);
        self.0.get(at).map(|(_, media_us)| *media_us)
    }
}

fn millis(us: i64) -> f64 {
    us as f64 / 1000.0
}

fn seconds(us: i64) -> f64 {
    us as f64 / SECOND_US as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::manifest::Manifest;

    const OPENED: Time = Time::from_micros(7_000_000);

    /// Plays frames, as pairs of arrival and timestamp in milliseconds, until `end_ms`.
    fn played(frames: impl IntoIterator<Item = (u64, u32)>, end_ms: u64) -> Playback {
        let mut playback = Playback::new(OPENED);
        for (arrived_ms, timestamp) in frames {
            playback.note(timestamp, OPENED.plus_millis(arrived_ms));
        }
        playback.end(OPENED.plus_millis(end_ms));
        playback
    }

    /// Rebuffers and the time in them (ms), by buffer.
    fn rebuffers(playback: &Playback) -> [(u64, i64); 3] {
        playback.players.each_ref().map(|player| (player.rebuffers, player.rebuffered_us / 1000))
    }

    #[test]
    fn a_stream_that_arrives_as_it_is_made_is_healthy() {
        let playback = played((0..100).map(|n| (500 + 40 * n, 9000 + 40 * n as u32)), 4480);
        assert_eq!((playback.behind_us, playback.behind_max_us), (0, 0));
        assert_eq!(rebuffers(&playback), [(0, 0); 3]);
        assert_eq!(playback.buffer_enough_ms(), Some(0.0));
        assert_eq!(playback.health(), "healthy: a player with a buffer of 1000 ms does not stall");
    }

    /// A frame of 100 ms each 300 ms. With a buffer of 1 s, the player starts at 3 s and lacks the
    /// frame of 1.6 s at 4.6 s. It goes on at 7.8 s and lacks that of 3.2 s from 9.4 s to the end.
    #[test]
    fn a_third_of_the_bandwidth_is_unhealthy() {
        let playback = played((0..=33).map(|n| (300 * n, 100 * n as u32)), 10_000);
        // At 10 s the frame of 3.4 s is awaited.
        assert_eq!((playback.behind_us, playback.behind_max_us), (6_600_000, 6_600_000));
        assert_eq!(rebuffers(&playback)[1], (2, 3200 + 600));
        assert_eq!(rebuffers(&playback)[2], (0, 0), "it starts at 9 s");
        // Started at 6.6 s, with 2.2 s of the stream, nothing would have been late.
        assert_eq!(playback.buffer_enough_ms(), Some(2200.0));
        let health = playback.health();
        let expected = "unhealthy: a player with a buffer of 1000 ms would have stalled 2 times, \
                        for 3.8 s in total; the stream ended 6.6 s behind its timestamps";
        assert_eq!(health, expected);
    }

    #[test]
    fn the_buffer_that_is_enough_is_enough_and_a_frame_less_is_not() {
        for (buffer_us, is_enough) in [(2_200_000, true), (2_100_000, false)] {
            let mut player = BufferedPlayer::new(buffer_us);
            for n in 0..=33 {
                player.note(Placed { arrived_us: 300_000 * n, media_us: 100_000 * n });
            }
            player.end(Placed { arrived_us: 10_000_000, media_us: 3_400_000 });
            assert_eq!(player.rebuffers == 0, is_enough, "{buffer_us}");
        }
    }

    /// Frames each 100 ms, none between 2 s and 3.5 s, then all of them at once.
    #[test]
    fn a_pause_stalls_players_with_less_buffer_than_it_took() {
        let arrival = |n: u64| if (21..=35).contains(&n) { 3500 } else { 100 * n };
        let playback = played((0..60).map(|n| (arrival(n), 100 * n as u32)), 5950);
        assert_eq!((playback.behind_us, playback.behind_max_us), (0, 1_400_000));
        // The frame of 2.1 s is needed 0.2 s, 1 s or 3 s after it was due.
        assert_eq!(rebuffers(&playback), [(1, 1200), (1, 400), (0, 0)]);
        assert_eq!(playback.buffer_enough_ms(), Some(1400.0));
        let points = &playback.course.series.points;
        assert_eq!(points[..], [(1.0, 0.0), (2.0, 0.0), (3.0, 900.0), (4.0, 1400.0), (5.0, 0.0)]);
    }

    #[test]
    fn a_stream_that_freezes_falls_behind_until_the_end() {
        let playback = played((0..=20).map(|n| (100 * n, 100 * n as u32)), 5000);
        assert_eq!((playback.behind_us, playback.behind_max_us), (2_900_000, 2_900_000));
        assert_eq!(rebuffers(&playback), [(1, 2700), (1, 1900), (0, 0)]);
        let points = &playback.course.series.points;
        assert_eq!(points[2..], [(3.0, 900.0), (4.0, 1900.0), (5.0, 2900.0)]);
    }

    #[test]
    fn what_a_server_had_kept_is_not_behind_and_serves_as_a_buffer() {
        // Two seconds at once, then as it is made. The frame of 3 s is due at 1.05 s, and comes at
        // 2.6 s.
        let arrival = |n: u64| match n {
            0..20 => 50,
            30..45 => 2600,
            _ => 50 + 100 * (n - 20),
        };
        let playback = played((0..80).map(|n| (arrival(n), 100 * n as u32)), 6040);
        assert_eq!(playback.behind_max_us, 1_550_000);
        assert_eq!(rebuffers(&playback), [(0, 0); 3]);
        assert_eq!(playback.buffer_enough_ms(), Some(0.0));
    }

    #[test]
    fn a_timeline_that_starts_again_is_not_a_delay_and_a_wrap_is_none() {
        let back = |n: u64| (100 * n, if n < 20 { 3_600_000 + 100 * n } else { 100 * n } as u32);
        let ahead = |n: u64| (100 * n, if n < 20 { 100 * n } else { 3_600_000 + 100 * n } as u32);
        let wraps = |n: u64| (100 * n, (u32::MAX - 999).wrapping_add(100 * n as u32));
        for playback in [
            played((0..40).map(back), 3950),
            played((0..40).map(ahead), 3950),
            played((0..40).map(wraps), 3950),
        ] {
            assert_eq!((playback.behind_us, playback.behind_max_us), (0, 0));
            assert_eq!(rebuffers(&playback), [(0, 0); 3]);
        }
    }

    #[test]
    fn a_player_still_stalls_after_the_timeline_has_jumped_ahead() {
        let ahead = |n: u64| (100 * n, if n < 20 { 100 * n } else { 3_600_000 + 100 * n } as u32);
        // The frame of 3 s is awaited from then to the end. 3 s had not been buffered yet.
        let playback = played((0..30).map(ahead), 5000);
        assert_eq!(rebuffers(&playback), [(1, 1800), (1, 1000), (0, 0)]);
    }

    #[test]
    fn frames_that_a_server_skips_bring_a_late_stream_up_to_date() {
        // It arrives at half its speed for 4 s; then the server skips 2 s of it.
        let frame = |n: u64| match n {
            0..=20 => (200 * n, 100 * n as u32),
            _ => (4000 + 100 * (n - 20), 4000 + 100 * (n as u32 - 20)),
        };
        let playback = played((0..40).map(frame), 5950);
        assert_eq!((playback.behind_us, playback.behind_max_us), (0, 2_000_000));
    }

    #[test]
    fn figures_are_named_by_the_buffer_and_absent_without_a_frame() {
        let mut report = LoadReport::new("play", Manifest::new("rtmp://h/a/k", BTreeMap::new()));
        played((0..=20).map(|n| (100 * n, 100 * n as u32)), 5000).add_to(&mut report);
        for (name, value) in [
            ("behind_ms", 2900.0),
            ("behind_max_ms", 2900.0),
            ("rebuffers_at_200ms", 1.0),
            ("rebuffered_at_200ms_s", 2.7),
            ("rebuffers_at_1000ms", 1.0),
            ("rebuffered_at_1000ms_s", 1.9),
            ("rebuffers_at_3000ms", 0.0),
        ] {
            assert_eq!(report.figure(name).and_then(|figure| figure.value), Some(value), "{name}");
        }
        // A player would have waited for more than had come when it froze.
        assert!(report.figure("buffer_enough_ms").unwrap().withheld.is_some());
        assert!(report.findings["health"].starts_with("unhealthy: a player with a buffer"));
        assert_eq!(report.series[0].name, "behind");
        assert_eq!(played([], 100).buffer_enough_ms(), None);
    }
}
