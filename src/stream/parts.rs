//! The part log of a stream: its tape as partial segments for HLS, while somebody watches them.
//!
//! Owns the renditions of one run of a stream, one for each medium, and the position up to which
//! the tape is in them. Frames are copied once more, into parts that all players share. The log
//! never looks at players and never waits: a request for a part that does not exist yet is kept by
//! the control plane.
//!
//! The segments of the renditions end together, at a keyframe of the video.

use super::frame::HeaderKind;
use super::framing::{TapeMessage, timestamp_of_first};
use super::gauge::Gauge;
use super::gops::LOST;
use super::ids::Incarnation;
use super::meter::Report;
use super::rendition::{Pace, Rendition};
use super::tape::{Entry, Tape};
use crate::budget::Budget;
use crate::media::MediaKind;
use crate::media::fmp4::{SampleInfo, TrackConfig, sample_of};

/// Longest pause between two samples that a segment may have (target durations). After a longer one
/// the time of the segments begins again.
const PAUSE_TARGETS_MAX: u64 = 1;

/// The configurations of the first tracks of a stream, as far as MP4 carries them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrackConfigs {
    pub(crate) video: Option<TrackConfig>,
    pub(crate) audio: Option<TrackConfig>,
    /// Samples of sound in the newest frame; 0 if the configuration has the number.
    pub(crate) audio_samples: u32,
}

impl TrackConfigs {
    /// Reads the headers in force on a tape. Some codecs have their configuration in each frame.
    pub(crate) fn of(tape: &Tape) -> Self {
        let video = tape.header_payload(HeaderKind::VideoSequence);
        let mut video = video.and_then(|header| TrackConfig::from_video_header(header).ok());
        if let (Some(video), Some(keyframe)) = (&mut video, tape.start_payload()) {
            video.learn_size(&keyframe);
        }
        let frame = tape.newest_payload(MediaKind::Audio);
        let audio = tape.header_payload(HeaderKind::AudioSequence);
        let audio = audio.and_then(|header| TrackConfig::from_audio_header(header).ok());
        let of_frame = || TrackConfig::from_audio_header(frame.as_deref()?).ok();
        let audio = audio.or_else(of_frame);
        let sample = frame.as_deref().and_then(|frame| sample_of(MediaKind::Audio, frame, 0));
        let audio_samples = sample.map_or(0, |sample| sample.audio_samples);
        Self { video, audio, audio_samples }
    }

    /// Reads one message, if it is a header.
    fn of_header(media: MediaKind, message: &TapeMessage<'_>) -> Self {
        let mut payload = Vec::new();
        message.append_payload(0, &mut payload);
        let mut configs = Self::default();
        match media {
            MediaKind::Video => configs.video = TrackConfig::from_video_header(&payload).ok(),
            MediaKind::Audio => configs.audio = TrackConfig::from_audio_header(&payload).ok(),
            MediaKind::Data => {}
        }
        configs
    }

    /// Returns whether MP4 carries none of the tracks.
    pub(crate) const fn is_empty(&self) -> bool {
        self.video.is_none() && self.audio.is_none()
    }
}

/// A rendition of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RenditionKind {
    /// The first video track.
    Video,
    /// The first audio track.
    Audio,
}

impl RenditionKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Video, Self::Audio];
}

/// What [`PartLog::follow`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Messages on the tape are left for the next turn.
    pub is_behind: bool,
    /// A part was completed.
    pub has_parts: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct PartLog {
    incarnation: Incarnation,
    video: Option<Rendition>,
    audio: Option<Rendition>,
    /// Sequence number of the message that is read next.
    next: u64,
    /// Changes of the headers on the tape that the renditions know.
    headers_changes: u32,
    /// The newest timestamp: as it came, and without its wraps (ms).
    newest: (u32, u64),
    /// A moment as time of samples, and as time since 1970 (ms).
    origin: (u64, u64),
    awaits_keyframe: bool,
    is_over: bool,
    /// Number of changes that a playlist shows.
    edition: u64,
    /// Memory at the end of the last call that changed it (bytes).
    held_bytes: usize,
}

