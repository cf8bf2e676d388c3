//! Enhanced RTMP: rows EX of the conformance table, and streams of several tracks, of which each
//! has to begin with its own header and keyframe whatever a player has been through.

use std::collections::{HashMap, HashSet};

use tiderace::config::{Duplicate, Settings};

use crate::wire::{self, AUDIO, COMMAND, Message, VIDEO, hex, number, object, string};
use crate::world::{ClientHandle, World};

const FRAME_MS: u32 = 40;
/// Frames from one keyframe of a track to its next.
const GOP: u32 = 25;

/// A video or audio message of message stream 1 from hexadecimal digits.
fn media(kind: u8, timestamp: u32, payload: &str) -> Message {
    let chunk_stream_id = if kind == VIDEO { 6 } else { 4 };
    Message::new(chunk_stream_id, kind, hex(payload)).on(1).at(timestamp)
}

fn video(payloads: &[&str]) -> Vec<Message> {
    payloads.iter().map(|payload| media(VIDEO, 0, payload)).collect()
}

fn audio(payloads: &[&str]) -> Vec<Message> {
    payloads.iter().map(|payload| media(AUDIO, 0, payload)).collect()
}

fn payloads(messages: &[&Message]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.payload.clone()).collect()
}

/// What a player gets that was there before the messages were published, and what one gets that
/// joins behind them.
fn early_and_late(messages: &[Message]) -> [Vec<Vec<u8>>; 2] {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let early = world.player("cam");
    world.say(publisher, messages);
    let late = world.player("cam");
    world.assert_lives(publisher);
    [early, late].map(|player| payloads(&world[player].media()))
}

fn assert_early_and_late(sent: &[Message], early: &[&str], late: &[&str]) {
    let expected =
        [early, late].map(|list| list.iter().map(|payload| hex(payload)).collect::<Vec<_>>());
    assert_eq!(early_and_late(sent), expected);
}

/// The messages are dropped and counted, and the publisher goes on.
fn assert_dropped(messages: &[Message]) {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let player = world.player("cam");
    world.say(publisher, messages);
    assert_eq!(payloads(&world[player].media()), Vec::<Vec<u8>>::new());
    assert_eq!(world.server.stats().messages_dropped, messages.len() as u64);
    world.assert_lives(publisher);
}

#[test]
fn ex_01_a_late_player_begins_with_the_header_and_keyframe_of_every_codec() {
    for (codec, time) in [
        ("61766331", "000050"),
        ("68766331", "000050"),
        ("76766331", "000050"),
        ("61763031", ""),
        ("76703038", ""),
        ("76703039", ""),
    ] {
        let config = format!("90 {codec} 010408");
        let keyframes = [format!("91 {codec} {time} 0a"), format!("93 {codec} 0b")];
        let inter = [format!("a1 {codec} {time} 0c"), format!("b3 {codec} 0d")];
        let sent = [&inter[0], &config, &keyframes[0], &inter[0], &keyframes[1], &inter[1]];
        let sent = sent.map(String::as_str);
        let late = [&config, &keyframes[1], &inter[1]].map(String::as_str);
        assert_early_and_late(&video(&sent), &sent[1..], &late);
    }
}

#[test]
fn ex_02_colour_information_is_kept_and_is_no_keyframe() {
    let (config, key, inter) = ("90 68766331 010408", "91 68766331 000050 0a", "a3 68766331 0b");
    for head in ["d4", "84", "94"] {
        let color = &format!("{head} 68766331 02 0009 636f6c6f72496e666f 03 000009");
        let sent = [config, color, key, color, inter];
        assert_early_and_late(&video(&sent), &sent, &[config, color, key, color, inter]);
        assert_early_and_late(&video(&[color, config]), &[color, config], &[config, color]);
    }
}

#[test]
fn ex_03_a_command_is_relayed_and_is_no_start() {
    let (config, key) = ("90 68766331 010408", "91 68766331 000050 0a");
    for command in ["d0 00", "d1 01", "d6 00", "57 00"] {
        assert_early_and_late(&video(&[command]), &[command], &[]);
        let sent = [config, key, command];
        assert_early_and_late(&video(&sent), &sent, &sent);
    }
}

