//! Players of a stream over HTTP and WebSocket.
//!
//! ```text
//!             stream has begun, tracks are known           stream is over
//! Waiting ─────────────────────────────────────▶ Playing ────────────────▶ (closed)
//!    └── not published in time: 404
//! ```
//!
//! A player over HTTP is a read position on the tape like any other. Only the start differs. The
//! head of the response and the header of the file come first, and that header names the media of
//! the stream. A player that is told of a medium which never comes shows nothing, and a player that
//! is not told of it never plays it. So the header waits until both are known, for a second at
//! most. Until then the play is paused, so that no media precedes the header.

use super::Answer;
use super::place::Container;
use super::view_options::ViewOptions;
use crate::config::{Absent, Start};
use crate::http::exchange::{Exchange, NORMAL_CLOSURE};
use crate::http::requests::{HttpRequest, Method};
use crate::http::response::{HttpStatus, ResponseHead};
use crate::media::fmp4::{self, Mp4Clock};
use crate::rtmp::name::StreamTarget;
use crate::rtmp::session::Receives;
use crate::server::Server;
use crate::server::hub::Channel;
use crate::server::judge::{Ask, Judges, Refused, Verdict};
use crate::server::lines::Topic;
use crate::server::memory::MemoryLevel;
use crate::server::reason::CloseReason;
use crate::server::role::TOO_MANY_WAITED_FOR;
use crate::server::transport::Transport;
use crate::stream::cursor::Play;
use crate::stream::framing::{ChosenTracks, Custom, Framing};
use crate::stream::ids::{ConnId, Endpoint};
use crate::stream::parts::TrackConfigs;
use crate::stream::tape::Tape;
use crate::time::Time;
use log::{Level, log};
use serde_json::json;
use std::rc::Rc;

/// How long the header of a file waits for the second medium of a stream (ms).
const TRACKS_MS_MAX: u64 = 1000;
/// The only lane of an HTTP connection.
const LANE: u32 = 0;
/// Close codes of WebSocket (RFC 6455, section 7.4.1, and the registry of IANA).
const UNSUPPORTED_DATA: u16 = 1003;
const TRY_AGAIN_LATER: u16 = 1013;
const FLV_TYPE: &str = "video/x-flv";
const MP4_TYPE: &str = "video/mp4";
/// Distance of two pictures, until the stream has shown its own (ms).
const FRAME_MS: u32 = 33;

/// The state of a player.
#[derive(Debug)]
pub(super) struct Viewer {
    /// Whether the head of the response and the header of the file are in the output.
    has_begun: bool,
    /// Whether any page may read the stream.
    is_public: bool,
    options: ViewOptions,
}

impl Viewer {
    /// Returns the memory that it holds, including itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.options.held_bytes()
    }

    /// Writes the head of a response over HTTP.
    fn write_head(&self, exchange: &mut Exchange, media_type: &str) {
        let head = stream_head(media_type, self.is_public);
        if self.options.is_chunked {
            exchange.write_chunked_head(head);
        } else {
            exchange.write_head(&head);
        }
    }
}

/// A request to play a stream over HTTP.
#[derive(Debug)]
pub(in crate::server) struct ViewRequest {
    target: StreamTarget,
    framing: Framing,
    /// The accept key, if the client wants to switch to WebSocket.
    accept: Option<String>,
    is_public: bool,
    options: ViewOptions,
}

impl ViewRequest {
    /// Returns the memory that it holds, including itself (bytes).
    pub(in crate::server) fn held_bytes(&self) -> usize {
        let accept = self.accept.as_ref().map_or(0, String::capacity);
        size_of::<Self>() + self.target.held_bytes() + accept + self.options.held_bytes()
    }
}

