//! Reading: bytes of one connection into events, and events to where they are decided.

use super::hub::{Endpoint, Outcome};
use super::reason::CloseReason;
use super::stages::Stage;
use super::transport::Transport;
use super::{ConnId, Server};
use crate::limits;
use crate::rtmp::command::code;
use crate::rtmp::name::{AppName, NameError};
use crate::rtmp::quirks::Quirk;
use crate::rtmp::session::{Asked, ConnectRequest, Event, Receive, Step};
use crate::time::Time;
use log::debug;
use std::io::ErrorKind;

impl<T: Transport> Server<T> {
    /// Reads a connection until it has no more, or the budget of the turn is used up; then it
    /// is read again in the next one. Returns what that cost, in bytes as they count.
    pub(super) fn read(&mut self, id: ConnId, buffer: &mut [u8], now: Time) -> usize {
        let mut spent = 0;
        while self.conns[id.index()].readable {
            if spent >= limits::READ_BYTES_PER_TURN_MAX {
                self.queue_read(id);
                break;
            }
            let conn = &mut self.conns[id.index()];
            if conn.closing.as_ref().is_some_and(|closing| !closing.farewell) {
                break;
            }
            match conn.transport.read(buffer) {
                Ok(0) => {
                    conn.readable = false;
                    self.close(id, CloseReason::PeerClosed, String::new(), now);
                }
                Ok(count) => {
                    // A short read has emptied the socket; only an end would go unnoticed.
                    conn.readable = count == buffer.len() || conn.read_closed;
                    conn.heard = now;
                    conn.pinged = false;
                    conn.bytes_in += count as u64;
                    self.stats.bytes_in += count as u64;
                    let messages = match conn.is_closing() {
                        true => 0,
                        false => self.consume(id, &mut buffer[..count], now),
                    };
                    if messages == 0 {
                        self.note_part(id, count, now);
                    }
                    spent += count.max(messages * limits::READ_MESSAGE_BYTES);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => conn.readable = false,
                Err(error) => {
                    conn.readable = false;
                    self.close(id, (&error).into(), error.to_string(), now);
                }
            }
        }
        spent
    }

    /// A publisher that sends a large message slowly is not silent.
    fn note_part(&mut self, id: ConnId, bytes: usize, now: Time) {
        let Some(activity) = &self.conns[id.index()].activity else { return };
        for publish in activity.publishes() {
            self.hub.note_part(publish.stream, bytes, now);
        }
    }

    /// Does what the bytes say, and returns how many messages that were.
    fn consume(&mut self, id: ConnId, mut input: &mut [u8], now: Time) -> usize {
        let mut messages = 0;
        while self.keeps_up(id, now) {
            let conn = &mut self.conns[id.index()];
            let event = match conn.session.next_event(&mut input, &self.policies.session) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.close(id, CloseReason::from(&error), error.to_string(), now);
                    break;
                }
            };
            messages += 1;
            let published = |id| conn.activity.as_ref().and_then(|a| a.published(id));
            match event {
                Event::Media(message) => {
                    if let Some(stream) = published(message.header.message_stream_id) {
                        let outcome = self.hub.record(stream, &message, now, &self.policies.tape);
                        self.count_malformed(id, usize::from(outcome == Outcome::Malformed));
                    }
                }
                Event::Aggregate(mut parts) => {
                    let Some(stream) = published(parts.message_stream_id()) else { continue };
                    let mut malformed = 0;
                    for message in parts.by_ref() {
                        let outcome = self.hub.record(stream, &message, now, &self.policies.tape);
                        malformed += usize::from(outcome == Outcome::Malformed);
                    }
                    malformed += usize::from(parts.malformed());
                    self.count_malformed(id, malformed);
                }
                Event::Step(step) => self.decide(id, step, now),
            }
        }
        // Replies, and what else the input made wait.
        let conn = &mut self.conns[id.index()];
        if !conn.session.output().is_empty() {
            self.queue_write(id);
        } else if conn.stage <= Stage::Connected && !conn.read_closed {
            // C2 and Set Chunk Size have no reply. ffmpeg, whose socket holds a small message
            // back until the last one is acknowledged, would join three times 40 ms later. Who
            // has ended its sending direction holds nothing back.
            conn.transport.acknowledge();
        }
        self.account(id);
        messages
    }

    /// Whether a connection is read on. Replies beyond the bound end it, but not before it was
    /// given them: what asks for them may have come in one piece.
    pub(super) fn keeps_up(&mut self, id: ConnId, now: Time) -> bool {
        let conn = &self.conns[id.index()];
        if conn.is_closing() {
            return false;
        }
        if conn.session.check_output(&self.policies.session).is_ok() {
            return true;
        }
        self.flush_replies(id, now);
        let conn = &self.conns[id.index()];
        match conn.session.check_output(&self.policies.session) {
            _ if conn.is_closing() => false,
            Ok(()) => true,
            Err(error) => {
                self.close(id, CloseReason::from(&error), error.to_string(), now);
                false
            }
        }
    }

    fn flush_replies(&mut self, id: ConnId, now: Time) {
        let conn = &mut self.conns[id.index()];
        if !conn.writable {
            return;
        }
        let before = conn.bytes_out;
        let flushed = conn.flush_replies(&self.hub);
        let written = conn.bytes_out - before;
        self.stats.bytes_out += written;
        self.settle_write(id, flushed, written > 0, now);
        self.account(id);
    }

    /// Media that was dropped because nothing can be made of it.
    fn count_malformed(&mut self, id: ConnId, messages: usize) {
        self.stats.messages_dropped += messages as u64;
        for _ in 0..messages {
            self.conns[id.index()].session.tolerate(Quirk::MalformedMedia);
        }
    }

    /// What needs more than one connection, or a policy.
    fn decide(&mut self, id: ConnId, step: Step, now: Time) {
        match step {
            Step::Handled => {}
            Step::HandshakeDone { c2_matches } => {
                if c2_matches == Some(false) {
                    self.stats.c2_mismatches += 1;
                    debug!("{}: C2 is not an echo of S1", self.conns[id.index()].peer());
                }
                self.set_stage(id, Stage::Connecting, now);
            }
            Step::Connect(request) => self.connect(id, request, now),
            Step::Publish(request) => self.publish(id, &request, now),
            Step::Play(request) => self.play(id, &request, now),
            Step::NameRefused { error, asked } => self.refuse_name(id, error, &asked, now),
            Step::Unpublish { message_stream_id } => {
                self.unpublish(Endpoint { conn: id, message_stream_id }, now);
                self.settle_stage(id, now);
            }
            Step::Stop { message_stream_id } => {
                self.stop_playing(Endpoint { conn: id, message_stream_id });
                self.settle_stage(id, now);
            }
            Step::Pause { message_stream_id, paused } => {
                let chunk_size = self.policies.tape.chunk_size;
                if let Some(play) = self.conns[id.index()].play_mut(message_stream_id) {
                    play.pause(paused, self.hub.stream(play.stream).tape(), chunk_size);
                }
                self.queue_write(id);
            }
            Step::Receive { message_stream_id, media, on } => {
                self.receive(id, message_stream_id, media, on);
            }
        }
    }

    fn connect(&mut self, id: ConnId, request: ConnectRequest, now: Time) {
        self.set_encoder(id, request.flash_ver());
        let conn = &mut self.conns[id.index()];
        let access = &self.policies.access;
        debug!("{} connects to {}", conn.peer(), access.shown_path(request.app().path()));
        match access.connect(&request, now) {
            Ok(logged_in) => {
                conn.logged_in = logged_in.map(Box::new);
                conn.session.accept_connect(request, &self.policies.session);
                self.set_stage(id, Stage::Connected, now);
                self.arm_ping(id, now);
            }
            Err(refused) => {
                let code = code::CONNECT_REJECTED;
                conn.session.reject_connect(&request, code, &refused.description);
                let asked = format!("connect to {}", access.shown_path(request.app().path()));
                self.refuse(id, &asked, refused.reason, refused.detail, now);
            }
        }
    }

    /// The name itself may be anything, so the line has the application at most.
    fn refuse_name(&mut self, id: ConnId, error: NameError, asked: &Asked, now: Time) {
        if let Asked::Connect { flash_ver } = asked {
            self.set_encoder(id, flash_ver);
        }
        let app = self.conns[id.index()].session.app().map_or("", AppName::path);
        let app = self.policies.access.shown_path(app);
        let asked = match asked {
            Asked::Connect { .. } => "connect".to_owned(),
            Asked::Publish => format!("publish in {app}"),
            Asked::Play => format!("play in {app}"),
        };
        self.refuse(id, &asked, CloseReason::BadName, error.to_string(), now);
    }

    fn receive(&mut self, id: ConnId, message_stream_id: u32, media: Receive, on: bool) {
        let chunk_size = self.policies.tape.chunk_size;
        if let Some(play) = self.conns[id.index()].play_mut(message_stream_id) {
            match media {
                Receive::Audio => play.receive_audio(on),
                Receive::Video => {
                    let tape = self.hub.stream(play.stream).tape();
                    play.receive_video(on, tape, chunk_size);
                }
            }
        }
        self.queue_write(id);
    }
}
