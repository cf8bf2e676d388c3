//! The framing in which a player receives the messages of a tape.
//!
//! A tape holds each message once, as RTMP chunks on message stream [`MESSAGE_STREAM_ID`]. A
//! `View` shows those bytes in the framing of one player. It turns each message into up to three
//! pieces: a head that is made when it is sent, the payload as slices of the tape, and a tail. Only
//! heads and tails are copied. A view owns no message and no position in one. A message that a
//! write has cut belongs to [`HalfSent`].
//!
//! A framing derives its head and tail from the chunk header on the tape, which holds the type, the
//! timestamp and the length of the message. Fields in addition to the wire form would repeat these
//! facts and cost 16 more bytes for each message.

use super::slices::Slices;
use super::web_time::Origin;
use crate::http::websocket::{FRAME_HEAD_BYTES_MAX, Opcode, frame_head};
use crate::media::MediaKind;
use crate::media::fmp4::{FRAGMENT_HEAD_BYTES, MediaSample, Mp4Clock, sample_of};
use crate::media::simple_flv::{SimpleForm, SimpleHead, simple_form};
use crate::rtmp::message::kind;
use crate::time::Time;
use bytes::{Buf, Bytes};

/// Message stream id of the messages on a tape. Nearly every player plays on the first stream that
/// it creates, which has this id.
pub const MESSAGE_STREAM_ID: u32 = 1;

/// Length of the basic header and the message header of type 0 on a tape (bytes). Chunk stream ids
/// are below 64. An extended timestamp may follow, which is the same for all players.
const HEADER_BYTES: usize = 12;
/// Length of an extended timestamp (RTMP 1.0, section 5.3.1.3).
const EXTENDED_BYTES: usize = 4;
/// Length of the basic header that begins each further chunk of a message.
const BASIC_HEADER_BYTES: usize = 1;
/// Offsets of the timestamp, the length and the message stream id in the header (RTMP 1.0, section
/// 5.3.1.2.1).
const TIMESTAMP_AT: usize = 1;
const LENGTH_AT: usize = 4;
const KIND_AT: usize = 7;
const STREAM_ID_AT: usize = 8;
/// Value of the timestamp field if an extended timestamp follows the header.
const EXTENDED: [u8; 3] = [0xff; 3];

/// Length of the header of an FLV tag, and of the length that follows a tag (bytes).
const TAG_HEADER_BYTES: usize = 11;
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;
/// Type of an FLV tag with metadata.
const SCRIPT_DATA: u8 = 18;

/// A protocol in which players receive media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Framing {
    /// RTMP chunks (RTMP 1.0, section 5.3.1).
    Rtmp,
    /// FLV tags, each followed by its size (FLV 10.1, annex E.4.1).
    Flv,
    /// The same, each tag in a binary WebSocket message of its own (RFC 6455, section 5.2).
    WebSocketFlv,
    /// Fragmented MP4, a fragment for each frame (ISO/IEC 14496-12, section 8.8).
    Mp4,
    /// The same, each fragment in a binary WebSocket message of its own.
    WebSocketMp4,
}

/// The number of players of a stream in each framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watching([u32; 5]);

impl Watching {
    /// Returns the number of players in a framing.
    pub const fn count(&self, framing: Framing) -> usize {
        self.0[framing as usize] as usize
    }

    /// Notes a player that has come.
    pub const fn add(&mut self, framing: Framing) {
        self.0[framing as usize] += 1;
    }

    /// Notes that a player has left.
    pub const fn remove(&mut self, framing: Framing) {
        self.0[framing as usize] -= 1;
    }
}

impl Framing {
    /// All framings.
    pub const ALL: [Self; 5] =
        [Self::Rtmp, Self::Flv, Self::WebSocketFlv, Self::Mp4, Self::WebSocketMp4];

    /// Returns its name, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "RTMP",
            Self::Flv => "FLV",
            Self::WebSocketFlv => "FLV over WebSocket",
            Self::Mp4 => "MP4",
            Self::WebSocketMp4 => "MP4 over WebSocket",
        }
    }
    /// The framings that have memory files of their own. MP4 has times that depend on the player.
    pub(crate) const STORED: [Self; 2] = [Self::Flv, Self::WebSocketFlv];

    /// Returns whether players receive MP4.
    pub const fn is_mp4(self) -> bool {
        matches!(self, Self::Mp4 | Self::WebSocketMp4)
    }
}

/// What one player over HTTP receives unlike the others of its framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// The times of an MP4. Without them no message has a place in it.
    pub clock: Option<Mp4Clock>,
    /// The tracks of FLV.
    pub tracks: ChosenTracks,
    /// Whether each message is a chunk of a chunked body (RFC 9112, section 7.1).
    pub is_chunked: bool,
}

