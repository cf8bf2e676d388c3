//! What real clients do wrong and are served all the same: the rows of the protocol's list of
//! quirks, each by what the client sends, and what the closing line says of it.
//!
//! Rows that other tests hold, named by their first words where an id begins them:
//!
//! | row | what | test |
//! |---|---|---|
//! | 2 | S2 must be C1 | `handshake::hs_01` |
//! | 4 | connect in the segment of C2 | `handshake::hs_03` |
//! | 5 | HTTP and TLS on the port | `handshake::hs_07_to_hs_10` |
//! | 7 | chunk size before connect | `commands::cm_03` |
//! | 9, 10 | our chunk size, before a long answer | `commands::cm_04` |
//! | 21 | pings are not answered | `control::uc_02` |
//! | 22 | the client never reads | `commands::cm_34` |
//! | 23 | acknowledgements, past 4 GiB too | `chunks::ch_38`, in `rtmp::link` `ch_41` |
//! | 24 | no window of the encoder | `chunks::ch_40` |
//! | 28 | several publishes | `streams::several_streams_are_published_on_one_connection` |
//! | 31 | empty key | `commands::cm_14` |
//! | 41 | metadata again | `data::da_03` |
//! | 59, 61 | a refusal is read, then closed | `commands::cm_13_second_publisher` |
//! | 60 | the old socket hangs | `timers::tm_04` |
//! | 63 | start in milliseconds | `commands::cm_22` |
//! | 65 | a codec changes | `streams::a_changed_sequence_header_reaches_every_player` |
//!
//! Row 58 is a matter of the README, row 70 of the socket options in `net/listener.rs`; rows 68
//! and 73 are about HTTP-FLV and TLS, which are not here.

use tiderace::config::Settings;
use tiderace::rtmp::quirks::Quirk;
use tiderace::server::conn::ClosingLine;
use tiderace::server::reason::CloseReason;

use crate::wire::{
    self, AUDIO, AVC_CONFIG, AVC_FRAME, AVC_KEYFRAME, DATA, Message, SET_CHUNK_SIZE, SHARED_OBJECT,
    USER_CONTROL, VIDEO, WINDOW_ACK_SIZE, audio, command, create_stream, ecma_array, hex, null,
    number, object, publish, string, user_control, video,
};
use crate::world::{ClientHandle, World};

fn publisher_and_player(world: &mut World) -> (ClientHandle, ClientHandle) {
    let player = world.playing("cam");
    let publisher = world.publishing("cam");
    world[player].take_messages();
    (publisher, player)
}

/// Sends bytes and lets happen what comes of them.
fn send(world: &mut World, client: ClientHandle, bytes: &str) {
    world[client].send_raw(&hex(bytes));
    world.run();
}

/// What the line says that would end the connection now.
fn tolerated(world: &World, client: ClientHandle) -> String {
    let conn = world.conn(client).expect("it lives");
    let line = ClosingLine { conn, now: world.now(), access: world.server.access() }.to_string();
    line.split_once("; tolerated: ").map(|(_, what)| what.to_owned()).unwrap_or_default()
}

/// Asserts that a connection lives and that its line names `what`.
fn assert_tolerates(world: &mut World, client: ClientHandle, what: &str) {
    world.assert_lives(client);
    let said = tolerated(world, client);
    assert!(said.split(", ").any(|quirk| quirk == what), "{what:?} among {said:?}");
}

/// Ends a publish on message stream 1: what was repaired of its timestamps is counted then.
fn end_publish(world: &mut World, publisher: ClientHandle) {
    world.say(publisher, &[command("deleteStream", 0.0, &[null(), number(1.0)])]);
}

fn times(world: &World, player: ClientHandle) -> Vec<u32> {
    world[player].media().iter().map(|message| message.timestamp).collect()
}

fn payloads(world: &World, player: ClientHandle) -> Vec<Vec<u8>> {
    world[player].media().iter().map(|message| message.payload.clone()).collect()
}

