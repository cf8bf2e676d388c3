//! The server on real sockets.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::config::{ConfigError, Settings};
use crate::limits;

/// Runs the server until it has drained.
pub fn run(
    settings: Settings,
    reload: impl Fn() -> Result<Settings, ConfigError>,
) -> Result<(), StartError> {
    let _ = (settings, reload);
    Ok(())
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
