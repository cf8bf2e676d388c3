//! The client's side of a connection: handshake, `connect`, then a stream to publish or to play.
//!
//! Owns the order of the requests and the answers to what a server may ask of a client: pings,
//! acknowledgements, chunk sizes. The caller moves the bytes: what the server sent goes into
//! [`Client::next_event`], and what is to be sent to it lies in [`Client::output`]. It never
//! opens a socket, never waits and never buffers media.

use std::error::Error;
use std::fmt;

use crate::limits;
use crate::rtmp::chunk_read::{ChunkError, ChunkReader, ReadLimits};
use crate::rtmp::chunk_write;
use crate::rtmp::command::{
    Command, CommandError, CommandMessage, PublishKind, Status, code, level, request,
};
use crate::rtmp::handshake::{ClientHandshake, HandshakeError};
use crate::rtmp::message::{Control, ControlError, Message, MessageHeader, UserControl, kind};

/// What a client wants, and how it goes about it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The application, with its query if it has one.
    pub app: String,
    /// The URL of the application.
    pub tc_url: String,
    /// What the client calls itself.
    pub flash_ver: String,
    /// What to do once connected.
    pub purpose: Purpose,
    /// Chunk size for everything after `connect`; the server is told.
    pub chunk_size: u32,
    /// Announces the chunk size before `connect` instead of after it, as OBS does.
    pub chunk_size_before_connect: bool,
    /// Sends `releaseStream` and `FCPublish` before `createStream`, as most encoders do.
    pub release_stream: bool,
    /// Milliseconds of media that a player says it buffers.
    pub buffer_ms: u32,
}

impl ClientConfig {
    /// A client that behaves as most do.
    pub fn new(app: impl Into<String>, tc_url: impl Into<String>, purpose: Purpose) -> Self {
        Self {
            app: app.into(),
            tc_url: tc_url.into(),
            flash_ver: "FMLE/3.0 (compatible; Tiderace)".to_owned(),
            purpose,
            chunk_size: limits::CHUNK_SIZE_OUT,
            chunk_size_before_connect: false,
            release_stream: true,
            buffer_ms: 3000,
        }
    }
}

/// What a client does once connected.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// Stays connected and asks for nothing.
    Connect,
    /// Publishes a live stream.
    Publish {
        /// The stream key, with its query if it has one.
        key: String,
    },
    /// Plays a live stream.
    Play {
        /// The stream key, with its query if it has one.
        key: String,
    },
}

