//! Pictures as odd encoders send them: in several messages, without marks, seldom, or in another
//! codec than before. Whoever joins must get what its decoder needs, and nothing that confuses it.

use std::time::Duration;

use tiderace::config::{Settings, Start};
use tiderace::server::reason::CloseReason;

use crate::frames::{labels, publish, publish_sized, stream_command, take_labels};
use crate::wire::{self, AUDIO, Message, VIDEO};
use crate::world::{ClientHandle, World};

const AVC_HEADER: &str = "17 00 000000 0142c00affe100096742c00ada0f0a688001000468ce3c80";
const AAC_HEADER: &str = "af 00 1210";
const SLICES: [&str; 3] = ["00000003 658884", "00000003 650c84", "00000003 650684"];
const INTER: &str = "00000003 419a24";

/// A message of H.264 that is marked as a keyframe or not.
fn h264(is_marked: bool, timestamp: u32, units: &str) -> Message {
    let head = if is_marked { "17" } else { "27" };
    wire::video(timestamp, &format!("{head} 01 000000 {units}"))
}

fn audio(timestamp: u32, payload: &str) -> Message {
    Message::new(4, AUDIO, wire::hex(payload)).on(1).at(timestamp)
}

fn payloads(world: &World, client: ClientHandle, kind: u8) -> Vec<Vec<u8>> {
    world[client].of_kind(kind).iter().map(|message| message.payload.clone()).collect()
}

fn video_payloads(world: &World, client: ClientHandle) -> Vec<Vec<u8>> {
    payloads(world, client, VIDEO)
}

fn tolerated(world: &World, publisher: ClientHandle) -> String {
    world.conn(publisher).expect("a publisher").peer.session().unwrap().tolerated().to_string()
}

#[test]
fn a_late_player_gets_all_messages_of_the_newest_keyframe() {
    let parameters = "00000003 6742c0 00000002 68ce";
    let picture =
        |marked: [bool; 3]| -> Vec<(bool, &str)> { marked.into_iter().zip(SLICES).collect() };
    for (name, key_picture) in [
        ("one message", vec![(true, SLICES[0])]),
        ("slices", picture([true, true, true])),
        ("the first slice is marked", picture([true, false, false])),
        ("the last slice is marked", picture([false, false, true])),
        ("parameter sets are marked", vec![(true, parameters), (true, SLICES[0])]),
        ("parameter sets are not marked", vec![(false, parameters), (true, SLICES[0])]),
    ] {
        for has_players in [false, true] {
            let mut world = World::new(Settings::default());
            let publisher = world.publishing("cam");
            let early = has_players.then(|| world.playing("cam"));
            world.say(publisher, &[wire::video(0, AVC_HEADER), audio(0, AAC_HEADER)]);
            for frame in 0..6 {
                let at = frame * 40;
                let units = if frame % 3 == 0 { &key_picture[..] } else { &[(false, INTER)] };
                for (is_marked, units) in units {
                    world.say(publisher, &[h264(*is_marked, at, units), audio(at, "af 01 21")]);
                }
            }
            let late = world.playing("cam");
            let mut expected = vec![wire::hex(AVC_HEADER)];
            let key =
                key_picture.iter().map(|(is_marked, units)| h264(*is_marked, 0, units).payload);
            expected.extend(key);
            expected.extend([160, 200].map(|at| h264(false, at, INTER).payload));
            assert_eq!(video_payloads(&world, late), expected, "{name}, players: {has_players}");
            if let Some(early) = early {
                // Nothing tells that the first parameter sets belong to a keyframe.
                let is_lost =
                    |(is_marked, units): &&(bool, &str)| !is_marked && *units == parameters;
                let lost = key_picture.iter().filter(is_lost).count();
                let all = 1 + 2 * key_picture.len() + 4 - lost;
                assert_eq!(video_payloads(&world, early).len(), all, "{name}");
            }
        }
    }
}

