//! Reads chunks and puts messages together (RTMP 1.0, section 5.3).
//!
//! Owns the header state of every chunk stream of one connection and the payloads that have come
//! in part. Headers are parsed where they lie in the input; a payload that lies whole in the input
//! stays there, the pieces of its chunks moved together, and any other is copied once. It never
//! interprets a payload, not even Set Chunk Size: the session decides and calls back. It never
//! allocates for a declared length, only for bytes that have come.

use std::error::Error;
use std::fmt;

use crate::limits::{self, CHUNK_SIZE_INITIAL};
use crate::rtmp::chunk::partial::{HeldBytes, NO_ASSEMBLY, Partial};
use crate::rtmp::message::{Message, MessageHeader, kind};
use crate::rtmp::quirks::{Quirk, Tolerated};

/// Bounds a reader enforces.
///
/// They are passed at each call, so that no connection holds a copy and an accepted publish
/// changes them at once. The default is what a publisher may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Chunk streams that have carried anything; at most 254 whatever is asked for.
    pub chunk_streams_max: usize,
    /// Declared lengths of all messages under assembly together.
    pub assembly_bytes_max: usize,
    /// A command, and every type that is not named below.
    pub command_bytes_max: usize,
    /// A data message, types 15 and 18.
    pub data_bytes_max: usize,
    /// An audio message, type 8.
    pub audio_bytes_max: usize,
    /// A video message or an aggregate, types 9 and 22.
    pub video_bytes_max: usize,
    /// An assembly buffer that may be kept for the next message once its own was delivered.
    pub spare_bytes_max: usize,
}

/// Puts the messages of one connection together from its chunks.
#[derive(Debug)]
pub struct ChunkReader {
    /// No longer than it has to be: most sessions use two or three chunk streams for life.
    streams: Box<[ChunkStream]>,
    partial: Partial,
    chunk_size: u32,
    /// Payload bytes still to come of the chunk whose header was read last.
    chunk_remaining: u32,
    /// The chunk stream of the last header.
    current: u8,
    /// The assembly that the last call returned, or [`NO_ASSEMBLY`].
    delivered: u8,
}

/// Why the chunks of a peer cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// The first chunk of a chunk stream inherits from a header that never came.
    FreshChunkStream {
        /// The chunk stream.
        chunk_stream_id: u32,
        /// Type of the chunk header, 2 or 3.
        format: u8,
    },
    /// A message is declared longer than its type may be.
    MessageTooLarge {
        /// The declared length in bytes.
        length: usize,
        /// What is allowed.
        max: usize,
        /// Message type id.
        kind: u8,
    },
    /// One more chunk stream than allowed.
    TooManyChunkStreams {
        /// What is allowed.
        max: usize,
    },
    /// The messages under assembly are together declared longer than allowed.
    AssemblyTooLarge {
        /// The declared lengths in bytes.
        length: usize,
        /// What is allowed.
        max: usize,
    },
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            chunk_streams_max: limits::CHUNK_STREAMS_MAX,
            assembly_bytes_max: limits::ASSEMBLY_BYTES_MAX,
            command_bytes_max: limits::COMMAND_BYTES_MAX,
            data_bytes_max: limits::DATA_BYTES_MAX,
            audio_bytes_max: limits::AUDIO_BYTES_MAX,
            video_bytes_max: limits::VIDEO_BYTES_MAX,
            spare_bytes_max: SPARE_BYTES_MAX,
        }
    }
}

impl ReadLimits {
    /// What anybody may send who has not been accepted as a publisher: commands.
    pub fn before_publish() -> Self {
        let message_bytes_max = limits::MESSAGE_BEFORE_PUBLISH_BYTES_MAX;
        Self {
            chunk_streams_max: limits::CHUNK_STREAMS_MAX,
            assembly_bytes_max: limits::ASSEMBLY_BEFORE_PUBLISH_BYTES_MAX,
            command_bytes_max: message_bytes_max,
            data_bytes_max: message_bytes_max,
            audio_bytes_max: message_bytes_max,
            video_bytes_max: message_bytes_max,
            spare_bytes_max: 0,
        }
    }