impl PartLog {
    /// Creates the log of a stream, which begins with the newest keyframe. `unix_ms` is the time of
    /// day (ms since 1970). `gauge` counts the memory of the parts. `None` if MP4 carries no track
    /// of the stream.
    pub(crate) fn new(
        incarnation: Incarnation,
        tape: &Tape,
        report: &Report,
        unix_ms: u64,
        gauge: &Gauge,
    ) -> Option<Self> {
        let configs = TrackConfigs::of(tape);
        if configs.is_empty() {
            return None;
        }
        let gop_ms = report.gops.map(|gops| gops.range_ms.1);
        let frame_ms = report.frame_rate_millihertz.filter(|rate| *rate > 0);
        let frame_ms = frame_ms.map(|rate| 1_000_000_u64.div_ceil(rate).min(10_000) as u32);
        let sound_ms = configs.audio.as_ref().and_then(|config| {
            let samples = config.frame_samples().max(configs.audio_samples);
            (samples * 1000).checked_div(config.timescale()).filter(|ms| *ms > 0)
        });
        // The segments of sound end with those of the picture.
        let sound_gop_ms = if configs.video.is_some() { gop_ms } else { None };
        // The configurations are the newest ones, which no earlier frame has.
        let start = tape.start_sequence().filter(|first| *first >= tape.headers_since());
        let next = start.unwrap_or_else(|| tape.next_sequence());
        let last = tape.last_frame();
        let first = tape.from(next).find(|entry| entry.media != MediaKind::Data);
        let first = first.and_then(|entry| timestamp_of_first(&entry.wire)).unwrap_or(last);
        let first_ms = u64::from(first);
        let last_ms = first_ms + u64::from(last.wrapping_sub(first));
        let rendition = |config, pace| Rendition::new(config, pace, gauge.clone());
        Some(Self {
            incarnation,
            video: configs.video.map(|config| rendition(config, Pace::new(gop_ms, frame_ms))),
            audio: configs.audio.map(|config| rendition(config, Pace::new(sound_gop_ms, sound_ms))),
            next,
            headers_changes: tape.headers_changes(),
            newest: (first, first_ms),
            origin: (last_ms, unix_ms),
            awaits_keyframe: true,
            is_over: false,
            edition: 0,
            held_bytes: size_of::<Self>(),
        })
    }

    /// Returns the name of this run of the stream.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns a number that changes whenever a media playlist does.
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// Returns a rendition, if the stream has it.
    pub const fn rendition(&self, kind: RenditionKind) -> Option<&Rendition> {
        match kind {
            RenditionKind::Video => self.video.as_ref(),
            RenditionKind::Audio => self.audio.as_ref(),
        }
    }

    /// Returns whether no further part will come.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns the time of day of a sample (ms since 1970).
    pub const fn unix_ms(&self, ms: u64) -> u64 {
        let (at, unix_ms) = self.origin;
        (unix_ms + ms).saturating_sub(at)
    }

    /// Memory of the log, including itself, without what its gauge counts (bytes).
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Makes parts of the messages that are new on the tape, within a budget.
    pub fn follow(&mut self, tape: &Tape, budget: &mut Budget) -> Followed {
        let before = self.positions();
        if tape.first_sequence() > self.next {
            self.miss(tape);
        }
        for entry in tape.from(self.next) {
            if budget.is_spent() {
                break;
            }
            budget.spend_messages(1);
            budget.spend_bytes(entry.wire.len());
            self.next += 1;
            self.read(entry, tape);
        }
        self.measure();
        let is_behind = self.next < tape.next_sequence();
        let has_parts = self.positions() != before;
        self.edition += u64::from(has_parts);
        Followed { is_behind, has_parts }
    }

    /// Ends the log with its last samples.
    pub fn end(&mut self) {
        self.break_off();
        self.is_over = true;
        self.edition += 1;
        self.measure();
    }

    fn measure(&mut self) {
        let renditions = self.video.iter().chain(&self.audio);
        self.held_bytes = size_of::<Self>() + renditions.map(Rendition::held_bytes).sum::<usize>();
    }

    fn positions(&self) -> [Option<(u64, usize)>; 2] {
        [&self.video, &self.audio].map(|rendition| rendition.as_ref().map(Rendition::next))
    }

    /// Goes on after messages that left the tape before they were read.
    fn miss(&mut self, tape: &Tape) {
        self.next = tape.start_sequence().unwrap_or_else(|| tape.first_sequence());
        self.break_off();
    }

