//! Players of HLS: requests for playlists, segments and partial segments.
//!
//! ```text
//!            the answer exists                     the answer exists now
//! request ─────────────────────▶ answered ◀───────────────── held
//!    │ the playlist or the part comes next                     ▲ │ not in time: 503
//!    └─────────────────────────────────────────────────────────┘ │ the stream is another: 404
//! ```
//!
//! The first request for a playlist begins the part log of the stream. The log ends when nobody has
//! asked for it for half a minute, and two minutes after the end of its stream. A player of HLS
//! holds no connection to the stream, so the viewers of a stream are the connections with a request
//! in the last seconds. A connection is a viewer of the stream that it has asked for last.
//!
//! Held requests are answered within the budget of a turn ([`Budget::HELD_ANSWERS`]). The playlist
//! that many of them wait for is written once.
//!
//! Requests for playlists are judged as plays are. The names of segments are not: they contain the
//! incarnation of the log, which nobody can guess who was not given a playlist.

use super::Answer;
use super::guard::may_be_read_by;
use super::hls_streams::PlaylistKey;
use super::viewing::known_tracks;
use crate::budget::Budget;
use crate::http::requests::{HttpRequest, Method};
use crate::http::response::{HttpStatus, ResponseBody};
use crate::limits;
use crate::rtmp::name::StreamTarget;
use crate::rtmp::session::Receives;
use crate::server::Server;
use crate::server::hub::Channel;
use crate::server::judge::{Ask, Judges, Refused, Verdict};
use crate::server::lines::Topic;
use crate::server::memory::MemoryLevel;
use crate::server::timers::TimerKind;
use crate::server::transport::Transport;
use crate::stream::framing::Watching;
use crate::stream::ids::{ConnId, Incarnation, StreamId};
use crate::stream::parts::{PartLog, RenditionKind};
use crate::stream::playlist::{self, Links, SegmentContent, SegmentFile};
use crate::time::Time;
use bytes::Bytes;
use log::{Level, log};
use std::rc::Rc;

const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
const MP4_TYPE: &str = "video/mp4";
const SOUND_TYPE: &str = "audio/mp4";
/// Longest wait of a request (ms). Players give up after ten seconds.
const HELD_MS_MAX: u64 = 9_000;
/// Longest wait, in target durations (RFC 8216bis, section 6.2.5.2).
const HELD_TARGETS_MAX: u64 = 3;
/// How often a request looks whether the tracks of a new stream are known (ms).
const LOOK_EVERY_MS: u64 = 100;
/// Media sequence numbers beyond the next segment that may be waited for (RFC 8216bis, section
/// 6.2.5.2).
const AHEAD_MAX: u64 = 1;

/// A playlist of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HlsPlaylist {
    /// The multivariant playlist, and the path from it to the place of the stream.
    Multivariant(String),
    /// The playlist of a rendition.
    Media(RenditionKind),
}

/// The conditions of a request for a playlist (RFC 8216bis, section 6.2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Directives {
    msn: Option<u64>,
    part: Option<usize>,
    skips: bool,
}

/// A request for a playlist.
#[derive(Debug)]
pub(in crate::server) struct PlaylistRequest {
    target: StreamTarget,
    playlist: HlsPlaylist,
    directives: Directives,
    /// The query for the references in the playlist.
    query: String,
    is_public: bool,
}

impl PlaylistRequest {
    /// Returns the memory that it holds, including itself (bytes).
    pub(in crate::server) fn held_bytes(&self) -> usize {
        let prefix = match &self.playlist {
            HlsPlaylist::Multivariant(prefix) => prefix.capacity(),
            HlsPlaylist::Media(_) => 0,
        };
        size_of::<Self>() + self.target.held_bytes() + self.query.capacity() + prefix
    }
}

/// A request whose answer comes next.
#[derive(Debug)]
pub(super) struct HeldRequest {
    stream: StreamId,
    /// Number of the stream among all streams, since its id is used again.
    serial: u64,
    /// The log that it waits for; `None` if the stream had none.
    incarnation: Option<Incarnation>,
    asked: HlsAsked,
    until: Time,
}

#[derive(Debug)]
enum HlsAsked {
    Playlist(Box<PlaylistRequest>),
    Part { incarnation: Incarnation, file: SegmentFile, is_public: bool },
}