#[test]
fn ex_04_a_keyframe_behind_mod_ex_is_a_start() {
    let config = "97 02 0f423f 00 68766331 010408";
    let key = "97 02 000001 01 68766331 000050 0a";
    let twice = "97 02 000001 07 00 ff 13 68766331 0b";
    let inter = "a7 02 000001 01 68766331 000050 0c";
    let sent = [inter, config, key, inter, twice, inter];
    assert_early_and_late(&video(&sent), &sent[1..], &[config, twice, inter]);
    let sent = ["97 02 000001 00 4f707573 4f70757348656164", "97 02 000001 01 4f707573 0a"];
    assert_early_and_late(&audio(&sent), &sent, &sent[..1]);
}

#[test]
fn ex_05_mod_ex_without_end_is_dropped() {
    let chain = format!("97 {} 00 00 01 68766331 00", "00 00 07".repeat(99));
    let bad = ["97 ff ffff 00", "97 ff ffff", "97 ff", "97", "97 02 0000", "97 00 00", &chain];
    assert_dropped(&video(&bad));
    assert_dropped(&audio(&bad));
}

#[test]
fn ex_06_the_configuration_of_every_track_reaches_who_joins() {
    let video_configs = ["90 68766331 0101", "96 00 68766331 01 0102", "96 00 61766331 ff 0103"];
    let audio_configs =
        ["af 00 1210", "95 00 6d703461 01 1188", "95 04 6d703461 01 01 01 00000004"];
    let changed = "96 00 68766331 01 0104";
    let sent = [video(&video_configs), audio(&audio_configs), video(&[changed])].concat();
    let early = [&video_configs[..], &audio_configs, &[changed]].concat();
    let late = [&audio_configs[..], &[video_configs[0], video_configs[2], changed]].concat();
    assert_early_and_late(&sent, &early, &late);
}

#[test]
fn ex_07_many_tracks_in_one_message_begin_together() {
    for codec in ["1", "2"] {
        let four_cc = |multitrack| if codec == multitrack { "68766331" } else { "" };
        let message = |head: &str, packet: &str, size: &str, body: &str| {
            let (shared, own) = (four_cc("1"), four_cc("2"));
            format!("{head} {codec}{packet} {shared} {own} 00 {size} {body} {own} 01 {size} {body}")
        };
        let config = message("96", "0", "000002", "0104");
        let key = message("96", "1", "000004", "000050 0a");
        let inter = message("a6", "1", "000004", "000050 0b");
        let sent = [&inter, &config, &key, &inter].map(String::as_str);
        assert_early_and_late(&video(&sent), &sent[1..], &sent[1..]);
    }
}

#[test]
fn ex_07_who_can_decode_one_track_of_a_message_gets_it() {
    let (key_0, key_1) = ("91 68766331 000000 0a", "96 01 68766331 01 000000 0b");
    let both = "a6 11 68766331 00 000004 000000 0c 01 000004 000000 0d";
    let sent = [both, key_0, both, key_1, both];
    assert_early_and_late(&video(&sent), &sent[1..], &sent[1..]);
}

#[test]
fn ex_08_multitrack_that_does_not_hold_together_is_dropped() {
    assert_dropped(&video(&[
        "96 06 68766331 00",
        "96 16 68766331 00",
        "96",
        "96 00 687663",
        "96 00 68766331",
        "96 11 68766331",
        "96 11 68766331 00 000010 00",
        "96 11 68766331 00 000001 00 01",
        "96 21 68766331 00 ffffff 00",
        "97 02 000001 06 06 68766331 00",
    ]));
    let crowd = format!("95 11 6d703461 {}", "00 000000".repeat(257));
    assert_dropped(&audio(&["95 05 6d703461 00", "95 11 6d703461 05 000010 0000", &crowd]));
}

#[test]
fn ex_09_audio_configuration_and_channels_come_in_order() {
    let (config, channels) = ("90 4f707573 4f7075734865616401", "94 4f707573 01 01 00000004");
    let frame = "91 4f707573 fc";
    let sent = [channels, config, frame];
    assert_early_and_late(&audio(&sent), &sent, &[config, channels]);
}

