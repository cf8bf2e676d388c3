//! The rhythm of a publisher, which decides when it counts as silent.
//!
//! Silence is the absence of bytes, measured against the publisher's own rhythm.
//!
//! - A message ends the silence, and so do [`PART_BYTES_MIN`] of an unfinished message, since a
//!   large keyframe on a slow line takes longer than the limit. One byte a second does not.
//! - A publisher that sends rarely may be silent for twice its longest recent pause, if that is
//!   more than the limit. A pause stays recent while pauses of at least half its length follow, and
//!   for [`PAUSES_REMEMBERED`] times its length after the last of them. So one interruption does
//!   not become a rhythm.
//! - A publisher that has sent no second picture yet is replaced only after [`FIRST_LIMITS`]
//!   limits. Its rhythm is not known, and two encoders that send a picture every ten seconds would
//!   replace each other endlessly. A publisher that has sent nothing at all has one limit: its
//!   connection may have broken right after `publish`.

use crate::time::Time;

/// Bytes of an unfinished message that end the silence. At a limit of 3 s this is some 11 kbit/s,
/// which is below the rate of every speech codec.
const PART_BYTES_MIN: usize = 4096;
/// Shorter intervals do not count as pauses (ms).
const PAUSE_MS_MIN: u64 = 100;
/// Longer pauses count as this (ms), so that no silent connection is kept endlessly.
const PAUSE_MS_MAX: u64 = 300_000;
/// How long a pause is remembered, in multiples of its length.
const PAUSES_REMEMBERED: u64 = 4;
/// How many limits a publisher without a second picture may be silent.
const FIRST_LIMITS: u64 = 10;

/// The rhythm of one publisher. See the module's head.
#[derive(Debug)]
pub(crate) struct Rhythm {
    /// When enough bytes last arrived. Initially the time of the publish.
    heard: Time,
    pictures: Pictures,
    /// The longest recent pause (ms), and when the last one that was half as long ended.
    pause: (u64, Time),
    /// Bytes of an unfinished message that have come since then.
    part_bytes: usize,
}

/// How much of its rhythm a publisher has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pictures {
    /// It has sent nothing.
    Unheard,
    /// It has sent headers or data.
    None,
    /// It has sent frames with this one timestamp.
    First(u32),
    /// It has sent frames with other timestamps as well.
    Several,
}

impl Rhythm {
    /// Creates the rhythm of a publisher that starts at `now`.
    pub(crate) const fn new(now: Time) -> Self {
        Self { heard: now, pictures: Pictures::Unheard, pause: (0, now), part_bytes: 0 }
    }

    /// Notes a complete media message.
    pub(crate) fn note_message(&mut self, now: Time) {
        self.note_bytes(now);
        if self.pictures == Pictures::Unheard {
            self.pictures = Pictures::None;
        }
    }

    /// Notes a frame by the timestamp that the publisher gave it.
    pub(crate) fn note_frame(&mut self, timestamp: u32) {
        self.pictures = match self.pictures {
            Pictures::Several => return,
            Pictures::Unheard | Pictures::None => Pictures::First(timestamp),
            Pictures::First(first) if first == timestamp => return,
            Pictures::First(_) => Pictures::Several,
        };
    }

    /// Notes bytes of a message that is not complete yet.
    pub(crate) fn note_part(&mut self, bytes: usize, now: Time) {
        self.part_bytes += bytes;
        if self.part_bytes >= PART_BYTES_MIN {
            self.note_bytes(now);
        }
    }

    /// Returns when enough bytes last arrived.
    pub(crate) const fn heard(&self) -> Time {
        self.heard
    }

    /// Returns when the publisher counts as silent, with a limit of `limit_ms`.
    pub(crate) fn silent_at(&self, limit_ms: u64) -> Time {
        self.heard.plus_millis(limit_ms.max(2 * self.recent_pause_ms()))
    }

    /// Returns when another publisher may take over, with a limit of `limit_ms`.
    pub(crate) fn yields_at(&self, limit_ms: u64) -> Time {
        let limits = match self.pictures {
            Pictures::Unheard | Pictures::Several => 1,
            Pictures::None | Pictures::First(_) => FIRST_LIMITS,
        };
        self.silent_at(limit_ms.saturating_mul(limits))
    }

    fn note_bytes(&mut self, now: Time) {
        if now.as_micros() > self.heard.as_micros() + PAUSE_MS_MIN * 1000 {
            self.note_pause(now);
        }
        (self.heard, self.part_bytes) = (now, 0);
    }

    /// Notes a pause that ends at `now`. A pause before the first picture does not count: the
    /// encoder is still starting.
    #[cold]
    fn note_pause(&mut self, now: Time) {
        if matches!(self.pictures, Pictures::Unheard | Pictures::None) {
            return;
        }
        let pause_ms = now.millis_since(self.heard).min(PAUSE_MS_MAX);
        let longest_ms = self.recent_pause_ms();
        if 2 * pause_ms >= longest_ms {
            self.pause = (pause_ms.max(longest_ms), now);
        }
    }

