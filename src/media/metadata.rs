//! Data messages (types 18 and 15): how a relay treats those of a publisher.
//!
//! Owns the names of data handlers and the format of metadata for players: the name `onMetaData`
//! and an ECMA array, which ffmpeg accepts as stream metadata. This module caches nothing, and
//! never trusts metadata about tracks.

use crate::amf0::{self, Decoder, Property, Value};
use crate::amf3;

/// Meaning of a data message.
#[derive(Clone, Debug, PartialEq)]
pub enum DataMessage<'a> {
    /// Metadata of the stream, as the payload of a type 18 message to relay and to cache.
    Metadata(Vec<u8>),
    /// The publisher clears its metadata.
    ClearMetadata,
    /// Timed data such as text or cue points, as the payload of a type 18 message to relay. It is
    /// not cached, because late players have no use for it.
    Relay(&'a [u8]),
    /// The message is not for players. It is dropped.
    Ignore,
    /// Metadata without properties, or data without a name. It is dropped and counted.
    Unusable,
}

/// Interprets the payload of a type 18 message.
///
/// An error means malformed AMF. The caller drops and counts the message and keeps the connection,
/// because some cameras send malformed metadata with good video.
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

/// Interprets the payload of a type 15 message: a format byte, which some senders leave out, and
/// AMF0 values (Enhanced RTMP v2, "AMF3 messages").
pub fn interpret_amf3(payload: &[u8]) -> Result<DataMessage<'_>, amf0::Error> {
    interpret(payload.strip_prefix(&[0]).unwrap_or(payload))
}

const SET_DATA_FRAME: &[u8] = b"@setDataFrame";
const CLEAR_DATA_FRAME: &[u8] = b"@clearDataFrame";
const ON_METADATA: &[u8] = b"onMetaData";

/// Handlers that only a server calls in a player. If they were relayed from a publisher, they would
/// contradict this server.
const SERVER_HANDLERS: [&[u8]; 2] = [b"|RtmpSampleAccess", b"onStatus"];

/// Properties that are only true of a file. Players treat a live stream with the first two as one
/// of fixed length. Players in browsers wait for a medium that the others name and that never
/// comes, and never play one that they deny.
const FILE_PROPERTIES: [&[u8]; 4] = [b"duration", b"filesize", b"hasAudio", b"hasVideo"];

/// Properties that distinguish metadata without a name from other data.
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

/// Number of values that may precede the name or the properties. Some encoders build data messages
/// like commands, with a transaction id and null.
const LEADING_VALUES_MAX: usize = 4;

/// Handles `@setDataFrame`. Its arguments are a name and its values; players get both, without the
/// command itself.
fn set_data_frame<'a>(decoder: &mut Decoder<'a>) -> Result<DataMessage<'a>, amf0::Error> {
    let (named, frame) = next_named(decoder)?;
    match named {
        Named::Nothing => Ok(DataMessage::Unusable),
        Named::Properties(properties) => Ok(metadata_of(properties)),
        Named::Name(ON_METADATA) => metadata(decoder),
        Named::Name(_) => Ok(DataMessage::Relay(frame)),
    }
}

/// Reads the properties after `onMetaData`. Dahua cameras send null instead.
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

/// Returns the properties of a value. Encoders send objects or ECMA arrays, and Flash encoders send
/// AMF3.
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
    // ffmpeg reads an empty key as the end of the array, and then misreads the rest.
    !property.key.is_empty()
        && !FILE_PROPERTIES.iter().any(|name| name.eq_ignore_ascii_case(property.key))
}

/// The first meaningful value of a data message, or of a part of it.
enum Named<'a> {
    /// A name, without the NUL that some encoders append.
    Name(&'a [u8]),
    /// Properties without a name.
    Properties(Vec<Property<'a>>),
    /// Neither.
    Nothing,
}

/// Reads up to the first name or properties. Returns it, and the bytes that begin with it.
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