#[test]
fn ex_10_a_header_without_a_body_is_a_header() {
    for codec in ["61632d33", "65632d33", "2e6d7033"] {
        let (config, frame) = (format!("90 {codec}"), format!("91 {codec} 0b77"));
        let sent = [config.as_str(), &frame];
        assert_early_and_late(&audio(&sent), &sent, &[&config]);
    }
}

#[test]
fn ex_11_an_unknown_codec_begins_where_its_frame_types_say() {
    let (config, key, inter) = ("90 61626364 01", "91 61626364 0a", "a1 61626364 0b");
    let sent = [config, key, inter, key, inter];
    assert_early_and_late(&video(&sent), &sent, &[config, key, inter]);
    let sent = ["90 61626364", "91 61626364 01"];
    assert_early_and_late(&audio(&sent), &sent, &sent[..1]);
}

#[test]
fn ex_11_players_of_an_unknown_codec_without_keyframes_start_at_once() {
    let (config, inter) = ("90 61626364 01", "a1 61626364 0b");
    for frame in [inter, "81 61626364 0c", "98 61626364 0d", "96 31 61626364 00", "9f 68766331"] {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        world.say(publisher, &video(&[config, frame]));
        let player = world.player("cam");
        world.say(publisher, &video(&[frame, frame]));
        assert_eq!(payloads(&world[player].media()), [config, frame, frame].map(hex), "{frame}");
        assert_eq!(world.server.stats().messages_dropped, 0);
    }
}

#[test]
fn ex_12_connect_is_answered_with_what_the_server_does() {
    let any_codec = || wire_array(&[string("*")]);
    let map = |bits| object(&[("*", number(bits))]);
    let video = ["avc1", "hvc1", "vvc1", "av01", "vp09", "vp08"];
    let audio = ["mp4a", ".mp3", "Opus", "fLaC", "ac-3", "ec-3"];
    let list: Vec<_> = ["*"].iter().chain(&video).chain(&audio).map(|name| string(*name)).collect();
    let can_forward = |names: [&'static str; 6]| {
        let all = ["*"].into_iter().chain(names);
        object(&all.map(|name| (name, number(4.0))).collect::<Vec<_>>())
    };
    let caps = [
        ("fourCcList", wire_array(&list)),
        ("videoFourCcInfoMap", can_forward(video)),
        ("audioFourCcInfoMap", can_forward(audio)),
        // Reconnect requests, multitrack, ModEx and nanoseconds.
        ("capsEx", number(15.0)),
    ];
    let plain = [("fmsVer", string("FMS/3,0,1,123")), ("capabilities", number(31.0))];
    for announced in [
        vec![("capsEx", number(15.0)), ("videoFourCcInfoMap", map(7.0))],
        vec![("capsEx", number(0.0))],
        vec![("fourCcList", any_codec())],
        vec![("audioFourCcInfoMap", object(&[("Opus", number(1.0))]))],
    ] {
        let answer = answer_to_connect(&announced);
        assert_eq!(answer, result_of(&[&plain[..], &caps].concat()), "{announced:?}");
    }
    for announced in [vec![], vec![("videoFunction", number(1.0)), ("audioCodecs", number(4071.0))]]
    {
        assert_eq!(answer_to_connect(&announced), result_of(&plain), "{announced:?}");
    }
}

/// AMF0 strict array (AMF 0 specification, section 2.12).
fn wire_array(values: &[Vec<u8>]) -> Vec<u8> {
    [&[0x0a], &(values.len() as u32).to_be_bytes()[..], &values.concat()].concat()
}

fn answer_to_connect(announced: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    let properties = [&[("app", string("live"))], announced].concat();
    world.say(client, &[wire::command("connect", 1.0, &[object(&properties)])]);
    world[client].of_kind(COMMAND)[0].payload.clone()
}

fn result_of(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let information = object(&[
        ("level", string("status")),
        ("code", string("NetConnection.Connect.Success")),
        ("description", string("Connection succeeded.")),
        ("objectEncoding", number(0.0)),
    ]);
    [string("_result"), number(1.0), object(properties), information].concat()
}

