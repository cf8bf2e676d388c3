//! Tests of the bounds of a tape, its start points and its memory files.

use super::*;
use crate::limits;
use crate::media::{AudioCodec, VideoCodec};
use crate::test_support::{self, hex, wire_messages};

const SETTINGS: TapeSettings = TapeSettings { bytes_max: 100_000, ..test_support::TAPE };

/// A message whose payload is `len` bytes of `fill`.
struct Frame {
    media: MediaKind,
    tracks: Tracks,
    codec: Option<Codec>,
    needs: Needs,
    header: Option<HeaderKind>,
    timestamp: u32,
    payload: Vec<u8>,
}

fn frame(media: MediaKind, needs: Needs, timestamp: u32, fill: u8) -> Frame {
    let (tracks, payload) = (Tracks::DEFAULT, vec![fill; 100]);
    Frame { media, tracks, codec: None, needs, header: None, timestamp, payload }
}

fn key(timestamp: u32) -> Frame {
    frame(MediaKind::Video, Needs::StartsGop, timestamp, b'K')
}

fn inter(timestamp: u32) -> Frame {
    frame(MediaKind::Video, Needs::Gop, timestamp, b'i')
}

fn audio(timestamp: u32) -> Frame {
    frame(MediaKind::Audio, Needs::Nothing, timestamp, b'a')
}

fn header(kind: HeaderKind, payload: &[u8]) -> Frame {
    Frame {
        media: kind.media(),
        tracks: Tracks::DEFAULT,
        codec: None,
        needs: Needs::Nothing,
        header: Some(kind),
        timestamp: 0,
        payload: payload.to_vec(),
    }
}

fn at(millis: u64) -> Time {
    Time::ZERO.plus_millis(millis)
}

fn sized(mut frame: Frame, len: usize) -> Frame {
    frame.payload.resize(len, frame.payload[0]);
    frame
}

fn recording(frame: &Frame) -> Recording<'_> {
    Recording {
        media: frame.media,
        tracks: frame.tracks,
        codec: frame.codec,
        needs: frame.needs,
        header: frame.header,
        is_frame: frame.header.is_none() && frame.media != MediaKind::Data,
        sent: frame.timestamp,
        timestamp: frame.timestamp,
        payload: &frame.payload,
    }
}

/// A tape with its settings.
struct Bench {
    tape: Tape,
    settings: TapeSettings,
    has_players: bool,
}

impl Bench {
    fn new(has_players: bool) -> Self {
        Self { tape: Tape::default(), settings: SETTINGS, has_players }
    }

    fn record(&mut self, frame: &Frame, millis: u64) -> bool {
        let news = self.tape.record(recording(frame), self.has_players, at(millis), &self.settings);
        self.check_invariants();
        news
    }

    fn check_invariants(&self) {
        let tape = &self.tape;
        let bytes: usize = tape.entries.iter().map(|entry| entry.wire.len()).sum();
        assert_eq!(tape.bytes, bytes);
        assert!(tape.start_sequence().is_none_or(|start| tape.get(start).is_some()));
        let last = tape.entries.back().map_or(tape.recorded, |e| e.offset + e.wire.len() as u64);
        assert_eq!(last, tape.recorded);
    }

    fn all(&self) -> Vec<(u8, u32)> {
        self.from(self.tape.first_sequence())
    }

    /// Returns the first payload byte and the timestamp of every message from `sequence` on.
    fn from(&self, sequence: u64) -> Vec<(u8, u32)> {
        let wire: Vec<_> = self.tape.from(sequence).flat_map(|e| e.wire.to_vec()).collect();
        self.brief(&wire)
    }

    fn brief(&self, wire: &[u8]) -> Vec<(u8, u32)> {
        let messages = wire_messages(wire, self.settings.chunk_size);
        messages.iter().map(|(header, payload)| (payload[0], header.timestamp)).collect()
    }
}

