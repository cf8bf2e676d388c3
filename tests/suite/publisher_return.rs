//! Publishers that go and come back, and those who want a stream that somebody has.

use tiderace::config::{Absent, Duplicate, Settings};
use tiderace::rtmp::client::Purpose;
use tiderace::server::reason::CloseReason;

use crate::frames::{labels, message, payload, publish, session, stream_command, take_labels};
use crate::wire::{self, AUDIO, COMMAND, Message, USER_CONTROL, VIDEO};
use crate::world::{ClientHandle, World, client};

const PUBLISHING: &str = "NetStream.Publish.Start";
const BAD_NAME: &str = "NetStream.Publish.BadName";
const PLAY_BEGAN: &str = "NetStream.Play.PublishNotify";
const PLAY_ENDED: &str = "NetStream.Play.UnpublishNotify";

fn duplicates(rule: Duplicate) -> Settings {
    let mut settings = Settings::default();
    settings.publish.duplicate = rule;
    settings
}

fn lingering(linger_ms: u64) -> Settings {
    let mut settings = Settings::default();
    settings.publish.linger_ms = linger_ms;
    settings
}

fn leave(world: &mut World, publisher: ClientHandle) {
    world[publisher].finish();
    world.run();
    assert!(world[publisher].is_closed());
}

#[test]
fn cm_13_reject_keeps_the_first_however_silent_it_is() {
    let mut settings = duplicates(Duplicate::Reject);
    settings.timeouts.publisher_silent_ms = 1_000_000;
    let mut world = World::new(settings);
    let first = world.publisher("cam");
    world.advance_ms(900_000);
    let second = world.publisher("cam");
    assert!(world[second].was_told(BAD_NAME), "readable before the close");
    assert!(world[second].is_finished() && !world[second].is_closed());
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::AlreadyPublishing), 1);
    let player = world.player("cam");
    publish(&mut world, first, "V1 K1", 0);
    assert_eq!(labels(&world, player), "V1 K1");
}

#[test]
fn replace_lets_the_second_take_over_at_once() {
    let mut world = World::new(duplicates(Duplicate::Replace));
    let first = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, first, "V1 K1 i2", 1000);
    let second = world.publisher("cam");
    assert!(world[second].was_told(PUBLISHING));
    assert!(world[first].was_told(BAD_NAME), "it is told why");
    publish(&mut world, first, "i3", 1040);
    publish(&mut world, second, "V2 K4", 0);
    publish(&mut world, first, "i5", 1080);
    assert_eq!(labels(&world, player), "V1 K1 i2 V2 K4", "nothing of the first any more");
    assert!(!world[player].was_told(PLAY_ENDED));
    assert_eq!(world[player].media().last().unwrap().timestamp, 1001);
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::Replaced), 1);
    assert!(world[first].is_closed() && !world[second].is_closed());
}

#[test]
fn a_publisher_that_has_not_been_read_is_not_silent() {
    let mut world = World::new(duplicates(Duplicate::ReplaceIfSilent));
    let second = world.connected();
    let first = world.publishing("cam");
    world[second].send(&[wire::create_stream(2.0), wire::publish("cam")]);
    world[first].send(&[wire::audio(0, 1)]);
    world.stop_for_ms(10_000);
    assert!(world[second].was_told(BAD_NAME), "the server was silent, and not the publisher");
    assert!(world.conn(first).is_some());
}

#[test]
fn replace_if_silent_takes_over_from_silence_on() {
    for (silent_ms, takes_over) in [(2999, false), (3000, true)] {
        let mut world = World::new(duplicates(Duplicate::ReplaceIfSilent));
        let first = world.publisher("cam");
        world.advance_ms(10_000);
        publish(&mut world, first, "a1", 0);
        publish(&mut world, first, "a2", 20);
        world.advance_ms(silent_ms);
        let second = world.publisher("cam");
        assert_eq!(world[second].was_told(PUBLISHING), takes_over, "after {silent_ms} ms");
        assert_eq!(world[second].was_told(BAD_NAME), !takes_over);
        assert_eq!(world[first].was_told(BAD_NAME), takes_over);
    }
}

