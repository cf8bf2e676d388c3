//! The GOPs of a stream's video tracks: what each message needs, and where newcomers begin.
//!
//! **What a message needs.** A message that continues a GOP needs that GOP's keyframe, and a
//! player has it if it has been given everything since. So the tape notes with each message the
//! sequence number of the keyframe it needs, and a player holds one number: since when it has
//! missed nothing. No player keeps a set of tracks, and every track begins with its own
//! keyframe whoever joined, skipped or waited, and however the tracks are interleaved.
//! A message of several tracks, whose bytes cannot be cut, is given to who can decode one of
//! them: a hole in a track that runs is worse than the early start of another.
//!
//! **Where newcomers begin.** One track leads, the lowest that has keyframes; it is what a simple
//! player shows. Its newest keyframe is the start point. Encoders align the keyframes of their
//! tracks but send them in any order, so the keyframe of another track a moment before it
//! belongs to the start as well; what is between them and needs an older keyframe is passed over
//! by the rule above. A track whose keyframes stand elsewhere joins in with its next one.
//! When the leading track ends, or has had no keyframe for as long as the tape goes back, the
//! next keyframe of any track leads; a lower track takes the lead with its first keyframe.
//! An end of sequence changes nothing else: frames behind it are relayed as before it.
//!
//! **Codecs that are not known.** The frame type of Enhanced RTMP does not depend on the codec,
//! so a keyframe of an unknown one is a keyframe. A track of an unknown codec that has never
//! sent any may not have any: its frames need nothing, and players get them at once.

use super::headers::Headers;
use crate::media::Tracks;
use bytes::Bytes;
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::rc::Rc;

/// Before every sequence number: what needs this message needs one that nobody has.
pub const LOST: u64 = 0;

/// No keyframe has come.
const NEVER: u64 = u64::MAX;

/// Two keyframes that are no further apart belong to one start (ms). Tracks that an encoder starts
/// at one time are up to four frames of reordering apart, 267 ms at 15 frames a second.
const ALIGNED_MS_MAX: u32 = 500;

/// What a decoder needs before it can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but the headers: a GOP starts here.
    StartsGop,
    /// Its GOP from the start.
    Gop,
    /// The same if its tracks have keyframes at all, which nobody knows of an unknown codec.
    GopIfAny,
    /// Nothing: audio, data, headers and what is relayed unread.
    Nothing,
    /// Nothing, and it is the last of its tracks until they start anew.
    EndsSequence,
}

/// The newest keyframe of each video track of one publisher.
#[derive(Debug, Default)]
pub(super) struct Gops {
    /// Sequence numbers by track id, as far as ids have been seen: one or two as a rule.
    began: SmallVec<[u64; 2]>,
}

impl Gops {
    /// Notes a keyframe; [`LOST`] if it is not on the tape.
    pub(super) fn begin(&mut self, tracks: &Tracks, sequence: u64) {
        for track in tracks.iter().map(usize::from) {
            if self.began.len() <= track {
                self.began.resize(track + 1, NEVER);
            }
            self.began[track] = sequence;
        }
    }

    /// The keyframe that a message of these tracks needs: who has it can decode one of them.
    pub(super) fn began(&self, tracks: &Tracks) -> Option<u64> {
        let began = tracks.iter().filter_map(|track| self.began.get(usize::from(track)));
        began.filter(|sequence| **sequence != NEVER).max().copied()
    }

    /// Makes ready for another publisher.
    pub(super) fn clear(&mut self) {
        self.began.clear();
    }
}

/// A place where a newcomer may begin.
#[derive(Debug)]
pub(super) struct StartPoint {
    /// Its first message.
    pub(super) sequence: u64,
    /// The time of that message.
    pub(super) timestamp: u32,
    /// The headers in force there.
    pub(super) headers: Rc<Headers>,
    /// The headers in wire form, made for the first newcomer and shared by all.
    prelude: OnceCell<Bytes>,
}

impl StartPoint {
    pub(super) const fn new(sequence: u64, timestamp: u32, headers: Rc<Headers>) -> Self {
        Self { sequence, timestamp, headers, prelude: OnceCell::new() }
    }

    /// The headers in wire form, stamped with the time of the first message.
    pub(super) fn prelude(&self, chunk_size: u32) -> Bytes {
        let encode = || self.headers.encode(self.timestamp, chunk_size);
        self.prelude.get_or_init(encode).clone()
    }

