//! Publishing and playing: the way of a request through judges and hub, the messages to others, and
//! the end of a role.

use super::Server;
use super::conn::Publish;
use super::hub::{Channel, Departed, DuplicatePolicy, Refusal};
use super::judge::access::LoggedIn;
use super::judge::{Ask, Judges, Refused, Verdict};
use super::lines::Topic;
use super::memory::MemoryLevel;
use super::reason::CloseReason;
use super::stages::Stage;
use super::timers::TimerKind;
use super::transport::Transport;
use crate::config::{Absent, Duplicate, Start};
use crate::rtmp::command::code;
use crate::rtmp::session::{PlayRequest, PublishRequest, Receives};
use crate::stream::cursor::Play;
use crate::stream::framing::Framing;
use crate::stream::ids::{ConnId, Endpoint, StreamId};
use crate::time::Time;
use log::{Level, debug, log};
use std::rc::Rc;

/// Reason for a refused play while the limit of awaited streams is reached.
pub(super) const TOO_MANY_WAITED_FOR: &str = "as many streams are waited for as may be";

impl<T: Transport> Server<T> {
    pub(super) fn publish(&mut self, id: ConnId, request: PublishRequest, now: Time) {
        let conn = &self.table[id];
        let judges = Judges { access: &self.policies.access, outside: &mut self.outside };
        match judges.publish(id, conn.address(), &request.target.name, conn.logged_in()) {
            Verdict::Granted { name } => self.accept_publish(id, &request, &name, now),
            Verdict::Refused(refused) => self.deny_publish(id, &request, refused, now),
            Verdict::Later(ticket) => self.park(id, ticket, Ask::Publish(request), now),
        }
    }

    /// Checks a publish that was granted late against the rules in force. Returns the refusal if
    /// they do not allow it any more.
    pub(super) fn recheck_publish(&self, id: ConnId, request: &PublishRequest) -> Option<Refused> {
        let logged_in = self.table[id].logged_in();
        self.policies.access.publish(&request.target.name, logged_in).err()
    }

    /// Refuses a publish as a judge has decided.
    pub(super) fn deny_publish(
        &mut self,
        id: ConnId,
        request: &PublishRequest,
        refused: Refused,
        now: Time,
    ) {
        let name = &request.target.name;
        self.refuse_publish(id, request, name, code::PUBLISH_DENIED, refused, now);
    }

    fn refuse_publish(
        &mut self,
        id: ConnId,
        request: &PublishRequest,
        name: &str,
        code: &str,
        refused: Refused,
        now: Time,
    ) {
        let Refused { reason, detail, description } = refused;
        self.table[id].peer.reject_publish(request, code, &description);
        let asked = format!("publish of {}", self.policies.access.shown(name));
        self.refuse(id, &asked, reason, detail, now);
    }

    /// Begins a granted publish, unless another publisher or a limit prevents it.
    pub(super) fn accept_publish(
        &mut self,
        id: ConnId,
        request: &PublishRequest,
        name: &Rc<str>,
        now: Time,
    ) {
        let endpoint = Endpoint { conn: id, lane: request.message_stream_id() };
        let conn = &mut self.table[id];
        if let Some(stream) = conn.published(endpoint.lane) {
            if self.hub.channel(stream).name() == name {
                // A repeated publish is answered again. The stream goes on.
                return conn.peer.accept_publish(request);
            }
            self.unpublish(endpoint, now);
        }
        if self.memory.level == MemoryLevel::Critical && self.hub.find(name).is_none() {
            let description = "the server has no memory for another stream";
            let refused = Refused::told(CloseReason::MemoryPressure, description);
            let code = code::PUBLISH_BAD_NAME;
            return self.refuse_publish(id, request, name, code, refused, now);
        }
        let policy = self.duplicate_policy(name, id, now);
        let streams_max = self.settings.limits.streams_max;
        let published = match self.hub.publish(name, endpoint, now, &policy, streams_max) {
            Ok(published) => published,
            Err(refusal) => {
                let refused = self.not_to_be_had(name, refusal);
                let code = code::PUBLISH_BAD_NAME;
                return self.refuse_publish(id, request, name, code, refused, now);
            }
        };
        if let Some(displaced) = &published.displaced {
            let name = Rc::clone(self.hub.channel(published.stream).name());
            self.publisher_left(displaced, &name, now);
            self.displace(displaced.endpoint, id, now);
        }
        self.stop_playing(endpoint);
        let level = self.level(Topic::Stream, Level::Info, now);
        let conn = &mut self.table[id];
        conn.peer.accept_publish(request);
        let user = LoggedIn::as_user(conn.logged_in());
        log!(level, "{} publishes {}{user}", conn.address(), self.policies.access.shown(name));
        conn.activity_mut().publish(Publish { stream: published.stream, lane: endpoint.lane });
        self.stats.publishes += 1;
        self.enter_stage(id, Stage::Streaming, now);
        self.arm_silence(id, now);
    }

