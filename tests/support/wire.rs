//! RTMP as bytes, written down from the specification and without the crate under test, so that
//! no mistake is made on both sides.

use std::collections::HashMap;

pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
pub(crate) const USER_CONTROL: u8 = 4;
pub(crate) const WINDOW_ACK_SIZE: u8 = 5;
pub(crate) const SET_PEER_BANDWIDTH: u8 = 6;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA_AMF3: u8 = 15;
pub(crate) const SHARED_OBJECT_AMF3: u8 = 16;
pub(crate) const COMMAND_AMF3: u8 = 17;
pub(crate) const DATA: u8 = 18;
pub(crate) const SHARED_OBJECT: u8 = 19;
pub(crate) const COMMAND: u8 = 20;
pub(crate) const AGGREGATE: u8 = 22;

/// Length of C1, S1, C2 and S2.
pub(crate) const PACKET_BYTES: usize = 1536;
/// Length of C0 and C1.
pub(crate) const HELLO_BYTES: usize = 1 + PACKET_BYTES;
/// C0 C1 C2, and as many bytes in the other direction.
pub(crate) const HANDSHAKE_BYTES: usize = HELLO_BYTES + PACKET_BYTES;

/// Bytes from hexadecimal digits; blanks are for the reader.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0, "whole bytes in {text:?}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The bytes of a file in `tests/vectors`.
pub(crate) fn vector(file: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) chunk_stream_id: u32,
    pub(crate) timestamp: u32,
    pub(crate) kind: u8,
    pub(crate) message_stream_id: u32,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// A message at time 0 on the connection itself.
    pub(crate) fn new(chunk_stream_id: u32, kind: u8, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self { chunk_stream_id, timestamp: 0, kind, message_stream_id: 0, payload }
    }

    /// The same on a message stream.
    pub(crate) const fn on(mut self, message_stream_id: u32) -> Self {
        self.message_stream_id = message_stream_id;
        self
    }

    /// The same at a time.
    pub(crate) const fn at(mut self, timestamp: u32) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// Whether it is audio, video or data of a stream.
    pub(crate) fn is_media(&self) -> bool {
        matches!(self.kind, AUDIO | VIDEO | DATA_AMF3 | DATA | AGGREGATE)
            && !self.payload.starts_with(&string("|RtmpSampleAccess"))
    }

    /// Whether it is audio or video.
    pub(crate) const fn is_frame(&self) -> bool {
        matches!(self.kind, AUDIO | VIDEO)
    }

    pub(crate) const fn is_video(&self) -> bool {
        self.kind == VIDEO
    }

    /// Whether it is an AVC sequence header.
    pub(crate) fn is_video_config(&self) -> bool {
        self.is_video() && self.payload.starts_with(&[0x17, 0x00])
    }

    /// Whether it is an AVC keyframe.
    pub(crate) fn is_keyframe(&self) -> bool {
        self.is_video() && self.payload.starts_with(&[0x17, 0x01])
    }

    /// Whether the payload has `text` in it.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.payload.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// The message as a type-0 chunk and as many type-3 chunks as it takes (RTMP 1.0, section
    /// 5.3.1), with the chunk size that a connection begins with.
    pub(crate) fn chunks(&self) -> Vec<u8> {
        self.chunks_of(128)
    }

    /// The same with another chunk size.
    pub(crate) fn chunks_of(&self, chunk_size: usize) -> Vec<u8> {
        let mut out = basic_header(0, self.chunk_stream_id);
        let extended = self.timestamp >= 0x00ff_ffff;
        let field = if extended { 0x00ff_ffff } else { self.timestamp };
        out.extend(&field.to_be_bytes()[1..]);
        out.extend(&(self.payload.len() as u32).to_be_bytes()[1..]);
        out.push(self.kind);
        out.extend(self.message_stream_id.to_le_bytes());
        for (index, chunk) in self.payload.chunks(chunk_size).enumerate() {
            if index > 0 {
                out.extend(basic_header(3, self.chunk_stream_id));
            }
            if extended {
                out.extend(self.timestamp.to_be_bytes());
            }
            out.extend(chunk);
        }
        out
    }
}

