//! Listening sockets, with the options that accepted sockets inherit. `server/accepting.rs` decides
//! when to accept.

use super::StartError;
use super::tcp::Tcp;
use super::unix_socket::{PathListener, send_bytes_max};
use crate::config::{Limits, ListenAddress, Settings, SocketPath};
use crate::server::accepting::{AcceptError, Acceptor, Listen};
use crate::server::peer::Protocol;
use crate::server::peer_address::PeerAddress;
use crate::stream::ids::ConnId;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
#[cfg(target_os = "linux")]
use rustix::net::netdevice;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Connections that wait to be accepted. It suffices for all peers that reconnect at once after an
/// outage.
pub(super) const BACKLOG: i32 = 4096;
/// Unanswered keep-alive probes after which the kernel closes a connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Events of a connection. Linux ends a read at urgent data (RFC 9293, section 3.8.5), so a short
/// read does not mean that the socket is empty. The priority event announces urgent data, and such
/// a socket is read until it is empty.
#[cfg(target_os = "linux")]
pub(super) const INTEREST: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
pub(super) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: ListeningSocket,
    /// Protocol of its connections.
    pub(super) protocol: Protocol,
    pub(super) acceptor: Acceptor,
    /// Options that the system did not set.
    pub(super) missing: Vec<MissingOption>,
}

/// The socket of a [`Listener`].
#[derive(Debug)]
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix {
        listener: PathListener,
        /// See [`PathListener::accept`].
        send_bytes_max: usize,
    },
}

impl ListeningSocket {
    /// Registers the socket for its connections.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => registry.register(socket, token, Interest::READABLE),
            Self::Unix { listener, .. } => {
                registry.register(&mut listener.socket, token, Interest::READABLE)
            }
        }
    }

    fn accept(&self) -> io::Result<(TcpStream, PeerAddress)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((stream, canonical(peer).into()))
            }
            Self::Unix { listener, send_bytes_max } => {
                Ok((listener.accept(*send_bytes_max)?, PeerAddress::Unix))
            }
        }
    }
}

/// Shows where it listens.
impl fmt::Display for ListeningSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("?"),
            },
            Self::Unix { listener, .. } => listener.path().fmt(f),
        }
    }
}

/// A socket option that the system did not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MissingOption {
    pub(super) name: &'static str,
    pub(super) errno: Errno,
    /// Effect on the server.
    pub(super) effect: &'static str,
}

impl Listener {
    /// Listens on `address` for connections of `protocol`. `[::]` also accepts IPv4, unless `list`,
    /// in which the address is, has an IPv4 address with the same port. On a system without IPv6,
    /// `[::]` becomes `0.0.0.0`.
    pub(super) fn bind(
        address: SocketAddr,
        protocol: Protocol,
        list: &[&ListenAddress],
        settings: &Settings,
    ) -> Result<Self, StartError> {
        let unspecified = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let v4 = SocketAddr::new(unspecified, address.port());
        let v6_only = list.iter().any(|listen| listen.address == v4);
        let bound = open(address, v6_only, settings).or_else(|errno| {
            let no_ipv6 = matches!(errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL);
            if no_ipv6 && address.is_ipv6() && address.ip().is_unspecified() && !v6_only {
                open(v4, false, settings)
            } else {
                Err(errno)
            }
        });
        match bound {
            Ok((socket, missing)) => Ok(Self::of(ListeningSocket::Tcp(socket), protocol, missing)),
            Err(errno) => Err(StartError::CannotBind { address, error: errno.into() }),
        }
    }

    /// Listens on the unix socket at `path`. The options of TCP do not apply to it.
    pub(super) fn bind_path(
        path: &SocketPath,
        protocol: Protocol,
        settings: &Settings,
    ) -> Result<Self, StartError> {
        let cannot = |error| StartError::CannotBindPath { path: path.clone(), error };
        let listener = PathListener::bind(path).map_err(cannot)?;
        let send_bytes_max = send_bytes_max(&settings.limits);
        let socket = ListeningSocket::Unix { listener, send_bytes_max };
        Ok(Self::of(socket, protocol, Vec::new()))
    }

