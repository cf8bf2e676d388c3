//! The server and the service manager: what it is told, and the sockets that it hands over.

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::process::{self, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use super::serves;
use crate::support::net::own_address;
use crate::support::peer::greeted;
use crate::support::server::{Server, Start};
use crate::support::{SOON, expect_soon};
use crate::wire::{self, HANDSHAKE_BYTES};

/// Runs the server as the process that the variables of the protocol name.
const AS_ITSELF: &str = "export WATCHDOG_PID=$$ LISTEN_PID=$$; exec \"$0\" \"$@\"";
/// The same with standard input handed over as the first descriptor.
const HANDED_OVER: &str = "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null";
/// The same with standard error as the second one.
const TWO_HANDED_OVER: &str = "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 4<&2 </dev/null";

#[test]
fn the_manager_hears_that_the_server_is_ready_once_it_listens() {
    let manager = Manager::new("ready");
    let server = manager.start(Start::new("ready", ""));
    // Started without a look whether it accepts: that it does is what the message says.
    assert_eq!(manager.next(), "READY=1\nSTATUS=connections 0, publishers 0, players 0");
    serves(server.address);
}

#[test]
fn the_manager_hears_nothing_of_a_server_that_cannot_listen() {
    let manager = Manager::new("unready");
    let mut server = Start::new("unready", "");
    let taken = TcpListener::bind(own_address()).unwrap();
    server.command.args(["--listen", &taken.local_addr().unwrap().to_string()]);
    let mut server = manager.start(server);
    assert_eq!(server.wait_soon().code(), Some(4));
    manager.assert_silent();
}

#[test]
fn the_manager_may_have_a_name_without_a_file() {
    let name = format!("tiderace-{}-abstract", process::id());
    let address = UnixAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::on(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"));
    let _server = manager.start(Start::new("abstract", ""));
    assert!(manager.next().starts_with("READY=1\n"));
}

#[test]
fn the_manager_hears_of_each_reload_what_came_of_it() {
    let manager = Manager::new("reload");
    let server = manager.start(Start::new("reload", ""));
    manager.next();
    for (text, outcome) in [
        ("[publish]\nlinger_ms = 1\n", "reloaded: publish.linger_ms".to_owned()),
        ("[publish]\nlinger_ms = 1\n", "reloaded, nothing changed".to_owned()),
        (
            "[publish\n",
            format!("not reloaded, the settings stay as they are: {}:1: ", server.config.display()),
        ),
    ] {
        fs::write(&server.config, text).unwrap();
        let before = monotonic_micros();
        server.signal(Signal::HUP);
        let reloading = manager.next();
        let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!((before..=monotonic_micros()).contains(&stamp.parse().unwrap()), "{stamp}");
        let ready = manager.next();
        assert!(ready.starts_with(&format!("READY=1\nSTATUS={outcome}")), "{ready}");
    }
}

#[test]
fn the_manager_hears_that_the_server_goes_down_and_how_long_that_may_take() {
    let manager = Manager::new("stopping");
    let server = Start::new("stopping", "drain_ms = 2000\n");
    let mut server = manager.start(server);
    manager.next();
    let _stays = greeted(server.address);
    server.signal(Signal::TERM);
    assert_eq!(
        manager.next(),
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=3000000\n\
         STATUS=connections 1, publishers 0, players 0"
    );
    assert_eq!(server.wait_soon().code(), Some(0));
    manager.assert_silent();
}

#[test]
fn the_watchdog_is_answered_for_as_long_as_the_loop_turns() {
    let manager = Manager::new("watchdog");
    let mut server = Start::shell("watchdog", AS_ITSELF, "");
    server.command.env("WATCHDOG_USEC", "200000");
    let server = manager.start(server);
    assert!(manager.next().starts_with("READY=1\n"));
    for _ in 0..5 {
        let message = manager.next();
        assert_eq!(message, "WATCHDOG=1\nSTATUS=connections 0, publishers 0, players 0");
    }
    server.signal(Signal::STOP);
    expect_soon("it stands still", || server.proc().state() == Some('T'));
    manager.take_all();
    thread::sleep(Duration::from_millis(500));
    manager.assert_silent();
    server.signal(Signal::CONT);
    assert!(manager.next().starts_with("WATCHDOG=1\n"));
}

#[test]
fn the_watchdog_of_another_process_is_not_answered_and_wakes_nobody() {
    let manager = Manager::new("unwatched");
    let mut server = Start::new("unwatched", "");
    server.command.env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let server = manager.start(server);
    manager.next();
    let switches = || {
        let status = server.proc().read("status");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
        line.unwrap().to_owned()
    };
    let mut before = switches();
    expect_soon("it sleeps", || {
        thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut before, switches()) == switches()
    });
    thread::sleep(Duration::from_secs(1));
    assert_eq!(switches(), before, "not woken in a second");
    manager.assert_silent();
}

#[test]
fn what_a_busy_manager_does_not_take_is_told_when_it_does() {
    let manager = Manager::new("busy");
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    let filled = (0..).find_map(|_| other.send_to(b"FILL=1", &manager.name).err());
    assert_eq!(filled.unwrap().kind(), ErrorKind::WouldBlock);
    let server = manager.start(Start::new("busy", ""));
    expect_soon("it serves", || TcpStream::connect(server.address).is_ok());
    serves(server.address);
    let ready = (0..).map(|_| manager.next()).find(|message| message != "FILL=1").unwrap();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
}

#[test]
fn a_manager_that_is_not_there_is_no_reason_not_to_serve() {
    for name in ["/nonexistent/notify", "nothing"] {
        let mut server = Start::new("unmanaged", "");
        server.command.env("NOTIFY_SOCKET", name);
        let mut server = server.start();
        serves(server.address);
        server.signal(Signal::HUP);
        server.wait_for_log("reloaded");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_soon().code(), Some(0));
        let said = server.log().matches("WARN").count();
        assert_eq!(said, 1, "said once: {}", server.log());
    }
}

