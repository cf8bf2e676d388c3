//! Command messages: what a peer asks or answers, and the payloads of our own (RTMP 1.0,
//! section 7.2).
//!
//! Owns the names of commands, the order of their arguments and the tolerance for how encoders
//! write them. It builds and reads payloads only: chunks, message stream ids and what a command
//! leads to are decided elsewhere. Shared objects and remote calls of applications do not exist.

mod parse;
pub mod reply;
pub mod request;

use crate::amf0::{Error as AmfError, Value};
use parse::without_nul;
use std::fmt;

/// One command message.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandMessage<'a> {
    /// The name as the peer wrote it.
    pub name: &'a [u8],
    /// What the answer must repeat, bit for bit; 0 where it is missing. May be NaN.
    pub transaction_id: f64,
    /// What is asked.
    pub command: Command<'a>,
}

/// A command with its arguments. A key that is missing or no string is empty.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// `connect`: opens the application.
    Connect(Connect<'a>),
    /// `releaseStream`: frees the key of a broken publisher.
    ReleaseStream {
        /// The stream key.
        key: &'a [u8],
    },
    /// `FCPublish`: announces a publish.
    FcPublish {
        /// The stream key.
        key: &'a [u8],
    },
    /// `FCUnpublish`: announces its end.
    FcUnpublish {
        /// The stream key.
        key: &'a [u8],
    },
    /// `createStream`: asks for a message stream id.
    CreateStream,
    /// `publish`: becomes the publisher of a stream.
    Publish {
        /// The stream key.
        key: &'a [u8],
        /// What is to become of the stream beside its going live; `None`, which means nothing,
        /// where the argument is missing or strange.
        kind: Option<PublishKind>,
    },
    /// `publish` with `false` in place of the key: stops publishing.
    StopPublishing,
    /// `play`: becomes a player of a stream.
    Play {
        /// The stream key.
        key: &'a [u8],
        /// Below zero it means live, in whatever unit the client thinks.
        start: Option<f64>,
        /// How much to play.
        duration: Option<f64>,
        /// Whether an earlier playlist is to be dropped.
        reset: Option<bool>,
    },
    /// `play` with `false` in place of the key: stops playing.
    StopPlaying,
    /// `play2`: changes to another rendition.
    Play2 {
        /// The stream key to change to.
        key: &'a [u8],
        /// How to change.
        transition: &'a [u8],
    },
    /// `pause`: stops or resumes, and wants to be told.
    Pause {
        /// Whether to stop.
        paused: bool,
        /// Where the player stands.
        ms: u32,
    },
    /// `pauseRaw`: as `pause`, without a status.
    PauseRaw {
        /// Whether to stop.
        paused: bool,
        /// Where the player stands.
        ms: u32,
    },
    /// `seek`.
    Seek {
        /// Where to.
        ms: u32,
    },
    /// `receiveAudio`.
    ReceiveAudio {
        /// Whether audio is wanted.
        on: bool,
    },
    /// `receiveVideo`.
    ReceiveVideo {
        /// Whether video is wanted; a frame rate above zero means that it is.
        on: bool,
    },
    /// `deleteStream`.
    DeleteStream {
        /// The message stream id; `None` where it is missing or none, as GStreamer's key is.
        message_stream_id: Option<u32>,
    },
    /// `closeStream`: ends what goes on in the message stream, which stays.
    CloseStream,
    /// `getStreamLength`.
    GetStreamLength {
        /// The stream key.
        key: &'a [u8],
    },
    /// `FCSubscribe`: announces a play.
    FcSubscribe {
        /// The stream key.
        key: &'a [u8],
    },
    /// `FCUnsubscribe`: announces its end.
    FcUnsubscribe {
        /// The stream key.
        key: &'a [u8],
    },
    /// `_checkbw` and its relatives: wants an answer, whatever it says.
    CheckBandwidth,
    /// `_result`: the answer to a call of ours.
    Result {
        /// The command object.
        properties: Value<'a>,
        /// The first argument: of `createStream`, the message stream id.
        response: Value<'a>,
    },
    /// `_error`: the refusal of a call of ours.
    Error(Status<'a>),
    /// `onStatus`.
    OnStatus(Status<'a>),
    /// Any other command.
    Unknown,
}

/// What `connect` says about the client (RTMP 1.0, section 7.2.1.1).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Connect<'a> {
    /// The application, with its query; empty if there is none.
    pub app: &'a [u8],
    /// The URL of the application.
    pub tc_url: Option<&'a [u8]>,
    /// What the client says it is.
    pub flash_ver: Option<&'a [u8]>,
    /// The page that holds a player.
    pub page_url: Option<&'a [u8]>,
    /// The AMF version that the client would like; 0 if it does not say.
    pub object_encoding: f64,
    /// What a client of Enhanced RTMP v2 understands, a set of [`caps_ex`] bits.
    pub caps_ex: Option<u32>,
    /// Whether the client names codecs by FourCC, in the way of either version of Enhanced RTMP.
    pub names_fourccs: bool,
    /// Whether the command object is none, or `tcUrl` is missing or misspelt.
    pub is_odd: bool,
    /// Whether the client says that it is an encoder. One that publishes need not say so.
    pub is_encoder: bool,
}

impl Connect<'_> {
    /// Whether the client says that it speaks Enhanced RTMP. Most encoders that do say nothing.
    pub const fn is_enhanced(&self) -> bool {
        self.caps_ex.is_some() || self.names_fourccs
    }
}

