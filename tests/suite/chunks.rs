//! The chunk stream through the whole server: rows CH of the conformance table.

use tiderace::config::Settings;
use tiderace::rtmp::quirks::Quirk;
use tiderace::server::reason::CloseReason;

use crate::socket::is_about_sockets;
use crate::wire::{
    self, ACKNOWLEDGEMENT, AUDIO, Message, SET_CHUNK_SIZE, VIDEO, WINDOW_ACK_SIZE, big, control,
    hex,
};
use crate::world::{ClientHandle, Split, World};

/// A publisher of `cam` that a player listens to.
fn publisher_and_player(world: &mut World) -> (ClientHandle, ClientHandle) {
    let player = world.playing("cam");
    let publisher = world.publishing("cam");
    world[player].take_messages();
    (publisher, player)
}

/// Sends bytes to a server as a publisher and asserts that they end the connection.
fn assert_closes(bytes: &[u8], reason: CloseReason) {
    for split in [Split::Whole, Split::Bytes(1)] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        world[publisher].split = split;
        world[publisher].send_raw(bytes);
        world.run();
        assert!(world[publisher].is_closed(), "{reason}");
        assert_eq!(world.closed(reason), 1, "{reason}");
        assert!(world.server.hub().is_empty());
    }
}

#[test]
fn ch_01_two_forms_of_a_basic_header_name_one_chunk_stream() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    world[publisher].send_raw(&hex("00 00 000064 000004 08 01000000 af010101"));
    world[publisher].send_raw(&hex("c1 00 00 af010202"));
    world.run();
    let payloads: Vec<_> = world[player].media().iter().map(|m| m.payload.clone()).collect();
    assert_eq!(payloads, [hex("af010101"), hex("af010202")]);
}

#[test]
fn ch_02_commands_are_taken_on_the_highest_chunk_stream() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let mut command = wire::create_stream(2.0);
    command.chunk_stream_id = 65_599;
    assert!(command.chunks().starts_with(&hex("01 ff ff")));
    world.say(client, &[command]);
    assert_eq!(world[client].answers(), ["_result 2"]);
}

#[test]
fn ch_06_audio_within_a_split_video_leaves_both_intact() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let keyframe = [hex(wire::AVC_KEYFRAME), vec![7; 193]].concat();
    let video = Message::new(6, VIDEO, keyframe).on(1).at(40).chunks();
    let audio = wire::audio(41, 8);
    let (first, rest) = video.split_at(12 + 128);
    world[publisher].send_raw(&[first, &audio.chunks(), rest].concat());
    world.run();
    let media: Vec<_> = world[player].media().iter().map(|m| (m.kind, m.payload.len())).collect();
    assert_eq!(media, [(AUDIO, 10), (VIDEO, 200)]);
}

#[test]
fn ch_12_time_that_wraps_goes_on_for_a_player() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    world[publisher].send_raw(&hex("04 ffffff 000002 08 01000000 fffffff0 af01"));
    world[publisher].send_raw(&hex("44 000020 000002 08 af01"));
    world.run();
    let times: Vec<_> = world[player].media().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [0xffff_fff0, 0x10]);
}

#[test]
fn ch_13_and_ch_14_extended_time_with_and_without_the_field_in_type_3_chunks() {
    for repeated in [&hex("01000000")[..], &[]] {
        let mut world = World::new(Settings::default());
        let (publisher, player) = publisher_and_player(&mut world);
        let first = [hex("04 ffffff 0000c8 08 01000000 01000000 af01"), vec![5; 126]].concat();
        world[publisher].send_raw(&[&first, &[0xc4][..], repeated, &[5; 72]].concat());
        world.run();
        let media = world[player].media();
        assert_eq!(media.len(), 1);
        assert_eq!((media[0].timestamp, media[0].payload.len()), (16_777_216, 200));
    }
}

