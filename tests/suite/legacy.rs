//! The codecs of the legacy tag headers beside H.264 and AAC: Sorenson, Screen, VP6, Nellymoser,
//! Speex, G.711, MP3, ADPCM and PCM (FLV 10.1, annex E.4). They have no header, so nobody waits
//! for one, and their keyframes are those that the frame type says.

use tiderace::config::{Duplicate, Settings};

use crate::wire::{self, AUDIO, Message, VIDEO, big, hex};
use crate::world::{ClientHandle, World};

/// Films with pictures of a GOP of five, and sound.
const FILMS: [&str; 3] = ["sorenson_mp3", "screen_nellymoser", "screen2_speex"];

/// Sound alone.
const SOUNDS: [&str; 7] =
    ["nellymoser16", "nellymoser8", "alaw", "mulaw", "adpcm", "pcm", "pcm_u8"];

/// What the report of each film and sound begins with, as ffprobe shows those that ffmpeg wrote.
const REPORTS: [&str; 16] = [
    "Sorenson H.263 96x64 10 fps, MP3 22.05 kHz mono",
    "Screen 128x96 10 fps, Nellymoser 22.05 kHz mono",
    "Screen 2 96x64 10 fps, Speex 16 kHz mono",
    "VP6 ",
    "VP6 with alpha ",
    "Nellymoser 16 kHz mono",
    "Nellymoser 8 kHz mono",
    "G.711 A-law 8 kHz mono",
    "G.711 µ-law 8 kHz mono",
    "ADPCM 11.025 kHz mono",
    "PCM 11.025 kHz mono",
    "PCM 11.025 kHz mono",
    "MP3 22.05 kHz mono",
    "Nellymoser 22.05 kHz mono",
    "Speex 16 kHz mono",
    "MP3 22.05 kHz mono",
];

/// Codec ids whose pictures have no packet type: Sorenson, Screen, VP6, VP6 with alpha, Screen 2.
const VIDEO_CODECS: [u8; 5] = [2, 3, 4, 5, 6];

/// Sound formats without a packet type.
const SOUND_FORMATS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 14];

/// The audio and video of a file that ffmpeg wrote (FLV 10.1, annex E.3).
fn tags(file: &str) -> Vec<Message> {
    let file = wire::vector(&format!("legacy/{file}.flv"));
    let (mut tags, mut rest) = (Vec::new(), &file[13..]);
    while let [kind, header @ ..] = rest {
        let length = big(&header[..3]) as usize;
        let (timestamp, high) = (big(&header[3..6]), u32::from(header[6]));
        let payload = &header[10..10 + length];
        if matches!(*kind, AUDIO | VIDEO) {
            tags.push(message(*kind, timestamp | high << 24, payload));
        }
        rest = &header[10 + length + 4..];
    }
    tags
}

fn message(kind: u8, timestamp: u32, payload: &[u8]) -> Message {
    let chunk_stream_id = if kind == VIDEO { 6 } else { 4 };
    Message::new(chunk_stream_id, kind, payload).on(1).at(timestamp)
}

/// What no program here writes: VP6 in its two forms, as annex E.4.3 lays it out, with a byte of
/// adjustment and, before the alpha picture, where that begins.
fn vp6(codec: u8) -> Vec<Message> {
    let picture = |number: u32| {
        let is_key = number.is_multiple_of(5);
        let frame_type = if is_key { 1 } else { 2 };
        let mut payload = vec![frame_type << 4 | codec, 0];
        if codec == 5 {
            payload.extend([0, 0, 8]);
        }
        // The first bit of a VP6 frame is 0 in a keyframe.
        payload.extend([if is_key { 0x78 } else { 0xf8 }, 0x46]);
        payload.extend(number.to_be_bytes());
        payload.resize(600, codec);
        message(VIDEO, number * 100, &payload)
    };
    (0..20).map(picture).collect()
}

