//! The life of the process: refusals to start, signals, and the end.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::attacker::{Attacker, End, SOON, session};
use crate::server::{Server, Setup};
use crate::support::net::own_address;
use crate::support::{program, wait_until};
use crate::trial::{Arena, Verdict};
use crate::wire;

/// How long the server in these cases waits for peers to leave.
const DRAIN: Duration = Duration::from_secs(2);
const DRAINING: Setup = Setup::with("drain_ms = 2000\n");

pub(super) fn g01(verdict: &mut Verdict) {
    let taken = TcpListener::bind(own_address()).expect("an address of the suite");
    let taken = taken.local_addr().expect("a local address").to_string();
    let mut longest = Duration::ZERO;
    let as_it_is = "exec \"$0\" \"$@\"";
    for (what, shell, args) in [
        ("a port in use", as_it_is, ["--listen", &taken]),
        ("an address of another machine", as_it_is, ["--listen", "192.0.2.1:1935"]),
        ("no such file", as_it_is, ["--config", "/nonexistent/tiderace.toml"]),
        ("a file that is not a configuration", as_it_is, ["--config", "/proc/self/status"]),
        ("a flag that does not exist", as_it_is, ["--no-such-flag", "1"]),
        ("too few descriptors", "ulimit -n 64; exec \"$0\" \"$@\"", ["--connections-max", "100"]),
    ] {
        let began = Instant::now();
        let output = program::shell(shell).args(args).output().expect("the program can be started");
        longest = longest.max(began.elapsed());
        let errors = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        verdict.expect(code.is_some_and(|code| code > 0), || format!("{what}: code {code:?}"));
        let lines = errors.lines().filter(|line| !line.is_empty()).count();
        verdict.expect((1..6).contains(&lines), || format!("{what}: {errors}"));
        verdict.expect(!errors.contains("panicked"), || format!("{what}: {errors}"));
        verdict.outcome("refuses");
    }
    verdict.figure(format!("within {} ms", longest.as_millis()));
}

pub(super) fn g02(verdict: &mut Verdict) {
    let mut server = Server::start(&DRAINING);
    let traffic = Arc::default();
    let open = |request| {
        let mut party = Attacker::connect(server.address, &traffic).expect("the server accepts");
        party.send(&session(&[wire::create_stream(2.0), request]));
        party
    };
    let mut parties: Vec<_> = (0..100).map(|i| open(wire::publish(format!("g02-{i}")))).collect();
    parties.extend((0..1000).map(|i| open(wire::play(format!("g02-{}", i % 100)))));
    let all_in = parties.iter_mut().all(|party| party.hears(".Start", SOON));
    verdict.expect(all_in, || "some clients did not reach their streams".to_owned());
    server.signal(Signal::TERM);
    let signalled = Instant::now();
    let mut ends = parties.iter_mut().map(|party| party.wait_end(DRAIN + SOON));
    let well = ends.all(|end| end == Some(End::Closed));
    verdict.expect(well, || "some clients were not closed in an orderly way".to_owned());
    drop(parties);
    let status = server.wait(DRAIN + SOON).and_then(|status| status.code());
    let took = signalled.elapsed();
    verdict.expect(status == Some(0), || format!("ended with {status:?}"));
    verdict.expect(took < DRAIN + Duration::from_secs(1), || format!("took {took:?}"));
    verdict.outcome("ends with 0");
    verdict.figure(format!("{:.1} s after SIGTERM", took.as_secs_f64()));
}

pub(super) fn g03(verdict: &mut Verdict) {
    let mut server = Server::start(&DRAINING);
    for signal in [Signal::WINCH, Signal::PIPE, Signal::CHILD, Signal::URG, Signal::CONT] {
        server.signal(signal);
    }
    for _ in 0..1000 {
        server.signal(Signal::USR1);
    }
    let stays = greets(&server) && server.exit_status().is_none();
    verdict.expect(stays, || "the server does not survive signals without a meaning".to_owned());
    let _held = Attacker::connect(server.address, &Arc::default()).expect("the server accepts");
    server.signal(Signal::TERM);
    let reports = wait_until(SOON, || server.log_from(0).contains("going down"));
    server.signal(Signal::TERM);
    let signalled = Instant::now();
    let status = server.wait(SOON).and_then(|status| status.code());
    verdict.expect(reports && status == Some(0), || format!("two SIGTERM: {status:?}"));
    verdict.figure(format!("{} ms after the second SIGTERM", signalled.elapsed().as_millis()));
    let mut server = Server::start(&DRAINING);
    server.signal(Signal::INT);
    let status = server.wait(SOON).and_then(|status| status.code());
    verdict.expect(status == Some(0), || format!("SIGINT: {status:?}"));
    verdict.outcome("ends with 0");
}

/// Returns whether a handshake is answered.
fn greets(server: &Server) -> bool {
    let attacker = Attacker::connect(server.address, &Arc::default());
    let mut attacker = attacker.expect("the server accepts");
    attacker.send(&wire::handshake()[..1537]);
    wait_until(SOON, || {
        attacker.take();
        attacker.received >= 3073
    })
}

pub(super) fn g04(verdict: &mut Verdict) {
    let arena = match Arena::open(&Setup {
        settings: "[play]\nlag_ms = 5000\n",
        log_level: "info",
        ..Setup::DEFAULT
    }) {
        Ok(arena) => arena,
        Err(error) => return verdict.failures.push(error),
    };
    let before = arena.server.held();
    let seen = arena.seen();
    for index in 0..1000 {
        let lines = match index % 4 {
            0 => "[play]\nlag_ms = 4000\n",
            1 => "[play]\nlag_ms = 5000\n",
            2 => "[play]\nlag_ms = many\n",
            _ => "[play]\nlagms = 1\n",
        };
        arena.server.reload(lines);
        std::thread::sleep(Duration::from_millis(2));
    }
    // The kernel merges pending signals of the same kind, so only the last reloads are counted.
    for (lines, answer) in
        [("[play]\nlagms = 1\n", "not reloaded"), ("[play]\nlag_ms = 3000\n", "reloaded: ")]
    {
        let start = arena.server.log_bytes();
        arena.server.reload(lines);
        let is_answered = wait_until(SOON, || arena.server.log_from(start).contains(answer));
        verdict.expect(is_answered, || format!("no line contains {answer:?} after {lines:?}"));
    }
    let goes_on = arena.catches_up();
    let after = arena.seen();
    let lost = after.lost - seen.lost;
    verdict.expect(goes_on && lost == 0, || format!("lost {lost}, goes on: {goes_on}"));
    let log = arena.server.log_from(0);
    let (good, broken) = (log.matches("reloaded: ").count(), log.matches("not reloaded").count());
    let more = || arena.server.held().memory_kib - before.memory_kib;
    wait_until(SOON, || more() <= 1024);
    let more = more();
    verdict.expect(more <= 1024, || format!("{more} KiB more"));
    verdict.outcome("reloads");
    verdict.figure(format!("{good} good, {broken} broken, {lost} frames lost, {more} KiB more"));
}