#[test]
fn ch_19_type_3_chunks_to_a_player_repeat_the_extended_time() {
    let mut settings = Settings::default();
    settings.rtmp.chunk_size = 128;
    let mut world = World::new(settings);
    let (publisher, player) = publisher_and_player(&mut world);
    world.say(publisher, &[wire::audio(16_777_216, 198)]);
    // The reader of the tests takes no other form.
    assert_eq!(world[player].media()[0].payload.len(), 200);
    let type_3 = [hex("c4 01000000"), vec![0x21; 72]].concat();
    assert!(world[player].received().ends_with(&type_3));
}

#[test]
fn ch_21_a_chunk_stream_that_begins_without_its_message_header_closes() {
    assert_closes(&hex("c9"), CloseReason::MissingHeader);
    assert_closes(&hex("89 000000"), CloseReason::MissingHeader);
}

#[test]
fn ch_22_a_message_begun_anew_replaces_the_half_received_one() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let abandoned = wire::audio(10, 298).chunks();
    world[publisher].send_raw(&abandoned[..12 + 128]);
    world.say(publisher, &[wire::audio(20, 3)]);
    let media: Vec<_> = world[player].media().iter().map(|m| m.timestamp).collect();
    assert_eq!(media, [20]);
    world.assert_lives(publisher);
}

#[test]
fn ch_24_memory_of_an_announced_message_grows_with_what_arrived() {
    let mut settings = Settings::default();
    settings.limits.video_bytes_max = 0x00ff_ffff;
    settings.limits.assembly_bytes_max = 0x00ff_ffff;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    world[publisher].send(&[control(SET_CHUNK_SIZE, 0x00ff_ffff)]);
    world[publisher].send_raw(&hex("06 000000 ffffff 09 01000000"));
    world[publisher].send_raw(&[0x17; 1024]);
    world.run();
    let assembly =
        world.conn(publisher).unwrap().peer.session().unwrap().inbound().reader().assembly_bytes();
    assert!((1024..=16 * 1024).contains(&assembly), "{assembly} bytes for 1024");
    world.advance_ms(30_000);
    assert!(world[publisher].is_closed());
    assert_eq!(world.closed(CloseReason::PublisherSilent), 1);
}

#[test]
fn ch_25_a_message_above_the_limit_of_its_kind_closes() {
    // 8 MiB and one byte of video, 1 MiB and one of audio, 64 KiB and one of a command.
    for (kind, length) in [("09", "800001"), ("08", "100001"), ("14", "010001")] {
        let header = hex(&format!("06 000000 {length} {kind} 01000000 17"));
        assert_closes(&header, CloseReason::MessageTooLarge);
    }
}

#[test]
fn ch_25_before_a_publish_every_message_is_as_long_as_a_command_at_most() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world[client].send_raw(&hex("06 000000 010001 09 01000000 17"));
    world.run();
    assert_eq!(world.closed(CloseReason::MessageTooLarge), 1);
}

#[test]
fn ch_26_a_thousand_half_messages_close_before_memory_grows() {
    let first_chunk = |id| {
        let message = Message::new(id, AUDIO, vec![0xaf; 1000]).on(1).chunks();
        message[..wire::basic_header(0, id).len() + 11 + 128].to_vec()
    };
    let flood: Vec<u8> = (10..1010).flat_map(first_chunk).collect();
    assert_closes(&flood, CloseReason::TooManyChunkStreams);
}

#[test]
fn ch_30_and_ch_31_impossible_chunk_sizes_close() {
    for size in [0, 0x8000_0001] {
        assert_closes(&control(SET_CHUNK_SIZE, size).chunks(), CloseReason::BadControl);
    }
}

#[test]
fn ch_34_and_ch_35_a_chunk_size_counts_wherever_and_whenever_it_comes() {
    for (chunk_stream_id, message_stream_id) in [(2, 0), (3, 1), (5, 1)] {
        let mut world = World::new(Settings::default());
        let (publisher, player) = publisher_and_player(&mut world);
        let mut size = control(SET_CHUNK_SIZE, 4096).on(message_stream_id);
        size.chunk_stream_id = chunk_stream_id;
        world[publisher].send(&[size]);
        world[publisher].send_raw(&wire::audio(0, 2998).chunks_of(4096));
        world.run();
        assert_eq!(world[player].media()[0].payload.len(), 3000);
        world[publisher].send_raw(&control(SET_CHUNK_SIZE, 1).chunks());
        world[publisher].send_raw(&wire::audio(1, 98).chunks_of(1));
        world.run();
        assert_eq!(world[player].media()[1].payload.len(), 100, "from the next chunk on");
    }
}

