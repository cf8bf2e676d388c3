//! Tests of reading and merging metadata.

use super::*;
use crate::rtmp::message::kind;
use crate::test_support::{hex, recorded_messages};

/// `onMetaData` with an ECMA array that only has a width, as players get it.
const WIDTH_FOR_PLAYERS: &str = concat!(
    "02 000a 6f6e4d65746144617461",
    "08 00000001 0005 7769647468 00 4064000000000000 000009",
);

#[test]
fn da_01_set_data_frame_becomes_on_metadata_without_the_command() {
    let published = concat!(
        "02 000d 407365744461746146 72616d65",
        "02 000a 6f6e4d65746144617461",
        // The count is only a hint; it is 99.
        "08 00000063",
        "0008 6475726174696f6e 00 0000000000000000",
        "0005 7769647468 00 4064000000000000",
        "0008 66696c6553697a65 00 0000000000000000",
        "000009",
    );
    assert_eq!(interpret(&hex(published)), as_metadata(WIDTH_FOR_PLAYERS));
}

#[test]
fn da_01_an_object_becomes_an_ecma_array() {
    let published = concat!(
        "02 000d 407365744461746146 72616d65",
        "02 000a 6f6e4d65746144617461",
        "03 0005 7769647468 00 4064000000000000",
        "0008 66696c6573697a65 00 0000000000000000",
        "000009",
    );
    assert_eq!(interpret(&hex(published)), as_metadata(WIDTH_FOR_PLAYERS));
}

#[test]
fn da_01_recorded_metadata_keeps_all_but_what_is_true_of_a_file() {
    for (session, properties) in [
        ("ffmpeg5_publish_h264_aac", 11),
        ("ffmpeg9_publish_opus_only", 6),
        ("gst_rtmp2sink_publish", 10),
        ("obs29_publish", 18),
    ] {
        let messages = recorded_messages(&format!("{session}.client.bin"));
        let (_, payload) =
            messages.iter().find(|(header, _)| header.kind == kind::DATA_AMF0).unwrap();
        let Ok(DataMessage::Metadata(relayed)) = interpret(payload) else {
            panic!("{session}: no metadata");
        };
        let mut decoder = Decoder::new(&relayed);
        assert_eq!(decoder.next_value(), Ok(Some(Value::String(b"onMetaData"))));
        let Ok(Some(Value::EcmaArray(kept))) = decoder.next_value() else {
            panic!("{session}: no ECMA array");
        };
        assert_eq!(kept.len(), properties, "{session}");
        assert!(decoder.remaining().is_empty());
    }
}

#[test]
fn da_02_on_metadata_without_set_data_frame_is_metadata() {
    assert_eq!(interpret(&hex(WIDTH_FOR_PLAYERS)), as_metadata(WIDTH_FOR_PLAYERS));
}

#[test]
fn da_02_amf3_message_with_and_without_its_format_byte() {
    let with_format = format!("00 {WIDTH_FOR_PLAYERS}");
    assert_eq!(interpret_amf3(&hex(&with_format)), as_metadata(WIDTH_FOR_PLAYERS));
    assert_eq!(interpret_amf3(&hex(WIDTH_FOR_PLAYERS)), as_metadata(WIDTH_FOR_PLAYERS));
}

#[test]
fn da_02_a_property_without_a_name_is_left_out() {
    let published = concat!(
        "02 000a 6f6e4d65746144617461",
        "08 00000002 0000 00 4064000000000000 0005 7769647468 00 4064000000000000 000009",
    );
    assert_eq!(interpret(&hex(published)), as_metadata(WIDTH_FOR_PLAYERS));
}

#[test]
fn da_02_nested_values_are_kept() {
    let nested = concat!(
        "02 000a 6f6e4d65746144617461",
        "08 00000002",
        "0001 61 03 0008 6475726174696f6e 05 000009",
        "0001 62 0a 00000002 01 01 06",
        "000009",
    );
    assert_eq!(interpret(&hex(nested)), as_metadata(nested));
}

