//! The server's side of one connection: handshake, command dialogue, media events.
//!
//! Owns the state of the protocol and the bytes of its replies. It decides nothing that is
//! policy: a connect, publish or play is a [`Step`] that the caller answers with a call
//! before the next byte is read. It keeps no copy of media: a message lies in the caller's
//! input or in the reader's assembly buffer.
//!
//! ```text
//!            C2 read              accept_connect
//! Handshake ─────────▶ Connecting ──────────────▶ Connected
//!                          │ reject_connect           │ a message stream is Idle, Publishing
//!                          ▼                          ▼ or Playing (RTMP 1.0, section 7.2.2)
//!                       (closed by the caller)
//! ```

use super::auth::{self, Login};
use super::chunk_read::ReadLimits;
use super::command::{
    Command, CommandError, CommandMessage, Connect, PublishKind, caps_ex, code, reply,
};
use super::handshake::{C2Check, HandshakeError, Hello, ServerHandshake};
use super::link::{Inbound, Incoming, LinkError, Output};
use super::message::{AggregateParts, BandwidthLimit, Control, Message, UserControl, kind};
use super::name::{AppName, NameError, StreamTarget};
use super::quirks::{Quirk, Tolerated};
use crate::limits;
use std::fmt;
use std::rc::Rc;

/// What the server does of Enhanced RTMP v2 beyond codecs: it asks to reconnect, and passes several
/// tracks, modifiers and nanoseconds through as they came.
const CAPS_EX: u32 =
    caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX | caps_ex::TIMESTAMP_NANO_OFFSET;

/// What every session of a server shares; passed to each call, so that a session holds no copy
/// and a change reaches all of them at once.
#[derive(Debug)]
pub struct SessionSettings {
    /// The server's words in the handshake.
    pub hello: Rc<Hello>,
    /// What C2 must be.
    pub c2_check: C2Check,
    /// Bounds while nothing is published on the connection.
    pub limits_before_publish: ReadLimits,
    /// Bounds of a publisher.
    pub limits_publishing: ReadLimits,
    /// Bound of the replies that wait for a peer that does not read (bytes).
    pub control_bytes_max: usize,
    /// Message streams of one connection.
    pub message_streams_max: usize,
    /// Outgoing chunk size.
    pub chunk_size: u32,
    /// The window that the peer is asked to acknowledge (bytes).
    pub window_ack_bytes: u32,
    /// Bound of a stream's canonical name (bytes); at most [`limits::NAME_BYTES_MAX`].
    pub name_bytes_max: usize,
}

impl SessionSettings {
    /// The defaults of [`limits`].
    pub fn new(hello: Hello) -> Self {
        Self {
            hello: Rc::new(hello),
            c2_check: C2Check::Log,
            limits_before_publish: ReadLimits::before_publish(),
            limits_publishing: ReadLimits::default(),
            control_bytes_max: limits::CONTROL_BYTES_MAX,
            message_streams_max: limits::MESSAGE_STREAMS_MAX,
            chunk_size: limits::CHUNK_SIZE_OUT,
            window_ack_bytes: limits::WINDOW_ACK_BYTES,
            name_bytes_max: limits::NAME_BYTES_MAX,
        }
    }
}

/// What the bytes came to.
#[derive(Debug)]
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
pub enum Step {
    /// A message was answered or applied here; there is nothing to do but to call again.
    Handled,
    /// The handshake is complete. `c2_matches` is `None` when C2 was not looked at.
    HandshakeDone {
        /// Whether C2 was what S1 asked for.
        c2_matches: Option<bool>,
    },
    /// Decide with [`Session::accept_connect`] or [`Session::reject_connect`].
    Connect(ConnectRequest),
    /// Decide with [`Session::accept_publish`] or [`Session::reject_publish`].
    Publish(PublishRequest),
    /// Decide with [`Session::accept_play`] or [`Session::reject_play`].
    Play(PlayRequest),
    /// A name was refused by a rule of the protocol layer, and the peer was told.
    NameRefused(NameError),
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

/// The kinds that `receiveAudio` and `receiveVideo` name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// `receiveAudio` (RTMP 1.0, section 7.2.2.4).
    Audio,
    /// `receiveVideo` (RTMP 1.0, section 7.2.2.5).
    Video,
}

