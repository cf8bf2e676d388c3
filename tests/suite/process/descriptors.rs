//! Descriptors that run out, and connections that are as many as there may be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::serves;
use crate::support::expect_soon;
use crate::support::peer::Peer;
use crate::support::server::Start;
use crate::wire::{self, HANDSHAKE_BYTES};

#[test]
fn e01_a_low_descriptor_limit_bounds_the_connections_and_newcomers_still_get_in() {
    let server = Start::shell("e01_low", "ulimit -n 64; exec \"$0\" \"$@\"", "").start();
    server.wait_for_log("up to 30 connections");
    let held: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    serves(server.address);
    let ticks = server.proc().cpu_ticks_in(Duration::from_secs(1));
    assert!(ticks < 5, "{ticks} ticks of 10 ms in a second of rest");
    assert!(server.log().lines().count() < 10, "{}", server.log());
    drop(held);
    serves(server.address);
}

#[test]
fn e01_without_descriptors_the_server_waits_and_takes_who_waits_when_one_is_free() {
    let server = Start::new("e01_none", "").start();
    serves(server.address);
    let mut publisher = Peer::publishing(server.address, "cam");
    let mut player = Peer::playing(server.address, "cam");
    let open = server.proc().descriptors() as u64;
    let room = 4;
    let limit = Rlimit { current: Some(open + room), maximum: Some(open + room) };
    prlimit(Some(Pid::from_child(&server.child)), Resource::Nofile, limit).unwrap();

    let held: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // It waits in the kernel's queue and sends all it has to say while there is no room for it.
    let mut waiting = TcpStream::connect(server.address).unwrap();
    waiting.write_all(&wire::hello()).unwrap();
    server.wait_for_log("cannot accept on");
    let ticks = server.proc().cpu_ticks_in(Duration::from_secs(1));
    assert!(ticks < 5, "{ticks} ticks of 10 ms in a second without descriptors");
    publisher.send(&wire::audio(0, 100));
    assert_eq!(player.next_media().payload, wire::audio(0, 100).payload);

    drop(held);
    waiting.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    waiting.read_exact(&mut [0; HANDSHAKE_BYTES]).expect("served within a second, without a SYN");
    server.wait_for_log("accepting again on");
    let told = server.log().matches(" accept").count();
    assert_eq!(told, 2, "once that it cannot, once that it can: {}", server.log());
}

#[test]
fn a_full_table_is_said_once_and_again_when_there_was_room_in_between() {
    let mut command = Start::new("crowded", "");
    command.command.args(["--connections-max", "8"]);
    let server = command.start();
    for times in 1..3 {
        let held: Vec<_> = (0..30).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        let line = "WARN  [tiderace::server] all 8 connections are taken: sessions without a \
                    stream are evicted";
        expect_soon("the table is full", || server.log().matches(line).count() == times);
        drop(held);
        serves(server.address);
    }
}

#[test]
fn a_limit_on_the_memory_of_the_process_halves_the_automatic_budget() {
    for option in ["v", "d"] {
        let line = format!("ulimit -{option} 262144; exec \"$0\" \"$@\"");
        let server = Start::shell(&format!("memory_limit_{option}"), &line, "").start();
        server.wait_for_log("up to 128 MiB of memory");
        serves(server.address);
    }
}
