//! Addresses of this machine, and connections from a given one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Returns an address for a server that no other server has: all of 127.0.0.0/8 is this machine,
/// so each server of each run has a host of its own. The port is below the range of ephemeral
/// ports, so no outgoing connection takes it.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    SocketAddr::from((own_host(NEXT.fetch_add(1, Ordering::Relaxed)), 11_935))
}

/// Returns one of the loopback addresses of this process.
pub(crate) fn own_host(index: u8) -> Ipv4Addr {
    let [_, _, high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, index)
}

/// Opens a connection from `from`, with a receive buffer of this size unless it is 0.
pub(crate) fn connect_from(
    from: SocketAddrV4,
    receive_bytes: usize,
    server: SocketAddr,
) -> io::Result<TcpStream> {
    // A server started meanwhile must not inherit the socket: the connection would outlive its
    // client.
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if receive_bytes > 0 {
        sockopt::set_socket_recv_buffer_size(&socket, receive_bytes)?;
    }
    net::bind(&socket, &from)?;
    net::connect(&socket, &server)?;
    Ok(socket.into())
}
