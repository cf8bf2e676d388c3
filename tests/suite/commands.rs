//! The dialogue of commands: rows CM of the conformance table.

use tiderace::config::{Absent, Duplicate, Settings};
use tiderace::rtmp::quirks::Quirk;
use tiderace::server::reason::CloseReason;
use tiderace::server::stages::Stage;

use crate::wire::{
    self, AUDIO, COMMAND, DATA, Message, SET_CHUNK_SIZE, USER_CONTROL, VIDEO, big, boolean,
    command, control, create_stream, hex, null, number, object, play, publish, string,
    user_control,
};
use crate::world::{ClientHandle, Split, World};

const STREAM_BEGIN: u16 = 0;
const STREAM_EOF: u16 = 1;

/// What the publisher says that goes on: `key` is on the hub under this name, or nothing is.
fn published_name(app: &str, key: &str) -> Option<String> {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world.say(client, &[wire::connect(app), create_stream(2.0), publish(key)]);
    let name = world.server.hub().iter().next().map(|stream| stream.name().to_string());
    assert_eq!(world[client].was_told("NetStream.Publish.Start"), name.is_some());
    name
}

fn user_controls(world: &World, client: ClientHandle) -> Vec<Vec<u8>> {
    world[client].of_kind(USER_CONTROL).iter().map(|message| message.payload.clone()).collect()
}

#[test]
fn cm_01_and_cm_02_a_minimal_connect_is_answered_under_its_transaction_id() {
    for transaction_id in [1.0, 5.0] {
        let mut world = World::new(Settings::default());
        let client = world.handshaken();
        let connect = command("connect", transaction_id, &[object(&[("app", string("live"))])]);
        world.say(client, &[connect]);
        assert_eq!(world[client].answers(), [format!("_result {transaction_id}")]);
    }
}

#[test]
fn cm_03_a_chunk_size_before_connect_is_applied() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    let long = object(&[("app", string("live")), ("pageUrl", string("x".repeat(1000)))]);
    let connect = command("connect", 1.0, &[long]);
    world[client].send_raw(&control(SET_CHUNK_SIZE, 4096).chunks());
    world[client].send_raw(&connect.chunks_of(4096));
    world.run();
    assert_eq!(world[client].answers(), ["_result 1"]);
}

#[test]
fn cm_04_window_bandwidth_and_chunk_size_come_before_the_result() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world.say(client, &[wire::connect("live")]);
    let expected = hex("02 000000 000004 05 00000000 002625a0
         02 000000 000005 06 00000000 002625a0 02
         02 000000 000004 01 00000000 0000ea60
         03 000000");
    assert_eq!(world[client].received()[wire::HANDSHAKE_BYTES..][..expected.len()], expected);
    let kinds: Vec<_> = world[client].messages().iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [5, 6, 1, COMMAND]);
    let result = &world[client].messages()[3];
    assert_eq!((result.payload.len(), result.message_stream_id), (190, 0));
}

#[test]
fn cm_06_a_second_connect_is_refused_and_changes_nothing() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    for app in ["other", "live"] {
        world[publisher].take_messages();
        let properties = object(&[("app", string(app))]);
        world.say(publisher, &[command("connect", 7.0, &[properties])]);
        assert_eq!(world[publisher].answers(), ["NetConnection.Connect.Rejected"]);
        let head = [string("_error"), number(7.0)].concat();
        assert!(world[publisher].of_kind(COMMAND)[0].payload.starts_with(&head));
    }
    world.assert_lives(publisher);
    assert!(world.server.hub().find("live/cam").is_some_and(|stream| stream.is_live()));
}

#[test]
fn cm_07_another_command_before_connect_closes() {
    for first in [create_stream(2.0), publish("cam"), play("cam")] {
        let mut world = World::new(Settings::default());
        let client = world.handshaken();
        world.say(client, &[first]);
        assert!(world[client].is_closed());
        assert_eq!(world.closed(CloseReason::BadCommand), 1);
    }
}

#[test]
fn cm_08_the_requests_of_a_publisher_may_come_in_any_order_and_all_at_once() {
    let call = |index| match index {
        0 => command("releaseStream", 2.0, &[null(), string("cam")]),
        1 => command("FCPublish", 3.0, &[null(), string("cam")]),
        _ => create_stream(4.0),
    };
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = World::new(Settings::default());
        let client = world.connected();
        let mut calls: Vec<_> = order.into_iter().map(call).collect();
        calls.push(publish("cam"));
        world.say(client, &calls);
        assert!(world[client].was_told("NetStream.Publish.Start"), "{order:?}");
        let result = hex("03 000000 00001d 14 00000000 02 0007 5f726573756c74 00 4010000000000000
             05 00 3ff0000000000000");
        let received = world[client].received();
        assert!(received.windows(result.len()).any(|window| window == result), "{order:?}");
    }
}

