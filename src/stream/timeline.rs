//! The timestamps that the players of a stream receive.
//!
//! Owns the rule that maps a publisher's clocks to the time of the stream, and the state for it.
//! Never reads a clock: the arrival time is an argument.
//!
//! Within a track, timestamps of players never go back, in serial arithmetic over 2^32 ms. The
//! timestamps of a correct clock pass unchanged. Tracks are not compared with each other: the
//! publisher decides which is ahead, and how they are interleaved. The rule for a frame:
//!
//! 1. A frame belongs to a clock if it is at most [`GAP_MS_MAX`] ahead of the newest frame of the
//!    stream, plus the time that has passed since, and not before the last frame of its track. The
//!    first frame of a track may be [`GAP_MS_MAX`] behind the newest frame of the others. The frame
//!    keeps its time. So gaps up to that length are kept, although players wait for their end. Gaps
//!    in which nothing arrived are kept at any length.
//! 2. A frame up to [`BACK_MS_MAX`] before the last frame of its track gets the timestamp of that
//!    frame.
//! 3. A frame further back or ahead belongs to another clock. After a wrap at 2^31 the time
//!    continues where 32 bits would have. Otherwise it continues where the stream would be by the
//!    time that has passed. A stream has two clocks, so that late frames of the previous clock are
//!    still recognized, and so that audio and video may have one each. A track keeps its clock
//!    while that fits, and prefers the other clock to a new one, so tracks that jump together stay
//!    in step. With more than two clocks, timestamps follow the arrival time.
//! 4. A track whose timestamp has stood still for [`FROZEN_FRAMES`] frames and [`FROZEN_MS`] gets
//!    the arrival time until its timestamp moves.
//! 5. Some encoders stamp headers, data and the end of a sequence 0, so these move no clock. If
//!    they fit no clock, they get the timestamp of the last frame of their track, or of the newest
//!    frame of the stream. Before the first frame they pass unchanged.
//!
//! A publisher that returns continues where the stream would be by then. Its tracks stay as far
//! apart as it sends them: if players have received a later frame of a track than the first one
//! that it sends, all clocks of the publisher move ahead by the difference. Repairs are counted by
//! their kind. The state has a fixed size: tracks from [`OWN_TRACKS`] on share one entry, so
//! timestamps do not go back among them either.

use crate::media::{MediaKind, Tracks};
use crate::rtmp::quirks::{Repair, Repairs};
use crate::time::Time;

/// The furthest that a frame may be ahead of its stream, or that the tracks of a publisher may be
/// apart when they start (ms). ffmpeg delays tracks by up to this time to interleave them.
const GAP_MS_MAX: i32 = 10_000;

/// The largest step back that counts as frames out of order (ms). It covers an encoder that sends
/// presentation times, with a few reordered frames at the lowest frame rates. A larger bound would
/// freeze the timestamps for too long after a clock was set back.
const BACK_MS_MAX: i32 = 1000;

/// How close to the newest frame a frame must be to move its track to the other clock (ms).
const OTHER_CLOCK_MS_MAX: i32 = 1000;

/// Frames of a track with the same timestamp before its clock counts as frozen. A clock that counts
/// whole seconds is not frozen.
const FROZEN_FRAMES: u16 = 25;

/// Time in which these frames must have arrived, at least (ms).
const FROZEN_MS: u64 = 2000;

/// Track ids of audio, and of video, that have an entry of their own.
const OWN_TRACKS: u8 = 7;

const SLOTS_PER_KIND: usize = OWN_TRACKS as usize + 1;
const DATA_SLOT: usize = 2 * SLOTS_PER_KIND;

