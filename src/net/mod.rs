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
#[cfg(target_os = "linux")]
mod tcp_facts;
mod unix_socket;

use crate::config::{ConfigErrors, ListenAddress, ListenPlace, Settings, SocketPath};
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::handshake::Hello;
use crate::server::peer::Protocol;
use crate::server::web::{ApiToken, Surface};
use event_loop::EventLoop;
use listener::Listener;
use log::warn;
use rand::Rng;
use rustix::io::Errno;
pub use signals::Signals;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;

/// Environment variable with the token of the API.
const TOKEN_VARIABLE: &str = "TIDERACE_API_TOKEN";

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
    let mut listeners = match activation::listeners(&settings) {
        Ok(listeners) if listeners.is_empty() => listen(&settings, &mut errors),
        Ok(listeners) => listeners,
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    };
    listeners.extend(listen_for_http(&settings, &mut errors));
    let token = token(&settings).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
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
    let run = |mut event_loop: EventLoop| {
        event_loop.set_token(token);
        event_loop.run(reload)
    };
    event_loop.and_then(run).map_err(|error| vec![error.into()])
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
    drop(listen_for_http(settings, &mut errors));
    errors.extend(token(settings).err());
    errors
}

/// Listens on every address of the settings. Errors are appended to `errors`.
fn listen(settings: &Settings, errors: &mut Vec<StartError>) -> Vec<Listener> {
    let places: Vec<_> = settings.listen.iter().cloned().map(ListenPlace::Address).collect();
    listen_on(&places, |_| Protocol::Rtmp, settings, errors)
}

/// Listens on the addresses for HTTP and for the API. Errors are appended to `errors`. A default
/// address that is taken is only a warning: another program may have had the port first, and
/// nobody has asked for the page.
fn listen_for_http(settings: &Settings, errors: &mut Vec<StartError>) -> Vec<Listener> {
    let Settings { http, api, .. } = settings;
    let has_api = !api.listen.places.is_empty();
    let playing = |is_local| Protocol::Http(Surface { playback: true, status: !has_api, is_local });
    let showing = |is_local| Protocol::Http(Surface { playback: false, status: true, is_local });
    let mut found = Vec::new();
    let mut listeners = listen_on(&http.listen.places, playing, settings, &mut found);
    for error in found {
        if http.listen.is_configured || !error.is_in_use() {
            errors.push(StartError::Http(Box::new(error)));
        } else {
            warn!(
                "HTTP is off: {} is taken by another program; http.listen chooses another address",
                http.listen.places.iter().map(ToString::to_string).collect::<String>()
            );
        }
    }
    let mut found = Vec::new();
    listeners.extend(listen_on(&api.listen.places, showing, settings, &mut found));
    errors.extend(found.into_iter().map(|error| StartError::Api(Box::new(error))));
    listeners
}

/// Listens on the places of one list. `protocol` is told whether only this machine reaches a place.
/// Errors are appended to `errors`.
fn listen_on(
    list: &[ListenPlace],
    protocol: impl Fn(bool) -> Protocol,
    settings: &Settings,
    errors: &mut Vec<StartError>,
) -> Vec<Listener> {
    let addresses: Vec<_> = list.iter().filter_map(address_of).collect();
    let mut listeners = Vec::new();
    for (index, place) in list.iter().enumerate() {
        let bound = match place {
            ListenPlace::Address(listen) => resolve(listen).and_then(|address| {
                let protocol = protocol(address.ip().is_loopback());
                Listener::bind(address, protocol, &addresses, settings)
            }),
            ListenPlace::Socket(path) => Listener::bind_path(path, protocol(true), settings),
        };
        match bound {
            Ok(listener) => listeners.push(listener),
            Err(error) => errors.push(overlapping(place, &list[..index], error)),
        }
    }
    listeners
}

fn address_of(place: &ListenPlace) -> Option<&ListenAddress> {
    match place {
        ListenPlace::Address(address) => Some(address),
        ListenPlace::Socket(_) => None,
    }
}

/// Returns the error to report for a place that could not be listened on: if an earlier one of the
/// list takes its connections, that one is the reason.
fn overlapping(place: &ListenPlace, before: &[ListenPlace], error: StartError) -> StartError {
    let Some(listen) = address_of(place).filter(|_| error.is_in_use()) else { return error };
    match before.iter().filter_map(address_of).find(|other| overlap(listen, other)) {
        Some(other) => StartError::Overlap { listen: listen.clone(), other: other.clone() },
        None => error,
    }
}