#[test]
fn a_newcomer_gets_the_headers_and_the_newest_gop() {
    let mut bench = Bench::new(false);
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 0);
    bench.record(&header(HeaderKind::AudioSequence, b"A"), 0);
    bench.record(&header(HeaderKind::Metadata, b"M"), 0);
    for (frame, millis) in [
        (key(1000), 1000),
        (inter(1040), 1040),
        (key(2000), 2000),
        (audio(2005), 2005),
        (inter(2040), 2040),
    ] {
        bench.record(&frame, millis);
    }
    assert_eq!(bench.all(), [(b'K', 2000), (b'a', 2005), (b'i', 2040)]);
    assert_eq!(bench.tape.start_sequence(), Some(bench.tape.first_sequence()));
    let prelude = bench.tape.start_prelude(Receives::ALL);
    assert_eq!(bench.brief(&prelude), [(b'M', 0), (b'A', 2000), (b'V', 2000)]);
}

#[test]
fn headers_come_in_one_order_however_they_arrived() {
    let kinds = [
        HeaderKind::ColorInfo,
        HeaderKind::VideoSequence,
        HeaderKind::Multichannel,
        HeaderKind::AudioSequence,
        HeaderKind::Metadata,
    ];
    let mut bench = Bench::new(false);
    for (kind, name) in kinds.into_iter().zip(b"54321") {
        bench.record(&header(kind, &[*name]), 0);
    }
    let prelude = bench.tape.live_prelude(Receives::ALL);
    let order: Vec<_> = bench.brief(&prelude).iter().map(|(name, _)| *name).collect();
    assert_eq!(order, b"12345");
}

#[test]
fn the_prelude_is_encoded_once_for_all_newcomers() {
    let mut bench = Bench::new(false);
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 0);
    bench.record(&key(0), 0);
    let first = bench.tape.start_prelude(Receives::ALL);
    let second = bench.tape.start_prelude(Receives::ALL);
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[test]
fn fl_04_a_changed_decoder_configuration_ends_the_start_point() {
    let mut bench = Bench::new(false);
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 0);
    bench.record(&key(0), 0);
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 10);
    assert!(bench.tape.start_sequence().is_some(), "the same configuration changes nothing");
    bench.record(&header(HeaderKind::VideoSequence, b"W"), 20);
    assert_eq!(bench.tape.start_sequence(), None);
    bench.record(&key(40), 40);
    let prelude = bench.tape.start_prelude(Receives::ALL);
    assert_eq!(bench.brief(&prelude), [(b'W', 40)]);
    assert_eq!(bench.all(), [(b'K', 40)]);
}

#[test]
fn a_start_point_keeps_the_headers_of_its_own_time() {
    let mut bench = Bench::new(true);
    bench.record(&header(HeaderKind::AudioSequence, b"A"), 0);
    bench.record(&key(0), 0);
    bench.record(&header(HeaderKind::AudioSequence, b"B"), 20);
    let prelude = bench.tape.start_prelude(Receives::ALL);
    assert_eq!(bench.brief(&prelude), [(b'A', 0)], "B follows on the tape");
    assert_eq!(bench.from(bench.tape.start_sequence().unwrap()), [(b'K', 0), (b'B', 0)]);
    assert_eq!(bench.brief(&bench.tape.live_prelude(Receives::ALL)), [(b'B', 0)]);
}

#[test]
fn kept_headers_are_bounded_in_bytes() {
    let half = vec![1; limits::HEADERS_BYTES_MAX / 2];
    for (second_len, kept) in [(half.len(), 2), (half.len() + 1, 1)] {
        let mut bench = Bench::new(false);
        bench.settings.bytes_max = limits::TAPE_BYTES_MAX;
        bench.record(&header(HeaderKind::AudioSequence, &half), 0);
        bench.record(&header(HeaderKind::VideoSequence, &vec![2; second_len]), 0);
        let prelude = bench.tape.live_prelude(Receives::ALL);
        assert_eq!(wire_messages(&prelude, 60_000).len(), kept);
    }
}

