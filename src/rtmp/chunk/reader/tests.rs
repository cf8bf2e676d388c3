//! Tests of reading chunks.

use super::*;
use crate::rtmp::chunk::header::{TIMESTAMP_EXTENDED, TYPE_0_DELTA_MS_MAX};
use crate::rtmp::chunk::partial::SPARES_MAX;
use crate::rtmp::chunk::writer::{write_control, write_message};
use crate::rtmp::message::Control;
use crate::rtmp::message::MessageHeader;
use crate::rtmp::message::tests::hex;

/// The complete result of reading some bytes.
#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<OwnedMessage>,
    error: Option<ChunkError>,
    tolerated: Tolerated,
}

#[derive(Clone, Debug, PartialEq)]
struct OwnedMessage {
    header: MessageHeader,
    payload: Vec<u8>,
}

impl Outcome {
    fn timestamps(&self) -> Vec<u32> {
        self.messages.iter().map(|message| message.header.timestamp).collect()
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.messages.iter().map(|message| message.payload.as_slice()).collect()
    }
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// Counters for tests that do not check quirks.
fn tolerated() -> Tolerated {
    Tolerated::default()
}

/// Reads the next message of a correct publisher.
fn next<'a, 'i: 'a>(reader: &'a mut ChunkReader, input: &mut &'i mut [u8]) -> Option<Message<'a>> {
    reader.next_message(input, &ReadLimits::default(), &mut tolerated()).unwrap()
}

/// Reads the bytes of a publisher, and applies its control messages.
fn read_pieces<'b>(pieces: impl Iterator<Item = &'b [u8]>, limits: &ReadLimits) -> Outcome {
    let mut reader = ChunkReader::new();
    let tolerated = Tolerated::default();
    let mut outcome = Outcome { messages: vec![], error: None, tolerated };
    let mut received = 0;
    for piece in pieces {
        received += piece.len();
        let mut input = &mut piece.to_owned()[..];
        loop {
            let message = match reader.next_message(&mut input, limits, &mut outcome.tolerated) {
                Ok(Some(Message { header, payload })) => {
                    OwnedMessage { header, payload: payload.to_vec() }
                }
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            };
            match Control::parse(message.header.kind, &message.payload) {
                Ok(Some(Control::SetChunkSize(size))) => reader.set_chunk_size(size),
                Ok(Some(Control::Abort(id))) => reader.abort(id),
                _ => {}
            }
            outcome.messages.push(message);
            assert!(reader.assembly_bytes() <= 2 * received + 8 * limits::KIB);
        }
        assert!(input.is_empty(), "a reader that wants more has consumed all");
        assert!(reader.assembly_bytes() <= 2 * received + 8 * limits::KIB);
    }
    outcome
}

fn random_pieces(mut bytes: &[u8], seed: u64) -> impl Iterator<Item = &[u8]> {
    let mut random = Xorshift(seed);
    let longest = [4, 40, 400, 4000][random.below(4)];
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (piece, rest) = bytes.split_at((1 + random.below(longest)).min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}

/// Row CH-46 for every vector below: in one block, byte by byte and at random splits.
fn read_within(bytes: &[u8], limits: &ReadLimits) -> Outcome {
    let outcome = read_pieces(std::iter::once(bytes), limits);
    assert_eq!(read_pieces(bytes.chunks(1), limits), outcome, "byte by byte");
    for seed in 1..5 {
        assert_eq!(read_pieces(random_pieces(bytes, seed), limits), outcome, "seed {seed}");
    }
    outcome
}

fn read(bytes: &[u8]) -> Outcome {
    read_within(bytes, &ReadLimits::default())
}

fn message(chunk_stream_id: u32, timestamp: u32, kind: u8, payload: &[u8]) -> OwnedMessage {
    OwnedMessage {
        header: MessageHeader { chunk_stream_id, timestamp, kind, message_stream_id: 1 },
        payload: payload.to_vec(),
    }
}

fn only(messages: &[OwnedMessage]) -> Outcome {
    Outcome { messages: messages.to_vec(), error: None, tolerated: Tolerated::default() }
}

/// A payload without two equal neighbouring pieces.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 128) as u8).collect()
}

/// Joins hex digits and payloads in order.
fn wire(parts: &[(&str, &[u8])]) -> Vec<u8> {
    parts.iter().flat_map(|(header, payload)| [hex(header), payload.to_vec()].concat()).collect()
}

#[test]
fn ch_01_both_forms_of_a_chunk_stream_id_are_one_stream() {
    let bytes = wire(&[("00 00 000005 000001 08 01000000 aa", &[]), ("c1 00 00 bb", &[])]);
    let outcome = read(&bytes);
    assert_eq!(
        outcome.messages,
        [message(64, 5, kind::AUDIO, &[0xaa]), message(64, 10, kind::AUDIO, &[0xbb])]
    );
    for (basic, id) in [("00 ff", 319), ("01 ff 00", 319), ("01 00 01", 320)] {
        let bytes = wire(&[(basic, &[]), ("000000 000001 08 01000000 aa", &[])]);
        assert_eq!(read(&bytes), only(&[message(id, 0, kind::AUDIO, &[0xaa])]));
    }
}

#[test]
fn ch_02_largest_chunk_stream_id_is_accepted() {
    let bytes = hex("01 ff ff 000000 000001 14 01000000 02");
    assert_eq!(read(&bytes), only(&[message(65599, 0, kind::COMMAND_AMF0, &[2])]));
}

#[test]
fn ch_03_message_of_307_bytes_comes_in_three_chunks() {
    let video = payload(307);
    let bytes = wire(&[
        ("04 0003e8 000133 09 01000000", &video[..128]),
        ("c4", &video[128..256]),
        ("c4", &video[256..]),
    ]);
    assert_eq!(read(&bytes), only(&[message(4, 1000, kind::VIDEO, &video)]));
}

