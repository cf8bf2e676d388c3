//! Turns that take too long, and whose doing that was.
//!
//! Owns the measurement of one turn. It reads no clock of its own: whoever runs the loop lends
//! one, and without it nothing is measured. One look at the clock for each connection that is
//! read or written says where the time went, which a guess from bytes would not.

use crate::time::Time;
use std::fmt;
use std::net::SocketAddr;

/// A turn that takes longer is said (ms).
pub const TURN_MS_MAX: u64 = 100;

/// What a turn does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Takes new connections.
    Accepting,
    /// Reads, and does what was read.
    Reading,
    /// Does what is due.
    Deadlines,
    /// Writes.
    Writing,
    /// Ends streams, finds memory, removes connections.
    Ending,
}

impl Work {
    const ALL: [Self; 5] =
        [Self::Accepting, Self::Reading, Self::Deadlines, Self::Writing, Self::Ending];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Reading => "reading",
            Self::Deadlines => "deadlines",
            Self::Writing => "writing",
            Self::Ending => "ending",
        }
    }
}

/// The piece of work that took longest.
#[derive(Clone, Copy, Debug)]
struct Longest {
    micros: u64,
    work: Work,
    /// For whom; nobody when it was not for one connection.
    peer: Option<SocketAddr>,
}

/// See the module's head.
pub(super) struct Stopwatch {
    clock: Option<Box<dyn Fn() -> Time>>,
    /// When the turn under way began.
    began: Option<Time>,
    /// The end of the last piece of work.
    last: Time,
    micros: [u64; Work::ALL.len()],
    longest: Option<Longest>,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { clock: None, began: None, last: Time::ZERO, micros: [0; 5], longest: None }
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopwatch").field("longest", &self.longest).finish_non_exhaustive()
    }
}

impl Stopwatch {
    /// Measures by `clock` from here on.
    pub(super) fn lend(&mut self, clock: Box<dyn Fn() -> Time>) {
        self.clock = Some(clock);
    }

    /// A turn begins, unless one is under way.
    pub(super) fn start(&mut self) {
        let Some(clock) = self.clock.as_ref().filter(|_| self.began.is_none()) else { return };
        self.last = clock();
        self.began = Some(self.last);
    }

    /// A piece of work for nobody in particular is done.
    pub(super) fn lap(&mut self, work: Work) {
        self.lap_for(work, || None);
    }

    /// A piece of work is done; `peer` says for whom, if anybody wants to know.
    pub(super) fn lap_for(&mut self, work: Work, peer: impl FnOnce() -> Option<SocketAddr>) {
        let Some(clock) = &self.clock else { return };
        let now = clock();
        let micros = now.as_micros().saturating_sub(self.last.as_micros());
        self.last = now;
        self.micros[work as usize] += micros;
        if self.longest.is_none_or(|longest| micros > longest.micros) {
            self.longest = Some(Longest { micros, work, peer: peer() });
        }
    }

    /// The turn is over. What there is to say of it if it took too long.
    pub(super) fn stop(&mut self) -> Option<SlowTurn> {
        let began = self.began.take()?;
        let micros = std::mem::take(&mut self.micros);
        let longest = self.longest.take()?;
        let millis = self.last.millis_since(began);
        (millis > TURN_MS_MAX).then_some(SlowTurn { millis, micros, longest })
    }
}

/// A turn that took too long; displayed as one line.
#[derive(Debug)]
pub(super) struct SlowTurn {
    millis: u64,
    micros: [u64; Work::ALL.len()],
    longest: Longest,
}

impl fmt::Display for SlowTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Longest { micros, work, peer } = self.longest;
        let (millis, longest_ms) = (self.millis, micros / 1000);
        write!(f, "a turn took {millis} ms; longest {longest_ms} ms {}", work.as_str())?;
        if let Some(peer) = peer {
            write!(f, " for {peer}")?;
        }
        let mut separator = "; in all";
        for work in Work::ALL {
            let millis = self.micros[work as usize] / 1000;
            if millis > 0 {
                write!(f, "{separator} {} {millis} ms", work.as_str())?;
                separator = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// A watch whose clock stands where the cell says (ms).
    fn watch() -> (Stopwatch, Rc<Cell<u64>>) {
        let (mut watch, millis) = (Stopwatch::default(), Rc::new(Cell::new(0)));
        let clock = Rc::clone(&millis);
        watch.lend(Box::new(move || Time::ZERO.plus_millis(clock.get())));
        (watch, millis)
    }

    #[test]
    fn a_turn_of_more_than_100_ms_is_said_with_who_caused_it() {
        let (mut watch, millis) = watch();
        let peer = |port| SocketAddr::from(([10, 0, 0, 1], port));
        for (reading, said) in [
            (80, None),
            (
                81,
                Some(
                    "a turn took 101 ms; longest 81 ms reading for 10.0.0.1:2; \
                     in all reading 91 ms, writing 10 ms",
                ),
            ),
        ] {
            watch.start();
            for (work, port, took) in
                [(Work::Reading, 1, 10), (Work::Reading, 2, reading), (Work::Writing, 1, 10)]
            {
                millis.set(millis.get() + took);
                watch.lap_for(work, || Some(peer(port)));
            }
            assert_eq!(watch.stop().map(|slow| slow.to_string()).as_deref(), said);
            // What passes between two turns belongs to none.
            millis.set(millis.get() + 5000);
        }
    }

    #[test]
    fn without_a_clock_nothing_is_measured() {
        let mut watch = Stopwatch::default();
        watch.start();
        watch.lap(Work::Ending);
        assert!(watch.stop().is_none());
    }
}
