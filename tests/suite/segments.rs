//! Memory files: many players are sent from them, and get the bytes that one alone gets.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;

use tiderace::config::Settings;
use tiderace::limits::{
    ACCEPTS_PER_TURN_MAX, FILES_CLOSED_PER_TURN_MAX, SEGMENT_BYTES, WRITE_SLICES_MAX,
};
use tiderace::server::accepting::{AcceptError, Acceptor, Listen};
use tiderace::server::peer::Protocol;
use tiderace::server::peer_address::PeerAddress;
use tiderace::stream::ids::ConnId;
use tiderace::stream::segment::{FileRun, SegmentSettings, Segments};
use tiderace::time::Time;

use crate::frames::{labels, publish, publish_sized};
use crate::socket::{FileAnswer, Link, MemoryTransport, is_about_sockets};
use crate::web;
use crate::world::{World, memory_file, segments};

const FRAMES: &str = "M1 V1 A1 K1 a1 i2 a2 i3 K4 a4 i5";

/// What each of `players` is sent, and how many bytes of that from files.
fn sent(players: usize) -> Vec<(Vec<u8>, u64)> {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let players: Vec<_> = (0..players).map(|_| world.player("cam")).collect();
    publish_sized(&mut world, publisher, FRAMES, 1000, 3000);
    let received = |player| (world[player].received().to_vec(), world[player].bytes_from_files());
    players.into_iter().map(received).collect()
}

#[test]
fn players_get_the_same_bytes_from_files_as_from_memory() {
    is_about_sockets();
    let alone = sent(1);
    assert_eq!(alone[0].1, 0, "one player is not worth a file");
    for (bytes, from_files) in sent(3) {
        assert_eq!(bytes, alone[0].0);
        assert!(from_files > 20_000, "{from_files} bytes from files");
    }
}

/// What each of `count` players over HTTP or WebSocket is sent of the same stream, and how many
/// bytes of that from files.
fn sent_over_http(count: usize, request: &str) -> Vec<(Vec<u8>, u64)> {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let players: Vec<_> = (0..count).map(|_| world.connect_http(web::ALL)).collect();
    for player in &players {
        world[*player].send_raw(request.as_bytes());
    }
    world.run();
    publish_sized(&mut world, publisher, FRAMES, 1000, 3000);
    publish_sized(&mut world, publisher, "i6 a6 K7 a7", 1040, 3000);
    let received = |player| (world[player].received().to_vec(), world[player].bytes_from_files());
    players.into_iter().map(received).collect()
}

#[test]
fn players_over_http_get_the_same_bytes_from_files_of_their_framing_as_from_memory() {
    is_about_sockets();
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\n\
         Sec-WebSocket-Version: 13\r\n",
        web::KEY
    );
    let of_browser = web::with("GET", "/live/cam.flv", &upgrade);
    for request in [web::get("/live/cam.flv"), of_browser] {
        let alone = sent_over_http(1, &request);
        assert_eq!(alone[0].1, 0, "one player is not worth a file");
        for (bytes, from_files) in sent_over_http(3, &request) {
            assert!(bytes == alone[0].0, "{request}");
            assert!(from_files > 20_000, "{from_files} bytes from files: {request}");
        }
    }
}

#[test]
fn a_player_that_receives_something_of_its_own_is_sent_that_from_memory() {
    let alone = sent_over_http(1, &web::get("/live/cam.flv?audio=0&chunked=1"));
    for (bytes, from_files) in sent_over_http(3, &web::get("/live/cam.flv?audio=0&chunked=1")) {
        assert!(bytes == alone[0].0);
        assert_eq!(from_files, 0);
    }
}

#[test]
fn files_of_every_framing_count_and_are_given_up_with_their_messages() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let rtmp = [(); 2].map(|()| world.player("cam"));
    let flv = [(); 2].map(|()| web::viewer(&mut world, "/live/cam.flv"));
    publish_sized(&mut world, publisher, "V1 A1 K1 a1 i2", 1000, 3000);
    let held = world.server.memory_bytes();
    publish_sized(&mut world, publisher, "i3 i4 i5 i6", 1040, 30_000);
    assert_eq!(world.server.hub().files(), 2, "one in each framing");
    let grown = world.server.memory_bytes() - held;
    assert!(grown >= 3 * 4 * 30_000, "{grown} bytes: on the tape and in two files");
    for player in flv {
        assert!(world[player].bytes_from_files() > 0);
        world[player].reset();
    }
    for player in rtmp {
        assert_eq!(labels(&world, player), "V1 A1 K1 a1 i2 i3 i4 i5 i6");
        world[player].reset();
    }
    world[publisher].reset();
    world.run();
    assert_eq!((world.server.hub().files(), world.server.hub().discarded_files()), (0, 0));
}

