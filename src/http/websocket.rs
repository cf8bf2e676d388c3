//! WebSocket (RFC 6455), server side: heads of frames out, frames of a client in.
//!
//! Owns the bytes of a frame that is not complete. What clients send is of no use to a media
//! server but to end the connection, so their messages are bounded to a few bytes. A violation ends
//! the connection with the close code that the specification names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::fmt;

/// The constant that is hashed with the key of the client (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest head of a frame without a mask (bytes).
pub const FRAME_HEAD_BYTES_MAX: usize = 10;
/// Shortest frame of a client: a head with its mask (bytes).
pub const CLIENT_FRAME_BYTES_MIN: u32 = 6;
/// Longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// Longest message of a client (bytes). Players send hardly any.
const MESSAGE_BYTES_MAX: usize = 4096;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;
const MASK_BYTES: usize = 4;

/// The types of frames (RFC 6455, section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Continues a message.
    Continuation = 0,
    /// A message of text.
    Text = 1,
    /// A message of bytes.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    const ALL: [Self; 6] =
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];

    const fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

/// Returns the accept key for the key of a client (RFC 6455, section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Returns the head of an unmasked frame that is a whole message, and its length (RFC 6455, section
/// 5.2).
pub fn frame_head(opcode: Opcode, len: u64) -> ([u8; FRAME_HEAD_BYTES_MAX], usize) {
    let mut head = [0; FRAME_HEAD_BYTES_MAX];
    head[0] = FIN | opcode as u8;
    let head_len = match len {
        0..=125 => {
            head[1] = len as u8;
            2
        }
        126..=0xffff => {
            head[1] = LEN_16;
            head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            head[1] = LEN_64;
            head[2..].copy_from_slice(&len.to_be_bytes());
            10
        }
    };
    (head, head_len)
}

/// Appends a pong that answers a ping.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Pong, payload);
}

/// Appends a close frame (RFC 6455, section 5.5.1).
pub fn write_close(out: &mut Vec<u8>, code: u16) {
    write_control(out, Opcode::Close, &code.to_be_bytes());
}

fn write_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (head, len) = frame_head(opcode, payload.len() as u64);
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(payload);
}

/// A frame or message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// A message of text.
    Text(String),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// A ping, to be answered with its payload.
    Ping(Vec<u8>),
    /// A pong that nobody has asked for.
    Pong,
    /// The end of the connection, with the code of the client.
    Close(Option<u16>),
}

/// A violation of the protocol by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is not masked (RFC 6455, section 5.1).
    Unmasked,
    /// A reserved bit or opcode is set.
    Reserved,
    /// A control frame is fragmented or too long.
    Control,
    /// The length is not in its shortest form.
    Length,
    /// A message continues that has not begun, or begins within another.
    Fragment,
    /// A message is longer than this server takes.
    TooLong,
    /// Text is not UTF-8.
    NotUtf8,
    /// A close frame has half a code, or one that may not be sent.
    CloseCode,
}

impl FrameError {
    /// Returns the code of the close frame that answers it (RFC 6455, section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "expected a masked frame, got one without a mask",
            Self::Reserved => "a frame has a reserved bit or opcode",
            Self::Control => "a control frame is fragmented or longer than 125 bytes",
            Self::Length => "the length of a frame is not in its shortest form",
            Self::Fragment => "a message continues that has not begun, or begins within another",
            Self::TooLong => "a message is longer than 4 KiB",
            Self::NotUtf8 => "text is not UTF-8",
            Self::CloseCode => "a close frame has no code that may be sent",
        })
    }
}

/// Returns the code in a close frame, if any (RFC 6455, sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(FrameError::CloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    // The registry of IANA, and what it leaves to libraries and programs.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::CloseCode);
    }
    std::str::from_utf8(reason).map_err(|_| FrameError::NotUtf8)?;
    Ok(Some(code))
}

/// The reader of a client's frames. It holds no memory between two messages.
#[derive(Debug, Default)]
pub struct ClientFrames {
    /// The bytes of a frame that is not complete.
    held: Vec<u8>,
    /// The fragments of a message so far, and its type.
    message: Option<(Opcode, Vec<u8>)>,
}

/// The parsed head of a frame.
struct FrameHead {
    opcode: Opcode,
    is_last: bool,
    /// Lengths of the head, with its mask, and of the payload.
    head_len: usize,
    payload_len: usize,
}

