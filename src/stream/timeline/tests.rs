//! Tests of the timestamps that players receive.

use super::*;
use crate::media::{classify_audio, classify_video};
use Repair::{Backward, ClockAhead, ClockBack, ClockWrap, ClocksApart, Frozen, Stray};

const fn at(ms: u64) -> Time {
    Time::ZERO.plus_millis(ms)
}

/// A message: a frame of audio or video on track 0 or another one, or a message without a frame.
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
    /// The first message of the next publisher, a frame of video.
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
            AudioHeader => self.place_non_frame(audio, one, timestamp, now),
            VideoHeader => self.place_non_frame(video, one, timestamp, now),
            Data => self.place_non_frame(MediaKind::Data, &Tracks::NONE, timestamp, now),
            Return => {
                self.resume();
                self.place(Video, timestamp, ms)
            }
        }
    }
}

/// Sends messages (message, its timestamp, arrival in ms, expected timestamp of players), and
/// checks the repairs of the last publisher.
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

/// Sends messages whose timestamps must pass unchanged.
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
fn a_step_back_of_more_than_a_second_is_a_clock_restart_for_all_tracks() {
    for back in [1001, 5000, 600_000] {
        let start = 900_000;
        check(
            &[
                (Video, start, 0, start),
                (Audio, start - 5, 5, start - 5),
                (Video, start - back, 40, start + 40),
                // A late frame from before the jump.
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
    // Audio has stepped back by less than counts as another clock.
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
fn a_frozen_clock_is_replaced_by_the_arrival_time_after_25_frames_and_2_seconds() {
    for (every_ms, frozen_from_ms) in [(20, 2000), (100, 2500), (40, 2000)] {
        let mut timeline = Timeline::default();
        for ms in (0..5000).step_by(every_ms) {
            let expected = if ms < frozen_from_ms { 7 } else { 7 + ms as u32 };
            assert_eq!(timeline.place(Video, 7, ms), expected, "at {ms} ms");
        }
        let frozen = (5000 - frozen_from_ms) / every_ms as u64;
        assert_eq!(u64::from(timeline.repairs.count(Frozen)), frozen);
        // The clock moves again from where it stood.
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
    // No time has passed, and the clock continues all the same.
    check(&[(Video, 100, 0, 100), (Return, 100, 0, 101)], &[]);
    // The clock wraps around.
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
    // How far audio is behind video, and how far it is before the last audio of the players.
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