/// The tracks that a player of FLV receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenTracks {
    /// One of each medium, in the form of [`simple_form`].
    One {
        /// Id of the video track.
        video: u8,
        /// Id of the audio track.
        audio: u8,
    },
    /// All of them. Messages stay as the publisher sent them.
    All,
}

impl Default for ChosenTracks {
    fn default() -> Self {
        Self::One { video: 0, audio: 0 }
    }
}

/// A tape in the framing of one player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View<'c> {
    pub(crate) framing: Framing,
    /// The message stream id, where the framing has one.
    pub(crate) lane: u32,
    /// Chunk size of the tape.
    pub(crate) chunk_size: u32,
    /// The origin of the times of players over HTTP.
    pub(crate) origin: Origin,
    /// `None` for players that receive what the others of their framing do.
    pub(crate) custom: Option<&'c Custom>,
}

/// A message on a tape, with its header and the chunks of its payload.
#[derive(Clone, Copy)]
struct Chunked<'w> {
    /// From the header to the last byte of the payload.
    wire: &'w [u8],
    header: &'w [u8; HEADER_BYTES],
    extended_len: usize,
    payload_len: usize,
    chunk_size: usize,
}

impl<'w> Chunked<'w> {
    /// Takes the message at the front of `wire`, which holds whole messages that the server has
    /// encoded.
    fn first(wire: &mut &'w [u8], chunk_size: u32) -> Option<Self> {
        let header = wire.first_chunk::<HEADER_BYTES>()?;
        let is_extended = header[TIMESTAMP_AT..LENGTH_AT] == EXTENDED;
        let extended_len = if is_extended { EXTENDED_BYTES } else { 0 };
        let length = [0, header[LENGTH_AT], header[LENGTH_AT + 1], header[LENGTH_AT + 2]];
        let payload_len = u32::from_be_bytes(length) as usize;
        let chunk_size = chunk_size as usize;
        let further_chunks = payload_len.saturating_sub(1) / chunk_size;
        let further_headers = further_chunks * (BASIC_HEADER_BYTES + extended_len);
        let len = HEADER_BYTES + extended_len + payload_len + further_headers;
        let (message, rest) = wire.split_at_checked(len)?;
        *wire = rest;
        Some(Self { wire: message, header, extended_len, payload_len, chunk_size })
    }
}

impl<'w> Chunked<'w> {
    /// Returns the payload up to the end of its first chunk.
    fn first_chunk_payload(&self) -> &'w [u8] {
        let start = HEADER_BYTES + self.extended_len;
        &self.wire[start..start + self.payload_len.min(self.chunk_size)]
    }

    /// Returns a part of the payload in slices, without the headers of its chunks.
    fn payload_slices(&self, part: Part) -> impl Iterator<Item = &'w [u8]> + use<'w> {
        let Self { wire, extended_len, chunk_size, .. } = *self;
        let between = BASIC_HEADER_BYTES + extended_len;
        let mut at = part.from;
        std::iter::from_fn(move || {
            if at >= part.to {
                return None;
            }
            // Computed rather than found by walking from the first chunk: many short writes of one
            // long message would walk past all sent chunks each time.
            let (chunk, within) = (at / chunk_size, at % chunk_size);
            let len = (chunk_size - within).min(part.to - at);
            let start = HEADER_BYTES + extended_len + at + chunk * between;
            at += len;
            Some(&wire[start..start + len])
        })
    }

    /// Returns a byte of the payload.
    fn payload_byte(&self, index: usize) -> Option<u8> {
        let further_headers = index / self.chunk_size * (BASIC_HEADER_BYTES + self.extended_len);
        let at = HEADER_BYTES + self.extended_len + index + further_headers;
        (index < self.payload_len).then(|| self.wire.get(at).copied()).flatten()
    }

    const fn payload(&self) -> Part {
        Part { from: 0, to: self.payload_len }
    }
}

/// The whole message at the front of bytes of a tape.
#[derive(Clone, Copy)]
pub(super) struct TapeMessage<'w>(Chunked<'w>);

impl<'w> TapeMessage<'w> {
    /// Takes the message at the front of `wire`, which is that of an entry.
    pub(super) fn first(wire: &'w [u8], chunk_size: u32) -> Option<Self> {
        Chunked::first(&mut { wire }, chunk_size).map(Self)
    }

    /// Returns the timestamp (ms).
    pub(super) fn timestamp(&self) -> u32 {
        u32::from_be_bytes(timestamp_of(&self.0))
    }

    /// Returns the first bytes of the payload.
    pub(super) fn payload_head(&self) -> &'w [u8] {
        self.0.first_chunk_payload()
    }

    /// Returns the length of the payload.
    pub(super) fn payload_len(&self) -> usize {
        self.0.payload().to
    }

    /// Appends the payload from `offset` on.
    pub(super) fn append_payload(&self, offset: usize, out: &mut Vec<u8>) {
        let part = Part { from: offset, ..self.0.payload() };
        self.0.payload_slices(part).for_each(|slice| out.extend_from_slice(slice));
    }
}