/// What one message of the server meant.
///
/// Every message gives exactly one event, so that a caller sees all that was said and in which
/// order, also what the client has dealt with by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent<'a> {
    /// `connect` was accepted.
    Connected,
    /// `createStream` was answered, and `publish` or `play` is on its way.
    StreamCreated {
        /// The id that all later messages of the stream carry.
        message_stream_id: u32,
    },
    /// The server takes the stream: media may be written.
    Publishing,
    /// The server will send the stream.
    Playing,
    /// Audio, video, data or an aggregate of them.
    Media(Message<'a>),
    /// A status that decided nothing.
    Status(Status<'a>),
    /// The server refused `connect`, `createStream`, `publish` or `play`.
    Refused(Status<'a>),
    /// The stream that is played has ended.
    StreamEof {
        /// The id of the stream.
        message_stream_id: u32,
    },
    /// Any other control message. The client has done what it asks for.
    Control(Control),
    /// A message that needs no answer.
    Other(Message<'a>),
}

/// Why a connection to a server cannot go on.
#[derive(Debug)]
pub enum ClientError {
    /// What answered is no RTMP server.
    Handshake(HandshakeError),
    /// The chunk stream is broken.
    Chunk(ChunkError),
    /// A control message that cannot be obeyed.
    Control(ControlError),
    /// A command that cannot be read.
    Command(CommandError),
    /// `createStream` was answered with something that is no message stream id.
    MessageStreamId,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(error) => write!(f, "handshake: {error}"),
            Self::Chunk(error) => write!(f, "chunk stream: {error}"),
            Self::Control(error) => write!(f, "control message: {error}"),
            Self::Command(error) => write!(f, "command: {error}"),
            Self::MessageStreamId => {
                write!(f, "expected a message stream id in the answer to createStream")
            }
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Handshake(error) => Some(error),
            Self::Chunk(error) => Some(error),
            Self::Control(error) => Some(error),
            Self::Command(error) => Some(error),
            Self::MessageStreamId => None,
        }
    }
}

impl From<HandshakeError> for ClientError {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<ChunkError> for ClientError {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl From<ControlError> for ClientError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<CommandError> for ClientError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// One connection to a server, from the first byte of the handshake on.
#[derive(Debug)]
pub struct Client {
    reader: ChunkReader,
    /// A control message about the reader, obeyed before the next read: the message that brought
    /// it still borrows the reader when it is understood.
    deferred: Option<Control>,
    session: ClientSession,
}

/// A load generator holds very many of these.
const _: () = assert!(size_of::<Client>() <= 192);

impl Client {
    /// Begins a connection: C0 and C1 with `c1_random` lie in the output at once.
    pub fn new(config: ClientConfig, c1_random: &[u8; 1528]) -> Self {
        let handshake = ClientHandshake::new(c1_random);
        let mut output = Vec::new();
        handshake.start(&mut output);
        Self {
            reader: ChunkReader::default(),
            deferred: None,
            session: ClientSession {
                stage: Stage::Handshake(Box::new((handshake, config))),
                output,
                chunk_size: limits::CHUNK_SIZE_INITIAL,
                message_stream_id: 0,
                transaction_id: 0,
                received_bytes: 0,
                acknowledged_bytes: 0,
                window_ack_bytes: limits::WINDOW_ACK_BYTES,
                announced_window_ack_bytes: 0,
            },
        }
    }

    /// Takes bytes from the front of `input` until one message of the server is whole, and says
    /// what it meant. `None`: all of `input` is taken, and more is needed. To be called until
    /// then, also with an input that is used up. After an error the connection is of no more use.
    pub fn next_event<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<ClientEvent<'a>>, ClientError> {
        let available = input.len();
        if !self.session.advance_handshake(input)? {
            self.session.count_received(available - input.len());
            return Ok(None);
        }
        match self.deferred.take() {
            Some(Control::SetChunkSize(size)) => self.reader.set_chunk_size(size),
            Some(Control::Abort(chunk_stream_id)) => self.reader.abort(chunk_stream_id),
            _ => {}
        }
        let message = self.reader.next_message(input, &ReadLimits::default())?;
        self.session.count_received(available - input.len());
        let Some(message) = message else {
            return Ok(None);
        };
        let event = self.session.receive(message)?;
        if let ClientEvent::Control(control) = event {
            self.deferred = Some(control);
        }
        Ok(Some(event))
    }

    /// What is to be sent to the server. The caller removes from the front what it has sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.session.output
    }

    /// Takes all that is to be sent, and its memory with it.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.session.output)
    }

    /// The id that written media carries: the server's answer to `createStream`, or what
    /// [`Client::set_message_stream_id`] made it; 0 before that.
    pub fn message_stream_id(&self) -> u32 {
        self.session.message_stream_id
    }

    /// Puts another id on everything written from now on than the server gave.
    pub fn set_message_stream_id(&mut self, message_stream_id: u32) {
        self.session.message_stream_id = message_stream_id;
    }

    /// Announces another chunk size and uses it from now on.
    pub fn set_chunk_size(&mut self, chunk_size: u32) {
        self.session.announce_chunk_size(chunk_size);
    }

    /// Writes an audio message. Whether the server has accepted the stream is the caller's to
    /// know, as it is for the other kinds.
    pub fn write_audio(&mut self, timestamp: u32, payload: &[u8]) {
        self.session.write_media(AUDIO_CHUNK_STREAM, kind::AUDIO, timestamp, payload);
    }

    /// Writes a video message.
    pub fn write_video(&mut self, timestamp: u32, payload: &[u8]) {
        self.session.write_media(VIDEO_CHUNK_STREAM, kind::VIDEO, timestamp, payload);
    }

    /// Writes a data message: AMF0 values, of which the first names the handler.
    pub fn write_data(&mut self, timestamp: u32, payload: &[u8]) {
        self.session.write_media(DATA_CHUNK_STREAM, kind::DATA_AMF0, timestamp, payload);
    }

    /// Writes any message as it is.
    pub fn write_message(&mut self, header: MessageHeader, payload: &[u8]) {
        self.session.write_message(header, payload);
    }

    /// Writes a control message as it is: a chunk size written here is announced, but not used.
    pub fn write_control(&mut self, control: Control) {
        self.session.write_control(control);
    }

    /// Tells the server that the stream is over.
    pub fn delete_stream(&mut self) {
        let message_stream_id = self.session.message_stream_id;
        self.session.write_command(CONNECTION_CHUNK_STREAM, 0, |transaction_id, out| {
            request::delete_stream(out, transaction_id, message_stream_id);
        });
    }
}

