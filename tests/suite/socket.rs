//! A TCP connection in memory: what the kernels of both ends would hold of it.
//!
//! Readiness is edge-triggered, as epoll gives it: an event is owed for a change and only for
//! that, so a server that overlooks one hangs here as it would on a real socket. What else may
//! go wrong with a call is of `faults.rs`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::LazyLock;

use tiderace::server::transport::{Received, TcpFacts, Transport};

use crate::faults::{Fault, Faults, Sabotage};

/// What the poll says of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) read_closed: bool,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    /// The sender has said that nothing follows.
    finished: bool,
}

impl Pipe {
    const fn new(bytes_max: usize) -> Self {
        Self { bytes: VecDeque::new(), bytes_max, finished: false }
    }

    fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len())
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..count]);
        count
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }
}

/// How the system answers who wants to send from a file, other than wished.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileAnswer {
    /// With an error, and the connection is well.
    Error(ErrorKind),
    /// With no byte.
    Nothing,
    /// The connection breaks during the call (ECONNRESET).
    Reset,
}

/// Both directions and the readiness of the server's end. The methods are the client's end.
#[derive(Debug)]
pub(crate) struct Link {
    to_server: Pipe,
    to_client: Pipe,
    owed: Readiness,
    /// The server was told that there is no room, so it is owed an event when there is.
    write_refused: bool,
    reset: bool,
    server_closed: bool,
    /// Acknowledgements that the server asked for.
    acknowledged: usize,
    /// Bytes that the server wanted to send from files.
    pub(crate) bytes_from_files: u64,
    /// Calls to send from a file, refused ones as well.
    pub(crate) file_calls: usize,
    /// What every attempt to send from a file is answered with, if not as it should be.
    pub(crate) file_answer: Option<FileAnswer>,
    /// What the kernel tells of the connection besides what lies in it. `None` if it tells nothing.
    pub(crate) facts: Option<TcpFacts>,
    faults: Option<Faults>,
    sabotage: Option<Sabotage>,
    witness: Option<Witness>,
    /// Set if the server's end is a layer like TLS.
    records: Option<Records>,
}

/// The most bytes in one record. Real ones hold up to 16 KiB; short ones are split more often.
const RECORD_BYTES: usize = 700;

/// What a layer like TLS holds between the server and its socket. It opens and seals one record
/// at a time, and cannot send from files.
#[derive(Debug, Default)]
struct Records {
    /// Bytes of an opened record that the server has not read, and no event reports.
    opened: VecDeque<u8>,
    /// Bytes of a sealed record for which the socket had no room.
    sealed: VecDeque<u8>,
}

/// Whether connections are of that kind unless a test is about sockets:
/// `TIDERACE_TRANSPORT=records`.
static RECORDS: LazyLock<bool> =
    LazyLock::new(|| std::env::var("TIDERACE_TRANSPORT").is_ok_and(|kind| kind == "records"));

thread_local! {
    static IS_ABOUT_SOCKETS: Cell<bool> = const { Cell::new(false) };
}

/// Declares that the test that calls it counts what a TCP socket does: its reads, its files, its
/// acknowledgements, the moment from which it is full. Such a test runs with sockets in every run.
pub(crate) fn is_about_sockets() {
    IS_ABOUT_SOCKETS.set(true);
}

/// What the server did with a socket, in the order in which it did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It read so many bytes; 0 when there was nothing.
    Read(usize),
    /// It did what so many of the bytes read asked for.
    Consumed(usize),
    /// It learned that the peer has ended its direction, or that the connection is broken.
    Ended,
    /// It closed the socket.
    Closed,
}

/// Notes what the server does with many sockets, each of which has a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    number: u32,
    notes: Rc<RefCell<Vec<(u32, Seen)>>>,
}

impl Witness {
    /// The witness of another socket, whose notes go to the same place.
    pub(crate) fn of(&self, number: u32) -> Self {
        Self { number, notes: Rc::clone(&self.notes) }
    }

