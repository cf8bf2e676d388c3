//! The site: requests and responses, players over HTTP and WebSocket, who may see what, deadlines.

use std::time::Duration;

use serde_json::Value;
use tiderace::config::{Absent, Settings};
use tiderace::media::flv::FlvReader;
use tiderace::media::{MediaKind, flv};
use tiderace::server::reason::CloseReason;
use tiderace::server::web::{ApiToken, Surface};

use crate::frames::{self, publish};
use crate::wire::Message;
use crate::world::{ClientHandle, World};

pub(crate) const ALL: Surface = Surface { playback: true, status: true, is_local: true };
const PUBLIC: Surface = Surface { is_local: false, ..ALL };
pub(crate) const TOKEN: &str = "0123456789abcdef";
/// The key of the example in RFC 6455, section 1.3, and its answer.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) fn world() -> World {
    World::new(Settings::default())
}

/// A response with its body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end..].to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The stable code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request on a new connection and returns what has come so far.
pub(crate) fn ask(world: &mut World, surface: Surface, request: &str) -> Response {
    let client = world.connect_http(surface);
    world[client].send_raw(request.as_bytes());
    world.run();
    Response::of(world[client].received())
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
}

pub(crate) fn with(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\n{fields}\r\n")
}

/// Opens a player over HTTP that has sent its request.
pub(crate) fn viewer(world: &mut World, path: &str) -> ClientHandle {
    let client = world.connect_http(ALL);
    world[client].send_raw(get(path).as_bytes());
    world.run();
    client
}

/// A stream with video and audio, of which a player sees a picture at once.
pub(crate) fn live(world: &mut World) -> ClientHandle {
    let publisher = world.publisher("cam");
    publish(world, publisher, "V0 A0 K1 a1 i2", 0);
    publisher
}

/// The labels of the tags in FLV bytes.
pub(crate) fn labels_of(file: &[u8]) -> String {
    let mut reader = FlvReader::new(file).expect("an FLV header");
    let mut labels = Vec::new();
    while let Ok(Some(flv::Tag { media, payload, .. })) = reader.next_tag() {
        let kind = match media {
            MediaKind::Audio => crate::wire::AUDIO,
            MediaKind::Video => crate::wire::VIDEO,
            MediaKind::Data => crate::wire::DATA,
        };
        labels.push(frames::label(&Message::new(4, kind, payload.to_vec())));
    }
    labels.join(" ")
}

#[test]
fn a_player_gets_the_header_with_its_tracks_and_then_the_newest_picture() {
    let mut world = world();
    let publisher = live(&mut world);
    let player = viewer(&mut world, "/live/cam.flv");
    publish(&mut world, publisher, "i3 a3", 40);
    let response = Response::of(world[player].received());
    assert_eq!(response.status, 200, "{}", response.head);
    assert!(response.head.contains("Content-Type: video/x-flv\r\n"), "{}", response.head);
    assert!(response.head.contains("Connection: close\r\n"), "{}", response.head);
    assert_eq!(&response.body[..13], b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
    assert_eq!(labels_of(&response.body), "A0 V0 K1 a1 i2 i3 a3");
}

#[test]
fn other_urls_of_a_stream_lead_to_it() {
    let mut world = world();
    live(&mut world);
    for path in
        ["/live/cam.live.flv", "/flv?app=live&stream=cam", "/live/c%61m.flv", "//live//cam.flv"]
    {
        let player = viewer(&mut world, path);
        let response = Response::of(world[player].received());
        assert_eq!(response.status, 200, "{path}: {}", response.head);
        assert_eq!(labels_of(&response.body), "A0 V0 K1 a1 i2", "{path}");
    }
}

#[test]
fn the_header_names_the_only_medium_of_a_stream_after_a_second() {
    let mut world = world();
    let publisher = world.publisher("cam");
    let player = viewer(&mut world, "/live/cam.flv");
    publish(&mut world, publisher, "V0 K1", 0);
    assert!(world[player].received().is_empty(), "sound may still come");
    world.advance_ms(1000);
    publish(&mut world, publisher, "i2", 1000);
    let response = Response::of(world[player].received());
    assert_eq!(response.body[4], 1, "video alone");
    assert_eq!(labels_of(&response.body), "V0 K1 i2");
}

#[test]
fn a_player_waits_for_a_stream_and_is_answered_once_it_begins() {
    let mut world = world();
    let player = viewer(&mut world, "/live/cam.flv");
    world.advance(Duration::from_secs(60));
    assert!(world[player].received().is_empty() && !world[player].is_closed());
    live(&mut world);
    let response = Response::of(world[player].received());
    assert_eq!((response.status, &*labels_of(&response.body)), (200, "A0 V0 K1 a1 i2"));
}

#[test]
fn a_stream_that_does_not_come_in_time_or_may_not_be_waited_for_is_not_found() {
    for (absent, wait_ms) in [(Absent::Wait, 500), (Absent::Refuse, 0)] {
        let mut settings = Settings::default();
        settings.play.absent = absent;
        settings.play.wait_ms = wait_ms;
        let mut world = World::new(settings);
        let player = viewer(&mut world, "/live/cam.flv");
        world.advance_ms(500);
        let response = Response::of(world[player].received());
        assert_eq!(response.status, 404, "{absent:?}: {}", response.head);
        assert!(world[player].is_finished(), "{absent:?}");
    }
}

#[test]
fn the_response_ends_with_the_stream_after_its_last_message() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 1000;
    let mut world = World::new(settings);
    let publisher = live(&mut world);
    let player = viewer(&mut world, "/live/cam.flv");
    publish(&mut world, publisher, "i3", 40);
    world[publisher].finish();
    world.advance_ms(999);
    assert!(!world[player].is_finished(), "the publisher may return");
    world.advance_ms(1);
    assert!(world[player].is_finished());
    let response = Response::of(world[player].received());
    assert_eq!(labels_of(&response.body), "A0 V0 K1 a1 i2 i3");
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::StreamEnded), 1);
}

