//! Where the load goes: a URL, the address behind it, and the addresses to come from.
//!
//! Owns how a target is written and how a socket to it is made. It opens nothing by itself but
//! the one connection of [`Target::probe`].

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

/// A server, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address behind the host.
    pub address: SocketAddr,
    /// The application.
    pub app: String,
    /// The stream key, with its query; empty if the URL has none.
    pub key: String,
    /// The URL of the application: what `connect` gives as `tcUrl`.
    pub tc_url: String,
}

/// Why a URL is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It does not begin as one of RTMP.
    Scheme,
    /// It names no host, or a port that is none.
    Host(String),
    /// It names no application.
    NoApp,
    /// Application and key are no name of a stream.
    Name(NameError),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("expected a URL like rtmp://host[:port]/app/key"),
            Self::Host(host) => write!(f, "expected a host and perhaps a port, got {host:?}"),
            Self::NoApp => f.write_str("expected an application behind the host, as in /live/key"),
            Self::Name(error) => error.fmt(f),
        }
    }
}

const PORT: u16 = 1935;
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Target {
    /// Reads a URL and looks up its host.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let parts = Parts::parse(url)
            .map_err(|error| LoadError::BadTarget { url: url.to_owned(), error })?;
        let address = parts.resolve()?;
        let Parts { authority, app, key, .. } = parts;
        Ok(Self {
            address,
            tc_url: format!("rtmp://{authority}/{app}"),
            app: app.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Where the connections of `address` go that speak no RTMP.
    pub const fn of_address(address: SocketAddr) -> Self {
        Self { address, app: String::new(), key: String::new(), tc_url: String::new() }
    }

    /// The manifest of a run against it that begins now.
    pub(super) fn manifest(&self, parameters: BTreeMap<String, String>) -> Manifest {
        if self.tc_url.is_empty() {
            return Manifest::new(&format!("tcp://{}", self.address), parameters);
        }
        Manifest::new(&format!("{}/{}", self.tc_url, self.key), parameters)
    }

    /// A client of this target for `purpose`.
    pub fn client(&self, purpose: Purpose) -> ClientConfig {
        ClientConfig::new(self.app.clone(), self.tc_url.clone(), purpose)
    }

    /// Asks by one connection whether anybody listens, so that a run against nobody ends before
    /// it begins.
    ///
    /// # Errors
    /// [`LoadError::Unreachable`].
    pub fn probe(&self) -> Result<(), LoadError> {
        match StdStream::connect_timeout(&self.address, PROBE_TIMEOUT) {
            Ok(_) => Ok(()),
            Err(error) => Err(LoadError::Unreachable { address: self.address, error }),
        }
    }

    /// Begins to connect. Of this machine there are many addresses, so that no port of it runs
    /// out: connection `index` comes from the one whose turn it is.
    pub(super) fn open(&self, index: u32) -> io::Result<TcpStream> {
        let family =
            if self.address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket(family, SocketType::STREAM, None)?;
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        ioctl_fionbio(&socket, true)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        // As after the dialogue of RTMP, which the kernel takes for a sign that acknowledgements
        // can wait for something to go along with: at whose cost they are sent would else differ
        // between what is compared.
        #[cfg(target_os = "linux")]
        sockopt::set_tcp_quickack(&socket, false)?;
        if let Some(source) = source(self.address.ip(), process::id(), index) {
            bind(&socket, &SocketAddrV4::new(source, 0))?;
        }
        match connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(socket.into())),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Raises the descriptor limit and checks that it is enough for so many connections at once, and
/// for `others` beside them.
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

/// The address to come from, where the target is this machine: its whole loopback network is.
/// Processes have networks of their own, since ports that one has left linger for a minute.
fn source(target: IpAddr, process: u32, index: u32) -> Option<Ipv4Addr> {
    let IpAddr::V4(target) = target else { return None };
    if !target.is_loopback() {
        return None;
    }
    let [_, _, high, low] = process.to_be_bytes();
    Some(Ipv4Addr::new(127, high | 0x80, low, 1 + (index % LOAD_SOURCES_MAX) as u8))
}

/// A URL taken apart.
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
    /// The key is what stands behind the last slash before the query, as people write it; with
    /// one part alone there is an application and no key.
    fn parse(url: &'a str) -> Result<Self, TargetError> {
        let rest = url.strip_prefix("rtmp://").ok_or(TargetError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority)?;
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

    fn resolve(&self) -> Result<SocketAddr, LoadError> {
        let unknown = |error| LoadError::UnknownHost { host: self.host.to_owned(), error };
        let mut addresses = (self.host, self.port).to_socket_addrs().map_err(unknown)?;
        addresses.next().ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))
    }
}

fn split_port(authority: &str) -> Result<(&str, u16), TargetError> {
    let bad = || TargetError::Host(authority.to_owned());
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an address in brackets separate nothing.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
        _ => (authority, PORT),
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
    fn what_is_no_target_says_what_is_missing() {
        for (url, expected) in [
            ("localhost/live", "expected a URL like rtmp://host[:port]/app/key"),
            ("rtmps://host/live", "expected a URL like rtmp://host[:port]/app/key"),
            ("rtmp://host", "expected an application behind the host, as in /live/key"),
            ("rtmp://host//", "expected an application behind the host, as in /live/key"),
            ("rtmp:///live", "expected a host and perhaps a port, got \"\""),
            ("rtmp://host:x/live", "expected a host and perhaps a port, got \"host:x\""),
            ("rtmp://host:0/live", "expected a host and perhaps a port, got \"host:0\""),
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