#[test]
fn a_header_counts_only_while_its_codec_is_sent() {
    let of = |codec, frame: Frame| Frame { codec: Some(Codec::Audio(codec)), ..frame };
    let (aac, g711) = (AudioCodec::Aac, AudioCodec::Legacy(7));
    let mut bench = Bench::new(true);
    let mut headers_after = |frame: &Frame| {
        bench.record(frame, 0);
        let prelude = bench.tape.live_prelude(Receives::ALL);
        bench.brief(&prelude).iter().map(|(name, _)| char::from(*name)).collect::<String>()
    };
    let [sequence, channels] =
        [(HeaderKind::AudioSequence, b"A"), (HeaderKind::Multichannel, b"C")]
            .map(|(kind, name)| of(aac, header(kind, name)));
    headers_after(&header(HeaderKind::VideoSequence, b"V"));
    for (frame, expected) in [
        (&sequence, "AV"),
        (&channels, "ACV"),
        (&of(aac, audio(0)), "ACV"),
        (&of(g711, audio(20)), "V"),
        (&audio(40), "V"),
        (&of(g711, audio(60)), "V"),
        // The old codec comes back, as after a stray message.
        (&of(aac, audio(80)), "ACV"),
        (&of(g711, audio(100)), "V"),
        (&sequence, "ACV"),
        (&of(AudioCodec::Opus, header(HeaderKind::AudioSequence, b"O")), "OV"),
    ] {
        assert_eq!(headers_after(frame), expected);
    }
}

#[test]
fn a_video_codec_without_a_header_ends_the_start_of_the_one_before() {
    let of = |codec, frame: Frame| Frame { codec: Some(Codec::Video(codec)), ..frame };
    let vp6 = |frame| of(VideoCodec::Legacy(4), frame);
    let mut bench = Bench::new(true);
    bench.record(&of(VideoCodec::Avc, header(HeaderKind::VideoSequence, b"V")), 0);
    bench.record(&of(VideoCodec::Avc, key(0)), 0);
    bench.record(&vp6(inter(40)), 0);
    assert_eq!(bench.tape.start_sequence(), None);
    bench.record(&vp6(key(80)), 0);
    assert_eq!(bench.tape.start_sequence(), Some(4));
    assert!(bench.tape.start_prelude(Receives::ALL).is_empty());
}

#[test]
fn a_codec_ends_the_headers_of_its_own_track_alone() {
    let of = |track, codec, frame| Frame { codec: Some(Codec::Video(codec)), ..on(track, frame) };
    let header =
        |track, codec, name: &[u8]| of(track, codec, header(HeaderKind::VideoSequence, name));
    let mut bench = Bench::new(true);
    for frame in [
        header(1, VideoCodec::Avc, b"1"),
        header(2, VideoCodec::Hevc, b"2"),
        of(1, VideoCodec::Avc, key(0)),
        of(2, VideoCodec::Vp9, key(0)),
        of(1, VideoCodec::Avc, inter(40)),
    ] {
        bench.record(&frame, 0);
    }
    assert_eq!(bench.brief(&bench.tape.live_prelude(Receives::ALL)), [(b'1', 40)]);
}

#[test]
fn cleared_metadata_reaches_no_newcomer() {
    let mut bench = Bench::new(false);
    bench.record(&header(HeaderKind::Metadata, b"M"), 0);
    bench.record(&header(HeaderKind::AudioSequence, b"A"), 0);
    bench.tape.clear_metadata();
    assert_eq!(bench.brief(&bench.tape.live_prelude(Receives::ALL)), [(b'A', 0)]);
}

#[test]
fn fl_06_the_tape_is_bounded_in_bytes() {
    // 1000 bytes of payload are 1012 bytes on the wire.
    let four = 4 * (1012 + size_of::<Entry>());
    for (bytes_max, kept) in [(four, 4), (four - 1, 3)] {
        let mut bench = Bench::new(true);
        bench.settings.bytes_max = bytes_max;
        bench.record(&sized(key(0), 1000), 0);
        for millis in 1..4 {
            bench.record(&sized(inter(millis), 1000), millis.into());
        }
        assert_eq!((bench.all().len(), bench.tape.start_sequence().is_some()), (kept, kept == 4));
        assert!(bench.tape.bytes() <= bytes_max);
    }
}

#[test]
fn small_messages_hold_no_more_memory_than_large_ones() {
    let mut bench = Bench::new(true);
    bench.record(&key(0), 0);
    for _ in 0..5000 {
        bench.record(&sized(audio(0), 1), 0);
    }
    let held = bench.tape.bytes() + bench.all().len() * size_of::<Entry>();
    let room = SETTINGS.bytes_max - held;
    assert!(room < 13 + size_of::<Entry>(), "{held} bytes are held");
}

