//! A stream's tape: its messages in wire form, in order, with the place where newcomers begin.
//!
//! One structure does three jobs. It is the fan-out queue (a player is a cursor, see
//! `cursor.rs`), the GOP cache (a newcomer's cursor begins at the newest start point) and the
//! slow-player policy (a cursor that lags jumps to the newest start point). A message is
//! encoded once, into a block that it shares with its neighbours; a cursor's half-sent message
//! keeps its block alive, nothing else does. What a message needs before it, and which message
//! is the start point, is the rule of `gops.rs`; what newcomers get before it, of `headers.rs`.
//!
//! The tape never looks at players; whether there are any is an argument. What bounds it is
//! bytes and the time of arrival, never a publisher's timestamps. The newest GOP stays as long as
//! the bytes allow, however old its keyframe is: a slow camera may send one in four minutes.

use super::blocks::{Blocks, Lent};
use super::frame::{HeaderKind, Needs, Recording};
use super::gauge::Gauge;
use super::gops::{Gops, LOST, OpenUnit, StartPoint, Starts};
use super::headers::{Headers, Kept, METADATA_TIMESTAMP, message_header};
use super::segment::{Discarded, FileRun, SegmentSettings, Segments};
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

/// Messages up to which debug builds check a tape after each turn.
const CHECKED_MAX: usize = 256;
/// Messages before a picture that are looked at for its parameter sets.
const LOOK_BACK_MESSAGES: u64 = 16;

const _: () = assert!(size_of::<Entry>() <= 64);

