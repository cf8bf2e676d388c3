//! Counters of the server: plain numbers, incremented where the event happens.

use super::reason::CloseReason;

/// Counts of events since the start of the server.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused because the table was full or at the limit of their address.
    pub refused: u64,
    /// Connections to other servers.
    pub dialed: u64,
    /// Connections to other servers that failed.
    pub dials_failed: u64,
    /// Calls to read.
    pub reads: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Publishes accepted.
    pub publishes: u64,
    /// Plays accepted.
    pub plays: u64,
    /// Handshakes whose C2 did not match S1.
    pub c2_mismatches: u64,
    /// Messages of publishers that could not be parsed and were dropped.
    pub messages_dropped: u64,
    /// GOPs that were too large to be kept for late players.
    pub gops_cut: u64,
    /// Headers that late players did not get, because they were too large or too many.
    pub headers_left_out: u64,
    /// Turns that took too long.
    pub slow_turns: u64,
    closed: [u64; CloseReason::ALL.len()],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            accepted: 0,
            refused: 0,
            dialed: 0,
            dials_failed: 0,
            reads: 0,
            bytes_in: 0,
            bytes_out: 0,
            publishes: 0,
            plays: 0,
            c2_mismatches: 0,
            messages_dropped: 0,
            gops_cut: 0,
            headers_left_out: 0,
            slow_turns: 0,
            closed: [0; CloseReason::ALL.len()],
        }
    }
}

impl Stats {
    /// Counts a connection that ended for `reason`.
    pub const fn count(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }

    /// Connections that ended for `reason`.
    pub const fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Connections that ended.
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }
}
