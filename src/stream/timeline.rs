//! The timestamps of a stream, as its players see them.
//!
//! Owns the rule by which a publisher's clocks become the stream's, and what it remembers of the
//! past for that. Never reads a clock: the time of arrival is an argument.
//!
//! What players receive never goes back within a track, in serial arithmetic over 2^32 ms, and a
//! clock that is right passes bit for bit. Tracks are not held against each other: which of them
//! is ahead, and how they are interleaved, is the publisher's affair. The rule, for a frame:
//!
//! 1. It belongs to a clock if it is at most [`GAP_MS_MAX`] beyond the newest frame of the stream,
//!    counting the time that has really passed since, and not before the last frame of its track;
//!    the first frame of a track may be [`GAP_MS_MAX`] behind the newest of the others. It is
//!    stamped with its time. So a gap up to there is followed, although players wait for its end,
//!    and so is one in which nothing arrived.
//! 2. A frame up to [`BACK_MS_MAX`] before the last of its track is stamped like that one.
//! 3. A frame further back or ahead is of another clock. At 2^31 that goes on where 32 bits
//!    would have, else where the stream would be by the time that has passed. A stream has two
//!    clocks, so that frames that come late from the one before are still known, and so that
//!    audio and video may have one each. A track keeps to its clock while that fits, and goes
//!    over to the other one rather than to a new one: tracks that jump together stay in step. With
//!    more clocks than two it comes down to the time of arrival.
//! 4. A track whose timestamp has stood still for [`FROZEN_FRAMES`] frames and [`FROZEN_MS`] is
//!    stamped with the time of arrival until it moves.
//! 5. Headers, data and the end of a sequence are stamped 0 by some encoders and move no clock.
//!    What does not belong to one is stamped like the last frame of its track, or like the newest
//!    of the stream. Before the first frame nothing is known, and they pass.
//!
//! A publisher that returns goes on where the stream would be by then. Its tracks stay as far apart
//! as it sends them: if players have had a later frame of a track than its first one, all clocks
//! of the publisher move ahead by the difference. Each repair is counted by its kind. What is
//! remembered is of a fixed size: tracks from [`OWN_TRACKS`] on share one memory, so that they are
//! never before one another.

use crate::media::{MediaKind, Tracks};
use crate::rtmp::quirks::{Repair, Repairs};
use crate::time::Time;

/// The furthest that a frame may stand beyond what its stream has come to, or the tracks of a
/// publisher from each other when they begin (ms). ffmpeg holds tracks back for so long to put
/// them in order.
const GAP_MS_MAX: i32 = 10_000;

/// The furthest step back that is taken for frames out of order (ms): that of an encoder that sends
/// presentation times, with some frames in between at the lowest rates. A clock that was set back
/// further would stand still for too long.
const BACK_MS_MAX: i32 = 1000;

/// How close to the newest frame a track must come to go over to the other clock (ms).
const OTHER_CLOCK_MS_MAX: i32 = 1000;

/// Frames of a track with the same timestamp before it counts as frozen. A clock that counts
/// seconds is slow and not frozen.
const FROZEN_FRAMES: u16 = 25;

/// How long they must have taken to arrive (ms).
const FROZEN_MS: u64 = 2000;

/// Track ids of audio, and of video, that have a memory of their own.
const OWN_TRACKS: u8 = 7;

const SLOTS_PER_KIND: usize = OWN_TRACKS as usize + 1;
const DATA_SLOT: usize = 2 * SLOTS_PER_KIND;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// What is added to the timestamps of the publisher's clocks.
    offsets: [u32; 2],
    /// The clock of the last frame.
    clock: u8,
    /// Set while a returning publisher has not sent its first frame, which fixes its clock.
    returns: bool,
    /// The newest timestamp and when it was the time.
    newest: Option<(u32, Time)>,
    tracks: [Track; DATA_SLOT + 1],
    repairs: Repairs,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    state: State,
    clock: u8,
    /// Frames in a row that repeated the timestamp of the one before.
    repeats: u16,
    /// What players were sent last.
    placed: u32,
    /// What the publisher sent last.
    sent: u32,
    /// When a frame first came with that.
    since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unheard,
    /// Players were sent a header of it that was stamped here. How it stands to the others is not
    /// known, so that the publisher is not to blame for what stands before that.
    Pending,
    /// Players were sent frames of it by the publisher before.
    Resumed,
    Heard,
}