/// What is to become of a published stream (RTMP 1.0, section 7.2.2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishKind {
    /// Nothing.
    #[default]
    Live,
    /// It is recorded to a new file.
    Record,
    /// It is recorded behind what is there.
    Append,
}

impl PublishKind {
    /// The argument of `publish`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Record => "record",
            Self::Append => "append",
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut kinds = [Self::Live, Self::Record, Self::Append].into_iter();
        kinds.find(|kind| kind.as_str().as_bytes().eq_ignore_ascii_case(without_nul(bytes)))
    }
}

/// The information object of a status or an error; what is missing is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status<'a> {
    /// One of [`level`].
    pub level: &'a [u8],
    /// One of [`code`], or of the peer's own.
    pub code: &'a [u8],
    /// For people.
    pub description: &'a [u8],
}

/// Why a message is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// There are no bytes.
    Empty,
    /// The first value is no string, so that nothing is asked.
    NameNotString,
    /// A value that is needed cannot be read.
    Amf(AmfError),
}

impl From<AmfError> for CommandError {
    fn from(error: AmfError) -> Self {
        Self::Amf(error)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "empty command message"),
            Self::NameNotString => write!(f, "command name is no string"),
            Self::Amf(error) => write!(f, "command: {error}"),
        }
    }
}

impl std::error::Error for CommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Amf(error) => Some(error),
            _ => None,
        }
    }
}

/// Levels of a status.
pub mod level {
    /// All is well.
    pub const STATUS: &str = "status";
    /// What was asked is refused.
    pub const ERROR: &str = "error";
}

/// Codes of a status or an error, as clients know them.
pub mod code {
    /// `connect` is granted.
    pub const CONNECT_SUCCESS: &str = "NetConnection.Connect.Success";
    /// `connect` is refused: limits, credentials.
    pub const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
    /// The application does not exist.
    pub const CONNECT_INVALID_APP: &str = "NetConnection.Connect.InvalidApp";
    /// The server is ending.
    pub const CONNECT_APP_SHUTDOWN: &str = "NetConnection.Connect.AppShutdown";
    /// The client is to connect anew (Enhanced RTMP v2).
    pub const CONNECT_RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
    /// A call is refused.
    pub const CALL_FAILED: &str = "NetConnection.Call.Failed";
    /// `publish` is granted.
    pub const PUBLISH_START: &str = "NetStream.Publish.Start";
    /// The name is taken or none.
    pub const PUBLISH_BAD_NAME: &str = "NetStream.Publish.BadName";
    /// The client may not publish here.
    pub const PUBLISH_DENIED: &str = "NetStream.Publish.Denied";
    /// A publish has ended.
    pub const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";
    /// An earlier playlist is dropped.
    pub const PLAY_RESET: &str = "NetStream.Play.Reset";
    /// `play` is granted.
    pub const PLAY_START: &str = "NetStream.Play.Start";
    /// `play2` changes to another stream.
    pub const PLAY_TRANSITION: &str = "NetStream.Play.Transition";
    /// Playback has ended.
    pub const PLAY_STOP: &str = "NetStream.Play.Stop";
    /// `play` is refused.
    pub const PLAY_FAILED: &str = "NetStream.Play.Failed";
    /// There is no such stream.
    pub const PLAY_STREAM_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
    /// The publisher has come.
    pub const PLAY_PUBLISH_NOTIFY: &str = "NetStream.Play.PublishNotify";
    /// The publisher has gone.
    pub const PLAY_UNPUBLISH_NOTIFY: &str = "NetStream.Play.UnpublishNotify";
    /// Playback has stopped for a while.
    pub const PAUSE_NOTIFY: &str = "NetStream.Pause.Notify";
    /// Playback goes on.
    pub const UNPAUSE_NOTIFY: &str = "NetStream.Unpause.Notify";
    /// Playback goes on elsewhere.
    pub const SEEK_NOTIFY: &str = "NetStream.Seek.Notify";
}

/// Bits of `capsEx`: what a peer of Enhanced RTMP v2 understands.
pub mod caps_ex {
    /// A request to connect anew.
    pub const RECONNECT: u32 = 1;
    /// Several tracks in one message.
    pub const MULTITRACK: u32 = 2;
    /// Modifiers before a packet.
    pub const MOD_EX: u32 = 4;
    /// Timestamps with nanoseconds.
    pub const TIMESTAMP_NANO_OFFSET: u32 = 8;
}

/// What every command message begins with (RTMP 1.0, section 7.2).
fn begin(out: &mut Vec<u8>, name: &str, transaction_id: f64) {
    crate::amf0::put_string(out, name.as_bytes());
    crate::amf0::put_number(out, transaction_id);
}

#[cfg(test)]
mod tests;
