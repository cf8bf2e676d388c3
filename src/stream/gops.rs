//! The GOPs of a stream's video tracks: which keyframe each message needs, and where late players
//! start.
//!
//! **Dependencies.** A message that continues a GOP needs the keyframe of that GOP. A player has
//! the keyframe if it has missed nothing since. So the tape stores with each message the sequence
//! number of the keyframe it needs, and a player stores one number: since when it has missed
//! nothing. No player keeps a set of tracks. Every track starts with its own keyframe after a join,
//! a skip or a pause, however the tracks are interleaved. A message of several tracks cannot be
//! cut, so a player gets it if it can decode one of them. A hole in a running track is worse than
//! an early start of another.
//!
//! **Start points.** The lowest track that has keyframes leads, because a simple player shows that
//! one. Its newest keyframe is the start point. Encoders align the keyframes of their tracks but
//! send them in any order, so the keyframe of another track shortly before it belongs to the start
//! as well. Messages between the two that need an older keyframe are skipped by the rule above. A
//! track with other keyframe times joins with its next keyframe. When the leading track ends, or
//! its last keyframe leaves the tape, the next keyframe of any track leads. A lower track takes the
//! lead with its first keyframe. An end of sequence changes nothing else: later frames are relayed
//! as before.
//!
//! **Access units.** All messages of a track with one timestamp are one access unit. Drones send
//! each slice of a picture as a message; other encoders send the parameter sets before the picture.
//! A keyframe starts with the first message of its access unit, whichever message is marked as a
//! keyframe, so no player starts in the middle of a picture. Encoders with a clock of whole seconds
//! give several pictures one timestamp. So if a keyframe message is not the first of its unit, its
//! slices tell which earlier messages belong to its picture.
//!
//! **Unknown codecs.** The frame type of Enhanced RTMP does not depend on the codec, so the server
//! recognizes keyframes of unknown codecs. A track of an unknown codec that has not sent a keyframe
//! may never send one: its frames need nothing, and players get them at once.

use super::frame::Unit;
use super::headers::{Headers, PerReceives, index_of};
use crate::media::Tracks;
use crate::rtmp::session::Receives;
use bytes::Bytes;
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::rc::Rc;

/// Precedes every sequence number. A message that needs it needs a keyframe that no player has.
pub const LOST: u64 = 0;

/// Stands for a track without a keyframe so far.
const NEVER: u64 = u64::MAX;

/// The largest distance of two keyframes of one start point (ms). Tracks that an encoder starts at
/// the same time differ by up to four frames of reordering, which is 267 ms at 15 frames a second.
const ALIGNED_MS_MAX: u32 = 500;

/// Bound on the messages of all tracks from the first to the last of an access unit. Beyond it the
/// encoder's clock is assumed to stand still, and a new unit starts.
const UNIT_MESSAGES_MAX: u64 = 4096;

/// The newest access unit and the newest keyframe of a video track.
#[derive(Clone, Copy, Debug)]
struct Track {
    /// The first message of the newest keyframe. [`NEVER`] before the first keyframe, [`LOST`] if
    /// the keyframe is not on the tape.
    gop_began: u64,
    unit: Option<Unit>,
    /// The first message of the newest access unit.
    unit_began: u64,
    /// Whether a message of the unit is marked as a keyframe.
    is_key: bool,
    /// Whether a message without that mark follows the marked one.
    has_more: bool,
    /// Whether all messages of the unit were recorded.
    is_whole: bool,
}

impl Track {
    const UNHEARD: Self = Self {
        gop_began: NEVER,
        unit: None,
        unit_began: LOST,
        is_key: false,
        has_more: false,
        is_whole: true,
    };

    fn enter(&mut self, unit: Unit, sequence: u64, is_key: bool) {
        if self.unit == Some(unit) && sequence - self.unit_began < UNIT_MESSAGES_MAX {
            self.has_more |= self.is_key && !is_key;
        } else {
            let gop_began = self.gop_began;
            *self = Self { gop_began, unit: Some(unit), unit_began: sequence, ..Self::UNHEARD };
        }
    }

    /// Makes the newest unit a keyframe. Returns its first message. Returns `None` if the unit
    /// already was a keyframe, or if a part of it is not on the tape.
    fn begin_gop(&mut self, oldest: u64) -> Option<u64> {
        if std::mem::replace(&mut self.is_key, true) {
            return None;
        }
        let is_on_tape = self.is_whole && self.unit_began >= oldest;
        self.gop_began = if is_on_tape { self.unit_began } else { LOST };
        is_on_tape.then_some(self.unit_began)
    }

