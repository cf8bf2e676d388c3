//! The data plane: one stream, from a publisher's message to the bytes that its players are sent.
//!
//! ```text
//! message ─▶ frame ─▶ timeline ─▶ keyframes ─▶ meter ─▶ tape ─▶ cursor ─▶ slices
//!            what it is  its time    unmarked    counted  kept    one per   one write
//!                                    keyframes                    player
//! ```
//!
//! A [`Stream`] owns its tape and what is known of its publisher. It knows no connection, no
//! socket and no protocol dialogue: who publishes and who plays is the business of the hub in
//! [`server`](crate::server).

pub(crate) mod blocks;
pub mod cursor;
pub mod frame;
pub mod framing;
pub(crate) mod gauge;
pub mod gops;
pub mod headers;
pub mod ids;
pub(crate) mod keyframes;
pub mod meter;
pub(crate) mod rhythm;
pub mod segment;
pub(crate) mod slices;
pub mod tape;
pub(crate) mod timeline;

use crate::budget::Budget;
use crate::media::MediaKind;
use crate::media::metadata::DataMessage;
use crate::time::Time;
use blocks::Lent;
use frame::{HeaderKind, MediaFrame, Recording};
use gauge::Gauge;
use keyframes::{Keyframes, Unmarked};
use meter::{Meter, Report};
use rhythm::Rhythm;
use segment::{Discarded, SegmentSettings};
use std::io;
use tape::{Tape, TapeSettings};
use timeline::Timeline;

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A frame that was taken, or is of no use to any player.
    Taken,
    /// A header or data, which was parsed and compared with what newcomers get, or a frame of
    /// another codec, which changed that.
    Parsed,
    /// It could not be read and was dropped.
    Malformed,
    /// It is metadata that holds none, or data without a name, and was dropped.
    Unusable,
    /// Taken, and the encoder could do better.
    Noted(Note),
}

/// An observation about an encoder that its user should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// It marks no keyframes. Once in a publish.
    Unmarked(Unmarked),
    /// The newest GOP is too large to be kept for newcomers.
    GopCut {
        /// Whether it is the first one of the publish.
        is_first: bool,
    },
    /// Its headers are too large or too many for newcomers to get this one.
    HeaderLeftOut {
        /// Whether it is the first one of the publish.
        is_first: bool,
    },
}

/// What is known of the publisher of a stream by what it sends.
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

/// See the module's head.
#[derive(Debug)]
pub struct Stream {
    tape: Tape,
    /// Made by the first publisher: a stream that is only waited for needs none.
    timeline: Option<Box<Timeline>>,
    /// While somebody publishes.
    source: Option<Source>,
}