#[test]
fn ch_04_whole_multiples_of_the_chunk_size_need_no_empty_chunk() {
    let (one, two) = (payload(128), payload(256));
    let bytes = wire(&[
        ("04 000000 000080 09 01000000", &one),
        ("04 000000 000100 09 01000000", &two[..128]),
        ("c4", &two[128..]),
    ]);
    let expected = [message(4, 0, kind::VIDEO, &one), message(4, 0, kind::VIDEO, &two)];
    assert_eq!(read(&bytes), only(&expected));
}

#[test]
fn ch_05_message_without_payload_ends_with_its_header() {
    let bytes = hex("04 000000 000000 08 01000000 04 000014 000001 08 01000000 af");
    let expected = [message(4, 0, kind::AUDIO, &[]), message(4, 20, kind::AUDIO, &[0xaf])];
    assert_eq!(read(&bytes), only(&expected));
}

#[test]
fn ch_06_audio_inside_a_split_video_completes_first() {
    let (audio, video) = (payload(140), payload(300));
    let bytes = wire(&[
        ("06 000000 00012c 09 01000000", &video[..128]),
        ("04 000005 00008c 08 01000000", &audio[..128]),
        ("c6", &video[128..256]),
        ("c4", &audio[128..]),
        ("c6", &video[256..]),
    ]);
    let expected = [message(4, 5, kind::AUDIO, &audio), message(6, 0, kind::VIDEO, &video)];
    assert_eq!(read(&bytes), only(&expected));
}

#[test]
fn ch_07_deltas_add_up() {
    let bytes = hex("04 0003e8 000001 08 01000000 aa  44 000014 000001 08 aa \
                     84 000014 aa  c4 aa  c4 aa");
    assert_eq!(read(&bytes).timestamps(), [1000, 1020, 1040, 1060, 1080]);
}

#[test]
fn ch_08_type_3_behind_time_zero_keeps_time_zero() {
    let bytes = hex("04 000000 000001 08 01000000 aa  c4 aa");
    assert_eq!(read(&bytes).timestamps(), [0, 0]);
    assert!(read(&bytes).tolerated.is_empty());
}

#[test]
fn ch_09_type_3_behind_a_small_time_adds_it() {
    let outcome = read(&hex("04 00001a 000001 08 01000000 aa  c4 aa  c4 aa"));
    assert_eq!(outcome.timestamps(), [26, 52, 78]);
    assert_eq!(outcome.tolerated.count(Quirk::Type3AfterType0), 1);
    let at_the_bound = read(&hex("04 0003e8 000001 08 01000000 aa  c4 aa"));
    assert_eq!(at_the_bound.timestamps(), [1000, 2000]);
}

#[test]
fn ch_10_type_3_behind_a_large_time_keeps_it() {
    for (time, expected) in [("4c4b40", 5_000_000), ("0003e9", 1001)] {
        let text = format!("04 {time} 000001 08 01000000 aa  c4 aa  44 00000a 000001 08 aa");
        let outcome = read(&hex(&text));
        assert_eq!(outcome.timestamps(), [expected, expected, expected + 10]);
        assert_eq!(outcome.tolerated.count(Quirk::Type3AfterType0), 1);
    }
}

#[test]
fn ch_11_delta_of_nearly_32_bits_steps_back() {
    let bytes = hex("04 000064 000001 08 01000000 aa  44 ffffff 000001 08 fffffff6 aa");
    assert_eq!(read(&bytes).timestamps(), [100, 90]);
}

#[test]
fn ch_12_time_wraps_at_32_bits() {
    let bytes = hex("04 ffffff 000001 08 01000000 fffffff0 aa  44 000020 000001 08 aa");
    assert_eq!(read(&bytes).timestamps(), [0xffff_fff0, 0x10]);
}

#[test]
fn ch_13_extended_timestamp_with_type_3_field() {
    let video = payload(200);
    let bytes = wire(&[
        ("04 ffffff 0000c8 09 01000000 01000000", &video[..128]),
        ("c4 01000000", &video[128..]),
    ]);
    assert_eq!(bytes.len(), 221);
    assert_eq!(read(&bytes), only(&[message(4, 0x0100_0000, kind::VIDEO, &video)]));
}

#[test]
fn ch_14_extended_timestamp_without_type_3_field() {
    let video = payload(200);
    let bytes =
        wire(&[("04 ffffff 0000c8 09 01000000 01000000", &video[..128]), ("c4", &video[128..])]);
    let outcome = read(&bytes);
    assert_eq!(outcome.messages, [message(4, 0x0100_0000, kind::VIDEO, &video)]);
    assert!(outcome.tolerated.count(Quirk::ExtendedTimestampOmitted) > 0);
}

#[test]
fn ch_14_payload_that_begins_like_the_missing_field_is_payload() {
    for tail in ["01", "01 00", "01 00 00", "01 00 00 01", "01 00 00 01 00 00 00"] {
        let video = [payload(128), hex(tail)].concat();
        let length = format!("04 ffffff 0000{:02x} 09 01000000 01000000", video.len());
        let bytes = wire(&[
            (&length, &video[..128]),
            ("c4", &video[128..]),
            ("04 000000 000001 08 01000000 af", &[]),
        ]);
        let outcome = read(&bytes);
        let expected =
            [message(4, 0x0100_0000, kind::VIDEO, &video), message(4, 0, kind::AUDIO, &[0xaf])];
        assert_eq!(outcome.messages, expected, "{tail}");
        assert!(outcome.tolerated.count(Quirk::ExtendedTimestampOmitted) > 0);
    }
}

#[test]
fn ch_14_held_bytes_may_end_a_message_and_open_the_next() {
    // 01 02 is the end of a payload and the basic header of chunk stream 2. It could also be the
    // front of the extended timestamp that the peer leaves out.
    let mut video = payload(129);
    video[128] = 1;
    let bytes = wire(&[
        ("04 ffffff 000081 09 01000000 01020001", &video[..128]),
        ("c4", &video[128..]),
        ("02 000001 000000 08 01000000", &[]),
    ]);
    let outcome = read(&bytes);
    let expected = [message(4, 0x0102_0001, kind::VIDEO, &video), message(2, 1, kind::AUDIO, &[])];
    assert_eq!(outcome.messages, expected);
}

