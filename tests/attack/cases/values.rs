//! Invalid values: AMF, timestamps, aggregates, names.

use std::time::Duration;

use crate::attacker::SOON;
use crate::healthy::Habits;
use crate::support::wait_until;
use crate::trial::Trial;
use crate::wire::{
    self, AGGREGATE, AUDIO, COMMAND, COMMAND_AMF3, DATA, DATA_AMF3, Message, VIDEO, command, null,
    number, object, string,
};

/// A strict array with one value, an object with one property, an ECMA array with one.
const ARRAY: &[u8] = &[0x0a, 0, 0, 0, 1];
const OBJECT: &[u8] = &[0x03, 0, 1, b'a'];
const ECMA: &[u8] = &[0x08, 0, 0, 0, 1, 0, 1, b'a'];

pub(super) fn a13(trial: &mut Trial<'_>) {
    for pattern in [ARRAY, OBJECT, ECMA, &[ARRAY, OBJECT, ECMA].concat()] {
        let nested = |bytes: usize| pattern.repeat(bytes / pattern.len());
        let connect = [string("connect"), number(1.0), nested(60_000)].concat();
        for (kind, body) in
            [(COMMAND, connect.clone()), (COMMAND_AMF3, [vec![0], connect].concat())]
        {
            let mut attacker = trial.send(wire::handshake());
            attacker.send(&Message::new(3, kind, body).chunks());
            trial.closes("in connect", attacker, "bad_command");
        }
        let metadata = [string("@setDataFrame"), string("onMetaData"), nested(250_000)].concat();
        for kind in [DATA, DATA_AMF3] {
            let mut attacker = trial.publisher("a13");
            attacker.send(&Message::new(5, kind, metadata.clone()).on(1).chunks());
            trial.serves("in metadata", attacker);
        }
    }
}

pub(super) fn a14(trial: &mut Trial<'_>) {
    let endless = [0xff; 4];
    for (what, marker, reason) in [
        ("strict array", 0x0a, "bad_command"),
        ("long string", 0x0c, "bad_command"),
        ("XML", 0x0f, "bad_command"),
        ("ECMA array", 0x08, "served"),
    ] {
        let app = wire::hex("0003 617070 02 0004 6c697665 000009");
        let body = [string("connect"), number(1.0), vec![marker], endless.to_vec(), app].concat();
        let mut attacker = trial.send(wire::handshake());
        attacker.send(&Message::new(3, COMMAND, body).chunks());
        // The length of an ECMA array is only a hint (AMF 0, section 2.10).
        match reason {
            "served" => trial.serves(what, attacker),
            reason => trial.closes(what, attacker, reason),
        }
    }
    let taken = trial.taken_kib();
    trial.verdict.expect(taken <= 256, || format!("{taken} KiB for false lengths"));
}

/// Returns a value of each AMF0 type, and some invalid ones.
fn every_value() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> =
        [0.0, -0.0, f64::NAN, f64::INFINITY, 1e308, -1.0, 4_294_967_296.5]
            .into_iter()
            .map(number)
            .collect();
    values.extend([
        wire::boolean(true),
        string("live"),
        string(""),
        string([0xff, 0xfe, 0xc0, 0x80]),
        string(vec![b'n'; 60_000]),
        object(&[]),
        object(&[("app", number(1.0)), ("app", string("live"))]),
        null(),
        vec![0x06],
        vec![0x07, 0, 0],
        wire::ecma_array(9, &[("app", string("live"))]),
        vec![0x0a, 0, 0, 0, 0],
        [&[0x0b], &[0; 10][..]].concat(),
        vec![0x0c, 0, 0, 0, 1, b'x'],
        vec![0x0d],
        vec![0x0f, 0, 0, 0, 0],
        vec![0x10, 0, 1, b'T', 0, 0, 9],
        vec![0x11, 0x01],
        vec![0xff],
        vec![],
    ]);
    values
}

pub(super) fn a15(trial: &mut Trial<'_>) {
    let reasons = ["bad_command", "bad_name"];
    for value in every_value() {
        let name_first =
            |rest: &[u8]| Message::new(3, COMMAND, [&string("connect"), rest].concat());
        for connect in [
            Message::new(3, COMMAND, value.clone()),
            name_first(&[&value[..], &object(&[("app", string("live"))])].concat()),
            name_first(&[number(1.0), value.clone()].concat()),
            name_first(&[number(1.0), object(&[("app", value.clone())])].concat()),
        ] {
            let mut attacker = trial.send(wire::handshake());
            attacker.send(&connect.chunks());
            trial.ends_or_serves("connect", attacker, &reasons);
        }
        for name in ["publish", "play"] {
            let request = |key: &[u8], kind: &[u8]| {
                command(name, 0.0, &[null(), key.to_vec(), kind.to_vec()]).on(1)
            };
            let odd_kind = request(&string(format!("a15{name}")), &value);
            for message in [request(&value, &string("live")), odd_kind] {
                let attacker = trial.session(&[wire::create_stream(2.0), message]);
                trial.ends_or_serves(name, attacker, &reasons);
            }
        }
        // A key that is not a string names no stream, so nothing may be granted for it.
        if value.first() != Some(&0x02) && value.first() != Some(&0x0c) {
            let message = command("publish", 0.0, &[null(), value.clone()]).on(1);
            let mut attacker = trial.session(&[wire::create_stream(2.0), message]);
            let granted =
                attacker.is_answered(1) && attacker.hears("Publish.Start", Duration::ZERO);
            trial.verdict.expect(!granted, || format!("a publish was granted for {value:02x?}"));
        }
    }
}

