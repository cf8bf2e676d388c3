//! Full tables, and the end of the server: who gives way, who is refused, who is told.

use tiderace::config::Settings;
use tiderace::limits;
use tiderace::server::reason::CloseReason;

use crate::wire::{self, SET_CHUNK_SIZE, control, create_stream, publish};
use crate::world::World;

/// Settings with room for so many connections.
fn room_for(connections_max: usize) -> Settings {
    let mut settings = Settings::default();
    settings.limits.connections_max = connections_max;
    settings
}

#[test]
fn one_that_has_been_told_to_go_gives_way_first_and_keeps_its_reason() {
    let mut world = World::new(room_for(3));
    let _publisher = world.publishing("cam");
    let silent = world.connect();
    let second = world.connected();
    world.say(second, &[create_stream(2.0), publish("cam")]);
    world.connect();
    assert!(world[second].is_closed() && !world[silent].is_closed());
    assert_eq!(world.closed(CloseReason::AlreadyPublishing), 1);
}

#[test]
fn one_that_gives_way_with_something_to_read_and_to_write_is_forgotten_whole() {
    let mut world = World::new(room_for(1));
    let first = world.connected();
    world[first].send(&[wire::command("_checkbw", 1.0, &[wire::null()])]);
    let second = world.handshaken();
    world.say(second, &[wire::connect("live")]);
    assert!(world[first].is_closed());
    assert_eq!(world[second].answers(), ["_result 1"]);
}

#[test]
fn what_is_more_than_one_turn_may_move_goes_on_in_the_next() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 8 << 20;
    let publisher = world.publishing("cam");
    world.say(publisher, &[control(SET_CHUNK_SIZE, 60_000)]);
    let mut keyframe = wire::video(0, wire::AVC_KEYFRAME);
    keyframe.payload.resize(3 << 20, 0);
    world[publisher].send_raw(&keyframe.chunks_of(60_000));
    world.run();
    // A message in many pieces, and many messages.
    for timestamp in 1..1000 {
        world[publisher].send_raw(&wire::audio(timestamp, 1_000).chunks_of(60_000));
    }
    world.run();
    let player = world.playing("cam");
    let media = world[player].media();
    assert_eq!((media.len(), media[0].payload.len()), (1000, 3 << 20));
}

#[test]
fn a_client_with_little_to_say_is_heard_before_a_crowd_that_always_has_more() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 1 << 20;
    let crowd: Vec<_> = (0..200).map(|_| world.connected()).collect();
    let honest = world.connected();
    // A type that no server knows, in messages of one byte.
    let flood = wire::Message::new(9, 99, [0]).chunks().repeat(21_000);
    crowd.iter().for_each(|client| world[*client].send_raw(&flood));
    world[honest].send(&[wire::command("_checkbw", 5.0, &[wire::null()])]);
    // One more connection, so that the server has been told of all of it.
    world.connect();
    let mut buffer = vec![0; limits::READ_BUFFER_BYTES];
    let now = world.now();
    let said = |world: &World| world.conn(honest).expect("it lives").bytes_out;
    let (before_it_asked, mut turns) = (said(&world), 0);
    // The first shares of all, of which a turn takes three quarters of its messages. The message
    // that uses up a share is finished.
    let share = limits::READ_MESSAGES_FIRST_MAX + limits::READ_COMMAND_MESSAGES;
    let messages_of_all = (crowd.len() + 2) * share;
    let turns_max = messages_of_all.div_ceil(limits::READ_MESSAGES_OF_ALL_PER_TURN_MAX * 3 / 4);
    while said(&world) == before_it_asked {
        let before = world.server.stats().bytes_in;
        world.server.turn(&mut buffer, now);
        let read = world.server.stats().bytes_in - before;
        assert!(read <= limits::READ_BYTES_OF_ALL_PER_TURN_MAX as u64, "{read} bytes in a turn");
        turns += 1;
        assert!(turns <= turns_max, "more turns than the crowd's first shares take");
    }
    world.run();
    assert_eq!(world[honest].answers(), ["_result 5"]);
}

#[test]
fn a_server_that_goes_down_tells_everybody_and_takes_nobody() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    let idle = world.connected();
    let silent = world.connect();
    let now = world.now();
    world.server.drain(now);
    world.run();
    assert!(world[publisher].was_told("NetStream.Publish.Denied"));
    assert!(world[player].was_told("NetStream.Play.UnpublishNotify"));
    assert!(world[idle].was_told("NetConnection.Connect.AppShutdown"));
    for client in [publisher, player, idle, silent] {
        assert!(world[client].is_finished() && !world[client].is_closed());
    }
    let late = world.connect();
    assert!(world[late].is_closed());
    world[player].finish();
    world.run();
    assert!(world[player].is_closed());
    world.advance_ms(1_000);
    assert!(world.server.is_empty() && world.server.hub().is_empty());
    assert_eq!(world.closed(CloseReason::ServerShutdown), 4);
    assert_eq!(world.server.next_deadline(), None);
}

#[test]
fn connections_that_end_at_once_are_removed_over_turns_and_give_way_until_then() {
    let per_turn = limits::CLOSINGS_PER_TURN_MAX;
    let mut settings = Settings::default();
    settings.limits.connections_max = 3 * per_turn;
    let mut world = World::new(settings);
    let leaving: Vec<_> = (1..3 * per_turn).map(|_| world.connect()).collect();
    let stays = world.connected();
    leaving.iter().for_each(|client| world[*client].finish());
    assert!(world.turn());
    assert_eq!(world.server.len(), 2 * per_turn);
    // More than there is room for, while others are at their end.
    let newcomers: Vec<_> = (0..2 * per_turn).map(|_| world.connect()).collect();
    assert_eq!(world.server.len(), 3 * per_turn);
    assert!(newcomers.iter().all(|client| world.conn(*client).is_some()));
    assert!(world.turn());
    assert_eq!(world.server.len(), 2 * per_turn + 1, "the rest of those that left");
    assert_eq!(world.closed(CloseReason::GaveWay), 0);
    world.assert_lives(stays);
}
