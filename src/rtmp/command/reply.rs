//! Payloads that a server sends (RTMP 1.0, section 7.2). They are always AMF0, even for a request
//! in AMF3, because every client reads AMF0.

use super::{code, level};
use crate::amf0::{self, Value};

/// Capability of a relay for a codec of Enhanced RTMP: it forwards the codec.
const FOURCC_CAN_FORWARD: f64 = 4.0;
/// Video codecs that the server forwards. The wildcard comes first. The codecs of Enhanced RTMP v2
/// follow, for clients that do not know the wildcard.
const VIDEO_FOURCCS: [&str; 7] = ["*", "avc1", "hvc1", "vvc1", "av01", "vp09", "vp08"];
/// Audio codecs that the server forwards.
const AUDIO_FOURCCS: [&str; 7] = ["*", "mp4a", ".mp3", "Opus", "fLaC", "ac-3", "ec-3"];

/// Grants `connect`.
pub fn connect_result(out: &mut Vec<u8>, transaction_id: f64, object_encoding: f64) {
    super::begin(out, "_result", transaction_id);
    amf0::put_object(out, &SERVER_PROPERTIES);
    connect_success(out, object_encoding);
}

/// Grants `connect` to a client of Enhanced RTMP. The reply says that every codec is forwarded, in
/// the formats of both versions. `caps_ex` holds the other capabilities of the server.
pub fn connect_result_enhanced(
    out: &mut Vec<u8>,
    transaction_id: f64,
    object_encoding: f64,
    caps_ex: u32,
) {
    super::begin(out, "_result", transaction_id);
    let property = |name: &'static str| amf0::Property {
        key: name.as_bytes(),
        value: Value::Number(FOURCC_CAN_FORWARD),
    };
    let map = |names: [&'static str; 7]| Value::Object(names.map(property).into());
    let all = VIDEO_FOURCCS.iter().chain(&AUDIO_FOURCCS[1..]);
    let [fms_ver, capabilities] = SERVER_PROPERTIES;
    amf0::put_object(
        out,
        &[
            fms_ver,
            capabilities,
            ("fourCcList", Value::StrictArray(all.map(|name| text(name)).collect())),
            ("videoFourCcInfoMap", map(VIDEO_FOURCCS)),
            ("audioFourCcInfoMap", map(AUDIO_FOURCCS)),
            ("capsEx", Value::Number(f64::from(caps_ex))),
        ],
    );
    connect_success(out, object_encoding);
}

/// Refuses `connect`.
pub fn connect_error(out: &mut Vec<u8>, transaction_id: f64, code: &str, description: &str) {
    super::begin(out, "_error", transaction_id);
    amf0::put_null(out);
    put_status(out, level::ERROR, code, description);
}

/// Refuses any other call.
pub fn call_error(out: &mut Vec<u8>, transaction_id: f64, description: &str) {
    connect_error(out, transaction_id, code::CALL_FAILED, description);
}

/// Grants `createStream`. The reply is exactly null and a number; ffmpeg fails otherwise.
pub fn create_stream_result(out: &mut Vec<u8>, transaction_id: f64, message_stream_id: u32) {
    super::begin(out, "_result", transaction_id);
    amf0::put_null(out);
    amf0::put_number(out, f64::from(message_stream_id));
}

/// Answers a call that has no result.
pub fn result_null(out: &mut Vec<u8>, transaction_id: f64) {
    super::begin(out, "_result", transaction_id);
    amf0::put_null(out);
    amf0::put_undefined(out);
}

/// Answers `getStreamLength`. The length of a live stream is 0.
pub fn get_stream_length_result(out: &mut Vec<u8>, transaction_id: f64) {
    super::begin(out, "_result", transaction_id);
    amf0::put_null(out);
    amf0::put_number(out, 0.0);
}

/// Reports an event of a message stream.
pub fn on_status(out: &mut Vec<u8>, level: &str, code: &str, description: &str) {
    super::begin(out, "onStatus", 0.0);
    amf0::put_null(out);
    put_status(out, level, code, description);
}

/// Asks a client of Enhanced RTMP v2 to reconnect, to `tc_url` or to this server.
pub fn reconnect_request(out: &mut Vec<u8>, tc_url: Option<&str>, description: &str) {
    super::begin(out, "onStatus", 0.0);
    amf0::put_null(out);
    let mut information = vec![
        ("level", text(level::STATUS)),
        ("code", text(code::CONNECT_RECONNECT_REQUEST)),
        ("description", text(description)),
    ];
    information.extend(tc_url.map(|tc_url| ("tcUrl", text(tc_url))));
    amf0::put_object(out, &information);
}

/// Answers `FCPublish`. Some hardware encoders wait for it.
pub fn on_fc_publish(out: &mut Vec<u8>, transaction_id: f64, key: &[u8]) {
    super::begin(out, "onFCPublish", transaction_id);
    put_key_status(out, code::PUBLISH_START, key);
}

/// Answers `FCUnpublish`.
pub fn on_fc_unpublish(out: &mut Vec<u8>, transaction_id: f64, key: &[u8]) {
    super::begin(out, "onFCUnpublish", transaction_id);
    put_key_status(out, code::UNPUBLISH_SUCCESS, key);
}

/// Answers `FCSubscribe`.
pub fn on_fc_subscribe(out: &mut Vec<u8>, transaction_id: f64, key: &[u8]) {
    super::begin(out, "onFCSubscribe", transaction_id);
    put_key_status(out, code::PLAY_START, key);
}

/// Answers `FCUnsubscribe`.
pub fn on_fc_unsubscribe(out: &mut Vec<u8>, transaction_id: f64, key: &[u8]) {
    super::begin(out, "onFCUnsubscribe", transaction_id);
    put_key_status(out, code::PLAY_STOP, key);
}

/// Writes the data message (type 18) that lets a Flash player read audio and video samples.
pub fn sample_access(out: &mut Vec<u8>) {
    amf0::put_string(out, b"|RtmpSampleAccess");
    amf0::put_boolean(out, true);
    amf0::put_boolean(out, true);
}

/// Properties of the server. nginx-rtmp sends the same ones, so every client has met them.
const SERVER_PROPERTIES: [(&str, Value<'static>); 2] =
    [("fmsVer", text("FMS/3,0,1,123")), ("capabilities", Value::Number(31.0))];

fn connect_success(out: &mut Vec<u8>, object_encoding: f64) {
    amf0::put_object(
        out,
        &[
            ("level", text(level::STATUS)),
            ("code", text(code::CONNECT_SUCCESS)),
            ("description", text("Connection succeeded.")),
            ("objectEncoding", Value::Number(object_encoding)),
        ],
    );
}

fn put_status(out: &mut Vec<u8>, level: &str, code: &str, description: &str) {
    let information =
        [("level", text(level)), ("code", text(code)), ("description", text(description))];
    amf0::put_object(out, &information);
}

fn put_key_status(out: &mut Vec<u8>, code: &str, key: &[u8]) {
    amf0::put_null(out);
    let information =
        [("level", text(level::STATUS)), ("code", text(code)), ("description", Value::String(key))];
    amf0::put_object(out, &information);
}

const fn text(text: &str) -> Value<'_> {
    Value::String(text.as_bytes())
}
