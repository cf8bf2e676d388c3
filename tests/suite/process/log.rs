//! The log of the process: what it tells, what it keeps to itself, and that it may be lost.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::serves;
use crate::support::server::Start;
use crate::support::{expect_soon, program};
use crate::wire::{self, Message, command, null, object, string};

#[test]
fn a_full_disk_under_the_log_does_not_stop_the_server() {
    let mut server = Start::new("full", "");
    server.command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let mut server = server.start();
    serves(server.address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
    let lost = "tiderace: log lines are lost: No space left on device (os error 28)\n";
    assert_eq!(server.errors(), lost, "told once, whatever the number of lines");
}

#[test]
fn a_reader_of_the_log_that_left_does_not_stop_the_server() {
    let mut server = Start::new("pipe", "");
    server.command.stdout(Stdio::piped());
    let mut server = server.start();
    drop(server.child.stdout.take());
    serves(server.address);
    serves(server.address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
    assert!(server.errors().ends_with("Broken pipe (os error 32)\n"), "{}", server.errors());
}

#[test]
fn a_reader_of_the_log_that_stops_reading_does_not_hold_up_the_server() {
    let mut server = Start::new("full_pipe", "log_level = \"debug\"");
    server.command.stdout(Stdio::piped());
    let mut server = server.start();
    // A pipe holds 64 KiB, and each of these leaves a line of 100 bytes and more.
    for _ in 0..1000 {
        serves(server.address);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
    let lost = "tiderace: log lines are lost: Resource temporarily unavailable (os error 11)\n";
    assert_eq!(server.errors(), lost);
}

#[test]
fn a_full_terminal_does_not_hold_up_the_server_and_lost_lines_are_counted() {
    let (terminal, other) = open_terminal();
    let mut server = Start::new("terminal", "log_level = \"debug\"");
    server.command.stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let server = server.start();
    for _ in 0..1000 {
        serves(server.address);
    }
    // The count comes with the next line, once the terminal has room.
    let mut log = String::new();
    let mut buffer = [0; 1 << 16];
    expect_soon("the lost lines are reported", || {
        while let Ok(count) = (&other).read(&mut buffer) {
            log += &String::from_utf8_lossy(&buffer[..count]);
        }
        serves(server.address);
        log.contains(" log lines are missing here: ")
    });
    assert!(log.lines().all(|line| line.starts_with("20") || line.starts_with("tiderace: ")));
}

/// A terminal: what a server writes to, and its other end, from which a read does not wait.
fn open_terminal() -> (File, File) {
    let other = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&other).unwrap();
    unlockpt(&other).unwrap();
    let name = ptsname(&other, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let terminal = open(&name, flags, Mode::empty()).unwrap();
    fcntl_setfl(&other, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
    (terminal.into(), other.into())
}

#[test]
fn standard_streams_keep_their_flags_for_the_programs_that_share_them() {
    let (_log, written) = io::pipe().unwrap();
    let (_errors, errors) = io::pipe().unwrap();
    let flags = || [&written, &errors].map(|written| fcntl_getfl(written).unwrap());
    let before = flags();
    let mut server = Start::new("shared", "");
    server.command.stdout(written.try_clone().unwrap()).stderr(errors.try_clone().unwrap());
    let mut server = server.start();
    serves(server.address);
    assert_eq!(flags(), before);
    server.signal(Signal::TERM);
    server.wait_soon();
    assert_eq!(flags(), before);
}

#[test]
fn a_full_standard_error_holds_up_neither_the_server_nor_its_exit() {
    let (_errors, mut written) = io::pipe().unwrap();
    fcntl_setfl(&written, OFlags::NONBLOCK).unwrap();
    while written.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&written, OFlags::empty()).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut server = Start::new("errors", "");
    server.command.stdout(full).stderr(written.try_clone().unwrap());
    let mut server = server.start();
    serves(server.address);
    let address = server.address.to_string();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
    let taken = TcpListener::bind(&address).unwrap();
    let mut refused = program::tiderace();
    let refused = refused.args(["--listen", &address]).stdout(Stdio::null()).stderr(written);
    assert_eq!(refused.status().unwrap().code(), Some(4), "an address that is taken");
    drop(taken);
}

#[test]
fn standard_streams_that_are_closed_do_not_stop_the_server() {
    let mut server = Start::shell("closed", "exec \"$0\" \"$@\" <&- >&- 2>&-", "").start();
    serves(server.address);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_soon().code(), Some(0));
}

#[test]
fn what_was_published_is_logged_when_it_ends() {
    let server = Start::new("report", "").start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&wire::vector("captures/ffmpeg5_publish_h264_aac.client.bin")).unwrap();
    server.wait_for_log(" no longer publishes live/cam after ");
    server.wait_for_log(" s: H.264 High 1b 160x120 15 fps, AAC LC 44.1 kHz mono, GOP 1 s (15 fra");
}

#[test]
fn a43_no_query_and_no_credentials_reach_the_log_however_much_it_tells() {
    let mut server = Start::new("secrets", "log_level = \"trace\"").start();
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
        ("one?token=SECRET", "publish", "cut&user=u&pass=SECRET", "publish in one: bad_name"),
        ("live?token=SECRET", "publish", "coded%3Fkey=SECRET", "publishes live/coded"),
        ("two?token=SECRET", "publish", "user=u&pass=SECRET", "publish in two: bad_name"),
        ("three", "publish", "rtmp://user:SECRET@host/other/url", "publish in three: bad_name"),
        ("live", "publish", "..?key=SECRET", "stream name has a part"),
        ("..?SECRET", "publish", "cam", "stream name has a part"),
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
    server.wait_for_log("HTTP request on the RTMP port");
    server.signal(Signal::TERM);
    server.wait_soon();
    assert!(!server.log().contains("SECRET"), "{}", server.log());
}

#[test]
fn a_refusal_names_the_application_the_stream_and_the_encoder_and_no_secret() {
    let server = Start::new(
        "refusals",
        "[apps.live.keys]\nshow = \"SECRET1\"\n[apps.studio.users]\ncamera = \"SECRET2\"\n",
    );
    let server = server.start();
    let connect = |app: &str, flash_ver: &str| {
        let properties = [("app", string(app)), ("flashVer", string(flash_ver))];
        command("connect", 1.0, &[object(&properties)])
    };
    let obs = "FMLE/3.0 (compatible; FMSc/1.0)";
    for (app, flash_ver, key, logged) in [
        (
            "studio",
            obs,
            "",
            " connect to studio by \"FMLE/3.0 (compatible; FMSc/1.0)\": login_begun",
        ),
        (
            "studio?authmod=adobe&user=camera",
            "Teradek\n\"x\"",
            "",
            " connect to studio by \"Teradek\\n\\\"x\\\"\": login_begun (asked for a proof)",
        ),
        (
            "studio?authmod=adobe&user=SECRET3&response=SECRET4",
            obs,
            "",
            "(compatible; FMSc/1.0)\": login_failed (no such user)",
        ),
        (
            "studio",
            "Drone 2.1",
            "a?token=SECRET5",
            " publish of studio/a by \"Drone 2.1\": login_failed (a user and a password",
        ),
        ("studio", "", "b", " publish of studio/b: login_failed (a user and a password"),
        (
            "live",
            obs,
            "SECRET6",
            " publish of live/… by \"FMLE/3.0 (compatible; FMSc/1.0)\": key_refused (no such",
        ),
        (
            "live?k=SECRET7",
            "Drone 2.1",
            "..",
            " publish in live by \"Drone 2.1\": bad_name (stream",
        ),
        (
            "../x?SECRET8",
            "Drone 2.1",
            "",
            " connect to .. by \"Drone 2.1\": bad_name (stream name has a part",
        ),
        ("//live%2FSECRET9/..", "Drone 2.1", "", " connect to live by \"Drone 2.1\": bad_name"),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let publish = command("publish", 0.0, &[null(), string(key), string("live")]).on(1);
        let mut messages = vec![connect(app, flash_ver)];
        if !key.is_empty() {
            messages.extend([wire::create_stream(3.0), publish]);
        }
        let chunks = messages.iter().flat_map(Message::chunks);
        let session: Vec<_> = wire::handshake().into_iter().chain(chunks).collect();
        stream.write_all(&session).unwrap();
        server.wait_for_log(logged);
    }
    let log = server.log();
    let refusals = log.lines().filter(|line| line.contains("] closed "));
    assert!(refusals.clone().all(|line| line.contains(" INFO  [tiderace::server] ")), "{log}");
    assert_eq!(refusals.count(), 9, "{log}");
    assert!(!log.contains("SECRET"), "{log}");
}

#[test]
fn a_flood_of_refused_logins_costs_few_lines() {
    let server = Start::new("logins", "[apps.studio.users]\ncamera = \"a password\"\n");
    let server = server.start();
    let properties = [("app", string("studio")), ("flashVer", string("FMLE/3.0"))];
    let connect = command("connect", 1.0, &[object(&properties)]).chunks();
    let session: Vec<_> = wire::handshake().into_iter().chain(connect).collect();
    let (flood, began) = (200, Instant::now());
    for _ in 0..flood {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(&session).unwrap();
        while stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {}
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    let counted = || lines_and_left_out(&server.log(), "login_begun");
    expect_soon("each has its line or is counted", || counted() == flood);
    let lines = server.log().matches("login_begun").count();
    assert!(lines <= 10 * seconds, "{lines} lines in {seconds} s");
}

#[test]
fn a_flood_of_bad_connections_costs_few_lines_and_every_one_is_counted() {
    let server = Start::new("flood", "").start();
    server.wait_for_log("up to");
    let flood = 500;
    let began = Instant::now();
    for _ in 0..flood {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    let counted = || lines_and_left_out(&server.log(), "bad_handshake");
    expect_soon("each has its line or is counted", || counted() == flood);
    let lines = server.log().lines().count();
    assert!(lines <= 10 + 11 * seconds, "{lines} lines in {seconds} s: {}", server.log());
}

/// Returns how many lines with `text` a log has, in addition to those that it counts as left out.
fn lines_and_left_out(log: &str, text: &str) -> usize {
    let left_out = log.lines().filter_map(|line| {
        let count = line.split_once("left out ")?.1.split_once(" lines")?.0;
        Some(count.parse::<usize>().unwrap())
    });
    left_out.sum::<usize>() + log.matches(text).count()
}
