//! Streams: where players begin, what they wait for, and several streams on one connection.

use tiderace::config::{Absent, Settings, Start};
use tiderace::server::reason::CloseReason;

use crate::frames::{
    labels, labels_on, message, publish, publish_sized, session, stream_command, take_labels,
};
use crate::wire::{self, COMMAND, Message, USER_CONTROL};
use crate::world::{ClientHandle, World};

const PLAY_BEGAN: &str = "NetStream.Play.PublishNotify";
const NOT_FOUND: &str = "NetStream.Play.StreamNotFound";

fn starting(start: Start) -> Settings {
    let mut settings = Settings::default();
    settings.play.start = start;
    settings
}

#[test]
fn a_late_joiner_begins_where_the_setting_says() {
    for (start, joined, all) in [
        (Start::Keyframe, "M1 A1 V1 K3 a2 i4", "M1 A1 V1 K3 a2 i4 a3 i5 K6 i7"),
        (Start::NextKeyframe, "M1 A1 V1", "M1 A1 V1 a3 K6 i7"),
        (Start::Live, "M1 A1 V1", "M1 A1 V1 a3 i5 K6 i7"),
    ] {
        let mut world = World::new(starting(start));
        let publisher = world.publisher("cam");
        // Somebody is there already, so that there is a tape to begin in the middle of.
        let first = world.player("cam");
        publish(&mut world, publisher, "M1 V1 A1 K1 a1 i2 K3 a2 i4", 1000);
        let late = world.player("cam");
        assert_eq!(labels(&world, late), joined, "{start:?}");
        publish(&mut world, publisher, "a3 i5 K6 i7", 1040);
        assert_eq!(labels(&world, late), all, "{start:?}");
        assert_eq!(labels(&world, first), "M1 V1 A1 K1 a1 i2 K3 a2 i4 a3 i5 K6 i7");
    }
}

#[test]
fn cm_23_what_a_player_is_told_comes_before_what_it_is_shown() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "M1 V1 K1", 0);
    let player = world.player("cam");
    let messages = world[player].messages();
    let at = |what: &dyn Fn(&Message) -> bool| messages.iter().position(what).expect("was sent");
    let begins = at(&|m| m.kind == USER_CONTROL && m.payload == [0, 0, 0, 0, 0, 1]);
    let started =
        at(&|m| m.kind == COMMAND && m.payload.windows(20).any(|w| w == b"NetStream.Play.Start"));
    let shown = at(&Message::is_media);
    assert!(begins < started && started < shown);
    assert_eq!(messages[started].message_stream_id, 1);
    let metadata = &messages[shown].payload;
    assert!(metadata.starts_with(&[wire::string("onMetaData"), vec![0x08]].concat()));
}

#[test]
fn the_prelude_carries_the_time_of_the_frame_it_leads_to() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "M1 V1 A1", 0);
    publish(&mut world, publisher, "K1", 70_000);
    publish(&mut world, publisher, "i2", 70_040);
    let late = world.player("cam");
    let times: Vec<_> = world[late].media().iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [0, 70_000, 70_000, 70_000, 70_040]);
}

#[test]
fn streams_of_one_kind_start_at_once() {
    for (before, after, expected) in
        [("A1 a1 a2", "a3", "A1 a3"), ("V1 K1 i2", "i3", "V1 K1 i2 i3")]
    {
        let mut world = World::new(Settings::default());
        let publisher = world.publisher("cam");
        publish(&mut world, publisher, before, 0);
        let late = world.player("cam");
        publish(&mut world, publisher, after, 20);
        assert_eq!(labels(&world, late), expected);
    }
}

#[test]
fn a_changed_sequence_header_reaches_every_player_and_those_who_join_later() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V1 A1 K1", 0);
    let first = world.player("cam");
    let second = world.player("cam");
    publish(&mut world, publisher, "i2 V2 A2", 40);
    let between = world.player("cam");
    publish(&mut world, publisher, "i3 K4", 80);
    let late = world.player("cam");
    for player in [first, second] {
        assert_eq!(labels(&world, player), "A1 V1 K1 i2 V2 A2 i3 K4");
    }
    assert_eq!(labels(&world, between), "A2 V2 K4", "no frame of the old configuration");
    assert_eq!(labels(&world, late), "A2 V2 K4");
}