    const fn message_bytes_max(&self, kind: u8) -> usize {
        match kind {
            kind::AUDIO => self.audio_bytes_max,
            kind::VIDEO | kind::AGGREGATE => self.video_bytes_max,
            kind::DATA_AMF0 | kind::DATA_AMF3 => self.data_bytes_max,
            _ => self.command_bytes_max,
        }
    }
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkReader {
    /// A reader for a connection whose handshake is done.
    pub fn new() -> Self {
        Self {
            streams: Box::default(),
            partial: Partial::new(),
            chunk_size: CHUNK_SIZE_INITIAL,
            chunk_remaining: 0,
            current: 0,
            delivered: NO_ASSEMBLY,
        }
    }

    /// Reads up to the end of the next message and returns it.
    ///
    /// Consumes all of `input` unless it returns a message or an error. What it has consumed is
    /// no longer what came, since payloads may have been moved. To be called until it returns
    /// `Ok(None)`, also with an input that is used up: up to three held bytes may turn out to be
    /// payload rather than an extended timestamp. After an error the connection is beyond repair,
    /// since no chunk boundary is known any more. What had to be tolerated is noted in
    /// `tolerated`, which the caller keeps.
    pub fn next_message<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
        limits: &ReadLimits,
        tolerated: &mut Tolerated,
    ) -> Result<Option<Message<'a>>, ChunkError> {
        self.recycle_delivered(limits);
        let index = loop {
            match self.step(input, limits, tolerated)? {
                Step::Again => {}
                Step::NeedMore => return Ok(None),
                Step::Borrowed(message) => return Ok(Some(message)),
                Step::Assembled(index) => break index,
            }
        };
        self.delivered = index;
        let stream = self.streams.get(usize::from(self.current));
        let header = stream.map(ChunkStream::message_header);
        let payload = self.partial.payload(index);
        Ok(header.zip(payload).map(|(header, payload)| Message { header, payload }))
    }

    /// Takes over a chunk size of the peer, from the next chunk on (section 5.4.1).
    ///
    /// Messages under assembly go on with the new size.
    pub const fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = if size == 0 { 1 } else { size };
    }

    /// The chunk size in force (bytes).
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Drops the message under assembly on a chunk stream (section 5.4.2).
    ///
    /// The header state stays, since later headers refer to it. A chunk stream without such a
    /// message, or one never seen, is left alone.
    pub fn abort(&mut self, chunk_stream_id: u32) {
        if let Some(index) = self.find(chunk_stream_id) {
            self.drop_unfinished(index);
        }
    }

    /// Bytes this reader has allocated: header state, payloads and spare buffers.
    pub fn assembly_bytes(&self) -> usize {
        size_of_val(&*self.streams) + self.partial.allocated_bytes()
    }

    /// Gives back the spare buffers that wait for the next media message.
    pub fn release(&mut self) {
        self.delivered = NO_ASSEMBLY;
        self.partial.free_spares();
    }

    /// Reads one header, or as much of one chunk as has come.
    fn step<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &ReadLimits,
        tolerated: &mut Tolerated,
    ) -> Result<Step<'i>, ChunkError> {
        if self.chunk_remaining > 0 {
            return Ok(self.take_payload(input, tolerated));
        }
        let Some(header) = self.take_header(input)? else { return Ok(Step::NeedMore) };
        self.begin_chunk(&header, limits, tolerated)
    }

    /// Takes a whole header off the input, or holds the part of it that has come.
    fn take_header(&mut self, input: &mut &mut [u8]) -> Result<Option<ChunkHeader>, ChunkError> {
        if self.partial.has_held() {
            return self.take_held_header(input);
        }
        let header = self.parse_header(input)?;
        match &header {
            Some(header) => skip(input, header.bytes),
            None if input.is_empty() => {}
            None => {
                let mut held = HeldBytes::EMPTY;
                let taken = held.fill(input);
                self.partial.hold(held);
                skip(input, taken);
            }
        }
        Ok(header)
    }

    /// The same for a header whose front is held.
    #[cold]
    fn take_held_header(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<ChunkHeader>, ChunkError> {
        let mut held = self.partial.held();
        let held_before = held.len();
        let taken = held.fill(input);
        let header = self.parse_header(held.as_slice())?;
        match &header {
            Some(header) if header.bytes >= held_before => {
                skip(input, header.bytes - held_before);
                held = HeldBytes::EMPTY;
            }
            Some(header) => {
                held.truncate(held_before);
                held.drop_front(header.bytes);
            }
            None => skip(input, taken),
        }
        self.partial.hold(held);
        Ok(header)
    }

    /// Parses the header at the front of `bytes`; `Ok(None)` if it is not whole.
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<ChunkHeader>, ChunkError> {
        let Some((format, chunk_stream_id, rest)) = parse_basic_header(bytes) else {
            return Ok(None);
        };
        let known = self.find(chunk_stream_id);
        let stream = known.and_then(|index| self.streams.get(usize::from(index)));
        // librtmp opens chunk streams with type 1; types 2 and 3 have no length to go by.
        if stream.is_none() && format >= TYPE_2 {
            return Err(ChunkError::FreshChunkStream { chunk_stream_id, format });
        }
        let Some((fields, rest)) = parse_message_header(format, stream, rest) else {
            return Ok(None);
        };
        let header_bytes = bytes.len() - rest.len();
        Ok(Some(ChunkHeader { format, chunk_stream_id, known, fields, bytes: header_bytes }))
    }

    /// Moves the state of the chunk stream on to a header that is whole.
    fn begin_chunk<'i>(
        &mut self,
        header: &ChunkHeader,
        limits: &ReadLimits,
        tolerated: &mut Tolerated,
    ) -> Result<Step<'i>, ChunkError> {
        let index = match header.known {
            Some(index) => index,
            None => {
                if header.format != TYPE_0 {
                    tolerated.note(Quirk::OpensWithType1);
                }
                self.add_stream(header.chunk_stream_id, limits)?
            }
        };
        self.current = index;
        if header.fields.extended == Extended::Omitted {
            tolerated.note(Quirk::ExtendedTimestampOmitted);
        }
        let chunk_size = self.chunk_size;
        let Some(stream) = self.streams.get_mut(usize::from(index)) else {
            return Ok(Step::NeedMore);
        };
        if stream.continues_with(header) {
            if header.format != TYPE_3 {
                tolerated.note(Quirk::HeaderWithinMessage);
            }
            stream.note_extended(header);
            self.chunk_remaining = stream.remaining.min(chunk_size);
            return Ok(Step::Again);
        }
        if stream.remaining > 0 {
            self.drop_unfinished(index);
            tolerated.note(Quirk::AbandonedMessage);
        }
        self.begin_message(index, header, limits, tolerated)
    }

    /// Starts the message that `header` opens, within the limits.
    fn begin_message<'i>(
        &mut self,
        index: u8,
        header: &ChunkHeader,
        limits: &ReadLimits,
        tolerated: &mut Tolerated,
    ) -> Result<Step<'i>, ChunkError> {
        let under_assembly: usize =
            self.streams.iter().filter(|s| s.remaining > 0).map(|s| s.length as usize).sum();
        let Some(stream) = self.streams.get_mut(usize::from(index)) else {
            return Ok(Step::NeedMore);
        };
        match header.format {
            TYPE_1 | TYPE_2 if header.fields.time > BACKWARD_DELTA_ABOVE => {
                tolerated.note(Quirk::BackwardDelta);
            }
            TYPE_3 if stream.after_type_0 && stream.timestamp != 0 => {
                tolerated.note(Quirk::Type3AfterType0);
            }
            _ => {}
        }
        stream.begin_message(header);
        let kind = stream.kind;
        let length = stream.length as usize;
        let max = limits.message_bytes_max(kind);
        if length > max {
            return Err(ChunkError::MessageTooLarge { length, max, kind });
        }
        let (length, max) = (under_assembly + length, limits.assembly_bytes_max);
        if length > max {
            return Err(ChunkError::AssemblyTooLarge { length, max });
        }
        // A message without payload ends with its header (Flash sends such audio for silence).
        if stream.length == 0 {
            let header = stream.message_header();
            return Ok(Step::Borrowed(Message { header, payload: &[] }));
        }
        stream.remaining = stream.length;
        self.chunk_remaining = stream.length.min(self.chunk_size);
        Ok(Step::Again)
    }

    /// Takes what has come of the chunk's payload, or all chunks of a message that begins here.
    fn take_payload<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        tolerated: &mut Tolerated,
    ) -> Step<'i> {
        let chunk_remaining = self.chunk_remaining as usize;
        let index = self.current;
        let Some(stream) = self.streams.get_mut(usize::from(index)) else { return Step::NeedMore };

        let has_held = self.partial.has_held();
        let is_untouched = stream.assembly == NO_ASSEMBLY && !has_held;
        if is_untouched
            && stream.remaining == self.chunk_remaining
            && let Some(payload) = input.split_off_mut(..chunk_remaining)
        {
            stream.remaining = 0;
            self.chunk_remaining = 0;
            return Step::Borrowed(Message { header: stream.message_header(), payload });
        }
        let has_more_chunks = stream.remaining > self.chunk_remaining;
        if is_untouched && has_more_chunks && stream.remaining as usize <= input.len() {
            return self.gather(input, tolerated);
        }
        if !has_held {
            let taken = input.split_off_mut(..chunk_remaining.min(input.len()));
            return self.assemble(index, taken.unwrap_or_default());
        }
        let held = self.partial.held();
        let taken = held.as_slice();
        let taken = taken.get(..chunk_remaining).unwrap_or(taken);
        let mut rest = held;
        rest.drop_front(taken.len());
        self.partial.hold(rest);
        self.assemble(index, taken)
    }

    /// Puts a message together where it lies: the payloads of its chunks move down over the plain
    /// type 3 headers between them.
    ///
    /// Where anything else comes, or the input ends, what was gathered counts as one long chunk,
    /// and the message goes on behind it as if its chunks had come one by one. So nothing has to
    /// be known beforehand, and no header is parsed twice but the one where this ends. It is kept
    /// out of line, so that a message in one chunk does not save registers for it.
    #[inline(never)]
    fn gather<'i>(&mut self, input: &mut &'i mut [u8], tolerated: &mut Tolerated) -> Step<'i> {
        let index = self.current;
        let Some(stream) = self.streams.get(usize::from(index)) else { return Step::NeedMore };
        let length = stream.remaining as usize;
        let mut gathered = self.chunk_remaining as usize;
        let mut end = gathered;
        while gathered < length {
            let chunk_bytes = (length - gathered).min(self.chunk_size as usize);
            let rest = input.get(end..).unwrap_or_default();
            let Ok(Some(header)) = self.parse_header(rest) else { break };
            let carries_on = header.format == TYPE_3 && header.known == Some(index);
            if !carries_on || rest.len() - header.bytes < chunk_bytes {
                break;
            }
            if header.fields.extended == Extended::Omitted {
                tolerated.note(Quirk::ExtendedTimestampOmitted);
            }
            let payload = end + header.bytes;
            end = payload + chunk_bytes;
            input.copy_within(payload..end, gathered);
            gathered += chunk_bytes;
        }
        let taken = input.split_off_mut(..end).unwrap_or_default();
        let payload = taken.get(..gathered).unwrap_or_default();
        // No more than the length of the message, so this fits 32 bits.
        self.chunk_remaining = gathered as u32;
        if gathered < length {
            return self.assemble(index, payload);
        }
        let Some(stream) = self.streams.get_mut(usize::from(index)) else { return Step::NeedMore };
        stream.remaining = 0;
        self.chunk_remaining = 0;
        Step::Borrowed(Message { header: stream.message_header(), payload })
    }

    /// Appends payload bytes of the current chunk to the message of its chunk stream.
    fn assemble<'i>(&mut self, index: u8, taken: &[u8]) -> Step<'i> {
        if taken.is_empty() {
            return Step::NeedMore;
        }
        let Some(stream) = self.streams.get_mut(usize::from(index)) else { return Step::NeedMore };
        // No more than `chunk_remaining` bytes are ever taken, so this fits 32 bits.
        self.chunk_remaining -= taken.len() as u32;
        if stream.remaining == 0 {
            // The message was aborted inside this chunk, whose end still has to be found.
            return Step::Again;
        }
        stream.remaining = stream.remaining.saturating_sub(taken.len() as u32);
        if stream.assembly == NO_ASSEMBLY {
            stream.assembly = self.partial.claim();
        }
        self.partial.append(stream.assembly, taken, stream.length as usize);
        if stream.remaining > 0 {
            return Step::Again;
        }
        let assembly = std::mem::replace(&mut stream.assembly, NO_ASSEMBLY);
        self.partial.finish(assembly);
        Step::Assembled(assembly)
    }

    /// The message of the last call is read by now: keeps its buffer for the next or frees it.
    fn recycle_delivered(&mut self, limits: &ReadLimits) {
        let index = std::mem::replace(&mut self.delivered, NO_ASSEMBLY);
        if index == NO_ASSEMBLY {
            return;
        }
        let was_media = self
            .streams
            .get(usize::from(self.current))
            .is_some_and(|stream| matches!(stream.kind, kind::AUDIO | kind::VIDEO));
        self.partial.recycle(index, if was_media { limits.spare_bytes_max } else { 0 });
    }

    /// Forgets the unfinished message of a chunk stream, if there is one, with its bytes.
    #[cold]
    fn drop_unfinished(&mut self, index: u8) {
        let Some(stream) = self.streams.get_mut(usize::from(index)) else { return };
        stream.remaining = 0;
        self.partial.forget(std::mem::replace(&mut stream.assembly, NO_ASSEMBLY));
    }

    fn find(&self, chunk_stream_id: u32) -> Option<u8> {
        let is_it = |stream: &ChunkStream| stream.id == chunk_stream_id;
        if self.streams.get(usize::from(self.current)).is_some_and(is_it) {
            return Some(self.current);
        }
        self.streams.iter().position(is_it).and_then(|index| u8::try_from(index).ok())
    }

    /// Adds a chunk stream, within the limits.
    #[cold]
    fn add_stream(&mut self, id: u32, limits: &ReadLimits) -> Result<u8, ChunkError> {
        let max = limits.chunk_streams_max.min(usize::from(NO_ASSEMBLY) - 1);
        let index = self.streams.len();
        if index >= max {
            return Err(ChunkError::TooManyChunkStreams { max });
        }
        let mut streams = std::mem::take(&mut self.streams).into_vec();
        streams.reserve_exact(1);
        streams.push(ChunkStream::new(id));
        self.streams = streams.into_boxed_slice();
        // `max` keeps the index below 255.
        Ok(index as u8)
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreshChunkStream { chunk_stream_id, format } => write!(
                f,
                "chunk stream {chunk_stream_id} opens with a type {format} header, \
                 type 0 or 1 expected"
            ),
            Self::MessageTooLarge { length, max, kind } => {
                write!(f, "message of type {kind} declares {length} bytes, at most {max} allowed")
            }
            Self::TooManyChunkStreams { max } => {
                write!(f, "more than {max} chunk streams")
            }
            Self::AssemblyTooLarge { length, max } => write!(
                f,
                "messages under assembly declare {length} bytes together, at most {max} allowed"
            ),
        }
    }
}