#[test]
fn cm_09_message_streams_are_numbered_from_1_and_bounded() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    for id in 1..=16 {
        world.say(client, &[create_stream(f64::from(id))]);
        let result = world[client].of_kind(COMMAND).pop().unwrap();
        assert!(result.payload.ends_with(&number(f64::from(id))), "stream {id}");
    }
    world.say(client, &[create_stream(17.0)]);
    assert_eq!(world[client].answers().last().unwrap(), "NetConnection.Call.Failed");
    world.assert_lives(client);
}

#[test]
fn cm_10_to_cm_12_publish_without_a_type_a_message_stream_or_a_transaction() {
    let base = [null(), string("cam")];
    for publish in [
        command("publish", 5.0, &base).on(1),
        command("publish", 5.0, &[base.concat(), null()]).on(1),
        command("publish", 5.0, &[base.concat(), string("LIVE")]).on(1),
        command("publish", 5.0, &[base.concat(), string("live")]).on(0),
        command("publish", 5.0, &[base.concat(), string("live")]).on(9),
        command("publish", 0.0, &[base.concat(), string("live")]).on(1),
    ] {
        let mut world = World::new(Settings::default());
        let client = world.connected();
        world.say(client, &[create_stream(2.0)]);
        world[client].take_messages();
        world.say(client, &[publish]);
        assert_eq!(world[client].answers(), ["NetStream.Publish.Start"]);
        assert_eq!(world[client].of_kind(COMMAND)[0].message_stream_id, 1);
        assert!(world.server.hub().find("live/cam").is_some());
    }
}

#[test]
fn cm_13_second_publisher_is_refused_readably() {
    let mut settings = Settings::default();
    settings.publish.duplicate = Duplicate::Reject;
    let mut world = World::new(settings);
    let first = world.publishing("cam");
    let second = world.connected();
    // Media that is on its way already must not turn the refusal into a reset.
    let flood = [create_stream(2.0), publish("cam"), wire::audio(0, 100), wire::audio(1, 100)];
    world.say(second, &flood);
    assert!(world[second].was_told("NetStream.Publish.BadName"));
    let refusal = world[second].of_kind(COMMAND).pop().unwrap();
    assert_eq!(refusal.message_stream_id, 1);
    assert!(world[second].is_finished() && !world[second].is_closed());
    world.say(second, &[wire::audio(2, 100)]);
    world[second].finish();
    world.run();
    assert!(world[second].is_closed());
    assert_eq!(world.closed(CloseReason::AlreadyPublishing), 1);
    assert!(world.conn(first).is_some());
}

#[test]
fn cm_13_with_replace_the_first_publisher_goes_and_its_players_stay() {
    let mut settings = Settings::default();
    settings.publish.duplicate = Duplicate::Replace;
    let mut world = World::new(settings);
    let first = world.publishing("cam");
    let player = world.playing("cam");
    let second = world.publishing("cam");
    assert!(world[first].was_told("NetStream.Publish.BadName"));
    assert!(world[first].is_finished());
    world.say(first, &[wire::audio(0, 1)]);
    world.say(second, &[wire::audio(0, 2)]);
    let lengths: Vec<_> = world[player].media().iter().map(|m| m.payload.len()).collect();
    assert_eq!(lengths, [4], "of the second alone");
}

#[test]
fn cm_14_an_empty_key_is_refused_unless_the_application_names_the_stream() {
    assert_eq!(published_name("live", ""), None);
    assert_eq!(published_name("live/cam", "").as_deref(), Some("live/cam"));
}

#[test]
fn cm_15_delete_stream_with_a_number_a_key_or_nothing_ends_the_publish() {
    for argument in [number(1.0), string("g1"), vec![]] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        world.say(publisher, &[command("deleteStream", 0.0, &[null(), argument])]);
        assert!(world.server.hub().is_empty());
        assert_eq!(world.conn(publisher).map(|conn| conn.stage), Some(Stage::Connected));
    }
}

