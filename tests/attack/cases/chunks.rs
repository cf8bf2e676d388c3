//! Chunks with invalid sizes, lengths and headers (RTMP 1.0, sections 5.3 and 5.4).

use crate::attacker::{SOON, session};
use crate::healthy::{Habits, digest};
use crate::support::wait_until;
use crate::trial::Trial;
use crate::wire::{
    self, ABORT, AUDIO, COMMAND, Message, SET_CHUNK_SIZE, SET_PEER_BANDWIDTH, USER_CONTROL, VIDEO,
    WINDOW_ACK_SIZE,
};

/// Maximum processor time for a million of the smallest pieces, canary included (ms). That is
/// twenty times the usual, and less than any work that grows with earlier input.
const CPU_MS_MAX: u128 = 2000;

pub(super) fn a01(trial: &mut Trial<'_>) {
    let announced = |size| session(&[wire::control(SET_CHUNK_SIZE, size)]);
    let large = trial.send(announced(0x7fff_ffff));
    trial.serves("2^31 - 1", large);
    for size in [0x8000_0000, 0xffff_ffff] {
        let beyond = trial.send(announced(size));
        trial.closes("beyond", beyond, "bad_control");
    }
}

pub(super) fn a02(trial: &mut Trial<'_>) {
    let mut attacker = trial.session(&[wire::control(SET_CHUNK_SIZE, 0)]);
    attacker.send(&vec![0xc3; 8_000_000]);
    trial.closes("chunk size 0", attacker, "bad_control");
}

pub(super) fn a03(trial: &mut Trial<'_>) {
    let mut attacker = trial.publisher("a03");
    attacker.send(&wire::control(SET_CHUNK_SIZE, 1).chunks());
    let message = Message::new(6, VIDEO, [vec![0x27, 1], vec![0; 1 << 20]].concat()).on(1);
    attacker.send(&message.chunks_of(1));
    // A ping in chunks of one byte, because the publisher has set that chunk size.
    attacker.send(&wire::user_control(6, 7).chunks_of(1));
    let is_answered = attacker.hears([0, 7, 0, 0, 0, 7], SOON);
    trial.verdict.expect(is_answered, || "2 MB in single bytes are not read".to_owned());
    trial.verdict.outcome("served");
    let cpu_ms = trial.cpu().as_millis();
    trial.verdict.expect(cpu_ms < CPU_MS_MAX, || format!("{cpu_ms} ms of CPU"));
    trial.verdict.figure(format!("{cpu_ms} ms of CPU"));
    trial.sample();
}

pub(super) fn a04(trial: &mut Trial<'_>) {
    for kind in [SET_CHUNK_SIZE, WINDOW_ACK_SIZE, SET_PEER_BANDWIDTH, USER_CONTROL, ABORT] {
        for length in 0..4 {
            let attacker = trial.session(&[Message::new(2, kind, vec![0; length])]);
            match kind {
                SET_CHUNK_SIZE => trial.closes("a short chunk size", attacker, "bad_control"),
                _ => trial.serves("a short control message", attacker),
            }
        }
    }
}

pub(super) fn a05(trial: &mut Trial<'_>) {
    let chunk = announced(20, 16_777_215, VIDEO, 128);
    let mut idle = trial.session(&[]);
    idle.send(&chunk);
    trial.closes("before a publish", idle, "message_too_large");
    let mut publisher = trial.publisher("a05");
    publisher.send(&chunk);
    trial.closes("a publisher", publisher, "message_too_large");
    let mut patient = trial.publisher("a05");
    patient.send(&announced(20, 8 << 20, VIDEO, 128));
    trial.serves("8 MiB that never arrive", patient);
    let taken = trial.taken_kib();
    trial.verdict.expect(taken <= 512, || format!("{taken} KiB for three chunks"));
}

pub(super) fn a06(trial: &mut Trial<'_>) {
    let many = |length, sent| -> Vec<u8> {
        let chunk_streams = 3..65_003;
        chunk_streams.flat_map(|id| announced(id, length, COMMAND, sent)).collect()
    };
    let mut long = trial.session(&[]);
    long.send(&many(16_777_215, 128));
    trial.closes("16 MiB each", long, "message_too_large");
    let mut short = trial.session(&[]);
    short.send(&many(1000, 128));
    trial.closes("1000 bytes each", short, "too_many_chunk_streams");
    let mut publisher = trial.publisher("a06");
    publisher.send(&many(60_000, 128));
    trial.closes("a publisher, 60,000 bytes each", publisher, "too_many_chunk_streams");
    let taken = trial.taken_kib();
    trial.verdict.expect(taken <= 512, || format!("{taken} KiB for chunk streams"));
}

pub(super) fn a07(trial: &mut Trial<'_>) {
    for format in [0, 1] {
        for length in [10, 100_000] {
            let mut attacker = trial.publisher("a07");
            attacker.send(&announced(4, 1000, AUDIO, 128));
            attacker.send(&header(format, 4, length, AUDIO, 1));
            attacker.send(&[0xaf; 10]);
            let left = length.min(128) - 10;
            attacker.send(&vec![0; left]);
            trial.serves("another length", attacker);
        }
    }
}