/// Payloads that are published in turn: what a player gets that was there, and one that joins.
fn relayed(kind: u8, published: &[&str]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    for (index, payload) in published.iter().enumerate() {
        let message = Message::new(6, kind, hex(payload)).on(1).at(40 * index as u32);
        world.say(publisher, &[message]);
    }
    let newcomer = world.playing("cam");
    world.assert_lives(publisher);
    (payloads(&world, player), payloads(&world, newcomer))
}

fn bytes(payloads: &[&str]) -> Vec<Vec<u8>> {
    payloads.iter().map(|payload| hex(payload)).collect()
}

fn data(values: &[Vec<u8>]) -> Message {
    Message::new(4, DATA, values.concat()).on(1)
}

/// A connection on which `connect` was answered.
fn connected_by(world: &mut World, connect: Message) -> ClientHandle {
    let client = world.handshaken();
    world.say(client, &[connect]);
    assert!(world[client].was_told("_result 1"), "connect is granted");
    client
}

fn url() -> Vec<u8> {
    string("rtmp://host/live")
}

#[test]
fn nothing_is_said_of_a_client_that_does_nothing_wrong() {
    let mut world = World::new(Settings::default());
    for client in [world.publisher("cam"), world.player("cam")] {
        assert_eq!(tolerated(&world, client), "");
    }
}

#[test]
fn quirks_are_said_together_with_their_numbers() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    send(&mut world, publisher, "02 000000 000004 01 00000000 00000080");
    let unknown = [0, 7, 99].map(|kind| Message::new(3, kind, [1]));
    world.say(publisher, &unknown);
    // A video of 300 bytes, of which one chunk comes; then one that lacks a repeated field.
    world[publisher].send_raw(&[hex("06 000000 00012c 09 01000000"), vec![0x27; 128]].concat());
    world[publisher].send_raw(&[hex("06 ffffff 000081 09 01000000 01000000")].concat());
    world[publisher].send_raw(&[vec![0x27; 128], hex("c6 27")].concat());
    world.run();
    let conn = world.conn(publisher).unwrap();
    let line = ClosingLine { conn, now: world.now(), access: world.server.access() }.to_string();
    let said = " s; tolerated: 1 abandoned message, 3 unknown messages, extended timestamp omitted";
    assert!(line.ends_with(said), "{line}");
}

#[test]
fn quirk_1_a_c2_that_repeats_nothing() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    assert_tolerates(&mut world, client, "C2 does not repeat S1");
}

#[test]
fn quirk_3_the_version_of_a_simple_s1_is_zero() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world[client].send_raw(&wire::handshake());
    world.run();
    // S0, the time, then four bytes of which ffmpeg takes the first for a version with a digest.
    assert_eq!(world[client].received()[5..9], [0; 4]);
}

#[test]
fn quirk_6_a_reset_after_the_handshake_is_said_at_debug_level() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world[client].reset();
    world.run();
    assert_eq!(world.closed(CloseReason::PeerReset), 1);
    assert_eq!(CloseReason::PeerReset.level(), log::Level::Debug);
}

#[test]
fn quirk_8_a_chunk_size_after_publish_with_a_type_1_header() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    // Window Acknowledgement Size, then Set Chunk Size as GStreamer's sink has them, and one
    // chunk as long as the new size.
    send(
        &mut world,
        publisher,
        "02 000000 000004 05 00000000 002625a0  42 000000 000004 01 00001000",
    );
    let long = audio(20, 400);
    world[publisher].send_raw(&long.chunks_of(4096));
    world.run();
    assert_eq!(payloads(&world, player), [long.payload]);
}

#[test]
fn quirk_11_type_3_without_extended_timestamp() {
    for repeats in [false, true] {
        let mut world = World::new(Settings::default());
        let (publisher, player) = publisher_and_player(&mut world);
        world.say(publisher, &[video(0x0100_0000, AVC_CONFIG)]);
        let keyframe = [hex("1701000000"), vec![0x65; 195]].concat();
        let parts = [
            &hex("04 ffffff 0000c8 09 01000000 01000028")[..],
            &keyframe[..128],
            &hex(if repeats { "c4 01000028" } else { "c4" }),
            &keyframe[128..],
        ];
        world[publisher].send_raw(&parts.concat());
        world.run();
        assert_eq!(payloads(&world, player)[1..], [keyframe]);
        if !repeats {
            assert_tolerates(&mut world, publisher, "extended timestamp omitted");
        }
        let count = world.conn(publisher).unwrap().peer.session().unwrap().tolerated();
        assert_eq!(count.count(Quirk::ExtendedTimestampOmitted) > 0, !repeats);
    }
}

