//! The client's end of HTTP: what a player or a program reads, with a parser of its own.

use super::media;
use crate::wire::{AUDIO, Message, VIDEO, big};

/// Length of the header of an FLV file with the size of the tag before the first.
const FLV_HEADER_BYTES: usize = 13;
/// Length of the header of a tag, and of the size after it.
const TAG_HEADER_BYTES: usize = 11;
const TAG_SIZE_BYTES: usize = 4;

/// What has come.
#[derive(Debug)]
pub(super) enum Heard {
    /// The head of a response.
    Status(u16),
    /// The header of an FLV file.
    Begun,
    /// The initialization segment of an MP4, with its configurations.
    Initialized(Vec<Message>),
    Media(Message),
    Pong(Vec<u8>),
    Close,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    #[default]
    Head,
    /// The rest of a body.
    Body(usize),
    FlvHeader {
        is_websocket: bool,
    },
    Tags {
        is_websocket: bool,
    },
    /// The boxes of an MP4.
    Boxes {
        is_websocket: bool,
    },
}

/// What a player of MP4 knows.
#[derive(Debug, Default)]
struct Mp4 {
    /// Whether each track is video, in the order of the ids.
    tracks: Vec<bool>,
    /// Decoding time of the newest frame of each track, in units of the track.
    decoded: Vec<u64>,
    /// The box before the frame that comes next.
    moof: Vec<u8>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct WebReader {
    bytes: Vec<u8>,
    expected: Expected,
    /// `None` for a player of FLV.
    mp4: Option<Mp4>,
}

impl WebReader {
    /// Creates the reader of a player of MP4.
    pub(super) fn of_mp4() -> Self {
        Self { mp4: Some(Mp4::default()), ..Self::default() }
    }

    /// Returns everything that is complete with these bytes.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.bytes.extend(bytes);
        let mut heard = Vec::new();
        while let Some(next) = self.next() {
            heard.extend(next);
        }
        heard
    }

    /// Returns whether nothing has come in part.
    pub(super) fn is_between(&self) -> bool {
        let has_moof = self.mp4.as_ref().is_some_and(|mp4| !mp4.moof.is_empty());
        self.bytes.is_empty() && !has_moof && !matches!(self.expected, Expected::Body(_))
    }

    /// Returns whether a stream is played over WebSocket.
    pub(super) const fn is_websocket(&self) -> bool {
        matches!(
            self.expected,
            Expected::Tags { is_websocket: true } | Expected::Boxes { is_websocket: true }
        )
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        (self.bytes.len() >= count).then(|| self.bytes.drain(..count).collect())
    }

    /// Consumes the next part. Returns `None` if it is not complete.
    fn next(&mut self) -> Option<Option<Heard>> {
        match self.expected {
            Expected::Head => self.head().map(Some),
            Expected::Body(left) => {
                self.take(left)?;
                self.expected = Expected::Head;
                Some(None)
            }
            Expected::FlvHeader { is_websocket: false } => {
                let header = self.take(FLV_HEADER_BYTES)?;
                Some(Some(self.flv_header(&header)))
            }
            Expected::Tags { is_websocket: false } => {
                let len = self.bytes.get(1..4).map(|len| big(len) as usize)?;
                let tag = self.take(TAG_HEADER_BYTES + len + TAG_SIZE_BYTES)?;
                Some(Some(Heard::Media(tag_of(&tag))))
            }
            Expected::Boxes { is_websocket: false } => {
                let len = self.bytes.get(..4).map(|len| big(len) as usize)?;
                let whole = self.take(len)?;
                Some(self.mp4.as_mut()?.read(&whole))
            }
            _ => self.frame(),
        }
    }

    fn head(&mut self) -> Option<Heard> {
        let len = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.take(len)?).expect("a head of ASCII");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let status = status.unwrap_or_else(|| panic!("a head without status: {head}"));
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find_map(|(name, value)| (name == "Content-Length").then_some(value));
        self.expected = match length {
            Some(length) => Expected::Body(length.parse().expect("a length")),
            None if matches!(status, 101 | 200) => {
                let is_websocket = status == 101;
                match self.mp4 {
                    Some(_) => Expected::Boxes { is_websocket },
                    None => Expected::FlvHeader { is_websocket },
                }
            }
            None => Expected::Head,
        };
        Some(Heard::Status(status))
    }

    fn flv_header(&mut self, header: &[u8]) -> Heard {
        assert_eq!((header.len(), &header[..4]), (FLV_HEADER_BYTES, &b"FLV\x01"[..]));
        let is_websocket = self.expected == Expected::FlvHeader { is_websocket: true };
        self.expected = Expected::Tags { is_websocket };
        Heard::Begun
    }

    fn frame(&mut self) -> Option<Option<Heard>> {
        let (head, len) = match *self.bytes.get(1)? {
            127 => (10, big(self.bytes.get(6..10)?) as usize),
            126 => (4, big(self.bytes.get(2..4)?) as usize),
            len => (2, usize::from(len)),
        };
        let frame = self.take(head + len)?;
        let payload = &frame[head..];
        if let (0x81 | 0x82, Some(mp4)) = (frame[0], &mut self.mp4) {
            // A text names the codecs, and the initialization segment follows.
            let is_text = frame[0] == 0x81;
            assert!(!is_text || payload.starts_with(b"{"), "a text that names no codecs");
            return Some(if is_text { None } else { mp4.read_all(payload) });
        }
        Some(Some(match (frame[0], self.expected) {
            (0x82, Expected::FlvHeader { .. }) => self.flv_header(payload),
            (0x82, _) => Heard::Media(tag_of(payload)),
            (0x88, _) => Heard::Close,
            (0x8a, _) => Heard::Pong(payload.to_vec()),
            (first, _) => panic!("a frame that begins with {first:x}"),
        }))
    }
}

