//! A synthetic encoder: makes a stream that every decoder accepts, with the requested picture size,
//! frame rate, GOP and bitrate, at almost no cost.
//!
//! Owns the size and due time of each frame. Both depend on the frame number only, so a late frame
//! does not delay the following ones. Each GOP has exactly its share of the bitrate, unless a frame
//! would be too small or too large for a message. The keyframe is larger than the other frames, as
//! with a real encoder. This module reads no clock.

mod bit_writer;
mod synthetic_aac;
mod synthetic_avc;

pub(super) use synthetic_aac::{
    FRAME_SAMPLES as AUDIO_FRAME_SAMPLES, SAMPLE_RATE_HZ as AUDIO_SAMPLE_RATE_HZ,
};

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::options::seconds;
use crate::amf0::{self, Value};
use crate::limits;
use crate::media::MediaKind;

/// Options of the synthetic encoder.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct EncoderOptions {
    /// The picture size of the synthetic encoder.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1280x720")]
    pub size: PictureSize,
    /// The frame rate.
    #[arg(long, value_name = "FPS", default_value = "30")]
    pub fps: Fps,
    /// The keyframe interval in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub gop_s: Duration,
    /// The video bitrate in bit/s, such as 4M or 800k.
    #[arg(long, value_name = "BITS", default_value = "4M", value_parser = bits_per_second)]
    pub bitrate: u64,
    /// The audio bitrate in bit/s; 0 means no audio.
    #[arg(long, value_name = "BITS", default_value = "128k", value_parser = bits_per_second)]
    pub audio_bitrate: u64,
}

/// A picture size with even sides, because chroma has half the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    width: u16,
    height: u16,
}

/// The largest side of a picture, limited by the highest level.
const SIDE_MAX: u16 = 8192;

impl PictureSize {
    const fn columns(self) -> u32 {
        self.width.div_ceil(16) as u32
    }

    const fn rows(self) -> u32 {
        self.height.div_ceil(16) as u32
    }

    const fn macroblocks(self) -> u32 {
        self.columns() * self.rows()
    }
}

impl FromStr for PictureSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| {
            text.parse()
                .ok()
                .filter(|side: &u16| side.is_multiple_of(2) && (16..=SIDE_MAX).contains(side))
        };
        let sides = text.split_once('x').and_then(|(width, height)| side(width).zip(side(height)));
        let size = sides.map(|(width, height)| Self { width, height });
        size.ok_or_else(|| {
            format!("expected even sides from 16 to {SIDE_MAX} pixels, such as 1280x720")
        })
    }
}

impl fmt::Display for PictureSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A frame rate with a resolution of 1/1000 fps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fps {
    millihertz: u32,
}

impl Fps {
    /// Returns the due time of frame `number`.
    fn due(self, number: u64) -> Duration {
        let micros = u128::from(number) * 1_000_000_000 / u128::from(self.millihertz);
        Duration::from_micros(micros as u64)
    }
}

impl FromStr for Fps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fps = text.parse().ok().filter(|fps| (0.1..=1000.0).contains(fps));
        let fps = fps.map(|fps: f64| Self { millihertz: (fps * 1000.0).round() as u32 });
        fps.ok_or_else(|| "expected frames per second, such as 30 or 29.97".to_owned())
    }
}

impl fmt::Display for Fps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.millihertz) / 1000.0)
    }
}

/// Parses a bitrate in bit/s, with an optional suffix `k` or `M`.
///
/// # Errors
/// A text that says what was expected.
pub fn bits_per_second(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K', 'm', 'M']) {
        Some(number) if text.ends_with(['k', 'K']) => (number, 1e3),
        Some(number) => (number, 1e6),
        None => (text, 1.0),
    };
    let bits = number.parse::<f64>().ok().map(|number| number * unit);
    bits.filter(|bits| (0.0..=1e9).contains(bits))
        .map(|bits| bits as u64)
        .ok_or_else(|| "expected bits per second up to 1000M, such as 4M or 800k".to_owned())
}