impl HlsAsked {
    /// Returns whether any page may read the answer.
    const fn is_public(&self) -> bool {
        match self {
            Self::Playlist(request) => request.is_public,
            Self::Part { is_public, .. } => *is_public,
        }
    }
}

impl HeldRequest {
    /// Returns the memory that it holds, including itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        let of_asked = match &self.asked {
            HlsAsked::Playlist(request) => request.held_bytes(),
            HlsAsked::Part { .. } => 0,
        };
        size_of::<Self>() + of_asked
    }
}

/// What a request gets now.
enum HlsReply {
    Answer(Answer),
    /// The answer comes next; at most this long is waited for it (ms).
    Hold(u64),
}

impl<T: Transport> Server<T> {
    /// Returns the players of a stream by framing, and those over HLS.
    pub(super) fn watching<'c>(
        &self,
        id: StreamId,
        channel: &'c Channel,
        now: Time,
    ) -> (&'c Watching, usize) {
        (channel.watching(), self.hls.viewers(id, channel, now))
    }

    /// Sets the time of day at [`Time::ZERO`] (ms since 1970), which playlists show.
    pub const fn set_unix_ms(&mut self, unix_ms: u64) {
        self.unix_ms = unix_ms;
    }

    /// Answers a request for a playlist.
    pub(super) fn serve_playlist(
        &mut self,
        id: ConnId,
        request: &HttpRequest,
        target: StreamTarget,
        playlist: HlsPlaylist,
        now: Time,
    ) {
        let is_public = match self.readable_by_page(id, request) {
            Ok(is_public) => is_public,
            Err(answer) => return self.answer(id, request, answer),
        };
        if request.method() != Method::Get {
            let answer = self.probe_stream(request.method(), &target, PLAYLIST_TYPE, is_public);
            return self.answer(id, request, answer);
        }
        let directives = match Directives::of(request) {
            Ok(directives) => directives,
            Err(detail) => {
                let answer = Answer::problem(HttpStatus::BadRequest, "bad_directive", detail);
                return self.answer(id, request, Answer { is_public, ..answer });
            }
        };
        let query = child_query(request.query());
        let request = Box::new(PlaylistRequest { target, playlist, directives, query, is_public });
        let peer = self.table[id].address();
        let judges = Judges { access: &self.policies.access, outside: &mut self.outside };
        match judges.play(id, peer, &request.target.name) {
            Verdict::Granted { name } => self.accept_playlist(id, request, &name, now),
            Verdict::Refused(refused) => {
                self.refuse_playlist(id, &request, HttpStatus::Forbidden, refused, now);
            }
            Verdict::Later(ticket) => self.park(id, ticket, Ask::Playlist(request), now),
        }
    }

    /// Answers a granted request for a playlist.
    pub(in crate::server) fn accept_playlist(
        &mut self,
        id: ConnId,
        request: Box<PlaylistRequest>,
        name: &Rc<str>,
        now: Time,
    ) {
        let is_public = request.is_public;
        let Some(stream) = self.hub.id_of(name) else {
            let description = format!("{} is not published", self.policies.access.shown(name));
            let answer = Answer::problem(HttpStatus::NotFound, "not_published", &description);
            return self.respond(id, Method::Get, Answer { is_public, ..answer });
        };
        self.settle_request(id, stream, HlsAsked::Playlist(request), now);
    }

    /// Refuses a request for a playlist.
    pub(in crate::server) fn refuse_playlist(
        &mut self,
        id: ConnId,
        request: &PlaylistRequest,
        status: HttpStatus,
        refused: Refused,
        now: Time,
    ) {
        let Refused { reason, detail, description } = refused;
        let asked = format!("play of {}", self.policies.access.shown(&request.target.name));
        let problem = Answer::problem(status, reason.as_str(), &description);
        let answer = Answer { is_public: request.is_public, ..problem };
        if let Some(client) = self.table[id].peer.web_mut() {
            client.exchange.end_after_response();
            client.exchange.respond(&answer.head(), answer.body);
        }
        self.refuse(id, &asked, reason, detail, now);
    }

    /// Answers a request for a segment, for a part of one, or for an initialization section.
    pub(super) fn serve_segment(
        &mut self,
        id: ConnId,
        request: &HttpRequest,
        target: &StreamTarget,
        incarnation: Incarnation,
        file: SegmentFile,
        now: Time,
    ) {
        let is_public = match self.readable_by_page(id, request) {
            Ok(is_public) => is_public,
            Err(answer) => return self.answer(id, request, answer),
        };
        if request.method() == Method::Options {
            let answer = Answer::new(HttpStatus::NoContent, "", "");
            return self.answer(id, request, Answer { is_public, ..answer });
        }
        let name = self.policies.access.play(&target.name);
        let asked = HlsAsked::Part { incarnation, file, is_public };
        match self.hub.id_of(&name) {
            Some(stream) if request.method() == Method::Get => {
                self.settle_request(id, stream, asked, now);
            }
            found => {
                let log = found.and_then(|stream| self.hub.channel(stream).parts());
                let answer = match log.map(|log| file_reply(log, incarnation, file)) {
                    Some(HlsReply::Answer(answer)) => answer,
                    _ => no_such_segment(),
                };
                self.answer(id, request, Answer { is_public, ..answer });
            }
        }
    }

    /// Returns whether any page may read the answer, or the refusal for pages of this origin.
    pub(super) fn readable_by_page(
        &self,
        id: ConnId,
        request: &HttpRequest,
    ) -> Result<bool, Answer> {
        let is_public = self.table[id].peer.web().is_some_and(|client| {
            may_be_read_by(request, client.surface, &self.settings.http.hosts)
        });
        if !is_public && request.header("origin").is_some() {
            let detail = "pages of this origin may not read streams: add its host to http.hosts";
            return Err(Answer::problem(HttpStatus::Forbidden, "cross_origin", detail));
        }
        Ok(is_public)
    }

    /// Answers a request, or holds it until its answer exists.
    fn settle_request(&mut self, id: ConnId, stream: StreamId, asked: HlsAsked, now: Time) {
        match self.reply(id, stream, &asked, now) {
            HlsReply::Answer(answer) => self.respond(id, Method::Get, answer),
            HlsReply::Hold(hold_ms) => {
                let channel = self.hub.channel(stream);
                let incarnation = channel.parts().map(PartLog::incarnation);
                let until = now.plus_millis(hold_ms.min(HELD_MS_MAX));
                let serial = channel.serial();
                self.hold(id, HeldRequest { stream, serial, incarnation, asked, until }, now);
            }
        }
    }

    fn hold(&mut self, id: ConnId, held: HeldRequest, now: Time) {
        // No event reports that the tracks of a stream are known, so it is looked for.
        let look_at = match held.incarnation {
            Some(_) => held.until,
            None => now.plus_millis(LOOK_EVERY_MS).min(held.until),
        };
        let Some(client) = self.table[id].peer.web_mut() else { return };
        client.exchange.hold();
        self.hls.waiting.hold(held.serial, id);
        client.held = Some(Box::new(held));
        self.table.arm(id, TimerKind::Stage, look_at);
    }

    /// Notes that the deadline of a held request has passed.
    pub(in crate::server) fn note_due(&mut self, id: ConnId) {
        let client = self.table[id].peer.web();
        if let Some(held) = client.and_then(|client| client.held.as_ref()) {
            self.hls.waiting.note_due(held.serial, id);
        }
    }

    /// Looks again at a held request, whose deadline has passed or whose stream has news.
    fn look_again(&mut self, id: ConnId, budget: &mut Budget, now: Time) {
        budget.spend_call();
        let Some(held) = self.forget_held(id).filter(|_| !self.table[id].is_closing()) else {
            return;
        };
        // The id may belong to another stream by now, and the stream may have another log.
        let is_same = self.hub.get(held.stream).is_some_and(|channel| {
            let incarnation = channel.parts().map(PartLog::incarnation);
            channel.serial() == held.serial
                && (held.incarnation.is_none() || incarnation == held.incarnation)
        });
        self.table.unmarked(id).peer.take_formatted_bytes();
        let reply = match is_same {
            true => self.reply(id, held.stream, &held.asked, now),
            false => HlsReply::Answer(no_such_segment()),
        };
        let answer = match reply {
            HlsReply::Answer(answer) => answer,
            HlsReply::Hold(_) if now < held.until => {
                let channel = self.hub.channel(held.stream);
                let incarnation = channel.parts().map(PartLog::incarnation);
                return self.hold(id, HeldRequest { incarnation, ..*held }, now);
            }
            HlsReply::Hold(_) => {
                let detail = "the next part of the stream has not come in time";
                Answer::problem(HttpStatus::ServiceUnavailable, "not_in_time", detail)
            }
        };
        self.arm_stage(id, now);
        self.respond(id, Method::Get, Answer { is_public: held.asked.is_public(), ..answer });
        budget.spend_messages(1);
        budget.spend_bytes(self.table.unmarked(id).peer.take_formatted_bytes());
    }

    /// Takes the held request of a connection.
    pub(super) fn forget_held(&mut self, id: ConnId) -> Option<Box<HeldRequest>> {
        let held = self.table[id].peer.web_mut()?.held.take()?;
        self.hls.waiting.remove(held.serial, id);
        Some(held)
    }

    /// Makes parts of new messages, and answers the requests that wait for them.
    pub(in crate::server) fn make_parts(&mut self, now: Time) {
        let (hub, waiting) = (&mut self.hub, &mut self.hls.waiting);
        let mut completed = Vec::new();
        hub.make_parts(&mut { Budget::PARTS }, |stream| completed.push(stream));
        completed.into_iter().for_each(|stream| waiting.note_news(hub.channel(stream).serial()));
        if now >= self.hls.due() {
            self.end_unwatched(now);
        }
        let mut budget = Budget::HELD_ANSWERS;
        while !budget.is_spent() {
            let Some(id) = self.hls.waiting.next() else { return };
            self.look_again(id, &mut budget, now);
        }
    }

    /// Notes that a stream is over: the requests that wait for it are answered, and its log ends in
    /// a while.
    pub(in crate::server) fn note_over(&mut self, stream: StreamId, now: Time) {
        let channel = self.hub.channel(stream);
        self.hls.waiting.note_news(channel.serial());
        if let Some(log) = channel.parts() {
            self.hls.note_over(stream, log.incarnation(), now);
        }
    }

    fn end_unwatched(&mut self, now: Time) {
        for (stream, incarnation) in self.hls.take_unwatched(now) {
            self.end_log(stream, incarnation);
        }
    }

    fn end_log(&mut self, stream: StreamId, incarnation: Incarnation) {
        let channel = self.hub.get(stream);
        let log = channel.and_then(Channel::parts).map(PartLog::incarnation);
        if let Some(channel) = channel.filter(|_| log == Some(incarnation)) {
            self.hls.waiting.note_news(channel.serial());
            self.hub.end_parts(stream);
        }
    }

    /// Drops the logs of all streams, because memory is short. Requests that wait for them get 404,
    /// and requests for playlists get 503 until there is memory again.
    pub(in crate::server) fn drop_part_logs(&mut self) {
        for (stream, incarnation) in self.hls.take_all() {
            self.end_log(stream, incarnation);
        }
    }

    /// Forgets a connection that is being removed.
    pub(in crate::server) fn stop_watching(&mut self, id: ConnId) {
        self.forget_held(id);
        let watches = self.table[id].peer.web_mut().and_then(|client| client.watches.take());
        if let Some(stream) = watches {
            self.hls.forget_viewer(stream, id);
        }
    }

    /// Returns what a request gets now. Begins the log of the stream if a playlist needs it.
    fn reply(&mut self, id: ConnId, stream: StreamId, asked: &HlsAsked, now: Time) -> HlsReply {
        let reply = match asked {
            HlsAsked::Part { incarnation, file, .. } => {
                let log = self.hub.channel(stream).parts();
                log.map_or_else(
                    || HlsReply::Answer(no_such_segment()),
                    |log| file_reply(log, *incarnation, *file),
                )
            }
            HlsAsked::Playlist(request) => match self.begin_log(id, stream, now) {
                Some(reply) => reply,
                None => self.playlist_reply(stream, request, now),
            },
        };
        self.note_viewer(id, stream, now);
        match reply {
            HlsReply::Answer(answer) => {
                HlsReply::Answer(Answer { is_public: asked.is_public(), ..answer })
            }
            hold @ HlsReply::Hold(_) => hold,
        }
    }

    /// Notes that a connection has asked for a stream, if the stream has a log. It watches no other
    /// stream from then on.
    fn note_viewer(&mut self, id: ConnId, stream: StreamId, now: Time) {
        let Some(log) = self.hub.channel(stream).parts() else { return };
        let Some(client) = self.table[id].peer.web_mut() else { return };
        let before = client.watches.replace(stream);
        if let Some(before) = before.filter(|before| *before != stream) {
            self.hls.forget_viewer(before, id);
        }
        self.hls.note_request(stream, log, id, now);
    }

    /// Begins the log of a stream that has none. Returns the reply if there is none afterwards.
    fn begin_log(&mut self, id: ConnId, stream: StreamId, now: Time) -> Option<HlsReply> {
        let channel = self.hub.channel(stream);
        if channel.parts().is_some() {
            return None;
        }
        let problem =
            |status, code, detail| Some(HlsReply::Answer(Answer::problem(status, code, detail)));
        if self.memory.level >= MemoryLevel::Tight {
            let detail = "the server has no memory for segments";
            return problem(HttpStatus::ServiceUnavailable, "memory_pressure", detail);
        }
        if !channel.is_live() {
            let detail = "the stream is not published";
            return problem(HttpStatus::NotFound, "not_published", detail);
        }
        if known_tracks(channel, Receives::ALL, true, now).is_none() {
            return Some(HlsReply::Hold(HELD_MS_MAX));
        }
        let number = channel.serial() ^ now.as_micros().rotate_left(32);
        let incarnation = Incarnation(self.policies.access.run_name(number));
        let unix_ms = self.unix_ms + now.as_micros() / 1000;
        let name = Rc::clone(channel.name());
        if !self.hub.begin_parts(stream, incarnation, unix_ms, now) {
            let detail = "MP4 carries no codec of this stream: play it as FLV";
            return problem(HttpStatus::NotAcceptable, "not_carried", detail);
        }
        let level = self.level(Topic::Stream, Level::Info, now);
        let address = self.table[id].address();
        let name = self.policies.access.shown(&name);
        log!(level, "{address} watches {name} over HLS, so its segments are kept from now on");
        // What is on the tape is in the log before the first playlist shows it.
        let mut budget = Budget::PARTS;
        self.hub.follow_parts(stream, &mut budget);
        // It was copied, which costs less than to be formatted.
        let copied = Budget::PARTS.bytes - budget.bytes;
        if let Some(client) = self.table[id].peer.web_mut() {
            client.exchange.note_formatted(copied / limits::RESPONSE_BYTE_COST);
        }
        None
    }

    fn playlist_reply(
        &mut self,
        stream: StreamId,
        request: &PlaylistRequest,
        now: Time,
    ) -> HlsReply {
        let channel = self.hub.channel(stream);
        let Some(log) = channel.parts() else { return HlsReply::Answer(no_such_segment()) };
        let query = &request.query;
        let kind = match &request.playlist {
            HlsPlaylist::Multivariant(prefix) => {
                let report = channel.report(now).unwrap_or_default();
                let text = playlist::multivariant(log, &report, Links { prefix, query });
                return HlsReply::Answer(playlist_answer(text));
            }
            HlsPlaylist::Media(kind) => *kind,
        };
        if let Some(reply) = wait_for(log, kind, request.directives) {
            return reply;
        }
        let skips = request.directives.skips;
        let key = PlaylistKey { incarnation: log.incarnation(), kind, skips, query: query.clone() };
        let links = Links { prefix: "", query };
        let write = || playlist::media(log, kind, skips, links);
        let written = self.hls.playlist(key, log.edition(), write);
        HlsReply::Answer(written.map_or_else(no_such_segment, |(text, formatted_bytes)| Answer {
            is_shared: true,
            formatted_bytes,
            ..playlist_answer(text)
        }))
    }
}

