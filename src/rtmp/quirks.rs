//! What a peer does that the specification does not have, and that does no harm.
//!
//! Owns the list of these quirks, how they are counted and how a log line names them, so that a
//! user sees what an encoder does wrong. It never decides what is tolerated: whoever tolerates
//! something notes it here.

use std::fmt;

macro_rules! quirks {
    ($(#[$of:meta])* $quirk:ident: $($(#[$doc:meta])* $name:ident = $said:expr;)+) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $quirk {
            $($(#[$doc])* $name,)+
        }

        impl $quirk {
            /// All of them, in the order in which they are counted and said.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            const fn said(self) -> Said {
                match self { $(Self::$name => $said,)+ }
            }
        }
    };
}

/// How a quirk is said.
enum Said {
    /// With its number: one of them, several of them.
    Times(&'static str, &'static str),
    /// Without: what a peer does once it does all the time.
    Habit(&'static str),
}

use Said::{Habit, Times};

quirks! {
    /// One thing that is tolerated.
    Quirk:
    /// C2 does not repeat S1 (RTMP 1.0, section 5.2.4).
    C2Mismatch = Habit("C2 does not repeat S1");
    /// `connect` has its properties in an array, or `tcUrl` misspelt or not at all.
    OddConnect = Habit("odd connect object");
    /// The first header of a chunk stream has type 1, which refers to one before it.
    OpensWithType1 = Habit("chunk stream opened with type 1");
    /// Type 3 chunks do not repeat the extended timestamp (RTMP 1.0, section 5.3.1.3).
    ExtendedTimestampOmitted = Habit("extended timestamp omitted");
    /// Control messages on another chunk stream than 2 (RTMP 1.0, section 5.4).
    ControlElsewhere = Habit("control messages off chunk stream 2");
    /// A message begun with type 3 behind type 0 with a time: readers disagree on what it adds.
    Type3AfterType0 = Times("type 3 header behind type 0", "type 3 headers behind type 0");
    /// A header of type 1 or 2 in the middle of a message.
    HeaderWithinMessage = Times("header within a message", "headers within a message");
    /// A delta of more than half the range, which is a step back.
    BackwardDelta = Times("backward timestamp delta", "backward timestamp deltas");
    /// A message given up half way because another began on its chunk stream.
    AbandonedMessage = Times("abandoned message", "abandoned messages");
    /// A message of a type that nobody defines or serves.
    UnknownMessage = Times("unknown message", "unknown messages");
    /// A shared object, which this server does not have.
    SharedObject = Times("shared object message", "shared object messages");
    /// A user control event that nobody defines, or one that is too short.
    UnknownUserControl = Times("unknown user control event", "unknown user control events");
    /// A control or command message whose body cannot be read.
    MalformedMessage = Times("malformed message", "malformed messages");
    /// An AMF3 command without the byte that says in which format it goes on.
    FormatByteOmitted =
        Times("AMF3 command without format byte", "AMF3 commands without format byte");
    /// An AMF0 command with the byte that only an AMF3 command has.
    FormatByteAdded = Times("AMF0 command with a format byte", "AMF0 commands with a format byte");
    /// A command that nobody defines or serves, or that does not belong there.
    UnknownCommand = Times("unknown command", "unknown commands");
    /// A `publish` that does not say of what kind it is.
    KindOmitted = Times("publish without its kind", "publishes without their kind");
    /// A stream key with blanks or slashes before or behind it.
    OddKey = Times("stream key with blanks or slashes", "stream keys with blanks or slashes");
    /// A `publish` or `play` on a message stream that does something else.
    BusyMessageStream =
        Times("request on a busy message stream", "requests on a busy message stream");
    /// A `deleteStream` without a number, or with that of no message stream.
    DeleteOfUnknown =
        Times("deleteStream of an unknown stream", "deleteStreams of unknown streams");
    /// Media on a message stream that does not publish.
    StrayMedia = Times("media message without a publish", "media messages without a publish");
    /// Media on a message stream that does not exist, taken for the only one that publishes.
    MisplacedMedia =
        Times("media message on an unknown stream", "media messages on an unknown stream");
    /// Frames of video of which none is marked as a keyframe.
    KeyframesUnmarked = Habit("keyframes not marked");
    /// Metadata without any, or data without a name.
    UnusableData = Times("data message of no use", "data messages of no use");
    /// Media too short for its own header, or one that contradicts itself.
    MalformedMedia = Times("malformed media message", "malformed media messages");
}

quirks! {
    /// A timestamp of a publisher that was not the one its players got.
    Repair:
    /// A frame before the last one of its track.
    Backward = Times("backward timestamp", "backward timestamps");
    /// A clock that went back and stays there.
    ClockBack = Times("jump of the clock back", "jumps of the clock back");
    /// A clock that went on further than the time that passed, and than players can wait for.
    ClockAhead = Times("jump of the clock ahead", "jumps of the clock ahead");
    /// A clock of 31 bits that went round.
    ClockWrap = Times("wrap of the clock at 2^31", "wraps of the clock at 2^31");
    /// A track that began far from the time of the others.
    ClocksApart = Times("track on a clock of its own", "tracks on clocks of their own");
    /// A frame of a track whose timestamp does not move.
    Frozen = Times("frame of a frozen clock", "frames of a frozen clock");
    /// A header, data or an end of sequence that is not stamped with the time of the frames.
    Stray = Times("header or data off the clock", "headers or data off the clock");
}

/// What was tolerated of one connection: a number for each quirk. The numbers saturate. Most
/// connections need none of them, and hold none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tolerated {
    /// Invariant: one of them is more than 0.
    counts: Option<Box<[u8; Quirk::ALL.len()]>>,
}

impl Tolerated {
    /// Counts one more.
    pub fn note(&mut self, quirk: Quirk) {
        let count = &mut self.counts.get_or_insert_default()[quirk as usize];
        *count = count.saturating_add(1);
    }

    /// How often it was seen; 255 is as often or more often.
    pub fn count(&self, quirk: Quirk) -> u8 {
        self.counts.as_ref().map_or(0, |counts| counts[quirk as usize])
    }

    /// Whether nothing had to be tolerated.
    pub const fn is_empty(&self) -> bool {
        self.counts.is_none()
    }

    /// Memory that it holds (bytes).
    pub const fn held_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { Quirk::ALL.len() }
    }
}

