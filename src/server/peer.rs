//! The peer of a connection, and its intents: the vocabulary of the control plane.
//!
//! A [`Peer`] turns bytes into intents, and turns answers into messages of its protocol. It owns
//! the state of that protocol. It decides nothing, and never touches a stream or another
//! connection.
//!
//! The set of peers is closed, so no call is dynamic. Nearly all peers are RTMP sessions, so a
//! session is inline. The other peers are boxed, so that an idle connection stays small.
//!
//! A *lane* separates the streams of one connection. In RTMP it is the message stream id.

use super::judge::Ask;
use super::reason::CloseReason;
use super::relaying::Relayed;
use super::web::{Surface, WebClient};
use crate::http::exchange::ExchangeEvent;
use crate::http::requests::{HttpRequest, RequestError};
use crate::http::response::ResponseBody;
use crate::http::websocket::{CLIENT_FRAME_BYTES_MIN, FrameError};
use crate::limits;
use crate::rtmp::client::{Client, ClientError, ClientEvent};
use crate::rtmp::command::code;
use crate::rtmp::message::AggregateParts;
use crate::rtmp::name::{AppName, NameError};
use crate::rtmp::quirks::{Quirk, Tolerated};
use crate::rtmp::session::{
    Asked, ConnectRequest, Event, PlayRequest, PublishRequest, Receive, Session, SessionError,
    SessionSettings, Step,
};
use crate::stream::frame::MediaFrame;
use crate::text::Escaped;
use std::fmt;

/// The protocol of the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP, with this server as the server.
    Rtmp,
    /// HTTP/1.1, with the parts of the site that the listener shows.
    Http(Surface),
}

/// See the module's head.
#[derive(Debug)]
pub enum Peer {
    /// A client of this server.
    Rtmp(Session),
    /// The server that a stream is relayed to. Nothing in the configuration asks for one yet.
    RtmpClient(Box<Uplink>),
    /// A browser, a player or a program that speaks HTTP.
    Http(Box<WebClient>),
}

/// The client's side of a connection to another server.
#[derive(Debug)]
pub struct Uplink {
    pub(super) client: Client,
    pub(super) relayed: Relayed,
}

/// The intent of a peer. Frames borrow the read buffer, so a payload is copied once, to the tape.
#[derive(Debug)]
pub(super) enum Intent<'a> {
    /// Records a frame that it publishes.
    Frame { lane: u32, frame: MediaFrame<'a> },
    /// Records several frames that came in one message.
    Parts(AggregateParts<'a>),
    /// Any other intent.
    Wish(Wish),
}

/// An intent other than to record frames.
#[derive(Debug)]
pub(super) enum Wish {
    /// Nothing is left to do: the peer has answered the message itself.
    Nothing,
    /// The handshake is complete. `c2_matches` is `None` if C2 was not compared.
    HandshakeDone { c2_matches: Option<bool> },
    /// The peer asks to connect, to publish or to play.
    Ask(Ask),
    /// The peer asked for it with an invalid name, and the refusal is in the output.
    NameRefused { error: NameError, asked: Asked },
    /// The peer ends its publish or play.
    Leave { lane: u32 },
    /// The peer changes its play.
    Tune { lane: u32, tune: Tune },
    /// The server at the other end has accepted the connect.
    LetIn,
    /// The server at the other end has accepted the publish.
    TakesStream,
    /// The server at the other end has refused a request.
    RefusedThere { detail: String },
    /// The peer asks for a page, for the API or for a stream over HTTP.
    Page(Box<HttpRequest>),
    /// The bytes of the peer are not a valid HTTP request.
    Malformed(RequestError),
    /// The peer has closed its WebSocket connection, or has violated the protocol.
    WebSocketClosed(Option<FrameError>),
}

/// A change of a play by its player.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tune {
    /// Pauses or resumes.
    Pause(bool),
    /// Turns one kind of media on or off.
    Receive(Receive, bool),
}