#[test]
fn a_system_that_refuses_to_send_from_files_costs_no_player_over_http_a_byte() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let players = [(); 3].map(|()| web::viewer(&mut world, "/live/cam.flv"));
    for player in players {
        world[player].answer_files_with(FileAnswer::Error(ErrorKind::Unsupported));
    }
    publish_sized(&mut world, publisher, FRAMES, 1000, 3000);
    for player in players {
        let body = web::Response::of(world[player].received()).body;
        let labels = web::labels_of(&body);
        assert!(labels.ends_with("K1 a1 i2 a2 i3 K4 a4 i5"), "{labels}");
        assert_eq!(world[player].bytes_from_files(), 0);
    }
    assert!(!has_files(&world) && world.server.hub().files() == 0);
}

#[test]
fn a_newcomer_joins_from_files_and_gets_what_the_others_got_from_there_on() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let [first, _] = [(); 2].map(|()| world.player("cam"));
    publish(&mut world, publisher, FRAMES, 1000);
    let late = world.player("cam");
    assert_eq!(labels(&world, late), "M1 A1 V1 K4 a4 i5");
    assert!(world[late].bytes_from_files() > 0);
    publish(&mut world, publisher, "i6 a6", 1040);
    assert_eq!(labels(&world, late), "M1 A1 V1 K4 a4 i5 i6 a6");
    assert!(labels(&world, first).ends_with("K4 a4 i5 i6 a6"));
}

#[test]
fn without_a_file_to_be_had_players_are_sent_from_memory() {
    let mut world = World::new(Settings::default());
    world.server.set_segments(Some(SegmentSettings {
        open: || Err(ErrorKind::OutOfMemory.into()),
        players_min: 1,
        run_bytes_min: 1,
        files_max: usize::MAX,
    }));
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, FRAMES, 1000);
    assert_eq!(labels(&world, player), FRAMES);
    assert_eq!(world[player].bytes_from_files(), 0);
}

#[test]
fn a_system_that_refuses_to_send_from_files_costs_no_player_a_byte_and_is_asked_once() {
    is_about_sockets();
    let answers = [
        ErrorKind::PermissionDenied,
        ErrorKind::Unsupported,
        ErrorKind::InvalidInput,
        ErrorKind::OutOfMemory,
    ];
    let answers = answers.map(FileAnswer::Error).into_iter().chain([FileAnswer::Nothing]);
    for answer in answers {
        let mut world = World::new(Settings::default());
        let publisher = world.publisher("cam");
        let players = [(); 3].map(|()| world.player("cam"));
        for player in players {
            world[player].answer_files_with(answer);
        }
        publish_sized(&mut world, publisher, FRAMES, 1000, 3000);
        let late = world.player("cam");
        publish(&mut world, publisher, "i6 a6", 1040);
        for player in players {
            assert_eq!(labels(&world, player), format!("{FRAMES} i6 a6"), "{answer:?}");
            assert_eq!(world[player].bytes_from_files(), 0);
        }
        assert_eq!(labels(&world, late), "M1 A1 V1 K4 a4 i5 i6 a6");
        assert_eq!(world[late].bytes_from_files(), 0, "{answer:?}: files are given up for good");
        let calls: usize = players.iter().map(|player| world[*player].file_calls()).sum();
        assert_eq!(calls, 1, "{answer:?}");
    }
}

#[test]
fn a_connection_that_breaks_while_it_is_sent_from_a_file_costs_the_others_nothing() {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let [broken, well, other] = [(); 3].map(|()| world.player("cam"));
    world[broken].answer_files_with(FileAnswer::Reset);
    publish_sized(&mut world, publisher, FRAMES, 1000, 3000);
    assert!(world.conn(broken).is_none());
    for player in [well, other] {
        assert_eq!(labels(&world, player), FRAMES);
        assert!(world[player].bytes_from_files() > 0);
    }
    assert!(has_files(&world));
}

fn has_files(world: &World) -> bool {
    world.server.hub().iter().any(|stream| stream.tape().has_segments())
}

/// A listening socket on which one connection waits behind errors.
struct Waiting {
    errors: Vec<AcceptError>,
    waiting: Option<MemoryTransport>,
}