#[test]
fn ch_36_an_aborted_message_is_not_delivered() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    world[publisher].send_raw(&wire::audio(10, 298).chunks()[..12 + 100]);
    world.run();
    world[publisher].send_raw(&[0x21; 28]);
    world.say(publisher, &[control(wire::ABORT, 4), wire::audio(20, 3)]);
    let media: Vec<_> = world[player].media().iter().map(|m| m.timestamp).collect();
    assert_eq!(media, [20]);
}

#[test]
fn ch_38_media_is_acknowledged_by_the_bytes_so_far() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, &[control(WINDOW_ACK_SIZE, 1000)]);
    let behind_handshake = |world: &World| world.conn(publisher).unwrap().bytes_in - 3073;
    let mut acknowledged = Vec::new();
    for timestamp in 0..10 {
        world.say(publisher, &[wire::audio(timestamp, 498)]);
        acknowledged.push(behind_handshake(&world));
    }
    let values: Vec<_> = world[publisher]
        .of_kind(ACKNOWLEDGEMENT)
        .iter()
        .map(|m| u64::from(big(&m.payload)))
        .collect();
    assert_eq!(values, acknowledged);
}

#[test]
fn ch_40_media_is_acknowledged_without_a_window_of_the_peer() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, &[control(SET_CHUNK_SIZE, 60_000)]);
    let message = wire::audio(0, 49_998).chunks_of(60_000);
    for _ in 0..400 {
        world[publisher].send_raw(&message);
    }
    world.run();
    let values: Vec<_> =
        world[publisher].of_kind(ACKNOWLEDGEMENT).iter().map(|m| big(&m.payload)).collect();
    let mut last = 0;
    for value in values.into_iter().chain([20_000_000]) {
        assert!((last..=last + 2_500_000).contains(&value), "{value} after {last}");
        last = value;
    }
}

#[test]
fn ch_20_and_others_what_needs_no_answer_leaves_the_connection_alive() {
    let cases = [
        ("a ping of librtmp on a new chunk stream", hex("42 000001 000006 04 0007 00003039")),
        ("abort of an unused chunk stream", control(wire::ABORT, 9).chunks()),
        ("window 0", control(WINDOW_ACK_SIZE, 0).chunks()),
        ("window 1", control(WINDOW_ACK_SIZE, 1).chunks()),
        ("acknowledgement of the future", control(ACKNOWLEDGEMENT, 0xdead_beef).chunks()),
        ("bandwidth of 4 bytes", control(wire::SET_PEER_BANDWIDTH, 1000).chunks()),
        ("bandwidth of type 3", hex("02 000000 000005 06 00000000 002625a0 03")),
    ];
    for (what, bytes) in cases {
        for publishes in [false, true] {
            let mut world = World::new(Settings::default());
            let client = if publishes { world.publishing("cam") } else { world.connected() };
            // The first chunk on chunk stream 2 is what the first case is about.
            world[client].send_raw(&bytes);
            world.run();
            assert!(world.conn(client).is_some(), "{what}");
            world.say(client, &[wire::command("_checkbw", 9.0, &[wire::null()])]);
            assert!(world[client].was_told("_result 9"), "{what}");
        }
    }
}

#[test]
fn ch_45_messages_of_unknown_types_are_counted() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    for (count, kind) in [0, 7, 10, 21, 200].into_iter().enumerate() {
        world.say(client, &[Message::new(3, kind, [1, 2, 3])]);
        let tolerated = world.conn(client).unwrap().peer.session().unwrap().tolerated();
        assert_eq!(usize::from(tolerated.count(Quirk::UnknownMessage)), count + 1, "type {kind}");
    }
    world.assert_lives(client);
}
