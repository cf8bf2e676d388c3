//! The site: what a listener of HTTP shows, to whom, and how each request is answered.
//!
//! ```text
//! request ─▶ place (what the path names) ─▶ guard (host, origin, token) ─▶ answer, or a stream
//! ```
//!
//! Owns the routes and the rules of safety. The protocol is in [`crate::http`], and the players of
//! a stream are in `viewing.rs`. It never writes to a socket: a response is left in the exchange of
//! its connection, and the writes of the turn send it.
//!
//! # Safety
//!
//! A page in a browser can reach a server on the same machine. So each listener shows only its
//! [`Surface`], and a name in `Host` has to be one that belongs to this server: a web site that
//! rebinds its own name to the loopback address is refused. Requests that change something need
//! the token, and are refused if a page of another origin has caused them. Errors fail closed.

mod api;
mod guard;
mod hls;
mod hls_streams;
mod metrics;
mod page;
mod place;
mod sparkline;
mod view_options;
mod viewing;
mod waiting;

pub use guard::ApiToken;
pub(super) use hls::PlaylistRequest;
pub(super) use hls_streams::HlsStreams;
pub use metrics::{ProcessFacts, ProcessObserver};
pub(super) use viewing::ViewRequest;

use super::Server;
use super::reason::CloseReason;
use super::stages::Stage;
use super::transport::Transport;
use crate::http::exchange::{Exchange, NORMAL_CLOSURE};
use crate::http::requests::{HttpRequest, Method, RequestError};
use crate::http::response::{HttpStatus, ResponseBody, ResponseHead, problem_json};
use crate::http::websocket::FrameError;
use crate::stream::ids::{ConnId, StreamId};
use crate::time::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hls::HeldRequest;
use log::debug;
pub(super) use page::OpenPages;
use place::Place;
use sha1::{Digest, Sha1};
use viewing::Viewer;

/// Media type of errors (RFC 9457).
const PROBLEM: &str = "application/problem+json";

/// The parts of the site that a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surface {
    /// Streams are played.
    pub playback: bool,
    /// The page, the metrics and the API are shown.
    pub status: bool,
    /// The listener is on a loopback address or a unix socket. Otherwise the page, the metrics and
    /// the API need the token.
    pub is_local: bool,
}

/// The HTTP side of a connection.
#[derive(Debug)]
pub struct WebClient {
    pub(super) exchange: Exchange,
    surface: Surface,
    viewer: Option<Box<Viewer>>,
    /// Whether the events of an open page are sent over it.
    is_page: bool,
    /// The stream whose playlist or segments it has asked for last, if that had a log.
    watches: Option<StreamId>,
    /// A request whose answer comes next.
    held: Option<Box<HeldRequest>>,
}

impl WebClient {
    /// Creates the side of a connection that a listener with `surface` has accepted.
    pub(super) fn new(surface: Surface) -> Self {
        Self {
            exchange: Exchange::default(),
            surface,
            viewer: None,
            is_page: false,
            watches: None,
            held: None,
        }
    }

    /// Returns whether the events of an open page are sent over it.
    pub(super) const fn is_page(&self) -> bool {
        self.is_page
    }

    /// Ends the response of a player, whose stream is over.
    pub(super) fn end_view(&mut self) {
        self.exchange.finish(NORMAL_CLOSURE);
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        let viewer = self.viewer.as_ref().map_or(0, |viewer| viewer.held_bytes());
        let of_request = self.held.as_ref().map_or(0, |held| held.held_bytes());
        self.exchange.held_bytes() + viewer + of_request
    }
}

/// Bytes of a digest that name a version.
const TAG_DIGEST_BYTES: usize = 12;

/// A whole response.
#[derive(Debug)]
struct Answer {
    status: HttpStatus,
    content_type: &'static str,
    body: ResponseBody,
    /// Methods of the resource, for the refusal of another method.
    allow: Option<&'static str>,
    /// Whether any page may read the answer.
    is_public: bool,
    /// What the answer, as a page, may load.
    policy: Option<&'static str>,
    /// How long the answer may be kept.
    caching: &'static str,
    /// Whether others hold the body as well, and account it.
    is_shared: bool,
    /// Bytes of a shared body that were formatted for this answer.
    formatted_bytes: u32,
    /// The version of the body, by which a client may ask whether there is another (RFC 9110,
    /// section 8.8.3).
    tag: Option<Box<str>>,
    /// Whether the body of a GET would have no end, so that there is no length to tell.
    is_endless: bool,
}

