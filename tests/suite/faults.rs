//! What may go wrong with a call on a socket, by a seed, and counted: a fault that never strikes
//! proves nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::random::Random;

/// One way in which the system answers other than wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An event says readable of a socket with nothing to read.
    ReadableEvent,
    /// An event says writable of a socket that has been so all along.
    WritableEvent,
    /// An event comes for a socket that is closed, or another one by now.
    StrayEvent,
    /// EINTR.
    ReadInterrupted,
    /// EAGAIN although an event said that there is something.
    ReadAgain,
    /// Less than there is.
    ReadShort,
    /// ECONNRESET.
    ReadReset,
    /// ETIMEDOUT.
    ReadTimedOut,
    /// EINTR.
    WriteInterrupted,
    /// EAGAIN although there is room.
    WriteAgain,
    /// Less than there is room for.
    WriteShort,
    /// ECONNRESET.
    WriteReset,
    /// EPIPE.
    WriteBroken,
    /// ENOBUFS or ENOMEM.
    WriteNoMemory,
    /// ENOTCONN.
    ShutdownFails,
    /// ECONNABORTED: the connection died in the queue.
    AcceptDied,
    /// EMFILE or ENFILE.
    AcceptNoDescriptor,
    /// ENOBUFS or ENOMEM.
    AcceptNoMemory,
    /// The poll takes no more.
    RegisterFails,
}

impl Fault {
    pub(crate) const ALL: [Self; 19] = [
        Self::ReadableEvent,
        Self::WritableEvent,
        Self::StrayEvent,
        Self::ReadInterrupted,
        Self::ReadAgain,
        Self::ReadShort,
        Self::ReadReset,
        Self::ReadTimedOut,
        Self::WriteInterrupted,
        Self::WriteAgain,
        Self::WriteShort,
        Self::WriteReset,
        Self::WriteBroken,
        Self::WriteNoMemory,
        Self::ShutdownFails,
        Self::AcceptDied,
        Self::AcceptNoDescriptor,
        Self::AcceptNoMemory,
        Self::RegisterFails,
    ];

    /// It strikes once in so many calls.
    const fn one_in(self) -> usize {
        match self {
            Self::ReadableEvent | Self::WritableEvent | Self::ReadShort | Self::WriteShort => 2,
            Self::ReadAgain | Self::WriteAgain => 8,
            Self::ReadInterrupted | Self::WriteInterrupted | Self::StrayEvent => 16,
            Self::AcceptDied | Self::AcceptNoDescriptor | Self::AcceptNoMemory => 16,
            Self::RegisterFails | Self::ShutdownFails => 16,
            Self::ReadReset | Self::ReadTimedOut => 2000,
            Self::WriteReset | Self::WriteBroken | Self::WriteNoMemory => 2000,
        }
    }

    /// Whether it ends a connection.
    const fn is_fatal(self) -> bool {
        self.one_in() == 2000 || matches!(self, Self::ShutdownFails)
    }
}

/// How often each fault struck.
pub(crate) type Counts = Rc<RefCell<[u64; Fault::ALL.len()]>>;

/// The faults of one socket.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    random: Random,
    fatal: bool,
    counts: Counts,
}

impl Faults {
    /// Faults that a good server lets nobody notice.
    pub(crate) fn harmless(seed: u64) -> Self {
        Self { random: Random::new(seed), fatal: false, counts: Counts::default() }
    }

    /// All of them, counted in `counts`.
    pub(crate) fn all(seed: u64, counts: &Counts) -> Self {
        Self { random: Random::new(seed), fatal: true, counts: Rc::clone(counts) }
    }

    /// Whether `fault` strikes now.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = (self.fatal || !fault.is_fatal()) && self.random.one_in(fault.one_in());
        self.counts.borrow_mut()[fault as usize] += u64::from(strikes);
        strikes
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }
}

/// What no system does: a defect for a test to be found out by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Of what the server writes, a byte is lost once, after so many.
    LosesByte(usize),
    /// A byte arrives twice.
    DoublesByte(usize),
    /// An event is swallowed, after so many.
    SwallowsEvent(usize),
}

impl Sabotage {
    pub(super) fn swallows_event(&mut self) -> bool {
        match self {
            Self::SwallowsEvent(after) if *after > 0 => *after -= 1,
            Self::SwallowsEvent(_) => return true,
            _ => {}
        }
        false
    }

    /// Spoils the last `count` bytes of `sent`.
    pub(super) fn spoil(&mut self, sent: &mut VecDeque<u8>, count: usize) {
        let (Self::LosesByte(after) | Self::DoublesByte(after)) = self else { return };
        if *after >= count {
            *after -= count;
            return;
        }
        let at = sent.len() - count + *after;
        *after = usize::MAX;
        match self {
            Self::DoublesByte(_) => sent.insert(at, sent[at]),
            _ => drop(sent.remove(at)),
        }
    }
}
