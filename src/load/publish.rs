//! `load publish`: one stream in detail, as its encoder sees it.
//!
//! Owns the measurements of that stream. Frames are open-loop: each is due at its own time
//! regardless of the frames before it, and is measured from that time until the kernel has taken
//! all of it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::LoadError;
use super::connection::{Connection, ConnectionEvent, ConnectionHead, ConnectionKey, Ended};
use super::connection_log::ConnectionLog;
use super::encoder::{EncoderOptions, Frame};
use super::engine::{self, Agenda, Engine, Scenario, Speak};
use super::measurement::Measurement;
use super::options::Options;
use super::report::{Distribution, Figure, LoadReport, Series};
use super::source::MediaSource;
use super::target::Target;
use crate::media::{AudioClass, MediaKind, VideoClass, classify_audio, classify_video};
use crate::rtmp::client::Purpose;
use crate::time::Time;

/// Options of `load publish`.
#[derive(Clone, Debug, Args)]
pub struct PublishCommand {
    /// The stream, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    /// Publish this FLV file in a loop instead of the synthetic encoder.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["size", "fps", "gop_s", "bitrate", "audio_bitrate"]
    )]
    pub file: Option<PathBuf>,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub encoder: EncoderOptions,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

impl PublishCommand {
    /// Publishes for the requested time and reports the results.
    ///
    /// # Errors
    /// The reason why nothing could be measured.
    pub fn measure(&self) -> Result<LoadReport, LoadError> {
        let target = Target::parse(&self.url)?;
        let source = match &self.file {
            Some(path) => MediaSource::of_file(path)?,
            None => MediaSource::of_encoder(self.encoder.clone()),
        };
        let measurement =
            Measurement::prepare("publish", target.clone(), &self.options, 1, self.parameters())?;
        let plan = measurement.plan(2 * self.options.timeout_s + self.options.duration_s);
        let mut run = Run::new(self.options.duration_s, source, measurement);
        let measured = engine::run(plan, &mut run)?;
        let held = run.log.held();
        let failed = run.log.broken_off(&target, "publish the stream", self.options.timeout_s)?;
        let Run { log, sent, waiting_series, mut measurement, .. } = run;
        let report = &mut measurement.report;
        report.failed = failed;
        log.add_to(report);
        sent.add_to(report, held);
        report.series.push(waiting_series);
        Ok(measurement.finish(&measured))
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        if let Some(file) = &self.file {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            return BTreeMap::from([("file".to_owned(), name.into_owned())]);
        }
        let EncoderOptions { size, fps, gop_s, bitrate, audio_bitrate } = &self.encoder;
        BTreeMap::from([
            ("size".to_owned(), size.to_string()),
            ("fps".to_owned(), fps.to_string()),
            ("gop-s".to_owned(), gop_s.as_secs_f64().to_string()),
            ("bitrate".to_owned(), bitrate.to_string()),
            ("audio-bitrate".to_owned(), audio_bitrate.to_string()),
        ])
    }
}

/// Scheduled actions of the run.
enum Due {
    Open,
    Frame,
    End,
}

struct Run {
    duration: Duration,
    source: MediaSource,
    measurement: Measurement,
    log: ConnectionLog,
    connection: Option<ConnectionKey>,
    /// The next message; its payload is in `payload`.
    next: Option<Frame>,
    payload: Vec<u8>,
    /// Messages that the kernel has not taken yet, with the byte position in the output at which
    /// each one ends.
    waiting: VecDeque<(u64, Written)>,
    /// The kernel left some messages untaken at the last write.
    is_blocked: bool,
    waiting_bytes: usize,
    waiting_series: Series,
    sent: Sent,
}

/// A message that was written to the output.
#[derive(Clone, Copy, Debug)]
struct Written {
    intended: Time,
    class: Class,
    bytes: usize,
}

/// Class of a message, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Keyframe,
    Picture,
    Sound,
    Other,
}

