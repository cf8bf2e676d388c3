//! The streams to publish: their number, bitrate, frame rate and protocol.
//!
//! Owns these flags and the resulting schedule, the intended time of each frame of each stream. It
//! writes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rand::RngExt;

use super::routes::{Routes, read_keys};
use super::stamped_frame::{FRAME_BYTES_MIN, Medium};
use crate::limits;
use crate::load::LoadError;
use crate::load::encoder::{AUDIO_FRAME_SAMPLES, AUDIO_SAMPLE_RATE_HZ, bits_per_second};
use crate::load::options::{rate, seconds};
use crate::load::pace::PaceOptions;
use crate::load::target::Target;
use crate::time::Time;

/// Options of the streams to publish.
#[derive(Clone, Debug, Args)]
pub struct Offer {
    /// How many streams to publish. A single stream has the key of the URL; several have the key
    /// plus a number.
    #[arg(long, value_name = "N", default_value = "1", value_parser = one_or_more)]
    pub publishers: u32,
    /// Publish a stream for each line of this file, which has its key, instead of the key of the
    /// URL.
    #[arg(long, value_name = "FILE", conflicts_with = "publishers")]
    pub keys: Option<PathBuf>,
    /// Video bitrate of each stream in bit/s, such as 300k or 4M.
    #[arg(long, value_name = "BITS", default_value = "4M", value_parser = bits_per_second)]
    pub bitrate: u64,
    /// Frames per second.
    #[arg(long, value_name = "N", default_value = "30", value_parser = rate)]
    pub fps: f64,
    /// The mean size of a video frame, instead of a bitrate.
    #[arg(long, value_name = "BYTES", conflicts_with = "bitrate", value_parser = frame_bytes)]
    pub frame_bytes: Option<usize>,
    /// The keyframe interval in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub gop_s: Duration,
    /// How many times as large as another frame a keyframe is. The bitrate stays the same.
    #[arg(long, value_name = "N", default_value = "1", value_parser = ratio)]
    pub keyframe_ratio: f64,
    /// Audio bitrate of each stream in bit/s, such as 128k; 0 means no audio. Audio frames are
    /// checked as video frames are.
    #[arg(long, value_name = "BITS", default_value = "0", value_parser = bits_per_second)]
    pub audio_bitrate: u64,
    /// The chunk size of publishers over RTMP. OBS has 4096.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = limits::CHUNK_SIZE_OUT,
        value_parser = clap::value_parser!(u32).range(1..=0x00ff_ffff)
    )]
    pub chunk_size: u32,
    /// The protocol: RTMP, or the length-prefixed frames of `tiderace load floor`.
    #[arg(long, value_enum, default_value = "rtmp")]
    pub wire: OfferWire,
    /// How many connections to open per second.
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate)]
    pub rate: f64,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub pace: PaceOptions,
    /// Seconds of warm-up between the last player's first keyframe and the measurement.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub warmup_s: Duration,
}

/// Protocol of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OfferWire {
    /// RTMP.
    Rtmp,
    /// Length-prefixed frames, for a relay at the cost of the kernel alone.
    Floor,
}

impl Offer {
    /// Returns the mean size of a video frame, within the limits of a message.
    pub fn frame_bytes(&self) -> usize {
        let of_rate = (self.bitrate as f64 / 8.0 / self.fps).round() as usize;
        let bytes = self.frame_bytes.unwrap_or(of_rate);
        bytes.clamp(FRAME_BYTES_MIN, limits::VIDEO_BYTES_MAX)
    }

    /// Returns the size of a keyframe or of another video frame. The mean over a GOP is
    /// [`Offer::frame_bytes`], unless a size is beyond the limits of a message.
    pub(super) fn video_bytes(&self, is_keyframe: bool) -> usize {
        let (frames, ratio) = (self.gop_frames() as f64, self.keyframe_ratio);
        let other = self.frame_bytes() as f64 * frames / (ratio + frames - 1.0);
        let bytes = if is_keyframe { ratio * other } else { other };
        (bytes.round() as usize).clamp(FRAME_BYTES_MIN, limits::VIDEO_BYTES_MAX)
    }

    /// Returns the size of an audio frame.
    pub(super) fn audio_bytes(&self) -> usize {
        let bits = self.audio_bitrate * AUDIO_FRAME_SAMPLES / AUDIO_SAMPLE_RATE_HZ;
        (bits as usize / 8).clamp(FRAME_BYTES_MIN, limits::AUDIO_BYTES_MAX)
    }

