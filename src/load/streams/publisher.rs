//! One publisher: which frame is its next, and how long the kernel let each of them wait.
//!
//! Owns its place in the schedule and what of its frames the kernel has yet to take. It writes
//! nothing by itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::arrivals::Window;
use crate::load::connection::ConnectionKey;
use crate::load::report::Distribution;
use crate::time::Time;

/// What all publishers sent in the window.
#[derive(Debug)]
pub(super) struct Sent {
    /// Frames that were intended.
    pub(super) intended: u64,
    /// Frames that the kernel took before the end.
    pub(super) accepted: u64,
    /// What the server acknowledged, of all that was sent to it.
    pub(super) acknowledged_bytes: u64,
    /// From when a frame was intended to when the kernel had taken all of it (us).
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
    /// Its connection, once that was opened.
    pub(super) id: Option<ConnectionKey>,
    /// When its first frame is intended.
    pub(super) first_at: Time,
    /// The number of its next frame.
    pub(super) sequence: u64,
    /// Its frames of the window.
    pub(super) in_window: u64,
    /// Frames that wait for the kernel: where each ends among the bytes of the connection, and
    /// when it was intended.
    waiting: VecDeque<(u64, Time)>,
    /// The last number that the server acknowledged, if it has done so.
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
            acknowledged: None,
        }
    }

    /// A frame was put behind what waits, and ends behind so many bytes of the connection.
    pub(super) fn wrote(&mut self, end: u64, intended: Time) {
        self.waiting.push_back((end, intended));
    }

    /// The kernel has taken so many bytes of the connection at `now`.
    pub(super) fn taken(
        &mut self,
        bytes: u64,
        now: Time,
        since_began: Duration,
        window: &Window,
        sent: &mut Sent,
    ) {
        while let Some((end, intended)) = self.waiting.front().copied() {
            if end > bytes {
                break;
            }
            self.waiting.pop_front();
            if window.holds(intended) {
                sent.accepted += u64::from(now < window.until);
                let delay = now.since(intended).as_micros() as u64;
                sent.write_delay.record(since_began, delay);
            }
        }
    }

    /// The server acknowledged at `now` all up to a number that wraps (RTMP 1.0, section 5.4.3).
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
        assert_eq!(taken(19, 110), (0, 0, 0), "of the second a byte is missing");
        assert_eq!(taken(30, 160), (2, 2, 60));
        assert_eq!(taken(50, 230), (2, 3, 60), "the last one was taken behind the end");
    }

    #[test]
    fn acknowledgements_wrap_and_the_first_only_says_where_they_are() {
        let (mut publisher, mut sent) = (Publisher::new(), Sent::new());
        for (number, now) in [(u32::MAX - 9, 120), (90, 130), (190, 150), (900, 200)] {
            publisher.acknowledged(number, Time::from_micros(now), &WINDOW, &mut sent);
        }
        assert_eq!(sent.acknowledged_bytes, 200);
    }
}