impl Answer {
    fn new(status: HttpStatus, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            body: ResponseBody::new(body),
            allow: None,
            is_public: false,
            policy: None,
            caching: "no-store",
            is_shared: false,
            formatted_bytes: 0,
            tag: None,
            is_endless: false,
        }
    }

    /// Returns the answer to HEAD for a resource whose body has no end.
    fn endless(content_type: &'static str) -> Self {
        Self { is_endless: true, ..Self::new(HttpStatus::Ok, content_type, "") }
    }

    /// Adds the version of the body, which is its digest.
    fn tagged(self) -> Self {
        let pieces = self.body.pieces();
        let digest = pieces.fold(Sha1::new(), |digest, piece| digest.chain_update(piece));
        let digest = STANDARD.encode(&digest.finalize()[..TAG_DIGEST_BYTES]);
        // The browser alone may keep it, and asks for it again each time.
        Self { tag: Some(format!("\"{digest}\"").into()), caching: "private, no-cache", ..self }
    }

    /// Returns the answer that has no body, if the client has this version of it.
    fn for_request(self, request: &HttpRequest) -> Self {
        let is_reading = matches!(request.method(), Method::Get | Method::Head);
        let is_known = |tag: &str| is_reading && request.has_version(tag);
        match self.tag.as_deref().is_some_and(is_known) {
            true => Self { status: HttpStatus::NotModified, body: ResponseBody::default(), ..self },
            false => self,
        }
    }

    /// Returns an error as problem details (RFC 9457). `code` is stable, `detail` is for people.
    fn problem(status: HttpStatus, code: &str, detail: &str) -> Self {
        Self::new(status, PROBLEM, problem_json(status, code, detail))
    }

    fn not_allowed(allow: &'static str) -> Self {
        let detail = format!("the methods here are {allow}");
        let problem = Self::problem(HttpStatus::MethodNotAllowed, "method_not_allowed", &detail);
        Self { allow: Some(allow), ..problem }
    }

    fn head(&self) -> ResponseHead {
        let mut head = ResponseHead::new(self.status)
            .header("Cache-Control", self.caching)
            .header("X-Content-Type-Options", "nosniff");
        if let Some(tag) = &self.tag {
            head = head.header("ETag", tag);
        }
        if let Some(allow) = self.allow {
            head = head.header("Allow", allow);
        }
        if let Some(policy) = self.policy {
            head = head.header("Content-Security-Policy", policy);
        }
        if self.is_public {
            head = head.header("Access-Control-Allow-Origin", "*");
        }
        if self.status == HttpStatus::Unauthorized {
            head = head.header("WWW-Authenticate", "Bearer realm=\"tiderace\"");
        }
        if matches!(self.status, HttpStatus::NoContent | HttpStatus::NotModified) {
            return head;
        }
        if self.is_endless {
            return head.header("Content-Type", self.content_type);
        }
        head.content(self.content_type, self.body.len() as u64)
    }
}

impl<T: Transport> Server<T> {
    /// Sets the token that requests have to carry where the site is not public.
    pub fn set_token(&mut self, token: Option<ApiToken>) {
        self.token = token;
    }

    /// Answers a request, or makes the connection a player.
    pub(super) fn serve(&mut self, id: ConnId, request: &HttpRequest, now: Time) {
        self.table.move_to(id, Stage::Connected);
        self.arm_stage(id, now);
        let Some(client) = self.table[id].peer.web() else { return };
        let surface = client.surface;
        let place = match Place::of(request) {
            Ok(place) => place,
            Err(answer) => return self.answer(id, request, answer),
        };
        let guard =
            guard::Guard { surface, hosts: &self.settings.http.hosts, token: self.token.as_ref() };
        if let Err(answer) = guard.check(request, &place) {
            debug!(
                "{}: {} {}: {}",
                self.table[id].address(),
                request.method(),
                place,
                answer.status
            );
            return self.answer(id, request, answer);
        }
        match place {
            Place::Health => {
                let body = if self.draining { "draining\n" } else { "ok\n" };
                let answer = Answer::new(HttpStatus::Ok, "text/plain; charset=utf-8", body);
                self.answer(id, request, answer);
            }
            Place::Ready => {
                let answer = self.readiness();
                self.answer(id, request, answer);
            }
            Place::Page => {
                let answer = self.page(now);
                self.answer(id, request, answer);
            }
            Place::Asset(asset) => self.answer(id, request, asset.answer()),
            Place::Events => self.open_events(id, request, now),
            Place::Metrics => {
                let answer = self.metrics(request, now);
                self.answer(id, request, answer);
            }
            Place::Api(call) => {
                let answer = self.call(call, request, now);
                self.answer(id, request, answer);
            }
            Place::Stream { target, container } => {
                self.view(id, request, &target, container, now);
            }
            Place::Playlist { target, playlist } => {
                self.serve_playlist(id, request, target, playlist, now);
            }
            Place::Segment { target, incarnation, file } => {
                self.serve_segment(id, request, &target, incarnation, file, now);
            }
        }
    }