#[test]
fn quirk_12_type_3_that_begins_a_message_at_the_same_time() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    send(&mut world, publisher, "05 0007d0 000003 08 01000000 af0121  c5 af0122");
    assert_eq!(times(&world, player), [2000, 2000]);
    assert_tolerates(&mut world, publisher, "1 type 3 header after type 0");
}

#[test]
fn quirk_13_an_extended_value_in_type_1_is_a_delta() {
    let mut settings = Settings::default();
    settings.timeouts.publisher_silent_ms = 0;
    let mut world = World::new(settings);
    let (publisher, player) = publisher_and_player(&mut world);
    send(&mut world, publisher, "05 000064 000003 08 01000000 af0121");
    // A jump that does not follow the time that passed would not be followed either.
    world.advance_ms(0x0100_0000);
    send(&mut world, publisher, "45 ffffff 000003 08 01000000 af0122");
    assert_eq!(times(&world, player), [100, 100 + 0x0100_0000]);
    world.assert_lives(publisher);
}

#[test]
fn quirk_14_a_delta_of_nearly_32_bits_steps_back() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    send(
        &mut world,
        publisher,
        "05 000064 000003 08 01000000 af0121  45 ffffff 000003 08 fffffff6 af0122
         45 00001e 000003 08 af0123",
    );
    assert_eq!(times(&world, player), [100, 100, 120]);
    assert_tolerates(&mut world, publisher, "1 backward timestamp delta");
    end_publish(&mut world, publisher);
    assert_tolerates(&mut world, publisher, "1 backward timestamp");
}

#[test]
fn quirk_15_a_message_given_up_half_way() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    for _ in 0..2 {
        world[publisher].send_raw(&[hex("04 000000 00012c 09 01000000"), vec![0x27; 128]].concat());
        send(&mut world, publisher, "04 000028 000003 08 01000000 af0121");
    }
    assert_eq!(payloads(&world, player), bytes(&["af0121", "af0121"]));
    assert_tolerates(&mut world, publisher, "2 abandoned messages");
}

#[test]
fn quirk_15_a_header_of_type_1_in_the_middle_of_a_message() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let sound = [hex("af01"), vec![0x21; 198]].concat();
    let parts =
        [&hex("04 000000 0000c8 08 01000000")[..], &sound[..128], &hex("44 000000 0000c8 08")];
    world[publisher].send_raw(&[&parts.concat()[..], &sound[128..]].concat());
    world.run();
    assert_eq!(payloads(&world, player), [sound]);
    assert_tolerates(&mut world, publisher, "1 header within a message");
}

#[test]
fn quirk_16_a_chunk_stream_that_opens_with_type_1() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    // A pong of librtmp, the first chunk on its chunk stream.
    send(&mut world, client, "42 000001 000006 04 0007 00003039");
    assert_tolerates(&mut world, client, "chunk stream opened with type 1");
}

#[test]
fn quirk_17_control_messages_on_chunk_stream_3() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let size = Message::new(3, SET_CHUNK_SIZE, 4096_u32.to_be_bytes());
    world.say(publisher, &[size]);
    let long = audio(0, 400);
    world[publisher].send_raw(&long.chunks_of(4096));
    world.run();
    assert_eq!(payloads(&world, player), [long.payload]);
    assert_tolerates(&mut world, publisher, "control messages off chunk stream 2");
}

#[test]
fn quirk_18_chunk_streams_of_33_64_and_more() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    for (timestamp, id) in (1..).zip([33, 45, 64, 320, 65_599]) {
        let message = Message { chunk_stream_id: id, ..audio(timestamp, 200) };
        world.say(publisher, &[message]);
    }
    assert_eq!(times(&world, player), [1, 2, 3, 4, 5]);
    world.assert_lives(publisher);
}

