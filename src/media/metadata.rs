//! Data messages: what a publisher's type 18 or 15 message asks of a relay.
//!
//! Owns the names of data handlers and the form in which metadata reaches players: the name
//! `onMetaData` and an ECMA array, which is what ffmpeg takes for stream metadata. Never caches
//! anything and never trusts what metadata says about tracks.

use crate::amf0::{self, Decoder, Property, Value};
use crate::amf3;

/// What a data message means.
#[derive(Clone, Debug, PartialEq)]
pub enum DataMessage<'a> {
    /// Metadata of the stream, as the payload of a type 18 message to relay and to cache.
    Metadata(Vec<u8>),
    /// The publisher takes its metadata back.
    ClearMetadata,
    /// Timed data such as text or cue points: the payload of a type 18 message to relay. A late
    /// player has no use for it, so it is not cached.
    Relay(&'a [u8]),
    /// What is not for players: dropped.
    Ignore,
    /// Metadata without any, or data without a name: dropped and counted.
    Unusable,
}

/// Interprets the payload of a type 18 message.
///
/// An error means AMF that cannot be read: the message is dropped and counted, and the
/// connection lives on, because cameras are known to send such metadata and good video.
pub fn interpret(payload: &[u8]) -> Result<DataMessage<'_>, amf0::Error> {
    let mut decoder = Decoder::new(payload);
    let (named, start) = next_named(&mut decoder)?;
    match named {
        Named::Nothing => Ok(DataMessage::Unusable),
        Named::Properties(properties) => Ok(nameless_metadata(properties)),
        Named::Name(SET_DATA_FRAME) => set_data_frame(&mut decoder),
        Named::Name(CLEAR_DATA_FRAME) => Ok(match next_named(&mut decoder)?.0 {
            Named::Name(ON_METADATA) => DataMessage::ClearMetadata,
            _ => DataMessage::Ignore,
        }),
        // Some encoders leave `@setDataFrame` out.
        Named::Name(ON_METADATA) => metadata(&mut decoder),
        Named::Name(name) if SERVER_HANDLERS.contains(&name) => Ok(DataMessage::Ignore),
        Named::Name(_) => Ok(DataMessage::Relay(start)),
    }
}

/// Interprets the payload of a type 15 message: AMF0 values behind a format byte, which some
/// senders leave out (Enhanced RTMP v2, "AMF3 messages").
pub fn interpret_amf3(payload: &[u8]) -> Result<DataMessage<'_>, amf0::Error> {
    interpret(payload.strip_prefix(&[0]).unwrap_or(payload))
}

const SET_DATA_FRAME: &[u8] = b"@setDataFrame";
const CLEAR_DATA_FRAME: &[u8] = b"@clearDataFrame";
const ON_METADATA: &[u8] = b"onMetaData";

/// What only a server says to a player: passed on from a publisher it would contradict ours.
const SERVER_HANDLERS: [&[u8]; 2] = [b"|RtmpSampleAccess", b"onStatus"];

/// What is true of a file alone: players show a live stream with these as one of fixed length.
const FILE_PROPERTIES: [&[u8]; 2] = [b"duration", b"filesize"];

/// Properties that tell metadata without its name from other data.
const KNOWN_PROPERTIES: [&[u8]; 8] = [
    b"width",
    b"height",
    b"framerate",
    b"videocodecid",
    b"videodatarate",
    b"audiocodecid",
    b"audiodatarate",
    b"audiosamplerate",
];

/// Values that may precede the name or the properties: encoders that build data messages like
/// commands send a transaction id and null.
const LEADING_VALUES_MAX: usize = 4;

/// `@setDataFrame` names a frame and gives its content; players get both without the command.
fn set_data_frame<'a>(decoder: &mut Decoder<'a>) -> Result<DataMessage<'a>, amf0::Error> {
    let (named, frame) = next_named(decoder)?;
    match named {
        Named::Nothing => Ok(DataMessage::Unusable),
        Named::Properties(properties) => Ok(metadata_of(properties)),
        Named::Name(ON_METADATA) => metadata(decoder),
        Named::Name(_) => Ok(DataMessage::Relay(frame)),
    }
}

/// The properties that follow `onMetaData`. Dahua cameras send null in their place.
fn metadata<'a>(decoder: &mut Decoder<'a>) -> Result<DataMessage<'a>, amf0::Error> {
    for _ in 0..=LEADING_VALUES_MAX {
        let Some(value) = decoder.next_value()? else { break };
        if let Some(properties) = into_properties(value) {
            return Ok(metadata_of(properties));
        }
    }
    Ok(DataMessage::Unusable)
}

fn nameless_metadata(properties: Vec<Property<'_>>) -> DataMessage<'_> {
    let is_known = |property: &Property<'_>| KNOWN_PROPERTIES.contains(&property.key);
    if properties.iter().any(is_known) { metadata_of(properties) } else { DataMessage::Unusable }
}

fn metadata_of(mut properties: Vec<Property<'_>>) -> DataMessage<'_> {
    properties.retain(is_for_players);
    let mut payload = Vec::new();
    amf0::put_string(&mut payload, ON_METADATA);
    Value::EcmaArray(properties).encode(&mut payload);
    DataMessage::Metadata(payload)
}

/// Encoders use objects and ECMA arrays alike, and those of Flash AMF3.
fn into_properties(value: Value<'_>) -> Option<Vec<Property<'_>>> {
    match value {
        Value::Object(properties)
        | Value::EcmaArray(properties)
        | Value::TypedObject { properties, .. } => Some(properties),
        Value::Amf3(bytes) => amf3::properties(bytes),
        _ => None,
    }
}

fn is_for_players(property: &Property<'_>) -> bool {
    // ffmpeg takes an empty key for the end of the array and stumbles over the rest.
    !property.key.is_empty()
        && !FILE_PROPERTIES.iter().any(|name| name.eq_ignore_ascii_case(property.key))
}

/// What a data message or a part of it begins with, apart from values that mean nothing.
enum Named<'a> {
    /// A name, without the NUL that some encoders count in.
    Name(&'a [u8]),
    /// Properties without a name.
    Properties(Vec<Property<'a>>),
    Nothing,
}

/// Reads up to the name, and returns it with the bytes from it on.
fn next_named<'a>(decoder: &mut Decoder<'a>) -> Result<(Named<'a>, &'a [u8]), amf0::Error> {
    for _ in 0..=LEADING_VALUES_MAX {
        let start = decoder.remaining();
        let Some(value) = decoder.next_value()? else { break };
        if let Value::String(name) = value {
            return Ok((Named::Name(name.strip_suffix(&[0]).unwrap_or(name)), start));
        }
        if let Some(properties) = into_properties(value) {
            return Ok((Named::Properties(properties), start));
        }
    }
    Ok((Named::Nothing, decoder.remaining()))
}

#[cfg(test)]
mod tests;