/// A `connect` that waits for its answer (RTMP 1.0, section 7.2.1.1).
#[derive(Debug)]
#[must_use = "a connect is answered before the next byte is read"]
pub struct ConnectRequest {
    transaction_id: f64,
    object_encoding: f64,
    /// Whether the peer says that it speaks Enhanced RTMP.
    is_enhanced: bool,
    app: AppName,
    reconnect: Reconnect,
    login: Option<Login>,
    is_encoder: bool,
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

    /// Whether the peer says that it is an encoder.
    pub const fn is_encoder(&self) -> bool {
        self.is_encoder
    }
}

/// A `publish` that waits for its answer (RTMP 1.0, section 7.2.2.6).
#[derive(Debug)]
#[must_use = "a publish is answered before the next byte is read"]
pub struct PublishRequest {
    message_stream_id: u32,
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
#[must_use = "a play is answered before the next byte is read"]
pub struct PlayRequest {
    message_stream_id: u32,
    reset: bool,
    transition: bool,
    /// The stream's canonical name and the query that came with it.
    pub target: StreamTarget,
}

impl PlayRequest {
    /// The message stream that is to carry the media.
    pub const fn message_stream_id(&self) -> u32 {
        self.message_stream_id
    }
}

/// Why a session cannot go on. All of it is the peer's doing.
#[derive(Debug)]
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
enum Role {
    Idle,
    Publishing,
    Playing,
}

/// What may be said to a client about connecting anew (Enhanced RTMP v2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reconnect {
    /// Nothing: it has not said that it understands.
    Unheard,
    /// It has.
    Understood,
    /// It was asked to.
    Asked,
}

#[derive(Clone, Copy, Debug)]
struct MessageStream {
    id: u32,
    role: Role,
}

#[derive(Debug)]
enum Phase {
    Handshake(Box<ServerHandshake>),
    Connecting,
    Connected(AppName),
}

/// The server's side of one connection. See the module's head for its states.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    inbound: Inbound,
    output: Output,
    /// Grown one by one: nearly every connection creates one at most.
    streams: Vec<MessageStream>,
    tolerated: Tolerated,
    reconnect: Reconnect,
}

impl Session {
    /// A session before its first byte.
    pub fn new(settings: &SessionSettings) -> Self {
        Self {
            phase: Phase::Handshake(Box::new(ServerHandshake::new())),
            inbound: Inbound::new(settings.window_ack_bytes),
            output: Output::default(),
            streams: Vec::new(),
            tolerated: Tolerated::default(),
            reconnect: Reconnect::Unheard,
        }
    }