    /// Returns the size of the largest frame.
    pub(super) fn bytes_max(&self) -> usize {
        self.video_bytes(true).max(self.video_bytes(false)).max(self.audio_bytes())
    }

    /// Returns whether the streams have audio.
    pub(super) const fn has_audio(&self) -> bool {
        self.audio_bitrate > 0
    }

    /// Returns the time between two frames of a stream.
    pub fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.fps)
    }

    /// Returns the number of frames from one keyframe to the next.
    pub fn gop_frames(&self) -> u64 {
        (self.gop_s.as_secs_f64() * self.fps).round().max(1.0) as u64
    }

    /// Returns the intended time of a frame of a stream that starts at `first`. Each time is
    /// computed from the start, so that rounding errors do not add up.
    pub(super) fn frame_at(&self, first: Time, medium: Medium, sequence: u64) -> Time {
        first + self.frame_time(medium, sequence)
    }

    /// Returns the time of a frame since the start of its stream.
    pub(super) fn frame_time(&self, medium: Medium, sequence: u64) -> Duration {
        match medium {
            Medium::Video => Duration::from_secs_f64(sequence as f64 / self.fps),
            Medium::Audio => {
                let samples = sequence as f64 * AUDIO_FRAME_SAMPLES as f64;
                Duration::from_secs_f64(samples / AUDIO_SAMPLE_RATE_HZ as f64)
            }
        }
    }

    /// Returns the phases of all streams, because real encoders are not synchronized. They are
    /// evenly spaced, or random if there is a seed.
    pub(super) fn phases(&self) -> Vec<StreamPhase> {
        let mut random = self.pace.random(0);
        let (interval, gop_frames) = (self.interval(), self.gop_frames());
        let phase = |stream: u32| match self.pace.seed {
            Some(_) => StreamPhase {
                offset: interval.mul_f64(random.random()),
                gop_frames: random.random_range(0..gop_frames),
            },
            None => {
                let share = f64::from(stream) / f64::from(self.publishers);
                StreamPhase { offset: interval.mul_f64(share), gop_frames: 0 }
            }
        };
        (0..self.publishers).map(phase).collect()
    }

    /// Returns these streams with the number of the listed keys, and their routes.
    ///
    /// # Errors
    /// The list of keys cannot be used.
    pub(super) fn with_routes(&self, target: &Target) -> Result<(Self, Routes), LoadError> {
        let mut offer = self.clone();
        let Some(path) = &self.keys else {
            return Ok((offer, Routes::new(target, self.publishers)));
        };
        let keys = read_keys(path)?;
        offer.publishers = keys.len() as u32;
        Ok((offer, Routes::new(target, keys.len() as u32).with_keys(keys)))
    }

    /// Returns the parameters for the manifest.
    pub(super) fn parameters(&self) -> BTreeMap<String, String> {
        let mut parameters = self.pace.parameters();
        let file = self.keys.as_deref().map(file_name);
        parameters.extend(file.map(|file| ("keys".to_owned(), file)));
        parameters.extend([
            ("publishers".to_owned(), self.publishers.to_string()),
            ("frame-bytes".to_owned(), self.frame_bytes().to_string()),
            ("fps".to_owned(), self.fps.to_string()),
            ("gop-s".to_owned(), self.gop_s.as_secs_f64().to_string()),
            ("keyframe-ratio".to_owned(), self.keyframe_ratio.to_string()),
            ("audio-bitrate".to_owned(), self.audio_bitrate.to_string()),
            ("chunk-size".to_owned(), self.chunk_size.to_string()),
            ("wire".to_owned(), format!("{:?}", self.wire).to_lowercase()),
            ("rate".to_owned(), self.rate.to_string()),
            ("warmup-s".to_owned(), self.warmup_s.as_secs_f64().to_string()),
        ]);
        parameters
    }
}

/// Returns the name of a file for the manifest, which holds no directories.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The position of a stream in its schedule when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamPhase {
    /// Time before the first frame.
    pub(super) offset: Duration,
    /// Frames of the first GOP that are left out. Otherwise the keyframes of all streams would
    /// coincide.
    pub(super) gop_frames: u64,
}

impl StreamPhase {
    /// Returns whether a frame is a keyframe. The first frame always is.
    pub(super) const fn is_keyframe(&self, sequence: u64, gop_frames: u64) -> bool {
        sequence == 0 || (sequence + self.gop_frames).is_multiple_of(gop_frames)
    }
}

/// Parses the size of a keyframe relative to other frames.
fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (1.0..=1000.0).contains(ratio));
    ratio.ok_or_else(|| "expected a number from 1 to 1000, such as 8".to_owned())
}

