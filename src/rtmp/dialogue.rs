//! The command dialogue of a session: the requests of a peer after the handshake, and the replies.
//!
//! Owns the meaning of every command, and finds the message stream that it refers to. A request
//! that needs a decision is returned as a [`Step`]; every other command is answered here. The
//! dialogue sees one message at a time and never the bytes around it.

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

/// Result of the received bytes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Audio, video or data of a published stream.
    Media(Message<'a>),
    /// Several media messages in one (RTMP 1.0, section 7.1.6).
    Aggregate(AggregateParts<'a>),
    /// A step of the dialogue.
    Step(Step),
}

/// A step of the dialogue that the caller has to decide or to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// A message was answered or applied. The caller only has to call again.
    Handled,
    /// The handshake is complete.
    HandshakeDone {
        /// True if C2 answers S1; `None` if C2 was not checked.
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
    /// The name in a request breaks a rule of the protocol layer. The request is refused, and the
    /// reply is in the output.
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
    /// The player pauses or resumes.
    Pause {
        /// The message stream.
        message_stream_id: u32,
        /// True to pause, false to resume.
        paused: bool,
    },
    /// The player turns one kind of media on or off.
    Receive {
        /// The message stream.
        message_stream_id: u32,
        /// The kind of media.
        media: Receive,
        /// True to receive it.
        on: bool,
    },
}

/// The request whose name was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// `connect`.
    Connect {
        /// The first part of the application. The rest is left out, because it may contain a key
        /// or a password.
        app: Box<[u8]>,
        /// The `flashVer` of the client; empty if there is none.
        flash_ver: Box<[u8]>,
    },
    /// `publish`.
    Publish,
    /// `play`.
    Play,
}

/// The kind of media that a player turns on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// `receiveAudio` (RTMP 1.0, section 7.2.2.4).
    Audio,
    /// `receiveVideo` (RTMP 1.0, section 7.2.2.5).
    Video,
}

/// The kinds of media that a player receives. Both are on at first. A kind that the player turns
/// off stays off for every later play on the message stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receives {
    /// True if the player receives audio; set by `receiveAudio`.
    pub audio: bool,
    /// True if the player receives video; set by `receiveVideo`.
    pub video: bool,
}

impl Receives {
    /// Audio and video.
    pub const ALL: Self = Self { audio: true, video: true };
}

/// A `connect` that waits for its reply (RTMP 1.0, section 7.2.1.1).
#[derive(Debug)]
#[must_use = "a session takes no input until the connect is answered"]
pub struct ConnectRequest(pub(super) Box<ConnectFields>);

/// The fields of a [`ConnectRequest`]. They are boxed, since an event is as large as its largest
/// variant and is moved with each message: inline they cost 3 % of the instructions of an ingested
/// frame.
#[derive(Debug)]
pub(super) struct ConnectFields {
    pub(super) transaction_id: f64,
    pub(super) object_encoding: f64,
    /// True if the peer announces Enhanced RTMP.
    pub(super) is_enhanced: bool,
    pub(super) app: AppName,
    pub(super) reconnect: Reconnect,
    pub(super) login: Option<Login>,
    pub(super) is_encoder: bool,
    pub(super) flash_ver: Box<[u8]>,
}

impl ConnectRequest {
    /// Returns the requested application.
    pub fn app(&self) -> &AppName {
        &self.0.app
    }

    /// Returns the login that the peer added to the application.
    pub fn login(&self) -> Option<&Login> {
        self.0.login.as_ref()
    }

    /// Returns the allocated memory (bytes).
    pub fn held_bytes(&self) -> usize {
        let ConnectFields { app, login, flash_ver, .. } = &*self.0;
        let login = login.as_ref().map_or(0, Login::held_bytes);
        size_of::<ConnectFields>() + app.held_bytes() + login + flash_ver.len()
    }

    /// Returns true if the peer presents itself as an encoder.
    pub fn is_encoder(&self) -> bool {
        self.0.is_encoder
    }

    /// Returns the `flashVer` of the client, cut to [`ENCODER_NAME_BYTES_MAX`]; empty if there is
    /// none.
    pub fn flash_ver(&self) -> &[u8] {
        &self.0.flash_ver
    }
}

/// A `publish` that waits for its reply (RTMP 1.0, section 7.2.2.6).
#[derive(Debug)]
#[must_use = "a session takes no input until the publish is answered"]
pub struct PublishRequest {
    pub(super) message_stream_id: u32,
    /// The stream's canonical name and the query that came with it.
    pub target: StreamTarget,
}

impl PublishRequest {
    /// Returns the id of the message stream that will carry the media.
    pub const fn message_stream_id(&self) -> u32 {
        self.message_stream_id
    }
}

/// A `play` or `play2` that waits for its reply (RTMP 1.0, sections 7.2.2.1 and 7.2.2.2).
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
    /// Returns the id of the message stream that will carry the media.
    pub const fn message_stream_id(&self) -> u32 {
        self.message_stream_id
    }

    /// Returns the kinds of media that the player receives on this message stream.
    pub const fn receives(&self) -> Receives {
        self.receives
    }
}

