//! Every bound of the configuration from both sides: what is still taken, and what is not.

use tiderace::config::Settings;
use tiderace::limits::MIB;
use tiderace::server::peer_address::PeerAddress;
use tiderace::server::reason::CloseReason;

use crate::frames::{labels, message, publish, session, stream_command};
use crate::socket::is_about_sockets;
use crate::wire::{self, AUDIO, DATA, Message, SHARED_OBJECT, VIDEO};
use crate::world::{ClientHandle, World};

/// A type that nobody serves: it is counted and passed over.
const UNKNOWN: u8 = SHARED_OBJECT;

fn with(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = Settings::default();
    change(&mut settings);
    World::new(settings)
}

/// A session that publishes `cam` on message stream 1.
fn raw_publisher(world: &mut World) -> ClientHandle {
    let publisher = session(world, 1);
    world[publisher].send(&[stream_command("publish", "cam", 1)]);
    world.run();
    publisher
}

/// The first chunk of a message that says it is `length` bytes long, and nothing of it.
fn announced(kind: u8, chunk_stream_id: u32, length: usize) -> Vec<u8> {
    let mut chunk = wire::basic_header(0, chunk_stream_id);
    chunk.extend([0, 0, 0]);
    chunk.extend(&(length as u32).to_be_bytes()[1..]);
    chunk.extend([kind, 1, 0, 0, 0]);
    chunk
}

/// Whether a connection that sends `bytes` stays; if not, it was closed for `reason`.
fn stays(world: &mut World, client: ClientHandle, bytes: &[u8], reason: CloseReason) -> bool {
    world[client].send_raw(bytes);
    world.run();
    let stays = world.conn(client).is_some();
    assert_eq!(world.closed(reason), u64::from(!stays), "{reason}");
    stays
}

#[test]
fn messages_are_bounded_by_kind() {
    for (kind, length, expected) in [
        (AUDIO, 5000, true),
        (AUDIO, 5001, false),
        (VIDEO, 9000, true),
        (VIDEO, 9001, false),
        (wire::AGGREGATE, 9000, true),
        (wire::AGGREGATE, 9001, false),
        (DATA, 6000, true),
        (DATA, 6001, false),
        (wire::DATA_AMF3, 6000, true),
        (wire::DATA_AMF3, 6001, false),
        (wire::COMMAND, 7000, true),
        (wire::COMMAND, 7001, false),
        (UNKNOWN, 7000, true),
        (UNKNOWN, 7001, false),
    ] {
        let mut world = with(|settings| {
            settings.limits.audio_bytes_max = 5000;
            settings.limits.video_bytes_max = 9000;
            settings.limits.data_bytes_max = 6000;
            settings.limits.command_bytes_max = 7000;
        });
        let publisher = raw_publisher(&mut world);
        let bytes = announced(kind, 20, length);
        let stays = stays(&mut world, publisher, &bytes, CloseReason::MessageTooLarge);
        assert_eq!(stays, expected, "type {kind} of {length} bytes");
    }
}

#[test]
fn before_a_publish_no_message_is_longer_than_a_command() {
    for kind in [AUDIO, VIDEO, DATA, wire::COMMAND, UNKNOWN] {
        for (length, expected) in [(7000, true), (7001, false)] {
            let mut world = with(|settings| settings.limits.command_bytes_max = 7000);
            let client = session(&mut world, 1);
            let bytes = announced(kind, 20, length);
            let stays = stays(&mut world, client, &bytes, CloseReason::MessageTooLarge);
            assert_eq!(stays, expected, "type {kind} of {length} bytes");
        }
    }
}

#[test]
fn messages_under_assembly_are_bounded_together() {
    for (second, expected) in [(6000, true), (6001, false)] {
        let mut world = with(|settings| settings.limits.assembly_bytes_max = 14_000);
        let publisher = raw_publisher(&mut world);
        let mut bytes = announced(VIDEO, 20, 8000);
        bytes.extend([0; 128]);
        bytes.extend(announced(AUDIO, 21, second));
        bytes.extend([0; 128]);
        let stays = stays(&mut world, publisher, &bytes, CloseReason::AssemblyTooLarge);
        assert_eq!(stays, expected, "8000 and {second} bytes");
    }
}