#[test]
fn encoders_that_send_a_picture_every_ten_seconds_keep_their_name() {
    let mut world = World::new(duplicates(Duplicate::ReplaceIfSilent));
    let first = world.publisher("cam");
    for picture in 0..6 {
        publish(&mut world, first, "V1 K1", picture * 10_000);
        for _ in 0..9 {
            world.advance_ms(1000);
            let second = world.publisher("cam");
            assert!(world[second].was_told(BAD_NAME), "picture {picture}");
        }
        world.advance_ms(1000);
    }
    assert!(world.conn(first).is_some());
    // Two of its pauses after its last picture, of which one is over.
    world.advance_ms(9999);
    let second = world.publisher("cam");
    assert!(world[second].was_told(BAD_NAME));
    world.advance_ms(1);
    let third = world.publisher("cam");
    assert!(world[third].was_told(PUBLISHING) && world[first].was_told(BAD_NAME));
}

#[test]
fn nobody_takes_over_from_a_publisher_whose_large_keyframe_is_on_its_way() {
    let mut world = World::new(duplicates(Duplicate::ReplaceIfSilent));
    let first = session(&mut world, 1);
    world.say(first, &[stream_command("publish", "cam", 1)]);
    world.say(first, &[message("a1", 1, 0), message("a2", 1, 20)]);
    let (kind, payload) = payload("K1", 2_000_000);
    let mut chunks = Message::new(6, kind, payload).on(1).chunks().into_iter();
    let mut send = |world: &mut World, bytes: usize| {
        let part: Vec<_> = chunks.by_ref().take(bytes).collect();
        world[first].send_raw(&part);
        world.advance_ms(1000);
    };
    for second in 1..5 {
        send(&mut world, 250_000);
        let next = world.publisher("cam");
        assert!(world[next].was_told(BAD_NAME), "after {second} s");
    }
    // A byte a second does not hold a name.
    send(&mut world, 1);
    let next = world.publisher("cam");
    assert!(world[next].was_told(BAD_NAME));
    send(&mut world, 1);
    let next = world.publisher("cam");
    assert!(world[next].was_told(PUBLISHING) && world[first].was_told(BAD_NAME));
}

#[test]
fn a_publisher_that_publishes_again_is_told_again_and_goes_on() {
    for rule in [Duplicate::Reject, Duplicate::Replace, Duplicate::ReplaceIfSilent] {
        let mut world = World::new(duplicates(rule));
        let player = world.player("cam");
        let publisher = session(&mut world, 1);
        for round in 0..2 {
            world[publisher].take_messages();
            let commands = vec![stream_command("publish", "cam", 1); 3];
            world.say(publisher, &commands);
            assert_eq!(world[publisher].answers(), [PUBLISHING; 3], "{rule:?}");
            let frame = ["K1", "i2"][round];
            world.say(publisher, &[message(frame, 1, 40 * round as u32)]);
        }
        assert_eq!(labels(&world, player), "K1 i2", "nothing begins again");
        assert_eq!(world.server.stats().publishes, 1);
    }
}

#[test]
fn a_connection_takes_its_stream_over_to_another_message_stream() {
    for rule in [Duplicate::Reject, Duplicate::Replace, Duplicate::ReplaceIfSilent] {
        let mut world = World::new(duplicates(rule));
        let player = world.player("cam");
        let publisher = session(&mut world, 2);
        world.say(publisher, &[stream_command("publish", "cam", 1), message("K1", 1, 0)]);
        world[publisher].take_messages();
        world.say(publisher, &[stream_command("publish", "cam", 2), message("K2", 2, 40)]);
        assert_eq!(world[publisher].answers(), ["NetStream.Unpublish.Success", PUBLISHING]);
        let on: Vec<_> =
            world[publisher].of_kind(COMMAND).iter().map(|m| m.message_stream_id).collect();
        assert_eq!(on, [1, 2]);
        world.say(publisher, &[message("i3", 1, 80), message("i4", 2, 80)]);
        assert_eq!(labels(&world, player), "K1 K2 i4", "{rule:?}");
        assert!(!world[player].was_told(PLAY_ENDED));
        world[publisher].finish();
        world.run();
        assert!(world.server.hub().find("live/cam").is_some_and(|stream| !stream.is_live()));
    }
}

