//! The limit on log lines that peers cause: a number of lines in each second, the rest is counted.
//!
//! Owns the counts and never writes a line. The caller asks for each line, and logs it at debug
//! level if it exceeds the limit, so that a debug log is complete.

use crate::limits;
use crate::time::Time;

/// The topic of a line. Each has a limit of its own, so that a flood of one does not hide the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A connection that neither published nor played.
    Failure,
    /// A stream, or a connection that published or played one.
    Stream,
}

/// The counts of the current second.
#[derive(Debug, Default)]
pub struct Chatter {
    /// Start of the second. `None` before the first line of a second.
    began: Option<Time>,
    logged: [u32; 2],
    left_out: u64,
}

const SECOND_MS: u64 = 1000;

impl Chatter {
    /// Spends one line of the second. Returns false beyond the limit, and counts the line as left
    /// out.
    pub fn take_line(&mut self, topic: Topic, now: Time) -> bool {
        if self.began.is_none() {
            self.began = Some(now);
        }
        let (logged, max) = match topic {
            Topic::Failure => (&mut self.logged[0], limits::LOG_FAILURES_PER_SECOND_MAX),
            Topic::Stream => (&mut self.logged[1], limits::LOG_STREAM_LINES_PER_SECOND_MAX),
        };
        let is_within = *logged < max;
        *logged += u32::from(is_within);
        self.left_out += u64::from(!is_within);
        is_within
    }

    /// Returns when the number of lines left out is to be logged; `None` if none were left out.
    pub fn due(&self) -> Option<Time> {
        let end = self.began?.plus_millis(SECOND_MS);
        (self.left_out > 0).then_some(end)
    }

    /// Ends the second if it is over at `now`. Returns the number of lines left out, if any.
    pub fn end_second(&mut self, now: Time) -> Option<u64> {
        if self.began?.plus_millis(SECOND_MS) > now {
            return None;
        }
        let left_out = std::mem::take(self).left_out;
        (left_out > 0).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::ZERO.plus_millis(ms)
    }

    /// Returns how many of `lines` lines are within the limit.
    fn logged(chatter: &mut Chatter, topic: Topic, lines: u32, now: Time) -> u32 {
        (0..lines).map(|_| u32::from(chatter.take_line(topic, now))).sum()
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_and_reported_after_the_second() {
        let mut chatter = Chatter::default();
        let max = limits::LOG_FAILURES_PER_SECOND_MAX;
        assert_eq!(logged(&mut chatter, Topic::Failure, max, at(100)), max);
        assert_eq!((chatter.due(), chatter.end_second(at(1099))), (None, None));
        assert_eq!(logged(&mut chatter, Topic::Failure, 7, at(1099)), 0);
        assert_eq!(chatter.due(), Some(at(1100)));
        assert_eq!(chatter.end_second(at(1099)), None);
        assert_eq!(chatter.end_second(at(1100)), Some(7));
        assert_eq!((chatter.due(), chatter.end_second(at(9000))), (None, None));
        assert_eq!(logged(&mut chatter, Topic::Failure, max + 1, at(9000)), max);
    }

    #[test]
    fn failures_take_no_line_from_streams() {
        let mut chatter = Chatter::default();
        let max = limits::LOG_STREAM_LINES_PER_SECOND_MAX;
        logged(&mut chatter, Topic::Failure, 1000, at(0));
        assert_eq!(logged(&mut chatter, Topic::Stream, max + 5, at(0)), max);
    }

    #[test]
    fn a_quiet_second_ends_without_a_report() {
        let mut chatter = Chatter::default();
        assert!(chatter.take_line(Topic::Stream, at(0)));
        assert_eq!(chatter.end_second(at(5000)), None);
        assert_eq!(logged(&mut chatter, Topic::Failure, 1, at(5000)), 1);
    }
}
