//! The client side of a connection: handshake, `connect`, then a stream to publish or to play.
//!
//! Owns the order of the requests and the meaning of the replies. [`link`](super::link) does the
//! work below that, such as acknowledgements. The caller moves the bytes: it passes received bytes
//! to [`Client::next_event`], and sends the bytes in [`Client::output`]. A client never opens a
//! socket, never waits and never buffers media.

use std::error::Error;
use std::fmt;

use crate::limits::{self, HANDSHAKE_PACKET_BYTES};
use crate::rtmp::chunk::reader::{ReadLimits, skip};
use crate::rtmp::chunk::writer::chunk_stream;
use crate::rtmp::command::{
    Command, CommandError, CommandMessage, PublishKind, Status, code, level, request,
};
use crate::rtmp::handshake::{ClientHandshake, HandshakeError};
use crate::rtmp::link::{Inbound, Incoming, LinkError, Output};
use crate::rtmp::message::{Control, Message, MessageHeader, UserControl, kind};
use crate::rtmp::quirks::Tolerated;

/// Purpose and behaviour of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The application, with its query if it has one.
    pub app: String,
    /// The URL of the application.
    pub tc_url: String,
    /// The name and version that the client sends.
    pub flash_ver: String,
    /// The goal of the client.
    pub purpose: Purpose,
    /// Chunk size after `connect`, which the client announces (bytes).
    pub chunk_size: u32,
    /// Announces the chunk size before `connect` instead of after it, as OBS does.
    pub chunk_size_before_connect: bool,
    /// Sends `releaseStream` and `FCPublish` before `createStream`, as most encoders do.
    pub release_stream: bool,
    /// Buffer length that a player announces (ms).
    pub buffer_ms: u32,
}

