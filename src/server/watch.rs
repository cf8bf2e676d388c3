//! Deadlines: where they are armed, and the action when one has passed.

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

/// Time for a dismissed peer to read the reason and close (ms).
const FAREWELL_MS: u64 = 1000;
/// Budget of a write that only tests whether a player takes anything. The rest of its backlog waits
/// for its turn among the others.
const PROBE: Budget = Budget { bytes: limits::KIB, calls: 1, ..Budget::WRITE };

impl<T: Transport> Server<T> {
    /// Acts on the deadlines that have passed. A connection with unread bytes is judged in the next
    /// turn, after they were read: the server may have been late, and not the peer.
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

    /// Returns whether a connection waits to be read, and nothing was read from it in this turn.
    pub(super) fn is_unread(&self, id: ConnId, now: Time) -> bool {
        let conn = &self.table[id];
        conn.queued_to_read && conn.heard < now && !conn.is_parked()
    }

    fn stage_over(&mut self, id: ConnId, now: Time) {
        if self.table[id].is_parked() {
            // The peer waits for the server. The decision has a deadline of its own.
            let at = self.table[id].undecided_at().plus_millis(1);
            return self.table.arm(id, TimerKind::Stage, at);
        }
        if self.table[id].peer.is_holding() && !self.table[id].is_closing() {
            return self.note_due(id);
        }
        let timeouts = &self.settings.timeouts;
        let is_web = self.table[id].peer.web().is_some();
        let (reason, limit_ms) = match self.table[id].stage {
            Stage::Handshaking | Stage::Connecting if is_web => {
                return self.request_timed_out(id, now);
            }
            Stage::Connected if is_web => (CloseReason::IdleTimeout, self.settings.http.idle_ms),
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
        // The stream may have begun since. A player that does not read was not visited for it.
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
        self.view_not_published(id, &description);
        self.dismiss(id, CloseReason::WaitTimeout, description, now);
    }

    /// Moves a connection to a stage, and arms the deadline of the stage.
    pub(super) fn enter_stage(&mut self, id: ConnId, stage: Stage, now: Time) {
        if self.table.move_to(id, stage) {
            self.arm_stage(id, now);
        }
    }

    /// Arms the deadline of the stage of a connection.
    pub(super) fn arm_stage(&mut self, id: ConnId, now: Time) {
        let conn = &self.table[id];
        let (timeouts, http) = (&self.settings.timeouts, &self.settings.http);
        let is_web = conn.peer.web().is_some();
        let optional =
            |limit_ms| if limit_ms == 0 { Time::NEVER } else { now.plus_millis(limit_ms) };
        let at = match conn.stage {
            Stage::Handshaking if is_web => conn.accepted.plus_millis(http.request_ms),
            Stage::Connecting if is_web => now.plus_millis(http.request_ms),
            Stage::Connected if conn.peer.is_page() => Time::NEVER,
            Stage::Connected if is_web => optional(http.idle_ms),
            Stage::Handshaking => conn.accepted.plus_millis(timeouts.handshake_ms),
            Stage::Connecting => conn.accepted.plus_millis(timeouts.connect_ms),
            Stage::Connected => optional(timeouts.idle_ms),
            Stage::Waiting => optional(self.settings.play.wait_ms),
            Stage::Streaming => Time::NEVER,
            Stage::Leaving => now.plus_millis(FAREWELL_MS),
        };
        self.table.arm(id, TimerKind::Stage, at);
    }

    /// Arms the deadline for a connection to take the next byte, or a whole response.
    pub(super) fn arm_stall(&mut self, id: ConnId, now: Time) {
        let limit_ms = match self.table[id].peer.owes_response() {
            true => self.settings.http.response_ms,
            false => self.settings.timeouts.player_stalled_ms,
        };
        let at = now.plus_millis(limit_ms);
        self.table.arm(id, TimerKind::Stall, at);
    }

    pub(super) fn arm_silence(&mut self, id: ConnId, now: Time) {
        let limit_ms = self.settings.timeouts.publisher_silent_ms;
        let at = if limit_ms == 0 { Time::NEVER } else { now.plus_millis(limit_ms) };
        self.table.arm(id, TimerKind::Silence, at);
    }

    /// Closes a publisher without media for too long. Media does not move the timer, since that
    /// would cost a timer operation for each frame. The hub notes the time of the last media, and
    /// an early timer is armed again.
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

    /// Closes a connection that has taken no byte for too long. First it is offered some: bytes
    /// that it takes now count as taken in time, since its socket may have had room for long. A
    /// player with a full socket has not taken what it was sent, even if it wants nothing more, as
    /// after a pause. Any other connection has stalled if bytes are still pending for it.
    fn player_stalled(&mut self, id: ConnId, now: Time) {
        if self.table[id].peer.owes_response() {
            let detail = format!("response not taken within {} ms", self.settings.http.response_ms);
            return self.close(id, CloseReason::HttpTimeout, detail, now);
        }
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

    /// Pings a peer that sent nothing for a whole interval, and closes it after another interval of
    /// silence. Any byte is a sign of life, since OBS does not answer pings while it publishes.
    fn ping(&mut self, id: ConnId, now: Time) {
        let interval_ms = self.settings.timeouts.ping_ms;
        let conn = &mut self.table[id];
        if interval_ms == 0 || conn.is_closing() {
            return;
        }
        if conn.is_parked() {
            // Bytes of the peer may be in the socket, and the server does not read them now.
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
        // The field has 32 bits of milliseconds. The peer only echoes it, so it may wrap.
        conn.peer.ping((now.as_micros() / 1000) as u32);
        self.table.queue_write(id);
        self.arm_ping(id, now);
    }
}
