//! Tests of command messages: captured ones, those of odd clients, and those that this side writes.

use super::parse::COMMANDS;
use super::request::ConnectCommand;
use super::*;
use crate::amf0::{self, Decoder};
use crate::media::{self, AudioCodec, VideoCodec};

const FFMPEG9_PLAY: &[u8] =
    include_bytes!("../../../tests/vectors/captures/ffmpeg9_play.client.bin");
const FFMPEG5_PUBLISH: &[u8] =
    include_bytes!("../../../tests/vectors/captures/ffmpeg5_publish_h264_aac.client.bin");
const OBS_PUBLISH: &[u8] =
    include_bytes!("../../../tests/vectors/captures/obs29_publish.client.bin");
const GST_PUBLISH: &[u8] =
    include_bytes!("../../../tests/vectors/captures/gst_rtmp2sink_publish.client.bin");
const GST_PLAY: &[u8] =
    include_bytes!("../../../tests/vectors/captures/gst_rtmp2src_play.client.bin");
const RTMPDUMP_PLAY: &[u8] =
    include_bytes!("../../../tests/vectors/captures/rtmpdump_play.client.bin");
const NGINX_TO_PLAYER: &[u8] =
    include_bytes!("../../../tests/vectors/captures/nginx_answers_ffmpeg5_play.server.bin");

const SEVEN: &[u8] = b"\x00\x40\x1c\0\0\0\0\0\0";

/// Returns the payload of the first command with that name, without the chunk headers in it.
fn captured(capture: &[u8], name: &str, length: usize, chunk_size: usize) -> Vec<u8> {
    let head = string(name);
    let start = capture.windows(head.len()).position(|window| window == head).unwrap();
    let mut rest = &capture[start..];
    let mut payload = Vec::new();
    while payload.len() < length {
        let (chunk, behind) = rest.split_at(chunk_size.min(length - payload.len()));
        payload.extend_from_slice(chunk);
        rest = behind.get(1..).unwrap_or_default();
    }
    payload
}

fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    amf0::put_string(&mut out, text.as_bytes());
    out
}

/// A command with transaction id 7, null and `arguments`.
fn call(name: &str, arguments: &[u8]) -> Vec<u8> {
    [&string(name), SEVEN, b"\x05", arguments].concat()
}

fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut out);
    out
}

fn decode(payload: &[u8]) -> CommandMessage<'_> {
    CommandMessage::decode(payload).unwrap()
}