impl Class {
    fn of(media: MediaKind, payload: &[u8]) -> Self {
        match media {
            MediaKind::Video => match classify_video(payload).map(|tag| tag.class) {
                Ok(VideoClass::Keyframe) => Self::Keyframe,
                Ok(VideoClass::Inter | VideoClass::Disposable) => Self::Picture,
                _ => Self::Other,
            },
            MediaKind::Audio => match classify_audio(payload).map(|tag| tag.class) {
                Ok(AudioClass::Frame) => Self::Sound,
                _ => Self::Other,
            },
            MediaKind::Data => Self::Other,
        }
    }
}

/// Counts of messages that the kernel has taken, and of acknowledgements of the server.
#[derive(Debug)]
struct Sent {
    video_frames: u64,
    keyframes: u64,
    audio_frames: u64,
    video_bytes: u64,
    audio_bytes: u64,
    waiting_bytes_max: usize,
    acknowledgements: u64,
    unacknowledged_bytes_max: u32,
    write_delay: Distribution,
}

impl Sent {
    fn new() -> Self {
        Self {
            video_frames: 0,
            keyframes: 0,
            audio_frames: 0,
            video_bytes: 0,
            audio_bytes: 0,
            waiting_bytes_max: 0,
            acknowledgements: 0,
            unacknowledged_bytes_max: 0,
            write_delay: Distribution::new("write_delay"),
        }
    }

    fn note(&mut self, written: &Written, since_began: Duration, now: Time) {
        let delay = now.since(written.intended);
        let due = since_began.saturating_sub(delay);
        self.write_delay.record(due, delay.as_micros() as u64);
        match written.class {
            Class::Keyframe | Class::Picture => {
                self.video_frames += 1;
                self.keyframes += u64::from(written.class == Class::Keyframe);
                self.video_bytes += written.bytes as u64;
            }
            Class::Sound => {
                self.audio_frames += 1;
                self.audio_bytes += written.bytes as u64;
            }
            Class::Other => {}
        }
    }

    /// Adds the figures. Rates refer to `held`, the time for which the stream was published.
    fn add_to(self, report: &mut LoadReport, held: Duration) {
        let rate = |count: u64| count as f64 / held.as_secs_f64();
        let counts = [
            ("video_frames", self.video_frames),
            ("video_keyframes", self.keyframes),
            ("audio_frames", self.audio_frames),
            ("acknowledgements", self.acknowledgements),
            ("waiting_bytes_max", self.waiting_bytes_max as u64),
        ];
        for (name, count) in counts {
            report.add_figure(Figure::new(name, count as f64));
        }
        for (name, value) in [
            ("video_frames_per_s", rate(self.video_frames)),
            ("video_bits_per_s", rate(8 * self.video_bytes)),
            ("audio_bits_per_s", rate(8 * self.audio_bytes)),
        ] {
            report.add_figure(Figure::new(name, value));
        }
        let unacknowledged = match self.acknowledgements {
            0 => {
                let reason = "the server sent no acknowledgements";
                Figure::withheld("unacknowledged_bytes_max", reason)
            }
            _ => {
                let bytes = self.unacknowledged_bytes_max.into();
                Figure::new("unacknowledged_bytes_max", bytes)
            }
        };
        report.add_figure(unacknowledged);
        report.distributions.push(self.write_delay);
    }
}

impl Run {
    fn new(duration: Duration, source: MediaSource, measurement: Measurement) -> Self {
        Self {
            duration,
            source,
            measurement,
            log: ConnectionLog::default(),
            connection: None,
            next: None,
            payload: Vec::new(),
            waiting: VecDeque::new(),
            is_blocked: false,
            waiting_bytes: 0,
            waiting_series: Series::new("waiting"),
            sent: Sent::new(),
        }
    }

    /// Writes the message that is due, and schedules the next one.
    fn write_frame(&mut self, engine: &mut Engine<Self>, intended: Time) {
        let Some(connection) = self.connection.and_then(|id| engine.write(id)) else { return };
        if let Some(frame) = self.next {
            if self.is_blocked {
                self.note_waiting(connection.unsent_bytes());
            }
            write(connection, frame, &self.payload);
            let class = Class::of(frame.media, &self.payload);
            let written = Written { intended, class, bytes: self.payload.len() };
            let end = connection.head().sent_bytes + connection.unsent_bytes() as u64;
            self.waiting.push_back((end, written));
        }
        let frame = self.source.next_frame(&mut self.payload);
        self.next = Some(frame);
        let began = self.log.accepted_at.unwrap_or(intended);
        engine.agenda().at(began + frame.due, Due::Frame);
    }

