//! A stream's tape: its messages in wire form and in order, with the start point of late players.
//!
//! One structure does three jobs. It is the fan-out queue: a player is a read position on it (see
//! `cursor.rs`). It is the GOP cache: a late player starts at the newest start point. It is the
//! policy for slow consumers: a lagging player skips to the newest start point. A message is
//! encoded once, into a block that it shares with its neighbours. Only the half-sent message of a
//! player can keep a block alive after its messages have left the tape. `gops.rs` decides which
//! message is the start point, and which keyframe each message needs. `headers.rs` decides which
//! headers a player receives first.
//!
//! The tape never looks at players; whether there are any is an argument. Bytes and arrival times
//! bound it, never a publisher's timestamps. The newest GOP stays as long as the bytes allow,
//! however old its keyframe is: a slow camera may send one in four minutes.

use super::blocks::{Blocks, Lent};
use super::frame::{HeaderKind, Needs, Recording};
use super::framed_segments::FramedSegments;
use super::framing::{Framing, View, Watching, timestamp_of_first};
use super::gauge::Gauge;
use super::gops::{Gops, LOST, OpenUnit, StartPoint, Starts};
use super::headers::{Headers, Kept, METADATA_TIMESTAMP, message_header};
use super::segment::{Discarded, FileRun, SegmentSettings, Segments};
use super::web_time::WebTime;
use crate::budget::Budget;
use crate::limits;
use crate::media::codec::{self, Slice, Units};
use crate::media::{self, Codec, MediaKind, Tracks};
use crate::rtmp::chunk::writer::{wire_len, write_message};
use crate::rtmp::session::Receives;
use crate::time::Time;
use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Length of the longest tape whose messages debug builds check after each turn (messages).
const CHECKED_MAX: usize = 256;
/// Messages before a picture that are searched for its parameter sets.
const LOOK_BACK_MESSAGES: u64 = 16;

const _: () = assert!(size_of::<Entry>() <= 64);

/// Bounds of a tape.
#[derive(Clone, Copy, Debug)]
pub struct TapeSettings {
    /// Wire bytes and entries, at most (bytes). Entries count because the entry of a one-byte
    /// message is larger than the message.
    pub bytes_max: usize,
    /// Age of messages before the newest start point, at most (ms since they arrived).
    pub span_ms_max: u64,
    /// How far players may lag (ms). Messages that are older than this and than the newest start
    /// point are dropped.
    pub lag_ms: u64,
    /// Whether late players start at the newest start point. The tape then keeps it as long as
    /// `bytes_max` allows, with or without players.
    pub keep_start: bool,
    /// How long a message may wait for others of its stream before it is sent to players (ms).
    pub merge_ms: u64,
    /// Bound on the bytes of messages that arrived before this moment. It is below
    /// [`TapeSettings::bytes_max`] while memory is short. Players that keep up miss nothing.
    pub backlog_bytes_max: usize,
    /// Chunk size of the wire form (bytes).
    pub chunk_size: u32,
}

/// One message on the tape.
#[derive(Debug)]
pub struct Entry {
    /// The whole message as chunks.
    pub wire: Bytes,
    /// When the message arrived.
    pub arrived: Time,
    /// Wire bytes that were recorded before the message, since the tape was created.
    pub offset: u64,
    /// Audio, video or data.
    pub media: MediaKind,
    /// The first of its tracks.
    track: u8,
    /// Whether the message has a slice. Cached, because many keyframe messages may search the
    /// same entries. `None` until the first search.
    has_slice: Cell<Option<bool>>,
    /// Sequence number of the first message that a decoder needs for this one: the first message
    /// of a keyframe, or this message. [`LOST`] if the keyframe is not on the tape.
    pub needs: u64,
}

