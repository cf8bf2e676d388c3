//! What speaks on a connection, and what it wants: the only words that the control plane knows.
//!
//! A [`Peer`] turns bytes into intents, and answers into the messages of its protocol. It owns
//! the state of that protocol. It decides nothing, and never touches a stream or another
//! connection.
//!
//! The set of peers is closed, so nothing is called through a pointer. An RTMP session is inline,
//! since nearly all peers are one, and the rest is boxed, so that an idle connection stays small.
//!
//! A *lane* is what separates the streams of one connection: the message stream id in RTMP.

use super::judge::Ask;
use super::reason::CloseReason;
use super::relaying::Relayed;
use crate::rtmp::client::{Client, ClientError, ClientEvent};
use crate::rtmp::command::code;
use crate::rtmp::link::Output;
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

/// The protocol that connections of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP, as its server.
    Rtmp,
}

/// See the module's head.
#[derive(Debug)]
pub enum Peer {
    /// A client of this server.
    Rtmp(Session),
    /// The server that a stream is relayed to. Nothing in the configuration asks for one yet.
    RtmpClient(Box<Uplink>),
}

/// The client's side of a connection to another server.
#[derive(Debug)]
pub struct Uplink {
    pub(super) client: Client,
    pub(super) relayed: Relayed,
}

/// What a peer wants. Frames borrow the bytes that were read, so a payload is copied once, to the
/// tape.
#[derive(Debug)]
pub(super) enum Intent<'a> {
    /// To have a frame recorded that it publishes.
    Frame { lane: u32, frame: MediaFrame<'a> },
    /// The same with several of them in one message.
    Parts(AggregateParts<'a>),
    /// Anything else.
    Wish(Wish),
}

/// What a peer wants apart from having frames recorded.
#[derive(Debug)]
pub(super) enum Wish {
    /// Nothing: it was answered already.
    Nothing,
    /// To go on after the handshake. `c2_matches` is `None` if C2 was not compared.
    HandshakeDone { c2_matches: Option<bool> },
    /// To be let in, to publish or to play.
    Ask(Ask),
    /// The same under a name that the protocol does not allow. The peer has been told.
    NameRefused { error: NameError, asked: Asked },
    /// To end its publish or play.
    Leave { lane: u32 },
    /// To be sent something else of what it plays.
    Tune { lane: u32, tune: Tune },
    /// To be asked for something: the server at the other end has let us in.
    LetIn,
    /// To be sent a stream: the server at the other end takes it.
    TakesStream,
    /// To be left alone: the server at the other end has refused what was asked of it.
    RefusedThere { detail: String },
}

/// What a player changes of its play.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tune {
    /// It pauses, or goes on.
    Pause(bool),
    /// It turns one kind of media on or off.
    Receive(Receive, bool),
}

/// Why a peer cannot be understood any more.
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
    /// The peer of a connection that was accepted by a listener of `protocol`.
    pub(super) fn new(protocol: Protocol, settings: &SessionSettings) -> Self {
        match protocol {
            Protocol::Rtmp => Self::Rtmp(Session::new(settings)),
        }
    }

    /// Consumes `input` up to and including what makes the next intent; `None` when the input is
    /// used up or the peer waits for an answer.
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
        }
    }

    /// The session, if the peer is a client of this server.
    pub const fn session(&self) -> Option<&Session> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::RtmpClient(_) => None,
        }
    }

    const fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::RtmpClient(_) => None,
        }
    }

    /// The other end, if it is a server.
    pub(super) const fn uplink(&self) -> Option<&Uplink> {
        match self {
            Self::Rtmp(_) => None,
            Self::RtmpClient(uplink) => Some(uplink),
        }
    }

    /// Control bytes on their way to the peer.
    pub const fn output(&self) -> &Output {
        match self {
            Self::Rtmp(session) => session.output(),
            Self::RtmpClient(uplink) => uplink.client.output(),
        }
    }

    /// Control bytes on their way to the peer, to take what was written.
    pub(super) const fn output_mut(&mut self) -> &mut Output {
        match self {
            Self::Rtmp(session) => session.output_mut(),
            Self::RtmpClient(uplink) => uplink.client.output_mut(),
        }
    }

    /// Checks that the control bytes that wait are within their bound.
    pub(super) fn check_output(&self, settings: &SessionSettings) -> Result<(), PeerError> {
        match self {
            Self::Rtmp(session) => session.check_output(settings).map_err(PeerError::Session),
            Self::RtmpClient(uplink) => {
                let waiting = uplink.client.output().bytes().len();
                let max = settings.control_bytes_max;
                let overflow = SessionError::ControlOverflow { waiting, max };
                if waiting > max { Err(PeerError::Session(overflow)) } else { Ok(()) }
            }
        }
    }

    /// Memory that it holds in addition to itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Rtmp(session) => session.held_bytes(),
            Self::RtmpClient(uplink) => {
                size_of::<Uplink>() + uplink.client.held_bytes() + uplink.relayed.held_bytes()
            }
        }
    }

    /// The chunk size in which the peer sends (bytes).
    pub(super) const fn chunk_size(&self) -> u32 {
        match self {
            Self::Rtmp(session) => session.inbound().reader().chunk_size(),
            Self::RtmpClient(uplink) => uplink.client.inbound().reader().chunk_size(),
        }
    }

    /// Returns whether a request of the peer waits for its answer.
    pub fn is_asking(&self) -> bool {
        self.session().is_some_and(Session::is_asking)
    }

    /// The application that it was let into.
    pub(super) fn app(&self) -> Option<&AppName> {
        self.session()?.app()
    }

    /// What was tolerated of it so far.
    pub fn tolerated(&self) -> Option<&Tolerated> {
        self.session().map(Session::tolerated)
    }

    /// Notes what was tolerated of its media.
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
        if let Some(session) = self.session_mut() {
            session.play_ended(lane);
        }
    }

    /// Tells a publisher that another one took its stream over.
    pub(super) fn publish_displaced(&mut self, lane: u32) {
        if let Some(session) = self.session_mut() {
            session.publish_displaced(lane);
        }
    }

    /// Tells a publisher that it no longer publishes on a lane, because of what it asked for.
    pub(super) fn publish_ended(&mut self, lane: u32) {
        if let Some(session) = self.session_mut() {
            session.publish_ended(lane);
        }
    }

    /// Tells a publisher or player why it is going to be disconnected.
    pub(super) fn error_status(&mut self, lane: u32, code: &str, description: &str) {
        if let Some(session) = self.session_mut() {
            session.error_status(lane, code, description);
        }
    }

    /// Asks the peer to connect again, to `tc_url` or to where it is. Returns whether it could be
    /// asked.
    pub(super) fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        let session = self.session_mut();
        session.is_some_and(|session| session.request_reconnect(tc_url, description))
    }

    /// Returns whether the peer was asked to connect again.
    pub(super) fn is_to_reconnect(&self) -> bool {
        self.session().is_some_and(Session::is_to_reconnect)
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self, millis: u32) {
        match self {
            Self::Rtmp(session) => session.ping(millis),
            Self::RtmpClient(uplink) => uplink.client.ping(millis),
        }
    }

    /// Gives back what only a publisher needs.
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
