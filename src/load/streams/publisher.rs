//! One publisher: its position in the schedule, how long its frames waited for the kernel, and how
//! long its bytes waited for the server.
//!
//! Owns the next frame number, the frames that the kernel has not taken yet, and the bytes that the
//! server has not acknowledged yet. The kernel takes megabytes for a server that stands still, so
//! only acknowledgements show that. It writes nothing itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::arrivals::Window;
use super::offer::StreamPhase;
use super::stamped_frame::Medium;
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
    /// Bytes of these frames.
    pub(super) accepted_bytes: u64,
    /// Bytes that the server acknowledged.
    pub(super) acknowledged_bytes: u64,
    /// Time from when a frame was intended to when the kernel had taken all of it (us).
    pub(super) write_delay: Distribution,
    /// Time from when the kernel had taken a byte to its acknowledgement (us). Only for the last
    /// byte of each acknowledgement.
    pub(super) acknowledgement_delay: Distribution,
    /// Longest time without an acknowledgement on a connection.
    pub(super) acknowledgement_gap: Duration,
    /// Most bytes that were not acknowledged on a connection.
    pub(super) unacknowledged_bytes_max: u64,
}

impl Sent {
    pub(super) fn new() -> Self {
        Self {
            intended: 0,
            accepted: 0,
            accepted_bytes: 0,
            acknowledged_bytes: 0,
            write_delay: Distribution::new("write_delay"),
            acknowledgement_delay: Distribution::new("acknowledgement_delay"),
            acknowledgement_gap: Duration::ZERO,
            unacknowledged_bytes_max: 0,
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
    pub(super) phase: StreamPhase,
    video: Progress,
    audio: Progress,
    /// Frames that wait for the kernel.
    waiting: VecDeque<Waiting>,
    /// Bytes that the kernel has taken.
    taken_bytes: u64,
    /// Bytes that the server has acknowledged, and when, once it has sent an acknowledgement.
    acknowledged: Option<(u64, Time)>,
    /// Byte positions up to which the kernel had taken the output, and when. Those before the last
    /// acknowledgement are dropped.
    taken_at: VecDeque<(u64, Time)>,
}

/// Positions that are kept for a server that acknowledges nothing. Further ones are not, and their
/// bytes count as taken with the last.
const TAKEN_MAX: usize = 1 << 16;
/// Position in the schedule of one medium.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Number of the next frame.
    pub(super) sequence: u64,
    /// Frames intended in the window.
    pub(super) in_window: u64,
}

/// A frame that the kernel has not taken all of.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Byte position in the output at which it ends.
    end: u64,
    intended: Time,
    bytes: usize,
}

impl Publisher {
    pub(super) fn new(phase: StreamPhase) -> Self {
        Self {
            id: None,
            first_at: Time::NEVER,
            phase,
            video: Progress::default(),
            audio: Progress::default(),
            waiting: VecDeque::new(),
            taken_bytes: 0,
            acknowledged: None,
            taken_at: VecDeque::new(),
        }
    }

    /// Returns the position in the schedule of one medium.
    pub(super) const fn progress(&mut self, medium: Medium) -> &mut Progress {
        match medium {
            Medium::Video => &mut self.video,
            Medium::Audio => &mut self.audio,
        }
    }

    /// Returns the number of frames of one medium intended in the window.
    pub(super) const fn in_window(&self, medium: Medium) -> u64 {
        match medium {
            Medium::Video => self.video.in_window,
            Medium::Audio => self.audio.in_window,
        }
    }

    /// Forgets the window.
    pub(super) const fn restart(&mut self) {
        (self.video.in_window, self.audio.in_window) = (0, 0);
    }

    /// Records a frame of `bytes` that was written to the output and ends at byte position `end`.
    pub(super) fn wrote(&mut self, end: u64, intended: Time, bytes: usize) {
        self.waiting.push_back(Waiting { end, intended, bytes });
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
        let new_bytes = bytes - std::mem::replace(&mut self.taken_bytes, bytes);
        if window.holds(now) {
            let unacknowledged = self.unacknowledged_bytes();
            sent.unacknowledged_bytes_max = sent.unacknowledged_bytes_max.max(unacknowledged);
        }
        let is_full = self.taken_at.len() == TAKEN_MAX;
        match self.taken_at.back_mut() {
            Some((end, _)) if is_full => *end = bytes,
            _ => self.taken_at.push_back((bytes, now)),
        }
        while let Some(Waiting { end, intended, bytes: frame_bytes }) =
            self.waiting.front().copied()
        {
            if end > bytes {
                break;
            }
            self.waiting.pop_front();
            if window.holds(intended) {
                if now < window.until {
                    sent.accepted += 1;
                    sent.accepted_bytes += frame_bytes as u64;
                }
                let delay = now.since(intended);
                let due = since_began.saturating_sub(delay);
                sent.write_delay.record(due, delay.as_micros() as u64);
            }
        }
        new_bytes
    }

