//! Players over HTTP and WebSocket: what they may ask for, what is left out or changed for players
//! in browsers, their clock, and the forms of a body.

use tiderace::config::{Settings, Start};

use crate::web::{self, ALL, KEY, Response, ask, get, labels_of, live, viewer, with};
use crate::wire::{AAC_HEADER, AUDIO, AVC_HEADER, DATA, Message, VIDEO};
use crate::world::{ClientHandle, World};

/// What a player has received as FLV, without the header of the file: kind, time and payload of
/// each tag.
fn tags_of(file: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    assert_eq!(&file[..3], b"FLV");
    let (mut rest, mut tags) = (&file[13..], Vec::new());
    while let [kind, s2, s1, s0, t2, t1, t0, t3, 0, 0, 0, body @ ..] = rest {
        let len = u32::from_be_bytes([0, *s2, *s1, *s0]) as usize;
        assert_eq!(body[len..len + 4], (len as u32 + 11).to_be_bytes(), "the size of the tag");
        tags.push((*kind, u32::from_be_bytes([*t3, *t2, *t1, *t0]), body[..len].to_vec()));
        rest = &body[len + 4..];
    }
    assert!(rest.is_empty(), "{} bytes of a tag", rest.len());
    tags
}

fn body_of(world: &World, player: ClientHandle) -> Vec<u8> {
    let response = Response::of(world[player].received());
    assert_eq!(response.status, 200, "{}", response.head);
    response.body
}

/// The payloads of audio and video that a player of `path` receives of a stream with `messages`.
fn payloads(messages: &[(u8, &[u8])], path: &str) -> Vec<Vec<u8>> {
    let mut world = web::world();
    let publisher = world.publishing("cam");
    let player = viewer(&mut world, path);
    for (index, (kind, payload)) in messages.iter().enumerate() {
        let message = Message::new(4, *kind, payload.to_vec());
        world.say(publisher, &[message.on(1).at(40 * index as u32)]);
    }
    world.advance_ms(1000);
    tags_of(&body_of(&world, player)).into_iter().map(|(_, _, payload)| payload).collect()
}

#[test]
fn a_player_may_leave_out_a_medium_and_its_header_does_not_name_it() {
    for (option, flags, labels) in [
        ("audio=0", 1, "V0 K1 i2 i3"),
        ("video=0", 4, "A0 a1 a3"),
        ("audio=1", 5, "A0 V0 K1 a1 i2 i3 a3"),
    ] {
        let mut world = web::world();
        let publisher = live(&mut world);
        let player = viewer(&mut world, &format!("/live/cam.flv?{option}"));
        crate::frames::publish(&mut world, publisher, "i3 a3", 40);
        let body = body_of(&world, player);
        assert_eq!((body[4], labels_of(&body)), (flags, labels.to_owned()), "{option}");
    }
}

#[test]
fn a_medium_that_is_not_wanted_is_not_waited_for() {
    let mut world = web::world();
    let publisher = world.publisher("cam");
    let player = viewer(&mut world, "/live/cam.flv?audio=0");
    crate::frames::publish(&mut world, publisher, "V0 K1", 0);
    assert_eq!(labels_of(&body_of(&world, player)), "V0 K1", "no second is waited for sound");
}

#[test]
fn a_wrong_option_is_refused_for_every_method_and_before_anything_is_played() {
    let mut world = web::world();
    live(&mut world);
    for path in
        ["/live/cam.flv?track=x", "/live/cam.mp4?track=1", "/flv?app=live&stream=cam&audio=2"]
    {
        let response = ask(&mut world, ALL, &get(path));
        assert_eq!((response.status, &*response.code()), (400, "bad_option"), "{path}");
        assert_eq!(ask(&mut world, ALL, &with("HEAD", path, "")).status, 400, "{path}");
    }
    assert_eq!(world.server.stats().plays, 0);
}

