//! AMF0 values. Each takes at least one byte, an error takes none, and values can be written and
//! read again. Work and memory follow the bound on values, not the declared lengths.

use allocation_counter::measure;
use tiderace::amf0::{Decoder, Property, Value};
use tiderace::limits::{AMF_DEPTH_MAX, AMF_NODES_MAX};

/// Bound on the memory for the values of one message while they are read. A list grows by doubling,
/// and its old half lives until it has been moved.
const PEAK_BYTES_MAX: usize = 3 * AMF_NODES_MAX * size_of::<Property<'_>>();

pub(crate) fn run(data: &[u8]) {
    let mut values = Vec::new();
    let cost = measure(|| values = read(data));
    assert!(cost.bytes_max <= PEAK_BYTES_MAX as u64, "{} bytes for values", cost.bytes_max);
    let count: usize = values.iter().map(nodes).sum();
    assert!(count <= AMF_NODES_MAX, "{count} values in one message");
    assert!(values.iter().all(|value| depth(value) <= AMF_DEPTH_MAX));

    let written = write(&values);
    let again = read(&written);
    assert_eq!(again.len(), values.len(), "written values are read again");
    // Compare bytes, because a NaN is not equal to itself.
    assert_eq!(write(&again), written);
}

/// Reads values up to the end or to the first invalid one.
fn read(bytes: &[u8]) -> Vec<Value<'_>> {
    let mut decoder = Decoder::new(bytes);
    let mut values = Vec::new();
    loop {
        let before = decoder.remaining().len();
        match decoder.next_value() {
            Ok(Some(value)) => {
                assert!(decoder.remaining().len() < before, "a value without a byte: {value:?}");
                values.push(value);
            }
            Ok(None) => {
                assert_eq!(before, 0, "the end before all was read");
                return values;
            }
            Err(error) => {
                assert_eq!(decoder.remaining().len(), before, "{error} took bytes");
                assert!(decoder.next_value().is_err(), "asked again");
                return values;
            }
        }
    }
}

fn write(values: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| value.encode(&mut out));
    out
}

/// Counts a value and all values inside it.
fn nodes(value: &Value<'_>) -> usize {
    1 + inside(value).map(nodes).sum::<usize>()
}

fn depth(value: &Value<'_>) -> usize {
    match value {
        Value::StrictArray(_) => 1 + inside(value).map(depth).max().unwrap_or_default(),
        _ if value.properties().is_some() => 1 + inside(value).map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn inside<'v, 'a>(value: &'v Value<'a>) -> Box<dyn Iterator<Item = &'v Value<'a>> + 'v> {
    match value {
        Value::StrictArray(values) => Box::new(values.iter()),
        _ => Box::new(value.properties().unwrap_or_default().iter().map(|pair| &pair.value)),
    }
}
