//! Measures one stream as a player receives it, from any encoder and any server.
//!
//! Owns the measuring. Bytes, rates, stalls and startup times are measured by arrival. GOPs, gaps
//! and nominal rates are measured by timestamps. `playback` compares the two. Of several tracks of
//! a kind only the first is measured. This module reads no clock.

use std::time::Duration;

use super::connection::Message;
use super::playback::Playback;
use super::report::{Distribution, Figure, LoadReport};
use crate::media::codec::{self, AudioFacts, VideoFacts};
use crate::media::{self, AudioClass, AudioCodec, Tracks, VideoClass, VideoCodec};
use crate::rtmp::message::{AggregateParts, kind};
use crate::time::Time;

/// Time without a frame that counts as a gap (by timestamps) or as a stall (by arrival), in ms.
const GAP_MS: u64 = 1000;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Observer {
    /// Intended time of opening the connection.
    opened: Time,
    first_media: Option<Time>,
    metadata: Option<Time>,
    first_keyframe: Option<Time>,
    first_audio: Option<Time>,
    arrived: Option<Time>,
    bytes: u64,
    data_messages: u64,
    unreadable: u64,
    stalls: Gaps,
    video: Track<(VideoCodec, VideoFacts)>,
    audio: Track<(AudioCodec, AudioFacts)>,
    keyframes: u64,
    /// Start of the current GOP, and its frames so far.
    gop: Option<(u32, u64)>,
    gop_frames: Option<u64>,
    gops: Distribution,
    /// Timestamp of video minus that of audio: the last value, and the one furthest from 0 (ms).
    skew: Option<(i32, i32)>,
}

/// Measurements of one track.
#[derive(Debug)]
struct Track<Facts> {
    name: &'static str,
    /// Intended time of opening the connection.
    opened: Time,
    /// The id of the first track received.
    id: Option<u8>,
    /// All tracks of this kind received.
    all: Tracks,
    facts: Option<Facts>,
    /// Codec facts are complete, so further frames need no parsing.
    is_described: bool,
    frames: u64,
    newest: Option<Newest>,
    /// Steps from one frame to the next without a gap: their number, their length by timestamps,
    /// and the bytes of the frames before them.
    steps: u64,
    steps_ms: u64,
    steps_bytes: u64,
    back: u64,
    gaps: Gaps,
    /// The server has sent its cached frames; from here frames arrive as they are made.
    live: Option<Live>,
    /// End of the measurement, if the stream did not end before.
    ended: Option<Time>,
    jitter: Distribution,
    playback: Playback,
}

/// The frames that arrived after those from the cache of the server.
#[derive(Clone, Copy, Debug)]
struct Live {
    from: Time,
    frames: u64,
    bytes: u64,
}

/// The newest frame of a track.
#[derive(Clone, Copy, Debug)]
struct Newest {
    timestamp: u32,
    arrived: Time,
    bytes: u64,
}

/// Intervals without frames.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    count: u64,
    max_ms: u64,
}

impl Gaps {
    fn note(&mut self, ms: u64) {
        if ms > GAP_MS {
            self.count += 1;
            self.max_ms = self.max_ms.max(ms);
        }
    }

    fn add_to(self, report: &mut LoadReport, name: &str) {
        report.add_figure(Figure::new(&format!("{name}s"), self.count as f64));
        report.add_figure(Figure::new(&format!("{name}_max_ms"), self.max_ms as f64));
    }
}

impl Observer {
    pub(super) fn new(opened: Time) -> Self {
        Self {
            opened,
            first_media: None,
            metadata: None,
            first_keyframe: None,
            first_audio: None,
            arrived: None,
            bytes: 0,
            data_messages: 0,
            unreadable: 0,
            stalls: Gaps::default(),
            video: Track::new("video", opened),
            audio: Track::new("audio", opened),
            keyframes: 0,
            gop: None,
            gop_frames: None,
            gops: Distribution::new("gop"),
            skew: None,
        }
    }

