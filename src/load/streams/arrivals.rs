//! The frames that players received: counts of duplicated, reordered and damaged frames, and of
//! stalls.
//!
//! Owns these counts. The intended time of a frame decides whether it counts, so a [`Window`] has a
//! sharp edge regardless of frames in flight.

use std::ops::Range;
use std::time::Duration;

use super::stamped_frame::{Judged, Medium};
use crate::load::report::Distribution;
use crate::time::Time;

/// The part of a run that is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Start of the window.
    pub(super) from: Time,
    /// End of the window.
    pub(super) until: Time,
}

impl Window {
    /// A window that holds no time.
    pub(super) const NEVER: Self = Self { from: Time::NEVER, until: Time::NEVER };

    /// Returns whether a frame with this intended time counts.
    pub(super) fn holds(&self, at: Time) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// Results of all players in the window, for one medium.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Distinct frames, whole or damaged.
    pub(super) frames: u64,
    /// Frames received more than once.
    pub(super) duplicated: u64,
    /// Frames received after a later one.
    pub(super) out_of_order: u64,
    /// Frames that differ from the ones written, or belong to another stream.
    pub(super) corrupt: u64,
    /// Gaps longer than `stall`.
    pub(super) stalls: u64,
    pub(super) longest_gap: Duration,
    /// Bytes of all frames received while the window was open, whatever their intended time.
    pub(super) bytes: u64,
    /// Time from the intended time of a frame to when it was read (us).
    pub(super) latency: Distribution,
    /// Difference between the latencies of consecutive frames (us).
    pub(super) jitter: Distribution,
    /// The longest gap that is not a stall.
    stall: Duration,
}

impl Arrivals {
    pub(super) fn new(medium: Medium, stall: Duration) -> Self {
        let (latency, jitter) = match medium {
            Medium::Video => ("latency", "jitter"),
            Medium::Audio => ("audio_latency", "audio_jitter"),
        };
        Self {
            frames: 0,
            duplicated: 0,
            out_of_order: 0,
            corrupt: 0,
            stalls: 0,
            longest_gap: Duration::ZERO,
            bytes: 0,
            latency: Distribution::new(latency),
            jitter: Distribution::new(jitter),
            stall,
        }
    }

    /// Returns the longest gap that is not a stall.
    pub(super) const fn stall(&self) -> Duration {
        self.stall
    }

    fn note_gap(&mut self, gap: Duration) {
        self.stalls += u64::from(gap > self.stall);
        self.longest_gap = self.longest_gap.max(gap);
    }
}

/// A received message other than a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) judged: Judged,
    pub(super) bytes: usize,
    pub(super) now: Time,
    /// The same time since the start of the run.
    pub(super) since_began: Duration,
}

/// Progress of one player in one medium of its stream.
#[derive(Debug)]
pub(super) struct Track {
    stream: u32,
    received: Sequences,
    /// Arrival time of the last frame.
    last_at: Time,
    last_latency: Option<Duration>,
}

impl Track {
    pub(super) fn new(stream: u32) -> Self {
        Self { stream, received: Sequences::default(), last_at: Time::ZERO, last_latency: None }
    }

    /// Returns the stream that the player plays.
    pub(super) const fn stream(&self) -> u32 {
        self.stream
    }

    /// Returns the number of distinct frames of the window received.
    pub(super) const fn frames(&self) -> u64 {
        self.received.count
    }

    /// Forgets the frames of the window before, for the next window.
    pub(super) fn restart(&mut self) {
        (self.received, self.last_latency) = (Sequences::default(), None);
    }

