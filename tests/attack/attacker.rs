//! A connection that sends raw bytes at any pace and reads or does not read, as a case asks.
//!
//! Owns the socket and counts the bytes of both directions. It does not interpret the server's
//! bytes beyond searching for a few of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::support::net::connect_from;
use crate::wire::{self, Message};

/// Long enough for anything immediate, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Bytes from the server that are kept for searching.
const HEARD_BYTES_MAX: usize = 64 * 1024;

/// Byte counts of all connections of a case.
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
    /// The local address, which identifies the connection in the server's log.
    pub(crate) address: SocketAddr,
    traffic: Arc<Traffic>,
    /// Whether it reads. If not, the server's output to it stops.
    pub(crate) reads: bool,
    pub(crate) received: u64,
    heard: Vec<u8>,
    end: Option<End>,
}

impl Attacker {
    /// Connects from a local address that the kernel chooses.
    pub(crate) fn connect(server: SocketAddr, traffic: &Arc<Traffic>) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(server)?, traffic)
    }

    /// Connects from a given local address with a receive buffer of this size; 0 means the default.
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

    /// Sends all bytes, or as many as the server takes before it ends the connection. Reads replies
    /// meanwhile. Returns whether all bytes were sent.
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

    /// Sends a piece at a time with a pause after each, until all is sent, `limit` is over or the
    /// server has ended the connection.
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

    /// Reads once. Returns whether there was anything.
    pub(crate) fn take(&mut self) -> bool {
        self.take_up_to(HEARD_BYTES_MAX)
    }

    /// Reads at most this many bytes.
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

    /// Returns whether the server sends `text` within `limit`. Bytes received before count, too;
    /// all of them are then discarded.
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

    /// Returns the status of the next HTTP response within `limit`.
    pub(crate) fn hears_status(&mut self, limit: Duration) -> Option<u16> {
        let deadline = Instant::now() + limit;
        if !self.hears("HTTP/1.1 ", limit) {
            return None;
        }
        while self.heard.len() < 3 && self.end.is_none() && Instant::now() < deadline {
            self.take();
        }
        std::str::from_utf8(self.heard.get(..3)?).ok()?.parse().ok()
    }

    /// Returns whether a ping is answered, which shows that the server reads and parses the input.
    pub(crate) fn is_answered(&mut self, number: u32) -> bool {
        let mut answer = vec![0, 7];
        answer.extend(number.to_be_bytes());
        self.send(&wire::user_control(6, number).chunks()) && self.hears(&answer, SOON)
    }

    pub(crate) const fn end(&self) -> Option<End> {
        self.end
    }

    /// Shuts down the sending direction only.
    pub(crate) fn half_close(&self) {
        drop(self.socket.shutdown(Shutdown::Write));
    }

    /// Resets the connection (RST).
    pub(crate) fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

impl AsFd for Attacker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns handshake, `connect` to `live`, and the messages, as bytes.
pub(crate) fn session(messages: &[Message]) -> Vec<u8> {
    let messages = messages.iter().flat_map(Message::chunks);
    wire::handshake().into_iter().chain(wire::connect("live").chunks()).chain(messages).collect()
}
