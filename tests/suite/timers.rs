//! Deadlines in virtual time: rows TM of the conformance table, and what else may take too long.

use tiderace::config::{Absent, Duplicate, Settings};
use tiderace::limits::{
    READ_BYTES_OF_ALL_PER_TURN_MAX, READ_BYTES_PER_TURN_MAX, WRITE_BYTES_PER_TURN_MAX,
};
use tiderace::server::reason::CloseReason;
use tiderace::server::stages::Stage;
use tiderace::server::timers::{ConnTimers, Deadlines, TimerKind, Timers};
use tiderace::stream::ids::ConnId;
use tiderace::time::Time;

use crate::random::Random;
use crate::wire::{self, SET_CHUNK_SIZE, VIDEO, control};
use crate::world::World;

#[test]
fn tm_01_a_peer_that_never_connects_is_closed_by_a_deadline_from_its_arrival() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world.advance_ms(9_000);
    world[client].send_raw(&wire::handshake());
    world.advance_ms(10_999);
    assert_eq!(world.conn(client).map(|conn| conn.stage), Some(Stage::Connecting));
    world.advance_ms(1);
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::ConnectTimeout), 1);
}

#[test]
fn tm_01_a_peer_without_a_stream_may_stay_unless_there_is_a_limit() {
    let mut settings = Settings::default();
    let mut world = World::new(settings.clone());
    let client = world.connected();
    assert_eq!(world.server.next_deadline(), None, "nobody is woken for an idle session");
    world.advance_ms(86_400_000);
    assert!(world.conn(client).is_some());

    settings.timeouts.idle_ms = 60_000;
    let mut world = World::new(settings);
    let client = world.connected();
    world.advance_ms(59_999);
    assert!(world.conn(client).is_some());
    world.advance_ms(1);
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::IdleTimeout), 1);
}

#[test]
fn tm_01_the_idle_limit_begins_anew_when_a_stream_is_over() {
    let mut settings = Settings::default();
    settings.timeouts.idle_ms = 10_000;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    world.advance_ms(25_000);
    assert!(world.conn(publisher).is_some(), "a publisher is not idle");
    world.say(publisher, &[wire::command("closeStream", 0.0, &[wire::null()]).on(1)]);
    world.advance_ms(9_999);
    assert!(world.conn(publisher).is_some());
    world.advance_ms(1);
    assert_eq!(world.closed(CloseReason::IdleTimeout), 1);
}

#[test]
fn tm_02_a_silent_publisher_is_closed_and_its_players_are_told_after_the_linger() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world.advance_ms(20_000);
    world.say(publisher, &[wire::audio(0, 1)]);
    world.advance_ms(29_999);
    assert!(world.conn(publisher).is_some());
    world.advance_ms(1);
    assert!(world[publisher].is_closed());
    assert_eq!(world.closed(CloseReason::PublisherSilent), 1);
    assert!(!world[player].was_told("NetStream.Play.UnpublishNotify"));
    world.advance_ms(14_999);
    assert!(!world[player].was_told("NetStream.Play.UnpublishNotify"));
    world.advance_ms(1);
    assert!(world[player].was_told("NetStream.Play.UnpublishNotify"));
    assert_eq!(world.conn(player).map(|conn| conn.stage), Some(Stage::Waiting));
}

#[test]
fn tm_02_without_a_linger_players_are_told_at_once() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 0;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world[publisher].reset();
    world.run();
    assert!(world[player].was_told("NetStream.Play.UnpublishNotify"));
    assert_eq!(world.closed(CloseReason::PeerReset), 1);
}

#[test]
fn tm_03_a_player_that_takes_nothing_is_closed_and_nobody_else_notices() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4096;
    let publisher = world.publishing("cam");
    let (stalled, other) = (world.playing("cam"), world.playing("cam"));
    world.say(publisher, &[control(SET_CHUNK_SIZE, 60_000)]);
    world[stalled].reads = false;
    let mut sent = 0;
    while world.conn(stalled).is_some() {
        let message = wire::audio(sent * 100, 2_000).chunks_of(60_000);
        world[publisher].send_raw(&message);
        world.advance_ms(100);
        sent += 1;
        assert!(sent < 200, "the stalled player is closed");
    }
    assert_eq!(world.closed(CloseReason::PlayerStalled), 1);
    assert!((100..=104).contains(&sent), "10 seconds after the last byte: {sent}");
    assert_eq!(world[other].media().len(), sent as usize);
    let tape = world.server.hub().tape_bytes();
    assert!(tape < 60 * 2_050, "a tape without a start point keeps the lag at most: {tape}");
}