/// One track of a stream: its kind of media and its id.
type Track = (u8, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Keyframe,
    Frame,
    Other,
}

/// What a message is, from its first bytes; of multitrack the form with one track alone.
fn part(message: &Message) -> (Track, Part) {
    let enhanced = |packet: u8, is_key: bool| match packet {
        0 => Part::Header,
        1 | 3 if message.kind == VIDEO && is_key => Part::Keyframe,
        1 | 3 => Part::Frame,
        _ => Part::Other,
    };
    let (track, part) = match (message.kind, &message.payload[..]) {
        (VIDEO, [head @ (0x96 | 0xa6), packet, _, _, _, _, track, ..])
        | (AUDIO, [head @ 0x95, packet, _, _, _, _, track, ..]) => {
            (*track, enhanced(*packet, *head == 0x96))
        }
        (VIDEO, [head, ..]) if head & 0x80 != 0 => (0, enhanced(head & 0x0f, head & 0x70 == 0x10)),
        (AUDIO, [head, ..]) if head & 0xf0 == 0x90 => (0, enhanced(head & 0x0f, false)),
        (VIDEO, [head, packet, ..]) => (0, enhanced(*packet, head & 0xf0 == 0x10)),
        (AUDIO, [_, packet, ..]) => (0, enhanced(*packet, false)),
        _ => (0, Part::Other),
    };
    ((message.kind, track), part)
}

/// Asserts that of every track a player got whole runs of frames, each behind the header of the
/// track, and of video with a keyframe in front. Returns the number of runs by track.
fn runs(sent: &[Message], got: &[&Message]) -> HashMap<Track, u32> {
    let mut frames: HashMap<Track, Vec<&Message>> = HashMap::new();
    for message in sent {
        let (track, part) = part(message);
        if matches!(part, Part::Keyframe | Part::Frame) {
            frames.entry(track).or_default().push(message);
        }
    }
    let (mut next, mut runs) = (HashMap::new(), HashMap::new());
    let mut headed = HashSet::new();
    for message in got {
        let (track, part) = part(message);
        match part {
            Part::Header => drop(headed.insert(track)),
            Part::Other => {}
            Part::Keyframe | Part::Frame => {
                let from = next.get(&track).copied();
                let rest = frames[&track].iter().skip(from.unwrap_or(0));
                let ahead = rest.clone().position(|sent| sent.payload == message.payload);
                let ahead = ahead.expect("a frame that was sent, and once");
                if from.is_none() || ahead > 0 {
                    let decodable = track.0 == AUDIO || part == Part::Keyframe;
                    assert!(decodable, "{track:?} goes on at {} ms", message.timestamp);
                    assert!(headed.contains(&track), "{track:?} at {} ms", message.timestamp);
                    *runs.entry(track).or_insert(0) += 1;
                }
                next.insert(track, from.unwrap_or(0) + ahead + 1);
                headed.remove(&track);
            }
        }
    }
    runs
}

const ALL_TRACKS: [Track; 4] = [(VIDEO, 0), (VIDEO, 1), (AUDIO, 0), (AUDIO, 1)];

/// A stream of HEVC, AVC as a second track, and two tracks of Opus.
#[derive(Clone, Copy, Debug)]
struct Encoder {
    /// How many frames later the second video track has its keyframes.
    shift: u32,
    /// Whether the second track is sent before the first.
    second_first: bool,
    /// Bytes of a video frame.
    frame_bytes: usize,
    /// What its headers say, so that two encoders differ.
    version: u8,
}

impl Encoder {
    fn headers(self) -> Vec<Message> {
        let video = ["90 68766331 0104", "96 00 61766331 01 0142"];
        let audio = ["90 4f707573 4f707573", "95 00 4f707573 01 4f707573", "95 04 4f707573 01 01"];
        let messages = video.iter().map(|payload| media(VIDEO, 0, payload));
        let mut messages: Vec<_> =
            messages.chain(audio.iter().map(|payload| media(AUDIO, 0, payload))).collect();
        messages.iter_mut().for_each(|message| message.payload.push(self.version));
        messages
    }

