//! The server's side of one connection: handshake, command dialogue, media events.
//!
//! Owns the state of the protocol and the bytes of its replies. It decides nothing that is
//! policy: a connect, publish or play is a [`Step`] that the caller answers with a call, at once or
//! later. Until then the session takes no input. It keeps no copy of media: a message lies in the
//! caller's input or in the reader's assembly buffer.
//!
//! ```text
//!            C2 read             connect         accept_connect
//! Handshake ─────────▶ Connecting ──────▶ Asking ──────────────▶ Connected
//!                                           │ reject_connect
//!                                           ▼
//!                                  (closed by the caller)
//! ```
//!
//! Once connected, each message stream has a role (RTMP 1.0, section 7.2.2):
//!
//! ```text
//!        publish, play         accept_publish, accept_play
//! Idle ────────────────▶ Asking ──────────────────────────▶ Publishing or Playing
//!  ▲ ◀────────────────────┘ reject_publish, reject_play          │
//!  └────────────── closeStream, deleteStream, publish(false) ────┘
//! ```

use super::chunk::reader::{ReadLimits, skip};
use super::chunk::writer::{chunk_stream, write_message};
use super::command::{caps_ex, code, level, reply};
pub use super::dialogue::{
    Asked, ConnectRequest, Event, PlayRequest, PublishRequest, Receive, Receives, SessionError,
    Step,
};
use super::dialogue::{Dialogue, MessageStream, MessageStreams, Phase, Reconnect, Role, set_role};
use super::handshake::{C2Check, Hello, ServerHandshake};
use super::link::{Inbound, Incoming, Output};
use super::message::{BandwidthLimit, Control, Message, MessageHeader, UserControl, kind};
use super::name::AppName;
use super::quirks::{Quirk, Tolerated};
use crate::limits;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What the server does of Enhanced RTMP v2 beyond codecs: it asks to reconnect, and passes several
/// tracks, modifiers and nanoseconds through as they came.
const CAPS_EX: u32 =
    caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX | caps_ex::TIMESTAMP_NANO_OFFSET;

/// What every session of a server shares; passed to each call, so that a session holds no copy
/// and a change reaches all of them at once.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionSettings {
    /// The server's words in the handshake.
    pub hello: Arc<Hello>,
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
            hello: Arc::new(hello),
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

/// The server's side of one connection. See the module's head for its states.
///
/// In this order in memory: what is asked for with each write, whether replies wait, stands at the
/// end, next to what else the owner asks for then.
#[derive(Debug)]
#[repr(C)]
pub struct Session {
    inbound: Inbound,
    streams: MessageStreams,
    tolerated: Tolerated,
    reconnect: Reconnect,
    phase: Phase,
    output: Output,
}

impl Session {
    /// A session before its first byte.
    pub fn new(settings: &SessionSettings) -> Self {
        Self {
            phase: Phase::Handshake(Box::new(ServerHandshake::new())),
            inbound: Inbound::new(settings.window_ack_bytes),
            output: Output::default(),
            streams: MessageStreams::new(),
            tolerated: Tolerated::default(),
            reconnect: Reconnect::Unheard,
        }
    }

