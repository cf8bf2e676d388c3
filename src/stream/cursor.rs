//! One player of one stream: its read position on the tape, and the media that it receives.
//!
//! A read position is always at a message boundary. A half-sent message belongs to the connection,
//! so a skip moves only the read position. After a gap a player gets the headers first. Each video
//! track then continues with its next keyframe (`gops.rs`).

use super::framing::{Custom, Framing, HalfSent, View};
use super::gops::LOST;
use super::headers;
use super::ids::StreamId;
use super::latency::Handed;
use super::segment::FileRun;
use super::slices::Slices;
use super::tape::{Entry, Tape};
use super::web_time::Origin;
use crate::config::Start;
use crate::limits;
use crate::rtmp::session::Receives;
use crate::time::Time;
use bytes::Bytes;

/// How far a player may lag, and how often it may skip.
#[derive(Clone, Copy, Debug)]
pub struct LagSettings {
    /// Largest lag in arrival time (ms).
    pub lag_ms: u64,
    /// Largest lag in bytes.
    pub lag_bytes: u64,
    /// Most skips within [`LagSettings::skip_window_ms`].
    pub skips_max: u32,
    /// Window in which skips are counted (ms).
    pub skip_window_ms: u64,
}

/// The player exceeded [`LagSettings::skips_max`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooSlow;

/// The read position of one player on one stream. See the module's head. Rare state is boxed,
/// because there are many players.
#[derive(Debug)]
pub struct Play {
    /// The stream that is played.
    pub stream: StreamId,
    /// Index in the stream's list of players.
    pub slot: u32,
    /// The lane of the connection: the message stream id of an RTMP player.
    pub lane: u32,
    framing: Framing,
    pause: Pause,
    /// Whether the player was told that its stream has started, and not that it has ended since.
    pub told_begun: bool,
    receives: Packed,
    /// Sequence number of the next message.
    next: u64,
    /// Sequence number of the message from which on the player has missed nothing.
    since: u64,
    /// Headers to send before the next message. Invariant: not empty, and `None` during a pause. A
    /// pause has no bound, and each of many paused players could keep another version alive.
    prelude: Option<Box<Bytes>>,
    /// State that few players have. `None` before the first skip of a player that needs no clock.
    rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Play>() <= 48);

/// [`Receives`], the era of the player's times, and whether the player reads messages of the past,
/// in one byte.
#[derive(Clone, Copy, Debug)]
struct Packed(u8);

impl Packed {
    const MEDIA: u8 = 3;
    const ERA: u8 = 4;
    const IN_PAST: u8 = 8;

    /// `era` is that of the tape ([`Tape::web_time`]).
    const fn new(receives: Receives, era: bool) -> Self {
        Self(Self::media(receives) | if era { Self::ERA } else { 0 })
    }

    const fn media(receives: Receives) -> u8 {
        receives.audio as u8 | (receives.video as u8) << 1
    }

    const fn era(self) -> bool {
        self.0 & Self::ERA != 0
    }

    const fn get(self) -> Receives {
        Receives { audio: self.0 & 1 != 0, video: self.0 & 2 != 0 }
    }

    const fn set(&mut self, receives: Receives) {
        self.0 = self.0 & !Self::MEDIA | Self::media(receives);
    }

    const fn is_in_past(self) -> bool {
        self.0 & Self::IN_PAST != 0
    }

    const fn set_in_past(&mut self, is_in_past: bool) {
        self.0 = if is_in_past { self.0 | Self::IN_PAST } else { self.0 & !Self::IN_PAST };
    }
}

/// Whether the player has paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Off,
    On,
    /// Paused, and the player needs headers when it resumes.
    HeadersDue,
}

/// Counts of skips, and what a player over HTTP may need.
#[derive(Debug, Default)]
struct Rare {
    /// Skips of the whole play.
    total: u32,
    /// Skips since `window_began`.
    in_window: u32,
    window_began: Time,
    web: Option<Box<WebStart>>,
}

/// The start of a player over HTTP that receives something of its own.
#[derive(Debug)]
struct WebStart {
    custom: Custom,
    /// [`Tape::headers_changes`] when the initialization segment of an MP4 was made. Several
    /// changes may have the same place on the tape, since nothing is recorded without readers.
    headers_changes: u32,
}

impl Play {
    /// Creates a player at `start`. On a stream without a start point it starts with the next
    /// message.
    pub fn new(
        stream: StreamId,
        lane: u32,
        framing: Framing,
        tape: &Tape,
        start: Start,
        receives: Receives,
    ) -> Self {
        let mut play = Self {
            stream,
            slot: 0,
            lane,
            framing,
            pause: Pause::Off,
            told_begun: false,
            receives: Packed::new(receives, tape.web_time().era()),
            next: tape.next_sequence(),
            since: if start == Start::Live { LOST } else { tape.next_sequence() },
            prelude: None,
            rare: None,
        };
        if start == Start::Keyframe && tape.start_sequence().is_some() {
            play.jump_to_start(tape);
        } else {
            play.take_headers(tape);
        }
        play.enter_past(tape);
        play
    }