#[test]
fn tm_03_bytes_that_use_up_the_budget_of_a_turn_count_as_taken() {
    let mut settings = Settings::default();
    settings.play.lag_ms = 30_000;
    let mut world = World::new(settings);
    world.socket_bytes = WRITE_BYTES_PER_TURN_MAX;
    let publisher = world.publishing("cam");
    let player = world.playing("cam");
    world[player].reads = false;
    world.say(publisher, &[control(SET_CHUNK_SIZE, 60_000)]);
    for timestamp in 0..4 {
        world[publisher].send_raw(&wire::audio(timestamp, 600_000).chunks_of(60_000));
    }
    world.advance_ms(9_000);
    assert_eq!(world[player].read(usize::MAX), WRITE_BYTES_PER_TURN_MAX);
    world.advance_ms(9_999);
    assert!(world.conn(player).is_some(), "9.999 seconds after the last byte");
    world.advance_ms(1);
    assert_eq!(world.closed(CloseReason::PlayerStalled), 1);
}

#[test]
fn tm_03_a_slow_player_jumps_to_keyframes_and_goes_when_it_jumps_too_often() {
    let mut settings = Settings::default();
    settings.play.lag_bytes = 20_000;
    settings.play.skips_max = 3;
    let mut world = World::new(settings);
    world.socket_bytes = 4096;
    let publisher = world.publishing("cam");
    world.say(publisher, &[control(SET_CHUNK_SIZE, 60_000)]);
    let slow = world.playing("cam");
    world[slow].reads = false;
    for second in 0..40 {
        for frame in 0..10 {
            let head = if frame == 0 { wire::AVC_KEYFRAME } else { wire::AVC_FRAME };
            let mut message = wire::video(second * 1000 + frame * 100, head);
            message.payload.resize(2_000, 0);
            let message = message.chunks_of(60_000);
            world[publisher].send_raw(&message);
            world[slow].read(1_000);
            world.advance_ms(100);
        }
    }
    assert_eq!(world.closed(CloseReason::SlowConsumer), 1);
    let times: Vec<_> = world[slow].media().iter().map(|m| m.timestamp).collect();
    assert!(times.is_sorted(), "{times:?}");
    for pair in world[slow].media().windows(2) {
        let jumps = pair[1].timestamp - pair[0].timestamp > 100;
        assert!(!jumps || pair[1].payload[0] == 0x17, "a jump ends at a keyframe");
    }
    assert_eq!(world[slow].of_kind(VIDEO).len(), times.len());
}

#[test]
fn tm_04_a_publisher_whose_connection_died_unnoticed_takes_its_stream_back() {
    let mut world = World::new(Settings::default());
    let dead = world.publishing("cam");
    let player = world.playing("cam");
    world.say(dead, &[wire::audio(980, 1), wire::audio(1000, 1)]);
    world.advance_ms(2_999);
    let early = world.connected();
    world.say(early, &[wire::create_stream(2.0), wire::publish("cam")]);
    assert!(world[early].was_told("NetStream.Publish.BadName"), "the first may still be there");
    world.advance_ms(1);
    let back = world.publishing("cam");
    world.say(back, &[wire::audio(0, 2)]);
    let times: Vec<_> = world[player].media().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [980, 1000, 4000], "time goes on by what has passed");
    assert!(!world[player].was_told("NetStream.Play.UnpublishNotify"));
    assert!(world[dead].was_told("NetStream.Publish.BadName"));
    assert_eq!(world.closed(CloseReason::AlreadyPublishing), 0, "it has a second to read");
    world.advance_ms(1_000);
    assert_eq!(world.closed(CloseReason::Replaced), 1);
    assert_eq!(world.closed(CloseReason::AlreadyPublishing), 1);
    assert!(world.conn(back).is_some());
}

