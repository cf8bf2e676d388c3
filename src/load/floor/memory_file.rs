//! Memory files: each frame is written once and sent to any number of players.
//!
//! Owns the rule of such files: a byte never changes once written, because a socket queue may still
//! refer to it. The kernel frees a full file after the last player and the last socket queue have
//! released it.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use mio::net::TcpStream;

use crate::limits;

/// The memory files of one stream: the one being written.
#[derive(Debug, Default)]
pub(super) struct MemoryFiles {
    current: Option<(Rc<system::File>, u64)>,
}

/// A range of bytes in a memory file.
#[derive(Clone, Debug)]
pub(super) struct FileRange {
    file: Rc<system::File>,
    range: Range<u64>,
}

/// Checks that memory files are available.
///
/// # Errors
/// The reason why they are not.
pub(super) fn check() -> io::Result<()> {
    system::create().map(drop)
}

impl MemoryFiles {
    /// Appends two parts as one range, in a new file if the current one has no room for them.
    pub(super) fn append(&mut self, [first, second]: [&[u8]; 2]) -> io::Result<FileRange> {
        let length = (first.len() + second.len()) as u64;
        let has_room = |end: u64| end + length <= limits::FLOOR_FILE_BYTES as u64;
        let (file, end) = match self.current.take() {
            Some((file, end)) if has_room(end) => (file, end),
            _ => (Rc::new(system::create()?), 0),
        };
        system::write(&file, first, end)?;
        system::write(&file, second, end + first.len() as u64)?;
        let range = end..end + length;
        self.current = Some((Rc::clone(&file), range.end));
        Ok(FileRange { file, range })
    }
}

impl FileRange {
    pub(super) fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// Sends once, as much as the kernel takes, starting at `offset`.
    pub(super) fn send(&self, socket: &TcpStream, offset: usize) -> io::Result<usize> {
        system::send(&self.file, self.range.start + offset as u64..self.range.end, socket)
    }

    /// Returns the range without its first `offset` bytes.
    pub(super) fn rest_after(&self, offset: usize) -> Self {
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
        let why = "--send sendfile requires Linux; use --send write";
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

    /// Returns the bytes that a player receives of a range, without its first `offset` bytes.
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
    fn written_bytes_never_change_whatever_is_appended() {
        let mut files = MemoryFiles::default();
        let first = files.append([b"fir", b"st"]).unwrap();
        let second = files.append([b"", b"second"]).unwrap();
        assert!(Rc::ptr_eq(&first.file, &second.file));
        files.append([&vec![7; limits::FLOOR_FILE_BYTES], b""]).unwrap();
        let third = files.append([b"third", b""]).unwrap();
        assert!(!Rc::ptr_eq(&second.file, &third.file));
        assert_eq!(sent(&first, 0), b"first");
        assert_eq!(sent(&second, 3), b"ond");
        assert_eq!(sent(&second.rest_after(3), 1), b"nd");
        assert_eq!(sent(&third, 0), b"third");
    }

    #[test]
    fn a_full_file_is_freed_with_its_last_range() {
        let mut files = MemoryFiles::default();
        let waits = files.append([b"waits", b""]).unwrap();
        files.append([&vec![0; limits::FLOOR_FILE_BYTES], b""]).unwrap();
        assert_eq!(Rc::strong_count(&waits.file), 1);
    }
}