#[test]
fn ch_15_payload_equal_to_the_missing_field_is_mistaken_for_it() {
    let mut video = payload(200);
    video[128..132].copy_from_slice(&[1, 0, 0, 0]);
    let bytes =
        wire(&[("04 ffffff 0000c8 09 01000000 01000000", &video[..128]), ("c4", &video[128..])]);
    assert_eq!(read(&bytes), only(&[]), "four bytes are missing at the end");
}

#[test]
fn ch_16_time_of_24_ones_comes_extended() {
    let bytes = hex("04 ffffff 000001 08 01000000 00ffffff aa");
    assert_eq!(read(&bytes).timestamps(), [0x00ff_ffff]);
}

#[test]
fn ch_17_time_below_24_ones_comes_plain() {
    let bytes = hex("04 fffffe 000001 08 01000000 aa");
    assert_eq!(read(&bytes).timestamps(), [0x00ff_fffe]);
}

#[test]
fn ch_18_extended_delta_is_added_once() {
    let video = payload(300);
    // Section 5.3.1.3 repeats the field, which is the delta; some peers repeat the time.
    for repeated in ["01000000", "01000064"] {
        let type_3 = format!("c4 {repeated}");
        let bytes = wire(&[
            ("04 000064 000001 09 01000000 aa", &[]),
            ("44 ffffff 00012c 09 01000000", &video[..128]),
            (&type_3, &video[128..256]),
            (&type_3, &video[256..]),
        ]);
        let expected =
            [message(4, 100, kind::VIDEO, &[0xaa]), message(4, 0x0100_0064, kind::VIDEO, &video)];
        assert_eq!(read(&bytes), only(&expected));
    }
}

#[test]
fn type_3_that_begins_a_message_repeats_the_extended_field_or_not() {
    let bytes = hex("04 ffffff 000001 08 01000000 01000000 aa  c4 01000000 bb");
    let expected = [
        message(4, 0x0100_0000, kind::AUDIO, &[0xaa]),
        message(4, 0x0100_0000, kind::AUDIO, &[0xbb]),
    ];
    assert_eq!(read(&bytes).messages, expected);
    let bytes = hex("04 ffffff 000001 08 01000000 01000000 aa  c4 bb");
    assert_eq!(read(&bytes).messages, expected);
}

#[test]
fn plain_header_ends_the_extended_form() {
    let video = payload(129);
    let bytes = wire(&[
        ("04 ffffff 000001 09 01000000 01000000 aa", &[]),
        ("44 000014 000081 09", &video[..128]),
        ("c4", &video[128..]),
    ]);
    let expected = [
        message(4, 0x0100_0000, kind::VIDEO, &[0xaa]),
        message(4, 0x0100_0014, kind::VIDEO, &video),
    ];
    assert_eq!(read(&bytes), only(&expected));
}

#[test]
fn ch_20_type_1_may_open_a_chunk_stream() {
    let outcome = read(&hex("42 000001 000006 04 0007 00003039"));
    let header = MessageHeader {
        chunk_stream_id: 2,
        timestamp: 1,
        kind: kind::USER_CONTROL,
        message_stream_id: 0,
    };
    assert_eq!(outcome.messages, [OwnedMessage { header, payload: hex("0007 00003039") }]);
    assert_eq!(outcome.tolerated.to_string(), "chunk stream opened with type 1");
}

#[test]
fn ch_21_types_2_and_3_may_not_open_a_chunk_stream() {
    for (basic, format) in [("c5", 3), ("85", 2)] {
        let error = ChunkError::FreshChunkStream { chunk_stream_id: 5, format };
        assert_eq!(read(&hex(basic)).error, Some(error));
    }
}

#[test]
fn ch_22_type_0_drops_the_message_under_way() {
    let bytes = wire(&[
        ("06 000000 00012c 09 01000000", &payload(300)[..128]),
        ("06 000028 000002 09 01000000 2701", &[]),
    ]);
    let outcome = read(&bytes);
    assert_eq!(outcome.messages, [message(6, 40, kind::VIDEO, &[0x27, 1])]);
    assert_eq!(outcome.tolerated.count(Quirk::AbandonedMessage), 1);
}

#[test]
fn ch_23_type_1_with_another_length_or_type_drops_the_message_under_way() {
    for (header, kind) in [("46 000028 000002 09", 9), ("46 000028 00012c 08", 8)] {
        let begun = [hex("06 000000 00012c 09 01000000"), vec![1; 128]].concat();
        let second = if kind == 8 { vec![2; 300] } else { vec![2; 2] };
        let mut bytes = [begun, hex(header)].concat();
        for (index, chunk) in second.chunks(128).enumerate() {
            bytes.extend_from_slice(if index > 0 { &[0xc6] } else { &[] });
            bytes.extend_from_slice(chunk);
        }
        let outcome = read(&bytes);
        assert_eq!(outcome.messages, [message(6, 40, kind, &second)]);
        assert_eq!(outcome.tolerated.count(Quirk::AbandonedMessage), 1);
    }
}

#[test]
fn ch_23_types_1_and_2_that_agree_carry_on() {
    let video = payload(300);
    let bytes = wire(&[
        ("06 000064 00012c 09 01000000", &video[..128]),
        ("46 000000 00012c 09", &video[128..256]),
        ("86 000000", &video[256..]),
    ]);
    let outcome = read(&bytes);
    assert_eq!(outcome.messages, [message(6, 100, kind::VIDEO, &video)]);
    assert_eq!(outcome.tolerated.count(Quirk::HeaderWithinMessage), 2);
}

#[test]
fn ch_23_type_1_that_carries_on_renews_the_extended_field() {
    let video = payload(300);
    let bytes = wire(&[
        ("06 000064 00012c 09 01000000", &video[..128]),
        ("46 ffffff 00012c 09 01000000", &video[128..256]),
        ("c6 01000000", &video[256..]),
    ]);
    assert_eq!(read(&bytes).messages, [message(6, 100, kind::VIDEO, &video)]);
}

