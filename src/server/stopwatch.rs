//! The duration of turns, and the connection that made a turn too long.
//!
//! Measures one turn at a time. It has no clock of its own: the loop provides [`Clocks`], and
//! without them nothing is measured. The wall clock is read once for each connection that is read
//! or written, because byte counts would not show where the time went.
//!
//! The processor time of a turn distinguishes a busy server from a machine that did not run it.
//! Reading that clock is a system call, so it is read at most once a millisecond, and again after
//! a turn that may be the longest so far. The figure may include up to a millisecond of earlier
//! turns.

use super::peer_address::PeerAddress;
use crate::stream::histogram::Histogram;
use crate::time::Time;
use std::fmt;

/// Turns longer than this are logged (ms).
pub const TURN_MS_MAX: u64 = 100;
/// How old a reading of the processor clock may be when a turn begins (us).
const CPU_READING_US_MAX: u64 = 1000;

/// The clocks that measure turns.
pub struct Clocks {
    /// Monotonic time.
    pub wall: Box<dyn Fn() -> Time>,
    /// Processor time of this thread.
    pub cpu: Box<dyn Fn() -> Time>,
}

/// The phases of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Accepts new connections.
    Accepting,
    /// Reads, and handles the messages.
    Reading,
    /// Handles due deadlines.
    Deadlines,
    /// Writes.
    Writing,
    /// Ends streams, frees memory, removes connections.
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

/// The wall time of each phase of a turn (us). Displayed in milliseconds, without the phases that
/// took next to none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Phases {
    micros: [u64; Work::ALL.len()],
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for work in Work::ALL {
            let millis = self.micros[work as usize] as f64 / 1000.0;
            if millis >= 0.1 {
                write!(f, "{separator}{} {millis:.1} ms", work.as_str())?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// The turn that took the most processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct LongestTurn {
    /// Its processor time (us); 0 if turns are not measured.
    pub cpu_us: u64,
    phases: Phases,
}

impl fmt::Display for LongestTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms of CPU", self.cpu_us as f64 / 1000.0)?;
        let phases = self.phases.to_string();
        if phases.is_empty() { Ok(()) } else { write!(f, " ({phases})") }
    }
}

/// The piece of work that took longest.
#[derive(Clone, Copy, Debug)]
struct Longest {
    micros: u64,
    work: Work,
    /// The peer of the connection; `None` if the work was not for a single one.
    peer: Option<PeerAddress>,
}

/// Measures turns. See the module's head.
pub(super) struct Stopwatch {
    clocks: Option<Clocks>,
    /// The last reading of the processor clock, and the time of that reading.
    cpu: Time,
    cpu_read_at: Time,
    longest_turn: LongestTurn,
    /// Start of the turn under way.
    began: Option<Time>,
    /// The end of the last piece of work.
    last: Time,
    phases: Phases,
    longest: Option<Longest>,
    turns: Histogram,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self {
            clocks: None,
            cpu: Time::ZERO,
            cpu_read_at: Time::ZERO,
            longest_turn: LongestTurn::default(),
            began: None,
            last: Time::ZERO,
            phases: Phases::default(),
            longest: None,
            turns: Histogram::default(),
        }
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopwatch").field("longest", &self.longest).finish_non_exhaustive()
    }
}

impl Stopwatch {
    /// Starts measuring with `clocks`.
    pub(super) fn lend(&mut self, clocks: Clocks) {
        (self.cpu, self.cpu_read_at) = ((clocks.cpu)(), (clocks.wall)());
        self.clocks = Some(clocks);
    }

    /// Returns the longest turn so far.
    pub(super) const fn longest_turn(&self) -> LongestTurn {
        self.longest_turn
    }

    /// Returns the durations of all turns.
    pub(super) const fn turns(&self) -> &Histogram {
        &self.turns
    }

    /// Returns the time of the last lap; `None` if turns are not measured.
    pub(super) fn last_lap(&self) -> Option<Time> {
        self.clocks.as_ref().map(|_| self.last)
    }

    /// Reads the processor time; `None` if turns are not measured.
    pub(super) fn read_cpu(&self) -> Option<Time> {
        self.clocks.as_ref().map(|clocks| (clocks.cpu)())
    }

    /// Starts a turn, unless one is under way.
    pub(super) fn start(&mut self) {
        let Some(clocks) = self.clocks.as_ref().filter(|_| self.began.is_none()) else { return };
        self.last = (clocks.wall)();
        self.began = Some(self.last);
        if micros_between(self.cpu_read_at, self.last) > CPU_READING_US_MAX {
            (self.cpu, self.cpu_read_at) = ((clocks.cpu)(), self.last);
        }
    }

    /// Notes the end of a piece of work that was not for a single connection. Returns how long it
    /// took (us).
    pub(super) fn lap(&mut self, work: Work) -> u64 {
        self.lap_for(work, || None)
    }

    /// Notes the end of a piece of work. Returns how long it took (us); 0 if turns are not
    /// measured. `peer` is called only if the work took longest so far.
    pub(super) fn lap_for(
        &mut self,
        work: Work,
        peer: impl FnOnce() -> Option<PeerAddress>,
    ) -> u64 {
        let Some(clocks) = &self.clocks else { return 0 };
        let now = (clocks.wall)();
        let micros = micros_between(self.last, now);
        self.last = now;
        self.phases.micros[work as usize] += micros;
        if self.longest.is_none_or(|longest| micros > longest.micros) {
            self.longest = Some(Longest { micros, work, peer: peer() });
        }
        micros
    }

