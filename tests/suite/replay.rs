//! Recorded sessions of real programs, replayed into the server: whatever the bytes are cut
//! into, players get what the recording holds.

use std::env;

use tiderace::config::Settings;
use tiderace::rtmp::client::Purpose;

use crate::frames;
use crate::random::Random;
use crate::wire::{self, AUDIO, DATA, HANDSHAKE_BYTES, Message, VIDEO};
use crate::world::{ClientHandle, Split, World, client};

/// Recorded publishers with the names of their streams.
const PUBLISHERS: &[(&str, &str)] = &[
    ("ffmpeg5_publish_h264_aac", "cam"),
    ("ffmpeg9_publish_av1_flac", "av1"),
    ("ffmpeg9_publish_hevc_opus", "hevc"),
    ("ffmpeg9_publish_multitrack", "multi"),
    ("ffmpeg9_publish_opus_only", "opus"),
    ("ffmpeg9_publish_vp9_ac3", "vp9"),
    ("gst_rtmp2sink_publish", "gst2"),
    ("gst_rtmpsink_publish", "gst1"),
    ("obs29_publish", "obskey"),
];

/// Recorded players of `live/src`.
const PLAYERS: &[&str] =
    &["ffmpeg5_play", "ffmpeg9_play", "gst_rtmp2src_play", "rtmpdump_play", "vlc_play"];

#[test]
fn a_player_gets_what_a_recorded_publisher_sent_however_it_is_cut() {
    for (file, key) in PUBLISHERS {
        let session = recorded(file);
        let expected = sent(&session);
        assert!(expected.iter().filter(|m| m.kind != DATA).count() > 30, "{file} holds media");
        let whole = played(&session, key, Split::Whole, None);
        assert_same_media(file, &whole, &expected);
        for seed in 0..4 {
            let end = 64 << Random::new(seed).below(10);
            let split = Split::Random(Random::new(seed), end);
            assert!(played(&session, key, split, None) == whole, "{file}, seed {seed}");
        }
    }
}

#[test]
fn a_player_gets_the_same_of_a_recorded_publisher_byte_by_byte() {
    for (file, key) in PUBLISHERS {
        let mut session = recorded(file);
        session.truncate(50_000);
        let whole = played(&session, key, Split::Whole, None);
        assert!(played(&session, key, Split::Bytes(1), None) == whole, "{file}");
    }
}

#[test]
fn sockets_that_misbehave_change_nothing_for_a_player() {
    for (file, key) in PUBLISHERS {
        let session = recorded(file);
        let whole = played(&session, key, Split::Whole, None);
        for seed in 0..3 {
            let split = Split::Random(Random::new(seed), 10_000);
            assert!(played(&session, key, split, Some(seed)) == whole, "{file}, seed {seed}");
        }
    }
}

#[test]
fn a_player_that_joins_gets_headers_and_then_what_the_others_get() {
    for (file, key) in PUBLISHERS {
        let session = recorded(file);
        let has_video = sent(&session).iter().any(|message| message.kind == VIDEO);
        for part in 1..8 {
            let mut world = World::new(Settings::default());
            let early = world.player(key);
            let (before, after) = session.split_at(session.len() * part / 8);
            let publisher = replay(&mut world, before, Split::Whole);
            let late = world.player(key);
            world[publisher].send_raw(after);
            world.run();
            let (early, late) = (world[early].media(), world[late].media());
            let begin = late.iter().position(|message| begins(message, has_video));
            let (headers, frames) = late.split_at(begin.expect("it begins"));
            let from = early.iter().position(|message| *message == frames[0]);
            let expected = decodable_alone(&early[from.expect("the others get it")..]);
            assert!(frames == expected, "{file}, part {part}");
            let kinds: Vec<_> = headers.iter().map(|message| message.kind).collect();
            assert!(kinds.is_sorted_by_key(header_rank), "{file}, part {part}: {kinds:?}");
        }
    }
}

/// The place of a header among those that a newcomer gets: metadata, audio, video.
const fn header_rank(kind: &u8) -> u8 {
    match *kind {
        DATA => 0,
        AUDIO => 1,
        _ => 2,
    }
}

/// The messages without the video frames of a track that come before its first keyframe among
/// them. No recording has more than two video tracks.
fn decodable_alone<'a>(messages: &[&'a Message]) -> Vec<&'a Message> {
    let mut begun = [false; 2];
    let keep = |message: &&&Message| {
        if message.kind != VIDEO {
            return true;
        }
        let is_second = matches!(message.payload[..], [0x96 | 0xa6, ..]);
        let is_frame = matches!(message.payload[..], [0x27, 1, ..] | [0xa1 | 0xa3, ..])
            || matches!(message.payload[..], [0xa6, 1 | 3, ..]);
        let begun = &mut begun[usize::from(is_second)];
        *begun |= is_keyframe(message);
        *begun || !is_frame
    };
    messages.iter().filter(keep).copied().collect()
}

