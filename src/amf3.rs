//! Decoder of AMF3 objects. It returns their properties as AMF0 values.
//!
//! Owns the reference tables of strings and traits (AMF3, section 2.2), which are valid within one
//! value. References to earlier objects, byte arrays, XML and dates become null, because stream
//! metadata does not contain them. The bounds on depth and number of values are those of AMF0.
//! Strings sent as an index may expand to at most the length of the input, so a small message
//! cannot expand without limit.

use crate::amf0::{Property, Value};
use crate::limits::{AMF_DEPTH_MAX, AMF_NODES_MAX};

// Type markers (AMF3, section 3.1).
const UNDEFINED_MARKER: u8 = 0x00;
const NULL_MARKER: u8 = 0x01;
const FALSE_MARKER: u8 = 0x02;
const TRUE_MARKER: u8 = 0x03;
const INTEGER_MARKER: u8 = 0x04;
const DOUBLE_MARKER: u8 = 0x05;
const STRING_MARKER: u8 = 0x06;
const XML_DOC_MARKER: u8 = 0x07;
const DATE_MARKER: u8 = 0x08;
const ARRAY_MARKER: u8 = 0x09;
const OBJECT_MARKER: u8 = 0x0a;
const XML_MARKER: u8 = 0x0b;
const BYTE_ARRAY_MARKER: u8 = 0x0c;

/// Bit in the head of a string, an array or an object. It is set if the value follows, and clear in
/// an index of an earlier value (AMF3, sections 1.3.2 and 2.2). The bits above hold the number.
const IS_WRITTEN_OUT: u32 = 1;
const WRITTEN_OUT_SHIFT: u32 = 1;
/// Bit in the head of an object. It is set if the traits follow (AMF3, section 3.12).
const HAS_TRAITS: u32 = 1 << 1;
/// Position of the index of earlier traits.
const TRAITS_INDEX_SHIFT: u32 = 2;
/// Bit in the head of an object. It is set if only the class knows the format.
const IS_EXTERNALIZABLE: u32 = 1 << 2;
/// Bit in the head of an object. It is set if named members follow the sealed ones.
const IS_DYNAMIC: u32 = 1 << 3;
/// Position of the number of sealed members.
const SEALED_COUNT_SHIFT: u32 = 4;

/// Bit in the first three bytes of a U29. It is set if another byte follows (AMF3, section 1.3.1).
const U29_CONTINUES: u8 = 0x80;
/// Number of value bits in each of those bytes. The fourth byte has eight.
const U29_BITS: u32 = 7;
/// Number of bytes of a U29 with seven value bits.
const U29_SHORT_BYTES: usize = 3;

/// Returns the properties of the object or associative array at the start of `bytes`. Returns
/// `None` for other types and for malformed values.
pub fn properties(bytes: &[u8]) -> Option<Vec<Property<'_>>> {
    let mut reader = Reader {
        rest: bytes,
        strings: Vec::new(),
        traits: Vec::new(),
        values_left: AMF_NODES_MAX,
        repeated_bytes_left: bytes.len(),
    };
    match reader.value(0)? {
        Value::Object(properties) | Value::EcmaArray(properties) => Some(properties),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    strings: Vec<&'a [u8]>,
    traits: Vec<Traits<'a>>,
    values_left: usize,
    /// Bytes that strings sent as an index may still expand to.
    repeated_bytes_left: usize,
}