    /// Ends the turn. Returns its description if it took too long.
    pub(super) fn stop(&mut self) -> Option<SlowTurn> {
        let began = self.began.take()?;
        let phases = std::mem::take(&mut self.phases);
        let longest = self.longest.take()?;
        let millis = self.last.millis_since(began);
        let is_slow = millis > TURN_MS_MAX;
        let turn_us = micros_between(began, self.last);
        self.turns.record(turn_us, 1);
        if !is_slow && turn_us <= self.longest_turn.cpu_us {
            return None;
        }
        let cpu = (self.clocks.as_ref()?.cpu)();
        let cpu_us = micros_between(self.cpu, cpu).min(turn_us);
        (self.cpu, self.cpu_read_at) = (cpu, self.last);
        if cpu_us > self.longest_turn.cpu_us {
            self.longest_turn = LongestTurn { cpu_us, phases };
        }
        is_slow.then_some(SlowTurn { millis, cpu_millis: cpu_us / 1000, phases, longest })
    }
}

const fn micros_between(earlier: Time, later: Time) -> u64 {
    later.as_micros().saturating_sub(earlier.as_micros())
}

/// A turn that took too long. Displayed as one log line.
#[derive(Debug)]
pub(super) struct SlowTurn {
    millis: u64,
    cpu_millis: u64,
    phases: Phases,
    longest: Longest,
}

impl fmt::Display for SlowTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Longest { micros, work, peer } = self.longest;
        let (millis, cpu_millis, longest_ms) = (self.millis, self.cpu_millis, micros / 1000);
        write!(f, "a turn took {millis} ms, {cpu_millis} ms of them on the processor; ")?;
        write!(f, "the longest step was {longest_ms} ms {}", work.as_str())?;
        if let Some(peer) = peer {
            write!(f, " for {peer}")?;
        }
        write!(f, "; in total {}", self.phases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::net::SocketAddr;
    use std::rc::Rc;

    /// A stopwatch and its clocks (ms).
    struct Lab {
        watch: Stopwatch,
        wall: Rc<Cell<u64>>,
        cpu: Rc<Cell<u64>>,
        /// Number of readings of the processor clock.
        readings: Rc<Cell<u64>>,
    }

    impl Lab {
        fn new() -> Self {
            let [wall, cpu, readings] = [(); 3].map(|()| Rc::new(Cell::new(0)));
            let mut watch = Stopwatch::default();
            let (lent_wall, lent_cpu) = (Rc::clone(&wall), Rc::clone(&cpu));
            let counted = Rc::clone(&readings);
            watch.lend(Clocks {
                wall: Box::new(move || Time::ZERO.plus_millis(lent_wall.get())),
                cpu: Box::new(move || {
                    counted.set(counted.get() + 1);
                    Time::ZERO.plus_millis(lent_cpu.get())
                }),
            });
            Self { watch, wall, cpu, readings }
        }

        fn pass(&self, wall_ms: u64, cpu_ms: u64) {
            self.wall.set(self.wall.get() + wall_ms);
            self.cpu.set(self.cpu.get() + cpu_ms);
        }

        /// Runs one turn of these pieces of work: the work, the port of its peer, wall and
        /// processor time (ms).
        fn turn(&mut self, pieces: &[(Work, u16, u64, u64)]) -> Option<String> {
            self.watch.start();
            for (work, port, wall_ms, cpu_ms) in pieces {
                self.pass(*wall_ms, *cpu_ms);
                self.watch.lap_for(*work, || Some(SocketAddr::from(([10, 0, 0, 1], *port)).into()));
            }
            self.watch.stop().map(|slow| slow.to_string())
        }
    }

    #[test]
    fn a_turn_of_more_than_100_ms_is_logged_with_the_peer_that_caused_it() {
        let mut lab = Lab::new();
        for (reading_ms, expected) in [
            (80, None),
            (
                81,
                Some(
                    "a turn took 101 ms, 99 ms of them on the processor; the longest step was \
                     81 ms reading for 10.0.0.1:2; in total reading 91.0 ms, writing 10.0 ms",
                ),
            ),
        ] {
            let pieces = [
                (Work::Reading, 1, 10, 9),
                (Work::Reading, 2, reading_ms, 80),
                (Work::Writing, 1, 10, 10),
            ];
            assert_eq!(lab.turn(&pieces).as_deref(), expected);
            // Time between two turns does not count.
            lab.pass(5000, 1);
        }
    }

    #[test]
    fn the_longest_turn_is_the_one_with_the_most_processor_time() {
        let mut lab = Lab::new();
        for (wall_ms, cpu_ms, longest_ms) in [(9, 3, 3), (2, 2, 3), (90, 4, 4), (8, 7, 7)] {
            lab.pass(10, 0);
            lab.turn(&[(Work::Reading, 1, wall_ms, cpu_ms)]);
            assert_eq!(lab.watch.longest_turn().cpu_us, longest_ms * 1000);
        }
        assert_eq!(lab.watch.longest_turn().to_string(), "7.0 ms of CPU (reading 8.0 ms)");
    }

    #[test]
    fn short_turns_read_the_processor_clock_once_a_millisecond_at_most() {
        let mut lab = Lab::new();
        lab.pass(10, 0);
        lab.turn(&[(Work::Reading, 1, 5, 5)]);
        let before = lab.readings.get();
        for _ in 0..1000 {
            lab.turn(&[(Work::Reading, 1, 0, 0)]);
        }
        assert_eq!(lab.readings.get(), before, "no time has passed");
        for _ in 0..100 {
            lab.pass(2, 0);
            lab.turn(&[(Work::Reading, 1, 0, 0)]);
        }
        assert_eq!(lab.readings.get(), before + 100);
    }

    #[test]
    fn without_a_clock_nothing_is_measured() {
        let mut watch = Stopwatch::default();
        watch.start();
        watch.lap(Work::Ending);
        assert!(watch.stop().is_none());
        assert_eq!(watch.longest_turn().to_string(), "0.0 ms of CPU");
    }
}
