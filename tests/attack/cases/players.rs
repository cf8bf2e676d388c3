//! Players that are slow, stop reading or disappear, and streams that are hard to cache.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, SOON, session};
use crate::healthy::{Habits, Pace, newcomer};
use crate::support::wait_until;
use crate::trial::{CANARY, Trial};
use crate::wire;

/// Memory of the stream itself: its tape, plus overhead of the allocator.
const TAPE_KIB_MAX: i64 = 18 * 1024;
/// The default stall timeout of players, plus reserve for a busy machine.
const STALLED: Duration = Duration::from_secs(30);

/// Opens players that do not read their stream.
fn stalled_players(trial: &mut Trial<'_>, key: &str, count: usize) -> Vec<Attacker> {
    trial.has_players = true;
    let play = session(&[wire::create_stream(2.0), wire::play(key)]);
    let opened = (0..count).map(|_| {
        let mut player = trial.connect_small(Ipv4Addr::LOCALHOST);
        player.send(&play);
        player.reads = false;
        player
    });
    opened.collect()
}

/// Waits until the server has dropped all players, and checks the memory they cost, including that
/// of the stream.
pub(super) fn wait_until_rid_of(
    trial: &mut Trial<'_>,
    mut players: Vec<Attacker>,
    mut meanwhile: impl FnMut(&mut Attacker),
) {
    let began = Instant::now();
    let with_feed = trial.sockets_before() + 1;
    let mut is_rid = false;
    while !is_rid && began.elapsed() < STALLED {
        players.iter_mut().for_each(&mut meanwhile);
        trial.sample();
        thread::sleep(Duration::from_millis(500));
        is_rid = trial.arena.server.held().sockets <= with_feed;
    }
    trial.verdict.expect(is_rid, || format!("players are still there after {STALLED:?}"));
    trial.verdict.figure(format!("all gone after {:.1} s", began.elapsed().as_secs_f64()));
    let most = trial.most_kib();
    let max = TAPE_KIB_MAX + 10 * players.len() as i64;
    trial.verdict.expect(most <= max, || format!("{most} KiB, {max} at most"));
    trial.all_ended("127.0.0.1:", players.len(), &["player_stalled"]);
}

pub(super) fn b01(trial: &mut Trial<'_>) {
    let _feed = trial.feed("b01", Pace::mbit(8));
    let players = stalled_players(trial, "b01", 200);
    wait_until_rid_of(trial, players, |_| ());
}

pub(super) fn b02(trial: &mut Trial<'_>) {
    let _feed = trial.feed("b02", Pace::mbit(8));
    let players = stalled_players(trial, "b02", 200);
    let ping = wire::user_control(6, 1).chunks();
    wait_until_rid_of(trial, players, |player| {
        player.take_up_to(1);
        player.send(&ping);
    });
}

pub(super) fn b03(trial: &mut Trial<'_>) {
    let _feed = trial.feed("b03", Pace { frozen_at: Some(1), ..Pace::mbit(8) });
    let players = stalled_players(trial, "b03", 200);
    wait_until_rid_of(trial, players, |_| ());
}

pub(super) fn b04(trial: &mut Trial<'_>) {
    let endless = trial.feed("b04a", Pace { gop_frames: 0, ..Pace::mbit(40) });
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        trial.sample();
        thread::sleep(Duration::from_millis(100));
    }
    drop(endless);
    let large = Pace { keyframe_bytes: (8 << 20) - 1024, ..Pace::CANARY };
    let large = trial.feed("b04b", large);
    let is_there = wait_until(SOON, || large.sent() > 30);
    trial.verdict.expect(is_there, || "keyframes of 8 MiB do not arrive".to_owned());
    let waited = newcomer(trial.arena.server.address, "b04b");
    match waited {
        Ok(waited) => trial.verdict.figure(format!("first picture in {} ms", waited.as_millis())),
        Err(error) => trial.verdict.failures.push(format!("no picture: {error}")),
    }
    trial.sample();
    let most = trial.most_kib();
    // Two tapes, and one message being assembled.
    let max = 2 * TAPE_KIB_MAX + 10 * 1024;
    trial.verdict.expect(most <= max, || format!("{most} KiB, {max} at most"));
}