/// The messages of one stream. See the module's head.
#[derive(Debug)]
pub struct Tape {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry. Sequence numbers start after [`LOST`] and are never
    /// reused.
    first: u64,
    blocks: Blocks,
    /// Chunk size of the wire form. Invariant: all entries have it, since no reload changes it.
    chunk_size: u32,
    /// Invariant: the sum of the entries' wire bytes.
    bytes: usize,
    /// Wire bytes ever recorded.
    recorded: u64,
    /// The memory files, which hold parts of the tape a second time.
    segments: Segments,
    /// The same for each of [`Framing::STORED`], once there are enough players.
    framed: Option<Box<[FramedSegments; Framing::STORED.len()]>>,
    /// The value of `recorded` at the last call of [`Tape::store`].
    considered: u64,
    /// Invariant: the start points are on the tape.
    starts: Starts,
    headers: Rc<Headers>,
    /// Sequence number of the first message after the last change of the headers.
    headers_since: u64,
    /// The codecs of the newest messages of track 0.
    audio_codec: Option<Codec>,
    video_codec: Option<Codec>,
    gops: Gops,
    /// The timestamp of the last frame.
    last_frame: u32,
    /// The origin of the times of players over HTTP.
    web_time: WebTime,
    /// Sequence number of the first message after the last end of a stream.
    first_after_end: u64,
    /// GOPs whose keyframe left the tape before the next GOP started.
    gops_cut: u32,
    /// Headers that late players do not get.
    headers_left_out: u32,
    /// Messages that changed the headers in force.
    headers_changes: u32,
}

impl Default for Tape {
    fn default() -> Self {
        Self::new(Gauge::default())
    }
}

