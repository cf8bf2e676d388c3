//! HTTP over a unix socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tiderace::limits::{SEGMENT_PLAYERS_MIN, SEGMENT_RUN_BYTES_MIN};

use crate::support::SOON;
use crate::support::directory::Directory;
use crate::support::peer::Peer;
use crate::support::program;
use crate::support::server::{Server, Start};
use crate::wire;

/// A tag of FLV with its size after it, without its payload.
const FLV_TAG_BYTES: usize = 15;

/// A server whose `http.listen` is a unix socket.
struct Site {
    server: Server,
    socket: PathBuf,
    _directory: Directory,
}

impl Site {
    /// Starts a server after `prepare` has done something to the path of its socket.
    fn start(name: &str, settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = Directory::new(name);
        let socket = directory.file("http.sock");
        prepare(&socket);
        let mut server = Start::new(name, settings);
        server.command.args(["--http-listen", &format!("unix:{}", socket.display())]);
        let server = server.start();
        server.wait_for_log(&format!("listening for HTTP on unix:{}", socket.display()));
        Self { server, socket, _directory: directory }
    }

    /// Sends a request on a new connection.
    fn ask(&self, path: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).expect("the server accepts");
        stream.set_read_timeout(Some(SOON)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Returns a whole response.
    fn get(&self, path: &str) -> String {
        let mut text = String::new();
        self.ask(path).read_to_string(&mut text).expect("a response and its end");
        text
    }

    /// Starts a player and waits for the answer, which is the head of the response and of FLV.
    fn play(&self, path: &str) -> UnixStream {
        let mut stream = self.ask(path);
        read_until(&mut stream, b"FLV\x01");
        stream
    }
}

/// Reads until `part` has come.
#[track_caller]
fn read_until(stream: &mut UnixStream, part: &[u8]) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.windows(part.len()).any(|window| window == part) {
        let bytes = stream.read(&mut buffer).expect("the server goes on");
        assert_ne!(bytes, 0, "the end before {:?}", String::from_utf8_lossy(part));
        seen.extend_from_slice(&buffer[..bytes]);
    }
}

/// Reads tags of FLV with so many frames, each of which `wire::audio` has made with `more` bytes.
#[track_caller]
fn read_frames(stream: &mut UnixStream, frames: usize, more: usize) {
    let mut tags = vec![0; frames * (FLV_TAG_BYTES + 2 + more)];
    stream.read_exact(&mut tags).expect("the server sends every frame");
    // The beginning of the stream may have been read with the head, or be among these bytes.
    let beginning = 100;
    let of_frames = tags.iter().filter(|byte| **byte == 0x21).count();
    assert!(of_frames + beginning >= frames * more, "{of_frames} bytes");
}

#[test]
fn a_unix_socket_shows_what_a_loopback_address_shows() {
    let settings = "[limits]\nconnections_per_address_max = 1\n";
    let mut site = Site::start("unix_pages", settings, |_| {});
    assert!(site.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(site.get("/").starts_with("HTTP/1.1 200"), "the page needs no token");
    // Two at a time: peers without an address do not share the limit of one.
    let _idle = UnixStream::connect(&site.socket).unwrap();
    let listed = site.get("/api/v1/connections");
    assert_eq!(listed.matches("\"address\":\"unix\"").count(), 2, "{listed}");
    assert!(listed.contains("\"tcp\":null"), "{listed}");
    let mut rebound = UnixStream::connect(&site.socket).unwrap();
    rebound.write_all(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    read_until(&mut rebound, b"HTTP/1.1 421");
    site.server.signal(Signal::TERM);
    assert!(site.server.wait_soon().success());
    assert!(!site.socket.exists(), "the file is removed");
}

#[test]
fn players_on_a_unix_socket_are_served_from_memory_and_from_files() {
    let site = Site::start("unix_players", "", |_| {});
    let mut publisher = Peer::publishing(site.server.address, "cam");
    publisher.send(&wire::audio(0, 10));
    let mut alone = site.play("/live/cam.flv?video=0");
    publisher.send(&wire::audio(20, 10));
    read_frames(&mut alone, 1, 10);
    let mut players: Vec<_> =
        (0..SEGMENT_PLAYERS_MIN).map(|_| site.play("/live/cam.flv?video=0")).collect();
    let large = 10 * SEGMENT_RUN_BYTES_MIN;
    for timestamp in [40, 60, 80] {
        publisher.send(&wire::audio(timestamp, large));
        players.iter_mut().for_each(|player| read_frames(player, 1, large));
    }
    let listed = site.get("/api/v1/streams");
    assert!(listed.contains("\"sendfile_bytes\":"), "{listed}");
    assert!(!listed.contains("\"sendfile_bytes\":0"), "{listed}");
    drop(players);
    site.server.wait_for_log("closed unix");
}

#[test]
fn a_player_on_a_unix_socket_that_stalls_goes_on_when_it_reads_again() {
    let site = Site::start("unix_stalled", "", |_| {});
    let mut publisher = Peer::publishing(site.server.address, "cam");
    publisher.send(&wire::audio(0, 10));
    let mut player = site.play("/live/cam.flv?video=0");
    // More than the socket takes, and less than the lag at which a player skips.
    for index in 1..=100 {
        publisher.send(&wire::audio(index * 10, 10_000));
    }
    drop(publisher);
    site.server.wait_for_log("publisher of live/cam: peer_closed");
    read_frames(&mut player, 100, 10_000);
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let stale = Site::start("unix_stale", "", |socket| drop(UnixListener::bind(socket).unwrap()));
    assert!(stale.get("/healthz").starts_with("HTTP/1.1 200"));

    let file = stale.socket.with_extension("file");
    fs::write(&file, "mine").unwrap();
    for (path, expected) in [
        (&stale.socket, "Address already in use (os error 98); stop the program that listens"),
        (&file, "a file that is not a socket has this name; remove the file or choose another"),
        (&stale.socket.join("x"), "check whether the file system"),
        (&stale.socket.with_file_name("missing/x"), "create its directory"),
    ] {
        let mut server = Start::new("unix_taken", "");
        server.command.args(["--http-listen", &format!("unix:{}", path.display())]);
        let mut server = server.spawn();
        assert_eq!(server.wait_soon().code(), Some(4));
        let errors = server.errors();
        let place = format!("cannot listen on unix:{}: ", path.display());
        assert!(errors.contains(&place) && errors.contains(expected), "{errors}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    assert!(stale.get("/healthz").starts_with("HTTP/1.1 200"), "the running server is left alone");
}

#[test]
fn a_check_of_a_configuration_tries_its_unix_socket_and_leaves_no_file() {
    let directory = Directory::new("unix_check");
    let socket = directory.file("http.sock");
    let path = socket.display();
    let text = format!("listen = \"127.0.0.1:0\"\n[http]\nlisten = [\"unix:{path}\"]\n");
    let config = directory.write("tiderace.toml", text);
    let check = || program::tiderace().arg("check").arg(&config).output().unwrap();
    assert_eq!(check().status.code(), Some(0));
    assert!(!socket.exists());
    fs::write(&socket, "mine").unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(4));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("tiderace.toml:3: key \"http.listen\": cannot listen on"), "{errors}");
}

#[test]
fn the_umask_decides_who_may_connect() {
    let directory = Directory::new("unix_umask");
    let socket = directory.file("http.sock");
    let line = "umask 0117; exec \"$0\" \"$@\"";
    let mut server = Start::shell("unix_umask", line, "");
    server.command.args(["--http-listen", &format!("unix:{}", socket.display())]);
    let _server = server.start();
    let metadata = fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
}
