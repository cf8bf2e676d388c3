//! The times of players over HTTP: milliseconds since the first frame of the stream.
//!
//! A publisher's clock may start anywhere, and players in browsers read timestamps of FLV as signed
//! numbers of 32 bits. So players over HTTP get times from an origin, which all players of a stream
//! share: an origin of its own for each player would give each other bytes, and no memory file
//! could be sent to two of them. Long before a time has no place in 31 bits, a later frame becomes
//! the origin. Players that have begun before then end there ([`WebTime::era`]).

/// Time after which a keyframe becomes the origin (ms). 2^31 ms are 24.8 days.
const ERA_MS_MAX: u32 = (1 << 31) - (1 << 20);
/// How long a keyframe is waited for, before any frame becomes the origin (ms).
const KEYFRAME_WAIT_MS: u32 = 1 << 19;
/// Frames may precede the origin by up to this (ms). What is further away follows it.
const EARLIER_MS_MAX: u32 = 1 << 30;

/// The timestamp of the publisher that is time 0 (ms); `None` before the first frame, when headers
/// are at time 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin(Option<u32>);

impl Origin {
    /// Returns the origin at a timestamp.
    pub(crate) const fn at(timestamp: u32) -> Self {
        Self(Some(timestamp))
    }

    /// Returns the time for players (ms). Frames before the origin have its time.
    pub(crate) const fn time_of(self, timestamp: u32) -> u32 {
        let Some(origin) = self.0 else { return 0 };
        let since = timestamp.wrapping_sub(origin);
        if since >= u32::MAX - EARLIER_MS_MAX { 0 } else { since }
    }
}

/// The origin of a stream, and its era.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WebTime {
    origin: Origin,
    /// Whether the number of the era is odd.
    era: bool,
}

impl WebTime {
    /// Notes the timestamp of a frame (ms). Returns whether it has become the origin of another
    /// era.
    pub(crate) const fn note_frame(&mut self, timestamp: u32, is_keyframe: bool) -> bool {
        let Some(origin) = self.origin.0 else {
            self.origin = Origin::at(timestamp);
            return false;
        };
        let since = timestamp.wrapping_sub(origin);
        let is_within = since < ERA_MS_MAX || since >= u32::MAX - EARLIER_MS_MAX;
        if is_within || !is_keyframe && since < ERA_MS_MAX + KEYFRAME_WAIT_MS {
            return false;
        }
        *self = Self { origin: Origin::at(timestamp), era: !self.era };
        true
    }

    /// Returns the times after the end of the stream. The next publisher has another era, so that
    /// no response goes on with it.
    pub(crate) const fn after_end(self) -> Self {
        Self { origin: Origin(None), era: self.era != self.origin.0.is_some() }
    }

    /// Returns whether the number of the era is odd. A response has the times of one era.
    pub(crate) const fn era(self) -> bool {
        self.era
    }

    /// Returns the origin.
    pub(crate) const fn origin(self) -> Origin {
        self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_first_frame_wherever_its_clock_is() {
        for first in [0, 40, 1 << 31, u32::MAX] {
            let mut time = WebTime::default();
            assert!(!time.note_frame(first, true));
            assert!(!time.note_frame(first.wrapping_add(40), false));
            assert_eq!(time.origin().time_of(first.wrapping_add(40)), 40, "from {first}");
            assert_eq!(time.origin().time_of(first.wrapping_sub(21)), 0, "sound that is earlier");
        }
    }

    #[test]
    fn a_keyframe_begins_another_era_before_times_leave_the_signed_range() {
        let first = 5000;
        for (after, is_keyframe, begins) in [
            (ERA_MS_MAX - 1, true, false),
            (ERA_MS_MAX, true, true),
            (ERA_MS_MAX, false, false),
            (ERA_MS_MAX + KEYFRAME_WAIT_MS, false, true),
        ] {
            let mut time = WebTime::default();
            time.note_frame(first, true);
            let era = time.era();
            let timestamp = first + after;
            assert_eq!(time.note_frame(timestamp, is_keyframe), begins, "{after}");
            assert_eq!(time.era() != era, begins);
            assert_eq!(time.origin().time_of(timestamp), if begins { 0 } else { after });
            assert!(time.origin().time_of(timestamp.wrapping_add(40)) < 1 << 31);
        }
    }

    #[test]
    fn the_next_publisher_has_another_era_and_headers_before_its_first_frame_are_at_0() {
        let mut time = WebTime::default();
        time.note_frame(5000, true);
        let next = time.after_end();
        assert_ne!(next.era(), time.era());
        assert_eq!(next.after_end(), next, "there was no frame");
        assert_eq!(next.origin().time_of(91_377), 0);
    }

    #[test]
    fn a_year_of_frames_has_no_time_beyond_31_bits() {
        let (mut time, mut clock, mut eras) = (WebTime::default(), 0_u64, 0);
        while clock < 366 * 86_400_000 {
            eras += u32::from(time.note_frame(clock as u32, clock.is_multiple_of(20_000)));
            assert!(time.origin().time_of(clock as u32) < 1 << 31, "{clock}");
            clock += 10_000;
        }
        assert_eq!(eras, 14);
    }
}
