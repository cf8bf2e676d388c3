//! TCP and unix sockets as the [`Transport`] of the server. Calls that are for TCP alone have no
//! effect on unix sockets.

#[cfg(target_os = "linux")]
use super::tcp_facts;
#[cfg(target_os = "linux")]
use crate::server::transport::TcpFacts;
use crate::server::transport::{Received, Transport};
use mio::net::TcpStream;
#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

/// A connected socket of TCP, or a unix socket. It is registered once, edge-triggered, for both
/// directions.
#[derive(Debug)]
pub(super) struct Tcp(pub(super) TcpStream);

impl Transport for Tcp {
    /// Reads from the socket. A short read has emptied it, which saves a call that finds nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let bytes = self.0.read(buffer)?;
        Ok(Received { bytes, is_drained: bytes < buffer.len() })
    }

    /// Writes one slice, which is the usual case, without the overhead of a vectored call.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.0.write(slice),
            slices => self.0.write_vectored(slices),
        }
    }

    fn sends_files(&self) -> bool {
        cfg!(target_os = "linux")
    }

    #[cfg(target_os = "linux")]
    fn write_file(&mut self, file: &File, position: u64, len: usize) -> io::Result<usize> {
        // `sendfile` with an explicit position leaves the offset of the file alone, so all players
        // of a stream share one descriptor.
        let mut position = position;
        Ok(rustix::fs::sendfile(&self.0, file, Some(&mut position), len)?)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Returns `None` for a unix socket, whose ends have no IP address to ask for.
    #[cfg(target_os = "linux")]
    fn tcp_facts(&self) -> Option<TcpFacts> {
        tcp_facts::ask(&self.0)
    }

    /// Sends a TCP acknowledgement at once. The kernel would delay it up to 40 ms to send it with
    /// data. If the kernel refuses the option, the only effect is that delay.
    #[cfg(target_os = "linux")]
    fn acknowledge(&mut self) {
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
    }
}
