//! The memory that the server has allocated and not freed, to check its accounting.
//!
//! Counts the allocations within calls into the server. Sockets, files and the listening socket
//! belong to the simulated machine, so their allocations within such a call are excluded.

use std::fs::File;
use std::io::{self, IoSlice};

use allocation_counter::{measure, opt_out};
use tiderace::server::transport::{Received, Transport};

use crate::socket::MemoryTransport;

/// Memory that is not accounted to connections and streams, and that even a small server has: copy
/// buffers for writes, tables that double (bytes).
const FIXED_BYTES: i64 = 96 * 1024;

/// Memory allocated by calls into the server and not freed (bytes).
#[derive(Debug, Default)]
pub(super) struct Ledger {
    allocated: i64,
}

impl Ledger {
    /// Calls into the server and counts the allocations.
    pub(super) fn count<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let mut result = None;
        self.allocated += measure(|| result = Some(call())).bytes_current;
        result.expect("the call has returned")
    }

    /// Asserts that the server's accounting of `accounted` bytes, without kernel memory, agrees
    /// with the allocator. They may differ by a quarter, as in `accounting.rs`.
    pub(super) fn assert_agrees(&self, accounted: usize) {
        let difference = (accounted as i64 - self.allocated).abs();
        let allowed = self.allocated.max(0) / 4 + FIXED_BYTES;
        assert!(difference <= allowed, "{accounted} accounted, {} allocated", self.allocated);
    }
}

/// Runs work of the simulated machine within a call into the server.
pub(super) fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    let mut result = None;
    opt_out(|| result = Some(work()));
    result.expect("the work is done")
}

/// A socket whose own memory is not counted.
#[derive(Debug)]
pub(super) struct Socket(Option<MemoryTransport>);

impl Socket {
    pub(super) const fn new(transport: MemoryTransport) -> Self {
        Self(Some(transport))
    }

    fn with<R>(&mut self, work: impl FnOnce(&mut MemoryTransport) -> R) -> R {
        uncounted(|| work(self.0.as_mut().expect("the socket exists until it is dropped")))
    }

    fn has(&self, what: impl FnOnce(&MemoryTransport) -> bool) -> bool {
        self.0.as_ref().is_some_and(what)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        uncounted(|| self.0.take());
    }
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        self.with(|socket| socket.read(buffer))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with(|socket| socket.write_vectored(slices))
    }

    fn has_unread(&self) -> bool {
        self.has(Transport::has_unread)
    }

    fn has_unsent(&self) -> bool {
        self.has(Transport::has_unsent)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Transport::flush)
    }

    fn sends_files(&self) -> bool {
        self.has(Transport::sends_files)
    }

    fn write_file(&mut self, file: &File, position: u64, len: usize) -> io::Result<usize> {
        self.with(|socket| socket.write_file(file, position, len))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.with(MemoryTransport::shutdown_write)
    }

    fn acknowledge(&mut self) {
        self.with(MemoryTransport::acknowledge);
    }

    fn consumed(&mut self, bytes: usize) {
        self.with(|socket| socket.consumed(bytes));
    }
}
