//! The head of a fragment with one frame, made for a player when the frame is sent.
//!
//! Many players receive the same frames, each from where it joined, and none has a state but its
//! read position. So the head of a fragment must follow from the message alone: a write that was
//! cut goes on with the same bytes. `fragments.rs` has the writer with a state, for segments that
//! are made once for all players.

use super::{MediaSample, TrackConfig};

/// Units of video in a millisecond.
const VIDEO_UNITS_PER_MS: u32 = super::track_config::VIDEO_TIMESCALE / 1000;
/// Samples of an audio frame whose length is unknown: that of AAC (ISO/IEC 14496-3, section
/// 4.5.1.1).
const FRAME_SAMPLES: u32 = 1024;
/// Length of the head of a fragment, up to the first byte of the frame (bytes).
pub const FRAGMENT_HEAD_BYTES: usize = 112;

/// The times of a stream's tracks in an MP4.
///
/// A frame comes with a time in milliseconds. For video that is exact enough. Sound has to be
/// counted in samples: players mend a gap or an overlap of half a millisecond audibly. The frames
/// of a track are all as long, so their times are on a grid, and the time in milliseconds says
/// which place of the grid is meant. A gap of the publisher moves a frame to another place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mp4Clock {
    /// Ids of the tracks; 0 if there is none.
    pub video_id: u8,
    /// See above.
    pub audio_id: u8,
    /// Samples of an audio frame.
    audio_frame: u32,
    audio_rate: u32,
    /// Time of the grid's first place (ms).
    audio_origin_ms: u32,
    /// Duration of a picture, until the next one corrects it.
    video_step: u32,
}

impl Mp4Clock {
    /// Creates a clock for the tracks, of which video comes first. With the audio track comes the
    /// number of samples in one of its frames, 0 if that is unknown. `origin_ms` is the time of an
    /// audio frame, and `frame_ms` the usual distance of two pictures.
    pub fn new(
        video: Option<&TrackConfig>,
        audio: Option<(&TrackConfig, u32)>,
        origin_ms: u32,
        frame_ms: u32,
    ) -> Self {
        let audio_frame = audio.map_or(0, |(track, samples)| track.frame_samples.max(samples));
        let video_id = u8::from(video.is_some());
        Self {
            video_id,
            audio_id: audio.map_or(0, |_| video_id + 1),
            audio_frame: if audio_frame == 0 { FRAME_SAMPLES } else { audio_frame },
            audio_rate: audio.map_or(0, |(track, _)| track.timescale()),
            audio_origin_ms: origin_ms,
            video_step: frame_ms.max(1) * VIDEO_UNITS_PER_MS,
        }
    }

    /// Returns the head of the fragment with one sample of `size` bytes, decoded at `time_ms`.
    pub fn fragment_head(
        &self,
        is_video: bool,
        sample: &MediaSample<'_>,
        time_ms: u32,
        size: usize,
    ) -> [u8; FRAGMENT_HEAD_BYTES] {
        let (id, time, duration) = if is_video {
            let time = u64::from(time_ms) * u64::from(VIDEO_UNITS_PER_MS);
            (self.video_id, time, self.video_step)
        } else {
            (self.audio_id, self.audio_time(time_ms), self.audio_frame)
        };
        let composition = sample.composition_ms.saturating_mul(VIDEO_UNITS_PER_MS as i32);
        // Sync samples depend on no other, and the others do (section 8.8.3.1).
        let flags: u32 = if sample.is_keyframe { 0x0200_0000 } else { 0x0101_0000 };
        let mut head = Writer { bytes: [0; FRAGMENT_HEAD_BYTES], len: 0 };
        head.field(FRAGMENT_HEAD_BYTES as u32 - 8).name(b"moof");
        head.field(16).name(b"mfhd").field(0).field(time_ms);
        head.field(80).name(b"traf");
        // The offsets of data count from the start of the fragment.
        head.field(16).name(b"tfhd").field(0x02_0000).field(id.into());
        head.field(20).name(b"tfdt").field(0x0100_0000);
        head.field((time >> 32) as u32).field(time as u32);
        // Duration, size, flags and a signed composition offset for the sample (section 8.8.8).
        head.field(36).name(b"trun").field(0x0100_0f01).field(1);
        head.field(FRAGMENT_HEAD_BYTES as u32);
        head.field(duration).field(size as u32).field(flags).field(composition as u32);
        head.field(size as u32 + 8).name(b"mdat");
        debug_assert_eq!(head.len, FRAGMENT_HEAD_BYTES);
        head.bytes
    }

