//! Asks the kernel about a TCP connection, for its `struct tcp_info`.
//!
//! `getsockopt(TCP_INFO)` would be one call, but none of the crates that need no unsafe code of
//! ours has it. The kernel tells the same over a netlink socket (sock_diag(7)), where a request and
//! its answer are bytes. The answer is there when the request has been sent, so nothing waits. A
//! sandbox may forbid such sockets. Then nothing is known, and the server does not ask again.

use crate::server::transport::TcpFacts;
use mio::net::TcpStream;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

/// Message type of a request and its answer (`SOCK_DIAG_BY_FAMILY`), and the flag of a request.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
/// The attribute with a `struct tcp_info`, and the bit that asks for it.
const INFO: u16 = 2;
const WANTS_INFO: u8 = 1 << (INFO - 1);
const TCP: u8 = 6;
/// Lengths of a message header, and of the fixed part of an answer (bytes).
const HEADER_BYTES: usize = 16;
const ANSWER_BYTES: usize = 72;
/// Offsets in `struct tcp_info`.
const RTT_AT: usize = 68;
const RETRANSMITS_AT: usize = 100;
const UNSENT_AT: usize = 144;

thread_local! {
    /// The netlink socket; `None` if the system refuses it.
    static SOCKET: OnceCell<Option<OwnedFd>> = const { OnceCell::new() };
}

/// Opens the socket for the questions, so that the number of open descriptors does not change when
/// the first one is asked.
pub(super) fn prepare() {
    SOCKET.with(|socket| _ = socket.get_or_init(open));
}

/// Returns what the kernel knows about the connection.
pub(super) fn ask(stream: &TcpStream) -> Option<TcpFacts> {
    let (local, peer) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    SOCKET.with(|socket| {
        let socket = socket.get_or_init(open).as_ref()?;
        send(socket, &request(local, peer), SendFlags::DONTWAIT).ok()?;
        let mut answer = [0; 4096];
        let (len, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT).ok()?;
        parse(&answer[..len])
    })
}

fn open() -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (family, diag) = (AddressFamily::NETLINK, Some(netlink::SOCK_DIAG));
    socket_with(family, SocketType::RAW, flags, diag).ok()
}

/// Returns the request for one connection: a `struct nlmsghdr` and a `struct inet_diag_req_v2`.
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    const LEN: usize = HEADER_BYTES + 56;
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend((LEN as u32).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Sequence and port: one question at a time needs neither.
    bytes.extend([0; 8]);
    bytes.extend([family.as_raw() as u8, TCP, WANTS_INFO, 0]);
    // In any state, and by the addresses alone: no interface, no cookie.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(padded(local.ip()));
    bytes.extend(padded(peer.ip()));
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

fn padded(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

/// Reads an answer: a `struct nlmsghdr`, a `struct inet_diag_msg`, and attributes.
fn parse(answer: &[u8]) -> Option<TcpFacts> {
    if u16_at(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEADER_BYTES + ANSWER_BYTES..)?;
    loop {
        let (len, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        if kind == INFO {
            let info = rest.get(4..len)?;
            // Kernels before 4.6 do not have the last one.
            let unsent_bytes = u32_at(info, UNSENT_AT).unwrap_or_default();
            let (rtt_us, retransmits) = (u32_at(info, RTT_AT)?, u32_at(info, RETRANSMITS_AT)?);
            return Some(TcpFacts { rtt_us, retransmits, unsent_bytes });
        }
        // Attributes are aligned, and none is shorter than its own head.
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream as Blocking};

    /// Both ends of a connection, the first one without blocking.
    fn pair(address: &str) -> (TcpStream, Blocking) {
        let listener = TcpListener::bind(address).unwrap();
        let far = Blocking::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (TcpStream::from_std(near), far)
    }

    #[test]
    fn the_kernel_tells_what_a_socket_has_not_sent() {
        if open().is_none() {
            return println!("this system has no sockets to ask the kernel");
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if TcpListener::bind(address).is_err() {
                continue;
            }
            let (mut near, _far) = pair(address);
            assert_eq!(ask(&near).expect("an open connection").unsent_bytes, 0, "{address}");
            let mut written = 0;
            let error = loop {
                match near.write(&[7; 65_536]) {
                    Ok(bytes) => written += bytes,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let facts = ask(&near).expect("an open connection");
            assert!((1..written).contains(&(facts.unsent_bytes as usize)), "{facts:?}");
            assert!(facts.rtt_us > 0, "{facts:?}");
        }
    }

    #[test]
    fn an_ipv4_peer_of_a_socket_for_both_families_is_found() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let Ok(_far) = Blocking::connect(("127.0.0.1", port)) else { return };
        let (near, _) = listener.accept().unwrap();
        assert_eq!(ask(&TcpStream::from_std(near)).is_some(), open().is_some());
    }

    #[test]
    fn answers_that_are_cut_or_of_another_kind_are_none() {
        let info_bytes = 148_u16;
        let mut answer = vec![0; HEADER_BYTES + ANSWER_BYTES];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        // Another attribute of five bytes comes first, which takes eight.
        answer.extend([5_u16.to_ne_bytes(), 8_u16.to_ne_bytes()].concat());
        answer.extend([1, 0, 0, 0]);
        answer.extend([(4 + info_bytes).to_ne_bytes(), INFO.to_ne_bytes()].concat());
        let info = answer.len();
        answer.extend(vec![0; info_bytes.into()]);
        for (at, value) in [(RTT_AT, 1500_u32), (RETRANSMITS_AT, 3), (UNSENT_AT, 70_000)] {
            answer[info + at..info + at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let facts = TcpFacts { rtt_us: 1500, retransmits: 3, unsent_bytes: 70_000 };
        assert_eq!(parse(&answer), Some(facts));
        for len in 0..answer.len() {
            assert_eq!(parse(&answer[..len]), None, "{len} bytes");
        }
        let mut error = answer;
        error[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(parse(&error), None);
        assert_eq!(parse(&[0xff; 200]), None);
    }
}
