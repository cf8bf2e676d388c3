//! Reads chunks and puts messages together (RTMP 1.0, section 5.3).
//!
//! Owns the header state of every chunk stream of one connection and the payloads that have come
//! in part. Headers are parsed where they lie in the input; a payload that lies whole in the input
//! stays there, the pieces of its chunks moved together, and any other is copied once. It never
//! interprets a payload, not even Set Chunk Size: the session decides and calls back. It never
//! allocates for a declared length, only for bytes that have come.

use std::error::Error;
use std::fmt;

use super::header::{
    BACKWARD_DELTA_ABOVE, ChunkHeader, ChunkStream, Extended, TYPE_0, TYPE_1, TYPE_2, TYPE_3,
    parse_basic_header, parse_message_header,
};
use super::partial::{HeldBytes, NO_ASSEMBLY, Partial};
use crate::limits::{self, CHUNK_SIZE_INITIAL};
use crate::rtmp::message::{Message, kind};
use crate::rtmp::quirks::{Quirk, Tolerated};

/// Bounds a reader enforces.
///
/// They are passed at each call, so that no connection holds a copy and an accepted publish
/// changes them at once. The default is what a publisher may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
const _: () = assert!(size_of::<ChunkReader>() <= 40);

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

/// Takes bytes off the front of an input.
pub(in crate::rtmp) fn skip(input: &mut &mut [u8], count: usize) {
    *input = std::mem::take(input).get_mut(count..).unwrap_or_default();
}

#[cfg(test)]
mod tests;
