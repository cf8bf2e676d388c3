//! Start, and refusal to start.

use std::net::TcpListener;

use super::serves;
use crate::support::net::own_address;
use crate::support::peer::Peer;
use crate::support::program;
use crate::support::server::Start;
use crate::wire;

#[test]
fn what_keeps_the_server_from_starting_is_one_line_and_a_code_of_its_own() {
    let taken = TcpListener::bind(own_address()).unwrap();
    let taken = taken.local_addr().unwrap();
    let low = "ulimit -n 64; exec \"$0\" \"$@\"";
    let as_it_is = "exec \"$0\" \"$@\"";
    for (shell, args, code, line) in [
        (
            as_it_is,
            ["--listen", &taken.to_string()],
            4,
            format!(
                "cannot listen on {taken}: Address already in use (os error 98); \
                 stop the program that uses the port (ss -ltnp shows it) or choose another \
                 (--listen)"
            ),
        ),
        (
            as_it_is,
            ["--listen", "192.0.2.1:1935"],
            4,
            "cannot listen on 192.0.2.1:1935: Cannot assign requested address (os error 99); \
             choose an address of this machine (ip address shows them), or [::] for all (--listen)"
                .to_owned(),
        ),
        (
            low,
            ["--connections-max", "100"],
            5,
            "the descriptor limit of 64 is too low for 100 connections: raise it to 132 \
             (ulimit -n, LimitNOFILE=) or lower connections_max"
                .to_owned(),
        ),
    ] {
        let output = program::shell(shell).args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr), (Some(code), format!("tiderace: {line}\n")));
    }
}

#[test]
fn the_server_is_one_thread() {
    let server = Start::new("threads", "").start();
    let mut publisher = Peer::publishing(server.address, "cam");
    let mut players = [(); 3].map(|()| Peer::playing(server.address, "cam"));
    publisher.send(&wire::audio(0, 100));
    players.iter_mut().for_each(|player| drop(player.next_media()));
    assert_eq!(server.proc().field("status", "Threads:"), Some(1));
}

#[test]
fn every_listener_serves_ipv4_and_ipv6() {
    let v6 = TcpListener::bind("[::1]:0").and_then(|socket| socket.local_addr());
    let mut addresses = vec![own_address(), own_address()];
    addresses.extend(v6.ok());
    let mut server = Start::new("listeners", "");
    for address in &addresses {
        server.command.args(["--listen", &address.to_string()]);
    }
    let server = server.start();
    for address in addresses {
        serves(address);
        assert!(server.log().contains(&format!("listening on {address}")), "{}", server.log());
    }
}
