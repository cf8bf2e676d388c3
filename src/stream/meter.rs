//! The measurements of a published stream: what its encoder announces, and what it really sends.
//!
//! Measures with a few instructions per frame, in memory of a fixed size that is allocated at
//! publish. Formats the measurements for the log line that ends a publish. Never judges a stream
//! and never changes one. Bytes and stalls are measured by arrival time, everything else by the
//! timestamps that players receive.

use super::bitrate_history::BitrateHistory;
use super::frame::{Needs, Recording, Unit};
use super::keyframes::Unmarked;
use crate::media::codec::{self, AudioFacts, VideoFacts};
use crate::media::{self, AudioCodec, MediaKind, Tracks, VideoCodec};
use crate::rtmp::quirks::Repairs;
use crate::time::Time;
use std::fmt;

/// Window of the peak bitrate (µs). With GOPs of a second, a keyframe is not a peak.
const WINDOW_MICROS: u64 = 1_000_000;
/// The shortest time without a frame that is a gap, by timestamps, or a stall, by arrival (ms).
const GAP_MS: u64 = 1000;

/// The measurements of a published stream.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How long it has been published (ms).
    pub duration_ms: u64,
    /// The codec of the first video track, and the facts in its configuration.
    pub video: Option<(VideoCodec, VideoFacts)>,
    /// The codec of the first audio track, and the facts in its configuration.
    pub audio: Option<(AudioCodec, AudioFacts)>,
    /// Number of video and audio tracks in addition to those two.
    pub further_tracks: usize,
    /// Frame rate of the first video track (pictures in a thousand seconds), if there were enough
    /// pictures.
    pub frame_rate_millihertz: Option<u64>,
    /// Mean and peak bitrate (bit/s).
    pub bitrate: Option<(u64, u64)>,
    /// Lengths of the completed GOPs of the first video track.
    pub gops: Option<Gops>,
    /// What a search found in pictures that the encoder does not mark as keyframes.
    pub unmarked: Option<Unmarked>,
    /// GOPs that were too large to be kept for late players.
    pub gops_cut: u32,
    /// Headers that late players did not get, because they were too large or too many.
    pub headers_left_out: u32,
    /// How far audio is behind video.
    pub skew: Option<Skew>,
    /// Gaps in the timestamps.
    pub gaps: Holes,
    /// Times without any arrival.
    pub stalls: Holes,
    /// Repairs to the timestamps.
    pub repairs: Repairs,
    /// Payload bytes received.
    pub bytes: u64,
}

/// Lengths of GOPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gops {
    /// The last GOP.
    pub last: Gop,
    /// The shortest and the longest (ms).
    pub range_ms: (u32, u32),
}

/// The length of a GOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gop {
    /// From keyframe to keyframe (ms).
    pub ms: u32,
    /// Frames, including the first keyframe.
    pub frames: u32,
}

/// How far the newest audio is behind the newest video (ms); negative is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// The last value.
    pub last_ms: i32,
    /// The value furthest from 0.
    pub max_ms: i32,
}

/// Gaps or stalls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holes {
    /// The number of them.
    pub count: u32,
    /// The longest (ms).
    pub max_ms: u64,
}

impl Holes {
    fn note(&mut self, ms: u64) {
        self.count = self.count.saturating_add(1);
        self.max_ms = self.max_ms.max(ms);
    }
}

/// Measures a stream while it is published.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Time,
    arrived: Time,
    bytes: u64,
    window: (Time, u64),
    history: BitrateHistory,
    peak_bitrate: u64,
    /// The newest timestamp of the first video and audio track.
    newest: Option<u32>,
    /// The last increase of that timestamp (ms), which is the rhythm of the stream.
    step_ms: Option<u64>,
    video: Track<(VideoCodec, VideoFacts)>,
    audio: Track<(AudioCodec, AudioFacts)>,
    /// The newest access unit of video, and whether a message of it is marked as a keyframe.
    unit: Option<(Unit, bool)>,
    /// Pictures that follow another without a gap, and the sum of their durations (ms).
    pictures: (u64, u64),
    /// Start of the current GOP (timestamp), and its frames.
    gop: Option<(u32, u32)>,
    gops: Option<Gops>,
    unmarked: Option<Unmarked>,
    gops_cut: u32,
    headers_left_out: u32,
    skew: Option<Skew>,
    gaps: Holes,
    stalls: Holes,
}

