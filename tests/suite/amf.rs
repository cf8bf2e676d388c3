//! AMF values where the server decides what becomes of them: rows AM of the conformance table.

use tiderace::config::Settings;
use tiderace::rtmp::quirks::Quirk;
use tiderace::server::reason::CloseReason;

use crate::wire::{
    self, COMMAND, COMMAND_AMF3, DATA, DATA_AMF3, Message, ecma_array, hex, null, number, object,
    string,
};
use crate::world::{ClientHandle, World};

/// What a player gets of the data messages of a publisher, which lives on.
fn relayed(messages: &[Message]) -> Vec<Vec<u8>> {
    let mut settings = Settings::default();
    settings.limits.data_bytes_max = 1 << 20;
    let mut world = World::new(settings);
    let player = world.playing("cam");
    let publisher = world.publishing("cam");
    world.say(publisher, messages);
    world.assert_lives(publisher);
    world[player].media().iter().map(|message| message.payload.clone()).collect()
}

fn data(values: &[Vec<u8>]) -> Message {
    Message::new(4, DATA, values.concat()).on(1)
}

/// `@setDataFrame` with metadata as these bytes.
fn metadata(value: Vec<u8>) -> Message {
    data(&[string("@setDataFrame"), string("onMetaData"), value])
}

/// The payload that players get for metadata with these properties.
fn on_metadata(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let count = u32::try_from(properties.len()).unwrap();
    [string("onMetaData"), ecma_array(count, properties)].concat()
}

/// A connection that sends this as its connect.
fn connecting(world: &mut World, connect: Message) -> ClientHandle {
    let client = world.handshaken();
    world.say(client, &[connect]);
    client
}

#[test]
fn am_01_to_am_03_the_count_and_the_end_of_an_array_are_not_relied_on() {
    let five = ["a", "b", "c", "d", "e"].map(|name| (name, number(1.0)));
    let one = [("width", number(160.0))];
    let mut without_end = ecma_array(1, &one);
    without_end.truncate(without_end.len() - 3);
    let payloads = relayed(&[
        metadata(ecma_array(0, &five)),
        metadata(ecma_array(0xffff_ffff, &one)),
        metadata(without_end),
    ]);
    assert_eq!(payloads, [on_metadata(&five), on_metadata(&one), on_metadata(&one)]);
}

#[test]
fn am_04_a_strict_array_longer_than_the_message_is_dropped() {
    assert!(relayed(&[metadata(hex("0a 7fffffff 05"))]).is_empty());
}

#[test]
fn am_05_ten_thousand_nested_objects_are_dropped() {
    let deep = hex("03 0001 61").repeat(10_000);
    assert!(relayed(&[metadata(deep.clone())]).is_empty());
    let mut world = World::new(Settings::default());
    let client = world.connected();
    world.say(client, &[wire::command("call", 3.0, &[deep])]);
    let tolerated = world.conn(client).unwrap().peer.session().unwrap().tolerated();
    assert_eq!(tolerated.count(Quirk::MalformedMessage), 1);
    world.assert_lives(client);
}

#[test]
fn am_06_a_long_string_of_70_000_bytes_is_relayed() {
    let long = [hex("0c 00011170"), vec![b'x'; 70_000]].concat();
    let payloads = relayed(&[metadata(ecma_array(1, &[("xmp", long.clone())]))]);
    assert_eq!(payloads, [on_metadata(&[("xmp", long)])]);
}

#[test]
fn am_07_a_string_longer_than_its_message_is_ignored_but_not_in_connect() {
    let cut = hex("02 00ff 6162");
    assert!(relayed(&[metadata(cut.clone()), data(std::slice::from_ref(&cut))]).is_empty());
    let mut world = World::new(Settings::default());
    let client = world.connected();
    world.say(client, &[wire::command("publish", 0.0, &[null(), cut.clone()])]);
    assert!(world.server.hub().is_empty());
    world.assert_lives(client);
    let client = connecting(&mut world, wire::command("connect", 1.0, &[cut]));
    assert!(world[client].is_closed());
    assert_eq!(world.closed(CloseReason::BadCommand), 1);
}