    /// Returns the takeover rule for a newcomer. A connection never blocks itself: it may move its
    /// stream to another lane, whatever the rule. A publisher that was asked to reconnect publishes
    /// again before it leaves. Its address identifies it, so that address may take over as well. A
    /// publisher with unread bytes, or whose request is being decided, is not silent.
    fn duplicate_policy(&self, name: &str, newcomer: ConnId, now: Time) -> DuplicatePolicy {
        let policy = self.policies.duplicate;
        let Some(publisher) = self.hub.find(name).and_then(Channel::publisher) else {
            return policy;
        };
        let conn = &self.table[publisher.conn];
        let returns = || {
            let newcomer = self.table[newcomer].address().ip();
            conn.peer.is_to_reconnect() && newcomer.is_some() && conn.address().ip() == newcomer
        };
        if publisher.conn == newcomer || returns() {
            DuplicatePolicy { rule: Duplicate::Replace, ..policy }
        } else if self.is_unread(publisher.conn, now) || conn.is_parked() {
            DuplicatePolicy { silent_ms: u64::MAX, ..policy }
        } else {
            policy
        }
    }

    /// Returns the refusal for a stream that the hub does not give to a publisher.
    fn not_to_be_had(&self, name: &str, refusal: Refusal) -> Refused {
        match refusal {
            Refusal::AlreadyPublishing => {
                let name = self.policies.access.shown(name);
                let description = format!("{name} has a publisher already");
                Refused::told(CloseReason::AlreadyPublishing, description)
            }
            Refusal::TooManyStreams => {
                let description = "as many streams are published as may be";
                Refused::told(CloseReason::StreamLimit, description)
            }
        }
    }

    /// Ends the publish of a publisher that `by` has displaced. Nothing that it still sends reaches
    /// the players. A connection that displaced itself, on another lane, stays.
    fn displace(&mut self, old: Endpoint, by: ConnId, now: Time) {
        let conn = &mut self.table[old.conn];
        if let Some(activity) = &mut conn.activity {
            activity.unpublish(old.lane);
        }
        if old.conn == by {
            return conn.peer.publish_ended(old.lane);
        }
        conn.peer.publish_displaced(old.lane);
        self.dismiss(old.conn, CloseReason::Replaced, String::new(), now);
    }

    /// Tells a player which of its streams have begun or ended since the last time, and settles its
    /// stage. Players are told when they are visited. To tell them at the change was rejected: a
    /// publisher that comes and goes would cost a message for each player and change, also for
    /// players that do not read.
    #[cold]
    pub(super) fn tell_changes(&mut self, id: ConnId, now: Time) {
        let conn = &mut self.table[id];
        if conn.peer.web().is_some() {
            return self.tell_viewer(id, now);
        }
        let Some(activity) = &mut conn.activity else { return };
        for play in &mut activity.plays {
            let has_begun = self.hub.channel(play.stream).has_begun();
            if std::mem::replace(&mut play.told_begun, has_begun) == has_begun {
                continue;
            }
            if has_begun {
                conn.peer.play_began(play.lane);
            } else {
                conn.peer.play_ended(play.lane);
            }
        }
        self.settle_stage(id, now);
    }

    pub(super) fn play(&mut self, id: ConnId, request: PlayRequest, now: Time) {
        let peer = self.table[id].address();
        let judges = Judges { access: &self.policies.access, outside: &mut self.outside };
        match judges.play(id, peer, &request.target.name) {
            Verdict::Granted { name } => self.accept_play(id, &request, &name, now),
            Verdict::Refused(refused) => {
                self.refuse_play(id, &request, code::PLAY_FAILED, refused, now);
            }
            Verdict::Later(ticket) => self.park(id, ticket, Ask::Play(request), now),
        }
    }

