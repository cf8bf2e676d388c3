//! The time of day is set while the server runs: nothing but the log notices.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;

use super::is_there;
use crate::support::expect_soon;
use crate::support::peer::Peer;
use crate::support::server::Start;
use crate::wire;

#[test]
fn e13_the_time_of_day_may_jump_and_no_deadline_moves() {
    let Some(library) = library() else { return };
    let mut server =
        Start::new("clock", "log_level = \"debug\"\n[timeouts]\nhandshake_ms = 1000\n");
    let day = Day::of(&mut server, library);
    let server = server.start();
    let mut publisher = Peer::publishing(server.address, "cam");
    let mut player = Peer::playing(server.address, "cam");
    let date = |line: &str| line.split('T').next().unwrap().to_owned();
    let today = date(&server.log());
    for (times, jump) in [(1, "+48h"), (2, "-48h")] {
        day.set(jump);
        // Its time is up after a second, and nobody else's is.
        let says_nothing = TcpStream::connect(server.address).unwrap();
        let its_end = "handshake_timeout (limit 1000 ms)";
        expect_soon(its_end, || server.log().matches(its_end).count() == times);
        drop(says_nothing);
        let log = server.log();
        let line = date(log.lines().rfind(|line| line.contains(its_end)).unwrap());
        assert_eq!(line > today, jump == "+48h", "{today} became {line}");
        assert_ne!(line, today, "the time of day was set");
        let timestamp = times as u32 * 20;
        publisher.send(&wire::audio(timestamp, 10));
        assert_eq!(player.next_media().timestamp, timestamp);
    }
    assert!(!server.log().contains("of live/cam: "), "nobody left: {}", server.log());
}

/// The time of day that a server sees, as a file.
struct Day(PathBuf);

impl Day {
    fn of(server: &mut Start, library: PathBuf) -> Self {
        let day = Self(server.config.with_extension("day"));
        day.set("+0");
        server
            .command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &day.0)
            .env("FAKETIME_NO_CACHE", "1")
            // As when the system's clock is set, which the monotonic one does not follow.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        day
    }

    fn set(&self, offset: &str) {
        fs::write(&self.0, offset).unwrap();
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// What shows a program another time of day, where Debian has it.
fn library() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    let path = format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1");
    is_there(path.as_ref()).then(|| path.into())
}