/// A basic header (RTMP 1.0, section 5.3.1.1).
pub(crate) fn basic_header(format: u8, chunk_stream_id: u32) -> Vec<u8> {
    let format = format << 6;
    match chunk_stream_id {
        0..=1 => panic!("no such chunk stream: {chunk_stream_id}"),
        2..=63 => vec![format | chunk_stream_id as u8],
        64..=319 => vec![format, (chunk_stream_id - 64) as u8],
        _ => {
            let [low, high, ..] = (chunk_stream_id - 64).to_le_bytes();
            vec![format | 1, low, high]
        }
    }
}

/// C0, C1 and C2 in the simple form (RTMP 1.0, section 5.2). C2 answers no S1 in particular, as
/// those of many encoders do.
pub(crate) fn handshake() -> Vec<u8> {
    let c1 = [vec![0; 8], vec![0x5a; 1528]].concat();
    [vec![3], c1, vec![0; 1536]].concat()
}

/// C0 and C1 of that handshake.
pub(crate) fn hello() -> Vec<u8> {
    handshake()[..HELLO_BYTES].to_vec()
}

/// A protocol control message with one number, which is most of them.
pub(crate) fn control(kind: u8, value: u32) -> Message {
    Message::new(2, kind, value.to_be_bytes())
}

/// A user control message with one number (RTMP 1.0, section 7.1.7).
pub(crate) fn user_control(event: u16, value: u32) -> Message {
    Message::new(2, USER_CONTROL, [&event.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A command of the connection: name, transaction id and the other values as they are.
pub(crate) fn command(name: &str, transaction_id: f64, values: &[Vec<u8>]) -> Message {
    let body = [string(name), number(transaction_id), values.concat()].concat();
    Message::new(3, COMMAND, body)
}

/// `connect` with the least that is needed; transaction 1.
pub(crate) fn connect(app: impl AsRef<[u8]>) -> Message {
    command("connect", 1.0, &[object(&[("app", string(app))])])
}

/// `createStream` with a transaction id.
pub(crate) fn create_stream(transaction_id: f64) -> Message {
    command("createStream", transaction_id, &[null()])
}

/// `publish` on message stream 1.
pub(crate) fn publish(key: impl AsRef<[u8]>) -> Message {
    command("publish", 0.0, &[null(), string(key), string("live")]).on(1)
}

/// `play` on message stream 1, of what is live.
pub(crate) fn play(key: impl AsRef<[u8]>) -> Message {
    command("play", 0.0, &[null(), string(key), number(-2000.0)]).on(1)
}

/// An audio message on message stream 1: `af 01` and so many bytes more.
pub(crate) fn audio(timestamp: u32, more: usize) -> Message {
    Message::new(4, AUDIO, [vec![0xaf, 1], vec![0x21; more]].concat()).on(1).at(timestamp)
}

/// A video message on message stream 1.
pub(crate) fn video(timestamp: u32, payload: &str) -> Message {
    Message::new(6, VIDEO, hex(payload)).on(1).at(timestamp)
}

/// An AVC decoder configuration, a keyframe and a frame that needs it.
pub(crate) const AVC_CONFIG: &str = "1700000000 0142c01e";
/// Whole configurations of H.264 and AAC, as encoders send them.
pub(crate) const AVC_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 9, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02,
    0x80, 0xf6, 0x40, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
];
pub(crate) const AAC_HEADER: &[u8] = &[0xaf, 0, 0x11, 0x90];
pub(crate) const AVC_KEYFRAME: &str = "1701000000 65aa";
pub(crate) const AVC_FRAME: &str = "2701000000 41bb";

/// AMF0 values (AMF 0 specification, section 2).
pub(crate) fn number(value: f64) -> Vec<u8> {
    [&[0x00], &value.to_be_bytes()[..]].concat()
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    vec![0x01, value.into()]
}

pub(crate) fn string(value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x02], key(value.as_ref())].concat()
}

pub(crate) fn null() -> Vec<u8> {
    vec![0x05]
}

pub(crate) fn object(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    [vec![0x03], pairs(properties)].concat()
}

/// `count` is what the array says of itself, which need not be true.
pub(crate) fn ecma_array(count: u32, properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    [&[0x08], &count.to_be_bytes()[..], &pairs(properties)].concat()
}

