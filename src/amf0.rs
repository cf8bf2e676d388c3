//! Decoder and encoder of AMF0, the format of commands and metadata.
//!
//! Owns the byte layout of every AMF0 marker, and the bounds on depth and number of values. Values
//! borrow their text from the message. Other modules interpret them. An AMF3 value after the AVM+
//! marker is skipped, not decoded. References (section 2.9) are returned as indices, not resolved.

use std::fmt;

use crate::limits::{AMF_DEPTH_MAX, AMF_NODES_MAX};

/// One AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number. AMF0 has no integers. It may be infinite or NaN.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A short or long string. It is bytes because some encoders send invalid UTF-8.
    String(&'a [u8]),
    /// An anonymous object.
    Object(Vec<Property<'a>>),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// The index of an earlier object or array of the message.
    Reference(u16),
    /// An associative array. Its declared count is only a hint and is dropped.
    EcmaArray(Vec<Property<'a>>),
    /// An indexed array.
    StrictArray(Vec<Self>),
    /// A point in time.
    Date {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: f64,
        /// Reserved by the specification. It is kept so that a relayed value does not change.
        timezone: i16,
    },
    /// A value that the sender could not encode.
    Unsupported,
    /// An XML document.
    Xml(&'a [u8]),
    /// An object with a class name.
    TypedObject {
        /// The class name.
        class: &'a [u8],
        /// The properties.
        properties: Vec<Property<'a>>,
    },
    /// The bytes of one AMF3 value, without the AVM+ marker before it.
    Amf3(&'a [u8]),
}

/// A named value of an object or an ECMA array.
#[derive(Clone, Debug, PartialEq)]
pub struct Property<'a> {
    /// The name, which may be empty.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a>,
}

impl<'a> Value<'a> {
    /// Returns the number; `None` for other types.
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the boolean; `None` for other types.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// Returns the bytes of the string; `None` for other types.
    pub const fn as_str_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::String(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the properties of an object, a typed object or an ECMA array. Encoders use them
    /// interchangeably.
    pub fn properties(&self) -> Option<&[Property<'a>]> {
        match self {
            Value::Object(properties)
            | Value::EcmaArray(properties)
            | Value::TypedObject { properties, .. } => Some(properties),
            _ => None,
        }
    }

    /// Returns the value of the first property with exactly this key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let properties = self.properties()?;
        properties.iter().find(|property| property.key == key.as_bytes()).map(|found| &found.value)
    }

    /// Appends the value. Values that are nested deeper than [`Decoder`] accepts are written as
    /// null. So the output is always readable, and the stack depth is bounded.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_at_depth(0, out);
    }

    fn encode_at_depth(&self, depth: usize, out: &mut Vec<u8>) {
        let Ok(inner) = deeper(depth) else {
            return self.encode_scalar(out);
        };
        match self {
            Value::Object(properties) => {
                out.push(marker::OBJECT);
                encode_properties(properties, inner, out);
            }
            Value::EcmaArray(properties) => {
                out.push(marker::ECMA_ARRAY);
                put_count(out, properties.len());
                encode_properties(properties, inner, out);
            }
            Value::TypedObject { class, properties } => {
                out.push(marker::TYPED_OBJECT);
                put_key(out, class);
                encode_properties(properties, inner, out);
            }
            Value::StrictArray(values) => {
                out.push(marker::STRICT_ARRAY);
                put_count(out, values.len());
                for value in values {
                    value.encode_at_depth(inner, out);
                }
            }
            scalar => scalar.encode_scalar(out),
        }
    }

    fn encode_scalar(&self, out: &mut Vec<u8>) {
        match self {
            Value::Number(number) => put_number(out, *number),
            Value::Boolean(boolean) => put_boolean(out, *boolean),
            Value::String(bytes) => put_string(out, bytes),
            Value::Undefined => put_undefined(out),
            Value::Reference(index) => {
                out.push(marker::REFERENCE);
                out.extend_from_slice(&index.to_be_bytes());
            }
            Value::Date { unix_ms, timezone } => {
                out.push(marker::DATE);
                out.extend_from_slice(&unix_ms.to_be_bytes());
                out.extend_from_slice(&timezone.to_be_bytes());
            }
            Value::Unsupported => out.push(marker::UNSUPPORTED),
            Value::Xml(document) => {
                out.push(marker::XML_DOCUMENT);
                put_long_text(out, document);
            }
            Value::Amf3(bytes) => {
                out.push(marker::AVM_PLUS);
                out.extend_from_slice(bytes);
            }
            Value::Null
            | Value::Object(_)
            | Value::EcmaArray(_)
            | Value::StrictArray(_)
            | Value::TypedObject { .. } => put_null(out),
        }
    }
}

/// Appends a number (AMF0, section 2.2).
pub fn put_number(out: &mut Vec<u8>, number: f64) {
    out.push(marker::NUMBER);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a boolean (AMF0, section 2.3).
pub fn put_boolean(out: &mut Vec<u8>, boolean: bool) {
    out.extend_from_slice(&[marker::BOOLEAN, u8::from(boolean)]);
}

/// Appends a string (AMF0, section 2.4), or a long string (section 2.14) if its length needs more
/// than 16 bits.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(length) = u16::try_from(bytes.len()) {
        out.push(marker::STRING);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(bytes);
    } else {
        out.push(marker::LONG_STRING);
        put_long_text(out, bytes);
    }
}

/// Appends null (AMF0, section 2.7).
pub fn put_null(out: &mut Vec<u8>) {
    out.push(marker::NULL);
}

/// Appends undefined (AMF0, section 2.8).
pub fn put_undefined(out: &mut Vec<u8>) {
    out.push(marker::UNDEFINED);
}

/// Appends an anonymous object (AMF0, section 2.5).
pub fn put_object(out: &mut Vec<u8>, properties: &[(&str, Value<'_>)]) {
    out.push(marker::OBJECT);
    put_pairs(out, properties);
}

/// Appends an ECMA array with its exact count (AMF0, section 2.10).
pub fn put_ecma_array(out: &mut Vec<u8>, properties: &[(&str, Value<'_>)]) {
    out.push(marker::ECMA_ARRAY);
    put_count(out, properties.len());
    put_pairs(out, properties);
}

fn put_pairs(out: &mut Vec<u8>, properties: &[(&str, Value<'_>)]) {
    for (key, value) in properties {
        put_key(out, key.as_bytes());
        value.encode_at_depth(1, out);
    }
    out.extend_from_slice(&OBJECT_END);
}

fn encode_properties(properties: &[Property<'_>], depth: usize, out: &mut Vec<u8>) {
    for property in properties {
        put_key(out, property.key);
        property.value.encode_at_depth(depth, out);
    }
    out.extend_from_slice(&OBJECT_END);
}

/// Appends a key, cut to 65535 bytes: keys have no long form. Keys that were decoded always fit.
fn put_key(out: &mut Vec<u8>, key: &[u8]) {
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(key.iter().take(usize::from(length)));
}

fn put_long_text(out: &mut Vec<u8>, text: &[u8]) {
    put_count(out, text.len());
    out.extend_from_slice(text);
}

/// Appends a count or a length. Messages have 24-bit lengths, so the number always fits 32 bits.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// A decoder of the values in one message.
///
/// The bounds on depth and on the number of values apply to the whole message.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Decoder<'a> {
    /// Creates a decoder at the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, values_left: AMF_NODES_MAX }
    }

    /// Returns the next value; `None` at the end. An error consumes nothing: the values before it
    /// stay valid, and the next call fails again.
    pub fn next_value(&mut self) -> Result<Option<Value<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.rest;
        let value = self.value(0);
        if value.is_err() {
            self.rest = start;
        }
        value.map(Some)
    }

    /// Returns the bytes that have not been decoded.
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        self.count_value()?;
        Ok(match self.u8("a marker")? {
            marker::NUMBER => Value::Number(self.f64("a number")?),
            marker::BOOLEAN => Value::Boolean(self.u8("a boolean")? != 0),
            marker::STRING => Value::String(self.short_text("a string")?),
            marker::OBJECT => Value::Object(self.properties(deeper(depth)?, End::Marked)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => Value::Reference(self.u16("a reference")?),
            marker::ECMA_ARRAY => {
                // Encoders write zero, the exact count or garbage here (section 2.10).
                let _count = self.u32("a count")?;
                Value::EcmaArray(self.properties(deeper(depth)?, End::MarkedOrOfMessage)?)
            }
            marker::STRICT_ARRAY => Value::StrictArray(self.elements(deeper(depth)?)?),
            marker::DATE => {
                let unix_ms = self.f64("a date")?;
                Value::Date { unix_ms, timezone: self.u16("a time zone")?.cast_signed() }
            }
            marker::LONG_STRING => Value::String(self.long_text("a long string")?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::Xml(self.long_text("an XML document")?),
            marker::TYPED_OBJECT => {
                let class = self.short_text("a class name")?;
                let properties = self.properties(deeper(depth)?, End::Marked)?;
                Value::TypedObject { class, properties }
            }
            marker::AVM_PLUS => Value::Amf3(self.amf3(depth)?),
            // Movie clip and record set are reserved. An object end is only valid after a key.
            other => return Err(Error::Marker(other)),
        })
    }

    fn properties(&mut self, depth: usize, end: End) -> Result<Vec<Property<'a>>, Error> {
        let mut properties = Vec::new();
        loop {
            if self.rest.is_empty() && end == End::MarkedOrOfMessage {
                return Ok(properties);
            }
            let key = self.short_text("a key")?;
            // Some encoders use empty keys for properties, so only an empty key and the marker
            // together end the object (section 2.11).
            if let Some((&marker::OBJECT_END, after)) = self.rest.split_first()
                && key.is_empty()
            {
                self.rest = after;
                return Ok(properties);
            }
            properties.push(Property { key, value: self.value(depth)? });
        }
    }

    fn elements(&mut self, depth: usize) -> Result<Vec<Value<'a>>, Error> {
        let count = self.u32("a count")?;
        self.check_count(count)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth)?);
        }
        Ok(values)
    }

    /// Skips one AMF3 value and returns its bytes. AMF0 continues after it (AMF0, section 3.1).
    fn amf3(&mut self, depth: usize) -> Result<&'a [u8], Error> {
        let start = self.rest;
        Amf3Skip { decoder: self, traits: Vec::new() }.value(depth)?;
        let length = start.len() - self.rest.len();
        Ok(start.get(..length).unwrap_or_default())
    }

    fn count_value(&mut self) -> Result<(), Error> {
        self.values_left =
            self.values_left.checked_sub(1).ok_or(Error::TooManyValues { max: AMF_NODES_MAX })?;
        Ok(())
    }

    /// Checks a declared count before its elements are read. Each element has at least one byte, so
    /// a count above the remaining bytes is wrong.
    const fn check_count(&self, count: u32) -> Result<(), Error> {
        if count as usize > self.rest.len() {
            return Err(Error::Count { count, remaining_bytes: self.rest.len() });
        }
        Ok(())
    }

    fn short_text(&mut self, what: &'static str) -> Result<&'a [u8], Error> {
        let length = self.u16(what)?;
        self.take(usize::from(length), what)
    }

    fn long_text(&mut self, what: &'static str) -> Result<&'a [u8], Error> {
        let length = self.u32(what)?;
        self.take(length as usize, what)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array(what).map(u8::from_be_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_be_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn f64(&mut self, what: &'static str) -> Result<f64, Error> {
        self.array(what).map(f64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let (array, after) =
            self.rest.split_first_chunk().ok_or_else(|| self.truncated(N, what))?;
        self.rest = after;
        Ok(*array)
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let (taken, after) =
            self.rest.split_at_checked(length).ok_or_else(|| self.truncated(length, what))?;
        self.rest = after;
        Ok(taken)
    }

    const fn truncated(&self, expected_bytes: usize, what: &'static str) -> Error {
        Error::Truncated { what, expected_bytes, remaining_bytes: self.rest.len() }
    }
}

/// The end of a list of properties.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// An empty key and the object end marker.
    Marked,
    /// The marker, or the end of the message: old encoders leave out the marker of an ECMA array.
    MarkedOrOfMessage,
}

/// Returns the next level of nesting. Fails if it is too deep.
const fn deeper(depth: usize) -> Result<usize, Error> {
    if depth < AMF_DEPTH_MAX { Ok(depth + 1) } else { Err(Error::TooDeep { max: AMF_DEPTH_MAX }) }
}

/// Skips one AMF3 value.
///
/// The reference tables of strings and objects are not needed to find its end. The table of traits
/// is: an object that refers to traits does not repeat the number of its members.
struct Amf3Skip<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    traits: Vec<Amf3Traits>,
}

/// Layout of the members of an AMF3 object (AMF3, section 3.12).
#[derive(Clone, Copy)]
struct Amf3Traits {
    sealed_count: u32,
    is_dynamic: bool,
}

impl Amf3Skip<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<(), Error> {
        self.decoder.count_value()?;
        match self.decoder.u8("an AMF3 marker")? {
            // Undefined, null, false and true have no bytes after the marker.
            0x00..=0x03 => {}
            0x04 => _ = self.u29()?,
            0x05 => _ = self.decoder.f64("an AMF3 double")?,
            // String, XML document, XML and byte array.
            0x06 | 0x07 | 0x0b | 0x0c => _ = self.text()?,
            0x08 => {
                if !is_reference(self.u29()?) {
                    self.decoder.f64("an AMF3 date")?;
                }
            }
            0x09 => self.array(deeper(depth)?)?,
            0x0a => self.object(deeper(depth)?)?,
            other => return Err(Error::Amf3Marker(other)),
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Error> {
        let head = self.u29()?;
        if is_reference(head) {
            return Ok(());
        }
        self.named_values(depth)?;
        let dense_count = head >> 1;
        self.values(dense_count, depth)
    }

    fn object(&mut self, depth: usize) -> Result<(), Error> {
        let head = self.u29()?;
        if is_reference(head) {
            return Ok(());
        }
        let traits = self.traits(head)?;
        self.values(traits.sealed_count, depth)?;
        if traits.is_dynamic { self.named_values(depth) } else { Ok(()) }
    }

    /// Reads the traits of an object. The low bits of the head are 01 for a reference to the table,
    /// 011 for traits that follow, and 111 for a format that only the class knows (AMF3, section
    /// 3.12).
    fn traits(&mut self, head: u32) -> Result<Amf3Traits, Error> {
        if head & 0b10 == 0 {
            let index = head >> 2;
            let known = self.traits.get(index as usize);
            return known.copied().ok_or(Error::Amf3Traits { index });
        }
        if head & 0b100 != 0 {
            return Err(Error::Amf3Externalizable);
        }
        let traits = Amf3Traits { sealed_count: head >> 4, is_dynamic: head & 0b1000 != 0 };
        self.decoder.check_count(traits.sealed_count)?;
        let _class = self.text()?;
        for _ in 0..traits.sealed_count {
            self.text()?;
        }
        self.traits.push(traits);
        Ok(traits)
    }

    fn values(&mut self, count: u32, depth: usize) -> Result<(), Error> {
        self.decoder.check_count(count)?;
        for _ in 0..count {
            self.value(depth)?;
        }
        Ok(())
    }

    /// Skips names and values up to the empty name, which is never sent as a reference.
    fn named_values(&mut self, depth: usize) -> Result<(), Error> {
        while self.text()? != Amf3Text::Empty {
            self.value(depth)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<Amf3Text, Error> {
        let head = self.u29()?;
        if is_reference(head) {
            return Ok(Amf3Text::Other);
        }
        let text = self.decoder.take((head >> 1) as usize, "an AMF3 string")?;
        Ok(if text.is_empty() { Amf3Text::Empty } else { Amf3Text::Other })
    }

    /// Reads a U29 (AMF3, section 1.3.1). Up to three bytes hold seven bits each, and their high
    /// bit announces another byte. A fourth byte holds eight bits.
    fn u29(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..3 {
            let byte = self.decoder.u8("an AMF3 integer")?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let last = self.decoder.u8("an AMF3 integer")?;
        Ok(value << 8 | u32::from(last))
    }
}

#[derive(PartialEq, Eq)]
enum Amf3Text {
    Empty,
    Other,
}

/// Returns true if the head is an index of an earlier value rather than a value that follows (AMF3,
/// section 2.2).
const fn is_reference(head: u32) -> bool {
    head & 1 == 0
}

/// An error in an AMF value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The message ends within a value.
    Truncated {
        /// The part that is incomplete.
        what: &'static str,
        /// Length of the part (bytes).
        expected_bytes: usize,
        /// Bytes left in the message.
        remaining_bytes: usize,
    },
    /// A marker is reserved, unknown or out of place.
    Marker(u8),
    /// Values are nested too deep.
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// The message has too many values.
    TooManyValues {
        /// The bound.
        max: usize,
    },
    /// An array declares more elements than bytes follow.
    Count {
        /// The declared count.
        count: u32,
        /// Bytes left in the message.
        remaining_bytes: usize,
    },
    /// An AMF3 marker whose values cannot be skipped.
    Amf3Marker(u8),
    /// An AMF3 object refers to traits that were not sent.
    Amf3Traits {
        /// The index of the traits.
        index: u32,
    },
    /// An AMF3 object has a format that only its class knows.
    Amf3Externalizable,
}

impl Error {
    /// Returns true if the value may be valid and this decoder cannot skip it. The values before it
    /// should then be kept.
    pub const fn is_unsupported(&self) -> bool {
        matches!(self, Self::Amf3Marker(_) | Self::Amf3Externalizable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { what, expected_bytes, remaining_bytes } => {
                write!(f, "{what} needs {expected_bytes} bytes, {remaining_bytes} are left")
            }
            Self::Marker(marker) => write!(f, "unexpected AMF0 marker {marker:#04x}"),
            Self::TooDeep { max } => write!(f, "AMF values nested deeper than {max}"),
            Self::TooManyValues { max } => write!(f, "more than {max} AMF values in one message"),
            Self::Count { count, remaining_bytes } => {
                write!(f, "array of {count} elements in {remaining_bytes} bytes")
            }
            Self::Amf3Marker(marker) => write!(f, "unsupported AMF3 marker {marker:#04x}"),
            Self::Amf3Traits { index } => write!(f, "unknown AMF3 traits {index}"),
            Self::Amf3Externalizable => write!(f, "unsupported externalizable AMF3 object"),
        }
    }
}

impl std::error::Error for Error {}

/// An empty key and the object end marker (AMF0, section 2.11).
const OBJECT_END: [u8; 3] = [0x00, 0x00, marker::OBJECT_END];

/// Type markers (AMF0, section 2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML_DOCUMENT: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
    pub(super) const AVM_PLUS: u8 = 0x11;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<Value<'_>>, Error> {
        let mut decoder = Decoder::new(bytes);
        let mut values = Vec::new();
        while let Some(value) = decoder.next_value()? {
            values.push(value);
        }
        assert_eq!(decoder.remaining(), b"");
        Ok(values)
    }

    fn encode(value: &Value<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    fn property<'a>(key: &'a str, value: Value<'a>) -> Property<'a> {
        Property { key: key.as_bytes(), value }
    }

    /// Values and their bytes by the specification. Each is decoded and encoded.
    fn vectors() -> Vec<(Value<'static>, &'static [u8])> {
        let width = || vec![property("width", Value::Number(1.0))];
        vec![
            (Value::Number(4.0), b"\x00\x40\x10\0\0\0\0\0\0"),
            (Value::Number(f64::INFINITY), b"\x00\x7f\xf0\0\0\0\0\0\0"),
            (Value::Boolean(true), b"\x01\x01"),
            (Value::Boolean(false), b"\x01\x00"),
            (Value::String(b"live"), b"\x02\0\x04live"),
            (Value::String(b"\xff\xfe"), b"\x02\0\x02\xff\xfe"),
            (Value::String(b""), b"\x02\0\0"),
            (Value::Object(width()), b"\x03\0\x05width\x00\x3f\xf0\0\0\0\0\0\0\0\0\x09"),
            (Value::Object(vec![]), b"\x03\0\0\x09"),
            (Value::Object(vec![property("", Value::Null)]), b"\x03\0\0\x05\0\0\x09"),
            (Value::Null, b"\x05"),
            (Value::Undefined, b"\x06"),
            (Value::Reference(258), b"\x07\x01\x02"),
            (
                Value::EcmaArray(width()),
                b"\x08\0\0\0\x01\0\x05width\x00\x3f\xf0\0\0\0\0\0\0\0\0\x09",
            ),
            (
                Value::StrictArray(vec![Value::String(b"av01"), Value::Null]),
                b"\x0a\0\0\0\x02\x02\0\x04av01\x05",
            ),
            (Value::Date { unix_ms: 1.0, timezone: -2 }, b"\x0b\x3f\xf0\0\0\0\0\0\0\xff\xfe"),
            (Value::Unsupported, b"\x0d"),
            (Value::Xml(b"<a/>"), b"\x0f\0\0\0\x04<a/>"),
            (
                Value::TypedObject { class: b"C", properties: width() },
                b"\x10\0\x01C\0\x05width\x00\x3f\xf0\0\0\0\0\0\0\0\0\x09",
            ),
            (Value::Amf3(b"\x06\x07abc"), b"\x11\x06\x07abc"),
        ]
    }

    #[test]
    fn every_marker_is_read_and_written() {
        for (value, bytes) in vectors() {
            assert_eq!(decode(bytes), Ok(vec![value.clone()]), "{bytes:02x?}");
            assert_eq!(encode(&value), bytes, "{value:?}");
        }
    }

    #[test]
    fn values_of_a_message_follow_each_other() {
        let (values, bytes): (Vec<_>, Vec<_>) = vectors().into_iter().unzip();
        assert_eq!(decode(&bytes.concat()), Ok(values));
    }

    #[test]
    fn every_cut_is_an_error_that_consumes_nothing() {
        for (value, bytes) in vectors() {
            for length in 1..bytes.len() {
                let cut = &bytes[..length];
                let mut decoder = Decoder::new(cut);
                let read = decoder.next_value();
                if let Ok(Some(Value::EcmaArray(_))) = read {
                    continue;
                }
                assert!(
                    matches!(read, Err(Error::Truncated { .. } | Error::Count { .. })),
                    "{value:?} {cut:02x?}"
                );
                assert_eq!(decoder.remaining(), cut);
                assert_eq!(decoder.next_value(), read);
            }
        }
    }

    #[test]
    fn random_damage_never_panics() {
        let whole = vectors().iter().flat_map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap()
        };
        for _ in 0..20_000 {
            let mut bytes = whole[random(whole.len())..].to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            if let Ok(values) = decode(&bytes) {
                let written = values.iter().flat_map(encode).collect::<Vec<_>>();
                // NaN differs from itself, so the bytes are compared.
                let again = decode(&written).unwrap();
                assert_eq!(again.iter().flat_map(encode).collect::<Vec<_>>(), written);
            }
        }
    }

    #[test]
    fn markers_out_of_place_are_refused() {
        for marker in [0x04, 0x09, 0x0e, 0x12, 0x7f, 0xff] {
            assert_eq!(decode(&[marker, 0, 0, 0, 0]), Err(Error::Marker(marker)));
        }
    }

    #[test]
    fn am_01_ecma_array_count_is_a_hint() {
        let mut bytes = b"\x08\0\0\0\0".to_vec();
        for key in [b'a', b'b', b'c', b'd', b'e'] {
            bytes.extend_from_slice(&[0, 1, key, 0x05]);
        }
        bytes.extend_from_slice(&OBJECT_END);
        let values = decode(&bytes).unwrap();
        assert_eq!(values[0].properties().map(<[_]>::len), Some(5));
        assert_eq!(values[0].get("e"), Some(&Value::Null));
        assert_eq!(values[0].get("f"), None);
    }

    #[test]
    fn am_02_ecma_array_count_allocates_nothing() {
        let values = decode(b"\x08\xff\xff\xff\xff\0\x01a\x05\0\0\x09").unwrap();
        let Value::EcmaArray(properties) = &values[0] else { panic!("{values:?}") };
        assert_eq!(properties.len(), 1);
        assert!(properties.capacity() <= 4);
    }

    #[test]
    fn am_03_ecma_array_without_end_at_the_end_of_the_message() {
        assert_eq!(
            decode(b"\x08\0\0\0\x01\0\x01a\x05"),
            Ok(vec![Value::EcmaArray(vec![property("a", Value::Null)])])
        );
        assert!(decode(b"\x03\0\x01a\x05").is_err(), "an object needs its end");
    }

    #[test]
    fn am_04_strict_array_count_beyond_the_message() {
        for count in [3_u32, 0x7fff_ffff, u32::MAX] {
            let bytes = [&b"\x0a"[..], &count.to_be_bytes(), b"\x05\x05"].concat();
            assert_eq!(decode(&bytes), Err(Error::Count { count, remaining_bytes: 2 }));
        }
    }

    #[test]
    fn am_05_ten_thousand_nested_values() {
        let nests: [&[u8]; 5] = [
            b"\x03\0\x01a",
            b"\x08\0\0\0\0\0\x01a",
            b"\x0a\0\0\0\x01",
            b"\x10\0\0\0\x01a",
            b"\x11\x09\x03\x01",
        ];
        for nest in nests {
            assert_eq!(
                decode(&nest.repeat(10_000)),
                Err(if nest[0] == 0x11 {
                    // AMF3 follows the first array, and 0x11 is a dictionary there.
                    Error::Amf3Marker(0x11)
                } else {
                    Error::TooDeep { max: AMF_DEPTH_MAX }
                }),
                "{nest:02x?}"
            );
        }
        let amf3 = [&b"\x11"[..], &b"\x09\x03\x01".repeat(10_000)].concat();
        assert_eq!(decode(&amf3), Err(Error::TooDeep { max: AMF_DEPTH_MAX }));
    }

    #[test]
    fn depth_is_the_same_for_reader_and_writer() {
        let nested = |depth: usize| {
            (0..depth).fold(Value::Null, |inner, _| Value::Object(vec![property("a", inner)]))
        };
        let deepest = nested(AMF_DEPTH_MAX);
        assert_eq!(decode(&encode(&deepest)), Ok(vec![deepest.clone()]));
        assert_eq!(encode(&nested(AMF_DEPTH_MAX + 1)), encode(&deepest), "cut to null");
        assert_eq!(encode(&nested(10_000)), encode(&deepest));

        let mut out = Vec::new();
        put_object(&mut out, &[("a", nested(AMF_DEPTH_MAX))]);
        assert_eq!(out, encode(&deepest));
    }

    #[test]
    fn values_are_counted_over_the_whole_message() {
        assert_eq!(decode(&[0x05; AMF_NODES_MAX]).map(|values| values.len()), Ok(AMF_NODES_MAX));
        let too_many = Err(Error::TooManyValues { max: AMF_NODES_MAX });
        assert_eq!(decode(&[0x05; AMF_NODES_MAX + 1]), too_many);
        let array = [b"\x0a\0\0\x10\0".to_vec(), vec![0x05; 4096]].concat();
        assert_eq!(decode(&array), too_many);
        let amf3 = [b"\x11\x09\xc0\x01\x01".to_vec(), vec![0x01; 8192]].concat();
        assert_eq!(decode(&amf3), too_many);
    }

    #[test]
    fn am_06_long_string_of_70_000_bytes() {
        let text = vec![b'x'; 70_000];
        let bytes = [b"\x0c\x00\x01\x11\x70".to_vec(), text.clone()].concat();
        assert_eq!(decode(&bytes), Ok(vec![Value::String(&text)]));
        assert_eq!(encode(&Value::String(&text)), bytes);
        for (length, marker) in [(65_535, 0x02), (65_536, 0x0c)] {
            assert_eq!(encode(&Value::String(&text[..length]))[0], marker);
        }
    }

    #[test]
    fn am_07_string_length_beyond_the_message() {
        let cases: [(&[u8], usize, usize); 4] = [
            (b"\x02\xff\xffabc", 65_535, 3),
            (b"\x0c\xff\xff\xff\xffabc", 0xffff_ffff, 3),
            (b"\x0f\0\0\0\x04abc", 4, 3),
            (b"\x03\0\x04abc", 4, 3),
        ];
        for (bytes, expected, remaining) in cases {
            let error = decode(bytes).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { expected_bytes, remaining_bytes, .. }
                    if (expected_bytes, remaining_bytes) == (expected, remaining)),
                "{error}"
            );
        }
    }

    #[test]
    fn am_10_rare_markers_leave_the_rest_intact() {
        let bytes = [
            &b"\x08\0\0\0\0"[..],
            b"\0\x01r\x07\0\0",
            b"\0\x01d\x0b\x42\x77\0\0\0\0\0\0\0\0",
            b"\0\x01t\x10\0\x01C\0\x01a\x05\0\0\x09",
            b"\0\x01x\x0f\0\0\0\x01<",
            b"\0\x01u\x06",
            b"\0\x05width\0\x40\x94\0\0\0\0\0\0",
            b"\0\0\x09",
        ]
        .concat();
        let values = decode(&bytes).unwrap();
        assert_eq!(values[0].properties().map(<[_]>::len), Some(6));
        assert_eq!(values[0].get("width").and_then(Value::as_number), Some(1280.0));
    }

    #[test]
    fn am_13_amf3_values_are_stepped_over() {
        let values: [&[u8]; 19] = [
            b"\x00",
            b"\x01",
            b"\x02",
            b"\x03",
            b"\x04\x7f",
            b"\x04\xff\xff\xff\xff",
            b"\x05\x3f\xf0\0\0\0\0\0\0",
            b"\x06\x07abc",
            b"\x06\x00",
            b"\x07\x09<a/>",
            b"\x08\x01\x3f\xf0\0\0\0\0\0\0",
            b"\x08\x02",
            b"\x09\x05\x01\x04\x01\x03",
            b"\x09\x03\x03k\x01\x01\x02",
            // An anonymous dynamic object with one member.
            b"\x0a\x0b\x01\x03a\x04\x01\x01",
            // Two sealed members; then an object that shares the traits, inside an array.
            b"\x09\x05\x01\x0a\x23\x03C\x03a\x03b\x01\x02\x0a\x01\x03\x03",
            b"\x0a\x02",
            b"\x0b\x03x",
            b"\x0c\x05\x00\xff",
        ];
        for value in values {
            let bytes = [b"\x11", value, b"\x02\0\x01k"].concat();
            assert_eq!(
                decode(&bytes),
                Ok(vec![Value::Amf3(value), Value::String(b"k")]),
                "{value:02x?}"
            );
        }
    }

    #[test]
    fn amf3_that_cannot_be_stepped_over_keeps_what_was_read() {
        let cases: [(&[u8], Error); 4] = [
            (b"\x0d\x01\x00", Error::Amf3Marker(0x0d)),
            (b"\x11\x01\x00", Error::Amf3Marker(0x11)),
            (b"\x0a\x07\x03C\x01", Error::Amf3Externalizable),
            (b"\x0a\x05", Error::Amf3Traits { index: 1 }),
        ];
        for (value, error) in cases {
            let bytes = [b"\x02\0\x01k\x11", value].concat();
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(decoder.next_value(), Ok(Some(Value::String(b"k"))));
            assert_eq!(decoder.next_value(), Err(error));
            assert_eq!(decoder.remaining(), &bytes[4..]);
        }
    }

    #[test]
    fn amf3_counts_beyond_the_message_are_refused() {
        for value in [&b"\x11\x09\xff\xff\xff\xff\x01"[..], b"\x11\x0a\xff\xff\xff\xf3\x01"] {
            assert!(matches!(decode(value), Err(Error::Count { .. })), "{value:02x?}");
        }
    }

    #[test]
    fn ecma_array_is_written_with_its_count() {
        let mut out = Vec::new();
        put_ecma_array(&mut out, &[("a", Value::Null), ("b", Value::Boolean(true))]);
        assert_eq!(out, b"\x08\0\0\0\x02\0\x01a\x05\0\x01b\x01\x01\0\0\x09");
    }

    #[test]
    fn errors_read_as_one_line() {
        let cases = [
            (decode(b"\x02\0\x05abc"), "a string needs 5 bytes, 3 are left"),
            (decode(b"\x04"), "unexpected AMF0 marker 0x04"),
            (decode(b"\x0a\0\0\0\x09"), "array of 9 elements in 0 bytes"),
            (decode(b"\x11\x0d"), "unsupported AMF3 marker 0x0d"),
        ];
        for (result, line) in cases {
            assert_eq!(result.unwrap_err().to_string(), line);
        }
    }
}