#[test]
fn quirk_19_audio_video_and_data_on_one_chunk_stream() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    // As OBS has it: deltas run on across audio and video, and lengths and types change.
    send(
        &mut world,
        publisher,
        "04 000000 000004 08 01000000 af001210  44 000000 000009 09 170000000001 42c01e
         44 000000 000007 09 170100000065aa  44 000015 000003 08 af0121
         44 00000c 000007 09 270100000041bb  44 000009 000003 08 af0122  84 000016 af0123",
    );
    assert_eq!(times(&world, player), [0, 0, 0, 21, 33, 42, 64]);
    world.assert_lives(publisher);
}

#[test]
fn quirk_20_timestamps_of_31_bits() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    for timestamp in [0x7fff_ffd8, 0x7fff_ffff, 0x27, 0x4e] {
        world.say(publisher, &[audio(timestamp, 1)]);
    }
    assert_eq!(times(&world, player), [0x7fff_ffd8, 0x7fff_ffff, 0x8000_0027, 0x8000_004e]);
    end_publish(&mut world, publisher);
    assert_tolerates(&mut world, publisher, "1 clock wrap at 2^31");
}

#[test]
fn quirk_25_transactions_of_0() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    // As GStreamer's sink has it; publish comes on chunk stream 3.
    let requests = [
        command("releaseStream", 0.0, &[null(), string("cam")]),
        command("FCPublish", 0.0, &[null(), string("cam")]),
        create_stream(2.0),
        publish("cam"),
    ];
    world.say(client, &requests);
    assert_eq!(
        world[client].answers(),
        ["onFCPublish 0", "_result 2", "NetStream.Publish.Start"],
        "no result where none is wanted"
    );
}

#[test]
fn quirk_26_delete_stream_with_the_key() {
    let mut world = World::new(Settings::default());
    let client = world.publishing("cam");
    world.say(client, &[command("deleteStream", 0.0, &[null(), string("cam")])]);
    assert!(world.server.hub().is_empty());
    assert_tolerates(&mut world, client, "1 deleteStream of an unknown stream");
}

#[test]
fn quirk_27_the_requests_of_a_publisher_in_another_order() {
    let key = || [null(), string("cam")];
    let release = command("releaseStream", 2.0, &key());
    let announce = command("FCPublish", 3.0, &key());
    let check = command("_checkbw", 5.0, &[null()]);
    for order in [
        [&check, &announce, &release, &create_stream(4.0)],
        [&create_stream(4.0), &release, &announce, &check],
        [&announce, &create_stream(4.0), &check, &release],
    ] {
        let mut world = World::new(Settings::default());
        let client = world.connected();
        world.say(client, &order.map(Clone::clone));
        world.say(client, &[publish("cam")]);
        for answer in ["_result 2", "_result 3", "onFCPublish 3", "_result 4", "_result 5"] {
            assert!(world[client].was_told(answer), "{answer}");
        }
        assert!(world[client].was_told("NetStream.Publish.Start"));
    }
}

#[test]
fn quirk_29_fc_publish_is_announced_back() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    world.say(client, &[command("FCPublish", 3.0, &[null(), string("cam")])]);
    assert_eq!(world[client].answers(), ["_result 3", "onFCPublish 3"]);
}

#[test]
fn quirk_30_publish_without_its_kind() {
    for kind in [vec![], null(), string("")] {
        let mut world = World::new(Settings::default());
        let client = world.connected();
        let publish = command("publish", 5.0, &[null(), string("cam"), kind]).on(1);
        world.say(client, &[create_stream(4.0), publish]);
        assert!(world[client].was_told("NetStream.Publish.Start"));
        assert_tolerates(&mut world, client, "1 publish without a type");
    }
}