    /// Records a message that arrived at `now`.
    pub(super) fn note(&mut self, message: Message<'_>, now: Time) {
        self.bytes += message.payload.len() as u64;
        if message.header.kind == kind::AGGREGATE {
            AggregateParts::new(message).for_each(|part| self.note_part(part, now));
        } else {
            self.note_part(message, now);
        }
    }

    /// Ends the measurement at `now`.
    pub(super) fn end(&mut self, now: Time) {
        if self.arrived.is_some() {
            self.note_arrival(now);
        }
        self.video.end(now);
        self.audio.end(now);
    }

    /// Returns whether any audio or video has arrived.
    pub(super) const fn has_media(&self) -> bool {
        self.first_media.is_some()
    }

    /// Returns the number of video frames, audio frames and bytes.
    pub(super) const fn counts(&self) -> (u64, u64, u64) {
        (self.video.frames, self.audio.frames, self.bytes)
    }

    /// Returns the figures that never fall during a run.
    pub(super) fn growing(&self) -> Vec<(String, f64)> {
        let Gaps { count, max_ms } = self.stalls;
        let figures = [("stalls", count as f64), ("stall_max_ms", max_ms as f64)];
        figures.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn note_arrival(&mut self, now: Time) {
        self.first_media.get_or_insert(now);
        if let Some(last) = self.arrived.replace(now) {
            self.stalls.note(now.millis_since(last));
        }
    }

    fn note_part(&mut self, Message { header, payload }: Message<'_>, now: Time) {
        match header.kind {
            kind::AUDIO => {
                self.note_arrival(now);
                self.note_audio(header.timestamp, payload, now);
            }
            kind::VIDEO => {
                self.note_arrival(now);
                self.note_video(header.timestamp, payload, now);
            }
            _ => {
                self.data_messages += 1;
                let amf0 = payload.strip_prefix(&[0]).unwrap_or(payload);
                if amf0.starts_with(ON_METADATA) {
                    self.metadata.get_or_insert(now);
                }
            }
        }
    }

    fn note_video(&mut self, timestamp: u32, payload: &[u8], now: Time) {
        let Ok(tag) = media::classify_video(payload) else {
            self.unreadable += 1;
            return;
        };
        if !self.video.has(&tag.tracks) {
            return;
        }
        let is_keyframe = tag.class == VideoClass::Keyframe;
        let is_frame =
            is_keyframe || matches!(tag.class, VideoClass::Inter | VideoClass::Disposable);
        if tag.class == VideoClass::SequenceHeader || is_keyframe && !self.video.is_described {
            self.describe_video(payload, is_frame);
        }
        if !is_frame {
            return;
        }
        if is_keyframe {
            self.first_keyframe.get_or_insert(now);
            self.begin_gop(timestamp, now);
        }
        if let Some((_, frames)) = &mut self.gop {
            *frames += 1;
        }
        self.video.note_frame(timestamp, payload.len() as u64, now);
        self.note_skew();
    }

    fn begin_gop(&mut self, timestamp: u32, now: Time) {
        self.keyframes += 1;
        if let Some((began, frames)) = self.gop.replace((timestamp, 0)) {
            let length_us = u64::from(timestamp.wrapping_sub(began)) * 1000;
            self.gops.record(now.since(self.opened), length_us);
            self.gop_frames = Some(frames);
        }
    }

    fn note_audio(&mut self, timestamp: u32, payload: &[u8], now: Time) {
        let Ok(tag) = media::classify_audio(payload) else {
            self.unreadable += 1;
            return;
        };
        if !self.audio.has(&tag.tracks) {
            return;
        }
        let is_frame = matches!(tag.class, AudioClass::Frame);
        let is_header = tag.class == AudioClass::SequenceHeader;
        if is_header || is_frame && !self.audio.is_described {
            self.describe_audio(payload, is_frame);
        }
        if is_frame {
            self.first_audio.get_or_insert(now);
            self.audio.note_frame(timestamp, payload.len() as u64, now);
            self.note_skew();
        }
    }

    fn note_skew(&mut self) {
        if let (Some(video), Some(audio)) = (self.video.newest, self.audio.newest) {
            let last_ms = video.timestamp.wrapping_sub(audio.timestamp) as i32;
            let max_ms = self.skew.map_or(last_ms, |(_, max_ms)| max_ms);
            let is_furthest = last_ms.unsigned_abs() > max_ms.unsigned_abs();
            self.skew = Some((last_ms, if is_furthest { last_ms } else { max_ms }));
        }
    }

    fn describe_video(&mut self, payload: &[u8], is_frame: bool) {
        let Track { id, facts, is_described, .. } = &mut self.video;
        media::for_each_video_track(payload, |track| {
            if Some(track.track) == *id && track.codec != VideoCodec::Unnamed {
                *is_described = codec::learn_video(facts, &track, is_frame);
            }
        });
    }

    fn describe_audio(&mut self, payload: &[u8], is_frame: bool) {
        let tag_head = payload.first().copied().unwrap_or_default();
        let Track { id, facts, is_described, .. } = &mut self.audio;
        media::for_each_audio_track(payload, |track| {
            if Some(track.track) == *id && track.codec != AudioCodec::Unnamed {
                *is_described = codec::learn_audio(facts, tag_head, &track, is_frame);
            }
        });
    }

    /// Adds all results.
    pub(super) fn add_to(self, report: &mut LoadReport) {
        for (name, at) in [
            ("first_media_ms", self.first_media),
            ("metadata_ms", self.metadata),
            ("first_keyframe_ms", self.first_keyframe),
            ("first_audio_ms", self.first_audio),
        ] {
            report.add_figure(match at {
                Some(at) => {
                    let took = at.since(self.opened).as_secs_f64() * 1000.0;
                    Figure::new(name, took)
                }
                None => Figure::withheld(name, "it did not arrive"),
            });
        }
        let further = self.video.further() + self.audio.further();
        for (name, count) in [
            ("received_bytes", self.bytes),
            ("video_keyframes", self.keyframes),
            ("data_messages", self.data_messages),
            ("unreadable_messages", self.unreadable),
            ("further_tracks", further),
        ] {
            report.add_figure(Figure::new(name, count as f64));
        }
        if let Some(frames) = self.gop_frames {
            report.add_figure(Figure::new("gop_frames", frames as f64));
        }
        if let Some((last_ms, max_ms)) = self.skew {
            report.add_figure(Figure::new("av_skew_ms", last_ms.into()));
            report.add_figure(Figure::new("av_skew_max_ms", max_ms.into()));
        }
        self.stalls.add_to(report, "stall");
        if let Some((codec, facts)) = &self.video.facts {
            let text = codec::describe_video(*codec, facts);
            report.findings.insert("video".to_owned(), text);
        }
        if let Some((codec, facts)) = &self.audio.facts {
            let text = codec::describe_audio(*codec, facts);
            report.findings.insert("audio".to_owned(), text);
        }
        let video = self.video.add_to(report);
        let audio = self.audio.add_to(report);
        if let Some(playback) = video.or(audio) {
            playback.add_to(report);
        }
        if !self.gops.is_empty() {
            report.distributions.push(self.gops);
        }
    }
}

/// The AMF0 string with which metadata starts.
const ON_METADATA: &[u8] = b"\x02\x00\x0aonMetaData";

impl<Facts> Track<Facts> {
    fn new(name: &'static str, opened: Time) -> Self {
        Self {
            name,
            opened,
            id: None,
            all: Tracks::NONE,
            facts: None,
            is_described: false,
            frames: 0,
            newest: None,
            steps: 0,
            steps_ms: 0,
            steps_bytes: 0,
            back: 0,
            gaps: Gaps::default(),
            live: None,
            ended: None,
            jitter: Distribution::new(&format!("{name}_jitter")),
            playback: Playback::new(opened),
        }
    }