/// One message of a stream, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Due time since the start of the stream.
    pub due: Duration,
    /// Audio, video or data.
    pub media: MediaKind,
    /// Timestamp (ms).
    pub timestamp: u32,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Encoder {
    options: EncoderOptions,
    frames_per_gop: u64,
    keyframe_bytes: u64,
    /// Bytes of all frames of a GOP except the keyframe.
    repeats_bytes: u64,
    next_video: u64,
    next_audio: u64,
}

/// The largest frame: with the tag header it makes the largest message.
const FRAME_BYTES_MAX: u64 = (limits::VIDEO_BYTES_MAX - AVC_TAG_HEAD_BYTES) as u64;
const AVC_TAG_HEAD_BYTES: usize = 5;

/// Size of a keyframe relative to the other frames of its GOP.
const KEYFRAME_WEIGHT: u64 = 8;

// Header bytes of H.264 and AAC tags (FLV 10.1, annex E.4): frame type and codec, packet type
// (configuration or frame), and for video the composition time.
const AVC_KEYFRAME: u8 = 0x17;
const AVC_INTER: u8 = 0x27;
const AAC: u8 = 0xaf;
const CONFIGURATION: u8 = 0;
const FRAME: u8 = 1;
const SHOWN_AT_ONCE: [u8; 3] = [0; 3];

impl Encoder {
    /// Creates an encoder whose first frame is a keyframe.
    pub fn new(options: EncoderOptions) -> Self {
        let fps = options.fps;
        let frames = options.gop_s.as_secs_f64() * f64::from(fps.millihertz) / 1000.0;
        let frames_per_gop = (frames.round() as u64).max(1);
        let gop = fps.due(frames_per_gop).as_micros() as u64;
        let gop_bytes = (u128::from(options.bitrate) * u128::from(gop) / 8_000_000) as u64;
        let mut smallest = Vec::new();
        synthetic_avc::write_keyframe(&mut smallest, options.size, false, 0);
        let share = gop_bytes * KEYFRAME_WEIGHT / (KEYFRAME_WEIGHT + frames_per_gop - 1);
        let keyframe_bytes = share.max(smallest.len() as u64).min(FRAME_BYTES_MAX);
        let repeats_bytes_max = (frames_per_gop - 1).saturating_mul(FRAME_BYTES_MAX);
        Self {
            repeats_bytes: gop_bytes.saturating_sub(keyframe_bytes).min(repeats_bytes_max),
            options,
            frames_per_gop,
            keyframe_bytes,
            next_video: 0,
            next_audio: 0,
        }
    }

    /// Returns the messages before all frames: metadata, and the configuration of each track.
    pub fn headers(&self) -> Vec<(MediaKind, Vec<u8>)> {
        let EncoderOptions { size, fps, bitrate, audio_bitrate, .. } = self.options;
        let mut video = vec![AVC_KEYFRAME, CONFIGURATION];
        video.extend(SHOWN_AT_ONCE);
        video.extend(synthetic_avc::configuration(size, fps, bitrate));
        let mut headers = vec![(MediaKind::Data, self.metadata()), (MediaKind::Video, video)];
        if audio_bitrate > 0 {
            let audio = [&[AAC, CONFIGURATION], &synthetic_aac::CONFIGURATION[..]].concat();
            headers.push((MediaKind::Audio, audio));
        }
        headers
    }

    fn metadata(&self) -> Vec<u8> {
        let EncoderOptions { size, fps, bitrate, audio_bitrate, .. } = self.options;
        let kilobits = |bits: u64| Value::Number(bits as f64 / 1000.0);
        let mut properties = vec![
            ("width", Value::Number(size.width.into())),
            ("height", Value::Number(size.height.into())),
            ("framerate", Value::Number(f64::from(fps.millihertz) / 1000.0)),
            ("videocodecid", Value::Number(7.0)),
            ("videodatarate", kilobits(bitrate)),
        ];
        if audio_bitrate > 0 {
            properties.extend([
                ("audiocodecid", Value::Number(10.0)),
                ("audiodatarate", kilobits(audio_bitrate)),
                ("audiosamplerate", Value::Number(synthetic_aac::SAMPLE_RATE_HZ as f64)),
                ("audiosamplesize", Value::Number(16.0)),
                ("stereo", Value::Boolean(true)),
            ]);
        }
        let mut payload = Vec::new();
        amf0::put_string(&mut payload, b"@setDataFrame");
        amf0::put_string(&mut payload, b"onMetaData");
        amf0::put_ecma_array(&mut payload, &properties);
        payload
    }