/// The first track of one medium.
#[derive(Debug)]
struct Track<Facts> {
    /// The id. `None` before the first message.
    id: Option<u8>,
    /// All tracks of the medium so far.
    all: Tracks,
    facts: Option<Facts>,
    /// Whether the facts are complete, so that frames need not be parsed for them.
    is_described: bool,
    newest: Option<u32>,
}

impl<Facts> Track<Facts> {
    const UNHEARD: Self =
        Self { id: None, all: Tracks::NONE, facts: None, is_described: false, newest: None };

    /// Notes the tracks of a message. Returns whether the first track of the medium is among them.
    fn note_tracks(&mut self, tracks: &Tracks) -> bool {
        if self.id == Some(0) && *tracks == Tracks::DEFAULT {
            return true;
        }
        self.all = self.all.union(tracks);
        if self.id.is_none() {
            self.id = tracks.first();
        }
        self.id.is_some_and(|id| tracks.contains(id))
    }
}

impl Meter {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            began: now,
            arrived: now,
            bytes: 0,
            window: (now, 0),
            history: BitrateHistory::new(now),
            peak_bitrate: 0,
            newest: None,
            step_ms: None,
            video: Track::UNHEARD,
            audio: Track::UNHEARD,
            unit: None,
            pictures: (0, 0),
            gop: None,
            gops: None,
            unmarked: None,
            gops_cut: 0,
            headers_left_out: 0,
            skew: None,
            gaps: Holes::default(),
            stalls: Holes::default(),
        }
    }

    /// Notes a message.
    pub(crate) fn note(&mut self, message: &Recording<'_>, now: Time) {
        self.note_arrival(message.payload.len() as u64, now);
        match message.media {
            MediaKind::Audio if self.audio.note_tracks(&message.tracks) => {
                if !message.is_frame || !self.audio.is_described {
                    self.describe_audio(message.payload, message.is_frame);
                }
                if message.is_frame {
                    self.audio.newest = Some(message.timestamp);
                    self.note_time(message.timestamp);
                }
            }
            MediaKind::Video if self.video.note_tracks(&message.tracks) => {
                let is_keyframe = message.needs == Needs::StartsGop;
                if !message.is_frame || is_keyframe && !self.video.is_described {
                    self.describe_video(message.payload, message.is_frame);
                }
                if message.is_frame {
                    self.note_picture(message.unit(), is_keyframe);
                    self.note_time(message.timestamp);
                }
            }
            _ => {}
        }
    }

    /// Returns the bitrates of the last minutes, the oldest first (bit/s).
    pub(crate) fn bitrates(&self, now: Time) -> Vec<u64> {
        self.history.bitrates(now)
    }

    /// Notes that the encoder does not mark its keyframes.
    pub(crate) const fn note_unmarked(&mut self, unmarked: Unmarked) {
        self.unmarked = Some(unmarked);
    }

    /// Notes a GOP that was too large to be kept. Returns true for the first one.
    pub(crate) const fn note_cut_gop(&mut self) -> bool {
        self.gops_cut = self.gops_cut.saturating_add(1);
        self.gops_cut == 1
    }

    /// Notes a header that late players do not get. Returns true for the first one.
    pub(crate) const fn note_left_out_header(&mut self) -> bool {
        self.headers_left_out = self.headers_left_out.saturating_add(1);
        self.headers_left_out == 1
    }

    /// Returns the measurements so far.
    pub(crate) fn report(&self, repairs: Repairs, now: Time) -> Report {
        let (pictures, pictures_ms) = self.pictures;
        let duration_ms = now.millis_since(self.began);
        let mean = (self.bytes * 8_000).checked_div(duration_ms);
        let mean = mean.filter(|_| duration_ms * 1000 >= WINDOW_MICROS);
        let tracks = self.video.all.iter().count().saturating_sub(1)
            + self.audio.all.iter().count().saturating_sub(1);
        Report {
            duration_ms,
            video: self.video.facts,
            audio: self.audio.facts,
            further_tracks: tracks,
            frame_rate_millihertz: (pictures * 1_000_000).checked_div(pictures_ms),
            bitrate: mean.map(|mean| (mean, self.peak_bitrate.max(mean))),
            gops: self.gops,
            unmarked: self.unmarked,
            gops_cut: self.gops_cut,
            headers_left_out: self.headers_left_out,
            skew: self.skew,
            gaps: self.gaps,
            stalls: self.stalls,
            repairs,
            bytes: self.bytes,
        }
    }

    fn note_arrival(&mut self, bytes: u64, now: Time) {
        let silent_ms = now.millis_since(self.arrived);
        if self.is_hole(silent_ms) {
            self.stalls.note(silent_ms);
        }
        self.arrived = now;
        let (began, in_window) = self.window;
        let micros = now.as_micros() - began.as_micros();
        if micros >= WINDOW_MICROS {
            self.peak_bitrate = self.peak_bitrate.max(in_window * 8_000_000 / micros);
            self.window = (now, bytes);
        } else {
            self.window.1 += bytes;
        }
        self.bytes += bytes;
        self.history.note(bytes, now);
    }

    /// Returns whether a time without frames is a gap or a stall. It must be longer than the rhythm
    /// explains: a picture every second, or every ten seconds, is a rhythm.
    fn is_hole(&self, ms: u64) -> bool {
        self.step_ms.is_some_and(|step_ms| ms > GAP_MS.max(2 * step_ms))
    }

    /// Notes a message with a picture or with a part of one. A picture is an access unit.
    fn note_picture(&mut self, unit: Unit, is_keyframe: bool) {
        let (newest, was_key) = self.unit.unzip();
        let continues = newest == Some(unit);
        let was_key = continues && was_key == Some(true);
        self.unit = Some((unit, was_key || is_keyframe));
        let timestamp = unit.timestamp;
        if !continues {
            self.note_frame_step(timestamp);
        }
        if is_keyframe && !was_key {
            if let Some((began, frames)) = self.gop {
                // Earlier messages of this picture were counted as part of the previous GOP.
                let frames = frames - u32::from(continues);
                let ms = timestamp.wrapping_sub(began);
                let (min, max) = self.gops.map_or((ms, ms), |gops| gops.range_ms);
                let range_ms = (min.min(ms), max.max(ms));
                self.gops = Some(Gops { last: Gop { ms, frames }, range_ms });
            }
            self.gop = Some((timestamp, u32::from(continues)));
        }
        if let Some((_, frames)) = self.gop.as_mut().filter(|_| !continues) {
            *frames = frames.saturating_add(1);
        }
    }

    fn note_frame_step(&mut self, timestamp: u32) {
        if let Some(last) = self.video.newest.replace(timestamp) {
            let step_ms = u64::from(timestamp.wrapping_sub(last));
            if step_ms <= GAP_MS || self.step_ms.is_some() && !self.is_hole(step_ms) {
                self.pictures = (self.pictures.0 + 1, self.pictures.1 + step_ms);
            }
        }
    }

    fn note_time(&mut self, timestamp: u32) {
        let step = timestamp.wrapping_sub(self.newest.unwrap_or(timestamp)) as i32;
        if step >= 0 {
            self.newest = Some(timestamp);
        }
        // Messages with the same timestamp, such as the slices of a picture, are not a step.
        if let Ok(step_ms @ 1..) = u64::try_from(step) {
            if self.is_hole(step_ms) {
                self.gaps.note(step_ms);
            }
            self.step_ms = Some(step_ms);
        }
        if let (Some(video), Some(audio)) = (self.video.newest, self.audio.newest) {
            let last_ms = video.wrapping_sub(audio) as i32;
            let max_ms = self.skew.map_or(last_ms, |skew| skew.max_ms);
            let is_furthest = last_ms.unsigned_abs() > max_ms.unsigned_abs();
            let max_ms = if is_furthest { last_ms } else { max_ms };
            self.skew = Some(Skew { last_ms, max_ms });
        }
    }

    /// Reads the facts in a configuration, or in a keyframe of a codec that has more facts there.
    #[cold]
    fn describe_video(&mut self, payload: &[u8], is_frame: bool) {
        let Track { id, facts, is_described, .. } = &mut self.video;
        media::for_each_video_track(payload, |track| {
            if Some(track.track) == *id && track.codec != VideoCodec::Unnamed {
                *is_described = codec::learn_video(facts, &track, is_frame);
            }
        });
    }

    /// Reads the facts in a configuration, or in a frame for codecs without a configuration.
    #[cold]
    fn describe_audio(&mut self, payload: &[u8], is_frame: bool) {
        let tag_head = payload.first().copied().unwrap_or_default();
        let Track { id, facts, is_described, .. } = &mut self.audio;
        media::for_each_audio_track(payload, |track| {
            if Some(track.track) == *id && track.codec != AudioCodec::Unnamed {
                *is_described = codec::learn_audio(facts, tag_head, &track, is_frame);
            }
        });
    }
}