#[test]
fn delete_stream_of_another_number_means_the_one_stream_that_it_can_mean() {
    let delete = |values: &[Vec<u8>], on| {
        let values = [&[null()], values].concat();
        command("deleteStream", 0.0, &values).on(on)
    };
    // Streams that publish, of those that there are, and which of them is left.
    for (streams, publishing, values, on, left) in [
        (1, &[1][..], vec![number(9.0)], 0, &[][..]),
        (1, &[1], vec![number(f64::NAN)], 0, &[]),
        (1, &[1], vec![number(-1.0)], 0, &[]),
        (3, &[2], vec![number(9.0)], 0, &[]),
        (3, &[2], vec![], 3, &[2]),
        (3, &[2, 3], vec![number(9.0)], 2, &[3]),
        (3, &[2, 3], vec![number(2.0)], 3, &[3]),
        (3, &[2, 3], vec![number(9.0)], 0, &[2, 3]),
        (3, &[2, 3], vec![string("cam2")], 0, &[2, 3]),
    ] {
        let mut world = World::new(Settings::default());
        let client = world.connected();
        let creates: Vec<_> = (1..=streams).map(|id| create_stream(f64::from(id))).collect();
        world.say(client, &creates);
        for id in publishing {
            world.say(client, &[publish(format!("cam{id}")).on(*id)]);
        }
        world.say(client, &[delete(&values, on)]);
        for id in publishing {
            let is_live = world.server.hub().find(&format!("live/cam{id}")).is_some();
            assert_eq!(is_live, left.contains(id), "{publishing:?} {values:?} on {on}");
        }
        world.assert_lives(client);
    }
}

#[test]
fn a_message_stream_that_was_deleted_is_the_next_to_be_created() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let delete = |id| command("deleteStream", 0.0, &[null(), number(id)]);
    world.say(client, &[create_stream(2.0), create_stream(3.0), delete(1.0), create_stream(4.0)]);
    let created = world[client].take_messages();
    let created: Vec<_> = created.iter().map(|message| message.payload.clone()).collect();
    let result = |transaction_id, id| {
        [string("_result"), number(transaction_id), null(), number(id)].concat()
    };
    assert_eq!(created, [result(2.0, 1.0), result(3.0, 2.0), result(4.0, 1.0)]);
}

#[test]
fn publish_and_play_of_false_stop_and_keep_the_message_stream() {
    let stop = |name| command(name, 0.0, &[null(), boolean(false)]);
    for on in [1, 0] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.playing("cam");
        world[player].take_messages();
        world.say(player, &[stop("play").on(on)]);
        assert_eq!(world[player].answers(), ["NetStream.Play.Stop"]);
        world.say(publisher, &[wire::audio(0, 1)]);
        assert!(world[player].media().is_empty());
        world.say(player, &[play("cam")]);
        world.say(publisher, &[wire::audio(20, 1)]);
        assert_eq!(world[player].media().last().map(|m| m.timestamp), Some(20));

        // What is not going on is not stopped.
        world.say(player, &[stop("publish").on(on)]);
        world.say(publisher, &[stop("play").on(on)]);
        assert!(world.server.hub().find("live/cam").is_some_and(|stream| stream.is_live()));
        assert!(world.conn(player).is_some_and(|conn| conn.plays()));

        world[publisher].take_messages();
        world.say(publisher, &[stop("publish").on(on)]);
        assert_eq!(world[publisher].answers(), ["NetStream.Unpublish.Success"]);
        assert!(world.server.hub().find("live/cam").is_some_and(|stream| !stream.is_live()));
        world.say(publisher, &[publish("cam"), wire::audio(40, 1)]);
        assert!(world[publisher].was_told("NetStream.Publish.Start"));
        assert_eq!(world[player].of_kind(AUDIO).len(), 2, "one before and one after");
    }
}

#[test]
fn commands_of_type_20_are_read_with_a_format_byte_as_well() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    let with_byte = |mut message: Message| {
        message.payload.insert(0, 0);
        message
    };
    world.say(client, &[wire::connect("live"), create_stream(2.0), publish("cam")].map(with_byte));
    assert!(world[client].was_told("NetStream.Publish.Start"));
    let tolerated = world.conn(client).unwrap().peer.session().unwrap().tolerated();
    assert_eq!(tolerated.count(Quirk::FormatByteAdded), 3);
    assert_eq!(tolerated.count(Quirk::FormatByteOmitted), 0);
}

