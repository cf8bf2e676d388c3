//! What the server believes it holds, held against what the allocator gave it: for each kind of
//! connection, so that a kind that drifts shows.
//!
//! Both may differ by a quarter: tables double, and the end of a block may lie unused. Memory of
//! the kernel is accounted as well and is no part of what is compared.

use std::cell::RefCell;
#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use allocation_counter::measure;
use tiderace::config::Settings;
use tiderace::limits;
use tiderace::media::MediaKind;
use tiderace::media::flv::FlvReader;
use tiderace::rtmp::auth::Challenger;
use tiderace::rtmp::handshake::Hello;
use tiderace::server::Server;
use tiderace::server::peer::Protocol;
use tiderace::server::transport::{Received, Transport};
use tiderace::server::web::Surface;
use tiderace::stream::ids::ConnId;
use tiderace::time::Time;

use crate::frames::{payload, stream_command};
use crate::wire::{self, AUDIO, Message, SET_CHUNK_SIZE, VIDEO};

/// The other end of a connection: what is to be read, and how much it still takes.
#[derive(Debug)]
struct Script {
    input: Vec<u8>,
    read: usize,
    room: usize,
}

#[derive(Clone, Debug)]
struct Scripted(Rc<RefCell<Script>>);

impl Scripted {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Script { input: Vec::new(), read: 0, room: usize::MAX })))
    }
}

impl Transport for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let script = &mut *self.0.borrow_mut();
        let rest = &script.input[script.read..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        script.read += count;
        Ok(Received { bytes: count, is_drained: count < buffer.len() })
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let script = &mut *self.0.borrow_mut();
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = len.min(script.room);
        script.room -= count;
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something that a connection says when its turn comes.
struct Saying {
    conn: usize,
    input: Vec<u8>,
    /// What its socket takes from here on.
    room: usize,
    protocol: Protocol,
    millis: u64,
}

/// A server with connections that say what they were made to say.
struct Bench {
    server: Server<Scripted>,
    buffer: Vec<u8>,
    scripts: Vec<Scripted>,
    ids: Vec<ConnId>,
    sayings: Vec<Saying>,
    now: Time,
}

impl Bench {
    fn new() -> Self {
        let hello = Hello::new(&[7; 1528]);
        let mut settings = Settings::default();
        // What the kernel holds is no part of what the allocator gave.
        settings.limits.socket_unsent_bytes_max = 0;
        Self {
            server: Server::new(settings, hello, Challenger::new([7; 32])),
            buffer: vec![0; limits::READ_BUFFER_BYTES],
            scripts: Vec::new(),
            ids: Vec::new(),
            sayings: Vec::new(),
            now: Time::ZERO,
        }
    }

    /// A connection that will say this first. Returns its number.
    fn connection(&mut self, input: Vec<u8>) -> usize {
        self.scripts.push(Scripted::new());
        let conn = self.scripts.len() - 1;
        self.say(conn, input);
        conn
    }

    fn say(&mut self, conn: usize, input: Vec<u8>) {
        self.say_with_room(conn, input, usize::MAX);
    }

    fn say_with_room(&mut self, conn: usize, input: Vec<u8>, room: usize) {
        let protocol = Protocol::Rtmp;
        self.sayings.push(Saying { conn, input, room, protocol, millis: 0 });
    }

    /// A client of HTTP that will ask for this. Its socket takes `room` bytes.
    fn client(&mut self, path: &str, room: usize) -> usize {
        self.scripts.push(Scripted::new());
        let conn = self.scripts.len() - 1;
        let input = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        let protocol = Protocol::Http(Surface { playback: true, status: false, is_local: true });
        self.sayings.push(Saying { conn, input, room, protocol, millis: 0 });
        conn
    }

    fn wait_ms(&mut self, millis: u64) {
        if let Some(last) = self.sayings.last_mut() {
            last.millis += millis;
        }
    }

    /// Lets everything be said, and returns what is accounted and what was allocated (bytes).
    fn run(&mut self) -> (i64, i64) {
        let sayings = std::mem::take(&mut self.sayings);
        let before = self.accounted();
        self.ids.reserve(self.scripts.len());
        let cost = measure(|| {
            for saying in &sayings {
                self.serve(saying);
            }
        });
        // What the scripts took of the memory of their sayings was given before.
        (self.accounted() - before, cost.bytes_current)
    }

    fn serve(&mut self, saying: &Saying) {
        let script = self.scripts[saying.conn].clone();
        {
            let script = &mut *script.0.borrow_mut();
            (script.input, script.read, script.room) = (saying.input.clone(), 0, saying.room);
        }
        if saying.conn == self.ids.len() {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
            assert!(self.server.admits(peer.into(), self.now));
            self.ids.push(self.server.accept(script.clone(), peer, saying.protocol, self.now));
        }
        let id = self.ids[saying.conn];
        self.server.event(id, true, true, false);
        while self.server.has_work() {
            self.server.turn(&mut self.buffer, self.now);
        }
        self.now = self.now.plus_millis(saying.millis);
        script.0.borrow_mut().input = Vec::new();
        assert!(self.server.conn(id).is_some(), "connection {} stays", saying.conn);
    }

    fn accounted(&self) -> i64 {
        let kernel = self.server.len() * limits::SOCKET_BYTES;
        (self.server.memory_bytes() - kernel) as i64
    }

    /// Lets everything be said and holds what is accounted against what was allocated.
    fn assert_accounted(&mut self, kind: &str) {
        let (accounted, allocated) = self.run();
        println!("{kind}: {accounted} bytes accounted, {allocated} allocated");
        let difference = (accounted - allocated).abs();
        assert!(
            difference <= allocated / 4,
            "{kind}: {accounted} accounted, {allocated} allocated"
        );
    }
}

/// Handshake, connect and one message stream, with a chunk size that cuts no message.
fn opening() -> Vec<u8> {
    let app = wire::object(&[("app", wire::string("live"))]);
    let messages = [
        wire::control(SET_CHUNK_SIZE, 60_000),
        wire::command("connect", 1.0, &[app]),
        wire::command("createStream", 2.0, &[wire::null()]),
    ];
    [wire::handshake(), messages.map(|message| message.chunks()).concat()].concat()
}

fn opening_with(name: &str, key: &str) -> Vec<u8> {
    [opening(), stream_command(name, key, 1).chunks()].concat()
}

/// A message of a label and a size.
fn frame(label: &str, len: usize, timestamp: u32) -> Vec<u8> {
    let (kind, payload) = payload(label, len);
    Message::new(6, kind, payload).on(1).at(timestamp).chunks_of(60_000)
}

fn pause(on: bool) -> Vec<u8> {
    let pause = [wire::null(), wire::boolean(on), wire::number(0.0)];
    wire::command("pause", 0.0, &pause).on(1).chunks()
}

/// A power of two, so that the tables that double are full.
const MANY: usize = 2048;

#[test]
fn idle_sessions_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    for _ in 0..MANY {
        bench.connection(opening());
    }
    bench.assert_accounted("idle sessions");
}

