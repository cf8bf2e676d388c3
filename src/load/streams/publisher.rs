//! One publisher: its position in the schedule, and how long its frames waited for the kernel.
//!
//! Owns the next frame number and the frames that the kernel has not taken yet. It writes nothing
//! itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::arrivals::Window;
use crate::load::connection::ConnectionKey;
use crate::load::report::Distribution;
use crate::time::Time;

/// Totals of all publishers in the window.
#[derive(Debug)]
pub(super) struct Sent {
    /// Frames that were intended.
    pub(super) intended: u64,
    /// Frames that the kernel had taken before the end.
    pub(super) accepted: u64,
    /// Bytes that the server acknowledged.
    pub(super) acknowledged_bytes: u64,
    /// Time from when a frame was intended to when the kernel had taken all of it (us).
    pub(super) write_delay: Distribution,
}

impl Sent {
    pub(super) fn new() -> Self {
        Self {
            intended: 0,
            accepted: 0,
            acknowledged_bytes: 0,
            write_delay: Distribution::new("write_delay"),
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The key of the connection, once opened.
    pub(super) id: Option<ConnectionKey>,
    /// Intended time of the first frame.
    pub(super) first_at: Time,
    /// Number of the next frame.
    pub(super) sequence: u64,
    /// Frames intended in the window.
    pub(super) in_window: u64,
    /// Frames that wait for the kernel: the byte position in the output at which each ends, and its
    /// intended time.
    waiting: VecDeque<(u64, Time)>,
    /// Bytes of the output that the kernel has taken.
    taken_bytes: u64,
    /// The last acknowledged number, if any.
    acknowledged: Option<u32>,
}

impl Publisher {
    pub(super) const fn new() -> Self {
        Self {
            id: None,
            first_at: Time::NEVER,
            sequence: 0,
            in_window: 0,
            waiting: VecDeque::new(),
            taken_bytes: 0,
            acknowledged: None,
        }
    }

    /// Records a frame that was written to the output and ends at byte position `end`.
    pub(super) fn wrote(&mut self, end: u64, intended: Time) {
        self.waiting.push_back((end, intended));
    }

    /// Records that the kernel had taken `bytes` of the output at `now`. Returns how many of them
    /// are new.
    pub(super) fn taken(
        &mut self,
        bytes: u64,
        now: Time,
        since_began: Duration,
        window: &Window,
        sent: &mut Sent,
    ) -> u64 {
        while let Some((end, intended)) = self.waiting.front().copied() {
            if end > bytes {
                break;
            }
            self.waiting.pop_front();
            if window.holds(intended) {
                sent.accepted += u64::from(now < window.until);
                let delay = now.since(intended);
                let due = since_began.saturating_sub(delay);
                sent.write_delay.record(due, delay.as_micros() as u64);
            }
        }
        bytes - std::mem::replace(&mut self.taken_bytes, bytes)
    }

    /// Records an acknowledgement. The number wraps at 2^32 (RTMP 1.0, section 5.4.3).
    pub(super) fn acknowledged(
        &mut self,
        number: u32,
        now: Time,
        window: &Window,
        sent: &mut Sent,
    ) {
        if let Some(last) = self.acknowledged.replace(number)
            && window.holds(now)
        {
            sent.acknowledged_bytes += u64::from(number.wrapping_sub(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from: Time::from_micros(100), until: Time::from_micros(200) };

    #[test]
    fn frames_are_accepted_when_the_kernel_has_taken_all_of_them_before_the_end() {
        let (mut publisher, mut sent) = (Publisher::new(), Sent::new());
        for (end, intended) in [(10, 99), (20, 100), (30, 150), (40, 199), (50, 200)] {
            publisher.wrote(end, Time::from_micros(intended));
        }
        let mut taken = |bytes, now| {
            let now = Time::from_micros(now);
            publisher.taken(bytes, now, Duration::ZERO, &WINDOW, &mut sent);
            (sent.accepted, sent.write_delay.histogram().len(), sent.write_delay.histogram().max())
        };
        assert_eq!(taken(19, 110), (0, 0, 0), "one byte of the second is missing");
        assert_eq!(taken(30, 160), (2, 2, 60));
        assert_eq!(taken(50, 230), (2, 3, 60), "the last one was taken after the end");
    }

    #[test]
    fn acknowledgements_wrap_and_the_first_is_only_the_starting_point() {
        let (mut publisher, mut sent) = (Publisher::new(), Sent::new());
        for (number, now) in [(u32::MAX - 9, 120), (90, 130), (190, 150), (900, 200)] {
            publisher.acknowledged(number, Time::from_micros(now), &WINDOW, &mut sent);
        }
        assert_eq!(sent.acknowledged_bytes, 200);
    }
}