/// A message in a framing other than RTMP.
#[derive(Clone, Copy)]
struct Piece<'w> {
    head: Small,
    body: Body<'w>,
    tail: Small,
}

/// The middle of a message: a part of the payload, without the headers of its chunks.
#[derive(Clone, Copy)]
struct Body<'w> {
    message: Chunked<'w>,
    part: Part,
}

/// The range of a payload, from the first to after the last byte.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: usize,
    to: usize,
}

/// Longest head of any framing (bytes): the head of a WebSocket message and that of a fragment. The
/// size of a chunk is shorter than the former.
const SMALL_BYTES_MAX: usize = FRAME_HEAD_BYTES_MAX + FRAGMENT_HEAD_BYTES;

/// A head or a tail.
#[derive(Clone, Copy)]
struct Small {
    bytes: [u8; SMALL_BYTES_MAX],
    len: usize,
}

impl Default for Small {
    fn default() -> Self {
        Self { bytes: [0; SMALL_BYTES_MAX], len: 0 }
    }
}

impl Small {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Body<'_> {
    const fn len(&self) -> usize {
        self.part.to - self.part.from
    }
}

impl<'w> Body<'w> {
    /// Adds the bytes after the first `skipped` ones. Returns whether there is room for more.
    fn add(&self, skipped: usize, slices: &mut Slices<'w, '_>) -> bool {
        let part = Part { from: self.part.from + skipped, ..self.part };
        self.message.payload_slices(part).all(|slice| slices.push(slice)) && slices.has_room()
    }
}

