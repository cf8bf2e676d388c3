//! What a publisher sends: the synthetic encoder, or a file again and again.
//!
//! Owns the order of messages and when each is due. Time goes on where a file begins anew. It
//! reads no clock, and the file as a whole before anything is sent, so that a bad one is told
//! before a server is asked.

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
        /// What stands before all frames.
        headers: VecDeque<(MediaKind, Vec<u8>)>,
    },
    File(Film),
}

impl MediaSource {
    pub(super) fn of_encoder(options: EncoderOptions) -> Self {
        let encoder = Encoder::new(options);
        Self::Encoder { headers: encoder.headers().into(), encoder }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, is no good FLV, or holds neither audio nor video.
    pub(super) fn of_file(path: &Path) -> Result<Self, LoadError> {
        let file = path.display().to_string();
        let unreadable = |error| LoadError::File { file: file.clone(), error };
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        if bytes > limits::LOAD_FILE_BYTES_MAX {
            return Err(LoadError::FileTooLarge { file, bytes });
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        match Film::new(bytes) {
            Ok(Some(film)) => Ok(Self::File(film)),
            Ok(None) => Err(LoadError::NoMedia { file }),
            Err(error) => Err(LoadError::BadMedia { file, error }),
        }
    }

    /// The next message, whose payload is put in place of what `payload` held.
    pub(super) fn next_frame(&mut self, payload: &mut Vec<u8>) -> Frame {
        payload.clear();
        match self {
            Self::File(film) => film.next_frame(payload),
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

/// A file that begins anew when it is over.
#[derive(Debug)]
pub(super) struct Film {
    bytes: Vec<u8>,
    tags: Vec<FilmTag>,
    /// How much later each round is than the one before (ms).
    round_ms: u64,
    round: u64,
    next: usize,
}

#[derive(Debug)]
struct FilmTag {
    media: MediaKind,
    /// Since the first tag (ms).
    time_ms: u32,
    payload: Range<usize>,
}

impl Film {
    /// `None`: it holds neither audio nor video.
    fn new(bytes: Vec<u8>) -> Result<Option<Self>, FlvError> {
        let mut reader = FlvReader::new(&bytes)?;
        let (mut tags, mut begin) = (Vec::new(), None);
        while let Some(tag) = reader.next_tag()? {
            let time_ms = tag.timestamp.saturating_sub(*begin.get_or_insert(tag.timestamp));
            let payload = tag.offset..tag.offset + tag.payload.len();
            tags.push(FilmTag { media: tag.media, time_ms, payload });
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
        // Timestamps wrap, after 49 days.
        Frame { due, media, timestamp: time_ms as u32 }
    }
}

/// A string of AMF0 as metadata begins with it.
const ON_METADATA: &[u8] = b"\x02\x00\x0aonMetaData";

/// To the last tag, and from there as far as the tags of video, or of audio if there is none, are
/// apart in the mean.
fn round_ms(tags: &[FilmTag]) -> Option<u64> {
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
    fn film_begins_anew_one_picture_after_its_end() {
        let mut film = Film::new(FILE.to_vec()).unwrap().expect("it has media");
        // The last sound is due at 2005, and the 31 pictures and headers of video are 65 apart.
        assert_eq!(film.round_ms, 2005 + 65);
        let count = film.tags.len();
        let mut payload = Vec::new();
        let rounds: [Vec<_>; 2] = std::array::from_fn(|_| {
            let next = || {
                payload.clear();
                (film.next_frame(&mut payload), payload.clone())
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
        assert!(Film::new(FILE[..13].to_vec()).unwrap().is_none());
        let metadata_bytes = usize::from(FILE[15]) << 8 | usize::from(FILE[16]);
        assert!(Film::new(FILE[..13 + 11 + metadata_bytes + 4].to_vec()).unwrap().is_none());
    }

    #[test]
    fn headers_stand_before_all_frames() {
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
