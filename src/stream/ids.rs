//! Ids of connections and streams: indexes of tables that other modules own.

use std::fmt;

/// Index of a connection in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u32);

impl ConnId {
    /// Returns the id of the connection at index `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// Returns the index as it is stored.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Returns the index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a stream in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// Returns the index.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One lane of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The connection.
    pub conn: ConnId,
    /// Distinguishes the streams of one connection: the message stream id in RTMP.
    pub lane: u32,
}

/// Names one run of a stream for players that cache what they were sent. No other run has it, also
/// after a restart of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation(pub(crate) u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Incarnation {
    /// Reads a name in the only form that it has. A second form would be a second name of all
    /// files.
    pub fn parse(text: &str) -> Option<Self> {
        let incarnation = u64::from_str_radix(text, 16).ok().map(Self)?;
        (incarnation.to_string() == text).then_some(incarnation)
    }
}
