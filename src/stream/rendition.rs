//! One track of a stream in the form of HLS: partial segments and media segments of fragmented MP4.
//!
//! ```text
//! samples ─▶ part under way ─▶ partial segments ─▶ media segment ─▶ listed ─▶ kept ─▶ dropped
//!            up to PART-TARGET  at once to         at a keyframe    8 target  9 more
//!                               waiting players                     durations
//! ```
//!
//! A partial segment is one fragment. It is complete when the next sample of its track has come,
//! since only then the duration of its last sample is known. Its duration is never longer than the
//! part target, and at least 85 % of it unless it ends a segment (RFC 8216bis, section 4.4.4.9).
//!
//! Invariant: the last segment is the only one that is not complete. Media sequence numbers follow
//! each other without a hole. The part target and the target duration never change, since players
//! stop if they do.

use super::gauge::Gauge;
use crate::limits;
use crate::media::fmp4::{Fragments, SampleInfo, TrackConfig, init_segment};
use bytes::Bytes;
use std::collections::VecDeque;

/// Part target of tracks whose samples are short (ms).
const PART_MS: u32 = 500;
/// Longest sample with which parts of [`PART_MS`] reach 85 % of it (ms).
const SHORT_SAMPLE_MS: u32 = 70;
/// Shortest segment that a keyframe ends (ms). Two seconds, less the jitter of timestamps.
const SEGMENT_MS_MIN: u32 = 1900;
/// Jitter of a GOP that the target duration leaves room for (ms).
const GOP_JITTER_MS: u32 = 100;
/// Target duration if the GOP is unknown, or too long to be a segment (s).
const TARGET_S: u32 = 4;
/// Target duration at most (s). Players without partial segments are three of them behind.
const TARGET_S_MAX: u32 = 10;
/// Duration of the listed segments (target durations). Delta updates skip segments that are six
/// behind, so the list has to be longer.
const LISTED_TARGETS: u64 = 8;
/// Duration of the segments that are kept after they left the list: that of the list, and of one
/// segment (target durations; RFC 8216bis, section 6.2.2).
const KEPT_TARGETS: u64 = 9;
/// Fewest listed target durations (RFC 8216bis, section 6.2.2).
const LISTED_TARGETS_MIN: u64 = 3;
/// Number of the first segment. Some players mishandle 0.
const FIRST_MSN: u64 = 1;
/// Duration of a sample before any difference is known (ms).
const SAMPLE_MS: u64 = 33;
/// Room for the boxes of a fragment, and for each of its samples (bytes).
const HEAD_BYTES: usize = 128;
const HEAD_SAMPLE_BYTES: usize = 16;
/// Room for the initialization section of a configuration, which is one of the stream's headers.
const INIT_BYTES_MAX: usize = 2 * limits::HEADERS_BYTES_MAX;
/// Bytes of the complete segments. The rest is for the segment under way, and for a new
/// initialization section.
const COMPLETE_BYTES_MAX: usize =
    limits::HLS_RENDITION_BYTES_MAX - limits::HLS_SEGMENT_BYTES_MAX - INIT_BYTES_MAX;

/// The durations of a rendition, which never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Longest partial segment (`PART-TARGET`, ms).
    pub part_ms: u32,
    /// Longest segment when rounded to seconds (`EXT-X-TARGETDURATION`, s).
    pub target_s: u32,
}

impl Pace {
    /// Returns the pace for a GOP and for the samples of a track (ms), as far as they are known.
    pub fn new(gop_ms: Option<u32>, sample_ms: Option<u32>) -> Self {
        let gop_ms = gop_ms.filter(|gop| (1..=TARGET_S_MAX * 1000).contains(gop));
        let target_s = gop_ms.map_or(TARGET_S, |gop| {
            let segment_ms = SEGMENT_MS_MIN.div_ceil(gop) * gop;
            ((segment_ms + GOP_JITTER_MS + 500) / 1000).max(2)
        });
        let part_ms = match sample_ms.filter(|ms| *ms > SHORT_SAMPLE_MS) {
            // Whole samples have to reach 85 % of the target, with room for their jitter.
            Some(ms) => ((PART_MS / ms).max(1) * ms * 21).div_ceil(20).min(target_s * 1000),
            None => PART_MS,
        };
        Self { part_ms, target_s }
    }

