//! Wakes the loop with microsecond precision. The timeout of a poll has milliseconds only.
//!
//! Owns the timer that the poll watches. It does not decide what is due.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};
use rustix::time::{ClockId, clock_gettime};

use crate::time::Time;

/// Waits shorter than this are spent polling, because sleeping and waking up take as long (us).
const AWAKE_US: u64 = 50;

/// Returns the monotonic clock of the machine in microseconds, which all its processes share.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    Time::from_micros(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000)
}

/// Computes the timeouts of a poll.
#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: timer::Timer,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        #[cfg(not(target_os = "linux"))]
        let _ = (registry, token);
        Ok(Self {
            #[cfg(target_os = "linux")]
            timer: timer::Timer::new(registry, token)?,
        })
    }

    /// Returns the timeout of a poll at `now` if something is due at `due`.
    pub(super) fn timeout(&mut self, due: Time, now: Time) -> io::Result<Option<Duration>> {
        if due == Time::NEVER {
            return Ok(None);
        }
        let left = due.since(now);
        if left < Duration::from_micros(AWAKE_US) {
            return Ok(Some(Duration::ZERO));
        }
        #[cfg(target_os = "linux")]
        {
            self.timer.wake_at(due)?;
            Ok(None)
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Some(left))
    }
}

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    use crate::time::Time;

    /// A kernel timer as a descriptor (timerfd). It is never read: setting it again causes the next
    /// edge.
    #[derive(Debug)]
    pub(super) struct Timer {
        descriptor: OwnedFd,
        set_to: Time,
    }

    impl Timer {
        pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self { descriptor, set_to: Time::NEVER })
        }

        pub(super) fn wake_at(&mut self, at: Time) -> io::Result<()> {
            if self.set_to == at {
                return Ok(());
            }
            let micros = at.as_micros();
            let it_value = Timespec {
                tv_sec: (micros / 1_000_000) as i64,
                tv_nsec: (micros % 1_000_000 * 1000) as i64,
            };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval, it_value };
            timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &once)?;
            self.set_to = at;
            Ok(())
        }
    }
}
