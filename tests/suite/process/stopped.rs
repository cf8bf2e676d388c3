//! A process that is stopped and continued: its peers were there all the time.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::expect_soon;
use crate::support::peer::{Peer, greeted};
use crate::support::server::Start;
use crate::wire::{self, command, null};

const SILENT_MS: u64 = 3000;
const STOPPED: Duration = Duration::from_millis(SILENT_MS + 1000);

#[test]
fn g09_a_process_that_was_stopped_closes_nobody_who_was_there() {
    let timeouts = format!("[timeouts]\npublisher_silent_ms = {SILENT_MS}\n");
    let server = Start::new("stopped", &timeouts).start();
    let mut streams: Vec<_> = (0..5)
        .map(|index| {
            let key = format!("cam{index}");
            (Peer::publishing(server.address, &key), Peer::playing(server.address, &key))
        })
        .collect();
    let mut idle = Peer::connected(server.address);
    let mut half = greeted(server.address);
    let _silent = Peer::publishing(server.address, "silent");

    server.signal(Signal::STOP);
    expect_soon("it stands still", || server.proc().state() == Some('T'));
    for (publisher, _) in &mut streams {
        publisher.send(&wire::audio(0, 100));
    }
    thread::sleep(STOPPED);
    server.signal(Signal::CONT);

    for (publisher, player) in &mut streams {
        assert_eq!(player.next_media().payload, wire::audio(0, 100).payload);
        publisher.send(&wire::audio(20, 200));
        assert_eq!(player.next_media().payload, wire::audio(20, 200).payload);
    }
    idle.send(&command("_checkbw", 2.0, &[null()]));
    idle.wait_for("_result");
    half.set_nonblocking(true).unwrap();
    let end = half.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::WouldBlock), "half a handshake has its time");
    server.wait_for_log("publisher of live/silent: publisher_silent");
    let closed = server.log().matches("closed ").count();
    assert_eq!(closed, 1, "the one that was silent: {}", server.log());
}
