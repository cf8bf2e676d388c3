//! The target of a run: the URL, the address it resolves to, and the source addresses.
//!
//! Owns the syntax of a target URL and the creation of sockets to it. The only connection that this
//! module opens itself is that of `probe`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream as StdStream, ToSocketAddrs};
use std::process;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

use super::LoadError;
use super::manifest::Manifest;
use crate::descriptors;
use crate::limits::{DESCRIPTORS_RESERVED, LOAD_SOURCES_MAX};
use crate::rtmp::client::{ClientConfig, Purpose};
use crate::rtmp::name::{AppName, NameError};

/// A server address with the application and stream to use there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The resolved address of the host.
    pub address: SocketAddr,
    /// The application.
    pub app: String,
    /// The stream key, with its query; empty if the URL has none.
    pub key: String,
    /// The URL of the application, sent as `tcUrl` in `connect`.
    pub tc_url: String,
}

/// Reason why a URL is not a valid target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// The scheme is not `rtmp`.
    Scheme,
    /// The host is missing, or the port is not a valid number.
    Host(String),
    /// The scheme is not `http`.
    HttpScheme,
    /// The path of a URL for HTTP is missing, or has characters that a URL cannot have.
    NoPath,
    /// The application is missing.
    NoApp,
    /// Application and key are not a valid stream name.
    Name(NameError),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("expected a URL like rtmp://host[:port]/app/key"),
            Self::Host(host) => write!(f, "expected a host and an optional port, got {host:?}"),
            Self::HttpScheme => f.write_str("expected a URL like http://host[:port]/app/key.flv"),
            Self::NoPath => f.write_str("expected a path after the host, as in /live/key.flv"),
            Self::NoApp => f.write_str("expected an application after the host, as in /live/key"),
            Self::Name(error) => error.fmt(f),
        }
    }
}

const PORT: u16 = 1935;
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Target {
    /// Parses a URL and resolves its host.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let parts = Parts::parse(url)
            .map_err(|error| LoadError::BadTarget { url: url.to_owned(), error })?;
        let Parts { authority, host, port, app, key } = parts;
        let address = resolve(host, port)?;
        Ok(Self {
            address,
            tc_url: format!("rtmp://{authority}/{app}"),
            app: app.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Returns a target for connections to `address` that do not speak RTMP.
    pub const fn of_address(address: SocketAddr) -> Self {
        Self { address, app: String::new(), key: String::new(), tc_url: String::new() }
    }

    /// Returns the manifest of a run against this target that starts now.
    pub(super) fn manifest(&self, parameters: BTreeMap<String, String>) -> Manifest {
        if self.tc_url.is_empty() {
            return Manifest::new(&format!("tcp://{}", self.address), parameters);
        }
        Manifest::new(&format!("{}/{}", self.tc_url, self.key), parameters)
    }

    /// Returns the configuration of a client of this target for `purpose`.
    pub fn client(&self, purpose: Purpose) -> ClientConfig {
        ClientConfig::new(self.app.clone(), self.tc_url.clone(), purpose)
    }

    /// Opens one connection to check that a server listens, so that a run without a server fails
    /// before it starts.
    ///
    /// # Errors
    /// [`LoadError::Unreachable`].
    pub fn probe(&self) -> Result<(), LoadError> {
        probe(self.address)
    }
}

/// Opens one connection to check that a server listens on `address`.
///
/// # Errors
/// [`LoadError::Unreachable`].
pub(super) fn probe(address: SocketAddr) -> Result<(), LoadError> {
    match StdStream::connect_timeout(&address, PROBE_TIMEOUT) {
        Ok(_) => Ok(()),
        Err(error) => Err(LoadError::Unreachable { address, error }),
    }
}

/// Starts to connect. Connections to this machine take turns with many loopback source addresses,
/// so that no address runs out of ports; `index` chooses the address.
pub(super) fn open(address: SocketAddr, index: u32) -> io::Result<TcpStream> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket(family, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The kernel turns quick acknowledgements off for a socket that has sent requests, as after the
    // RTMP dialogue. Other sockets would pay for separate acknowledgements, and their costs could
    // not be compared. So turn them off for all.
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_quickack(&socket, false)?;
    if let Some(source) = source(address.ip(), process::id(), index) {
        bind(&socket, &SocketAddrV4::new(source, 0))?;
    }
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(socket.into())),
        Err(errno) => Err(errno.into()),
    }
}

/// Raises the descriptor limit and checks that it allows `connections` at once plus `others` for
/// other uses.
///
/// # Errors
/// [`LoadError::DescriptorLimit`].
pub fn check_descriptors(connections: usize, others: usize) -> Result<(), LoadError> {
    let limit = descriptors::raise_limit();
    let needed = connections.saturating_add(others).saturating_add(DESCRIPTORS_RESERVED);
    if needed > limit {
        return Err(LoadError::DescriptorLimit { connections, needed, limit });
    }
    Ok(())
}

