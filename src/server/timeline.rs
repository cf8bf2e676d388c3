//! The timestamps of a stream, as its players see them.
//!
//! Owns the rule by which a publisher's clock becomes the stream's, and what it remembers of the
//! past for that. Never reads a clock: the time of arrival is an argument.

use crate::time::Time;

/// The timestamps of a stream across its publishers: whoever comes back goes on where the
/// last one stopped, with the same offset for all tracks so that they stay in step.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    offset: u32,
    /// Set while a returning publisher has not sent its first frame, which fixes the offset.
    resumes: bool,
    /// Where a returning publisher went on. Nothing of it is stamped earlier, although its
    /// tracks may come out of step and its headers with time 0.
    floor: Option<u32>,
    /// The newest timestamp and when it arrived.
    last: Option<(u32, Time)>,
}

/// How long a returning publisher may take to come into step (ms). Later on an early timestamp
/// is the publisher's own affair, and 2^31 ms on the comparison would turn around.
const FLOOR_MS: u32 = 10_000;

/// The furthest that a frame may stand behind the newest and still belong to the same clock (ms).
const REORDER_MS_MAX: u32 = 10_000;

impl Timeline {
    /// From here on the publisher is another one, or the same back again.
    pub(super) const fn resume(&mut self) {
        self.resumes = true;
    }

    /// The newest timestamp that players were sent; 0 before the first.
    pub(super) fn newest(&self) -> u32 {
        self.last.map_or(0, |(timestamp, _)| timestamp)
    }

    /// The stream's time of a publisher's `timestamp`. Only a frame fixes the offset.
    pub(super) fn place(&mut self, timestamp: u32, is_frame: bool, now: Time) -> u32 {
        let Some((last, at)) = self.last else {
            return timestamp.wrapping_add(self.offset);
        };
        if self.resumes {
            if !is_frame {
                return last;
            }
            // Real time has passed on the players' clocks as well; a millisecond at least
            // keeps the order strict.
            let gap = now.millis_since(at).clamp(1, u64::from(u32::MAX / 4)) as u32;
            let resumed = last.wrapping_add(gap);
            self.offset = resumed.wrapping_sub(timestamp);
            self.floor = Some(resumed);
            self.resumes = false;
        }
        let placed = timestamp.wrapping_add(self.offset);
        self.floor.filter(|floor| is_before(placed, *floor)).unwrap_or(placed)
    }

    /// Notes a frame's time. A small step back is frames or tracks out of order; a large one is
    /// a clock that began anew, as ffmpeg's does after 2^31 ms.
    pub(super) fn passed(&mut self, timestamp: u32, now: Time) {
        let newest = match self.last {
            Some((last, _)) if (1..REORDER_MS_MAX).contains(&last.wrapping_sub(timestamp)) => last,
            _ => timestamp,
        };
        self.last = Some((newest, now));
        self.floor = self.floor.filter(|floor| newest.wrapping_sub(*floor) < FLOOR_MS);
    }
}

/// Serial arithmetic over 2^32 ms.
const fn is_before(timestamp: u32, other: u32) -> bool {
    timestamp.wrapping_sub(other) > u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::ZERO.plus_millis(ms)
    }

    #[test]
    fn a_clock_that_begins_anew_is_followed_and_a_late_frame_is_not() {
        let mut timeline = Timeline::default();
        timeline.passed(0x7fff_ffff, at(0));
        timeline.passed(0x7fff_fff0, at(1));
        assert_eq!(timeline.last, Some((0x7fff_ffff, at(1))));
        timeline.passed(12, at(13));
        assert_eq!(timeline.last, Some((12, at(13))));
    }
}
