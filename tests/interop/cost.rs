//! What a stream costs, counted from outside the process.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::clip::{Film, clip};
use crate::lab::raw::Player;
use crate::lab::server::{Server, Setup};
use crate::lab::{Lab, Need, ffmpeg, wait_until};

#[test]
fn one_thread_serves_a_stream() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("cost_threads", &needs) else { return };
    let mut server = Server::start(&lab);
    let url = server.url("live/threads");
    let _publisher = ffmpeg::publish(&lab, "publisher", &clip(Film::Main, 6), &url);
    server.wait_for_stream("live", "threads");
    let _players = [0, 1, 2].map(|_| Player::play(server.address(), "live", "threads"));
    thread::sleep(Duration::from_secs(1));
    let tasks = format!("/proc/{}/task", server.program().id());
    assert_eq!(fs::read_dir(tasks).expect("the server runs").count(), 1);
}

/// Every message goes to every player at once, so it costs a write each; messages that come in
/// together must cost less than that, never more.
#[test]
fn system_calls_per_delivered_message_are_bounded() {
    let needs = [Need::Program("ffmpeg"), Need::Program("strace"), Need::OwnServer];
    let Some(lab) = Lab::open("cost_system_calls", &needs) else { return };
    let table = lab.path("strace.txt");
    let table_name = table.to_str().expect("a path in UTF-8");
    // A quiet log: its lines would be counted as writes.
    let setup = Setup {
        wrapper: &["strace", "-D", "-f", "-c", "-o", table_name],
        log_level: "warn",
        ..Setup::default()
    };
    let mut server = Server::start_as(&lab, &setup);
    let url = server.url("live/calls");
    let publisher = ffmpeg::publish(&lab, "publisher", &clip(Film::Main, 6), &url);
    server.wait_for_stream("live", "calls");
    let address = server.address();
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| thread::spawn(move || count_media(Player::play(address, "live", "calls"))))
        .collect();
    publisher.finish(Duration::from_secs(15));
    let received: Vec<usize> =
        players.into_iter().map(|player| player.join().expect("a player ends")).collect();
    server.program().signal(Signal::TERM);
    server.program().wait(Duration::from_secs(10));
    let calls = read_table(&table);
    let delivered: usize = received.iter().sum();
    let each = delivered / PLAYERS;
    assert!(each > 200, "too little was delivered: {received:?}");
    let writes = sum(&calls, &["write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile"]);
    let waits = sum(&calls, &["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
    let all: usize = calls.values().sum();
    let counted = format!("{delivered} messages to {PLAYERS} players: {calls:?}");
    println!("{counted}");
    // Replies are written too, and the process starts: a fixed number.
    let fixed = 20 * (PLAYERS + 2);
    assert!(writes <= delivered + fixed, "{writes} writes for {counted}");
    assert!(waits <= 2 * each + fixed, "{waits} waits for {counted}");
    assert!(2 * all <= 3 * delivered + 6 * each + 4 * fixed, "{all} calls for {counted}");
}

/// Players that wait for a publisher are asleep, and so is the server.
#[test]
fn waiting_players_cause_no_system_call() {
    let needs = [Need::Program("strace"), Need::OwnServer];
    let Some(lab) = Lab::open("cost_idle", &needs) else { return };
    let trace = lab.path("strace.txt");
    let trace_name = trace.to_str().expect("a path in UTF-8");
    let wrapper = &["strace", "-D", "-f", "-o", trace_name];
    let server = Server::start_as(&lab, &Setup { wrapper, ..Setup::default() });
    let _players: Vec<_> =
        (0..PLAYERS).map(|_| Player::play(server.address(), "live", "nobody")).collect();
    let read_trace = || fs::read_to_string(&trace).expect("strace writes");
    thread::sleep(Duration::from_secs(1));
    let before = read_trace();
    thread::sleep(Duration::from_secs(3));
    let after = read_trace();
    assert!(before.contains("accept4("), "strace saw nothing: {before}");
    assert_eq!(after.get(before.len()..), Some(""), "the server woke up");
}

/// Counts until the stream ends.
fn count_media(mut player: Player) -> usize {
    let mut count = 0;
    while player.next_media(Duration::from_secs(3)).is_some() {
        count += 1;
    }
    count
}

/// Reads the table of `strace -c`: calls by name. strace writes it after the server is gone.
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

fn sum(calls: &HashMap<String, usize>, names: &[&str]) -> usize {
    names.iter().filter_map(|&name| calls.get(name)).sum()
}

const PLAYERS: usize = 10;