/// An error in the received bytes that ends the connection.
#[derive(Debug)]
pub(super) enum PeerError {
    Session(SessionError),
    Client(ClientError),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(error) => error.fmt(f),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl From<&PeerError> for CloseReason {
    fn from(error: &PeerError) -> Self {
        match error {
            PeerError::Session(error) => error.into(),
            PeerError::Client(ClientError::Handshake(error)) => error.into(),
            PeerError::Client(ClientError::Link(error)) => error.into(),
            PeerError::Client(ClientError::Command(_) | ClientError::MessageStreamId) => {
                Self::BadCommand
            }
        }
    }
}

impl Peer {
    /// Creates the peer of a connection that was accepted by a listener of `protocol`.
    pub(super) fn new(protocol: Protocol, settings: &SessionSettings) -> Self {
        match protocol {
            Protocol::Rtmp => Self::Rtmp(Session::new(settings)),
            Protocol::Http(surface) => Self::Http(Box::new(WebClient::new(surface))),
        }
    }

    /// Consumes `input` up to the end of the message that gives the next intent. Returns `None` if
    /// the input is used up or a request waits for its answer.
    #[inline]
    pub(super) fn next<'p, 'i: 'p>(
        &'p mut self,
        input: &mut &'i mut [u8],
        settings: &SessionSettings,
    ) -> Result<Option<Intent<'p>>, PeerError> {
        match self {
            Self::Rtmp(session) => {
                let event = session.next_event(input, settings).map_err(PeerError::Session)?;
                Ok(event.map(Intent::from))
            }
            Self::RtmpClient(uplink) => {
                let event = uplink.client.next_event(input).map_err(PeerError::Client)?;
                Ok(event.map(Intent::from))
            }
            Self::Http(client) => Ok(client.exchange.next_event(input).map(Intent::from)),
        }
    }

    /// Notes that the input is used up, in place of a call of [`Peer::next`] without input.
    pub(super) fn end_input(&mut self) {
        if let Self::Rtmp(session) = self {
            session.end_input();
        }
    }

    /// Returns the session, if the peer is a client of this server.
    pub const fn session(&self) -> Option<&Session> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::RtmpClient(_) | Self::Http(_) => None,
        }
    }

    const fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::RtmpClient(_) | Self::Http(_) => None,
        }
    }

    /// Returns the HTTP side, if the peer speaks HTTP.
    pub(super) const fn web(&self) -> Option<&WebClient> {
        match self {
            Self::Http(client) => Some(client),
            Self::Rtmp(_) | Self::RtmpClient(_) => None,
        }
    }

    pub(super) const fn web_mut(&mut self) -> Option<&mut WebClient> {
        match self {
            Self::Http(client) => Some(client),
            Self::Rtmp(_) | Self::RtmpClient(_) => None,
        }
    }

    /// Returns the client side, if the peer is a server.
    pub(super) const fn uplink(&self) -> Option<&Uplink> {
        match self {
            Self::RtmpClient(uplink) => Some(uplink),
            Self::Rtmp(_) | Self::Http(_) => None,
        }
    }

    /// Returns whether control bytes or a response are to be sent.
    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        match self {
            Self::Rtmp(session) => !session.output().is_empty(),
            Self::RtmpClient(uplink) => !uplink.client.output().is_empty(),
            Self::Http(client) => client.exchange.has_pending(),
        }
    }

    /// Returns the control bytes to be sent, and the response body that follows them.
    pub(super) fn pending(&self) -> impl Iterator<Item = &[u8]> {
        let (control, body) = match self {
            Self::Rtmp(session) => (session.output().bytes(), None),
            Self::RtmpClient(uplink) => (uplink.client.output().bytes(), None),
            Self::Http(client) => {
                let (head, body) = client.exchange.pending();
                (head, Some(body))
            }
        };
        std::iter::once(control).chain(body.into_iter().flat_map(ResponseBody::pieces))
    }

    /// Returns the number of bytes in [`Peer::pending`].
    #[inline]
    pub(super) fn pending_bytes(&self) -> usize {
        match self {
            Self::Rtmp(session) => session.output().bytes().len(),
            Self::RtmpClient(uplink) => uplink.client.output().bytes().len(),
            Self::Http(client) => client.exchange.pending_bytes(),
        }
    }

    /// Removes the first `count` pending bytes, which have been sent.
    pub(super) fn written(&mut self, count: usize) {
        match self {
            Self::Rtmp(session) => session.output_mut().written(count),
            Self::RtmpClient(uplink) => uplink.client.output_mut().written(count),
            Self::Http(client) => client.exchange.written(count),
        }
    }

    /// Checks the bound of the pending control bytes.
    pub(super) fn check_output(&self, settings: &SessionSettings) -> Result<(), PeerError> {
        match self {
            Self::Rtmp(session) => session.check_output(settings).map_err(PeerError::Session),
            Self::RtmpClient(uplink) => {
                let waiting = uplink.client.output().bytes().len();
                let max = settings.control_bytes_max;
                let overflow = SessionError::ControlOverflow { waiting, max };
                if waiting > max { Err(PeerError::Session(overflow)) } else { Ok(()) }
            }
            // One response at a time is owed, and no input is taken until it is sent.
            Self::Http(_) => Ok(()),
        }
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Rtmp(session) => session.held_bytes(),
            Self::RtmpClient(uplink) => {
                size_of::<Uplink>() + uplink.client.held_bytes() + uplink.relayed.held_bytes()
            }
            Self::Http(client) => size_of::<WebClient>() + client.held_bytes(),
        }
    }

    /// Returns the chunk size of the received messages (bytes). A peer without chunks is read as if
    /// they were tiny, which is in small pieces. Frames of a WebSocket client can be tinier still.
    pub(super) const fn chunk_size(&self) -> u32 {
        match self {
            Self::Rtmp(session) => session.inbound().reader().chunk_size(),
            Self::RtmpClient(uplink) => uplink.client.inbound().reader().chunk_size(),
            Self::Http(client) if client.exchange.is_websocket() => CLIENT_FRAME_BYTES_MIN,
            Self::Http(_) => limits::CHUNK_SIZE_INITIAL,
        }
    }

    /// Returns whether a request of the peer waits for its answer.
    pub fn is_asking(&self) -> bool {
        match self {
            Self::Rtmp(session) => session.is_asking(),
            Self::RtmpClient(_) => false,
            Self::Http(client) => client.exchange.is_asking(),
        }
    }

    /// Returns whether it takes no input until its response is sent.
    pub(super) fn is_blocked(&self) -> bool {
        self.web().is_some_and(|client| client.exchange.is_blocked())
    }

    /// Returns the application, once a connect was accepted.
    pub(super) fn app(&self) -> Option<&AppName> {
        self.session()?.app()
    }

    /// Returns the quirks that were tolerated so far.
    pub fn tolerated(&self) -> Option<&Tolerated> {
        self.session().map(Session::tolerated)
    }

    /// Counts a quirk of its media.
    pub(super) fn tolerate(&mut self, quirk: Quirk) {
        if let Some(session) = self.session_mut() {
            session.tolerate(quirk);
        }
    }

    pub(super) fn accept_connect(&mut self, request: ConnectRequest, settings: &SessionSettings) {
        if let Some(session) = self.session_mut() {
            session.accept_connect(request, settings);
        }
    }

    pub(super) fn reject_connect(&mut self, request: &ConnectRequest, description: &str) {
        if let Some(session) = self.session_mut() {
            session.reject_connect(request, code::CONNECT_REJECTED, description);
        }
    }

    pub(super) fn accept_publish(&mut self, request: &PublishRequest) {
        if let Some(session) = self.session_mut() {
            session.accept_publish(request);
        }
    }

    pub(super) fn reject_publish(
        &mut self,
        request: &PublishRequest,
        code: &str,
        description: &str,
    ) {
        if let Some(session) = self.session_mut() {
            session.reject_publish(request, code, description);
        }
    }

    pub(super) fn accept_play(&mut self, request: &PlayRequest) {
        if let Some(session) = self.session_mut() {
            session.accept_play(request);
        }
    }

    pub(super) fn reject_play(&mut self, request: &PlayRequest, code: &str, description: &str) {
        if let Some(session) = self.session_mut() {
            session.reject_play(request, code, description);
        }
    }

    /// Tells a player that its stream has begun.
    pub(super) fn play_began(&mut self, lane: u32) {
        if let Some(session) = self.session_mut() {
            session.play_began(lane);
        }
    }

    /// Tells a player that its stream is over.
    pub(super) fn play_ended(&mut self, lane: u32) {
        match self {
            Self::Rtmp(session) => session.play_ended(lane),
            Self::RtmpClient(_) => {}
            Self::Http(client) => client.end_view(),
        }
    }

    /// Tells a publisher that another one took its stream over.
    pub(super) fn publish_displaced(&mut self, lane: u32) {
        if let Some(session) = self.session_mut() {
            session.publish_displaced(lane);
        }
    }

    /// Tells a publisher that its publish on a lane has ended because of a request of its own.
    pub(super) fn publish_ended(&mut self, lane: u32) {
        if let Some(session) = self.session_mut() {
            session.publish_ended(lane);
        }
    }

    /// Tells a publisher or player why it will be disconnected.
    pub(super) fn error_status(&mut self, lane: u32, code: &str, description: &str) {
        if let Some(session) = self.session_mut() {
            session.error_status(lane, code, description);
        }
    }

    /// Asks the peer to reconnect, to `tc_url` or to this server. Returns false if the peer does
    /// not support that.
    pub(super) fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        let session = self.session_mut();
        session.is_some_and(|session| session.request_reconnect(tc_url, description))
    }

    /// Returns whether the peer was asked to reconnect.
    pub(super) fn is_to_reconnect(&self) -> bool {
        self.session().is_some_and(Session::is_to_reconnect)
    }

    /// Returns whether it is an open page, which waits for events.
    pub(super) fn is_page(&self) -> bool {
        self.web().is_some_and(WebClient::is_page)
    }

    /// Takes the number of bytes that were formatted for a client of HTTP.
    pub(super) const fn take_formatted_bytes(&mut self) -> usize {
        match self {
            Self::Http(client) => client.exchange.take_formatted_bytes(),
            Self::Rtmp(_) | Self::RtmpClient(_) => 0,
        }
    }

    /// Returns whether the answer to a request is held back until it exists.
    pub(super) fn is_holding(&self) -> bool {
        self.web().is_some_and(|client| client.exchange.is_holding())
    }

    /// Returns whether a whole HTTP response is being sent.
    pub(super) fn owes_response(&self) -> bool {
        self.web().is_some_and(|client| client.exchange.is_responding())
    }

    /// Sends a ping request.
    pub(super) fn ping(&mut self, millis: u32) {
        match self {
            Self::Rtmp(session) => session.ping(millis),
            Self::RtmpClient(uplink) => uplink.client.ping(millis),
            Self::Http(_) => {}
        }
    }

    /// Frees the buffers that only a publisher needs.
    pub(super) fn release(&mut self) {
        if let Some(session) = self.session_mut() {
            session.release();
        }
    }
}

