//! Fragments: a `moof` box with the times of some frames, and the head of the `mdat` box that holds
//! them.
//!
//! The boxes have few fields, nearly all of fixed size, and there is one fragment for each frame
//! of each stream. They are therefore written field by field, without allocating. The clocks of
//! the tracks are here, too: video has the time of its messages, audio counts its samples.

use std::error::Error;
use std::fmt;

use super::TrackConfig;
use super::track_config::VIDEO_TIMESCALE;

/// Ticks of video in a millisecond.
const VIDEO_TICKS_PER_MS: u32 = VIDEO_TIMESCALE / 1000;
/// Difference between the count of audio samples and the time of a message from which on the time
/// applies (ms). RTMP rounds times to 1 ms, and encoders add jitter.
const AUDIO_DRIFT_MS_MAX: u64 = 30;
/// Duration of the first frame, before any difference is known (ms).
const FIRST_DURATION_MS: u32 = 33;
/// Longest duration that is expected of a frame (ms). A pause of the encoder says nothing about the
/// frame after it.
const EXPECTED_DURATION_MS_MAX: u32 = 1000;
/// Bound of the data of a fragment, whose positions are signed 32-bit numbers (bytes).
const FRAGMENT_BYTES_MAX: u64 = 1 << 30;

// Sizes of boxes (bytes; ISO/IEC 14496-12, section 8.8).
const BOX_HEAD_BYTES: u32 = 8;
const MOOF_BYTES: u32 = BOX_HEAD_BYTES + MFHD_BYTES;
const MFHD_BYTES: u32 = 16;
const TRAF_BYTES: u32 = BOX_HEAD_BYTES + TFHD_BYTES + TFDT_BYTES + TRUN_BYTES;
const TFHD_BYTES: u32 = 16;
const TFDT_BYTES: u32 = 20;
const TRUN_BYTES: u32 = 20;
const TRUN_SAMPLE_BYTES: u32 = 16;

/// `default-base-is-moof`
const TFHD_FLAGS: u32 = 0x02_0000;
const TFDT_VERSION_1: u32 = 1 << 24;
/// Version 1 with signed composition offsets; the position of the data, then duration, size, flags
/// and composition offset of each frame.
const TRUN_VERSION_AND_FLAGS: u32 = 1 << 24 | 0x000f01;
/// `sample_depends_on` is 2: the frame depends on no other.
const KEYFRAME_FLAGS: u32 = 0x0200_0000;
/// `sample_depends_on` is 1, and `sample_is_non_sync_sample` is set.
const INTER_FLAGS: u32 = 0x0101_0000;

/// The values that a fragment has of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleInfo {
    /// Position of the track in the init segment, from 0.
    pub track: usize,
    /// Decoding time (ms, modulo 2^32). It does not go back within a track.
    pub timestamp: u32,
    /// Size of the frame (bytes).
    pub bytes: u32,
    /// Time from decoding to display (ms).
    pub composition_ms: i32,
    /// Whether decoding can start with the frame.
    pub is_keyframe: bool,
    /// Samples of sound in the frame; 0 if only the configuration has the number, and for video.
    pub audio_samples: u32,
    /// Duration of a video frame, if the next one is known (ms). Otherwise it is estimated, and the
    /// next fragment corrects it.
    pub duration_ms: Option<u32>,
}

/// A fragment has too much data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentTooLarge;

impl fmt::Display for FragmentTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a fragment of more than {FRAGMENT_BYTES_MAX} bytes")
    }
}

impl Error for FragmentTooLarge {}

/// Writer of the fragments of a stream, or of one rendition of it.
#[derive(Clone, Debug)]
pub struct Fragments {
    /// `sequence_number` of the last fragment.
    sequence: u32,
    /// The last timestamp of any track: as it came, and without its wraps.
    newest: Option<(u32, u64)>,
    clocks: Vec<TrackClock>,
}

/// The clock of a track.
#[derive(Clone, Debug)]
struct TrackClock {
    timescale: u32,
    is_video: bool,
    /// Samples in each frame of audio; 0 if unknown.
    frame_samples: u32,
    /// Decoding time of the last frame (ticks).
    last: Option<u64>,
    /// End of the last frame of audio by the count of its samples (ticks).
    counted: u64,
    /// Expected duration of a frame (ticks).
    expected: u32,
}

/// Position and duration of a frame (ticks).
struct Placed {
    decode: u64,
    duration: u32,
}

impl Fragments {
    /// Creates the writer for the tracks of an init segment, in the same order.
    pub fn new(tracks: &[&TrackConfig]) -> Self {
        let clocks = tracks.iter().map(|track| TrackClock::new(track)).collect();
        Self { sequence: 0, newest: None, clocks }
    }