    /// Takes over a bound socket. Fails if it is not a TCP socket, or if it is a connection.
    pub(super) fn adopt(socket: OwnedFd, settings: &Settings) -> io::Result<Self> {
        let domain = sockopt::socket_domain(&socket)?;
        let is_ip = [AddressFamily::INET, AddressFamily::INET6].contains(&domain);
        if !is_ip || sockopt::socket_type(&socket)? != SocketType::STREAM {
            return Err(Errno::PROTONOSUPPORT.into());
        }
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        ioctl_fionbio(&socket, true)?;
        let mut options = SocketOptions::default();
        options.set_inheritable(&socket, settings);
        listen(&socket, BACKLOG)?;
        let socket = TcpListener::from_std(socket.into());
        Ok(Self::of(ListeningSocket::Tcp(socket), Protocol::Rtmp, options.missing))
    }

    fn of(socket: ListeningSocket, protocol: Protocol, missing: Vec<MissingOption>) -> Self {
        Self { socket, protocol, acceptor: Acceptor::default(), missing }
    }
}

/// A listening socket, with the poll that its connections are registered in.
#[derive(Debug)]
pub(super) struct Polled<'a> {
    pub(super) socket: &'a ListeningSocket,
    pub(super) protocol: Protocol,
    pub(super) registry: &'a Registry,
}

impl Listen for Polled<'_> {
    type Transport = Tcp;

    fn accept(&mut self) -> Result<(Tcp, PeerAddress), AcceptError> {
        match self.socket.accept() {
            Ok((stream, peer)) => Ok((Tcp(stream), peer)),
            Err(error) => Err(accept_error(error)),
        }
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn register(&mut self, transport: &mut Tcp, id: ConnId) -> io::Result<()> {
        self.registry.register(&mut transport.0, Token(id.index()), INTEREST)
    }

    fn name(&self) -> String {
        self.socket.to_string()
    }
}

/// Classifies an error of accept(2). Only a lack of descriptors or memory is exhaustion. accept(2)
/// also reports network errors of the connection that it takes from the queue.
fn accept_error(error: io::Error) -> AcceptError {
    match Errno::from_io_error(&error) {
        Some(Errno::AGAIN) => AcceptError::Empty,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            AcceptError::Exhausted(error)
        }
        Some(
            Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::TIMEDOUT,
        ) => AcceptError::Died,
        #[cfg(target_os = "linux")]
        Some(Errno::NONET) => AcceptError::Died,
        _ => AcceptError::Refused(error),
    }
}

/// Returns the index of a network interface, which the kernel uses as a scope id.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    #[cfg(target_os = "linux")]
    {
        // The query works on a socket of any kind.
        let socket = socket(AddressFamily::INET6, SocketType::DGRAM, None)
            .or_else(|_| socket(AddressFamily::INET, SocketType::DGRAM, None))?;
        Ok(netdevice::name_to_index(&socket, name)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let hint = format!("write the number of interface {name} instead, as in %2");
        Err(io::Error::new(io::ErrorKind::Unsupported, hint))
    }
}

/// Converts the address of an IPv4 peer on an IPv6 socket to IPv4.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

fn open(
    address: SocketAddr,
    v6_only: bool,
    settings: &Settings,
) -> Result<(TcpListener, Vec<MissingOption>), Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    // Not every system accepts these flags in the call that creates the socket.
    let socket = socket(family, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    let mut options = SocketOptions::default();
    if address.is_ipv6() {
        let set = sockopt::set_ipv6_v6only(&socket, v6_only);
        options.note("IPV6_V6ONLY", set, "the system decides whether [::] accepts IPv4");
    }
    let set = sockopt::set_socket_reuseaddr(&socket, true);
    options.note("SO_REUSEADDR", set, "the port may be taken for a minute after a restart");
    options.set_inheritable(&socket, settings);
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok((TcpListener::from_std(socket.into()), options.missing))
}