/// An error that ends a session. The peer causes all of them.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The handshake failed.
    Handshake(HandshakeError),
    /// The chunks or a control message are malformed.
    Link(LinkError),
    /// The `connect` command cannot be decoded.
    BadConnect(CommandError),
    /// The peer sent another command before `connect`.
    NotConnected,
    /// The waiting replies exceed the bound: the peer sends requests and does not read.
    ControlOverflow {
        /// Bytes of the waiting replies.
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
            Self::BadConnect(error) => write!(f, "connect cannot be decoded: {error}"),
            Self::NotConnected => f.write_str("expected connect, got another command"),
            Self::ControlOverflow { waiting, max } => write!(
                f,
                "the peer does not read: {waiting} bytes of replies wait, at most {max} are allowed"
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
    /// A publish or play waits for the caller's decision.
    Asking,
    Publishing,
    Playing,
}

/// State of the reconnect request (Enhanced RTMP v2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reconnect {
    /// The client has not announced that it understands reconnect requests.
    Unsupported,
    /// The client understands reconnect requests.
    Supported,
    /// The client was asked to reconnect.
    Requested,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MessageStream {
    pub(super) id: u32,
    pub(super) role: Role,
    /// True if the peer used the stream without `createStream`. A later `createStream` returns it.
    is_implied: bool,
    receives: Receives,
}

impl MessageStream {
    const fn new(id: u32, is_implied: bool) -> Self {
        Self { id, role: Role::Idle, is_implied, receives: Receives::ALL }
    }
}

const _: () = assert!(size_of::<MessageStream>() == 8);

/// The message streams of one connection. Nearly every connection has at most one, so up to two are
/// stored inline.
pub(super) type MessageStreams = SmallVec<[MessageStream; 2]>;

#[derive(Debug)]
pub(super) enum Phase {
    Handshake(Box<ServerHandshake>),
    Connecting,
    /// A connect waits for the caller's decision.
    Asking,
    Connected(AppName),
}

/// A session without its reader, because the message that is being answered borrows the reader.
pub(super) struct Dialogue<'s> {
    pub(super) phase: &'s mut Phase,
    pub(super) output: &'s mut Output,
    pub(super) streams: &'s mut MessageStreams,
    pub(super) tolerated: &'s mut Tolerated,
    /// Bound of the message streams of one connection.
    pub(super) message_streams_max: usize,
    /// Bound of a stream's canonical name (bytes).
    pub(super) name_bytes_max: usize,
}

