//! Listening sockets: made with every option that accepted sockets inherit, and accepting that
//! neither dies of an error nor spins on one.

use super::StartError;
use crate::config::Settings;
use crate::time::Time;
use log::{info, warn};
use mio::net::{TcpListener, TcpStream};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Connections that may wait to be accepted: as many as reconnect at once after an outage.
const BACKLOG: i32 = 4096;
/// Keep-alive probes that go unanswered before the kernel gives a peer up.
const KEEPALIVE_PROBES: u32 = 3;
/// How long accepting pauses when there is no descriptor to be had (ms).
const PAUSE_MS: u64 = 100;

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// Connections may be waiting. The poll tells of the edge only once, so this stays set
    /// until accepting said that there are none.
    pub(super) pending: bool,
    /// While there are no descriptors: when to try again.
    paused_until: Option<Time>,
    /// There were no descriptors, and connections wait since. It is over when none waits any
    /// more: while each that ends lets one in, there is nothing new to say.
    starved: bool,
}

impl Listener {
    /// Listens on `address`. `[::]` takes IPv4 as well unless IPv4 is listened on by itself;
    /// where the system has no IPv6 it becomes `0.0.0.0`.
    pub(super) fn bind(address: SocketAddr, settings: &Settings) -> Result<Self, StartError> {
        let unspecified = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let v4 = SocketAddr::new(unspecified, address.port());
        let v6_only = settings.listen.contains(&v4);
        let bound = open(address, v6_only, settings).or_else(|errno| {
            let no_ipv6 = matches!(errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL);
            if no_ipv6 && address.is_ipv6() && address.ip().is_unspecified() && !v6_only {
                open(v4, false, settings)
            } else {
                Err(errno)
            }
        });
        match bound {
            Ok(socket) => Ok(Self::of(socket)),
            Err(errno) => Err(StartError::CannotBind { address, error: errno.into() }),
        }
    }

    /// Takes over a socket that somebody else has bound. It fails for what is not TCP, or is a
    /// connection.
    pub(super) fn adopt(socket: OwnedFd, settings: &Settings) -> io::Result<Self> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        ioctl_fionbio(&socket, true)?;
        set_inheritable(&socket, settings)?;
        listen(&socket, BACKLOG)?;
        Ok(Self::of(TcpListener::from_std(socket.into())))
    }

    const fn of(socket: TcpListener) -> Self {
        Self { socket, pending: false, paused_until: None, starved: false }
    }

    /// When accepting is to be tried again, if it pauses.
    pub(super) const fn paused_until(&self) -> Option<Time> {
        self.paused_until
    }

    /// Whether there may be a connection to take at `now`.
    pub(super) fn is_ready(&self, now: Time) -> bool {
        self.pending && self.paused_until.is_none_or(|until| until <= now)
    }

    /// A descriptor has become free: no need to wait any longer.
    pub(super) const fn descriptor_freed(&mut self) {
        if self.paused_until.is_some() {
            self.paused_until = Some(Time::ZERO);
        }
    }

    /// Takes one connection; `None` when there is none, or none can be taken.
    pub(super) fn accept(&mut self, now: Time) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let error = match self.socket.accept() {
                Ok(accepted) => {
                    self.paused_until = None;
                    return Some(accepted);
                }
                Err(error) => error,
            };
            match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => {
                    self.pending = false;
                    self.paused_until = None;
                    if std::mem::take(&mut self.starved) {
                        info!("accepting again on {}", self.name());
                    }
                    return None;
                }
                // The connection died in the queue; the next one may be well.
                Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => {}
                _ => {
                    self.pause(&error, now);
                    return None;
                }
            }
        }
    }

    /// Out of descriptors or memory: said once, tried again when one is freed or a moment has
    /// passed, so that the loop neither spins nor forgets the connections that wait.
    fn pause(&mut self, error: &io::Error, now: Time) {
        if !std::mem::replace(&mut self.starved, true) {
            warn!("cannot accept on {}: {error}; trying again", self.name());
        }
        self.paused_until = Some(now.plus_millis(PAUSE_MS));
    }

    fn name(&self) -> String {
        self.socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
    }
}

fn open(address: SocketAddr, v6_only: bool, settings: &Settings) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    // Not every system takes these flags with the call that makes the socket.
    let socket = socket(family, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6_only)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    set_inheritable(&socket, settings)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Sets the options that accepted sockets inherit, which saves six system calls for each.
fn set_inheritable(socket: &OwnedFd, settings: &Settings) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(socket, true)?;
    let timeouts = &settings.timeouts;
    if timeouts.keepalive_ms != 0 {
        let interval = Duration::from_millis(timeouts.keepalive_ms.max(1000));
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, interval)?;
        sockopt::set_tcp_keepintvl(socket, interval / KEEPALIVE_PROBES)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    }
    #[cfg(target_os = "linux")]
    if timeouts.user_timeout_ms != 0 {
        let millis = u32::try_from(timeouts.user_timeout_ms).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(socket, millis)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Timeouts;
    use std::net;

    fn settings(timeouts: Timeouts) -> Settings {
        Settings { timeouts, ..Settings::default() }
    }

    /// The server's end of a connection.
    fn accepted(timeouts: Timeouts) -> TcpStream {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        accepted_by(Listener::bind(address, &settings(timeouts)).unwrap())
    }

    fn accepted_by(mut listener: Listener) -> TcpStream {
        let _peer = net::TcpStream::connect(listener.socket.local_addr().unwrap()).unwrap();
        listener.pending = true;
        listener.accept(Time::ZERO).expect("it waits in the queue").0
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
        let socket = accepted_by(listener);
        assert_eq!(sockopt::tcp_nodelay(&socket), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&socket), Ok(Duration::from_secs(60)));
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&socket), Ok(30_000));
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