    /// Consumes `input` up to and including what makes the next event; `None` when it is used
    /// up, however the bytes were cut. After an error the session is of no more use.
    pub fn next_event<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        settings: &SessionSettings,
    ) -> Result<Option<Event<'s>>, SessionError> {
        if let Phase::Handshake(handshake) = &mut self.phase {
            let done = handshake
                .advance(input, &settings.hello, settings.c2_check, self.output.raw())
                .map_err(SessionError::Handshake)?;
            return Ok(done.map(|done| {
                self.phase = Phase::Connecting;
                if done.c2_matches == Some(false) {
                    self.tolerated.note(Quirk::C2Mismatch);
                }
                Event::Step(Step::HandshakeDone { c2_matches: done.c2_matches })
            }));
        }
        self.check_output(settings)?;
        let limits = if publishes(&self.streams) {
            &settings.limits_publishing
        } else {
            &settings.limits_before_publish
        };
        let incoming = self.inbound.next(input, limits, &mut self.output, &mut self.tolerated)?;
        let message = match incoming {
            Some(Incoming::Message(message)) => message,
            Some(_) => return Ok(Some(Event::Step(Step::Handled))),
            None => return Ok(None),
        };
        let mut dialogue = Dialogue {
            phase: &mut self.phase,
            output: &mut self.output,
            streams: &mut self.streams,
            tolerated: &mut self.tolerated,
            settings,
        };
        dialogue.message(message).map(Some)
    }

    /// Replies on their way to the peer.
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// Replies on their way to the peer, to take what was written.
    pub const fn output_mut(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether what waits for the peer keeps to its bound. [`Session::next_event`] looks by
    /// itself; it is for whoever tells the peer what it did not ask for.
    pub fn check_output(&self, settings: &SessionSettings) -> Result<(), SessionError> {
        let (waiting, max) = (self.output.bytes().len(), settings.control_bytes_max);
        if waiting > max { Err(SessionError::ControlOverflow { waiting, max }) } else { Ok(()) }
    }

    /// What was tolerated so far.
    pub const fn tolerated(&self) -> &Tolerated {
        &self.tolerated
    }

    /// Notes what the caller tolerates of the peer's media, which a session does not look into.
    pub fn tolerate(&mut self, quirk: Quirk) {
        self.tolerated.note(quirk);
    }

    /// The receiving side, for its accounting.
    pub const fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// Accepts a connect: window, bandwidth and chunk size go before the result, which is
    /// longer than an initial chunk.
    pub fn accept_connect(&mut self, request: ConnectRequest, settings: &SessionSettings) {
        let ConnectRequest { transaction_id, object_encoding, is_enhanced, app, reconnect, .. } =
            request;
        self.phase = Phase::Connected(app);
        self.reconnect = reconnect;
        self.output.control(Control::WindowAckSize(settings.window_ack_bytes));
        self.output.control(Control::SetPeerBandwidth {
            window: settings.window_ack_bytes,
            limit: BandwidthLimit::Dynamic,
        });
        self.output.set_chunk_size(settings.chunk_size);
        self.output.command(0, |body| {
            if is_enhanced {
                reply::connect_result_enhanced(body, transaction_id, object_encoding, CAPS_EX);
            } else {
                reply::connect_result(body, transaction_id, object_encoding);
            }
        });
    }

    /// Refuses a connect. The caller closes once this is written.
    pub fn reject_connect(&mut self, request: &ConnectRequest, code: &str, description: &str) {
        self.output.command(0, |body| {
            reply::connect_error(body, request.transaction_id, code, description);
        });
    }

    /// Accepts a publish: media of this message stream comes as [`Event::Media`] from here on.
    pub fn accept_publish(&mut self, request: &PublishRequest) {
        let id = request.message_stream_id;
        set_role(&mut self.streams, id, Role::Publishing);
        self.output.user_control(UserControl::StreamBegin(id));
        self.status(id, code::PUBLISH_START, "Start publishing");
    }

    /// Refuses a publish; the message stream stays idle.
    pub fn reject_publish(&mut self, request: &PublishRequest, code: &str, description: &str) {
        self.error_status(request.message_stream_id, code, description);
    }

    /// Accepts a play. Media may follow these replies and not come before them.
    pub fn accept_play(&mut self, request: &PlayRequest) {
        let id = request.message_stream_id;
        set_role(&mut self.streams, id, Role::Playing);
        self.output.user_control(UserControl::StreamBegin(id));
        if request.transition {
            self.status(id, code::PLAY_TRANSITION, "Changing to another stream");
        }
        if request.reset {
            self.status(id, code::PLAY_RESET, "Playing and resetting");
        }
        self.status(id, code::PLAY_START, "Start playing");
        self.output.data(id, reply::sample_access);
    }

    /// Refuses a play; the message stream stays idle.
    pub fn reject_play(&mut self, request: &PlayRequest, code: &str, description: &str) {
        self.error_status(request.message_stream_id, code, description);
    }

    /// Tells a player that its stream has begun.
    pub fn play_began(&mut self, message_stream_id: u32) {
        self.output.user_control(UserControl::StreamBegin(message_stream_id));
        self.status(message_stream_id, code::PLAY_PUBLISH_NOTIFY, "The stream is published");
    }

    /// Tells a player that its stream is over. ffmpeg, VLC and rtmpdump end at the status,
    /// GStreamer at StreamEOF; so both are sent.
    pub fn play_ended(&mut self, message_stream_id: u32) {
        self.status(message_stream_id, code::PLAY_UNPUBLISH_NOTIFY, "The stream is over");
        self.output.user_control(UserControl::StreamEof(message_stream_id));
    }

    /// Tells a publisher that another one took its stream over; it no longer publishes.
    pub fn publish_displaced(&mut self, message_stream_id: u32) {
        set_role(&mut self.streams, message_stream_id, Role::Idle);
        self.error_status(message_stream_id, code::PUBLISH_BAD_NAME, "another publisher took over");
    }

    /// Tells a publisher or a player why it is going to be disconnected.
    pub fn error_status(&mut self, message_stream_id: u32, code: &str, description: &str) {
        self.output.command(message_stream_id, |body| {
            reply::on_status(body, "error", code, description);
        });
    }

    /// Asks the peer to connect anew, to `tc_url` or to where it is, and says whether it could be
    /// asked: only a client whose `capsEx` says so understands (Enhanced RTMP v2). It goes on
    /// here until the new connection stands, and leaves by itself.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        if self.reconnect == Reconnect::Unheard {
            return false;
        }
        self.reconnect = Reconnect::Asked;
        self.output.command(0, |body| reply::reconnect_request(body, tc_url, description));
        true
    }

    /// Whether the peer was asked to connect anew.
    pub fn is_to_reconnect(&self) -> bool {
        self.reconnect == Reconnect::Asked
    }

    /// Asks the peer for a sign of life (RTMP 1.0, section 7.1.7).
    pub fn ping(&mut self, millis: u32) {
        self.output.user_control(UserControl::PingRequest(millis));
    }

    /// Gives back what only a publisher needs.
    pub fn release(&mut self) {
        self.inbound.release();
    }

    fn status(&mut self, message_stream_id: u32, code: &str, description: &str) {
        self.output.command(message_stream_id, |body| {
            reply::on_status(body, "status", code, description);
        });
    }
}