impl Listen for Waiting {
    type Transport = MemoryTransport;

    fn protocol(&self) -> Protocol {
        Protocol::Rtmp
    }

    fn accept(&mut self) -> Result<(MemoryTransport, PeerAddress), AcceptError> {
        if let Some(error) = self.errors.pop() {
            return Err(error);
        }
        let transport = self.waiting.take().ok_or(AcceptError::Empty)?;
        Ok((transport, SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)).into()))
    }

    fn register(&mut self, _: &mut MemoryTransport, _: ConnId) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> String {
        "a socket in memory".to_owned()
    }
}

#[test]
fn newcomers_get_the_descriptors_of_memory_files_and_players_miss_nothing() {
    let mut settings = Settings::default();
    settings.timeouts.publisher_silent_ms = 0;
    settings.timeouts.ping_ms = 0;
    let mut world = World::new(settings);
    let publisher = world.publisher("cam");
    let [first, second] = [(); 2].map(|()| world.player("cam"));
    publish(&mut world, publisher, FRAMES, 1000);
    assert!(has_files(&world));

    let transport = MemoryTransport(Link::open(1 << 16, None));
    let errors = vec![AcceptError::Exhausted(ErrorKind::OutOfMemory.into())];
    let mut listener = Waiting { errors, waiting: Some(transport) };
    let mut acceptor = Acceptor::default();
    acceptor.edge();
    let before = world.server.len();
    world.server.accept_from(&mut acceptor, &mut listener, Time::ZERO);
    assert_eq!(world.server.len(), before + 1);
    assert_eq!(acceptor.paused_until(), None, "there was no need to wait");
    assert!(!has_files(&world));

    publish(&mut world, publisher, "i6 a6", 1040);
    assert!(!has_files(&world), "or each newcomer would close them again");
    world.advance_ms(60_000);
    publish(&mut world, publisher, "i7 a7", 1080);
    for player in [first, second] {
        assert_eq!(labels(&world, player), format!("{FRAMES} i6 a6 i7 a7"));
    }
    assert!(has_files(&world), "what comes next lies in a new one");
}

#[test]
fn errors_of_the_network_in_accept_leave_the_memory_files_alone() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let _players = [(); 2].map(|()| world.player("cam"));
    publish(&mut world, publisher, FRAMES, 1000);
    let before = world.server.len();

    let transport = MemoryTransport(Link::open(1 << 16, None));
    let errors = vec![AcceptError::Died, AcceptError::Died];
    let mut listener = Waiting { errors, waiting: Some(transport) };
    let mut acceptor = Acceptor::default();
    acceptor.edge();
    world.server.accept_from(&mut acceptor, &mut listener, Time::ZERO);
    assert_eq!(world.server.len(), before + 1, "the next one in the queue is well");

    let refused = AcceptError::Refused(ErrorKind::PermissionDenied.into());
    let all_dead = iter::repeat_with(|| AcceptError::Died).take(ACCEPTS_PER_TURN_MAX);
    for errors in [vec![refused], all_dead.collect()] {
        listener.errors = errors;
        let mut acceptor = Acceptor::default();
        acceptor.edge();
        world.server.accept_from(&mut acceptor, &mut listener, Time::ZERO);
        assert!(acceptor.paused_until() > Some(Time::ZERO), "the loop does not spin");
    }
    assert!(has_files(&world));
}

#[test]
fn files_that_may_not_be_as_large_as_they_have_to_be_are_given_up_for_good() {
    let mut world = World::new(Settings::default());
    world.server.set_segments(Some(SegmentSettings {
        open: || Err(ErrorKind::FileTooLarge.into()),
        players_min: 1,
        run_bytes_min: 1,
        files_max: usize::MAX,
    }));
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    publish(&mut world, publisher, FRAMES, 1000);
    assert_eq!(labels(&world, player), FRAMES);
    assert!(!world.server.has_segments());
}

#[test]
fn memory_files_come_back_early_when_connections_end() {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let _players = [(); 2].map(|()| world.player("cam"));
    let idle = world.connect_only();
    publish(&mut world, publisher, FRAMES, 1000);
    let errors = vec![AcceptError::Exhausted(ErrorKind::OutOfMemory.into())];
    let mut listener = Waiting { errors, waiting: None };
    let mut acceptor = Acceptor::default();
    acceptor.edge();
    world.server.accept_from(&mut acceptor, &mut listener, world.now());
    world[idle].reset();
    world.run();
    publish(&mut world, publisher, "i6 a6", 1040);
    assert_eq!(world.server.hub().files(), 1);
}