#[test]
fn sessions_that_were_refused_are_accounted_while_they_leave() {
    let mut bench = Bench::new();
    for _ in 0..MANY {
        bench.connection([opening(), stream_command("publish", "a b/../c", 1).chunks()].concat());
    }
    bench.assert_accounted("leaving sessions");
}

#[test]
fn publishers_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    for index in 0..32 {
        let publisher = bench.connection(opening_with("publish", &format!("cam{index}")));
        let frames = (0..50).flat_map(|number| {
            frame(
                &format!("{}{number}", if number % 25 == 0 { "K" } else { "i" }),
                5000,
                number * 40,
            )
        });
        bench.say(publisher, frames.collect());
        let unfinished = frame("i100", 100_000, 2000);
        bench.say(publisher, unfinished[..90_000].to_vec());
    }
    bench.assert_accounted("publishers");
}

#[test]
fn players_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    let publisher = bench.connection(opening_with("publish", "cam"));
    for _ in 1..MANY {
        bench.connection(opening_with("play", "cam"));
    }
    bench.say(publisher, [frame("K0", 5000, 0), frame("i1", 5000, 40)].concat());
    bench.assert_accounted("players");
}

#[test]
fn sessions_that_wait_for_streams_of_their_own_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    for index in 0..MANY {
        bench.connection(opening_with("play", &format!("{index}-{}", "n".repeat(300))));
    }
    bench.assert_accounted("waiting sessions");
}

#[test]
fn paused_players_are_accounted_as_allocated_while_headers_change() {
    let mut bench = Bench::new();
    let publisher = bench.connection(opening_with("publish", "cam"));
    for number in 0..256 {
        let header = frame(&format!("V{number}"), 100_000, number * 2000);
        bench.say(publisher, [header, frame(&format!("K{number}"), 10, number * 2000)].concat());
        bench.connection([opening_with("play", "cam"), pause(true)].concat());
    }
    bench.assert_accounted("paused players");
}