impl ClientFrames {
    /// Consumes `input` up to the end of the next frame that matters. Returns `None` if `input` is
    /// used up. The frames do not depend on how the bytes are split between calls.
    ///
    /// # Errors
    /// [`FrameError`] if the client violates the protocol. The rest of the input is dropped.
    pub fn next(&mut self, input: &mut &mut [u8]) -> Result<Option<ClientFrame>, FrameError> {
        loop {
            let frame = match self.take_frame(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => {
                    *input = &mut [];
                    *self = Self::default();
                    return Err(error);
                }
            };
            if let Some(frame) = self.accept(frame)? {
                return Ok(Some(frame));
            }
        }
    }

    /// Takes the bytes of a whole frame. Bytes are moved one by one until the head is complete: a
    /// head has 14 bytes at most.
    fn take_frame(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<(FrameHead, Vec<u8>)>, FrameError> {
        loop {
            let head = self.head()?;
            let missing = match &head {
                None => 1,
                Some(head) => head.head_len + head.payload_len - self.held.len(),
            };
            if let (Some(head), 0) = (head, missing) {
                let frame = std::mem::take(&mut self.held);
                return Ok(Some((head, frame)));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let count = missing.min(input.len());
            let (taken, rest) = std::mem::take(input).split_at_mut(count);
            self.held.extend_from_slice(taken);
            *input = rest;
        }
    }

    /// Parses the head of the held frame. Returns `None` if it is not complete.
    fn head(&self) -> Result<Option<FrameHead>, FrameError> {
        let [first, second, rest @ ..] = &self.held[..] else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(FrameError::Reserved);
        }
        let opcode = Opcode::ALL.into_iter().find(|opcode| *opcode as u8 == first & 0x0f);
        let opcode = opcode.ok_or(FrameError::Reserved)?;
        if second & MASKED == 0 {
            return Err(FrameError::Unmasked);
        }
        let (len, len_bytes, least) = match (second & !MASKED, rest) {
            (LEN_16, [high, low, ..]) => (u16::from_be_bytes([*high, *low]).into(), 2, 126),
            (LEN_64, rest) => match rest.first_chunk() {
                Some(len) => (u64::from_be_bytes(*len), 8, 0x1_0000),
                None => return Ok(None),
            },
            (LEN_16, _) => return Ok(None),
            (len, _) => (len.into(), 0, 0),
        };
        if len < least {
            return Err(FrameError::Length);
        }
        let is_last = first & FIN != 0;
        if opcode.is_control() && (!is_last || len > CONTROL_BYTES_MAX) {
            return Err(FrameError::Control);
        }
        let before = self.message.as_ref().map_or(0, |(_, message)| message.len());
        if len > (MESSAGE_BYTES_MAX - before) as u64 {
            return Err(FrameError::TooLong);
        }
        let head_len = 2 + len_bytes + MASK_BYTES;
        let is_whole = self.held.len() >= head_len;
        let head = FrameHead { opcode, is_last, head_len, payload_len: len as usize };
        Ok(is_whole.then_some(head))
    }

    fn accept(
        &mut self,
        (head, frame): (FrameHead, Vec<u8>),
    ) -> Result<Option<ClientFrame>, FrameError> {
        let (mask, payload) = frame[head.head_len - MASK_BYTES..].split_at(MASK_BYTES);
        let payload = payload.iter().zip(mask.iter().cycle());
        let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
        match head.opcode {
            Opcode::Ping => return Ok(Some(ClientFrame::Ping(payload))),
            Opcode::Pong => return Ok(Some(ClientFrame::Pong)),
            Opcode::Close => {
                return close_code(&payload).map(|code| Some(ClientFrame::Close(code)));
            }
            Opcode::Continuation => match &mut self.message {
                Some((_, message)) => message.extend_from_slice(&payload),
                None => return Err(FrameError::Fragment),
            },
            Opcode::Text | Opcode::Binary if self.message.is_some() => {
                return Err(FrameError::Fragment);
            }
            Opcode::Text | Opcode::Binary => self.message = Some((head.opcode, payload)),
        }
        if !head.is_last {
            return Ok(None);
        }
        match self.message.take() {
            Some((Opcode::Text, message)) => String::from_utf8(message)
                .map(|t| Some(ClientFrame::Text(t)))
                .map_err(|_| FrameError::NotUtf8),
            Some((_, message)) => Ok(Some(ClientFrame::Binary(message))),
            None => Ok(None),
        }
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub fn held_bytes(&self) -> usize {
        self.held.capacity() + self.message.as_ref().map_or(0, |(_, message)| message.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The masked "Hello" of RFC 6455, section 5.7, as a message and as a ping.
    const HELLO: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\
                           \x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";

    fn read(bytes: &[u8], step: usize) -> Result<Vec<ClientFrame>, FrameError> {
        let (mut frames, mut found) = (ClientFrames::default(), Vec::new());
        for part in bytes.chunks(step) {
            let mut part = part.to_vec();
            let mut input = &mut part[..];
            while let Some(frame) = frames.next(&mut input)? {
                found.push(frame);
            }
        }
        Ok(found)
    }

    /// A frame whose mask is zero.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, MASKED | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn section_1_3_accepts_the_key_of_its_example() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn section_5_7_is_read_at_any_split() {
        let hello = [ClientFrame::Text("Hello".into()), ClientFrame::Ping(b"Hello".into())];
        for step in 1..=HELLO.len() {
            assert_eq!(read(HELLO, step).as_deref(), Ok(&hello[..]), "{step}");
        }
    }

    #[test]
    fn section_5_4_fragments_are_joined_around_control_frames() {
        let bytes =
            [frame(0x01, b"Hel"), frame(0x89, b"!"), frame(0x80, b"lo"), frame(0x88, b"\x03\xe8")];
        let expected = [
            ClientFrame::Ping(b"!".into()),
            ClientFrame::Text("Hello".into()),
            ClientFrame::Close(Some(1000)),
        ];
        assert_eq!(read(&bytes.concat(), usize::MAX).as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn section_5_7_heads_have_the_shortest_length() {
        let head = |opcode, len| {
            let (head, head_len) = frame_head(opcode, len);
            head[..head_len].to_vec()
        };
        assert_eq!(head(Opcode::Text, 5), b"\x81\x05");
        assert_eq!(head(Opcode::Binary, 125), b"\x82\x7d");
        assert_eq!(head(Opcode::Binary, 256), b"\x82\x7e\x01\x00");
        assert_eq!(head(Opcode::Binary, 65_536), b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
    }

    #[test]
    fn frames_that_section_5_forbids_are_refused() {
        let cases: [(&[u8], u16); 14] = [
            (b"\x81\x05Hello", 1002),
            (b"\xc1\x80", 1002),
            (b"\x83\x80", 1002),
            (b"\x09\x80", 1002),
            (b"\x80\x80\0\0\0\0", 1002),
            (b"\x01\x80\0\0\0\0\x01\x80\0\0\0\0", 1002),
            (b"\x81\xfe\x00\x7d", 1002),
            (b"\x81\xff\0\0\0\0\0\0\xff\xff", 1002),
            (b"\x81\xfe\xff\xff", 1009),
            (b"\x89\xfe\x00\x7e", 1002),
            (b"\x81\x81\0\0\0\0\xff", 1007),
            (b"\x88\x81\0\0\0\0\x03", 1002),
            (b"\x88\x82\0\0\0\0\x03\xed", 1002),
            (b"\x88\x83\0\0\0\0\x03\xe8\xff", 1007),
        ];
        for (bytes, code) in cases {
            let found = read(bytes, 1).map_err(FrameError::close_code);
            assert_eq!(found, Err(code), "{bytes:x?}");
        }
    }

    #[test]
    fn a_message_has_a_bound_however_it_is_fragmented() {
        let piece = frame(0, &[b'x'; 100]);
        let first = [frame(0x02, &[b'x'; 96]), piece.repeat(40)].concat();
        let last = frame(0x80, &[]);
        let whole = [first.clone(), last].concat();
        assert_eq!(read(&whole, 7), Ok(vec![ClientFrame::Binary(vec![b'x'; MESSAGE_BYTES_MAX])]));
        let one_more = [first, frame(0x80, b"x")].concat();
        assert_eq!(read(&one_more, 7), Err(FrameError::TooLong));
    }

    #[test]
    fn damage_gives_the_same_at_any_split() {
        for at in 0..HELLO.len() {
            for byte in 0..=255 {
                let mut bytes = HELLO.to_vec();
                bytes[at] = byte;
                assert_eq!(read(&bytes, 1), read(&bytes, bytes.len()), "{at} {byte}");
            }
        }
    }
}