/// The bounds of a tape and what it is kept for.
#[derive(Clone, Copy, Debug)]
pub struct TapeSettings {
    /// Wire bytes and what keeps their order, at most: a message of one byte takes more for its
    /// place than for itself.
    pub bytes_max: usize,
    /// Arrival time of what is older than the newest start point, at most (ms).
    pub span_ms_max: u64,
    /// How far back players may lag (ms); what is older than this and than the newest start
    /// point goes.
    pub lag_ms: u64,
    /// Whether newcomers begin at the newest start point. It is then kept as long as
    /// `bytes_max` allows, with or without players.
    pub keep_start: bool,
    /// How long a message may wait for others of its stream before players are given it (ms).
    pub merge_ms: u64,
    /// Bytes of messages that arrived before this moment, at most. Less than
    /// [`TapeSettings::bytes_max`] while memory is short: players that keep up miss nothing.
    pub backlog_bytes_max: usize,
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
    /// The first of its tracks.
    track: u8,
    /// Whether it holds a slice, once that was looked for: many keyframe messages may ask.
    has_slice: Cell<Option<bool>>,
    /// The sequence number of the first message that a decoder needs for it: the first of a
    /// keyframe, or itself. [`LOST`] if that is not on the tape.
    pub needs: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Tape {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry. Sequence numbers are never used twice and begin
    /// behind [`LOST`].
    first: u64,
    blocks: Blocks,
    /// Chunk size of the wire form. Invariant: all entries have it, since no reload changes it.
    chunk_size: u32,
    /// Invariant: the sum of the entries' wire bytes.
    bytes: usize,
    /// Wire bytes ever recorded.
    recorded: u64,
    /// What of it lies in memory files as well.
    segments: Segments,
    /// Wire bytes that had been recorded when files were last thought of.
    considered: u64,
    /// Invariant: the entries that it names are on the tape.
    starts: Starts,
    headers: Rc<Headers>,
    /// Sequence number of the first message after their last change.
    headers_since: u64,
    /// The codecs of the newest messages of track 0.
    audio_codec: Option<Codec>,
    video_codec: Option<Codec>,
    gops: Gops,
    /// The timestamp of the last frame.
    last_frame: u32,
    /// The first message since a stream was over.
    over: u64,
    /// GOPs whose start did not stay on the tape until the next one began.
    gops_cut: u32,
    /// Headers that newcomers do not get.
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
    /// An empty tape, whose headers are counted by `gauge`.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self {
            entries: VecDeque::new(),
            first: LOST + 1,
            blocks: Blocks::default(),
            chunk_size: limits::CHUNK_SIZE_OUT,
            bytes: 0,
            recorded: 0,
            segments: Segments::default(),
            considered: 0,
            starts: Starts::default(),
            headers: Rc::new(Headers::new(gauge)),
            headers_since: LOST,
            audio_codec: None,
            video_codec: None,
            gops: Gops::default(),
            last_frame: 0,
            over: LOST + 1,
            gops_cut: 0,
            headers_left_out: 0,
            headers_changes: 0,
        }
    }

    /// Records a message unless there are neither players nor newcomers to keep it for, and drops
    /// what has become too old. Returns whether it was recorded.
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
        if let Some(kind) = message.header {
            self.keep_header(kind, &message);
        }
        self.note_codec(&message);
        if message.is_frame {
            self.last_frame = timestamp;
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
        // Without players a picture is recorded before its keyframe message is known: that may
        // be the last of its access unit.
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
        self.trim(has_players, now, settings);
        recorded
    }

    /// Makes ready for a publisher. `resumes` says that players of the last one are still
    /// there, so that its time goes on.
    pub fn begin(&mut self, resumes: bool) {
        if resumes {
            self.headers = Rc::new(Headers::new(self.headers.gauge().clone()));
            self.headers_since = self.next_sequence();
            (self.audio_codec, self.video_codec) = (None, None);
            self.starts = Starts::default();
            self.gops.clear();
        } else {
            self.forget();
        }
    }

    /// The publisher is gone: nobody begins in its last GOP any more, but players may finish
    /// what they have not read.
    pub fn end(&mut self) {
        self.starts = Starts::default();
    }

    /// The stream is over: nothing of it is kept for anybody. Sequence numbers go on, so that
    /// no cursor finds another message at its place.
    pub fn forget(&mut self) {
        let (first, recorded, last_frame) = (self.next_sequence(), self.recorded, self.last_frame);
        self.entries = VecDeque::new();
        self.blocks.clear();
        let (blocks, gauge) = (std::mem::take(&mut self.blocks), self.headers.gauge().clone());
        *self = Self {
            first,
            over: first,
            recorded,
            considered: recorded,
            blocks,
            headers_since: first,
            last_frame,
            ..Self::new(gauge)
        };
    }

    /// Hands over the blocks that are not the tape's any more and that players hold.
    pub(crate) fn lend(&mut self, lent: &mut Lent) {
        lent.take_from(&mut self.blocks);
    }

    /// Forgets the cached metadata (`@clearDataFrame`).
    pub fn clear_metadata(&mut self) {
        self.change_headers().clear_metadata();
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

    /// Sequence number of the first message since a stream was last over on this tape: no player
    /// is owed what came before it.
    pub const fn over(&self) -> u64 {
        self.over
    }

    /// Sequence number of the newest start point.
    pub fn start_sequence(&self) -> Option<u64> {
        self.starts.newest().map(|start| start.sequence)
    }

    /// Wire bytes ever recorded: the lag of an entry in bytes is this less its offset.
    pub const fn recorded_bytes(&self) -> u64 {
        self.recorded
    }

    /// Wire bytes on the tape.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory that the tape holds (bytes): the memory and the files that its messages lie in, their
    /// places, and the state of its tracks. The headers are counted by their gauge, since others
    /// share them.
    pub fn held_bytes(&self) -> usize {
        self.blocks.bytes()
            + self.segments.bytes() as usize
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

    /// Wire bytes and what keeps their order: what [`TapeSettings::bytes_max`] bounds.
    pub fn backlog_bytes(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>()
    }

    /// Gives up what `settings` no longer allow.
    pub fn shrink(&mut self, has_players: bool, now: Time, settings: &TapeSettings) {
        self.trim(has_players, now, settings);
    }

    /// Gives back the memory that is free.
    pub fn give_back(&mut self) {
        self.blocks.shrink(self.bytes);
        if self.entries.capacity() > 4 * self.entries.len() {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Memory files that it has open.
    pub fn files(&self) -> usize {
        self.segments.files()
    }

    /// Whether anything lies in memory files.
    pub fn has_segments(&self) -> bool {
        self.segments.end().is_some()
    }

    /// Gives up the memory files: players are sent from memory until there are new ones. Returns
    /// whether there were any.
    pub fn discard_segments(&mut self, discarded: &mut Discarded) -> bool {
        discarded.take_from(&mut self.segments)
    }

    /// Writes what is new since the last call to a memory file, where there are players enough
    /// for it and it is long enough to be sent from there. With it goes what was not, so that
    /// files have no holes, unless that is more than `budget` has left: then the next file begins
    /// with what is new. If that alone is too much, players are sent it from memory. Without
    /// `may_open` only a file that is open is written to. Returns whether anything was written.
    ///
    /// # Errors
    /// The system has no file or no memory to give. Players are sent from memory then.
    pub fn store(
        &mut self,
        players: usize,
        may_open: bool,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let fresh = self.recorded - self.considered;
        self.considered = self.recorded;
        if players < settings.players_min || fresh < settings.run_bytes_min as u64 {
            return Ok(false);
        }
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

    /// What of the wire bytes `from..to`, counted since the tape began, lies in one memory file
    /// from `from` on, if it is long enough to be sent from there.
    pub fn run(&self, from: u64, to: u64) -> Option<FileRun<'_>> {
        self.segments.run(from, to)
    }

    /// The size of the length before each NAL unit of these tracks, as their header says.
    pub fn nal_length_bytes(&self, tracks: &Tracks) -> usize {
        self.headers.nal_length_bytes(tracks)
    }

    /// Returns the headers of the newest start point in wire form, stamped with its time, for
    /// players that receive these.
    pub fn start_prelude(&self, receives: Receives) -> Bytes {
        let prelude = |start: &StartPoint| start.prelude(receives, self.chunk_size);
        self.starts.newest().map_or_else(Bytes::new, prelude)
    }

    /// Returns the headers in force in wire form, stamped with about the time of the newest frame,
    /// for players that receive these.
    pub fn live_prelude(&self, receives: Receives) -> Bytes {
        self.headers.recent(self.last_frame, receives, self.chunk_size)
    }

    /// Checks what this structure promises, in debug builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        self.segments.check_invariants(self.recorded);
        let end = self.next_sequence();
        debug_assert!(self.over <= end && self.headers_since <= end, "the past is behind us");
        let oldest_start = self.starts.oldest_sequence().unwrap_or(end);
        debug_assert!((self.first..=end).contains(&oldest_start), "a start is on the tape");
        // More would take longer than the turn that is checked.
        if self.entries.len() > CHECKED_MAX {
            return;
        }
        let mut offset = self.recorded - self.bytes as u64;
        for (sequence, entry) in (self.first..).zip(&self.entries) {
            debug_assert_eq!(entry.offset, offset, "messages lie behind each other");
            debug_assert!(entry.needs <= sequence, "no message needs a later one");
            offset += entry.wire.len() as u64;
        }
        debug_assert_eq!(offset, self.recorded, "the sum of the entries' wire bytes");
    }

    /// Chunk size of the wire form (bytes).
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// GOPs that were too large to be kept until the next one began.
    pub const fn gops_cut(&self) -> u32 {
        self.gops_cut
    }

    /// Headers that newcomers do not get, since there was no room for them.
    pub const fn headers_left_out(&self) -> u32 {
        self.headers_left_out
    }

    /// Messages that changed the headers in force, modulo 2^32. Each change copies the list of
    /// headers, if a start point still has the headers of before, and newcomers need a new wire
    /// form.
    pub const fn headers_changes(&self) -> u32 {
        self.headers_changes
    }

    /// The first message that a decoder needs for this one, which is recorded next.
    fn needs_of(&self, message: &Recording<'_>) -> u64 {
        let begun = || self.gops.began(&message.tracks);
        match message.needs {
            Needs::StartsGop | Needs::Gop => begun().unwrap_or(LOST),
            Needs::GopIfAny => begun().unwrap_or_else(|| self.next_sequence()),
            Needs::Nothing | Needs::EndsSequence => self.next_sequence(),
        }
    }

    /// Finds the first message of the picture of a keyframe message: its access unit may hold
    /// earlier pictures as well, which its slices tell apart.
    #[cold]
    fn find_picture(&mut self, message: &Recording<'_>, unit: OpenUnit) {
        let length_bytes = self.headers.nal_length_bytes(&message.tracks);
        let units = read_units(message.payload, length_bytes);
        let began = match units.map(|units| (units.slice, units.is_random_access)) {
            Some((Slice::First | Slice::None, _)) => {
                self.after_last_slice(message, unit.began, length_bytes)
            }
            Some((Slice::Further, is_idr)) if is_idr || !unit.has_more => unit.began,
            // Codecs without slices have one picture in a message, or layers of it.
            None if unit.is_key && !unit.has_more => unit.began,
            _ => self.next_sequence(),
        };
        if began != unit.began {
            self.gops.cut_unit(&message.tracks, began);
        }
    }

    /// The first message from `began` on that no slice of another message of these tracks follows.
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

    /// Begins a GOP of `tracks` with message `first`, a keyframe message of whose access unit was
    /// recorded last. Those before it were recorded as a part of the GOP before.
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

    /// Keeps a header for newcomers. A changed decoder configuration ends the GOP it belonged
    /// to.
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

    /// Returns the headers in force to be changed by the message at hand.
    fn change_headers(&mut self) -> &mut Headers {
        self.headers_since = self.next_sequence();
        self.headers_changes = self.headers_changes.wrapping_add(1);
        Rc::make_mut(&mut self.headers)
    }

    /// Ends the headers of another codec on the tracks of a frame or a decoder configuration: not
    /// every codec has a header that would take their place.
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

    /// The message from which on the tape is kept for newcomers. The newest start point is kept
    /// however old it is. What may become part of the next one is kept for a limited time only: a
    /// track that stopped in the middle of an access unit would hold all that came after it.
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

    fn trim(&mut self, has_players: bool, now: Time, settings: &TapeSettings) {
        let start = self.kept_from(now, settings);
        let backlog_ms_max = settings.lag_ms.min(settings.span_ms_max);
        while let Some(oldest) = self.entries.front() {
            let age_ms = now.millis_since(oldest.arrived);
            let held = self.backlog_bytes();
            // What arrived at this moment goes out to players that keep up.
            let is_backlog = oldest.arrived < now;
            let over =
                held > settings.bytes_max || (is_backlog && held > settings.backlog_bytes_max);
            let in_newest_gop = start.is_some_and(|start| self.first >= start);
            let in_backlog = has_players && age_ms <= backlog_ms_max;
            if !over && (in_newest_gop || in_backlog) {
                break;
            }
            self.bytes -= oldest.wire.len();
            self.first += 1;
            self.entries.pop_front();
        }
        let is_cut = self.starts.forget_before(self.first) && settings.keep_start;
        self.gops_cut += u32::from(is_cut);
        self.segments.forget_before(self.entries.front().map_or(self.recorded, |e| e.offset));
        if self.entries.is_empty() && !has_players {
            // Nobody plays and nothing is kept: no room for what is not recorded.
            self.blocks.clear();
            self.entries = VecDeque::new();
        }
    }
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

/// The payload of a message on the tape up to the end of its first chunk.
fn payload_head(wire: &[u8], chunk_size: u32) -> &[u8] {
    const EXTENDED: [u8; 3] = [0xff; 3];
    let extended_len = if wire.get(1..4) == Some(&EXTENDED) { 4 } else { 0 };
    let payload = wire.get(12 + extended_len..).unwrap_or_default();
    &payload[..payload.len().min(chunk_size as usize)]
}

#[cfg(test)]
mod tests;