    /// Longest segment (ms): the longest that is rounded to the target duration.
    const fn segment_ms_max(self) -> u64 {
        self.target_s as u64 * 1000 + 499
    }

    const fn target_ms(self) -> u64 {
        self.target_s as u64 * 1000
    }
}

/// A part of a segment, which is complete.
#[derive(Clone, Debug)]
pub struct PartialSegment {
    /// A fragment.
    pub bytes: Bytes,
    /// Duration (ms).
    pub duration_ms: u32,
    /// Whether a player can start with it.
    pub is_independent: bool,
}

/// A segment, of which only the last of a rendition is not complete.
#[derive(Debug)]
pub struct MediaSegment {
    /// Its parts in order. They stay pieces of their own when the segment is complete: to copy them
    /// to one piece would take a turn of 10 ms for the largest segments.
    pub parts: Vec<PartialSegment>,
    /// Bytes of all parts.
    len: usize,
    /// Sum of the durations of the parts (ms).
    pub duration_ms: u64,
    /// Decoding time of its first sample (ms), if there is one.
    pub start_ms: Option<u64>,
    /// Number of the initialization section.
    pub init: u32,
    /// Whether the time or the encoding breaks off before it.
    pub is_discontinuous: bool,
}

impl MediaSegment {
    const fn new(init: u32, is_discontinuous: bool) -> Self {
        Self { parts: Vec::new(), len: 0, duration_ms: 0, start_ms: None, init, is_discontinuous }
    }
}

/// The part under way: samples, of which the duration of the last is unknown.
#[derive(Debug, Default)]
struct Unfinished {
    samples: Vec<(u64, SampleInfo)>,
    bytes: Vec<u8>,
}

impl Unfinished {
    fn start_ms(&self) -> Option<u64> {
        self.samples.first().map(|(ms, _)| *ms)
    }

