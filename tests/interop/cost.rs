//! The cost of a stream, observed from outside the process.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::clip::{Film, clip};
use crate::lab::server::{self, SHORT_LINGER, Server, Setup};
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::peer::Peer;
use crate::support::program::Program;
use crate::support::wait_until;

/// Every message is sent to every player at once, so it costs one write each. Messages that arrive
/// together must cost less than that, never more.
#[test]
fn system_calls_per_delivered_message_are_bounded() {
    let needs = [Need::Program("ffmpeg"), Need::Program("strace"), Need::OwnServer];
    let Some(lab) = Lab::open("cost_system_calls", &needs) else { return };
    let film = clip(Film::Main, 6);
    let counted = count_calls(&lab, "", |url| ffmpeg::publish(&lab, "publisher", &film, url));
    let Counted { delivered, each, .. } = counted;
    let writes = counted.sum(&SENDS) + counted.sum(&["sendfile"]);
    let waits = counted.sum(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
    let all: usize = counted.calls.values().sum();
    assert!(writes <= delivered + FIXED, "{writes} writes for {counted:?}");
    assert!(waits <= 2 * each + FIXED, "{waits} waits for {counted:?}");
    assert!(2 * all <= 3 * delivered + 6 * each + 4 * FIXED, "{all} calls for {counted:?}");
}

/// Large frames are written to a memory file once, and sent to each player from there. Other costs
/// of a turn do not depend on the number of players.
#[test]
fn a_large_frame_costs_one_sendfile_for_each_player() {
    let Some(counted) = count_frames("cost_sendfile", "", 16_000) else { return };
    let Counted { delivered, each, .. } = counted;
    let files = counted.sum(&["sendfile"]);
    assert!(files <= delivered, "{files} calls of sendfile for {counted:?}");
    // On a busy machine frames that arrive in one turn leave together.
    assert!(10 * files >= 8 * delivered, "{files} calls of sendfile for {counted:?}");
    let writes = counted.sum(&SENDS);
    assert!(writes <= 2 * each + FIXED, "{writes} writes for {counted:?}");
}

/// For small frames a copy costs less than a call for a file.
#[test]
fn a_small_frame_costs_one_write_for_each_player() {
    let Some(counted) = count_frames("cost_write", "", 1200) else { return };
    let delivered = counted.delivered;
    let writes = counted.sum(&SENDS);
    // On a busy machine frames that arrive in one turn leave together, and may be worth a file.
    let files = counted.sum(&["sendfile"]);
    assert!(20 * files <= delivered, "{files} calls of sendfile for {counted:?}");
    assert!(writes <= delivered + FIXED, "{writes} writes for {counted:?}");
    assert!(10 * writes >= 8 * delivered, "{writes} writes for {counted:?}");
}

/// At 30 frames a second ten frames fall into one window. They leave with one call, or with a few
/// if the socket does not take all of them at once.
#[test]
fn frames_that_are_merged_cost_a_fraction_of_the_calls() {
    let settings = "[play]\nmerge_ms = 350\n";
    let Some(counted) = count_frames("cost_merge", settings, 16_000) else { return };
    let sends = counted.sum(&SENDS) + counted.sum(&["sendfile"]);
    let bound = counted.delivered / 5 + FIXED;
    assert!(sends <= bound, "{sends} calls for {counted:?}");
}

/// While players wait for a publisher, neither they nor the server wake up.
#[test]
fn waiting_players_cause_no_system_call() {
    let needs = [Need::Program("strace"), Need::OwnServer];
    let Some(lab) = Lab::open("cost_idle", &needs) else { return };
    let trace = lab.path("strace.txt");
    let trace_name = trace.to_str().expect("a path in UTF-8");
    let wrapper = &["strace", "-D", "-f", "-o", trace_name];
    let server = Server::start_as(&lab, &Setup { wrapper, ..Setup::default() });
    let _players: Vec<_> =
        (0..PLAYERS).map(|_| Peer::playing_in(server.address(), "live", "nobody")).collect();
    let read_trace = || fs::read_to_string(&trace).expect("strace writes");
    thread::sleep(Duration::from_secs(1));
    let before = read_trace();
    thread::sleep(Duration::from_secs(3));
    let after = read_trace();
    assert!(before.contains("accept4("), "strace saw nothing: {before}");
    assert_eq!(after.get(before.len()..), Some(""), "the server woke up");
}

/// Messages that players received, and the system calls of the server.
#[derive(Debug)]
struct Counted {
    /// Messages received by all players.
    delivered: usize,
    /// Messages received by one player.
    each: usize,
    calls: HashMap<String, usize>,
}

impl Counted {
    fn sum(&self, names: &[&str]) -> usize {
        names.iter().filter_map(|&name| self.calls.get(name)).sum()
    }
}

/// Publishes frames of one size for some seconds. Returns `None` if a requirement is missing.
fn count_frames(name: &str, settings: &str, frame_bytes: usize) -> Option<Counted> {
    let lab = Lab::open(name, &[Need::Program("strace"), Need::OwnServer])?;
    // A late generator does not change the counts.
    let frames = format!(
        "--frame-bytes {frame_bytes} --fps 30 --warmup-s 1 --duration-s 8 --lateness-max-ms 600000"
    );
    let counted = count_calls(&lab, settings, |url| {
        let mut command = Command::new(server::program());
        command.args(["load", "ingest", url]).args(frames.split(' '));
        Program::start(&lab, "publisher", &mut command)
    });
    Some(counted)
}

/// Counts the system calls of a server. The players join before `publish` starts a publisher for
/// the given URL.
fn count_calls(lab: &Lab, settings: &str, publish: impl FnOnce(&str) -> Program) -> Counted {
    let table = lab.path("strace.txt");
    let table_name = table.to_str().expect("a path in UTF-8");
    let settings = format!("{SHORT_LINGER}{settings}");
    // A quiet log, because its lines would be counted as writes.
    let setup = Setup {
        wrapper: &["strace", "-D", "-f", "-c", "-o", table_name],
        log_level: "warn",
        settings: &settings,
    };
    let mut server = Server::start_as(lab, &setup);
    let address = server.address();
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| Peer::playing_in(address, "live", "calls"))
        .map(|player| thread::spawn(move || count_media(player)))
        .collect();
    publish(&server.url("live/calls")).finish(Duration::from_secs(30));
    let received: Vec<usize> =
        players.into_iter().map(|player| player.join().expect("a player ends")).collect();
    server.program().signal(Signal::TERM);
    server.program().wait(Duration::from_secs(10));
    let delivered: usize = received.iter().sum();
    let counted = Counted { delivered, each: delivered / PLAYERS, calls: read_table(&table) };
    assert!(counted.each > 200, "too little was delivered: {received:?}");
    println!("{PLAYERS} players: {counted:?}");
    counted
}