#[test]
fn quirk_32_blanks_and_a_slash_around_the_key() {
    for key in ["/cam", " cam", "cam ", "cam\0"] {
        let mut world = World::new(Settings::default());
        let client = world.publishing(key);
        assert!(world.server.hub().find("live/cam").is_some(), "{key:?}");
        assert_tolerates(&mut world, client, "1 stream key with blanks or slashes");
    }
}

#[test]
fn quirk_33_ffmpeg_cuts_a_query_at_its_slash() {
    let mut world = World::new(Settings::default());
    let client = connected_by(&mut world, wire::connect("live/tok?sig=ab"));
    world.say(client, &[create_stream(2.0), publish("cd+e==")]);
    assert!(world.server.hub().find("live/tok").is_some());
}

#[test]
fn quirk_34_ffmpeg_guesses_an_application_of_two_parts() {
    for (app, key) in [("live/a", "b"), ("live", "a/b")] {
        let mut world = World::new(Settings::default());
        let client = connected_by(&mut world, wire::connect(app));
        world.say(client, &[create_stream(2.0), publish(key)]);
        assert!(world.server.hub().find("live/a/b").is_some());
    }
}

#[test]
fn quirk_35_an_application_with_a_slash_or_the_default_instance() {
    for app in ["live/", "live/_definst_", "/live"] {
        let mut world = World::new(Settings::default());
        let client = connected_by(&mut world, wire::connect(app));
        world.say(client, &[create_stream(2.0), publish("cam")]);
        assert!(world.server.hub().find("live/cam").is_some(), "{app}");
    }
}

#[test]
fn quirk_36_tc_url_misspelt_or_missing() {
    for (key, is_odd) in [("tcUrl", false), ("tcurl", true), ("'tcUrl'", true), ("url", true)] {
        let mut world = World::new(Settings::default());
        let properties = object(&[("app", string("live")), (key, url())]);
        let client = connected_by(&mut world, command("connect", 1.0, &[properties]));
        assert_eq!(tolerated(&world, client).contains("odd connect object"), is_odd, "{key}");
        world.assert_lives(client);
    }
}

#[test]
fn quirk_37_connect_with_user_and_password_behind_it() {
    let mut world = World::new(Settings::default());
    let properties = object(&[("app", string("live")), ("tcUrl", url())]);
    let connect = command("connect", 1.0, &[properties, string("user"), string("password")]);
    let client = connected_by(&mut world, connect);
    world.assert_lives(client);
}

#[test]
fn quirk_38_connect_with_an_array() {
    let mut world = World::new(Settings::default());
    let properties = ecma_array(2, &[("app", string("live")), ("tcUrl", url())]);
    let client = connected_by(&mut world, command("connect", 1.0, &[properties]));
    assert_tolerates(&mut world, client, "odd connect object");
}

#[test]
fn quirk_39_metadata_without_its_call_null_or_with_an_odd_first_value() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let properties = ecma_array(1, &[("width", number(160.0))]);
    let sent = [string("onMetaData"), properties];
    let odd = [
        vec![string("@setDataFrame"), string("onMetaData"), null()],
        vec![null()],
        vec![number(0.0), string("onMetaData")],
    ];
    for values in &odd {
        world.say(publisher, &[data(values)]);
    }
    assert!(world[player].media().is_empty());
    world.say(publisher, &[data(&sent)]);
    assert_eq!(payloads(&world, player), [sent.concat()]);
    world.assert_lives(publisher);
}

#[test]
fn quirk_40_metadata_of_tracks_that_never_come() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let codecs = [("videocodecid", number(7.0)), ("audiocodecid", number(10.0))];
    let metadata = data(&[string("onMetaData"), ecma_array(2, &codecs)]);
    world.say(publisher, &[metadata, video(0, AVC_CONFIG), video(0, AVC_KEYFRAME)]);
    let newcomer = world.playing("cam");
    assert_eq!(payloads(&world, newcomer)[1..], bytes(&[AVC_CONFIG, AVC_KEYFRAME]));
    // And a track that the metadata does not have.
    world.say(publisher, &[Message::new(4, AUDIO, hex("2a 01")).on(1).at(10)]);
    assert_eq!(payloads(&world, newcomer)[3..], bytes(&["2a01"]));
}

