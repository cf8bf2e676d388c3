//! How the generator itself has fared: how late it was, and what it took of the processor.
//!
//! Owns the judgement whether it kept up. A generator that does not measures itself and not the
//! server, so a scenario then withholds what depends on time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::alarm;
use super::report::Distribution;
use crate::time::Time;

/// A generator that takes more of a core than this has no room for what comes at once.
pub const CPU_SHARE_MAX: f64 = 0.9;

/// What the loop has noted of itself.
#[derive(Clone, Debug)]
pub struct Measured {
    /// When the run began.
    pub began: Time,
    /// From when something was due to when it was acted upon (us).
    pub lateness: Distribution,
    /// From waking up to falling asleep again (us): what arrives meanwhile is read that late.
    pub turns: Distribution,
    /// From when it is counted.
    from: Time,
    /// How long the run took, from there.
    pub elapsed: Duration,
    /// The processor time that it took.
    pub cpu: Duration,
    /// Somebody ended it early.
    pub is_interrupted: bool,
    /// It was told never to sleep, so that its share of the processor means nothing.
    pub is_busy: bool,
}

impl Measured {
    pub(super) fn new(is_busy: bool) -> Self {
        let began = alarm::now();
        Self {
            began,
            from: began,
            lateness: Distribution::new("lateness"),
            turns: Distribution::new("turn"),
            elapsed: Duration::ZERO,
            cpu: cpu(),
            is_interrupted: false,
            is_busy,
        }
    }

    /// Counts anew from here on, and gives what was noted before.
    pub(super) fn restart(&mut self) -> Self {
        let anew = Self { began: self.began, ..Self::new(self.is_busy) };
        let mut before = std::mem::replace(self, anew);
        before.finish();
        before
    }

    /// Something that was due at `due` is acted upon at `now`.
    pub(super) fn note_lateness(&mut self, due: Time, now: Time) {
        self.lateness.record(now.since(self.began), now.since(due).as_micros() as u64);
    }

    /// A turn that began at `woke` is over at `now`.
    pub(super) fn note_turn(&mut self, woke: Time, now: Time) {
        self.turns.record(now.since(self.began), now.since(woke).as_micros() as u64);
    }

    pub(super) fn finish(&mut self) {
        self.elapsed = alarm::now().since(self.from);
        self.cpu = cpu().saturating_sub(self.cpu);
    }

    /// The generator's share of one core.
    pub fn cpu_share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Why what depends on time is not to be believed, if the generator has not kept up: it was
    /// later than `lateness_max` more often than once in a hundred times, or took more of a core
    /// than [`CPU_SHARE_MAX`].
    pub fn lagged(&self, lateness_max: Duration) -> Option<String> {
        let late = Duration::from_micros(self.lateness.histogram().value_at_quantile(0.99));
        if late > lateness_max {
            return Some(format!(
                "the generator was late by {late:?} (p99), more than {lateness_max:?}: give it \
                 a core of its own, or less to do"
            ));
        }
        let share = self.cpu_share();
        (share > CPU_SHARE_MAX && !self.is_busy).then(|| {
            format!(
                "the generator took {share:.2} of a core, more than {CPU_SHARE_MAX}: give it \
                 less to do"
            )
        })
    }
}

/// The processor time that this process has taken.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENESS_MAX: Duration = Duration::from_millis(1);

    fn measured(late_us: u64, cpu: Duration) -> Measured {
        let mut measured = Measured::new(false);
        let due = measured.began;
        let now = due + Duration::from_micros(late_us);
        (0..100).for_each(|_| measured.note_lateness(due, now));
        (measured.elapsed, measured.cpu) = (Duration::from_secs(10), cpu);
        measured
    }

    #[test]
    fn a_generator_that_is_late_or_has_no_room_says_why_it_is_not_to_be_believed() {
        let light = Duration::from_secs(1);
        assert_eq!(measured(900, light).lagged(LATENESS_MAX), None);
        let late = measured(1100, light).lagged(LATENESS_MAX).unwrap();
        assert!(late.contains("late by 1.1"), "{late}");
        let heavy = measured(0, Duration::from_millis(9100)).lagged(LATENESS_MAX).unwrap();
        assert!(heavy.contains("0.91 of a core"), "{heavy}");
    }

    #[test]
    fn one_that_never_sleeps_may_take_a_whole_core() {
        let busy = Measured { is_busy: true, ..measured(0, Duration::from_secs(10)) };
        assert_eq!(busy.lagged(LATENESS_MAX), None);
    }
}