#[test]
fn a_publish_takes_the_place_of_what_its_message_stream_did() {
    let mut world = World::new(lingering(0));
    let player = world.player("two");
    let client = session(&mut world, 1);
    world.say(client, &[stream_command("play", "other", 1)]);
    world.say(client, &[stream_command("publish", "one", 1)]);
    assert!(world.server.hub().find("live/other").is_none(), "it no longer waits for that");
    world.say(client, &[stream_command("publish", "two", 1), message("K1", 1, 0)]);
    assert!(world.server.hub().find("live/one").is_none());
    assert_eq!(labels(&world, player), "K1");
    let started = world[client].answers().into_iter().filter(|answer| answer == PUBLISHING);
    assert_eq!(started.count(), 2);
    // The stream that it plays itself goes on without it.
    world.say(client, &[stream_command("play", "two", 1)]);
    assert!(world[client].was_told("NetStream.Play.Failed"), "no play ends a publish");
    world.say(client, &[message("i2", 1, 40)]);
    assert_eq!(labels(&world, player), "K1 i2");
}

#[test]
fn a_stream_is_published_by_the_message_stream_that_played_it() {
    let mut world = World::new(Settings::default());
    let client = session(&mut world, 1);
    world.say(client, &[stream_command("play", "cam", 1)]);
    world.say(client, &[stream_command("publish", "cam", 1), message("K1", 1, 0)]);
    assert!(world[client].was_told(PUBLISHING));
    assert!(world[client].media().is_empty());
    let player = world.player("cam");
    assert_eq!(labels(&world, player), "K1");
}

#[test]
fn encoders_that_begin_again_in_their_own_order_keep_their_connection() {
    let command = |name: &str| wire::command(name, 3.0, &[wire::null(), wire::string("cam")]);
    let delete = |number: f64| {
        let values = [wire::null(), wire::number(number)];
        wire::command("deleteStream", 4.0, &values)
    };
    let create = || wire::create_stream(5.0);
    let publishes = |id| stream_command("publish", "cam", id);
    for (name, messages, id) in [
        ("FCUnpublish alone", vec![command("FCUnpublish"), create(), publishes(2)], 2),
        ("deleteStream 0", vec![delete(0.0), create(), publishes(1)], 1),
        ("deleteStream 2", vec![delete(2.0), create(), publishes(1)], 1),
        ("deleteStream NaN", vec![delete(f64::NAN), create(), publishes(1)], 1),
        ("no deleteStream", vec![create(), publishes(2)], 2),
        ("no createStream", vec![command("releaseStream"), publishes(1)], 1),
        ("closeStream and no id", vec![command("closeStream"), publishes(0)], 1),
        ("publish before createStream", vec![delete(1.0), publishes(1), create()], 1),
        ("releaseStream last", vec![create(), publishes(2), command("releaseStream")], 2),
        ("FCPublish last", vec![delete(1.0), create(), publishes(1), command("FCPublish")], 1),
    ] {
        let mut world = World::new(duplicates(Duplicate::Reject));
        let player = world.player("cam");
        let publisher = session(&mut world, 1);
        world.say(publisher, &[publishes(1), message("K1", 1, 0)]);
        world[publisher].take_messages();
        world.say(publisher, &messages);
        assert!(world[publisher].was_told(PUBLISHING), "{name}");
        world.say(publisher, &[message("K2", id, 40)]);
        assert_eq!(labels(&world, player), "K1 K2", "{name}");
        assert!(!world[player].was_told(PLAY_ENDED), "{name}");
    }
}

#[test]
fn a_publisher_that_never_sent_counts_as_silent_from_its_start() {
    for (silent_ms, takes_over) in [(2999, false), (3000, true)] {
        let mut world = World::new(duplicates(Duplicate::ReplaceIfSilent));
        world.publisher("cam");
        world.advance_ms(silent_ms);
        let second = world.publisher("cam");
        assert_eq!(world[second].was_told(PUBLISHING), takes_over, "after {silent_ms} ms");
    }
}

