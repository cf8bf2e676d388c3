//! Measurements of the generator itself: its lateness, its late reads and its processor time.
//!
//! Owns these measurements, and the judgement by a bound on all of them. `own_delay` compares them
//! with the figures one by one. A generator that lags measures itself and not the server.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::alarm;
use super::report::Distribution;
use crate::time::Time;

/// Share of a core above which a generator has no reserve for bursts.
pub const CPU_SHARE_MAX: f64 = 0.9;

/// Remedy for a generator that lags.
pub(super) const REMEDY: &str = "give the generator a core of its own (taskset) or priority \
                                 (nice -n -10, or chrt -R -f 1), or accept its delays with \
                                 --lateness-max-ms";

/// Measurements of the loop itself.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Start of the run.
    pub began: Time,
    /// Time from when an action was due to when it was performed (us).
    pub lateness: Distribution,
    /// Time from when the kernel made the loop ready to run to when it read a connection (us).
    pub read_delay: Distribution,
    /// Time for which the loop was ready to run and did not get a core.
    pub waited: Duration,
    /// When the loop could have run in this turn.
    runnable_at: Time,
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

/// Reason why a run ended early, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    is_interrupted: bool,
    lost_schedule: Option<LostSchedule>,
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
            read_delay: Distribution::new("read_delay"),
            waited: Duration::ZERO,
            runnable_at: began,
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

    /// Returns what ended the run early, if anything did.
    pub const fn end(&self) -> RunEnd {
        RunEnd { is_interrupted: self.is_interrupted, lost_schedule: self.lost_schedule }
    }

    /// Returns the measurements of a part of a run that ended in this way.
    pub fn ended_by(self, end: RunEnd) -> Self {
        let RunEnd { is_interrupted, lost_schedule } = end;
        Self { is_interrupted, lost_schedule, ..self }
    }

    /// Restarts the measurements, and returns those until now.
    pub(super) fn restart(&mut self) -> Self {
        let runnable_at = self.runnable_at;
        let restarted = Self { began: self.began, runnable_at, ..Self::new(self.is_busy) };
        let mut before = std::mem::replace(self, restarted);
        before.finish();
        before
    }

    /// Records that an action due at `due` is performed at `now`.
    pub(super) fn note_lateness(&mut self, due: Time, now: Time) {
        self.lateness.record(due.since(self.began), now.since(due).as_micros() as u64);
    }

    /// Records that the loop woke up at `woke`, after it had waited for a core for `waited`.
    pub(super) fn note_wake(&mut self, woke: Time, waited: Duration) {
        self.waited += waited;
        let waited_us = waited.as_micros() as u64;
        self.runnable_at = Time::from_micros(woke.as_micros().saturating_sub(waited_us));
    }

    /// Records that a connection was read at `now` for the first time in this turn.
    pub(super) fn note_read(&mut self, now: Time) {
        let delay_us = now.since(self.runnable_at).as_micros() as u64;
        self.read_delay.record(now.since(self.began), delay_us);
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

    /// Returns the share of time for which the loop waited for a core.
    pub fn wait_share(&self) -> f64 {
        self.waited.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns why no figure that depends on time is reliable, if the generator did not keep up.
    /// The 99th percentile of its lateness or of its delay before a read exceeded `lateness_max`,
    /// if that is given, or it used more of a core than [`CPU_SHARE_MAX`].
    pub fn lagged(&self, lateness_max: Option<Duration>) -> Option<String> {
        for (own, what) in [(&self.lateness, "was late"), (&self.read_delay, "read late")] {
            let late = Duration::from_micros(own.histogram().value_at_quantile(0.99));
            if let Some(max) = lateness_max.filter(|max| late > *max) {
                return Some(format!(
                    "the generator {what} by {late:?} (p99), more than {max:?}: {REMEDY}"
                ));
            }
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

    const LATENESS_MAX: Option<Duration> = Some(Duration::from_millis(1));

    fn measured(late_us: u64, cpu: Duration) -> Measured {
        let mut measured = Measured::new(false);
        let due = measured.began;
        let now = due + Duration::from_micros(late_us);
        (0..100).for_each(|_| measured.note_lateness(due, now));
        (0..100).for_each(|_| measured.note_read(due));
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
    fn a_read_is_late_by_the_wait_for_a_core_and_by_the_turn_before_it() {
        let mut late = measured(0, Duration::ZERO);
        let woke = late.began + Duration::from_secs(1);
        late.note_wake(woke, Duration::from_micros(1500));
        (0..100).for_each(|_| late.note_read(woke + Duration::from_micros(500)));
        assert_eq!(late.read_delay.histogram().len(), 200);
        assert_eq!(late.read_delay.histogram().count_between(1999, 2001), 100);
        assert!((late.wait_share() - 0.00015).abs() < 1e-9);
        let reason = late.lagged(LATENESS_MAX).unwrap();
        assert!(reason.starts_with("the generator read late by 2"), "{reason}");
        assert_eq!(late.lagged(None), None);
    }

    #[test]
    fn a_busy_polling_generator_may_use_a_whole_core() {
        let busy = Measured { is_busy: true, ..measured(0, Duration::from_secs(10)) };
        assert_eq!(busy.lagged(LATENESS_MAX), None);
    }
}