#[test]
fn a_publisher_that_returns_goes_on_in_the_same_response() {
    let mut world = world();
    let publisher = live(&mut world);
    let player = viewer(&mut world, "/live/cam.flv");
    world[publisher].finish();
    world.advance_ms(500);
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V1 A1 K5 a5", 0);
    let response = Response::of(world[player].received());
    assert_eq!(labels_of(&response.body), "A0 V0 K1 a1 i2 V1 A1 K5 a5");
}

#[test]
fn rfc_6455_a_websocket_player_gets_each_tag_as_a_message() {
    let mut world = world();
    let publisher = live(&mut world);
    let player = world.connect_http(ALL);
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\nOrigin: http://localhost:3000\r\n"
    );
    world[player].send_raw(with("GET", "/live/cam.flv", &upgrade).as_bytes());
    world.run();
    // A masked ping between two messages.
    world[player].send_raw(b"\x89\x82\0\0\0\0hi");
    publish(&mut world, publisher, "i3", 40);
    let response = Response::of(world[player].received());
    assert_eq!(response.status, 101, "{}", response.head);
    assert!(response.head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")));
    let (mut rest, mut file, mut pongs) = (&response.body[..], Vec::new(), 0);
    while let [first, len, ..] = *rest {
        let (head, len) = match len {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            len => (2, usize::from(len)),
        };
        match first {
            0x82 => file.extend_from_slice(&rest[head..head + len]),
            0x8a => pongs += usize::from(&rest[head..head + len] == b"hi"),
            other => panic!("{other:x}"),
        }
        rest = &rest[head + len..];
    }
    assert_eq!((labels_of(&file).as_str(), pongs), ("A0 V0 K1 a1 i2 i3", 1));
    // A masked close is answered, and ends the connection.
    world[player].send_raw(b"\x88\x82\0\0\0\0\x03\xe8");
    world.run();
    assert!(world[player].received().ends_with(b"\x88\x02\x03\xe8"));
    assert!(world[player].is_finished());
}

#[test]
fn a_websocket_client_that_sends_pings_and_reads_nothing_costs_a_bounded_number_of_bytes() {
    let mut world = world();
    live(&mut world);
    world.socket_bytes = 1000;
    let player = world.connect_http(ALL);
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\n"
    );
    world[player].send_raw(with("GET", "/live/cam.flv", &upgrade).as_bytes());
    world.run();
    world[player].reads = false;
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    for _ in 0..1000 {
        world[player].send_raw(&ping);
        world.run();
    }
    let unsent = Settings::default().limits.socket_unsent_bytes_max;
    let held = world.conn(player).expect("it may still read").held_bytes(unsent);
    assert!(held < unsent + 5000, "{held} bytes");
    // Section 5.5.3 of RFC 6455: the newest ping is answered.
    world[player].send_raw(b"\x89\x86\0\0\0\0newest");
    world.run();
    world[player].reads = true;
    world.run();
    assert!(world[player].received().ends_with(b"\x8a\x06newest"));
}

