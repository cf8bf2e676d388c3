//! Ring 2: the only place with sockets, the poll, signals and the clock.
//!
//! [`run`] makes the server of `server/` on real sockets and stays until it has drained. It
//! decides nothing about the protocol.

mod activation;
mod descriptors;
mod event_loop;
mod listener;
mod memory;
mod notify;
mod segment;
mod transport;

use crate::config::{ConfigError, Settings};
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::handshake::Hello;
use event_loop::EventLoop;
use rand::Rng;
use rustix::io::Errno;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Runs the server until it has drained. `reload` reads the configuration again, upon SIGHUP.
///
/// The bounds of connections and of memory are found here when they are left to the descriptor
/// limit and to what the machine has.
///
/// # Errors
/// Whatever keeps the server from starting; nothing is half started then.
pub fn run(
    mut settings: Settings,
    reload: impl Fn() -> Result<Settings, ConfigError>,
) -> Result<(), StartError> {
    settings.limits.connections_max =
        descriptors::connections_max(settings.limits.connections_max)?;
    settings.limits.memory_bytes_max = memory::budget(settings.limits.memory_bytes_max);
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
    /// What the service manager handed over to be listened on cannot be: what, and why.
    HandedOver(String),
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
            Self::CannotBind { address, error } => {
                write!(f, "cannot listen on {address}: {error}; {}", bind_remedy(error))
            }
            Self::HandedOver(what) => write!(
                f,
                "cannot listen on what was handed over: {what}; \
                 a socket unit for it has ListenStream= with a port and Accept=no"
            ),
            Self::DescriptorLimit { needed, limit } => {
                let connections = needed.saturating_sub(limits::DESCRIPTORS_RESERVED);
                write!(
                    f,
                    "the descriptor limit of {limit} is too low for {connections} connections: \
                     raise it to {needed} (ulimit -n, LimitNOFILE=) or lower connections_max"
                )
            }
            Self::Io(error) => write!(
                f,
                "the system has no poll or no signals for the server: {error}; see whether memory \
                 or the descriptors of all processes (fs.file-max) have run out"
            ),
        }
    }
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop what has the port (ss -ltnp shows it) or choose another (--listen)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "choose an address of this machine (ip address shows them), or [::] for all (--listen)"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 up (--listen), or have it handed over by a socket unit"
        }
        _ if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            "the system has no addresses of this kind: choose one of the other, IPv4 or IPv6 \
             (--listen)"
        }
        _ => "see whether a sandbox or a limit of the system keeps programs from listening",
    }
}

impl Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do_about_it() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let cannot_bind =
            |kind: io::ErrorKind| StartError::CannotBind { address, error: kind.into() };
        for (error, remedy) in [
            (cannot_bind(io::ErrorKind::AddrInUse), "ss -ltnp"),
            (cannot_bind(io::ErrorKind::AddrNotAvailable), "[::] for all"),
            (cannot_bind(io::ErrorKind::PermissionDenied), "socket unit"),
            (cannot_bind(io::ErrorKind::Unsupported), "sandbox"),
            (StartError::CannotBind { address, error: Errno::AFNOSUPPORT.into() }, "IPv4 or IPv6"),
            (StartError::HandedOver("x".to_owned()), "ListenStream="),
            (StartError::DescriptorLimit { needed: 132, limit: 64 }, "raise it to 132"),
            (StartError::Io(io::ErrorKind::OutOfMemory.into()), "memory"),
        ] {
            let line = error.to_string();
            assert!(line.contains(remedy) && !line.contains('\n'), "{line}");
        }
    }
}
