//! What a publisher's messages cost it of a turn, counted in turns: a message that makes the server
//! do more than to record a frame leaves less of the turn for the messages after it.

use tiderace::config::Settings;
use tiderace::limits;
use tiderace::media::MediaKind;
use tiderace::media::flv::FlvReader;
use tiderace::server::web::Surface;

use crate::frames::payload;
use crate::socket::is_about_sockets;
use crate::wire::{self, AGGREGATE, AUDIO, Message, SET_CHUNK_SIZE, VIDEO};
use crate::world::{ClientHandle, World};

/// A publisher with a chunk size that cuts no message.
fn publishing(world: &mut World) -> ClientHandle {
    world.socket_bytes = 4 * limits::MIB;
    let publisher = world.publishing("cam");
    world.say(publisher, &[wire::control(SET_CHUNK_SIZE, 1 << 20)]);
    publisher
}

/// The turns in which the server does what `messages` say, which come at once.
fn turns_for(world: &mut World, publisher: ClientHandle, messages: &[Message]) -> usize {
    for message in messages {
        world[publisher].send_raw(&message.chunks_of(1 << 20));
    }
    let mut turns = 0;
    while world.turn() {
        turns += 1;
    }
    assert!(world.conn(publisher).is_some());
    turns
}

/// The turns that `cost` media messages take of one publisher, if each of `messages` may go
/// beyond the turn in which it begins.
fn turns_that_cost(messages: usize, cost_of_each: usize) -> usize {
    messages * cost_of_each / (limits::READ_MESSAGES_PER_TURN_MAX + cost_of_each)
}

fn audio(payload: &[u8]) -> Message {
    Message::new(4, AUDIO, payload.to_vec()).on(1)
}

fn header(label: &str, len: usize) -> Message {
    let (kind, payload) = payload(label, len);
    Message::new(4, kind, payload).on(1)
}

#[test]
fn a_frame_of_another_codec_costs_what_a_header_costs() {
    is_about_sockets();
    const MESSAGES: usize = 2000;
    let mut world = World::new(Settings::default());
    let publisher = publishing(&mut world);
    world.say(publisher, &[audio(&[0xaf, 0, 0x12, 0x10])]);
    let (aac, mp3) = (audio(&[0xaf, 1, 0x21]), audio(&[0x2f, 0x21]));
    let one_codec = turns_for(&mut world, publisher, &vec![aac.clone(); MESSAGES]);
    assert!(one_codec <= 2 + MESSAGES / limits::READ_MESSAGES_PER_TURN_MAX, "{one_codec} turns");
    let two_codecs = turns_for(&mut world, publisher, &vec![[mp3, aac]; MESSAGES / 2].concat());
    let least = turns_that_cost(MESSAGES, limits::READ_COMMAND_MESSAGES);
    assert!(two_codecs >= least, "{two_codecs} turns for {least}");
}

#[test]
fn a_header_for_which_there_is_no_room_costs_what_comparing_it_costs() {
    const MESSAGES: usize = 50;
    const HEADER_BYTES: usize = 10_000;
    let mut world = World::new(Settings::default());
    let publisher = publishing(&mut world);
    turns_for(&mut world, publisher, &[header("V0", limits::HEADERS_BYTES_MAX - 1000)]);
    let turns = turns_for(&mut world, publisher, &vec![header("A0", HEADER_BYTES); MESSAGES]);
    assert_eq!(world.server.stats().headers_left_out, MESSAGES as u64);
    let parsed = HEADER_BYTES / limits::READ_PARSED_BYTES_PER_MESSAGE;
    let least = turns_that_cost(MESSAGES, parsed + limits::READ_COMMAND_MESSAGES);
    assert!(turns >= least, "{turns} turns for {least}");
}

#[test]
fn a_message_that_was_put_together_costs_its_bytes_in_the_turn_that_ends_it() {
    const PUBLISHERS: usize = 32;
    const MESSAGE_BYTES: usize = limits::READ_BYTES_PER_TURN_MAX;
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4 * limits::MIB;
    let (kind, keyframe) = payload("K1", MESSAGE_BYTES);
    let keyframe = Message::new(4, kind, keyframe).on(1).chunks();
    let (most, last) = keyframe.split_at(keyframe.len() - 10);
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|index| world.publishing(&format!("cam{index}"))).collect();
    for publisher in &publishers {
        world[*publisher].send_raw(most);
    }
    world.run();
    publishers.iter().for_each(|publisher| world[*publisher].send_raw(last));
    let recorded = |world: &World| world.server.hub().tape_bytes() / MESSAGE_BYTES;
    let most_of_turn = limits::READ_BYTES_OF_ALL_PER_TURN_MAX / MESSAGE_BYTES;
    while recorded(&world) < PUBLISHERS {
        let before = recorded(&world);
        assert!(world.turn());
        let new = recorded(&world) - before;
        assert!((1..=most_of_turn).contains(&new), "{new} messages in a turn");
    }
}

