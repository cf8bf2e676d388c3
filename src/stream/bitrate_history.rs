//! The bitrate of a stream in the last minutes, for a plot.
//!
//! Owns a ring of a fixed number of samples. It needs no timer: a message ends the samples whose
//! time is over, so a stream that sends nothing costs nothing.

use crate::time::Time;

/// Time that a sample covers (us).
const SAMPLE_MICROS: u64 = 2_000_000;
/// Number of samples: five minutes.
pub const SAMPLES_MAX: usize = 150;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct BitrateHistory {
    /// Payload bytes of each complete sample. The oldest is at `next` once the ring is full.
    bytes: [u32; SAMPLES_MAX],
    next: usize,
    is_full: bool,
    /// Start and bytes of the sample that is not complete.
    began: Time,
    counted: u64,
}

impl BitrateHistory {
    pub(crate) const fn new(now: Time) -> Self {
        Self { bytes: [0; SAMPLES_MAX], next: 0, is_full: false, began: now, counted: 0 }
    }

    /// Notes the bytes of a message.
    #[inline]
    pub(crate) fn note(&mut self, bytes: u64, now: Time) {
        if now.as_micros() - self.began.as_micros() >= SAMPLE_MICROS {
            self.complete(now);
        }
        self.counted += bytes;
    }

    /// Completes the samples whose time is over.
    #[cold]
    fn complete(&mut self, now: Time) {
        let over = (now.as_micros() - self.began.as_micros()) / SAMPLE_MICROS;
        for _ in 0..over.min(SAMPLES_MAX as u64 + 1) {
            let bytes = std::mem::take(&mut self.counted);
            self.bytes[self.next] = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.next = (self.next + 1) % SAMPLES_MAX;
            self.is_full |= self.next == 0;
        }
        self.began = Time::from_micros(self.began.as_micros() + over * SAMPLE_MICROS);
    }

    /// Returns the bitrates of the complete samples, the oldest first (bit/s). Samples since the
    /// last message are 0.
    pub(crate) fn bitrates(&self, now: Time) -> Vec<u64> {
        let mut history = Self { ..*self };
        if now.as_micros().saturating_sub(self.began.as_micros()) >= SAMPLE_MICROS {
            history.complete(now);
        }
        let (newer, older) = history.bytes.split_at(history.next);
        let older = if history.is_full { older } else { &[] };
        let bitrate = |bytes: &u32| u64::from(*bytes) * 8_000_000 / SAMPLE_MICROS;
        older.iter().chain(newer).map(bitrate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus_millis(seconds * 1000)
    }

    #[test]
    fn samples_are_two_seconds_long_and_zero_without_a_message() {
        let mut history = BitrateHistory::new(at(0));
        for (second, bytes) in [(0, 100), (1, 150), (2, 500), (7, 1000)] {
            history.note(bytes, at(second));
        }
        assert_eq!(history.bitrates(at(7)), [1000, 2000, 0]);
        assert_eq!(history.bitrates(at(10)), [1000, 2000, 0, 4000, 0]);
        assert_eq!(history.bitrates(at(7)), [1000, 2000, 0], "a look changes nothing");
    }

    #[test]
    fn the_last_five_minutes_are_kept_whatever_the_pause() {
        let mut history = BitrateHistory::new(at(0));
        for second in 0..1000 {
            history.note(second, at(second));
        }
        let bitrates = history.bitrates(at(999));
        assert_eq!(bitrates.len(), SAMPLES_MAX);
        // The last complete sample has the seconds 996 and 997.
        assert_eq!(bitrates.last(), Some(&(4 * (996 + 997))));
        history.note(1, Time::from_micros(u64::MAX / 2));
        assert!(history.bitrates(Time::from_micros(u64::MAX / 2)).iter().all(|rate| *rate == 0));
    }
}