#[test]
fn sockets_that_are_handed_over_are_served_in_place_of_the_configured_ones() {
    let sockets = [(); 2].map(|()| TcpListener::bind(own_address()).unwrap());
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let [first, second] = sockets.map(OwnedFd::from);
    let mut server = Start::shell("activated", TWO_HANDED_OVER, "");
    server.command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "rtmp:more");
    server.command.stdin(first).stderr(second);
    let server = server.spawn();
    for address in addresses {
        serves(address);
        server.wait_for_log(&format!("listening on {address}"));
    }
    server.wait_for_log("descriptor 3 (rtmp) was handed over and replaces `listen`");
    server.wait_for_log("descriptor 4 (more) was handed over and replaces `listen`");
    assert!(TcpStream::connect(server.address).is_err(), "nobody listens as configured");
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let mut server = Start::new("not_activated", "");
    server.command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    serves(server.start().address);
}

#[test]
fn a_port_that_is_handed_over_stays_open_while_the_server_restarts() {
    let socket = TcpListener::bind(own_address()).unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        let mut server = Start::shell("restarted", HANDED_OVER, "");
        server.command.env("LISTEN_FDS", "1").stdin(OwnedFd::from(socket.try_clone().unwrap()));
        server.spawn()
    };
    let mut server = start();
    serves(address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
    let mut between = TcpStream::connect(address).expect("the port is open");
    between.write_all(&wire::hello()).unwrap();
    let _server = start();
    between.set_read_timeout(Some(SOON)).unwrap();
    between.read_exact(&mut [0; HANDSHAKE_BYTES]).expect("served by the next one");
}

#[test]
fn what_cannot_be_listened_on_is_refused_whoever_hands_it_over() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind_addr(&UnixAddr::from_abstract_name(b"").unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for (stdin, error) in [
        (Stdio::null(), "Socket operation on non-socket (os error 88)"),
        (OwnedFd::from(udp).into(), "Protocol not supported (os error 93)"),
        (OwnedFd::from(unix).into(), "Protocol not supported (os error 93)"),
        (OwnedFd::from(connected).into(), "Invalid argument (os error 22)"),
    ] {
        let mut server = Start::shell("refused", HANDED_OVER, "");
        server.command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "x").stdin(stdin);
        let mut server = server.spawn();
        assert_eq!(server.wait_soon().code(), Some(4));
        let expected = format!(
            "tiderace: cannot use a socket of the service manager: descriptor 3 (x) is not a \
             listening TCP socket: {error}; its socket unit needs ListenStream= with a port, and \
             Accept=no\n"
        );
        assert_eq!(server.errors(), expected);
    }
}

/// The service manager's end of the protocol.
pub(super) struct Manager {
    socket: UnixDatagram,
    /// What `NOTIFY_SOCKET` says.
    name: String,
}

impl Manager {
    pub(super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("tiderace-{}-{name}.notify", process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::on(socket, path.into_os_string().into_string().unwrap())
    }

    fn on(socket: UnixDatagram, name: String) -> Self {
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, name }
    }

    /// Starts a server that knows of the manager, and waits for nothing.
    pub(super) fn start(&self, mut server: Start) -> Server {
        server.command.env("NOTIFY_SOCKET", &self.name);
        server.spawn()
    }

    /// The next message.
    pub(super) fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a message of the server");
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// Takes what is there.
    fn take_all(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    fn assert_silent(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let message = self.socket.recv(&mut [0; 4096]).map_err(|error| error.kind());
        assert_eq!(message, Err(ErrorKind::WouldBlock));
        self.socket.set_nonblocking(false).unwrap();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.name));
    }
}

fn monotonic_micros() -> i64 {
    let clock = clock_gettime(ClockId::Monotonic);
    clock.tv_sec * 1_000_000 + clock.tv_nsec / 1000
}