#[test]
fn headers_that_players_have_in_part_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    let publisher = bench.connection(opening_with("publish", "cam"));
    for number in 0..32 {
        let header = frame(&format!("V{number}"), 100_000, number * 2000);
        bench.say(publisher, [header, frame(&format!("K{number}"), 10, number * 2000)].concat());
        let player = bench.connection(opening());
        bench.say_with_room(player, stream_command("play", "cam", 1).chunks(), 20_000);
    }
    bench.assert_accounted("headers");
}

#[test]
fn messages_that_players_have_in_part_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    let publisher = bench.connection(opening_with("publish", "cam"));
    for _ in 0..64 {
        let player = bench.connection(opening_with("play", "cam"));
        bench.say_with_room(player, pause(false), 20_000);
    }
    bench.say(publisher, frame("K0", 1_000_000, 0));
    bench.assert_accounted("half-sent messages");
}

/// The sequence headers and the first frames of a stream with both media.
fn stream() -> Vec<u8> {
    let mut reader = FlvReader::new(include_bytes!("../vectors/ffmpeg5_h264_aac.flv")).unwrap();
    let mut chunks = Vec::new();
    for _ in 0..50 {
        let Some(tag) = reader.next_tag().unwrap() else { break };
        let (stream_id, kind) = match tag.media {
            MediaKind::Video => (6, VIDEO),
            MediaKind::Audio => (4, AUDIO),
            MediaKind::Data => continue,
        };
        let message = Message::new(stream_id, kind, tag.payload.to_vec()).on(1);
        chunks.extend(message.at(tag.timestamp).chunks_of(60_000));
    }
    chunks
}

#[test]
fn players_over_http_that_have_messages_in_part_are_accounted_as_allocated() {
    for path in ["/live/cam.flv", "/live/cam.mp4"] {
        let mut bench = Bench::new();
        let publisher = bench.connection([opening_with("publish", "cam"), stream()].concat());
        bench.run();
        for _ in 1..MANY {
            bench.client(path, 3000);
        }
        bench.say(publisher, frame("K0", 1_000_000, 10_000));
        bench.assert_accounted(path);
    }
}

#[test]
fn requests_that_wait_and_those_who_watch_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    bench.connection([opening_with("publish", "cam"), stream()].concat());
    bench.client("/live/cam/index.m3u8", usize::MAX);
    bench.run();
    for index in 2..MANY {
        bench.client(&format!("/live/cam/video.m3u8?token={index}"), usize::MAX);
    }
    bench.assert_accounted("held requests");
}

/// Each player holds the block of another message, long after it has left the tape.
#[test]
fn blocks_that_only_players_hold_are_accounted_as_allocated() {
    let mut bench = Bench::new();
    let publisher = bench.connection(opening_with("publish", "cam"));
    for number in 0..32 {
        let player = bench.connection(opening());
        bench.say_with_room(player, stream_command("play", "cam", 1).chunks(), 2000);
        bench.say(publisher, frame(&format!("K{number}"), 200_000, number * 40));
        bench.wait_ms(400);
    }
    bench.assert_accounted("lent blocks");
    // They hold them still when their stream is over.
    bench.say(
        publisher,
        wire::command("deleteStream", 0.0, &[wire::null(), wire::number(1.0)]).chunks(),
    );
    let accounted = bench.accounted();
    let (changed, freed) = bench.run();
    assert!((changed - freed).abs() <= accounted / 8, "{changed} accounted, {freed} freed");
}

#[cfg(target_os = "linux")]
thread_local! {
    /// The memory files that the server was given.
    static FILES: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

#[cfg(target_os = "linux")]
fn watched_file() -> io::Result<File> {
    let file = crate::world::memory_file()?;
    let watched = file.try_clone()?;
    FILES.with_borrow_mut(|files| files.push(watched));
    Ok(file)
}

#[cfg(target_os = "linux")]
#[test]
fn memory_files_are_accounted_as_they_are_long() {
    let mut bench = Bench::new();
    let segments = crate::world::segments().expect("there are memory files");
    let open = watched_file;
    bench
        .server
        .set_segments(Some(tiderace::stream::segment::SegmentSettings { open, ..segments }));
    let publisher = bench.connection(opening_with("publish", "cam"));
    for _ in 0..2 {
        bench.connection(opening_with("play", "cam"));
    }
    for number in 0..100 {
        bench.say(publisher, frame(&format!("K{number}"), 50_000, number * 40));
    }
    let (accounted, allocated) = bench.run();
    let lens = FILES.with_borrow(|files| {
        files.iter().map(|file| file.metadata().expect("an open file").len()).sum::<u64>()
    }) as i64;
    println!("memory files: {accounted} accounted, {allocated} allocated, {lens} in files");
    assert!(lens > 4_000_000);
    assert!((accounted - allocated - lens).abs() <= (allocated + lens) / 4);
}
