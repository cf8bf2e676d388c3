//! Non-blocking writes of lines to standard output and standard error.
//!
//! The reader of a terminal, a pipe or a socket may have stopped. A line is written if there is
//! room, and is lost otherwise. Setting `O_NONBLOCK` is rejected: the flag belongs to the open file
//! description, which the server shares with the shell, with `tee`, and with the other programs of
//! a container.
//!
//! A file on a disk that hangs still blocks the server, because the kernel has no non-blocking
//! write to a file. With a pipe to a program that writes the file, only that program blocks.

use std::fmt::Display;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
#[cfg(target_os = "linux")]
use rustix::fs::{Mode, OFlags, Stat, major, minor, open};
use rustix::io::{Errno, write};
#[cfg(target_os = "linux")]
use rustix::io::{ReadWriteFlags, pwritev2};
use rustix::net::{SendFlags, send};
use rustix::termios::isatty;

/// Longest wait for room for the last line of a process (s).
const LAST_WORDS_SECONDS: i64 = 1;
/// Room in a pipe that the poll reports as writable (PIPE_BUF, bytes).
const PIPE_ROOM_BYTES: usize = 4096;
/// Room in a terminal that the poll reports as writable (bytes). It allocates 256 bytes at a time.
const TERMINAL_ROOM_BYTES: usize = 128;

/// An output for lines.
#[derive(Debug)]
pub(crate) struct LineOutput<F> {
    shared: F,
    way: Way,
    /// Rest of a partially written line. It is written first, so that no line is cut.
    rest: Vec<u8>,
}

/// Method of a non-blocking write.
#[derive(Debug)]
enum Way {
    /// Writes to a terminal or pipe that was opened again, with a non-blocking description of its
    /// own.
    Own(OwnedFd),
    /// Sends to a socket, with `MSG_DONTWAIT`.
    Send,
    /// Writes to a pipe, with `RWF_NOWAIT`. Linux supports it for pipes since 6.4.
    #[cfg(target_os = "linux")]
    NoWait,
    /// Polls for room, and writes no more than fits. This is the last choice: another program that
    /// writes to the same pipe at the same time can take the room, and the write blocks.
    Poll(Room),
}

#[derive(Clone, Copy, Debug)]
enum Room {
    Pipe,
    Terminal,
    /// A file always has room.
    Any,
}

impl<F: AsFd> LineOutput<F> {
    /// Creates an output to `shared`, with the best method for it.
    pub(crate) fn new(shared: F) -> Self {
        let way = match open_again(&shared) {
            Some(own) => Way::Own(own),
            None => Way::of_shared(&shared),
        };
        Self { shared, way, rest: Vec::new() }
    }

    /// Writes a line, unless that would block. A partially written line counts as written: its rest
    /// precedes the next line.
    ///
    /// # Errors
    /// The line could not be written, and is lost.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.rest);
        let (taken, ended) = self.write(&rest);
        rest.drain(..taken);
        self.rest = rest;
        ended?;
        match self.write(line) {
            (taken @ 1.., Err(_)) => {
                self.rest.extend_from_slice(&line[taken..]);
                Ok(())
            }
            (_, ended) => ended.map_err(io::Error::from),
        }
    }

    /// Writes a line, and waits a moment for room.
    pub(crate) fn last_words(&mut self, line: &[u8]) {
        if self.line(line).is_err() {
            self.poll(Timespec { tv_sec: LAST_WORDS_SECONDS, tv_nsec: 0 });
            drop(self.line(line));
        }
    }

    /// Writes as many bytes as there is room for. Returns their number, and the error that ended
    /// the write.
    fn write(&mut self, bytes: &[u8]) -> (usize, Result<(), Errno>) {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.write_once(&bytes[taken..]) {
                Ok(0) => return (taken, Err(Errno::AGAIN)),
                Ok(more) => taken += more,
                Err(Errno::INTR) => {}
                Err(errno) => return (taken, Err(errno)),
            }
        }
        (taken, Ok(()))
    }

    fn write_once(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.way {
            Way::Own(own) => write(own, bytes),
            Way::Send => send(&self.shared, bytes, SendFlags::DONTWAIT),
            #[cfg(target_os = "linux")]
            Way::NoWait => {
                let slices = [io::IoSlice::new(bytes)];
                // The offset -1 means the current position, which is the only one of a pipe.
                match pwritev2(&self.shared, &slices, u64::MAX, ReadWriteFlags::NOWAIT) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE) => {
                        self.way = Way::Poll(Room::Pipe);
                        self.write_once(bytes)
                    }
                    written => written,
                }
            }
            Way::Poll(room) => {
                let piece = room.piece(bytes);
                if !self.poll(Timespec::default()) {
                    return Err(Errno::AGAIN);
                }
                write(&self.shared, piece)
            }
        }
    }

    /// Waits for room or an error. Returns whether either came before the timeout.
    fn poll(&self, timeout: Timespec) -> bool {
        let polled = match &self.way {
            Way::Own(own) => own.as_fd(),
            _ => self.shared.as_fd(),
        };
        poll(&mut [PollFd::from_borrowed_fd(polled, PollFlags::OUT)], Some(&timeout)) == Ok(1)
    }
}