impl Error for ChunkError {}

/// A buffer kept between messages; only rare keyframes are larger and allocate anew.
const SPARE_BYTES_MAX: usize = limits::MIB;
/// The value of a timestamp field that announces an extended timestamp (section 5.3.1.3).
const TIMESTAMP_EXTENDED: u32 = 0x00ff_ffff;
/// Largest type 0 timestamp that a type 3 header right behind it repeats as a delta (ms).
const TYPE_0_DELTA_MS_MAX: u32 = 1000;

/// A larger delta steps back: times are compared within half their range (section 5.3.1.3).
const BACKWARD_DELTA_ABOVE: u32 = 1 << 31;

const TYPE_0: u8 = 0;
const TYPE_1: u8 = 1;
const TYPE_2: u8 = 2;
const TYPE_3: u8 = 3;

const _: () = {
    assert!(size_of::<ChunkReader>() <= 40);
    assert!(size_of::<ChunkStream>() <= 32);
};

/// How far one step of the reader got.
enum Step<'i> {
    /// The next step may find more.
    Again,
    /// The input is used up.
    NeedMore,
    /// A message whose payload lies in the input.
    Borrowed(Message<'i>),
    /// The message of the current chunk stream, whose payload lies in this assembly.
    Assembled(u8),
}

/// What a chunk stream remembers of its headers (section 5.3.1.2), and its message under way.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    /// Absolute time of the message under way or of the last one.
    timestamp: u32,
    /// What a type 3 header that begins a message adds to `timestamp`.
    delta: u32,
    /// Last extended timestamp field as it came; means something if `has_extended`.
    extended: u32,
    /// Declared payload bytes of the message under way or of the last one.
    length: u32,
    message_stream_id: u32,
    /// Payload bytes of the message under way that are still to come; zero between messages.
    remaining: u32,
    kind: u8,
    /// Where its payload is put together, or [`NO_ASSEMBLY`].
    assembly: u8,
    /// The last header of type 0, 1 or 2 had an extended timestamp.
    has_extended: bool,
    /// The last message began with a type 0 header.
    after_type_0: bool,
}

impl ChunkStream {
    const fn new(id: u32) -> Self {
        Self {
            id,
            timestamp: 0,
            delta: 0,
            extended: 0,
            length: 0,
            message_stream_id: 0,
            remaining: 0,
            kind: 0,
            assembly: NO_ASSEMBLY,
            has_extended: false,
            after_type_0: false,
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

    /// True if a chunk with this header carries on with the message under way.
    ///
    /// Some encoders put types 1 and 2 there; only another length or type tells a new message.
    const fn continues_with(&self, header: &ChunkHeader) -> bool {
        let fields = &header.fields;
        self.remaining > 0
            && match header.format {
                TYPE_0 => false,
                TYPE_1 => fields.length == self.length && fields.kind == self.kind,
                _ => true,
            }
    }

    /// Moves time, length, type and message stream on to a message that begins (section 5.3.1.2).
    ///
    /// Times wrap: old OBS writes a step back as a delta of nearly 2^32.
    const fn begin_message(&mut self, header: &ChunkHeader) {
        let fields = &header.fields;
        match header.format {
            TYPE_0 => {
                self.timestamp = fields.time;
                // By the specification a type 3 header behind this adds the timestamp itself
                // (section 5.3.1.2.4). nginx-rtmp and old OBS mean "same time" with it. Intervals
                // over a second hardly exist, and adding an absolute time would be the worse error.
                self.delta = if fields.time <= TYPE_0_DELTA_MS_MAX { fields.time } else { 0 };
                self.message_stream_id = fields.message_stream_id;
            }
            TYPE_1 | TYPE_2 => {
                self.delta = fields.time;
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            _ => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        self.length = fields.length;
        self.kind = fields.kind;
        self.after_type_0 = header.format == TYPE_0;
        self.note_extended(header);
    }

    const fn note_extended(&mut self, header: &ChunkHeader) {
        if header.format == TYPE_3 {
            return;
        }
        self.has_extended = matches!(header.fields.extended, Extended::Present);
        self.extended = header.fields.time;
    }

    /// Decides whether the bytes behind a type 3 basic header repeat the extended timestamp.
    ///
    /// Section 5.3.1.3 wants it there, and librtmp and many encoders leave it out. So the bytes are
    /// compared with what it would be: the field as it last came, or the absolute time. The first
    /// byte that differs decides for payload; `None` if all that have come agree and are too few.
    /// A payload that happens to start with these four bytes is mistaken, once in 2^32 chunks.
    fn sniff_extended(&self, bytes: &[u8]) -> Option<Extended> {
        if !self.has_extended {
            return Some(Extended::Absent);
        }
        let agrees = |value: u32| value.to_be_bytes().iter().zip(bytes).all(|(a, b)| a == b);
        if !agrees(self.extended) && !agrees(self.timestamp) {
            return Some(Extended::Omitted);
        }
        (bytes.len() >= EXTENDED_BYTES).then_some(Extended::Present)
    }
}

/// Bytes of an extended timestamp.
const EXTENDED_BYTES: usize = 4;

/// Whether a chunk header has an extended timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extended {
    Absent,
    Present,
    /// It should be there by the specification and is not.
    Omitted,
}

/// A chunk header, whole.
struct ChunkHeader {
    format: u8,
    chunk_stream_id: u32,
    /// Place of the chunk stream, if it has been seen before.
    known: Option<u8>,
    fields: MessageFields,
    /// How many bytes the header takes.
    bytes: usize,
}

/// The fields of a message header; those its type leaves out are the last ones of the stream.
struct MessageFields {
    /// Timestamp of type 0, delta of types 1 and 2, unused in type 3.
    time: u32,
    extended: Extended,
    length: u32,
    kind: u8,
    message_stream_id: u32,
}

/// Section 5.3.1.1: type, chunk stream id and what lies behind.
fn parse_basic_header(bytes: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let format = first >> 6;
    match first & 0x3f {
        0 => {
            let (&low, rest) = rest.split_first()?;
            Some((format, 64 + u32::from(low), rest))
        }
        1 => {
            let (id, rest) = rest.split_first_chunk()?;
            Some((format, 64 + u32::from(u16::from_le_bytes(*id)), rest))
        }
        id => Some((format, u32::from(id), rest)),
    }
}

/// Sections 5.3.1.2 and 5.3.1.3: the fields and what lies behind them.
fn parse_message_header<'b>(
    format: u8,
    stream: Option<&ChunkStream>,
    bytes: &'b [u8],
) -> Option<(MessageFields, &'b [u8])> {
    let mut fields = MessageFields {
        time: 0,
        extended: Extended::Absent,
        length: stream.map_or(0, |stream| stream.length),
        kind: stream.map_or(0, |stream| stream.kind),
        message_stream_id: stream.map_or(0, |stream| stream.message_stream_id),
    };
    if format == TYPE_3 {
        fields.extended = stream.map_or(Some(Extended::Absent), |s| s.sniff_extended(bytes))?;
        let repeated = if fields.extended == Extended::Present { EXTENDED_BYTES } else { 0 };
        return Some((fields, bytes.get(repeated..)?));
    }
    let (time, mut rest) = split_u24(bytes)?;
    fields.time = time;
    if format <= TYPE_1 {
        (fields.length, rest) = split_u24(rest)?;
        let (&kind, behind) = rest.split_first()?;
        (fields.kind, rest) = (kind, behind);
    }
    if format == TYPE_0 {
        let (id, behind) = rest.split_first_chunk()?;
        // The one little-endian field of the protocol (section 5.3.1.2.1).
        (fields.message_stream_id, rest) = (u32::from_le_bytes(*id), behind);
    }
    if time == TIMESTAMP_EXTENDED {
        let (extended, behind) = rest.split_first_chunk()?;
        (fields.time, rest) = (u32::from_be_bytes(*extended), behind);
        fields.extended = Extended::Present;
    }
    Some((fields, rest))
}

fn split_u24(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (&[a, b, c], rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes([0, a, b, c]), rest))
}

/// Takes bytes off the front of an input.
pub(in crate::rtmp) fn skip(input: &mut &mut [u8], count: usize) {
    *input = std::mem::take(input).get_mut(count..).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::chunk::partial::SPARES_MAX;
    use crate::rtmp::chunk::write::{write_control, write_message};
    use crate::rtmp::message::Control;
    use crate::rtmp::message::tests::hex;

    /// All that a reader makes of a run of bytes.
    #[derive(Debug, PartialEq)]
    struct Outcome {
        messages: Vec<OwnedMessage>,
        error: Option<ChunkError>,
        tolerated: Tolerated,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct OwnedMessage {
        header: MessageHeader,
        payload: Vec<u8>,
    }

    impl Outcome {
        fn timestamps(&self) -> Vec<u32> {
            self.messages.iter().map(|message| message.header.timestamp).collect()
        }

        fn payloads(&self) -> Vec<&[u8]> {
            self.messages.iter().map(|message| message.payload.as_slice()).collect()
        }
    }

    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % bound
        }

        fn bytes(&mut self, len: usize) -> Vec<u8> {
            (0..len).map(|_| self.below(256) as u8).collect()
        }
    }

    /// For readers whose peers do nothing that is worth a note.
    fn tolerated() -> Tolerated {
        Tolerated::default()
    }