#[test]
fn chunk_streams_are_bounded_in_number() {
    for (count, expected) in [(12, true), (13, false)] {
        let mut world = with(|settings| settings.limits.chunk_streams_max = 12);
        let client = world.connect();
        world[client].send_raw(&wire::handshake());
        let connect = wire::command("connect", 1.0, &[wire::object(&[])]);
        world[client].send(&[Message { chunk_stream_id: 100, ..connect }]);
        for id in 101..100 + count {
            world[client].send(&[Message::new(id, UNKNOWN, [])]);
        }
        let stays = stays(&mut world, client, &[], CloseReason::TooManyChunkStreams);
        assert_eq!(stays, expected, "{count} chunk streams");
    }
}

#[test]
fn message_streams_are_bounded_in_number() {
    let mut world = with(|settings| settings.limits.message_streams_max = 3);
    let client = session(&mut world, 4);
    let answers = world[client].answers();
    assert_eq!(answers[1..4], ["_result 2", "_result 3", "_result 4"]);
    assert!(answers[4].contains("Call.Failed") || answers[4].starts_with("_error"), "{answers:?}");
    assert!(world.conn(client).is_some());
}

#[test]
fn streams_are_bounded_in_number() {
    let mut world = with(|settings| settings.limits.streams_max = 1);
    let (first, player) = (world.publisher("one"), world.player("two"));
    world.player("one");
    let late = world.publisher("three");
    assert!(world[late].was_told("NetStream.Publish.BadName"));
    let late = world.player("three");
    assert!(world[late].was_told("NetStream.Play.StreamNotFound"));
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::StreamLimit), 2);
    for leaves in [first, player] {
        world[leaves].finish();
    }
    world.run();
    world.advance_ms(15_000);
    let next = world.publisher("three");
    assert!(world[next].was_told("NetStream.Publish.Start"), "one is free again");
    let next = world.player("four");
    assert!(world[next].was_told("NetStream.Play.StreamNotFound"), "somebody waits for one");
}

#[test]
fn names_that_are_waited_for_take_no_room_from_publishers() {
    let mut world = with(|settings| settings.limits.streams_max = 20);
    let waiters = [session(&mut world, 16), session(&mut world, 16)];
    let wait = |world: &mut World, number: u32| {
        let play = stream_command("play", &format!("w{number}"), 1 + number % 16);
        world.say(waiters[number as usize / 16], &[play]);
    };
    (0..20).for_each(|number| wait(&mut world, number));
    assert_eq!(world.server.hub().len(), 20);
    for publisher in 0..20 {
        let publisher = world.publisher(&format!("p{publisher}"));
        assert!(world[publisher].was_told("NetStream.Publish.Start"));
    }
    let late = world.publisher("late");
    assert!(world[late].was_told("NetStream.Publish.BadName"));
    wait(&mut world, 20);
    assert!(world[waiters[1]].was_told("NetStream.Play.StreamNotFound"), "as many, and no more");
}

#[test]
fn names_are_bounded_in_bytes() {
    for (bytes, expected) in [(20, true), (21, false)] {
        let mut world = with(|settings| settings.limits.name_bytes_max = 20);
        let key = "k".repeat(bytes - "live/".len());
        let publisher = world.publisher(&key);
        assert_eq!(world[publisher].was_told("NetStream.Publish.Start"), expected);
        world.advance_ms(1000);
        assert_eq!(world.closed(CloseReason::BadName), u64::from(!expected), "{bytes} bytes");
    }
}

