//! Measurements of the generator itself: its lateness and its processor time.
//!
//! Owns the judgement whether the generator kept up. A generator that lags measures itself and not
//! the server, so the figures that depend on time are withheld.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::alarm;
use super::report::Distribution;
use crate::time::Time;

/// Share of a core above which a generator has no reserve for bursts.
pub const CPU_SHARE_MAX: f64 = 0.9;

/// Measurements of the loop itself.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Start of the run.
    pub began: Time,
    /// Time from when an action was due to when it was performed (us).
    pub lateness: Distribution,
    /// Time from waking up to sleeping again (us). Bytes that arrive meanwhile are read late by up
    /// to this.
    pub turns: Distribution,
    /// Start of the measurements.
    from: Time,
    /// Length of the run since the start of the measurements.
    pub elapsed: Duration,
    /// Processor time used since then.
    pub cpu: Duration,
    /// A signal ended the run early.
    pub is_interrupted: bool,
    /// The generator lost its schedule, which ended the run early.
    pub lost_schedule: Option<LostSchedule>,
    /// The generator busy-polls, so its processor time means nothing.
    pub is_busy: bool,
}

/// The state of a schedule that the generator could not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSchedule {
    /// Lateness of the oldest due action.
    pub behind: Duration,
    /// Time since the start of the run.
    pub after: Duration,
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
            lost_schedule: None,
            is_busy,
        }
    }

    /// Returns whether the run ended before its time, by a signal or because the schedule was lost.
    pub const fn was_cut_short(&self) -> bool {
        self.is_interrupted || self.lost_schedule.is_some()
    }

    /// Restarts the measurements, and returns those until now.
    pub(super) fn restart(&mut self) -> Self {
        let restarted = Self { began: self.began, ..Self::new(self.is_busy) };
        let mut before = std::mem::replace(self, restarted);
        before.finish();
        before
    }

    /// Records that an action due at `due` is performed at `now`.
    pub(super) fn note_lateness(&mut self, due: Time, now: Time) {
        self.lateness.record(due.since(self.began), now.since(due).as_micros() as u64);
    }

    /// Records a turn that began at `woke` and is over at `now`.
    pub(super) fn note_turn(&mut self, woke: Time, now: Time) {
        self.turns.record(now.since(self.began), now.since(woke).as_micros() as u64);
    }

    pub(super) fn finish(&mut self) {
        self.elapsed = alarm::now().since(self.from);
        self.cpu = cpu().saturating_sub(self.cpu);
    }

    /// Returns the processor time of the generator as a share of one core.
    pub fn cpu_share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns why the run was ended early, if the generator could not keep its schedule.
    pub fn overloaded(&self) -> Option<String> {
        let LostSchedule { behind, after } = self.lost_schedule?;
        let (behind_s, after_s) = (behind.as_secs_f64(), after.as_secs_f64());
        Some(format!(
            "cannot generate this load: after {after_s:.1} s the generator was {behind_s:.1} s \
             behind its schedule and did not catch up; ask for less, share the work with \
             --processes if the command has that flag, or give the generator a core of its own"
        ))
    }

    /// Returns why figures that depend on time are not reliable, if the generator did not keep up.
    /// Its 99th percentile of lateness exceeded `lateness_max`, or it used more of a core than
    /// [`CPU_SHARE_MAX`].
    pub fn lagged(&self, lateness_max: Duration) -> Option<String> {
        let late = Duration::from_micros(self.lateness.histogram().value_at_quantile(0.99));
        if late > lateness_max {
            return Some(format!(
                "the generator was late by {late:?} (p99), more than {lateness_max:?}: give it \
                 a core of its own, or reduce the load"
            ));
        }
        let share = self.cpu_share();
        (share > CPU_SHARE_MAX && !self.is_busy).then(|| {
            format!(
                "the generator used {share:.2} of a core, more than {CPU_SHARE_MAX}: reduce the \
                 load, or share it between --processes"
            )
        })
    }
}

/// Returns the processor time that this thread has used. The thread for chores has time to spare.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
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
    fn a_generator_that_is_late_or_overloaded_says_why_it_is_not_reliable() {
        let light = Duration::from_secs(1);
        assert_eq!(measured(900, light).lagged(LATENESS_MAX), None);
        let late = measured(1100, light).lagged(LATENESS_MAX).unwrap();
        assert!(late.contains("late by 1.1"), "{late}");
        let heavy = measured(0, Duration::from_millis(9100)).lagged(LATENESS_MAX).unwrap();
        assert!(heavy.contains("0.91 of a core"), "{heavy}");
    }

    #[test]
    fn a_lost_schedule_says_how_far_behind_it_was() {
        let mut measured = measured(0, Duration::ZERO);
        assert_eq!((measured.overloaded(), measured.was_cut_short()), (None, false));
        let (behind, after) = (Duration::from_millis(1530), Duration::from_secs(12));
        measured.lost_schedule = Some(LostSchedule { behind, after });
        let reason = measured.overloaded().unwrap();
        let expected = "cannot generate this load: after 12.0 s the generator was 1.5 s behind";
        assert!(reason.starts_with(expected) && measured.was_cut_short(), "{reason}");
    }

    #[test]
    fn a_busy_polling_generator_may_use_a_whole_core() {
        let busy = Measured { is_busy: true, ..measured(0, Duration::from_secs(10)) };
        assert_eq!(busy.lagged(LATENESS_MAX), None);
    }
}