#[test]
fn a_message_longer_than_the_tape_leaves_nothing_behind() {
    let mut bench = Bench::new(true);
    bench.settings.bytes_max = 500;
    bench.record(&sized(key(0), 1000), 0);
    assert_eq!((bench.tape.bytes(), bench.tape.start_sequence()), (0, None));
    assert_eq!(bench.tape.first_sequence(), 2);
}

#[test]
fn the_newest_gop_is_kept_however_long_it_lasts() {
    for has_players in [false, true] {
        let mut bench = Bench::new(has_players);
        for seconds in 0..240 {
            let frame = if seconds == 0 { key(0) } else { inter(seconds * 1000) };
            bench.record(&frame, u64::from(seconds) * 1000);
        }
        assert_eq!(bench.all().len(), 240, "players: {has_players}");
        assert_eq!(bench.tape.start_sequence(), Some(1));
        bench.record(&key(240_000), 240_000);
        assert_eq!(bench.all().len(), if has_players { 6 } else { 1 });
        assert_eq!(bench.tape.gops_cut(), 0);
    }
}

#[test]
fn what_is_older_than_the_newest_start_is_bounded_in_arrival_time() {
    for (millis, kept) in [(2000, 2), (2001, 1)] {
        let mut bench = Bench::new(true);
        bench.settings.span_ms_max = 2000;
        bench.record(&audio(0), 0);
        bench.record(&key(0), millis);
        assert_eq!(bench.all().len(), kept);
    }
}

#[test]
fn a_gop_that_is_too_large_to_keep_is_counted_once() {
    for (keep_start, counted) in [(true, 2), (false, 0)] {
        let mut bench = Bench::new(true);
        bench.settings.keep_start = keep_start;
        bench.settings.bytes_max = 3000;
        for gop in 0..2 {
            bench.record(&key(gop * 1000), 0);
            for frame in 1..20 {
                bench.record(&sized(inter(gop * 1000 + frame), 1000), 0);
            }
        }
        assert_eq!(bench.tape.gops_cut(), counted);
        assert_eq!(bench.tape.start_sequence(), None);
        bench.record(&key(5000), 0);
        assert!(bench.tape.start_sequence().is_some());
        assert_eq!(bench.tape.gops_cut(), counted);
    }
}

/// An H.264 message with these NAL units.
fn h264(is_marked: bool, timestamp: u32, units: &str) -> Frame {
    let needs = if is_marked { Needs::StartsGop } else { Needs::Gop };
    let mut frame = frame(MediaKind::Video, needs, timestamp, 0);
    let head = if is_marked { "17 01 000000" } else { "27 01 000000" };
    frame.payload = hex(&format!("{head} {units}"));
    frame
}

const IDR: &str = "00000003 658884";
const IDR_FURTHER: &str = "00000003 654884";
const INTER: &str = "00000003 419a00";

#[test]
fn a_newcomer_begins_with_the_first_message_of_the_keyframe() {
    // The slices of a keyframe that are marked as one.
    for marked in [[true; 3], [true, false, false], [false, false, true], [false, true, true]] {
        for has_players in [false, true] {
            let mut bench = Bench::new(has_players);
            for (gop, at) in [(0, 0), (1, 2000)] {
                for (is_marked, slice) in marked.iter().zip([IDR, IDR_FURTHER, IDR_FURTHER]) {
                    bench.record(&h264(*is_marked, at, slice), gop);
                    bench.record(&audio(at), gop);
                }
                for _ in 0..2 {
                    bench.record(&h264(false, at + 40, INTER), gop);
                }
            }
            let mut video = joined(&bench);
            video.retain(|(name, _)| *name != b'a');
            let picture = marked.map(|is_marked| (if is_marked { 0x17 } else { 0x27 }, 2000));
            let expected = [&picture[..], &[(0x27, 2040); 2]].concat();
            assert_eq!(video, expected, "{marked:?}, players: {has_players}");
        }
    }
}

