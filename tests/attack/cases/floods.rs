//! A thousand hostile connections of one kind: work that a turn must not do all at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::flood::Flood;
use crate::server::wait_until;
use crate::trial::Trial;

/// How long a flood may take for its repetitions, and the server for what they left: only a server
/// that hangs needs as long.
const OVER_WITHIN: Duration = Duration::from_secs(300);
/// A turn that the server logs as slow counts when it used so much of the processor (ms): the
/// others were slow because the machine ran something else.
const CPU_MS_MIN: u64 = 50;

pub(super) fn h01(trial: &mut Trial<'_>) {
    flood(trial, "joins", 1000);
}

pub(super) fn h02(trial: &mut Trial<'_>) {
    flood(trial, "second-stream", 1000);
}

pub(super) fn h03(trial: &mut Trial<'_>) {
    flood(trial, "publish-loop", 3000);
}

pub(super) fn h04(trial: &mut Trial<'_>) {
    flood(trial, "one-byte", 3000);
}

pub(super) fn h05(trial: &mut Trial<'_>) {
    flood(trial, "tiny-fanout", 400);
}

pub(super) fn h06(trial: &mut Trial<'_>) {
    flood(trial, "closings", 3);
}

pub(super) fn h07(trial: &mut Trial<'_>) {
    flood(trial, "empty-messages", 3000);
}

/// A flood goes on until its scripts were begun again so many times in all, however long that
/// takes. No turn may be slow by the server's own doing.
fn flood(trial: &mut Trial<'_>, name: &str, repetitions: u64) {
    trial.has_players = true;
    let running = match Flood::named(name).start(trial.ring.server.address, 0) {
        Ok(running) => running,
        Err(error) => return trial.verdict.failures.push(error),
    };
    let repeated = || running.done.repeated.load(Ordering::Relaxed);
    let is_enough = wait_until(OVER_WITHIN, || repeated() >= repetitions);
    trial.sample();
    let connections = running.done.connected.load(Ordering::Relaxed);
    trial.traffic.connections.fetch_add(connections, Ordering::Relaxed);
    let repeated = repeated();
    trial.verdict.expect(is_enough, || format!("the flood hangs: {}", running.done.line()));
    drop(running);
    // What the flood left in the kernel is read before its connections end.
    let (server, before) = (&trial.ring.server, trial.sockets_before());
    let is_over = wait_until(OVER_WITHIN, || server.held().sockets <= before);
    trial.verdict.expect(is_over, || format!("it is not over after {OVER_WITHIN:?}"));
    let log = trial.log();
    let slow: Vec<_> = log.lines().filter_map(slow_turn_cpu_ms).collect();
    let slow: Vec<_> = slow.into_iter().filter(|cpu_ms| *cpu_ms >= CPU_MS_MIN).collect();
    trial.verdict.expect(slow.is_empty(), || {
        let longest_ms = slow.iter().max().unwrap_or(&0);
        format!("{} slow turns, the longest of {longest_ms} ms of CPU", slow.len())
    });
    trial.verdict.figure(format!("{repeated} repetitions, {} slow turns", slow.len()));
}

/// The processor time of a turn that a line of the log says was slow.
fn slow_turn_cpu_ms(line: &str) -> Option<u64> {
    let (_, turn) = line.split_once("a turn took ")?;
    let (_, cpu_ms) = turn.split_once(" ms, ")?;
    cpu_ms.split(' ').next()?.parse().ok()
}
