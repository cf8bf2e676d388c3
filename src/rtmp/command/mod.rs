//! Command messages: requests and replies of a peer, and the payloads that this side sends (RTMP
//! 1.0, section 7.2).
//!
//! Owns the names of commands, the order of their arguments, and the tolerance for the variants
//! that encoders write. It only decodes and encodes payloads. Chunks, message stream ids and the
//! effect of a command are the work of other modules. Shared objects and remote procedure calls of
//! applications are not supported.

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
    /// The transaction id, which a reply repeats bit for bit; 0 if it is missing. May be NaN.
    pub transaction_id: f64,
    /// The command with its arguments.
    pub command: Command<'a>,
}

/// A command with its arguments. A key that is missing, or is not a string, is empty.
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
        /// The publishing type; `None` if the argument is missing or unknown.
        kind: Option<PublishKind>,
    },
    /// `publish` with `false` in place of the key: stops publishing.
    StopPublishing,
    /// `play`: becomes a player of a stream.
    Play {
        /// The stream key.
        key: &'a [u8],
        /// Start position. Negative values mean live; clients disagree on the unit.
        start: Option<f64>,
        /// Duration of the playback; clients disagree on the unit.
        duration: Option<f64>,
        /// True to drop an earlier playlist.
        reset: Option<bool>,
    },
    /// `play` with `false` in place of the key: stops playing.
    StopPlaying,
    /// `play2`: changes to another rendition.
    Play2 {
        /// The stream key to change to.
        key: &'a [u8],
        /// The kind of transition.
        transition: &'a [u8],
    },
    /// `pause`: stops or resumes playback, and expects a status.
    Pause {
        /// True to stop, false to resume.
        paused: bool,
        /// Position of the player (ms).
        ms: u32,
    },
    /// `pauseRaw`: the same as `pause`, without a status.
    PauseRaw {
        /// True to stop, false to resume.
        paused: bool,
        /// Position of the player (ms).
        ms: u32,
    },
    /// `seek`: changes the position.
    Seek {
        /// The new position (ms).
        ms: u32,
    },
    /// `receiveAudio`: turns audio on or off.
    ReceiveAudio {
        /// True to turn audio on.
        on: bool,
    },
    /// `receiveVideo`: turns video on or off.
    ReceiveVideo {
        /// True to turn video on; so does a frame rate above zero.
        on: bool,
    },
    /// `deleteStream`: frees a message stream.
    DeleteStream {
        /// The message stream id; `None` if it is missing or not an id. GStreamer sends the key.
        message_stream_id: Option<u32>,
    },
    /// `closeStream`: ends the publish or play, and keeps the message stream.
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
    /// `_checkbw` and its variants: any reply will do.
    CheckBandwidth,
    /// `_result`: grants a call of this side.
    Result {
        /// The command object.
        properties: Value<'a>,
        /// The first argument. In the reply to `createStream` it is the message stream id.
        response: Value<'a>,
    },
    /// `_error`: refuses a call of this side.
    Error(Status<'a>),
    /// `onStatus`: reports an event of a message stream.
    OnStatus(Status<'a>),
    /// Any other command.
    Unknown,
}

/// Properties of `connect` (RTMP 1.0, section 7.2.1.1).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Connect<'a> {
    /// The application, with its query; empty if there is none.
    pub app: &'a [u8],
    /// The URL of the application.
    pub tc_url: Option<&'a [u8]>,
    /// The name and version of the client.
    pub flash_ver: Option<&'a [u8]>,
    /// The web page that embeds the player.
    pub page_url: Option<&'a [u8]>,
    /// The AMF version that the client prefers; 0 if it names none.
    pub object_encoding: f64,
    /// Capabilities of an Enhanced RTMP v2 client, a set of [`caps_ex`] bits.
    pub caps_ex: Option<u32>,
    /// True if the client lists codecs by FourCC, as either version of Enhanced RTMP does.
    pub names_fourccs: bool,
    /// True if the command object is not an object, or if `tcUrl` is missing or misspelt.
    pub is_odd: bool,
    /// True if the client presents itself as an encoder. Not every publisher does.
    pub is_encoder: bool,
}

impl Connect<'_> {
    /// Returns true if the client announces Enhanced RTMP. Most encoders that use it do not
    /// announce it.
    pub const fn is_enhanced(&self) -> bool {
        self.caps_ex.is_some() || self.names_fourccs
    }
}

/// Publishing type (RTMP 1.0, section 7.2.2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishKind {
    /// The stream is live and not recorded.
    #[default]
    Live,
    /// The stream is recorded to a new file.
    Record,
    /// The stream is appended to a file.
    Append,
}

impl PublishKind {
    /// Returns the argument of `publish`.
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

/// The information object of a status or an error. Missing properties are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status<'a> {
    /// One of [`level`].
    pub level: &'a [u8],
    /// One of [`code`], or a code of the peer.
    pub code: &'a [u8],
    /// A text for people.
    pub description: &'a [u8],
}

/// An error in a command message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The message is empty.
    Empty,
    /// The first value, which names the command, is not a string.
    NameNotString,
    /// A required value cannot be decoded.
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
            Self::NameNotString => write!(f, "command name is not a string"),
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
    /// A report, or a request that is granted.
    pub const STATUS: &str = "status";
    /// A failure, or a request that is refused.
    pub const ERROR: &str = "error";
}

/// Codes of a status or an error. Clients compare them.
pub mod code {
    /// `connect` is granted.
    pub const CONNECT_SUCCESS: &str = "NetConnection.Connect.Success";
    /// `connect` is refused because of limits or credentials.
    pub const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
    /// The application does not exist.
    pub const CONNECT_INVALID_APP: &str = "NetConnection.Connect.InvalidApp";
    /// The server is shutting down.
    pub const CONNECT_APP_SHUTDOWN: &str = "NetConnection.Connect.AppShutdown";
    /// The client should reconnect (Enhanced RTMP v2).
    pub const CONNECT_RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
    /// A call is refused.
    pub const CALL_FAILED: &str = "NetConnection.Call.Failed";
    /// `publish` is granted.
    pub const PUBLISH_START: &str = "NetStream.Publish.Start";
    /// The stream name is taken or invalid.
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
    /// A publisher has started.
    pub const PLAY_PUBLISH_NOTIFY: &str = "NetStream.Play.PublishNotify";
    /// The publisher has left.
    pub const PLAY_UNPUBLISH_NOTIFY: &str = "NetStream.Play.UnpublishNotify";
    /// Playback is paused.
    pub const PAUSE_NOTIFY: &str = "NetStream.Pause.Notify";
    /// Playback resumes.
    pub const UNPAUSE_NOTIFY: &str = "NetStream.Unpause.Notify";
    /// Playback continues at another position.
    pub const SEEK_NOTIFY: &str = "NetStream.Seek.Notify";
}

/// Bits of `capsEx`: capabilities of an Enhanced RTMP v2 peer.
pub mod caps_ex {
    /// Reconnect requests.
    pub const RECONNECT: u32 = 1;
    /// Several tracks in one message.
    pub const MULTITRACK: u32 = 2;
    /// Modifiers before a packet.
    pub const MOD_EX: u32 = 4;
    /// Timestamps with nanoseconds.
    pub const TIMESTAMP_NANO_OFFSET: u32 = 8;
}

/// Appends the name and the transaction id, with which every command message begins (RTMP 1.0,
/// section 7.2).
fn begin(out: &mut Vec<u8>, name: &str, transaction_id: f64) {
    crate::amf0::put_string(out, name.as_bytes());
    crate::amf0::put_number(out, transaction_id);
}

#[cfg(test)]
mod tests;