    /// Consumes `input` up to and including what makes the next event; `None` when it is used
    /// up, however the bytes were cut, or while the session waits for an answer
    /// ([`Session::is_asking`]). What is consumed is no longer what came. After an error the
    /// session is of no more use.
    pub fn next_event<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i mut [u8],
        settings: &SessionSettings,
    ) -> Result<Option<Event<'s>>, SessionError> {
        if let Phase::Handshake(handshake) = &mut self.phase {
            let mut rest = &**input;
            let done = handshake
                .advance(&mut rest, &settings.hello, settings.c2_check, self.output.raw())
                .map_err(SessionError::Handshake)?;
            let taken = input.len() - rest.len();
            skip(input, taken);
            return Ok(done.map(|done| {
                self.phase = Phase::Connecting;
                if done.c2_matches == Some(false) {
                    self.tolerated.note(Quirk::C2Mismatch);
                }
                Event::Step(Step::HandshakeDone { c2_matches: done.c2_matches })
            }));
        }
        if self.is_asking() {
            return Ok(None);
        }
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
            message_streams_max: settings.message_streams_max,
            name_bytes_max: settings.name_bytes_max,
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

    /// Checks that the waiting replies are within their bound. The caller checks before each event
    /// and after each message that it adds. It offers the replies to the transport before it acts
    /// on an error, which a session cannot do.
    pub fn check_output(&self, settings: &SessionSettings) -> Result<(), SessionError> {
        let (waiting, max) = (self.output.bytes().len(), settings.control_bytes_max);
        if waiting > max { Err(SessionError::ControlOverflow { waiting, max }) } else { Ok(()) }
    }

    /// Memory that it holds beside itself: what is under assembly, what waits for the peer, and
    /// names (bytes).
    pub fn held_bytes(&self) -> usize {
        let phase = match &self.phase {
            Phase::Handshake(handshake) => handshake.held_bytes(),
            Phase::Connecting | Phase::Asking => 0,
            Phase::Connected(app) => app.held_bytes(),
        };
        let streams = if self.streams.spilled() { self.streams.capacity() } else { 0 };
        phase
            + streams * size_of::<MessageStream>()
            + self.inbound.reader().assembly_bytes()
            + self.output.held_bytes()
            + self.tolerated.held_bytes()
    }

    /// The application, once `connect` is accepted.
    pub fn app(&self) -> Option<&AppName> {
        match &self.phase {
            Phase::Connected(app) => Some(app),
            Phase::Handshake(_) | Phase::Connecting | Phase::Asking => None,
        }
    }

    /// Returns whether a connect, publish or play waits for its answer. Until then the session
    /// takes no input.
    pub fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking)
            || self.streams.iter().any(|stream| stream.role == Role::Asking)
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
        self.phase = Phase::Connecting;
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
        set_role(&mut self.streams, request.message_stream_id, Role::Idle);
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
        set_role(&mut self.streams, request.message_stream_id, Role::Idle);
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

    /// Tells a publisher that it no longer publishes on this message stream, because of what it
    /// asked for itself.
    pub fn publish_ended(&mut self, message_stream_id: u32) {
        set_role(&mut self.streams, message_stream_id, Role::Idle);
        self.status(message_stream_id, code::UNPUBLISH_SUCCESS, "Stopped publishing");
    }

    /// Tells a publisher or a player why it is going to be disconnected.
    pub fn error_status(&mut self, message_stream_id: u32, code: &str, description: &str) {
        self.output.command(message_stream_id, |body| {
            reply::on_status(body, level::ERROR, code, description);
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

    /// Writes a message of a publisher for the player on a message stream of this session.
    ///
    /// Moves the waiting replies to `out` and appends the message to them, because media must not
    /// precede the reply that allows it. The message gets the ids of the player's message stream
    /// and the chunk size that the player was told, so the message of [`Event::Media`] can be
    /// passed as it is. The caller sends `out`, and bounds it for a player that does not read.
    ///
    /// # Errors
    ///
    /// If the message cannot be written. Then `out` and the replies are unchanged.
    pub fn write_media(
        &mut self,
        message_stream_id: u32,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteMediaError> {
        let Message { header, payload } = message;
        let plays =
            |stream: &MessageStream| stream.id == message_stream_id && stream.role == Role::Playing;
        if !self.streams.iter().any(plays) {
            return Err(WriteMediaError::NotPlaying { message_stream_id });
        }
        if payload.len() > limits::MESSAGE_BYTES_MAX {
            return Err(WriteMediaError::TooLong { bytes: payload.len() });
        }
        let chunk_stream_id = match header.kind {
            kind::AUDIO => chunk_stream::AUDIO,
            kind::VIDEO => chunk_stream::VIDEO,
            kind::DATA_AMF0 | kind::DATA_AMF3 => chunk_stream::DATA,
            kind => return Err(WriteMediaError::NotMedia { kind }),
        };
        if !self.output.is_empty() {
            out.extend(self.output.take());
        }
        let header = MessageHeader { chunk_stream_id, message_stream_id, ..header };
        write_message(out, header, payload, self.output.chunk_size());
        Ok(())
    }

    fn status(&mut self, message_stream_id: u32, code: &str, description: &str) {
        self.output.command(message_stream_id, |body| {
            reply::on_status(body, level::STATUS, code, description);
        });
    }
}

/// An error of [`Session::write_media`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteMediaError {
    /// The peer does not play on this message stream: its play was not accepted, or has ended.
    NotPlaying {
        /// The message stream.
        message_stream_id: u32,
    },
    /// The message is not audio, video or data.
    NotMedia {
        /// Message type id.
        kind: u8,
    },
    /// The payload is longer than a message can be.
    TooLong {
        /// Length of the payload (bytes).
        bytes: usize,
    },
}

impl fmt::Display for WriteMediaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPlaying { message_stream_id } => {
                write!(f, "the peer does not play on message stream {message_stream_id}")
            }
            Self::NotMedia { kind } => {
                write!(f, "a message of type {kind} is not audio, video or data")
            }
            Self::TooLong { bytes } => {
                let max = limits::MESSAGE_BYTES_MAX;
                write!(f, "a payload of {bytes} bytes does not fit a message, at most {max} do")
            }
        }
    }
}

impl Error for WriteMediaError {}

