//! The contract between the server and a socket.
//!
//! It holds for sockets, and for a layer above a socket such as TLS. Such a layer reads whole
//! records, so it may hold bytes that the poll cannot see. It accepts bytes before the socket does,
//! so it may hold bytes that are not sent yet. A contract that assumes TCP loses wakeups: a short
//! read would count as the last one, and accepted bytes would count as sent.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};

/// Outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes that were read; 0 is the peer's orderly end.
    pub bytes: usize,
    /// True if nothing is left to read now. Then the transport owes an event for later bytes, and
    /// an event that reports an end or an error.
    pub is_drained: bool,
}

/// The state of a TCP connection as the kernel knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFacts {
    /// Smoothed round-trip time (us).
    pub rtt_us: u32,
    /// Segments that were sent again since the connection began.
    pub retransmits: u32,
    /// Bytes that were written and have not been sent for the first time.
    pub unsent_bytes: u32,
}

/// A non-blocking byte stream with edge-triggered readiness.
///
/// The server keeps the readiness of a connection itself: an event sets it and
/// [`io::ErrorKind::WouldBlock`] clears it, upon which the transport owes an event when that
/// changes.
pub trait Transport {
    /// Reads the bytes that have arrived, up to the length of `buffer`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received>;

    /// Returns whether it holds bytes that have left the socket already. No event will report
    /// them.
    fn has_unread(&self) -> bool {
        false
    }

    /// Writes the slices in order, as far as there is room. If the transport keeps bytes that it
    /// has taken, [`Transport::has_unsent`] returns true.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns whether it holds bytes that have not reached the socket.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Passes on the bytes that it holds. The server calls it before each write while
    /// [`Transport::has_unsent`], and also if nothing else is to be written.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if some are left.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns whether [`Transport::write_file`] may be called.
    fn sends_files(&self) -> bool {
        false
    }

    /// Writes up to `len` bytes of `file` from `position` on without a copy, as far as there is
    /// room. After any error but [`ErrorKind::WouldBlock`] and [`ErrorKind::Interrupted`] the
    /// caller writes the same bytes from memory, which shows whether the connection is broken or
    /// the system refuses to send from files.
    fn write_file(&mut self, file: &File, position: u64, len: usize) -> io::Result<usize> {
        let _ = (file, position, len);
        Err(ErrorKind::Unsupported.into())
    }

    /// Ends the sending direction once all that was written is sent.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Lets the peer know that its bytes have arrived, when there is nothing to send that would
    /// say so. A transport that has no say in this does nothing.
    fn acknowledge(&mut self) {}

    /// Asks the kernel about the connection; `None` if the kernel does not tell. This takes system
    /// calls, so the server asks for a client of the API, for the page, and in rare samples.
    fn tcp_facts(&self) -> Option<TcpFacts> {
        None
    }

    /// Notes that the server has done what so many more of the bytes read have asked for, which
    /// may be turns after it read them. A transport with a flow control of its own grants the peer
    /// as many.
    fn consumed(&mut self, bytes: usize) {
        let _ = bytes;
    }
}
