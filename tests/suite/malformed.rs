//! Media that does not hold together, for every codec: such a message is dropped and counted, the
//! connection is kept, and no other message or track notices.

use std::env;

use tiderace::config::Settings;

use crate::random::Random;
use crate::wire::{self, AGGREGATE, AUDIO, Message, VIDEO, hex};
use crate::world::{ClientHandle, World};

const VIDEO_CODECS: [&[u8; 4]; 7] = [b"avc1", b"hvc1", b"vvc1", b"av01", b"vp08", b"vp09", b"abcd"];
const AUDIO_CODECS: [&[u8; 4]; 7] = [b"mp4a", b".mp3", b"Opus", b"fLaC", b"ac-3", b"ec-3", b"abcd"];

/// How often each list of seeds is damaged; `TIDERACE_SEEDS` says otherwise.
const ROUNDS: u64 = 40;

/// A bad message, of one codec if it names any.
struct Seed {
    name: String,
    kind: u8,
    payload: Vec<u8>,
}

/// The seeds of `malformed_media.txt`.
fn seeds() -> Vec<Seed> {
    let text = String::from_utf8(wire::vector("malformed_media.txt")).expect("text");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(of_every_codec).collect()
}

fn of_every_codec(line: &str) -> Vec<Seed> {
    let fields: Vec<_> = line.split('|').map(str::trim).collect();
    let [name, kind, pattern] = fields[..] else { panic!("three fields: {line}") };
    let (kind, codecs) = match kind {
        "video" => (VIDEO, VIDEO_CODECS),
        "audio" => (AUDIO, AUDIO_CODECS),
        _ => panic!("no such kind: {line}"),
    };
    let seed = |four_cc: &[u8; 4]| {
        let digits: String = four_cc.iter().map(|byte| format!("{byte:02x}")).collect();
        let pattern = repeated(pattern).replace("{4}", &digits).replace("{3}", &digits[..6]);
        let name = format!("{name} {}", four_cc.escape_ascii());
        Seed { name, kind, payload: hex(&pattern) }
    };
    let count = if pattern.contains('{') { codecs.len() } else { 1 };
    codecs[..count].iter().map(|four_cc| seed(four_cc)).collect()
}

/// Writes `[..]*N` out.
fn repeated(pattern: &str) -> String {
    let Some((before, rest)) = pattern.split_once('[') else { return pattern.to_owned() };
    let (part, behind) = rest.split_once("]*").expect("a number of times");
    let digits = behind.find(' ').unwrap_or(behind.len());
    let times = behind[..digits].parse().expect("a number");
    format!("{before}{}{}", part.repeat(times), &behind[digits..])
}

/// A stream of HEVC, AVC as a second track and two tracks of Opus, whose messages are all
/// different; they begin with the headers and a keyframe of each track.
fn good() -> Vec<Message> {
    let headers = [
        (VIDEO, "90 68766331 0104"),
        (VIDEO, "96 00 61766331 01 0142"),
        (AUDIO, "90 4f707573 4f707573"),
        (AUDIO, "95 00 4f707573 01 4f707573"),
    ];
    let frames = |number: u8| {
        let head = if number.is_multiple_of(5) { '9' } else { 'a' };
        [
            (VIDEO, format!("{head}1 68766331 000050 600d {number:02x}")),
            (VIDEO, format!("{head}6 01 61766331 01 000000 600d {number:02x}")),
            (AUDIO, format!("91 4f707573 600d {number:02x}")),
            (AUDIO, format!("95 01 4f707573 01 600d {number:02x}")),
        ]
    };
    let headers = headers.map(|(kind, payload)| message(kind, 0, hex(payload)));
    let frames = (0..20).flat_map(|number| {
        let time = u32::from(number) * 200;
        frames(number).map(|(kind, payload)| message(kind, time, hex(&payload)))
    });
    headers.into_iter().chain(frames).collect()
}

fn message(kind: u8, timestamp: u32, payload: Vec<u8>) -> Message {
    let chunk_stream_id = if kind == VIDEO { 6 } else { 4 };
    Message::new(chunk_stream_id, kind, payload).on(1).at(timestamp)
}

/// The good messages with the bad ones spread between them, at the time of their neighbours.
fn interleaved(good: &[Message], bad: &[(u8, Vec<u8>)]) -> Vec<Message> {
    // Behind the headers and the first keyframes.
    let (head, rest) = good.split_at(8);
    let mut bad = bad.iter();
    let share = bad.len().div_ceil(rest.len());
    let mut all = head.to_vec();
    for next in rest {
        let share = bad.by_ref().take(share);
        all.extend(share.map(|(kind, payload)| message(*kind, next.timestamp, payload.clone())));
        all.push(next.clone());
    }
    all
}

fn payloads<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<&'a [u8]> {
    messages.into_iter().map(|message| &message.payload[..]).collect()
}