    /// Ends the sequence of both renditions. Video goes on with a keyframe.
    fn break_off(&mut self) {
        self.video.iter_mut().chain(&mut self.audio).for_each(Rendition::break_off);
        self.awaits_keyframe = true;
    }

    fn read(&mut self, entry: &Entry, tape: &Tape) {
        let Some(message) = TapeMessage::first(&entry.wire, tape.chunk_size()) else { return };
        let sample = sample_of(entry.media, message.payload_head(), 0);
        // The header lies on the tape before the first frame that needs it.
        if tape.headers_changes() != self.headers_changes {
            if self.next > tape.headers_since() {
                self.headers_changes = tape.headers_changes();
                self.reconfigure(TrackConfigs::of(tape));
            } else if sample.is_none() {
                // The tape has newer headers than the next frames need, or this is none of them.
                self.reconfigure(TrackConfigs::of_header(entry.media, &message));
            }
        }
        let Some(sample) = sample else { return };
        // A frame reaches to the end of its message, unless there are several tracks in it.
        if sample.offset + sample.bytes.len() != message.payload_head().len() {
            return;
        }
        let ms = self.without_wraps(message.timestamp());
        self.notice_pause(ms);
        let bytes = message.payload_len().saturating_sub(sample.offset) as u32;
        let info = SampleInfo { bytes, ..sample.info(0, message.timestamp()) };
        let append = |out: &mut Vec<u8>| message.append_payload(sample.offset, out);
        match entry.media {
            MediaKind::Video => {
                let Some(video) = &mut self.video else { return };
                self.awaits_keyframe &= !sample.is_keyframe;
                if self.awaits_keyframe || entry.needs == LOST {
                    return;
                }
                if video.push(ms, info, append)
                    && let Some(audio) = &mut self.audio
                {
                    audio.end_segment_at(ms);
                }
            }
            MediaKind::Audio => {
                // Sound from before the first picture would make the first segment of the sound
                // longer than that of the picture.
                let waits = self.video.is_some() && self.awaits_keyframe;
                if let Some(audio) = self.audio.as_mut().filter(|_| !waits) {
                    audio.push(ms, info, append);
                }
            }
            MediaKind::Data => {}
        }
    }

    /// Ends the sequence if nothing has come for longer than a segment.
    fn notice_pause(&mut self, ms: u64) {
        let (_, newest) = self.newest;
        let target_s = self.video.iter().chain(&self.audio).map(|r| r.pace().target_s).max();
        let pause_ms_max = u64::from(target_s.unwrap_or(1)) * 1000 * PAUSE_TARGETS_MAX;
        if ms.abs_diff(newest) > pause_ms_max {
            self.break_off();
        }
        if ms > newest {
            self.newest = (ms as u32, ms);
        }
    }

    /// Takes configurations where they differ from those of the renditions.
    fn reconfigure(&mut self, configs: TrackConfigs) {
        let video_changes = replaces(self.video.as_ref(), configs.video.as_ref());
        let audio_changes = replaces(self.audio.as_ref(), configs.audio.as_ref());
        if !video_changes && !audio_changes {
            return;
        }
        // Discontinuities have the same number in all renditions.
        self.break_off();
        if let (Some(video), Some(config)) =
            (&mut self.video, configs.video.filter(|_| video_changes))
        {
            video.reconfigure(config);
        }
        if let (Some(audio), Some(config)) =
            (&mut self.audio, configs.audio.filter(|_| audio_changes))
        {
            audio.reconfigure(config);
        }
    }

    /// Returns a timestamp in milliseconds that continue after 2^32.
    fn without_wraps(&self, timestamp: u32) -> u64 {
        let (sent, ms) = self.newest;
        ms.saturating_add_signed(timestamp.wrapping_sub(sent).cast_signed().into())
    }
}

/// Returns whether a configuration differs from that of a rendition.
fn replaces(rendition: Option<&Rendition>, config: Option<&TrackConfig>) -> bool {
    rendition.zip(config).is_some_and(|(rendition, config)| {
        let mut config = config.clone();
        config.keep_size_of(rendition.config());
        config != *rendition.config()
    })
}