pub(super) fn a16(trial: &mut Trial<'_>) {
    let edges = [0, 0x00ff_fffe, 0x7fff_ffff, 0xffff_ffff_u32];
    let mut timestamps: Vec<u32> = Vec::new();
    for edge in edges {
        timestamps.extend((0..5).map(|step| edge.wrapping_add(step)));
    }
    timestamps.extend([0x8000_0000, 0, 0x8000_0000, 40, 20, 0, 0xffff_ffff, 0]);
    let mut publisher = trial.publisher("a16");
    let viewer = trial.viewer("a16", Habits::default());
    publisher.send(&wire::video(0, wire::AVC_CONFIG).chunks());
    for timestamp in &timestamps {
        publisher.send(&wire::video(*timestamp, wire::AVC_KEYFRAME).chunks());
    }
    let expected = timestamps.len() as u64 + 1;
    let is_there = wait_until(SOON, || viewer.seen().media >= expected);
    trial.verdict.expect(is_there, || format!("{} of {expected} frames", viewer.seen().media));
    trial.serves("any clock", publisher);
}

pub(super) fn a17(trial: &mut Trial<'_>) {
    let tag = |kind: u8, claimed: usize, body: &[u8]| {
        let length = &(claimed as u32).to_be_bytes()[1..];
        let back = (body.len() as u32 + 11).to_be_bytes();
        [&[kind], length, &[0, 0, 0, 0, 0, 0, 0], body, &back[..]].concat()
    };
    let mut nested = tag(AUDIO, 2, &[0xaf, 1]);
    for _ in 0..2000 {
        nested = tag(AGGREGATE, nested.len(), &nested);
    }
    let flat = tag(AGGREGATE, 0, &[]).repeat(50_000);
    for (what, body) in [
        ("nested", nested),
        ("50,000 within one", flat),
        ("longer than the rest", tag(AUDIO, 0x00ff_ffff, &[0xaf, 1])),
        ("nothing", vec![]),
        ("a byte", vec![8]),
        ("a byte after a tag", [tag(AUDIO, 2, &[0xaf, 1]), vec![9]].concat()),
    ] {
        let mut attacker = trial.publisher("a17");
        attacker.send(&Message::new(6, AGGREGATE, body).on(1).chunks());
        trial.serves(what, attacker);
    }
}

pub(super) fn a18(trial: &mut Trial<'_>) {
    let metadata = |name: &str, bytes: usize| {
        let value = wire::ecma_array(1, &[(name, [vec![0x0c], long(bytes)].concat())]);
        let body = [string("@setDataFrame"), string("onMetaData"), value].concat();
        Message::new(5, DATA, body).on(1).chunks()
    };
    let mut beyond = trial.publisher("a18");
    beyond.send(&metadata("a", (256 << 10) + 1));
    trial.closes("metadata beyond its bound", beyond, "message_too_large");
    let mut restless = trial.publisher("a18");
    for index in 0..1000 {
        restless.send(&metadata(&format!("a{index}"), 10_000));
    }
    trial.sample();
    let kib = trial.taken_kib();
    trial.verdict.figure(format!("{kib} KiB for 1000 metadata"));
    trial.serves("new metadata all the time", restless);
    let mut large = trial.publisher("a18");
    let header = Message::new(6, VIDEO, [vec![0x17, 0], vec![0; 10 << 20]].concat()).on(1);
    large.send(&header.chunks());
    trial.closes("a header of 10 MiB", large, "message_too_large");
    let mut tracks = trial.publisher("a18");
    for track in 0..=255 {
        // A decoder configuration of one track of several (Enhanced RTMP v2).
        let header = [&[0x96, 0x00], &b"hvc1"[..], &[track], &[1; 20_000]].concat();
        tracks.send(&Message::new(6, VIDEO, header).on(1).chunks());
    }
    trial.sample();
    trial.serves("headers of 256 tracks", tracks);
}

fn long(bytes: usize) -> Vec<u8> {
    [&(bytes as u32).to_be_bytes()[..], &vec![b'm'; bytes]].concat()
}

pub(super) fn a42(trial: &mut Trial<'_>) {
    let publish = |key: &[u8]| [wire::create_stream(2.0), wire::publish(key)];
    for length in [1, 255, 506] {
        let attacker = trial.session(&publish(&vec![b'a'; length]));
        trial.serves("a long name", attacker);
    }
    let mut bad = vec![vec![], vec![b'a'; 509], vec![b'a'; 60_000]];
    bad.extend(["a\0b", "a\rb", "a\nb", "a\x1b[2Jb", "a\u{202e}b", ".."].map(Into::into));
    bad.push(vec![b'a', 0xff, 0xfe]);
    for key in bad {
        let attacker = trial.session(&publish(&key));
        trial.closes("an invalid name", attacker, "bad_name");
    }
    let longest = trial.session(&publish(&vec![b'a'; 65_535]));
    trial.closes("a command beyond its bound", longest, "message_too_large");
    for app in ["", "a\nb", "..", "a\x1bb"] {
        let mut attacker = trial.send(wire::handshake());
        attacker.send(&wire::connect(app).chunks());
        trial.ends_or_serves("an application", attacker, &["bad_name", "bad_command"]);
    }
}