    fn note_waiting(&mut self, bytes: usize) {
        self.waiting_bytes = bytes;
        self.sent.waiting_bytes_max = self.sent.waiting_bytes_max.max(bytes);
    }

    /// Unpublishes the stream, and closes the connection once that is written.
    fn end(&mut self, engine: &mut Engine<Self>) {
        let Some(id) = self.connection.take() else { return };
        if let Some(client) = engine.write(id).and_then(Connection::client) {
            client.delete_stream();
        }
        engine.agenda().close(id);
    }
}

fn write(connection: &mut Connection<()>, Frame { media, timestamp, .. }: Frame, payload: &[u8]) {
    let Some(client) = connection.client() else { return };
    match media {
        MediaKind::Audio => client.write_audio(timestamp, payload),
        MediaKind::Video => client.write_video(timestamp, payload),
        MediaKind::Data => client.write_data(timestamp, payload),
    }
}

impl Scenario for Run {
    type Conn = ();
    type Due = Due;

    fn start(&mut self, engine: &mut Engine<Self>) {
        let began = engine.agenda().began();
        engine.agenda().at(began, Due::Open);
    }

    fn due(&mut self, engine: &mut Engine<Self>, due: Due, intended: Time) {
        match due {
            Due::Open => {
                let target = &engine.plan().target;
                let purpose = Purpose::Publish { key: target.key.clone() };
                let speak = Speak::Rtmp(target.client(purpose));
                self.connection = engine.open(intended, speak, ());
            }
            Due::Frame => self.write_frame(engine, intended),
            Due::End => self.end(engine),
        }
    }

    fn event(
        &mut self,
        agenda: &mut Agenda<Due>,
        (): &mut (),
        head: &ConnectionHead,
        event: ConnectionEvent<'_>,
    ) {
        let now = agenda.now();
        match event {
            ConnectionEvent::Reached { phase, took_us } => {
                self.log.reached(phase, took_us, head.goal, now);
                if phase == head.goal {
                    agenda.at(now, Due::Frame);
                    agenda.at(now + self.duration, Due::End);
                }
            }
            ConnectionEvent::Status(status) => self.log.status(&status),
            ConnectionEvent::Acknowledged(bytes) => {
                // Both numbers wrap at 2^32.
                let unacknowledged = (head.sent_bytes as u32).wrapping_sub(bytes);
                self.sent.acknowledgements += 1;
                let max = &mut self.sent.unacknowledged_bytes_max;
                *max = (*max).max(unacknowledged);
            }
            ConnectionEvent::Media(_) | ConnectionEvent::Frame(_) | ConnectionEvent::StreamEof => {}
        }
    }

    fn written(&mut self, agenda: &mut Agenda<Due>, (): &mut (), head: &ConnectionHead) {
        let since_began = agenda.now().since(agenda.began());
        while let Some((end, written)) = self.waiting.front()
            && *end <= head.sent_bytes
        {
            self.sent.note(written, since_began, agenda.now());
            self.waiting.pop_front();
        }
        self.is_blocked = !self.waiting.is_empty();
        let newest = self.waiting.back().map_or(head.sent_bytes, |(end, _)| *end);
        self.note_waiting((newest - head.sent_bytes) as usize);
    }

    fn closed(&mut self, agenda: &mut Agenda<Due>, (): (), ended: Ended) {
        self.log.closed(ended);
        agenda.stop();
    }

    fn second(&mut self, agenda: &mut Agenda<Due>) -> Result<(), LoadError> {
        let at = agenda.now().since(agenda.began());
        self.waiting_series.push(at.as_secs_f64(), self.waiting_bytes as f64);
        self.measurement.sample_soon(at)
    }

    fn progress(&self) -> String {
        let Sent { video_frames, audio_frames, .. } = &self.sent;
        let waiting = self.waiting_bytes;
        format!(
            "{video_frames} video frames and {audio_frames} audio frames sent, {waiting} bytes wait"
        )
    }
}