/// Returns the source address if the target is on loopback, where the whole 127.0.0.0/8 network is
/// usable. Each process gets a network of its own, because the ports of an ended process stay in
/// TIME_WAIT for a minute.
fn source(target: IpAddr, process: u32, index: u32) -> Option<Ipv4Addr> {
    let IpAddr::V4(target) = target else { return None };
    if !target.is_loopback() {
        return None;
    }
    let [_, _, high, low] = process.to_be_bytes();
    Some(Ipv4Addr::new(127, high | 0x80, low, 1 + (index % LOAD_SOURCES_MAX) as u8))
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// Host and port as written.
    authority: &'a str,
    host: &'a str,
    port: u16,
    app: &'a str,
    key: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a URL. The key is the part after the last slash before the query. A path of one part
    /// is an application without a key.
    fn parse(url: &'a str) -> Result<Self, TargetError> {
        let rest = url.strip_prefix("rtmp://").ok_or(TargetError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority, PORT)?;
        let plain = path.split('?').next().unwrap_or_default().trim_end_matches('/');
        let (app, key) = match plain.rfind('/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (plain, ""),
        };
        if app.is_empty() {
            return Err(TargetError::NoApp);
        }
        let name = AppName::parse(app.as_bytes(), None).map_err(TargetError::Name)?;
        if !key.is_empty() {
            name.stream(key.as_bytes()).map_err(TargetError::Name)?;
        }
        Ok(Self { authority, host, port, app, key })
    }
}

/// Returns the first address of a host.
pub(super) fn resolve(host: &str, port: u16) -> Result<SocketAddr, LoadError> {
    let unknown = |error| LoadError::UnknownHost { host: host.to_owned(), error };
    let mut addresses = (host, port).to_socket_addrs().map_err(unknown)?;
    addresses.next().ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))
}

/// Splits an authority into a host and a port, which is `default` if it is not given.
pub(super) fn split_port(authority: &str, default: u16) -> Result<(&str, u16), TargetError> {
    let bad = || TargetError::Host(authority.to_owned());
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of a bracketed IPv6 address do not separate a port.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
        _ => (authority, default),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = !host.is_empty() && port != 0 && !host.contains('@');
    if is_host { Ok((host, port)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, app, key) in [
            ("rtmp://localhost/live/show", "localhost", 1935, "live", "show"),
            ("rtmp://localhost:1936/live", "localhost", 1936, "live", ""),
            ("rtmp://127.0.0.1/live/", "127.0.0.1", 1935, "live", ""),
            ("rtmp://[::1]:19/live/eu/show", "::1", 19, "live/eu", "show"),
            ("rtmp://[::1]/live/show?a=b/c", "::1", 1935, "live", "show?a=b/c"),
        ] {
            let parts = Parts::parse(url).unwrap();
            assert_eq!((parts.host, parts.port, parts.app, parts.key), (host, port, app, key));
        }
    }

    #[test]
    fn an_invalid_target_is_refused_with_what_is_missing() {
        for (url, expected) in [
            ("localhost/live", "expected a URL like rtmp://host[:port]/app/key"),
            ("rtmps://host/live", "expected a URL like rtmp://host[:port]/app/key"),
            ("rtmp://host", "expected an application after the host, as in /live/key"),
            ("rtmp://host//", "expected an application after the host, as in /live/key"),
            ("rtmp:///live", "expected a host and an optional port, got \"\""),
            ("rtmp://host:x/live", "expected a host and an optional port, got \"host:x\""),
            ("rtmp://host:0/live", "expected a host and an optional port, got \"host:0\""),
        ] {
            assert_eq!(Parts::parse(url).unwrap_err().to_string(), expected, "{url}");
        }
        assert!(matches!(Parts::parse("rtmp://h/live/.."), Err(TargetError::Name(_))));
    }

    #[test]
    fn sources_are_spread_over_the_loopback_network_and_used_nowhere_else() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let at = |process, index| source(loopback, process, index).unwrap();
        assert_eq!(at(0x0001_0203, 0), Ipv4Addr::new(127, 0x82, 3, 1));
        let many: std::collections::BTreeSet<_> = (0..1000).map(|index| at(1, index)).collect();
        assert_eq!(many.len(), LOAD_SOURCES_MAX as usize);
        assert!(many.iter().all(Ipv4Addr::is_loopback));
        assert!(!many.contains(&at(2, 0)));
        assert_eq!(source(IpAddr::from([192, 0, 2, 1]), 1, 0), None);
    }
}
