//! Decides when the generator has lost its schedule for good.
//!
//! Owns the judgement on how late the oldest due action is at the end of each turn. A generator
//! that paused for a moment falls behind and catches up. An overloaded generator falls back
//! further. This module reads no clock.

use std::time::Duration;

/// Lateness up to which a schedule is not lost, whatever its course.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Time without progress after which a schedule is lost.
const STUCK_MAX: Duration = Duration::from_secs(2);
/// The most that one turn counts. A generator that was stopped and continued has one long turn, and
/// must get the chance to catch up.
const TURN_MAX: Duration = Duration::from_millis(100);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The least lateness since the generator fell behind.
    least: Duration,
    /// Time of all turns since then.
    stuck_for: Duration,
}

impl Backlog {
    pub(super) const fn new() -> Self {
        Self { least: Duration::MAX, stuck_for: Duration::ZERO }
    }

    /// Records a turn that took `length` and at whose end the oldest due action was late by
    /// `behind`. Returns whether the schedule is lost: the generator is more than [`BEHIND_MAX`]
    /// behind, and has not come any closer for [`STUCK_MAX`].
    pub(super) fn note(&mut self, behind: Duration, length: Duration) -> bool {
        if behind <= BEHIND_MAX {
            *self = Self::new();
        } else if behind < self.least {
            *self = Self { least: behind, stuck_for: Duration::ZERO };
        } else {
            self.stuck_for += length.min(TURN_MAX);
        }
        self.stuck_for > STUCK_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(50);

    /// Returns the number of turns after which the schedule is lost.
    fn lost_after(behind_ms: impl Iterator<Item = u64>) -> Option<usize> {
        let mut backlog = Backlog::new();
        behind_ms.map(Duration::from_millis).position(|behind| backlog.note(behind, TURN))
    }

    #[test]
    fn a_schedule_that_slips_further_and_further_is_lost() {
        // Behind by more than a second from the first turn on, which is the least of all.
        assert_eq!(lost_after((1001..).step_by(3)), Some(41));
        assert_eq!(lost_after(std::iter::repeat(1500)), Some(41));
    }

    #[test]
    fn a_generator_that_catches_up_or_is_a_little_late_keeps_its_schedule() {
        assert_eq!(lost_after((0..5000).rev()), None);
        assert_eq!(lost_after(std::iter::repeat_n(1000, 5000)), None);
        // It is late again and again, and has caught up in between.
        let late = [5000, 5000, 5000, 900].into_iter().cycle().take(5000);
        assert_eq!(lost_after(late), None);
    }

    #[test]
    fn a_pause_of_the_whole_process_is_not_the_generators_fault() {
        let mut backlog = Backlog::new();
        let pause = Duration::from_secs(60);
        assert!(!backlog.note(pause, pause));
        assert!(!backlog.note(pause, pause));
    }
}
