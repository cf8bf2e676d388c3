//! The running program as its operator meets it: start and refusal to start, descriptors that run
//! out, signals, and a log that nobody takes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::wire::{self, Message, command, null, number, object, string};

/// Long enough for what happens at once, on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(20);
const C0_C1: [u8; 1537] = {
    let mut bytes = [0; 1537];
    bytes[0] = 3;
    bytes
};
const S0_S1_S2_BYTES: usize = 1 + 2 * 1536;

#[test]
fn a_full_disk_under_the_log_does_not_stop_the_server() {
    let mut server = Tiderace::command("full", |_| {});
    server.command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let mut server = server.start();
    serves(server.address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let lost = "tiderace: log lines are lost: No space left on device (os error 28)\n";
    assert_eq!(server.errors(), lost, "told once, whatever the number of lines");
}

#[test]
fn a_reader_of_the_log_that_left_does_not_stop_the_server() {
    let mut server = Tiderace::command("pipe", |_| {});
    server.command.stdout(Stdio::piped());
    let mut server = server.start();
    drop(server.child.stdout.take());
    serves(server.address);
    serves(server.address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.errors().ends_with("Broken pipe (os error 32)\n"), "{}", server.errors());
}

#[test]
fn a_reader_of_the_log_that_stops_reading_does_not_hold_up_the_server() {
    let mut server =
        Tiderace::command("full_pipe", |config| config.push_str("log_level = \"debug\""));
    server.command.stdout(Stdio::piped());
    let mut server = server.start();
    // A pipe holds 64 KiB, and each of these leaves a line of 100 bytes and more.
    for _ in 0..1000 {
        serves(server.address);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let lost = "tiderace: log lines are lost: Resource temporarily unavailable (os error 11)\n";
    assert_eq!(server.errors(), lost);
}

#[test]
fn standard_streams_that_are_closed_do_not_stop_the_server() {
    let mut server = Tiderace::shell("closed", "exec \"$0\" \"$@\" <&- >&- 2>&-").start();
    serves(server.address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_was_published_is_logged_when_it_ends() {
    let server = Tiderace::command("report", |_| {}).start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&wire::vector("captures/ffmpeg5_publish_h264_aac.client.bin")).unwrap();
    server.wait_for_log(" no longer publishes live/cam after ");
    server.wait_for_log(" s: H.264 High 1b 160x120 15 fps, AAC LC 44.1 kHz mono, GOP 1 s (15 fra");
}

#[test]
fn a43_no_query_and_no_credentials_reach_the_log_however_much_it_tells() {
    let mut server =
        Tiderace::command("secrets", |config| config.push_str("log_level = \"trace\"")).start();
    let connect = |app: &str| {
        let url = "rtmp://user:SECRET@host/live?token=SECRET";
        let properties = [("app", string(app)), ("tcUrl", string(url)), ("pageUrl", string(url))];
        command("connect", 1.0, &[object(&properties)])
    };
    let on_stream =
        |name: &str, key: &str| command(name, 0.0, &[null(), string(key), string("live")]).on(1);
    for (app, request, key, logged) in [
        ("live?token=SECRET", "publish", "cam?key=SECRET", "publishes live/cam"),
        ("live/?token=SECRET", "play", "other?a=b&key=SECRET", "plays live/other"),
        // A slash in a signature, where ffmpeg cuts it.
        ("live/cut?sig=SECRET", "play", "SECRET+e==", "plays live/cut"),
        ("live", "publish", "..?key=SECRET", "stream name with a part"),
        ("..?SECRET", "publish", "cam", "stream name with a part"),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let messages = [
            connect(app),
            command("FCPublish", 2.0, &[null(), string(key)]),
            wire::create_stream(3.0),
            on_stream(request, key),
        ];
        let chunks = messages.iter().flat_map(Message::chunks);
        let session: Vec<_> = wire::handshake().into_iter().chain(chunks).collect();
        stream.write_all(&session).unwrap();
        server.wait_for_log(logged);
    }
    let mut browser = TcpStream::connect(server.address).unwrap();
    browser.write_all(b"GET /?token=SECRET HTTP/1.1\r\nCookie: SECRET\r\n\r\n").unwrap();
    server.wait_for_log("http on the rtmp port");
    server.signal(Signal::TERM);
    server.wait();
    assert!(!server.log().contains("SECRET"), "{}", server.log());
}

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
            format!("cannot listen on {taken}: Address already in use (os error 98)"),
        ),
        (
            as_it_is,
            ["--listen", "192.0.2.1:1935"],
            4,
            "cannot listen on 192.0.2.1:1935: Cannot assign requested address (os error 99)"
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
        let output = Command::new("sh")
            .args(["-c", shell, env!("CARGO_BIN_EXE_tiderace")])
            .args(args)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr), (Some(code), format!("tiderace: {line}\n")));
    }
}