/// Layout of the members of an object (AMF3, section 3.12).
#[derive(Clone)]
struct Traits<'a> {
    sealed: Vec<&'a [u8]>,
    is_dynamic: bool,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.values_left = self.values_left.checked_sub(1)?;
        if depth > AMF_DEPTH_MAX {
            return None;
        }
        Some(match self.u8()? {
            UNDEFINED_MARKER => Value::Undefined,
            NULL_MARKER => Value::Null,
            FALSE_MARKER => Value::Boolean(false),
            TRUE_MARKER => Value::Boolean(true),
            INTEGER_MARKER => Value::Number(f64::from(signed(self.u29()?))),
            DOUBLE_MARKER => Value::Number(self.f64()?),
            STRING_MARKER => Value::String(self.string()?),
            XML_DOC_MARKER | XML_MARKER | BYTE_ARRAY_MARKER => {
                let head = self.u29()?;
                if head & IS_WRITTEN_OUT != 0 {
                    self.take((head >> WRITTEN_OUT_SHIFT) as usize)?;
                }
                Value::Null
            }
            DATE_MARKER => {
                if self.u29()? & IS_WRITTEN_OUT != 0 {
                    self.f64()?;
                }
                Value::Null
            }
            ARRAY_MARKER => self.array(depth)?,
            OBJECT_MARKER => self.object(depth)?,
            _ => return None,
        })
    }

    fn array(&mut self, depth: usize) -> Option<Value<'a>> {
        let head = self.u29()?;
        if head & IS_WRITTEN_OUT == 0 {
            return Some(Value::Null);
        }
        let mut named = Vec::new();
        self.named_values(depth, &mut named)?;
        let mut dense = Vec::new();
        for _ in 0..head >> WRITTEN_OUT_SHIFT {
            dense.push(self.value(depth + 1)?);
        }
        Some(if named.is_empty() { Value::StrictArray(dense) } else { Value::EcmaArray(named) })
    }

    fn object(&mut self, depth: usize) -> Option<Value<'a>> {
        let head = self.u29()?;
        if head & IS_WRITTEN_OUT == 0 {
            return Some(Value::Null);
        }
        let traits = self.traits(head)?;
        let mut properties = Vec::new();
        for key in traits.sealed {
            properties.push(Property { key, value: self.value(depth + 1)? });
        }
        if traits.is_dynamic {
            self.named_values(depth, &mut properties)?;
        }
        Some(Value::Object(properties))
    }

    /// Reads the traits of an object. The low bits of the head tell whether the traits are in the
    /// table, follow, or have a format that only the class knows (AMF3, section 3.12).
    fn traits(&mut self, head: u32) -> Option<Traits<'a>> {
        if head & HAS_TRAITS == 0 {
            let traits = self.traits.get((head >> TRAITS_INDEX_SHIFT) as usize)?.clone();
            let names: usize = traits.sealed.iter().map(|name| name.len()).sum();
            self.repeated_bytes_left = self.repeated_bytes_left.checked_sub(names)?;
            return Some(traits);
        }
        if head & IS_EXTERNALIZABLE != 0 {
            return None;
        }
        let _class = self.string()?;
        let mut sealed = Vec::new();
        for _ in 0..head >> SEALED_COUNT_SHIFT {
            self.values_left = self.values_left.checked_sub(1)?;
            sealed.push(self.string()?);
        }
        let traits = Traits { sealed, is_dynamic: head & IS_DYNAMIC != 0 };
        self.traits.push(traits.clone());
        Some(traits)
    }

    /// Reads names and values up to the empty name.
    fn named_values(&mut self, depth: usize, properties: &mut Vec<Property<'a>>) -> Option<()> {
        loop {
            let key = self.string()?;
            if key.is_empty() {
                return Some(());
            }
            properties.push(Property { key, value: self.value(depth + 1)? });
        }
    }

    /// Reads a string, or the index of an earlier one. The empty string is never sent as an index,
    /// so it does not enter the table (AMF3, section 1.3.2).
    fn string(&mut self) -> Option<&'a [u8]> {
        let head = self.u29()?;
        if head & IS_WRITTEN_OUT == 0 {
            let string = *self.strings.get((head >> WRITTEN_OUT_SHIFT) as usize)?;
            self.repeated_bytes_left = self.repeated_bytes_left.checked_sub(string.len())?;
            return Some(string);
        }
        let string = self.take((head >> WRITTEN_OUT_SHIFT) as usize)?;
        if !string.is_empty() {
            self.strings.push(string);
        }
        Some(string)
    }

    /// Reads a U29 (AMF3, section 1.3.1). Up to three bytes hold seven bits each, and their high
    /// bit announces another byte. A fourth byte holds eight bits.
    fn u29(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..U29_SHORT_BYTES {
            let byte = self.u8()?;
            value = value << U29_BITS | u32::from(byte & !U29_CONTINUES);
            if byte & U29_CONTINUES == 0 {
                return Some(value);
            }
        }
        Some(value << u8::BITS | u32::from(self.u8()?))
    }

    fn f64(&mut self) -> Option<f64> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(f64::from_be_bytes(*head))
    }

    fn u8(&mut self) -> Option<u8> {
        let (head, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*head)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Converts a U29 to a signed number in 29-bit two's complement (AMF3, section 3.6).
const fn signed(value: u32) -> i32 {
    const UNUSED_BITS: u32 = u32::BITS - 29;
    (value << UNUSED_BITS).cast_signed() >> UNUSED_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Random, hex};

    #[track_caller]
    fn check(bytes: &str, expected: &[(&str, Value<'_>)]) {
        let bytes = hex(bytes);
        let read = properties(&bytes).expect("an object");
        let read: Vec<_> = read.iter().map(|p| (p.key, p.value.clone())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(key, value)| (key.as_bytes(), value.clone())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_dynamic_object_has_names_and_values() {
        check(
            "0a0b01 0361 0405 0362 04ffffffff 0363 05 4039000000000000 0364 0605 6869 0365 03 01",
            &[
                ("a", Value::Number(5.0)),
                ("b", Value::Number(-1.0)),
                ("c", Value::Number(25.0)),
                ("d", Value::String(b"hi")),
                ("e", Value::Boolean(true)),
            ],
        );
    }

    #[test]
    fn an_associative_array_is_an_object_and_strings_may_be_sent_as_indices() {
        check(
            "0901 0361 0600 0362 0600 01",
            &[("a", Value::String(b"a")), ("b", Value::String(b"a"))],
        );
    }

    #[test]
    fn sealed_members_come_before_dynamic_ones_and_traits_may_be_sent_as_an_index() {
        let inner = Value::Object(vec![Property { key: b"a", value: Value::Null }]);
        check("0a1b 0343 0361 0a01 01 01 0362 0401 01", &[("a", inner), ("b", Value::Number(1.0))]);
    }

    #[test]
    fn what_is_no_object_has_no_properties_and_nothing_makes_the_reader_panic_or_hang() {
        for bytes in ["", "01", "0403", "0a", "0a00", "0a07 01", "0903 01 01", "0a0b01 0361"] {
            assert_eq!(properties(&hex(bytes)), None, "{bytes}");
        }
        // Repetitions of a string that exceed the length of the value, as a value and as a name.
        let text = format!("0a0b01 8101{}", "61".repeat(64));
        assert!(properties(&hex(&format!("{text} 0600 01"))).is_some());
        assert_eq!(properties(&hex(&format!("{text} 0600 00 0600 01"))), None);
        // Nested objects.
        let deep = format!("0a0b01 0361 {}", "0a01 0361".repeat(100));
        assert_eq!(properties(&hex(&deep)), None);
        let mut random = Random::new(3);
        for _ in 0..20_000 {
            let bytes: Vec<_> = (0..random.below(40))
                .map(|_| [0x0a, 0x0b, 1, 3, random.below(256) as u8][random.below(5)])
                .collect();
            let _ = properties(&bytes);
        }
    }
}
