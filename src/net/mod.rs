//! Ring 2: the only place with sockets, the poll, signals and the clock.
//!
//! [`run`] makes the server of `server/` on real sockets and stays until it has drained. It
//! decides nothing about the protocol.

mod descriptors;
mod event_loop;
mod listener;
mod segment;
mod transport;

use crate::config::{ConfigError, Settings};
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::handshake::Hello;
use event_loop::EventLoop;
use rand::Rng;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Runs the server until it has drained. `reload` reads the configuration again, upon SIGHUP.
///
/// The connections' bound is found here when it is left to the descriptor limit.
///
/// # Errors
/// Whatever keeps the server from starting; nothing is half started then.
pub fn run(
    mut settings: Settings,
    reload: impl Fn() -> Result<Settings, ConfigError>,
) -> Result<(), StartError> {
    settings.limits.connections_max =
        descriptors::connections_max(settings.limits.connections_max)?;
    let mut random = [0; limits::HANDSHAKE_RANDOM_BYTES];
    rand::rng().fill_bytes(&mut random);
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let challenger = Challenger::new(secret);
    let mut event_loop = EventLoop::new(settings, Hello::new(&random), challenger)?;
    event_loop.run(reload).map_err(StartError::Io)
}

/// Why the server did not start; displayed as one line.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    CannotBind {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The process may not open as many descriptors as the connections need.
    DescriptorLimit {
        /// Descriptors for all connections and what the server needs itself.
        needed: usize,
        /// What the process may open.
        limit: usize,
    },
    /// Anything else that the system refused.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotBind { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::DescriptorLimit { needed, limit } => {
                let connections = needed.saturating_sub(limits::DESCRIPTORS_RESERVED);
                write!(
                    f,
                    "the descriptor limit of {limit} is too low for {connections} connections: \
                     raise it to {needed} (ulimit -n, LimitNOFILE=) or lower connections_max"
                )
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