impl<'c> View<'c> {
    /// Returns whether this player receives the bytes of the tape unchanged, so that they can come
    /// from a memory file.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self.framing, Framing::Rtmp) && self.lane == MESSAGE_STREAM_ID
    }

    /// Returns the length of `wire`, whole messages of a tape, in this framing (bytes).
    #[inline]
    pub(crate) fn len(&self, wire: &[u8]) -> usize {
        match self.framing {
            // All message stream ids have the same length.
            Framing::Rtmp => wire.len(),
            _ => self.framed_len(wire),
        }
    }

    /// Appends `wire`, whole messages of a tape, in this framing.
    pub(crate) fn copy_to(&self, wire: &[u8], out: &mut Vec<u8>) {
        for piece in self.pieces(wire) {
            let mut scratch = Vec::new();
            let mut skipped = 0;
            while skipped < piece.len() {
                let mut slices = Slices::new(usize::MAX, &mut scratch, false);
                piece.add(skipped, &mut slices);
                skipped += slices.bytes();
                slices.hand_to(|slices| slices.iter().for_each(|s| out.extend_from_slice(s)));
            }
        }
    }

    #[cold]
    fn framed_len(&self, wire: &[u8]) -> usize {
        self.pieces(wire).map(|piece| piece.len()).sum()
    }

    /// Adds `wire`, whole messages of a tape, without the first `sent` bytes in this framing, which
    /// the player has. Returns whether there is room for more.
    #[inline]
    pub(crate) fn add<'w>(&self, wire: &'w [u8], sent: usize, slices: &mut Slices<'w, '_>) -> bool {
        if self.is_plain() {
            return slices.push(&wire[sent..]);
        }
        if self.framing == Framing::Rtmp {
            return self.add_readdressed(wire, sent, slices);
        }
        self.add_framed(wire, sent, slices)
    }

    /// Adds RTMP messages with the message stream id of this player. A piece for each was rejected:
    /// a player of a long backlog visits thousands of messages in a turn.
    #[cold]
    fn add_readdressed<'w>(
        &self,
        wire: &'w [u8],
        mut sent: usize,
        slices: &mut Slices<'w, '_>,
    ) -> bool {
        let mut rest = wire;
        while let Some(message) = Chunked::first(&mut rest, self.chunk_size) {
            let skipped = sent.min(message.wire.len());
            sent -= skipped;
            let mut header = *message.header;
            header[STREAM_ID_AT..].copy_from_slice(&self.lane.to_le_bytes());
            let has_room = slices.push_copy(&header[skipped.min(HEADER_BYTES)..])
                && slices.push(&message.wire[skipped.max(HEADER_BYTES)..]);
            if !has_room {
                return false;
            }
        }
        true
    }

    #[cold]
    fn add_framed<'w>(&self, wire: &'w [u8], sent: usize, slices: &mut Slices<'w, '_>) -> bool {
        let mut sent = sent;
        self.pieces(wire).all(|piece| {
            let skipped = sent.min(piece.len());
            sent -= skipped;
            piece.add(skipped, slices)
        })
    }

    /// Returns the length of the first message of `wire`, on the tape and in this framing (bytes).
    fn first_lens(&self, wire: &[u8]) -> Option<(usize, usize)> {
        let message = Chunked::first(&mut { wire }, self.chunk_size)?;
        Some((message.wire.len(), self.len(message.wire)))
    }

    fn pieces<'w>(&self, mut wire: &'w [u8]) -> impl Iterator<Item = Piece<'w>> + use<'w, 'c> {
        let view = *self;
        std::iter::from_fn(move || Chunked::first(&mut wire, view.chunk_size))
            .map(move |message| view.piece(message))
    }

    /// Returns whether a message of a tape is sent in this framing at all. An MP4 has the headers
    /// in its initialization segment, and no place for data. FLV has one track of each medium.
    pub(crate) fn has(&self, wire: &[u8]) -> bool {
        let Some(message) = Chunked::first(&mut { wire }, self.chunk_size) else { return false };
        match self.framing {
            Framing::Rtmp => true,
            Framing::Flv | Framing::WebSocketFlv => {
                self.simple_form(&message) != SimpleForm::Nothing
            }
            Framing::Mp4 | Framing::WebSocketMp4 => self.sample(&message).is_some(),
        }
    }

    /// Returns the form in which FLV has a message.
    fn simple_form(&self, message: &Chunked<'_>) -> SimpleForm {
        let tracks = self.custom.map_or_else(ChosenTracks::default, |custom| custom.tracks);
        let ChosenTracks::One { video, audio } = tracks else { return SimpleForm::Same };
        let (media, track) = match message.header[KIND_AT] {
            kind::VIDEO => (MediaKind::Video, video),
            kind::AUDIO => (MediaKind::Audio, audio),
            _ => return SimpleForm::Same,
        };
        simple_form(media, message.payload_len, track, |index| message.payload_byte(index))
    }

    /// Returns the sample of a message, and whether it is video.
    fn sample<'w>(&self, message: &Chunked<'w>) -> Option<(MediaSample<'w>, bool)> {
        let clock = self.clock()?;
        let payload = message.first_chunk_payload();
        let (media, is_video) = match message.header[KIND_AT] {
            kind::VIDEO if clock.video_id != 0 => (MediaKind::Video, true),
            kind::AUDIO if clock.audio_id != 0 => (MediaKind::Audio, false),
            _ => return None,
        };
        // A frame reaches to the end of its message, unless there are several tracks in it.
        let sample = sample_of(media, payload, 0)?;
        let is_last = sample.offset + sample.bytes.len() == payload.len();
        is_last.then_some((sample, is_video))
    }

    /// Returns the fragment for a message; an empty piece if it has no sample.
    fn fragment<'w>(&self, message: Chunked<'w>) -> Piece<'w> {
        let (Some(clock), Some((sample, is_video))) = (self.clock(), self.sample(&message)) else {
            return nothing(message);
        };
        let part = Part { from: sample.offset, to: message.payload_len };
        let Some(size) = part.to.checked_sub(part.from) else { return nothing(message) };
        let mut piece = self.begin(message, part, FRAGMENT_HEAD_BYTES + size);
        let time_ms = self.time_of(&message);
        piece.head.push(&clock.fragment_head(is_video, &sample, time_ms, size));
        self.end(piece)
    }

    /// Returns the FLV tag for a message (FLV 10.1, annex E.4.1); an empty piece if it has none.
    fn flv_tag<'w>(&self, message: Chunked<'w>) -> Piece<'w> {
        let (head, part) = match self.simple_form(&message) {
            SimpleForm::Same => (SimpleHead::default(), message.payload()),
            SimpleForm::Other { head, body } => (head, Part { from: body.start, to: body.end }),
            SimpleForm::Nothing => return nothing(message),
        };
        let data_len = head.bytes().len() + part.to - part.from;
        let tag_len = TAG_HEADER_BYTES + data_len;
        let mut piece = self.begin(message, part, tag_len + PREVIOUS_TAG_SIZE_BYTES);
        piece.head.push(&flv_tag_header(&message, data_len, self.time_of(&message)));
        piece.head.push(head.bytes());
        piece.tail.push(&(tag_len as u32).to_be_bytes());
        self.end(piece)
    }

    /// Begins a piece of `len` bytes with the head of its WebSocket message or of its chunk.
    fn begin<'w>(&self, message: Chunked<'w>, part: Part, len: usize) -> Piece<'w> {
        let body = Body { message, part };
        let mut piece = Piece { head: Small::default(), body, tail: Small::default() };
        if matches!(self.framing, Framing::WebSocketFlv | Framing::WebSocketMp4) {
            let (frame, frame_len) = frame_head(Opcode::Binary, len as u64);
            piece.head.push(&frame[..frame_len]);
        } else if self.is_chunked() {
            let (size, size_len) = chunk_size_line(len);
            piece.head.push(&size[..size_len]);
        }
        piece
    }

    fn end<'w>(&self, mut piece: Piece<'w>) -> Piece<'w> {
        if self.is_chunked() {
            piece.tail.push(b"\r\n");
        }
        piece
    }

    fn is_chunked(&self) -> bool {
        self.custom.is_some_and(|custom| custom.is_chunked)
    }

    fn clock(&self) -> Option<&'c Mp4Clock> {
        self.custom?.clock.as_ref()
    }

    /// Returns the time that a player over HTTP receives for a message (ms).
    fn time_of(&self, message: &Chunked<'_>) -> u32 {
        let timestamp = u32::from_be_bytes(timestamp_of(message));
        match message.header[KIND_AT] {
            kind::AUDIO | kind::VIDEO => self.origin.time_of(timestamp),
            // Metadata belongs to no moment.
            _ if timestamp == 0 => 0,
            _ => self.origin.time_of(timestamp),
        }
    }

    fn piece<'w>(&self, message: Chunked<'w>) -> Piece<'w> {
        match self.framing {
            Framing::Mp4 | Framing::WebSocketMp4 => self.fragment(message),
            // RTMP has no pieces: see `add_readdressed`.
            Framing::Rtmp | Framing::Flv | Framing::WebSocketFlv => self.flv_tag(message),
        }
    }
}