#[test]
fn cm_25_players_are_told_only_when_the_linger_time_is_over() {
    let mut world = World::new(lingering(15_000));
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    leave(&mut world, publisher);
    world[player].take_messages();
    world.advance_ms(14_999);
    assert_eq!(world[player].take_messages(), []);
    world.advance_ms(1);
    let messages = world[player].take_messages();
    assert_eq!(messages.len(), 2);
    let code = PLAY_ENDED.as_bytes();
    assert!(messages[0].payload.windows(code.len()).any(|window| window == code));
    assert_eq!(
        (messages[1].kind, &messages[1].payload[..]),
        (USER_CONTROL, &[0, 1, 0, 0, 0, 1][..])
    );
    assert!(world.conn(player).is_some(), "and may wait for the next publisher");
    assert_eq!(world.server.next_deadline(), None);
    assert_eq!(world.server.hub().tape_bytes(), 0);
}

#[test]
fn without_a_linger_time_players_are_told_at_once_and_after_the_last_frame() {
    let mut world = World::new(lingering(0));
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    crate::frames::write(&mut world, publisher, "i2 i3", 40, 0);
    leave(&mut world, publisher);
    assert_eq!(labels(&world, player), "V1 K1 i2 i3");
    assert!(world[player].was_told(PLAY_ENDED));
    let last = world[player].messages().last().map(|message| message.kind);
    assert_eq!(last, Some(USER_CONTROL), "StreamEOF is the last word");
}

#[test]
fn a_publisher_that_returns_within_the_linger_time_goes_on_seamlessly() {
    for (away_ms, seamless) in [(14_999, true), (15_000, false)] {
        let mut world = World::new(lingering(15_000));
        let first = world.publisher("cam");
        let player = world.player("cam");
        publish(&mut world, first, "M1 V1 A1 K1 a1", 5000);
        publish(&mut world, first, "i2 a2", 5040);
        leave(&mut world, first);
        world[player].take_messages();
        world.advance_ms(away_ms);
        let second = world.publisher("cam");
        publish(&mut world, second, "M2 V2 A2", 0);
        publish(&mut world, second, "i8 a8 K9", 100);
        publish(&mut world, second, "i10 a10", 140);
        assert_eq!(world[player].was_told(PLAY_ENDED), !seamless, "after {away_ms} ms");
        assert_eq!(world[player].was_told(PLAY_BEGAN), !seamless, "after {away_ms} ms");
        let times: Vec<_> = world[player].media().iter().map(|m| m.timestamp).collect();
        assert_eq!(take_labels(&mut world, player), "M2 V2 A2 a8 K9 i10 a10");
        // The player is the same, and so is its clock.
        let back = 5040 + away_ms as u32;
        assert_eq!(times, [0, 5040, 5040, back, back, back + 40, back + 40]);
    }
}

#[test]
fn time_is_monotonic_per_track_however_often_a_publisher_returns() {
    let mut world = World::new(Settings::default());
    let player = world.player("cam");
    // Each has another clock, the third close to where it wraps around; the fourth sends its
    // tracks out of step.
    for (clock, ahead) in [(0, 0), (90_000, 0), (u32::MAX - 60, 0), (5, 700), (1 << 31, 0)] {
        let publisher = world.publisher("cam");
        publish(&mut world, publisher, "V1 A1", 0);
        for step in 0..30_u32 {
            let timestamp = clock.wrapping_add(step * 40);
            publish(&mut world, publisher, "a1", timestamp.wrapping_add(ahead));
            publish(&mut world, publisher, if step == 0 { "K1" } else { "i1" }, timestamp);
            world.advance_ms(40);
        }
        leave(&mut world, publisher);
        world.advance_ms(500);
    }
    for kind in [AUDIO, VIDEO] {
        let times: Vec<_> =
            world[player].of_kind(kind).into_iter().map(|message| message.timestamp).collect();
        assert_eq!(times.len(), 5 * 31);
        assert!(times.is_sorted(), "{times:?}");
    }
}

