//! What happens when a deadline has come.

use super::Server;
use super::reason::CloseReason;
use super::stages::Stage;
use super::timers::TimerKind;
use super::transport::Transport;
use crate::budget::Budget;
use crate::limits;
use crate::rtmp::command::code;
use crate::stream::ids::ConnId;
use crate::time::Time;

/// How long somebody who was told to go may take to read why (ms).
const FAREWELL_MS: u64 = 1000;
/// Enough to see whether a player takes anything: the rest waits for its turn among the others.
const PROBE: Budget = Budget { bytes: limits::KIB, calls: 1, ..Budget::WRITE };

impl<T: Transport> Server<T> {
    /// Acts on every deadline that has come. A connection that has not had its share of this turn
    /// is judged in the next one, by what it has sent: it may be the server that was late.
    pub(super) fn fire_timers(&mut self, now: Time) {
        let mut unread = Vec::new();
        for _ in 0..limits::DEADLINES_PER_TURN_MAX {
            let Some(id) = self.table.first_due(now) else { break };
            if self.is_unread(id, now) {
                self.table.suspend_deadlines(id);
                unread.push(id);
                continue;
            }
            while let Some(kind) = self.table.take_due(id, now) {
                match kind {
                    TimerKind::Stage => self.stage_over(id, now),
                    TimerKind::Silence => self.publisher_silent(id, now),
                    TimerKind::Stall => self.player_stalled(id, now),
                    TimerKind::Ping => self.ping(id, now),
                    TimerKind::Verdict => self.undecided(id, now),
                }
            }
            self.table.resume_deadlines(id);
        }
        for id in unread {
            self.table.resume_deadlines(id);
        }
    }

    /// Whether a connection has sent something, and none of it has been read at `now`.
    pub(super) fn is_unread(&self, id: ConnId, now: Time) -> bool {
        let conn = &self.table[id];
        conn.queued_to_read && conn.heard < now && !conn.is_parked()
    }

    fn stage_over(&mut self, id: ConnId, now: Time) {
        if self.table[id].is_parked() {
            // It waits for us. What it waits for has a deadline of its own.
            let at = self.table[id].undecided_at().plus_millis(1);
            return self.table.arm(id, TimerKind::Stage, at);
        }
        let timeouts = &self.settings.timeouts;
        let (reason, limit_ms) = match self.table[id].stage {
            Stage::Handshaking => (CloseReason::HandshakeTimeout, timeouts.handshake_ms),
            Stage::Connecting => (CloseReason::ConnectTimeout, timeouts.connect_ms),
            Stage::Connected => (CloseReason::IdleTimeout, timeouts.idle_ms),
            Stage::Waiting => return self.waited_too_long(id, now),
            Stage::Leaving => return self.close(id, CloseReason::PeerClosed, String::new(), now),
            Stage::Streaming => return,
        };
        self.close(id, reason, format!("limit {limit_ms} ms"), now);
    }

    fn waited_too_long(&mut self, id: ConnId, now: Time) {
        // The stream may have begun since, and a player that does not read was not visited for it.
        self.settle_stage(id, now);
        if self.table[id].stage != Stage::Waiting {
            return;
        }
        let conn = &mut self.table[id];
        let description = format!("not published within {} ms", self.settings.play.wait_ms);
        let waiting = conn.activity.as_ref().and_then(|activity| activity.plays.first());
        if let Some(lane) = waiting.map(|play| play.lane) {
            conn.peer.error_status(lane, code::PLAY_STREAM_NOT_FOUND, &description);
        }
        self.dismiss(id, CloseReason::WaitTimeout, description, now);
    }

    /// Moves a connection to the stage that its roles give it, with that stage's deadline.
    pub(super) fn enter_stage(&mut self, id: ConnId, stage: Stage, now: Time) {
        if self.table.move_to(id, stage) {
            self.arm_stage(id, now);
        }
    }

