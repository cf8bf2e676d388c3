//! The writes of a turn: their order, and the consequences of each outcome.
//!
//! Connections that wait for a reply or for room in their socket come first, with half of the
//! budget. The players of streams with new messages come next, a few of each stream before the
//! others, and then connections again.
//! `outbox.rs` decides what one write consists of.

use super::conn::{Closing, Conn, Departure};
use super::hub::Hub;
use super::lines::Topic;
use super::outbox::Flushed;
use super::reason::CloseReason;
use super::stopwatch::Work;
use super::timers::TimerKind;
use super::transport::Transport;
use super::{Policies, Server};
use crate::budget::Budget;
use crate::stream::cursor::TooSlow;
use crate::stream::ids::{ConnId, StreamId};
use crate::stream::segment::SegmentSettings;
use crate::time::Time;
use log::{Level, log, warn};
use std::io::{self, ErrorKind};

/// The part of a turn's writing budget for connections that are served before the players of
/// streams.
const HALF: Budget = Budget {
    bytes: Budget::WRITING.bytes / 2,
    messages: Budget::WRITING.messages / 2,
    calls: Budget::WRITING.calls / 2,
};

impl<T: Transport> Server<T> {
    /// Writes to all connections with pending data, within the budget of a turn.
    pub(super) fn write_all(&mut self, now: Time) {
        self.table.begin_writes();
        let mut storing = Budget::STORING;
        while let Some(stream) = self.hub.take_news(now) {
            self.store(stream, &mut storing, now);
            self.sample(stream, now);
            if self.hub.begin_round(stream) {
                self.sampling.rounds = self.sampling.rounds.wrapping_add(1);
                self.news.push(stream);
            }
        }
        let (mut left, mut half) = (Budget::WRITING, HALF);
        self.write_queued(&mut half, &HALF, now);
        left.settle(&HALF, &half);
        self.write_news(&mut left, now);
        self.write_queued(&mut left, &Budget::WRITING, now);
    }

    /// Writes to the queued connections.
    fn write_queued(&mut self, left: &mut Budget, whole: &Budget, now: Time) {
        while let Some(id) = self.table.next_to_write(left, whole) {
            let (stream, from) = (self.charged_stream(id), self.charge_from());
            self.write_counted(id, left, 1, now);
            if let Some(stream) = stream {
                self.charge_writes(stream, from);
            }
        }
    }

    /// Visits the players of streams with news. To queue each player was rejected: there are many,
    /// and each would be looked up twice.
    ///
    /// A few players of each stream come first. To visit all players of one stream before the next
    /// was rejected: a frame for one player then waits for hundreds of other streams.
    fn write_news(&mut self, left: &mut Budget, now: Time) {
        let mut is_first_visit = true;
        loop {
            let fresh = if is_first_visit { self.next_fresh_news(left) } else { None };
            let (stream, share) = match fresh {
                Some(stream) => (stream, left.share(&Budget::FIRST_VISIT)),
                None => {
                    if std::mem::take(&mut is_first_visit) {
                        self.news.begin_turn();
                    }
                    let again = if left.is_spent() { None } else { self.news.take_again() };
                    let Some(stream) = again else { return };
                    (stream, *left)
                }
            };
            let mut unspent = share;
            let from = self.charge_from();
            let is_over = self.write_players(stream, &mut unspent, now);
            // Charged once a visit, not once a player: the sums of all writes run along anyway.
            self.charge_writes(stream, from);
            left.settle(&share, &unspent);
            if !is_over {
                self.news.push_again(stream);
            }
        }
    }

    /// Takes the next stream with players that have not been visited for its news. The last quarter
    /// of a turn belongs to visits that have begun.
    fn next_fresh_news(&mut self, left: &Budget) -> Option<StreamId> {
        if left.is_low(&Budget::WRITING) { None } else { self.news.take_fresh() }
    }

    /// Continues the visit of the players of a stream. Returns whether it is complete.
    fn write_players(&mut self, stream: StreamId, left: &mut Budget, now: Time) -> bool {
        let Some(mut sample) = self.sample_visit(stream) else { return true };
        let mut is_over = false;
        while !left.is_spent() {
            let Some(player) = self.hub.take_next_in_round(stream) else {
                is_over = true;
                break;
            };
            let conn = &self.table[player.conn];
            if conn.writable && !conn.queued_to_write {
                self.outbox.handed.is_paused = !sample.takes_next();
                self.write_counted(player.conn, left, sample.step, now);
            } else {
                left.spend_messages(1);
            }
        }
        self.outbox.handed.is_paused = false;
        is_over
    }