#[test]
fn a_player_that_joins_within_a_picture_waits_for_the_next_whole_one() {
    let mut settings = Settings::default();
    settings.play.start = Start::NextKeyframe;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    world.say(publisher, &[wire::video(0, AVC_HEADER), h264(true, 0, SLICES[0])]);
    let player = world.playing("cam");
    world.say(publisher, &[h264(true, 0, SLICES[1]), h264(false, 40, INTER)]);
    assert_eq!(video_payloads(&world, player), [wire::hex(AVC_HEADER)]);
    world.say(publisher, &SLICES.map(|slice| h264(true, 80, slice)));
    assert_eq!(video_payloads(&world, player).len(), 1 + SLICES.len());
}

#[test]
fn a_skip_ends_at_the_first_slice_of_a_keyframe() {
    let mut settings = Settings::default();
    settings.play.lag_ms = 1000;
    let mut world = World::new(settings);
    world.socket_bytes = 4096;
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world.say(publisher, &[wire::video(0, AVC_HEADER), h264(true, 0, SLICES[0])]);
    world[player].reads = false;
    world[player].take_messages();
    let large = format!("00000400 41{}", "9a".repeat(1023));
    for frame in 1..50 {
        world.say(publisher, &[h264(false, frame * 40, &large)]);
        world.advance_ms(40);
    }
    world.say(publisher, &SLICES.map(|slice| h264(true, 2000, slice)));
    world[player].reads = true;
    world.run();
    let slices = SLICES.map(|slice| h264(true, 0, slice).payload);
    let received = video_payloads(&world, player);
    assert!(received.ends_with(&[vec![wire::hex(AVC_HEADER)], slices.to_vec()].concat()));
    assert_eq!(world.conn(player).unwrap().activity.as_ref().unwrap().plays[0].skips(), 1);
}

#[test]
fn a_publisher_that_returns_begins_with_a_whole_picture() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world.say(publisher, &[wire::video(0, AVC_HEADER), h264(true, 40, SLICES[0])]);
    world[publisher].finish();
    world.run();
    let second = world.publishing("cam");
    world[player].take_messages();
    // The same timestamp as the last picture of the first publisher.
    world.say(second, &SLICES.map(|slice| h264(true, 40, slice)));
    let late = world.playing("cam");
    for client in [player, late] {
        assert_eq!(video_payloads(&world, client).len(), SLICES.len());
    }
}

/// Sends frames of H.264 or H.265 as inter frames, 25 a second; each tenth is `keyframe`.
fn unmarked(world: &mut World, publisher: ClientHandle, head: &str, keyframe: &str, inter: &str) {
    for frame in 0..100 {
        let units = if frame % 10 == 0 { keyframe } else { inter };
        world.say(publisher, &[wire::video(frame * 40, &format!("{head} {units}"))]);
    }
}

#[test]
fn keyframes_that_nobody_marks_are_found() {
    for (head, keyframe, inter) in [
        ("27 01 000000", SLICES[0], INTER),
        // A recovery point of an encoder that refreshes its picture little by little.
        ("27 01 000000", "00000004 060601c0 00000003 419a24", INTER),
        // H.265 by the legacy id, enhanced with and without composition time.
        ("2c 01 000000", "00000003 2601af", "00000003 0201d0"),
        ("a1 68766331 000000", "00000003 2a01af", "00000003 0201d0"),
        ("a3 68766331", "00000003 2801af", "00000003 0201d0"),
        ("a3 61763031", "12000a0b000000043d8724daf9404032a80b1400", "12003204 30000000"),
    ] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let early = world.playing("cam");
        unmarked(&mut world, publisher, head, keyframe, inter);
        let late = world.playing("cam");
        assert_eq!(video_payloads(&world, early).len(), 100, "{head}");
        let received = video_payloads(&world, late);
        assert_eq!(received[0], wire::hex(&format!("{head} {keyframe}")), "{head}");
        assert_eq!(received.len(), 10, "{head}");
        assert!(tolerated(&world, publisher).contains("keyframes not marked"));
    }
}