#[test]
fn ch_24_declared_length_allocates_nothing() {
    let max = limits::MESSAGE_BYTES_MAX;
    let limits = ReadLimits { video_bytes_max: max, assembly_bytes_max: max, ..Default::default() };
    let mut reader = ChunkReader::new();
    let mut begun = [hex("06 000000 ffffff 09 01000000"), vec![0; 128]].concat();
    let mut input = begun.as_mut_slice();
    assert_eq!(reader.next_message(&mut input, &limits, &mut tolerated()), Ok(None));
    assert!(reader.assembly_bytes() <= 2 * 128 + 128, "{}", reader.assembly_bytes());
}

#[test]
fn ch_25_length_above_the_limit_of_its_type_is_refused() {
    let limits = ReadLimits {
        command_bytes_max: 10,
        data_bytes_max: 20,
        audio_bytes_max: 30,
        video_bytes_max: 40,
        ..Default::default()
    };
    for (kind, max) in [(20, 10), (17, 10), (1, 10), (99, 10), (18, 20), (15, 20), (8, 30)]
        .into_iter()
        .chain([(9, 40), (22, 40)])
    {
        let chunk = |length: usize| {
            let header = [4, 0, 0, 0, 0, 0, length as u8, kind, 1, 0, 0, 0];
            [header.to_vec(), vec![0xff; length]].concat()
        };
        assert_eq!(read_within(&chunk(max), &limits).messages.len(), 1);
        assert_eq!(
            read_within(&chunk(max + 1), &limits).error,
            Some(ChunkError::MessageTooLarge { length: max + 1, max, kind })
        );
    }
}

#[test]
fn ch_25_limit_holds_for_inherited_lengths_too() {
    let mut reader = ChunkReader::new();
    let mut bytes = hex("04 000000 000002 08 01000000 aaaa c4");
    let mut input = bytes.as_mut_slice();
    assert!(
        reader
            .next_message(&mut input, &ReadLimits::default(), &mut tolerated())
            .unwrap()
            .is_some()
    );
    let limits = ReadLimits { audio_bytes_max: 1, ..Default::default() };
    assert_eq!(
        reader.next_message(&mut input, &limits, &mut tolerated()),
        Err(ChunkError::MessageTooLarge { length: 2, max: 1, kind: kind::AUDIO })
    );
}

/// The first chunk of a message of 200 bytes on each chunk stream.
fn half_messages(ids: impl Iterator<Item = u16>) -> Vec<u8> {
    let half = [hex("000000 0000c8 14 00000000"), vec![0; 128]].concat();
    ids.flat_map(|id| {
        let [low, high] = (id - 64).to_le_bytes();
        [vec![1, low, high], half.clone()].concat()
    })
    .collect()
}

#[test]
fn ch_26_too_many_chunk_streams_are_refused() {
    let limits = ReadLimits::before_publish();
    let max = limits.chunk_streams_max;
    let allowed = half_messages((100..).take(max));
    assert_eq!(read_within(&allowed, &limits), only(&[]));
    let refused = half_messages((100..).take(1000));
    let error = Some(ChunkError::TooManyChunkStreams { max });
    assert_eq!(read_within(&refused, &limits).error, error);
    let boundless = ReadLimits { chunk_streams_max: usize::MAX, ..Default::default() };
    let error = Some(ChunkError::TooManyChunkStreams { max: 254 });
    assert_eq!(read_within(&refused, &boundless).error, error);
}

#[test]
fn ch_26_declared_lengths_are_bounded_together() {
    let limits = ReadLimits { assembly_bytes_max: 3 * 200, ..Default::default() };
    assert_eq!(read_within(&half_messages(100..103), &limits), only(&[]));
    assert_eq!(
        read_within(&half_messages(100..104), &limits).error,
        Some(ChunkError::AssemblyTooLarge { length: 800, max: 600 })
    );
}

#[test]
fn ch_27_set_chunk_size_holds_from_the_next_chunk() {
    let video = payload(3000);
    let bytes = wire(&[
        ("02 000000 000004 01 00000000 00001000", &[]),
        ("06 000000 000bb8 09 01000000", &video),
    ]);
    assert_eq!(read(&bytes).payloads(), [&hex("00001000")[..], &video]);
}

#[test]
fn ch_28_chunks_of_one_byte() {
    let bytes = hex("02 000000 000004 01 00000000 00000001 \
                     04 000000 000003 08 01000000 af c4 01 c4 21");
    assert_eq!(read(&bytes).payloads()[1..], [&hex("af0121")[..]]);
}

#[test]
fn ch_29_largest_chunk_size() {
    let video = payload(70_000);
    let bytes = wire(&[
        ("02 000000 000004 01 00000000 7fffffff", &[]),
        ("06 000000 011170 09 01000000", &video),
    ]);
    assert_eq!(read(&bytes).payloads()[1..], [&video[..]]);
}

#[test]
fn ch_32_set_chunk_size_holds_for_the_rest_of_a_split_message() {
    let video = payload(300);
    let bytes = wire(&[
        ("06 000000 00012c 09 01000000", &video[..128]),
        ("02 000000 000004 01 00000000 00001000", &[]),
        ("c6", &video[128..]),
    ]);
    assert_eq!(read(&bytes).payloads()[1..], [&video[..]]);
}

#[test]
fn ch_36_aborted_message_is_dropped() {
    let bytes = wire(&[
        ("06 000000 00012c 09 01000000", &payload(100)),
        ("", &payload(28)),
        ("02 000000 000004 02 00000000 00000006", &[]),
        ("06 000028 000002 09 01000000 2701", &[]),
    ]);
    let outcome = read(&bytes);
    assert_eq!(outcome.messages[1..], [message(6, 40, kind::VIDEO, &[0x27, 1])]);
    assert!(outcome.tolerated.is_empty());
}

#[test]
fn ch_36_abort_keeps_the_header_state() {
    let video = payload(130);
    let bytes = wire(&[
        ("06 000064 000001 09 01000000 aa", &[]),
        ("46 000014 000082 09", &payload(128)),
        ("02 000000 000004 02 00000000 00000006", &[]),
        ("c6", &video[..128]),
        ("c6", &video[128..]),
    ]);
    assert_eq!(read(&bytes).messages[2], message(6, 140, kind::VIDEO, &video));
}

