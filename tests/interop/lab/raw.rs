//! A raw player on a plain socket, which sees messages, timestamps and arrival times that real
//! players hide, and a publisher that replays a recorded session. Both are written without the
//! crate under test, so that they share no bug with it.
//!
//! Like ffmpeg, both expect the extended timestamp on every type 3 chunk.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// A message as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn is_media(&self) -> bool {
        matches!(self.kind, AUDIO | VIDEO)
    }

    pub(crate) fn is_video(&self) -> bool {
        self.kind == VIDEO
    }

    /// Returns whether it is an AVC sequence header.
    pub(crate) fn is_video_config(&self) -> bool {
        self.is_video() && self.payload.starts_with(&[0x17, 0x00])
    }

    /// Returns whether it is an AVC keyframe.
    pub(crate) fn is_keyframe(&self) -> bool {
        self.is_video() && self.payload.starts_with(&[0x17, 0x01])
    }
}

/// A connection that plays a stream.
pub(crate) struct Player {
    stream: TcpStream,
    reader: Reader,
    is_over: bool,
}

/// All bytes that a client sent on one connection.
pub(crate) struct Recording {
    bytes: Vec<u8>,
    /// The audio and video messages.
    pub(crate) media: Vec<Message>,
    /// Byte position of the end of the last media message.
    media_end: usize,
}

/// Parses chunks into messages.
struct Reader {
    input: Vec<u8>,
    chunk_size: usize,
    chunk_streams: HashMap<u32, ChunkStream>,
}

#[derive(Default)]
struct ChunkStream {
    timestamp: u32,
    delta: u32,
    length: usize,
    kind: u8,
    has_extended: bool,
    payload: Vec<u8>,
    is_partial: bool,
}

impl Player {
    /// Connects and plays `key` of `app`. Returns when the server has accepted.
    pub(crate) fn play(address: SocketAddr, app: &str, key: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        let mut player = Self { stream, reader: Reader::new(Vec::new()), is_over: false };
        player.shake_hands().expect("the handshake succeeds");
        player.command(0, &connect_payload(address, app));
        player.wait_for_command("_result");
        player.command(0, &[string("createStream"), number(2.0), NULL.to_vec()].concat());
        player.wait_for_command("_result");
        let play = [string("play"), number(0.0), NULL.to_vec(), string(key), number(-2000.0)];
        player.command(1, &play.concat());
        player.wait_for_command("NetStream.Play.Start");
        player
    }

    /// Returns the next audio or video message, or `None` if none arrives within `limit` or the
    /// connection ends.
    pub(crate) fn next_media(&mut self, limit: Duration) -> Option<Message> {
        let deadline = Instant::now() + limit;
        loop {
            let message = self.next_message(deadline)?;
            if message.is_media() {
                return Some(message);
            }
        }
    }

    /// Returns the next message of any kind.
    pub(crate) fn next_message(&mut self, deadline: Instant) -> Option<Message> {
        loop {
            if let Some(message) = self.reader.next_message() {
                return Some(message);
            }
            if !self.fill(deadline) {
                return None;
            }
        }
    }