/// The names of the boxes in `bytes`, which has whole boxes.
fn box_names(mut bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        names.push(String::from_utf8(rest[..4].to_vec()).unwrap());
        bytes = &bytes[u32::from_be_bytes(*len) as usize..];
    }
    names
}

/// Publishes the tags of a file by ffmpeg, in the order of the file, from `begin` on.
pub(crate) fn publish_film(
    world: &mut World,
    publisher: ClientHandle,
    media: &[MediaKind],
) -> usize {
    let file = include_bytes!("../vectors/ffmpeg5_h264_aac.flv");
    let mut reader = FlvReader::new(file).unwrap();
    let mut count = 0;
    while let Some(tag) = reader.next_tag().unwrap().filter(|_| count < 20) {
        if media.contains(&tag.media) {
            let (id, kind) = match tag.media {
                MediaKind::Audio => (4, crate::wire::AUDIO),
                _ => (6, crate::wire::VIDEO),
            };
            let message = Message::new(id, kind, tag.payload.to_vec());
            world.say(publisher, &[message.on(1).at(tag.timestamp)]);
            count += 1;
        }
    }
    count
}

pub(crate) const FILM: [MediaKind; 2] = [MediaKind::Video, MediaKind::Audio];

#[test]
fn an_mp4_begins_with_its_tracks_and_has_a_fragment_for_each_frame() {
    let mut world = world();
    let publisher = world.publishing("cam");
    publish_film(&mut world, publisher, &FILM);
    let player = viewer(&mut world, "/live/cam.mp4");
    let response = Response::of(world[player].received());
    assert_eq!(response.status, 200, "{}", response.head);
    let codecs = "Content-Type: video/mp4; codecs=\"avc1.";
    assert!(response.head.contains(codecs) && response.head.contains(",mp4a.40.2\"\r\n"));
    let names = box_names(&response.body);
    assert_eq!(names[..2], ["ftyp", "moov"]);
    // All but the two configurations are frames, and the first sound precedes the keyframe.
    assert_eq!(names[2..], ["moof", "mdat"].repeat(17));
}

#[test]
fn a_websocket_player_of_mp4_is_told_the_codecs_before() {
    let mut world = world();
    let publisher = world.publishing("cam");
    publish_film(&mut world, publisher, &FILM);
    let player = world.connect_http(ALL);
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\n"
    );
    world[player].send_raw(with("GET", "/live/cam.mp4", &upgrade).as_bytes());
    world.run();
    let response = Response::of(world[player].received());
    let (mut rest, mut messages) = (&response.body[..], Vec::new());
    while let [first, len, ..] = *rest {
        let (head, len) = match len {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            len => (2, usize::from(len)),
        };
        messages.push((first, &rest[head..head + len]));
        rest = &rest[head + len..];
    }
    let (opcode, text) = messages[0];
    let kind: Value = serde_json::from_slice(text).unwrap();
    assert_eq!((opcode, &kind["type"]), (0x81, &Value::from("mse")));
    assert!(kind["value"].as_str().unwrap().starts_with("video/mp4; codecs=\"avc1."));
    assert_eq!(box_names(messages[1].1), ["ftyp", "moov"]);
    for (opcode, fragment) in &messages[2..] {
        assert_eq!((*opcode, &*box_names(fragment).join(" ")), (0x82, "moof mdat"));
    }
}

#[test]
fn another_configuration_ends_an_mp4_and_begins_it_again_over_websocket() {
    let mut world = world();
    let publisher = world.publishing("cam");
    publish_film(&mut world, publisher, &FILM);
    let player = viewer(&mut world, "/live/cam.mp4");
    let file = include_bytes!("../vectors/ffmpeg5_h264_aac.flv");
    let mut reader = FlvReader::new(file).unwrap();
    let mut tags = std::iter::from_fn(|| reader.next_tag().unwrap());
    let mut header = tags.find(|tag| tag.media == MediaKind::Video).unwrap().payload.to_vec();
    // Another level, which needs another decoder.
    header[8] += 1;
    world.say(publisher, &[Message::new(6, crate::wire::VIDEO, header).on(1).at(5000)]);
    assert!(world[player].is_finished());
}