#[test]
fn cm_16_after_close_stream_the_same_message_stream_publishes_again() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, &[command("closeStream", 0.0, &[null()]).on(1)]);
    assert!(world[publisher].was_told("NetStream.Unpublish.Success"));
    assert!(world.server.hub().is_empty());
    world.say(publisher, &[publish("other")]);
    assert!(world[publisher].was_told("NetStream.Publish.Start"));
    assert!(world.server.hub().find("live/other").is_some());
}

#[test]
fn cm_17_a_publish_ends_once_whichever_way_it_is_said() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 0;
    let mut world = World::new(settings);
    let player = world.playing("cam");
    let publisher = world.publishing("cam");
    world[player].take_messages();
    world[publisher].send(&[
        command("FCUnpublish", 3.0, &[null(), string("cam")]),
        command("deleteStream", 4.0, &[null(), number(1.0)]),
    ]);
    world[publisher].finish();
    world.run();
    assert_eq!(world[player].answers(), ["NetStream.Play.UnpublishNotify"]);
    assert_eq!(world.closed(CloseReason::PeerClosed), 1);
    assert_eq!(world.server.len(), 1);
}

#[test]
fn cm_17_a_stream_may_end_in_the_turn_that_brought_its_last_media() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world[publisher].send(&[wire::audio(0, 1)]);
    world[publisher].finish();
    world[player].finish();
    world.run();
    assert!(world.server.is_empty() && world.server.hub().is_empty());
}

#[test]
fn cm_18_and_cm_19_unknown_calls_are_answered_with_nothing_in_them() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    world.say(client, &[command("whatever", 7.0, &[null()])]);
    assert_eq!(world[client].answers(), ["_result 7"]);
    world.assert_lives(client);
    // `_checkbw` with a type-1 header, as ffmpeg has it.
    let call = command("_checkbw", 8.0, &[null()]);
    let mut bytes = hex("43 000000");
    bytes.extend(&call.chunks()[4..8]);
    bytes.extend(&call.payload);
    world[client].send_raw(&bytes);
    world.run();
    assert_eq!(world[client].answers(), ["_result 8"]);
}

#[test]
fn cm_20_media_before_publish_is_dropped_and_counted() {
    let mut world = World::new(Settings::default());
    let player = world.playing("cam");
    let client = world.connected();
    world.say(client, &[wire::audio(0, 1), create_stream(2.0), wire::audio(1, 1)]);
    assert_eq!(
        world.conn(client).unwrap().peer.session().unwrap().tolerated().count(Quirk::StrayMedia),
        2
    );
    world.say(client, &[publish("cam"), wire::audio(2, 1)]);
    let times: Vec<_> = world[player].media().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [2]);
}

#[test]
fn cm_21_media_on_an_unknown_message_stream_belongs_to_the_only_publish() {
    let mut world = World::new(Settings::default());
    let player = world.playing("cam");
    let publisher = world.publishing("cam");
    for id in [0, 7, 0x0100_0000] {
        world.say(publisher, &[wire::audio(id, 1).on(id)]);
    }
    let media = world[player].media();
    assert_eq!(media.len(), 3);
    assert!(media.iter().all(|message| message.message_stream_id == 1));
}

#[test]
fn cm_22_every_start_plays_what_is_live() {
    for start in [Some(-2000.0), Some(-2.0), Some(-1.0), Some(0.0), None] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.connected();
        let values = [vec![null(), string("cam")], start.map(number).into_iter().collect()];
        let play = command("play", 3.0, &values.concat()).on(1);
        world.say(player, &[create_stream(2.0), play]);
        assert!(world[player].was_told("NetStream.Play.Start"), "{start:?}");
        world.say(publisher, &[wire::audio(0, 1)]);
        assert_eq!(world[player].media().len(), 1, "{start:?}");
    }
}

/// A publisher that has sent metadata, configurations and two GOPs.
fn publisher_of_two_gops(world: &mut World) -> ClientHandle {
    let publisher = world.publishing("cam");
    let properties = object(&[("width", number(160.0))]);
    let values = [string("@setDataFrame"), string("onMetaData"), properties].concat();
    let aac = Message::new(4, AUDIO, hex("af00 1210")).on(1);
    world.say(
        publisher,
        &[
            Message::new(4, DATA, values).on(1),
            wire::video(0, wire::AVC_CONFIG),
            aac,
            wire::video(0, wire::AVC_KEYFRAME),
            wire::audio(10, 1),
            wire::video(40, wire::AVC_FRAME),
            wire::video(80, wire::AVC_KEYFRAME),
            wire::audio(90, 2),
            wire::video(120, wire::AVC_FRAME),
        ],
    );
    publisher
}