// Chunk streams, one for each kind of message; those that ffmpeg uses where it uses one alone.
const CONTROL_CHUNK_STREAM: u32 = 2;
const CONNECTION_CHUNK_STREAM: u32 = 3;
const AUDIO_CHUNK_STREAM: u32 = 4;
const DATA_CHUNK_STREAM: u32 = 5;
const VIDEO_CHUNK_STREAM: u32 = 6;
const STREAM_CHUNK_STREAM: u32 = 8;

/// Basic header 1 and message header 11 of a control message, before its payload.
const CONTROL_HEADER_BYTES: usize = 12;

/// `play` for a stream that is live and nothing else would be -1; with -2 a server may wait for
/// the publisher (RTMP 1.0, section 7.2.2.1).
const START_LIVE_OR_WAIT: f64 = -2.0;

/// How far the connection has come. What is needed only on the way is dropped with the stage
/// that needs it, since a client may stay for days in its last.
#[derive(Debug)]
enum Stage {
    /// S0, S1 and S2 are on their way.
    Handshake(Box<(ClientHandshake, ClientConfig)>),
    /// `connect` is sent.
    Connect(Box<ClientConfig>),
    /// `createStream` is sent with this transaction id.
    CreateStream(u32, Box<ClientConfig>),
    /// `publish` or `play` is sent with this transaction id; a status with this code accepts it.
    Stream(u32, &'static str),
    /// The server has decided.
    Settled,
}

/// All of a client but the reader, so that a message may borrow the one while it changes the
/// other.
#[derive(Debug)]
struct ClientSession {
    stage: Stage,
    output: Vec<u8>,
    /// Of what is sent.
    chunk_size: u32,
    message_stream_id: u32,
    /// Of the last command sent.
    transaction_id: u32,
    received_bytes: u64,
    /// `received_bytes` at the last acknowledgement.
    acknowledged_bytes: u64,
    /// What the server wants acknowledged.
    window_ack_bytes: u32,
    /// What the server was told to acknowledge; 0 if it was not.
    announced_window_ack_bytes: u32,
}

impl ClientSession {
    /// Returns whether the handshake is over; `connect` follows it at once.
    fn advance_handshake(&mut self, input: &mut &[u8]) -> Result<bool, ClientError> {
        let Stage::Handshake(state) = &mut self.stage else {
            return Ok(true);
        };
        if !state.0.advance(input, &mut self.output)? {
            return Ok(false);
        }
        if let Stage::Handshake(state) = std::mem::replace(&mut self.stage, Stage::Settled) {
            self.connect(Box::new(state.1));
        }
        Ok(true)
    }

    /// Acknowledges at half the window: a server that counts strictly stops sending at the whole.
    fn count_received(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
        if self.received_bytes - self.acknowledged_bytes >= u64::from(self.window_ack_bytes / 2) {
            self.acknowledged_bytes = self.received_bytes;
            // The number on the wire wraps at 2^32 (RTMP 1.0, section 5.4.3).
            self.write_control(Control::Acknowledgement(self.received_bytes as u32));
        }
    }

