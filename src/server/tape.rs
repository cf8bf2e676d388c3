//! A stream's tape: its messages in wire form, in order, with one start point.
//!
//! One structure does three jobs. It is the fan-out queue (a player is a cursor, see
//! `play.rs`), the GOP cache (a newcomer's cursor begins at the newest start point) and the
//! slow-player policy (a cursor that lags jumps to the newest start point). A message is
//! encoded once, into a block that it shares with its neighbours; a cursor's half-sent message
//! holds its block alive, nothing else does.
//!
//! The tape never looks at players; whether there are any is an argument. What bounds it is
//! bytes and the time of arrival, never a publisher's timestamps.

use crate::limits;
use crate::media::{MediaKind, Tracks};
use crate::rtmp::chunk_write::{wire_len, write_message};
use crate::rtmp::link::chunk_stream;
use crate::rtmp::message::{MessageHeader, kind};
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// The message stream id that all wire bytes of a tape carry; a player on another id gets its
/// messages readdressed.
pub const MESSAGE_STREAM_ID: u32 = 1;

/// Metadata speaks of no moment. ffmpeg takes a later one than 0 for the first subtitle of a
/// track of its own.
const METADATA_TIMESTAMP: u32 = 0;

/// What a decoder needs before it can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but the headers: a GOP starts here.
    StartsGop,
    /// Its GOP from the start.
    Gop,
    /// Nothing: audio, data, headers and what is relayed unread.
    Nothing,
}

/// Which header of a stream a message is: a later one of the same kind and tracks takes its
/// place. In the order in which a newcomer gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderKind {
    /// `onMetaData`.
    Metadata,
    /// The decoder configuration of audio tracks.
    AudioSequence,
    /// The channel layout of audio tracks.
    Multichannel,
    /// The decoder configuration of video tracks.
    VideoSequence,
    /// The colour information of video tracks.
    ColorInfo,
}

impl HeaderKind {
    const fn media(self) -> MediaKind {
        match self {
            Self::Metadata => MediaKind::Data,
            Self::AudioSequence | Self::Multichannel => MediaKind::Audio,
            Self::VideoSequence | Self::ColorInfo => MediaKind::Video,
        }
    }
}

/// A message as the tape takes it.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// Audio, video or data.
    pub media: MediaKind,
    /// What a decoder needs before it.
    pub needs: Needs,
    /// Set when the message is a header to be kept for newcomers.
    pub header: Option<(HeaderKind, Tracks)>,
    /// The publisher's timestamp (ms, modulo 2^32).
    pub timestamp: u32,
    /// The payload of the message.
    pub payload: &'a [u8],
}

/// The bounds of a tape and what it is kept for.
#[derive(Clone, Copy, Debug)]
pub struct TapeSettings {
    /// Wire bytes at most.
    pub bytes_max: usize,
    /// Arrival time from the first to the last message at most (ms).
    pub span_ms_max: u64,
    /// How far back players may lag (ms); what is older than this and than the newest start
    /// point goes.
    pub lag_ms: u64,
    /// Whether newcomers begin at the newest start point, so that it is kept without players.
    pub keep_start: bool,
    /// Whether what depends on a GOP that nobody has seen begin is left out.
    pub whole_gops: bool,
    /// Chunk size of the wire form.
    pub chunk_size: u32,
}

/// One message on the tape.
#[derive(Debug)]
pub struct Entry {
    /// The whole message as chunks.
    pub wire: Bytes,
    /// When it arrived.
    pub arrived: Time,
    /// Wire bytes on this tape before it, since the tape began.
    pub offset: u64,
    /// Audio, video or data.
    pub media: MediaKind,
    /// What a decoder needs before it.
    pub needs: Needs,
}

/// A place where a newcomer may begin.
#[derive(Debug)]
struct StartPoint {
    sequence: u64,
    timestamp: u32,
    headers: Rc<Headers>,
    /// The headers in wire form, made for the first newcomer and shared by all.
    prelude: OnceCell<Bytes>,
}

#[derive(Clone, Debug)]
struct Header {
    kind: HeaderKind,
    tracks: Tracks,
    payload: Bytes,
}

/// The headers in force, in the order of [`HeaderKind`].
#[derive(Clone, Debug, Default)]
struct Headers(Vec<Header>);

/// See the module's head.
#[derive(Debug)]
pub struct Tape {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry. Sequence numbers are never used twice.
    first: u64,
    /// Room for the next messages.
    block: BytesMut,
    /// Invariant: the sum of the entries' wire bytes.
    bytes: usize,
    /// Wire bytes ever recorded.
    recorded: u64,
    /// Invariant: the entry it names is on the tape.
    start: Option<StartPoint>,
    headers: Rc<Headers>,
    /// Set until the first GOP of a publisher begins: what depends on an earlier one is of no
    /// use to anybody.
    awaits_gop: bool,
    timeline: Timeline,
}

