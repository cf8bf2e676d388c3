//! Thousands of sockets, and sockets that are reset, half-closed or gone.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, SOON, session};
use crate::has_own_network;
use crate::healthy::{Feed, Habits, Pace, Viewer, newcomer};
use crate::support::wait_until;
use crate::trial::{CANARY, Trial};
use crate::wire;

/// Opens a connection from one of many loopback addresses.
fn from_host(trial: &Trial<'_>, index: u16) -> Attacker {
    let [high, low] = index.to_be_bytes();
    let from = SocketAddrV4::new(Ipv4Addr::new(127, 66, high, low), 0);
    let server = trial.arena.server.address;
    Attacker::connect_from(from, 0, server, &trial.traffic).expect("the server accepts")
}

pub(super) fn a22(trial: &mut Trial<'_>) {
    let mut held = Vec::new();
    for index in 0..5000 {
        let mut attacker = from_host(trial, index + 1);
        attacker.send(&wire::handshake()[..1000]);
        held.push(attacker);
        if index % 1000 == 999 {
            expect_newcomer(trial, "while the table is full");
        }
    }
    let most = trial.arena.server.held().descriptors;
    trial.verdict.expect(most < 400, || format!("{most} descriptors for 300 connections"));
    drop(held);
    let gave_way = trial.all_ended("127.66.", 5000, &["gave_way", "peer_closed", "peer_reset"]);
    trial.verdict.expect(gave_way >= 4700, || format!("{gave_way} of 5000 were evicted"));
}

pub(super) fn a23(trial: &mut Trial<'_>) {
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..1000 {
        held.push(from_host(trial, 1));
    }
    let still_open = wait_until(SOON, || {
        refused = held.iter_mut().filter_map(|a| a.wait_end(Duration::from_micros(10))).count();
        refused == 1000 - 32
    });
    trial.verdict.expect(still_open, || format!("{refused} of 1000 refused, 968 expected"));
    expect_newcomer(trial, "from another address");
    for _ in 0..refused {
        trial.verdict.outcome("per_address_limit");
    }
    for _ in refused..1000 {
        trial.verdict.outcome("peer_closed");
    }
}

pub(super) fn e02(trial: &mut Trial<'_>) {
    let mut held: Vec<_> = (0..600).map(|index| from_host(trial, index)).collect();
    for _ in 0..3 {
        thread::sleep(Duration::from_secs(1));
        expect_newcomer(trial, "while the table is full");
    }
    held.truncate(300);
    expect_newcomer(trial, "when half have left");
    drop(held);
    let gave_way = trial.all_ended("127.66.", 600, &["gave_way", "peer_closed", "peer_reset"]);
    trial.verdict.expect(gave_way >= 300, || format!("{gave_way} of 600 were evicted"));
}

pub(super) fn e03(trial: &mut Trial<'_>) {
    let began = Instant::now();
    let mut count = 0_u64;
    while began.elapsed() < Duration::from_secs(3) {
        // With FIN the ports would stay in TIME_WAIT and run out.
        from_host(trial, (count % 60_000) as u16).reset();
        count += 1;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    trial.verdict.figure(format!("{rate:.0} connects a second"));
}

pub(super) fn e04(trial: &mut Trial<'_>) {
    let away = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 0);
    let address = |verb: &str| {
        let host = format!("{}/32", away.ip());
        let ip = Command::new("ip").args(["addr", verb, &host, "dev", "lo"]).status();
        ip.is_ok_and(|status| status.success())
    };
    if !has_own_network() || !address("add") {
        return trial.verdict.figure("not run: needs a network namespace");
    }
    let feed = trial.feed("e04b", Pace::mbit(8));
    let server = trial.arena.server.address;
    let open = |start: [wire::Message; 2]| {
        let mut attacker = Attacker::connect_from(away, 0, server, &trial.traffic)?;
        attacker.send(&session(&start));
        attacker.hears("NetStream.", SOON);
        std::io::Result::Ok(attacker)
    };
    let publisher = open([wire::create_stream(2.0), wire::publish("e04")]);
    let player = open([wire::create_stream(2.0), wire::play("e04b")]);
    let [publisher, player] = [publisher, player].map(|party| party.expect("a connection"));
    trial.has_players = true;
    address("del");
    let began = Instant::now();
    let reasons = ["publisher_silent", "peer_lost", "player_stalled"];
    for (what, attacker) in [("publisher", &publisher), ("player", &player)] {
        let mut reason = None;
        wait_until(Duration::from_secs(15), || {
            reason = crate::server::closing_reason(&trial.log(), attacker.address);
            reason.is_some()
        });
        let reason = reason.unwrap_or_default();
        trial.verdict.expect(reasons.contains(&reason.as_str()), || {
            format!("the {what} without an address: {reason:?}")
        });
        trial.verdict.outcome(reason);
    }
    trial.verdict.figure(format!("both gone after {:.1} s", began.elapsed().as_secs_f64()));
    drop(feed);
}

