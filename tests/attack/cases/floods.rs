//! A thousand hostile connections of one kind, whose work must be spread over many turns.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::flood::Flood;
use crate::support::wait_until;
use crate::trial::Trial;

/// Time for a flood to finish its repetitions, and for the server to finish the rest. Only a server
/// that hangs needs as long.
const OVER_WITHIN: Duration = Duration::from_secs(300);
/// Processor time above which a turn that the server logs as slow counts (ms). Other turns were
/// slow because the machine ran something else.
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

/// Runs a flood until its scripts have been repeated this many times in total, however long that
/// takes. No turn may be slow because of the server itself.
fn flood(trial: &mut Trial<'_>, name: &str, repetitions: u64) {
    trial.has_players = true;
    let running = match Flood::named(name).start(trial.arena.server.address, 0) {
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
    // Bytes of the flood that are still in the kernel are read before its connections end.
    let (server, before) = (&trial.arena.server, trial.sockets_before());
    let is_over = wait_until(OVER_WITHIN, || server.held().sockets <= before);
    trial.verdict.expect(is_over, || format!("the flood is not over after {OVER_WITHIN:?}"));
    let log = trial.log();
    let slow: Vec<_> = log.lines().filter_map(slow_turn_cpu_ms).collect();
    let slow: Vec<_> = slow.into_iter().filter(|cpu_ms| *cpu_ms >= CPU_MS_MIN).collect();
    trial.verdict.expect(slow.is_empty(), || {
        let longest_ms = slow.iter().max().unwrap_or(&0);
        format!("{} slow turns, the longest of {longest_ms} ms of CPU", slow.len())
    });
    trial.verdict.figure(format!("{repeated} repetitions, {} slow turns", slow.len()));
}

/// Returns the processor time of a turn that a log line reports as slow.
fn slow_turn_cpu_ms(line: &str) -> Option<u64> {
    let (_, turn) = line.split_once("a turn took ")?;
    let (_, cpu_ms) = turn.split_once(" ms, ")?;
    cpu_ms.split(' ').next()?.parse().ok()
}