#[test]
fn a_stream_that_mp4_does_not_carry_is_refused_in_words() {
    let mut world = world();
    let publisher = world.publishing("cam");
    // Speex, as the legacy header names it.
    for number in 0..3_u32 {
        let message = Message::new(4, crate::wire::AUDIO, vec![0xb6, 0x36, number as u8]);
        world.say(publisher, &[message.on(1).at(number * 26)]);
    }
    world.advance_ms(1000);
    let response = ask(&mut world, ALL, &get("/live/cam.mp4"));
    assert_eq!((response.status, response.code()), (406, "not_carried".to_owned()));
}

#[test]
fn a_player_that_lags_skips_to_the_newest_picture_and_never_gets_a_part_of_a_tag() {
    let mut world = world();
    let publisher = live(&mut world);
    world.socket_bytes = 1000;
    let player = viewer(&mut world, "/live/cam.flv");
    world[player].reads = false;
    for second in 1..9 {
        let (key, inter) = (10 * second, 10 * second + 1);
        frames::publish_sized(&mut world, publisher, &format!("K{key}"), second * 1000, 3000);
        frames::publish_sized(&mut world, publisher, &format!("i{inter}"), second * 1000, 3000);
        world.advance_ms(1000);
    }
    world[player].reads = true;
    world.run();
    let response = Response::of(world[player].received());
    let labels = labels_of(&response.body);
    assert!(labels.ends_with("V0 K80 i81"), "{labels}");
    assert!(!labels.contains("K40"), "{labels}");
}

#[test]
fn requests_on_one_connection_are_answered_in_order_one_at_a_time() {
    let mut world = world();
    let client = world.connect_http(ALL);
    world[client].send_raw([get("/healthz"), get("/nowhere"), get("/readyz")].concat().as_bytes());
    world.run();
    let received = String::from_utf8(world[client].received().to_vec()).unwrap();
    let statuses: Vec<_> =
        received.match_indices("HTTP/1.1 ").map(|(at, _)| &received[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200"], "{received}");
    assert!(!world[client].is_finished(), "the connection is kept");
    assert!(received.ends_with("ready\n"), "{received}");
}

#[test]
fn a_client_that_asks_for_it_is_left_after_one_response() {
    let mut world = world();
    let client = world.connect_http(ALL);
    world[client].send_raw(with("GET", "/healthz", "Connection: close\r\n").as_bytes());
    world.run();
    let response = Response::of(world[client].received());
    assert_eq!((response.status, &response.body[..]), (200, &b"ok\n"[..]));
    assert!(world[client].is_finished());
    assert_eq!(world.conn(client).map(|conn| conn.is_closing()), Some(true));
}

#[test]
fn head_has_the_length_and_no_body() {
    let mut world = world();
    let response = ask(&mut world, ALL, &with("HEAD", "/healthz", ""));
    assert!(response.head.contains("Content-Length: 3\r\n"), "{}", response.head);
    assert!(response.body.is_empty());
    assert_eq!(ask(&mut world, ALL, &with("HEAD", "/live/cam.flv", "")).status, 404);
    live(&mut world);
    for path in ["/live/cam.flv", "/events"] {
        let response = ask(&mut world, ALL, &with("HEAD", path, ""));
        assert_eq!(response.status, 200, "{path}");
        // The body of a GET would have no end.
        assert!(!response.head.contains("Content-Length"), "{}", response.head);
    }
    for path in ["/", "/page.js", "/metrics", "/api/v1/server", "/api/v1/openapi.json", "/readyz"] {
        let [get, head] =
            ["GET", "HEAD"].map(|method| ask(&mut world, ALL, &with(method, path, "")));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let has_length = |head: &str| head.contains("Content-Length: ");
        assert!(has_length(&get.head) && has_length(&head.head), "{path}");
    }
    assert_eq!(world.server.stats().plays, 0, "nothing is played");
}

#[test]
fn a_client_that_has_the_version_is_sent_no_body() {
    let mut world = world();
    live(&mut world);
    for path in ["/page.css", "/page.js", "/api/v1/openapi.json"] {
        let client = viewer(&mut world, path);
        let bytes = world[client].received().len();
        let first = Response::of(world[client].received());
        let tag = first.head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
        let again = with("GET", path, &format!("If-None-Match: \"x\", W/{tag}\r\n"));
        world[client].send_raw(again.as_bytes());
        world.run();
        let known = Response::of(&world[client].received()[bytes..]);
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        assert!(known.head.contains(&format!("ETag: {tag}\r\n")), "{}", known.head);
        let is_described =
            ["\nContent-Length", "\nContent-Type"].iter().any(|f| known.head.contains(f));
        assert!(!is_described, "{path}: {}", known.head);
        let other = with("GET", path, "If-None-Match: \"x\"\r\n");
        assert_eq!(ask(&mut world, ALL, &other).status, 200, "{path}");
    }
    // What has no version is never kept.
    for path in ["/", "/metrics", "/api/v1/server", "/healthz"] {
        let response = ask(&mut world, ALL, &with("GET", path, "If-None-Match: *\r\n"));
        assert_eq!(response.status, 200, "{path}");
        assert!(response.head.contains("Cache-Control: no-store\r\n"), "{path}");
    }
}

#[test]
fn malformed_bytes_get_a_status_and_the_end_of_the_connection() {
    let mut world = world();
    for (bytes, status) in [
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        ("\u{16}\u{3}\u{1}", 400),
    ] {
        let client = world.connect_http(ALL);
        world[client].send_raw(bytes.as_bytes());
        world.run();
        assert_eq!(Response::of(world[client].received()).status, status, "{bytes:?}");
        assert!(world[client].is_finished(), "{bytes:?}");
    }
    assert_eq!(world.closed(CloseReason::BadRequest), 0, "they may read the reason");
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::BadRequest), 3);
}