/// Returns the message in a tag, which the size of the tag follows.
fn tag_of(tag: &[u8]) -> Message {
    let (tag, size) = tag.split_at(tag.len() - TAG_SIZE_BYTES);
    assert_eq!(big(size) as usize, tag.len(), "the size after the tag");
    let (header, payload) = tag.split_at(TAG_HEADER_BYTES);
    assert_eq!(big(&header[1..4]) as usize, payload.len(), "the size in the tag");
    assert!(matches!(header[0], AUDIO | VIDEO), "a tag of type {}", header[0]);
    let timestamp = big(&header[4..7]) | u32::from(header[7]) << 24;
    Message::new(4, header[0], payload).at(timestamp)
}

/// Boxes that contain boxes.
const CONTAINERS: [&[u8; 4]; 7] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"];

/// Returns the content of the first box of this type, at any depth.
pub(super) fn content_of<'b>(mut bytes: &'b [u8], kind: &[u8; 4]) -> Option<&'b [u8]> {
    while let Some((found, content, rest)) = take_box(bytes) {
        if found == kind {
            return Some(content);
        }
        let within = CONTAINERS.contains(&found).then(|| content_of(content, kind)).flatten();
        if within.is_some() {
            return within;
        }
        bytes = rest;
    }
    None
}

/// Takes the first box: its type, its content, and the rest.
pub(super) fn take_box(bytes: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let size = big(bytes.get(..4)?) as usize;
    assert!((8..=bytes.len()).contains(&size), "a box of {size} in {} bytes", bytes.len());
    Some((bytes[4..].first_chunk()?, &bytes[8..size], &bytes[size..]))
}

/// The timescale of video.
const VIDEO_UNITS_PER_MS: u64 = 90;
/// The sample rate in the configuration of the simulation's sound.
const SOUND_UNITS_PER_MS: u64 = 48;

impl Mp4 {
    /// Reads the boxes of a message.
    fn read_all(&mut self, mut bytes: &[u8]) -> Option<Heard> {
        let mut heard = None;
        while let Some((_, content, rest)) = take_box(bytes) {
            let next = self.read(&bytes[..8 + content.len()]);
            assert!(next.is_none() || heard.is_none(), "two fragments in a message");
            heard = heard.or(next);
            bytes = rest;
        }
        heard
    }

    /// Reads the next box.
    fn read(&mut self, whole: &[u8]) -> Option<Heard> {
        let (kind, content, _) = take_box(whole)?;
        match kind {
            b"ftyp" => None,
            b"moov" => {
                self.begin(content);
                Some(Heard::Initialized(media::configurations(content)))
            }
            b"moof" => {
                assert!(self.moof.is_empty(), "a fragment without a frame");
                whole.clone_into(&mut self.moof);
                None
            }
            b"mdat" => {
                let moof = std::mem::take(&mut self.moof);
                Some(Heard::Media(self.sample(&moof, content)))
            }
            _ => panic!("a box {:?}", String::from_utf8_lossy(kind)),
        }
    }

    fn begin(&mut self, mut moov: &[u8]) {
        self.tracks.clear();
        while let Some((kind, content, rest)) = take_box(moov) {
            if kind == b"trak" {
                let handler = content_of(content, b"hdlr").expect("a handler");
                self.tracks.push(handler[8..].starts_with(b"vide"));
            }
            moov = rest;
        }
        self.decoded = vec![0; self.tracks.len()];
    }

    /// Returns the frame of a fragment, and checks that times go up.
    fn sample(&mut self, moof: &[u8], sample: &[u8]) -> Message {
        let [tfhd, tfdt, trun] =
            [b"tfhd", b"tfdt", b"trun"].map(|kind| content_of(moof, kind).expect("a box"));
        let track = big(&tfhd[4..8]) as usize - 1;
        let decode = u64::from(big(&tfdt[4..8])) << 32 | u64::from(big(&tfdt[8..12]));
        assert_eq!(big(&trun[4..8]), 1, "frames in a fragment");
        assert_eq!(big(&trun[8..12]) as usize, moof.len() + 8, "where the frame is");
        assert_eq!(big(&trun[16..20]) as usize, sample.len(), "the size of the frame");
        let before = std::mem::replace(&mut self.decoded[track], decode);
        assert!(decode >= before, "{decode} after {before}");
        let is_video = self.tracks[track];
        let per_ms = if is_video { VIDEO_UNITS_PER_MS } else { SOUND_UNITS_PER_MS };
        media::frame(is_video, sample, (decode / per_ms) as u32)
    }
}
