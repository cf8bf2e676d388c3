//! Chunks of interleaved messages. A model of the sender writes them step by step, and knows which
//! messages or which error must come out. It uses headers of every type, both dialects of extended
//! timestamps, changing chunk sizes, and messages that are aborted or restarted. Garbage may come
//! in between. After garbage the model expects no particular messages, but the general promises
//! must still hold.

use arbitrary::{Arbitrary, Result, Unstructured};
use tiderace::rtmp::chunk::reader::{ChunkError, ReadLimits};
use tiderace::rtmp::link::{Inbound, Incoming, LinkError, Output};
use tiderace::rtmp::message::{Control, Message, MessageHeader};
use tiderace::rtmp::quirks::Tolerated;

use super::oracle::{Kept, digest, note, same_however_cut};
use crate::wire;

/// Maximum number of bytes from a script.
const SENT_BYTES_MAX: usize = 32 * 1024;
/// The value of a timestamp field that announces an extended timestamp.
const EXTENDED: u32 = 0x00ff_ffff;
/// The largest timestamp of a type 0 chunk that a following type 3 chunk repeats as a delta (ms).
const TYPE_0_DELTA_MS_MAX: u32 = 1000;
/// The chunk stream of control messages.
const CONTROL: u32 = 2;
/// Chunk streams with basic headers of one, two and three bytes.
const CHUNK_STREAMS: [u32; 8] = [3, 4, 63, 64, 65, 319, 320, 65_599];
/// Message kinds that layers below a session do not inspect.
const KINDS: [u8; 8] = [8, 9, 15, 18, 20, 22, 7, 255];

/// The first two bytes choose the limits and the split.
pub(crate) fn run(data: &[u8]) {
    let Some((&[tight, cut], script)) = data.split_first_chunk() else { return };
    let limits = limits(tight);
    let mut sender = Sender::new(limits);
    let mut source = Unstructured::new(script);
    while sender.goes_on() && !source.is_empty() {
        if step(&mut source, &mut sender).is_err() {
            break;
        }
    }
    let Sender { sent, expected, is_known, error, .. } = sender;
    let (got, _) = same_however_cut(&sent, cut.into(), |pieces| receive(pieces, &limits));
    if is_known {
        assert_eq!(got, Received { messages: expected, error });
    } else {
        assert_eq!(got.messages.get(..expected.len()), Some(&expected[..]));
    }
}

fn limits(tight: u8) -> ReadLimits {
    let mut limits = ReadLimits::default();
    if tight & 1 != 0 {
        limits = ReadLimits::before_publish();
    }
    if tight & 2 != 0 {
        limits.chunk_streams_max = 3;
    }
    if tight & 4 != 0 {
        limits.assembly_bytes_max = 4000;
    }
    if tight & 8 != 0 {
        limits.video_bytes_max = 3000;
    }
    limits
}

/// The next chunk to send.
#[derive(Debug, Arbitrary)]
enum Step {
    /// A chunk with a message header. It starts a message, unless it repeats the current one.
    Header {
        stream: u8,
        format: u8,
        time: Time,
        length: Length,
        kind: u8,
        message_stream: u8,
    },
    /// A chunk without a message header. It continues a message, or starts one like the last.
    Bare {
        stream: u8,
        dialect: Dialect,
    },
    /// A chunk that refers to a header that was never sent.
    Fresh {
        stream: u8,
        format: u8,
    },
    ChunkSize {
        size: u32,
        shift: u8,
    },
    Abort {
        stream: u8,
    },
    Bytes(u8),
}

/// A time, usually at a boundary.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Time {
    Small(u16),
    NearExtended(u8),
    Any(u32),
}

impl Time {
    fn millis(self) -> u32 {
        match self {
            Self::Small(millis) => millis.into(),
            Self::NearExtended(above) => EXTENDED - 8 + u32::from(above % 16),
            Self::Any(millis) => millis,
        }
    }
}

/// A declared length, usually of a message that is sent completely.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Length {
    Same,
    Small(u8),
    Medium(u16),
    Any { bytes: u32, shift: u8 },
}

/// The extended timestamp of a chunk without a message header.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Dialect {
    /// The field as last sent.
    Repeated,
    /// The absolute time.
    Absolute,
    /// None.
    Omitted,
}