impl<'w> Piece<'w> {
    const fn len(&self) -> usize {
        self.head.len + self.body.len() + self.tail.len
    }

    /// Adds the bytes after the first `skipped` ones. Returns whether there is room for more.
    fn add(&self, skipped: usize, slices: &mut Slices<'w, '_>) -> bool {
        let mut left = skipped;
        let mut take = |len: usize| {
            let taken = left.min(len);
            left -= taken;
            taken
        };
        let of_head = take(self.head.len);
        let of_body = take(self.body.len());
        let of_tail = take(self.tail.len);
        slices.push_copy(&self.head.bytes()[of_head..])
            && self.body.add(of_body, slices)
            && slices.push_copy(&self.tail.bytes()[of_tail..])
    }
}

/// Returns the piece of a message that is not sent.
fn nothing(message: Chunked<'_>) -> Piece<'_> {
    let part = Part { from: message.payload_len, to: message.payload_len };
    let body = Body { message, part };
    Piece { head: Small::default(), body, tail: Small::default() }
}

/// Returns the line before a chunk of `len` bytes, and its length (RFC 9112, section 7.1). Messages
/// have lengths of 24 bits, so a chunk has seven digits at most.
fn chunk_size_line(len: usize) -> ([u8; FRAME_HEAD_BYTES_MAX], usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let count = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1) as usize;
    let mut line = [0; FRAME_HEAD_BYTES_MAX];
    for (index, digit) in line.iter_mut().take(count).enumerate() {
        *digit = DIGITS[len >> (4 * (count - 1 - index)) & 0xf];
    }
    line[count..count + 2].copy_from_slice(b"\r\n");
    (line, count + 2)
}

/// Returns the timestamp of the first message of `wire` (ms).
pub(crate) fn timestamp_of_first(wire: &[u8]) -> Option<u32> {
    let message = Chunked::first(&mut { wire }, u32::MAX)?;
    Some(u32::from_be_bytes(timestamp_of(&message)))
}

/// Returns the timestamp of a message, big-endian (ms).
fn timestamp_of(message: &Chunked<'_>) -> [u8; EXTENDED_BYTES] {
    let header = message.header;
    match message.extended_len {
        0 => [0, header[1], header[2], header[3]],
        _ => *message.wire[HEADER_BYTES..].first_chunk().unwrap_or(&[0; EXTENDED_BYTES]),
    }
}

/// Returns the header of the FLV tag for a message (FLV 10.1, annex E.4.1).
fn flv_tag_header(message: &Chunked<'_>, data_len: usize, time_ms: u32) -> [u8; TAG_HEADER_BYTES] {
    const STREAM_ID: [u8; 3] = [0; 3];
    let tag_type = match message.header[KIND_AT] {
        kind @ (kind::AUDIO | kind::VIDEO) => kind,
        _ => SCRIPT_DATA,
    };
    let mut tag = [0; TAG_HEADER_BYTES];
    tag[0] = tag_type;
    tag[1..4].copy_from_slice(&(data_len as u32).to_be_bytes()[1..]);
    let [highest, time @ ..] = time_ms.to_be_bytes();
    tag[4..7].copy_from_slice(&time);
    tag[7] = highest;
    tag[8..].copy_from_slice(&STREAM_ID);
    tag
}

/// The part of a [`View`] that only players over HTTP have.
#[derive(Debug)]
struct WebView {
    origin: Origin,
    custom: Option<Custom>,
}

/// The unsent rest of messages. It shares the memory of the tape.
#[derive(Debug)]
pub struct HalfSent {
    /// Whole messages. Invariant: the first is not completely sent, so this is empty when nothing
    /// is left to send.
    wire: Bytes,
    /// Bytes of `wire` that were sent, in the framing of the player.
    sent: u32,
    framing: Framing,
    lane: u32,
    chunk_size: u32,
    /// What players over HTTP have in addition; `None` for RTMP.
    web: Option<Box<WebView>>,
    /// Arrival of the message; [`Time::NEVER`] for headers and messages of the past, whose latency
    /// does not count.
    arrived: Time,
}