#[test]
fn slow_heads_and_idle_connections_have_deadlines_that_bytes_do_not_move() {
    let mut world = world();
    let slow = world.connect_http(ALL);
    let idle = world.connect_http(ALL);
    world[idle].send_raw(get("/healthz").as_bytes());
    for _ in 0..9 {
        world[slow].send_raw(b"G");
        world.advance_ms(1000);
    }
    let silent = world.connect_http(ALL);
    assert!(!world[slow].is_finished());
    world.advance_ms(1000);
    assert!(world[slow].is_finished(), "10 s from accept");
    let told = Response::of(world[slow].received());
    assert_eq!((told.status, told.code()), (408, "request_timeout".to_owned()));
    world.advance_ms(49_999);
    assert!(!world[idle].is_finished());
    assert!(world[silent].is_closed() && world[silent].received().is_empty(), "nothing was asked");
    // A second request that is not completed has its own deadline.
    world[idle].send_raw(b"GET / HT");
    world.advance_ms(9_000);
    world[idle].send_raw(b"T");
    world.advance_ms(999);
    assert!(!world[idle].is_finished());
    world.advance_ms(1);
    assert!(world[idle].is_finished());
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::HttpTimeout), 3);
}

#[test]
fn a_response_that_is_not_taken_as_a_whole_ends_the_connection() {
    let mut world = world();
    live(&mut world);
    world.socket_bytes = 100;
    let client = world.connect_http(ALL);
    world[client].reads = false;
    world[client].send_raw(get("/api/v1/streams").as_bytes());
    for _ in 0..29 {
        world.advance_ms(1000);
        // A byte now and then is not enough.
        world[client].read(1);
        world.run();
    }
    assert!(!world[client].is_closed());
    world.advance_ms(2000);
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::HttpTimeout), 1);
}

#[test]
fn names_of_other_sites_are_refused_on_a_loopback_address() {
    let mut settings = Settings::default();
    settings.http.hosts = vec![tiderace::config::HostName::new("media.example").unwrap()];
    let mut world = World::new(settings);
    live(&mut world);
    for (host, path, is_let_in) in [
        ("localhost", "/live/cam.flv", true),
        ("LOCALHOST.:8080", "/healthz", true),
        ("127.0.0.1:8080", "/healthz", true),
        ("[::1]:8080", "/api/v1/server", true),
        ("Media.Example", "/api/v1/server", true),
        ("evil.example", "/live/cam.flv", false),
        ("evil.example", "/healthz", false),
        ("localhost.evil.example", "/api/v1/server", false),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let status = ask(&mut world, ALL, &request).status;
        assert_eq!(status, if is_let_in { 200 } else { 421 }, "{host} {path}");
    }
    let request = "GET /live/cam.flv HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(ask(&mut world, PUBLIC, request).status, 200, "a public stream has any name");
}

