//! The only part of the server with sockets, the poll, signals and the clock.
//!
//! [`run`] runs the server of `server/` on real sockets until it has drained. It decides nothing
//! about the protocol.

mod activation;
mod descriptor_bounds;
mod dial;
mod event_loop;
mod listener;
mod memfd;
mod memory_budget;
mod notify;
mod signals;
mod tcp;

use crate::config::{ConfigErrors, ListenAddress, Settings};
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::handshake::Hello;
use event_loop::EventLoop;
use listener::Listener;
use rand::Rng;
use rustix::io::Errno;
pub use signals::Signals;
use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Runs the server until it has drained.
///
/// On SIGHUP, `reload` reads the configuration again; it receives the settings in force. If the
/// bounds on connections or memory are 0, they are derived from the descriptor limit and from the
/// available memory.
///
/// # Errors
/// Returns all errors that keep the server from starting. Nothing is running then.
pub fn run(
    mut settings: Settings,
    signals: Signals,
    reload: impl Fn(&Settings) -> Result<Settings, ConfigErrors>,
) -> Result<(), Vec<StartError>> {
    let mut errors = Vec::new();
    match descriptor_bounds::connections_max(settings.limits.connections_max) {
        Ok(connections_max) => settings.limits.connections_max = connections_max,
        Err(error) => errors.push(error),
    }
    descriptor_bounds::warn_if_not_raised();
    let listeners = match activation::listeners(&settings) {
        Ok(listeners) if listeners.is_empty() => listen(&settings, &mut errors),
        Ok(listeners) => listeners,
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    settings.limits.memory_bytes_max = memory_budget::budget(settings.limits.memory_bytes_max);
    let mut random = [0; limits::HANDSHAKE_RANDOM_BYTES];
    rand::rng().fill_bytes(&mut random);
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let (hello, challenger) = (Hello::new(&random), Challenger::new(secret));
    let event_loop = EventLoop::new(settings, signals, listeners, hello, challenger);
    event_loop.and_then(|mut event_loop| event_loop.run(reload)).map_err(|error| vec![error.into()])
}

/// Returns all errors that would keep a server with these settings from starting on this machine.
///
/// It listens on the addresses for a moment. With socket activation it does not, because the
/// sockets that the service manager hands over replace `listen`.
pub fn check(settings: &Settings) -> Vec<StartError> {
    let mut errors = Vec::new();
    errors.extend(descriptor_bounds::connections_max(settings.limits.connections_max).err());
    if env::var_os("LISTEN_FDS").is_none() {
        drop(listen(settings, &mut errors));
    }
    errors
}

/// Listens on every address. Errors are appended to `errors`.
fn listen(settings: &Settings, errors: &mut Vec<StartError>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for (index, listen) in settings.listen.iter().enumerate() {
        let before = &settings.listen[..index];
        let bound = resolve(listen).and_then(|address| Listener::bind(address, settings));
        match bound {
            Ok(listener) => listeners.push(listener),
            Err(error) => errors.push(match before.iter().find(|other| overlap(listen, other)) {
                Some(other) if error.is_in_use() => {
                    StartError::Overlap { listen: listen.clone(), other: other.clone() }
                }
                _ => error,
            }),
        }
    }
    listeners
}

/// Returns the address with the index of its interface.
fn resolve(listen: &ListenAddress) -> Result<SocketAddr, StartError> {
    let mut address = listen.address;
    if let (SocketAddr::V6(v6), Some(interface)) = (&mut address, &listen.interface) {
        let index = listener::interface_index(interface)
            .map_err(|error| StartError::NoInterface { listen: listen.clone(), error })?;
        v6.set_scope_id(index);
    }
    Ok(address)
}

/// Returns true if one of the addresses takes the connections of the other.
fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    let is_any = |listen: &ListenAddress| listen.address.ip().is_unspecified();
    let port = one.address.port();
    port != 0 && port == other.address.port() && (is_any(one) || is_any(other))
}

/// An error that keeps the server from starting. It is displayed as one line.
#[derive(Debug)]
pub enum StartError {
    /// The server cannot listen on an address.
    CannotBind {
        /// The address as configured.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// The interface of a link-local address does not exist.
    NoInterface {
        /// The address as configured.
        listen: ListenAddress,
        /// The error of the system.
        error: io::Error,
    },
    /// One address of the list takes the connections of another.
    Overlap {
        /// The address that the server cannot listen on.
        listen: ListenAddress,
        /// The earlier address in the list.
        other: ListenAddress,
    },
    /// A socket that the service manager handed over cannot be used. The text names it and the
    /// reason.
    HandedOver(String),
    /// The descriptor limit is too low for the configured connections.
    DescriptorLimit {
        /// Descriptors for all connections and for the server itself.
        needed: usize,
        /// The descriptor limit.
        limit: usize,
    },
    /// The system refused another resource.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotBind { address, error } => {
                write!(f, "cannot listen on {address}: {error}; {}", bind_remedy(error))
            }
            Self::NoInterface { listen, error } => write!(
                f,
                "cannot listen on {listen}: {error}; choose an interface of this machine \
                 (ip link shows them)"
            ),
            Self::Overlap { listen, other } => write!(
                f,
                "cannot listen on {listen}: {other} in the same list takes its connections; \
                 remove one of the two"
            ),
            Self::HandedOver(what) => write!(
                f,
                "cannot use a socket of the service manager: {what}; \
                 its socket unit needs ListenStream= with a port, and Accept=no"
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
                "cannot create the poll or the signal handlers: {error}; check for a lack of \
                 memory or of descriptors in the whole system (fs.file-max)"
            ),
        }
    }
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the program that uses the port (ss -ltnp shows it) or choose another (--listen)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "choose an address of this machine (ip address shows them), or [::] for all (--listen)"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port of 1024 or more (--listen), or use a socket unit"
        }
        _ if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            "the system lacks this address family: choose an address of the other, IPv4 or IPv6 \
             (--listen)"
        }
        _ => "check whether a sandbox or a limit of the system keeps programs from listening",
    }
}

impl StartError {
    /// Returns true if another socket listens on the port, for example that of a running server.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::CannotBind { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
    }

    /// Returns the configuration key that the error is about, if there is one.
    pub const fn key(&self) -> Option<&'static str> {
        match self {
            Self::CannotBind { .. } | Self::NoInterface { .. } | Self::Overlap { .. } => {
                Some("listen")
            }
            Self::DescriptorLimit { .. } => Some("limits.connections_max"),
            Self::HandedOver(_) | Self::Io(_) => None,
        }
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