/// Maps the timestamps of a publisher to those of the stream. See the module's head.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Added to the timestamps of each of the publisher's clocks.
    offsets: [u32; 2],
    /// The clock of the last frame.
    clock: u8,
    /// Set until a returning publisher sends its first frame, which fixes its clock.
    returns: bool,
    /// The newest timestamp, and the arrival time that belongs to it.
    newest: Option<(u32, Time)>,
    tracks: [Track; DATA_SLOT + 1],
    repairs: Repairs,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    state: State,
    clock: u8,
    /// Consecutive frames that repeated the timestamp of the frame before.
    repeats: u16,
    /// The last timestamp that players were sent.
    placed: u32,
    /// The last timestamp that the publisher sent.
    sent: u32,
    /// When the first frame with that timestamp arrived.
    since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No message of the track has arrived.
    Unheard,
    /// Only headers of the track have arrived, and the timeline chose their timestamp. The offset
    /// to other tracks is unknown, so an earlier frame does not count as a repair.
    Pending,
    /// Players have frames of the track from the previous publisher.
    Resumed,
    /// This publisher has sent frames of the track.
    Heard,
}

/// Relation of a timestamp to its track and to the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    InOrder,
    /// Slightly before the last frame of the track.
    Late,
    /// Of another clock.
    No,
}

impl Default for Timeline {
    fn default() -> Self {
        let track = Track {
            state: State::Unheard,
            clock: 0,
            repeats: 0,
            placed: 0,
            sent: 0,
            since: Time::ZERO,
        };
        Self {
            offsets: [0; 2],
            clock: 0,
            returns: false,
            newest: None,
            tracks: [track; DATA_SLOT + 1],
            repairs: Repairs::default(),
        }
    }
}

impl Timeline {
    /// Prepares for another publisher, or for the same one after its return.
    pub(crate) fn resume(&mut self) {
        self.returns = true;
        self.repairs = Repairs::default();
        for track in self.tracks.iter_mut().filter(|track| track.state == State::Heard) {
            track.state = State::Resumed;
        }
    }

    /// Returns the repairs to the timestamps of this publisher.
    pub(crate) const fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// Returns the time on the stream of a frame with the publisher's timestamp `sent`.
    pub(crate) fn place_frame(
        &mut self,
        media: MediaKind,
        tracks: &Tracks,
        sent: u32,
        now: Time,
    ) -> u32 {
        let first = slot(media, tracks.first());
        let placed = self.place_on(first, sent, now);
        if *tracks == Tracks::DEFAULT {
            return placed;
        }
        // The message has one timestamp for several tracks, and none of them may go back.
        let slots = || tracks.iter().map(|track| slot(media, Some(track)));
        let raised = slots().fold(placed, |placed, slot| self.newest_of(slot, placed));
        if raised != placed {
            self.repairs.note(Repair::Backward);
        }
        let memory = Track { placed: raised, ..self.tracks[first] };
        slots().for_each(|slot| self.tracks[slot] = memory);
        raised
    }

    /// Returns the time on the stream of a header, data or an end of sequence. No clock moves.
    pub(crate) fn place_non_frame(
        &mut self,
        media: MediaKind,
        tracks: &Tracks,
        sent: u32,
        now: Time,
    ) -> u32 {
        let Some((newest, _)) = self.newest else { return sent };
        let slot = slot(media, tracks.first());
        let track = self.tracks[slot];
        let is_data = media == MediaKind::Data;
        let is_heard = track.state == State::Heard && !is_data;
        // A header does not move a track that has frames. Otherwise the first frame of a returning
        // publisher could be before it.
        let has_frames = is_heard || track.state == State::Resumed && !is_data;
        let clock = if is_heard { track.clock } else { self.clock };
        let fitting = self.find_clock(Fit::InOrder, &track, clock, sent, now);
        let placed = match fitting.filter(|_| !self.returns) {
            Some(clock) => self.on_clock(clock, sent),
            None if has_frames => track.placed,
            None => self.newest_of(slot, newest),
        };
        if fitting.is_none() && !self.returns {
            self.repairs.note(Repair::Stray);
        }
        let track = &mut self.tracks[slot];
        track.placed = placed;
        if !has_frames {
            track.state = if is_data { State::Heard } else { State::Pending };
        }
        placed
    }