    /// Writes everything before the bytes of a frame: a `moof` box, and the head of an `mdat` box.
    /// The caller sends `sample.bytes` bytes of the frame after it.
    ///
    /// Writes nothing if there is no such track.
    pub fn head(&mut self, out: &mut Vec<u8>, sample: &SampleInfo) {
        // One frame is a part of an RTMP message, so it is far below the bound.
        let _ = self.head_of_many(out, std::slice::from_ref(sample));
    }

    /// Writes everything before the bytes of several frames. The caller sends the frames after it,
    /// in the same order. Frames of the same track should be adjacent: each change of the track
    /// adds a box. Writes nothing if the track of a frame does not exist.
    ///
    /// # Errors
    /// Fails without writing anything if the frames are larger than 1 GiB in sum.
    pub fn head_of_many(
        &mut self,
        out: &mut Vec<u8>,
        samples: &[SampleInfo],
    ) -> Result<(), FragmentTooLarge> {
        let bytes: u64 = samples.iter().map(|sample| u64::from(sample.bytes)).sum();
        let heads = u64::from(TRAF_BYTES + TRUN_SAMPLE_BYTES) * samples.len() as u64;
        if bytes + heads > FRAGMENT_BYTES_MAX {
            return Err(FragmentTooLarge);
        }
        if samples.is_empty() || samples.iter().any(|sample| sample.track >= self.clocks.len()) {
            return Ok(());
        }
        let runs = || samples.chunk_by(|a, b| a.track == b.track);
        let moof_bytes = MOOF_BYTES + runs().map(traf_bytes).sum::<u32>();
        self.sequence = self.sequence.wrapping_add(1);
        put_box(out, moof_bytes, b"moof");
        put_box(out, MFHD_BYTES, b"mfhd");
        put_u32(out, &[0, self.sequence]);
        let mut data_offset = moof_bytes + BOX_HEAD_BYTES;
        for run in runs() {
            self.put_traf(out, run, data_offset);
            data_offset += run.iter().map(|sample| sample.bytes).sum::<u32>();
        }
        put_box(out, BOX_HEAD_BYTES + bytes as u32, b"mdat");
        Ok(())
    }

    /// Writes a whole fragment of several frames. The order of the frames is as for
    /// [`Fragments::head_of_many`]. The size of a frame is that of its bytes.
    ///
    /// # Errors
    /// Fails without writing anything if the frames are larger than 1 GiB in sum.
    pub fn fragment(
        &mut self,
        out: &mut Vec<u8>,
        samples: &[(SampleInfo, &[u8])],
    ) -> Result<(), FragmentTooLarge> {
        let infos = samples.iter().map(|(info, bytes)| {
            let bytes = u32::try_from(bytes.len()).map_err(|_| FragmentTooLarge)?;
            Ok(SampleInfo { bytes, ..*info })
        });
        let infos = infos.collect::<Result<Vec<_>, _>>()?;
        if infos.iter().any(|info| info.track >= self.clocks.len()) {
            return Ok(());
        }
        self.head_of_many(out, &infos)?;
        samples.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
        Ok(())
    }

    /// Writes the boxes of some frames of one track, whose bytes are at `data_offset` from the
    /// start of the `moof` box.
    fn put_traf(&mut self, out: &mut Vec<u8>, run: &[SampleInfo], data_offset: u32) {
        let track = run[0].track;
        put_box(out, traf_bytes(run), b"traf");
        put_box(out, TFHD_BYTES, b"tfhd");
        put_u32(out, &[TFHD_FLAGS, track as u32 + 1]);
        put_box(out, TFDT_BYTES, b"tfdt");
        put_u32(out, &[TFDT_VERSION_1]);
        let first_decode_at = out.len();
        out.extend_from_slice(&[0; 8]);
        put_box(out, TRUN_BYTES + run.len() as u32 * TRUN_SAMPLE_BYTES, b"trun");
        put_u32(out, &[TRUN_VERSION_AND_FLAGS, run.len() as u32, data_offset]);
        let mut first = None;
        for (index, sample) in run.iter().enumerate() {
            let mut placed = self.place(sample);
            // Within a run, only durations give the times of the frames.
            if let Some(next) = run.get(index + 1) {
                placed.duration = self.distance(&placed, next);
            }
            first.get_or_insert(placed.decode);
            let clock = &self.clocks[track];
            let flags = if sample.is_keyframe { KEYFRAME_FLAGS } else { INTER_FLAGS };
            put_u32(out, &[placed.duration, sample.bytes, flags]);
            out.extend_from_slice(&clock.composition(sample).to_be_bytes());
        }
        let first = first.unwrap_or_default().to_be_bytes();
        out[first_decode_at..first_decode_at + first.len()].copy_from_slice(&first);
    }