/// Two video tracks in one message each, sound in Enhanced AAC, and a message that ends the
/// decoding in mpegts.js: colour information.
const ENHANCED: [(u8, &[u8]); 8] = [
    (VIDEO, b"\x96\x00avc1\x00\x01\x64\x00\x1f"),
    (VIDEO, b"\x96\x00hvc1\x01\x01\x02"),
    (VIDEO, b"\x94hvc1\x02\x00\x09"),
    (AUDIO, b"\x90mp4a\x12\x10"),
    (VIDEO, b"\x96\x01avc1\x00\x00\x00\x28key"),
    (VIDEO, b"\x96\x01hvc1\x01\x00\x00\x00other"),
    (AUDIO, b"\x91mp4asound"),
    (VIDEO, b"\xa6\x03avc1\x00picture"),
];

#[test]
fn players_in_browsers_get_one_track_in_the_form_that_they_know() {
    let expected: [&[u8]; 5] = [
        b"\xaf\x00\x12\x10",
        b"\x17\x00\0\0\0\x01\x64\x00\x1f",
        b"\x17\x01\x00\x00\x28key",
        b"\xaf\x01sound",
        b"\x27\x01\0\0\0picture",
    ];
    assert_eq!(payloads(&ENHANCED, "/live/cam.flv"), expected);
}

#[test]
fn another_track_or_all_of_them_may_be_asked_for() {
    let expected: [&[u8]; 4] =
        [b"\x90hvc1\x01\x02", b"\xaf\x00\x12\x10", b"\x91hvc1\x00\x00\x00other", b"\xaf\x01sound"];
    let mut got = payloads(&ENHANCED, "/live/cam.flv?track=1");
    // Sound has no second track, so its only one is sent.
    got.sort();
    let mut sorted = expected.map(<[u8]>::to_vec);
    sorted.sort();
    assert_eq!(got, sorted);
    let mut all = payloads(&ENHANCED, "/live/cam.flv?track=all");
    let mut sent: Vec<_> = ENHANCED.iter().map(|(_, payload)| payload.to_vec()).collect();
    all.sort();
    sent.sort();
    assert_eq!(all, sent);
}

#[test]
fn metadata_does_not_say_which_media_a_stream_has() {
    let mut world = web::world();
    let publisher = world.publishing("cam");
    let config = |kind, head: &[u8]| Message::new(6, kind, head.to_vec()).on(1);
    let metadata = b"\x02\x00\x0aonMetaData\x08\0\0\0\x02\
        \0\x08hasAudio\x01\x01\0\x05width\0\x40\x94\0\0\0\0\0\0\0\0\x09";
    world.say(publisher, &[Message::new(4, DATA, metadata.to_vec()).on(1)]);
    world.say(
        publisher,
        &[config(VIDEO, b"\x17\0\0\0\0\x01"), config(VIDEO, b"\x17\x01\0\0\0\x65")],
    );
    let player = viewer(&mut world, "/live/cam.flv?audio=0");
    let (_, _, payload) = tags_of(&body_of(&world, player)).remove(0);
    let has = |name: &[u8]| payload.windows(name.len()).any(|window| window == name);
    assert!(has(b"width") && !has(b"hasAudio"), "{payload:?}");
}

#[test]
fn times_count_from_the_first_frame_of_the_stream_for_all_its_players() {
    let mut world = web::world();
    let publisher = world.publisher("cam");
    let first = viewer(&mut world, "/live/cam.flv");
    let begin = (1 << 31) - 40;
    crate::frames::publish(&mut world, publisher, "V0 A0 K1 a1", begin);
    crate::frames::publish(&mut world, publisher, "i2", begin + 40);
    let late = viewer(&mut world, "/live/cam.flv");
    crate::frames::publish(&mut world, publisher, "i3", begin + 80);
    for player in [first, late] {
        let tags = tags_of(&body_of(&world, player));
        let times: Vec<_> = tags.iter().map(|(_, time, _)| *time).collect();
        assert_eq!(times[times.len() - 2..], [40, 80]);
        assert!(times.iter().all(|time| *time <= 80), "{times:?}");
    }
}

#[test]
fn a_publisher_that_returns_goes_on_in_the_same_clock() {
    let mut world = web::world();
    let publisher = world.publisher("cam");
    crate::frames::publish(&mut world, publisher, "V0 A0 K1 a1", 70_000);
    let player = viewer(&mut world, "/live/cam.flv");
    crate::frames::publish(&mut world, publisher, "i2", 70_040);
    world[publisher].finish();
    world.advance_ms(500);
    let publisher = world.publisher("cam");
    crate::frames::publish(&mut world, publisher, "V1 A1 K5 a5", 0);
    let times: Vec<_> =
        tags_of(&body_of(&world, player)).iter().map(|(_, time, _)| *time).collect();
    assert_eq!(times[..5], [0, 0, 0, 0, 40]);
    // The configurations have the times of their tracks, and the frames go on where they were.
    assert_eq!(times[5..], [40, 0, 540, 540]);
}