fn publishes(streams: &[MessageStream]) -> bool {
    streams.iter().any(|stream| stream.role == Role::Publishing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};

    /// Lets a client connect and ask for a play, and returns both sides with the request.
    fn asked_to_play(settings: &SessionSettings) -> (Client, Session, PlayRequest) {
        let purpose = Purpose::Play { key: "show".to_owned() };
        let config = ClientConfig::new("live", "rtmp://host/live", purpose);
        let (mut client, mut session) = (Client::new(config, &[7; 1528]), Session::new(settings));
        loop {
            let mut sent = client.take_output();
            let mut input = &mut sent[..];
            while let Some(event) = session.next_event(&mut input, settings).unwrap() {
                match event {
                    Event::Step(Step::Connect(request)) => {
                        session.accept_connect(request, settings);
                    }
                    Event::Step(Step::Play(request)) => return (client, session, request),
                    _ => {}
                }
            }
            let mut replies = session.output_mut().take();
            let mut input = &mut replies[..];
            while client.next_event(&mut input).unwrap().is_some() {}
        }
    }

    /// A message as a publisher sent it, with ids that mean nothing to a player.
    fn published(kind: u8, payload: &[u8]) -> Message<'_> {
        let (chunk_stream_id, message_stream_id) = (64, 9);
        let header = MessageHeader { chunk_stream_id, timestamp: 40, kind, message_stream_id };
        Message { header, payload }
    }

    #[test]
    fn media_follows_the_replies_and_has_the_ids_of_the_player() {
        let settings = SessionSettings::new(Hello::new(&[7; 1528]));
        let (mut client, mut session, request) = asked_to_play(&settings);
        session.accept_play(&request);
        // Longer than a chunk of the initial size, and than one of the size agreed upon.
        let payload = vec![0x27; 100_000];
        let mut out = Vec::new();
        let kinds = [kind::AUDIO, kind::VIDEO, kind::DATA_AMF0, kind::DATA_AMF3];
        for kind in kinds {
            session.write_media(1, published(kind, &payload), &mut out).unwrap();
        }
        assert!(session.output().is_empty());
        let (mut input, mut is_playing, mut received) = (&mut out[..], false, Vec::new());
        while let Some(event) = client.next_event(&mut input).unwrap() {
            match event {
                ClientEvent::Playing => is_playing = true,
                // `|RtmpSampleAccess`, a reply.
                ClientEvent::Media(message) if message.payload.len() < 100 => {}
                ClientEvent::Media(message) => {
                    assert!(is_playing, "media before the reply");
                    assert_eq!(message.payload, payload);
                    received.push(message.header);
                }
                _ => {}
            }
        }
        let header = |chunk_stream_id, kind| MessageHeader {
            chunk_stream_id,
            timestamp: 40,
            kind,
            message_stream_id: 1,
        };
        let expected = [4, 6, 7, 7].into_iter().zip(kinds).map(|(id, kind)| header(id, kind));
        assert_eq!(received, expected.collect::<Vec<_>>());
    }

    #[test]
    fn media_that_cannot_be_written_changes_nothing() {
        let settings = SessionSettings::new(Hello::new(&[7; 1528]));
        let (_, mut session, request) = asked_to_play(&settings);
        let (longest, mut out) = (vec![0; limits::MESSAGE_BYTES_MAX + 1], Vec::new());
        let video = published(kind::VIDEO, &[0x27]);
        let not_playing = |message_stream_id| WriteMediaError::NotPlaying { message_stream_id };
        assert_eq!(session.write_media(1, video, &mut out), Err(not_playing(1)));
        session.accept_play(&request);
        let waiting = session.output().bytes().len();
        for (on, message, expected) in [
            (2, video, not_playing(2)),
            (1, published(kind::COMMAND_AMF0, &[2]), WriteMediaError::NotMedia { kind: 20 }),
            (1, published(kind::VIDEO, &longest), WriteMediaError::TooLong { bytes: 1 << 24 }),
        ] {
            assert_eq!(session.write_media(on, message, &mut out), Err(expected));
            assert_eq!((out.len(), session.output().bytes().len()), (0, waiting));
        }
        let fits = published(kind::VIDEO, &longest[1..]);
        assert_eq!(session.write_media(1, fits, &mut out), Ok(()));
    }

    #[test]
    fn replies_may_wait_up_to_their_bound_and_no_byte_beyond_it() {
        let mut settings = SessionSettings::new(Hello::new(&[7; 1528]));
        let mut session = Session::new(&settings);
        (0..10).for_each(|millis| session.ping(millis));
        let waiting = session.output().bytes().len();
        for (max, is_within) in [(waiting, true), (waiting - 1, false)] {
            settings.control_bytes_max = max;
            assert_eq!(session.check_output(&settings).is_ok(), is_within, "{waiting} of {max}");
        }
    }
}
