//! The media that a publisher sends: from the synthetic encoder, or from a file in a loop.
//!
//! Owns the order of messages and their due times. Due times never go back, because the generator
//! would count as late. When a file starts again, its frames follow without a gap. This module
//! reads no clock. It reads a file completely before the run, so that a bad file is reported before
//! the server sees a connection.

use std::collections::VecDeque;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::LoadError;
use super::encoder::{Encoder, EncoderOptions, Frame};
use crate::amf0;
use crate::limits;
use crate::media::flv::{FlvError, FlvReader};
use crate::media::{AudioClass, MediaKind, VideoClass, classify_audio, classify_video};

/// See the module's head.
#[derive(Debug)]
pub(super) enum MediaSource {
    Encoder {
        encoder: Encoder,
        /// Metadata and sequence headers, sent before all frames.
        headers: VecDeque<(MediaKind, Vec<u8>)>,
    },
    File(LoopedFile),
}

impl MediaSource {
    pub(super) fn of_encoder(options: EncoderOptions) -> Self {
        let encoder = Encoder::new(options);
        Self::Encoder { headers: encoder.headers().into(), encoder }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is too large, is not valid FLV, or holds neither audio nor video.
    pub(super) fn of_file(path: &Path) -> Result<Self, LoadError> {
        let file = path.display().to_string();
        let unreadable = |error| LoadError::File { file: file.clone(), error };
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        if bytes > limits::LOAD_FILE_BYTES_MAX {
            return Err(LoadError::FileTooLarge { file, bytes });
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        match LoopedFile::new(bytes) {
            Ok(Some(file)) => Ok(Self::File(file)),
            Ok(None) => Err(LoadError::NoMedia { file }),
            Err(error) => Err(LoadError::BadMedia { file, error }),
        }
    }

    /// Returns the next message and replaces `payload` with its payload.
    pub(super) fn next_frame(&mut self, payload: &mut Vec<u8>) -> Frame {
        payload.clear();
        match self {
            Self::File(file) => file.next_frame(payload),
            Self::Encoder { encoder, headers } => match headers.pop_front() {
                Some((media, header)) => {
                    *payload = header;
                    Frame { due: Duration::ZERO, media, timestamp: 0 }
                }
                None => encoder.next_frame(payload),
            },
        }
    }
}

/// A file that starts again at its end.
#[derive(Debug)]
pub(super) struct LoopedFile {
    bytes: Vec<u8>,
    tags: Vec<FileTag>,
    /// Difference of the timestamps between one round and the next (ms).
    round_ms: u64,
    round: u64,
    next: usize,
    /// When the last tag was due (ms).
    due_ms: u64,
}

#[derive(Debug)]
struct FileTag {
    media: MediaKind,
    role: Role,
    /// Time since the first tag (ms).
    time_ms: u32,
    payload: Range<usize>,
}

/// Part of a tag in the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Frame,
    /// Metadata or a decoder configuration, sent in each round.
    Header,
    /// The end of a sequence, which the stream does not have. It would stop decoders, and ffmpeg
    /// writes it with a time before that of the frames before it.
    End,
}

impl Role {
    fn of(media: MediaKind, payload: &[u8]) -> Self {
        match media {
            MediaKind::Video => match classify_video(payload).map(|tag| tag.class) {
                Ok(VideoClass::EndOfSequence) => Self::End,
                Ok(
                    VideoClass::Keyframe
                    | VideoClass::Inter
                    | VideoClass::Disposable
                    | VideoClass::Opaque,
                ) => Self::Frame,
                _ => Self::Header,
            },
            MediaKind::Audio => match classify_audio(payload).map(|tag| tag.class) {
                Ok(AudioClass::EndOfSequence) => Self::End,
                Ok(AudioClass::Frame | AudioClass::Silence | AudioClass::Opaque) => Self::Frame,
                _ => Self::Header,
            },
            MediaKind::Data => Self::Header,
        }
    }
}

impl LoopedFile {
    /// Parses a file. Returns `None` if it holds neither audio nor video.
    fn new(bytes: Vec<u8>) -> Result<Option<Self>, FlvError> {
        let mut reader = FlvReader::new(&bytes)?;
        let (mut tags, mut begin) = (Vec::new(), None);
        while let Some(tag) = reader.next_tag()? {
            let time_ms = tag.timestamp.saturating_sub(*begin.get_or_insert(tag.timestamp));
            let payload = tag.offset..tag.offset + tag.payload.len();
            let role = Role::of(tag.media, tag.payload);
            tags.push(FileTag { media: tag.media, role, time_ms, payload });
        }
        let tracks = [MediaKind::Video, MediaKind::Audio].map(|media| FrameSpan::of(&tags, media));
        let Some(round_ms) = round_ms(tracks) else { return Ok(None) };
        let ends = tracks.map(|track| track.map_or(0, |track| track.first_ms + round_ms));
        tags.retain(|tag| match (tag.role, tag.media) {
            (Role::End, _) => false,
            (Role::Frame, MediaKind::Video) => u64::from(tag.time_ms) < ends[0],
            (Role::Frame, MediaKind::Audio) => u64::from(tag.time_ms) < ends[1],
            _ => true,
        });
        Ok(Some(Self { bytes, tags, round_ms, round: 0, next: 0, due_ms: 0 }))
    }