fn connect_of(payload: &[u8]) -> Connect<'_> {
    match decode(payload).command {
        Command::Connect(connect) => connect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn captured_connects_are_read() {
    let cases = [
        (FFMPEG5_PUBLISH, 140, 128, "rtmp://127.0.0.1:", "FMLE/3.0 (compatible; Lavf59.27.100)"),
        (FFMPEG9_PLAY, 197, 128, "rtmp://127.0.0.1:", "LNX 9,0,124,2"),
        (OBS_PUBLISH, 191, 4096, "rtmp://127.0.0.1:", "FMLE/3.0 (compatible; FMSc/1.0)"),
        (GST_PUBLISH, 118, 128, "rtmp://127.0.0.1:", "LNX 10,0,32,18"),
        (RTMPDUMP_PLAY, 198, 128, "rtmp://127.0.0.1:", "LNX 10,0,32,18"),
    ];
    for (capture, length, chunk_size, tc_url, flash_ver) in cases {
        let payload = captured(capture, "connect", length, chunk_size);
        assert_eq!(decode(&payload).transaction_id, 1.0);
        let connect = connect_of(&payload);
        assert_eq!(connect.app, b"live");
        assert!(connect.tc_url.unwrap().starts_with(tc_url.as_bytes()));
        assert_eq!(connect.flash_ver, Some(flash_ver.as_bytes()));
        assert_eq!((connect.object_encoding, connect.caps_ex), (0.0, None));
        assert!(!connect.names_fourccs && !connect.is_enhanced());
        assert_eq!(connect.is_encoder, ![FFMPEG9_PLAY, RTMPDUMP_PLAY].contains(&capture));
    }
}

#[test]
fn captured_commands_are_read() {
    let cases: [(&[u8], &str, usize, f64, Command<'_>); 10] = [
        (
            FFMPEG5_PUBLISH,
            "releaseStream",
            42,
            2.0,
            Command::ReleaseStream { key: b"cam?token=abc" },
        ),
        (FFMPEG5_PUBLISH, "FCPublish", 38, 3.0, Command::FcPublish { key: b"cam?token=abc" }),
        (FFMPEG5_PUBLISH, "createStream", 25, 4.0, Command::CreateStream),
        (
            FFMPEG5_PUBLISH,
            "publish",
            43,
            5.0,
            Command::Publish { key: b"cam?token=abc", kind: Some(PublishKind::Live) },
        ),
        (FFMPEG5_PUBLISH, "FCUnpublish", 40, 6.0, Command::FcUnpublish { key: b"cam?token=abc" }),
        (
            FFMPEG5_PUBLISH,
            "deleteStream",
            34,
            7.0,
            Command::DeleteStream { message_stream_id: Some(1) },
        ),
        (FFMPEG9_PLAY, "getStreamLength", 34, 3.0, Command::GetStreamLength { key: b"src" }),
        (FFMPEG9_PLAY, "play", 32, 4.0, play(Some(-2000.0), None)),
        (GST_PLAY, "play", 32, 0.0, play(Some(-2.0), None)),
        (RTMPDUMP_PLAY, "play", 41, 3.0, play(Some(0.0), Some(2000.0))),
    ];
    for (capture, name, length, transaction_id, command) in cases {
        let payload = captured(capture, name, length, 4096);
        let message = decode(&payload);
        assert_eq!((message.name, message.transaction_id), (name.as_bytes(), transaction_id));
        assert_eq!(message.command, command, "{name}");
    }
}

fn play(start: Option<f64>, duration: Option<f64>) -> Command<'static> {
    Command::Play { key: b"src", start, duration, reset: None }
}

#[test]
fn am_07_text_beyond_the_message_is_an_error() {
    for payload in [&b"\x02\0\x09connect"[..], &call("publish", b"\x02\0\x05abc")] {
        assert!(
            matches!(
                CommandMessage::decode(payload),
                Err(CommandError::Amf(AmfError::Truncated { .. }))
            ),
            "{payload:02x?}"
        );
    }
}

#[test]
fn every_cut_and_random_damage_never_panics() {
    let payload = captured(OBS_PUBLISH, "connect", 191, 4096);
    for length in 0..payload.len() {
        let _ = CommandMessage::decode(&payload[..length]);
    }
    let mut seed = 88_172_645_463_325_252_u64;
    for _ in 0..20_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut damaged = payload.clone();
        damaged[(seed >> 8) as usize % payload.len()] = seed as u8;
        damaged[(seed >> 32) as usize % payload.len()] = (seed >> 24) as u8;
        let _ = CommandMessage::decode(&damaged);
    }
}

#[test]
fn am_08_connect_object_of_another_type() {
    let properties = b"\0\x03app\x02\0\x04live\0\0\x09";
    for head in [&b"\x03"[..], b"\x08\0\0\0\0", b"\x08\xff\xff\xff\xff", b"\x10\0\x01C"] {
        let payload = [&string("connect"), SEVEN, head, properties].concat();
        assert_eq!(connect_of(&payload).app, b"live", "{head:02x?}");
    }
}

#[test]
fn am_09_names_that_are_not_utf_8_stay_bytes() {
    let payload = call("publish", b"\x02\0\x02\xff\xfe");
    assert_eq!(decode(&payload).command, Command::Publish { key: b"\xff\xfe", kind: None });
    let payload = call("\u{fffd}x", b"");
    assert_eq!(decode(&payload).command, Command::Unknown);
}

