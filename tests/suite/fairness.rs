//! What one connection does takes no turn from the others: budgets of reading and writing, who
//! comes first in the next turn, and turns that take too long.

use std::cell::Cell;

use tiderace::config::Settings;
use tiderace::limits;
use tiderace::server::stopwatch::Clocks;
use tiderace::time::Time;

use crate::frames::{payload, publish_sized, take_labels, write};
use crate::socket::is_about_sockets;
use crate::wire::{self, Message};
use crate::world::{ClientHandle, World};

/// A publisher at 1 Mbit/s and 25 frames a second.
const FRAME_BYTES: usize = 5000;
const FRAME_MS: u64 = 40;

fn bytes_of(world: &World, client: ClientHandle) -> (u64, u64) {
    let conn = world.conn(client).expect("it lives");
    (conn.bytes_in, conn.bytes_out)
}

#[test]
fn e07_a_publisher_at_line_rate_leaves_a_hundred_at_1_mbit_untouched() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    world.socket_bytes = 1 << 20;
    let slow: Vec<_> = (0..100)
        .map(|index| {
            let key = format!("slow{index}");
            (world.publisher(&key), world.player(&key))
        })
        .collect();
    let fast = world.publishing("fast");
    let watcher = world.playing("fast");
    for (publisher, player) in &slow {
        publish_sized(&mut world, *publisher, "V0 A0 K0", 0, 0);
        take_labels(&mut world, *player);
    }
    world[watcher].take_messages();
    let (kind, frame) = payload("K1", 60_000);
    let flood = Message::new(6, kind, frame).on(1).chunks().repeat(20);
    let before = bytes_of(&world, fast).0;
    // It is read in two turns of 20 ms; as much as it likes, but it likes more.
    let (ticks, turns_of_tick) = (50, 2);
    for tick in 1..=ticks {
        let timestamp = (tick * FRAME_MS) as u32;
        for (publisher, _) in &slow {
            write(&mut world, *publisher, &format!("i{tick}"), timestamp, FRAME_BYTES);
        }
        for turn in 0..turns_of_tick {
            while world[fast].unsent() < flood.len() {
                world[fast].send_raw(&flood);
            }
            let before = bytes_of(&world, fast).0;
            assert!(world.turn());
            let read = bytes_of(&world, fast).0 - before;
            assert!(read > 0, "it is read in every turn, {tick}.{turn}");
            assert!(read <= limits::READ_BYTES_PER_TURN_MAX as u64, "{read} bytes in a turn");
        }
        for (_, player) in &slow {
            assert_eq!(take_labels(&mut world, *player), format!("i{tick}"), "at once");
        }
    }
    let share = (limits::READ_BYTES_PER_TURN_MAX as u64) * turns_of_tick * ticks;
    assert_eq!(bytes_of(&world, fast).0 - before, share, "it gets what there is for one");
    assert!(!world[watcher].take_messages().is_empty());
    assert_eq!(world.server.stats().closed_total(), 0);
}

#[test]
fn what_a_turn_writes_is_bounded_and_first_shares_have_three_quarters_of_it() {
    const PLAYERS: usize = 80;
    const GOP_BYTES: usize = 1_200_000;
    let share = limits::WRITE_BYTES_PER_TURN_MAX as u64;
    let of_all = limits::WRITE_BYTES_OF_ALL_PER_TURN_MAX as u64;
    let mut world = World::new(Settings::default());
    world.socket_bytes = 4 << 20;
    let publisher = world.publisher("cam");
    publish_sized(&mut world, publisher, "V0", 0, 0);
    publish_sized(&mut world, publisher, "K0", 0, GOP_BYTES);
    let players: Vec<_> = (0..PLAYERS).map(|_| world.connected()).collect();
    for player in &players {
        world[*player].send(&[wire::create_stream(2.0), wire::play("cam")]);
    }
    let start: Vec<_> = players.iter().map(|player| bytes_of(&world, *player).1).collect();
    let (mut turns, mut without_share) = (0, PLAYERS);
    loop {
        let before = world.server.stats().bytes_out;
        if !world.turn() {
            break;
        }
        turns += 1;
        let written = world.server.stats().bytes_out - before;
        assert!(written < of_all + share, "{written} bytes in a turn");
        // Replies go before the first share, and belong to it.
        let got = players.iter().zip(&start);
        let got = got.map(|(player, start)| (bytes_of(&world, *player).1 - start).div_ceil(share));
        let left = got.filter(|shares| *shares == 0).count();
        let first_shares = (of_all * 3 / 4 / share) as usize;
        assert!(left == 0 || without_share - left >= first_shares, "turn {turns}: {left} wait");
        without_share = left;
    }
    let least = (PLAYERS as u64 * GOP_BYTES as u64).div_ceil(of_all);
    assert!(turns >= least, "{turns} turns");
    for player in players {
        assert_eq!(take_labels(&mut world, player), "V0 K0");
    }
}

#[test]
fn a_stream_with_one_player_waits_for_no_visit_of_all_players_of_others() {
    const STREAMS: usize = 4;
    let mut world = World::new(Settings::default());
    let players = limits::WRITE_CALLS_OF_ALL_PER_TURN_MAX;
    let large: Vec<_> = (0..STREAMS)
        .map(|index| {
            let key = format!("large{index}");
            let publisher = world.publisher(&key);
            (0..players).for_each(|_| _ = world.player(&key));
            publisher
        })
        .collect();
    let small = world.publisher("small");
    let lone = world.player("small");
    for publisher in large.iter().chain([&small]) {
        publish_sized(&mut world, *publisher, "V0 K0", 0, 0);
    }
    let before = bytes_of(&world, lone).1;
    for publisher in large.iter().chain([&small]) {
        write(&mut world, *publisher, "i1", 40, FRAME_BYTES);
    }
    assert!(world.turn());
    assert!(bytes_of(&world, lone).1 - before > FRAME_BYTES as u64, "the frame is sent at once");
    assert!(world.server.has_work(), "which the players of the others have to wait for");
}

#[test]
fn a_frame_waits_for_no_thousand_of_new_connections() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let crowd: Vec<_> = (0..1000).map(|_| world.connect()).collect();
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish_sized(&mut world, publisher, "V0 K0", 0, 0);
    let before = bytes_of(&world, player).1;
    for client in &crowd {
        world[*client].send_raw(&wire::handshake());
    }
    write(&mut world, publisher, "i1", 40, FRAME_BYTES);
    assert!(world.turn());
    assert!(bytes_of(&world, player).1 - before > FRAME_BYTES as u64, "the frame is sent at once");
    let shaken = crowd.iter().filter(|client| bytes_of(&world, **client).1 > 0).count();
    assert!((1..1000).contains(&shaken), "{shaken} handshakes in the same turn");
}

#[test]
fn a_turn_that_takes_too_long_is_counted() {
    let mut world = World::new(Settings::default());
    let idle = world.connected();
    // Each look at the clock takes 40 ms: two pieces of work are done in time, four are not.
    let millis = Cell::new(0);
    let wall = Box::new(move || {
        millis.set(millis.get() + 40);
        Time::ZERO.plus_millis(millis.get())
    });
    world.server.measure_turns(Clocks { wall, cpu: Box::new(|| Time::ZERO) });
    let now = world.now();
    world.server.turn(&mut [0; 100], now);
    assert_eq!(world.server.stats().slow_turns, 0);
    world.assert_lives(idle);
    assert_eq!(world.server.stats().slow_turns, 1);
}
