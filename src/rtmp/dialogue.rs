//! The dialogue of a session: what a peer may ask once the handshake is done, and what it is told.
//!
//! Owns the meaning of every command and which message stream it is about. What needs a decision
//! leaves as a [`Step`] with the request in it; everything else is answered here. It sees one
//! message at a time and never the bytes around it.

use super::auth::{self, Login};
use super::command::{
    Command, CommandError, CommandMessage, Connect, PublishKind, caps_ex, code, level, reply,
};
use super::handshake::{HandshakeError, ServerHandshake};
use super::link::{LinkError, Output};
use super::message::{AggregateParts, Message, UserControl, kind};
use super::name::{AppName, NameError, StreamTarget};
use super::quirks::{Quirk, Tolerated};
use crate::limits::ENCODER_NAME_BYTES_MAX;
use smallvec::SmallVec;
use std::fmt;

/// What the bytes came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Audio, video or data of a stream that is published.
    Media(Message<'a>),
    /// Several of them in one message (RTMP 1.0, section 7.1.6).
    Aggregate(AggregateParts<'a>),
    /// The dialogue went on; see what it asks for.
    Step(Step),
}

/// A step of the dialogue, which the caller has to know or to decide.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// A message was answered or applied here; there is nothing to do but to call again.
    Handled,
    /// The handshake is complete. `c2_matches` is `None` when C2 was not looked at.
    HandshakeDone {
        /// Whether C2 was what S1 asked for.
        c2_matches: Option<bool>,
    },
    /// Decide with [`accept_connect`](super::session::Session::accept_connect) or
    /// [`reject_connect`](super::session::Session::reject_connect).
    Connect(ConnectRequest),
    /// Decide with [`accept_publish`](super::session::Session::accept_publish) or
    /// [`reject_publish`](super::session::Session::reject_publish).
    Publish(PublishRequest),
    /// Decide with [`accept_play`](super::session::Session::accept_play) or
    /// [`reject_play`](super::session::Session::reject_play).
    Play(PlayRequest),
    /// A name was refused by a rule of the protocol layer, and the peer was told.
    NameRefused {
        /// The rule that the name breaks.
        error: NameError,
        /// The command that was refused.
        asked: Asked,
    },
    /// The peer no longer publishes on this message stream.
    Unpublish {
        /// The message stream.
        message_stream_id: u32,
    },
    /// The peer no longer plays on this message stream.
    Stop {
        /// The message stream.
        message_stream_id: u32,
    },
    /// The player pauses or goes on.
    Pause {
        /// The message stream.
        message_stream_id: u32,
        /// True to pause, false to go on.
        paused: bool,
    },
    /// The player turns one kind of media on or off.
    Receive {
        /// The message stream.
        message_stream_id: u32,
        /// Which kind.
        media: Receive,
        /// True to receive it.
        on: bool,
    },
}

/// The command with a name that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// `connect`.
    Connect {
        /// The first part of the application: what follows it may be a key or a password.
        app: Box<[u8]>,
        /// The name that the client gives itself; empty if it gives none.
        flash_ver: Box<[u8]>,
    },
    /// `publish`.
    Publish,
    /// `play`.
    Play,
}

/// The kinds that `receiveAudio` and `receiveVideo` name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// `receiveAudio` (RTMP 1.0, section 7.2.2.4).
    Audio,
    /// `receiveVideo` (RTMP 1.0, section 7.2.2.5).
    Video,
}

/// What a player receives. Both are on until the player turns one off; what it turns off stays off
/// for every play on the message stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receives {
    /// Set by `receiveAudio`.
    pub audio: bool,
    /// Set by `receiveVideo`.
    pub video: bool,
}

impl Receives {
    /// Audio and video.
    pub const ALL: Self = Self { audio: true, video: true };
}

/// A `connect` that waits for its answer (RTMP 1.0, section 7.2.1.1).
#[derive(Debug)]
#[must_use = "a session takes no input until the connect is answered"]
pub struct ConnectRequest {
    pub(super) transaction_id: f64,
    pub(super) object_encoding: f64,
    /// Whether the peer says that it speaks Enhanced RTMP.
    pub(super) is_enhanced: bool,
    pub(super) app: AppName,
    pub(super) reconnect: Reconnect,
    pub(super) login: Option<Login>,
    pub(super) is_encoder: bool,
    pub(super) flash_ver: Box<[u8]>,
}

