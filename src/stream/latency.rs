//! The latency of a stream: how long its messages were on their way through the server.
//!
//! Owns the two histograms of a stream with players, and the list of the messages that the writes
//! of one connection have handed to the kernel. It reads no clock: the server names the times.
//!
//! Each message counts once for each player, from the turn that received its last byte to the end
//! of the write that handed over its last byte. Messages of the past do not count, which a player
//! is sent when it joins or resumes: they are as old as their GOP.
//!
//! Of a stream with many players, some are sampled in each visit, and count for the others. To
//! count every player would cost a sixth of the instructions of a write without those in the
//! kernel. Writes outside of a visit, such as those to slow players, all count.

use super::histogram::Histogram;
use super::ids::StreamId;
use crate::time::Time;

/// Most runs of messages that one write keeps apart. Further messages count as if they had arrived
/// with the last one.
const RUNS_MAX: usize = 8;

/// The latencies of one stream. See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// From the receipt of a message to its handover to the kernel, for each player.
    pub forwarded: Histogram,
    /// Age of the oldest message that a player's socket has not sent, in samples of players.
    pub unsent: Histogram,
    /// The time from which on the next sample is due.
    pub(crate) sampled_from: Time,
}

impl Latency {
    /// Adds the latencies of another stream.
    pub fn add(&mut self, other: &Self) {
        self.forwarded.add(&other.forwarded);
        self.unsent.add(&other.unsent);
    }
}

/// Messages of one stream that arrived at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedRun {
    /// The stream.
    pub stream: StreamId,
    /// When the messages arrived.
    pub arrived: Time,
    /// The number of messages.
    pub messages: u32,
}

/// The messages that writes have handed to the kernel whole.
#[derive(Debug)]
pub struct Handed {
    runs: [HandedRun; RUNS_MAX],
    len: usize,
    /// True while messages are left out, since the player is none of the sample.
    pub is_paused: bool,
}

impl Default for Handed {
    fn default() -> Self {
        let none = HandedRun { stream: StreamId(0), arrived: Time::ZERO, messages: 0 };
        Self { runs: [none; RUNS_MAX], len: 0, is_paused: false }
    }
}

impl Handed {
    /// Adds a message that arrived at `arrived`.
    #[inline]
    pub fn add(&mut self, stream: StreamId, arrived: Time) {
        if !self.is_paused {
            self.add_sampled(stream, arrived);
        }
    }

    fn add_sampled(&mut self, stream: StreamId, arrived: Time) {
        if let Some(last) = self.runs[..self.len].last_mut() {
            let is_same = last.arrived == arrived && last.stream == stream;
            if is_same || self.len == RUNS_MAX && last.stream == stream {
                last.messages += 1;
                return;
            }
        }
        // Only a connection that plays several streams can come here with a full list.
        if let Some(run) = self.runs.get_mut(self.len) {
            *run = HandedRun { stream, arrived, messages: 1 };
            self.len += 1;
        }
    }

    /// Returns whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the messages as runs, in the order in which they were handed over.
    pub fn take(&mut self) -> impl Iterator<Item = HandedRun> + '_ {
        let len = std::mem::take(&mut self.len);
        self.runs[..len].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_arrived_together_are_one_run() {
        let (one, other) = (StreamId(1), StreamId(2));
        let at = Time::from_micros;
        let mut handed = Handed::default();
        for (stream, arrived) in [(one, 5), (one, 5), (one, 9), (other, 9)] {
            handed.add(stream, at(arrived));
        }
        let runs: Vec<_> = handed.take().map(|run| (run.stream, run.messages)).collect();
        assert_eq!(runs, [(one, 2), (one, 1), (other, 1)]);
        assert!(handed.is_empty());
    }

    #[test]
    fn a_long_backlog_fills_a_bounded_list() {
        let mut handed = Handed::default();
        for micros in 0..1000 {
            handed.add(StreamId(0), Time::from_micros(micros));
        }
        let runs: Vec<_> = handed.take().collect();
        assert_eq!(runs.len(), RUNS_MAX);
        assert_eq!(runs.iter().map(|run| run.messages).sum::<u32>(), 1000);
    }
}