#[test]
fn streams_have_no_more_memory_files_than_there_are_descriptors_for() {
    let mut world = World::new(Settings::default());
    world.server.set_segments(segments().map(|s| SegmentSettings { files_max: 2, ..s }));
    let keys = ["a", "b", "c"];
    let streams = keys.map(|key| (world.publisher(key), [(); 2].map(|()| world.player(key))));
    for (publisher, players) in streams {
        publish(&mut world, publisher, FRAMES, 1000);
        assert_eq!(labels(&world, players[0]), FRAMES);
    }
    assert_eq!(world.server.hub().files(), 2);
    world[streams[0].0].reset();
    streams[0].1.iter().for_each(|player| world[*player].reset());
    world.run();
    assert_eq!(world.server.hub().files(), 1);
    publish(&mut world, streams[2].0, "i6 a6", 1040);
    assert_eq!(world.server.hub().files(), 2);
}

#[test]
fn frames_that_wait_for_others_leave_with_one_call_when_the_window_is_over() {
    let mut settings = Settings::default();
    settings.play.merge_ms = 350;
    let mut world = World::new(settings);
    let publisher = world.publisher("cam");
    let player = world.player("cam");
    for label in ["V1", "K1", "i2", "i3"] {
        publish(&mut world, publisher, label, 0);
        world.advance_ms(100);
        assert_eq!(labels(&world, player), if label == "i3" { "V1 K1 i2 i3" } else { "" });
    }
    publish(&mut world, publisher, "i4", 0);
    world.advance_ms(349);
    assert_eq!(labels(&world, player), "V1 K1 i2 i3");
    let late = world.player("cam");
    assert_eq!(labels(&world, late), "V1 K1 i2 i3 i4", "who comes is shown all there is at once");
    world.advance_ms(1);
    assert_eq!(labels(&world, player), "V1 K1 i2 i3 i4");
}

#[test]
fn all_streams_together_write_to_files_in_a_turn_what_it_has_room_for() {
    const FRAME_BYTES: usize = SEGMENT_BYTES / 4 + 1;
    let mut settings = Settings::default();
    settings.play.merge_ms = 350;
    let mut world = World::new(settings);
    world.socket_bytes = 2 * SEGMENT_BYTES;
    let keys = ["a", "b", "c", "d", "e", "f"];
    let streams = keys.map(|key| (world.publisher(key), [(); 2].map(|()| world.player(key))));
    for (publisher, _) in &streams {
        publish_sized(&mut world, *publisher, "K1", 0, FRAME_BYTES);
    }
    assert_eq!(world.server.hub().files(), 0);
    world.advance_ms(350);
    assert_eq!(world.server.hub().files(), 3, "a fourth would be more than goes into a turn");
    for (_, [first, second]) in streams {
        assert_eq!((labels(&world, first), labels(&world, second)), ("K1".into(), "K1".into()));
    }
}

#[test]
fn memory_files_that_are_given_up_are_closed_over_turns_and_count_until_then() {
    const STREAMS: usize = 10;
    let mut settings = Settings::default();
    settings.timeouts.publisher_silent_ms = 0;
    let mut world = World::new(settings);
    world.server.set_segments(segments().map(|s| SegmentSettings { files_max: STREAMS, ..s }));
    let streams: Vec<_> = (0..STREAMS).map(|index| format!("cam{index}")).collect();
    let publishers: Vec<_> = streams.iter().map(|key| world.publisher(key)).collect();
    let players: Vec<_> = streams.iter().map(|key| [(); 2].map(|()| world.player(key))).collect();
    for publisher in &publishers {
        publish_sized(&mut world, *publisher, "V1 K1", 1000, 100_000);
    }
    let files = |world: &World| (world.server.hub().files(), world.server.hub().discarded_files());
    assert_eq!(files(&world), (STREAMS, 0));
    let held = world.server.memory_bytes();

    let errors = vec![AcceptError::Exhausted(ErrorKind::OutOfMemory.into())];
    let mut listener = Waiting { errors, waiting: None };
    let mut acceptor = Acceptor::default();
    acceptor.edge();
    world.server.accept_from(&mut acceptor, &mut listener, world.now());
    let mut discarded = STREAMS - FILES_CLOSED_PER_TURN_MAX;
    assert_eq!(files(&world), (0, discarded), "some descriptors are to be had at once");
    while discarded > 0 {
        let still_held = held - world.server.memory_bytes();
        assert!(still_held < (STREAMS - discarded + 1) * 200_100, "those that are open count");
        assert!(world.turn(), "the loop does not sleep until they are closed");
        let closed = discarded - world.server.hub().discarded_files();
        assert_eq!(closed, discarded.min(FILES_CLOSED_PER_TURN_MAX));
        discarded -= closed;
    }
    assert!(held - world.server.memory_bytes() >= STREAMS * 200_000);
    assert!(!world.turn());

    // Streams that end at once leave theirs likewise.
    world.advance_ms(60_000);
    for publisher in &publishers {
        publish_sized(&mut world, *publisher, "i2", 1040, 10_000);
    }
    assert_eq!(files(&world), (STREAMS, 0));
    players.iter().flatten().for_each(|player| world[*player].reset());
    publishers.iter().for_each(|publisher| world[*publisher].reset());
    let mut most = 0;
    while world.turn() {
        most = most.max(world.server.hub().discarded_files());
    }
    assert_eq!(most, STREAMS - FILES_CLOSED_PER_TURN_MAX);
    assert_eq!(files(&world), (0, 0));
}