pub(super) fn b05(trial: &mut Trial<'_>) {
    let play = session(&[wire::create_stream(2.0), wire::play(CANARY)]);
    trial.has_players = true;
    let mut alive = std::collections::VecDeque::new();
    for index in 0..500_usize {
        alive.push_back(trial.send(&play));
        thread::sleep(Duration::from_millis(10));
        // Each player lives up to 310 ms, and ends with RST or FIN.
        if alive.len() > index * 7 % 31 {
            let player = alive.pop_front().filter(|_| index % 2 == 0);
            player.into_iter().for_each(Attacker::reset);
        }
    }
    drop(alive);
    trial.all_ended("127.0.0.1:", 500, &["peer_reset", "peer_closed"]);
}

pub(super) fn b06(trial: &mut Trial<'_>) {
    let mut halfway = 0;
    for index in 0..4000 {
        if index == 2000 {
            halfway = trial.taken_kib();
        }
        let mut player = trial.player(CANARY);
        let is_served = player.end().is_none();
        trial.verdict.expect(is_served, || format!("player {index} was refused"));
        // With FIN the ports would stay in TIME_WAIT and run out.
        player.take();
        player.reset();
    }
    let more = trial.taken_kib() - halfway;
    trial.verdict.expect(more <= 256, || format!("{more} KiB more after the second 2000"));
    trial.verdict.figure(format!("{more} KiB between 2000 and 4000"));
}

pub(super) fn b07(trial: &mut Trial<'_>) {
    let feed = trial.feed("b07", Pace::mbit(24));
    let habits = Habits { rate_bytes: 1_500_000, receive_bytes: 32 * 1024 };
    let viewer = trial.viewer("b07", habits);
    let skipped = wait_until(Duration::from_secs(25), || viewer.seen().gaps >= 3);
    let seen = viewer.seen();
    trial.verdict.expect(skipped && !viewer.is_over(), || {
        format!("{} skips of a player that is too slow, {} frames", seen.gaps, seen.frames)
    });
    trial.verdict.expect(seen.undecodable + seen.foreign == 0, || {
        format!("{} frames cannot be decoded", seen.undecodable + seen.foreign)
    });
    trial.verdict.outcome("skips");
    trial.verdict.figure(format!("{} of {} frames in {} gaps", seen.lost, feed.sent(), seen.gaps));
}

pub(super) fn b08(trial: &mut Trial<'_>) {
    let feed = trial.feed("b08", Pace::mbit(4));
    let fast = trial.viewer("b08", Habits::default());
    let mut slow = stalled_players(trial, "b08", 300);
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        for player in &mut slow {
            player.take_up_to(5000);
        }
        thread::sleep(Duration::from_millis(100));
    }
    trial.sample();
    let target = feed.sent();
    let is_live = wait_until(SOON, || fast.seen().newest >= Some(target));
    let seen = fast.seen();
    trial.verdict.expect(is_live && seen.lost == 0, || format!("the fast one lost {}", seen.lost));
    let latency_ms = seen.latency_max_us as f64 / 1000.0;
    let lost = seen.lost;
    trial.verdict.figure(format!("the fast one lost {lost}, at most {latency_ms:.0} ms behind"));
}

pub(super) fn b09(trial: &mut Trial<'_>) {
    let feed = trial.feed("b09", Pace::mbit(8));
    let habits = Habits { receive_bytes: 32 * 1024, ..Habits::default() };
    let viewer = trial.viewer("b09", habits);
    let plays = wait_until(SOON, || viewer.seen().frames > 25);
    viewer.pause(true);
    thread::sleep(Duration::from_secs(6));
    viewer.pause(false);
    let (target, resumed) = (feed.sent(), Instant::now());
    let is_live = wait_until(SOON, || viewer.seen().newest >= Some(target));
    let seen = viewer.seen();
    trial.verdict.expect(plays && is_live && seen.undecodable == 0, || {
        format!("does not go on: {:?}, {} cannot be decoded", seen.newest, seen.undecodable)
    });
    trial.verdict.outcome("goes on");
    trial.verdict.figure(format!("live again after {} ms", resumed.elapsed().as_millis()));
}
