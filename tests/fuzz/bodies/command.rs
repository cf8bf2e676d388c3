//! The contents of messages: commands, data, control messages, aggregates, and the names and texts
//! in them. Accepted values respect their bounds, and written values read the same.

use allocation_counter::measure;
use tiderace::amf0::Property;
use tiderace::limits::{AMF_NODES_MAX, LOG_TEXT_BYTES_MAX, NAME_BYTES_MAX, QUERY_BYTES_MAX};
use tiderace::media::metadata::{DataMessage, interpret, interpret_amf3};
use tiderace::rtmp::command::{Command, CommandMessage};
use tiderace::rtmp::message::{AggregateParts, Control, Message, MessageHeader, kind};
use tiderace::rtmp::name::{AppName, is_app, is_key};
use tiderace::text::Escaped;

/// Bound on the memory for the values of one message while they are read.
const PEAK_BYTES_MAX: usize = 3 * AMF_NODES_MAX * size_of::<Property<'_>>();

/// The first byte chooses the interpretation of the others.
pub(crate) fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    match what % 6 {
        0 => command(bytes),
        1 => data_message(bytes),
        2 => control(bytes),
        3 => aggregate(bytes),
        4 => name(bytes),
        _ => text(bytes),
    }
}

fn command(bytes: &[u8]) {
    let cost = measure(|| {
        let Ok(message) = CommandMessage::decode(bytes) else { return };
        assert!(message.name.len() <= bytes.len());
        if let Command::Connect(connect) = &message.command {
            assert!(connect.app.len() <= bytes.len());
        }
    });
    assert!(cost.bytes_max <= PEAK_BYTES_MAX as u64, "{} bytes for a command", cost.bytes_max);
    assert_eq!(cost.bytes_current, 0, "a command keeps no memory after reading");
}

fn data_message(bytes: &[u8]) {
    for read in [interpret, interpret_amf3] {
        match read(bytes) {
            Ok(DataMessage::Metadata(payload)) => {
                // A name and a count may be added, and a value that is nested too deep becomes
                // null. A number of AMF3 takes nine bytes in AMF0.
                let is_amf3 = bytes.contains(&0x11);
                let len_max = if is_amf3 { 16 * bytes.len() } else { bytes.len() } + 32;
                assert!(payload.len() <= len_max, "metadata has grown too much");
                let again = Ok(DataMessage::Metadata(payload.clone()));
                assert_eq!(interpret(&payload), again, "metadata for a relay");
            }
            Ok(DataMessage::Relay(payload)) => assert!(payload.len() <= bytes.len()),
            Ok(DataMessage::ClearMetadata | DataMessage::Ignore | DataMessage::Unusable)
            | Err(_) => {}
        }
    }
}

fn control(bytes: &[u8]) {
    let Some((&kind, payload)) = bytes.split_first() else { return };
    let Ok(Some(control)) = Control::parse(kind, payload) else { return };
    assert_eq!(control.kind(), kind);
    if let Control::SetChunkSize(size) = control {
        assert!((1..=0x7fff_ffff).contains(&size));
    }
    let mut written = Vec::new();
    control.encode(&mut written);
    assert_eq!(Control::parse(kind, &written), Ok(Some(control)));
}

fn aggregate(bytes: &[u8]) {
    let header = MessageHeader {
        chunk_stream_id: 4,
        timestamp: 0xffff_fff0,
        kind: kind::AGGREGATE,
        message_stream_id: 1,
    };
    let mut parts = AggregateParts::new(Message { header, payload: bytes });
    let mut all = 0;
    for part in &mut parts {
        assert_ne!(part.header.kind, kind::AGGREGATE, "an aggregate in an aggregate");
        assert_eq!(part.header.message_stream_id, header.message_stream_id);
        all += 11 + part.payload.len();
        assert!(all <= bytes.len(), "parts of {all} bytes in {}", bytes.len());
    }
    assert_eq!(parts.next(), None, "the end stays the end");
}

/// The first byte is the length of the application. The others are the application, the key and a
/// URL.
fn name(bytes: &[u8]) {
    let Some((&len, rest)) = bytes.split_first() else { return };
    let (app, key) = rest.split_at(usize::from(len).min(rest.len()));
    for tc_url in [None, Some(key)] {
        let Ok(app) = AppName::parse(app, tc_url) else { continue };
        is_clean(app.path(), NAME_BYTES_MAX);
        is_clean(app.query(), QUERY_BYTES_MAX);
        assert!(app.path().is_empty() || is_app(app.path()), "{:?} is not its own app", app.path());
        let Ok(target) = app.stream(key) else { continue };
        is_clean(&target.name, NAME_BYTES_MAX);
        is_clean(&target.query, QUERY_BYTES_MAX);
        let parts: Vec<_> = target.name.split('/').collect();
        assert!(!parts.iter().any(|part| ["", ".", ".."].contains(part)), "{:?}", target.name);
    }
    if let Ok(text) = std::str::from_utf8(key)
        && is_key(text)
    {
        let target = AppName::parse(b"live", None).and_then(|app| app.stream(key));
        assert_eq!(target.map(|target| target.name), Ok(format!("live/{text}")));
    }
}

fn is_clean(text: &str, bytes_max: usize) {
    assert!(text.len() <= bytes_max, "{} bytes, at most {bytes_max} are allowed", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?} on one line");
}

fn text(bytes: &[u8]) {
    let shown = Escaped(bytes).to_string();
    assert!(shown.len() <= LOG_TEXT_BYTES_MAX + '…'.len_utf8(), "{} bytes", shown.len());
    assert!(!shown.chars().any(char::is_control), "{shown:?} on one line");
}
