//! One player of one stream: a cursor on the tape and what it wants of it.
//!
//! A cursor stands at a message boundary. What is half sent belongs to the connection; a skip
//! moves only the cursor. After a gap a player gets the headers, and of each video track what
//! begins with a keyframe behind the gap (`gops.rs`).

use super::gops::LOST;
use super::hub::StreamId;
use super::segment::FileRun;
use super::tape::{Entry, Tape};
use crate::config::Start;
use crate::media::MediaKind;
use crate::time::Time;
use bytes::Bytes;

/// How far a player may lag, and how often.
#[derive(Clone, Copy, Debug)]
pub struct LagSettings {
    /// Behind the newest message (ms of arrival time).
    pub lag_ms: u64,
    /// Behind the newest message (bytes).
    pub lag_bytes: u64,
    /// Jumps within [`LagSettings::skip_window_ms`].
    pub skips_max: u32,
    /// Over what time jumps are counted (ms).
    pub skip_window_ms: u64,
}

/// A player had to jump more often than it may.
#[derive(Debug, PartialEq, Eq)]
pub struct TooSlow;

/// See the module's head. What few players have at a time is not part of it: there are many.
#[derive(Debug)]
pub struct Play {
    /// The stream that is played.
    pub stream: StreamId,
    /// Its place in the stream's list of players.
    pub slot: u32,
    /// The message stream that carries it.
    pub message_stream_id: u32,
    /// Whether media is held back (`pause`).
    paused: bool,
    /// Headers are to be made when it is no longer paused.
    prelude_due: bool,
    audio: bool,
    video: bool,
    /// Sequence number of the next message.
    next: u64,
    /// Sequence number of the message since which it has missed nothing that it wants.
    since: u64,
    /// Headers to send before the next message. Invariant: not empty, and none while it is
    /// paused: a pause has no end, and each of many players could keep others alive.
    prelude: Option<Box<Bytes>>,
    /// Its jumps, once it has jumped.
    skips: Option<Box<Skips>>,
}

const _: () = assert!(size_of::<Play>() <= 48);

/// How often a player has jumped.
#[derive(Debug)]
struct Skips {
    /// Over the whole play.
    total: u32,
    /// Since `window_began`.
    in_window: u32,
    window_began: Time,
}

impl Play {
    /// A player that begins at `start`. A stream without a tape position, because nobody
    /// publishes it yet, begins with its first message.
    pub fn new(
        stream: StreamId,
        message_stream_id: u32,
        tape: &Tape,
        start: Start,
        chunk_size: u32,
    ) -> Self {
        let mut play = Self {
            stream,
            slot: 0,
            message_stream_id,
            paused: false,
            prelude_due: false,
            audio: true,
            video: true,
            next: tape.next_sequence(),
            since: if start == Start::Live { LOST } else { tape.next_sequence() },
            prelude: boxed(tape.live_prelude(chunk_size)),
            skips: None,
        };
        if start == Start::Keyframe {
            play.jump_to_start(tape, chunk_size);
        }
        play
    }

    /// Memory that it may hold in addition to itself (bytes). The headers have their gauge.
    pub const HELD_BYTES_MAX: usize = size_of::<Bytes>() + size_of::<Skips>();

    /// Jumps over the whole play.
    pub fn skips(&self) -> u32 {
        self.skips.as_ref().map_or(0, |skips| skips.total)
    }

    /// Holds media back, or goes on from where the player was. It goes on with the headers that
    /// it has not been sent. If those have changed in the meantime, it goes on after the change,
    /// since what was recorded before it needs headers that are gone.
    pub fn pause(&mut self, on: bool, tape: &Tape, chunk_size: u32) {
        self.paused = on;
        if on {
            self.prelude_due |= self.prelude.take().is_some();
        } else if std::mem::take(&mut self.prelude_due) {
            if tape.start_sequence().is_some_and(|start| start >= self.next) {
                return self.jump_to_start(tape, chunk_size);
            }
            if tape.headers_since() > self.next {
                self.next = tape.headers_since();
                self.since = self.since.max(self.next);
            }
            self.prelude = boxed(tape.live_prelude(chunk_size));
        }
    }

    /// Turns audio on or off.
    pub const fn receive_audio(&mut self, on: bool) {
        self.audio = on;
    }

    /// Turns video on or off. Turned on, it begins with the headers and the next GOP.
    pub fn receive_video(&mut self, on: bool, tape: &Tape, chunk_size: u32) {
        if on && !self.video {
            self.since = self.next;
            self.prelude_due = self.paused;
            self.prelude = boxed(tape.live_prelude(chunk_size)).filter(|_| !self.paused);
        }
        self.video = on;
    }