impl ConnectRequest {
    /// The application that the peer asks for.
    pub const fn app(&self) -> &AppName {
        &self.app
    }

    /// What the peer added to the application in order to log in.
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Memory that it holds in addition to itself (bytes).
    pub fn held_bytes(&self) -> usize {
        let login = self.login.as_ref().map_or(0, Login::held_bytes);
        self.app.held_bytes() + login + self.flash_ver.len()
    }

    /// Whether the peer says that it is an encoder.
    pub const fn is_encoder(&self) -> bool {
        self.is_encoder
    }

    /// The name that the client gives itself, cut to [`ENCODER_NAME_BYTES_MAX`]; empty if it gives
    /// none.
    pub fn flash_ver(&self) -> &[u8] {
        &self.flash_ver
    }
}

/// A `publish` that waits for its answer (RTMP 1.0, section 7.2.2.6).
#[derive(Debug)]
#[must_use = "a session takes no input until the publish is answered"]
pub struct PublishRequest {
    pub(super) message_stream_id: u32,
    /// The stream's canonical name and the query that came with it.
    pub target: StreamTarget,
}

impl PublishRequest {
    /// The message stream that is to carry the media.
    pub const fn message_stream_id(&self) -> u32 {
        self.message_stream_id
    }
}

/// A `play` or `play2` that waits for its answer (RTMP 1.0, sections 7.2.2.1 and 7.2.2.2).
#[derive(Debug)]
#[must_use = "a session takes no input until the play is answered"]
pub struct PlayRequest {
    pub(super) message_stream_id: u32,
    pub(super) reset: bool,
    pub(super) transition: bool,
    pub(super) receives: Receives,
    /// The stream's canonical name and the query that came with it.
    pub target: StreamTarget,
}

impl PlayRequest {
    /// The message stream that is to carry the media.
    pub const fn message_stream_id(&self) -> u32 {
        self.message_stream_id
    }

    /// What the player has asked to receive on that message stream.
    pub const fn receives(&self) -> Receives {
        self.receives
    }
}

/// Why a session cannot go on. All of it is the peer's doing.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The handshake.
    Handshake(HandshakeError),
    /// The chunk stream or a control message.
    Link(LinkError),
    /// A `connect` that cannot be read.
    BadConnect(CommandError),
    /// Another command before `connect`.
    NotConnected,
    /// Replies wait beyond the bound: the peer asks and does not read.
    ControlOverflow {
        /// Bytes that wait.
        waiting: usize,
        /// The bound.
        max: usize,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::BadConnect(error) => write!(f, "connect cannot be read: {error}"),
            Self::NotConnected => f.write_str("expected connect, got another command"),
            Self::ControlOverflow { waiting, max } => write!(
                f,
                "{waiting} bytes of replies wait for a peer that does not read, at most {max} may"
            ),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<LinkError> for SessionError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Idle,
    /// A publish or play waits for its answer.
    Asking,
    Publishing,
    Playing,
}

/// What may be said to a client about connecting anew (Enhanced RTMP v2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reconnect {
    /// Nothing: it has not said that it understands.
    Unheard,
    /// It has.
    Understood,
    /// It was asked to.
    Asked,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MessageStream {
    pub(super) id: u32,
    pub(super) role: Role,
    /// Whether the peer used it without asking for it. A `createStream` that comes later means it.
    is_implied: bool,
    receives: Receives,
}

impl MessageStream {
    const fn new(id: u32, is_implied: bool) -> Self {
        Self { id, role: Role::Idle, is_implied, receives: Receives::ALL }
    }
}

const _: () = assert!(size_of::<MessageStream>() == 8);

/// Those of one connection. Nearly every one creates one at most, and has it within itself.
pub(super) type MessageStreams = SmallVec<[MessageStream; 2]>;

#[derive(Debug)]
pub(super) enum Phase {
    Handshake(Box<ServerHandshake>),
    Connecting,
    /// The connect waits for its answer.
    Asking,
    Connected(AppName),
}

/// A session without its reader, which still lends out the message that is being answered.
pub(super) struct Dialogue<'s> {
    pub(super) phase: &'s mut Phase,
    pub(super) output: &'s mut Output,
    pub(super) streams: &'s mut MessageStreams,
    pub(super) tolerated: &'s mut Tolerated,
    /// Message streams of one connection.
    pub(super) message_streams_max: usize,
    /// Bound of a stream's canonical name (bytes).
    pub(super) name_bytes_max: usize,
}