    /// What was noted since the last call.
    pub(crate) fn take(&self) -> Vec<(u32, Seen)> {
        std::mem::take(&mut self.notes.borrow_mut())
    }

    fn note(&self, seen: Seen) {
        self.notes.borrow_mut().push((self.number, seen));
    }
}

impl Link {
    /// A connection with room for `bytes_max` in each direction. It is writable from the start.
    pub(crate) fn open(bytes_max: usize, faults: Option<Faults>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self::new(bytes_max, faults)))
    }

    /// The same with a witness.
    pub(crate) fn open_before(
        witness: Witness,
        bytes_max: usize,
        faults: Option<Faults>,
        sabotage: Option<Sabotage>,
    ) -> Rc<RefCell<Self>> {
        let link = Self::new(bytes_max, faults);
        Rc::new(RefCell::new(Self { witness: Some(witness), sabotage, ..link }))
    }

    fn new(bytes_max: usize, faults: Option<Faults>) -> Self {
        Self {
            to_server: Pipe::new(bytes_max),
            to_client: Pipe::new(bytes_max),
            owed: Readiness { writable: true, ..Readiness::default() },
            write_refused: false,
            reset: false,
            server_closed: false,
            acknowledged: 0,
            bytes_from_files: 0,
            file_calls: 0,
            file_answer: None,
            facts: Some(TcpFacts::default()),
            faults,
            sabotage: None,
            witness: None,
            records: (*RECORDS && !IS_ABOUT_SOCKETS.get()).then(Records::default),
        }
    }

    /// Puts a layer like TLS between the server and its socket.
    pub(crate) fn use_records(&mut self) {
        self.records = Some(Records::default());
    }

    /// Sends what there is room for and returns how much that was.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        if self.server_closed || self.reset {
            return bytes.len();
        }
        let count = self.to_server.put(bytes);
        self.owed.readable |= count > 0;
        count
    }

    /// Takes up to `count` bytes that the server has sent.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.to_client.take(count);
        if self.write_refused && self.to_client.room() > 0 {
            self.write_refused = false;
            self.owed.writable = true;
        }
        bytes
    }

    /// Ends the sending direction (FIN).
    pub(crate) fn finish(&mut self) {
        if !self.to_server.finished {
            self.to_server.finished = true;
            self.owed.readable = true;
            self.owed.read_closed = true;
        }
    }

    /// Breaks the connection (RST): what is on its way is lost in both directions.
    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.to_server.bytes.clear();
        self.to_client.bytes.clear();
        self.owed = Readiness { readable: true, writable: true, read_closed: true };
    }

    /// What the poll reports now; nothing if nothing has changed since.
    pub(crate) fn take_event(&mut self) -> Option<Readiness> {
        let mut event = std::mem::take(&mut self.owed);
        if self.server_closed || event == Readiness::default() {
            return None;
        }
        if self.sabotage.as_mut().is_some_and(Sabotage::swallows_event) {
            return None;
        }
        // epoll reports all that holds when one thing has changed.
        if let Some(faults) = &mut self.faults {
            event.readable |= faults.strikes(Fault::ReadableEvent);
            event.writable |= faults.strikes(Fault::WritableEvent);
        }
        Some(event)
    }

    /// Whether the poll has something to report.
    pub(crate) fn has_event(&self) -> bool {
        !self.server_closed && self.owed != Readiness::default()
    }

    /// Whether an event is to come that says readable.
    pub(crate) const fn owes_readable(&self) -> bool {
        self.owed.readable
    }

    /// Whether an event is to come that says writable, now or once the client has read.
    pub(crate) const fn owes_writable(&self) -> bool {
        self.owed.writable || self.write_refused
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn repair(&mut self) {
        self.faults = None;
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.as_mut().is_some_and(|faults| faults.strikes(fault))
    }

    fn note(&self, seen: Seen) {
        if let Some(witness) = &self.witness {
            witness.note(seen);
        }
    }

    /// The network breaks the connection under a call.
    fn fail(&mut self, kind: ErrorKind) -> io::Error {
        self.reset();
        self.note(Seen::Ended);
        kind.into()
    }

    /// Bytes that the server has not read yet.
    pub(crate) fn unread(&self) -> usize {
        let opened = self.records.as_ref().map_or(0, |records| records.opened.len());
        opened + self.to_server.bytes.len()
    }

    /// Bytes that the server has written and that are not on their way yet.
    pub(crate) fn unsent(&self) -> usize {
        self.records.as_ref().map_or(0, |records| records.sealed.len())
    }

    /// Takes up to `count` bytes of what the client has sent, of one record at a time.
    fn take_unread(&mut self, count: usize) -> Vec<u8> {
        let Some(records) = &mut self.records else { return self.to_server.take(count) };
        if records.opened.is_empty() {
            records.opened.extend(self.to_server.take(RECORD_BYTES));
        }
        records.opened.drain(..count.min(records.opened.len())).collect()
    }

    /// Takes up to `may_take` bytes that the server writes. Returns how many.
    fn take(&mut self, slices: &[IoSlice<'_>], may_take: usize) -> usize {
        let may_take = match &self.records {
            Some(records) => {
                assert!(records.sealed.is_empty(), "a write before the flush");
                may_take.min(RECORD_BYTES)
            }
            None => may_take,
        };
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(may_take - taken)];
            taken += match &mut self.records {
                Some(records) => {
                    records.sealed.extend(part);
                    part.len()
                }
                None => self.to_client.put(part),
            };
        }
        self.write_refused |= taken < may_take;
        self.pass_on();
        taken
    }

    /// Sends the rest of the last record, as far as there is room. Returns whether that was all.
    fn pass_on(&mut self) -> bool {
        let Some(records) = &mut self.records else { return true };
        let sent = self.to_client.put(records.sealed.make_contiguous());
        records.sealed.drain(..sent);
        self.write_refused |= !records.sealed.is_empty();
        records.sealed.is_empty()
    }

    /// Room for what the server sends.
    pub(crate) fn room(&self) -> usize {
        self.to_client.room()
    }

    /// Acknowledgements that the server asked for, since nothing was to be sent along with them.
    pub(crate) const fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Whether the server has ended its sending direction, or the whole connection.
    pub(crate) const fn is_finished(&self) -> bool {
        self.to_client.finished || self.server_closed
    }

    /// Whether the client has ended its direction, or broken the connection.
    pub(crate) const fn has_left(&self) -> bool {
        self.to_server.finished || self.reset
    }

    /// Whether the server has given the connection up.
    pub(crate) const fn is_closed(&self) -> bool {
        self.server_closed
    }
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct MemoryTransport(pub(crate) Rc<RefCell<Link>>);