#[test]
fn who_waits_is_told_when_the_stream_begins_and_gets_all_of_it() {
    let mut world = World::new(Settings::default());
    let player = world.player("cam");
    assert_eq!(labels(&world, player), "");
    assert!(!world[player].was_told(PLAY_BEGAN));
    world.advance_ms(100 * 86_400_000);
    assert_eq!(world.server.next_deadline(), None, "waiting wakes nobody");
    let publisher = world.publisher("cam");
    assert!(world[player].was_told(PLAY_BEGAN));
    publish(&mut world, publisher, "V1 K1 i2", 0);
    assert_eq!(labels(&world, player), "V1 K1 i2");
}

#[test]
fn who_waits_for_a_time_is_told_when_it_is_over() {
    let mut settings = Settings::default();
    settings.play.wait_ms = 5000;
    let mut world = World::new(settings);
    let player = world.player("cam");
    world.advance_ms(4999);
    assert!(!world[player].was_told(NOT_FOUND));
    world.advance_ms(1);
    assert!(world[player].was_told(NOT_FOUND));
    assert!(world[player].is_finished());
    world[player].finish();
    world.run();
    assert_eq!(world.closed(CloseReason::WaitTimeout), 1);
    assert!(world.server.hub().is_empty());
}

#[test]
fn a_stream_that_begins_in_time_ends_the_waiting() {
    let mut settings = Settings::default();
    settings.play.wait_ms = 5000;
    settings.timeouts.publisher_silent_ms = 60_000;
    let mut world = World::new(settings);
    let player = world.player("cam");
    world.advance_ms(4999);
    world.publisher("cam");
    world.advance_ms(20_000);
    assert!(world.conn(player).is_some());
    assert_eq!(world.server.len(), 2);
}

#[test]
fn cm_24_a_player_of_an_absent_stream_is_refused_if_the_setting_says_so() {
    let mut settings = Settings::default();
    settings.play.absent = Absent::Refuse;
    let mut world = World::new(settings);
    let early = world.player("cam");
    assert!(world[early].was_told(NOT_FOUND));
    assert!(world[early].is_finished());
    world[early].finish();
    world.run();
    assert_eq!(world.closed(CloseReason::StreamNotFound), 1);
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    let late = world.player("cam");
    assert_eq!(labels(&world, late), "V1 K1");
}

#[test]
fn players_on_other_message_streams_get_the_same_bytes_with_their_own_id() {
    let mut settings = Settings::default();
    settings.rtmp.chunk_size = 128;
    let mut world = World::new(settings);
    let (one, two) = (world.publisher("one"), world.publisher("two"));
    let player = session(&mut world, 3);
    for (key, id) in [("one", 1), ("two", 2), ("one", 3)] {
        world[player].send(&[stream_command("play", key, id)]);
    }
    world.run();
    publish_sized(&mut world, one, "V1 K1 i2 a3", 0x00ff_fff0, 1000);
    publish_sized(&mut world, two, "V7 K7 i8 a9", 0x0100_0000, 2000);
    publish_sized(&mut world, one, "K4", 0x0100_0010, 128);
    for (id, expected) in [(1, "V1 K1 i2 a3 K4"), (2, "V7 K7 i8 a9"), (3, "V1 K1 i2 a3 K4")] {
        assert_eq!(labels_on(&world, player, id), expected, "message stream {id}");
        assert_eq!(commands_on(&world, player, id), 1, "Play.Start on message stream {id}");
    }
}

#[test]
fn late_joiners_on_another_message_stream_begin_with_the_headers() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "M1 V1 A1 K1 i2", 0);
    let player = session(&mut world, 2);
    world[player].send(&[stream_command("play", "cam", 2)]);
    world.run();
    assert_eq!(labels_on(&world, player, 2), "M1 A1 V1 K1 i2");
}

#[test]
fn cm_27_one_connection_plays_and_publishes() {
    let mut world = World::new(Settings::default());
    let both = session(&mut world, 2);
    world[both].send(&[
        stream_command("play", "cam", 1),
        stream_command("publish", "cam", 2),
        message("V1", 2, 0),
        message("K1", 2, 0),
    ]);
    world.run();
    assert_eq!(labels_on(&world, both, 1), "V1 K1", "it plays what it publishes");
    let other = world.player("cam");
    world[both].send(&[message("i2", 2, 40)]);
    world.run();
    assert_eq!(labels(&world, other), "V1 K1 i2");
    assert_eq!(labels_on(&world, both, 1), "V1 K1 i2");
}