impl Dialogue<'_> {
    /// Takes one message that is no control message.
    pub(super) fn message<'a>(&mut self, message: Message<'a>) -> Result<Event<'a>, SessionError> {
        let on = message.header.message_stream_id;
        let step = match message.header.kind {
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => {
                match (message.header.kind, message.payload.first()) {
                    (kind::COMMAND_AMF3, Some(0)) => {}
                    (kind::COMMAND_AMF3, _) => self.tolerated.note(Quirk::FormatByteOmitted),
                    (_, Some(0)) => self.tolerated.note(Quirk::FormatByteAdded),
                    _ => {}
                }
                self.command(on, CommandMessage::decode(message.payload))?
            }
            kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3 | kind::AGGREGATE => {
                return Ok(self.media(message));
            }
            kind::SHARED_OBJECT_AMF0 | kind::SHARED_OBJECT_AMF3 => self.pass(Quirk::SharedObject),
            _ => self.pass(Quirk::UnknownMessage),
        };
        Ok(Event::Step(step))
    }

    /// Media belongs to the message stream it came on; media on a stream id that does not
    /// exist belongs to the only publisher, as librtmp's readers have it.
    fn media<'a>(&mut self, mut message: Message<'a>) -> Event<'a> {
        let mut publishing = self.streams.iter().filter(|s| s.role == Role::Publishing);
        let id = message.header.message_stream_id;
        let known = self.streams.iter().any(|stream| stream.id == id);
        let owner = if known {
            publishing.find(|stream| stream.id == id)
        } else {
            publishing.next().filter(|_| publishing.next().is_none())
        };
        let Some(owner) = owner else {
            return Event::Step(self.pass(Quirk::StrayMedia));
        };
        if !known {
            self.tolerated.note(Quirk::MisplacedMedia);
        }
        message.header.message_stream_id = owner.id;
        match message.header.kind {
            kind::AGGREGATE => Event::Aggregate(AggregateParts::new(message)),
            _ => Event::Media(message),
        }
    }

    fn command(
        &mut self,
        on: u32,
        command: Result<CommandMessage<'_>, CommandError>,
    ) -> Result<Step, SessionError> {
        let command = match command {
            Ok(command) => command,
            Err(error) if matches!(self.phase, Phase::Connecting) => {
                return Err(SessionError::BadConnect(error));
            }
            Err(_) => return Ok(self.pass(Quirk::MalformedMessage)),
        };
        match (&*self.phase, command.command) {
            (Phase::Connecting, Command::Connect(connect)) => {
                Ok(self.connect(command.transaction_id, &connect))
            }
            (Phase::Connecting, _) => Err(SessionError::NotConnected),
            (_, Command::Connect(_)) => Ok(self.second_connect(command.transaction_id)),
            (_, inner) => Ok(self.connected(on, command.transaction_id, inner)),
        }
    }

    /// A login is cut off before the application is read: the slashes of its base64 would take
    /// part in finding the name of the stream. Some clients add it to the URL alone.
    fn connect(&mut self, transaction_id: f64, connect: &Connect<'_>) -> Step {
        if connect.is_odd {
            self.tolerated.note(Quirk::OddConnect);
        }
        let understands = connect.caps_ex.is_some_and(|bits| bits & caps_ex::RECONNECT != 0);
        let (app, login) = auth::split(connect.app);
        let (tc_url, login_in_url) = connect.tc_url.map(auth::split).unzip();
        let login = login.or_else(|| login_in_url.flatten());
        let flash_ver = connect.flash_ver.unwrap_or_default();
        let flash_ver: Box<[u8]> = flash_ver[..flash_ver.len().min(ENCODER_NAME_BYTES_MAX)].into();
        match AppName::parse(app, tc_url) {
            Ok(name) => {
                *self.phase = Phase::Asking;
                Step::Connect(ConnectRequest {
                    transaction_id,
                    object_encoding: connect.object_encoding,
                    is_enhanced: connect.is_enhanced(),
                    app: name,
                    reconnect: if understands { Reconnect::Understood } else { Reconnect::Unheard },
                    login: login.and_then(|parameters| Login::parse(app, parameters)),
                    is_encoder: connect.is_encoder,
                    flash_ver,
                })
            }
            Err(error) => {
                let (code, description) = (code::CONNECT_INVALID_APP, error.to_string());
                self.output.command(0, |body| {
                    reply::connect_error(body, transaction_id, code, &description);
                });
                let mut parts = app.split(|byte| b"/?&=;% ".contains(byte));
                let part = parts.find(|part| !part.is_empty()).unwrap_or_default();
                let app = part[..part.len().min(ENCODER_NAME_BYTES_MAX)].into();
                Step::NameRefused { error, asked: Asked::Connect { app, flash_ver } }
            }
        }
    }

    /// A connection has one application: a second `connect` is refused, and its streams go on.
    fn second_connect(&mut self, transaction_id: f64) -> Step {
        let description = "this connection is connected already: open another one";
        self.output.command(0, |body| {
            reply::connect_error(body, transaction_id, code::CONNECT_REJECTED, description);
        });
        self.pass(Quirk::UnknownCommand)
    }

    /// Commands after `connect`, in whatever order the client sends them (RTMP 1.0, sections
    /// 7.2.1 and 7.2.2; the FC commands are Flash Media Live Encoder's).
    fn connected(&mut self, on: u32, txn: f64, command: Command<'_>) -> Step {
        match command {
            Command::CreateStream => self.create_stream(txn),
            Command::Publish { key, kind } => return self.publish(on, key, kind),
            Command::StopPublishing => return self.stop(on, Role::Publishing),
            Command::Play { key, reset, .. } => {
                return self.play(on, key, reset == Some(true), false);
            }
            Command::StopPlaying => return self.stop(on, Role::Playing),
            Command::Play2 { key, .. } if !key.is_empty() => {
                return self.play(on, key, false, true);
            }
            Command::CloseStream => return self.close_stream(on),
            Command::DeleteStream { message_stream_id } => {
                return self.delete_stream(on, message_stream_id);
            }
            Command::Pause { paused, .. } => return self.pause(on, paused, true),
            Command::PauseRaw { paused, .. } => return self.pause(on, paused, false),
            Command::ReceiveAudio { on: receive } => {
                return self.receive(on, Receive::Audio, receive);
            }
            Command::ReceiveVideo { on: receive } => {
                return self.receive(on, Receive::Video, receive);
            }
            Command::Seek { .. } => self.seek(on),
            Command::ReleaseStream { .. } | Command::CheckBandwidth => self.result_null(txn),
            Command::FcPublish { key } => {
                self.result_null(txn);
                self.output.command(0, |body| reply::on_fc_publish(body, txn, key));
            }
            Command::FcUnpublish { key } => {
                self.result_null(txn);
                self.output.command(0, |body| reply::on_fc_unpublish(body, txn, key));
            }
            Command::FcSubscribe { key } => {
                self.output.command(0, |body| reply::on_fc_subscribe(body, txn, key));
            }
            Command::FcUnsubscribe { key } => {
                self.output.command(0, |body| reply::on_fc_unsubscribe(body, txn, key));
            }
            Command::GetStreamLength { .. } => {
                self.output.command(0, |body| reply::get_stream_length_result(body, txn));
            }
            Command::Result { .. } | Command::Error(_) | Command::OnStatus(_) => {
                return self.pass(Quirk::UnknownCommand);
            }
            _ => {
                self.result_null(txn);
                return self.pass(Quirk::UnknownCommand);
            }
        }
        Step::Handled
    }

    /// An empty result for a call that only wants one; transaction 0 wants none.
    fn result_null(&mut self, txn: f64) {
        if txn != 0.0 {
            self.output.command(0, |body| reply::result_null(body, txn));
        }
    }

    fn create_stream(&mut self, txn: f64) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.is_implied) {
            stream.is_implied = false;
            let id = stream.id;
            return self.output.command(0, |body| reply::create_stream_result(body, txn, id));
        }
        if self.streams.len() >= self.message_streams_max {
            let max = self.message_streams_max;
            self.output.command(0, |body| {
                reply::call_error(body, txn, &format!("a connection has {max} streams at most"));
            });
            return;
        }
        // The lowest free id: ffmpeg and many encoders take 1 for granted.
        let id = (1..).find(|id| self.streams.iter().all(|stream| stream.id != *id));
        let id = id.unwrap_or(u32::MAX);
        self.streams.push(MessageStream::new(id, false));
        self.output.command(0, |body| reply::create_stream_result(body, txn, id));
    }

    fn named(&self, id: u32) -> Option<MessageStream> {
        self.streams.iter().find(|stream| stream.id == id).copied()
    }

    /// The stream that a `publish` or `play` means: the one it came on, or else the one created
    /// last, of those that are idle if there is one. A client that never created one means 1.
    fn stream_to_use(&mut self, on: u32) -> MessageStream {
        let idle = || self.streams.iter().rfind(|stream| stream.role == Role::Idle).copied();
        let found = self.named(on).or_else(idle).or_else(|| self.streams.last().copied());
        found.unwrap_or_else(|| {
            let stream = MessageStream::new(1, true);
            self.streams.push(stream);
            stream
        })
    }

    /// The stream that a command about a running stream means: the one it came on, or else the
    /// only one that runs, or the only one there is.
    fn stream_in_use(&self, on: u32) -> Option<MessageStream> {
        let runs = |stream: &&MessageStream| stream.role != Role::Idle;
        self.named(on)
            .or_else(|| only(self.streams.iter().filter(runs)))
            .or_else(|| only(self.streams.iter()))
    }

    fn target(&mut self, key: &[u8]) -> Result<StreamTarget, NameError> {
        if is_odd_key(key) {
            self.tolerated.note(Quirk::OddKey);
        }
        let Phase::Connected(app) = &*self.phase else { return Err(NameError::Empty) };
        let target = app.stream(key)?;
        let bytes_max = self.name_bytes_max;
        if target.name.len() > bytes_max {
            return Err(NameError::NameTooLong { bytes_max });
        }
        Ok(target)
    }

    /// A `publish` replaces the earlier publish or play of its message stream. Refusing it would
    /// close connections of encoders that begin again without `deleteStream`.
    fn publish(&mut self, on: u32, key: &[u8], kind: Option<PublishKind>) -> Step {
        if kind.is_none() {
            self.tolerated.note(Quirk::KindOmitted);
        }
        let stream = self.stream_to_use(on);
        if stream.role != Role::Idle {
            self.tolerated.note(Quirk::BusyMessageStream);
        }
        match self.target(key) {
            Ok(target) => {
                set_role(self.streams, stream.id, Role::Asking);
                Step::Publish(PublishRequest { message_stream_id: stream.id, target })
            }
            Err(error) => {
                self.status(stream.id, level::ERROR, code::PUBLISH_BAD_NAME, &error.to_string());
                Step::NameRefused { error, asked: Asked::Publish }
            }
        }
    }

    /// A `play` takes the place of another one, but ends no publish, which others may be watching.
    fn play(&mut self, on: u32, key: &[u8], reset: bool, transition: bool) -> Step {
        let stream = self.stream_to_use(on);
        if stream.role == Role::Publishing {
            self.status(stream.id, level::ERROR, code::PLAY_FAILED, "this stream is publishing");
            return self.pass(Quirk::BusyMessageStream);
        }
        match self.target(key) {
            Ok(target) => {
                let MessageStream { id: message_stream_id, receives, .. } = stream;
                set_role(self.streams, message_stream_id, Role::Asking);
                Step::Play(PlayRequest { message_stream_id, reset, transition, receives, target })
            }
            Err(error) => {
                self.status(
                    stream.id,
                    level::ERROR,
                    code::PLAY_STREAM_NOT_FOUND,
                    &error.to_string(),
                );
                Step::NameRefused { error, asked: Asked::Play }
            }
        }
    }

    /// `closeStream`: the message stream stays and may be published or played again.
    fn close_stream(&mut self, on: u32) -> Step {
        self.stream_in_use(on).map_or(Step::Handled, |stream| self.end(stream))
    }

    /// `publish(false)` and `play(false)`: Flash's way to end what `role` says and keep the
    /// message stream.
    fn stop(&mut self, on: u32, role: Role) -> Step {
        let of_role = |stream: &&MessageStream| stream.role == role;
        let named = self.named(on).as_ref().filter(of_role).copied();
        let stream = named.or_else(|| only(self.streams.iter().filter(of_role)));
        stream.map_or(Step::Handled, |stream| self.end(stream))
    }

    /// Ends what goes on in a message stream, tells the peer, and keeps the message stream.
    fn end(&mut self, stream: MessageStream) -> Step {
        set_role(self.streams, stream.id, Role::Idle);
        let (code, description) = match stream.role {
            Role::Publishing => (code::UNPUBLISH_SUCCESS, "Stopped publishing"),
            Role::Playing => (code::PLAY_STOP, "Stopped playing"),
            Role::Idle | Role::Asking => return Step::Handled,
        };
        self.status(stream.id, level::STATUS, code, description);
        ended(stream)
    }

    /// `deleteStream` (RTMP 1.0, section 7.2.2.3). GStreamer sends the key in place of the number,
    /// and other clients a wrong number. In that case the command means the message stream that it
    /// came on, or the only candidate. With several candidates it deletes none.
    fn delete_stream(&mut self, on: u32, id: Option<u32>) -> Step {
        let named = id.and_then(|id| self.named(id));
        if named.is_none() {
            self.tolerated.note(Quirk::DeleteOfUnknown);
        }
        let Some(stream) = named.or_else(|| self.stream_in_use(on)) else { return Step::Handled };
        self.streams.retain(|other| other.id != stream.id);
        ended(stream)
    }

    fn pause(&mut self, on: u32, paused: bool, answer: bool) -> Step {
        let Some(MessageStream { id, role: Role::Playing, .. }) = self.stream_in_use(on) else {
            return Step::Handled;
        };
        if !answer {
            return Step::Pause { message_stream_id: id, paused };
        }
        if paused {
            self.status(id, level::STATUS, code::PAUSE_NOTIFY, "Paused");
            self.output.user_control(UserControl::StreamEof(id));
        } else {
            self.status(id, level::STATUS, code::UNPAUSE_NOTIFY, "Playing again");
            self.output.user_control(UserControl::StreamBegin(id));
        }
        Step::Pause { message_stream_id: id, paused }
    }

    /// `receiveAudio` and `receiveVideo`: turning a kind on is answered, off is not (RTMP 1.0,
    /// sections 7.2.2.4 and 7.2.2.5). Before a play it holds for that.
    fn receive(&mut self, on: u32, media: Receive, receive: bool) -> Step {
        let Some(MessageStream { id, role, .. }) = self.stream_in_use(on) else {
            return Step::Handled;
        };
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            match media {
                Receive::Audio => stream.receives.audio = receive,
                Receive::Video => stream.receives.video = receive,
            }
        }
        if role != Role::Playing {
            return Step::Handled;
        }
        if receive {
            self.status(id, level::STATUS, code::SEEK_NOTIFY, "Receiving again");
            self.status(id, level::STATUS, code::PLAY_START, "Start playing");
        }
        Step::Receive { message_stream_id: id, media, on: receive }
    }

    /// A live stream cannot be sought; it goes on where it is, and ffmpeg, which waits for the
    /// notification, with it.
    fn seek(&mut self, on: u32) {
        if let Some(stream) = self.stream_in_use(on) {
            self.status(stream.id, level::STATUS, code::SEEK_NOTIFY, "A live stream plays on");
        }
    }

    fn status(&mut self, id: u32, level: &str, code: &str, description: &str) {
        self.output.command(id, |body| reply::on_status(body, level, code, description));
    }

    /// Passes over what is tolerated.
    fn pass(&mut self, quirk: Quirk) -> Step {
        self.tolerated.note(quirk);
        Step::Handled
    }
}

const fn ended(stream: MessageStream) -> Step {
    match stream.role {
        Role::Publishing => Step::Unpublish { message_stream_id: stream.id },
        Role::Playing => Step::Stop { message_stream_id: stream.id },
        Role::Idle | Role::Asking => Step::Handled,
    }
}

/// The one that there is; none if there are more.
fn only<'a>(mut streams: impl Iterator<Item = &'a MessageStream>) -> Option<MessageStream> {
    streams.next().filter(|_| streams.next().is_none()).copied()
}

/// Whether a key has around it what users paste along with it.
fn is_odd_key(key: &[u8]) -> bool {
    matches!(key, [b'/' | b' ' | 0, ..] | [.., b' ' | 0])
}

pub(super) fn set_role(streams: &mut [MessageStream], id: u32, role: Role) {
    if let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) {
        stream.role = role;
    }
}
