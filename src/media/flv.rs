//! Reader of FLV files (FLV 10.1, annex E).
//!
//! Owns the header of the file, and the header and trailer of a tag. It never reads a payload: the
//! headers of audio and video are the work of [`media`](crate::media). It copies no bytes and
//! allocates no memory.

use std::error::Error;
use std::fmt;

use crate::media::MediaKind;

/// A reader of the tags in a file.
#[derive(Clone, Debug)]
pub struct FlvReader<'a> {
    file: &'a [u8],
    offset: usize,
}

/// One media tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The kind of media.
    pub media: MediaKind,
    /// Time of the tag (ms).
    pub timestamp: u32,
    /// The payload, which is also the payload of an RTMP message of this kind.
    pub payload: &'a [u8],
    /// Position of the payload in the file (bytes).
    pub offset: usize,
}

/// An error in an FLV file, with its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlvError {
    /// Position in the file (bytes).
    pub offset: usize,
    /// The error.
    pub fault: Fault,
}

/// An error in an FLV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The file does not begin with `FLV`.
    Signature,
    /// The version is not 1.
    Version(u8),
    /// The declared length of the header is less than 9.
    HeaderBytes(u32),
    /// The file ends too early.
    Truncated {
        /// The part that should be here.
        expected: &'static str,
        /// Length of the part (bytes).
        bytes: usize,
        /// Bytes left in the file.
        left: usize,
    },
    /// The payload is encrypted.
    Encrypted,
    /// The length after a tag is not that of the tag.
    PreviousTagSize {
        /// Length of the tag (bytes).
        expected: u32,
        /// The length in the file.
        found: u32,
    },
}

impl fmt::Display for FlvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid FLV file at byte {}: ", self.offset)?;
        match self.fault {
            Fault::Signature => f.write_str("expected the letters FLV"),
            Fault::Version(version) => write!(f, "expected version 1, got {version}"),
            Fault::HeaderBytes(bytes) => {
                write!(f, "expected a header of {HEADER_BYTES} bytes or more, got {bytes}")
            }
            Fault::Truncated { expected, bytes, left } => {
                write!(f, "expected {expected} of {bytes} bytes, got {left}")
            }
            Fault::Encrypted => f.write_str("encrypted tags are not supported"),
            Fault::PreviousTagSize { expected, found } => {
                write!(f, "expected the previous tag size {expected}, got {found}")
            }
        }
    }
}

impl Error for FlvError {}

const HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;
/// Length of the field after the header and after every tag, which repeats the length of the tag
/// (bytes).
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

// The first byte of a tag.
const ENCRYPTED: u8 = 0x20;
const TAG_TYPE_MASK: u8 = 0x1f;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;

impl<'a> FlvReader<'a> {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// Fails if the file is not an FLV file.
    pub fn new(file: &'a [u8]) -> Result<Self, FlvError> {
        if !file.starts_with(b"FLV") {
            return Err(FlvError { offset: 0, fault: Fault::Signature });
        }
        let mut reader = Self { file, offset: 0 };
        let header: [u8; HEADER_BYTES] = reader.take_array("a header")?;
        let [_, _, _, version, _, header_bytes @ ..] = header;
        if version != 1 {
            return Err(FlvError { offset: 3, fault: Fault::Version(version) });
        }
        let header_bytes = u32::from_be_bytes(header_bytes);
        let Some(further) = (header_bytes as usize).checked_sub(HEADER_BYTES) else {
            return Err(FlvError { offset: 5, fault: Fault::HeaderBytes(header_bytes) });
        };
        reader.take("the rest of a header", further)?;
        reader.take("the first previous tag size", PREVIOUS_TAG_SIZE_BYTES)?;
        Ok(reader)
    }