    /// The frames of all tracks at one time.
    fn frames(self, number: u32) -> Vec<Message> {
        let is_key = |shift: u32| (number + GOP - shift).is_multiple_of(GOP);
        let first = if is_key(0) { "91 68766331 000050" } else { "a3 68766331" };
        let second = if is_key(self.shift) {
            "96 01 61766331 01 000000"
        } else {
            "a6 01 61766331 01 000028"
        };
        let mut payloads =
            [(VIDEO, first), (VIDEO, second), (AUDIO, "91 4f707573"), (AUDIO, "95 01 4f707573 01")];
        if self.second_first {
            payloads.swap(0, 1);
        }
        let message = |(kind, head)| {
            let mut message = media(kind, number * FRAME_MS, head);
            message.payload.extend([&number.to_be_bytes()[..], &[self.version]].concat());
            message.payload.resize(if kind == VIDEO { self.frame_bytes } else { 40 }, 0x5a);
            message
        };
        payloads.map(message).to_vec()
    }
}

/// Encoders whose tracks stand in every relation: aligned in either order, nearly so, and apart.
fn encoders() -> impl Iterator<Item = Encoder> {
    let shifts = [0, 1, 6, 12, 13, 20, 24];
    shifts.into_iter().flat_map(|shift| {
        [false, true].map(|second_first| Encoder {
            shift,
            second_first,
            frame_bytes: 300,
            version: 1,
        })
    })
}

/// A publisher of such a stream and what it has sent.
struct Bench {
    world: World,
    publisher: ClientHandle,
    encoder: Encoder,
    sent: Vec<Message>,
    frames: u32,
}

impl Bench {
    fn new(encoder: Encoder, settings: Settings) -> Self {
        let mut world = World::new(settings);
        let publisher = world.publishing("cam");
        let mut bench = Self { world, publisher, encoder, sent: Vec::new(), frames: 0 };
        bench.say(encoder.headers());
        bench
    }

    fn say(&mut self, messages: Vec<Message>) {
        self.world.say(self.publisher, &messages);
        self.sent.extend(messages);
    }

    /// Publishes frames in real time.
    fn frames(&mut self, count: u32) {
        for _ in 0..count {
            self.say(self.encoder.frames(self.frames));
            self.world.advance_ms(FRAME_MS.into());
            self.frames += 1;
        }
    }

    fn runs(&self, player: ClientHandle) -> HashMap<Track, u32> {
        runs(&self.sent, &self.world[player].media())
    }

    /// The number of the first frame of a track that a player got.
    fn first(&self, player: ClientHandle, track: Track) -> u32 {
        let media = self.world[player].media();
        let is_frame =
            |m: &&&Message| part(m).0 == track && matches!(part(m).1, Part::Keyframe | Part::Frame);
        let first = media.iter().find(is_frame).expect("a frame of the track");
        first.timestamp / FRAME_MS
    }
}

fn one_run_each() -> HashMap<Track, u32> {
    ALL_TRACKS.into_iter().map(|track| (track, 1)).collect()
}

#[test]
fn every_track_begins_with_its_own_header_and_keyframe_whenever_a_player_joins() {
    for encoder in encoders() {
        let mut bench = Bench::new(encoder, Settings::default());
        let mut players = Vec::new();
        for _ in 0..GOP {
            // Three frames at a time over three GOPs: in the end every place in a GOP.
            players.push((bench.frames, bench.world.player("cam")));
            bench.frames(3);
        }
        bench.frames(GOP);
        for (joined, player) in players {
            assert_eq!(bench.runs(player), one_run_each(), "{encoder:?}, joined at {joined}");
            let media = bench.world[player].media();
            let last = &bench.sent[bench.sent.len() - 1];
            assert!(media.last().is_some_and(|message| message.payload == last.payload));
            // A picture at once: the first track begins with the newest keyframe.
            let newest = joined.saturating_sub(1) / GOP * GOP;
            assert_eq!(bench.first(player, (VIDEO, 0)), newest, "{encoder:?}, joined at {joined}");
        }
    }
}

