//! The data plane: one stream, from a publisher's message to the bytes that its players receive.
//!
//! ```text
//! message ─▶ frame ─▶ timeline ─▶ keyframes ─▶ meter ─▶ tape ─▶ cursor ─▶ slices
//!            type and    timestamp   unmarked    facts    fan-out one per   one write
//!            tracks      repair      keyframes            and GOP player
//! ```
//!
//! A [`Stream`] owns its tape and the measurements of its publisher. It knows no connection, no
//! socket and no protocol dialogue. The hub in [`server`](crate::server) knows the publishers and
//! the players.

pub mod bitrate_history;
pub(crate) mod blocks;
pub mod cursor;
pub mod frame;
pub(crate) mod framed_segments;
pub mod framing;
pub(crate) mod gauge;
pub mod gops;
pub mod headers;
pub mod histogram;
pub mod ids;
pub(crate) mod keyframes;
pub mod latency;
pub mod meter;
pub mod parts;
pub mod playlist;
pub(crate) mod remains;
pub mod rendition;
pub(crate) mod rhythm;
pub mod segment;
pub(crate) mod slices;
pub mod tape;
pub(crate) mod timeline;
pub(crate) mod web_time;

use crate::budget::Budget;
use crate::media::MediaKind;
use crate::media::metadata::DataMessage;
use crate::time::Time;
use blocks::Lent;
use frame::{HeaderKind, MediaFrame, Recording};
use framing::Watching;
use gauge::Gauge;
use keyframes::{Keyframes, Unmarked};
use meter::{Meter, Report};
use remains::Remains;
use rhythm::Rhythm;
use segment::{Discarded, SegmentSettings};
use std::io;
use tape::{Tape, TapeSettings};
use timeline::Timeline;

/// Outcome of a publisher's message. The server charges the publisher by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A frame that was recorded, or that no player needs.
    Taken,
    /// A header or data message, which was parsed and compared with the headers in force. Also a
    /// frame of another codec, which changed them.
    Parsed,
    /// A message that could not be parsed and was dropped.
    Malformed,
    /// Metadata without values, or data without a name. It was dropped.
    Unusable,
    /// A message that was recorded and that shows a setting of the encoder to be improved.
    Noted(Note),
}

/// An observation about an encoder that its user should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The encoder marks no keyframes. Noted once in each publish.
    Unmarked(Unmarked),
    /// The newest GOP is too large to be kept for late players.
    GopCut {
        /// True for the first such GOP of the publish.
        is_first: bool,
    },
    /// The headers of the stream are too large or too many, so late players do not get this one.
    HeaderLeftOut {
        /// True for the first such header of the publish.
        is_first: bool,
    },
}

/// Measurements of the messages of one publisher.
#[derive(Debug)]
struct Source {
    rhythm: Rhythm,
    meter: Box<Meter>,
    keyframes: Keyframes,
}

impl Source {
    fn new(now: Time) -> Self {
        Self {
            rhythm: Rhythm::new(now),
            meter: Box::new(Meter::new(now)),
            keyframes: Keyframes::default(),
        }
    }
}

/// One stream: its tape, its timeline and its publisher. See the module's head.
#[derive(Debug)]
pub struct Stream {
    tape: Tape,
    /// Created for the first publisher. A stream that only has waiting players needs none.
    timeline: Option<Box<Timeline>>,
    /// Set while the stream has a publisher.
    source: Option<Source>,
}