impl<T: Transport> Server<T> {
    /// Answers a request for a stream.
    pub(super) fn view(
        &mut self,
        id: ConnId,
        request: &HttpRequest,
        target: &StreamTarget,
        container: Container,
        now: Time,
    ) {
        let is_public = match self.readable_by_page(id, request) {
            Ok(is_public) => is_public,
            Err(answer) => return self.answer(id, request, answer),
        };
        let accept = request.wants_websocket();
        let options = match ViewOptions::parse(request, container) {
            Ok(options) => options,
            Err(answer) => return self.answer(id, request, Answer { is_public, ..answer }),
        };
        if request.method() != Method::Get {
            let media_type = match container {
                Container::Flv => FLV_TYPE,
                Container::Mp4 => MP4_TYPE,
            };
            let answer = self.probe_stream(request.method(), target, media_type, is_public);
            return self.answer(id, request, answer);
        }
        let framing = match (container, &accept) {
            (Container::Flv, None) => Framing::Flv,
            (Container::Flv, Some(_)) => Framing::WebSocketFlv,
            (Container::Mp4, None) => Framing::Mp4,
            (Container::Mp4, Some(_)) => Framing::WebSocketMp4,
        };
        let target = target.clone();
        let view = Box::new(ViewRequest { target, framing, accept, is_public, options });
        let peer = self.table[id].address();
        let judges = Judges { access: &self.policies.access, outside: &mut self.outside };
        match judges.play(id, peer, &view.target.name) {
            Verdict::Granted { name } => self.accept_view(id, *view, &name, now),
            Verdict::Refused(refused) => {
                self.refuse_view(id, &view, HttpStatus::Forbidden, refused, now)
            }
            Verdict::Later(ticket) => self.park(id, ticket, Ask::View(view), now),
        }
    }

    /// Answers HEAD and OPTIONS for a stream, which start nothing.
    pub(super) fn probe_stream(
        &self,
        method: Method,
        target: &StreamTarget,
        media_type: &'static str,
        is_public: bool,
    ) -> Answer {
        let name = self.policies.access.play(&target.name);
        let is_live = self.hub.find(&name).is_some_and(Channel::is_live);
        let answer = match method {
            Method::Options => Answer::new(HttpStatus::NoContent, "", ""),
            _ if is_live => Answer::endless(media_type),
            _ => Answer::problem(
                HttpStatus::NotFound,
                "not_published",
                "the stream is not published",
            ),
        };
        Answer { is_public, ..answer }
    }

    /// Begins a granted view, unless a limit prevents it.
    pub(in crate::server) fn accept_view(
        &mut self,
        id: ConnId,
        view: ViewRequest,
        name: &Rc<str>,
        now: Time,
    ) {
        if self.memory.level >= MemoryLevel::Tight {
            let description = "the server has no memory for another player";
            let refused = Refused::told(CloseReason::MemoryPressure, description);
            return self.refuse_view(id, &view, HttpStatus::ServiceUnavailable, refused, now);
        }
        let absent = self.hub.find(name).is_none_or(|stream| !stream.is_live());
        if absent && self.settings.play.absent == Absent::Refuse {
            let description = format!("{} is not published", self.policies.access.shown(name));
            let refused = Refused::told(CloseReason::StreamNotFound, description);
            return self.refuse_view(id, &view, HttpStatus::NotFound, refused, now);
        }
        let Ok(stream) = self.hub.find_or_wait(name, self.settings.limits.streams_max) else {
            let refused = Refused::told(CloseReason::StreamLimit, TOO_MANY_WAITED_FOR);
            return self.refuse_view(id, &view, HttpStatus::ServiceUnavailable, refused, now);
        };
        let level = self.level(Topic::Stream, Level::Info, now);
        let conn = &mut self.table[id];
        log!(
            level,
            "{} plays {} over {}{}",
            conn.address(),
            self.policies.access.shown(name),
            if view.accept.is_some() { "WebSocket" } else { "HTTP" },
            if absent { ", which is not published yet" } else { "" }
        );
        let ViewRequest { framing, accept, is_public, options, .. } = view;
        let Some(client) = conn.peer.web_mut() else { return };
        match accept {
            Some(accept) => client.exchange.upgrade(&accept),
            None => client.exchange.open(),
        }
        let receives = options.receives;
        client.viewer = Some(Box::new(Viewer { has_begun: false, is_public, options }));
        self.stats.plays += 1;
        let endpoint = Endpoint { conn: id, lane: LANE };
        let start = self.settings.play.start;
        self.begin_playing(stream, endpoint, framing, start, receives, now);
        let tape = self.hub.channel(stream).tape();
        if let Some(play) = self.table[id].play_mut(LANE) {
            play.pause(true, tape);
            play.told_begun = false;
        }
        self.tell_viewer(id, now);
    }