#[test]
fn am_08_connect_may_be_an_array() {
    let mut world = World::new(Settings::default());
    let array = ecma_array(0, &[("app", string("live"))]);
    let client = connecting(&mut world, wire::command("connect", 1.0, &[array]));
    assert_eq!(world[client].answers(), ["_result 1"]);
}

#[test]
fn am_09_names_that_are_not_utf_8_are_refused() {
    let mut world = World::new(Settings::default());
    let client = connecting(&mut world, wire::connect(b"li\xff"));
    assert!(world[client].was_told("NetConnection.Connect.InvalidApp"));
    world.advance_ms(1_000);
    assert_eq!(world.closed(CloseReason::BadName), 1);
    let client = world.connected();
    world.say(client, &[wire::create_stream(2.0), wire::publish(b"\xff\xfe")]);
    assert!(world[client].was_told("NetStream.Publish.BadName"));
    assert!(world.server.hub().is_empty());
}

#[test]
fn am_10_rare_values_in_metadata_leave_the_rest_intact() {
    let rare = [
        ("reference", hex("07 0001")),
        ("date", hex("0b 4274000000000000 0000")),
        ("typed", [hex("10 0001 43"), hex("0001 61 05 000009")].concat()),
        ("xml", hex("0f 00000002 3c3e")),
        ("undefined", hex("06")),
        ("width", number(160.0)),
    ];
    let payloads = relayed(&[metadata(ecma_array(6, &rare))]);
    assert_eq!(payloads.len(), 1);
    let width = [hex("0005"), b"width".to_vec(), number(160.0)].concat();
    assert!(payloads[0].windows(width.len()).any(|window| window == width));
}

#[test]
fn am_11_and_am_14_amf3_commands_are_answered_as_amf0_with_or_without_the_format_byte() {
    let connect = object(&[("app", string("live")), ("objectEncoding", number(3.0))]);
    let body = wire::command("connect", 1.0, &[connect]).payload;
    for format in [&[0][..], &[]] {
        let mut world = World::new(Settings::default());
        let payload = [format, &body].concat();
        let client = connecting(&mut world, Message::new(3, COMMAND_AMF3, payload));
        assert_eq!(world[client].answers(), ["_result 1"]);
        let result = world[client].of_kind(COMMAND)[0].payload.clone();
        let encoding = [&b"objectEncoding"[..], &number(3.0)].concat();
        assert!(result.windows(encoding.len()).any(|window| window == encoding));
    }
}

#[test]
fn am_12_amf3_data_messages_are_relayed_as_amf0() {
    let properties = [("width", number(160.0))];
    let body = metadata(ecma_array(1, &properties)).payload;
    let message = Message::new(4, DATA_AMF3, [&[0][..], &body].concat()).on(1);
    assert_eq!(relayed(&[message]), [on_metadata(&properties)]);
}

#[test]
fn am_13_an_amf3_value_among_the_arguments_is_stepped_over() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    // An object without class and members in place of the command object.
    let amf3 = hex("11 0a 0b 01 01");
    let publish = wire::command("publish", 0.0, &[amf3, string("cam"), string("live")]).on(1);
    world.say(client, &[wire::create_stream(2.0), publish]);
    assert!(world[client].was_told("NetStream.Publish.Start"));
    assert!(world.server.hub().find("live/cam").is_some());
}

#[test]
fn am_15_numbers_out_of_range_do_no_harm() {
    for value in [f64::NAN, 1e300, -1e300, f64::INFINITY, -1.0] {
        let mut world = World::new(Settings::default());
        let client = world.connected();
        world.say(client, &[wire::create_stream(value)]);
        let result = world[client].of_kind(COMMAND)[0].payload.clone();
        assert_eq!(result[10..19], number(value), "the transaction id is echoed");
        world.say(client, &[wire::publish("cam")]);
        world.say(client, &[wire::command("seek", value, &[null(), number(value)]).on(1)]);
        // A number that names no stream means the only one, as a key in its place does.
        world.say(client, &[wire::command("deleteStream", value, &[null(), number(value)])]);
        assert!(world.server.hub().is_empty(), "{value}");
        world.assert_lives(client);
    }
}
