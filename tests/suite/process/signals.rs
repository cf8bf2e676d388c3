//! Signals: going down, reading the settings again, asking clients to connect again.

use std::fs;
use std::io::Read;
use std::iter;
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use tiderace::descriptors::raise_limit;

use super::serves;
use super::service::Manager;
use crate::support::expect_soon;
use crate::support::peer::{Peer, greeted};
use crate::support::server::{Server, Start};
use crate::wire::{self, command, null};

/// The last line of the log is `message` and more.
fn assert_last_line(server: &Server, message: &str) {
    let log = server.log();
    assert!(log.lines().last().is_some_and(|line| line.contains(message)), "{log}");
}

#[test]
fn sigterm_with_nobody_connected_ends_it_at_once_and_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Start::new("term", "").start();
        server.wait_for_log("publish to");
        server.signal(signal);
        let asked = Instant::now();
        assert_eq!(server.wait_soon().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert_last_line(&server, "stopped with 0 open connections; ");
    }
}

#[test]
fn a_second_sigterm_waits_for_nobody() {
    // Longer than the test waits, so only the second signal can end it.
    let mut server = Start::new("term_twice", "drain_ms = 60000\n").start();
    let _stays = greeted(server.address);
    server.signal(Signal::TERM);
    server.wait_for_log("going down: 1 connections are told");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
    assert!(server.log().contains("received a second stop signal"), "{}", server.log());
    assert_last_line(&server, "stopped with 1 open connections; ");
}

#[test]
fn while_it_drains_nobody_new_gets_in() {
    let mut server = Start::new("drain", "").start();
    let _stays = greeted(server.address);
    server.signal(Signal::TERM);
    server.wait_for_log("going down");
    let late = TcpStream::connect(server.address).map(|mut stream| stream.read(&mut [0]));
    assert!(!matches!(late, Ok(Ok(1..))), "{late:?}");
    assert_eq!(server.wait_soon().code(), Some(0));
    assert!(!server.log().contains("closed"), "no line for each session that slept");
}

#[test]
fn sighup_says_what_changed_what_needs_a_restart_and_what_is_wrong() {
    let server = Start::new("hup", "[publish]\nlinger_ms = 1000\n");
    let server = server.start();
    server.wait_for_log("publish to");
    let reload = |text: &str, answer: &str| {
        fs::write(&server.config, text).unwrap();
        server.signal(Signal::HUP);
        server.wait_for_log(answer);
    };
    reload("[publish]\nlinger_ms = 1000\n", "INFO  [tiderace::net::event_loop] reloaded, nothing");
    reload("[publish]\nlinger_ms = 2000\n", "reloaded: publish.linger_ms");
    let wrong = format!(
        "ERROR [tiderace::net::event_loop] not reloaded, the settings stay as they are: \
         {}:2: unknown key \"publish.lingre_ms\"; did you mean \"linger_ms\"?",
        server.config.display()
    );
    reload("[publish]\nlingre_ms = 1\n", &wrong);
    reload(
        "[limits]\nconnections_max = 9\n[publish]\nlinger_ms = 2000\n",
        "these changed settings need a restart to apply: limits.connections_max",
    );
    serves(server.address);
}

/// A server whose configuration comes by a pipe that has no writer yet, and that catches signals.
fn waiting_for_its_configuration(name: &str) -> Server {
    let start = Start::new(name, "");
    make_pipe(&start.config);
    let server = start.spawn();
    expect_soon("SIGHUP is caught", || {
        let status = server.proc().read("status");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        [Signal::HUP, Signal::TERM, Signal::USR1]
            .iter()
            .all(|signal| caught & (1 << (signal.as_raw() - 1)) != 0)
    });
    server
}

fn make_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn signals_that_come_before_the_configuration_is_read_do_not_end_the_server() {
    let server = waiting_for_its_configuration("early");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        server.signal(signal);
    }
    fs::write(&server.config, "drain_ms = 1\n").unwrap();
    server.wait_for_log("asked 0 of 0 connections");
    server.wait_for_log("received SIGUSR2, which has no effect");
    server.wait_for_log("cannot be read again");
    serves(server.address);
}

#[test]
fn sigterm_before_the_configuration_is_read_ends_the_server_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = waiting_for_its_configuration("early_term");
        server.signal(signal);
        assert_eq!(server.wait_soon().code(), Some(0));
    }
}