    fn receive<'a>(&mut self, message: Message<'a>) -> Result<ClientEvent<'a>, ClientError> {
        let Message { header, payload } = message;
        match header.kind {
            kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3 | kind::AGGREGATE => {
                Ok(ClientEvent::Media(message))
            }
            kind::COMMAND_AMF0 => self.receive_command(message, CommandMessage::decode(payload)?),
            kind::COMMAND_AMF3 => {
                self.receive_command(message, CommandMessage::decode_amf3(payload)?)
            }
            kind => Ok(match Control::parse(kind, payload)? {
                Some(control) => self.receive_control(control),
                None => ClientEvent::Other(message),
            }),
        }
    }

    fn receive_control(&mut self, control: Control) -> ClientEvent<'static> {
        match control {
            // A tiny window would ask for more acknowledgements than there is media.
            Control::WindowAckSize(window) if window > 0 => {
                self.window_ack_bytes = window.max(limits::WINDOW_ACK_BYTES_MIN);
            }
            // Section 5.4.5: told once, and again when it changes.
            Control::SetPeerBandwidth { window, .. }
                if window > 0 && window != self.announced_window_ack_bytes =>
            {
                self.announced_window_ack_bytes = window;
                self.write_control(Control::WindowAckSize(window));
            }
            Control::UserControl(UserControl::PingRequest(value)) => {
                self.write_control(Control::UserControl(UserControl::PingResponse(value)));
            }
            Control::UserControl(UserControl::StreamEof(message_stream_id)) => {
                return ClientEvent::StreamEof { message_stream_id };
            }
            _ => {}
        }
        ClientEvent::Control(control)
    }

    /// The stage says which answers are awaited; all others need nothing done.
    fn receive_command<'a>(
        &mut self,
        message: Message<'a>,
        CommandMessage { transaction_id, command, .. }: CommandMessage<'a>,
    ) -> Result<ClientEvent<'a>, ClientError> {
        let answers = |request: u32| transaction_id == f64::from(request);
        Ok(match (command, &self.stage) {
            (Command::Result { .. }, Stage::Connect(_)) => self.accept_connect(),
            (Command::Result { response, .. }, &Stage::CreateStream(request, _))
                if answers(request) =>
            {
                self.accept_create_stream(response.as_number())?
            }
            (Command::Error(status), Stage::Connect(_)) => self.refuse(status),
            // Servers may refuse `releaseStream` and `FCPublish` and still take the stream.
            (
                Command::Error(status),
                &(Stage::CreateStream(request, _) | Stage::Stream(request, _)),
            ) if answers(request) => self.refuse(status),
            (Command::OnStatus(status), _) => self.receive_status(status),
            _ => ClientEvent::Other(message),
        })
    }

    fn receive_status<'a>(&mut self, status: Status<'a>) -> ClientEvent<'a> {
        match self.stage {
            Stage::Stream(_, accepting) if status.code == accepting.as_bytes() => {
                self.stage = Stage::Settled;
                if accepting == code::PUBLISH_START {
                    ClientEvent::Publishing
                } else {
                    ClientEvent::Playing
                }
            }
            Stage::Settled => ClientEvent::Status(status),
            _ if status.level == level::ERROR.as_bytes() => self.refuse(status),
            _ => ClientEvent::Status(status),
        }
    }

    fn refuse<'a>(&mut self, status: Status<'a>) -> ClientEvent<'a> {
        self.stage = Stage::Settled;
        ClientEvent::Refused(status)
    }

    fn connect(&mut self, config: Box<ClientConfig>) {
        if config.chunk_size_before_connect {
            self.announce_chunk_size(config.chunk_size);
        }
        self.write_command(CONNECTION_CHUNK_STREAM, 0, |transaction_id, out| {
            let request = request::ConnectRequest {
                app: &config.app,
                tc_url: &config.tc_url,
                flash_ver: &config.flash_ver,
                publishes: matches!(config.purpose, Purpose::Publish { .. }),
            };
            request::connect(out, transaction_id, &request);
        });
        self.stage = Stage::Connect(config);
    }

    /// Asks for a message stream, unless the connection is all that was wanted.
    fn accept_connect(&mut self) -> ClientEvent<'static> {
        let Stage::Connect(config) = std::mem::replace(&mut self.stage, Stage::Settled) else {
            return ClientEvent::Connected;
        };
        if !config.chunk_size_before_connect {
            self.announce_chunk_size(config.chunk_size);
        }
        if config.purpose == Purpose::Connect {
            return ClientEvent::Connected;
        }
        if let (Purpose::Publish { key }, true) = (&config.purpose, config.release_stream) {
            self.write_command(CONNECTION_CHUNK_STREAM, 0, |transaction_id, out| {
                request::release_stream(out, transaction_id, key);
            });
            self.write_command(CONNECTION_CHUNK_STREAM, 0, |transaction_id, out| {
                request::fc_publish(out, transaction_id, key);
            });
        }
        let transaction_id =
            self.write_command(CONNECTION_CHUNK_STREAM, 0, |transaction_id, out| {
                request::create_stream(out, transaction_id);
            });
        self.stage = Stage::CreateStream(transaction_id, config);
        ClientEvent::Connected
    }

    fn accept_create_stream(
        &mut self,
        answer: Option<f64>,
    ) -> Result<ClientEvent<'static>, ClientError> {
        // The cast saturates, and makes zero of NaN.
        let message_stream_id = answer.ok_or(ClientError::MessageStreamId)? as u32;
        self.message_stream_id = message_stream_id;
        if let Stage::CreateStream(_, config) = std::mem::replace(&mut self.stage, Stage::Settled) {
            match &config.purpose {
                Purpose::Connect => {}
                Purpose::Publish { key } => self.publish(key),
                Purpose::Play { key } => self.play(key, config.buffer_ms),
            }
        }
        Ok(ClientEvent::StreamCreated { message_stream_id })
    }

    fn publish(&mut self, key: &str) {
        let message_stream_id = self.message_stream_id;
        let transaction_id =
            self.write_command(STREAM_CHUNK_STREAM, message_stream_id, |transaction_id, out| {
                request::publish(out, transaction_id, key, PublishKind::Live);
            });
        self.stage = Stage::Stream(transaction_id, code::PUBLISH_START);
    }

    fn play(&mut self, key: &str, buffer_ms: u32) {
        let message_stream_id = self.message_stream_id;
        let transaction_id =
            self.write_command(STREAM_CHUNK_STREAM, message_stream_id, |transaction_id, out| {
                request::play(out, transaction_id, key, Some(START_LIVE_OR_WAIT));
            });
        let buffer = UserControl::SetBufferLength { message_stream_id, buffer_ms };
        self.write_control(Control::UserControl(buffer));
        self.stage = Stage::Stream(transaction_id, code::PLAY_START);
    }

    fn announce_chunk_size(&mut self, chunk_size: u32) {
        self.write_control(Control::SetChunkSize(chunk_size));
        self.chunk_size = chunk_size;
    }

    /// Writes a command under the next transaction id and returns the id.
    fn write_command(
        &mut self,
        chunk_stream_id: u32,
        message_stream_id: u32,
        build: impl FnOnce(f64, &mut Vec<u8>),
    ) -> u32 {
        self.transaction_id += 1;
        let mut payload = Vec::new();
        build(f64::from(self.transaction_id), &mut payload);
        let kind = kind::COMMAND_AMF0;
        let header = MessageHeader { chunk_stream_id, timestamp: 0, kind, message_stream_id };
        self.write_message(header, &payload);
        self.transaction_id
    }

    fn write_media(&mut self, chunk_stream_id: u32, kind: u8, timestamp: u32, payload: &[u8]) {
        let message_stream_id = self.message_stream_id;
        let header = MessageHeader { chunk_stream_id, timestamp, kind, message_stream_id };
        self.write_message(header, payload);
    }

    fn write_message(&mut self, header: MessageHeader, payload: &[u8]) {
        chunk_write::write_message(&mut self.output, header, payload, self.chunk_size);
    }

    fn write_control(&mut self, control: Control) {
        put_control(&mut self.output, control, self.chunk_size);
    }
}