/// As in `1 h 2 min: H.264 High 4.1 1920x1080 30 fps, AAC LC 48 kHz stereo, 4.5 Mbit/s (peak 6.1)`.
/// Unknown facts and events that did not happen are left out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_duration(f, self.duration_ms)?;
        let mut separator = ": ";
        let mut part = |text: String| {
            let before = std::mem::replace(&mut separator, ", ");
            if text.is_empty() { Ok(()) } else { write!(f, "{before}{text}") }
        };
        if let Some((codec, facts)) = &self.video {
            part(video_text(*codec, facts, self.frame_rate_millihertz))?;
        }
        if let Some((codec, facts)) = &self.audio {
            part(codec::describe_audio(*codec, facts))?;
        }
        match self.further_tracks {
            0 => {}
            1 => part("1 further track".to_owned())?,
            tracks => part(format!("{tracks} further tracks"))?,
        }
        if let Some((mean, peak)) = self.bitrate {
            part(bitrate_text(mean, peak))?;
        }
        if let Some(gops) = &self.gops {
            part(gops.to_string())?;
        }
        match self.gops_cut {
            0 => {}
            1 => part("1 GOP too large to be kept".to_owned())?,
            count => part(format!("{count} GOPs too large to be kept"))?,
        }
        match self.headers_left_out {
            0 => {}
            1 => part("1 header too many or too large".to_owned())?,
            count => part(format!("{count} headers too many or too large"))?,
        }
        if let Some(skew) = self.skew.filter(|skew| skew.max_ms != 0) {
            part(skew.to_string())?;
        }
        if !self.repairs.is_empty() {
            part(self.repairs.to_string())?;
        }
        for (holes, name) in [(&self.gaps, "gap"), (&self.stalls, "stall")] {
            match holes.count {
                0 => {}
                1 => part(format!("1 {name} of {} s", tenths(holes.max_ms)))?,
                count => part(format!("{count} {name}s of up to {} s", tenths(holes.max_ms)))?,
            }
        }
        Ok(())
    }
}