#[test]
fn quirk_42_codecs_in_metadata_by_name_or_four_cc() {
    for codec in [string("avc1"), number(7.0), number(f64::from(0x6176_6331))] {
        let mut world = World::new(Settings::default());
        let (publisher, player) = publisher_and_player(&mut world);
        let values = [string("onMetaData"), ecma_array(1, &[("videocodecid", codec)])];
        world.say(publisher, &[data(&values)]);
        assert_eq!(payloads(&world, player), [values.concat()]);
    }
}

#[test]
fn quirk_43_audio_before_its_configuration_and_an_empty_one() {
    let sent = ["af0121", "af00", "af001210", "af0122", "af00"];
    let (player, newcomer) = relayed(AUDIO, &sent);
    assert_eq!(player, bytes(&sent));
    assert_eq!(newcomer[0], hex("af001210"), "an empty one is not kept");
}

#[test]
fn quirk_44_audio_of_formats_that_nobody_knows() {
    let sent = ["f0 01 02", "c0 01", "d0 01"];
    assert_eq!(relayed(AUDIO, &sent).0, bytes(&sent));
}

#[test]
fn quirk_45_an_end_of_sequence_that_looks_like_a_keyframe() {
    let sent = [AVC_CONFIG, AVC_KEYFRAME, AVC_FRAME, "1702000000"];
    let (player, newcomer) = relayed(VIDEO, &sent);
    assert_eq!(player, bytes(&sent));
    assert_eq!(newcomer[..3], bytes(&sent[..3]), "nobody starts at it");
}

#[test]
fn quirk_46_an_end_of_sequence_at_time_0() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let first = [video(0, AVC_CONFIG), video(1000, AVC_KEYFRAME), video(1033, AVC_FRAME)];
    world.say(publisher, &first);
    world.say(publisher, &[video(0, "1702000000")]);
    assert_eq!(times(&world, player), [0, 1000, 1033, 1033]);
    end_publish(&mut world, publisher);
    assert_tolerates(&mut world, publisher, "1 header or data off the clock");
    let again = world.publishing("cam");
    world[player].take_messages();
    world.say(again, &[video(0, AVC_CONFIG), video(0, AVC_KEYFRAME)]);
    assert_eq!(times(&world, player), [1033, 1034], "the end of the last one moved no clock");
}

#[test]
fn quirk_47_metadata_packets_with_any_frame_type() {
    let color = "68766331 02 0009 636f6c6f72496e666f 03 000009";
    for first in ["84", "94", "d4"] {
        let metadata = format!("{first} {color}");
        let sent = ["90 68766331 010203", "91 68766331 000000 26aa", "a3 68766331 02bb", &metadata];
        let (player, newcomer) = relayed(VIDEO, &sent);
        assert_eq!(player, bytes(&sent), "{first}");
        let keyframe = newcomer.iter().position(|payload| *payload == hex(sent[1]));
        assert!(keyframe.is_some(), "{first}: nobody starts at metadata");
        assert_eq!(newcomer[0], hex(sent[0]), "{first}");
    }
}

#[test]
fn quirk_48_flac_configured_with_and_without_its_marker() {
    let stream_info = "1000 1000 000000 000000 0ac442f0 00000000";
    for marker in ["", "664c6143 80000022"] {
        let config = format!("90 664c6143 {marker} {stream_info}");
        let sent = [config.as_str(), "91 664c6143 fff8"];
        let (player, newcomer) = relayed(AUDIO, &sent);
        assert_eq!(player, bytes(&sent));
        assert_eq!(newcomer[0], hex(&config));
    }
}

#[test]
fn quirk_49_av1_frames_with_a_composition_time() {
    let sent = ["90 61763031 81000c00", "91 61763031 000028 0a0b", "a1 61763031 000014 3200"];
    let (player, newcomer) = relayed(VIDEO, &sent);
    assert_eq!((player, newcomer), (bytes(&sent), bytes(&sent)));
}