    /// The next message of a publisher that does no wrong.
    fn next<'a, 'i: 'a>(
        reader: &'a mut ChunkReader,
        input: &mut &'i mut [u8],
    ) -> Option<Message<'a>> {
        reader.next_message(input, &ReadLimits::default(), &mut tolerated()).unwrap()
    }

    /// A publisher as far as the reader sees one: control messages are obeyed.
    fn read_pieces<'b>(pieces: impl Iterator<Item = &'b [u8]>, limits: &ReadLimits) -> Outcome {
        let mut reader = ChunkReader::new();
        let tolerated = Tolerated::default();
        let mut outcome = Outcome { messages: vec![], error: None, tolerated };
        let mut received = 0;
        for piece in pieces {
            received += piece.len();
            let mut input = &mut piece.to_owned()[..];
            loop {
                let message = match reader.next_message(&mut input, limits, &mut outcome.tolerated)
                {
                    Ok(Some(Message { header, payload })) => {
                        OwnedMessage { header, payload: payload.to_vec() }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        outcome.error = Some(error);
                        return outcome;
                    }
                };
                match Control::parse(message.header.kind, &message.payload) {
                    Ok(Some(Control::SetChunkSize(size))) => reader.set_chunk_size(size),
                    Ok(Some(Control::Abort(id))) => reader.abort(id),
                    _ => {}
                }
                outcome.messages.push(message);
                assert!(reader.assembly_bytes() <= 2 * received + 8 * limits::KIB);
            }
            assert!(input.is_empty(), "a reader that wants more has consumed all");
            assert!(reader.assembly_bytes() <= 2 * received + 8 * limits::KIB);
        }
        outcome
    }

    fn random_pieces(mut bytes: &[u8], seed: u64) -> impl Iterator<Item = &[u8]> {
        let mut random = Xorshift(seed);
        let longest = [4, 40, 400, 4000][random.below(4)];
        std::iter::from_fn(move || {
            if bytes.is_empty() {
                return None;
            }
            let (piece, rest) = bytes.split_at((1 + random.below(longest)).min(bytes.len()));
            bytes = rest;
            Some(piece)
        })
    }

    /// Row CH-46 for every vector below: in one block, byte by byte and at random splits.
    fn read_within(bytes: &[u8], limits: &ReadLimits) -> Outcome {
        let outcome = read_pieces(std::iter::once(bytes), limits);
        assert_eq!(read_pieces(bytes.chunks(1), limits), outcome, "byte by byte");
        for seed in 1..5 {
            assert_eq!(read_pieces(random_pieces(bytes, seed), limits), outcome, "seed {seed}");
        }
        outcome
    }

    fn read(bytes: &[u8]) -> Outcome {
        read_within(bytes, &ReadLimits::default())
    }

    fn message(chunk_stream_id: u32, timestamp: u32, kind: u8, payload: &[u8]) -> OwnedMessage {
        OwnedMessage {
            header: MessageHeader { chunk_stream_id, timestamp, kind, message_stream_id: 1 },
            payload: payload.to_vec(),
        }
    }

    fn only(messages: &[OwnedMessage]) -> Outcome {
        Outcome { messages: messages.to_vec(), error: None, tolerated: Tolerated::default() }
    }

    /// A payload in which no two neighbouring runs are alike.
    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 128) as u8).collect()
    }

    /// Hex digits and payloads, put together in order.
    fn wire(parts: &[(&str, &[u8])]) -> Vec<u8> {
        parts
            .iter()
            .flat_map(|(header, payload)| [hex(header), payload.to_vec()].concat())
            .collect()
    }

    #[test]
    fn ch_01_both_forms_of_a_chunk_stream_id_are_one_stream() {
        let bytes = wire(&[("00 00 000005 000001 08 01000000 aa", &[]), ("c1 00 00 bb", &[])]);
        let outcome = read(&bytes);
        assert_eq!(
            outcome.messages,
            [message(64, 5, kind::AUDIO, &[0xaa]), message(64, 10, kind::AUDIO, &[0xbb])]
        );
        for (basic, id) in [("00 ff", 319), ("01 ff 00", 319), ("01 00 01", 320)] {
            let bytes = wire(&[(basic, &[]), ("000000 000001 08 01000000 aa", &[])]);
            assert_eq!(read(&bytes), only(&[message(id, 0, kind::AUDIO, &[0xaa])]));
        }
    }

    #[test]
    fn ch_02_largest_chunk_stream_id_is_accepted() {
        let bytes = hex("01 ff ff 000000 000001 14 01000000 02");
        assert_eq!(read(&bytes), only(&[message(65599, 0, kind::COMMAND_AMF0, &[2])]));
    }

    #[test]
    fn ch_03_message_of_307_bytes_comes_in_three_chunks() {
        let video = payload(307);
        let bytes = wire(&[
            ("04 0003e8 000133 09 01000000", &video[..128]),
            ("c4", &video[128..256]),
            ("c4", &video[256..]),
        ]);
        assert_eq!(read(&bytes), only(&[message(4, 1000, kind::VIDEO, &video)]));
    }

    #[test]
    fn ch_04_whole_multiples_of_the_chunk_size_need_no_empty_chunk() {
        let (one, two) = (payload(128), payload(256));
        let bytes = wire(&[
            ("04 000000 000080 09 01000000", &one),
            ("04 000000 000100 09 01000000", &two[..128]),
            ("c4", &two[128..]),
        ]);
        let expected = [message(4, 0, kind::VIDEO, &one), message(4, 0, kind::VIDEO, &two)];
        assert_eq!(read(&bytes), only(&expected));
    }

    #[test]
    fn ch_05_message_without_payload_ends_with_its_header() {
        let bytes = hex("04 000000 000000 08 01000000 04 000014 000001 08 01000000 af");
        let expected = [message(4, 0, kind::AUDIO, &[]), message(4, 20, kind::AUDIO, &[0xaf])];
        assert_eq!(read(&bytes), only(&expected));
    }

    #[test]
    fn ch_06_audio_inside_a_split_video_completes_first() {
        let (audio, video) = (payload(140), payload(300));
        let bytes = wire(&[
            ("06 000000 00012c 09 01000000", &video[..128]),
            ("04 000005 00008c 08 01000000", &audio[..128]),
            ("c6", &video[128..256]),
            ("c4", &audio[128..]),
            ("c6", &video[256..]),
        ]);
        let expected = [message(4, 5, kind::AUDIO, &audio), message(6, 0, kind::VIDEO, &video)];
        assert_eq!(read(&bytes), only(&expected));
    }

    #[test]
    fn ch_07_deltas_add_up() {
        let bytes = hex("04 0003e8 000001 08 01000000 aa  44 000014 000001 08 aa \
                         84 000014 aa  c4 aa  c4 aa");
        assert_eq!(read(&bytes).timestamps(), [1000, 1020, 1040, 1060, 1080]);
    }

    #[test]
    fn ch_08_type_3_behind_time_zero_keeps_time_zero() {
        let bytes = hex("04 000000 000001 08 01000000 aa  c4 aa");
        assert_eq!(read(&bytes).timestamps(), [0, 0]);
        assert!(read(&bytes).tolerated.is_empty());
    }

    #[test]
    fn ch_09_type_3_behind_a_small_time_adds_it() {
        let outcome = read(&hex("04 00001a 000001 08 01000000 aa  c4 aa  c4 aa"));
        assert_eq!(outcome.timestamps(), [26, 52, 78]);
        assert_eq!(outcome.tolerated.count(Quirk::Type3AfterType0), 1);
        let at_the_bound = read(&hex("04 0003e8 000001 08 01000000 aa  c4 aa"));
        assert_eq!(at_the_bound.timestamps(), [1000, 2000]);
    }

    #[test]
    fn ch_10_type_3_behind_a_large_time_keeps_it() {
        for (time, expected) in [("4c4b40", 5_000_000), ("0003e9", 1001)] {
            let text = format!("04 {time} 000001 08 01000000 aa  c4 aa  44 00000a 000001 08 aa");
            let outcome = read(&hex(&text));
            assert_eq!(outcome.timestamps(), [expected, expected, expected + 10]);
            assert_eq!(outcome.tolerated.count(Quirk::Type3AfterType0), 1);
        }
    }

    #[test]
    fn ch_11_delta_of_nearly_32_bits_steps_back() {
        let bytes = hex("04 000064 000001 08 01000000 aa  44 ffffff 000001 08 fffffff6 aa");
        assert_eq!(read(&bytes).timestamps(), [100, 90]);
    }

    #[test]
    fn ch_12_time_wraps_at_32_bits() {
        let bytes = hex("04 ffffff 000001 08 01000000 fffffff0 aa  44 000020 000001 08 aa");
        assert_eq!(read(&bytes).timestamps(), [0xffff_fff0, 0x10]);
    }

    #[test]
    fn ch_13_extended_timestamp_with_type_3_field() {
        let video = payload(200);
        let bytes = wire(&[
            ("04 ffffff 0000c8 09 01000000 01000000", &video[..128]),
            ("c4 01000000", &video[128..]),
        ]);
        assert_eq!(bytes.len(), 221);
        assert_eq!(read(&bytes), only(&[message(4, 0x0100_0000, kind::VIDEO, &video)]));
    }

    #[test]
    fn ch_14_extended_timestamp_without_type_3_field() {
        let video = payload(200);
        let bytes = wire(&[
            ("04 ffffff 0000c8 09 01000000 01000000", &video[..128]),
            ("c4", &video[128..]),
        ]);
        let outcome = read(&bytes);
        assert_eq!(outcome.messages, [message(4, 0x0100_0000, kind::VIDEO, &video)]);
        assert!(outcome.tolerated.count(Quirk::ExtendedTimestampOmitted) > 0);
    }

    #[test]
    fn ch_14_payload_that_begins_like_the_missing_field_is_payload() {
        for tail in ["01", "01 00", "01 00 00", "01 00 00 01", "01 00 00 01 00 00 00"] {
            let video = [payload(128), hex(tail)].concat();
            let length = format!("04 ffffff 0000{:02x} 09 01000000 01000000", video.len());
            let bytes = wire(&[
                (&length, &video[..128]),
                ("c4", &video[128..]),
                ("04 000000 000001 08 01000000 af", &[]),
            ]);
            let outcome = read(&bytes);
            let expected =
                [message(4, 0x0100_0000, kind::VIDEO, &video), message(4, 0, kind::AUDIO, &[0xaf])];
            assert_eq!(outcome.messages, expected, "{tail}");
            assert!(outcome.tolerated.count(Quirk::ExtendedTimestampOmitted) > 0);
        }
    }

    #[test]
    fn ch_14_held_bytes_may_end_a_message_and_open_the_next() {
        // 01 02 is the end of a payload and the basic header of chunk stream 2, and could have
        // been the front of the extended timestamp that the peer leaves out.
        let mut video = payload(129);
        video[128] = 1;
        let bytes = wire(&[
            ("04 ffffff 000081 09 01000000 01020001", &video[..128]),
            ("c4", &video[128..]),
            ("02 000001 000000 08 01000000", &[]),
        ]);
        let outcome = read(&bytes);
        let expected =
            [message(4, 0x0102_0001, kind::VIDEO, &video), message(2, 1, kind::AUDIO, &[])];
        assert_eq!(outcome.messages, expected);
    }

    #[test]
    fn ch_15_payload_equal_to_the_missing_field_is_mistaken_for_it() {
        let mut video = payload(200);
        video[128..132].copy_from_slice(&[1, 0, 0, 0]);
        let bytes = wire(&[
            ("04 ffffff 0000c8 09 01000000 01000000", &video[..128]),
            ("c4", &video[128..]),
        ]);
        assert_eq!(read(&bytes), only(&[]), "four bytes are missing at the end");
    }

    #[test]
    fn ch_16_time_of_24_ones_comes_extended() {
        let bytes = hex("04 ffffff 000001 08 01000000 00ffffff aa");
        assert_eq!(read(&bytes).timestamps(), [0x00ff_ffff]);
    }

    #[test]
    fn ch_17_time_below_24_ones_comes_plain() {
        let bytes = hex("04 fffffe 000001 08 01000000 aa");
        assert_eq!(read(&bytes).timestamps(), [0x00ff_fffe]);
    }

    #[test]
    fn ch_18_extended_delta_is_added_once() {
        let video = payload(300);
        // Section 5.3.1.3 repeats the field, which is the delta; some peers repeat the time.
        for repeated in ["01000000", "01000064"] {
            let type_3 = format!("c4 {repeated}");
            let bytes = wire(&[
                ("04 000064 000001 09 01000000 aa", &[]),
                ("44 ffffff 00012c 09 01000000", &video[..128]),
                (&type_3, &video[128..256]),
                (&type_3, &video[256..]),
            ]);
            let expected = [
                message(4, 100, kind::VIDEO, &[0xaa]),
                message(4, 0x0100_0064, kind::VIDEO, &video),
            ];
            assert_eq!(read(&bytes), only(&expected));
        }
    }

    #[test]
    fn type_3_that_begins_a_message_repeats_the_extended_field_or_not() {
        let bytes = hex("04 ffffff 000001 08 01000000 01000000 aa  c4 01000000 bb");
        let expected = [
            message(4, 0x0100_0000, kind::AUDIO, &[0xaa]),
            message(4, 0x0100_0000, kind::AUDIO, &[0xbb]),
        ];
        assert_eq!(read(&bytes).messages, expected);
        let bytes = hex("04 ffffff 000001 08 01000000 01000000 aa  c4 bb");
        assert_eq!(read(&bytes).messages, expected);
    }

    #[test]
    fn plain_header_ends_the_extended_form() {
        let video = payload(129);
        let bytes = wire(&[
            ("04 ffffff 000001 09 01000000 01000000 aa", &[]),
            ("44 000014 000081 09", &video[..128]),
            ("c4", &video[128..]),
        ]);
        let expected = [
            message(4, 0x0100_0000, kind::VIDEO, &[0xaa]),
            message(4, 0x0100_0014, kind::VIDEO, &video),
        ];
        assert_eq!(read(&bytes), only(&expected));
    }

    #[test]
    fn ch_20_type_1_may_open_a_chunk_stream() {
        let outcome = read(&hex("42 000001 000006 04 0007 00003039"));
        let header = MessageHeader {
            chunk_stream_id: 2,
            timestamp: 1,
            kind: kind::USER_CONTROL,
            message_stream_id: 0,
        };
        assert_eq!(outcome.messages, [OwnedMessage { header, payload: hex("0007 00003039") }]);
        assert_eq!(outcome.tolerated.to_string(), "chunk stream opened with type 1");
    }

    #[test]
    fn ch_21_types_2_and_3_may_not_open_a_chunk_stream() {
        for (basic, format) in [("c5", 3), ("85", 2)] {
            let error = ChunkError::FreshChunkStream { chunk_stream_id: 5, format };
            assert_eq!(read(&hex(basic)).error, Some(error));
        }
    }

    #[test]
    fn ch_22_type_0_drops_the_message_under_way() {
        let bytes = wire(&[
            ("06 000000 00012c 09 01000000", &payload(300)[..128]),
            ("06 000028 000002 09 01000000 2701", &[]),
        ]);
        let outcome = read(&bytes);
        assert_eq!(outcome.messages, [message(6, 40, kind::VIDEO, &[0x27, 1])]);
        assert_eq!(outcome.tolerated.count(Quirk::AbandonedMessage), 1);
    }

    #[test]
    fn ch_23_type_1_with_another_length_or_type_drops_the_message_under_way() {
        for (header, kind) in [("46 000028 000002 09", 9), ("46 000028 00012c 08", 8)] {
            let begun = [hex("06 000000 00012c 09 01000000"), vec![1; 128]].concat();
            let second = if kind == 8 { vec![2; 300] } else { vec![2; 2] };
            let mut bytes = [begun, hex(header)].concat();
            for (index, chunk) in second.chunks(128).enumerate() {
                bytes.extend_from_slice(if index > 0 { &[0xc6] } else { &[] });
                bytes.extend_from_slice(chunk);
            }
            let outcome = read(&bytes);
            assert_eq!(outcome.messages, [message(6, 40, kind, &second)]);
            assert_eq!(outcome.tolerated.count(Quirk::AbandonedMessage), 1);
        }
    }

    #[test]
    fn ch_23_types_1_and_2_that_agree_carry_on() {
        let video = payload(300);
        let bytes = wire(&[
            ("06 000064 00012c 09 01000000", &video[..128]),
            ("46 000000 00012c 09", &video[128..256]),
            ("86 000000", &video[256..]),
        ]);
        let outcome = read(&bytes);
        assert_eq!(outcome.messages, [message(6, 100, kind::VIDEO, &video)]);
        assert_eq!(outcome.tolerated.count(Quirk::HeaderWithinMessage), 2);
    }

    #[test]
    fn ch_23_type_1_that_carries_on_renews_the_extended_field() {
        let video = payload(300);
        let bytes = wire(&[
            ("06 000064 00012c 09 01000000", &video[..128]),
            ("46 ffffff 00012c 09 01000000", &video[128..256]),
            ("c6 01000000", &video[256..]),
        ]);
        assert_eq!(read(&bytes).messages, [message(6, 100, kind::VIDEO, &video)]);
    }

    #[test]
    fn ch_24_declared_length_allocates_nothing() {
        let max = limits::MESSAGE_BYTES_MAX;
        let limits =
            ReadLimits { video_bytes_max: max, assembly_bytes_max: max, ..Default::default() };
        let mut reader = ChunkReader::new();
        let mut begun = [hex("06 000000 ffffff 09 01000000"), vec![0; 128]].concat();
        let mut input = begun.as_mut_slice();
        assert_eq!(reader.next_message(&mut input, &limits, &mut tolerated()), Ok(None));
        assert!(reader.assembly_bytes() <= 2 * 128 + 128, "{}", reader.assembly_bytes());
    }

    #[test]
    fn ch_25_length_above_the_limit_of_its_type_is_refused() {
        let limits = ReadLimits {
            command_bytes_max: 10,
            data_bytes_max: 20,
            audio_bytes_max: 30,
            video_bytes_max: 40,
            ..Default::default()
        };
        for (kind, max) in [(20, 10), (17, 10), (1, 10), (99, 10), (18, 20), (15, 20), (8, 30)]
            .into_iter()
            .chain([(9, 40), (22, 40)])
        {
            let chunk = |length: usize| {
                let header = [4, 0, 0, 0, 0, 0, length as u8, kind, 1, 0, 0, 0];
                [header.to_vec(), vec![0xff; length]].concat()
            };
            assert_eq!(read_within(&chunk(max), &limits).messages.len(), 1);
            assert_eq!(
                read_within(&chunk(max + 1), &limits).error,
                Some(ChunkError::MessageTooLarge { length: max + 1, max, kind })
            );
        }
    }

    #[test]
    fn ch_25_limit_holds_for_inherited_lengths_too() {
        let mut reader = ChunkReader::new();
        let mut bytes = hex("04 000000 000002 08 01000000 aaaa c4");
        let mut input = bytes.as_mut_slice();
        assert!(
            reader
                .next_message(&mut input, &ReadLimits::default(), &mut tolerated())
                .unwrap()
                .is_some()
        );
        let limits = ReadLimits { audio_bytes_max: 1, ..Default::default() };
        assert_eq!(
            reader.next_message(&mut input, &limits, &mut tolerated()),
            Err(ChunkError::MessageTooLarge { length: 2, max: 1, kind: kind::AUDIO })
        );
    }

    /// The first chunk of a message of 200 bytes on each chunk stream.
    fn half_messages(ids: impl Iterator<Item = u16>) -> Vec<u8> {
        let half = [hex("000000 0000c8 14 00000000"), vec![0; 128]].concat();
        ids.flat_map(|id| {
            let [low, high] = (id - 64).to_le_bytes();
            [vec![1, low, high], half.clone()].concat()
        })
        .collect()
    }

    #[test]
    fn ch_26_too_many_chunk_streams_are_refused() {
        let limits = ReadLimits::before_publish();
        let max = limits.chunk_streams_max;
        let allowed = half_messages((100..).take(max));
        assert_eq!(read_within(&allowed, &limits), only(&[]));
        let refused = half_messages((100..).take(1000));
        let error = Some(ChunkError::TooManyChunkStreams { max });
        assert_eq!(read_within(&refused, &limits).error, error);
        let boundless = ReadLimits { chunk_streams_max: usize::MAX, ..Default::default() };
        let error = Some(ChunkError::TooManyChunkStreams { max: 254 });
        assert_eq!(read_within(&refused, &boundless).error, error);
    }

    #[test]
    fn ch_26_declared_lengths_are_bounded_together() {
        let limits = ReadLimits { assembly_bytes_max: 3 * 200, ..Default::default() };
        assert_eq!(read_within(&half_messages(100..103), &limits), only(&[]));
        assert_eq!(
            read_within(&half_messages(100..104), &limits).error,
            Some(ChunkError::AssemblyTooLarge { length: 800, max: 600 })
        );
    }

    #[test]
    fn ch_27_set_chunk_size_holds_from_the_next_chunk() {
        let video = payload(3000);
        let bytes = wire(&[
            ("02 000000 000004 01 00000000 00001000", &[]),
            ("06 000000 000bb8 09 01000000", &video),
        ]);
        assert_eq!(read(&bytes).payloads(), [&hex("00001000")[..], &video]);
    }

    #[test]
    fn ch_28_chunks_of_one_byte() {
        let bytes = hex("02 000000 000004 01 00000000 00000001 \
                         04 000000 000003 08 01000000 af c4 01 c4 21");
        assert_eq!(read(&bytes).payloads()[1..], [&hex("af0121")[..]]);
    }

    #[test]
    fn ch_29_largest_chunk_size() {
        let video = payload(70_000);
        let bytes = wire(&[
            ("02 000000 000004 01 00000000 7fffffff", &[]),
            ("06 000000 011170 09 01000000", &video),
        ]);
        assert_eq!(read(&bytes).payloads()[1..], [&video[..]]);
    }

    #[test]
    fn ch_32_set_chunk_size_holds_for_the_rest_of_a_split_message() {
        let video = payload(300);
        let bytes = wire(&[
            ("06 000000 00012c 09 01000000", &video[..128]),
            ("02 000000 000004 01 00000000 00001000", &[]),
            ("c6", &video[128..]),
        ]);
        assert_eq!(read(&bytes).payloads()[1..], [&video[..]]);
    }

    #[test]
    fn ch_36_aborted_message_is_dropped() {
        let bytes = wire(&[
            ("06 000000 00012c 09 01000000", &payload(100)),
            ("", &payload(28)),
            ("02 000000 000004 02 00000000 00000006", &[]),
            ("06 000028 000002 09 01000000 2701", &[]),
        ]);
        let outcome = read(&bytes);
        assert_eq!(outcome.messages[1..], [message(6, 40, kind::VIDEO, &[0x27, 1])]);
        assert!(outcome.tolerated.is_empty());
    }

    #[test]
    fn ch_36_abort_keeps_the_header_state() {
        let video = payload(130);
        let bytes = wire(&[
            ("06 000064 000001 09 01000000 aa", &[]),
            ("46 000014 000082 09", &payload(128)),
            ("02 000000 000004 02 00000000 00000006", &[]),
            ("c6", &video[..128]),
            ("c6", &video[128..]),
        ]);
        assert_eq!(read(&bytes).messages[2], message(6, 140, kind::VIDEO, &video));
    }

    #[test]
    fn ch_36_abort_inside_a_chunk_still_finds_its_end() {
        let mut reader = ChunkReader::new();
        let limits = ReadLimits::default();
        let mut begun = [hex("06 000000 00012c 09 01000000"), vec![0; 100]].concat();
        let mut input = begun.as_mut_slice();
        assert_eq!(reader.next_message(&mut input, &limits, &mut tolerated()), Ok(None));
        reader.abort(6);
        let mut rest = [vec![0; 28], hex("06 000000 000002 09 01000000 2701")].concat();
        let mut input = rest.as_mut_slice();
        let message = reader.next_message(&mut input, &limits, &mut tolerated()).unwrap().unwrap();
        assert_eq!(message.payload, [0x27, 1]);
    }

    #[test]
    fn ch_37_abort_without_a_message_is_ignored() {
        let bytes = wire(&[
            ("02 000000 000004 02 00000000 00000006", &[]),
            ("02 000000 000004 02 00000000 00000002", &[]),
            ("06 000000 000001 09 01000000 27", &[]),
        ]);
        assert_eq!(read(&bytes).messages[2..], [message(6, 0, kind::VIDEO, &[0x27])]);
    }

    #[test]
    fn ch_44_message_stream_id_is_little_endian() {
        let outcome = read(&hex("04 000000 000000 08 01020304"));
        assert_eq!(outcome.messages[0].header.message_stream_id, 0x0403_0201);
    }

    #[test]
    fn ch_45_unassigned_types_are_read_over() {
        for kind in [0, 7, 10, 21, 200] {
            let bytes = [4, 0, 0, 0, 0, 0, 1, kind, 1, 0, 0, 0, 0xaa];
            assert_eq!(read(&bytes), only(&[message(4, 0, kind, &[0xaa])]));
        }
    }

    /// An encoder that knows every header type, interleaves and uses either dialect.
    struct Encoder {
        random: Xorshift,
        repeats_extended: bool,
        chunk_size: usize,
        lanes: Vec<Lane>,
        out: Vec<u8>,
    }

    /// One chunk stream of the encoder.
    struct Lane {
        id: u32,
        last: Option<OwnedMessage>,
        delta: u32,
        extended: Option<u32>,
        /// The message under way and how much of it is sent.
        under_way: Option<(OwnedMessage, usize)>,
    }

    impl Encoder {
        fn new(seed: u64, repeats_extended: bool) -> Self {
            let mut random = Xorshift(seed);
            let chunk_size = 128;
            let lanes = [3, 4, 63, 64, 319, 320, 65599][random.below(5)..].iter();
            let lane = |&id| Lane { id, last: None, delta: 0, extended: None, under_way: None };
            let lanes = lanes.map(lane).collect();
            Self { random, repeats_extended, chunk_size, lanes, out: Vec::new() }
        }

        /// Sends `count` messages and returns them in the order in which they end.
        fn send(&mut self, count: usize) -> Vec<OwnedMessage> {
            let (mut begun, mut ended) = (0, Vec::new());
            while ended.len() < count {
                if self.random.below(50) == 0 {
                    ended.push(self.change_chunk_size());
                    begun += 1;
                }
                let index = self.random.below(self.lanes.len());
                if self.lanes[index].under_way.is_some() {
                    ended.extend(self.send_chunk(index, true));
                } else if begun < count {
                    begun += 1;
                    self.begin_message(index);
                    ended.extend(self.send_chunk(index, false));
                }
            }
            while let Some(index) = self.lanes.iter().position(|lane| lane.under_way.is_some()) {
                ended.extend(self.send_chunk(index, true));
            }
            ended
        }

        fn change_chunk_size(&mut self) -> OwnedMessage {
            let size = 1 + self.random.below(600) as u32;
            let message = message(2, 0, kind::SET_CHUNK_SIZE, &size.to_be_bytes());
            write_message(&mut self.out, message.header, &message.payload, self.chunk_size as u32);
            self.chunk_size = size as usize;
            message
        }

        /// Draws a message that often agrees with the last one, so that short headers serve.
        fn draw_message(&mut self, index: usize) -> OwnedMessage {
            let lane = &self.lanes[index];
            let steps = [0, lane.delta, 20, 0x00ff_ffff, 0x0100_0000, 0xffff_fff6];
            let step = steps[self.random.below(steps.len())];
            let mut header = match &lane.last {
                Some(last) => last.header,
                None => message(lane.id, 0, kind::AUDIO, &[]).header,
            };
            header.timestamp = header.timestamp.wrapping_add(step);
            let mut len = lane.last.as_ref().map_or(0, |last| last.payload.len());
            if self.random.below(2) == 0 {
                header.kind = [8, 9, 18][self.random.below(3)];
                len = self.random.below(1000);
            }
            if self.random.below(4) == 0 {
                header.message_stream_id = self.random.below(3) as u32;
            }
            OwnedMessage { header, payload: self.random.bytes(len) }
        }

        /// Writes one of the message headers that say the same.
        fn begin_message(&mut self, index: usize) {
            let message = self.draw_message(index);
            let lane = &mut self.lanes[index];
            let delta = lane
                .last
                .as_ref()
                .map(|last| message.header.timestamp.wrapping_sub(last.header.timestamp));
            let shortest = match (&lane.last, delta) {
                (Some(last), Some(delta))
                    if last.header.message_stream_id == message.header.message_stream_id =>
                {
                    let alike = last.header.kind == message.header.kind
                        && last.payload.len() == message.payload.len();
                    1 + u8::from(alike) + u8::from(alike && delta == lane.delta)
                }
                _ => 0,
            };
            let format = self.random.below(usize::from(shortest) + 1) as u8;
            let field = match format {
                TYPE_0 => Some(message.header.timestamp),
                TYPE_1 | TYPE_2 => delta,
                _ => None,
            };
            put_basic(&mut self.out, format, lane.id);
            if let Some(field) = field {
                self.out.extend(&field.min(TIMESTAMP_EXTENDED).to_be_bytes()[1..]);
                let time = message.header.timestamp;
                let repeated = if time <= TYPE_0_DELTA_MS_MAX { time } else { 0 };
                lane.delta = if format == TYPE_0 { repeated } else { field };
                lane.extended = (field >= TIMESTAMP_EXTENDED).then_some(field);
            }
            if format <= TYPE_1 {
                self.out.extend(&(message.payload.len() as u32).to_be_bytes()[1..]);
                self.out.push(message.header.kind);
            }
            if format == TYPE_0 {
                self.out.extend(message.header.message_stream_id.to_le_bytes());
            }
            if let Some(extended) = lane.extended
                && (format != TYPE_3 || self.repeats_extended)
            {
                self.out.extend(extended.to_be_bytes());
            }
            lane.last = Some(message.clone());
            lane.under_way = Some((message, 0));
        }

        /// Writes the next chunk of a lane; returns its message if it ends with that.
        fn send_chunk(&mut self, index: usize, with_header: bool) -> Option<OwnedMessage> {
            let lane = &mut self.lanes[index];
            let (message, sent) = lane.under_way.as_mut()?;
            if with_header {
                put_basic(&mut self.out, TYPE_3, lane.id);
                if let Some(extended) = lane.extended.filter(|_| self.repeats_extended) {
                    self.out.extend(extended.to_be_bytes());
                }
            }
            let rest = &message.payload[*sent..];
            let chunk = &rest[..rest.len().min(self.chunk_size)];
            self.out.extend(chunk);
            *sent += chunk.len();
            let ended = *sent == message.payload.len();
            if ended { lane.under_way.take().map(|(message, _)| message) } else { None }
        }
    }

    fn put_basic(out: &mut Vec<u8>, format: u8, id: u32) {
        match id {
            0..64 => out.push(format << 6 | id as u8),
            64..320 => out.extend([format << 6, (id - 64) as u8]),
            _ => {
                let [low, high, ..] = (id - 64).to_le_bytes();
                out.extend([format << 6 | 1, low, high]);
            }
        }
    }

    #[test]
    fn any_interleaving_in_either_dialect_yields_the_same_messages() {
        for seed in 1..25 {
            for repeats_extended in [true, false] {
                let mut encoder = Encoder::new(seed * 0x9e37_79b9, repeats_extended);
                let mut sent = encoder.send(60);
                // Behind the last message nothing could tell payload from a missing field.
                let last = message(2, 0, kind::AUDIO, &[0xaf]);
                write_message(&mut encoder.out, last.header, &last.payload, 128);
                sent.push(last);
                let outcome = read(&encoder.out);
                assert!(outcome.messages == sent, "seed {seed}, {repeats_extended}");
                assert_eq!(outcome.error, None);
                assert_eq!(outcome.tolerated.count(Quirk::AbandonedMessage), 0);
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut random = Xorshift(7);
        for chunk_size in [1, 2, 127, 128, 4096, 60_000] {
            let mut out = Vec::new();
            write_control(&mut out, &Control::SetChunkSize(chunk_size), CHUNK_SIZE_INITIAL);
            let mut sent = Vec::new();
            for timestamp in [0, 1, 0x00ff_fffe, 0x00ff_ffff, 0x0100_0000, u32::MAX] {
                let id = [2, 63, 64, 319, 320, 65599][random.below(6)];
                let len = random.below(700);
                let message = message(id, timestamp, kind::VIDEO, &random.bytes(len));
                write_message(&mut out, message.header, &message.payload, chunk_size);
                sent.push(message);
            }
            let outcome = read(&out);
            assert_eq!(outcome.messages[1..], sent);
            assert!(outcome.tolerated.is_empty());
        }
    }

    #[test]
    fn payload_that_lies_whole_in_the_input_is_not_copied() {
        let mut bytes = hex("04 000000 000003 08 01000000 af0121");
        let place = bytes[12..].as_ptr();
        let mut input = bytes.as_mut_slice();
        let mut reader = ChunkReader::new();
        assert_eq!(next(&mut reader, &mut input).unwrap().payload.as_ptr(), place);
        assert_eq!(reader.partial.allocated_bytes(), 0);
    }

    #[test]
    fn message_in_several_chunks_that_lies_whole_in_the_input_is_put_together_there() {
        let video = payload(307);
        let plain = ("04 0003e8 000133 09 01000000", "c4");
        let extended = ("04 ffffff 000133 09 01000000 01000000", "c4 01000000");
        let omitted = ("04 ffffff 000133 09 01000000 01000000", "c4");
        for (first, other) in [plain, extended, omitted] {
            let mut bytes = wire(&[
                (first, &video[..128]),
                (other, &video[128..256]),
                (other, &video[256..]),
                ("42 000001 000006 04 0007 00003039", &[]),
            ]);
            let place = bytes[hex(first).len()..].as_ptr();
            let mut input = bytes.as_mut_slice();
            let mut reader = ChunkReader::new();
            let message = next(&mut reader, &mut input).unwrap();
            assert_eq!((message.payload, message.payload.as_ptr()), (&video[..], place));
            assert_eq!(reader.partial.allocated_bytes(), 0);
            assert_eq!(next(&mut reader, &mut input).unwrap().payload, hex("0007 00003039"));
        }
    }

    #[test]
    fn encoder_that_does_not_interleave_is_read_without_a_copy() {
        for capture in CAPTURES.iter().filter(|capture| capture.name.ends_with(".client")) {
            let mut bytes = capture.bytes[HANDSHAKE_BYTES..].to_owned();
            let mut input = bytes.as_mut_slice();
            let mut reader = ChunkReader::new();
            while let Some(Message { header, payload }) = next(&mut reader, &mut input) {
                if let Ok(Some(Control::SetChunkSize(size))) = Control::parse(header.kind, payload)
                {
                    reader.set_chunk_size(size);
                }
                assert_eq!(reader.partial.allocated_bytes(), 0, "{}", capture.name);
            }
        }
    }

    #[test]
    fn what_comes_between_the_chunks_of_a_message_is_heeded() {
        let video = payload(600);
        let first = ("06 000000 000258 09 01000000", &video[..128]);
        let second = ("c6", &video[128..256]);
        let chunk_size = ("02 000000 000004 01 00000000 00001000", &[][..]);
        let outcome = read(&wire(&[first, second, chunk_size, ("c6", &video[256..])]));
        assert_eq!(outcome.messages[1..], [message(6, 0, kind::VIDEO, &video)]);

        let abort = ("02 000000 000004 02 00000000 00000006", &[][..]);
        let outcome =
            read(&wire(&[first, second, abort, ("06 000028 000002 09 01000000 2701", &[])]));
        assert_eq!(outcome.messages[1..], [message(6, 40, kind::VIDEO, &[0x27, 1])]);

        let fresh = read(&wire(&[first, second, ("c7", &video[256..])]));
        let error = ChunkError::FreshChunkStream { chunk_stream_id: 7, format: 3 };
        assert_eq!((fresh.messages, fresh.error), (vec![], Some(error)));
    }

    #[test]
    fn each_omitted_field_is_noted_once_wherever_the_message_is_put_together() {
        let video = payload(600);
        let mut bytes = wire(&[("06 ffffff 000258 09 01000000 01000000", &video[..128])]);
        for chunk in video[128..].chunks(128) {
            bytes.extend(wire(&[("c6", chunk)]));
        }
        assert_eq!(read(&bytes).tolerated.count(Quirk::ExtendedTimestampOmitted), 4);
        // The last chunk behind something else.
        let at = bytes.len() - (1 + 600 % 128);
        bytes.splice(at..at, hex("04 000000 000001 08 01000000 af"));
        let outcome = read(&bytes);
        assert_eq!(outcome.payloads(), [&[0xaf], &video[..]]);
        assert_eq!(outcome.tolerated.count(Quirk::ExtendedTimestampOmitted), 4);
    }

    #[test]
    fn input_may_end_anywhere_in_a_message_of_small_chunks() {
        let video = payload(40);
        for repeats_extended in [true, false] {
            let mut bytes = hex("02 000000 000004 01 00000000 00000003");
            let header = hex("00 ff ffffff 000028 09 01000000 01000000");
            for (index, chunk) in video.chunks(3).enumerate() {
                let extended = if repeats_extended { "01000000" } else { "" };
                let type_3 = hex(&format!("c0 ff {extended}"));
                bytes.extend(if index == 0 { &header } else { &type_3 });
                bytes.extend(chunk);
            }
            let whole = read(&bytes);
            assert_eq!(whole.messages[1..], [message(319, 0x0100_0000, kind::VIDEO, &video)]);
            for cut in 0..bytes.len() {
                let (before, behind) = bytes.split_at(cut);
                let pieces = [before, behind].into_iter();
                assert_eq!(read_pieces(pieces, &ReadLimits::default()), whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn steady_media_uses_the_same_buffer_again() {
        let mut reader = ChunkReader::new();
        let mut bytes = Vec::new();
        let video = message(6, 0, kind::VIDEO, &payload(1000));
        write_message(&mut bytes, video.header, &video.payload, 128);
        let mut places = Vec::new();
        for _ in 0..5 {
            let mut bytes = bytes.clone();
            let (mut begun, mut rest) = bytes.split_at_mut(500);
            assert_eq!(next(&mut reader, &mut begun), None);
            let message = next(&mut reader, &mut rest).unwrap();
            places.push((message.payload.as_ptr(), message.payload.len()));
        }
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
        let before = reader.assembly_bytes();
        reader.release();
        assert!(reader.assembly_bytes() <= before - 1000);
        assert_eq!(reader.partial.allocated_bytes(), 0);
    }

    #[test]
    fn commands_and_peers_that_do_not_publish_leave_no_buffer() {
        for (kind, limits) in [
            (kind::COMMAND_AMF0, ReadLimits::default()),
            (kind::DATA_AMF0, ReadLimits::default()),
            (kind::VIDEO, ReadLimits::before_publish()),
        ] {
            let mut bytes = Vec::new();
            let long = message(3, 0, kind, &payload(1000));
            write_message(&mut bytes, long.header, &long.payload, 128);
            let mut reader = ChunkReader::new();
            let (mut begun, mut rest) = bytes.split_at_mut(500);
            assert_eq!(reader.next_message(&mut begun, &limits, &mut tolerated()), Ok(None));
            assert!(reader.next_message(&mut rest, &limits, &mut tolerated()).unwrap().is_some());
            assert_ne!(reader.partial.allocated_bytes(), 0);
            assert_eq!(reader.next_message(&mut rest, &limits, &mut tolerated()), Ok(None));
            assert_eq!(reader.partial.allocated_bytes(), 0);
            assert_eq!(reader.assembly_bytes(), size_of::<ChunkStream>());
        }
    }

    #[test]
    fn the_front_of_a_header_is_held_until_its_rest_comes() {
        let mut reader = ChunkReader::new();
        let mut bytes = hex("04 000000 000001 08 01000000 af");
        for (index, byte) in bytes.chunks_mut(1).enumerate() {
            let mut input = byte;
            assert_eq!(next(&mut reader, &mut input).is_some(), index == 12);
            assert_eq!(reader.partial.allocated_bytes() > 0, index < 11, "{index}");
        }
        assert_eq!(reader.assembly_bytes(), size_of::<ChunkStream>());
    }

    #[test]
    fn spare_buffers_are_few() {
        let mut reader = ChunkReader::new();
        let limits = ReadLimits::default();
        let mut bytes = Vec::new();
        for basic in [4, 5, 6, 7] {
            let header = [basic, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
            bytes.extend([header.to_vec(), vec![0; 128]].concat());
        }
        for basic in [0xc4, 0xc5, 0xc6, 0xc7] {
            bytes.extend([vec![basic], vec![0; 72]].concat());
        }
        let mut input = bytes.as_mut_slice();
        for _ in 0..4 {
            assert!(reader.next_message(&mut input, &limits, &mut tolerated()).unwrap().is_some());
        }
        assert_eq!(reader.next_message(&mut input, &limits, &mut tolerated()), Ok(None));
        assert_eq!(reader.partial.spares(), SPARES_MAX);
    }

    #[test]
    fn errors_say_what_came_and_what_was_expected() {
        for (error, text) in [
            (
                ChunkError::FreshChunkStream { chunk_stream_id: 5, format: 3 },
                "chunk stream 5 opens with a type 3 header, type 0 or 1 expected",
            ),
            (
                ChunkError::MessageTooLarge { length: 9, max: 8, kind: 20 },
                "message of type 20 declares 9 bytes, at most 8 allowed",
            ),
            (ChunkError::TooManyChunkStreams { max: 64 }, "more than 64 chunk streams"),
            (
                ChunkError::AssemblyTooLarge { length: 9, max: 8 },
                "messages under assembly declare 9 bytes together, at most 8 allowed",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    /// What a recorded session holds behind its handshake.
    struct Capture {
        name: &'static str,
        bytes: &'static [u8],
        /// Type id, number of messages, first and last timestamp.
        kinds: &'static [(u8, usize, u32, u32)],
        payload_bytes: usize,
    }

    macro_rules! capture {
        ($name:literal, $payload_bytes:literal, $kinds:expr) => {
            Capture {
                name: $name,
                bytes: include_bytes!(concat!("../../../tests/vectors/captures/", $name, ".bin")),
                kinds: &$kinds,
                payload_bytes: $payload_bytes,
            }
        };
    }

    const CAPTURES: &[Capture] = &[
        capture!("ffmpeg5_play.client", 336, [(4, 1, 1, 1), (5, 1, 0, 0), (20, 5, 0, 0)]),
        capture!(
            "ffmpeg5_publish_h264_aac.client",
            49385,
            [(1, 1, 0, 0), (8, 132, 0, 3128), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!("ffmpeg9_play.client", 336, [(4, 1, 1, 1), (5, 1, 0, 0), (20, 5, 0, 0)]),
        capture!(
            "ffmpeg9_publish_av1_flac.client",
            97932,
            [(1, 1, 0, 0), (8, 146, 0, 3000), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!(
            "ffmpeg9_publish_hevc_opus.client",
            56540,
            [(1, 1, 0, 0), (8, 153, 0, 3127), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!(
            "ffmpeg9_publish_multitrack.client",
            113604,
            [(1, 1, 0, 0), (8, 296, 0, 3127), (9, 94, 0, 3066), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!(
            "ffmpeg9_publish_opus_only.client",
            17062,
            [(1, 1, 0, 0), (8, 153, 0, 3001), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!(
            "ffmpeg9_publish_vp9_ac3.client",
            69227,
            [(1, 1, 0, 0), (8, 96, 0, 2976), (9, 47, 0, 2938), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!(
            "gst_rtmp2sink_publish.client",
            33392,
            [(1, 1, 0, 0), (5, 1, 0, 0), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!("gst_rtmp2src_play.client", 283, [(4, 2, 0, 0), (5, 2, 0, 0), (20, 3, 0, 0)]),
        capture!(
            "gst_rtmpsink_publish.client",
            33363,
            [(9, 47, 0, 2934), (18, 1, 0, 0), (20, 7, 0, 0)]
        ),
        capture!(
            "nginx_answers_ffmpeg5_play.server",
            53754,
            [
                (1, 1, 0, 0),
                (4, 2, 0, 0),
                (5, 1, 0, 0),
                (6, 1, 0, 0),
                (8, 151, 1178, 4661),
                (9, 42, 1933, 4666),
                (18, 2, 0, 0),
                (20, 3, 0, 0)
            ]
        ),
        capture!(
            "nginx_answers_ffmpeg5_publish.server",
            445,
            [(1, 1, 0, 0), (5, 1, 0, 0), (6, 1, 0, 0), (20, 4, 0, 0)]
        ),
        capture!(
            "obs29_publish.client",
            498371,
            [(1, 1, 0, 0), (8, 1806, 0, 38485), (9, 386, 0, 38400), (18, 1, 0, 0), (20, 5, 0, 0)]
        ),
        capture!("rtmpdump_play.client", 322, [(4, 2, 0, 0), (5, 1, 0, 0), (20, 4, 0, 0)]),
        capture!("vlc_play.client", 302, [(4, 1, 1, 1), (5, 1, 0, 0), (20, 4, 0, 0)]),
    ];

    /// C0, C1 and C2, or S0, S1 and S2.
    const HANDSHAKE_BYTES: usize = 1 + 2 * limits::HANDSHAKE_PACKET_BYTES;

    #[test]
    fn ch_46_recorded_sessions_read_the_same_however_they_are_split() {
        for capture in CAPTURES {
            let outcome = read(&capture.bytes[HANDSHAKE_BYTES..]);
            assert_eq!(outcome.error, None, "{}", capture.name);
            let mut by_kind = std::collections::BTreeMap::new();
            for OwnedMessage { header, .. } in &outcome.messages {
                let time = header.timestamp;
                let (count, _, last) = by_kind.entry(header.kind).or_insert((0, time, time));
                *count += 1;
                *last = time;
            }
            let kinds: Vec<_> = by_kind
                .into_iter()
                .map(|(kind, (count, first, last))| (kind, count, first, last))
                .collect();
            assert_eq!(kinds, capture.kinds, "{}", capture.name);
            let payload_bytes: usize = outcome.payloads().iter().map(|payload| payload.len()).sum();
            assert_eq!(payload_bytes, capture.payload_bytes, "{}", capture.name);
        }
    }

    #[test]
    fn ch_47_mutated_sessions_neither_panic_nor_allocate_beyond_what_came() {
        let mut random = Xorshift(47);
        for capture in CAPTURES {
            let session = &capture.bytes[HANDSHAKE_BYTES..];
            let session = &session[..session.len().min(6_000)];
            for _ in 0..8 {
                let mut bytes = session.to_vec();
                for _ in 0..1 + random.below(8) {
                    let place = random.below(bytes.len());
                    bytes[place] = random.below(256) as u8;
                }
                read(&bytes);
            }
        }
    }
}