    /// Begins a granted play, unless a limit prevents it.
    pub(super) fn accept_play(
        &mut self,
        id: ConnId,
        request: &PlayRequest,
        name: &Rc<str>,
        now: Time,
    ) {
        let endpoint = Endpoint { conn: id, lane: request.message_stream_id() };
        if self.memory.level >= MemoryLevel::Tight && !self.table[id].plays() {
            let description = "the server has no memory for another player";
            let refused = Refused::told(CloseReason::MemoryPressure, description);
            return self.refuse_play(id, request, code::PLAY_FAILED, refused, now);
        }
        self.stop_playing(endpoint);
        let code = code::PLAY_STREAM_NOT_FOUND;
        let absent = self.hub.find(name).is_none_or(|stream| !stream.is_live());
        if absent && self.settings.play.absent == Absent::Refuse {
            let description = format!("{} is not published", self.policies.access.shown(name));
            let refused = Refused::told(CloseReason::StreamNotFound, description);
            return self.refuse_play(id, request, code, refused, now);
        }
        let streams_max = self.settings.limits.streams_max;
        let Ok(stream) = self.hub.find_or_wait(name, streams_max) else {
            let refused = Refused::told(CloseReason::StreamLimit, TOO_MANY_WAITED_FOR);
            return self.refuse_play(id, request, code, refused, now);
        };
        let level = self.level(Topic::Stream, Level::Info, now);
        let conn = &mut self.table[id];
        conn.peer.accept_play(request);
        log!(
            level,
            "{} plays {}{}",
            conn.address(),
            self.policies.access.shown(name),
            if absent { ", which is not published yet" } else { "" }
        );
        self.stats.plays += 1;
        let (start, receives) = (self.settings.play.start, request.receives());
        self.begin_playing(stream, endpoint, Framing::Rtmp, start, receives, now);
    }

    /// Makes a connection a player of a stream, on a free lane. Media follows with the next write.
    pub(super) fn begin_playing(
        &mut self,
        stream: StreamId,
        endpoint: Endpoint,
        framing: Framing,
        start: Start,
        receives: Receives,
        now: Time,
    ) {
        let Endpoint { conn: id, lane } = endpoint;
        let tape = self.hub.channel(stream).tape();
        let mut play = Play::new(stream, lane, framing, tape, start, receives);
        play.slot = self.hub.add_player(stream, endpoint, framing);
        play.told_begun = self.hub.channel(stream).has_begun();
        self.table[id].activity_mut().plays.push(play);
        self.settle_stage(id, now);
        self.table.queue_write(id);
        // With a full socket, no write follows that would arm the deadline.
        let conn = &mut self.table[id];
        if !conn.writable && conn.stalls_at() == Time::NEVER {
            self.arm_stall(id, now);
        }
    }

    pub(super) fn refuse_play(
        &mut self,
        id: ConnId,
        request: &PlayRequest,
        code: &str,
        refused: Refused,
        now: Time,
    ) {
        let Refused { reason, detail, description } = refused;
        self.table[id].peer.reject_play(request, code, &description);
        let asked = format!("play of {}", self.policies.access.shown(&request.target.name));
        self.refuse(id, &asked, reason, detail, now);
    }

    /// Moves a connection to the stage that follows from its roles.
    pub(super) fn settle_stage(&mut self, id: ConnId, now: Time) {
        let conn = &self.table[id];
        if conn.is_closing() || conn.stage < Stage::Connected {
            return;
        }
        let stage = conn.activity.as_ref().map_or(Stage::Connected, |activity| {
            let live = |play: &Play| self.hub.channel(play.stream).has_begun();
            match (activity.publishes(), &activity.plays[..]) {
                ([], []) => Stage::Connected,
                ([], plays) if !plays.iter().any(live) => Stage::Waiting,
                _ => Stage::Streaming,
            }
        });
        self.enter_stage(id, stage, now);
    }