/// What the report says of each, behind its duration. No time passes here, so there is no bitrate.
const REPORTS: &[&str] = &[
    "H.264 High 1b 160x120 15 fps, AAC LC 44.1 kHz mono, GOP 1 s (15 frames), \
     audio 195 ms ahead of video",
    "AV1 Main 2.0 160x120 15 fps, FLAC 48 kHz mono, GOP 1 s (15 frames), \
     audio 67 ms ahead of video",
    "H.265 Main 1.0 160x120 15 fps, Opus 48 kHz mono, GOP 1 s (15 frames, 0.9 to 1 s), \
     audio 194 ms ahead of video",
    "H.264 Constrained Baseline 1.1 160x120 15 fps, AAC LC 48 kHz mono, 2 further tracks, \
     GOP 1 s (15 frames), audio 54 ms ahead of video (at most 64)",
    "Opus 48 kHz mono",
    "VP9 Profile 0 1.0 160x120 15 fps, AC-3 48 kHz mono, GOP 1 s (15 frames), \
     audio 38 ms ahead of video (at most 64)",
    "H.264 High 4:4:4 Predictive 1.0 160x120 15 fps, GOP 1 s (15 frames)",
    "H.264 High 4:4:4 Predictive 1.0 160x120 15 fps, GOP 1 s (15 frames)",
    "H.264 Constrained Baseline 1.1 320x240 10 fps, AAC LC 48 kHz stereo, GOP 25 s (250 frames), \
     audio 85 ms ahead of video (at most 98)",
];

#[test]
fn a_report_says_what_a_recorded_publisher_sent() {
    assert_eq!(PUBLISHERS.len(), REPORTS.len());
    for ((file, key), expected) in PUBLISHERS.iter().zip(REPORTS) {
        let mut world = World::new(Settings::default());
        replay(&mut world, &until_its_end(recorded(file)), Split::Whole);
        let stream = world.server.hub().find(&format!("live/{key}")).expect("it is published");
        let report = stream.report(world.now()).expect("it is live").to_string();
        assert_eq!(report, format!("0 s: {expected}"), "{file}");
    }
}

/// A keyframe in the old form, the enhanced one, and that of a second track.
fn is_keyframe(message: &Message) -> bool {
    matches!(message.payload[..], [0x17, 1, ..] | [0x91 | 0x93, ..] | [0x96, 1 | 3, ..])
}

/// Whether a player may begin with it: a keyframe, or any audio frame if there is no video.
fn begins(message: &Message, has_video: bool) -> bool {
    match message.kind {
        VIDEO => is_keyframe(message),
        AUDIO => !has_video && matches!(message.payload[..], [0xaf, 1, ..] | [0x91, ..]),
        _ => false,
    }
}

#[test]
fn recorded_players_get_media_from_a_recorded_publisher() {
    // The recorded publisher of `cam` plays the part of `src`: both names have three letters.
    let publish = replaced(&recorded("ffmpeg5_publish_h264_aac"), b"cam?", b"src?");
    let last = sent(&publish).last().expect("media").timestamp;
    for file in PLAYERS {
        for split in [Split::Whole, Split::Bytes(1), Split::Random(Random::new(7), 100)] {
            let mut world = World::new(Settings::default());
            let (before, after) = publish.split_at(publish.len() / 2);
            let publisher = replay(&mut world, before, Split::Whole);
            let player = replay(&mut world, &until_its_end(recorded(file)), split);
            world[publisher].send_raw(after);
            world.run();
            assert_eq!(world.server.stats().plays, 1, "{file} plays");
            let media = world[player].media();
            let first = |kind| media.iter().find(|m| m.kind == kind).map(|m| &m.payload[..2]);
            assert_eq!(first(VIDEO), Some(&[0x17, 0][..]), "{file}: the configuration is first");
            assert_eq!(first(AUDIO), Some(&[0xaf, 0][..]), "{file}: the configuration is first");
            assert!(media.iter().any(|m| m.payload.starts_with(&[0x17, 1])), "{file}: a keyframe");
            assert_eq!(media.last().map(|m| m.timestamp), Some(last), "{file} gets it all");
        }
    }
}

/// How often each recording is damaged; `TIDERACE_SEEDS` says otherwise.
const DAMAGES: u64 = 12;

#[test]
fn a_damaged_recording_costs_its_sender_alone() {
    let seeds = env::var("TIDERACE_SEEDS").ok().map(|seeds| seeds.parse().expect("a number"));
    let plays = PLAYERS.iter().map(|file| (*file, "src"));
    let (mut closed, mut stayed) = (0, 0);
    for (file, key) in PUBLISHERS.iter().copied().chain(plays) {
        let mut session = recorded(file);
        session.truncate(30_000);
        for seed in 0..seeds.unwrap_or(DAMAGES) {
            println!("{file}, seed {seed}");
            if is_closed_for(&damaged(&session, Random::new(seed)), key) {
                closed += 1;
            } else {
                stayed += 1;
            }
        }
    }
    assert!(closed > 20 && stayed > 20, "{closed} were closed, {stayed} stayed");
}