/// The timestamps of a stream across its publishers: whoever comes back goes on where the
/// last one stopped, with the same offset for all tracks so that they stay in step.
#[derive(Debug, Default)]
struct Timeline {
    offset: u32,
    /// Set while a returning publisher has not sent its first frame, which fixes the offset.
    resumes: bool,
    /// The newest timestamp and when it arrived.
    last: Option<(u32, Time)>,
}

impl Timeline {
    /// The stream's time of a publisher's `timestamp`. A header does not fix the offset:
    /// encoders stamp it 0 whatever their clock says.
    fn place(&mut self, timestamp: u32, is_header: bool, now: Time) -> u32 {
        let Some((last, at)) = self.last else {
            return timestamp.wrapping_add(self.offset);
        };
        if self.resumes {
            if is_header {
                return last;
            }
            // Real time has passed on the players' clocks as well; a millisecond at least
            // keeps the order strict.
            let gap = now.millis_since(at).clamp(1, u64::from(u32::MAX / 4)) as u32;
            self.offset = last.wrapping_add(gap).wrapping_sub(timestamp);
            self.resumes = false;
        }
        timestamp.wrapping_add(self.offset)
    }

    /// Notes a frame's time, in serial arithmetic over 2^32 ms.
    fn passed(&mut self, timestamp: u32, now: Time) {
        let newest = match self.last {
            Some((last, _)) if timestamp.wrapping_sub(last) > u32::MAX / 2 => last,
            _ => timestamp,
        };
        self.last = Some((newest, now));
    }
}

impl Default for Tape {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            block: BytesMut::new(),
            bytes: 0,
            recorded: 0,
            start: None,
            headers: Rc::default(),
            awaits_gop: true,
            timeline: Timeline::default(),
        }
    }
}

impl Tape {
    /// Records a message unless nobody could use it, and drops what has become too old.
    /// Returns whether players have something new.
    pub fn record(
        &mut self,
        message: Recording<'_>,
        has_players: bool,
        now: Time,
        settings: &TapeSettings,
    ) -> bool {
        let timestamp = match message.header {
            Some((HeaderKind::Metadata, _)) => METADATA_TIMESTAMP,
            header => self.timeline.place(message.timestamp, header.is_some(), now),
        };
        if let Some((kind, tracks)) = message.header {
            self.keep_header(kind, tracks, message.payload);
        } else if message.media != MediaKind::Data {
            self.timeline.passed(timestamp, now);
        }
        if message.needs == Needs::StartsGop {
            self.awaits_gop = false;
        }
        let useless = self.awaits_gop && message.needs == Needs::Gop && settings.whole_gops;
        let kept_for_newcomers =
            settings.keep_start && (self.start.is_some() || message.needs == Needs::StartsGop);
        let recorded = !useless && (has_players || kept_for_newcomers);
        if recorded {
            self.append(&message, timestamp, now, settings.chunk_size);
        }
        self.trim(has_players, now, settings);
        recorded
    }

    /// Makes ready for a publisher. `resumes` says that players of the last one are still
    /// there, so that its time goes on.
    pub fn begin(&mut self, resumes: bool) {
        if resumes {
            self.timeline.resumes = true;
        } else {
            self.clear();
            self.timeline = Timeline::default();
        }
        self.headers = Rc::default();
        self.awaits_gop = true;
    }

    /// The publisher is gone: nobody begins in its last GOP any more, but players may finish
    /// what they have not read.
    pub fn end(&mut self) {
        self.start = None;
    }

    /// Forgets the cached metadata (`@clearDataFrame`).
    pub fn clear_metadata(&mut self) {
        Rc::make_mut(&mut self.headers).0.retain(|header| header.kind != HeaderKind::Metadata);
    }