fn pairs(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in properties {
        out.extend(key(name.as_bytes()));
        out.extend(value);
    }
    out.extend([0, 0, 9]);
    out
}

fn key(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a short string");
    [&len.to_be_bytes()[..], bytes].concat()
}

/// Reads chunks as they come. A type-3 chunk repeats the extended timestamp, and one that begins
/// a message repeats the delta; a peer that breaks a rule is a panic.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Bytes that are no chunks and come first.
    skip: usize,
    input: Vec<u8>,
    chunk_size: Option<usize>,
    chunk_streams: HashMap<u32, ChunkStream>,
}

#[derive(Debug, Default)]
struct ChunkStream {
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    message_stream_id: u32,
    payload: Vec<u8>,
}

impl Reader {
    /// A reader for a connection that begins with the handshake.
    pub(crate) fn behind_handshake() -> Self {
        Self { skip: HANDSHAKE_BYTES, ..Self::default() }
    }

    /// Takes more bytes and returns the messages that they complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Message> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.input.extend(&bytes[skipped..]);
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some((end, message)) = self.chunk(at) {
            at = end;
            messages.extend(message);
        }
        self.input.drain(..at);
        messages
    }

    /// Whether the bytes so far end where a message ends.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.input.is_empty() && self.chunk_streams.values().all(|stream| stream.payload.is_empty())
    }

    /// Reads the chunk at `at` if it is whole: where it ends, and the message it completes.
    fn chunk(&mut self, at: usize) -> Option<(usize, Option<Message>)> {
        let mut cursor = Cursor { bytes: &self.input, at };
        let first = cursor.take(1)?[0];
        let chunk_stream_id = match first & 0x3f {
            0 => 64 + cursor.little(1)?,
            1 => 64 + cursor.little(2)?,
            id => u32::from(id),
        };
        let format = first >> 6;
        let header = cursor.take([11, 7, 3, 0][usize::from(format)])?;
        let field = header.get(..3).map(big);
        let known = self.chunk_streams.get(&chunk_stream_id);
        assert!(known.is_some() || format < 2, "chunk stream {chunk_stream_id} begins with type 2");
        let extended = field.map_or_else(|| known.unwrap().extended, |field| field == 0x00ff_ffff);
        let extended_field = if extended { Some(cursor.big(4)?) } else { None };
        let length = header.get(3..6).map_or_else(|| known.unwrap().length, |l| big(l) as usize);
        let sent = known.map_or(0, |stream| stream.payload.len());
        let payload = cursor.take(self.chunk_size.unwrap_or(128).min(length - sent))?.to_vec();
        let (end, header) = (cursor.at, header.to_vec());

        let stream = self.chunk_streams.entry(chunk_stream_id).or_default();
        let time = extended_field.or(field);
        stream.extended = extended;
        stream.length = length;
        match (format, time) {
            (0, Some(time)) => (stream.timestamp, stream.delta) = (time, time),
            (1 | 2, Some(delta)) => {
                stream.delta = delta;
                stream.timestamp = stream.timestamp.wrapping_add(delta);
            }
            _ if sent == 0 => stream.timestamp = stream.timestamp.wrapping_add(stream.delta),
            _ => {}
        }
        if let Some(kind) = header.get(6) {
            stream.kind = *kind;
        }
        if let Some(id) = header.get(7..11) {
            stream.message_stream_id = u32::from_le_bytes(id.try_into().unwrap());
        }
        stream.payload.extend(payload);
        if stream.payload.len() < length {
            return Some((end, None));
        }
        let message = Message {
            chunk_stream_id,
            timestamp: stream.timestamp,
            kind: stream.kind,
            message_stream_id: stream.message_stream_id,
            payload: std::mem::take(&mut stream.payload),
        };
        if message.kind == SET_CHUNK_SIZE {
            self.chunk_size = Some(big(&message.payload) as usize);
        }
        Some((end, Some(message)))
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }

    fn big(&mut self, count: usize) -> Option<u32> {
        self.take(count).map(big)
    }

    fn little(&mut self, count: usize) -> Option<u32> {
        let bytes = self.take(count)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }
}

/// A number in network order.
pub(crate) fn big(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