#[test]
fn aligned_tracks_begin_together_in_whichever_order_they_are_sent() {
    // Of shifts by a GOP less some frames the second track is that much ahead of the first.
    for (shift, ahead) in [(0, 0), (24, 1), (20, 5), (13, 12)] {
        for second_first in [false, true] {
            let encoder = Encoder { shift, second_first, frame_bytes: 300, version: 1 };
            let mut bench = Bench::new(encoder, Settings::default());
            bench.frames(2 * GOP + 5);
            let player = bench.world.player("cam");
            bench.frames(GOP);
            assert_eq!(bench.first(player, (VIDEO, 0)), 2 * GOP);
            assert_eq!(bench.first(player, (VIDEO, 1)), 2 * GOP - ahead, "{encoder:?}");
        }
    }
}

#[test]
fn every_track_goes_on_with_its_own_header_and_keyframe_behind_a_skip() {
    for encoder in encoders() {
        let encoder = Encoder { frame_bytes: 1500, ..encoder };
        let mut settings = Settings::default();
        settings.play.lag_ms = 2000;
        settings.play.skips_max = 1000;
        settings.timeouts.player_stalled_ms = 60_000;
        let mut bench = Bench::new(encoder, settings);
        bench.world.socket_bytes = 16 * 1024;
        let (good, slow) = (bench.world.player("cam"), bench.world.player("cam"));
        bench.world[slow].reads = false;
        for _ in 0..12 * GOP {
            bench.frames(1);
            bench.world[slow].read(1200);
        }
        bench.world[slow].reads = true;
        bench.world.run();
        bench.frames(2 * GOP);
        let runs = bench.runs(slow);
        assert!(ALL_TRACKS.iter().all(|track| runs[track] > 2), "{encoder:?}: {runs:?}");
        // The good one has it all but what the second track sent before its first keyframe.
        let media = bench.world[good].media();
        let missing = bench.sent.len() - media.len();
        assert_eq!(missing as u32, encoder.shift, "{encoder:?}");
        assert_eq!(bench.runs(good), one_run_each(), "{encoder:?}");
    }
}

#[test]
fn every_track_goes_on_with_its_own_header_and_keyframe_once_video_is_turned_on() {
    for encoder in encoders() {
        let mut bench = Bench::new(encoder, Settings::default());
        let player = bench.world.player("cam");
        for (on, frames) in [(false, GOP + 10), (true, 2 * GOP)] {
            let values = [wire::null(), wire::boolean(on)];
            let command = wire::command("receiveVideo", 0.0, &values).on(1);
            bench.world[player].send_raw(&command.chunks_of(60_000));
            bench.world.run();
            bench.frames(frames);
        }
        assert_eq!(bench.runs(player), one_run_each(), "{encoder:?}");
        for track in [(VIDEO, 0), (VIDEO, 1)] {
            let first = bench.first(player, track);
            assert!((GOP + 10..2 * GOP + 10).contains(&first), "{encoder:?}: {track:?} at {first}");
        }
    }
}

#[test]
fn every_track_goes_on_with_its_own_header_and_keyframe_of_another_publisher() {
    for encoder in encoders() {
        for (takes_over, frames) in [(true, GOP + 7), (false, 2 * GOP)] {
            let mut settings = Settings::default();
            settings.publish.duplicate = Duplicate::Replace;
            let mut bench = Bench::new(encoder, settings);
            let players = [0, frames - 10].map(|more| {
                bench.frames(more);
                bench.world.player("cam")
            });
            bench.frames(10);
            if !takes_over {
                let publisher = bench.publisher;
                bench.world[publisher].finish();
                bench.world.run();
            }
            let between = bench.world.player("cam");
            let players = [&players[..], &[between]].concat();
            players.iter().for_each(|player| drop(bench.world[*player].take_messages()));
            bench.publisher = bench.world.publishing("cam");
            bench.encoder = Encoder { version: 2, ..encoder };
            // In the middle of a GOP of both tracks, as one whose connection broke may.
            (bench.sent, bench.frames) = (Vec::new(), 5);
            bench.say(bench.encoder.headers());
            bench.frames(2 * GOP);
            for player in players {
                assert_eq!(bench.runs(player), one_run_each(), "{encoder:?}");
            }
        }
    }
}