    /// Returns whether a message belongs to the measured track, the first one received.
    fn has(&mut self, tracks: &Tracks) -> bool {
        self.all = self.all.union(tracks);
        if self.id.is_none() {
            self.id = tracks.first();
        }
        self.id.is_some_and(|id| tracks.contains(id))
    }

    /// Returns the number of tracks of this kind that are not measured.
    fn further(&self) -> u64 {
        self.all.iter().count().saturating_sub(1) as u64
    }

    fn note_frame(&mut self, timestamp: u32, bytes: u64, now: Time) {
        self.frames += 1;
        self.playback.note(timestamp, now);
        let Some(last) = self.newest.replace(Newest { timestamp, arrived: now, bytes }) else {
            return;
        };
        let step_ms = i64::from(timestamp.wrapping_sub(last.timestamp) as i32);
        let took = now.since(last.arrived);
        self.note_live(step_ms, last.arrived, bytes, now);
        let Ok(step_ms) = u64::try_from(step_ms) else {
            self.back += 1;
            return;
        };
        self.gaps.note(step_ms);
        if step_ms > GAP_MS {
            return;
        }
        self.steps += 1;
        self.steps_ms += step_ms;
        self.steps_bytes += last.bytes;
        if self.live.is_some() {
            let jitter_us = took.abs_diff(Duration::from_millis(step_ms)).as_micros() as u64;
            self.jitter.record(now.since(self.opened), jitter_us);
        }
    }

