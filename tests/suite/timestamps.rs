//! What players receive of clocks that misbehave: time never runs back within a track, tracks stay
//! in step, and the closing line says what was repaired. The rules with their numbers are tested
//! in `stream/timeline.rs`.

use tiderace::config::Settings;
use tiderace::server::conn::ClosingLine;

use crate::wire::{
    AUDIO, AVC_CONFIG, AVC_FRAME, AVC_KEYFRAME, DATA, Message, VIDEO, command, hex, null, number,
    object, string, video,
};
use crate::world::{ClientHandle, World};

const OPUS_SECOND_TRACK: &str = "95 01 4f707573 01 fc";
const HEVC_SECOND_CONFIG: &str = "96 00 68766331 01 0101";
const HEVC_SECOND_KEYFRAME: &str = "96 01 68766331 01 000000 26aa";

fn sound(timestamp: u32) -> Message {
    Message::new(4, AUDIO, hex("af01 21")).on(1).at(timestamp)
}

fn second_sound(timestamp: u32) -> Message {
    Message::new(4, AUDIO, hex(OPUS_SECOND_TRACK)).on(1).at(timestamp)
}

fn keyframe(timestamp: u32) -> Message {
    video(timestamp, AVC_KEYFRAME)
}

fn picture(timestamp: u32) -> Message {
    video(timestamp, AVC_FRAME)
}

/// A publisher, and a player that was there before it.
struct Stream {
    world: World,
    publisher: ClientHandle,
    player: ClientHandle,
}

impl Stream {
    fn new() -> Self {
        let mut world = World::new(Settings::default());
        let player = world.playing("cam");
        let publisher = world.publishing("cam");
        world[player].take_messages();
        Self { world, publisher, player }
    }

    /// Publishes `messages`, and then lets time pass. Returns what the player gets, as type and
    /// timestamp.
    fn say(&mut self, messages: &[Message], then_ms: u64) -> Vec<(u8, u32)> {
        self.world.say(self.publisher, messages);
        let received = self.world[self.player].take_messages();
        self.world.advance_ms(then_ms);
        let media = received.iter().filter(|message| message.is_media());
        media.map(|message| (message.kind, message.timestamp)).collect()
    }

    /// What the closing line says of the publisher once it has gone.
    fn tolerated(&mut self) -> String {
        let delete = command("deleteStream", 0.0, &[null(), number(1.0)]);
        self.world.say(self.publisher, &[delete]);
        let conn = self.world.conn(self.publisher).expect("it lives");
        let (now, access) = (self.world.now(), self.world.server.access());
        let line = ClosingLine { conn, now, access }.to_string();
        line.split_once("; tolerated: ").expect("something is tolerated").1.to_owned()
    }
}

#[test]
fn a_restarted_clock_goes_on_for_all_tracks_in_step() {
    let mut stream = Stream::new();
    let begin = [video(5000, AVC_CONFIG), keyframe(5000), sound(4990), second_sound(5001)];
    stream.say(&begin, 40);
    let again = [video(0, AVC_CONFIG), keyframe(0), second_sound(5003), sound(2), second_sound(13)];
    assert_eq!(
        stream.say(&again, 40),
        [(VIDEO, 5000), (VIDEO, 5041), (AUDIO, 5003), (AUDIO, 5043), (AUDIO, 5054)]
    );
    let after = [picture(40), sound(23), second_sound(34)];
    assert_eq!(stream.say(&after, 0), [(VIDEO, 5081), (AUDIO, 5064), (AUDIO, 5075)]);
    let said = ", 1 clock jump back, 1 header or data off the clock";
    assert!(stream.tolerated().ends_with(said));
}

#[test]
fn steps_back_are_raised_on_their_own_track() {
    let mut stream = Stream::new();
    let hevc = |timestamp, payload| video(timestamp, payload);
    stream.say(&[hevc(0, HEVC_SECOND_CONFIG), video(0, AVC_CONFIG), keyframe(1000)], 0);
    let messages = [
        hevc(900, HEVC_SECOND_KEYFRAME),
        picture(960),
        hevc(940, HEVC_SECOND_KEYFRAME),
        hevc(930, HEVC_SECOND_KEYFRAME),
        picture(1040),
    ];
    let times: Vec<_> = stream.say(&messages, 0).iter().map(|(_, time)| *time).collect();
    assert_eq!(times, [900, 1000, 940, 940, 1040]);
    assert!(stream.tolerated().ends_with(", 2 backward timestamps"));
}