#[test]
fn e01_a_low_descriptor_limit_bounds_the_connections_and_newcomers_still_get_in() {
    let server = Tiderace::shell("e01_low", "ulimit -n 64; exec \"$0\" \"$@\"").start();
    server.wait_for_log("up to 32 connections");
    let held: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    serves(server.address);
    let ticks = server.cpu_ticks_in(Duration::from_secs(1));
    assert!(ticks < 5, "{ticks} ticks of 10 ms in a second of rest");
    assert!(server.log().lines().count() < 10, "{}", server.log());
    drop(held);
    serves(server.address);
}

#[test]
fn e01_without_descriptors_the_server_waits_and_takes_who_waits_when_one_is_free() {
    let server = Tiderace::command("e01_none", |_| {}).start();
    serves(server.address);
    let open = fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count() as u64;
    let room = 4;
    let limit = Rlimit { current: Some(open + room), maximum: Some(open + room) };
    prlimit(Some(Pid::from_child(&server.child)), Resource::Nofile, limit).unwrap();

    let held: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // It waits in the kernel's queue and sends all it has to say while there is no room for it.
    let mut waiting = TcpStream::connect(server.address).unwrap();
    waiting.write_all(&C0_C1).unwrap();
    server.wait_for_log("cannot accept on");
    let ticks = server.cpu_ticks_in(Duration::from_secs(1));
    assert!(ticks < 5, "{ticks} ticks of 10 ms in a second without descriptors");

    drop(held);
    waiting.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    waiting.read_exact(&mut [0; S0_S1_S2_BYTES]).expect("served within a second, without a SYN");
    server.wait_for_log("accepting again on");
    let told = server.log().matches("accept").count();
    assert_eq!(told, 2, "once that it cannot, once that it can: {}", server.log());
}

#[test]
fn a_full_table_is_said_once_and_again_when_there_was_room_in_between() {
    let mut command = Tiderace::command("crowded", |_| {});
    command.command.args(["--connections-max", "8"]);
    let server = command.start();
    for times in 1..3 {
        let held: Vec<_> = (0..30).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        let line = "WARN  [tiderace::server] all 8 connections are taken: sessions without a \
                    stream give way";
        wait_until("the table is full", || server.log().matches(line).count() == times);
        drop(held);
        serves(server.address);
    }
}

#[test]
fn the_server_is_one_thread() {
    let server = Tiderace::command("threads", |_| {}).start();
    serves(server.address);
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    assert!(status.contains("\nThreads:\t1\n"), "{status}");
}

#[test]
fn sigterm_with_nobody_connected_ends_it_at_once_and_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Tiderace::command("term", |_| {}).start();
        server.wait_for_log("publish to");
        server.signal(signal);
        let asked = Instant::now();
        assert_eq!(server.wait().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert!(server.log().ends_with("down: 0 connections left\n"), "{}", server.log());
    }
}

#[test]
fn a_second_sigterm_waits_for_nobody() {
    let mut server = Tiderace::command("term_twice", |_| {}).start();
    let _stays = greeted(server.address);
    server.signal(Signal::TERM);
    server.wait_for_log("going down: 1 connections are told");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("told to go down again: now"), "{}", server.log());
    assert!(server.log().ends_with("down: 1 connections left\n"), "{}", server.log());
}

#[test]
fn while_it_drains_nobody_new_gets_in() {
    let mut server = Tiderace::command("drain", |_| {}).start();
    let _stays = greeted(server.address);
    server.signal(Signal::TERM);
    server.wait_for_log("going down");
    let late = TcpStream::connect(server.address).map(|mut stream| stream.read(&mut [0]));
    assert!(!matches!(late, Ok(Ok(1..))), "{late:?}");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.log().contains("closed"), "no line for each session that slept");
}

#[test]
fn sighup_says_what_changed_what_needs_a_restart_and_what_is_wrong() {
    let server = Tiderace::command("hup", |file| file.push_str("[publish]\nlinger_ms = 1000\n"));
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
        "only a restart applies: limits.connections_max",
    );
    serves(server.address);
}

#[test]
fn sigusr1_asks_who_understands_to_connect_anew_and_sigterm_serves_them_on() {
    let url = "rtmp://b.example/live";
    let server = Tiderace::command("reconnect", |file| {
        file.push_str(&format!("drain_url = \"{url}\"\ndrain_ms = 1500\n"));
    });
    let mut server = server.start();
    let mut understands = connected(server.address, true);
    let mut other = connected(server.address, false);
    server.signal(Signal::USR1);
    server.wait_for_log("asked 1 of 2 connections to connect anew");
    read_until(&mut understands, url);
    server.signal(Signal::TERM);
    server.wait_for_log("going down: 2 connections are told");
    read_until(&mut other, "NetConnection.Connect.AppShutdown");
    read_until(&mut understands, url);
    understands.write_all(&command("_checkbw", 7.0, &[null()]).chunks()).unwrap();
    read_until(&mut understands, "_result");
    // It stays, so it is told like the others when the drain is over.
    read_until(&mut understands, "NetConnection.Connect.AppShutdown");
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().ends_with("down: 1 connections left\n"), "{}", server.log());
}

