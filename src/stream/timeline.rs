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
mod tests {
    use super::*;
    use crate::media::{classify_audio, classify_video};
    use Repair::{Backward, ClockAhead, ClockBack, ClockWrap, ClocksApart, Frozen, Stray};

    const fn at(ms: u64) -> Time {
        Time::ZERO.plus_millis(ms)
    }

    /// What is sent: a frame of audio or video, on track 0 or others, or something else.
    #[derive(Clone, Copy, Debug)]
    enum Sent {
        Audio,
        Video,
        AudioTrack(u8),
        /// One message with frames of two tracks.
        VideoTracks(u8, u8),
        AudioHeader,
        VideoHeader,
        Data,
        /// The publisher is gone, and this is the first of the next one: a frame of video.
        Return,
    }
    use Sent::{Audio, AudioHeader, AudioTrack, Data, Return, Video, VideoHeader, VideoTracks};

    fn audio_track(track: u8) -> Tracks {
        classify_audio(&[0x95, 0x01, b'O', b'p', b'u', b's', track]).unwrap().tracks
    }

    fn video_tracks(first: u8, second: u8) -> Tracks {
        let mut payload = b"\x96\x11hvc1".to_vec();
        [first, second].iter().for_each(|id| payload.extend([*id, 0, 0, 0]));
        classify_video(&payload).unwrap().tracks
    }

    impl Timeline {
        fn place(&mut self, sent: Sent, timestamp: u32, ms: u64) -> u32 {
            let (audio, video, now) = (MediaKind::Audio, MediaKind::Video, at(ms));
            let one = &Tracks::DEFAULT;
            match sent {
                Audio => self.place_frame(audio, one, timestamp, now),
                Video => self.place_frame(video, one, timestamp, now),
                AudioTrack(track) => self.place_frame(audio, &audio_track(track), timestamp, now),
                VideoTracks(a, b) => self.place_frame(video, &video_tracks(a, b), timestamp, now),
                AudioHeader => self.place_aside(audio, one, timestamp, now),
                VideoHeader => self.place_aside(video, one, timestamp, now),
                Data => self.place_aside(MediaKind::Data, &Tracks::NONE, timestamp, now),
                Return => {
                    self.resume();
                    self.place(Video, timestamp, ms)
                }
            }
        }
    }