    /// Refuses a view.
    pub(in crate::server) fn refuse_view(
        &mut self,
        id: ConnId,
        view: &ViewRequest,
        status: HttpStatus,
        refused: Refused,
        now: Time,
    ) {
        let Refused { reason, detail, description } = refused;
        let asked = format!("play of {}", self.policies.access.shown(&view.target.name));
        let problem = Answer::problem(status, reason.as_str(), &description);
        let answer = Answer { is_public: view.is_public, ..problem };
        if let Some(client) = self.table[id].peer.web_mut() {
            client.exchange.end_after_response();
            client.exchange.respond(&answer.head(), answer.body);
        }
        self.refuse(id, &asked, reason, detail, now);
    }

    /// Begins or ends the response of a player as its stream does, and settles its stage.
    pub(in crate::server) fn tell_viewer(&mut self, id: ConnId, now: Time) {
        let conn = &mut self.table[id];
        let Some(activity) = &mut conn.activity else { return };
        let Some(play) = activity.plays.first_mut() else { return };
        let Some(client) = conn.peer.web_mut() else { return };
        let Some(viewer) = &mut client.viewer else { return };
        let channel = self.hub.channel(play.stream);
        if viewer.has_begun {
            let is_outdated = play.is_outdated(channel.tape());
            // A media element cannot take another codec in the same response, nor a player of FLV
            // another origin of times. A player of MP4 over WebSocket is told of it, and goes on.
            let goes_on = play.framing() == Framing::WebSocketMp4;
            if !channel.has_begun() || is_outdated && !goes_on {
                client.exchange.finish(NORMAL_CLOSURE);
                return self.dismiss(id, CloseReason::StreamEnded, String::new(), now);
            }
            if !is_outdated {
                return;
            }
            // No frame that needs the new headers may precede them.
            play.pause(true, channel.tape());
        }
        let (framing, wanted) = (play.framing(), viewer.options.receives);
        if let Some(tracks) = known_tracks(channel, wanted, framing.is_mp4(), now) {
            viewer.has_begun = true;
            restart(play, channel, self.settings.play.start, wanted);
            if !framing.is_mp4() {
                begin_flv(&mut client.exchange, viewer, play, channel.tape(), tracks);
            } else if !begin_mp4(&mut client.exchange, viewer, play, channel, now) {
                return self.refuse_codecs(id, now);
            }
        }
        self.settle_stage(id, now);
    }

    /// Answers a player of MP4 whose stream has no track that MP4 carries here.
    fn refuse_codecs(&mut self, id: ConnId, now: Time) {
        let Some(client) = self.table[id].peer.web_mut() else { return };
        let detail = "MP4 carries no codec of this stream that was asked for: play it as FLV";
        let answer = Answer::problem(HttpStatus::NotAcceptable, "not_carried", detail);
        if client.exchange.is_websocket() {
            client.exchange.finish(UNSUPPORTED_DATA);
        } else {
            client.exchange.respond(&answer.head(), answer.body);
        }
        self.dismiss(id, CloseReason::StreamEnded, detail.to_owned(), now);
    }

    /// Answers a player whose stream was not published in time.
    pub(in crate::server) fn view_not_published(&mut self, id: ConnId, description: &str) {
        let Some(client) = self.table[id].peer.web_mut() else { return };
        let Some(viewer) = &client.viewer else { return };
        if client.exchange.is_websocket() {
            return client.exchange.finish(TRY_AGAIN_LATER);
        }
        let problem = Answer::problem(HttpStatus::NotFound, "not_published", description);
        let answer = Answer { is_public: viewer.is_public, ..problem };
        client.exchange.respond(&answer.head(), answer.body);
    }
}

/// Begins a play that was paused until now, as a new player.
fn restart(play: &mut Play, channel: &Channel, start: Start, receives: Receives) {
    let (slot, framing, tape) = (play.slot, play.framing(), channel.tape());
    // An MP4 has the newest configurations at its start, and no frame may precede them.
    let is_earlier = tape.start_sequence().is_some_and(|first| first < tape.headers_since());
    let start = if framing.is_mp4() && is_earlier { Start::NextKeyframe } else { start };
    *play = Play::new(play.stream, play.lane, framing, tape, start, receives);
    (play.slot, play.told_begun) = (slot, true);
}