    /// Returns the next frame of either track and appends its payload to `payload`.
    pub fn next_frame(&mut self, payload: &mut Vec<u8>) -> Frame {
        let (video_due, audio_due) = (self.options.fps.due(self.next_video), self.audio_due());
        if self.options.audio_bitrate > 0 && audio_due < video_due {
            self.write_audio(self.next_audio, payload);
            self.next_audio += 1;
            Frame::new(MediaKind::Audio, audio_due)
        } else {
            self.write_video(self.next_video, payload);
            self.next_video += 1;
            Frame::new(MediaKind::Video, video_due)
        }
    }

    fn audio_due(&self) -> Duration {
        let samples = self.next_audio * synthetic_aac::FRAME_SAMPLES;
        Duration::from_micros(samples * 1_000_000 / synthetic_aac::SAMPLE_RATE_HZ)
    }

    fn write_video(&self, number: u64, payload: &mut Vec<u8>) {
        let size = self.options.size;
        let (gop, in_gop) = (number / self.frames_per_gop, number % self.frames_per_gop);
        let is_key = in_gop == 0;
        payload.extend([if is_key { AVC_KEYFRAME } else { AVC_INTER }, FRAME]);
        payload.extend(SHOWN_AT_ONCE);
        if is_key {
            synthetic_avc::write_keyframe(
                payload,
                size,
                gop % 2 == 1,
                self.keyframe_bytes as usize,
            );
        } else {
            let repeats = self.frames_per_gop - 1;
            let bytes = part(self.repeats_bytes, in_gop - 1, repeats);
            synthetic_avc::write_repeat(payload, size, in_gop as u32, bytes);
        }
    }

    fn write_audio(&self, number: u64, payload: &mut Vec<u8>) {
        payload.extend([AAC, FRAME]);
        let second = self.options.audio_bitrate * synthetic_aac::FRAME_SAMPLES / 8;
        let bytes =
            part(second, number % synthetic_aac::SAMPLE_RATE_HZ, synthetic_aac::SAMPLE_RATE_HZ);
        synthetic_aac::write_silence(payload, bytes);
    }
}

impl Frame {
    fn new(media: MediaKind, due: Duration) -> Self {
        Self { due, media, timestamp: due.as_millis() as u32 }
    }
}