/// One life of a stream with all of it: who is there from the start, who reads too little, who
/// joins late, and a second publisher.
#[test]
fn hevc_two_opus_tracks_and_an_avc_multitrack_are_joined_late_skipped_on_and_taken_over() {
    for encoder in encoders() {
        let encoder = Encoder { frame_bytes: 1500, ..encoder };
        let mut settings = Settings::default();
        settings.publish.duplicate = Duplicate::Replace;
        settings.play.lag_ms = 2000;
        settings.play.skips_max = 1000;
        settings.timeouts.player_stalled_ms = 60_000;
        let mut bench = Bench::new(encoder, settings);
        bench.world.socket_bytes = 16 * 1024;
        let (good, slow) = (bench.world.player("cam"), bench.world.player("cam"));
        bench.world[slow].reads = false;
        for _ in 0..8 * GOP + 7 {
            bench.frames(1);
            bench.world[slow].read(1200);
        }
        let late = bench.world.player("cam");
        bench.world[slow].reads = true;
        bench.world.run();
        bench.frames(2 * GOP);
        assert_eq!(bench.runs(good), one_run_each(), "{encoder:?}");
        assert_eq!(bench.runs(late), one_run_each(), "{encoder:?}: joined late");
        assert_eq!(bench.first(late, (VIDEO, 0)), 8 * GOP, "{encoder:?}: a picture at once");
        let runs = bench.runs(slow);
        assert!(ALL_TRACKS.iter().all(|track| runs[track] > 2), "{encoder:?}: {runs:?}");

        let players = [good, slow, late, bench.world.player("cam")];
        players.iter().for_each(|player| drop(bench.world[*player].take_messages()));
        bench.publisher = bench.world.publishing("cam");
        bench.encoder = Encoder { version: 2, ..encoder };
        (bench.sent, bench.frames) = (Vec::new(), 5);
        bench.say(bench.encoder.headers());
        bench.frames(2 * GOP);
        for player in players {
            assert_eq!(bench.runs(player), one_run_each(), "{encoder:?}: taken over");
        }
        assert_eq!(bench.world.server.stats().messages_dropped, 0);
    }
}

#[test]
fn a_stream_without_track_0_begins_with_the_lowest_track_that_it_has() {
    let configs = ["96 00 68766331 05 01", "96 00 68766331 07 02"];
    let keys = ["96 01 68766331 05 000000 0a", "96 01 68766331 07 000000 0b"];
    let inter = ["a6 03 68766331 05 0c", "a6 03 68766331 07 0d"];
    let gop = [keys[1], keys[0], inter[0], inter[1]];
    let sent = [&configs[..], &gop, &gop, &[inter[0]]].concat();
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    for (index, payload) in sent.iter().enumerate() {
        world.say(publisher, &[media(VIDEO, index as u32 * 300, payload)]);
    }
    let player = world.player("cam");
    let expected = [&configs[..], &gop, &[inter[0]]].concat();
    assert_eq!(payloads(&world[player].media()), expected.into_iter().map(hex).collect::<Vec<_>>());
}

#[test]
fn when_a_track_ends_the_others_are_joined_all_the_same() {
    let end = "92 68766331";
    let (key_0, key_1) = ("91 68766331 000000 0a", "96 01 68766331 01 000000 0b");
    let inter_1 = "a6 03 68766331 01 0c";
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let sent = [key_0, key_1, inter_1, end, key_1, inter_1];
    for (index, payload) in sent.iter().enumerate() {
        world.say(publisher, &[media(VIDEO, index as u32 * 1000, payload)]);
    }
    let player = world.player("cam");
    assert_eq!(payloads(&world[player].media()), [key_1, inter_1].map(hex), "the newest keyframe");
    // What ended begins anew and leads again.
    let publish = [media(VIDEO, 9000, key_0), media(VIDEO, 9040, inter_1)];
    world.say(publisher, &publish);
    let player = world.player("cam");
    assert_eq!(payloads(&world[player].media()), [key_0].map(hex));
}