impl Way {
    fn of_shared(shared: &impl AsFd) -> Self {
        let Ok(stat) = fstat(shared) else { return Self::Poll(Room::Any) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Self::Send,
            #[cfg(target_os = "linux")]
            FileType::Fifo => Self::NoWait,
            #[cfg(not(target_os = "linux"))]
            FileType::Fifo => Self::Poll(Room::Pipe),
            FileType::CharacterDevice if isatty(shared) => Self::Poll(Room::Terminal),
            _ => Self::Poll(Room::Any),
        }
    }
}

impl Room {
    /// Returns the part of `bytes` that certainly fits if the poll reports room. On a terminal, a
    /// line end takes more room than one byte, so it is written separately.
    fn piece(self, bytes: &[u8]) -> &[u8] {
        let len = match self {
            Self::Pipe => PIPE_ROOM_BYTES,
            Self::Terminal => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                end.unwrap_or(bytes.len()).clamp(1, TERMINAL_ROOM_BYTES)
            }
            Self::Any => bytes.len(),
        };
        &bytes[..len.min(bytes.len())]
    }
}

/// Opens the terminal or pipe of `shared` again, with a non-blocking description of its own.
/// Returns `None` if it belongs to another user, or if `/proc` is missing.
#[cfg(target_os = "linux")]
fn open_again(shared: &impl AsFd) -> Option<OwnedFd> {
    let stat = fstat(shared).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => {}
        FileType::CharacterDevice if isatty(shared) && !is_multiplexer(&stat) => {}
        _ => return None,
    }
    let path = format!("/proc/self/fd/{}", shared.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let own = open(path, flags, Mode::empty()).ok()?;
    let opened = fstat(&own).ok()?;
    let is_same = (stat.st_dev, stat.st_ino) == (opened.st_dev, opened.st_ino);
    is_same.then_some(own)
}

#[cfg(not(target_os = "linux"))]
const fn open_again(_: &impl AsFd) -> Option<OwnedFd> {
    None
}

/// Returns true for `/dev/ptmx`. Opening it again would create another terminal.
#[cfg(target_os = "linux")]
fn is_multiplexer(stat: &Stat) -> bool {
    (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
}

/// Writes the last line of the server to standard error. A caller that does not read the line
/// still gets the exit code.
pub(crate) fn last_words(line: &dyn Display) {
    LineOutput::new(io::stderr()).last_words(format!("{line}\n").as_bytes());
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::fs::{fcntl_getfl, fcntl_setfl};
    use rustix::io::read;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::pipe::pipe;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// Opens a terminal. Returns the end that programs write to, and the other end.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let other = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&other).unwrap();
        unlockpt(&other).unwrap();
        let name = ptsname(&other, Vec::new()).unwrap();
        let written = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        (written, other)
    }

    fn pipe_ends() -> (OwnedFd, OwnedFd) {
        let (read, written) = pipe().unwrap();
        (written, read)
    }

    fn socket_ends() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap()
    }

    fn line(number: usize) -> String {
        format!("{number} {}\n", "x".repeat(number % 300))
    }

    /// Writes numbered lines until one is lost, and then reads, which makes room. The reader gets
    /// every line that was not reported as lost, complete and in order.
    fn fill_and_read(way: Option<Way>, (written, read_end): (OwnedFd, OwnedFd)) {
        let flags = fcntl_getfl(&written).unwrap();
        let mut output = LineOutput::new(written);
        if let Some(way) = way {
            output.way = way;
        }
        let mut expected = String::new();
        let mut number = 0;
        while output.line(line(number).as_bytes()).is_ok() {
            expected += &line(number);
            number += 1;
            assert!(number < 1_000_000, "there is no end of the room");
        }
        while output.line(b"short\n").is_ok() {
            expected += "short\n";
        }
        for _ in 0..3 {
            let error = output.line(b"short\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        assert_eq!(fcntl_getfl(&output.shared), Ok(flags), "others write there as well");
        fcntl_setfl(&read_end, OFlags::NONBLOCK).unwrap();
        let mut found = String::new();
        while !found.ends_with("end\n") {
            let mut buffer = [0; 4096];
            if let Ok(count) = read(&read_end, &mut buffer) {
                found += &str::from_utf8(&buffer[..count]).unwrap().replace('\r', "");
            }
            if !expected.ends_with("end\n") && output.line(b"end\n").is_ok() {
                expected += "end\n";
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_full_pipe_costs_lines_and_cuts_none() {
        fill_and_read(None, pipe_ends());
        fill_and_read(Some(Way::NoWait), pipe_ends());
        fill_and_read(Some(Way::Poll(Room::Pipe)), pipe_ends());
    }

    #[test]
    fn a_full_terminal_costs_lines_and_cuts_none() {
        fill_and_read(None, terminal());
        fill_and_read(Some(Way::Poll(Room::Terminal)), terminal());
    }

    #[test]
    fn a_full_socket_costs_lines_and_cuts_none() {
        fill_and_read(None, socket_ends());
    }

    #[test]
    fn terminals_and_pipes_get_a_description_of_their_own() {
        let (written, _reader) = pipe_ends();
        assert!(matches!(LineOutput::new(written).way, Way::Own(_)));
        let (written, other) = terminal();
        assert!(matches!(LineOutput::new(written).way, Way::Own(_)));
        assert!(open_again(&other).is_none(), "it would be another terminal");
    }

    #[test]
    fn a_reader_that_left_is_an_error_and_no_signal() {
        for (written, reader) in [pipe_ends(), socket_ends()] {
            let mut output = LineOutput::new(written);
            drop(reader);
            let error = output.line(b"lost\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