#[test]
fn a29_replies_to_a_peer_that_does_not_read_are_bounded() {
    let max = 6000;
    let mut world = with(|settings| settings.limits.control_bytes_max = max);
    world.socket_bytes = 4096;
    let client = session(&mut world, 0);
    world[client].reads = false;
    let mut waiting_max = 0;
    let mut pings = 0;
    while let Some(conn) = world.conn(client) {
        waiting_max = waiting_max.max(conn.peer.session().unwrap().output().bytes().len());
        world[client].send(&[wire::user_control(6, pings)]);
        world.run();
        pings += 1;
    }
    // A ping response is 18 bytes; the one that crosses the bound ends the connection.
    assert!(waiting_max <= max && waiting_max > max - 18, "{waiting_max} bytes waited");
    assert_eq!(world.closed(CloseReason::ControlOverflow), 1);
}

#[test]
fn a29_a_flood_in_one_piece_ends_at_the_same_bound() {
    let mut world = with(|_| {});
    world.socket_bytes = 4096;
    let client = session(&mut world, 0);
    world[client].reads = false;
    let flood = wire::user_control(6, 7).chunks().repeat(100_000);
    assert!(!stays(&mut world, client, &flood, CloseReason::ControlOverflow));
    assert!(world.server.stats().bytes_out < 16 * 1024);
}

#[test]
fn a29_a_publisher_that_comes_and_goes_piles_up_one_notice_at_players_that_do_not_read() {
    is_about_sockets();
    let mut world = with(|settings| settings.publish.linger_ms = 0);
    let publisher = session(&mut world, 1);
    let reader = world.player("cam");
    world.socket_bytes = 8192;
    let (stalled, twice) = (world.player("cam"), session(&mut world, 2));
    world.say(twice, &[stream_command("play", "cam", 1), stream_command("play", "cam", 2)]);
    for client in [stalled, twice] {
        world[client].reads = false;
    }
    world[reader].take_messages();
    let waits = |world: &World, client| {
        world.conn(client).unwrap().peer.session().unwrap().output().bytes().len()
    };
    let (publishes, notice_bytes) = (200, 300);
    let mut blocked = 0;
    for _ in 0..publishes {
        world.say(publisher, &[stream_command("publish", "cam", 1)]);
        world.say(publisher, &[stream_command("closeStream", "", 1)]);
        assert!(waits(&world, stalled) <= notice_bytes && waits(&world, twice) <= 2 * notice_bytes);
        blocked += usize::from(waits(&world, stalled) > 0);
    }
    assert!(blocked > 0, "its socket was full in the end");
    assert_eq!(world[reader].answers().len(), 2 * publishes, "whoever reads is told of each");
    assert_eq!(world.server.stats().closed_total(), 0);
}

#[test]
fn calls_in_one_piece_are_answered_before_the_peer_is_judged() {
    let mut world = with(|_| {});
    let client = session(&mut world, 0);
    world[client].take_messages();
    let calls: Vec<_> = (1..=70).map(|call| wire::create_stream(f64::from(call))).collect();
    world[client].send(&calls);
    world.run();
    let answers = world[client].answers();
    let granted: Vec<_> = (1..=16).map(|call| format!("_result {call}")).collect();
    assert_eq!(answers[..16], granted);
    assert_eq!(answers[16..], ["NetConnection.Call.Failed"; 54]);
    assert!(world.conn(client).is_some());
}

#[test]
fn players_that_read_are_told_of_all_streams_that_begin_in_one_piece() {
    let streams = 100;
    let mut world = with(|settings| settings.limits.message_streams_max = streams);
    let [player, publisher] = [(); 2].map(|()| session(&mut world, streams));
    let all = |command: &str| -> Vec<_> {
        let ids = 1..=streams as u32;
        ids.map(|id| stream_command(command, &format!("cam{id}"), id)).collect()
    };
    world.say(player, &all("play"));
    world[player].take_messages();
    world.say(publisher, &all("publish"));
    assert_eq!(world[player].answers(), vec!["NetStream.Play.PublishNotify"; streams]);
    assert_eq!(world.closed(CloseReason::ControlOverflow), 0);
}