#[test]
fn a_gap_is_followed_up_to_ten_seconds_and_closed_beyond() {
    // 40 ms of the gap have really passed.
    for (gap, received, is_jump) in [(10_000, 11_040, false), (10_001, 1040, true)] {
        let mut stream = Stream::new();
        stream.say(&[video(1000, AVC_CONFIG), keyframe(1000)], 40);
        let messages = [picture(1000 + gap + 40)];
        assert_eq!(stream.say(&messages, 0), [(VIDEO, received)]);
        let tolerated = stream.tolerated();
        assert_eq!(tolerated.contains("clock jump"), is_jump, "{gap}: {tolerated}");
        assert_eq!(tolerated.contains("1 clock jump ahead"), is_jump, "{tolerated}");
    }
}

#[test]
fn a_frozen_clock_moves_with_the_time_of_arrival() {
    let mut stream = Stream::new();
    stream.say(&[video(0, AVC_CONFIG), keyframe(0)], 40);
    let mut times = Vec::new();
    for _ in 1..100 {
        times.extend(stream.say(&[picture(0), sound(0)], 40));
    }
    // From 25 frames and 2 s on.
    for (index, pair) in times.chunks(2).enumerate() {
        let ms = 40 * (index as u32 + 1);
        let video = if ms < 2000 { 0 } else { ms };
        let audio = if ms < 2040 { 0 } else { ms };
        assert_eq!(pair, [(VIDEO, video), (AUDIO, audio)]);
    }
    assert!(stream.tolerated().ends_with(", 99 frames of a frozen clock"));
}

#[test]
fn tracks_of_different_clocks_are_in_step_for_who_joins_late() {
    let mut stream = Stream::new();
    let wall = 0xcfe5_6000;
    stream.say(&[video(wall, AVC_CONFIG), keyframe(wall), sound(0)], 40);
    stream.say(&[keyframe(wall + 40), sound(21), sound(42)], 0);
    let late = stream.world.playing("cam");
    let joined = stream.world[late].media().into_iter().map(|m| (m.kind, m.timestamp));
    let at = |ms| wall + ms;
    assert_eq!(
        joined.collect::<Vec<_>>(),
        [(VIDEO, at(40)), (VIDEO, at(40)), (AUDIO, at(22)), (AUDIO, at(43))]
    );
    assert!(stream.tolerated().ends_with(", 1 track on a clock of its own"));
}

#[test]
fn a_publisher_that_returns_goes_on_and_answers_for_its_own_clock_alone() {
    let mut stream = Stream::new();
    stream.say(&[video(500, AVC_CONFIG), keyframe(500), sound(490), picture(460)], 1000);
    assert!(stream.tolerated().ends_with(", 1 backward timestamp"));
    stream.publisher = stream.world.publishing("cam");
    let messages = [video(0, AVC_CONFIG), sound(7000), keyframe(6800), sound(7021), picture(7040)];
    assert_eq!(
        stream.say(&messages, 0),
        [(VIDEO, 500), (AUDIO, 1500), (VIDEO, 1300), (AUDIO, 1521), (VIDEO, 1540)]
    );
    stream.say(&[picture(7030)], 0);
    assert!(stream.tolerated().ends_with("connect object, 1 backward timestamp"));
}

#[test]
fn data_has_the_time_of_the_frames_beside_it() {
    let mut stream = Stream::new();
    let cue = |timestamp| {
        let payload = [string("onTextData"), object(&[("text", string("x"))])].concat();
        Message::new(4, DATA, payload).on(1).at(timestamp)
    };
    let messages =
        [cue(0), video(9000, AVC_CONFIG), keyframe(90_000), cue(90_000), cue(0), cue(90_010)];
    let data = stream.say(&messages, 0).into_iter().filter(|(kind, _)| *kind == DATA);
    let times: Vec<_> = data.map(|(_, time)| time).collect();
    assert_eq!(times, [0, 90_000, 90_000, 90_010], "the first one came before every frame");
    assert!(stream.tolerated().ends_with(", 1 header or data off the clock"));
}