    /// Moves a cursor that fell off the tape or lags beyond the budget to the newest start
    /// point, with its headers. Without a newer start point a lagging cursor stays, and one
    /// that fell off goes on at the live edge: the headers in force are not those of what is
    /// left of its backlog, and at the end of the tape it would fall off again.
    pub fn catch_up(
        &mut self,
        tape: &Tape,
        now: Time,
        settings: &LagSettings,
        chunk_size: u32,
    ) -> Result<(), TooSlow> {
        if !self.lags(tape, now, settings) {
            return Ok(());
        }
        let fell_off = self.next < tape.first_sequence();
        if tape.start_sequence().is_some_and(|start| start > self.next) {
            self.jump_to_start(tape, chunk_size);
        } else if fell_off {
            self.next = tape.next_sequence();
            self.since = self.next;
            self.prelude = boxed(tape.live_prelude(chunk_size));
        } else {
            return Ok(());
        }
        self.note_skip(now, settings)
    }

    /// The prelude and the messages from the cursor on that this player wants, as slices, with
    /// `until_file` up to those that a memory file holds. `take` says whether there is room for
    /// one more. Returns whether that was all.
    pub fn gather<'t>(
        &'t self,
        tape: &'t Tape,
        until_file: bool,
        mut take: impl FnMut(&'t [u8]) -> bool,
    ) -> bool {
        if self.paused {
            return true;
        }
        if self.prelude.as_ref().is_some_and(|prelude| !take(prelude)) {
            return false;
        }
        let mut wanted = tape.from(self.next).filter(|entry| self.wants(entry));
        !(until_file && self.run(tape).is_some()) && wanted.all(|entry| take(&entry.wire))
    }