#[test]
fn pictures_of_one_timestamp_are_told_apart_by_their_slices() {
    const PARAMETERS: &str = "00000003 674200 00000002 68ce";
    let [key, inter] = [true, false].map(|is_marked| move |units| h264(is_marked, 0, units));
    for (name, frames, start) in [
        ("an inter picture before it", vec![inter(INTER), key(IDR)], 2),
        ("several, with a clock of seconds", vec![key(IDR), inter(INTER), key(IDR)], 3),
        ("keyframes alone", vec![key(IDR), key(IDR)], 2),
        ("parameter sets before it", vec![inter(INTER), inter(PARAMETERS), key(IDR)], 2),
        ("marked as well", vec![key(PARAMETERS), key(IDR), key(IDR_FURTHER)], 1),
        ("slices marked now and then", vec![key(IDR), inter(IDR_FURTHER), key(IDR_FURTHER)], 1),
        ("the last slice marked", vec![inter(IDR), key(IDR_FURTHER)], 1),
    ] {
        for chunk_size in [60_000, 128] {
            let mut bench = Bench::new(true);
            bench.settings.chunk_size = chunk_size;
            let large = format!("00000200 {}", "65".repeat(512));
            bench.record(&h264(true, u32::MAX, &large), 0);
            for frame in &frames {
                bench.record(frame, 0);
            }
            assert_eq!(bench.tape.start_sequence(), Some(1 + start), "{name}");
        }
    }
}

#[test]
fn the_slices_of_a_keyframe_are_one_gop_on_each_track() {
    let mut bench = Bench::new(true);
    let slices =
        [key(0), on(1, inter(0)), key(0), on(1, key(0)), inter(0), on(1, inter(0)), inter(40)];
    for frame in slices {
        bench.record(&frame, 0);
    }
    let needs: Vec<_> = bench.tape.from(0).map(|entry| entry.needs).collect();
    assert_eq!(needs, [1, LOST, 1, 4, 1, 4, 1]);
    assert_eq!(bench.tape.start_sequence(), Some(1));
}

#[test]
fn a_keyframe_that_began_before_there_was_a_tape_for_it_is_no_start() {
    let mut bench = Bench::new(false);
    bench.settings.keep_start = false;
    bench.record(&key(0), 0);
    bench.has_players = true;
    for frame in [key(0), inter(40)] {
        bench.record(&frame, 0);
    }
    let needs: Vec<_> = bench.tape.from(0).map(|entry| entry.needs).collect();
    assert_eq!(needs, [LOST, LOST]);
    bench.record(&key(80), 0);
    assert_eq!(bench.tape.start_sequence(), Some(3));
}

#[test]
fn b03_frozen_timestamps_change_no_bound() {
    let mut frozen = Bench::new(true);
    let mut moving = Bench::new(true);
    for millis in 0..2000 {
        let make = if millis % 500 == 0 { key } else { inter };
        frozen.record(&sized(make(0), 500), millis * 20);
        moving.record(&sized(make(millis as u32 * 20), 500), millis * 20);
        assert_eq!(frozen.tape.bytes(), moving.tape.bytes());
        assert!(frozen.tape.bytes() <= SETTINGS.bytes_max);
    }
}

#[test]
fn what_is_older_than_lag_and_newest_gop_goes() {
    for (millis, kept) in [(5000, 2), (5001, 1)] {
        let mut bench = Bench::new(true);
        bench.record(&audio(0), 0);
        bench.record(&key(0), millis);
        assert_eq!(bench.all().len(), kept);
    }
}

/// A tape with players, and the budget of a turn for memory files.
struct Stored {
    bench: Bench,
    budget: Budget,
}

impl Stored {
    fn new() -> Self {
        let mut bench = Bench::new(true);
        bench.settings.bytes_max = 16 * limits::MIB;
        Self { bench, budget: Budget::STORING }
    }

    /// Records audio messages of these sizes, and stores them in another turn.
    fn store(&mut self, sizes: &[usize]) -> bool {
        for size in sizes {
            self.bench.record(&sized(audio(0), *size), 0);
        }
        self.budget = Budget::STORING;
        self.store_more(true)
    }

    fn store_more(&mut self, may_open: bool) -> bool {
        let open = test_support::file;
        let settings = SegmentSettings { open, players_min: 1, run_bytes_min: 1, files_max: 9 };
        let mut players = Watching::default();
        players.add(Framing::Rtmp);
        // A file that is open counts.
        let files_max = if may_open { usize::MAX } else { self.bench.tape.files() };
        self.bench.tape.store(&players, files_max, &settings, &mut self.budget).unwrap()
    }

