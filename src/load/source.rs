//! The media that a publisher sends: from the synthetic encoder, or from a file in a loop.
//!
//! Owns the order of messages and their due times. Timestamps keep rising when a file starts again.
//! This module reads no clock. It reads a file completely before the run, so that a bad file is
//! reported before the server sees a connection.

use std::collections::VecDeque;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::LoadError;
use super::encoder::{Encoder, EncoderOptions, Frame};
use crate::amf0;
use crate::limits;
use crate::media::MediaKind;
use crate::media::flv::{FlvError, FlvReader};

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
}

#[derive(Debug)]
struct FileTag {
    media: MediaKind,
    /// Time since the first tag (ms).
    time_ms: u32,
    payload: Range<usize>,
}

impl LoopedFile {
    /// Parses a file. Returns `None` if it holds neither audio nor video.
    fn new(bytes: Vec<u8>) -> Result<Option<Self>, FlvError> {
        let mut reader = FlvReader::new(&bytes)?;
        let (mut tags, mut begin) = (Vec::new(), None);
        while let Some(tag) = reader.next_tag()? {
            let time_ms = tag.timestamp.saturating_sub(*begin.get_or_insert(tag.timestamp));
            let payload = tag.offset..tag.offset + tag.payload.len();
            tags.push(FileTag { media: tag.media, time_ms, payload });
        }
        let Some(round_ms) = round_ms(&tags) else { return Ok(None) };
        Ok(Some(Self { bytes, tags, round_ms, round: 0, next: 0 }))
    }

    fn next_frame(&mut self, payload: &mut Vec<u8>) -> Frame {
        let tag = &self.tags[self.next];
        let bytes = &self.bytes[tag.payload.clone()];
        if tag.media == MediaKind::Data && bytes.starts_with(ON_METADATA) {
            amf0::put_string(payload, b"@setDataFrame");
        }
        payload.extend(bytes);
        let time_ms = self.round * self.round_ms + u64::from(tag.time_ms);
        let (due, media) = (Duration::from_millis(time_ms), tag.media);
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

/// Returns the length of a round: the time of the last tag, plus the mean distance between video
/// tags, or between audio tags if there is no video.
fn round_ms(tags: &[FileTag]) -> Option<u64> {
    let times = |media| {
        let mut times: Vec<_> =
            tags.iter().filter(|tag| tag.media == media).map(|tag| tag.time_ms).collect();
        times.sort_unstable();
        times.dedup();
        times
    };
    let video = times(MediaKind::Video);
    let times = if video.is_empty() { times(MediaKind::Audio) } else { video };
    let (first, last) = (times.first()?, times.last()?);
    let mean_ms = (last - first).checked_div(times.len() as u32 - 1).unwrap_or_default();
    let end_ms = tags.iter().map(|tag| tag.time_ms).max()?;
    Some(u64::from(end_ms) + u64::from(mean_ms.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/vectors/ffmpeg5_h264_aac.flv");

    #[test]
    fn a_looped_file_starts_again_one_frame_after_its_end() {
        let mut file = LoopedFile::new(FILE.to_vec()).unwrap().expect("media");
        // The last audio frame is due at 2005. The 31 video frames and headers are 65 ms apart.
        assert_eq!(file.round_ms, 2005 + 65);
        let count = file.tags.len();
        let mut payload = Vec::new();
        let rounds: [Vec<_>; 2] = std::array::from_fn(|_| {
            let next = || {
                payload.clear();
                (file.next_frame(&mut payload), payload.clone())
            };
            std::iter::repeat_with(next).take(count).collect()
        });
        for ((first, first_payload), (second, second_payload)) in rounds[0].iter().zip(&rounds[1]) {
            assert_eq!(second.timestamp, first.timestamp + 2070);
            assert_eq!(second.due, first.due + Duration::from_millis(2070));
            assert_eq!(first_payload, second_payload);
        }
        assert!(rounds[0][0].1.starts_with(b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData"));
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
