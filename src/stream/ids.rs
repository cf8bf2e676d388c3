//! Ids of connections and streams: indexes of tables that other modules own.

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