// The memory of each player counts one, since most writes to a slow player need it.
const _: () = assert!(size_of::<HalfSent>() <= 64);

impl Default for HalfSent {
    fn default() -> Self {
        Self {
            wire: Bytes::new(),
            sent: 0,
            framing: Framing::Rtmp,
            lane: MESSAGE_STREAM_ID,
            chunk_size: 1,
            web: None,
            arrived: Time::NEVER,
        }
    }
}

impl HalfSent {
    /// Memory of a half-sent message of a player over HTTP, in addition to the struct (bytes).
    pub(crate) const WEB_BYTES: usize = size_of::<WebView>();

    /// Keeps the rest of `wire`, whole messages of a tape, after the first `sent` bytes in the
    /// framing of `view`.
    pub(crate) fn new(wire: &Bytes, sent: usize, view: View<'_>) -> Self {
        let View { framing, lane, chunk_size, origin, custom } = view;
        let is_web = framing != Framing::Rtmp;
        let web = is_web.then(|| Box::new(WebView { origin, custom: custom.copied() }));
        let wire = wire.clone();
        let mut half_sent = Self { wire, framing, lane, chunk_size, web, ..Self::default() };
        half_sent.advance(sent);
        half_sent
    }

    /// Notes the arrival of the message, whose latency counts once it is sent.
    pub(crate) const fn count_from(&mut self, arrived: Time) {
        self.arrived = arrived;
    }

    /// Returns the arrival of a message whose latency counts.
    pub(crate) fn counts_from(&self) -> Option<Time> {
        (self.arrived != Time::NEVER).then_some(self.arrived)
    }