    const fn lose(&mut self) {
        self.is_whole = false;
        if self.is_key {
            self.gop_began = LOST;
        }
    }
}

/// An access unit that the message to be recorded continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenUnit {
    /// Its first message.
    pub(crate) began: u64,
    /// Whether an earlier message of the unit is marked as a keyframe.
    pub(crate) is_key: bool,
    /// Whether a message without that mark follows the marked one.
    pub(crate) has_more: bool,
}

/// The access units and GOPs of the video tracks of one publisher.
#[derive(Debug, Default)]
pub(crate) struct Gops {
    /// Indexed by track id, up to the highest id so far. Most streams have one or two tracks.
    tracks: SmallVec<[Track; 1]>,
    /// The first message of the newest access unit of all tracks.
    unit_began: Option<u64>,
}

impl Gops {
    /// Notes a frame of these tracks, which gets the number `sequence` when it is recorded.
    /// `is_key` is true if it is marked as a keyframe.
    pub(crate) fn enter(&mut self, tracks: &Tracks, unit: Unit, sequence: u64, is_key: bool) {
        let mut unit_began = sequence;
        self.for_each(tracks, |track| {
            track.enter(unit, sequence, is_key);
            unit_began = unit_began.min(track.unit_began);
        });
        self.unit_began = Some(unit_began);
    }

    /// Makes the access unit of the frame that was entered last a keyframe. Returns its first
    /// message if the unit was not one already and all of it is on the tape. `oldest` is the first
    /// message on the tape.
    pub(crate) fn begin_gop(&mut self, tracks: &Tracks, oldest: u64) -> Option<u64> {
        let mut first: Option<u64> = None;
        self.for_each(tracks, |track| {
            if let Some(began) = track.begin_gop(oldest) {
                first = Some(first.map_or(began, |first| first.min(began)));
            }
        });
        first
    }

    /// Returns the access unit of the frame that was entered last, unless that frame starts the
    /// unit.
    pub(crate) fn open_unit(&self, tracks: &Tracks, sequence: u64) -> Option<OpenUnit> {
        let track = self.tracks.get(usize::from(tracks.first()?))?;
        let &Track { unit_began: began, is_key, has_more, .. } = track;
        (began < sequence).then_some(OpenUnit { began, is_key, has_more })
    }

    /// Moves the start of the newest access unit of these tracks to message `sequence`.
    pub(crate) fn cut_unit(&mut self, tracks: &Tracks, sequence: u64) {
        self.for_each(tracks, |track| {
            let Track { gop_began, unit, .. } = *track;
            *track = Track { gop_began, unit, unit_began: sequence, ..Track::UNHEARD };
        });
        self.unit_began = Some(sequence);
    }

    /// Notes that the frame that was entered last was not recorded.
    pub(crate) fn lose(&mut self, tracks: &Tracks) {
        self.for_each(tracks, Track::lose);
    }

    /// Ends the access unit: the next frame of these tracks starts another, whatever its timestamp.
    pub(crate) fn end_unit(&mut self, tracks: &Tracks) {
        self.for_each(tracks, |track| track.unit = None);
    }

    /// Returns the first message of the newest keyframe of any of these tracks. A player that has
    /// it can decode one of the tracks.
    pub(crate) fn began(&self, tracks: &Tracks) -> Option<u64> {
        if *tracks == Tracks::DEFAULT {
            return self
                .tracks
                .first()
                .map(|track| track.gop_began)
                .filter(|began| *began != NEVER);
        }
        let began = tracks.iter().filter_map(|track| self.tracks.get(usize::from(track)));
        began.map(|track| track.gop_began).filter(|began| *began != NEVER).max()
    }

    /// Returns the first message of the newest access unit, which may become a keyframe.
    pub(crate) const fn unit_began(&self) -> Option<u64> {
        self.unit_began
    }

    /// Memory in addition to this struct (bytes).
    pub(crate) fn held_bytes(&self) -> usize {
        if self.tracks.spilled() { self.tracks.capacity() * size_of::<Track>() } else { 0 }
    }

    /// Forgets all tracks, for another publisher.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn for_each(&mut self, tracks: &Tracks, mut change: impl FnMut(&mut Track)) {
        // The common case: nearly all streams have only track 0.
        if *tracks == Tracks::DEFAULT
            && let Some(first) = self.tracks.first_mut()
        {
            return change(first);
        }
        for track in tracks.iter().map(usize::from) {
            if self.tracks.len() <= track {
                self.tracks.resize(track + 1, Track::UNHEARD);
            }
            change(&mut self.tracks[track]);
        }
    }
}

