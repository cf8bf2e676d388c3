//! Reading: turns the bytes of connections into intents, records frames, and carries out the other
//! intents.

use super::conn::{Activity, Conn};
use super::hub::Hub;
use super::judge::{Ask, Judges, Refused, Verdict};
use super::peer::{Intent, Tune, Wish};
use super::ready::Next;
use super::reason::CloseReason;
use super::stages::Stage;
use super::stopwatch::Work;
use super::transport::{Received, Transport};
use super::{Policies, Server};
use crate::budget::Budget;
use crate::limits;
use crate::rtmp::message::AggregateParts;
use crate::rtmp::name::{AppName, NameError};
use crate::rtmp::session::{Asked, ConnectRequest, Receive};
use crate::stream::frame::MediaFrame;
use crate::stream::ids::{ConnId, Endpoint, StreamId};
use crate::stream::{Note, Outcome};
use crate::time::Time;
use log::debug;
use std::io::ErrorKind;

/// Bytes that were read and exceeded the share of their connection in a turn. They precede the next
/// read.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Box<[u8]>,
    consumed: usize,
}

impl Unread {
    /// Returns the memory that it holds in addition to itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<T: Transport> Server<T> {
    /// Reads the queued connections, publishers and players first, within the budget of a turn.
    pub(super) fn read_all(&mut self, buffer: &mut [u8], now: Time) {
        let mut left = Budget::READING;
        self.table.begin_reads();
        while let Some(next) = self.table.next_to_read(&left, &Budget::READING) {
            let (id, share) = match next {
                Next::Fresh(id) => (id, Budget::FIRST_READ),
                Next::Again(id) => (id, Budget::NEXT_READ),
            };
            let stream = self.charged_stream(id);
            let unspent = self.read(id, share, buffer, now);
            left.settle(&share, &unspent);
            let table = &self.table;
            let micros = self.stopwatch.lap_for(Work::Reading, || Some(table[id].address()));
            let calls = (share.calls - unspent.calls) as u64;
            self.costs.busy_us += micros;
            self.stats.reads += calls;
            if let Some(stream) = stream {
                self.charge_reads(stream, calls, micros);
            }
        }
    }

    /// Reads a connection until it is drained or its share is used up. In the latter case it is
    /// read again in the next turn. Returns the unused share.
    fn read(&mut self, id: ConnId, mut share: Budget, buffer: &mut [u8], now: Time) -> Budget {
        loop {
            let conn = &mut self.table[id];
            if conn.is_over() {
                break;
            }
            if conn.is_parked() {
                // A peer that ends its sending direction during the wait has given up.
                if conn.read_closed {
                    self.close(id, CloseReason::PeerClosed, String::new(), now);
                }
                break;
            }
            if conn.peer.is_blocked() {
                // Nobody waits any more for an answer that is held back.
                if conn.read_closed && conn.peer.is_holding() {
                    self.close(id, CloseReason::PeerClosed, String::new(), now);
                }
                break;
            }
            if let Some(mut unread) = conn.take_unread() {
                // These bytes count as received now. Otherwise a deadline could pass while they
                // wait for their share.
                conn.heard = now;
                let rest = &mut unread.bytes[unread.consumed..];
                unread.consumed += self.consume(id, rest, &mut share, now);
                if unread.consumed < unread.bytes.len() {
                    self.keep_unread(id, unread);
                }
            } else if conn.readable && !share.is_spent() {
                self.read_once(id, buffer, &mut share, now);
            }
            let conn = &mut self.table[id];
            let has_unread = conn.has_unread();
            if !has_unread && !conn.readable {
                break;
            }
            if has_unread || share.is_spent() {
                self.table.queue_read_again(id);
                break;
            }
        }
        share
    }

    /// Notes bytes of an incomplete message: a publisher that sends a large message slowly is not
    /// silent.
    fn note_part(&mut self, id: ConnId, bytes: usize, now: Time) {
        let Some(activity) = &self.table[id].activity else { return };
        for publish in activity.publishes() {
            self.hub.note_part(publish.stream, bytes, now);
        }
    }