    /// Counts a frame for the rates by arrival. After a backlog frames arrive faster than they were
    /// made. The first frame that takes at least half of its timestamp step shows that the backlog
    /// is over. Before that, rates and jitter would only measure the backlog.
    fn note_live(&mut self, step_ms: i64, last_arrived: Time, bytes: u64, now: Time) {
        let is_step = (0..=GAP_MS as i64).contains(&step_ms);
        let took_ms = now.since(last_arrived).as_secs_f64() * 1000.0;
        if is_step && 2.0 * took_ms >= step_ms as f64 {
            self.live.get_or_insert(Live { from: last_arrived, frames: 0, bytes: 0 });
        }
        if let Some(live) = &mut self.live {
            live.frames += 1;
            live.bytes += bytes;
        }
    }

    fn end(&mut self, now: Time) {
        self.ended = Some(now);
        self.playback.end(now);
    }

    /// Adds the figures, and returns the playback of a track that has frames.
    fn add_to(self, report: &mut LoadReport) -> Option<Playback> {
        let Self { name, frames, .. } = self;
        let mut add = |what: &str, value: f64| {
            report.add_figure(Figure::new(&format!("{name}_{what}"), value));
        };
        add("frames", frames as f64);
        if frames == 0 {
            return None;
        }
        add("timestamps_back", self.back as f64);
        let nominal = |count: u64| count as f64 * 1000.0 / self.steps_ms as f64;
        add("nominal_frames_per_s", nominal(self.steps));
        add("nominal_bits_per_s", nominal(8 * self.steps_bytes));
        for (what, rate) in self.rates() {
            let name = format!("{name}_{what}");
            report.add_figure(match rate {
                Some(rate) => Figure::new(&name, rate),
                None => Figure::withheld(&name, ONLY_CACHED),
            });
        }
        self.gaps.add_to(report, &format!("{name}_gap"));
        report.distributions.push(self.jitter);
        Some(self.playback)
    }

    /// Returns the rates by arrival, if frames arrived as they were made.
    fn rates(&self) -> [(&'static str, Option<f64>); 2] {
        let until = self.ended.or_else(|| self.newest.map(|newest| newest.arrived));
        let live = self.live.zip(until);
        let rate = |count: fn(&Live) -> u64| {
            live.map(|(live, until)| count(&live) as f64 / until.since(live.from).as_secs_f64())
        };
        [("frames_per_s", rate(|live| live.frames)), ("bits_per_s", rate(|live| 8 * live.bytes))]
    }
}

const ONLY_CACHED: &str = "all frames came from the cache of the server";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::manifest::Manifest;
    use crate::media::MediaKind;
    use crate::media::flv::FlvReader;
    use crate::rtmp::message::MessageHeader;

    const FILE: &[u8] = include_bytes!("../../tests/vectors/ffmpeg5_h264_aac.flv");
    const BEGAN: Time = Time::from_micros(5_000_000);

    fn at(millis: u64) -> Time {
        BEGAN.plus_millis(millis)
    }

    fn note(observer: &mut Observer, arrived_ms: u64, kind: u8, timestamp: u32, payload: &[u8]) {
        let header = MessageHeader { chunk_stream_id: 4, timestamp, kind, message_stream_id: 1 };
        observer.note(Message { header, payload }, at(arrived_ms));
    }