#[test]
fn cm_23_a_player_is_greeted_and_begins_with_headers_and_the_newest_keyframe() {
    let mut world = World::new(Settings::default());
    publisher_of_two_gops(&mut world);
    let player = world.connected();
    world.say(player, &[create_stream(2.0)]);
    world[player].take_messages();
    world.say(player, &[play("cam")]);
    let messages = world[player].messages();
    assert_eq!(messages[0].payload, user_control(STREAM_BEGIN, 1).payload);
    assert_eq!(world[player].answers(), ["NetStream.Play.Start"]);
    assert_eq!((messages[1].kind, messages[1].message_stream_id), (COMMAND, 1));
    assert_eq!(messages[2].payload, [string("|RtmpSampleAccess"), hex("0101 0101")].concat());
    let metadata = [string("onMetaData"), hex("08 00000001")].concat();
    assert!(messages[3].payload.starts_with(&metadata), "an ECMA array");
    let media: Vec<_> =
        messages[4..].iter().map(|m| (m.kind, m.timestamp, m.payload.clone())).collect();
    assert_eq!(
        media,
        [
            (AUDIO, 80, hex("af00 1210")),
            (VIDEO, 80, hex(wire::AVC_CONFIG)),
            (VIDEO, 80, hex(wire::AVC_KEYFRAME)),
            (AUDIO, 90, hex("af01 2121")),
            (VIDEO, 120, hex(wire::AVC_FRAME)),
        ]
    );
    assert!(messages[3..].iter().all(|message| message.message_stream_id == 1));
}

#[test]
fn cm_23_a_player_on_another_message_stream_gets_the_same_under_its_own_id() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 100;
    publisher_of_two_gops(&mut world);
    let first = world.playing("cam");
    let third = world.connected();
    let creates = [create_stream(2.0), create_stream(3.0), create_stream(4.0)];
    world.say(third, &creates);
    world.say(third, &[play("cam").on(3)]);
    let of = |client: ClientHandle, id| -> Vec<_> {
        let media = world[client].media();
        assert!(media.iter().all(|message| message.message_stream_id == id));
        media.iter().map(|m| (m.kind, m.timestamp, m.payload.clone())).collect()
    };
    assert_eq!(of(first, 1), of(third, 3));
}

#[test]
fn cm_23_messages_in_several_chunks_are_readdressed_chunk_by_chunk() {
    let mut settings = Settings::default();
    settings.rtmp.chunk_size = 128;
    for faults in 0..10 {
        let mut world = World::with_faults(settings.clone(), faults);
        world.socket_bytes = 150;
        let player = world.connected();
        world.say(player, &[create_stream(2.0), create_stream(3.0), play("cam").on(2)]);
        let publisher = world.publishing("cam");
        // Of exactly one and two chunks, and around them; before and behind the extended time.
        let lengths = [2, 127, 128, 129, 255, 256, 257, 1000];
        for timestamp in [0, 0x00ff_fffe, 0x00ff_ffff, 0x0100_0000] {
            for length in lengths {
                world.say(publisher, &[wire::audio(timestamp, length - 2)]);
            }
        }
        let media = world[player].media();
        assert_eq!(media.len(), 4 * lengths.len());
        assert!(media.iter().all(|message| message.message_stream_id == 2));
    }
}

#[test]
fn cm_23_headers_in_several_chunks_are_readdressed_all_of_them() {
    let mut settings = Settings::default();
    settings.rtmp.chunk_size = 128;
    for length in [127, 128, 129, 256] {
        let mut world = World::new(settings.clone());
        let publisher = world.publishing("cam");
        let mut audio = Message::new(4, AUDIO, hex("af00 1210")).on(1);
        let mut video = wire::video(0x0100_0000, wire::AVC_CONFIG);
        audio.payload.resize(length, 1);
        video.payload.resize(length, 2);
        let headers = [audio.payload.clone(), video.payload.clone()];
        world.say(publisher, &[audio, video, wire::video(0x0100_0000, wire::AVC_KEYFRAME)]);
        let player = world.connected();
        world.say(player, &[create_stream(2.0), create_stream(3.0), play("cam").on(2)]);
        let media = world[player].media();
        assert_eq!(media.len(), 3);
        assert_eq!([&media[0].payload, &media[1].payload], [&headers[0], &headers[1]]);
        assert!(media.iter().all(|message| message.message_stream_id == 2));
    }
}