/// Returns the size of part `index` if `whole` is divided into `parts` that differ by at most one.
fn part(whole: u64, index: u64, parts: u64) -> usize {
    let before = |index| u128::from(whole) * u128::from(index) / u128::from(parts);
    (before(index + 1) - before(index)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioClass, VideoClass, classify_audio, classify_video};

    fn options(size: &str, fps: &str, gop_s: f64, bitrate: u64) -> EncoderOptions {
        EncoderOptions {
            size: size.parse().unwrap(),
            fps: fps.parse().unwrap(),
            gop_s: Duration::from_secs_f64(gop_s),
            bitrate,
            audio_bitrate: 128_000,
        }
    }

    /// Returns the frames that are due before `until`.
    fn frames(options: EncoderOptions, until: Duration) -> Vec<(Frame, Vec<u8>)> {
        let mut encoder = Encoder::new(options);
        std::iter::from_fn(|| {
            let mut payload = Vec::new();
            let frame = encoder.next_frame(&mut payload);
            Some((frame, payload))
        })
        .take_while(|(frame, _)| frame.due < until)
        .collect()
    }

    #[test]
    fn a_second_has_the_requested_frames_and_a_gop_the_requested_bytes() {
        for (fps, gop_s, bitrate, pictures, keyframes) in [
            ("30", 2.0, 4_000_000, 300, 5),
            ("25", 0.4, 800_000, 250, 25),
            ("59.94", 5.0, 16_000_000, 600, 2),
            ("1", 0.1, 200_000, 10, 10),
        ] {
            let frames = frames(options("640x360", fps, gop_s, bitrate), Duration::from_secs(10));
            let of = |media| frames.iter().filter(move |(frame, _)| frame.media == media);
            let classes: Vec<_> = of(MediaKind::Video)
                .map(|(_, payload)| classify_video(payload).unwrap().class)
                .collect();
            let keys = classes.iter().filter(|class| **class == VideoClass::Keyframe).count();
            assert_eq!((classes.len(), keys), (pictures, keyframes), "{fps}");
            let bits: usize =
                of(MediaKind::Video).map(|(_, payload)| 8 * (payload.len() - 5)).sum();
            assert!(bits.abs_diff(10 * bitrate as usize) <= bits / 1000, "{fps}: {bits}");
            let bits: usize =
                of(MediaKind::Audio).map(|(_, payload)| 8 * (payload.len() - 2)).sum();
            assert!(bits.abs_diff(1_280_000) <= bits / 400, "{bits}");
        }
    }

    #[test]
    fn no_bitrate_makes_a_frame_too_large_for_a_message() {
        for (fps, gop_s) in [("0.1", 10.0), ("0.1", 100.0), ("1000", 3e7)] {
            let mut encoder = Encoder::new(options("16x16", fps, gop_s, 1_000_000_000));
            let largest = (0..20).map(|_| {
                let mut payload = Vec::new();
                encoder.next_frame(&mut payload);
                payload.len()
            });
            assert!(largest.max().unwrap() <= limits::VIDEO_BYTES_MAX, "{fps}, {gop_s}");
        }
    }

    #[test]
    fn frames_come_in_the_order_in_which_they_are_due() {
        let frames = frames(options("320x180", "30", 2.0, 500_000), Duration::from_secs(3));
        assert!(frames.is_sorted_by_key(|(frame, _)| frame.due));
        assert!(frames.iter().all(|(frame, _)| frame.timestamp == frame.due.as_millis() as u32));
        assert_eq!((frames[0].0.media, frames[1].0.media), (MediaKind::Video, MediaKind::Audio));
    }

    #[test]
    fn headers_are_metadata_and_a_configuration_for_each_track() {
        let mut options = options("1280x720", "30", 2.0, 4_000_000);
        let headers = Encoder::new(options.clone()).headers();
        let [(MediaKind::Data, data), (MediaKind::Video, video), (MediaKind::Audio, audio)] =
            &headers[..]
        else {
            panic!("{headers:?}")
        };
        assert!(data.starts_with(b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08"));
        assert_eq!(classify_video(video).unwrap().class, VideoClass::SequenceHeader);
        assert_eq!(classify_audio(audio).unwrap().class, AudioClass::SequenceHeader);
        options.audio_bitrate = 0;
        let mut encoder = Encoder::new(options);
        assert_eq!(encoder.headers().len(), 2);
        let mut media = std::iter::repeat_with(|| encoder.next_frame(&mut Vec::new()).media);
        assert!(media.by_ref().take(50).all(|media| media == MediaKind::Video));
    }

    #[test]
    fn an_invalid_size_rate_or_bitrate_is_refused_with_an_example() {
        for size in ["", "1280", "1281x720", "x", "8x8", "9000x16", "-2x16"] {
            assert!(
                size.parse::<PictureSize>().unwrap_err().contains("such as 1280x720"),
                "{size}"
            );
        }
        for fps in ["0", "x", "nan", "1001", "-1"] {
            assert!(fps.parse::<Fps>().unwrap_err().contains("such as 30 or 29.97"), "{fps}");
        }
        for bits in ["", "M", "-1", "1001M", "4G", "nan"] {
            assert!(bits_per_second(bits).unwrap_err().contains("such as 4M or 800k"), "{bits}");
        }
        let bits =
            ["4M", "0.5m", "800k", "96K", "1234", "0"].map(|bits| bits_per_second(bits).unwrap());
        assert_eq!(bits, [4_000_000, 500_000, 800_000, 96_000, 1234, 0]);
    }
}