impl Stream {
    /// A stream without a publisher, whose headers are counted by `gauge`.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { tape: Tape::new(gauge), timeline: None, source: None }
    }

    /// Its tape.
    pub const fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Checks what this structure promises, in debug builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        self.tape.check_invariants();
        debug_assert!(self.source.is_none() || self.timeline.is_some(), "a source has a time");
    }

    /// Whether somebody publishes.
    pub const fn is_live(&self) -> bool {
        self.source.is_some()
    }

    /// What is known of what is published.
    pub fn report(&self, now: Time) -> Option<Report> {
        let source = self.source.as_ref()?;
        let repairs = self.timeline.as_ref().map(|timeline| *timeline.repairs());
        Some(source.meter.report(repairs.unwrap_or_default(), now))
    }

    /// When the publisher was last heard, and the rhythm by which it counts as silent.
    pub(crate) fn rhythm(&self) -> Option<&Rhythm> {
        Some(&self.source.as_ref()?.rhythm)
    }

    /// Memory that it holds beside itself (bytes), without its headers, which others share: see
    /// [`Tape::headers_bytes`].
    pub fn held_bytes(&self) -> usize {
        let of_source = |s: &Source| size_of::<Meter>() + s.keyframes.held_bytes();
        let timeline = if self.timeline.is_some() { size_of::<Timeline>() } else { 0 };
        self.tape.held_bytes() + self.source.as_ref().map_or(0, of_source) + timeline
    }

    /// A publisher begins. `resumes` says that the players of the last one are still there, so
    /// that its time goes on.
    pub(crate) fn begin(&mut self, resumes: bool, now: Time) {
        self.tape.begin(resumes);
        // Players of the last publisher may still be there, even if they were told that the
        // stream had ended: their time goes on.
        match &mut self.timeline {
            Some(timeline) => timeline.resume(),
            None => self.timeline = Some(Box::default()),
        }
        self.source = Some(Source::new(now));
    }

    /// The publisher is gone: nobody begins in its last GOP any more.
    pub(crate) fn end(&mut self) {
        self.tape.end();
    }

    /// The publisher leaves. Returns what is known of what it sent, if there was one.
    pub(crate) fn leave(&mut self, now: Time) -> Option<Report> {
        let report = self.report(now);
        self.source = None;
        report
    }

    /// Nothing of what was published is kept for anybody. Its memory files go to `discarded`.
    pub(crate) fn forget(&mut self, discarded: &mut Discarded) {
        self.tape.discard_segments(discarded);
        self.tape.forget();
    }

    /// Notes bytes of the publisher that are no whole message yet.
    pub(crate) fn note_part(&mut self, bytes: usize, now: Time) {
        if let Some(source) = &mut self.source {
            source.rhythm.note_part(bytes, now);
        }
    }

    /// Records a frame of the publisher. Returns what it did, and whether there is anything new
    /// for players.
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
        // Metadata speaks of no moment, and the tape stamps it so.
        if recording.is_frame {
            source.rhythm.note_frame(timestamp);
            recording.timestamp = timeline.place_frame(media, &tracks, timestamp, now);
        } else if recording.header != Some(HeaderKind::Metadata) {
            recording.timestamp = timeline.place_aside(media, &tracks, timestamp, now);
        }
        let mut note = None;
        if media == MediaKind::Video {
            let length_bytes = || self.tape.nal_length_bytes(&tracks);
            note = source.keyframes.look(&mut recording, length_bytes).map(Note::Unmarked);
        }
        source.meter.note(&recording, now);
        let is_frame = recording.is_frame;
        let (gops_cut, left_out) = (self.tape.gops_cut(), self.tape.headers_left_out());
        let changes = self.tape.headers_changes();
        let is_news = self.tape.record(recording, has_players, now, settings);
        if self.tape.gops_cut() != gops_cut {
            source.keyframes.search_again();
            note = Some(Note::GopCut { is_first: source.meter.note_cut_gop() });
        }
        if self.tape.headers_left_out() != left_out {
            note = Some(Note::HeaderLeftOut { is_first: source.meter.note_left_out_header() });
        }
        let is_parsed = !is_frame || self.tape.headers_changes() != changes;
        let outcome = if is_parsed { Outcome::Parsed } else { Outcome::Taken };
        (note.map_or(outcome, Outcome::Noted), is_news)
    }

    /// Puts what is new into a memory file: see [`Tape::store`].
    pub(crate) fn store(
        &mut self,
        players: usize,
        may_open: bool,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        self.tape.store(players, may_open, settings, budget)
    }

    /// Gives up the memory files: see [`Tape::discard_segments`].
    pub(crate) fn discard_segments(&mut self, discarded: &mut Discarded) -> bool {
        self.tape.discard_segments(discarded)
    }

    /// Gives up what `settings` no longer allow, and the memory that is free then. Returns whether
    /// any message went.
    pub(crate) fn shrink(&mut self, has_players: bool, now: Time, settings: &TapeSettings) -> bool {
        let oldest = self.tape.first_sequence();
        self.tape.shrink(has_players, now, settings);
        self.tape.give_back();
        self.tape.first_sequence() > oldest
    }

    /// Gives back the memory that is free.
    pub(crate) fn give_back(&mut self) {
        self.tape.give_back();
    }

    /// Hands over the blocks that only players hold: see [`Tape::lend`].
    pub(crate) fn lend(&mut self, lent: &mut Lent) {
        self.tape.lend(lent);
    }
}