    /// Returns whether the server has closed the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        let mut hello = vec![0; HELLO_LEN];
        hello[0] = 3;
        self.stream.write_all(&hello)?;
        let mut answer = vec![0; HELLO_LEN + PACKET_LEN];
        self.stream.read_exact(&mut answer)?;
        self.stream.write_all(&answer[1..HELLO_LEN])
    }

    fn command(&mut self, stream_id: u8, payload: &[u8]) {
        let mut wire = vec![3, 0, 0, 0];
        wire.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        wire.extend_from_slice(&[20, stream_id, 0, 0, 0]);
        for (index, chunk) in payload.chunks(128).enumerate() {
            if index > 0 {
                wire.push(0xc3);
            }
            wire.extend_from_slice(chunk);
        }
        self.stream.write_all(&wire).expect("the server reads commands");
    }

    /// Reads up to the command message that contains `text`.
    fn wait_for_command(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let message = self.next_message(deadline);
            let message = message.unwrap_or_else(|| panic!("the server never sent {text}"));
            if message.kind == COMMAND && contains(&message.payload, text.as_bytes()) {
                return;
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> bool {
        let mut buffer = [0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_over {
                return false;
            }
            self.stream.set_read_timeout(Some(left)).expect("a timeout can be set");
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    self.reader.input.extend_from_slice(&buffer[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_over = true,
                Err(_) => {}
            }
        }
    }
}

impl Recording {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader = Reader::new(bytes[HELLO_LEN + PACKET_LEN..].to_vec());
        let (mut media, mut media_end) = (Vec::new(), 0);
        while let Some(message) = reader.next_message() {
            if message.is_media() {
                media.push(message);
                media_end = bytes.len() - reader.input.len();
            }
        }
        Self { bytes, media, media_end }
    }

    /// Sends everything up to the end of the media. The stream lives as long as the result.
    pub(crate) fn publish(&self, address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.write_all(&self.bytes[..HELLO_LEN]).expect("the server reads C1");
        let mut answer = vec![0; HELLO_LEN + PACKET_LEN];
        stream.read_exact(&mut answer).expect("the server replies to C1");
        let rest = &self.bytes[HELLO_LEN..self.media_end];
        stream.write_all(rest).expect("the server reads the recording");
        stream
    }
}

impl Reader {
    fn new(input: Vec<u8>) -> Self {
        Self { input, chunk_size: 128, chunk_streams: HashMap::new() }
    }

    fn next_message(&mut self) -> Option<Message> {
        let message = self.parse_message()?;
        if message.kind == SET_CHUNK_SIZE {
            self.chunk_size = be(&message.payload) as usize;
        }
        Some(message)
    }

    /// Takes whole chunks from the input until a message is complete.
    fn parse_message(&mut self) -> Option<Message> {
        loop {
            let chunk = ChunkHeader::parse(&self.input, &self.chunk_streams)?;
            let state = self.chunk_streams.entry(chunk.id).or_default();
            let had = if state.is_partial { state.payload.len() } else { 0 };
            let part = (chunk.length - had).min(self.chunk_size);
            let end = chunk.header_len + part;
            if self.input.len() < end {
                return None;
            }
            state.begin(&chunk);
            state.payload.extend_from_slice(&self.input[chunk.header_len..end]);
            self.input.drain(..end);
            if state.payload.len() == state.length {
                state.is_partial = false;
                let payload = std::mem::take(&mut state.payload);
                let timestamp = state.timestamp;
                return Some(Message { kind: state.kind, timestamp, payload });
            }
        }
    }
}

impl ChunkStream {
    fn begin(&mut self, chunk: &ChunkHeader) {
        if self.is_partial {
            return;
        }
        match chunk.format {
            0 => {
                self.timestamp = chunk.time;
                self.delta = 0;
            }
            1 | 2 => {
                self.delta = chunk.time;
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            _ => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        self.length = chunk.length;
        self.kind = chunk.kind;
        self.has_extended = chunk.has_extended;
        self.is_partial = true;
        self.payload.clear();
    }
}

/// The headers of a chunk, including inherited fields.
struct ChunkHeader {
    format: u8,
    id: u32,
    header_len: usize,
    time: u32,
    length: usize,
    kind: u8,
    has_extended: bool,
}

impl ChunkHeader {
    fn parse(input: &[u8], known: &HashMap<u32, ChunkStream>) -> Option<Self> {
        let first = *input.first()?;
        let format = first >> 6;
        let (id, basic_len) = match first & 0x3f {
            0 => (u32::from(*input.get(1)?) + 64, 2),
            1 => (u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?) + 64, 3),
            id => (u32::from(id), 1),
        };
        let fields_len = [11, 7, 3, 0][usize::from(format)];
        let fields = input.get(basic_len..basic_len + fields_len)?;
        let old = known.get(&id);
        let mut chunk = Self {
            format,
            id,
            header_len: basic_len + fields_len,
            time: 0,
            length: old.map_or(0, |old| old.length),
            kind: old.map_or(0, |old| old.kind),
            has_extended: old.is_some_and(|old| old.has_extended),
        };
        if fields_len >= 3 {
            chunk.time = be(&fields[..3]);
            chunk.has_extended = chunk.time == 0x00ff_ffff;
        }
        if fields_len >= 7 {
            chunk.length = be(&fields[3..6]) as usize;
            chunk.kind = fields[6];
        }
        if chunk.has_extended {
            chunk.time = be(input.get(chunk.header_len..chunk.header_len + 4)?);
            chunk.header_len += 4;
        }
        Some(chunk)
    }
}

fn connect_payload(address: SocketAddr, app: &str) -> Vec<u8> {
    let mut payload = [string("connect"), number(1.0), vec![3]].concat();
    let url = format!("rtmp://{address}/{app}");
    for (key, value) in [("app", app), ("flashVer", "LNX 9,0,124,2"), ("tcUrl", url.as_str())] {
        payload.extend_from_slice(&string(key)[1..]);
        payload.extend_from_slice(&string(value));
    }
    payload.extend_from_slice(&[0, 0, 9]);
    payload
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn number(value: f64) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&value.to_be_bytes());
    bytes
}

fn be(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const NULL: &[u8] = &[5];

/// Length of C1, S1, C2 and S2, and of C0 with C1.
const PACKET_LEN: usize = 1536;
const HELLO_LEN: usize = 1 + PACKET_LEN;

const SET_CHUNK_SIZE: u8 = 1;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const COMMAND: u8 = 20;