#[test]
fn who_joins_while_the_stream_lingers_gets_the_next_publisher() {
    let mut world = World::new(Settings::default());
    let first = world.publisher("cam");
    let old = world.player("cam");
    publish(&mut world, first, "V1 A1 K1 i2", 1000);
    leave(&mut world, first);
    world.advance_ms(5000);
    let new = world.player("cam");
    assert!(!labels(&world, new).contains('K'), "fl_07: no picture of a publisher that is gone");
    world[new].take_messages();
    world[old].take_messages();
    let second = world.publisher("cam");
    publish(&mut world, second, "V2 A2", 0);
    publish(&mut world, second, "K3 a3", 0);
    for player in [old, new] {
        assert!(!world[player].was_told(PLAY_BEGAN));
        assert_eq!(take_labels(&mut world, player), "V2 A2 K3 a3");
    }
}

#[test]
fn a_stream_that_lingers_is_absent_for_who_would_be_refused() {
    let mut settings = Settings::default();
    settings.play.absent = Absent::Refuse;
    let mut world = World::new(settings);
    let publisher = world.publisher("cam");
    world.player("cam");
    leave(&mut world, publisher);
    let late = world.player("cam");
    assert!(world[late].was_told("NetStream.Play.StreamNotFound"));
}

#[test]
fn a_stream_whose_players_leave_while_it_lingers_is_gone() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    leave(&mut world, publisher);
    leave(&mut world, player);
    assert!(world.server.hub().is_empty());
    assert_eq!(world.server.next_deadline(), None);
}

#[test]
fn every_way_to_stop_publishing_lingers_and_is_done_once() {
    let close = wire::command("closeStream", 0.0, &[wire::null()]).on(1);
    let delete = wire::command("deleteStream", 0.0, &[wire::null(), wire::number(1.0)]);
    let unpublish = wire::command("FCUnpublish", 6.0, &[wire::null(), wire::string("cam")]);
    for (name, messages, fin) in [
        ("closeStream", vec![close], false),
        ("deleteStream", vec![delete.clone()], false),
        ("cm_17 FCUnpublish, deleteStream, FIN", vec![unpublish, delete], true),
        ("FIN", vec![], true),
    ] {
        let mut world = World::new(Settings::default());
        let publisher = session(&mut world, 1);
        world[publisher].send(&[stream_command("publish", "cam", 1)]);
        world.run();
        let player = world.player("cam");
        world[publisher].send(&messages);
        if fin {
            world[publisher].finish();
        }
        world.run();
        assert_eq!(world.server.hub().find("live/cam").map(|s| s.is_live()), Some(false), "{name}");
        assert!(!world[player].was_told(PLAY_ENDED), "{name}");
        assert_eq!(world.closed(CloseReason::PeerClosed), u64::from(fin), "{name}");
        world.advance_ms(15_000);
        let told = world[player].answers().into_iter().filter(|answer| answer == PLAY_ENDED);
        assert_eq!(told.count(), 1, "{name}");
    }
}

#[test]
fn cm_16_a_closed_stream_is_published_again_on_the_same_message_stream() {
    let mut world = World::new(Settings::default());
    let publisher = session(&mut world, 1);
    for _ in 0..2 {
        world[publisher].send(&[
            stream_command("publish", "cam", 1),
            wire::command("closeStream", 0.0, &[wire::null()]).on(1),
        ]);
        world.run();
    }
    let told = world[publisher].answers().into_iter().filter(|answer| answer == PUBLISHING);
    assert_eq!(told.count(), 2);
}

#[test]
fn a_publisher_whose_connection_breaks_is_one_that_is_gone() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, "V1 K1", 0);
    world[publisher].reset();
    world.run();
    assert_eq!(world.closed(CloseReason::PeerReset), 1);
    let second = world.drive(client(Purpose::Publish { key: "cam".to_owned() }));
    world.run();
    publish(&mut world, second, "V1 K2", 0);
    assert_eq!(labels(&world, player), "V1 K1 V1 K2");
}