fn video_text(codec: VideoCodec, facts: &VideoFacts, measured: Option<u64>) -> String {
    let text = codec::describe_video(codec, facts);
    let stated = facts.frame_rate.map(|rate| u64::from(rate.millihertz));
    // Timestamps are whole milliseconds, and encoders drop a frame now and then.
    let agrees = |(stated, measured): (u64, u64)| stated.abs_diff(measured) * 50 <= stated;
    match (facts.frame_rate, measured) {
        (Some(rate), Some(found)) if !stated.zip(measured).is_some_and(agrees) => {
            format!("{text} {rate} fps ({} measured)", tenths(found))
        }
        (Some(rate), _) => format!("{text} {rate} fps"),
        (None, Some(found)) => format!("{text} {} fps", tenths(found)),
        (None, None) => text,
    }
}

fn bitrate_text(mean: u64, peak: u64) -> String {
    let (unit, name) = if mean >= 1_000_000 { (1_000_000, "Mbit/s") } else { (1000, "kbit/s") };
    let scaled = |bits: u64| if unit == 1000 { bits / 1000 * 1000 } else { bits * 1000 / unit };
    let [mean, peak] = [mean, peak].map(|bits| tenths(scaled(bits)));
    if mean == peak { format!("{mean} {name}") } else { format!("{mean} {name} (peak {peak})") }
}