    fn newest_ms(&self) -> Option<u64> {
        self.samples.last().map(|(ms, _)| *ms)
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Rendition {
    /// Counts what players and the rendition share.
    gauge: Gauge,
    pace: Pace,
    config: TrackConfig,
    fragments: Fragments,
    /// Initialization sections that segments refer to. The last one has the number `init`.
    inits: VecDeque<Bytes>,
    init: u32,
    segments: VecDeque<MediaSegment>,
    /// Media sequence number of the first of `segments`.
    first_msn: u64,
    /// Position of the first listed segment.
    listed_from: usize,
    /// Discontinuities that have left the list.
    discontinuities: u64,
    unfinished: Unfinished,
    /// When the segment is to end (ms), because that of another rendition did.
    ends_at: Option<u64>,
    /// Duration of the newest sample that has one (ms).
    sample_ms: u64,
    /// Bytes of all parts and initialization sections, and of the part under way.
    bytes: usize,
    /// Largest bitrate of a segment (bit/s).
    peak_bitrate: u64,
}

impl Rendition {
    /// Creates a rendition without any segment. `gauge` counts the memory of the parts.
    pub(crate) fn new(config: TrackConfig, pace: Pace, gauge: Gauge) -> Self {
        let init = gauge.share(init_segment(&[&config]).into());
        Self {
            gauge,
            pace,
            fragments: Fragments::new(&[&config]),
            config,
            bytes: init.len(),
            inits: VecDeque::from([init]),
            init: 0,
            segments: VecDeque::from([MediaSegment::new(0, false)]),
            first_msn: FIRST_MSN,
            listed_from: 0,
            discontinuities: 0,
            unfinished: Unfinished::default(),
            ends_at: None,
            sample_ms: SAMPLE_MS,
            peak_bitrate: 0,
        }
    }

    /// Returns the durations.
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// Returns the configuration of the track.
    pub const fn config(&self) -> &TrackConfig {
        &self.config
    }

    /// Returns the largest bitrate of a complete segment (bit/s); 0 before the first.
    pub const fn peak_bitrate(&self) -> u64 {
        self.peak_bitrate
    }

    /// Memory of the rendition in addition to itself, without what the gauge counts (bytes).
    pub fn held_bytes(&self) -> usize {
        let parts: usize = self.segments.iter().map(|segment| segment.parts.capacity()).sum();
        self.segments.capacity() * size_of::<MediaSegment>()
            + parts * size_of::<PartialSegment>()
            + self.inits.capacity() * size_of::<Bytes>()
            + self.unfinished.bytes.capacity()
            + self.unfinished.samples.capacity() * size_of::<(u64, SampleInfo)>()
    }

    /// Adds a sample with this decoding time (ms), whose bytes `append` writes: as many as the
    /// sample says. Completes the part and the segment that it ends. Returns whether a segment has
    /// ended.
    pub fn push(&mut self, ms: u64, sample: SampleInfo, append: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.next_msn();
        self.make_room_for(ms, &sample);
        let len = self.unfinished.bytes.len();
        append(&mut self.unfinished.bytes);
        let added = self.unfinished.bytes.len() - len;
        debug_assert_eq!(added, sample.bytes as usize, "a sample is as long as it says");
        self.bytes += added;
        self.unfinished.samples.push((ms, SampleInfo { bytes: added as u32, ..sample }));
        if self.unfinished.samples.len() >= limits::HLS_PART_SAMPLES_MAX
            || self.unfinished.bytes.len() >= limits::HLS_PART_BYTES_MAX
        {
            self.complete_part(self.unfinished.samples.len(), ms + self.sample_ms);
        }
        self.next_msn() != before
    }

    /// Ends the segment at `ms`, where the segment of another rendition has ended. If no sample has
    /// come that is this late, the first one ends it.
    pub fn end_segment_at(&mut self, ms: u64) {
        if self.unfinished.newest_ms().is_some_and(|newest| newest >= ms) {
            self.end_segment_before(ms);
        } else {
            self.ends_at = Some(ms);
        }
    }

    /// Ends the segment now. The next one does not continue its time or its encoding.
    pub fn break_off(&mut self) {
        if let Some(newest) = self.unfinished.newest_ms() {
            self.complete_part(self.unfinished.samples.len(), newest + self.sample_ms);
        }
        self.complete_segment();
        let has_complete = self.next_msn() > FIRST_MSN;
        if let Some(open) = self.segments.back_mut() {
            open.is_discontinuous = has_complete;
        }
    }

    /// Goes on with another configuration of the track.
    pub fn reconfigure(&mut self, config: TrackConfig) {
        self.break_off();
        let init = self.gauge.share(init_segment(&[&config]).into());
        self.fragments = Fragments::new(&[&config]);
        self.config = config;
        self.bytes += init.len();
        let complete = self.segments.len() - 1;
        let is_used = self.segments.range(..complete).next_back().map(|s| s.init);
        if is_used == Some(self.init) {
            self.init += 1;
        } else if let Some(unused) = self.inits.pop_back() {
            self.bytes -= unused.len();
        }
        self.inits.push_back(init);
        if let Some(open) = self.segments.back_mut() {
            open.init = self.init;
        }
    }

    /// Returns the position of the next partial segment: its media sequence number, and its index
    /// in the segment.
    pub fn next(&self) -> (u64, usize) {
        (self.next_msn(), self.segments.back().map_or(0, |open| open.parts.len()))
    }

    /// Returns the position of the newest partial segment, if there is one.
    pub fn last_part(&self) -> Option<(u64, usize)> {
        let (msn, parts) = self.next();
        if parts > 0 {
            return Some((msn, parts - 1));
        }
        let before = self.segments.len().checked_sub(2)?;
        Some((msn - 1, self.segments.get(before)?.parts.len() - 1))
    }

    /// Returns the listed segments with their media sequence numbers. The last one may be without
    /// any part.
    pub fn listed(&self) -> impl Iterator<Item = (u64, &MediaSegment)> {
        let first = self.first_msn + self.listed_from as u64;
        (first..).zip(self.segments.range(self.listed_from..))
    }

    /// Returns the number of discontinuities before the listed segments.
    pub const fn discontinuities(&self) -> u64 {
        self.discontinuities
    }

    /// Returns a segment that is kept, and whether it is complete.
    pub fn segment(&self, msn: u64) -> Option<(&MediaSegment, bool)> {
        let index = usize::try_from(msn.checked_sub(self.first_msn)?).ok()?;
        self.segments.get(index).map(|segment| (segment, index + 1 < self.segments.len()))
    }

    /// Returns an initialization section that a kept segment refers to.
    pub fn init(&self, number: u32) -> Option<&Bytes> {
        let from_newest = usize::try_from(self.init.checked_sub(number)?).ok()?;
        self.inits.get(self.inits.len().checked_sub(from_newest + 1)?)
    }

    /// Media sequence number of the segment that is not complete.
    fn next_msn(&self) -> u64 {
        self.first_msn + self.segments.len() as u64 - 1
    }

    /// Completes the part and the segment that a sample at `ms` does not belong to.
    fn make_room_for(&mut self, ms: u64, sample: &SampleInfo) {
        if let Some(newest) = self.unfinished.newest_ms() {
            let part_ms_max = u64::from(self.pace.part_ms);
            let has_others = self.unfinished.samples.len() > 1;
            let is_too_long = self.segment_ms(ms) > self.pace.segment_ms_max();
            if has_others && (is_too_long || ms.saturating_sub(self.part_start_ms()) > part_ms_max)
            {
                // The newest sample is longer than the one before it has promised.
                self.complete_part(self.unfinished.samples.len() - 1, newest);
                if is_too_long {
                    self.complete_segment();
                }
            }
            self.sample_ms = ms.saturating_sub(newest);
            let with_next_ms = (ms + self.sample_ms).saturating_sub(self.part_start_ms());
            if with_next_ms > part_ms_max || self.ends_segment(ms, sample) {
                self.complete_part(self.unfinished.samples.len(), ms);
            }
        }
        if self.unfinished.samples.is_empty() && self.ends_segment(ms, sample) {
            self.complete_segment();
        }
    }

    fn part_start_ms(&self) -> u64 {
        self.unfinished.start_ms().unwrap_or_default()
    }

    /// Returns the length of the segment if it ended at `ms` (ms).
    fn segment_ms(&self, ms: u64) -> u64 {
        let start = self.segments.back().and_then(|open| open.start_ms);
        let start = start.or_else(|| self.unfinished.start_ms());
        start.map_or(0, |start| ms.saturating_sub(start))
    }

    /// Returns the length of the segment if `sample` ended it (bytes).
    fn segment_bytes(&self, sample: &SampleInfo) -> usize {
        let complete = self.segments.back().map_or(0, |open| open.len);
        let Unfinished { samples, bytes } = &self.unfinished;
        let head = HEAD_BYTES + (samples.len() + 1) * HEAD_SAMPLE_BYTES;
        complete + head + bytes.len() + sample.bytes as usize
    }

    /// Returns whether the segment ends before a sample at `ms`.
    fn ends_segment(&self, ms: u64, sample: &SampleInfo) -> bool {
        let is_keyframe = sample.is_keyframe && self.config.is_video();
        let length_ms = self.segment_ms(ms);
        let parts = self.segments.back().map_or(0, |open| open.parts.len());
        is_keyframe && length_ms >= u64::from(SEGMENT_MS_MIN)
            || self.ends_at.is_some_and(|at| ms >= at)
            || length_ms + self.sample_ms > self.pace.segment_ms_max()
            || parts >= limits::HLS_PARTS_MAX
            || self.segment_bytes(sample) > limits::HLS_SEGMENT_BYTES_MAX
    }

    /// Ends the segment before the first sample that is not before `ms`.
    fn end_segment_before(&mut self, ms: u64) {
        let of_segment = self.unfinished.samples.partition_point(|(at, _)| *at < ms);
        if of_segment > 0 {
            let next = self.unfinished.samples.get(of_segment).map_or(ms, |(at, _)| *at);
            self.complete_part(of_segment, next);
        }
        self.complete_segment();
    }

    /// Completes the part with the first `count` samples of the unfinished one, which end at
    /// `end_ms`.
    fn complete_part(&mut self, count: usize, end_ms: u64) {
        let Some(start_ms) = self.unfinished.start_ms().filter(|_| count > 0) else { return };
        let rest = self.unfinished.samples.split_off(count);
        let samples = std::mem::replace(&mut self.unfinished.samples, rest);
        let is_independent = samples[0].1.is_keyframe;
        let mut infos: Vec<_> = samples.iter().map(|(_, info)| *info).collect();
        if let (Some(last), Some((ms, _))) = (infos.last_mut(), samples.last()) {
            last.duration_ms = u32::try_from(end_ms.saturating_sub(*ms)).ok();
        }
        let len: usize = infos.iter().map(|info| info.bytes as usize).sum();
        let mut bytes = Vec::with_capacity(len + HEAD_BYTES + infos.len() * HEAD_SAMPLE_BYTES);
        // A part is far below the bound of a fragment: see `limits::HLS_PART_BYTES_MAX`.
        let _ = self.fragments.head_of_many(&mut bytes, &infos);
        bytes.extend_from_slice(&self.unfinished.bytes[..len]);
        self.unfinished.bytes.drain(..len);
        self.bytes += bytes.len() - len;
        // A part cannot be as long as a pause of the encoder. Players take the time from the
        // samples.
        let duration_ms = end_ms.saturating_sub(start_ms).min(self.pace.part_ms.into());
        if let Some(open) = self.segments.back_mut() {
            open.start_ms.get_or_insert(start_ms);
            open.duration_ms += duration_ms;
            open.len += bytes.len();
            open.parts.push(PartialSegment {
                bytes: self.gauge.share(bytes),
                duration_ms: duration_ms as u32,
                is_independent,
            });
        }
    }

    /// Completes the segment, unless it has no part.
    fn complete_segment(&mut self) {
        self.ends_at = None;
        let Some(open) = self.segments.back_mut().filter(|open| !open.parts.is_empty()) else {
            return;
        };
        let bits = open.len as u64 * 8;
        let bitrate = (bits * 1000).checked_div(open.duration_ms).unwrap_or_default();
        self.peak_bitrate = self.peak_bitrate.max(bitrate);
        self.segments.push_back(MediaSegment::new(self.init, false));
        self.trim();
    }

    /// Takes segments from the list, and drops them when players have had the time to fetch them.
    /// A large track keeps the listed segments that players are owed, and less than those beyond
    /// the bounds in bytes and in segments.
    fn trim(&mut self) {
        let target_ms = self.pace.target_ms();
        let duration = |segments: &mut dyn Iterator<Item = &MediaSegment>| {
            segments.map(|segment| segment.duration_ms).sum::<u64>()
        };
        let mut listed_ms = duration(&mut self.segments.range(self.listed_from..));
        let mut kept_ms = duration(&mut self.segments.range(..self.listed_from));
        loop {
            let is_large = self.bytes > limits::HLS_RENDITION_BYTES_LARGE;
            let listed_max = if is_large { LISTED_TARGETS_MIN } else { LISTED_TARGETS } * target_ms;
            let oldest_ms = self.segments[self.listed_from].duration_ms;
            let is_beyond = self.segments.len() > limits::HLS_SEGMENTS_MAX
                || self.bytes > COMPLETE_BYTES_MAX && self.segments.len() > 2;
            if listed_ms - oldest_ms >= listed_max || is_beyond && self.listed_from == 0 {
                self.discontinuities += u64::from(self.segments[self.listed_from].is_discontinuous);
                self.listed_from += 1;
                listed_ms -= oldest_ms;
                kept_ms += oldest_ms;
            } else if self.listed_from > 0
                && (is_large || is_beyond || kept_ms > KEPT_TARGETS * target_ms)
            {
                kept_ms -= self.drop_oldest();
            } else {
                return;
            }
        }
    }

    /// Drops the oldest segment, which is not listed. Returns its duration (ms).
    fn drop_oldest(&mut self) -> u64 {
        let Some(oldest) = self.segments.pop_front() else { return 0 };
        self.first_msn += 1;
        self.listed_from -= 1;
        self.bytes -= oldest.len;
        let needed = self.segments.front().map_or(self.init, |segment| segment.init);
        while self.inits.len() as u64 > u64::from(self.init - needed) + 1 {
            let Some(init) = self.inits.pop_front() else { break };
            self.bytes -= init.len();
        }
        oldest.duration_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AAC_HEADER: [u8; 4] = [0xaf, 0, 0x11, 0x90];

    fn rendition(gauge: &Gauge) -> Rendition {
        let config = TrackConfig::from_audio_header(&AAC_HEADER).expect("a configuration of AAC");
        Rendition::new(config, Pace::new(Some(2000), None), gauge.clone())
    }

    fn push(rendition: &mut Rendition, ms: u64, bytes: usize) {
        let sample = SampleInfo {
            track: 0,
            timestamp: ms as u32,
            bytes: bytes as u32,
            composition_ms: 0,
            is_keyframe: true,
            audio_samples: 0,
            duration_ms: None,
        };
        let payload = vec![7; bytes];
        rendition.push(ms, sample, |out| out.extend_from_slice(&payload));
    }

    #[test]
    fn the_bytes_of_a_rendition_are_bounded_whatever_the_bitrate() {
        for (bytes, apart_ms) in
            [(4 * limits::MIB, 40), (limits::MESSAGE_BYTES_MAX, 1), (limits::MIB, 0)]
        {
            let gauge = Gauge::default();
            let mut rendition = rendition(&gauge);
            for index in 0..(250 * limits::MIB / bytes) as u64 {
                push(&mut rendition, index * apart_ms, bytes);
                let held = gauge.bytes() + rendition.unfinished.bytes.len();
                let counted = rendition.bytes.abs_diff(held);
                assert!(counted < limits::MIB, "{held} bytes held, {} counted", rendition.bytes);
                assert!(held <= limits::HLS_RENDITION_BYTES_MAX, "{held} bytes of {bytes} each");
                let segments = rendition.segments.iter().map(|segment| segment.len);
                assert!(segments.max() <= Some(limits::HLS_SEGMENT_BYTES_MAX));
            }
            assert!(rendition.listed().count() >= 2, "players have something to play");
            assert!(rendition.bytes > limits::HLS_RENDITION_BYTES_LARGE);
        }
    }

    #[test]
    fn a_large_rendition_lists_three_target_durations_and_keeps_no_more() {
        let gauge = Gauge::default();
        let mut rendition = rendition(&gauge);
        // 32 Mbit/s: 8 MB in two seconds.
        (0..1500).for_each(|index| push(&mut rendition, index * 40, 160_000));
        let listed_ms: u64 = rendition.listed().map(|(_, segment)| segment.duration_ms).sum();
        let target_ms = rendition.pace.target_ms();
        let longest_ms = rendition.pace.segment_ms_max();
        let owed = LISTED_TARGETS_MIN * target_ms..=LISTED_TARGETS_MIN * target_ms + longest_ms;
        assert!(owed.contains(&listed_ms), "{listed_ms} ms are listed");
        assert_eq!(rendition.listed().count(), rendition.segments.len());
    }

    #[test]
    fn the_parts_of_a_complete_segment_are_those_that_waiting_players_were_sent() {
        let mut rendition = rendition(&Gauge::default());
        let parts = |rendition: &Rendition| {
            let (segment, is_complete) = rendition.segment(FIRST_MSN).unwrap();
            let places = segment.parts.iter().map(|part| part.bytes.as_ptr_range());
            (places.collect::<Vec<_>>(), is_complete)
        };
        (0..40).for_each(|index| push(&mut rendition, index * 40, 1000));
        let (sent, is_complete) = parts(&rendition);
        assert!(!is_complete && sent.len() == 3, "{sent:?}");
        (40..100).for_each(|index| push(&mut rendition, index * 40, 1000));
        let (kept, is_complete) = parts(&rendition);
        assert!(is_complete && kept.starts_with(&sent), "{sent:?}, then {kept:?}");
    }
}