    fn next_frame(&mut self, payload: &mut Vec<u8>) -> Frame {
        let tag = &self.tags[self.next];
        let bytes = &self.bytes[tag.payload.clone()];
        if tag.media == MediaKind::Data && bytes.starts_with(ON_METADATA) {
            amf0::put_string(payload, b"@setDataFrame");
        }
        payload.extend(bytes);
        let time_ms = self.round * self.round_ms + u64::from(tag.time_ms);
        self.due_ms = self.due_ms.max(time_ms);
        let (due, media) = (Duration::from_millis(self.due_ms), tag.media);
        self.next += 1;
        if self.next == self.tags.len() {
            (self.next, self.round) = (0, self.round + 1);
        }
        // Timestamps wrap after 49 days.
        Frame { due, media, timestamp: time_ms as u32 }
    }
}

/// The AMF0 string with which metadata starts.
const ON_METADATA: &[u8] = b"\x02\x00\x0aonMetaData";

/// The frames of one kind in a file.
#[derive(Clone, Copy, Debug)]
struct FrameSpan {
    first_ms: u64,
    /// From the first frame to where the frame after the last one belongs.
    length_ms: u64,
}

impl FrameSpan {
    /// Measures the frames of this kind. `None` if there are none.
    fn of(tags: &[FileTag], media: MediaKind) -> Option<Self> {
        let is_frame = |tag: &&FileTag| tag.media == media && tag.role == Role::Frame;
        let mut times: Vec<_> =
            tags.iter().filter(is_frame).map(|tag| u64::from(tag.time_ms)).collect();
        times.sort_unstable();
        times.dedup();
        let (first_ms, last_ms) = (*times.first()?, *times.last()?);
        let steps = times.len() as f64 - 1.0;
        let length_ms = if times.len() > 1 {
            ((last_ms - first_ms) as f64 * (steps + 1.0) / steps).round() as u64
        } else {
            // A single picture is shown until the end of the file.
            let end_ms = tags.iter().map(|tag| u64::from(tag.time_ms)).max()?;
            end_ms.saturating_sub(first_ms) + 1
        };
        Some(Self { first_ms, length_ms })
    }
}

/// Sound and pictures whose lengths differ by no more than this are cut to the shorter one (ms).
const CUT_MAX_MS: u64 = 1000;

/// Returns the length of a round: that of the shorter of the two tracks, so that neither has a gap
/// where the file starts again. If they differ by more than [`CUT_MAX_MS`], nothing is cut, because
/// one of them is meant to end before the other.
fn round_ms(tracks: [Option<FrameSpan>; 2]) -> Option<u64> {
    let lengths = tracks.into_iter().flatten().map(|track| track.length_ms);
    let (shortest, longest) = (lengths.clone().min()?, lengths.max()?);
    Some(if longest - shortest > CUT_MAX_MS { longest } else { shortest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/vectors/ffmpeg5_h264_aac.flv");

    /// The first `count` frames of a file, and their payloads.
    fn frames(file: &mut LoopedFile, count: usize) -> Vec<(Frame, Vec<u8>)> {
        let mut next = || {
            let mut payload = Vec::new();
            (file.next_frame(&mut payload), payload)
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_looped_file_starts_again_without_a_gap() {
        let mut file = LoopedFile::new(FILE.to_vec()).unwrap().expect("media");
        // 30 frames from 21 to 1954 ms, 66 or 67 ms apart. The sound is longer by one frame, which
        // is left out, and so is the end of sequence.
        assert_eq!((file.round_ms, file.tags.len()), (2000, 1 + 31 + 95));
        let count = file.tags.len();
        let all = frames(&mut file, 3 * count);
        for ((first, first_payload), (second, second_payload)) in all.iter().zip(&all[count..]) {
            assert_eq!(second.timestamp, first.timestamp + 2000);
            assert_eq!(first_payload, second_payload);
        }
        for (media, steps) in [(MediaKind::Video, 66..=67), (MediaKind::Audio, 16..=22)] {
            let is_frame = |(frame, payload): &&(Frame, Vec<u8>)| {
                frame.media == media && Role::of(media, payload) == Role::Frame
            };
            let times: Vec<_> =
                all.iter().filter(is_frame).map(|(frame, _)| frame.timestamp).collect();
            let wrong = times.windows(2).find(|two| !steps.contains(&(two[1] - two[0])));
            assert_eq!(wrong, None, "{media:?}");
        }
        assert!(all[0].1.starts_with(b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData"));
    }

    #[test]
    fn due_times_never_go_back_even_if_timestamps_do() {
        let mut file = LoopedFile::new(FILE.to_vec()).unwrap().expect("media");
        // As badly interleaved as files may be: the first tags come last.
        file.tags.rotate_left(20);
        let all = frames(&mut file, 400);
        assert!(all.windows(2).all(|two| two[0].0.due <= two[1].0.due));
        let earlier = |two: &&[(Frame, Vec<u8>)]| two[1].0.timestamp < two[0].0.timestamp;
        assert!(all.windows(2).filter(earlier).count() > 0);
    }

    #[test]
    fn sound_that_goes_on_for_long_after_the_pictures_is_not_cut() {
        let span = |first_ms, length_ms| Some(FrameSpan { first_ms, length_ms });
        assert_eq!(round_ms([span(21, 2000), span(0, 2026)]), Some(2000));
        assert_eq!(round_ms([span(0, 2026), span(0, 2000)]), Some(2000));
        assert_eq!(round_ms([span(0, 2000), span(0, 3001)]), Some(3001));
        assert_eq!(round_ms([None, span(0, 2026)]), Some(2026));
        assert_eq!(round_ms([None, None]), None);
    }

    #[test]
    fn film_without_media_is_none() {
        assert!(LoopedFile::new(FILE[..13].to_vec()).unwrap().is_none());
        let metadata_bytes = usize::from(FILE[15]) << 8 | usize::from(FILE[16]);
        assert!(LoopedFile::new(FILE[..13 + 11 + metadata_bytes + 4].to_vec()).unwrap().is_none());
    }

    #[test]
    fn headers_come_before_all_frames() {
        let options = EncoderOptions {
            size: "320x180".parse().unwrap(),
            fps: "30".parse().unwrap(),
            gop_s: Duration::from_secs(1),
            bitrate: 300_000,
            audio_bitrate: 64_000,
        };
        let mut source = MediaSource::of_encoder(options);
        let media: Vec<_> = (0..5).map(|_| source.next_frame(&mut Vec::new()).media).collect();
        use MediaKind::{Audio, Data, Video};
        assert_eq!(media, [Data, Video, Audio, Video, Audio]);
    }
}
