//! Media that says what it is: each message carries a number, and a test writes and reads them
//! as short labels.
//!
//! `M` is metadata, `V` and `A` are the configurations of video and audio, `K` is a keyframe, `i`
//! a frame that depends on others, `a` is sound and `d` is data; `K7` is the keyframe number 7.

use crate::wire::{self, AUDIO, DATA, Message, VIDEO};
use crate::world::{ClientHandle, World};

/// The kind and the payload that `label` stands for, at least `len` bytes long.
pub(crate) fn payload(label: &str, len: usize) -> (u8, Vec<u8>) {
    let (name, number) = label.split_at(1);
    let number: u32 = number.parse().expect("a letter and a number");
    let (kind, head): (u8, &[u8]) = match name {
        "V" => (VIDEO, &[0x17, 0, 0, 0, 0]),
        "K" => (VIDEO, &[0x17, 1, 0, 0, 0]),
        "i" => (VIDEO, &[0x27, 1, 0, 0, 0]),
        "A" => (AUDIO, &[0xaf, 0]),
        "a" => (AUDIO, &[0xaf, 1]),
        "M" => return (DATA, metadata("onMetaData", number)),
        "d" => return (DATA, metadata("onTextData", number)),
        _ => panic!("no such label: {label}"),
    };
    let mut payload = [head, &number.to_be_bytes()].concat();
    // Bytes that differ from chunk to chunk, so that one too many or too few shows.
    payload.extend((payload.len()..len).map(|index| (index / 7) as u8));
    (kind, payload)
}

/// What a message is, in the terms of [`payload`]. A message that is none of them, or whose bytes
/// are not those it was made with, is a panic.
pub(crate) fn label(message: &Message) -> String {
    let number = |at: usize| wire::big(&message.payload[at..at + 4]);
    let label = match (message.kind, &message.payload[..2]) {
        (VIDEO, [0x17, 0]) => format!("V{}", number(5)),
        (VIDEO, [0x17, 1]) => format!("K{}", number(5)),
        (VIDEO, [0x27, 1]) => format!("i{}", number(5)),
        (AUDIO, [0xaf, 0]) => format!("A{}", number(2)),
        (AUDIO, [0xaf, 1]) => format!("a{}", number(2)),
        (DATA, _) => return data_label(message),
        _ => panic!("none of ours: {message:?}"),
    };
    let (_, expected) = payload(&label, message.payload.len());
    assert!(message.payload == expected, "{label} arrived broken");
    label
}

/// All labels of a client's media, one after the other.
pub(crate) fn labels(world: &World, client: ClientHandle) -> String {
    join(&world[client].media())
}

/// The labels that came since the last call.
pub(crate) fn take_labels(world: &mut World, client: ClientHandle) -> String {
    let messages = world[client].take_messages();
    join(&messages.iter().filter(|message| message.is_media()).collect::<Vec<_>>())
}

/// The labels of the messages with one message stream id.
pub(crate) fn labels_on(world: &World, client: ClientHandle, message_stream_id: u32) -> String {
    let media = world[client].media().into_iter();
    join(&media.filter(|m| m.message_stream_id == message_stream_id).collect::<Vec<_>>())
}

fn join(media: &[&Message]) -> String {
    media.iter().map(|message| label(message)).collect::<Vec<_>>().join(" ")
}

/// Publishes what the labels say, all at `timestamp`, and lets it arrive.
pub(crate) fn publish(world: &mut World, publisher: ClientHandle, labels: &str, timestamp: u32) {
    publish_sized(world, publisher, labels, timestamp, 0);
}

/// The same with payloads of at least `len` bytes.
pub(crate) fn publish_sized(
    world: &mut World,
    publisher: ClientHandle,
    labels: &str,
    timestamp: u32,
    len: usize,
) {
    write(world, publisher, labels, timestamp, len);
    world.run();
}

/// Hands the messages to the client without letting anything happen yet.
pub(crate) fn write(
    world: &mut World,
    publisher: ClientHandle,
    labels: &str,
    timestamp: u32,
    len: usize,
) {
    for label in labels.split_whitespace() {
        let (kind, payload) = payload(label, len);
        let client = world[publisher].client();
        match kind {
            AUDIO => client.write_audio(timestamp, &payload),
            VIDEO => client.write_video(timestamp, &payload),
            _ => client.write_data(timestamp, &payload),
        }
    }
}

fn metadata(handler: &str, number: u32) -> Vec<u8> {
    let properties = [("number", wire::number(number.into()))];
    [wire::string(handler), wire::ecma_array(1, &properties)].concat()
}

fn data_label(message: &Message) -> String {
    for (letter, handler) in [("M", "onMetaData"), ("d", "onTextData")] {
        if let Some(values) = message.payload.strip_prefix(&wire::string(handler)[..]) {
            let number = values[5 + 2 + 6 + 1..][..8].try_into().expect("8 bytes");
            return format!("{letter}{}", f64::from_be_bytes(number));
        }
    }
    panic!("none of ours: {message:?}");
}

/// A session whose bytes the test writes: it has shaken hands, is connected to the application
/// `live` and has created `streams` message streams.
pub(crate) fn session(world: &mut World, streams: usize) -> ClientHandle {
    let handle = world.handshaken();
    let app = wire::object(&[("app", wire::string("live"))]);
    world[handle].send(&[wire::command("connect", 1.0, &[app])]);
    for index in 0..streams {
        let transaction_id = 2.0 + index as f64;
        world[handle].send(&[wire::command("createStream", transaction_id, &[wire::null()])]);
    }
    world.run();
    assert!(world[handle].was_told("_result 1"));
    handle
}

/// `play` or `publish` of a key on a message stream.
pub(crate) fn stream_command(name: &str, key: &str, message_stream_id: u32) -> Message {
    wire::command(name, 9.0, &[wire::null(), wire::string(key)]).on(message_stream_id)
}

/// A message of a label on a message stream.
pub(crate) fn message(label: &str, message_stream_id: u32, timestamp: u32) -> Message {
    let (kind, payload) = payload(label, 0);
    let chunk_stream_id = 16 + u32::from(kind);
    Message::new(chunk_stream_id, kind, payload).on(message_stream_id).at(timestamp)
}
