//! Sessions that are slow, out of order or malformed.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, SOON, session};
use crate::healthy::Habits;
use crate::support::wait_until;
use crate::trial::{CANARY, Trial};
use crate::wire::{self, AUDIO, Message, WINDOW_ACK_SIZE, command, null, number, string};

/// Default timeouts, plus reserve for a busy machine.
const HANDSHAKE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(20);
const SILENT: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(5);

pub(super) fn a19(trial: &mut Trial<'_>) {
    let silent = trial.publisher("a19");
    let mut trickling = trial.publisher("a19t");
    let half = Message::new(6, wire::VIDEO, vec![0x27; 5000]).on(1).chunks();
    trickling.send(&half[..200]);
    trickling.trickle(&half[200..], 1, Duration::from_secs(1), SILENT + LATE);
    trial.closes("half a message", trickling, "publisher_silent");
    trial.closes("nothing at all", silent, "publisher_silent");
    let began = Instant::now();
    let mut next = trial.publisher("a19");
    let granted = next.is_answered(1);
    trial.verdict.expect(granted, || "the key is not free afterwards".to_owned());
    trial.verdict.figure(format!("the key free after {} ms", began.elapsed().as_millis()));
}

pub(super) fn a20(trial: &mut Trial<'_>) {
    let began = Instant::now();
    let handshake = wire::handshake();
    let mut held = vec![trial.connect()];
    held.push(trial.send(&handshake[..1]));
    held.push(trial.send(&handshake[..1537]));
    held.extend((3..500).map(|index| trial.send(&handshake[..index * 3])));
    let mut slow = trial.connect();
    slow.trickle(&handshake, 1, Duration::from_secs(1), HANDSHAKE + LATE);
    let took = began.elapsed();
    trial.closes("a byte a second", slow, "handshake_timeout");
    let longest = held.into_iter().map(|attacker| {
        trial.closes("half a handshake", attacker, "handshake_timeout");
        began.elapsed()
    });
    let longest = longest.max().unwrap_or(took);
    trial.verdict.expect(longest < HANDSHAKE + LATE, || format!("one took {longest:?}"));
    trial.verdict.figure(format!("the longest {:.1} s", took.as_secs_f64()));
}

pub(super) fn a21(trial: &mut Trial<'_>) {
    let mut idle = trial.session(&[]);
    let mut slow = trial.send(wire::handshake());
    let began = Instant::now();
    let connect = wire::connect("live").chunks();
    slow.trickle(&connect, 1, Duration::from_secs(1), CONNECT + LATE);
    trial.closes("a byte of connect a second", slow, "connect_timeout");
    let took = began.elapsed();
    trial.verdict.expect(took < CONNECT + LATE, || format!("a byte a second held {took:?}"));
    // Idle sessions may stay: they cost almost nothing, and are evicted when there is no more room.
    for number in 0..5 {
        let is_answered = idle.is_answered(number);
        trial.verdict.expect(is_answered, || "an idle session is not served".to_owned());
    }
    trial.serves("pings for ever", idle);
}

pub(super) fn a21_idle(trial: &mut Trial<'_>) {
    let began = Instant::now();
    let silent = trial.session(&[]);
    let mut pinging = trial.session(&[]);
    while pinging.end().is_none() && began.elapsed() < SOON {
        pinging.send(&wire::user_control(6, 1).chunks());
        pinging.wait_end(Duration::from_millis(100));
    }
    trial.closes("pings for ever", pinging, "idle_timeout");
    trial.closes("nothing after connect", silent, "idle_timeout");
    trial.verdict.figure(format!("after {:.1} s", began.elapsed().as_secs_f64()));
}

pub(super) fn a24(trial: &mut Trial<'_>) {
    let c1 = &wire::handshake()[1..1537];
    let mut waiting = trial.send([3]);
    waiting.wait_end(Duration::from_millis(200));
    waiting.send(&c1[..1535]);
    waiting.wait_end(Duration::from_millis(200));
    let received = waiting.received;
    trial.verdict.expect(received == 0, || format!("{received} bytes before C1 was whole"));
    drop(waiting);
    for version in [0, 1, 2, 4, 5, 7, 8, 31, 32, b'G', 0xff] {
        let attacker = trial.send([&[version], c1].concat());
        let received = attacker.received;
        trial.verdict.expect(received == 0, || format!("{received} bytes for {version}"));
        trial.ends_or_greets(&format!("version {version}"), attacker);
    }
    let tls = [&wire::hex("16 0301 0200 01 0001fc 0303")[..], &[7; 506]].concat();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    for (what, hello) in [("tls", tls), ("http", http)] {
        let attacker = trial.send(hello);
        trial.closes(what, attacker, "bad_handshake");
    }
    let log = trial.log().to_lowercase();
    let named = !trial.arena.server.is_ours() || (log.contains("tls") && log.contains("http"));
    trial.verdict.expect(named, || "the log does not mention TLS and HTTP".to_owned());
}