    /// What is to be sent next, if it lies in a memory file. With it whether that is all there is.
    pub fn file_run<'t>(&self, tape: &'t Tape) -> Option<(FileRun<'t>, bool)> {
        if self.paused || self.prelude.is_some() {
            return None;
        }
        self.run(tape)
    }

    /// The messages from the cursor on, one behind the other up to the first that this player
    /// does not want, if they lie in a memory file.
    fn run<'t>(&self, tape: &'t Tape) -> Option<(FileRun<'t>, bool)> {
        if !tape.has_segments() {
            return None;
        }
        let mut owed = tape.from(self.next).skip_while(|entry| !self.wants(entry));
        let first = owed.next()?;
        let last = owed.take_while(|entry| self.wants(entry)).last().unwrap_or(first);
        let run = tape.run(first.offset, last.offset + last.wire.len() as u64)?;
        let is_last = first.offset + run.len as u64 == tape.recorded_bytes();
        Some((run, is_last))
    }

    /// Takes `written` bytes of what [`Play::gather`] gave as sent and returns how many were
    /// not its own. A message sent in part leaves its rest in `partial`.
    pub fn advance(&mut self, tape: &Tape, mut written: usize, partial: &mut Bytes) -> usize {
        if self.paused {
            return written;
        }
        if written > 0
            && let Some(prelude) = self.prelude.take()
        {
            written = send(&prelude, written, partial);
        }
        for entry in tape.from(self.next) {
            if self.wants(entry) {
                if written == 0 {
                    break;
                }
                written = send(&entry.wire, written, partial);
            }
            self.next += 1;
        }
        written
    }

    /// Takes the next message to send, or the prelude, as a whole: for a player whose message
    /// stream id is not the tape's.
    pub fn take_next(&mut self, tape: &Tape) -> Option<Bytes> {
        if self.paused {
            return None;
        }
        if let Some(prelude) = self.prelude.take() {
            return Some(*prelude);
        }
        for entry in tape.from(self.next) {
            self.next += 1;
            if self.wants(entry) {
                return Some(entry.wire.clone());
            }
        }
        None
    }

    /// Whether something waits to be sent.
    pub fn has_pending(&self, tape: &Tape) -> bool {
        // What is not all has been stopped, by this or by a memory file.
        !self.gather(tape, true, |_| false)
    }

    const fn wants(&self, entry: &Entry) -> bool {
        let decodable = entry.needs >= self.since;
        decodable
            && match entry.media {
                MediaKind::Audio => self.audio,
                MediaKind::Video => self.video,
                MediaKind::Data => true,
            }
    }

    fn lags(&self, tape: &Tape, now: Time, settings: &LagSettings) -> bool {
        if self.paused {
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

    fn jump_to_start(&mut self, tape: &Tape, chunk_size: u32) {
        if let Some(start) = tape.start_sequence() {
            self.next = start;
            self.since = start;
            self.prelude = boxed(tape.start_prelude(chunk_size));
        }
    }

    fn note_skip(&mut self, now: Time, settings: &LagSettings) -> Result<(), TooSlow> {
        let first = || Box::new(Skips { total: 0, in_window: 0, window_began: now });
        let skips = self.skips.get_or_insert_with(first);
        skips.total += 1;
        if now.millis_since(skips.window_began) > settings.skip_window_ms {
            skips.window_began = now;
            skips.in_window = 0;
        }
        skips.in_window += 1;
        if skips.in_window > settings.skips_max { Err(TooSlow) } else { Ok(()) }
    }
}

fn boxed(prelude: Bytes) -> Option<Box<Bytes>> {
    (!prelude.is_empty()).then(|| Box::new(prelude))
}

/// Takes up to `written` bytes of `wire` as sent, and returns what is left of `written`. What is
/// left of `wire` is put into `partial`.
fn send(wire: &Bytes, written: usize, partial: &mut Bytes) -> usize {
    if written < wire.len() {
        *partial = wire.slice(written..);
    }
    written.saturating_sub(wire.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Tracks;
    use crate::server::gops::Needs;
    use crate::server::headers::HeaderKind;
    use crate::server::hub::Hub;
    use crate::server::tape::{Recording, TapeSettings};
    use crate::test_support::{self, wire_messages};

    const CHUNK_SIZE: u32 = 60_000;
    const TAPE: TapeSettings = TapeSettings { chunk_size: CHUNK_SIZE, ..test_support::TAPE };
    const LAG: LagSettings =
        LagSettings { lag_ms: 5000, lag_bytes: 1 << 20, skips_max: 2, skip_window_ms: 60_000 };
    /// A message of one payload byte with its chunk header.
    const WIRE_BYTES: u64 = 13;
    /// What it takes of a tape.
    const HELD_BYTES: usize = WIRE_BYTES as usize + size_of::<Entry>();

    fn at(millis: u64) -> Time {
        Time::ZERO.plus_millis(millis)
    }

    fn some_stream() -> StreamId {
        Hub::default().find_or_wait("live/a", 0).unwrap()
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
            let recording =
                Recording { media, tracks, needs, header, is_frame, timestamp, payload };
            tape.record(recording, true, at(millis), settings);
        }
    }

    fn names(wire: &[u8]) -> String {
        let messages = wire_messages(wire, CHUNK_SIZE);
        messages.iter().map(|(_, payload)| char::from(payload[0])).collect()
    }

    fn join(tape: &Tape, start: Start) -> Play {
        Play::new(some_stream(), 1, tape, start, CHUNK_SIZE)
    }

    fn pending(play: &Play, tape: &Tape) -> Vec<u8> {
        let mut wire = Vec::new();
        let is_all = play.gather(tape, true, |slice| {
            wire.extend_from_slice(slice);
            true
        });
        assert!(is_all, "nothing lies in a file");
        assert_eq!(play.has_pending(tape), !wire.is_empty());
        wire
    }

    /// What the player is sent when the transport takes all of it.
    fn sent(play: &mut Play, tape: &Tape) -> String {
        let wire = pending(play, tape);
        let mut partial = Bytes::new();
        assert_eq!(play.advance(tape, wire.len(), &mut partial), 0);
        assert!(partial.is_empty());
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
        off.receive_video(false, &tape, CHUNK_SIZE);
        sent(&mut old, &tape);
        sent(&mut off, &tape);
        record(&mut tape, "WKi", 40);
        assert_eq!(sent(&mut old, &tape), "WKi");
        assert_eq!(sent(&mut off, &tape), "");
        assert_eq!(sent(&mut join(&tape, Start::Keyframe), &tape), "WKi");
        off.receive_video(true, &tape, CHUNK_SIZE);
        record(&mut tape, "iKi", 80);
        assert_eq!(sent(&mut off, &tape), "WKi", "headers, then the next GOP");
    }

    #[test]
    fn turning_audio_off_and_on_leaves_video_as_it_is() {
        let mut tape = Tape::default();
        record(&mut tape, "Ki", 0);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        play.receive_audio(false);
        record(&mut tape, "aiad", 20);
        assert_eq!(sent(&mut play, &tape), "id");
        play.receive_audio(true);
        record(&mut tape, "ai", 40);
        assert_eq!(sent(&mut play, &tape), "ai");
    }

    #[test]
    fn a_paused_player_is_sent_nothing_and_goes_on_within_the_budget() {
        for (millis, resumed, skips) in [(4000, "iaKi", 0), (6000, "VKi", 1)] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            sent(&mut play, &tape);
            play.pause(true, &tape, CHUNK_SIZE);
            record(&mut tape, "ia", 40);
            record(&mut tape, "Ki", millis);
            play.catch_up(&tape, at(millis), &LAG, CHUNK_SIZE).unwrap();
            assert_eq!(sent(&mut play, &tape), "");
            assert!(play.take_next(&tape).is_none());
            play.pause(false, &tape, CHUNK_SIZE);
            play.catch_up(&tape, at(millis), &LAG, CHUNK_SIZE).unwrap();
            assert_eq!((sent(&mut play, &tape), play.skips()), (resumed.to_owned(), skips));
        }
    }

    #[test]
    fn a_player_that_is_paused_before_its_headers_are_sent_holds_none() {
        for (meanwhile, resumed) in [
            ("i", "VKii"),
            ("iKi", "VKi"),
            // Its keyframe needs headers that are gone.
            ("iWi", "WW"),
            ("iWiKi", "WKi"),
        ] {
            let mut tape = Tape::default();
            record(&mut tape, "VKi", 0);
            let mut play = join(&tape, Start::Keyframe);
            play.pause(true, &tape, CHUNK_SIZE);
            assert!(play.prelude.is_none());
            record(&mut tape, meanwhile, 40);
            play.pause(false, &tape, CHUNK_SIZE);
            play.catch_up(&tape, at(40), &LAG, CHUNK_SIZE).unwrap();
            assert_eq!(sent(&mut play, &tape), resumed, "after {meanwhile}");
        }
    }

    #[test]
    fn a_paused_player_that_turns_video_on_is_given_the_headers_when_it_goes_on() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        play.receive_video(false, &tape, CHUNK_SIZE);
        play.pause(true, &tape, CHUNK_SIZE);
        play.receive_video(true, &tape, CHUNK_SIZE);
        assert!(play.prelude.is_none());
        record(&mut tape, "iKi", 40);
        play.pause(false, &tape, CHUNK_SIZE);
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
            play.catch_up(&tape, at(millis), &LAG, CHUNK_SIZE).unwrap();
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
            play.catch_up(&tape, at(0), &settings, CHUNK_SIZE).unwrap();
            assert_eq!(sent(&mut play, &tape), expected);
        }
    }

    #[test]
    fn without_a_newer_start_a_lagging_player_stays_where_it_is() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let mut play = join(&tape, Start::Keyframe);
        play.catch_up(&tape, at(20_000), &LAG, CHUNK_SIZE).unwrap();
        assert_eq!((sent(&mut play, &tape), play.skips()), ("VKi".to_owned(), 0));
    }

    #[test]
    fn who_falls_off_a_tape_without_a_start_goes_on_at_the_live_edge() {
        let mut tape = Tape::default();
        let settings = TapeSettings { bytes_max: 3 * HELD_BYTES, ..TAPE };
        record_with(&mut tape, "VK", 0, &settings);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        record_with(&mut tape, "iiiaiai", 20, &settings);
        play.catch_up(&tape, at(20), &LAG, CHUNK_SIZE).unwrap();
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
        play.catch_up(&tape, at(20), &LAG, CHUNK_SIZE).unwrap();
        record_with(&mut tape, "a", 40, &settings);
        assert_eq!(sent(&mut play, &tape), "Ba");
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
                results.push(play.catch_up(&tape, at(millis), &LAG, CHUNK_SIZE));
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
            let (mut play, mut partial, mut wire) =
                (join(&tape, Start::Keyframe), Bytes::new(), Vec::new());
            loop {
                let mut offered = partial.to_vec();
                offered.extend(pending(&play, &tape));
                if offered.is_empty() {
                    break;
                }
                let taken = step.min(offered.len());
                wire.extend_from_slice(&offered[..taken]);
                let of_partial = taken.min(partial.len());
                bytes::Buf::advance(&mut partial, of_partial);
                play.advance(&tape, taken - of_partial, &mut partial);
            }
            assert_eq!(names(&wire), "AVKiai", "{step} bytes at a time");
        }
    }

    #[test]
    fn a_skip_leaves_a_half_sent_message_alone() {
        let mut tape = Tape::default();
        record(&mut tape, "VKi", 0);
        let mut play = join(&tape, Start::Keyframe);
        sent(&mut play, &tape);
        record(&mut tape, "ia", 10);
        let (mut wire, mut partial) = (pending(&play, &tape), Bytes::new());
        wire.truncate(5);
        assert_eq!(play.advance(&tape, 5, &mut partial), 0);
        record(&mut tape, "Ki", 6000);
        play.catch_up(&tape, at(6000), &LAG, CHUNK_SIZE).unwrap();
        wire.extend_from_slice(&partial);
        wire.extend(pending(&play, &tape));
        assert_eq!(names(&wire), "iVKi");
    }

    #[test]
    fn messages_are_taken_one_by_one_for_readdressing() {
        let mut tape = Tape::default();
        record(&mut tape, "VAKai", 0);
        let mut play = join(&tape, Start::Keyframe);
        play.receive_audio(false);
        let taken: Vec<_> =
            std::iter::from_fn(|| play.take_next(&tape)).map(|wire| names(&wire)).collect();
        assert_eq!(taken, ["AV", "K", "i"]);
    }
}