#[test]
fn a_stream_without_keyframes_is_seen_from_its_third_second_on() {
    // Slices, and what is no unit.
    for inter in [INTER, "00000003 2119a2", "ffff"] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let early = world.playing("cam");
        unmarked(&mut world, publisher, "27 01 000000", inter, inter);
        assert_eq!(video_payloads(&world, early).len(), 50, "{inter:?}");
        let late = world.playing("cam");
        world.say(publisher, &[h264(false, 4000, INTER)]);
        assert_eq!(video_payloads(&world, late).len(), 1, "{inter:?}");
    }
}

#[test]
fn a_stream_that_marks_its_keyframes_is_not_looked_into() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, &[h264(true, 0, SLICES[0])]);
    for frame in 1..100 {
        world.say(publisher, &[h264(false, frame * 40, SLICES[0])]);
    }
    let late = world.playing("cam");
    assert_eq!(video_payloads(&world, late).len(), 100, "all of the GOP that is marked");
    assert!(!tolerated(&world, publisher).contains("keyframes"));
}

#[test]
fn a_gop_of_four_minutes_is_kept_for_late_players() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    for second in 1..240 {
        world.advance_ms(1000);
        publish(&mut world, publisher, &format!("i{second}"), second * 1000);
    }
    let late = world.player("cam");
    let received = take_labels(&mut world, late);
    assert!(received.starts_with("V1 K1 i1 i2 ") && received.ends_with(" i239"), "{received}");
    assert_eq!(world.server.stats().gops_cut, 0);
    publish(&mut world, publisher, "K240", 240_000);
    let later = world.player("cam");
    assert_eq!(labels(&world, later), "V1 K240");
    assert_eq!(take_labels(&mut world, late), "K240");
    assert_eq!(world.conn(late).unwrap().activity.as_ref().unwrap().plays[0].skips(), 0);
}

#[test]
fn a_gop_that_does_not_fit_is_counted_and_the_next_one_is_kept() {
    let mut settings = Settings::default();
    settings.limits.tape_bytes_max = 1 << 20;
    let mut world = World::new(settings);
    let publisher = world.publisher("cam");
    for gop in 0..3 {
        publish(&mut world, publisher, &format!("K{gop}"), gop * 1000);
        for frame in 1..=12 {
            publish_sized(&mut world, publisher, "i1", gop * 1000 + frame * 40, 100_000);
        }
    }
    assert_eq!(world.server.stats().gops_cut, 3);
    publish(&mut world, publisher, "K9", 9000);
    let late = world.player("cam");
    assert_eq!(labels(&world, late), "K9");
}

#[test]
fn a_recovery_point_serves_where_the_gop_does_not_fit() {
    let mut settings = Settings::default();
    settings.limits.tape_bytes_max = 1 << 20;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    world[publisher].send(&[h264(true, 0, SLICES[0])]);
    let large = format!("00008000 41{}", "9a".repeat(0x7fff));
    for frame in 1..=40 {
        let point = if frame == 38 { "00000004 060601c0 " } else { "" };
        world.say(publisher, &[h264(false, frame * 40, &format!("{point}{large}"))]);
    }
    assert_eq!(world.server.stats().gops_cut, 1);
    let late = world.playing("cam");
    assert_eq!(video_payloads(&world, late).len(), 3);
}

#[test]
fn a_late_player_gets_no_header_of_a_codec_that_is_over() {
    let aac = [(AUDIO, "af 00 1210"), (AUDIO, "af 01 21")];
    let avc = [(VIDEO, AVC_HEADER), (VIDEO, "17 01 000000 00000003 658884")];
    let opus = [(AUDIO, "90 4f707573 4f70757348656164"), (AUDIO, "94 4f707573 01 01 00000004")];
    for (before, after) in [
        (aac, (AUDIO, "72 55")),
        (aac, (AUDIO, "2f fffb")),
        (aac, (AUDIO, "b6 00")),
        (opus, (AUDIO, "91 61632d33 0b77")),
        (avc, (VIDEO, "12 00008401")),
        (avc, (VIDEO, "14 0012")),
        (avc, (VIDEO, "93 76703038 30")),
    ] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let message = |at: u32, (kind, payload): (u8, &str)| {
            Message::new(6, kind, wire::hex(payload)).on(1).at(at)
        };
        world.say(publisher, &before.map(|before| message(0, before)));
        world.say(publisher, &[40, 80, 120].map(|at| message(at, after)));
        let late = world.playing("cam");
        world.say(publisher, &[message(160, after)]);
        let received = payloads(&world, late, after.0);
        assert!(!received.is_empty(), "{after:?}");
        assert!(received.iter().all(|payload| *payload == wire::hex(after.1)), "{received:x?}");
    }
}