#[test]
fn tm_04_one_connection_may_take_over_from_itself() {
    for duplicate in [Duplicate::Replace, Duplicate::ReplaceIfSilent] {
        let mut settings = Settings::default();
        settings.publish.duplicate = duplicate;
        let mut world = World::new(settings);
        let publisher = world.publishing("cam");
        let player = world.playing("cam");
        world.advance_ms(3_000);
        world.say(publisher, &[wire::create_stream(3.0), wire::publish("cam").on(2)]);
        world.say(publisher, &[wire::audio(0, 1), wire::audio(5, 2).on(2)]);
        let lengths: Vec<_> = world[player].media().iter().map(|m| m.payload.len()).collect();
        assert_eq!(lengths, [4], "only the second message stream publishes");
        world[publisher].reset();
        world.run();
        assert_eq!(world.server.len(), 1, "the player");
        let next = world.publishing("cam");
        world.say(next, &[wire::audio(0, 3)]);
        assert_eq!(world[player].media().len(), 2);
    }
}

#[test]
fn a_player_that_waits_is_told_when_it_may_wait_no_longer() {
    let mut settings = Settings::default();
    settings.play.wait_ms = 5_000;
    let mut world = World::new(settings.clone());
    let player = world.playing("cam");
    world.advance_ms(5_000);
    assert!(world[player].was_told("NetStream.Play.StreamNotFound"));
    assert!(world[player].is_finished());
    world.advance_ms(1_000);
    assert_eq!(world.closed(CloseReason::WaitTimeout), 1);

    settings.play.absent = Absent::Refuse;
    let mut world = World::new(settings);
    let player = world.connected();
    world.say(player, &[wire::create_stream(2.0), wire::play("cam")]);
    assert!(world[player].was_told("NetStream.Play.StreamNotFound"));
    world[player].finish();
    world.run();
    assert_eq!(world.closed(CloseReason::StreamNotFound), 1);
}

#[test]
fn one_that_is_told_to_go_and_reads_nothing_goes_after_a_second() {
    let mut world = World::new(Settings::default());
    let _first = world.publishing("cam");
    let second = world.connected();
    world[second].reads = false;
    world.say(second, &[wire::create_stream(2.0), wire::publish("cam")]);
    world.advance_ms(999);
    assert_eq!(world.conn(second).map(|conn| conn.stage), Some(Stage::Leaving));
    world.advance_ms(1);
    assert_eq!(world.closed(CloseReason::AlreadyPublishing), 1);
    world[second].read(usize::MAX);
    assert!(world[second].was_told("NetStream.Publish.BadName"));
}

#[test]
fn publishers_that_sent_while_the_server_stood_still_are_not_silent_however_much_it_is() {
    let mut world = World::new(Settings::default());
    let publishers: Vec<_> =
        (0..10).map(|index| world.publishing(&format!("cam{index}"))).collect();
    let silent = world.publishing("silent");
    for publisher in &publishers {
        // As much as its socket holds: all of them is more than goes into one turn.
        let messages: Vec<_> = (0..25).map(|index| wire::audio(index * 20, 9_000)).collect();
        world[*publisher].send(&messages);
    }
    assert!(publishers.len() * 25 * 9_000 > 2 * READ_BYTES_OF_ALL_PER_TURN_MAX);
    world.stop_for_ms(60_000);
    for publisher in publishers {
        assert!(world.conn(publisher).is_some(), "it sent, and nobody read it");
    }
    assert!(world[silent].is_closed());
    assert_eq!(world.closed(CloseReason::PublisherSilent), 1);
}

#[test]
fn a_player_that_takes_what_waits_when_its_time_is_up_has_not_stalled() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = 10_000;
    let publisher = world.publishing("cam");
    let [reads, stalls] = [(); 2].map(|()| world.playing("cam"));
    for player in [reads, stalls] {
        world[player].reads = false;
    }
    let messages: Vec<_> = (0..20).map(|index| wire::audio(index * 20, 1_000)).collect();
    world.say(publisher, &messages);
    world[reads].reads = true;
    world.stop_for_ms(10_000);
    assert!(world[stalls].is_closed());
    assert_eq!(world.closed(CloseReason::PlayerStalled), 1);
    world.say(publisher, &[wire::audio(1_000, 1)]);
    assert_eq!(world[reads].media().len(), 21);
}

