//! Durations in a histogram of fixed size.
//!
//! Buckets are log-linear: each power of two has `STEPS` buckets of the same width. So a duration
//! is known to an eighth, from microseconds to a minute, and to record one takes no division and no
//! search. Nothing is allocated after the start.

/// Buckets of each power of two.
const STEPS: u64 = 8;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// Longer durations count as this long (us): 67 seconds.
pub const MICROS_MAX: u64 = (1 << 26) - 1;
const BUCKETS: usize = bucket_of(MICROS_MAX) + 1;

/// Durations by their length. See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_us: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_us: 0, max_us: 0 }
    }
}

/// Returns the bucket of a duration (us).
const fn bucket_of(micros: u64) -> usize {
    // Below twice STEPS each microsecond has a bucket. The bit keeps that case free of a branch.
    let shift = (micros | STEPS).ilog2() - STEPS_BITS;
    shift as usize * STEPS as usize + (micros >> shift) as usize
}

/// Returns the longest duration of a bucket (us).
const fn longest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket - shift * STEPS + 1) << shift) - 1
}

impl Histogram {
    /// Records a duration (us) that `count` events have.
    #[inline]
    pub fn record(&mut self, micros: u64, count: u64) {
        let micros = micros.min(MICROS_MAX);
        self.counts[bucket_of(micros)] += count;
        self.sum_us += micros * count;
        self.max_us = self.max_us.max(micros);
    }

    /// Adds the durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum_us += other.sum_us;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Number of recorded events.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the durations (us).
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The longest duration (us); 0 without any.
    pub const fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Returns the duration that `percent` of the events do not exceed (us); `None` without any
    /// event. It is exact to the width of a bucket, and never too short.
    pub fn percentile_us(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        let rank = (count * percent).div_ceil(100).max(1);
        let mut below = 0;
        let reaches = |count: &u64| {
            below += count;
            below >= rank
        };
        let bucket = self.counts.iter().position(reaches)?;
        Some(longest_of(bucket).min(self.max_us))
    }

    /// Number of events of at most `micros`. Events of the bucket that `micros` divides are left
    /// out, so durations appear longer by an eighth at most.
    pub fn count_within(&self, micros: u64) -> u64 {
        let within = |(bucket, _): &(usize, &u64)| longest_of(*bucket) <= micros;
        self.counts.iter().enumerate().take_while(within).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_ends_where_the_next_begins() {
        for bucket in 0..BUCKETS - 1 {
            let longest = longest_of(bucket);
            assert_eq!((bucket_of(longest), bucket_of(longest + 1)), (bucket, bucket + 1));
        }
        assert_eq!(longest_of(BUCKETS - 1), MICROS_MAX);
    }

    #[test]
    fn a_bucket_is_an_eighth_wide_at_most() {
        for bucket in 1..BUCKETS {
            let shortest = longest_of(bucket - 1) + 1;
            let width = longest_of(bucket) - shortest + 1;
            assert!(width == 1 || width * 8 <= shortest, "{shortest} us and {width} us more");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_durations() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_us(50), None);
        for (micros, count) in [(15, 1), (3, 98), (1000, 1)] {
            histogram.record(micros, count);
        }
        let figures = [1, 50, 98, 99, 100].map(|percent| histogram.percentile_us(percent).unwrap());
        // 1000 us is in the bucket from 960 to 1023, and nothing is longer.
        assert_eq!(figures, [3, 3, 3, 15, 1000]);
        assert_eq!((histogram.count(), histogram.sum_us()), (100, 15 + 3 * 98 + 1000));
        assert_eq!(histogram.max_us(), 1000);
    }

    #[test]
    fn counts_below_a_bound_never_have_a_longer_duration() {
        let mut histogram = Histogram::default();
        for micros in [99, 100, 101, 5000] {
            histogram.record(micros, 1);
        }
        // The bucket from 96 to 103 is left out of what 100 us bounds.
        let within = [95, 100, 103, 5119, u64::MAX].map(|micros| histogram.count_within(micros));
        assert_eq!(within, [0, 0, 3, 4, 4]);
    }

    #[test]
    fn durations_beyond_the_last_bucket_count_in_it() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX, 2);
        assert_eq!((histogram.max_us(), histogram.count()), (MICROS_MAX, 2));
    }

    #[test]
    fn the_sum_of_two_histograms_has_the_events_of_both() {
        let (mut one, mut other, mut both) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for (micros, histogram) in [(7, &mut one), (900, &mut other)] {
            histogram.record(micros, 3);
            both.record(micros, 3);
        }
        one.add(&other);
        assert_eq!(one, both);
    }
}