/// As in `3 unknown messages, 1 abandoned message, extended timestamp omitted`: what was counted,
/// then the habits.
impl fmt::Display for Tolerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let seen = || Quirk::ALL.iter().map(|quirk| (quirk.said(), self.count(*quirk)));
        for (said, count) in seen() {
            let Times(one, several) = said else { continue };
            match count {
                0 => continue,
                1 => write!(f, "{separator}1 {one}")?,
                u8::MAX => write!(f, "{separator}255 or more {several}")?,
                count => write!(f, "{separator}{count} {several}")?,
            }
            separator = ", ";
        }
        for (said, count) in seen() {
            if let (Habit(what), 1..) = (said, count) {
                write!(f, "{separator}{what}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// What was repaired of the timestamps of a publisher: a number for each kind. Connections that
/// publish nothing do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    counts: [u32; Repair::ALL.len()],
}

impl Repairs {
    /// Counts one more.
    pub const fn note(&mut self, repair: Repair) {
        self.counts[repair as usize] = self.counts[repair as usize].saturating_add(1);
    }

    /// Counts those of another stream as well.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// How many there were.
    pub const fn count(&self, repair: Repair) -> u32 {
        self.counts[repair as usize]
    }

    /// Whether nothing had to be repaired.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As in `3 backward timestamps, 1 jump of the clock back`.
impl fmt::Display for Repairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for repair in Repair::ALL {
            let (Times(one, several), count @ 1..) = (repair.said(), self.count(*repair)) else {
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
    fn quirks_are_said_by_number_or_as_a_habit() {
        use Quirk::{AbandonedMessage, ExtendedTimestampOmitted, UnknownMessage};
        for (quirks, said) in [
            (&[][..], ""),
            (&[AbandonedMessage], "1 abandoned message"),
            (&[ExtendedTimestampOmitted, ExtendedTimestampOmitted], "extended timestamp omitted"),
            (
                &[ExtendedTimestampOmitted, UnknownMessage, AbandonedMessage, UnknownMessage],
                "1 abandoned message, 2 unknown messages, extended timestamp omitted",
            ),
        ] {
            let tolerated = noted(quirks);
            assert_eq!(tolerated.to_string(), said);
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
        let said = "2 backward timestamps, 2 jumps of the clock back, 1 wrap of the clock at 2^31";
        assert_eq!(repairs.to_string(), said);
    }

    #[test]
    fn each_quirk_has_a_place_and_words_of_its_own() {
        let mut said: Vec<_> =
            Quirk::ALL.iter().map(|quirk| noted(&[*quirk]).to_string()).collect();
        assert!(said.iter().all(|said| !said.is_empty()));
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), Quirk::ALL.len());
    }
}