#[test]
fn a_peer_that_always_has_more_to_say_gets_no_more_time_for_it() {
    let mut world = World::new(Settings::default());
    world.socket_bytes = READ_BYTES_PER_TURN_MAX;
    let client = world.handshaken();
    let before = world.server.stats().bytes_in;
    // So much that many turns do not come to an end of it.
    let pongs = wire::user_control(7, 0).chunks().repeat(READ_BYTES_PER_TURN_MAX);
    world[client].send_raw(&pongs);
    world.stop_for_ms(20_000);
    assert_eq!(world.closed(CloseReason::ConnectTimeout), 1);
    let read = world.server.stats().bytes_in - before;
    assert!(read <= READ_BYTES_PER_TURN_MAX as u64, "{read}");
}

#[test]
fn a_socket_that_says_writable_and_takes_nothing_costs_a_write_each_time_and_moves_no_deadline() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let stalled = world.playing("cam");
    world[stalled].reads = false;
    for number in 0..300 {
        world.say(publisher, &[wire::audio(number, 1000)]);
    }
    let stalls_at = world.conn(stalled).expect("it lives").stalls_at();
    assert_ne!(stalls_at, Time::NEVER);
    let limit_ms = Settings::default().timeouts.player_stalled_ms;
    for _ in 0..limit_ms / 100 - 1 {
        world.advance_ms(100);
        world.say_writable(stalled);
        let now = world.now();
        world.server.turn(&mut [0; 100], now);
        assert!(!world.server.has_work(), "it is tried once");
        let conn = world.conn(stalled).expect("it is not over yet");
        assert_eq!((conn.stalls_at(), conn.writable), (stalls_at, false));
    }
    world.advance_ms(100);
    assert!(world[stalled].is_closed());
    assert_eq!(world.closed(CloseReason::PlayerStalled), 1);
}

#[test]
fn a_connection_of_two_publishes_is_silent_when_both_are() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let streams = [wire::create_stream(2.0), wire::create_stream(3.0)];
    world.say(client, &streams);
    world.say(client, &[wire::publish("a"), wire::publish("b").on(2)]);
    for number in 0..6 {
        world.say(client, &[wire::audio(10_000 * number, 1).on(2)]);
        world.advance_ms(10_000);
    }
    assert!(world.conn(client).is_some(), "one of them sends");
    world.advance_ms(60_000);
    assert!(world[client].is_closed());
}

#[test]
fn a_session_that_publishes_no_longer_has_no_deadline() {
    for (name, message_stream_id) in [("deleteStream", 0), ("closeStream", 1)] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        assert_eq!(world.server.timers().len(), 1, "it may fall silent");
        let leave = wire::command(name, 0.0, &[wire::null(), wire::number(1.0)]);
        world.say(publisher, &[leave.on(message_stream_id)]);
        assert_eq!(world.conn(publisher).expect("it lives").timers.entry(), Time::NEVER, "{name}");
        assert_eq!((world.server.timers().len(), world.server.next_deadline()), (0, None));
    }
}

#[test]
fn a_million_deadlines_set_moved_and_cleared_leave_nothing_behind() {
    let mut timers = Timers::default();
    let none = || (ConnTimers::default(), Time::NEVER, Time::NEVER);
    let mut conns: Vec<_> = (0..1000).map(|_| none()).collect();
    let mut set = |(conn, silence, stall): &mut (ConnTimers, Time, Time), index, kind, at| {
        let (silence, stall) = (Some(silence), Some(stall));
        let deadlines = Deadlines { conn, silence, stall, verdict: None };
        timers.set(deadlines, ConnId::new(index as u32), kind, at);
        timers.len()
    };
    let kinds = [TimerKind::Stage, TimerKind::Silence, TimerKind::Stall, TimerKind::Ping];
    let mut random = Random::new(13);
    for _ in 0..1_000_000 {
        let index = random.below(conns.len());
        let cleared = random.one_in(2);
        let millis = random.below(60_000) as u64;
        let at = if cleared { Time::NEVER } else { Time::ZERO.plus_millis(millis) };
        let kind = kinds[random.below(kinds.len())];
        assert!(set(&mut conns[index], index, kind, at) <= conns.len());
    }
    for (index, conn) in conns.iter_mut().enumerate() {
        for kind in kinds {
            set(conn, index, kind, Time::NEVER);
        }
    }
    assert!(timers.is_empty());
}