pub(super) fn a08(trial: &mut Trial<'_>) {
    for (kind, stream) in [(VIDEO, 1), (AUDIO, 2), (COMMAND, 0)] {
        let mut attacker = trial.publisher("a08");
        attacker.send(&announced(4, 1000, AUDIO, 128));
        attacker.send(&header(0, 4, 1000, kind, stream));
        attacker.send(&[0x17; 128]);
        for _ in 0..6 {
            attacker.send(&[&[0xc4], &[0x17; 128][..]].concat());
        }
        attacker.send(&[&[0xc4], &[0x17; 104][..]].concat());
        trial.serves("another type or stream", attacker);
    }
}

pub(super) fn a09(trial: &mut Trial<'_>) {
    const MESSAGES: u32 = 500;
    for (key, repeats) in [("a09with", true), ("a09without", false)] {
        let mut publisher = trial.publisher(key);
        let viewer = trial.viewer(key, Habits::default());
        let mut sent = Vec::new();
        for index in 0..MESSAGES {
            let timestamp = 0x0100_0000 + 20 * index;
            // With the field repeated, the bytes after it look like another repetition: the worst
            // case.
            let looks = if repeats { timestamp.to_be_bytes() } else { [0x21; 4] };
            let part = [&looks[..], &[0x42; 124]].concat();
            let payload = [&[0xaf, 1], &part[..126], &part, &part].concat();
            publisher.send(&extended(timestamp, &payload, repeats));
            sent.push(payload);
        }
        let is_there = wait_until(SOON, || viewer.seen().media >= sent.len() as u64);
        let seen = viewer.seen();
        let same = is_there && seen.digest == digest(sent.iter().map(Vec::as_slice));
        trial.verdict.expect(same, || format!("{key}: {} of {MESSAGES} as sent", seen.media));
        trial.serves(key, publisher);
    }
}

/// Returns an audio message with an extended timestamp, which type 3 chunks may repeat.
fn extended(timestamp: u32, payload: &[u8], repeats: bool) -> Vec<u8> {
    let whole = Message::new(4, AUDIO, payload).on(1).at(timestamp).chunks();
    if repeats {
        return whole;
    }
    let (head, mut rest) = whole.split_at(12 + 4 + 128);
    let mut out = head.to_vec();
    while !rest.is_empty() {
        let chunk = rest.len().min(1 + 4 + 128);
        out.push(rest[0]);
        out.extend(&rest[5..chunk]);
        rest = &rest[chunk..];
    }
    out
}

pub(super) fn a10(trial: &mut Trial<'_>) {
    let ping = [&[0x42, 0, 0, 0, 0, 0, 6, USER_CONTROL][..], &[0, 6, 0, 0, 0, 9]].concat();
    let mut first = trial.session(&[]);
    first.send(&ping);
    trial.serves("type 1", first);
    for header in [&[0x82, 0, 0, 0][..], &[0xc2]] {
        // Chunk stream 2 is unused so far, so the server has no header for it.
        let mut attacker = trial.send(wire::handshake());
        attacker.send(header);
        trial.closes("type 2 or 3", attacker, "missing_header");
    }
}

pub(super) fn a11(trial: &mut Trial<'_>) {
    let mut attacker = trial.session(&[]);
    attacker.send(&announced(20, 1000, COMMAND, 128));
    attacker.send(&wire::control(ABORT, 20).chunks());
    attacker.send(&wire::control(ABORT, 12_345).chunks());
    attacker.send(&wire::control(ABORT, 20).chunks().repeat(100_000));
    trial.serves("aborts", attacker);
}

pub(super) fn a12(trial: &mut Trial<'_>) {
    for publishes in [false, true] {
        let mut attacker = if publishes { trial.publisher("a12") } else { trial.session(&[]) };
        attacker.send(&header(0, 4, 0, AUDIO, 1));
        attacker.send(&vec![0xc4; 1_000_000]);
        trial.serves("empty messages", attacker);
    }
    let cpu_ms = trial.cpu().as_millis();
    trial.verdict.expect(cpu_ms < CPU_MS_MAX, || format!("{cpu_ms} ms of CPU"));
    trial.verdict.figure(format!("{cpu_ms} ms of CPU for 2,000,000"));
}

/// Returns a chunk header of type 0 or 1 with time 0 (RTMP 1.0, section 5.3.1.2).
fn header(format: u8, id: u32, length: usize, kind: u8, stream: u32) -> Vec<u8> {
    let mut out = wire::basic_header(format, id);
    out.extend([0, 0, 0]);
    out.extend(&(length as u32).to_be_bytes()[1..]);
    out.push(kind);
    if format == 0 {
        out.extend(stream.to_le_bytes());
    }
    out
}

/// Returns the first chunk of a message of `length` with `sent` bytes of it.
fn announced(id: u32, length: usize, kind: u8, sent: usize) -> Vec<u8> {
    let mut out = header(0, id, length, kind, 1);
    out.resize(out.len() + sent, 0);
    out
}