/// Publishes pictures for `days`, one in ten minutes, as a stream without players would go on.
fn publish_for_days(world: &mut World, publisher: ClientHandle, days: u32) -> u32 {
    const STEP_MS: u32 = 600_000;
    let mut timestamp = 0;
    while timestamp < days * 86_400_000 {
        timestamp += STEP_MS;
        world.advance_ms(u64::from(STEP_MS));
        crate::frames::publish(world, publisher, "K1", timestamp);
    }
    timestamp
}

#[test]
fn a_response_ends_before_its_times_exceed_the_signed_range_and_the_next_begins_at_zero() {
    let mut settings = Settings::default();
    settings.timeouts.publisher_silent_ms = 0;
    settings.timeouts.ping_ms = 0;
    let mut world = World::new(settings);
    let publisher = world.publisher("cam");
    crate::frames::publish(&mut world, publisher, "V0 A0 K1 a1", 0);
    let [flv, mp4] = ["/live/cam.flv", "/live/cam.mp4"].map(|path| viewer(&mut world, path));
    publish_for_days(&mut world, publisher, 24);
    let ended = |world: &World| [flv, mp4].map(|player| world[player].is_finished());
    assert!(!ended(&world)[0], "24 days have a place");
    let timestamp = 24 * 86_400_000;
    let mut later = timestamp;
    while later < 25 * 86_400_000 {
        later += 600_000;
        world.advance_ms(600_000);
        crate::frames::publish(&mut world, publisher, "K1", later);
    }
    assert_eq!(ended(&world), [true, true]);
    let tags = tags_of(&Response::of(world[flv].received()).body);
    let last = tags.iter().map(|(_, time, _)| *time).max().unwrap();
    assert!(last < 1 << 31, "{last}");
    let player = viewer(&mut world, "/live/cam.flv");
    let times = tags_of(&body_of(&world, player));
    assert!(times.iter().all(|(_, time, _)| *time < 86_400_000), "{times:?}");
}

/// The bytes of a chunked body, and whether it is complete (RFC 9112, section 7.1).
fn dechunked(mut chunked: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = chunked.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&chunked[..end]).unwrap(), 16).unwrap();
        let (chunk, rest) = chunked[end + 2..].split_at(len);
        body.extend_from_slice(chunk);
        chunked = rest.strip_prefix(b"\r\n").expect("the end of a chunk");
        if len == 0 {
            assert!(chunked.is_empty());
            return (body, true);
        }
    }
    (body, false)
}

#[test]
fn rfc_9112_a_chunked_body_has_the_same_bytes_and_an_end_of_its_own() {
    for path in ["/live/cam.flv", "/live/cam.flv?track=all&chunked=1", "/live/cam.mp4"] {
        let mut settings = Settings::default();
        settings.publish.linger_ms = 0;
        let mut world = World::new(settings);
        let publisher = world.publishing("cam");
        web::publish_film(&mut world, publisher, &web::FILM);
        let mark = if path.contains('?') { '&' } else { '?' };
        let [plain, chunked] = [path.to_owned(), format!("{path}{mark}chunked=1")]
            .map(|path| viewer(&mut world, &path));
        let other = path.contains("chunked");
        world[publisher].finish();
        world.advance_ms(2000);
        let head = |player: ClientHandle| Response::of(world[player].received()).head;
        assert_eq!(head(plain).contains("Transfer-Encoding: chunked\r\n"), other, "{path}");
        assert!(head(chunked).contains("Transfer-Encoding: chunked\r\n"), "{path}");
        let (body, is_complete) = dechunked(&body_of(&world, chunked));
        assert!(is_complete, "{path}");
        let expected = body_of(&world, plain);
        let expected = if other { dechunked(&expected).0 } else { expected };
        assert!(body.len() > 1000 && body == expected, "{path}: {} bytes", body.len());
    }
}