/// All films with their names.
fn films() -> Vec<(String, Vec<Message>)> {
    let recorded = FILMS.map(|file| (file.to_owned(), tags(file)));
    let vp6 = [4, 5].map(|codec| (format!("VP6, codec {codec}"), vp6(codec)));
    recorded.into_iter().chain(vp6).collect()
}

/// All streams of sound with their names; that of MP3 at 8 kHz is MP3 under another format.
fn sounds() -> Vec<(String, Vec<Message>)> {
    let mut sounds: Vec<_> = SOUNDS.map(|file| (file.to_owned(), tags(file))).into();
    for (film, format) in [(0, None), (1, None), (2, None), (0, Some(14))] {
        let mut sound: Vec<_> = tags(FILMS[film]).into_iter().filter(|m| m.kind == AUDIO).collect();
        if let Some(format) = format {
            sound.iter_mut().for_each(|m| m.payload[0] = format << 4 | m.payload[0] & 0x0f);
        }
        sounds.push((format!("the sound of {}, {format:?}", FILMS[film]), sound));
    }
    sounds
}

fn is_keyframe(message: &Message) -> bool {
    message.kind == VIDEO && message.payload[0] >> 4 == 1
}

/// Kind, time and payload: what a relay leaves as it is.
type Relayed = (u8, u32, Vec<u8>);

fn relayed<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<Relayed> {
    messages.into_iter().map(|m| (m.kind, m.timestamp, m.payload.clone())).collect()
}

fn received(world: &World, player: ClientHandle) -> Vec<Relayed> {
    relayed(world[player].media())
}

#[test]
fn the_recorded_formats_are_those_that_their_names_say() {
    let first = |messages: &[Message], kind| {
        messages.iter().find(|message| message.kind == kind).map(|message| message.payload[0])
    };
    let heads: Vec<_> =
        films().iter().map(|(_, sent)| (first(sent, VIDEO).unwrap(), first(sent, AUDIO))).collect();
    let expected =
        [(0x12, Some(0x2a)), (0x13, Some(0x6a)), (0x16, Some(0xb6)), (0x14, None), (0x15, None)];
    assert_eq!(heads, expected);
    let heads: Vec<_> = sounds().iter().map(|(_, sent)| first(sent, AUDIO).unwrap() >> 4).collect();
    assert_eq!(heads, [4, 5, 7, 8, 1, 3, 0, 2, 6, 11, 14], "every format of the list");
}

#[test]
fn a_report_calls_legacy_codecs_by_their_names() {
    let said: Vec<_> = films().into_iter().chain(sounds()).map(|(_, sent)| report(&sent)).collect();
    for (report, expected) in said.iter().zip(REPORTS) {
        assert!(report.starts_with(&format!("0 s: {expected}")), "{report}, not {expected}");
    }
    assert_eq!(said.len(), REPORTS.len());
}

/// What is known of a stream of these messages.
fn report(sent: &[Message]) -> String {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, sent);
    let stream = world.server.hub().find("live/cam").expect("it is published");
    stream.report(world.now()).expect("it is live").to_string()
}

#[test]
fn a_player_gets_every_message_of_a_legacy_codec_as_it_was_sent() {
    for (name, sent) in films().into_iter().chain(sounds()) {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.player("cam");
        world.say(publisher, &sent);
        assert!(sent.len() > 2 && received(&world, player) == relayed(&sent), "{name}");
        assert_eq!(world.server.stats().messages_dropped, 0, "{name}");
    }
}

#[test]
fn a_late_player_begins_with_the_newest_keyframe_and_waits_for_no_header() {
    for (name, sent) in films() {
        for joins in 1..sent.len() {
            let mut world = World::new(Settings::default());
            let publisher = world.publishing("cam");
            world.say(publisher, &sent[..joins]);
            let player = world.player("cam");
            world.say(publisher, &sent[joins..]);
            // Before the first keyframe there is only what is live.
            let start = sent[..joins].iter().rposition(is_keyframe).unwrap_or(joins);
            let expected = relayed(&sent[start..]);
            assert!(received(&world, player) == expected, "{name}, joined before {joins}");
        }
    }
}

