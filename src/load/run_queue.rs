//! Time for which this thread was ready to run and did not get a core.
//!
//! Owns reading the kernel's count, the second field of `schedstat`. The lateness of due actions
//! cannot show this wait if nothing is due, as for a player. The kernel counts it for every thread
//! from the moment of the wakeup. Without `/proc` the wait is unknown and taken as none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// See the module's head.
#[derive(Debug)]
pub(super) struct RunQueue {
    file: Option<File>,
    waited: Duration,
}

/// Longer than three numbers of 64 bits.
const TEXT_BYTES_MAX: usize = 80;

impl RunQueue {
    /// Opens the count of the calling thread.
    pub(super) fn open() -> Self {
        let file = File::open("/proc/thread-self/schedstat").ok();
        let mut queue = Self { file, waited: Duration::ZERO };
        queue.waited_meanwhile();
        queue
    }

    /// Returns for how long the thread has waited since the last call.
    pub(super) fn waited_meanwhile(&mut self) -> Duration {
        let Some(waited) = self.read() else { return Duration::ZERO };
        waited.saturating_sub(std::mem::replace(&mut self.waited, waited))
    }

    fn read(&self) -> Option<Duration> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let count = self.file.as_ref()?.read_at(&mut buffer, 0).ok()?;
        waited(str::from_utf8(&buffer[..count]).ok()?)
    }
}

/// Parses `schedstat`: nanoseconds on a core, nanoseconds of waiting for one, and time slices.
fn waited(text: &str) -> Option<Duration> {
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_field_is_the_wait() {
        assert_eq!(waited("123456789 5000 42\n"), Some(Duration::from_micros(5)));
        assert_eq!(waited("123456789"), None);
        assert_eq!(waited("1 x 2"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_kernel_counts_the_wait_of_a_thread() {
        let mut queue = RunQueue::open();
        assert!(queue.file.is_some());
        let before = queue.waited;
        let now = queue.read().expect("the kernel counts waits");
        let meanwhile = queue.waited_meanwhile();
        assert_eq!(queue.waited, before + meanwhile);
        assert!(queue.waited >= now);
    }
}