    /// Records an acknowledgement. The number wraps at 2^32 (RTMP 1.0, section 5.4.3).
    pub(super) fn acknowledged(
        &mut self,
        number: u32,
        now: Time,
        since_began: Duration,
        window: &Window,
        sent: &mut Sent,
    ) {
        let last = self.acknowledged;
        let last_bytes = last.map_or(0, |(bytes, _)| bytes);
        let step = u64::from(number.wrapping_sub(last_bytes as u32));
        let bytes = last_bytes + step;
        self.acknowledged = Some((bytes, now));
        // The first position that is not before the acknowledged one is when its byte was taken.
        while self.taken_at.front().is_some_and(|(end, _)| *end < bytes) {
            self.taken_at.pop_front();
        }
        if !window.holds(now) {
            return;
        }
        if let Some((_, last_at)) = last {
            sent.acknowledged_bytes += step;
            let gap = now.since(last_at.max(window.from));
            sent.acknowledgement_gap = sent.acknowledgement_gap.max(gap);
        }
        if let Some((_, taken_at)) = self.taken_at.front() {
            let delay = now.since(*taken_at);
            let due = since_began.saturating_sub(delay);
            sent.acknowledgement_delay.record(due, delay.as_micros() as u64);
        }
    }

    /// Returns how many bytes the kernel has taken and the server has not acknowledged.
    pub(super) fn unacknowledged_bytes(&self) -> u64 {
        self.taken_bytes.saturating_sub(self.acknowledged.map_or(0, |(bytes, _)| bytes))
    }

    /// Ends the window. The time since the last acknowledgement counts as a gap, too.
    pub(super) fn end(&self, window: &Window, sent: &mut Sent) {
        if let Some((_, last_at)) = self.acknowledged {
            let gap = window.until.since(last_at.max(window.from));
            sent.acknowledgement_gap = sent.acknowledgement_gap.max(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_PHASE: StreamPhase = StreamPhase { offset: Duration::ZERO, gop_frames: 0 };
    const WINDOW: Window = Window { from: Time::from_micros(100), until: Time::from_micros(200) };

    #[test]
    fn frames_are_accepted_when_the_kernel_has_taken_all_of_them_before_the_end() {
        let (mut publisher, mut sent) = (Publisher::new(NO_PHASE), Sent::new());
        for (end, intended) in [(10, 99), (20, 100), (30, 150), (40, 199), (50, 200)] {
            publisher.wrote(end, Time::from_micros(intended), end as usize);
        }
        let mut taken = |bytes, now| {
            let now = Time::from_micros(now);
            publisher.taken(bytes, now, Duration::ZERO, &WINDOW, &mut sent);
            (sent.accepted, sent.write_delay.histogram().len(), sent.write_delay.histogram().max())
        };
        assert_eq!(taken(19, 110), (0, 0, 0), "one byte of the second is missing");
        assert_eq!(taken(30, 160), (2, 2, 60));
        assert_eq!(taken(50, 230), (2, 3, 60), "the last one was taken after the end");
        assert_eq!(sent.accepted_bytes, 20 + 30);
    }

    #[test]
    fn acknowledgements_wrap_and_the_first_is_only_the_starting_point() {
        let (mut publisher, mut sent) = (Publisher::new(NO_PHASE), Sent::new());
        for (number, now) in [(u32::MAX - 9, 120), (90, 130), (190, 150), (900, 200)] {
            let now = Time::from_micros(now);
            publisher.acknowledged(number, now, Duration::ZERO, &WINDOW, &mut sent);
        }
        assert_eq!(sent.acknowledged_bytes, 200);
        assert_eq!(publisher.acknowledged.unwrap().0, (1 << 32) + 900);
    }

    #[test]
    fn an_acknowledgement_is_late_by_the_time_since_its_last_byte_was_taken() {
        let (mut publisher, mut sent) = (Publisher::new(NO_PHASE), Sent::new());
        for (bytes, now) in [(1000, 110), (2000, 120), (3000, 130), (4000, 140)] {
            let now = Time::from_micros(now);
            publisher.taken(bytes, now, Duration::ZERO, &WINDOW, &mut sent);
        }
        assert_eq!((sent.unacknowledged_bytes_max, publisher.unacknowledged_bytes()), (4000, 4000));
        // The byte at 1500 was taken at 120, the one at 4000 at 140. The server then stands still.
        for (number, now) in [(1500, 125), (4000, 190)] {
            let now = Time::from_micros(now);
            publisher.acknowledged(number, now, Duration::ZERO, &WINDOW, &mut sent);
        }
        let delays = sent.acknowledgement_delay.histogram();
        assert_eq!((delays.len(), delays.min(), delays.max()), (2, 5, 50));
        assert_eq!(sent.acknowledgement_gap, Duration::from_micros(65));
        assert_eq!(publisher.unacknowledged_bytes(), 0);
        let window = Window { until: Time::from_micros(300), ..WINDOW };
        publisher.end(&window, &mut sent);
        assert_eq!(sent.acknowledgement_gap, Duration::from_micros(110));
    }

    #[test]
    fn a_server_that_acknowledges_nothing_costs_a_bounded_memory() {
        let (mut publisher, mut sent) = (Publisher::new(NO_PHASE), Sent::new());
        for bytes in 0..TAKEN_MAX as u64 + 10 {
            let now = Time::from_micros(150);
            publisher.taken(bytes, now, Duration::ZERO, &WINDOW, &mut sent);
        }
        assert_eq!(publisher.taken_at.len(), TAKEN_MAX);
        assert_eq!(publisher.taken_at.back().unwrap().0, TAKEN_MAX as u64 + 9);
    }
}