#[test]
fn a_chunked_body_without_a_last_chunk_was_cut() {
    let mut world = web::world();
    let publisher = live(&mut world);
    let player = viewer(&mut world, "/live/cam.flv?chunked=1");
    crate::frames::publish(&mut world, publisher, "i3", 40);
    let (body, is_complete) = dechunked(&body_of(&world, player));
    assert!(!is_complete);
    assert_eq!(labels_of(&body), "A0 V0 K1 a1 i2 i3");
}

#[test]
fn clients_without_chunks_get_none() {
    let mut world = web::world();
    let publisher = live(&mut world);
    let old = ask(&mut world, ALL, "GET /live/cam.flv?chunked=1 HTTP/1.0\r\n\r\n");
    assert_eq!((old.status, labels_of(&old.body)), (200, "A0 V0 K1 a1 i2".to_owned()));
    assert!(!old.head.contains("Transfer-Encoding"), "{}", old.head);
    let player = websocket_viewer(&mut world, "/live/cam.flv?chunked=1");
    crate::frames::publish(&mut world, publisher, "i3", 40);
    let response = Response::of(world[player].received());
    assert_eq!((response.status, &response.body[..5]), (101, &b"\x82\x0dFLV"[..]));
}

#[test]
fn an_mp4_has_the_tracks_whose_codecs_were_asked_for() {
    for (query, expected, tracks) in [
        ("", "avc1.64000A,mp4a.40.2", 2),
        ("?codecs=avc1.640029,hvc1.1.6.L153.B0", "avc1.64000A", 1),
        ("?codecs=mp4a.40.5,opus", "mp4a.40.2", 1),
        ("?video=0", "mp4a.40.2", 1),
    ] {
        let mut world = web::world();
        let publisher = world.publishing("cam");
        web::publish_film(&mut world, publisher, &web::FILM);
        let player = viewer(&mut world, &format!("/live/cam.mp4{query}"));
        let response = Response::of(world[player].received());
        let codecs =
            response.head.split("codecs=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(
            codecs.map(str::to_ascii_lowercase),
            Some(expected.to_ascii_lowercase()),
            "{query}"
        );
        let found = response.body.windows(4).filter(|name| name == b"trak").count();
        assert_eq!(found, tracks, "{query}");
    }
    let mut world = web::world();
    let publisher = world.publishing("cam");
    web::publish_film(&mut world, publisher, &web::FILM);
    let response = ask(&mut world, ALL, &get("/live/cam.mp4?codecs=hvc1,opus"));
    assert_eq!((response.status, &*response.code()), (406, "not_carried"));
}

/// Another configuration than [`AAC_HEADER`].
const OTHER_AAC_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

/// The configurations of both media.
fn headers() -> [Message; 2] {
    [Message::new(6, VIDEO, AVC_HEADER), Message::new(4, AUDIO, AAC_HEADER)].map(|m| m.on(1))
}

/// Opens a player of `path` over WebSocket.
fn websocket_viewer(world: &mut World, path: &str) -> ClientHandle {
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\n"
    );
    let player = world.connect_http(ALL);
    world[player].send_raw(with("GET", path, &upgrade).as_bytes());
    world.run();
    player
}

#[test]
fn players_are_counted_by_what_they_receive() {
    let mut world = web::world();
    let publisher = world.publishing("cam");
    web::publish_film(&mut world, publisher, &web::FILM);
    let _rtmp = world.player("cam");
    for name in ["cam.flv", "cam.mp4"] {
        viewer(&mut world, &format!("/live/{name}"));
        websocket_viewer(&mut world, &format!("/live/{name}"));
    }
    let streams = ask(&mut world, ALL, &get("/api/v1/streams")).json();
    let players = serde_json::json!({ "rtmp": 1, "flv": 2, "fmp4": 2, "hls": 0 });
    assert_eq!(streams["streams"][0]["players"], players);
}

/// Expects an initialization segment before the frames with `label`.
#[track_caller]
fn expect_moov_before(received: &[u8], label: &str) {
    let place = |label: &str| received.windows(label.len()).position(|b| b == label.as_bytes());
    assert!(place("moov").is_some() && place("moov") < place(label), "{received:x?}");
}