/// Counts messages until the stream ends.
fn count_media(mut player: Peer) -> usize {
    let mut count = 0;
    // The publisher may start slowly.
    let mut limit = Duration::from_secs(15);
    while player.next_frame(limit).is_some() {
        count += 1;
        limit = Duration::from_secs(3);
    }
    count
}

/// Parses the table of `strace -c`: calls by name. strace writes it after the server has ended.
fn read_table(path: &Path) -> HashMap<String, usize> {
    let mut text = String::new();
    let is_there = wait_until(Duration::from_secs(5), || {
        text = fs::read_to_string(path).unwrap_or_default();
        text.lines().last().is_some_and(|line| line.ends_with("total"))
    });
    assert!(is_there, "strace has written no table: {text}");
    let rows = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = *fields.last()?;
        let calls = fields.get(3)?.parse().ok()?;
        (name != "total").then(|| (name.to_owned(), calls))
    });
    rows.collect()
}

/// Enough players for memory files to pay off.
const PLAYERS: usize = tiderace::limits::SEGMENT_PLAYERS_MIN + 4;
/// Fixed number of calls for the start of the process and the replies.
const FIXED: usize = 20 * (PLAYERS + 2);
/// System calls that write bytes from memory, to players or into a file.
const SENDS: [&str; 6] = ["write", "writev", "pwritev", "sendto", "sendmsg", "sendmmsg"];
