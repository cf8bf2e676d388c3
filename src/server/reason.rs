//! Why connections end: a closed list, so that log, counters and tests speak of the same things.

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

            /// The level of its line: the ordinary course of things at debug, refusals and other
            /// events for an operator at info, the loss of a stream at warn.
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)+ }
            }
        }
    };
}

reasons! {
    /// The peer closed in an orderly way.
    PeerClosed = "peer_closed", Debug;
    /// The peer closed with bytes of ours unread, as players do that quit in mid-stream.
    PeerReset = "peer_reset", Debug;
    /// The connection broke: timed out in the kernel, unreachable.
    PeerLost = "peer_lost", Debug;
    /// C0 or C2 is not what RTMP asks for; TLS and HTTP among it.
    BadHandshake = "bad_handshake", Info;
    /// The handshake was not complete in time.
    HandshakeTimeout = "handshake_timeout", Debug;
    /// `connect` did not come in time.
    ConnectTimeout = "connect_timeout", Debug;
    /// A session without a stream stayed beyond the configured time.
    IdleTimeout = "idle_timeout", Debug;
    /// A publisher sent no media for too long.
    PublisherSilent = "publisher_silent", Warn;
    /// A player took no byte for too long.
    PlayerStalled = "player_stalled", Info;
    /// A player had to be moved to the live edge too often.
    SlowConsumer = "slow_consumer", Info;
    /// The awaited stream did not begin in time.
    WaitTimeout = "wait_timeout", Info;
    /// No sign of life between two pings.
    PingTimeout = "ping_timeout", Info;
    /// A chunk continues what never began.
    MissingHeader = "missing_header", Warn;
    /// A message is longer than its kind may be.
    MessageTooLarge = "message_too_large", Warn;
    /// More chunk streams than may live at once.
    TooManyChunkStreams = "too_many_chunk_streams", Warn;
    /// More bytes under assembly than may wait at once.
    AssemblyTooLarge = "assembly_too_large", Warn;
    /// A protocol control message is broken.
    BadControl = "bad_control", Warn;
    /// A command cannot be read, or comes before `connect`.
    BadCommand = "bad_command", Warn;
    /// An application or stream name breaks a rule.
    BadName = "bad_name", Info;
    /// A login goes on over another connection: the client was told what to answer.
    LoginBegun = "login_begun", Info;
    /// A user or a password is wrong, or a publish needs a login.
    LoginFailed = "login_failed", Info;
    /// The application accepts other stream keys.
    KeyRefused = "key_refused", Info;
    /// A judge did not decide about a request in time.
    VerdictTimeout = "verdict_timeout", Warn;
    /// The server that a stream is relayed to has refused it.
    RelayRefused = "relay_refused", Warn;
    /// Replies piled up for a peer that does not read.
    ControlOverflow = "control_overflow", Warn;
    /// The stream has a publisher already.
    AlreadyPublishing = "already_publishing", Info;
    /// Another publisher took the stream over.
    Replaced = "replaced", Info;
    /// The stream asked for is not there.
    StreamNotFound = "stream_not_found", Info;
    /// The table of streams is full.
    StreamLimit = "stream_limit", Warn;
    /// The address has as many connections as it may.
    AddressLimit = "per_address_limit", Debug;
    /// The table of connections was full and this one had no stream.
    GaveWay = "gave_way", Debug;
    /// Memory was short and this was the cheapest loss.
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