    fn view(&self) -> View<'_> {
        let Self { framing, lane, chunk_size, .. } = *self;
        let web = self.web.as_deref();
        let origin = web.map_or_else(Origin::default, |web| web.origin);
        let custom = web.and_then(|web| web.custom.as_ref());
        View { framing, lane, chunk_size, origin, custom }
    }

    /// Bytes left to send.
    pub fn len(&self) -> usize {
        self.view().len(&self.wire) - self.sent as usize
    }

    /// Returns whether no bytes are left.
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// Adds the bytes left to send. Returns whether there is room for more.
    pub(crate) fn add<'s>(&'s self, slices: &mut Slices<'s, '_>) -> bool {
        self.view().add(&self.wire, self.sent as usize, slices)
    }

    /// Marks up to `written` bytes as sent. Returns the number of bytes marked.
    pub(crate) fn advance(&mut self, written: usize) -> usize {
        let left = self.len();
        let taken = written.min(left);
        self.sent += taken as u32;
        if taken == left {
            // An empty slice would hold its block of the tape.
            *self = Self::default();
        }
        // Headers are several messages. Sent messages are dropped, so that the next write does not
        // walk through them again.
        while let Some((len, framed_len)) = self.view().first_lens(&self.wire)
            && framed_len <= self.sent as usize
        {
            self.wire.advance(len);
            self.sent -= framed_len as u32;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;
    use crate::media::flv::{FlvReader, Tag};
    use crate::media::fmp4::TrackConfig;
    use crate::rtmp::chunk::writer::write_message;
    use crate::rtmp::message::{Message, MessageHeader};
    use crate::rtmp::session::Receives;
    use crate::stream::Stream;
    use crate::stream::cursor::Play;
    use crate::stream::gauge::Gauge;
    use crate::stream::headers::message_header;
    use crate::stream::ids::StreamId;
    use crate::stream::latency::Handed;
    use crate::stream::tape::TapeSettings;
    use crate::test_support::{Random, TAPE};
    use crate::time::Time;

    const CHUNK_SIZE: u32 = 128;
    const HEADER: MessageHeader = MessageHeader {
        chunk_stream_id: 6,
        timestamp: 40,
        kind: kind::VIDEO,
        message_stream_id: MESSAGE_STREAM_ID,
    };
    /// Lengths and timestamps with and without continuations and extended timestamps.
    const MESSAGES: [(usize, u32); 6] =
        [(0, 0), (1, 0xff_fffe), (127, 40), (128, 0xff_ffff), (129, 40), (1000, 0x7fff_ffff)];

    fn view(framing: Framing, lane: u32) -> View<'static> {
        View { framing, lane, chunk_size: CHUNK_SIZE, origin: Origin::at(0), custom: None }
    }

    fn chunks(message_stream_id: u32, messages: &[(usize, u32)]) -> Bytes {
        let mut wire = Vec::new();
        for (len, timestamp) in messages {
            let header = MessageHeader { timestamp: *timestamp, message_stream_id, ..HEADER };
            write_message(&mut wire, header, &vec![0x26; *len], CHUNK_SIZE);
        }
        Bytes::from(wire)
    }

    fn tags(messages: &[(usize, u32)]) -> Vec<u8> {
        let mut file = Vec::new();
        for (len, timestamp) in messages {
            let [high, middle, low] = (*len as u32).to_be_bytes()[1..] else { unreachable!() };
            let [extension, time @ ..] = timestamp.to_be_bytes();
            file.extend([9, high, middle, low, time[0], time[1], time[2], extension, 0, 0, 0]);
            file.extend(vec![0x26; *len]);
            file.extend((*len as u32 + 11).to_be_bytes());
        }
        file
    }

    fn added(half_sent: &HalfSent, bytes_max: usize) -> Vec<u8> {
        let mut scratch = Vec::new();
        let mut slices = Slices::new(bytes_max, &mut scratch, true);
        half_sent.add(&mut slices);
        slices.io_slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    /// Returns each view with the bytes of these messages in it.
    fn expected(messages: &[(usize, u32)]) -> Vec<(View<'static>, Vec<u8>)> {
        let of_lane = |lane| (view(Framing::Rtmp, lane), chunks(lane, messages).to_vec());
        let mut expected: Vec<_> = [1, 2, 0x0102_0304, u32::MAX].map(of_lane).into();
        expected.push((view(Framing::Flv, 0), tags(messages)));
        expected
    }

    #[test]
    fn each_view_adds_the_bytes_that_its_protocol_writes() {
        let wire = chunks(1, &MESSAGES);
        for (view, expected) in expected(&MESSAGES) {
            assert_eq!(view.len(&wire), expected.len(), "{view:?}");
            let half_sent = HalfSent::new(&wire, 0, view);
            assert_eq!(added(&half_sent, usize::MAX), expected, "{view:?}");
            assert_eq!(added(&half_sent, 70), expected[..70], "{view:?}");
        }
    }

    #[test]
    fn the_rest_follows_what_was_sent_wherever_a_write_cut_it() {
        let one_by_one = MESSAGES.iter().map(std::slice::from_ref);
        for messages in one_by_one.chain([&MESSAGES[..]]) {
            let wire = chunks(1, messages);
            for (view, expected) in expected(messages) {
                for sent in 0..=expected.len() {
                    let mut half_sent = HalfSent::new(&wire, sent, view);
                    assert_eq!(half_sent.len(), expected.len() - sent);
                    let rest = added(&half_sent, usize::MAX);
                    assert_eq!(rest, expected[sent..], "{sent} bytes of {messages:?}, {view:?}");
                    assert_eq!(half_sent.advance(5), rest.len().min(5));
                    assert_eq!(added(&half_sent, usize::MAX), rest[rest.len().min(5)..]);
                }
            }
        }
    }

    /// Payloads of H.264 frames as FLV has them: frames of many chunks, and messages that an MP4
    /// has no place for: configurations, an empty frame and the end of the sequence.
    const PICTURES: [&[u8]; 5] = [
        &[0x17, 0, 0, 0, 0, 1, 2, 3],
        &[0x17, 1, 0, 0, 40, 0xaa],
        &[0x27, 1, 0, 0, 0],
        &[0x27, 1, 0xff, 0xff, 0xff, 0xbb, 0xbb],
        &[0x27, 2, 0, 0, 0],
    ];

    fn pictures() -> Bytes {
        let mut wire = Vec::new();
        for (index, picture) in PICTURES.iter().enumerate() {
            let payload = [picture, &vec![0xcc; 400 * (index % 2)][..]].concat();
            let header = MessageHeader { timestamp: 40 * index as u32, ..HEADER };
            write_message(&mut wire, header, &payload, CHUNK_SIZE);
        }
        Bytes::from(wire)
    }

    #[test]
    fn a_fragment_that_a_write_has_cut_goes_on_where_it_was() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/ffmpeg5_h264_aac.flv");
        let file = std::fs::read(path).unwrap();
        let mut reader = FlvReader::new(&file).unwrap();
        let video = std::iter::from_fn(|| reader.next_tag().unwrap());
        let header = video.into_iter().find(|tag| tag.media == MediaKind::Video).unwrap();
        let track = TrackConfig::from_video_header(header.payload).unwrap();
        let clock = Mp4Clock::new(Some(&track), None, 0, 40);
        let wire = pictures();
        for framing in [Framing::Mp4, Framing::WebSocketMp4] {
            let custom = Custom { clock: Some(clock), ..Custom::default() };
            let view = View { custom: Some(&custom), ..view(framing, 0) };
            let whole = added(&HalfSent::new(&wire, 0, view), usize::MAX);
            let frame_heads = if framing == Framing::Mp4 { 0 } else { 2 * 4 };
            // Two frames of 401 and 402 bytes, each with its head.
            assert_eq!(whole.len(), frame_heads + 2 * FRAGMENT_HEAD_BYTES + 803, "{framing:?}");
            for sent in 0..=whole.len() {
                let mut half_sent = HalfSent::new(&wire, sent, view);
                assert_eq!(added(&half_sent, usize::MAX), whole[sent..], "{framing:?}, {sent}");
                half_sent.advance(7);
                let rest = &whole[whole.len().min(sent + 7)..];
                assert_eq!(added(&half_sent, usize::MAX), rest, "{framing:?}, {sent} and 7");
            }
        }
    }

    #[test]
    fn what_is_sent_completely_holds_no_memory() {
        let wire = chunks(1, &MESSAGES);
        for (view, expected) in expected(&MESSAGES) {
            let mut half_sent = HalfSent::new(&wire, 1, view);
            assert!(!wire.is_unique());
            assert_eq!(half_sent.advance(usize::MAX), expected.len() - 1);
            assert!(half_sent.is_empty());
            assert!(wire.is_unique(), "{view:?}");
        }
    }

    #[test]
    fn a_short_write_of_a_long_message_walks_through_none_of_its_chunks() {
        // Four million bytes in chunks of 128: a walk for each write would take 10^9 steps.
        let wire = chunks(1, &[(4_000_000, 0)]);
        let mut half_sent = HalfSent::new(&wire, 0, view(Framing::Flv, 0));
        let mut writes = 0;
        while !half_sent.is_empty() {
            let len = added(&half_sent, 100).len();
            half_sent.advance(len);
            writes += 1;
        }
        assert_eq!(writes, 40_001);
    }

    /// Returns whether a tag is recorded unchanged. The server removes facts about the file from
    /// metadata.
    fn is_packet(tag: &Tag<'_>) -> bool {
        tag.media != MediaKind::Data
    }

    /// The tags of a file with the size that follows each.
    fn packets(file: &[u8]) -> Vec<u8> {
        let (mut reader, mut packets) = (FlvReader::new(file).unwrap(), Vec::new());
        while let Some(tag) = reader.next_tag().unwrap() {
            let (start, end) = (tag.offset - 11, tag.offset + tag.payload.len() + 4);
            if is_packet(&tag) {
                packets.extend_from_slice(&file[start..end]);
            }
        }
        packets
    }

    /// Publishes the packets of `file` over RTMP and plays them with FLV framing, in writes of up
    /// to `write_bytes_max` bytes.
    fn played(file: &[u8], chunk_size: u32, write_bytes_max: usize) -> Vec<u8> {
        let settings = TapeSettings { chunk_size, ..TAPE };
        let mut stream = Stream::new(Gauge::default());
        let (framing, start, all) = (Framing::Flv, Start::Live, Receives::ALL);
        let mut play = Play::new(StreamId(0), 0, framing, stream.tape(), start, all);
        stream.begin(false, Time::ZERO);
        let (mut reader, mut now) = (FlvReader::new(file).unwrap(), Time::ZERO);
        while let Some(tag) = reader.next_tag().unwrap() {
            if !is_packet(&tag) {
                continue;
            }
            let header = message_header(tag.media, tag.timestamp);
            now = now.max(Time::ZERO.plus_millis(tag.timestamp.into()));
            let message = Message { header, payload: tag.payload };
            stream.record(&message.into(), true, now, &settings);
        }
        let (mut sent, mut half_sent) = (Vec::new(), HalfSent::default());
        let mut random = Random::new(7);
        loop {
            let (mut scratch, mut visits) = (Vec::new(), usize::MAX);
            let bytes_max = 1 + random.below(write_bytes_max);
            let mut slices = Slices::new(bytes_max, &mut scratch, true);
            half_sent.add(&mut slices);
            play.gather(stream.tape(), &mut slices, &mut visits);
            let written = slices.bytes();
            if written == 0 {
                return sent;
            }
            slices.hand_to(|slices| slices.iter().for_each(|slice| sent.extend_from_slice(slice)));
            drop(slices);
            let of_others = written - half_sent.advance(written);
            let mut cut = None;
            assert_eq!(play.advance(stream.tape(), of_others, &mut cut, &mut Handed::default()), 0);
            half_sent = cut.unwrap_or(half_sent);
        }
    }

    #[test]
    fn flv_framing_writes_what_ffmpeg_writes_for_the_same_packets() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/ffmpeg5_h264_aac.flv");
        let file = std::fs::read(path).unwrap();
        let expected = packets(&file);
        assert!(expected.len() > 10_000, "{} bytes", expected.len());
        for chunk_size in [128, 4096, 60_000] {
            for write_bytes_max in [1, 17, 1000, 1 << 20] {
                let played = played(&file, chunk_size, write_bytes_max);
                let differs = played.iter().zip(&expected).position(|(a, b)| a != b);
                assert_eq!(differs, None, "chunks of {chunk_size}, writes of {write_bytes_max}");
                assert_eq!(played.len(), expected.len());
            }
        }
    }
}
