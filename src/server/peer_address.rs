//! The address of a peer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a peer. The peers of a unix socket have none, so nothing tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// IP address and port.
    Ip(SocketAddr),
    /// A program on this machine, over a unix socket.
    Unix,
}

impl PeerAddress {
    /// Returns the IP address; `None` for the peer of a unix socket.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// Returns the port; 0 for the peer of a unix socket.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Unix => 0,
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// The form in log lines, on the page and in the API.
impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.pad("unix"),
        }
    }
}