#[test]
fn a_stray_message_of_another_codec_takes_no_header_away() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    for (at, payload) in
        [(0, "af 00 1210"), (0, "af 01 21"), (23, "f2 00"), (46, "72 55"), (69, "af 01 22")]
    {
        world.say(publisher, &[audio(at, payload)]);
    }
    let late = world.playing("cam");
    assert_eq!(payloads(&world, late, AUDIO), [wire::hex("af 00 1210")]);
}

#[test]
fn metadata_that_follows_other_values_reaches_players_and_what_is_none_is_counted() {
    let metadata = [
        wire::number(0.0),
        wire::null(),
        wire::string("@setDataFrame"),
        wire::string("onMetaData"),
        wire::ecma_array(1, &[("width", wire::number(640.0))]),
    ];
    let dahua = [wire::string("@setDataFrame"), wire::string("onMetaData"), wire::null()];
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    for values in [&metadata[..], &dahua] {
        world.say(publisher, &[Message::new(5, wire::DATA, values.concat()).on(1)]);
    }
    let player = world.playing("cam");
    let received = payloads(&world, player, wire::DATA);
    assert!(received.iter().any(|payload| *payload == metadata[3..].concat()));
    assert!(tolerated(&world, publisher).contains("1 unusable data message"));
    assert_eq!(world.server.stats().messages_dropped, 1);
}

#[test]
fn what_a_player_turns_off_before_it_plays_stays_off() {
    for (command, expected) in [("receiveAudio", "V1 K1"), ("receiveVideo", "A1 a1")] {
        let mut world = World::new(Settings::default());
        let publisher = world.publisher("cam");
        publish(&mut world, publisher, "V1 A1 K1 a1", 0);
        let player = world.connected();
        let off = wire::command(command, 0.0, &[wire::null(), wire::boolean(false)]).on(1);
        world.say(player, &[wire::create_stream(2.0), off, stream_command("play", "cam", 1)]);
        assert_eq!(take_labels(&mut world, player), expected, "{command}");
        world.say(player, &[stream_command("play", "cam", 1)]);
        assert_eq!(take_labels(&mut world, player), expected, "{command}, and played again");
        let on = wire::command(command, 0.0, &[wire::null(), wire::boolean(true)]).on(1);
        world.say(player, &[on]);
        publish(&mut world, publisher, "K2 a2", 40);
        assert_eq!(take_labels(&mut world, player), "A1 V1 K2 a2", "{command}");
    }
}

#[test]
fn the_last_messages_of_a_stream_reach_its_players_whatever_its_times_are() {
    for (linger_ms, merge_ms) in [(0, 0), (0, 350), (100, 350), (350, 350), (1000, 350)] {
        let mut settings = Settings::default();
        settings.publish.linger_ms = linger_ms;
        settings.play.merge_ms = merge_ms;
        let mut world = World::new(settings);
        let player = world.player("cam");
        let mut expected = String::new();
        for number in 0..20 {
            let publisher = world.publisher("cam");
            publish(&mut world, publisher, &format!("V1 K{number} i{number}"), 0);
            world[publisher].finish();
            world.advance_ms(linger_ms + merge_ms);
            expected += &format!("{}V1 K{number} i{number}", if number == 0 { "" } else { " " });
        }
        assert_eq!(labels(&world, player), expected, "linger {linger_ms}, merge {merge_ms}");
        assert_eq!(world.conn(player).unwrap().activity.as_ref().unwrap().plays[0].skips(), 0);
    }
}

