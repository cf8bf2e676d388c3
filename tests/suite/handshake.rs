//! The handshake through the whole server: rows HS of the conformance table.

use tiderace::config::Settings;
use tiderace::server::reason::CloseReason;
use tiderace::server::stages::Stage;

use crate::socket::is_about_sockets;
use crate::wire::{self, HANDSHAKE_BYTES, hex};
use crate::world::{Split, World};

/// C0 and a C1 in the simple form whose bytes differ from each other.
fn c0_c1() -> Vec<u8> {
    let mut bytes = vec![3, 0, 0, 0, 42, 0, 0, 0, 0];
    bytes.extend((0..1528).map(|index| (index % 253) as u8));
    bytes
}

fn assert_simple_answer(received: &[u8], c1: &[u8]) {
    assert_eq!(received.len(), HANDSHAKE_BYTES);
    assert_eq!(received[0], 3, "S0");
    assert_eq!(received[5..9], [0; 4], "the version in S1");
    assert!(received[1537..] == *c1, "S2 repeats C1");
}

#[test]
fn hs_01_c0_and_c1_are_answered_by_s0_s1_and_an_echo() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world[client].send_raw(&c0_c1());
    world.run();
    assert_simple_answer(world[client].received(), &c0_c1()[1..]);
}

#[test]
fn hs_02_nothing_is_answered_before_the_last_byte_of_c1() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world[client].split = Split::Bytes(1);
    world[client].send_raw(&c0_c1()[..1536]);
    world.run();
    assert!(world[client].received().is_empty());
    world[client].send_raw(&c0_c1()[1536..]);
    world.run();
    assert_simple_answer(world[client].received(), &c0_c1()[1..]);
}

#[test]
fn hs_03_handshake_and_connect_in_one_write_are_both_answered() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world[client].send_raw(&wire::handshake());
    world[client].send(&[wire::connect("live"), wire::create_stream(2.0)]);
    world.run();
    assert_eq!(world[client].answers(), ["_result 1", "_result 2"]);
}

#[test]
fn hs_04_connect_waits_for_the_last_byte_of_c2() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    let handshake = wire::handshake();
    let (most, last) = handshake.split_at(HANDSHAKE_BYTES - 1);
    world[client].send_raw(most);
    world.run();
    assert_eq!(world.conn(client).unwrap().stage, Stage::Handshaking);
    world[client].send_raw(last);
    world.say(client, &[wire::connect("live")]);
    assert_eq!(world[client].answers(), ["_result 1"]);
}

#[test]
fn hs_05_and_hs_06_a_c2_that_does_not_repeat_s1_is_accepted() {
    for echoes in [false, true] {
        let mut world = World::new(Settings::default());
        let client = world.connect();
        world[client].send_raw(&c0_c1());
        world.run();
        let s1 = &world[client].received()[1..1537];
        let with_other_version = [&s1[..4], &[1, 2, 3, 4], &s1[8..]].concat();
        let c2 = if echoes { with_other_version } else { vec![0; 1536] };
        world[client].send_raw(&c2);
        world.say(client, &[wire::connect("live")]);
        assert_eq!(world[client].answers(), ["_result 1"]);
    }
}

#[test]
fn hs_07_to_hs_10_what_is_no_rtmp_is_closed_at_once_and_without_an_answer() {
    let http = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let tls = hex("16 03 01 02 00 01 00 01 fc 03 03");
    for first in [vec![0], vec![2], vec![4], vec![0x1f], vec![6], http, tls] {
        let mut world = World::new(Settings::default());
        let client = world.connect();
        world[client].send_raw(&[&first[..], &[0; 1536]].concat());
        world.run();
        assert!(world[client].is_closed(), "{:02x}", first[0]);
        assert!(world[client].received().is_empty(), "{:02x}", first[0]);
        assert_eq!(world.closed(CloseReason::BadHandshake), 1, "{:02x}", first[0]);
    }
}