    /// Reads with one call, and consumes the bytes as far as the share allows. The rest is copied
    /// and kept, since the read buffer is shared by all connections.
    fn read_once(&mut self, id: ConnId, buffer: &mut [u8], share: &mut Budget, now: Time) {
        let conn = &mut self.table[id];
        let room = read_bytes_max(conn).min(buffer.len());
        let buffer = &mut buffer[..room];
        share.spend_call();
        match conn.transport.read(buffer) {
            Ok(Received { bytes: 0, .. }) => {
                conn.readable = false;
                self.close(id, CloseReason::PeerClosed, String::new(), now);
            }
            Ok(Received { bytes: count, is_drained }) => {
                // The event that reported an end may have come before these bytes were read. No
                // other event will report it.
                conn.readable = !is_drained || conn.read_closed;
                conn.heard = now;
                conn.pinged = false;
                conn.bytes_in += count as u64;
                self.stats.bytes_in += count as u64;
                share.spend_bytes(count);
                let input = &mut buffer[..count];
                let consumed = self.consume(id, input, share, now);
                let conn = &mut self.table[id];
                conn.reads_little = consumed < count || !publishes(conn);
                if consumed < count {
                    let bytes = Box::from(&input[consumed..]);
                    self.keep_unread(id, Unread { bytes, consumed: 0 });
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => conn.readable = false,
            Err(error) => {
                conn.readable = false;
                self.close(id, (&error).into(), error.to_string(), now);
            }
        }
    }

    /// Keeps bytes that exceeded the share of a turn. Bytes of a connection that is being closed
    /// are dropped.
    fn keep_unread(&mut self, id: ConnId, unread: Unread) {
        let conn = &mut self.table[id];
        if !conn.is_closing() {
            conn.keep_unread(unread);
        }
    }

    /// Carries out the intents in the bytes, within the share. Returns the number of consumed
    /// bytes. Each message is charged by the work that it causes, since a budget of bytes alone
    /// lets tiny messages fill a turn.
    fn consume(&mut self, id: ConnId, bytes: &mut [u8], share: &mut Budget, now: Time) -> usize {
        let len = bytes.len();
        let mut input = bytes;
        let mut has_event = false;
        let mut chunk_size = u32::MAX;
        while share.messages > 0 && self.keeps_up(id, now) {
            let conn = &mut self.table[id];
            let before = input.len();
            chunk_size = chunk_size.min(conn.peer.chunk_size());
            let intent = match conn.peer.next(&mut input, &self.policies.session) {
                Ok(Some(intent)) => intent,
                Ok(None) => {
                    let waits = conn.peer.is_asking() || conn.peer.is_blocked();
                    debug_assert!(input.is_empty() || waits, "a peer takes all it is given");
                    break;
                }
                Err(error) => {
                    // The bytes after an error cannot be interpreted.
                    input = &mut [];
                    self.close(id, CloseReason::from(&error), error.to_string(), now);
                    break;
                }
            };
            has_event = true;
            let taken = before - input.len();
            let activity = conn.activity.as_deref();
            let recorded = match record_media(intent, activity, &mut self.hub, now, &self.policies)
            {
                Ok(recorded) => recorded,
                Err(wish) => self.carry_out(id, wish, taken, now),
            };
            // The peer holds nothing of a message that lay in the read buffer as a whole, so
            // another call without input would find nothing.
            let is_whole = (1..=taken).contains(&recorded.bytes);
            self.note_recorded(id, &recorded, now);
            share.spend_messages(recorded.cost);
            share.spend_bytes(recorded.bytes.saturating_sub(taken));
            if is_whole && input.is_empty() {
                self.table[id].peer.end_input();
                break;
            }
        }
        let consumed = len - input.len();
        if !has_event {
            self.note_part(id, consumed, now);
        }
        if self.table[id].peer.web().is_some() {
            self.note_request(id, now);
        }
        let conn = &mut self.table[id];
        conn.transport.consumed(consumed);
        let chunk_size = chunk_size.min(conn.peer.chunk_size());
        let chunks = consumed / (chunk_size as usize + 1);
        share.spend_messages(chunks / limits::READ_CHUNKS_PER_MESSAGE);
        // The input may have caused replies.
        if conn.peer.has_pending() {
            self.table.queue_write(id);
        } else if conn.stage <= Stage::Connected && !conn.read_closed {
            // C2 and Set Chunk Size have no reply. The socket of ffmpeg holds a small message back
            // until the last one is acknowledged, so ffmpeg would join three times 40 ms later. A
            // peer that has ended its sending direction holds nothing back.
            conn.transport.acknowledge();
        }
        consumed
    }

    /// Returns whether further input of the connection may be consumed. Replies beyond the bound
    /// close it. They are offered to the transport first, since the peer may have sent all its
    /// requests in one piece and be ready to read.
    pub(super) fn keeps_up(&mut self, id: ConnId, now: Time) -> bool {
        let conn = &self.table[id];
        if conn.is_closing() {
            return false;
        }
        if conn.peer.check_output(&self.policies.session).is_ok() {
            return true;
        }
        self.write_replies(id, now);
        let conn = &self.table[id];
        match conn.peer.check_output(&self.policies.session) {
            _ if conn.is_closing() => false,
            Ok(()) => true,
            Err(error) => {
                self.close(id, CloseReason::from(&error), error.to_string(), now);
                false
            }
        }
    }

    /// Returns the cost of the headers that may have been prepared for a player (in media
    /// messages).
    fn headers_cost(&mut self, id: ConnId, lane: u32) -> usize {
        let Some(play) = self.table[id].play_mut(lane) else { return 0 };
        let headers_bytes = self.hub.channel(play.stream).tape().headers_bytes();
        headers_bytes / limits::READ_PARSED_BYTES_PER_MESSAGE
    }

    /// Carries out a wish in a message of `taken` bytes. Returns what it cost.
    fn carry_out(&mut self, id: ConnId, wish: Wish, taken: usize, now: Time) -> Recorded {
        let mut cost = cost_of(&wish) + taken / limits::READ_PARSED_BYTES_PER_MESSAGE;
        let plays_on = plays_on(&wish);
        // Bytes that were formatted since the last request are not the cost of this one.
        self.table.unmarked(id).peer.take_formatted_bytes();
        self.decide(id, wish, now);
        if let Some(lane) = plays_on {
            cost += self.headers_cost(id, lane);
        }
        // A small request may ask for a list of all connections.
        let bytes = match self.table.unmarked(id).peer.take_formatted_bytes() {
            0 => 0,
            formatted => taken + formatted * limits::RESPONSE_BYTE_COST,
        };
        Recorded { cost, bytes, ..Recorded::NOTHING }
    }

    /// Carries out an intent that needs a policy or touches more than its connection.
    fn decide(&mut self, id: ConnId, wish: Wish, now: Time) {
        match wish {
            Wish::Nothing => {}
            Wish::HandshakeDone { c2_matches } => {
                if c2_matches == Some(false) {
                    self.stats.c2_mismatches += 1;
                    debug!("{}: C2 is not an echo of S1", self.table[id].address());
                }
                self.enter_stage(id, Stage::Connecting, now);
            }
            Wish::Ask(Ask::Connect(request)) => self.connect(id, request, now),
            Wish::Ask(Ask::Publish(request)) => self.publish(id, request, now),
            Wish::Ask(Ask::Play(request)) => self.play(id, request, now),
            // They come as requests for a page, whose path names a stream.
            Wish::Ask(Ask::View(_) | Ask::Playlist(_)) => {}
            Wish::NameRefused { error, asked } => self.refuse_name(id, error, &asked, now),
            Wish::Leave { lane } => {
                self.unpublish(Endpoint { conn: id, lane }, now);
                self.stop_playing(Endpoint { conn: id, lane });
                self.settle_stage(id, now);
            }
            Wish::Tune { lane, tune } => self.tune(id, lane, tune),
            Wish::LetIn => self.relay_let_in(id, now),
            Wish::TakesStream => self.relay_begins(id, now),
            Wish::RefusedThere { detail } => self.relay_refused(id, detail, now),
            Wish::Page(request) => self.serve(id, &request, now),
            Wish::Malformed(error) => self.refuse_request(id, &error, now),
            Wish::WebSocketClosed(error) => self.websocket_closed(id, error, now),
        }
    }

    fn connect(&mut self, id: ConnId, request: ConnectRequest, now: Time) {
        self.set_encoder(id, request.flash_ver());
        let conn = &mut self.table[id];
        let access = &self.policies.access;
        debug!("{} connects to {}", conn.address(), access.shown_path(request.app().path()));
        match access.connect(&request, now) {
            // The login has no effect before the connect is accepted.
            Ok(logged_in) => conn.set_logged_in(logged_in),
            Err(refused) => return self.refuse_connect(id, &request, refused, now),
        }
        let peer = conn.address();
        let judges = Judges { access, outside: &mut self.outside };
        match judges.connect(id, peer, request.app().path()) {
            Verdict::Granted { .. } => self.accept_connect(id, request, now),
            Verdict::Refused(refused) => self.refuse_connect(id, &request, refused, now),
            Verdict::Later(ticket) => self.park(id, ticket, Ask::Connect(request), now),
        }
    }

    pub(super) fn accept_connect(&mut self, id: ConnId, request: ConnectRequest, now: Time) {
        let conn = &mut self.table[id];
        conn.peer.accept_connect(request, &self.policies.session);
        self.enter_stage(id, Stage::Connected, now);
        self.arm_ping(id, now);
    }

    pub(super) fn refuse_connect(
        &mut self,
        id: ConnId,
        request: &ConnectRequest,
        refused: Refused,
        now: Time,
    ) {
        self.table[id].peer.reject_connect(request, &refused.description);
        let path = self.policies.access.shown_path(request.app().path());
        let asked = format!("connect to {path}");
        self.refuse(id, &asked, refused.reason, refused.detail, now);
    }

    /// Refuses a request with an invalid name. The log names only the application, since an invalid
    /// stream name may contain a secret.
    fn refuse_name(&mut self, id: ConnId, error: NameError, asked: &Asked, now: Time) {
        let app = match asked {
            Asked::Connect { app, flash_ver } => {
                self.set_encoder(id, flash_ver);
                String::from_utf8_lossy(app)
            }
            Asked::Publish | Asked::Play => {
                self.table[id].peer.app().map_or("", AppName::path).into()
            }
        };
        let app = self.policies.access.shown_path(&app);
        let asked = match asked {
            Asked::Connect { .. } => format!("connect to {app}"),
            Asked::Publish => format!("publish in {app}"),
            Asked::Play => format!("play in {app}"),
        };
        self.refuse(id, &asked, CloseReason::BadName, error.to_string(), now);
    }

    fn tune(&mut self, id: ConnId, lane: u32, tune: Tune) {
        if let Some(play) = self.table[id].play_mut(lane) {
            let tape = self.hub.channel(play.stream).tape();
            match tune {
                Tune::Pause(paused) => play.pause(paused, tape),
                Tune::Receive(Receive::Audio, on) => play.receive_audio(on, tape),
                Tune::Receive(Receive::Video, on) => play.receive_video(on, tape),
            }
        }
        self.table.queue_write(id);
    }
}

/// Outcome of recording media.
pub(super) struct Recorded {
    /// Cost in media messages.
    cost: usize,
    /// Bytes of the whole message. The turn that completes a message copies all of it to the tape,
    /// even if most of it came in earlier turns. For a request, those of its response are added.
    bytes: usize,
    /// Messages that cannot be parsed.
    pub(super) malformed: usize,
    /// Data messages without usable data.
    pub(super) unusable: usize,
    /// An observation about the encoder of the stream.
    pub(super) note: Option<(StreamId, Note)>,
}

impl Recorded {
    const NOTHING: Self = Self { cost: 1, bytes: 0, malformed: 0, unusable: 0, note: None };
}

/// Records the media of an intent. Returns any other intent.
fn record_media(
    intent: Intent<'_>,
    activity: Option<&Activity>,
    hub: &mut Hub,
    now: Time,
    policies: &Policies,
) -> Result<Recorded, Wish> {
    let published = |lane| activity?.published(lane);
    Ok(match intent {
        Intent::Frame { lane, frame } => match published(lane) {
            Some(stream) => record(hub, stream, &frame, now, policies),
            None => Recorded::NOTHING,
        },
        Intent::Parts(parts) => match published(parts.message_stream_id()) {
            Some(stream) => record_parts(hub, stream, parts, now, policies),
            None => Recorded::NOTHING,
        },
        Intent::Wish(wish) => return Err(wish),
    })
}

/// Records a frame on the tape of its stream.
fn record(
    hub: &mut Hub,
    stream: StreamId,
    frame: &MediaFrame<'_>,
    now: Time,
    policies: &Policies,
) -> Recorded {
    let recorded = match hub.record(stream, frame, now, &policies.tape) {
        Outcome::Taken => Recorded::NOTHING,
        Outcome::Parsed => Recorded { cost: parsed_cost(frame), ..Recorded::NOTHING },
        Outcome::Malformed => {
            Recorded { cost: parsed_cost(frame), malformed: 1, ..Recorded::NOTHING }
        }
        Outcome::Unusable => {
            Recorded { cost: parsed_cost(frame), unusable: 1, ..Recorded::NOTHING }
        }
        // Such a message is a header that was compared, or it caused more work than a frame.
        Outcome::Noted(note) => {
            Recorded { cost: parsed_cost(frame), note: Some((stream, note)), ..Recorded::NOTHING }
        }
    };
    Recorded { bytes: frame.payload.len(), ..recorded }
}

fn parsed_cost(frame: &MediaFrame<'_>) -> usize {
    let parsed = frame.payload.len() / limits::READ_PARSED_BYTES_PER_MESSAGE;
    limits::READ_COMMAND_MESSAGES + parsed
}

/// Records the messages of an aggregate. A turn cannot end within a message, so the number of parts
/// is bounded. Further parts count as malformed; encoders send fewer.
fn record_parts(
    hub: &mut Hub,
    stream: StreamId,
    mut parts: AggregateParts<'_>,
    now: Time,
    policies: &Policies,
) -> Recorded {
    let mut all = Recorded::NOTHING;
    // Media stays below this bound. Parts that have to be parsed may cost more than a turn has.
    while all.cost < 2 * limits::READ_MESSAGES_PER_TURN_MAX
        && let Some(message) = parts.next()
    {
        let one = record(hub, stream, &message.into(), now, policies);
        all.cost += one.cost;
        all.bytes += one.bytes;
        all.malformed += one.malformed;
        all.unusable += one.unusable;
        all.note = one.note.or(all.note);
    }
    let has_more = parts.next().is_some();
    all.malformed += usize::from(has_more || parts.malformed());
    all.cost += parts.passed_over();
    all
}

/// Returns the lane whose player may need headers after a wish.
const fn plays_on(wish: &Wish) -> Option<u32> {
    match wish {
        Wish::Ask(Ask::Play(request)) => Some(request.message_stream_id()),
        Wish::Tune { lane, .. } => Some(*lane),
        _ => None,
    }
}

/// Returns the cost of a wish in media messages, without the length of its message.
const fn cost_of(wish: &Wish) -> usize {
    match wish {
        Wish::HandshakeDone { .. } => limits::READ_HANDSHAKE_MESSAGES,
        _ => limits::READ_COMMAND_MESSAGES,
    }
}

/// Returns the bytes to request with one read. A publisher's messages are assembled in the read
/// buffer, so a large read saves copies. For other connections, much of a large read would have to
/// be kept.
fn read_bytes_max<T>(conn: &Conn<T>) -> usize {
    let chunk_size = conn.peer.chunk_size();
    if !conn.reads_little && chunk_size >= limits::CHUNK_BYTES_TINY {
        limits::READ_BUFFER_BYTES
    } else {
        limits::READ_BYTES_SMALL_MAX
    }
}

fn publishes<T>(conn: &Conn<T>) -> bool {
    conn.activity.as_ref().is_some_and(|activity| !activity.publishes().is_empty())
}