fn playlist_answer(text: impl Into<Bytes>) -> Answer {
    Answer { caching: "no-cache", ..Answer::new(HttpStatus::Ok, PLAYLIST_TYPE, text) }
}

/// Returns the reply to a request for a playlist that does not exist yet, or never will.
fn wait_for(log: &PartLog, kind: RenditionKind, directives: Directives) -> Option<HlsReply> {
    let Some(rendition) = log.rendition(kind) else {
        return Some(HlsReply::Answer(no_such_segment()));
    };
    let (next_msn, parts) = rendition.next();
    let Directives { msn, part, .. } = directives;
    let has_segment = rendition.segment(next_msn - 1).is_some();
    let is_there = match (msn, part) {
        _ if log.is_over() => true,
        // A player without low latency can begin with a whole segment only.
        (None, _) => has_segment,
        (Some(msn), _) if msn > next_msn + AHEAD_MAX => {
            let detail = "_HLS_msn is more than two segments ahead";
            let answer = Answer::problem(HttpStatus::BadRequest, "bad_directive", detail);
            return Some(HlsReply::Answer(answer));
        }
        (Some(msn), None) => next_msn > msn,
        (Some(msn), Some(part)) => {
            let of_segment = rendition.segment(msn).map(|(segment, _)| segment.parts.len());
            match of_segment {
                // A part after the last of its segment is the first of the next one.
                Some(len) if msn < next_msn && part >= len => next_msn > msn + 1 || parts > 0,
                Some(len) => part < len,
                None => msn < next_msn,
            }
        }
    };
    let hold_ms = u64::from(rendition.pace().target_s) * 1000 * HELD_TARGETS_MAX;
    (!is_there).then_some(HlsReply::Hold(hold_ms))
}