impl Transport for MemoryTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let link = &mut *self.0.borrow_mut();
        if link.reset {
            link.note(Seen::Ended);
            return Err(ErrorKind::ConnectionReset.into());
        }
        if link.strikes(Fault::ReadInterrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if link.unread() == 0 {
            if !link.to_server.finished {
                link.note(Seen::Read(0));
                return Err(ErrorKind::WouldBlock.into());
            }
            link.note(Seen::Ended);
            return Ok(Received { bytes: 0, is_drained: true });
        }
        for (fault, kind) in [
            (Fault::ReadReset, ErrorKind::ConnectionReset),
            (Fault::ReadTimedOut, ErrorKind::TimedOut),
        ] {
            if link.strikes(fault) {
                return Err(link.fail(kind));
            }
        }
        // What is there comes a moment later, and with it its event. An open record is there.
        let has_opened = link.records.as_ref().is_some_and(|records| !records.opened.is_empty());
        if !has_opened && link.strikes(Fault::ReadAgain) {
            link.owed.readable = true;
            link.note(Seen::Read(0));
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = buffer.len();
        if link.strikes(Fault::ReadShort) {
            count = link.faults.as_mut().map_or(count, |faults| 1 + faults.below(count));
        }
        let bytes = link.take_unread(count);
        buffer[..bytes.len()].copy_from_slice(&bytes);
        let is_drained = match link.records {
            Some(_) => link.unread() == 0,
            // As of a socket, from which a short read has taken all.
            None => bytes.len() < buffer.len(),
        };
        link.owed.readable |= is_drained && link.unread() > 0;
        link.note(Seen::Read(bytes.len()));
        Ok(Received { bytes: bytes.len(), is_drained })
    }

    fn has_unread(&self) -> bool {
        self.0.borrow().records.as_ref().is_some_and(|records| !records.opened.is_empty())
    }

    fn has_unsent(&self) -> bool {
        self.0.borrow().records.as_ref().is_some_and(|records| !records.sealed.is_empty())
    }

    fn flush(&mut self) -> io::Result<()> {
        let link = &mut *self.0.borrow_mut();
        if link.reset {
            link.note(Seen::Ended);
            return Err(ErrorKind::BrokenPipe.into());
        }
        if link.strikes(Fault::WriteInterrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if link.pass_on() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn consumed(&mut self, bytes: usize) {
        self.0.borrow_mut().note(Seen::Consumed(bytes));
    }

    fn sends_files(&self) -> bool {
        self.0.borrow().records.is_none()
    }

    fn write_file(&mut self, file: &File, position: u64, len: usize) -> io::Result<usize> {
        let answer = {
            let link = &mut *self.0.borrow_mut();
            link.file_calls += 1;
            link.file_answer
        };
        match answer {
            None => {}
            Some(FileAnswer::Error(kind)) => return Err(kind.into()),
            Some(FileAnswer::Nothing) => return Ok(0),
            Some(FileAnswer::Reset) => {
                return Err(self.0.borrow_mut().fail(ErrorKind::ConnectionReset));
            }
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, position).expect("what is sent was written before");
        self.0.borrow_mut().bytes_from_files += len as u64;
        self.write_vectored(&[IoSlice::new(&bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let link = &mut *self.0.borrow_mut();
        if link.reset {
            link.note(Seen::Ended);
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(len > 0, "a write of nothing");
        for (fault, kind) in [
            (Fault::WriteReset, ErrorKind::ConnectionReset),
            (Fault::WriteBroken, ErrorKind::BrokenPipe),
            (Fault::WriteNoMemory, ErrorKind::OutOfMemory),
        ] {
            if link.strikes(fault) {
                return Err(link.fail(kind));
            }
        }
        if link.strikes(Fault::WriteInterrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if link.strikes(Fault::WriteAgain) {
            link.owed.writable = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut may_take = len;
        if link.strikes(Fault::WriteShort) {
            may_take = link.faults.as_mut().map_or(len, |faults| 1 + faults.below(len));
        }
        let taken = link.take(slices, may_take);
        if let Some(sabotage) = link.sabotage.as_mut().filter(|_| taken > 0) {
            sabotage.spoil(&mut link.to_client.bytes, taken);
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let link = &mut *self.0.borrow_mut();
        if link.reset || link.strikes(Fault::ShutdownFails) {
            return Err(ErrorKind::NotConnected.into());
        }
        assert_eq!(link.unsent(), 0, "what was written goes before the end");
        link.to_client.finished = true;
        Ok(())
    }

    fn acknowledge(&mut self) {
        self.0.borrow_mut().acknowledged += 1;
    }

    fn tcp_facts(&self) -> Option<TcpFacts> {
        let link = self.0.borrow();
        let unsent_bytes = link.to_client.bytes.len() as u32;
        link.facts.map(|facts| TcpFacts { unsent_bytes, ..facts })
    }
}

impl Drop for MemoryTransport {
    /// A socket that is closed with bytes unread resets the connection, and what the client has
    /// not read by then may be lost; here it is.
    fn drop(&mut self) {
        let link = &mut *self.0.borrow_mut();
        link.server_closed = true;
        link.note(Seen::Closed);
        if link.unread() > 0 {
            link.to_client.bytes.clear();
        }
    }
}