fn step(source: &mut Unstructured<'_>, sender: &mut Sender) -> Result<()> {
    let stream = |index: u8| CHUNK_STREAMS[usize::from(index) % CHUNK_STREAMS.len()];
    match source.arbitrary()? {
        Step::Header { stream: index, format, time, length, kind, message_stream } => {
            let id = stream(index);
            let length = match length {
                Length::Same => sender.stream(id).map_or(0, |stream| stream.length),
                Length::Small(bytes) => bytes.into(),
                Length::Medium(bytes) => u32::from(bytes) % 10_000,
                Length::Any { bytes, shift } => (bytes & 0x00ff_ffff) >> (shift % 24),
            };
            let header = Header {
                format: if sender.knows(id) { format % 3 } else { format % 2 },
                time: time.millis(),
                length,
                kind: KINDS[usize::from(kind) % KINDS.len()],
                message_stream_id: message_stream.into(),
            };
            sender.chunk(id, header, Dialect::Repeated);
        }
        Step::Bare { stream: index, dialect } if sender.knows(stream(index)) => {
            sender.chunk(stream(index), Header::NONE, dialect);
        }
        Step::Fresh { stream: index, format } if !sender.knows(stream(index)) => {
            let header = Header { format: 2 + format % 2, ..Header::NONE };
            sender.chunk(stream(index), header, Dialect::Repeated);
        }
        Step::Bare { .. } | Step::Fresh { .. } => {}
        Step::ChunkSize { size, shift } => {
            sender.control(wire::SET_CHUNK_SIZE, size >> (shift % 32));
        }
        Step::Abort { stream: index } => sender.control(wire::ABORT, stream(index)),
        Step::Bytes(count) => {
            let count = source.len().min(usize::from(count) % 32);
            sender.sent.extend(source.bytes(count)?);
            sender.is_known &= count == 0;
        }
    }
    Ok(())
}

/// A message header; type 3 has none.
#[derive(Clone, Copy, Debug)]
struct Header {
    format: u8,
    time: u32,
    length: u32,
    kind: u8,
    message_stream_id: u32,
}

impl Header {
    const NONE: Self = Self { format: 3, time: 0, length: 0, kind: 0, message_stream_id: 0 };
}

/// State of a chunk stream that both ends share (RTMP 1.0, section 5.3.1).
#[derive(Clone, Debug, Default)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    delta: u32,
    /// The extended timestamp of the last message header, if any.
    extended: Option<u32>,
    length: u32,
    kind: u8,
    message_stream_id: u32,
    /// The bytes of the current message sent so far; `None` between messages.
    payload: Option<Vec<u8>>,
}

/// See the module's head.
struct Sender {
    limits: ReadLimits,
    chunk_size: u32,
    streams: Vec<ChunkStream>,
    sent: Vec<u8>,
    expected: Vec<String>,
    /// Whether everything sent so far was meaningful.
    is_known: bool,
    error: Option<String>,
    /// The input ends in the middle of a chunk.
    is_cut: bool,
}

impl Sender {
    const fn new(limits: ReadLimits) -> Self {
        Self {
            limits,
            chunk_size: 128,
            streams: Vec::new(),
            sent: Vec::new(),
            expected: Vec::new(),
            is_known: true,
            error: None,
            is_cut: false,
        }
    }

    fn goes_on(&self) -> bool {
        self.error.is_none() && !self.is_cut && self.sent.len() < SENT_BYTES_MAX
    }

    fn stream(&self, id: u32) -> Option<&ChunkStream> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    fn knows(&self, id: u32) -> bool {
        self.stream(id).is_some()
    }

    /// Sends a control message in as many chunks as necessary, and applies it.
    fn control(&mut self, kind: u8, value: u32) {
        let message = wire::control(kind, value);
        let header = Header { format: 0, time: 0, length: 4, kind, message_stream_id: 0 };
        let mut next = header;
        for _ in message.payload.chunks(self.chunk_size as usize) {
            self.chunk_of(CONTROL, next, Dialect::Repeated, Some(&message.payload));
            if self.error.is_some() {
                return;
            }
            next = Header::NONE;
        }
        match (kind, value) {
            (wire::SET_CHUNK_SIZE, 1..=0x7fff_ffff) => {
                self.chunk_size = value;
                self.expect(&Incoming::Control(Control::SetChunkSize(value)));
            }
            (wire::SET_CHUNK_SIZE, _) => self.error = Some("control".to_owned()),
            _ => {
                let stream = self.streams.iter_mut().find(|stream| stream.id == value);
                stream.into_iter().for_each(|stream| stream.payload = None);
                self.expect(&Incoming::Control(Control::Abort(value)));
            }
        }
    }