#[test]
fn a_new_configuration_of_a_second_track_leaves_the_start_of_the_first() {
    let configs = ["90 68766331 01", "96 00 61766331 01 02"];
    let (key_0, inter_0) = ("91 68766331 000000 0a", "a3 68766331 0b");
    let (key_1, changed) = ("96 01 61766331 01 000000 0c", "96 00 61766331 01 03");
    let sent = [configs[0], configs[1], key_0, key_1, inter_0, changed, key_1, inter_0];
    assert_early_and_late(&video(&sent), &sent, &sent);
}

/// Recorded publishers of Enhanced RTMP: the name of the stream, its tracks, and how the messages
/// begin that a late player gets first.
const RECORDED: &[(&str, &str, &[Track], &[&str])] = &[
    (
        "ffmpeg9_publish_hevc_opus",
        "hevc",
        &[(VIDEO, 0), (AUDIO, 0)],
        &["90 4f707573", "94 4f707573", "90 68766331", "d4 68766331", "91 68766331"],
    ),
    (
        "ffmpeg9_publish_av1_flac",
        "av1",
        &[(VIDEO, 0), (AUDIO, 0)],
        &["90 664c6143", "94 664c6143", "90 61763031", "d4 61763031", "91 61763031"],
    ),
    (
        "ffmpeg9_publish_vp9_ac3",
        "vp9",
        &[(VIDEO, 0), (AUDIO, 0)],
        &["90 61632d33", "94 61632d33", "90 76703039", "d4 76703039", "91 76703039"],
    ),
    ("ffmpeg9_publish_opus_only", "opus", &[(AUDIO, 0)], &["90 4f707573", "94 4f707573"]),
    (
        "ffmpeg9_publish_multitrack",
        "multi",
        &ALL_TRACKS,
        &[
            "af 00",
            "95 00 4f707573 01",
            "95 04 4f707573 01",
            "17 00",
            "96 00 68766331 01",
            // The encoder writes the colour information of its second track without the track.
            "d4 68766331",
            "96 01 68766331 01",
        ],
    ),
];

fn recorded(file: &str) -> (Vec<u8>, Vec<Message>) {
    let session = wire::vector(&format!("captures/{file}.client.bin"));
    let mut reader = wire::Reader::behind_handshake();
    let sent = reader.read(&session).into_iter().filter(Message::is_media).collect();
    (session, sent)
}

#[test]
fn recorded_streams_are_joined_late_with_every_track_behind_its_header() {
    for (file, key, tracks, heads) in RECORDED {
        let (session, sent) = recorded(file);
        let (before, after) = session.split_at(session.len() * 5 / 8);
        let mut world = World::new(Settings::default());
        let publisher = world.connect();
        world[publisher].send_raw(before);
        world.run();
        let player = world.player(key);
        world[publisher].send_raw(after);
        world.run();
        let media: Vec<_> = world[player].media().into_iter().filter(|m| m.kind <= VIDEO).collect();
        for (message, head) in media.iter().zip(*heads) {
            assert!(message.payload.starts_with(&hex(head)), "{file}: {head}");
        }
        // Silence and tones repeat, so what is before the start must not be taken for what it is.
        let sent: Vec<_> =
            sent.into_iter().filter(|sent| sent.timestamp >= media[0].timestamp).collect();
        let once = tracks.iter().map(|track| (*track, 1)).collect();
        assert_eq!(runs(&sent, &media), once, "{file}");
    }
}

#[test]
fn recorded_streams_go_on_when_their_publisher_comes_back() {
    for (file, key, tracks, _) in RECORDED {
        let (session, sent) = recorded(file);
        let mut world = World::new(Settings::default());
        let player = world.player(key);
        for part in [session.len() * 5 / 8, session.len()] {
            let publisher = world.connect();
            world[publisher].send_raw(&session[..part]);
            world.run();
            world[publisher].finish();
            world.run();
            let messages = world[player].take_messages();
            let is_media = |message: &&Message| matches!(message.kind, AUDIO | VIDEO);
            let media: Vec<_> = messages.iter().filter(is_media).collect();
            let once = tracks.iter().map(|track| (*track, 1)).collect();
            assert_eq!(runs(&sent, &media), once, "{file}");
        }
        assert_eq!(world.server.stats().messages_dropped, 0, "{file}");
    }
}