#[test]
fn hs_11_a_c1_with_a_digest_gets_a_signed_answer_and_goes_on() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    let c1 = wire::vector("ffpub_c1.bin");
    world[client].send_raw(&[&[3], &c1[..]].concat());
    world.run();
    let received = world[client].received();
    assert_eq!(received.len(), HANDSHAKE_BYTES);
    assert_ne!(received[5..9], [0; 4], "the version in S1");
    assert!(received[1537..] != c1, "S2 is signed and no echo");
    world[client].send_raw(&[0; 1536]);
    world.say(client, &[wire::connect("live")]);
    assert_eq!(world[client].answers(), ["_result 1"]);
}

#[test]
fn hs_13_a_c1_whose_digest_is_wrong_is_taken_as_simple() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    let mut c0_c1 = c0_c1();
    c0_c1[5..9].copy_from_slice(&hex("09007c02"));
    world[client].send_raw(&c0_c1);
    world.run();
    assert_simple_answer(world[client].received(), &c0_c1[1..]);
}

#[test]
fn hs_15_a_peer_that_sends_nothing_is_closed_at_the_handshake_timeout() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world.advance_ms(9_999);
    assert!(!world[client].is_closed());
    world.advance_ms(1);
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::HandshakeTimeout), 1);
    assert_eq!(world.server.next_deadline(), None, "nothing is left to wake for");
}

#[test]
fn hs_16_a_byte_now_and_then_does_not_move_the_deadline() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    for byte in &c0_c1()[..9] {
        world[client].send_raw(&[*byte]);
        world.advance_ms(1_000);
    }
    world.advance_ms(999);
    assert!(!world[client].is_closed());
    world.advance_ms(1);
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::HandshakeTimeout), 1);
}

#[test]
fn hs_17_a_peer_that_ends_after_c1_is_forgotten() {
    let mut world = World::new(Settings::default());
    let client = world.connect();
    world[client].send_raw(&c0_c1());
    world[client].finish();
    world.run();
    assert!(world[client].is_closed());
    assert!(world.server.is_empty());
    assert_eq!(world.closed(CloseReason::PeerClosed), 1);
}

#[test]
fn hs_18_many_peers_that_send_only_c0_hold_nothing_and_go_at_the_timeout() {
    let mut world = World::new(Settings::default());
    let clients: Vec<_> = (0..5000).map(|_| world.connect()).collect();
    for client in &clients {
        world[*client].send_raw(&[3]);
    }
    world.run();
    assert_eq!(world.server.len(), clients.len());
    for client in &clients {
        let conn = world.conn(*client).unwrap();
        assert_eq!(conn.peer.session().unwrap().output().bytes().len(), 0);
        assert_eq!(conn.peer.session().unwrap().inbound().reader().assembly_bytes(), 0);
        assert!(conn.activity.is_none());
    }
    world.advance_ms(10_000);
    assert!(world.server.is_empty());
    assert!(world.server.timers().is_empty());
}

/// A peer whose socket holds a small message back until the last one is acknowledged must not wait
/// for an acknowledgement that the kernel puts off; a publisher's media needs none of that.
#[test]
fn what_has_no_reply_is_acknowledged_at_once_until_there_is_a_stream() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let client = world.connect();
    let mut acknowledged = |bytes: &[u8]| {
        world[client].send_raw(bytes);
        world.run();
        world[client].acknowledged()
    };
    let handshake = wire::handshake();
    let (c0_c1, c2) = handshake.split_at(1537);
    assert_eq!(acknowledged(c0_c1), 0, "S0 S1 S2 say it");
    assert_eq!(acknowledged(c2), 1);
    assert_eq!(acknowledged(&wire::connect("live").chunks()), 1, "the result says it");
    assert_eq!(acknowledged(&wire::control(5, 2_500_000).chunks()), 2);
    assert_eq!(acknowledged(&wire::publish("cam").chunks()), 2);
    assert_eq!(acknowledged(&wire::audio(0, 10).on(1).chunks()), 2);
}

#[test]
fn who_has_ended_its_sending_direction_is_not_acknowledged_at_once() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let before = world[client].acknowledged();
    world[client].send_raw(&wire::control(5, 2_500_000).chunks());
    world[client].finish();
    world.run();
    assert_eq!(world.closed(CloseReason::PeerClosed), 1);
    assert_eq!(world[client].acknowledged(), before, "it holds nothing back");
}