#[test]
fn quirk_50_colour_of_a_second_track_without_its_wrapper() {
    let sent = [AVC_CONFIG, AVC_KEYFRAME, "d4 61763031 02 0009 636f6c6f72496e666f 03 000009"];
    assert_eq!(relayed(VIDEO, &sent).0, bytes(&sent));
}

#[test]
fn quirk_51_sequence_headers_that_are_repeated() {
    let sent = [AVC_CONFIG, AVC_KEYFRAME, AVC_FRAME, AVC_CONFIG, AVC_FRAME];
    let (player, newcomer) = relayed(VIDEO, &sent);
    assert_eq!(player.iter().filter(|payload| **payload == hex(AVC_FRAME)).count(), 2);
    assert_eq!(newcomer[..3], bytes(&sent[..3]), "what was kept stays");
}

#[test]
fn quirk_52_hevc_as_codec_12_of_the_old_header() {
    let sent = ["1c00000000 0101", "1c01000000 26aa", "2c01000000 02bb"];
    let (player, newcomer) = relayed(VIDEO, &sent);
    assert_eq!((player, newcomer), (bytes(&sent), bytes(&sent)));
}

#[test]
fn quirk_53_messages_of_type_0_and_others() {
    let mut world = World::new(Settings::default());
    let client = world.publishing("cam");
    world.say(
        client,
        &[Message::new(3, 0, [1, 2]), Message::new(3, 0, []), Message::new(4, 77, [9])],
    );
    assert_tolerates(&mut world, client, "3 unknown messages");
}

#[test]
fn quirk_54_user_control_32() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    world.say(client, &[user_control(32, 1), user_control(31, 1)]);
    assert_tolerates(&mut world, client, "2 unknown user control events");
}

#[test]
fn quirk_55_bodies_of_the_wrong_size() {
    let mut world = World::new(Settings::default());
    let client = world.publishing("cam");
    world.say(
        client,
        &[
            Message::new(2, wire::ACKNOWLEDGEMENT, [1]),
            Message::new(2, WINDOW_ACK_SIZE, [0, 1]),
            Message::new(2, wire::SET_PEER_BANDWIDTH, []),
            // nginx's push: more bytes than the fields need.
            Message::new(2, WINDOW_ACK_SIZE, [0, 0x26, 0x25, 0xa0, 2]),
            Message::new(2, USER_CONTROL, [0, 3, 0]),
            data(&[vec![0x02, 0, 200]]),
            Message::new(6, VIDEO, [0x17]).on(1),
        ],
    );
    assert_tolerates(&mut world, client, "3 malformed messages");
    assert_tolerates(&mut world, client, "1 unknown user control event");
    assert_tolerates(&mut world, client, "2 malformed media messages");
}

#[test]
fn quirk_56_shared_objects_at_the_start() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let body = hex("0003 666f6f 00000000 00000000 00000000 01 00000000");
    world.say(client, &[Message::new(3, SHARED_OBJECT, body), create_stream(2.0), publish("cam")]);
    assert!(world[client].was_told("NetStream.Publish.Start"));
    assert_tolerates(&mut world, client, "1 shared object message");
}

#[test]
fn quirk_57_acknowledgements_and_no_media() {
    let mut world = World::new(Settings::default());
    let client = world.publishing("cam");
    let limit_ms = Settings::default().timeouts.publisher_silent_ms;
    for second in 0..limit_ms / 1000 + 1 {
        world.say(client, &[wire::control(wire::ACKNOWLEDGEMENT, second as u32)]);
        world.advance_ms(1000);
    }
    assert_eq!(world.closed(CloseReason::PublisherSilent), 1);
}

#[test]
fn quirk_62_properties_of_connect_that_nobody_asked_for() {
    let mut world = World::new(Settings::default());
    let any = || object(&[("*", number(7.0))]);
    let properties = object(&[
        ("app", string("live")),
        ("tcUrl", url()),
        ("supportsGoAway", wire::boolean(true)),
        ("videoFourCcInfoMap", any()),
        ("swfUrl", url()),
        ("nothing", null()),
    ]);
    let client = connected_by(&mut world, command("connect", 1.0, &[properties]));
    assert!(!tolerated(&world, client).contains("connect"));
}