pub(super) fn a25(trial: &mut Trial<'_>) {
    let hello = [vec![3], wire::vector("ffplay_c1.bin"), vec![0; 1536]].concat();
    let began = Instant::now();
    let (mut begun, mut done) = (0_u64, 0_u64);
    while began.elapsed() < Duration::from_secs(2) {
        begun += 1;
        let mut attacker = trial.send(&hello);
        let deadline = Instant::now() + SOON;
        while attacker.received < 3073 && attacker.end().is_none() && Instant::now() < deadline {
            attacker.take();
        }
        done += u64::from(attacker.received == 3073);
        attacker.reset();
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    trial.verdict.expect(done == begun, || format!("{done} of {begun} handshakes were answered"));
    trial.verdict.figure(format!("{rate:.0} a second"));
}

pub(super) fn a26(trial: &mut Trial<'_>) {
    let on = |name: &str, values: &[Vec<u8>]| command(name, 9.0, values).on(1);
    let key = || string("a26");
    let commands = [
        wire::connect("live"),
        wire::create_stream(8.0),
        on("releaseStream", &[null(), key()]),
        on("FCPublish", &[null(), key()]),
        on("publish", &[null(), key(), string("live")]),
        on("play", &[null(), key(), number(-2000.0)]),
        on("play2", &[null(), wire::object(&[("streamName", key())])]),
        on("pause", &[null(), wire::boolean(true), number(0.0)]),
        on("pauseRaw", &[null(), wire::boolean(true), number(0.0)]),
        on("seek", &[null(), number(1e9)]),
        on("receiveAudio", &[null(), wire::boolean(false)]),
        on("receiveVideo", &[null(), wire::boolean(true)]),
        on("closeStream", &[null()]),
        on("deleteStream", &[null(), number(1.0)]),
        on("FCUnpublish", &[null(), key()]),
        on("FCSubscribe", &[null(), key()]),
        on("FCUnsubscribe", &[null(), key()]),
        on("getStreamLength", &[null(), key()]),
        on("_checkbw", &[null()]),
        on("_result", &[null()]),
        on("_error", &[null()]),
        on("onStatus", &[null(), wire::object(&[])]),
        on("noSuchCommand", &[null()]),
    ];
    let states: [&[Message]; 4] = [
        &[],
        &[wire::create_stream(2.0)],
        &[wire::create_stream(2.0), wire::publish("a26p")],
        &[wire::create_stream(2.0), wire::play(CANARY)],
    ];
    for command in &commands {
        let mut early = trial.send(wire::handshake());
        early.send(&command.chunks().repeat(2));
        trial.ends_or_serves("before connect", early, &["bad_command"]);
        for state in states {
            let mut attacker = trial.session(state);
            attacker.send(&command.chunks().repeat(2));
            attacker.send(&command_on_one("deleteStream"));
            attacker.send(&command.chunks());
            trial.ends_or_serves("in any state", attacker, &["bad_name", "already_publishing"]);
        }
    }
    trial.has_players = true;
    let mut many = trial.session(&[]);
    many.send(&wire::create_stream(2.0).chunks().repeat(30));
    let is_bounded = many.hears("NetConnection.Call.Failed", SOON);
    trial.verdict.expect(is_bounded, || "a connection made 30 message streams".to_owned());
    trial.serves("30 message streams", many);
}

fn command_on_one(name: &str) -> Vec<u8> {
    command(name, 0.0, &[null(), number(1.0)]).chunks()
}

pub(super) fn a27(trial: &mut Trial<'_>) {
    let mut player = trial.player(CANARY);
    for number in 0..3000 {
        player.send(&wire::control(wire::ACKNOWLEDGEMENT, number).chunks());
        player.send(&wire::user_control(6, number).chunks());
        if number % 100 == 0 {
            player.wait_end(Duration::from_millis(50));
        }
    }
    trial.serves("acknowledgements and pings", player);
}

pub(super) fn a28(trial: &mut Trial<'_>) {
    let mut attacker = trial.session(&[wire::control(WINDOW_ACK_SIZE, 1)]);
    let before = attacker.received;
    let message = Message::new(4, AUDIO, vec![0xaf; 50_000]).on(1).chunks();
    for _ in 0..200 {
        attacker.send(&message);
    }
    let answered = attacker.received - before;
    trial.verdict.expect(answered < 10_000_000 / 8, || format!("{answered} bytes for 10 MB"));
    trial.serves("a window of a byte", attacker);
}

pub(super) fn a29(trial: &mut Trial<'_>) {
    let mut attacker = trial.connect_small([127, 0, 0, 1].into());
    attacker.send(&session(&[]));
    attacker.reads = false;
    let pings = wire::user_control(6, 1).chunks().repeat(1000);
    for _ in 0..1000 {
        if !attacker.send(&pings) {
            break;
        }
    }
    trial.sample();
    let taken = trial.taken_kib();
    trial.verdict.expect(taken <= 256, || format!("{taken} KiB for replies that are never read"));
    trial.closes("pings", attacker, "control_overflow");
}

pub(super) fn a30(trial: &mut Trial<'_>) {
    let play = wire::vector("captures/gst_rtmp2src_play.client.bin");
    let publish = wire::vector("captures/ffmpeg5_publish_h264_aac.client.bin");
    for (session, variants) in [(&play[..], 1000), (&publish[..6000], 1000)] {
        for variant in 0..variants {
            let mut flipped = session.to_vec();
            // Errors can only occur after the handshake.
            let at = 3073 + variant * 7919 % (session.len() - 3073);
            flipped[at] ^= 1 << (variant % 8);
            let mut attacker = trial.send(&flipped);
            attacker.half_close();
            let ended = attacker.wait_end(SOON).is_some();
            trial.verdict.expect(ended, || format!("bit {} of byte {at} stays", variant % 8));
        }
    }
    trial.has_players = true;
    let reasons = [
        "peer_closed",
        "peer_reset",
        "bad_command",
        "bad_control",
        "bad_name",
        "message_too_large",
        "missing_header",
    ];
    trial.all_ended("127.0.0.1:", 2000, &reasons);
}

pub(super) fn a31(trial: &mut Trial<'_>) {
    let session = wire::vector("captures/ffmpeg5_publish_h264_aac.client.bin");
    for cut in 0..600 {
        let attacker = trial.send(&session[..cut * 13]);
        if cut % 2 == 0 {
            attacker.reset();
        }
    }
    let before = trial.sockets_before();
    let began = Instant::now();
    let server = &trial.arena.server;
    let is_free = wait_until(SOON, || server.held().sockets == before);
    trial.verdict.expect(is_free, || "descriptors stay".to_owned());
    trial.verdict.figure(format!("descriptors back after {} ms", began.elapsed().as_millis()));
    trial.all_ended("127.0.0.1:", 600, &["peer_reset", "peer_closed"]);
}

pub(super) fn a32(trial: &mut Trial<'_>) {
    let media = (0..40).map(|index| wire::audio(20 * index, 300));
    let video = [wire::video(0, wire::AVC_CONFIG), wire::video(0, wire::AVC_KEYFRAME)];
    let messages: Vec<_> = video.into_iter().chain(media).collect();
    let expected = messages.len() as u64;
    let mut digests = Vec::new();
    for (key, piece) in [("a32a", 1), ("a32b", usize::MAX), ("a32c", 7), ("a32d", 129)] {
        let viewer = trial.viewer(key, Habits::default());
        let start = [wire::create_stream(2.0), wire::publish(key)];
        let all: Vec<_> = start.iter().chain(&messages).cloned().collect();
        let bytes = session(&all);
        let mut attacker = trial.connect();
        bytes.chunks(piece.min(bytes.len())).for_each(|piece| {
            attacker.send(piece);
        });
        let is_there = wait_until(SOON, || viewer.seen().media >= expected);
        trial.verdict.expect(is_there, || format!("{key}: {} messages", viewer.seen().media));
        digests.push(viewer.seen().digest);
        trial.serves(key, attacker);
    }
    let same = digests.windows(2).all(|pair| pair[0] == pair[1]);
    trial.verdict.expect(same, || "players notice how a session was segmented".to_owned());
}

impl Trial<'_> {
    /// Expects an unknown version to be refused, or to be treated as 3 and answered.
    fn ends_or_greets(&mut self, what: &str, mut attacker: Attacker) {
        attacker.wait_end(Duration::from_millis(100));
        if attacker.end().is_some() {
            self.closes(what, attacker, "bad_handshake");
        } else {
            self.verdict.expect(attacker.received >= 3073, || format!("{what}: no answer, no end"));
            self.verdict.outcome("greeted");
        }
    }
}