#[test]
fn am_11_amf3_command_message() {
    let object = b"\x03\0\x03app\x02\0\x04live\0\x0eobjectEncoding\x00\x40\x08\0\0\0\0\0\0\0\0\x09";
    let payload = [b"\x00", &string("connect")[..], SEVEN, object].concat();
    let message = CommandMessage::decode(&payload).unwrap();
    assert_eq!(message.transaction_id, 7.0);
    let Command::Connect(connect) = message.command else { panic!() };
    assert_eq!((connect.app, connect.object_encoding), (&b"live"[..], 3.0));

    let result = built(|out| reply::connect_result(out, 7.0, connect.object_encoding));
    let Command::Result { response, .. } = decode(&result).command else { panic!() };
    assert_eq!(response.get("objectEncoding"), Some(&Value::Number(3.0)));
}

#[test]
fn am_13_amf3_argument_is_stepped_over() {
    let payload = [
        &string("publish"),
        SEVEN,
        b"\x11\x0a\x0b\x01\x03a\x04\x01\x01",
        b"\x02\0\x01k\x02\0\x06record",
    ]
    .concat();
    let record = Command::Publish { key: b"k", kind: Some(PublishKind::Record) };
    assert_eq!(decode(&payload).command, record);
}

#[test]
fn amf3_argument_that_cannot_be_stepped_over_ends_the_arguments() {
    let payload = call("publish", b"\x02\0\x01k\x11\x0d\x01\x02\0\x06record");
    let live = Command::Publish { key: b"k", kind: None };
    assert_eq!(decode(&payload).command, live);
}

#[test]
fn am_14_amf3_command_message_without_its_format_byte() {
    let payload = call("createStream", b"");
    let message = CommandMessage::decode(&payload).unwrap();
    assert_eq!(message.command, Command::CreateStream);
}

#[test]
fn am_15_numbers_out_of_range() {
    for number in [f64::NAN, 1e300, -1e300, f64::INFINITY, -1.0, 0.5, 4_294_967_296.0] {
        let number_bytes = built(|out| amf0::put_number(out, number));
        let payload = [&string("createStream"), &number_bytes[..], b"\x05"].concat();
        let message = decode(&payload);
        assert_eq!(message.transaction_id.to_bits(), number.to_bits());
        let answer = built(|out| reply::result_null(out, message.transaction_id));
        assert_eq!(decode(&answer).transaction_id.to_bits(), number.to_bits());

        let payload = call("deleteStream", &number_bytes);
        let deleted = Command::DeleteStream { message_stream_id: None };
        assert_eq!(decode(&payload).command, deleted, "{number}");
    }
    let payload = call("seek", &built(|out| amf0::put_number(out, f64::NAN)));
    assert_eq!(decode(&payload).command, Command::Seek { ms: 0 });
    let payload = call("seek", &built(|out| amf0::put_number(out, 1e300)));
    assert_eq!(decode(&payload).command, Command::Seek { ms: u32::MAX });
}

#[test]
fn cm_01_minimal_connect() {
    let payload = [&string("connect"), SEVEN, b"\x03\0\x03app\x02\0\x04live\0\0\x09"].concat();
    assert_eq!(connect_of(&payload), Connect { app: b"live", is_odd: true, ..Connect::default() });
}

#[test]
fn connect_without_an_application() {
    for object in [&b""[..], b"\x05", b"\x06", b"\x02\0\x01x", b"\x03\0\x03app\x05\0\0\x09"] {
        let payload = [&string("connect"), SEVEN, object].concat();
        let nothing = Connect { is_odd: true, ..Connect::default() };
        assert_eq!(connect_of(&payload), nothing, "{object:02x?}");
    }
}