#[test]
fn who_reads_may_ask_as_often_as_it_likes() {
    let mut world = with(|_| {});
    let client = session(&mut world, 0);
    for _ in 0..100 {
        let pings = wire::user_control(6, 7).chunks().repeat(400);
        assert!(stays(&mut world, client, &pings, CloseReason::ControlOverflow));
    }
}

#[test]
fn a_full_table_lets_the_oldest_of_the_earliest_stage_give_way() {
    let mut world = with(|settings| settings.limits.connections_max = 8);
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    let waiting = [world.player("later"), world.player("later")];
    let connected = [world.connect_only(), world.connect_only()];
    let handshaken = world.handshaken();
    let silent = world.connect();
    world.run();
    let order = [silent, handshaken, connected[0], connected[1], waiting[0], waiting[1]];
    for (index, gives_way) in order.into_iter().enumerate() {
        assert!(world.conn(gives_way).is_some());
        let newcomer = world.player("cam");
        assert!(world.conn(newcomer).is_some(), "newcomer {index}");
        assert!(world.conn(gives_way).is_none(), "number {index} gave way");
        assert_eq!(world.closed(CloseReason::GaveWay), 1 + index as u64);
    }
    assert_eq!(world.server.stats().refused, 0);
    let refused = world.player("cam");
    assert!(world.conn(refused).is_none(), "those with a stream never give way");
    assert_eq!((world.server.stats().refused, world.server.len()), (1, 8));
    publish(&mut world, publisher, "V1 K1", 0);
    assert_eq!(labels(&world, player), "V1 K1");
}

#[test]
fn publishers_always_get_in() {
    let mut world = with(|settings| settings.limits.connections_max = 50);
    for _ in 0..50 {
        world.connect_only();
    }
    for number in 0..50 {
        let publisher = world.publisher(&format!("cam{number}"));
        assert!(world[publisher].was_told("NetStream.Publish.Start"), "publisher {number}");
    }
    let one_more = world.publisher("cam50");
    assert!(world.conn(one_more).is_none());
}

#[test]
fn without_a_limit_the_table_grows() {
    let mut world = with(|settings| settings.limits.connections_max = 0);
    for _ in 0..200 {
        world.connect();
    }
    world.run();
    assert_eq!(world.server.len(), 200);
}

#[test]
fn connections_of_one_address_are_bounded() {
    let mut world = with(|settings| settings.limits.connections_per_address_max = 2);
    let from = |port| std::net::SocketAddr::from(([10, 9, 9, 9], port));
    let first = world.connect_from(from(1));
    let second = world.connect_from(from(2));
    let third = world.connect_from(from(3));
    assert!(world.conn(first).is_some() && world.conn(second).is_some());
    assert!(world.conn(third).is_none());
    assert_eq!(world.server.stats().refused, 1);
    let other = world.connect();
    assert!(world.conn(other).is_some(), "another address has its own share");
    world[first].reset();
    world.run();
    let fourth = world.connect_from(from(4));
    assert!(world.conn(fourth).is_some(), "a place is free again");
}

#[test]
fn peers_of_a_unix_socket_do_not_share_the_limit_of_an_address() {
    let mut world = with(|settings| settings.limits.connections_per_address_max = 1);
    let peers = [(); 3].map(|()| world.connect_from(PeerAddress::Unix));
    for peer in peers {
        let id = world.conn(peer).expect("an open connection").address();
        assert_eq!((id, id.to_string()), (PeerAddress::Unix, "unix".to_owned()));
    }
    // Counting that a reload ends and begins again does not count them either.
    for max in [0, 1] {
        let mut settings = world.server.settings().clone();
        settings.limits.connections_per_address_max = max;
        world.server.reload(settings);
    }
    world[peers[0]].reset();
    world.run();
    let another = world.connect_from(PeerAddress::Unix);
    assert!(world.conn(another).is_some());
    assert_eq!(world.server.stats().refused, 0);
}

