//! Samples of how long messages wait in the sockets of players.
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
}

impl<T: Transport> Server<T> {
    /// Takes a sample of the stream before its players are written to, if one is due.
    pub(super) fn sample(&mut self, stream: StreamId, now: Time) {
        let channel = self.hub.channel(stream);
        if self.sampling.taken_at == Some(now) || !channel.is_sample_due(now) {
            return;
        }
        self.sampling = Sampling { taken_at: Some(now), count: self.sampling.count + 1 };
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