const SETTINGS: SegmentSettings =
    SegmentSettings { open: memory_file, players_min: 1, run_bytes_min: 3, files_max: usize::MAX };

fn append(segments: &mut Segments, offset: u64, messages: &[&[u8]]) {
    segments.append(offset, messages.iter().copied(), &SETTINGS).unwrap();
}

fn read(run: FileRun<'_>) -> Vec<u8> {
    let mut bytes = vec![0; run.len];
    run.file.read_exact_at(&mut bytes, run.position).unwrap();
    bytes
}

#[test]
fn what_follows_lies_in_the_same_file_and_what_does_not_in_another() {
    let mut segments = Segments::default();
    append(&mut segments, 100, &[b"abc", b"de"]);
    append(&mut segments, 105, &[b"fgh"]);
    assert_eq!(segments.run(102, 108).map(read).unwrap(), b"cdefgh");
    append(&mut segments, 200, &[b"xyz"]);
    assert_eq!((segments.end(), segments.bytes()), (Some(203), 11));
    assert_eq!(segments.run(104, 203).map(read).unwrap(), b"efgh", "up to the end of its file");
    assert_eq!(segments.run(200, 203).map(read).unwrap(), b"xyz");
    for (from, to) in [(99, 105), (108, 200), (150, 203), (203, 210)] {
        assert!(segments.run(from, to).is_none(), "{from} to {to}");
    }
}

#[test]
fn a_run_that_is_not_worth_a_call_is_none() {
    let mut segments = Segments::default();
    append(&mut segments, 0, &[b"abcdef"]);
    assert!(segments.run(0, 3).is_some());
    assert!(segments.run(0, 2).is_none());
    assert!(segments.run(4, 6).is_none());
}

#[test]
fn a_full_file_is_followed_by_another() {
    let mut segments = Segments::default();
    let half = vec![7; SEGMENT_BYTES / 2 + 1];
    let len = half.len() as u64;
    (0..3).for_each(|index| append(&mut segments, index * len, &[&half]));
    assert_eq!(segments.run(len, 3 * len).unwrap().len as u64, len);
    segments.forget_before(2 * len - 1);
    assert_eq!(segments.bytes(), 3 * len);
    segments.forget_before(2 * len);
    assert_eq!(segments.bytes(), len);
}

#[test]
fn more_messages_than_one_call_takes_are_all_written() {
    let mut segments = Segments::default();
    let messages: Vec<_> = (0..=2 * WRITE_SLICES_MAX as u8).map(|n| [n]).collect();
    let slices = messages.iter().map(|message| &message[..]);
    segments.append(0, slices, &SETTINGS).unwrap();
    let len = messages.len() as u64;
    assert_eq!(segments.run(0, len).map(read).unwrap(), messages.concat());
}

#[test]
fn a_file_that_cannot_be_had_or_written_leaves_nothing_behind() {
    let refused = SegmentSettings { open: || Err(ErrorKind::OutOfMemory.into()), ..SETTINGS };
    let read_only = SegmentSettings { open: || File::open("/dev/null"), ..SETTINGS };
    for settings in [refused, read_only] {
        let mut segments = Segments::default();
        let result = segments.append(0, [&b"abc"[..]].into_iter(), &settings);
        assert!(result.is_err());
        assert_eq!((segments.end(), segments.bytes()), (None, 0));
    }
}
