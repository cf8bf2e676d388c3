//! Reads chunks and assembles messages (RTMP 1.0, section 5.3).
//!
//! The reader owns the header state of every chunk stream of one connection, and the payloads that
//! are incomplete. Headers are parsed in place. A payload that is complete in the input stays
//! there, and the pieces of its chunks are moved together; any other payload is copied once. The
//! reader never interprets a payload, not even Set Chunk Size: the session does, and calls
//! [`ChunkReader::set_chunk_size`]. It allocates for received bytes, never for a declared length.

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

/// Bounds that a reader enforces.
///
/// The caller passes them to each call. So no connection holds a copy, and an accepted publish
/// changes them at once. The default is the bounds for a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadLimits {
    /// Number of chunk streams that a peer may use; values above 254 count as 254.
    pub chunk_streams_max: usize,
    /// Sum of the declared lengths of all unfinished messages (bytes).
    pub assembly_bytes_max: usize,
    /// Length of a command, and of every type that has no field below (bytes).
    pub command_bytes_max: usize,
    /// Length of a data message, types 15 and 18 (bytes).
    pub data_bytes_max: usize,
    /// Length of an audio message, type 8 (bytes).
    pub audio_bytes_max: usize,
    /// Length of a video message or an aggregate, types 9 and 22 (bytes).
    pub video_bytes_max: usize,
    /// Capacity of an assembly buffer that is kept for the next message (bytes). Larger ones are
    /// freed when their message is done.
    pub spare_bytes_max: usize,
}

/// Assembles the messages of one connection from its chunks.
#[derive(Debug)]
pub struct ChunkReader {
    /// A boxed slice, without spare capacity: most sessions use two or three chunk streams for
    /// life.
    streams: Box<[ChunkStream]>,
    partial: Partial,
    chunk_size: u32,
    /// Payload bytes of the current chunk that have not arrived yet.
    chunk_remaining: u32,
    /// Index of the chunk stream of the last header.
    current: u8,
    /// Index of the assembly whose payload the last call returned, or [`NO_ASSEMBLY`].
    delivered: u8,
}