#[test]
fn configuration_from_a_pipe_is_not_read_again_and_stays() {
    let server = waiting_for_its_configuration("pipe_config");
    fs::write(&server.config, "[apps.live]\nkeys = [\"k1\"]\n").unwrap();
    server.wait_for_log("publish to");
    server.signal(Signal::HUP);
    server.wait_for_log(&format!(
        "ERROR [tiderace::net::event_loop] not reloaded, the settings stay as they are: \
         {}: cannot be read again: it was a pipe at the start",
        server.config.display()
    ));
    assert_eq!(answer_to_publish(&server, "k2"), "NetStream.Publish.Denied");
    assert_eq!(answer_to_publish(&server, "k1"), "NetStream.Publish.Start");
}

/// How a publish of `key` is answered.
fn answer_to_publish(server: &Server, key: &str) -> &'static str {
    let mut peer = Peer::connected(server.address);
    peer.send(&wire::create_stream(2.0));
    peer.send(&wire::publish(key));
    peer.wait_for_one_of(&["NetStream.Publish.Denied", "NetStream.Publish.Start"])
}

#[test]
fn reload_of_a_file_that_is_not_whole_leaves_every_access_rule_in_force() {
    let whole = "[limits]\nstreams_max = 100\n\n[apps.live.keys]\nshow = \"k7Tq9-xw\"\n";
    let server = Start::new("rules", whole).start();
    let lost = "key \"apps.live.keys\": 1 key would be lost; put the key back, or write \
         keys = \"any\" in [apps.live] to accept every key";
    for (text, part) in [
        ("", "sets no key"),
        ("# a comment alone\n", "sets no key"),
        ("", lost),
        ("[limits]\nstreams_max = 100\n", lost),
        ("[limits]\nstreams_max = 100\n\n[apps.live", "a section needs its closing ]"),
        ("[limits]\nstreams_max = 100\n\n[apps.live]\n", "got no access rule"),
        ("[limits]\nstreams_max = 100\n\n[apps.live.keys]\n", "expected at least one key"),
        ("[apps.live.users]\nbob = \"s3cret\"\n", lost),
        ("[apps.other]\nkeys = \"any\"\n", lost),
    ] {
        let before = server.log().len();
        fs::write(&server.config, text).unwrap();
        server.signal(Signal::HUP);
        expect_soon(part, || server.log()[before..].contains(part));
        assert!(server.log()[before..].contains(" ERROR "), "{text:?}: {}", server.log());
        assert_eq!(answer_to_publish(&server, "whatever"), "NetStream.Publish.Denied", "{text:?}");
    }
    for part in ["a pipe now", "a directory now", "No such file"] {
        match part {
            "a pipe now" => make_pipe(&server.config),
            "a directory now" => {
                fs::remove_file(&server.config).unwrap();
                fs::create_dir(&server.config).unwrap();
            }
            _ => fs::remove_dir(&server.config).unwrap(),
        }
        server.signal(Signal::HUP);
        server.wait_for_log(part);
        assert_eq!(answer_to_publish(&server, "whatever"), "NetStream.Publish.Denied", "{part}");
    }
    fs::write(&server.config, "[apps.live]\nkeys = \"any\"\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_log("reloaded: limits.streams_max 100 -> 0, apps.live.keys 1 key -> none");
    assert_eq!(answer_to_publish(&server, "whatever"), "NetStream.Publish.Start");
}

#[test]
fn reload_reports_every_mistake_of_the_file() {
    let server = Start::new("reload_all", "").start();
    fs::write(&server.config, "drain_ms = 10s\n[play]\nstart = live\n").unwrap();
    server.signal(Signal::HUP);
    let not = "not reloaded, the settings stay as they are";
    let file = server.config.display();
    server.wait_for_log(&format!("{not}: {file}:1: key \"drain_ms\": got 10s"));
    server.wait_for_log(&format!("{not}: {file}:3: key \"play.start\": got live"));
}

#[test]
fn sigusr1_asks_who_understands_to_connect_anew_and_sigterm_serves_them_on() {
    let url = "rtmp://b.example/live";
    let server = Start::new("reconnect", &format!("drain_url = \"{url}\"\ndrain_ms = 1500\n"));
    let mut server = server.start();
    let mut understands = Peer::that_can_reconnect(server.address);
    let mut other = Peer::connected(server.address);
    server.signal(Signal::USR1);
    server.wait_for_log("asked 1 of 2 connections to reconnect");
    understands.wait_for(url);
    server.signal(Signal::TERM);
    server.wait_for_log("going down: 2 connections are told");
    other.wait_for("NetConnection.Connect.AppShutdown");
    understands.wait_for(url);
    understands.send(&command("_checkbw", 7.0, &[null()]));
    understands.wait_for("_result");
    // It stays, so it is told like the others when the drain is over.
    understands.wait_for("NetConnection.Connect.AppShutdown");
    assert_eq!(server.wait_soon().code(), Some(0));
    assert_last_line(&server, "stopped with 1 open connections; ");
}

#[test]
fn g02_sigterm_tells_a_hundred_publishers_and_a_thousand_players_and_ends_well() {
    raise_limit();
    let mut server = Start::new("g02", "").start();
    let keys: Vec<_> = (0..100).map(|index| format!("cam{index}")).collect();
    let publishers = keys.iter().map(|key| Peer::publishing(server.address, key));
    let publishers: Vec<_> = publishers.collect();
    let players = (0..1000).map(|index| Peer::playing(server.address, &keys[index % keys.len()]));
    let players: Vec<_> = players.collect();
    server.signal(Signal::TERM);
    let told = "NetStream.Publish.Denied";
    let publishers = publishers.into_iter().map(|publisher| (publisher, told));
    let told = "NetStream.Play.UnpublishNotify";
    for (mut peer, told) in publishers.chain(players.into_iter().map(|player| (player, told))) {
        peer.wait_for(told);
        while peer.receive().is_some() {}
    }
    assert_eq!(server.wait_soon().code(), Some(0));
    assert!(server.log().contains("going down: 1100 connections are told"));
    assert_last_line(&server, "stopped with 0 open connections; ");
}

/// Signals that a server may get without a reason to end.
const SIGNALS: [Signal; 6] =
    [Signal::PIPE, Signal::WINCH, Signal::CHILD, Signal::URG, Signal::CONT, Signal::USR1];

#[test]
fn g03_signals_that_mean_nothing_to_the_server_do_not_end_it() {
    let mut server = Start::new("g03", "").start();
    let mut peer = Peer::connected(server.address);
    for _ in 0..1000 {
        for signal in SIGNALS {
            server.signal(signal);
        }
    }
    peer.send(&command("_checkbw", 7.0, &[null()]));
    peer.wait_for("_result");
    // As it does with any program that does not know better.
    server.signal(Signal::QUIT);
    assert_eq!(server.wait_soon().signal(), Some(Signal::QUIT.as_raw()));
}

#[test]
fn g04_a_thousand_reloads_half_of_them_of_a_broken_file_lose_no_message() {
    let manager = Manager::new("g04");
    let server = manager.start(Start::new("g04", ""));
    manager.next();
    let descriptors = server.proc().descriptors();
    let mut player = Peer::playing(server.address, "cam");
    let mut publisher = Peer::publishing(server.address, "cam");
    let goes_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while goes_on.load(Ordering::Relaxed) {
                publisher.send(&wire::audio(sent, 500));
                sent += 1;
                thread::sleep(Duration::from_millis(1));
            }
            publisher.send(&wire::video(sent, wire::AVC_CONFIG));
            sent
        });
        let receiver = scope.spawn(|| {
            let media = iter::from_fn(|| Some(player.next_media()));
            media.take_while(|message| message.kind == wire::AUDIO).map(|m| m.timestamp).collect()
        });
        reload(&server, &manager, 0..1000);
        // Without waiting for the answers: signals of one kind merge while they are pending.
        (0..100).for_each(|_| server.signal(Signal::HUP));
        server.reload("[publish]\nlinger_ms = 5000\n");
        while !manager.next().contains("STATUS=reloaded: publish.linger_ms") {}
        goes_on.store(false, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        let received: Vec<u32> = receiver.join().unwrap();
        assert!(received.iter().copied().eq(0..sent), "{sent} sent: {received:?}");
    });
    drop((publisher, player));
    expect_soon("descriptors are given back", || server.proc().descriptors() == descriptors);
}

#[test]
fn a_reload_leaves_nothing_behind() {
    let manager = Manager::new("leaves");
    let server = manager.start(Start::new("leaves", ""));
    manager.next();
    let memory_kib = || server.proc().field("smaps_rollup", "Private_Dirty:").unwrap();
    reload(&server, &manager, 0..100);
    let before = memory_kib();
    reload(&server, &manager, 100..1100);
    let after = memory_kib();
    assert!(after < before + 500, "{before} KiB became {after} by a thousand reloads");
}

/// Has the file read again for each of `times`, every other time a broken one.
fn reload(server: &Server, manager: &Manager, times: Range<u32>) {
    for time in times {
        let (text, outcome) = match time % 2 {
            0 => (format!("[publish]\nlinger_ms = {time}\n"), "reloaded: publish.linger_ms"),
            _ => ("[publish\nlinger_ms = 1\n".to_owned(), "not reloaded"),
        };
        fs::write(&server.config, text).unwrap();
        server.signal(Signal::HUP);
        assert!(manager.next().starts_with("RELOADING=1\n"));
        let ready = manager.next();
        assert!(ready.starts_with(&format!("READY=1\nSTATUS={outcome}")), "{time}: {ready}");
    }
}
