//! A connection that does what a case says: raw bytes, at whatever pace, read or not.
//!
//! Owns the socket and counts both directions. It never interprets what the server sends beyond
//! looking for a few bytes in it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::wire::{self, Message};

/// Long enough for what happens at once, on a machine that has much else to do.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How much of what the server says is kept to be looked at.
const HEARD_BYTES_MAX: usize = 64 * 1024;

/// What went to and fro on all connections of a case.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Attacker {
    socket: TcpStream,
    /// Its own address, by which the log of the server knows it.
    pub(crate) address: SocketAddr,
    traffic: Arc<Traffic>,
    /// Whether it takes what the server sends; one that does not, stops its server's output.
    pub(crate) reads: bool,
    pub(crate) received: u64,
    heard: Vec<u8>,
    end: Option<End>,
}

impl Attacker {
    /// Connects; the kernel chooses from where.
    pub(crate) fn connect(server: SocketAddr, traffic: &Arc<Traffic>) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(server)?, traffic)
    }

    /// Connects from an address of this machine, with a receive buffer of so many bytes, 0 for
    /// the usual one.
    pub(crate) fn connect_from(
        from: SocketAddrV4,
        receive_bytes: usize,
        server: SocketAddr,
        traffic: &Arc<Traffic>,
    ) -> std::io::Result<Self> {
        Self::over(connect_from(from, receive_bytes, server)?, traffic)
    }

    fn over(socket: TcpStream, traffic: &Arc<Traffic>) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        traffic.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            address: socket.local_addr()?,
            socket,
            traffic: Arc::clone(traffic),
            reads: true,
            received: 0,
            heard: Vec::new(),
            end: None,
        })
    }

    /// Sends all of it, or as much as the server takes before it ends the connection; what it
    /// answers meanwhile is read. Says whether all was sent.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) -> bool {
        let deadline = Instant::now() + SOON;
        while !bytes.is_empty() && self.end.is_none() && Instant::now() < deadline {
            match self.socket.write(bytes) {
                Ok(count) => {
                    self.traffic.sent.fetch_add(count as u64, Ordering::Relaxed);
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.reads || !self.take() {
                        thread::sleep(Duration::from_micros(200));
                    }
                }
                Err(_) => self.end = Some(self.end.unwrap_or(End::Reset)),
            }
        }
        bytes.is_empty()
    }

    /// Sends it a piece at a time, with a pause behind each, until it is all sent, `limit` is over
    /// or the server has had enough.
    pub(crate) fn trickle(
        &mut self,
        bytes: &[u8],
        piece: usize,
        pause: Duration,
        limit: Duration,
    ) -> bool {
        let deadline = Instant::now() + limit;
        for piece in bytes.chunks(piece) {
            if Instant::now() >= deadline || !self.send(piece) {
                return false;
            }
            let next = Instant::now() + pause;
            while self.end.is_none() && Instant::now() < next {
                self.take();
                thread::sleep((next - Instant::now()).min(Duration::from_millis(20)));
            }
        }
        self.end.is_none()
    }

    /// Takes what has come, once; says whether there was anything.
    pub(crate) fn take(&mut self) -> bool {
        self.take_up_to(HEARD_BYTES_MAX)
    }

    /// Takes at most so many bytes of what has come.
    pub(crate) fn take_up_to(&mut self, bytes: usize) -> bool {
        let mut buffer = [0; HEARD_BYTES_MAX];
        match self.socket.read(&mut buffer[..bytes]) {
            Ok(0) => self.end = Some(End::Closed),
            Ok(count) => {
                self.traffic.received.fetch_add(count as u64, Ordering::Relaxed);
                self.received += count as u64;
                if self.heard.len() > HEARD_BYTES_MAX {
                    self.heard.clear();
                }
                self.heard.extend(&buffer[..count]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end = Some(End::Reset),
        }
        false
    }

    /// Reads until the server ends the connection or `limit` is over.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> Option<End> {
        let deadline = Instant::now() + limit;
        while self.end.is_none() && Instant::now() < deadline {
            if !self.take() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.end
    }

    /// Whether the server says `text` before `limit` is over. What it said before counts, and is
    /// forgotten.
    pub(crate) fn hears(&mut self, text: impl AsRef<[u8]>, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let text = text.as_ref();
            if let Some(at) = self.heard.windows(text.len()).position(|heard| heard == text) {
                self.heard.drain(..at + text.len());
                return true;
            }
            if self.end.is_some() || Instant::now() >= deadline {
                return false;
            }
            if !self.take() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Whether a ping is answered, so that the server reads and follows what is sent.
    pub(crate) fn is_answered(&mut self, number: u32) -> bool {
        let mut answer = vec![0, 7];
        answer.extend(number.to_be_bytes());
        self.send(&wire::user_control(6, number).chunks()) && self.hears(&answer, SOON)
    }

    pub(crate) const fn end(&self) -> Option<End> {
        self.end
    }

    /// Ends the sending direction alone.
    pub(crate) fn half_close(&self) {
        drop(self.socket.shutdown(Shutdown::Write));
    }

    /// Ends the connection without a farewell.
    pub(crate) fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

impl AsFd for Attacker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Handshake, `connect` to `live`, and the messages.
pub(crate) fn session(messages: &[Message]) -> Vec<u8> {
    let messages = messages.iter().flat_map(Message::chunks);
    wire::handshake().into_iter().chain(wire::connect("live").chunks()).chain(messages).collect()
}

/// A connection from `from`, with a receive buffer of so many bytes unless that is 0.
pub(crate) fn connect_from(
    from: SocketAddrV4,
    receive_bytes: usize,
    server: SocketAddr,
) -> std::io::Result<TcpStream> {
    // A server that is started meanwhile must not inherit it, or it would not end with us.
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if receive_bytes > 0 {
        sockopt::set_socket_recv_buffer_size(&socket, receive_bytes)?;
    }
    net::bind(&socket, &from)?;
    net::connect(&socket, &server)?;
    Ok(socket.into())
}