    /// Arms the deadline of the stage that a connection is in.
    pub(super) fn arm_stage(&mut self, id: ConnId, now: Time) {
        let conn = &self.table[id];
        let timeouts = &self.settings.timeouts;
        let optional =
            |limit_ms| if limit_ms == 0 { Time::NEVER } else { now.plus_millis(limit_ms) };
        let at = match conn.stage {
            Stage::Handshaking => conn.accepted.plus_millis(timeouts.handshake_ms),
            Stage::Connecting => conn.accepted.plus_millis(timeouts.connect_ms),
            Stage::Connected => optional(timeouts.idle_ms),
            Stage::Waiting => optional(self.settings.play.wait_ms),
            Stage::Streaming => Time::NEVER,
            Stage::Leaving => now.plus_millis(FAREWELL_MS),
        };
        self.table.arm(id, TimerKind::Stage, at);
    }

    /// Gives a connection that does not take what it is sent its time for the next byte.
    pub(super) fn arm_stall(&mut self, id: ConnId, now: Time) {
        let at = now.plus_millis(self.settings.timeouts.player_stalled_ms);
        self.table.arm(id, TimerKind::Stall, at);
    }

    pub(super) fn arm_silence(&mut self, id: ConnId, now: Time) {
        let limit_ms = self.settings.timeouts.publisher_silent_ms;
        let at = if limit_ms == 0 { Time::NEVER } else { now.plus_millis(limit_ms) };
        self.table.arm(id, TimerKind::Silence, at);
    }

    /// Media moves no timer: it leaves its time in the hub, and the timer looks there.
    fn publisher_silent(&mut self, id: ConnId, now: Time) {
        let limit_ms = self.settings.timeouts.publisher_silent_ms;
        let conn = &mut self.table[id];
        let publishes = conn.activity.iter().flat_map(|activity| activity.publishes());
        let hub = &self.hub;
        let last = publishes.filter_map(|publish| hub.silent_at(publish.stream, limit_ms)).max();
        let Some((at, heard)) = last.filter(|_| limit_ms != 0) else { return };
        if conn.is_parked() {
            return self.arm_silence(id, now);
        }
        if at > now {
            return self.table.arm(id, TimerKind::Silence, at);
        }
        let detail = format!("no media for {} ms", now.millis_since(heard));
        self.close(id, CloseReason::PublisherSilent, detail, now);
    }

    /// What it takes now it has taken in time: nobody knows how long there has been room for it.
    /// While its socket is full, a player has not taken what it was sent, even if it wants nothing
    /// more since, as after a pause. Others have stalled if the process still holds bytes for them.
    fn player_stalled(&mut self, id: ConnId, now: Time) {
        let before = self.table[id].bytes_out;
        self.write(id, PROBE, now);
        let limit_ms = self.settings.timeouts.player_stalled_ms;
        let conn = &mut self.table[id];
        if conn.bytes_out > before {
            return;
        }
        let is_full = conn.plays() && !conn.writable;
        if conn.may_stall() && (is_full || conn.has_pending(&self.hub)) {
            let detail = format!("took no byte for {limit_ms} ms");
            self.close(id, CloseReason::PlayerStalled, detail, now);
        }
    }

    pub(super) fn arm_ping(&mut self, id: ConnId, now: Time) {
        let interval_ms = self.settings.timeouts.ping_ms;
        if interval_ms != 0 {
            let at = now.plus_millis(interval_ms);
            self.table.arm(id, TimerKind::Ping, at);
        }
    }

    /// Any byte is a sign of life, since OBS never answers a ping once it publishes. A peer
    /// that sent nothing for a whole interval is asked, and after another one is gone.
    fn ping(&mut self, id: ConnId, now: Time) {
        let interval_ms = self.settings.timeouts.ping_ms;
        let conn = &mut self.table[id];
        if interval_ms == 0 || conn.is_closing() {
            return;
        }
        if conn.is_parked() {
            // Nobody reads what it may have sent.
            return self.arm_ping(id, now);
        }
        if now < conn.heard.plus_millis(interval_ms) {
            let at = conn.heard.plus_millis(interval_ms);
            return self.table.arm(id, TimerKind::Ping, at);
        }
        if conn.pinged {
            let detail = format!("nothing for {interval_ms} ms after a ping");
            return self.close(id, CloseReason::PingTimeout, detail, now);
        }
        conn.pinged = true;
        // The field is 32 bits of milliseconds; what it says is only echoed.
        conn.peer.ping((now.as_micros() / 1000) as u32);
        self.table.queue_write(id);
        self.arm_ping(id, now);
    }
}
