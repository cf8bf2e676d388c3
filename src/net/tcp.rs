//! A TCP socket as the server's [`Transport`].

use crate::server::transport::{Received, Transport};
use mio::net::TcpStream;
#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

/// A connected socket. Registered once, for both directions, edge-triggered.
#[derive(Debug)]
pub(super) struct Tcp(pub(super) TcpStream);

impl Transport for Tcp {
    /// A short read has emptied the socket, so the call that would find nothing is spared.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let bytes = self.0.read(buffer)?;
        Ok(Received { bytes, is_drained: bytes < buffer.len() })
    }

    /// One slice, the usual case, is spared the vectored call.
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
        let mut position = position;
        Ok(rustix::fs::sendfile(&self.0, file, Some(&mut position), len)?)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// The kernel would wait up to 40 ms for something to send along. When it refuses, the peer
    /// waits that long and nothing else is lost.
    #[cfg(target_os = "linux")]
    fn acknowledge(&mut self) {
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
    }
}
