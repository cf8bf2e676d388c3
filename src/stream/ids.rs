//! The names by which connections, streams and the roles between them are known: small numbers.
//!
//! Owns no table: an id means a place in one that others own.

/// A connection's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u32);

impl ConnId {
    /// The connection at place `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The place.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The place as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A stream's place in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The place as an index.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One lane of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The connection.
    pub conn: ConnId,
    /// What separates the streams of one connection: the message stream id in RTMP.
    pub lane: u32,
}