/// Returns the reply to a request for a file.
fn file_reply(log: &PartLog, incarnation: Incarnation, file: SegmentFile) -> HlsReply {
    let rendition = log.rendition(file.rendition).filter(|_| log.incarnation() == incarnation);
    let Some(rendition) = rendition else { return HlsReply::Answer(no_such_segment()) };
    let body = match file.content {
        SegmentContent::Init(number) => rendition.init(number).cloned().map(ResponseBody::new),
        SegmentContent::Segment(msn) => {
            let complete = rendition.segment(msn).filter(|(_, is_complete)| *is_complete);
            let parts = complete.map(|(segment, _)| segment.parts.iter());
            parts.map(|parts| parts.map(|part| part.bytes.clone()).collect())
        }
        SegmentContent::Part(msn, part) => {
            if (msn, part) == rendition.next() && !log.is_over() {
                let hold_ms = u64::from(rendition.pace().target_s) * 1000 * HELD_TARGETS_MAX;
                return HlsReply::Hold(hold_ms);
            }
            let segment = rendition.segment(msn).map(|(segment, _)| segment);
            let part = segment.and_then(|segment| segment.parts.get(part));
            part.map(|part| ResponseBody::new(part.bytes.clone()))
        }
    };
    let media_type = match file.rendition {
        RenditionKind::Video => MP4_TYPE,
        RenditionKind::Audio => SOUND_TYPE,
    };
    HlsReply::Answer(body.map_or_else(no_such_segment, |body: ResponseBody| Answer {
        caching: "public, max-age=3600, immutable",
        is_shared: true,
        body,
        ..Answer::new(HttpStatus::Ok, media_type, "")
    }))
}