    fn is_aligned_with(&self, later: &Self) -> bool {
        let distance = later.timestamp.wrapping_sub(self.timestamp) as i32;
        distance.unsigned_abs() <= ALIGNED_MS_MAX
    }
}

/// Where newcomers begin; see the module's head.
#[derive(Debug, Default)]
pub(super) struct Starts {
    newest: Option<StartPoint>,
    /// The keyframe of a track that does not lead, behind `newest`: part of the next start if
    /// that is near enough.
    early: Option<StartPoint>,
    lead: Option<u8>,
}

impl Starts {
    /// The newest start point.
    pub(super) const fn newest(&self) -> Option<&StartPoint> {
        self.newest.as_ref()
    }

    /// The oldest message that a newcomer, now or after the next keyframe, begins with.
    pub(super) fn oldest_sequence(&self) -> Option<u64> {
        self.newest.as_ref().or(self.early.as_ref()).map(|start| start.sequence)
    }

    /// Takes the keyframe of `tracks` at `point`.
    pub(super) fn keyframe(&mut self, tracks: &Tracks, point: StartPoint) {
        let Some(track) = tracks.first() else { return };
        if self.lead.is_some_and(|lead| lead < track) {
            if !self.early.as_ref().is_some_and(|early| early.is_aligned_with(&point)) {
                self.early = Some(point);
            }
            return;
        }
        // A lower track takes the lead with its first keyframe, which may be aligned with what
        // was a start without it.
        let takes_lead = self.lead.is_some_and(|lead| lead > track);
        let newest = self.newest.take().filter(|_| takes_lead);
        let mut earlier = newest.into_iter().chain(self.early.take());
        let aligned = earlier.find(|earlier| earlier.is_aligned_with(&point));
        self.newest = Some(aligned.unwrap_or(point));
        self.lead = Some(track);
    }

    /// The decoder configuration of `tracks` has changed. Who joins now waits for the keyframe
    /// that it is for, if it is that of the leading track.
    pub(super) fn reconfigured(&mut self, tracks: &Tracks) {
        if self.lead.is_none_or(|lead| tracks.contains(lead)) {
            self.newest = None;
        }
    }

    /// The sequence of `tracks` has ended: another track may lead.
    pub(super) fn ended(&mut self, tracks: &Tracks) {
        self.lead = self.lead.filter(|lead| !tracks.contains(*lead));
    }

    /// What is before `sequence` is no longer on the tape.
    pub(super) fn forget_before(&mut self, sequence: u64) {
        if self.newest.as_ref().is_some_and(|start| start.sequence < sequence) {
            self.newest = None;
            self.lead = None;
        }
        if self.early.as_ref().is_some_and(|start| start.sequence < sequence) {
            self.early = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::classify_video;

    fn tracks(ids: &[u8]) -> Tracks {
        // What a message with a frame of each of them says of itself.
        let mut payload = b"\x96\x11hvc1".to_vec();
        ids.iter().for_each(|id| payload.extend([*id, 0, 0, 0]));
        classify_video(&payload).unwrap().tracks
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
        gops.begin(&tracks(&[0, 2]), 5);
        gops.begin(&tracks(&[2]), 8);
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
        gops.begin(&tracks(&[255]), LOST);
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
            // The clock goes round between the two.
            (&[(0, 0), (1, u32::MAX), (0, 20)], &[1, 1, 2]),
            // The decoding time of the second may be a little behind that of the first.
            (&[(0, 0), (1, 1080), (0, 1000)], &[1, 1, 2]),
        ] {
            let expected: Vec<_> = expected.iter().map(|sequence| Some(*sequence)).collect();
            assert_eq!(starts(keyframes), expected, "{keyframes:?}");
        }
    }

    #[test]
    fn a_track_that_ends_or_is_not_heard_of_leads_no_more() {
        let end = |starts: &mut Starts| starts.ended(&tracks(&[0]));
        let forget = |starts: &mut Starts| starts.forget_before(2);
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
    fn a_keyframe_of_another_track_that_fell_off_the_tape_begins_no_start() {
        for (forgotten, expected) in [(2, 2), (3, 3)] {
            let mut starts = Starts::default();
            starts.keyframe(&tracks(&[0]), StartPoint::new(1, 0, Rc::default()));
            starts.keyframe(&tracks(&[1]), StartPoint::new(2, 1000, Rc::default()));
            starts.forget_before(forgotten);
            starts.keyframe(&tracks(&[0]), StartPoint::new(3, 1100, Rc::default()));
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
}