/// Writes a control message; in several chunks if a chunk is smaller than even that, which only
/// a test of the peer has reason for.
fn put_control(output: &mut Vec<u8>, control: Control, chunk_size: u32) {
    let start = output.len();
    control.write(output);
    let message = output.split_off(start);
    match message.split_first_chunk::<CONTROL_HEADER_BYTES>() {
        Some(([.., kind, _, _, _, _], payload)) if payload.len() > chunk_size as usize => {
            let header = MessageHeader {
                chunk_stream_id: CONTROL_CHUNK_STREAM,
                timestamp: 0,
                kind: *kind,
                message_stream_id: 0,
            };
            chunk_write::write_message(output, header, payload, chunk_size);
        }
        _ => output.extend(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::command::reply;
    use crate::rtmp::message::BandwidthLimit;
    use crate::test_support::{HANDSHAKE_BYTES, Random, hex, recorded};

    const PUBLISH_ANSWERS: &str = "nginx_answers_ffmpeg5_publish.server.bin";
    const PLAY_ANSWERS: &str = "nginx_answers_ffmpeg5_play.server.bin";

    #[test]
    fn recorded_server_accepts_a_publisher() {
        let events = replay(publisher(), &recorded(PUBLISH_ANSWERS), |left| left);
        assert_eq!(
            events,
            [
                "Control(WindowAckSize(5000000))",
                "Control(SetPeerBandwidth { window: 5000000, limit: Dynamic })",
                "Control(SetChunkSize(4096))",
                "Connected",
                "StreamCreated { message_stream_id: 1 }",
                "Publishing",
                "Status NetStream.Unpublish.Success",
            ]
        );
    }

    #[test]
    fn recorded_server_serves_a_player() {
        let events = replay(player(), &recorded(PLAY_ANSWERS), |left| left);
        assert_eq!(
            events[..7],
            [
                "Control(WindowAckSize(5000000))",
                "Control(SetPeerBandwidth { window: 5000000, limit: Dynamic })",
                "Control(SetChunkSize(4096))",
                "Connected",
                "StreamCreated { message_stream_id: 1 }",
                "Control(UserControl(StreamBegin(1)))",
                "Playing",
            ]
        );
        assert_eq!(events.last().unwrap(), "StreamEof { message_stream_id: 1 }");
        let media = |kind: &str| events.iter().filter(|event| event.starts_with(kind)).count();
        assert_eq!((media("Media 18"), media("Media 8"), media("Media 9")), (2, 151, 42));
        assert_eq!(events.len(), 7 + 2 + 151 + 42 + 1);
    }

    #[test]
    fn any_split_of_the_input_gives_the_same_events() {
        for (client, answers) in
            [(publisher as fn() -> Client, PUBLISH_ANSWERS), (player, PLAY_ANSWERS)]
        {
            let session = recorded(answers);
            let expected = replay(client(), &session, |left| left);
            assert_eq!(replay(client(), &session, |_| 1), expected, "byte by byte");
            for seed in 0..20 {
                let mut random = Random::new(seed);
                let longest = 1 << (1 + random.below(12));
                let split = replay(client(), &session, |_| 1 + random.below(longest));
                assert_eq!(split, expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn publisher_asks_in_the_order_of_ffmpeg() {
        let mut client = publisher();
        feed(&mut client, &recorded(PUBLISH_ANSWERS));
        assert_eq!(
            sent(&mut client),
            [
                "connect 1",
                "WindowAckSize(5000000)",
                "SetChunkSize(60000)",
                "releaseStream 2",
                "FCPublish 3",
                "createStream 4",
                "publish 5 on 1",
            ]
        );
    }

    #[test]
    fn player_asks_in_the_order_of_ffmpeg() {
        let mut client = player();
        feed(&mut client, &recorded(PLAY_ANSWERS));
        assert_eq!(
            sent(&mut client),
            [
                "connect 1",
                "WindowAckSize(5000000)",
                "SetChunkSize(60000)",
                "createStream 2",
                "play 3 on 1",
                "UserControl(SetBufferLength { message_stream_id: 1, buffer_ms: 3000 })",
            ]
        );
    }

    #[test]
    fn chunk_size_before_connect_comes_first_and_is_not_repeated() {
        let config = ClientConfig {
            chunk_size: 4096,
            chunk_size_before_connect: true,
            release_stream: false,
            ..publish_config()
        };
        let mut client = Client::new(config, &[7; 1528]);
        let mut server = Server::after_handshake();
        server.connect_result();
        feed(&mut client, &server.bytes);
        assert_eq!(sent(&mut client), ["SetChunkSize(4096)", "connect 1", "createStream 2"]);
    }

    #[test]
    fn connecting_alone_asks_for_no_stream() {
        let mut client = Client::new(config(Purpose::Connect), &[7; 1528]);
        let mut server = Server::after_handshake();
        server.connect_result();
        assert_eq!(feed(&mut client, &server.bytes), ["Connected"]);
        assert_eq!(sent(&mut client), ["connect 1", "SetChunkSize(60000)"]);
    }

    #[test]
    fn refusals_at_every_stage_are_told_apart_from_statuses() {
        let mut at_connect = Server::after_handshake();
        at_connect.command(0, |out| reply::connect_error(out, 1.0, code::CONNECT_REJECTED, "no"));

        let mut at_create_stream = Server::after_handshake();
        at_create_stream.connect_result();
        // The refusal of `releaseStream` decides nothing.
        at_create_stream.command(0, |out| reply::call_error(out, 2.0, "no"));
        at_create_stream.command(0, |out| reply::call_error(out, 4.0, "no"));

        let mut at_publish = Server::after_handshake();
        at_publish.connect_result();
        at_publish.command(0, |out| reply::create_stream_result(out, 4.0, 1));
        let (bad_name, reset) = (code::PUBLISH_BAD_NAME, code::PLAY_RESET);
        at_publish.command(1, |out| reply::on_status(out, level::STATUS, reset, ""));
        at_publish.command(1, |out| reply::on_status(out, level::ERROR, bad_name, "taken"));
        at_publish.command(1, |out| reply::on_status(out, level::ERROR, bad_name, "again"));

        let rows: [(Server, &[&str]); 3] = [
            (at_connect, &["Refused NetConnection.Connect.Rejected"]),
            (at_create_stream, &["Connected", "Other 20", "Refused NetConnection.Call.Failed"]),
            (
                at_publish,
                &[
                    "Connected",
                    "StreamCreated { message_stream_id: 1 }",
                    "Status NetStream.Play.Reset",
                    "Refused NetStream.Publish.BadName",
                    "Status NetStream.Publish.BadName",
                ],
            ),
        ];
        for (server, expected) in rows {
            assert_eq!(feed(&mut publisher(), &server.bytes), expected);
        }
    }

    #[test]
    fn an_answer_without_a_message_stream_id_is_an_error() {
        let mut server = Server::after_handshake();
        server.connect_result();
        server.command(0, |out| reply::result_null(out, 4.0));
        let mut client = publisher();
        let mut input = server.bytes.as_slice();
        assert_eq!(client.next_event(&mut input).unwrap(), Some(ClientEvent::Connected));
        let error = client.next_event(&mut input).unwrap_err();
        assert!(matches!(error, ClientError::MessageStreamId), "{error}");
    }

    #[test]
    fn pings_are_answered() {
        let mut client = connected();
        let mut server = Server::default();
        server.control(Control::UserControl(UserControl::PingRequest(12345)));
        feed(&mut client, &server.bytes);
        assert_eq!(sent(&mut client), ["UserControl(PingResponse(12345))"]);
    }

    #[test]
    fn the_peer_bandwidth_is_answered_when_it_changes() {
        let mut client = connected();
        let mut server = Server::default();
        for window in [2_500_000, 2_500_000, 0, 5_000_000] {
            server.control(Control::SetPeerBandwidth { window, limit: BandwidthLimit::Dynamic });
        }
        feed(&mut client, &server.bytes);
        assert_eq!(sent(&mut client), ["WindowAckSize(2500000)", "WindowAckSize(5000000)"]);
    }

    #[test]
    fn acknowledgements_come_at_half_of_the_window_and_wrap() {
        let mut client = connected();
        let mut server = Server::default();
        // Raised to the smallest window that is obeyed; zero says nothing.
        server.control(Control::WindowAckSize(1));
        server.control(Control::WindowAckSize(0));
        feed(&mut client, &server.bytes);
        sent(&mut client);

        client.session.received_bytes = u64::from(u32::MAX) - 100;
        client.session.acknowledged_bytes = client.session.received_bytes;
        let half = limits::WINDOW_ACK_BYTES_MIN as usize / 2;
        let mut media = Server::default();
        media.message(kind::AUDIO, &[0; 100]);
        media.message(kind::AUDIO, &vec![0; half]);
        media.bytes.truncate(half);
        feed(&mut client, &media.bytes[..half - 1]);
        assert_eq!(sent(&mut client), [""; 0]);
        feed(&mut client, &media.bytes[half - 1..]);
        assert_eq!(sent(&mut client), [format!("Acknowledgement({})", half - 101)]);
    }

    #[test]
    fn chunk_size_and_abort_of_the_server_are_obeyed() {
        let mut client = connected();
        let mut server = Server::default();
        server.message(kind::VIDEO, &[1; 300]);
        server.control(Control::SetChunkSize(1));
        server.chunk_size = 1;
        server.message(kind::VIDEO, &[2; 300]);
        server.bytes.extend(hex("05 000000 000003 09 01000000 aa"));
        server.control(Control::Abort(5));
        server.bytes.extend(hex("c5 bb c5 cc c5 dd"));
        assert_eq!(
            feed(&mut client, &server.bytes),
            [
                "Media 9 at 0, 300 bytes, sum 300",
                "Control(SetChunkSize(1))",
                "Media 9 at 0, 300 bytes, sum 600",
                "Control(Abort(5))",
                "Media 9 at 0, 3 bytes, sum 612",
            ]
        );
    }

    #[test]
    fn media_carries_the_message_stream_id_and_the_chunk_size_that_were_set() {
        let mut client = publisher();
        feed(&mut client, &recorded(PUBLISH_ANSWERS));
        client.take_output();
        client.write_audio(20, &[0xaf; 200]);
        client.set_chunk_size(1);
        client.write_video(0x0100_0000, &[0x17; 200]);
        client.set_message_stream_id(9);
        client.write_data(40, &[2; 3]);
        client.delete_stream();
        client.write_control(Control::UserControl(UserControl::PingRequest(5)));
        assert_eq!(
            sent_behind(&mut client, 0, 60_000),
            [
                "8 at 20, 200 bytes on 1",
                "SetChunkSize(1)",
                "9 at 16777216, 200 bytes on 1",
                "18 at 40, 3 bytes on 9",
                "deleteStream 6",
                "UserControl(PingRequest(5))",
            ]
        );
    }

    #[test]
    fn what_is_no_rtmp_server_is_an_error() {
        let mut client = publisher();
        let mut input: &[u8] = b"HTTP/1.1 400 Bad Request\r\n";
        let error = client.next_event(&mut input).unwrap_err();
        assert!(matches!(error, ClientError::Handshake(_)), "{error}");
    }

    /// What a server writes.
    struct Server {
        bytes: Vec<u8>,
        chunk_size: u32,
    }

    impl Default for Server {
        fn default() -> Self {
            Self { bytes: Vec::new(), chunk_size: limits::CHUNK_SIZE_INITIAL }
        }
    }

    impl Server {
        fn after_handshake() -> Self {
            let bytes = recorded(PUBLISH_ANSWERS)[..HANDSHAKE_BYTES].to_vec();
            Self { bytes, ..Self::default() }
        }

        fn connect_result(&mut self) {
            self.command(0, |out| reply::connect_result(out, 1.0, 0.0));
        }

        fn command(&mut self, message_stream_id: u32, build: impl FnOnce(&mut Vec<u8>)) {
            let mut payload = Vec::new();
            build(&mut payload);
            self.write(kind::COMMAND_AMF0, message_stream_id, &payload);
        }

        fn message(&mut self, kind: u8, payload: &[u8]) {
            self.write(kind, 1, payload);
        }

        fn control(&mut self, control: Control) {
            put_control(&mut self.bytes, control, self.chunk_size);
        }

        fn write(&mut self, kind: u8, message_stream_id: u32, payload: &[u8]) {
            let header =
                MessageHeader { chunk_stream_id: 5, timestamp: 0, kind, message_stream_id };
            chunk_write::write_message(&mut self.bytes, header, payload, self.chunk_size);
        }
    }

    fn config(purpose: Purpose) -> ClientConfig {
        ClientConfig::new("live", "rtmp://localhost:1935/live", purpose)
    }

    fn publish_config() -> ClientConfig {
        config(Purpose::Publish { key: "cam".to_owned() })
    }

    fn publisher() -> Client {
        Client::new(publish_config(), &[7; 1528])
    }

    fn player() -> Client {
        Client::new(config(Purpose::Play { key: "cam".to_owned() }), &[7; 1528])
    }

    /// A client that has nothing left to send.
    fn connected() -> Client {
        let mut client = Client::new(config(Purpose::Connect), &[7; 1528]);
        let mut server = Server::after_handshake();
        server.connect_result();
        feed(&mut client, &server.bytes);
        client.take_output();
        client
    }

    fn feed(client: &mut Client, bytes: &[u8]) -> Vec<String> {
        let mut input = bytes;
        let mut events = Vec::new();
        while let Some(event) = client.next_event(&mut input).expect("a good server") {
            events.push(summary(&event));
        }
        assert!(input.is_empty(), "all of the input is taken");
        events
    }

    /// Feeds `session` in pieces whose lengths `piece` gives from what is left.
    fn replay(
        mut client: Client,
        mut session: &[u8],
        mut piece: impl FnMut(usize) -> usize,
    ) -> Vec<String> {
        let mut events = Vec::new();
        while !session.is_empty() {
            let (now, later) = session.split_at(piece(session.len()).min(session.len()));
            events.extend(feed(&mut client, now));
            session = later;
        }
        events
    }

    fn summary(event: &ClientEvent<'_>) -> String {
        match event {
            ClientEvent::Media(Message { header, payload }) => {
                let sum: u64 = payload.iter().map(|&byte| u64::from(byte)).sum();
                let MessageHeader { kind, timestamp, .. } = header;
                format!("Media {kind} at {timestamp}, {} bytes, sum {sum}", payload.len())
            }
            ClientEvent::Other(message) => format!("Other {}", message.header.kind),
            ClientEvent::Status(status) => format!("Status {}", status.code.escape_ascii()),
            ClientEvent::Refused(status) => format!("Refused {}", status.code.escape_ascii()),
            event => format!("{event:?}"),
        }
    }

    /// What the client has written since its handshake, read as a server would.
    fn sent(client: &mut Client) -> Vec<String> {
        let output = client.output();
        let handshake = if output.first() == Some(&3) { HANDSHAKE_BYTES } else { 0 };
        sent_behind(client, handshake, limits::CHUNK_SIZE_INITIAL)
    }

    fn sent_behind(client: &mut Client, start: usize, chunk_size: u32) -> Vec<String> {
        let output = client.take_output();
        let mut input = &output[start..];
        let mut reader = ChunkReader::default();
        reader.set_chunk_size(chunk_size);
        let mut seen = Vec::new();
        while let Some(Message { header, payload }) =
            reader.next_message(&mut input, &ReadLimits::default()).expect("a good client")
        {
            let control = Control::parse(header.kind, payload).expect("a good control message");
            seen.push(match control {
                Some(control) => format!("{control:?}"),
                None => sent_summary(header, payload),
            });
            if let Some(Control::SetChunkSize(size)) = control {
                reader.set_chunk_size(size);
            }
        }
        seen
    }

    fn sent_summary(header: MessageHeader, payload: &[u8]) -> String {
        let MessageHeader { kind, timestamp, message_stream_id, .. } = header;
        if kind != kind::COMMAND_AMF0 {
            let length = payload.len();
            return format!("{kind} at {timestamp}, {length} bytes on {message_stream_id}");
        }
        let message = CommandMessage::decode(payload).expect("a good command");
        let (name, id) = (message.name.escape_ascii(), message.transaction_id);
        match message_stream_id {
            0 => format!("{name} {id}"),
            stream => format!("{name} {id} on {stream}"),
        }
    }
}