#[test]
fn sound_alone_starts_at_once_and_is_kept_for_nobody() {
    for (name, sent) in sounds() {
        for joins in 0..sent.len() {
            let mut world = World::new(Settings::default());
            let publisher = world.publishing("cam");
            world.say(publisher, &sent[..joins]);
            assert_eq!(world.server.hub().tape_bytes(), 0, "{name}");
            let player = world.player("cam");
            world.say(publisher, &sent[joins..=joins]);
            assert!(received(&world, player) == relayed(&sent[joins..=joins]), "{name}, {joins}");
        }
    }
    for format in SOUND_FORMATS {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.player("cam");
        // The second byte is sound, whatever it would mean in AAC.
        let sent = [0, 1, 2].map(|second| message(AUDIO, 20, &[format << 4 | 0x0f, second, 7]));
        world.say(publisher, &sent);
        assert_eq!(received(&world, player), relayed(&sent), "format {format}");
        let late = world.player("cam");
        assert_eq!(received(&world, late), [], "format {format}: there is no header");
    }
}

/// Frame types: 1 keyframe, 2 inter, 3 disposable inter, 4 generated keyframe, 5 command.
#[test]
fn only_a_keyframe_of_a_legacy_codec_is_a_start() {
    for codec in VIDEO_CODECS {
        let frame = |frame_type: u8, number: u8| {
            // The second byte would be a header or an end in H.264.
            message(VIDEO, u32::from(number) * 40, &[frame_type << 4 | codec, number % 3, number])
        };
        let [early, late] = early_and_late(&[
            frame(2, 0), // Nobody has the keyframe of these three.
            frame(3, 1),
            frame(4, 2),
            message(VIDEO, 120, &[5 << 4 | codec, 0]),
            frame(1, 4),
            frame(2, 5),
            frame(1, 6),
            frame(3, 7),
            frame(4, 8),
            message(VIDEO, 360, &[5 << 4 | codec, 1]),
            frame(2, 10),
        ]);
        let heads = |frames: &[(u8, u8)]| -> Vec<_> {
            frames.iter().map(|(frame_type, number)| (frame_type << 4 | codec, *number)).collect()
        };
        let newest = [(1, 6), (3, 7), (4, 8), (5, 9), (2, 10)];
        assert_eq!(early, heads(&[&[(5, 3), (1, 4), (2, 5)], &newest[..]].concat()), "{codec}");
        assert_eq!(late, heads(&newest), "codec {codec}");
    }
}

/// First byte and frame number of what two players get, one that was there and one that joins
/// behind the messages.
fn early_and_late(sent: &[Message]) -> [Vec<(u8, u8)>; 2] {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let early = world.player("cam");
    world.say(publisher, sent);
    let late = world.player("cam");
    [early, late].map(|player| {
        let media = received(&world, player);
        media.iter().map(|(_, time, payload)| (payload[0], (time / 40) as u8)).collect()
    })
}

/// The gaps in what a player got of the pictures that were sent; behind each there is a keyframe,
/// as at the start. A message that was not sent, or not in this order, is a panic.
fn gaps(sent: &[Message], got: &[Relayed]) -> usize {
    let pictures = relayed(sent.iter().filter(|message| message.kind == VIDEO));
    let (mut next, mut gaps) = (0, 0);
    for picture in got.iter().filter(|(kind, ..)| *kind == VIDEO) {
        let ahead = pictures[next..].iter().position(|sent| sent == picture);
        let ahead = ahead.expect("a picture that was sent, and once");
        if ahead > 0 || next == 0 {
            assert_eq!(picture.2[0] >> 4, 1, "a gap ends at {} ms", picture.1);
            gaps += usize::from(next > 0);
        }
        next += ahead + 1;
    }
    gaps
}