    fn files_and_bytes(&self) -> (usize, u64) {
        let segments = &self.bench.tape.segments;
        (segments.files(), segments.bytes())
    }
}

/// Length of audio of `len` bytes in wire form, with a chunk header for each 60,000 bytes.
const fn wire_bytes(len: usize) -> u64 {
    (12 + len + (len - 1) / SETTINGS.chunk_size as usize) as u64
}

#[test]
fn what_a_turn_cannot_write_to_a_file_is_left_out_of_it() {
    const LARGE: usize = limits::SEGMENT_BYTES - 100;
    let mut stored = Stored::new();
    assert!(stored.store(&[LARGE]), "as much as goes into a turn");
    assert_eq!(stored.files_and_bytes(), (1, wire_bytes(LARGE)));
    assert!(!stored.store(&[LARGE, 200]), "more than that");
    assert!(stored.store(&[300]), "without what was left out");
    let bytes = wire_bytes(LARGE) + wire_bytes(300);
    assert_eq!(stored.files_and_bytes(), (2, bytes));
    let tape = &stored.bench.tape;
    let from = tape.recorded_bytes() - wire_bytes(300);
    let run = tape.run(from, tape.recorded_bytes()).map(|run| (run.position, run.len as u64));
    assert_eq!(run, Some((0, wire_bytes(300))));
    assert!(tape.run(from - 1, tape.recorded_bytes()).is_none());
}

#[test]
fn what_was_too_little_for_a_file_goes_to_it_with_what_follows() {
    let mut stored = Stored::new();
    assert!(stored.store(&[100]));
    stored.bench.record(&sized(audio(0), 100), 0);
    stored.bench.tape.considered = stored.bench.tape.recorded;
    assert!(stored.store(&[100]));
    assert_eq!(stored.files_and_bytes(), (1, 3 * wire_bytes(100)));
}

#[test]
fn messages_that_a_turn_writes_to_files_are_bounded_as_well() {
    for (messages, is_stored) in
        [(Budget::STORING.messages, true), (Budget::STORING.messages + 1, false)]
    {
        let mut stored = Stored::new();
        assert_eq!(stored.store(&vec![1; messages]), is_stored, "{messages}");
    }
}

#[test]
fn a_tape_that_may_open_no_file_is_not_charged_for_what_does_not_go_to_one() {
    let mut stored = Stored::new();
    stored.bench.record(&audio(0), 0);
    assert!(!stored.store_more(false));
    assert_eq!(stored.budget, Budget::STORING);
}

/// A track that stopped in the middle of an access unit does not keep messages on the tape for
/// long, nor does a keyframe of a track that does not lead. Only the newest start point does.
#[test]
fn what_may_become_a_start_point_is_kept_for_a_limited_time() {
    let unit = vec![inter(0)];
    let config = |fill| header(HeaderKind::VideoSequence, &[fill]);
    let early = vec![config(b'V'), key(0), on(1, key(40)), config(b'W')];
    let newest = vec![key(0)];
    for (name, frames, is_kept) in
        [("unit", unit, false), ("early", early, false), ("newest", newest, true)]
    {
        let mut bench = Bench::new(true);
        bench.settings.bytes_max = 1 << 20;
        frames.iter().for_each(|frame| assert!(bench.record(frame, 0)));
        let first_audio = bench.tape.next_sequence();
        for millis in (20..=SETTINGS.span_ms_max + 20).step_by(20) {
            let is_over = millis > SETTINGS.span_ms_max;
            bench.record(&audio(millis as u32), millis);
            let holds = bench.tape.first_sequence() < first_audio;
            assert_eq!(holds, is_kept || !is_over, "{name} after {millis} ms");
        }
        // A long backlog takes a second message to go.
        let millis = SETTINGS.span_ms_max + 40;
        bench.record(&audio(millis as u32), millis);
        let kept = bench.all().len() as u64;
        assert!(is_kept || kept <= 1 + SETTINGS.lag_ms / 20, "{name}: {kept} messages");
    }
}