    /// The entry with this sequence number, if it is still, or already, on the tape.
    pub fn get(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    /// The entries from `sequence` on; the caller has made sure that it did not fall off.
    pub fn from(&self, sequence: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }

    /// Sequence number of the oldest entry.
    pub const fn first_sequence(&self) -> u64 {
        self.first
    }

    /// Sequence number of the entry that is recorded next.
    pub fn next_sequence(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Sequence number of the newest start point.
    pub fn start_sequence(&self) -> Option<u64> {
        self.start.as_ref().map(|start| start.sequence)
    }

    /// Wire bytes ever recorded: the lag of an entry in bytes is this less its offset.
    pub const fn recorded_bytes(&self) -> u64 {
        self.recorded
    }

    /// Wire bytes on the tape.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The headers of the newest start point in wire form, stamped with its time.
    pub fn start_prelude(&self, chunk_size: u32) -> Bytes {
        self.start.as_ref().map_or_else(Bytes::new, |start| {
            start.prelude.get_or_init(|| start.headers.encode(start.timestamp, chunk_size)).clone()
        })
    }

    /// The headers in force in wire form, stamped with the time of the newest frame.
    pub fn live_prelude(&self, chunk_size: u32) -> Bytes {
        let timestamp = self.timeline.last.map_or(0, |(timestamp, _)| timestamp);
        self.headers.encode(timestamp, chunk_size)
    }

    fn append(&mut self, message: &Recording<'_>, timestamp: u32, now: Time, chunk_size: u32) {
        let header = message_header(message.media, timestamp);
        let len = wire_len(&header, message.payload.len(), chunk_size);
        if self.block.capacity() < len {
            // A quarter of what the tape holds keeps the unused part in proportion.
            let block =
                (self.bytes / 4).clamp(limits::TAPE_BLOCK_BYTES_MIN, limits::TAPE_BLOCK_BYTES_MAX);
            self.block = BytesMut::with_capacity(block.max(len));
        }
        write_message(&mut self.block, header, message.payload, chunk_size);
        let wire = self.block.split().freeze();
        if message.needs == Needs::StartsGop {
            self.start = Some(StartPoint {
                sequence: self.next_sequence(),
                timestamp,
                headers: Rc::clone(&self.headers),
                prelude: OnceCell::new(),
            });
        }
        self.bytes += wire.len();
        self.entries.push_back(Entry {
            offset: self.recorded,
            arrived: now,
            media: message.media,
            needs: message.needs,
            wire,
        });
        self.recorded += len as u64;
    }

    /// Keeps a header for newcomers. A changed decoder configuration ends the GOP it belonged
    /// to: who joins now waits for the next.
    fn keep_header(&mut self, kind: HeaderKind, tracks: Tracks, payload: &[u8]) {
        let same = |header: &Header| header.kind == kind && header.payload == payload;
        if self.headers.0.iter().any(same) {
            return;
        }
        let headers = &mut Rc::make_mut(&mut self.headers).0;
        let before = headers.len();
        headers.retain(|header| header.kind != kind || !header.tracks.is_subset_of(&tracks));
        let replaced = headers.len() < before;
        let kept: usize = headers.iter().map(|header| header.payload.len()).sum();
        if kept + payload.len() <= limits::HEADERS_BYTES_MAX {
            let at = headers.partition_point(|header| header.kind <= kind);
            headers.insert(at, Header { kind, tracks, payload: Bytes::copy_from_slice(payload) });
        }
        if replaced && kind == HeaderKind::VideoSequence {
            self.start = None;
        }
    }

    fn trim(&mut self, has_players: bool, now: Time, settings: &TapeSettings) {
        let start = self.start_sequence().filter(|_| settings.keep_start);
        while let Some(oldest) = self.entries.front() {
            let age_ms = now.millis_since(oldest.arrived);
            let over = self.bytes > settings.bytes_max || age_ms > settings.span_ms_max;
            let in_newest_gop = start.is_some_and(|start| self.first >= start);
            let in_backlog = has_players && age_ms <= settings.lag_ms;
            if !over && (in_newest_gop || in_backlog) {
                break;
            }
            self.bytes -= oldest.wire.len();
            self.first += 1;
            self.entries.pop_front();
        }
        if self.start_sequence().is_some_and(|start| start < self.first) {
            self.start = None;
        }
    }

    fn clear(&mut self) {
        self.first = self.next_sequence();
        self.entries.clear();
        self.bytes = 0;
        self.start = None;
    }
}

impl Headers {
    fn encode(&self, timestamp: u32, chunk_size: u32) -> Bytes {
        let mut wire = BytesMut::new();
        for header in &self.0 {
            let timestamp =
                if header.kind == HeaderKind::Metadata { METADATA_TIMESTAMP } else { timestamp };
            let message = message_header(header.kind.media(), timestamp);
            wire.reserve(wire_len(&message, header.payload.len(), chunk_size));
            write_message(&mut wire, message, &header.payload, chunk_size);
        }
        wire.freeze()
    }
}

const fn message_header(media: MediaKind, timestamp: u32) -> MessageHeader {
    let (chunk_stream_id, kind) = match media {
        MediaKind::Audio => (chunk_stream::AUDIO, kind::AUDIO),
        MediaKind::Video => (chunk_stream::VIDEO, kind::VIDEO),
        MediaKind::Data => (chunk_stream::DATA, kind::DATA_AMF0),
    };
    MessageHeader { chunk_stream_id, timestamp, kind, message_stream_id: MESSAGE_STREAM_ID }
}