    /// Returns the next tag of audio, video or data; `None` at the end of the file. Other types are
    /// reserved by the format, and are skipped.
    ///
    /// # Errors
    /// Fails if the file is damaged or ends within a tag. The tags before are valid.
    pub fn next_tag(&mut self) -> Result<Option<Tag<'a>>, FlvError> {
        while self.offset < self.file.len() {
            let begin = self.offset;
            let header = self.take_array::<TAG_HEADER_BYTES>("the header of a tag")?;
            let [first, s2, s1, s0, t2, t1, t0, t3, _, _, _] = header;
            if first & ENCRYPTED != 0 {
                return Err(FlvError { offset: begin, fault: Fault::Encrypted });
            }
            let bytes = u32::from_be_bytes([0, s2, s1, s0]);
            let payload = self.take("the payload of a tag", bytes as usize)?;
            self.check_previous_tag_size(TAG_HEADER_BYTES as u32 + bytes)?;
            let media = match first & TAG_TYPE_MASK {
                AUDIO => MediaKind::Audio,
                VIDEO => MediaKind::Video,
                SCRIPT => MediaKind::Data,
                _ => continue,
            };
            // The highest byte follows the others, because the format added it later.
            let timestamp = u32::from_be_bytes([t3, t2, t1, t0]);
            let offset = begin + TAG_HEADER_BYTES;
            return Ok(Some(Tag { media, timestamp, payload, offset }));
        }
        Ok(None)
    }

    fn check_previous_tag_size(&mut self, expected: u32) -> Result<(), FlvError> {
        let offset = self.offset;
        let size = self.take_array::<PREVIOUS_TAG_SIZE_BYTES>("the length of a tag")?;
        match u32::from_be_bytes(size) {
            found if found == expected => Ok(()),
            found => Err(FlvError { offset, fault: Fault::PreviousTagSize { expected, found } }),
        }
    }

    fn take(&mut self, expected: &'static str, bytes: usize) -> Result<&'a [u8], FlvError> {
        let rest = &self.file[self.offset..];
        let Some((taken, _)) = rest.split_at_checked(bytes) else {
            let fault = Fault::Truncated { expected, bytes, left: rest.len() };
            return Err(FlvError { offset: self.offset, fault });
        };
        self.offset += bytes;
        Ok(taken)
    }

    fn take_array<const BYTES: usize>(
        &mut self,
        expected: &'static str,
    ) -> Result<[u8; BYTES], FlvError> {
        let taken = self.take(expected, BYTES)?;
        Ok(std::array::from_fn(|index| taken[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioClass, VideoClass, classify_audio, classify_video};
    use crate::test_support::{Random, hex};

    /// Two seconds of H.264 and AAC, written by ffmpeg 5.1.
    const FILE: &[u8] = include_bytes!("../../tests/vectors/ffmpeg5_h264_aac.flv");

    /// An empty file, followed by one audio tag whose timestamp needs the highest byte.
    const HEADER: &str = "464c56 01 05 00000009 00000000";
    const SOUND: &str = "08 000003 000102 80 000000 af0121 0000000e";

    fn tags(file: &[u8]) -> Result<Vec<Tag<'_>>, FlvError> {
        let mut reader = FlvReader::new(file)?;
        let mut tags = Vec::new();
        while let Some(tag) = reader.next_tag()? {
            tags.push(tag);
        }
        Ok(tags)
    }

    #[test]
    fn file_of_ffmpeg_gives_its_tags() {
        let tags = tags(FILE).unwrap();
        let of = |media| tags.iter().filter(move |tag| tag.media == media);
        let classes: Vec<_> =
            of(MediaKind::Video).map(|tag| classify_video(tag.payload).unwrap().class).collect();
        let count = |class| classes.iter().filter(|of| **of == class).count();
        assert_eq!(classes[0], VideoClass::SequenceHeader);
        assert_eq!((count(VideoClass::Keyframe), count(VideoClass::Inter)), (2, 28));
        assert_eq!(classes.last(), Some(&VideoClass::EndOfSequence));
        let sound: Vec<_> = of(MediaKind::Audio).collect();
        assert_eq!(classify_audio(sound[0].payload).unwrap().class, AudioClass::SequenceHeader);
        assert_eq!(sound.len(), 1 + 95);
        let [data] = of(MediaKind::Data).collect::<Vec<_>>()[..] else { panic!() };
        assert!(data.payload.starts_with(b"\x02\x00\x0aonMetaData"));
        let frames = of(MediaKind::Video).skip(1).take(30);
        let times: Vec<_> = frames.map(|tag| tag.timestamp).collect();
        assert_eq!((times[1], times[29]), (88, 1954));
    }

    #[test]
    fn timestamp_has_its_highest_byte_behind_the_others() {
        let file = hex(&format!("{HEADER}{SOUND}"));
        let payload: &[u8] = &[0xaf, 1, 0x21];
        let tag = Tag { media: MediaKind::Audio, timestamp: 0x8000_0102, payload, offset: 24 };
        assert_eq!(tags(&file).unwrap(), [tag]);
    }

    #[test]
    fn longer_header_and_tags_of_other_types_are_passed_over() {
        let header = "464c56 01 05 0000000b abcd 00000000";
        let other = "0f 000001 000000 00 000000 00 0000000c";
        let file = hex(&format!("{header}{other}{SOUND}"));
        assert_eq!(tags(&file).unwrap().len(), 1);
        assert_eq!(tags(&hex(HEADER)).unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (file, expected) in [
            (String::new(), "byte 0: expected the letters FLV"),
            ("474946383961".to_owned(), "byte 0: expected the letters FLV"),
            ("464c5601".to_owned(), "byte 0: expected a header of 9 bytes, got 4"),
            (HEADER.replace("56 01", "56 02"), "byte 3: expected version 1, got 2"),
            (
                HEADER.replace("00000009", "00000008"),
                "byte 5: expected a header of 9 bytes or more, got 8",
            ),
            (
                HEADER.replace("00000009", "ffffffff"),
                "byte 9: expected the rest of a header of 4294967286 bytes, got 4",
            ),
            (
                "464c56 01 05 00000009".to_owned(),
                "byte 9: expected the first previous tag size of 4 bytes",
            ),
            (format!("{HEADER}08"), "byte 13: expected the header of a tag of 11 bytes, got 1"),
            (
                format!("{HEADER}{}", SOUND.replace("000003", "ffffff")),
                "byte 24: expected the payload of a tag of 16777215 bytes, got 7",
            ),
            (
                format!("{HEADER}{}", SOUND.replace("0000000e", "00")),
                "byte 27: expected the length of a tag of 4 bytes, got 1",
            ),
            (
                format!("{HEADER}{}", SOUND.replace("0000000e", "00000003")),
                "byte 27: expected the previous tag size 14, got 3",
            ),
            (
                format!("{HEADER}{}", SOUND.replacen("08", "28", 1)),
                "byte 13: encrypted tags are not supported",
            ),
        ] {
            let error = tags(&hex(&file)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid FLV file at {expected}")), "{error}");
        }
    }

    #[test]
    fn a_cut_gives_the_tags_before_it_and_damage_no_panic() {
        let all = tags(FILE).unwrap();
        for end in (0..FILE.len()).step_by(97) {
            let Ok(mut reader) = FlvReader::new(&FILE[..end]) else {
                assert!(end < HEADER_BYTES + PREVIOUS_TAG_SIZE_BYTES);
                continue;
            };
            let mut count = 0;
            while let Ok(Some(tag)) = reader.next_tag() {
                assert_eq!(tag, all[count]);
                count += 1;
            }
            assert!(count < all.len());
        }
        let mut random = Random::new(1);
        for _ in 0..500 {
            let mut file = FILE.to_vec();
            let at = random.below(file.len());
            file[at] ^= 1 << random.below(8);
            let _ = tags(&file);
        }
    }
}
