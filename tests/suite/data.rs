//! Data messages, aggregates and shared objects: rows DA, AG and SO of the conformance table.

use tiderace::config::Settings;

use crate::wire::{
    AGGREGATE, AUDIO, COMMAND, DATA, Message, SHARED_OBJECT, SHARED_OBJECT_AMF3, VIDEO, boolean,
    ecma_array, hex, null, number, object, string,
};
use crate::world::{ClientHandle, World};

fn publisher_and_player(world: &mut World) -> (ClientHandle, ClientHandle) {
    let player = world.playing("cam");
    let publisher = world.publishing("cam");
    world[player].take_messages();
    (publisher, player)
}

fn data(values: &[Vec<u8>]) -> Message {
    Message::new(4, DATA, values.concat()).on(1)
}

fn width(value: f64) -> Vec<u8> {
    ecma_array(1, &[("width", number(value))])
}

fn on_metadata(value: f64) -> Vec<u8> {
    [string("onMetaData"), width(value)].concat()
}

fn payloads(world: &World, player: ClientHandle) -> Vec<Vec<u8>> {
    world[player].media().iter().map(|message| message.payload.clone()).collect()
}

#[test]
fn da_01_and_da_02_metadata_reaches_players_without_the_call_that_wrapped_it() {
    for wrapper in [vec![string("@setDataFrame")], vec![]] {
        for value in [width(160.0), object(&[("width", number(160.0))])] {
            let mut world = World::new(Settings::default());
            let (publisher, player) = publisher_and_player(&mut world);
            let values = [&wrapper[..], &[string("onMetaData"), value]].concat();
            world.say(publisher, &[data(&values).at(40)]);
            assert_eq!(payloads(&world, player), [on_metadata(160.0)]);
            assert_eq!(world[player].media()[0].message_stream_id, 1);
        }
    }
}

#[test]
fn da_03_repeated_metadata_updates_players_and_the_last_one_greets_newcomers() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    for count in 1..=20 {
        let values = [string("@setDataFrame"), string("onMetaData"), width(f64::from(count))];
        world.say(publisher, &[data(&values).at(count * 100)]);
    }
    let expected: Vec<_> = (1..=20).map(|count| on_metadata(f64::from(count))).collect();
    assert_eq!(payloads(&world, player), expected);
    let newcomer = world.playing("cam");
    assert_eq!(payloads(&world, newcomer), [on_metadata(20.0)]);
}

#[test]
fn da_03_metadata_that_is_taken_back_greets_nobody() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let set = data(&[string("@setDataFrame"), string("onMetaData"), width(1.0)]);
    let clear = data(&[string("@clearDataFrame"), string("onMetaData")]);
    world.say(publisher, &[set, clear]);
    let newcomer = world.playing("cam");
    assert!(payloads(&world, newcomer).is_empty());
}

#[test]
fn da_04_data_without_content_is_ignored() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    world.say(
        publisher,
        &[
            data(&[]),
            data(&[string("@setDataFrame")]),
            data(&[string("@setDataFrame"), null()]),
            data(&[string("@setDataFrame"), string("onMetaData"), null()]),
            data(&[string("onMetaData")]),
            data(&[number(1.0), boolean(true)]),
        ],
    );
    assert!(payloads(&world, player).is_empty());
    world.assert_lives(publisher);
}

#[test]
fn da_05_text_is_relayed_and_greets_nobody() {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    let text = [string("onTextData"), object(&[("text", string("hello"))])].concat();
    world.say(publisher, &[data(std::slice::from_ref(&text)).at(70)]);
    assert_eq!(payloads(&world, player), [text]);
    assert_eq!(world[player].media()[0].timestamp, 70);
    let newcomer = world.playing("cam");
    assert!(payloads(&world, newcomer).is_empty());
}

/// Two tags at 1000 and 1020: audio of 3 bytes and video of 6.
const AGGREGATE_BODY: &str = "08 000003 0003e8 00 000000 af0121 0000000e
    09 000006 0003fc 00 000000 170100000041 00000011";

/// Kind, time and payload of what a player gets of an aggregate.
fn parts(body: &[u8], timestamp: u32) -> Vec<(u8, u32, Vec<u8>)> {
    let mut world = World::new(Settings::default());
    let (publisher, player) = publisher_and_player(&mut world);
    world.say(publisher, &[Message::new(4, AGGREGATE, body).on(1).at(timestamp)]);
    world.assert_lives(publisher);
    let media = world[player].media();
    media.iter().map(|m| (m.kind, m.timestamp, m.payload.clone())).collect()
}

#[test]
fn ag_01_an_aggregate_is_taken_apart_at_its_own_time() {
    let expected = [(AUDIO, 5000, hex("af0121")), (VIDEO, 5020, hex("170100000041"))];
    assert_eq!(parts(&hex(AGGREGATE_BODY), 5000), expected);
}

#[test]
fn ag_02_of_a_broken_aggregate_the_sound_part_is_kept() {
    let whole = hex(AGGREGATE_BODY);
    let without_last_pointer = &whole[..whole.len() - 4];
    assert_eq!(parts(without_last_pointer, 0).len(), 2);
    let with_size_past_the_end = &whole[..whole.len() - 8];
    assert_eq!(parts(with_size_past_the_end, 0).len(), 1);
    assert_eq!(parts(&whole[..5], 0).len(), 0);
    assert_eq!(parts(&[], 0).len(), 0);
}

#[test]
fn ag_03_times_of_parts_have_their_high_byte_last() {
    // 0x01fffff0 and 0x02000010: 32 ms apart.
    let body =
        hex("08 000002 fffff0 01 000000 af01 0000000d 08 000002 000010 02 000000 af01 0000000d");
    let times: Vec<_> = parts(&body, 5000).iter().map(|part| part.1).collect();
    assert_eq!(times, [5000, 5032]);
}

#[test]
fn so_01_shared_objects_are_ignored() {
    let mut world = World::new(Settings::default());
    let client = world.connected();
    let body = [hex("0004"), b"chat".to_vec(), hex("00000000 00000000 00000000 01 00000000")];
    for kind in [SHARED_OBJECT, SHARED_OBJECT_AMF3] {
        world.say(client, &[Message::new(3, kind, body.concat())]);
    }
    assert!(world[client].of_kind(COMMAND).is_empty());
    world.assert_lives(client);
}