    fn recent_pause_ms(&self) -> u64 {
        let (pause_ms, ended) = self.pause;
        let is_recent = self.heard.millis_since(ended) <= PAUSES_REMEMBERED * pause_ms;
        if is_recent { pause_ms } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_MS: u64 = 3000;

    fn at(millis: u64) -> Time {
        Time::ZERO.plus_millis(millis)
    }

    /// Returns the rhythm of a publisher whose frames arrive at these times, which are also their
    /// timestamps.
    fn publisher(frames_ms: impl IntoIterator<Item = u64>) -> Rhythm {
        let mut rhythm = Rhythm::new(at(0));
        for ms in frames_ms {
            frame(&mut rhythm, ms as u32, ms);
        }
        rhythm
    }

    fn frame(rhythm: &mut Rhythm, timestamp: u32, ms: u64) {
        rhythm.note_message(at(ms));
        rhythm.note_frame(timestamp);
    }

    #[test]
    fn a_publisher_that_sends_nothing_has_one_limit_from_its_start() {
        let rhythm = publisher([]);
        assert_eq!((rhythm.yields_at(LIMIT_MS), rhythm.silent_at(LIMIT_MS)), (at(3000), at(3000)));
    }

    #[test]
    fn a_publisher_without_a_second_picture_has_ten_limits() {
        let mut rhythm = Rhythm::new(at(0));
        rhythm.note_message(at(10));
        assert_eq!(rhythm.yields_at(LIMIT_MS), at(30_010));
        // The slices of one picture.
        for ms in [100, 150, 190] {
            frame(&mut rhythm, 7, ms);
            assert_eq!(rhythm.yields_at(LIMIT_MS), at(30_000 + ms));
            assert_eq!(rhythm.silent_at(LIMIT_MS), at(3000 + ms));
        }
        frame(&mut rhythm, 40, 200);
        assert_eq!(rhythm.yields_at(LIMIT_MS), at(3200));
        assert_eq!(Rhythm::new(at(5)).yields_at(u64::MAX), Time::NEVER);
    }

    #[test]
    fn the_limit_is_twice_the_longest_recent_pause() {
        for (pause_ms, limit_ms) in [(1500, 3000), (1501, 3002), (10_000, 20_000)] {
            let rhythm = publisher([0, pause_ms, 2 * pause_ms]);
            assert_eq!(rhythm.yields_at(LIMIT_MS), at(2 * pause_ms + limit_ms));
        }
        // The rhythm may last long and be uneven.
        let uneven = (0..500).map(|n| n * 10_000 + n % 3 * 1000);
        let rhythm = publisher(uneven);
        assert_eq!(rhythm.yields_at(LIMIT_MS).since(rhythm.heard()).as_millis(), 2 * 11_000);
        let longest = publisher([0, 1_000_000]);
        assert_eq!(longest.yields_at(LIMIT_MS), at(1_600_000));
    }

    #[test]
    fn one_interruption_is_forgotten_after_four_times_its_length() {
        let steady = |until_ms: u64| {
            publisher((0..1000).step_by(40).chain((20_960..=20_960 + until_ms).step_by(40)))
        };
        for (until_ms, limit_ms) in [(80_000, 40_000), (80_040, 3000)] {
            let rhythm = steady(until_ms);
            let limit = rhythm.yields_at(LIMIT_MS).since(rhythm.heard());
            assert_eq!(limit.as_millis(), limit_ms, "after {until_ms} ms");
        }
    }

    #[test]
    fn a_slow_start_is_no_rhythm() {
        let mut rhythm = Rhythm::new(at(0));
        rhythm.note_message(at(8000));
        frame(&mut rhythm, 0, 20_000);
        frame(&mut rhythm, 40, 20_040);
        assert_eq!(rhythm.yields_at(LIMIT_MS), at(23_040));
    }

    #[test]
    fn bytes_of_a_message_in_parts_end_the_silence_if_there_are_enough() {
        let mut rhythm = publisher([0, 40]);
        // A byte a second, for an hour.
        for second in 1..3600 {
            rhythm.note_part(1, at(second * 1000));
        }
        assert_eq!(rhythm.yields_at(LIMIT_MS), at(3040));
        rhythm.note_part(PART_BYTES_MIN - 3599 - 1, at(3_600_000));
        assert_eq!(rhythm.heard(), at(40));
        rhythm.note_part(1, at(3_600_000));
        assert_eq!(rhythm.heard(), at(3_600_000));
        // Bytes before a message do not count after it.
        let mut rhythm = publisher([0, 40]);
        rhythm.note_part(PART_BYTES_MIN - 1, at(100));
        frame(&mut rhythm, 80, 120);
        rhythm.note_part(1, at(2000));
        assert_eq!(rhythm.heard(), at(120));
        // The same holds if they arrived together with the previous message.
        let mut rhythm = publisher([0, 40]);
        rhythm.note_part(PART_BYTES_MIN - 1, at(40));
        frame(&mut rhythm, 80, 40);
        rhythm.note_part(1, at(2000));
        assert_eq!(rhythm.heard(), at(40));
    }

    #[test]
    fn a_large_keyframe_on_a_slow_line_is_no_silence() {
        let mut rhythm = publisher([0, 40]);
        for tenth in 1..80 {
            rhythm.note_part(25_000, at(40 + tenth * 100));
            assert_eq!(rhythm.yields_at(LIMIT_MS), at(3040 + tenth * 100));
        }
    }
}