#[test]
fn metadata_is_found_behind_values_that_mean_nothing() {
    const SET: &str = "02 000d 407365744461746146 72616d65";
    const NAME: &str = "02 000a 6f6e4d65746144617461";
    const WIDTH: &str = "03 0005 7769647468 00 4064000000000000 000009";
    const NUMBER: &str = "00 0000000000000000";
    for published in [
        format!("{NUMBER} {SET} {NAME} {WIDTH}"),
        format!("05 {SET} {NAME} {WIDTH}"),
        format!("{NUMBER} 05 06 0100 {SET} {NAME} {WIDTH}"),
        format!("{SET} {NUMBER} 05 {NAME} {WIDTH}"),
        format!("{SET} {NAME} {NUMBER} 05 {WIDTH}"),
        format!("{NUMBER} {NAME} {WIDTH}"),
        // Without a name.
        format!("{SET} {WIDTH}"),
        WIDTH.to_owned(),
        format!("{NUMBER} {WIDTH}"),
        // AMF3 objects with named members, and with the traits of a class.
        format!("{SET} {NAME} 11 0a0b01 0b7769647468 05 4064000000000000 01"),
        format!("{SET} {NAME} 11 0a13 01 0b7769647468 04 8120"),
    ] {
        assert_eq!(interpret(&hex(&published)), as_metadata(WIDTH_FOR_PLAYERS), "{published}");
    }
    let text = "02 000a 6f6e5465787444617461 03 0004 74657874 02 0002 6869 000009";
    let published = hex(&format!("{NUMBER} {text}"));
    assert_eq!(interpret(&published), Ok(DataMessage::Relay(&hex(text))));
    let values = format!("{} {SET} {NAME} {WIDTH}", "05".repeat(LEADING_VALUES_MAX + 1));
    assert_eq!(interpret(&hex(&values)), Ok(DataMessage::Unusable), "one too many");
}

#[test]
fn da_04_what_only_a_server_says_is_ignored() {
    for payload in [
        // |RtmpSampleAccess and onStatus.
        "02 0011 7c52746d7053616d706c65416363657373 01 01 01 01",
        "02 0008 6f6e537461747573 03 000009",
    ] {
        assert_eq!(interpret(&hex(payload)), Ok(DataMessage::Ignore), "{payload}");
    }
}

#[test]
fn da_04_what_is_no_metadata_is_of_no_use() {
    for payload in [
        "",
        "03 000161 05 000009",
        "02 000d 407365744461746146 72616d65",
        "02 000d 407365744461746146 72616d65 05",
        "02 000d 407365744461746146 72616d65 02 000a 6f6e4d65746144617461",
        "02 000d 407365744461746146 72616d65 02 000a 6f6e4d65746144617461 05",
        "02 000a 6f6e4d65746144617461 0a 00000000",
        "05",
        "00 3ff0000000000000",
    ] {
        assert_eq!(interpret(&hex(payload)), Ok(DataMessage::Unusable), "{payload}");
    }
}

#[test]
fn da_04_amf_that_ends_early_is_an_error() {
    assert!(interpret(&hex("02 000d 4073")).is_err());
    assert!(interpret(&hex("02 000a 6f6e4d65746144617461 08 00000001 0005 77")).is_err());
}

#[test]
fn da_05_other_handlers_are_relayed_as_they_are() {
    let text = hex("02 000a 6f6e5465787444617461 03 0004 74657874 02 0002 6869 000009");
    assert_eq!(interpret(&text), Ok(DataMessage::Relay(&text)));

    let mut frame = hex("02 000d 407365744461746146 72616d65");
    let behind = frame.len();
    frame.extend(&text);
    assert_eq!(interpret(&frame), Ok(DataMessage::Relay(&frame[behind..])));
}

#[test]
fn clear_data_frame_takes_back_metadata_alone() {
    let clear = "02 000f 40636c656172446174614672616d65";
    let metadata = format!("{clear} 02 000a 6f6e4d65746144617461");
    assert_eq!(interpret(&hex(&metadata)), Ok(DataMessage::ClearMetadata));
    let other = format!("{clear} 02 0001 61");
    assert_eq!(interpret(&hex(&other)), Ok(DataMessage::Ignore));
    assert_eq!(interpret(&hex(clear)), Ok(DataMessage::Ignore));
}

#[test]
fn a_counted_nul_is_not_part_of_the_name() {
    let published = WIDTH_FOR_PLAYERS.replacen("000a", "000b", 1).replacen(
        "6f6e4d65746144617461",
        "6f6e4d6574614461746100",
        1,
    );
    assert_eq!(interpret(&hex(&published)), as_metadata(WIDTH_FOR_PLAYERS));
}

fn as_metadata(text: &str) -> Result<DataMessage<'static>, amf0::Error> {
    Ok(DataMessage::Metadata(hex(text)))
}