/// Returns the media of a stream among `wanted`, once they are known.
pub(super) fn known_tracks(
    channel: &Channel,
    wanted: Receives,
    is_mp4: bool,
    now: Time,
) -> Option<Receives> {
    let report = channel.report(now)?;
    let tracks = Receives {
        audio: wanted.audio && report.audio.is_some(),
        video: wanted.video && report.video.is_some(),
    };
    let has_any = tracks.audio || tracks.video;
    let is_whole = tracks == wanted && !(is_mp4 && wanted.video && lacks_size(channel.tape()));
    let is_known = is_whole || report.duration_ms >= TRACKS_MS_MAX;
    (has_any && is_known).then_some(tracks)
}

fn begin_flv(
    exchange: &mut Exchange,
    viewer: &Viewer,
    play: &mut Play,
    tape: &Tape,
    tracks: Receives,
) {
    let is_chunked = viewer.options.is_chunked;
    let custom = Custom { clock: None, tracks: viewer.options.tracks(tape), is_chunked };
    if custom != Custom::default() {
        play.set_custom(custom, tape);
    }
    if !exchange.is_websocket() {
        viewer.write_head(exchange, FLV_TYPE);
    }
    exchange.write_first(&flv_header(tracks));
}

/// Returns whether an MP4 that begins now would not name the size of its pictures, because no
/// keyframe has come. A browser refuses to play that.
fn lacks_size(tape: &Tape) -> bool {
    TrackConfigs::of(tape).video.is_some_and(|video| video.size().is_none())
}

/// Begins an MP4 with its initialization segment. On a WebSocket connection a message names the
/// codecs before, as go2rtc does it and players expect it. Returns false if the stream has no track
/// that is carried.
fn begin_mp4(
    exchange: &mut Exchange,
    viewer: &Viewer,
    play: &mut Play,
    channel: &Channel,
    now: Time,
) -> bool {
    let (tape, report) = (channel.tape(), channel.report(now).unwrap_or_default());
    let TrackConfigs { video, audio, audio_samples } = TrackConfigs::of(tape);
    let video = video.filter(|track| viewer.options.plays(track));
    let audio = audio.filter(|track| viewer.options.plays(track));
    let tracks: Vec<_> = video.iter().chain(&audio).collect();
    if tracks.is_empty() {
        return false;
    }
    let init = fmp4::init_segment(&tracks);
    let rate = report.frame_rate_millihertz.filter(|rate| *rate > 0);
    let frame_ms = rate.map_or(FRAME_MS, |rate| (1_000_000 / rate).clamp(1, 10_000) as u32);
    let origin_ms = tape.audio_time();
    let sound = audio.as_ref().map(|track| (track, audio_samples));
    let clock = Mp4Clock::new(video.as_ref(), sound, origin_ms, frame_ms);
    let (tracks_of_flv, is_chunked) = (ChosenTracks::default(), viewer.options.is_chunked);
    play.set_custom(Custom { clock: Some(clock), tracks: tracks_of_flv, is_chunked }, tape);
    let media_type = fmp4::media_type_of(&tracks);
    if exchange.is_websocket() {
        exchange.write_text(&json!({ "type": "mse", "value": media_type }).to_string());
    } else {
        viewer.write_head(exchange, &media_type);
    }
    exchange.write_first(&init);
    true
}

fn stream_head(media_type: &str, is_public: bool) -> ResponseHead {
    let head = ResponseHead::new(HttpStatus::Ok)
        .header("Content-Type", media_type)
        .header("Cache-Control", "no-store")
        // Asks nginx in front of this server not to collect the stream.
        .header("X-Accel-Buffering", "no");
    if is_public { head.header("Access-Control-Allow-Origin", "*") } else { head }
}

/// Returns the header of an FLV file, and the size of the tag before the first (FLV 10.1, annexes
/// E.2 and E.3).
fn flv_header(tracks: Receives) -> [u8; 13] {
    const AUDIO: u8 = 4;
    const VIDEO: u8 = 1;
    let flags = if tracks.audio { AUDIO } else { 0 } | if tracks.video { VIDEO } else { 0 };
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}
