//! Samples of players: of how long messages wait in their sockets, and of the latency of streams
//! with many of them.
//!
//! A message that the kernel has accepted may wait there for the network. To ask the kernel takes
//! system calls, so it is asked about one player in a turn at most, and about each stream ten times
//! a second at most. The players of a stream take turns.

use super::Server;
use super::hub::Channel;
use super::transport::Transport;
use crate::stream::ids::StreamId;
use crate::time::Time;

/// The shortest time between two samples of a stream (ms).
const SAMPLED_EVERY_MS: u64 = 100;

/// The samples of a turn.
#[derive(Debug, Default)]
pub(super) struct Sampling {
    /// The turn that took the last sample.
    taken_at: Option<Time>,
    /// Number of samples so far.
    count: usize,
    /// Number of rounds of visits to the players of a stream.
    pub(super) rounds: usize,
}

/// Players whose latency counts in one visit, about. Streams with fewer players count all.
const PLAYERS_SAMPLED: usize = 16;

/// The players of one visit whose latency counts: each `step`th.
#[derive(Clone, Copy, Debug)]
pub(super) struct VisitSample {
    /// How many players each of them stands for.
    pub(super) step: usize,
    left: usize,
}

impl VisitSample {
    /// Returns whether the next player counts.
    pub(super) const fn takes_next(&mut self) -> bool {
        if self.left == 0 {
            self.left = self.step - 1;
            return true;
        }
        self.left -= 1;
        false
    }
}

impl<T: Transport> Server<T> {
    /// Chooses the players of a visit whose latency counts. Each round of visits takes others of
    /// them, however many visits it needs. `None` if the stream is gone.
    pub(super) fn sample_visit(&self, stream: StreamId) -> Option<VisitSample> {
        let channel = self.hub.get(stream)?;
        let step = (channel.players().len() / PLAYERS_SAMPLED).max(1);
        let since = self.sampling.rounds.wrapping_add(channel.next_slot()) % step;
        Some(VisitSample { step, left: (step - since) % step })
    }

    /// Takes a sample of the stream before its players are written to, if one is due.
    pub(super) fn sample(&mut self, stream: StreamId, now: Time) {
        let channel = self.hub.channel(stream);
        if self.sampling.taken_at == Some(now) || !channel.is_sample_due(now) {
            return;
        }
        self.sampling.taken_at = Some(now);
        self.sampling.count = self.sampling.count.wrapping_add(1);
        let age_us = self.unsent_age_us(channel, now);
        self.hub.note_sample(stream, age_us, now.plus_millis(SAMPLED_EVERY_MS));
    }

    /// Returns the age of the oldest message of which the socket of the next player to be sampled
    /// has unsent bytes (us); 0 if all bytes are on their way, and `None` if the kernel does not
    /// tell.
    fn unsent_age_us(&self, channel: &Channel, now: Time) -> Option<u64> {
        let player = channel.players().get(self.sampling.count % channel.players().len().max(1))?;
        let conn = self.table.get(player.conn)?;
        let activity = conn.activity.as_deref()?;
        let play = activity.plays.iter().find(|play| play.lane == player.lane)?;
        let unsent = u64::from(conn.transport.tcp_facts()?.unsent_bytes);
        if unsent == 0 {
            return Some(0);
        }
        let handed = play.handed_bytes(channel.tape(), activity.half_sent_bytes());
        let oldest = channel.tape().arrived_at(handed.saturating_sub(unsent))?;
        Some(now.as_micros().saturating_sub(oldest.as_micros()))
    }
}