#[test]
fn pages_of_other_origins_read_streams_on_public_addresses_alone() {
    let mut world = world();
    live(&mut world);
    let mut from = |surface, origin: &str| {
        let fields = format!("Origin: {origin}\r\n");
        ask(&mut world, surface, &with("GET", "/live/cam.flv", &fields))
    };
    let allowed = |response: &Response| response.head.contains("Access-Control-Allow-Origin: *");
    let public = from(PUBLIC, "https://player.example");
    assert!(public.status == 200 && allowed(&public), "{}", public.head);
    let own = from(ALL, "http://localhost:3000");
    assert!(own.status == 200 && allowed(&own), "{}", own.head);
    for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
        let other = from(ALL, origin);
        assert!(other.status == 403 && !allowed(&other), "{origin}: {}", other.head);
    }
}

#[test]
fn nothing_changes_without_the_token_or_by_a_page_of_another_origin() {
    let mut world = world();
    let publisher = live(&mut world);
    let id = ask(&mut world, ALL, &get("/api/v1/streams")).json()["streams"][0]["id"].clone();
    let path = format!("/api/v1/streams/{}", id.as_str().unwrap());
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let end = |world: &mut World, fields: &str| {
        let response = ask(world, ALL, &with("DELETE", &path, fields));
        (response.status, if response.body.is_empty() { String::new() } else { response.code() })
    };
    assert_eq!(end(&mut world, &bearer), (403, "no_token_configured".to_owned()));
    world.server.set_token(ApiToken::new(TOKEN));
    assert_eq!(end(&mut world, ""), (401, "token_required".to_owned()));
    for wrong in ["0123456789abcdeF", "0123456789abcde", ""] {
        let fields = format!("Authorization: Bearer {wrong}\r\n");
        assert_eq!(end(&mut world, &fields), (401, "token_required".to_owned()), "{wrong}");
    }
    for origin in [
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:8080\r\n",
    ] {
        let fields = format!("{bearer}{origin}");
        assert_eq!(end(&mut world, &fields), (403, "cross_origin".to_owned()), "{origin}");
    }
    assert!(world.server.hub().find("live/cam").is_some_and(|stream| stream.is_live()));
    assert_eq!(end(&mut world, &bearer).0, 204);
    assert!(world[publisher].is_finished());
    // Nobody watched it, so it is gone.
    assert_eq!(end(&mut world, &format!("{bearer}Sec-Fetch-Site: same-origin\r\n")).0, 404);
}

#[test]
fn a_client_that_closes_its_own_connection_is_answered_once() {
    let mut world = world();
    world.server.set_token(ApiToken::new(TOKEN));
    let client = viewer(&mut world, "/api/v1/connections");
    let before = world[client].received().len();
    let list = Response::of(world[client].received()).json();
    let id = list["connections"][0]["id"].as_str().unwrap();
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    let kick = with("POST", &format!("/api/v1/connections/{id}/kick"), &fields);
    world[client].send_raw(kick.as_bytes());
    world.run();
    let response = Response::of(&world[client].received()[before..]);
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert!(world[client].is_finished());
}

#[test]
fn on_other_addresses_nothing_is_shown_without_the_token() {
    let mut world = world();
    for (path, status) in
        [("/api/v1/server", 403), ("/metrics", 403), ("/healthz", 200), ("/readyz", 200)]
    {
        assert_eq!(ask(&mut world, PUBLIC, &get(path)).status, status, "{path}");
    }
    world.server.set_token(ApiToken::new(TOKEN));
    assert_eq!(ask(&mut world, PUBLIC, &get("/metrics")).status, 401);
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(&mut world, PUBLIC, &with("GET", "/metrics", &fields)).status, 200);
    let hidden = Surface { status: false, ..ALL };
    assert_eq!(ask(&mut world, hidden, &with("GET", "/metrics", &fields)).status, 404);
    let no_players = Surface { playback: false, ..ALL };
    assert_eq!(ask(&mut world, no_players, &get("/live/cam.flv")).status, 404);
}