#[test]
fn a_limit_per_address_that_a_reload_sets_counts_those_who_are_connected() {
    let mut world = with(|settings| settings.limits.connections_per_address_max = 0);
    let from = |port| std::net::SocketAddr::from(([10, 9, 9, 9], port));
    let first = world.connect_from(from(1));
    let second = world.connect_from(from(2));
    let mut settings = world.server.settings().clone();
    settings.limits.connections_per_address_max = 2;
    world.server.reload(settings.clone());
    let third = world.connect_from(from(3));
    assert!(world.conn(third).is_none(), "both of its places are taken");
    world[first].reset();
    world.run();
    let fourth = world.connect_from(from(4));
    assert!(world.conn(fourth).is_some(), "a place is free again");
    // A change of the number counts nobody twice.
    settings.limits.connections_per_address_max = 3;
    world.server.reload(settings);
    let fifth = world.connect_from(from(5));
    let sixth = world.connect_from(from(6));
    assert!(world.conn(fifth).is_some() && world.conn(sixth).is_none());
    assert!(world.conn(second).is_some(), "nobody is closed for it");
}

#[test]
fn handshake_and_connect_are_bounded_from_the_arrival_on() {
    // How far the peer gets, a byte at a time, and the limit that ends it.
    for (handshaken, limit_ms, reason) in [
        (false, 10_000, CloseReason::HandshakeTimeout),
        (true, 20_000, CloseReason::ConnectTimeout),
    ] {
        let mut world = with(|_| {});
        let client = if handshaken { world.handshaken() } else { world.connect() };
        let bytes = if handshaken { announced(wire::COMMAND, 3, 4000) } else { wire::handshake() };
        for byte in bytes.iter().chain([&0; 200]).take(limit_ms as usize / 200 - 1) {
            world.advance_ms(200);
            world[client].send_raw(&[*byte]);
            world.run();
        }
        world.advance_ms(199);
        assert!(world.conn(client).is_some(), "{reason}: too early");
        world.advance_ms(1);
        assert!(world.conn(client).is_none(), "{reason}: no byte extends it");
        assert_eq!(world.closed(reason), 1);
    }
}

#[test]
fn connect_in_time_ends_both_deadlines() {
    let mut world = with(|_| {});
    let client = world.connect();
    world.advance_ms(9_999);
    world[client].send_raw(&wire::handshake());
    world.advance_ms(10_000);
    assert!(world.conn(client).is_some());
    let app = wire::object(&[("app", wire::string("live"))]);
    world[client].send(&[wire::command("connect", 1.0, &[app])]);
    world.run();
    assert_eq!(world.server.next_deadline(), None);
    world.advance_ms(1_000_000);
    assert!(world.conn(client).is_some());
}

#[test]
fn sessions_without_a_stream_may_be_limited() {
    let mut world = with(|settings| settings.timeouts.idle_ms = 60_000);
    let idle = world.connect_only();
    let waiting = world.player("later");
    world.advance_ms(59_999);
    assert!(world.conn(idle).is_some());
    world.advance_ms(1);
    assert!(world.conn(idle).is_none());
    assert_eq!(world.closed(CloseReason::IdleTimeout), 1);
    world.advance_ms(100_000);
    assert!(world.conn(waiting).is_some(), "waiting has a limit of its own");
}

#[test]
fn a_publisher_may_be_silent_for_a_time() {
    for (silent_ms, expected) in [(29_999, true), (30_000, false)] {
        let mut world = with(|_| {});
        let publisher = world.publisher("cam");
        world.advance_ms(20_000);
        publish(&mut world, publisher, "a1", 0);
        world.advance_ms(silent_ms);
        assert_eq!(world.conn(publisher).is_some(), expected, "silent for {silent_ms} ms");
        assert_eq!(world.closed(CloseReason::PublisherSilent), u64::from(!expected));
    }
}

#[test]
fn a_publisher_that_sends_seldom_may_be_silent_for_two_of_its_pauses() {
    for (silent_ms, expected) in [(50_000 - 1, true), (50_000, false)] {
        let mut world = with(|_| {});
        let publisher = world.publisher("cam");
        for frame in 0..4 {
            publish(&mut world, publisher, "K1", frame * 25_000);
            world.advance_ms(25_000);
        }
        world.advance_ms(silent_ms - 25_000);
        assert_eq!(world.conn(publisher).is_some(), expected, "silent for {silent_ms} ms");
    }
}