#[test]
fn cm_24_a_player_of_an_absent_stream_waits_or_is_refused() {
    let mut world = World::new(Settings::default());
    let player = world.playing("cam");
    assert_eq!(world.conn(player).map(|conn| conn.stage), Some(Stage::Waiting));
    world[player].take_messages();
    let publisher = world.publishing("cam");
    assert_eq!(user_controls(&world, player), [user_control(STREAM_BEGIN, 1).payload]);
    assert_eq!(world[player].answers(), ["NetStream.Play.PublishNotify"]);
    world.say(publisher, &[wire::audio(0, 1)]);
    assert_eq!(world[player].media().len(), 1);

    let mut settings = Settings::default();
    settings.play.absent = Absent::Refuse;
    let mut world = World::new(settings);
    let player = world.connected();
    world.say(player, &[create_stream(2.0), play("cam")]);
    assert_eq!(world[player].answers().last().unwrap(), "NetStream.Play.StreamNotFound");
    assert!(world[player].is_finished());
    assert!(world.server.hub().is_empty());
}

#[test]
fn cm_25_players_are_told_when_the_publisher_leaves_for_good() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 0;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world[player].take_messages();
    world[publisher].finish();
    world.run();
    assert_eq!(world[player].answers(), ["NetStream.Play.UnpublishNotify"]);
    let eof = hex("02 000000 000006 04 00000000 0001 00000001");
    assert!(world[player].received().ends_with(&eof));
}

#[test]
fn cm_25_players_are_kept_for_a_publisher_that_returns() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world.say(publisher, &[wire::audio(5000, 1)]);
    world[player].take_messages();
    world[publisher].finish();
    world.advance_ms(14_000);
    let publisher = world.publishing("cam");
    world.say(publisher, &[wire::audio(0, 1)]);
    let messages: Vec<_> = world[player].messages().iter().map(|m| (m.kind, m.timestamp)).collect();
    assert_eq!(messages, [(AUDIO, 19_000)], "nothing but media whose time goes on");
}

#[test]
fn cm_26_what_players_ask_beside_play_is_answered_as_they_expect() {
    let mut world = World::new(Settings::default());
    world.publishing("cam");
    let player = world.playing("cam");
    let key = || [null(), string("cam")];
    type Case<'a> = (Message, &'a [&'a str], &'a [Vec<u8>]);
    let cases: [Case<'_>; 9] = [
        (command("getStreamLength", 5.0, &key()), &["_result 5"], &[]),
        (command("FCSubscribe", 6.0, &key()), &["onFCSubscribe 6"], &[]),
        (Message::new(2, USER_CONTROL, hex("0003 00000001 00000bb8")), &[], &[]),
        (
            command("pause", 7.0, &[null(), boolean(true), number(0.0)]).on(1),
            &["NetStream.Pause.Notify"],
            &[user_control(STREAM_EOF, 1).payload],
        ),
        (
            command("pause", 8.0, &[null(), boolean(false), number(0.0)]).on(1),
            &["NetStream.Unpause.Notify"],
            &[user_control(STREAM_BEGIN, 1).payload],
        ),
        (command("seek", 9.0, &[null(), number(1000.0)]).on(1), &["NetStream.Seek.Notify"], &[]),
        (command("receiveAudio", 0.0, &[null(), boolean(false)]).on(1), &[], &[]),
        (command("receiveVideo", 0.0, &[null(), boolean(false)]).on(1), &[], &[]),
        (
            command("receiveVideo", 0.0, &[null(), boolean(true)]).on(1),
            &["NetStream.Seek.Notify", "NetStream.Play.Start"],
            &[],
        ),
    ];
    for (request, answers, controls) in cases {
        world[player].take_messages();
        world.say(player, std::slice::from_ref(&request));
        assert_eq!(world[player].answers(), answers, "{request:?}");
        assert_eq!(user_controls(&world, player), controls, "{request:?}");
    }
    world.assert_lives(player);
}

#[test]
fn cm_26_a_paused_player_gets_no_media_until_it_goes_on() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    let pause = |on| command("pause", 0.0, &[null(), boolean(on), number(0.0)]).on(1);
    world.say(player, &[pause(true)]);
    world.say(publisher, &[wire::audio(0, 1)]);
    assert!(world[player].media().is_empty());
    world.say(player, &[pause(false)]);
    assert_eq!(world[player].media().len(), 1);
}