/// As in `GOP 2 s (60 frames, 0.5 to 2.1 s)`.
impl fmt::Display for Gops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gop { ms, frames } = self.last;
        let [ms, min, max] = [ms, self.range_ms.0, self.range_ms.1].map(|ms| tenths(ms.into()));
        write!(f, "GOP {ms} s ({frames} frame{}", if frames == 1 { "" } else { "s" })?;
        if min != max { write!(f, ", {min} to {max} s)") } else { f.write_str(")") }
    }
}

/// As in `audio 12 ms behind video (at most 40)`.
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = |ms: i32| if ms < 0 { "ahead of" } else { "behind" };
        let Self { last_ms, max_ms } = *self;
        write!(f, "audio {} ms {} video", last_ms.unsigned_abs(), direction(last_ms))?;
        match max_ms.unsigned_abs() {
            furthest if furthest == last_ms.unsigned_abs() => Ok(()),
            furthest if (max_ms < 0) == (last_ms < 0) => write!(f, " (at most {furthest})"),
            furthest => write!(f, " (at most {furthest} {} it)", direction(max_ms)),
        }
    }
}

/// Formats thousandths as `2.5`, or as `2` if the tenths are 0.
fn tenths(thousandths: u64) -> String {
    let tenths = (thousandths + 50) / 100;
    match tenths % 10 {
        0 => format!("{}", tenths / 10),
        rest => format!("{}.{rest}", tenths / 10),
    }
}

