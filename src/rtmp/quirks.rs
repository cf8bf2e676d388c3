//! Quirks: violations of the specification by a peer that do no harm.
//!
//! Owns the list of quirks, their counters and their wording in log lines, so that users see what
//! their encoder does wrong. This module never decides what is tolerated. The code that tolerates a
//! quirk notes it here.

use std::fmt;

macro_rules! quirks {
    ($(#[$of:meta])* $quirk:ident: $($(#[$doc:meta])* $name:ident = $wording:expr;)+) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $quirk {
            $($(#[$doc])* $name,)+
        }

        impl $quirk {
            /// All values, in the order of their counters and of the log line.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            const fn wording(self) -> Wording {
                match self { $(Self::$name => $wording,)+ }
            }
        }
    };
}

/// Wording of a quirk in a log line.
enum Wording {
    /// Follows its count: the singular and the plural.
    Times(&'static str, &'static str),
    /// Has no count, because a peer that does it once does it all the time.
    Habit(&'static str),
}

use Wording::{Habit, Times};

quirks! {
    /// A violation of the specification that is tolerated.
    Quirk:
    /// C2 does not repeat S1 (RTMP 1.0, section 5.2.4).
    C2Mismatch = Habit("C2 does not repeat S1");
    /// `connect` has its properties in an array, or `tcUrl` is misspelt or missing.
    OddConnect = Habit("odd connect object");
    /// The first header of a chunk stream has type 1, which inherits from an earlier header.
    OpensWithType1 = Habit("chunk stream opened with type 1");
    /// Type 3 chunks do not repeat the extended timestamp (RTMP 1.0, section 5.3.1.3).
    ExtendedTimestampOmitted = Habit("extended timestamp omitted");
    /// Control messages do not use chunk stream 2 (RTMP 1.0, section 5.4).
    ControlElsewhere = Habit("control messages off chunk stream 2");
    /// A type 3 header begins a message after a type 0 header with a nonzero time. Readers disagree
    /// on the delta that it adds.
    Type3AfterType0 = Times("type 3 header after type 0", "type 3 headers after type 0");
    /// A header of type 1 or 2 in the middle of a message.
    HeaderWithinMessage = Times("header within a message", "headers within a message");
    /// A timestamp delta above 2^31, which is a step back.
    BackwardDelta = Times("backward timestamp delta", "backward timestamp deltas");
    /// An unfinished message was dropped because another one began on its chunk stream.
    AbandonedMessage = Times("abandoned message", "abandoned messages");
    /// A message whose type is undefined or not supported.
    UnknownMessage = Times("unknown message", "unknown messages");
    /// A shared object message, which this server does not support.
    SharedObject = Times("shared object message", "shared object messages");
    /// A user control event that is undefined or too short.
    UnknownUserControl = Times("unknown user control event", "unknown user control events");
    /// A control or command message whose body cannot be read.
    MalformedMessage = Times("malformed message", "malformed messages");
    /// An AMF3 command without its format byte, which announces the encoding that follows.
    FormatByteOmitted =
        Times("AMF3 command without format byte", "AMF3 commands without format byte");
    /// An AMF0 command with the format byte of an AMF3 command.
    FormatByteAdded = Times("AMF0 command with a format byte", "AMF0 commands with a format byte");
    /// A command that is undefined, not supported or out of place.
    UnknownCommand = Times("unknown command", "unknown commands");
    /// A `publish` without a publishing type.
    KindOmitted = Times("publish without a type", "publishes without a type");
    /// A stream key that starts with slashes or blanks, or ends with blanks.
    OddKey = Times("stream key with blanks or slashes", "stream keys with blanks or slashes");
    /// A `publish` or `play` on a message stream that is in use.
    BusyMessageStream =
        Times("request on a busy message stream", "requests on a busy message stream");
    /// A `deleteStream` without a number, or with a number that is not a message stream id.
    DeleteOfUnknown =
        Times("deleteStream of an unknown stream", "deleteStreams of unknown streams");
    /// Media on a message stream that does not publish.
    StrayMedia = Times("media message without a publish", "media messages without a publish");
    /// Media on a message stream that does not exist. It counts for the only one that publishes.
    MisplacedMedia =
        Times("media message on an unknown stream", "media messages on an unknown stream");
    /// None of the video frames is marked as a keyframe.
    KeyframesUnmarked = Habit("keyframes not marked");
    /// Metadata without properties, or data without a name.
    UnusableData = Times("unusable data message", "unusable data messages");
    /// A media message that is shorter than its header, or that contradicts itself.
    MalformedMedia = Times("malformed media message", "malformed media messages");
}

quirks! {
    /// A correction of a publisher's timestamp: its players got another one.
    Repair:
    /// A frame is earlier than the last one of its track.
    Backward = Times("backward timestamp", "backward timestamps");
    /// The clock jumped back and stayed there.
    ClockBack = Times("clock jump back", "clock jumps back");
    /// The clock jumped ahead: further than the elapsed time, and further than players can wait.
    ClockAhead = Times("clock jump ahead", "clock jumps ahead");
    /// A 31-bit clock wrapped.
    ClockWrap = Times("clock wrap at 2^31", "clock wraps at 2^31");
    /// A track began far from the time of the others.
    ClocksApart = Times("track on a clock of its own", "tracks on clocks of their own");
    /// A frame of a track whose timestamp does not advance.
    Frozen = Times("frame of a frozen clock", "frames of a frozen clock");
    /// The timestamp of a header, data message or end of sequence is far from that of the frames.
    Stray = Times("header or data off the clock", "headers or data off the clock");
}

/// Counters of the quirks that were tolerated on one connection. They saturate at 255. Most
/// connections have no quirks; for those nothing is allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tolerated {
    /// Invariant: at least one of the counts is above 0.
    counts: Option<Box<[u8; Quirk::ALL.len()]>>,
}

impl Tolerated {
    /// Counts a quirk.
    pub fn note(&mut self, quirk: Quirk) {
        let count = &mut self.counts.get_or_insert_default()[quirk as usize];
        *count = count.saturating_add(1);
    }

    /// Returns how often a quirk was seen. 255 means 255 times or more.
    pub fn count(&self, quirk: Quirk) -> u8 {
        self.counts.as_ref().map_or(0, |counts| counts[quirk as usize])
    }

    /// Returns true if no quirk was seen.
    pub const fn is_empty(&self) -> bool {
        self.counts.is_none()
    }

    /// Returns the allocated memory (bytes).
    pub const fn held_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { Quirk::ALL.len() }
    }
}