    /// Returns whether new publishers and players are taken.
    fn readiness(&self) -> Answer {
        use super::memory::MemoryLevel;
        let (status, text) = if self.draining {
            (HttpStatus::ServiceUnavailable, "draining\n")
        } else if self.memory.level == MemoryLevel::Critical {
            (HttpStatus::ServiceUnavailable, "out of memory\n")
        } else {
            (HttpStatus::Ok, "ready\n")
        };
        Answer::new(status, "text/plain; charset=utf-8", text)
    }

    /// Sends a whole response. The connection stays open if both sides want that.
    fn answer(&mut self, id: ConnId, request: &HttpRequest, answer: Answer) {
        self.respond(id, request.method(), answer.for_request(request));
    }

    /// Sends a whole response to a request of this method.
    fn respond(&mut self, id: ConnId, method: Method, answer: Answer) {
        let is_draining = self.draining;
        let Some(client) = self.table[id].peer.web_mut() else { return };
        let head = answer.head();
        if is_draining {
            client.exchange.end_after_response();
        }
        let is_head = method == Method::Head;
        let body = if is_head { ResponseBody::default() } else { answer.body };
        if answer.is_shared {
            client.exchange.note_formatted(answer.formatted_bytes as usize);
            client.exchange.respond_shared(&head, body);
        } else {
            client.exchange.respond(&head, body);
        }
        self.table.queue_write(id);
    }

    /// Goes on with a connection whose output is with the kernel: it is read again, or closed if
    /// nothing follows.
    pub(super) fn response_sent(&mut self, id: ConnId, now: Time) {
        let conn = &self.table[id];
        let Some(client) = conn.peer.web() else { return };
        if client.exchange.is_over() {
            self.dismiss(id, CloseReason::Answered, String::new(), now);
        } else if client.exchange.owes_pong() {
            let client = self.table[id].peer.web_mut();
            client.into_iter().for_each(|client| client.exchange.answer_ping());
            self.table.queue_write(id);
        } else if conn.readable || conn.has_unread() {
            self.table.queue_read(id);
        }
    }

    /// Arms the deadline for the rest of a request whose beginning has come.
    pub(super) fn note_request(&mut self, id: ConnId, now: Time) {
        let conn = &self.table[id];
        let is_within =
            || conn.peer.web().is_some_and(|client| client.exchange.is_within_request());
        if conn.stage == Stage::Connected && is_within() {
            self.enter_stage(id, Stage::Connecting, now);
        }
    }

    /// Answers a request that waits for a decision or for a stream, since the connection is about
    /// to be closed.
    pub(super) fn tell_unavailable(&mut self, id: ConnId, description: &str) {
        let conn = &mut self.table[id];
        // A client that closes itself asks, too, but has its own answer.
        if !conn.is_parked() && !conn.peer.is_holding() {
            return;
        }
        self.forget_held(id);
        let Some(client) = self.table[id].peer.web_mut() else { return };
        let answer = Answer::problem(HttpStatus::ServiceUnavailable, "unavailable", description);
        client.exchange.end_after_response();
        client.exchange.respond(&answer.head(), answer.body);
    }

    /// Closes a connection whose request was not complete in time. A client that has sent a part of
    /// one is told so. Browsers also open connections that they may need later, and would show the
    /// answer as that of their next request.
    pub(super) fn request_timed_out(&mut self, id: ConnId, now: Time) {
        let detail = format!("limit {} ms", self.settings.http.request_ms);
        let Some(client) = self.table[id].peer.web_mut() else { return };
        if !client.exchange.is_within_request() {
            return self.close(id, CloseReason::HttpTimeout, detail, now);
        }
        let description = format!("the request was not complete in time: {detail}");
        let answer = Answer::problem(HttpStatus::RequestTimeout, "request_timeout", &description);
        client.exchange.end_after_response();
        client.exchange.respond(&answer.head(), answer.body);
        self.dismiss(id, CloseReason::HttpTimeout, detail, now);
    }

    /// Answers bytes that are no valid request, and closes the connection: where one request ends
    /// and the next begins is in doubt.
    pub(super) fn refuse_request(&mut self, id: ConnId, error: &RequestError, now: Time) {
        let detail = error.to_string();
        if let Some(client) = self.table[id].peer.web_mut() {
            let answer = Answer::problem(error.status, "bad_request", &detail);
            client.exchange.respond(&answer.head(), answer.body);
        }
        self.dismiss(id, CloseReason::BadRequest, detail, now);
    }

    /// Closes a connection whose WebSocket client has closed or has violated the protocol.
    pub(super) fn websocket_closed(&mut self, id: ConnId, error: Option<FrameError>, now: Time) {
        match error {
            None => self.dismiss(id, CloseReason::PeerClosed, String::new(), now),
            Some(error) => self.dismiss(id, CloseReason::BadFrame, error.to_string(), now),
        }
    }
}