fn publishes(streams: &[MessageStream]) -> bool {
    streams.iter().any(|stream| stream.role == Role::Publishing)
}

fn set_role(streams: &mut [MessageStream], id: u32, role: Role) {
    if let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) {
        stream.role = role;
    }
}

/// A session without its reader, which still lends out the message that is being answered.
struct Dialogue<'s> {
    phase: &'s mut Phase,
    output: &'s mut Output,
    streams: &'s mut Vec<MessageStream>,
    tolerated: &'s mut Tolerated,
    settings: &'s SessionSettings,
}

impl Dialogue<'_> {
    fn message<'a>(&mut self, message: Message<'a>) -> Result<Event<'a>, SessionError> {
        let on = message.header.message_stream_id;
        let step = match message.header.kind {
            kind::COMMAND_AMF0 => self.command(on, CommandMessage::decode(message.payload))?,
            kind::COMMAND_AMF3 => {
                if message.payload.first() != Some(&0) {
                    self.tolerated.note(Quirk::FormatByteOmitted);
                }
                self.command(on, CommandMessage::decode_amf3(message.payload))?
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
            (_, Command::Connect(_)) => Ok(self.pass(Quirk::UnknownCommand)),
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
        match AppName::parse(app, tc_url) {
            Ok(name) => Step::Connect(ConnectRequest {
                transaction_id,
                object_encoding: connect.object_encoding,
                is_enhanced: connect.is_enhanced(),
                app: name,
                reconnect: if understands { Reconnect::Understood } else { Reconnect::Unheard },
                login: login.and_then(|parameters| Login::parse(app, parameters)),
                is_encoder: connect.is_encoder,
            }),
            Err(error) => {
                let (code, description) = (code::CONNECT_INVALID_APP, error.to_string());
                self.output.command(0, |body| {
                    reply::connect_error(body, transaction_id, code, &description);
                });
                Step::NameRefused(error)
            }
        }
    }

    /// Commands after `connect`, in whatever order the client sends them (RTMP 1.0, sections
    /// 7.2.1 and 7.2.2; the FC commands are Flash Media Live Encoder's).
    fn connected(&mut self, on: u32, txn: f64, command: Command<'_>) -> Step {
        match command {
            Command::CreateStream => self.create_stream(txn),
            Command::Publish { key, kind } => return self.publish(on, key, kind),
            Command::Play { key, reset, .. } => {
                return self.play(on, key, reset == Some(true), false);
            }
            Command::Play2 { key, .. } if !key.is_empty() => {
                return self.play(on, key, false, true);
            }
            Command::CloseStream => return self.close_stream(on),
            Command::DeleteStream { message_stream_id } => {
                return self.delete_stream(message_stream_id);
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
        if self.streams.len() >= self.settings.message_streams_max {
            let max = self.settings.message_streams_max;
            self.output.command(0, |body| {
                reply::call_error(body, txn, &format!("a connection has {max} streams at most"));
            });
            return;
        }
        // The lowest free id: ffmpeg and many encoders take 1 for granted.
        let id = (1..).find(|id| self.streams.iter().all(|stream| stream.id != *id));
        let id = id.unwrap_or(u32::MAX);
        self.add_stream(id);
        self.output.command(0, |body| reply::create_stream_result(body, txn, id));
    }

    fn add_stream(&mut self, id: u32) {
        self.streams.reserve_exact(1);
        self.streams.push(MessageStream { id, role: Role::Idle });
    }

    /// The stream a command means: the one it came on, else the one created last; a client
    /// that never created one means 1.
    fn stream_of_command(&mut self, on: u32) -> MessageStream {
        if self.streams.is_empty() {
            self.add_stream(1);
        }
        let named = self.streams.iter().find(|stream| stream.id == on);
        named
            .or_else(|| self.streams.last())
            .copied()
            .unwrap_or(MessageStream { id: 1, role: Role::Idle })
    }

    /// The stream a command about a running stream means, if there is one.
    fn running_stream(&self, on: u32) -> Option<MessageStream> {
        let named = self.streams.iter().find(|stream| stream.id == on);
        named.or_else(|| self.streams.last()).copied()
    }

    fn target(&mut self, key: &[u8]) -> Result<StreamTarget, NameError> {
        if is_odd_key(key) {
            self.tolerated.note(Quirk::OddKey);
        }
        let Phase::Connected(app) = &*self.phase else { return Err(NameError::Empty) };
        let target = app.stream(key)?;
        let bytes_max = self.settings.name_bytes_max;
        if target.name.len() > bytes_max {
            return Err(NameError::NameTooLong { bytes_max });
        }
        Ok(target)
    }

    fn publish(&mut self, on: u32, key: &[u8], kind: Option<PublishKind>) -> Step {
        if kind.is_none() {
            self.tolerated.note(Quirk::KindOmitted);
        }
        let stream = self.stream_of_command(on);
        if stream.role != Role::Idle {
            self.status(stream.id, "error", code::PUBLISH_BAD_NAME, "this stream is in use");
            return self.pass(Quirk::BusyMessageStream);
        }
        match self.target(key) {
            Ok(target) => Step::Publish(PublishRequest { message_stream_id: stream.id, target }),
            Err(error) => {
                self.status(stream.id, "error", code::PUBLISH_BAD_NAME, &error.to_string());
                Step::NameRefused(error)
            }
        }
    }

    fn play(&mut self, on: u32, key: &[u8], reset: bool, transition: bool) -> Step {
        let stream = self.stream_of_command(on);
        if stream.role == Role::Publishing {
            self.status(stream.id, "error", code::PLAY_FAILED, "this stream is publishing");
            return self.pass(Quirk::BusyMessageStream);
        }
        match self.target(key) {
            Ok(target) => {
                Step::Play(PlayRequest { message_stream_id: stream.id, reset, transition, target })
            }
            Err(error) => {
                self.status(stream.id, "error", code::PLAY_STREAM_NOT_FOUND, &error.to_string());
                Step::NameRefused(error)
            }
        }
    }

    /// `closeStream`: the message stream stays and may be published or played again.
    fn close_stream(&mut self, on: u32) -> Step {
        let Some(stream) = self.running_stream(on) else { return Step::Handled };
        set_role(self.streams, stream.id, Role::Idle);
        match stream.role {
            Role::Publishing => {
                self.status(stream.id, "status", code::UNPUBLISH_SUCCESS, "Stopped publishing");
            }
            Role::Playing => self.status(stream.id, "status", code::PLAY_STOP, "Stopped playing"),
            Role::Idle => {}
        }
        ended(stream)
    }

    /// `deleteStream` (RTMP 1.0, section 7.2.2.3). GStreamer gives the key in place of the
    /// number; then it means the only stream there is.
    fn delete_stream(&mut self, id: Option<u32>) -> Step {
        let index = match id {
            Some(id) => self.streams.iter().position(|stream| stream.id == id),
            None => {
                self.tolerated.note(Quirk::DeleteWithoutNumber);
                self.streams.len().checked_sub(1)
            }
        };
        index.map_or(Step::Handled, |index| ended(self.streams.remove(index)))
    }

    fn pause(&mut self, on: u32, paused: bool, answer: bool) -> Step {
        let Some(MessageStream { id, role: Role::Playing }) = self.running_stream(on) else {
            return Step::Handled;
        };
        if !answer {
            return Step::Pause { message_stream_id: id, paused };
        }
        if paused {
            self.status(id, "status", code::PAUSE_NOTIFY, "Paused");
            self.output.user_control(UserControl::StreamEof(id));
        } else {
            self.status(id, "status", code::UNPAUSE_NOTIFY, "Playing again");
            self.output.user_control(UserControl::StreamBegin(id));
        }
        Step::Pause { message_stream_id: id, paused }
    }

    /// `receiveAudio` and `receiveVideo`: turning a kind on is answered, off is not (RTMP 1.0,
    /// sections 7.2.2.4 and 7.2.2.5).
    fn receive(&mut self, on: u32, media: Receive, receive: bool) -> Step {
        let Some(MessageStream { id, role: Role::Playing }) = self.running_stream(on) else {
            return Step::Handled;
        };
        if receive {
            self.status(id, "status", code::SEEK_NOTIFY, "Receiving again");
            self.status(id, "status", code::PLAY_START, "Start playing");
        }
        Step::Receive { message_stream_id: id, media, on: receive }
    }

    /// A live stream cannot be sought; it goes on where it is, and ffmpeg, which waits for the
    /// notification, with it.
    fn seek(&mut self, on: u32) {
        if let Some(stream) = self.running_stream(on) {
            self.status(stream.id, "status", code::SEEK_NOTIFY, "A live stream plays on");
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
        Role::Idle => Step::Handled,
    }
}

/// Whether a key has around it what users paste along with it.
fn is_odd_key(key: &[u8]) -> bool {
    matches!(key, [b'/' | b' ' | 0, ..] | [.., b' ' | 0])
}