    fn place_on(&mut self, slot: usize, sent: u32, now: Time) -> u32 {
        let Some((newest, _)) = self.newest else {
            self.newest = Some((sent, now));
            self.returns = false;
            return self.note_frame(slot, self.clock, sent, sent, now);
        };
        let track = self.tracks[slot];
        let placed = self.on_clock(track.clock, sent);
        let is_usual = track.state == State::Heard
            && sent != track.sent
            && step(track.placed, placed) >= 0
            && step(newest, placed) <= GAP_MS_MAX;
        if is_usual && !self.returns {
            return self.note_frame(slot, track.clock, sent, placed, now);
        }
        self.place_irregular(slot, sent, now)
    }

    /// Places a frame that is not simply the next one of its track.
    #[cold]
    fn place_irregular(&mut self, slot: usize, sent: u32, now: Time) -> u32 {
        let track = self.tracks[slot];
        if self.returns {
            self.returns = false;
            let offset = self.resume_at(slot, now).wrapping_sub(sent);
            (self.offsets, self.clock) = ([offset; 2], 0);
        } else if track.state == State::Heard && track.sent == sent {
            return self.repeat(slot, now);
        }
        let clock = if track.state == State::Heard { track.clock } else { self.clock };
        if let Some(clock) = self.find_clock(Fit::InOrder, &track, clock, sent, now) {
            let placed = self.on_clock(clock, sent);
            return self.note_frame(slot, clock, sent, placed, now);
        }
        if let Some(clock) = self.find_clock(Fit::Late, &track, clock, sent, now) {
            if track.state == State::Resumed {
                self.move_ahead(step(self.on_clock(clock, sent), track.placed).unsigned_abs());
            }
            self.note_frame(slot, clock, sent, track.placed, now);
            match track.state {
                State::Heard => self.repairs.note(Repair::Backward),
                // The next frame may be before the header as well.
                State::Pending => self.tracks[slot].state = State::Pending,
                State::Resumed | State::Unheard => {}
            }
            return track.placed;
        }
        self.begin_clock(slot, clock, sent, now)
    }

    /// Moves the clocks of the publisher and the newest timestamp ahead by `ms`.
    fn move_ahead(&mut self, ms: u32) {
        self.offsets = self.offsets.map(|offset| offset.wrapping_add(ms));
        if let Some((newest, _)) = &mut self.newest {
            *newest = newest.wrapping_add(ms);
        }
    }

    /// Places a frame with the same timestamp as the frame before.
    fn repeat(&mut self, slot: usize, now: Time) -> u32 {
        let mut track = self.tracks[slot];
        track.repeats = track.repeats.saturating_add(1);
        let is_frozen =
            track.repeats >= FROZEN_FRAMES && now.millis_since(track.since) >= FROZEN_MS;
        if is_frozen && let Some((newest, at)) = &mut self.newest {
            // The arrival time moves by the whole milliseconds that are added, so that fractions
            // are not lost with each frame.
            let passed = passed_ms(*at, now);
            (*newest, *at) = (newest.wrapping_add(passed), at.plus_millis(passed.into()));
            track.placed = later(track.placed, *newest);
            self.repairs.note(Repair::Frozen);
        }
        self.tracks[slot] = track;
        track.placed
    }

    /// Places a frame that fits neither clock. Its clock replaces the one that was not used last.
    fn begin_clock(&mut self, slot: usize, clock: u8, sent: u32, now: Time) -> u32 {
        const HALF: u32 = 1 << 31;
        let track = self.tracks[slot];
        let placed = self.on_clock(clock, sent);
        let (placed, repair) = if self.fit(&track, placed ^ HALF, GAP_MS_MAX, now) == Fit::InOrder {
            (placed ^ HALF, Repair::ClockWrap)
        } else {
            let repair = match track.state {
                State::Heard if step(track.placed, placed) < 0 => Repair::ClockBack,
                State::Heard => Repair::ClockAhead,
                State::Unheard | State::Pending | State::Resumed => Repair::ClocksApart,
            };
            (self.resume_at(slot, now), repair)
        };
        // The clock of the last frame stays: other tracks may still use it, and late frames of it
        // are expected.
        let begun = 1 - self.clock;
        self.offsets[usize::from(begun)] = placed.wrapping_sub(sent);
        self.repairs.note(repair);
        self.note_frame(slot, begun, sent, placed, now)
    }

