//! What streams cost: processor time, system calls, and bytes by copy and from memory files.
//!
//! No clock is read for this. The stopwatch reads the wall clock after each connection anyway, and
//! the time since the reading before belongs to the stream that the connection publishes or plays.
//! Once a second the processor time of the process is divided among all connections in proportion
//! to those times. So the poll, the deadlines and the interrupts that the system charges to the
//! process are divided, too, and the sum over the streams is the process, less what connections
//! without a stream cost.

use super::Server;
use super::outbox::WriteTotals;
use super::transport::Transport;
use crate::stream::ids::{ConnId, StreamId};
use crate::time::Time;

/// How often processor time is divided (ms).
const DIVIDED_EVERY_MS: u64 = 1000;

/// The cost of one stream, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCost {
    /// Processor time (ns), up to a second ago.
    pub cpu_ns: u64,
    /// Calls to read from its publishers and players.
    pub reads: u64,
    /// Calls to write to them.
    pub writes: u64,
    /// Bytes that were written from memory.
    pub copied_bytes: u64,
    /// Bytes that were sent from memory files without a copy.
    pub sendfile_bytes: u64,
    /// Time of its connections in the turns since processor time was last divided (us).
    pub(super) busy_us: u64,
}

impl StreamCost {
    /// Adds another cost.
    pub(super) const fn add(&mut self, other: &Self) {
        self.cpu_ns += other.cpu_ns;
        self.reads += other.reads;
        self.writes += other.writes;
        self.copied_bytes += other.copied_bytes;
        self.sendfile_bytes += other.sendfile_bytes;
        self.busy_us += other.busy_us;
    }

    /// Returns the cost of the writes between two states of the outbox.
    const fn of_writes(before: WriteTotals, after: WriteTotals, busy_us: u64) -> Self {
        Self {
            cpu_ns: 0,
            reads: 0,
            writes: after.calls - before.calls,
            copied_bytes: after.copied_bytes - before.copied_bytes,
            sendfile_bytes: after.file_bytes - before.file_bytes,
            busy_us,
        }
    }

    /// Takes its part of the processor time `cpu_us` that all connections took, which were busy
    /// for `busy_us`.
    pub(super) fn take_cpu(&mut self, cpu_us: u64, busy_us: u64) {
        let own_us = u128::from(std::mem::take(&mut self.busy_us));
        let nanos = own_us * u128::from(cpu_us) * 1000 / u128::from(busy_us.max(1));
        self.cpu_ns += u64::try_from(nanos).unwrap_or(u64::MAX);
    }
}

/// The state of the division.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// Time of all connections in turns since the last division (us).
    pub(super) busy_us: u64,
    /// Processor time of the process at the last division, and the time of that division.
    cpu: Time,
    divided: Time,
    due: Time,
    /// Processor time of the last period between two divisions, in thousandths of the period.
    pub(super) load_permille: u64,
}

/// A moment from which on writes are charged to a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChargedFrom {
    sent: WriteTotals,
    busy_us: u64,
}

impl<T: Transport> Server<T> {
    /// Starts charging processor time from now on.
    pub(super) fn begin_costs(&mut self) {
        self.costs.cpu = self.stopwatch.read_cpu().unwrap_or_default();
    }

    /// Notes the moment from which on writes are charged.
    pub(super) const fn charge_from(&self) -> ChargedFrom {
        ChargedFrom { sent: self.outbox.sent, busy_us: self.costs.busy_us }
    }

    /// Charges a stream for all writes since `from`.
    pub(super) fn charge_writes(&mut self, stream: StreamId, from: ChargedFrom) {
        let busy_us = self.costs.busy_us - from.busy_us;
        let cost = StreamCost::of_writes(from.sent, self.outbox.sent, busy_us);
        self.hub.note_cost(stream, &cost);
    }

    /// Charges a stream for reads from its publisher that took `busy_us`.
    pub(super) fn charge_reads(&mut self, stream: StreamId, reads: u64, busy_us: u64) {
        self.hub.note_cost(stream, &StreamCost { reads, busy_us, ..StreamCost::default() });
    }

    /// Returns the stream that a connection is charged to: the first one that it publishes, or
    /// that it plays.
    pub(super) fn charged_stream(&self, id: ConnId) -> Option<StreamId> {
        let activity = self.table[id].activity.as_deref()?;
        let published = activity.publishes().first().map(|publish| publish.stream);
        published.or_else(|| activity.plays.first().map(|play| play.stream))
    }

    /// Divides the processor time since the last division among the streams, if that is due.
    pub(super) fn divide_cpu(&mut self, now: Time) {
        if now < self.costs.due {
            return;
        }
        self.costs.due = now.plus_millis(DIVIDED_EVERY_MS);
        let Some(cpu) = self.stopwatch.read_cpu() else { return };
        let cpu_us = cpu.as_micros().saturating_sub(self.costs.cpu.as_micros());
        let busy_us = std::mem::take(&mut self.costs.busy_us);
        let period_us = now.as_micros().saturating_sub(self.costs.divided.as_micros());
        self.costs.load_permille = (cpu_us * 1000).checked_div(period_us).unwrap_or_default();
        (self.costs.cpu, self.costs.divided) = (cpu, now);
        self.hub.divide_cpu(cpu_us, busy_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_its_part_of_the_processor_time_once() {
        let mut cost = StreamCost { busy_us: 250, ..StreamCost::default() };
        for cpu_ns in [10_000, 10_000] {
            cost.take_cpu(40, 1000);
            assert_eq!(cost, StreamCost { cpu_ns, ..StreamCost::default() });
        }
    }

    #[test]
    fn years_of_processor_time_are_divided_without_an_overflow() {
        const YEARS_US: u64 = 1 << 57;
        let mut cost = StreamCost { busy_us: YEARS_US, ..StreamCost::default() };
        cost.take_cpu(1 << 50, YEARS_US);
        assert_eq!(cost.cpu_ns, 1000 << 50);
    }
}