    /// Sends one after the other (what, its timestamp, when in ms, what players receive), and
    /// expects these repairs of the last publisher.
    #[track_caller]
    fn check(messages: &[(Sent, u32, u64, u32)], repairs: &[(Repair, u32)]) {
        let mut timeline = Timeline::default();
        for (index, &(sent, timestamp, ms, expected)) in messages.iter().enumerate() {
            let placed = timeline.place(sent, timestamp, ms);
            assert_eq!(placed, expected, "message {index}, {sent:?} at {timestamp}");
        }
        let counted: Vec<_> =
            Repair::ALL.iter().map(|repair| (*repair, timeline.repairs.count(*repair))).collect();
        let counted: Vec<_> = counted.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, repairs);
    }

    /// The same with what passes as it is.
    #[track_caller]
    fn check_passes(messages: &[(Sent, u32, u64)]) {
        let same = |&(sent, timestamp, ms): &(Sent, u32, u64)| (sent, timestamp, ms, timestamp);
        check(&messages.iter().map(same).collect::<Vec<_>>(), &[]);
    }

    #[test]
    fn clocks_that_are_right_pass_whatever_they_start_at_and_however_they_are_interleaved() {
        for start in [0, 90_000, 0x00ff_fff0, 0x7fff_fff0, 0xcfe5_6000, 0xffff_fff0_u32] {
            let at = |ms: u32| start.wrapping_add(ms);
            check_passes(&[
                (VideoHeader, at(0), 0),
                (AudioHeader, at(0), 0),
                (Video, at(40), 10),
                (Audio, at(0), 10),
                (Audio, at(21), 11),
                (Video, at(80), 11),
                (Data, at(60), 11),
                (VideoHeader, at(120), 12),
                (Video, at(120), 12),
                (Audio, at(42), 300),
                (Audio, at(42), 300),
                (AudioTrack(3), at(20), 301),
                (Data, at(120), 301),
            ]);
        }
    }

    #[test]
    fn a_small_step_back_is_raised_to_the_last_frame_of_its_track_alone() {
        check(
            &[
                (Video, 1120, 0, 1120),
                (Audio, 1000, 0, 1000),
                (Video, 1040, 40, 1120),
                (Video, 1080, 80, 1120),
                (Audio, 1021, 81, 1021),
                (Video, 120, 120, 1120),
                (Video, 1240, 160, 1240),
            ],
            &[(Backward, 3)],
        );
    }

    #[test]
    fn a_step_back_of_more_than_a_second_is_a_clock_that_began_anew_for_all_tracks() {
        for back in [1001, 5000, 600_000] {
            let start = 900_000;
            check(
                &[
                    (Video, start, 0, start),
                    (Audio, start - 5, 5, start - 5),
                    (Video, start - back, 40, start + 40),
                    // Of before the jump, and late.
                    (Audio, start + 16, 42, start + 16),
                    (Audio, start - back + 3, 43, start + 43),
                    (Video, start - back + 40, 80, start + 80),
                ],
                &[(ClockBack, 1)],
            );
        }
    }

    #[test]
    fn a_track_goes_over_to_the_other_clock_rather_than_step_back() {
        // Audio has stepped back by less than is taken for another clock.
        check(
            &[
                (Video, 50_000, 0, 50_000),
                (Audio, 49_990, 0, 49_990),
                (Video, 48_998, 40, 50_040),
                (Audio, 48_999, 41, 50_041),
            ],
            &[(ClockBack, 1)],
        );
    }

    #[test]
    fn a_track_goes_over_to_the_other_clock_up_to_a_second_beyond_the_newest_frame() {
        let (apart, ahead) = ((ClocksApart, 1), (ClockAhead, 1));
        for (ahead_ms, passed_ms, placed_ms, repairs) in [
            (1000, 0, 1000, &[apart][..]),
            (1001, 0, 1, &[ahead, apart]),
            (1500, 500, 1500, &[apart]),
            (1501, 500, 500, &[ahead, apart]),
        ] {
            check(
                &[
                    (Video, 0, 0, 0),
                    (Audio, 3_000_000_000, 5, 5),
                    (Video, 40, 40, 40),
                    (Audio, 40 + ahead_ms, 40 + passed_ms, 40 + placed_ms),
                ],
                repairs,
            );
        }
    }

    #[test]
    fn a_single_stray_timestamp_leaves_no_trace_on_the_clock() {
        check(
            &[
                (Video, 60_000, 0, 60_000),
                (Audio, 60_001, 1, 60_001),
                (Video, 0, 40, 60_040),
                (Video, 60_080, 80, 60_080),
                (Audio, 60_081, 81, 60_081),
            ],
            &[(ClockBack, 1)],
        );
    }

    #[test]
    fn the_clock_of_31_bits_goes_on_with_32() {
        check(
            &[
                (Video, 0x7fff_fff0, 0, 0x7fff_fff0),
                (Audio, 0x7fff_fffa, 0, 0x7fff_fffa),
                (Audio, 0x0000_0011, 7, 0x8000_0011),
                (Video, 0x7fff_ffff, 8, 0x7fff_ffff),
                (Video, 0x0000_0018, 50, 0x8000_0018),
                (Audio, 0x0000_0026, 90, 0x8000_0026),
            ],
            &[(ClockWrap, 1)],
        );
    }

    #[test]
    fn a_gap_is_followed_up_to_ten_seconds_beyond_the_time_that_passed() {
        for (gap, ms, expected, repairs) in [
            (10_000, 0, 10_000, &[][..]),
            (10_001, 0, 1, &[(ClockAhead, 1)]),
            (70_000, 60_000, 70_000, &[]),
            (70_001, 60_000, 60_000, &[(ClockAhead, 1)]),
        ] {
            let messages = [
                (Video, 500, 0, 500),
                (Audio, 480, 0, 480),
                (Video, 500 + gap, ms, 500 + expected),
                (Audio, 505 + gap, ms, 505 + expected),
                (Video, 540 + gap, ms + 40, 540 + expected),
            ];
            check(&messages, repairs);
        }
    }

    #[test]
    fn tracks_that_begin_far_apart_have_a_clock_each() {
        for (video, audio) in [(3_000_000_000, 0), (0, 3_000_000_000), (10_011, 10)] {
            check(
                &[
                    (Video, video, 0, video),
                    (Audio, audio, 5, video + 5),
                    (Video, video + 40, 40, video + 40),
                    (Audio, audio + 21, 41, video + 26),
                    (Audio, audio + 42, 45, video + 47),
                    (Video, video + 80, 80, video + 80),
                ],
                &[(ClocksApart, 1)],
            );
        }
        check_passes(&[(Video, 10_010, 0), (Audio, 10, 5), (Video, 10_050, 40), (Audio, 31, 41)]);
    }

    #[test]
    fn more_clocks_than_two_come_down_to_the_time_of_arrival() {
        let mut timeline = Timeline::default();
        let clocks = [(Video, 0), (Audio, 1_000_000), (AudioTrack(1), 2_000_000)];
        let mut last = [0; 3];
        for ms in (0..2000).step_by(40) {
            for (last, (track, clock)) in last.iter_mut().zip(clocks) {
                let placed = timeline.place(track, clock + ms, ms.into());
                assert!(placed >= *last && placed.abs_diff(ms) <= 100, "{track:?}: {placed}");
                *last = placed;
            }
        }
    }

    #[test]
    fn a_frozen_clock_gives_way_to_the_time_of_arrival_after_25_frames_and_2_seconds() {
        for (every_ms, frozen_from_ms) in [(20, 2000), (100, 2500), (40, 2000)] {
            let mut timeline = Timeline::default();
            for ms in (0..5000).step_by(every_ms) {
                let expected = if ms < frozen_from_ms { 7 } else { 7 + ms as u32 };
                assert_eq!(timeline.place(Video, 7, ms), expected, "at {ms} ms");
            }
            let frozen = (5000 - frozen_from_ms) / every_ms as u64;
            assert_eq!(u64::from(timeline.repairs.count(Frozen)), frozen);
            // It moves again from where it stood.
            let last = timeline.place(Video, 7, 5000);
            assert_eq!(timeline.place(Video, 47, 5040), last + 40);
        }
    }

    #[test]
    fn a_frozen_track_keeps_up_with_one_that_moves() {
        let mut timeline = Timeline::default();
        for ms in (0..10_000).step_by(20) {
            assert_eq!(timeline.place(Audio, ms, ms.into()), ms, "audio passes");
            let video = timeline.place(Video, 0, ms.into());
            assert_eq!(video, if ms < 2000 { 0 } else { ms });
        }
    }

    #[test]
    fn parts_of_milliseconds_are_not_lost_on_a_frozen_clock() {
        let mut timeline = Timeline::default();
        let mut placed = 0;
        for frame in 0..60_000 {
            let now = Time::from_micros(frame * 16_667);
            placed = timeline.place_frame(MediaKind::Video, &Tracks::DEFAULT, 0, now);
        }
        assert_eq!(placed, 59_999 * 16_667 / 1000);
    }

    #[test]
    fn what_is_stamped_0_beside_the_frames_gets_their_time() {
        check(
            &[
                (VideoHeader, 0, 0, 0),
                (Video, 90_000, 0, 90_000),
                (AudioHeader, 0, 0, 90_000),
                (Audio, 89_990, 1, 90_000),
                (Audio, 90_011, 1, 90_011),
                (VideoHeader, 0, 30, 90_000),
                (Video, 90_040, 40, 90_040),
                (Data, 0, 41, 90_040),
                (Data, 90_035, 42, 90_040),
                (Data, 90_045, 43, 90_045),
                (VideoHeader, 0, 45, 90_040),
            ],
            &[(Stray, 5)],
        );
    }

    #[test]
    fn a_returning_publisher_goes_on_where_the_stream_would_be() {
        check(
            &[
                (Video, 7000, 0, 7000),
                (Audio, 6990, 0, 6990),
                (Return, 90_000, 500, 7500),
                (Audio, 90_010, 500, 7510),
                (Video, 90_040, 540, 7540),
                (Audio, 90_031, 541, 7531),
            ],
            &[],
        );
        // At once, the clock goes on all the same.
        check(&[(Video, 100, 0, 100), (Return, 100, 0, 101)], &[]);
        // And around.
        let last = u32::MAX - 99;
        check(&[(Video, last, 0, last), (Return, 0, 500, 400), (Video, 40, 540, 440)], &[]);
    }

    #[test]
    fn headers_and_data_of_a_returning_publisher_fix_no_clock() {
        let mut timeline = Timeline::default();
        timeline.place(Video, 7000, 0);
        timeline.resume();
        for aside in [VideoHeader, AudioHeader, Data] {
            assert_eq!(timeline.place(aside, 0, 400), 7000);
        }
        assert_eq!(timeline.place(Video, 90_000, 500), 7500);
        assert!(timeline.repairs.is_empty());
    }

    #[test]
    fn the_tracks_of_a_returning_publisher_stay_as_far_apart_as_it_sends_them() {
        // Audio is so far behind video, and stands so far before what players have had of it.
        for (behind, moved) in [(400, 0), (500, 0), (501, 1), (2000, 1500), (9000, 8500)] {
            let audio = 90_000 - behind;
            let placed = |sent: u32| sent - 90_000 + 7500 + moved;
            check(
                &[
                    (Video, 7000, 0, 7000),
                    (Audio, 7000, 0, 7000),
                    (Return, 90_000, 500, 7500),
                    (Audio, audio, 500, 7500 + moved - behind),
                    (Audio, audio + 21, 500, 7521 + moved - behind),
                    (Video, 90_040, 540, placed(90_040)),
                    (VideoHeader, 90_080, 540, placed(90_080)),
                    (Audio, audio + 43, 541, 7543 + moved - behind),
                    (Video, 90_080, 580, placed(90_080)),
                ],
                &[],
            );
        }
    }

    #[test]
    fn headers_that_precede_the_frames_of_a_returning_publisher_move_no_track() {
        check(
            &[
                (Video, 7000, 0, 7000),
                (Audio, 6000, 0, 6000),
                (Return, 90_000, 500, 7500),
                (AudioHeader, 0, 500, 6000),
                (Audio, 88_000, 500, 6000),
                (Audio, 88_021, 500, 6021),
                (Video, 90_040, 540, 8040),
            ],
            &[(Stray, 1)],
        );
    }

    #[test]
    fn one_message_of_several_tracks_is_behind_none_of_them() {
        let both = VideoTracks(0, 1);
        let second = VideoTracks(1, 2);
        check(
            &[
                (both, 1000, 0, 1000),
                (second, 1100, 0, 1100),
                (Video, 1040, 40, 1040),
                (both, 1080, 80, 1100),
                (Video, 1120, 120, 1120),
            ],
            &[(Backward, 1)],
        );
    }

    #[test]
    fn tracks_beyond_the_seventh_are_never_before_one_another() {
        check(
            &[
                (AudioTrack(6), 1000, 0, 1000),
                (AudioTrack(5), 900, 0, 900),
                (AudioTrack(7), 1000, 0, 1000),
                (AudioTrack(255), 900, 0, 1000),
            ],
            &[(Backward, 1)],
        );
    }

    #[test]
    fn whatever_is_sent_no_track_goes_back() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32 % below
        };
        let (mut timeline, mut last) = (Timeline::default(), [None; 3]);
        let (mut ms, mut clock) = (0, 0_u32);
        for index in 0..200_000 {
            ms += u64::from(random(50));
            clock = match random(200) {
                0 => random(u32::MAX),
                1 => clock.wrapping_sub(random(3000)),
                2 => clock.wrapping_add(random(30_000)),
                3 => clock ^ 1 << 31,
                4 => 0,
                _ => clock.wrapping_add(random(50)),
            };
            if random(5000) == 0 {
                timeline.resume();
            }
            let track = random(3) as usize;
            let placed = timeline.place([Audio, Video, AudioTrack(2)][track], clock, ms);
            let before = last[track].replace(placed);
            assert!(before.is_none_or(|before| step(before, placed) >= 0), "frame {index}");
        }
    }
}