/// A session with bytes changed, left out, put in twice or set to what lengths and types are
/// made of.
fn damaged(session: &[u8], mut random: Random) -> Vec<u8> {
    let mut session = session.to_vec();
    // The first commands are where the fields lie close together.
    let near = HANDSHAKE_BYTES + 600;
    for _ in 0..1 + random.below(6) {
        let end = if random.one_in(3) { session.len() } else { near };
        let at = (HANDSHAKE_BYTES - 4 + random.below(end - HANDSHAKE_BYTES)).min(session.len() - 1);
        match random.below(5) {
            0 => session[at] ^= 1 << random.below(8),
            1 => session[at] = [0, 1, 0x7f, 0x80, 0xc0, 0xff][random.below(6)],
            2 => drop(session.remove(at)),
            3 => session.insert(at, session[at]),
            _ => session.truncate(at.max(near)),
        }
    }
    session
}

/// Whether the server closes who sends `session`. A stream beside it goes on, players of its own
/// get chunks that can be read, and nothing stays of it when it is gone.
fn is_closed_for(session: &[u8], key: &str) -> bool {
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("beside");
    let (beside, player) = (world.player("beside"), world.player(key));
    frames::publish(&mut world, publisher, "V1 K1", 0);
    let sender = replay(&mut world, session, Split::Whole);
    frames::publish(&mut world, publisher, "i2 a2", 40);
    let is_closed = world.conn(sender).is_none();
    world[sender].reset();
    world[player].finish();
    // Whoever takes a damaged name keeps its players for the linger time.
    world.advance_ms(20_000);
    assert_eq!(frames::labels(&world, beside), "V1 K1 i2 a2");
    assert_eq!((world.server.len(), world.server.hub().len()), (2, 1));
    is_closed
}

/// What a player has got in the end that was there before the publisher of `session`.
fn played(session: &[u8], key: &str, split: Split, faults: Option<u64>) -> Vec<Message> {
    let mut world = match faults {
        Some(seed) => World::with_faults(Settings::default(), seed),
        None => World::new(Settings::default()),
    };
    let player = world.drive(client(Purpose::Play { key: key.to_owned() }));
    world.run();
    let publisher = replay(&mut world, session, split);
    world.run();
    assert_eq!(world.server.stats().publishes, 1, "{key} is published");
    assert_eq!(world.server.stats().messages_dropped, 0);
    world[publisher].finish();
    world.run();
    world[player].media().into_iter().cloned().collect()
}

fn replay(world: &mut World, session: &[u8], split: Split) -> ClientHandle {
    let handle = world.connect();
    world[handle].split = split;
    world[handle].send_raw(session);
    world.run();
    handle
}

/// Audio, video and data that a recording holds.
fn sent(session: &[u8]) -> Vec<Message> {
    let mut reader = wire::Reader::behind_handshake();
    reader.read(session).into_iter().filter(Message::is_media).collect()
}

/// A player's session without how it ended, in the middle of the command that says so.
fn until_its_end(mut session: Vec<u8>) -> Vec<u8> {
    let end = session.windows(12).position(|window| window == b"deleteStream");
    session.truncate(end.unwrap_or(session.len()));
    session
}

/// Audio and video are the same in number, order, time and content; metadata is the same without
/// the call that wrapped it and what no live stream has.
fn assert_same_media(file: &str, played: &[Message], sent: &[Message]) {
    assert_eq!(played.len(), sent.len(), "{file}: messages");
    for (index, (played, sent)) in played.iter().zip(sent).enumerate() {
        assert_eq!(played.kind, sent.kind, "{file}: message {index}");
        if sent.kind == DATA && sent.payload.starts_with(&wire::string("@setDataFrame")) {
            let expected = wire::string("onMetaData");
            assert!(played.payload.starts_with(&expected), "{file}: message {index}");
            continue;
        }
        assert_eq!(played.timestamp, sent.timestamp, "{file}: message {index}");
        assert!(played.payload == sent.payload, "{file}: message {index}");
        assert_eq!(played.message_stream_id, 1, "{file}: message {index}");
    }
}

fn recorded(file: &str) -> Vec<u8> {
    wire::vector(&format!("captures/{file}.client.bin"))
}

/// The session with every `from` behind the handshake replaced by a `to` of the same length.
fn replaced(session: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut session = session.to_vec();
    for at in HANDSHAKE_BYTES..session.len() - from.len() {
        if session[at..].starts_with(from) {
            session[at..at + to.len()].copy_from_slice(to);
        }
    }
    session
}
