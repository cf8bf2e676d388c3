//! The server side of one connection: handshake, command dialogue, media events.
//!
//! Owns the protocol state and the bytes of the replies. Policy belongs to the caller: each
//! connect, publish or play is a [`Step`], and the caller accepts or rejects it, at once or later.
//! Until then the session takes no input. Media is never copied here: a message lies in the
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
use super::dialogue::{
    ConnectFields, Dialogue, MessageStream, MessageStreams, Phase, Reconnect, Role, set_role,
};
use super::handshake::{C2Check, Hello, ServerHandshake};
use super::link::{Inbound, Incoming, Output};
use super::message::{BandwidthLimit, Control, Message, MessageHeader, UserControl, kind};
use super::name::AppName;
use super::quirks::{Quirk, Tolerated};
use crate::limits;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Capabilities of Enhanced RTMP v2 that the server has beyond codecs. It sends reconnect requests,
/// and forwards multitrack messages, modifiers and nanosecond offsets unchanged.
const CAPS_EX: u32 =
    caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX | caps_ex::TIMESTAMP_NANO_OFFSET;

/// Settings that all sessions of a server share.
///
/// The caller passes them to each call. So a session holds no copy, and a change reaches all
/// sessions at once.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionSettings {
    /// S1 in its three forms.
    pub hello: Arc<Hello>,
    /// How C2 is checked.
    pub c2_check: C2Check,
    /// Bounds for a connection that does not publish.
    pub limits_before_publish: ReadLimits,
    /// Bounds for a publisher.
    pub limits_publishing: ReadLimits,
    /// Bound of the replies that wait for a peer that does not read (bytes).
    pub control_bytes_max: usize,
    /// Bound of the message streams of one connection.
    pub message_streams_max: usize,
    /// Chunk size of sent messages (bytes).
    pub chunk_size: u32,
    /// Acknowledgement window that the peer is asked to use (bytes).
    pub window_ack_bytes: u32,
    /// Bound of a stream's canonical name (bytes); at most [`limits::NAME_BYTES_MAX`].
    pub name_bytes_max: usize,
}

impl SessionSettings {
    /// Creates settings with the defaults of [`limits`].
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

/// The server side of one connection. The module documentation shows its states.
///
/// `repr(C)` fixes the order of the fields. `output` is last because the owner reads it for each
/// write: there it lies next to the fields of the owner that a write needs.
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
    /// Creates a session that has received nothing.
    pub fn new(settings: &SessionSettings) -> Self {
        Self {
            phase: Phase::Handshake(Box::new(ServerHandshake::new())),
            inbound: Inbound::new(settings.window_ack_bytes),
            output: Output::default(),
            streams: MessageStreams::new(),
            tolerated: Tolerated::default(),
            reconnect: Reconnect::Unsupported,
        }
    }

    /// Consumes `input` up to and including the next event. Returns `None` when `input` is used up,
    /// or while a request waits for the caller's decision ([`Session::is_asking`]).
    ///
    /// The events do not depend on how the bytes are split between calls. Consumed bytes are
    /// overwritten (see [`ChunkReader::next_message`]). After an error the session must not be used
    /// again.
    ///
    /// [`ChunkReader::next_message`]: super::chunk::reader::ChunkReader::next_message
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
        if matches!(self.phase, Phase::Asking) {
            return Ok(None);
        }
        let mut limits = &settings.limits_before_publish;
        for stream in &self.streams {
            match stream.role {
                Role::Asking => return Ok(None),
                Role::Publishing => limits = &settings.limits_publishing,
                Role::Idle | Role::Playing => {}
            }
        }
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

    /// Acknowledges what was received, as [`Session::next_event`] does when it finds the input used
    /// up. A caller that knows that the last message lay in its input as a whole can call this
    /// instead.
    pub fn end_input(&mut self) {
        self.inbound.end_input(&mut self.output);
    }