impl Stream {
    /// Creates a stream without a publisher. `gauge` counts the memory of its headers.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { tape: Tape::new(gauge), timeline: None, source: None }
    }

    /// Returns the tape.
    pub const fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Checks the invariants of the stream and its tape. Does nothing in release builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        self.tape.check_invariants();
        debug_assert!(
            self.source.is_none() || self.timeline.is_some(),
            "a publisher without a timeline"
        );
    }

    /// Returns whether the stream has a publisher.
    pub const fn is_live(&self) -> bool {
        self.source.is_some()
    }

    /// Returns the measurements of the publish under way, if there is one.
    pub fn report(&self, now: Time) -> Option<Report> {
        let source = self.source.as_ref()?;
        let repairs = self.timeline.as_ref().map(|timeline| *timeline.repairs());
        Some(source.meter.report(repairs.unwrap_or_default(), now))
    }

    /// Returns the bitrates of the last minutes, the oldest first (bit/s).
    pub(crate) fn bitrates(&self, now: Time) -> Vec<u64> {
        self.source.as_ref().map_or_else(Vec::new, |source| source.meter.bitrates(now))
    }

    /// Returns the rhythm of the publisher, which decides when the publisher counts as silent.
    pub(crate) fn rhythm(&self) -> Option<&Rhythm> {
        Some(&self.source.as_ref()?.rhythm)
    }

    /// Returns the memory that the stream holds in addition to this struct (bytes). Headers are
    /// left out because others share them: see [`Tape::headers_bytes`].
    pub fn held_bytes(&self) -> usize {
        let of_source = |s: &Source| size_of::<Meter>() + s.keyframes.held_bytes();
        let timeline = if self.timeline.is_some() { size_of::<Timeline>() } else { 0 };
        self.tape.held_bytes() + self.source.as_ref().map_or(0, of_source) + timeline
    }

    /// Starts a publish. `resumes` is true if players of the previous publisher still expect the
    /// stream to continue.
    pub(crate) fn begin(&mut self, resumes: bool, now: Time) {
        self.tape.begin(resumes);
        // The timeline continues in either case: players of the previous publisher may still be
        // there after they were told of its end, and their timestamps must not go back.
        match &mut self.timeline {
            Some(timeline) => timeline.resume(),
            None => self.timeline = Some(Box::default()),
        }
        self.source = Some(Source::new(now));
    }

    /// Removes the start points after the publisher has gone. No player starts in its last GOP.
    pub(crate) fn end(&mut self) {
        self.tape.end();
    }

    /// Ends the publish. Returns its measurements, if there was a publisher.
    pub(crate) fn leave(&mut self, now: Time) -> Option<Report> {
        let report = self.report(now);
        self.source = None;
        report
    }

    /// Removes all messages of the stream. Its memory files go to `discarded`, and its messages to
    /// `remains`.
    pub(crate) fn forget(&mut self, discarded: &mut Discarded, remains: &mut Remains) {
        self.tape.discard_segments(discarded);
        remains.take(self.tape.forget());
    }

    /// Notes bytes of a publisher's message that is not complete yet.
    pub(crate) fn note_part(&mut self, bytes: usize, now: Time) {
        if let Some(source) = &mut self.source {
            source.rhythm.note_part(bytes, now);
        }
    }

    /// Records a frame of the publisher. Returns the outcome, and whether the tape has a new
    /// message.
    pub(crate) fn record(
        &mut self,
        frame: &MediaFrame<'_>,
        has_players: bool,
        now: Time,
        settings: &TapeSettings,
    ) -> (Outcome, bool) {
        let Some(source) = &mut self.source else { return (Outcome::Taken, false) };
        source.rhythm.note_message(now);
        let metadata;
        let recording = match frame.media {
            MediaKind::Audio => frame::audio(frame),
            MediaKind::Video => frame::video(frame),
            MediaKind::Data => match frame::interpret(frame) {
                Ok(DataMessage::Metadata(payload)) => {
                    metadata = payload;
                    Some(frame::data(frame, &metadata, true))
                }
                Ok(DataMessage::Relay(payload)) => Some(frame::data(frame, payload, false)),
                Ok(DataMessage::ClearMetadata) => {
                    self.tape.clear_metadata();
                    return (Outcome::Parsed, false);
                }
                Ok(DataMessage::Ignore) => return (Outcome::Parsed, false),
                Ok(DataMessage::Unusable) => return (Outcome::Unusable, false),
                Err(_) => None,
            },
        };
        let Some(mut recording) = recording else { return (Outcome::Malformed, false) };
        let Recording { media, tracks, timestamp, .. } = recording;
        let timeline = self.timeline.get_or_insert_default();
        // Metadata belongs to no moment. The tape gives it a fixed timestamp.
        if recording.is_frame {
            source.rhythm.note_frame(timestamp);
            recording.timestamp = timeline.place_frame(media, &tracks, timestamp, now);
        } else if recording.header != Some(HeaderKind::Metadata) {
            recording.timestamp = timeline.place_non_frame(media, &tracks, timestamp, now);
        }
        // After the timestamp is repaired: the search counts access units, which the sent and the
        // repaired timestamp identify together.
        let mut note = None;
        if media == MediaKind::Video {
            let length_bytes = || self.tape.nal_length_bytes(&tracks);
            let unmarked = source.keyframes.find_unmarked(&mut recording, length_bytes);
            if let Some(unmarked) = unmarked {
                source.meter.note_unmarked(unmarked);
                note = Some(Note::Unmarked(unmarked));
            }
        }
        // Measured before the tape decides: a stream that is not kept still has a report.
        source.meter.note(&recording, now);
        let is_frame = recording.is_frame;
        let (gops_cut, left_out) = (self.tape.gops_cut(), self.tape.headers_left_out());
        let changes = self.tape.headers_changes();
        let is_news = self.tape.record(recording, has_players, now, settings);
        if self.tape.gops_cut() != gops_cut {
            // Late players wait for the next keyframe now. A recovery point that the encoder does
            // not mark may come earlier.
            source.keyframes.search_again();
            note = Some(Note::GopCut { is_first: source.meter.note_cut_gop() });
        }
        if self.tape.headers_left_out() != left_out {
            note = Some(Note::HeaderLeftOut { is_first: source.meter.note_left_out_header() });
        }
        // A frame that changes the headers in force copies their list, which costs as much as
        // parsing. Charged as a frame, a publisher that alternates codecs would get it for free.
        let is_parsed = !is_frame || self.tape.headers_changes() != changes;
        let outcome = if is_parsed { Outcome::Parsed } else { Outcome::Taken };
        (note.map_or(outcome, Outcome::Noted), is_news)
    }

    /// Writes new messages to a memory file: see [`Tape::store`].
    pub(crate) fn store(
        &mut self,
        players: &Watching,
        files_max: usize,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        self.tape.store(players, files_max, settings, budget)
    }

    /// Gives up the memory files: see [`Tape::discard_segments`].
    pub(crate) fn discard_segments(&mut self, discarded: &mut Discarded) -> bool {
        self.tape.discard_segments(discarded)
    }

    /// Drops up to `dropped_max` messages beyond the bounds of `settings`, and gives back the
    /// memory that this frees. Returns the number of dropped messages.
    pub(crate) fn shrink(
        &mut self,
        has_players: bool,
        now: Time,
        settings: &TapeSettings,
        dropped_max: usize,
    ) -> usize {
        let dropped = self.tape.shrink(has_players, now, settings, dropped_max);
        self.tape.give_back();
        dropped
    }

    /// Gives back unused memory.
    pub(crate) fn give_back(&mut self) {
        self.tape.give_back();
    }

    /// Moves the blocks that only players hold to `lent`: see [`Tape::lend`].
    pub(crate) fn lend(&mut self, lent: &mut Lent) {
        self.tape.lend(lent);
    }
}