    /// Returns the clock that a timestamp fits in the given way. `own`, the clock of the track, has
    /// precedence.
    fn find_clock(&self, fit: Fit, track: &Track, own: u8, sent: u32, now: Time) -> Option<u8> {
        let fits = |&(clock, ahead_max): &(u8, i32)| {
            self.fit(track, self.on_clock(clock, sent), ahead_max, now) == fit
        };
        let clocks = [(own, GAP_MS_MAX), (1 - own, OTHER_CLOCK_MS_MAX)];
        clocks.iter().find(|clock| fits(clock)).map(|(clock, _)| *clock)
    }

    /// Returns how the timestamp `placed` fits its track and the stream. It may be `ahead_max` ms
    /// ahead of the stream.
    fn fit(&self, track: &Track, placed: u32, ahead_max: i32, now: Time) -> Fit {
        let Some((newest, at)) = self.newest else { return Fit::InOrder };
        let ahead = step(newest, placed);
        // The time that has really passed counts in favour of the frame: after a pause of the
        // publisher its clock is as far ahead, and is right.
        let is_ahead = ahead > ahead_max.saturating_add(passed_ms(at, now) as i32);
        // This bound holds only for a track without a frame of this publisher. Afterwards the track
        // is compared with itself: how far tracks are apart is left to the publisher.
        let is_behind = ahead < -GAP_MS_MAX;
        let back_max = match track.state {
            State::Unheard if is_ahead || is_behind => return Fit::No,
            State::Unheard => return Fit::InOrder,
            State::Pending | State::Resumed if is_behind => return Fit::No,
            State::Pending | State::Resumed => GAP_MS_MAX,
            State::Heard => BACK_MS_MAX,
        };
        match step(track.placed, placed) {
            _ if is_ahead => Fit::No,
            0.. => Fit::InOrder,
            back if back >= -back_max => Fit::Late,
            _ => Fit::No,
        }
    }

    /// Returns where the stream continues by the time that has passed. At least a millisecond is
    /// added, so that the order stays strict.
    fn resume_at(&self, slot: usize, now: Time) -> u32 {
        let (newest, at) = self.newest.unwrap_or((0, now));
        self.newest_of(slot, newest.wrapping_add(passed_ms(at, now).max(1)))
    }

    /// Returns `placed`, or the last timestamp of the track if that is later.
    fn newest_of(&self, slot: usize, placed: u32) -> u32 {
        let track = &self.tracks[slot];
        if track.state == State::Unheard { placed } else { later(track.placed, placed) }
    }

    fn on_clock(&self, clock: u8, sent: u32) -> u32 {
        sent.wrapping_add(self.offsets[usize::from(clock)])
    }

    /// Notes a frame at `placed`, and returns `placed`.
    fn note_frame(&mut self, slot: usize, clock: u8, sent: u32, placed: u32, now: Time) -> u32 {
        let state = State::Heard;
        self.tracks[slot] = Track { state, clock, repeats: 0, placed, sent, since: now };
        self.clock = clock;
        if let Some((newest, at)) = &mut self.newest
            && step(*newest, placed) > 0
        {
            (*newest, *at) = (placed, now);
        }
        placed
    }
}

/// Returns the distance from one timestamp to another in serial arithmetic (ms). Negative is back.
const fn step(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

const fn later(one: u32, other: u32) -> u32 {
    if step(one, other) > 0 { other } else { one }
}

/// Returns the milliseconds since `at`, capped so that adding them does not wrap around.
fn passed_ms(at: Time, now: Time) -> u32 {
    now.millis_since(at).min(u64::from(u32::MAX / 4)) as u32
}

fn slot(media: MediaKind, track: Option<u8>) -> usize {
    let track = usize::from(track.unwrap_or(OWN_TRACKS).min(OWN_TRACKS));
    match media {
        MediaKind::Audio => track,
        MediaKind::Video => SLOTS_PER_KIND + track,
        MediaKind::Data => DATA_SLOT,
    }
}

#[cfg(test)]
mod tests;