#[test]
fn a_keyframe_that_takes_longer_than_the_limit_is_no_silence() {
    let mut world = with(|settings| settings.timeouts.publisher_silent_ms = 5000);
    let publisher = raw_publisher(&mut world);
    let mut keyframe = Message::new(20, VIDEO, vec![0x17; 200_000]).on(1).chunks().into_iter();
    for (bytes, seconds, stays) in [(2000, 50, true), (1, 9, false)] {
        for _ in 0..seconds {
            let part: Vec<_> = keyframe.by_ref().take(bytes).collect();
            world[publisher].send_raw(&part);
            world.advance_ms(1000);
        }
        assert_eq!(world.conn(publisher).is_some(), stays, "{bytes} bytes a second");
    }
    assert_eq!(world.closed(CloseReason::PublisherSilent), 1);
}

#[test]
fn a_publisher_may_be_silent_without_limit() {
    let mut world = with(|settings| settings.timeouts.publisher_silent_ms = 0);
    let publisher = world.publisher("cam");
    world.advance_ms(24 * 3_600_000);
    assert!(world.conn(publisher).is_some());
    assert_eq!(world.server.next_deadline(), None);
}

#[test]
fn pings_ask_whoever_said_nothing_for_an_interval() {
    let mut world = with(|settings| settings.timeouts.ping_ms = 1000);
    let client = world.connect_only();
    world[client].take_messages();
    world.advance_ms(999);
    assert_eq!(world[client].of_kind(wire::USER_CONTROL).len(), 0);
    world.advance_ms(1);
    assert_eq!(world[client].of_kind(wire::USER_CONTROL).len(), 1);
    // The client answers by itself, so that it stays; one that reads nothing does not answer.
    world.advance_ms(10_000);
    assert!(world.conn(client).is_some());
    world[client].reads = false;
    let asked = 2000;
    world.advance_ms(asked - 1);
    assert!(world.conn(client).is_some());
    world.advance_ms(1001);
    assert!(world.conn(client).is_none());
    assert_eq!(world.closed(CloseReason::PingTimeout), 1);
}

#[test]
fn the_tape_is_bounded_while_a_stream_goes_on() {
    let mut world = with(|settings| settings.limits.tape_bytes_max = 2 * MIB);
    let publisher = raw_publisher(&mut world);
    let player = world.player("cam");
    world[publisher].send(&[message("V1", 1, 0), message("K1", 1, 0)]);
    world.run();
    let mut payload = vec![0x27, 1, 0, 0, 0];
    payload.resize(300_000, 0);
    for step in 0..50 {
        let frame = Message::new(20, VIDEO, payload.clone()).on(1).at(step * 40);
        world[publisher].send(&[frame]);
        world.run();
        assert!(world.server.hub().tape_bytes() <= 2 * MIB);
    }
    assert_eq!(world[player].media().len(), 52, "no keyframe for long harms nobody who reads");
}

#[test]
fn what_is_more_than_one_turn_may_move_goes_on_in_the_next() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 8 * MIB;
    let publisher = world.publishing("cam");
    world.say(publisher, &[wire::control(wire::SET_CHUNK_SIZE, 60_000)]);
    // A message in many pieces, and many messages.
    let mut keyframe = wire::video(0, wire::AVC_KEYFRAME);
    keyframe.payload.resize(3 * MIB, 0);
    world[publisher].send_raw(&keyframe.chunks_of(60_000));
    for timestamp in 1..1000 {
        world[publisher].send_raw(&wire::audio(timestamp, 1_000).chunks_of(60_000));
    }
    world.run();
    let player = world.playing("cam");
    let media = world[player].media();
    assert_eq!((media.len(), media[0].payload.len()), (1000, 3 * MIB));
}