#[test]
fn ch_36_abort_inside_a_chunk_still_finds_its_end() {
    let mut reader = ChunkReader::new();
    let limits = ReadLimits::default();
    let mut begun = [hex("06 000000 00012c 09 01000000"), vec![0; 100]].concat();
    let mut input = begun.as_mut_slice();
    assert_eq!(reader.next_message(&mut input, &limits, &mut tolerated()), Ok(None));
    reader.abort(6);
    let mut rest = [vec![0; 28], hex("06 000000 000002 09 01000000 2701")].concat();
    let mut input = rest.as_mut_slice();
    let message = reader.next_message(&mut input, &limits, &mut tolerated()).unwrap().unwrap();
    assert_eq!(message.payload, [0x27, 1]);
}

#[test]
fn ch_37_abort_without_a_message_is_ignored() {
    let bytes = wire(&[
        ("02 000000 000004 02 00000000 00000006", &[]),
        ("02 000000 000004 02 00000000 00000002", &[]),
        ("06 000000 000001 09 01000000 27", &[]),
    ]);
    assert_eq!(read(&bytes).messages[2..], [message(6, 0, kind::VIDEO, &[0x27])]);
}

#[test]
fn ch_44_message_stream_id_is_little_endian() {
    let outcome = read(&hex("04 000000 000000 08 01020304"));
    assert_eq!(outcome.messages[0].header.message_stream_id, 0x0403_0201);
}

#[test]
fn ch_45_unassigned_types_are_read_over() {
    for kind in [0, 7, 10, 21, 200] {
        let bytes = [4, 0, 0, 0, 0, 0, 1, kind, 1, 0, 0, 0, 0xaa];
        assert_eq!(read(&bytes), only(&[message(4, 0, kind, &[0xaa])]));
    }
}

/// An encoder that uses every header type, interleaves messages, and either repeats or omits the
/// extended timestamp.
struct Encoder {
    random: Xorshift,
    repeats_extended: bool,
    chunk_size: usize,
    lanes: Vec<Lane>,
    out: Vec<u8>,
}

/// One chunk stream of the encoder.
struct Lane {
    id: u32,
    last: Option<OwnedMessage>,
    delta: u32,
    extended: Option<u32>,
    /// The current message and the number of bytes sent.
    under_way: Option<(OwnedMessage, usize)>,
}

impl Encoder {
    fn new(seed: u64, repeats_extended: bool) -> Self {
        let mut random = Xorshift(seed);
        let chunk_size = 128;
        let lanes = [3, 4, 63, 64, 319, 320, 65599][random.below(5)..].iter();
        let lane = |&id| Lane { id, last: None, delta: 0, extended: None, under_way: None };
        let lanes = lanes.map(lane).collect();
        Self { random, repeats_extended, chunk_size, lanes, out: Vec::new() }
    }

    /// Sends `count` messages. Returns them in the order in which they end.
    fn send(&mut self, count: usize) -> Vec<OwnedMessage> {
        let (mut begun, mut ended) = (0, Vec::new());
        while ended.len() < count {
            if self.random.below(50) == 0 {
                ended.push(self.change_chunk_size());
                begun += 1;
            }
            let index = self.random.below(self.lanes.len());
            if self.lanes[index].under_way.is_some() {
                ended.extend(self.send_chunk(index, true));
            } else if begun < count {
                begun += 1;
                self.begin_message(index);
                ended.extend(self.send_chunk(index, false));
            }
        }
        while let Some(index) = self.lanes.iter().position(|lane| lane.under_way.is_some()) {
            ended.extend(self.send_chunk(index, true));
        }
        ended
    }

    fn change_chunk_size(&mut self) -> OwnedMessage {
        let size = 1 + self.random.below(600) as u32;
        let message = message(2, 0, kind::SET_CHUNK_SIZE, &size.to_be_bytes());
        write_message(&mut self.out, message.header, &message.payload, self.chunk_size as u32);
        self.chunk_size = size as usize;
        message
    }

    /// Draws a message that often has the fields of the last one, so that short headers suffice.
    fn draw_message(&mut self, index: usize) -> OwnedMessage {
        let lane = &self.lanes[index];
        let steps = [0, lane.delta, 20, 0x00ff_ffff, 0x0100_0000, 0xffff_fff6];
        let step = steps[self.random.below(steps.len())];
        let mut header = match &lane.last {
            Some(last) => last.header,
            None => message(lane.id, 0, kind::AUDIO, &[]).header,
        };
        header.timestamp = header.timestamp.wrapping_add(step);
        let mut len = lane.last.as_ref().map_or(0, |last| last.payload.len());
        if self.random.below(2) == 0 {
            header.kind = [8, 9, 18][self.random.below(3)];
            len = self.random.below(1000);
        }
        if self.random.below(4) == 0 {
            header.message_stream_id = self.random.below(3) as u32;
        }
        OwnedMessage { header, payload: self.random.bytes(len) }
    }

    /// Writes one of the equivalent message headers.
    fn begin_message(&mut self, index: usize) {
        let message = self.draw_message(index);
        let lane = &mut self.lanes[index];
        let delta = lane
            .last
            .as_ref()
            .map(|last| message.header.timestamp.wrapping_sub(last.header.timestamp));
        let shortest = match (&lane.last, delta) {
            (Some(last), Some(delta))
                if last.header.message_stream_id == message.header.message_stream_id =>
            {
                let alike = last.header.kind == message.header.kind
                    && last.payload.len() == message.payload.len();
                1 + u8::from(alike) + u8::from(alike && delta == lane.delta)
            }
            _ => 0,
        };
        let format = self.random.below(usize::from(shortest) + 1) as u8;
        let field = match format {
            TYPE_0 => Some(message.header.timestamp),
            TYPE_1 | TYPE_2 => delta,
            _ => None,
        };
        put_basic(&mut self.out, format, lane.id);
        if let Some(field) = field {
            self.out.extend(&field.min(TIMESTAMP_EXTENDED).to_be_bytes()[1..]);
            let time = message.header.timestamp;
            let repeated = if time <= TYPE_0_DELTA_MS_MAX { time } else { 0 };
            lane.delta = if format == TYPE_0 { repeated } else { field };
            lane.extended = (field >= TIMESTAMP_EXTENDED).then_some(field);
        }
        if format <= TYPE_1 {
            self.out.extend(&(message.payload.len() as u32).to_be_bytes()[1..]);
            self.out.push(message.header.kind);
        }
        if format == TYPE_0 {
            self.out.extend(message.header.message_stream_id.to_le_bytes());
        }
        if let Some(extended) = lane.extended
            && (format != TYPE_3 || self.repeats_extended)
        {
            self.out.extend(extended.to_be_bytes());
        }
        lane.last = Some(message.clone());
        lane.under_way = Some((message, 0));
    }