/// Sets optional socket options. Without them the server works, but is slower or notices failures
/// later.
#[derive(Debug, Default)]
pub(super) struct SocketOptions {
    missing: Vec<MissingOption>,
}

impl SocketOptions {
    /// Notes an option that was not set. `effect` is the effect on the server.
    fn note(&mut self, name: &'static str, set: Result<(), Errno>, effect: &'static str) {
        if let Err(errno) = set {
            self.missing.push(MissingOption { name, errno, effect });
        }
    }

    /// Sets the options that accepted sockets inherit. Setting them on each accepted socket is
    /// rejected: it takes six more system calls for each connection.
    pub(super) fn set_inheritable(&mut self, socket: &impl AsFd, settings: &Settings) {
        let nodelay = sockopt::set_tcp_nodelay(socket, true);
        self.note("TCP_NODELAY", nodelay, "frames may reach players up to 200 ms late");
        let timeouts = &settings.timeouts;
        if timeouts.keepalive_ms != 0 {
            let interval = Duration::from_millis(timeouts.keepalive_ms.max(1000));
            let probe = interval / KEEPALIVE_PROBES;
            let effect = "vanished peers are detected late, by timeouts.ping_ms";
            self.note("SO_KEEPALIVE", sockopt::set_socket_keepalive(socket, true), effect);
            self.note("TCP_KEEPIDLE", sockopt::set_tcp_keepidle(socket, interval), effect);
            self.note("TCP_KEEPINTVL", sockopt::set_tcp_keepintvl(socket, probe), effect);
            self.note("TCP_KEEPCNT", sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES), effect);
        }
        #[cfg(target_os = "linux")]
        if timeouts.user_timeout_ms != 0 {
            let millis = u32::try_from(timeouts.user_timeout_ms).unwrap_or(u32::MAX);
            let set = sockopt::set_tcp_user_timeout(socket, millis);
            self.note("TCP_USER_TIMEOUT", set, "timeouts.user_timeout_ms has no effect");
        }
        self.set_buffers(socket, &settings.limits);
    }

    /// Bounds the kernel buffers of each connection. The receive buffer must be set before
    /// listening, because the first segment negotiates the window scale.
    fn set_buffers(&mut self, socket: &impl AsFd, limits: &Limits) {
        if limits.socket_send_bytes_max != 0 {
            let set = sockopt::set_socket_send_buffer_size(socket, limits.socket_send_bytes_max);
            self.note("SO_SNDBUF", set, "limits.socket_send_bytes_max has no effect");
        }
        if limits.socket_receive_bytes_max != 0 {
            let bytes = limits.socket_receive_bytes_max;
            let set = sockopt::set_socket_recv_buffer_size(socket, bytes);
            self.note("SO_RCVBUF", set, "limits.socket_receive_bytes_max has no effect");
        }
        #[cfg(target_os = "linux")]
        if limits.socket_unsent_bytes_max != 0 {
            let bytes = u32::try_from(limits.socket_unsent_bytes_max).unwrap_or(u32::MAX);
            let set = SockRef::from(socket)
                .set_tcp_notsent_lowat(bytes)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
            self.note("TCP_NOTSENT_LOWAT", set, "limits.socket_unsent_bytes_max has no effect");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Timeouts;
    use std::net;

    /// The server side of a connection.
    fn accepted(timeouts: Timeouts) -> TcpStream {
        accepted_with(&Settings { timeouts, ..Settings::default() })
    }

    fn accepted_with(settings: &Settings) -> TcpStream {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        accepted_by(&Listener::bind(address, Protocol::Rtmp, &[], settings).unwrap())
    }

    fn accepted_by(listener: &Listener) -> TcpStream {
        let _peer = net::TcpStream::connect(listener.socket.to_string()).unwrap();
        listener.socket.accept().expect("it waits in the queue").0
    }

    #[test]
    fn accepted_sockets_send_at_once_and_leave_liveness_to_the_kernel() {
        let socket = accepted(Timeouts::default());
        assert_eq!(sockopt::tcp_nodelay(&socket), Ok(true));
        assert_eq!(sockopt::socket_keepalive(&socket), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&socket), Ok(Duration::from_secs(60)));
        assert_eq!(sockopt::tcp_keepintvl(&socket), Ok(Duration::from_secs(20)));
        assert_eq!(sockopt::tcp_keepcnt(&socket), Ok(3));
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&socket), Ok(30_000));
    }

    #[test]
    fn sockets_that_somebody_else_listens_on_get_the_same_options() {
        let socket = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = Listener::adopt(socket.into(), &Settings::default()).unwrap();
        let socket = accepted_by(&listener);
        assert_eq!(sockopt::tcp_nodelay(&socket), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&socket), Ok(Duration::from_secs(60)));
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&socket), Ok(30_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_hold_a_bounded_part_of_the_kernel() {
        let socket = accepted(Timeouts::default());
        let unsent = SockRef::from(&socket).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent as usize, Limits::default().socket_unsent_bytes_max);
        let limits = Limits {
            socket_unsent_bytes_max: 0,
            socket_send_bytes_max: 100_000,
            socket_receive_bytes_max: 200_000,
            ..Limits::default()
        };
        let socket = accepted_with(&Settings { limits, ..Settings::default() });
        // The kernel doubles the size, to leave room for its own data.
        assert_eq!(sockopt::socket_send_buffer_size(&socket), Ok(200_000));
        assert_eq!(sockopt::socket_recv_buffer_size(&socket), Ok(400_000));
        let unsent = SockRef::from(&socket).tcp_notsent_lowat().unwrap();
        assert_ne!(unsent as usize, Limits::default().socket_unsent_bytes_max);
    }

    #[test]
    fn only_the_lack_of_descriptors_or_memory_is_exhaustion() {
        let outcome = |errno: Errno| match accept_error(errno.into()) {
            AcceptError::Empty => "empty",
            AcceptError::Died => "died",
            AcceptError::Exhausted(_) => "exhausted",
            AcceptError::Refused(_) => "refused",
        };
        for (expected, errnos) in [
            ("empty", &[Errno::AGAIN][..]),
            ("exhausted", &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]),
            ("died", &[Errno::CONNABORTED, Errno::PROTO, Errno::NETDOWN, Errno::HOSTUNREACH]),
            ("died", &[Errno::NETUNREACH, Errno::HOSTDOWN, Errno::NOPROTOOPT, Errno::INTR]),
            ("refused", &[Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::INVAL]),
        ] {
            for errno in errnos {
                assert_eq!(outcome(*errno), expected, "{errno:?}");
            }
        }
    }

    #[test]
    fn options_that_the_system_does_not_set_are_noted_with_what_follows() {
        let mut options = SocketOptions::default();
        options.note("TCP_NODELAY", Ok(()), "nothing");
        options.note("TCP_USER_TIMEOUT", Err(Errno::NOPROTOOPT), "no effect");
        let (name, errno) = ("TCP_USER_TIMEOUT", Errno::NOPROTOOPT);
        let missing = MissingOption { name, errno, effect: "no effect" };
        assert_eq!(options.missing, [missing]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(address, Protocol::Rtmp, &[], &Settings::default());
        assert_eq!(listener.unwrap().missing, []);
    }

    #[test]
    fn the_kernel_looks_after_nobody_when_it_is_told_not_to() {
        let none = Timeouts { keepalive_ms: 0, user_timeout_ms: 0, ..Timeouts::default() };
        let socket = accepted(none);
        assert_eq!(sockopt::socket_keepalive(&socket), Ok(false));
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&socket), Ok(0));
    }

    #[test]
    fn the_shortest_keep_alive_is_more_than_no_time_between_two_probes() {
        let shortest = Timeouts { keepalive_ms: 1000, ..Timeouts::default() };
        let socket = accepted(shortest);
        assert_eq!(sockopt::tcp_keepidle(&socket), Ok(Duration::from_secs(1)));
        assert_eq!(sockopt::tcp_keepintvl(&socket), Ok(Duration::from_secs(1)));
    }
}