    /// Records a message. Returns true if it is a frame of the window that was not received before.
    pub(super) fn receive(
        &mut self,
        arrival: &Arrival,
        window: &Window,
        arrivals: &mut Arrivals,
    ) -> bool {
        let now = arrival.now;
        if window.holds(now) {
            arrivals.bytes += arrival.bytes as u64;
            arrivals.note_gap(now.since(self.last_at.max(window.from)));
        }
        self.last_at = now;
        let (stamp, is_whole) = match arrival.judged {
            Judged::Whole { stamp, .. } => (stamp, true),
            Judged::Damaged(stamp) => (stamp, false),
            Judged::Unknown | Judged::Header => {
                arrivals.corrupt += u64::from(now >= window.from);
                return false;
            }
        };
        if !window.holds(stamp.intended) {
            return false;
        }
        if stamp.stream != self.stream {
            arrivals.corrupt += 1;
            return false;
        }
        arrivals.corrupt += u64::from(!is_whole);
        match self.received.insert(stamp.sequence) {
            Position::Duplicate => {
                arrivals.duplicated += 1;
                return false;
            }
            Position::OutOfOrder => arrivals.out_of_order += 1,
            Position::Newest => {}
        }
        arrivals.frames += 1;
        if is_whole {
            let latency = now.since(stamp.intended);
            self.note_latency(latency, arrival.since_began.saturating_sub(latency), arrivals);
        }
        true
    }

    /// Records the latency of a frame that was due `at` since the start of the run.
    fn note_latency(&mut self, latency: Duration, at: Duration, arrivals: &mut Arrivals) {
        arrivals.latency.record(at, latency.as_micros() as u64);
        if let Some(last) = self.last_latency.replace(latency) {
            arrivals.jitter.record(at, latency.abs_diff(last).as_micros() as u64);
        }
    }

    /// Ends the window. The time since the last frame counts as a gap, too.
    pub(super) fn end(&self, window: &Window, arrivals: &mut Arrivals) {
        arrivals.note_gap(window.until.since(self.last_at.max(window.from)));
    }
}

/// Position of a frame relative to those already received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Later than all others.
    Newest,
    /// Earlier than a frame that was already received.
    OutOfOrder,
    /// Received before.
    Duplicate,
}

/// A set of sequence numbers, stored as contiguous ranges: one range if nothing was lost, and one
/// more per gap.
#[derive(Debug, Default)]
struct Sequences {
    /// Ascending, with a gap between neighbours.
    ranges: Vec<Range<u64>>,
    count: u64,
}

impl Sequences {
    fn insert(&mut self, sequence: u64) -> Position {
        let place = match self.ranges.last_mut() {
            Some(last) if last.end == sequence => {
                last.end += 1;
                Position::Newest
            }
            Some(last) if last.end > sequence => self.insert_out_of_order(sequence),
            _ => {
                self.ranges.push(sequence..sequence + 1);
                Position::Newest
            }
        };
        self.count += u64::from(place != Position::Duplicate);
        place
    }

    fn insert_out_of_order(&mut self, sequence: u64) -> Position {
        // The first range that does not end before the sequence number.
        let at = self.ranges.partition_point(|range| range.end < sequence);
        let Some(range) = self.ranges.get_mut(at) else { return Position::Duplicate };
        if range.contains(&sequence) {
            return Position::Duplicate;
        }
        if range.end == sequence {
            range.end += 1;
            let end = range.end;
            if self.ranges.get(at + 1).is_some_and(|next| next.start == end) {
                let next = self.ranges.remove(at + 1);
                self.ranges[at].end = next.end;
            }
        } else if range.start == sequence + 1 {
            range.start = sequence;
        } else {
            self.ranges.insert(at, sequence..sequence + 1);
        }
        Position::OutOfOrder
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::test_support::Random;

    #[test]
    fn sequences_agree_with_a_plain_set() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut sequences, mut plain) = (Sequences::default(), BTreeSet::new());
            for _ in 0..100 {
                let sequence = random.below(60) as u64;
                let expected = match plain.last() {
                    _ if plain.contains(&sequence) => Position::Duplicate,
                    Some(last) if *last > sequence => Position::OutOfOrder,
                    _ => Position::Newest,
                };
                plain.insert(sequence);
                assert_eq!(sequences.insert(sequence), expected, "seed {seed}");
                assert_eq!(sequences.count, plain.len() as u64);
                let all: Vec<_> = sequences.ranges.iter().cloned().flatten().collect();
                assert!(all.iter().eq(plain.iter()), "seed {seed}");
                assert!(sequences.ranges.windows(2).all(|two| two[0].end < two[1].start));
            }
        }
    }
}