#[test]
fn a_token_that_can_be_guessed_is_none() {
    assert!(ApiToken::new(TOKEN).is_some() && ApiToken::new(&format!("{TOKEN}\r\n")).is_some());
    for text in ["", "0123456789abcde", "0123456789abcd f", "0123456789abcdef\n0123456789abcdef"] {
        assert!(ApiToken::new(text).is_none(), "{text:?}");
    }
    assert_eq!(format!("{:?}", ApiToken::new(TOKEN).unwrap()), "ApiToken");
}

#[test]
fn the_api_describes_streams_and_connections() {
    let mut world = world();
    live(&mut world);
    let player = viewer(&mut world, "/live/cam.flv");
    let streams = ask(&mut world, ALL, &get("/api/v1/streams?name=live/cam")).json();
    let stream = &streams["streams"][0];
    assert_eq!(stream["name"], "live/cam");
    assert_eq!(stream["state"], "live");
    assert_eq!(stream["players"]["flv"], 1);
    let id = stream["id"].as_str().unwrap();
    let one = ask(&mut world, ALL, &get(&format!("/api/v1/streams/{id}"))).json();
    assert_eq!(one["id"], stream["id"]);
    let connections = ask(&mut world, ALL, &get("/api/v1/connections")).json();
    let states: Vec<_> = connections["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["protocol"].as_str().unwrap(), c["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states[..2], [("rtmp", "publishing"), ("http", "playing")]);
    world[player].finish();
    world.run();
    for path in ["/api/v1/streams/7-7", "/api/v1/connections/0-1", "/api/v1/streams/x", "/api/v1/x"]
    {
        assert_eq!(ask(&mut world, ALL, &get(path)).status, 404, "{path}");
    }
    assert_eq!(ask(&mut world, ALL, &with("PUT", "/api/v1/server", "")).status, 405);
}