    /// Writes to a connection, within the budget of the turn. A message that counts for the latency
    /// of its stream counts for `weight` players.
    // A call of its own for each player costs 3 % of the instructions of a frame.
    #[inline]
    fn write_counted(&mut self, id: ConnId, left: &mut Budget, weight: usize, now: Time) {
        let share = left.share(&Budget::WRITE);
        let unspent = self.write(id, share, now);
        left.settle(&share, &unspent);
        let table = &self.table;
        let micros = self.stopwatch.lap_for(Work::Writing, || Some(table[id].address()));
        self.costs.busy_us += micros;
        if !self.outbox.handed.is_empty() {
            self.note_handed(weight, self.stopwatch.last_lap().unwrap_or(now));
        }
    }

    /// Records the latency of the messages that the kernel had at `at`. The clock is read once
    /// after each write anyway, so the whole cost is that of the histogram.
    fn note_handed(&mut self, weight: usize, at: Time) {
        for run in self.outbox.handed.take() {
            self.hub.note_handed(run, weight, at);
        }
    }

    /// Stores new messages of a stream in a memory file. If the system has no file to give, the
    /// players are sent from memory, as for small streams.
    fn store(&mut self, stream: StreamId, budget: &mut Budget, now: Time) {
        if self.segments.is_none() || !self.may_store(now) {
            return;
        }
        let Some(settings) = &self.segments else { return };
        match self.hub.store(stream, settings, budget) {
            Ok(stored) => {
                self.lacks_segments &= !stored;
                if stored {
                    let from = self.charge_from();
                    self.costs.busy_us += self.stopwatch.lap(Work::Writing);
                    self.charge_writes(stream, from);
                }
            }
            Err(_) if self.lacks_segments => {}
            // `ulimit -f` limits memory files as well.
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                give_up_files(&mut self.hub, &mut self.segments, "memory files", &error);
            }
            Err(error) => {
                self.lacks_segments = true;
                let level = self.level(Topic::Failure, Level::Warn, now);
                log!(
                    level,
                    "no memory file to send from: {error}; players are sent from memory until then"
                );
            }
        }
    }

    /// Writes the pending data of a connection, within a share of the turn's budget. Returns the
    /// rest of the share.
    pub(super) fn write(&mut self, id: ConnId, mut share: Budget, now: Time) -> Budget {
        let conn = self.table.unmarked(id);
        if !conn.writable {
            return share;
        }
        if !conn.is_closing() {
            match catch_up(conn, &self.hub, &self.policies, now) {
                Ok(Changes::None) => {}
                Ok(Changes::Some) => self.tell_changes(id, now),
                Err(TooSlow) => {
                    let skips_max = self.policies.lag.skips_max;
                    let detail = format!("more than {skips_max} jumps to the live edge");
                    self.close(id, CloseReason::SlowConsumer, detail, now);
                    return share;
                }
            }
        }
        let conn = self.table.unmarked(id);
        let (before, held_nothing) = (conn.bytes_out, conn.holds_nothing_to_send());
        let flushed = self.outbox.flush(conn, &self.hub, &mut share);
        if let Some(error) = self.outbox.take_file_refusal() {
            give_up_files(&mut self.hub, &mut self.segments, "sendfile", &error);
        }
        let written = conn.bytes_out - before;
        self.stats.bytes_out += written;
        // The usual case: the player has taken everything. It is marked only if it held data
        // before, since otherwise its memory cannot have changed.
        if matches!(flushed, Ok(Flushed::All)) && !conn.is_closing() {
            debug_assert!(conn.holds_nothing_to_send(), "all is with the kernel");
            if held_nothing && conn.stalls_at() == Time::NEVER {
                return share;
            }
            if !held_nothing {
                self.table.mark(id);
                self.response_sent(id, now);
            }
            self.table.arm(id, TimerKind::Stall, Time::NEVER);
            return share;
        }
        self.table.mark(id);
        self.settle_write(id, flushed, written > 0, now);
        share
    }

    /// Writes the rest of a half-sent message and the pending replies, but no media.
    pub(super) fn write_replies(&mut self, id: ConnId, now: Time) {
        let conn = &mut self.table[id];
        if !conn.writable {
            return;
        }
        let (before, bytes) = (conn.bytes_out, conn.reply_bytes());
        let flushed = self.outbox.flush(conn, &self.hub, &mut Budget { bytes, ..Budget::WRITE });
        let written = conn.bytes_out - before;
        self.stats.bytes_out += written;
        self.note_handed(1, now);
        self.settle_write(id, flushed, written > 0, now);
    }

    /// Writes to a connection that is about to be removed, if its socket has room. The outcome is
    /// ignored.
    pub(super) fn write_last(&mut self, id: ConnId, now: Time) {
        let conn = &mut self.table[id];
        if conn.writable {
            let before = conn.bytes_out;
            let _ = self.outbox.flush(conn, &self.hub, &mut { Budget::WRITE });
            self.stats.bytes_out += conn.bytes_out - before;
            self.note_handed(1, now);
        }
    }

    /// Handles a write after which data may be pending. `moved` is true if it has written any
    /// bytes. Only then does the deadline for the next byte move. Otherwise a socket that reports
    /// room and takes nothing would never stall.
    fn settle_write(&mut self, id: ConnId, flushed: io::Result<Flushed>, moved: bool, now: Time) {
        let conn = &mut self.table[id];
        match flushed {
            Ok(Flushed::All) => {
                self.table.arm(id, TimerKind::Stall, Time::NEVER);
                self.response_sent(id, now);
                self.written_out(id);
            }
            Ok(unfinished) => {
                // The transport may still hold the end of a response that is not pending any more.
                let is_answered = conn.peer.web().is_some() && !conn.peer.has_pending();
                let armed = conn.stalls_at() != Time::NEVER;
                // A whole response has one deadline. A client that takes a byte now and then would
                // hold it for ever otherwise.
                let restarts = moved && !conn.peer.owes_response();
                if (restarts || !armed) && conn.may_stall() {
                    self.arm_stall(id, now);
                }
                if unfinished == Flushed::Budget {
                    self.table.queue_write_again(id);
                } else if is_answered {
                    self.response_sent(id, now);
                }
            }
            Err(error) => self.close(id, (&error).into(), error.to_string(), now),
        }
    }

    /// Handles a write after which nothing is pending. A connection that is being closed shuts its
    /// sending direction.
    fn written_out(&mut self, id: ConnId) {
        let conn = &mut self.table[id];
        let is_told = |closing: &&mut Box<Closing>| closing.step == Departure::Farewell;
        let Some(closing) = conn.closing.as_mut().filter(is_told) else { return };
        if conn.transport.shutdown_write().is_ok() {
            closing.step = Departure::Shut;
        } else {
            closing.step = Departure::Over;
            self.table.queue_end(id);
        }
    }
}

/// Stops sending from memory files. A system that refuses `what` once (seccomp, gVisor, a limit)
/// refuses it always.
#[cold]
fn give_up_files(
    hub: &mut Hub,
    segments: &mut Option<SegmentSettings>,
    what: &str,
    error: &io::Error,
) {
    *segments = None;
    hub.drop_segments();
    warn!("the system refuses {what}: {error}; players are sent from memory from now on");
}

/// Tells whether one of a player's streams began or ended since the player was last told.
enum Changes {
    None,
    Some,
}

/// Lets the plays of a connection skip if they lag. Returns whether the player has to be told of a
/// change.
fn catch_up<T>(
    conn: &mut Conn<T>,
    hub: &Hub,
    policies: &Policies,
    now: Time,
) -> Result<Changes, TooSlow> {
    let Some(activity) = &mut conn.activity else { return Ok(Changes::None) };
    let mut changes = Changes::None;
    for play in &mut activity.plays {
        let stream = hub.channel(play.stream);
        if play.told_begun != stream.has_begun() || play.is_outdated(stream.tape()) {
            changes = Changes::Some;
        }
        play.catch_up(stream.tape(), now, &policies.lag)?;
    }
    Ok(changes)
}
