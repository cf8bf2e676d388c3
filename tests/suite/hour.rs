//! A stream that goes on for long: an hour of it, without drift and without growth.

use tiderace::config::Settings;
use tiderace::limits::MIB;

use crate::frames::{label, publish, write};
use crate::world::{ClientHandle, World};

const HOUR_MS: u64 = 3_600_000;
/// Frames of 5 pictures and 5 sounds a second; a GOP is 10 s long.
const FRAME_MS: u64 = 200;
const GOP: u64 = 50;
const FRAME_BYTES: usize = 1000;

/// The labels and timestamps of what came since the last call.
fn take(world: &mut World, player: ClientHandle) -> Vec<(String, u32)> {
    let messages = world[player].take_messages();
    let media = messages.iter().filter(|message| message.is_media());
    media.map(|message| (label(message), message.timestamp)).collect()
}

#[test]
fn a_stream_of_an_hour_plays_without_drift() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    // The extended timestamp begins half way.
    let began = 0x00ff_ffff - HOUR_MS as u32 / 2;
    publish(&mut world, publisher, "V0 A0", began);
    take(&mut world, player);
    let mut tape_bytes_max = 0;
    for number in 0..HOUR_MS / FRAME_MS {
        let timestamp = began + (number * FRAME_MS) as u32;
        let kind = if number.is_multiple_of(GOP) { "K" } else { "i" };
        // A network that delivers unevenly: everything is there again after each second.
        let late_ms = number % (1000 / FRAME_MS) * 30;
        world.advance_ms(late_ms);
        let labels = [format!("{kind}{number}"), format!("a{number}")];
        write(&mut world, publisher, &labels.join(" "), timestamp, FRAME_BYTES);
        world.run();
        let expected = labels.map(|label| (label, timestamp));
        assert_eq!(take(&mut world, player), expected, "at once, and stamped as it was sent");
        tape_bytes_max = tape_bytes_max.max(world.server.hub().tape_bytes());
        world.advance_ms(FRAME_MS - late_ms);
    }
    let gop_bytes = 2 * GOP as usize * (FRAME_BYTES + 40);
    assert!(tape_bytes_max < 2 * gop_bytes, "{tape_bytes_max} bytes on the tape");
    let late = world.player("cam");
    let first = take(&mut world, late);
    let newest_gop = HOUR_MS / FRAME_MS - GOP;
    let at = began + (newest_gop * FRAME_MS) as u32;
    assert_eq!(first[..2], [("A0".to_owned(), at), ("V0".to_owned(), at)]);
    assert_eq!(first[2], (format!("K{newest_gop}"), at));
    assert_eq!(first.len() as u64, 2 + 2 * GOP);
}

#[test]
fn an_hour_of_publishers_that_return_keeps_the_time_of_the_wall() {
    let mut world = World::new(Settings::default());
    let player = world.player("cam");
    let began = world.now();
    let mut number = 0;
    let mut newest = 0;
    while world.now().millis_since(began) < HOUR_MS {
        // Each stays for half a minute, counts from a time of its own, and is gone for a moment.
        let publisher = world.publisher("cam");
        let clock = number * 7919;
        publish(&mut world, publisher, &format!("V{number} A{number}"), 0);
        for frame in 0..30 {
            let labels = if frame == 0 { "K1 a1" } else { "i1 a1" };
            publish(&mut world, publisher, labels, clock + frame * 1000);
            let elapsed_ms = world.now().millis_since(began);
            for (label, timestamp) in take(&mut world, player) {
                assert!(timestamp >= newest, "{label}: {newest}, then {timestamp}");
                newest = timestamp;
            }
            assert!(u64::from(newest).abs_diff(elapsed_ms) <= 1, "{newest} at {elapsed_ms} ms");
            world.advance_ms(1000);
        }
        world[publisher].reset();
        world.advance_ms(u64::from(number) % 7 * 611);
        number += 1;
    }
    assert!(number > 100, "{number} publishers");
    assert!(world.server.hub().tape_bytes() < MIB);
}