#[test]
fn cm_26_a_kind_that_is_turned_off_is_left_out_and_video_comes_back_with_a_keyframe() {
    let mut world = World::new(Settings::default());
    let publisher = publisher_of_two_gops(&mut world);
    let player = world.playing("cam");
    let receive = |kind: &str, on| command(kind, 0.0, &[null(), boolean(on)]).on(1);
    let media = |world: &World| -> Vec<_> {
        world[player].media().iter().map(|m| (m.kind, m.payload[0])).collect()
    };
    world.say(player, &[receive("receiveVideo", false)]);
    world[player].take_messages();
    world.say(publisher, &[wire::audio(130, 1), wire::video(160, wire::AVC_FRAME)]);
    assert_eq!(media(&world), [(AUDIO, 0xaf)]);
    world.say(player, &[receive("receiveVideo", true), receive("receiveAudio", false)]);
    world[player].take_messages();
    world.say(
        publisher,
        &[
            wire::audio(190, 1),
            wire::video(200, wire::AVC_FRAME),
            wire::video(240, wire::AVC_KEYFRAME),
            wire::video(280, wire::AVC_FRAME),
        ],
    );
    assert_eq!(media(&world), [(VIDEO, 0x17), (VIDEO, 0x27)]);
}

#[test]
fn cm_27_one_connection_publishes_and_plays() {
    let mut world = World::new(Settings::default());
    let client = world.publishing("cam");
    world.say(client, &[create_stream(3.0), play("cam").on(2)]);
    world.say(client, &[wire::audio(0, 1)]);
    let media = world[client].media();
    assert_eq!(media.len(), 1);
    assert_eq!(media[0].message_stream_id, 2);
    world[client].finish();
    world.run();
    assert!(world.server.hub().is_empty());
}

#[test]
fn cm_27_one_connection_plays_several_streams() {
    let mut world = World::new(Settings::default());
    let publishers = ["a", "b", "c"].map(|key| world.publishing(key));
    let player = world.connected();
    world.say(player, &[create_stream(2.0), create_stream(3.0), create_stream(4.0)]);
    world.say(player, &[play("a").on(1), play("b").on(2), play("c").on(3)]);
    for (index, publisher) in publishers.into_iter().enumerate() {
        world.say(publisher, &[wire::audio(0, index)]);
    }
    let media: Vec<_> = world[player]
        .media()
        .iter()
        .map(|m| (m.message_stream_id as usize, m.payload.len()))
        .collect();
    assert_eq!(media, [(1, 2), (2, 3), (3, 4)]);
    world.say(player, &[command("deleteStream", 0.0, &[null(), number(2.0)])]);
    assert!(world.server.hub().find("live/b").is_some_and(|stream| stream.players().is_empty()));
}

#[test]
fn cm_28_to_cm_31_spellings_of_a_stream_meet_in_one_name() {
    let cases = [
        ("live/a", "b", "live/a/b"),
        ("live", "a/b", "live/a/b"),
        ("live?tok=1", "s?x=2", "live/s"),
        ("live/tok?sig=ab", "cd+e==", "live/tok"),
        ("live/", "s", "live/s"),
        ("/live", "s", "live/s"),
        ("live/_definst_", "s", "live/s"),
        ("live/_definst_/a", "mp4:s.mp4", "live/a/s"),
        ("live", "my%20show", "live/my show"),
        ("live", "rtmps://host/live/s?x=1", "live/s"),
        ("live/s?", "user=u&pass=p", "live/s"),
    ];
    for (app, key, name) in cases {
        assert_eq!(published_name(app, key).as_deref(), Some(name), "{app} and {key}");
    }
}

#[test]
fn cm_32_harmful_names_are_refused_with_a_reason() {
    let long = "x".repeat(5000);
    let url = "rtmp://host/other/s";
    for key in ["../x", "a/%2e%2E/b", "a\0b", "a%0ab", &long, url, "s&user=u&pass=p"] {
        for request in [publish(key), play(key)] {
            let mut world = World::new(Settings::default());
            let client = world.connected();
            world.say(client, &[create_stream(2.0), request]);
            let told = world[client].answers().pop().unwrap();
            let codes = ["NetStream.Publish.BadName", "NetStream.Play.StreamNotFound"];
            assert!(codes.contains(&&*told), "{told} for {key:?}");
            assert!(world[client].is_finished());
            world.advance_ms(1000);
            assert_eq!(world.closed(CloseReason::BadName), 1);
            assert!(world.server.hub().is_empty());
        }
    }
}

