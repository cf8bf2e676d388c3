//! The reasons for the end of a connection. The list is fixed, so that log, counters and tests use
//! the same names. The manual repeats it in `running.md`.

use crate::rtmp::chunk::reader::ChunkError;
use crate::rtmp::handshake::HandshakeError;
use crate::rtmp::link::LinkError;
use crate::rtmp::session::SessionError;
use log::Level;
use std::fmt;
use std::io::{self, ErrorKind};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $level:ident;)+) => {
        /// The reason a connection ended. [`fmt::Display`] gives the name used in logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CloseReason {
            $($(#[$doc])* $name,)+
        }

        impl CloseReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in logs and counters.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The level of the closing line: debug for normal ends, info for refusals and other
            /// events for an operator, warn for the loss of a stream.
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)+ }
            }
        }
    };
}

reasons! {
    /// The peer closed in an orderly way.
    PeerClosed = "peer_closed", Debug;
    /// The peer closed without reading everything, as players do that quit.
    PeerReset = "peer_reset", Debug;
    /// The connection broke: a timeout in the kernel, or an unreachable network.
    PeerLost = "peer_lost", Debug;
    /// C0 or C2 is not RTMP. TLS and HTTP clients end here.
    BadHandshake = "bad_handshake", Info;
    /// The handshake exceeded `timeouts.handshake_ms`.
    HandshakeTimeout = "handshake_timeout", Debug;
    /// `connect` did not arrive within `timeouts.connect_ms`.
    ConnectTimeout = "connect_timeout", Debug;
    /// The session had no stream for `timeouts.idle_ms`.
    IdleTimeout = "idle_timeout", Debug;
    /// The publisher sent no media for `timeouts.publisher_silent_ms`.
    PublisherSilent = "publisher_silent", Warn;
    /// The peer took no byte for `timeouts.player_stalled_ms`.
    PlayerStalled = "player_stalled", Info;
    /// The player skipped more than `play.skips_max` times.
    SlowConsumer = "slow_consumer", Info;
    /// The stream did not begin within `play.wait_ms`.
    WaitTimeout = "wait_timeout", Info;
    /// The peer gave no sign of life between two pings.
    PingTimeout = "ping_timeout", Info;
    /// A chunk continues a message that never began.
    MissingHeader = "missing_header", Warn;
    /// A message exceeds the limit of its kind.
    MessageTooLarge = "message_too_large", Warn;
    /// The peer uses more than `limits.chunk_streams_max`.
    TooManyChunkStreams = "too_many_chunk_streams", Warn;
    /// Unfinished messages exceed `limits.assembly_bytes_max`.
    AssemblyTooLarge = "assembly_too_large", Warn;
    /// A protocol control message is malformed, such as a chunk size of 0.
    BadControl = "bad_control", Warn;
    /// A command cannot be parsed, or came before `connect`.
    BadCommand = "bad_command", Warn;
    /// The name of the application or stream violates a rule.
    BadName = "bad_name", Info;
    /// The client was told how to log in, and will use another connection.
    LoginBegun = "login_begun", Info;
    /// The user or the password is wrong, or the publish needs a login.
    LoginFailed = "login_failed", Info;
    /// The application does not accept this stream key.
    KeyRefused = "key_refused", Info;
    /// No judge decided about a connect, publish or play in time.
    VerdictTimeout = "verdict_timeout", Warn;
    /// The server that a stream is relayed to refused it.
    RelayRefused = "relay_refused", Warn;
    /// The response is sent, and client or server wanted no further request.
    Answered = "answered", Debug;
    /// The bytes are not a valid HTTP request.
    BadRequest = "bad_request", Debug;
    /// A WebSocket client violated the protocol.
    BadFrame = "bad_frame", Debug;
    /// The stream that was played over HTTP is over.
    StreamEnded = "stream_ended", Debug;
    /// The request or the response exceeded its deadline.
    HttpTimeout = "http_timeout", Debug;
    /// Replies piled up because the peer did not read them.
    ControlOverflow = "control_overflow", Warn;
    /// The stream already has a publisher.
    AlreadyPublishing = "already_publishing", Info;
    /// Another publisher took over the stream.
    Replaced = "replaced", Info;
    /// Nobody publishes the stream, and `play.absent` is `refuse`.
    StreamNotFound = "stream_not_found", Info;
    /// The server has `limits.streams_max` streams.
    StreamLimit = "stream_limit", Warn;
    /// The address has `limits.connections_per_address_max` connections.
    AddressLimit = "per_address_limit", Debug;
    /// The table of connections was full, and this session without a stream was evicted.
    GaveWay = "gave_way", Debug;
    /// An operator closed the connection over the API.
    Kicked = "kicked", Info;
    /// Memory was short, and this connection was the cheapest loss.
    MemoryPressure = "memory_pressure", Info;
    /// The server is going down.
    ServerShutdown = "server_shutdown", Debug;
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&io::Error> for CloseReason {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::PeerReset,
            _ => Self::PeerLost,
        }
    }
}

impl From<&SessionError> for CloseReason {
    fn from(error: &SessionError) -> Self {
        match error {
            SessionError::Handshake(error) => error.into(),
            SessionError::Link(error) => error.into(),
            SessionError::BadConnect(_) | SessionError::NotConnected => Self::BadCommand,
            SessionError::ControlOverflow { .. } => Self::ControlOverflow,
        }
    }
}

impl From<&LinkError> for CloseReason {
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::Chunk(error) => error.into(),
            LinkError::Control(_) => Self::BadControl,
        }
    }
}

impl From<&HandshakeError> for CloseReason {
    fn from(_: &HandshakeError) -> Self {
        Self::BadHandshake
    }
}

impl From<&ChunkError> for CloseReason {
    fn from(error: &ChunkError) -> Self {
        match error {
            ChunkError::FreshChunkStream { .. } => Self::MissingHeader,
            ChunkError::MessageTooLarge { .. } => Self::MessageTooLarge,
            ChunkError::TooManyChunkStreams { .. } => Self::TooManyChunkStreams,
            ChunkError::AssemblyTooLarge { .. } => Self::AssemblyTooLarge,
        }
    }
}