#[test]
fn quirk_64_a_player_gets_media_and_the_end_on_its_message_stream() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 0;
    let mut world = World::new(settings);
    let (publisher, player) = publisher_and_player(&mut world);
    world.say(publisher, &[audio(0, 1), command("deleteStream", 0.0, &[null(), number(1.0)])]);
    assert_eq!(world[player].media()[0].message_stream_id, 1);
    let end = hex("0001 00000001");
    assert!(world[player].of_kind(USER_CONTROL).iter().any(|message| message.payload == end));
}

#[test]
fn quirk_66_no_start_of_data_is_sent_as_data() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, &[audio(0, 1)]);
    let player = world.playing("cam");
    let access = string("|RtmpSampleAccess");
    for message in world[player].of_kind(DATA) {
        assert!(message.payload.starts_with(&access), "{message:?}");
    }
}

#[test]
fn quirk_67_a_live_stream_has_no_duration() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let sent = [("duration", number(0.0)), ("width", number(160.0)), ("filesize", number(0.0))];
    let call = [string("@setDataFrame"), string("onMetaData"), ecma_array(3, &sent)];
    world.say(publisher, &[data(&call)]);
    let kept = [string("onMetaData"), ecma_array(1, &sent[1..2])].concat();
    assert_eq!(payloads(&world, player), [kept]);
}

#[test]
fn quirk_69_the_window_is_neither_0_nor_beyond_31_bits() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world.say(client, &[wire::connect("live")]);
    let windows = world[client].of_kind(WINDOW_ACK_SIZE);
    assert!(!windows.is_empty());
    for message in windows {
        assert!((1..1 << 31).contains(&wire::big(&message.payload)));
    }
}

#[test]
fn quirk_71_a_bandwidth_check_is_answered() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    world.say(client, &[wire::connect("live")]);
    assert_eq!(world[client].answers(), ["_result 1"], "nothing that asks for a check");
    for name in ["_checkbw", "checkBandwidth", "_onbwcheck"] {
        world[client].take_messages();
        world.say(client, &[command(name, 5.0, &[null()])]);
        assert_eq!(world[client].answers(), ["_result 5"]);
    }
}

#[test]
fn quirk_72_amf3_messages_with_amf0_in_them() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let plain = create_stream(2.0).payload;
    let with_format = [vec![0], create_stream(3.0).payload].concat();
    world.say(client, &[Message::new(3, wire::COMMAND_AMF3, plain)]);
    world.say(client, &[Message::new(3, wire::COMMAND_AMF3, with_format)]);
    assert_eq!(world[client].answers(), ["_result 2", "_result 3"]);
    assert_tolerates(&mut world, client, "1 AMF3 command without format byte");
}

#[test]
fn quirk_74_a_clock_that_starts_at_the_time_of_day() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let start = 0xcfe5_6000;
    let sent = [video(start, AVC_CONFIG), video(start, AVC_KEYFRAME), video(start + 40, AVC_FRAME)];
    world.say(publisher, &sent);
    assert_eq!(times(&world, player), [start, start, start + 40], "any start will do");
    let clock_of_audio = [audio(0, 1), audio(21, 1)];
    world.say(publisher, &clock_of_audio);
    let times = times(&world, player);
    assert_eq!(times[3..], [start + 41, start + 62], "audio counts from 0, and is in step");
    end_publish(&mut world, publisher);
    assert_tolerates(&mut world, publisher, "1 track on a clock of its own");
}

#[test]
fn quirk_75_metadata_several_times_and_frames_full_of_sei() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let metadata = data(&[string("onMetaData"), ecma_array(1, &[("fps", number(25.0))])]);
    let sei = "1701000000 00000003 060104 00000004 06050102 00000002 65aa";
    let sent = [metadata.clone(), metadata.clone(), metadata, video(0, AVC_CONFIG), video(0, sei)];
    world.say(publisher, &sent);
    let expected: Vec<_> = sent.iter().map(|message| message.payload.clone()).collect();
    assert_eq!(payloads(&world, player), expected);
}