    /// Ends a publish, if there is one on this lane.
    pub(super) fn unpublish(&mut self, endpoint: Endpoint, now: Time) {
        let conn = &mut self.table[endpoint.conn];
        let Some(activity) = &mut conn.activity else { return };
        let Some(stream) = activity.published(endpoint.lane) else { return };
        activity.unpublish(endpoint.lane);
        if activity.publishes().is_empty() {
            conn.peer.release();
            self.table.arm(endpoint.conn, TimerKind::Silence, Time::NEVER);
        }
        let name = Rc::clone(self.hub.channel(stream).name());
        let departed = self.hub.unpublish(stream, now, self.settings.publish.linger_ms);
        if let Some(departed) = departed {
            self.publisher_left(&departed, &name, now);
        }
    }

    /// Logs the report of a publish that has ended.
    fn publisher_left(&mut self, departed: &Departed, name: &Rc<str>, now: Time) {
        let level = self.level(Topic::Stream, Level::Info, now);
        let conn = &mut self.table[departed.endpoint.conn];
        conn.activity_mut().role_over("publisher", Rc::clone(name)).publisher_left(departed);
        let name = self.policies.access.shown(name);
        log!(level, "{} no longer publishes {name} after {}", conn.address(), departed.report);
    }

    /// Ends the streams whose publisher did not return in time.
    pub(super) fn end_streams(&mut self, now: Time) {
        let table = &self.table;
        let is_served = |player: &Endpoint| !table[player.conn].queued_to_write;
        for stream in self.hub.ended(now, is_served) {
            self.hub.end(stream, now);
            self.note_over(stream, now);
            let level = self.level(Topic::Stream, Level::Info, now);
            let name = self.policies.access.shown(self.hub.channel(stream).name());
            log!(level, "{name} is over: its publisher did not come back");
        }
    }

    /// Ends a play, if there is one on this lane.
    pub(super) fn stop_playing(&mut self, endpoint: Endpoint) {
        let Some(activity) = &mut self.table[endpoint.conn].activity else { return };
        let at = |play: &Play| play.lane == endpoint.lane;
        let Some(index) = activity.plays.iter().position(at) else { return };
        let play = activity.plays.remove(index);
        let name = Rc::clone(self.hub.channel(play.stream).name());
        activity.role_over("player", name).skips += play.skips();
        let moved = self.hub.remove_player(play.stream, play.slot, play.framing());
        let Some(moved) = moved else { return };
        if let Some(other) = self.table[moved.conn].play_mut(moved.lane) {
            other.slot = play.slot;
        }
        // A visit in progress may have passed its new slot already.
        self.table.queue_write(moved.conn);
    }

    /// Ends all roles of a connection. Its publishes end last, since the closing line names the
    /// last role, and a publish says more about a connection than a play.
    pub(super) fn leave_streams(&mut self, id: ConnId, now: Time) {
        while let Some(activity) = &self.table[id].activity {
            if let Some(play) = activity.plays.first() {
                let lane = play.lane;
                self.stop_playing(Endpoint { conn: id, lane });
            } else if let Some(publish) = activity.publishes().first() {
                let lane = publish.lane;
                self.unpublish(Endpoint { conn: id, lane }, now);
            } else {
                return;
            }
        }
    }

    /// Asks a connection to reconnect. Returns false if the client does not support that.
    pub(super) fn request_reconnect(&mut self, id: ConnId, description: &str) -> bool {
        let conn = &mut self.table[id];
        let tc_url = self.settings.drain_url.get();
        let asked = !conn.is_closing() && conn.peer.request_reconnect(tc_url, description);
        if asked {
            debug!("{} is asked to reconnect", conn.address());
            self.table.queue_write(id);
        }
        asked
    }

    /// Tells a connection that the server is going down, on each of its lanes.
    pub(super) fn tell_shutdown(&mut self, id: ConnId, description: &str) {
        let conn = &mut self.table[id];
        if conn.stage < Stage::Connected || conn.is_closing() {
            return;
        }
        if let Some(activity) = &conn.activity {
            for publish in activity.publishes() {
                let id = publish.lane;
                conn.peer.error_status(id, code::PUBLISH_DENIED, description);
            }
            for play in &activity.plays {
                conn.peer.play_ended(play.lane);
            }
        }
        if conn.is_idle() {
            conn.peer.error_status(0, code::CONNECT_APP_SHUTDOWN, description);
        }
        self.tell_unavailable(id, description);
    }
}