/// A keyframe, and a frame of sound, that contain `label`.
fn frames(label: &str, at: u32) -> [Message; 2] {
    let picture = [&[0x17, 1, 0, 0, 0, 0, 0, 0, 5, 0x65][..], label.as_bytes()].concat();
    let sound = [&[0xaf, 1][..], label.as_bytes()].concat();
    [Message::new(6, VIDEO, picture), Message::new(4, AUDIO, sound)].map(|m| m.on(1).at(at))
}

fn has(body: &[u8], label: &str) -> bool {
    body.windows(label.len()).any(|bytes| bytes == label.as_bytes())
}

/// The initialization segment describes all frames of an MP4, so none may be older than it.
#[test]
fn an_mp4_begins_after_the_newest_configuration() {
    let mut world = web::world();
    let publisher = world.publishing("cam");
    world.say(publisher, &headers());
    world.say(publisher, &frames("old!", 0));
    let early = viewer(&mut world, "/live/cam.mp4");
    world.say(publisher, &[Message::new(4, AUDIO, OTHER_AAC_HEADER).on(1).at(40)]);
    world.say(publisher, &frames("mid!", 40)[1..]);
    let late = viewer(&mut world, "/live/cam.mp4");
    world.say(publisher, &frames("new!", 80));
    let (early, late) = (body_of(&world, early), body_of(&world, late));
    let labels = |body: &[u8]| ["old!", "mid!", "new!"].map(|label| has(body, label));
    assert_eq!(labels(&early), [true, false, false], "it has ended with its configuration");
    assert_eq!(labels(&late), [false, false, true], "it waits for the next keyframe");
}

#[test]
fn an_mp4_over_websocket_waits_for_all_configurations_of_the_next_publisher() {
    let mut world = web::world();
    let publisher = world.publishing("cam");
    world.say(publisher, &headers());
    world.say(publisher, &frames("old!", 0));
    let player = websocket_viewer(&mut world, "/live/cam.mp4");
    let began = world[player].received().len();
    assert!(has(world[player].received(), "old!"));
    world[publisher].finish();
    world.run();
    let publisher = world.publishing("cam");
    world.say(publisher, &headers()[..1]);
    world.say(publisher, &frames("mid!", 40)[..1]);
    assert_eq!(world[player].received().len(), began, "sound may follow");
    world.say(publisher, &headers()[1..]);
    world.say(publisher, &frames("new!", 80));
    expect_moov_before(&world[player].received()[began..], "new!");
}

/// Without readers nothing is recorded, so both configurations have the same place on the tape.
#[test]
fn an_mp4_over_websocket_notices_a_configuration_before_its_first_frame() {
    let mut settings = Settings::default();
    settings.play.start = Start::NextKeyframe;
    let mut world = World::new(settings);
    let publisher = world.publishing("cam");
    world.say(publisher, &headers());
    world.say(publisher, &frames("old!", 0));
    let player = websocket_viewer(&mut world, "/live/cam.mp4");
    let began = world[player].received().len();
    world.say(publisher, &[Message::new(4, AUDIO, OTHER_AAC_HEADER).on(1).at(40)]);
    world.say(publisher, &frames("new!", 80));
    expect_moov_before(&world[player].received()[began..], "new!");
}

/// A sequence header of VP9 has no size. The keyframe has: 352x288 (VP9 bitstream, section 6.2).
#[test]
fn an_mp4_waits_for_the_keyframe_that_has_the_size_of_its_pictures() {
    let mut world = web::world();
    let publisher = world.publishing("cam");
    let player = viewer(&mut world, "/live/cam.mp4?audio=0");
    let config = b"\x90vp09\x01\0\0\0\0\x0a\x82\x02\x02\x02\0\0";
    let keyframe = b"\x91vp09\x82\x49\x83\x42\x00\x15\xf0\x11\xf6\x00";
    world.say(publisher, &[Message::new(6, VIDEO, config.to_vec()).on(1)]);
    assert!(world[player].received().is_empty(), "no size is known");
    world.say(publisher, &[Message::new(6, VIDEO, keyframe.to_vec()).on(1).at(40)]);
    let body = body_of(&world, player);
    let size = [0, 0, 0, 0, 0, 0, 1, 96, 1, 32];
    assert!(body.windows(10).any(|bytes| bytes[6..] == size[6..]), "{body:x?}");
}