#[test]
fn a_list_comes_in_pages_that_skip_and_repeat_nothing() {
    let mut world = world();
    let publishers: Vec<_> = (0..5).map(|n| world.publisher(&format!("cam{n}"))).collect();
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/streams?limit=2{cursor}");
        let page = ask(&mut world, ALL, &get(&path)).json();
        let found = page["streams"].as_array().unwrap();
        names.extend(found.iter().map(|stream| stream["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(names.len(), publishers.len());
    assert_eq!(names, ["live/cam0", "live/cam1", "live/cam2", "live/cam3", "live/cam4"]);
    for query in ["limit=0", "limit=1001", "limit=x", "after=x"] {
        let status = ask(&mut world, ALL, &get(&format!("/api/v1/streams?{query}"))).status;
        assert_eq!(status, 422, "{query}");
    }
}

#[test]
fn metrics_come_in_the_format_that_is_accepted() {
    let mut world = world();
    live(&mut world);
    let text = |response: &Response| String::from_utf8(response.body.clone()).unwrap();
    let prometheus = ask(&mut world, ALL, &get("/metrics"));
    assert!(prometheus.head.contains("text/plain; version=0.0.4"), "{}", prometheus.head);
    let lines = text(&prometheus);
    assert!(lines.contains("tiderace_streams{state=\"live\"} 1"), "{lines}");
    assert!(lines.contains("tiderace_publishes_total 1"), "{lines}");
    assert!(lines.contains("tiderace_stream_players{stream=\"live/cam\"} 0"), "{lines}");
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let open = ask(&mut world, ALL, &with("GET", "/metrics", accept));
    assert!(open.head.contains("application/openmetrics-text"), "{}", open.head);
    assert!(text(&open).ends_with("# EOF\n"));
}

#[test]
fn names_of_streams_stay_text_on_the_page() {
    let mut world = world();
    world.publisher("<script>alert(1)</script>");
    let page = ask(&mut world, ALL, &get("/"));
    let html = String::from_utf8(page.body.clone()).unwrap();
    assert!(html.contains("live/&lt;script&gt;alert(1)&lt;"), "{html}");
    assert!(!html.contains("<script>"), "{html}");
    assert!(page.head.contains("Content-Security-Policy: default-src 'none';"), "{}", page.head);
    for (path, media_type) in [("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let asset = ask(&mut world, ALL, &get(path));
        assert!(asset.status == 200 && asset.head.contains(media_type), "{path}");
    }
}

#[test]
fn the_page_says_in_words_how_a_stream_does_and_who_plays_it() {
    let mut world = world();
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V0 A0 K1 a1", 0);
    world.player("cam");
    viewer(&mut world, "/live/cam.flv");
    for second in 1..=10 {
        world.advance_ms(1000);
        publish(&mut world, publisher, if second < 10 { "i2" } else { "K3" }, second * 1000);
    }
    let page = ask(&mut world, ALL, &get("/"));
    let html = String::from_utf8(page.body).unwrap();
    let shown = [
        "A keyframe comes every 10 s: players start late.",
        // The sound has stopped.
        "Audio is 10000 ms behind video.",
        "<dt>players</dt><dd>1 RTMP, 1 FLV</dd>",
        // Four samples of two seconds are over, and one is being taken.
        "<polyline points=\"290,",
        "<dt>wakeups</dt>",
        "<td>FLV</td>",
    ];
    for text in shown {
        assert!(html.contains(text), "{text} is not in {html}");
    }
}

#[test]
fn the_page_asks_for_the_token_where_there_is_one_and_names_what_it_controls() {
    let mut world = world();
    live(&mut world);
    let html = |world: &mut World| String::from_utf8(ask(world, ALL, &get("/")).body).unwrap();
    assert!(!html(&mut world).contains("<form"));
    world.server.set_token(ApiToken::new(TOKEN));
    let html = html(&mut world);
    assert!(html.contains("<form id=\"token\">") && !html.contains(TOKEN), "{html}");
    for (list, key) in [("connections", "data-kick"), ("streams", "data-end")] {
        let path = format!("/api/v1/{list}");
        let id = ask(&mut world, ALL, &get(&path)).json()[list][0]["id"].clone();
        let expected = format!("{key}={id}");
        assert!(html.contains(&expected), "{expected} is not in {html}");
    }
}

#[test]
fn an_open_page_is_sent_a_change_each_second_and_nothing_wakes_the_server_without_one() {
    let mut world = world();
    let page = world.connect_http(ALL);
    world[page].send_raw(get("/events").as_bytes());
    world.run();
    let events = |world: &World| {
        let text = String::from_utf8(world[page].received().to_vec()).unwrap();
        text.matches("data: ").count()
    };
    assert_eq!(events(&world), 0);
    world.advance_ms(3000);
    assert_eq!(events(&world), 3);
    world.advance(Duration::from_secs(3600));
    assert!(!world[page].is_finished(), "a page may be open for long");
    // A page that takes nothing costs one event.
    world[page].reads = false;
    world.advance_ms(5000);
    world[page].finish();
    world[page].reads = true;
    world.run();
    assert_eq!(world.server.next_deadline(), None);
    assert!(world.server.is_empty());
}

#[test]
fn the_level_of_the_log_and_a_reload_are_asked_for() {
    let mut world = world();
    world.server.set_token(ApiToken::new(TOKEN));
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let reload = ask(&mut world, ALL, &with("POST", "/api/v1/reload", &bearer));
    assert_eq!((reload.status, world.server.take_reload()), (202, true));
    assert!(!world.server.take_reload());
    let body = "{\"level\": \"loud\"}";
    let fields = format!("{bearer}Content-Length: {}\r\n", body.len());
    let request = with("PUT", "/api/v1/log-level", &fields) + body;
    assert_eq!(ask(&mut world, ALL, &request).status, 422);
}

#[test]
fn a_drain_ends_players_and_lets_the_rest_of_a_response_out() {
    let mut world = world();
    live(&mut world);
    let player = viewer(&mut world, "/live/cam.flv");
    let idle = world.connect_http(ALL);
    world[idle].send_raw(get("/readyz").as_bytes());
    world.run();
    world.server.drain(world.now());
    world.run();
    assert!(world[player].is_finished() && world[idle].is_finished());
}

#[test]
fn an_idle_connection_holds_little() {
    let mut world = world();
    let client = world.connect_http(ALL);
    world[client].send_raw(get("/healthz").as_bytes());
    world.run();
    let conn = world.conn(client).expect("it is kept");
    // The box of the HTTP side; an RTMP session has its name and chunk streams there.
    assert!(conn.held_bytes(0) <= 200, "{} bytes", conn.held_bytes(0));
    assert_eq!(world.server.conns_bytes(), conn.held_bytes(0));
}
