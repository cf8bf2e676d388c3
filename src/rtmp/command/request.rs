//! Payloads that a client sends (RTMP 1.0, section 7.2).

use super::PublishKind;
use crate::amf0::{self, Value};

/// Properties of the `connect` that a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectCommand<'a> {
    /// The application, with its query.
    pub app: &'a str,
    /// The URL of the application.
    pub tc_url: &'a str,
    /// The name and version of the client.
    pub flash_ver: &'a str,
    /// True if the client will publish. Publishers and players send different properties.
    pub publishes: bool,
}

/// Opens the application.
pub fn connect(out: &mut Vec<u8>, transaction_id: f64, request: &ConnectCommand<'_>) {
    super::begin(out, "connect", transaction_id);
    let text = |text: &'static str| Value::String(text.as_bytes());
    let mut properties = vec![("app", Value::String(request.app.as_bytes()))];
    if request.publishes {
        properties.push(("type", text("nonprivate")));
    }
    properties.push(("flashVer", Value::String(request.flash_ver.as_bytes())));
    properties.push(("tcUrl", Value::String(request.tc_url.as_bytes())));
    if !request.publishes {
        // The properties that ffmpeg sends: it claims every legacy codec, and that it can seek.
        properties.push(("fpad", Value::Boolean(false)));
        properties.push(("capabilities", Value::Number(15.0)));
        properties.push(("audioCodecs", Value::Number(4071.0)));
        properties.push(("videoCodecs", Value::Number(252.0)));
        properties.push(("videoFunction", Value::Number(1.0)));
    }
    amf0::put_object(out, &properties);
}

/// Frees the key of a broken publisher.
pub fn release_stream(out: &mut Vec<u8>, transaction_id: f64, key: &str) {
    with_key(out, "releaseStream", transaction_id, key);
}

/// Announces a publish.
pub fn fc_publish(out: &mut Vec<u8>, transaction_id: f64, key: &str) {
    with_key(out, "FCPublish", transaction_id, key);
}

/// Announces the end of a publish.
pub fn fc_unpublish(out: &mut Vec<u8>, transaction_id: f64, key: &str) {
    with_key(out, "FCUnpublish", transaction_id, key);
}

/// Asks for a message stream id.
pub fn create_stream(out: &mut Vec<u8>, transaction_id: f64) {
    without_arguments(out, "createStream", transaction_id);
}

/// Becomes the publisher of a stream.
pub fn publish(out: &mut Vec<u8>, transaction_id: f64, key: &str, kind: PublishKind) {
    with_key(out, "publish", transaction_id, key);
    amf0::put_string(out, kind.as_str().as_bytes());
}

/// Becomes a player of a stream.
pub fn play(out: &mut Vec<u8>, transaction_id: f64, key: &str, start: Option<f64>) {
    with_key(out, "play", transaction_id, key);
    if let Some(start) = start {
        amf0::put_number(out, start);
    }
}

/// Stops or resumes playback.
pub fn pause(out: &mut Vec<u8>, transaction_id: f64, paused: bool, ms: u32) {
    without_arguments(out, "pause", transaction_id);
    amf0::put_boolean(out, paused);
    amf0::put_number(out, f64::from(ms));
}

/// Asks how long a stream is.
pub fn get_stream_length(out: &mut Vec<u8>, transaction_id: f64, key: &str) {
    with_key(out, "getStreamLength", transaction_id, key);
}

/// Announces a play.
pub fn fc_subscribe(out: &mut Vec<u8>, transaction_id: f64, key: &str) {
    with_key(out, "FCSubscribe", transaction_id, key);
}

/// Frees a message stream id.
pub fn delete_stream(out: &mut Vec<u8>, transaction_id: f64, message_stream_id: u32) {
    without_arguments(out, "deleteStream", transaction_id);
    amf0::put_number(out, f64::from(message_stream_id));
}

/// Ends the publish or play of the message stream, and keeps its id.
pub fn close_stream(out: &mut Vec<u8>, transaction_id: f64) {
    without_arguments(out, "closeStream", transaction_id);
}

fn without_arguments(out: &mut Vec<u8>, name: &str, transaction_id: f64) {
    super::begin(out, name, transaction_id);
    amf0::put_null(out);
}

fn with_key(out: &mut Vec<u8>, name: &str, transaction_id: f64, key: &str) {
    without_arguments(out, name, transaction_id);
    amf0::put_string(out, key.as_bytes());
}