#[test]
fn connect_with_odd_keys_and_arguments() {
    for key in ["tcUrl", "tcurl", "TCURL", "'tcUrl'", "\"tcUrl\""] {
        let mut object = vec![];
        let url = Value::String(b"rtmp://h/live");
        amf0::put_object(&mut object, &[(key, url), ("app", Value::String(b"live"))]);
        let user = b"\x02\0\x04user";
        let payload = [&string("connect"), SEVEN, &object, user, b"\x7f"].concat();
        let connect = connect_of(&payload);
        assert_eq!(connect.tc_url, Some(&b"rtmp://h/live"[..]), "{key}");
        assert_eq!(connect.is_odd, key != "tcUrl", "{key}");
        assert_eq!(connect.app, b"live");
    }
    let mut object = vec![];
    let [odd, exact] = [Value::String(b"odd"), Value::String(b"exact")];
    amf0::put_object(&mut object, &[("APP", odd), ("app", exact)]);
    let payload = [&string("connect"), SEVEN, &object].concat();
    assert_eq!(connect_of(&payload).app, b"exact");
}

#[test]
fn connect_of_enhanced_rtmp() {
    let list = Value::StrictArray(vec![Value::String(b"hvc1"), Value::String(b"av01")]);
    let cases = [
        (vec![("fourCcList", list)], None),
        (
            vec![
                ("videoFourCcInfoMap", Value::Object(vec![])),
                ("capsEx", Value::Number(f64::from(caps_ex::RECONNECT | caps_ex::MOD_EX))),
            ],
            Some(5),
        ),
    ];
    for (properties, caps_ex) in cases {
        let object = built(|out| amf0::put_object(out, &properties));
        let payload = [&string("connect"), SEVEN, &object].concat();
        let connect = connect_of(&payload);
        assert!(connect.names_fourccs && connect.is_enhanced());
        assert_eq!(connect.caps_ex, caps_ex);
    }
}

#[test]
fn cm_02_transaction_id_is_repeated() {
    let payload = built(|out| reply::connect_result(out, 5.0, 0.0));
    assert_eq!(decode(&payload).transaction_id, 5.0);
}

#[test]
fn cm_08_create_stream_result_is_string_number_null_number() {
    assert_eq!(
        built(|out| reply::create_stream_result(out, 4.0, 1)),
        b"\x02\0\x07_result\x00\x40\x10\0\0\0\0\0\0\x05\x00\x3f\xf0\0\0\0\0\0\0"
    );
}

#[test]
fn cm_10_publish_without_a_kind() {
    let cases: [(&[u8], Option<PublishKind>); 9] = [
        (b"", None),
        (b"\x05", None),
        (b"\x06", None),
        (b"\x02\0\0", None),
        (b"\x02\0\x04LIVE", Some(PublishKind::Live)),
        (b"\x02\0\x05other", None),
        (b"\x02\0\x06record", Some(PublishKind::Record)),
        (b"\x02\0\x07Append\0", Some(PublishKind::Append)),
        (b"\x02\0\x04live\x02\0\xff", Some(PublishKind::Live)),
    ];
    for (argument, kind) in cases {
        let payload = call("publish", &[b"\x02\0\x01k", argument].concat());
        assert_eq!(decode(&payload).command, Command::Publish { key: b"k", kind });
    }
}

#[test]
fn cm_14_missing_and_odd_keys_are_empty() {
    for argument in [&b""[..], b"\x05", b"\x06", b"\x02\0\0", b"\x01\x01"] {
        let payload = call("publish", argument);
        let empty = Command::Publish { key: b"", kind: None };
        assert_eq!(decode(&payload).command, empty);
        let payload = call("FCPublish", argument);
        assert_eq!(decode(&payload).command, Command::FcPublish { key: b"" });
    }
}

