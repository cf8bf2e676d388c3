//! How many lines of the log peers can cause: so many in a second, then only their number.
//!
//! Owns the counts. It never writes a line: whoever does asks first, and says at debug level what
//! may not be said louder, so that nothing is lost to somebody who looks for it.

use crate::limits;
use crate::time::Time;

/// What a line is about: each has lines of its own, so that a flood of the one does not hide the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A connection that came to nothing.
    Failure,
    /// A stream, or a connection that published or played one.
    Stream,
}

/// The counts of the second that runs.
#[derive(Debug, Default)]
pub struct Chatter {
    /// When it began; nothing has been said since it was over.
    began: Option<Time>,
    said: [u32; 2],
    left_out: u64,
}

const SECOND_MS: u64 = 1000;

impl Chatter {
    /// Whether one more line may be said at `now`; if not, it is counted.
    pub fn may_say(&mut self, topic: Topic, now: Time) -> bool {
        if self.began.is_none() {
            self.began = Some(now);
        }
        let (said, max) = match topic {
            Topic::Failure => (&mut self.said[0], limits::LOG_FAILURES_PER_SECOND_MAX),
            Topic::Stream => (&mut self.said[1], limits::LOG_STREAM_LINES_PER_SECOND_MAX),
        };
        let may = *said < max;
        *said += u32::from(may);
        self.left_out += u64::from(!may);
        may
    }

    /// When what was left out is to be told; `None` while there is nothing.
    pub fn due(&self) -> Option<Time> {
        let end = self.began?.plus_millis(SECOND_MS);
        (self.left_out > 0).then_some(end)
    }

    /// Ends the second if it is over at `now`, and returns how many lines were left out in it if
    /// there were any.
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

    fn said(chatter: &mut Chatter, topic: Topic, lines: u32, now: Time) -> u32 {
        (0..lines).map(|_| u32::from(chatter.may_say(topic, now))).sum()
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_and_told_when_the_second_is_over() {
        let mut chatter = Chatter::default();
        let max = limits::LOG_FAILURES_PER_SECOND_MAX;
        assert_eq!(said(&mut chatter, Topic::Failure, max, at(100)), max);
        assert_eq!((chatter.due(), chatter.end_second(at(1099))), (None, None));
        assert_eq!(said(&mut chatter, Topic::Failure, 7, at(1099)), 0);
        assert_eq!(chatter.due(), Some(at(1100)));
        assert_eq!(chatter.end_second(at(1099)), None);
        assert_eq!(chatter.end_second(at(1100)), Some(7));
        assert_eq!((chatter.due(), chatter.end_second(at(9000))), (None, None));
        assert_eq!(said(&mut chatter, Topic::Failure, max + 1, at(9000)), max);
    }

    #[test]
    fn failures_take_no_line_from_streams() {
        let mut chatter = Chatter::default();
        let max = limits::LOG_STREAM_LINES_PER_SECOND_MAX;
        said(&mut chatter, Topic::Failure, 1000, at(0));
        assert_eq!(said(&mut chatter, Topic::Stream, max + 5, at(0)), max);
    }

    #[test]
    fn a_quiet_second_ends_without_a_word() {
        let mut chatter = Chatter::default();
        assert!(chatter.may_say(Topic::Stream, at(0)));
        assert_eq!(chatter.end_second(at(5000)), None);
        assert_eq!(said(&mut chatter, Topic::Failure, 1, at(5000)), 1);
    }
}