fn no_such_segment() -> Answer {
    let detail = "there is no such segment, or no more: reload the playlist";
    Answer::problem(HttpStatus::NotFound, "not_found", detail)
}

impl Directives {
    /// Reads the directives in a query. Fails with the rule that they break.
    fn of(request: &HttpRequest) -> Result<Self, &'static str> {
        let number = |name| {
            let value = request.query_value(name);
            value.map(|value| value.parse::<u32>()).transpose()
        };
        let (Ok(msn), Ok(part)) = (number("_HLS_msn"), number("_HLS_part")) else {
            return Err("_HLS_msn and _HLS_part are decimal numbers");
        };
        if part.is_some() && msn.is_none() {
            return Err("_HLS_part needs _HLS_msn");
        }
        let skips = match request.query_value("_HLS_skip").as_deref() {
            None => false,
            Some("YES" | "v2") => true,
            Some(_) => return Err("_HLS_skip is YES or v2"),
        };
        Ok(Self { msn: msn.map(u64::from), part: part.map(|part| part as usize), skips })
    }
}

/// Returns the query of a playlist for the references in it, with its question mark: everything but
/// the directives.
fn child_query(query: &str) -> String {
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("_HLS_"));
    let kept: Vec<_> = kept.collect();
    if kept.is_empty() {
        return String::new();
    }
    // A quotation mark would end the attribute that the reference is in.
    format!("?{}", kept.join("&").replace('"', "%22"))
}

/// Returns a part of a path as a reference has it (RFC 3986, section 2.1).
pub(super) fn encoded(part: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

const _: () = assert!(limits::HLS_BYTES_PER_TURN_MAX >= limits::READ_BYTES_OF_ALL_PER_TURN_MAX);