impl Dialogue<'_> {
    /// Handles one message that is not a control message.
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
            kind::SHARED_OBJECT_AMF0 | kind::SHARED_OBJECT_AMF3 => self.ignore(Quirk::SharedObject),
            _ => self.ignore(Quirk::UnknownMessage),
        };
        Ok(Event::Step(step))
    }

    /// Assigns media to its message stream. Media on a message stream that does not exist belongs
    /// to the only publishing one, as librtmp's readers do it.
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
            return Event::Step(self.ignore(Quirk::StrayMedia));
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
            Err(_) => return Ok(self.ignore(Quirk::MalformedMessage)),
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

    /// Handles the first `connect`.
    ///
    /// The login is cut off before the application is parsed, because slashes in its base64 would
    /// count as slashes of the stream name. Some clients add the login only to `tcUrl`.
    fn connect(&mut self, transaction_id: f64, connect: &Connect<'_>) -> Step {
        if connect.is_odd {
            self.tolerated.note(Quirk::OddConnect);
        }
        let supports = connect.caps_ex.is_some_and(|bits| bits & caps_ex::RECONNECT != 0);
        let (app, login) = auth::split(connect.app);
        let (tc_url, login_in_url) = connect.tc_url.map(auth::split).unzip();
        let login = login.or_else(|| login_in_url.flatten());
        let flash_ver = connect.flash_ver.unwrap_or_default();
        let flash_ver: Box<[u8]> = flash_ver[..flash_ver.len().min(ENCODER_NAME_BYTES_MAX)].into();
        match AppName::parse(app, tc_url) {
            Ok(name) => {
                *self.phase = Phase::Asking;
                let fields = ConnectFields {
                    transaction_id,
                    object_encoding: connect.object_encoding,
                    is_enhanced: connect.is_enhanced(),
                    app: name,
                    reconnect: if supports { Reconnect::Supported } else { Reconnect::Unsupported },
                    login: login.and_then(|parameters| Login::parse(app, parameters)),
                    is_encoder: connect.is_encoder,
                    flash_ver,
                };
                Step::Connect(ConnectRequest(Box::new(fields)))
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

    /// Refuses a second `connect`: a connection has one application. Its streams continue.
    fn second_connect(&mut self, transaction_id: f64) -> Step {
        let description = "this connection already has an application: open another connection";
        self.output.command(0, |body| {
            reply::connect_error(body, transaction_id, code::CONNECT_REJECTED, description);
        });
        self.ignore(Quirk::UnknownCommand)
    }

    /// Handles commands after `connect`, in any order (RTMP 1.0, sections 7.2.1 and 7.2.2). The FC
    /// commands come from Flash Media Live Encoder.
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
                return self.ignore(Quirk::UnknownCommand);
            }
            _ => {
                self.result_null(txn);
                return self.ignore(Quirk::UnknownCommand);
            }
        }
        Step::Handled
    }

    /// Sends an empty result. Transaction 0 expects none.
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
                reply::call_error(body, txn, &format!("a connection has at most {max} streams"));
            });
            return;
        }
        // The lowest free id, because ffmpeg and many encoders assume that the first one is 1.
        let id = (1..).find(|id| self.streams.iter().all(|stream| stream.id != *id));
        let id = id.unwrap_or(u32::MAX);
        self.streams.push(MessageStream::new(id, false));
        self.output.command(0, |body| reply::create_stream_result(body, txn, id));
    }

    fn named(&self, id: u32) -> Option<MessageStream> {
        self.streams.iter().find(|stream| stream.id == id).copied()
    }

    /// Finds the message stream for a `publish` or `play`: the one that carried the command, or the
    /// last idle one, or the last one. Creates stream 1 if the client has created none.
    fn stream_to_use(&mut self, on: u32) -> MessageStream {
        let idle = || self.streams.iter().rfind(|stream| stream.role == Role::Idle).copied();
        let found = self.named(on).or_else(idle).or_else(|| self.streams.last().copied());
        found.unwrap_or_else(|| {
            let stream = MessageStream::new(1, true);
            self.streams.push(stream);
            stream
        })
    }

    /// Finds the message stream for a command about a running stream: the one that carried the
    /// command, or the only running one, or the only one.
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

    /// Handles `publish`. It replaces an earlier publish or play on its message stream. Refusing it
    /// would disconnect encoders that begin again without `deleteStream`.
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

    /// Handles `play`. It replaces another play on its message stream, but never ends a publish,
    /// because players may be watching it.
    fn play(&mut self, on: u32, key: &[u8], reset: bool, transition: bool) -> Step {
        let stream = self.stream_to_use(on);
        if stream.role == Role::Publishing {
            self.status(stream.id, level::ERROR, code::PLAY_FAILED, "this stream is publishing");
            return self.ignore(Quirk::BusyMessageStream);
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

    /// Handles `closeStream`. The message stream stays, and may publish or play again.
    fn close_stream(&mut self, on: u32) -> Step {
        self.stream_in_use(on).map_or(Step::Handled, |stream| self.end(stream))
    }

    /// Handles `publish(false)` and `play(false)`, with which Flash ends a publish or a play and
    /// keeps the message stream.
    fn stop(&mut self, on: u32, role: Role) -> Step {
        let of_role = |stream: &&MessageStream| stream.role == role;
        let named = self.named(on).as_ref().filter(of_role).copied();
        let stream = named.or_else(|| only(self.streams.iter().filter(of_role)));
        stream.map_or(Step::Handled, |stream| self.end(stream))
    }

    /// Ends the publish or play of a message stream, tells the peer, and keeps the message stream.
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

    /// Handles `deleteStream` (RTMP 1.0, section 7.2.2.3). GStreamer sends the key in place of the
    /// number, and other clients send a wrong number. Then the command refers to the message stream
    /// that carried it, or to the only candidate. With several candidates it deletes none.
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

    /// Handles `receiveAudio` and `receiveVideo`. Only turning a kind on is answered (RTMP 1.0,
    /// sections 7.2.2.4 and 7.2.2.5). A command before a play applies to that play.
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

    /// Handles `seek`. A live stream cannot seek and continues unchanged. The notification is sent
    /// because ffmpeg waits for it.
    fn seek(&mut self, on: u32) {
        if let Some(stream) = self.stream_in_use(on) {
            self.status(stream.id, level::STATUS, code::SEEK_NOTIFY, "A live stream cannot seek");
        }
    }

    fn status(&mut self, id: u32, level: &str, code: &str, description: &str) {
        self.output.command(id, |body| reply::on_status(body, level, code, description));
    }

    /// Counts a quirk and ignores the message.
    fn ignore(&mut self, quirk: Quirk) -> Step {
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

/// Returns the only item, or `None` if there are several.
fn only<'a>(mut streams: impl Iterator<Item = &'a MessageStream>) -> Option<MessageStream> {
    streams.next().filter(|_| streams.next().is_none()).copied()
}

/// Returns true if a key has blanks or slashes around it, which users paste along with it.
fn is_odd_key(key: &[u8]) -> bool {
    matches!(key, [b'/' | b' ' | 0, ..] | [.., b' ' | 0])
}

pub(super) fn set_role(streams: &mut [MessageStream], id: u32, role: Role) {
    if let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) {
        stream.role = role;
    }
}