/// Reads the token of the API, from the environment or from the file of the settings; `None` if
/// there is neither.
fn token(settings: &Settings) -> Result<Option<ApiToken>, StartError> {
    let (text, source) = match (env::var(TOKEN_VARIABLE), settings.api.token_file.get()) {
        (Ok(text), _) => (text, TOKEN_VARIABLE.to_owned()),
        (Err(env::VarError::NotUnicode(_)), _) => {
            return Err(StartError::BadToken { source: TOKEN_VARIABLE.to_owned() });
        }
        (Err(env::VarError::NotPresent), None) => return Ok(None),
        (Err(env::VarError::NotPresent), Some(path)) => match read_regular(path) {
            Ok(text) => (text, path.to_owned()),
            Err(error) => return Err(StartError::NoToken { path: path.to_owned(), error }),
        },
    };
    ApiToken::new(&text).map(Some).ok_or(StartError::BadToken { source })
}

/// Reads a file that is no pipe, since opening a pipe would wait for a writer.
fn read_regular(path: &str) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    fs::read_to_string(path)
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
    /// The server cannot listen on a unix socket.
    CannotBindPath {
        /// The path as configured.
        path: SocketPath,
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
    /// The server cannot listen on an address of `http.listen`.
    Http(Box<Self>),
    /// The server cannot listen on an address of `api.listen`.
    Api(Box<Self>),
    /// The file with the token cannot be read.
    NoToken {
        /// The path as configured.
        path: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The token is too short, or has characters that a header cannot have.
    BadToken {
        /// The file or the environment variable.
        source: String,
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
            Self::CannotBindPath { path, error } => {
                write!(f, "cannot listen on {path}: {error}; {}", path_remedy(error))
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
            Self::Http(error) | Self::Api(error) => error.fmt(f),
            Self::NoToken { path, error } => write!(
                f,
                "cannot read the token in {path}: {error}; create it, readable for this user, or \
                 leave out api.token_file"
            ),
            Self::BadToken { source } => write!(
                f,
                "the token in {source} cannot be used: expected one line of {} or more printable \
                 characters without blanks (openssl rand -hex 32 prints one)",
                ApiToken::BYTES_MIN
            ),
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

fn path_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the program that listens on it (ss -lxp shows it) or choose another path"
        }
        io::ErrorKind::AlreadyExists => "remove the file or choose another path",
        io::ErrorKind::NotFound => "create its directory, or choose a path in one that exists",
        io::ErrorKind::PermissionDenied => "choose a directory that this user may write to",
        _ => "check whether the file system and the sandbox of the server allow sockets",
    }
}

impl StartError {
    /// Returns true if another socket listens on the port, for example that of a running server.
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::CannotBind { error, .. } | Self::CannotBindPath { error, .. } => {
                error.kind() == io::ErrorKind::AddrInUse
            }
            Self::Http(error) | Self::Api(error) => error.is_in_use(),
            _ => false,
        }
    }

    /// Returns the configuration key that the error is about, if there is one.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::CannotBind { .. } | Self::NoInterface { .. } | Self::Overlap { .. } => {
                Some("listen")
            }
            Self::DescriptorLimit { .. } => Some("limits.connections_max"),
            Self::Http(_) => Some("http.listen"),
            Self::Api(_) => Some("api.listen"),
            Self::NoToken { .. } => Some("api.token_file"),
            Self::BadToken { source } if source != TOKEN_VARIABLE => Some("api.token_file"),
            Self::BadToken { .. } => None,
            // Only HTTP listens on paths, and its key is that of the error around this one.
            Self::CannotBindPath { .. } | Self::HandedOver(_) | Self::Io(_) => None,
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
        let path = SocketPath::new("/run/http.sock").unwrap();
        let cannot_bind_path = |kind: io::ErrorKind| StartError::CannotBindPath {
            path: path.clone(),
            error: kind.into(),
        };
        for (error, remedy) in [
            (cannot_bind(io::ErrorKind::AddrInUse), "ss -ltnp"),
            (cannot_bind(io::ErrorKind::AddrNotAvailable), "[::] for all"),
            (cannot_bind(io::ErrorKind::PermissionDenied), "socket unit"),
            (cannot_bind(io::ErrorKind::Unsupported), "sandbox"),
            (StartError::CannotBind { address, error: Errno::AFNOSUPPORT.into() }, "IPv4 or IPv6"),
            (cannot_bind_path(io::ErrorKind::AddrInUse), "ss -lxp"),
            (cannot_bind_path(io::ErrorKind::AlreadyExists), "remove the file"),
            (cannot_bind_path(io::ErrorKind::NotFound), "create its directory"),
            (cannot_bind_path(io::ErrorKind::PermissionDenied), "may write to"),
            (cannot_bind_path(io::ErrorKind::Unsupported), "sandbox"),
            (StartError::HandedOver("x".to_owned()), "ListenStream="),
            (StartError::DescriptorLimit { needed: 132, limit: 64 }, "raise it to 132"),
            (StartError::Io(io::ErrorKind::OutOfMemory.into()), "memory"),
        ] {
            let line = error.to_string();
            assert!(line.contains(remedy) && !line.contains('\n'), "{line}");
        }
    }
}