#[test]
fn the_end_of_a_stream_is_no_skip_of_a_player_that_was_behind() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 0;
    let mut world = World::new(settings);
    world.socket_bytes = 4096;
    let player = world.player("cam");
    for _ in 0..20 {
        let publisher = world.publisher("cam");
        world[player].reads = false;
        publish_sized(&mut world, publisher, "V1 K1 i2 i3", 0, 8000);
        world[publisher].finish();
        world.run();
        world[player].reads = true;
        world.run();
    }
    assert_eq!(world.closed(CloseReason::SlowConsumer), 0);
    assert_eq!(world.conn(player).unwrap().activity.as_ref().unwrap().plays[0].skips(), 0);
}

#[test]
fn a_pause_does_not_end_the_deadline_of_a_player_that_stalls() {
    for (command, value) in [("pause", true), ("receiveVideo", false)] {
        let mut settings = Settings::default();
        settings.timeouts.player_stalled_ms = 10_000;
        let mut world = World::new(settings);
        world.socket_bytes = 4096;
        let publisher = world.publisher("cam");
        let player = world.player("cam");
        world[player].reads = false;
        publish_sized(&mut world, publisher, "V1 K1 i2 i3", 0, 8000);
        assert!(!world.conn(player).unwrap().writable);
        for second in 1..=10 {
            assert!(world.conn(player).is_some(), "after {second} s");
            let is_on = (second % 2 == 1) == value;
            let values = [wire::null(), wire::boolean(is_on), wire::number(0.0)];
            let command = wire::command(command, 0.0, &values).on(1);
            world[player].send_raw(&command.chunks_of(60_000));
            world.advance_ms(1000);
        }
        assert_eq!(world.closed(CloseReason::PlayerStalled), 1, "{command}");
    }
}

#[test]
fn a_player_that_pauses_and_reads_what_it_was_sent_stays() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    let values = [wire::null(), wire::boolean(true), wire::number(0.0)];
    let pause = wire::command("pause", 0.0, &values).on(1);
    world[player].send_raw(&pause.chunks_of(60_000));
    for second in 1..60 {
        publish(&mut world, publisher, "i2 i3", second * 1000);
        world.advance(Duration::from_secs(1));
    }
    assert!(world.conn(player).is_some());
}

#[test]
fn the_clock_of_a_player_goes_on_when_its_stream_was_over() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 1000;
    let mut world = World::new(settings);
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 7000);
    world[publisher].finish();
    world.advance_ms(5000);
    assert!(world[player].was_told("NetStream.Play.UnpublishNotify"));
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V2 K2", 0);
    let times: Vec<_> = world[player].of_kind(VIDEO).iter().map(|m| m.timestamp).collect();
    assert_eq!(times[..2], [7000, 7000]);
    assert!(times[2..].iter().all(|at| *at >= 7000), "{times:?}");
    assert_eq!(times[3], 12_000, "where the stream would be by now");
}

#[test]
fn the_tracks_of_a_publisher_that_returns_stay_in_step() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 A1 K1 a1", 7000);
    world[publisher].finish();
    world.advance_ms(500);
    let publisher = world.publisher("cam");
    world[player].take_messages();
    publish(&mut world, publisher, "V1 A1 K2", 90_000);
    for number in 0..4 {
        publish(&mut world, publisher, &format!("a{number}"), 88_000 + number * 23);
    }
    publish(&mut world, publisher, "i3", 90_040);
    let times = |kind| -> Vec<_> {
        world[player].of_kind(kind).iter().map(|message| message.timestamp).collect()
    };
    assert_eq!(times(AUDIO)[1..], [7000, 7023, 7046, 7069], "none is squeezed");
    assert_eq!(times(VIDEO)[1..], [7500, 9040], "2 s ahead, as the publisher sends it");
}