/// Writes the counted quirks and then the habits, as in `3 unknown messages, 1 abandoned message,
/// extended timestamp omitted`.
impl fmt::Display for Tolerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let seen = || Quirk::ALL.iter().map(|quirk| (quirk.wording(), self.count(*quirk)));
        for (wording, count) in seen() {
            let Times(one, several) = wording else { continue };
            match count {
                0 => continue,
                1 => write!(f, "{separator}1 {one}")?,
                u8::MAX => write!(f, "{separator}255 or more {several}")?,
                count => write!(f, "{separator}{count} {several}")?,
            }
            separator = ", ";
        }
        for (wording, count) in seen() {
            if let (Habit(habit), 1..) = (wording, count) {
                write!(f, "{separator}{habit}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// Counters of the timestamp repairs of a publisher, one for each kind. Connections that do not
/// publish have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    counts: [u32; Repair::ALL.len()],
}

impl Repairs {
    /// Counts a repair.
    pub const fn note(&mut self, repair: Repair) {
        self.counts[repair as usize] = self.counts[repair as usize].saturating_add(1);
    }

    /// Adds the counts of another stream.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// Returns the number of repairs of one kind.
    pub const fn count(&self, repair: Repair) -> u32 {
        self.counts[repair as usize]
    }

    /// Returns true if nothing was repaired.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Writes the counts, as in `3 backward timestamps, 1 clock jump back`.
impl fmt::Display for Repairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for repair in Repair::ALL {
            let (Times(one, several), count @ 1..) = (repair.wording(), self.count(*repair)) else {
                continue;
            };
            write!(f, "{separator}{count} {}", if count == 1 { one } else { several })?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(quirks: &[Quirk]) -> Tolerated {
        let mut tolerated = Tolerated::default();
        quirks.iter().for_each(|quirk| tolerated.note(*quirk));
        tolerated
    }

    #[test]
    fn quirks_are_logged_with_their_count_or_as_a_habit() {
        use Quirk::{AbandonedMessage, ExtendedTimestampOmitted, UnknownMessage};
        for (quirks, expected) in [
            (&[][..], ""),
            (&[AbandonedMessage], "1 abandoned message"),
            (&[ExtendedTimestampOmitted, ExtendedTimestampOmitted], "extended timestamp omitted"),
            (
                &[ExtendedTimestampOmitted, UnknownMessage, AbandonedMessage, UnknownMessage],
                "1 abandoned message, 2 unknown messages, extended timestamp omitted",
            ),
        ] {
            let tolerated = noted(quirks);
            assert_eq!(tolerated.to_string(), expected);
            assert_eq!(tolerated.is_empty(), quirks.is_empty());
        }
    }

    #[test]
    fn numbers_saturate_and_say_so() {
        let tolerated = noted(&[Quirk::UnknownMessage; 300]);
        assert_eq!(tolerated.count(Quirk::UnknownMessage), 255);
        assert_eq!(tolerated.to_string(), "255 or more unknown messages");
    }

    #[test]
    fn repairs_are_counted_by_kind_and_added_up() {
        let mut repairs = Repairs::default();
        assert_eq!((repairs.is_empty(), repairs.to_string().as_str()), (true, ""));
        repairs.note(Repair::ClockBack);
        repairs.note(Repair::Backward);
        repairs.add(&repairs.clone());
        repairs.note(Repair::ClockWrap);
        let expected = "2 backward timestamps, 2 clock jumps back, 1 clock wrap at 2^31";
        assert_eq!(repairs.to_string(), expected);
    }

    #[test]
    fn each_quirk_has_a_place_and_words_of_its_own() {
        let mut texts: Vec<_> =
            Quirk::ALL.iter().map(|quirk| noted(&[*quirk]).to_string()).collect();
        assert!(texts.iter().all(|text| !text.is_empty()));
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Quirk::ALL.len());
    }
}
