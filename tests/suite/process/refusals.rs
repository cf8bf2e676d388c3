//! A system that refuses calls, as sandbox kernels, seccomp and old kernels do: the server does
//! without what it only gains by, and names what it lacks.

use std::path::Path;

use rustix::process::Signal;
use tiderace::limits::{SEGMENT_PLAYERS_MIN, SEGMENT_RUN_BYTES_MIN};

use super::{is_there, serves};
use crate::support::directory::Directory;
use crate::support::peer::Peer;
use crate::support::server::{Server, Start};
use crate::wire;

/// A server whose calls are answered as `injections` say, in the words of strace(1).
fn refused(name: &str, injections: &[&str]) -> Option<Refused> {
    if !is_there(Path::new("strace")) {
        return None;
    }
    let traces = Directory::new(name);
    let line = "ulimit -S -n 512; exec strace -D -f -qq -o \"$TRACE\" $INJECT \"$0\" \"$@\"";
    let mut server = Start::shell(name, line, "");
    let inject: Vec<_> = injections.iter().map(|words| format!("-e inject={words}")).collect();
    server.command.env("TRACE", traces.file("trace")).env("INJECT", inject.join(" "));
    Some(Refused { server: server.start(), _traces: traces })
}

struct Refused {
    server: Server,
    _traces: Directory,
}

/// Publishes frames that the server would send from memory files, and expects every player to
/// receive them. Returns the publisher and the players.
#[track_caller]
fn expect_relayed_from_files(server: &Server, name: &str) -> (Peer, Vec<Peer>) {
    let mut players: Vec<_> =
        (0..SEGMENT_PLAYERS_MIN).map(|_| Peer::playing(server.address, "cam")).collect();
    let mut publisher = Peer::publishing(server.address, "cam");
    for timestamp in 0..3 {
        let frame = wire::audio(timestamp, 10 * SEGMENT_RUN_BYTES_MIN);
        publisher.send(&frame);
        for player in &mut players {
            assert_eq!(player.next_media().payload, frame.payload, "{name}");
        }
    }
    (publisher, players)
}

#[test]
fn a_system_without_sendfile_or_memory_files_serves_every_player_and_says_so_once() {
    for (name, injection, warning) in [
        ("eperm", "sendfile:error=EPERM", "the system refuses sendfile: Operation not permitted"),
        (
            "enosys",
            "sendfile:error=ENOSYS",
            "the system refuses sendfile: Function not implemented",
        ),
        (
            "memfd",
            "memfd_create:error=EPERM",
            "no memory file to send from: Operation not permitted",
        ),
    ] {
        let Some(refused) = refused(name, &[injection]) else { return };
        let server = &refused.server;
        let _peers = expect_relayed_from_files(server, name);
        let log = server.log();
        assert_eq!(log.matches(warning).count(), 1, "{log}");
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
    }
}

#[test]
fn a_system_that_refuses_to_tell_or_raise_limits_costs_descriptors_and_a_warning() {
    for (name, error) in [("prlimit_eperm", "EPERM"), ("prlimit_enosys", "ENOSYS")] {
        let injection = format!("prlimit64,setrlimit,getrlimit:error={error}");
        let Some(refused) = refused(name, &[&injection]) else { return };
        let log = refused.server.log();
        let warning = "the system refuses to raise the limit of";
        assert_eq!(log.matches(warning).count(), 1, "{log}");
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
        serves(refused.server.address);
    }
}

/// `ulimit -f` holds for memory files as for the log: the system would end the process (SIGXFSZ).
#[test]
fn a_limit_of_the_size_of_files_ends_neither_the_server_nor_a_stream() {
    let mut server = Start::shell("file_size", "ulimit -f 16; exec \"$0\" \"$@\"", "").start();
    let _peers = expect_relayed_from_files(&server, "file_size");
    server.wait_for_log("the system refuses memory files: File too large");
    // Beyond what the log may hold.
    (0..100).for_each(|_| drop(Peer::playing(server.address, "cam")));
    assert!(server.errors().starts_with("tiderace: log lines are lost: File too large"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
}

#[test]
fn a_system_without_a_socket_option_is_served_and_the_option_is_named() {
    let all = "setsockopt:error=ENOPROTOOPT";
    let Some(refused) = refused("options", &[all]) else { return };
    serves(refused.server.address);
    for option in
        ["SO_REUSEADDR", "TCP_NODELAY", "SO_KEEPALIVE", "TCP_USER_TIMEOUT", "TCP_NOTSENT_LOWAT"]
    {
        refused.server.wait_for_log(&format!(
            "cannot set the socket option {option}: Protocol not available"
        ));
    }
    refused.server.signal(Signal::TERM);
}

#[test]
fn accepting_that_the_system_forbids_neither_spins_nor_ends_the_server() {
    // The first connections are those that wait for the server to start.
    let Some(refused) = refused("accept", &["accept4:error=EPERM:when=1..5"]) else { return };
    serves(refused.server.address);
    let log = refused.server.log();
    assert_eq!(log.matches("cannot accept on").count(), 1, "{log}");
    refused.server.wait_for_log("accepting again on");
}
