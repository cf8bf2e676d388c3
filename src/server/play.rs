//! One player of one stream: a cursor on the tape and what it wants of it.
//!
//! A cursor stands at a message boundary. What is half sent belongs to the connection; a skip
//! moves only the cursor. A gap in the video ends at a start point, after its headers.

use super::hub::StreamId;
use super::tape::{Entry, Needs, Tape};
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

/// See the module's head.
#[derive(Debug)]
pub struct Play {
    /// The stream that is played.
    pub stream: StreamId,
    /// Its place in the stream's list of players.
    pub slot: usize,
    /// The message stream that carries it.
    pub message_stream_id: u32,
    /// Jumps over the whole play.
    pub skips: u32,
    /// Whether media is held back (`pause`).
    pub paused: bool,
    /// Sequence number of the next message.
    next: u64,
    /// Headers to send before it.
    prelude: Bytes,
    /// Set until a GOP begins.
    awaits_gop: bool,
    audio: bool,
    video: bool,
    skips_in_window: u32,
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
            skips: 0,
            paused: false,
            next: tape.next_sequence(),
            prelude: tape.live_prelude(chunk_size),
            awaits_gop: start != Start::Live,
            audio: true,
            video: true,
            skips_in_window: 0,
            window_began: Time::ZERO,
        };
        if start == Start::Keyframe {
            play.jump_to_start(tape, chunk_size);
        }
        play
    }

    /// Turns audio on or off.
    pub const fn receive_audio(&mut self, on: bool) {
        self.audio = on;
    }

    /// Turns video on or off. Turned on, it begins with the headers and the next GOP.
    pub fn receive_video(&mut self, on: bool, tape: &Tape, chunk_size: u32) {
        if on && !self.video {
            self.awaits_gop = true;
            self.prelude = tape.live_prelude(chunk_size);
        }
        self.video = on;
    }

    /// Moves a cursor that fell off the tape or lags beyond the budget to the newest start
    /// point, with its headers. Without a newer start point a lagging cursor stays, and one
    /// that fell off waits for the next GOP.
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
            self.next = tape.first_sequence();
            self.prelude = tape.live_prelude(chunk_size);
            self.awaits_gop = true;
        } else {
            return Ok(());
        }
        self.note_skip(now, settings)
    }

    /// The prelude and the messages from the cursor on that this player wants, as slices.
    /// `take` says whether there is room for one more.
    pub fn gather<'t>(&'t self, tape: &'t Tape, mut take: impl FnMut(&'t [u8]) -> bool) {
        if self.paused || (!self.prelude.is_empty() && !take(&self.prelude)) {
            return;
        }
        let mut awaits_gop = self.awaits_gop;
        for entry in tape.from(self.next) {
            if self.wants(entry, &mut awaits_gop) && !take(&entry.wire) {
                return;
            }
        }
    }

    /// Takes `written` bytes of what [`Play::gather`] gave as sent and returns how many were
    /// not its own. A message sent in part leaves its rest in `partial`.
    pub fn advance(&mut self, tape: &Tape, mut written: usize, partial: &mut Bytes) -> usize {
        if self.paused {
            return written;
        }
        if !self.prelude.is_empty() && written > 0 {
            let mut prelude = std::mem::take(&mut self.prelude);
            written = send(&mut prelude, written);
            *partial = prelude;
        }
        for entry in tape.from(self.next) {
            let mut awaits_gop = self.awaits_gop;
            if self.wants(entry, &mut awaits_gop) {
                if written == 0 {
                    break;
                }
                let mut wire = entry.wire.clone();
                written = send(&mut wire, written);
                *partial = wire;
            }
            self.awaits_gop = awaits_gop;
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
        if !self.prelude.is_empty() {
            return Some(std::mem::take(&mut self.prelude));
        }
        for entry in tape.from(self.next) {
            let mut awaits_gop = self.awaits_gop;
            let wanted = self.wants(entry, &mut awaits_gop);
            self.awaits_gop = awaits_gop;
            self.next += 1;
            if wanted {
                return Some(entry.wire.clone());
            }
        }
        None
    }

    /// Whether something waits to be sent.
    pub fn has_pending(&self, tape: &Tape) -> bool {
        let mut pending = false;
        self.gather(tape, |_| {
            pending = true;
            false
        });
        pending
    }

    fn wants(&self, entry: &Entry, awaits_gop: &mut bool) -> bool {
        match entry.needs {
            Needs::StartsGop => *awaits_gop &= !self.video,
            Needs::Gop if *awaits_gop => return false,
            Needs::Gop | Needs::Nothing => {}
        }
        match entry.media {
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
            self.prelude = tape.start_prelude(chunk_size);
            self.awaits_gop = false;
        }
    }

    fn note_skip(&mut self, now: Time, settings: &LagSettings) -> Result<(), TooSlow> {
        self.skips += 1;
        if now.millis_since(self.window_began) > settings.skip_window_ms {
            self.window_began = now;
            self.skips_in_window = 0;
        }
        self.skips_in_window += 1;
        if self.skips_in_window > settings.skips_max { Err(TooSlow) } else { Ok(()) }
    }
}

/// Takes up to `written` bytes off the front of `wire`; returns what is left of `written`.
fn send(wire: &mut Bytes, written: usize) -> usize {
    let sent = written.min(wire.len());
    bytes::Buf::advance(wire, sent);
    written - sent
}