pub(super) fn e05(trial: &mut Trial<'_>) {
    let feed = trial.feed("e05", Pace::mbit(8));
    let mut player = trial.connect_small(Ipv4Addr::LOCALHOST);
    player.send(&session(&[wire::create_stream(2.0), wire::play("e05")]));
    trial.has_players = true;
    let began = Instant::now();
    let with_feed = trial.sockets_before() + 1;
    let server = &trial.arena.server;
    let is_gone = wait_until(Duration::from_secs(20), || {
        began.elapsed() > Duration::from_secs(1) && server.held().sockets == with_feed
    });
    trial.verdict.expect(is_gone, || "a zero window keeps the connection open".to_owned());
    trial.verdict.figure(format!("gone after {:.1} s", began.elapsed().as_secs_f64()));
    // The kernel has a timeout for a zero window, too, and its buffer fills before the server's
    // timeout starts.
    trial.ends_or_serves("a window of zero", player, &["player_stalled", "peer_lost"]);
    drop(feed);
}

pub(super) fn e06(trial: &mut Trial<'_>) {
    let whole = session(&[wire::create_stream(2.0), wire::play(CANARY)]);
    for index in 0..5000 {
        let cut = index * 7919 % whole.len();
        let mut attacker = trial.send(&whole[..cut]);
        if index % 3 == 0 {
            attacker.take();
        }
        attacker.reset();
    }
    let before = trial.sockets_before();
    let server = &trial.arena.server;
    wait_until(SOON, || server.held().sockets == before);
    trial.all_ended("127.0.0.1:", 5000, &["peer_reset", "peer_closed"]);
    let loud = trial.log().lines().filter(|line| line.contains(" ERROR ")).count();
    trial.verdict.expect(loud == 0, || format!("{loud} errors logged"));
}

pub(super) fn e07(trial: &mut Trial<'_>) {
    let key = |index| format!("e07-{index}");
    let feeds: Vec<_> = (0..100).map(|index| trial.feed(&key(index), Pace::mbit(1))).collect();
    let viewers: Vec<_> = (0..10).map(|i| trial.viewer(&key(i), Habits::default())).collect();
    let line_rate = Pace {
        frame_bytes: 100_000,
        keyframe_bytes: 100_000,
        interval: Duration::ZERO,
        ..Pace::CANARY
    };
    let began = Instant::now();
    let greedy = trial.feed("e07", line_rate);
    while began.elapsed() < Duration::from_secs(4) {
        trial.sample();
        thread::sleep(Duration::from_millis(200));
    }
    let mbit = greedy.sent() as f64 * 0.8 / began.elapsed().as_secs_f64();
    let targets: Vec<_> = feeds.iter().map(Feed::sent).collect();
    drop(greedy);
    let is_live = |(viewer, target): (&Viewer, &u64)| viewer.seen().newest >= Some(*target);
    let all_live = wait_until(SOON, || viewers.iter().zip(&targets).all(is_live));
    let lost: u64 = viewers.iter().map(|viewer| viewer.seen().lost).sum();
    let broken = feeds.iter().filter(|feed| feed.is_broken()).count();
    trial.verdict.expect(all_live && lost == 0 && broken == 0, || {
        format!("of the 100: {broken} ended, {lost} frames lost, live again: {all_live}")
    });
    let behind_ms =
        viewers.iter().map(|v| v.seen().latency_max_us).max().unwrap_or_default() / 1000;
    trial.verdict.outcome("served");
    trial.verdict.figure(format!("{mbit:.0} Mbit/s, the others at most {behind_ms} ms behind"));
}

pub(super) fn e10(trial: &mut Trial<'_>) {
    let player = trial.player(CANARY);
    player.half_close();
    trial.closes("a player", player, "peer_closed");
    let mut publisher = trial.publisher("e10");
    let viewer = trial.viewer("e10", Habits::default());
    let mut media = wire::video(0, wire::AVC_CONFIG).chunks();
    media.extend((0..50).flat_map(|index| wire::video(40 * index, wire::AVC_KEYFRAME).chunks()));
    publisher.send(&media);
    publisher.half_close();
    trial.closes("a publisher", publisher, "peer_closed");
    let is_whole = wait_until(SOON, || viewer.seen().media >= 51);
    trial.verdict.expect(is_whole, || format!("{} of 51 were delivered", viewer.seen().media));
}

fn expect_newcomer(trial: &mut Trial<'_>, when: &str) {
    if let Err(error) = newcomer(trial.arena.server.address, CANARY) {
        trial.verdict.failures.push(format!("a newcomer {when}: {error}"));
    }
}