#[test]
fn every_listener_serves_ipv4_and_ipv6() {
    let v6 = TcpListener::bind("[::1]:0").and_then(|socket| socket.local_addr());
    let mut addresses = vec![own_address(), own_address()];
    addresses.extend(v6.ok());
    let mut server = Tiderace::command("listeners", |_| {});
    for address in &addresses {
        server.command.args(["--listen", &address.to_string()]);
    }
    let server = server.start();
    for address in addresses {
        serves(address);
        assert!(server.log().contains(&format!("listening on {address}")), "{}", server.log());
    }
}

/// A server that has not been started yet.
struct Start {
    command: Command,
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    errors: PathBuf,
}

/// A server that serves. It is killed when it is dropped, and its files with it.
struct Tiderace {
    child: Child,
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    errors: PathBuf,
}

impl Tiderace {
    /// A server with a configuration file that `configure` writes.
    fn command(name: &str, configure: impl FnOnce(&mut String)) -> Start {
        Start::new(name, Command::new(env!("CARGO_BIN_EXE_tiderace")), configure)
    }

    /// A server that a line of the shell starts: as `$0`, with the arguments `$@`.
    fn shell(name: &str, line: &str) -> Start {
        let mut command = Command::new("sh");
        command.args(["-c", line, env!("CARGO_BIN_EXE_tiderace")]);
        Start::new(name, command, |_| {})
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, which it must do by itself.
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    fn wait_for_log(&self, part: &str) {
        wait_until(&format!("the log has {part:?}"), || self.log().contains(part));
    }

    /// What it takes of the processor while `span` passes, in ticks of 10 ms.
    fn cpu_ticks_in(&self, span: Duration) -> u64 {
        let before = self.cpu_ticks();
        thread::sleep(span);
        self.cpu_ticks() - before
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in brackets may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Tiderace {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        for file in [&self.config, &self.log, &self.errors] {
            drop(fs::remove_file(file));
        }
    }
}

impl Start {
    fn new(name: &str, mut command: Command, configure: impl FnOnce(&mut String)) -> Self {
        let file =
            |kind| std::env::temp_dir().join(format!("tiderace-{}-{name}.{kind}", process::id()));
        let (config, log, errors) = (file("toml"), file("log"), file("err"));
        let mut text = String::new();
        configure(&mut text);
        fs::write(&config, text).unwrap();
        let address = own_address();
        command.arg("--config").arg(&config).args(["--listen", &address.to_string()]);
        command.stdin(Stdio::null());
        command.stdout(File::create(&log).unwrap()).stderr(File::create(&errors).unwrap());
        Self { command, address, config, log, errors }
    }

    fn start(mut self) -> Tiderace {
        let child = self.command.spawn().unwrap();
        let Self { address, config, log, errors, .. } = self;
        let mut server = Tiderace { child, address, config, log, errors };
        wait_until("the server accepts", || {
            let ended = server.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", server.errors());
            TcpStream::connect(address).is_ok()
        });
        server
    }
}

/// An address that is nobody else's: all of 127.0.0.0/8 is this machine, so each server of each
/// run of the tests has a host of its own.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed));
    SocketAddr::from((host, 11935))
}

/// A whole exchange with the server, as far as the handshake goes.
fn serves(address: SocketAddr) {
    drop(greeted(address));
}

/// A connection whose C0 and C1 were answered.
fn greeted(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(&C0_C1).unwrap();
    let mut answer = [0; S0_S1_S2_BYTES];
    stream.read_exact(&mut answer).expect("S0 S1 S2");
    assert_eq!(answer[0], 3);
    assert_eq!(answer[1537..], C0_C1[1..], "S2 is C1");
    stream
}

/// A connection to `live` whose client announces that it understands a reconnect request or
/// nothing, and that was granted.
fn connected(address: SocketAddr, understands: bool) -> TcpStream {
    let mut stream = greeted(address);
    stream.write_all(&[0; 1536]).unwrap();
    let caps_ex = number(if understands { 1.0 } else { 0.0 });
    let properties = object(&[("app", string("live")), ("capsEx", caps_ex)]);
    stream.write_all(&command("connect", 1.0, &[properties]).chunks()).unwrap();
    read_until(&mut stream, "NetConnection.Connect.Success");
    stream
}

/// Reads up to the end of `text`.
fn read_until(stream: &mut TcpStream, text: &str) {
    let mut read = Vec::new();
    while !read.ends_with(text.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        read.extend(byte);
    }
}

fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !is_true() {
        assert!(asked.elapsed() < SOON, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