    fn report(mut observer: Observer, end_ms: u64) -> LoadReport {
        observer.end(at(end_ms));
        let mut report = LoadReport::new("play", Manifest::new("rtmp://h/a/k", BTreeMap::new()));
        observer.add_to(&mut report);
        report
    }

    #[track_caller]
    fn expect(report: &LoadReport, figures: &[(&str, f64)]) {
        for (name, value) in figures {
            let figure = report.figure(name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(figure.value, Some(*value), "{name}");
        }
    }

    const HEALTHY: &str = "healthy: a player with a buffer of 1000 ms does not stall";
    const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 0x65];
    const INTER_FRAME: &[u8] = &[0x27, 1, 0, 0, 0, 0x41];
    const AUDIO_FRAME: &[u8] = &[0xaf, 1, 0x21];

    #[test]
    fn stream_of_a_file_is_described() {
        let mut observer = Observer::new(BEGAN);
        let mut reader = FlvReader::new(FILE).unwrap();
        while let Some(tag) = reader.next_tag().unwrap() {
            let kind = match tag.media {
                MediaKind::Audio => kind::AUDIO,
                MediaKind::Video => kind::VIDEO,
                MediaKind::Data => kind::DATA_AMF0,
            };
            let arrived_ms = 7 + u64::from(tag.timestamp);
            note(&mut observer, arrived_ms, kind, tag.timestamp, tag.payload);
        }
        let report = report(observer, 2000);
        assert_eq!(report.findings["video"], "H.264 High 1.0 160x120");
        assert_eq!(report.findings["audio"], "AAC LC 48 kHz mono");
        expect(
            &report,
            &[
                ("first_media_ms", 7.0),
                ("metadata_ms", 7.0),
                ("first_keyframe_ms", 28.0),
                ("video_frames", 30.0),
                ("video_keyframes", 2.0),
                ("gop_frames", 15.0),
                ("audio_frames", 95.0),
                ("data_messages", 1.0),
                ("video_timestamps_back", 0.0),
                ("video_gaps", 0.0),
                ("stalls", 0.0),
                ("further_tracks", 0.0),
                ("gop_p50_ms", 1000.447),
                ("video_jitter_max_ms", 0.0),
                ("audio_jitter_max_ms", 0.0),
            ],
        );
        let fps = report.figure("video_nominal_frames_per_s").unwrap().value.unwrap();
        assert!((14.9..15.1).contains(&fps), "{fps}");
        assert_eq!(report.findings["health"], HEALTHY);
    }

    #[test]
    fn timing_faults_of_a_stream_are_counted() {
        let mut observer = Observer::new(BEGAN);
        for (arrived_ms, timestamp) in [
            (100, 0),
            // On time, 10 ms late, 10 ms early.
            (140, 40),
            (190, 80),
            (220, 120),
            // A timestamp that goes back, a gap, and a stall.
            (260, 100),
            (300, 2100),
            (1800, 2140),
        ] {
            note(&mut observer, arrived_ms, kind::VIDEO, timestamp, INTER_FRAME);
        }
        let growing = [("stalls", 1.0), ("stall_max_ms", 1500.0)];
        assert_eq!(observer.growing(), growing.map(|(name, value)| (name.to_owned(), value)));
        let report = report(observer, 3000);
        expect(
            &report,
            &[
                ("video_frames", 7.0),
                ("video_timestamps_back", 1.0),
                ("video_gaps", 1.0),
                ("video_gap_max_ms", 2000.0),
                ("stalls", 2.0),
                ("stall_max_ms", 1500.0),
                ("video_nominal_frames_per_s", 25.0),
                // Six frames after the first, in 2.9 s.
                ("video_frames_per_s", 6.0 / 2.9),
                ("video_bits_per_s", 8.0 * 6.0 * 6.0 / 2.9),
            ],
        );
        let jitter = report.distributions[0].histogram();
        let of = |us: u64| jitter.count_between(us - 5, us + 5);
        assert_eq!((jitter.len(), jitter.count_at(0), of(10_000), of(1_460_000)), (4, 1, 2, 1));
        assert_eq!(report.figure("first_keyframe_ms").unwrap().value, None);
    }