#[test]
fn without_players_only_the_newest_gop_is_kept() {
    let mut bench = Bench::new(false);
    assert!(!bench.record(&audio(0), 0), "before the first start point nothing is kept");
    assert!(bench.record(&key(0), 1));
    assert!(bench.record(&inter(1), 2));
    assert!(bench.record(&key(2), 3));
    assert_eq!(bench.all(), [(b'K', 2)]);
}

#[test]
fn without_players_and_without_a_kept_start_nothing_is_encoded() {
    let mut bench = Bench::new(false);
    bench.settings.keep_start = false;
    for millis in 0..10 {
        assert!(!bench.record(&key(millis), millis.into()));
    }
    assert_eq!((bench.tape.bytes(), bench.tape.recorded_bytes()), (0, 0));
}

#[test]
fn fl_05_an_audio_only_stream_grows_no_cache() {
    for (has_players, kept_max) in [(false, 0), (true, 251)] {
        let mut bench = Bench::new(has_players);
        for millis in (0..600_000).step_by(20) {
            bench.record(&audio(millis as u32), millis);
        }
        assert!(bench.all().len() <= kept_max);
    }
}

#[test]
fn messages_of_a_gop_whose_keyframe_was_not_recorded_reach_no_player() {
    let mut bench = Bench::new(true);
    for (millis, frame) in [inter(0), audio(1), key(2), inter(3)].iter().enumerate() {
        bench.record(frame, millis as u64);
    }
    let needs: Vec<_> = bench.tape.from(0).map(|entry| entry.needs).collect();
    assert_eq!(needs, [LOST, 2, 3, 3]);
}

/// Moves a frame to another track.
fn on(track: u8, mut frame: Frame) -> Frame {
    let payload = [0x96, 0x01, b'h', b'v', b'c', b'1', track];
    frame.tracks = media::classify_video(&payload).unwrap().tracks;
    frame
}

/// Returns the messages that a late player receives at the start point.
fn joined(bench: &Bench) -> Vec<(u8, u32)> {
    let start = bench.tape.start_sequence().unwrap();
    let decodable = bench.tape.from(start).filter(|entry| entry.needs >= start);
    let wire: Vec<_> = decodable.flat_map(|entry| entry.wire.to_vec()).collect();
    bench.brief(&wire)
}

#[test]
fn a_message_needs_the_keyframe_of_its_own_track() {
    let mut bench = Bench::new(true);
    let frames = [key(0), on(1, inter(0)), on(1, key(1)), audio(1), inter(2), on(1, inter(2))];
    for frame in frames {
        bench.record(&frame, 0);
    }
    let needs: Vec<_> = bench.tape.from(0).map(|entry| entry.needs).collect();
    assert_eq!(needs, [1, LOST, 3, 4, 1, 3]);
}

#[test]
fn without_players_a_start_holds_the_aligned_keyframes_before_it() {
    let mut bench = Bench::new(false);
    let gop = |millis: u32| {
        let [first, second] = [millis, millis + 40].map(|at| on(1, inter(at)));
        [on(1, key(millis)), first, key(millis + 40), second]
    };
    for (index, frame) in gop(0).iter().chain(&gop(2000)).enumerate() {
        bench.record(frame, index as u64);
    }
    let start = |at| [(b'K', at), (b'i', at), (b'K', at + 40), (b'i', at + 40)];
    assert_eq!(joined(&bench), start(2000));
    // A new configuration removes the start point. The messages of the next one are still kept.
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 10);
    bench.record(&key(3000), 10);
    bench.record(&header(HeaderKind::VideoSequence, b"W"), 10);
    assert_eq!(bench.tape.start_sequence(), None);
    for frame in gop(4000) {
        bench.record(&frame, 11);
    }
    assert_eq!(joined(&bench), start(4000));
}

#[test]
fn a_keyframe_that_was_not_recorded_is_lost() {
    let mut bench = Bench::new(false);
    bench.settings.keep_start = false;
    bench.record(&key(0), 0);
    bench.has_players = true;
    bench.record(&inter(40), 40);
    let needs: Vec<_> = bench.tape.from(0).map(|entry| entry.needs).collect();
    assert_eq!(needs, [LOST]);
}