#[test]
fn cm_15_delete_stream_with_a_number_a_key_or_nothing() {
    let gst = captured(GST_PUBLISH, "deleteStream", 32, 128);
    let cases = [
        (call("deleteStream", b"\x00\x3f\xf0\0\0\0\0\0\0"), Some(1)),
        (gst, None),
        (call("deleteStream", b""), None),
        (call("deleteStream", b"\x05"), None),
    ];
    for (payload, message_stream_id) in cases {
        assert_eq!(decode(&payload).command, Command::DeleteStream { message_stream_id });
    }
}

#[test]
fn cm_18_unknown_command_keeps_its_name_and_transaction_id() {
    for arguments in [&b""[..], b"\x02\0\x01x", b"\xff\xff"] {
        let payload = call("setPlaylist", arguments);
        let message = decode(&payload);
        assert_eq!(message.name, b"setPlaylist");
        assert_eq!((message.transaction_id, message.command), (7.0, Command::Unknown));
    }
    assert_eq!(
        built(|out| reply::result_null(out, 2.0)),
        b"\x02\0\x07_result\x00\x40\0\0\0\0\0\0\0\x05\x06"
    );
}

#[test]
fn cm_19_bandwidth_checks() {
    for name in ["_checkbw", "checkBandwidth", "_onbwcheck"] {
        assert_eq!(decode(&call(name, b"")).command, Command::CheckBandwidth);
    }
}

#[test]
fn cm_22_play_with_and_without_its_arguments() {
    let number = |number: f64| built(|out| amf0::put_number(out, number));
    let key = b"\x02\0\x03src".to_vec();
    for start in [-2000.0, -2.0, -1.0, 0.0] {
        let payload = call("play", &[key.clone(), number(start)].concat());
        assert_eq!(decode(&payload).command, play(Some(start), None));
    }
    assert_eq!(decode(&call("play", &key)).command, play(None, None));
    for (reset, expected) in [(vec![1, 1], true), (vec![1, 0], false), (number(2.0), true)] {
        let payload = call("play", &[key.clone(), number(-2.0), number(-1.0), reset].concat());
        let Command::Play { reset, .. } = decode(&payload).command else { panic!() };
        assert_eq!(reset, Some(expected));
    }
}