impl ClientConfig {
    /// Creates a configuration with the behaviour of most clients.
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

/// The goal of a client. It decides how far the dialogue goes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Purpose {
    /// Stays silent after the handshake.
    Handshake,
    /// Stays connected without a stream.
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

impl Purpose {
    const fn wants_stream(&self) -> bool {
        matches!(self, Self::Publish { .. } | Self::Play { .. })
    }
}

/// Meaning of one message of the server.
///
/// The end of the handshake and every message after it give exactly one event. So a caller sees
/// all messages in their order, including those that the client handles itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// The handshake is over. `connect` is in the output, unless the purpose is the handshake.
    HandshakeDone,
    /// The server accepted `connect`.
    Connected,
    /// The server answered `createStream`. `publish` or `play` is in the output.
    StreamCreated {
        /// The id that all later messages of the stream carry.
        message_stream_id: u32,
    },
    /// The server accepted `publish`: media may be written.
    Publishing,
    /// The server accepted `play`.
    Playing,
    /// Audio, video, data or an aggregate.
    Media(Message<'a>),
    /// A status that answers no request.
    Status(Status<'a>),
    /// The server refused `connect`, `createStream`, `publish` or `play`.
    Refused(Status<'a>),
    /// Playback of a message stream has ended.
    StreamEof {
        /// The id of the message stream.
        message_stream_id: u32,
    },
    /// Any other control message. The client has applied it.
    Control(Control),
    /// A control message with too few bytes, which was ignored.
    Malformed,
    /// A message that needs no answer.
    Other(Message<'a>),
}

/// An error that ends a connection to a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The handshake failed: the peer is not an RTMP server.
    Handshake(HandshakeError),
    /// The chunks or a control message are malformed.
    Link(LinkError),
    /// A command cannot be decoded.
    Command(CommandError),
    /// The reply to `createStream` has no message stream id.
    MessageStreamId,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(error) => write!(f, "handshake: {error}"),
            Self::Link(error) => write!(f, "chunk stream: {error}"),
            Self::Command(error) => write!(f, "command: {error}"),
            Self::MessageStreamId => {
                write!(f, "the reply to createStream has no message stream id")
            }
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Handshake(error) => Some(error),
            Self::Link(error) => Some(error),
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

impl From<LinkError> for ClientError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<CommandError> for ClientError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// The client side of one connection, from the first byte of the handshake.
#[derive(Debug)]
pub struct Client {
    inbound: Inbound,
    dialogue: Dialogue,
}

// The load generator holds very many clients.
const _: () = assert!(size_of::<Client>() <= 128);

impl Client {
    /// Creates a client. C0, and C1 with `c1_random`, are in the output.
    pub fn new(config: ClientConfig, c1_random: &[u8; 1528]) -> Self {
        let handshake = ClientHandshake::new(c1_random);
        let mut output = Output::default();
        handshake.start(output.raw());
        Self {
            inbound: Inbound::new(limits::WINDOW_ACK_BYTES),
            dialogue: Dialogue {
                stage: Stage::Handshake(Box::new((handshake, config))),
                output,
                message_stream_id: 0,
                transaction_id: 0,
                announced_window_ack_bytes: 0,
            },
        }
    }

    /// Consumes `input` up to and including the next message of the server, and returns its event.
    /// Returns `None` when all of `input` is consumed and more is needed.
    ///
    /// Call it until it returns `None`, even if `input` is empty. Consumed bytes are overwritten
    /// (see [`ChunkReader::next_message`]). After an error the client must not be used again.
    ///
    /// [`ChunkReader::next_message`]: super::chunk::reader::ChunkReader::next_message
    pub fn next_event<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<ClientEvent<'a>>, ClientError> {
        let Self { inbound, dialogue } = self;
        if let Stage::Handshake(state) = &mut dialogue.stage {
            let mut rest = &**input;
            let is_done = state.0.advance(&mut rest, dialogue.output.raw())?;
            let taken = input.len() - rest.len();
            skip(input, taken);
            if !is_done {
                return Ok(None);
            }
            dialogue.finish_handshake();
            return Ok(Some(ClientEvent::HandshakeDone));
        }
        // The quirks of a server are not reported.
        let tolerated = &mut Tolerated::default();
        let limits = &ReadLimits::default();
        let incoming = inbound.next(input, limits, &mut dialogue.output, tolerated)?;
        Ok(match incoming {
            Some(Incoming::Message(message)) => Some(dialogue.receive(message)?),
            Some(Incoming::Control(control)) => Some(dialogue.receive_control(control)),
            Some(Incoming::Malformed) => Some(ClientEvent::Malformed),
            None => None,
        })
    }

    /// Returns the bytes to be sent to the server.
    pub const fn output(&self) -> &Output {
        &self.dialogue.output
    }

    /// Returns the bytes to be sent, so that the caller can remove those that it has sent.
    pub const fn output_mut(&mut self) -> &mut Output {
        &mut self.dialogue.output
    }

    /// Takes all bytes to be sent, together with their buffer.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.dialogue.output.take()
    }

    /// Returns the message stream id of written media: the one that the server assigned, or the one
    /// that [`Client::set_message_stream_id`] set; 0 before that.
    pub const fn message_stream_id(&self) -> u32 {
        self.dialogue.message_stream_id
    }

    /// Replaces the message stream id of all media written from now on.
    pub const fn set_message_stream_id(&mut self, message_stream_id: u32) {
        self.dialogue.message_stream_id = message_stream_id;
    }

    /// Announces another chunk size and uses it from now on.
    pub fn set_chunk_size(&mut self, chunk_size: u32) {
        self.dialogue.output.set_chunk_size(chunk_size);
    }

    /// Requests a stream on a connection with [`Purpose::Connect`]. Call it after
    /// [`ClientEvent::Connected`]. From there, the client behaves as if it had been created with
    /// the purpose of `config`.
    pub fn go_on(&mut self, config: ClientConfig) {
        if config.purpose.wants_stream() {
            self.dialogue.ask_for_stream(Box::new(config));
        }
    }

    /// Sends a ping request (RTMP 1.0, section 7.1.7).
    pub fn ping(&mut self, millis: u32) {
        self.dialogue.output.user_control(UserControl::PingRequest(millis));
    }

    /// Returns the receiving side, for accounting.
    pub const fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// Returns the memory that the client has allocated: its configuration, unfinished messages and
    /// bytes to be sent (bytes).
    pub fn held_bytes(&self) -> usize {
        let of_stage = match &self.dialogue.stage {
            Stage::Handshake(_) => size_of::<ClientConfig>() + HANDSHAKE_PACKET_BYTES,
            Stage::Connect(_) | Stage::CreateStream(..) => size_of::<ClientConfig>(),
            Stage::Publish(_) | Stage::Play(_) | Stage::Settled => 0,
        };
        of_stage + self.inbound.reader().assembly_bytes() + self.dialogue.output.held_bytes()
    }

    /// Writes an audio message. As with all media, the caller must wait until the server has
    /// accepted the stream.
    pub fn write_audio(&mut self, timestamp: u32, payload: &[u8]) {
        self.write_media(chunk_stream::AUDIO, kind::AUDIO, timestamp, payload);
    }

    /// Writes a video message.
    pub fn write_video(&mut self, timestamp: u32, payload: &[u8]) {
        self.write_media(chunk_stream::VIDEO, kind::VIDEO, timestamp, payload);
    }

    /// Writes a data message. Its payload is AMF0 values; the first one names the handler.
    pub fn write_data(&mut self, timestamp: u32, payload: &[u8]) {
        self.write_media(chunk_stream::DATA, kind::DATA_AMF0, timestamp, payload);
    }

    /// Writes any message unchanged.
    pub fn write_message(&mut self, header: MessageHeader, payload: &[u8]) {
        self.dialogue.output.message(header, payload);
    }

    /// Writes a control message without applying it: a chunk size is announced, but not used.
    pub fn write_control(&mut self, control: Control) {
        self.dialogue.output.control(control);
    }

    /// Tells the server that the stream is over.
    pub fn delete_stream(&mut self) {
        let message_stream_id = self.dialogue.message_stream_id;
        self.dialogue.command(0, |transaction_id, out| {
            request::delete_stream(out, transaction_id, message_stream_id);
        });
    }

    fn write_media(&mut self, chunk_stream_id: u32, kind: u8, timestamp: u32, payload: &[u8]) {
        let message_stream_id = self.message_stream_id();
        let header = MessageHeader { chunk_stream_id, timestamp, kind, message_stream_id };
        self.write_message(header, payload);
    }
}

/// Start argument of `play`. With -1 a server plays only a stream that is live now; with -2 it may
/// wait for the publisher (RTMP 1.0, section 7.2.2.1).
const START_LIVE_OR_WAIT: f64 = -2.0;

/// Progress of the dialogue. Data that only some stages need is dropped after them, because a
/// client may stay in the last stage for days.
#[derive(Debug)]
enum Stage {
    /// Waits for S0, S1 and S2.
    Handshake(Box<(ClientHandshake, ClientConfig)>),
    /// Waits for the reply to `connect`.
    Connect(Box<ClientConfig>),
    /// Waits for the reply to `createStream` with this transaction id.
    CreateStream(u32, Box<ClientConfig>),
    /// Waits for the reply to `publish` with this transaction id.
    Publish(u32),
    /// Waits for the reply to `play` with this transaction id.
    Play(u32),
    /// The server has accepted or refused the last request.
    Settled,
}

/// A client without its receiving side, because a message borrows the receiving side while it
/// changes the rest.
#[derive(Debug)]
struct Dialogue {
    stage: Stage,
    output: Output,
    message_stream_id: u32,
    /// Transaction id of the last command sent.
    transaction_id: u32,
    /// Acknowledgement window that was last announced to the server (bytes); 0 if none was.
    announced_window_ack_bytes: u32,
}

impl Dialogue {
    /// Sends `connect`, unless the purpose is the handshake.
    fn finish_handshake(&mut self) {
        if let Stage::Handshake(state) = std::mem::replace(&mut self.stage, Stage::Settled)
            && state.1.purpose != Purpose::Handshake
        {
            self.connect(Box::new(state.1));
        }
    }

    fn receive<'a>(&mut self, message: Message<'a>) -> Result<ClientEvent<'a>, ClientError> {
        let Message { header, payload } = message;
        match header.kind {
            kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3 | kind::AGGREGATE => {
                Ok(ClientEvent::Media(message))
            }
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => {
                self.receive_command(message, CommandMessage::decode(payload)?)
            }
            _ => Ok(ClientEvent::Other(message)),
        }
    }