    #[test]
    fn a_player_at_a_third_of_the_bandwidth_is_slow_by_arrival_and_unhealthy() {
        let mut observer = Observer::new(BEGAN);
        for n in 0..=80 {
            note(&mut observer, 120 * n, kind::VIDEO, 40 * n as u32, INTER_FRAME);
        }
        let report = report(observer, 120 * 80);
        let figures = [
            ("video_nominal_frames_per_s", 25.0),
            ("video_frames_per_s", 80.0 / 9.6),
            ("behind_ms", 6400.0),
        ];
        expect(&report, &figures);
        assert!(report.findings["health"].starts_with("unhealthy: "), "{:?}", report.findings);
    }

    #[test]
    fn frames_that_a_server_had_kept_have_no_rate_by_arrival() {
        let mut observer = Observer::new(BEGAN);
        for timestamp in [0, 40, 80] {
            note(&mut observer, 5, kind::VIDEO, timestamp, INTER_FRAME);
        }
        let report = report(observer, 100);
        assert_eq!(report.figure("video_frames_per_s").unwrap().value, None);
        expect(&report, &[("video_nominal_frames_per_s", 25.0)]);
    }

    #[test]
    fn what_a_server_had_kept_is_no_jitter() {
        let mut observer = Observer::new(BEGAN);
        for timestamp in [0, 40, 80, 120] {
            note(&mut observer, 5, kind::VIDEO, timestamp, INTER_FRAME);
        }
        note(&mut observer, 30, kind::VIDEO, 160, INTER_FRAME);
        note(&mut observer, 70, kind::VIDEO, 200, INTER_FRAME);
        let report = report(observer, 100);
        assert_eq!(report.distributions[0].histogram().len(), 2);
        expect(&report, &[("video_jitter_max_ms", 15.007)]);
    }

    #[test]
    fn skew_is_that_of_the_newest_frames_and_its_maximum() {
        let mut observer = Observer::new(BEGAN);
        note(&mut observer, 0, kind::VIDEO, u32::MAX, KEYFRAME);
        note(&mut observer, 0, kind::AUDIO, u32::MAX - 80, AUDIO_FRAME);
        note(&mut observer, 0, kind::AUDIO, 19, AUDIO_FRAME);
        expect(&report(observer, 0), &[("av_skew_ms", -20.0), ("av_skew_max_ms", 80.0)]);
    }

    #[test]
    fn parts_of_an_aggregate_count_as_messages_and_unreadable_ones_as_such() {
        let mut observer = Observer::new(BEGAN);
        let part = |kind: u8, payload: &[u8]| {
            let head = [kind, 0, 0, payload.len() as u8, 0, 0, 9, 0, 0, 0, 0];
            [&head, payload, &[0; 4]].concat()
        };
        let aggregate = [part(kind::VIDEO, KEYFRAME), part(kind::AUDIO, AUDIO_FRAME)].concat();
        note(&mut observer, 1, kind::AGGREGATE, 500, &aggregate);
        note(&mut observer, 2, kind::VIDEO, 540, &[]);
        let figures = [("video_frames", 1.0), ("audio_frames", 1.0), ("unreadable_messages", 1.0)];
        expect(&report(observer, 2), &figures);
    }

    #[test]
    fn further_tracks_are_counted_but_not_measured() {
        let mut observer = Observer::new(BEGAN);
        // Enhanced RTMP: one track of several, with its id after the codec.
        let track = |id: u8| [0x96, 0x01, b'a', b'v', b'c', b'1', id, 0, 0, 0, 0x65];
        for (timestamp, id) in [(0, 3), (7, 4), (40, 3), (47, 4)] {
            note(&mut observer, 0, kind::VIDEO, timestamp, &track(id));
        }
        let figures =
            [("video_frames", 2.0), ("further_tracks", 1.0), ("video_nominal_frames_per_s", 25.0)];
        expect(&report(observer, 0), &figures);
    }
}