fn media(world: &World, player: ClientHandle) -> Vec<&[u8]> {
    payloads(world[player].media())
}

#[test]
fn fl_03_ex_05_ex_08_a_bad_message_of_any_codec_is_dropped_and_counted_and_nobody_notices() {
    let (good, seeds) = (good(), seeds());
    assert!(seeds.len() > 250, "{} seeds", seeds.len());
    for seed in &seeds {
        let bad = vec![(seed.kind, seed.payload.clone()); 3];
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.player("cam");
        world.say(publisher, &interleaved(&good, &bad));
        assert_eq!(media(&world, player), payloads(&good), "{}", seed.name);
        assert_eq!(world.server.stats().messages_dropped, 3, "{}", seed.name);
        let late = world.player("cam");
        let newest = good.len() - 5 * 4;
        let late_gets: Vec<_> =
            good[2..4].iter().chain(&good[..2]).chain(&good[newest..]).collect();
        assert_eq!(media(&world, late), payloads(late_gets), "{}", seed.name);
        world.assert_lives(publisher);
    }
}

/// An aggregate (RTMP 1.0, section 7.1.6): each message behind a header as in an FLV file, and
/// its length behind it.
fn aggregate(parts: &[Message]) -> Message {
    let mut body = Vec::new();
    for part in parts {
        let [_, length @ ..] = (part.payload.len() as u32).to_be_bytes();
        let [high, time @ ..] = part.timestamp.to_be_bytes();
        body.push(part.kind);
        body.extend([&length[..], &time, &[high, 0, 0, 0], &part.payload].concat());
        body.extend((part.payload.len() as u32 + 11).to_be_bytes());
    }
    Message::new(6, AGGREGATE, body).on(1).at(parts[0].timestamp)
}

#[test]
fn a_bad_message_in_an_aggregate_is_dropped_and_counted_without_its_neighbours() {
    let good = good();
    for seed in seeds() {
        let bad = vec![(seed.kind, seed.payload.clone()); 3];
        let all = interleaved(&good, &bad);
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.player("cam");
        world.say(publisher, &[aggregate(&all)]);
        assert_eq!(media(&world, player), payloads(&good), "{}", seed.name);
        assert_eq!(world.server.stats().messages_dropped, 3, "{}", seed.name);
        world.assert_lives(publisher);
    }
}

#[test]
fn damaged_seeds_cost_no_message_of_the_other_tracks_and_no_connection() {
    let rounds = env::var("TIDERACE_SEEDS").ok().map(|seeds| seeds.parse().expect("a number"));
    let (good, seeds) = (good(), seeds());
    let (mut dropped, mut relayed) = (0, 0);
    for round in 0..rounds.unwrap_or(ROUNDS) {
        println!("seed {round}");
        let mut random = Random::new(round);
        let bad: Vec<_> = seeds.iter().map(|seed| damaged(seed, &seeds, &mut random)).collect();
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let player = world.player("cam");
        world.say(publisher, &interleaved(&good, &bad));
        let (is_good, is_bad) = (
            |payload: &&&[u8]| good.iter().any(|message| message.payload == **payload),
            |payload: &&&[u8]| bad.iter().any(|(_, bad)| bad == **payload),
        );
        let got = media(&world, player);
        let kept: Vec<_> = got.iter().filter(is_good).copied().collect();
        assert_eq!(kept, payloads(&good));
        let others: Vec<_> = got.iter().filter(|payload| !is_good(payload)).collect();
        assert!(others.iter().all(is_bad), "a message that nobody sent");
        let refused = world.server.stats().messages_dropped as usize;
        // The rest are frames of a track whose keyframe nobody has.
        assert!(refused + others.len() <= bad.len());
        (dropped, relayed) = (dropped + refused, relayed + others.len());
        world.assert_lives(publisher);
    }
    assert!(dropped > 1000 && relayed > 1000, "{dropped} were dropped, {relayed} relayed");
}

/// A seed that is changed a little: bits, lengths and kinds, its end, or the start of another.
fn damaged(seed: &Seed, seeds: &[Seed], random: &mut Random) -> (u8, Vec<u8>) {
    let mut payload = seed.payload.clone();
    for _ in 0..1 + random.below(3) {
        let at = random.below(payload.len().clamp(1, 24)).min(payload.len());
        match random.below(6) {
            0 if at < payload.len() => payload[at] ^= 1 << random.below(8),
            1 if at < payload.len() => {
                payload[at] = [0, 1, 0x07, 0x11, 0x21, 0x7f, 0x80, 0xff][random.below(8)];
            }
            2 if at < payload.len() => drop(payload.remove(at)),
            3 => payload.insert(at, random.below(256) as u8),
            4 => payload.extend((0..random.below(40)).map(|byte| byte as u8)),
            _ => {
                let other = &seeds[random.below(seeds.len())].payload;
                payload.splice(..at, other[..at.min(other.len())].iter().copied());
            }
        }
    }
    (seed.kind, payload)
}