/// A place on the tape where a late player can start.
#[derive(Debug)]
pub(crate) struct StartPoint {
    /// The first message.
    pub(crate) sequence: u64,
    /// The timestamp of that message.
    pub(crate) timestamp: u32,
    /// The headers in force at that message.
    pub(crate) headers: Rc<Headers>,
    /// The headers in wire form, encoded for the first late player and shared by all.
    preludes: PerReceives<OnceCell<Bytes>>,
}

impl StartPoint {
    pub(crate) fn new(sequence: u64, timestamp: u32, headers: Rc<Headers>) -> Self {
        Self { sequence, timestamp, headers, preludes: PerReceives::default() }
    }

    /// Returns the headers that a player receives in wire form, with the timestamp of the first
    /// message.
    pub(crate) fn prelude(&self, receives: Receives, chunk_size: u32) -> Bytes {
        let encode = || self.headers.encode(self.timestamp, receives, chunk_size);
        self.preludes[index_of(receives)].get_or_init(encode).clone()
    }

    fn is_aligned_with(&self, later: &Self) -> bool {
        let distance = later.timestamp.wrapping_sub(self.timestamp) as i32;
        distance.unsigned_abs() <= ALIGNED_MS_MAX
    }
}

/// The start points of late players. See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    newest: Option<StartPoint>,
    /// The keyframe of a track that does not lead, after `newest`. It becomes part of the next
    /// start point if their timestamps are close enough.
    early: Option<StartPoint>,
    /// The leading track.
    lead: Option<u8>,
}

impl Starts {
    /// Returns the newest start point.
    pub(crate) const fn newest(&self) -> Option<&StartPoint> {
        self.newest.as_ref()
    }

    /// Returns the oldest message at which a late player starts, now or after the next keyframe.
    pub(crate) fn oldest_sequence(&self) -> Option<u64> {
        self.newest.as_ref().or(self.early.as_ref()).map(|start| start.sequence)
    }

    /// Notes a keyframe of `tracks` at `point`, and moves the start point if the leading track is
    /// among them.
    pub(crate) fn keyframe(&mut self, tracks: &Tracks, point: StartPoint) {
        let Some(track) = tracks.first() else { return };
        // A keyframe of another track never moves the start point. With tracks of unequal GOPs,
        // a late player would wait for the picture of the leading track. Of several aligned
        // keyframes the first is kept: a start at a later one would miss the others.
        if self.lead.is_some_and(|lead| lead < track) {
            if !self.early.as_ref().is_some_and(|early| early.is_aligned_with(&point)) {
                self.early = Some(point);
            }
            return;
        }
        // The first keyframe of a lower track takes the lead. It may be aligned with the start
        // point of the track that led before, which then stays. A track that already led starts
        // at its newest keyframe: its old start point is discarded, however close.
        let takes_lead = self.lead.is_some_and(|lead| lead > track);
        let newest = self.newest.take().filter(|_| takes_lead);
        let mut earlier = newest.into_iter().chain(self.early.take());
        let aligned = earlier.find(|earlier| earlier.is_aligned_with(&point));
        self.newest = Some(aligned.unwrap_or(point));
        self.lead = Some(track);
    }

    /// Notes a changed decoder configuration of `tracks`. If the leading track is among them, late
    /// players wait for the next keyframe, which needs that configuration.
    pub(crate) fn reconfigured(&mut self, tracks: &Tracks) {
        if self.lead.is_none_or(|lead| tracks.contains(lead)) {
            self.newest = None;
        }
    }

    /// Notes the end of the sequence of `tracks`. Another track may lead then.
    pub(crate) fn ended(&mut self, tracks: &Tracks) {
        self.lead = self.lead.filter(|lead| !tracks.contains(*lead));
    }