/// How a timestamp stands to its track and the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    InOrder,
    /// Before the last frame of the track, by little.
    Late,
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
    /// From here on the publisher is another one, or the same back again.
    pub(crate) fn resume(&mut self) {
        self.returns = true;
        self.repairs = Repairs::default();
        for track in self.tracks.iter_mut().filter(|track| track.state == State::Heard) {
            track.state = State::Resumed;
        }
    }

    /// What was repaired of the timestamps of this publisher.
    pub(crate) const fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// The stream's time of a frame that the publisher has stamped `sent`.
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
        // One timestamp for several tracks: none of them may go back.
        let slots = || tracks.iter().map(|track| slot(media, Some(track)));
        let raised = slots().fold(placed, |placed, slot| self.newest_of(slot, placed));
        if raised != placed {
            self.repairs.note(Repair::Backward);
        }
        let memory = Track { placed: raised, ..self.tracks[first] };
        slots().for_each(|slot| self.tracks[slot] = memory);
        raised
    }

    /// The same for what is no frame.
    pub(crate) fn place_aside(
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
        // A header moves no track, or the first frame of a returning publisher stood before it.
        let has_frames = is_heard || track.state == State::Resumed && !is_data;
        let clock = if is_heard { track.clock } else { self.clock };
        let fitting = self.clock_that(Fit::InOrder, &track, clock, sent, now);
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
            return self.keep(slot, self.clock, sent, sent, now);
        };
        let track = self.tracks[slot];
        let placed = self.on_clock(track.clock, sent);
        let is_usual = track.state == State::Heard
            && sent != track.sent
            && step(track.placed, placed) >= 0
            && step(newest, placed) <= GAP_MS_MAX;
        if is_usual && !self.returns {
            return self.keep(slot, track.clock, sent, placed, now);
        }
        self.place_oddity(slot, sent, now)
    }

    /// Everything but the next frame of a track that is in order.
    #[cold]
    fn place_oddity(&mut self, slot: usize, sent: u32, now: Time) -> u32 {
        let track = self.tracks[slot];
        if self.returns {
            self.returns = false;
            let offset = self.goes_on_at(slot, now).wrapping_sub(sent);
            (self.offsets, self.clock) = ([offset; 2], 0);
        } else if track.state == State::Heard && track.sent == sent {
            return self.repeat(slot, now);
        }
        let clock = if track.state == State::Heard { track.clock } else { self.clock };
        if let Some(clock) = self.clock_that(Fit::InOrder, &track, clock, sent, now) {
            let placed = self.on_clock(clock, sent);
            return self.keep(slot, clock, sent, placed, now);
        }
        if let Some(clock) = self.clock_that(Fit::Late, &track, clock, sent, now) {
            if track.state == State::Resumed {
                self.move_ahead(step(self.on_clock(clock, sent), track.placed).unsigned_abs());
            }
            self.keep(slot, clock, sent, track.placed, now);
            match track.state {
                State::Heard => self.repairs.note(Repair::Backward),
                // The next one may stand before it as well.
                State::Pending => self.tracks[slot].state = State::Pending,
                State::Resumed | State::Unheard => {}
            }
            return track.placed;
        }
        self.begin_clock(slot, clock, sent, now)
    }

    /// Moves the clocks of the publisher, and how far its stream has come, by `ms`.
    fn move_ahead(&mut self, ms: u32) {
        self.offsets = self.offsets.map(|offset| offset.wrapping_add(ms));
        if let Some((newest, _)) = &mut self.newest {
            *newest = newest.wrapping_add(ms);
        }
    }

    /// A frame with the timestamp of the one before.
    fn repeat(&mut self, slot: usize, now: Time) -> u32 {
        let mut track = self.tracks[slot];
        track.repeats = track.repeats.saturating_add(1);
        let is_frozen =
            track.repeats >= FROZEN_FRAMES && now.millis_since(track.since) >= FROZEN_MS;
        if is_frozen && let Some((newest, at)) = &mut self.newest {
            // Whole milliseconds only, so that their parts are not lost with each frame.
            let passed = passed_ms(*at, now);
            (*newest, *at) = (newest.wrapping_add(passed), at.plus_millis(passed.into()));
            track.placed = later(track.placed, *newest);
            self.repairs.note(Repair::Frozen);
        }
        self.tracks[slot] = track;
        track.placed
    }

    /// A frame that belongs to neither clock: it takes the place of the one that was not used
    /// last.
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
            (self.goes_on_at(slot, now), repair)
        };
        let begun = 1 - self.clock;
        self.offsets[usize::from(begun)] = placed.wrapping_sub(sent);
        self.repairs.note(repair);
        self.keep(slot, begun, sent, placed, now)
    }

    /// The clock to which a timestamp belongs in the given way: that of the track first.
    fn clock_that(&self, fit: Fit, track: &Track, own: u8, sent: u32, now: Time) -> Option<u8> {
        let fits = |&(clock, ahead_max): &(u8, i32)| {
            self.fit(track, self.on_clock(clock, sent), ahead_max, now) == fit
        };
        let clocks = [(own, GAP_MS_MAX), (1 - own, OTHER_CLOCK_MS_MAX)];
        clocks.iter().find(|clock| fits(clock)).map(|(clock, _)| *clock)
    }

    fn fit(&self, track: &Track, placed: u32, ahead_max: i32, now: Time) -> Fit {
        let Some((newest, at)) = self.newest else { return Fit::InOrder };
        let ahead = step(newest, placed);
        let is_ahead = ahead > ahead_max.saturating_add(passed_ms(at, now) as i32);
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

    /// Where the stream goes on by the time that has passed. A millisecond at least keeps the
    /// order strict.
    fn goes_on_at(&self, slot: usize, now: Time) -> u32 {
        let (newest, at) = self.newest.unwrap_or((0, now));
        self.newest_of(slot, newest.wrapping_add(passed_ms(at, now).max(1)))
    }

    /// `placed`, unless the track has come further.
    fn newest_of(&self, slot: usize, placed: u32) -> u32 {
        let track = &self.tracks[slot];
        if track.state == State::Unheard { placed } else { later(track.placed, placed) }
    }

    fn on_clock(&self, clock: u8, sent: u32) -> u32 {
        sent.wrapping_add(self.offsets[usize::from(clock)])
    }

    /// Notes a frame, and returns its time.
    fn keep(&mut self, slot: usize, clock: u8, sent: u32, placed: u32, now: Time) -> u32 {
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

/// From one timestamp to another in serial arithmetic; negative is back.
const fn step(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

const fn later(one: u32, other: u32) -> u32 {
    if step(one, other) > 0 { other } else { one }
}

/// Milliseconds since `at`, as far as they can be added without turning around.
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