#[test]
fn cm_26_what_else_players_ask() {
    let thousand = b"\x00\x40\x8f\x40\0\0\0\0\0";
    let cases: [(&str, &[u8], Command<'_>); 17] = [
        ("FCSubscribe", b"\x02\0\x01k", Command::FcSubscribe { key: b"k" }),
        ("FCUnsubscribe", b"\x02\0\x01k", Command::FcUnsubscribe { key: b"k" }),
        (
            "pause",
            &[b"\x01\x01", &thousand[..]].concat(),
            Command::Pause { paused: true, ms: 1000 },
        ),
        ("pause", b"\x01\x00", Command::Pause { paused: false, ms: 0 }),
        ("pauseRaw", b"\x01\x01", Command::PauseRaw { paused: true, ms: 0 }),
        ("seek", thousand, Command::Seek { ms: 1000 }),
        ("receiveAudio", b"\x01\x00", Command::ReceiveAudio { on: false }),
        ("receiveAudio", b"", Command::ReceiveAudio { on: true }),
        ("receiveVideo", b"\x01\x00", Command::ReceiveVideo { on: false }),
        ("receiveVideo", thousand, Command::ReceiveVideo { on: true }),
        ("receiveVideo", b"\x00\0\0\0\0\0\0\0\0", Command::ReceiveVideo { on: false }),
        ("closeStream", b"", Command::CloseStream),
        ("publish", b"\x01\x00", Command::StopPublishing),
        ("publish", b"\x01\x01", Command::Publish { key: b"", kind: None }),
        ("play", b"\x01\x00", Command::StopPlaying),
        ("play", b"\x01\x00\x00\0\0\0\0\0\0\0\0", Command::StopPlaying),
        (
            "play2",
            b"\x03\0\x0astreamName\x02\0\x01k\0\x0atransition\x02\0\x06switch\0\0\x09",
            Command::Play2 { key: b"k", transition: b"switch" },
        ),
    ];
    for (name, arguments, command) in cases {
        assert_eq!(decode(&call(name, arguments)).command, command, "{name}");
    }
}

#[test]
fn names_match_whatever_their_case_and_with_a_nul() {
    for name in ["FCPublish", "fcpublish", "FCpublish", "FCPublish\0"] {
        let payload = call(name, b"\x02\0\x01k");
        assert_eq!(decode(&payload).command, Command::FcPublish { key: b"k" }, "{name:?}");
    }
    for (index, (name, _)) in COMMANDS.iter().enumerate() {
        let first = COMMANDS.iter().position(|(other, _)| other.eq_ignore_ascii_case(name));
        assert_eq!(first, Some(index), "{name} is there twice");
    }
}

#[test]
fn short_and_strange_messages() {
    assert_eq!(CommandMessage::decode(b""), Err(CommandError::Empty));
    assert_eq!(CommandMessage::decode(b"\0"), Err(CommandError::Empty));
    assert_eq!(CommandMessage::decode(b"\x05"), Err(CommandError::NameNotString));
    assert_eq!(decode(&string("createStream")).transaction_id, 0.0);
    let payload = [string("createStream"), b"\x05\x05".to_vec()].concat();
    assert_eq!(decode(&payload).command, Command::CreateStream);
}

#[test]
fn replies_are_what_nginx_sends() {
    assert_eq!(
        built(|out| reply::connect_result(out, 1.0, 0.0)),
        captured(NGINX_TO_PLAYER, "_result", 190, 4096)
    );
    assert_eq!(
        built(|out| reply::on_status(out, level::STATUS, code::PLAY_START, "Start live")),
        captured(NGINX_TO_PLAYER, "onStatus", 96, 4096)
    );
    assert_eq!(
        built(reply::sample_access),
        captured(NGINX_TO_PLAYER, "|RtmpSampleAccess", 24, 4096)
    );
}

#[test]
fn replies_byte_by_byte() {
    let publish_start = [
        &b"\x02\0\x08onStatus\x00\0\0\0\0\0\0\0\0\x05\x03"[..],
        b"\0\x05level\x02\0\x06status\0\x04code\x02\0\x17NetStream.Publish.Start",
        b"\0\x0bdescription\x02\0\x10Start publishing\0\0\x09",
    ]
    .concat();
    assert_eq!(publish_start.len(), 105);
    assert_eq!(
        built(|out| reply::on_status(out, level::STATUS, code::PUBLISH_START, "Start publishing")),
        publish_start
    );
    assert_eq!(
        built(|out| reply::get_stream_length_result(out, 7.0)),
        [b"\x02\0\x07_result", SEVEN, b"\x05\x00\0\0\0\0\0\0\0\0"].concat()
    );
    assert_eq!(
        built(|out| reply::connect_error(out, 7.0, code::CONNECT_INVALID_APP, "no")),
        [
            &b"\x02\0\x06_error"[..],
            SEVEN,
            b"\x05\x03\0\x05level\x02\0\x05error",
            b"\0\x04code\x02\0\x20NetConnection.Connect.InvalidApp",
            b"\0\x0bdescription\x02\0\x02no\0\0\x09",
        ]
        .concat()
    );
}

#[test]
fn replies_to_fc_calls_name_the_key() {
    type Reply = fn(&mut Vec<u8>, f64, &[u8]);
    let cases: [(Reply, &str, &str); 4] = [
        (reply::on_fc_publish, "onFCPublish", code::PUBLISH_START),
        (reply::on_fc_unpublish, "onFCUnpublish", code::UNPUBLISH_SUCCESS),
        (reply::on_fc_subscribe, "onFCSubscribe", code::PLAY_START),
        (reply::on_fc_unsubscribe, "onFCUnsubscribe", code::PLAY_STOP),
    ];
    for (reply, name, code) in cases {
        let payload = built(|out| reply(out, 7.0, b"k\xff"));
        let mut decoder = Decoder::new(&payload);
        let mut next = || decoder.next_value().unwrap().unwrap();
        assert_eq!(next(), Value::String(name.as_bytes()));
        assert_eq!(next(), Value::Number(7.0));
        assert_eq!(next(), Value::Null);
        let information = next();
        assert_eq!(information.get("code"), Some(&Value::String(code.as_bytes())));
        assert_eq!(information.get("description"), Some(&Value::String(b"k\xff")));
    }
}

#[test]
fn enhanced_connect_result_names_every_codec_that_is_passed_on() {
    let caps = caps_ex::MULTITRACK | caps_ex::MOD_EX;
    let payload = built(|out| reply::connect_result_enhanced(out, 1.0, 0.0, caps));
    let Command::Result { properties, response } = decode(&payload).command else { panic!() };
    let names_of = |map: &str| -> Vec<&[u8]> {
        let map = properties.get(map).and_then(Value::properties).unwrap();
        assert!(map.iter().all(|property| property.value == Value::Number(4.0)));
        map.iter().map(|property| property.key).collect()
    };
    let (video, audio) = (names_of("videoFourCcInfoMap"), names_of("audioFourCcInfoMap"));
    // One list for both, with the wildcard once.
    let all = video.iter().chain(&audio[1..]).map(|name| Value::String(name)).collect();
    assert_eq!(properties.get("fourCcList"), Some(&Value::StrictArray(all)));
    assert_eq!([video[0], audio[0]], [b"*", b"*"]);
    // Exactly the codecs that `media` knows by name.
    let payload = |head: u8, name: &[u8]| [&[head], name, &[0; 8]].concat();
    for name in &video[1..] {
        let tag = media::classify_video(&payload(0x91, name)).unwrap();
        assert!(!matches!(tag.codec, VideoCodec::Other(_)), "{name:?}");
    }
    for name in &audio[1..] {
        let tag = media::classify_audio(&payload(0x91, name)).unwrap();
        assert!(!matches!(tag.codec, AudioCodec::Other(_)), "{name:?}");
    }
    assert_eq!((video.len(), audio.len()), (1 + 6, 1 + 6));
    assert_eq!(properties.get("capsEx"), Some(&Value::Number(6.0)));
    assert_eq!(properties.get("fmsVer"), Some(&Value::String(b"FMS/3,0,1,123")));
    assert_eq!(response.get("code"), Some(&Value::String(code::CONNECT_SUCCESS.as_bytes())));
}

#[test]
fn reconnect_request_with_and_without_a_url() {
    for tc_url in [None, Some("rtmp://other/live")] {
        let payload = built(|out| reply::reconnect_request(out, tc_url, "moving"));
        let Command::OnStatus(status) = decode(&payload).command else { panic!() };
        assert_eq!(status.code, code::CONNECT_RECONNECT_REQUEST.as_bytes());
        let sent = payload.windows(5).any(|window| window == b"tcUrl");
        assert_eq!(sent, tc_url.is_some());
    }
}

#[test]
fn a_client_reads_results_errors_and_statuses() {
    let payload = built(|out| reply::create_stream_result(out, 4.0, 3));
    assert_eq!(
        decode(&payload).command,
        Command::Result { properties: Value::Null, response: Value::Number(3.0) }
    );
    let rejected =
        Status { level: b"error", code: b"NetConnection.Connect.Rejected", description: b"full" };
    let payload = built(|out| reply::connect_error(out, 1.0, code::CONNECT_REJECTED, "full"));
    assert_eq!(decode(&payload).command, Command::Error(rejected));
    let payload = built(|out| reply::on_status(out, level::ERROR, code::CONNECT_REJECTED, "full"));
    assert_eq!(decode(&payload).command, Command::OnStatus(rejected));
    // The information object in place of the command object.
    let payload = [&string("onStatus"), SEVEN, b"\x03\0\x04code\x02\0\x01c\0\0\x09"].concat();
    let status = Status { code: b"c", ..Status::default() };
    assert_eq!(decode(&payload).command, Command::OnStatus(status));
    assert_eq!(decode(&call("_error", b"")).command, Command::Error(Status::default()));
}

#[test]
fn requests_are_what_clients_send() {
    let connect = captured(FFMPEG9_PLAY, "connect", 197, 128);
    let tc_url = connect_of(&connect).tc_url.unwrap().to_vec();
    let request = ConnectCommand {
        app: "live",
        tc_url: std::str::from_utf8(&tc_url).unwrap(),
        flash_ver: "LNX 9,0,124,2",
        publishes: false,
    };
    assert_eq!(built(|out| request::connect(out, 1.0, &request)), connect);

    let sent = |capture, name, length| captured(capture, name, length, 4096);
    let key = "cam?token=abc";
    let cases = [
        (
            built(|out| request::release_stream(out, 2.0, key)),
            sent(FFMPEG5_PUBLISH, "releaseStream", 42),
        ),
        (built(|out| request::fc_publish(out, 3.0, key)), sent(FFMPEG5_PUBLISH, "FCPublish", 38)),
        (built(|out| request::create_stream(out, 4.0)), sent(FFMPEG5_PUBLISH, "createStream", 25)),
        (
            built(|out| request::publish(out, 5.0, key, PublishKind::Live)),
            sent(FFMPEG5_PUBLISH, "publish", 43),
        ),
        (
            built(|out| request::fc_unpublish(out, 6.0, key)),
            sent(FFMPEG5_PUBLISH, "FCUnpublish", 40),
        ),
        (
            built(|out| request::delete_stream(out, 7.0, 1)),
            sent(FFMPEG5_PUBLISH, "deleteStream", 34),
        ),
        (
            built(|out| request::get_stream_length(out, 3.0, "src")),
            sent(FFMPEG9_PLAY, "getStreamLength", 34),
        ),
        (
            built(|out| request::play(out, 4.0, "src", Some(-2000.0))),
            sent(FFMPEG9_PLAY, "play", 32),
        ),
    ];
    for (written, captured) in cases {
        assert_eq!(written, captured);
    }
}

#[test]
fn requests_are_read_as_they_were_meant() {
    let cases = [
        (built(|out| request::pause(out, 7.0, true, 9)), Command::Pause { paused: true, ms: 9 }),
        (built(|out| request::fc_subscribe(out, 7.0, "k")), Command::FcSubscribe { key: b"k" }),
        (built(|out| request::close_stream(out, 7.0)), Command::CloseStream),
    ];
    for (payload, command) in cases {
        assert_eq!(decode(&payload).command, command);
    }
}

#[test]
fn publishers_connect_is_the_minimal_one() {
    let request = ConnectCommand {
        app: "live",
        tc_url: "rtmp://h/live",
        flash_ver: "FMLE/3.0 (compatible; FMSc/1.0)",
        publishes: true,
    };
    let expected = [
        &b"\x02\0\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\0\x03app\x02\0\x04live"[..],
        b"\0\x04type\x02\0\x0anonprivate",
        b"\0\x08flashVer\x02\0\x1fFMLE/3.0 (compatible; FMSc/1.0)",
        b"\0\x05tcUrl\x02\0\x0drtmp://h/live\0\0\x09",
    ]
    .concat();
    assert_eq!(expected.len(), 121);
    assert_eq!(built(|out| request::connect(out, 1.0, &request)), expected);
}

#[test]
fn errors_read_as_one_line() {
    let cases: [(&[u8], &str); 3] = [
        (b"", "empty command message"),
        (b"\x01\x01", "command name is not a string"),
        (b"\x02\0\x02a", "command: a string needs 2 bytes, 1 are left"),
    ];
    for (payload, line) in cases {
        assert_eq!(CommandMessage::decode(payload).unwrap_err().to_string(), line);
    }
}
