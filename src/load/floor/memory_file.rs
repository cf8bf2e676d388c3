//! A file in memory that frames are written to once, and sent from as often as there are players.
//!
//! Owns the rule of such files: no byte changes once it is written, since the queue of a socket
//! may still refer to it. A full file is left behind, and the kernel frees it when the last player
//! and the last queue let go of it.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use mio::net::TcpStream;

use crate::limits;

/// The files of one stream: the one that is being written.
#[derive(Debug, Default)]
pub(super) struct MemoryFiles {
    current: Option<(Rc<system::File>, u64)>,
}

/// Where something lies in a file.
#[derive(Clone, Debug)]
pub(super) struct FileRange {
    file: Rc<system::File>,
    range: Range<u64>,
}

/// Whether there are such files.
///
/// # Errors
/// Why not.
pub(super) fn check() -> io::Result<()> {
    system::create().map(drop)
}

impl MemoryFiles {
    /// Writes `bytes` behind all others, in a new file if the current one has no room for them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<FileRange> {
        let length = bytes.len() as u64;
        let has_room = |end: u64| end + length <= limits::FLOOR_FILE_BYTES as u64;
        let (file, end) = match self.current.take() {
            Some((file, end)) if has_room(end) => (file, end),
            _ => (Rc::new(system::create()?), 0),
        };
        system::write(&file, bytes, end)?;
        let range = end..end + length;
        self.current = Some((Rc::clone(&file), range.end));
        Ok(FileRange { file, range })
    }
}

impl FileRange {
    pub(super) fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// Sends once, as much as the kernel takes, from `offset` on.
    pub(super) fn send(&self, socket: &TcpStream, offset: usize) -> io::Result<usize> {
        system::send(&self.file, self.range.start + offset as u64..self.range.end, socket)
    }

    /// The same without its first bytes.
    pub(super) fn behind(&self, offset: usize) -> Self {
        let range = self.range.start + offset as u64..self.range.end;
        Self { file: Rc::clone(&self.file), range }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::ops::Range;
    use std::os::fd::OwnedFd;

    use mio::net::TcpStream;
    use rustix::fs::{MemfdFlags, memfd_create, sendfile};
    use rustix::io::pwrite;

    pub(super) type File = OwnedFd;

    pub(super) fn create() -> io::Result<File> {
        Ok(memfd_create("floor", MemfdFlags::CLOEXEC)?)
    }

    pub(super) fn write(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = pwrite(file, bytes, at)?;
            bytes = &bytes[count..];
            at += count as u64;
        }
        Ok(())
    }

    pub(super) fn send(
        file: &File,
        Range { start, end }: Range<u64>,
        socket: &TcpStream,
    ) -> io::Result<usize> {
        let mut offset = start;
        Ok(sendfile(socket, file, Some(&mut offset), (end - start) as usize)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::ops::Range;

    use mio::net::TcpStream;

    #[derive(Debug)]
    pub(super) enum File {}

    pub(super) fn create() -> io::Result<File> {
        let why = "--send sendfile: expected Linux; use --send write";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    pub(super) fn write(file: &File, _: &[u8], _: u64) -> io::Result<()> {
        match *file {}
    }

    pub(super) fn send(file: &File, _: Range<u64>, _: &TcpStream) -> io::Result<usize> {
        match *file {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as StdStream};

    use super::*;

    /// What a player receives of a range, without its first `offset` bytes.
    fn sent(range: &FileRange, offset: usize) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut player = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let count = range.send(&TcpStream::from_std(socket), offset).unwrap();
        let mut received = vec![0; count];
        player.read_exact(&mut received).unwrap();
        received
    }

    #[test]
    fn what_was_written_stays_as_it_was_whatever_comes_behind_it() {
        let mut files = MemoryFiles::default();
        let first = files.append(b"first").unwrap();
        let second = files.append(b"second").unwrap();
        assert!(Rc::ptr_eq(&first.file, &second.file));
        files.append(&vec![7; limits::FLOOR_FILE_BYTES]).unwrap();
        let third = files.append(b"third").unwrap();
        assert!(!Rc::ptr_eq(&second.file, &third.file));
        assert_eq!(sent(&first, 0), b"first");
        assert_eq!(sent(&second, 3), b"ond");
        assert_eq!(sent(&second.behind(3), 1), b"nd");
        assert_eq!(sent(&third, 0), b"third");
    }

    #[test]
    fn a_file_that_is_left_behind_goes_with_the_last_who_needs_it() {
        let mut files = MemoryFiles::default();
        let waits = files.append(b"waits").unwrap();
        files.append(&vec![0; limits::FLOOR_FILE_BYTES]).unwrap();
        assert_eq!(Rc::strong_count(&waits.file), 1);
    }
}