#[test]
fn parts_of_an_aggregate_that_are_passed_over_cost_what_frames_cost() {
    const AGGREGATES: usize = 30;
    const PARTS: usize = 1000;
    let mut world = World::new(Settings::default());
    let publisher = publishing(&mut world);
    // Each is 15 bytes of a type that no server knows, without a payload.
    let body = [&[99][..], &[0; 14]].concat().repeat(PARTS);
    let aggregates = vec![Message::new(4, AGGREGATE, body).on(1); AGGREGATES];
    let turns = turns_for(&mut world, publisher, &aggregates);
    let least = turns_that_cost(AGGREGATES, PARTS);
    assert!(turns >= least, "{turns} turns for {least}");
}

const SITE: Surface = Surface { playback: true, status: true, is_local: true };

#[test]
fn a_response_costs_what_its_length_is() {
    const CLIENTS: usize = 100;
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4 * limits::MIB;
    let clients: Vec<_> = (0..CLIENTS).map(|_| world.connect_http(SITE)).collect();
    world.run();
    for client in &clients {
        world[*client].send_raw(b"GET /api/v1/connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let mut turns = 0;
    while world.turn() {
        turns += 1;
    }
    let bytes: usize = clients.iter().map(|client| world[*client].received().len()).sum();
    let cost = bytes * limits::RESPONSE_BYTE_COST;
    let least = cost / (limits::READ_BYTES_OF_ALL_PER_TURN_MAX + cost / CLIENTS);
    assert!(least > 10 && turns >= least, "{turns} turns for {bytes} bytes");
}

#[test]
fn the_start_of_a_stream_over_http_costs_what_its_length_is() {
    const PLAYERS: usize = 100;
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4 * limits::MIB;
    let publisher = publishing(&mut world);
    // A configuration whose picture parameter set has 40 KB, all of which is in the file's head.
    let mut reader = FlvReader::new(include_bytes!("../vectors/ffmpeg5_h264_aac.flv")).unwrap();
    let header = loop {
        let tag = reader.next_tag().unwrap().unwrap();
        if tag.media == MediaKind::Video {
            break tag.payload.to_vec();
        }
    };
    let sps_len = usize::from(u16::from_be_bytes([header[11], header[12]]));
    let pps_at = 13 + sps_len;
    let pps = [&header[pps_at + 3..pps_at + 4], &[7; 40_000][..]].concat();
    let header = [&header[..=pps_at], &(pps.len() as u16).to_be_bytes(), &pps].concat();
    let keyframe = [&[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65][..], &[0x88]].concat();
    let messages = [
        Message::new(6, VIDEO, header),
        Message::new(4, AUDIO, vec![0xaf, 0, 0x11, 0x90]),
        Message::new(6, VIDEO, keyframe),
        Message::new(4, AUDIO, vec![0xaf, 1, 0]),
    ];
    for message in messages {
        world[publisher].send_raw(&message.on(1).chunks_of(1 << 20));
    }
    world.run();
    let players: Vec<_> = (0..PLAYERS).map(|_| world.connect_http(SITE)).collect();
    world.run();
    for player in &players {
        world[*player].send_raw(b"GET /live/cam.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let mut turns = 0;
    while world.turn() {
        turns += 1;
    }
    let bytes: usize = players.iter().map(|player| world[*player].received().len()).sum();
    assert!(bytes > PLAYERS * 40_000, "{bytes} bytes");
    let cost = bytes * limits::RESPONSE_BYTE_COST;
    let least = cost / (limits::READ_BYTES_OF_ALL_PER_TURN_MAX + cost / PLAYERS);
    assert!(least > 10 && turns >= least, "{turns} turns for {bytes} bytes");
}

#[test]
fn frames_of_a_websocket_client_cost_as_chunks_do() {
    const FRAMES: usize = 100_000;
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4 * limits::MIB;
    let publisher = publishing(&mut world);
    world.say(publisher, &[header("K1", 10)]);
    let player = world.connect_http(SITE);
    world[player].send_raw(
        b"GET /live/cam.flv HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
          Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
    );
    world.run();
    // Pongs that nobody has asked for.
    world[player].send_raw(&b"\x8a\x80\0\0\0\0".repeat(FRAMES));
    let mut turns = 0;
    while world.turn() {
        turns += 1;
    }
    assert!(world.conn(player).is_some());
    let cost = FRAMES / limits::READ_CHUNKS_PER_MESSAGE;
    let least = cost / (2 * limits::READ_MESSAGES_PER_TURN_MAX);
    assert!(turns >= least, "{turns} turns for {least}");
}
