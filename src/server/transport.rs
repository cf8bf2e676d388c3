//! What the server needs of a socket.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};

/// A non-blocking byte stream with edge-triggered readiness.
///
/// The server keeps the readiness of a connection itself: an event sets it and
/// [`io::ErrorKind::WouldBlock`] clears it, upon which the transport owes an event when that
/// changes.
pub trait Transport {
    /// Reads what has arrived. 0 is the peer's orderly end.
    ///
    /// A count below `buffer.len()` says that nothing more has arrived by then; the transport
    /// owes an event for what comes after, and one that reports an end or an error as such.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes the slices in order, as far as there is room.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

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

    /// Notes that the server has done what so many more of the bytes read have asked for, which
    /// may be turns after it read them. A transport with a flow control of its own grants the peer
    /// as many.
    fn consumed(&mut self, bytes: usize) {
        let _ = bytes;
    }
}