    /// Writes the next chunk of a lane. Returns the message if it ends with this chunk.
    fn send_chunk(&mut self, index: usize, with_header: bool) -> Option<OwnedMessage> {
        let lane = &mut self.lanes[index];
        let (message, sent) = lane.under_way.as_mut()?;
        if with_header {
            put_basic(&mut self.out, TYPE_3, lane.id);
            if let Some(extended) = lane.extended.filter(|_| self.repeats_extended) {
                self.out.extend(extended.to_be_bytes());
            }
        }
        let rest = &message.payload[*sent..];
        let chunk = &rest[..rest.len().min(self.chunk_size)];
        self.out.extend(chunk);
        *sent += chunk.len();
        let ended = *sent == message.payload.len();
        if ended { lane.under_way.take().map(|(message, _)| message) } else { None }
    }
}

fn put_basic(out: &mut Vec<u8>, format: u8, id: u32) {
    match id {
        0..64 => out.push(format << 6 | id as u8),
        64..320 => out.extend([format << 6, (id - 64) as u8]),
        _ => {
            let [low, high, ..] = (id - 64).to_le_bytes();
            out.extend([format << 6 | 1, low, high]);
        }
    }
}

#[test]
fn any_interleaving_in_either_dialect_yields_the_same_messages() {
    for seed in 1..25 {
        for repeats_extended in [true, false] {
            let mut encoder = Encoder::new(seed * 0x9e37_79b9, repeats_extended);
            let mut sent = encoder.send(60);
            // After the last message nothing could distinguish payload from a missing field.
            let last = message(2, 0, kind::AUDIO, &[0xaf]);
            write_message(&mut encoder.out, last.header, &last.payload, 128);
            sent.push(last);
            let outcome = read(&encoder.out);
            assert!(outcome.messages == sent, "seed {seed}, {repeats_extended}");
            assert_eq!(outcome.error, None);
            assert_eq!(outcome.tolerated.count(Quirk::AbandonedMessage), 0);
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let mut random = Xorshift(7);
    for chunk_size in [1, 2, 127, 128, 4096, 60_000] {
        let mut out = Vec::new();
        write_control(&mut out, &Control::SetChunkSize(chunk_size), CHUNK_SIZE_INITIAL);
        let mut sent = Vec::new();
        for timestamp in [0, 1, 0x00ff_fffe, 0x00ff_ffff, 0x0100_0000, u32::MAX] {
            let id = [2, 63, 64, 319, 320, 65599][random.below(6)];
            let len = random.below(700);
            let message = message(id, timestamp, kind::VIDEO, &random.bytes(len));
            write_message(&mut out, message.header, &message.payload, chunk_size);
            sent.push(message);
        }
        let outcome = read(&out);
        assert_eq!(outcome.messages[1..], sent);
        assert!(outcome.tolerated.is_empty());
    }
}

#[test]
fn payload_that_lies_whole_in_the_input_is_not_copied() {
    let mut bytes = hex("04 000000 000003 08 01000000 af0121");
    let place = bytes[12..].as_ptr();
    let mut input = bytes.as_mut_slice();
    let mut reader = ChunkReader::new();
    assert_eq!(next(&mut reader, &mut input).unwrap().payload.as_ptr(), place);
    assert_eq!(reader.partial.allocated_bytes(), 0);
}

#[test]
fn message_in_several_chunks_that_lies_whole_in_the_input_is_put_together_there() {
    let video = payload(307);
    let plain = ("04 0003e8 000133 09 01000000", "c4");
    let extended = ("04 ffffff 000133 09 01000000 01000000", "c4 01000000");
    let omitted = ("04 ffffff 000133 09 01000000 01000000", "c4");
    for (first, other) in [plain, extended, omitted] {
        let mut bytes = wire(&[
            (first, &video[..128]),
            (other, &video[128..256]),
            (other, &video[256..]),
            ("42 000001 000006 04 0007 00003039", &[]),
        ]);
        let place = bytes[hex(first).len()..].as_ptr();
        let mut input = bytes.as_mut_slice();
        let mut reader = ChunkReader::new();
        let message = next(&mut reader, &mut input).unwrap();
        assert_eq!((message.payload, message.payload.as_ptr()), (&video[..], place));
        assert_eq!(reader.partial.allocated_bytes(), 0);
        assert_eq!(next(&mut reader, &mut input).unwrap().payload, hex("0007 00003039"));
    }
}

#[test]
fn encoder_that_does_not_interleave_is_read_without_a_copy() {
    for capture in CAPTURES.iter().filter(|capture| capture.name.ends_with(".client")) {
        let mut bytes = capture.bytes[HANDSHAKE_BYTES..].to_owned();
        let mut input = bytes.as_mut_slice();
        let mut reader = ChunkReader::new();
        while let Some(Message { header, payload }) = next(&mut reader, &mut input) {
            if let Ok(Some(Control::SetChunkSize(size))) = Control::parse(header.kind, payload) {
                reader.set_chunk_size(size);
            }
            assert_eq!(reader.partial.allocated_bytes(), 0, "{}", capture.name);
        }
    }
}

#[test]
fn what_comes_between_the_chunks_of_a_message_is_heeded() {
    let video = payload(600);
    let first = ("06 000000 000258 09 01000000", &video[..128]);
    let second = ("c6", &video[128..256]);
    let chunk_size = ("02 000000 000004 01 00000000 00001000", &[][..]);
    let outcome = read(&wire(&[first, second, chunk_size, ("c6", &video[256..])]));
    assert_eq!(outcome.messages[1..], [message(6, 0, kind::VIDEO, &video)]);

    let abort = ("02 000000 000004 02 00000000 00000006", &[][..]);
    let outcome = read(&wire(&[first, second, abort, ("06 000028 000002 09 01000000 2701", &[])]));
    assert_eq!(outcome.messages[1..], [message(6, 40, kind::VIDEO, &[0x27, 1])]);

    let fresh = read(&wire(&[first, second, ("c7", &video[256..])]));
    let error = ChunkError::FreshChunkStream { chunk_stream_id: 7, format: 3 };
    assert_eq!((fresh.messages, fresh.error), (vec![], Some(error)));
}

#[test]
fn each_omitted_field_is_noted_once_wherever_the_message_is_put_together() {
    let video = payload(600);
    let mut bytes = wire(&[("06 ffffff 000258 09 01000000 01000000", &video[..128])]);
    for chunk in video[128..].chunks(128) {
        bytes.extend(wire(&[("c6", chunk)]));
    }
    assert_eq!(read(&bytes).tolerated.count(Quirk::ExtendedTimestampOmitted), 4);
    // The last chunk follows another message.
    let at = bytes.len() - (1 + 600 % 128);
    bytes.splice(at..at, hex("04 000000 000001 08 01000000 af"));
    let outcome = read(&bytes);
    assert_eq!(outcome.payloads(), [&[0xaf], &video[..]]);
    assert_eq!(outcome.tolerated.count(Quirk::ExtendedTimestampOmitted), 4);
}

#[test]
fn input_may_end_anywhere_in_a_message_of_small_chunks() {
    let video = payload(40);
    for repeats_extended in [true, false] {
        let mut bytes = hex("02 000000 000004 01 00000000 00000003");
        let header = hex("00 ff ffffff 000028 09 01000000 01000000");
        for (index, chunk) in video.chunks(3).enumerate() {
            let extended = if repeats_extended { "01000000" } else { "" };
            let type_3 = hex(&format!("c0 ff {extended}"));
            bytes.extend(if index == 0 { &header } else { &type_3 });
            bytes.extend(chunk);
        }
        let whole = read(&bytes);
        assert_eq!(whole.messages[1..], [message(319, 0x0100_0000, kind::VIDEO, &video)]);
        for cut in 0..bytes.len() {
            let (before, behind) = bytes.split_at(cut);
            let pieces = [before, behind].into_iter();
            assert_eq!(read_pieces(pieces, &ReadLimits::default()), whole, "cut at {cut}");
        }
    }
}

#[test]
fn steady_media_uses_the_same_buffer_again() {
    let mut reader = ChunkReader::new();
    let mut bytes = Vec::new();
    let video = message(6, 0, kind::VIDEO, &payload(1000));
    write_message(&mut bytes, video.header, &video.payload, 128);
    let mut places = Vec::new();
    for _ in 0..5 {
        let mut bytes = bytes.clone();
        let (mut begun, mut rest) = bytes.split_at_mut(500);
        assert_eq!(next(&mut reader, &mut begun), None);
        let message = next(&mut reader, &mut rest).unwrap();
        places.push((message.payload.as_ptr(), message.payload.len()));
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    let before = reader.assembly_bytes();
    reader.release();
    assert!(reader.assembly_bytes() <= before - 1000);
    assert_eq!(reader.partial.allocated_bytes(), 0);
}

#[test]
fn commands_and_peers_that_do_not_publish_leave_no_buffer() {
    for (kind, limits) in [
        (kind::COMMAND_AMF0, ReadLimits::default()),
        (kind::DATA_AMF0, ReadLimits::default()),
        (kind::VIDEO, ReadLimits::before_publish()),
    ] {
        let mut bytes = Vec::new();
        let long = message(3, 0, kind, &payload(1000));
        write_message(&mut bytes, long.header, &long.payload, 128);
        let mut reader = ChunkReader::new();
        let (mut begun, mut rest) = bytes.split_at_mut(500);
        assert_eq!(reader.next_message(&mut begun, &limits, &mut tolerated()), Ok(None));
        assert!(reader.next_message(&mut rest, &limits, &mut tolerated()).unwrap().is_some());
        assert_ne!(reader.partial.allocated_bytes(), 0);
        assert_eq!(reader.next_message(&mut rest, &limits, &mut tolerated()), Ok(None));
        assert_eq!(reader.partial.allocated_bytes(), 0);
        assert_eq!(reader.assembly_bytes(), size_of::<ChunkStream>());
    }
}

#[test]
fn the_front_of_a_header_is_held_until_its_rest_comes() {
    let mut reader = ChunkReader::new();
    let mut bytes = hex("04 000000 000001 08 01000000 af");
    for (index, byte) in bytes.chunks_mut(1).enumerate() {
        let mut input = byte;
        assert_eq!(next(&mut reader, &mut input).is_some(), index == 12);
        assert_eq!(reader.partial.allocated_bytes() > 0, index < 11, "{index}");
    }
    assert_eq!(reader.assembly_bytes(), size_of::<ChunkStream>());
}

#[test]
fn spare_buffers_are_few() {
    let mut reader = ChunkReader::new();
    let limits = ReadLimits::default();
    let mut bytes = Vec::new();
    for basic in [4, 5, 6, 7] {
        let header = [basic, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
        bytes.extend([header.to_vec(), vec![0; 128]].concat());
    }
    for basic in [0xc4, 0xc5, 0xc6, 0xc7] {
        bytes.extend([vec![basic], vec![0; 72]].concat());
    }
    let mut input = bytes.as_mut_slice();
    for _ in 0..4 {
        assert!(reader.next_message(&mut input, &limits, &mut tolerated()).unwrap().is_some());
    }
    assert_eq!(reader.next_message(&mut input, &limits, &mut tolerated()), Ok(None));
    // One for audio and one for video, which interleave.
    assert_eq!((reader.partial.spares(), SPARES_MAX), (2, 2));
}

#[test]
fn errors_say_what_came_and_what_was_expected() {
    for (error, text) in [
        (
            ChunkError::FreshChunkStream { chunk_stream_id: 5, format: 3 },
            "chunk stream 5 opens with a type 3 header, expected type 0 or 1",
        ),
        (
            ChunkError::MessageTooLarge { length: 9, max: 8, kind: 20 },
            "message of type 20 declares 9 bytes, at most 8 are allowed",
        ),
        (ChunkError::TooManyChunkStreams { max: 64 }, "the peer uses more than 64 chunk streams"),
        (
            ChunkError::AssemblyTooLarge { length: 9, max: 8 },
            "unfinished messages declare 9 bytes together, at most 8 are allowed",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

/// The content of a recorded session after its handshake.
struct Capture {
    name: &'static str,
    bytes: &'static [u8],
    /// Type id, number of messages, first and last timestamp.
    kinds: &'static [(u8, usize, u32, u32)],
    payload_bytes: usize,
}

macro_rules! capture {
    ($name:literal, $payload_bytes:literal, $kinds:expr) => {
        Capture {
            name: $name,
            bytes: include_bytes!(concat!("../../../../tests/vectors/captures/", $name, ".bin")),
            kinds: &$kinds,
            payload_bytes: $payload_bytes,
        }
    };
}

const CAPTURES: &[Capture] = &[
    capture!("ffmpeg5_play.client", 336, [(4, 1, 1, 1), (5, 1, 0, 0), (20, 5, 0, 0)]),
    capture!(
        "ffmpeg5_publish_h264_aac.client",
        49385,
        [(1, 1, 0, 0), (8, 132, 0, 3128), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!("ffmpeg9_play.client", 336, [(4, 1, 1, 1), (5, 1, 0, 0), (20, 5, 0, 0)]),
    capture!(
        "ffmpeg9_publish_av1_flac.client",
        97932,
        [(1, 1, 0, 0), (8, 146, 0, 3000), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!(
        "ffmpeg9_publish_hevc_opus.client",
        56540,
        [(1, 1, 0, 0), (8, 153, 0, 3127), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!(
        "ffmpeg9_publish_multitrack.client",
        113604,
        [(1, 1, 0, 0), (8, 296, 0, 3127), (9, 94, 0, 3066), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!(
        "ffmpeg9_publish_opus_only.client",
        17062,
        [(1, 1, 0, 0), (8, 153, 0, 3001), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!(
        "ffmpeg9_publish_vp9_ac3.client",
        69227,
        [(1, 1, 0, 0), (8, 96, 0, 2976), (9, 47, 0, 2938), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!(
        "gst_rtmp2sink_publish.client",
        33392,
        [(1, 1, 0, 0), (5, 1, 0, 0), (9, 47, 0, 2933), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!("gst_rtmp2src_play.client", 283, [(4, 2, 0, 0), (5, 2, 0, 0), (20, 3, 0, 0)]),
    capture!(
        "gst_rtmpsink_publish.client",
        33363,
        [(9, 47, 0, 2934), (18, 1, 0, 0), (20, 7, 0, 0)]
    ),
    capture!(
        "nginx_answers_ffmpeg5_play.server",
        53754,
        [
            (1, 1, 0, 0),
            (4, 2, 0, 0),
            (5, 1, 0, 0),
            (6, 1, 0, 0),
            (8, 151, 1178, 4661),
            (9, 42, 1933, 4666),
            (18, 2, 0, 0),
            (20, 3, 0, 0)
        ]
    ),
    capture!(
        "nginx_answers_ffmpeg5_publish.server",
        445,
        [(1, 1, 0, 0), (5, 1, 0, 0), (6, 1, 0, 0), (20, 4, 0, 0)]
    ),
    capture!(
        "obs29_publish.client",
        498371,
        [(1, 1, 0, 0), (8, 1806, 0, 38485), (9, 386, 0, 38400), (18, 1, 0, 0), (20, 5, 0, 0)]
    ),
    capture!("rtmpdump_play.client", 322, [(4, 2, 0, 0), (5, 1, 0, 0), (20, 4, 0, 0)]),
    capture!("vlc_play.client", 302, [(4, 1, 1, 1), (5, 1, 0, 0), (20, 4, 0, 0)]),
];

/// C0, C1 and C2, or S0, S1 and S2.
const HANDSHAKE_BYTES: usize = 1 + 2 * limits::HANDSHAKE_PACKET_BYTES;

#[test]
fn ch_46_recorded_sessions_read_the_same_however_they_are_split() {
    for capture in CAPTURES {
        let outcome = read(&capture.bytes[HANDSHAKE_BYTES..]);
        assert_eq!(outcome.error, None, "{}", capture.name);
        let mut by_kind = std::collections::BTreeMap::new();
        for OwnedMessage { header, .. } in &outcome.messages {
            let time = header.timestamp;
            let (count, _, last) = by_kind.entry(header.kind).or_insert((0, time, time));
            *count += 1;
            *last = time;
        }
        let kinds: Vec<_> = by_kind
            .into_iter()
            .map(|(kind, (count, first, last))| (kind, count, first, last))
            .collect();
        assert_eq!(kinds, capture.kinds, "{}", capture.name);
        let payload_bytes: usize = outcome.payloads().iter().map(|payload| payload.len()).sum();
        assert_eq!(payload_bytes, capture.payload_bytes, "{}", capture.name);
    }
}

#[test]
fn ch_47_mutated_sessions_neither_panic_nor_allocate_beyond_what_came() {
    let mut random = Xorshift(47);
    for capture in CAPTURES {
        let session = &capture.bytes[HANDSHAKE_BYTES..];
        let session = &session[..session.len().min(6_000)];
        for _ in 0..8 {
            let mut bytes = session.to_vec();
            for _ in 0..1 + random.below(8) {
                let place = random.below(bytes.len());
                bytes[place] = random.below(256) as u8;
            }
            read(&bytes);
        }
    }
}
