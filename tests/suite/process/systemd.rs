//! The units for systemd: what they let the server do is what it needs, and little more.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tiderace::limits::{SEGMENT_PLAYERS_MIN, SEGMENT_RUN_BYTES_MIN};

use super::is_there;
use crate::support::directory::Directory;
use crate::support::peer::Peer;
use crate::support::server::Start;
use crate::support::{expect_soon, program};
use crate::wire;

const SERVICE: &str = include_str!("../../../src/systemd/tiderace.service");
const SOCKET: &str = include_str!("../../../src/systemd/tiderace.socket");
/// Ten times the exposure that `systemd-analyze security` may find.
const EXPOSURE_MAX: &str = "--threshold=15";

#[test]
fn the_program_prints_the_units() {
    for (unit, text) in [("service", SERVICE), ("socket", SOCKET)] {
        let output = program::tiderace().args(["systemd", unit]).output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), text.as_bytes()));
    }
}

#[test]
fn the_service_is_tried_until_its_addresses_are_there_and_outlasts_a_pause_of_the_machine() {
    let value = |key: &str| {
        let line = SERVICE.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.and_then(|value| value.trim_end_matches('s').parse::<u64>().ok())
    };
    assert_eq!(value("StartLimitIntervalSec"), Some(0), "no limit");
    assert_eq!(value("RestartSec"), Some(1));
    assert!(value("WatchdogSec") >= Some(60));
}

#[test]
fn the_service_is_exposed_to_little() {
    let Some(units) = Units::install("exposure") else { return };
    units.analyze(&["security", "--offline=true", "--no-pager", EXPOSURE_MAX], &["service"]);
}

#[test]
fn the_units_are_well_formed() {
    let Some(units) = Units::install("verify") else { return };
    let said = units.analyze(&["verify", "--man=no"], &["service", "socket"]);
    assert_eq!(said, "");
}

/// The filter of the service holds for the whole life of the server, from its start with a
/// manager and a watchdog through streams and a reload to its end.
#[test]
fn the_service_may_make_the_system_calls_that_the_server_makes() {
    if !is_there(Path::new("systemd-analyze")) || !is_there(Path::new("strace")) {
        return;
    }
    let directory = Directory::new("calls");
    let trace = directory.file("trace");
    let mut server = Start::shell("calls", "exec strace -D -f -o \"$TRACE\" \"$0\" \"$@\"", "");
    server.command.env("TRACE", &trace).env("NOTIFY_SOCKET", "/nonexistent/notify");
    server.command.env("WATCHDOG_USEC", "100000");
    // A socket that a server has left behind.
    let socket = directory.file("http.sock");
    drop(UnixListener::bind(&socket).unwrap());
    server.command.args(["--http-listen", &format!("unix:{}", socket.display())]);
    let mut server = server.start();
    let mut players: Vec<_> =
        (0..SEGMENT_PLAYERS_MIN).map(|_| Peer::playing(server.address, "cam")).collect();
    let mut publisher = Peer::publishing(server.address, "cam");
    publisher.send(&wire::audio(0, 10 * SEGMENT_RUN_BYTES_MIN));
    players.iter_mut().for_each(|player| drop(player.next_media()));
    server.signal(Signal::HUP);
    server.wait_for_log("reloaded");
    server.signal(Signal::TERM);
    drop((publisher, players));
    server.wait_soon();

    let mut text = String::new();
    expect_soon("the trace is written", || {
        text = fs::read_to_string(&trace).unwrap();
        text.contains("+++ exited with 0 +++")
    });
    // After the number of the process a line begins with the name of the call, if it is of one.
    let calls = text.lines().filter_map(|line| {
        let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()).then_some(name)
    });
    let calls: BTreeSet<_> = calls.collect();
    let expected = ["epoll_wait", "accept4", "unlink", "memfd_create", "sendfile"];
    assert!(expected.iter().all(|call| calls.contains(call)), "{calls:?}");
    let may = allowed();
    assert!(may.contains("read") && !may.contains("ptrace") && !may.contains("setrlimit"));
    let refused: Vec<_> = calls.iter().filter(|call| !may.contains(**call)).collect();
    assert!(refused.is_empty(), "refused: {refused:?}");
}

/// The calls that the lines `SystemCallFilter=` of the service leave.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in SERVICE.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (denies, sets) = line.strip_prefix('~').map_or((false, line), |sets| (true, sets));
        for call in sets.split(' ').flat_map(calls_of) {
            if denies {
                allowed.remove(&call);
            } else {
                allowed.insert(call);
            }
        }
    }
    allowed
}

/// The calls in a set, whose name begins with `@`, and in the sets that it names.
fn calls_of(set: &str) -> Vec<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", set]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let members = text.lines().filter_map(|line| line.strip_prefix("    "));
    let members = members.filter(|line| !line.starts_with('#'));
    members
        .flat_map(|member| match member.strip_prefix('@') {
            Some(_) => calls_of(member),
            None => vec![member.to_owned()],
        })
        .collect()
}

/// The units as files of a directory, with the server that was built in place of the installed
/// one.
struct Units(Directory);

impl Units {
    fn install(name: &str) -> Option<Self> {
        if !is_there(Path::new("systemd-analyze")) {
            return None;
        }
        let units = Directory::new(name);
        let installed = "/usr/local/bin/tiderace";
        assert!(SERVICE.contains(&format!("ExecStart={installed} ")));
        let program = program::path().to_str().expect("a path in UTF-8");
        units.write("tiderace.service", SERVICE.replace(installed, program));
        units.write("tiderace.socket", SOCKET);
        Some(Self(units))
    }

    /// Has systemd look at some of them, which it must approve of; returns what it complains of.
    fn analyze(&self, args: &[&str], units: &[&str]) -> String {
        let units = units.iter().map(|unit| self.0.file(&format!("tiderace.{unit}")));
        let output = Command::new("systemd-analyze").args(args).args(units).output().unwrap();
        let [said, complaint] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{said}{complaint}");
        complaint
    }
}
