//! The streams to publish: their number, bitrate, frame rate and protocol.
//!
//! Owns these flags and the resulting schedule, the intended time of each frame of each stream. It
//! writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::stamped_frame::FRAME_BYTES_MIN;
use crate::limits;
use crate::load::encoder::bits_per_second;
use crate::load::options::{rate, seconds};
use crate::load::target::Target;
use crate::time::Time;

/// Options of the streams to publish.
#[derive(Clone, Debug, Args)]
pub struct Offer {
    /// How many streams to publish. A single stream has the key of the URL; several have the key
    /// plus a number.
    #[arg(long, value_name = "N", default_value = "1", value_parser = one_or_more)]
    pub publishers: u32,
    /// Bitrate of each stream in bit/s, such as 300k or 4M.
    #[arg(long, value_name = "BITS", default_value = "4M", value_parser = bits_per_second)]
    pub bitrate: u64,
    /// Frames per second.
    #[arg(long, value_name = "N", default_value = "30", value_parser = rate)]
    pub fps: f64,
    /// The size of a frame, instead of a bitrate.
    #[arg(long, value_name = "BYTES", conflicts_with = "bitrate", value_parser = frame_bytes)]
    pub frame_bytes: Option<usize>,
    /// The keyframe interval in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub gop_s: Duration,
    /// The protocol: RTMP, or the length-prefixed frames of `tiderace load floor`.
    #[arg(long, value_enum, default_value = "rtmp")]
    pub wire: OfferWire,
    /// How many connections to open per second.
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate)]
    pub rate: f64,
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
    /// Returns the size of every frame, within the limits of a message.
    pub fn frame_bytes(&self) -> usize {
        let of_rate = (self.bitrate as f64 / 8.0 / self.fps).round() as usize;
        let bytes = self.frame_bytes.unwrap_or(of_rate);
        bytes.clamp(FRAME_BYTES_MIN, limits::VIDEO_BYTES_MAX)
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
    pub(super) fn frame_at(&self, first: Time, sequence: u64) -> Time {
        first + self.frame_time(sequence)
    }

    /// Returns the time of a frame since the start of its stream.
    pub(super) fn frame_time(&self, sequence: u64) -> Duration {
        Duration::from_secs_f64(sequence as f64 / self.fps)
    }

    /// Returns the offset of a stream's frames from those of the first stream. Real encoders are
    /// not synchronized.
    pub(super) fn phase(&self, stream: u32) -> Duration {
        self.interval().mul_f64(f64::from(stream) / f64::from(self.publishers))
    }

    /// Returns the key of a stream. A query stays at the end.
    pub(super) fn key(&self, target: &Target, stream: u32) -> String {
        let (name, query) = match target.key.find('?') {
            Some(at) => target.key.split_at(at),
            None => (target.key.as_str(), ""),
        };
        let name = if name.is_empty() { "load" } else { name };
        if self.publishers == 1 {
            format!("{name}{query}")
        } else {
            format!("{name}-{stream}{query}")
        }
    }

    /// Returns the parameters for the manifest.
    pub(super) fn parameters(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("publishers".to_owned(), self.publishers.to_string()),
            ("frame-bytes".to_owned(), self.frame_bytes().to_string()),
            ("fps".to_owned(), self.fps.to_string()),
            ("gop-s".to_owned(), self.gop_s.as_secs_f64().to_string()),
            ("wire".to_owned(), format!("{:?}", self.wire).to_lowercase()),
            ("rate".to_owned(), self.rate.to_string()),
            ("warmup-s".to_owned(), self.warmup_s.as_secs_f64().to_string()),
        ])
    }
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
    fn frames_are_intended_by_their_number_and_streams_are_not_synchronized() {
        let offer = offer("--publishers 4 --fps 30 --gop-s 2");
        let first = Time::from_micros(1000);
        assert_eq!(offer.frame_at(first, 0), first);
        // Each interval is off by a third of a microsecond, which must not add up.
        assert_eq!(offer.frame_at(first, 3_000_000), first + Duration::from_secs(100_000));
        assert_eq!(offer.gop_frames(), 60);
        assert_eq!((0..4).map(|stream| offer.phase(stream).as_micros()).max(), Some(25_000));
        assert_eq!(offer.phase(0), Duration::ZERO);
    }

    #[test]
    fn each_stream_has_a_key_and_all_have_the_query() {
        let mut target = Target::parse("rtmp://127.0.0.1/live/show?token=x").unwrap();
        assert_eq!(offer("").key(&target, 0), "show?token=x");
        assert_eq!(offer("--publishers 2").key(&target, 1), "show-1?token=x");
        target.key.clear();
        assert_eq!(offer("").key(&target, 0), "load");
    }
}
