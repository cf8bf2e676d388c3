//! User control messages: rows UC of the conformance table.

use tiderace::config::Settings;
use tiderace::server::reason::CloseReason;

use crate::wire::{self, Message, USER_CONTROL, hex, user_control};
use crate::world::World;

const PING_REQUEST: u16 = 6;

#[test]
fn uc_01_a_ping_is_answered_with_its_value() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    world[client].send_raw(&hex("02 000000 000006 04 00000000 0006 00003039"));
    world.run();
    let answers = world[client].of_kind(USER_CONTROL);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].payload, hex("0007 00003039"));
    assert_eq!((answers[0].chunk_stream_id, answers[0].message_stream_id), (2, 0));
}

/// Pings every 5 seconds.
fn pinging() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts.ping_ms = 5_000;
    settings
}

#[test]
fn uc_02_a_publisher_that_never_answers_pings_stays_while_it_sends() {
    let mut world = World::new(pinging());
    let publisher = world.publishing("cam");
    for second in 0..60 {
        world.say(publisher, &[wire::audio(second * 1000, 10)]);
        world.advance_ms(1_000);
    }
    assert!(world.conn(publisher).is_some());
}

#[test]
fn uc_02_a_peer_that_says_nothing_is_pinged_and_then_closed() {
    let mut world = World::new(pinging());
    let client = world.connected();
    world.advance_ms(4_999);
    assert!(world[client].of_kind(USER_CONTROL).is_empty());
    world.advance_ms(1);
    let pings = world[client].of_kind(USER_CONTROL);
    assert_eq!(pings.len(), 1);
    assert_eq!(pings[0].payload[..2], PING_REQUEST.to_be_bytes());
    world.advance_ms(4_999);
    assert!(world.conn(client).is_some());
    world.advance_ms(1);
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::PingTimeout), 1);
}

#[test]
fn uc_02_a_peer_that_answers_pings_stays() {
    let mut world = World::new(pinging());
    // The driven client answers by itself.
    let client = world.connect_only();
    world.advance_ms(60_000);
    assert!(world.conn(client).is_some());
    assert_eq!(
        world[client].of_kind(USER_CONTROL).len(),
        12,
        "one ping for each 5 seconds of silence"
    );
}

#[test]
fn uc_03_unknown_and_short_events_are_ignored() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    for event in [5, 9, 32, 999] {
        world.say(client, &[user_control(event, 1)]);
    }
    for body in [&[][..], &[0], &[0, 6], &[0, 6, 1], &[0, 3, 0, 0]] {
        world.say(client, &[Message::new(2, USER_CONTROL, body)]);
    }
    assert!(world[client].messages().is_empty());
    world.assert_lives(client);
}

#[test]
fn uc_04_set_buffer_length_with_and_without_its_length_changes_nothing() {
    let mut world = World::new(Settings::default());
    let player = world.playing("cam");
    for body in ["0003 00000001 00000bb8", "0003 00000001"] {
        world.say(player, &[Message::new(2, USER_CONTROL, hex(body))]);
    }
    world.assert_lives(player);
    let publisher = world.publishing("cam");
    world.say(publisher, &[wire::audio(0, 1)]);
    assert_eq!(world[player].media().len(), 1);
}