impl<'a> From<Event<'a>> for Intent<'a> {
    #[inline]
    fn from(event: Event<'a>) -> Self {
        match event {
            Event::Media(message) => {
                let lane = message.header.message_stream_id;
                Self::Frame { lane, frame: MediaFrame::from(message) }
            }
            Event::Aggregate(parts) => Self::Parts(parts),
            Event::Step(step) => Self::Wish(step.into()),
        }
    }
}

impl From<Step> for Wish {
    fn from(step: Step) -> Self {
        match step {
            Step::Handled => Self::Nothing,
            Step::HandshakeDone { c2_matches } => Self::HandshakeDone { c2_matches },
            Step::Connect(request) => Self::Ask(Ask::Connect(request)),
            Step::Publish(request) => Self::Ask(Ask::Publish(request)),
            Step::Play(request) => Self::Ask(Ask::Play(request)),
            Step::NameRefused { error, asked } => Self::NameRefused { error, asked },
            Step::Unpublish { message_stream_id: lane }
            | Step::Stop { message_stream_id: lane } => Self::Leave { lane },
            Step::Pause { message_stream_id: lane, paused } => {
                Self::Tune { lane, tune: Tune::Pause(paused) }
            }
            Step::Receive { message_stream_id: lane, media, on } => {
                Self::Tune { lane, tune: Tune::Receive(media, on) }
            }
        }
    }
}

impl From<ExchangeEvent> for Intent<'_> {
    fn from(event: ExchangeEvent) -> Self {
        Self::Wish(match event {
            ExchangeEvent::Request(request) => Wish::Page(request),
            ExchangeEvent::Malformed(error) => Wish::Malformed(error),
            ExchangeEvent::Closed(error) => Wish::WebSocketClosed(error),
        })
    }
}

impl From<ClientEvent<'_>> for Intent<'_> {
    fn from(event: ClientEvent<'_>) -> Self {
        Self::Wish(match event {
            ClientEvent::HandshakeDone => Wish::HandshakeDone { c2_matches: None },
            ClientEvent::Connected => Wish::LetIn,
            ClientEvent::Publishing => Wish::TakesStream,
            ClientEvent::Refused(status) => Wish::RefusedThere {
                detail: format!("{} {}", Escaped(status.code), Escaped(status.description)),
            },
            _ => Wish::Nothing,
        })
    }
}