fn write_duration(f: &mut fmt::Formatter<'_>, ms: u64) -> fmt::Result {
    let minutes = ms / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => write!(f, "{} s", tenths(ms)),
        (0, minutes) => write!(f, "{minutes} min {} s", ms / 1000 % 60),
        (hours, minutes) => write!(f, "{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::quirks::Repair;

    fn at(millis: u64) -> Time {
        Time::ZERO.plus_millis(millis)
    }

    /// A message of track 0 with this payload.
    fn message(media: MediaKind, needs: Needs, timestamp: u32, payload: &[u8]) -> Recording<'_> {
        let (tracks, header, is_frame) = (Tracks::DEFAULT, None, true);
        let (sent, codec) = (timestamp, None);
        Recording { media, tracks, codec, needs, header, is_frame, sent, timestamp, payload }
    }

    const AVC: &[u8] = &[0x27, 1, 0, 0, 0, 0x41];
    const AAC: &[u8] = &[0xaf, 1, 0x21];

    fn picture(timestamp: u32) -> Recording<'static> {
        message(MediaKind::Video, Needs::Gop, timestamp, AVC)
    }

    fn keyframe(timestamp: u32) -> Recording<'static> {
        message(MediaKind::Video, Needs::StartsGop, timestamp, AVC)
    }

    fn sound(timestamp: u32) -> Recording<'static> {
        message(MediaKind::Audio, Needs::Nothing, timestamp, AAC)
    }

    /// Returns the report after messages that arrive at these times (ms).
    fn measured(messages: &[(u64, Recording<'_>)], end_ms: u64) -> Report {
        let mut meter = Meter::new(at(0));
        messages.iter().for_each(|(ms, message)| meter.note(message, at(*ms)));
        meter.report(Repairs::default(), at(end_ms))
    }

    #[test]
    fn gops_are_measured_from_keyframe_to_keyframe() {
        let begin = u32::MAX - 999;
        let frames: Vec<_> = (0..76)
            .map(|index: u32| {
                let timestamp = begin.wrapping_add(index * 40);
                let is_key = [0, 50, 60, 75].contains(&index);
                (0, if is_key { keyframe(timestamp) } else { picture(timestamp) })
            })
            .collect();
        assert_eq!(measured(&frames[..50], 0).gops, None, "the first one goes on");
        let last = Gop { ms: 600, frames: 15 };
        let report = measured(&frames, 0);
        assert_eq!(report.gops, Some(Gops { last, range_ms: (400, 2000) }));
        assert_eq!(report.frame_rate_millihertz, Some(25_000));
        assert_eq!(report.gops.unwrap().to_string(), "GOP 0.6 s (15 frames, 0.4 to 2 s)");
    }

    #[test]
    fn a_picture_in_several_messages_is_one_frame() {
        // The slices that are marked as a keyframe: all, the first, the last.
        for marked in [[true; 3], [true, false, false], [false, false, true]] {
            let mut messages = Vec::new();
            for index in 0..51 {
                let slice = |is_marked| match is_marked && index % 25 == 0 {
                    true => keyframe(index * 40),
                    false => picture(index * 40),
                };
                messages.extend(marked.map(|is_marked| (0, slice(is_marked))));
            }
            let report = measured(&messages, 0);
            assert_eq!(report.frame_rate_millihertz, Some(25_000));
            let last = Gop { ms: 1000, frames: 25 };
            assert_eq!(report.gops, Some(Gops { last, range_ms: (1000, 1000) }), "{marked:?}");
        }
    }

    #[test]
    fn pictures_that_were_given_the_timestamp_of_the_one_before_are_frames() {
        // An encoder that sends presentation times. The server raises those that step back.
        let sent = [0, 120, 40, 80, 240, 160, 200, 360];
        let messages: Vec<_> = sent
            .iter()
            .scan(0, |newest, &sent| {
                *newest = sent.max(*newest);
                Some((0, Recording { sent, ..picture(*newest) }))
            })
            .collect();
        let report = measured(&messages, 0);
        assert_eq!(report.frame_rate_millihertz, Some(7 * 1_000_000 / 360));
    }

    #[test]
    fn skew_is_that_of_the_newest_frames_and_at_most() {
        for (times, last_ms, max_ms, said) in [
            (&[(100, 88)][..], 12, 12, "audio 12 ms behind video"),
            (&[(100, 60), (140, 128)], 12, 80, "audio 12 ms behind video (at most 80)"),
            (&[(100, 100), (140, 190)], -50, -50, "audio 50 ms ahead of video"),
            (&[(0, 40), (140, 130)], 10, 100, "audio 10 ms behind video (at most 100)"),
            (
                &[(0, 300), (330, 320)],
                10,
                -300,
                "audio 10 ms behind video (at most 300 ahead of it)",
            ),
        ] {
            let frames: Vec<_> = times
                .iter()
                .flat_map(|(video, audio)| [(0, picture(*video)), (0, sound(*audio))])
                .collect();
            let skew = measured(&frames, 0).skew.unwrap();
            assert_eq!((skew, skew.to_string().as_str()), (Skew { last_ms, max_ms }, said));
        }
        assert_eq!(measured(&[(0, picture(0))], 0).skew, None);
    }

    #[test]
    fn gaps_are_of_timestamps_and_stalls_of_arrival() {
        let times =
            [(0, 0), (999, 40), (2001, 80), (2002, 1081), (2003, 1000), (2004, 1121), (9000, 3480)];
        let frames = times.map(|(ms, timestamp)| (ms, picture(timestamp)));
        let report = measured(&frames, 20_000);
        assert_eq!(report.gaps, Holes { count: 2, max_ms: 2359 });
        assert_eq!(report.stalls, Holes { count: 2, max_ms: 6996 });
        assert_eq!(report.duration_ms, 20_000);
    }

    #[test]
    fn a_steady_rhythm_has_no_holes_however_slow_it_is() {
        for interval_ms in [500, 1000, 1001, 2000, 10_000] {
            // Each picture arrives in two messages, up to 40 ms late.
            let frames = (0..60).map(|index| {
                let ms = index / 2 * interval_ms;
                (ms + index / 2 % 3 * 20, picture(ms as u32))
            });
            let report = measured(&frames.collect::<Vec<_>>(), 30 * interval_ms);
            assert_eq!((report.gaps, report.stalls), Default::default(), "{interval_ms} ms");
            assert!(report.frame_rate_millihertz.is_some(), "{interval_ms} ms");
        }
    }

    #[test]
    fn a_slow_stream_that_stops_for_more_than_twice_its_rhythm_has_a_hole() {
        for (last_ms, count) in [(8000, 0), (8001, 1)] {
            let frames = [0, 2000, 4000, last_ms].map(|ms| (ms, picture(ms as u32)));
            let report = measured(&frames, 20_000);
            assert_eq!((report.gaps.count, report.stalls.count), (count, count), "{last_ms}");
        }
    }

    #[test]
    fn bitrate_is_the_mean_and_the_most_in_a_second() {
        let payload = [0x27; 1250];
        // 1250 bytes every 100 ms, and ten times as often in the third second.
        let frames: Vec<_> = (0..500)
            .filter(|index| index % 10 == 0 || (200..300).contains(index))
            .map(|index| {
                let ms = index * 10;
                (ms, message(MediaKind::Video, Needs::Gop, ms as u32, &payload))
            })
            .collect();
        assert_eq!(measured(&frames, 5000).bitrate, Some((280_000, 1_000_000)));
        assert_eq!(measured(&frames, 999).bitrate, None, "too short to tell");
    }

    #[test]
    fn further_tracks_are_counted_and_not_measured() {
        let second = Tracks::DEFAULT;
        let mut other = Vec::new();
        for track in [1, 2, 1] {
            let payload = [0x96, 0x01, b'h', b'v', b'c', b'1', track];
            other.push(media::classify_video(&payload).unwrap().tracks);
        }
        let mut meter = Meter::new(at(0));
        meter.note(&keyframe(0), at(0));
        for (index, tracks) in other.into_iter().chain([second]).enumerate() {
            let timestamp = 5000 * index as u32 % 14_999;
            meter.note(&Recording { tracks, ..keyframe(timestamp) }, at(0));
        }
        let report = meter.report(Repairs::default(), at(0));
        assert_eq!((report.further_tracks, report.gops.is_some()), (2, true));
        assert_eq!(report.gaps.count, 0, "those of other tracks are their own");
    }

    #[test]
    fn the_line_says_what_is_known_and_happened() {
        let mut report = Report { duration_ms: 3_725_000, ..Report::default() };
        assert_eq!(report.to_string(), "1 h 2 min");
        report.duration_ms = 125_900;
        report.video = Some((VideoCodec::Avc, VideoFacts::default()));
        report.frame_rate_millihertz = Some(29_970);
        assert_eq!(report.to_string(), "2 min 5 s: H.264 30 fps");
        report.audio = Some((
            AudioCodec::Opus,
            AudioFacts { sample_rate_hz: Some(44_100), channels: Some(6), ..AudioFacts::default() },
        ));
        report.further_tracks = 3;
        report.gops_cut = 2;
        report.bitrate = Some((4_520_000, 6_080_000));
        report.gaps.note(2340);
        report.stalls.note(1100);
        report.stalls.note(5000);
        report.repairs.note(Repair::Backward);
        report.duration_ms = 59_940;
        assert_eq!(
            report.to_string(),
            "59.9 s: H.264 30 fps, Opus 44.1 kHz 6 channels, 3 further tracks, \
             4.5 Mbit/s (peak 6.1), 2 GOPs too large to be kept, \
             1 backward timestamp, 1 gap of 2.3 s, 2 stalls of up to 5 s"
        );
    }

    #[test]
    fn bitrates_below_a_megabit_are_said_in_kilobits() {
        assert_eq!(bitrate_text(999_400, 1_500_000), "999 kbit/s (peak 1500)");
        assert_eq!(bitrate_text(96_300, 96_400), "96 kbit/s");
        assert_eq!(bitrate_text(1_000_000, 12_340_000), "1 Mbit/s (peak 12.3)");
    }
}