    /// Moves the clock of a track to a frame.
    fn place(&mut self, sample: &SampleInfo) -> Placed {
        let ms = self.without_wraps(sample.timestamp);
        self.newest = Some((sample.timestamp, ms));
        self.clocks[sample.track].place(ms, sample)
    }

    /// Returns the ticks from a frame to the next one of its track, without moving the clock.
    fn distance(&self, from: &Placed, next: &SampleInfo) -> u32 {
        let ms = self.without_wraps(next.timestamp);
        let decode = self.clocks[next.track].clone().place(ms, next).decode;
        u32::try_from(decode - from.decode).unwrap_or(u32::MAX)
    }

    /// Returns a timestamp in milliseconds that continue after 2^32. The first one is kept.
    fn without_wraps(&self, timestamp: u32) -> u64 {
        let Some((sent, ms)) = self.newest else { return timestamp.into() };
        let step = timestamp.wrapping_sub(sent).cast_signed();
        ms.saturating_add_signed(step.into())
    }
}

impl TrackClock {
    fn new(track: &TrackConfig) -> Self {
        Self {
            timescale: track.timescale,
            is_video: track.is_video(),
            frame_samples: track.frame_samples,
            last: None,
            counted: 0,
            expected: 0,
        }
    }

    fn place(&mut self, ms: u64, sample: &SampleInfo) -> Placed {
        let samples =
            if sample.audio_samples > 0 { sample.audio_samples } else { self.frame_samples };
        let counts = !self.is_video && samples > 0;
        let by_time = self.ticks(ms);
        let wanted = if counts { self.count(by_time) } else { by_time };
        // Decoding times that go back would end the playback in a browser.
        let decode = wanted.max(self.last.unwrap_or(0));
        if let Some(last) = self.last {
            self.expect(decode - last);
        } else {
            self.expected = self.ticks(FIRST_DURATION_MS.into()) as u32;
        }
        let duration = match sample.duration_ms {
            _ if counts => samples,
            Some(ms) => self.ticks(ms.into()).try_into().unwrap_or(u32::MAX),
            None => self.expected,
        };
        self.last = Some(decode);
        self.counted = decode + u64::from(duration);
        Placed { decode, duration }
    }

    /// Returns the time of a frame of audio: where the count is, unless that has drifted from the
    /// time of its message.
    fn count(&self, by_time: u64) -> u64 {
        let drift = self.counted.abs_diff(by_time);
        let has_drifted = drift * 1000 > AUDIO_DRIFT_MS_MAX * u64::from(self.timescale);
        if self.last.is_none() || has_drifted { by_time } else { self.counted }
    }

    /// Updates the expected duration of a frame. It follows the last difference up at once, and
    /// down in steps: MSE drops frames up to the next keyframe if a frame starts later than twice
    /// the duration after the one before (Media Source Extensions, "coded frame processing").
    fn expect(&mut self, difference: u64) {
        let longest = self.ticks(EXPECTED_DURATION_MS_MAX.into());
        let difference = difference.min(longest) as u32;
        self.expected = difference.max(self.expected - self.expected / 8).max(1);
    }

    fn ticks(&self, ms: u64) -> u64 {
        let ticks = u128::from(ms) * u128::from(self.timescale) + 500;
        (ticks / 1000) as u64
    }

    fn composition(&self, sample: &SampleInfo) -> i32 {
        if self.is_video {
            sample.composition_ms.saturating_mul(VIDEO_TICKS_PER_MS as i32)
        } else {
            0
        }
    }
}

/// Writes a `styp` box, which starts a segment that is a file of its own (ISO/IEC 14496-12, section
/// 8.16.2).
pub fn write_styp(out: &mut Vec<u8>) {
    put_box(out, BOX_HEAD_BYTES + 16, b"styp");
    out.extend_from_slice(b"msdh\0\0\0\0msdhmsix");
}

/// Size of the boxes for some frames of one track (bytes).
fn traf_bytes(run: &[SampleInfo]) -> u32 {
    TRAF_BYTES + run.len() as u32 * TRUN_SAMPLE_BYTES
}

fn put_box(out: &mut Vec<u8>, bytes: u32, kind: &[u8; 4]) {
    put_u32(out, &[bytes]);
    out.extend_from_slice(kind);
}

fn put_u32(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
}