#[test]
fn a_url_of_one_part_is_refused_to_everybody_with_the_form_it_should_have() {
    for (app, key) in [("name", ""), ("", "name"), ("name?user=u", "pass=p")] {
        for request in [publish(key), play(key)] {
            let mut world = World::new(Settings::default());
            let client = world.handshaken();
            world.say(client, &[wire::connect(app), create_stream(2.0), request]);
            let refusal = world[client].of_kind(COMMAND).pop().unwrap();
            let remedy = if key == "pass=p" { "question mark" } else { "rtmp://host/live/key" };
            let has =
                |text: &str| refusal.payload.windows(text.len()).any(|w| w == text.as_bytes());
            assert!(has(remedy) && !has("pass="), "{app} {key}");
            assert!(world.server.hub().is_empty());
        }
    }
}

#[test]
fn cm_34_a_publisher_that_never_reads_is_heard_for_ten_minutes_and_owed_little() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 64 * 1024;
    let publisher = world.publishing("cam");
    // Half of this is the smallest interval of acknowledgements that a peer may ask for.
    world.say(publisher, &[control(wire::WINDOW_ACK_SIZE, 1024)]);
    let player = world.playing("cam");
    world[publisher].reads = false;
    for second in 0..600 {
        for frame in 0..50 {
            world[publisher].send(&[wire::audio(second * 1000 + frame * 20, 700)]);
            world.run();
        }
        world.advance_ms(1000);
        let owed = world.conn(publisher).unwrap().peer.session().unwrap().output().bytes().len();
        assert!(owed <= 16, "{owed} bytes");
        assert_eq!(world[player].take_messages().last().map(|m| m.kind), Some(AUDIO));
    }
    world[publisher].read(usize::MAX);
    let acknowledged = world[publisher].of_kind(wire::ACKNOWLEDGEMENT);
    assert!(acknowledged.iter().map(|message| big(&message.payload)).is_sorted());
}

#[test]
fn the_client_of_this_crate_publishes_and_plays() {
    let mut world = World::new(Settings::default());
    let player = world.player("cam");
    let publisher = world.publisher("cam");
    world[publisher].client().write_audio(20, &hex("af01 21"));
    world[publisher].client().write_video(40, &[0x17; 200_000]);
    world.run();
    let media: Vec<_> =
        world[player].media().iter().map(|m| (m.timestamp, m.payload.len())).collect();
    assert_eq!(media, [(20, 3), (40, 200_000)]);
    world[publisher].client().delete_stream();
    world.run();
    assert!(world.server.hub().find("live/cam").is_some_and(|stream| !stream.is_live()));
}

#[test]
fn calls_that_nobody_reads_the_answers_of_end_the_connection() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4096;
    let client = world.connected();
    world[client].reads = false;
    world[client].split = Split::Bytes(100);
    for _ in 0..2000 {
        world[client].send(&[command("whatever", 7.0, &[null()])]);
    }
    world.run();
    assert_eq!(world.closed(CloseReason::ControlOverflow), 1);
}

#[test]
fn an_application_that_is_refused_is_told_so_before_the_end() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world.say(client, &[wire::connect("live/../etc")]);
    assert!(world[client].was_told("NetConnection.Connect.InvalidApp"));
    assert!(world[client].is_finished() && !world[client].is_closed(), "it may read that");
    world.advance_ms(1_000);
    assert_eq!(world.closed(CloseReason::BadName), 1);
}

#[test]
fn a_message_stream_that_was_taken_over_no_longer_publishes() {
    let mut settings = Settings::default();
    settings.publish.duplicate = Duplicate::Replace;
    let mut world = World::new(settings);
    let client = world.connected();
    let on = |id, name| command(name, 0.0, &[null(), string("cam")]).on(id);
    world.say(client, &[create_stream(2.0), create_stream(3.0)]);
    world.say(client, &[on(1, "publish"), on(2, "publish")]);
    world.say(client, &[wire::audio(0, 10).on(1)]);
    let tolerated = world.conn(client).unwrap().peer.session().unwrap().tolerated();
    assert_eq!(tolerated.count(Quirk::StrayMedia), 1);
}
