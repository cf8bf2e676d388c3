//! Payloads that a server sends, in AMF0 whatever the question came in: every client reads that
//! (RTMP 1.0, section 7.2).

use super::{code, level};
use crate::amf0::{self, Value};

/// What a relay can do with a codec of Enhanced RTMP: pass it on.
const FOURCC_CAN_FORWARD: f64 = 4.0;
/// The wildcard comes first. The codecs that Enhanced RTMP v2 defines follow, for clients that
/// look for a name and know no wildcard.
const VIDEO_FOURCCS: [&str; 7] = ["*", "avc1", "hvc1", "vvc1", "av01", "vp09", "vp08"];
const AUDIO_FOURCCS: [&str; 7] = ["*", "mp4a", ".mp3", "Opus", "fLaC", "ac-3", "ec-3"];

/// Grants `connect`.
pub fn connect_result(out: &mut Vec<u8>, transaction_id: f64, object_encoding: f64) {
    super::begin(out, "_result", transaction_id);
    amf0::put_object(out, &SERVER_PROPERTIES);
    connect_success(out, object_encoding);
}

/// Grants `connect` to a client of Enhanced RTMP: every codec is passed on, which the two
/// versions of it say in different ways, and `caps_ex` is what else the server passes through
/// or asks.
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

/// Grants `createStream`: exactly null and a number, or ffmpeg gives up.
pub fn create_stream_result(out: &mut Vec<u8>, transaction_id: f64, message_stream_id: u32) {
    super::begin(out, "_result", transaction_id);
    amf0::put_null(out);
    amf0::put_number(out, f64::from(message_stream_id));
}

/// Answers a call that has nothing to tell.
pub fn result_null(out: &mut Vec<u8>, transaction_id: f64) {
    super::begin(out, "_result", transaction_id);
    amf0::put_null(out);
    amf0::put_undefined(out);
}

/// Answers `getStreamLength`: a live stream has none.
pub fn get_stream_length_result(out: &mut Vec<u8>, transaction_id: f64) {
    super::begin(out, "_result", transaction_id);
    amf0::put_null(out);
    amf0::put_number(out, 0.0);
}

/// Tells a message stream what has become of it.
pub fn on_status(out: &mut Vec<u8>, level: &str, code: &str, description: &str) {
    super::begin(out, "onStatus", 0.0);
    amf0::put_null(out);
    put_status(out, level, code, description);
}

/// Asks a client of Enhanced RTMP v2 to connect anew, to `tc_url` or where it is.
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

/// Answers `FCPublish`, for which some hardware encoders wait.
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

/// The data message (type 18) that lets a Flash player read samples of audio and video.
pub fn sample_access(out: &mut Vec<u8>) {
    amf0::put_string(out, b"|RtmpSampleAccess");
    amf0::put_boolean(out, true);
    amf0::put_boolean(out, true);
}

/// What nginx-rtmp says of itself too, so that every client has met it.
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