#[test]
fn several_streams_are_published_on_one_connection() {
    let mut world = World::new(Settings::default());
    let publisher = session(&mut world, 2);
    world[publisher]
        .send(&[stream_command("publish", "one", 1), stream_command("publish", "two", 2)]);
    world.run();
    let (one, two) = (world.player("one"), world.player("two"));
    world[publisher].send(&[message("K1", 1, 0), message("K2", 2, 0), message("i3", 1, 40)]);
    world.run();
    assert_eq!((labels(&world, one), labels(&world, two)), ("K1 i3".into(), "K2".into()));
    let close = wire::command("closeStream", 0.0, &[wire::null()]).on(1);
    world[publisher].send(&[close, message("i4", 1, 80), message("i5", 2, 80)]);
    world.run();
    assert_eq!((labels(&world, one), labels(&world, two)), ("K1 i3".into(), "K2 i5".into()));
}

#[test]
fn playing_another_stream_on_the_same_message_stream_leaves_the_first() {
    let mut world = World::new(Settings::default());
    let (one, two) = (world.publisher("one"), world.publisher("two"));
    publish(&mut world, one, "V1 K1", 0);
    publish(&mut world, two, "V2 K2", 0);
    let player = session(&mut world, 1);
    world[player].send(&[stream_command("play", "one", 1)]);
    world.run();
    assert_eq!(take_labels(&mut world, player), "V1 K1");
    world[player].send(&[stream_command("play", "two", 1)]);
    world.run();
    publish(&mut world, one, "i3", 40);
    publish(&mut world, two, "i4", 40);
    assert_eq!(take_labels(&mut world, player), "V2 K2 i4");
    assert!(world.server.hub().find("live/one").is_some_and(|one| one.players().is_empty()));
}

#[test]
fn cm_26_a_player_turns_kinds_off_and_on() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 A1 K1 a1", 0);
    let receive = |world: &mut World, name: &str, on: bool| {
        let command = wire::command(name, 0.0, &[wire::null(), wire::boolean(on)]).on(1);
        world[player].send_raw(&command.chunks_of(60_000));
        world.run();
        world[player].take_messages();
    };
    receive(&mut world, "receiveVideo", false);
    publish(&mut world, publisher, "i2 a2 K3 a3 i4", 40);
    assert_eq!(take_labels(&mut world, player), "a2 a3");
    let command = wire::command("receiveVideo", 0.0, &[wire::null(), wire::boolean(true)]).on(1);
    world[player].send_raw(&command.chunks_of(60_000));
    publish(&mut world, publisher, "i5 a5 K6", 80);
    assert_eq!(take_labels(&mut world, player), "A1 V1 a5 K6");
    receive(&mut world, "receiveAudio", false);
    publish(&mut world, publisher, "i7 a7", 120);
    assert_eq!(take_labels(&mut world, player), "i7");
}

#[test]
fn cm_26_a_paused_player_gets_nothing_until_it_goes_on() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    let pause = |world: &mut World, paused: bool| {
        let values = [wire::null(), wire::boolean(paused), wire::number(0.0)];
        let command = wire::command("pause", 0.0, &values).on(1);
        world[player].send_raw(&command.chunks_of(60_000));
        world.run();
    };
    world[player].take_messages();
    pause(&mut world, true);
    publish(&mut world, publisher, "i2 i3", 40);
    assert_eq!(take_labels(&mut world, player), "");
    pause(&mut world, false);
    assert_eq!(take_labels(&mut world, player), "i2 i3");
    pause(&mut world, true);
    publish(&mut world, publisher, "i4", 80);
    world.advance_ms(6000);
    publish(&mut world, publisher, "K5 i6", 6000);
    pause(&mut world, false);
    assert_eq!(take_labels(&mut world, player), "V1 K5 i6", "older than the budget: it skips");
}

/// Statuses that say that a stream starts, on one message stream.
fn commands_on(world: &World, client: ClientHandle, message_stream_id: u32) -> usize {
    let commands = world[client].of_kind(COMMAND).into_iter();
    commands
        .filter(|m| m.message_stream_id == message_stream_id)
        .filter(|m| m.payload.windows(20).any(|w| w == b"NetStream.Play.Start"))
        .count()
}
