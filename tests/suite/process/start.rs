//! Start, and refusal to start.

use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use super::serves;
use crate::support::directory::Directory;
use crate::support::net::own_address;
use crate::support::peer::Peer;
use crate::support::program::{self, Output, Program};
use crate::support::server::Start;
use crate::support::{SOON, expect_soon};
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
fn a_default_address_for_http_that_is_taken_is_a_warning_and_a_configured_one_an_error() {
    // The default address is taken by this test or by whoever has it already.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let address = own_address().to_string();
    let mut command = program::tiderace();
    command.args(["--listen", &address]);
    let directory = Directory::new("http_default");
    let files = Output::of(&mut command, directory.path(), "tiderace");
    let mut server = Program::spawn("tiderace", &mut command, files);
    expect_soon("a warning", || server.output_text().contains("HTTP is off: 127.0.0.1:8080"));
    expect_soon("the server serves", || TcpStream::connect(&address).is_ok());
    server.signal(Signal::TERM);
    assert!(server.wait(SOON).success());
    let args = ["--listen", &address, "--http-listen", "127.0.0.1:8080"];
    let output = program::tiderace().args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot listen on 127.0.0.1:8080"), "{error}");
}

#[test]
fn a_token_that_cannot_be_used_prevents_the_start_and_a_reload() {
    let directory = Directory::new("token");
    let short = directory.write("token", "short");
    let settings = |file: &str| format!("log_level = \"info\"\n[api]\ntoken_file = \"{file}\"\n");
    for (file, expected) in [
        (short.to_str().unwrap(), "16 or more printable characters"),
        ("/nowhere/token", "cannot read the token in /nowhere/token"),
        ("/dev/null", "it is not a regular file"),
    ] {
        let mut server = Start::new("token_start", &settings(file)).spawn();
        assert_eq!(server.wait_soon().code(), Some(3), "{file}");
        assert!(server.errors().contains(expected), "{}", server.errors());
    }
    let good = directory.write("good", "0123456789abcdef\n");
    let server = Start::new("token_reload", &settings(good.to_str().unwrap())).start();
    server.reload(&settings("/nowhere/token"));
    server.wait_for_log("not reloaded, the settings stay as they are: cannot read the token");
    assert!(!server.log().contains("0123456789abcdef"));
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