    /// Notes that the messages after the read position are older than the player's wish for them,
    /// if there are any. Their latency does not count.
    fn enter_past(&mut self, tape: &Tape) {
        self.receives.set_in_past(self.next < tape.next_sequence());
    }

    /// Returns the framing in which the player receives media.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    fn is_paused(&self) -> bool {
        self.pause != Pause::Off
    }

    /// Memory that a player may hold permanently in addition to this struct (bytes). A gauge counts
    /// headers that wait to be sent.
    pub const HELD_BYTES_MAX: usize = size_of::<Rare>();

    /// Memory that the player holds in addition to this struct (bytes): [`Play::HELD_BYTES_MAX`],
    /// and what a player over HTTP receives of its own. The box of a half-sent message always
    /// counts, so that few writes change the sum.
    pub fn held_bytes(&self) -> usize {
        let half_sent = if self.framing == Framing::Rtmp { 0 } else { HalfSent::WEB_BYTES };
        let web = self.web().map_or(0, |_| size_of::<WebStart>());
        Self::HELD_BYTES_MAX + half_sent + web
    }

    fn web(&self) -> Option<&WebStart> {
        self.rare.as_ref()?.web.as_deref()
    }

    /// Skips of the whole play.
    pub fn skips(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.total)
    }

    /// Pauses or resumes the player. It resumes at its read position, with the headers that it has
    /// not been sent. If the headers have changed in the meantime, it resumes after the change,
    /// because earlier messages need headers that no longer exist.
    pub fn pause(&mut self, on: bool, tape: &Tape) {
        if !on && !self.is_paused() {
            return;
        }
        let headers_due = self.prelude.take().is_some() || self.pause == Pause::HeadersDue;
        self.pause = match (on, headers_due) {
            (true, true) => Pause::HeadersDue,
            (true, false) => Pause::On,
            (false, _) => Pause::Off,
        };
        if !on {
            self.resume(headers_due, tape);
        }
    }

    fn resume(&mut self, headers_due: bool, tape: &Tape) {
        self.enter_past(tape);
        if !headers_due {
            return;
        }
        if tape.start_sequence().is_some_and(|start| start >= self.next) {
            return self.jump_to_start(tape);
        }
        if tape.headers_since() > self.next {
            self.next = tape.headers_since();
            self.since = self.since.max(self.next);
        }
        self.take_headers(tape);
    }

    /// Returns whether the tape no longer has the next message.
    pub const fn has_fallen(&self, tape: &Tape) -> bool {
        self.next < tape.first_sequence()
    }

    /// Turns audio on or off. Audio that is turned on starts with its headers.
    pub fn receive_audio(&mut self, on: bool, tape: &Tape) {
        let receives = self.receives.get();
        let begins = on && !receives.audio;
        self.receives.set(Receives { audio: on, ..receives });
        if begins {
            self.take_headers(tape);
        }
    }

    /// Turns video on or off. Video that is turned on starts with its headers and the next GOP.
    pub fn receive_video(&mut self, on: bool, tape: &Tape) {
        let receives = self.receives.get();
        let begins = on && !receives.video;
        self.receives.set(Receives { video: on, ..receives });
        if begins {
            self.since = self.next;
            self.take_headers(tape);
        }
    }

    /// Moves a player that lags too far, or whose read position has left the tape, to the newest
    /// start point. Without a newer start point a lagging player stays where it is. A player whose
    /// read position has left the tape continues at the live edge: the headers in force do not fit
    /// the rest of its backlog, and its oldest message is the next one to be dropped.
    ///
    /// # Errors
    /// [`TooSlow`] if the player has skipped too often.
    pub fn catch_up(
        &mut self,
        tape: &Tape,
        now: Time,
        settings: &LagSettings,
    ) -> Result<(), TooSlow> {
        if !self.lags(tape, now, settings) {
            return Ok(());
        }
        let fell_off = self.next < tape.first_sequence();
        // Messages that were dropped because the stream ended do not count as a skip: the player
        // is not to blame for them.
        let is_over = self.next < tape.first_after_end();
        if tape.start_sequence().is_some_and(|start| start > self.next) {
            self.jump_to_start(tape);
        } else if is_over && tape.first_after_end() >= tape.first_sequence() {
            // All messages since the end are still on the tape, including the new headers.
            self.next = tape.first_after_end();
            self.since = self.next;
            self.prelude = None;
        } else if fell_off {
            self.next = tape.next_sequence();
            self.since = self.next;
            self.take_headers(tape);
        } else {
            return Ok(());
        }
        if is_over { Ok(()) } else { self.note_skip(now, settings) }
    }

    /// Moves the read position past messages that this player does not want, up to `visits`
    /// messages. Returns whether all of them were passed.
    pub(crate) fn skip_unwanted(&mut self, tape: &Tape, visits: &mut usize) -> bool {
        if self.is_paused() {
            return true;
        }
        while let Some(entry) = tape.get(self.next) {
            if self.wants(entry, tape) {
                return true;
            }
            let Some(left) = visits.checked_sub(1) else { return false };
            *visits = left;
            self.next += 1;
        }
        true
    }

    /// Adds the prelude and the wanted messages after the read position, up to the first one that
    /// is sent from a memory file. Each checked message costs one of `visits`. Returns false when a
    /// slice was refused, when the visits are spent, or when the next bytes come from a file. Each
    /// means that data is pending.
    pub(crate) fn gather<'t>(
        &'t self,
        tape: &'t Tape,
        slices: &mut Slices<'t, '_>,
        visits: &mut usize,
    ) -> bool {
        if self.is_paused() {
            return true;
        }
        let view = self.view(tape);
        if self.prelude.as_ref().is_some_and(|prelude| !view.add(prelude, 0, slices)) {
            return false;
        }
        if slices.until_file() && self.run(tape, slices.room_bytes(), visits).is_some() {
            return false;
        }
        for entry in tape.from(self.next) {
            let Some(left) = visits.checked_sub(1) else { return false };
            *visits = left;
            if self.wants(entry, tape) && !view.add(&entry.wire, 0, slices) {
                return false;
            }
        }
        true
    }

    /// Returns the view of the tape in the framing of this player.
    #[inline]
    fn view(&self, tape: &Tape) -> View<'_> {
        let Self { framing, lane, .. } = *self;
        let (custom, origin) = match framing {
            Framing::Rtmp => (None, Origin::default()),
            _ => (self.custom(), tape.web_time().origin()),
        };
        View { framing, lane, chunk_size: tape.chunk_size(), origin, custom }
    }

    fn custom(&self) -> Option<&Custom> {
        self.web().map(|start| &start.custom)
    }

    /// Sets what a player over HTTP receives of its own. An MP4 begins with the headers in force.
    pub fn set_custom(&mut self, custom: Custom, tape: &Tape) {
        let start = WebStart { custom, headers_changes: tape.headers_changes() };
        self.rare.get_or_insert_default().web = Some(Box::new(start));
        if let Some(prelude) = self.prelude.take() {
            self.set_prelude(*prelude, tape);
        }
    }

    /// Returns whether the response of a player over HTTP cannot go on: the headers have changed
    /// since the initialization segment of an MP4 was made, or times have another origin.
    pub fn is_outdated(&self, tape: &Tape) -> bool {
        if self.framing == Framing::Rtmp {
            return false;
        }
        let has_other_headers =
            || self.web().is_some_and(|start| start.headers_changes != tape.headers_changes());
        self.receives.era() != tape.web_time().era() || self.framing.is_mp4() && has_other_headers()
    }

    /// Returns the next messages if they are in a memory file: see [`Play::run`].
    pub(crate) fn file_run<'t>(
        &self,
        tape: &'t Tape,
        bytes_max: usize,
        visits: &mut usize,
    ) -> Option<(FileRun<'t>, bool)> {
        if self.is_paused() || self.prelude.is_some() {
            return None;
        }
        self.run(tape, bytes_max, visits)
    }

    /// Returns the run of a memory file that starts at the read position, and whether it reaches
    /// the end of the tape. The run ends before the first message that this player does not want,
    /// or after about `bytes_max` bytes. `None` if the next messages are sent from memory.
    fn run<'t>(
        &self,
        tape: &'t Tape,
        bytes_max: usize,
        visits: &mut usize,
    ) -> Option<(FileRun<'t>, bool)> {
        if self.framing != Framing::Rtmp {
            return self.framed_run(tape, bytes_max, visits);
        }
        // Files hold the bytes of the tape. A lane with heads of its own is sent from memory.
        if !tape.has_segments() || !self.view(tape).is_plain() {
            return None;
        }
        // An unwanted message ends the run, because `sendfile` sends one contiguous range.
        let mut wanted = tape.from(self.next).take_while(|entry| self.wants(entry, tape));
        let first = wanted.next()?;
        // The first message costs a visit as well. `advance` passes over no more messages than a
        // share of a turn has visits, so a longer run would leave the read position behind.
        *visits = visits.checked_sub(1)?;
        let bytes_max = bytes_max as u64;
        let mut end = first.offset + first.wire.len() as u64;
        for entry in wanted {
            let Some(left) = visits.checked_sub(1).filter(|_| end - first.offset < bytes_max)
            else {
                break;
            };
            *visits = left;
            end = entry.offset + entry.wire.len() as u64;
        }
        // The file may end before the messages do. A player takes the rest from memory, rather
        // than wait for the tape to write it to a file.
        let run = tape.run(first.offset, end)?;
        let is_last = first.offset + run.len as u64 == tape.recorded_bytes();
        Some((run, is_last))
    }

    /// Returns likewise a run of a memory file in the framing of this player.
    #[cold]
    fn framed_run<'t>(
        &self,
        tape: &'t Tape,
        bytes_max: usize,
        visits: &mut usize,
    ) -> Option<(FileRun<'t>, bool)> {
        if self.custom().is_some() || !tape.has_framed(self.framing) {
            return None;
        }
        let (mut to, mut bytes) = (self.next, 0);
        for entry in tape.from(self.next).take_while(|entry| self.wants(entry, tape)) {
            let Some(left) = visits.checked_sub(1).filter(|_| bytes < bytes_max) else { break };
            *visits = left;
            bytes += entry.wire.len();
            to += 1;
        }
        let (run, to) = tape.framed_run(self.framing, self.next, to)?;
        Some((run, to == tape.next_sequence()))
    }

    /// Moves the read position past `written` bytes of what [`Play::gather`] added. Returns the
    /// number of bytes beyond those. The rest of a message that was cut goes to `cut`, and the
    /// messages whose latency counts go to `handed`.
    pub(crate) fn advance(
        &mut self,
        tape: &Tape,
        mut written: usize,
        cut: &mut Option<HalfSent>,
        handed: &mut Handed,
    ) -> usize {
        if self.is_paused() {
            return written;
        }
        let prelude = if written > 0 { self.prelude.take() } else { None };
        let (view, mut next) = (self.view(tape), self.next);
        let counts = !self.receives.is_in_past();
        if let Some(prelude) = prelude {
            let len = view.len(&prelude);
            if written < len {
                *cut = Some(HalfSent::new(&prelude, written, view));
            }
            written = written.saturating_sub(len);
        }
        // No write covers more messages. Messages after a longer run are unwanted ones, which the
        // next round skips.
        for entry in tape.from(next).take(limits::WRITE_MESSAGES_PER_TURN_MAX) {
            if self.wants(entry, tape) {
                if written == 0 {
                    break;
                }
                let len = view.len(&entry.wire);
                if written < len {
                    let half_sent = cut.insert(HalfSent::new(&entry.wire, written, view));
                    if counts {
                        half_sent.count_from(entry.arrived);
                    }
                } else if counts {
                    handed.add(self.stream, entry.arrived);
                }
                written = written.saturating_sub(len);
            }
            next += 1;
        }
        self.next = next;
        if !counts && next == tape.next_sequence() {
            self.receives.set_in_past(false);
        }
        written
    }

    /// Moves the read position to the end of the tape, since the kernel has all that was pending.
    /// The messages whose latency counts go to `handed`.
    pub(crate) fn advance_to_end(&mut self, tape: &Tape, handed: &mut Handed) {
        if self.is_paused() {
            return;
        }
        if !handed.is_paused && !self.receives.is_in_past() {
            let wanted = tape.from(self.next).filter(|entry| self.wants(entry, tape));
            wanted.for_each(|entry| handed.add(self.stream, entry.arrived));
        }
        self.prelude = None;
        self.next = tape.next_sequence();
        self.receives.set_in_past(false);
    }

    /// Returns the offset on the tape after the last byte that the kernel has been handed, if
    /// `half_sent_bytes` of the message before the read position have not. It is inexact for a
    /// framing with heads of its own.
    pub(crate) fn handed_bytes(&self, tape: &Tape, half_sent_bytes: usize) -> u64 {
        let next = tape.get(self.next).map_or_else(|| tape.recorded_bytes(), |entry| entry.offset);
        next.saturating_sub(half_sent_bytes as u64)
    }

    /// Checks the invariants of the read position. Does nothing in release builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(crate) fn check_invariants(&self, tape: &Tape) {
        debug_assert!(self.next <= tape.next_sequence(), "read past the end of the tape");
        let prelude = self.prelude.as_ref();
        debug_assert!(prelude.is_none_or(|prelude| !prelude.is_empty()), "an empty prelude");
        debug_assert!(prelude.is_none() || !self.is_paused(), "headers held through a pause");
    }

    /// Returns whether the tape has messages after the read position, wanted or not.
    pub(crate) fn is_behind(&self, tape: &Tape) -> bool {
        !self.is_paused() && (self.prelude.is_some() || self.next < tape.next_sequence())
    }

    /// Returns whether messages that the player wants wait to be sent.
    pub fn has_pending(&self, tape: &Tape) -> bool {
        let mut next = tape.from(self.next).take(limits::WRITE_MESSAGES_PER_TURN_MAX);
        !self.is_paused() && (self.prelude.is_some() || next.any(|entry| self.wants(entry, tape)))
    }

    /// Returns the bytes that wait to be sent. It visits all messages after the read position.
    pub(crate) fn pending_bytes(&self, tape: &Tape) -> usize {
        if self.is_paused() {
            return 0;
        }
        let view = self.view(tape);
        let wanted = tape.from(self.next).filter(|entry| self.wants(entry, tape));
        let prelude = self.prelude.as_ref().map_or(0, |prelude| view.len(prelude));
        prelude + wanted.map(|entry| view.len(&entry.wire)).sum::<usize>()
    }

    #[inline]
    fn wants(&self, entry: &Entry, tape: &Tape) -> bool {
        let is_wanted =
            entry.needs >= self.since && headers::wants(self.receives.get(), entry.media);
        is_wanted && (self.framing == Framing::Rtmp || self.has_place(entry, tape))
    }

    /// Returns whether a message has a place in FLV or MP4.
    #[cold]
    fn has_place(&self, entry: &Entry, tape: &Tape) -> bool {
        self.view(tape).has(&entry.wire)
    }

    fn lags(&self, tape: &Tape, now: Time, settings: &LagSettings) -> bool {
        if self.is_paused() {
            return false;
        }
        match tape.get(self.next) {
            Some(entry) => {
                now.millis_since(entry.arrived) > settings.lag_ms
                    || tape.recorded_bytes() - entry.offset > settings.lag_bytes
            }
            None => self.next < tape.first_sequence(),
        }
    }

    fn jump_to_start(&mut self, tape: &Tape) {
        if let Some(start) = tape.start_sequence() {
            self.next = start;
            self.since = start;
            self.set_prelude(tape.start_prelude(self.receives.get()), tape);
        }
    }

    /// Schedules the headers in force before the next message.
    fn take_headers(&mut self, tape: &Tape) {
        self.set_prelude(tape.live_prelude(self.receives.get()), tape);
    }

    fn set_prelude(&mut self, headers: Bytes, tape: &Tape) {
        if self.view(tape).len(&headers) == 0 {
            // An MP4 has its headers in the initialization segment, and FLV not all of them.
            self.prelude = None;
        } else if self.is_paused() {
            self.pause = Pause::HeadersDue;
            self.prelude = None;
        } else {
            self.prelude = Some(Box::new(headers));
        }
    }

    fn note_skip(&mut self, now: Time, settings: &LagSettings) -> Result<(), TooSlow> {
        self.receives.set_in_past(false);
        let first = || Box::new(Rare { window_began: now, ..Rare::default() });
        let skips = self.rare.get_or_insert_with(first);
        skips.total += 1;
        if now.millis_since(skips.window_began) > settings.skip_window_ms {
            skips.window_began = now;
            skips.in_window = 0;
        }
        skips.in_window += 1;
        if skips.in_window > settings.skips_max { Err(TooSlow) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::media::{MediaKind, Tracks};
    use crate::stream::frame::{HeaderKind, Needs, Recording};
    use crate::stream::framing::Watching;
    use crate::stream::segment::SegmentSettings;
    use crate::stream::tape::TapeSettings;
    use crate::test_support::{self, wire_messages};

    const CHUNK_SIZE: u32 = 60_000;
    const TAPE: TapeSettings = TapeSettings { chunk_size: CHUNK_SIZE, ..test_support::TAPE };
    const LAG: LagSettings =
        LagSettings { lag_ms: 5000, lag_bytes: 1 << 20, skips_max: 2, skip_window_ms: 60_000 };
    /// Wire bytes of a message with one byte of payload.
    const WIRE_BYTES: u64 = 13;
    /// Bytes of such a message on a tape.
    const HELD_BYTES: usize = WIRE_BYTES as usize + size_of::<Entry>();

    fn at(millis: u64) -> Time {
        Time::ZERO.plus_millis(millis)
    }

    fn some_stream() -> StreamId {
        StreamId(0)
    }

    /// Records messages of one byte: `V` and `A` are headers, `K` begins a GOP, `i` depends
    /// on it, `a` is audio and `d` data.
    fn record(tape: &mut Tape, names: &str, millis: u64) {
        record_with(tape, names, millis, &TAPE);
    }

    fn record_with(tape: &mut Tape, names: &str, millis: u64, settings: &TapeSettings) {
        for name in names.bytes() {
            let (media, needs, header) = match name {
                b'V' | b'W' => (MediaKind::Video, Needs::Nothing, Some(HeaderKind::VideoSequence)),
                b'A' | b'B' => (MediaKind::Audio, Needs::Nothing, Some(HeaderKind::AudioSequence)),
                b'K' => (MediaKind::Video, Needs::StartsGop, None),
                b'i' => (MediaKind::Video, Needs::Gop, None),
                b'a' => (MediaKind::Audio, Needs::Nothing, None),
                _ => (MediaKind::Data, Needs::Nothing, None),
            };
            let payload = &[name];
            let is_frame = header.is_none();
            let timestamp = millis as u32;
            let tracks = Tracks::DEFAULT;
            // Each message is an access unit of its own.
            let sent = tape.next_sequence() as u32;
            let recording = Recording {
                media,
                tracks,
                codec: None,
                needs,
                header,
                is_frame,
                sent,
                timestamp,
                payload,
            };
            tape.record(recording, true, at(millis), settings);
        }
    }

    fn names(wire: &[u8]) -> String {
        let messages = wire_messages(wire, CHUNK_SIZE);
        messages.iter().map(|(_, payload)| char::from(payload[0])).collect()
    }

    fn join(tape: &Tape, start: Start) -> Play {
        join_for(tape, start, Receives::ALL)
    }

    fn join_for(tape: &Tape, start: Start, receives: Receives) -> Play {
        Play::new(some_stream(), 1, Framing::Rtmp, tape, start, receives)
    }

    fn pending(play: &mut Play, tape: &Tape) -> Vec<u8> {
        let (mut scratch, mut visits) = (Vec::new(), usize::MAX);
        assert!(play.skip_unwanted(tape, &mut visits));
        let mut slices = Slices::new(usize::MAX, &mut scratch, true);
        assert!(play.gather(tape, &mut slices, &mut visits));
        let wire: Vec<u8> = slices.io_slices().iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(play.has_pending(tape), !wire.is_empty());
        wire
    }

    fn rest(half_sent: &HalfSent) -> Vec<u8> {
        let mut scratch = Vec::new();
        let mut slices = Slices::new(usize::MAX, &mut scratch, true);
        half_sent.add(&mut slices);
        slices.io_slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    /// Returns the messages that a player is sent when the transport takes all bytes.
    fn sent(play: &mut Play, tape: &Tape) -> String {
        let wire = pending(play, tape);
        let mut cut = None;
        assert_eq!(play.advance(tape, wire.len(), &mut cut, &mut Handed::default()), 0);
        assert!(cut.is_none());
        assert!(!play.has_pending(tape));
        names(&wire)
    }

    #[test]
    fn a_late_joiner_begins_where_the_setting_says() {
        for (start, joined, later) in [
            (Start::Keyframe, "AVKai", "aKi"),
            (Start::NextKeyframe, "AV", "aKi"),
            (Start::Live, "AV", "iaKi"),
        ] {
            let mut tape = Tape::default();
            record(&mut tape, "VAKiKai", 0);
            let mut play = join(&tape, start);
            assert_eq!(sent(&mut play, &tape), joined, "{start:?}");
            record(&mut tape, "iaKi", 40);
            let expected = if start == Start::Keyframe { "iaKi" } else { later };
            assert_eq!(sent(&mut play, &tape), expected, "{start:?}");
        }
    }

    #[test]
    fn who_waits_gets_everything_from_the_first_message_on() {
        for start in [Start::Keyframe, Start::NextKeyframe, Start::Live] {
            let mut tape = Tape::default();
            let mut play = join(&tape, start);
            assert!(!play.has_pending(&tape));
            tape.begin(false);
            record(&mut tape, "VAKia", 0);
            assert_eq!(sent(&mut play, &tape), "VAKia", "{start:?}");
        }
    }

    #[test]
    fn streams_of_audio_or_video_alone_start_at_once() {
        for (before, after, expected) in [("Aaa", "a", "Aa"), ("VKi", "i", "VKii")] {
            let mut tape = Tape::default();
            record(&mut tape, before, 0);
            let mut play = join(&tape, Start::Keyframe);
            record(&mut tape, after, 20);
            assert_eq!(sent(&mut play, &tape), expected);
        }
    }

    #[test]
    fn a_new_sequence_header_reaches_every_player_in_its_place() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let (mut old, mut off) = (join(&tape, Start::Keyframe), join(&tape, Start::Keyframe));
        off.receive_video(false, &tape);
        sent(&mut old, &tape);
        sent(&mut off, &tape);
        record(&mut tape, "WKi", 40);
        assert_eq!(sent(&mut old, &tape), "WKi");
        assert_eq!(sent(&mut off, &tape), "");
        assert_eq!(sent(&mut join(&tape, Start::Keyframe), &tape), "WKi");
        off.receive_video(true, &tape);
        record(&mut tape, "iKi", 80);
        assert_eq!(sent(&mut off, &tape), "WKi", "headers, then the next GOP");
    }

    #[test]
    fn turning_audio_off_and_on_leaves_video_as_it_is() {
        let mut tape = Tape::default();
        record(&mut tape, "Ki", 0);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        play.receive_audio(false, &tape);
        record(&mut tape, "AaVia", 20);
        assert_eq!(sent(&mut play, &tape), "Vi");
        play.receive_audio(true, &tape);
        record(&mut tape, "ai", 40);
        assert_eq!(sent(&mut play, &tape), "AVai", "the header that it has not had");
        play.receive_audio(true, &tape);
        record(&mut tape, "a", 60);
        assert_eq!(sent(&mut play, &tape), "a", "it was on");
    }

    #[test]
    fn who_turns_a_kind_off_before_it_plays_gets_none_of_it() {
        for start in [Start::Keyframe, Start::NextKeyframe, Start::Live] {
            for (audio, video, first, all) in [
                (true, true, "AV", "dKia"),
                (false, true, "V", "dKi"),
                (true, false, "A", "da"),
                (false, false, "", "d"),
            ] {
                let mut tape = Tape::default();
                record(&mut tape, "VAKia", 0);
                let mut play = join_for(&tape, start, Receives { audio, video });
                assert!(sent(&mut play, &tape).starts_with(first), "{start:?}");
                record(&mut tape, "dKia", 40);
                assert_eq!(sent(&mut play, &tape), all, "{start:?}, audio {audio}, video {video}");
            }
        }
    }

    #[test]
    fn a_paused_player_is_sent_nothing_and_goes_on_within_the_budget() {
        for (millis, resumed, skips) in [(4000, "iaKi", 0), (6000, "VKi", 1)] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            sent(&mut play, &tape);
            play.pause(true, &tape);
            record(&mut tape, "ia", 40);
            record(&mut tape, "Ki", millis);
            play.catch_up(&tape, at(millis), &LAG).unwrap();
            assert_eq!(sent(&mut play, &tape), "");
            play.pause(false, &tape);
            play.catch_up(&tape, at(millis), &LAG).unwrap();
            assert_eq!((sent(&mut play, &tape), play.skips()), (resumed.to_owned(), skips));
        }
    }

    #[test]
    fn a_player_that_is_paused_before_its_headers_are_sent_holds_none() {
        for (meanwhile, resumed) in [
            ("i", "VKii"),
            ("iKi", "VKi"),
            // Its keyframe needs headers that no longer exist.
            ("iWi", "WW"),
            ("iWiKi", "WKi"),
        ] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            play.pause(true, &tape);
            assert!(play.prelude.is_none());
            record(&mut tape, meanwhile, 40);
            play.pause(false, &tape);
            play.catch_up(&tape, at(40), &LAG).unwrap();
            assert_eq!(sent(&mut play, &tape), resumed, "after {meanwhile}");
        }
    }

    #[test]
    fn a_paused_player_that_turns_video_on_is_given_the_headers_when_it_goes_on() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        play.receive_video(false, &tape);
        play.pause(true, &tape);
        play.receive_video(true, &tape);
        assert!(play.prelude.is_none());
        record(&mut tape, "iKi", 40);
        play.pause(false, &tape);
        assert_eq!(sent(&mut play, &tape), "VKi");
    }

    #[test]
    fn a_lag_beyond_the_budget_in_time_jumps_to_the_newest_start() {
        for (millis, expected, skips) in [(5000, "iaKi", 0), (5001, "VKi", 1)] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            sent(&mut play, &tape);
            record(&mut tape, "ia", 0);
            record(&mut tape, "Ki", 10);
            play.catch_up(&tape, at(millis), &LAG).unwrap();
            assert_eq!((sent(&mut play, &tape), play.skips()), (expected.to_owned(), skips));
        }
    }

    #[test]
    fn a_lag_beyond_the_budget_in_bytes_jumps_to_the_newest_start() {
        for (lag_bytes, expected) in [(4 * WIRE_BYTES, "iaKi"), (4 * WIRE_BYTES - 1, "VKi")] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            sent(&mut play, &tape);
            record(&mut tape, "iaKi", 0);
            let settings = LagSettings { lag_bytes, ..LAG };
            play.catch_up(&tape, at(0), &settings).unwrap();
            assert_eq!(sent(&mut play, &tape), expected);
        }
    }

    #[test]
    fn without_a_newer_start_a_lagging_player_stays_where_it_is() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let mut play = join(&tape, Start::Keyframe);
        play.catch_up(&tape, at(20_000), &LAG).unwrap();
        assert_eq!((sent(&mut play, &tape), play.skips()), ("VKi".to_owned(), 0));
    }

    #[test]
    fn a_player_that_falls_off_a_tape_without_a_start_continues_at_the_live_edge() {
        let mut tape = Tape::default();
        let settings = TapeSettings { bytes_max: 3 * HELD_BYTES, ..TAPE };
        record_with(&mut tape, "VK", 0, &settings);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        record_with(&mut tape, "iiiaiai", 20, &settings);
        play.catch_up(&tape, at(20), &LAG).unwrap();
        assert_eq!((sent(&mut play, &tape), play.skips()), ("V".to_owned(), 1));
        record_with(&mut tape, "iaK", 40, &settings);
        assert_eq!(sent(&mut play, &tape), "aK");
    }

    #[test]
    fn who_falls_off_gets_no_frame_of_another_configuration_than_the_one_it_is_given() {
        let mut tape = Tape::default();
        let settings = TapeSettings { bytes_max: 4 * HELD_BYTES, ..TAPE };
        record_with(&mut tape, "A", 0, &settings);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        record_with(&mut tape, "aaaBa", 20, &settings);
        play.catch_up(&tape, at(20), &LAG).unwrap();
        record_with(&mut tape, "a", 40, &settings);
        assert_eq!(sent(&mut play, &tape), "Ba");
    }

    #[test]
    fn the_end_of_a_stream_is_no_skip() {
        for publishes_again in [false, true] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            sent(&mut play, &tape);
            record(&mut tape, "iai", 40);
            tape.end();
            tape.forget();
            if publishes_again {
                tape.begin(false);
                record(&mut tape, "WKi", 2000);
            }
            play.catch_up(&tape, at(2000), &LAG).unwrap();
            assert_eq!(sent(&mut play, &tape), if publishes_again { "WKi" } else { "" });
            assert_eq!(play.skips(), 0);
            record(&mut tape, "i", 4000);
            record(&mut tape, "Ki", 9001);
            play.catch_up(&tape, at(9001), &LAG).unwrap();
            assert_eq!(play.skips(), 1, "from here on it is");
        }
    }

    #[test]
    fn skips_are_counted_within_their_window() {
        for (gap_ms, closed) in [(30_000, true), (30_001, false)] {
            let mut tape = Tape::default();
            record(&mut tape, "K", 0);
            let mut play = join(&tape, Start::Keyframe);
            sent(&mut play, &tape);
            let mut results = Vec::new();
            for jump in 1..=3 {
                let millis = 100_000 + jump * gap_ms;
                record(&mut tape, "i", millis - 6000);
                record(&mut tape, "Ki", millis);
                results.push(play.catch_up(&tape, at(millis), &LAG));
                sent(&mut play, &tape);
            }
            assert_eq!(results[..2], [Ok(()), Ok(())]);
            assert_eq!(results[2] == Err(TooSlow), closed, "the window is 60 s");
            assert_eq!(play.skips(), 3);
        }
    }

    #[test]
    fn however_few_bytes_are_taken_the_same_messages_arrive() {
        let mut tape = Tape::default();
        record(&mut tape, "VAKiai", 0);
        for step in 1..40 {
            let (mut play, mut half_sent, mut wire) =
                (join(&tape, Start::Keyframe), HalfSent::default(), Vec::new());
            loop {
                let mut offered = rest(&half_sent);
                offered.extend(pending(&mut play, &tape));
                if offered.is_empty() {
                    break;
                }
                let taken = step.min(offered.len());
                wire.extend_from_slice(&offered[..taken]);
                let of_half_sent = half_sent.advance(taken);
                let mut cut = None;
                play.advance(&tape, taken - of_half_sent, &mut cut, &mut Handed::default());
                half_sent = cut.unwrap_or(half_sent);
            }
            assert_eq!(names(&wire), "AVKiai", "{step} bytes at a time");
        }
    }

    #[test]
    fn a_run_of_a_memory_file_holds_no_more_messages_than_are_taken_as_sent_at_once() {
        let mut tape = Tape::default();
        let mut play = join(&tape, Start::Keyframe);
        tape.begin(false);
        record(&mut tape, &"a".repeat(limits::WRITE_MESSAGES_PER_TURN_MAX + 10), 0);
        let open = test_support::file;
        let settings = SegmentSettings { open, players_min: 1, run_bytes_min: 1, files_max: 1 };
        let mut players = Watching::default();
        players.add(Framing::Rtmp);
        tape.store(&players, 1, &settings, &mut { Budget::STORING }).unwrap();
        let mut visits = limits::WRITE_MESSAGES_PER_TURN_MAX;
        assert!(play.skip_unwanted(&tape, &mut visits));
        let (run, is_last) = play.file_run(&tape, usize::MAX, &mut visits).unwrap();
        assert_eq!((run.len, is_last), (13 * limits::WRITE_MESSAGES_PER_TURN_MAX, false));
        assert_eq!(play.advance(&tape, run.len, &mut None, &mut Handed::default()), 0);
    }

    #[test]
    fn a_skip_leaves_a_half_sent_message_alone() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        record(&mut tape, "ia", 10);
        let (mut wire, mut cut) = (pending(&mut play, &tape), None);
        wire.truncate(5);
        assert_eq!(play.advance(&tape, 5, &mut cut, &mut Handed::default()), 0);
        record(&mut tape, "Ki", 6000);
        play.catch_up(&tape, at(6000), &LAG).unwrap();
        wire.extend(rest(&cut.unwrap()));
        wire.extend(pending(&mut play, &tape));
        assert_eq!(names(&wire), "iVKi");
    }

    /// [`HalfSent`] has a box for players over HTTP.
    #[test]
    fn a_half_sent_message_of_a_player_over_http_counts_with_its_box() {
        let mut tape = Tape::default();
        record(&mut tape, "VK", 0);
        let held = |framing| {
            let (live, all) = (Start::Live, Receives::ALL);
            Play::new(some_stream(), 1, framing, &tape, live, all).held_bytes()
        };
        for framing in Framing::ALL {
            let more = held(framing) - held(Framing::Rtmp);
            assert_eq!(more, if framing == Framing::Rtmp { 0 } else { HalfSent::WEB_BYTES });
        }
    }
}