impl Tape {
    /// Creates an empty tape. `gauge` counts the memory of its headers.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self {
            entries: VecDeque::new(),
            first: LOST + 1,
            blocks: Blocks::default(),
            chunk_size: limits::CHUNK_SIZE_OUT,
            bytes: 0,
            recorded: 0,
            segments: Segments::default(),
            framed: None,
            considered: 0,
            starts: Starts::default(),
            headers: Rc::new(Headers::new(gauge)),
            headers_since: LOST,
            audio_codec: None,
            video_codec: None,
            gops: Gops::default(),
            last_frame: 0,
            web_time: WebTime::default(),
            first_after_end: LOST + 1,
            gops_cut: 0,
            headers_left_out: 0,
            headers_changes: 0,
        }
    }

    /// Records a message, unless there are no players and late players would not receive it.
    /// Then drops messages beyond the bounds. Returns whether the message was recorded.
    pub fn record(
        &mut self,
        message: Recording<'_>,
        has_players: bool,
        now: Time,
        settings: &TapeSettings,
    ) -> bool {
        debug_assert!(self.entries.is_empty() || self.chunk_size == settings.chunk_size);
        self.chunk_size = settings.chunk_size;
        let timestamp = match message.header {
            Some(HeaderKind::Metadata) => METADATA_TIMESTAMP,
            _ => message.timestamp,
        };
        // Headers and codecs change before the message is recorded, so that a start point at this
        // message has the headers in force for it.
        if let Some(kind) = message.header {
            self.keep_header(kind, &message);
        }
        self.note_codec(&message);
        if message.is_frame {
            self.last_frame = timestamp;
            self.web_time.note_frame(timestamp, message.needs == Needs::StartsGop);
        }
        if message.needs == Needs::EndsSequence {
            self.starts.ended(&message.tracks);
        }
        let is_picture = message.media == MediaKind::Video && message.is_frame;
        if is_picture {
            let is_key = message.needs == Needs::StartsGop;
            self.gops.enter(&message.tracks, message.unit(), self.next_sequence(), is_key);
        }
        let begins = match message.needs {
            Needs::StartsGop => {
                let unit = self.gops.open_unit(&message.tracks, self.next_sequence());
                if let Some(unit) = unit {
                    self.find_picture(&message, unit);
                }
                self.gops.begin_gop(&message.tracks, self.first)
            }
            _ => None,
        };
        // Without players a picture is recorded before the tape knows that it is a keyframe. The
        // marked message may be the last of its access unit. The tape cannot wait for the mark:
        // the first slices would be lost, and the GOP with them.
        let kept_for_newcomers =
            settings.keep_start && (is_picture || self.starts.oldest_sequence().is_some());
        let recorded = has_players || kept_for_newcomers;
        if recorded {
            self.append(&message, timestamp, now);
            if let Some(first) = begins {
                self.begin_gop(&message.tracks, first, timestamp);
            }
        } else if is_picture {
            self.gops.lose(&message.tracks);
        }
        self.trim(has_players, now, settings, limits::MESSAGES_TRIMMED_MAX);
        recorded
    }

    /// Prepares the tape for a publisher. `resumes` keeps the messages of the previous publisher,
    /// which its players may not have read yet.
    pub fn begin(&mut self, resumes: bool) {
        if resumes {
            self.headers = Rc::new(Headers::new(self.headers.gauge().clone()));
            self.headers_since = self.next_sequence();
            self.headers_changes = self.headers_changes.wrapping_add(1);
            (self.audio_codec, self.video_codec) = (None, None);
            self.starts = Starts::default();
            self.gops.clear();
        } else {
            drop(self.forget());
        }
    }

    /// Removes the start points after the publisher has gone. Players may still read the rest of
    /// the tape.
    pub fn end(&mut self) {
        self.starts = Starts::default();
    }

    /// Removes all messages after the end of the stream, and returns them to be dropped. Sequence
    /// numbers continue, so that no read position of a player refers to another message.
    pub fn forget(&mut self) -> VecDeque<Entry> {
        let (first, recorded, last_frame) = (self.next_sequence(), self.recorded, self.last_frame);
        let entries = std::mem::take(&mut self.entries);
        self.blocks.clear();
        let (blocks, gauge) = (std::mem::take(&mut self.blocks), self.headers.gauge().clone());
        *self = Self {
            first,
            first_after_end: first,
            recorded,
            considered: recorded,
            blocks,
            headers_since: first,
            headers_changes: self.headers_changes.wrapping_add(1),
            last_frame,
            web_time: self.web_time.after_end(),
            ..Self::new(gauge)
        };
        entries
    }

    /// Moves the blocks that the tape no longer needs and that players still hold to `lent`.
    pub(crate) fn lend(&mut self, lent: &mut Lent) {
        lent.take_from(&mut self.blocks);
    }

    /// Removes the cached metadata (`@clearDataFrame`).
    pub fn clear_metadata(&mut self) {
        self.change_headers().clear_metadata();
    }

    /// Returns the entry with this sequence number, if it is on the tape.
    pub fn get(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    /// Returns the entries from `sequence` on. The caller has checked that `sequence` has not left
    /// the tape.
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

    /// Sequence number of the first message after the last end of a stream on this tape. Players
    /// have no claim to earlier messages.
    pub const fn first_after_end(&self) -> u64 {
        self.first_after_end
    }

    /// Sequence number of the newest start point.
    pub fn start_sequence(&self) -> Option<u64> {
        self.starts.newest().map(|start| start.sequence)
    }

    /// Wire bytes ever recorded. The lag of an entry in bytes is this minus its offset.
    pub const fn recorded_bytes(&self) -> u64 {
        self.recorded
    }

    /// Returns when the message arrived that the wire byte at `offset` is part of, or the oldest
    /// message if that one has left the tape. `None` on an empty tape and after its end.
    pub fn arrived_at(&self, offset: u64) -> Option<Time> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        let entry = self.entries.get(after.saturating_sub(1))?;
        (offset < self.recorded).then_some(entry.arrived)
    }

    /// Wire bytes on the tape.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory that the tape holds (bytes): blocks, memory files, entries and the state of the
    /// tracks. A gauge counts the headers, because others share them.
    pub fn held_bytes(&self) -> usize {
        self.blocks.bytes()
            + self.segments.bytes() as usize
            + self.framed.as_ref().map_or(0, |framed| framed_bytes(&framed[..]))
            + self.entries.capacity() * size_of::<Entry>()
            + self.gops.held_bytes()
    }

    /// Memory of the headers in force (bytes).
    pub fn headers_bytes(&self) -> usize {
        self.headers.held_bytes()
    }

    /// Sequence number of the first message after the last change of the headers in force.
    pub const fn headers_since(&self) -> u64 {
        self.headers_since
    }

    /// Wire bytes and entries (bytes). [`TapeSettings::bytes_max`] bounds this.
    pub fn backlog_bytes(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>()
    }

    /// Drops messages beyond the bounds of `settings`, up to `dropped_max` of them unless the tape
    /// has more bytes than it may. Returns the number of dropped messages.
    pub fn shrink(
        &mut self,
        has_players: bool,
        now: Time,
        settings: &TapeSettings,
        dropped_max: usize,
    ) -> usize {
        let first = self.first;
        self.trim(has_players, now, settings, dropped_max);
        (self.first - first) as usize
    }

    /// Gives back unused memory.
    pub fn give_back(&mut self) {
        self.blocks.shrink(self.bytes);
        if self.entries.capacity() > 4 * self.entries.len() {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Number of open memory files.
    pub fn files(&self) -> usize {
        let framed = self.framed.iter().flat_map(|framed| framed.iter());
        self.segments.files() + framed.map(FramedSegments::files).sum::<usize>()
    }

    /// Returns the run of a memory file in `framing` that has messages of `from..to`, starting at
    /// `from`, and the sequence number after it.
    pub(crate) fn framed_run(
        &self,
        framing: Framing,
        from: u64,
        to: u64,
    ) -> Option<(FileRun<'_>, u64)> {
        let index = Framing::STORED.iter().position(|stored| *stored == framing)?;
        self.framed.as_ref()?[index].run(from, to)
    }

    /// Returns whether a part of the tape is in memory files of this framing.
    pub(crate) fn has_framed(&self, framing: Framing) -> bool {
        let index = Framing::STORED.iter().position(|stored| *stored == framing);
        let framed = self.framed.as_ref().zip(index).map(|(framed, index)| &framed[index]);
        framed.is_some_and(|framed| framed.files() > 0)
    }

    /// Returns whether a part of the tape is in memory files.
    pub fn has_segments(&self) -> bool {
        self.segments.end().is_some()
    }

    /// Gives up the memory files. Messages are sent from memory until there are new files.
    /// Returns whether there were any.
    pub fn discard_segments(&mut self, discarded: &mut Discarded) -> bool {
        let had_segments = discarded.take_from(&mut self.segments);
        let framed = self.framed.take();
        let framed = framed.into_iter().flat_map(|framed| *framed);
        let had_framed = discarded.take_all(framed.flat_map(FramedSegments::into_segments));
        had_segments || had_framed
    }

    /// Writes the messages that are new since the last call to a memory file. This needs at least
    /// [`SegmentSettings::players_min`] players and [`SegmentSettings::run_bytes_min`] new bytes.
    /// Earlier messages that are in no file are written with them, so that files have no holes. If
    /// that exceeds `budget`, a new file starts with the new messages. If those alone exceed it,
    /// they are sent from memory. The number of open files stays below `files_max`. Each framing
    /// with enough players has its own files. Returns whether anything was written.
    ///
    /// # Errors
    /// The system could not provide a file or memory. The messages are sent from memory.
    pub fn store(
        &mut self,
        players: &Watching,
        files_max: usize,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let fresh = self.recorded - self.considered;
        self.considered = self.recorded;
        let is_watched = |framing| players.count(framing) >= settings.players_min;
        if fresh < settings.run_bytes_min as u64 || self.entries.is_empty() {
            return Ok(false);
        }
        let mut stored = false;
        if is_watched(Framing::Rtmp) {
            stored = self.store_plain(fresh, self.files() < files_max, settings, budget)?;
        }
        for (index, framing) in Framing::STORED.into_iter().enumerate() {
            if is_watched(framing) {
                let may_open = self.files() < files_max;
                stored |= self.store_framed(index, fresh, may_open, settings, budget)?;
            }
        }
        Ok(stored)
    }

    /// Writes the messages of a framing that are new since the last call, as [`Tape::store_plain`]
    /// does it.
    fn store_framed(
        &mut self,
        index: usize,
        fresh: u64,
        may_open: bool,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let fresh_index = self.entries.partition_point(|e| e.offset < self.recorded - fresh);
        let fresh_from = self.first + fresh_index as u64;
        let framed = &mut self.framed.get_or_insert_default()[index];
        let stored = framed.next().filter(|next| (self.first..=fresh_from).contains(next));
        for from in [stored.unwrap_or(fresh_from), fresh_from] {
            if !may_open && !framed.has_room_at(from) {
                return Ok(false);
            }
            let entries = self.entries.range((from - self.first) as usize..);
            let wire_bytes = entries.clone().map(|entry| entry.wire.len() as u64).sum();
            if !budget.take(wire_bytes, entries.len()) {
                continue;
            }
            let view = View {
                framing: Framing::STORED[index],
                lane: 0,
                chunk_size: self.chunk_size,
                origin: self.web_time.origin(),
                custom: None,
            };
            let (mut bytes, mut lens) = (Vec::new(), Vec::new());
            bytes.reserve_exact(wire_bytes as usize);
            for entry in entries {
                let before = bytes.len();
                view.copy_to(&entry.wire, &mut bytes);
                lens.push((bytes.len() - before) as u32);
            }
            return framed.append(from, &bytes, &lens, settings).map(|()| true);
        }
        Ok(false)
    }

    fn store_plain(
        &mut self,
        fresh: u64,
        may_open: bool,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let Some(oldest) = self.entries.front() else { return Ok(false) };
        let fresh_from = oldest.offset.max(self.recorded - fresh);
        let stored = self.segments.end().filter(|end| *end >= oldest.offset);
        let index_of = |from| self.entries.partition_point(|entry| entry.offset < from);
        for from in [stored.unwrap_or(fresh_from), fresh_from] {
            if !may_open && !self.segments.has_room_at(from) {
                return Ok(false);
            }
            let index = index_of(from);
            if budget.take(self.recorded - from, self.entries.len() - index) {
                let messages = self.entries.range(index..).map(|entry| &entry.wire[..]);
                return self.segments.append(from, messages, settings).map(|()| true);
            }
        }
        Ok(false)
    }

    /// Returns the part of the wire bytes `from..to` that is in one memory file, starting at
    /// `from`. Offsets count from the creation of the tape. `None` if the part is too short for a
    /// call of its own.
    pub fn run(&self, from: u64, to: u64) -> Option<FileRun<'_>> {
        self.segments.run(from, to)
    }

    /// Size of the length field before each NAL unit of these tracks, according to their decoder
    /// configuration (bytes).
    pub fn nal_length_bytes(&self, tracks: &Tracks) -> usize {
        self.headers.nal_length_bytes(tracks)
    }

    /// Returns the first bytes of the payload of the newest message of this kind.
    pub fn newest_payload(&self, media: MediaKind) -> Option<Bytes> {
        let mut newest = self.entries.iter().rev().filter(|entry| entry.media == media);
        newest.next().map(|entry| self.payload_head_of(entry))
    }

    /// Returns the first bytes of the payload of the message that late players start with.
    pub fn start_payload(&self) -> Option<Bytes> {
        self.get(self.start_sequence()?).map(|entry| self.payload_head_of(entry))
    }

    fn payload_head_of(&self, entry: &Entry) -> Bytes {
        entry.wire.slice_ref(payload_head(&entry.wire, self.chunk_size))
    }

    /// Returns the time for players over HTTP of the newest sound on the tape, or of the newest
    /// frame if there is none (ms).
    pub fn audio_time(&self) -> u32 {
        let mut sounds = self.entries.iter().rev().filter(|e| e.media == MediaKind::Audio);
        let newest = sounds.next().and_then(|entry| timestamp_of_first(&entry.wire));
        self.web_time.origin().time_of(newest.unwrap_or(self.last_frame))
    }

    /// Returns the origin of the times of players over HTTP.
    pub(crate) const fn web_time(&self) -> WebTime {
        self.web_time
    }

    /// Returns whether a header of this kind is in force for a track.
    pub fn has_header_of(&self, kind: HeaderKind, track: u8) -> bool {
        self.headers.has_track(kind, track)
    }

    /// Returns the timestamp of the last frame (ms).
    pub const fn last_frame(&self) -> u32 {
        self.last_frame
    }

    /// Returns the payload of the header of this kind that is in force for track 0.
    pub fn header_payload(&self, kind: HeaderKind) -> Option<&[u8]> {
        self.headers.payload_of(kind)
    }

    /// Returns the headers of the newest start point in wire form, with its timestamp, limited to
    /// the media in `receives`.
    pub fn start_prelude(&self, receives: Receives) -> Bytes {
        let prelude = |start: &StartPoint| start.prelude(receives, self.chunk_size);
        self.starts.newest().map_or_else(Bytes::new, prelude)
    }

    /// Returns the headers in force in wire form, limited to the media in `receives`. Their
    /// timestamp is within a second of the newest frame.
    pub fn live_prelude(&self, receives: Receives) -> Bytes {
        self.headers.recent(self.last_frame, receives, self.chunk_size)
    }

    /// Checks the invariants of the tape. Does nothing in release builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        self.segments.check_invariants(self.recorded);
        let end = self.next_sequence();
        debug_assert!(
            self.first_after_end <= end && self.headers_since <= end,
            "a position after the end"
        );
        let oldest_start = self.starts.oldest_sequence().unwrap_or(end);
        debug_assert!((self.first..=end).contains(&oldest_start), "a start is on the tape");
        // On a longer tape the check would take longer than the turn.
        if self.entries.len() > CHECKED_MAX {
            return;
        }
        let mut offset = self.recorded - self.bytes as u64;
        for (sequence, entry) in (self.first..).zip(&self.entries) {
            debug_assert_eq!(entry.offset, offset, "messages follow each other");
            debug_assert!(entry.needs <= sequence, "no message needs a later one");
            offset += entry.wire.len() as u64;
        }
        debug_assert_eq!(offset, self.recorded, "the sum of the entries' wire bytes");
    }

    /// Chunk size of the wire form (bytes).
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// GOPs that were too large to be kept until the next one started.
    pub const fn gops_cut(&self) -> u32 {
        self.gops_cut
    }

    /// Headers that late players do not get, because there was no room for them.
    pub const fn headers_left_out(&self) -> u32 {
        self.headers_left_out
    }

    /// Messages that changed the headers in force, modulo 2^32. A change copies the list of headers
    /// if a start point still refers to the old list, and late players need a new wire form.
    pub const fn headers_changes(&self) -> u32 {
        self.headers_changes
    }

    /// Returns the first message that a decoder needs for `message`, which is recorded next.
    fn needs_of(&self, message: &Recording<'_>) -> u64 {
        let begun = || self.gops.began(&message.tracks);
        match message.needs {
            Needs::StartsGop | Needs::Gop => begun().unwrap_or(LOST),
            Needs::GopIfAny => begun().unwrap_or_else(|| self.next_sequence()),
            Needs::Nothing | Needs::EndsSequence => self.next_sequence(),
        }
    }

    /// Finds the first message of the picture that a keyframe message belongs to. Its access unit
    /// may also have earlier pictures. The slices tell the pictures apart.
    #[cold]
    fn find_picture(&mut self, message: &Recording<'_>, unit: OpenUnit) {
        let length_bytes = self.headers.nal_length_bytes(&message.tracks);
        let units = read_units(message.payload, length_bytes);
        let began = match units.map(|units| (units.slice, units.is_random_access)) {
            Some((Slice::First | Slice::None, _)) => {
                self.after_last_slice(message, unit.began, length_bytes)
            }
            Some((Slice::Further, is_idr)) if is_idr || !unit.has_more => unit.began,
            // A codec without slices has a whole picture, or a layer of one, in each message.
            None if unit.is_key && !unit.has_more => unit.began,
            _ => self.next_sequence(),
        };
        if began != unit.began {
            self.gops.cut_unit(&message.tracks, began);
        }
    }

    /// Returns the first message from `began` on that no slice of an earlier picture of these
    /// tracks follows.
    fn after_last_slice(&self, message: &Recording<'_>, began: u64, length_bytes: usize) -> u64 {
        let look = |entry: &Entry| {
            let units = read_units(payload_head(&entry.wire, self.chunk_size), length_bytes);
            let has_slice = units.is_none_or(|units| units.slice != Slice::None);
            entry.has_slice.set(Some(has_slice));
            has_slice
        };
        let is_slice = |entry: &Entry| {
            entry.media == MediaKind::Video
                && message.tracks.contains(entry.track)
                && entry.has_slice.get().unwrap_or_else(|| look(entry))
        };
        let oldest = self.next_sequence().saturating_sub(LOOK_BACK_MESSAGES).max(self.first);
        let from = began.max(oldest);
        let index = (from - self.first) as usize;
        let last_slice = self.entries.range(index..).rposition(is_slice);
        last_slice.map_or(from, |at| from + at as u64 + 1)
    }

    /// Starts a GOP of `tracks` at message `first`. The keyframe message that was just recorded
    /// belongs to its access unit. Earlier messages of that unit were recorded as part of the
    /// previous GOP and are moved to this one.
    fn begin_gop(&mut self, tracks: &Tracks, first: u64, timestamp: u32) {
        let index = (first - self.first) as usize;
        for entry in self.entries.range_mut(index..) {
            let is_of_unit = entry.media == MediaKind::Video && tracks.contains(entry.track);
            if is_of_unit && entry.needs < first {
                entry.needs = first;
            }
        }
        let point = StartPoint::new(first, timestamp, Rc::clone(&self.headers));
        self.starts.keyframe(tracks, point);
    }

    fn append(&mut self, message: &Recording<'_>, timestamp: u32, now: Time) {
        let needs = self.needs_of(message);
        let header = message_header(message.media, timestamp);
        let len = wire_len(&header, message.payload.len(), self.chunk_size);
        let room = self.blocks.room(len, self.bytes);
        write_message(room, header, message.payload, self.chunk_size);
        let wire = room.split().freeze();
        self.bytes += wire.len();
        self.entries.push_back(Entry {
            offset: self.recorded,
            arrived: now,
            media: message.media,
            track: message.tracks.first().unwrap_or_default(),
            needs,
            has_slice: Cell::new(None),
            wire,
        });
        self.recorded += len as u64;
    }

    /// Keeps a header for late players. A changed decoder configuration ends the GOP of its tracks.
    fn keep_header(&mut self, kind: HeaderKind, message: &Recording<'_>) {
        let Recording { tracks, codec, payload, .. } = *message;
        if self.headers.has(kind, &tracks, payload) {
            return;
        }
        let headers = self.change_headers();
        let Kept { replaced, left_out } = headers.keep(kind, tracks, codec, payload);
        self.headers_left_out += u32::from(left_out);
        if replaced && kind == HeaderKind::VideoSequence {
            self.starts.reconfigured(&tracks);
            self.gops.end_unit(&tracks);
        }
    }

    /// Returns the headers in force, to be changed by the message that is recorded next.
    fn change_headers(&mut self) -> &mut Headers {
        self.headers_since = self.next_sequence();
        self.headers_changes = self.headers_changes.wrapping_add(1);
        Rc::make_mut(&mut self.headers)
    }

    /// Suspends headers of another codec on the tracks of a frame or of a decoder configuration.
    /// Not every codec has a header that would replace them.
    fn note_codec(&mut self, message: &Recording<'_>) {
        let is_of_decoder = message.is_frame
            || matches!(
                message.header,
                Some(HeaderKind::AudioSequence | HeaderKind::VideoSequence)
            );
        let Some(codec) = message.codec.filter(|_| is_of_decoder) else { return };
        let newest = match codec {
            Codec::Audio(_) => &mut self.audio_codec,
            Codec::Video(_) => &mut self.video_codec,
        };
        let is_known = message.is_default() && newest.replace(codec) == Some(codec);
        if is_known || !self.headers.disagrees_with(&message.tracks, codec) {
            return;
        }
        self.change_headers().set_codec(&message.tracks, codec);
        if codec.media() == MediaKind::Video {
            self.starts.reconfigured(&message.tracks);
            self.gops.end_unit(&message.tracks);
        }
    }

    /// Returns the first message that is kept for late players. The newest start point is kept
    /// however old it is. Messages that may become part of the next start point are kept for
    /// [`TapeSettings::span_ms_max`] only. Otherwise a track that stopped in the middle of an
    /// access unit would keep all later messages on the tape.
    fn kept_from(&self, now: Time, settings: &TapeSettings) -> Option<u64> {
        if !settings.keep_start {
            return None;
        }
        let is_recent = |sequence: &u64| {
            let entry = self.get(*sequence);
            entry.is_some_and(|entry| now.millis_since(entry.arrived) <= settings.span_ms_max)
        };
        let awaits_more = || {
            let early = self.starts.oldest_sequence().filter(is_recent);
            early.or_else(|| self.gops.unit_began().filter(is_recent))
        };
        self.start_sequence().or_else(awaits_more)
    }

    /// Drops the oldest messages until the tape is within its bounds. Only the bound on bytes may
    /// take more than `dropped_max` messages: when the last player leaves, a long backlog is of no
    /// use any more, but to drop all of it with the next message would make one turn long.
    fn trim(
        &mut self,
        has_players: bool,
        now: Time,
        settings: &TapeSettings,
        mut dropped_max: usize,
    ) {
        let start = self.kept_from(now, settings);
        let backlog_ms_max = settings.lag_ms.min(settings.span_ms_max);
        while let Some(oldest) = self.entries.front() {
            let age_ms = now.millis_since(oldest.arrived);
            let held = self.backlog_bytes();
            // Messages of this turn are never dropped with the backlog. A player that keeps up has
            // not been sent them yet, and it must not lose them when memory is short.
            let is_backlog = oldest.arrived < now;
            let over =
                held > settings.bytes_max || (is_backlog && held > settings.backlog_bytes_max);
            // No age limit for the newest GOP: a camera that sends a keyframe in four minutes
            // would have no start point most of the time. The bytes still bound it.
            let in_newest_gop = start.is_some_and(|start| self.first >= start);
            let in_backlog = has_players && age_ms <= backlog_ms_max;
            let is_needed = in_newest_gop || in_backlog;
            let is_spent = dropped_max == 0 && held <= settings.bytes_max;
            if is_spent || !over && is_needed {
                break;
            }
            dropped_max = dropped_max.saturating_sub(1);
            self.bytes -= oldest.wire.len();
            self.first += 1;
            self.entries.pop_front();
        }
        // A start point goes with its first message. A later message of the GOP cannot take its
        // place, since no decoder can start there.
        let is_cut = self.starts.forget_before(self.first) && settings.keep_start;
        self.gops_cut += u32::from(is_cut);
        self.segments.forget_before(self.entries.front().map_or(self.recorded, |e| e.offset));
        for framed in self.framed.iter_mut().flat_map(|framed| framed.iter_mut()) {
            framed.forget_before(self.first);
        }
        if self.entries.is_empty() && !has_players {
            // Without players and without a GOP cache the next messages are not recorded, so the
            // tape gives up its memory, too.
            self.blocks.clear();
            self.entries = VecDeque::new();
        }
    }
}

fn framed_bytes(framed: &[FramedSegments]) -> usize {
    size_of_val(framed) + framed.iter().map(FramedSegments::held_bytes).sum::<usize>()
}

/// Reads the NAL units of the first track of a video message.
fn read_units(payload: &[u8], length_bytes: usize) -> Option<Units> {
    let mut units = None;
    media::for_each_video_track(payload, |track| {
        if units.is_none() {
            units = Some(codec::read_units(track.codec, track.body, length_bytes));
        }
    });
    units.flatten()
}

/// Returns the payload of a message on the tape up to the end of its first chunk.
fn payload_head(wire: &[u8], chunk_size: u32) -> &[u8] {
    const EXTENDED: [u8; 3] = [0xff; 3];
    let extended_len = if wire.get(1..4) == Some(&EXTENDED) { 4 } else { 0 };
    let payload = wire.get(12 + extended_len..).unwrap_or_default();
    &payload[..payload.len().min(chunk_size as usize)]
}

#[cfg(test)]
mod tests;