/// A film several times over, each behind the other.
fn repeated(film: &[Message], times: u32) -> Vec<Message> {
    let later = |message: &Message, round| {
        let timestamp = message.timestamp + round * 2000;
        Message { timestamp, ..message.clone() }
    };
    (0..times).flat_map(|round| film.iter().map(move |message| later(message, round))).collect()
}

#[test]
fn a_slow_player_of_a_legacy_codec_goes_on_at_a_keyframe() {
    for (name, film) in films() {
        let mut settings = Settings::default();
        settings.play.lag_ms = 1000;
        settings.play.skips_max = 1000;
        settings.timeouts.player_stalled_ms = 60_000;
        let mut world = World::new(settings);
        world.socket_bytes = 4 * 1024;
        let publisher = world.publishing("cam");
        let (good, slow) = (world.player("cam"), world.player("cam"));
        world[slow].reads = false;
        let mut sent = repeated(&film, 10);
        sent.sort_by_key(|message| message.timestamp);
        for messages in sent.chunk_by(|one, other| one.timestamp / 100 == other.timestamp / 100) {
            world.say(publisher, messages);
            world[slow].read(300);
            world.advance_ms(100);
        }
        world[slow].reads = true;
        world.run();
        assert!(received(&world, good) == relayed(&sent), "{name}: the others lose nothing");
        let got = received(&world, slow);
        assert!(gaps(&sent, &got) > 2, "{name}: {} gaps", gaps(&sent, &got));
        let last = sent.iter().rfind(|message| message.kind == VIDEO).unwrap();
        let newest = got.iter().rfind(|(kind, ..)| *kind == VIDEO).unwrap();
        assert_eq!(newest.1, last.timestamp, "{name}: it is live again");
    }
}

#[test]
fn a_returning_publisher_of_a_legacy_codec_goes_on_at_a_keyframe() {
    for (name, sent) in films() {
        for takes_over in [false, true] {
            let mut settings = Settings::default();
            settings.publish.duplicate = Duplicate::Replace;
            let mut world = World::new(settings);
            let first = world.publishing("cam");
            let player = world.player("cam");
            world.say(first, &sent[..sent.len() / 2]);
            if !takes_over {
                world[first].finish();
                world.run();
            }
            let between = world.player("cam");
            // In the middle of a GOP, as one whose connection broke may.
            let key = sent.iter().position(is_keyframe).unwrap();
            let second = world.publishing("cam");
            for player in [player, between] {
                world[player].take_messages();
            }
            world.say(second, &sent[key + 1..]);
            let next = key + 1 + sent[key + 1..].iter().position(is_keyframe).unwrap();
            let is_given =
                |(index, message): &(usize, &Message)| message.kind == AUDIO || *index >= next;
            let expected = sent.iter().enumerate().skip(key + 1).filter(is_given);
            let expected: Vec<_> = expected.map(|(_, message)| message.payload.clone()).collect();
            for player in [player, between] {
                let got = received(&world, player);
                let got: Vec<_> = got.into_iter().map(|(_, _, payload)| payload).collect();
                assert!(got == expected, "{name}, takes over: {takes_over}");
            }
        }
    }
}

#[test]
fn the_messages_of_annex_e_are_told_from_those_with_a_packet_type() {
    // `12 00` and `af 00` begin alike; only the second is a header.
    let sent = [message(VIDEO, 0, &hex("12 00 01")), message(AUDIO, 0, &hex("2f 00 01"))];
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.say(publisher, &[&sent[..], &[message(VIDEO, 40, &hex("22 02 02"))]].concat());
    world.say(publisher, &[message(VIDEO, 80, &hex("12 02 03"))]);
    let player = world.player("cam");
    let expected = [(VIDEO, 80, hex("12 02 03"))];
    assert_eq!(received(&world, player), expected, "neither a header nor an end of sequence");
}