    /// Expects a message to come out, unless garbage was sent before.
    fn expect(&mut self, incoming: &Incoming<'_>) {
        if self.is_known {
            self.expected.push(described(incoming));
        }
    }

    fn chunk(&mut self, id: u32, header: Header, dialect: Dialect) {
        self.chunk_of(id, header, dialect, None);
    }

    /// Sends one chunk. `payload` is the payload of the whole message; without it, bytes are made
    /// up.
    fn chunk_of(&mut self, id: u32, header: Header, dialect: Dialect, payload: Option<&[u8]>) {
        let Some(at) = self.open(id, header) else { return };
        let mut stream = std::mem::take(&mut self.streams[at]);
        let goes_on = stream.payload.is_some()
            && match header.format {
                0 => false,
                1 => (header.length, header.kind) == (stream.length, stream.kind),
                _ => true,
            };
        let repeated = (stream.extended, stream.timestamp);
        if goes_on {
            stream.note_extended(header);
        } else {
            stream.begin(header);
        }
        let fragment = stream.fragment(self.chunk_size, payload);
        self.write_header(&stream, header, repeated, dialect, &fragment);
        if !goes_on {
            self.error = self.refusal(&stream);
        }
        self.streams[at] = stream;
        if self.error.is_none() {
            self.write_fragment(at, &fragment);
        }
    }

    /// Returns the index of a chunk stream. A header of type 0 or 1 may open a new one.
    fn open(&mut self, id: u32, header: Header) -> Option<usize> {
        let place = self.streams.iter().position(|stream| stream.id == id);
        if place.is_some() {
            return place;
        }
        if header.format >= 2 {
            self.sent.extend(wire::basic_header(header.format, id));
            self.error = Some("fresh chunk stream".to_owned());
            return None;
        }
        self.streams.push(ChunkStream { id, ..ChunkStream::default() });
        Some(self.streams.len() - 1)
    }

    fn write_header(
        &mut self,
        stream: &ChunkStream,
        header: Header,
        repeated: (Option<u32>, u32),
        dialect: Dialect,
        fragment: &[u8],
    ) {
        self.sent.extend(wire::basic_header(header.format, stream.id));
        let time = header.time.min(EXTENDED);
        if header.format <= 2 {
            self.sent.extend(&time.to_be_bytes()[1..]);
        }
        if header.format <= 1 {
            self.sent.extend(&header.length.to_be_bytes()[1..]);
            self.sent.push(header.kind);
        }
        if header.format == 0 {
            self.sent.extend(header.message_stream_id.to_le_bytes());
        }
        let extended = match (header.format, repeated) {
            (3, (Some(field), timestamp)) => bare(dialect, field, timestamp, fragment),
            (0..=2, _) => (time == EXTENDED).then_some(header.time),
            _ => None,
        };
        self.sent.extend(extended.map(u32::to_be_bytes).into_iter().flatten());
    }

    /// Returns the error for a new message that is beyond the limits.
    fn refusal(&self, stream: &ChunkStream) -> Option<String> {
        let max = match stream.kind {
            wire::AUDIO => self.limits.audio_bytes_max,
            wire::VIDEO | wire::AGGREGATE => self.limits.video_bytes_max,
            wire::DATA | wire::DATA_AMF3 => self.limits.data_bytes_max,
            _ => self.limits.command_bytes_max,
        };
        let others = self.streams.iter().filter(|other| other.payload.is_some());
        let under_assembly: usize = others.map(|other| other.length as usize).sum();
        let length = stream.length as usize;
        if self.streams.len() > self.limits.chunk_streams_max {
            Some("chunk streams".to_owned())
        } else if length > max {
            Some("message".to_owned())
        } else if under_assembly + length > self.limits.assembly_bytes_max {
            Some("assembly".to_owned())
        } else {
            None
        }
    }

    /// Sends the payload of a chunk, unless it is too long for a script, and completes the message
    /// if this is its end.
    fn write_fragment(&mut self, at: usize, fragment: &[u8]) {
        let room = SENT_BYTES_MAX.saturating_sub(self.sent.len()).max(16);
        let sent = &fragment[..fragment.len().min(room)];
        self.is_cut = sent.len() < fragment.len();
        self.sent.extend(sent);
        let stream = &mut self.streams[at];
        let header = stream.message_header();
        let mut payload = stream.payload.take().unwrap_or_default();
        payload.extend(sent);
        if payload.len() < stream.length as usize {
            stream.payload = Some(payload);
        } else if stream.id != CONTROL {
            self.expect(&Incoming::Message(Message { header, payload: &payload }));
        }
    }
}