    fn audio_time(&self, time_ms: u32) -> u64 {
        let (rate, frame) = (u64::from(self.audio_rate), i64::from(self.audio_frame));
        let origin = u64::from(self.audio_origin_ms) * rate / 1000;
        let since_ms = i64::from(time_ms) - i64::from(self.audio_origin_ms);
        let samples = since_ms * rate as i64 / 1000;
        let place = (samples + frame / 2).div_euclid(frame) * frame;
        origin.saturating_add_signed(place)
    }
}

/// Writes the fields of a head one behind the other.
struct Writer {
    bytes: [u8; FRAGMENT_HEAD_BYTES],
    len: usize,
}

impl Writer {
    fn name(&mut self, name: &[u8; 4]) -> &mut Self {
        self.bytes[self.len..self.len + 4].copy_from_slice(name);
        self.len += 4;
        self
    }

    fn field(&mut self, value: u32) -> &mut Self {
        self.name(&value.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaKind;
    use crate::media::flv::FlvReader;
    use crate::media::fmp4::sample_of;
    use crate::test_support::hex;

    /// Two seconds of H.264 and AAC at 48 kHz, written by ffmpeg 5.1.
    const FILE: &[u8] = include_bytes!("../../../tests/vectors/ffmpeg5_h264_aac.flv");

    /// The video and the audio track of the file.
    fn tracks() -> (TrackConfig, TrackConfig) {
        let mut reader = FlvReader::new(FILE).unwrap();
        let (mut video, mut audio) = (None, None);
        while let Some(tag) = reader.next_tag().unwrap() {
            match tag.media {
                MediaKind::Video => video = video.or(Some(tag.payload)),
                MediaKind::Audio => audio = audio.or(Some(tag.payload)),
                MediaKind::Data => {}
            }
        }
        let video = TrackConfig::from_video_header(video.unwrap()).unwrap();
        (video, TrackConfig::from_audio_header(audio.unwrap()).unwrap())
    }

    #[test]
    fn a_head_says_what_its_frame_is_and_where() {
        let (video, audio) = tracks();
        let clock = Mp4Clock::new(Some(&video), Some((&audio, 0)), 0, 40);
        // A keyframe of H.264 that is shown 40 ms earlier.
        let payload = hex("17 01 ffffd8 616263");
        let frame = sample_of(MediaKind::Video, &payload, 0).unwrap();
        let head = clock.fragment_head(true, &frame, 1_000, 3);
        let expected = "00000068 6d6f6f66 00000010 6d666864 00000000 000003e8 \
            00000050 74726166 00000010 74666864 00020000 00000001 \
            00000014 74666474 01000000 00000000 00015f90 \
            00000024 7472756e 01000f01 00000001 00000070 \
            00000e10 00000003 02000000 fffff1f0 0000000b 6d646174";
        assert_eq!(head.to_vec(), hex(expected));
    }

    #[test]
    fn sound_is_on_a_grid_of_samples_and_follows_a_gap() {
        let (_, audio) = tracks();
        let clock = Mp4Clock::new(None, Some((&audio, 0)), 1019, 40);
        let time_of = |frame: u64| 1019 + (frame * 1024 * 1000 / 48_000) as u32;
        let first = clock.audio_time(1019);
        for frame in 0..10_000 {
            assert_eq!(clock.audio_time(time_of(frame)), first + frame * 1024, "frame {frame}");
        }
        // Earlier frames are on the same grid, and a gap of a second is a second.
        assert_eq!(clock.audio_time(1019 - 21), first - 1024);
        let gap = clock.audio_time(time_of(100) + 1000) - clock.audio_time(time_of(100));
        assert!((47_000..49_100).contains(&gap) && gap.is_multiple_of(1024), "{gap}");
    }
}