    /// Removes start points before `sequence`, whose messages have left the tape. Returns whether
    /// the newest start point was among them.
    pub(crate) fn forget_before(&mut self, sequence: u64) -> bool {
        if self.early.as_ref().is_some_and(|start| start.sequence < sequence) {
            self.early = None;
        }
        let is_gone = self.newest.as_ref().is_some_and(|start| start.sequence < sequence);
        if is_gone {
            self.newest = None;
            self.lead = None;
        }
        is_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::classify_video;

    fn tracks(ids: &[u8]) -> Tracks {
        // A message with a frame of each track.
        let mut payload = b"\x96\x11hvc1".to_vec();
        ids.iter().for_each(|id| payload.extend([*id, 0, 0, 0]));
        classify_video(&payload).unwrap().tracks
    }

    fn at(timestamp: u32) -> Unit {
        Unit { sent: timestamp, timestamp }
    }

    /// Enters message number `sequence` and marks it as a keyframe.
    fn keyframe(gops: &mut Gops, ids: &[u8], timestamp: u32, sequence: u64) -> Option<u64> {
        gops.enter(&tracks(ids), at(timestamp), sequence, true);
        gops.begin_gop(&tracks(ids), 1)
    }

    #[test]
    fn a_keyframe_begins_with_the_first_message_of_its_access_unit() {
        let mut gops = Gops::default();
        gops.enter(&tracks(&[0]), at(0), 1, false);
        assert_eq!(keyframe(&mut gops, &[0], 40, 2), Some(2));
        assert_eq!(keyframe(&mut gops, &[0], 40, 3), None, "another slice of it");
        gops.enter(&tracks(&[0]), at(80), 4, false);
        gops.enter(&tracks(&[1]), at(80), 5, false);
        assert_eq!(gops.unit_began(), Some(5));
        assert_eq!(keyframe(&mut gops, &[0], 80, 6), Some(4), "its last slice alone is marked");
        assert_eq!(gops.unit_began(), Some(4));
        assert_eq!(gops.began(&tracks(&[1])), None, "another track");
    }

    #[test]
    fn a_timestamp_of_either_kind_begins_an_access_unit() {
        for (sent, timestamp, began) in [(40, 40, 1), (41, 40, 2), (40, 41, 2)] {
            let mut gops = Gops::default();
            gops.enter(&tracks(&[0]), at(40), 1, false);
            gops.enter(&tracks(&[0]), Unit { sent, timestamp }, 2, false);
            assert_eq!(gops.begin_gop(&tracks(&[0]), 1), Some(began), "{sent} {timestamp}");
        }
        let mut gops = Gops::default();
        gops.enter(&tracks(&[0]), at(40), 1, false);
        gops.end_unit(&tracks(&[0]));
        assert_eq!(keyframe(&mut gops, &[0], 40, 2), Some(2), "the codec has changed");
    }

    #[test]
    fn a_keyframe_of_which_a_part_is_missing_begins_nothing() {
        let mut gops = Gops::default();
        gops.enter(&tracks(&[0]), at(40), 1, false);
        gops.lose(&tracks(&[0]));
        assert_eq!(keyframe(&mut gops, &[0], 40, 1), None);
        assert_eq!(gops.began(&tracks(&[0])), Some(LOST));

        let mut gops = Gops::default();
        gops.enter(&tracks(&[0]), at(40), 1, false);
        gops.enter(&tracks(&[0]), at(40), 2, false);
        assert_eq!(gops.begin_gop(&tracks(&[0]), 2), None, "the tape begins with its second part");
        assert_eq!(keyframe(&mut gops, &[0], 40, 3), None, "a further part of it");
        assert_eq!(gops.began(&tracks(&[0])), Some(LOST));
        assert_eq!(keyframe(&mut gops, &[0], 80, 4), Some(4));
    }

    #[test]
    fn a_clock_that_stands_still_does_not_make_one_picture_of_a_stream() {
        for (sequence, began) in [(UNIT_MESSAGES_MAX, 1), (UNIT_MESSAGES_MAX + 1, 4097)] {
            let mut gops = Gops::default();
            gops.enter(&tracks(&[0]), at(0), 1, false);
            assert_eq!(keyframe(&mut gops, &[0], 0, sequence), Some(began));
        }
    }

    /// The start points after each keyframe of a track at a time; the sequence numbers count on.
    fn starts(keyframes: &[(u8, u32)]) -> Vec<Option<u64>> {
        let mut starts = Starts::default();
        let mut sequence = 0;
        let mut start_after = |&(track, timestamp): &(u8, u32)| {
            sequence += 1;
            let point = StartPoint::new(sequence, timestamp, Rc::default());
            starts.keyframe(&tracks(&[track]), point);
            starts.newest().map(|start| start.sequence)
        };
        keyframes.iter().map(&mut start_after).collect()
    }

    #[test]
    fn a_message_needs_the_newest_keyframe_of_any_of_its_tracks() {
        let mut gops = Gops::default();
        assert_eq!(gops.began(&tracks(&[0])), None);
        keyframe(&mut gops, &[0, 2], 0, 5);
        keyframe(&mut gops, &[2], 40, 8);
        for (ids, expected) in [
            (&[0][..], Some(5)),
            (&[1], None),
            (&[2], Some(8)),
            (&[0, 2], Some(8)),
            (&[0, 1], Some(5)),
            (&[1, 255], None),
        ] {
            assert_eq!(gops.began(&tracks(ids)), expected, "{ids:?}");
        }
        keyframe(&mut gops, &[255], 40, 9);
        gops.lose(&tracks(&[255]));
        assert_eq!(gops.began(&tracks(&[255])), Some(LOST));
        gops.clear();
        assert_eq!(gops.began(&tracks(&[0])), None);
    }

    #[test]
    fn the_lowest_track_leads_and_aligned_keyframes_before_it_belong_to_its_start() {
        for (keyframes, expected) in [
            (&[(0, 0), (0, 40)][..], &[1, 2][..]),
            (&[(0, 0), (1, 0), (0, 1000), (1, 1000)], &[1, 1, 3, 3]),
            (&[(1, 0), (0, 0), (1, 1000), (0, 1000)], &[1, 1, 1, 3]),
            (&[(1, 0), (0, 500), (1, 1000), (0, 1501)], &[1, 1, 1, 4]),
            (&[(2, 0), (1, 0), (0, 0), (2, 990), (1, 1010), (0, 1000)], &[1, 1, 1, 1, 1, 4]),
            (&[(0, 0), (1, 600), (1, 1200), (1, 1800), (0, 2000)], &[1, 1, 1, 1, 4]),
            // The clock wraps around between the two.
            (&[(0, 0), (1, u32::MAX), (0, 20)], &[1, 1, 2]),
            // The decoding time of the second may be slightly before that of the first.
            (&[(0, 0), (1, 1080), (0, 1000)], &[1, 1, 2]),
        ] {
            let expected: Vec<_> = expected.iter().map(|sequence| Some(*sequence)).collect();
            assert_eq!(starts(keyframes), expected, "{keyframes:?}");
        }
    }

    #[test]
    fn a_track_that_ends_or_is_not_heard_of_leads_no_more() {
        let end = |starts: &mut Starts| starts.ended(&tracks(&[0]));
        let forget = |starts: &mut Starts| assert!(starts.forget_before(2));
        for (name, leave, expected) in [
            ("it ended", &end as &dyn Fn(&mut Starts), 2),
            ("it fell off the tape", &forget, 2),
            ("it goes on", &|_: &mut Starts| {}, 1),
        ] {
            let mut starts = Starts::default();
            starts.keyframe(&tracks(&[0]), StartPoint::new(1, 0, Rc::default()));
            leave(&mut starts);
            starts.keyframe(&tracks(&[1]), StartPoint::new(2, 1000, Rc::default()));
            assert_eq!(starts.newest().map(|start| start.sequence), Some(expected), "{name}");
            starts.keyframe(&tracks(&[0]), StartPoint::new(3, 2000, Rc::default()));
            assert_eq!(starts.newest().map(|start| start.sequence), Some(3), "{name}");
        }
    }

    #[test]
    fn the_early_keyframe_of_a_secondary_track_is_forgotten_with_the_tape() {
        for (oldest, expected) in [(2, 2), (3, 4)] {
            let mut starts = Starts::default();
            for (track, sequence, timestamp) in [(0, 1, 0), (1, 2, 980)] {
                let point = StartPoint::new(sequence, timestamp, Rc::default());
                starts.keyframe(&tracks(&[track]), point);
            }
            assert!(starts.forget_before(oldest), "the start of track 0 is gone");
            assert_eq!(starts.oldest_sequence(), (oldest == 2).then_some(2));
            starts.keyframe(&tracks(&[0]), StartPoint::new(4, 1000, Rc::default()));
            assert_eq!(starts.newest().map(|start| start.sequence), Some(expected));
        }
    }

    #[test]
    fn only_a_changed_configuration_of_the_leading_track_ends_the_start() {
        for (id, expected) in [(0, None), (1, Some(1))] {
            let mut starts = Starts::default();
            starts.keyframe(&tracks(&[0]), StartPoint::new(1, 0, Rc::default()));
            starts.reconfigured(&tracks(&[id]));
            assert_eq!(starts.newest().map(|start| start.sequence), expected);
        }
    }

    #[test]
    fn after_the_leading_track_has_ended_any_changed_configuration_ends_the_start() {
        for id in [0, 1] {
            let mut starts = Starts::default();
            starts.keyframe(&tracks(&[0]), StartPoint::new(1, 0, Rc::default()));
            starts.ended(&tracks(&[0]));
            assert!(starts.newest().is_some(), "its last GOP may still be joined");
            starts.reconfigured(&tracks(&[id]));
            assert!(starts.newest().is_none(), "track {id} may lead next");
        }
    }
}