fn frame_bytes(text: &str) -> Result<usize, String> {
    let range = FRAME_BYTES_MIN..=limits::VIDEO_BYTES_MAX;
    let bytes = text.parse().ok().filter(|bytes| range.contains(bytes));
    bytes.ok_or_else(|| format!("expected bytes from {} to {}", range.start(), range.end()))
}

/// Parses a number of publishers or players.
pub(super) fn one_or_more(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "expected a number, at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches};

    use super::*;

    fn offer(flags: &str) -> Offer {
        let command = Offer::augment_args(Command::new("load").no_binary_name(true));
        let matches = command.try_get_matches_from(flags.split_whitespace()).unwrap();
        Offer::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn frames_have_the_size_of_the_bitrate_or_the_requested_one() {
        assert_eq!(offer("--bitrate 4M --fps 25").frame_bytes(), 20_000);
        assert_eq!(offer("--frame-bytes 1200 --fps 25").frame_bytes(), 1200);
        assert_eq!(offer("--bitrate 8 --fps 25").frame_bytes(), FRAME_BYTES_MIN);
        assert!(frame_bytes("63").is_err());
    }

    #[test]
    fn keyframes_are_larger_and_the_bitrate_stays_the_same() {
        for flags in [
            "--frame-bytes 16000 --fps 30 --gop-s 2 --keyframe-ratio 8",
            "--bitrate 4M --fps 25 --gop-s 0.04 --keyframe-ratio 8",
            "--frame-bytes 1200 --fps 60 --gop-s 10",
        ] {
            let offer = offer(flags);
            let (key, other) = (offer.video_bytes(true), offer.video_bytes(false));
            let frames = offer.gop_frames() as usize;
            let gop = key + (frames - 1) * other;
            assert!(gop.abs_diff(frames * offer.frame_bytes()) <= frames, "{flags}: {gop}");
            if frames > 1 {
                let ratio = key as f64 / other as f64;
                assert!((ratio - offer.keyframe_ratio).abs() < 0.01, "{flags}: {ratio}");
            }
            assert!(offer.bytes_max() >= key.max(other));
        }
        assert_eq!(offer("--bitrate 800M --keyframe-ratio 9").bytes_max(), limits::VIDEO_BYTES_MAX);
        assert!(ratio("0.5").is_err() && ratio("nan").is_err());
    }

    #[test]
    fn audio_has_its_own_size_and_rate() {
        let offer = offer("--audio-bitrate 128k");
        assert_eq!(offer.audio_bytes(), 341);
        let times = |count| offer.frame_time(Medium::Audio, count).as_micros();
        assert_eq!((times(0), times(1), times(46_875)), (0, 21_333, 1_000_000_000));
        assert!(offer.has_audio());
    }

    #[test]
    fn a_seed_gives_random_phases_that_can_be_repeated() {
        let flags = "--publishers 20 --gop-s 2 --fps 30 --seed";
        let phases = |seed: u32| offer(&format!("{flags} {seed}")).phases();
        let one = phases(1);
        assert_eq!(one, phases(1));
        assert_ne!(one, phases(2));
        let interval = Duration::from_secs(1) / 30;
        assert!(one.iter().all(|phase| phase.offset < interval && phase.gop_frames < 60));
        let keyframes: std::collections::BTreeSet<_> =
            one.iter().map(|phase| (1..=60).find(|at| phase.is_keyframe(*at, 60))).collect();
        assert!(keyframes.len() > 10, "keyframes are spread over the GOP: {keyframes:?}");
        assert!(one.iter().all(|phase| phase.is_keyframe(0, 60)));
    }

    #[test]
    fn frames_are_intended_by_their_number_and_streams_are_not_synchronized() {
        let offer = offer("--publishers 4 --fps 30 --gop-s 2");
        let first = Time::from_micros(1000);
        assert_eq!(offer.frame_at(first, Medium::Video, 0), first);
        // Each interval is off by a third of a microsecond, which must not add up.
        let last = offer.frame_at(first, Medium::Video, 3_000_000);
        assert_eq!(last, first + Duration::from_secs(100_000));
        assert_eq!(offer.gop_frames(), 60);
        let phases = offer.phases();
        let offsets: Vec<_> = phases.iter().map(|phase| phase.offset.as_micros()).collect();
        assert_eq!(offsets, [0, 8333, 16_666, 25_000]);
        assert!(phases.iter().all(|phase| phase.gop_frames == 0));
    }
}