    fn receive_control(&mut self, control: Control) -> ClientEvent<'static> {
        match control {
            // Section 5.4.5: the window is announced once, and again when it changes.
            Control::SetPeerBandwidth { window, .. }
                if window > 0 && window != self.announced_window_ack_bytes =>
            {
                self.announced_window_ack_bytes = window;
                self.output.reply(Control::WindowAckSize(window));
            }
            Control::UserControl(UserControl::StreamEof(message_stream_id)) => {
                return ClientEvent::StreamEof { message_stream_id };
            }
            _ => {}
        }
        ClientEvent::Control(control)
    }

    /// Handles a command. The stage decides which replies are expected. All others are passed to
    /// the caller.
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
            // A server may refuse `releaseStream` or `FCPublish` and still accept the stream, so
            // only the awaited transaction counts.
            (
                Command::Error(status),
                &(Stage::CreateStream(request, _) | Stage::Publish(request) | Stage::Play(request)),
            ) if answers(request) => self.refuse(status),
            (Command::OnStatus(status), _) => self.receive_status(status),
            _ => ClientEvent::Other(message),
        })
    }

    fn receive_status<'a>(&mut self, status: Status<'a>) -> ClientEvent<'a> {
        let is = |code: &str| status.code == code.as_bytes();
        let accepted = match self.stage {
            Stage::Publish(_) if is(code::PUBLISH_START) => ClientEvent::Publishing,
            Stage::Play(_) if is(code::PLAY_START) => ClientEvent::Playing,
            Stage::Settled => return ClientEvent::Status(status),
            _ if status.level == level::ERROR.as_bytes() => return self.refuse(status),
            _ => return ClientEvent::Status(status),
        };
        self.stage = Stage::Settled;
        accepted
    }

    fn refuse<'a>(&mut self, status: Status<'a>) -> ClientEvent<'a> {
        self.stage = Stage::Settled;
        ClientEvent::Refused(status)
    }

    fn connect(&mut self, config: Box<ClientConfig>) {
        if config.chunk_size_before_connect {
            self.output.set_chunk_size(config.chunk_size);
        }
        self.command(0, |transaction_id, out| {
            let request = request::ConnectCommand {
                app: &config.app,
                tc_url: &config.tc_url,
                flash_ver: &config.flash_ver,
                publishes: matches!(config.purpose, Purpose::Publish { .. }),
            };
            request::connect(out, transaction_id, &request);
        });
        self.stage = Stage::Connect(config);
    }

    /// Handles the reply to `connect`. Requests a message stream, unless the purpose is only to
    /// connect.
    fn accept_connect(&mut self) -> ClientEvent<'static> {
        let Stage::Connect(config) = std::mem::replace(&mut self.stage, Stage::Settled) else {
            return ClientEvent::Connected;
        };
        if !config.chunk_size_before_connect {
            self.output.set_chunk_size(config.chunk_size);
        }
        if config.purpose.wants_stream() {
            self.ask_for_stream(config);
        }
        ClientEvent::Connected
    }

    fn ask_for_stream(&mut self, config: Box<ClientConfig>) {
        if let (Purpose::Publish { key }, true) = (&config.purpose, config.release_stream) {
            self.command(0, |transaction_id, out| {
                request::release_stream(out, transaction_id, key);
            });
            self.command(0, |transaction_id, out| {
                request::fc_publish(out, transaction_id, key);
            });
        }
        let transaction_id = self.command(0, |transaction_id, out| {
            request::create_stream(out, transaction_id);
        });
        self.stage = Stage::CreateStream(transaction_id, config);
    }

    fn accept_create_stream(
        &mut self,
        answer: Option<f64>,
    ) -> Result<ClientEvent<'static>, ClientError> {
        // The cast saturates, and turns NaN into zero.
        let message_stream_id = answer.ok_or(ClientError::MessageStreamId)? as u32;
        self.message_stream_id = message_stream_id;
        if let Stage::CreateStream(_, config) = std::mem::replace(&mut self.stage, Stage::Settled) {
            match &config.purpose {
                Purpose::Handshake | Purpose::Connect => {}
                Purpose::Publish { key } => self.publish(key),
                Purpose::Play { key } => self.play(key, config.buffer_ms),
            }
        }
        Ok(ClientEvent::StreamCreated { message_stream_id })
    }

    fn publish(&mut self, key: &str) {
        let message_stream_id = self.message_stream_id;
        let transaction_id = self.command(message_stream_id, |transaction_id, out| {
            request::publish(out, transaction_id, key, PublishKind::Live);
        });
        self.stage = Stage::Publish(transaction_id);
    }

    fn play(&mut self, key: &str, buffer_ms: u32) {
        let message_stream_id = self.message_stream_id;
        let transaction_id = self.command(message_stream_id, |transaction_id, out| {
            request::play(out, transaction_id, key, Some(START_LIVE_OR_WAIT));
        });
        let buffer = UserControl::SetBufferLength { message_stream_id, buffer_ms };
        self.output.user_control(buffer);
        self.stage = Stage::Play(transaction_id);
    }

    /// Writes a command with the next transaction id and returns the id.
    fn command(&mut self, message_stream_id: u32, body: impl FnOnce(f64, &mut Vec<u8>)) -> u32 {
        self.transaction_id += 1;
        let transaction_id = f64::from(self.transaction_id);
        self.output.command(message_stream_id, |out| body(transaction_id, out));
        self.transaction_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::chunk::reader::ChunkReader;
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
                "HandshakeDone",
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
            events[..8],
            [
                "HandshakeDone",
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
        assert_eq!(events.len(), 8 + 2 + 151 + 42 + 1);
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
        feed(&mut client, server.output.bytes());
        assert_eq!(sent(&mut client), ["SetChunkSize(4096)", "connect 1", "createStream 2"]);
    }

    #[test]
    fn connecting_alone_asks_for_no_stream() {
        let mut client = Client::new(config(Purpose::Connect), &[7; 1528]);
        let mut server = Server::after_handshake();
        server.connect_result();
        assert_eq!(feed(&mut client, server.output.bytes()), ["HandshakeDone", "Connected"]);
        assert_eq!(sent(&mut client), ["connect 1", "SetChunkSize(60000)"]);
    }

    #[test]
    fn a_client_that_was_only_connected_can_go_on_to_play_and_to_publish() {
        let key = || "cam".to_owned();
        let play = ["createStream 2", "play 3 on 7"];
        let publish = ["releaseStream 2", "FCPublish 3", "createStream 4", "publish 5 on 7"];
        for (purpose, asked, status, accepted) in [
            (Purpose::Play { key: key() }, &play[..], code::PLAY_START, "Playing"),
            (Purpose::Publish { key: key() }, &publish[..], code::PUBLISH_START, "Publishing"),
        ] {
            let mut client = connected();
            client.go_on(config(purpose));
            let request = f64::from(client.dialogue.transaction_id);
            let mut server = Server::default();
            server.command(0, |out| reply::create_stream_result(out, request, 7));
            server.command(7, |out| reply::on_status(out, level::STATUS, status, ""));
            let created = "StreamCreated { message_stream_id: 7 }";
            assert_eq!(feed(&mut client, server.output.bytes()), [created, accepted]);
            let mut sent = sent_behind(&mut client, 0, limits::CHUNK_SIZE_OUT);
            sent.retain(|message| !message.starts_with("UserControl"));
            assert_eq!(sent, asked);
        }
    }

    #[test]
    fn going_on_to_stay_connected_asks_for_nothing() {
        let mut client = connected();
        client.go_on(config(Purpose::Connect));
        assert!(client.output().is_empty());
    }

    #[test]
    fn a_handshake_alone_is_followed_by_silence() {
        let mut client = Client::new(config(Purpose::Handshake), &[7; 1528]);
        let server = Server::after_handshake();
        assert_eq!(feed(&mut client, server.output.bytes()), ["HandshakeDone"]);
        assert_eq!(client.output().bytes().len(), HANDSHAKE_BYTES);
    }

    #[test]
    fn refusals_at_every_stage_are_told_apart_from_statuses() {
        let mut at_connect = Server::after_handshake();
        at_connect.command(0, |out| reply::connect_error(out, 1.0, code::CONNECT_REJECTED, "no"));

        let mut at_create_stream = Server::after_handshake();
        at_create_stream.connect_result();
        // The refusal of `releaseStream` has no effect.
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
            (at_connect, &["HandshakeDone", "Refused NetConnection.Connect.Rejected"]),
            (
                at_create_stream,
                &["HandshakeDone", "Connected", "Other 20", "Refused NetConnection.Call.Failed"],
            ),
            (
                at_publish,
                &[
                    "HandshakeDone",
                    "Connected",
                    "StreamCreated { message_stream_id: 1 }",
                    "Status NetStream.Play.Reset",
                    "Refused NetStream.Publish.BadName",
                    "Status NetStream.Publish.BadName",
                ],
            ),
        ];
        for (server, expected) in rows {
            assert_eq!(feed(&mut publisher(), server.output.bytes()), expected);
        }
    }

    #[test]
    fn an_answer_without_a_message_stream_id_is_an_error() {
        let mut server = Server::after_handshake();
        server.connect_result();
        server.command(0, |out| reply::result_null(out, 4.0));
        let mut client = publisher();
        let mut output = server.output.take();
        let mut input = &mut output[..];
        assert_eq!(client.next_event(&mut input).unwrap(), Some(ClientEvent::HandshakeDone));
        assert_eq!(client.next_event(&mut input).unwrap(), Some(ClientEvent::Connected));
        let error = client.next_event(&mut input).unwrap_err();
        assert!(matches!(error, ClientError::MessageStreamId), "{error}");
    }

    #[test]
    fn pings_are_answered() {
        let mut client = connected();
        let mut server = Server::default();
        server.control(Control::UserControl(UserControl::PingRequest(12345)));
        feed(&mut client, server.output.bytes());
        assert_eq!(sent(&mut client), ["UserControl(PingResponse(12345))"]);
    }

    #[test]
    fn the_peer_bandwidth_is_answered_when_it_changes() {
        let mut client = connected();
        let mut server = Server::default();
        for window in [2_500_000, 2_500_000, 0, 5_000_000] {
            server.control(Control::SetPeerBandwidth { window, limit: BandwidthLimit::Dynamic });
        }
        feed(&mut client, server.output.bytes());
        assert_eq!(sent(&mut client), ["WindowAckSize(2500000)", "WindowAckSize(5000000)"]);
    }

    #[test]
    fn what_the_server_sends_is_acknowledged() {
        let mut client = connected();
        let mut server = Server::default();
        server.control(Control::WindowAckSize(limits::WINDOW_ACK_BYTES_MIN));
        server.message(kind::AUDIO, &vec![0; limits::WINDOW_ACK_BYTES_MIN as usize]);
        feed(&mut client, server.output.bytes());
        let received = client.inbound.received_bytes();
        assert_eq!(sent(&mut client), [format!("Acknowledgement({received})")]);
    }

    #[test]
    fn a_control_message_with_too_few_bytes_is_passed_over() {
        assert_eq!(feed(&mut connected(), &hex("02 000000 000001 05 00000000 09")), ["Malformed"]);
    }

    #[test]
    fn chunk_size_and_abort_of_the_server_are_obeyed() {
        let mut client = connected();
        let mut server = Server::default();
        server.message(kind::VIDEO, &[1; 300]);
        server.output.set_chunk_size(1);
        server.message(kind::VIDEO, &[2; 300]);
        server.output.raw().extend(hex("05 000000 000003 09 01000000 aa"));
        server.control(Control::Abort(5));
        server.output.raw().extend(hex("c5 bb c5 cc c5 dd"));
        assert_eq!(
            feed(&mut client, server.output.bytes()),
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
        let mut input = &mut b"HTTP/1.1 400 Bad Request\r\n".to_owned()[..];
        let error = client.next_event(&mut input).unwrap_err();
        assert!(matches!(error, ClientError::Handshake(_)), "{error}");
    }

    /// The output of a server.
    #[derive(Default)]
    struct Server {
        output: Output,
    }

    impl Server {
        fn after_handshake() -> Self {
            let mut server = Self::default();
            server.output.raw().extend(&recorded(PUBLISH_ANSWERS)[..HANDSHAKE_BYTES]);
            server
        }

        fn connect_result(&mut self) {
            self.command(0, |out| reply::connect_result(out, 1.0, 0.0));
        }

        fn command(&mut self, message_stream_id: u32, body: impl FnOnce(&mut Vec<u8>)) {
            self.output.command(message_stream_id, body);
        }

        fn message(&mut self, kind: u8, payload: &[u8]) {
            let header =
                MessageHeader { chunk_stream_id: 5, timestamp: 0, kind, message_stream_id: 1 };
            self.output.message(header, payload);
        }

        fn control(&mut self, control: Control) {
            self.output.control(control);
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
        feed(&mut client, server.output.bytes());
        client.take_output();
        client
    }

    fn feed(client: &mut Client, bytes: &[u8]) -> Vec<String> {
        let mut input = &mut bytes.to_owned()[..];
        let mut events = Vec::new();
        while let Some(event) = client.next_event(&mut input).expect("a good server") {
            events.push(summary(&event));
        }
        assert!(input.is_empty(), "all of the input is taken");
        events
    }

    /// Passes `session` in pieces. `piece` returns the length of each from the bytes that are left.
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

    /// The messages that the client has written since its handshake, as a server reads them.
    fn sent(client: &mut Client) -> Vec<String> {
        let output = client.output();
        let handshake = if output.bytes().first() == Some(&3) { HANDSHAKE_BYTES } else { 0 };
        sent_behind(client, handshake, limits::CHUNK_SIZE_INITIAL)
    }

    fn sent_behind(client: &mut Client, start: usize, chunk_size: u32) -> Vec<String> {
        let mut output = client.take_output();
        let mut input = &mut output[start..];
        let mut reader = ChunkReader::default();
        reader.set_chunk_size(chunk_size);
        let mut seen = Vec::new();
        while let Some(Message { header, payload }) = reader
            .next_message(&mut input, &ReadLimits::default(), &mut Tolerated::default())
            .expect("a good client")
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