    /// Returns the replies to be sent to the peer.
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// Returns the replies to be sent, so that the caller can remove the bytes that it has sent.
    pub const fn output_mut(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Checks that the waiting replies are within their bound.
    ///
    /// The caller checks before each event and after each message that it adds. It should offer the
    /// replies to the transport before it acts on an error, because the peer may be reading.
    pub fn check_output(&self, settings: &SessionSettings) -> Result<(), SessionError> {
        let (waiting, max) = (self.output.bytes().len(), settings.control_bytes_max);
        if waiting > max { Err(SessionError::ControlOverflow { waiting, max }) } else { Ok(()) }
    }

    /// Returns the memory that the session has allocated: unfinished messages, waiting replies and
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

    /// Returns the application; `None` before `connect` is accepted.
    pub fn app(&self) -> Option<&AppName> {
        match &self.phase {
            Phase::Connected(app) => Some(app),
            Phase::Handshake(_) | Phase::Connecting | Phase::Asking => None,
        }
    }

    /// Returns true if a connect, publish or play waits for the caller's decision. Until then the
    /// session takes no input.
    pub fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking)
            || self.streams.iter().any(|stream| stream.role == Role::Asking)
    }

    /// Returns the quirks that were tolerated so far.
    pub const fn tolerated(&self) -> &Tolerated {
        &self.tolerated
    }

    /// Counts a quirk that the caller found in the peer's media. A session does not parse media.
    pub fn tolerate(&mut self, quirk: Quirk) {
        self.tolerated.note(quirk);
    }

    /// Returns the receiving side, for accounting.
    pub const fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// Accepts a connect. Window, bandwidth and chunk size precede the result, because the result
    /// is longer than a chunk of the initial size.
    pub fn accept_connect(&mut self, request: ConnectRequest, settings: &SessionSettings) {
        let ConnectFields { transaction_id, object_encoding, is_enhanced, app, reconnect, .. } =
            *request.0;
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

    /// Refuses a connect. The caller closes the connection when the reply is sent.
    pub fn reject_connect(&mut self, request: &ConnectRequest, code: &str, description: &str) {
        self.phase = Phase::Connecting;
        self.output.command(0, |body| {
            reply::connect_error(body, request.0.transaction_id, code, description);
        });
    }

    /// Accepts a publish. From now on, media on this message stream is returned as
    /// [`Event::Media`].
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

    /// Accepts a play. Media must be sent after these replies, never before them.
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

    /// Tells a player that its stream is over. ffmpeg, VLC and rtmpdump end at the status and
    /// GStreamer ends at StreamEOF, so both are sent.
    pub fn play_ended(&mut self, message_stream_id: u32) {
        self.status(message_stream_id, code::PLAY_UNPUBLISH_NOTIFY, "The stream is over");
        self.output.user_control(UserControl::StreamEof(message_stream_id));
    }

    /// Tells a publisher that another one has taken over its stream, and ends its publish.
    pub fn publish_displaced(&mut self, message_stream_id: u32) {
        set_role(&mut self.streams, message_stream_id, Role::Idle);
        self.error_status(message_stream_id, code::PUBLISH_BAD_NAME, "another publisher took over");
    }

    /// Tells a publisher that its publish on this message stream has ended because of a request of
    /// its own.
    pub fn publish_ended(&mut self, message_stream_id: u32) {
        set_role(&mut self.streams, message_stream_id, Role::Idle);
        self.status(message_stream_id, code::UNPUBLISH_SUCCESS, "Stopped publishing");
    }

    /// Tells a publisher or a player why it will be disconnected.
    pub fn error_status(&mut self, message_stream_id: u32, code: &str, description: &str) {
        self.output.command(message_stream_id, |body| {
            reply::on_status(body, level::ERROR, code, description);
        });
    }

    /// Asks the peer to reconnect, to `tc_url` or to this server (Enhanced RTMP v2). The peer uses
    /// this connection until the new one stands, and then leaves.
    ///
    /// Returns false if the `capsEx` of the peer does not announce support; then nothing is sent.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        if self.reconnect == Reconnect::Unsupported {
            return false;
        }
        self.reconnect = Reconnect::Requested;
        self.output.command(0, |body| reply::reconnect_request(body, tc_url, description));
        true
    }

    /// Returns true if the peer was asked to reconnect.
    pub fn is_to_reconnect(&self) -> bool {
        self.reconnect == Reconnect::Requested
    }

    /// Sends a ping request (RTMP 1.0, section 7.1.7).
    pub fn ping(&mut self, millis: u32) {
        self.output.user_control(UserControl::PingRequest(millis));
    }

    /// Frees the buffers that only a publisher needs.
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