/// Returns the extended timestamp field of a chunk without a message header. It is omitted only
/// before payload that cannot be mistaken for it.
fn bare(dialect: Dialect, field: u32, timestamp: u32, fragment: &[u8]) -> Option<u32> {
    let tells = |value: u32| fragment.first().is_some_and(|first| *first != value.to_be_bytes()[0]);
    match dialect {
        Dialect::Omitted if tells(field) && tells(timestamp) => None,
        Dialect::Absolute => Some(timestamp),
        _ => Some(field),
    }
}

impl ChunkStream {
    fn begin(&mut self, header: Header) {
        match header.format {
            0 => {
                self.timestamp = header.time;
                self.delta = if header.time <= TYPE_0_DELTA_MS_MAX { header.time } else { 0 };
                self.message_stream_id = header.message_stream_id;
            }
            1 | 2 => {
                self.delta = header.time;
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            _ => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        if header.format <= 1 {
            (self.length, self.kind) = (header.length, header.kind);
        }
        self.payload = Some(Vec::new());
        self.note_extended(header);
    }

    fn note_extended(&mut self, header: Header) {
        if header.format <= 2 {
            self.extended = (header.time >= EXTENDED).then_some(header.time);
        }
    }

    /// Returns the payload of the next chunk: part of `whole`, or made-up bytes that differ at
    /// every position.
    fn fragment(&self, chunk_size: u32, whole: Option<&[u8]>) -> Vec<u8> {
        let from = self.payload.as_ref().map_or(0, Vec::len);
        let to = (self.length as usize).min(from + (chunk_size as usize).min(SENT_BYTES_MAX));
        let made_up = |place: usize| (place * 31 + place / 256 + self.id as usize) as u8;
        match whole {
            Some(whole) => whole[from..to].to_vec(),
            None => (from..to).map(made_up).collect(),
        }
    }

    const fn message_header(&self) -> MessageHeader {
        MessageHeader {
            chunk_stream_id: self.id,
            timestamp: self.timestamp,
            kind: self.kind,
            message_stream_id: self.message_stream_id,
        }
    }
}

/// Output of the reader.
#[derive(Debug, PartialEq)]
struct Received {
    messages: Vec<String>,
    error: Option<String>,
}

/// Returns the output for these bytes and the tolerated quirks. Neither may depend on the split.
fn receive(pieces: &[&[u8]], limits: &ReadLimits) -> (Received, Tolerated) {
    let (mut messages, mut kept) = (Vec::new(), Kept::default());
    let (mut inbound, mut output) = (Inbound::new(u32::MAX), Output::default());
    let mut tolerated = Tolerated::default();
    for piece in pieces {
        let mut input = &mut piece.to_vec()[..];
        let result = kept.receive(input.len(), || {
            while let Some(incoming) =
                inbound.next(&mut input, limits, &mut output, &mut tolerated)?
            {
                note(|| messages.push(described(&incoming)));
            }
            Ok(())
        });
        // Pings that appear in garbage are answered.
        kept.count(|| drop(output.take()));
        if let Err(error) = result {
            return (Received { messages, error: Some(named(&error)) }, tolerated);
        }
        assert!(input.is_empty(), "the reader takes all input");
    }
    (Received { messages, error: None }, tolerated)
}

fn described(incoming: &Incoming<'_>) -> String {
    match incoming {
        Incoming::Message(message) => {
            format!("{:?} {}", message.header, digest(message.payload))
        }
        other => format!("{other:?}"),
    }
}

fn named(error: &LinkError) -> String {
    let name = match error {
        LinkError::Control(_) => "control",
        LinkError::Chunk(ChunkError::FreshChunkStream { .. }) => "fresh chunk stream",
        LinkError::Chunk(ChunkError::MessageTooLarge { .. }) => "message",
        LinkError::Chunk(ChunkError::TooManyChunkStreams { .. }) => "chunk streams",
        LinkError::Chunk(ChunkError::AssemblyTooLarge { .. }) => "assembly",
        other => panic!("this sender has no fault that is {other}"),
    };
    name.to_owned()
}
