//! The client's end of HTTP: what a player or a program reads, with a parser of its own.

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
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct WebReader {
    bytes: Vec<u8>,
    expected: Expected,
}

impl WebReader {
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
        self.bytes.is_empty() && !matches!(self.expected, Expected::Body(_))
    }

    /// Returns whether a stream is played over WebSocket.
    pub(super) const fn is_websocket(&self) -> bool {
        matches!(self.expected, Expected::Tags { is_websocket: true })
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
            _ => self.frame().map(Some),
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
            None if status == 101 => Expected::FlvHeader { is_websocket: true },
            None if status == 200 => Expected::FlvHeader { is_websocket: false },
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

    fn frame(&mut self) -> Option<Heard> {
        let (head, len) = match *self.bytes.get(1)? {
            127 => (10, big(self.bytes.get(6..10)?) as usize),
            126 => (4, big(self.bytes.get(2..4)?) as usize),
            len => (2, usize::from(len)),
        };
        let frame = self.take(head + len)?;
        let payload = &frame[head..];
        Some(match (frame[0], self.expected) {
            (0x82, Expected::FlvHeader { .. }) => self.flv_header(payload),
            (0x82, _) => Heard::Media(tag_of(payload)),
            (0x88, _) => Heard::Close,
            (0x8a, _) => Heard::Pong(payload.to_vec()),
            (first, _) => panic!("a frame that begins with {first:x}"),
        })
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