#[test]
fn frames_of_an_unknown_codec_need_a_keyframe_only_if_there_are_any() {
    let unknown = |timestamp| frame(MediaKind::Video, Needs::GopIfAny, timestamp, b'u');
    let mut bench = Bench::new(true);
    for (millis, frame) in [unknown(0), unknown(1), key(2), unknown(3)].iter().enumerate() {
        bench.record(frame, millis as u64);
    }
    let needs: Vec<_> = bench.tape.from(0).map(|entry| entry.needs).collect();
    assert_eq!(needs, [1, 2, 3, 3]);
}

#[test]
fn a_returning_publisher_needs_a_keyframe_on_every_track() {
    let mut bench = Bench::new(true);
    for frame in [key(0), on(1, key(0))] {
        bench.record(&frame, 0);
    }
    bench.tape.begin(true);
    assert_eq!(bench.tape.start_sequence(), None, "no player starts in the last GOP");
    let sequence = bench.tape.next_sequence();
    for frame in [key(0), on(1, inter(0)), inter(40), on(1, key(40)), on(1, inter(80))] {
        bench.record(&frame, 0);
    }
    let needs: Vec<_> = bench.tape.from(sequence).map(|entry| entry.needs).collect();
    assert_eq!(needs, [sequence, LOST, sequence, sequence + 3, sequence + 3]);
}

#[test]
fn fl_07_a_new_publisher_begins_with_nothing_of_the_last_one() {
    let mut bench = Bench::new(true);
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 0);
    bench.record(&key(5000), 0);
    let sequence = bench.tape.next_sequence();
    bench.tape.end();
    assert_eq!(bench.tape.start_sequence(), None);
    bench.tape.begin(false);
    assert_eq!((bench.tape.first_sequence(), bench.tape.bytes()), (sequence, 0));
    assert!(bench.tape.live_prelude(Receives::ALL).is_empty());
    bench.record(&inter(7), 10);
    assert_eq!(bench.tape.start_sequence(), None, "its first GOP has not begun");
    bench.record(&key(20), 20);
    assert_eq!(joined(&bench), [(b'K', 20)]);
}

#[test]
fn players_of_a_returning_publisher_keep_what_they_have_not_read() {
    let mut bench = Bench::new(true);
    bench.record(&key(0), 0);
    bench.tape.end();
    bench.tape.begin(true);
    bench.record(&key(1000), 1000);
    assert_eq!(bench.all(), [(b'K', 0), (b'K', 1000)]);
}

#[test]
fn a_tape_that_is_over_holds_no_memory() {
    let mut bench = Bench::new(true);
    bench.record(&header(HeaderKind::VideoSequence, b"V"), 0);
    bench.record(&key(100), 0);
    bench.tape.end();
    assert_eq!(bench.all(), [(b'V', 0), (b'K', 100)], "players may finish");
    bench.tape.forget();
    assert_eq!((bench.tape.first_sequence(), bench.tape.next_sequence()), (3, 3));
    assert_eq!((bench.tape.bytes(), bench.tape.blocks.bytes()), (0, 0));
    assert_eq!(bench.tape.entries.capacity(), 0);
    assert!(bench.tape.live_prelude(Receives::ALL).is_empty());
}

#[test]
fn messages_of_a_block_share_it() {
    let mut bench = Bench::new(true);
    bench.record(&key(0), 0);
    bench.record(&inter(1), 1);
    let [first, second] = [1, 2].map(|sequence| &bench.tape.get(sequence).unwrap().wire);
    assert_eq!(first.as_ptr().wrapping_add(first.len()), second.as_ptr());
}

#[test]
fn a_backlog_that_nobody_reads_any_more_goes_a_bounded_piece_with_each_message() {
    const PIECE: usize = limits::MESSAGES_TRIMMED_MAX;
    let mut bench = Bench::new(true);
    bench.settings.bytes_max = limits::TAPE_BYTES_MAX;
    let tiny = sized(audio(0), 1);
    (0..3 * PIECE).for_each(|_| {
        bench.tape.record(recording(&tiny), true, at(0), &bench.settings);
    });
    bench.has_players = false;
    let mut kept = Vec::new();
    for millis in 1..=4 {
        bench.record(&tiny, millis);
        kept.push(bench.tape.entries.len());
    }
    assert_eq!(kept, [2 * PIECE, PIECE, 0, 0]);
}