/// A violation of the chunk format, or of the limits, that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkError {
    /// The first header of a chunk stream inherits fields, and there is no header to inherit from.
    FreshChunkStream {
        /// The chunk stream.
        chunk_stream_id: u32,
        /// Type of the chunk header, 2 or 3.
        format: u8,
    },
    /// The declared length of a message exceeds the bound for its type.
    MessageTooLarge {
        /// The declared length in bytes.
        length: usize,
        /// The bound in bytes.
        max: usize,
        /// Message type id.
        kind: u8,
    },
    /// The peer uses more chunk streams than allowed.
    TooManyChunkStreams {
        /// The bound.
        max: usize,
    },
    /// The declared lengths of all unfinished messages together exceed the bound.
    AssemblyTooLarge {
        /// The sum of the declared lengths in bytes.
        length: usize,
        /// The bound in bytes.
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
    /// Returns the bounds for a peer that has not been accepted as a publisher. It only needs
    /// commands.
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
    /// Creates a reader for a connection whose handshake is done.
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
    /// Consumes all of `input` unless it returns a message or an error. Consumed bytes are
    /// overwritten, because payloads are moved within the input. Call it until it returns
    /// `Ok(None)`, even if `input` is empty: up to three held bytes may turn out to be payload
    /// rather than an extended timestamp. After an error no chunk boundary is known, so the
    /// connection must be closed. Protocol violations that the reader works around are counted in
    /// `tolerated`.
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

    /// Sets the chunk size of the peer, which holds from the next chunk on (section 5.4.1).
    ///
    /// Unfinished messages continue with the new size.
    pub const fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = if size == 0 { 1 } else { size };
    }

    /// Returns the chunk size in force (bytes).
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Drops the unfinished message of a chunk stream (section 5.4.2).
    ///
    /// The header state stays, because later headers inherit from it. The call has no effect on an
    /// unknown chunk stream, or on one without an unfinished message.
    pub fn abort(&mut self, chunk_stream_id: u32) {
        if let Some(index) = self.find(chunk_stream_id) {
            self.drop_unfinished(index);
        }
    }

    /// Returns the memory that the reader has allocated: header state, payloads and spare buffers
    /// (bytes).
    pub fn assembly_bytes(&self) -> usize {
        size_of_val(&*self.streams) + self.partial.allocated_bytes()
    }

    /// Frees the spare buffers.
    pub fn release(&mut self) {
        self.delivered = NO_ASSEMBLY;
        self.partial.free_spares();
    }

    /// Reads one header, or the available bytes of one payload.
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

    /// Takes a complete header off the input, or holds the bytes of an incomplete one.
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

    /// Takes a header whose front is held. The header may end within the held bytes: if they were
    /// held as a possible extended timestamp and are payload, they stay held, and
    /// [`take_payload`](Self::take_payload) takes them from there.
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

    /// Parses the header at the front of `bytes`. Returns `Ok(None)` if it is incomplete.
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<ChunkHeader>, ChunkError> {
        let Some((format, chunk_stream_id, rest)) = parse_basic_header(bytes) else {
            return Ok(None);
        };
        let known = self.find(chunk_stream_id);
        let stream = known.and_then(|index| self.streams.get(usize::from(index)));
        // librtmp opens chunk streams with type 1, so that is tolerated. Types 2 and 3 have no
        // length, and without one the payload has no end.
        if stream.is_none() && format >= TYPE_2 {
            return Err(ChunkError::FreshChunkStream { chunk_stream_id, format });
        }
        let Some((fields, rest)) = parse_message_header(format, stream, rest) else {
            return Ok(None);
        };
        let header_bytes = bytes.len() - rest.len();
        Ok(Some(ChunkHeader { format, chunk_stream_id, known, fields, bytes: header_bytes }))
    }

    /// Applies a complete header to its chunk stream: it continues a message or begins one.
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

    /// Begins the message that `header` opens. Fails if the message exceeds the limits.
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
        // An empty message ends with its header. Flash sends empty audio messages for silence.
        if stream.length == 0 {
            let header = stream.message_header();
            return Ok(Step::Borrowed(Message { header, payload: &[] }));
        }
        stream.remaining = stream.length;
        self.chunk_remaining = stream.length.min(self.chunk_size);
        Ok(Step::Again)
    }

    /// Takes the available payload of the current chunk, or the whole message if all of its chunks
    /// are in the input.
    ///
    /// There are four cases, the common ones first. The message is one chunk: it is returned in
    /// place. All of its chunks are there: [`gather`](Self::gather) joins them in place. Otherwise
    /// the payload is copied to an assembly, either from the input or from the held bytes.
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
        // This only rules out messages that certainly do not fit. The headers between the chunks
        // are not counted: `gather` finds out.
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

    /// Assembles a message in place: moves the payloads of its chunks down, over the type 3 headers
    /// between them.
    ///
    /// It stops at any other header, and at the end of the input. The gathered bytes then count as
    /// one long chunk, and the rest of the message is read chunk by chunk. A scan that first checks
    /// whether all chunks are there is rejected: it would parse each header twice, and this parses
    /// only the last one twice.
    ///
    /// Copying to an assembly is the alternative. A message of 16 kB in four chunks then takes 5475
    /// instructions instead of 4552, and it is copied to the tape afterwards in either case.
    /// `inline(never)` keeps a message in one chunk from saving registers for this function.
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
            // The gathered bytes lie before this chunk, so bytes that are still unread are never
            // overwritten.
            input.copy_within(payload..end, gathered);
            gathered += chunk_bytes;
        }
        let taken = input.split_off_mut(..end).unwrap_or_default();
        let payload = taken.get(..gathered).unwrap_or_default();
        // `gathered` is at most the length of the message, so it fits 32 bits.
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
        // At most `chunk_remaining` bytes are taken, so the length fits 32 bits.
        self.chunk_remaining -= taken.len() as u32;
        if stream.remaining == 0 {
            // The message was aborted inside this chunk. The rest of the chunk is skipped.
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

    /// Keeps or frees the buffer of the message that the last call returned. The caller has read
    /// it by now. Only media buffers are kept: commands are rare.
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

    /// Drops the unfinished message of a chunk stream, if there is one, and frees its buffer.
    #[cold]
    fn drop_unfinished(&mut self, index: u8) {
        let Some(stream) = self.streams.get_mut(usize::from(index)) else { return };
        stream.remaining = 0;
        self.partial.discard(std::mem::replace(&mut stream.assembly, NO_ASSEMBLY));
    }

    /// Returns the index of a chunk stream. The current one is tried first, because most headers
    /// continue its message.
    fn find(&self, chunk_stream_id: u32) -> Option<u8> {
        let has_id = |stream: &ChunkStream| stream.id == chunk_stream_id;
        if self.streams.get(usize::from(self.current)).is_some_and(has_id) {
            return Some(self.current);
        }
        self.streams.iter().position(has_id).and_then(|index| u8::try_from(index).ok())
    }

    /// Adds a chunk stream and returns its index. Fails if there are too many.
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
        // `max` is at most 254, so the index is below `NO_ASSEMBLY`.
        Ok(index as u8)
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreshChunkStream { chunk_stream_id, format } => write!(
                f,
                "chunk stream {chunk_stream_id} opens with a type {format} header, \
                 expected type 0 or 1"
            ),
            Self::MessageTooLarge { length, max, kind } => {
                write!(
                    f,
                    "message of type {kind} declares {length} bytes, at most {max} are allowed"
                )
            }
            Self::TooManyChunkStreams { max } => {
                write!(f, "the peer uses more than {max} chunk streams")
            }
            Self::AssemblyTooLarge { length, max } => write!(
                f,
                "unfinished messages declare {length} bytes together, at most {max} are allowed"
            ),
        }
    }
}

impl Error for ChunkError {}

/// Capacity of a buffer that is kept between messages. Only rare keyframes are larger; each of
/// them allocates again.
const SPARE_BYTES_MAX: usize = limits::MIB;
const _: () = assert!(size_of::<ChunkReader>() <= 40);

/// Result of one step of the reader.
enum Step<'i> {
    /// The next step may find more.
    Again,
    /// The input is used up.
    NeedMore,
    /// The message is complete, and its payload lies in the input.
    Borrowed(Message<'i>),
    /// The message of the current chunk stream is complete, and its payload lies in this assembly.
    Assembled(u8),
}

/// Removes `count` bytes from the front of an input.
pub(in crate::rtmp) fn skip(input: &mut &mut [u8], count: usize) {
    *input = std::mem::take(input).get_mut(count..).unwrap_or_default();
}

#[cfg(test)]
mod tests;
